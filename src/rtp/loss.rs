//! Counts what a stream's sequence numbers say was sent, and what of it was seen.
//!
//! Purpose: expected, received, lost, duplicate and reordered packets of one stream.
//! Invariants: expected = received + lost over all segments between restarts; a restart is not loss.
//! Non-goals: what the receiver saw (see `rtcp`) and what the recording kept (see `reorder`).
//! Sources: RFC 3550 §6.4.1 and A.3 (expected and lost), RFC 4737 §3 (reordered).

use super::extended_seq::{ExtendedSeq, MAX_DROPOUT};

/// Loss of one stream, by extended sequence number.
#[derive(Clone, Debug, Default)]
pub struct LossCounter {
    segment: Option<Segment>,
    probation: Option<ExtendedSeq>,
    /// Expected in the segments before the present one.
    expected_before: u64,
    received: u64,
    duplicate: u64,
    reordered: u64,
    stray: u64,
    loss_events: u64,
}

/// A stretch without restart.
#[derive(Clone, Copy, Debug)]
struct Segment {
    base: ExtendedSeq,
    highest: ExtendedSeq,
    /// Bit n: `highest - n` was seen.
    seen: u128,
}

impl LossCounter {
    /// Before the first packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one packet.
    pub fn on_packet(&mut self, seq: ExtendedSeq) {
        let Some(segment) = self.segment else {
            self.begin(seq);
            return;
        };
        let step = seq - segment.highest;
        if step > MAX_DROPOUT {
            self.on_jump(segment, seq, step);
        } else if step > 0 {
            self.on_newer(segment, seq, step);
        } else {
            self.on_older(segment, seq, step.saturating_neg());
        }
    }

    /// Packets that the numbers say were sent.
    #[must_use]
    pub fn expected(&self) -> u64 {
        let now = self.segment.map_or(0, |segment| segment.expected());
        self.expected_before.saturating_add(now)
    }

    /// Packets seen, each once.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Packets never seen.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Packets seen again.
    #[must_use]
    pub const fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// Packets seen after one with a higher number.
    #[must_use]
    pub const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Packets that fit nowhere: a jump that nothing confirmed, or older than can be told.
    #[must_use]
    pub const fn stray(&self) -> u64 {
        self.stray
    }

    /// Lost over expected, 0–1.
    #[must_use]
    pub fn loss_ratio(&self) -> f64 {
        let expected = self.expected();
        if expected == 0 {
            return 0.0;
        }
        self.lost() as f64 / expected as f64
    }

    /// BurstR of G.107 §7.4: the mean length of a run of losses over that of random loss, ≥ 1.
    ///
    /// A run filled by late packets still counts as one, so reordering makes this smaller.
    #[must_use]
    pub fn burst_ratio(&self) -> f64 {
        if self.loss_events == 0 {
            return 1.0;
        }
        let mean_run = self.lost() as f64 / self.loss_events as f64;
        (mean_run * (1.0 - self.loss_ratio())).max(1.0)
    }

    fn begin(&mut self, seq: ExtendedSeq) {
        self.segment = Some(Segment { base: seq, highest: seq, seen: 1 });
        self.received = self.received.saturating_add(1);
    }

    fn on_newer(&mut self, segment: Segment, seq: ExtendedSeq, step: i64) {
        let shift = u32::try_from(step).unwrap_or(u32::MAX);
        let seen = segment.seen.checked_shl(shift).unwrap_or(0) | 1;
        self.segment = Some(Segment { base: segment.base, highest: seq, seen });
        self.received = self.received.saturating_add(1);
        if step > 1 {
            self.loss_events = self.loss_events.saturating_add(1);
        }
    }

    fn on_older(&mut self, segment: Segment, seq: ExtendedSeq, age: i64) {
        let bit = u32::try_from(age).ok().and_then(|age| 1u128.checked_shl(age)).unwrap_or(0);
        if bit == 0 {
            self.stray = self.stray.saturating_add(1);
        } else if segment.seen & bit != 0 {
            self.duplicate = self.duplicate.saturating_add(1);
        } else {
            let base = segment.base.min(seq);
            self.segment = Some(Segment { base, seen: segment.seen | bit, ..segment });
            self.received = self.received.saturating_add(1);
            self.reordered = self.reordered.saturating_add(1);
        }
    }

    /// RFC 3550 A.1: two packets in a row at the new place are a restart, one is a stray.
    fn on_jump(&mut self, segment: Segment, seq: ExtendedSeq, step: i64) {
        match self.probation.take() {
            // The extender lifts a stream that jumped back only with its second packet: that one
            // comes alone, more than half the 16-bit range ahead of the line.
            _ if step > 32_767 => {
                self.expected_before = self.expected_before.saturating_add(segment.expected());
                self.begin(seq);
            }
            Some(first) if seq - first == 1 => {
                self.expected_before = self.expected_before.saturating_add(segment.expected());
                self.begin(first);
                self.stray = self.stray.saturating_sub(1);
                self.on_packet(seq);
            }
            _ => {
                self.probation = Some(seq);
                self.stray = self.stray.saturating_add(1);
            }
        }
    }
}

impl Segment {
    fn expected(&self) -> u64 {
        u64::try_from(self.highest - self.base).unwrap_or(0).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::extended_seq::SeqExtender;
    use super::*;

    fn counted(numbers: &[u16]) -> LossCounter {
        let (mut extender, mut counter) = (SeqExtender::new(), LossCounter::new());
        for number in numbers {
            counter.on_packet(extender.extend(*number));
        }
        counter
    }

    #[test]
    fn loss_duplicates_and_reordering_are_told_apart() {
        let counter = counted(&[65_534, 65_535, 1, 0, 0, 4, 5]);
        assert_eq!((counter.expected(), counter.received(), counter.lost()), (8, 6, 2));
        assert_eq!((counter.duplicate(), counter.reordered(), counter.stray()), (1, 1, 0));
    }

    #[test]
    fn a_packet_before_the_first_widens_what_was_expected() {
        let counter = counted(&[10, 8, 11]);
        assert_eq!((counter.expected(), counter.received(), counter.lost()), (4, 3, 1));
    }

    #[test]
    fn a_restart_is_not_loss_whichever_way_it_jumps() {
        let forward = counted(&[1, 2, 3, 20_000, 20_001, 20_003]);
        assert_eq!((forward.expected(), forward.received(), forward.lost()), (7, 6, 1));
        assert_eq!(forward.stray(), 0);
        let back = counted(&[30_000, 30_001, 5, 6, 7, 8]);
        // Packet 5 is the stray that packet 6 confirmed.
        assert_eq!((back.expected(), back.received(), back.lost()), (5, 5, 0));
        assert_eq!(back.stray(), 1);
    }

    #[test]
    fn one_stray_packet_is_neither_received_nor_loss() {
        let counter = counted(&[1, 2, 9_000, 3, 4]);
        assert_eq!((counter.expected(), counter.received(), counter.stray()), (4, 4, 1));
    }

    #[test]
    fn bursts_raise_the_burst_ratio_and_single_losses_do_not() {
        let single = counted(&[0, 2, 4, 6, 8, 9, 10, 11, 12, 13]);
        assert!((single.burst_ratio() - 1.0).abs() < 1e-9);
        let mut numbers: Vec<u16> = (0..100).collect();
        numbers.extend(110..200);
        let burst = counted(&numbers);
        assert_eq!(burst.lost(), 10);
        assert!((burst.burst_ratio() - 9.5).abs() < 1e-9, "{}", burst.burst_ratio());
    }
}
