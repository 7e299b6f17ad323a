//! `erase`, `hold`, `release`, `retain` of the built program, and what is said where they cannot work.
//!
//! Purpose: what an operator sees: lists, one line, the right status, and an archive that stays whole.
//! Invariants: the calls are written through the archive's own writer, long ago; tests that mount need
//! root.
//! Non-goals: power cuts (see tests/archive_erase.rs).
//! Sources: docs/CLI.md; unshare(1), tmpfs(5).

mod robust_common;

use std::fs;
use std::path::{Path, PathBuf};

use callspan::archive::{
    AudioBatchWriter, BoxKeys, ClockReading, Compression, Curator, DiskOs, RecordKind, Writer,
    WriterOptions,
};
use callspan::base::{CallId, rfc3339};
use callspan::cli::ArchivePlace;
use robust_common::{CALLSPAN, Case, Ended, ends, phones};
use serde_json::json;

/// 2025-10-09T08:53:20Z.
const LONG_AGO_NS: i64 = 1_760_000_000_000_000_000;
const ALICE: CallId = CallId(0x0123_4567_89ab_cdef);
const AGAIN: CallId = CallId(0x0222_2222_0000_0002);
const BOB: CallId = CallId(0xfedc_ba98_0000_0003);
/// No other call has it.
const NUMBER: &str = "48221234567";

fn keys(case: &Case) -> BoxKeys {
    ArchivePlace::new(&case.path("calls")).load().expect("keys")
}

fn summary(id: CallId, number: &str) -> String {
    let at = |seconds: i64| rfc3339::format_utc(LONG_AGO_NS + seconds * 1_000_000_000);
    json!({
        "id": id.to_string(), "sip_call_ids": [format!("{id}@a.example")], "state": "ended",
        "started_at": at(0), "answered_at": at(1), "ended_at": at(5), "end_reason": "bye",
        "status_code": 200, "origin": "invite", "verdict": "both",
        "caller": {"uri": format!("sip:{number}@a.example"), "number": number, "name": "Zoë"},
        "callee": {"uri": "sip:200@b.example", "number": "200", "name": ""},
        "recording": {"state": "stored", "started_at": at(1), "seconds": 0.04, "bytes": 9,
            "channels": 2},
        "streams": [], "gaps": [], "dtmf": [], "notes": [],
    })
    .to_string()
}

fn writer(case: &Case) -> Writer<DiskOs> {
    let options = WriterOptions { segment_bytes: 1 << 20, ..WriterOptions::new(keys(case)) };
    Writer::open(DiskOs::new(&case.path("calls")), options).expect("a writer").0
}

fn fill(case: &Case, calls: &[(CallId, &str)]) {
    let mut writer = writer(case);
    for (id, number) in calls {
        let mut batch = AudioBatchWriter::new(0);
        for _ in 0..2 {
            batch.push(&[], &[]).expect("short");
        }
        let json = summary(*id, number);
        let records =
            [(RecordKind::Audio, batch.finish().clone()), (RecordKind::Summary, json.into_bytes())];
        for (kind, body) in records {
            writer.append(*id, kind, &body, Compression::None).expect("room");
        }
    }
    writer.seal().expect("sealed");
}

/// Two calls of one number, and one of another.
fn filled() -> Case {
    let case = Case::new();
    fill(&case, &[(ALICE, NUMBER), (AGAIN, NUMBER), (BOB, "300")]);
    case
}

fn sealed() -> Case {
    let case = Case { folder: tempfile::tempdir().expect("a folder") };
    let made = case.run(["keys", "new", "--output", "me.txt"]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let words = [made.out.as_str(), made.errors.as_str()].concat();
    let public = words.split_whitespace().find(|word| word.starts_with("age1")).expect("a key");
    let made = case.run(["init", "calls", "--recipient", public]);
    assert_eq!(made.status, Some(0), "{made:?}");
    fill(&case, &[(ALICE, NUMBER), (BOB, "300")]);
    case
}

#[track_caller]
fn done(case: &Case, words: &[&str]) -> Ended {
    let ended = case.run(words);
    assert_eq!(ended.status, Some(0), "{words:?}: {ended:?}");
    ended
}

#[track_caller]
fn is_whole(case: &Case) {
    let ended = done(case, &["verify"]);
    assert_eq!(ended.errors, "", "{ended:?}");
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(path).expect("a file")));
        }
    }
    found.sort();
    found
}

