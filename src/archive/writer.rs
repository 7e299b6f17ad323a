//! The one writer of an archive.
//!
//! Purpose: append records of many calls, make them durable in groups, and index them.
//! Invariants: what `commit` acknowledged is durable; a record never straddles two segments; a
//! record whose `append` or `commit` failed is not lost before the caller gives up on it; a segment
//! whose sync failed is never written again.
//! Non-goals: deciding when to commit, and threads: whoever owns the writer calls it.
//! Sources: docs/archive.md, "Append", "Commit", "Rotate", "Seal".

use std::collections::HashMap;
use std::io;

use foldhash::fast::RandomState;

use super::body::AudioBatch;
use super::box_keys::BoxKeys;
use super::call_keys::{CallKeys, Sealing, purpose_of};
use super::chain::{Chain, Clock, ClockReading};
use super::cipher::TAG_BYTES;
use super::curator::purge_erased;
use super::disk::Disk;
use super::error::ArchiveError;
use super::index::{Batch, Index, IndexedCall};
use super::index_row::CallRow;
use super::manifest::Manifest;
use super::open_segment::{Group, OpenSegment};
use super::reader::{OwnedRecord, sort_records, visit_segment};
use super::recipients::Identities;
use super::record::{Packed, RecordHeader, StoredRecord, pack, record_span_bytes, unpack};
use super::recover::{RecoveredSegment, catch_up, is_summary, list_segments, recover};
use super::scan::{Wanted, check_entry, entry_bytes};
use super::segment::{Compression, RecordKind, SegmentId, SegmentState};
use super::tombstone_file::TombstoneFile;
use super::unseal::Unsealer;
use crate::base::CallId;
use crate::base::limits::{
    COMMIT_BYTES_MAX, INDEX_PENDING_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES, SEGMENT_RECORDS_MAX,
};

/// How to write.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// The keys of the box.
    pub keys: BoxKeys,
    /// What time it is when a segment is sealed.
    pub clock: Clock,
}

impl WriterOptions {
    /// Segments of the usual size, sealed at a time that nobody knows.
    #[must_use]
    pub fn new(keys: BoxKeys) -> Self {
        Self { segment_bytes: SEGMENT_BYTES, keys, clock: ClockReading::default }
    }
}

/// What opening found of an earlier process that ended early.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Unsealed segments, now sealed.
    pub segments: Vec<RecoveredSegment>,
    /// Segments whose header is damaged or another archive's: left as they are, and not indexed.
    pub unreadable: Vec<SegmentId>,
    /// Segments that the index did not know whole and that were read into it again.
    pub reindexed_segments: u64,
    /// Calls that were going on when the earlier process ended, oldest first.
    pub ongoing: Vec<IndexedCall>,
}

/// Where a record will stand once its group is committed; after a failed sync it stands elsewhere,
/// but keeps its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAddress {
    /// The segment.
    pub segment: SegmentId,
    /// Of the record's header, in bytes from the segment's start.
    pub offset: u64,
    /// Position among the call's records.
    pub sequence: u32,
}

/// Whether the index shows what was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexState {
    /// It does.
    #[default]
    Current,
    /// SQLite refused; the rows are kept and offered again at the next commit.
    Behind,
}

/// What became durable since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Bytes of records, headers and padding included.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Segments given up because a write, sync or seal failed; their records are safe.
    pub failed_segments: u64,
    /// Whether the index shows them.
    pub index: IndexState,
}

/// The one writer.
pub struct Writer<D: Disk> {
    disk: D,
    index: Index,
    archive: [u8; 16],
    segment_bytes: u64,
    /// The keys of calls; `None` in a plaintext archive.
    keys: Option<CallKeys>,
    /// Opens metadata, and nothing else.
    unsealer: Unsealer,
    chain: Chain,
    open: Option<OpenSegment<D::File>>,
    /// Memory for a group's sealed bytes.
    scratch: Vec<u8>,
    next_segment: u64,
    group: Group,
    /// Rows of the group's summaries; they wait for its commit.
    group_rows: Vec<CallRow>,
    /// The next sequence of each call with records in the open segment, and perhaps of others.
    sequences: HashMap<CallId, u32, RandomState>,
    /// What is durable but not in the index yet.
    pending: Batch,
    /// Once rows were dropped, no segment of this process is marked as sealed in the index.
    index_lost: bool,
    report: Committed,
}

