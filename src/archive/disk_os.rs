//! The archive's directory on a real file system.
//!
//! Purpose: the only place of the archive that makes system calls (SQLite and `mmap` aside).
//! Invariants: files are readable by their owner alone (0600, directories 0700); the lock is freed
//! by the kernel when the process ends, however it ends.
//! Non-goals: network file systems that do not honour `flock`.
//! Sources: Linux pwritev(2), fallocate(2), fdatasync(2), flock(2), random(4), statvfs(3).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::sys::statvfs::statvfs;
use nix::sys::uio::pwritev;
use nix::unistd::fdatasync;

use super::INDEX_NAME;
use super::disk::{Disk, IndexPlace};

/// A directory.
#[derive(Debug)]
pub struct DiskOs {
    root: PathBuf,
    locks: Vec<(String, Flock<File>)>,
}

impl DiskOs {
    /// The archive at `root`; nothing is opened or created yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), locks: Vec::new() }
    }

    /// The archive's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Gives a file that was made to the owner of the directory: whoever keeps an archive as root must
    /// not shut its recorder out. Only root can, and only root has to.
    fn adopt(&self, file: &File) -> io::Result<()> {
        let (owner, made) = (fs::metadata(&self.root)?, file.metadata()?);
        if made.uid() != owner.uid() {
            fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }

    /// Sets `len_bytes` aside; a file system without `fallocate` gets a sparse file, and its
    /// writer learns of a full disk at the commit instead of at the rotation.
    fn preallocate(file: &File, len_bytes: u64) -> io::Result<()> {
        let len = i64::try_from(len_bytes).map_err(|_| io::Error::from(Errno::EFBIG))?;
        if len == 0 {
            return Ok(());
        }
        loop {
            match fallocate(file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return file.set_len(len_bytes),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Disk for DiskOs {
    type File = File;

    fn create_preallocated(&mut self, name: &str, len_bytes: u64) -> io::Result<File> {
        let path = self.path(name);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = self.adopt(&file).and_then(|()| Self::preallocate(&file, len_bytes)) {
            // Half a preallocation would keep the bytes that somebody else may still need.
            drop(file);
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(file)
    }

    fn open_read(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn open_write(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn len_bytes(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn modified_ns(&self, file: &File) -> io::Result<i64> {
        let metadata = file.metadata()?;
        Ok(metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()))
    }

    fn read_at(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = out.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, file: &File, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut owned: Vec<IoSlice<'_>> = slices.to_vec();
        let mut left: &mut [IoSlice<'_>] = &mut owned;
        let mut offset = i64::try_from(offset).map_err(|_| io::Error::from(Errno::EFBIG))?;
        IoSlice::advance_slices(&mut left, 0); // drops empty slices in front
        while !left.is_empty() {
            match pwritev(file, left, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset = offset.saturating_add(i64::try_from(written).unwrap_or(i64::MAX));
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&mut self, file: &File) -> io::Result<()> {
        Ok(fdatasync(file)?)
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn truncate(&mut self, file: &File, len_bytes: u64) -> io::Result<()> {
        file.set_len(len_bytes)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn create_dir(&mut self, name: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.path(name))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stats = statvfs(&self.root)?;
        Ok(stats.blocks_available().saturating_mul(stats.fragment_size()))
    }

    fn lock(&mut self, name: &str) -> io::Result<()> {
        if self.locks.iter().any(|(held, _)| held == name) {
            return Ok(());
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path(name))?;
        self.adopt(&file)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                self.locks.push((name.to_owned(), lock));
                Ok(())
            }
            Err((_, error)) => Err(error.into()),
        }
    }

    fn random(&mut self, out: &mut [u8]) -> io::Result<()> {
        File::open("/dev/urandom")?.read_exact(out)
    }

    fn index_place(&self) -> IndexPlace {
        IndexPlace::File(self.root.join(INDEX_NAME))
    }

    fn place(&self) -> String {
        self.root.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::LOCK_NAME;

    #[test]
    fn bytes_written_in_slices_read_back_and_the_rest_of_a_preallocated_file_is_zero() {
        let dir = tempfile::tempdir().expect("directory");
        let mut disk = DiskOs::new(dir.path());
        let file = disk.create_preallocated("file", 16).expect("room");
        let slices =
            [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        disk.write_at(&file, 3, &slices).expect("written");
        let mut bytes = [9; 20];
        assert_eq!(disk.read_at(&file, 0, &mut bytes).expect("read"), 16);
        assert_eq!(&bytes[..16], b"\0\0\0abcde\0\0\0\0\0\0\0\0");
        disk.truncate(&file, 4).expect("cut");
        assert_eq!(disk.len_bytes(&file).expect("length"), 4);
        let again = disk.create_preallocated("file", 1).map(|_| ());
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.list("").expect("names"), ["file"]);
        assert!(disk.free_bytes().expect("statvfs") > 0);
    }

    #[test]
    fn one_holder_has_the_lock_until_it_is_dropped() {
        let dir = tempfile::tempdir().expect("directory");
        let mut first = DiskOs::new(dir.path());
        let mut second = DiskOs::new(dir.path());
        first.lock(LOCK_NAME).expect("free");
        assert_eq!(second.lock(LOCK_NAME).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        second.lock(LOCK_NAME).expect("free again");
    }
}
