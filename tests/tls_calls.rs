//! The bundled call with its SIP carried otherwise: the same recording comes out.
//!
//! Purpose: hold TLS with a key log, WebSocket and HEP against the call as it was captured, from file to exported bytes.
//! Invariants: OpenSSL and Python's zlib make what is read here (tests/lab/rewrap.py), at run time.
//! Non-goals: every cipher suite (see `tls_streams.rs`), received HEP (see `hep_listen.rs`).
//! Sources: RFC 3261 §26.2, RFC 7118, RFC 7692; draft-ietf-opsawg-pcapng §4.7 (secrets).

mod robust_common;

use std::path::{Path, PathBuf};
use std::process::Command;

use robust_common::{Case, lab};

/// What the call came to: as it is listed, its sound, and what became of frames.
#[derive(Debug)]
struct Recorded {
    listed: String,
    sound: Vec<u8>,
    outcomes: serde_json::Value,
}

/// The capture whose SIP is over TCP, carried as `how` says; the key log stands beside it.
fn carried(case: &Case, how: &str) -> (PathBuf, PathBuf) {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/two-phones-g722-hold.pcap");
    let (target, keys) = (case.path(&format!("{how}.pcap")), case.path("keys.log"));
    if how == "tcp" {
        std::fs::copy(source, &target).expect("copied");
        return (target, keys);
    }
    let mut python = Command::new("python3");
    python.arg(lab("rewrap.py")).args([&source, &target]).arg(how).arg(&keys);
    let done = python.output().expect("python3 runs");
    assert!(done.status.success(), "{how}: {}", String::from_utf8_lossy(&done.stderr));
    (target, keys)
}

fn replay(case: &Case, capture: &Path, flags: &[&str]) -> serde_json::Value {
    let words = [&["replay", capture.to_str().expect("UTF-8"), "--json"][..], flags].concat();
    let done = case.run(words);
    assert_eq!(done.status, Some(0), "{done:?}");
    done.report()["frames"]["by_outcome"].clone()
}

fn recorded(case: &Case, capture: &Path, flags: &[&str]) -> Recorded {
    let outcomes = replay(case, capture, flags);
    let call = case.only_call();
    let id = call["id"].as_str().expect("an id").to_owned();
    let done = case.run(["export", id.as_str(), "--format", "opus", "--output", "call.opus"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    let sound = std::fs::read(case.path("call.opus")).expect("exported");
    Recorded { listed: call.to_string(), sound, outcomes }
}

#[test]
fn the_call_is_the_same_over_tls_websocket_and_hep() {
    let plain_case = Case::new();
    let (capture, _) = carried(&plain_case, "tcp");
    let plain = recorded(&plain_case, &capture, &[]);
    for how in ["tls1.2", "tls1.3", "ws", "ws-deflate", "wss", "hep"] {
        let case = Case::new();
        let (capture, keys) = carried(&case, how);
        let with_keys = ["--tls-keylog", keys.to_str().expect("UTF-8")];
        let flags = if how.contains("tls") || how == "wss" { &with_keys[..] } else { &[] };
        let there = recorded(&case, &capture, flags);
        assert_eq!(there.listed, plain.listed, "{how}");
        assert!(there.sound == plain.sound, "{how}: the exported bytes differ");
        assert_eq!(there.outcomes["tls_without_key"], 0, "{how}");
        assert!(there.outcomes["sip"].as_u64() >= Some(12), "{how}: {}", there.outcomes);
    }
}

#[test]
fn secrets_in_the_capture_itself_are_used() {
    let case = Case::new();
    let (capture, keys) = carried(&case, "tls1.3");
    let with_secrets = case.path("with-secrets.pcapng");
    let mut editcap = Command::new("editcap");
    editcap.arg("--inject-secrets").arg(format!("tls,{}", keys.display()));
    let done = editcap.args([&capture, &with_secrets]).output().expect("editcap runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found = recorded(&case, &with_secrets, &[]);
    assert_eq!(found.outcomes["tls_without_key"], 0);
    assert!(found.listed.contains("G722"), "{}", found.listed);
}

#[test]
fn tls_without_a_key_is_counted_and_said() {
    let case = Case::new();
    let (capture, keys) = carried(&case, "tls1.2");
    std::fs::write(&keys, "# nothing yet\n").expect("written");
    let outcomes = replay(&case, &capture, &["--tls-keylog", keys.to_str().expect("UTF-8")]);
    assert!(outcomes["tls_without_key"].as_u64() > Some(15), "{outcomes}");
    assert_eq!(outcomes["sip"], 0);
    let unread = replay(&case, &capture, &[]);
    assert_eq!((&unread["tls_without_key"], &unread["sip"]), (&0.into(), &0.into()));
    let said = case.run([
        "replay".as_ref(),
        capture.as_os_str(),
        "--tls-keylog".as_ref(),
        keys.as_os_str(),
    ]);
    assert!(
        said.errors.contains("TLS without a key") || said.out.contains("TLS without a key"),
        "{said:?}"
    );
}

#[test]
fn a_key_or_log_that_cannot_be_read_stops_a_replay_before_it_begins() {
    let case = Case::new();
    let (capture, _) = carried(&case, "tcp");
    let capture = capture.to_str().expect("UTF-8");
    case.run(["replay", capture, "--tls-keylog", "none.log"]).says(1, &["none.log"]);
    case.write("no.pem", b"nothing");
    case.run(["replay", capture, "--tls-key", "no.pem"]).says(1, &["no.pem", "PRIVATE KEY"]);
}
