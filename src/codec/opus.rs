//! Opus by libopus: decoding what arrives, and encoding what is recorded.
//!
//! Purpose: 20 ms packets of one mode and bandwidth a file, at a known delay.
//! Invariants: garbage never reaches libopus; DTX is off, so no packet is a TOC byte alone.
//! Non-goals: stereo.
//! Sources: RFC 6716; RFC 7587 (the RTP clock is 48 000 Hz whatever is inside).

use ::opus::{Application, Bandwidth, Bitrate, Channels, Decoder, Encoder, ErrorCode, Signal};

use super::error::CodecError;
use super::opus_packet::packet_info;

/// Samples of the longest packet, 120 ms at 48 kHz.
pub const PACKET_SAMPLES_MAX: usize = 5_760;
/// Bytes that any 20 ms packet of the encoder fits.
pub const PACKET_BYTES_MAX: usize = 1_276;

/// Samples at 48 kHz of 2.5 ms: what losses are concealed in.
const CONCEALED_STEP_48K: usize = 120;

/// Decodes one stream to mono.
#[derive(Debug)]
pub struct OpusDecoder {
    decoder: Decoder,
    /// 48 000 Hz over the rate that is decoded to.
    divisor: usize,
}

impl OpusDecoder {
    /// A decoder to 48 kHz that has heard nothing yet.
    ///
    /// # Errors
    /// `Internal` if libopus has no memory.
    pub fn new() -> Result<Self, CodecError> {
        Self::at_rate(48_000)
    }

    /// The same, to 8 000, 12 000, 16 000, 24 000 or 48 000 Hz.
    ///
    /// # Errors
    /// `Unsupported` for another rate, `Internal` if libopus has no memory.
    pub fn at_rate(sample_rate_hz: u32) -> Result<Self, CodecError> {
        let decoder =
            Decoder::new(sample_rate_hz, Channels::Mono).map_err(|error| label(&error))?;
        let divisor = usize::try_from(48_000 / sample_rate_hz.max(1)).unwrap_or(1).max(1);
        Ok(Self { decoder, divisor })
    }

    /// Decodes one packet, stereo mixed down, and returns how many samples it wrote.
    ///
    /// # Errors
    /// `BadPacket` if it is no Opus, `FrameTooLong` if `pcm` is too short for its duration
    /// ([`PACKET_SAMPLES_MAX`] always fits).
    pub fn decode(&mut self, packet: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        // An empty packet would mean "lost" to libopus.
        let info = packet_info(packet).ok_or(CodecError::BadPacket)?;
        let samples = usize::try_from(info.samples_48k).unwrap_or(usize::MAX) / self.divisor;
        let pcm = pcm.get_mut(..samples).ok_or(CodecError::FrameTooLong)?;
        self.decoder.decode(packet, pcm, false).map_err(|error| label(&error))
    }

    /// Fills `pcm` with what was lost directly before `next`, which is decoded afterwards: what `next`
    /// itself says of it (in-band forward error correction, RFC 6716 §2.1.7), and libopus's own
    /// concealment before that, or where it says nothing. Returns the samples made, whole 2.5 ms.
    ///
    /// # Errors
    /// `BadPacket` if `next` is no Opus.
    pub fn conceal(&mut self, next: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        packet_info(next).ok_or(CodecError::BadPacket)?;
        let step = (CONCEALED_STEP_48K / self.divisor).max(1);
        let whole = pcm.len() / step * step;
        let pcm = pcm.get_mut(..whole.min(PACKET_SAMPLES_MAX)).unwrap_or_default();
        if pcm.is_empty() {
            return Ok(0);
        }
        self.decoder.decode(next, pcm, true).map_err(|error| label(&error))
    }

