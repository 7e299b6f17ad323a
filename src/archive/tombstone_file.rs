//! The file `tombstones` on a disk.
//!
//! Purpose: read it whole, and add lines that are durable when the call returns.
//! Invariants: lines that were once durable are never rewritten in place; after a failed write or
//! sync the file is not appended to again: the next append copies what was durable into a new file
//! and renames it; memory takes a tombstone only when it is durable.
//! Non-goals: locking: whoever appends holds the archive's lock since it loaded.
//! Sources: docs/archive.md; "Can Applications Recover from fsync Failures?" (USENIX ATC 2020).
//!
//! **Load.** Precondition: none; a file that is not there is one without lines.
//!
//! 1. Read the file whole; refuse one over `TOMBSTONES_BYTES_MAX`.
//! 2. Check each line. A torn tail is kept apart: it was never acknowledged.
//!
//! **Append.** Precondition: loaded under the lock that is still held.
//!
//! 1. Refuse what may not be; sign all lines in memory. Nothing has been written yet.
//! 2. If there is no file, or an append failed before: make it afresh (below), and go on at 6. If the
//!    file has not the length that it was loaded with, another process wrote to it: refuse for good.
//! 3. Cut a torn tail off and sync that.
//! 4. Write all lines behind the last one.
//! 5. Sync. *If a write or a sync fails, these lines may be there or not; none was acknowledged.*
//! 6. Only now memory has them.
//!
//! **Make afresh.** Precondition: as for append.
//!
//! 1. Remove what an unfinished attempt left.
//! 2. Write the durable lines and the new ones to `tombstones.new`; sync it.
//! 3. Rename it to `tombstones`; sync the directory.

use std::io::{self, IoSlice};

use super::TOMBSTONES_NAME;
use super::disk::{Disk, is_full, open_if_there, read_vec};
use super::error::ArchiveError;
use super::merkle::Hash;
use super::signing::{SigningKey, VerifyingKey};
use super::tombstone_line::end_of;
use super::tombstones::{Tombstone, TombstoneRefusal, Tombstones};
use crate::base::CallId;
use crate::base::limits::{TOMBSTONE_LINE_BYTES_MAX, TOMBSTONES_BYTES_MAX};

const NEW_NAME: &str = "tombstones.new";

/// The tombstones of an archive, and what is known about their file.
#[derive(Clone, Debug)]
pub struct TombstoneFile {
    tombstones: Tombstones,
    /// Bytes of whole, durable lines.
    len_bytes: u64,
    torn_bytes: u64,
    state: State,
}

/// How the next lines get into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Behind the last one.
    Appendable,
    /// With a new file: there is none.
    Missing,
    /// With a new file: this one failed.
    Failed,
    /// Not at all: somebody else wrote to it, and their lines must not be lost.
    Changed,
}

