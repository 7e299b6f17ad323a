//! Real captures by others: the right calls, streams and sound, the same for any number of workers.
//!
//! Purpose: hold every capture of the corpus against its manifest and its independent decodes.
//! Invariants: what callspan sees otherwise than the manifest is listed here, with the evidence.
//! Non-goals: file formats (see `capture_corpus`).
//! Sources: the corpus's README (how far to trust it).
//!
//! The corpus is not part of the repository. It stands beside it (`../shared/corpus`), or where
//! `CALLSPAN_CORPUS` says.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Captures whose count of calls differs from the manifest's: calls, answered.
const OTHER_CALLS: [(&str, usize, usize); 1] = [
    // Three people type a password 13 to 52 s after the 407: later than RETRY_WAIT_MS, so each is a
    // call that was rejected and another one (tshark counts Call-IDs).
    ("sip-aaa-many-dialogs.pcap", 7, 0),
];

const DECODED: [&str; 16] = [
    "PCMA",
    "PCMU",
    "G722",
    "OPUS",
    "L16",
    "G729",
    "GSM",
    "ILBC",
    "G726-16",
    "G726-24",
    "G726-32",
    "G726-40",
    "AAL2-G726-16",
    "AAL2-G726-24",
    "AAL2-G726-32",
    "AAL2-G726-40",
];

/// A peak below this says nothing of the place: this test is of lags. How like the waveforms are is
/// the encoder's doing: libopus alone, at 16 kb/s and complexity 0, reaches 0.63 to 0.97 in windows of
/// two seconds of these streams, and over a whole stream a correction of a millisecond costs more.
/// Quality is measured by PESQ, in tests/lab/judge, and
/// what the decoders give is compared in `corpus_codecs`.
const RECOGNISED: f64 = 0.3;

fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let named = std::env::var_os("CALLSPAN_CORPUS").map(PathBuf::from);
    let place = named.clone().unwrap_or_else(beside);
    if place.join("manifest.json").is_file() {
        return Some(place);
    }
    assert!(named.is_none(), "CALLSPAN_CORPUS names no corpus: {}", place.display());
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    assert!(!shared.is_dir(), "there is {} but no corpus in it", shared.display());
    eprintln!("NOT CHECKED: there is no corpus; name it with CALLSPAN_CORPUS");
    None
}

