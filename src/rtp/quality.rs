//! How well a stream arrived: interarrival jitter, and the E-model's estimate of what was heard.
//!
//! Purpose: the `jitter_ms` and `mos` of a stream, at the tap.
//! Invariants: a figure without published planning values is `None`, never a guess.
//! Non-goals: listening (PESQ, POLQA) and what happened between the tap and the ear.
//! Sources: RFC 3550 §6.4.1 and A.8; ITU-T G.107 (06/2015) §7, Annex B; G.107.1 (R scale 129);
//! G.113 Appendix I and IV (planning values, as implementations quote them; those for GSM-EFR, GSM,
//! G.726 and G.722 have not been checked against the Recommendation's own tables yet).

/// Interarrival jitter of one stream.
#[derive(Clone, Debug)]
pub struct Jitter {
    clock_hz: f64,
    last: Option<(i64, i64)>,
    mean_ticks: f64,
    sum_ticks: f64,
    max_ticks: f64,
    taken: u64,
}

impl Jitter {
    /// For a stream whose timestamps count at `clock_hz` (0 is taken as 8 000).
    #[must_use]
    pub fn new(clock_hz: u32) -> Self {
        let clock_hz = if clock_hz == 0 { 8_000.0 } else { f64::from(clock_hz) };
        Self { clock_hz, last: None, mean_ticks: 0.0, sum_ticks: 0.0, max_ticks: 0.0, taken: 0 }
    }

    /// Takes one packet: when it arrived, and its timestamp on a line that does not wrap.
    ///
    /// A packet with the timestamp of the one before says nothing (all packets of a telephone event
    /// share one, RFC 4733 §2.5.1.1), nor does one more than a second off its place: that is a
    /// restarted clock, not jitter.
    pub fn on_packet(&mut self, arrival_ns: i64, timestamp: i64) {
        let Some((last_arrival_ns, last_timestamp)) = self.last else {
            self.last = Some((arrival_ns, timestamp));
            return;
        };
        if timestamp == last_timestamp {
            return;
        }
        self.last = Some((arrival_ns, timestamp));
        let arrival_ticks = arrival_ns.saturating_sub(last_arrival_ns) as f64 * self.clock_hz / 1e9;
        let sent_ticks = timestamp.saturating_sub(last_timestamp) as f64;
        let difference = (arrival_ticks - sent_ticks).abs();
        if difference <= self.clock_hz {
            self.mean_ticks += (difference - self.mean_ticks) / 16.0;
            self.sum_ticks += self.mean_ticks;
            self.max_ticks = self.max_ticks.max(self.mean_ticks);
            self.taken = self.taken.saturating_add(1);
        }
    }

    /// Forgets the last packet, at a new SSRC or codec; the estimate goes on.
    pub fn restart(&mut self) {
        self.last = None;
    }

    /// The estimate, in milliseconds.
    #[must_use]
    pub fn ms(&self) -> f64 {
        self.mean_ticks * 1_000.0 / self.clock_hz
    }

    /// The estimate's mean over all packets so far, in milliseconds.
    #[must_use]
    pub fn average_ms(&self) -> f64 {
        self.sum_ticks * 1_000.0 / self.clock_hz / self.taken.max(1) as f64
    }

    /// The estimate's maximum so far, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        self.max_ticks * 1_000.0 / self.clock_hz
    }
}

/// Mean opinion score that the E-model expects, 1–4.5, or `None` without published values.
///
/// - `codec`: encoding name as in rtpmap, any case.
/// - `loss_ratio`: lost over expected, 0–1; `burst_ratio`: BurstR, 1 for random loss.
/// - `one_way_delay_ms`: mouth to ear, as far as known; `jitter_ms`: the receiver is assumed to
///   wait for twice as much.
///
/// Everything else is the default of G.107 Table 2, with which R is 93.2 (G.107.1: 129).
/// The planning values: G.711 0/25.1 (with concealment), G.729A 11/19.0, G.723.1 at 6.3 kbit/s
/// 15/16.1, GSM-EFR 5/10.0. GSM full rate (20), G.726 (32 kbit/s 7, and so on) and G.722 (13, on the
/// wide-band scale) have no published robustness to loss: a score only where nothing was lost.
/// iLBC, Opus, AMR at an unknown rate: `None`.
#[must_use]
pub fn mos(
    codec: &str,
    loss_ratio: f64,
    burst_ratio: f64,
    one_way_delay_ms: f64,
    jitter_ms: f64,
) -> Option<f64> {
    let values = PLANNING_VALUES.iter().find(|values| values.codec.eq_ignore_ascii_case(codec))?;
    let loss_percent = sane(loss_ratio, 0.0, 1.0) * 100.0;
    let burst_ratio = sane(burst_ratio, 1.0, 1e6);
    let loss_impairment = match values.robustness {
        Some(robustness) => {
            (95.0 - values.impairment) * loss_percent / (loss_percent / burst_ratio + robustness)
        }
        None if loss_percent > 0.0 => return None,
        None => 0.0,
    };
    let delay_ms = sane(one_way_delay_ms, 0.0, 10_000.0) + 2.0 * sane(jitter_ms, 0.0, 10_000.0);
    let (best, scale) = match values.band {
        Band::Narrow => (93.2, 1.0),
        Band::Wide => (129.0, 1.29),
    };
    let rating = best - delay_impairment(delay_ms) - values.impairment - loss_impairment;
    Some(mos_of_rating(rating / scale))
}

