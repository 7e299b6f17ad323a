//! Calls under SRTP that libsrtp protected, by every suite and every way that keys come: each must
//! give the recording that the same call gives in the clear, byte for byte.
//!
//! Purpose: what is opened is opened right; what is not stays raw, with its reason, and is never heard.
//! Invariants: keys, packets and DTLS handshakes are other programs' (libsrtp, OpenSSL).
//! Non-goals: sound itself (see `corpus_calls`).
//! Sources: RFC 3711, RFC 4568, RFC 5764, RFC 6188, RFC 6189, RFC 7714, RFC 8643.

mod harness;

use callspan::base::{Frame, FrameOutcome, FrameSink, LinkType, PacketTime};
use callspan::call::summary::CallSummary;
use callspan::tls::{KeyLog, KeyLogParser};
use harness::{Finished, Harness, SlotRow};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

struct Calls {
    directory: tempfile::TempDir,
    expected: Vec<Value>,
    key_log: Vec<u8>,
    /// Time in ns, and a raw IP packet.
    frames: Vec<(i64, Vec<u8>)>,
}

fn calls() -> Calls {
    let directory = tempfile::tempdir().expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/srtp_calls.py");
    let made = Command::new("python3").arg(script).arg(directory.path()).output();
    let made = made.expect("python3 runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read(directory.path().join(name)).expect("made");
    let expected = serde_json::from_slice(&read("expected.json")).expect("JSON");
    let (key_log, capture) = (read("keys.log"), read("calls.pcap"));
    let (mut frames, mut rest) = (Vec::new(), &capture[24..]);
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let number =
            |at: usize| u32::from_le_bytes(*header[at..].first_chunk::<4>().expect("16 bytes"));
        let time = i64::from(number(0)) * 1_000_000_000 + i64::from(number(4));
        let (frame, tail) = tail.split_at(number(8) as usize);
        frames.push((time, frame.to_vec()));
        rest = tail;
    }
    Calls { directory, expected, key_log, frames }
}

fn replay(calls: &Calls, log: KeyLog) -> Finished {
    let mut harness = Harness::with_key_log(&calls.directory.path().join("archive"), 4_096, log);
    harness.start_workers();
    for (ns, bytes) in &calls.frames {
        let wire_len_bytes = u32::try_from(bytes.len()).expect("short");
        let time = PacketTime::from_ns(*ns);
        harness.front.frame(Frame { time, link: LinkType::RawIp, bytes, wire_len_bytes });
    }
    harness.finish()
}

fn reasons(call: &CallSummary) -> Vec<&str> {
    let mut reasons: Vec<_> = call.gaps.iter().map(|gap| gap.reason.as_str()).collect();
    reasons.dedup();
    reasons
}

#[test]
fn each_call_is_recorded_as_it_is_in_the_clear_or_kept_raw_with_its_reason() {
    let calls = calls();
    let log = KeyLog::new();
    let mut parser = KeyLogParser::new();
    parser.push(&calls.key_log, &log);
    parser.finish(&log);
    let finished = replay(&calls, log);
    let (summaries, slots) = (finished.summaries(), finished.slots());
    assert_eq!(summaries.len(), calls.expected.len());
    let of = |number: usize| -> (&CallSummary, &[SlotRow]) {
        let call_id = format!("srtp-{number}");
        let at = summaries.iter().position(|call| call.sip_call_ids == [call_id.clone()]);
        let at = at.expect("each call is there");
        (&summaries[at], &slots[at])
    };
    let (clear, clear_slots) = of(0);
    assert_eq!((clear.recording.state.as_str(), clear_slots.len()), ("stored", 166));
    for (number, expected) in calls.expected.iter().enumerate() {
        let (call, slots) = of(number);
        let name = expected["name"].as_str().expect("a name");
        assert_eq!(call.recording.state, expected["state"], "{name}: {:?}", call.notes);
        assert_eq!(call.streams.len(), 2, "{name}");
        for stream in &call.streams {
            assert_eq!(Value::from(stream.srtp.clone()), expected["srtp"], "{name}");
            assert_eq!((stream.packets, stream.lost), (150, 0), "{name}");
        }
        if name == "ZRTP" {
            assert_eq!(slots[..45], clear_slots[..45], "in the clear up to the agreement");
            assert_eq!(reasons(call), ["encrypted"]);
            let from = call.gaps.iter().map(|gap| gap.at_s).fold(f64::MAX, f64::min);
            assert!((1.0..1.2).contains(&from), "{:?}", call.gaps);
            assert!(call.notes.iter().any(|note| note.contains("ZRTP")), "{:?}", call.notes);
        } else if expected["state"] == "stored" {
            assert_eq!(slots, clear_slots, "{name}");
            assert_eq!((reasons(call), call.notes.len()), (vec![], 0), "{name}");
        } else {
            assert_eq!((reasons(call), slots.len()), (vec!["encrypted"], 0), "{name}");
            assert!(call.notes.iter().any(|note| note.contains("150 packets")), "{:?}", call.notes);
        }
    }
    let (secured, _) = of(1);
    let report = secured.streams.iter().find_map(|stream| stream.rtcp.as_ref()).expect("SRTCP");
    assert_eq!(report.sent_packets, Some(150));
    assert!(finished.outcomes.get(FrameOutcome::KeyExchange) >= 15, "{:?}", finished.outcomes);
    no_summary_has_a_key(&calls, &finished);
}

