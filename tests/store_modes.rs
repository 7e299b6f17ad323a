//! What is told of a call's quality does not depend on what is kept of it.
//!
//! Purpose: streams in full swing take a short way, and with `--store none` only their headers do: loss,
//! jitter, order, copies, codecs, keys and verdicts are those of the long way that sound takes.
//! Invariants: the same capture, three times.
//! Non-goals: the recordings themselves.
//! Sources: RFC 3550 §6.4.1.

mod robust_common;

use robust_common::{Case, phones, phones_on_hold, synthetic};
use serde_json::{Value, json};
use std::path::Path;

/// What each call's streams and keys come to, and what became of the frames.
fn told(file: &Path, store: &str) -> (Vec<Value>, Value) {
    let case = Case::new();
    let path = file.to_str().expect("text");
    let ended = case.run(["replay", path, "--archive", "calls", "--store", store, "--json"]);
    assert!(matches!(ended.status, Some(0 | 3)), "{ended:?}");
    let frames = ended.json().remove(0)["frames"]["by_outcome"].take();
    let mut calls: Vec<Value> = case.calls().into_iter().map(|call| of_call(&call)).collect();
    calls.sort_by_key(|call| call["ids"].to_string());
    (calls, frames)
}

fn of_call(call: &Value) -> Value {
    let fields = [
        "channel",
        "ssrc",
        "codec",
        "packets",
        "lost",
        "duplicate",
        "reordered",
        "jitter_ms",
        "jitter_mean_ms",
        "jitter_max_ms",
        "mos",
        "srtp",
        "matched_by",
    ];
    let streams = call["streams"].as_array().expect("streams").iter();
    let streams: Vec<Value> =
        streams.map(|stream| fields.iter().map(|name| stream[name].clone()).collect()).collect();
    // Keys that only the sound has are heard where it is decoded; seconds count from what is kept.
    let keys = call["dtmf"].as_array().expect("digits").iter();
    let keys: Vec<Value> = keys
        .filter(|key| key["source"] != "inband")
        .map(|key| json!([key["channel"], key["digit"], key["duration_ms"]]))
        .collect();
    json!({ "ids": call["sip_call_ids"], "verdict": call["verdict"], "streams": streams, "keys": keys })
}

#[track_caller]
fn same_for_all(file: &Path) -> usize {
    let (calls, frames) = told(file, "opus");
    for store in ["raw", "none"] {
        let (others, other_frames) = told(file, store);
        assert_eq!(frames, other_frames, "{store}: {}", file.display());
        assert_eq!(calls, others, "{store}: {}", file.display());
    }
    calls.len()
}

#[test]
fn the_bundled_calls_are_told_alike() {
    for file in [phones(), phones_on_hold()] {
        assert_eq!(same_for_all(&file), 1);
    }
}

#[test]
fn calls_of_a_bad_network_are_told_alike() {
    let case = Case::new();
    for (name, options) in [
        ("loss", &["--loss", "7", "--seconds", "12"][..]),
        ("reorder", &["--reorder", "9", "--duplicate", "20", "--seconds", "8"]),
        ("jitter", &["--jitter-ms", "60", "--loss", "2", "--no-bye", "--seconds", "8"]),
        ("same", &["--same-ports", "--same-ssrc", "--stagger-ms", "9000", "--seconds", "6"]),
    ] {
        let file = synthetic(&case, name, 12, options);
        assert_eq!(same_for_all(&file), 12, "{name}");
    }
}

/// Every real call, too: events, redundancy, several codecs, forks, NAT, SRTP.
#[test]
fn real_calls_are_told_alike() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let place = std::env::var_os("CALLSPAN_CORPUS").map_or_else(beside, Into::into);
    let Ok(folder) = std::fs::read_dir(place.join("captures")) else {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        assert!(!shared.is_dir(), "there is {} but no corpus in it", shared.display());
        eprintln!("NOT CHECKED: there is no corpus; name it with CALLSPAN_CORPUS");
        return;
    };
    let mut calls = 0;
    for entry in folder.flatten() {
        if entry.file_name().to_string_lossy().starts_with("call-") {
            calls += same_for_all(&entry.path());
        }
    }
    assert!(calls > 30, "{calls} calls");
}
