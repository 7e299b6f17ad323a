//! One stream's payloads to samples.
//!
//! Purpose: pick the decoder that SDP named, and keep its state.
//! Invariants: a payload that a codec refuses gives no samples, never a panic.
//! Non-goals: codecs themselves (see `codec`).
//! Sources: RFC 3551 §4.5 and §6 (names), RFC 3952 §5 (iLBC's mode), RFC 4867 §8.1 (AMR), RFC 5574
//! (Speex), RFC 7587 (Opus), RFC 3389 (comfort noise), RFC 4733 (events).

use crate::codec::amr::{AmrBand, AmrFormat};
use crate::codec::g726::Packing;
use crate::codec::l16::{L16Channels, decode_l16};
use crate::codec::speech::{IlbcMode, SpeechCodec, SpeechDecoder};
use crate::codec::{Concealer, G722Decoder, OpusDecoder, g711};
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
    /// Sound that cannot be decoded.
    Undecodable,
    /// Sound that libavcodec would decode, was it there.
    NoDecoder,
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
    /// A speech coder of libavcodec's.
    Speech(SpeechCodec),
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
            Self::Speech(codec) => codec.sample_rate_hz(),
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
        _ => match speech(format) {
            Some(codec) if codec.is_available() => Meaning::Audio(Codec::Speech(codec)),
            Some(_) => Meaning::NoDecoder,
            None => Meaning::Undecodable,
        },
    }
}

/// The speech coder of a format, as far as it is one that is read.
fn speech(format: &MediaFormat) -> Option<SpeechCodec> {
    let amr = |band| AmrFormat::from_fmtp(band, &format.fmtp).map(SpeechCodec::Amr);
    if format.channels != 1 {
        return None;
    }
    match (format.encoding.as_str(), format.clock_hz) {
        ("G729" | "G729A" | "G729B" | "G729AB", 8_000) => Some(SpeechCodec::G729),
        ("G723" | "G7231" | "G723.1", 8_000) => Some(SpeechCodec::G723),
        ("GSM", 8_000) => Some(SpeechCodec::Gsm),
        ("ILBC", 8_000) => Some(SpeechCodec::Ilbc(ilbc_mode(&format.fmtp))),
        ("AMR", 8_000) => amr(AmrBand::Narrow),
        ("AMR-WB", 16_000) => amr(AmrBand::Wide),
        ("SPEEX", 8_000 | 16_000 | 32_000) => Some(SpeechCodec::Speex(format.clock_hz)),
        ("G721", 8_000) => Some(SpeechCodec::G726(4, Packing::Rfc3551)),
        (name, 8_000) => {
            let (name, packing) = match name.strip_prefix("AAL2-") {
                Some(name) => (name, Packing::Aal2),
                None => (name, Packing::Rfc3551),
            };
            let bits = match name {
                "G726-16" => 2,
                "G726-24" => 3,
                "G726-32" => 4,
                "G726-40" => 5,
                _ => return None,
            };
            Some(SpeechCodec::G726(bits, packing))
        }
        _ => None,
    }
}

fn ilbc_mode(fmtp: &str) -> IlbcMode {
    let modes = fmtp.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut modes = modes.filter(|(name, _)| name.trim().eq_ignore_ascii_case("mode"));
    match modes.next() {
        Some((_, value)) if value.trim() == "20" => IlbcMode::Ms20,
        _ => IlbcMode::Ms30,
    }
}

/// Why payloads of a format are kept as they came, for people.
#[must_use]
pub fn why_unread(meaning: Meaning, codec: &str) -> String {
    match meaning {
        Meaning::NoDecoder if cfg!(feature = "libavcodec") => {
            format!("cannot be decoded by the libavcodec of this system ({codec})")
        }
        Meaning::NoDecoder => {
            format!("cannot be decoded, because this build has no libavcodec ({codec})")
        }
        _ => format!("cannot be decoded ({codec})"),
    }
}

enum State {
    Pcma,
    Pcmu,
    G722(Box<G722Decoder>),
    L16(L16Channels),
    Opus(Box<OpusDecoder>),
    Speech(Box<SpeechDecoder>),
}

/// Milliseconds that are concealed after a sound.
const CONCEALED_MS: usize = 60;

/// Milliseconds that the packet after a longer loss is asked for.
const RESTORED_MS: usize = 20;

/// What was made for a loss, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// After the sound before it.
    pub head: usize,
    /// Before the packet after it; they stand behind the head's.
    pub tail: usize,
}

/// A decoder with its state.
pub struct Decoder {
    codec: Codec,
    state: State,
    /// For codecs that conceal nothing themselves.
    concealer: Concealer,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Decoder({:?})", self.codec)
    }
}

