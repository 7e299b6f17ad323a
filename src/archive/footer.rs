//! The end of a finished segment: the table of its records, hashes, the checkpoint, the trailer.
//!
//! Purpose: find a call's records by halving, without reading the others, and carry what proves that
//! they are the ones that were sealed.
//! Invariants: rows are sorted by (call, sequence) and are the same before and after compaction; a
//! footer decodes only if its CRC is right; the trailer is the last 32 bytes of the file, and the
//! footer ends right before it.
//! Non-goals: what the hashes prove (see `verify`).
//! Sources: RFC 3720 Appendix B.4 (CRC-32C); RFC 6962 §2.1 (the hashes); C2SP tlog-checkpoint.
//!
//! ```text
//!  0  `CSFOOTER`                       48       table      32 bytes a record
//!  8  u32  records r                   ..       slots      32 bytes (SHA-256) a key slot
//! 12  u32  calls                       ..       frontier   32 bytes (SHA-256) each
//! 16  u64  where the records end       ..       places      8 bytes a row     compacted only
//! 24  u32  slots s                     ..       leaves     32 bytes a record  compacted only
//! 28  u32  1 if compacted              ..       checkpoint c bytes, zeros to a multiple of 8
//! 32  u32  checkpoint length c         ..       signature  64 bytes           compacted only
//! 36  u32  frontier hashes             ..       u32 CRC of all before it, u32 zero
//! 40  u64  zero
//! ```

use std::borrow::Cow;

use super::error::SegmentFault;
use super::merkle::Hash;
use super::segment::{HEADER_BYTES, RecordKind, crc32c};
use crate::base::limits::CHECKPOINT_BYTES_MAX;
use crate::base::{CallId, Reader};

/// Bytes of a record's row in the footer.
pub const TABLE_ENTRY_BYTES: usize = 32;
/// Bytes before the table.
pub const FOOTER_HEAD_BYTES: usize = 48;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 32;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Bytes of a compaction's signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes kept free for head, checkpoint, frontier (2^24 segments), CRC and trailer.
const FIXED_ROOM_BYTES: u64 = 48 + 1_024 + 24 * 32 + 8 + 32;
/// What a footer begins with; read as a record's length it is far too long to be one.
pub const FOOTER_MAGIC: [u8; 8] = *b"CSFOOTER";
const TRAILER_MAGIC: [u8; 8] = *b"CSTRAILR";

/// Bytes that footer and trailer take at most for so many records and key slots.
#[must_use]
pub const fn footer_room_bytes(records: u64, slots: u64) -> u64 {
    records
        .saturating_mul(TABLE_ENTRY_BYTES as u64)
        .saturating_add(slots.saturating_mul(HASH_BYTES as u64))
        .saturating_add(FIXED_ROOM_BYTES)
}

/// Where a record stands: a row of the footer's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Whose record it is.
    pub call: CallId,
    /// Position among the call's records.
    pub sequence: u32,
    /// Of its header, in bytes from the segment's start.
    pub offset: u64,
    /// Bytes of its body as stored.
    pub stored_len: u32,
    /// What it holds.
    pub kind: RecordKind,
}

impl TableEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.call.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.stored_len.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.push(self.kind.code());
        out.extend_from_slice(&[0; 7]);
    }

    /// Reads one row of 32 bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let call = CallId(reader.u64_le()?);
        let sequence = reader.u32_le()?;
        let stored_len = reader.u32_le()?;
        let offset = reader.u64_le()?;
        let kind = RecordKind::from_code(reader.u8()?)?;
        Some(Self { call, sequence, offset, stored_len, kind })
    }
}

/// What a footer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FooterParts<'a> {
    /// Where the records end, in bytes from the segment's start.
    pub records_end: u64,
    /// One row a record, sorted by (call, sequence).
    pub table: Cow<'a, [u8]>,
    /// SHA-256 of each key slot.
    pub slots: Cow<'a, [Hash]>,
    /// The log of segments behind this one, so that the next can be added (see `merkle::Frontier`).
    pub frontier: Cow<'a, [Hash]>,
    /// The signed note.
    pub checkpoint: Cow<'a, [u8]>,
    /// What a compaction left.
    pub compacted: Option<Compacted>,
}

