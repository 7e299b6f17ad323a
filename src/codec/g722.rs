//! G.722 at 64 kbit/s (mode 1): wide-band speech in two sub-bands, two samples an octet.
//!
//! Purpose: decode the payload of RTP payload type 9 to 16 kHz.
//! Invariants: bit-exact arithmetic of the Recommendation's 16-bit operators; any octet decodes.
//! Non-goals: encoding, the 56 and 48 kbit/s modes, and loss concealment (Appendices III and IV).
//! Sources: ITU-T G.722 (09/2012) §4–§6, block and table names as there; RFC 3551 §4.5.2 (the RTP
//! clock is 8 000 Hz although 16 000 samples a second come out).
//!
//! ```text
//! octet:  IH (2 bits, higher band) | IL (6 bits, lower band)
//! IL ─► INVQBL ─► + predictor ─► RL ┐
//!                                   ├─► receive QMF ─► two samples
//! IH ─► INVQAH ─► + predictor ─► RH ┘
//! ```

use super::error::CodecError;

/// Decodes one stream; its predictors carry over from payload to payload.
#[derive(Clone, Debug)]
pub struct G722Decoder {
    lower: Band,
    higher: Band,
    /// XD and XS of the receive QMF: differences and sums, newest first.
    differences: [i32; QMF_TAPS],
    sums: [i32; QMF_TAPS],
}

impl Default for G722Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl G722Decoder {
    /// In the reset state of the Recommendation.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lower: Band::new(32),
            higher: Band::new(8),
            differences: [0; QMF_TAPS],
            sums: [0; QMF_TAPS],
        }
    }

    /// Decodes one payload and returns how many samples it wrote: two an octet, at 16 kHz.
    ///
    /// # Errors
    /// `FrameTooLong` if they do not fit `pcm`; nothing has been written or changed.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        let samples = payload.len().saturating_mul(2);
        let pcm = pcm.get_mut(..samples).ok_or(CodecError::FrameTooLong)?;
        for (pair, octet) in pcm.chunks_exact_mut(2).zip(payload) {
            let lower = self.lower_band(octet & 0x3f);
            let higher = self.higher_band(octet >> 6);
            if let [first, second] = pair {
                [*first, *second] = self.receive_qmf(lower, higher);
            }
        }
        Ok(samples)
    }

    /// One sample of the lower band from its 6-bit code.
    fn lower_band(&mut self, code: u8) -> i32 {
        let code_4 = code >> 2;
        // INVQBL, RECONL, LIMIT: what is heard uses all six bits …
        let fine = scale(self.lower.step, pick(&QM6, code));
        let heard = clip(self.lower.prediction + fine, 16_384);
        // … INVQAL: and the predictor the upper four, so that both ends may drop the others.
        let coarse = scale(self.lower.step, pick(&QM4, code_4));
        self.lower.adapt_step(pick(&WL, pick(&RL42, code_4)), 18_432, 8);
        self.lower.predict(coarse);
        heard
    }

    /// One sample of the higher band from its 2-bit code.
    fn higher_band(&mut self, code: u8) -> i32 {
        let difference = scale(self.higher.step, pick(&QM2, code));
        let heard = clip(self.higher.prediction + difference, 16_384);
        self.higher.adapt_step(pick(&WH, pick(&RH2, code)), 22_528, 10);
        self.higher.predict(difference);
        heard
    }

    /// Block RECA to ACCUMD (§4.4): two samples from one of each band.
    fn receive_qmf(&mut self, lower: i32, higher: i32) -> [i16; 2] {
        push(&mut self.differences, lower - higher);
        push(&mut self.sums, lower + higher);
        let first = dot(&self.differences, QMF_EVEN.iter());
        let second = dot(&self.sums, QMF_EVEN.iter().rev());
        [super::sample::saturate(first >> 11), super::sample::saturate(second >> 11)]
    }
}

/// One sub-band's adaptive quantizer and predictor (§6.2.1.3–§6.2.1.5, block 4).
#[derive(Clone, Debug)]
struct Band {
    /// DET: the quantizer's scale factor.
    step: i32,
    /// NB: its logarithm.
    log_step: i32,
    /// S: what the predictor expects next.
    prediction: i32,
    /// SZ: the zero section's part of it.
    zero_prediction: i32,
    /// R: the last two reconstructed signals, newest first.
    signals: [i32; 2],
    /// P: the signs' sources, the last two partially reconstructed signals.
    partials: [i32; 2],
    /// A: pole coefficients.
    poles: [i32; 2],
    /// D: the last six differences, newest first.
    differences: [i32; 6],
    /// B: zero coefficients.
    zeros: [i32; 6],
}

impl Band {
    const fn new(step: i32) -> Self {
        Self {
            step,
            log_step: 0,
            prediction: 0,
            zero_prediction: 0,
            signals: [0; 2],
            partials: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            zeros: [0; 6],
        }
    }

