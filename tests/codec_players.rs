//! Which players play the two-stream Ogg as it is meant: caller left, callee right, in time.
//!
//! Purpose: `opusdec`, FFmpeg and Chromium decode our file with both parties where they belong,
//! canned silence in the first stream included.
//! Invariants: the test fails, and says what to install, when a player is missing.
//! Non-goals: sound quality.
//! Sources: RFC 7845 §4 (pre-skip, end trimming), §5.1.1 (channel mapping).
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Of test signals.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use callspan::codec::{
    EncoderSettings, OggOpusHead, OggOpusWriter, OpusVoiceEncoder, silence_packet,
};

const RATE: usize = 48_000;
/// What is played: just under six seconds, so that the end must be trimmed.
const TOTAL_SAMPLES: usize = 6 * RATE - 100;

/// A tone of one party, in seconds and Hz.
struct Tone {
    from_s: f64,
    to_s: f64,
    frequency_hz: f64,
}

/// The left party speaks, is silent (canned) for two seconds, and speaks again.
const LEFT: [Tone; 2] = [
    Tone { from_s: 1.0, to_s: 2.0, frequency_hz: 700.0 },
    Tone { from_s: 4.0, to_s: 5.0, frequency_hz: 700.0 },
];
/// The right party speaks into that silence.
const RIGHT: [Tone; 1] = [Tone { from_s: 2.5, to_s: 3.5, frequency_hz: 1_300.0 }];
/// Packets of the left stream that are canned silence, 2.1 s to 3.9 s.
const CANNED: std::ops::Range<usize> = 105..195;

fn sound(tones: &[Tone], rate: u32, packet: usize) -> Vec<i16> {
    let samples = rate as usize / 50;
    (0..samples)
        .map(|sample| {
            let t = (packet * samples + sample) as f64 / f64::from(rate);
            tones.iter().filter(|tone| (tone.from_s..tone.to_s).contains(&t)).fold(0, |_, tone| {
                (9_000.0 * (std::f64::consts::TAU * tone.frequency_hz * t).sin()) as i16
            })
        })
        .collect()
}

