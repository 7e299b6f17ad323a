//! The bytes of a segment's header and records; `footer` has the rest.
//!
//! Purpose: encode and decode each part; docs/archive.md draws them with their offsets.
//! Invariants: all numbers are little-endian; every part starts at a multiple of 8 and carries a
//! CRC-32C of its own; a part decodes only if it is whole.
//! Non-goals: files (see `scan`, `writer`, `reader`) and the contents of bodies (see `body`).
//! Sources: RFC 3720 §12.1 and Appendix B.4 (CRC-32C); the LZ4 block format.
//!
//! ```text
//! header    64 bytes
//! record    32 bytes, body, zeros up to a multiple of 8     any number of them
//! footer    24 bytes, 32 a record, 8 bytes                  sealed segments only
//! trailer   32 bytes, the last of the file                  sealed segments only
//! ```

use std::borrow::Cow;
use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

use super::error::SegmentFault;
use super::footer::TableEntry;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::{CallId, Reader};

/// A segment's number, from 1, in order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Its file while it is being written.
    #[must_use]
    pub fn open_name(self) -> String {
        format!("segments/{:010}.open", self.0)
    }

    /// Its file once it is sealed.
    #[must_use]
    pub fn sealed_name(self) -> String {
        format!("segments/{:010}.segment", self.0)
    }

    /// The number and state that a file name in `segments/` tells; `None` for other files.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<(Self, SegmentState)> {
        let (number, suffix) = name.split_once('.')?;
        let state = match suffix {
            "open" => SegmentState::Open,
            "segment" => SegmentState::Sealed,
            _ => return None,
        };
        if number.len() < 10 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some((Self(number.parse().ok()?), state))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "segment {:010}", self.0)
    }
}

/// Whether a segment can still grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SegmentState {
    /// Being written, or left behind by a process that ended early.
    Open,
    /// Immutable, with footer and trailer.
    Sealed,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A JSON summary of an ongoing call.
    CallOpened = 1,
    /// The JSON summary of a call; the last one wins.
    Summary = 2,
    /// SIP messages (`body::SipEntry`).
    Sip = 3,
    /// Opus packets (`body::AudioBatch`).
    Audio = 4,
    /// Raw packets (`base::PacketEntry`) that are the recording.
    Raw = 5,
    /// Raw packets written under overload, until they are transcoded.
    Spill = 6,
    /// Audio that supersedes the spills up to a sequence.
    SpillDone = 7,
}

impl RecordKind {
    /// Every kind, in order of its code.
    pub const ALL: [Self; 7] = [
        Self::CallOpened,
        Self::Summary,
        Self::Sip,
        Self::Audio,
        Self::Raw,
        Self::Spill,
        Self::SpillDone,
    ];

    /// Its byte in a record.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a byte.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// How to store a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As an LZ4 block, where that is shorter.
    Lz4,
    /// As it is.
    None,
}

/// One record, its body decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whose it is.
    pub call: CallId,
    /// What it holds.
    pub kind: RecordKind,
    /// Position among the call's records, from 0.
    pub sequence: u32,
    /// What was appended.
    pub body: Cow<'a, [u8]>,
}

/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a record before its body.
pub const RECORD_HEADER_BYTES: usize = 32;

const HEADER_MAGIC: [u8; 8] = *b"CALLSPAN";
/// Version of the format drawn in docs/archive.md.
pub const SEGMENT_VERSION: u16 = 1;
const FLAG_LZ4: u8 = 1;

pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
}

/// `len_bytes` rounded up to a multiple of 8.
const fn padded(len_bytes: u64) -> u64 {
    len_bytes.saturating_add(7) & !7
}

/// Bytes that a record with a stored body of `stored_len` bytes takes in the segment.
#[must_use]
pub const fn record_span_bytes(stored_len: u32) -> u64 {
    padded(RECORD_HEADER_BYTES as u64 + stored_len as u64)
}

/// The first 64 bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The archive's random id.
    pub archive: [u8; 16],
    /// The segment's number.
    pub segment: SegmentId,
    /// When the file was made, in nanoseconds since the epoch, by the disk's clock.
    pub created_ns: i64,
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&HEADER_MAGIC);
        out[8..10].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&64_u16.to_le_bytes());
        out[16..32].copy_from_slice(&self.archive);
        out[32..40].copy_from_slice(&self.segment.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.created_ns.to_le_bytes());
        let crc = crc32c(&[&out[..60]]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// `NotASegment`, `HeaderChecksum`, `UnknownVersion`.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentFault> {
        let (bytes, _) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(SegmentFault::NotASegment)?;
        let mut reader = Reader::new(bytes);
        if reader.array() != Some(HEADER_MAGIC) {
            return Err(SegmentFault::NotASegment);
        }
        let version = reader.u16_le().ok_or(SegmentFault::NotASegment)?;
        if crc32c(&[&bytes[..60]]).to_le_bytes() != bytes[60..64] {
            return Err(SegmentFault::HeaderChecksum);
        }
        if version != SEGMENT_VERSION {
            return Err(SegmentFault::UnknownVersion);
        }
        let read = |reader: &mut Reader<'_>| {
            reader.take(6)?; // header length, reserved
            let archive = reader.array()?;
            let segment = SegmentId(reader.u64_le()?);
            Some(Self { archive, segment, created_ns: reader.i64_le()? })
        };
        read(&mut reader).ok_or(SegmentFault::NotASegment)
    }
}

