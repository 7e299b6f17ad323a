//! Calls in which a fax takes the sound's place: told, kept as it came, exported, and no noise.
//!
//! Purpose: T.38 on the port where sound was a moment before, and fax in the sound itself.
//! Invariants: real packets are another's (the corpus's H.323 call, with SIP put around them); what is
//! exported is read by tshark.
//! Non-goals: the tones by which a fax is known (see `codec::fax_tones` and `corpus_signals`).
//! Sources: ITU-T T.38 §9.1 and annex D.

mod capture_common;
mod harness;
mod robust_common;

use callspan::codec::g711;
use capture_common::pcap;
use harness::{ALICE, BOB, rtp, sip, udp};
use robust_common::Case;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const RAW_IP: u32 = 101;
const NS_PER_MS: i64 = 1_000_000;

/// Frames of a call, by their time in ms.
#[derive(Default)]
struct Wire {
    frames: Vec<(i64, Vec<u8>)>,
    seq: u16,
}

impl Wire {
    fn put(&mut self, ms: i64, mut frame: Vec<u8>) {
        // An identification of its own, so that a packet that is sent again is no doubled frame.
        let number = u16::try_from(self.frames.len()).expect("short");
        frame[4..6].copy_from_slice(&number.to_be_bytes());
        self.frames.push((ms, frame));
    }

