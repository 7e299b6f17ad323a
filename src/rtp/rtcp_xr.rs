//! Extended reports: what a receiver tells beyond its report blocks.
//!
//! Purpose: reference times and delays (for round trips of those who only listen), statistics, and the
//! figures of a phone's own voice quality monitor.
//! Invariants: what is handed out lies within the packet; "unavailable" is `None`, never a number.
//! Non-goals: run-length blocks (1-3), and metrics that came later (RFC 6776 and its siblings).
//! Sources: RFC 3611 §3 (blocks), §4.4 (reference time), §4.5 (DLRR), §4.6 (statistics), §4.7 (VoIP).
//!
//! ```text
//! |  block type   | type-specific |  length in words, less one    |
//! ```

use crate::base::{Reader, Ssrc};

/// One block of an extended report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendedBlock<'a> {
    /// When the report was sent, for one who sends no sender reports (§4.4).
    ReceiverTime {
        /// NTP time, 32.32 bits of seconds since 1900.
        ntp: u64,
    },
    /// Answers to such times (§4.5).
    Delays(Delays<'a>),
    /// Counts of an interval (§4.6).
    Statistics(Statistics),
    /// Voice quality as the receiver's monitor sees it (§4.7).
    Voip(VoipMetrics),
    /// Another block, in whole.
    Other {
        /// Its type.
        block_type: u8,
    },
}

/// How long an answer to a reference time waited (§4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Whose reference time.
    pub ssrc: Ssrc,
    /// Middle 32 bits of it; 0: none was received.
    pub last_reference: u32,
    /// Since it arrived, in 1/65 536 s.
    pub delay: u32,
}

/// Counts of one interval of a stream (§4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// The stream.
    pub ssrc: Ssrc,
    /// Packets lost in the interval, where counted.
    pub lost: Option<u32>,
    /// Packets that came again in it, where counted.
    pub duplicate: Option<u32>,
    /// Mean jitter in it, in ticks of the stream's clock, where measured.
    pub jitter_mean_ticks: Option<u32>,
}

/// A receiver's own view of a stream's voice quality (§4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoipMetrics {
    /// The stream.
    pub ssrc: Ssrc,
    /// Lost in the network since reception began, in 1/256.
    pub loss_rate: u8,
    /// Thrown away by the jitter buffer since then, in 1/256.
    pub discard_rate: u8,
    /// Lost or discarded within bursts, in 1/256.
    pub burst_density: u8,
    /// Lost or discarded within the gaps between bursts, in 1/256.
    pub gap_density: u8,
    /// Mean length of a burst, ms.
    pub burst_duration_ms: u16,
    /// Mean length of a gap between bursts, ms.
    pub gap_duration_ms: u16,
    /// Latest round trip between the RTP interfaces, ms; 0: not known.
    pub round_trip_ms: u16,
    /// Latest delay within the receiver, ms; 0: not known.
    pub end_system_ms: u16,
    /// Conversational R factor, 0-100.
    pub r_factor: Option<u8>,
    /// Listening quality, 10-50: ten times the MOS.
    pub mos_lq_tenths: Option<u8>,
    /// Conversational quality, 10-50: ten times the MOS.
    pub mos_cq_tenths: Option<u8>,
}

/// Iterates over the blocks of one extended report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> ExtendedBlocks<'a> {
    /// Over what follows the reporter's SSRC.
    #[must_use]
    pub const fn new(reader: Reader<'a>) -> Self {
        Self { rest: reader.rest() }
    }
}

impl<'a> Iterator for ExtendedBlocks<'a> {
    type Item = ExtendedBlock<'a>;

    fn next(&mut self) -> Option<ExtendedBlock<'a>> {
        let mut reader = Reader::new(self.rest);
        self.rest = &[];
        let [block_type, specific, high, low] = reader.array::<4>()?;
        let words = usize::from(u16::from_be_bytes([high, low]));
        let body = Reader::new(reader.take(words.saturating_mul(4))?);
        self.rest = reader.rest();
        Some(read_block(block_type, specific, body).unwrap_or(ExtendedBlock::Other { block_type }))
    }
}

/// `None` for a block that is too short for its type, or of a type that is not read here.
fn read_block(block_type: u8, specific: u8, mut body: Reader<'_>) -> Option<ExtendedBlock<'_>> {
    match block_type {
        4 => Some(ExtendedBlock::ReceiverTime { ntp: body.u64_be()? }),
        5 => Some(ExtendedBlock::Delays(Delays { rest: body.rest() })),
        // Fields that are not read here have to be there all the same (§4.6: 9 words, §4.7: 8).
        6 if body.remaining() >= 36 => Some(ExtendedBlock::Statistics(statistics(specific, body)?)),
        7 if body.remaining() >= 32 => Some(ExtendedBlock::Voip(voip_metrics(body)?)),
        _ => None,
    }
}

/// Flags L, D and J say which counts are there (§4.6); fields that are not counted are still sent.
fn statistics(flags: u8, mut body: Reader<'_>) -> Option<Statistics> {
    let ssrc = Ssrc(body.u32_be()?);
    let _interval = body.u32_be()?;
    let (lost, duplicate) = (body.u32_be()?, body.u32_be()?);
    let (_min, _max, mean) = (body.u32_be()?, body.u32_be()?, body.u32_be()?);
    let counted = |flag: u8, value| Some(value).filter(|_| flags & flag != 0);
    Some(Statistics {
        ssrc,
        lost: counted(0x80, lost),
        duplicate: counted(0x40, duplicate),
        jitter_mean_ticks: counted(0x20, mean),
    })
}

fn voip_metrics(mut body: Reader<'_>) -> Option<VoipMetrics> {
    let ssrc = Ssrc(body.u32_be()?);
    let [loss_rate, discard_rate, burst_density, gap_density] = body.array()?;
    let (burst_duration_ms, gap_duration_ms) = (body.u16_be()?, body.u16_be()?);
    let (round_trip_ms, end_system_ms) = (body.u16_be()?, body.u16_be()?);
    let [_signal, _noise, _echo, _gap_min] = body.array::<4>()?;
    let [r_factor, _external, mos_lq, mos_cq] = body.array()?;
    // 127 is "unavailable"; other values beyond the scale are nonsense and as unavailable.
    let within = |value: u8, low, high| Some(value).filter(|it| (low..=high).contains(it));
    Some(VoipMetrics {
        ssrc,
        loss_rate,
        discard_rate,
        burst_density,
        gap_density,
        burst_duration_ms,
        gap_duration_ms,
        round_trip_ms,
        end_system_ms,
        r_factor: within(r_factor, 0, 100),
        mos_lq_tenths: within(mos_lq, 10, 50),
        mos_cq_tenths: within(mos_cq, 10, 50),
    })
}

/// Iterates over the sub-blocks of a DLRR block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delays<'a> {
    rest: &'a [u8],
}