/// The 32 bytes before a body, decoded and plausible; the CRC is not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the body as stored.
    pub stored_len: u32,
    /// What it holds.
    pub kind: RecordKind,
    /// How the body is stored.
    pub compression: Compression,
    /// Whose it is.
    pub call: CallId,
    /// Position among the call's records.
    pub sequence: u32,
    /// Bytes of the body as appended.
    pub body_len: u32,
    crc: u32,
}

impl RecordHeader {
    /// Reads a header; `None` where no record can begin like that (lengths beyond the limit, an
    /// unknown kind or flag, reserved bytes in use, or too few bytes).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let stored_len = reader.u32_le()?;
        let kind = RecordKind::from_code(reader.u8()?)?;
        let compression = match reader.u8()? {
            0 => Compression::None,
            FLAG_LZ4 => Compression::Lz4,
            _ => return None,
        };
        let reserved = reader.u16_le()?;
        let call = CallId(reader.u64_le()?);
        let sequence = reader.u32_le()?;
        let body_len = reader.u32_le()?;
        let reserved = reader.u32_le()? | u32::from(reserved);
        let crc = reader.u32_le()?;
        let longest = stored_len.max(body_len) as usize;
        let lengths_agree = compression == Compression::Lz4 || stored_len == body_len;
        if reserved != 0 || longest > RECORD_BYTES_MAX || !lengths_agree {
            return None;
        }
        Some(Self { stored_len, kind, compression, call, sequence, body_len, crc })
    }

    /// Bytes from this record's start to the next one's.
    #[must_use]
    pub const fn span_bytes(&self) -> u64 {
        record_span_bytes(self.stored_len)
    }
}

/// Appends one record to `out`; the caller has checked that the body keeps to `RECORD_BYTES_MAX`.
/// Returns its row for the table, with `offset` relative to the start of `out`.
pub fn encode_record(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    compression: Compression,
) -> TableEntry {
    let offset = out.len();
    let squeezed = match compression {
        Compression::Lz4 => Some(lz4_flex::block::compress(&record.body)),
        Compression::None => None,
    };
    // A body that LZ4 cannot shorten is stored as it is: reading it is then free.
    let squeezed = squeezed.filter(|squeezed| squeezed.len() < record.body.len());
    let stored: &[u8] = squeezed.as_deref().unwrap_or(&record.body);
    let stored_len = u32::try_from(stored.len()).unwrap_or(u32::MAX);
    let body_len = u32::try_from(record.body.len()).unwrap_or(u32::MAX);
    let mut header = [0; RECORD_HEADER_BYTES];
    header[0..4].copy_from_slice(&stored_len.to_le_bytes());
    header[4] = record.kind.code();
    header[5] = if squeezed.is_some() { FLAG_LZ4 } else { 0 };
    header[8..16].copy_from_slice(&record.call.0.to_le_bytes());
    header[16..20].copy_from_slice(&record.sequence.to_le_bytes());
    header[20..24].copy_from_slice(&body_len.to_le_bytes());
    let crc = crc32c(&[&header[..28], stored]);
    header[28..32].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(stored);
    out.resize(out.len().next_multiple_of(8), 0);
    TableEntry {
        call: record.call,
        sequence: record.sequence,
        offset: offset as u64,
        stored_len,
        kind: record.kind,
    }
}

/// Reads the record at the start of `bytes`, its CRC checked and its body decompressed.
///
/// # Errors
/// `RecordHeader`, `RecordCut`, `RecordChecksum`, `RecordCompression`.
pub fn decode_record(bytes: &[u8]) -> Result<(Record<'_>, RecordHeader), SegmentFault> {
    let header = RecordHeader::decode(bytes).ok_or(if bytes.len() < RECORD_HEADER_BYTES {
        SegmentFault::RecordCut
    } else {
        SegmentFault::RecordHeader
    })?;
    let mut reader = Reader::new(bytes);
    let fields = reader.take(28).ok_or(SegmentFault::RecordCut)?;
    reader.take(4).ok_or(SegmentFault::RecordCut)?;
    let stored = reader.take(header.stored_len as usize).ok_or(SegmentFault::RecordCut)?;
    let used = RECORD_HEADER_BYTES as u64 + u64::from(header.stored_len);
    let padding = usize::try_from(header.span_bytes() - used).unwrap_or(8);
    let padding = reader.take(padding).ok_or(SegmentFault::RecordCut)?;
    if crc32c(&[fields, stored]) != header.crc || padding.iter().any(|byte| *byte != 0) {
        return Err(SegmentFault::RecordChecksum);
    }
    let body = match header.compression {
        Compression::None => Cow::Borrowed(stored),
        Compression::Lz4 => Cow::Owned(decompress(stored, header.body_len as usize)?),
    };
    let RecordHeader { call, kind, sequence, .. } = header;
    Ok((Record { call, kind, sequence, body }, header))
}

