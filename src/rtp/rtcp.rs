//! RTCP compound packets, read one after another as far as they are whole.
//!
//! Purpose: sender and receiver reports, CNAMEs and goodbyes, for clocks and for the far end's view.
//! Invariants: what is handed out lies within the packet; a cut or broken packet ends the iteration.
//! Non-goals: feedback (RFC 4585), SRTCP, every SDES item but CNAME; what is in an extended report is
//! read by `rtcp_xr`.
//! Sources: RFC 3550 §6.1 (compound), §6.4 (SR, RR), §6.5 (SDES), §6.6 (BYE); RFC 5506 (one alone).
//!
//! ```text
//! |V=2|P|   RC    |  packet type  |  length in words, less one    |
//! ```

use super::rtcp_xr::ExtendedBlocks;
use crate::base::{Reader, Ssrc};

/// One packet of a compound packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// What a sender sent, and what it received.
    SenderReport {
        /// Who reports.
        ssrc: Ssrc,
        /// NTP time of sending, 32.32 bits of seconds since 1900; 0 when the sender has no clock.
        ntp: u64,
        /// The same instant on the stream's RTP clock.
        rtp_timestamp: u32,
        /// RTP packets sent so far.
        packets: u32,
        /// Payload bytes sent so far.
        payload_bytes: u32,
        /// How it receives others.
        reports: ReportBlocks<'a>,
    },
    /// What somebody who does not send received.
    ReceiverReport {
        /// Who reports.
        ssrc: Ssrc,
        /// How it receives others.
        reports: ReportBlocks<'a>,
    },
    /// The canonical name of a source; one packet may name several.
    SourceDescription {
        /// Chunks with a CNAME, at most 31.
        names: CanonicalNames<'a>,
    },
    /// Sources that leave, at most 31.
    Bye {
        /// Who leaves.
        sources: Sources<'a>,
    },
    /// An extended report (RFC 3611).
    ExtendedReport {
        /// Who reports.
        ssrc: Ssrc,
        /// What it reports.
        blocks: ExtendedBlocks<'a>,
    },
    /// Something else, in whole.
    Other {
        /// The packet type.
        packet_type: u8,
    },
}

/// How one source was received (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that the block is about.
    pub ssrc: Ssrc,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost so far; negative with duplicates (24 bits, sign-extended).
    pub cumulative_lost: i32,
    /// Highest sequence number with its cycles, as the receiver counts.
    pub highest_seq: u32,
    /// Interarrival jitter, in ticks of the stream's clock.
    pub jitter_ticks: u32,
    /// Middle 32 bits of the NTP time of the last SR from `ssrc`; 0: none yet.
    pub last_sender_report: u32,
    /// Since that SR arrived, in 1/65 536 s.
    pub delay_since_last_sender_report: u32,
}

/// Iterates over the packets of one compound packet.
#[derive(Clone, Debug)]
pub struct RtcpPackets<'a> {
    reader: Reader<'a>,
}

impl<'a> RtcpPackets<'a> {
    /// Over a UDP payload.
    #[must_use]
    pub const fn new(compound: &'a [u8]) -> Self {
        Self { reader: Reader::new(compound) }
    }

    /// True when packets follow each other up to the last byte: what SRTCP never is, since an index
    /// and a tag come last (RFC 3711 §3.4).
    #[must_use]
    pub fn is_whole(compound: &'a [u8]) -> bool {
        let mut packets = Self::new(compound);
        while packets.next().is_some() {
            if packets.reader.is_empty() {
                return true;
            }
        }
        false
    }
}

impl<'a> Iterator for RtcpPackets<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<RtcpPacket<'a>> {
        let mut reader = self.reader;
        self.reader = Reader::new(&[]);
        let [flags, packet_type, high, low] = reader.array::<4>()?;
        if flags >> 6 != 2 {
            return None;
        }
        let words = usize::from(u16::from_be_bytes([high, low]));
        let mut body = reader.take(words.saturating_mul(4))?;
        if flags & 0x20 != 0 {
            // Padding stands in the last packet of a compound (§6.4.1); elsewhere the count is
            // checked all the same.
            let count = usize::from(body.last().copied()?);
            body = body.get(..body.len().checked_sub(count)?)?;
        }
        let packet = read_packet(packet_type, usize::from(flags & 0x1f), body)?;
        self.reader = reader;
        Some(packet)
    }
}

/// Who sent a compound packet: the source that its first packet names.
#[must_use]
pub fn sender_of(compound: &[u8]) -> Option<Ssrc> {
    let mut reader = Reader::new(compound);
    reader.take(4)?;
    reader.u32_be().map(Ssrc)
}

