//! The one segment that grows, and the group of records that waits for its commit.
//!
//! Purpose: create, append to and seal a segment file, and its key file, in the order that survives
//! a kill.
//! Invariants: `end` covers durable records only; a record is written after the slot of its key is
//! durable; room for the footer is kept inside the preallocated file, so a full disk cannot keep a
//! segment from being sealed.
//! Non-goals: when to do which (see `writer`).
//! Sources: docs/archive.md, "Commit", "Seal", "Rotate".

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use super::SEGMENTS_DIR;
use super::call_keys::{CallKeys, purpose_of};
use super::chain::{Chain, Contents};
use super::disk::{Disk, is_full, remove_if_there};
use super::error::ArchiveError;
use super::footer::{TableEntry, encode_table, footer_room_bytes};
use super::merkle::{Frontier, Hash, leaf_hash, sha256};
use super::record::{Packed, RecordSeal, SealWith, encode_record, record_span_bytes};
use super::segment::{HEADER_BYTES, SegmentHeader, SegmentId};
use super::sidecar::SidecarHeader;
use crate::base::CallId;
use crate::base::limits::SEGMENT_RECORDS_MAX;

/// Packed records that are not committed yet. They are sealed when they are written, so that one
/// that has to be written again, elsewhere, gets another nonce.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Packed bodies, back to back.
    pub bytes: Vec<u8>,
    /// Each with where its body begins.
    pub records: Vec<(Packed, usize)>,
    /// Bytes that they take in a segment.
    pub span_bytes: u64,
}

/// How much room something takes in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub bytes: u64,
    pub records: usize,
}

impl Group {
    /// Room for the group and one more record of `span_bytes`.
    pub fn need_with(&self, span_bytes: u64) -> Need {
        let bytes = self.span_bytes.saturating_add(span_bytes);
        Need { bytes, records: self.records.len() + usize::from(span_bytes > 0) }
    }

    /// Takes a record; `stored_len`: bytes that its body takes once it is sealed.
    pub fn push(&mut self, record: Packed, packed: &[u8], stored_len: u32) {
        self.records.push((record, self.bytes.len()));
        self.bytes.extend_from_slice(packed);
        self.span_bytes = self.span_bytes.saturating_add(record_span_bytes(stored_len));
    }

    /// The packed body of a record.
    pub fn packed(&self, record: &Packed, start: usize) -> &[u8] {
        let end = start.saturating_add(record.packed_len as usize);
        self.bytes.get(start..end).unwrap_or_default()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.span_bytes = 0;
    }
}

/// The key file of a segment that is being written.
#[derive(Debug)]
pub(super) struct KeyFile<F> {
    file: F,
    header: SidecarHeader,
    /// SHA-256 of each slot.
    hashes: Vec<Hash>,
    /// Slots that are not durable yet: the last ones.
    unwritten: Vec<u8>,
    /// Slots that durable records need; those behind them belong to the group that waits.
    committed: usize,
}

impl<F> KeyFile<F> {
    fn next(&self) -> u32 {
        u32::try_from(self.hashes.len()).unwrap_or(u32::MAX)
    }

    fn add(&mut self, slot: &[u8]) {
        self.hashes.push(sha256(&[slot]));
        self.unwritten.extend_from_slice(slot);
    }

    /// Slots that are durable.
    fn written(&self) -> usize {
        let waiting = self.unwritten.len() / (self.header.slot_bytes as usize).max(1);
        self.hashes.len().saturating_sub(waiting)
    }

    /// Cuts off what a write that found the disk full left behind the durable slots.
    fn cut<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), ArchiveError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let name = self.header.segment.keys_name();
        let end = self.header.slot_offset(u32::try_from(self.written()).unwrap_or(u32::MAX));
        let cut = disk.truncate(&self.file, end).and_then(|()| disk.sync_data(&self.file));
        cut.map_err(|error| ArchiveError::io("seal", &name, error))
    }

    /// Makes new slots durable.
    fn write<D: Disk<File = F>>(&mut self, disk: &mut D) -> Result<(), ArchiveError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let name = self.header.segment.keys_name();
        let first = u32::try_from(self.written()).unwrap_or(u32::MAX);
        let offset = self.header.slot_offset(first);
        disk.write_at(&self.file, offset, &[IoSlice::new(&self.unwritten)]).map_err(|error| {
            full_or_io(disk, "write", &name, self.unwritten.len() as u64, error)
        })?;
        disk.sync_data(&self.file).map_err(|error| ArchiveError::io("sync", &name, error))?;
        self.unwritten.clear();
        Ok(())
    }
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct OpenSegment<F> {
    pub id: SegmentId,
    pub file: F,
    header: [u8; HEADER_BYTES],
    /// Its durable records, as the footer will list them.
    pub table: BTreeMap<(CallId, u32), TableEntry>,
    /// Where the durable records end.
    pub end: u64,
    keys: Option<KeyFile<F>>,
    /// The Merkle tree over the durable records.
    leaves: Frontier,
    /// Rows of the waiting group's records that were sealed already, for a write that found the disk
    /// full. They are written again as they are: a crash may leave a part of either write, and only of
    /// equal ones every mixture is a torn tail and no damage.
    sealed: Vec<TableEntry>,
    capacity: u64,
}

