//! Checking one finished segment and its key file.
//!
//! Purpose: every byte of them is either what was sealed, or accounted for.
//! Invariants: the first record that fails is named; what cannot be read is a fault, not an error.
//! Non-goals: the chain of segments (see `verify`).
//! Sources: RFC 6962 §2.1; docs/archive.md, "Verify".

use std::io;

use super::checkpoint::{Checkpoint, origin};
use super::disk::{Disk, read_vec};
use super::error::{ArchiveError, SegmentFault};
use super::footer::{Footer, TRAILER_BYTES, TableEntry, decode_trailer};
use super::merkle::{Frontier, Hash, leaf_hash, root, sha256};
use super::record::record_span_bytes;
use super::scan::{check_entry, check_header, entry_bytes};
use super::segment::{HEADER_BYTES, SegmentId};
use super::sidecar::{SIDECAR_HEADER_BYTES, SidecarHeader};
use super::signing::{VerifyingKey, open_note};
use super::verify::Fault;

/// What one finished segment came to.
pub(super) struct Sealed {
    pub faults: Vec<Fault>,
    pub records: u64,
    pub dropped: u64,
    /// Its checkpoint and the signed note, if they are genuine.
    pub end: Option<(Checkpoint, String)>,
}

/// Faults of one file.
struct Faults {
    name: String,
    list: Vec<Fault>,
}

impl Faults {
    fn push(&mut self, offset: Option<u64>, what: impl Into<String>) {
        self.list.push(Fault { offset, ..Fault::of(&self.name, what) });
    }
}

/// Checks a finished segment.
///
/// # Errors
/// `Io`.
pub(super) fn check_sealed<D: Disk>(
    disk: &D,
    archive: [u8; 16],
    segment: SegmentId,
    key: &VerifyingKey,
) -> Result<Sealed, ArchiveError> {
    let name = segment.sealed_name();
    let io = |error| ArchiveError::io("read", &name, error);
    let file = disk.open_read(&name).map_err(io)?;
    let mut faults = Faults { name: name.clone(), list: Vec::new() };
    let len_bytes = disk.len_bytes(&file).map_err(io)?;
    let header = read_vec(disk, &file, 0, HEADER_BYTES).map_err(io)?;
    if let Err(ArchiveError::BadSegment { offset, fault, .. }) =
        check_header(&header, archive, segment)
    {
        faults.push(Some(offset), fault.to_string());
    }
    let start = len_bytes.saturating_sub(TRAILER_BYTES as u64);
    let trailer = read_vec(disk, &file, start, TRAILER_BYTES).map_err(io)?;
    let Ok((at, footer_len)) = decode_trailer(&trailer, len_bytes) else {
        faults.push(Some(start), "the trailer is not valid: the file was cut, or changed there");
        return Ok(Sealed { faults: faults.list, records: 0, dropped: 0, end: None });
    };
    let footer_len = usize::try_from(footer_len).unwrap_or(usize::MAX);
    let footer = read_vec(disk, &file, at, footer_len).map_err(io)?;
    let Ok(footer) = Footer::decode(&footer) else {
        faults.push(Some(at), SegmentFault::Footer.to_string());
        return Ok(Sealed { faults: faults.list, records: 0, dropped: 0, end: None });
    };
    let end = check_checkpoint(&footer, archive, segment, key, at, &mut faults);
    let (records, dropped) =
        check_records(disk, &file, segment, &footer, end.as_ref(), at, &mut faults)?;
    if let Some((checkpoint, _)) = &end {
        if checkpoint.segment.table != sha256(&[&header, footer.table]) {
            faults.push(Some(at), "header and table are not those that were signed");
        }
        let slots: Vec<Hash> = footer.slot_hashes().collect();
        let signed = (checkpoint.segment.slots, checkpoint.segment.slots_root);
        if signed != (slots.len() as u64, root(&slots)) {
            faults.push(Some(at), "the key slots' hashes are not those that were signed");
        }
        check_keys(disk, archive, segment, &slots, &mut faults)?;
    }
    Ok(Sealed { faults: faults.list, records, dropped, end })
}

/// The signed note in a footer, and that it is about this segment.
fn check_checkpoint(
    footer: &Footer<'_>,
    archive: [u8; 16],
    segment: SegmentId,
    key: &VerifyingKey,
    at: u64,
    faults: &mut Faults,
) -> Option<(Checkpoint, String)> {
    let note = std::str::from_utf8(footer.checkpoint).ok().map(str::to_owned);
    let opened = open_note(footer.checkpoint, key).map_err(|fault| fault.to_string());
    let opened = opened
        .and_then(|text| Checkpoint::parse(text).ok_or_else(|| "it is no checkpoint".to_owned()));
    match opened {
        Ok(checkpoint)
            if checkpoint.origin == origin(archive) && checkpoint.segment.segment == segment.0 =>
        {
            let frontier: Vec<Hash> = footer.frontier().collect();
            let frontier = Frontier::from_hashes(checkpoint.size, &frontier);
            if frontier.is_none_or(|frontier| frontier.root() != checkpoint.root) {
                faults.push(Some(at), "the frontier does not lead to the checkpoint's root");
            }
            note.map(|note| (checkpoint, note))
        }
        Ok(_) => {
            faults.push(Some(at), "its checkpoint is another segment's or another archive's");
            None
        }
        Err(what) => {
            faults.push(Some(at), format!("its checkpoint: {what}"));
            None
        }
    }
}

