//! DTMF digits in sound.
//!
//! Purpose: find the tones of a key in speech, noise and codec noise, and say when it was pressed.
//! Invariants: one digit a tone of at least 31 ms; tones shorter than that, off their frequencies by
//! more than 2.5 % or with anything else as loud beside them are none; nothing is allocated.
//! Non-goals: talk-down (a key pressed while its presser speaks), other signalling tones.
//! Sources: ITU-T Q.23 (frequencies), Q.24 annex A (limits: operates within ±1.5 % and from 40 ms on,
//! does not beyond ±3.5 % and below 23 ms, twist +4/−8 dB, 0 to −25 dBm, a pause of 40 ms, an
//! interruption of 10 ms).
//!
//! ```text
//!  every 5 ms, 20 ms through a Hann window:  loudest of each group, loud enough, near enough in level,
//!                                            near enough in frequency, and nearly all there is
//!  while a key is held, 10 ms windows:       where its tones rise above half of their level and fall below
//! ```

use super::tone_bank::{READINGS_PER_S, Reading, Window, norm, tone};
use std::collections::VecDeque;

/// A key that was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToneDigit {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub digit: &'static str,
    /// When its tones began, in readings (2.5 ms) from the first.
    pub begin: f64,
    /// How long they lasted, in readings.
    pub length: f64,
}

impl ToneDigit {
    /// Readings as ms.
    #[must_use]
    pub fn ms(readings: f64) -> f64 {
        readings * 1_000.0 / f64::from(READINGS_PER_S)
    }
}

/// By low and high frequency (Q.23).
const KEYS: [[&str; 4]; 4] =
    [["1", "2", "3", "A"], ["4", "5", "6", "B"], ["7", "8", "9", "C"], ["*", "0", "#", "D"]];

const LOW: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const HIGH: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];

/// Each tone is at least this loud: -33 dBm0, where a full sine of G.711 is 3.17 dBm0.
const PEAK_MIN: f32 = 500.0;

/// High tone over low tone, as a ratio of amplitudes: +6 dB and -10 dB.
const TWIST: std::ops::RangeInclusive<f32> = 0.316..=2.0;

/// Between what Q.23's makers may be off (1.8 %) and what must be refused (3 %, NTT; 3.5 %, AT&T).
const OFF_MAX: f32 = 0.024;

/// Share of the power that is the two tones'.
const PURITY_MIN: f32 = 0.88;

/// Below this share of the nominal frequencies' own filters nothing is looked at more closely.
const GLANCE_MIN: f32 = 0.30;

/// Shorter tones are none: between 23 ms and 40 ms.
const LENGTH_MIN: f64 = 31.0 / 2.5;

/// A gap of so many readings (22.5 ms) ends a tone: between an interruption of 10 ms and a pause of 40.
const GAP: u32 = 9;

/// Weights of a Hann window over 8 and over 4 readings.
const LONG: [f32; 8] = [0.038, 0.309, 0.691, 0.962, 0.962, 0.691, 0.309, 0.038];
const SHORT: [f32; 4] = [0.146, 0.854, 0.854, 0.146];

/// A short window's middle lies so many readings before its newest reading's begin.
const SHORT_MIDDLE: f64 = 1.0;

/// Readings kept: enough to find the begin of a tone once its level is known.
const KEPT: usize = 40;

/// The level is known so many readings after a tone was noticed.
const SETTLED: u64 = 8;

/// Finds digits in readings that come one after another.
#[derive(Clone, Debug)]
pub struct DtmfTones {
    /// The newest last.
    kept: VecDeque<Reading>,
    /// Readings so far.
    count: u64,
    before: Window,
    run: Option<Run>,
}

/// A tone that may become a digit.
#[derive(Clone, Copy, Debug)]
struct Run {
    low: usize,
    high: usize,
    peaks: (f32, f32),
    noticed: u64,
    begin: Option<f64>,
    /// Where the tones last fell below half of their level.
    end: f64,
    /// Level at the reading before, as a share of the tones' level.
    share: f32,
    silent: u32,
    /// Looks that found the key.
    good: u32,
}

/// What one look found.
#[derive(Clone, Copy, Debug)]
struct Found {
    low: usize,
    high: usize,
    peaks: (f32, f32),
}

impl Default for DtmfTones {
    fn default() -> Self {
        Self { kept: VecDeque::with_capacity(KEPT), count: 0, before: Window::SILENCE, run: None }
    }
}

impl DtmfTones {
    /// Readings so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next reading; tells a digit once it is over.
    pub fn on_reading(&mut self, reading: &Reading) -> Option<ToneDigit> {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(*reading);
        self.count = self.count.saturating_add(1);
        let mut over = self.follow();
        if self.count % 2 == 0 {
            let window = Window::over(self.kept.iter().rev(), &LONG);
            let found = look(&window, &self.before);
            self.before = window;
            if let Some(found) = found {
                over = self.on_found(found).or(over);
            }
        }
        over
    }

    /// Sound is missing, or silent to its last bit, from here on: what is held is over.
    pub fn on_silence(&mut self) -> Option<ToneDigit> {
        let mut over = None;
        for _ in 0..GAP + 4 {
            if self.run.is_none() {
                break;
            }
            over = self.on_reading(&Reading::SILENCE).or(over);
        }
        self.run = None;
        self.kept.clear();
        self.before = Window::SILENCE;
        over
    }