impl<F> OpenSegment<F> {
    /// True when the footer still fits behind what is needed.
    pub fn fits(&self, need: Need) -> bool {
        let records = self.table.len().saturating_add(need.records);
        // The waiting group may have some of its slots already, if the disk was full.
        let slots = self.keys.as_ref().map_or(0, |keys| keys.committed + need.records);
        let footer = footer_room_bytes(records as u64, slots as u64);
        let total = self.end.saturating_add(need.bytes).saturating_add(footer);
        total <= self.capacity && records <= SEGMENT_RECORDS_MAX
    }

    /// Creates the files: see docs/archive.md, "Rotate". `slot_bytes`: of the key file, if there is to
    /// be one.
    ///
    /// # Errors
    /// `Full` (and then nothing is left of the files), `Io`.
    pub fn create<D: Disk<File = F>>(
        disk: &mut D,
        archive: [u8; 16],
        id: SegmentId,
        bytes: u64,
        need: Need,
        slot_bytes: Option<u32>,
    ) -> Result<Self, ArchiveError> {
        let name = id.open_name();
        let slots = if slot_bytes.is_some() { need.records } else { 0 };
        let footer = footer_room_bytes(need.records as u64, slots as u64);
        // A record longer than a segment gets a segment of its own: it never straddles two.
        let capacity = bytes.max((HEADER_BYTES as u64).saturating_add(need.bytes) + footer);
        // Step 3: the bytes are set aside.
        let file = disk
            .create_preallocated(&name, capacity)
            .map_err(|error| full_or_io(disk, "create", &name, capacity, error))?;
        let created = Self::write_headers(disk, archive, id, &file, slot_bytes);
        let (header, keys) = match created {
            Ok(created) => created,
            Err(full @ ArchiveError::Full { .. }) => {
                let _ = disk.remove(&id.keys_name());
                let _ = disk.remove(&name);
                return Err(full);
            }
            Err(error) => return Err(error),
        };
        let (table, leaves, end) = (BTreeMap::new(), Frontier::default(), HEADER_BYTES as u64);
        Ok(Self { id, file, header, table, end, keys, leaves, sealed: Vec::new(), capacity })
    }

    /// Step 4: headers and names are durable before any record is written.
    fn write_headers<D: Disk<File = F>>(
        disk: &mut D,
        archive: [u8; 16],
        id: SegmentId,
        file: &F,
        slot_bytes: Option<u32>,
    ) -> Result<([u8; HEADER_BYTES], Option<KeyFile<F>>), ArchiveError> {
        let name = id.open_name();
        let io = |error| ArchiveError::io("create", &name, error);
        let created_ns = disk.modified_ns(file).map_err(io)?;
        let segment_header = SegmentHeader { archive, segment: id, created_ns }.encode();
        disk.write_at(file, 0, &[IoSlice::new(&segment_header)]).map_err(io)?;
        disk.sync_data(file).map_err(io)?;
        let mut keys = None;
        if let Some(slot_bytes) = slot_bytes {
            let name = id.keys_name();
            let header = SidecarHeader { archive, segment: id, slot_bytes, listed: 0 };
            let file = disk
                .create_preallocated(&name, 0)
                .map_err(|error| full_or_io(disk, "create", &name, 64, error))?;
            disk.write_at(&file, 0, &[IoSlice::new(&header.encode())])
                .map_err(|error| full_or_io(disk, "write", &name, 64, error))?;
            let io = |error| ArchiveError::io("create", &name, error);
            disk.sync_data(&file).map_err(io)?;
            let (hashes, unwritten, committed) = (Vec::new(), Vec::new(), 0);
            keys = Some(KeyFile { file, header, hashes, unwritten, committed });
        }
        disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
        Ok((segment_header, keys))
    }

