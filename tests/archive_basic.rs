//! An archive in a real directory, end to end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

mod archive_common;

use archive_common::{keys, options, reader, reader as open_reader};
use callspan::archive::{
    Archive, ArchiveError, Compression, DiskOs, IndexedCall, InitOptions, Query, RecordKind,
    Writer, init, rebuild_index,
};
use callspan::base::CallId;

fn summary(number: &str, second: u32, state: &str) -> Vec<u8> {
    format!(
        r#"{{"sip_call_ids":["id-{second}@pbx"],"state":"{state}",
            "started_at":"2026-11-24T01:{:02}:{:02}Z",
            "caller":{{"number":"{number}"}},"callee":{{"number":"200"}}}}"#,
        second / 60 % 60,
        second % 60
    )
    .into_bytes()
}

fn writer(dir: &Path, segment_bytes: u64) -> Writer<DiskOs> {
    Writer::open(DiskOs::new(dir), options(segment_bytes)).expect("writer").0
}

fn all_calls(dir: &Path) -> Vec<IndexedCall> {
    reader(dir).calls(&Query::default()).expect("index")
}

#[test]
fn records_are_readable_after_commit_and_after_seal() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("archive");
    init(&path, &InitOptions::plaintext(), &keys()).expect("init");
    let mut writer = writer(&path, 1 << 20);
    let call = CallId(0xfedc_ba98_7654_3210);
    let audio = vec![7; 5_000];
    let opened = summary("+49 30 1234", 5, "ongoing");
    writer.append(call, RecordKind::CallOpened, &opened, Compression::None).expect("append");
    writer.append(call, RecordKind::Audio, &audio, Compression::Lz4).expect("append");
    let reader = reader(&path);
    assert!(!reader.exists(call).expect("index"), "not before its commit");
    assert!(writer.exists(call).expect("index"), "but its writer knows it");
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
        let ended = summary("+49 30 1234", 5, "ended");
        writer.append(call, RecordKind::Summary, &ended, Compression::Lz4).expect("append");
        writer.seal().expect("seal");
    }
    let stats = reader.stats().expect("stats");
    assert_eq!(stats.segments, 2);
    assert!(stats.bytes < 4_000, "sealed segments are cut to their footer: {stats:?}");
    let query = Query { number: Some("301234".into()), ..Query::default() };
    assert_eq!(reader.calls(&query).expect("index").len(), 1);
}

#[test]
fn init_makes_a_private_directory_once_and_takes_no_directory_of_others() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("a/b");
    assert_eq!(
        Archive::open(&path, Some(&keys().box_key)).err().map(|error| error.label()),
        Some("not_initialised")
    );
    init(&path, &InitOptions::plaintext(), &keys()).expect("init");
    let mode = fs::metadata(&path).expect("directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for name in ["index.sqlite", "archive.toml"] {
        let mode = fs::metadata(path.join(name)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(
        init(&path, &InitOptions::plaintext(), &keys()).unwrap_err().label(),
        "already_initialised"
    );
    // An `init` that was killed before archive.toml is taken up again.
    fs::remove_file(path.join("archive.toml")).expect("removed");
    init(&path, &InitOptions::plaintext(), &keys()).expect("init again");
    let toml = fs::read_to_string(path.join("archive.toml")).expect("text");
    assert!(toml.contains("plaintext = true") && toml.contains("format = 2"), "{toml}");
    fs::write(path.join("archive.toml"), toml.replace("format = 2", "format = 9")).expect("write");
    let error = Archive::open(&path, Some(&keys().box_key)).err().expect("another format");
    assert!(matches!(error, ArchiveError::VersionUnknown { found: 9, .. }), "{error}");
    let error = init(dir.path(), &InitOptions::plaintext(), &keys()).unwrap_err();
    assert!(matches!(&error, ArchiveError::NotEmpty { found, .. } if found == "a"), "{error}");
}

#[test]
fn two_archives_have_different_ids_and_do_not_take_each_others_segments() {
    let dir = tempfile::tempdir().expect("directory");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for path in [&one, &two] {
        init(path, &InitOptions::plaintext(), &keys()).expect("init");
        let mut writer = writer(path, 4_096);
        writer.append(CallId(1), RecordKind::Sip, b"x", Compression::None).expect("append");
        writer.seal().expect("seal");
    }
    let name = "segments/0000000001.segment";
    fs::copy(one.join(name), two.join(name)).expect("copied");
    let error = reader(&two).records(CallId(1), &[]).unwrap_err();
    assert!(error.to_string().contains("another archive"), "{error}");
}

#[test]
fn thousands_of_interleaved_calls_survive_rotation_and_a_rebuilt_index_is_the_same() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("archive");
    init(&path, &InitOptions::plaintext(), &keys()).expect("init");
    let mut writer = writer(&path, 64 << 10);
    let calls = 3_000_u32;
    let mut expected: BTreeMap<CallId, Vec<Vec<u8>>> = BTreeMap::new();
    for round in 0..4_u32 {
        for number in 0..calls {
            let call = CallId::derive(i64::from(number), b"call", 0);
            let (kind, body) = match round {
                0 => {
                    (RecordKind::CallOpened, summary(&format!("+4930{number}"), number, "ongoing"))
                }
                3 => (RecordKind::Summary, summary(&format!("+4930{number}"), number, "ended")),
                _ => (RecordKind::Audio, [round, number].map(u32::to_le_bytes).concat()),
            };
            writer.append(call, kind, &body, Compression::Lz4).expect("append");
            expected.entry(call).or_default().push(body);
            if number % 500 == 0 {
                writer.commit().expect("commit");
            }
        }
    }
    // The last segment stays open: it must be read and rebuilt as well.
    writer.commit().expect("commit");
    let reader = reader(&path);
    assert!(reader.stats().expect("stats").segments > 20);
    let check = |reader: &Archive| {
        for (call, bodies) in &expected {
            let records = reader.records(*call, &[]).expect("records");
            let read: Vec<_> = records.iter().map(|record| record.body.clone()).collect();
            assert_eq!(&read, bodies, "call {call}");
        }
    };
    check(&reader);
    let before = reader.calls(&Query::default()).expect("index");
    assert_eq!(before.len(), 3_000);
    assert!(before.iter().all(|call| call.summary_json.contains("ended")));
    assert_eq!(rebuild_index(&path, Some(&keys().box_key)).unwrap_err().label(), "locked");
    drop(writer);
    let rebuilt = rebuild_index(&path, Some(&keys().box_key)).expect("rebuilt");
    assert_eq!((rebuilt.calls, rebuilt.records, rebuilt.skipped), (3_000, 12_000, 0));
    assert_eq!(all_calls(&path), before, "row for row, byte for byte");
    check(&open_reader(&path));
}

