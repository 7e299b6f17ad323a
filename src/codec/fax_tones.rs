//! The tones by which fax machines know each other.
//!
//! Purpose: tell that a call's sound is a fax: what sounds like noise is data, and no speech is missing.
//! Invariants: each kind of tone is told once; nothing is allocated.
//! Non-goals: demodulating a page; T.38, where there is no sound.
//! Sources: ITU-T T.30 §4.1 (CNG: 1,100 ± 38 Hz, 0.5 s on, 3 s off; CED: 2,100 ± 15 Hz, 2.6 to 4 s),
//! §5.3.1 (preamble: a second of flags); V.21 channel 2 (1,650 Hz for 1, 1,850 Hz for 0); V.8 §7.2 (the
//! answer tone reverses its phase every 450 ms).

use super::tone_bank::{Reading, Window, tone};
use std::collections::VecDeque;

/// A tone of a fax machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaxTone {
    /// The calling machine's beep, heard twice.
    Cng,
    /// The answering machine's long tone; modems answer with it too.
    Ced,
    /// The flags in front of a machine's first message.
    V21,
}

impl FaxTone {
    /// As the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cng => "cng",
            Self::Ced => "ced",
            Self::V21 => "v21",
        }
    }
}

/// Weights of a Hann window over 8 readings (20 ms).
const HANN: [f32; 8] = [0.038, 0.309, 0.691, 0.962, 0.962, 0.691, 0.309, 0.038];

/// A look each 4 readings: 10 ms.
const LOOK: u64 = 4;

/// Share of the power that a tone has alone.
const PURITY_MIN: f32 = 0.8;

/// Looks of which an answer tone has to be heard in a row, and that may miss it where its phase turns.
const ANSWER_LOOKS: u32 = 100;
const MISSES: u32 = 3;

/// Looks that a calling beep lasts, and that lie between the begins of two.
const BEEP_LOOKS: std::ops::RangeInclusive<u32> = 38..=62;
const PERIOD_LOOKS: std::ops::RangeInclusive<u64> = 290..=420;

/// Looks (0.4 s) over which a preamble is looked for.
const PREAMBLE: usize = 40;

/// Places in the bank.
const V21_ONE: usize = 8;
const V21_ZERO: usize = 9;
const CALLING: usize = 10;
const ANSWER: usize = 11;

/// Finds a fax in readings that come one after another.
#[derive(Clone, Debug)]
pub struct FaxTones {
    /// The newest last.
    kept: VecDeque<Reading>,
    before: Window,
    count: u64,
    calling: Held,
    answer: Held,
    last_beep: Option<u64>,
    /// The last looks as a V.21 receiver has them.
    flags: VecDeque<Bits>,
    told: [bool; 3],
}

/// A tone that is held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    looks: u32,
    misses: u32,
}

/// One look at V.21: the power of the louder tone and of everything, and readings that were a 0.
#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    tones: f32,
    power: f32,
    zeros: f32,
}

impl Default for FaxTones {
    fn default() -> Self {
        Self {
            kept: VecDeque::with_capacity(HANN.len()),
            before: Window::SILENCE,
            count: 0,
            calling: Held::default(),
            answer: Held::default(),
            last_beep: None,
            flags: VecDeque::with_capacity(PREAMBLE),
            told: [false; 3],
        }
    }
}

impl FaxTones {
    /// Takes the next reading; tells a tone once it is certain.
    pub fn on_reading(&mut self, reading: &Reading) -> Option<FaxTone> {
        if self.kept.len() >= HANN.len() {
            self.kept.pop_front();
        }
        self.kept.push_back(*reading);
        self.count = self.count.saturating_add(1);
        if self.count % LOOK != 0 {
            return None;
        }
        let window = Window::over(self.kept.iter().rev(), &HANN);
        let has_calling = is_alone(&window, &self.before, CALLING, 42.0);
        let has_answer = is_alone(&window, &self.before, ANSWER, 20.0);
        self.before = window;
        let found = [
            self.on_calling(has_calling).then_some(FaxTone::Cng),
            self.on_answer(has_answer).then_some(FaxTone::Ced),
            self.on_flags().then_some(FaxTone::V21),
        ];
        let news = found.into_iter().zip(&mut self.told);
        news.filter(|(found, told)| found.is_some() && !**told)
            .map(|(found, told)| {
                *told = true;
                found
            })
            .next()?
    }

    /// Sound is missing here.
    pub fn on_silence(&mut self) {
        self.kept.clear();
        self.flags.clear();
        self.before = Window::SILENCE;
        self.answer = Held::default();
        self.on_calling(false);
    }

    /// Goes on from another reading, after silence.
    pub const fn skip_to(&mut self, count: u64) {
        self.count = count;
    }

    /// Two beeps of the right length and distance: one alone may be any beep.
    fn on_calling(&mut self, is_heard: bool) -> bool {
        if is_heard {
            self.calling.looks = self.calling.looks.saturating_add(1);
            return false;
        }
        let looks = std::mem::take(&mut self.calling).looks;
        if !BEEP_LOOKS.contains(&looks) {
            return false;
        }
        let now = self.count / LOOK;
        let before = self.last_beep.replace(now);
        before.is_some_and(|before| PERIOD_LOOKS.contains(&now.saturating_sub(before)))
    }

