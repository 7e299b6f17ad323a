//! Identifiers that must not be mistaken for one another.
//!
//! Purpose: newtypes for everything that could be swapped.
//! Invariants: none derefs to its number.
//! Non-goals: Call-ID header values, which are SIP text (see `sip`).
//! Sources: RFC 3550 §3 (SSRC), RFC 3551 (payload types).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Position of a call in the running process's tables; reused after the call is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallIndex(pub u32);

/// A capture ring (or the one reader of a replay).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingIndex(pub u8);

/// Synchronization source of an RTP stream (RFC 3550 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#010x}", self.0)
    }
}

/// RTP payload type, 0–127 (RFC 3551).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadType(pub u8);

/// Who *sent* the sound: the caller (left, channel 1) or the callee (right, channel 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// Who sent the first INVITE.
    Caller,
    /// Who answered it.
    Callee,
}

impl Channel {
    /// Both, left first.
    pub const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    /// 0 for the caller (left), 1 for the callee (right).
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }

    /// The other party.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    /// `caller` or `callee`, as the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}

/// A call's name for its whole life in the archive: 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

impl CallId {
    /// The id of the `count`-th call (from 0) that began at `first_packet_ns` with this Call-ID.
    ///
    /// FNV-1a over the three, finished with a 64-bit mixer: the same input gives the same id on
    /// every machine. It is a name, not a secret and not a proof.
    #[must_use]
    pub fn derive(first_packet_ns: i64, sip_call_id: &[u8], count: u32) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let time = first_packet_ns.to_le_bytes();
        for byte in time.iter().chain(sip_call_id).chain(&count.to_le_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(hash ^ (hash >> 31))
    }

    /// The Ogg bitstream serial number of the call's export.
    #[must_use]
    pub const fn ogg_serial(self) -> u32 {
        (self.0 >> 32) as u32 ^ (self.0 & 0xffff_ffff) as u32
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// The text is not 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call id is 16 hexadecimal digits, as `callspan calls` prints it")]
pub struct BadCallId;

impl FromStr for CallId {
    type Err = BadCallId;

    fn from_str(text: &str) -> Result<Self, BadCallId> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadCallId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| BadCallId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_ids_depend_on_time_call_id_and_count_and_survive_printing() {
        let id = CallId::derive(1, b"a@b", 0);
        assert_eq!(id, CallId::derive(1, b"a@b", 0));
        assert_ne!(id, CallId::derive(2, b"a@b", 0));
        assert_ne!(id, CallId::derive(1, b"a@c", 0));
        assert_ne!(id, CallId::derive(1, b"a@b", 1));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("12".parse::<CallId>(), Err(BadCallId));
    }
}
