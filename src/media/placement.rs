//! Puts a stream's packets at their place on the track.
//!
//! Purpose: RTP timestamps place the sound, arrival anchors them; jumps are believed only when the
//! packets after them confirm them.
//! Invariants: what is placed stays; a continuous stream is never stepped, only stretched; a packet
//! waits at most `ANCHORING_MS` for company; what conceals a loss moves nothing.
//! Non-goals: order (see `stream`), choosing among streams (see `call_media`), Opus that is kept as
//! it came (see `kept_opus`).
//! Sources: RFC 3550 §5.1 (timestamps), RFC 4733 §2.1 (events freeze the clock on some phones),
//! RFC 7587 §4.2 (Opus durations).
//!
//! ```text
//!             200 ms or 20 packets             |deviation| > 60 ms
//!  Anchoring ───────────────────────► Placing ─────────────────────► Doubting
//!                                      ▲   ▲    back within 60 ms: a stall │
//!                                      │   └───────────────────────────────┤
//!                                      └───────────────────────────────────┘
//!                                        three packets and 120 ms: a jump, anchored anew
//! ```

#![allow(clippy::cast_possible_truncation, reason = "a position is rounded to a whole sample")]

use super::anchor::Anchor;
use super::decoder::{Codec, Decoder, Filled};
use super::gaps::{Gap, GapLog, GapReason};
use super::kept_opus::{KeptOpus, is_kept};
use super::noise::NoiseSpans;
use super::reading::Redundant;
use super::stretch::Stretcher;
use super::track::{SLOT_MS, Track};
use crate::base::time::{NS_PER_MS, NS_PER_S};
use crate::base::{Channel, PacketTime};
use crate::codec::ComfortNoise;
use crate::rtp::extended_seq::ExtendedSeq;

/// A first packet waits this long for others, to know which was delayed least.
const ANCHORING_MS: i64 = 200;

/// With so many packets the least delay is known well enough.
const ANCHORING_PACKETS: usize = 20;

/// Later (or earlier) than this against the anchor is doubted.
const DOUBT_NS: i64 = 60 * NS_PER_MS;

/// How long a doubted packet waits for others to confirm or refute it.
const DOUBT_MS: i64 = 120;

/// So many packets confirm a jump.
const JUMP_PACKETS: usize = 3;

/// A lone packet so far off is a jump: no network delays that long.
const JUMP_NS: i64 = NS_PER_S;

/// After such a silence the clocks may have parted: anchor anew.
const SILENCE_MS: i64 = 5_000;

/// What a packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Sound in the stream's codec.
    Audio(Codec),
    /// RFC 3389 parameters.
    ComfortNoise,
    /// An event, or what cannot be decoded: it only takes a sequence number.
    Other,
}

/// A packet on its way to the track.
#[derive(Clone, Debug)]
pub struct Held {
    /// When it passed the tap.
    pub arrival: PacketTime,
    /// Extended RTP timestamp.
    pub timestamp: i64,
    /// RTP clock.
    pub clock_hz: u32,
    /// What it is.
    pub content: Content,
    /// RTP payload.
    pub payload: Vec<u8>,
    /// Older payloads that came along, oldest first.
    pub redundant: Vec<Redundant>,
}

/// Packets that did not come before one that did.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// How long, in RTP ticks.
    pub ticks: i64,
    /// True when the timestamps say as much: the loss follows the sound before it directly.
    pub is_whole: bool,
}

/// Where sound goes: one channel of the recording.
#[derive(Debug)]
pub struct Surface<'a> {
    /// Second 0 of the recording.
    pub start: PacketTime,
    /// Whose sound it is.
    pub channel: Channel,
    /// The samples.
    pub track: &'a mut Track,
    /// What is missing.
    pub gaps: &'a mut GapLog,
    /// Encoder delay that every kept Opus packet must share, in ns.
    pub pre_skip_ns: i64,
    /// Comfort noise to be made from a moment on: level and from where.
    pub noise: &'a mut NoiseSpans,
    /// The highest rate that the track may take.
    pub rate_hz_max: u32,
}