    /// Fills `pcm` with libopus's own concealment alone. Returns the samples made, whole 2.5 ms.
    ///
    /// # Errors
    /// `Internal` if libopus fails.
    pub fn conceal_alone(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError> {
        let step = (CONCEALED_STEP_48K / self.divisor).max(1);
        let whole = pcm.len() / step * step;
        let pcm = pcm.get_mut(..whole.min(PACKET_SAMPLES_MAX)).unwrap_or_default();
        if pcm.is_empty() {
            return Ok(0);
        }
        self.decoder.decode(&[], pcm, false).map_err(|error| label(&error))
    }
}

/// What an encoder is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncoderSettings {
    /// Of the samples: 8 000, 12 000, 16 000, 24 000 or 48 000; the bandwidth follows from it.
    pub sample_rate_hz: u32,
    /// Bits a second, 6 000 to 510 000; the mean of a variable rate.
    pub bitrate: u32,
    /// 0 (cheapest) to 10.
    pub complexity: u8,
}

/// Encodes one channel of speech.
#[derive(Debug)]
pub struct OpusVoiceEncoder {
    encoder: Encoder,
    samples_per_packet: usize,
    lookahead_48k: u32,
}

impl OpusVoiceEncoder {
    /// An encoder for voice. Unconstrained variable bitrate (constant costs twice the CPU), no DTX, no
    /// forward error correction, bandwidth as wide as the samples allow.
    ///
    /// The application is `VOIP` in narrow band, and `AUDIO` above. `VOIP` takes low frequencies away and
    /// sharpens formants, which costs G.722 0.1 of PESQ at 24 kb/s; `AUDIO` saves nothing at 16 kb/s and
    /// smears 3 of 1,000 recordings of tones until they are no longer told apart (tests/lab, `many`).
    ///
    /// # Errors
    /// `Unsupported` if a setting is out of its range, `Internal` if libopus has no memory.
    pub fn new(settings: EncoderSettings) -> Result<Self, CodecError> {
        let bandwidth = match settings.sample_rate_hz {
            8_000 => Bandwidth::Narrowband,
            12_000 => Bandwidth::Mediumband,
            16_000 => Bandwidth::Wideband,
            24_000 => Bandwidth::Superwideband,
            48_000 => Bandwidth::Fullband,
            _ => return Err(CodecError::Unsupported),
        };
        if !(6_000..=510_000).contains(&settings.bitrate) || settings.complexity > 10 {
            return Err(CodecError::Unsupported);
        }
        let bitrate = i32::try_from(settings.bitrate).map_err(|_| CodecError::Unsupported)?;
        let application = match bandwidth {
            Bandwidth::Narrowband => Application::Voip,
            _ => Application::Audio,
        };
        let mut encoder = Encoder::new(settings.sample_rate_hz, Channels::Mono, application)
            .map_err(|error| label(&error))?;
        let lookahead = configure(&mut encoder, bandwidth, bitrate, settings.complexity)
            .map_err(|error| label(&error))?;
        let samples_per_packet =
            usize::try_from(settings.sample_rate_hz / 50).map_err(|_| CodecError::Unsupported)?;
        let lookahead_48k =
            u32::try_from(lookahead).unwrap_or(0).saturating_mul(48_000 / settings.sample_rate_hz);
        Ok(Self { encoder, samples_per_packet, lookahead_48k })
    }

    /// Encodes 20 ms and returns the packet's length in bytes.
    ///
    /// `pcm`: exactly a fiftieth of the sample rate; `out`: [`PACKET_BYTES_MAX`] always fits, and
    /// libopus lowers the quality to fit less.
    ///
    /// # Errors
    /// `BadLength` if `pcm` has another length, `FrameTooLong` if `out` is too short for anything.
    pub fn encode_20ms(&mut self, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
        if pcm.len() != self.samples_per_packet {
            return Err(CodecError::BadLength);
        }
        if out.len() < 2 {
            return Err(CodecError::FrameTooLong);
        }
        self.encoder.encode(pcm, out).map_err(|error| label(&error))
    }

    /// Forgets what was encoded; the settings stay. For the first packet after canned silence.
    pub fn reset(&mut self) {
        // It fails only for an encoder that does not exist.
        let _ = self.encoder.reset_state();
    }

    /// Samples at 48 kHz by which the decoded sound lags behind: the stream's pre-skip.
    #[must_use]
    pub const fn lookahead_48k(&self) -> u32 {
        self.lookahead_48k
    }

