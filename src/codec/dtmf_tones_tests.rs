//! The detector over Q.24's limits: what must be found, and what must not.
//!
//! Purpose: a table of tones made here, over frequency, level, twist, length, pause and noise.
//! Invariants: tones go through G.711, as on a wire; every limit is tested on both of its sides.
//! Non-goals: speech (see tests/talk_off.rs).
//! Sources: ITU-T Q.24 annex A, its column for AT&T.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::needless_range_loop)]

use super::super::tone_bank::ToneBank;
use super::*;

/// A key press as it is made.
#[derive(Clone, Copy)]
struct Tone {
    key: (usize, usize),
    /// Deviations of the two frequencies, in percent.
    off: (f64, f64),
    /// Levels in dBm0.
    levels: (f64, f64),
    ms: f64,
}

const PLAIN: Tone = Tone { key: (1, 1), off: (0.0, 0.0), levels: (-10.0, -10.0), ms: 60.0 };

/// Makes a signal piece by piece.
struct Made {
    rate_hz: u32,
    pcm: Vec<f64>,
    noise: u64,
}

impl Made {
    fn new(rate_hz: u32) -> Self {
        Self { rate_hz, pcm: Vec::new(), noise: 1 }
    }

    fn samples(&self, ms: f64) -> usize {
        (ms * f64::from(self.rate_hz) / 1_000.0).round() as usize
    }

    fn silence(mut self, ms: f64) -> Self {
        self.pcm.resize(self.pcm.len() + self.samples(ms), 0.0);
        self
    }

    fn tone(mut self, tone: Tone) -> Self {
        let hz = |nominal: f32, off: f64| f64::from(nominal) * (1.0 + off / 100.0);
        let low = hz(LOW[tone.key.0], tone.off.0);
        let high = hz(HIGH[tone.key.1], tone.off.1);
        let peak = |level: f64| 32_124.0 * 10_f64.powf((level - 3.17) / 20.0);
        let turn = std::f64::consts::TAU / f64::from(self.rate_hz);
        for at in 0..self.samples(tone.ms) {
            let time = turn * at as f64;
            self.pcm.push(
                peak(tone.levels.0) * (time * low).sin()
                    + peak(tone.levels.1) * (time * high).sin(),
            );
        }
        self
    }

    /// Adds white noise of so many dBm0.
    fn noise(mut self, level: f64) -> Self {
        // Uniform from -1 to 1 has a third of a sine's power times two.
        let peak = 32_124.0 * 10_f64.powf((level - 3.17) / 20.0) / 2_f64.sqrt() * 3_f64.sqrt();
        for sample in &mut self.pcm {
            self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *sample += peak * ((self.noise >> 33) as f64 / f64::from(1_u32 << 30) - 1.0);
        }
        self
    }

    /// As a telephone network carries it.
    fn digits(&self) -> Vec<ToneDigit> {
        let mut bank = ToneBank::new(self.rate_hz).expect("a rate");
        let mut tones = DtmfTones::default();
        let mut found = Vec::new();
        let pcm: Vec<i16> = self.pcm.iter().map(|it| through_g711(*it)).collect();
        bank.read(&pcm, |reading| found.extend(tones.on_reading(reading)));
        found.extend(tones.on_silence());
        found
    }

    fn keys(&self) -> String {
        self.digits().iter().map(|it| it.digit).collect()
    }
}

/// Mu-law with its 8 steps a segment, clipped where it is.
fn through_g711(sample: f64) -> i16 {
    let clipped = sample.clamp(-32_124.0, 32_124.0);
    let magnitude = clipped.abs() + 132.0;
    let step = 2_f64.powf(magnitude.log2().floor() - 4.0);
    let rounded = ((magnitude / step).floor() + 0.5) * step - 132.0;
    (rounded * clipped.signum()).round() as i16
}

fn alone(tone: Tone) -> Made {
    Made::new(8_000).silence(100.0).tone(tone).silence(100.0)
}

#[test]
fn every_key_is_found_at_every_rate_with_its_time_and_length() {
    for rate_hz in [8_000, 12_000, 16_000, 24_000, 48_000] {
        for low in 0..4 {
            for high in 0..4 {
                let tone = Tone { key: (low, high), ..PLAIN };
                let made = Made::new(rate_hz).silence(103.0).tone(tone).silence(80.0).tone(tone);
                let digits = made.digits();
                let keys: Vec<_> = digits.iter().map(|it| it.digit).collect();
                assert_eq!(keys, [KEYS[low][high]; 2], "{rate_hz}");
                for (digit, expected) in digits.iter().zip([103.0, 243.0]) {
                    let begin = ToneDigit::ms(digit.begin);
                    assert!((begin - expected).abs() < 3.0, "{rate_hz}: {begin} is not {expected}");
                    let length = ToneDigit::ms(digit.length);
                    assert!((length - 60.0).abs() < 4.0, "{rate_hz}: {length}");
                }
            }
        }
    }
}

