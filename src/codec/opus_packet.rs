//! What an Opus packet says about itself, without decoding it.
//!
//! Purpose: refuse garbage, tell duration, mode and bandwidth, and make packets self-delimiting.
//! Invariants: a packet is described only if it fulfils R1–R7 of RFC 6716 §3.4.
//! Non-goals: decoding (see `opus`).
//! Sources: RFC 6716 §3.1 (TOC), §3.2 (framing), §3.4 (requirements), Appendix B (self-delimiting).
//!
//! ```text
//! |  config (5)   |s|code|      code 3:  |v|p|   M (6)   |
//! ```

use super::error::CodecError;
use crate::base::Reader;

/// Which of the two coders a packet uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpusMode {
    /// Linear prediction (speech).
    Silk,
    /// Both: speech with its upper band as MDCT.
    Hybrid,
    /// MDCT (music, low delay).
    Celt,
}

/// Audio bandwidth of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpusBandwidth {
    /// 4 kHz.
    Narrow,
    /// 6 kHz.
    Medium,
    /// 8 kHz.
    Wide,
    /// 12 kHz.
    SuperWide,
    /// 20 kHz.
    Full,
}

/// What a packet says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusPacketInfo {
    /// Its duration in samples at 48 kHz, at most 5 760 (120 ms).
    pub samples_48k: u32,
    /// Audio bandwidth.
    pub bandwidth: OpusBandwidth,
    /// Coder.
    pub mode: OpusMode,
    /// 1 or 2.
    pub channels: u8,
    /// Frames in the packet, 1–48.
    pub frames: u8,
}

/// Longest frame (R2).
const FRAME_BYTES_MAX: usize = 1_275;
/// Longest packet (R5): 120 ms.
const PACKET_SAMPLES_MAX: u32 = 5_760;

/// Describes a packet, or refuses it as no Opus (RFC 6716 §3.4).
#[must_use]
pub fn packet_info(packet: &[u8]) -> Option<OpusPacketInfo> {
    Layout::of(packet).map(|layout| layout.info)
}

/// Appends the packet to `out` in self-delimiting framing: the length of its last frame is written
/// behind the other lengths, so that another packet can follow (RFC 6716 Appendix B).
///
/// # Errors
/// `BadPacket` if it breaks a requirement of §3.4; `out` is as it was.
pub fn self_delimited(packet: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let layout = Layout::of(packet).ok_or(CodecError::BadPacket)?;
    let (head, tail) = packet.split_at_checked(layout.lengths_end).ok_or(CodecError::BadPacket)?;
    out.extend_from_slice(head);
    // §3.2.1: up to 251 in one byte; beyond it 252 + two low bits, then the rest in fours.
    let (first, second) = if layout.last_len < 252 {
        (layout.last_len, None)
    } else {
        (252 + (layout.last_len & 3), Some((layout.last_len - 252) / 4))
    };
    out.push(u8::try_from(first).map_err(|_| CodecError::BadPacket)?);
    if let Some(second) = second {
        out.push(u8::try_from(second).map_err(|_| CodecError::BadPacket)?);
    }
    out.extend_from_slice(tail);
    Ok(())
}

/// Where things stand in a packet.
struct Layout {
    info: OpusPacketInfo,
    /// End of TOC, count, padding length and frame lengths, in bytes.
    lengths_end: usize,
    /// Length of the last frame, in bytes.
    last_len: usize,
}

impl Layout {
    fn of(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(packet);
        let toc = reader.u8()?;
        let (mode, bandwidth, frame_samples) = configuration(toc >> 3);
        let (frames, last_len) = match toc & 3 {
            0 => (1, reader.remaining()),
            1 if reader.remaining() % 2 == 0 => (2, reader.remaining() / 2),
            1 => return None,
            2 => {
                let first = frame_len(&mut reader)?;
                (2, reader.remaining().checked_sub(first)?)
            }
            _ => many_frames(&mut reader, frame_samples)?,
        };
        let samples_48k = frame_samples.checked_mul(u32::from(frames))?;
        if last_len > FRAME_BYTES_MAX || samples_48k > PACKET_SAMPLES_MAX {
            return None;
        }
        let channels = if toc & 4 == 0 { 1 } else { 2 };
        let info = OpusPacketInfo { samples_48k, bandwidth, mode, channels, frames };
        let lengths_end = packet.len().checked_sub(reader.remaining())?;
        Some(Self { info, lengths_end, last_len })
    }
}

