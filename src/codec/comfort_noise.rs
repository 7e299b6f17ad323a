//! Comfort noise: what a silent phone sends in place of speech, made audible again.
//!
//! Purpose: level and colour from a payload of type 13 (or CN), and noise that has both.
//! Invariants: deterministic; the same seed and payloads give the same samples.
//! Non-goals: hiding gaps; noise is made only where the sender said so.
//! Sources: RFC 3389 §3 (payload, level, reflection coefficients), §5.2 (synthesis).
//!
//! ```text
//! |0|   level   |  N1  |  N2  |  …        level in −dBov, k = (N − 127) / 128
//! ```

use super::sample::round_to_sample;

/// Reflection coefficients used; RFC 3389 sets no limit, ten is what it calls adequate.
const ORDER_MAX: usize = 16;

/// One comfort noise payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComfortNoise {
    /// Below the overload point, in dB: 0–127. A square wave of ±32 768 has 0.
    pub level_minus_dbov: u8,
    /// Reflection coefficients, −1 < k < 1; those that were not sent are 0.
    reflection: [f32; ORDER_MAX],
}

impl ComfortNoise {
    /// Reads a payload: a level, and coefficients as far as sent (at most 16 are used).
    ///
    /// `None` if it is empty.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (level, coefficients) = payload.split_first()?;
        let mut reflection = [0.0; ORDER_MAX];
        for (slot, byte) in reflection.iter_mut().zip(coefficients) {
            // 255 would be k = 1, on the edge of stability (§3.2 says it is not used).
            *slot = ((f32::from(*byte) - 127.0) / 128.0).clamp(-0.992_187_5, 0.992_187_5);
        }
        Some(Self { level_minus_dbov: level & 0x7f, reflection })
    }

    /// Root mean square of the noise, in sample units.
    #[must_use]
    pub fn rms(&self) -> f32 {
        /// 10^(−1/20): one decibel less.
        const DECIBEL_DOWN: f32 = 0.891_250_94;
        (0..self.level_minus_dbov).fold(32_768.0, |rms, _| rms * DECIBEL_DOWN)
    }
}

/// Makes noise; one for each stream.
#[derive(Clone, Debug)]
pub struct NoiseGenerator {
    state: u64,
    /// Backward signals of the lattice filter, one a coefficient.
    backward: [f32; ORDER_MAX],
}

impl NoiseGenerator {
    /// The seed may be any number; the SSRC will do.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, backward: [0.0; ORDER_MAX] }
    }

    /// Fills `pcm` with noise of that level and colour, going on where the last fill ended.
    pub fn fill(&mut self, noise: &ComfortNoise, pcm: &mut [i16]) {
        // A lattice of these coefficients raises the power by 1 / Π(1 − k²), so start that much
        // lower; uniform noise in ±√3 has an RMS of 1.
        let lowered: f32 = noise.reflection.iter().map(|k| 1.0 - k * k).product();
        let gain = noise.rms() * (3.0 * lowered).sqrt();
        for sample in pcm {
            let excitation = gain * self.uniform();
            *sample = round_to_sample(self.synthesize(&noise.reflection, excitation));
        }
    }

    /// All-pole lattice, from the highest coefficient to the first.
    fn synthesize(&mut self, reflection: &[f32; ORDER_MAX], excitation: f32) -> f32 {
        let mut forward = excitation;
        let mut above: Option<&mut f32> = None;
        for (k, backward) in reflection.iter().zip(&mut self.backward).rev() {
            forward -= k * *backward;
            if let Some(above) = above.take() {
                *above = *backward + k * forward;
            }
            above = Some(backward);
        }
        if let Some(lowest) = above {
            *lowest = forward;
        }
        forward
    }

    /// −1 to 1, by xorshift64* (Vigna 2014).
    fn uniform(&mut self) -> f32 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        if self.state == 0 {
            self.state = 1;
        }
        let [high, low, ..] = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        (f32::from(u16::from_be_bytes([high, low])) - 32_767.5) / 32_767.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rms(pcm: &[i16]) -> f64 {
        let sum: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (sum / pcm.len() as f64).sqrt()
    }

    fn noise(payload: &[u8]) -> Vec<i16> {
        let mut pcm = vec![0; 80_000];
        NoiseGenerator::new(7).fill(&ComfortNoise::parse(payload).expect("not empty"), &mut pcm);
        pcm
    }

    #[test]
    fn the_level_is_what_was_sent_whatever_the_colour() {
        for payload in [&[30][..], &[30, 127], &[30, 200, 90], &[30, 40], &[0x9e, 220, 60, 140]] {
            let wanted = 32_768.0 * 10f64.powf(-1.5);
            let level = rms(&noise(payload));
            assert!((level / wanted - 1.0).abs() < 0.05, "{payload:?}: {level} for {wanted}");
        }
    }

    #[test]
    fn a_negative_first_coefficient_makes_neighbours_alike() {
        // k1 = −0.5: the signal's correlation with itself one sample later is +0.5.
        let pcm = noise(&[20, 63]);
        let product: f64 = pcm.windows(2).map(|pair| f64::from(pair[0]) * f64::from(pair[1])).sum();
        let correlation = product / (pcm.len() as f64 * rms(&pcm).powi(2));
        assert!((correlation - 0.5).abs() < 0.03, "{correlation}");
    }

    #[test]
    fn the_quietest_is_digital_silence_and_the_loudest_does_not_wrap() {
        assert!(noise(&[127]).iter().all(|sample| *sample == 0));
        let loud = noise(&[0, 255, 255, 255]);
        assert!(rms(&loud) > 3_000.0);
    }

    #[test]
    fn the_same_seed_gives_the_same_noise_and_an_empty_payload_none() {
        assert_eq!(noise(&[40, 100]), noise(&[40, 100]));
        assert_eq!(ComfortNoise::parse(&[]), None);
        let mut zero_state = NoiseGenerator::new(0x9e37_79b9_7f4a_7c15);
        let mut pcm = [0; 100];
        zero_state.fill(&ComfortNoise::parse(&[20]).expect("level"), &mut pcm);
        assert!(rms(&pcm) > 100.0);
    }
}
