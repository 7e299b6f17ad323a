//! Reading segments through `Disk`: the scan of an open one, the table of a sealed one.
//!
//! Purpose: tell whole records from a torn tail, and a torn tail from damage.
//! Invariants: a record is reported only if its CRC is right; the scan is linear in the file; bytes
//! inside a body are never taken for a record.
//! Non-goals: repairing (see `recover`); sealed segments of the reader, which are mapped (`reader`).
//! Sources: docs/archive.md, "Open after a kill".

use std::io;

use super::disk::{Disk, read_vec};
use super::error::{ArchiveError, SegmentFault};
use super::footer::{FOOTER_MAGIC, Footer, TRAILER_BYTES, TableEntry, decode_trailer};
use super::merkle::{Frontier, leaf_hash};
use super::record::{RECORD_HEADER_BYTES, RecordHeader, StoredRecord, decode_record};
use super::segment::{HEADER_BYTES, RecordKind, SegmentHeader, SegmentId};
use crate::base::CallId;

/// Bytes read at once.
const WINDOW_BYTES: usize = 256 << 10;

/// A part of a file in memory that moves on demand.
struct Window<'d, D: Disk> {
    disk: &'d D,
    file: &'d D::File,
    bytes: Vec<u8>,
    at: u64,
}

impl<'d, D: Disk> Window<'d, D> {
    fn new(disk: &'d D, file: &'d D::File) -> Self {
        Self { disk, file, bytes: Vec::new(), at: 0 }
    }

    /// `len_bytes` bytes at `offset`, or fewer at the end of the file.
    fn get(&mut self, offset: u64, len_bytes: usize) -> io::Result<&[u8]> {
        let within = |at: u64, len: usize| {
            let start = usize::try_from(offset.checked_sub(at)?).ok()?;
            (start.checked_add(len_bytes)? <= len).then_some(start)
        };
        if within(self.at, self.bytes.len()).is_none() {
            self.bytes = read_vec(self.disk, self.file, offset, len_bytes.max(WINDOW_BYTES))?;
            self.at = offset;
        }
        let start = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
        let end = start.saturating_add(len_bytes).min(self.bytes.len());
        Ok(self.bytes.get(start..end).unwrap_or_default())
    }

    /// The bytes of the record at `offset` as its header gives their number.
    fn record_bytes(&mut self, offset: u64) -> io::Result<&[u8]> {
        let head = self.get(offset, RECORD_HEADER_BYTES)?;
        let span =
            RecordHeader::decode(head).map_or(RECORD_HEADER_BYTES as u64, |h| h.span_bytes());
        self.get(offset, usize::try_from(span).unwrap_or(usize::MAX))
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Whole records, in order of their offset.
    pub entries: Vec<TableEntry>,
    /// Where the last whole record ends.
    pub end: u64,
    /// Offsets of records with a wrong CRC that have whole records behind them.
    pub damaged: Vec<u64>,
    /// The Merkle tree over the whole records.
    pub leaves: Frontier,
}

/// Reads every record of an open segment up to its torn tail or end. `accept` may refuse a whole
/// record, which is then damage; one that it takes is a leaf of the segment's tree.
///
/// A record that is wrong but followed by a whole one is damage; a wrong one with nothing whole
/// behind it is the torn tail. The next record is looked for only where the wrong one's length
/// says: searching byte by byte would find "records" that a caller hid in a packet's payload.
pub(super) fn scan<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
    mut accept: impl FnMut(&StoredRecord<'_>) -> bool,
) -> Result<Scanned, ArchiveError> {
    let io = |error| ArchiveError::io("read", &segment.open_name(), error);
    let mut window = Window::new(disk, file);
    let mut found = Scanned { end: HEADER_BYTES as u64, ..Scanned::default() };
    let mut suspects = Vec::new();
    let mut offset = found.end;
    loop {
        let bytes = window.record_bytes(offset).map_err(io)?;
        match decode_record(bytes) {
            Ok(record) if accept(&record) => {
                let RecordHeader { call, sequence, stored_len, kind, .. } = record.header;
                found.entries.push(TableEntry { call, sequence, offset, stored_len, kind });
                found.leaves.push(leaf_hash(&[record.bytes]));
                found.damaged.append(&mut suspects);
                offset = offset.saturating_add(record.header.span_bytes());
                found.end = offset;
            }
            Ok(_) | Err(SegmentFault::RecordChecksum) => {
                let Some(header) = RecordHeader::decode(bytes) else { break };
                suspects.push(offset);
                offset = offset.saturating_add(header.span_bytes());
            }
            Err(_) => break,
        }
    }
    Ok(found)
}

/// Bytes from `end` to the last one that is not zero: the torn tail of a scan. A footer that was
/// begun there is none, since it says nothing that the records do not.
pub(super) fn torn_bytes<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
    end: u64,
) -> Result<u64, ArchiveError> {
    let io = |error| ArchiveError::io("read", &segment.open_name(), error);
    let mut window = Window::new(disk, file);
    if window.get(end, FOOTER_MAGIC.len()).map_err(io)? == FOOTER_MAGIC {
        return Ok(0);
    }
    let (mut offset, mut torn) = (end, 0);
    loop {
        let bytes = window.get(offset, WINDOW_BYTES).map_err(io)?;
        if bytes.is_empty() {
            return Ok(torn);
        }
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            torn = offset - end + last as u64 + 1;
        }
        offset = offset.saturating_add(bytes.len() as u64);
    }
}

