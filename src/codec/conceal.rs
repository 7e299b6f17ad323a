//! Fills short losses with what the voice was doing: repeats its last pitch periods, and fades.
//!
//! Purpose: make a lost packet less of a hole, for coders without a concealment of their own.
//! Invariants: nothing later than [`CONCEALED_MS_MAX`] after the last sound is made; real samples are
//! changed only in the first [`JOIN_MS`] after a loss, where both are cross-faded; nothing allocates
//! once the history is full.
//! Non-goals: where losses are (see `media::placement`), Opus (libopus conceals itself).
//! Sources: ITU-T G.711 Appendix I (pitch by normalised cross-correlation, one to three periods, 20 %
//! less each 10 ms after the first), written from its description, for any sample rate. Unlike there,
//! the output is not delayed by 3.75 ms: the sound before a loss is already placed, so the first
//! period is bent towards its last sample instead.

use super::sample::round_to_sample;

/// Milliseconds after which a loss is silent.
pub const CONCEALED_MS_MAX: usize = 60;

/// Milliseconds over which concealed sound gives way to real sound.
pub const JOIN_MS: usize = 4;

/// Milliseconds of the shortest and the longest pitch period: 200 Hz to 66 Hz.
const PITCH_MS: (usize, usize) = (5, 15);

/// Milliseconds compared to find it.
const WINDOW_MS: usize = 20;

/// Milliseconds kept of what was heard: three of the longest periods, and a quarter for the seam.
const HISTORY_MS: usize = 50;

/// Milliseconds at full level, and until silence.
const FADE_MS: (f32, f32) = (10.0, 60.0);

/// What was heard of one stream, for when it stops.
#[derive(Debug)]
pub struct Concealer {
    per_ms: usize,
    history: Vec<i16>,
    /// The last pitch periods, their end bent to lead into their beginning.
    cycle: Vec<f32>,
    /// Where the next made sample stands in the cycle.
    at: usize,
    /// Pitch period, in samples.
    period: usize,
    /// Samples made since the last real one.
    made: usize,
    /// How far the last real sample was from where the cycle begins.
    step: f32,
}

impl Concealer {
    /// For samples of a rate, a multiple of 1 000 Hz or near it.
    #[must_use]
    pub fn new(sample_rate_hz: u32) -> Self {
        let per_ms = usize::try_from(sample_rate_hz / 1_000).unwrap_or(8).max(1);
        Self {
            per_ms,
            history: Vec::new(),
            cycle: Vec::new(),
            at: 0,
            period: 0,
            made: 0,
            step: 0.0,
        }
    }

    /// Samples that may still be made before the loss is silent.
    #[must_use]
    pub const fn room(&self) -> usize {
        (CONCEALED_MS_MAX.saturating_mul(self.per_ms)).saturating_sub(self.made)
    }

    /// Takes real sound. What follows a loss directly is cross-faded with what would have gone on.
    pub fn hear(&mut self, pcm: &mut [i16]) {
        if self.made > 0 && self.room() > 0 {
            let len = JOIN_MS.saturating_mul(self.per_ms).min(pcm.len());
            for (number, sample) in pcm.iter_mut().take(len).enumerate() {
                let weight = (number as f32 + 0.5) / len as f32;
                let mixed = f32::from(*sample) * weight + self.next() * (1.0 - weight);
                *sample = round_to_sample(mixed);
            }
        }
        self.made = 0;
        let kept = HISTORY_MS.saturating_mul(self.per_ms);
        let new = pcm.get(pcm.len().saturating_sub(kept)..).unwrap_or_default();
        let excess = self.history.len().saturating_add(new.len()).saturating_sub(kept);
        self.history.drain(..excess.min(self.history.len()));
        self.history.extend_from_slice(new);
    }

    /// Appends at most `samples` of what would have gone on, up to [`CONCEALED_MS_MAX`] after the last
    /// real sound; returns how many.
    pub fn fill(&mut self, samples: usize, out: &mut Vec<i16>) -> usize {
        if self.made == 0 && !self.begin() {
            return 0;
        }
        let count = samples.min(self.room());
        for _ in 0..count {
            let sample = self.next();
            out.push(round_to_sample(sample));
        }
        count
    }

