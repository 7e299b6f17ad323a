//! Every codec of the corpus, decoded packet by packet and compared with independent decodes.
//!
//! Purpose: hold `media::Decoder`, before Opus touches the sound, against the corpus's `truth`.
//! Invariants: packets come by callspan's own capture, net and rtp; samples stand at their RTP
//! timestamps, as in the truth.
//! Non-goals: calls, gaps and lags (see `corpus_calls`).
//! Sources: the corpus's README; issue 5's figures (0.95 for waveform coders and GSM, 0.9 for others).
//!
//! The corpus is not part of the repository. It stands beside it (`../shared/corpus`), or where
//! `CALLSPAN_CORPUS` says.

#![cfg(feature = "libavcodec")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use callspan::base::{Frame, FrameSink, FrameSource, Polled};
use callspan::capture::FileSource;
use callspan::codec::interpolate;
use callspan::media::{Codec, Decoder, Meaning, meaning};
use callspan::net::{Decap, Decapped};
use callspan::rtp::extended_seq::{SeqExtender, TimestampExtender};
use callspan::rtp::header::RtpView;
use callspan::rtp::plan::MediaFormat;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Streams with less sound than this have nothing to compare: the line was idle.
const RMS_MIN: f64 = 5.0;

fn corpus() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let place = std::env::var_os("CALLSPAN_CORPUS").map_or_else(beside, PathBuf::from);
    if place.join("manifest.json").is_file() {
        return Some(place);
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have the corpus at {}", place.display());
    eprintln!("NOT CHECKED: there is no corpus; name it with CALLSPAN_CORPUS");
    None
}

/// One stream's packets in order: timestamp, payload type, payload.
#[derive(Default)]
struct Packets {
    sequence: SeqExtender,
    timestamps: TimestampExtender,
    held: BTreeMap<u64, (i64, u8, Vec<u8>)>,
}

/// All that looks like RTP, by SSRC, source and destination, as the manifest writes them.
#[derive(Default)]
struct Streams {
    decap: Decap,
    streams: BTreeMap<(String, String, String), Packets>,
}

impl FrameSink for Streams {
    fn frame(&mut self, frame: Frame<'_>) {
        let Decapped::Udp { flow, payload, .. } = self.decap.frame(&frame) else { return };
        let Ok(view) = RtpView::parse(payload) else { return };
        let key = (view.ssrc().to_string(), flow.source.to_string(), flow.destination.to_string());
        let stream = self.streams.entry(key).or_default();
        let number = stream.sequence.extend(view.seq()).0;
        let timestamp = stream.timestamps.extend(view.timestamp());
        let packet = (timestamp, view.payload_type().0, view.payload().to_vec());
        stream.held.entry(number).or_insert(packet);
    }
}

/// What the manifest says of a payload type: its static meaning, or the one name that is left.
fn format_of(payload_type: u8, codec: &str) -> Option<MediaFormat> {
    if payload_type < 96 {
        return MediaFormat::from_static(payload_type);
    }
    let encoding = codec.split('+').next()?.to_owned();
    let clock_hz = if encoding == "OPUS" { 48_000 } else { 8_000 };
    Some(MediaFormat { payload_type, encoding, clock_hz, channels: 1, fmtp: String::new() })
}

/// Decodes a stream; every sample at its timestamp, in `rate_hz`.
fn decode(packets: &Packets, types: &[u8], codec: &str, rate_hz: u32) -> Vec<i16> {
    let mut placed = Vec::new();
    let mut decoders: Vec<Decoder> = Vec::new();
    let mut first = None;
    let of_type = |wanted: u8| {
        packets.held.values().filter(move |packet| packet.1 == wanted).map(|it| it.2.as_slice())
    };
    for (timestamp, payload_type, payload) in packets.held.values() {
        if !types.contains(payload_type) {
            continue;
        }
        let Some(format) = format_of(*payload_type, codec) else { continue };
        let Meaning::Audio(codec) = meaning(&format) else { continue };
        if decoders.iter().all(|decoder| decoder.codec() != codec) {
            let mut decoder = Decoder::new(codec).expect("a decoder");
            decoder.prepare(of_type(*payload_type).take(20));
            decoders.push(decoder);
        }
        let decoder = decoders.iter_mut().find(|it| it.codec() == codec).expect("made above");
        let mut pcm = Vec::new();
        assert!(decoder.decode(payload, &mut pcm), "{codec:?} {} bytes", payload.len());
        // In the truth silence frames are silent.
        if decoder.silence().is_some() {
            pcm.fill(0);
        }
        let first = *first.get_or_insert(*timestamp);
        let at = (timestamp - first) * i64::from(rate_hz) / i64::from(format.clock_hz);
        let pcm = resampled(codec, &pcm, rate_hz);
        let Ok(at) = usize::try_from(at) else { continue };
        if at < 60 * 60 * rate_hz as usize {
            placed.resize(placed.len().max(at + pcm.len()), 0);
            placed[at..at + pcm.len()].copy_from_slice(&pcm);
        }
    }
    placed
}

