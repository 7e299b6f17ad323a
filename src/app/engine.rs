//! The parts that replay and capture share: archive, workers, queues, figures.
//!
//! Purpose: start them in order, and stop them in the opposite one.
//! Invariants: the archive is opened before anything is read, and sealed after everything is
//! written, on failure too.
//! Non-goals: where frames come from (see `replay`, `capture`).
//! Sources: none.

use super::recovered::truncate_ongoing;
use super::resources;
use super::watch::Watch;
use crate::archive::{Archive, ArchiveError, BoxKey, DiskOs, Manifest, Writer, WriterOptions};
use crate::base::limits::{BLOCKS_MAX, CALLS_MAX};
use crate::base::{OutcomeCounts, RingIndex};
use crate::call::EndReason;
use crate::call::{self, JoinSettings, MediaCalls};
use crate::cli::options::{Band, HeuristicRtp, Legs, Start, Store};
use crate::cli::report::UnclaimedFlow;
use crate::cli::{RunError, RunOptions, RunReport};
use crate::media::{self, MediaSettings, VoiceSettings};
use crate::ops::checkpoint_copy::CheckpointCopy;
use crate::ops::clock;
use crate::tls::KeyLog;
use crate::work::orphans;
use crate::work::outbox::{Outbox, WhenFull};
use crate::work::pool::{Overload, Pool, Shared};
use crate::work::queue::{BlockPool, Progress};
use crate::work::ready::Ready;
use crate::work::signalling::{Joined, KnownIds, Signalling};
use crate::work::stats::{Figure, FrontStats, Room, Stats};
use crate::work::writer::ArchiveThread;
use crossbeam::channel::Sender;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks of a replay: the reader waits for the workers, and each call holds one or two.
const REPLAY_BLOCKS: usize = BLOCKS_MAX / 2;

/// Unclaimed flows in the report.
pub const UNCLAIMED_SHOWN: usize = 10;

/// How long a shutdown waits for calls that are queued.
const DRAIN_WAIT: Duration = Duration::from_secs(60);

/// A running engine.
pub struct Engine {
    archive: ArchiveThread,
    copy: Option<CheckpointCopy>,
    pool: Pool,
    joined: Joined,
    joins: JoinSettings,
    blocks: Arc<BlockPool>,
    fronts: Vec<Arc<FrontStats>>,
    settings: MediaSettings,
    path: std::path::PathBuf,
    box_key: BoxKey,
    is_sealed: bool,
    overload: Overload,
    began: Instant,
}

