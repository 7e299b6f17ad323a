//! Wrapping numbers of the wire, extended to lines that do not wrap.
//!
//! Purpose: compare sequence numbers and timestamps without thinking of the wrap.
//! Invariants: an extended number's low bits are the wire's; the nearest candidate is taken, and a
//! stream that restarts lower is put on the line above everything before it.
//! Non-goals: telling whether a jump was a loss or a restart (see `reorder` and `loss`).
//! Sources: RFC 3550 §5.1 and A.1 (MAX_DROPOUT 3000, MAX_MISORDER 100), RFC 1982 (serial numbers).

use std::ops::Sub;

/// A step forward beyond this is a loss so long that it is probably a restart (RFC 3550 A.1).
pub const MAX_DROPOUT: i64 = 3_000;
/// A step back beyond this is probably a restart (RFC 3550 A.1).
pub const MAX_MISORDER: i64 = 100;

/// A sequence number on a line that does not wrap; its low 16 bits are the wire's.
///
/// `ExtendedSeq - ExtendedSeq` is a signed packet count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedSeq(pub u64);

impl ExtendedSeq {
    /// The 16 bits that stand in the packet.
    #[must_use]
    pub fn low_16(self) -> u16 {
        u16::try_from(self.0 & 0xffff).unwrap_or(0)
    }

    /// The one that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Sub for ExtendedSeq {
    type Output = i64;

    /// Packets from `earlier` to `self`; negative when `earlier` is later.
    fn sub(self, earlier: Self) -> i64 {
        i64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0)
    }
}

/// Extends the sequence numbers of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqExtender {
    highest: Option<ExtendedSeq>,
    /// The sequence number that would confirm a jump (`bad_seq` of RFC 3550 A.1).
    confirming: Option<u16>,
}

impl SeqExtender {
    /// Before the first packet.
    #[must_use]
    pub const fn new() -> Self {
        Self { highest: None, confirming: None }
    }

    /// The highest number so far.
    #[must_use]
    pub const fn highest(&self) -> Option<ExtendedSeq> {
        self.highest
    }

    /// Extends the next packet's number; the first becomes 65 536 + `seq`, so that "before the
    /// first" has a number too.
    ///
    /// A jump (more than [`MAX_DROPOUT`] forward or [`MAX_MISORDER`] back) does not move the line
    /// until the packet after it confirms it. A confirmed jump back goes to the next cycle of the
    /// line, so that extended numbers still follow the order of sending.
    pub fn extend(&mut self, seq: u16) -> ExtendedSeq {
        let Some(highest) = self.highest else {
            let first = ExtendedSeq(65_536 + u64::from(seq));
            self.highest = Some(first);
            return first;
        };
        let step = signed_16(seq.wrapping_sub(highest.low_16()));
        let nearest = ExtendedSeq(highest.0.saturating_add_signed(step));
        if (-MAX_MISORDER..=MAX_DROPOUT).contains(&step) {
            if step > 0 {
                self.highest = Some(nearest);
                self.confirming = None;
            }
            return nearest;
        }
        if self.confirming != Some(seq) {
            self.confirming = Some(seq.wrapping_add(1));
            return nearest;
        }
        let cycle = if step < 0 { 65_536 } else { 0 };
        let restarted = ExtendedSeq(nearest.0.saturating_add(cycle));
        self.highest = Some(restarted);
        self.confirming = None;
        restarted
    }
}

/// Extends the RTP timestamps of one stream to a 64-bit line.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampExtender {
    last: Option<i64>,
}

impl TimestampExtender {
    /// Before the first packet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Extends a timestamp to the candidate nearest to the last one; the first is itself.
    ///
    /// Half the range is 2³¹ ticks: 12 hours at 48 kHz. The result may be negative when a packet
    /// from before the first arrives.
    pub fn extend(&mut self, timestamp: u32) -> i64 {
        let extended = match self.last {
            None => i64::from(timestamp),
            Some(last) => {
                let low = u32::try_from(last & 0xffff_ffff).unwrap_or(0);
                last.saturating_add(signed_32(timestamp.wrapping_sub(low)))
            }
        };
        self.last = Some(extended);
        extended
    }
}

/// A 16-bit difference as a signed number.
fn signed_16(difference: u16) -> i64 {
    i64::from(i16::from_ne_bytes(difference.to_ne_bytes()))
}

/// A 32-bit difference as a signed number.
fn signed_32(difference: u32) -> i64 {
    i64::from(i32::from_ne_bytes(difference.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_packet_has_room_below_it() {
        let mut extender = SeqExtender::new();
        assert_eq!(extender.extend(0), ExtendedSeq(65_536));
        assert_eq!(extender.extend(65_535), ExtendedSeq(65_535));
        assert_eq!(extender.extend(1), ExtendedSeq(65_537));
        assert_eq!(extender.highest(), Some(ExtendedSeq(65_537)));
    }

    #[test]
    fn packet_after_a_65536_wrap_is_not_late_and_one_before_it_is_not_early() {
        let mut extender = SeqExtender::new();
        extender.extend(65_534);
        assert_eq!(extender.extend(0), ExtendedSeq(131_072));
        assert_eq!(extender.extend(65_535), ExtendedSeq(131_071));
        assert_eq!(extender.extend(1), ExtendedSeq(131_073));
        assert_eq!(ExtendedSeq(131_071) - ExtendedSeq(131_073), -2);
    }

    #[test]
    fn many_wraps_count_up() {
        let mut extender = SeqExtender::new();
        let mut last = extender.extend(7);
        for step in 0..300_000u32 {
            let seq = u16::try_from((step + 8) & 0xffff).expect("16 bits");
            let next = extender.extend(seq);
            assert_eq!((next - last, next.low_16()), (1, seq));
            last = next;
        }
    }

    #[test]
    fn one_stray_packet_does_not_move_the_line() {
        let mut extender = SeqExtender::new();
        extender.extend(100);
        assert_eq!(extender.extend(20_100), ExtendedSeq(85_636));
        assert_eq!(extender.extend(101), ExtendedSeq(65_637));
        assert_eq!(extender.highest(), Some(ExtendedSeq(65_637)));
    }

    #[test]
    fn a_confirmed_restart_goes_up_whichever_way_it_jumped() {
        let mut extender = SeqExtender::new();
        extender.extend(40_000);
        assert_eq!(extender.extend(10_000), ExtendedSeq(75_536));
        // Confirmed: 10 001 in the cycle after 65 536 + 40 000.
        assert_eq!(extender.extend(10_001), ExtendedSeq(141_073));
        assert_eq!(extender.extend(30_000), ExtendedSeq(161_072));
        assert_eq!(extender.extend(30_001), ExtendedSeq(161_073));
        assert_eq!(extender.extend(30_002), ExtendedSeq(161_074));
    }

    #[test]
    fn timestamps_wrap_both_ways() {
        let mut extender = TimestampExtender::new();
        assert_eq!(extender.extend(0xffff_ff60), 0xffff_ff60);
        assert_eq!(extender.extend(0), 0x1_0000_0000);
        assert_eq!(extender.extend(0xffff_ffff), 0xffff_ffff);
        let mut early = TimestampExtender::new();
        assert_eq!(early.extend(0), 0);
        assert_eq!(early.extend(0xffff_ffff), -1);
    }
}