/// What a compacted segment carries besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// For each row where its record stands now; 0: it is gone.
    pub places: Vec<u64>,
    /// The leaf hash of every record, in the order in which they were written.
    pub leaves: Vec<Hash>,
    /// Over archive, segment and all of the footer before it.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// The rows of a table as bytes; `entries` sorted by (call, sequence).
#[must_use]
pub fn encode_table<'a>(entries: impl ExactSizeIterator<Item = &'a TableEntry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * TABLE_ENTRY_BYTES);
    for entry in entries {
        entry.encode(&mut out);
    }
    out
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

impl FooterParts<'_> {
    /// The footer's bytes up to its signature, or CRC: what a compaction signs.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.table.len() + 4_096);
        out.extend_from_slice(&FOOTER_MAGIC);
        put_u32(&mut out, self.table.len() / TABLE_ENTRY_BYTES);
        put_u32(&mut out, calls_in(&self.table));
        out.extend_from_slice(&self.records_end.to_le_bytes());
        put_u32(&mut out, self.slots.len());
        put_u32(&mut out, usize::from(self.compacted.is_some()));
        put_u32(&mut out, self.checkpoint.len());
        put_u32(&mut out, self.frontier.len());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.table);
        for hash in self.slots.iter().chain(self.frontier.iter()) {
            out.extend_from_slice(hash.as_bytes());
        }
        if let Some(compacted) = &self.compacted {
            for place in &compacted.places {
                out.extend_from_slice(&place.to_le_bytes());
            }
            for leaf in &compacted.leaves {
                out.extend_from_slice(leaf.as_bytes());
            }
        }
        out.extend_from_slice(&self.checkpoint);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }

    /// Footer and trailer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.signed_bytes();
        if let Some(compacted) = &self.compacted {
            out.extend_from_slice(&compacted.signature);
        }
        let crc = crc32c(&[&out]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let mut trailer = [0; TRAILER_BYTES];
        trailer[0..8].copy_from_slice(&TRAILER_MAGIC);
        trailer[8..16].copy_from_slice(&self.records_end.to_le_bytes());
        trailer[16..24].copy_from_slice(&(out.len() as u64).to_le_bytes());
        let crc = crc32c(&[&trailer[..28]]);
        trailer[28..32].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&trailer);
        out
    }
}

fn calls_in(table: &[u8]) -> usize {
    let calls: Vec<_> =
        table.chunks_exact(TABLE_ENTRY_BYTES).filter_map(|row| row.get(..8)).collect();
    calls.chunk_by(|one, next| one == next).count()
}

/// Where the trailer (the file's last 32 bytes) says that the footer is.
///
/// # Errors
/// `Trailer` when it is torn, or the footer would not end right before it.
pub fn decode_trailer(bytes: &[u8], file_len: u64) -> Result<(u64, u64), SegmentFault> {
    let read = || {
        let (trailer, _) = bytes.split_first_chunk::<TRAILER_BYTES>()?;
        let mut reader = Reader::new(trailer);
        let magic = reader.array::<8>()?;
        let (offset, len_bytes) = (reader.u64_le()?, reader.u64_le()?);
        let crc = crc32c(&[&trailer[..28]]).to_le_bytes();
        let end = offset.checked_add(len_bytes)?.checked_add(TRAILER_BYTES as u64)?;
        let whole = magic == TRAILER_MAGIC && crc == trailer[28..32] && end == file_len;
        (whole && offset >= HEADER_BYTES as u64).then_some((offset, len_bytes))
    };
    read().ok_or(SegmentFault::Trailer)
}

/// The first 48 bytes of a footer: how long its parts are. Its CRC is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterHead {
    records: usize,
    calls: u32,
    records_end: u64,
    slots: usize,
    frontier: usize,
    checkpoint_len: usize,
    compacted: bool,
}

