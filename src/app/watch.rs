//! What `--metrics` tells of a running engine.
//!
//! Purpose: read the figures that threads publish, at scrape time, into one snapshot.
//! Invariants: a scrape costs the packet path nothing but reads of its counters.
//! Non-goals: Prometheus itself (see `ops::metrics`).
//! Sources: docs/METRICS.md.

use super::engine::Engine;
use crate::base::limits::BLOCK_BYTES;
use crate::call::EndReason;
use crate::cli::{RunError, RunOptions};
use crate::media::SLOTS_PER_S;
use crate::ops::http::{Server, serve};
use crate::ops::metrics::{DurationCounts, Metrics, MetricsSnapshot};
use crate::work::queue::BlockPool;
use crate::work::stats::{Figure, FrontStats, Stats};
use crate::work::writer::ArchiveSender;
use std::sync::Arc;

/// What metrics read of an engine.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Figures of workers and archive.
    pub stats: Arc<Stats>,
    /// Figures of fronts.
    pub fronts: Vec<Arc<FrontStats>>,
    /// Blocks.
    pub blocks: Arc<BlockPool>,
    /// The archive's queue.
    pub archive: ArchiveSender,
}

/// Serves `--metrics`, where asked for. `interfaces`: one name a ring.
pub fn serve_metrics(
    options: &RunOptions,
    engine: &Engine,
    interfaces: &[String],
) -> Result<Option<Server>, RunError> {
    let Some(address) = options.metrics else { return Ok(None) };
    let (watch, names) = (engine.watch(), interfaces.to_vec());
    let archive = watch.archive.clone();
    let metrics = Metrics::new(move || snapshot(&watch, &names)).map_err(RunError::failed)?;
    let health = Box::new(move || match archive.failure() {
        Some(failure) => Err(failure.to_owned()),
        None => Ok(()),
    });
    serve(address, metrics, health).map(Some).map_err(RunError::failed)
}

fn snapshot(watch: &Watch, interfaces: &[String]) -> MetricsSnapshot {
    let mut snapshot = MetricsSnapshot::default();
    let mut parked = 0;
    for (number, front) in watch.fronts.iter().enumerate() {
        snapshot.outcomes.merge(&front.outcomes());
        parked += front.parked.get();
        snapshot.frames_received += front.received.get();
        snapshot.unclaimed_flows += front.unclaimed_flows.get();
        if let Some(name) = interfaces.get(number) {
            let dropped = front.kernel_dropped.get();
            match snapshot.kernel_dropped.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += dropped,
                None => snapshot.kernel_dropped.push((name.clone(), dropped)),
            }
        }
    }
    let accounted = snapshot.outcomes.total().saturating_add(parked);
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    snapshot.unaccounted = signed(snapshot.frames_received).saturating_sub(signed(accounted));
    let stats = &watch.stats;
    snapshot.calls_ongoing = stats.calls_live.get();
    let ended = EndReason::ALL.iter().zip(&stats.calls_ended);
    snapshot.calls_ended = ended.map(|(reason, count)| (reason.label(), count.get())).collect();
    let blocks = u64::try_from(watch.blocks.in_use()).unwrap_or(0);
    snapshot.queue_blocks = blocks;
    snapshot.queue_bytes = blocks.saturating_mul(u64::try_from(BLOCK_BYTES).unwrap_or(0));
    snapshot.encode_seconds = stats.visit_ns.get() as f64 / 1e9;
    // Two channels a slot.
    snapshot.encoded_audio_seconds = 2.0 * stats.slots.get() as f64 / f64::from(SLOTS_PER_S);
    snapshot.visits = stats.visits.get();
    snapshot.archive_bytes = stats.archive_bytes.get();
    snapshot.archive_free_bytes = stats.archive_free_bytes.get();
    snapshot.archive_reserve_bytes = stats.archive_reserve_bytes.get();
    snapshot.calls_refused = stats.calls_refused.get();
    snapshot.archive_commits = stats.archive_commits.get();
    snapshot.archive_commit_seconds = commit_seconds(&stats.archive_commit_buckets);
    snapshot.archive_commit_seconds.sum_seconds = stats.archive_commit_ns.get() as f64 / 1e9;
    snapshot.rtcp_reports = stats.rtcp_reports.get();
    snapshot.rtcp_lost = stats.rtcp_lost.get();
    snapshot.spilled_bytes = stats.spilled_bytes.get();
    let lost = snapshot.outcomes.iter().filter(|(outcome, _)| outcome.is_our_loss());
    snapshot.packets_dropped = lost.map(|(outcome, count)| (outcome.label(), count)).collect();
    snapshot
}

fn commit_seconds(counts: &[Figure]) -> DurationCounts {
    let mut durations = DurationCounts::default();
    for (bucket, count) in durations.counts.iter_mut().zip(counts) {
        *bucket = count.get();
    }
    durations
}