    /// Goes on from another reading, after silence.
    pub const fn skip_to(&mut self, count: u64) {
        self.count = count;
    }

    fn on_found(&mut self, found: Found) -> Option<ToneDigit> {
        if let Some(run) = &mut self.run {
            if (run.low, run.high) == (found.low, found.high) {
                run.good = run.good.saturating_add(1);
                run.peaks = (run.peaks.0.max(found.peaks.0), run.peaks.1.max(found.peaks.1));
                return None;
            }
            if run.share >= 0.5 {
                return None;
            }
        }
        let over = self.finish();
        let Found { low, high, peaks } = found;
        let (noticed, end) = (self.count, position(self.count));
        let (begin, share, silent, good) = (None, 1.0, 0, 1);
        self.run = Some(Run { low, high, peaks, noticed, begin, end, share, silent, good });
        over
    }

    /// Follows the level of the tones that are held.
    fn follow(&mut self) -> Option<ToneDigit> {
        let run = self.run.as_ref()?;
        let window = Window::over(self.kept.iter().rev(), &SHORT);
        let share = run.share_of(&window);
        let is_settled = self.count.saturating_sub(run.noticed) >= SETTLED;
        let begin = run.begin.or_else(|| is_settled.then(|| self.begin_of(run)));
        let run = self.run.as_mut()?;
        run.begin = begin;
        if share >= 0.5 {
            (run.silent, run.end) = (0, position(self.count));
        } else {
            if run.share >= 0.5 {
                let fallen = (run.share - 0.5) / (run.share - share).max(1e-6);
                run.end = position(self.count) - 1.0 + f64::from(fallen.clamp(0.0, 1.0));
            }
            run.silent = run.silent.saturating_add(1);
        }
        run.share = share;
        if run.silent >= GAP { self.finish() } else { None }
    }

    /// Where the tones rose above half of their level, looking back from where they were noticed.
    fn begin_of(&self, run: &Run) -> f64 {
        let mut later: Option<f32> = None;
        let mut at = self.count;
        for back in 0..self.kept.len() {
            let window = Window::over(self.kept.iter().rev().skip(back), &SHORT);
            let share = run.share_of(&window);
            let is_before = at <= run.noticed.saturating_sub(2);
            if let Some(later) = later.filter(|later| *later >= 0.5 && share < 0.5 && is_before) {
                let risen = (0.5 - share) / (later - share).max(1e-6);
                return position(at) + f64::from(risen.clamp(0.0, 1.0));
            }
            later = Some(share);
            at = at.saturating_sub(1);
        }
        position(at.saturating_add(1))
    }

    fn finish(&mut self) -> Option<ToneDigit> {
        let run = self.run.take()?;
        let begin = run.begin.unwrap_or_else(|| self.begin_of(&run));
        let length = run.end - begin;
        // Looks that lie within the tone, one each other reading.
        let looks = (length - LONG.len() as f64) / 2.0;
        let is_steady = f64::from(run.good) >= (0.6 * looks).max(2.0);
        let digit = KEYS.get(run.low)?.get(run.high)?;
        (length >= LENGTH_MIN && is_steady).then_some(ToneDigit { digit, begin, length })
    }
}

impl Run {
    fn share_of(&self, window: &Window) -> f32 {
        let one = |index: usize, peak: f32| 2.0 * norm(tone(&window.tones, index)) / peak.max(1.0);
        one(self.low, self.peaks.0).min(one(self.high.saturating_add(4), self.peaks.1))
    }
}

/// The middle of the short window that ends with reading number `count`, in readings.
fn position(count: u64) -> f64 {
    count as f64 - 1.0 - SHORT_MIDDLE
}

/// One look at 20 ms of sound.
fn look(window: &Window, before: &Window) -> Option<Found> {
    let ((low, low_power), (high, high_power)) = (loudest(window, 0)?, loudest(window, 4)?);
    // A sine of peak a has the power a²/2, and a/2 in its filter.
    let glance = 2.0 * (low_power + high_power);
    if glance < GLANCE_MIN * window.power || low_power.min(high_power) * 16.0 < PEAK_MIN * PEAK_MIN
    {
        return None;
    }
    let steady = |index: usize, hz: f32| {
        let tone = window.steady(before, index, 0.005, 0.02);
        (tone.off_hz.abs() <= OFF_MAX * hz && tone.peak >= PEAK_MIN).then_some(tone.peak)
    };
    let high_at = high.saturating_add(4);
    let peaks = (steady(low, *LOW.get(low)?)?, steady(high_at, *HIGH.get(high)?)?);
    let power = 0.5 * (peaks.0 * peaks.0 + peaks.1 * peaks.1);
    let is_key = TWIST.contains(&(peaks.1 / peaks.0)) && power >= PURITY_MIN * window.power;
    is_key.then_some(Found { low, high, peaks })
}

/// The loudest of the four tones from `first` on, and the square of its amplitude.
fn loudest(window: &Window, first: usize) -> Option<(usize, f32)> {
    let power = |index: usize| {
        let (real, imaginary) = tone(&window.tones, first.saturating_add(index));
        real * real + imaginary * imaginary
    };
    let powers = (0..4).map(|index| (index, power(index)));
    powers.max_by(|one, other| one.1.total_cmp(&other.1))
}

#[cfg(test)]
#[path = "dtmf_tones_tests.rs"]
mod tests;
