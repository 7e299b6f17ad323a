//! Records into a segment, and their commit.
//!
//! Purpose: what the archive's thread pays a record: on memory (its own work), and on a real disk
//! (the same with `pwritev` and `fdatasync`).
//! Invariants: every record is committed, asserted after each pass.
//! Non-goals: recovery (see `tests/archive_faults.rs`).
//! Sources: docs/archive.md, "Append" and "Commit".

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::archive::{
    BoxKeys, Compression, Disk, DiskOs, DiskSim, InitOptions, RecordKind, Writer, WriterOptions,
    init_on,
};
use callspan::base::CallId;
use common::{Noise, count, low_byte};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};

/// What one commit takes at 500 calls: a second of audio each.
const RECORDS: usize = 500;
/// Two channels of 16 kbit/s.
const AUDIO_BYTES: usize = 4_100;

fn writer<D: Disk>(mut disk: D) -> Writer<D> {
    let keys = BoxKeys::from_random(&[7; 64]).expect("keys");
    init_on(&mut disk, &InitOptions::plaintext(), &keys).expect("an archive");
    let options = WriterOptions { segment_bytes: 16 << 20, ..WriterOptions::new(keys) };
    Writer::open(disk, options).expect("a writer").0
}

fn append<D: Disk>(writer: &mut Writer<D>, body: &[u8], compression: Compression) {
    for call in 0..RECORDS {
        let call = CallId(count(call) + 1);
        writer.append(call, RecordKind::Audio, body, compression).expect("append");
    }
    let committed = writer.commit().expect("commit");
    assert_eq!(committed.records, count(RECORDS));
}

fn case<D: Disk>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    body: &[u8],
    compression: Compression,
    disk: impl Fn() -> (D, Option<tempfile::TempDir>),
) {
    group.throughput(Throughput::Bytes(count(RECORDS * body.len())));
    let setup = || {
        let (disk, folder) = disk();
        (writer(disk), folder)
    };
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            setup,
            |(mut writer, folder)| {
                append(&mut writer, body, compression);
                (writer, folder)
            },
            BatchSize::PerIteration,
        );
    });
}

fn segment_append(criterion: &mut Criterion) {
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    let mut random = || low_byte(usize::try_from(noise.next() >> 40).expect("24 bits"));
    let audio: Vec<u8> = (0..AUDIO_BYTES).map(|_| random()).collect();
    let text = b"Via: SIP/2.0/UDP 10.1.0.1:5060;branch=z9hG4bK1\r\n".repeat(AUDIO_BYTES / 48);
    let on_sim = || (DiskSim::new(), None);
    let on_disk = || {
        let folder = tempfile::tempdir().expect("a folder");
        (DiskOs::new(&folder.path().join("archive")), Some(folder))
    };
    let mut group = criterion.benchmark_group("segment_append");
    group.sample_size(10);
    case(&mut group, "memory_audio", &audio, Compression::None, on_sim);
    case(&mut group, "memory_text_lz4", &text, Compression::Lz4, on_sim);
    case(&mut group, "disk_audio", &audio, Compression::None, on_disk);
    // A record for every packet: headers and the table are all there is.
    case(&mut group, "worst_memory_tiny_records", &[7; 16], Compression::None, on_sim);
    group.finish();
}

criterion_group!(benches, segment_append);
criterion_main!(benches);
