//! Reading an archive, while another process may write to it.
//!
//! Purpose: list calls from the index, and read a call's records from the segments.
//! Invariants: it never writes to a segment and needs no lock; a record is handed out only if its
//! CRC is right; records come by sequence, each once.
//! Non-goals: checking what nobody asked for (see `verify`).
//! Sources: docs/archive.md, "Read".

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::disk::Disk;
use super::error::{ArchiveError, SegmentFault};
use super::evidence::{self, SegmentEvidence};
use super::footer::{Footer, decode_trailer};
use super::index::{Index, IndexKey, IndexedCall, Query};
use super::manifest::Manifest;
use super::mmap::map_sealed;
use super::recipients::Identities;
use super::record::StoredRecord;
use super::recover::list_segments;
use super::scan::{Visit, Wanted, check_entry, check_header, entry_bytes, scan_call, sealed_table};
use super::secret::BoxKey;
use super::segment::{RecordKind, SegmentId, SegmentState};
use super::unseal::{Unsealer, no_box_key};
use super::{DiskOs, footer};
use crate::base::CallId;

/// One record of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// What it holds.
    pub kind: RecordKind,
    /// Position among the call's records.
    pub sequence: u32,
    /// What was appended, decompressed.
    pub body: Vec<u8>,
}

/// How large an archive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of its segment files; an open one counts with its preallocated length.
    pub bytes: u64,
    /// Segments, the open one included.
    pub segments: u64,
}

/// An archive to read from.
pub struct Archive {
    disk: DiskOs,
    index: Index,
    manifest: Manifest,
    id: [u8; 16],
    unsealer: Unsealer,
}

impl Archive {
    /// Opens the archive in the directory `path`, without a lock. `box_key`: what a sealed one needs to
    /// be listed and shown.
    ///
    /// # Errors
    /// `NotInitialised`, `VersionUnknown`, `BadManifest`, `Keys`, `IndexUnusable`, `Io`.
    pub fn open(path: &Path, box_key: Option<&BoxKey>) -> Result<Self, ArchiveError> {
        let disk = DiskOs::new(path);
        let manifest = Manifest::read(&disk)?;
        let id = manifest.archive_id().unwrap_or_default();
        let index_key = index_key(&manifest, box_key)?;
        let index = Index::open_reader(&disk.index_place(), &disk.place(), index_key.as_ref())?;
        let unsealer = Unsealer::new(id, box_key.cloned(), manifest.recipients.clone());
        Ok(Self { disk, index, manifest, id, unsealer })
    }

    /// Adds identities, so that sound can be read too.
    pub fn unlock(&mut self, identities: Identities) {
        self.unsealer.set_identities(identities);
    }

