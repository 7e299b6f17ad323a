//! Records into a segment, and their commit.
//!
//! Purpose: what the archive's thread pays a record: on memory (its own work), on a real disk (the
//! same with `pwritev` and `fdatasync`), and sealed; beside the last a bare loop that seals and writes
//! the same bytes and does nothing else.
//! Invariants: every record is committed, asserted after each pass; ours and the bare loop alternate,
//! and ours keeps at least 60 % of its throughput.
//! Non-goals: recovery (see `tests/archive_faults.rs`).
//! Sources: docs/archive.md, "Append" and "Commit"; issue 4, "Writing costs little".

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use callspan::archive::recipients::new_pair;
use callspan::archive::record::record_span_bytes;
use callspan::archive::{
    BoxKeys, Compression, Disk, DiskOs, DiskSim, InitOptions, RecordKind, Writer, WriterOptions,
    init_on,
};
use callspan::base::CallId;
use common::{Noise, count, low_byte, size};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What one commit takes at 500 calls: a second of audio each.
const RECORDS: usize = 500;
/// Two channels of 16 kbit/s.
const AUDIO_BYTES: usize = 4_100;
/// Ours to the bare loop, throughput: the least that issue 4 allows.
const RATIO_MIN: f64 = 0.6;

fn writer<D: Disk>(mut disk: D, protection: &InitOptions, segment_bytes: u64) -> Writer<D> {
    let keys = BoxKeys::from_random(&[7; 64]).expect("keys");
    init_on(&mut disk, protection, &keys).expect("an archive");
    let options = WriterOptions { segment_bytes, ..WriterOptions::new(keys) };
    Writer::open(disk, options).expect("a writer").0
}

fn sealed() -> InitOptions {
    InitOptions::sealed_to(&[&new_pair("now").1])
}

fn append<D: Disk>(writer: &mut Writer<D>, body: &[u8], compression: Compression) {
    for call in 0..RECORDS {
        let call = CallId(count(call) + 1);
        writer.append(call, RecordKind::Audio, body, compression).expect("append");
    }
    let committed = writer.commit().expect("commit");
    assert_eq!(committed.records, count(RECORDS));
}

struct Case<'c> {
    name: &'c str,
    body: &'c [u8],
    compression: Compression,
    protection: InitOptions,
}

fn case<D: Disk>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    case: &Case<'_>,
    disk: impl Fn() -> (D, Option<tempfile::TempDir>),
) {
    let Case { name, body, compression, protection } = case;
    group.throughput(Throughput::Bytes(count(RECORDS * body.len())));
    let setup = || {
        let (disk, folder) = disk();
        let mut writer = writer(disk, protection, 16 << 20);
        // A segment is created once, and a call's key made once: records are what is measured.
        append(&mut writer, b"first", Compression::None);
        (writer, folder)
    };
    group.bench_function(*name, |bencher| {
        bencher.iter_batched(
            setup,
            |(mut writer, folder)| {
                append(&mut writer, body, *compression);
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
    let (plaintext, none) = (InitOptions::plaintext, Compression::None);
    let named = |name, body, compression, protection| Case { name, body, compression, protection };
    let mut group = criterion.benchmark_group("segment_append");
    group.sample_size(10);
    case(&mut group, &named("memory_audio", &audio, none, plaintext()), on_sim);
    case(&mut group, &named("memory_audio_sealed", &audio, none, sealed()), on_sim);
    case(&mut group, &named("memory_text_lz4", &text, Compression::Lz4, plaintext()), on_sim);
    case(&mut group, &named("disk_audio", &audio, none, plaintext()), on_disk);
    case(&mut group, &named("disk_audio_sealed", &audio, none, sealed()), on_disk);
    // A record for every packet: headers and the table are all there is.
    case(&mut group, &named("worst_memory_tiny_records", &[7; 16], none, plaintext()), on_sim);
    group.finish();
    beside_a_bare_loop(&audio);
}

/// What the same bytes cost without an archive: AES-256-GCM over each record, one `pwrite` and one
/// `fdatasync` a commit, into a preallocated file.
struct Bare {
    file: File,
    keys: Vec<LessSafeKey>,
    counter: u64,
    end: u64,
    bytes: Vec<u8>,
}

impl Bare {
    fn new(path: &Path, len_bytes: u64) -> Self {
        let file = OpenOptions::new().write(true).create_new(true).open(path).expect("a file");
        let len = i64::try_from(len_bytes).expect("a length");
        nix::fcntl::posix_fallocate(&file, 0, len).expect("room");
        let key = |call: usize| {
            let key = UnboundKey::new(&AES_256_GCM, &[low_byte(call); 32]).expect("a key");
            LessSafeKey::new(key)
        };
        let keys = (0..RECORDS).map(key).collect();
        Self { file, keys, counter: 0, end: 64, bytes: Vec::new() }
    }

    fn commit(&mut self, body: &[u8]) {
        self.bytes.clear();
        self.counter += 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        let span =
            usize::try_from(record_span_bytes(u32::try_from(body.len() + 16).expect("short")));
        let span = span.expect("short");
        for key in &self.keys {
            let start = self.bytes.len();
            self.bytes.resize(start + 48, 0);
            self.bytes.extend_from_slice(body);
            let sealed = &mut self.bytes[start + 48..];
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 68]), sealed);
            self.bytes.extend_from_slice(tag.expect("sealed").as_ref());
            self.bytes.resize(start + span, 0);
        }
        self.file.write_all_at(&self.bytes, self.end).expect("written");
        nix::unistd::fdatasync(&self.file).expect("synced");
        self.end += count(self.bytes.len());
    }
}

/// Seconds that both take for the same commits, alternating on one file system.
fn beside_a_bare_loop(audio: &[u8]) {
    let (commits, pairs) = size((2, 2), (20, 15));
    let room = count(commits * (pairs + 1) * RECORDS * (AUDIO_BYTES + 200)) + (16 << 20);
    let folder = tempfile::tempdir().expect("a folder");
    let mut ours = writer(DiskOs::new(&folder.path().join("archive")), &sealed(), room);
    let mut bare = Bare::new(&folder.path().join("bare"), room);
    let mut time = |warm: usize| {
        let start = Instant::now();
        (0..warm).for_each(|_| append(&mut ours, audio, Compression::None));
        let ours = start.elapsed();
        let start = Instant::now();
        (0..warm).for_each(|_| bare.commit(audio));
        (ours, start.elapsed())
    };
    time(commits);
    let mut ratios: Vec<f64> = Vec::new();
    let mut sum = [Duration::ZERO; 2];
    for _ in 0..pairs {
        let (ours, bare) = time(commits);
        sum = [sum[0] + ours, sum[1] + bare];
        ratios.push(bare.as_secs_f64() / ours.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let megabytes = (pairs * commits * RECORDS * AUDIO_BYTES) as f64 / 1e6;
    let [ours, bare] = sum.map(|time| megabytes / time.as_secs_f64());
    let median = ratios[ratios.len() / 2];
    println!(
        "sealed append beside a bare pwrite + AES-256-GCM loop: ours {ours:.0} MB/s, bare {bare:.0} MB/s, \
         ratio {median:.3} ({:.3}–{:.3}, {pairs} alternating pairs of {commits} commits of {RECORDS} records)",
        ratios[0],
        ratios[ratios.len() - 1],
    );
    // A quick run proves that it works, and times too little to judge.
    assert!(median >= size(0.0, RATIO_MIN), "ratio {median:.3} is below {RATIO_MIN}");
}

criterion_group!(benches, segment_append);
criterion_main!(benches);