/// Files of the archive in which the text stands.
fn holding(case: &Case, text: &str) -> Vec<PathBuf> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let found = files(&case.path("calls")).into_iter().filter(|(_, bytes)| holds(bytes));
    found.map(|(path, _)| path).collect()
}

#[test]
fn an_erased_call_is_listed_and_shown_as_erased_and_cannot_be_exported() {
    let case = filled();
    let id = ALICE.to_string();
    done(&case, &["erase", &id, "--reason", "asked for"]).says_remark("1 calls erased");
    let listed = case.calls();
    assert_eq!(listed.len(), 3);
    let erased = listed.iter().find(|call| call["id"] == id.as_str()).expect("it is listed");
    assert_eq!(
        (&erased["recording"]["state"], &erased["caller"]["number"]),
        (&json!("erased"), &json!(""))
    );
    assert_eq!(erased["started_at"], rfc3339::format_utc(LONG_AGO_NS).as_str());
    let shown = done(&case, &["show", &id]);
    assert!(shown.out.contains("erased") && !shown.out.contains("Zoë"), "{shown:?}");
    done(&case, &["show", &id, "--json"]);
    case.run(["export", &id, "-f", "wav", "-o", "a.wav"]).says(1, &[&id, "erased"]);
    case.run(["export", &id, "-f", "pcap", "-o", "a.pcap"]).says(1, &[&id, "erased"]);
    done(&case, &["export", &BOB.to_string(), "-f", "wav", "-o", "b.wav"]);
    case.run(["erase", &id, "--reason", "x"]).says(1, &["erased already"]);
    case.run(["hold", &id]).says(1, &["erased already"]);
    case.run(["erase", "0000000000000000", "--reason", "x"]).says(1, &["no call"]);
    is_whole(&case);
}

#[test]
fn a_number_is_erased_after_its_calls_are_listed_and_is_in_no_file_any_more() {
    let case = filled();
    assert!(holding(&case, NUMBER).len() > 1, "the search finds what is there");
    let before = files(&case.path("calls/segments"));
    let by_number = ["erase", "--number", NUMBER, "--reason", "asked for"];
    let dry = done(&case, &[&by_number[..], &["--dry-run"]].concat());
    assert!(dry.out.lines().count() == 2 && dry.out.contains(NUMBER), "{dry:?}");
    dry.says_remark("2 calls would be erased");
    assert_eq!(files(&case.path("calls/segments")), before);
    assert!(!case.path("calls/tombstones").exists(), "nothing was touched");
    let erased = done(&case, &by_number);
    assert_eq!(erased.out, dry.out);
    erased.says_remark("2 calls erased");
    assert_eq!(holding(&case, NUMBER), Vec::<PathBuf>::new());
    assert_eq!(done(&case, &["calls", "--number", NUMBER, "--json"]).out, "");
    case.run(by_number).says(1, &["no call matches"]);
    is_whole(&case);
    done(&case, &["index", "rebuild"]);
    assert_eq!(holding(&case, NUMBER), Vec::<PathBuf>::new());
    assert_eq!(case.calls().len(), 3, "erased calls stay listed, unnamed");
    assert_eq!(done(&case, &["calls", "--number", NUMBER, "--json"]).out, "");
}

#[test]
fn a_held_call_is_kept_from_erasing_and_the_others_of_its_number_go() {
    let case = filled();
    let id = ALICE.to_string();
    done(&case, &["hold", &id, "--reason", "case 7"]).says_remark("on hold");
    case.run(["erase", &id, "--reason", "x"]).says(1, &[&id, "on hold", "release"]);
    let some = case.run(["erase", "--number", NUMBER, "--reason", "x"]);
    assert_eq!(some.status, Some(3), "{some:?}");
    assert!(some.errors.contains("on hold") && some.errors.contains("1 calls erased"), "{some:?}");
    done(&case, &["release", &id]).says_remark("released");
    case.run(["release", &id]).says(1, &["not on hold"]);
    done(&case, &["erase", &id, "--reason", "x"]);
    is_whole(&case);
}

