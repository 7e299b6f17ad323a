//! ZRTP packets: recognised, so that what follows them is not taken for sound.
//!
//! Purpose: tell when two phones have agreed on keys that nobody else can have.
//! Invariants: no byte pattern panics; the magic cookie and the preamble must both be there.
//! Non-goals: the key agreement, checksums (a forged packet can only lock media), SAS.
//! Sources: RFC 6189 §5 (packets), §5.1 (magic cookie), §5.1.1 (message types); RFC 7983 §7.
//!
//! ```text
//! |0 0 0 1| not used |  sequence number  |     packet header, 12 bytes
//! |        magic cookie "ZRTP"           |
//! |              SSRC                    |
//! |   0x505a         |     length        |     message
//! |        message type, 8 bytes         |
//! ```

use crate::base::Reader;

/// What a ZRTP message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZrtpMessage {
    /// `Hello`, `HelloACK` and the agreement itself: media is still in the clear.
    Agreeing,
    /// `Confirm2` or `Conf2ACK`: media is SRTP from here on.
    Confirmed,
    /// `ClearACK`: media is in the clear again.
    Cleared,
}

impl ZrtpMessage {
    /// Reads a UDP payload; `None` for what is no ZRTP packet.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        const MAGIC_COOKIE: u32 = 0x5a52_5450;
        const PREAMBLE: u16 = 0x505a;
        let mut reader = Reader::new(packet);
        let [flags, ..] = reader.array::<4>()?;
        let (cookie, _ssrc) = (reader.u32_be()?, reader.u32_be()?);
        let (preamble, _length) = (reader.u16_be()?, reader.u16_be()?);
        let kind: [u8; 8] = reader.array()?;
        // 16-19 is ZRTP's part of the first byte (RFC 7983 §7); the bits below are not used.
        if !(16..=19).contains(&flags) || cookie != MAGIC_COOKIE || preamble != PREAMBLE {
            return None;
        }
        Some(match &kind {
            b"Confirm2" | b"Conf2ACK" => Self::Confirmed,
            b"ClearACK" => Self::Cleared,
            _ => Self::Agreeing,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn packet(kind: [u8; 8]) -> Vec<u8> {
        let mut packet = vec![0x10, 0, 0x12, 0x34];
        packet.extend_from_slice(b"ZRTP\xde\xad\xbe\xef\x50\x5a\x00\x03");
        packet.extend_from_slice(&kind);
        packet.extend_from_slice(&[0; 4]);
        packet
    }

    #[test]
    fn messages_are_told_apart_and_no_cut_of_one_is_another() {
        for (kind, expected) in [
            (b"Hello   ", ZrtpMessage::Agreeing),
            (b"DHPart2 ", ZrtpMessage::Agreeing),
            (b"Confirm1", ZrtpMessage::Agreeing),
            (b"Confirm2", ZrtpMessage::Confirmed),
            (b"Conf2ACK", ZrtpMessage::Confirmed),
            (b"ClearACK", ZrtpMessage::Cleared),
        ] {
            let whole = packet(*kind);
            assert_eq!(ZrtpMessage::parse(&whole), Some(expected));
            for cut in 0..24 {
                assert_eq!(ZrtpMessage::parse(&whole[..cut]), None, "cut at {cut}");
            }
        }
        let mut other = packet(*b"Hello   ");
        other[4] = b'z';
        assert_eq!(ZrtpMessage::parse(&other), None);
    }
}
