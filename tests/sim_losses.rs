//! Simulated losses: what is made of them, what is told of them, and that nothing moves.
//!
//! Purpose: concealment, Opus's forward error correction, redundancy (RFC 2198), changes of codec and
//! the band that is recorded, in virtual time on hand-made streams.
//! Invariants: no clock, no files.
//! Non-goals: jitter and order (see `sim_media`), how it sounds (see tests/lab).
//! Sources: docs/time.md; RFC 2198; RFC 6716 §2.1.7.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers made here are small"
)]

use callspan::base::{Channel, Endpoint, EntryKind, PacketEntry, PacketTime};
use callspan::codec::{OpusBandwidth, OpusDecoder, g711, packet_info};
use callspan::media::{
    Band, CallMedia, GapReason, MediaReport, MediaSettings, MediaSink, StartAt, Store,
    VoiceSettings,
};
use callspan::rtp::plan::{Control, MediaFormat, MediaPlan};
use opus::{Application, Bitrate, Channels, Encoder};

const CALLER: Endpoint = Endpoint { ip: [1; 16], port: 4_000 };
const CALLEE: Endpoint = Endpoint { ip: [2; 16], port: 5_000 };
const START_MS: i64 = 1_700_000_000_000;

fn at(ms: i64) -> PacketTime {
    PacketTime::from_ms(START_MS).plus_ms(ms)
}

#[derive(Default)]
struct Recorded {
    left: Vec<Vec<u8>>,
}

impl MediaSink for Recorded {
    fn slot(&mut self, number: u32, left: &[u8], _: &[u8]) {
        assert_eq!(number as usize, self.left.len());
        self.left.push(left.to_vec());
    }

    fn raw(&mut self, _: &PacketEntry<'_>) {
        panic!("all of it is decoded");
    }
}

impl Recorded {
    /// The caller's sound at 8 kHz, second 0 first.
    fn sound(&self) -> Vec<i16> {
        let mut decoder = OpusDecoder::new().expect("libopus");
        let (mut all, mut pcm) = (Vec::new(), vec![0; 5_760]);
        for packet in &self.left {
            let samples = decoder.decode(packet, &mut pcm).expect("Opus");
            all.extend_from_slice(&pcm[..samples]);
        }
        all.split_off(312).into_iter().step_by(6).collect()
    }
}

/// A voiced sound: 130 Hz with harmonics, at a rate.
fn voice(rate_hz: u32, sample: usize) -> i16 {
    let t = sample as f64 / f64::from(rate_hz) * std::f64::consts::TAU;
    let harmonic = |k: f64| (t * 130.0 * k).sin() / k;
    (5_000.0 * (harmonic(1.0) + harmonic(2.0) + harmonic(3.0))) as i16
}

/// The same at 16 kHz, loud and soft in turn, which encoders take for speech.
fn syllables(sample: usize) -> i16 {
    let t = sample as f64 / 16_000.0 * std::f64::consts::TAU;
    (f64::from(voice(16_000, sample)) * (0.55 + 0.45 * (t * 3.0).sin())) as i16
}

