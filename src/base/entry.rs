//! How a packet stands in a call's queue, in a spill and in a raw recording: the same bytes in all three.
//!
//! Purpose: one self-describing layout, written once by the front and read by workers and exports.
//! Invariants: an entry that was written whole reads back equal; a torn one reads as the end.
//! Non-goals: compression and encryption (see `archive`).
//! Sources: none; the layout is drawn here and in docs/archive.md.
//!
//! ```text
//!  0  i64 LE  capture time, ns          44  u16 LE  payload length n
//!  8  [18]    source: 16 address, port  46  u8      kind
//! 26  [18]    destination               47  u8      channel that sent it (0 caller, 1 callee)
//!                                       48  n       payload
//! ```

use super::{Channel, Endpoint, PacketTime, Reader};

/// Bytes before the payload, as drawn above.
const HEADER_LEN_BYTES: usize = 48;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An RTP packet (UDP payload).
    Rtp,
    /// An RTCP packet (UDP payload).
    Rtcp,
    /// A DTLS or ZRTP packet: how the phones agree on SRTP keys (UDP payload).
    KeyExchange,
    /// A UDPTL packet of T.38 fax (UDP payload).
    Udptl,
    /// A frame seen a second time; payload: its RTP header alone.
    DuplicateRtp,
    /// A control event of the call, as `call::Control` writes it; addresses are zero.
    Control,
    /// A packet was dropped by us here.
    Dropped,
    /// What follows waited for its SDP until this time: older packets, in their own order.
    Claimed,
    /// Packets between these addresses follow; payload: `rtp::matched_by::MatchedBy`'s code.
    Matched,
}

impl EntryKind {
    const fn code(self) -> u8 {
        match self {
            Self::Rtp => 0,
            Self::Rtcp => 1,
            Self::KeyExchange => 7,
            Self::DuplicateRtp => 2,
            Self::Control => 3,
            Self::Dropped => 4,
            Self::Claimed => 5,
            Self::Matched => 6,
            Self::Udptl => 8,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Rtp),
            1 => Some(Self::Rtcp),
            2 => Some(Self::DuplicateRtp),
            3 => Some(Self::Control),
            4 => Some(Self::Dropped),
            5 => Some(Self::Claimed),
            6 => Some(Self::Matched),
            7 => Some(Self::KeyExchange),
            8 => Some(Self::Udptl),
            _ => None,
        }
    }
}

/// One packet of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketEntry<'a> {
    /// When it passed the tap.
    pub time: PacketTime,
    /// Who sent it, on the wire.
    pub source: Endpoint,
    /// To whom, on the wire.
    pub destination: Endpoint,
    /// What it is.
    pub kind: EntryKind,
    /// Which party sent it.
    pub channel: Channel,
    /// UDP payload, at most 65 535 bytes.
    pub payload: &'a [u8],
}

impl<'a> PacketEntry<'a> {
    /// Bytes before the payload.
    pub const HEADER_LEN_BYTES: usize = HEADER_LEN_BYTES;

    /// A mark of our own between packets: without addresses.
    #[must_use]
    pub const fn mark(time: PacketTime, kind: EntryKind, payload: &'a [u8]) -> Self {
        let nowhere = Endpoint { ip: [0; 16], port: 0 };
        let (source, destination, channel) = (nowhere, nowhere, Channel::Caller);
        Self { time, source, destination, kind, channel, payload }
    }

    /// Bytes that the whole entry takes.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        Self::HEADER_LEN_BYTES + self.payload.len()
    }

    /// Writes the entry at the start of `out` and returns its length; `None` and nothing written
    /// when there is too little room or the payload is longer than 65 535 bytes.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let payload_len = u16::try_from(self.payload.len()).ok()?;
        let (header, rest) = out.split_first_chunk_mut::<HEADER_LEN_BYTES>()?;
        rest.get_mut(..self.payload.len())?.copy_from_slice(self.payload);
        header[..8].copy_from_slice(&self.time.ns().to_le_bytes());
        header[8..24].copy_from_slice(&self.source.ip);
        header[24..26].copy_from_slice(&self.source.port.to_le_bytes());
        header[26..42].copy_from_slice(&self.destination.ip);
        header[42..44].copy_from_slice(&self.destination.port.to_le_bytes());
        header[44..46].copy_from_slice(&payload_len.to_le_bytes());
        header[46] = self.kind.code();
        header[47] = match self.channel {
            Channel::Caller => 0,
            Channel::Callee => 1,
        };
        Some(self.len_bytes())
    }

    /// Reads the next entry; `None` at the end, or where the bytes are torn or of an unknown kind.
    pub fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut ahead = *reader;
        let time = PacketTime::from_ns(ahead.i64_le()?);
        let source = Endpoint { ip: ahead.array()?, port: ahead.u16_le()? };
        let destination = Endpoint { ip: ahead.array()?, port: ahead.u16_le()? };
        let payload_len = ahead.u16_le()?;
        let kind = EntryKind::from_code(ahead.u8()?)?;
        let channel = if ahead.u8()? == 0 { Channel::Caller } else { Channel::Callee };
        let payload = ahead.take(usize::from(payload_len))?;
        *reader = ahead;
        Some(Self { time, source, destination, kind, channel, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_every_cut_of_it_reads_as_the_end() {
        let entry = PacketEntry {
            time: PacketTime::from_ms(7),
            source: Endpoint::v4([10, 0, 0, 1], 4000),
            destination: Endpoint::v4([10, 0, 0, 2], 4002),
            kind: EntryKind::Rtp,
            channel: Channel::Callee,
            payload: b"speech",
        };
        let mut bytes = [0; 64];
        let len = entry.write(&mut bytes).expect("room");
        assert_eq!(len, 54);
        assert_eq!(PacketEntry::read(&mut Reader::new(&bytes[..len])), Some(entry));
        for cut in 0..len {
            assert_eq!(PacketEntry::read(&mut Reader::new(&bytes[..cut])), None, "cut at {cut}");
            assert_eq!(entry.write(&mut bytes[..cut].to_vec()), None);
        }
    }
}