    /// Forgets what was heard: what follows is another sound.
    pub fn forget(&mut self) {
        self.history.clear();
        self.made = 0;
    }

    /// Finds the pitch; false where there is too little to find it in.
    fn begin(&mut self) -> bool {
        let Some(period) = self.pitch() else { return false };
        self.period = period;
        self.take_cycle(1);
        let last = self.history.last().copied().unwrap_or(0);
        let before = self.history.len().checked_sub(period.saturating_add(1));
        let matching = before.and_then(|at| self.history.get(at)).copied().unwrap_or(last);
        self.step = f32::from(last) - f32::from(matching);
        self.at = 0;
        true
    }

    /// The lag at which the last 20 ms are most like what was before them.
    fn pitch(&self) -> Option<usize> {
        let (shortest, longest) = (PITCH_MS.0 * self.per_ms, PITCH_MS.1 * self.per_ms);
        let window = WINDOW_MS * self.per_ms;
        if self.history.len() < window.saturating_add(longest) {
            return None;
        }
        // Coarse at 4 kHz, then every lag near the best.
        let stride = (self.per_ms / 4).max(1);
        let coarse = (shortest..=longest).step_by(stride);
        let best = self.most_alike(coarse, window, stride)?;
        let fine =
            best.saturating_sub(stride).max(shortest)..=best.saturating_add(stride).min(longest);
        self.most_alike(fine, window, (stride / 2).max(1))
    }