/// One packet's body, behind its first word.
fn read_packet(packet_type: u8, count: usize, body: &[u8]) -> Option<RtcpPacket<'_>> {
    let mut reader = Reader::new(body);
    Some(match packet_type {
        200 => RtcpPacket::SenderReport {
            ssrc: Ssrc(reader.u32_be()?),
            ntp: reader.u64_be()?,
            rtp_timestamp: reader.u32_be()?,
            packets: reader.u32_be()?,
            payload_bytes: reader.u32_be()?,
            reports: ReportBlocks { reader, left: count },
        },
        201 => RtcpPacket::ReceiverReport {
            ssrc: Ssrc(reader.u32_be()?),
            reports: ReportBlocks { reader, left: count },
        },
        202 => RtcpPacket::SourceDescription { names: CanonicalNames { reader, left: count } },
        203 => RtcpPacket::Bye { sources: Sources { reader, left: count } },
        207 => RtcpPacket::ExtendedReport {
            ssrc: Ssrc(reader.u32_be()?),
            blocks: ExtendedBlocks::new(reader),
        },
        packet_type => RtcpPacket::Other { packet_type },
    })
}

/// Iterates over report blocks.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        self.left = self.left.checked_sub(1)?;
        let ssrc = Ssrc(self.reader.u32_be()?);
        let [fraction_lost, high, middle, low] = self.reader.array()?;
        // Three bytes in the upper end of a word, shifted down with their sign.
        let cumulative_lost = i32::from_be_bytes([high, middle, low, 0]) >> 8;
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost,
            highest_seq: self.reader.u32_be()?,
            jitter_ticks: self.reader.u32_be()?,
            last_sender_report: self.reader.u32_be()?,
            delay_since_last_sender_report: self.reader.u32_be()?,
        })
    }
}

/// Iterates over (source, CNAME) of an SDES packet; chunks without CNAME are passed over.
#[derive(Clone, Debug)]
pub struct CanonicalNames<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for CanonicalNames<'a> {
    /// The name is UTF-8 by the standard and at most 255 bytes; not checked here.
    type Item = (Ssrc, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            let ssrc = Ssrc(self.reader.u32_be()?);
            match read_chunk(&mut self.reader)? {
                Chunk::Named(name) => return Some((ssrc, name)),
                Chunk::Nameless => {}
            }
        }
        None
    }
}

/// One chunk of an SDES packet.
enum Chunk<'a> {
    Named(&'a [u8]),
    Nameless,
}

/// The items of one chunk up to its end, which stands on a 32-bit boundary; `None` when cut.
fn read_chunk<'a>(reader: &mut Reader<'a>) -> Option<Chunk<'a>> {
    let mut chunk = Chunk::Nameless;
    let mut len_bytes = 0usize;
    loop {
        let item = reader.u8()?;
        len_bytes = len_bytes.saturating_add(1);
        if item == 0 {
            // Chunks start on a word; the SSRC before the items was one.
            let padding = len_bytes.next_multiple_of(4).saturating_sub(len_bytes);
            reader.take(padding)?;
            return Some(chunk);
        }
        let text_len = usize::from(reader.u8()?);
        let text = reader.take(text_len)?;
        len_bytes = len_bytes.saturating_add(1).saturating_add(text_len);
        if item == 1 {
            chunk = Chunk::Named(text);
        }
    }
}

/// Iterates over the sources of a BYE.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl Iterator for Sources<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        self.left = self.left.checked_sub(1)?;
        self.reader.u32_be().map(Ssrc)
    }
}

macro_rules! compare_by_rest {
    ($($name:ident)*) => {$(
        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                (self.reader.rest(), self.left) == (other.reader.rest(), other.left)
            }
        }
        impl Eq for $name<'_> {}
    )*};
}
compare_by_rest!(ReportBlocks CanonicalNames Sources);

#[cfg(test)]
mod tests {
    use super::*;

