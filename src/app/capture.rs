//! `callspan capture`: calls from live interfaces, until SIGTERM.
//!
//! Purpose: a ring and a front thread each, a correlator thread, metrics; and an orderly end.
//! Invariants: rings are opened before anything is started, so that a wrong interface costs
//! nothing; on SIGTERM fronts stop first, then the correlator, the workers, the archive.
//! Non-goals: the packet path (see `work::front`).
//! Sources: sd_notify(3).

use super::engine::{Engine, FrontsReport, Watch};
use super::replay::UNCLAIMED_SHOWN;
use crate::base::limits::BLOCK_BYTES;
use crate::base::{FrameSource, OutcomeCounts, PacketTime, Polled, RingIndex};
use crate::call::EndReason;
use crate::capture::{CaptureError, ErrorClass, FanoutGroup, RingOptions, RingSource};
use crate::cli::{Exit, RunError, RunOptions, RunReport};
use crate::media::{SLOT_MS, SLOTS_PER_S};
use crate::ops::http::{Server, serve};
use crate::ops::metrics::{DurationCounts, Metrics, MetricsSnapshot};
use crate::ops::notify;
use crate::work::front::Front;
use crate::work::pool::Overload;
use crate::work::ports::{CorrelatorLoop, Link, QueuedPort};
use crate::work::stats::{Figure, FrontStats};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often the main thread looks for signals and failures.
const LOOK: Duration = Duration::from_millis(50);

/// How long a front may take for what its ring holds when it is told to stop.
const DRAIN_MOST: Duration = Duration::from_secs(10);

struct FrontEnd {
    received: u64,
    outcomes: OutcomeCounts,
    unclaimed: Vec<(crate::work::orphans::UnclaimedFlow, &'static str)>,
    kernel_dropped: u64,
    now: PacketTime,
    error: Option<CaptureError>,
}

/// Records calls from interfaces until SIGTERM or SIGINT.
///
/// # Errors
/// An interface that cannot be opened or goes away, an archive that cannot be written; what was
/// recorded is kept.
pub fn capture(interfaces: &[String], options: &RunOptions) -> Result<RunReport, RunError> {
    let stop = stop_on_signals()?;
    let (sources, names) = open_rings(interfaces, options)?;
    let engine = Engine::start(options, sources.len(), Overload::Spill)?;
    let links: Vec<Arc<Link>> = sources.iter().map(|_| Link::new()).collect();
    let metrics = serve_metrics(options, &engine, &names)?;
    let mut threads = Vec::new();
    for (number, (source, link)) in sources.into_iter().zip(&links).enumerate() {
        let ring = RingIndex(u8::try_from(number).unwrap_or(u8::MAX));
        let (outbox, stats) = engine.front_parts(ring);
        let front = Front::new(QueuedPort::new(Arc::clone(link)), outbox, Arc::clone(&stats));
        let (stop, link) = (Arc::clone(&stop), Arc::clone(link));
        let run = move || run_front(source, front, &stats, &stop, &link);
        threads.push(spawn(format!("callspan-front-{number}"), run)?);
    }
    let correlator = CorrelatorLoop::new(engine.signalling()?, links);
    let correlator = spawn("callspan-sip".into(), move || correlator.run())?;
    tracing::info!(interfaces = interfaces.join(", "), "recording");
    notify::ready("recording");
    while !stop.load(Ordering::Acquire) && engine.failure().is_none() {
        std::thread::sleep(LOOK);
        notify::watchdog();
    }
    stop.store(true, Ordering::Release);
    notify::stopping();
    let ends: Vec<FrontEnd> = threads.into_iter().map(join).collect();
    let moved = join(correlator);
    let result = finish(engine, ends, &moved);
    drop(metrics);
    result
}

fn finish(
    engine: Engine,
    ends: Vec<FrontEnd>,
    moved: &OutcomeCounts,
) -> Result<RunReport, RunError> {
    let mut report = FrontsReport::default();
    let mut gone = None;
    for end in ends {
        report.received = report.received.saturating_add(end.received);
        report.outcomes.merge(&end.outcomes);
        report.kernel_dropped = report.kernel_dropped.saturating_add(end.kernel_dropped);
        report.unclaimed.extend(end.unclaimed);
        gone = gone.or(end.error);
    }
    report.outcomes.take_many(crate::base::FrameOutcome::Sip, moved.total());
    report.outcomes.merge(moved);
    report.unclaimed.sort_by_key(|(flow, _)| std::cmp::Reverse(flow.frames));
    report.unclaimed.truncate(UNCLAIMED_SHOWN);
    let report = engine.finish(report)?;
    match gone {
        Some(error) => Err(RunError { report: Some(Box::new(report)), ..RunError::failed(error) }),
        None => Ok(report),
    }
}

fn open_rings(
    interfaces: &[String],
    options: &RunOptions,
) -> Result<(Vec<RingSource>, Vec<String>), RunError> {
    let mut sources = Vec::new();
    let mut names = Vec::new();
    let mib = usize::try_from(options.ring_size_mib).unwrap_or(64);
    for (number, interface) in interfaces.iter().enumerate() {
        let count = u16::try_from(options.capture_threads).unwrap_or(1);
        // The process and the interface make the group's number, so that two captures on one
        // machine do not share frames.
        let process = u16::try_from(std::process::id() & 0xfff).unwrap_or(0);
        let id = process.wrapping_mul(16).wrapping_add(u16::try_from(number).unwrap_or(0));
        for _ in 0..options.capture_threads {
            let ring = RingOptions {
                ring_bytes: mib << 20,
                fanout: Some(FanoutGroup { id, count }),
                filter: options.filter.as_deref(),
            };
            let source = RingSource::open(interface, ring).map_err(|error| RunError {
                exit: if error.class() == ErrorClass::Usage { Exit::Usage } else { Exit::Failed },
                ..RunError::failed(error)
            })?;
            sources.push(source);
            names.push(interface.clone());
        }
    }
    Ok((sources, names))
}

/// Where a front stops: traffic that never pauses must not keep it.
struct StopLine {
    /// Frames captured from here on are not waited for.
    at: PacketTime,
    since: Instant,
}

impl StopLine {
    fn now() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = PacketTime::from_ns(i64::try_from(epoch.as_nanos()).unwrap_or(i64::MAX));
        Self { at, since: Instant::now() }
    }