/// Every record against the signed root. Returns how many are there, and how many were dropped.
fn check_records<D: Disk>(
    disk: &D,
    file: &D::File,
    segment: SegmentId,
    footer: &Footer<'_>,
    end: Option<&(Checkpoint, String)>,
    at: u64,
    faults: &mut Faults,
) -> Result<(u64, u64), ArchiveError> {
    // In the order in which they were written, as the tree has them; places where they stand now.
    let mut rows: Vec<(TableEntry, Option<u64>)> = footer.rows_with_places().collect();
    rows.sort_unstable_by_key(|(row, _)| row.offset);
    let mut carried = footer.leaves();
    let (mut log, mut next) = (Frontier::default(), HEADER_BYTES as u64);
    let (mut records, mut dropped) = (0, 0);
    for (row, place) in rows {
        let kept_leaf = carried.next();
        let Some(offset) = place else {
            dropped += 1;
            log.push(kept_leaf.unwrap_or(Hash::new([0; 32])));
            continue;
        };
        let there = TableEntry { offset, ..row };
        let bytes = entry_bytes(disk, file, segment, &there)?;
        let gap = offset != next;
        next = offset.saturating_add(record_span_bytes(row.stored_len));
        let leaf = match check_entry(&bytes, &there, segment) {
            Ok(record) if !gap && next <= footer.records_end => leaf_hash(&[record.bytes]),
            wrong => {
                let what = match wrong {
                    Err(ArchiveError::BadSegment { fault, .. }) => fault.to_string(),
                    _ => "a record stands where none should".to_owned(),
                };
                let (call, sequence) = (Some(row.call), Some(row.sequence));
                let fault = Fault::of(&faults.name, what);
                faults.list.push(Fault { offset: Some(offset), call, sequence, ..fault });
                return Ok((records, dropped));
            }
        };
        if kept_leaf.is_some_and(|kept| kept != leaf) {
            let (call, sequence) = (Some(row.call), Some(row.sequence));
            let fault = Fault::of(&faults.name, "a record is not the one that was signed");
            faults.list.push(Fault { offset: Some(offset), call, sequence, ..fault });
        }
        log.push(leaf);
        records += 1;
    }
    if next != footer.records_end {
        faults.push(Some(next), "bytes stand there that belong to no record");
    }
    if let Some((checkpoint, _)) = end {
        let signed = (checkpoint.segment.records, checkpoint.segment.records_root);
        if signed != (log.size(), log.root()) {
            faults.push(Some(at), "its records are not those that were signed");
        }
    }
    Ok((records, dropped))
}

/// Every key slot is as it was sealed.
fn check_keys<D: Disk>(
    disk: &D,
    archive: [u8; 16],
    segment: SegmentId,
    signed: &[Hash],
    faults: &mut Faults,
) -> Result<(), ArchiveError> {
    let name = segment.keys_name();
    let io = |error| ArchiveError::io("read", &name, error);
    let mut keys = Faults { name: name.clone(), list: Vec::new() };
    let file = match disk.open_read(&name) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io(error)),
    };
    match file {
        None if signed.is_empty() => {}
        None => keys.push(None, "the key file is missing"),
        Some(file) => {
            let header = read_vec(disk, &file, 0, SIDECAR_HEADER_BYTES).map_err(io)?;
            match SidecarHeader::decode(&header, archive, segment) {
                None => keys.push(Some(0), "its header is not valid"),
                Some(header) => {
                    let slots = header.slot_offset(u32::try_from(signed.len()).unwrap_or(0));
                    if disk.len_bytes(&file).map_err(io)? != slots {
                        keys.push(Some(slots), "the key file was cut, or something was added");
                    }
                    for (number, signed) in (0..).zip(signed) {
                        let offset = header.slot_offset(number);
                        let len = header.slot_bytes as usize;
                        let slot = read_vec(disk, &file, offset, len).map_err(io)?;
                        if sha256(&[&slot]) != *signed {
                            let what = format!("key slot {number} is not the one that was sealed");
                            keys.push(Some(offset), what);
                        }
                    }
                }
            }
        }
    }
    faults.list.append(&mut keys.list);
    Ok(())
}
