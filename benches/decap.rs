//! Frames to datagrams: what every frame costs first.
//!
//! Purpose: the cost of `net::Decap` for RTP, and for what a hostile or odd mirror may send.
//! Invariants: each case's outcome is asserted before it is timed.
//! Non-goals: what follows a datagram (see `flow_lookup`, `sip_front`).
//! Sources: RFC 791 §3.2 (fragments).

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::base::limits::FRAGMENTED_DATAGRAMS_MAX;
use callspan::base::{Channel, FrameOutcome, PacketTime};
use callspan::net::{Decap, Decapped, Sighting};
use common::{Part, count, frame, low_16, low_32, media_end, rtp, udp_frame};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const FLOWS: usize = 2_048;
const _: () = assert!(FLOWS > FRAGMENTED_DATAGRAMS_MAX, "the worst case always evicts");

/// What a frame came to, as a number to sum.
fn value(decapped: &Decapped<'_>) -> usize {
    match decapped {
        Decapped::Udp { sighting: Sighting::First, .. } => 1,
        Decapped::Udp { sighting: Sighting::Repeated, .. } => 1_000_000,
        Decapped::Done(FrameOutcome::Fragment) => 1_000_000_000,
        _ => 0,
    }
}

/// Takes all frames apart, `pass` seconds after the first time, so that none is a copy.
fn take_apart(decap: &mut Decap, frames: &[Vec<u8>], pass: &mut i64) -> usize {
    *pass += 1;
    let mut sum = 0;
    for (number, bytes) in frames.iter().enumerate() {
        let time = PacketTime::from_ms(*pass * 1_000).plus_ns(i64::from(low_32(number)));
        sum += value(&black_box(decap.frame(&frame(time, bytes))));
    }
    black_box(decap.take_dropped());
    sum
}

fn frames(part: Part, payload: &[u8]) -> Vec<Vec<u8>> {
    let one = |number: usize| {
        let ends = Channel::BOTH.map(|party| media_end(number, party));
        let media = rtp(low_16(number), low_32(number), payload);
        udp_frame(ends[0], ends[1], low_16(number), part, &media)
    };
    (0..FLOWS).map(one).collect()
}

fn decap(criterion: &mut Criterion) {
    let rtp = frames(Part::Whole, &[0xd5; 160]);
    let twice = rtp.iter().flat_map(|bytes| [bytes.clone(), bytes.clone()]).collect();
    let cases = [
        ("rtp", rtp, FLOWS),
        ("rtp_seen_twice", twice, FLOWS + FLOWS * 1_000_000),
        ("large_1400", frames(Part::Whole, &[7; 1_360]), FLOWS),
        ("worst_all_fragments", frames(Part::First, &[7; 1_356]), FLOWS * 1_000_000_000),
    ];
    let mut group = criterion.benchmark_group("decap");
    for (name, frames, expected) in cases {
        let (mut decap, mut pass) = (Decap::new(), 0);
        assert_eq!(take_apart(&mut decap, &frames, &mut pass), expected, "{name}");
        group.throughput(Throughput::Elements(count(frames.len())));
        group.bench_function(name, |bencher| {
            bencher.iter(|| take_apart(&mut decap, &frames, &mut pass));
        });
    }
    group.finish();
}

criterion_group!(benches, decap);
criterion_main!(benches);