#[test]
fn retain_erases_what_is_due_lists_it_first_and_leaves_what_is_held() {
    let case = Case { folder: tempfile::tempdir().expect("a folder") };
    done(&case, &["init", "calls", "--plaintext", "--retention", "1"]);
    fill(&case, &[(ALICE, NUMBER), (BOB, "300")]);
    done(&case, &["hold", &BOB.to_string()]);
    let dry = done(&case, &["retain", "--dry-run"]);
    assert_eq!(dry.out, format!("{ALICE}\n"));
    assert!(dry.errors.contains("1 calls are due and on legal hold"), "{dry:?}");
    assert!(!holding(&case, NUMBER).is_empty());
    let first = done(&case, &["retain"]).errors;
    assert!(first.contains("1 calls erased") && first.contains("on legal hold"), "{first}");
    assert_eq!(holding(&case, NUMBER), Vec::<PathBuf>::new());
    assert!(done(&case, &["retain"]).errors.contains("no call is due"));
    is_whole(&case);
}

#[test]
fn nobody_opens_an_erased_call_of_a_sealed_archive_and_a_rebuilt_index_names_nobody() {
    let case = sealed();
    let id = ALICE.to_string();
    let export = ["export", &id, "--identity", "me.txt", "-f", "wav", "-o", "a.wav", "--force"];
    done(&case, &export);
    done(&case, &["erase", &id, "--reason", "asked for"]);
    case.run(export).says(1, &[&id, "erased"]);
    done(&case, &["index", "rebuild"]);
    case.run(export).says(1, &[&id, "erased"]);
    assert!(!done(&case, &["calls", "--json"]).out.contains(NUMBER));
    is_whole(&case);
}

#[test]
fn while_others_write_a_call_is_erased_and_while_others_erase_it_is_refused() {
    let case = filled();
    let mut recording = writer(&case);
    recording.append(CallId(9), RecordKind::Sip, b"x", Compression::None).expect("room");
    recording.commit().expect("commit");
    case.run(["index", "rebuild"]).says(1, &["another callspan process writes"]);
    done(&case, &["erase", &ALICE.to_string(), "--reason", "x"]);
    recording.append(CallId(9), RecordKind::Sip, b"y", Compression::None).expect("room");
    recording.seal().expect("sealed");
    drop(recording);
    let disk = DiskOs::new(&case.path("calls"));
    let curator = Curator::open(disk, keys(&case), ClockReading::default).expect("a curator");
    for words in [&["erase", "fedcba98", "--reason", "x"][..], &["retain"], &["index", "rebuild"]] {
        case.run(words).says(1, &["another callspan process erases", "wait for it"]);
    }
    drop(curator);
    is_whole(&case);
}

#[test]
fn a_newer_format_a_missing_segment_and_wrong_keys_are_one_line_each() {
    let case = sealed();
    let erase = ["erase", "0123456789abcdef", "--reason", "x"];
    for (name, key) in [("box.key", "box key"), ("signing.key", "signing key")] {
        let path = case.path("calls.keys").join(name);
        let own = fs::read(&path).expect("a key");
        let other = sealed();
        fs::copy(other.path("calls.keys").join(name), &path).expect("copied");
        case.run(erase).says(1, &[key, "another archive's"]);
        fs::write(&path, b"no key").expect("written");
        case.run(erase).says(1, &["is no", key]);
        fs::remove_file(&path).expect("removed");
        case.run(erase).says(1, &[name]);
        fs::write(&path, own).expect("written");
        is_whole(&case);
    }
    let manifest = case.path("calls/archive.toml");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, text.replace("format = 2", "format = 3")).expect("written");
    for words in [&erase[..], &["calls"], &["verify"], &["retain"], &["index", "rebuild"]] {
        case.run(words).says(1, &["format version 3", "use a newer callspan"]);
    }
    fs::write(&manifest, text).expect("written");
    is_whole(&case);
    let segment = case.path("calls/segments/0000000001.segment");
    fs::rename(&segment, case.path("aside")).expect("moved");
    let export = ["export", "0123456789abcdef", "-f", "pcap", "-o", "a.pcap"];
    case.run(export).says(1, &["segment", "missing"]);
    case.run(erase).says(1, &["missing"]);
    fs::rename(case.path("aside"), &segment).expect("moved back");
    is_whole(&case);
}