fn resampled(codec: Codec, pcm: &[i16], rate_hz: u32) -> Vec<i16> {
    let from_hz = codec.sample_rate_hz();
    let count = pcm.len() * rate_hz as usize / from_hz as usize;
    let mut out = vec![0; count];
    interpolate(pcm, 0.0, f64::from(from_hz) / f64::from(rate_hz), &mut out);
    out
}

fn truth_samples(path: &Path) -> Vec<i16> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", path.to_str().expect("text"), "-f", "s16le", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The best correlation of two signals, one delayed by up to 30 ms against the other.
fn likeness(ours: &[i16], theirs: &[i16], rate_hz: u32) -> f64 {
    let most = i64::from(rate_hz) * 3 / 100;
    let at_lag = |lag: i64| {
        let (mine, wanted) = match usize::try_from(lag) {
            Ok(skip) => (ours.get(skip..), Some(theirs)),
            Err(_) => (Some(ours), theirs.get(lag.unsigned_abs() as usize..)),
        };
        let (mut product, mut one, mut two) = (0.0, 1.0, 1.0);
        for (x, y) in mine.unwrap_or_default().iter().zip(wanted.unwrap_or_default()) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            product += x * y;
            one += x * x;
            two += y * y;
        }
        product / (one * two).sqrt()
    };
    (-most..=most).map(at_lag).fold(0.0, f64::max)
}

fn streams(path: &Path) -> Streams {
    let mut source = FileSource::open(&[path.to_path_buf()], None).expect("a capture");
    let mut streams = Streams::default();
    while source.poll(&mut streams).expect("a capture") != Polled::End {}
    streams
}

fn key(truth: &Value) -> (String, String, String) {
    let field = |name: &str| truth[name].as_str().expect("text").to_owned();
    (field("ssrc"), field("src"), field("dst"))
}

fn compare(corpus: &Path, streams: &Streams, truth: &Value, codec: &str) -> f64 {
    let packets = streams.streams.get(&key(truth)).expect("the manifest's stream");
    let types: Vec<u8> = truth["payload_types"]
        .as_array()
        .expect("types")
        .iter()
        .map(|it| it.as_u64().expect("a type") as u8)
        .collect();
    let rate_hz = truth["rate"].as_u64().expect("a rate") as u32;
    let theirs =
        truth_samples(&corpus.join("truth").join(truth["audio"].as_str().expect("a file")));
    let ours = decode(packets, &types, codec, rate_hz);
    likeness(&ours, &theirs, rate_hz)
}

#[test]
fn every_stream_sounds_as_its_independent_decode() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(corpus.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    let mut faults = Vec::new();
    let mut compared: BTreeMap<String, usize> = BTreeMap::new();
    for capture in manifest["captures"].as_array().expect("captures") {
        let name = capture["name"].as_str().expect("a name");
        let truths = capture["truth"].as_array().into_iter().flatten();
        let heard = truths.filter(|truth| {
            truth["audio"].is_string()
                && truth["srtp"].is_null()
                && truth["rms"].as_f64().is_some_and(|rms| rms >= RMS_MIN)
        });
        let mut found = None;
        for truth in heard {
            let found = found.get_or_insert_with(|| streams(&corpus.join("captures").join(name)));
            let codec = truth["codec"].as_str().expect("a codec");
            let wanted = match codec.trim_start_matches("AAL2-") {
                "PCMU" | "PCMA" | "G722" | "GSM" => 0.95,
                name if name.starts_with("G726") => 0.95,
                _ => 0.9,
            };
            let result = compare(&corpus, found, truth, codec);
            eprintln!("{result:.4} {name} {codec}");
            *compared.entry(codec.to_owned()).or_default() += 1;
            if result < wanted {
                faults.push(format!("{name} {} {codec}: {result:.3}", truth["ssrc"]));
            }
        }
    }
    assert!(faults.is_empty(), "of {compared:?}:\n{}", faults.join("\n"));
    for codec in ["PCMU", "PCMA", "G722", "OPUS", "G729", "GSM", "ILBC", "G726-16", "AAL2-G726-40"]
    {
        assert!(compared.contains_key(codec), "{codec} was not compared: {compared:?}");
    }
}

#[test]
fn the_packing_of_g726_is_told_by_the_sound_whatever_sdp_says() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(corpus.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    let captures = manifest["captures"].as_array().expect("captures");
    let name = "call-g726-8-variants.pcap";
    let capture = captures.iter().find(|it| it["name"] == name).expect("listed");
    let found = streams(&corpus.join("captures").join(name));
    for truth in capture["truth"].as_array().expect("truths") {
        let right = truth["codec"].as_str().expect("a codec");
        let wrong = match right.strip_prefix("AAL2-") {
            Some(name) => name.to_owned(),
            None => format!("AAL2-{right}"),
        };
        let result = compare(&corpus, &found, truth, &wrong);
        eprintln!("{result:.4} {right} under the name of {wrong}");
        assert!(result >= 0.95, "{right} under the name of {wrong}: {result}");
    }
}
