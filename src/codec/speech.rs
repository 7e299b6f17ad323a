//! Speech coders of phones: payloads to frames, frames to samples.
//!
//! Purpose: what RFC 3551 and others say of frames, silence and lengths, around libavcodec's decoders.
//! Invariants: a silence frame is never decoded as speech; what it makes is noise of the level that it
//! tells; a payload gives whole frames or is refused.
//! Non-goals: gaps between packets (see `media`); the coders themselves (see `avcodec`).
//! Sources: RFC 3551 §4.5 (G.723.1, G.729, GSM), RFC 3952 (iLBC), RFC 4867 (AMR), RFC 5574 (Speex);
//! ITU-T G.729 Annex B (silence: §B.4.2).

use super::amr::{AmrFormat, AmrFrame};
use super::avcodec::{AvCodec, AvDecoder};
use super::comfort_noise::{ComfortNoise, NoiseGenerator};
use super::error::CodecError;
use super::g726::{G726Decoder, Packing};
use super::sample::round_to_sample;
use super::speex::{self, SpeexFrames};
use std::sync::LazyLock;

/// Level of silence that tells none, in dB below the overload point: a quiet room.
const QUIET_MINUS_DBOV: u8 = 70;

/// Seed of the noise of silence frames.
const NOISE_SEED: u64 = 0x5349_4421;

/// A speech coder with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeechCodec {
    /// G.729, with or without Annexes A and B.
    G729,
    /// G.723.1.
    G723,
    /// G.726: bits of a code, and the packing that SDP names.
    G726(u8, Packing),
    /// GSM full rate.
    Gsm,
    /// iLBC, with the frames that SDP names.
    Ilbc(IlbcMode),
    /// AMR or AMR-WB.
    Amr(AmrFormat),
    /// Speex at a rate.
    Speex(u32),
}

/// Length of iLBC's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IlbcMode {
    /// 38 bytes.
    Ms20,
    /// 50 bytes; what SDP means without `mode` (RFC 3952 §5).
    Ms30,
}

impl SpeechCodec {
    /// Rate of the samples.
    #[must_use]
    pub const fn sample_rate_hz(self) -> u32 {
        match self {
            Self::Amr(format) => format.band.sample_rate_hz(),
            Self::Speex(rate_hz) => rate_hz,
            _ => 8_000,
        }
    }

    /// Whether this build, and the libavcodec that it met, can decode it.
    #[must_use]
    pub fn is_available(self) -> bool {
        static KNOWN: LazyLock<[bool; 8]> = LazyLock::new(|| {
            [
                AvCodec::G729,
                AvCodec::G723,
                AvCodec::G726Rfc3551(4),
                AvCodec::Gsm,
                AvCodec::Ilbc20,
                AvCodec::Amr,
                AvCodec::AmrWb,
                AvCodec::Speex(8_000),
            ]
            .map(AvDecoder::is_available)
        });
        use super::amr::AmrBand;
        let [g729, g723, g726, gsm, ilbc, amr, amr_wb, speex] = *KNOWN;
        match self {
            Self::G729 => g729,
            Self::G723 => g723,
            Self::G726(..) => g726,
            Self::Gsm => gsm,
            Self::Ilbc(_) => ilbc,
            Self::Amr(AmrFormat { band: AmrBand::Narrow, .. }) => amr,
            Self::Amr(AmrFormat { band: AmrBand::Wide, .. }) => amr_wb,
            Self::Speex(_) => speex,
        }
    }
}

#[derive(Debug)]
enum Coder {
    G729(AvDecoder),
    G723(AvDecoder),
    G726(Box<G726Decoder>),
    Gsm(AvDecoder),
    Ilbc {
        sent: IlbcMode,
        named: IlbcMode,
        decoder: AvDecoder,
    },
    Amr(AmrFormat, AvDecoder),
    /// Samples of a frame.
    Speex(usize, AvDecoder),
}

/// Decodes one stream.
#[derive(Debug)]
pub struct SpeechDecoder {
    coder: Coder,
    silence: Silence,
}