fn no_summary_has_a_key(calls: &Calls, finished: &Finished) {
    let mut keys = 0;
    for (_, frame) in &calls.frames {
        let text = String::from_utf8_lossy(frame);
        for line in text.lines().filter(|line| line.starts_with("a=crypto:")) {
            let inline = line.split("inline:").nth(1).expect("a key");
            let key = inline.split(['|', ' ']).next().expect("a key");
            keys += 1;
            assert!(finished.calls.iter().all(|call| !call.summary_json.contains(key)));
        }
    }
    assert!(keys > 20);
}

#[test]
fn without_the_key_log_dtls_calls_stay_raw() {
    let calls = calls();
    let finished = replay(&calls, KeyLog::new());
    let dtls = |call: &&CallSummary| {
        let at =
            call.sip_call_ids[0].trim_start_matches("srtp-").parse::<usize>().expect("a number");
        calls.expected[at]["name"].as_str().is_some_and(|name| name.starts_with("DTLS"))
    };
    let summaries = finished.summaries();
    let locked: Vec<_> = summaries.iter().filter(dtls).collect();
    assert_eq!(locked.len(), 2);
    for call in locked {
        assert_eq!((call.recording.state.as_str(), reasons(call)), ("raw", vec!["encrypted"]));
        assert!(call.notes.iter().any(|note| note.contains("DTLS")), "{:?}", call.notes);
    }
}

/// Runs callspan and returns what it printed.
fn run(directory: &Path, words: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    let output = command.env_clear().current_dir(directory).args(words).stdin(Stdio::null());
    let output = output.output().expect("started");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn what_was_stored_raw_is_opened_when_it_is_exported() {
    let calls = calls();
    let directory = calls.directory.path();
    run(directory, &["init", "a", "--plaintext"]);
    let replay = ["replay", "calls.pcap", "--archive", "a", "--store", "raw"];
    run(directory, &[&replay[..], &["--tls-keylog", "keys.log"]].concat());
    let rows = run(directory, &["calls", "--archive", "a", "--json"]);
    let export = |call: &CallSummary, format: &str| {
        let words = ["export", &call.id, "--archive", "a", "--format", format, "--output", "out"];
        run(directory, &words);
        let bytes = std::fs::read(directory.join("out")).expect("exported");
        std::fs::remove_file(directory.join("out")).expect("removed");
        bytes
    };
    let rows = String::from_utf8(rows).expect("text");
    let rows = rows.lines().map(|row| serde_json::from_str(row).expect("a call"));
    let summaries: Vec<CallSummary> = rows.collect();
    let of = |number: usize| {
        let call_id = format!("srtp-{number}");
        summaries.iter().find(|call| call.sip_call_ids[0] == call_id).expect("each call")
    };
    let clear = export(of(0), "wav");
    for (number, expected) in calls.expected.iter().enumerate() {
        let name = expected["name"].as_str().expect("a name");
        if expected["state"] == "stored" && name != "ZRTP" {
            assert!(export(of(number), "wav") == clear, "{name}");
        }
    }
    // What was on the wire: the packets, and their ciphertext.
    let capture = export(of(1), "pcap");
    let on_wire = |frame: &&(i64, Vec<u8>)| {
        let ports = [frame.1[20..22].to_vec(), frame.1[22..24].to_vec()];
        ports.contains(&20_004_u16.to_be_bytes().to_vec())
    };
    let packets: Vec<_> = calls.frames.iter().filter(on_wire).collect();
    assert!(packets.len() >= 300);
    for (_, frame) in packets {
        let payload = &frame[28..];
        assert!(capture.windows(payload.len()).any(|window| window == payload));
    }
}
