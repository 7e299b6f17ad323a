//! Checking an archive: everything that is there is what was sealed, and everything sealed is there.
//!
//! Purpose: tell, offline and with the public key alone, a flipped bit, a cut, a removed or swapped
//! segment and a rolled-back archive from the torn tail that a crash leaves.
//! Invariants: it never writes; it needs no secret key; the first record that fails is named; no
//! bytes make it panic.
//! Non-goals: repairing, and opening what is sealed (see `reader`).
//! Sources: RFC 6962 §2.1; C2SP tlog-checkpoint and signed-note; docs/archive.md, "Verify".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::checkpoint::{Checkpoint, origin};
use super::disk::{Disk, read_vec};
use super::error::ArchiveError;
use super::manifest::{Manifest, Named};
use super::merkle::{Frontier, Hash, sha256};
use super::recover::list_segments;
use super::scan::{check_header, scan, torn_bytes};
use super::segment::{HEADER_BYTES, SegmentId, SegmentState};
use super::signing::{VerifyingKey, open_note};
use super::tombstone_file::TombstoneFile;
use super::tombstones::Tombstones;
use super::verify_segment::{Known, Sealed, check_sealed};
use super::{MANIFEST_NAME, TOMBSTONES_NAME};
use crate::base::CallId;

/// What to check against, beside the archive itself.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The public key as it was kept elsewhere; `None`: the one in `archive.toml`.
    pub public_key: Option<VerifyingKey>,
    /// A checkpoint (a signed note) that was kept elsewhere.
    pub checkpoint: Option<String>,
}

/// How an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it was sealed.
    Whole,
    /// So is everything that was acknowledged; a crash left something that the next start mends.
    TornTail,
    /// Something is not as it was sealed.
    Damaged,
}

impl Verdict {
    /// As `verify --json` prints it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::TornTail => "torn_tail",
            Self::Damaged => "damaged",
        }
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which file, relative to the archive.
    pub file: String,
    /// Where in it, in bytes from its start.
    pub offset: Option<u64>,
    /// The call whose record fails.
    pub call: Option<CallId>,
    /// Which of the call's records.
    pub sequence: Option<u32>,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    pub(super) fn of(file: &str, what: impl Into<String>) -> Self {
        let (file, what) = (file.to_owned(), what.into());
        Self { file, offset: None, call: None, sequence: None, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file)?;
        if let Some(offset) = self.offset {
            write!(out, " at byte {offset}")?;
        }
        if let (Some(call), Some(sequence)) = (self.call, self.sequence) {
            write!(out, " (call {call}, record {sequence})")?;
        }
        write!(out, ": {}", self.what)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Finished segments whose checkpoint is right.
    pub segments: u64,
    /// Records that are as they were sealed.
    pub records: u64,
    /// Records that are whole but not signed yet: in the segment that is being written.
    pub unsigned_records: u64,
    /// Records of erased calls, and superseded ones, that a compaction took out.
    pub dropped_records: u64,
    /// Calls that were erased.
    pub erased_calls: u64,
    /// Bytes of a torn tail.
    pub torn_bytes: u64,
    /// What is wrong; the first is the earliest.
    pub faults: Vec<Fault>,
    /// What a crash left, to be mended by the next start.
    pub leftovers: Vec<Fault>,
    /// The newest checkpoint that was checked, a signed note.
    pub checkpoint: Option<String>,
    /// True when a public key that was kept elsewhere was used.
    pub is_anchored: bool,
}

impl Verified {
    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.faults.is_empty(), self.leftovers.is_empty()) {
            (false, _) => Verdict::Damaged,
            (true, false) => Verdict::TornTail,
            (true, true) => Verdict::Whole,
        }
    }
}