struct Packet {
    at_ms: i64,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

/// Two seconds and a half of PCMA in packets of 20 ms.
fn pcma() -> Vec<Packet> {
    let packet = |number: usize| Packet {
        at_ms: number as i64 * 20,
        payload_type: 8,
        sequence: number as u16,
        timestamp: number as u32 * 160,
        payload: alaw(number),
    };
    (0..125).map(packet).collect()
}

fn alaw(number: usize) -> Vec<u8> {
    let pcm: Vec<i16> = (0..160).map(|n| voice(8_000, number * 160 + n)).collect();
    let mut payload = vec![0; 160];
    g711::encode_alaw(&pcm, &mut payload).expect("room");
    payload
}

/// The same time of Opus at 16 kHz with forward error correction, `ms` a packet.
fn opus(ms: usize) -> Vec<Packet> {
    let mut encoder = Encoder::new(16_000, Channels::Mono, Application::Voip).expect("libopus");
    encoder.set_bitrate(Bitrate::Bits(24_000)).expect("set");
    encoder.set_inband_fec(true).expect("set");
    encoder.set_packet_loss_perc(20).expect("set");
    let mut packet = |number: usize| {
        let len = ms * 16;
        let pcm: Vec<i16> = (0..len).map(|n| syllables(number * len + n)).collect();
        Packet {
            at_ms: (number * ms) as i64,
            payload_type: 111,
            sequence: number as u16,
            timestamp: (number * ms * 48) as u32,
            payload: encoder.encode_vec(&pcm, 1_276).expect("encoded"),
        }
    };
    (0..2_500 / ms).map(&mut packet).collect()
}

fn format(payload_type: u8, encoding: &str, clock_hz: u32) -> MediaFormat {
    let (encoding, fmtp) = (encoding.to_owned(), String::new());
    MediaFormat { payload_type, encoding, clock_hz, channels: 1, fmtp }
}

fn recorded(packets: &[Packet], band: Band) -> (Recorded, MediaReport) {
    let voice = VoiceSettings { bitrate: None, complexity: 5 };
    let (start, store, reorder_window_ms) = (StartAt::Answer, Store::Opus, 200);
    let mut media = CallMedia::new(MediaSettings { start, store, band, reorder_window_ms, voice });
    let mut plan = MediaPlan::default();
    plan.caller.formats =
        vec![format(8, "PCMA", 8_000), format(111, "OPUS", 48_000), format(63, "RED", 8_000)];
    let mut out = Recorded::default();
    media.control(at(0), &Control::Plan(plan), &mut out);
    media.control(at(0), &Control::Answered, &mut out);
    for packet in packets {
        let mut bytes = vec![0x80, packet.payload_type];
        bytes.extend(packet.sequence.to_be_bytes());
        bytes.extend(packet.timestamp.to_be_bytes());
        bytes.extend([0, 0, 0, 7]);
        bytes.extend(&packet.payload);
        let (time, kind, channel) = (at(packet.at_ms + 2), EntryKind::Rtp, Channel::Caller);
        let (source, destination) = (CALLER, CALLEE);
        let entry = PacketEntry { time, source, destination, kind, channel, payload: &bytes };
        media.entry(time, &entry, &mut out);
    }
    media.control(at(2_500), &Control::Ended { at_ns: at(2_500).ns() }, &mut out);
    (out, media.report())
}

/// All but those that `is_lost`.
fn lossy(packets: Vec<Packet>, is_lost: impl Fn(usize) -> bool) -> Vec<Packet> {
    packets.into_iter().enumerate().filter(|(n, _)| !is_lost(*n)).map(|(_, it)| it).collect()
}

/// Root mean square between two milliseconds.
fn level(sound: &[i16], from_ms: usize, to_ms: usize) -> f64 {
    let part = &sound[from_ms * 8..to_ms * 8];
    let energy: f64 = part.iter().map(|it| f64::from(*it).powi(2)).sum();
    (energy / part.len() as f64).sqrt()
}

/// How alike two sounds are between two milliseconds, at the same place.
fn alike(one: &[i16], two: &[i16], from_ms: usize, to_ms: usize) -> f64 {
    let (mut product, mut mine, mut theirs) = (0.0, 1.0, 1.0);
    for (x, y) in one[from_ms * 8..to_ms * 8].iter().zip(&two[from_ms * 8..to_ms * 8]) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        product += x * y;
        mine += x * x;
        theirs += y * y;
    }
    product / (mine * theirs).sqrt()
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

#[test]
fn a_lost_packet_is_concealed_in_place_and_stays_a_gap() {
    let (whole, _) = recorded(&pcma(), Band::Auto);
    let (concealed, report) = recorded(&lossy(pcma(), |n| n > 20 && n % 10 == 0), Band::Auto);
    let (whole, sound) = (whole.sound(), concealed.sound());
    assert_eq!(whole.len(), sound.len());
    assert_eq!(report.gaps.len(), 10);
    for (gap, second) in report.gaps.iter().zip((30..).step_by(10).map(|n| n * 20)) {
        assert_eq!(gap.reason, GapReason::Lost);
        let (from, to) = (seconds(gap.from_ns), seconds(gap.to_ns));
        assert!((from - f64::from(second) / 1e3 - 0.002).abs() < 0.001, "{gap:?}");
        assert!((to - from - 0.02).abs() < 0.000_1, "{gap:?}");
        assert!((seconds(gap.concealed_ns) - 0.02).abs() < 0.000_1, "{gap:?}");
        let second = second as usize;
        let likeness = alike(&sound, &whole, second, second + 40);
        assert!(likeness > 0.85, "{likeness} at {second} ms");
    }
}

#[test]
fn a_long_loss_fades_within_sixty_milliseconds_and_is_silent_after_it() {
    // So long that the time after it was handed out before the next packet came: left silent.
    for (packets, concealed_s) in [(10, 0.06), (30, 0.0)] {
        let lost = lossy(pcma(), |n| (50..50 + packets).contains(&n));
        let (recorded, report) = recorded(&lost, Band::Auto);
        let sound = recorded.sound();
        let end_ms = 1_000 + packets * 20;
        if concealed_s > 0.0 {
            assert!(level(&sound, 1_002, 1_012) > 2_000.0);
        }
        assert!(level(&sound, 1_040, 1_060) < 1_500.0);
        assert!(level(&sound, 1_085, end_ms - 10) < 30.0);
        assert!(level(&sound, end_ms + 20, end_ms + 200) > 3_000.0);
        let [gap] = report.gaps[..] else { panic!("{:?}", report.gaps) };
        let len = seconds(gap.to_ns - gap.from_ns);
        assert!((len - packets as f64 * 0.02).abs() < 0.001, "{gap:?}");
        assert!((seconds(gap.concealed_ns) - concealed_s).abs() < 0.000_1, "{gap:?}");
    }
}

#[test]
fn nothing_is_made_up_where_a_stream_ends_or_pauses() {
    // Sequence numbers go on over the pause: nothing was lost.
    let mut packets = lossy(pcma(), |n| (50..75).contains(&n) || n >= 100);
    for (number, packet) in packets.iter_mut().enumerate() {
        packet.sequence = number as u16;
    }
    let (recorded, report) = recorded(&packets, Band::Auto);
    let sound = recorded.sound();
    assert_eq!(report.gaps, []);
    assert!(level(&sound, 1_030, 1_490) < 30.0);
    assert!(level(&sound, 2_030, 2_450) < 30.0);
}

#[test]
fn redundancy_fills_losses_with_what_was_said() {
    let with_older = |packet: Packet| {
        let number = usize::from(packet.sequence);
        let mut payload = Vec::new();
        let older: Vec<usize> = (number.saturating_sub(2)..number).collect();
        for one in &older {
            let ticks = ((number - one) * 160) as u32;
            payload.push(0x88);
            payload.extend(&(ticks << 10 | 0xa0).to_be_bytes()[1..]);
        }
        payload.push(8);
        for one in &older {
            payload.extend(alaw(*one));
        }
        payload.extend(&packet.payload);
        Packet { payload_type: 63, payload, ..packet }
    };
    let redundant = || pcma().into_iter().map(with_older).collect::<Vec<_>>();
    let (whole, report) = recorded(&redundant(), Band::Auto);
    assert_eq!((report.streams[0].codec.as_str(), report.gaps.len()), ("PCMA", 0));
    let lost = |n: usize| n < 120 && (n % 10 == 4 || n % 10 == 5);
    let (filled, report) = recorded(&lossy(redundant(), lost), Band::Auto);
    assert_eq!(report.gaps, []);
    assert_eq!(report.streams[0].lost, 24);
    assert!(filled.left == whole.left, "the same recording");
    // Three in a row: the packet after them has the last two.
    let lost = |n: usize| (50..53).contains(&n);
    let (_, report) = recorded(&lossy(redundant(), lost), Band::Auto);
    let [gap] = report.gaps[..] else { panic!("{:?}", report.gaps) };
    assert!((seconds(gap.to_ns - gap.from_ns) - 0.02).abs() < 0.001, "{gap:?}");
}

#[test]
fn opus_that_is_kept_gets_packets_for_its_holes_and_keeps_all_others() {
    let (whole, report) = recorded(&opus(20), Band::Auto);
    assert_eq!((report.gaps.len(), report.notes.len()), (0, 0));
    let lost = |n: usize| n > 10 && n % 9 == 0;
    let (mended, report) = recorded(&lossy(opus(20), lost), Band::Auto);
    assert_eq!(report.gaps.len(), 12, "{:?}", report.gaps);
    assert!(report.gaps.iter().all(|gap| gap.concealed_ns == 20_000_000), "{:?}", report.gaps);
    let differing = whole.left.iter().zip(&mended.left).filter(|(one, two)| one != two).count();
    assert_eq!(differing, 12);
    let (whole, mended) = (whole.sound(), mended.sound());
    let holes = (18..125).filter(|n| lost(*n));
    let likeness: Vec<f64> =
        holes.map(|n| alike(&whole, &mended, n * 20 + 5, n * 20 + 25)).collect();
    let mean = likeness.iter().sum::<f64>() / likeness.len() as f64;
    assert!(mean > 0.85, "{mean}: {likeness:?}");
}

#[test]
fn opus_that_is_transcoded_is_corrected_and_concealed() {
    for ms in [10, 40, 60] {
        let (whole, _) = recorded(&opus(ms), Band::Auto);
        let (mended, report) = recorded(&lossy(opus(ms), |n| n > 10 && n % 9 == 0), Band::Auto);
        let lost = report.streams[0].lost as usize;
        assert_eq!(report.gaps.len(), lost, "{ms} {:?}", report.gaps);
        for gap in &report.gaps {
            assert_eq!(gap.concealed_ns, (ms * 1_000_000) as i64, "{ms}: {gap:?}");
        }
        let likeness = alike(&whole.sound(), &mended.sound(), 300, 2_400);
        assert!(likeness > 0.85, "{ms}: {likeness}");
    }
}

#[test]
fn a_codec_or_duration_that_changes_leaves_no_gap() {
    let mut packets = pcma();
    // A packet of 40 ms where there were two of 20, and from PCMA to PCMU.
    let merged = packets.remove(31);
    packets[30].payload.extend(merged.payload);
    for packet in packets.iter_mut().skip(31) {
        packet.sequence -= 1;
    }
    let (whole, _) = recorded(&pcma(), Band::Auto);
    let (merged, report) = recorded(&packets, Band::Auto);
    assert_eq!(report.gaps, []);
    assert!(merged.left == whole.left);
    for packet in packets.iter_mut().skip(60) {
        packet.payload_type = 0;
        packet.payload = packet.payload.iter().map(|code| ulaw_of_alaw(*code)).collect();
    }
    let (changed, report) = recorded(&packets, Band::Auto);
    assert_eq!(report.gaps, []);
    let around = alike(&changed.sound(), &whole.sound(), 1_150, 1_400);
    assert!(around > 0.98, "{around}");
}

fn ulaw_of_alaw(code: u8) -> u8 {
    let (mut pcm, mut out) = ([0], [0]);
    g711::decode_alaw(&[code], &mut pcm).expect("room");
    g711::encode_ulaw(&pcm, &mut out).expect("room");
    out[0]
}

#[test]
fn the_band_that_is_asked_for_is_not_exceeded() {
    let bands = |recorded: &Recorded| {
        let mut found: Vec<OpusBandwidth> =
            recorded.left.iter().filter_map(|it| Some(packet_info(it)?.bandwidth)).collect();
        found.dedup();
        found
    };
    let (kept, report) = recorded(&opus(20), Band::Wide);
    assert_eq!(bands(&kept), [OpusBandwidth::Wide], "kept as it came");
    assert_eq!(report.notes, Vec::<String>::new());
    let (narrow, report) = recorded(&opus(20), Band::Narrow);
    assert_eq!(bands(&narrow), [OpusBandwidth::Narrow]);
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    // Kept packets stand on the grid, up to 10 ms from their place.
    let (kept, narrow) = (kept.sound(), narrow.sound());
    let shifted = (0..96).map(|lag| alike(&kept, &narrow[lag..], 300, 2_300));
    let likeness = shifted.fold(0.0, f64::max);
    assert!(likeness > 0.9, "{likeness}");
}