/// A stretcher and what it was made for.
#[derive(Debug)]
struct Fitted {
    rate_hz: u32,
    track_hz: u32,
    stretcher: Stretcher,
}

/// Places one stream's packets.
#[derive(Debug, Default)]
pub struct Placer {
    anchor: Option<Anchor>,
    doubted: Vec<(ExtendedSeq, Held)>,
    next: Option<(ExtendedSeq, i64)>,
    last_duration: i64,
    last_arrival: Option<PacketTime>,
    decoder: Option<Decoder>,
    stretcher: Option<Fitted>,
    kept: KeptOpus,
    transcoded: bool,
    pcm: Vec<i16>,
    made: Vec<i16>,
    out: Vec<i16>,
}

impl Placer {
    /// True when arriving Opus had to be decoded.
    pub const fn was_transcoded(&self) -> bool {
        self.transcoded
    }

    /// Another stream is heard instead: what this one sends meanwhile is not missing when it returns.
    pub const fn pause(&mut self) {
        self.next = None;
    }

    /// Picks the codec of what follows.
    pub fn select(&mut self, codec: Codec) {
        if self.decoder.as_ref().is_none_or(|decoder| decoder.codec() != codec) {
            self.decoder = Decoder::new(codec);
        }
    }

    /// Takes the next packet in order; returns how many came too late for their place.
    pub fn place(&mut self, sequence: ExtendedSeq, held: Held, surface: &mut Surface<'_>) -> u64 {
        if held.content == Content::Other {
            // Its timestamp may stand still (RFC 4733 §2.1): nothing is anchored by it.
            self.flush(surface);
            self.next = Some((sequence.next(), i64::MIN));
            return 0;
        }
        let silent = self.last_arrival.is_some_and(|last| held.arrival.ms_since(last) > SILENCE_MS);
        let mut late = 0;
        if silent {
            late += self.resolve(surface);
            self.anchor = None;
        }
        self.last_arrival = Some(held.arrival);
        let deviation =
            self.anchor.as_ref().map(|anchor| anchor.deviation_ns(held.arrival, held.timestamp));
        match deviation {
            Some(off) if off.abs() <= DOUBT_NS => {
                // A stall is over: what was held up has its place by the old anchor.
                late += self.release(surface);
                late + self.put(sequence, &held, surface)
            }
            _ => {
                self.doubted.push((sequence, held));
                if self.anchor.is_none() && self.doubted.len() >= ANCHORING_PACKETS {
                    late += self.resolve(surface);
                }
                late
            }
        }
    }

    /// Decides on what waits since long enough; returns how many came too late.
    pub fn tick(&mut self, now: PacketTime, surface: &mut Surface<'_>) -> u64 {
        let wait_ms = if self.anchor.is_some() { DOUBT_MS } else { ANCHORING_MS };
        match self.doubted.first() {
            Some((_, first)) if now.ms_since(first.arrival) >= wait_ms => self.resolve(surface),
            _ => 0,
        }
    }

    /// Places everything; returns how many came too late.
    pub fn finish(&mut self, surface: &mut Surface<'_>) -> u64 {
        let late = self.resolve(surface);
        self.flush(surface);
        late
    }

    /// Notes where a packet would have stood that came after its successors were placed.
    pub fn note_late(&self, held: &Held, surface: &mut Surface<'_>) {
        if let Some(anchor) = &self.anchor {
            let from_ns = anchor.capture_ns(held.timestamp).saturating_sub(surface.start.ns());
            let duration = ticks_to_ns(self.last_duration, held.clock_hz);
            note(surface, from_ns, from_ns.saturating_add(duration), GapReason::Late);
        }
    }

