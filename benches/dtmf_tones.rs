//! What listening for keys costs beside the Opus encoder that the same samples go through.
//!
//! Purpose: the ratio of one to the other, on speech without a pause (the worst case) and in silence.
//! Invariants: no key is found in the speech, one in the tone, asserted before the timing.
//! Non-goals: how well it listens (see `codec::dtmf_tones`, tests/talk_off.rs).
//! Sources: ITU-T Q.23.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::codec::dtmf_tones::DtmfTones;
use callspan::codec::opus::PACKET_BYTES_MAX;
use callspan::codec::tone_bank::ToneBank;
use callspan::codec::{EncoderSettings, OpusVoiceEncoder};
use common::{count, speech};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn listen(bank: &mut ToneBank, tones: &mut DtmfTones, pcm: &[i16]) -> usize {
    let mut keys = 0;
    bank.read(pcm, |reading| keys += usize::from(tones.on_reading(reading).is_some()));
    keys + usize::from(tones.on_silence().is_some())
}

fn tone(rate_hz: u32) -> Vec<i16> {
    let turn = std::f64::consts::TAU / f64::from(rate_hz);
    let sample = |at: f64| 6_000.0 * ((turn * 770.0 * at).sin() + (turn * 1_336.0 * at).sin());
    let pcm = (0..2 * rate_hz).map(|at| sample(f64::from(at)));
    #[allow(clippy::cast_possible_truncation, reason = "at most 12,000")]
    pcm.map(|it| it as i16).collect()
}

fn dtmf_tones(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dtmf_tones");
    for (name, rate_hz, bitrate) in
        [("8k", 8_000, 16_000), ("16k", 16_000, 24_000), ("48k", 48_000, 32_000)]
    {
        let pcm = speech(rate_hz, 2);
        let mut bank = ToneBank::new(rate_hz).expect("a rate");
        let mut tones = DtmfTones::default();
        assert_eq!(listen(&mut bank, &mut tones, &pcm), 0, "{name}: speech");
        assert_eq!(listen(&mut bank, &mut tones, &tone(rate_hz)), 1, "{name}: a key");
        group.throughput(Throughput::Elements(count(pcm.len())));
        group.bench_function(format!("listen_{name}"), |bencher| {
            bencher.iter(|| listen(&mut bank, &mut tones, black_box(&pcm)));
        });
        let settings = EncoderSettings { sample_rate_hz: rate_hz, bitrate, complexity: 0 };
        let mut encoder = OpusVoiceEncoder::new(settings).expect("an encoder");
        let mut packet = [0; PACKET_BYTES_MAX];
        group.bench_function(format!("opus_encode_{name}"), |bencher| {
            bencher.iter(|| {
                for frame in black_box(&pcm).chunks_exact(encoder.samples_per_packet()) {
                    black_box(encoder.encode_20ms(frame, &mut packet)).expect("a packet");
                }
            });
        });
        let silence = vec![0; pcm.len()];
        group.bench_function(format!("listen_silence_{name}"), |bencher| {
            bencher.iter(|| listen(&mut bank, &mut tones, black_box(&silence)));
        });
    }
    group.finish();
}

criterion_group!(benches, dtmf_tones);
criterion_main!(benches);