impl FooterHead {
    /// Reads a head; `None` if none begins there.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let magic = reader.array::<8>()?;
        let records = reader.u32_le()? as usize;
        let calls = reader.u32_le()?;
        let records_end = reader.u64_le()?;
        let slots = reader.u32_le()? as usize;
        let compacted = match reader.u32_le()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let checkpoint_len = reader.u32_le()? as usize;
        let frontier = reader.u32_le()? as usize;
        let whole = magic == FOOTER_MAGIC && reader.u64_le()? == 0;
        let small = checkpoint_len <= CHECKPOINT_BYTES_MAX && frontier <= 64;
        (whole && small).then_some(Self {
            records,
            calls,
            records_end,
            slots,
            frontier,
            checkpoint_len,
            compacted,
        })
    }

    const fn kept(&self) -> usize {
        if self.compacted { self.records } else { 0 }
    }

    /// Where the frontier is, from the footer's start, and how long.
    #[must_use]
    pub const fn frontier_place(&self) -> (u64, usize) {
        let before = self.records * TABLE_ENTRY_BYTES + self.slots * HASH_BYTES;
        ((FOOTER_HEAD_BYTES + before) as u64, self.frontier * HASH_BYTES)
    }

    /// Where the checkpoint is, from the footer's start, and how long.
    #[must_use]
    pub const fn checkpoint_place(&self) -> (u64, usize) {
        let (at, len) = self.frontier_place();
        let kept = self.kept() * (8 + HASH_BYTES);
        (at + (len + kept) as u64, self.checkpoint_len)
    }
}

/// A footer whose CRC is right.
#[derive(Clone, Copy, Debug)]
pub struct Footer<'a> {
    /// One row a record, sorted by (call, sequence).
    pub table: &'a [u8],
    /// Calls in the table.
    pub calls: u32,
    /// Where the records end, in bytes from the segment's start.
    pub records_end: u64,
    slots: &'a [u8],
    frontier: &'a [u8],
    places: &'a [u8],
    leaves: &'a [u8],
    /// The signed note.
    pub checkpoint: &'a [u8],
    signature: Option<[u8; SIGNATURE_BYTES]>,
    /// What a compaction's signature covers.
    pub signed: &'a [u8],
}