    /// The doubted packets prove a jump, or do not.
    fn resolve(&mut self, surface: &mut Surface<'_>) -> u64 {
        let Some((_, first)) = self.doubted.first() else { return 0 };
        let least_off = self.anchor.as_ref().and_then(|anchor| {
            let offs = self
                .doubted
                .iter()
                .map(|(_, held)| anchor.deviation_ns(held.arrival, held.timestamp));
            offs.min_by_key(|off| off.abs())
        });
        let believed = match least_off {
            None => true,
            Some(off) => {
                let confirmed = self.doubted.len() >= JUMP_PACKETS && off.abs() > DOUBT_NS;
                confirmed || off.abs() > JUMP_NS
            }
        };
        if believed {
            let mut anchor = Anchor::new(first.clock_hz, first.arrival, first.timestamp);
            for (_, held) in &self.doubted {
                anchor.observe(held.arrival, held.timestamp);
            }
            self.anchor = Some(anchor);
            self.flush(surface);
            // What was to follow is not what follows: no loss is told from a jump's distance.
            self.next = self.next.map(|(sequence, _)| (sequence, i64::MIN));
            self.kept.forget();
            self.prepare();
        }
        self.release(surface)
    }

    /// Lets the decoder listen to what it will be given.
    fn prepare(&mut self) {
        let codec = self.doubted.iter().find_map(|(_, held)| match held.content {
            Content::Audio(codec) => Some(codec),
            _ => None,
        });
        let Some(codec) = codec else { return };
        self.select(codec);
        let same = self.doubted.iter().filter(|(_, held)| held.content == Content::Audio(codec));
        if let Some(decoder) = &mut self.decoder {
            decoder.prepare(same.map(|(_, held)| held.payload.as_slice()));
        }
    }

    fn release(&mut self, surface: &mut Surface<'_>) -> u64 {
        let mut late = 0;
        for (sequence, held) in std::mem::take(&mut self.doubted) {
            late += self.put(sequence, &held, surface);
        }
        late
    }

    /// Writes one packet by the anchor, and before it what it brings along of those that are missing.
    fn put(&mut self, sequence: ExtendedSeq, held: &Held, surface: &mut Surface<'_>) -> u64 {
        let Some(anchor) = &mut self.anchor else { return 0 };
        anchor.observe(held.arrival, held.timestamp);
        let mut late = 0;
        for (sequence, older) in self.recovered(sequence, held) {
            late += self.put_one(sequence, &older, surface);
        }
        late + self.put_one(sequence, held, surface)
    }

    /// The older payloads of a packet that are missing, as packets of their own.
    fn recovered(&self, sequence: ExtendedSeq, held: &Held) -> Vec<(ExtendedSeq, Held)> {
        let Some((next_sequence, next_timestamp)) = self.next else { return Vec::new() };
        let missing = sequence - next_sequence;
        if held.redundant.is_empty() || missing <= 0 || next_timestamp == i64::MIN {
            return Vec::new();
        }
        let is_missing =
            |it: &&Redundant| it.timestamp >= next_timestamp && it.timestamp < held.timestamp;
        let as_packet = |older: &Redundant| {
            let behind = older.timestamp.saturating_sub(next_timestamp);
            let number = (behind / self.last_duration.max(1)).min(missing - 1);
            let content = Content::Audio(older.codec);
            let (payload, redundant) = (older.payload.clone(), Vec::new());
            let packet = Held { timestamp: older.timestamp, content, payload, redundant, ..*held };
            (ExtendedSeq(next_sequence.0.saturating_add(number.unsigned_abs())), packet)
        };
        held.redundant.iter().filter(is_missing).map(as_packet).collect()
    }

