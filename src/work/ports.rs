//! The ways from a front to the correlator.
//!
//! Purpose: in a replay the reader runs the correlator itself, so that every packet meets the flow
//! table of its own time; live, each front has bounded queues to and from a thread of its own.
//! Invariants: a front never waits for the correlator; a full queue is an outcome.
//! Non-goals: what a message means (see `signalling`).
//! Sources: none.

use super::front::SipPort;
use super::signalling::{Signalling, TableUpdate};
use crate::base::limits::{SIGHT_QUEUE_MAX, SIP_QUEUE_MAX};
use crate::base::{FiveTuple, FrameOutcome, OutcomeCounts, PacketTime, Protocol};
use crate::rtp::sight::FlowSight;
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// The correlator, run by the front itself.
pub struct InlinePort {
    signalling: Signalling,
    updates: Vec<TableUpdate>,
    ready: VecDeque<TableUpdate>,
}

impl InlinePort {
    /// Takes the correlator.
    #[must_use]
    pub const fn new(signalling: Signalling) -> Self {
        Self { signalling, updates: Vec::new(), ready: VecDeque::new() }
    }

    /// The end of the input: every timer is due.
    pub fn drain_timers(&mut self) {
        self.signalling.drain_timers(&mut self.updates);
        self.ready.extend(self.updates.drain(..));
    }

    /// callspan stops: what goes on is truncated.
    pub fn shut_down(&mut self, now: PacketTime) {
        self.signalling.shut_down(now, &mut self.updates);
        self.ready.extend(self.updates.drain(..));
    }
}

impl SipPort for InlinePort {
    fn message(&mut self, time: PacketTime, flow: FiveTuple, bytes: &[u8]) -> FrameOutcome {
        let outcome = self.signalling.message(time, flow, bytes, &mut self.updates);
        self.ready.extend(self.updates.drain(..));
        outcome
    }

    fn sight(&mut self, time: PacketTime, sight: FlowSight) {
        self.signalling.sight(time, &sight, &mut self.updates);
        self.ready.extend(self.updates.drain(..));
    }

    fn tick(&mut self, now: PacketTime) {
        self.signalling.tick(now, &mut self.updates);
        if !self.updates.is_empty() {
            self.ready.extend(self.updates.drain(..));
        }
    }

    fn update(&mut self) -> Option<TableUpdate> {
        self.ready.pop_front()
    }
}

#[derive(Debug)]
struct SipItem {
    time: PacketTime,
    flow: FiveTuple,
    bytes: Box<[u8]>,
}

/// The queues between one front and the correlator's thread.
#[derive(Debug)]
pub struct Link {
    messages: ArrayQueue<SipItem>,
    sights: ArrayQueue<(PacketTime, FlowSight)>,
    updates: ArrayQueue<TableUpdate>,
    now_ns: AtomicI64,
    left_ns: AtomicI64,
    is_gone: AtomicBool,
}

impl Link {
    /// Empty queues.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            messages: ArrayQueue::new(SIP_QUEUE_MAX),
            sights: ArrayQueue::new(SIGHT_QUEUE_MAX),
            updates: ArrayQueue::new(SIP_QUEUE_MAX),
            now_ns: AtomicI64::new(i64::MIN),
            left_ns: AtomicI64::new(i64::MIN),
            is_gone: AtomicBool::new(false),
        })
    }

    /// The front stops at `now`: it sends nothing more and takes no update.
    pub fn leave(&self, now: PacketTime) {
        self.left_ns.store(now.ns(), Ordering::Release);
        self.now_ns.store(i64::MAX, Ordering::Release);
        self.is_gone.store(true, Ordering::Release);
    }
}

/// A front's end of a link.
#[derive(Debug)]
pub struct QueuedPort {
    link: Arc<Link>,
}

impl QueuedPort {
    /// The front's end.
    #[must_use]
    pub const fn new(link: Arc<Link>) -> Self {
        Self { link }
    }
}

