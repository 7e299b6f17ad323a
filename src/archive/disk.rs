//! The one door between the archive and storage.
//!
//! Purpose: let the same writer run on a file system and on a simulated disk that fails on command.
//! Invariants: names are relative to the archive's directory, with `/` between parts; nothing is
//! durable before `sync_data` (contents) or `sync_dir` (names) has returned `Ok`.
//! Non-goals: the index, which SQLite opens itself (see `index`); memory maps (see `mmap`).
//! Sources: POSIX.1-2017 pwrite, fdatasync; Linux pwritev(2), fallocate(2), flock(2).

use std::io::{self, IoSlice};
use std::path::PathBuf;

/// Where the SQLite index of an archive lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexPlace {
    /// A file of the file system.
    File(PathBuf),
    /// Nowhere: it is made again from the segments at each opening (simulations).
    Memory,
}

/// Storage of one archive.
pub trait Disk: Send {
    /// An open file.
    type File: Send;

    /// Creates a file with `len_bytes` bytes that read as zero and are set aside on the disk,
    /// open for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`; `StorageFull` when there is too little room, and then no file is left.
    fn create_preallocated(&mut self, name: &str, len_bytes: u64) -> io::Result<Self::File>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open_read(&self, name: &str) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open_write(&mut self, name: &str) -> io::Result<Self::File>;

    /// Names (without the directory) in `dir`, sorted; `""` is the archive's directory itself.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Length of the file, in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len_bytes(&self, file: &Self::File) -> io::Result<u64>;

    /// When the file was last written, in nanoseconds since the epoch, by the disk's own clock.
    ///
    /// # Errors
    /// What the system says.
    fn modified_ns(&self, file: &Self::File) -> io::Result<i64>;

    /// Reads at `offset` until `out` is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, file: &Self::File, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Writes all slices, one after the other, at `offset`. After an error any part of them may
    /// have been written.
    ///
    /// # Errors
    /// `StorageFull`, or what the system says.
    fn write_at(
        &mut self,
        file: &Self::File,
        offset: u64,
        slices: &[IoSlice<'_>],
    ) -> io::Result<()>;

    /// Makes the file's bytes and length durable. After an error what was written since the last
    /// success may be lost even if a later call succeeds, so nobody may call it again.
    ///
    /// # Errors
    /// What the system says.
    fn sync_data(&mut self, file: &Self::File) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&mut self, dir: &str) -> io::Result<()>;

    /// Cuts the file to `len_bytes`.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, file: &Self::File, len_bytes: u64) -> io::Result<()>;

    /// Gives a file another name, replacing what had it.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Creates a directory that only its owner may enter; one that exists is left as it is.
    /// `""` is the archive's directory itself.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&mut self, name: &str) -> io::Result<()>;

    /// Bytes that can still be written by this user.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Takes the lock of this name, which lasts as long as this value.
    ///
    /// # Errors
    /// `WouldBlock` when another one holds it.
    fn lock(&mut self, name: &str) -> io::Result<()>;

    /// Fills `out` with random bytes that nobody can guess.
    ///
    /// # Errors
    /// What the system says.
    fn random(&mut self, out: &mut [u8]) -> io::Result<()>;

    /// Where the index lives.
    fn index_place(&self) -> IndexPlace;

    /// The archive's directory, for messages.
    fn place(&self) -> String;
}

/// True when `error` means that the disk, a quota or a file-size limit is exhausted.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Opens a file that may not be there for reading.
pub(super) fn open_if_there<D: Disk>(disk: &D, name: &str) -> io::Result<Option<D::File>> {
    match disk.open_read(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there<D: Disk>(disk: &mut D, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads exactly `len_bytes` bytes at `offset`, or fewer at the end of the file.
pub(super) fn read_vec<D: Disk>(
    disk: &D,
    file: &D::File,
    offset: u64,
    len_bytes: usize,
) -> io::Result<Vec<u8>> {
    let mut out = vec![0; len_bytes];
    let read = disk.read_at(file, offset, &mut out)?;
    out.truncate(read);
    Ok(out)
}