    fn put_one(&mut self, sequence: ExtendedSeq, held: &Held, surface: &mut Surface<'_>) -> u64 {
        let Some(anchor) = &self.anchor else { return 0 };
        let from_ns = anchor.capture_ns(held.timestamp).saturating_sub(surface.start.ns());
        let loss = self.loss(sequence, held);
        match held.content {
            Content::Other => 0,
            Content::ComfortNoise => {
                note_loss(loss, held, (from_ns, 0), surface);
                self.flush(surface);
                if let Some(noise) = ComfortNoise::parse(&held.payload) {
                    surface.noise.begin(noise, from_ns);
                }
                self.next = Some((sequence.next(), i64::MIN));
                0
            }
            Content::Audio(codec) => {
                self.select(codec);
                surface.noise.end(from_ns);
                if codec == Codec::Opus && !self.transcoded && is_kept(&held.payload, surface) {
                    return self.keep(sequence, held, (from_ns, loss), surface);
                }
                self.transcoded |= codec == Codec::Opus;
                self.put_samples(sequence, held, (from_ns, loss), surface)
            }
        }
    }

    /// Packets that are missing between the last one placed and this one.
    fn loss(&self, sequence: ExtendedSeq, held: &Held) -> Option<Loss> {
        let (next_sequence, next_timestamp) = self.next?;
        let missing = sequence - next_sequence;
        if missing <= 0 {
            return None;
        }
        let most = missing.saturating_mul(self.last_duration.max(1));
        match held.timestamp.checked_sub(next_timestamp) {
            Some(ticks) if next_timestamp != i64::MIN => {
                Some(Loss { ticks: ticks.clamp(0, most), is_whole: ticks > 0 && ticks <= most })
            }
            _ => Some(Loss { ticks: most, is_whole: false }),
        }
    }

    fn put_samples(
        &mut self,
        sequence: ExtendedSeq,
        held: &Held,
        (from_ns, loss): (i64, Option<Loss>),
        surface: &mut Surface<'_>,
    ) -> u64 {
        let Some(rate_hz) = self.decoder.as_ref().map(|it| it.codec().sample_rate_hz()) else {
            return 0;
        };
        let is_fitted = self.fit(rate_hz, surface);
        let filled = match loss.filter(|loss| loss.is_whole && is_fitted) {
            Some(loss) => self.conceal(loss, held),
            None => Filled::default(),
        };
        let Some(decoder) = &mut self.decoder else { return 0 };
        if !decoder.decode(&held.payload, &mut self.pcm) {
            note_loss(loss, held, (from_ns, 0), surface);
            let to_ns = from_ns.saturating_add(SLOT_MS * NS_PER_MS);
            note(surface, from_ns, to_ns, GapReason::Undecodable);
            self.next = Some((sequence.next(), i64::MIN));
            return 0;
        }
        let ticks = len_i64(&self.pcm) * i64::from(held.clock_hz) / i64::from(rate_hz);
        let silence = decoder.silence().and_then(|level| ComfortNoise::parse(&[level]));
        if let Some(noise) = silence {
            surface.noise.begin(noise, from_ns.saturating_add(ticks_to_ns(ticks, held.clock_hz)));
        }
        let contiguous = is_fitted && self.next == Some((sequence, held.timestamp));
        let after = self.ticks_after_last(held);
        self.next = Some((sequence.next(), held.timestamp.saturating_add(ticks)));
        self.last_duration = ticks;
        if !contiguous {
            let concealed_ns = self.bridge(filled, (from_ns, after), surface);
            note_loss(loss, held, (from_ns, concealed_ns), surface);
        }
        let Some(fitted) = &mut self.stretcher else { return 0 };
        fitted.stretcher.steer(ns_to_samples(from_ns, fitted.track_hz));
        let position = fitted.stretcher.push(&self.pcm, &mut self.out);
        self.write(position, surface)
    }

