//! Erasing on a real disk, with SQLite's index, while a writer goes on.
//!
//! Purpose: two processes at once (here two threads: locks are of open files) leave a whole archive.
//! Invariants: nothing is slept for; whoever comes first, the outcome is the same.
//! Non-goals: power cuts (see tests/archive_erase.rs).
//! Sources: docs/archive.md, "Erase"; flock(2).

mod archive_common;

use archive_common::{keys, options};
use callspan::archive::verify::{Verdict, VerifyOptions, verify_on};
use callspan::archive::{
    ClockReading, Compression, Curator, Disk, DiskOs, Identities, InitOptions, Query, RecordKind,
    Writer,
};
use callspan::base::{CallId, rfc3339};
use serde_json::json;

const ERASED: CallId = CallId(0xb2);
const START_NS: i64 = 1_795_489_056_000_000_000;

fn clock() -> ClockReading {
    ClockReading { now_ns: START_NS, ..ClockReading::default() }
}

/// What only this call says.
fn marker(call: CallId) -> String {
    format!("words-of-{:x}", call.0)
}

fn summary(call: CallId) -> Vec<u8> {
    json!({
        "id": call.to_string(), "state": "ended", "started_at": rfc3339::format_utc(START_NS),
        "ended_at": rfc3339::format_utc(START_NS + 1_000_000_000), "sip_call_ids": [marker(call)],
        "caller": {"uri": "", "number": format!("4930{}", call.0), "name": marker(call)},
        "callee": {"uri": "", "number": "200", "name": ""},
    })
    .to_string()
    .into_bytes()
}

fn on_disk(is_sealed: bool) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let (secret, public) = callspan::archive::recipients::new_pair("now");
    let made =
        if is_sealed { InitOptions::sealed_to(&[&public]) } else { InitOptions::plaintext() };
    callspan::archive::init(directory.path(), &made, &keys()).expect("a new archive");
    (directory, secret.to_string())
}

fn put_on<D: Disk>(writer: &mut Writer<D>, call: CallId, kind: RecordKind, body: &[u8]) {
    writer.append(call, kind, body, Compression::None).expect("room");
}

#[test]
fn on_a_real_disk_a_writer_and_a_curator_work_at_once_and_both_go_on() {
    let (directory, secret) = on_disk(true);
    let (send, ended) = std::sync::mpsc::channel();
    let path = directory.path().to_owned();
    let recording = std::thread::spawn(move || {
        let disk = DiskOs::new(&path);
        let (mut writer, _) = Writer::open(disk, options(16_384)).expect("writer");
        for number in 1..=40 {
            let call = CallId(number);
            for round in 0..4 {
                let body = format!("{} {round} {}", marker(call), "x".repeat(900));
                put_on(&mut writer, call, RecordKind::Sip, body.as_bytes());
                put_on(&mut writer, call, RecordKind::Audio, body.as_bytes());
                writer.commit().expect("commit");
            }
            let json = summary(call);
            put_on(&mut writer, call, RecordKind::Summary, &json);
            writer.commit().expect("commit");
            send.send(call).expect("somebody erases");
        }
        writer.seal().expect("sealed");
    });
    let disk = || DiskOs::new(directory.path());
    let mut curator = Curator::open(disk(), keys(), clock).expect("curator");
    let twice = Curator::open(disk(), keys(), clock).map(drop).unwrap_err();
    assert_eq!(twice.label(), "upkeep_locked");
    // Every second one, as soon as it has ended: in the open segment, or in one just finished.
    for call in ended.iter().filter(|call| call.0 % 2 == 0) {
        curator.erase(call, "asked for").expect("erased");
    }
    recording.join().expect("the writer went on");
    drop(curator);
    let found = verify_on(&disk(), &VerifyOptions::default()).expect("checked");
    assert_eq!(found.verdict(), Verdict::Whole, "{:?} {:?}", found.faults, found.leftovers);
    assert_eq!(found.erased_calls, 20);
    let mut archive = archive_common::reader(directory.path());
    archive.unlock(Identities::parse(&secret).expect("an identity"));
    for number in 1..=40 {
        match archive.records(CallId(number), &[]) {
            Ok(records) => assert_eq!((number % 2, records.len()), (1, 9), "call {number}"),
            Err(error) => assert_eq!((number % 2, error.label()), (0, "erased"), "call {number}"),
        }
    }
    for call in archive.calls(&Query::default()).expect("calls") {
        let names = call.summary_json.contains("4930");
        assert_eq!(names, call.id.0 % 2 == 1, "{}", call.summary_json);
    }
}

#[test]
fn an_index_that_lags_behind_keeps_no_call_from_being_erased() {
    for is_sealed in [true, false] {
        let (directory, _) = on_disk(is_sealed);
        let disk = || DiskOs::new(directory.path());
        let index = directory.path().join("index.sqlite");
        let empty = std::fs::read(&index).expect("an index");
        let (mut writer, _) = Writer::open(disk(), options(16_384)).expect("writer");
        put_on(&mut writer, ERASED, RecordKind::Sip, marker(ERASED).as_bytes());
        put_on(&mut writer, ERASED, RecordKind::Summary, &summary(ERASED));
        writer.seal().expect("sealed");
        drop(writer);
        std::fs::write(&index, empty).expect("put back");
        for log in ["index.sqlite-wal", "index.sqlite-shm"] {
            let _ = std::fs::remove_file(directory.path().join(log));
        }
        let mut curator = Curator::open(disk(), keys(), clock).expect("curator");
        curator.erase(ERASED, "asked for").expect("erased");
        drop(curator);
        let found = verify_on(&disk(), &VerifyOptions::default()).expect("checked");
        assert_eq!((found.verdict(), found.erased_calls), (Verdict::Whole, 1));
        let segment = std::fs::read(directory.path().join("segments/0000000001.segment"));
        let said = marker(ERASED);
        assert!(
            !segment.expect("a segment").windows(said.len()).any(|part| part == said.as_bytes())
        );
        let archive = archive_common::reader(directory.path());
        let call = archive.call(ERASED).expect("read").expect("it is listed");
        assert!(!call.summary_json.contains("4930"), "{}", call.summary_json);
    }
}
