//! What a flow that nobody claimed looks like.
//!
//! Purpose: from the packets that wait for their SDP, tell whether they are RTP beyond doubt, what
//! they carry, and whether that can be read; the correlator decides what becomes of them.
//! Invariants: linear in the packets given; nothing is taken for sound whose sizes and timestamps
//! do not agree, so ciphertext never is.
//! Non-goals: whose the flow is (see `call::strangers`), decoding.
//! Sources: RFC 3550 §5.1 and A.1 (continuity), RFC 3551 §4.5 (bytes by time), RFC 3711 §3.1 (the
//! authentication tag), RFC 4733 §2.3 (events), RFC 6716 §3.1 (Opus's first byte), RFC 7587 §4.2.

use super::header::RtpView;
use super::telephone_event::TelephoneEvent;
use crate::base::{CallIndex, Channel, Endpoint, PacketTime, Ssrc};

/// A flow, as far as it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSight {
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
    /// Synchronization source.
    pub ssrc: Ssrc,
    /// Who sends with this SSRC, by a call's RTCP.
    pub reported: Option<(CallIndex, Channel)>,
    /// Its first packet that is still held.
    pub first: PacketTime,
    /// What its packets are.
    pub looks: Looks,
    /// Whether there will be another chance.
    pub occasion: Occasion,
}

/// When a flow is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// On the way; it will be looked at again.
    Early,
    /// Its first packets are about to be given up.
    Last,
}

/// What packets look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Packets looked at.
    pub packets: usize,
    /// The commonest payload type that is no event.
    pub payload_type: u8,
    /// The payload type of telephone events, where some were seen.
    pub events: Option<u8>,
    /// What they carry.
    pub sound: Sound,
}

/// What packets carry, as far as they tell themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// No RTP stream: numbers jump, or there are too few packets.
    Unconvincing,
    /// Numbered like RTP, but not timed like sound (video), or not enough to tell.
    Stream,
    /// A static payload type, with as many bytes as its timestamps say.
    Static,
    /// A static payload type, ciphertext: bytes beyond what its timestamps say, or noise.
    Encrypted,
    /// Opus, by the first byte of each packet.
    Opus,
    /// Sound by its timing, in a format that only SDP could tell.
    Dynamic,
    /// Telephone events alone.
    Events,
}

impl Sound {
    /// True for a stream that is sound beyond doubt.
    #[must_use]
    pub const fn is_audio(self) -> bool {
        !matches!(self, Self::Unconvincing | Self::Stream)
    }
}

/// Packets below which nothing is said.
const PACKETS_MIN: usize = 5;

/// Packets that a format of which nothing is known must have, and steps that Opus must have.
const DYNAMIC_PACKETS_MIN: usize = 25;
const OPUS_STEPS_MIN: usize = 10;

/// Steps in sequence numbers beyond which a stream is not continued.
const STEP_MAX: u16 = 50;

/// The last event that a telephone's keys make: flash (RFC 4733 §3.2).
const EVENT_MAX: u8 = 16;

/// Extra bytes of protected packets: tags of 4, 10 and 16 bytes, each with or without a 4-byte MKI.
const TAGS: [usize; 6] = [4, 8, 10, 14, 16, 20];

/// Bytes enough to tell noise from sound, and the chi-squared of their 256 values below which they
/// are noise: 255 expected for ciphertext with a deviation of 23, thousands for any speech.
const NOISE_BYTES_MIN: u64 = 2_048;
const NOISE_CHI_SQUARED: u64 = 400;

/// Two packets that follow each other by sequence number.
struct Step {
    payload_type: u8,
    ticks: u32,
    payload_len: usize,
    first_two: [u8; 2],
}

