//! What Prometheus scrapes: one table of families, filled from a snapshot when it asks.
//!
//! Purpose: hot code counts in plain numbers and never hears of Prometheus; a snapshot of them is
//! pulled at scrape time and turned into families here.
//! Invariants: base units; every label value comes from a closed set (outcomes, end reasons, drop
//! reasons, the interfaces that were named at start); docs/METRICS.md is made from `FAMILIES`.
//! Non-goals: serving (see `http`), rates and alerts (Prometheus makes them).
//! Sources: the Prometheus text exposition format 0.0.4 and its naming practice.

use std::collections::HashMap;
use std::fmt::Write as _;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, Registry, TEXT_FORMAT, TextEncoder};

use crate::base::OutcomeCounts;

/// The counters of a process at one moment, as plain values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// Frames that reached us.
    pub frames_received: u64,
    /// What became of them.
    pub outcomes: OutcomeCounts,
    /// Frames that found no room in a ring, by interface.
    pub kernel_dropped: Vec<(String, u64)>,
    /// Calls going on.
    pub calls_ongoing: u64,
    /// Calls that ended, by the contract's `end_reason`.
    pub calls_ended: Vec<(&'static str, u64)>,
    /// Blocks that wait for a worker.
    pub queue_blocks: u64,
    /// Bytes in them.
    pub queue_bytes: u64,
    /// Time spent in the Opus encoder.
    pub encode_seconds: f64,
    /// Sound that went through it, both channels added.
    pub encoded_audio_seconds: f64,
    /// Visits of workers to calls.
    pub visits: u64,
    /// Bytes written to segments.
    pub archive_bytes: u64,
    /// Bytes that the archive's disk has left.
    pub archive_free_bytes: u64,
    /// Bytes below which new calls are not recorded.
    pub archive_reserve_bytes: u64,
    /// Calls that were not recorded because of that.
    pub calls_refused: u64,
    /// Group commits.
    pub archive_commits: u64,
    /// How long they took.
    pub archive_commit_seconds: DurationCounts,
    /// Raw packets written to the archive because workers fell behind.
    pub spilled_bytes: u64,
    /// RTP packets that callspan dropped, by reason.
    pub packets_dropped: Vec<(&'static str, u64)>,
    /// Report blocks of receivers, of calls that ended.
    pub rtcp_reports: u64,
    /// Packets lost by their last word.
    pub rtcp_lost: u64,
    /// RTP flows that belong to no call, remembered now.
    pub unclaimed_flows: u64,
    /// Frames received less the sum over outcomes less those in flight: always 0.
    pub unaccounted: i64,
}

/// Upper bounds of the commit histogram, in seconds.
pub const COMMIT_SECONDS_BOUNDS: [f64; 11] =
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How often something took how long: a histogram as plain numbers, owned by who measures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DurationCounts {
    /// Observations at most as long as the bound of the same index (and longer than the one
    /// before); the last has those beyond every bound.
    pub counts: [u64; COMMIT_SECONDS_BOUNDS.len() + 1],
    /// All of them added, in seconds.
    pub sum_seconds: f64,
}

impl DurationCounts {
    /// Counts one observation.
    pub fn observe(&mut self, seconds: f64) {
        let index = COMMIT_SECONDS_BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.sum_seconds += seconds;
    }
}

/// The registry that a scrape is answered from.
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry whose values are pulled by `pull` at every scrape.
    ///
    /// # Errors
    /// Never with the table as it is (a test holds it); kept because the registry can refuse.
    pub fn new(
        pull: impl Fn() -> MetricsSnapshot + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let descs = FAMILIES.iter().map(Family::desc).collect::<Result<_, _>>()?;
        registry.register(Box::new(Puller { descs, pull }))?;
        Ok(Self { registry })
    }

    /// The `Content-Type` of [`Self::render`].
    pub const CONTENT_TYPE: &'static str = TEXT_FORMAT;

    /// What a scrape reads.
    ///
    /// # Errors
    /// When a family cannot be written, which the table rules out.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

struct Puller<F> {
    descs: Vec<Desc>,
    pull: F,
}

impl<F: Fn() -> MetricsSnapshot + Send + Sync> Collector for Puller<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = (self.pull)();
        FAMILIES.iter().map(|family| family.collect(&snapshot)).collect()
    }
}