    /// SR with one block, SDES with a CNAME of three bytes and a NAME, BYE.
    fn compound() -> Vec<u8> {
        let mut bytes = vec![0x81, 200, 0, 12, 0, 0, 0, 1];
        bytes.extend([0xe0, 0, 0, 0, 0x80, 0, 0, 0]); // NTP
        bytes.extend([0, 0, 1, 64, 0, 0, 0, 50, 0, 0, 0x1f, 0x40]); // ticks, packets, bytes
        bytes.extend([0, 0, 0, 2, 64, 0xff, 0xff, 0xfe]); // block: 1/4 lost, cumulative -2
        bytes.extend([0, 1, 0, 9, 0, 0, 0, 80, 1, 2, 3, 4, 0, 1, 0, 0]);
        bytes.extend([0x81, 202, 0, 4, 0, 0, 0, 1, 1, 3, b'a', b'@', b'b', 2, 1, b'z', 0, 0, 0, 0]);
        bytes.extend([0x82, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        bytes
    }

    #[test]
    fn a_compound_packet_reads_field_by_field() {
        let bytes = compound();
        let mut packets = RtcpPackets::new(&bytes);
        let Some(RtcpPacket::SenderReport {
            ssrc,
            ntp,
            rtp_timestamp,
            packets: sent,
            payload_bytes,
            mut reports,
        }) = packets.next()
        else {
            panic!("a sender report comes first");
        };
        assert_eq!((ssrc, ntp), (Ssrc(1), 0xe000_0000_8000_0000));
        assert_eq!((rtp_timestamp, sent, payload_bytes), (320, 50, 8_000));
        let block = ReportBlock {
            ssrc: Ssrc(2),
            fraction_lost: 64,
            cumulative_lost: -2,
            highest_seq: 0x1_0009,
            jitter_ticks: 80,
            last_sender_report: 0x0102_0304,
            delay_since_last_sender_report: 65_536,
        };
        assert_eq!((reports.next(), reports.next()), (Some(block), None));
        let Some(RtcpPacket::SourceDescription { names }) = packets.next() else {
            panic!("then a description");
        };
        assert_eq!(names.collect::<Vec<_>>(), [(Ssrc(1), &b"a@b"[..])]);
        let Some(RtcpPacket::Bye { sources }) = packets.next() else { panic!("then a goodbye") };
        assert_eq!(sources.collect::<Vec<_>>(), [Ssrc(1), Ssrc(2)]);
        assert_eq!(packets.next(), None);
    }

    #[test]
    fn only_packets_up_to_the_last_byte_are_whole() {
        let bytes = compound();
        for cut in 0..=bytes.len() {
            let whole = [52, 72, 84].contains(&cut);
            assert_eq!(RtcpPackets::is_whole(&bytes[..cut]), whole, "cut at {cut}");
        }
        let mut secure = bytes[..52].to_vec();
        secure.extend([0x80, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert!(!RtcpPackets::is_whole(&secure), "an SRTCP index and tag");
    }

    #[test]
    fn a_cut_at_every_length_gives_only_the_packets_that_are_whole() {
        let bytes = compound();
        for cut in 0..=bytes.len() {
            let whole = [52, 72, 84].iter().filter(|end| **end <= cut).count();
            assert_eq!(RtcpPackets::new(&bytes[..cut]).count(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn counts_that_lie_give_only_what_is_there() {
        let bytes = [0x9f, 201, 0, 1, 0, 0, 0, 7];
        let Some(RtcpPacket::ReceiverReport { ssrc, mut reports }) =
            RtcpPackets::new(&bytes).next()
        else {
            panic!("a receiver report");
        };
        assert_eq!((ssrc, reports.next()), (Ssrc(7), None));
        let bye = [0x9f, 203, 0, 1, 0, 0, 0, 7];
        let Some(RtcpPacket::Bye { sources }) = RtcpPackets::new(&bye).next() else {
            panic!("a goodbye");
        };
        assert_eq!(sources.count(), 1);
    }

    #[test]
    fn padding_is_taken_off_and_too_much_of_it_ends_the_iteration() {
        let padded = [0xa1, 203, 0, 2, 0, 0, 0, 7, 0, 0, 0, 4];
        let Some(RtcpPacket::Bye { sources }) = RtcpPackets::new(&padded).next() else {
            panic!("a goodbye");
        };
        assert_eq!(sources.count(), 1);
        let lying = [0xa1, 203, 0, 1, 0, 0, 0, 77];
        assert_eq!(RtcpPackets::new(&lying).next(), None);
    }

    #[test]
    fn several_chunks_are_aligned_and_those_without_name_passed_over() {
        let mut bytes = vec![0x83, 202, 0, 7];
        bytes.extend([0, 0, 0, 1, 1, 1, b'a', 0]);
        bytes.extend([0, 0, 0, 2, 0, 0, 0, 0]);
        bytes.extend([0, 0, 0, 3, 1, 2, b'b', b'c', 0, 0, 0, 0]);
        let Some(RtcpPacket::SourceDescription { names }) = RtcpPackets::new(&bytes).next() else {
            panic!("a description");
        };
        assert_eq!(names.collect::<Vec<_>>(), [(Ssrc(1), &b"a"[..]), (Ssrc(3), b"bc")]);
    }
}
