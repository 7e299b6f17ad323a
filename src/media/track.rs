//! One party's side of the recording: samples and kept Opus packets in slots of 20 ms.
//!
//! Purpose: take sound in any order within the hold time, and hand out whole slots.
//! Invariants: slot *k* holds [20 k, 20 k + 20) ms from the start of the recording; what was handed
//! out is never changed; the first writer of a sample keeps it; at most `SLOTS_MAX` are held.
//! Non-goals: encoding (see `voice`), gaps (see `gaps`).
//! Sources: RFC 6716 §2.1.4 (20 ms is Opus's native frame).

use crate::codec::resample::interpolate;
use std::collections::VecDeque;

/// Slots held ahead of the oldest: four seconds.
const SLOTS_MAX: usize = 200;

/// Slots in a second.
pub const SLOTS_PER_S: u32 = 50;

/// Milliseconds in a slot.
pub const SLOT_MS: i64 = 20;

/// What stands in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Samples at the track's rate, or empty when none was written.
    pub pcm: Vec<i16>,
    /// First and one-past-last sample that was written.
    pub written: (usize, usize),
    /// An Opus packet of 20 ms that arrived as such.
    pub packet: Option<Vec<u8>>,
}

/// Slots that are not handed out yet.
#[derive(Debug)]
pub struct Track {
    rate_hz: u32,
    first: i64,
    slots: VecDeque<Slot>,
}

impl Track {
    /// An empty track; `rate_hz` is a multiple of 50.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self { rate_hz, first: 0, slots: VecDeque::new() }
    }

    /// Samples per second.
    #[must_use]
    pub const fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Samples in a slot.
    #[must_use]
    pub const fn slot_samples(&self) -> usize {
        (self.rate_hz / SLOTS_PER_S) as usize
    }

    /// Number of the oldest slot that is not handed out.
    #[must_use]
    pub const fn first_slot(&self) -> i64 {
        self.first
    }

    /// One past the last slot that holds something.
    #[must_use]
    pub fn end_slot(&self) -> i64 {
        self.first.saturating_add(i64::try_from(self.slots.len()).unwrap_or(0))
    }

    /// Position of the oldest sample that may still be written.
    #[must_use]
    pub fn first_sample(&self) -> i64 {
        self.first.saturating_mul(i64::from(self.rate_hz / SLOTS_PER_S))
    }

    /// Raises the rate; what is held is converted.
    pub fn raise_rate(&mut self, rate_hz: u32) {
        if rate_hz <= self.rate_hz {
            return;
        }
        let step = f64::from(self.rate_hz) / f64::from(rate_hz);
        let (old_len, new_len) = (self.slot_samples(), (rate_hz / SLOTS_PER_S) as usize);
        for slot in &mut self.slots {
            if !slot.pcm.is_empty() {
                let mut pcm = vec![0; new_len];
                interpolate(&slot.pcm, 0.0, step, &mut pcm);
                slot.pcm = pcm;
                let (from, to) = slot.written;
                slot.written = (from * new_len / old_len, to * new_len / old_len);
            }
        }
        self.rate_hz = rate_hz;
    }

    /// Writes samples from a position on; returns how many came too late to be written. What lies
    /// before second 0 is not of the recording, and so not late.
    pub fn write(&mut self, position: i64, samples: &[i16]) -> usize {
        let len = self.slot_samples();
        let late = usize::try_from(self.first_sample().saturating_sub(position)).unwrap_or(0);
        let late = late.min(samples.len());
        let before = usize::try_from(position.saturating_neg()).unwrap_or(0);
        let mut rest = samples.get(late..).unwrap_or_default();
        let start = position.max(self.first_sample()).saturating_sub(self.first_sample());
        let mut at = usize::try_from(start).unwrap_or(usize::MAX);
        while !rest.is_empty() {
            let (number, offset) = (at / len, at % len);
            let count = rest.len().min(len - offset);
            let (now, later) = rest.split_at(count);
            if let Some(slot) = self.slot(number) {
                slot.put(offset, now, len);
            }
            rest = later;
            at = at.saturating_add(count);
        }
        late.saturating_sub(before)
    }

    /// Puts an Opus packet into a slot; false when it came too late or the slot is taken.
    pub fn put_packet(&mut self, slot: i64, packet: &[u8]) -> bool {
        let Ok(number) = usize::try_from(slot.saturating_sub(self.first)) else { return false };
        match self.slot(number) {
            Some(free) if free.packet.is_none() => {
                free.packet = Some(packet.to_vec());
                true
            }
            _ => false,
        }
    }

    /// Begins at a slot; nothing has been written yet.
    pub fn skip_to(&mut self, slot: i64) {
        self.first = slot;
        self.slots.clear();
    }

    /// Hands out the oldest slot.
    pub fn take_slot(&mut self) -> Slot {
        self.first += 1;
        self.slots.pop_front().unwrap_or_default()
    }

    fn slot(&mut self, number: usize) -> Option<&mut Slot> {
        if number >= SLOTS_MAX {
            return None;
        }
        while self.slots.len() <= number {
            self.slots.push_back(Slot::default());
        }
        self.slots.get_mut(number)
    }
}