    /// Samples of one packet: a fiftieth of the sample rate.
    #[must_use]
    pub const fn samples_per_packet(&self) -> usize {
        self.samples_per_packet
    }
}

/// Everything but rate and application; the lookahead in samples of the encoder's rate.
fn configure(
    encoder: &mut Encoder,
    bandwidth: Bandwidth,
    bitrate: i32,
    complexity: u8,
) -> ::opus::Result<i32> {
    encoder.set_signal(Signal::Voice)?;
    encoder.set_bandwidth(bandwidth)?;
    encoder.set_max_bandwidth(bandwidth)?;
    encoder.set_bitrate(Bitrate::Bits(bitrate))?;
    encoder.set_complexity(i32::from(complexity))?;
    encoder.set_vbr(true)?;
    encoder.set_vbr_constraint(false)?;
    encoder.set_dtx(false)?;
    encoder.set_inband_fec(false)?;
    encoder.get_lookahead()
}

/// A packet of 20 ms of digital silence, in the mode and bandwidth of such an encoder's speech.
///
/// It is what the encoder makes of long silence, so it may be repeated; never a TOC byte alone,
/// which FFmpeg misreads in the first of two streams. The same settings give the same bytes.
///
/// # Errors
/// As [`OpusVoiceEncoder::new`].
pub fn silence_packet(settings: EncoderSettings) -> Result<Vec<u8>, CodecError> {
    /// Two seconds: the encoder's noise shaping and rate control have settled long before.
    const PACKETS_UNTIL_STEADY: usize = 100;
    let mut encoder = OpusVoiceEncoder::new(settings)?;
    let pcm = vec![0i16; encoder.samples_per_packet];
    let mut packet = vec![0u8; PACKET_BYTES_MAX];
    let mut silence = Vec::new();
    for _ in 0..PACKETS_UNTIL_STEADY {
        let len = encoder.encode_20ms(&pcm, &mut packet)?;
        if len > 1 {
            silence = packet.get(..len).ok_or(CodecError::Internal)?.to_vec();
        }
    }
    if silence.is_empty() {
        return Err(CodecError::Internal);
    }
    Ok(silence)
}