    /// What `archive.toml` says.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Calls that match, oldest first by (start, id); with a limit the newest so many.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn calls(&self, query: &Query) -> Result<Vec<IndexedCall>, ArchiveError> {
        self.index.calls(query)
    }

    /// One call by its id.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn call(&self, id: CallId) -> Result<Option<IndexedCall>, ArchiveError> {
        self.index.call(id)
    }

    /// Calls with a dialog of this Call-ID, oldest first (replaying a file adds new calls).
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn calls_by_sip_call_id(&self, call_id: &str) -> Result<Vec<IndexedCall>, ArchiveError> {
        self.index.calls_by_sip_call_id(call_id)
    }

    /// Calls that `text` names, oldest first: the one with this id, else those with this Call-ID.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn find(&self, text: &str) -> Result<Vec<IndexedCall>, ArchiveError> {
        if let Ok(id) = text.parse() {
            if let Some(call) = self.call(id)? {
                return Ok(vec![call]);
            }
        }
        self.calls_by_sip_call_id(text)
    }

    /// Whether the archive holds any record of the call.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn exists(&self, id: CallId) -> Result<bool, ArchiveError> {
        self.index.exists(id)
    }

    /// The call's committed records of these kinds (none named: all), by sequence.
    ///
    /// # Errors
    /// `BadSegment`, `MissingSegment`, `Io`, `Index`, `IndexUnusable`.
    pub fn records(
        &self,
        id: CallId,
        kinds: &[RecordKind],
    ) -> Result<Vec<OwnedRecord>, ArchiveError> {
        let wanted = Wanted { call: id, kinds };
        match self.read_all(&wanted) {
            // Step 4: a segment may have been replaced between the look-up and its opening.
            Err(ArchiveError::MissingSegment { .. }) => self.read_all(&wanted),
            read => read,
        }
    }

    fn read_all(&self, wanted: &Wanted<'_>) -> Result<Vec<OwnedRecord>, ArchiveError> {
        let mut records = Vec::new();
        self.visit(wanted, &mut |segment, offset, record| {
            records.push(self.unsealer.open(&self.disk, segment, offset, record)?);
            Ok(())
        })?;
        // Step 5.
        Ok(sort_records(records))
    }

    /// How much sound of a call is archived, without opening any of it: the slot behind the last one,
    /// and the bytes of its packets.
    ///
    /// # Errors
    /// As `records`.
    pub fn audio_extent(&self, id: CallId) -> Result<(u32, u64), ArchiveError> {
        let wanted = Wanted { call: id, kinds: &[RecordKind::Audio] };
        let mut found = BTreeMap::new();
        self.visit(&wanted, &mut |_, _, record| {
            found.insert(record.header.sequence, (record.header.end_slot, record.header.body_len));
            Ok(())
        })?;
        let (mut end, mut bytes) = (0_u32, 0_u64);
        for (end_slot, body_len) in found.into_values() {
            // A slot's two lengths take 4 bytes, and a batch begins with 8.
            let slots = u64::from(end_slot.saturating_sub(end));
            bytes = bytes.saturating_add(u64::from(body_len).saturating_sub(8 + 4 * slots));
            end = end.max(end_slot);
        }
        Ok((end, bytes))
    }

    /// What proves a call's records, one part a segment, and the bytes of the records.
    ///
    /// # Errors
    /// `UnknownCall`, `NotSealedYet`, `NoIdentity`, `Erased`, `BadSegment`, `BadKeySlot`, `Io`, `Index`.
    pub fn evidence(&self, id: CallId) -> Result<(Vec<SegmentEvidence>, Vec<u8>), ArchiveError> {
        let (mut parts, mut bytes) = (Vec::new(), Vec::new());
        for (segment, _) in self.index.segments_of(id)? {
            let part = evidence::gather(&self.disk, segment, id, &self.unsealer, &mut bytes)?;
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(ArchiveError::UnknownCall { call: id });
        }
        Ok((parts, bytes))
    }

    fn visit(
        &self,
        wanted: &Wanted<'_>,
        visit: &mut dyn FnMut(SegmentId, u64, &StoredRecord<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        // Step 1: which segments.
        for (segment, committed) in self.index.segments_of(wanted.call)? {
            let visit = &mut |offset, record: &StoredRecord<'_>| visit(segment, offset, record);
            // Step 2: sealed, or still open.
            match self.visit_mapped(segment, wanted, visit) {
                Err(ArchiveError::MissingSegment { .. }) => {
                    visit_segment(&self.disk, segment, committed, wanted, visit)?;
                }
                visited => visited?,
            }
        }
        Ok(())
    }

    fn visit_mapped(
        &self,
        segment: SegmentId,
        wanted: &Wanted<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<(), ArchiveError> {
        let file = open_named(&self.disk, &segment.sealed_name())?;
        let Some(file) = file else { return Err(ArchiveError::MissingSegment { segment }) };
        let map = map_sealed(&file)
            .map_err(|error| ArchiveError::io("map", &segment.sealed_name(), error))?;
        check_header(&map, self.id, segment)?;
        let (offset, len_bytes) = footer_place(&map, segment)?;
        let end = offset.saturating_add(len_bytes);
        let bytes = map.get(offset..end).unwrap_or_default();
        let table = Footer::decode(bytes).map_err(|fault| fault.at(segment, offset as u64))?;
        for entry in table.entries_of(wanted.call) {
            if wanted.takes(entry.call, entry.kind) {
                let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
                let bytes = map.get(start..offset).unwrap_or_default();
                // Step 3: the CRC, and that it is the record which the row names.
                visit(entry.offset, &check_entry(bytes, &entry, segment)?)?;
            }
        }
        Ok(())
    }

    /// How large the archive is.
    ///
    /// # Errors
    /// `Io`.
    pub fn stats(&self) -> Result<Stats, ArchiveError> {
        let mut stats = Stats::default();
        for (segment, state) in list_segments(&self.disk)? {
            let names = [segment.open_name(), segment.sealed_name()];
            let [open, sealed] = &names;
            let name = if state == SegmentState::Open { open } else { sealed };
            // One that was sealed since the listing has its other name now.
            let mut file = open_named(&self.disk, name)?;
            if file.is_none() {
                file = open_named(&self.disk, sealed)?;
            }
            if let Some(file) = file {
                let len = self.disk.len_bytes(&file);
                let len = len.map_err(|error| ArchiveError::io("read", name, error))?;
                stats.bytes = stats.bytes.saturating_add(len);
                stats.segments += 1;
            }
        }
        Ok(stats)
    }
}

/// The key of an archive's index; `None` in a plaintext one.
///
/// # Errors
/// `Keys` when it is another archive's, or is not there.
pub(super) fn index_key(
    manifest: &Manifest,
    box_key: Option<&BoxKey>,
) -> Result<Option<IndexKey>, ArchiveError> {
    manifest.check_box_key(box_key)?;
    match box_key {
        _ if manifest.plaintext => Ok(None),
        None => Err(no_box_key()),
        Some(key) => Ok(Some(key.index_key())),
    }
}

fn footer_place(map: &[u8], segment: SegmentId) -> Result<(usize, usize), ArchiveError> {
    let start = map.len().saturating_sub(footer::TRAILER_BYTES);
    let trailer = map.get(start..).unwrap_or_default();
    let bad = || SegmentFault::Trailer.at(segment, start as u64);
    let (offset, len) = decode_trailer(trailer, map.len() as u64).map_err(|_| bad())?;
    Ok((usize::try_from(offset).map_err(|_| bad())?, usize::try_from(len).map_err(|_| bad())?))
}

fn open_named<D: Disk>(disk: &D, name: &str) -> Result<Option<D::File>, ArchiveError> {
    match disk.open_read(name) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ArchiveError::io("open", name, error)),
    }
}

/// Visits the wanted records of one segment, open or sealed, read through `Disk`.
pub(super) fn visit_segment<D: Disk>(
    disk: &D,
    segment: SegmentId,
    committed: u64,
    wanted: &Wanted<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), ArchiveError> {
    // Open first: a segment is sealed at any time, and never opened again.
    if let Some(file) = open_named(disk, &segment.open_name())? {
        return scan_call(disk, &file, segment, committed, wanted, visit);
    }
    let Some(file) = open_named(disk, &segment.sealed_name())? else {
        return Err(ArchiveError::MissingSegment { segment });
    };
    let (entries, _) = sealed_table(disk, &file, segment)?;
    for entry in entries.iter().filter(|entry| wanted.takes(entry.call, entry.kind)) {
        let bytes = entry_bytes(disk, &file, segment, entry)?;
        visit(entry.offset, &check_entry(&bytes, entry, segment)?)?;
    }
    Ok(())
}

/// By sequence, each once: after a failed sync the same record may stand in two segments.
pub(super) fn sort_records(mut records: Vec<OwnedRecord>) -> Vec<OwnedRecord> {
    records.sort_by_key(|record| record.sequence);
    records.dedup_by_key(|record| record.sequence);
    records
}
