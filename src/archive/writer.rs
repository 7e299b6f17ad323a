//! The one writer of an archive.
//!
//! Purpose: append records of many calls, make them durable in groups, and index them.
//! Invariants: what `commit` acknowledged is durable; a record never straddles two segments; a
//! record whose `append` or `commit` failed is not lost before the caller gives up on it; a segment
//! whose sync failed is never written again.
//! Non-goals: deciding when to commit, and threads: whoever owns the writer calls it.
//! Sources: docs/archive.md, "Append", "Commit", "Rotate", "Seal".

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use foldhash::fast::RandomState;

use super::disk::Disk;
use super::error::ArchiveError;
use super::index::{Batch, Index, IndexedCall};
use super::index_row::CallRow;
use super::manifest::Manifest;
use super::open_segment::{Group, OpenSegment};
use super::reader::{OwnedRecord, read_segment, sort_records};
use super::recover::{RecoveredSegment, index_segment, is_summary, list_segments, recover};
use super::scan::{Wanted, read_entry};
use super::segment::{
    Compression, Record, RecordKind, SegmentId, SegmentState, decode_record, encode_record,
    record_span_bytes,
};
use crate::base::CallId;
use crate::base::limits::{
    COMMIT_BYTES_MAX, INDEX_PENDING_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES, SEGMENT_RECORDS_MAX,
};

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Bytes of a segment file.
    pub segment_bytes: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES }
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
    options: WriterOptions,
    open: Option<OpenSegment<D::File>>,
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
    /// `NotInitialised`, `Locked`, `VersionUnknown`, `BadManifest`, `IndexUnusable`, `Full`,
    /// `Io`, `Index`. A segment that cannot be read is no error but reported.
    pub fn open(mut disk: D, options: WriterOptions) -> Result<(Self, Recovered), ArchiveError> {
        // Step 1: an archive, and nobody else who writes to it.
        let manifest = Manifest::read(&disk)?;
        let archive = manifest.archive_id().unwrap_or_default();
        take_lock(&mut disk)?;
        // Step 2: the index.
        let mut index = Index::open_writer(&disk.index_place(), &disk.place(), None)?;
        let known = index.segments()?;
        let mut recovered = Recovered::default();
        for (segment, state) in list_segments(&disk)? {
            if state == SegmentState::Open {
                // Steps 3 to 5.
                match recover(&mut disk, archive, segment) {
                    // One bad file must not keep today's calls from being recorded.
                    Err(ArchiveError::BadSegment { .. }) => {}
                    sealed => recovered.segments.extend(sealed?),
                }
            }
        }
        let mut next_segment = 1;
        for (segment, state) in list_segments(&disk)? {
            next_segment = next_segment.max(segment.0.saturating_add(1));
            // Step 6: what the index does not know whole is read into it.
            if known.get(&segment) != Some(&SegmentState::Sealed) {
                match index_segment(&disk, &mut index, archive, segment, state) {
                    Ok(_) => recovered.reindexed_segments += 1,
                    Err(ArchiveError::BadSegment { .. }) => recovered.unreadable.push(segment),
                    Err(error) => return Err(error),
                }
            }
        }
        if let Some((last, _)) = known.last_key_value() {
            next_segment = next_segment.max(last.0.saturating_add(1));
        }
        recovered.ongoing = index.ongoing()?;
        let writer = Self {
            disk,
            index,
            archive,
            options,
            open: None,
            next_segment,
            group: Group::default(),
            group_rows: Vec::new(),
            sequences: HashMap::default(),
            pending: Batch::default(),
            index_lost: false,
            report: Committed::default(),
        };
        Ok((writer, recovered))
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
        // Step 2: room for the longest that the record can become, and for its row.
        let span = record_span_bytes(u32::try_from(body.len()).unwrap_or(u32::MAX));
        let (segment, end) = self.make_room(span)?;
        // Step 3: the record joins the group.
        let record = Record { call, kind, sequence, body: Cow::Borrowed(body) };
        let entry = encode_record(&mut self.group.bytes, &record, compress);
        self.group.entries.push(entry);
        self.group_rows.extend(row);
        self.sequences.insert(call, after);
        Ok(RecordAddress { segment, offset: end.saturating_add(entry.offset), sequence })
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
        self.group.bytes.len()
    }

    /// Commits and seals the open segment: at SIGTERM, and at the end of a replay.
    ///
    /// # Errors
    /// As `commit`. What was committed before is sealed even when the last commit fails; an error
    /// of the sealing itself leaves the segment for the next opening to seal.
    pub fn seal(&mut self) -> Result<Committed, ArchiveError> {
        let committed = self.commit_group();
        let sealed = match self.open.take() {
            Some(open) => self.seal_segment(&open),
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
            if Some(segment) != open_id {
                records.extend(read_segment(&self.disk, segment, committed, &wanted)?);
            }
        }
        if let Some(open) = &self.open {
            for (_, entry) in open.table.range((call, 0)..=(call, u32::MAX)) {
                if wanted.takes(entry.call, entry.kind) {
                    records.push(read_entry(&self.disk, &open.file, open.id, entry)?);
                }
            }
        }
        for entry in self.group.entries.iter().filter(|entry| wanted.takes(entry.call, entry.kind))
        {
            let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
            let bytes = self.group.bytes.get(start..).unwrap_or_default();
            let segment = open_id.unwrap_or(SegmentId(self.next_segment));
            let record = decode_record(bytes).map_err(|fault| fault.at(segment, entry.offset))?;
            records.push(OwnedRecord::from(record.0));
        }
        Ok(sort_records(records))
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
                let _counted = self.seal_segment(&open);
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
            let bytes = self.options.segment_bytes;
            self.open = Some(OpenSegment::create(&mut self.disk, self.archive, id, bytes, need)?);
        }
        let open = self.open.as_ref();
        Ok(open.map_or((SegmentId(0), 0), |open| (open.id, open.end)))
    }

    /// "Commit", steps 1 to 4. On an error the group is as it was.
    fn commit_group(&mut self) -> Result<(), ArchiveError> {
        // Step 1: nothing to do for an empty group.
        if self.group.entries.is_empty() {
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
        let entries = self.group.entries.iter();
        let new: Vec<_> = entries.filter(|entry| is_new(entry.call)).copied().collect();
        let written = open.write(&mut self.disk, &self.group);
        match written {
            Ok(()) => {}
            Err(ArchiveError::Full { .. }) => {
                self.open = Some(open);
                return written;
            }
            Err(_) => {
                self.give_up(&open);
                return written;
            }
        }
        // That a call is in this segment is told once; its last sequence when the segment ends.
        for entry in new {
            self.pending.saw(entry.call, open.id, entry.sequence);
        }
        for row in self.group_rows.drain(..) {
            self.pending.add_row(row);
        }
        self.pending.segments.insert(open.id, (SegmentState::Open, open.end));
        self.report.bytes = self.report.bytes.saturating_add(self.group.bytes.len() as u64);
        self.report.records = self.report.records.saturating_add(self.group.entries.len() as u64);
        self.group.bytes.clear();
        self.group.entries.clear();
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

    fn seal_segment(&mut self, open: &OpenSegment<D::File>) -> Result<(), ArchiveError> {
        if open.table.is_empty() {
            // Nothing was ever committed to it: the next opening removes it, or we do.
            let removed = self.disk.remove(&open.id.open_name());
            return removed
                .map_err(|error| ArchiveError::io("remove", &open.id.open_name(), error));
        }
        let sealed = open.seal(&mut self.disk);
        if sealed.is_err() {
            self.give_up(open);
            return sealed;
        }
        let state = if self.index_lost { SegmentState::Open } else { SegmentState::Sealed };
        self.end_segment(open, state);
        Ok(())
    }

    /// "Commit", step 5: the index shows what is durable. A refusal is no loss: the segments have it.
    fn publish(&mut self) {
        if self.index.apply(&self.pending).is_ok() {
            self.pending.clear();
            self.report.index = IndexState::Current;
            // The index now knows every sequence, unless rows were dropped or records wait.
            if self.open.is_none() && self.group.entries.is_empty() && !self.index_lost {
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

/// Takes the writer's lock.
pub(super) fn take_lock<D: Disk>(disk: &mut D) -> Result<(), ArchiveError> {
    disk.lock().map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            return ArchiveError::Locked { place: disk.place() };
        }
        ArchiveError::io("lock", super::LOCK_NAME, error)
    })
}
