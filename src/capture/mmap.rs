//! Mapping a capture file for reading.
//!
//! Purpose: read files of any size without copying them through a buffer.
//! Invariants: the mapping is private and read-only.
//! Non-goals: files that shrink while they are read: the system then stops the process (SIGBUS),
//! as for every program that maps files. A file that grows is read up to the length it had.
//! Sources: mmap(2).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap};

/// Maps a whole file for one pass from front to back.
///
/// # Errors
/// What mmap(2) says, for instance for files that cannot be mapped.
pub(super) fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only, and nobody in this process writes to capture
    // files. Another process may change the file's bytes meanwhile: every byte is treated as
    // hostile and read through bounds-checked slices, and no decision relies on reading one byte
    // twice with the same result for memory safety.
    let map = unsafe { Mmap::map(file)? };
    // Only advice: a kernel that does not take it reads ahead less.
    let _ = map.advise(Advice::Sequential);
    Ok(map)
}
