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
//! record    48 bytes, body, zeros up to a multiple of 8     any number of them
//! footer    table, slot hashes, checkpoint                  finished segments only
//! trailer   32 bytes, the last of the file                  finished segments only
//! ```

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

use super::error::SegmentFault;
use crate::base::Reader;

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

    /// The file of its calls' wrapped keys.
    #[must_use]
    pub fn keys_name(self) -> String {
        format!("segments/{:010}.keys", self.0)
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

/// Bytes of a segment's header.
pub const HEADER_BYTES: usize = 64;

const HEADER_MAGIC: [u8; 8] = *b"CALLSPAN";
/// Version of the format drawn in docs/archive.md.
pub const SEGMENT_VERSION: u16 = 2;

pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).unwrap_or(u32::MAX)
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const ARCHIVE: [u8; 16] = [0xa5; 16];

    /// CRC-32C bit by bit (RFC 3720 Appendix B.4), the plain version of the crate's.
    pub(crate) fn plain_crc32c(bytes: &[u8]) -> [u8; 4] {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            }
        }
        (!crc).to_le_bytes()
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
            SegmentHeader { archive: ARCHIVE, segment: SegmentId(0x0b), created_ns: 0x0c0d };
        let mut drawn = [
            &b"CALLSPAN"[..],
            &[2, 0, 64, 0, 0, 0, 0, 0],
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
