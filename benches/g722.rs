//! G.722 to linear samples.
//!
//! Purpose: the cost of 20 ms of wide-band speech.
//! Invariants: two samples a byte, asserted before the timing.
//! Non-goals: the encoder, which callspan does not need.
//! Sources: ITU-T G.722.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::codec::G722Decoder;
use common::{Noise, count, low_byte};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn g722(criterion: &mut Criterion) {
    let mut noise = Noise(0x5851_f42d_4c95_7f2d);
    let random: Vec<u8> =
        (0..160).map(|_| low_byte(usize::try_from(noise.next() >> 40).expect("small"))).collect();
    // Every byte the same drives the predictors into their stops.
    let cases = [("random", random), ("worst_constant_0x00", vec![0; 160])];
    let mut group = criterion.benchmark_group("g722");
    for (name, payload) in cases {
        let (mut decoder, mut pcm) = (G722Decoder::new(), [0; 320]);
        assert_eq!(decoder.decode(&payload, &mut pcm), Ok(320), "{name}");
        group.throughput(Throughput::Elements(count(pcm.len())));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decoder.decode(black_box(&payload), &mut pcm));
        });
    }
    group.finish();
}

criterion_group!(benches, g722);
criterion_main!(benches);