    /// An offer of the caller and the answer to it; `media`: what stands in place of "audio … 8".
    fn agree(&mut self, ms: i64, line: &str, cseq: &str, media: Option<&str>) {
        let of = |line: &str, address: &str, port| {
            let text = String::from_utf8(sip(1, line, cseq, Some((address, port)))).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a body");
            let old = format!("audio {port} RTP/AVP 8");
            let body = media.map_or_else(
                || body.to_owned(),
                |media| body.replace(&old, &media.replace("PORT", &port.to_string())),
            );
            let head = head.rsplit_once(' ').expect("a length").0;
            let tagged = if cseq.starts_with('1') {
                head.to_owned()
            } else {
                head.replace("To: <sip:b1@x>\r\n", "To: <sip:b1@x>;tag=b\r\n")
            };
            format!("{tagged} {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        self.put(ms, udp(ALICE, 5060, BOB, 5060, &of(line, "10.0.0.1", 4000)));
        self.put(ms + 1, udp(BOB, 5060, ALICE, 5060, &of("SIP/2.0 200 OK", "10.0.0.2", 5000)));
    }

    fn speech(&mut self, range_ms: std::ops::Range<i64>) {
        for ms in range_ms.step_by(20) {
            // Time goes on while a phone sends no sound, its sequence numbers do not.
            let number = u32::try_from(ms / 20).expect("small");
            let rtp = |ssrc: u32, payload: &[u8]| {
                let mut packet = rtp(ssrc, number, payload);
                packet[2..4].copy_from_slice(&self.seq.to_be_bytes());
                packet
            };
            let pcm: Vec<i16> = (0..160).map(tone).collect();
            let mut payload = vec![0; 160];
            g711::encode_alaw(&pcm, &mut payload).expect("room");
            let (caller, callee) = (rtp(1, &payload), rtp(2, &payload));
            self.seq += 1;
            self.put(ms, udp(ALICE, 4000, BOB, 5000, &caller));
            self.put(ms, udp(BOB, 5000, ALICE, 4000, &callee));
        }
    }

    fn bye(&mut self, ms: i64) {
        self.put(ms, udp(ALICE, 5060, BOB, 5060, &sip(1, "BYE sip:b@x SIP/2.0", "9 BYE", None)));
    }

    fn capture(mut self) -> Vec<u8> {
        self.frames.sort_by_key(|(ms, _)| *ms);
        let frames: Vec<(i64, &[u8])> =
            self.frames.iter().map(|(ms, frame)| (ms * NS_PER_MS, frame.as_slice())).collect();
        pcap(RAW_IP, &frames)
    }
}

/// A sample of 440 Hz at 8 kHz, of which each packet holds the same whole number of periods and a bit.
fn tone(at: u32) -> i16 {
    let phase = f64::from(at) * 440.0 * std::f64::consts::TAU / 8_000.0;
    #[allow(clippy::cast_possible_truncation)]
    let sample = (phase.sin() * 8_000.0) as i16;
    sample
}

/// UDPTL with one older packet for redundancy.
fn udptl(seq: u16) -> Vec<u8> {
    let primary = [0xc0, 0x01, 0x80, 0x00, 0x00, 0x7e];
    let seq = seq.to_be_bytes();
    [&seq[..], &[6], &primary, &[0, 1, 6], &primary].concat()
}

fn fax_gaps(call: &Value) -> Vec<(String, f64, f64)> {
    let gaps = call["gaps"].as_array().expect("gaps").iter();
    let of = |gap: &Value| {
        let channel = gap["channel"].as_str().expect("a channel").to_owned();
        let from_s = gap["at_s"].as_f64().expect("s");
        (channel, from_s, from_s + gap["seconds"].as_f64().expect("s"))
    };
    gaps.filter(|gap| gap["reason"] == "fax").map(of).collect()
}

/// The exported packets that tshark knows as `filter`.
fn exported(case: &Case, call: &Value, filter: &str) -> usize {
    let id = call["id"].as_str().expect("an id");
    let ended = case.run(["export", "--archive", "calls", id, "-f", "pcap", "-o", "fax.pcap"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(case.path("fax.pcap")).args(["-Y", filter]);
    let rows = tshark.output().expect("tshark runs (see `make deps`)");
    String::from_utf8_lossy(&rows.stdout).lines().count()
}

fn replayed(capture: &[u8], store: &str) -> (Case, Value, Value) {
    let case = Case::new();
    let path = case.write("fax.in.pcap", capture);
    let path = path.to_str().expect("text");
    let ended = case.run(["replay", path, "--archive", "calls", "--store", store, "--json"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let report = ended.report();
    let call = case.only_call();
    (case, report, call)
}

/// Sequence numbers pass 0x8000, from where on the packets look like RTP of version 2.
fn call_with_t38() -> Vec<u8> {
    let mut wire = Wire::default();
    let invite = "INVITE sip:b@x SIP/2.0";
    wire.agree(0, invite, "1 INVITE", None);
    wire.speech(20..2_000);
    wire.agree(2_000, invite, "2 INVITE", Some("image PORT udptl t38"));
    // What is still on its way is sound.
    wire.speech(2_020..2_060);
    for number in 0..100_u16 {
        let ms = 2_100 + i64::from(number) * 20;
        let to_callee = udp(ALICE, 4000, BOB, 5000, &udptl(0x7fe0 + number));
        let to_caller = udp(BOB, 5000, ALICE, 4000, &udptl(number));
        wire.put(ms, if number % 2 == 0 { to_callee } else { to_caller });
    }
    wire.agree(4_200, invite, "3 INVITE", None);
    wire.speech(4_220..6_000);
    wire.bye(6_000);
    wire.capture()
}

#[test]
fn t38_on_the_port_of_the_sound_is_kept_told_and_exported() {
    let capture = call_with_t38();
    for store in ["opus", "raw"] {
        let (case, report, call) = replayed(&capture, store);
        assert_eq!(report["frames"]["by_outcome"]["fax"], 100, "{store}: {report}");
        assert_eq!(call["verdict"], "both", "{store}");
        assert_eq!(call["fax"]["t38"], true, "{store}: {call}");
        assert_eq!(call["fax"]["t38_packets"], 100, "{store}");
        assert_eq!(call["fax"]["passthrough"], false, "{store}");
        let gaps = fax_gaps(&call);
        for channel in ["caller", "callee"] {
            let own: Vec<_> = gaps.iter().filter(|(of, ..)| of == channel).collect();
            let (from, to) = (own.first().expect("a gap").1, own.last().expect("a gap").2);
            assert!((1.95..2.1).contains(&from) && (4.15..4.25).contains(&to), "{store}: {gaps:?}");
            let told: f64 = own.iter().map(|(_, from, to)| to - from).sum();
            assert!(told > 2.0, "{store}: {gaps:?}");
        }
        assert_eq!(exported(&case, &call, "t38 && !_ws.malformed"), 100, "{store}");
        let shown = case.run(["show", "--archive", "calls", call["id"].as_str().expect("id")]);
        assert!(shown.out.contains("T.38"), "{shown:?}");
        if store == "opus" {
            let [caller, callee] = case.channels(&call);
            for sound in [caller, callee] {
                let at = |ms: usize| &sound[ms * 48..(ms + 500) * 48];
                let loud = |ms| robust_common::loudness(at(ms));
                assert!(
                    loud(1_000) > 3_000.0 && loud(5_000) > 3_000.0,
                    "{} {}",
                    loud(1_000),
                    loud(5_000)
                );
                assert!(loud(3_000) < 1.0, "silence where the fax is: {}", loud(3_000));
            }
        }
    }
}

/// A description that only offers T.38 and is refused changes nothing.
#[test]
fn a_refused_offer_of_t38_leaves_the_sound() {
    let mut wire = Wire::default();
    let invite = "INVITE sip:b@x SIP/2.0";
    wire.agree(0, invite, "1 INVITE", None);
    wire.speech(20..4_000);
    let refused = udp(BOB, 5060, ALICE, 5060, &sip(1, "SIP/2.0 488 Not Here", "2 INVITE", None));
    wire.agree(2_000, invite, "2 INVITE", Some("image PORT udptl t38"));
    let at = wire.frames.len() - 1;
    wire.frames[at] = (2_001, refused);
    wire.bye(4_000);
    let (_case, report, call) = replayed(&wire.capture(), "opus");
    assert!(call["fax"].is_null(), "{call}");
    assert_eq!(call["gaps"].as_array().map(Vec::len), Some(0), "{call}");
    assert_eq!(report["frames"]["by_outcome"]["rtp"], 398, "{report}");
}

fn corpus(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let place = std::env::var_os("CALLSPAN_CORPUS").map_or_else(beside, PathBuf::from);
    let file = place.join("captures").join(name);
    if !file.is_file() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        assert!(!shared.is_dir(), "there is {} but no {name} in it", shared.display());
        eprintln!("NOT CHECKED: there is no corpus; name it with CALLSPAN_CORPUS");
    }
    file.is_file().then_some(file)
}

/// Two gateways' call: 27 s of sound with a fax's tones in it, then T.38 on the same ports. Its own
/// signalling is H.323, so that SIP is put around it.
#[test]
fn a_real_fax_that_goes_over_to_t38_is_kept_to_the_last_packet() {
    let Some(file) = corpus("nongoal-h323-fax-t38.pcapng") else { return };
    let mut capture = ::pcap::Capture::from_file(file).expect("a capture");
    let (mut wire, mut first, mut expected) = (Wire::default(), None, 0);
    while let Ok(packet) = capture.next_packet() {
        let ts = packet.header.ts;
        let ms = ts.tv_sec * 1_000 + ts.tv_usec / 1_000;
        let ms = ms - *first.get_or_insert(ms);
        // IPv4 without options, UDP between the ports of the media.
        let frame = packet.data;
        let is_media = frame[9] == 17 && frame[20..24] == [0x40, 0, 0x40, 0];
        if !is_media {
            continue;
        }
        let (from, payload) = (frame[15], &frame[28..]);
        expected += usize::from(payload[0] & 0xc0 != 0x80);
        let (source, destination) =
            if from == 5 { ((ALICE, 4000), (BOB, 5000)) } else { ((BOB, 5000), (ALICE, 4000)) };
        wire.put(ms, udp(source.0, source.1, destination.0, destination.1, payload));
    }
    assert_eq!(expected, 418, "as the capture has them");
    let invite = "INVITE sip:b@x SIP/2.0";
    let media = Some("audio PORT RTP/AVP 0");
    wire.agree(1_900, invite, "1 INVITE", media);
    wire.agree(26_900, invite, "2 INVITE", Some("image PORT udptl t38"));
    wire.bye(70_000);
    let (case, report, call) = replayed(&wire.capture(), "opus");
    assert_eq!(report["frames"]["by_outcome"]["fax"], 418, "{report}");
    assert_eq!(call["fax"]["t38_packets"], 418, "{call}");
    assert_eq!(exported(&case, &call, "t38"), 418);
}
