//! From a front to the workers: the one copy of a packet.
//!
//! Purpose: `work::outbox` with blocks that go round, and a queue of one vector a packet beside it.
//! Invariants: what went in came out, asserted before the timing; one thread, so that the figure is
//! the work and not the scheduler.
//! Non-goals: contention (two noisy processors measure the neighbours).
//! Sources: none.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::base::{CallId, CallIndex, Channel, EntryKind, PacketEntry, PacketTime, RingIndex};
use callspan::media::{Band, MediaSettings, StartAt, Store, VoiceSettings};
use callspan::work::outbox::{Outbox, Pushed, WhenFull};
use callspan::work::queue::{BlockPool, CallSlot, Keep, Progress};
use callspan::work::ready::Ready;
use callspan::work::visit::CallWork;
use common::{count, low_32, media_end};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;
use std::hint::black_box;
use std::sync::Arc;

const CALLS: usize = 500;
/// Packets of one call in a pass: some blocks full.
const PACKETS: usize = 200;

struct Path {
    outbox: Outbox,
    pool: Arc<BlockPool>,
    ready: Arc<Ready>,
    now: PacketTime,
}

fn settings() -> MediaSettings {
    MediaSettings {
        start: StartAt::Answer,
        store: Store::None,
        band: Band::Auto,
        reorder_window_ms: 200,
        voice: VoiceSettings { bitrate: None, complexity: 0 },
    }
}

impl Path {
    fn new(blocks: usize) -> Self {
        let (pool, ready) = (Arc::new(BlockPool::new(blocks)), Arc::new(Ready::new(CALLS)));
        let progress = Arc::new(Progress::new(1));
        let (shared, queue) = (Arc::clone(&pool), Arc::clone(&ready));
        let mut outbox = Outbox::new(RingIndex(0), shared, queue, progress, WhenFull::Drop);
        for call in 0..CALLS {
            let work = Box::new(CallWork::new(settings(), 1));
            let (index, id) = (CallIndex(low_32(call)), CallId(count(call)));
            outbox.open(Arc::new(CallSlot::new((index, id), Keep::Packets, 1, work)));
        }
        Self { outbox, pool, ready, now: PacketTime::from_ms(0) }
    }

    /// 20 ms a packet for all calls in turn; how many were taken.
    fn push(&mut self) -> usize {
        let mut taken = 0;
        for packet in 0..PACKETS {
            self.now = self.now.plus_ns(20_000_000);
            for call in 0..CALLS {
                let pushed = self.outbox.push(CallIndex(low_32(call)), &entry(self.now));
                taken += usize::from(pushed == Pushed::Taken);
            }
            if packet % 2 == 1 {
                self.outbox.hand_over_old(self.now);
            }
        }
        taken
    }

    /// Takes every block as a worker does and gives it back; bytes seen.
    fn drain(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(slot) = self.ready.take() {
            let work = slot.enter();
            while let Some(block) = slot.pop(0) {
                bytes += black_box(block.bytes()).len();
                self.pool.give(block);
            }
            if slot.leave(work) {
                self.ready.put(slot);
            }
        }
        bytes
    }
}

fn entry(time: PacketTime) -> PacketEntry<'static> {
    PacketEntry {
        time,
        source: media_end(1, Channel::Caller),
        destination: media_end(1, Channel::Callee),
        kind: EntryKind::Rtp,
        channel: Channel::Caller,
        payload: &[0xd5; 172],
    }
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(count(CALLS * PACKETS)));
    let mut path = Path::new(CALLS * 64);
    assert_eq!(path.push(), CALLS * PACKETS);
    path.outbox.finish();
    let entry_len = entry(path.now).len_bytes();
    // Whole once a block, short after that.
    let drained = path.drain();
    let packets = CALLS * PACKETS;
    assert!((packets * (172 + 8)..packets * entry_len).contains(&drained), "{drained} bytes");
    group.bench_function("blocks", |bencher| {
        bencher.iter(|| {
            let taken = path.push();
            (taken, path.drain())
        });
    });
    let naive: Vec<ArrayQueue<Vec<u8>>> = (0..CALLS).map(|_| ArrayQueue::new(PACKETS)).collect();
    let pass = || vector_a_packet(&naive);
    assert_eq!(pass(), CALLS * PACKETS * entry_len);
    group.bench_function("naive_vector_a_packet", |bencher| bencher.iter(pass));
    // Nobody takes blocks and there are too few: all is refused, and counted by the caller.
    let mut stuck = Path::new(CALLS / 10);
    while stuck.push() > 0 {}
    group.bench_function("worst_workers_stand_still", |bencher| bencher.iter(|| stuck.push()));
    assert_eq!(stuck.push(), 0);
    group.finish();
}

fn vector_a_packet(queues: &[ArrayQueue<Vec<u8>>]) -> usize {
    for _ in 0..PACKETS {
        for queue in queues {
            let entry = entry(PacketTime::from_ms(0));
            let mut bytes = vec![0; entry.len_bytes()];
            entry.write(&mut bytes).expect("room");
            queue.push(bytes).expect("room");
        }
    }
    let mut bytes = 0;
    for queue in queues {
        while let Some(packet) = queue.pop() {
            assert!(PacketEntry::read(&packet).is_some());
            bytes += packet.len();
        }
    }
    bytes
}

criterion_group!(benches, queue);
criterion_main!(benches);