/// Checks a segment's header against the archive and the file's name.
pub(super) fn check_header(
    bytes: &[u8],
    archive: [u8; 16],
    segment: SegmentId,
) -> Result<SegmentHeader, ArchiveError> {
    let header = SegmentHeader::decode(bytes).map_err(|fault| fault.at(segment, 0))?;
    if header.archive != archive {
        return Err(SegmentFault::OtherArchive.at(segment, 16));
    }
    if header.segment != segment {
        return Err(SegmentFault::OtherSegment.at(segment, 32));
    }
    Ok(header)
}

/// What is done with each record that was wanted, at its offset.
pub(super) type Visit<'v> = dyn FnMut(u64, &StoredRecord<'_>) -> Result<(), ArchiveError> + 'v;

/// Visits the records of one call in an open segment, up to the byte `committed` that its writer
/// acknowledged; what is wrong before that is damage.
pub(super) fn scan_call<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
    committed: u64,
    wanted: &Wanted<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    let io = |error| ArchiveError::io("read", &segment.open_name(), error);
    let mut window = Window::new(disk, file);
    let mut offset = HEADER_BYTES as u64;
    while offset < committed {
        let head = window.get(offset, RECORD_HEADER_BYTES).map_err(io)?;
        let Some(header) = RecordHeader::decode(head) else {
            return Err(SegmentFault::RecordHeader.at(segment, offset));
        };
        if wanted.takes(header.call, header.kind) {
            let bytes = window.record_bytes(offset).map_err(io)?;
            let record = decode_record(bytes).map_err(|fault| fault.at(segment, offset))?;
            visit(offset, &record)?;
        }
        offset = offset.saturating_add(header.span_bytes());
    }
    Ok(())
}

/// Which records to read.
pub(super) struct Wanted<'k> {
    /// Whose.
    pub call: CallId,
    /// Of these kinds; none named: of every kind.
    pub kinds: &'k [RecordKind],
}

impl Wanted<'_> {
    /// True for a record of this call and kind.
    pub fn takes(&self, call: CallId, kind: RecordKind) -> bool {
        call == self.call && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }
}

/// The record of a table's row, if `bytes` begin with it.
pub(super) fn check_entry<'a>(
    bytes: &'a [u8],
    entry: &TableEntry,
    segment: SegmentId,
) -> Result<StoredRecord<'a>, ArchiveError> {
    let record = decode_record(bytes).map_err(|fault| fault.at(segment, entry.offset))?;
    let named = (entry.call, entry.sequence, entry.kind, entry.stored_len);
    let RecordHeader { call, sequence, kind, stored_len, .. } = record.header;
    if (call, sequence, kind, stored_len) != named {
        return Err(SegmentFault::RecordMismatch.at(segment, entry.offset));
    }
    Ok(record)
}

/// The bytes where a row says that its record stands.
pub(super) fn entry_bytes<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
    entry: &TableEntry,
) -> Result<Vec<u8>, ArchiveError> {
    let span = super::record::record_span_bytes(entry.stored_len);
    read_vec(disk, file, entry.offset, usize::try_from(span).unwrap_or(usize::MAX))
        .map_err(|error| ArchiveError::io("read", &segment.sealed_name(), error))
}

/// The footer of a finished segment, read whole, and where it stands.
fn read_footer_at<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
) -> Result<(u64, Vec<u8>), ArchiveError> {
    let io = |error| ArchiveError::io("read", &segment.sealed_name(), error);
    let len_bytes = disk.len_bytes(file).map_err(io)?;
    let start = len_bytes.saturating_sub(TRAILER_BYTES as u64);
    let trailer = read_vec(disk, file, start, TRAILER_BYTES).map_err(io)?;
    let (at, len) =
        decode_trailer(&trailer, len_bytes).map_err(|fault| fault.at(segment, start))?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    Ok((at, read_vec(disk, file, at, len).map_err(io)?))
}

/// The footer of a finished segment, read whole.
pub(super) fn read_footer<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
) -> Result<Vec<u8>, ArchiveError> {
    Ok(read_footer_at(disk, file, segment)?.1)
}

/// The table of a sealed segment and where its records end, read through `Disk`.
pub(super) fn sealed_table<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
) -> Result<(Vec<TableEntry>, u64), ArchiveError> {
    let (offset, footer) = read_footer_at(disk, file, segment)?;
    let footer = Footer::decode(&footer).map_err(|fault| fault.at(segment, offset))?;
    Ok((footer.entries().collect(), footer.records_end))
}