#[test]
fn frequencies_within_the_limit_are_found_and_beyond_it_refused() {
    let offs = [-1.0, 1.0];
    for low in 0..4 {
        for high in 0..4 {
            for (one, other) in offs.iter().flat_map(|one| offs.map(|other| (*one, other))) {
                // 1.5 % and 2 Hz, as Q.24 has it.
                let hz = |nominal: f32| 1.5 + 200.0 / f64::from(nominal);
                let off = (one * hz(LOW[low]), other * hz(HIGH[high]));
                let inside = Tone { key: (low, high), off, ms: 40.0, ..PLAIN };
                assert_eq!(alone(inside).keys(), KEYS[low][high], "{off:?}");
                for off in [(one * 3.5, 0.0), (0.0, other * 3.5), (one * 3.5, other * 3.5)] {
                    let outside = Tone { key: (low, high), off, ..PLAIN };
                    assert_eq!(alone(outside).keys(), "", "{off:?}");
                }
            }
        }
    }
}

#[test]
fn levels_and_twists_within_the_limits_are_found_and_beyond_them_refused() {
    // At 0 dBm0 each the sum is clipped.
    for level in [0.0, -3.0, -10.0, -20.0, -25.0, -28.0] {
        let tone = Tone { levels: (level, level), ..PLAIN };
        assert_eq!(alone(tone).keys(), "5", "{level} dBm0");
    }
    assert_eq!(alone(Tone { levels: (-45.0, -45.0), ..PLAIN }).keys(), "");
    for (low, high) in
        [(-12.0, -8.0), (-8.0, -16.0), (-21.0, -25.0), (-21.0, -17.0), (-17.0, -25.0)]
    {
        let tone = Tone { levels: (low, high), ms: 40.0, ..PLAIN };
        assert_eq!(alone(tone).keys(), "5", "{low} and {high} dBm0");
    }
    for (low, high) in [(-20.0, -8.0), (-8.0, -24.0), (-8.0, -90.0), (-90.0, -8.0)] {
        let tone = Tone { levels: (low, high), ..PLAIN };
        assert_eq!(alone(tone).keys(), "", "{low} and {high} dBm0");
    }
}

#[test]
fn forty_ms_are_a_key_and_twenty_three_are_not_wherever_they_begin() {
    for before in 0..20 {
        let with = |ms: f64| {
            let made = Made::new(8_000).silence(100.0 + f64::from(before) / 2.0);
            made.tone(Tone { ms, ..PLAIN }).silence(100.0).keys()
        };
        assert_eq!(with(40.0), "5", "{before}");
        assert_eq!(with(23.0), "", "{before}");
        assert_eq!(with(10.0), "", "{before}");
    }
}

#[test]
fn a_pause_of_forty_ms_makes_two_keys_and_an_interruption_of_ten_none() {
    for before in 0..10 {
        let with = |pause: f64| {
            let half = Tone { ms: 45.0, ..PLAIN };
            let made = Made::new(8_000).silence(100.0 + f64::from(before) / 2.0);
            made.tone(half).silence(pause).tone(half).silence(100.0).keys()
        };
        assert_eq!(with(40.0), "55", "{before}");
        assert_eq!(with(10.0), "5", "{before}");
    }
    let fast = KEYS.iter().flatten().enumerate().fold(Made::new(8_000), |made, (at, _)| {
        made.tone(Tone { key: (at / 4, at % 4), ms: 40.0, ..PLAIN }).silence(40.0)
    });
    assert_eq!(fast.keys(), "123A456B789C*0#D");
    let without_pauses = (0..4).fold(Made::new(8_000), |made, at| {
        made.tone(Tone { key: (at, 3 - at), ms: 60.0, ..PLAIN })
    });
    assert_eq!(without_pauses.keys(), "A68*");
}

#[test]
fn noise_fifteen_db_below_is_borne_and_noise_alone_is_nothing() {
    for level in [-3.0, -10.0, -25.0] {
        for (index, key) in KEYS.iter().flatten().enumerate() {
            let tone =
                Tone { key: (index / 4, index % 4), levels: (level, level), ms: 50.0, ..PLAIN };
            let noisy = alone(tone).noise(level - 15.0);
            assert_eq!(noisy.keys(), *key, "{level} dBm0");
        }
    }
    for level in [-3.0, -20.0, -40.0] {
        assert_eq!(Made::new(8_000).silence(60_000.0).noise(level).keys(), "", "{level}");
    }
}

#[test]
fn one_tone_a_chord_and_a_square_wave_are_no_keys() {
    let high_only = Tone { levels: (-90.0, -10.0), ms: 500.0, ..PLAIN };
    assert_eq!(alone(high_only).keys(), "");
    let mut chord = Made::new(8_000).silence(50.0).tone(Tone { ms: 500.0, ..PLAIN });
    let other = Made::new(8_000).silence(50.0).tone(Tone { key: (3, 3), ms: 500.0, ..PLAIN });
    chord.pcm.iter_mut().zip(other.pcm).for_each(|(one, more)| *one += more);
    assert_eq!(chord.keys(), "", "two keys at once");
    for hz in [400, 500, 697, 770, 852, 941, 1_209] {
        let half = 4_000 / hz;
        let square = |at: usize| if (at / half) % 2 == 0 { 8_000.0 } else { -8_000.0 };
        let made = Made { pcm: (0..8_000).map(square).collect(), ..Made::new(8_000) };
        assert_eq!(made.keys(), "", "{hz}");
    }
}

#[test]
fn a_key_that_is_held_on_is_one_however_long() {
    let held = Tone { ms: 5_000.0, ..PLAIN };
    let digits = alone(held).digits();
    assert_eq!(digits.len(), 1);
    assert!((ToneDigit::ms(digits[0].length) - 5_000.0).abs() < 4.0);
}