impl TombstoneFile {
    /// Reads the file. Without a key signatures are not checked.
    ///
    /// # Errors
    /// `BadTombstones` with the first damaged line; `Io`.
    pub fn load<D: Disk>(
        disk: &D,
        archive_id: [u8; 16],
        key: Option<&VerifyingKey>,
    ) -> Result<Self, ArchiveError> {
        let bytes = match read(disk) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let tombstones = Tombstones::new(archive_id);
                return Ok(Self { tombstones, len_bytes: 0, torn_bytes: 0, state: State::Missing });
            }
            Err(error) => return Err(ArchiveError::io("read", TOMBSTONES_NAME, error)),
        };
        let (tombstones, torn_bytes) = Tombstones::parse(&bytes, archive_id, key)
            .map_err(|fault| ArchiveError::BadTombstones { fault })?;
        let len_bytes = (bytes.len() as u64).saturating_sub(torn_bytes);
        Ok(Self { tombstones, len_bytes, torn_bytes, state: State::Appendable })
    }

    /// What the durable lines say.
    #[must_use]
    pub const fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Bytes at the end of the file that are no whole line: a power failure cut the last append.
    #[must_use]
    pub const fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Adds tombstones made at `time_ns` (ns since 1970): one write and one sync for all of them.
    ///
    /// When it returns they are durable. A power failure before that leaves the first few of them,
    /// in order. Source: the numbered steps above.
    ///
    /// # Errors
    /// `TombstoneRefused`: nothing was written. `Full`, `Io`: none counts; append them again, or load
    /// the file anew and see which are there.
    pub fn append<D: Disk>(
        &mut self,
        disk: &mut D,
        new: &[Tombstone],
        time_ns: i64,
        key: &SigningKey,
    ) -> Result<(), ArchiveError> {
        // Step 1: what may be, signed.
        let calls = || new.iter().filter_map(Tombstone::call);
        let mut staged = self.tombstones.staged(calls());
        let mut lines = Vec::new();
        for tombstone in new {
            let line = staged.append_line(tombstone, time_ns, key);
            lines.extend(line.map_err(|refusal| refused(tombstone, refusal))?);
        }
        if lines.is_empty() {
            return Ok(());
        }
        let written = match self.state {
            // Step 2: no file to append to.
            State::Missing | State::Failed => self.make_afresh(disk, &lines),
            State::Appendable => self.append_lines(disk, &lines),
            State::Changed => Err(Failure::Changed),
        };
        if let Err(failure) = written {
            return Err(self.failed(disk, lines.len(), failure));
        }
        // Step 6: durable, so true.
        self.state = State::Appendable;
        self.torn_bytes = 0;
        self.len_bytes = self.len_bytes.saturating_add(lines.len() as u64);
        self.tombstones.accept(staged, calls());
        Ok(())
    }

    /// Cuts a torn tail off: step 3 of an append, for an archive that is to be whole before the next.
    ///
    /// # Errors
    /// `Io`.
    pub fn cut_torn_tail<D: Disk>(&mut self, disk: &mut D) -> Result<(), ArchiveError> {
        if self.torn_bytes == 0 {
            return Ok(());
        }
        let cut = disk.open_write(TOMBSTONES_NAME).and_then(|file| {
            disk.truncate(&file, self.len_bytes)?;
            disk.sync_data(&file)
        });
        if let Err(error) = cut {
            self.state = State::Failed;
            return Err(ArchiveError::io("write", TOMBSTONES_NAME, error));
        }
        self.torn_bytes = 0;
        Ok(())
    }

    fn append_lines<D: Disk>(&self, disk: &mut D, lines: &[u8]) -> Result<(), Failure> {
        let file = disk.open_write(TOMBSTONES_NAME)?;
        if disk.len_bytes(&file)? != self.len_bytes.saturating_add(self.torn_bytes) {
            return Err(Failure::Changed);
        }
        // Step 3: the torn tail.
        if self.torn_bytes > 0 {
            disk.truncate(&file, self.len_bytes)?;
            disk.sync_data(&file)?;
        }
        // Steps 4 and 5: the lines, durable.
        disk.write_at(&file, self.len_bytes, &[IoSlice::new(lines)])?;
        Ok(disk.sync_data(&file)?)
    }

    fn make_afresh<D: Disk>(&self, disk: &mut D, lines: &[u8]) -> Result<(), Failure> {
        let len = usize::try_from(self.len_bytes).unwrap_or(usize::MAX);
        let mut durable = match read(disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Ok(_) if self.state == State::Missing => return Err(Failure::Changed),
            found => found?,
        };
        if durable.len() < len {
            return Err(Failure::Changed);
        }
        durable.truncate(len);
        // Step 1: what an unfinished attempt left.
        match disk.remove(NEW_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // Step 2: all lines, durable under another name.
        let total = self.len_bytes.saturating_add(lines.len() as u64);
        let file = disk.create_preallocated(NEW_NAME, total)?;
        disk.write_at(&file, 0, &[IoSlice::new(&durable), IoSlice::new(lines)])?;
        disk.sync_data(&file)?;
        // Step 3: under their own.
        disk.rename(NEW_NAME, TOMBSTONES_NAME)?;
        Ok(disk.sync_dir("")?)
    }

    fn failed<D: Disk>(&mut self, disk: &D, len: usize, failure: Failure) -> ArchiveError {
        let error = match failure {
            Failure::Changed => {
                self.state = State::Changed;
                io::Error::other("another process changed it meanwhile")
            }
            Failure::Io(error) => {
                self.state = State::Failed;
                error
            }
        };
        if !is_full(&error) {
            return ArchiveError::io("write", TOMBSTONES_NAME, error);
        }
        let needed = self.len_bytes.saturating_add(len as u64);
        ArchiveError::Full { needed, free: disk.free_bytes().unwrap_or(0) }
    }
}

/// How many lines the file has, and SHA-256 of the last one: what a checkpoint binds. They are durable
/// when it returns, so that no checkpoint knows of a line that a power cut takes away.
///
/// # Errors
/// `Io`.
pub(super) fn durable_end<D: Disk>(disk: &mut D) -> Result<(u64, Hash), ArchiveError> {
    let none = (0, Hash::new([0; 32]));
    let io = |error| ArchiveError::io("read", TOMBSTONES_NAME, error);
    let Some(file) = open_if_there(disk, TOMBSTONES_NAME).map_err(io)? else { return Ok(none) };
    // A line may be cut by what is being appended: the one before it is whole.
    let tail = 3 * TOMBSTONE_LINE_BYTES_MAX;
    let from = disk.len_bytes(&file).map_err(io)?.saturating_sub(tail as u64);
    let end = end_of(&read_vec(disk, &file, from, tail).map_err(io)?).unwrap_or(none);
    // After the read: what it saw is what becomes durable.
    disk.sync_data(&file).map_err(io)?;
    disk.sync_dir("").map_err(io)?;
    Ok(end)
}

/// Why lines could not be written.
enum Failure {
    Io(io::Error),
    Changed,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn refused(tombstone: &Tombstone, refusal: TombstoneRefusal) -> ArchiveError {
    let call = tombstone.call().unwrap_or(CallId(0));
    ArchiveError::TombstoneRefused { call, refusal }
}

fn read<D: Disk>(disk: &D) -> io::Result<Vec<u8>> {
    let file = disk.open_read(TOMBSTONES_NAME)?;
    let len = usize::try_from(disk.len_bytes(&file)?).unwrap_or(usize::MAX);
    if len > TOMBSTONES_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    read_vec(disk, &file, 0, len)
}

#[cfg(test)]
#[path = "tombstone_file_tests.rs"]
mod tests;