/// Looks at the packets of one flow, in order of arrival.
pub fn look<'a>(packets: &(impl Iterator<Item = (PacketTime, &'a [u8])> + Clone)) -> Looks {
    let views =
        || packets.clone().filter_map(|(time, bytes)| Some((time, RtpView::parse(bytes).ok()?)));
    let events = event_type(views().map(|(_, view)| view));
    let payload_type = commonest(views().map(|(_, view)| view), events);
    let count = views().count();
    let mut looks = Looks {
        packets: count,
        payload_type: payload_type.or(events).unwrap_or(0),
        events,
        sound: Sound::Unconvincing,
    };
    if count < PACKETS_MIN || !is_continuous(views().map(|(_, view)| view.seq())) {
        return looks;
    }
    let Some(payload_type) = payload_type else {
        looks.sound = Sound::Events;
        return looks;
    };
    let steps = steps(views().map(|(_, view)| view), payload_type);
    looks.sound = if payload_type < 96 {
        let of_type = views().filter(|(_, view)| view.payload_type().0 == payload_type);
        static_sound(payload_type, &steps, of_type.map(|(_, view)| view))
    } else if is_opus(&steps) {
        Sound::Opus
    } else if count >= DYNAMIC_PACKETS_MIN && is_timed_like_sound(&steps, views()) {
        Sound::Dynamic
    } else {
        Sound::Stream
    };
    looks
}

/// The payload type whose every packet is a telephone event.
fn event_type<'a>(views: impl Iterator<Item = RtpView<'a>> + Clone) -> Option<u8> {
    let is_event = |view: &RtpView<'_>| {
        let event = TelephoneEvent::parse(view.payload());
        view.payload().len() == 4 && event.is_some_and(|event| event.event <= EVENT_MAX)
    };
    let first = views.clone().find(|view| view.payload_type().0 >= 96 && is_event(view))?;
    let number = first.payload_type();
    let mut of_type = views.filter(|view| view.payload_type() == number);
    of_type.all(|view| is_event(&view)).then_some(number.0)
}

/// The commonest payload type but `events`; among equals the smallest.
fn commonest<'a>(views: impl Iterator<Item = RtpView<'a>>, events: Option<u8>) -> Option<u8> {
    let mut counts = [0usize; 128];
    for view in views.filter(|view| Some(view.payload_type().0) != events) {
        if let Some(count) = counts.get_mut(usize::from(view.payload_type().0)) {
            *count = count.saturating_add(1);
        }
    }
    let counted = (0u8..).zip(counts).filter(|(_, count)| *count > 0);
    counted.max_by_key(|(number, count)| (*count, std::cmp::Reverse(*number))).map(|it| it.0)
}

/// Nine steps in ten are small, and there are not only repetitions.
fn is_continuous(seqs: impl Iterator<Item = u16>) -> bool {
    let (mut before, mut steps, mut small, mut forward) = (None, 0usize, 0usize, 0usize);
    for seq in seqs {
        if let Some(before) = before.replace(seq) {
            let ahead = seq.wrapping_sub(before);
            steps = steps.saturating_add(1);
            small += usize::from(ahead <= STEP_MAX || ahead.wrapping_neg() <= STEP_MAX);
            forward += usize::from((1..=STEP_MAX).contains(&ahead));
        }
    }
    small.saturating_mul(10) >= steps.saturating_mul(9) && forward.saturating_mul(2) >= steps
}

/// Packets of one type, each with the ticks to the next by sequence number.
fn steps<'a>(views: impl Iterator<Item = RtpView<'a>>, payload_type: u8) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut before: Option<RtpView<'a>> = None;
    for view in views {
        if let Some(before) = before.replace(view) {
            let follows = view.seq().wrapping_sub(before.seq()) == 1;
            let same = before.payload_type() == view.payload_type();
            if follows && same && view.payload_type().0 == payload_type {
                let payload = before.payload();
                let at = |place: usize| payload.get(place).copied().unwrap_or(0);
                steps.push(Step {
                    payload_type,
                    ticks: view.timestamp().wrapping_sub(before.timestamp()),
                    payload_len: payload.len(),
                    first_two: [at(0), at(1)],
                });
            }
        }
    }
    steps
}

/// Bytes that a static type has for so many ticks; `None` where they are not whole frames.
fn bytes_of(payload_type: u8, ticks: usize) -> Option<usize> {
    let frames = |ticks_of: usize, bytes_of: usize| {
        (ticks % ticks_of == 0).then(|| (ticks / ticks_of).saturating_mul(bytes_of))
    };
    match payload_type {
        0 | 8 | 9 => Some(ticks),
        3 => frames(160, 33),
        4 => frames(240, 24),
        10 => ticks.checked_mul(4),
        11 => ticks.checked_mul(2),
        15 => frames(20, 5),
        18 => frames(80, 10),
        _ => None,
    }
}

