//! The file that `export` writes: whole under its name, or not there.
//!
//! Purpose: nobody finds half a recording, and no file is lost to a mistyped name.
//! Invariants: bytes go to a temporary name in the same directory, are synced, and take the final
//! name in one step; a failed export removes them; an existing file is replaced only when asked.
//! Non-goals: creating directories.
//! Sources: renameat2(2), `RENAME_NOREPLACE`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::Overwrite;
use super::output::Failure;

/// A file under construction.
pub enum OutFile {
    /// Standard output, or a device or a pipe that has a name: written as it comes.
    Stream(Box<dyn Write>, PathBuf),
    /// A file that gets its name when it is complete.
    File(Pending),
}

/// A temporary file, removed unless it is finished.
pub struct Pending {
    out: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    overwrite: Overwrite,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unfinished,
    Named,
}

impl OutFile {
    /// Begins to write what will be `path`; `-` is standard output.
    ///
    /// # Errors
    /// When the file exists and must not be replaced, or cannot be created.
    pub fn create(path: &Path, overwrite: Overwrite) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let out = BufWriter::with_capacity(64 << 10, io::stdout());
            return Ok(Self::Stream(Box::new(out), "-".into()));
        }
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Failure::failed(format_args!(
                    "{}: is a directory; give --output a file name",
                    path.display()
                )));
            }
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                let file = file.map_err(|error| cannot_write(path, &error))?;
                return Ok(Self::Stream(Box::new(BufWriter::new(file)), path.to_owned()));
            }
            Ok(_) if overwrite == Overwrite::Refuse => return Err(exists(path)),
            _ => {}
        }
        let temporary = temporary_beside(path);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary);
        let file = file.map_err(|error| cannot_write(path, &error))?;
        Ok(Self::File(Pending {
            out: BufWriter::with_capacity(64 << 10, file),
            temporary,
            path: path.to_owned(),
            overwrite,
            state: State::Unfinished,
        }))
    }

    /// A name under which a library that opens files itself can write the bytes instead.
    #[must_use]
    pub fn name_for_libraries(&self) -> &Path {
        match self {
            Self::Stream(_, path) => path,
            Self::File(pending) => &pending.temporary,
        }
    }

    /// Holds the file to its length, for what was written by a library that hides a full disk.
    ///
    /// # Errors
    /// When a file has another length; devices and pipes have none.
    pub fn check_length(&self, expected: u64) -> Result<(), Failure> {
        let Self::File(pending) = self else { return Ok(()) };
        match pending.out.get_ref().metadata() {
            Ok(found) if found.len() == expected => Ok(()),
            Ok(_) => Err(cannot_write(&pending.path, &ErrorKind::StorageFull.into())),
            Err(error) => Err(cannot_write(&pending.path, &error)),
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the last bytes cannot be written or synced, or the name was taken meanwhile.
    pub fn finish(self) -> Result<(), Failure> {
        let mut pending = match self {
            Self::File(pending) => pending,
            Self::Stream(mut out, path) => {
                return out.flush().map_err(|error| write_failure(&path, &error));
            }
        };
        pending.out.flush().map_err(|error| cannot_write(&pending.path, &error))?;
        let synced = pending.out.get_ref().sync_all();
        synced.map_err(|error| cannot_write(&pending.path, &error))?;
        take_name(&pending.temporary, &pending.path, pending.overwrite)?;
        pending.state = State::Named;
        Ok(())
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(out, _) => out.write(bytes),
            Self::File(pending) => pending.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(out, _) => out.flush(),
            Self::File(pending) => pending.out.flush(),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.state == State::Unfinished {
            // Nothing better can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// What a failed write to `path` (`-`: standard output) means to the one who asked for it.
pub fn write_failure(path: &Path, error: &io::Error) -> Failure {
    if path.as_os_str() == "-" { Failure::printing(error) } else { cannot_write(path, error) }
}

fn take_name(temporary: &Path, path: &Path, overwrite: Overwrite) -> Result<(), Failure> {
    if overwrite == Overwrite::Refuse {
        match renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => return Err(exists(path)),
            // Some file systems cannot; the check at the start has to do.
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            Err(errno) => return Err(cannot_write(path, &errno.into())),
        }
    }
    std::fs::rename(temporary, path).map_err(|error| cannot_write(path, &error))
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name that is near the limit of 255 bytes must not become too long.
    let name: String = name.chars().take(40).collect();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

fn exists(path: &Path) -> Failure {
    Failure::failed(format_args!(
        "{}: exists; give --force to replace it, or another --output",
        path.display()
    ))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let advice = match error.kind() {
        ErrorKind::NotFound => "; make its directory first",
        ErrorKind::StorageFull => "; free some space, or give another --output",
        ErrorKind::PermissionDenied => "; give an --output that you may write",
        _ => "",
    };
    Failure::failed(format_args!("{}: cannot be written: {error}{advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let name = |entry: io::Result<std::fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_complete() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("call.wav");
        let mut file = OutFile::create(&path, Overwrite::Refuse).expect("created");
        file.write_all(b"half").expect("written");
        assert!(!path.exists());
        file.write_all(b" whole").expect("written");
        file.finish().expect("finished");
        assert_eq!(std::fs::read(&path).expect("read"), b"half whole");
        assert_eq!(names(directory.path()), ["call.wav"]);
    }

    #[test]
    fn a_file_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("call.wav");
        let mut file = OutFile::create(&path, Overwrite::Refuse).expect("created");
        file.write_all(b"half").expect("written");
        drop(file);
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("call.wav");
        let racing = OutFile::create(&path, Overwrite::Refuse).expect("created");
        std::fs::write(&path, "old").expect("written");
        let refused = racing.finish().expect_err("taken meanwhile");
        assert!(refused.message.contains("--force"), "{refused:?}");
        assert!(OutFile::create(&path, Overwrite::Refuse).is_err());
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        let mut file = OutFile::create(&path, Overwrite::Replace).expect("created");
        file.write_all(b"new").expect("written");
        file.finish().expect("finished");
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
        assert_eq!(names(directory.path()), ["call.wav"]);
    }

    #[test]
    fn what_cannot_be_written_says_what_to_do() {
        let missing = OutFile::create(Path::new("no/such/dir/a.wav"), Overwrite::Refuse).err();
        assert!(missing.expect("no directory").message.contains("make its directory first"));
        let Ok(mut full) = OutFile::create(Path::new("/dev/full"), Overwrite::Refuse) else {
            panic!("a device is opened");
        };
        full.write_all(b"x").expect("buffered");
        assert_eq!(full.finish().expect_err("full").exit, super::super::Exit::Failed);
    }
}
