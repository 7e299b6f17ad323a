//! The workers: a work-stealing pool that visits calls.
//!
//! Purpose: spread visits over threads, one call at a time each.
//! Invariants: no two workers hold the same call (its work box is in one place); the pool stops
//! only when every call is finished, or when it is told to leave the rest.
//! Non-goals: what a visit does (see `visit`).
//! Sources: Chase and Lev's work-stealing deque, as `crossbeam` has it.

use super::queue::{BlockPool, CallSlot, Progress};
use super::ready::Ready;
use super::stats::Stats;
use super::visit::{CallWork, Load, Visited};
use super::writer::ArchiveSender;
use crate::media::Recorded;
use crossbeam::deque::{Stealer, Worker};
use crossbeam::queue::SegQueue;
use nix::time::{ClockId, clock_gettime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Calls that a worker takes from the ready queue at once; others may steal them back.
const TAKE: usize = 8;

/// Above this share of all blocks in use, packets are put aside…
const OVERLOAD_PERMILLE: usize = 600;

/// …until it falls below this.
const RELIEF_PERMILLE: usize = 300;

/// How often an idle worker looks whether calls that have ended can be finished: their producers
/// come further with a block or a tick, and to ask all the time would take a processor.
const ENDING_PAUSE: Duration = Duration::from_millis(5);

/// Whether packets may be put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// A replay: the reader waits.
    Wait,
    /// Live: put them aside.
    Spill,
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// Calls that wait.
    pub ready: Arc<Ready>,
    /// How far producers have come.
    pub progress: Arc<Progress>,
    /// Blocks.
    pub blocks: Arc<BlockPool>,
    /// Figures.
    pub stats: Arc<Stats>,
    /// The archive's queue.
    pub archive: ArchiveSender,
    /// What to do when they cannot keep up.
    pub overload: Overload,
    /// Calls whose packets were put aside.
    aside: SegQueue<Arc<CallSlot>>,
    /// Calls that have ended, ahead of some producer.
    ending: SegQueue<Arc<CallSlot>>,
    is_overloaded: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    /// What the workers of one run share.
    #[must_use]
    pub fn new(
        ready: Arc<Ready>,
        progress: Arc<Progress>,
        blocks: Arc<BlockPool>,
        stats: Arc<Stats>,
        archive: ArchiveSender,
        overload: Overload,
    ) -> Self {
        let (is_overloaded, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let (aside, ending) = (SegQueue::new(), SegQueue::new());
        Self {
            ready,
            progress,
            blocks,
            stats,
            archive,
            overload,
            aside,
            ending,
            is_overloaded,
            stop,
        }
    }

    fn load(&self) -> Load {
        if self.overload == Overload::Wait {
            return Load::Normal;
        }
        let permille = self.blocks.load_permille();
        let was = self.is_overloaded.load(Ordering::Relaxed);
        let is = permille > if was { RELIEF_PERMILLE } else { OVERLOAD_PERMILLE };
        if is != was {
            self.is_overloaded.store(is, Ordering::Relaxed);
        }
        if is { Load::Overload } else { Load::Normal }
    }

    /// When the load has fallen, one call whose packets were put aside wants a visit.
    fn recall(&self) {
        if !self.aside.is_empty() && self.load() == Load::Normal {
            take_up(&self.aside, &self.ready);
        }
    }
}

/// Asks for a visit of the call that was noted first; false when none is.
fn take_up(noted: &SegQueue<Arc<CallSlot>>, ready: &Ready) -> bool {
    let Some(slot) = noted.pop() else { return false };
    slot.take_note();
    ready.request(&slot);
    true
}

/// Running workers.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `workers` threads.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(workers: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        let locals: Vec<Worker<Arc<CallSlot>>> =
            (0..workers.max(1)).map(|_| Worker::new_fifo()).collect();
        let stealers: Arc<[Stealer<Arc<CallSlot>>]> = locals.iter().map(Worker::stealer).collect();
        let mut threads = Vec::new();
        for (number, local) in locals.into_iter().enumerate() {
            let (shared, stealers) = (Arc::clone(&shared), Arc::clone(&stealers));
            let name = format!("callspan-work-{number}");
            let run = move || work(&shared, &local, &stealers);
            threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(Self { shared, threads })
    }

    /// Waits until every call is finished, then stops the threads. `give_up` says when to leave
    /// the rest; returns how many calls were left.
    pub fn finish(self, mut give_up: impl FnMut() -> bool) -> u64 {
        while self.shared.stats.calls_open.get() > 0 && !give_up() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads {
            // A worker's panic has cost its call; the others go on.
            let _ = thread.join();
        }
        self.shared.stats.calls_open.get()
    }
}