/// What the fronts came to.
#[derive(Clone, Debug, Default)]
pub struct FrontsReport {
    /// Frames received.
    pub received: u64,
    /// Frames by outcome.
    pub outcomes: OutcomeCounts,
    /// Flows that nobody claimed.
    pub unclaimed: Vec<(orphans::UnclaimedFlow, &'static str)>,
    /// Frames that the kernel dropped.
    pub kernel_dropped: u64,
    /// Anything else that was lost.
    pub losses: Vec<String>,
}

/// The media settings that the options mean.
pub fn media_settings(options: &RunOptions) -> MediaSettings {
    MediaSettings {
        start: match options.start {
            Start::Answer => media::StartAt::Answer,
            Start::Media => media::StartAt::Media,
        },
        store: match options.store {
            Store::Opus => media::Store::Opus,
            Store::Raw => media::Store::Raw,
            Store::None => media::Store::None,
        },
        band: match options.band {
            Band::Nb => media::Band::Narrow,
            Band::Wb => media::Band::Wide,
            Band::Auto => media::Band::Auto,
        },
        reorder_window_ms: options.reorder_window_ms,
        voice: VoiceSettings { bitrate: options.opus_bitrate, complexity: options.opus_complexity },
    }
}

/// How legs are joined, by the options.
fn join_settings(options: &RunOptions) -> JoinSettings {
    let legs = match options.legs {
        Legs::One => call::Legs::One,
        Legs::All => call::Legs::All,
    };
    let media_calls = match options.heuristic_rtp {
        HeuristicRtp::Off => MediaCalls::Never,
        HeuristicRtp::On => MediaCalls::Made,
    };
    JoinSettings { legs, header: options.join_header.clone(), media_calls }
}

impl Engine {
    /// Opens the archive and starts workers for `rings` fronts.
    ///
    /// # Errors
    /// The archive's, or when the system has no thread to give.
    pub fn start(options: &RunOptions, rings: usize, overload: Overload) -> Result<Self, RunError> {
        Manifest::read(&DiskOs::new(&options.archive.dir)).map_err(RunError::failed)?;
        let keys = options.archive.load().map_err(|failure| RunError::failed(failure.message))?;
        let (path, box_key) = (options.archive.dir.clone(), keys.box_key.clone());
        let writer_options = WriterOptions { clock: clock::read, ..WriterOptions::new(keys) };
        let (writer, recovered) =
            Writer::open(DiskOs::new(&path), writer_options).map_err(RunError::failed)?;
        let is_sealed = !writer.is_plaintext();
        if !is_sealed {
            tracing::warn!("this archive is not sealed: whoever can read its files can listen");
        }
        let stats = Arc::new(Stats::default());
        let reserve = options.disk_reserve_bytes;
        let interval_ms = options.commit_interval_ms;
        let (copy, checkpoints) =
            options.checkpoint_to.as_deref().map(copy_to).transpose()?.unzip();
        let thread =
            ArchiveThread::start(writer, interval_ms, reserve, checkpoints, Arc::clone(&stats));
        let archive = thread.map_err(|error| no_thread(&error))?;
        truncate_ongoing(&path, &box_key, &archive.sender(), &recovered);
        let blocks_max = if overload == Overload::Spill { BLOCKS_MAX } else { REPLAY_BLOCKS };
        let blocks = Arc::new(BlockPool::new(blocks_max));
        let joined = Joined {
            archive: archive.sender(),
            ready: Arc::new(Ready::new(CALLS_MAX)),
            progress: Arc::new(Progress::new(rings)),
            stats,
        };
        let shared = Shared::new(
            Arc::clone(&joined.ready),
            Arc::clone(&joined.progress),
            Arc::clone(&blocks),
            Arc::clone(&joined.stats),
            joined.archive.clone(),
            overload,
        );
        let pool =
            Pool::start(options.workers, Arc::new(shared)).map_err(|error| no_thread(&error))?;
        Ok(Self {
            archive,
            copy,
            pool,
            joined,
            blocks,
            fronts: (0..rings).map(|_| Arc::default()).collect(),
            settings: media_settings(options),
            joins: join_settings(options),
            path,
            box_key,
            is_sealed,
            overload,
            began: Instant::now(),
        })
    }

    /// A correlator for all rings.
    ///
    /// # Errors
    /// When the archive's index cannot be read.
    pub fn signalling(&self, log: KeyLog) -> Result<Signalling, RunError> {
        let known_ids = known_ids(&self.path, &self.box_key).map_err(RunError::failed)?;
        let (settings, rings) = (self.settings, self.fronts.len());
        let joins = self.joins.clone();
        let mut signalling =
            Signalling::new(settings, joins, rings, known_ids, self.joined.clone());
        signalling.set_key_log(log);
        Ok(signalling)
    }

    /// The outbox and the figures of one ring.
    #[must_use]
    pub fn front_parts(&self, ring: RingIndex) -> (Outbox, Arc<FrontStats>) {
        let when_full =
            if self.overload == Overload::Spill { WhenFull::Drop } else { WhenFull::Wait };
        let outbox = Outbox::new(
            ring,
            Arc::clone(&self.blocks),
            Arc::clone(&self.joined.ready),
            Arc::clone(&self.joined.progress),
            when_full,
        );
        let outbox = match self.settings.store {
            media::Store::None => outbox.with_old_blocks(),
            media::Store::Opus | media::Store::Raw => outbox,
        };
        let stats = self.fronts.get(usize::from(ring.0)).cloned().unwrap_or_default();
        (outbox, stats)
    }

    /// Why the archive takes nothing more, where that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.joined.archive.failure().map(str::to_owned)
    }

    /// Says once when the disk's room changes. `said`: what was said last.
    #[must_use]
    pub fn say_room(&self, said: Room) -> Room {
        let room = self.joined.stats.room();
        let free = self.joined.stats.archive_free_bytes.get();
        match room {
            _ if room == said => {}
            Room::Enough => tracing::info!(free, "the archive's disk has room again"),
            Room::Short => {
                tracing::warn!(free, "the archive's disk is nearly down to its reserve: make room");
            }
            Room::Reserve => tracing::error!(
                free,
                "the archive's disk is down to its reserve: new calls are not recorded until there is \
                 room"
            ),
        }
        room
    }

