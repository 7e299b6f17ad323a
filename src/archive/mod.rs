//! The segment archive: calls in, calls out, nothing committed is ever lost.
//!
//! Purpose: keep records of many calls in one sequential stream of segment files, and find a call by
//! number, time or Call-ID; docs/archive.md draws every byte and lists every procedure.
//! Invariants: segments are the truth and the index is a cache; what `commit` acknowledged survives
//! a kill at any byte; a sealed segment is never written again; files are touched through [`Disk`].
//! Non-goals: what the audio of a record means (see `media`), and when to commit (see `work`).
//! Sources: docs/archive.md.

pub mod body;
pub mod checkpoint;
pub mod disk;
pub mod disk_os;
pub mod disk_sim;
pub mod error;
pub mod footer;
mod index;
mod index_row;
pub mod manifest;
pub mod merkle;
mod mmap;
mod open_segment;
pub mod reader;
mod rebuild;
mod recover;
mod scan;
pub mod segment;
pub mod signing;
pub mod timestamp;
pub mod tombstone_file;
pub mod tombstones;
pub mod writer;

pub use body::{AudioBatch, AudioBatchWriter, SipEntry};
pub use disk::{Disk, IndexPlace};
pub use disk_os::DiskOs;
pub use disk_sim::DiskSim;
pub use error::{ArchiveError, SegmentFault};
pub use index::{IndexedCall, Query};
pub use manifest::{InitOptions, Protection, init, init_on};
pub use reader::{Archive, OwnedRecord, Stats};
pub use rebuild::{Rebuilt, rebuild_index};
pub use recover::RecoveredSegment;
pub use segment::{Compression, Record, RecordKind, SegmentId, SegmentState};
pub use writer::{Committed, IndexState, RecordAddress, Recovered, Writer, WriterOptions};

/// The file that makes a directory an archive.
pub const MANIFEST_NAME: &str = "archive.toml";
/// The index, a cache.
pub const INDEX_NAME: &str = "index.sqlite";
/// The file that the one writer locks.
pub const LOCK_NAME: &str = "archive.lock";
/// What was erased, held and compacted.
pub const TOMBSTONES_NAME: &str = "tombstones";
/// Where the segments are.
pub const SEGMENTS_DIR: &str = "segments";
