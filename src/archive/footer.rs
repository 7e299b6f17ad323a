//! The end of a sealed segment: the table of its records, and the trailer that finds it.
//!
//! Purpose: find a call's records by halving, without reading the others.
//! Invariants: rows are sorted by (call, sequence); a footer decodes only if its CRC is right; the
//! trailer is the last 32 bytes of the file, and the footer ends right before it.
//! Non-goals: proofs and signatures.
//! Sources: RFC 3720 Appendix B.4 (CRC-32C).

use super::error::SegmentFault;
use super::segment::{HEADER_BYTES, RecordKind, crc32c};
use crate::base::{CallId, Reader};

/// Bytes of a record's row in the footer.
pub const TABLE_ENTRY_BYTES: usize = 32;
/// Bytes of a footer without its rows: 24 before them, 8 after.
pub const FOOTER_FIXED_BYTES: usize = 32;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 32;
/// What a footer begins with; read as a record's length it is far too long to be one.
pub const FOOTER_MAGIC: [u8; 8] = *b"CSFOOTER";
const TRAILER_MAGIC: [u8; 8] = *b"CSTRAILR";

/// Bytes of footer and trailer for `records` records.
#[must_use]
pub const fn footer_span_bytes(records: u64) -> u64 {
    records
        .saturating_mul(TABLE_ENTRY_BYTES as u64)
        .saturating_add((FOOTER_FIXED_BYTES + TRAILER_BYTES) as u64)
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

/// Footer and trailer for records that end at `records_end`; `entries` sorted by (call, sequence).
#[must_use]
pub fn encode_footer<'a>(
    records_end: u64,
    entries: impl ExactSizeIterator<Item = &'a TableEntry>,
) -> Vec<u8> {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(entries.len() * TABLE_ENTRY_BYTES + 64);
    out.extend_from_slice(&FOOTER_MAGIC);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]); // calls, set below
    out.extend_from_slice(&records_end.to_le_bytes());
    let (mut calls, mut last) = (0_u32, None);
    for entry in entries {
        if last != Some(entry.call) {
            calls = calls.saturating_add(1);
            last = Some(entry.call);
        }
        entry.encode(&mut out);
    }
    if let Some(place) = out.get_mut(12..16) {
        place.copy_from_slice(&calls.to_le_bytes());
    }
    let crc = crc32c(&[&out]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut trailer = [0; TRAILER_BYTES];
    trailer[0..8].copy_from_slice(&TRAILER_MAGIC);
    trailer[8..16].copy_from_slice(&records_end.to_le_bytes());
    trailer[16..24].copy_from_slice(&(out.len() as u64).to_le_bytes());
    let crc = crc32c(&[&trailer[..28]]);
    trailer[28..32].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&trailer);
    out
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

/// A footer whose CRC is right.
#[derive(Clone, Copy, Debug)]
pub struct Footer<'a> {
    rows: &'a [u8],
    /// Calls in the table.
    pub calls: u32,
    /// Where the records end, in bytes from the segment's start.
    pub records_end: u64,
}

impl<'a> Footer<'a> {
    /// Reads a footer that fills `bytes`.
    ///
    /// # Errors
    /// `Footer`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SegmentFault> {
        let read = || {
            let mut reader = Reader::new(bytes);
            let magic = reader.array::<8>()?;
            let records = reader.u32_le()? as usize;
            let calls = reader.u32_le()?;
            let records_end = reader.u64_le()?;
            let rows = reader.take(records.checked_mul(TABLE_ENTRY_BYTES)?)?;
            let covered = bytes.len().checked_sub(reader.remaining())?;
            let crc = reader.u32_le()?;
            let end = reader.array::<4>()?;
            let right = crc == crc32c(&[bytes.get(..covered)?]);
            let whole = magic == FOOTER_MAGIC && right && end == [0; 4] && reader.is_empty();
            whole.then_some(Self { rows, calls, records_end })
        };
        read().ok_or(SegmentFault::Footer)
    }

    /// Records in the table.
    #[must_use]
    pub const fn records(&self) -> usize {
        self.rows.len() / TABLE_ENTRY_BYTES
    }

    fn entry(&self, position: usize) -> Option<TableEntry> {
        let start = position.checked_mul(TABLE_ENTRY_BYTES)?;
        TableEntry::decode(self.rows.get(start..start.checked_add(TABLE_ENTRY_BYTES)?)?)
    }

    /// All rows, by (call, sequence).
    pub fn entries(&self) -> impl Iterator<Item = TableEntry> + 'a {
        let footer = *self;
        (0..self.records()).filter_map(move |position| footer.entry(position))
    }

    /// The rows of one call, by sequence; found by halving.
    pub fn entries_of(&self, call: CallId) -> impl Iterator<Item = TableEntry> + 'a {
        let (mut low, mut high) = (0, self.records());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).is_some_and(|entry| entry.call < call) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let footer = *self;
        (low..self.records())
            .map_while(move |position| footer.entry(position))
            .take_while(move |entry| entry.call == call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(call: u64, sequence: u32, offset: u64) -> TableEntry {
        TableEntry { call: CallId(call), sequence, offset, stored_len: 5, kind: RecordKind::Sip }
    }

    #[test]
    fn footer_and_trailer_have_the_drawn_bytes() {
        let bytes = encode_footer(0x0110, [entry(9, 3, 64)].iter());
        let mut footer = [
            &b"CSFOOTER"[..],
            &[1, 0, 0, 0, 1, 0, 0, 0],
            &[0x10, 1, 0, 0, 0, 0, 0, 0],
            &[9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0],
            &[64, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let crc = crc32c(&[&footer]).to_le_bytes();
        footer.extend([&crc[..], &[0; 4]].concat());
        let mut trailer =
            [&b"CSTRAILR"[..], &[0x10, 1, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0], &[0; 4]]
                .concat();
        trailer.extend(crc32c(&[&trailer]).to_le_bytes());
        assert_eq!(bytes, [&footer[..], &trailer].concat());
        assert_eq!(bytes.len() as u64, footer_span_bytes(1));
        assert_eq!(decode_trailer(&trailer, 0x110 + 96), Ok((0x110, 64)));
        assert_eq!(decode_trailer(&trailer, 0x110 + 97), Err(SegmentFault::Trailer));
        for place in 0..footer.len() {
            assert!(Footer::decode(&footer[..place]).is_err(), "cut at {place}");
            let mut flipped = footer.clone();
            flipped[place] ^= 4;
            assert!(Footer::decode(&flipped).is_err(), "flipped at {place}");
        }
        for place in 0..trailer.len() {
            let mut flipped = trailer.clone();
            flipped[place] ^= 4;
            assert!(decode_trailer(&flipped, 0x110 + 96).is_err(), "flipped at {place}");
            assert!(decode_trailer(&trailer[..place], 0x110 + 96).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_call_is_found_among_others_and_absent_ones_are_not() {
        let mut rows = Vec::new();
        for call in [2, 4, 4, 4, 9, u64::MAX] {
            rows.push(entry(call, u32::try_from(rows.len()).expect("few"), 64));
        }
        let bytes = encode_footer(64, rows.iter());
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
