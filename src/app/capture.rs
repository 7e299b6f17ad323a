//! `callspan capture`: calls from live interfaces, until SIGTERM.
//!
//! Purpose: a ring and a front thread each, a correlator thread, metrics; and an orderly end.
//! Invariants: rings are opened before anything is started, so that a wrong interface costs
//! nothing; on SIGTERM fronts stop first, then the correlator, the workers, the archive.
//! Non-goals: the packet path (see `work::front`).
//! Sources: sd_notify(3).

use super::engine::{Engine, FrontsReport, UNCLAIMED_SHOWN};
use super::key_log::{KeyLogFile, tls_keys};
use super::watch::serve_metrics;
use crate::base::{FrameSource, OutcomeCounts, PacketTime, Polled, RingIndex};
use crate::capture::{CaptureError, ErrorClass, FanoutGroup, HepSource, RingOptions, RingSource};
use crate::cli::{Exit, RunError, RunOptions, RunReport};
use crate::ops::notify;
use crate::tls::KeyLog;
use crate::work::front::Front;
use crate::work::pool::Overload;
use crate::work::ports::{CorrelatorLoop, Link, QueuedPort};
use crate::work::stats::{FrontStats, Room};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often the main thread looks for signals and failures.
const LOOK: Duration = Duration::from_millis(50);

/// How long a front may take for what its ring holds when it is told to stop.
const DRAIN_MOST: Duration = Duration::from_secs(10);

/// A ring, or the socket that HEP comes to.
type Source = Box<dyn FrameSource<Error = CaptureError> + Send>;

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
    let log = KeyLog::new();
    let tls = tls_keys(options, log.clone())?;
    let mut key_log = options.tls_keylog.clone().map(|path| KeyLogFile::new(path, log.clone()));
    key_log.iter_mut().for_each(KeyLogFile::look);
    let engine = Engine::start(options, sources.len(), Overload::Spill)?;
    let links: Vec<Arc<Link>> = sources.iter().map(|_| Link::new()).collect();
    let metrics = serve_metrics(options, &engine, &names)?;
    let mut threads = Vec::new();
    for (number, (source, link)) in sources.into_iter().zip(&links).enumerate() {
        let ring = RingIndex(u8::try_from(number).unwrap_or(u8::MAX));
        let (outbox, stats) = engine.front_parts(ring);
        let mut front = Front::new(QueuedPort::new(Arc::clone(link)), outbox, Arc::clone(&stats));
        if let Some(keys) = &tls {
            front = front.with_tls(keys.clone());
        }
        let (stop, link) = (Arc::clone(&stop), Arc::clone(link));
        let run = move || run_front(source, front, &stats, &stop, &link);
        threads.push(spawn(format!("callspan-front-{number}"), run)?);
    }
    let correlator = CorrelatorLoop::new(engine.signalling(log)?, links);
    let correlator = spawn("callspan-sip".into(), move || correlator.run())?;
    tracing::info!(interfaces = interfaces.join(", "), "recording");
    notify::ready("recording");
    // A thread that ends early has panicked: what it would miss must not be missed in silence.
    let ended_early = |threads: &[JoinHandle<FrontEnd>], correlator: &JoinHandle<OutcomeCounts>| {
        correlator.is_finished() || threads.iter().any(JoinHandle::is_finished)
    };
    let mut room = engine.say_room(Room::Enough);
    while !stop.load(Ordering::Acquire)
        && engine.failure().is_none()
        && !ended_early(&threads, &correlator)
    {
        std::thread::sleep(LOOK);
        key_log.iter_mut().for_each(KeyLogFile::look);
        notify::watchdog();
        room = engine.say_room(room);
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
) -> Result<(Vec<Source>, Vec<String>), RunError> {
    let mut sources: Vec<Source> = Vec::new();
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
            sources.push(Box::new(source));
            names.push(interface.clone());
        }
    }
    if let Some(address) = options.hep_listen {
        let source = HepSource::open(address).map_err(RunError::failed)?;
        tracing::info!(%address, "receiving HEP");
        sources.push(Box::new(source));
        names.push("hep".to_owned());
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
    mut source: Source,
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
