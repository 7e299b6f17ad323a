//! A stolen disk: what can be read in the files of an archive without any key.
//!
//! Purpose: the same calls into a plaintext archive, where a search finds who called whom, and into a
//! sealed one, where it finds nothing: in no file, no write-ahead log, no log line, during and after.
//! Invariants: the search is shown to work on the plaintext archive first.
//! Non-goals: who can open a sealed archive (see `archive_identities`).
//! Sources: issue 4, "Ciphertext".

mod robust_common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use memchr::memmem;
use robust_common::{CALLSPAN, Case, phones, phones_on_hold, until, wait};

/// What must not be readable, by category; of each the plaintext archive shows one at least.
const SECRETS: [(&str, &[&[u8]]); 6] = [
    ("a number", &[b"4820001001", b"4830002002"]),
    ("a Call-ID", &[b"0ea5c1c8c725f2a0", b"4448a9b5b5432c2a"]),
    ("SIP text", &[b"INVITE", b"CSeq:", b"Via:"]),
    ("a URI", &[b"sip:48", b"<sip:"]),
    ("an address as text", &[b"10.99.0.1", b"10.99.0.2"]),
    ("an address as bytes", &[&[0xff, 0xff, 10, 99, 0, 1], &[0xff, 0xff, 10, 99, 0, 2]]),
];

/// Every file under a folder, with its bytes; what a preallocated file has not used yet is left out.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
            continue;
        }
        // A file may be renamed or removed while a process writes.
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let zeros = [0; 4_096];
        while bytes.ends_with(&zeros) {
            bytes.truncate(bytes.len() - zeros.len());
        }
        found.push((path.display().to_string(), bytes));
    }
    found
}

/// Which secrets stand in some bytes, as `category (file)`.
fn told(files: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut told = Vec::new();
    for (category, secrets) in SECRETS {
        for (name, bytes) in files {
            if secrets.iter().any(|secret| memmem::find(bytes, secret).is_some()) {
                told.push(format!("{category} ({name})"));
            }
        }
    }
    told
}

#[track_caller]
fn tells_nothing(files: &[(String, Vec<u8>)]) {
    assert_eq!(told(files), Vec::<String>::new());
}

fn archive(case: &Case) -> Vec<(String, Vec<u8>)> {
    let found = files(&case.path("calls"));
    assert!(has(&found, "archive.toml") && has(&found, "index.sqlite"));
    found
}

fn has(files: &[(String, Vec<u8>)], end: &str) -> bool {
    files.iter().any(|(name, _)| name.ends_with(end))
}

/// Replays both captures, and once more with the packets kept; returns what was said on the way.
fn record(case: &Case) -> Vec<(String, Vec<u8>)> {
    let mut said = Vec::new();
    for (file, store) in [(phones(), "opus"), (phones_on_hold(), "opus"), (phones(), "raw")] {
        let file = file.to_string_lossy().into_owned();
        let words = ["replay", &file, "--log-format", "json", "--store", store];
        let done = case.run(words);
        assert_eq!(done.status, Some(0), "{done:?}");
        said.push(("standard output".to_owned(), done.out.into_bytes()));
        said.push(("standard error".to_owned(), logs(&done.errors).into_bytes()));
    }
    said
}

/// What was said, without the report's list of RTP that belongs to no call: it is there to name the
/// addresses that nobody announced, and is not about a call.
fn logs(errors: &str) -> String {
    let lines = errors.lines().filter(|line| !line.starts_with("        "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plaintext_archive_shows_who_called_whom_and_a_sealed_one_does_not() {
    let plain = Case::new();
    record(&plain);
    let shown = told(&archive(&plain)).join("\n");
    for (category, _) in SECRETS {
        assert!(shown.contains(category), "the search finds {category}: {shown}");
    }
    for file in ["index.sqlite", ".segment"] {
        assert!(shown.contains(file), "the search looks into {file}: {shown}");
    }
    let sealed = Case::sealed();
    let said = record(&sealed);
    let kept = archive(&sealed);
    assert!(has(&kept, "index.sqlite-wal") && has(&kept, ".segment") && has(&kept, ".keys"));
    tells_nothing(&kept);
    tells_nothing(&said);
    // Rebuilding the index writes it anew.
    assert_eq!(sealed.run(["index", "rebuild"]).status, Some(0));
    tells_nothing(&archive(&sealed));
}

#[test]
fn whoever_has_the_box_key_lists_the_calls_and_whoever_has_not_gets_one_line() {
    let case = Case::sealed();
    record(&case);
    let calls = case.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0]["caller"]["number"], "4820001001", "the box's key opens metadata");
    assert_eq!(calls[0]["sip_call_ids"][0], "0ea5c1c8c725f2a0");
    let id = calls[0]["id"].as_str().expect("an id").to_owned();
    fs::rename(case.path("calls.keys"), case.path("elsewhere")).expect("moved");
    for words in [
        &["calls", "--json"][..],
        &["calls"],
        &["show", &id],
        &["export", &id, "--format", "wav", "--output", "x.wav"],
        &["export", &id, "--format", "wav", "--output", "x.wav", "--identity", "id.txt"],
        &["export", &id, "--format", "pcap", "--output", "x.pcap", "--identity", "id.txt"],
    ] {
        let done = case.run(words);
        done.says(1, &["its box key is not there", "--box-key FILE"]);
        assert_eq!(done.out, "", "{words:?}");
    }
    assert!(!case.path("x.wav").exists() && !case.path("x.pcap").exists());
    // Verifying needs no key at all.
    assert_eq!(case.run(["verify", "--archive", "calls"]).status, Some(0));
    let key = ["calls", "--json", "--box-key", "elsewhere/box.key"];
    assert_eq!(case.run(key).json().len(), 3, "said where it is");
}

#[test]
fn while_a_process_records_its_files_tell_nothing_either() {
    let case = Case::sealed();
    let capture = fs::read(phones()).expect("a capture");
    let mut command = case.command(CALLSPAN);
    command.args(["replay", "-", "--commit-interval", "50", "--log-format", "json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
    let mut input = child.stdin.take().expect("a pipe");
    // All but the end, so that the call goes on.
    let most = capture.len() - 20_000;
    input.write_all(&capture[..most]).expect("read");
    until("a commit", || {
        let found = case.run(["verify", "--archive", "calls", "--json"]);
        let found = found.json().pop()?;
        (found["unsigned_records"].as_u64()? >= 3).then_some(())
    });
    let during = archive(&case);
    assert!(has(&during, ".open") && has(&during, "index.sqlite-wal"), "it is being written");
    tells_nothing(&during);
    input.write_all(&capture[most..]).expect("read");
    drop(input);
    let done = wait(child);
    assert_eq!(done.status, Some(0), "{done:?}");
    tells_nothing(&[("standard error".to_owned(), logs(&done.errors).into_bytes())]);
    tells_nothing(&archive(&case));
}
