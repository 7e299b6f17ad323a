//! Puts a stream's packets at their place on the track.
//!
//! Purpose: RTP timestamps place the sound, arrival anchors them; jumps are believed only when the
//! packets after them confirm them.
//! Invariants: what is placed stays; a continuous stream is never stepped, only stretched; a packet
//! waits at most `ANCHORING_MS` for company.
//! Non-goals: order (see `stream`), choosing among streams (see `call_media`).
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
use super::decoder::{Codec, Decoder};
use super::gaps::{Gap, GapLog, GapReason};
use super::noise::NoiseSpans;
use super::stretch::Stretcher;
use super::track::{SLOT_MS, Track};
use crate::base::time::{NS_PER_MS, NS_PER_S};
use crate::base::{Channel, PacketTime};
use crate::codec::{ComfortNoise, packet_info};
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

/// A kept Opus packet may stand this far from its grid place before the grid is corrected.
const GRID_ERROR_NS: i64 = 14 * NS_PER_MS;

/// Opus packets so small hold silence or noise: a pause in which the grid may be corrected.
const PAUSE_BYTES: usize = 12;

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

/// Places one stream's packets.
#[derive(Debug, Default)]
pub struct Placer {
    anchor: Option<Anchor>,
    doubted: Vec<(ExtendedSeq, Held)>,
    next: Option<(ExtendedSeq, i64)>,
    last_duration: i64,
    last_arrival: Option<PacketTime>,
    decoder: Option<Decoder>,
    stretcher: Option<(u32, Stretcher)>,
    last_grid: Option<(i64, i64)>,
    transcoded: bool,
    pcm: Vec<i16>,
    out: Vec<i16>,
}

impl Placer {
    /// True when arriving Opus had to be decoded.
    pub const fn was_transcoded(&self) -> bool {
        self.transcoded
    }