/// How a family's values are made.
enum Values {
    /// Rises only.
    Counter(fn(&MetricsSnapshot) -> f64),
    /// Rises only, one value a label.
    Counters(&'static str, fn(&MetricsSnapshot) -> Vec<(String, f64)>),
    /// Rises and falls.
    Gauge(fn(&MetricsSnapshot) -> f64),
    /// Always 1, told apart by its label.
    Info(&'static str, &'static str),
    /// Observations by duration.
    Durations(fn(&MetricsSnapshot) -> DurationCounts),
}

struct Family {
    name: &'static str,
    help: &'static str,
    values: Values,
}

impl Family {
    fn label(&self) -> Option<&'static str> {
        match self.values {
            Values::Counters(label, _) | Values::Info(label, _) => Some(label),
            Values::Counter(_) | Values::Gauge(_) | Values::Durations(_) => None,
        }
    }

    fn kind(&self) -> (MetricType, &'static str) {
        match self.values {
            Values::Counter(_) | Values::Counters(..) => (MetricType::COUNTER, "counter"),
            Values::Gauge(_) | Values::Info(..) => (MetricType::GAUGE, "gauge"),
            Values::Durations(_) => (MetricType::HISTOGRAM, "histogram"),
        }
    }

    fn desc(&self) -> Result<Desc, prometheus::Error> {
        let labels = self.label().into_iter().map(str::to_owned).collect();
        Desc::new(self.name.to_owned(), self.help.to_owned(), labels, HashMap::new())
    }

    fn collect(&self, snapshot: &MetricsSnapshot) -> MetricFamily {
        let metrics = match &self.values {
            Values::Counter(value) => vec![counter(Vec::new(), value(snapshot))],
            Values::Counters(label, values) => values(snapshot)
                .into_iter()
                .map(|(of, value)| counter(vec![pair(label, of)], value))
                .collect(),
            Values::Gauge(value) => vec![gauge(Vec::new(), value(snapshot))],
            Values::Info(label, of) => vec![gauge(vec![pair(label, (*of).to_owned())], 1.0)],
            Values::Durations(counts) => vec![durations(&counts(snapshot))],
        };
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind().0);
        family.set_metric(metrics);
        family
    }
}

