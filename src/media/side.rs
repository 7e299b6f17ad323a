//! One party's side of a recording: its track, its encoder, and what else listens to its sound.
//!
//! Purpose: turn the next slot of a channel into its Opus packet.
//! Invariants: slots are taken in order, each once; tones are looked for in what is encoded.
//! Non-goals: which stream is heard (see `call_media`), a slot's place (see `track`).
//! Sources: RFC 6716 §2.1.4 (20 ms).

use super::digits::DigitLog;
use super::fax::FaxLog;
use super::noise::NoiseSpans;
use super::tones::{Heard, SideTones};
use super::track::{SLOT_MS, Track};
use super::voice::{Voice, VoiceSettings};
use crate::base::time::NS_PER_MS;
use crate::base::{Channel, PacketTime};

/// One party's side.
#[derive(Debug)]
pub struct Side {
    /// Slots that are not handed out yet.
    pub track: Track,
    /// Its encoder.
    voice: Voice,
    /// Comfort noise that was asked for.
    pub noise: NoiseSpans,
    /// The stream that is heard, by its place in the call.
    pub heard: Option<usize>,
    tones: SideTones,
}

impl Side {
    /// A side before its first packet.
    #[must_use]
    pub fn new(settings: VoiceSettings) -> Self {
        Self {
            track: Track::new(8_000),
            voice: Voice::new(settings),
            noise: NoiseSpans::default(),
            heard: None,
            tones: SideTones::default(),
        }
    }

    /// Appends the packet of the next slot, which is number `slot` of a recording that began at
    /// `start`; notes the keys and fax tones that are heard in it.
    pub fn take(
        &mut self,
        (slot, start): (u32, PacketTime),
        channel: Channel,
        (digits, fax): (&mut DigitLog, &mut FaxLog),
        out: &mut Vec<u8>,
    ) {
        out.clear();
        let rate_hz = self.track.rate_hz();
        let taken = self.track.take_slot();
        let slot_from_ns = i64::from(slot) * SLOT_MS * NS_PER_MS;
        self.tones.slot(slot, &taken.pcm, rate_hz, |heard| match heard {
            Heard::Key(key) => digits.tone(channel, start, key),
            Heard::Fax(tone) => fax.tone(tone, start.plus_ns(slot_from_ns)),
        });
        self.voice.encode(taken, rate_hz, slot_from_ns, &self.noise, out);
        self.noise.forget(slot_from_ns);
    }

    /// The recording is over: notes the key that is held in its last slot.
    pub fn finish(&mut self, start: PacketTime, channel: Channel, digits: &mut DigitLog) {
        self.tones.finish(|heard| digits.tone(channel, start, heard));
    }
}
