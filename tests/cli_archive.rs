//! `calls`, `show`, `export` and `index rebuild` on an archive with known calls in it.
//!
//! Purpose: what was archived comes out: by time and number, as a ladder, as sound in its place and
//! channel, as frames with their times.
//! Invariants: the archive is written through the archive's own writer; sound is read back by
//! opusdec, FFmpeg and our own decoder, frames by tshark.
//! Non-goals: how calls come into an archive (see the lab).
//! Sources: none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use callspan::archive::{
    self, AudioBatchWriter, Compression, DiskOs, InitOptions, RecordKind, SipEntry, Writer,
    WriterOptions,
};
use callspan::base::{
    CallId, Channel, Endpoint, EntryKind, PacketEntry, PacketTime, Protocol, rfc3339,
};
use callspan::cli::ArchivePlace;
use callspan::codec::{EncoderSettings, OpusVoiceEncoder};
use serde_json::{Value, json};

/// 2026-11-24T02:57:36.123456789Z.
const ZERO_NS: i64 = 1_795_489_056_123_456_789;
const STORED: CallId = CallId(0x0123_4567_89ab_cdef);
const RAW: CallId = CallId(0x0123_4599_0000_0001);
const REJECTED: CallId = CallId(0xffff_0000_0000_0002);
/// Length of the recording: not a multiple of 20 ms, so that the end is trimmed.
const SECONDS: f64 = 3.005;

struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn archive(&self) -> PathBuf {
        self.directory.path().join("calls")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
        command.env_clear().env("CALLSPAN_ARCHIVE", self.archive()).current_dir(&self.directory);
        command.args(words).stdin(Stdio::null()).output().expect("started")
    }

    #[track_caller]
    fn prints(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn fails(&self, words: &[&str], part: &str) {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {errors}");
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(errors.contains(part) && errors.lines().count() == 1, "{words:?}: {errors}");
    }
}

fn at(seconds: i64) -> String {
    rfc3339::format_utc(ZERO_NS + seconds * 1_000_000_000)
}

fn summary(id: CallId, seconds: i64, number: &str, state: &str) -> Value {
    json!({
        "id": id.to_string(), "sip_call_ids": [format!("{id}@a.example")], "state": "ended",
        "started_at": at(seconds), "answered_at": at(seconds + 2), "ended_at": at(seconds + 5),
        "end_reason": "bye", "status_code": 200, "origin": "invite", "verdict": "both",
        "caller": {"uri": format!("sip:{number}@a.example"), "number": number, "name": "Zoë"},
        "callee": {"uri": "sip:200@b.example", "number": "200", "name": ""},
        "recording": {"state": state, "started_at": at(seconds + 2), "seconds": SECONDS,
            "bytes": 9_000, "channels": 2},
        "streams": [{"channel": "caller", "codec": "PCMA", "clock_hz": 8_000, "ssrc": "0x00000001",
            "source": "10.0.0.1:4000", "destination": "10.0.0.2:4000", "packets": 150, "lost": 0,
            "late": 0, "duplicate": 0, "reordered": 0, "jitter_ms": 0.1, "mos": 3.6}],
        "gaps": [], "dtmf": [], "notes": [],
    })
}

fn phones() -> (Endpoint, Endpoint) {
    (Endpoint::v4([10, 0, 0, 1], 5_060), Endpoint::v4([10, 0, 0, 2], 5_060))
}

fn ladder() -> Vec<u8> {
    let (caller, callee) = phones();
    let messages = [
        (
            0,
            caller,
            callee,
            "INVITE sip:200@b.example SIP/2.0\r\nCall-ID: x@a\r\nCSeq: 1 INVITE\r\n\
            Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n",
        ),
        (2_000, callee, caller, "SIP/2.0 200 OK\r\nCall-ID: x@a\r\nCSeq: 1 INVITE\r\n\r\n"),
        (
            5_000,
            caller,
            callee,
            "BYE sip:200@b.example SIP/2.0\r\nCall-ID: x@a\r\nCSeq: 2 BYE\r\n\r\n",
        ),
    ];
    let mut body = Vec::new();
    for (ms, source, destination, text) in messages {
        let time = PacketTime::from_ns(ZERO_NS).plus_ms(ms);
        let message = text.as_bytes();
        SipEntry { time, protocol: Protocol::Udp, source, destination, message }.encode(&mut body);
    }
    body
}

