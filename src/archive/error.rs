//! What can go wrong with an archive, each with one line that says what to do.
//!
//! Purpose: the exact reason on stderr, and a stable label for metrics.
//! Invariants: `Display` is one line; no variant carries a call's content, number or name.
//! Non-goals: deciding what a failure means for a running capture (see `work` and `cli`).
//! Sources: none.

use std::io;
use std::path::PathBuf;

use super::segment::SegmentId;
use super::tombstones::{TombstoneFault, TombstoneRefusal};
use crate::base::CallId;

/// Why an archive could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The directory holds no `archive.toml`.
    #[error(
        "{} is no archive: run `callspan init {} --recipient KEY` first (or --plaintext)",
        path.display(), path.display()
    )]
    NotInitialised {
        /// The directory asked for.
        path: PathBuf,
    },
    /// `init` found an archive already.
    #[error("{} is an archive already: use it, or choose another directory", path.display())]
    AlreadyInitialised {
        /// The directory asked for.
        path: PathBuf,
    },
    /// `init` found files that are not an archive's.
    #[error("{} is not empty (it holds {found:?}): choose an empty directory", path.display())]
    NotEmpty {
        /// The directory asked for.
        path: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// Another process writes to the archive.
    #[error("another callspan process writes to {place}: stop it first")]
    Locked {
        /// The archive.
        place: String,
    },
    /// No room for the next segment, or for what a commit writes.
    #[error(
        "the disk of the archive is full: {needed} bytes are needed, {free} are free; \
         make room or shorten the retention"
    )]
    Full {
        /// Bytes that were to be written or preallocated.
        needed: u64,
        /// Bytes that the file system offers.
        free: u64,
    },
    /// A file operation failed.
    #[error("cannot {op} {name} of the archive: {source}{}", advice(source))]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// File, relative to the archive.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A segment contradicts itself.
    #[error("{segment} is damaged at byte {offset}: {fault}; restore it from a copy")]
    BadSegment {
        /// Which one.
        segment: SegmentId,
        /// Where, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        fault: SegmentFault,
    },
    /// A segment that the index names is not there.
    #[error("{segment} is missing: restore it, or run `callspan index rebuild --archive DIR`")]
    MissingSegment {
        /// Which one.
        segment: SegmentId,
    },
    /// Written by another version of callspan.
    #[error(
        "{name} has format version {found}, this callspan reads {known}: use {} callspan",
        if found > known { "a newer" } else { "the older" }
    )]
    VersionUnknown {
        /// File, relative to the archive.
        name: String,
        /// The version in the file.
        found: u64,
        /// The version that this program writes.
        known: u64,
    },
    /// `archive.toml` cannot be understood.
    #[error("archive.toml is not valid ({reason}): restore it from a copy")]
    BadManifest {
        /// What is wrong with it.
        reason: String,
    },
    /// The index is missing, damaged, or of another version.
    #[error("the index of the archive is {reason}: run `callspan index rebuild --archive {place}`")]
    IndexUnusable {
        /// `missing`, `damaged` or `of another version`.
        reason: &'static str,
        /// The archive.
        place: String,
    },
    /// SQLite refused an operation on a usable index.
    #[error("cannot {op} index.sqlite: {source}")]
    Index {
        /// What was tried, as a verb.
        op: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The keys of the box do not fit the archive.
    #[error("{reason}")]
    Keys {
        /// One sentence that says which key, and what to do.
        reason: String,
    },
    /// A call's keys cannot be made or wrapped.
    #[error("recordings cannot be sealed: {reason}; check the recipients in archive.toml")]
    Sealing {
        /// What age or the cipher said.
        reason: String,
    },
    /// Sound is sealed, and no identity was given that opens it.
    #[error(
        "call {call} is sealed{given}: give --identity FILE of one of its recipients ({recipients})"
    )]
    NoIdentity {
        /// Whose sound.
        call: CallId,
        /// Whether an identity was given, as a part of the sentence.
        given: &'static str,
        /// The archive's recipients, public keys.
        recipients: String,
    },
    /// The call's keys were destroyed.
    #[error("call {call} was erased: nobody can open it any more")]
    Erased {
        /// Which call.
        call: CallId,
    },
    /// A key slot is neither a key nor zeros.
    #[error("the key file of {segment} is damaged at slot {slot}: restore it from a copy")]
    BadKeySlot {
        /// Which segment.
        segment: SegmentId,
        /// Which slot.
        slot: u32,
    },
    /// A call that goes on cannot be erased.
    #[error("call {call} is still going on: erase it when it has ended")]
    StillOngoing {
        /// Which call.
        call: CallId,
    },
    /// A call of a plaintext archive cannot be erased yet.
    #[error(
        "call {call} is in {segment}, which is still being written: erase it when that is sealed (within \
         the hour, or when the recording stops)"
    )]
    NotSealedYet {
        /// Which call.
        call: CallId,
        /// Where its records are.
        segment: SegmentId,
    },
    /// No such call.
    #[error("no call {call} in the archive; `callspan calls` lists them")]
    UnknownCall {
        /// The id asked for.
        call: CallId,
    },
    /// Another process erases, holds or compacts.
    #[error("another callspan process erases or compacts in {place}: wait for it")]
    UpkeepLocked {
        /// The archive.
        place: String,
    },
    /// A line of `tombstones` is damaged.
    #[error("the file tombstones is damaged ({fault}): restore it from a copy")]
    BadTombstones {
        /// Which line, and what is wrong with it.
        fault: TombstoneFault,
    },
    /// A call cannot be erased, held or released now.
    #[error("call {call}: {refusal}")]
    TombstoneRefused {
        /// Which call.
        call: CallId,
        /// Why not.
        refusal: TombstoneRefusal,
    },
    /// A summary record that the index cannot take; our bug, not the archive's.
    #[error("the summary of call {call} is not valid ({reason}): report this as a bug")]
    BadSummary {
        /// Whose summary.
        call: CallId,
        /// What is wrong with it.
        reason: String,
    },
    /// A record body longer than `RECORD_BYTES_MAX`.
    #[error("a record of {len_bytes} bytes for call {call} is too long: report this as a bug")]
    RecordTooLong {
        /// Whose record.
        call: CallId,
        /// Its length.
        len_bytes: usize,
    },
    /// A call used up its sequence numbers.
    #[error("call {call} has too many records: report this as a bug")]
    TooManyRecords {
        /// Which call.
        call: CallId,
    },
}

