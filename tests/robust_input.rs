//! Bad input: one clear line, the right status, nothing that was recorded lost.
//!
//! Purpose: issue 3's "bad input", asked of the built program as a user meets it.
//! Invariants: every case ends by itself; stdout is JSON Lines or nothing.
//! Non-goals: parsers (each has its own tests and fuzzers).
//! Sources: docs/CLI.md.

mod robust_common;

use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::Signal;
use robust_common::{
    CALLSPAN, Case, LONGEST, ends, loudness, phones, signal, synthetic, until, wait,
};

#[test]
fn a_file_that_is_not_there_is_named() {
    let case = Case::new();
    case.run(["replay", "nope.pcap"]).says(1, &["nope.pcap", "check the name"]);
    case.run(["replay", "."]).says(1, &["is a directory"]);
    assert!(case.calls().is_empty());
}

#[test]
fn what_is_no_capture_is_told_apart_from_one() {
    let case = Case::new();
    case.write("empty", b"");
    case.write("text", b"hello, I am a letter\n");
    for (name, part) in
        [("empty", "it is empty"), ("text", "neither a pcap nor"), (CALLSPAN, "pcap")]
    {
        let done = case.run(["replay", name, "--json"]);
        done.says(1, &[name, "is not a capture file", part]);
        assert_eq!(done.out, "", "nothing was done, so nothing is reported");
    }
    case.run_with(&["replay", "-"], b"").says(1, &["it is empty"]);
}

#[test]
fn a_capture_cut_in_a_record_gives_everything_before_the_cut() {
    let case = Case::new();
    let whole = std::fs::read(phones()).expect("the bundled capture");
    case.write("cut.pcap", &whole[..whole.len() / 2]);
    let done = case.run(["replay", "cut.pcap", "--json"]);
    done.says(3, &["cut.pcap is cut off at byte", "copy the file again"]);
    let report = done.report();
    assert!(report["losses"].to_string().contains("cut.pcap"), "{report}");
    let call = case.only_call();
    assert_eq!(call["caller"]["number"], "4820001001");
    let seconds = call["recording"]["seconds"].as_f64().expect("a length");
    assert!((4.0..8.0).contains(&seconds), "half of eleven seconds: {seconds}");
    assert!(case.channels(&call).iter().all(|side| loudness(side) > 100.0));
}

#[test]
fn one_file_by_two_names_and_a_bad_filter_are_wrong_usage() {
    let case = Case::new();
    let path = phones();
    let name = path.to_str().expect("text");
    std::os::unix::fs::symlink(&path, case.path("again.pcap")).expect("linked");
    case.run(["replay", name, "again.pcap"])
        .says(2, &["again.pcap", "the same file", "name it once"]);
    case.run(["replay", name, "--filter", "udp prt 5"]).says(2, &["udp prt 5", "pcap-filter(7)"]);
    case.run(["replay", name, "--workers", "no"]).says(2, &["--workers"]);
    assert!(case.calls().is_empty());
}

#[test]
fn a_directory_that_is_no_archive_is_refused_with_the_command_that_makes_one() {
    let case = Case::new();
    std::fs::create_dir(case.path("plain")).expect("made");
    for archive in ["plain", "missing"] {
        let wanted = format!("run `callspan init {archive} --recipient KEY` first");
        case.run(["replay", phones().to_str().expect("text"), "--archive", archive])
            .says(1, &[&wanted]);
        case.run(["capture", "--interface", "lo", "--archive", archive]).says(1, &[&wanted]);
        case.run(["calls", "--archive", archive]).says(1, &[&wanted]);
    }
}

#[test]
fn an_archive_has_one_writer_and_readers_beside_it() {
    let case = Case::new();
    let mut first = case.command(CALLSPAN);
    let mut first = first.args(["replay", "-"]).stdin(Stdio::piped()).spawn().expect("starts");
    let whole = std::fs::read(phones()).expect("the bundled capture");
    let mut pipe = first.stdin.take().expect("a pipe");
    pipe.write_all(&whole[..whole.len() / 2]).expect("it reads");
    until("the first call in the archive", || (!case.calls().is_empty()).then_some(()));
    case.run(["replay", phones().to_str().expect("text")])
        .says(1, &["another callspan process writes to", "stop it first"]);
    pipe.write_all(&whole[whole.len() / 2..]).expect("it reads");
    drop(pipe);
    assert_eq!(wait(first).status, Some(0));
    assert_eq!(case.only_call()["state"], "ended");
}

#[test]
fn without_permission_or_interface_the_line_says_what_to_do() {
    let case = Case::new();
    case.run(["capture", "--interface", "nope0"]).says(1, &["no such interface: nope0", "lo"]);
    robust_common::needs_root();
    // The built program may lie where nobody else can go: a copy, and an archive, where all can.
    let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(case.folder.path(), open(0o755)).expect("opened");
    std::fs::copy(CALLSPAN, case.path("callspan")).expect("copied");
    std::fs::set_permissions(case.path("callspan"), open(0o755)).expect("opened");
    let mut command = case.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    let done = ends(command.arg(case.path("callspan")).args(["capture", "--interface", "lo"]));
    done.says(1, &["no permission to capture on lo", "run as root", "CAP_NET_RAW"]);
}