/// Which E-model a codec's planning values belong to.
#[derive(Clone, Copy)]
enum Band {
    Narrow,
    Wide,
}

/// Ie and Bpl of one codec (G.113).
struct PlanningValues {
    codec: &'static str,
    band: Band,
    impairment: f64,
    robustness: Option<f64>,
}

const fn narrow(codec: &'static str, impairment: f64, robustness: Option<f64>) -> PlanningValues {
    PlanningValues { codec, band: Band::Narrow, impairment, robustness }
}

const PLANNING_VALUES: [PlanningValues; 15] = [
    narrow("PCMU", 0.0, Some(25.1)),
    narrow("PCMA", 0.0, Some(25.1)),
    // Nothing is coded, so nothing is impaired; against loss it fares as G.711 does.
    narrow("L16", 0.0, Some(25.1)),
    narrow("G729", 11.0, Some(19.0)),
    narrow("G723", 15.0, Some(16.1)),
    narrow("GSM-EFR", 5.0, Some(10.0)),
    narrow("GSM", 20.0, None),
    narrow("G726-16", 50.0, None),
    narrow("G726-24", 25.0, None),
    narrow("G726-32", 7.0, None),
    narrow("G726-40", 2.0, None),
    narrow("AAL2-G726-24", 25.0, None),
    narrow("AAL2-G726-32", 7.0, None),
    narrow("AAL2-G726-40", 2.0, None),
    PlanningValues { codec: "G722", band: Band::Wide, impairment: 13.0, robustness: None },
];

/// `value` within its range; the low end where it is not a number.
fn sane(value: f64, low: f64, high: f64) -> f64 {
    if value.is_nan() { low } else { value.clamp(low, high) }
}

/// Id of G.107 §7.3 with the defaults TELR 65 dB, WEPL 110 dB, T = Ta = Tr / 2.
fn delay_impairment(delay_ms: f64) -> f64 {
    /// Ro with all defaults (G.107 §7.2), and Roe = −1.5 (No − RLR).
    const RO: f64 = 94.77;
    // Talker echo (equations 7-20 to 7-23).
    let masking = 6.0 * (-0.3 * delay_ms * delay_ms).exp();
    let loudness =
        65.0 - 40.0 * ((1.0 + delay_ms / 10.0) / (1.0 + delay_ms / 150.0)).log10() + masking;
    let half = (RO - (80.0 + 2.5 * (loudness - 14.0))) / 2.0;
    let talker = (half + (half * half + 100.0).sqrt() - 1.0) * (1.0 - (-delay_ms).exp());
    // Listener echo (equations 7-25, 7-26).
    let half = (RO - 10.5 * (110.0 + 7.0) * (2.0 * delay_ms + 1.0).powf(-0.25)) / 2.0;
    let listener = half + (half * half + 169.0).sqrt();
    // Too long a delay as such (equations 7-27, 7-28).
    let absolute = if delay_ms <= 100.0 {
        0.0
    } else {
        let x = (delay_ms / 100.0).log2();
        25.0 * ((1.0 + x.powi(6)).powf(1.0 / 6.0) - 3.0 * (1.0 + (x / 3.0).powi(6)).powf(1.0 / 6.0)
            + 2.0)
    };
    // The base of 93.2 contains the little listener echo that no delay has.
    (talker + listener + absolute - NO_DELAY_IMPAIRMENT).max(0.0)
}

/// [`delay_impairment`] at 0 ms: Idle = half + √(half² + 169) with Rle = 1228.5.
const NO_DELAY_IMPAIRMENT: f64 = 0.148_9;

