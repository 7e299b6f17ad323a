//! Copies each new checkpoint to a place off the box.
//!
//! Purpose: a checkpoint that only the recorder has proves nothing against whoever has the recorder; one
//! in a mounted directory of another machine does (`verify --checkpoint`).
//! Invariants: the recording never waits for it; a copy is whole or not there; one that failed is tried
//! again, unless a newer one, which binds all before it, has come.
//! Non-goals: mounting, and keeping the other machine from forgetting (see docs/threats.md).
//! Sources: C2SP tlog-checkpoint.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// A copy that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(30);
/// How long the end of a run waits for the last copy.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The thread that copies.
#[derive(Debug)]
pub struct CheckpointCopy {
    directory: PathBuf,
    thread: JoinHandle<bool>,
}

impl CheckpointCopy {
    /// Starts it; signed notes go into what it returns, which never has to be waited for.
    ///
    /// # Errors
    /// When `directory` is none, or the system has no thread to give.
    pub fn start(directory: PathBuf) -> io::Result<(Self, Sender<String>)> {
        if !fs::metadata(&directory)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let (sender, notes) = bounded(1);
        let to = directory.clone();
        let thread = std::thread::Builder::new()
            .name("callspan-checkpoints".into())
            .spawn(move || run(&notes, &to))?;
        Ok((Self { directory, thread }, sender))
    }

    /// Waits a while for the last copy, all senders being gone; says what is missing where it is.
    ///
    /// # Errors
    /// One sentence.
    pub fn finish(self) -> Result<(), String> {
        let began = Instant::now();
        while !self.thread.is_finished() && began.elapsed() < LAST_WAIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        let is_copied = self.thread.is_finished() && self.thread.join().unwrap_or(false);
        if is_copied {
            return Ok(());
        }
        Err(format!("the newest checkpoint was not copied to {}", self.directory.display()))
    }
}

/// Copies until all senders are gone; true if the last one is there.
fn run(notes: &Receiver<String>, directory: &Path) -> bool {
    let mut waiting: Option<String> = None;
    loop {
        let wait = if waiting.is_some() { RETRY } else { Duration::from_secs(3_600) };
        let is_last = match notes.recv_timeout(wait) {
            Ok(note) => {
                waiting = Some(note);
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if let Some(note) = &waiting {
            match copy(directory, note) {
                Ok(()) => waiting = None,
                Err(error) => tracing::warn!(
                    directory = %directory.display(), %error,
                    "a checkpoint cannot be copied: is the directory mounted and writable?"
                ),
            }
        }
        if is_last {
            return waiting.is_none();
        }
    }
}

/// Writes one note, whole, under the archive's id and the number of finished segments.
fn copy(directory: &Path, note: &str) -> io::Result<()> {
    let mut lines = note.lines();
    let origin = lines.next().unwrap_or_default().replace('/', "-");
    let size: u64 = lines.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let name = directory.join(format!("{origin}-{size:010}.checkpoint"));
    let unfinished = name.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, &name)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str = "callspan/a5\n7\nroot\n\n— name signature\n";

    #[test]
    fn the_last_note_is_there_whole_when_the_run_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let (copy, sender) = CheckpointCopy::start(directory.path().into()).expect("started");
        sender.send(NOTE.replace("\n7\n", "\n6\n")).expect("taken");
        sender.send(NOTE.into()).expect("taken");
        drop(sender);
        copy.finish().expect("copied");
        let name = directory.path().join("callspan-a5-0000000007.checkpoint");
        assert_eq!(fs::read_to_string(name).expect("there"), NOTE);
        assert_eq!(
            fs::read_dir(directory.path()).expect("listed").count(),
            2,
            "nothing unfinished"
        );
    }

    #[test]
    fn what_is_not_copied_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("gone");
        assert!(CheckpointCopy::start(place.clone()).is_err(), "there is none");
        fs::create_dir(&place).expect("made");
        let (copy, sender) = CheckpointCopy::start(place.clone()).expect("started");
        fs::remove_dir(&place).expect("unmounted");
        sender.send(NOTE.into()).expect("taken");
        drop(sender);
        let told = copy.finish().expect_err("it is not there");
        assert!(told.contains("not copied") && told.contains("gone"), "{told}");
    }
}
