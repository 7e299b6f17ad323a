//! What proves that the records of one call are those that were sealed.
//!
//! Purpose: gather a call's records as stored, the way from each to a signed checkpoint, and the call's
//! own keys, so that somebody without the archive can check and hear them.
//! Invariants: nothing of another call is in it but hashes; a call with records that are not signed
//! yet is refused; checking needs the public key alone.
//! Non-goals: the files that are handed out (see `cli::evidence`).
//! Sources: RFC 6962 §2.1.1 (audit paths); C2SP tlog-checkpoint; docs/archive.md, "Evidence".

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, origin};
use super::cipher::RecordKey;
use super::disk::Disk;
use super::error::{ArchiveError, SegmentFault};
use super::footer::{Footer, TableEntry};
use super::merkle::{Hash, inclusion_proof, leaf_hash, verify_inclusion};
use super::reader::OwnedRecord;
use super::record::decode_record;
use super::scan::{check_entry, entry_bytes, read_footer};
use super::secret::Secret;
use super::segment::SegmentId;
use super::signing::{VerifyingKey, open_note};
use super::unseal::Unsealer;
use crate::base::CallId;

/// A call's records in one segment, and what proves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEvidence {
    /// The segment's number.
    pub segment: u64,
    /// Its checkpoint, a signed note.
    pub checkpoint: String,
    /// The call's records, in the order in which they were written.
    pub records: Vec<RecordEvidence>,
    /// The call's keys that seal them; none in a plaintext archive.
    pub keys: Vec<KeyEvidence>,
}

/// One record and its way to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEvidence {
    /// Its place among the segment's records, from 0.
    pub leaf: u64,
    /// Hashes from its leaf to the root, hexadecimal.
    pub path: Vec<String>,
    /// Where its bytes begin in `records.bin`.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

/// A key of the call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEvidence {
    /// The slot that its records name.
    pub slot: u32,
    /// The epoch that they are bound to.
    pub epoch: u64,
    /// The key, hexadecimal: it opens these records and no others.
    pub key: String,
}

impl std::fmt::Debug for KeyEvidence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "KeyEvidence(slot {})", self.slot)
    }
}

/// The records of `call` in a finished segment; their bytes are appended to `out`.
///
/// # Errors
/// `NotSealedYet`, `NoIdentity`, `Keys`, `Erased`, `BadSegment`, `BadKeySlot`, `Io`.
pub(super) fn gather<D: Disk>(
    disk: &D,
    segment: SegmentId,
    call: CallId,
    unsealer: &Unsealer,
    out: &mut Vec<u8>,
) -> Result<SegmentEvidence, ArchiveError> {
    let name = segment.sealed_name();
    let Ok(file) = disk.open_read(&name) else {
        return Err(ArchiveError::NotSealedYet { call, segment });
    };
    let footer = read_footer(disk, &file, segment)?;
    let footer = Footer::decode(&footer).map_err(|fault| fault.at(segment, 0))?;
    let mut rows: Vec<(TableEntry, Option<u64>)> = footer.rows_with_places().collect();
    rows.sort_unstable_by_key(|(row, _)| row.offset);
    let (mut leaves, mut own) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut carried = footer.leaves();
    for (row, place) in rows {
        let carried = carried.next();
        let Some(offset) = place else {
            leaves.push(carried.unwrap_or(Hash::new([0; 32])));
            continue;
        };
        let there = TableEntry { offset, ..row };
        let bytes = entry_bytes(disk, &file, segment, &there)?;
        let record = check_entry(&bytes, &there, segment)?;
        if row.call == call {
            let start = out.len() as u64;
            own.push((leaves.len(), start, record.bytes.len() as u64, record.header.seal));
            out.extend_from_slice(record.bytes);
        }
        leaves.push(leaf_hash(&[record.bytes]));
    }
    let mut keys: Vec<KeyEvidence> = Vec::new();
    for seal in own.iter().filter_map(|(_, _, _, seal)| *seal) {
        if keys.iter().all(|known| known.slot != seal.slot) {
            let (secret, slot) = unsealer.secret(disk, segment, seal.slot, call)?;
            let key = Hash::new(*secret.bytes()).to_hex();
            keys.push(KeyEvidence { slot: seal.slot, epoch: slot.epoch, key });
        }
    }
    let record = |(leaf, offset, length, _): (usize, u64, u64, _)| RecordEvidence {
        leaf: leaf as u64,
        path: inclusion_proof(&leaves, leaf).iter().map(Hash::to_hex).collect(),
        offset,
        length,
    };
    let checkpoint = String::from_utf8_lossy(footer.checkpoint).into_owned();
    let records = own.into_iter().map(record).collect();
    Ok(SegmentEvidence { segment: segment.0, checkpoint, records, keys })
}

/// Why evidence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}: {what}")]
pub struct EvidenceFault {
    /// In which segment's part.
    pub segment: u64,
    /// What is wrong.
    pub what: String,
}

/// Checks a segment's part against the public key, and opens its records. `records`: the bytes of
/// `records.bin`.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(
    evidence: &SegmentEvidence,
    archive: [u8; 16],
    call: CallId,
    key: &VerifyingKey,
    records: &[u8],
) -> Result<Vec<OwnedRecord>, EvidenceFault> {
    let fault = |what: &str| EvidenceFault { segment: evidence.segment, what: what.to_owned() };
    let text = open_note(evidence.checkpoint.as_bytes(), key)
        .map_err(|error| fault(&format!("its checkpoint: {error}")))?;
    let checkpoint = Checkpoint::parse(text).ok_or_else(|| fault("its checkpoint is none"))?;
    let own =
        checkpoint.origin == origin(archive) && checkpoint.segment.segment == evidence.segment;
    if !own {
        return Err(fault("its checkpoint is another segment's"));
    }
    let mut opened = Vec::new();
    for record in &evidence.records {
        let start = usize::try_from(record.offset).unwrap_or(usize::MAX);
        let length = usize::try_from(record.length).unwrap_or(usize::MAX);
        let bytes = records.get(start..start.saturating_add(length));
        let bytes = bytes.ok_or_else(|| fault("a record is missing from records.bin"))?;
        let path: Option<Vec<Hash>> = record.path.iter().map(|hash| Hash::from_hex(hash)).collect();
        let path = path.ok_or_else(|| fault("a path is not hexadecimal"))?;
        let (size, root) = (checkpoint.segment.records, checkpoint.segment.records_root);
        if !verify_inclusion(leaf_hash(&[bytes]), record.leaf, size, &path, root) {
            return Err(fault("a record is not the one that was signed"));
        }
        let stored = decode_record(bytes).map_err(|what| fault(&what.to_string()))?;
        if stored.header.call != call || stored.bytes.len() != bytes.len() {
            return Err(fault("a record is another call's"));
        }
        let key = stored.header.seal.and_then(|seal| find_key(&evidence.keys, seal.slot));
        let body = stored.open(archive, key.as_ref());
        let body = body.map_err(|_: SegmentFault| fault("a record does not open with its key"))?;
        let (kind, sequence) = (stored.header.kind, stored.header.sequence);
        opened.push(OwnedRecord { kind, sequence, body });
    }
    Ok(opened)
}

fn find_key(keys: &[KeyEvidence], slot: u32) -> Option<RecordKey> {
    let found = keys.iter().find(|key| key.slot == slot)?;
    let secret = Secret::from_slice(Hash::from_hex(&found.key)?.as_bytes())?;
    RecordKey::new(&secret, found.epoch)
}