    /// What metrics read.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            stats: Arc::clone(&self.joined.stats),
            fronts: self.fronts.clone(),
            blocks: Arc::clone(&self.blocks),
            archive: self.joined.archive.clone(),
        }
    }

    /// Waits for the workers, seals the archive and reports.
    ///
    /// # Errors
    /// The archive's first failure, with the report.
    pub fn finish(self, fronts: FrontsReport) -> Result<RunReport, RunError> {
        let deadline = Instant::now() + DRAIN_WAIT;
        let live = self.overload == Overload::Spill;
        let archive = self.joined.archive.clone();
        let left = self
            .pool
            .finish(|| archive.failure().is_some() || (live && Instant::now() >= deadline));
        let sealed = self.archive.finish();
        let copied = self.copy.map_or(Ok(()), CheckpointCopy::finish);
        let stats = &self.joined.stats;
        let shutdown = EndReason::ALL.iter().position(|reason| *reason == EndReason::Shutdown);
        let truncated = shutdown.and_then(|at| stats.calls_ended.get(at));
        let mut losses = fronts.losses;
        if left > 0 && sealed.is_ok() {
            losses.push(format!("{left} calls were not finished in time"));
        }
        losses.extend(copied.err());
        let refused = stats.calls_refused.get();
        if refused > 0 {
            losses.push(format!(
                "{refused} calls were not recorded: the disk was down to its reserve"
            ));
        }
        let broken = stats.calls_broken.get();
        if broken > 0 {
            losses.push(format!("{broken} calls were lost to a bug of callspan; report it"));
        }
        let (cpu_s, peak_rss_bytes) = resources::used();
        let mut report = RunReport {
            frames_received: fronts.received,
            kernel_dropped: fronts.kernel_dropped,
            outcomes: fronts.outcomes,
            calls_seen: stats.calls_seen.get(),
            calls_recorded: stats.calls_recorded.get(),
            calls_truncated: truncated.map_or(0, Figure::get),
            is_sealed: self.is_sealed,
            unclaimed: fronts.unclaimed.into_iter().map(unclaimed).collect(),
            losses,
            cpu_s,
            wall_s: self.began.elapsed().as_secs_f64(),
            peak_rss_bytes,
        };
        match sealed {
            Ok(()) => Ok(report),
            Err(error) => {
                // What never reached the disk was not recorded.
                let kept = stats.summaries_committed.get();
                report.calls_recorded = report.calls_recorded.min(kept);
                let report = Some(Box::new(report));
                Err(RunError { report, ..RunError::failed(error) })
            }
        }
    }
}

fn copy_to(directory: &Path) -> Result<(CheckpointCopy, Sender<String>), RunError> {
    CheckpointCopy::start(directory.to_owned()).map_err(|error| {
        RunError::failed(format_args!(
            "cannot copy checkpoints to {}: {error}; make the directory, or correct --checkpoint-to",
            directory.display()
        ))
    })
}

fn no_thread(error: &std::io::Error) -> RunError {
    RunError::failed(format_args!("cannot start a thread: {error}; raise the limit on processes"))
}

fn known_ids(path: &Path, box_key: &BoxKey) -> Result<KnownIds, ArchiveError> {
    let archive = Archive::open(path, Some(box_key))?;
    // A read that fails says "not known": the worst that follows is two calls under one id, and
    // only if both began in the same nanosecond with the same Call-ID.
    Ok(Box::new(move |id| archive.exists(id).unwrap_or(false)))
}

fn unclaimed((flow, reason): (orphans::UnclaimedFlow, &'static str)) -> UnclaimedFlow {
    UnclaimedFlow {
        source: flow.key.source.to_string(),
        destination: flow.key.destination.to_string(),
        ssrc: flow.key.ssrc.to_string(),
        kind: match flow.carries {
            orphans::Carries::Rtp => "RTP",
            orphans::Carries::Rtcp => "RTCP",
        },
        packets: flow.frames,
        reason: reason.to_owned(),
    }
}
