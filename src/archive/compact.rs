//! Writing a finished segment anew without the records of erased calls.
//!
//! Purpose: give the room of erased calls back, with the chain of evidence intact.
//! Invariants: the successor carries table, checkpoint, slot hashes and every leaf hash of the first
//! one, byte for byte, so that what is left still proves to be what was signed; the old file is there
//! until the new one is durable and its tombstone is written.
//! Non-goals: which segments are worth it (see `curator`).
//! Sources: docs/archive.md, "Compact".

use std::io::{self, IoSlice};

use super::SEGMENTS_DIR;
use super::disk::{Disk, read_vec, remove_if_there};
use super::error::{ArchiveError, SegmentFault};
use super::footer::{Compacted, Footer, FooterParts, TRAILER_BYTES, TableEntry};
use super::merkle::{Hash, leaf_hash, sha256};
use super::open_segment::full_or_io;
use super::scan::{check_entry, entry_bytes, read_footer};
use super::segment::{HEADER_BYTES, SegmentId};
use super::signing::{SigningKey, VerifyingKey};
use crate::base::CallId;

const CONTEXT: &str = "callspan compaction";

/// The file that becomes a segment's successor.
pub(super) fn successor_name(segment: SegmentId) -> String {
    format!("{SEGMENTS_DIR}/{:010}.compacting", segment.0)
}

/// Writes the successor of a segment without the records that `is_dead` names: "Compact", steps 1–3.
/// Returns SHA-256 of its footer; `None` when nothing would go.
///
/// # Errors
/// `BadSegment` (nothing is made of a damaged segment), `Full`, `Io`.
pub(super) fn write_successor<D: Disk>(
    disk: &mut D,
    archive: [u8; 16],
    segment: SegmentId,
    signing: &SigningKey,
    is_dead: impl Fn(CallId) -> bool,
) -> Result<Option<Hash>, ArchiveError> {
    let name = successor_name(segment);
    let io = |error: io::Error| ArchiveError::io("compact", &name, error);
    let old = disk.open_read(&segment.sealed_name()).map_err(io)?;
    let footer = read_footer(disk, &old, segment)?;
    let bad = SegmentFault::Footer.at(segment, 0);
    let footer = Footer::decode(&footer).map_err(|_| bad)?;
    let mut rows: Vec<(usize, TableEntry, Option<u64>)> =
        footer.rows_with_places().enumerate().map(|(row, (entry, at))| (row, entry, at)).collect();
    let goes = |entry: &TableEntry, place: Option<u64>| place.is_some() && is_dead(entry.call);
    if !rows.iter().any(|(_, entry, place)| goes(entry, *place)) {
        return Ok(None);
    }
    rows.sort_unstable_by_key(|(_, entry, _)| entry.offset);
    // Step 1: what an earlier attempt left goes; a new file, with the old header.
    let file = create(disk, &name, footer.records_end)?;
    let mut out = read_vec(disk, &old, 0, HEADER_BYTES).map_err(io)?;
    let mut written = 0_u64;
    // Step 2: the records that stay, in their order, each checked; the leaves of all.
    let mut places = vec![0; rows.len()];
    let mut carried = footer.leaves();
    let mut leaves = Vec::with_capacity(rows.len());
    for (row, entry, place) in rows {
        let carried = carried.next();
        let Some(place) = place else {
            leaves.push(carried.unwrap_or(Hash::new([0; 32])));
            continue;
        };
        let there = TableEntry { offset: place, ..entry };
        let bytes = entry_bytes(disk, &old, segment, &there)?;
        let record = check_entry(&bytes, &there, segment)?;
        let leaf = leaf_hash(&[record.bytes]);
        if carried.is_some_and(|carried| carried != leaf) {
            return Err(SegmentFault::RecordMismatch.at(segment, place));
        }
        leaves.push(leaf);
        if is_dead(entry.call) {
            continue;
        }
        if let Some(now) = places.get_mut(row) {
            *now = written.saturating_add(out.len() as u64);
        }
        out.extend_from_slice(record.bytes);
        if out.len() >= CHUNK_BYTES {
            written = put(disk, &file, &name, written, &mut out)?;
        }
    }
    let records_end = written.saturating_add(out.len() as u64);
    let compacted = Some(Compacted { places, leaves, signature: [0; 64] });
    let mut parts = FooterParts { records_end, compacted, ..footer.parts() };
    let signature = sign(&parts, archive, segment, signing);
    if let Some(compacted) = &mut parts.compacted {
        compacted.signature = signature;
    }
    let hash = append_footer(&parts, &mut out);
    put(disk, &file, &name, written, &mut out)?;
    // Step 3: it is durable under its own name.
    disk.sync_data(&file).map_err(io)?;
    disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
    Ok(Some(hash))
}

/// Footer and trailer behind the records; SHA-256 of the footer.
fn append_footer(parts: &FooterParts<'_>, out: &mut Vec<u8>) -> Hash {
    let encoded = parts.encode();
    let (footer, _) = encoded.split_at(encoded.len().saturating_sub(TRAILER_BYTES));
    out.extend_from_slice(&encoded);
    sha256(&[footer])
}

/// A new file for the successor; what an earlier attempt left goes.
fn create<D: Disk>(disk: &mut D, name: &str, needed: u64) -> Result<D::File, ArchiveError> {
    remove_if_there(disk, name).map_err(|error| ArchiveError::io("compact", name, error))?;
    disk.create_preallocated(name, 0)
        .map_err(|error| full_or_io(disk, "compact", name, needed, error))
}

/// Bytes written at once.
const CHUNK_BYTES: usize = 4 << 20;

fn put<D: Disk>(
    disk: &mut D,
    file: &D::File,
    name: &str,
    at: u64,
    out: &mut Vec<u8>,
) -> Result<u64, ArchiveError> {
    disk.write_at(file, at, &[IoSlice::new(out)])
        .map_err(|error| full_or_io(disk, "write", name, out.len() as u64, error))?;
    let end = at.saturating_add(out.len() as u64);
    out.clear();
    Ok(end)
}

/// Gives the successor the segment's name: "Compact", step 5.
pub(super) fn take_place<D: Disk>(disk: &mut D, segment: SegmentId) -> Result<(), ArchiveError> {
    let name = successor_name(segment);
    let io = |error: io::Error| ArchiveError::io("compact", &name, error);
    disk.rename(&name, &segment.sealed_name()).map_err(io)?;
    disk.sync_dir(SEGMENTS_DIR).map_err(io)
}

fn sign(
    parts: &FooterParts<'_>,
    archive: [u8; 16],
    segment: SegmentId,
    signing: &SigningKey,
) -> [u8; 64] {
    let signed = parts.signed_bytes();
    signing.sign(CONTEXT, &[&archive, &segment.0.to_le_bytes(), &signed])
}

/// True for a footer that was never compacted, or whose compaction `key` signed.
pub(super) fn is_genuine(
    footer: &Footer<'_>,
    archive: [u8; 16],
    segment: SegmentId,
    key: &VerifyingKey,
) -> bool {
    footer.compaction().is_none_or(|signature| {
        key.verify(CONTEXT, &[&archive, &segment.0.to_le_bytes(), footer.signed], &signature)
    })
}