/// Runs a script in a mount namespace; `$CALLSPAN` is set.
fn in_a_namespace(case: &Case, script: &str) -> Ended {
    robust_common::needs_root();
    let mut command = case.command("unshare");
    ends(command.args(["--mount", "bash", "-c", script]).env("CALLSPAN", CALLSPAN))
}

#[test]
fn a_read_only_archive_is_told_in_one_line_and_stays_whole() {
    let case = filled();
    for words in ["erase 01234567 --reason x", "hold 01234567", "retain", "index rebuild"] {
        let mount = "mount --bind calls calls && mount -o remount,ro,bind calls";
        let ended = in_a_namespace(&case, &format!("{mount} && $CALLSPAN {words}"));
        ended.says(1, &["cannot"]);
    }
    is_whole(&case);
}

#[test]
fn a_disk_too_full_to_erase_from_is_told_before_anything_is_touched() {
    let case = filled();
    let mut noise = writer(&case);
    for _ in 0..6 {
        noise.append(ALICE, RecordKind::Sip, &vec![7; 100_000], Compression::None).expect("room");
    }
    noise.seal().expect("sealed");
    drop(noise);
    let ended = in_a_namespace(
        &case,
        "mkdir disk && mount -t tmpfs -o size=8m none disk && cp -r calls calls.keys disk && \
         cd disk && export CALLSPAN_ARCHIVE=calls && \
         fallocate -l $(( $(df --output=avail -B1 . | tail -1) - 300000 )) filler && \
         { $CALLSPAN erase 01234567 --reason x >/dev/null; echo $?; $CALLSPAN verify >/dev/null; \
           echo $?; rm filler; $CALLSPAN erase 01234567 --reason x >/dev/null 2>&1; echo $?; \
           $CALLSPAN verify >/dev/null; echo $?; }",
    );
    ended.says(0, &["the disk of the archive is full", "make room"]);
    assert_eq!(ended.out, "1\n0\n0\n0\n", "{ended:?}");
}

trait Remarks {
    fn says_remark(&self, part: &str);
}

impl Remarks for Ended {
    #[track_caller]
    fn says_remark(&self, part: &str) {
        assert!(self.errors.lines().count() == 1 && self.errors.contains(part), "{self:?}");
    }
}

#[test]
fn what_root_does_to_an_archive_shuts_its_recorder_out_of_nothing() {
    use std::os::unix::fs::MetadataExt;
    const RECORDER: u32 = 4_711;
    let case = Case::new();
    fill(&case, &[(ALICE, NUMBER)]);
    let id = ALICE.to_string();
    let owner = format!("{RECORDER}:{RECORDER}");
    let done = ends(case.command("chown").args(["-R", &owner, "calls", "calls.keys"]));
    assert_eq!(done.status, Some(0), "as root: {done:?}");
    assert_eq!(case.run(["hold", &id, "--reason", "case 7"]).status, Some(0));
    assert_eq!(case.run(["retain"]).status, Some(0));
    assert_eq!(case.run(["replay", phones().to_str().expect("text")]).status, Some(0));
    let mut looked_at = 0;
    for place in ["calls", "calls/segments"] {
        for entry in std::fs::read_dir(case.path(place)).expect("listed") {
            let entry = entry.expect("an entry");
            assert_eq!(entry.metadata().expect("there").uid(), RECORDER, "{:?}", entry.path());
            looked_at += 1;
        }
    }
    assert!(looked_at >= 6, "{looked_at} files");
}