impl<D: Disk> Writer<D> {
    /// Takes the lock and makes the archive ready: see docs/archive.md, "Open after a kill".
    ///
    /// # Errors
    /// `NotInitialised`, `Locked`, `VersionUnknown`, `BadManifest`, `Keys`, `Sealing`,
    /// `IndexUnusable`, `Full`, `Io`, `Index`. A segment that cannot be read is no error but reported.
    pub fn open(mut disk: D, options: WriterOptions) -> Result<(Self, Recovered), ArchiveError> {
        // Step 1: an archive whose keys these are, and nobody else who writes to it.
        let manifest = Manifest::read(&disk)?;
        let WriterOptions { segment_bytes, keys, clock } = options;
        manifest.check_keys(&keys)?;
        let archive = manifest.archive_id().unwrap_or_default();
        take_lock(&mut disk)?;
        // Nobody is a recipient again because an older archive.toml was put back.
        let tombstones = TombstoneFile::load(&disk, archive, Some(&manifest.verifying_key()?))?;
        let (manifest, _) = Manifest::current(&disk, tombstones.tombstones())?;
        let BoxKeys { signing, box_key } = keys;
        // Step 2: the index.
        let index_key = (!manifest.plaintext).then(|| box_key.index_key());
        let index = Index::open_writer(&disk.index_place(), &disk.place(), index_key.as_ref())?;
        let mut call_keys = None;
        if !manifest.plaintext {
            let sealing = Sealing { box_key: box_key.clone(), recipients: manifest.recipients()? };
            call_keys = Some(CallKeys::new(sealing, archive)?);
        }
        let chain = Chain::load(&disk, archive, signing, clock)?;
        let unsealer = Unsealer::new(archive, Some(box_key), manifest.recipients.clone());
        let mut writer = Self {
            disk,
            index,
            archive,
            segment_bytes,
            keys: call_keys,
            unsealer,
            chain,
            open: None,
            scratch: Vec::new(),
            next_segment: 1,
            group: Group::default(),
            group_rows: Vec::new(),
            sequences: HashMap::default(),
            pending: Batch::default(),
            index_lost: false,
            report: Committed::default(),
        };
        purge_erased(&mut writer.index, tombstones.tombstones())?;
        let recovered = writer.recover()?;
        Ok((writer, recovered))
    }

    /// Steps 3 to 7 of "Open after a kill".
    fn recover(&mut self) -> Result<Recovered, ArchiveError> {
        let known = self.index.segments()?;
        let mut recovered = Recovered::default();
        let listed = list_segments(&self.disk)?;
        for (segment, state) in &listed {
            let segment = *segment;
            // A finished segment is never replaced by an open file of the same number.
            let is_finished = listed.contains(&(segment, SegmentState::Sealed));
            if is_finished && *state == SegmentState::Open {
                recovered.unreadable.push(segment);
            } else if *state == SegmentState::Open {
                // Steps 3 to 6.
                match recover(&mut self.disk, self.archive, segment, &mut self.chain) {
                    // One bad file must not keep today's calls from being recorded.
                    Err(ArchiveError::BadSegment { .. }) => {}
                    sealed => recovered.segments.extend(sealed?),
                }
            }
        }
        let mut listed = list_segments(&self.disk)?;
        if let Some((last, _)) = listed.last() {
            self.next_segment = self.next_segment.max(last.0.saturating_add(1));
        }
        // What cannot be sealed is not read either.
        listed.retain(|(segment, state)| {
            *state == SegmentState::Sealed || !recovered.unreadable.contains(segment)
        });
        // Step 7: what the index does not know whole is read into it.
        let (disk, index) = (&self.disk, &mut self.index);
        let caught = catch_up(disk, index, self.archive, &listed, &self.unsealer)?;
        recovered.reindexed_segments = caught.segments;
        recovered.unreadable.extend(caught.unreadable);
        if let Some((last, _)) = known.last_key_value() {
            self.next_segment = self.next_segment.max(last.0.saturating_add(1));
        }
        recovered.ongoing = self.index.ongoing()?;
        Ok(recovered)
    }

