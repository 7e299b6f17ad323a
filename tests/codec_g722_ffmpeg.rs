//! Our G.722 decoder against FFmpeg's, on FFmpeg's own encoding and on noise.
//!
//! Purpose: an independent implementation of the Recommendation has the last word.
//! Invariants: the test fails, and says what to install, when `ffmpeg` is missing.
//! Non-goals: speed.
//! Sources: ITU-T G.722; FFmpeg's `g722` decoder.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Of test signals.

use std::path::Path;
use std::process::Command;

use callspan::codec::G722Decoder;

fn ffmpeg(arguments: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments)
        .output()
        .expect("this test needs `ffmpeg`; run `make deps`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn samples(path: &Path) -> Vec<i16> {
    let bytes = std::fs::read(path).expect("ffmpeg wrote it");
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// Decodes a file of G.722 by both and compares sample by sample.
fn assert_same(directory: &Path, encoded: &[u8]) {
    let (input, output) = (directory.join("in.g722"), directory.join("out.s16"));
    std::fs::write(&input, encoded).expect("written");
    let (input, output_text) = (input.display().to_string(), output.display().to_string());
    ffmpeg(&["-f", "g722", "-i", &input, "-f", "s16le", &output_text]);
    let theirs = samples(&output);
    let mut ours = vec![0; encoded.len() * 2];
    let mut decoder = G722Decoder::new();
    for (payload, pcm) in encoded.chunks(160).zip(ours.chunks_mut(320)) {
        assert_eq!(decoder.decode(payload, pcm), Ok(payload.len() * 2));
    }
    assert_eq!(ours.len(), theirs.len());
    let differing = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).count();
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max();
    assert_eq!(differing, 0, "of {} samples, the worst by {worst:?}", ours.len());
}

#[test]
fn speech_like_sound_decodes_bit_for_bit_as_in_ffmpeg() {
    let directory = tempfile::tempdir().expect("directory");
    let encoded = directory.path().join("source.g722");
    let source = "aevalsrc='0.4*sin(2*PI*t*(150+40*sin(9*t)))*gt(sin(7*t),-0.4)\
                  +0.2*sin(2*PI*5200*t)*gt(sin(3*t),0.2)+0.02*random(0)':s=16000:d=6";
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        source,
        "-c:a",
        "g722",
        "-f",
        "g722",
        &encoded.display().to_string(),
    ]);
    let encoded = std::fs::read(encoded).expect("ffmpeg wrote it");
    assert!(encoded.len() > 40_000);
    assert_same(directory.path(), &encoded);
}

#[test]
fn any_bytes_decode_bit_for_bit_as_in_ffmpeg() {
    let directory = tempfile::tempdir().expect("directory");
    let mut state = 5u32;
    let noise: Vec<u8> = (0..64_000u32)
        .map(|n| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Runs of one code drive the predictors to their ends.
            if n / 500 % 3 == 0 { (n / 500) as u8 } else { (state >> 24) as u8 }
        })
        .collect();
    assert_same(directory.path(), &noise);
}
