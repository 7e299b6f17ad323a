//! Changes the sample rate, by fixed ratios and by the slow drift of a phone's clock.
//!
//! Purpose: sample a 16-bit signal at any evenly spaced instants, between its samples too.
//! Invariants: a pure function of its arguments; whole positions at step 1 copy bit by bit.
//! Non-goals: streaming state; the caller keeps 16 samples (16 × step, when slowing down) before and
//! after what it wants.
//! Sources: Smith, "Digital Audio Resampling" (CCRMA); Kaiser 1974 (window).
//!
//! ```text
//! out[i] = Σ input[n] · h(start + i · step − n),  h = sinc × Kaiser, 32 taps wide
//! ```
//!
//! Slowing down (`step` > 1) stretches `h`, so that what the new rate cannot hold is cut off. The
//! cut-off is the lower Nyquist frequency: flat to 0.88 of it, 60 dB down from 1.12 of it on.

use std::sync::LazyLock;

use super::sample::round_to_sample;

/// Taps of the kernel at step 1.
const TAPS: usize = 32;
/// Half of them, as a position.
const HALF_TAPS: f64 = 16.0;
/// Kernel positions a sample; between them the kernel is interpolated linearly.
const PHASES: usize = 256;
/// [`PHASES`], as a position.
const PHASES_F64: f64 = 256.0;
/// Kaiser's shape for 60 dB: 0.1102 (60 − 8.7).
const KAISER_BETA: f64 = 5.65;
/// Steps up to this are clock drift, for which the kernel is not stretched.
const DRIFT_STEP_MAX: f64 = 1.02;

/// Samples on either side that a result at step ≤ 1 depends on.
pub const REACH_SAMPLES: usize = TAPS / 2;

/// Fills `out` with `input` sampled at `start`, `start + step`, and so on.
///
/// - `input`: the signal; outside of it zeros are assumed.
/// - `start`: index of `out`'s first sample in `input`, may be fractional and outside.
/// - `step`: input samples an output sample, 0 < step ≤ 64; anything else gives silence.
pub fn interpolate(input: &[i16], start: f64, step: f64, out: &mut [i16]) {
    if !(start.is_finite() && step > 0.0 && step <= 64.0) {
        out.fill(0);
    } else if is_one(step) && start.fract().abs() < f64::EPSILON {
        copy(input, start, out);
    } else if step <= DRIFT_STEP_MAX {
        let mut count = 0.0;
        for sample in out {
            *sample = between(input, start + count * step);
            count += 1.0;
        }
    } else {
        let mut count = 0.0;
        for sample in out {
            *sample = stretched(input, start + count * step, step);
            count += 1.0;
        }
    }
}

fn is_one(step: f64) -> bool {
    (step - 1.0).abs() < f64::EPSILON
}

fn copy(input: &[i16], start: f64, out: &mut [i16]) {
    let mut position = whole(start);
    for sample in out {
        *sample = usize::try_from(position).ok().and_then(|n| input.get(n)).copied().unwrap_or(0);
        position = position.saturating_add(1);
    }
}

/// One sample with the kernel as tabled: two rows of taps, mixed.
fn between(input: &[i16], position: f64) -> i16 {
    let floor = position.floor();
    let phase = (position - floor) * PHASES_F64;
    let row = usize::try_from(whole(phase)).unwrap_or(0).min(PHASES.saturating_sub(1));
    let mix = narrow(phase - phase.floor());
    let (Some(lower), Some(upper)) = (KERNEL.rows.get(row), KERNEL.rows.get(row.saturating_add(1)))
    else {
        return 0;
    };
    let first = whole(floor).saturating_sub(15);
    let mut gathered = [0i16; TAPS];
    let inside = usize::try_from(first).ok().and_then(|n| input.get(n..n.saturating_add(TAPS)));
    let taps = if let Some(taps) = inside {
        taps
    } else {
        copy(input, floor - (HALF_TAPS - 1.0), &mut gathered);
        &gathered
    };
    let (mut low_sum, mut high_sum) = (0.0f32, 0.0f32);
    for ((tap, low), high) in taps.iter().zip(lower).zip(upper) {
        let value = f32::from(*tap);
        low_sum += value * low;
        high_sum += value * high;
    }
    round_to_sample(low_sum + mix * (high_sum - low_sum))
}