impl<'a> Footer<'a> {
    /// Reads a footer that fills `bytes`.
    ///
    /// # Errors
    /// `Footer`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SegmentFault> {
        Self::read(bytes).ok_or(SegmentFault::Footer)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let head = FooterHead::decode(bytes)?;
        let mut reader = Reader::new(bytes);
        reader.take(FOOTER_HEAD_BYTES)?;
        let table = reader.take(head.records.checked_mul(TABLE_ENTRY_BYTES)?)?;
        let slots = reader.take(head.slots.checked_mul(HASH_BYTES)?)?;
        let frontier = reader.take(head.frontier.checked_mul(HASH_BYTES)?)?;
        let places = reader.take(head.kept().checked_mul(8)?)?;
        let leaves = reader.take(head.kept().checked_mul(HASH_BYTES)?)?;
        let checkpoint = reader.take(head.checkpoint_len)?;
        let padding = head.checkpoint_len.next_multiple_of(8) - head.checkpoint_len;
        let padding = reader.take(padding)?;
        let signed = bytes.get(..bytes.len().checked_sub(reader.remaining())?)?;
        let signature = if head.compacted { Some(reader.array()?) } else { None };
        let covered = bytes.get(..bytes.len().checked_sub(reader.remaining())?)?;
        let right = reader.u32_le()? == crc32c(&[covered]) && reader.u32_le()? == 0;
        let zeros = padding.iter().all(|byte| *byte == 0);
        let (calls, records_end) = (head.calls, head.records_end);
        (right && zeros && reader.is_empty()).then_some(Self {
            table,
            calls,
            records_end,
            slots,
            frontier,
            places,
            leaves,
            checkpoint,
            signature,
            signed,
        })
    }

    /// Records in the table, those that a compaction dropped included.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.table.len() / TABLE_ENTRY_BYTES
    }

    /// The parts, to be written again.
    #[must_use]
    pub fn parts(&self) -> FooterParts<'a> {
        FooterParts {
            records_end: self.records_end,
            table: Cow::Borrowed(self.table),
            slots: Cow::Owned(self.slot_hashes().collect()),
            frontier: Cow::Owned(hashes(self.frontier).collect()),
            checkpoint: Cow::Borrowed(self.checkpoint),
            compacted: self.signature.map(|signature| Compacted {
                places: (0..self.records()).filter_map(|row| self.place(row)).collect(),
                leaves: self.leaves().collect(),
                signature,
            }),
        }
    }

    /// SHA-256 of each key slot as it was when the segment was finished.
    pub fn slot_hashes(&self) -> impl ExactSizeIterator<Item = Hash> + use<'a> {
        hashes(self.slots)
    }

    /// The log of segments behind this one.
    pub fn frontier(&self) -> impl ExactSizeIterator<Item = Hash> + use<'a> {
        hashes(self.frontier)
    }

    /// The leaf hashes that a compaction left, in the order in which the records were written.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = Hash> + use<'a> {
        hashes(self.leaves)
    }

    /// The compaction's signature; `None` in a segment that was never compacted.
    #[must_use]
    pub const fn compaction(&self) -> Option<[u8; SIGNATURE_BYTES]> {
        self.signature
    }

    fn row(&self, position: usize) -> Option<TableEntry> {
        let start = position.checked_mul(TABLE_ENTRY_BYTES)?;
        TableEntry::decode(self.table.get(start..start.checked_add(TABLE_ENTRY_BYTES)?)?)
    }

    /// Where the record of a row stands now; 0: it is gone.
    fn place(&self, position: usize) -> Option<u64> {
        if self.signature.is_none() {
            return self.row(position).map(|row| row.offset);
        }
        let start = position.checked_mul(8)?;
        let bytes = self.places.get(start..start.checked_add(8)?)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// The row as it is to be read now; `None` when a compaction dropped its record.
    fn present(&self, position: usize) -> Option<TableEntry> {
        let offset = self.place(position).filter(|place| *place != 0)?;
        Some(TableEntry { offset, ..self.row(position)? })
    }

    /// All rows as they were sealed, dropped records included, by (call, sequence).
    pub fn rows(&self) -> impl Iterator<Item = TableEntry> + use<'a> {
        let footer = *self;
        (0..self.records()).filter_map(move |position| footer.row(position))
    }

    /// All rows as they were sealed, each with where its record stands now.
    pub fn rows_with_places(&self) -> impl Iterator<Item = (TableEntry, Option<u64>)> + use<'a> {
        let footer = *self;
        (0..self.records()).filter_map(move |position| {
            let place = footer.place(position).filter(|place| *place != 0);
            Some((footer.row(position)?, place))
        })
    }

    /// The records that are there, by (call, sequence), with their present offsets.
    pub fn entries(&self) -> impl Iterator<Item = TableEntry> + use<'a> {
        let footer = *self;
        (0..self.records()).filter_map(move |position| footer.present(position))
    }

    /// The records of one call that are there, by sequence; found by halving.
    pub fn entries_of(&self, call: CallId) -> impl Iterator<Item = TableEntry> + use<'a> {
        let (mut low, mut high) = (0, self.records());
        while low < high {
            let middle = low.midpoint(high);
            if self.row(middle).is_some_and(|entry| entry.call < call) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let footer = *self;
        (low..self.records())
            .take_while(move |position| footer.row(*position).is_some_and(|row| row.call == call))
            .filter_map(move |position| footer.present(position))
    }
}

