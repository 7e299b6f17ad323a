//! The per-call queue: blocks of packets from one front to one worker at a time.
//!
//! Purpose: hand packets over without a lock, an allocation per packet, or a wait.
//! Invariants: one producer a queue (a call and a ring); whoever takes the call's work box is the
//! one consumer; a block is in one place at a time: pool, front, queue or worker.
//! Non-goals: order across rings (see `visit`), when to visit (see `pool`).
//! Sources: the bounded MPMC queue of `crossbeam` (D. Vyukov's); Miri and TSan cover it there.

use super::visit::CallWork;
use crate::base::limits::{BLOCK_BYTES, CALL_QUEUE_BLOCKS};
use crate::base::{CallId, CallIndex, Channel, EntryFlows, PacketEntry, PacketTime, RingIndex};
use crate::call::CallFacts;
use crate::rtp::plan::Control;
use crossbeam::atomic::AtomicCell;
use crossbeam::queue::{ArrayQueue, SegQueue};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Packets of one call and ring, back to back as `EntryFlows` writes them.
#[derive(Debug)]
#[repr(C)]
pub struct Block {
    bytes: Vec<u8>,
    len: usize,
    flows: EntryFlows,
}

impl Block {
    fn new() -> Self {
        Self { bytes: vec![0; BLOCK_BYTES], len: 0, flows: EntryFlows::default() }
    }

    /// Appends a packet with this payload; false when there is too little room. An empty block has room
    /// for any.
    pub fn push(&mut self, entry: &PacketEntry<'_>, payload: &[u8]) -> bool {
        if self.len == 0 {
            let needed = payload.len().saturating_add(PacketEntry::HEADER_LEN_BYTES);
            self.bytes.resize(needed.max(BLOCK_BYTES), 0);
        }
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let written = self.flows.write_with(entry, payload, room);
        self.len += written.unwrap_or(0);
        written.is_some()
    }

    /// The packets.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// True when it holds no packet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Free blocks, made on demand up to a number and then used again and again.
#[derive(Debug)]
pub struct BlockPool {
    free: ArrayQueue<Box<Block>>,
    made: AtomicUsize,
    most: usize,
}

impl BlockPool {
    /// A pool of at most `most` blocks.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { free: ArrayQueue::new(most.max(1)), made: AtomicUsize::new(0), most: most.max(1) }
    }

    /// An empty block; `None` when all are in use.
    #[must_use]
    pub fn take(&self) -> Option<Box<Block>> {
        if let Some(block) = self.free.pop() {
            return Some(block);
        }
        let counted = self.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |made| {
            (made < self.most).then_some(made + 1)
        });
        counted.ok().map(|_| Box::new(Block::new()))
    }

    /// Gives a block back.
    pub fn give(&self, mut block: Box<Block>) {
        block.len = 0;
        if block.bytes.len() > BLOCK_BYTES {
            block.bytes = vec![0; BLOCK_BYTES];
        }
        block.flows.clear();
        // There is room for every block that was made.
        let _ = self.free.push(block);
    }

    /// Blocks that are neither free nor unmade.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.made.load(Ordering::Relaxed).saturating_sub(self.free.len())
    }

    /// Blocks in use, in thousandths of all there may be.
    #[must_use]
    pub fn load_permille(&self) -> usize {
        self.in_use().saturating_mul(1_000) / self.most
    }
}

/// Whether a call waits for a worker.
const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_AGAIN: u8 = 3;

/// How much of a call's sound its workers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Whole packets.
    Packets,
    /// Headers, once a stream is known: nothing of it is recorded.
    Headers,
}

/// What fronts, correlator and workers share of one call.
pub struct CallSlot {
    /// Place in the tables.
    pub index: CallIndex,
    /// Name in the archive.
    pub id: CallId,
    /// What fronts hand over of its sound.
    pub keep: Keep,
    /// Payload types whose payloads say more than how they sound, one bit each.
    read: [AtomicU64; 2],
    queues: Box<[ArrayQueue<Box<Block>>]>,
    controls: SegQueue<(PacketTime, Control)>,
    facts: AtomicCell<Option<Box<CallFacts>>>,
    work: AtomicCell<Option<Box<CallWork>>>,
    state: AtomicU8,
    is_noted: AtomicBool,
    /// By channel.
    last_media_ns: [AtomicI64; 2],
}

impl std::fmt::Debug for CallSlot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "CallSlot({}, {})", self.index.0, self.id)
    }
}

/// The queue is full; the block comes back.
#[derive(Debug)]
pub struct QueueFull(pub Box<Block>);

impl CallSlot {
    /// A call with one queue a ring.
    #[must_use]
    pub fn new(
        (index, id): (CallIndex, CallId),
        keep: Keep,
        rings: usize,
        work: Box<CallWork>,
    ) -> Self {
        let queue = || ArrayQueue::new(CALL_QUEUE_BLOCKS);
        Self {
            index,
            id,
            keep,
            read: [AtomicU64::new(0), AtomicU64::new(0)],
            queues: (0..rings).map(|_| queue()).collect(),
            controls: SegQueue::new(),
            facts: AtomicCell::new(None),
            work: AtomicCell::new(Some(work)),
            state: AtomicU8::new(IDLE),
            is_noted: AtomicBool::new(false),
            last_media_ns: [AtomicI64::new(i64::MIN), AtomicI64::new(i64::MIN)],
        }
    }

    /// The plan changed: payloads of these types are read from now on, whatever is kept.
    pub fn read_types(&self, types: u128) {
        let [low, high] = &self.read;
        low.store(u64::try_from(types & u128::from(u64::MAX)).unwrap_or(0), Ordering::Relaxed);
        high.store(u64::try_from(types >> 64).unwrap_or(0), Ordering::Relaxed);
    }

