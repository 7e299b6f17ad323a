//! Moves decoded samples to their place on the output's clock, without a click.
//!
//! Purpose: convert a stream's samples to the track's rate, and stretch or squeeze them by half a
//! percent at most where the sender's clock drifts, so that sound never steps.
//! Invariants: output positions are contiguous from `start_at` to the next one; with equal rates
//! and nothing to correct, samples are copied bit by bit.
//! Non-goals: where a stream should stand (see `anchor`).
//! Sources: the drift correction of any asynchronous sample-rate converter; ITU-T G.811-class
//! clocks stay below it, phones' crystals drift by up to 200 ppm.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "positions are non-negative indexes below 2^32, and whole ones are exact"
)]

use crate::codec::resample::interpolate;

/// Input samples kept before the read position, and needed after it, by the interpolator; slowing
/// down by a ratio takes as many times more.
const REACH: f64 = 16.0;

/// Correct once the error exceeds this, in seconds of sound: half of the promised ±20 ms, so that
/// jitter alone never bends sound, and 200 ppm are worked off once a minute.
const SLEW_FROM_S: f64 = 0.010;

/// Stop correcting below this.
const SLEW_TO_S: f64 = 0.000_3;

/// An ordinary correction: below what is heard as a change of pitch.
const SLEW_MAX: f64 = 0.005;

/// A correction of more than 20 ms, which would leave the promised ±20 ms, goes faster.
const SLEW_FAST: f64 = 0.03;

/// How a correction comes to rest on a whole sample.
const SLEW_LAST: f64 = 0.003;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Slew {
    None,
    /// Fraction by which output is longer than input.
    Active(f64),
    /// The same, until input and output samples fall together again.
    Settling(f64),
}

/// One stream's way onto a track.
#[derive(Debug)]
pub struct Stretcher {
    input: Vec<i16>,
    /// Index into `input` of the next output sample.
    next_in: f64,
    /// Track position of the next output sample.
    next_out: i64,
    /// Input samples per output sample.
    ratio: f64,
    output_rate_hz: f64,
    /// `REACH` at this ratio, and with the largest correction.
    reach: usize,
    slew: Slew,
}

impl Stretcher {
    /// From a decoder's rate to the track's, both in Hz and not 0.
    #[must_use]
    pub fn new(input_rate_hz: u32, output_rate_hz: u32) -> Self {
        let ratio = f64::from(input_rate_hz) / f64::from(output_rate_hz);
        let slowest = if ratio > 1.0 { ratio * (1.0 + SLEW_FAST) } else { 1.0 };
        Self {
            input: Vec::new(),
            next_in: 0.0,
            next_out: 0,
            ratio,
            reach: (REACH * slowest).ceil() as usize,
            output_rate_hz: f64::from(output_rate_hz),
            slew: Slew::None,
        }
    }

    /// Begins anew at a track position; call `flush` before.
    pub fn start_at(&mut self, position: i64) {
        self.input.clear();
        self.next_in = 0.0;
        self.next_out = position;
        self.slew = Slew::None;
    }

    /// Where the next pushed sample will stand, in track samples.
    #[must_use]
    pub fn end_position(&self) -> f64 {
        let ahead = self.input.len() as f64 - self.next_in;
        self.next_out as f64 + ahead / self.step()
    }

    /// True when a position is so near to where the sound stands that it needs no correction.
    #[must_use]
    pub fn is_near(&self, position: f64, target: f64) -> bool {
        ((position - target) / self.output_rate_hz).abs() <= SLEW_FROM_S
    }

    /// Tells where the next pushed sample *should* stand, and corrects towards it.
    pub fn steer(&mut self, target: f64) {
        let error_s = (target - self.end_position()) / self.output_rate_hz;
        let size = error_s.abs();
        self.slew = match self.slew {
            Slew::None | Slew::Settling(_) if size > SLEW_FROM_S => Slew::Active(bounded(error_s)),
            Slew::Active(_) if size > SLEW_TO_S => Slew::Active(bounded(error_s)),
            Slew::Active(by) => Slew::Settling(SLEW_LAST.copysign(by)),
            other => other,
        };
    }