fn work(shared: &Shared, local: &Worker<Arc<CallSlot>>, stealers: &[Stealer<Arc<CallSlot>>]) {
    let mut idle: u32 = 0;
    let mut asked = Instant::now();
    loop {
        shared.recall();
        if let Some(slot) = next(shared, local, stealers) {
            idle = 0;
            visit(shared, &slot, local);
            continue;
        }
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        idle = idle.saturating_add(1);
        // Each once: a call that still cannot be finished is noted again, for the next time.
        if !shared.ending.is_empty() && asked.elapsed() >= ENDING_PAUSE {
            asked = Instant::now();
            for _ in 0..shared.ending.len() {
                take_up(&shared.ending, &shared.ready);
            }
        }
        if idle < 4 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn next(
    shared: &Shared,
    local: &Worker<Arc<CallSlot>>,
    stealers: &[Stealer<Arc<CallSlot>>],
) -> Option<Arc<CallSlot>> {
    if let Some(slot) = local.pop() {
        return Some(slot);
    }
    let first = shared.ready.take();
    if first.is_some() {
        for _ in 1..TAKE.min(shared.ready.len()) {
            match shared.ready.take() {
                Some(slot) => local.push(slot),
                None => break,
            }
        }
        return first;
    }
    stealers.iter().find_map(|stealer| stealer.steal().success())
}

fn visit(shared: &Shared, slot: &Arc<CallSlot>, local: &Worker<Arc<CallSlot>>) {
    let Some(mut work) = slot.enter() else { return };
    let began = processor_ns();
    // Progress first, then the queues: what lies before it is in them.
    let safe = shared.progress.safe();
    let load = shared.load();
    // A bug that a packet reaches costs its call, not the others.
    let visited = catch_unwind(AssertUnwindSafe(|| {
        let visited = work.visit(slot, safe, load, &shared.blocks, &shared.archive);
        (visited, work)
    }));
    let again = match visited {
        Ok((Visited::Open, work)) => slot.leave(Some(work)),
        Ok((Visited::Aside, work)) => note(slot, work, &shared.aside),
        Ok((Visited::Ending, work)) => note(slot, work, &shared.ending),
        Ok((Visited::Finished(report), mut work)) => {
            work.release(slot, &shared.blocks);
            if report.recorded != Recorded::Nothing {
                shared.stats.calls_recorded.add(1);
            }
            for rtcp in report.streams.iter().filter_map(|stream| stream.rtcp.as_ref()) {
                shared.stats.rtcp_reports.add(rtcp.reports);
                let lost = rtcp.lost.map_or(0, |lost| u64::try_from(lost).unwrap_or(0));
                shared.stats.rtcp_lost.add(lost);
            }
            shared.stats.calls_open.sub(1);
            false
        }
        Err(_) => {
            shared.stats.calls_broken.add(1);
            shared.stats.calls_open.sub(1);
            false
        }
    };
    shared.stats.visit_ns.add(processor_ns().saturating_sub(began));
    shared.stats.visits.add(1);
    if again {
        local.push(Arc::clone(slot));
    }
}

/// Ends a visit of a call that wants another which nobody else will ask for.
fn note(slot: &Arc<CallSlot>, work: Box<CallWork>, noted: &SegQueue<Arc<CallSlot>>) -> bool {
    let again = slot.leave(Some(work));
    if slot.note() {
        noted.push(Arc::clone(slot));
    }
    again
}

/// Processor time of this thread, ns.
fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Into::into);
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
