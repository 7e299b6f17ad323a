//! Finding calls.
//!
//! Purpose: what an operator asks of the index: the newest, one number, one Call-ID, one id.
//! Invariants: how many calls are found is asserted before the timing.
//! Non-goals: reading their audio (see `callspan export`).
//! Sources: docs/archive.md, "Index".

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::archive::{Archive, Compression, DiskOs, Query, RecordKind, Writer, WriterOptions};
use callspan::base::CallId;
use common::{calls::call_id, count, make_archive, size};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;

/// Seconds since the epoch: 2026-01-01.
const FIRST_S: i64 = 1_767_225_600;

fn summary(call: usize) -> String {
    let second = FIRST_S + i64::try_from(call).expect("small");
    let started = callspan::base::rfc3339::format_utc(second * 1_000_000_000);
    format!(
        r#"{{"id":"{call:016x}","sip_call_ids":["{}"],"state":"ended","started_at":"{started}",
"caller":{{"uri":"sip:1{call:06}@example.com","number":"1{call:06}","name":""}},
"callee":{{"uri":"sip:200@example.com","number":"200","name":""}}}}"#,
        call_id(call)
    )
}

fn fill(path: &Path, calls: usize) {
    make_archive(path);
    let mut writer = Writer::open(DiskOs::new(path), WriterOptions::default()).expect("a writer").0;
    for call in 0..calls {
        let (id, body) = (CallId(count(call)), summary(call));
        let (kind, compression) = (RecordKind::Summary, Compression::Lz4);
        writer.append(id, kind, body.as_bytes(), compression).expect("append");
    }
    writer.seal().expect("seal");
}

fn index_query(criterion: &mut Criterion) {
    let calls = size(200, 50_000);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("archive");
    fill(&path, calls);
    let archive = Archive::open(&path).expect("a reader");
    let middle = calls / 2;
    let number = |digits: String| Query { number: Some(digits), ..Query::default() };
    let from_ns = (FIRST_S + i64::try_from(middle).expect("small")) * 1_000_000_000;
    let minute =
        Query { from_ns: Some(from_ns), to_ns: Some(from_ns + 60_000_000_000), ..Query::default() };
    let cases = [
        ("newest_20", Query { limit: Some(20), ..Query::default() }, 20),
        ("one_minute", minute, 60),
        ("one_number", number(format!("1{middle:06}")), 1),
        ("end_of_a_number", number(format!("{middle:06}")), 1),
        ("number_of_nobody", number("77777777".into()), 0),
        ("worst_number_of_all", number("200".into()), calls),
        ("worst_all", Query::default(), calls),
    ];
    let mut group = criterion.benchmark_group(format!("index_query/{calls}_calls"));
    group.sample_size(10);
    for (name, query, expected) in cases {
        let found = || archive.calls(black_box(&query)).expect("the index").len();
        assert_eq!(found(), expected, "{name}");
        group.throughput(Throughput::Elements(count(expected.max(1))));
        group.bench_function(name, |bencher| bencher.iter(found));
    }
    group.throughput(Throughput::Elements(1));
    let wanted = call_id(middle);
    let by_call_id = || archive.calls_by_sip_call_id(&wanted).expect("the index").len();
    assert_eq!(by_call_id(), 1);
    group.bench_function("one_sip_call_id", |bencher| bencher.iter(by_call_id));
    let by_id = || archive.call(CallId(count(middle))).expect("the index").is_some();
    assert!(by_id());
    group.bench_function("one_id", |bencher| bencher.iter(by_id));
    group.finish();
}

criterion_group!(benches, index_query);
criterion_main!(benches);
