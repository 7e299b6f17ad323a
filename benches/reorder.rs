//! Packets of one stream back into sending order.
//!
//! Purpose: `rtp::SeqExtender` and `rtp::ReorderBuffer` for a clean stream and for bad ones.
//! Invariants: how many packets come out is asserted before the timing.
//! Non-goals: how long a gap is waited for (see `media`).
//! Sources: RFC 3550 §5.1 and A.1.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::base::limits::REORDER_PACKETS_MAX;
use callspan::rtp::{ReorderBuffer, SeqExtender};
use common::{count, low_16};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const PACKETS: usize = 64_000;

/// Packets that come out; what stands behind a gap waits until half of the buffer is full.
fn run(arrivals: &[u16]) -> usize {
    let (mut extender, mut buffer) = (SeqExtender::new(), ReorderBuffer::new());
    let mut out = 0;
    for seq in arrivals {
        black_box(buffer.insert(extender.extend(*seq), *seq)).ok();
        while buffer.pop_next().is_some() {
            out += 1;
        }
        if buffer.len() > REORDER_PACKETS_MAX / 2 {
            out += usize::from(black_box(buffer.pop_gap()).is_some());
        }
    }
    while black_box(buffer.pop_gap()).is_some() {
        out += 1;
    }
    out
}

fn chunks_reversed(length: usize) -> Vec<u16> {
    let order: Vec<u16> = (0..PACKETS).map(low_16).collect();
    order.chunks(length).flat_map(|chunk| chunk.iter().rev().copied()).collect()
}

fn reorder(criterion: &mut Criterion) {
    let in_order: Vec<u16> = (0..PACKETS).map(low_16).collect();
    // The first of the stream sets the line: it must not be the last of its chunk.
    let reversed: Vec<u16> = std::iter::once(u16::MAX).chain(chunks_reversed(32)).collect();
    let lossy: Vec<u16> = in_order.iter().copied().filter(|seq| seq % 2 == 0).collect();
    // Far enough ahead to pass the line, then everything that it left behind.
    let late: Vec<u16> =
        (0..PACKETS).map(|at| low_16(if at == 0 { 90 } else { at % 90 })).collect();
    let cases = [
        ("in_order", &in_order, PACKETS),
        ("reversed_by_32", &reversed, PACKETS + 1),
        ("worst_every_second_lost", &lossy, PACKETS / 2),
        ("worst_all_late", &late, 1),
    ];
    let mut group = criterion.benchmark_group("reorder");
    for (name, arrivals, expected) in cases {
        assert_eq!(run(arrivals), expected, "{name}");
        group.throughput(Throughput::Elements(count(arrivals.len())));
        group.bench_function(name, |bencher| bencher.iter(|| run(black_box(arrivals))));
    }
    group.finish();
}

criterion_group!(benches, reorder);
criterion_main!(benches);
