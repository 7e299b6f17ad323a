//! The slots of a recording, whole: in order, without holes, as many as its length asks for.
//!
//! Purpose: what `export` hands to the Ogg writer and to the decoders, from what is archived.
//! Invariants: slot *k* stands at 20 *k* ms; a slot that is not archived is a silent one; each
//! channel has exactly one packet a slot.
//! Non-goals: containers (see `codec::ogg` and `wav`).
//! Sources: RFC 7845 §4.2 (pre-skip), §4.4 (end trimming).

use super::output::Failure;

/// Samples of a slot at 48 kHz, the clock of every Ogg Opus stream (RFC 7845 §4).
pub const SLOT_SAMPLES_48K: u64 = 960;

/// Opus packets of one slot, caller first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPair {
    /// From the start of the recording, 20 ms each.
    pub index: u64,
    /// One packet a channel; empty where the channel has none.
    pub packets: [Vec<u8>; 2],
}

/// How long a recording is, in samples at 48 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Samples that a listener hears.
    pub samples: u64,
    /// Samples before them that a player throws away.
    pub pre_skip: u16,
}

impl Extent {
    /// A recording of `seconds`, decoded after `pre_skip` samples of delay.
    #[must_use]
    pub fn new(seconds: f64, pre_skip: u16) -> Self {
        // A summary is archived text: NaN and nonsense become an empty recording, a week its end.
        let seconds = if seconds.is_finite() { seconds.clamp(0.0, 604_800.0) } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let samples = (seconds * 48_000.0).round() as u64;
        Self { samples, pre_skip }
    }

    /// Slots that hold the samples and the delay before them.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.samples.saturating_add(self.pre_skip as u64).div_ceil(SLOT_SAMPLES_48K)
    }
}

/// Slots 0 to `slots - 1` in order: those of `archived`, and silent ones where there is none.
pub struct Whole<I: Iterator> {
    archived: std::iter::Peekable<I>,
    next: u64,
    slots: u64,
    silence: Vec<u8>,
}

impl<I: Iterator<Item = Result<SlotPair, Failure>>> Whole<I> {
    /// `archived`: in order of index. `silence`: a packet of 20 ms.
    pub fn new(archived: I, slots: u64, silence: Vec<u8>) -> Self {
        Self { archived: archived.peekable(), next: 0, slots, silence }
    }
}

impl<I: Iterator<Item = Result<SlotPair, Failure>>> Iterator for Whole<I> {
    type Item = Result<[Vec<u8>; 2], Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.slots {
            return None;
        }
        let wanted = self.next;
        self.next += 1;
        let mut packets = [Vec::new(), Vec::new()];
        // A slot written twice (a spill and what superseded it) is heard once, as first written.
        while let Some(found) = self.archived.next_if(|item| match item {
            Ok(pair) => pair.index <= wanted,
            Err(_) => packets.iter().all(Vec::is_empty),
        }) {
            match found {
                Ok(pair) if pair.index == wanted => {
                    for (packet, archived) in packets.iter_mut().zip(pair.packets) {
                        if packet.is_empty() {
                            *packet = archived;
                        }
                    }
                }
                Ok(_) => {}
                Err(failure) => {
                    self.next = self.slots;
                    return Some(Err(failure));
                }
            }
        }
        for packet in &mut packets {
            if packet.is_empty() {
                packet.clone_from(&self.silence);
            }
        }
        Some(Ok(packets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps)] // the item type of `Whole`
    fn pair(index: u64, caller: u8, callee: &[u8]) -> Result<SlotPair, Failure> {
        Ok(SlotPair { index, packets: [vec![caller], callee.to_vec()] })
    }

    #[test]
    fn holes_and_missing_channels_become_silence_and_the_length_is_the_recordings() {
        let archived =
            [pair(1, 10, &[20]), pair(3, 11, &[]), pair(3, 12, &[21]), pair(9, 13, &[22])];
        let whole: Vec<_> =
            Whole::new(archived.into_iter(), 5, vec![0]).map(|slot| slot.expect("whole")).collect();
        let slot = |caller: u8, callee: u8| [vec![caller], vec![callee]];
        assert_eq!(whole, [slot(0, 0), slot(10, 20), slot(0, 0), slot(11, 21), slot(0, 0)]);
    }

    #[test]
    fn a_damaged_record_ends_the_export_with_its_reason() {
        let archived = [pair(0, 1, &[2]), Err(Failure::failed("damaged")), pair(1, 1, &[2])];
        let mut whole = Whole::new(archived.into_iter(), 3, vec![0]);
        assert!(whole.next().expect("slot 0").is_ok());
        assert_eq!(whole.next().expect("slot 1").expect_err("damaged").message, "damaged");
        assert!(whole.next().is_none());
    }

    #[test]
    fn the_last_samples_fit_behind_the_pre_skip() {
        assert_eq!(Extent::new(0.02, 0).slots(), 1);
        assert_eq!(Extent::new(0.02, 312).slots(), 2);
        assert_eq!(Extent::new(0.0, 312), Extent { samples: 0, pre_skip: 312 });
        assert_eq!(Extent::new(12.345, 312).samples, 592_560);
        assert_eq!(Extent::new(f64::NAN, 312).samples, 0);
        assert_eq!(Extent::new(-1.0, 312).samples, 0);
        assert_eq!(Extent::new(f64::INFINITY, 312).samples, 0);
    }
}
