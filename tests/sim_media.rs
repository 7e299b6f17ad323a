//! Seeded simulations of a call's media: what was spoken stands in the recording where it was
//! spoken, whatever the network did, and however the visits were cut.
//!
//! Purpose: the timeline's promises, in virtual time, on hand-made streams.
//! Invariants: no clock, no files; a failure names its seed.
//! Non-goals: real phones (see tests/lab).
//! Sources: docs/time.md.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers made here are small"
)]

use callspan::base::{Channel, Endpoint, EntryKind, PacketEntry, PacketTime};
use callspan::codec::{OpusDecoder, g711};
use callspan::media::{
    Band, CallMedia, MediaReport, MediaSettings, MediaSink, StartAt, Store, VoiceSettings,
};
use callspan::rtp::plan::{Control, MediaFormat, MediaPlan, MediaState};

const CALLER: Endpoint = Endpoint { ip: [1; 16], port: 4_000 };
const CALLEE: Endpoint = Endpoint { ip: [2; 16], port: 5_000 };
const START_MS: i64 = 1_700_000_000_000;

fn at(ms: f64) -> PacketTime {
    PacketTime::from_ms(START_MS).plus_ns((ms * 1e6).round() as i64)
}

#[derive(Default, PartialEq, Debug)]
struct Recorded {
    slots: Vec<(u32, Vec<u8>, Vec<u8>)>,
    raw: usize,
}

impl MediaSink for Recorded {
    fn slot(&mut self, number: u32, left: &[u8], right: &[u8]) {
        self.slots.push((number, left.to_vec(), right.to_vec()));
    }

    fn raw(&mut self, _: &PacketEntry<'_>) {
        self.raw += 1;
    }
}

impl Recorded {
    /// One channel at 8 kHz, second 0 first: pre-skip removed, every sixth sample.
    fn channel(&self, channel: Channel) -> Vec<i16> {
        let mut decoder = OpusDecoder::new().expect("libopus");
        let (mut all, mut pcm) = (Vec::new(), vec![0; 5_760]);
        for (_, left, right) in &self.slots {
            let packet = if channel == Channel::Caller { left } else { right };
            let samples = decoder.decode(packet, &mut pcm).expect("Opus");
            all.extend_from_slice(&pcm[..samples]);
        }
        all.split_off(312).into_iter().step_by(6).collect()
    }
}

/// One RTP packet on its way.
#[derive(Clone)]
struct Sent {
    arrival_ms: f64,
    channel: Channel,
    bytes: Vec<u8>,
}

/// A phone that says a tone burst of 60 ms at the start of each second.
struct Phone {
    channel: Channel,
    ssrc: u32,
    first_timestamp: u32,
    first_seq: u16,
    payload_type: u8,
}

impl Phone {
    fn new(channel: Channel) -> Self {
        let (first_timestamp, first_seq) = (4_294_960_000, 65_500);
        Self { channel, ssrc: 7, first_timestamp, first_seq, payload_type: 8 }
    }

    /// Packets from `from_ms` for `len_ms`, each arriving `delay_ms(n)` after it was spoken; `None`
    /// is lost.
    fn talks(
        &self,
        from_ms: i64,
        len_ms: i64,
        mut delay_ms: impl FnMut(i64) -> Option<f64>,
    ) -> Vec<Sent> {
        let mut sent = Vec::new();
        for number in 0..len_ms / 20 {
            let spoken_ms = from_ms + number * 20;
            let pcm: Vec<i16> = (0..160).map(|n| burst(spoken_ms * 8 + n)).collect();
            let mut payload = vec![0; 160];
            g711::encode_alaw(&pcm, &mut payload).expect("room");
            if let Some(delay) = delay_ms(number) {
                let bytes = self.packet(number, &payload);
                sent.push(Sent {
                    arrival_ms: spoken_ms as f64 + delay,
                    channel: self.channel,
                    bytes,
                });
            }
        }
        sent
    }

