//! Speech coded by other programs, decoded here and by others again.
//!
//! Purpose: hold every speech coder against an encoder and, where there is one, a decoder of
//! another make: sox (libgsm, opencore-amr), libspeex, ffmpeg's encoders.
//! Invariants: payloads are framed here as their RFCs draw them.
//! Non-goals: real phones (see `corpus_codecs`).
//! Sources: RFC 3551 §4.5, RFC 4867 §4.3 and §4.4, RFC 5574 §3.

#![cfg(feature = "libavcodec")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use callspan::media::{Decoder, Meaning, meaning};
use callspan::rtp::plan::MediaFormat;
use std::path::Path;
use std::process::{Command, Stdio};

fn run(directory: &Path, words: &[&str]) -> Vec<u8> {
    let output = Command::new(words[0])
        .current_dir(directory)
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} is installed (tests/lab/deps): {error}", words[0]));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    output.stdout
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Seven seconds of a voice, as `in.wav` at a rate, and its samples.
fn voice(directory: &Path, rate_hz: u32) -> Vec<i16> {
    voice_of(directory, "en", rate_hz)
}

/// The same sentence by another voice of espeak-ng.
fn voice_of(directory: &Path, name: &str, rate_hz: u32) -> Vec<i16> {
    let text = "The quick brown fox jumps over the lazy dog. Please call again tomorrow, at half past nine.";
    run(directory, &["espeak-ng", "-v", name, "-s", "150", "-w", "voice.wav", text]);
    let rate = rate_hz.to_string();
    run(directory, &["sox", "-D", "-G", "voice.wav", "-r", &rate, "-b", "16", "-c", "1", "in.wav"]);
    raw(directory, "in.wav", rate_hz)
}

/// What sox makes of a file.
fn raw(directory: &Path, file: &str, rate_hz: u32) -> Vec<i16> {
    let rate = rate_hz.to_string();
    samples(&run(
        directory,
        &["sox", "-D", file, "-r", &rate, "-c", "1", "-b", "16", "-e", "signed", "-t", "raw", "-"],
    ))
}

fn decode<'a>(
    (encoding, clock_hz, fmtp): (&str, u32, &str),
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<i16> {
    let (encoding, fmtp) = (encoding.to_owned(), fmtp.to_owned());
    let format = MediaFormat { payload_type: 96, encoding, clock_hz, channels: 1, fmtp };
    let Meaning::Audio(codec) = meaning(&format) else { panic!("{format:?} is decoded") };
    let mut decoder = Decoder::new(codec).expect("a decoder");
    let payloads: Vec<&[u8]> = payloads.into_iter().collect();
    decoder.prepare(payloads.iter().take(20).copied());
    let (mut all, mut pcm) = (Vec::new(), Vec::new());
    for payload in payloads {
        assert!(decoder.decode(payload, &mut pcm), "{format:?}: {payload:?}");
        all.extend_from_slice(&pcm);
    }
    all
}

/// The best correlation of two signals within a delay of 40 ms at 8 kHz, either way.
fn likeness(ours: &[i16], theirs: &[i16]) -> f64 {
    let at_lag = |lag: i64| {
        let skip = lag.unsigned_abs() as usize;
        let (one, two) = if lag < 0 { (0, skip) } else { (skip, 0) };
        let (mut product, mut mine, mut wanted) = (0.0, 1.0, 1.0);
        for (x, y) in ours.iter().skip(one).zip(theirs.iter().skip(two)) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            product += x * y;
            mine += x * x;
            wanted += y * y;
        }
        product / (mine * wanted).sqrt()
    };
    (-320..=320).map(at_lag).fold(0.0, f64::max)
}

#[track_caller]
fn alike(what: &str, ours: &[i16], theirs: &[i16], wanted: f64) {
    assert!(ours.len().abs_diff(theirs.len()) < 2_000, "{} for {}", ours.len(), theirs.len());
    let found = likeness(ours, theirs);
    eprintln!("{found:.4} {what}");
    assert!(found >= wanted, "{what}: {found}");
}

#[test]
fn gsm_as_libgsm_decodes_it() {
    let place = tempfile::tempdir().expect("a directory");
    voice(place.path(), 8_000);
    run(place.path(), &["sox", "in.wav", "out.gsm"]);
    let coded = std::fs::read(place.path().join("out.gsm")).expect("encoded");
    let ours = decode(("GSM", 8_000, ""), coded.chunks_exact(66));
    alike("GSM", &ours, &raw(place.path(), "out.gsm", 8_000), 0.999);
}