    /// Takes one record into the group that the next `commit` makes durable. CallOpened and Summary
    /// bodies are JSON (`call::CallSummary`).
    ///
    /// A full segment is committed, sealed and followed by a new one first.
    ///
    /// # Errors
    /// `RecordTooLong`, `TooManyRecords`, `BadSummary`, `Full`, `Io`, `Index`: this record was not
    /// taken; those before it still wait, or are durable.
    pub fn append(
        &mut self,
        call: CallId,
        kind: RecordKind,
        body: &[u8],
        compress: Compression,
    ) -> Result<RecordAddress, ArchiveError> {
        // Step 1: what cannot be stored is refused.
        if body.len() > RECORD_BYTES_MAX {
            return Err(ArchiveError::RecordTooLong { call, len_bytes: body.len() });
        }
        let sequence = self.next_sequence(call)?;
        let after = sequence.checked_add(1).ok_or(ArchiveError::TooManyRecords { call })?;
        let row =
            if is_summary(kind) { Some(CallRow::from_body(call, sequence, body)?) } else { None };
        let (packed, compression) = pack(body, compress);
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (body_len, packed_len) = (len(body), len(&packed));
        let tag_len = if self.keys.is_some() { TAG_BYTES } else { 0 };
        let stored_len = packed_len.saturating_add(u32::try_from(tag_len).unwrap_or(0));
        // Step 2: room for the record and its row.
        let (segment, end) = self.make_room(record_span_bytes(stored_len))?;
        // Step 3: the record joins the group.
        let offset = end.saturating_add(self.group.span_bytes);
        let end_slot = end_slot(kind, body);
        let record = Packed { call, kind, sequence, compression, body_len, packed_len, end_slot };
        self.group.push(record, &packed, stored_len);
        self.group_rows.extend(row);
        self.sequences.insert(call, after);
        Ok(RecordAddress { segment, offset, sequence })
    }

    /// Makes everything appended so far durable and visible to readers: see "Commit".
    ///
    /// # Errors
    /// `Full`, `Io`: the records still wait, and a later `commit` tries again elsewhere.
    pub fn commit(&mut self) -> Result<Committed, ArchiveError> {
        self.commit_group()?;
        self.publish();
        Ok(std::mem::take(&mut self.report))
    }