    fn packet(&self, number: i64, payload: &[u8]) -> Vec<u8> {
        let seq = self.first_seq.wrapping_add(number as u16);
        let timestamp = self.first_timestamp.wrapping_add((number * 160) as u32);
        let mut bytes = vec![0x80, self.payload_type];
        bytes.extend_from_slice(&seq.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }
}

/// The sound of a moment: a 1 kHz burst of 60 ms each second.
fn burst(sample: i64) -> i16 {
    if sample.rem_euclid(8_000) < 480 {
        (12_000.0 * (sample as f64 * std::f64::consts::TAU / 8.0).sin()) as i16
    } else {
        0
    }
}

fn settings() -> MediaSettings {
    MediaSettings {
        start: StartAt::Answer,
        store: Store::Opus,
        band: Band::Auto,
        reorder_window_ms: 200,
        voice: VoiceSettings { bitrate: None, complexity: 0 },
    }
}

fn pcma_plan() -> MediaPlan {
    let mut plan = MediaPlan::default();
    let format = MediaFormat::from_static(8).expect("static");
    plan.caller.formats.push(format.clone());
    plan.callee.formats.push(format);
    plan
}

/// How a run is cut into visits.
#[derive(Clone, Copy)]
enum Visits {
    Each(i64),
    One,
}

struct Call {
    controls: Vec<(f64, Control)>,
    sent: Vec<Sent>,
    end_ms: f64,
}

impl Call {
    fn new(mut sent: Vec<Sent>, end_ms: f64) -> Self {
        sent.sort_by(|a, b| a.arrival_ms.total_cmp(&b.arrival_ms));
        let controls = vec![(0.0, Control::Plan(pcma_plan())), (0.0, Control::Answered)];
        Self { controls, sent, end_ms }
    }

    fn recorded(&self, settings: MediaSettings, visits: Visits) -> (Recorded, MediaReport) {
        let mut media = CallMedia::new(settings);
        let mut out = Recorded::default();
        let mut controls = self.controls.clone();
        controls.push((self.end_ms, Control::Ended { at_ns: at(self.end_ms).ns() }));
        let mut controls = controls.into_iter().peekable();
        let mut visit_ms = 0;
        for packet in &self.sent {
            while let Some((ms, control)) = controls.next_if(|(ms, _)| *ms <= packet.arrival_ms) {
                media.control(at(ms), &control, &mut out);
            }
            if let Visits::Each(ms) = visits {
                while (visit_ms as f64) < packet.arrival_ms {
                    media.advance(at(visit_ms as f64), &mut out);
                    visit_ms += ms;
                }
            }
            let (source, destination) = match packet.channel {
                Channel::Caller => (CALLER, CALLEE),
                Channel::Callee => (CALLEE, CALLER),
            };
            let time = at(packet.arrival_ms);
            let (kind, channel) = (EntryKind::Rtp, packet.channel);
            let payload = &packet.bytes;
            let entry = PacketEntry { time, source, destination, kind, channel, payload };
            media.entry(time, &entry, &mut out);
        }
        for (ms, control) in controls {
            media.control(at(ms), &control, &mut out);
        }
        (out, media.report())
    }
}

/// A small, well-known generator (xorshift64*), so that a seed names a run on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: f64) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        value as f64 / (1_u64 << 53) as f64 * most
    }
}

/// Seconds at which bursts begin in a channel, in milliseconds.
fn onsets_ms(pcm: &[i16]) -> Vec<f64> {
    let mut onsets = Vec::new();
    let mut quiet_until = 0;
    for (index, window) in pcm.windows(8).enumerate() {
        let loud = window.iter().map(|sample| f64::from(*sample).abs()).sum::<f64>() / 8.0;
        if loud > 2_500.0 {
            if index >= quiet_until {
                onsets.push(index as f64 / 8.0);
            }
            quiet_until = index + 1_600;
        }
    }
    onsets
}

fn assert_in_place(what: &str, recorded: &Recorded, channel: Channel, seconds: &[i64]) {
    let onsets = onsets_ms(&recorded.channel(channel));
    assert_eq!(onsets.len(), seconds.len(), "{what}: {channel:?} bursts at {onsets:?}");
    for (onset, second) in onsets.iter().zip(seconds) {
        let off = onset - (*second * 1_000) as f64;
        assert!(off.abs() <= 20.0, "{what}: {channel:?} burst of second {second} is {off} ms off");
    }
}

#[test]
fn both_channels_stand_where_they_were_spoken_through_jitter_and_reordering() {
    for seed in 1..=20 {
        let mut dice = Dice(seed);
        let mut sent = Vec::new();
        for channel in Channel::BOTH {
            sent.extend(Phone::new(channel).talks(0, 10_000, |_| Some(5.0 + dice.below(40.0))));
        }
        let (recorded, report) = Call::new(sent, 10_100.0).recorded(settings(), Visits::Each(250));
        for channel in Channel::BOTH {
            // The anchor is the least delay, 5 ms here; the first burst may lose its beginning.
            assert_in_place(
                &format!("seed {seed}"),
                &recorded,
                channel,
                &(0..10).collect::<Vec<_>>(),
            );
        }
        assert_eq!(report.streams.iter().map(|stream| stream.lost).sum::<u64>(), 0, "seed {seed}");
    }
}

