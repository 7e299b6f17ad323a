//! G.711: two tables.
//!
//! Purpose: the cost of a packet of A-law and of mu-law, both ways.
//! Invariants: a decoded payload encodes to itself, asserted before the timing.
//! Non-goals: its place in a recording (see `pipeline`).
//! Sources: ITU-T G.711.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::codec::g711::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn g711(criterion: &mut Criterion) {
    let [payload, ..] = common::alaw_packets(1)[..] else { return };
    let (mut pcm, mut again) = ([0_i16; 160], [0_u8; 160]);
    assert_eq!(decode_alaw(&payload, &mut pcm), Ok(160));
    assert_eq!((encode_alaw(&pcm, &mut again), again), (Ok(160), payload));
    let mut group = criterion.benchmark_group("g711");
    group.throughput(Throughput::Elements(160));
    group.bench_function("decode_alaw", |bencher| {
        bencher.iter(|| decode_alaw(black_box(&payload), &mut pcm));
    });
    group.bench_function("decode_ulaw", |bencher| {
        bencher.iter(|| decode_ulaw(black_box(&payload), &mut pcm));
    });
    group.bench_function("encode_alaw", |bencher| {
        bencher.iter(|| encode_alaw(black_box(&pcm), &mut again));
    });
    group.bench_function("encode_ulaw", |bencher| {
        bencher.iter(|| encode_ulaw(black_box(&pcm), &mut again));
    });
    // The longest payload that UDP can carry: no table look-up may grow with it.
    let (long, mut pcm) = (vec![0x2a; 65_495], vec![0; 65_495]);
    assert_eq!(decode_alaw(&long, &mut pcm), Ok(long.len()));
    group.throughput(Throughput::Elements(common::count(long.len())));
    group.bench_function("worst_largest_datagram", |bencher| {
        bencher.iter(|| decode_alaw(black_box(&long), &mut pcm));
    });
    group.finish();
}

criterion_group!(benches, g711);
criterion_main!(benches);