impl SipPort for QueuedPort {
    fn message(&mut self, time: PacketTime, flow: FiveTuple, bytes: &[u8]) -> FrameOutcome {
        // SIP is copied to the heap: it is a thousandth of the media, and of any length.
        let item = SipItem { time, flow, bytes: bytes.into() };
        match self.link.messages.push(item) {
            Ok(()) => FrameOutcome::Sip,
            Err(_) => FrameOutcome::SipQueueFull,
        }
    }

    fn sight(&mut self, time: PacketTime, sight: FlowSight) {
        // A full queue costs this chance: the flow is looked at again.
        let _ = self.link.sights.push((time, sight));
    }

    fn tick(&mut self, now: PacketTime) {
        self.link.now_ns.store(now.ns(), Ordering::Release);
    }

    fn update(&mut self) -> Option<TableUpdate> {
        self.link.updates.pop()
    }
}

/// The correlator's thread: merges the messages of all fronts by time.
pub struct CorrelatorLoop {
    signalling: Signalling,
    links: Vec<Arc<Link>>,
    waiting: Vec<(usize, SipItem)>,
    moved: OutcomeCounts,
}

impl CorrelatorLoop {
    /// For some fronts.
    #[must_use]
    pub fn new(signalling: Signalling, links: Vec<Arc<Link>>) -> Self {
        Self { signalling, links, waiting: Vec::new(), moved: OutcomeCounts::default() }
    }

    /// Runs until all fronts are gone; what goes on then is truncated. Returns the
    /// outcomes of frames that were counted as SIP and turned out to be something else.
    pub fn run(mut self) -> OutcomeCounts {
        let mut latest = PacketTime::MIN;
        loop {
            // Time first, then the queues: what lies before it is in them.
            let all_gone = self.links.iter().all(|link| link.is_gone.load(Ordering::Acquire));
            let now = self.now();
            let worked = self.take(now);
            if now != PacketTime::MAX {
                latest = latest.max(now);
            }
            if all_gone {
                let mut updates = Vec::new();
                self.signalling.shut_down(self.last_front_time().max(latest), &mut updates);
                return self.moved;
            }
            let mut updates = Vec::new();
            self.signalling.tick(latest, &mut updates);
            self.send(updates);
            if !worked {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn now(&self) -> PacketTime {
        let times = self.links.iter().map(|link| link.now_ns.load(Ordering::Acquire));
        PacketTime::from_ns(times.min().unwrap_or(i64::MAX))
    }

    fn last_front_time(&self) -> PacketTime {
        let times = self.links.iter().map(|link| link.left_ns.load(Ordering::Acquire));
        PacketTime::from_ns(times.max().unwrap_or(i64::MIN))
    }

    fn take(&mut self, now: PacketTime) -> bool {
        for (ring, link) in self.links.iter().enumerate() {
            while let Some(item) = link.messages.pop() {
                self.waiting.push((ring, item));
            }
        }
        self.waiting.sort_by_key(|(ring, item)| (item.time, *ring));
        let due = self.waiting.partition_point(|(_, item)| item.time <= now);
        let items: Vec<(usize, SipItem)> = self.waiting.drain(..due).collect();
        let worked = !items.is_empty();
        for (_, item) in items {
            let mut updates = Vec::new();
            let outcome = self.signalling.message(item.time, item.flow, &item.bytes, &mut updates);
            if outcome != FrameOutcome::Sip && item.flow.protocol == Protocol::Udp {
                self.moved.add(outcome);
            }
            self.send(updates);
        }
        for link in &self.links {
            for _ in 0..link.sights.len() {
                let Some((time, sight)) = link.sights.pop() else { break };
                let mut updates = Vec::new();
                self.signalling.sight(time, &sight, &mut updates);
                self.send(updates);
            }
        }
        worked
    }

    fn send(&self, updates: Vec<TableUpdate>) {
        for update in updates {
            for link in &self.links {
                let mut refused = link.updates.push(update.clone());
                while let Err(again) = refused {
                    if link.is_gone.load(Ordering::Acquire) {
                        break;
                    }
                    // The front takes its updates between frames; only this thread waits.
                    std::thread::sleep(Duration::from_micros(100));
                    refused = link.updates.push(again);
                }
            }
        }
    }
}
