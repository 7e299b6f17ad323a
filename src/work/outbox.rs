//! A front's open blocks, one a call.
//!
//! Purpose: gather a call's packets into a block and hand it to the workers when it is full or old.
//! Invariants: a packet is copied once; a block is handed over at most `BLOCK_AGE_MS_MAX` after its
//! first packet; what could not be kept is owed to the recording as a gap.
//! Non-goals: whose a packet is (see `flows`).
//! Sources: none.

use super::queue::{Block, BlockPool, CallSlot, Progress, QueueFull};
use super::ready::Ready;
use crate::base::limits::BLOCK_AGE_MS_MAX;
use crate::base::{CallIndex, EntryKind, PacketEntry, PacketTime, RingIndex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What to do when there is no block or no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// A replay: wait for the workers.
    Wait,
    /// Live: drop, and owe a gap.
    Drop,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in a block.
    Taken,
    /// There was no room.
    Full,
    /// The front does not know the call.
    NoCall,
}

#[derive(Debug)]
struct Open {
    slot: Arc<CallSlot>,
    block: Option<Box<Block>>,
    serial: u64,
    /// A packet that was dropped and is not told of yet.
    owed: Option<(PacketTime, crate::base::Channel)>,
    visit: Visit,
}

/// Whether a call stands in `handed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    NotDue,
    Due,
}

/// The open blocks of one front.
#[derive(Debug)]
pub struct Outbox {
    ring: RingIndex,
    calls: Vec<Option<Open>>,
    /// Blocks in order of their first packet.
    ages: VecDeque<(PacketTime, CallIndex, u64)>,
    /// Of those, what a full queue refused; empty between calls, kept for its memory.
    stuck: Vec<(PacketTime, CallIndex, u64)>,
    /// Calls whose blocks were handed over since this ring last told how far it has come. A visit
    /// asked for before that would find the block beyond what is safe, and leave it there.
    handed: Vec<CallIndex>,
    serial: u64,
    pool: Arc<BlockPool>,
    ready: Arc<Ready>,
    progress: Arc<Progress>,
    when_full: WhenFull,
}

impl Outbox {
    /// For one ring.
    #[must_use]
    pub fn new(
        ring: RingIndex,
        pool: Arc<BlockPool>,
        ready: Arc<Ready>,
        progress: Arc<Progress>,
        when_full: WhenFull,
    ) -> Self {
        let (calls, ages, stuck, handed) = (Vec::new(), VecDeque::new(), Vec::new(), Vec::new());
        Self { ring, calls, ages, stuck, handed, serial: 0, pool, ready, progress, when_full }
    }

    /// A call begins.
    pub fn open(&mut self, slot: Arc<CallSlot>) {
        let at = slot.index.0 as usize;
        if self.calls.len() <= at {
            self.calls.resize_with(at + 1, || None);
        }
        self.close(slot.index);
        if let Some(place) = self.calls.get_mut(at) {
            *place = Some(Open { slot, block: None, serial: 0, owed: None, visit: Visit::NotDue });
        }
        // Each call stands in it once, so that handing over never allocates.
        let room = self.calls.len().saturating_sub(self.handed.len());
        self.handed.reserve(room);
    }

    /// A call is forgotten.
    pub fn close(&mut self, call: CallIndex) {
        self.hand_over(call);
        if let Some(open) = self.calls.get_mut(call.0 as usize).and_then(Option::take) {
            self.ready.request(&open.slot);
        }
    }

    /// Copies a packet into its call's block.
    pub fn push(&mut self, call: CallIndex, entry: &PacketEntry<'_>) -> Pushed {
        if self.get(call).is_none() {
            return Pushed::NoCall;
        }
        for _ in 0..2 {
            if !self.ensure_block(call, entry.time) {
                break;
            }
            let Some(open) = self.get(call) else { return Pushed::NoCall };
            let Some(block) = &mut open.block else { break };
            if let Some((time, channel)) = open.owed.take() {
                let kind = EntryKind::Dropped;
                let owed = PacketEntry { time, kind, channel, payload: &[], ..*entry };
                if !block.push(&owed) {
                    open.owed = Some((time, channel));
                }
            }
            if block.push(entry) {
                if entry.kind == EntryKind::Rtp {
                    open.slot.saw_media(entry.channel, entry.time);
                }
                return Pushed::Taken;
            }
            // Full, or a packet larger than a block: only the first is worth a second try.
            if block.is_empty() {
                break;
            }
            if !self.hand_over(call) {
                break;
            }
        }
        if let Some(open) = self.get(call) {
            open.owed.get_or_insert((entry.time, entry.channel));
        }
        Pushed::Full
    }

