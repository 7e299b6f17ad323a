//! The front under a counting allocator: media costs no allocation once tables and blocks are there.
//!
//! Purpose: style.md §5, "no allocation after start-up", as a number that is zero.
//! Invariants: only the front's thread is counted, and only inside of the front; blocks go round
//! through a second thread, as they do to the workers.
//! Non-goals: SIP (it allocates), media that nobody announced (it is put aside), the workers.
//! Sources: none.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

#[path = "../benches/common/mod.rs"]
mod common;

use callspan::base::{
    CallId, CallIndex, Channel, FiveTuple, FrameOutcome, FrameSink, PacketTime, RingIndex,
};
use callspan::media::{Band, MediaSettings, StartAt, Store, VoiceSettings};
use callspan::rtp::flow_table::{Claim, ClaimRole};
use callspan::work::front::{Front, SipPort};
use callspan::work::outbox::{Outbox, WhenFull};
use callspan::work::queue::{BlockPool, CallSlot, Keep, Progress};
use callspan::work::ready::Ready;
use callspan::work::signalling::TableUpdate;
use callspan::work::stats::FrontStats;
use callspan::work::visit::CallWork;
use common::{IDENTIFICATION_AT, Part, SEQ_AT, frame, low_16, low_32, media_end, rtp, udp_frame};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

thread_local! {
    /// Allocations of this thread while it counts; `None` while it does not.
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn count_one() {
    // A thread that is ending has no cell any more, and is none of ours.
    let _ = COUNTED.try_with(|counted| counted.set(counted.get().map(|number| number + 1)));
}

// SAFETY: every method hands its arguments, unchanged, to the system's allocator, which keeps the
// trait's contract; counting touches a cell that neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the contract of `realloc`; `block` came from `System`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread within `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    COUNTED.with(|counted| counted.set(Some(0)));
    work();
    COUNTED.with(Cell::take).expect("it was counting")
}

/// Tells the front what it is told to tell.
#[derive(Default)]
struct StubPort {
    updates: VecDeque<TableUpdate>,
}

impl SipPort for StubPort {
    fn message(&mut self, _: PacketTime, _: FiveTuple, _: &[u8]) -> FrameOutcome {
        FrameOutcome::Sip
    }

    fn tick(&mut self, _: PacketTime) {}

    fn update(&mut self) -> Option<TableUpdate> {
        self.updates.pop_front()
    }
}

const CALLS: usize = 64;
/// Both directions of every call, each time.
const ROUNDS: usize = 800;
const WARM_UP_ROUNDS: usize = 100;
/// Ethernet, IPv4, UDP, RTP and 20 ms of A-law.
const RTP_FRAME_LEN: usize = 14 + 20 + 8 + 12 + 160;

struct Bench {
    front: Front<StubPort>,
    pool: Arc<BlockPool>,
    ready: Arc<Ready>,
    frames: Vec<Vec<u8>>,
    rounds: usize,
}

fn slot(call: usize) -> Arc<CallSlot> {
    let settings = MediaSettings {
        start: StartAt::Answer,
        store: Store::Opus,
        band: Band::Auto,
        reorder_window_ms: 200,
        voice: VoiceSettings { bitrate: None, complexity: 0 },
    };
    let work = Box::new(CallWork::new(settings, 1));
    Arc::new(CallSlot::new(
        (CallIndex(low_32(call)), CallId(1 + call as u64)),
        Keep::Packets,
        1,
        work,
    ))
}

fn claims(call: usize, role: ClaimRole) -> Arc<[Claim]> {
    let claims = Channel::BOTH.map(|party| Claim { endpoint: media_end(call, party), party, role });
    Arc::new(claims)
}

