//! One stream's payloads to samples.
//!
//! Purpose: pick the decoder that SDP named, and keep its state.
//! Invariants: a payload that a codec refuses gives no samples, never a panic.
//! Non-goals: codecs themselves (see `codec`).
//! Sources: RFC 3551 §4.5, RFC 7587 (Opus), RFC 3389 (comfort noise), RFC 4733 (events).

use crate::codec::l16::{L16Channels, decode_l16};
use crate::codec::{G722Decoder, OpusDecoder, g711};
use crate::rtp::plan::MediaFormat;

/// Samples of the longest packet: 200 ms at 48 kHz.
const SAMPLES_MAX: usize = 9_600;

/// What a payload type means to the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Sound that can be decoded.
    Audio(Codec),
    /// RFC 4733 events.
    Events,
    /// RFC 3389 comfort noise.
    ComfortNoise,
    /// Sound that cannot be decoded here.
    Undecodable,
}

/// Codecs that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// G.711 A-law.
    Pcma,
    /// G.711 μ-law.
    Pcmu,
    /// G.722 at 64 kbit/s.
    G722,
    /// Linear, with rate and channels.
    L16(u32, u8),
    /// Opus.
    Opus,
}

impl Codec {
    /// Rate of the decoded samples. G.722 samples at 16 kHz but its RTP clock runs at 8 000 Hz (RFC
    /// 3551 §4.5.2); Opus's clock is 48 000 whatever it carries (RFC 7587 §4.1).
    #[must_use]
    pub const fn sample_rate_hz(self) -> u32 {
        match self {
            Self::Pcma | Self::Pcmu => 8_000,
            Self::G722 => 16_000,
            Self::L16(rate_hz, _) => rate_hz,
            Self::Opus => 48_000,
        }
    }
}

/// What a format means.
#[must_use]
pub fn meaning(format: &MediaFormat) -> Meaning {
    match format.encoding.as_str() {
        "PCMA" if format.clock_hz == 8_000 => Meaning::Audio(Codec::Pcma),
        "PCMU" if format.clock_hz == 8_000 => Meaning::Audio(Codec::Pcmu),
        "G722" => Meaning::Audio(Codec::G722),
        "OPUS" => Meaning::Audio(Codec::Opus),
        "L16" if matches!(format.clock_hz, 8_000..=48_000) && matches!(format.channels, 1 | 2) => {
            Meaning::Audio(Codec::L16(format.clock_hz, format.channels))
        }
        "TELEPHONE-EVENT" => Meaning::Events,
        "CN" => Meaning::ComfortNoise,
        _ => Meaning::Undecodable,
    }
}

enum State {
    Pcma,
    Pcmu,
    G722(Box<G722Decoder>),
    L16(L16Channels),
    Opus(Box<OpusDecoder>),
}

/// A decoder with its state.
pub struct Decoder {
    codec: Codec,
    state: State,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Decoder({:?})", self.codec)
    }
}

impl Decoder {
    /// A fresh decoder; `None` when libopus has no memory for one.
    #[must_use]
    pub fn new(codec: Codec) -> Option<Self> {
        let state = match codec {
            Codec::Pcma => State::Pcma,
            Codec::Pcmu => State::Pcmu,
            Codec::G722 => State::G722(Box::<G722Decoder>::default()),
            Codec::L16(_, 2) => State::L16(L16Channels::Stereo),
            Codec::L16(..) => State::L16(L16Channels::Mono),
            Codec::Opus => State::Opus(Box::new(OpusDecoder::new().ok()?)),
        };
        Some(Self { codec, state })
    }

    /// Which codec it is for.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Decodes one payload into `pcm`, mono, at the codec's rate; false (and `pcm` empty) when the
    /// payload is not of the codec or longer than 200 ms.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> bool {
        pcm.clear();
        pcm.resize(SAMPLES_MAX, 0);
        let decoded = match &mut self.state {
            State::Pcma => g711::decode_alaw(payload, pcm),
            State::Pcmu => g711::decode_ulaw(payload, pcm),
            State::G722(decoder) => decoder.decode(payload, pcm),
            State::L16(channels) => decode_l16(payload, *channels, pcm),
            State::Opus(decoder) => decoder.decode(payload, pcm),
        };
        pcm.truncate(decoded.unwrap_or(0));
        !pcm.is_empty()
    }
}