/// G.107 Annex B.
fn mos_of_rating(rating: f64) -> f64 {
    if rating <= 0.0 {
        1.0
    } else if rating >= 100.0 {
        4.5
    } else {
        (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).clamp(1.0, 4.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: f64, right: f64, tolerance: f64) {
        assert!((left - right).abs() <= tolerance, "{left} is not {right} ± {tolerance}");
    }

    #[test]
    fn steady_packets_have_no_jitter_and_the_first_difference_counts_a_sixteenth() {
        let mut jitter = Jitter::new(8_000);
        for packet in 0..100i64 {
            jitter.on_packet(packet * 20_000_000, packet * 160);
        }
        near(jitter.ms(), 0.0, 1e-9);
        jitter.on_packet(100 * 20_000_000 + 16_000_000, 100 * 160);
        near(jitter.ms(), 1.0, 1e-9);
        jitter.on_packet(101 * 20_000_000, 101 * 160);
        near(jitter.ms(), 1.0 + (16.0 - 1.0) / 16.0, 1e-9);
    }

    #[test]
    fn event_packets_pauses_and_restarted_clocks_are_not_jitter() {
        let mut jitter = Jitter::new(8_000);
        jitter.on_packet(0, 0);
        for repeat in 1..20 {
            jitter.on_packet(repeat * 20_000_000, 0);
        }
        jitter.on_packet(20_000_000, 160);
        // Two seconds of silence suppression: both clocks went on.
        jitter.on_packet(2_020_000_000, 16_160);
        // A new clock.
        jitter.on_packet(2_040_000_000, 900_000_000);
        near(jitter.ms(), 0.0, 1e-9);
    }

    #[test]
    fn jitter_takes_hostile_times_without_overflow() {
        let mut jitter = Jitter::new(0);
        jitter.on_packet(i64::MIN, i64::MAX);
        jitter.on_packet(i64::MAX, i64::MIN);
        assert!(jitter.ms().is_finite());
    }

    #[test]
    fn the_default_connection_has_the_published_score() {
        // G.107 Annex B: R = 93.2 is MOS 4.41.
        near(mos("PCMA", 0.0, 1.0, 0.0, 0.0).expect("published"), 4.41, 0.005);
        // R = 93.2 − 11 = 82.2 is MOS 4.10.
        near(mos("g729", 0.0, 1.0, 0.0, 0.0).expect("published"), 4.10, 0.01);
        near(mos_of_rating(50.0), 2.575, 1e-9);
        near(mos_of_rating(60.0), 3.1, 1e-9);
        near(mos_of_rating(80.0), 4.024, 1e-3);
    }

    #[test]
    fn loss_follows_the_effective_impairment() {
        // 5 % random loss of G.711 with concealment: Ie,eff = 95 · 5 / (5 + 25.1) = 15.78.
        near(
            mos("PCMU", 0.05, 1.0, 0.0, 0.0).expect("published"),
            mos_of_rating(93.2 - 15.781),
            1e-3,
        );
        // In bursts of two the same loss costs more: 95 · 5 / (2.5 + 25.1) = 17.21.
        near(
            mos("PCMU", 0.05, 2.0, 0.0, 0.0).expect("published"),
            mos_of_rating(93.2 - 17.21),
            1e-3,
        );
    }

    #[test]
    fn delay_costs_little_below_150_ms_and_much_above_400() {
        near(delay_impairment(0.0), 0.0, 0.01);
        // Cole and Rosenbluth's fit of G.107: 0.024 d + 0.11 (d − 177.3) beyond 177.3 ms.
        near(delay_impairment(100.0), 2.4, 1.5);
        near(delay_impairment(150.0), 3.6, 1.5);
        near(delay_impairment(300.0), 20.7, 4.0);
        assert!(delay_impairment(400.0) > 25.0);
        let mut last = 0.0;
        for delay_ms in 1..1_000u32 {
            let next = delay_impairment(f64::from(delay_ms));
            assert!(next >= last - 0.2, "at {delay_ms} ms");
            last = next;
        }
    }

    #[test]
    fn what_was_never_published_is_none() {
        assert_eq!(mos("opus", 0.0, 1.0, 0.0, 0.0), None);
        assert_eq!(mos("", 0.0, 1.0, 0.0, 0.0), None);
        assert_eq!(mos("G722", 0.01, 1.0, 0.0, 0.0), None);
        // (129 − 13) / 1.29 = 89.9.
        near(mos("G722", 0.0, 1.0, 0.0, 0.0).expect("published"), mos_of_rating(89.92), 1e-3);
    }

    #[test]
    fn nonsense_stays_on_the_scale() {
        for nonsense in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            let score = mos("PCMA", nonsense, nonsense, nonsense, nonsense).expect("published");
            assert!((1.0..=4.5).contains(&score), "{nonsense}: {score}");
        }
    }
}