    /// Picks the codec of what follows.
    pub fn select(&mut self, codec: Codec) {
        if self.decoder.as_ref().is_none_or(|decoder| decoder.codec() != codec) {
            self.decoder = Decoder::new(codec);
            self.stretcher = None;
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
            self.last_grid = None;
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

    /// Writes one packet by the anchor.
    fn put(&mut self, sequence: ExtendedSeq, held: &Held, surface: &mut Surface<'_>) -> u64 {
        let Some(anchor) = &mut self.anchor else { return 0 };
        anchor.observe(held.arrival, held.timestamp);
        let from_ns = anchor.capture_ns(held.timestamp).saturating_sub(surface.start.ns());
        self.note_loss(sequence, held, from_ns, surface);
        match held.content {
            Content::Other => 0,
            Content::ComfortNoise => {
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
                let kept = codec == Codec::Opus && !self.transcoded;
                if kept && packet_info(&held.payload).is_some_and(|info| info.samples_48k == 960) {
                    return self.put_opus(sequence, held, from_ns, surface);
                }
                self.transcoded |= codec == Codec::Opus;
                self.put_samples(sequence, held, from_ns, surface)
            }
        }
    }

    /// Notes packets that are missing between the last one placed and this one.
    fn note_loss(
        &self,
        sequence: ExtendedSeq,
        held: &Held,
        from_ns: i64,
        surface: &mut Surface<'_>,
    ) {
        let Some((next_sequence, next_timestamp)) = self.next else { return };
        let missing = sequence - next_sequence;
        if missing <= 0 {
            return;
        }
        let most = missing.saturating_mul(self.last_duration.max(1));
        let ticks = match held.timestamp.checked_sub(next_timestamp) {
            Some(ticks) if next_timestamp != i64::MIN => ticks.clamp(0, most),
            _ => most,
        };
        let lost_ns = ticks_to_ns(ticks, held.clock_hz);
        note(surface, from_ns.saturating_sub(lost_ns), from_ns, GapReason::Lost);
    }

    fn put_samples(
        &mut self,
        sequence: ExtendedSeq,
        held: &Held,
        from_ns: i64,
        surface: &mut Surface<'_>,
    ) -> u64 {
        let Some(decoder) = &mut self.decoder else { return 0 };
        let rate_hz = decoder.codec().sample_rate_hz();
        if !decoder.decode(&held.payload, &mut self.pcm) {
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
        let contiguous = self.next == Some((sequence, held.timestamp));
        let after = self.ticks_after_last(held);
        self.next = Some((sequence.next(), held.timestamp.saturating_add(ticks)));
        self.last_duration = ticks;
        surface.track.raise_rate(track_rate(rate_hz).min(surface.rate_hz_max));
        let track_hz = surface.track.rate_hz();
        if self.stretcher.as_ref().is_none_or(|(hz, _)| *hz != track_hz) {
            self.stretcher = Some((track_hz, Stretcher::new(rate_hz, track_hz)));
            self.begin_at(None, from_ns);
        } else if !contiguous {
            self.flush(surface);
            self.begin_at(after, from_ns);
        }
        let Some((_, stretcher)) = &mut self.stretcher else { return 0 };
        stretcher.steer(ns_to_samples(from_ns, track_hz));
        let position = stretcher.push(&self.pcm, &mut self.out);
        self.write(position, surface)
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
        if let Some((track_hz, stretcher)) = &mut self.stretcher {
            let target = ns_to_samples(from_ns, *track_hz);
            let follows =
                after_s.map(|after| stretcher.end_position() + after * f64::from(*track_hz));
            let near = follows.filter(|position| stretcher.is_near(*position, target));
            stretcher.start_at(near.unwrap_or(target).round() as i64);
        }
    }

    fn flush(&mut self, surface: &mut Surface<'_>) {
        if let Some((track_hz, stretcher)) = &mut self.stretcher {
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

    /// Keeps an Opus packet of 20 ms: into the slot nearest to its place.
    fn put_opus(
        &mut self,
        sequence: ExtendedSeq,
        held: &Held,
        from_ns: i64,
        surface: &mut Surface<'_>,
    ) -> u64 {
        const SLOT_NS: i64 = SLOT_MS * NS_PER_MS;
        // What encoders of our own delay, the file's pre-skip takes off all channels: a packet
        // from elsewhere is put later by as much.
        let place_ns = from_ns.saturating_add(surface.pre_skip_ns);
        let nearest = place_ns.saturating_add(SLOT_NS / 2).div_euclid(SLOT_NS);
        let slot = match self.last_grid {
            Some((last_slot, last_timestamp)) => {
                let steps = held.timestamp.saturating_sub(last_timestamp) / 960;
                let expected = last_slot.saturating_add(steps.clamp(-1_000_000, 1_000_000));
                let error_ns = place_ns.saturating_sub(expected.saturating_mul(SLOT_NS));
                let is_pause = held.payload.len() <= PAUSE_BYTES || steps > 1;
                let allowed_ns =
                    if is_pause { GRID_ERROR_NS } else { GRID_ERROR_NS + 3 * NS_PER_MS };
                if error_ns.abs() > allowed_ns { nearest } else { expected }
            }
            None => nearest,
        };
        self.next = Some((sequence.next(), held.timestamp.saturating_add(960)));
        self.last_duration = 960;
        self.last_grid = Some((slot, held.timestamp));
        surface.track.raise_rate(48_000.min(surface.rate_hz_max));
        // A packet of its table of contents alone says "silence goes on": the silence frame of
        // our own does as much, and players stumble over the other.
        if held.payload.len() > 2 && !surface.track.put_packet(slot, &held.payload) {
            let at_ns = slot.saturating_mul(SLOT_NS);
            if slot < surface.track.first_slot() {
                note(surface, at_ns, at_ns.saturating_add(SLOT_NS), GapReason::Late);
                return u64::from(slot >= 0);
            }
        }
        0
    }
}

fn note(surface: &mut Surface<'_>, from_ns: i64, to_ns: i64, reason: GapReason) {
    surface.gaps.note(Gap { channel: surface.channel, from_ns, to_ns, reason });
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