    fn is_passed(&self, front: PacketTime) -> bool {
        front >= self.at || self.since.elapsed() >= DRAIN_MOST
    }
}

fn run_front(
    mut source: RingSource,
    mut front: Front<QueuedPort>,
    stats: &FrontStats,
    stop: &AtomicBool,
    link: &Link,
) -> FrontEnd {
    let mut error = None;
    let mut stopping: Option<StopLine> = None;
    loop {
        if stopping.is_none() && stop.load(Ordering::Acquire) {
            stopping = Some(StopLine::now());
        }
        if stopping.as_ref().is_some_and(|line| line.is_passed(front.now())) {
            break;
        }
        match source.poll(&mut front) {
            Ok(Polled::Frames) => front.between(PacketTime::MIN),
            Ok(Polled::Idle { now }) => {
                front.between(now);
                if stopping.is_some() {
                    break;
                }
            }
            Ok(Polled::End) => break,
            Err(gone) => {
                error = Some(gone);
                stop.store(true, Ordering::Release);
                break;
            }
        }
        let counts = source.kernel_counts();
        stats.kernel_seen.set(counts.seen);
        stats.kernel_dropped.set(counts.dropped);
    }
    front.finish();
    let kernel_dropped = source.kernel_counts().dropped;
    stats.kernel_dropped.set(kernel_dropped);
    let end = FrontEnd {
        received: front.received(),
        outcomes: *front.outcomes(),
        unclaimed: front.unclaimed(UNCLAIMED_SHOWN),
        kernel_dropped,
        now: front.now(),
        error,
    };
    link.leave(end.now);
    end
}

fn stop_on_signals() -> Result<Arc<AtomicBool>, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The second signal ends the process at once, should the orderly end take too long.
        let failed = |error| RunError::failed(format_args!("cannot watch for signals: {error}"));
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))
            .map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(failed)?;
    }
    Ok(stop)
}

fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, RunError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|error| {
        RunError::failed(format_args!(
            "cannot start a thread: {error}; raise the limit on processes"
        ))
    })
}

/// A front's panic stops the process: it would miss frames in silence.
fn join<T>(thread: JoinHandle<T>) -> T {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Serves `--metrics`, where asked for. `interfaces`: one name a ring.
pub(super) fn serve_metrics(
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
    let slot_s = SLOT_MS as f64 / 1e3;
    debug_assert!((slot_s * f64::from(SLOTS_PER_S) - 1.0).abs() < 1e-9);
    snapshot.encoded_audio_seconds = stats.slots.get() as f64 * 2.0 * slot_s;
    snapshot.visits = stats.visits.get();
    snapshot.archive_bytes = stats.archive_bytes.get();
    snapshot.archive_commits = stats.archive_commits.get();
    snapshot.archive_commit_seconds = commit_seconds(&stats.archive_commit_buckets);
    snapshot.archive_commit_seconds.sum_seconds = stats.archive_commit_ns.get() as f64 / 1e9;
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
