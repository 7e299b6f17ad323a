//! Keys, fax and RTCP in real captures by others: what is told beside the sound.
//!
//! Purpose: hold digits and reports against what tshark reads in the same packets.
//! Invariants: what is expected was read off the capture by tshark or by ear, not by callspan.
//! Non-goals: calls, streams and sound (see `corpus_calls`).
//! Sources: the corpus's README (how far to trust it).
//!
//! The corpus is not part of the repository: `../shared/corpus`, or where `CALLSPAN_CORPUS` says.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let place = std::env::var_os("CALLSPAN_CORPUS").map_or_else(beside, PathBuf::from);
    let is_there = place.join("manifest.json").is_file();
    if !is_there {
        eprintln!("NOT CHECKED: there is no corpus; name it with CALLSPAN_CORPUS");
    }
    is_there.then_some(place)
}

/// The calls of a capture.
fn calls(capture: &Path) -> Vec<Value> {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
        let output = command
            .env_clear()
            .current_dir(&directory)
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("started");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{words:?}: {told}");
        String::from_utf8(output.stdout).expect("text")
    };
    run(&["init", "a", "--plaintext"]);
    run(&["replay", capture.to_str().expect("text"), "--archive", "a"]);
    let rows = run(&["calls", "--archive", "a", "--json"]);
    rows.lines().map(|row| serde_json::from_str(row).expect("a call")).collect()
}

/// Digits as `channel source digits`, the seconds at which each is, and how long it was held.
fn digits(call: &Value) -> (String, Vec<f64>, Vec<Value>) {
    let digits = call["dtmf"].as_array().expect("digits");
    let text = |digit: &Value, field: &str| digit[field].as_str().expect("text").to_owned();
    let keys: String = digits.iter().map(|digit| text(digit, "digit")).collect();
    let from = |field: &str| digits.first().map(|digit| text(digit, field)).unwrap_or_default();
    let at = digits.iter().map(|digit| digit["at_s"].as_f64().expect("a time"));
    let held = digits.iter().map(|digit| digit["duration_ms"].clone());
    (format!("{} {} {keys}", from("channel"), from("source")), at.collect(), held.collect())
}

#[test]
fn keys_in_info_are_told_once_each_with_their_time() {
    let Some(corpus) = corpus() else { return };
    let calls = calls(&corpus.join("captures/sip-dtmf-info.pcapng"));
    let (told, at_s, held) = digits(&calls[0]);
    assert_eq!(told, "caller info 123456789*0#");
    assert!(held.iter().all(|ms| *ms == 160), "{held:?}");
    // Frames 6 to 28, one second apart; without media seconds count from the INVITE.
    let expected = [2.101, 3.105, 4.107, 5.109, 6.111, 7.114, 8.116, 9.118, 10.121, 11.124, 12.128];
    for (at_s, expected) in at_s.iter().zip(expected) {
        assert!((at_s - expected).abs() < 0.001, "{at_s} is not {expected}");
    }
}

/// What an ear and a spectrogram find in the independent decode of the stream: seconds of the decode,
/// whose sample 0 is the first packet's, 41 ms after the answer.
#[test]
fn keys_in_the_sound_are_told_within_twenty_ms() {
    let Some(corpus) = corpus() else { return };
    let calls = calls(&corpus.join("captures/call-dtmf-inband-cn19.pcapng"));
    let (told, at_s, held) = digits(&calls[0]);
    assert_eq!(told, "caller inband 123456789*0#");
    let expected =
        [0.734, 1.124, 1.364, 1.774, 1.984, 2.162, 2.604, 2.894, 3.134, 3.614, 3.874, 4.094];
    for (at_s, expected) in at_s.iter().zip(expected) {
        assert!((at_s - 0.041 - expected).abs() < 0.020, "{at_s} is not {expected}");
    }
    let held: Vec<_> = held.iter().filter_map(Value::as_u64).collect();
    assert!(held.iter().all(|ms| (55..=85).contains(ms)), "{held:?}");
}

/// The calling machine beeps, the other answers at once after the re-INVITE to G.711 and asks who it is:
/// in the decodes CNG at 6 s, CED and the first flags at 13 and 15 s; the answer is at 10 s. No other capture is a fax.
#[test]
fn a_fax_in_the_sound_is_told_and_nothing_else_is_taken_for_one() {
    let Some(corpus) = corpus() else { return };
    let folder = std::fs::read_dir(corpus.join("captures")).expect("captures");
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("call-") {
            continue;
        }
        for call in calls(&entry.path()) {
            if name == "call-fax-passthrough-reinvite-rawip.pcapng" {
                assert_eq!(call["fax"]["passthrough"], true, "{call}");
                assert_eq!(call["fax"]["t38"], false, "{call}");
                let tones = call["fax"]["tones"].as_array().expect("tones");
                assert!(tones.contains(&"v21".into()), "{tones:?}");
                assert_eq!(call["fax"]["t38_packets"], 0, "{call}");
                // What follows the first flags is kept as it came and not heard.
                let gaps = call["gaps"].as_array().expect("gaps").iter();
                let faxes: Vec<_> = gaps.filter(|gap| gap["reason"] == "fax").collect();
                for channel in ["caller", "callee"] {
                    let mut own = faxes.iter().filter(|gap| gap["channel"] == channel);
                    let told: f64 = own.clone().filter_map(|gap| gap["seconds"].as_f64()).sum();
                    let first = own.find_map(|gap| gap["at_s"].as_f64());
                    assert!(first.is_some_and(|at| (5.0..6.5).contains(&at)), "{faxes:?}");
                    assert!(told > 20.0, "{channel}: {told} s of {call}");
                }
            } else {
                assert!(call["fax"].is_null(), "{name}: {call}");
            }
        }
    }
}

/// A phone that counts an event's duration in another clock than it says.
#[test]
fn no_key_is_held_longer_than_its_packets_are_seen() {
    let Some(corpus) = corpus() else { return };
    let calls = calls(&corpus.join("captures/call-tcp-opus-dtmf.pcapng"));
    let (told, _, held) = digits(&calls[0]);
    assert_eq!(told, "caller rtp 123456789*0#");
    assert!(held.iter().filter_map(Value::as_u64).all(|ms| (110..=130).contains(&ms)), "{held:?}");
}

/// Two legs: NOTIFY with the four bytes of a telephone-event at begin and end on one, an RTP event on
/// the other.
#[test]
fn keys_in_notify_and_in_events_of_another_leg_are_as_long_and_as_many() {
    let Some(corpus) = corpus() else { return };
    let calls = calls(&corpus.join("captures/call-dtmf-interwork-2legs.pcapng"));
    for call in &calls {
        let (told, at_s, held) = digits(call);
        assert!(told.starts_with("caller ") && told.ends_with(" 123"), "{told}");
        assert_eq!(held, [150, 160, 122]);
        let answered = call["recording"]["started_at"].as_str().expect("a time");
        assert!((at_s[1] - at_s[0] - 0.530).abs() < 0.002, "{at_s:?} from {answered}");
    }
}