impl SpeechDecoder {
    /// A decoder that has heard nothing yet.
    ///
    /// # Errors
    /// `Unsupported` if the build or its libavcodec has none, `Internal` without memory.
    pub fn new(codec: SpeechCodec) -> Result<Self, CodecError> {
        use super::amr::AmrBand;
        let coder = match codec {
            SpeechCodec::G729 => Coder::G729(AvDecoder::open(AvCodec::G729)?),
            SpeechCodec::G723 => Coder::G723(AvDecoder::open(AvCodec::G723)?),
            SpeechCodec::G726(bits, named) => Coder::G726(Box::new(G726Decoder::new(bits, named)?)),
            SpeechCodec::Gsm => Coder::Gsm(AvDecoder::open(AvCodec::Gsm)?),
            SpeechCodec::Ilbc(named) => {
                Coder::Ilbc { sent: named, named, decoder: AvDecoder::open(ilbc(named).codec)? }
            }
            SpeechCodec::Amr(format) => {
                let codec = match format.band {
                    AmrBand::Narrow => AvCodec::Amr,
                    AmrBand::Wide => AvCodec::AmrWb,
                };
                Coder::Amr(format, AvDecoder::open(codec)?)
            }
            SpeechCodec::Speex(rate_hz) => {
                let samples = usize::try_from(rate_hz / 50).map_err(|_| CodecError::Unsupported)?;
                Coder::Speex(samples, AvDecoder::open(AvCodec::Speex(rate_hz))?)
            }
        };
        Ok(Self { coder, silence: Silence::new() })
    }

    /// Listens to packets that [`decode`](Self::decode) will be given, where that helps.
    pub fn prepare<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) {
        if let Coder::G726(decoder) = &mut self.coder {
            decoder.prepare(payloads);
        }
    }

    /// The level of the silence that the last payload began, in dB below the overload point (as RFC
    /// 3389 counts): noise until the next one. `None` when it ended in speech.
    #[must_use]
    pub const fn silence(&self) -> Option<u8> {
        if self.silence.goes_on { Some(self.silence.level_minus_dbov) } else { None }
    }

    /// Decodes one payload, and returns how many samples it wrote.
    ///
    /// # Errors
    /// `BadLength` or `BadPacket` if it is no payload of this coder, `FrameTooLong` if it does not
    /// fit `pcm`.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        let silence = &mut self.silence;
        match &mut self.coder {
            Coder::G729(decoder) => g729(decoder, silence, payload, pcm),
            Coder::G723(decoder) => g723(decoder, silence, payload, pcm),
            Coder::G726(decoder) => decoder.decode(payload, pcm),
            Coder::Gsm(decoder) => equal_frames(decoder, payload, (33, 160), pcm),
            Coder::Ilbc { sent, named, decoder } => {
                let mode = ilbc_mode(payload.len(), *named).ok_or(CodecError::BadLength)?;
                if mode != *sent {
                    *decoder = AvDecoder::open(ilbc(mode).codec)?;
                    *sent = mode;
                }
                equal_frames(decoder, payload, ilbc(mode).frame, pcm)
            }
            Coder::Amr(format, decoder) => amr(*format, decoder, silence, payload, pcm),
            Coder::Speex(samples, decoder) => speex(decoder, *samples, payload, pcm),
        }
    }
}

/// Noise between silence frames.
#[derive(Debug)]
struct Silence {
    generator: NoiseGenerator,
    level_minus_dbov: u8,
    /// Whether the last frame was silent.
    goes_on: bool,
}

impl Silence {
    const fn new() -> Self {
        let generator = NoiseGenerator::new(NOISE_SEED);
        Self { generator, level_minus_dbov: QUIET_MINUS_DBOV, goes_on: false }
    }

    fn fill(&mut self, pcm: &mut [i16]) {
        if let Some(noise) = ComfortNoise::parse(&[self.level_minus_dbov]) {
            self.generator.fill(&noise, pcm);
        }
    }
}