/// Code 3 (§3.2.5): reads up to the end of the lengths; number of frames, length of the last.
fn many_frames(reader: &mut Reader<'_>, frame_samples: u32) -> Option<(u8, usize)> {
    let count_byte = reader.u8()?;
    let frames = count_byte & 0x3f;
    if frames == 0 || frame_samples.checked_mul(u32::from(frames))? > PACKET_SAMPLES_MAX {
        return None;
    }
    let mut padding = 0usize;
    if count_byte & 0x40 != 0 {
        loop {
            let byte = reader.u8()?;
            if byte < 255 {
                padding = padding.checked_add(usize::from(byte))?;
                break;
            }
            padding = padding.checked_add(254)?;
        }
    }
    if count_byte & 0x80 == 0 {
        let data = reader.remaining().checked_sub(padding)?;
        let frames_len = usize::from(frames);
        return (data % frames_len == 0).then_some((frames, data / frames_len));
    }
    let mut others = padding;
    for _ in 1..frames {
        others = others.checked_add(frame_len(reader)?)?;
    }
    Some((frames, reader.remaining().checked_sub(others)?))
}

/// A frame length of one or two bytes (§3.2.1).
fn frame_len(reader: &mut Reader<'_>) -> Option<usize> {
    let first = usize::from(reader.u8()?);
    if first < 252 {
        return Some(first);
    }
    usize::from(reader.u8()?).checked_mul(4)?.checked_add(first)
}