/// Checks the archive on `disk`.
///
/// # Errors
/// `NotInitialised`, `VersionUnknown`, `BadManifest`, `Io`: nothing could be checked. Damage is no
/// error but reported.
pub fn verify_on<D: Disk>(disk: &D, options: &VerifyOptions) -> Result<Verified, ArchiveError> {
    let mut found = Verified { is_anchored: options.public_key.is_some(), ..Verified::default() };
    let manifest = match Manifest::read(disk) {
        Err(ArchiveError::BadManifest { reason }) => {
            found.faults.push(Fault::of(MANIFEST_NAME, reason));
            return Ok(found);
        }
        read => read?,
    };
    let archive = manifest.archive_id().unwrap_or_default();
    let own = manifest.verifying_key()?;
    let key = options.public_key.clone().unwrap_or_else(|| own.clone());
    if key != own {
        let what = "it names another signing key than the one that was given";
        found.faults.push(Fault::of(MANIFEST_NAME, what));
    }
    let mut is_told = false;
    let tombstones = match TombstoneFile::load(disk, archive, Some(&key)) {
        Ok(file) => {
            if file.torn_bytes() > 0 {
                let what = "its last line is torn, and was never acknowledged";
                found.leftovers.push(Fault::of(TOMBSTONES_NAME, what));
            }
            file.tombstones().clone()
        }
        Err(ArchiveError::BadTombstones { fault }) => {
            found.faults.push(Fault::of(TOMBSTONES_NAME, fault.to_string()));
            is_told = true;
            Tombstones::new(archive)
        }
        Err(error) => return Err(error),
    };
    match Manifest::current(disk, &tombstones) {
        Ok((_, Named::Yes)) => {}
        Ok((_, Named::NotYet)) => {
            let what = "a change of it was cut short; the next `callspan retain` finishes it";
            found.leftovers.push(Fault::of(MANIFEST_NAME, what));
        }
        Err(ArchiveError::BadManifest { reason }) => {
            found.faults.push(Fault::of(MANIFEST_NAME, reason));
        }
        Err(error) => return Err(error),
    }
    for call in tombstones.unfinished() {
        let what = format!("the erasure of call {call} was begun and not finished");
        found.leftovers.push(Fault::of(TOMBSTONES_NAME, what));
    }
    found.erased_calls =
        tombstones.erasures().filter(|(_, erasure)| erasure.erased_ns.is_some()).count() as u64;
    let mut check =
        Check { disk, archive, key, tombstones, found, chain: BTreeMap::new(), is_told };
    check.segments()?;
    check.chain();
    if let Some(note) = &options.checkpoint {
        check.against(note);
    }
    Ok(check.found)
}

struct Check<'d, D: Disk> {
    disk: &'d D,
    archive: [u8; 16],
    key: VerifyingKey,
    tombstones: Tombstones,
    found: Verified,
    /// Checkpoints by their size.
    chain: BTreeMap<u64, (Checkpoint, String)>,
    /// Whether it was said that lines of `tombstones` are missing, or that they cannot be read.
    is_told: bool,
}