/// Pauses and shorter frames (SID) make a step longer than its bytes; nothing makes it shorter.
fn static_sound<'a>(
    payload_type: u8,
    steps: &[Step],
    views: impl Iterator<Item = RtpView<'a>>,
) -> Sound {
    let agree = |extra: usize| {
        let fits = steps.iter().filter(|step| {
            let ticks = usize::try_from(step.ticks).unwrap_or(usize::MAX);
            let expected = bytes_of(payload_type, ticks).filter(|_| (1..=8_000).contains(&ticks));
            expected.and_then(|bytes| bytes.checked_add(extra)) == Some(step.payload_len)
        });
        let needed = steps.len().saturating_mul(2) / 3;
        !steps.is_empty() && fits.count() >= needed.max(1)
    };
    if agree(0) {
        let is_waveform = matches!(payload_type, 0 | 8 | 9);
        return if is_waveform && is_noise(views) { Sound::Encrypted } else { Sound::Static };
    }
    if TAGS.into_iter().any(agree) { Sound::Encrypted } else { Sound::Stream }
}

/// All byte values are equally common.
fn is_noise<'a>(views: impl Iterator<Item = RtpView<'a>>) -> bool {
    let mut counts = [0u64; 256];
    let mut total = 0u64;
    for byte in views.flat_map(|view| view.payload().iter().copied()) {
        total = total.saturating_add(1);
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count = count.saturating_add(1);
        }
    }
    if total < NOISE_BYTES_MIN {
        return false;
    }
    // Σ (n - total/256)² / (total/256), in whole numbers.
    let squares = counts.iter().map(|count| {
        let off = count.saturating_mul(256).abs_diff(total);
        off.saturating_mul(off)
    });
    let sum = squares.fold(0u64, u64::saturating_add);
    sum / total.saturating_mul(256) < NOISE_CHI_SQUARED
}

/// Nine first bytes in ten say as many ticks as the timestamps.
fn is_opus(steps: &[Step]) -> bool {
    let fits = steps.iter().filter(|step| opus_ticks(step) == Some(step.ticks)).count();
    steps.len() >= OPUS_STEPS_MIN && fits.saturating_mul(10) >= steps.len().saturating_mul(9)
}

/// Ticks of 48 kHz that an Opus packet lasts, by its first bytes.
fn opus_ticks(step: &Step) -> Option<u32> {
    let [toc, second] = step.first_two;
    let config = toc >> 3;
    let frame = match (config, config & 3) {
        (0..=11, 0) => 480,
        (0..=11, 1) => 960,
        (0..=11, 2) => 1_920,
        (0..=11, _) => 2_880,
        (12..=15, size) => {
            if size & 1 == 0 {
                480
            } else {
                960
            }
        }
        (_, size) => 120 << size,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(second & 0x3f),
    };
    let ticks: u32 = frame * frames;
    (step.payload_type >= 96 && step.payload_len > 0 && (1..=5_760).contains(&ticks))
        .then_some(ticks)
}

/// One step is by far the commonest, and is 10 to 120 ms on a clock that agrees with the arrivals.
fn is_timed_like_sound<'a>(
    steps: &[Step],
    views: impl Iterator<Item = (PacketTime, RtpView<'a>)>,
) -> bool {
    let Some(ticks) = median(steps.iter().map(|step| step.ticks).collect()) else { return false };
    let same = steps.iter().filter(|step| step.ticks == ticks).count();
    let is_small = steps.iter().all(|step| step.payload_len <= 700);
    let (mut times, mut count) = (None, 0u64);
    for (time, _) in views {
        count = count.saturating_add(1);
        times = Some(times.map_or((time, time), |(first, _)| (first, time)));
    }
    let Some((first, last)) = times else { return false };
    let packet_ns = last.ns_since(first).unsigned_abs() / count.saturating_sub(1).max(1);
    let is_clock = |clock_hz: u64| {
        let step_ns = u64::from(ticks).saturating_mul(1_000_000_000) / clock_hz;
        let is_ptime = (10_000_000..=120_000_000).contains(&step_ns);
        is_ptime && packet_ns.abs_diff(step_ns) <= step_ns / 4
    };
    let is_audio_clock = [8_000, 16_000, 32_000, 48_000].into_iter().any(is_clock);
    is_small && same.saturating_mul(10) >= steps.len().saturating_mul(7) && is_audio_clock
}

