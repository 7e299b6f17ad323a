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