    /// What follows was claimed at `time`: older packets.
    pub fn mark_claimed(&mut self, call: CallIndex, time: PacketTime) {
        let _ = self.push(call, &PacketEntry::mark(time, EntryKind::Claimed, &[]));
    }

    /// Hands over blocks that are old enough, and tells how far this ring has come.
    pub fn hand_over_old(&mut self, now: PacketTime) {
        let mut stuck = std::mem::take(&mut self.stuck);
        while let Some((first, call, serial)) = self.ages.front().copied() {
            let is_open = self.is_open(call, serial);
            if is_open && now.ms_since(first) < BLOCK_AGE_MS_MAX {
                break;
            }
            self.ages.pop_front();
            if is_open && !self.hand_over(call) {
                stuck.push((first, call, serial));
            }
        }
        for age in stuck.drain(..).rev() {
            self.ages.push_front(age);
        }
        self.stuck = stuck;
        let oldest = self.ages.front().map_or(now, |(first, ..)| *first);
        self.advance(oldest.min(now));
    }

    /// Tells how far this ring has come, and then asks for the visits that can use it.
    fn advance(&mut self, to: PacketTime) {
        self.progress.ring(self.ring, to);
        let mut handed = std::mem::take(&mut self.handed);
        for call in handed.drain(..) {
            if let Some(Some(open)) = self.calls.get_mut(call.0 as usize) {
                open.visit = Visit::NotDue;
                self.ready.request(&open.slot);
            }
        }
        self.handed = handed;
    }

    fn is_open(&mut self, call: CallIndex, serial: u64) -> bool {
        self.get(call).is_some_and(|open| open.block.is_some() && open.serial == serial)
    }

    /// Hands over everything.
    pub fn finish(&mut self) {
        self.hand_over_all();
        self.advance(PacketTime::MAX);
        for open in self.calls.iter().flatten() {
            self.ready.request(&open.slot);
        }
    }

    fn hand_over_all(&mut self) {
        while let Some((_, call, serial)) = self.ages.pop_front() {
            if self.is_open(call, serial) {
                self.hand_over(call);
            }
        }
    }

    fn get(&mut self, call: CallIndex) -> Option<&mut Open> {
        self.calls.get_mut(call.0 as usize)?.as_mut()
    }

    fn ensure_block(&mut self, call: CallIndex, time: PacketTime) -> bool {
        if self.get(call).is_some_and(|open| open.block.is_some()) {
            return true;
        }
        let mut block = self.pool.take();
        while block.is_none() && self.when_full == WhenFull::Wait {
            // All blocks may be open here: give them to the workers, and wait for one. Nothing
            // older than this packet is held back any more.
            self.hand_over_all();
            self.advance(time);
            std::thread::sleep(Duration::from_micros(200));
            block = self.pool.take();
        }
        let Some(block) = block else { return false };
        self.serial += 1;
        let serial = self.serial;
        if let Some(open) = self.get(call) {
            open.block = Some(block);
            open.serial = serial;
        }
        self.ages.push_back((time, call, serial));
        true
    }

    /// Hands a call's block to the workers; false when its queue is full (live), and the block
    /// stays: what comes meanwhile is refused, and counted.
    fn hand_over(&mut self, call: CallIndex) -> bool {
        let Some(open) = self.calls.get_mut(call.0 as usize).and_then(Option::as_mut) else {
            return true;
        };
        let Some(mut block) = open.block.take() else { return true };
        loop {
            match open.slot.push(self.ring, block) {
                Ok(()) => break,
                Err(QueueFull(refused)) if self.when_full == WhenFull::Wait => {
                    self.ready.request(&open.slot);
                    std::thread::sleep(Duration::from_micros(200));
                    block = refused;
                }
                Err(QueueFull(refused)) => {
                    open.block = Some(refused);
                    self.ready.request(&open.slot);
                    return false;
                }
            }
        }
        if open.visit == Visit::NotDue {
            open.visit = Visit::Due;
            self.handed.push(call);
        }
        true
    }
}