#[test]
fn g726_in_both_packings_whatever_sdp_says() {
    let place = tempfile::tempdir().expect("a directory");
    let voice = voice(place.path(), 8_000);
    for (bits, names) in [
        (2, ["G726-16", "AAL2-G726-16"]),
        (3, ["G726-24", "AAL2-G726-24"]),
        (4, ["G726-32", "AAL2-G726-32"]),
        (5, ["G726-40", "AAL2-G726-40"]),
    ] {
        for packing in ["g726", "g726le"] {
            let rate = format!("{}", bits * 8_000);
            let words = [
                "ffmpeg", "-v", "error", "-y", "-i", "in.wav", "-c:a", packing, "-b:a", &rate,
                "-f", packing, "out",
            ];
            run(place.path(), &words);
            let coded = std::fs::read(place.path().join("out")).expect("encoded");
            for name in names {
                let ours = decode((name, 8_000, ""), coded.chunks_exact(20 * bits));
                // Two bits a sample are no more than this like what they were made of.
                let wanted = [0.96, 0.98, 0.995, 0.998][bits - 2];
                alike(&format!("{packing} as {name}"), &ours, &voice, wanted);
            }
        }
    }
}

/// Women and men in several languages: the packing is told from the first words on.
#[test]
fn the_packing_of_g726_is_told_for_any_voice() {
    let place = tempfile::tempdir().expect("a directory");
    for name in ["en+f3", "pl", "de", "es+f4", "cs", "it+m3"] {
        voice_of(place.path(), name, 8_000);
        for (packing, right, wrong) in
            [("g726", "AAL2-G726-32", "G726-32"), ("g726le", "G726-32", "AAL2-G726-32")]
        {
            let words = [
                "ffmpeg", "-v", "error", "-y", "-i", "in.wav", "-c:a", packing, "-b:a", "32000",
                "-f", packing, "out",
            ];
            run(place.path(), &words);
            let coded = std::fs::read(place.path().join("out")).expect("encoded");
            let named_right = decode((right, 8_000, ""), coded.chunks_exact(80));
            let named_wrong = decode((wrong, 8_000, ""), coded.chunks_exact(80));
            alike(&format!("{name}, {packing}"), &named_wrong, &named_right, 0.99);
        }
    }
}

#[test]
fn g723_of_both_rates() {
    let place = tempfile::tempdir().expect("a directory");
    let voice = voice(place.path(), 8_000);
    run(
        place.path(),
        &[
            "ffmpeg", "-v", "error", "-i", "in.wav", "-c:a", "g723_1", "-b:a", "6300", "-f",
            "g723_1", "out",
        ],
    );
    let coded = std::fs::read(place.path().join("out")).expect("encoded");
    let ours = decode(("G723", 8_000, ""), coded.chunks_exact(24));
    alike("G.723.1", &ours, &voice, 0.7);
    // Two frames in a packet, and the same again, frame by frame, through ffmpeg.
    let pairs = decode(("G723", 8_000, ""), coded.chunks_exact(48));
    assert!(pairs[..] == ours[..pairs.len()]);
    let theirs = run(
        place.path(),
        &["ffmpeg", "-v", "error", "-f", "g723_1", "-i", "out", "-f", "s16le", "-"],
    );
    alike("G.723.1 by ffmpeg", &ours, &samples(&theirs), 0.999);
}

#[test]
fn speex_as_libspeex_decodes_it() {
    let place = tempfile::tempdir().expect("a directory");
    for rate_hz in [8_000, 16_000, 32_000] {
        voice(place.path(), rate_hz);
        for frames in ["1", "3"] {
            run(
                place.path(),
                &[
                    "ffmpeg",
                    "-v",
                    "error",
                    "-y",
                    "-i",
                    "in.wav",
                    "-c:a",
                    "libspeex",
                    "-frames_per_packet",
                    frames,
                    "out.ogg",
                ],
            );
            let coded = std::fs::File::open(place.path().join("out.ogg")).expect("encoded");
            let mut reader = ogg::PacketReader::new(coded);
            let mut packets = Vec::new();
            while let Some(packet) = reader.read_packet().expect("Ogg") {
                packets.push(packet.data);
            }
            let speech = packets.iter().skip(2).map(Vec::as_slice);
            let ours = decode(("SPEEX", rate_hz, ""), speech);
            let words =
                ["ffmpeg", "-v", "error", "-c:a", "libspeex", "-i", "out.ogg", "-f", "s16le", "-"];
            let theirs = samples(&run(place.path(), &words));
            alike(&format!("Speex at {rate_hz}, {frames} frames"), &ours, &theirs, 0.95);
        }
    }
}

/// Bits of a frame; those of type 15, "nothing was sent", have none.
fn bits_of(header: u8, lengths: &[usize]) -> usize {
    lengths.get(usize::from(header >> 3 & 15)).copied().unwrap_or(0)
}

/// Frames of a storage file: what follows its magic, cut by the frame types' lengths.
fn stored_frames<'a>(file: &'a [u8], magic: &[u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = file.strip_prefix(magic).expect("the magic of RFC 4867 §5.1");
    let mut frames = Vec::new();
    while let Some(header) = rest.first() {
        let (frame, later) = rest.split_at(1 + bits_of(*header, lengths).div_ceil(8));
        frames.push(frame);
        rest = later;
    }
    frames
}