/// Frames of one length: bytes, and samples that come of it.
fn equal_frames(
    decoder: &mut AvDecoder,
    payload: &[u8],
    (frame_bytes, frame_samples): (usize, usize),
    pcm: &mut [i16],
) -> Result<usize, CodecError> {
    if payload.is_empty() || payload.len() % frame_bytes != 0 {
        return Err(CodecError::BadLength);
    }
    let mut out = Out::new(pcm);
    for frame in payload.chunks_exact(frame_bytes) {
        out.frame(frame_samples, |pcm| decoder.decode(frame, pcm))?;
    }
    out.finish()
}

/// Speech of 10 bytes, then perhaps a silence frame of 2 (RFC 3551 §4.5.6).
fn g729(
    decoder: &mut AvDecoder,
    silence: &mut Silence,
    payload: &[u8],
    pcm: &mut [i16],
) -> Result<usize, CodecError> {
    let speech = payload.chunks_exact(10);
    let mut out = Out::new(pcm);
    let rest = speech.remainder();
    if payload.is_empty() || !matches!(rest.len(), 0 | 2) {
        return Err(CodecError::BadLength);
    }
    for frame in speech {
        out.frame(80, |pcm| decoder.decode(frame, pcm))?;
    }
    silence.goes_on = false;
    if let [_, low] = *rest {
        silence.goes_on = true;
        silence.level_minus_dbov = g729_silence_level(low);
        out.frame(80, |pcm| {
            silence.fill(pcm);
            Ok(pcm.len())
        })?;
    }
    out.finish()
}

/// G.729 B.4.2: the last 5 of 15 bits are the gain of the excitation in dB: −12, −4, 0, 4, 8, 12, 16,
/// then in steps of 2 to 66. The spectrum, which would raise the level, is not used. The overload
/// point of 16-bit samples lies at 90.3 dB.
fn g729_silence_level(low: u8) -> u8 {
    let index = (low >> 1) & 0x1f;
    let gain_db = match index {
        0 => 0,
        1..=6 => index.saturating_sub(2).saturating_mul(4),
        _ => index.saturating_sub(6).saturating_mul(2).saturating_add(16),
    };
    90u8.saturating_sub(gain_db)
}

/// Frames of 24, 20, 4 or 1 bytes, by the two lowest bits of the first (RFC 3551 §4.5.3).
fn g723(
    decoder: &mut AvDecoder,
    silence: &mut Silence,
    payload: &[u8],
    pcm: &mut [i16],
) -> Result<usize, CodecError> {
    let mut out = Out::new(pcm);
    let mut rest = payload;
    while let Some(first) = rest.first() {
        let len = match first & 3 {
            0 => 24,
            1 => 20,
            2 => 4,
            _ => 1,
        };
        let Some((frame, later)) = rest.split_at_checked(len) else { break };
        out.frame(240, |pcm| decoder.decode(frame, pcm))?;
        silence.goes_on = len <= 4;
        rest = later;
    }
    if silence.goes_on {
        // The decoder makes the noise of silence frames itself; what follows goes on at its level.
        silence.level_minus_dbov = level(out.last_frame(240));
    }
    if rest.is_empty() { out.finish() } else { out.finish_cut() }
}

fn amr(
    format: AmrFormat,
    decoder: &mut AvDecoder,
    silence: &mut Silence,
    payload: &[u8],
    pcm: &mut [i16],
) -> Result<usize, CodecError> {
    let samples = if format.band.sample_rate_hz() == 16_000 { 320 } else { 160 };
    let mut out = Out::new(pcm);
    for frame in format.frames(payload)? {
        match frame {
            AmrFrame::Speech(stored, len) => {
                let frame = stored.get(..len).unwrap_or_default();
                out.frame(samples, |pcm| decoder.decode(frame, pcm))?;
                silence.goes_on = false;
                // A pause that begins without a level sounds as the speech before it ended.
                silence.level_minus_dbov = level(out.last_frame(samples)).max(40);
            }
            AmrFrame::Silence(told) => {
                silence.goes_on = true;
                silence.level_minus_dbov = told.unwrap_or(silence.level_minus_dbov);
                out.frame(samples, |pcm| {
                    silence.fill(pcm);
                    Ok(pcm.len())
                })?;
            }
            AmrFrame::NoData if silence.goes_on => {
                out.frame(samples, |pcm| {
                    silence.fill(pcm);
                    Ok(pcm.len())
                })?;
            }
            AmrFrame::NoData | AmrFrame::Bad => out.nothing(samples)?,
        }
    }
    Ok(out.written)
}