impl Slot {
    fn put(&mut self, offset: usize, samples: &[i16], len: usize) {
        if self.pcm.is_empty() {
            self.pcm.resize(len, 0);
            self.written = (offset, offset);
        }
        let (from, to) = self.written;
        let end = offset + samples.len();
        for (index, sample) in (offset..end).zip(samples) {
            if (index < from || index >= to) && index < len {
                self.pcm[index] = *sample;
            }
        }
        self.written = (from.min(offset), to.max(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_land_in_their_slots_and_late_ones_are_counted() {
        let mut track = Track::new(8_000);
        assert_eq!(track.write(150, &[7; 20]), 0);
        let first = track.take_slot();
        assert_eq!((first.written, first.pcm[149], first.pcm[150]), ((150, 160), 0, 7));
        assert_eq!(track.write(155, &[9; 10]), 5);
        let second = track.take_slot();
        assert_eq!(&second.pcm[..11], &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
        assert_eq!(track.take_slot(), Slot::default());
    }

    #[test]
    fn what_lies_before_second_0_is_not_late() {
        let mut track = Track::new(8_000);
        assert_eq!(track.write(-160, &[7; 160]), 0);
        assert_eq!(track.write(-10, &[7; 20]), 0);
        assert_eq!(track.take_slot().written, (0, 10));
        assert_eq!(track.write(-10, &[7; 20]), 10, "of the recording, and handed out");
    }

    #[test]
    fn what_lies_too_far_ahead_takes_no_memory() {
        let mut track = Track::new(8_000);
        assert_eq!(track.write(i64::MAX / 2, &[1; 160]), 0);
        assert!(track.slots.is_empty());
        assert!(!track.put_packet(SLOTS_MAX as i64, b"x"));
    }

    #[test]
    fn a_raised_rate_keeps_time() {
        let mut track = Track::new(8_000);
        track.write(160, &[1_000; 160]);
        track.raise_rate(16_000);
        assert_eq!(track.take_slot(), Slot::default());
        let slot = track.take_slot();
        assert_eq!((slot.pcm.len(), slot.written), (320, (0, 320)));
        assert!((900..1_100).contains(&slot.pcm[160]));
    }

    #[test]
    fn one_packet_a_slot() {
        let mut track = Track::new(48_000);
        assert!(track.put_packet(1, b"one"));
        assert!(!track.put_packet(1, b"two"));
        assert_eq!(track.take_slot().packet, None);
        assert_eq!(track.take_slot().packet.as_deref(), Some(&b"one"[..]));
        assert!(!track.put_packet(0, b"late"));
    }
}