/// What to do about a file operation that failed, where that is known.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run callspan as the user that owns the archive",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing",
        _ => "",
    }
}

impl ArchiveError {
    /// An I/O failure, told apart from a full disk.
    pub(super) fn io(op: &'static str, name: &str, source: io::Error) -> Self {
        Self::Io { op, name: name.to_owned(), source }
    }

    /// Metric label: the variant in snake_case.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotInitialised { .. } => "not_initialised",
            Self::AlreadyInitialised { .. } => "already_initialised",
            Self::NotEmpty { .. } => "not_empty",
            Self::Locked { .. } => "locked",
            Self::Full { .. } => "full",
            Self::Io { .. } => "io",
            Self::BadSegment { .. } => "bad_segment",
            Self::MissingSegment { .. } => "missing_segment",
            Self::VersionUnknown { .. } => "version_unknown",
            Self::BadManifest { .. } => "bad_manifest",
            Self::IndexUnusable { .. } => "index_unusable",
            Self::Index { .. } => "index",
            Self::Keys { .. } => "keys",
            Self::Sealing { .. } => "sealing",
            Self::NoIdentity { .. } => "no_identity",
            Self::Erased { .. } => "erased",
            Self::BadKeySlot { .. } => "bad_key_slot",
            Self::StillOngoing { .. } => "still_ongoing",
            Self::NotSealedYet { .. } => "not_sealed_yet",
            Self::UnknownCall { .. } => "unknown_call",
            Self::UpkeepLocked { .. } => "upkeep_locked",
            Self::TombstoneRefused { .. } => "tombstone_refused",
            Self::BadTombstones { .. } => "bad_tombstones",
            Self::BadSummary { .. } => "bad_summary",
            Self::RecordTooLong { .. } => "record_too_long",
            Self::TooManyRecords { .. } => "too_many_records",
        }
    }
}

/// What is wrong with the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// Shorter than a segment header, or other magic bytes.
    #[error("it does not begin like a segment")]
    NotASegment,
    /// The header's CRC does not match.
    #[error("the header's checksum does not match")]
    HeaderChecksum,
    /// The header's version is not ours.
    #[error("its format version is unknown")]
    UnknownVersion,
    /// It belongs to another archive.
    #[error("it belongs to another archive")]
    OtherArchive,
    /// The header names another segment than the file's name.
    #[error("its header names another segment")]
    OtherSegment,
    /// The trailer is torn or wrong.
    #[error("the trailer is not valid")]
    Trailer,
    /// The footer is torn or wrong.
    #[error("the footer is not valid")]
    Footer,
    /// A record ends beyond the bytes there are.
    #[error("a record is cut short")]
    RecordCut,
    /// A record's header makes no sense.
    #[error("a record's header is not valid")]
    RecordHeader,
    /// A record's CRC does not match.
    #[error("a record's checksum does not match")]
    RecordChecksum,
    /// A record's body does not decompress to its stated length.
    #[error("a record does not decompress")]
    RecordCompression,
    /// A record is not the one that the table names.
    #[error("a record is not the one in the table")]
    RecordMismatch,
    /// A sealed record does not open with the key of its slot.
    #[error("a sealed record does not open with its key")]
    RecordSealed,
}

impl SegmentFault {
    /// Metric label: the variant in snake_case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotASegment => "not_a_segment",
            Self::HeaderChecksum => "header_checksum",
            Self::UnknownVersion => "unknown_version",
            Self::OtherArchive => "other_archive",
            Self::OtherSegment => "other_segment",
            Self::Trailer => "trailer",
            Self::Footer => "footer",
            Self::RecordCut => "record_cut",
            Self::RecordHeader => "record_header",
            Self::RecordChecksum => "record_checksum",
            Self::RecordCompression => "record_compression",
            Self::RecordMismatch => "record_mismatch",
            Self::RecordSealed => "record_sealed",
        }
    }

    /// The same fault, with the segment and the byte where it is.
    pub(super) const fn at(self, segment: SegmentId, offset: u64) -> ArchiveError {
        ArchiveError::BadSegment { segment, offset, fault: self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_name_the_command_that_helps() {
        let missing = ArchiveError::NotInitialised { path: PathBuf::from("calls") };
        assert_eq!(
            missing.to_string(),
            "calls is no archive: run `callspan init calls --recipient KEY` first (or --plaintext)"
        );
        let index = ArchiveError::IndexUnusable { reason: "missing", place: "calls".to_owned() };
        assert!(index.to_string().contains("callspan index rebuild --archive calls"));
        let full = ArchiveError::Full { needed: 10, free: 3 }.to_string();
        assert!(!full.contains('\n') && full.contains("10 bytes are needed, 3 are free"), "{full}");
        let bad = SegmentFault::RecordChecksum.at(SegmentId(3), 64).to_string();
        assert!(bad.contains("byte 64") && bad.contains("checksum"), "{bad}");
    }
}
