//! Ogg Opus with the two parties as two uncoupled streams: caller left, callee right.
//!
//! Purpose: a file that ordinary players play as stereo, without mixing the parties' bits.
//! Invariants: every packet lasts 20 ms in both streams; the same input gives the same bytes.
//! Non-goals: seeking, chaining, reading.
//! Sources: RFC 3533 (Ogg), RFC 7845 §3–§5 (Ogg Opus), RFC 6716 Appendix B.
//!
//! ```text
//! page 0: OpusHead   page 1: OpusTags   then pages of 50 packets:
//!   packet = left in self-delimiting framing | right as it is
//!   granule position = 960 × packets so far, the last one cut to pre-skip + length
//! ```

use std::io::{self, Write};

use ::ogg::writing::{PacketWriteEndInfo, PacketWriter};

use super::error::CodecError;
use super::opus_packet::{packet_info, self_delimited};

/// Samples of 20 ms at 48 kHz.
const PACKET_SAMPLES: u64 = 960;
/// One second a page: a player seeks in it, and a torn page costs no more.
const PACKETS_PER_PAGE: u64 = 50;

/// What the headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OggOpusHead<'a> {
    /// Bitstream serial number.
    pub serial: u32,
    /// Samples at 48 kHz that a player drops at the start: the encoders' delay.
    pub pre_skip: u16,
    /// Of what was encoded, for information.
    pub input_sample_rate: u32,
    /// Comments: NAME without `=`, and any text (RFC 7845 §5.2).
    pub comments: &'a [(&'a str, &'a str)],
}

/// Writes one file.
pub struct OggOpusWriter<W: Write> {
    pages: PacketWriter<'static, W>,
    serial: u32,
    pre_skip: u16,
    packets: u64,
    /// The newest packet, not written yet, since the last one of all ends the stream.
    /// Before the first, the OpusTags packet.
    pending: Vec<u8>,
}

impl<W: Write> OggOpusWriter<W> {
    /// Writes the identification header.
    ///
    /// # Errors
    /// Those of `writer`; `InvalidInput` if the comments are longer than Ogg can say.
    pub fn new(writer: W, head: OggOpusHead<'_>) -> io::Result<Self> {
        let mut pages = PacketWriter::new(writer);
        let end = PacketWriteEndInfo::EndPage;
        pages.write_packet(identification(head), head.serial, end, 0)?;
        let pending = comment_header(head.comments)?;
        let OggOpusHead { serial, pre_skip, .. } = head;
        Ok(Self { pages, serial, pre_skip, packets: 0, pending })
    }

    /// Adds 20 ms: one Opus packet of each party.
    ///
    /// # Errors
    /// `InvalidInput` if one is no Opus packet or does not last 20 ms (nothing is added then), else
    /// those of the writer.
    pub fn push_20ms(&mut self, left: &[u8], right: &[u8]) -> io::Result<()> {
        for packet in [left, right] {
            let samples = packet_info(packet).map(|info| u64::from(info.samples_48k));
            if samples != Some(PACKET_SAMPLES) {
                return Err(invalid(CodecError::BadPacket));
            }
        }
        let mut joined =
            Vec::with_capacity(left.len().saturating_add(right.len()).saturating_add(2));
        self_delimited(left, &mut joined).map_err(invalid)?;
        joined.extend_from_slice(right);
        let ends_page = self.packets % PACKETS_PER_PAGE == 0;
        self.write_pending(
            if ends_page { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket },
            self.packets.saturating_mul(PACKET_SAMPLES),
            joined,
        )?;
        self.packets = self.packets.saturating_add(1);
        Ok(())
    }

    /// Ends the stream so that `total_samples_48k` are played, and returns the writer.
    ///
    /// The packets must last for them and the pre-skip; what is missing is not played. More than
    /// one packet too many is not trimmed away either: RFC 7845 §4.4 cuts only the last page.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self, total_samples_48k: u64) -> io::Result<W> {
        let all = self.packets.saturating_mul(PACKET_SAMPLES);
        let end = total_samples_48k.saturating_add(u64::from(self.pre_skip)).min(all);
        self.write_pending(PacketWriteEndInfo::EndStream, end, Vec::new())?;
        let mut writer = self.pages.into_inner();
        writer.flush()?;
        Ok(writer)
    }

    /// Writes the packet that waited and lets `next` wait.
    fn write_pending(
        &mut self,
        end: PacketWriteEndInfo,
        granule: u64,
        next: Vec<u8>,
    ) -> io::Result<()> {
        let packet = std::mem::replace(&mut self.pending, next);
        self.pages.write_packet(packet, self.serial, end, granule)
    }
}

/// OpusHead (RFC 7845 §5.1) with channel mapping family 1: two streams, none coupled.
fn identification(head: OggOpusHead<'_>) -> Vec<u8> {
    let mut packet = b"OpusHead".to_vec();
    packet.push(1); // version
    packet.push(2); // channels
    packet.extend(head.pre_skip.to_le_bytes());
    packet.extend(head.input_sample_rate.to_le_bytes());
    packet.extend(0i16.to_le_bytes()); // gain
    packet.extend([1, 2, 0, 0, 1]); // family, streams, coupled, mapping
    packet
}

