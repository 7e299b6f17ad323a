//! The bytes of a record: header, and a body that may be packed and sealed.
//!
//! Purpose: encode and decode records; docs/archive.md draws them with their offsets.
//! Invariants: all numbers are little-endian; a record starts at a multiple of 8 and carries a CRC-32C
//! of its own; it decodes only if it is whole, and opens only with its own key.
//! Non-goals: files (see `scan`, `writer`, `reader`) and the contents of bodies (see `body`).
//! Sources: RFC 3720 §12.1 and Appendix B.4 (CRC-32C); the LZ4 block format; NIST SP 800-38D (GCM).

use std::borrow::Cow;

use super::cipher::{self, RecordKey};
use super::error::SegmentFault;
use super::footer::TableEntry;
use super::segment::{Compression, RecordKind, crc32c};
use crate::base::limits::RECORD_BYTES_MAX;
use crate::base::{CallId, Reader};

/// Bytes of a record before its body.
pub const RECORD_HEADER_BYTES: usize = 48;
const FLAG_LZ4: u8 = 1;
const FLAG_SEALED: u8 = 2;
/// Bytes of a record's header that its CRC and its seal cover.
const COVERED_BYTES: usize = 44;

/// `len_bytes` rounded up to a multiple of 8.
const fn padded(len_bytes: u64) -> u64 {
    len_bytes.saturating_add(7) & !7
}

/// Bytes that a record with a stored body of `stored_len` bytes takes in the segment.
#[must_use]
pub const fn record_span_bytes(stored_len: u32) -> u64 {
    padded(RECORD_HEADER_BYTES as u64 + stored_len as u64)
}

/// Where the key of a sealed body is, and the nonce that it was sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSeal {
    /// The slot of the key in the segment's key file.
    pub slot: u32,
    /// The nonce: no other record under this key has it.
    pub counter: u64,
}

/// The 48 bytes before a body, decoded and plausible; the CRC is not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the body as stored, the tag of a sealed one included.
    pub stored_len: u32,
    /// What it holds.
    pub kind: RecordKind,
    /// How the body is stored.
    pub compression: Compression,
    /// How it is sealed; `None` in a plaintext archive.
    pub seal: Option<RecordSeal>,
    /// Whose it is.
    pub call: CallId,
    /// Position among the call's records.
    pub sequence: u32,
    /// Bytes of the body as appended.
    pub body_len: u32,
    /// Of sound: the slot behind its last one, so that the box knows how long a recording is that it
    /// cannot open. 0 otherwise.
    pub end_slot: u32,
}

impl RecordHeader {
    /// Reads a header; `None` where no record can begin like that (lengths beyond the limit, an
    /// unknown kind or flag, reserved bytes in use, or too few bytes).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(..RECORD_HEADER_BYTES)?);
        let stored_len = reader.u32_le()?;
        let kind = RecordKind::from_code(reader.u8()?)?;
        let flags = reader.u8()?;
        let reserved = u32::from(reader.u16_le()?);
        let call = CallId(reader.u64_le()?);
        let sequence = reader.u32_le()?;
        let body_len = reader.u32_le()?;
        let slot = reader.u32_le()?;
        let end_slot = reader.u32_le()?;
        let counter = reader.u64_le()?;
        let reserved = reserved | reader.u32_le()?;
        let compression = if flags & FLAG_LZ4 == 0 { Compression::None } else { Compression::Lz4 };
        let seal = (flags & FLAG_SEALED != 0).then_some(RecordSeal { slot, counter });
        let packed_len = match seal {
            Some(_) => stored_len.checked_sub(TAG_LEN)?,
            None => stored_len,
        };
        let longest = packed_len.max(body_len) as usize;
        let lengths_agree = compression == Compression::Lz4 || packed_len == body_len;
        let unused = seal.is_some() || slot == 0 && counter == 0;
        let known = flags & !(FLAG_LZ4 | FLAG_SEALED) == 0;
        if reserved != 0 || longest > RECORD_BYTES_MAX || !lengths_agree || !unused || !known {
            return None;
        }
        let read = Self { stored_len, kind, compression, seal, call, sequence, body_len, end_slot };
        Some(read)
    }

    /// Bytes from this record's start to the next one's.
    #[must_use]
    pub const fn span_bytes(&self) -> u64 {
        record_span_bytes(self.stored_len)
    }

    /// The covered bytes.
    fn encode(&self) -> [u8; COVERED_BYTES] {
        let mut out = [0; COVERED_BYTES];
        let RecordSeal { slot, counter } = self.seal.unwrap_or(RecordSeal { slot: 0, counter: 0 });
        let lz4 = if self.compression == Compression::Lz4 { FLAG_LZ4 } else { 0 };
        let sealed = if self.seal.is_some() { FLAG_SEALED } else { 0 };
        out[0..4].copy_from_slice(&self.stored_len.to_le_bytes());
        out[4] = self.kind.code();
        out[5] = lz4 | sealed;
        out[8..16].copy_from_slice(&self.call.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.sequence.to_le_bytes());
        out[20..24].copy_from_slice(&self.body_len.to_le_bytes());
        out[24..28].copy_from_slice(&slot.to_le_bytes());
        out[28..32].copy_from_slice(&self.end_slot.to_le_bytes());
        out[32..40].copy_from_slice(&counter.to_le_bytes());
        out
    }
}