/// Frames of 20 ms, bit by bit.
fn speex(
    decoder: &mut AvDecoder,
    samples: usize,
    payload: &[u8],
    pcm: &mut [i16],
) -> Result<usize, CodecError> {
    let mut frames = SpeexFrames::new(payload);
    let mut frame = [0; speex::FRAME_BYTES_MAX];
    let mut out = Out::new(pcm);
    while let Some(len) = frames.next_frame(&mut frame) {
        let frame = frame.get(..len).unwrap_or_default();
        out.frame(samples, |pcm| decoder.decode(frame, pcm))?;
    }
    out.finish()
}

struct IlbcFrames {
    codec: AvCodec,
    /// Bytes and samples.
    frame: (usize, usize),
}

const fn ilbc(mode: IlbcMode) -> IlbcFrames {
    match mode {
        IlbcMode::Ms20 => IlbcFrames { codec: AvCodec::Ilbc20, frame: (38, 160) },
        IlbcMode::Ms30 => IlbcFrames { codec: AvCodec::Ilbc30, frame: (50, 240) },
    }
}

/// By the payload's length, whatever SDP says (RFC 3952 §3.2); by SDP where both fit.
const fn ilbc_mode(len: usize, named: IlbcMode) -> Option<IlbcMode> {
    match (len % 38 == 0, len % 50 == 0) {
        _ if len == 0 => None,
        (true, true) => Some(named),
        (true, false) => Some(IlbcMode::Ms20),
        (false, true) => Some(IlbcMode::Ms30),
        (false, false) => None,
    }
}

/// Level of samples in dB below the overload point, 0–127.
fn level(pcm: &[i16]) -> u8 {
    let energy: f32 = pcm.iter().map(|sample| f32::from(*sample) * f32::from(*sample)).sum();
    let mean = energy / (pcm.len().max(1) as f32);
    // 10 log10(32 768²) = 90.3.
    let below = 90.3 - 10.0 * mean.max(1e-9).log10();
    u8::try_from(round_to_sample(below).clamp(0, 127)).unwrap_or(127)
}

/// Where frames go, one after the other; one that is refused is silent for its time.
struct Out<'a> {
    pcm: &'a mut [i16],
    written: usize,
    good: usize,
}

impl<'a> Out<'a> {
    const fn new(pcm: &'a mut [i16]) -> Self {
        Self { pcm, written: 0, good: 0 }
    }

    fn frame(
        &mut self,
        samples: usize,
        make: impl FnOnce(&mut [i16]) -> Result<usize, CodecError>,
    ) -> Result<(), CodecError> {
        let end = self.written.saturating_add(samples);
        let place = self.pcm.get_mut(self.written..end).ok_or(CodecError::FrameTooLong)?;
        if make(&mut *place) == Ok(samples) {
            self.good = self.good.saturating_add(1);
        } else {
            place.fill(0);
        }
        self.written = end;
        Ok(())
    }

    fn nothing(&mut self, samples: usize) -> Result<(), CodecError> {
        self.frame(samples, |_| Err(CodecError::BadPacket))
    }

    fn last_frame(&self, samples: usize) -> &[i16] {
        self.pcm.get(self.written.saturating_sub(samples)..self.written).unwrap_or_default()
    }

    const fn finish(self) -> Result<usize, CodecError> {
        if self.good == 0 { Err(CodecError::BadPacket) } else { Ok(self.written) }
    }

    /// The payload ended within a frame.
    const fn finish_cut(self) -> Result<usize, CodecError> {
        if self.good == 0 { Err(CodecError::BadLength) } else { Ok(self.written) }
    }
}