#[test]
fn an_index_that_is_missing_damaged_or_of_another_version_names_the_command() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("archive");
    init(&path, &InitOptions::plaintext(), &keys()).expect("init");
    let mut first = writer(&path, 4_096);
    let body = summary("1", 1, "ended");
    first.append(CallId(1), RecordKind::Summary, &body, Compression::None).expect("append");
    first.seal().expect("seal");
    drop(first);
    let before = all_calls(&path);
    let index = path.join("index.sqlite");
    let whole = fs::read(&index).expect("index");
    let mut other_version = whole.clone();
    other_version[63] = 99; // user_version: bytes 60 to 63, big-endian
    for (bytes, reason) in [
        (None, "missing"),
        (Some(vec![b'?'; 9_000]), "damaged"),
        (Some(other_version), "of another version"),
    ] {
        fs::remove_file(&index).expect("removed");
        if let Some(bytes) = bytes {
            fs::write(&index, bytes).expect("written");
        }
        let by_reader =
            Archive::open(&path, Some(&keys().box_key)).err().expect("unusable").to_string();
        let options = options(4_096);
        let by_writer = Writer::open(DiskOs::new(&path), options).err().expect("unusable");
        let command = format!("run `callspan index rebuild --archive {}`", path.display());
        assert!(by_reader.contains(reason) && by_reader.contains(&command), "{by_reader}");
        assert_eq!(by_writer.to_string(), by_reader);
        rebuild_index(&path, Some(&keys().box_key)).expect("rebuilt");
        assert_eq!(all_calls(&path), before);
    }
}

#[test]
fn a_lagging_index_is_caught_up_and_ongoing_calls_of_the_killed_process_are_told() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("archive");
    init(&path, &InitOptions::plaintext(), &keys()).expect("init");
    let empty = fs::read(path.join("index.sqlite")).expect("index");
    let mut killed = writer(&path, 4_096);
    for (call, state) in [(7, "ongoing"), (8, "ended")] {
        let body = summary("5", call, state);
        let call = CallId(call.into());
        killed.append(call, RecordKind::CallOpened, &body, Compression::None).expect("append");
    }
    killed.commit().expect("commit");
    drop(killed);
    // A power cut took the index's last transactions.
    fs::write(path.join("index.sqlite"), empty).expect("written");
    let options = || options(4_096);
    let (mut writer, recovered) = Writer::open(DiskOs::new(&path), options()).expect("opened");
    assert_eq!(recovered.segments.len(), 1);
    assert_eq!(recovered.reindexed_segments, 1);
    let ongoing: Vec<_> = recovered.ongoing.iter().map(|call| call.id).collect();
    assert_eq!(ongoing, [CallId(7)]);
    let body = summary("5", 7, "truncated");
    let address =
        writer.append(CallId(7), RecordKind::Summary, &body, Compression::None).expect("append");
    assert_eq!(address.sequence, 1, "the sequence goes on where the killed process was");
    writer.seal().expect("seal");
    drop(writer);
    let (_, recovered) = Writer::open(DiskOs::new(&path), options()).expect("opened");
    assert_eq!(recovered, callspan::archive::Recovered::default());
}

#[test]
fn a_reader_in_another_thread_sees_every_committed_record_through_commits_and_rotations() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("archive");
    init(&path, &InitOptions::plaintext(), &keys()).expect("init");
    let mut writer = writer(&path, 2_048);
    let acknowledged = AtomicU32::new(0);
    let total = 600_u32;
    let call = CallId(3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..total {
                let body = number.to_le_bytes();
                writer.append(call, RecordKind::Spill, &body, Compression::None).expect("append");
                if number % 3 == 2 {
                    writer.commit().expect("commit");
                    acknowledged.store(number + 1, Ordering::Release);
                }
            }
        });
        let reader = reader(&path);
        loop {
            let least = acknowledged.load(Ordering::Acquire);
            let records = reader.records(call, &[RecordKind::Spill]).expect("records");
            assert!(records.len() >= least as usize, "{} of {least}", records.len());
            for (number, record) in (0_u32..).zip(&records) {
                assert_eq!(record.body, number.to_le_bytes());
            }
            if least == total {
                break;
            }
        }
    });
}
