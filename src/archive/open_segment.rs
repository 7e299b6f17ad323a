//! The one segment that grows, and the group of records that waits for its commit.
//!
//! Purpose: create, append to and seal a segment file in the order that survives a kill.
//! Invariants: `end` covers durable records only; room for the footer is kept inside the
//! preallocated file, so a full disk cannot keep a segment from being sealed.
//! Non-goals: when to do which (see `writer`).
//! Sources: docs/archive.md, "Commit", "Seal", "Rotate".

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use super::SEGMENTS_DIR;
use super::disk::{Disk, is_full};
use super::error::ArchiveError;
use super::footer::{TableEntry, encode_footer, footer_span_bytes};
use super::segment::{HEADER_BYTES, SegmentHeader, SegmentId};
use crate::base::CallId;
use crate::base::limits::SEGMENT_RECORDS_MAX;

/// Encoded records that are not committed yet; offsets count from the group's first byte.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub bytes: Vec<u8>,
    pub entries: Vec<TableEntry>,
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
        let bytes = (self.bytes.len() as u64).saturating_add(span_bytes);
        Need { bytes, records: self.entries.len() + usize::from(span_bytes > 0) }
    }
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct OpenSegment<F> {
    pub id: SegmentId,
    pub file: F,
    /// Its durable records, as the footer will list them.
    pub table: BTreeMap<(CallId, u32), TableEntry>,
    /// Where the durable records end.
    pub end: u64,
    capacity: u64,
}

impl<F> OpenSegment<F> {
    /// True when the footer still fits behind what is needed.
    pub fn fits(&self, need: Need) -> bool {
        let records = self.table.len().saturating_add(need.records);
        let footer = footer_span_bytes(records as u64);
        let total = self.end.saturating_add(need.bytes).saturating_add(footer);
        total <= self.capacity && records <= SEGMENT_RECORDS_MAX
    }

    /// Creates the file: see docs/archive.md, "Rotate".
    ///
    /// # Errors
    /// `Full` (and then nothing is left of the file), `Io`.
    pub fn create<D: Disk<File = F>>(
        disk: &mut D,
        archive: [u8; 16],
        id: SegmentId,
        bytes: u64,
        need: Need,
    ) -> Result<Self, ArchiveError> {
        let name = id.open_name();
        let footer = footer_span_bytes(need.records as u64);
        // A record longer than a segment gets a segment of its own: it never straddles two.
        let capacity = bytes.max((HEADER_BYTES as u64).saturating_add(need.bytes) + footer);
        // Step 3: the bytes are set aside.
        let file = disk
            .create_preallocated(&name, capacity)
            .map_err(|error| full_or_io(disk, "create", &name, capacity, error))?;
        // Step 4: the header and the name are durable before any record is written.
        let io = |error| ArchiveError::io("create", &name, error);
        let created_ns = disk.modified_ns(&file).map_err(io)?;
        let header = SegmentHeader { archive, segment: id, created_ns }.encode();
        disk.write_at(&file, 0, &[IoSlice::new(&header)]).map_err(io)?;
        disk.sync_data(&file).map_err(io)?;
        disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
        Ok(Self { id, file, table: BTreeMap::new(), end: HEADER_BYTES as u64, capacity })
    }

    /// Writes a group behind the durable records and makes it durable: "Commit", steps 2–4.
    ///
    /// # Errors
    /// `Full`: the segment can go on. `Io`: it must not be written again.
    pub fn write<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        group: &Group,
    ) -> Result<(), ArchiveError> {
        assert!(self.fits(group.need_with(0)), "a group is written where it fits");
        let name = self.id.open_name();
        // Step 2: one write.
        disk.write_at(&self.file, self.end, &[IoSlice::new(&group.bytes)])
            .map_err(|error| full_or_io(disk, "write", &name, group.bytes.len() as u64, error))?;
        // Step 3: one sync.
        disk.sync_data(&self.file).map_err(|error| ArchiveError::io("sync", &name, error))?;
        // Step 4: now, and not before, the records count.
        for entry in &group.entries {
            let entry = TableEntry { offset: entry.offset.saturating_add(self.end), ..*entry };
            self.table.insert((entry.call, entry.sequence), entry);
        }
        self.end = self.end.saturating_add(group.bytes.len() as u64);
        Ok(())
    }

    /// Ends the segment well: "Seal". On an error the file stays as an open one.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub fn seal<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), ArchiveError> {
        seal_file(disk, &self.file, self.id, self.end, self.table.values())
    }
}

/// Steps 2–5 of "Seal", for a running writer and for what a kill left.
pub(super) fn seal_file<'e, D: Disk>(
    disk: &mut D,
    file: &D::File,
    id: SegmentId,
    end: u64,
    entries: impl ExactSizeIterator<Item = &'e TableEntry>,
) -> Result<(), ArchiveError> {
    let name = id.open_name();
    let footer = encode_footer(end, entries);
    let len_bytes = footer.len() as u64;
    // Step 2: the footer behind the last record; the file ends with it.
    disk.write_at(file, end, &[IoSlice::new(&footer)])
        .map_err(|error| full_or_io(disk, "write", &name, len_bytes, error))?;
    let io = |error| ArchiveError::io("seal", &name, error);
    disk.truncate(file, end.saturating_add(len_bytes)).map_err(io)?;
    // Step 3: both are durable.
    disk.sync_data(file).map_err(io)?;
    // Step 4: then the name says so.
    disk.rename(&name, &id.sealed_name()).map_err(io)?;
    // Step 5: and the name is durable.
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