/// 300 ms of a tone that begins at `from_s`, else silence, as packets of 20 ms.
fn tone(from_s: f64) -> Vec<Vec<u8>> {
    let settings = EncoderSettings { sample_rate_hz: 16_000, bitrate: 24_000, complexity: 0 };
    let mut encoder = OpusVoiceEncoder::new(settings).expect("an encoder");
    let sample = |index: u32| {
        let seconds = f64::from(index) / 16_000.0;
        let sounds = seconds >= from_s && seconds < from_s + 0.3;
        #[allow(clippy::cast_possible_truncation)]
        if sounds { ((seconds * 800.0 * std::f64::consts::TAU).sin() * 12_000.0) as i16 } else { 0 }
    };
    let packet = |slot: u32| {
        let pcm: Vec<i16> = (slot * 320..(slot + 1) * 320).map(sample).collect();
        let mut packet = vec![0; 1_276];
        let len = encoder.encode_20ms(&pcm, &mut packet).expect("encoded");
        packet.truncate(len);
        packet
    };
    (0..151).map(packet).collect()
}

fn raw_packets() -> Vec<u8> {
    let (caller, callee) = phones();
    let mut body = Vec::new();
    for index in 0..10_u8 {
        let payload = [&[0x80, 8, 0, index][..], &[0; 8], &[0xd5; 160]].concat();
        let entry = PacketEntry {
            time: PacketTime::from_ns(ZERO_NS).plus_ms(2_100 + 20 * i64::from(index)),
            source: caller.with_port(4_000),
            destination: callee.with_port(4_002),
            kind: EntryKind::Rtp,
            channel: Channel::Caller,
            payload: &payload,
        };
        let start = body.len();
        body.resize(start + entry.len_bytes(), 0);
        entry.write(&mut body[start..]).expect("room");
    }
    body
}

