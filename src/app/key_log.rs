//! Where TLS secrets come from: a key log that others write, and a server's key.
//!
//! Purpose: read the files that `--tls-keylog` and `--tls-key` name, and follow the former while it grows.
//! Invariants: a line is taken once; a file that was replaced or cut is read from its beginning; a look costs one
//! `stat` and what is new.
//! Non-goals: the format (see `tls::key_log`), waiting for secrets (see `tls`).
//! Sources: RFC 9850 §2.

use crate::cli::{RunError, RunOptions};
use crate::tls::{KeyLog, KeyLogParser, RsaKey, TlsKeys};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes read at once.
const STEP_BYTES: usize = 64 << 10;

/// What the options name; `None` when they name nothing. `log`: where secrets go.
///
/// # Errors
/// A server's key that cannot be read or is none.
pub fn tls_keys(options: &RunOptions, log: KeyLog) -> Result<Option<TlsKeys>, RunError> {
    let rsa = options.tls_key.as_deref().map(rsa_key).transpose()?.map(Arc::new);
    let wanted = rsa.is_some() || options.tls_keylog.is_some() || log.counts().secrets > 0;
    Ok(wanted.then_some(TlsKeys { log, rsa }))
}

fn rsa_key(path: &Path) -> Result<RsaKey, RunError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| RunError::failed(format_args!("--tls-key {shown}: {error}")))?;
    RsaKey::from_pem(&text)
        .map_err(|error| RunError::failed(format_args!("--tls-key {shown}: {error}")))
}

/// A key log that is followed.
#[derive(Debug)]
pub struct KeyLogFile {
    path: PathBuf,
    log: KeyLog,
    parser: KeyLogParser,
    /// The file as it was opened, with its inode and how far it was read.
    open: Option<(File, u64, u64)>,
    /// The last complaint, so that it is said once.
    complaint: Option<String>,
}

impl KeyLogFile {
    /// One that has not been looked at.
    #[must_use]
    pub fn new(path: PathBuf, log: KeyLog) -> Self {
        Self { path, log, parser: KeyLogParser::new(), open: None, complaint: None }
    }

    /// Reads all of it, for a replay.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_whole(mut self) -> Result<(), RunError> {
        let read = self.catch_up();
        self.parser.finish(&self.log);
        read.map_err(|error| {
            RunError::failed(format_args!("--tls-keylog {}: {error}", self.path.display()))
        })
    }

    /// Reads what was added since the last look; a file that is not there yet is waited for.
    pub fn look(&mut self) {
        let complaint = self.catch_up().err().map(|error| error.to_string());
        if complaint != self.complaint {
            if let Some(what) = &complaint {
                tracing::warn!("--tls-keylog {}: {what}; looking again", self.path.display());
            }
            self.complaint = complaint;
        }
    }

    fn catch_up(&mut self) -> std::io::Result<()> {
        let there = std::fs::metadata(&self.path);
        if let (Ok(there), Some((_, inode, read))) = (&there, &self.open) {
            if there.ino() != *inode {
                self.read_on()?; // What was written before it was replaced.
                self.parser.finish(&self.log);
                self.open = None;
            } else if there.len() < *read {
                self.parser.finish(&self.log);
                self.open = None;
            } else if there.len() == *read {
                return Ok(());
            }
        }
        if self.open.is_none() {
            let file = File::open(&self.path)?;
            let inode = file.metadata()?.ino();
            self.open = Some((file, inode, 0));
        }
        self.read_on()
    }

    fn read_on(&mut self) -> std::io::Result<()> {
        let Some((file, _, read)) = &mut self.open else { return Ok(()) };
        let mut bytes = Zeroizing::new(vec![0; STEP_BYTES]);
        loop {
            let count = file.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            self.parser.push(bytes.get(..count).unwrap_or_default(), &self.log);
            *read = read.saturating_add(u64::try_from(count).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn line(random: u8) -> String {
        format!("CLIENT_RANDOM {} {}\n", format!("{random:02x}").repeat(32), "11".repeat(48))
    }

    fn secrets(log: &KeyLog) -> u64 {
        log.counts().secrets
    }

    #[test]
    fn a_log_is_followed_through_growth_truncation_and_rotation() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.log");
        let log = KeyLog::new();
        let mut file = KeyLogFile::new(path.clone(), log.clone());
        file.look();
        assert_eq!(secrets(&log), 0, "it is waited for");
        let mut writer = File::create(&path).expect("made");
        let (head, tail) = (line(1), line(2));
        write!(writer, "{head}{}", &tail[..40]).expect("written");
        file.look();
        assert_eq!(secrets(&log), 1);
        write!(writer, "{}", &tail[40..]).expect("written");
        file.look();
        file.look();
        assert_eq!(secrets(&log), 2);
        std::fs::write(&path, line(3)).expect("cut and written anew");
        file.look();
        assert_eq!(secrets(&log), 3);
        std::fs::rename(&path, folder.path().join("keys.log.1")).expect("rotated");
        std::fs::write(&path, line(4) + &line(5)).expect("written");
        file.look();
        assert_eq!(secrets(&log), 5);
        assert_eq!(log.counts().malformed, 0);
    }

    #[test]
    fn a_replay_takes_a_last_line_without_its_end_and_needs_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.log");
        let log = KeyLog::new();
        assert!(KeyLogFile::new(path.clone(), log.clone()).read_whole().is_err());
        std::fs::write(&path, line(1).trim_end()).expect("written");
        KeyLogFile::new(path, log.clone()).read_whole().expect("read");
        assert_eq!(secrets(&log), 1);
    }
}
