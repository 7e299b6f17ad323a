//! Where RTP time stands on the capture clock.
//!
//! Purpose: map a stream's RTP timestamps to capture time, following clock drift and unmoved by
//! jitter: the anchor is the least (arrival − RTP time) of the last ten seconds.
//! Invariants: pure arithmetic on packet times; a timestamp of any value cannot overflow it.
//! Non-goals: moving samples (see `stretch`), deciding that a jump is real (see `placement`).
//! Sources: RFC 3550 §5.1 (timestamps); the minimum filter is the usual one-way delay estimate
//! (a packet can be delayed, but not be early).

use crate::base::PacketTime;
use crate::base::time::NS_PER_S;

/// Seconds over which the least delay is taken: long enough to hold an undelayed packet, short
/// enough to follow 200 ppm within 2 ms.
const WINDOW_S: usize = 10;

/// The line between one stream's RTP clock and the capture clock.
#[derive(Clone, Debug)]
pub struct Anchor {
    clock_hz: u32,
    /// Least offset seen in each second of arrival, newest last.
    buckets: [(i64, i64); WINDOW_S],
}

impl Anchor {
    /// A line through one packet; `clock_hz` of 0 counts as 8 000.
    #[must_use]
    pub fn new(clock_hz: u32, arrival: PacketTime, timestamp: i64) -> Self {
        let clock_hz = if clock_hz == 0 { 8_000 } else { clock_hz };
        let mut anchor = Self { clock_hz, buckets: [(i64::MIN, i64::MAX); WINDOW_S] };
        anchor.observe(arrival, timestamp);
        anchor
    }

    /// Takes one packet's arrival into account.
    pub fn observe(&mut self, arrival: PacketTime, timestamp: i64) {
        let offset = self.offset_ns(arrival, timestamp);
        let second = arrival.ns().div_euclid(NS_PER_S);
        let newest = self.buckets[WINDOW_S - 1].0;
        if second > newest {
            let shift = usize::try_from(second.saturating_sub(newest)).unwrap_or(WINDOW_S);
            if shift < WINDOW_S {
                self.buckets.rotate_left(shift);
                self.buckets[WINDOW_S - shift..].fill((second, i64::MAX));
                for (bucket, age) in self.buckets.iter_mut().rev().zip(0..) {
                    bucket.0 = second - age;
                }
            } else {
                // After a silence longer than the window nothing old counts.
                self.buckets = [(i64::MIN, i64::MAX); WINDOW_S];
                self.buckets[WINDOW_S - 1].0 = second;
            }
        }
        let newest = &mut self.buckets[WINDOW_S - 1];
        newest.1 = newest.1.min(offset);
    }

    /// Capture time of an RTP timestamp, in ns since the epoch.
    #[must_use]
    pub fn capture_ns(&self, timestamp: i64) -> i64 {
        self.minimum_ns().saturating_add(self.rtp_ns(timestamp))
    }

    /// How much later than the line a packet arrived, in ns; negative: earlier.
    #[must_use]
    pub fn deviation_ns(&self, arrival: PacketTime, timestamp: i64) -> i64 {
        self.offset_ns(arrival, timestamp).saturating_sub(self.minimum_ns())
    }

    fn offset_ns(&self, arrival: PacketTime, timestamp: i64) -> i64 {
        arrival.ns().saturating_sub(self.rtp_ns(timestamp))
    }

    fn rtp_ns(&self, timestamp: i64) -> i64 {
        let ns = i128::from(timestamp) * i128::from(NS_PER_S) / i128::from(self.clock_hz);
        i64::try_from(ns).unwrap_or(if timestamp < 0 { i64::MIN / 2 } else { i64::MAX / 2 })
    }

    fn minimum_ns(&self) -> i64 {
        self.buckets.iter().map(|(_, offset)| *offset).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> PacketTime {
        PacketTime::from_ms(1_000_000 + ms)
    }

    #[test]
    fn jitter_does_not_move_the_line_and_the_least_delay_is_the_anchor() {
        let mut anchor = Anchor::new(8_000, at(30), 0);
        for (packet, delay) in [(1, 12), (2, 0), (3, 40), (4, 25)] {
            anchor.observe(at(packet * 20 + delay), packet * 160);
        }
        assert_eq!(anchor.capture_ns(0), at(0).ns());
        assert_eq!(anchor.deviation_ns(at(5 * 20 + 7), 5 * 160), 7_000_000);
    }

    #[test]
    fn drift_is_followed_within_two_milliseconds_over_an_hour() {
        // The sender's clock is slow by 200 ppm: a packet every 20.004 ms of capture time.
        let mut anchor = Anchor::new(8_000, at(0), 0);
        for packet in 0..180_000_i64 {
            let arrival = at(0).plus_ns(packet * 20_004_000);
            anchor.observe(arrival, packet * 160);
            let error = arrival.ns() - anchor.capture_ns(packet * 160);
            assert!((0..=2_200_000).contains(&error), "packet {packet}: {error} ns");
        }
    }

    #[test]
    fn a_lasting_change_of_delay_is_taken_over_after_the_window() {
        let mut anchor = Anchor::new(8_000, at(0), 0);
        for packet in 0..1_100_i64 {
            let delay = if packet < 100 { 0 } else { 30 };
            anchor.observe(at(packet * 20 + delay), packet * 160);
        }
        assert_eq!(anchor.capture_ns(0), at(30).ns());
    }

    #[test]
    fn hostile_timestamps_do_not_overflow() {
        let mut anchor = Anchor::new(0, PacketTime::MAX, i64::MIN);
        anchor.observe(PacketTime::MIN, i64::MAX);
        let _ = anchor.capture_ns(i64::MAX);
    }
}
