//! Bodies of the fuzz targets for this layer, kept here so that they always compile.
//!
//! Purpose: statements about any bytes; they panic when one does not hold.
//! Invariants: none of its own.
//! Non-goals: producing inputs (see `fuzz/`).
//! Sources: RFC 6716 §3.4.

use super::amr::{AmrBand, AmrFormat, AmrFrame, AmrLayout, FRAMES_MAX};
use super::comfort_noise::{ComfortNoise, NoiseGenerator};
use super::g711::{decode_alaw, decode_ulaw};
use super::g722::G722Decoder;
use super::g726::Packing;
use super::l16::{L16Channels, decode_l16};
use super::opus::{OpusDecoder, PACKET_SAMPLES_MAX};
use super::opus_packet::{packet_info, self_delimited};
use super::speech::{IlbcMode, SpeechCodec, SpeechDecoder};
use super::speex::{self, SpeexFrames};

/// Any payload decodes or is refused, with as many samples as its codec says.
///
/// # Panics
/// When it does not hold: a bug.
pub fn decoders(data: &[u8]) {
    let mut pcm = vec![0i16; data.len() * 2];
    assert_eq!(decode_alaw(data, &mut pcm), Ok(data.len()));
    assert_eq!(decode_ulaw(data, &mut pcm), Ok(data.len()));
    let mut wide = G722Decoder::new();
    assert_eq!(wide.decode(data, &mut pcm), Ok(data.len() * 2));
    let mono = decode_l16(data, L16Channels::Mono, &mut pcm);
    assert_eq!(mono.is_ok(), data.len() % 2 == 0);
    let stereo = decode_l16(data, L16Channels::Stereo, &mut pcm);
    assert_eq!(stereo.is_ok(), data.len() % 4 == 0);
    if let Some(noise) = ComfortNoise::parse(data) {
        NoiseGenerator::new(1).fill(&noise, &mut pcm);
    }
}

/// What is described decodes to that duration; framed twice, the last frame is found again.
///
/// # Panics
/// When it does not hold: a bug.
pub fn opus_packet(data: &[u8]) {
    let mut pcm = [0i16; PACKET_SAMPLES_MAX];
    let Ok(mut decoder) = OpusDecoder::new() else { return };
    let decoded = decoder.decode(data, &mut pcm);
    let mut framed = Vec::new();
    let Some(info) = packet_info(data) else {
        assert!(decoded.is_err() && self_delimited(data, &mut framed).is_err());
        assert!(framed.is_empty());
        return;
    };
    assert!((120..=5_760).contains(&info.samples_48k));
    if let Ok(samples) = decoded {
        assert_eq!(u32::try_from(samples), Ok(info.samples_48k));
    }
    assert_eq!(self_delimited(data, &mut framed), Ok(()));
    assert!((1..=2).contains(&(framed.len() - data.len())));
}

/// An AMR payload holds whole frames, whatever was announced, or is refused.
///
/// # Panics
/// When it does not hold: a bug.
pub fn amr_payload(data: &[u8]) {
    for band in [AmrBand::Narrow, AmrBand::Wide] {
        for layout in [AmrLayout::BandwidthEfficient, AmrLayout::OctetAligned] {
            let Ok(frames) = (AmrFormat { band, layout }).frames(data) else { continue };
            let count = frames.clone().count();
            assert!((1..=FRAMES_MAX).contains(&count));
            for frame in frames {
                if let AmrFrame::Speech(stored, len) = frame {
                    assert!(
                        (2..=stored.len()).contains(&len) && len <= data.len().saturating_add(1)
                    );
                }
            }
        }
    }
}

/// Every speech coder takes any packets, cut where the first byte says, and gives at most 200 ms.
///
/// # Panics
/// When it does not hold: a bug.
pub fn speech(data: &[u8]) {
    let mut frames = SpeexFrames::new(data);
    let mut frame = [0; speex::FRAME_BYTES_MAX];
    let mut count = 0;
    while frames.next_frame(&mut frame).is_some() {
        count += 1;
    }
    assert!(count <= data.len().saturating_mul(8) / 5);
    let Some((first, rest)) = data.split_first() else { return };
    let mut pcm = vec![0i16; 9_600];
    let amr = |band, layout| SpeechCodec::Amr(AmrFormat { band, layout });
    for codec in [
        SpeechCodec::G729,
        SpeechCodec::G723,
        SpeechCodec::G726(2, Packing::Rfc3551),
        SpeechCodec::G726(5, Packing::Aal2),
        SpeechCodec::Gsm,
        SpeechCodec::Ilbc(IlbcMode::Ms30),
        amr(AmrBand::Narrow, AmrLayout::BandwidthEfficient),
        amr(AmrBand::Wide, AmrLayout::OctetAligned),
        SpeechCodec::Speex(8_000),
        SpeechCodec::Speex(32_000),
    ] {
        let Ok(mut decoder) = SpeechDecoder::new(codec) else { return };
        for payload in rest.chunks(usize::from(*first).max(1)) {
            if let Ok(samples) = decoder.decode(payload, &mut pcm) {
                assert!((1..=pcm.len()).contains(&samples));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_hold_for_pseudo_random_bytes() {
        let mut state = 1u32;
        for round in 0..600usize {
            let data: Vec<u8> = (0..round % 300)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            decoders(&data);
            opus_packet(&data);
            amr_payload(&data);
            if round % 20 == 7 {
                speech(&data);
            }
        }
    }
}
