//! Every seed and every past finding of the fuzzers, replayed.
//!
//! Purpose: what once broke us stays fixed, and the bodies run in `cargo test` on stable Rust.
//! Invariants: each target of fuzz/fuzz_targets has a body here and at least one file of corpus.
//! Non-goals: finding anything new (see `fuzz/run`).
//! Sources: style.md §6 "fuzz".

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

type Body = fn(&[u8]);

const BODIES: [(&str, Body); 23] = [
    ("capture_block", |data| callspan::capture::fuzz::block(data)),
    ("capture_files", |data| callspan::capture::fuzz::files(data)),
    ("codec_amr", |data| callspan::codec::fuzz::amr_payload(data)),
    ("codec_decoders", |data| callspan::codec::fuzz::decoders(data)),
    ("codec_opus_packet", |data| callspan::codec::fuzz::opus_packet(data)),
    ("codec_speech", |data| callspan::codec::fuzz::speech(data)),
    ("net_decap", |data| callspan::net::fuzz::decap(data)),
    ("net_hep", |data| callspan::net::fuzz::hep(data)),
    ("net_tcp", |data| callspan::net::fuzz::tcp(data)),
    ("rtcp_packet", |data| callspan::rtp::fuzz::rtcp(data)),
    ("rtp_red", |data| callspan::rtp::fuzz::red(data)),
    ("rtp_packet", |data| callspan::rtp::fuzz::rtp(data)),
    ("rtp_udptl", |data| callspan::rtp::fuzz::udptl(data)),
    ("rtp_srtp", |data| callspan::rtp::fuzz::srtp(data)),
    ("sip_dtmf_body", |data| callspan::sip::fuzz::dtmf_body(data)),
    ("sip_framing", |data| callspan::sip::fuzz::framing(data)),
    ("sip_message", |data| callspan::sip::fuzz::message(data)),
    ("sip_sdp", |data| callspan::sip::fuzz::sdp(data)),
    ("sip_websocket", |data| callspan::sip::fuzz::websocket(data)),
    ("tls_dtls", |data| callspan::tls::fuzz::dtls(data)),
    ("tls_key_log", |data| callspan::tls::fuzz::key_log(data)),
    ("tls_stream", |data| callspan::tls::fuzz::stream(data)),
    ("work_pipeline", |data| callspan::work::fuzz::pipeline(data)),
];

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz_folder().join("corpus").join(target);
    let mut found: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder"))
        .map(|entry| {
            let data = fs::read(entry.path()).expect("a readable file");
            (entry.file_name().to_string_lossy().into_owned(), data)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_target_has_a_body_and_a_corpus() {
    let targets: BTreeSet<String> = fs::read_dir(fuzz_folder().join("fuzz_targets"))
        .expect("fuzz/fuzz_targets")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(String::from))
        .collect();
    let bodies: BTreeSet<String> = BODIES.iter().map(|(target, _)| (*target).into()).collect();
    assert_eq!(targets, bodies);
    for (target, _) in BODIES {
        assert!(!corpus(target).is_empty(), "fuzz/corpus/{target} is empty");
    }
}

#[test]
fn the_corpus_holds_for_every_body() {
    for (target, body) in BODIES {
        for (name, data) in corpus(target) {
            eprintln!("{target}/{name}"); // shown only when it fails
            body(&data);
        }
    }
}

#[test]
fn every_seed_cut_short_or_with_one_bit_turned_holds_too() {
    for (target, body) in BODIES {
        // Costly bodies (each cuts its input everywhere itself) get fewer cases.
        let step = |length: usize| (length / 48).max(1);
        for (name, mut data) in corpus(target) {
            for end in (0..data.len()).step_by(step(data.len())) {
                eprintln!("{target}/{name} cut at {end}");
                body(&data[..end]);
            }
            for at in (0..data.len()).step_by(step(data.len())) {
                let bit = 1 << (at % 8);
                data[at] ^= bit;
                eprintln!("{target}/{name} with bit {bit} of byte {at} turned");
                body(&data);
                data[at] ^= bit;
            }
        }
    }
}
