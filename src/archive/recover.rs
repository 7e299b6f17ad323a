//! What a writer does before its first append: seal what a kill left, catch the index up.
//!
//! Purpose: after a kill at any byte every whole record is kept and the torn tail is reported.
//! Invariants: doing it again, or being killed in the middle of it, changes nothing but time.
//! Non-goals: repairing sealed segments.
//! Sources: docs/archive.md, "Open after a kill".

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use super::SEGMENTS_DIR;
use super::chain::{Chain, Contents};
use super::disk::{Disk, is_full, read_vec};
use super::error::ArchiveError;
use super::footer::{TableEntry, encode_table};
use super::index::{Batch, Index};
use super::index_row::CallRow;
use super::merkle::{Hash, sha256};
use super::open_segment::remove_segment;
use super::record::{RECORD_HEADER_BYTES, StoredRecord};
use super::scan::{check_entry, check_header, entry_bytes, scan, sealed_table, torn_bytes};
use super::segment::{HEADER_BYTES, RecordKind, SegmentHeader, SegmentId, SegmentState};
use super::sidecar::{SIDECAR_HEADER_BYTES, SidecarHeader, SlotBytes, decode_slot};
use super::tombstone_file::TombstoneFile;
use super::unseal::Unsealer;
use crate::base::CallId;

/// Bytes written again at once.
const WINDOW_BYTES: usize = 1 << 20;

/// An unsealed segment that was found and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredSegment {
    /// Which one.
    pub segment: SegmentId,
    /// Whole records that are kept.
    pub kept_records: u64,
    /// Bytes of a torn tail that were cut off; none of them had been acknowledged.
    pub cut_bytes: u64,
    /// Offsets of damaged records in the middle; they stay in the file, outside its table.
    pub damaged: Vec<u64>,
}