    /// The types that `read_types` was told.
    #[must_use]
    pub fn types_read(&self) -> u128 {
        let [low, high] = [0, 1].map(|at| u128::from(self.read[at].load(Ordering::Relaxed)));
        high << 64 | low
    }

    /// Hands a block over.
    ///
    /// # Errors
    /// `QueueFull` with the block.
    pub fn push(&self, ring: RingIndex, block: Box<Block>) -> Result<(), QueueFull> {
        match self.queues.get(usize::from(ring.0)) {
            Some(queue) => queue.push(block).map_err(QueueFull),
            None => Err(QueueFull(block)),
        }
    }

    /// Takes the oldest block of a ring.
    pub fn pop(&self, ring: usize) -> Option<Box<Block>> {
        self.queues.get(ring)?.pop()
    }

    /// Tells the call's media something.
    pub fn control(&self, time: PacketTime, control: Control) {
        self.controls.push((time, control));
    }

    /// Takes the oldest control.
    pub fn pop_control(&self) -> Option<(PacketTime, Control)> {
        self.controls.pop()
    }

    /// Leaves what SIP has told for whoever visits the call next; the final facts are the last.
    pub fn leave_facts(&self, facts: Box<CallFacts>) {
        self.facts.store(Some(facts));
    }

    /// Takes facts that are newer than those taken before.
    pub fn take_facts(&self) -> Option<Box<CallFacts>> {
        self.facts.take()
    }

    /// A party's media passed at `time`.
    pub fn saw_media(&self, channel: Channel, time: PacketTime) {
        // No exchange, whose price each packet would pay: what another ring writes between the two is
        // made good by the next packet.
        let last_ns = &self.last_media_ns[channel.index()];
        if time.ns() > last_ns.load(Ordering::Relaxed) {
            last_ns.store(time.ns(), Ordering::Relaxed);
        }
    }

    /// When media last passed.
    #[must_use]
    pub fn last_media(&self) -> Option<PacketTime> {
        Channel::BOTH.into_iter().filter_map(|channel| self.last_media_of(channel)).max()
    }

    /// When a party's media last passed.
    #[must_use]
    pub fn last_media_of(&self, channel: Channel) -> Option<PacketTime> {
        let ns = self.last_media_ns[channel.index()].load(Ordering::Relaxed);
        (ns != i64::MIN).then(|| PacketTime::from_ns(ns))
    }

    /// Notes that the call wants a visit that nobody will ask for; true when it was not noted yet.
    #[must_use]
    pub fn note(&self) -> bool {
        !self.is_noted.swap(true, Ordering::AcqRel)
    }

    /// The note is taken up.
    pub fn take_note(&self) {
        self.is_noted.store(false, Ordering::Release);
    }

    /// Asks for a visit; true when the caller must put the call on the ready queue.
    #[must_use]
    pub fn request_visit(&self) -> bool {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            RUNNING => Some(RUNNING_AGAIN),
            _ => None,
        };
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        before == Ok(IDLE)
    }

    /// A visit begins: the call's work box, which is the visitor's until `leave`.
    #[must_use]
    pub fn enter(&self) -> Option<Box<CallWork>> {
        self.state.store(RUNNING, Ordering::Release);
        self.work.take()
    }

    /// A visit ends; true when another was asked for meanwhile, and the caller must queue it.
    #[must_use]
    pub fn leave(&self, work: Option<Box<CallWork>>) -> bool {
        self.work.store(work);
        let next = |state| Some(if state == RUNNING_AGAIN { QUEUED } else { IDLE });
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        before == Ok(RUNNING_AGAIN)
    }
}

/// How far every producer has come: packets and controls before this time are all in the queues.
#[derive(Debug)]
pub struct Progress {
    producers: Box<[AtomicI64]>,
}

impl Progress {
    /// One producer a ring, and the correlator as the last.
    #[must_use]
    pub fn new(rings: usize) -> Self {
        Self { producers: (0..=rings).map(|_| AtomicI64::new(i64::MIN)).collect() }
    }

    /// Everything of ring `ring` before `time` has been handed over.
    pub fn ring(&self, ring: RingIndex, time: PacketTime) {
        self.set(usize::from(ring.0), time);
    }

    /// Every control before `time` has been handed over.
    pub fn signalling(&self, time: PacketTime) {
        self.set(self.producers.len().saturating_sub(1), time);
    }

    fn set(&self, producer: usize, time: PacketTime) {
        if let Some(progress) = self.producers.get(producer) {
            progress.fetch_max(time.ns(), Ordering::Release);
        }
    }

    /// Before this time nothing more will come.
    #[must_use]
    pub fn safe(&self) -> PacketTime {
        let least = self.producers.iter().map(|time| time.load(Ordering::Acquire)).min();
        PacketTime::from_ns(least.unwrap_or(i64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_never_makes_more_blocks_than_it_may() {
        let pool = BlockPool::new(2);
        let (first, second) = (pool.take().expect("one"), pool.take().expect("two"));
        assert!(pool.take().is_none());
        assert_eq!((pool.in_use(), pool.load_permille()), (2, 1_000));
        pool.give(first);
        assert!(pool.take().is_some());
        pool.give(second);
    }

    #[test]
    fn progress_is_that_of_the_slowest() {
        let progress = Progress::new(2);
        progress.ring(RingIndex(0), PacketTime::from_ms(30));
        progress.signalling(PacketTime::from_ms(20));
        assert_eq!(progress.safe(), PacketTime::MIN);
        progress.ring(RingIndex(1), PacketTime::from_ms(10));
        assert_eq!(progress.safe(), PacketTime::from_ms(10));
    }
}