/// Hashes that stand back to back.
pub(super) fn hashes(bytes: &[u8]) -> impl ExactSizeIterator<Item = Hash> {
    bytes
        .chunks_exact(HASH_BYTES)
        .map(|chunk| Hash::new(chunk.try_into().unwrap_or([0; HASH_BYTES])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(call: u64, sequence: u32, offset: u64) -> TableEntry {
        TableEntry { call: CallId(call), sequence, offset, stored_len: 5, kind: RecordKind::Sip }
    }

    fn parts(rows: &[TableEntry]) -> FooterParts<'static> {
        FooterParts {
            records_end: 0x0110,
            table: Cow::Owned(encode_table(rows.iter())),
            slots: Cow::Owned(vec![Hash::new([7; 32])]),
            frontier: Cow::Owned(vec![Hash::new([8; 32])]),
            checkpoint: Cow::Borrowed(b"note\n"),
            compacted: None,
        }
    }

    #[test]
    fn footer_and_trailer_have_the_drawn_bytes() {
        let bytes = parts(&[entry(9, 3, 64)]).encode();
        let mut footer = [
            &b"CSFOOTER"[..],
            &[1, 0, 0, 0, 1, 0, 0, 0],
            &[0x10, 1, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0],
            &[0; 8],
            &[9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0],
            &[64, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            &[7; 32],
            &[8; 32],
            b"note\n\0\0\0",
        ]
        .concat();
        let crc = crc32c(&[&footer]).to_le_bytes();
        footer.extend([&crc[..], &[0; 4]].concat());
        let len = u8::try_from(footer.len()).expect("short");
        let mut trailer =
            [&b"CSTRAILR"[..], &[0x10, 1, 0, 0, 0, 0, 0, 0, len, 0, 0, 0, 0, 0, 0, 0], &[0; 4]]
                .concat();
        trailer.extend(crc32c(&[&trailer]).to_le_bytes());
        assert_eq!(bytes, [&footer[..], &trailer].concat());
        assert!(bytes.len() as u64 <= footer_room_bytes(1, 1));
        let file_len = 0x110 + bytes.len() as u64;
        assert_eq!(decode_trailer(&trailer, file_len), Ok((0x110, footer.len() as u64)));
        assert_eq!(decode_trailer(&trailer, file_len + 1), Err(SegmentFault::Trailer));
        for place in 0..footer.len() {
            assert!(Footer::decode(&footer[..place]).is_err(), "cut at {place}");
            let mut flipped = footer.clone();
            flipped[place] ^= 4;
            assert!(Footer::decode(&flipped).is_err(), "flipped at {place}");
        }
        for place in 0..trailer.len() {
            let mut flipped = trailer.clone();
            flipped[place] ^= 4;
            assert!(decode_trailer(&flipped, file_len).is_err(), "flipped at {place}");
            assert!(decode_trailer(&trailer[..place], file_len).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_compacted_footer_reads_back_and_shows_only_what_is_left() {
        let rows = [entry(2, 0, 64), entry(2, 1, 120), entry(4, 0, 176)];
        let compacted = Compacted {
            places: vec![0, 64, 120],
            leaves: vec![Hash::new([1; 32]), Hash::new([2; 32]), Hash::new([3; 32])],
            signature: [9; 64],
        };
        let parts = FooterParts { compacted: Some(compacted), ..parts(&rows) };
        let bytes = parts.encode();
        let footer = Footer::decode(&bytes[..bytes.len() - TRAILER_BYTES]).expect("whole");
        assert_eq!(footer.parts(), parts);
        assert_eq!(footer.signed, parts.signed_bytes());
        assert_eq!(footer.rows().collect::<Vec<_>>(), rows);
        let left: Vec<_> = footer.entries_of(CallId(2)).map(|row| row.offset).collect();
        assert_eq!(left, [64]);
        assert_eq!(footer.entries().count(), 2);
    }

    #[test]
    fn a_call_is_found_among_others_and_absent_ones_are_not() {
        let mut rows = Vec::new();
        for call in [2, 4, 4, 4, 9, u64::MAX] {
            rows.push(entry(call, u32::try_from(rows.len()).expect("few"), 64));
        }
        let bytes = parts(&rows).encode();
        let footer = Footer::decode(&bytes[..bytes.len() - TRAILER_BYTES]).expect("whole");
        assert_eq!((footer.records(), footer.calls), (6, 4));
        for call in [0, 2, 3, 4, 5, 9, 10, u64::MAX] {
            let found: Vec<_> = footer.entries_of(CallId(call)).collect();
            let expected: Vec<_> = rows.iter().filter(|row| row.call.0 == call).copied().collect();
            assert_eq!(found, expected, "call {call}");
        }
    }

    #[test]
    fn a_footer_that_claims_four_billion_rows_is_refused_at_once() {
        let mut bytes = FOOTER_MAGIC.to_vec();
        bytes.extend([0xff; 64]);
        assert_eq!(Footer::decode(&bytes).map(|footer| footer.calls), Err(SegmentFault::Footer));
    }
}