/// One sample with the kernel stretched by `step`; its weights are made to sum to 1.
fn stretched(input: &[i16], position: f64, step: f64) -> i16 {
    let reach = HALF_TAPS * step;
    // Far outside there is only silence (and so far that `tap + 1.0` is `tap`, no end).
    if position < -reach || position > input.len() as f64 + reach {
        return 0;
    }
    let mut tap = (position - reach).ceil();
    let (mut sum, mut weights) = (0.0f64, 0.0f64);
    while tap <= position + reach {
        let weight = KERNEL.at((tap - position).abs() / step);
        let value = usize::try_from(whole(tap)).ok().and_then(|n| input.get(n)).copied();
        sum += weight * f64::from(value.unwrap_or(0));
        weights += weight;
        tap += 1.0;
    }
    if weights > 0.0 { round_to_sample(narrow(sum / weights)) } else { 0 }
}

/// The kernel, tabled.
struct Kernel {
    /// Row p, tap n: h(n − 15 − p / 256); one row more than phases, for mixing.
    rows: Vec<[f32; TAPS]>,
    /// h at 0, 1/256, … 16.
    half: Vec<f64>,
}

static KERNEL: LazyLock<Kernel> = LazyLock::new(Kernel::new);

impl Kernel {
    fn new() -> Self {
        let mut half = Vec::new();
        let mut distance = 0.0;
        while distance <= HALF_TAPS {
            half.push(windowed_sinc(distance));
            distance += 1.0 / PHASES_F64;
        }
        let mut rows = Vec::new();
        let mut phase = 0.0;
        while phase <= 1.0 {
            let mut row = [0.0f64; TAPS];
            let mut offset = -(HALF_TAPS - 1.0) - phase;
            for tap in &mut row {
                *tap = windowed_sinc(offset);
                offset += 1.0;
            }
            // A constant stays exactly what it was at every phase.
            let sum: f64 = row.iter().sum();
            rows.push(row.map(|tap| narrow(tap / sum)));
            phase += 1.0 / PHASES_F64;
        }
        Self { rows, half }
    }

    /// h at a distance ≥ 0.
    fn at(&self, distance: f64) -> f64 {
        let place = distance * PHASES_F64;
        let index = usize::try_from(whole(place)).unwrap_or(usize::MAX);
        let low = self.half.get(index).copied().unwrap_or(0.0);
        let high = self.half.get(index.saturating_add(1)).copied().unwrap_or(0.0);
        low + (high - low) * place.fract()
    }
}

fn windowed_sinc(distance: f64) -> f64 {
    let along = distance / HALF_TAPS;
    if along.abs() >= 1.0 {
        return 0.0;
    }
    if distance.abs() < 1e-12 {
        return 1.0;
    }
    if distance.fract().abs() < 1e-12 {
        return 0.0;
    }
    let angle = std::f64::consts::PI * distance;
    let window = bessel_i0(KAISER_BETA * (1.0 - along * along).sqrt()) / bessel_i0(KAISER_BETA);
    angle.sin() / angle * window
}

/// Modified Bessel function of the first kind, order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut term, mut sum, mut n) = (1.0, 1.0, 1.0);
    while term > 1e-16 * sum {
        term *= quarter / (n * n);
        sum += term;
        n += 1.0;
    }
    sum
}

/// The whole part; out of range it saturates, and no number becomes 0.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> i64 {
    value as i64 // tidy: lossless because whatever does not fit saturates, which is what is wanted
}

/// To single precision.
#[allow(clippy::cast_possible_truncation)]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Of test signals.
mod tests {
    use super::*;

