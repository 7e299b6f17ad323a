//! The program as scripts and people call it: words in, status, standard output and standard error out.
//!
//! Purpose: hold the contract of statuses and streams, with the real binary.
//! Invariants: each failure is one line on standard error; standard output stays empty then.
//! Non-goals: recording (see the lab) and the pages of the reference (see `cli_docs`).
//! Sources: none.

use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

fn callspan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = callspan().args(words).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

#[track_caller]
fn fails(words: &[&str], status: i32, part: &str) {
    let (found, stdout, stderr) = run(words);
    assert_eq!(found, Some(status), "{words:?}: {stderr}");
    assert_eq!(stdout, "", "{words:?}");
    assert!(stderr.starts_with("callspan: ") && stderr.contains(part), "{words:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
}

#[test]
fn wrong_usage_is_status_2_and_one_line() {
    fails(&[], 2, "callspan --help");
    fails(&["frobnicate"], 2, "frobnicate");
    fails(&["init", "x"], 2, "--plaintext");
    fails(&["calls"], 2, "--archive DIR");
    fails(&["replay", "a.pcap", "--archive", "x", "--workers", "none"], 2, "1 to 256");
    fails(&["replay", "-", "-", "--archive", "x"], 2, "the same file");
    fails(&["replay", "a.pcap", "--archive", "x", "--config", "no.toml"], 2, "no.toml");
    fails(&["calls", "--archive", "x", "--from", "soon"], 2, "yesterday");
}

#[test]
fn what_is_not_there_is_status_1_and_says_what_to_do() {
    fails(&["replay", "no/such.pcap", "--archive", "x"], 1, "no/such.pcap");
    for command in [
        &["calls", "--archive", "no/such"][..],
        &["show", "0123456789abcdef", "--archive", "no/such"],
        &["export", "0123456789abcdef", "--archive", "no/such", "-f", "wav", "-o", "x.wav"],
        &["index", "rebuild", "--archive", "no/such"],
    ] {
        fails(command, 1, "callspan init no/such");
    }
}

#[test]
fn help_goes_to_standard_output_with_status_0() {
    let (status, stdout, stderr) = run(&["replay", "--help"]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("--reorder-window <MS>"), "{stdout}");
    let (status, stdout, _) = run(&["--version"]);
    assert_eq!(status, Some(0));
    assert_eq!(stdout, format!("callspan {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let (reader, writer) = UnixStream::pair().expect("a pair");
    drop(reader);
    let writer = std::os::fd::OwnedFd::from(writer);
    let output = callspan().arg("--help").stdout(writer).stderr(Stdio::piped()).output();
    let output = output.expect("started");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