/// Mode, bandwidth and samples of a frame at 48 kHz, by the TOC's upper five bits (Table 2).
fn configuration(config: u8) -> (OpusMode, OpusBandwidth, u32) {
    use OpusBandwidth::{Full, Medium, Narrow, SuperWide, Wide};
    let (mode, bandwidth) = match config {
        0..=3 => (OpusMode::Silk, Narrow),
        4..=7 => (OpusMode::Silk, Medium),
        8..=11 => (OpusMode::Silk, Wide),
        12 | 13 => (OpusMode::Hybrid, SuperWide),
        14 | 15 => (OpusMode::Hybrid, Full),
        16..=19 => (OpusMode::Celt, Narrow),
        20..=23 => (OpusMode::Celt, Wide),
        24..=27 => (OpusMode::Celt, SuperWide),
        _ => (OpusMode::Celt, Full),
    };
    let frame_samples = match (mode, config & 3) {
        (OpusMode::Silk, 0) => 480,
        (OpusMode::Silk, 1) => 960,
        (OpusMode::Silk, 2) => 1_920,
        (OpusMode::Silk, _) => 2_880,
        (OpusMode::Hybrid, size) if size & 1 == 0 => 480,
        (OpusMode::Hybrid, _) => 960,
        (OpusMode::Celt, size) => 120 << size,
    };
    (mode, bandwidth, frame_samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SILK narrow-band 20 ms, mono.
    const SILK_NB_20: u8 = 1 << 3;

    fn delimited(packet: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee];
        self_delimited(packet, &mut out).expect("valid packet");
        out.split_off(1)
    }

    #[test]
    fn every_configuration_has_the_duration_that_libopus_gives_it() {
        for toc in (0..=252u8).step_by(4) {
            let packet = [toc, 1, 2, 3];
            let info = packet_info(&packet).expect("valid");
            let samples = ::opus::packet::get_nb_samples(&packet, 48_000).expect("valid");
            assert_eq!(info.samples_48k as usize, samples, "toc {toc}");
            let bandwidth = ::opus::packet::get_bandwidth(&packet).expect("valid");
            let names = [
                (::opus::Bandwidth::Narrowband, OpusBandwidth::Narrow),
                (::opus::Bandwidth::Mediumband, OpusBandwidth::Medium),
                (::opus::Bandwidth::Wideband, OpusBandwidth::Wide),
                (::opus::Bandwidth::Superwideband, OpusBandwidth::SuperWide),
                (::opus::Bandwidth::Fullband, OpusBandwidth::Full),
            ];
            assert!(names.contains(&(bandwidth, info.bandwidth)), "toc {toc}");
            let channels = ::opus::packet::get_nb_channels(&packet).expect("valid");
            assert_eq!(info.channels == 2, channels == ::opus::Channels::Stereo);
        }
    }

    #[test]
    fn each_code_gets_one_length_at_the_place_that_appendix_b_shows() {
        // Figure 25: code 0.
        assert_eq!(delimited(&[SILK_NB_20, 7, 8]), [SILK_NB_20, 2, 7, 8]);
        // Figure 26: code 1, one length for both.
        assert_eq!(delimited(&[SILK_NB_20 | 1, 7, 8, 9, 10]), [SILK_NB_20 | 1, 2, 7, 8, 9, 10]);
        // Figure 27: code 2, N1 then N2.
        assert_eq!(delimited(&[SILK_NB_20 | 2, 1, 7, 8, 9]), [SILK_NB_20 | 2, 1, 2, 7, 8, 9]);
        // Figure 28: code 3 CBR, with two bytes of padding.
        let cbr = [SILK_NB_20 | 3, 0x42, 2, 7, 8, 0, 0];
        assert_eq!(delimited(&cbr), [SILK_NB_20 | 3, 0x42, 2, 1, 7, 8, 0, 0]);
        // Figure 29: code 3 VBR, with one byte of padding.
        let vbr = [SILK_NB_20 | 3, 0xc3, 1, 1, 2, 7, 8, 8, 9, 9, 9, 0];
        assert_eq!(delimited(&vbr), [SILK_NB_20 | 3, 0xc3, 1, 1, 2, 3, 7, 8, 8, 9, 9, 9, 0]);
    }

    #[test]
    fn lengths_from_252_take_two_bytes() {
        for (len, coded) in [
            (251, vec![251]),
            (252, vec![252, 0]),
            (255, vec![255, 0]),
            (256, vec![252, 1]),
            (1_275, vec![255, 255]),
        ] {
            let mut packet = vec![SILK_NB_20];
            packet.resize(1 + len, 5);
            let out = delimited(&packet);
            assert_eq!(out.get(1..=coded.len()), Some(&coded[..]), "length {len}");
        }
    }

    #[test]
    fn what_breaks_a_requirement_is_refused() {
        let long = |len: usize| {
            let mut packet = vec![SILK_NB_20];
            packet.resize(1 + len, 0);
            packet
        };
        let refused: [&[u8]; 9] = [
            &[],                                       // R1
            &long(1_276),                              // R2
            &[SILK_NB_20 | 1, 1, 2, 3],                // R3
            &[SILK_NB_20 | 2, 4, 1],                   // R4
            &[SILK_NB_20 | 3, 0],                      // R5: no frame
            &[SILK_NB_20 | 3, 7, 1, 1, 1, 1, 1, 1, 1], // R5: 140 ms
            &[SILK_NB_20 | 3, 2, 1, 1, 1],             // R6
            &[SILK_NB_20 | 3, 0x41, 9, 1],             // R6: padding past the end
            &[SILK_NB_20 | 3, 0x82, 5, 1],             // R7
        ];
        for packet in refused {
            assert_eq!(packet_info(packet), None, "{packet:?}");
            assert_eq!(self_delimited(packet, &mut Vec::new()), Err(CodecError::BadPacket));
        }
        assert!(packet_info(&long(1_275)).is_some());
    }

    #[test]
    fn libopus_agrees_on_any_bytes() {
        let mut state = 3u32;
        for round in 0..200_000u32 {
            let mut packet = [0u8; 12];
            for byte in &mut packet {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8 & if round % 2 == 0 { 0x4f } else { 0xff };
            }
            let packet = &packet[..=round as usize % 12];
            let theirs = ::opus::packet::parse(packet).ok().map(|parsed| parsed.frames.len());
            let ours = packet_info(packet).map(|info| usize::from(info.frames));
            assert_eq!(ours, theirs, "{packet:?}");
        }
    }
}