    fn on_answer(&mut self, is_heard: bool) -> bool {
        let held = &mut self.answer;
        if is_heard {
            (held.looks, held.misses) = (held.looks.saturating_add(1), 0);
        } else {
            held.misses = held.misses.saturating_add(1);
            if held.misses > MISSES {
                *held = Held::default();
            }
        }
        held.looks >= ANSWER_LOOKS
    }

    /// Nearly nothing but the two tones, of which a flag (01111110) has a quarter zeros.
    fn on_flags(&mut self) -> bool {
        let mut bits = Bits::default();
        for reading in self.kept.iter().rev().take(4) {
            let power = |index| {
                let (real, imaginary) = tone(&reading.tones, index);
                2.0 * (real * real + imaginary * imaginary)
            };
            let (one, zero) = (power(V21_ONE), power(V21_ZERO));
            bits.tones += one.max(zero);
            bits.power += reading.power;
            bits.zeros += if zero > one { 1.0 } else { 0.0 };
        }
        if self.flags.len() >= PREAMBLE {
            self.flags.pop_front();
        }
        self.flags.push_back(bits);
        if self.flags.len() < PREAMBLE {
            return false;
        }
        let sum = |of: fn(&Bits) -> f32| self.flags.iter().map(of).sum::<f32>();
        let readings = 4.0 * PREAMBLE as f32;
        let zeros = sum(|bits| bits.zeros) / readings;
        let power = sum(|bits| bits.power);
        power > 15_000.0 * readings
            && sum(|bits| bits.tones) >= FLAGS_MIN * power
            && (0.08..=0.45).contains(&zeros)
    }
}

/// Share of the power that is the louder of V.21's tones in flags, where each bit lasts 3.3 ms.
const FLAGS_MIN: f32 = 0.75;

/// True when a tone is nearly all there is, near its frequency.
fn is_alone(window: &Window, before: &Window, index: usize, off_hz_max: f32) -> bool {
    let found = window.steady(before, index, 0.01, 0.02);
    let power = 0.5 * found.peak * found.peak;
    found.off_hz.abs() <= off_hz_max
        && window.power > 10_000.0
        && (PURITY_MIN..1.5).contains(&(power / window.power))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::super::tone_bank::ToneBank;
    use super::*;

    /// Frequency and length in ms, one after another.
    fn heard(parts: &[(f64, u32)]) -> Vec<FaxTone> {
        let (mut bank, mut tones) = (ToneBank::new(8_000).expect("a rate"), FaxTones::default());
        let (mut phase, mut found) = (0.0_f64, Vec::new());
        let mut pcm = Vec::new();
        for (hz, ms) in parts {
            for _ in 0..ms * 8 {
                phase += std::f64::consts::TAU * hz / 8_000.0;
                pcm.push(if *hz > 0.0 { (5_000.0 * phase.sin()) as i16 } else { 0 });
            }
        }
        bank.read(&pcm, |reading| found.extend(tones.on_reading(reading)));
        found
    }

    #[test]
    fn an_answer_tone_is_told_after_a_second_within_its_tolerance() {
        for hz in [2_085.0, 2_100.0, 2_115.0] {
            assert_eq!(heard(&[(0.0, 200), (hz, 2_600), (0.0, 100)]), [FaxTone::Ced], "{hz}");
        }
        assert_eq!(heard(&[(2_100.0, 800), (0.0, 500), (2_100.0, 800), (0.0, 500)]), []);
        assert_eq!(heard(&[(2_150.0, 3_000)]), []);
    }

    #[test]
    fn a_calling_beep_is_told_when_it_comes_again() {
        let beep = |hz| [(0.0, 400), (hz, 500), (0.0, 3_000), (hz, 500), (0.0, 300)];
        for hz in [1_062.0, 1_100.0, 1_138.0] {
            assert_eq!(heard(&beep(hz)), [FaxTone::Cng], "{hz}");
        }
        assert_eq!(heard(&beep(1_000.0)), []);
        assert_eq!(heard(&[(1_100.0, 500), (0.0, 8_000), (1_100.0, 500), (0.0, 100)]), []);
        assert_eq!(heard(&[(1_100.0, 5_000)]), []);
    }

    #[test]
    fn flags_are_a_preamble_and_one_of_their_tones_is_not() {
        // 300 bits a second: 0 1 1 1 1 1 1 0, as whole ms that are as long.
        let flag = [(1_850.0, 3), (1_650.0, 20), (1_850.0, 4)];
        let flags: Vec<_> = std::iter::repeat_n(flag, 40).flatten().collect();
        assert_eq!(heard(&flags), [FaxTone::V21]);
        assert_eq!(heard(&[(1_650.0, 2_000)]), []);
        assert_eq!(heard(&[(1_850.0, 2_000)]), []);
        assert_eq!(heard(&[(1_750.0, 2_000)]), []);
    }
}