impl Decoder {
    /// A fresh decoder; `None` when its library has no memory for one.
    #[must_use]
    pub fn new(codec: Codec) -> Option<Self> {
        let state = match codec {
            Codec::Pcma => State::Pcma,
            Codec::Pcmu => State::Pcmu,
            Codec::G722 => State::G722(Box::<G722Decoder>::default()),
            Codec::L16(_, 2) => State::L16(L16Channels::Stereo),
            Codec::L16(..) => State::L16(L16Channels::Mono),
            Codec::Opus => State::Opus(Box::new(OpusDecoder::new().ok()?)),
            Codec::Speech(codec) => State::Speech(Box::new(SpeechDecoder::new(codec).ok()?)),
        };
        Some(Self { codec, state, concealer: Concealer::new(codec.sample_rate_hz()) })
    }

    /// Which codec it is for.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Listens to payloads that [`decode`](Self::decode) will be given, where that helps: G.726 has two
    /// packings, and the sound tells which.
    pub fn prepare<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) {
        if let State::Speech(decoder) = &mut self.state {
            decoder.prepare(payloads);
        }
    }

    /// The level of the silence that the last payload began, in dB below the overload point.
    #[must_use]
    pub fn silence(&self) -> Option<u8> {
        match &self.state {
            State::Speech(decoder) => decoder.silence(),
            _ => None,
        }
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
            State::Speech(decoder) => decoder.decode(payload, pcm),
        };
        pcm.truncate(decoded.unwrap_or(0));
        if self.codec != Codec::Opus {
            self.concealer.hear(pcm);
        }
        !pcm.is_empty()
    }

    /// Fills `pcm` with what may stand in the place of `lost` samples before `next`, which is decoded
    /// afterwards. At most 60 ms after the sound before are made up; of Opus's in-band correction, also
    /// the 20 ms before `next`.
    pub fn conceal(&mut self, lost: usize, next: &[u8], pcm: &mut Vec<i16>) -> Filled {
        pcm.clear();
        let per_ms = self.codec.sample_rate_hz() as usize / 1_000; // tidy: lossless because 48 000 at most
        let State::Opus(decoder) = &mut self.state else {
            return Filled { head: self.concealer.fill(lost, pcm), tail: 0 };
        };
        let most = CONCEALED_MS.saturating_mul(per_ms);
        if lost <= most {
            pcm.resize(lost, 0);
            let head = decoder.conceal(next, pcm).unwrap_or(0);
            pcm.truncate(head);
            return Filled { head, tail: 0 };
        }
        pcm.resize(most, 0);
        let restored = RESTORED_MS.saturating_mul(per_ms);
        let (made, after) = pcm.split_at_mut(most.saturating_sub(restored));
        let head = decoder.conceal_alone(made).unwrap_or(0);
        let tail = decoder.conceal(next, after).unwrap_or(0);
        if head < made.len() || tail < restored {
            pcm.clear();
            return Filled::default();
        }
        Filled { head, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning_of(encoding: &str, clock_hz: u32, fmtp: &str) -> Meaning {
        let (payload_type, channels) = (96, 1);
        let encoding = encoding.to_owned();
        let fmtp = fmtp.to_owned();
        meaning(&MediaFormat { payload_type, encoding, clock_hz, channels, fmtp })
    }

    #[test]
    fn names_mean_what_their_registrations_say() {
        let is_built = cfg!(feature = "libavcodec");
        let speech = |codec| {
            if is_built { Meaning::Audio(Codec::Speech(codec)) } else { Meaning::NoDecoder }
        };
        let g726 = |bits, packing| speech(SpeechCodec::G726(bits, packing));
        assert_eq!(meaning_of("PCMA", 8_000, ""), Meaning::Audio(Codec::Pcma));
        assert_eq!(meaning_of("PCMA", 16_000, ""), Meaning::Undecodable);
        assert_eq!(meaning_of("G729", 8_000, "annexb=no"), speech(SpeechCodec::G729));
        assert_eq!(meaning_of("G726-24", 8_000, ""), g726(3, Packing::Rfc3551));
        assert_eq!(meaning_of("AAL2-G726-40", 8_000, ""), g726(5, Packing::Aal2));
        assert_eq!(meaning_of("G721", 8_000, ""), g726(4, Packing::Rfc3551));
        assert_eq!(meaning_of("G726-64", 8_000, ""), Meaning::Undecodable);
        let ilbc = |mode| speech(SpeechCodec::Ilbc(mode));
        assert_eq!(meaning_of("ILBC", 8_000, "x=1; Mode=20"), ilbc(IlbcMode::Ms20));
        assert_eq!(meaning_of("ILBC", 8_000, ""), ilbc(IlbcMode::Ms30));
        assert_eq!(meaning_of("AMR", 8_000, "crc=1"), Meaning::Undecodable);
        assert_eq!(meaning_of("AMR-WB", 8_000, ""), Meaning::Undecodable);
        assert_eq!(meaning_of("SPEEX", 32_000, ""), speech(SpeechCodec::Speex(32_000)));
        assert_eq!(meaning_of("GSM-EFR", 8_000, ""), Meaning::Undecodable);
    }

    #[test]
    fn people_are_told_why() {
        assert_eq!(why_unread(Meaning::Undecodable, "EVS"), "cannot be decoded (EVS)");
        assert!(why_unread(Meaning::NoDecoder, "G729").contains("libavcodec"));
    }
}