    /// Makes the stretcher one for these rates; false when what follows begins anew by that.
    fn fit(&mut self, rate_hz: u32, surface: &mut Surface<'_>) -> bool {
        let wanted_hz = track_rate(rate_hz).min(surface.rate_hz_max).max(surface.track.rate_hz());
        let fits = |it: &Fitted| it.rate_hz == rate_hz && it.track_hz == wanted_hz;
        if self.stretcher.as_ref().is_some_and(fits) {
            return true;
        }
        self.flush(surface);
        surface.track.raise_rate(wanted_hz);
        let mut stretcher = Stretcher::new(rate_hz, wanted_hz);
        if let Some(before) = &self.stretcher {
            let ended = before.stretcher.end_position() * f64::from(wanted_hz);
            stretcher.start_at((ended / f64::from(before.track_hz)).round() as i64);
        } else {
            stretcher.start_at(i64::MIN / 4);
        }
        self.stretcher = Some(Fitted { rate_hz, track_hz: wanted_hz, stretcher });
        false
    }

    /// Makes sound for a loss, into `made`.
    fn conceal(&mut self, loss: Loss, held: &Held) -> Filled {
        let Some(decoder) = &mut self.decoder else { return Filled::default() };
        let rate_hz = i64::from(decoder.codec().sample_rate_hz());
        let lost = loss.ticks.saturating_mul(rate_hz) / i64::from(held.clock_hz.max(1));
        let lost = usize::try_from(lost).unwrap_or(0);
        let filled = decoder.conceal(lost, &held.payload, &mut self.made);
        // All of it, or a part with a rest that is silent.
        if filled.head + filled.tail >= lost { Filled { head: lost, tail: 0 } } else { filled }
    }

    /// Leads from the sound before over what is missing to what is to be pushed next; returns how
    /// much of it was filled, in ns.
    fn bridge(
        &mut self,
        filled: Filled,
        (from_ns, after_s): (i64, Option<f64>),
        surface: &mut Surface<'_>,
    ) -> i64 {
        let made = std::mem::take(&mut self.made);
        let (head, tail) = made.split_at(filled.head.min(made.len()));
        let rate_hz = self.stretcher.as_ref().map_or(8_000, |it| it.rate_hz);
        let seconds = |samples: usize| samples as f64 / f64::from(rate_hz);
        let mut concealed = self.push_made(head, surface);
        let rest_s = after_s.map(|after_s| after_s - seconds(concealed + filled.tail));
        let is_closed = concealed > 0 && rest_s.is_some_and(|rest_s| rest_s < 0.000_5);
        if !is_closed {
            self.flush(surface);
            let tail_ns = ticks_to_ns(len_i64(tail), rate_hz);
            self.begin_at(rest_s, from_ns.saturating_sub(tail_ns));
            let before = self.push_made(tail, surface);
            if before < tail.len() {
                self.begin_at(rest_s.map(|rest_s| rest_s + seconds(tail.len())), from_ns);
            }
            concealed += before;
        }
        self.made = made;
        ticks_to_ns(i64::try_from(concealed).unwrap_or(0), rate_hz)
    }

    /// Writes sound that was made up, and returns its length; 0 where its place was already handed
    /// out, at least partly: it is left away then.
    fn push_made(&mut self, made: &[i16], surface: &mut Surface<'_>) -> usize {
        let first = surface.track.first_sample() as f64;
        let in_time = |it: &&mut Fitted| !made.is_empty() && it.stretcher.end_position() >= first;
        let Some(fitted) = self.stretcher.as_mut().filter(in_time) else { return 0 };
        let position = fitted.stretcher.push(made, &mut self.out);
        surface.track.write(position, &self.out);
        made.len()
    }

    /// RTP ticks from the end of the last packet to this one, unless its clock jumped.
    fn ticks_after_last(&self, held: &Held) -> Option<f64> {
        let (_, expected) = self.next.filter(|(_, expected)| *expected != i64::MIN)?;
        let ticks = held.timestamp.checked_sub(expected).filter(|ticks| *ticks >= 0)?;
        Some(ticks as f64 / f64::from(held.clock_hz.max(1)))
    }

