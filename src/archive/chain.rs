//! The chain of finished segments: each is sealed with a signed checkpoint over all before it.
//!
//! Purpose: make a segment's footer, and remember what the next one continues.
//! Invariants: sizes of the log are given out once each, in order; what cannot be sealed takes none;
//! a footer that was durable before a kill is kept, never made anew.
//! Non-goals: checking a chain (see `verify`).
//! Sources: C2SP tlog-checkpoint and signed-note; RFC 6962 §2.1; docs/archive.md, "Seal".

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use super::SEGMENTS_DIR;
use super::checkpoint::{Checkpoint, ClockQuality, SegmentStatement, origin};
use super::disk::{Disk, read_vec};
use super::error::ArchiveError;
use super::footer::{
    self, FOOTER_HEAD_BYTES, FooterHead, FooterParts, TRAILER_BYTES, decode_trailer,
};
use super::manifest::Manifest;
use super::merkle::{Frontier, Hash, root, sha256};
use super::open_segment::full_or_io;
use super::recover::list_segments;
use super::segment::{HEADER_BYTES, SegmentId, SegmentState};
use super::signing::{SigningKey, VerifyingKey, open_note, sign_note};
use super::tombstone_file::durable_end;

/// What time it is, and how well that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockReading {
    /// Nanoseconds since the epoch.
    pub now_ns: i64,
    /// How far the clock can be trusted.
    pub quality: ClockQuality,
}

/// How the archive asks for the time: it reads no clock of its own.
pub type Clock = fn() -> ClockReading;

/// The end of the chain.
pub(super) struct Chain {
    archive: [u8; 16],
    signing: Arc<SigningKey>,
    clock: Clock,
    log: Frontier,
    previous: Hash,
    /// Sizes that finished segments have.
    taken: BTreeSet<u64>,
    /// The newest checkpoint, for whoever sends it off the box.
    newest: Option<String>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Chain({} segments)", self.log.size())
    }
}

/// What a segment holds when it is to be sealed.
pub(super) struct Contents<'a> {
    pub segment: SegmentId,
    /// Its first bytes.
    pub header: [u8; HEADER_BYTES],
    /// Where its records end.
    pub end: u64,
    /// The footer's table.
    pub table: Vec<u8>,
    /// The tree over its records.
    pub leaves: &'a Frontier,
    /// SHA-256 of each key slot.
    pub slots: &'a [Hash],
}

impl Chain {
    /// Reads where the chain ends from the checkpoints of all finished segments. Those that are
    /// damaged, or that another key signed, are passed over: `verify` tells of them.
    ///
    /// # Errors
    /// `Io`.
    pub fn load<D: Disk>(
        disk: &D,
        archive: [u8; 16],
        signing: Arc<SigningKey>,
        clock: Clock,
    ) -> Result<Self, ArchiveError> {
        let (log, previous) = (Frontier::default(), Hash::new([0; 32]));
        let (taken, newest) = (BTreeSet::new(), None);
        let mut chain = Self { archive, signing, clock, log, previous, taken, newest };
        let key = chain.signing.verifying_key();
        each_end(disk, &key, |_, end| {
            if end.checkpoint.origin == origin(archive) {
                chain.take(end);
            }
        })?;
        Ok(chain)
    }

    /// The newest checkpoint, a signed note.
    pub fn newest(&self) -> Option<&str> {
        self.newest.as_deref()
    }

    fn take(&mut self, end: End) {
        self.taken.insert(end.checkpoint.size);
        if end.checkpoint.size > self.log.size() {
            self.previous = sha256(&[end.note.as_bytes()]);
            self.log = end.frontier;
            self.newest = Some(end.note);
        }
    }

    /// Whether a file that still has its open name was sealed already and lacks only the other name.
    pub fn is_finished<D: Disk>(&self, disk: &D, file: &D::File, segment: SegmentId) -> bool {
        self.finished(disk, file, segment).is_some()
    }

    /// The end of such a file.
    fn finished<D: Disk>(&self, disk: &D, file: &D::File, segment: SegmentId) -> Option<End> {
        read_end(disk, file, &self.signing.verifying_key()).filter(|end| {
            end.checkpoint.origin == origin(self.archive)
                && end.checkpoint.segment.segment == segment.0
                && !self.taken.contains(&end.checkpoint.size)
        })
    }

    /// Gives a file that is finished its name; false where it is not.
    pub fn finish_sealed<D: Disk>(
        &mut self,
        disk: &mut D,
        file: &D::File,
        segment: SegmentId,
    ) -> Result<bool, ArchiveError> {
        let Some(end) = self.finished(disk, file, segment) else { return Ok(false) };
        // Whoever wrote the footer may have been killed before its sync.
        let name = segment.open_name();
        disk.sync_data(file).map_err(|error| ArchiveError::io("seal", &name, error))?;
        give_name(disk, segment)?;
        self.take(end);
        Ok(true)
    }