    fn tone(frequency_hz: f64, rate_hz: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| {
                let angle = std::f64::consts::TAU * frequency_hz * n as f64 / rate_hz;
                (10_000.0 * angle.sin()).round() as i16
            })
            .collect()
    }

    fn rms(pcm: &[i16]) -> f64 {
        let sum: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (sum / pcm.len() as f64).sqrt()
    }

    /// Decibels by which `out` differs from the tone it should be, edges left out.
    fn error_db(out: &[i16], frequency_hz: f64, rate_hz: f64) -> f64 {
        let edge = out.len() / 10;
        let ideal = tone(frequency_hz, rate_hz, out.len());
        let error: Vec<i16> = out.iter().zip(&ideal).map(|(a, b)| a - b).collect();
        20.0 * (rms(&error[edge..out.len() - edge]) / rms(&ideal)).log10()
    }

    #[test]
    fn whole_positions_at_step_one_are_a_copy_with_zeros_around() {
        let input = [5, -6, 7];
        let mut out = [1; 7];
        interpolate(&input, -2.0, 1.0, &mut out);
        assert_eq!(out, [0, 0, 5, -6, 7, 0, 0]);
    }

    #[test]
    fn tones_keep_their_shape_at_every_ratio_used() {
        for (from, to) in [
            (8e3, 16e3),
            (8e3, 48e3),
            (16e3, 48e3),
            (44.1e3, 48e3),
            (48e3, 16e3),
            (48e3, 8e3),
            (16e3, 8e3),
        ] {
            for frequency_hz in [300.0, 1_000.0, 3_300.0] {
                let input = tone(frequency_hz, from, from as usize / 4);
                let mut out = vec![0; to as usize / 4];
                interpolate(&input, 0.0, from / to, &mut out);
                let error = error_db(&out, frequency_hz, to);
                assert!(error < -50.0, "{frequency_hz} Hz, {from} to {to}: {error} dB");
            }
        }
    }

    #[test]
    fn slow_drift_keeps_the_shape_too() {
        for step in [0.995, 0.9999, 1.0001, 1.005] {
            let input = tone(1_000.0, 8_000.0, 4_000);
            let mut out = vec![0; 3_900];
            interpolate(&input, 0.0, step, &mut out);
            let error = error_db(&out, 1_000.0 * step, 8_000.0);
            assert!(error < -55.0, "step {step}: {error} dB");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_cut_off() {
        for frequency_hz in [4_600.0, 6_000.0, 20_000.0] {
            let input = tone(frequency_hz, 48_000.0, 24_000);
            let mut out = vec![0; 4_000];
            interpolate(&input, 0.0, 6.0, &mut out);
            let level = 20.0 * (rms(&out[400..3_600]) / rms(&input)).log10();
            assert!(level < -55.0, "{frequency_hz} Hz: {level} dB");
        }
    }

    #[test]
    fn pieces_join_without_a_seam() {
        let input = tone(700.0, 8_000.0, 1_000);
        let (mut whole, mut parts) = ([0; 600], [0; 600]);
        interpolate(&input, 100.25, 1.001, &mut whole);
        let (head, tail) = parts.split_at_mut(256);
        interpolate(&input, 100.25, 1.001, head);
        interpolate(&input, 100.25 + 256.0 * 1.001, 1.001, tail);
        let seam = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).max();
        assert!(seam <= Some(1));
    }

    #[test]
    fn a_constant_stays_a_constant_and_full_scale_does_not_wrap() {
        let input = [i16::MAX; 200];
        let mut out = [0; 100];
        for step in [0.5, 1.003, 1.5] {
            interpolate(&input, 20.3, step, &mut out);
            assert!(out.iter().all(|sample| *sample >= 32_700), "step {step}");
        }
    }

    #[test]
    fn nonsense_is_silence() {
        let mut out = [1; 4];
        for (start, step) in [
            (f64::NAN, 1.0),
            (0.0, f64::NAN),
            (0.0, 0.0),
            (0.0, -1.0),
            (0.0, 1e9),
            (f64::INFINITY, 1.0),
            (1e300, 1.5),
            (-1e300, 0.5),
        ] {
            out.fill(1);
            interpolate(&[100; 64], start, step, &mut out);
            assert_eq!(out, [0; 4], "{start} {step}");
        }
        interpolate(&[], 0.0, 1.0, &mut out);
        assert_eq!(out, [0; 4]);
    }
}
