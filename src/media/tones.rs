//! The tones in one channel's sound: keys and fax machines.
//!
//! Purpose: feed what is handed out to the detectors, slot by slot.
//! Invariants: depends on the samples and their places alone, not on how visits were cut.
//! Non-goals: Opus that is kept as it came (it is not decoded; such phones send telephone-events).
//! Sources: none; see `codec::dtmf_tones` and `codec::fax_tones`.

use super::track::SLOTS_PER_S;
use crate::codec::dtmf_tones::{DtmfTones, ToneDigit};
use crate::codec::fax_tones::{FaxTone, FaxTones};
use crate::codec::tone_bank::{READINGS_PER_S, ToneBank};

/// Readings in a slot.
const SLOT_READINGS: u64 = (READINGS_PER_S / SLOTS_PER_S) as u64;

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heard {
    /// A key, now over.
    Key(ToneDigit),
    /// A fax machine.
    Fax(FaxTone),
}

/// The detectors of one channel.
#[derive(Debug, Default)]
pub struct SideTones {
    /// Measures at this rate; a bank of none where the rate has none.
    bank: Option<(u32, Option<ToneBank>)>,
    keys: DtmfTones,
    fax: FaxTones,
}

impl SideTones {
    /// Takes the sound of a slot (empty where there is none) and tells what was heard in it.
    pub fn slot(&mut self, slot: u32, pcm: &[i16], rate_hz: u32, mut tell: impl FnMut(Heard)) {
        if pcm.is_empty() {
            self.finish(|key| tell(Heard::Key(key)));
            self.fax.on_silence();
            return;
        }
        let at = u64::from(slot).saturating_mul(SLOT_READINGS);
        if at != self.keys.count() {
            self.keys.skip_to(at);
            self.fax.skip_to(at);
        }
        if self.bank.as_ref().is_none_or(|(known_hz, _)| *known_hz != rate_hz) {
            self.bank = Some((rate_hz, ToneBank::new(rate_hz)));
        }
        let Some((_, Some(bank))) = &mut self.bank else { return };
        bank.read(pcm, |reading| {
            let key = self.keys.on_reading(reading).map(Heard::Key);
            let fax = self.fax.on_reading(reading).map(Heard::Fax);
            key.into_iter().chain(fax).for_each(&mut tell);
        });
    }

    /// Nothing follows: a key that is held is over.
    pub fn finish(&mut self, mut tell: impl FnMut(ToneDigit)) {
        if let Some(digit) = self.keys.on_silence() {
            tell(digit);
        }
    }
}
