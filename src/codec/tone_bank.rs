//! How loud each tone of a signal is, 400 times a second.
//!
//! Purpose: the one pass over all samples that DTMF and fax detectors share, for the price of a few
//! multiplications a sample.
//! Invariants: allocates when the rate changes and never else; phases count from the first sample, so
//! that readings may be added over any stretch of time; silence costs nothing.
//! Non-goals: deciding what a tone means (see `dtmf_tones`, `fax_tones`).
//! Sources: ITU-T Q.23 (frequencies of push-button telephones), T.30 §4.3.1 (CNG, CED), V.21 (channel 2).
//!
//! ```text
//!  samples ─► mean of 1, 2, 3… ─► 8,000 to 15,999 a second ─► × e^(−iωt), summed over 2.5 ms ─► Reading
//! ```

/// Tones that are measured, in Hz: DTMF's low group, its high group, V.21's two, CNG, CED.
pub const TONES_HZ: [f32; TONES] = [
    697.0, 770.0, 852.0, 941.0, 1_209.0, 1_336.0, 1_477.0, 1_633.0, 1_650.0, 1_850.0, 1_100.0,
    2_100.0,
];

/// How many there are.
pub const TONES: usize = 12;

/// Readings in a second.
pub const READINGS_PER_S: u32 = 400;

/// What 2.5 ms hold of each tone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Complex amplitudes: a sine of peak *a* at the tone's frequency has the magnitude *a*/2.
    pub tones: Lanes,
    /// Mean of the squared samples.
    pub power: f32,
}

/// Real parts, then imaginary ones, so that one sample meets all of them in a few vector operations.
pub type Lanes = [f32; 2 * TONES];

/// One tone of them.
#[must_use]
pub fn tone(lanes: &Lanes, index: usize) -> (f32, f32) {
    let (real, imaginary) = lanes.split_at(TONES);
    let parts = real.get(index).zip(imaginary.get(index));
    parts.map_or((0.0, 0.0), |(real, imaginary)| (*real, *imaginary))
}

/// Below this power nothing is measured: a tenth of the quietest tones that a detector wants.
const POWER_MIN: f32 = 12_500.0;

impl Reading {
    /// Silence.
    pub const SILENCE: Self = Self { tones: [0.0; 2 * TONES], power: 0.0 };
}

/// Measures a signal of one sample rate.
#[derive(Clone, Debug)]
pub struct ToneBank {
    rate_hz: u32,
    /// Samples that are made one.
    decimation: usize,
    /// e^(−iωt) of each tone for the samples of a reading, scaled by their count.
    table: Vec<Lanes>,
    /// What a reading turns each tone's phase by, and how far it has turned.
    turn: [(f32, f32); TONES],
    phase: [(f32, f32); TONES],
}

impl ToneBank {
    /// A bank for `rate_hz`; `None` unless it is a multiple of 400 from 8,000 to 48,000.
    #[must_use]
    pub fn new(rate_hz: u32) -> Option<Self> {
        if !(8_000..=48_000).contains(&rate_hz) || rate_hz % READINGS_PER_S != 0 {
            return None;
        }
        let decimation = rate_hz / 8_000;
        if rate_hz % decimation != 0 || (rate_hz / decimation) % READINGS_PER_S != 0 {
            return None;
        }
        let rate = f64::from(rate_hz / decimation);
        let len = rate_hz / decimation / READINGS_PER_S;
        let tones = TONES_HZ.map(|hz| Tone::new(f64::from(hz), rate, decimation));
        let table = (0..len).map(|at| lanes(&tones, f64::from(at), f64::from(len))).collect();
        Some(Self {
            rate_hz,
            decimation: usize::try_from(decimation).ok()?,
            table,
            turn: tones.map(|tone| unit(-tone.radians * f64::from(len))),
            phase: [(1.0, 0.0); TONES],
        })
    }

    /// Samples per second.
    #[must_use]
    pub const fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Measures whole readings of samples; what is left over at the end is not looked at.
    pub fn read(&mut self, pcm: &[i16], mut each: impl FnMut(&Reading)) {
        let len = self.table.len().saturating_mul(self.decimation);
        for piece in pcm.chunks_exact(len.max(1)) {
            let reading = self.one(piece);
            each(&reading);
        }
    }

    fn one(&mut self, piece: &[i16]) -> Reading {
        let share = 1.0 / self.decimation as f32;
        let mean = |samples: &[i16]| samples.iter().map(|it| f32::from(*it)).sum::<f32>() * share;
        let samples = || piece.chunks_exact(self.decimation.max(1)).map(mean);
        let power = samples().map(|it| it * it).sum::<f32>() / self.table.len() as f32;
        let mut sums = [0.0; 2 * TONES];
        if power >= POWER_MIN {
            for (sample, row) in samples().zip(&self.table) {
                for (sum, factor) in sums.iter_mut().zip(row) {
                    *sum += sample * factor;
                }
            }
        }
        let mut tones: Lanes = [0.0; 2 * TONES];
        let (real, imaginary) = tones.split_at_mut(TONES);
        let outs = real.iter_mut().zip(imaginary);
        for (index, (out, (phase, turn))) in
            outs.zip(self.phase.iter_mut().zip(&self.turn)).enumerate()
        {
            (*out.0, *out.1) = times(tone(&sums, index), *phase);
            *phase = on_the_circle(times(*phase, *turn));
        }
        Reading { tones, power }
    }
}

struct Tone {
    radians: f64,
    gain: f64,
}

impl Tone {
    /// What the mean of several samples takes from the tone is given back.
    fn new(hz: f64, rate: f64, decimation: u32) -> Self {
        let radians = std::f64::consts::TAU * hz / rate;
        let parts = f64::from(decimation);
        let half = radians / 2.0 / parts;
        let gain = if decimation == 1 { 1.0 } else { (half * parts).sin() / (parts * half.sin()) };
        Self { radians, gain }
    }
}

