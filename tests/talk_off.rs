//! Speech is no key: the tone detector over voices that speak the documentation.
//!
//! Purpose: talk-off on hours of speech, made by espeak-ng in voices of many pitches, and on the
//! sound of real calls, where the keys that were pressed are known.
//! Invariants: the same text and voices every time; no key is found in any of it.
//! Non-goals: Q.24's limits (see `codec::dtmf_tones`).
//! Sources: ITU-T Q.24 §2.3 (digit simulation by speech), Bellcore's and Mitel's tapes (30 minutes).

use callspan::codec::dtmf_tones::DtmfTones;
use callspan::codec::tone_bank::ToneBank;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Voice, words a minute, pitch.
const VOICES: [(&str, u32, u32); 12] = [
    ("en-us", 175, 50),
    ("en-gb+f4", 130, 75),
    ("de", 200, 25),
    ("de+f3", 175, 65),
    ("fr+f5", 175, 90),
    ("es+m7", 230, 35),
    ("it", 160, 45),
    ("pl", 175, 60),
    ("nl+m3", 190, 20),
    ("pt+f2", 175, 80),
    ("sv+croak", 150, 50),
    ("en-us+whisper", 175, 50),
];

/// Calls in whose sound keys were pressed: the stream of the decode, and the keys that a spectrogram
/// shows.
const PRESSED: [(&str, &str); 3] = [
    ("call-dtmf-inband-cn19.pcapng.01.", "123456789*0#"),
    // Through G.729, a trunk dials on.
    ("call-tcp-delayed-offer-183.pcapng.01.", "1"),
    // What leaked of keys that were also sent as events, before the gateway cut them off.
    ("rtp-only-opus-dtmf-sll.pcap.01.", "2017"),
];

/// 16-bit mono samples at 8 kHz of any sound file.
fn samples(file: &Path) -> Vec<i16> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-ar", "8000", "-ac", "1", "-f", "s16le", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn keys(pcm: &[i16]) -> String {
    let (mut bank, mut tones) = (ToneBank::new(8_000).expect("a rate"), DtmfTones::default());
    let mut keys = String::new();
    bank.read(pcm, |reading| keys.extend(tones.on_reading(reading).map(|it| it.digit)));
    keys.extend(tones.on_silence().map(|it| it.digit));
    keys
}

/// Some voice says a key by chance: what is asked is that it is rarer than once in two hours of speech without
/// a pause. (The tapes of Bellcore TR-TSY-000763 allow far more in half an hour.)
#[test]
fn hours_of_speech_have_hardly_a_key_in_them() {
    let has_voice = Command::new("espeak-ng").arg("--version").stdout(Stdio::null()).status();
    if !has_voice.is_ok_and(|status| status.success()) {
        eprintln!("NOT CHECKED: espeak-ng is not installed");
        return;
    }
    // Texts that every Debian has and nobody changes: another text is another test.
    let licenses = Path::new("/usr/share/common-licenses");
    let directory = tempfile::tempdir().expect("a directory");
    let (text, spoken) = (directory.path().join("text"), directory.path().join("spoken.wav"));
    let words: Vec<String> = ["GPL-3", "Apache-2.0"]
        .iter()
        .map(|name| std::fs::read_to_string(licenses.join(name)).expect("base-files has it"))
        .collect();
    std::fs::write(&text, words.concat()).expect("written");
    let (mut seconds, mut said) = (0, Vec::new());
    for (voice, speed, pitch) in VOICES {
        let status = Command::new("espeak-ng")
            .args(["-v", voice, "-s", &speed.to_string(), "-p", &pitch.to_string(), "-w"])
            .arg(&spoken)
            .arg("-f")
            .arg(&text)
            .status()
            .expect("espeak-ng");
        assert!(status.success(), "{voice}");
        let pcm = samples(&spoken);
        seconds += pcm.len() / 8_000;
        let keys = keys(&pcm);
        if !keys.is_empty() {
            said.push(format!("{keys} by {voice} at {speed}, pitch {pitch}"));
        }
    }
    let most = seconds / (2 * 3_600);
    assert!(said.len() <= most, "{said:?} in {seconds} s");
    assert!(seconds > 2 * 3_600, "only {seconds} s were spoken");
}

#[test]
fn the_sound_of_real_calls_has_the_keys_that_were_pressed_and_no_others() {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let corpus = std::env::var_os("CALLSPAN_CORPUS").map_or_else(beside, PathBuf::from);
    let Ok(folder) = std::fs::read_dir(corpus.join("truth")) else {
        eprintln!("NOT CHECKED: there is no corpus; name it with CALLSPAN_CORPUS");
        return;
    };
    let mut faults = Vec::new();
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pressed = PRESSED.iter().find(|(stream, _)| name.starts_with(stream));
        let (found, expected) = (keys(&samples(&entry.path())), pressed.map_or("", |it| it.1));
        if found != expected {
            faults.push(format!("{name}: {found} and not {expected}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
