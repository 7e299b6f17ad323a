//! One visit of a worker to a call.
//!
//! Purpose: merge the call's queues and controls by time, feed the call's media, and hand what
//! comes out to the archive writer.
//! Invariants: only what lies before every producer's progress is taken, so the result does not
//! depend on when visits happen; a call is finished once, with one summary.
//! Non-goals: which call is next (see `pool`).
//! Sources: none.

use super::queue::{Block, BlockPool, CallSlot};
use super::sink::{BatchSink, ControlsOnly};
use super::summary::{summarise, summarise_ongoing};
use super::writer::ArchiveSender;
use crate::archive::RecordKind;
use crate::base::{Entries, EntryFlows, EntryKind, PacketEntry, PacketTime, Reader};
use crate::call::CallFacts;
use crate::media::{CallMedia, MediaReport, MediaSettings};
use crate::rtp::plan::Control;
use std::collections::VecDeque;

/// What a visitor owns of a call.
#[derive(Debug)]
pub struct CallWork {
    /// Its media.
    pub media: CallMedia,
    rings: Vec<RingInput>,
    controls: VecDeque<(PacketTime, Control)>,
    spill: Spill,
    facts: Option<Box<CallFacts>>,
    /// Parties whose sound the archive knows of.
    told: usize,
}

/// Blocks of one ring, as far as they are read.
#[derive(Debug, Default)]
struct RingInput {
    blocks: VecDeque<Box<Block>>,
    offset: usize,
    /// What the block at hand has named so far.
    flows: EntryFlows,
    /// Blocks at the front that are read and not given back yet.
    read: usize,
    /// The latest time of this ring: older packets behind it were claimed then.
    latest: Option<PacketTime>,
}

/// Whether some of the call's packets were put aside into the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Spill {
    #[default]
    None,
    /// Records of kind `Spill` hold what comes before the queues.
    Pending,
}

/// Whether workers keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// They do: transcode, and what was spilled too.
    Normal,
    /// They do not: put packets aside as they are.
    Overload,
}

/// What a visit left.
#[derive(Debug)]
pub enum Visited {
    /// The call goes on.
    Open,
    /// Its packets were put aside: it wants a visit when the load has fallen.
    Aside,
    /// It has ended, but not every producer has come that far: it wants another visit soon.
    Ending,
    /// The call is finished; its report.
    Finished(Box<MediaReport>),
}

impl CallWork {
    /// A call before its first packet.
    #[must_use]
    pub fn new(settings: MediaSettings, rings: usize) -> Self {
        Self {
            media: CallMedia::new(settings),
            rings: (0..rings).map(|_| RingInput::default()).collect(),
            controls: VecDeque::new(),
            spill: Spill::None,
            facts: None,
            told: 0,
        }
    }

    /// Notes something for people in the call's summary.
    pub fn note(&mut self, text: &str) {
        self.media.note(text);
    }

    /// Takes what has come before `safe`.
    pub fn visit(
        &mut self,
        slot: &CallSlot,
        safe: PacketTime,
        load: Load,
        pool: &BlockPool,
        archive: &ArchiveSender,
    ) -> Visited {
        self.collect(slot);
        let mut sink = BatchSink::new(slot.id, archive);
        if load == Load::Overload {
            self.put_aside(safe, pool, &mut sink);
            return Visited::Aside;
        }
        if self.spill == Spill::Pending {
            self.take_back(slot, archive, &mut sink);
        }
        while self.pass(safe, pool, &mut sink)
            || self.run(safe, pool, &mut sink)
            || self.step(safe, pool, &mut sink)
        {}
        self.media.advance(safe, &mut sink);
        sink.flush();
        self.facts = slot.take_facts().or(self.facts.take());
        if !self.media.is_ended() {
            self.tell_sound(slot, archive);
            let is_ending =
                self.controls.iter().any(|(_, control)| matches!(control, Control::Ended { .. }));
            return if is_ending { Visited::Ending } else { Visited::Open };
        }
        let report = self.media.report();
        if let Some(facts) = &self.facts {
            let summary = summarise(slot.id, facts, &report);
            archive.append_json(slot.id, RecordKind::Summary, &summary);
        }
        Visited::Finished(Box::new(report))
    }