    /// Bytes that wait for `commit`.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        usize::try_from(self.group.span_bytes).unwrap_or(usize::MAX)
    }

    /// Commits and seals the open segment: at SIGTERM, and at the end of a replay.
    ///
    /// # Errors
    /// As `commit`. What was committed before is sealed even when the last commit fails; an error
    /// of the sealing itself leaves the segment for the next opening to seal.
    pub fn seal(&mut self) -> Result<Committed, ArchiveError> {
        let committed = self.commit_group();
        let sealed = match self.open.take() {
            Some(open) => self.seal_segment(open),
            None => Ok(()),
        };
        self.publish();
        committed?;
        sealed?;
        Ok(std::mem::take(&mut self.report))
    }

    /// Whether the call has any record, committed or waiting.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn exists(&self, call: CallId) -> Result<bool, ArchiveError> {
        Ok(self.sequences.contains_key(&call) || self.index.exists(call)?)
    }

    /// All records of a call so far, those that still wait included, by sequence.
    ///
    /// # Errors
    /// `BadSegment`, `MissingSegment`, `Io`, `Index`.
    pub fn read_call(&self, call: CallId) -> Result<Vec<OwnedRecord>, ArchiveError> {
        self.read_call_kinds(call, &[])
    }

    /// The records of these kinds (none named: all) of a call so far, by sequence.
    ///
    /// # Errors
    /// As `read_call`.
    pub fn read_call_kinds(
        &self,
        call: CallId,
        kinds: &[RecordKind],
    ) -> Result<Vec<OwnedRecord>, ArchiveError> {
        let wanted = Wanted { call, kinds };
        let mut records = Vec::new();
        let mut segments = self.index.segments_of(call)?;
        // What the index has not taken yet is known here.
        for (seen, segment) in self.pending.last_sequences.keys() {
            let missing = segments.iter().all(|(known, _)| known != segment);
            if *seen == call && missing {
                let end = self.pending.segments.get(segment).map_or(0, |(_, end)| *end);
                segments.push((*segment, end));
            }
        }
        let open_id = self.open.as_ref().map(|open| open.id);
        for (segment, committed) in segments {
            // A segment that grew since the index was told, and was given up then.
            let committed = self.pending.segments.get(&segment).map_or(committed, |(_, end)| *end);
            if Some(segment) != open_id {
                visit_segment(&self.disk, segment, committed, &wanted, &mut |offset, record| {
                    records.push(self.open_record(segment, offset, record)?);
                    Ok(())
                })?;
            }
        }
        if let Some(open) = &self.open {
            for (_, entry) in open.table.range((call, 0)..=(call, u32::MAX)) {
                if wanted.takes(entry.call, entry.kind) {
                    let bytes = entry_bytes(&self.disk, &open.file, open.id, entry)?;
                    let record = check_entry(&bytes, entry, open.id)?;
                    records.push(self.open_record(open.id, entry.offset, &record)?);
                }
            }
        }
        for (record, start) in &self.group.records {
            if wanted.takes(record.call, record.kind) {
                let packed = self.group.packed(record, *start);
                let body = unpack(packed, record.compression, record.body_len);
                let segment = open_id.unwrap_or(SegmentId(self.next_segment));
                let body = body.map_err(|fault| fault.at(segment, 0))?;
                let (kind, sequence) = (record.kind, record.sequence);
                records.push(OwnedRecord { kind, sequence, body });
            }
        }
        Ok(sort_records(records))
    }

    /// Opens a record. Sound opens with the key that the writer still has, as long as the call goes on.
    fn open_record(
        &self,
        segment: SegmentId,
        offset: u64,
        record: &StoredRecord<'_>,
    ) -> Result<OwnedRecord, ArchiveError> {
        let RecordHeader { call, kind, sequence, .. } = record.header;
        let present = self.keys.as_ref().and_then(|keys| keys.present(call, purpose_of(kind)));
        match record.open(self.archive, present) {
            Ok(body) => Ok(OwnedRecord { kind, sequence, body }),
            Err(_) => self.unsealer.open(&self.disk, segment, offset, record),
        }
    }

    /// Adds identities, so that the sound of calls that have ended can be read too: recording needs
    /// none.
    pub fn unlock(&mut self, identities: Identities) {
        self.unsealer.set_identities(identities);
    }

    /// True when what is written can be read by whoever has the files.
    #[must_use]
    pub const fn is_plaintext(&self) -> bool {
        self.keys.is_none()
    }

    /// The newest checkpoint: a signed note, to be kept off the box. `None` before the first segment
    /// is finished.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&str> {
        self.chain.newest()
    }

    /// The disk, for what the operator watches (free bytes).
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    fn next_sequence(&self, call: CallId) -> Result<u32, ArchiveError> {
        if let Some(next) = self.sequences.get(&call) {
            return Ok(*next);
        }
        // The index is asked at each rotation, so only one that fails lets the map grow like this.
        if self.sequences.len() > PENDING_MAX {
            let place = self.disk.place();
            return Err(ArchiveError::IndexUnusable { reason: "damaged", place });
        }
        // A call of an earlier segment or process; a wrong 0 here would hide its first record.
        let last = self.index.last_sequence(call)?;
        last.map_or(Ok(0), |last| last.checked_add(1).ok_or(ArchiveError::TooManyRecords { call }))
    }

    /// Makes sure that the group and one record more fit; returns where the group will begin.
    fn make_room(&mut self, span: u64) -> Result<(SegmentId, u64), ArchiveError> {
        let too_long = self.group.need_with(span).bytes > COMMIT_BYTES_MAX as u64;
        let full = |writer: &Self| {
            let need = writer.group.need_with(span);
            writer.open.as_ref().is_some_and(|open| !open.fits(need))
        };
        if too_long || full(self) {
            // "Rotate", step 1: nothing waits any more.
            self.commit_group()?;
        }
        if full(self) {
            // "Rotate", step 2; a seal that fails is made up for by the next opening.
            if let Some(open) = self.open.take() {
                let _counted = self.seal_segment(open);
                self.publish();
            }
        }
        self.open_segment(span)
    }

    /// The open segment and its end; a new one if there is none.
    fn open_segment(&mut self, span: u64) -> Result<(SegmentId, u64), ArchiveError> {
        if self.open.is_none() {
            let id = SegmentId(self.next_segment);
            let need = self.group.need_with(span);
            // The number is spent even if it fails: a file may have been left under it.
            self.next_segment = self.next_segment.saturating_add(1);
            let slot_bytes = self.keys.as_ref().map(|keys| keys.slot_bytes);
            let (disk, archive, bytes) = (&mut self.disk, self.archive, self.segment_bytes);
            self.open = Some(OpenSegment::create(disk, archive, id, bytes, need, slot_bytes)?);
        }
        let open = self.open.as_ref();
        Ok(open.map_or((SegmentId(0), 0), |open| (open.id, open.end)))
    }

    /// "Commit", steps 1 to 4. On an error the group is as it was.
    fn commit_group(&mut self) -> Result<(), ArchiveError> {
        // Step 1: nothing to do for an empty group.
        if self.group.records.is_empty() {
            return Ok(());
        }
        match self.write_group() {
            Err(ArchiveError::Io { .. }) => {
                // The segment has been given up; once, the group goes to a fresh one.
                self.write_group()
            }
            written => written,
        }
    }

    fn write_group(&mut self) -> Result<(), ArchiveError> {
        self.open_segment(0)?;
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let is_new = |call| open.table.range((call, 0)..=(call, u32::MAX)).next().is_none();
        let records = self.group.records.iter().map(|(record, _)| record);
        let new: Vec<_> = records.filter(|record| is_new(record.call)).copied().collect();
        let keys = self.keys.as_mut();
        let written =
            open.write(&mut self.disk, self.archive, &self.group, keys, &mut self.scratch);
        match written {
            Ok(()) => {}
            Err(error @ (ArchiveError::Full { .. } | ArchiveError::Sealing { .. })) => {
                self.open = Some(open);
                return Err(error);
            }
            Err(error) => {
                self.give_up(&open);
                return Err(error);
            }
        }
        // That a call is in this segment is told once; its last sequence when the segment ends.
        for record in new {
            self.pending.saw(record.call, open.id, record.sequence);
        }
        for row in self.group_rows.drain(..) {
            // Nothing more is expected of a call that has ended: its keys go.
            if let Some(keys) = self.keys.as_mut().filter(|_| row.state != "ongoing") {
                keys.forget(row.call);
            }
            self.pending.add_row(row);
        }
        self.pending.segments.insert(open.id, (SegmentState::Open, open.end));
        self.report.bytes = self.report.bytes.saturating_add(self.scratch.len() as u64);
        self.report.records = self.report.records.saturating_add(self.group.records.len() as u64);
        self.group.clear();
        self.open = Some(open);
        Ok(())
    }

    /// Leaves a segment to the next opening, which scans and seals it.
    fn give_up(&mut self, open: &OpenSegment<D::File>) {
        self.report.failed_segments = self.report.failed_segments.saturating_add(1);
        self.end_segment(open, SegmentState::Open);
    }

    /// Tells the index what it needs once a segment does not grow any more.
    fn end_segment(&mut self, open: &OpenSegment<D::File>, state: SegmentState) {
        self.pending.segments.insert(open.id, (state, open.end));
        for (call, sequence) in open.table.keys() {
            self.pending.saw(*call, open.id, *sequence);
        }
    }

    fn seal_segment(&mut self, open: OpenSegment<D::File>) -> Result<(), ArchiveError> {
        if open.table.is_empty() {
            // Nothing was ever committed to it: the next opening removes it, or we do.
            return open.remove(&mut self.disk);
        }
        let sealed = open.seal(&mut self.disk, &mut self.chain);
        if sealed.is_err() {
            self.give_up(&open);
            return sealed;
        }
        let state = if self.index_lost { SegmentState::Open } else { SegmentState::Sealed };
        self.end_segment(&open, state);
        Ok(())
    }

    /// "Commit", step 6: the index shows what is durable. A refusal is no loss: the segments have it.
    fn publish(&mut self) {
        if self.index.apply(&self.pending).is_ok() {
            self.pending.clear();
            self.report.index = IndexState::Current;
            // The index now knows every sequence, unless rows were dropped or records wait.
            if self.open.is_none() && self.group.records.is_empty() && !self.index_lost {
                self.sequences.clear();
            }
            return;
        }
        self.report.index = IndexState::Behind;
        if self.pending.rows.len().max(self.pending.last_sequences.len()) > PENDING_MAX {
            self.pending.clear();
            self.index_lost = true;
        }
    }
}

/// Rows for the index: of calls, and of a full segment's calls.
const PENDING_MAX: usize = INDEX_PENDING_MAX + SEGMENT_RECORDS_MAX;

/// The slot behind the last one of a record of sound.
fn end_slot(kind: RecordKind, body: &[u8]) -> u32 {
    let sound = matches!(kind, RecordKind::Audio | RecordKind::SpillDone);
    let batch = if sound { AudioBatch::parse(body) } else { None };
    batch.map_or(0, |batch| batch.first_slot.saturating_add(batch.slots))
}

/// Takes the writer's lock.
pub(super) fn take_lock<D: Disk>(disk: &mut D) -> Result<(), ArchiveError> {
    disk.lock(super::LOCK_NAME).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            return ArchiveError::Locked { place: disk.place() };
        }
        ArchiveError::io("lock", super::LOCK_NAME, error)
    })
}