    /// Begins after a gap: `after_s` seconds after the sound before it, as the timestamps say, as
    /// long as that is near to its place; else at its place.
    fn begin_at(&mut self, after_s: Option<f64>, from_ns: i64) {
        if let Some(Fitted { track_hz, stretcher, .. }) = &mut self.stretcher {
            let target = ns_to_samples(from_ns, *track_hz);
            let follows =
                after_s.map(|after| stretcher.end_position() + after * f64::from(*track_hz));
            let near = follows.filter(|position| stretcher.is_near(*position, target));
            stretcher.start_at(near.unwrap_or(target).round() as i64);
        }
    }

    fn flush(&mut self, surface: &mut Surface<'_>) {
        if let Some(Fitted { track_hz, stretcher, .. }) = &mut self.stretcher {
            let position = stretcher.flush(&mut self.out);
            if *track_hz == surface.track.rate_hz() {
                self.write(position, surface);
            }
        }
    }

    /// Writes `self.out`; 1 when all of it came too late.
    fn write(&mut self, position: i64, surface: &mut Surface<'_>) -> u64 {
        let late = surface.track.write(position, &self.out);
        let track_hz = surface.track.rate_hz();
        if late > 0 {
            let from_ns = samples_to_ns(position.max(0), track_hz);
            let late_ns = samples_to_ns(i64::try_from(late).unwrap_or(0), track_hz);
            note(surface, from_ns, from_ns.saturating_add(late_ns), GapReason::Late);
        }
        u64::from(late > 0 && late == self.out.len())
    }

    /// Keeps an Opus packet of 20 ms.
    fn keep(
        &mut self,
        sequence: ExtendedSeq,
        held: &Held,
        (from_ns, loss): (i64, Option<Loss>),
        surface: &mut Surface<'_>,
    ) -> u64 {
        let kept = self.kept.put(held, from_ns, loss, surface);
        note_loss(loss, held, (from_ns, kept.concealed_ns), surface);
        self.next = Some((sequence.next(), held.timestamp.saturating_add(960)));
        self.last_duration = 960;
        kept.late
    }
}

/// Notes packets that are missing before one that stands at `from_ns`.
fn note_loss(
    loss: Option<Loss>,
    held: &Held,
    (from_ns, concealed_ns): (i64, i64),
    surface: &mut Surface<'_>,
) {
    let Some(loss) = loss else { return };
    let lost_ns = ticks_to_ns(loss.ticks, held.clock_hz);
    let (channel, reason) = (surface.channel, GapReason::Lost);
    let gap = Gap::silent(channel, (from_ns.saturating_sub(lost_ns), from_ns), reason);
    surface.gaps.note(Gap { concealed_ns: concealed_ns.min(lost_ns), ..gap });
}

/// Notes that something is missing.
pub fn note(surface: &mut Surface<'_>, from_ns: i64, to_ns: i64, reason: GapReason) {
    surface.gaps.note(Gap::silent(surface.channel, (from_ns, to_ns), reason));
}

/// The track's rate for a codec's: telephone band, wide band, or everything.
const fn track_rate(rate_hz: u32) -> u32 {
    match rate_hz {
        0..=8_000 => 8_000,
        8_001..=16_000 => 16_000,
        _ => 48_000,
    }
}

fn ticks_to_ns(ticks: i64, clock_hz: u32) -> i64 {
    let ns = i128::from(ticks) * i128::from(NS_PER_S) / i128::from(clock_hz.max(1));
    i64::try_from(ns).unwrap_or(i64::MAX / 4)
}

fn ns_to_samples(ns: i64, rate_hz: u32) -> f64 {
    ns as f64 * f64::from(rate_hz) / NS_PER_S as f64
}

fn samples_to_ns(samples: i64, rate_hz: u32) -> i64 {
    ticks_to_ns(samples, rate_hz)
}

fn len_i64(samples: &[i16]) -> i64 {
    i64::try_from(samples.len()).unwrap_or(i64::MAX)
}