/// The segments in the directory, in order. Other files are left alone.
pub(super) fn list_segments<D: Disk>(
    disk: &D,
) -> Result<Vec<(SegmentId, SegmentState)>, ArchiveError> {
    let names = disk.list(SEGMENTS_DIR);
    let names = names.map_err(|error| ArchiveError::io("list", SEGMENTS_DIR, error))?;
    let mut segments: Vec<_> =
        names.iter().filter_map(|name| SegmentId::from_file_name(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Seals one unsealed segment; `None` when it held nothing and is gone.
pub(super) fn recover<D: Disk>(
    disk: &mut D,
    archive: [u8; 16],
    segment: SegmentId,
    chain: &mut Chain,
) -> Result<Option<RecoveredSegment>, ArchiveError> {
    let name = segment.open_name();
    let io = |error: io::Error| ArchiveError::io("recover", &name, error);
    let file = disk.open_write(&name).map_err(io)?;
    // Step 3: a header that never became durable has no records behind it.
    let start = read_vec(disk, &file, 0, HEADER_BYTES + RECORD_HEADER_BYTES).map_err(io)?;
    let first_record = start.get(HEADER_BYTES..).unwrap_or_default();
    let unused = first_record.iter().all(|byte| *byte == 0);
    if unused && SegmentHeader::decode(&start).is_err() {
        drop(file);
        remove_segment(disk, segment)?;
        return Ok(None);
    }
    check_header(&start, archive, segment)?;
    // Step 4: whole records are kept, the tail is measured. A sealed record without its key is none,
    // unless its call was erased meanwhile.
    let (mut slots, mut keys) = slot_hashes(disk, archive, segment)?;
    let tombstones = TombstoneFile::load(disk, archive, None)?;
    let keys_found = keys;
    let has_key = |record: &StoredRecord<'_>| {
        let Some(seal) = record.header.seal else { return true };
        let slot = seal.slot as usize;
        let is_erased = tombstones.tombstones().erasure(record.header.call).is_some();
        if is_erased && slot < slots.len() {
            keys = keys.max(slot + 1);
        }
        slot < keys_found || is_erased && slot < slots.len()
    };
    let mut found = scan(disk, &file, segment, has_key)?;
    slots.truncate(keys);
    cut_slots(disk, archive, segment, keys)?;
    let cut_bytes = torn_bytes(disk, &file, segment, found.end)?;
    if found.entries.is_empty() && found.damaged.is_empty() {
        drop(file);
        remove_segment(disk, segment)?;
        let (kept_records, damaged) = (0, Vec::new());
        return Ok(Some(RecoveredSegment { segment, kept_records, cut_bytes, damaged }));
    }
    let kept_records = found.entries.len() as u64;
    let len = disk.len_bytes(&file).map_err(io)?;
    let is_finished = chain.is_finished(disk, &file, segment);
    write_again(disk, &file, if is_finished { len } else { found.end }).map_err(io)?;
    if is_finished {
        disk.truncate(&file, len).map_err(io)?;
    }
    // Step 5: one that lacks only its name gets it.
    if chain.finish_sealed(disk, &file, segment)? {
        let (cut_bytes, damaged) = (0, found.damaged);
        return Ok(Some(RecoveredSegment { segment, kept_records, cut_bytes, damaged }));
    }
    // Step 6: any other is sealed as ever.
    found.entries.sort_unstable_by_key(|entry| (entry.call, entry.sequence));
    let table = encode_table(found.entries.iter());
    let (end, leaves) = (found.end, &found.leaves);
    let header = start.first_chunk().copied().unwrap_or([0; HEADER_BYTES]);
    chain.seal(disk, &file, &Contents { segment, header, end, table, leaves, slots: &slots })?;
    Ok(Some(RecoveredSegment { segment, kept_records, cut_bytes, damaged: found.damaged }))
}

/// SHA-256 of each slot of a segment's key file, and how many there are up to the last one that holds
/// a key.
fn slot_hashes<D: Disk>(
    disk: &mut D,
    archive: [u8; 16],
    segment: SegmentId,
) -> Result<(Vec<Hash>, usize), ArchiveError> {
    let io = |error: io::Error| ArchiveError::io("recover", &segment.keys_name(), error);
    let Some((file, header)) = open_keys(disk, archive, segment)? else {
        return Ok((Vec::new(), 0));
    };
    let count = header.slots_in(disk.len_bytes(&file).map_err(io)?);
    let (mut hashes, mut keys) = (Vec::new(), 0);
    for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        let len = header.slot_bytes as usize;
        let slot = read_vec(disk, &file, header.slot_offset(number), len).map_err(io)?;
        hashes.push(sha256(&[&slot]));
        if matches!(decode_slot(&slot), SlotBytes::Key(_)) {
            keys = hashes.len();
        }
    }
    Ok((hashes, keys))
}

/// Cuts what is torn behind the first `keys` slots off.
fn cut_slots<D: Disk>(
    disk: &mut D,
    archive: [u8; 16],
    segment: SegmentId,
    keys: usize,
) -> Result<(), ArchiveError> {
    let io = |error: io::Error| ArchiveError::io("recover", &segment.keys_name(), error);
    let Some((file, header)) = open_keys(disk, archive, segment)? else { return Ok(()) };
    let end = header.slot_offset(u32::try_from(keys).unwrap_or(u32::MAX));
    if disk.len_bytes(&file).map_err(io)? > end {
        disk.truncate(&file, end).map_err(io)?;
    }
    write_again(disk, &file, end).map_err(io)?;
    disk.sync_data(&file).map_err(io)
}

/// A segment's key file and its header; `None` where there is none, or its header never got there.
fn open_keys<D: Disk>(
    disk: &mut D,
    archive: [u8; 16],
    segment: SegmentId,
) -> Result<Option<(D::File, SidecarHeader)>, ArchiveError> {
    let name = segment.keys_name();
    let io = |error: io::Error| ArchiveError::io("recover", &name, error);
    let file = match disk.open_write(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let header = read_vec(disk, &file, 0, SIDECAR_HEADER_BYTES).map_err(io)?;
    Ok(SidecarHeader::decode(&header, archive, segment).map(|header| (file, header)))
}

/// What reading segments into an index that lagged behind came to.
#[derive(Debug, Default)]
pub(super) struct CaughtUp {
    /// Segments that were read in.
    pub segments: u64,
    /// Segments that cannot be read.
    pub unreadable: Vec<SegmentId>,
}

/// Reads every segment of `listed` into the index that is not known whole there: "Open after a kill",
/// step 7. One that is damaged is no error but named.
pub(super) fn catch_up<D: Disk>(
    disk: &D,
    index: &mut Index,
    archive: [u8; 16],
    listed: &[(SegmentId, SegmentState)],
    unsealer: &Unsealer,
) -> Result<CaughtUp, ArchiveError> {
    let known = index.segments()?;
    let mut caught = CaughtUp::default();
    for (segment, state) in listed {
        if known.get(segment) != Some(&SegmentState::Sealed) {
            match read_segment(disk, archive, (*segment, *state), unsealer) {
                Ok((_, batch)) => {
                    index.apply(&batch)?;
                    caught.segments += 1;
                }
                Err(ArchiveError::BadSegment { .. }) => caught.unreadable.push(*segment),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(caught)
}

/// Writes what is there once more, so that the next sync makes it durable: after a failed sync it can
/// be read and is nowhere but in memory, and no later sync would write it. Where even that finds no
/// room, what is there is kept as it is.
fn write_again<D: Disk>(disk: &mut D, file: &D::File, end: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < end {
        let len = usize::try_from(end - offset).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        let bytes = read_vec(disk, file, offset, len)?;
        if bytes.is_empty() {
            break;
        }
        match disk.write_at(file, offset, &[IoSlice::new(&bytes)]) {
            Err(error) if is_full(&error) => break,
            written => written?,
        }
        offset = offset.saturating_add(bytes.len() as u64);
    }
    Ok(())
}

/// What reading a segment into the index found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentCounts {
    pub records: u64,
    /// Damaged records, and summaries that cannot be read.
    pub skipped: u64,
}

/// Reads what the index has of a segment.
pub(super) fn read_segment<D: Disk>(
    disk: &D,
    archive: [u8; 16],
    (segment, state): (SegmentId, SegmentState),
    unsealer: &Unsealer,
) -> Result<(SegmentCounts, Batch), ArchiveError> {
    let name = match state {
        SegmentState::Open => segment.open_name(),
        SegmentState::Sealed => segment.sealed_name(),
    };
    let io = |error: io::Error| ArchiveError::io("read", &name, error);
    let file = disk.open_read(&name).map_err(io)?;
    check_header(&read_vec(disk, &file, 0, HEADER_BYTES).map_err(io)?, archive, segment)?;
    let mut counts = SegmentCounts::default();
    let mut batch = Batch::default();
    let table = match state {
        SegmentState::Sealed => sealed_table(disk, &file, segment).ok(),
        SegmentState::Open => None,
    };
    // An open segment has no table yet, and a damaged table is made up for by its records.
    let (entries, end) = if let Some(table) = table {
        table
    } else {
        let found = scan(disk, &file, segment, |_| true)?;
        counts.skipped += found.damaged.len() as u64;
        (found.entries, found.end)
    };
    let mut summaries: BTreeMap<CallId, Vec<&TableEntry>> = BTreeMap::new();
    for entry in &entries {
        batch.saw(entry.call, segment, entry.sequence);
        counts.records += 1;
        if is_summary(entry.kind) {
            summaries.entry(entry.call).or_default().push(entry);
        }
    }
    // The newest wins: an older one is opened only if it cannot be read.
    let mut summaries: Vec<Vec<&TableEntry>> = summaries.into_values().collect();
    for of_call in &mut summaries {
        of_call.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.sequence));
    }
    // In the order of the file, so that the disk reads ahead.
    summaries.sort_unstable_by_key(|of_call| of_call.first().map(|entry| entry.offset));
    for of_call in summaries {
        for entry in of_call {
            match read_row(disk, &file, segment, entry, unsealer) {
                Ok(row) => {
                    batch.add_row(row);
                    break;
                }
                Err(ArchiveError::Io { op, name, source }) => {
                    return Err(ArchiveError::Io { op, name, source });
                }
                // Of an erased call nothing is missed.
                Err(ArchiveError::Erased { .. }) => {}
                Err(_) => counts.skipped += 1,
            }
        }
    }
    batch.segments.insert(segment, (state, end));
    Ok((counts, batch))
}

/// True for the kinds that the index has a row of.
pub(super) const fn is_summary(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::CallOpened | RecordKind::Summary)
}

fn read_row<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
    entry: &TableEntry,
    unsealer: &Unsealer,
) -> Result<CallRow, ArchiveError> {
    let bytes = entry_bytes(disk, file, segment, entry)?;
    let record = check_entry(&bytes, entry, segment)?;
    let record = unsealer.open(disk, segment, entry.offset, &record)?;
    CallRow::from_body(entry.call, record.sequence, &record.body)
}
