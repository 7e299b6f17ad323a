//! Checking one finished segment and its key file.
//!
//! Purpose: every byte of them is either what was sealed, or accounted for.
//! Invariants: the first record that fails is named; what cannot be read is a fault, not an error.
//! Non-goals: the chain of segments (see `verify`).
//! Sources: RFC 6962 §2.1; docs/archive.md, "Verify".

use std::collections::BTreeSet;

use super::checkpoint::{Checkpoint, origin};
use super::compact::{is_genuine, successor_name};
use super::disk::{Disk, open_if_there, read_vec};
use super::error::{ArchiveError, SegmentFault};
use super::footer::{Footer, TRAILER_BYTES, TableEntry, decode_trailer};
use super::merkle::{Frontier, Hash, leaf_hash, root, sha256};
use super::record::{RecordHeader, StoredRecord, record_span_bytes};
use super::rewrap;
use super::scan::{check_entry, check_header, entry_bytes, read_footer};
use super::segment::{HEADER_BYTES, SegmentId};
use super::sidecar::{SIDECAR_HEADER_BYTES, SidecarHeader, SlotBytes, decode_slot};
use super::signing::{VerifyingKey, open_note};
use super::tombstones::Tombstones;
use super::verify::Fault;

/// What one finished segment came to.
#[derive(Default)]
pub(super) struct Sealed {
    pub faults: Vec<Fault>,
    /// What a crash left.
    pub leftovers: Vec<Fault>,
    pub records: u64,
    pub dropped: u64,
    /// Its checkpoint and the signed note, if they are genuine.
    pub end: Option<(Checkpoint, String)>,
}

/// What is known before a segment is opened.
pub(super) struct Known<'k> {
    pub archive: [u8; 16],
    pub key: &'k VerifyingKey,
    pub tombstones: &'k Tombstones,
}

/// A segment that is being checked.
struct Checking<'c, D: Disk> {
    disk: &'c D,
    known: &'c Known<'c>,
    segment: SegmentId,
    name: String,
    found: Sealed,
    /// Key slots that records of calls which were not erased need.
    live_slots: BTreeSet<u32>,
}

/// Checks a finished segment.
///
/// # Errors
/// `Io`.
pub(super) fn check_sealed<D: Disk>(
    disk: &D,
    segment: SegmentId,
    known: &Known<'_>,
) -> Result<Sealed, ArchiveError> {
    let (name, live_slots) = (segment.sealed_name(), BTreeSet::new());
    let io = |error| ArchiveError::io("read", &segment.sealed_name(), error);
    let file = disk.open_read(&name).map_err(io)?;
    let found = Sealed::default();
    let mut check = Checking { disk, known, segment, name, found, live_slots };
    let len_bytes = disk.len_bytes(&file).map_err(io)?;
    let header = read_vec(disk, &file, 0, HEADER_BYTES).map_err(io)?;
    if let Err(ArchiveError::BadSegment { offset, fault, .. }) =
        check_header(&header, known.archive, segment)
    {
        check.fault(Some(offset), fault.to_string());
    }
    let start = len_bytes.saturating_sub(TRAILER_BYTES as u64);
    let trailer = read_vec(disk, &file, start, TRAILER_BYTES).map_err(io)?;
    let Ok((at, footer_len)) = decode_trailer(&trailer, len_bytes) else {
        check.fault(Some(start), "the trailer is not valid: the file was cut, or changed there");
        return Ok(check.found);
    };
    let footer_len = usize::try_from(footer_len).unwrap_or(usize::MAX);
    let bytes = read_vec(disk, &file, at, footer_len).map_err(io)?;
    let Ok(footer) = Footer::decode(&bytes) else {
        check.fault(Some(at), SegmentFault::Footer.to_string());
        return Ok(check.found);
    };
    check.found.end = check.checkpoint(&footer, at);
    check.compaction(&footer, &bytes, at);
    check.records(&file, &footer, at)?;
    if let Some((checkpoint, _)) = check.found.end.clone() {
        if checkpoint.segment.table != sha256(&[&header, footer.table]) {
            check.fault(Some(at), "header and table are not those that were signed");
        }
        let slots: Vec<Hash> = footer.slot_hashes().collect();
        let signed = (checkpoint.segment.slots, checkpoint.segment.slots_root);
        if signed != (slots.len() as u64, root(&slots)) {
            check.fault(Some(at), "the key slots' hashes are not those that were signed");
        }
        check.keys(&slots)?;
    }
    Ok(check.found)
}