fn decompress(stored: &[u8], body_len: usize) -> Result<Vec<u8>, SegmentFault> {
    let mut body = vec![0; body_len];
    match lz4_flex::block::decompress_into(stored, &mut body) {
        Ok(len) if len == body_len => Ok(body),
        _ => Err(SegmentFault::RecordCompression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C bit by bit (RFC 3720 Appendix B.4), the plain version of the crate's.
    fn plain_crc32c(bytes: &[u8]) -> [u8; 4] {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            }
        }
        (!crc).to_le_bytes()
    }

    fn record(body: &[u8]) -> Record<'_> {
        Record { call: CallId(0x0102), kind: RecordKind::Audio, sequence: 7, body: body.into() }
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720 Appendix B.4: 32 bytes of zeros give aa 36 91 8a.
        assert_eq!(crc32c(&[&[0; 32]]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[b"1234", b"56789"]).to_le_bytes(), plain_crc32c(b"123456789"));
    }

    #[test]
    fn the_header_has_the_drawn_bytes() {
        let header =
            SegmentHeader { archive: [0xa5; 16], segment: SegmentId(0x0b), created_ns: 0x0c0d };
        let mut drawn = [
            &b"CALLSPAN"[..],
            &[1, 0, 64, 0, 0, 0, 0, 0],
            &[0xa5; 16],
            &[0x0b, 0, 0, 0, 0, 0, 0, 0],
            &[0x0d, 0x0c, 0, 0, 0, 0, 0, 0],
            &[0; 12],
        ]
        .concat();
        drawn.extend(plain_crc32c(&drawn));
        assert_eq!(header.encode().to_vec(), drawn);
        assert_eq!(SegmentHeader::decode(&drawn), Ok(header));
        for cut in 0..drawn.len() {
            assert!(SegmentHeader::decode(&drawn[..cut]).is_err(), "cut at {cut}");
            let mut flipped = drawn.clone();
            flipped[cut] ^= 0x10;
            assert!(SegmentHeader::decode(&flipped).is_err(), "flipped at {cut}");
        }
    }

    #[test]
    fn a_record_has_the_drawn_bytes() {
        let mut bytes = Vec::new();
        let entry = encode_record(&mut bytes, &record(b"opus!"), Compression::None);
        let fields = [
            &[5, 0, 0, 0, 4, 0, 0, 0][..],
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0, 5, 0, 0, 0],
            &[0, 0, 0, 0],
        ]
        .concat();
        let crc = plain_crc32c(&[&fields[..], b"opus!"].concat());
        assert_eq!(bytes, [&fields[..], &crc, b"opus!", &[0, 0, 0]].concat());
        assert_eq!((entry.offset, entry.stored_len), (0, 5));
        assert_eq!(record_span_bytes(5), 40);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_a_record_is_noticed() {
        for compression in [Compression::None, Compression::Lz4] {
            let mut bytes = Vec::new();
            encode_record(&mut bytes, &record(&[b'x'; 99]), compression);
            let (read, header) = decode_record(&bytes).expect("whole");
            assert_eq!((read, header.compression), (record(&[b'x'; 99]), compression));
            for cut in 0..bytes.len() {
                assert!(decode_record(&bytes[..cut]).is_err(), "cut at {cut}");
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[cut] ^= 1 << bit;
                    assert!(decode_record(&flipped).is_err(), "byte {cut}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_body_that_lz4_cannot_shorten_is_stored_as_it_is() {
        let mut bytes = Vec::new();
        let entry = encode_record(&mut bytes, &record(b"q8#"), Compression::Lz4);
        assert_eq!(entry.stored_len, 3);
        let (read, header) = decode_record(&bytes).expect("whole");
        assert_eq!((read.body.as_ref(), header.compression), (&b"q8#"[..], Compression::None));
    }

    #[test]
    fn file_names_tell_number_and_state() {
        for id in [SegmentId(1), SegmentId(9_999_999_999), SegmentId(12_345_678_901)] {
            for (name, state) in
                [(id.open_name(), SegmentState::Open), (id.sealed_name(), SegmentState::Sealed)]
            {
                let name = name.strip_prefix("segments/").expect("directory");
                assert_eq!(SegmentId::from_file_name(name), Some((id, state)));
            }
        }
        for name in ["1.open", "0000000001", "0000000001.tmp", "+000000001.open", "x.segment"] {
            assert_eq!(SegmentId::from_file_name(name), None, "{name}");
        }
    }
}