    fn most_alike(
        &self,
        lags: impl Iterator<Item = usize>,
        window: usize,
        stride: usize,
    ) -> Option<usize> {
        let end = self.history.len();
        let recent = self.history.get(end.checked_sub(window)?..)?;
        let scored = lags.filter_map(|lag| {
            let from = end.checked_sub(window.saturating_add(lag))?;
            let earlier = self.history.get(from..from.saturating_add(window))?;
            let (mut product, mut energy) = (0.0f32, 1.0f32);
            for (x, y) in recent.iter().step_by(stride).zip(earlier.iter().step_by(stride)) {
                let (x, y) = (f32::from(*x), f32::from(*y));
                product += x * y;
                energy += y * y;
            }
            Some((product / energy.sqrt(), lag))
        });
        scored.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, lag)| lag)
    }

    /// Copies the last periods; the last quarter of them fades into what led up to their first sample.
    fn take_cycle(&mut self, periods: usize) {
        let len = self.period.saturating_mul(periods).min(self.history.len());
        let from = self.history.len().saturating_sub(len);
        let seam = (self.period / 4).min(from).max(1);
        self.cycle.clear();
        self.cycle.extend(self.history.iter().skip(from).map(|sample| f32::from(*sample)));
        let lead = self.history.iter().take(from).skip(from.saturating_sub(seam));
        let tail = self.cycle.iter_mut().skip(len.saturating_sub(seam));
        for (number, (sample, led)) in tail.zip(lead).enumerate() {
            let weight = (number as f32 + 1.0) / seam as f32;
            *sample += (f32::from(*led) - *sample) * weight;
        }
    }

    fn next(&mut self) -> f32 {
        let step_samples = (self.period / 4).max(1);
        let (level_ms, silent_ms) = FADE_MS;
        let at_ms = self.made as f32 / self.per_ms as f32;
        let gain = ((silent_ms - at_ms) / (silent_ms - level_ms)).clamp(0.0, 1.0);
        // A longer cycle after 10 and 20 ms, so that it does not sound like a buzzer.
        let ten_ms = 10 * self.per_ms;
        if self.made == ten_ms || self.made == 2 * ten_ms {
            let periods = 1 + self.made / ten_ms;
            let phase = self.at % self.period.max(1);
            self.take_cycle(periods);
            self.at = self.cycle.len().saturating_sub(self.period).saturating_add(phase);
        }
        if self.at >= self.cycle.len() {
            self.at = 0;
        }
        let mut sample = self.cycle.get(self.at).copied().unwrap_or(0.0);
        if self.made < step_samples {
            sample += self.step * (1.0 - (self.made as f32 + 1.0) / step_samples as f32);
        }
        self.at = self.at.saturating_add(1);
        self.made = self.made.saturating_add(1);
        sample * gain
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of test signals.
mod tests {
    use super::*;

    /// Something voiced: a pitch with harmonics.
    fn voiced(rate_hz: u32, pitch_hz: f64, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| {
                let t = n as f64 / f64::from(rate_hz);
                let harmonic = |k: f64| (t * pitch_hz * k * std::f64::consts::TAU).sin() / k;
                (5_000.0 * (harmonic(1.0) + harmonic(2.0) + harmonic(3.0))) as i16
            })
            .collect()
    }

    fn difference_db(one: &[i16], other: &[i16]) -> f64 {
        let energy = |it: f64| it * it;
        let error: f64 =
            one.iter().zip(other).map(|(x, y)| energy(f64::from(*x) - f64::from(*y))).sum();
        let signal: f64 = other.iter().map(|x| energy(f64::from(*x))).sum();
        10.0 * (error.max(1.0) / signal.max(1.0)).log10()
    }

    #[test]
    fn a_steady_voice_goes_on_for_ten_milliseconds_as_if_nothing_was_lost() {
        for rate_hz in [8_000, 16_000, 32_000, 48_000] {
            for pitch_hz in [80.0, 125.0, 190.0] {
                let per_ms = rate_hz as usize / 1_000;
                let sound = voiced(rate_hz, pitch_hz, 400 * per_ms);
                let mut concealer = Concealer::new(rate_hz);
                let mut before = sound[..200 * per_ms].to_vec();
                concealer.hear(&mut before);
                let mut made = Vec::new();
                assert_eq!(concealer.fill(10 * per_ms, &mut made), 10 * per_ms);
                let wanted = &sound[200 * per_ms..210 * per_ms];
                let off = difference_db(&made, wanted);
                assert!(off < -12.0, "{rate_hz} {pitch_hz}: {off} dB");
            }
        }
    }

    #[test]
    fn it_fades_and_is_silent_after_sixty_milliseconds() {
        let mut concealer = Concealer::new(8_000);
        concealer.hear(&mut voiced(8_000, 120.0, 1_600));
        let mut made = Vec::new();
        assert_eq!(concealer.fill(4_000, &mut made), 480);
        assert_eq!(concealer.fill(4_000, &mut made), 0);
        let loudest = |from: usize| made[from..from + 80].iter().map(|it| it.abs()).max();
        assert!(loudest(0) > loudest(240) && loudest(240) > loudest(400), "{made:?}");
        assert!(made[472..].iter().all(|sample| sample.abs() < 200));
    }

    #[test]
    fn neither_end_of_a_loss_clicks() {
        let sound = voiced(8_000, 133.0, 3_200);
        let steepest = sound.windows(2).map(|it| (it[1] - it[0]).abs()).max().unwrap_or(0);
        for lost in [80, 160, 240, 320] {
            let mut concealer = Concealer::new(8_000);
            let mut all = sound[..1_600].to_vec();
            concealer.hear(&mut all);
            let mut made = Vec::new();
            concealer.fill(lost, &mut made);
            let mut after = sound[1_600 + lost..].to_vec();
            concealer.hear(&mut after);
            all.extend(made);
            all.extend(after);
            let found = all.windows(2).map(|it| (it[1] - it[0]).abs()).max().unwrap_or(0);
            assert!(found < steepest * 3 / 2, "{lost}: {found} where {steepest} is spoken");
        }
    }

    #[test]
    fn without_history_and_in_silence_nothing_is_made_up() {
        let mut made = Vec::new();
        let mut concealer = Concealer::new(8_000);
        assert_eq!(concealer.fill(160, &mut made), 0);
        concealer.hear(&mut [0; 800]);
        concealer.fill(160, &mut made);
        assert!(made.iter().all(|sample| *sample == 0));
        concealer.forget();
        made.clear();
        assert_eq!(concealer.fill(160, &mut made), 0);
    }

    #[test]
    fn loud_noise_does_not_overflow() {
        let mut state = 1u32;
        let mut noise: Vec<i16> = (0..1_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { i16::MIN } else { i16::MAX }
            })
            .collect();
        let mut concealer = Concealer::new(8_000);
        concealer.hear(&mut noise);
        let mut made = Vec::new();
        assert_eq!(concealer.fill(480, &mut made), 480);
        concealer.hear(&mut noise);
    }
}