fn pair(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

fn durations(counts: &DurationCounts) -> Metric {
    let mut cumulative = 0_u64;
    let mut buckets = Vec::new();
    for (bound, count) in COMMIT_SECONDS_BOUNDS.iter().zip(counts.counts) {
        cumulative = cumulative.saturating_add(count);
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_sum(counts.sum_seconds);
    histogram
        .set_sample_count(counts.counts.iter().fold(0, |sum, count| sum.saturating_add(*count)));
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn by_label(counts: &[(&'static str, u64)]) -> Vec<(String, f64)> {
    counts.iter().map(|(label, count)| ((*label).to_owned(), *count as f64)).collect()
}

const FAMILIES: &[Family] = &[
    Family {
        name: "callspan_build_info",
        help: "Always 1; the label says which version runs.",
        values: Values::Info("version", env!("CARGO_PKG_VERSION")),
    },
    Family {
        name: "callspan_frames_received_total",
        help: "Frames that reached callspan from its interfaces or files.",
        values: Values::Counter(|now| now.frames_received as f64),
    },
    Family {
        name: "callspan_frames_total",
        help: "Frames by what became of them; each frame has one outcome.",
        values: Values::Counters("outcome", |now| {
            let counts = now.outcomes.iter();
            counts.map(|(outcome, count)| (outcome.label().to_owned(), count as f64)).collect()
        }),
    },
    Family {
        name: "callspan_unaccounted",
        help: "Frames received without an outcome and not in flight; anything but 0 is a bug.",
        values: Values::Gauge(|now| now.unaccounted as f64),
    },
    Family {
        name: "callspan_kernel_dropped_total",
        help: "Frames that the kernel dropped because the capture ring was full.",
        values: Values::Counters("interface", |now| {
            now.kernel_dropped.iter().map(|(name, count)| (name.clone(), *count as f64)).collect()
        }),
    },
    Family {
        name: "callspan_calls_ongoing",
        help: "Calls going on now.",
        values: Values::Gauge(|now| now.calls_ongoing as f64),
    },
    Family {
        name: "callspan_calls_total",
        help: "Calls that ended, by how.",
        values: Values::Counters("end_reason", |now| by_label(&now.calls_ended)),
    },
    Family {
        name: "callspan_queue_blocks",
        help: "Blocks of packets that wait for a worker.",
        values: Values::Gauge(|now| now.queue_blocks as f64),
    },
    Family {
        name: "callspan_queue_bytes",
        help: "Bytes in the blocks that wait for a worker.",
        values: Values::Gauge(|now| now.queue_bytes as f64),
    },
    Family {
        name: "callspan_visits_total",
        help: "Visits of workers to calls, each for about a second of media.",
        values: Values::Counter(|now| now.visits as f64),
    },
    Family {
        name: "callspan_encode_seconds_total",
        help: "Processor time of the workers: decoding, placing and encoding.",
        values: Values::Counter(|now| now.encode_seconds),
    },
    Family {
        name: "callspan_encoded_audio_seconds_total",
        help: "Sound that went through the Opus encoder, both channels added.",
        values: Values::Counter(|now| now.encoded_audio_seconds),
    },
    Family {
        name: "callspan_packets_dropped_total",
        help: "RTP packets of calls that callspan dropped; each leaves a gap in its recording.",
        values: Values::Counters("reason", |now| by_label(&now.packets_dropped)),
    },
    Family {
        name: "callspan_rtcp_reports_total",
        help: "Reports of receivers (RTCP) about the streams of calls that ended.",
        values: Values::Counter(|now| now.rtcp_reports as f64),
    },
    Family {
        name: "callspan_rtcp_lost_packets_total",
        help: "Packets lost by the receivers' last reports (RTCP) of calls that ended: on the whole way, \
               not at the tap.",
        values: Values::Counter(|now| now.rtcp_lost as f64),
    },
    Family {
        name: "callspan_spilled_bytes_total",
        help: "Raw packets written to the archive because workers fell behind, to be encoded later.",
        values: Values::Counter(|now| now.spilled_bytes as f64),
    },
    Family {
        name: "callspan_unclaimed_flows",
        help: "RTP flows seen that belong to no call, and are not recorded.",
        values: Values::Gauge(|now| now.unclaimed_flows as f64),
    },
    Family {
        name: "callspan_archive_bytes_total",
        help: "Bytes written to the archive's segments.",
        values: Values::Counter(|now| now.archive_bytes as f64),
    },
    Family {
        name: "callspan_archive_free_bytes",
        help: "Bytes that the archive's disk has left for callspan.",
        values: Values::Gauge(|now| now.archive_free_bytes as f64),
    },
    Family {
        name: "callspan_archive_reserve_bytes",
        help: "The reserve (--disk-reserve): with less left, new calls are not recorded.",
        values: Values::Gauge(|now| now.archive_reserve_bytes as f64),
    },
    Family {
        name: "callspan_calls_refused_total",
        help: "Calls that were not recorded because the disk was down to its reserve.",
        values: Values::Counter(|now| now.calls_refused as f64),
    },
    Family {
        name: "callspan_archive_commits_total",
        help: "Group commits: what was written before one is on disk.",
        values: Values::Counter(|now| now.archive_commits as f64),
    },
    Family {
        name: "callspan_archive_commit_seconds",
        help: "How long a group commit took.",
        values: Values::Durations(|now| now.archive_commit_seconds),
    },
];

/// docs/METRICS.md, as the table has it.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n`--metrics ADDR` serves these at `/metrics`, and `ok` at `/healthz`. This page is \
         made from the registry\n(`src/ops/metrics.rs`); `CALLSPAN_BLESS=1 cargo test --test \
         cli_docs` writes it anew.\n\nValues are pulled when Prometheus asks. Counters begin at 0 when \
         the process starts.\n\n| name | type | label | meaning |\n|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let label = family.label().map_or_else(String::new, |label| format!("`{label}`"));
        let (_, kind) = family.kind();
        let _ = writeln!(text, "| `{}` | {kind} | {label} | {} |", family.name, family.help);
    }
    text.push_str("\nValues of `outcome`:\n\n");
    for outcome in crate::base::FrameOutcome::ALL {
        let ours = if outcome.is_our_loss() { " (lost by callspan: exit status 3)" } else { "" };
        let _ = writeln!(text, "- `{}`{ours}", outcome.label());
    }
    text.push_str(
        "\nWorth an alert: `callspan_kernel_dropped_total` or `callspan_packets_dropped_total` rising, \
         any value but 0 of\n`callspan_unaccounted`, and `callspan_queue_blocks` that stays high. \
         Processor headroom of the encoder is\n`rate(callspan_encoded_audio_seconds_total[5m]) / \
         rate(callspan_encode_seconds_total[5m])`: seconds of sound per\nsecond of one processor.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FrameOutcome;

    fn render(snapshot: MetricsSnapshot) -> String {
        let metrics = Metrics::new(move || snapshot.clone()).expect("a registry");
        metrics.render().expect("a text")
    }

    #[test]
    fn every_family_is_there_from_the_start() {
        let mut counted = MetricsSnapshot::default();
        counted.kernel_dropped.push(("eth1".into(), 0));
        counted.calls_ended.push(("bye", 0));
        counted.packets_dropped.push(("queue_full", 0));
        let text = render(counted);
        for family in FAMILIES {
            let line = format!("# TYPE {} {}\n", family.name, family.kind().1);
            assert!(text.contains(&line), "{line}");
        }
        for outcome in FrameOutcome::ALL {
            let line = format!("callspan_frames_total{{outcome=\"{}\"}} 0\n", outcome.label());
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn values_are_pulled_at_every_scrape() {
        use std::sync::atomic::{AtomicU64, Ordering};
        let frames = std::sync::Arc::new(AtomicU64::new(41));
        let counted = std::sync::Arc::clone(&frames);
        let metrics = Metrics::new(move || MetricsSnapshot {
            frames_received: counted.load(Ordering::Relaxed),
            unaccounted: -1,
            ..MetricsSnapshot::default()
        })
        .expect("a registry");
        assert!(metrics.render().expect("text").contains("\ncallspan_frames_received_total 41\n"));
        frames.store(42, Ordering::Relaxed);
        let text = metrics.render().expect("text");
        assert!(text.contains("\ncallspan_frames_received_total 42\n"), "{text}");
        assert!(text.contains("\ncallspan_unaccounted -1\n"), "{text}");
    }

    #[test]
    fn durations_fall_into_their_bucket_and_buckets_add_up() {
        let mut counts = DurationCounts::default();
        for seconds in [0.0005, 0.001, 0.3, 9.0] {
            counts.observe(seconds);
        }
        let snapshot =
            MetricsSnapshot { archive_commit_seconds: counts, ..MetricsSnapshot::default() };
        let text = render(snapshot);
        for line in [
            "callspan_archive_commit_seconds_bucket{le=\"0.001\"} 2\n",
            "callspan_archive_commit_seconds_bucket{le=\"0.25\"} 2\n",
            "callspan_archive_commit_seconds_bucket{le=\"0.5\"} 3\n",
            "callspan_archive_commit_seconds_bucket{le=\"5\"} 3\n",
            "callspan_archive_commit_seconds_bucket{le=\"+Inf\"} 4\n",
            "callspan_archive_commit_seconds_count 4\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