#[test]
fn the_recording_does_not_depend_on_how_the_visits_are_cut() {
    for seed in 1..=10 {
        let mut dice = Dice(seed);
        let mut sent = Vec::new();
        for channel in Channel::BOTH {
            sent.extend(Phone::new(channel).talks(0, 6_000, |_| {
                let lost = dice.below(100.0) < 5.0;
                (!lost).then(|| dice.below(80.0))
            }));
        }
        let call = Call::new(sent, 6_000.0);
        let one = call.recorded(settings(), Visits::One);
        for ms in [7, 20, 333] {
            assert_eq!(call.recorded(settings(), Visits::Each(ms)), one, "seed {seed}, {ms} ms");
        }
    }
}

#[test]
fn lost_packets_leave_gaps_with_their_reason_and_place() {
    let phone = Phone::new(Channel::Caller);
    let sent = phone.talks(0, 4_000, |number| (!(100..105).contains(&number)).then_some(1.0));
    let (_, report) = Call::new(sent, 4_000.0).recorded(settings(), Visits::Each(250));
    let gaps: Vec<(i64, i64, &str)> = report
        .gaps
        .iter()
        .map(|gap| {
            (gap.from_ns / 1_000_000, (gap.to_ns - gap.from_ns) / 1_000_000, gap.reason.label())
        })
        .collect();
    assert_eq!(gaps, [(2_001, 100, "lost")]);
    assert_eq!((report.streams[0].packets, report.streams[0].lost), (195, 5));
}