const TAG_LEN: u32 = 16;
const _: () = assert!(TAG_LEN as usize == cipher::TAG_BYTES);

/// A body as it is packed before it is sealed: LZ4 where that was asked for and is shorter.
#[must_use]
pub fn pack(body: &[u8], compression: Compression) -> (Cow<'_, [u8]>, Compression) {
    if compression == Compression::Lz4 {
        let squeezed = lz4_flex::block::compress(body);
        if squeezed.len() < body.len() {
            return (Cow::Owned(squeezed), Compression::Lz4);
        }
    }
    (Cow::Borrowed(body), Compression::None)
}

/// A packed record that waits to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Whose it is.
    pub call: CallId,
    /// What it holds.
    pub kind: RecordKind,
    /// Position among the call's records.
    pub sequence: u32,
    /// How `pack` packed it.
    pub compression: Compression,
    /// Bytes of the body as appended.
    pub body_len: u32,
    /// Bytes of the packed body.
    pub packed_len: u32,
    /// Of sound: the slot behind its last one.
    pub end_slot: u32,
}

/// A key, and where and how a record is to be sealed with it.
pub struct SealWith<'k> {
    /// The call's key.
    pub key: &'k RecordKey,
    /// Slot and counter.
    pub seal: RecordSeal,
    /// The archive's id, which the seal binds.
    pub archive: [u8; 16],
}

/// Appends a record to `out`: `packed` is its body from `pack`. Returns its row for the table, with
/// `offset` relative to the start of `out`; `None` when it cannot be sealed.
pub fn encode_record(
    out: &mut Vec<u8>,
    record: Packed,
    packed: &[u8],
    with: Option<&SealWith<'_>>,
) -> Option<TableEntry> {
    let Packed { call, kind, sequence, compression, body_len, packed_len, end_slot } = record;
    let offset = out.len();
    let tag_len = if with.is_some() { TAG_LEN } else { 0 };
    let stored_len = packed_len.checked_add(tag_len)?;
    let seal = with.map(|with| with.seal);
    let header =
        RecordHeader { stored_len, kind, compression, seal, call, sequence, body_len, end_slot };
    let covered = header.encode();
    out.extend_from_slice(&covered);
    out.extend_from_slice(&[0; 4]);
    let body_at = out.len();
    out.extend_from_slice(packed);
    if let Some(SealWith { key, seal, archive }) = with {
        let context = cipher::context(archive, key.epoch, &covered);
        let tag = key.seal(seal.counter, &context, out.get_mut(body_at..)?)?;
        out.extend_from_slice(&tag);
    }
    let crc = crc32c(&[&covered, out.get(body_at..)?]);
    out.get_mut(body_at - 4..body_at)?.copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
    Some(TableEntry { call, sequence, offset: offset as u64, stored_len, kind })
}

/// A record whose CRC is right, still sealed.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// Its header.
    pub header: RecordHeader,
    covered: &'a [u8; COVERED_BYTES],
    stored: &'a [u8],
    /// All its bytes, padding included: what the Merkle tree hashes.
    pub bytes: &'a [u8],
}

/// Reads the record at the start of `bytes` and checks its CRC.
///
/// # Errors
/// `RecordHeader`, `RecordCut`, `RecordChecksum`.
pub fn decode_record(bytes: &[u8]) -> Result<StoredRecord<'_>, SegmentFault> {
    let header = RecordHeader::decode(bytes).ok_or(if bytes.len() < RECORD_HEADER_BYTES {
        SegmentFault::RecordCut
    } else {
        SegmentFault::RecordHeader
    })?;
    let span = usize::try_from(header.span_bytes()).unwrap_or(usize::MAX);
    let bytes = bytes.get(..span).ok_or(SegmentFault::RecordCut)?;
    let mut reader = Reader::new(bytes);
    let parts = |reader: &mut Reader<'_>| {
        let crc = u32::from_le_bytes(*bytes.get(COVERED_BYTES..)?.first_chunk()?);
        reader.take(RECORD_HEADER_BYTES)?;
        Some(crc)
    };
    let covered = bytes.first_chunk::<COVERED_BYTES>().ok_or(SegmentFault::RecordCut)?;
    let crc = parts(&mut reader).ok_or(SegmentFault::RecordCut)?;
    let stored = reader.take(header.stored_len as usize).ok_or(SegmentFault::RecordCut)?;
    let padding = reader.rest();
    if crc32c(&[covered, stored]) != crc || padding.iter().any(|byte| *byte != 0) {
        return Err(SegmentFault::RecordChecksum);
    }
    Ok(StoredRecord { header, covered, stored, bytes })
}

