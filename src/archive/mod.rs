//! The segment archive: calls in, calls out, nothing committed is ever lost.
//!
//! Purpose: keep records of many calls in one sequential stream of segment files, and find a call by
//! number, time or Call-ID; docs/archive.md draws every byte and lists every procedure.
//! Invariants: segments are the truth and the index is a cache; what `commit` acknowledged survives
//! a kill at any byte; a sealed segment is never written again; files are touched through [`Disk`].
//! Non-goals: what the audio of a record means (see `media`), and when to commit (see `work`).
//! Sources: docs/archive.md.

pub mod body;
mod box_keys;
mod call_keys;
mod chain;
pub mod checkpoint;
mod cipher;
mod compact;
pub mod curator;
pub mod disk;
pub mod disk_os;
pub mod disk_sim;
pub mod error;
pub mod evidence;
pub mod footer;
mod index;
mod index_key;
mod index_number;
mod index_row;
mod index_search;
#[cfg(test)]
mod index_tests;
mod index_write;
pub mod manifest;
pub mod merkle;
mod mmap;
mod open_segment;
pub mod reader;
mod rebuild;
pub mod recipients;
pub mod record;
mod recover;
pub mod rewrap;
mod scan;
pub mod secret;
pub mod segment;
mod sidecar;
pub mod signing;
pub mod timestamp;
pub mod tombstone_file;
mod tombstone_line;
pub mod tombstones;
mod unseal;
pub mod verify;
mod verify_segment;
pub mod writer;

pub use body::{AudioBatch, AudioBatchWriter, SipEntry};
pub use box_keys::BoxKeys;
pub use chain::{Clock, ClockReading, checkpoints};
pub use curator::Curator;
pub use disk::{Disk, IndexPlace};
pub use disk_os::DiskOs;
pub use disk_sim::DiskSim;
pub use error::{ArchiveError, SegmentFault};
#[doc(hidden)] // for benches, which fill an index without segments
pub use index::{Batch as IndexBatch, Index};
pub use index::{IndexKey, IndexedCall, LogState, Query};
#[doc(hidden)]
pub use index_row::CallRow;
pub use manifest::{
    InitOptions, Manifest, Protection, Retention, init, init_on, usable_recipients,
};
pub use reader::{Archive, OwnedRecord, Stats};
pub use rebuild::{Rebuilt, rebuild_index};
pub use recipients::{ArchiveRecipient, Identities};
pub use recover::RecoveredSegment;
pub use secret::{BoxKey, Secret};
pub use segment::{Compression, RecordKind, SegmentId, SegmentState};
pub use writer::{Committed, IndexState, RecordAddress, Recovered, Writer, WriterOptions};

/// The file that makes a directory an archive.
pub const MANIFEST_NAME: &str = "archive.toml";
/// The index, a cache.
pub const INDEX_NAME: &str = "index.sqlite";
/// The file that the one writer locks.
pub const LOCK_NAME: &str = "archive.lock";
/// What was erased, held and compacted.
pub const TOMBSTONES_NAME: &str = "tombstones";
/// The file that whoever erases, holds or compacts locks.
pub const UPKEEP_LOCK_NAME: &str = "upkeep.lock";
/// Where the segments are.
pub const SEGMENTS_DIR: &str = "segments";