fn median(mut numbers: Vec<u32>) -> Option<u32> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet every 20 ms.
    fn stream(payload_type: u8, ticks: u32, payloads: &[Vec<u8>]) -> Vec<(PacketTime, Vec<u8>)> {
        let packet = |(at, payload): (usize, &Vec<u8>)| {
            let at_u16 = u16::try_from(at).expect("small");
            let mut bytes = vec![0x80, payload_type];
            bytes.extend((65_530u16.wrapping_add(at_u16)).to_be_bytes());
            bytes.extend((u32::from(at_u16).wrapping_mul(ticks)).to_be_bytes());
            bytes.extend([0, 0, 0, 7]);
            bytes.extend(payload);
            (PacketTime::from_ms(i64::from(at_u16) * 20), bytes)
        };
        payloads.iter().enumerate().map(packet).collect()
    }

    fn sound(packets: &[(PacketTime, Vec<u8>)]) -> Sound {
        look(&packets.iter().map(|(time, bytes)| (*time, bytes.as_slice()))).sound
    }

    fn noise(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            u8::try_from(state >> 11 & 0xff).expect("masked")
        };
        (0..len).map(|_| next()).collect()
    }

    fn many(count: u32, payload: impl Fn(u32) -> Vec<u8>) -> Vec<Vec<u8>> {
        (0..count).map(payload).collect()
    }

    #[test]
    fn static_types_are_told_by_their_sizes_and_ciphertext_by_its_tag() {
        let quiet = |len| move |_| vec![0xd5; len];
        assert_eq!(sound(&stream(8, 160, &many(5, quiet(160)))), Sound::Static);
        assert_eq!(sound(&stream(8, 160, &many(4, quiet(160)))), Sound::Unconvincing);
        assert_eq!(sound(&stream(18, 160, &many(9, quiet(20)))), Sound::Static);
        assert_eq!(sound(&stream(9, 160, &many(9, quiet(170)))), Sound::Encrypted);
        assert_eq!(sound(&stream(8, 160, &many(9, quiet(93)))), Sound::Stream);
    }

    #[test]
    fn noise_of_the_right_size_is_not_taken_for_sound() {
        let random = many(50, |seed| noise(160, seed + 1));
        assert_eq!(sound(&stream(0, 160, &random)), Sound::Encrypted);
    }

    #[test]
    fn opus_is_told_by_its_first_byte_and_anything_else_by_its_timing() {
        let opus = |seed| [vec![0x78], noise(60, seed + 1)].concat();
        assert_eq!(sound(&stream(96, 960, &many(30, opus))), Sound::Opus);
        let random = many(30, |seed| noise(60, seed + 1));
        assert_eq!(sound(&stream(96, 960, &random)), Sound::Dynamic);
        assert_eq!(sound(&stream(96, 960, &random[..20])), Sound::Stream);
        assert_eq!(sound(&stream(96, 3_000, &random)), Sound::Stream, "video's clock");
    }

    #[test]
    fn digits_alone_are_events() {
        let digit = |at: u32| vec![1, 10, 0, u8::try_from(at).unwrap_or(0)];
        let packets = stream(101, 0, &many(10, digit));
        let looks = look(&packets.iter().map(|(time, bytes)| (*time, bytes.as_slice())));
        assert_eq!((looks.sound, looks.events), (Sound::Events, Some(101)));
    }

    #[test]
    fn numbers_that_jump_are_no_stream() {
        let mut packets = stream(0, 160, &many(40, |_| vec![0xff; 160]));
        for (at, (_, bytes)) in packets.iter_mut().enumerate() {
            bytes[2..4].copy_from_slice(&noise(2, u32::try_from(at).expect("small") + 9));
        }
        assert_eq!(sound(&packets), Sound::Unconvincing);
    }
}