/// Three calls: one stored as Opus, one raw, one without a recording.
fn case() -> Case {
    let case = Case { directory: tempfile::tempdir().expect("a directory") };
    let keys = ArchivePlace::new(&case.archive()).load_or_make().expect("keys");
    archive::init(&case.archive(), &InitOptions::plaintext(), &keys).expect("an archive");
    let options = WriterOptions { segment_bytes: 1 << 20, ..WriterOptions::new(keys) };
    let (mut writer, _) = Writer::open(DiskOs::new(&case.archive()), options).expect("a writer");
    let mut put = |call, kind, body: &[u8]| {
        writer.append(call, kind, body, Compression::Lz4).expect("appended");
    };
    put(STORED, RecordKind::Sip, &ladder());
    let (caller, callee) = (tone(1.0), tone(2.0));
    for first in [0, 50, 100] {
        let mut batch = AudioBatchWriter::new(first);
        // Slot 10 was never archived on one side: silence stands there.
        for slot in (first..151).take(if first == 100 { 51 } else { 50 }) {
            let index = slot as usize;
            let left: &[u8] = if slot == 10 { &[] } else { &caller[index] };
            batch.push(left, &callee[index]).expect("short");
        }
        put(STORED, RecordKind::Audio, &batch.finish());
    }
    put(RAW, RecordKind::Sip, &ladder());
    put(RAW, RecordKind::Raw, &raw_packets());
    for summary in [
        summary(STORED, 0, "100", "stored"),
        summary(RAW, 3_600, "4930100", "raw"),
        summary(REJECTED, 7_200, "300", "none"),
    ] {
        let id = summary["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        put(id, RecordKind::Summary, summary.to_string().as_bytes());
    }
    writer.seal().expect("sealed");
    case
}

fn tool(name: &str, package: &str, words: &[&str]) -> Vec<u8> {
    let output = match Command::new(name).args(words).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("{name}: {error}; `make deps` installs it (Debian package {package})"),
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {words:?}: {errors}");
    output.stdout
}

/// Samples of both channels of a 16-bit WAV file at 48 kHz.
fn samples(wav: &[u8]) -> [Vec<i16>; 2] {
    let data = wav.windows(4).position(|bytes| bytes == b"data").expect("a data chunk") + 8;
    let mut channels = [Vec::new(), Vec::new()];
    for frame in wav[data..].chunks_exact(4) {
        channels[0].push(i16::from_le_bytes([frame[0], frame[1]]));
        channels[1].push(i16::from_le_bytes([frame[2], frame[3]]));
    }
    channels
}

/// The second at which a channel is loud for the first time.
fn onset(channel: &[i16]) -> f64 {
    let index = channel.iter().position(|sample| sample.unsigned_abs() > 3_000).expect("sound");
    f64::from(u32::try_from(index).expect("short")) / 48_000.0
}

#[track_caller]
fn stands_where_it_was(wav: &[u8]) {
    let channels = samples(wav);
    for (channel, expected) in channels.iter().zip([1.0, 2.0]) {
        assert_eq!(channel.len(), 144_240, "{SECONDS} s at 48 kHz");
        let found = onset(channel);
        assert!((found - expected).abs() < 0.005, "heard at {found} s, spoken at {expected} s");
    }
}

#[test]
fn calls_are_listed_oldest_first_as_they_are_archived() {
    let case = case();
    let expected = [
        summary(STORED, 0, "100", "stored"),
        summary(RAW, 3_600, "4930100", "raw"),
        summary(REJECTED, 7_200, "300", "none"),
    ]
    .map(|summary| summary.to_string())
    .join("\n");
    assert_eq!(case.prints(&["calls", "--json"]), format!("{expected}\n"));
    let table = case.prints(&["calls"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("0123456789abcdef  2026-11-24 02:57:36"), "{table}");
}

#[test]
fn calls_are_found_by_time_and_number() {
    let case = case();
    let count =
        |words: &[&str]| case.prints(&[&["calls", "--json"], words].concat()).lines().count();
    assert_eq!(count(&["--from", "2026-11-24T03:00:00Z"]), 2);
    assert_eq!(count(&["--from", "2026-11-24", "--to", "2026-11-24T04:00:00Z"]), 2);
    assert_eq!(count(&["--to", "2026-11-24"]), 0);
    assert_eq!(count(&["--number", "100"]), 2, "the whole number and its end");
    assert_eq!(count(&["--number", "300"]), 1);
    assert!(case.prints(&["calls", "--json", "--limit", "1"]).contains("ffff000000000002"));
}

#[test]
fn calls_are_found_by_length_codec_quality_and_call_id() {
    let case = case();
    let count =
        |words: &[&str]| case.prints(&[&["calls", "--json"], words].concat()).lines().count();
    assert_eq!(count(&["--min-seconds", "3"]), 3, "from the answer to the end: 3 s each");
    assert_eq!(count(&["--min-seconds", "4"]), 0);
    assert_eq!(count(&["--max-seconds", "3"]), 3, "a length that is given belongs to it");
    assert_eq!(count(&["--max-seconds", "2"]), 0);
    assert_eq!(count(&["--codec", "pcma"]), 3, "in any case");
    assert_eq!(count(&["--codec", "PCM"]), 0, "the whole name");
    assert_eq!(count(&["--mos-below", "3.6"]), 0, "below, not at");
    assert_eq!(count(&["--mos-below", "3.601"]), 3);
    assert_eq!(count(&["--mos-above", "3.6"]), 0);
    assert_eq!(count(&["--mos-above", "3.5", "--codec", "PCMA", "--number", "300"]), 1);
    assert_eq!(count(&["--call-id", "0123456789abcdef@a.example"]), 1);
    assert_eq!(count(&["--call-id", "0123456789abcdef"]), 0, "the whole Call-ID");
    assert_eq!(count(&["--number", "30*"]), 1, "a star at the end: the beginning");
    assert_eq!(count(&["--number", "*00"]), count(&["--number", "00"]));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let case = case();
    let (reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    drop(reader);
    for words in [
        &["calls"][..],
        &["calls", "--json"],
        &["show", "012345678"],
        &["export", "012345678", "-f", "wav", "-o", "-"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_callspan"))
            .env("CALLSPAN_ARCHIVE", case.archive())
            .args(words)
            .stdout(std::os::fd::OwnedFd::from(writer.try_clone().expect("a copy")))
            .stderr(Stdio::piped())
            .output()
            .expect("started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), errors.as_ref()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn a_call_is_shown_by_id_by_its_beginning_and_by_call_id() {
    let case = case();
    let text = case.prints(&["show", "0123456789abcdef"]);
    for part in ["10.0.0.1:5060", "INVITE (SDP)", "200 OK · INVITE", "    5.000   │", "\"Zoë\" 100"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(case.prints(&["show", "01234567"]), text);
    assert_eq!(case.prints(&["show", "0123456789abcdef@a.example"]), text);
    case.fails(
        &["show", "012345"],
        "names 2 calls; give the id of one: 0123456789abcdef, 01234599",
    );
    case.fails(&["show", "01234"], "no call `01234`");
    case.fails(&["show", "0000000000000000"], "callspan calls --archive");
}

#[test]
fn show_gives_programs_the_archived_object_and_its_messages() {
    let case = case();
    let text = case.prints(&["show", "0123456789abcdef", "--json"]);
    assert_eq!(text.lines().count(), 1);
    let mut object: Value = serde_json::from_str(&text).expect("JSON");
    let sip = object.as_object_mut().and_then(|object| object.remove("sip")).expect("messages");
    assert_eq!(object, summary(STORED, 0, "100", "stored"));
    assert_eq!(sip.as_array().map(Vec::len), Some(3));
    assert_eq!(
        sip[1],
        json!({"at_s": 2.0, "time": at(2), "source": "10.0.0.2:5060",
            "destination": "10.0.0.1:5060", "protocol": "udp", "start_line": "SIP/2.0 200 OK",
            "call_id": "x@a", "cseq": "1 INVITE"})
    );
}

#[test]
fn a_wav_file_has_each_party_in_its_place_and_channel() {
    let case = case();
    case.prints(&["export", "01234567", "--format", "wav", "--output", "call.wav"]);
    let file = std::fs::read(case.path("call.wav")).expect("a file");
    stands_where_it_was(&file);
    let piped = case.run(&["export", "01234567", "--format", "wav", "--output", "-"]);
    assert_eq!(piped.stdout, file, "the same bytes on standard output");
}

#[test]
fn players_hear_each_party_in_its_place_and_channel() {
    let case = case();
    case.prints(&["export", "01234567", "--format", "opus", "--output", "call.opus"]);
    let file = case.path("call.opus");
    let again = case.path("again.opus");
    case.prints(&["export", "01234567", "-f", "opus", "-o", "again.opus"]);
    assert_eq!(std::fs::read(&file).expect("a file"), std::fs::read(again).expect("a file"));
    let name = file.to_str().expect("UTF-8");
    let out = case.path("out.wav");
    let out = out.to_str().expect("UTF-8");
    tool("opusdec", "opus-tools", &["--quiet", "--no-dither", "--rate", "48000", name, out]);
    stands_where_it_was(&std::fs::read(out).expect("decoded"));
    let ffmpeg = ["-v", "error", "-i", name, "-c:a", "pcm_s16le", "-f", "wav", "-y", out];
    tool("ffmpeg", "ffmpeg", &ffmpeg);
    stands_where_it_was(&std::fs::read(out).expect("decoded"));
    let info = String::from_utf8(tool("opusinfo", "opus-tools", &[name])).expect("text");
    for part in [
        "TITLE=100 → 200",
        "CALLSPAN_CALL_ID=0123456789abcdef",
        "CALLSPAN_STARTED_AT=2026-11-24T02:57:36.123456+00:00",
        "CALLSPAN_ANSWERED_AT=2026-11-24T02:57:38.123456+00:00",
        "CALLER=\"Zoë\" 100 <sip:100@a.example>",
        "CALLEE=200 <sip:200@b.example>",
        "SIP_CALL_ID=0123456789abcdef@a.example",
        "DATE=2026-11-24",
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    assert!(!info.contains("WARNING"), "{info}");
}

#[test]
fn a_capture_file_has_signalling_and_raw_media_with_their_times() {
    let case = case();
    case.prints(&["export", "01234599", "--format", "pcap", "--output", "call.pcap"]);
    let file = case.path("call.pcap");
    let name = file.to_str().expect("UTF-8");
    let fields = [
        "-r",
        name,
        "-d",
        "udp.port==4002,rtp",
        "-T",
        "fields",
        "-e",
        "frame.time_epoch",
        "-e",
        "_ws.col.Protocol",
        "-e",
        "sip.Request-Line",
        "-e",
        "rtp.seq",
        "-e",
        "udp.dstport",
    ];
    let rows = String::from_utf8(tool("tshark", "tshark", &fields)).expect("text");
    let rows: Vec<_> = rows.lines().map(|row| row.split('\t').collect::<Vec<_>>()).collect();
    assert_eq!(rows.len(), 13, "{rows:?}");
    assert!(rows[0][1].starts_with("SIP"), "{rows:?}");
    assert_eq!(rows[0][2], "INVITE sip:200@b.example SIP/2.0");
    // Some versions of tshark print the time as a date.
    assert!(rows[0][0].contains("123456789"), "{rows:?}");
    let sequence: Vec<_> = rows[2..12].iter().map(|row| (row[3], row[4])).collect();
    assert_eq!(sequence[9], ("9", "4002"), "{rows:?}");
    assert!(rows[12][2].starts_with("BYE"), "{rows:?}");
}

#[test]
fn export_says_what_is_missing_and_leaves_no_half_file() {
    let case = case();
    let output = case.run(&["export", "01234567", "-f", "pcap", "-o", "a.pcap"]);
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains("3 SIP messages and 0 RTP"), "{told}");
    assert!(told.contains("--store raw"), "{told}");
    case.fails(&["export", "ffff0000", "-f", "wav", "-o", "b.wav"], "its state is `none`");
    case.fails(
        &["export", "01234599", "-f", "wav", "-o", "b.wav"],
        "`--format pcap` has its packets",
    );
    case.fails(&["export", "01234567", "-f", "wav", "-o", "a.pcap"], "--force");
    case.fails(&["export", "01234567", "-f", "wav", "-o", "no/such/a.wav"], "make its directory");
    case.prints(&["export", "01234567", "-f", "wav", "-o", "a.pcap", "--force"]);
    assert!(std::fs::read(case.path("a.pcap")).expect("a file").starts_with(b"RIFF"));
    assert_eq!(names(case.directory.path()), ["a.pcap", "calls", "calls.keys"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_index_is_made_again_from_the_segments() {
    let case = case();
    let before = case.prints(&["calls", "--json"]);
    for name in names(&case.archive()) {
        if name.starts_with("index.sqlite") {
            std::fs::remove_file(case.archive().join(name)).expect("removed");
        }
    }
    case.fails(&["calls"], "callspan index rebuild --archive");
    case.prints(&["index", "rebuild"]);
    assert_eq!(case.prints(&["calls", "--json"]), before);
}

#[test]
fn init_makes_an_archive_once() {
    let case = Case { directory: tempfile::tempdir().expect("a directory") };
    let told = case.run(&["init", "calls", "--plaintext"]);
    assert_eq!(told.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&told.stderr).contains("not sealed"));
    assert_eq!(case.prints(&["calls", "--json"]), "");
    case.fails(&["init", "calls", "--plaintext"], "is an archive already");
}