    /// LOGSCL or LOGSCH, then SCALEL or SCALEH.
    fn adapt_step(&mut self, weight: i32, log_max: i32, shift_base: i32) {
        self.log_step = (((self.log_step * 127) >> 7) + weight).clamp(0, log_max);
        let mantissa = ILB.get(index((self.log_step >> 6) & 31)).copied().unwrap_or(0);
        let shift = shift_base - (self.log_step >> 11);
        self.step = if shift < 0 { mantissa << -shift } else { mantissa >> shift } << 2;
    }

    /// RECONS, PARREC, UPPOL2, UPPOL1, UPZERO, DELAYA, FILTEP, FILTEZ and PREDIC.
    fn predict(&mut self, difference: i32) {
        let signal = saturate(self.prediction + difference);
        let partial = saturate(self.zero_prediction + difference);
        self.update_poles(partial);
        self.update_zeros(difference);

        let [newest, _] = self.signals;
        self.signals = [signal, newest];
        let [newest_partial, _] = self.partials;
        self.partials = [partial, newest_partial];
        self.differences.rotate_right(1);
        let [newest_difference, ..] = &mut self.differences;
        *newest_difference = difference;

        let [pole_1, pole_2] = self.poles;
        let pole_prediction =
            saturate(scale(pole_1, saturate(2 * signal)) + scale(pole_2, saturate(2 * newest)));
        let zero_prediction = self
            .zeros
            .iter()
            .zip(&self.differences)
            .map(|(zero, difference)| scale(*zero, saturate(2 * difference)))
            .sum();
        self.zero_prediction = saturate(zero_prediction);
        self.prediction = saturate(pole_prediction + self.zero_prediction);
    }

    /// UPPOL2 and UPPOL1: the poles follow the signs, and stay where the filter is stable.
    fn update_poles(&mut self, partial: i32) {
        let [pole_1, pole_2] = self.poles;
        let [partial_1, partial_2] = self.partials;
        let same_1 = (partial < 0) == (partial_1 < 0);
        let same_2 = (partial < 0) == (partial_2 < 0);
        let feedback = saturate(4 * pole_1);
        let feedback = if same_1 { (-feedback).min(32_767) } else { feedback };
        let sign_step = if same_2 { 128 } else { -128 };
        let second = sign_step + (feedback >> 7) + scale(pole_2, 32_512);
        let second = second.clamp(-12_288, 12_288);
        let sign_step = if same_1 { 192 } else { -192 };
        let limit = saturate(15_360 - second);
        let first = saturate(sign_step + scale(pole_1, 32_640)).clamp(-limit, limit);
        self.poles = [first, second];
    }

    /// UPZERO.
    fn update_zeros(&mut self, difference: i32) {
        let gain = if difference == 0 { 0 } else { 128 };
        for (zero, past) in self.zeros.iter_mut().zip(&self.differences) {
            let same = (*past < 0) == (difference < 0);
            let sign_step = if same { gain } else { -gain };
            *zero = saturate(sign_step + scale(*zero, 32_640));
        }
    }
}

/// Product of two Q15 numbers, as one.
const fn scale(left: i32, right: i32) -> i32 {
    (left * right) >> 15
}

fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// LIMIT of §6.2.1.6: 15 bits.
fn clip(value: i32, end: i32) -> i32 {
    value.clamp(-end, end - 1)
}

fn index(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}

/// An entry of a table by a code that is shorter than the table.
fn pick<T: Copy + Default>(table: &[T], code: u8) -> T {
    table.get(usize::from(code)).copied().unwrap_or_default()
}

fn push(line: &mut [i32; QMF_TAPS], value: i32) {
    line.rotate_right(1);
    let [newest, ..] = line;
    *newest = value;
}

fn dot<'a>(line: &[i32; QMF_TAPS], taps: impl Iterator<Item = &'a i32>) -> i32 {
    line.iter().zip(taps).map(|(value, tap)| value * tap).sum()
}

/// Taps of one phase of the QMF.
const QMF_TAPS: usize = 12;

/// Even-numbered coefficients of the 24-tap QMF; the odd ones are the same backwards.
const QMF_EVEN: [i32; QMF_TAPS] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Outputs of the 2-bit inverse quantizer.
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];

/// Outputs of the 4-bit inverse quantizer.
const QM4: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584,
    1200, 0,
];

/// Outputs of the 6-bit inverse quantizer.
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232,
    -9360, -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776,
    -2400, -2032, -1688, -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280,
    11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776,
    2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];

/// From the 4-bit code to the index of its step weight.
const RL42: [u8; 16] = [0, 7, 6, 5, 4, 3, 2, 1, 7, 6, 5, 4, 3, 2, 1, 0];
/// Step weights of the lower band.
const WL: [i32; 8] = [-60, -30, 58, 172, 334, 538, 1198, 3042];
/// From the 2-bit code to the index of its step weight.
const RH2: [u8; 4] = [2, 1, 2, 1];
/// Step weights of the higher band.
const WH: [i32; 3] = [0, -214, 798];

/// 2048 · 2^(n/32): the logarithm's mantissa.
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