impl StoredRecord<'_> {
    /// The body as it was appended. `key`: that of the record's slot.
    ///
    /// # Errors
    /// `RecordSealed` without the right key, or where a bit of it is another; `RecordCompression`.
    pub fn open(
        &self,
        archive: [u8; 16],
        key: Option<&RecordKey>,
    ) -> Result<Vec<u8>, SegmentFault> {
        let packed = match self.header.seal {
            None => Cow::Borrowed(self.stored),
            Some(RecordSeal { counter, .. }) => {
                let key = key.ok_or(SegmentFault::RecordSealed)?;
                let context = cipher::context(&archive, key.epoch, self.covered);
                let opened = key.open(counter, &context, self.stored);
                Cow::Owned(opened.ok_or(SegmentFault::RecordSealed)?)
            }
        };
        match self.header.compression {
            Compression::None => Ok(packed.into_owned()),
            Compression::Lz4 => unpack(&packed, Compression::Lz4, self.header.body_len),
        }
    }
}

/// The body that `pack` packed.
///
/// # Errors
/// `RecordCompression`.
pub fn unpack(
    packed: &[u8],
    compression: Compression,
    body_len: u32,
) -> Result<Vec<u8>, SegmentFault> {
    if compression == Compression::None {
        return Ok(packed.to_vec());
    }
    let body_len = body_len as usize;
    let mut body = vec![0; body_len];
    match lz4_flex::block::decompress_into(packed, &mut body) {
        Ok(len) if len == body_len => Ok(body),
        _ => Err(SegmentFault::RecordCompression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::secret::Secret;
    use crate::archive::segment::tests::plain_crc32c;

    const ARCHIVE: [u8; 16] = [0xa5; 16];

    fn encode(out: &mut Vec<u8>, body: &[u8], how: Compression, key: Option<&RecordKey>) {
        let (packed, compression) = pack(body, how);
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short");
        let record = Packed {
            call: CallId(0x0102),
            kind: RecordKind::Audio,
            sequence: 7,
            compression,
            body_len: len(body),
            packed_len: len(&packed),
            end_slot: 0x0a0b,
        };
        let seal = RecordSeal { slot: 3, counter: 0x0405 };
        let with = key.map(|key| SealWith { key, seal, archive: ARCHIVE });
        let entry = encode_record(out, record, &packed, with.as_ref()).expect("encoded");
        assert_eq!(entry.offset, 0);
    }

    fn key(byte: u8) -> RecordKey {
        RecordKey::new(&Secret::from_slice(&[byte; 32]).expect("32 bytes"), 9).expect("a key")
    }

    #[test]
    fn a_record_has_the_drawn_bytes() {
        let mut bytes = Vec::new();
        encode(&mut bytes, b"opus!", Compression::None, None);
        let fields = [
            &[5, 0, 0, 0, 4, 0, 0, 0][..],
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0, 5, 0, 0, 0],
            &[0, 0, 0, 0, 0x0b, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let crc = plain_crc32c(&[&fields[..], b"opus!"].concat());
        assert_eq!(bytes, [&fields[..], &crc, b"opus!", &[0, 0, 0]].concat());
        assert_eq!(record_span_bytes(5), 56);
        let mut sealed = Vec::new();
        encode(&mut sealed, b"opus!", Compression::None, Some(&key(1)));
        let fields = [
            &[21, 0, 0, 0, 4, 2, 0, 0][..],
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0, 5, 0, 0, 0],
            &[3, 0, 0, 0, 0x0b, 0x0a, 0, 0],
            &[5, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(sealed[..44], fields);
        assert_eq!(sealed.len(), 72);
        assert!(!sealed.windows(5).any(|window| window == b"opus!"));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_a_record_is_noticed() {
        let key = key(1);
        for with in [None, Some(&key)] {
            for compression in [Compression::None, Compression::Lz4] {
                let mut bytes = Vec::new();
                encode(&mut bytes, &[b'x'; 99], compression, with);
                let read = decode_record(&bytes).expect("whole");
                assert_eq!(read.header.compression, compression);
                assert_eq!(read.open(ARCHIVE, with), Ok(vec![b'x'; 99]));
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
    }

    #[test]
    fn a_sealed_record_opens_with_its_key_in_its_archive_and_not_otherwise() {
        let mut bytes = Vec::new();
        encode(&mut bytes, b"hello", Compression::None, Some(&key(1)));
        let read = decode_record(&bytes).expect("whole");
        assert_eq!(read.open(ARCHIVE, Some(&key(1))), Ok(b"hello".to_vec()));
        assert_eq!(read.open(ARCHIVE, Some(&key(2))), Err(SegmentFault::RecordSealed));
        assert_eq!(read.open([0; 16], Some(&key(1))), Err(SegmentFault::RecordSealed));
        assert_eq!(read.open(ARCHIVE, None), Err(SegmentFault::RecordSealed));
    }

    #[test]
    fn a_body_that_lz4_cannot_shorten_is_stored_as_it_is() {
        assert_eq!(pack(b"q8#", Compression::Lz4), (Cow::Borrowed(&b"q8#"[..]), Compression::None));
    }
}