    /// Archives what is known of a call that goes on when a party is heard for the first time: should
    /// this process die, the next one says whose sound there is.
    fn tell_sound(&mut self, slot: &CallSlot, archive: &ArchiveSender) {
        let parties = self.media.parties_recorded();
        let Some(facts) = self.facts.as_ref().filter(|facts| facts.ended.is_none()) else { return };
        if parties > self.told {
            self.told = parties;
            let summary = summarise_ongoing(slot.id, facts, &self.media.report());
            archive.append_json(slot.id, RecordKind::CallOpened, &summary);
        }
    }

    /// Gives all blocks back; the call is over.
    pub fn release(&mut self, slot: &CallSlot, pool: &BlockPool) {
        self.collect(slot);
        for block in self.rings.iter_mut().flat_map(|ring| ring.blocks.drain(..)) {
            pool.give(block);
        }
    }

    fn collect(&mut self, slot: &CallSlot) {
        for (number, ring) in self.rings.iter_mut().enumerate() {
            while let Some(block) = slot.pop(number) {
                ring.blocks.push_back(block);
            }
        }
        while let Some(control) = slot.pop_control() {
            self.controls.push_back(control);
        }
    }

    /// Takes a whole block that is kept as it is; false where that is not so simple.
    fn pass(&mut self, safe: PacketTime, pool: &BlockPool, sink: &mut BatchSink<'_>) -> bool {
        let Self { media, rings, controls, .. } = self;
        let [ring] = rings.as_mut_slice() else { return false };
        let until = controls.front().map_or(safe, |(time, _)| safe.min(*time));
        if !media.keeps_all() || ring.latest.is_some_and(|latest| latest >= until) {
            return false;
        }
        let is_due = |entry: PacketEntry<'_>| entry.time < until;
        let Some(block) = ring.blocks.front().filter(|_| ring.offset == 0) else { return false };
        if !Entries::new(block.bytes()).all(is_due) {
            return false;
        }
        for entry in Entries::new(block.bytes()) {
            let time = ring.latest.map_or(entry.time, |latest| latest.max(entry.time));
            ring.latest = Some(time);
            media.entry(time, &entry, &mut ControlsOnly(sink));
        }
        sink.raw_body(block.bytes());
        if let Some(block) = ring.blocks.pop_front() {
            pool.give(block);
        }
        true
    }

    /// Takes what the only ring has before the next control; false when that is nothing.
    fn run(&mut self, safe: PacketTime, pool: &BlockPool, sink: &mut BatchSink<'_>) -> bool {
        let Self { media, rings, controls, .. } = self;
        let [ring] = rings.as_mut_slice() else { return false };
        // At the same time SIP's word comes first.
        let until = controls.front().map_or(safe, |(time, _)| safe.min(*time));
        let mut has_run = false;
        while let Some((time, entry)) = ring.next_before(until) {
            media.entry(time, &entry, sink);
            has_run = true;
        }
        ring.give_back(pool);
        has_run
    }

    /// Takes the next packet or control; false when nothing before `safe` is left.
    fn step(&mut self, safe: PacketTime, pool: &BlockPool, sink: &mut BatchSink<'_>) -> bool {
        let ring = self.next_ring();
        let packet_time = ring.map(|(_, time)| time);
        if let Some((time, _)) = self.controls.front() {
            // At the same time SIP's word comes first: it may be what claims the packet.
            if packet_time.is_none_or(|packet| *time <= packet) {
                if *time >= safe {
                    return false;
                }
                if let Some((time, control)) = self.controls.pop_front() {
                    self.media.control(time, &control, sink);
                }
                return true;
            }
        }
        let Some((number, time)) = ring.filter(|(_, time)| *time < safe) else { return false };
        let Some(ring) = self.rings.get_mut(number) else { return false };
        ring.latest = Some(time);
        if let Some(entry) = ring.peek() {
            self.media.entry(time, &entry, sink);
        }
        ring.advance(pool);
        true
    }

