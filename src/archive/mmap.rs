//! A sealed segment as a slice of bytes.
//!
//! Purpose: read a call's records without copying the file.
//! Invariants: only sealed segments are mapped; nobody shortens or rewrites a sealed segment.
//! Non-goals: writing through a mapping.
//! Sources: Linux mmap(2); docs/archive.md, "Seal".
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps a sealed segment for reading.
///
/// # Errors
/// What the system says.
pub(super) fn map_sealed(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is undefined only if the file changes under it. A file gets the name
    // `.segment` after its last write, its cut and its sync (`OpenSegment::seal`, `recover`), and no
    // code opens such a name for writing; it is only ever unlinked, which keeps the mapping valid.
    unsafe { Mmap::map(file) }
}