#[test]
fn a_stall_of_the_network_does_not_move_the_sound_but_a_jump_of_the_clock_does() {
    // 300 ms of packets arrive at once: the RTP clock stands, and with the default hold of 450 ms
    // each finds its place.
    let stalled = Phone::new(Channel::Caller).talks(0, 6_000, |number| {
        let stall =
            if (120..135).contains(&number) { f64::from(135 - number as i32) * 20.0 } else { 0.0 };
        Some(stall + 1.0)
    });
    let (recorded, report) = Call::new(stalled, 6_000.0).recorded(settings(), Visits::Each(250));
    assert_in_place("stall", &recorded, Channel::Caller, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(report.gaps, []);
    // A phone that restarts its RTP clock after a pause, in the same SSRC.
    let mut phone = Phone::new(Channel::Caller);
    let mut sent = phone.talks(0, 2_000, |_| Some(1.0));
    phone.first_timestamp = 77_000_000;
    phone.first_seq = phone.first_seq.wrapping_add(100);
    sent.extend(phone.talks(4_000, 2_000, |_| Some(1.0)));
    let (recorded, _) = Call::new(sent, 6_000.0).recorded(settings(), Visits::Each(250));
    assert_in_place("restart", &recorded, Channel::Caller, &[0, 1, 4, 5]);
}

#[test]
fn a_clock_that_stands_still_during_an_event_is_found_again() {
    // RFC 4733 §2.1: some phones do not advance RTP time while a key is held (here 700 ms).
    let mut phone = Phone::new(Channel::Caller);
    let mut sent = phone.talks(0, 2_000, |_| Some(1.0));
    phone.first_timestamp = phone.first_timestamp.wrapping_add(100 * 160);
    phone.first_seq = phone.first_seq.wrapping_add(100);
    for number in 0..35_u8 {
        let mut bytes = phone.packet(i64::from(number), &[5, 10, 0, number]);
        bytes[1] = 101;
        bytes[4..8].copy_from_slice(&phone.first_timestamp.to_be_bytes());
        let arrival_ms = 2_000.0 + f64::from(number) * 20.0;
        sent.push(Sent { arrival_ms, channel: Channel::Caller, bytes });
    }
    phone.first_seq = phone.first_seq.wrapping_add(35);
    sent.extend(phone.talks(2_700, 3_300, |_| Some(1.0)));
    let mut call = Call::new(sent, 6_000.0);
    let mut plan = pcma_plan();
    plan.caller.formats.push(MediaFormat {
        payload_type: 101,
        encoding: "TELEPHONE-EVENT".into(),
        clock_hz: 8_000,
        channels: 1,
        fmtp: String::new(),
    });
    call.controls[0].1 = Control::Plan(plan);
    let (recorded, report) = call.recorded(settings(), Visits::Each(250));
    assert_in_place("event", &recorded, Channel::Caller, &[0, 1, 3, 4, 5]);
    let digits: Vec<(&str, i64)> = report
        .digits
        .iter()
        .map(|digit| (digit.digit.as_str(), digit.time.ms_since(at(0.0))))
        .collect();
    assert_eq!(digits, [("5", 2_000)]);
    assert_eq!(report.gaps, []);
}

#[test]
fn silence_suppression_is_no_gap_and_a_hold_is_one() {
    // The sender skips packets but its sequence numbers go on: nothing was lost.
    let mut phone = Phone::new(Channel::Caller);
    let mut sent = phone.talks(0, 1_000, |_| Some(1.0));
    phone.first_seq = phone.first_seq.wrapping_add(50);
    phone.first_timestamp = phone.first_timestamp.wrapping_add(150 * 160);
    sent.extend(phone.talks(3_000, 3_000, |_| Some(1.0)));
    let call = Call::new(sent.clone(), 6_000.0);
    let (recorded, report) = call.recorded(settings(), Visits::Each(250));
    assert_in_place("suppressed", &recorded, Channel::Caller, &[0, 3, 4, 5]);
    assert_eq!(report.gaps, []);
    // The same silence, announced by SDP.
    let mut call = Call::new(sent, 6_000.0);
    let mut held = pcma_plan();
    held.caller.state = MediaState::OnHold;
    call.controls.push((1_000.0, Control::Plan(held)));
    call.controls.push((3_000.0, Control::Plan(pcma_plan())));
    let (_, report) = call.recorded(settings(), Visits::Each(250));
    let gaps: Vec<(i64, i64, &str)> = report
        .gaps
        .iter()
        .map(|gap| (gap.from_ns / 1_000_000, gap.to_ns / 1_000_000, gap.reason.label()))
        .collect();
    assert_eq!(gaps, [(1_000, 3_000, "hold")]);
}

#[test]
fn a_new_ssrc_takes_over_at_its_place() {
    let mut phone = Phone::new(Channel::Callee);
    let mut sent = phone.talks(0, 2_500, |_| Some(3.0));
    phone.ssrc = 8;
    phone.first_timestamp = 1;
    sent.extend(phone.talks(2_500, 2_500, |_| Some(3.0)));
    let (recorded, report) = Call::new(sent, 5_000.0).recorded(settings(), Visits::Each(250));
    assert_in_place("ssrc", &recorded, Channel::Callee, &[0, 1, 2, 3, 4]);
    assert_eq!(report.streams.len(), 2);
    assert_eq!(report.gaps, []);
}

#[test]
fn media_before_the_answer_is_measured_and_not_recorded_unless_asked_for() {
    let sent = Phone::new(Channel::Callee).talks(0, 6_000, |_| Some(2.0));
    let mut call = Call::new(sent, 6_000.0);
    call.controls[1].0 = 3_500.0;
    let (recorded, report) = call.recorded(settings(), Visits::Each(250));
    assert_eq!(report.start, Some(at(3_500.0)));
    assert_eq!(onsets_ms(&recorded.channel(Channel::Callee)).len(), 2);
    assert_eq!(report.streams[0].packets, 300);
    let (recorded, report) =
        call.recorded(MediaSettings { start: StartAt::Media, ..settings() }, Visits::Each(250));
    assert_eq!(report.start, Some(at(2.0)));
    assert_eq!(onsets_ms(&recorded.channel(Channel::Callee)).len(), 6);
}

#[test]
fn what_cannot_be_decoded_is_kept_as_it_came_and_said() {
    let mut phone = Phone::new(Channel::Caller);
    phone.payload_type = 15;
    let sent = phone.talks(0, 2_000, |_| Some(1.0));
    let (recorded, report) = Call::new(sent, 2_000.0).recorded(settings(), Visits::Each(250));
    assert_eq!((recorded.slots.len(), recorded.raw), (0, 101), "100 packets and the plan");
    assert_eq!(report.gaps.len(), 1);
    assert_eq!(report.gaps[0].reason.label(), "undecodable");
    assert_eq!(report.streams[0].codec, "G728");
    assert_eq!(report.notes, ["caller: raw RTP kept: it cannot be decoded (G728)"]);
}

#[test]
fn a_silent_hour_without_media_costs_nothing_until_it_is_over() {
    let mut phone = Phone::new(Channel::Caller);
    let mut sent = phone.talks(0, 1_000, |_| Some(1.0));
    phone.first_seq = phone.first_seq.wrapping_add(50);
    phone.first_timestamp = phone.first_timestamp.wrapping_add(3_600 * 8_000);
    sent.extend(phone.talks(3_601_000, 1_000, |_| Some(1.0)));
    let (recorded, _) = Call::new(sent, 3_602_000.0).recorded(settings(), Visits::Each(10_000));
    assert_eq!(recorded.slots.len(), 180_101);
    let bytes: usize = recorded.slots.iter().map(|(_, left, right)| left.len() + right.len()).sum();
    assert!(bytes < 180_101 * 16, "{bytes} bytes");
}