impl Bench {
    /// Calls that have begun. The first quarter announced video, the rest audio.
    fn new(blocks: usize, when_full: WhenFull) -> Self {
        let pool = Arc::new(BlockPool::new(blocks));
        // Blocks are made on demand: demand them all.
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        for block in all {
            pool.give(block);
        }
        let (ready, progress) = (Arc::new(Ready::new(CALLS)), Arc::new(Progress::new(1)));
        let outbox =
            Outbox::new(RingIndex(0), Arc::clone(&pool), Arc::clone(&ready), progress, when_full);
        let mut front = Front::new(StubPort::default(), outbox, Arc::new(FrontStats::default()));
        for call in 0..CALLS {
            let role = if call < CALLS / 4 { ClaimRole::NotAudio } else { ClaimRole::Audio };
            let index = CallIndex(low_32(call));
            let updates = &mut front.port().updates;
            updates.push_back(TableUpdate::Opened(slot(call)));
            updates.push_back(TableUpdate::Claims(index, claims(call, role), PacketTime::MIN));
        }
        let frames = (0..CALLS).flat_map(frames_of).collect();
        Self { front, pool, ready, frames, rounds: 0 }
    }

    /// 20 ms of every call.
    fn round(&mut self) {
        let Self { front, frames, rounds, .. } = self;
        let number = low_16(*rounds).to_be_bytes();
        let time = PacketTime::from_ms(20 * i64::from(low_32(*rounds)));
        for bytes in frames.iter_mut() {
            // No frame is a copy of the round's before.
            bytes[IDENTIFICATION_AT..IDENTIFICATION_AT + 2].copy_from_slice(&number);
            if bytes.len() == RTP_FRAME_LEN {
                bytes[SEQ_AT..SEQ_AT + 2].copy_from_slice(&number);
            }
            front.frame(frame(time, bytes));
        }
        // The first again: a copy by the mirror.
        front.frame(frame(time, &frames[0]));
        front.between(time);
        *rounds += 1;
    }

    fn many_rounds(&mut self, rounds: usize) {
        (0..rounds).for_each(|_| self.round());
    }

    fn got(&self, outcome: FrameOutcome) -> usize {
        usize::try_from(self.front.outcomes().get(outcome)).expect("small")
    }
}

/// RTP both ways, an RTCP packet, and a datagram that is neither.
fn frames_of(call: usize) -> Vec<Vec<u8>> {
    let [caller, callee] = Channel::BOTH.map(|party| media_end(call, party));
    let ssrc = low_32(call * 2 + 1);
    // A sender report (RFC 3550 §6.4.1).
    let report = [&[0x80, 200, 0, 6][..], &[7; 24]].concat();
    let rtcp_only = call % 8 == 7;
    let mut frames = vec![
        udp_frame(caller, callee, 1, Part::Whole, &rtp(0, ssrc, &[0xd5; 160])),
        udp_frame(callee, caller, 1, Part::Whole, &rtp(0, ssrc + 1, &[0xd5; 160])),
    ];
    if rtcp_only {
        frames.push(udp_frame(caller, callee, 2, Part::Whole, &report));
        let (query, answer) = (caller.with_port(6_000), callee.with_port(53));
        frames.push(udp_frame(query, answer, 3, Part::Whole, b"\0\0\x01\0not voip"));
    }
    frames
}

/// Takes blocks as a worker does and gives them back; returns how many.
fn recycle(pool: &BlockPool, ready: &Ready) -> u64 {
    let mut blocks = 0;
    while let Some(slot) = ready.take() {
        let work = slot.enter();
        while let Some(block) = slot.pop(0) {
            assert!(!block.is_empty());
            pool.give(block);
            blocks += 1;
        }
        if slot.leave(work) {
            ready.put(slot);
        }
    }
    blocks
}