fn lanes(tones: &[Tone; TONES], at: f64, len: f64) -> Lanes {
    let mut lanes = [0.0; 2 * TONES];
    let (real, imaginary) = lanes.split_at_mut(TONES);
    for ((real, imaginary), tone) in real.iter_mut().zip(imaginary).zip(tones) {
        let scale = 1.0 / len / tone.gain;
        let (sin, cos) = (tone.radians * at).sin_cos();
        (*real, *imaginary) = (single(cos * scale), single(-sin * scale));
    }
    lanes
}

fn unit(radians: f64) -> (f32, f32) {
    let (sin, cos) = radians.sin_cos();
    (single(cos), single(sin))
}

/// Magnitude of a complex number.
#[must_use]
pub(super) fn norm(it: (f32, f32)) -> f32 {
    (it.0 * it.0 + it.1 * it.1).sqrt()
}

/// Product of complex numbers.
#[must_use]
pub(super) fn times(one: (f32, f32), other: (f32, f32)) -> (f32, f32) {
    (one.0 * other.0 - one.1 * other.1, one.0 * other.1 + one.1 * other.0)
}

/// A number that rounding moved a little off the unit circle, put back.
fn on_the_circle(it: (f32, f32)) -> (f32, f32) {
    let scale = 1.5 - 0.5 * (it.0 * it.0 + it.1 * it.1);
    (it.0 * scale, it.1 * scale)
}

#[allow(clippy::cast_possible_truncation, reason = "a coefficient, rounded")]
const fn single(value: f64) -> f32 {
    value as f32
}

/// A stretch of readings, seen through a Hann window that is as long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Complex amplitudes, as in a [`Reading`].
    pub tones: Lanes,
    /// Mean power in it.
    pub power: f32,
}

impl Window {
    /// Silence.
    pub const SILENCE: Self = Self { tones: [0.0; 2 * TONES], power: 0.0 };

    /// Over as many readings as there are weights.
    #[must_use]
    pub fn over<'a>(readings: impl Iterator<Item = &'a Reading>, weights: &[f32]) -> Self {
        let mut window = Self::SILENCE;
        let (mut sum, mut squares) = (0.0, 0.0);
        for (reading, weight) in readings.zip(weights) {
            for (out, tone) in window.tones.iter_mut().zip(&reading.tones) {
                *out += weight * tone;
            }
            window.power += weight * weight * reading.power;
            sum += weight;
            squares += weight * weight;
        }
        if sum > 0.0 {
            window.tones.iter_mut().for_each(|it| *it /= sum);
            window.power /= squares;
        }
        window
    }

    /// One tone of it, where the window before began `apart_s` earlier.
    #[must_use]
    pub fn steady(&self, before: &Self, index: usize, apart_s: f32, long_s: f32) -> Steady {
        let (now, then) = (tone(&self.tones, index), tone(&before.tones, index));
        let (real, imaginary) = times(now, (then.0, -then.1));
        let off_hz = imaginary.atan2(real) / (std::f32::consts::TAU * apart_s);
        // What a Hann window lets through so far from its middle.
        let bins = off_hz * long_s;
        let through = hann(bins).max(0.2);
        Steady { peak: 2.0 * norm(now) / through, off_hz }
    }
}

/// A tone of nearly the frequency that was looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// Peak amplitude.
    pub peak: f32,
    /// How far off it is.
    pub off_hz: f32,
}

/// The response of a Hann window, `bins` of its length's inverse from the middle.
fn hann(bins: f32) -> f32 {
    let angle = std::f32::consts::PI * bins;
    if bins.abs() < 0.01 {
        return 1.0;
    }
    if (bins.abs() - 1.0).abs() < 0.01 {
        return 0.5;
    }
    angle.sin() / angle / (1.0 - bins * bins)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate_hz: u32, samples: u32) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / f64::from(rate_hz);
        (0..samples).map(|at| (10_000.0 * (step * f64::from(at)).cos()).round() as i16).collect()
    }

    #[test]
    fn a_tone_has_its_amplitude_and_a_steady_phase_at_every_rate() {
        for rate_hz in [8_000, 12_000, 16_000, 24_000, 32_000, 48_000] {
            let mut bank = ToneBank::new(rate_hz).expect("a rate");
            for (index, hz) in TONES_HZ.iter().enumerate() {
                let mut bank = bank.clone();
                let mut sum = (0.0, 0.0);
                let mut count = 0.0;
                bank.read(&sine(f64::from(*hz), rate_hz, rate_hz), |reading| {
                    let (real, imaginary) = tone(&reading.tones, index);
                    sum = (sum.0 + real, sum.1 + imaginary);
                    count += 1.0;
                });
                assert!((count - 400.0_f32).abs() < 0.5, "{count}");
                let amplitude = 2.0 * (sum.0 / count).hypot(sum.1 / count);
                assert!((amplitude / 10_000.0 - 1.0).abs() < 0.01, "{rate_hz} {hz}: {amplitude}");
            }
            let mut power = 0.0;
            bank.read(&sine(1_000.0, rate_hz, rate_hz / 10), |reading| power = reading.power);
            assert!((power / 5e7 - 1.0).abs() < 0.05, "{rate_hz}: {power}");
        }
    }

    #[test]
    fn rates_that_do_not_fit_have_no_bank() {
        for rate_hz in [0, 1, 7_600, 11_025, 44_100, 48_400, u32::MAX] {
            assert!(ToneBank::new(rate_hz).is_none(), "{rate_hz}");
        }
    }
}
