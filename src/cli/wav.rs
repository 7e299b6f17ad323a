//! A WAV file of two channels of 16-bit samples.
//!
//! Purpose: the header, then interleaved samples; the length is known before, so pipes work too.
//! Invariants: exactly as many samples are written as the header promises.
//! Non-goals: reading, other widths, files beyond 4 GiB (RF64).
//! Sources: Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE), as in
//! RFC 2361 §A (`WAVE_FORMAT_PCM` = 1).

use std::io::{self, Write};

/// Samples a second of what `export --format wav` writes: wide-band calls fit, and every player
/// takes it.
pub const WAV_RATE_HZ: u32 = 16_000;

const BYTES_PER_FRAME: u32 = 4;

/// The 44 bytes before `frames` stereo frames; `None` when the file would pass 4 GiB, which is
/// about 18 hours.
#[must_use]
pub fn header(frames: u64) -> Option<[u8; 44]> {
    let data_bytes = u32::try_from(frames.checked_mul(u64::from(BYTES_PER_FRAME))?).ok()?;
    let riff_bytes = data_bytes.checked_add(36)?;
    let mut out = [0; 44];
    out[0..4].copy_from_slice(b"RIFF");
    out[4..8].copy_from_slice(&riff_bytes.to_le_bytes());
    out[8..16].copy_from_slice(b"WAVEfmt ");
    out[16..20].copy_from_slice(&16_u32.to_le_bytes());
    out[20..22].copy_from_slice(&1_u16.to_le_bytes());
    out[22..24].copy_from_slice(&2_u16.to_le_bytes());
    out[24..28].copy_from_slice(&WAV_RATE_HZ.to_le_bytes());
    out[28..32].copy_from_slice(&(WAV_RATE_HZ * BYTES_PER_FRAME).to_le_bytes());
    out[32..34].copy_from_slice(&4_u16.to_le_bytes());
    out[34..36].copy_from_slice(&16_u16.to_le_bytes());
    out[36..40].copy_from_slice(b"data");
    out[40..44].copy_from_slice(&data_bytes.to_le_bytes());
    Some(out)
}

/// Writes frames of both channels, left (caller) first; the shorter one ends in silence.
///
/// # Errors
/// What `out` says.
pub fn interleave(out: &mut dyn Write, caller: &[i16], callee: &[i16]) -> io::Result<()> {
    let frames = caller.len().max(callee.len());
    let mut bytes = Vec::with_capacity(frames.saturating_mul(4));
    for index in 0..frames {
        for channel in [caller, callee] {
            let sample = channel.get(index).copied().unwrap_or_default();
            bytes.extend_from_slice(&sample.to_le_bytes());
        }
    }
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_players_expect() {
        let header = header(2).expect("short");
        assert_eq!(&header[..4], b"RIFF");
        assert_eq!(header[4..8], 44_u32.to_le_bytes());
        assert_eq!(header[24..28], [0x80, 0x3e, 0, 0]);
        assert_eq!(header[28..32], 64_000_u32.to_le_bytes());
        assert_eq!(header[40..44], 8_u32.to_le_bytes());
        assert!(super::header(u64::from(u32::MAX) / 4).is_none());
    }

    #[test]
    fn the_caller_is_left_and_the_shorter_channel_ends_in_silence() {
        let mut bytes = Vec::new();
        interleave(&mut bytes, &[1, 2], &[-1]).expect("memory");
        assert_eq!(bytes, [1, 0, 0xff, 0xff, 2, 0, 0, 0]);
    }
}