    /// Writes a group behind the durable records and makes it durable: "Commit", steps 2–5.
    /// `scratch`: memory for the sealed bytes.
    ///
    /// # Errors
    /// `Full`: the segment can go on. `Io`: it must not be written again. `Sealing`.
    pub fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        archive: [u8; 16],
        group: &Group,
        keys: Option<&mut CallKeys>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        assert!(self.fits(group.need_with(0)), "a group is written where it fits");
        let name = self.id.open_name();
        self.seal_group(disk, archive, group, keys, scratch)?;
        // Step 2: the slots of new keys are durable.
        if let Some(keys) = &mut self.keys {
            keys.write(disk)?;
        }
        // Step 3: one write.
        disk.write_at(&self.file, self.end, &[IoSlice::new(scratch)])
            .map_err(|error| full_or_io(disk, "write", &name, scratch.len() as u64, error))?;
        // Step 4: one sync.
        disk.sync_data(&self.file).map_err(|error| ArchiveError::io("sync", &name, error))?;
        // Step 5: now, and not before, the records count.
        let entries = std::mem::take(&mut self.sealed);
        if let Some(keys) = &mut self.keys {
            keys.committed = keys.hashes.len();
        }
        for entry in &entries {
            let start = usize::try_from(entry.offset - self.end).unwrap_or(usize::MAX);
            let span = usize::try_from(record_span_bytes(entry.stored_len)).unwrap_or(0);
            let bytes = scratch.get(start..start.saturating_add(span)).unwrap_or_default();
            self.leaves.push(leaf_hash(&[bytes]));
            self.table.insert((entry.call, entry.sequence), *entry);
        }
        self.end = self.end.saturating_add(scratch.len() as u64);
        Ok(())
    }

    /// Encodes and seals what of a group is not in `scratch` yet.
    fn seal_group<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        archive: [u8; 16],
        group: &Group,
        mut keys: Option<&mut CallKeys>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        let done = self.sealed.last().map_or(0, |last| {
            last.offset.saturating_add(record_span_bytes(last.stored_len)).saturating_sub(self.end)
        });
        scratch.truncate(usize::try_from(done).unwrap_or(0));
        let broken = || ArchiveError::Sealing { reason: "a record cannot be sealed".to_owned() };
        for (record, start) in group.records.iter().skip(self.sealed.len()) {
            let packed = group.packed(record, *start);
            let entry = match (keys.as_deref_mut(), &mut self.keys) {
                (Some(keys), Some(file)) => {
                    let epoch = keys.key(disk, record.call, purpose_of(record.kind))?;
                    let slot_bytes = file.header.slot_bytes;
                    let (slot, new) = epoch.place(self.id, file.next(), slot_bytes)?;
                    if let Some(new) = new {
                        file.add(&new);
                    }
                    let counter = epoch.counter().ok_or_else(broken)?;
                    let seal = RecordSeal { slot, counter };
                    let with = SealWith { key: &epoch.key, seal, archive };
                    encode_record(scratch, *record, packed, Some(&with))
                }
                _ => encode_record(scratch, *record, packed, None),
            };
            let entry = entry.ok_or_else(broken)?;
            let offset = entry.offset.saturating_add(self.end);
            self.sealed.push(TableEntry { offset, ..entry });
        }
        Ok(())
    }

    /// Ends the segment well: "Seal". On an error the file stays as an open one.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub fn seal<D: Disk<File = F>>(
        &self,
        disk: &mut D,
        chain: &mut Chain,
    ) -> Result<(), ArchiveError> {
        if let Some(keys) = &self.keys {
            keys.cut(disk)?;
        }
        let slots: &[Hash] = self
            .keys
            .as_ref()
            .map_or(&[], |keys| keys.hashes.get(..keys.written()).unwrap_or_default());
        let contents = Contents {
            segment: self.id,
            header: self.header,
            end: self.end,
            table: encode_table(self.table.values()),
            leaves: &self.leaves,
            slots,
        };
        chain.seal(disk, &self.file, &contents)
    }

    /// Removes a segment to which nothing was ever committed: keys first, so that no key file is left
    /// alone.
    pub fn remove<D: Disk<File = F>>(self, disk: &mut D) -> Result<(), ArchiveError> {
        remove_segment(disk, self.id)
    }
}

/// Removes the files of a segment that holds nothing.
pub(super) fn remove_segment<D: Disk>(disk: &mut D, id: SegmentId) -> Result<(), ArchiveError> {
    let io = |error| ArchiveError::io("remove", &id.open_name(), error);
    remove_if_there(disk, &id.keys_name()).map_err(io)?;
    disk.remove(&id.open_name()).map_err(io)?;
    disk.sync_dir(SEGMENTS_DIR).map_err(io)
}

/// `Full` with the numbers that help, or `Io`.
pub(super) fn full_or_io<D: Disk>(
    disk: &D,
    op: &'static str,
    name: &str,
    needed: u64,
    error: io::Error,
) -> ArchiveError {
    if is_full(&error) {
        return ArchiveError::Full { needed, free: disk.free_bytes().unwrap_or(0) };
    }
    ArchiveError::io(op, name, error)
}