    /// The ring whose next packet is the oldest, and that packet's time.
    fn next_ring(&self) -> Option<(usize, PacketTime)> {
        let heads = self.rings.iter().enumerate().filter_map(|(number, ring)| {
            let entry = ring.peek()?;
            let time = ring.latest.map_or(entry.time, |latest| latest.max(entry.time));
            Some((number, time))
        });
        heads.min_by_key(|(number, time)| (*time, *number))
    }

    /// Overload: packets and controls go into the archive as they are, in order.
    fn put_aside(&mut self, safe: PacketTime, pool: &BlockPool, sink: &mut BatchSink<'_>) {
        if self.spill == Spill::None {
            sink.spill_control(self.media.now(), &self.media.resume_point());
            self.spill = Spill::Pending;
        }
        loop {
            let ring = self.next_ring();
            let packet_time = ring.map(|(_, time)| time);
            match self.controls.front() {
                Some((time, _)) if packet_time.is_none_or(|packet| *time <= packet) => {
                    // The end after a BYE lies ahead, and packets before it may still come.
                    if *time >= safe {
                        break;
                    }
                    if let Some((time, control)) = self.controls.pop_front() {
                        sink.spill_control(time, &control);
                    }
                    continue;
                }
                _ => {}
            }
            let Some((number, time)) = ring else { break };
            let Some(ring) = self.rings.get_mut(number) else { break };
            ring.latest = Some(time);
            if let Some(entry) = ring.peek() {
                sink.spill(&entry);
            }
            ring.advance(pool);
        }
        sink.flush();
    }

    /// The load fell: what was put aside is taken back, in order, before what came after it.
    fn take_back(&mut self, slot: &CallSlot, archive: &ArchiveSender, sink: &mut BatchSink<'_>) {
        self.spill = Spill::None;
        let mut latest = PacketTime::MIN;
        for body in archive.take_back(slot.id) {
            for entry in Entries::new(&body) {
                latest = latest.max(entry.time);
                self.media.entry(latest, &entry, sink);
                if entry.kind == EntryKind::Control && self.media.is_ended() {
                    return;
                }
            }
        }
    }
}

impl RingInput {
    /// The next packet of the block at hand, if it is due before `until`; blocks that are read stay.
    fn next_before(&mut self, until: PacketTime) -> Option<(PacketTime, PacketEntry<'_>)> {
        let Self { blocks, offset, flows, latest, read } = self;
        loop {
            let bytes = blocks.get(*read)?.bytes();
            let mut rest = Reader::new(bytes.get(*offset..).unwrap_or_default());
            let Some(entry) = flows.peek(rest.rest()) else {
                (*offset, *read) = (0, read.saturating_add(1));
                flows.clear();
                continue;
            };
            let time = latest.map_or(entry.time, |latest| latest.max(entry.time));
            if time >= until {
                return None;
            }
            *latest = Some(time);
            *offset = offset.saturating_add(flows.take(&entry, &mut rest));
            return Some((time, entry));
        }
    }

    /// Gives back the blocks that `next_before` has read.
    fn give_back(&mut self, pool: &BlockPool) {
        for block in self.blocks.drain(..self.read.min(self.blocks.len())) {
            pool.give(block);
        }
        self.read = 0;
    }

    fn peek(&self) -> Option<PacketEntry<'_>> {
        let block = self.blocks.front()?;
        let rest = block.bytes().get(self.offset..).unwrap_or_default();
        self.flows.peek(rest)
    }

    fn advance(&mut self, pool: &BlockPool) {
        let Some(block) = self.blocks.front() else { return };
        let mut rest = Reader::new(block.bytes().get(self.offset..).unwrap_or_default());
        let len_bytes = match self.flows.peek(rest.rest()) {
            Some(entry) => self.flows.take(&entry, &mut rest),
            None => usize::MAX,
        };
        self.offset = self.offset.saturating_add(len_bytes);
        if self.offset >= block.bytes().len() {
            self.offset = 0;
            self.flows.clear();
            if let Some(block) = self.blocks.pop_front() {
                pool.give(block);
            }
        }
    }
}