#[test]
fn gz_zstd_and_pipes_give_the_same_calls_as_the_file() {
    let file = Case::new();
    let whole = std::fs::read(phones()).expect("the bundled capture");
    let report = file.run(["replay", phones().to_str().expect("text"), "--json"]).report();
    let gz = {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&whole).expect("compressed");
        out.finish().expect("compressed")
    };
    let zst = zstd::encode_all(&whole[..], 1).expect("compressed");
    for packed in [&whole, &gz, &zst] {
        let piped = Case::new();
        let done = piped.run_with(&["replay", "-", "--json"], packed);
        assert_eq!(
            (done.status, done.report()["frames"].clone()),
            (Some(0), report["frames"].clone())
        );
        assert_eq!(piped.calls(), file.calls());
        let named = Case::new();
        named.write("capture.bin", packed);
        assert_eq!(named.run(["replay", "capture.bin"]).status, Some(0));
        assert_eq!(named.calls(), file.calls());
    }
    let cut = file.run_with(&["replay", "-", "--json"], &gz[..gz.len() / 2]);
    cut.says(3, &["is cut off at byte"]);
}

#[test]
fn calls_far_apart_in_packet_time_all_end() {
    let case = Case::new();
    let capture = synthetic(&case, "gap.pcap", 4, &["--seconds", "2", "--stagger-ms", "3600000"]);
    // With `raw` the workers outrun the reader: a call ended long before its last block was due.
    for workers in ["1", "4"] {
        let done = case.run([
            "replay".as_ref(),
            capture.as_os_str(),
            "--store".as_ref(),
            "raw".as_ref(),
            "--workers".as_ref(),
            workers.as_ref(),
        ]);
        assert_eq!(done.status, Some(0), "{done:?}");
    }
    let calls = case.calls();
    assert_eq!(calls.len(), 8);
    assert!(calls.iter().all(|call| call["state"] == "ended"), "{calls:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let case = Case::new();
    let capture = synthetic(&case, "some.pcap", 60, &["--seconds", "1"]);
    assert_eq!(case.run(["replay".as_ref(), capture.as_os_str()]).status, Some(0));
    let script = format!("set -o pipefail; {CALLSPAN} calls --json | head -n 1");
    let done = ends(case.command("bash").args(["-c", &script]));
    assert_eq!((done.status, done.errors.as_str()), (Some(0), ""));
    assert_eq!(done.json().len(), 1);
}

#[test]
fn a_replay_that_was_killed_leaves_truncated_calls_and_an_archive_that_goes_on() {
    let case = Case::new();
    let capture = synthetic(&case, "big.pcap", 40, &["--seconds", "20"]);
    let whole = std::fs::read(&capture).expect("made");
    let mut child = case.command(CALLSPAN);
    let mut child = child
        .args(["replay", "-", "--commit-interval", "100"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    // Half of every call, so that all are going on for certain when the kill comes.
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&whole[..whole.len() / 2]).expect("it reads");
    let audible = || {
        let calls = case.calls();
        (calls.len() == 40 && calls.iter().all(|call| call["verdict"] == "both")).then_some(())
    };
    until("sound of all calls in the archive", audible);
    signal(&child, Signal::SIGKILL);
    drop(pipe);
    assert_eq!(wait(child).status, None, "killed");
    let before = case.calls();
    assert_eq!(before.len(), 40, "what was committed is there");
    let again = case.run(["replay", phones().to_str().expect("text")]);
    assert_eq!(again.status, Some(0), "{again:?}");
    let after = case.calls();
    assert_eq!(after.len(), 41);
    let truncated: Vec<_> = after.iter().filter(|call| call["state"] == "truncated").collect();
    assert_eq!(truncated.len(), 40, "{after:?}");
    for call in truncated {
        assert_eq!((&call["end_reason"], &call["verdict"]), (&"shutdown".into(), &"both".into()));
        assert_eq!(call["recording"]["state"], "stored", "{call}");
        assert!(call["notes"][0].as_str().is_some_and(|note| note.contains("killed")), "{call}");
        assert_eq!(call["streams"].as_array().map(Vec::len), Some(2), "{call}");
        assert!(call["ended_at"].as_str() > call["answered_at"].as_str(), "{call}");
    }
    for call in before {
        assert_eq!(case.run(["show", call["id"].as_str().expect("an id")]).status, Some(0));
    }
}

#[test]
fn sigterm_ends_a_replay_that_waits_for_its_pipe() {
    let case = Case::new();
    let whole = std::fs::read(phones()).expect("the bundled capture");
    let mut child = case.command(CALLSPAN);
    let mut child =
        child.args(["replay", "-", "--json"]).stdin(Stdio::piped()).spawn().expect("starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(&whole[..whole.len() / 2]).expect("it reads");
    until("the call in the archive", || (!case.calls().is_empty()).then_some(()));
    signal(&child, Signal::SIGTERM);
    let began = std::time::Instant::now();
    let done = wait(child);
    assert!(began.elapsed() < LONGEST / 2);
    // The default of SIGTERM: a replay can be run again, so it ends at once.
    assert_eq!((done.status, done.errors.as_str()), (None, ""), "{done:?}");
    drop(pipe);
    assert_eq!(case.run(["replay", phones().to_str().expect("text")]).status, Some(0));
    assert_eq!(case.calls().iter().filter(|call| call["state"] == "ended").count(), 1);
}