impl<D: Disk> Checking<'_, D> {
    fn fault(&mut self, offset: Option<u64>, what: impl Into<String>) {
        self.found.faults.push(Fault { offset, ..Fault::of(&self.name, what) });
    }

    fn record_fault(&mut self, row: &TableEntry, offset: u64, what: impl Into<String>) {
        let (call, sequence) = (Some(row.call), Some(row.sequence));
        let fault = Fault::of(&self.name, what);
        self.found.faults.push(Fault { offset: Some(offset), call, sequence, ..fault });
    }

    /// The signed note in a footer, and that it is about this segment.
    fn checkpoint(&mut self, footer: &Footer<'_>, at: u64) -> Option<(Checkpoint, String)> {
        let note = std::str::from_utf8(footer.checkpoint).ok().map(str::to_owned);
        let opened =
            open_note(footer.checkpoint, self.known.key).map_err(|fault| fault.to_string());
        let opened = opened.and_then(|text| {
            Checkpoint::parse(text).ok_or_else(|| "it is no checkpoint".to_owned())
        });
        let checkpoint = match opened {
            Ok(checkpoint) => checkpoint,
            Err(what) => {
                self.fault(Some(at), format!("its checkpoint: {what}"));
                return None;
            }
        };
        let is_ours = checkpoint.origin == origin(self.known.archive)
            && checkpoint.segment.segment == self.segment.0;
        if !is_ours {
            self.fault(Some(at), "its checkpoint is another segment's or another archive's");
            return None;
        }
        let frontier: Vec<Hash> = footer.frontier().collect();
        let frontier = Frontier::from_hashes(checkpoint.size, &frontier);
        if frontier.is_none_or(|frontier| frontier.root() != checkpoint.root) {
            self.fault(Some(at), "the frontier does not lead to the checkpoint's root");
        }
        note.map(|note| (checkpoint, note))
    }

    /// A compaction is signed, and the last one that was announced.
    fn compaction(&mut self, footer: &Footer<'_>, bytes: &[u8], at: u64) {
        let Known { archive, key, tombstones } = *self.known;
        if !is_genuine(footer, archive, self.segment, key) {
            self.fault(Some(at), "its compaction is not signed by this key");
        }
        let Some(announced) = tombstones.compaction(self.segment) else {
            if footer.compaction().is_some() {
                self.fault(Some(at), "it was compacted, and no tombstone says so");
            }
            return;
        };
        if announced == sha256(&[bytes]) {
            return;
        }
        // The successor that was announced may still wait for its name.
        let successor = self.disk.open_read(&successor_name(self.segment));
        let waits = successor.is_ok_and(|file| {
            read_footer(self.disk, &file, self.segment)
                .is_ok_and(|footer| sha256(&[&footer]) == announced)
        });
        if !waits {
            self.fault(Some(at), "it is an older file than its last compaction made");
        }
    }

    /// Every record against the signed root.
    fn records(
        &mut self,
        file: &D::File,
        footer: &Footer<'_>,
        at: u64,
    ) -> Result<(), ArchiveError> {
        // In the order in which they were written, as the tree has them; places where they are now.
        let mut rows: Vec<(TableEntry, Option<u64>)> = footer.rows_with_places().collect();
        rows.sort_unstable_by_key(|(row, _)| row.offset);
        let mut carried = footer.leaves();
        let (mut log, mut next) = (Frontier::default(), HEADER_BYTES as u64);
        for (row, place) in rows {
            let carried = carried.next();
            let Some(offset) = place else {
                if self.known.tombstones.erasure(row.call).is_none() {
                    self.record_fault(&row, 0, "it was taken out, and its call was not erased");
                }
                self.found.dropped += 1;
                log.push(carried.unwrap_or(Hash::new([0; 32])));
                continue;
            };
            let there = TableEntry { offset, ..row };
            let bytes = entry_bytes(self.disk, file, self.segment, &there)?;
            let expected = std::mem::replace(
                &mut next,
                offset.saturating_add(record_span_bytes(row.stored_len)),
            );
            let leaf = match check_entry(&bytes, &there, self.segment) {
                Err(ArchiveError::BadSegment { fault, .. }) => {
                    self.record_fault(&row, offset, fault.to_string());
                    return Ok(());
                }
                Ok(record) if offset == expected && next <= footer.records_end => {
                    self.needs(&record);
                    leaf_hash(&[record.bytes])
                }
                _ => {
                    self.record_fault(&row, offset, "a record stands where none should");
                    return Ok(());
                }
            };
            if carried.is_some_and(|carried| carried != leaf) {
                self.record_fault(&row, offset, "a record is not the one that was signed");
            }
            log.push(leaf);
            self.found.records += 1;
        }
        if next != footer.records_end {
            self.fault(Some(next), "bytes stand there that belong to no record");
        }
        if let Some((checkpoint, _)) = &self.found.end {
            let signed = (checkpoint.segment.records, checkpoint.segment.records_root);
            if signed != (log.size(), log.root()) {
                self.fault(Some(at), "its records are not those that were signed");
            }
        }
        Ok(())
    }

    fn needs(&mut self, record: &StoredRecord<'_>) {
        let RecordHeader { call, seal, .. } = record.header;
        if let Some(seal) = seal.filter(|_| self.known.tombstones.erasure(call).is_none()) {
            self.live_slots.insert(seal.slot);
        }
    }

    /// Every key slot is as it was sealed, or zeroed and its call erased.
    fn keys(&mut self, signed: &[Hash]) -> Result<(), ArchiveError> {
        let name = self.segment.keys_name();
        let io = |error| ArchiveError::io("read", &name, error);
        let Some(file) = open_if_there(self.disk, &name).map_err(io)? else {
            if !signed.is_empty() {
                self.found.faults.push(Fault::of(&name, "the key file is missing"));
            }
            return Ok(());
        };
        let bad = |offset, what: &str| Fault { offset: Some(offset), ..Fault::of(&name, what) };
        let header = read_vec(self.disk, &file, 0, SIDECAR_HEADER_BYTES).map_err(io)?;
        let Some(header) = SidecarHeader::decode(&header, self.known.archive, self.segment) else {
            self.found.faults.push(bad(0, "its header is not valid"));
            return Ok(());
        };
        let rewrapped = self.rewrapped();
        let signed = rewrapped.as_deref().unwrap_or(signed);
        let listed = rewrapped.as_ref().map_or(0, Vec::len);
        let end = header.slot_offset(u32::try_from(signed.len()).unwrap_or(0));
        let end = end.saturating_add(32 * listed as u64);
        if listed != header.listed as usize {
            self.found.faults.push(bad(0, "it is not the key file that was wrapped last"));
            return Ok(());
        }
        if self.disk.len_bytes(&file).map_err(io)? != end {
            self.found.faults.push(bad(end, "the key file was cut, or something was added"));
        }
        for (number, signed) in (0..).zip(signed) {
            let offset = header.slot_offset(number);
            let slot =
                read_vec(self.disk, &file, offset, header.slot_bytes as usize).map_err(io)?;
            match (decode_slot(&slot), sha256(&[&slot]) == *signed) {
                (SlotBytes::Empty, _) if !self.live_slots.contains(&number) => {}
                // Zeros that a power cut tore: the erasure itself is told as not finished.
                (SlotBytes::Damaged, false)
                    if !self.live_slots.contains(&number)
                        && self.known.tombstones.unfinished().next().is_some() => {}
                (SlotBytes::Key(key), true) if self.known.tombstones.is_erased(key.call) => {
                    let what = format!("the keys of call {} are back, which was erased", key.call);
                    self.found.faults.push(bad(offset, &what));
                }
                (_, true) => {}
                (SlotBytes::Empty, false) => {
                    let what = "a key was destroyed, and no tombstone says why";
                    self.found.faults.push(bad(offset, what));
                }
                (_, false) => {
                    let what = format!("key slot {number} is not the one that was sealed");
                    self.found.faults.push(bad(offset, &what));
                }
            }
        }
        Ok(())
    }

    /// The hashes of the slots since the keys were last wrapped anew, where they were. Those of the file
    /// that was announced, which may still wait for its name: the one in its place is checked as the
    /// one before it then.
    fn rewrapped(&mut self) -> Option<Vec<Hash>> {
        let Known { archive, tombstones, .. } = *self.known;
        let announced = tombstones.rewrap(self.segment)?;
        let segment = self.segment;
        let of = |name: &str| rewrap::listed(self.disk, name, archive, segment);
        let (name, new) = (segment.keys_name(), rewrap::new_keys_name(segment));
        let here = of(&name);
        if here.as_ref().is_some_and(|(_, root)| *root == announced) {
            return here.map(|(hashes, _)| hashes);
        }
        if of(&new).is_some_and(|(_, root)| root == announced) {
            return here.map(|(hashes, _)| hashes);
        }
        let what = "it is an older file than its keys were last wrapped in";
        self.found.faults.push(Fault::of(&name, what));
        here.map(|(hashes, _)| hashes)
    }
}
