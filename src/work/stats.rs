//! Figures that threads publish and metrics read.
//!
//! Purpose: one place of relaxed atomics, so that a scrape costs the packet path nothing.
//! Invariants: counters only grow; fronts publish once a block, not once a frame.
//! Non-goals: Prometheus (see `ops::metrics`).
//! Sources: none.

use crate::base::{FrameOutcome, OutcomeCounts};
use crate::call::EndReason;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes from it.
    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one front publishes.
#[derive(Debug, Default)]
pub struct FrontStats {
    /// Frames received.
    pub received: Figure,
    /// Frames that wait in the orphan buffer.
    pub parked: Figure,
    /// Flows that nobody claimed.
    pub unclaimed_flows: Figure,
    /// Kernel drops of the ring.
    pub kernel_dropped: Figure,
    /// Frames the kernel saw.
    pub kernel_seen: Figure,
    outcomes: [Figure; FrameOutcome::COUNT],
}

/// How much room the archive's disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough, or nobody set a reserve.
    Enough,
    /// Less than a quarter above the reserve.
    Short,
    /// Less than the reserve.
    Reserve,
}

impl Stats {
    /// How much room there is beside the reserve.
    #[must_use]
    pub fn room(&self) -> Room {
        let (free, reserve) = (self.archive_free_bytes.get(), self.archive_reserve_bytes.get());
        match free {
            _ if reserve == 0 => Room::Enough,
            _ if free < reserve => Room::Reserve,
            _ if free < reserve.saturating_add(reserve / 4) => Room::Short,
            _ => Room::Enough,
        }
    }

    /// True while new calls are not to be recorded: the disk's reserve is reached.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.room() == Room::Reserve
    }
}

impl FrontStats {
    /// Publishes a front's counts.
    pub fn publish(&self, received: u64, parked: u64, outcomes: &OutcomeCounts) {
        for ((_, count), figure) in outcomes.iter().zip(&self.outcomes) {
            figure.set(count);
        }
        self.parked.set(parked);
        self.received.set(received);
    }

    /// The counts as published.
    #[must_use]
    pub fn outcomes(&self) -> OutcomeCounts {
        let mut counts = OutcomeCounts::default();
        for (outcome, figure) in FrameOutcome::ALL.iter().zip(&self.outcomes) {
            counts.add_many(*outcome, figure.get());
        }
        counts
    }
}

/// Upper ends of the classes in which commits are counted, in milliseconds; the last is open.
pub const COMMIT_BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000];

/// What everything else publishes.
#[derive(Debug, Default)]
pub struct Stats {
    /// Calls that began.
    pub calls_seen: Figure,
    /// Calls that ended, by reason, in the order of `EndReason::ALL`.
    pub calls_ended: [Figure; EndReason::ALL.len()],
    /// Calls that go on.
    pub calls_live: Figure,
    /// Calls that are not finished: live, or waiting for a worker.
    pub calls_open: Figure,
    /// Calls with audio or raw RTP in the archive.
    pub calls_recorded: Figure,
    /// Calls that were not recorded because the disk's reserve was reached.
    pub calls_refused: Figure,
    /// Bytes that the archive's disk has left.
    pub archive_free_bytes: Figure,
    /// Bytes below which new calls are not recorded; 0: no such limit.
    pub archive_reserve_bytes: Figure,
    /// Report blocks that receivers sent about streams, of calls that ended.
    pub rtcp_reports: Figure,
    /// Packets that receivers reported as lost, of calls that ended.
    pub rtcp_lost: Figure,
    /// Calls lost to a panic of ours: a bug.
    pub calls_broken: Figure,
    /// Visits of workers.
    pub visits: Figure,
    /// Processor time that workers spent in visits, ns: decoding and encoding.
    pub visit_ns: Figure,
    /// Slots encoded: 20 ms of two channels each.
    pub slots: Figure,
    /// Bytes put aside under load.
    pub spilled_bytes: Figure,
    /// Bytes committed to the archive.
    pub archive_bytes: Figure,
    /// Final summaries of calls that are durable.
    pub summaries_committed: Figure,
    /// Commits.
    pub archive_commits: Figure,
    /// Time in commits, ns.
    pub archive_commit_ns: Figure,
    /// How long commits took.
    pub archive_commit_buckets: [Figure; COMMIT_BOUNDS_MS.len() + 1],
}