/// The library's error in our words.
fn label(error: &::opus::Error) -> CodecError {
    match error.code() {
        ErrorCode::BufferTooSmall => CodecError::FrameTooLong,
        ErrorCode::InvalidPacket => CodecError::BadPacket,
        ErrorCode::BadArg | ErrorCode::Unimplemented => CodecError::Unsupported,
        _ => CodecError::Internal,
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Of test signals.
mod tests {
    use super::super::opus_packet::{OpusBandwidth, OpusMode};
    use super::*;

    /// The band of a rate, and bitrates used for it.
    const BANDS: [(u32, OpusBandwidth, OpusMode, [u32; 3]); 5] = [
        (8_000, OpusBandwidth::Narrow, OpusMode::Silk, [12_000, 16_000, 24_000]),
        (12_000, OpusBandwidth::Medium, OpusMode::Silk, [16_000, 20_000, 24_000]),
        (16_000, OpusBandwidth::Wide, OpusMode::Silk, [16_000, 24_000, 32_000]),
        (24_000, OpusBandwidth::SuperWide, OpusMode::Hybrid, [24_000, 32_000, 40_000]),
        (48_000, OpusBandwidth::Full, OpusMode::Hybrid, [28_000, 32_000, 48_000]),
    ];

    fn settings(sample_rate_hz: u32, bitrate: u32) -> EncoderSettings {
        EncoderSettings { sample_rate_hz, bitrate, complexity: 0 }
    }

    /// Something like speech: a buzz with a changing pitch and pauses.
    fn buzz(sample_rate_hz: u32, packets: usize) -> Vec<i16> {
        let samples = packets * sample_rate_hz as usize / 50;
        (0..samples)
            .map(|sample| {
                let t = sample as f64 / f64::from(sample_rate_hz);
                let loud = if (t * 3.0).fract() < 0.7 { 6_000.0 } else { 0.0 };
                let pitch = 120.0 + 30.0 * (t * 5.0).sin();
                let tone: f64 = (1..8)
                    .map(|n| {
                        (t * pitch * f64::from(n) * std::f64::consts::TAU).sin() / f64::from(n)
                    })
                    .sum();
                (loud * tone) as i16
            })
            .collect()
    }

    fn rms(pcm: &[i16]) -> f64 {
        let sum: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        (sum / pcm.len() as f64).sqrt()
    }

    #[test]
    fn one_mode_and_bandwidth_for_speech_and_silence_alike() {
        for (rate, bandwidth, mode, bitrates) in BANDS {
            for bitrate in bitrates {
                let mut encoder = OpusVoiceEncoder::new(settings(rate, bitrate)).expect("encoder");
                let mut out = [0; PACKET_BYTES_MAX];
                for pcm in buzz(rate, 200).chunks_exact(encoder.samples_per_packet()) {
                    let len = encoder.encode_20ms(pcm, &mut out).expect("encoded");
                    let info = packet_info(&out[..len]).expect("valid");
                    assert_eq!((info.bandwidth, info.mode), (bandwidth, mode), "{rate} {bitrate}");
                    assert_eq!((info.samples_48k, info.channels), (960, 1));
                    assert!(len > 1);
                }
                let silence = silence_packet(settings(rate, bitrate)).expect("silence");
                let info = packet_info(&silence).expect("valid");
                assert_eq!((info.bandwidth, info.mode), (bandwidth, mode), "{rate} {bitrate}");
                assert!(silence.len() > 1, "{rate} {bitrate}: {silence:?}");
            }
        }
    }

    #[test]
    fn canned_silence_is_silent_in_a_decoder_that_just_heard_speech() {
        for (rate, _, _, [bitrate, ..]) in BANDS {
            let mut encoder = OpusVoiceEncoder::new(settings(rate, bitrate)).expect("encoder");
            let mut decoder = OpusDecoder::new().expect("decoder");
            let (mut out, mut pcm) = ([0; PACKET_BYTES_MAX], [0; PACKET_SAMPLES_MAX]);
            for frame in buzz(rate, 10).chunks_exact(encoder.samples_per_packet()) {
                let len = encoder.encode_20ms(frame, &mut out).expect("encoded");
                decoder.decode(&out[..len], &mut pcm).expect("decoded");
            }
            let silence = silence_packet(settings(rate, bitrate)).expect("silence");
            for packet in 0..50 {
                let samples = decoder.decode(&silence, &mut pcm).expect("decoded");
                assert_eq!(samples, 960);
                let level = rms(&pcm[..samples]);
                assert!(packet < 3 || level < 8.0, "{rate}: {level} at packet {packet}");
            }
        }
    }

    #[test]
    fn forward_error_correction_brings_a_lost_packet_back() {
        let (mut encoder, frames) = (fec_encoder(), buzz(16_000, 60));
        let mut packets = Vec::new();
        for frame in frames.chunks_exact(320) {
            let mut out = [0; PACKET_BYTES_MAX];
            let len = encoder.encode(frame, &mut out).expect("encoded");
            packets.push(out[..len].to_vec());
        }
        let mut pcm = [0; PACKET_SAMPLES_MAX];
        let decode = |decoder: &mut OpusDecoder, packet: &[u8], pcm: &mut [i16]| {
            assert_eq!(decoder.decode(packet, pcm), Ok(320));
        };
        let (mut restored, mut guessed) = (0.0, 0.0);
        // Of every fourth packet: what it was, what the next one says it was, and a guess.
        let mut whole = OpusDecoder::at_rate(16_000).expect("decoder");
        let mut lossy = OpusDecoder::at_rate(16_000).expect("decoder");
        let mut blind = OpusDecoder::at_rate(16_000).expect("decoder");
        for (number, packet) in packets.iter().enumerate() {
            let mut truth = [0; PACKET_SAMPLES_MAX];
            decode(&mut whole, packet, &mut truth);
            if number % 4 != 3 || number + 1 == packets.len() {
                decode(&mut lossy, packet, &mut pcm);
                decode(&mut blind, packet, &mut pcm);
                continue;
            }
            let error = |pcm: &[i16]| -> f64 {
                let off = |(x, y): (&i16, &i16)| (f64::from(*x) - f64::from(*y)).powi(2);
                pcm.iter().zip(&truth).take(320).map(off).sum()
            };
            let next = &packets[number + 1];
            assert_eq!(lossy.conceal(next, &mut pcm[..320]), Ok(320));
            restored += error(&pcm);
            assert_eq!(blind.conceal_alone(&mut pcm[..325]), Ok(320));
            guessed += error(&pcm);
        }
        assert!(restored < guessed / 3.0, "{restored} restored, {guessed} guessed");
        assert_eq!(lossy.conceal(&[], &mut pcm), Err(CodecError::BadPacket));
        assert_eq!(lossy.conceal(&packets[5], &mut pcm[..30]), Ok(0));
    }

    /// An encoder as phones have it where packets get lost.
    fn fec_encoder() -> Encoder {
        let mut encoder = Encoder::new(16_000, Channels::Mono, Application::Voip).expect("encoder");
        encoder.set_bitrate(Bitrate::Bits(24_000)).expect("set");
        encoder.set_inband_fec(true).expect("set");
        encoder.set_packet_loss_perc(20).expect("set");
        encoder
    }

    #[test]
    fn the_same_settings_give_the_same_silence() {
        let wide = settings(16_000, 24_000);
        assert_eq!(silence_packet(wide), silence_packet(wide));
    }

    #[test]
    fn lookahead_is_six_and_a_half_milliseconds_at_every_rate() {
        for (rate, ..) in BANDS {
            let encoder = OpusVoiceEncoder::new(settings(rate, 24_000)).expect("encoder");
            assert_eq!(encoder.lookahead_48k(), 312, "{rate}");
        }
    }

    #[test]
    fn a_reset_encoder_is_a_new_encoder() {
        let mut encoder = OpusVoiceEncoder::new(settings(8_000, 16_000)).expect("encoder");
        let frames = buzz(8_000, 20);
        let encode_all = |encoder: &mut OpusVoiceEncoder| {
            let mut all = Vec::new();
            for frame in frames.chunks_exact(160) {
                let mut out = [0; PACKET_BYTES_MAX];
                let len = encoder.encode_20ms(frame, &mut out).expect("encoded");
                all.push(out[..len].to_vec());
            }
            all
        };
        let first = encode_all(&mut encoder);
        encoder.reset();
        assert_eq!(encode_all(&mut encoder), first);
    }

    #[test]
    fn wrong_settings_lengths_and_packets_are_refused() {
        for wrong in [settings(44_100, 16_000), settings(8_000, 100), settings(8_000, 600_000)] {
            assert_eq!(OpusVoiceEncoder::new(wrong).err(), Some(CodecError::Unsupported));
        }
        let complex = EncoderSettings { complexity: 11, ..settings(8_000, 16_000) };
        assert_eq!(OpusVoiceEncoder::new(complex).err(), Some(CodecError::Unsupported));
        let mut encoder = OpusVoiceEncoder::new(settings(8_000, 16_000)).expect("encoder");
        assert_eq!(encoder.encode_20ms(&[0; 161], &mut [0; 99]), Err(CodecError::BadLength));
        assert_eq!(encoder.encode_20ms(&[0; 160], &mut [0; 1]), Err(CodecError::FrameTooLong));
        let mut decoder = OpusDecoder::new().expect("decoder");
        let mut pcm = [0; PACKET_SAMPLES_MAX];
        assert_eq!(decoder.decode(&[], &mut pcm), Err(CodecError::BadPacket));
        assert_eq!(decoder.decode(&[0x0b, 0], &mut pcm), Err(CodecError::BadPacket));
        assert_eq!(decoder.decode(&[8, 1, 2], &mut pcm[..959]), Err(CodecError::FrameTooLong));
    }
}
