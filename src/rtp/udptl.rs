//! UDPTL: how T.38 fax is carried over UDP.
//!
//! Purpose: know a fax packet by its shape, since at the same address there was sound a moment before.
//! Invariants: a packet that is taken is used to its last byte; borrows; no byte pattern panics.
//! Non-goals: the page (IFP packets are not interpreted), T.38 over TCP, repairing loss.
//! Sources: ITU-T T.38 §9.1 and annex A (ASN.1), X.691 §10.9 (length determinants, aligned PER).
//!
//! ```text
//! 0  u16 BE  sequence number
//! 2  length  primary IFP packet, not empty
//! .  u8      0x00 redundancy: count, then that many (length, older IFP packet)
//!            0x80 FEC: number of packets (length, integer), count, then (length, parity) each
//! ```

use crate::base::Reader;

/// How a packet makes up for its predecessors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Older IFP packets come along, so many.
    Redundancy(usize),
    /// Parity over older ones, so many.
    Fec(usize),
}

/// A UDPTL packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdptlPacket<'a> {
    /// Counts packets of the sender, from 0, modulo 2^16.
    pub seq: u16,
    /// What it carries: a T.30 indicator or data.
    pub primary: &'a [u8],
    /// What else it carries.
    pub recovery: Recovery,
}

impl<'a> UdptlPacket<'a> {
    /// Reads a UDP payload; `None` unless it is a UDPTL packet to its last byte.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let seq = reader.u16_be()?;
        let primary = counted(&mut reader)?;
        if primary.is_empty() {
            return None;
        }
        let recovery = match reader.u8()? {
            0x00 => Recovery::Redundancy(list(&mut reader)?),
            0x80 => {
                let width = counted(&mut reader)?.len();
                if !(1..=2).contains(&width) {
                    return None;
                }
                Recovery::Fec(list(&mut reader)?)
            }
            _ => return None,
        };
        (reader.remaining() == 0).then_some(Self { seq, primary, recovery })
    }
}

/// A length below 16 384, in one byte or two; longer ones come in pieces, which no fax needs.
fn length(reader: &mut Reader<'_>) -> Option<usize> {
    let first = reader.u8()?;
    match first >> 6 {
        0 | 1 => Some(usize::from(first)),
        2 => Some(usize::from(first & 0x3f) << 8 | usize::from(reader.u8()?)),
        _ => None,
    }
}

fn counted<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len_bytes = length(reader)?;
    reader.take(len_bytes)
}

/// A count and as many fields; returns the count.
fn list(reader: &mut Reader<'_>) -> Option<usize> {
    let count = length(reader)?;
    for _ in 0..count {
        counted(reader)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_known_by_lengths_that_come_out_even() {
        // Indicator "V.21 preamble", nothing older; then data with two copies; then FEC over three.
        let first = [0, 0, 1, 0x06, 0, 0];
        let parsed = UdptlPacket::parse(&first).expect("indicator");
        assert_eq!((parsed.seq, parsed.primary), (0, &[0x06][..]));
        assert_eq!(parsed.recovery, Recovery::Redundancy(0));
        let copies = [0x80, 9, 3, 0xc0, 1, 0x80, 0, 2, 1, 7, 2, 8, 9];
        let parsed = UdptlPacket::parse(&copies).expect("data");
        assert_eq!((parsed.seq, parsed.recovery), (0x8009, Recovery::Redundancy(2)));
        let fec = [0, 7, 2, 0xc0, 1, 0x80, 1, 3, 2, 2, 5, 6, 1, 9];
        assert_eq!(UdptlPacket::parse(&fec).map(|it| it.recovery), Some(Recovery::Fec(2)));
        for packet in [&first[..], &copies, &fec] {
            for cut in 0..packet.len() {
                assert_eq!(UdptlPacket::parse(&packet[..cut]), None, "cut to {cut}");
            }
            assert_eq!(UdptlPacket::parse(&[packet, &[0]].concat()), None, "a byte too many");
        }
    }

    #[test]
    fn long_packets_have_their_length_in_two_bytes() {
        let primary = [0xc0; 300];
        let packet = [&[0, 1, 0x81, 0x2c][..], &primary, &[0, 0]].concat();
        assert_eq!(UdptlPacket::parse(&packet).map(|it| it.primary.len()), Some(300));
        let pieces = [&[0, 1, 0xc1, 0x2c][..], &primary, &[0, 0]].concat();
        assert_eq!(UdptlPacket::parse(&pieces), None);
    }
}