/// sox decodes AMR-WB and does not encode it: libvo-amrwbenc does, with its silence frames.
const ENCODE_WIDE: &str = r##"
import ctypes, sys, wave
coder = ctypes.CDLL("libvo-amrwbenc.so.0")
coder.E_IF_init.restype = ctypes.c_void_p
state = ctypes.c_void_p(coder.E_IF_init())
voice = wave.open("in.wav", "rb")
with open(sys.argv[2], "wb") as out:
    out.write(b"#!AMR-WB\n")
    frame = ctypes.create_string_buffer(100)
    while len(sound := voice.readframes(320)) == 640:
        length = coder.E_IF_encode(state, int(sys.argv[1]), sound, frame, 1)
        out.write(frame.raw[:length])
"##;

const NARROW_BITS: [usize; 9] = [95, 103, 118, 134, 148, 159, 204, 244, 39];
const WIDE_BITS: [usize; 10] = [132, 177, 253, 285, 317, 365, 397, 461, 477, 40];

/// Stored frames as one octet-aligned payload (RFC 4867 §4.4).
fn aligned(frames: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0xf0];
    for (number, frame) in frames.iter().enumerate() {
        payload.push(frame[0] & 0x7c | if number + 1 < frames.len() { 0x80 } else { 0 });
    }
    for frame in frames {
        payload.extend(&frame[1..]);
    }
    payload
}

/// The same as a bandwidth-efficient one (§4.3).
fn efficient(frames: &[&[u8]], lengths: &[usize]) -> Vec<u8> {
    let bit = |octet: u8, at: usize| octet >> (7 - at % 8) & 1;
    let mut bits = vec![1u8; 4];
    for (number, frame) in frames.iter().enumerate() {
        bits.push(u8::from(number + 1 < frames.len()));
        bits.extend((1..6).map(|at| bit(frame[0], at)));
    }
    for frame in frames {
        let count = bits_of(frame[0], lengths);
        bits.extend((0..count).map(|at| bit(frame[1 + at / 8], at)));
    }
    bits.resize(bits.len().next_multiple_of(8), 0);
    bits.chunks(8).map(|octet| octet.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

#[test]
fn amr_of_every_mode_in_both_layouts_as_opencore_decodes_it() {
    let place = tempfile::tempdir().expect("a directory");
    for (kind, name, rate_hz, magic, lengths) in [
        ("amr-nb", "AMR", 8_000, &b"#!AMR\n"[..], &NARROW_BITS[..]),
        ("amr-wb", "AMR-WB", 16_000, &b"#!AMR-WB\n"[..], &WIDE_BITS[..]),
    ] {
        voice(place.path(), rate_hz);
        for mode in 0..lengths.len() - 1 {
            let file = format!("out.{kind}");
            let mode_number = mode.to_string();
            if kind == "amr-nb" {
                run(place.path(), &["sox", "in.wav", "-C", &mode_number, &file]);
            } else {
                run(place.path(), &["python3", "-c", ENCODE_WIDE, &mode_number, &file]);
            }
            let theirs = raw(place.path(), &file, rate_hz);
            let stored = std::fs::read(place.path().join(&file)).expect("encoded");
            let frames = stored_frames(&stored, magic, lengths);
            for count in [1, 3] {
                let octets: Vec<_> = frames.chunks(count).map(aligned).collect();
                let dense: Vec<_> = frames.chunks(count).map(|it| efficient(it, lengths)).collect();
                let slices = |all: &'static [Vec<u8>]| all.iter().map(Vec::as_slice);
                let (octets, dense): (&'static [_], &'static [_]) = (octets.leak(), dense.leak());
                let ours = decode((name, rate_hz, "octet-align=1"), slices(octets));
                alike(&format!("{name} mode {mode}, {count} a packet"), &ours, &theirs, 0.95);
                assert!(decode((name, rate_hz, ""), slices(dense)) == ours, "dense");
                // Announced as one, sent as the other.
                assert!(decode((name, rate_hz, ""), slices(octets)) == ours, "octets as dense");
                let announced_aligned = decode((name, rate_hz, "octet-align=1"), slices(dense));
                assert!(announced_aligned == ours, "dense as octets");
            }
        }
    }
}

#[test]
fn silence_frames_are_quiet_noise_and_never_a_burst() {
    let mut speech = vec![0x55; 10];
    let mut payloads: Vec<Vec<u8>> = vec![speech.clone()];
    for gain in 0..32u8 {
        payloads.push(vec![0x12, gain << 1]);
        speech.truncate(10);
        speech.extend([0xff, gain << 1]);
        payloads.push(speech.clone());
    }
    for payload in payloads.iter().skip(1) {
        let pcm = decode(("G729", 8_000, "annexb=yes"), [payload.as_slice()]);
        let noise = &pcm[pcm.len() - 80..];
        let energy: f64 = noise.iter().map(|it| f64::from(*it).powi(2)).sum();
        assert!((energy / 80.0).sqrt() < 2_600.0, "{payload:?}");
    }
}