    /// Appends what `samples` become to `out`, and returns the track position of its first sample.
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) -> i64 {
        out.clear();
        let from = self.next_out;
        self.input.extend_from_slice(samples);
        if self.is_plain() {
            self.copy(out);
        } else {
            self.produce(self.input.len().saturating_sub(self.reach), out);
            if self.is_plain() {
                self.copy(out);
            }
        }
        self.next_out += i64::try_from(out.len()).unwrap_or(0);
        self.trim();
        from
    }

    /// Appends what is still held back, as if silence followed.
    pub fn flush(&mut self, out: &mut Vec<i16>) -> i64 {
        out.clear();
        let from = self.next_out;
        self.produce(self.input.len(), out);
        self.next_out += i64::try_from(out.len()).unwrap_or(0);
        self.input.clear();
        self.next_in = 0.0;
        from
    }

    fn is_plain(&self) -> bool {
        self.ratio == 1.0 && self.slew == Slew::None && self.next_in.fract() == 0.0
    }

    fn step(&self) -> f64 {
        match self.slew {
            Slew::None => self.ratio,
            Slew::Active(by) | Slew::Settling(by) => self.ratio / (1.0 + by),
        }
    }

    fn copy(&mut self, out: &mut Vec<i16>) {
        let from = (self.next_in as usize).min(self.input.len());
        out.extend_from_slice(&self.input[from..]);
        self.next_in = self.input.len() as f64;
    }

    /// Makes output while the read position stays below `limit`.
    fn produce(&mut self, limit: usize, out: &mut Vec<i16>) {
        let step = self.step();
        let room = (limit as f64 - self.next_in) / step;
        if room <= 0.0 {
            return;
        }
        let mut count = room.ceil() as usize;
        let mut settled = false;
        if let (Slew::Settling(by), true) = (self.slew, self.ratio == 1.0) {
            // Each output sample moves the read position by 1/(1 + by): the fraction shrinks
            // (or grows) by that much until it reaches a whole sample.
            let fraction = self.next_in.fract();
            let away = if by > 0.0 { fraction } else { (1.0 - fraction).fract() };
            let needed = (away / (1.0 - step).abs()).round() as usize;
            if needed <= count {
                count = needed;
                settled = true;
            }
        } else if let Slew::Settling(_) = self.slew {
            self.slew = Slew::None;
        }
        let at = out.len();
        out.resize(at + count, 0);
        interpolate(&self.input, self.next_in, step, &mut out[at..]);
        self.next_in += step * count as f64;
        if settled {
            self.next_in = self.next_in.round();
            self.slew = Slew::None;
        }
    }

    fn trim(&mut self) {
        let used = (self.next_in as usize).saturating_sub(self.reach).min(self.input.len());
        if used >= 4 * self.reach {
            self.input.drain(..used);
            self.next_in -= used as f64;
        }
    }
}

fn bounded(error_s: f64) -> f64 {
    let most = if error_s.abs() > 0.020 { SLEW_FAST } else { SLEW_MAX };
    // Half a second to correct what is left.
    (error_s * 2.0).clamp(-most, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(from: usize, len: usize) -> Vec<i16> {
        (from..from + len).map(|n| (8_000.0 * (n as f64 * 0.35).sin()) as i16).collect()
    }

    #[test]
    fn without_correction_samples_are_copied_bit_by_bit() {
        let mut stretcher = Stretcher::new(8_000, 8_000);
        stretcher.start_at(1_000);
        let mut out = Vec::new();
        for packet in 0..5 {
            let samples = tone(packet * 160, 160);
            stretcher.steer(1_000.0 + packet as f64 * 160.0 + 10.0);
            let position = stretcher.push(&samples, &mut out);
            assert_eq!((position, &out), (1_000 + packet as i64 * 160, &samples));
        }
    }

    #[test]
    fn an_error_of_sixteen_milliseconds_is_worked_off_without_a_step_and_then_copied_again() {
        let mut stretcher = Stretcher::new(8_000, 8_000);
        stretcher.start_at(0);
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for packet in 0..600 {
            let target = packet as f64 * 160.0 + 128.0;
            stretcher.steer(target);
            let position = stretcher.push(&tone(packet * 160, 160), &mut out);
            assert_eq!(position, all.len() as i64);
            all.extend_from_slice(&out);
        }
        let late_by = all.len() as i64 - 600 * 160;
        assert!((124..=131).contains(&late_by), "{late_by} samples");
        assert!(stretcher.is_plain());
        // A tone of 8 000 × sin(0.35 n) changes by at most 2 800 a sample.
        let steepest = all.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max();
        assert!(steepest < Some(2_900), "{steepest:?}");
    }

    #[test]
    fn another_rate_is_converted_in_place() {
        let mut stretcher = Stretcher::new(8_000, 16_000);
        stretcher.start_at(0);
        let (mut total, mut out) = (0, Vec::new());
        for packet in 0..50 {
            assert_eq!(stretcher.push(&tone(packet * 160, 160), &mut out), total);
            total += out.len() as i64;
        }
        stretcher.flush(&mut out);
        assert_eq!(total + out.len() as i64, 50 * 320);
    }
}