/// OpusTags (RFC 7845 §5.2).
fn comment_header(comments: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let mut packet = b"OpusTags".to_vec();
    push_text(&mut packet, &[concat!("callspan ", env!("CARGO_PKG_VERSION"))])?;
    packet.extend(length_field(comments.len())?);
    for (name, value) in comments {
        push_text(&mut packet, &[name, "=", value])?;
    }
    Ok(packet)
}

fn push_text(packet: &mut Vec<u8>, parts: &[&str]) -> io::Result<()> {
    let len_bytes = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
    packet.extend(length_field(len_bytes)?);
    for part in parts {
        packet.extend_from_slice(part.as_bytes());
    }
    Ok(())
}

fn length_field(len: usize) -> io::Result<[u8; 4]> {
    u32::try_from(len).map(u32::to_le_bytes).map_err(|_| invalid(CodecError::FrameTooLong))
}

fn invalid(error: CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

#[cfg(test)]
mod tests {
    use super::super::opus::{EncoderSettings, silence_packet};
    use super::*;
    use ::ogg::reading::PacketReader;
    use std::io::Cursor;

    fn silence() -> Vec<u8> {
        let settings = EncoderSettings { sample_rate_hz: 8_000, bitrate: 16_000, complexity: 0 };
        silence_packet(settings).expect("silence")
    }

    const HEAD: OggOpusHead<'_> = OggOpusHead {
        serial: 0x1234_5678,
        pre_skip: 312,
        input_sample_rate: 8_000,
        comments: &[("TITLE", "a call"), ("CALL", "0123456789abcdef")],
    };

    fn file(packets: u64, total_samples_48k: u64) -> Vec<u8> {
        let mut writer = OggOpusWriter::new(Vec::new(), HEAD).expect("header");
        for _ in 0..packets {
            writer.push_20ms(&silence(), &silence()).expect("packet");
        }
        writer.finish(total_samples_48k).expect("end")
    }

    /// Packets with (granule of page, last of page, last of stream).
    fn packets(bytes: Vec<u8>) -> Vec<(Vec<u8>, u64, bool, bool)> {
        let mut reader = PacketReader::new(Cursor::new(bytes));
        let mut all = Vec::new();
        while let Some(packet) = reader.read_packet().expect("Ogg") {
            assert_eq!(packet.stream_serial(), 0x1234_5678);
            let (granule, page, stream) =
                (packet.absgp_page(), packet.last_in_page(), packet.last_in_stream());
            all.push((packet.data, granule, page, stream));
        }
        all
    }

    #[test]
    fn headers_are_those_of_rfc_7845() {
        let all = packets(file(1, 100));
        let mut head = b"OpusHead\x01\x02\x38\x01\x40\x1f\0\0\0\0".to_vec();
        head.extend([1, 2, 0, 0, 1]);
        assert_eq!(all[0], (head, 0, true, false));
        let mut tags = b"OpusTags".to_vec();
        let vendor = concat!("callspan ", env!("CARGO_PKG_VERSION"));
        tags.extend([u8::try_from(vendor.len()).expect("short"), 0, 0, 0]);
        tags.extend(vendor.as_bytes());
        tags.extend(b"\x02\0\0\0\x0c\0\0\0TITLE=a call\x15\0\0\0CALL=0123456789abcdef");
        assert_eq!(all[1], (tags, 0, true, false));
    }

    #[test]
    fn pages_hold_a_second_and_the_last_granule_trims_the_end() {
        let all = packets(file(120, 114_000));
        assert_eq!(all.len(), 122);
        let ends: Vec<u64> =
            all.iter().skip(2).filter(|packet| packet.2).map(|packet| packet.1).collect();
        assert_eq!(ends, [48_000, 96_000, 114_312]);
        assert_eq!(all.iter().filter(|packet| packet.3).count(), 1);
        let mut joined = silence();
        joined.insert(1, u8::try_from(joined.len() - 1).expect("short"));
        joined.extend(silence());
        assert!(all.iter().skip(2).all(|packet| packet.0 == joined));
    }

    #[test]
    fn the_end_is_never_beyond_the_packets_and_a_file_may_be_empty() {
        assert_eq!(packets(file(2, 1 << 40)).last().map(|packet| packet.1), Some(1_920));
        let empty = packets(file(0, 0));
        assert_eq!((empty.len(), empty[1].3), (2, true));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(file(60, 50_000), file(60, 50_000));
    }

    #[test]
    fn packets_of_another_duration_and_garbage_are_refused_and_leave_the_file_whole() {
        let mut writer = OggOpusWriter::new(Vec::new(), HEAD).expect("header");
        for wrong in [&[][..], &[0x00, 1, 2], &[0x0b, 0]] {
            let error = writer.push_20ms(&silence(), wrong).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            writer.push_20ms(wrong, &silence()).expect_err("refused");
        }
        writer.push_20ms(&silence(), &silence()).expect("packet");
        assert_eq!(packets(writer.finish(9).expect("end")).len(), 3);
    }
}