fn captures(corpus: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(corpus.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    manifest["captures"].as_array().expect("captures").clone()
}

fn name(capture: &Value) -> &str {
    capture["name"].as_str().expect("a name")
}

struct Replayed {
    directory: tempfile::TempDir,
    report: Value,
    rows: String,
    calls: Vec<Value>,
}

impl Replayed {
    fn new(capture: &Path, workers: &str) -> Self {
        Self::with(capture, &["--workers", workers])
    }

    fn with(capture: &Path, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        run(&directory, &["init", "a", "--plaintext"]);
        let capture = capture.to_str().expect("text");
        let words = [&["replay", capture, "--archive", "a", "--json"], flags].concat();
        let report = serde_json::from_str(&run(&directory, &words)).expect("a report");
        let rows = run(&directory, &["calls", "--archive", "a", "--json"]);
        let calls = rows.lines().map(|row| serde_json::from_str(row).expect("a call")).collect();
        Self { directory, report, rows, calls }
    }

    fn export(&self, call: &Value, format: &str) -> Vec<u8> {
        let id = call["id"].as_str().expect("an id");
        run(
            &self.directory,
            &["export", id, "--archive", "a", "--format", format, "--output", "out"],
        );
        let path = self.directory.path().join("out");
        let bytes = std::fs::read(&path).expect("exported");
        std::fs::remove_file(path).expect("removed");
        bytes
    }

    fn streams(&self) -> impl Iterator<Item = (&Value, &Value)> {
        let of = |call| move |stream| (call, stream);
        self.calls
            .iter()
            .flat_map(move |call| call["streams"].as_array().expect("streams").iter().map(of(call)))
    }
}

fn run(directory: &tempfile::TempDir, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    let output = command
        .env_clear()
        .current_dir(directory)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("started");
    let errors = String::from_utf8_lossy(&output.stderr);
    // 3: done, with something lost (a capture that is cut, a call without its end).
    assert!(matches!(output.status.code(), Some(0 | 3)), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_frame_is_accounted_for_and_the_result_does_not_depend_on_workers() {
    let Some(corpus) = corpus() else { return };
    for capture in captures(&corpus) {
        let name = name(&capture);
        let path = corpus.join("captures").join(name);
        let one = Replayed::new(&path, "1");
        let frames = &one.report["frames"];
        let outcomes = frames["by_outcome"].as_object().expect("outcomes");
        let sum: u64 = outcomes.values().filter_map(Value::as_u64).sum();
        assert_eq!(frames["received"], capture["packets"], "{name}");
        assert_eq!(frames["received"].as_u64(), Some(sum), "{name}");
        for other in [Replayed::new(&path, "4"), Replayed::new(&path, "1")] {
            assert_eq!(one.rows, other.rows, "{name}");
            for call in one.calls.iter().filter(|call| call["recording"]["state"] == "stored") {
                let same = one.export(call, "opus") == other.export(call, "opus");
                assert!(same, "{name}: {}", call["id"]);
            }
        }
    }
}

#[test]
fn calls_and_streams_are_those_of_the_manifest() {
    let Some(corpus) = corpus() else { return };
    let mut faults = Vec::new();
    for capture in captures(&corpus) {
        let name = name(&capture);
        let replayed = Replayed::new(&corpus.join("captures").join(name), "2");
        let count =
            |field: &str| usize::try_from(capture[field].as_u64().unwrap_or(0)).unwrap_or(0);
        let listed = OTHER_CALLS.iter().find(|other| other.0 == name);
        let expected =
            listed.map_or_else(|| (count("invite_dialogs"), count("answered")), |it| (it.1, it.2));
        let legs = |call: &Value| 1 + call["legs"].as_array().map_or(0, Vec::len);
        let dialogs: usize = replayed.calls.iter().map(legs).sum();
        let answered = replayed.calls.iter().filter(|call| !call["answered_at"].is_null());
        let answered: usize = answered.map(legs).sum();
        if (dialogs, answered) != expected {
            faults.push(format!("{name}: {dialogs} dialogs, {answered}: {expected:?}"));
        }
        if name.starts_with("call-") {
            for truth in capture["truth"].as_array().into_iter().flatten() {
                faults.extend(fault_of_stream(name, &replayed, truth));
            }
        } else if replayed.streams().count() > 0 && name != "sip-aaa-many-dialogs.pcap" {
            faults.push(format!("{name}: streams where no SDP announced any"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Streams of media alone of which the manifest has no truth, since nothing can be decoded of them:
/// one digit (ten packets, two of them copies), and SRTP, which looks like G.722.
const WITHOUT_TRUTH: [(&str, &str, u64, &str); 2] = [
    ("rtp-only-sipp-dtmf-1.pcap", "UNKNOWN", 8, "none"),
    ("rtp-only-srtp-alice.pcap", "G722", 1_556, "raw"),
];

/// Calls of H.323, MGCP and SCCP: their signalling is not read, their media is media.
const OF_OTHER_SIGNALLING: [(&str, usize); 4] = [
    ("nongoal-h323-fax-t38.pcapng", 1),
    ("nongoal-mgcp-call.pcapng", 1),
    ("nongoal-sccp-call.pcapng", 1),
    ("nongoal-skinny-ndpi.pcap", 5),
];

#[test]
fn media_alone_makes_calls_where_it_is_sound_beyond_doubt() {
    let Some(corpus) = corpus() else { return };
    let mut faults = Vec::new();
    for capture in captures(&corpus) {
        let name = name(&capture);
        let path = corpus.join("captures").join(name);
        let replay = |workers| Replayed::with(&path, &["--workers", workers, "--heuristic-rtp"]);
        let replayed = replay("2");
        let made = replayed.calls.iter().filter(|call| call["origin"] == "heuristic");
        let other = OF_OTHER_SIGNALLING.iter().find(|it| it.0 == name);
        let is_media = name.starts_with("rtp-only-");
        if made.count() != other.map_or_else(|| usize::from(is_media), |it| it.1) {
            faults.push(format!("{name}: calls from media: {}", replayed.rows));
        }
        if !is_media && other.is_none() {
            continue;
        }
        for truth in capture["truth"].as_array().into_iter().flatten() {
            faults.extend(fault_of_stream(name, &replayed, truth));
        }
        for call in &replayed.calls {
            let is_nameless = call["sip_call_ids"] == serde_json::json!([])
                && call["sides"] == "unknown"
                && call["caller"]["uri"] == ""
                && call["answered_at"].is_null();
            if !is_nameless {
                faults.push(format!("{name}: {call}"));
            }
        }
        if let Some((_, codec, packets, state)) = WITHOUT_TRUTH.iter().find(|it| it.0 == name) {
            let (call, stream) = replayed.streams().next().expect("a stream");
            let state_is = call["recording"]["state"] == *state;
            if stream["codec"] != *codec || stream["packets"] != *packets || !state_is {
                faults.push(format!("{name}: {stream}"));
            }
        }
        assert_eq!(replayed.rows, replay("4").rows, "{name}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn fault_of_stream(name: &str, replayed: &Replayed, truth: &Value) -> Option<String> {
    let ssrc = truth["ssrc"].as_str().expect("an SSRC");
    let Some((_, stream)) = replayed.streams().find(|(_, stream)| is_of(stream, truth)) else {
        return Some(format!("{name}: {ssrc} is missing"));
    };
    let unique = truth["packets"].as_u64()? - truth["duplicates"].as_u64()?;
    let expected = (unique, truth["lost_by_seq"].as_u64()?);
    let found = (stream["packets"].as_u64()?, stream["lost"].as_u64()?);
    // A stream that changes its codec is named by its first.
    let codec = truth["codec"].as_str()?.split('+').next()?;
    let is_right = found == expected && stream["codec"] == codec && stream["srtp"] == truth["srtp"];
    (!is_right).then(|| format!("{name}: {ssrc} {found:?} not {expected:?}, {stream}"))
}

fn is_of(stream: &Value, truth: &Value) -> bool {
    stream["ssrc"] == truth["ssrc"]
        && stream["source"] == truth["src"]
        && stream["destination"] == truth["dst"]
}

#[test]
fn digits_are_told_and_calls_on_the_same_ports_kept_apart() {
    let Some(corpus) = corpus() else { return };
    let replay = |name: &str| Replayed::new(&corpus.join("captures").join(name), "2");
    let digits = replay("call-tcp-opus-dtmf.pcapng");
    assert!(
        digits.calls.iter().any(|call| call["dtmf"].as_array().is_some_and(|it| !it.is_empty()))
    );
    // Eight calls after each other on the same ports: one stream each.
    for call in replay("call-g726-8-variants.pcap").calls {
        assert_eq!(call["streams"].as_array().map(Vec::len), Some(1), "{call}");
    }
}

#[test]
fn the_sound_is_in_its_place_and_channel() {
    let Some(corpus) = corpus() else { return };
    let (mut faults, mut compared) = (Vec::new(), 0);
    for capture in captures(&corpus) {
        let name = name(&capture);
        if !name.starts_with("call-") {
            continue;
        }
        let mut replayed = None;
        for truth in capture["truth"].as_array().into_iter().flatten().filter(|it| is_fit(it)) {
            let path = corpus.join("captures").join(name);
            // Of two hops of one conversation one is heard: here each leg has a recording.
            let replayed =
                replayed.get_or_insert_with(|| Replayed::with(&path, &["--legs", "all"]));
            let audio = corpus.join("truth").join(truth["audio"].as_str().expect("a file"));
            let sound = samples(&std::fs::read(audio).expect("truth"), 1).remove(0);
            for (call, stream) in replayed.streams().filter(|(_, stream)| is_of(stream, truth)) {
                if let Some(result) = compare(replayed, call, stream, truth, &sound) {
                    compared += 1;
                    let (correlation, lag_ms) = result;
                    if correlation < RECOGNISED || lag_ms.abs() > 20.0 {
                        let ssrc = &truth["ssrc"];
                        faults.push(format!("{name} {ssrc}: {correlation:.3} at {lag_ms} ms"));
                    }
                }
            }
        }
    }
    assert!(compared >= 10, "only {compared} streams were compared");
    assert!(faults.is_empty(), "of {compared}:\n{}", faults.join("\n"));
}

fn is_fit(truth: &Value) -> bool {
    let codec = truth["codec"].as_str().unwrap_or_default();
    let at_least = |field: &str, least: f64| truth[field].as_f64().unwrap_or(0.0) >= least;
    DECODED.contains(&codec)
        && truth["audio"].is_string()
        && at_least("seconds", 2.0)
        && at_least("rms", 20.0)
}

/// Samples at 8 kHz, by channel.
fn samples(bytes: &[u8], channels: usize) -> Vec<Vec<f64>> {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("in"), bytes).expect("written");
    let output = Command::new("ffmpeg")
        .current_dir(&directory)
        .args(["-v", "error", "-i", "in", "-ar", "8000", "-f", "s16le", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sample = |pair: &[u8]| f64::from(i16::from_le_bytes([pair[0], pair[1]]));
    let mixed: Vec<f64> = output.stdout.chunks_exact(2).map(sample).collect();
    (0..channels).map(|at| mixed.iter().skip(at).step_by(channels).copied().collect()).collect()
}

/// The best correlation within 200 ms of the expected place, and its lag; `None` where the stream
/// hardly lies in the recorded time.
fn compare(
    replayed: &Replayed,
    call: &Value,
    stream: &Value,
    truth: &Value,
    sound: &[f64],
) -> Option<(f64, f64)> {
    let started: jiff::Timestamp =
        call["recording"]["started_at"].as_str()?.parse().expect("a time");
    let started_s = started.as_nanosecond() as f64 / 1e9;
    let offset_s = truth["first_audio_epoch"].as_f64()? - started_s;
    // What lies in the recorded time, and 200 ms from its ends; two seconds of it at least.
    let recorded_s = call["recording"]["seconds"].as_f64()?;
    let skipped_s = (0.2 - offset_s).max(0.0);
    let offset_s = offset_s + skipped_s;
    let samples_of = |seconds: f64| (seconds.max(0.0) * 8_000.0) as usize;
    let sound = sound.get(samples_of(skipped_s)..)?;
    let sound = &sound[..sound.len().min(samples_of(recorded_s - 0.2 - offset_s))];
    if sound.len() < 16_000
        || sound.iter().map(|it| it * it).sum::<f64>() < 400.0 * sound.len() as f64
    {
        return None;
    }
    let at = usize::from(stream["channel"] == "callee");
    let channel = samples(&replayed.export(call, "wav"), 2).remove(at);
    let first = (offset_s * 8_000.0).round() as i64;
    let lags = (-1_600..=1_600).step_by(4);
    let scored = lags.map(|lag| (correlation(&channel, first + lag, sound), lag as f64 / 8.0));
    scored.max_by(|one, other| one.0.total_cmp(&other.0))
}

fn correlation(channel: &[f64], from: i64, sound: &[f64]) -> f64 {
    let heard = usize::try_from(from).ok().and_then(|from| channel.get(from..));
    let (mut product, mut ours, mut theirs) = (0.0, 1.0, 1.0);
    for (mine, wanted) in heard.unwrap_or_default().iter().zip(sound.iter()) {
        product += mine * wanted;
        ours += mine * mine;
        theirs += wanted * wanted;
    }
    product / (ours * theirs).sqrt()
}

/// Captures of a B2BUA's two legs.
const TWO_LEGS: [&str; 3] =
    ["call-dtmf-interwork-2legs.pcapng", "call-srtp-sdes.pcap", "call-b2bua-two-legs.pcapng"];

#[test]
fn the_legs_of_a_b2bua_are_one_recording_unless_operators_want_two() {
    let Some(corpus) = corpus() else { return };
    for capture in captures(&corpus) {
        let name = name(&capture);
        let path = corpus.join("captures").join(name);
        let calls = Replayed::new(&path, "2").calls;
        let joined: Vec<&Value> =
            calls.iter().filter(|call| call["legs"].as_array().is_some()).collect();
        if !TWO_LEGS.contains(&name) {
            assert!(joined.is_empty(), "{name}: {joined:?}");
            continue;
        }
        let [call] = joined[..] else { panic!("{name}: {} joined calls", joined.len()) };
        assert_eq!((calls.len(), call["verdict"].as_str()), (1, Some("both")), "{name}");
        assert_eq!(call["sip_call_ids"].as_array().map(Vec::len), Some(2), "{name}");
        let streams = call["streams"].as_array().map_or(0, Vec::len);
        assert_eq!(Some(streams), capture["rtp_streams"].as_array().map(Vec::len), "{name}");
        let apart = Replayed::with(&path, &["--legs", "all"]).calls;
        assert!(apart.iter().all(|call| call["legs"].is_null()), "{name}");
        assert_eq!(apart.len(), 2, "{name}");
    }
}

#[test]
fn a_stream_that_went_elsewhere_for_a_while_left_no_gap_that_another_filled() {
    let Some(corpus) = corpus() else { return };
    let capture = corpus.join("captures/call-hold-resume-delayed-offer.pcapng");
    let [call] = &Replayed::new(&capture, "2").calls[..] else { panic!("one call") };
    let gaps = call["gaps"].as_array().expect("gaps");
    let lost: f64 = gaps
        .iter()
        .filter(|gap| gap["reason"] == "lost")
        .filter_map(|gap| gap["seconds"].as_f64())
        .sum();
    assert!(lost < 0.1, "{lost} s of {gaps:?}");
}
