//! What benches have in common: synthetic calls, speech, capture files, archives.
//!
//! Purpose: the same traffic in every bench and in `tests/hot_no_alloc.rs`.
//! Invariants: everything is made of numbers, so that two runs measure the same bytes; `cargo test`
//! runs small sizes, `cargo bench` full ones.
//! Non-goals: malformed traffic (see `fuzz/`) and real phones (see `tests/lab`).
//! Sources: RFC 791, RFC 768, RFC 3550 §5.1, RFC 3261 §13, RFC 4566.

#![allow(dead_code, reason = "each bench uses a part")]

use callspan::archive::{InitOptions, init};
use callspan::base::{Channel, Endpoint, Frame, LinkType, PacketTime};
use callspan::cli::ArchivePlace;
use callspan::cli::RunOptions;
use callspan::cli::options::{Band, HeuristicRtp, Legs, LogFormat, OutputFormat, Start, Store};
use callspan::codec::g711::encode_alaw;
use std::path::Path;

pub mod calls;

/// `full` when measuring (`cargo bench`), `quick` when only checking (`cargo test --bench`).
pub fn size<T>(quick: T, full: T) -> T {
    if std::env::args().any(|argument| argument == "--bench") { full } else { quick }
}

/// A number as a length for `Throughput`.
pub fn count(number: usize) -> u64 {
    u64::try_from(number).expect("a length")
}

/// The 8 low bits.
pub fn low_byte(number: usize) -> u8 {
    u8::try_from(number & 0xff).expect("masked")
}

/// The 16 low bits.
pub fn low_16(number: usize) -> u16 {
    u16::try_from(number & 0xffff).expect("masked")
}

/// The 32 low bits.
pub fn low_32(number: usize) -> u32 {
    u32::try_from(number & 0xffff_ffff).expect("masked")
}

/// Numbers that look random and are always the same (xorshift64).
pub struct Noise(pub u64);

impl Noise {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Something that an encoder takes for speech: harmonics of a voice that rises and falls, four
/// syllables a second, and breath.
pub fn speech(rate_hz: u32, seconds: u32) -> Vec<i16> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let (mut phase, mut pcm) = (0.0_f64, Vec::new());
    for sample in 0..rate_hz * seconds {
        let at_s = f64::from(sample) / f64::from(rate_hz);
        let pitch_hz = 120.0 + 30.0 * (at_s * 2.1).sin();
        phase += pitch_hz / f64::from(rate_hz);
        let tone: f64 = (1..=12)
            .map(|harmonic| {
                let harmonic = f64::from(harmonic);
                (phase * harmonic * std::f64::consts::TAU).sin() / harmonic
            })
            .sum();
        let syllable = (at_s * 4.0 * std::f64::consts::TAU).sin().mul_add(0.5, 0.5);
        let breath = f64::from(u16::try_from(noise.next() & 0x3ff).expect("masked")) - 512.0;
        let value = (tone * 6_000.0 + breath) * (0.1 + 0.9 * syllable);
        #[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
        pcm.push(value as i16);
    }
    pcm
}

/// Payloads of 20 ms of A-law speech.
pub fn alaw_packets(seconds: u32) -> Vec<[u8; 160]> {
    let mut packets = Vec::new();
    for pcm in speech(8_000, seconds).chunks_exact(160) {
        let mut payload = [0; 160];
        encode_alaw(pcm, &mut payload).expect("equal lengths");
        packets.push(payload);
    }
    packets
}

/// One RTP packet: payload type 8 (A-law), 20 ms a packet.
pub fn rtp(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 8];
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(seq) * 160).to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Where the sequence number stands in an Ethernet frame with RTP.
pub const SEQ_AT: usize = ETHERNET_LEN + IP_LEN + 8 + 2;
/// Where the IPv4 identification stands in such a frame.
pub const IDENTIFICATION_AT: usize = ETHERNET_LEN + 4;
const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;

/// The fragmentation fields of an IPv4 header.
#[derive(Clone, Copy)]
pub enum Part {
    /// Not a fragment.
    Whole,
    /// The first of several.
    First,
}

/// An Ethernet frame with UDP over IPv4. Checksums are zero, as where a card computes them.
pub fn udp_frame(
    source: Endpoint,
    destination: Endpoint,
    identification: u16,
    part: Part,
    payload: &[u8],
) -> Vec<u8> {
    let address = |end: Endpoint| <[u8; 4]>::try_from(&end.ip[12..]).expect("four bytes");
    let udp_len = low_16(payload.len() + 8);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend_from_slice(&[0x45, 0]);
    frame.extend_from_slice(&(udp_len + 20).to_be_bytes());
    frame.extend_from_slice(&identification.to_be_bytes());
    frame.extend_from_slice(match part {
        Part::Whole => &[0x40, 0],
        Part::First => &[0x20, 0],
    });
    frame.extend_from_slice(&[64, 17, 0, 0]);
    frame.extend_from_slice(&address(source));
    frame.extend_from_slice(&address(destination));
    frame.extend_from_slice(&source.port.to_be_bytes());
    frame.extend_from_slice(&destination.port.to_be_bytes());
    frame.extend_from_slice(&udp_len.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(payload);
    frame
}

/// A frame as a source hands it over.
pub fn frame(time: PacketTime, bytes: &[u8]) -> Frame<'_> {
    let wire_len_bytes = low_32(bytes.len());
    Frame { time, link: LinkType::Ethernet, bytes, wire_len_bytes }
}

/// Where a party of the `number`-th call receives RTP.
pub fn media_end(number: usize, party: Channel) -> Endpoint {
    let net = match party {
        Channel::Caller => 1,
        Channel::Callee => 2,
    };
    let host = [10, net + low_byte(number >> 16) * 2, low_byte(number >> 8), low_byte(number)];
    Endpoint::v4(host, 40_000)
}

/// A classic capture file with nanoseconds, Ethernet.
pub fn write_pcap(path: &Path, frames: &[(PacketTime, Vec<u8>)]) {
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (time, bytes) in frames {
        let (seconds, ns) = (time.ns() / 1_000_000_000, time.ns() % 1_000_000_000);
        for number in [seconds, ns] {
            let word = u32::try_from(number).expect("a time after 1970");
            file.extend_from_slice(&word.to_le_bytes());
        }
        let len = low_32(bytes.len());
        file.extend_from_slice(&len.to_le_bytes());
        file.extend_from_slice(&len.to_le_bytes());
        file.extend_from_slice(bytes);
    }
    std::fs::write(path, file).expect("the capture can be written");
}

/// A new archive.
pub fn make_archive(path: &Path) {
    let keys = ArchivePlace::new(path).load_or_make().expect("keys");
    init(path, &InitOptions::plaintext(), &keys).expect("an archive");
}

/// What `replay` is told when only the archive and the store are given.
pub fn run_options(archive: &Path, store: Store) -> RunOptions {
    RunOptions {
        archive: ArchivePlace::new(archive),
        store,
        disk_reserve_bytes: 0,
        checkpoint_to: None,
        start: Start::Answer,
        workers: 1,
        capture_threads: 1,
        opus_bitrate: None,
        opus_complexity: 0,
        reorder_window_ms: 200,
        commit_interval_ms: 1_000,
        ring_size_mib: 64,
        filter: None,
        band: Band::Auto,
        legs: Legs::One,
        join_header: None,
        hep_listen: None,
        tls_keylog: None,
        tls_key: None,
        heuristic_rtp: HeuristicRtp::Off,
        metrics: None,
        log_format: LogFormat::default(),
        json: OutputFormat::JsonLines,
    }
}