impl<D: Disk> Check<'_, D> {
    fn segments(&mut self) -> Result<(), ArchiveError> {
        let mut names: BTreeSet<String> = self
            .disk
            .list(super::SEGMENTS_DIR)
            .map_err(|error| ArchiveError::io("list", super::SEGMENTS_DIR, error))?
            .into_iter()
            .map(|name| format!("{}/{name}", super::SEGMENTS_DIR))
            .collect();
        let listed = list_segments(self.disk)?;
        for (segment, state) in &listed {
            let segment = *segment;
            names.remove(&segment.keys_name());
            match state {
                SegmentState::Open => {
                    names.remove(&segment.open_name());
                    if listed.contains(&(segment, SegmentState::Sealed)) {
                        let what = "it is finished, and yet there is an open file of it";
                        self.found.faults.push(Fault::of(&segment.open_name(), what));
                        continue;
                    }
                    self.open(segment)?;
                }
                SegmentState::Sealed => {
                    names.remove(&segment.sealed_name());
                    self.sealed(segment)?;
                }
            }
        }
        for name in names {
            if name.ends_with(".keys.new") {
                let what = "new keys were cut short; the next `callspan retain` removes them";
                self.found.leftovers.push(Fault::of(&name, what));
            } else if name.ends_with(".compacting") {
                let what = "a compaction was cut short; the next `callspan retain` finishes it";
                self.found.leftovers.push(Fault::of(&name, what));
            } else {
                self.found.faults.push(Fault::of(&name, "it belongs to no segment"));
            }
        }
        Ok(())
    }

    fn sealed(&mut self, segment: SegmentId) -> Result<(), ArchiveError> {
        let known = Known { archive: self.archive, key: &self.key, tombstones: &self.tombstones };
        let Sealed { faults, leftovers, records, dropped, end } =
            check_sealed(self.disk, segment, &known)?;
        self.found.leftovers.extend(leftovers);
        self.found.records += records;
        self.found.dropped_records += dropped;
        if faults.is_empty() {
            self.found.segments += 1;
        }
        self.found.faults.extend(faults);
        let Some((checkpoint, note)) = end else { return Ok(()) };
        let name = segment.sealed_name();
        if let Some((other, _)) = self.chain.get(&checkpoint.size) {
            let what = format!(
                "it is number {} of the log, as segment {} is",
                checkpoint.size, other.segment.segment
            );
            self.found.faults.push(Fault::of(&name, what));
            return Ok(());
        }
        self.chain.insert(checkpoint.size, (checkpoint, note));
        Ok(())
    }

    fn open(&mut self, segment: SegmentId) -> Result<(), ArchiveError> {
        let name = segment.open_name();
        let io = |error| ArchiveError::io("read", &name, error);
        // It may have been sealed since the directory was listed.
        let Ok(file) = self.disk.open_read(&name) else { return self.sealed(segment) };
        let start = read_vec(self.disk, &file, 0, HEADER_BYTES).map_err(io)?;
        if check_header(&start, self.archive, segment).is_err() {
            let rest = torn_bytes(self.disk, &file, segment, HEADER_BYTES as u64)?;
            let what = "its header is not valid";
            let fault = Fault { offset: Some(0), ..Fault::of(&name, what) };
            let list = if rest == 0 { &mut self.found.leftovers } else { &mut self.found.faults };
            list.push(fault);
            return Ok(());
        }
        let scanned = scan(self.disk, &file, segment, |_| true)?;
        self.found.unsigned_records += scanned.entries.len() as u64;
        for offset in scanned.damaged {
            let what = "a record's checksum does not match, and whole records stand behind it";
            let fault = Fault { offset: Some(offset), ..Fault::of(&name, what) };
            self.found.faults.push(fault);
        }
        let torn = torn_bytes(self.disk, &file, segment, scanned.end)?;
        if torn > 0 {
            self.found.torn_bytes += torn;
            let what = format!("{torn} bytes of a torn tail, never acknowledged");
            let fault = Fault { offset: Some(scanned.end), ..Fault::of(&name, what) };
            self.found.leftovers.push(fault);
        }
        Ok(())
    }

    /// Each checkpoint continues the one before it.
    fn chain(&mut self) {
        let chain = std::mem::take(&mut self.chain);
        self.walk(&chain);
        self.chain = chain;
    }

    fn walk(&mut self, chain: &BTreeMap<u64, (Checkpoint, String)>) {
        let mut log = Frontier::default();
        let mut previous = Hash::new([0; 32]);
        for (size, (checkpoint, note)) in chain {
            let file = SegmentId(checkpoint.segment.segment).sealed_name();
            if *size != log.size() + 1 {
                let missing = log.size() + 1..*size;
                let what = format!(
                    "number {} of the log is missing: a finished segment was removed or damaged",
                    missing.start
                );
                self.found.faults.push(Fault::of(&file, what));
                return;
            }
            log.push(checkpoint.segment.leaf_hash());
            if checkpoint.segment.previous != previous {
                let what = "its checkpoint continues another one than the one before it";
                self.found.faults.push(Fault::of(&file, what));
            }
            if checkpoint.root != log.root() {
                let what = "its checkpoint's root is not that of the segments before it";
                self.found.faults.push(Fault::of(&file, what));
                return;
            }
            self.tombstones_since(checkpoint, &file);
            previous = sha256(&[note.as_bytes()]);
            self.found.checkpoint = Some(note.clone());
        }
    }

    /// The lines that `tombstones` had when a checkpoint was signed are still there.
    fn tombstones_since(&mut self, checkpoint: &Checkpoint, who: &str) {
        let (count, head) = checkpoint.segment.tombstones;
        if self.tombstones.count() < count && !self.is_told {
            // They may have been written since they were read, and the segment sealed after that.
            let now = TombstoneFile::load(self.disk, self.archive, Some(&self.key));
            self.tombstones =
                now.map_or_else(|_| self.tombstones.clone(), |it| it.tombstones().clone());
        }
        if self.tombstones.head_after(count) == Some(head) || self.is_told {
            return;
        }
        self.is_told = true;
        let what = match self.tombstones.count() {
            left if left < count => {
                format!("it ends after {left} lines, and {who} knows of {count}")
            }
            _ => format!("its first {count} lines are not those that {who} knows"),
        };
        self.found.faults.push(Fault::of(TOMBSTONES_NAME, what));
    }

    /// The archive still holds what a checkpoint that was kept elsewhere says.
    fn against(&mut self, note: &str) {
        let fault = |what: &str| Fault::of("the checkpoint that was given", what);
        let read = open_note(note.as_bytes(), &self.key).map_err(|error| error.to_string());
        let read = read.and_then(|text| {
            Checkpoint::parse(text).ok_or_else(|| "it is no checkpoint".to_owned())
        });
        let kept = match read {
            Ok(kept) if kept.origin == origin(self.archive) => kept,
            Ok(_) => return self.found.faults.push(fault("it is another archive's")),
            Err(what) => return self.found.faults.push(fault(&what)),
        };
        self.tombstones_since(&kept, "the checkpoint that was given");
        match self.chain.get(&kept.size) {
            Some((here, _)) if *here == kept => {}
            Some(_) => self.found.faults.push(fault(
                "the archive has another segment there: its history was written anew",
            )),
            None => self.found.faults.push(fault(
                "the archive ends before it: it was rolled back, or its newest segments were removed",
            )),
        }
    }
}