/// Writes the file that all players get, one for each band.
fn write_file(directory: &Path, sample_rate_hz: u32, bitrate: u32) -> PathBuf {
    let settings = EncoderSettings { sample_rate_hz, bitrate, complexity: 0 };
    let mut left = OpusVoiceEncoder::new(settings).expect("encoder");
    let mut right = OpusVoiceEncoder::new(settings).expect("encoder");
    let silence = silence_packet(settings).expect("silence");
    let path = directory.join(format!("{sample_rate_hz}.opus"));
    let head = OggOpusHead {
        serial: 7,
        pre_skip: u16::try_from(left.lookahead_48k()).expect("short"),
        input_sample_rate: sample_rate_hz,
        comments: &[("TITLE", "left 700 Hz, right 1300 Hz")],
    };
    let file = std::fs::File::create(&path).expect("file");
    let mut writer = OggOpusWriter::new(file, head).expect("header");
    let (mut left_out, mut right_out) = ([0; 1_276], [0; 1_276]);
    for packet in 0..301 {
        let pcm = sound(&RIGHT, sample_rate_hz, packet);
        let right_len = right.encode_20ms(&pcm, &mut right_out).expect("encoded");
        let pcm = sound(&LEFT, sample_rate_hz, packet);
        let left_packet = if CANNED.contains(&packet) {
            left.reset();
            &silence[..]
        } else {
            let left_len = left.encode_20ms(&pcm, &mut left_out).expect("encoded");
            &left_out[..left_len]
        };
        writer.push_20ms(left_packet, &right_out[..right_len]).expect("packet");
    }
    writer.finish(TOTAL_SAMPLES as u64).expect("end");
    path
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("this test needs `{program}` ({error}); run `make deps`"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed: {message}");
    output
}

/// Interleaved samples to left and right.
fn channels(bytes: &[u8]) -> [Vec<f64>; 2] {
    let sample = |pair: &[u8]| f64::from(i16::from_le_bytes([pair[0], pair[1]]));
    [0, 2].map(|offset| bytes.chunks_exact(4).map(|frame| sample(&frame[offset..])).collect())
}

fn rms(samples: &[f64]) -> f64 {
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

/// Level of one frequency, as the RMS of that tone.
fn level_at(samples: &[f64], frequency_hz: f64) -> f64 {
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = std::f64::consts::TAU * frequency_hz * n as f64 / RATE as f64;
        real += sample * angle.cos();
        imaginary += sample * angle.sin();
    }
    (real * real + imaginary * imaginary).sqrt() * std::f64::consts::SQRT_2 / samples.len() as f64
}

/// Index where the tone has reached half its level, over windows of 5 ms.
fn onset(samples: &[f64], from: usize) -> usize {
    let window = RATE / 200;
    from + samples[from..]
        .windows(window)
        .step_by(24)
        .position(|window| rms(window) > 3_180.0)
        .expect("the tone begins")
        * 24
        + window / 2
}

fn assert_plays(player: &str, decoded: &[Vec<f64>; 2]) {
    for (side, samples) in ["left", "right"].iter().zip(decoded) {
        assert_eq!(samples.len(), TOTAL_SAMPLES, "{player}: length of {side}");
    }
    let [left, right] = decoded;
    for (name, samples, tones, others) in
        [("left", left, &LEFT[..], 1_300.0), ("right", right, &RIGHT[..], 700.0)]
    {
        for tone in tones {
            let seconds = |s: f64| (s * RATE as f64) as usize;
            let middle = &samples[seconds(tone.from_s + 0.1)..seconds(tone.to_s - 0.1)];
            let level = level_at(middle, tone.frequency_hz);
            assert!((5_000.0..7_500.0).contains(&level), "{player} {name}: {level}");
            let crosstalk = level_at(middle, others);
            assert!(crosstalk < 60.0, "{player} {name}: {crosstalk} of the other party");
            let expected = seconds(tone.from_s);
            let found = onset(samples, seconds(tone.from_s - 0.5));
            let off_ms = (found as f64 - expected as f64) * 1_000.0 / RATE as f64;
            println!("{player} {name}: onset {off_ms:+.1} ms");
            assert!(off_ms.abs() <= 5.0, "{player} {name}: the tone begins {off_ms} ms off");
        }
    }
    for (name, samples, from_s, to_s) in [
        ("left before", left, 0.1, 0.95),
        ("left in canned silence", left, 2.2, 3.95),
        ("left at the end", left, 5.2, 5.99),
        ("right before", right, 0.1, 2.45),
        ("right after", right, 3.7, 5.99),
    ] {
        let level = rms(&samples[(from_s * RATE as f64) as usize..(to_s * RATE as f64) as usize]);
        println!("{player} {name}: rms {level:.1}");
        assert!(level < 60.0, "{player}, {name}: {level} where silence should be");
    }
}

/// The narrow and the wide band as they are recorded by default, and the full band.
const BANDS: [(u32, u32); 3] = [(8_000, 16_000), (16_000, 24_000), (48_000, 32_000)];

#[test]
fn opusdec_plays_caller_left_and_callee_right_in_time() {
    let directory = tempfile::tempdir().expect("directory");
    for (rate, bitrate) in BANDS {
        let input = write_file(directory.path(), rate, bitrate);
        let output = directory.path().join("out.raw");
        let (input, output) = (input.display().to_string(), output.display().to_string());
        run("opusdec", &["--quiet", "--no-dither", "--rate", "48000", &input, &output]);
        let bytes = std::fs::read(&output).expect("decoded");
        // A name other than .wav still gives a RIFF header from some versions.
        let bytes = if bytes.starts_with(b"RIFF") { &bytes[44..] } else { &bytes[..] };
        assert_plays("opusdec", &channels(bytes));
    }
}

#[test]
fn ffmpeg_plays_caller_left_and_callee_right_in_time() {
    let directory = tempfile::tempdir().expect("directory");
    for (rate, bitrate) in BANDS {
        let input = write_file(directory.path(), rate, bitrate).display().to_string();
        let output = run("ffmpeg", &["-v", "error", "-i", &input, "-f", "s16le", "-"]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "ffmpeg complains");
        assert_plays("ffmpeg", &channels(&output.stdout));
    }
}

#[test]
fn ffprobe_sees_one_opus_stream_of_two_channels_and_its_length() {
    let directory = tempfile::tempdir().expect("directory");
    let input = write_file(directory.path(), 8_000, 16_000).display().to_string();
    let entries = "stream=codec_name,channels,channel_layout,start_pts:format=duration";
    let arguments = ["-v", "error", "-show_entries", entries, "-of", "default=nw=1", &input];
    let output = run("ffprobe", &arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in ["codec_name=opus", "channels=2", "channel_layout=stereo"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let duration = text.lines().find_map(|line| line.strip_prefix("duration=")).expect("duration");
    let duration: f64 = duration.parse().expect("a number");
    // FFprobe counts the pre-skip of 6.5 ms in or not, by version.
    assert!((duration - TOTAL_SAMPLES as f64 / RATE as f64).abs() < 0.01, "{duration} s");
}

/// Decodes in the page and writes the samples into it, in base64.
const PAGE: &str = r"<!doctype html><html><body><pre id=out>waiting</pre><script>
const out = document.getElementById('out');
// An open inner document holds back the load event, upon which Chromium prints the page.
const inner = document.body.appendChild(document.createElement('iframe'));
inner.contentDocument.open();
const binary = atob('@DATA@');
const bytes = Uint8Array.from(binary, letter => letter.charCodeAt(0));
new OfflineAudioContext(2, 1, 48000).decodeAudioData(bytes.buffer).then(audio => {
  const frames = new Int16Array(audio.length * 2);
  for (let channel = 0; channel < 2; channel++) {
    const samples = audio.getChannelData(audio.numberOfChannels === 2 ? channel : 9);
    for (let n = 0; n < audio.length; n++) {
      frames[2 * n + channel] = Math.max(-32768, Math.min(32767, Math.round(samples[n] * 32768)));
    }
  }
  const raw = new Uint8Array(frames.buffer);
  let text = '';
  for (let n = 0; n < raw.length; n += 8192) {
    text += String.fromCharCode.apply(null, raw.subarray(n, n + 8192));
  }
  out.textContent = 'samples:' + btoa(text) + ':end';
}).catch(error => {
  out.textContent = 'error: ' + error;
}).then(() => { inner.contentDocument.close(); });
</script></body></html>";

#[test]
fn chromium_plays_caller_left_and_callee_right_in_time() {
    let directory = tempfile::tempdir().expect("directory");
    let input = write_file(directory.path(), 8_000, 16_000);
    let encoded = base64(&std::fs::read(input).expect("file"));
    let page = directory.path().join("page.html");
    std::fs::write(&page, PAGE.replace("@DATA@", &encoded)).expect("page");
    let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
    let url = format!("file://{}", page.display());
    let output = run(
        "chromium",
        &[
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &profile,
            "--dump-dom",
            &url,
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let samples = text
        .split_once("id=\"out\">samples:")
        .and_then(|(_, rest)| rest.split_once(":end"))
        .unwrap_or_else(|| panic!("chromium did not decode: {}", text.get(..300).unwrap_or(&text)))
        .0;
    assert_plays("chromium", &channels(&from_base64(samples)));
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let code = (word >> (18 - 6 * place)) as usize & 63;
            text.push(if place > group.len() { '=' } else { char::from(ALPHABET[code]) });
        }
    }
    text
}

fn from_base64(text: &str) -> Vec<u8> {
    let mut places = [0u8; 256];
    for (code, letter) in (0u8..).zip(ALPHABET) {
        places[usize::from(*letter)] = code;
    }
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').collect();
    let mut bytes = Vec::new();
    for group in letters.chunks(4) {
        let word = group.iter().enumerate().fold(0u32, |word, (n, letter)| {
            word | u32::from(places[usize::from(*letter)]) << (18 - 6 * n)
        });
        bytes.extend(&word.to_be_bytes()[1..group.len()]);
    }
    bytes
}
