//! The budget: one packet of 20 ms of one channel.
//!
//! Purpose: libopus as callspan sets it up, by complexity and band; and silence, encoded and canned.
//! Invariants: packets decode to 20 ms, asserted before the timing.
//! Non-goals: sound quality (see `tests/lab`).
//! Sources: RFC 6716 §2.1.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::codec::opus::{PACKET_BYTES_MAX, PACKET_SAMPLES_MAX};
use callspan::codec::{EncoderSettings, OpusDecoder, OpusVoiceEncoder, silence_packet};
use common::{Noise, count, speech};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const NARROW: EncoderSettings =
    EncoderSettings { sample_rate_hz: 8_000, bitrate: 16_000, complexity: 0 };
const WIDE: EncoderSettings =
    EncoderSettings { sample_rate_hz: 16_000, bitrate: 24_000, complexity: 0 };

/// Encodes all of `pcm`; the bytes made.
fn encode(encoder: &mut OpusVoiceEncoder, pcm: &[i16]) -> usize {
    let mut packet = [0; PACKET_BYTES_MAX];
    let mut bytes = 0;
    for frame in pcm.chunks_exact(encoder.samples_per_packet()) {
        bytes += encoder.encode_20ms(frame, &mut packet).expect("a packet");
    }
    bytes
}

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    settings: EncoderSettings,
    pcm: &[i16],
) {
    let mut encoder = OpusVoiceEncoder::new(settings).expect("an encoder");
    let packets = pcm.len() / encoder.samples_per_packet();
    assert!(encode(&mut encoder, pcm) > packets, "{name}: more than a table of contents each");
    group.throughput(Throughput::Elements(count(packets)));
    group.bench_function(name, |bencher| {
        bencher.iter(|| encode(&mut encoder, black_box(pcm)));
    });
}

fn opus_encode(criterion: &mut Criterion) {
    let (narrow, wide, silence) = (speech(8_000, 2), speech(16_000, 2), vec![0; 16_000]);
    let mut group = criterion.benchmark_group("opus_encode");
    bench(&mut group, "speech_8k_complexity_0", NARROW, &narrow);
    bench(
        &mut group,
        "speech_8k_complexity_5",
        EncoderSettings { complexity: 5, ..NARROW },
        &narrow,
    );
    bench(&mut group, "speech_16k_complexity_0", WIDE, &wide);
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let loud: Vec<i16> = (0..16_000)
        .map(|_| i16::from_ne_bytes([common::low_byte(noise_bits(&mut noise)); 2]))
        .collect();
    let most = EncoderSettings { complexity: 10, ..NARROW };
    bench(&mut group, "worst_noise_8k_complexity_10", most, &loud);
    bench(&mut group, "silence_encoded", NARROW, &silence);
    let canned = silence_packet(NARROW).expect("a packet");
    let mut pcm = [0; PACKET_SAMPLES_MAX];
    let decoded = OpusDecoder::new().and_then(|mut decoder| decoder.decode(&canned, &mut pcm));
    assert_eq!(decoded, Ok(960), "20 ms at 48 kHz");
    group.throughput(Throughput::Elements(100));
    // What is done instead: look for a sound, and copy the same packet.
    group.bench_function("silence_canned", |bencher| {
        let mut out = Vec::with_capacity(100 * canned.len());
        bencher.iter(|| {
            out.clear();
            for frame in black_box(&silence).chunks_exact(160) {
                let is_silent = frame.iter().all(|sample: &i16| sample.unsigned_abs() <= 8);
                out.extend_from_slice(if is_silent { &canned } else { &[] });
            }
            out.len()
        });
    });
    group.finish();
}

fn noise_bits(noise: &mut Noise) -> usize {
    usize::try_from(noise.next() >> 40).expect("24 bits")
}

criterion_group!(benches, opus_encode);
criterion_main!(benches);
