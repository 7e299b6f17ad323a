//! WAV: 16-bit samples of both parties, interleaved.
//!
//! Purpose: an export that every program reads, written front to back without seeking.
//! Invariants: the header tells the length that the file has in the end.
//! Non-goals: files of 4 GiB and more (RF64).
//! Sources: Multimedia Programming Interface and Data Specifications 1.0 (1991), RIFF WAVE.

use std::io::{self, Write};

use super::error::CodecError;

/// Bytes of the header.
const HEADER_LEN_BYTES: u64 = 44;
/// Two channels of two bytes.
const FRAME_LEN_BYTES: u16 = 4;

/// Writes one file of two channels.
pub struct WavWriter<W: Write> {
    writer: W,
    frames_left: u64,
}

impl<W: Write> WavWriter<W> {
    /// Writes the header of a file of `frames` sample pairs.
    ///
    /// # Errors
    /// `InvalidInput` if RIFF cannot say that length or rate, else those of `writer`.
    pub fn new(mut writer: W, sample_rate_hz: u32, frames: u64) -> io::Result<Self> {
        let data_len_bytes = frames
            .checked_mul(u64::from(FRAME_LEN_BYTES))
            .and_then(|len| u32::try_from(len).ok())
            .ok_or_else(too_long)?;
        let riff_len = u64::from(data_len_bytes).saturating_add(HEADER_LEN_BYTES - 8);
        let riff_len = u32::try_from(riff_len).map_err(|_| too_long())?;
        let byte_rate =
            sample_rate_hz.checked_mul(u32::from(FRAME_LEN_BYTES)).ok_or_else(too_long)?;
        let mut header = b"RIFF".to_vec();
        header.extend(riff_len.to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(16u32.to_le_bytes());
        header.extend(1u16.to_le_bytes()); // PCM
        header.extend(2u16.to_le_bytes()); // channels
        header.extend(sample_rate_hz.to_le_bytes());
        header.extend(byte_rate.to_le_bytes());
        header.extend(FRAME_LEN_BYTES.to_le_bytes());
        header.extend(16u16.to_le_bytes()); // bits a sample
        header.extend(b"data");
        header.extend(data_len_bytes.to_le_bytes());
        writer.write_all(&header)?;
        Ok(Self { writer, frames_left: frames })
    }

    /// Adds samples of both parties, as many of each.
    ///
    /// # Errors
    /// `InvalidInput` if the lengths differ or more comes than was announced (nothing is written),
    /// else those of the writer.
    pub fn write(&mut self, left: &[i16], right: &[i16]) -> io::Result<()> {
        let frames = u64::try_from(left.len()).unwrap_or(u64::MAX);
        let frames_left = self.frames_left.checked_sub(frames).ok_or_else(too_long)?;
        if left.len() != right.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, CodecError::BadLength));
        }
        let mut bytes = Vec::with_capacity(left.len().saturating_mul(4));
        for (left, right) in left.iter().zip(right) {
            bytes.extend(left.to_le_bytes());
            bytes.extend(right.to_le_bytes());
        }
        self.writer.write_all(&bytes)?;
        self.frames_left = frames_left;
        Ok(())
    }

    /// Fills what is missing with silence and returns the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        let silence = [0i16; 1_024];
        while self.frames_left > 0 {
            let frames = usize::try_from(self.frames_left).unwrap_or(usize::MAX).min(silence.len());
            let silence = silence.get(..frames).unwrap_or_default();
            self.write(silence, silence)?;
        }
        self.writer.flush()?;
        Ok(self.writer)
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, CodecError::FrameTooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_samples_stand_as_specified() {
        let mut writer = WavWriter::new(Vec::new(), 8_000, 3).expect("header");
        writer.write(&[1, -2], &[0x1234, 4]).expect("samples");
        let bytes = writer.finish().expect("end");
        let mut expected = b"RIFF\x30\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x40\x1f\0\0".to_vec();
        expected.extend(b"\0\x7d\0\0\x04\0\x10\0data\x0c\0\0\0");
        expected.extend([1, 0, 0x34, 0x12, 0xfe, 0xff, 4, 0, 0, 0, 0, 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn too_much_and_uneven_input_is_refused() {
        let mut writer = WavWriter::new(Vec::new(), 8_000, 1).expect("header");
        assert!(writer.write(&[1, 2], &[1, 2]).is_err());
        assert!(writer.write(&[1], &[]).is_err());
        writer.write(&[1], &[2]).expect("as announced");
        assert_eq!(writer.finish().expect("end").len(), 48);
        assert!(WavWriter::new(Vec::new(), 8_000, 1 << 30).is_err());
        assert!(WavWriter::new(Vec::new(), 8_000, u64::MAX).is_err());
        assert!(WavWriter::new(Vec::new(), u32::MAX, 1).is_err());
    }
}