impl Iterator for Delays<'_> {
    type Item = Delay;

    fn next(&mut self) -> Option<Delay> {
        let mut reader = Reader::new(self.rest);
        self.rest = &[];
        let ssrc = Ssrc(reader.u32_be()?);
        let (last_reference, delay) = (reader.u32_be()?, reader.u32_be()?);
        self.rest = reader.rest();
        Some(Delay { ssrc, last_reference, delay })
    }
}

#[cfg(test)]
mod tests {
    use super::super::rtcp::{RtcpPacket, RtcpPackets};
    use super::*;

    /// An extended report of SSRC 9 with a block of each kind.
    fn report() -> Vec<u8> {
        let mut bytes = vec![0x80, 207, 0, 28, 0, 0, 0, 9];
        bytes.extend([4, 0, 0, 2, 0xe0, 0, 0, 1, 0x80, 0, 0, 0]);
        bytes.extend([5, 0, 0, 3, 0, 0, 0, 2, 0, 1, 0x80, 0, 0, 0, 0x80, 0]);
        bytes.extend([6, 0xa0, 0, 9, 0, 0, 0, 2, 0, 1, 0, 90]);
        bytes.extend([0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 99, 0, 0, 0, 40, 0, 0, 0, 5]);
        bytes.extend([64, 64, 0, 0]);
        bytes.extend([7, 0, 0, 8, 0, 0, 0, 2, 10, 20, 128, 4, 0, 120, 3, 232, 0, 50, 0, 30]);
        bytes.extend([0xf1, 0xc9, 40, 16, 88, 127, 41, 127, 0x30, 0, 0, 60, 0, 120, 0, 200]);
        bytes.extend([200, 0, 0, 0]);
        bytes
    }

    fn blocks(bytes: &[u8]) -> Vec<ExtendedBlock<'_>> {
        match RtcpPackets::new(bytes).next() {
            Some(RtcpPacket::ExtendedReport { ssrc: Ssrc(9), blocks }) => blocks.collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_block_reads_field_by_field() {
        let bytes = report();
        let found = blocks(&bytes);
        let [time, delays, statistics, voip, other] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(*time, ExtendedBlock::ReceiverTime { ntp: 0xe000_0001_8000_0000 });
        let ExtendedBlock::Delays(delays) = delays else { panic!("{delays:?}") };
        let delay = Delay { ssrc: Ssrc(2), last_reference: 0x0001_8000, delay: 0x8000 };
        assert_eq!(delays.clone().collect::<Vec<_>>(), [delay]);
        let counts = Statistics {
            ssrc: Ssrc(2),
            lost: Some(3),
            duplicate: None,
            jitter_mean_ticks: Some(40),
        };
        assert_eq!(*statistics, ExtendedBlock::Statistics(counts));
        let ExtendedBlock::Voip(voip) = voip else { panic!("{voip:?}") };
        assert_eq!((voip.loss_rate, voip.discard_rate), (10, 20));
        assert_eq!((voip.burst_density, voip.gap_density), (128, 4));
        assert_eq!((voip.burst_duration_ms, voip.gap_duration_ms), (120, 1_000));
        assert_eq!((voip.round_trip_ms, voip.end_system_ms), (50, 30));
        assert_eq!(
            (voip.r_factor, voip.mos_lq_tenths, voip.mos_cq_tenths),
            (Some(88), Some(41), None)
        );
        assert_eq!(*other, ExtendedBlock::Other { block_type: 200 });
    }

    #[test]
    fn a_block_that_is_too_short_for_its_type_is_passed_over() {
        let bytes = [0x80, 207, 0, 3, 0, 0, 0, 9, 7, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(blocks(&bytes), [ExtendedBlock::Other { block_type: 7 }]);
        let beyond = [0x80, 207, 0, 3, 0, 0, 0, 9, 7, 0, 0, 8, 0, 0, 0, 2];
        assert_eq!(blocks(&beyond), []);
    }

    #[test]
    fn a_cut_of_the_blocks_at_every_length_gives_only_whole_ones() {
        let bytes = report();
        for cut in 8..=bytes.len() {
            let whole = [20, 36, 76, 112, 116].iter().filter(|end| **end <= cut).count();
            let found = ExtendedBlocks::new(Reader::new(&bytes[8..cut])).count();
            assert_eq!(found, whole, "cut at {cut}");
        }
    }
}
