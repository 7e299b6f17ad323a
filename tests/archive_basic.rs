//! An archive on a real directory, end to end.

use std::fs;
use std::path::Path;

use callspan::archive::{
    Archive, Compression, DiskOs, InitOptions, Protection, Query, RecordKind, Writer,
    WriterOptions, init, rebuild_index,
};
use callspan::base::CallId;

fn summary(number: &str, second: u32, state: &str) -> Vec<u8> {
    format!(
        r#"{{"sip_call_ids":["id-{second}@pbx"],"state":"{state}","started_at":"2026-11-24T01:00:{second:02}Z",
            "caller":{{"number":"{number}"}},"callee":{{"number":"200"}}}}"#
    )
    .into_bytes()
}

fn new_archive(dir: &Path) {
    init(dir, InitOptions { protection: Protection::Plaintext }).expect("init");
}

fn writer(dir: &Path, segment_bytes: u64) -> Writer<DiskOs> {
    Writer::open(DiskOs::new(dir), WriterOptions { segment_bytes }).expect("writer").0
}

#[test]
fn records_are_readable_after_commit_and_after_seal() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("archive");
    new_archive(&path);
    let mut writer = writer(&path, 1 << 20);
    let call = CallId(0xfedc_ba98_7654_3210);
    let audio = vec![7; 5_000];
    writer
        .append(
            call,
            RecordKind::CallOpened,
            &summary("+49 30 1234", 5, "ongoing"),
            Compression::None,
        )
        .expect("append");
    writer.append(call, RecordKind::Audio, &audio, Compression::Lz4).expect("append");
    let reader = Archive::open(&path).expect("reader");
    assert!(!reader.exists(call).expect("index"), "not before its commit");
    let committed = writer.commit().expect("commit");
    assert_eq!((committed.records, committed.failed_segments), (2, 0));
    for state in ["ongoing", "ended"] {
        let found = reader.find("id-5@pbx").expect("index");
        assert_eq!(found.len(), 1);
        assert!(found[0].summary_json.contains(state));
        assert_eq!(reader.find(&call.to_string()).expect("index"), found);
        let records = reader.records(call, &[RecordKind::Audio]).expect("records");
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].sequence, &records[0].body), (1, &audio));
        assert_eq!(writer.read_call(call).expect("own"), reader.records(call, &[]).expect("all"));
        writer
            .append(
                call,
                RecordKind::Summary,
                &summary("+49 30 1234", 5, "ended"),
                Compression::Lz4,
            )
            .expect("append");
        writer.seal().expect("seal");
    }
    let stats = reader.stats().expect("stats");
    assert_eq!(stats.segments, 2);
    assert!(stats.bytes < 4_000, "sealed segments are cut to their footer: {stats:?}");
    let listed = reader.calls(&Query { number: Some("301234".into()), ..Query::default() });
    assert_eq!(listed.expect("index").len(), 1);
    drop(writer);
    fs::remove_file(path.join("index.sqlite")).expect("remove");
    let rebuilt = rebuild_index(&path).expect("rebuild");
    assert_eq!((rebuilt.calls, rebuilt.segments, rebuilt.records, rebuilt.skipped), (1, 2, 4, 0));
}
