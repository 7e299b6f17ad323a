//! A front's open blocks, one a call.
//!
//! Purpose: gather a call's packets into a block and hand it to the workers when it is full or old.
//! Invariants: a packet is copied once; a block is handed over at most `BLOCK_AGE_MS_MAX` after its
//! first packet; what could not be kept is owed to the recording as a gap.
//! Non-goals: whose a packet is (see `flows`).
//! Sources: none.

use super::queue::{Block, BlockPool, CallSlot, Keep, Progress, QueueFull};
use super::ready::Ready;
use crate::base::limits::{BLOCK_AGE_MS_MAX, HEADERS_AGE_MS_MAX};
use crate::base::time::NS_PER_MS;
use crate::base::{CallIndex, Channel, EntryKind, PacketEntry, PacketTime, RingIndex};
use crate::rtp::header::FIXED_HEADER_LEN_BYTES;
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

/// What each packet needs stands here and in the block, not in the slot, whose lines others write.
#[derive(Debug)]
struct Open {
    slot: Arc<CallSlot>,
    keep: Keep,
    /// By channel: when media last passed, and what of it the slot was told.
    media: [Media; 2],
    block: Option<Box<Block>>,
    serial: u64,
    /// A packet that was dropped and is not told of yet.
    owed: Option<(PacketTime, Channel)>,
    visit: Visit,
    /// Payload types that are read whole.
    read: u128,
    /// By channel: packets to come that are handed over whole.
    whole: [u16; 2],
}

/// When a party's media passed, in ns.
#[derive(Clone, Copy, Debug)]
struct Media {
    last_ns: i64,
    told_ns: i64,
}

impl Default for Media {
    fn default() -> Self {
        Self { last_ns: i64::MIN, told_ns: i64::MIN }
    }
}

/// How far the slot may lag behind what passed, until the block is handed over.
const MEDIA_LAG_NS: i64 = 50 * NS_PER_MS;

impl Open {
    fn saw_media(&mut self, channel: Channel, time: PacketTime) {
        let media = &mut self.media[channel.index()];
        media.last_ns = media.last_ns.max(time.ns());
        if media.last_ns.saturating_sub(media.told_ns) >= MEDIA_LAG_NS {
            self.tell_media(MEDIA_LAG_NS);
        }
    }

    /// Tells the slot of media that it does not know of yet, where it lags by so much.
    fn tell_media(&mut self, lag_ns: i64) {
        for (channel, media) in Channel::BOTH.into_iter().zip(&mut self.media) {
            let lag = media.last_ns.saturating_sub(media.told_ns);
            if lag > 0 && lag >= lag_ns {
                media.told_ns = media.last_ns;
                self.slot.saw_media(channel, PacketTime::from_ns(media.last_ns));
            }
        }
    }
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
    block_age_ms: i64,
}

/// RTP packets of a party that are handed over whole, before headers are enough: keys and codecs are known by then.
const WHOLE_PACKETS: u16 = 100;

/// Payloads below this are handed over whole: events and silence.
const SMALL_BYTES: usize = 16;

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
        let block_age_ms = BLOCK_AGE_MS_MAX;
        Self {
            ring,
            calls,
            ages,
            stuck,
            handed,
            serial: 0,
            pool,
            ready,
            progress,
            when_full,
            block_age_ms,
        }
    }

    /// The same, where nothing is recorded and nothing at risk: blocks may be older.
    #[must_use]
    pub fn with_old_blocks(mut self) -> Self {
        self.block_age_ms = HEADERS_AGE_MS_MAX;
        self
    }

    /// A call begins.
    pub fn open(&mut self, slot: Arc<CallSlot>) {
        let at = slot.index.0 as usize;
        if self.calls.len() <= at {
            self.calls.resize_with(at + 1, || None);
        }
        self.close(slot.index);
        if let Some(place) = self.calls.get_mut(at) {
            *place = Some(Open {
                keep: slot.keep,
                media: [Media::default(); 2],
                slot,
                block: None,
                serial: 0,
                owed: None,
                visit: Visit::NotDue,
                read: 0,
                whole: [WHOLE_PACKETS; 2],
            });
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
                if !block.push(&owed, &[]) {
                    open.owed = Some((time, channel));
                }
            }
            let header = header_alone(entry, (&mut open.whole, open.read), open.keep);
            let pushed = block.push(entry, header.unwrap_or(entry.payload));
            if pushed {
                if entry.kind == EntryKind::Rtp {
                    open.saw_media(entry.channel, entry.time);
                }
                return Pushed::Taken;
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
            if is_open && now.ms_since(first) < self.block_age_ms {
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
            open.read = open.slot.types_read();
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
        open.tell_media(0);
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

/// The twelve bytes of a packet's header, where they are enough.
fn header_alone<'a>(
    entry: &PacketEntry<'a>,
    (whole, read): (&mut [u16; 2], u128),
    keep: Keep,
) -> Option<&'a [u8]> {
    if keep == Keep::Packets || entry.kind != EntryKind::Rtp {
        return None;
    }
    let whole = &mut whole[entry.channel.index()];
    if *whole > 0 {
        *whole -= 1;
        return None;
    }
    let (header, payload) = entry.payload.split_first_chunk::<FIXED_HEADER_LEN_BYTES>()?;
    let payload_type = header[1] & 0x7f;
    // No extension, no padding, no contributing sources: they would have to be whole to be read.
    let is_bare = header[0] == 0x80 && payload.len() >= SMALL_BYTES;
    (is_bare && read >> payload_type & 1 == 0).then_some(header.as_slice())
}
