//! The bundled captures of real phones, through the whole program: a diff in review is the review.
//!
//! Purpose: pcap in, text out: calls, streams, gaps, digits, every counter; and the same whatever
//! the workers, the run, or the way it was stored.
//! Invariants: snapshots are what `calls --json` and `replay --json` print, times and all.
//! Non-goals: how it sounds (see tests/lab/judge).
//! Sources: tests/captures/README.md (how the captures were made).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CAPTURES: [&str; 2] = ["two-phones-pcma.pcap", "two-phones-g722-hold.pcap"];

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn callspan(directory: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_callspan"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    output
}

/// Replays a capture into a new archive; returns what `replay --json` said.
fn replay(directory: &Path, archive: &str, name: &str, flags: &[&str]) -> serde_json::Value {
    callspan(directory, &["init", archive, "--plaintext"]);
    let file = capture(name);
    let file = file.to_str().expect("text");
    let mut arguments = vec!["replay", file, "--archive", archive, "--json"];
    arguments.extend_from_slice(flags);
    serde_json::from_slice(&callspan(directory, &arguments).stdout).expect("JSON")
}

fn calls(directory: &Path, archive: &str) -> String {
    let output = callspan(directory, &["calls", "--archive", archive, "--json"]);
    String::from_utf8(output.stdout).expect("text")
}

fn id_of(calls: &str) -> String {
    let call: serde_json::Value =
        serde_json::from_str(calls.lines().next().expect("a call")).expect("JSON");
    call["id"].as_str().expect("id").to_owned()
}

fn export(directory: &Path, archive: &str, call: &str, format: &str) -> Vec<u8> {
    let output = format!("{archive}-{call}.{format}");
    let arguments = ["export", call, "--archive", archive, "--format", format, "--output", &output];
    callspan(directory, &arguments);
    std::fs::read(directory.join(output)).expect("the export")
}

#[test]
fn the_bundled_calls_are_told_as_ever() {
    for name in CAPTURES {
        let directory = tempfile::tempdir().expect("directory");
        let report = replay(directory.path(), "a", name, &[]);
        let outcomes = report["frames"]["by_outcome"].as_object().expect("counts");
        let sum: u64 = outcomes.values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(report["frames"]["received"].as_u64(), Some(sum), "{name}");
        let told = calls(directory.path(), "a");
        let call: serde_json::Value = serde_json::from_str(&told).expect("one call");
        let pretty = serde_json::to_string_pretty(&call).expect("JSON");
        let counted = serde_json::to_string_pretty(&report["frames"]).expect("JSON");
        insta::assert_snapshot!(name, format!("{pretty}\n{counted}"));
    }
}

#[test]
fn workers_runs_and_the_way_of_storing_do_not_change_what_is_heard() {
    for name in CAPTURES {
        let directory = tempfile::tempdir().expect("directory");
        let here = directory.path();
        let ways: [(&str, &[&str]); 4] = [
            ("one", &["--workers", "1"]),
            ("four", &["--workers", "4"]),
            ("again", &["--workers", "4"]),
            ("raw", &["--store", "raw"]),
        ];
        for (archive, flags) in ways {
            replay(here, archive, name, flags);
        }
        let told = calls(here, "one");
        let (id, sound) = (id_of(&told), export(here, "one", &id_of(&told), "opus"));
        assert!(sound.starts_with(b"OggS"));
        for archive in ["four", "again"] {
            assert_eq!(calls(here, archive), told, "{name}: {archive}");
            assert!(
                export(here, archive, &id, "opus") == sound,
                "{name}: {archive} sounds different"
            );
        }
        assert!(export(here, "raw", &id, "opus") == sound, "{name}: raw sounds different");
    }
}

#[test]
fn a_capture_replayed_twice_adds_new_calls() {
    let directory = tempfile::tempdir().expect("directory");
    let here = directory.path();
    replay(here, "a", CAPTURES[0], &[]);
    let first = calls(here, "a");
    let file = capture(CAPTURES[0]);
    callspan(here, &["replay", file.to_str().expect("text"), "--archive", "a"]);
    let both = calls(here, "a");
    assert_eq!(both.lines().count(), 2);
    assert!(both.contains(first.trim()), "the first call is as it was");
    let ids: Vec<String> = both.lines().map(id_of).collect();
    assert_ne!(ids[0], ids[1]);
    let sounds: Vec<Vec<u8>> = ids.iter().map(|id| export(here, "a", id, "wav")).collect();
    assert!(sounds[0] == sounds[1], "the same call twice");
}

#[test]
fn the_index_is_made_again_from_the_segments_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let here = directory.path();
    replay(here, "a", CAPTURES[1], &[]);
    let before = calls(here, "a");
    for file in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        let _ = std::fs::remove_file(here.join("a").join(file));
    }
    callspan(here, &["index", "rebuild", "--archive", "a"]);
    assert_eq!(calls(here, "a"), before);
}
