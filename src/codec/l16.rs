//! L16: uncompressed 16-bit samples.
//!
//! Purpose: network order to samples, two channels mixed to one.
//! Invariants: none.
//! Non-goals: more than two channels.
//! Sources: RFC 3551 §4.5.11 and §4.1 (channel order), payload types 10 and 11.

use super::error::CodecError;
use super::sample::saturate;

/// How many samples of different channels stand beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L16Channels {
    /// One.
    Mono,
    /// Left, right; their mean is taken.
    Stereo,
}

/// Decodes one payload and returns how many samples it wrote.
///
/// # Errors
/// `BadLength` if the payload is no whole number of samples (of pairs, for two channels),
/// `FrameTooLong` if they do not fit `pcm`; nothing has been written.
pub fn decode_l16(
    payload: &[u8],
    channels: L16Channels,
    pcm: &mut [i16],
) -> Result<usize, CodecError> {
    let frame_len_bytes = match channels {
        L16Channels::Mono => 2,
        L16Channels::Stereo => 4,
    };
    if payload.len() % frame_len_bytes != 0 {
        return Err(CodecError::BadLength);
    }
    let samples = payload.len() / frame_len_bytes;
    let pcm = pcm.get_mut(..samples).ok_or(CodecError::FrameTooLong)?;
    for (sample, frame) in pcm.iter_mut().zip(payload.chunks_exact(frame_len_bytes)) {
        *sample = match *frame {
            [high, low] => i16::from_be_bytes([high, low]),
            [left_high, left_low, right_high, right_low] => {
                let left = i32::from(i16::from_be_bytes([left_high, left_low]));
                let right = i32::from(i16::from_be_bytes([right_high, right_low]));
                saturate(left.saturating_add(right) / 2)
            }
            _ => 0,
        };
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_big_endian_and_two_channels_are_averaged() {
        let mut pcm = [0; 2];
        assert_eq!(decode_l16(&[0x12, 0x34, 0xff, 0xfe], L16Channels::Mono, &mut pcm), Ok(2));
        assert_eq!(pcm, [0x1234, -2]);
        let loud = [0x80, 0, 0x80, 0, 0, 10, 0, 20];
        assert_eq!(decode_l16(&loud, L16Channels::Stereo, &mut pcm), Ok(2));
        assert_eq!(pcm, [-32_768, 15]);
    }

    #[test]
    fn broken_lengths_are_refused() {
        let mut pcm = [0; 1];
        assert_eq!(decode_l16(&[1], L16Channels::Mono, &mut pcm), Err(CodecError::BadLength));
        assert_eq!(decode_l16(&[1, 2], L16Channels::Stereo, &mut pcm), Err(CodecError::BadLength));
        assert_eq!(decode_l16(&[0; 4], L16Channels::Mono, &mut pcm), Err(CodecError::FrameTooLong));
    }
}