    /// Steps 2–5 of "Seal", for a running writer and for what a kill left.
    pub fn seal<D: Disk>(
        &mut self,
        disk: &mut D,
        file: &D::File,
        contents: &Contents<'_>,
    ) -> Result<(), ArchiveError> {
        let name = contents.segment.open_name();
        let end = self.next(contents, durable_end(disk)?);
        let footer = FooterParts {
            records_end: contents.end,
            table: Cow::Borrowed(&contents.table),
            slots: Cow::Borrowed(contents.slots),
            frontier: Cow::Owned(end.frontier.hashes()),
            checkpoint: Cow::Borrowed(end.note.as_bytes()),
            compacted: None,
        };
        let footer = footer.encode();
        let len_bytes = footer.len() as u64;
        // Step 2: the footer behind the last record; the file ends with it.
        disk.write_at(file, contents.end, &[IoSlice::new(&footer)])
            .map_err(|error| full_or_io(disk, "write", &name, len_bytes, error))?;
        let io = |error| ArchiveError::io("seal", &name, error);
        disk.truncate(file, contents.end.saturating_add(len_bytes)).map_err(io)?;
        // Step 3: both are durable.
        disk.sync_data(file).map_err(io)?;
        // Steps 4 and 5. Once the name is given the size is taken, whether it is durable or not.
        let named = give_name(disk, contents.segment);
        if named.is_ok() || disk.open_read(&contents.segment.sealed_name()).is_ok() {
            self.take(end);
        }
        named
    }

    /// The checkpoint of a segment that would be the next.
    fn next(&self, contents: &Contents<'_>, tombstones: (u64, Hash)) -> End {
        let ClockReading { now_ns, quality } = (self.clock)();
        let segment = SegmentStatement {
            segment: contents.segment.0,
            records: contents.leaves.size(),
            records_root: contents.leaves.root(),
            table: sha256(&[&contents.header, &contents.table]),
            slots: contents.slots.len() as u64,
            slots_root: root(contents.slots),
            previous: self.previous,
            tombstones,
            sealed_ns: now_ns,
            clock: quality,
        };
        let mut frontier = self.log.clone();
        frontier.push(segment.leaf_hash());
        let checkpoint = Checkpoint {
            origin: origin(self.archive),
            size: frontier.size(),
            root: frontier.root(),
            segment,
        };
        let note = sign_note(&checkpoint.text(), &self.signing);
        End { checkpoint, note, frontier }
    }
}

/// "Seal", steps 4 and 5.
fn give_name<D: Disk>(disk: &mut D, segment: SegmentId) -> Result<(), ArchiveError> {
    let name = segment.open_name();
    let io = |error| ArchiveError::io("seal", &name, error);
    // Step 4: the name says so.
    disk.rename(&name, &segment.sealed_name()).map_err(io)?;
    // Step 5: and the name is durable.
    disk.sync_dir(SEGMENTS_DIR).map_err(io)
}

/// The checkpoints of all finished segments, signed notes, in order of their segments. Those that the
/// archive's own key did not sign are left out.
///
/// # Errors
/// `NotInitialised`, `BadManifest`, `VersionUnknown`, `Io`.
pub fn checkpoints<D: Disk>(disk: &D) -> Result<Vec<(SegmentId, String)>, ArchiveError> {
    let mut found = Vec::new();
    let key = Manifest::read(disk)?.verifying_key()?;
    each_end(disk, &key, |segment, end| found.push((segment, end.note)))?;
    Ok(found)
}

/// Shows the end of each finished segment that `key` signed, one at a time.
fn each_end<D: Disk>(
    disk: &D,
    key: &VerifyingKey,
    mut show: impl FnMut(SegmentId, End),
) -> Result<(), ArchiveError> {
    for (segment, state) in list_segments(disk)? {
        if state == SegmentState::Sealed {
            let name = segment.sealed_name();
            let file = disk.open_read(&name);
            let file = file.map_err(|error| ArchiveError::io("read", &name, error))?;
            if let Some(end) = read_end(disk, &file, key) {
                show(segment, end);
            }
        }
    }
    Ok(())
}

/// What a finished segment says of the chain.
pub(super) struct End {
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
    /// The log behind it.
    pub frontier: Frontier,
}

/// Reads checkpoint and frontier of a finished segment without its table; `None` unless `key` signed
/// the one and the other leads to its root.
pub(super) fn read_end<D: Disk>(disk: &D, file: &D::File, key: &VerifyingKey) -> Option<End> {
    let len_bytes = disk.len_bytes(file).ok()?;
    let start = len_bytes.checked_sub(TRAILER_BYTES as u64)?;
    let trailer = read_vec(disk, file, start, TRAILER_BYTES).ok()?;
    let (offset, _) = decode_trailer(&trailer, len_bytes).ok()?;
    let head = FooterHead::decode(&read_vec(disk, file, offset, FOOTER_HEAD_BYTES).ok()?)?;
    let (at, len) = head.frontier_place();
    let hashes = read_vec(disk, file, offset.checked_add(at)?, len).ok()?;
    let hashes: Vec<Hash> = footer::hashes(&hashes).collect();
    let (at, len) = head.checkpoint_place();
    let note = String::from_utf8(read_vec(disk, file, offset.checked_add(at)?, len).ok()?).ok()?;
    let checkpoint = Checkpoint::parse(open_note(note.as_bytes(), key).ok()?)?;
    let frontier = Frontier::from_hashes(checkpoint.size, &hashes)?;
    (frontier.root() == checkpoint.root).then_some(End { checkpoint, note, frontier })
}