#[test]
fn media_of_established_calls_costs_the_front_no_allocation() {
    let mut bench = Bench::new(4 * CALLS, WhenFull::Wait);
    let (stop, recycled) = (AtomicBool::new(false), AtomicU64::new(0));
    let (pool, ready) = (Arc::clone(&bench.pool), Arc::clone(&bench.ready));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                recycled.fetch_add(recycle(&pool, &ready), Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        bench.many_rounds(WARM_UP_ROUNDS);
        let made = allocations(|| bench.many_rounds(ROUNDS));
        stop.store(true, Ordering::Release);
        assert_eq!(made, 0, "allocations in {ROUNDS} rounds of {CALLS} calls");
    });
    let rounds = WARM_UP_ROUNDS + ROUNDS;
    assert_eq!(bench.got(FrameOutcome::Rtp), rounds * 2 * CALLS * 3 / 4);
    assert_eq!(bench.got(FrameOutcome::NotAudio), rounds * (2 * CALLS + CALLS / 8) / 4);
    assert_eq!(bench.got(FrameOutcome::Rtcp), rounds * CALLS * 3 / 32);
    assert_eq!(bench.got(FrameOutcome::Duplicate), rounds);
    assert!(bench.front.received() > 100_000);
    assert!(recycled.load(Ordering::Relaxed) > 1_000, "blocks went round");
}

#[test]
fn a_call_that_begins_costs_the_media_of_others_no_allocation() {
    let mut bench = Bench::new(4 * CALLS, WhenFull::Wait);
    bench.many_rounds(3);
    for change in 0..50 {
        let (extra, time) = (CALLS + change, PacketTime::from_ms(60));
        let index = CallIndex(low_32(extra));
        let updates = &mut bench.front.port().updates;
        updates.push_back(TableUpdate::Opened(slot(extra)));
        updates.push_back(TableUpdate::Claims(index, claims(extra, ClaimRole::Audio), time));
        bench.front.between(time);
        // Every flow is looked up anew.
        let made = allocations(|| bench.round());
        assert_eq!(made, 0, "allocations in the round after change {change}");
        recycle(&bench.pool, &bench.ready);
    }
    assert_eq!(bench.got(FrameOutcome::Rtp), 53 * 2 * CALLS * 3 / 4);
}

#[test]
fn late_media_of_ended_calls_costs_the_front_no_allocation() {
    let mut bench = Bench::new(4 * CALLS, WhenFull::Wait);
    bench.many_rounds(3);
    for call in 0..CALLS {
        let index = CallIndex(low_32(call));
        let updates = &mut bench.front.port().updates;
        updates.push_back(TableUpdate::Claims(index, Arc::new([]), PacketTime::from_ms(60)));
    }
    bench.front.between(PacketTime::from_ms(60));
    // Reports of nobody are given up, and listed, after two seconds.
    let waits = 110;
    bench.many_rounds(waits);
    let made = allocations(|| bench.many_rounds(100));
    assert_eq!(made, 0);
    assert_eq!(bench.got(FrameOutcome::AfterEnd), (waits + 100) * 2 * CALLS);
}

#[test]
fn a_front_whose_workers_stand_still_drops_without_an_allocation() {
    // Fewer blocks than calls: some calls have none, the others fill their queues.
    let mut bench = Bench::new(CALLS / 2, WhenFull::Drop);
    bench.many_rounds(WARM_UP_ROUNDS);
    let before = bench.got(FrameOutcome::QueueFull);
    let made = allocations(|| bench.many_rounds(ROUNDS));
    assert_eq!(made, 0);
    assert!(bench.got(FrameOutcome::QueueFull) > before + ROUNDS * CALLS);
}

#[test]
fn a_call_whose_queue_is_full_is_refused_without_an_allocation() {
    // One call's blocks age and stand in a full queue while there are blocks for all.
    let mut bench = Bench::new(64 * CALLS, WhenFull::Drop);
    bench.many_rounds(64 * 13 + 400);
    let before = bench.got(FrameOutcome::QueueFull);
    let made = allocations(|| bench.many_rounds(100));
    assert_eq!(made, 0);
    assert!(bench.got(FrameOutcome::QueueFull) > before);
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| ()), 0);
}
