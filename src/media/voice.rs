//! One channel's slots to Opus packets.
//!
//! Purpose: encode what has sound, and put a canned frame where there is none.
//! Invariants: one packet of 20 ms a slot; the encoder does not run in silence; after silence or a
//! kept packet it begins anew, because the decoder's state is not its own any more.
//! Non-goals: framing two channels into one Ogg packet (see `codec::ogg`).
//! Sources: RFC 6716 §2.1 (bit rates, bandwidths), RFC 7587 §3.1.1 (rates for speech).

use super::noise::NoiseSpans;
use super::track::{SLOT_MS, Slot};
use crate::base::time::NS_PER_MS;
use crate::codec::{EncoderSettings, NoiseGenerator, OpusVoiceEncoder, silence_packet};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Samples no louder than this are silence: A-law's quietest step is ±8.
const SILENCE_PEAK: u16 = 8;

/// Every channel's comfort noise begins alike, so that the same packets give the same recording.
const NOISE_SEED: u64 = 0x6361_6c6c;

/// Silent slots that are still encoded: the encoder lags by 6.5 ms, so that the end of a word stands
/// in the packet after it, and a short pause within speech costs less than beginning anew.
const HANGOVER_SLOTS: u32 = 5;

/// Silent slots that the encoder is run over, unheard, before speech begins again: it then stands
/// where the decoder stands after canned silence.
const WARM_UP_SLOTS: usize = 2;

/// Bytes of the largest Opus packet of one frame (RFC 6716 §3.2.1).
const PACKET_BYTES_MAX: usize = 1_275;

/// What a channel is encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoiceSettings {
    /// Bits per second, or by the band.
    pub bitrate: Option<u32>,
    /// 0–10.
    pub complexity: u8,
}

/// Encodes one channel.
pub struct Voice {
    settings: VoiceSettings,
    encoder: Option<(u32, OpusVoiceEncoder)>,
    silence: Option<(u32, Arc<[u8]>)>,
    /// Silent slots in a row; beyond `HANGOVER_SLOTS` the encoder rests.
    silent_slots: u32,
    generator: NoiseGenerator,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Voice({:?})", self.settings)
    }
}

impl Voice {
    /// A channel before its first slot.
    #[must_use]
    pub const fn new(settings: VoiceSettings) -> Self {
        Self {
            settings,
            encoder: None,
            silence: None,
            silent_slots: u32::MAX,
            generator: NoiseGenerator::new(NOISE_SEED),
        }
    }

    /// Appends the packet of one slot to `out`. `slot_from_ns`: where the slot begins, from the
    /// recording's start; comfort noise fills what was not written.
    pub fn encode(
        &mut self,
        mut slot: Slot,
        rate_hz: u32,
        slot_from_ns: i64,
        noise: &NoiseSpans,
        out: &mut Vec<u8>,
    ) {
        if let Some(packet) = slot.packet {
            self.silent_slots = u32::MAX;
            out.extend_from_slice(&packet);
            return;
        }
        self.fill_noise(&mut slot, rate_hz, slot_from_ns, noise);
        let is_silent = slot.pcm.iter().all(|sample| sample.unsigned_abs() <= SILENCE_PEAK);
        let silent_before = self.silent_slots;
        self.silent_slots = if is_silent { silent_before.saturating_add(1) } else { 0 };
        if self.silent_slots > HANGOVER_SLOTS {
            out.extend_from_slice(&self.silence(rate_hz));
            return;
        }
        slot.pcm.resize((rate_hz / super::track::SLOTS_PER_S) as usize, 0);
        let rested = silent_before > HANGOVER_SLOTS;
        if !self.encode_samples(&slot.pcm, rate_hz, rested, out) {
            out.extend_from_slice(&self.silence(rate_hz));
        }
    }

    fn fill_noise(&mut self, slot: &mut Slot, rate_hz: u32, slot_from_ns: i64, noise: &NoiseSpans) {
        let to_ns = slot_from_ns.saturating_add(SLOT_MS * NS_PER_MS);
        for span in noise.within(slot_from_ns, to_ns) {
            let len = (rate_hz / super::track::SLOTS_PER_S) as usize;
            let mut made = vec![0; len];
            self.generator.fill(&span.noise, &mut made);
            slot.pcm.resize(len, 0);
            let (from, to) = slot.written;
            let ns_per_sample = SLOT_MS * NS_PER_MS / i64::try_from(len.max(1)).unwrap_or(1);
            for (index, (sample, noisy)) in slot.pcm.iter_mut().zip(made).enumerate() {
                let at_ns = slot_from_ns + i64::try_from(index).unwrap_or(0) * ns_per_sample;
                let in_span = at_ns >= span.from_ns && at_ns < span.until_ns;
                if in_span && (index < from || index >= to) {
                    *sample = noisy;
                }
            }
        }
    }

    fn encode_samples(
        &mut self,
        pcm: &[i16],
        rate_hz: u32,
        rested: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut is_fresh = rested;
        if self.encoder.as_ref().is_none_or(|(hz, _)| *hz != rate_hz) {
            let made = OpusVoiceEncoder::new(encoder_settings(self.settings, rate_hz));
            self.encoder = made.ok().map(|encoder| (rate_hz, encoder));
            is_fresh = true;
        }
        let Some((_, encoder)) = &mut self.encoder else { return false };
        let at = out.len();
        if is_fresh {
            encoder.reset();
            let silence = vec![0; pcm.len()];
            let mut unheard = [0; PACKET_BYTES_MAX];
            for _ in 0..WARM_UP_SLOTS {
                let _ = encoder.encode_20ms(&silence, &mut unheard);
            }
        }
        out.resize(at + PACKET_BYTES_MAX, 0);
        let encoded = encoder.encode_20ms(pcm, &mut out[at..]).unwrap_or(0);
        out.truncate(at + encoded);
        encoded > 0
    }

    fn silence(&mut self, rate_hz: u32) -> Arc<[u8]> {
        match &self.silence {
            Some((hz, packet)) if *hz == rate_hz => Arc::clone(packet),
            _ => {
                let packet = canned_silence(encoder_settings(self.settings, rate_hz));
                self.silence = Some((rate_hz, Arc::clone(&packet)));
                packet
            }
        }
    }
}

/// Encoder settings for a channel of a rate: 16 kb/s for the telephone band, 24 for wide band.
#[must_use]
pub fn encoder_settings(settings: VoiceSettings, rate_hz: u32) -> EncoderSettings {
    let by_band = match rate_hz {
        0..=8_000 => 16_000,
        8_001..=16_000 => 24_000,
        _ => 32_000,
    };
    EncoderSettings {
        sample_rate_hz: rate_hz,
        bitrate: settings.bitrate.unwrap_or(by_band),
        complexity: settings.complexity,
    }
}

/// The silence frame of some settings, made once for all calls.
fn canned_silence(settings: EncoderSettings) -> Arc<[u8]> {
    type Known = BTreeMap<(u32, u32, u8), Arc<[u8]>>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let key = (settings.sample_rate_hz, settings.bitrate, settings.complexity);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let packet =
        known.entry(key).or_insert_with(|| silence_packet(settings).unwrap_or_default().into());
    Arc::clone(packet)
}
