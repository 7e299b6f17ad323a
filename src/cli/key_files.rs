//! Where the keys of the box are: found, read, and made by `init`.
//!
//! Purpose: the one place that knows the paths of key files.
//! Invariants: a key file is never overwritten, is readable by its owner alone, and lies outside the
//! archive, so that a copy of the archive does not carry it along.
//! Non-goals: what keys do (see `archive`).
//! Sources: systemd.exec(5), "Credentials".

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::output::Failure;
use crate::archive::signing::SigningKey;
use crate::archive::{BoxKey, BoxKeys, Identities};

/// No key file is longer.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
const SIGNING_NAME: &str = "signing.key";
const BOX_NAME: &str = "box.key";

/// Where key files are, as far as anybody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPaths {
    /// `--signing-key`.
    pub signing: Option<PathBuf>,
    /// `--box-key`.
    pub box_key: Option<PathBuf>,
}

/// An archive and where its keys are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchivePlace {
    /// The archive's directory.
    pub dir: PathBuf,
    /// Its keys.
    pub keys: KeyPaths,
}

impl ArchivePlace {
    /// An archive whose keys are where `init` puts them.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), keys: KeyPaths::default() }
    }

    /// Where the signing key is: as said, as a systemd credential, or beside the archive.
    #[must_use]
    pub fn signing_path(&self) -> PathBuf {
        self.path(self.keys.signing.as_ref(), SIGNING_NAME)
    }

    /// Where the box key is.
    #[must_use]
    pub fn box_path(&self) -> PathBuf {
        self.path(self.keys.box_key.as_ref(), BOX_NAME)
    }

    fn path(&self, said: Option<&PathBuf>, name: &str) -> PathBuf {
        if let Some(said) = said {
            return said.clone();
        }
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credential = credentials.map(|dir| dir.join(name)).filter(|path| path.exists());
        credential.unwrap_or_else(|| beside(&self.dir).join(name))
    }

    /// Both keys, to write.
    ///
    /// # Errors
    /// One line: which file is missing or is no key, and the flag that names another.
    pub fn load(&self) -> Result<BoxKeys, Failure> {
        let signing = self.load_signing()?;
        let path = self.box_path();
        let box_key = BoxKey::parse(&read(&path, "box key", "--box-key")?)
            .ok_or_else(|| no_key(&path, "box key"))?;
        Ok(BoxKeys { signing, box_key })
    }

    fn load_signing(&self) -> Result<Arc<SigningKey>, Failure> {
        let path = self.signing_path();
        let key = SigningKey::parse(&read(&path, "signing key", "--signing-key")?);
        key.map(Arc::new).ok_or_else(|| no_key(&path, "signing key"))
    }

    /// The box key, to read.
    ///
    /// # Errors
    /// One line: the file that was named is missing, or is no key.
    ///
    /// Returns `None` if there is no file where it should be and nobody said where.
    pub fn load_box_key(&self) -> Result<Option<BoxKey>, Failure> {
        let path = self.box_path();
        if self.keys.box_key.is_none() && !path.exists() {
            return Ok(None);
        }
        let key = BoxKey::parse(&read(&path, "box key", "--box-key")?);
        key.ok_or_else(|| no_key(&path, "box key")).map(Some)
    }

    /// The keys for a new archive: those that are there, and new ones where there are none.
    ///
    /// # Errors
    /// One line: a file cannot be written, or is no key.
    pub fn load_or_make(&self) -> Result<BoxKeys, Failure> {
        let mut random = Zeroizing::new([0; 64]);
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(random.as_mut()))
            .map_err(|error| Failure::failed(format_args!("cannot read /dev/urandom: {error}")))?;
        let made = BoxKeys::from_random(&random)
            .ok_or_else(|| Failure::failed("cannot make keys: report this as a bug"))?;
        let (signing, box_key) = (self.signing_path(), self.box_path());
        if !signing.exists() {
            write_new(&signing, &made.signing.file_text())?;
        }
        if !box_key.exists() {
            write_new(&box_key, &made.box_key.file_text())?;
        }
        self.load()
    }
}

/// `calls.keys` beside `calls`.
fn beside(archive: &Path) -> PathBuf {
    let whole = fs::canonicalize(archive).or_else(|_| std::path::absolute(archive));
    let whole = whole.unwrap_or_else(|_| archive.to_owned());
    let mut name = whole.file_name().unwrap_or_default().to_owned();
    name.push(".keys");
    whole.with_file_name(name)
}

/// Reads an identity file.
pub fn load_identities(path: &Path) -> Result<Identities, Failure> {
    let text = read(path, "identity", "--identity")?;
    Identities::parse(&text)
        .map_err(|reason| Failure::failed(format_args!("{}: {reason}", path.display())))
}

/// Writes a new file of secrets that only its owner may read, durable.
pub fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error: std::io::Error| {
        let what = if error.kind() == ErrorKind::AlreadyExists {
            "it exists already; give another name".to_owned()
        } else {
            error.to_string()
        };
        Failure::failed(format_args!("cannot write {}: {what}", path.display()))
    })
}

fn read(path: &Path, what: &str, flag: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read =
        File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::failed(format_args!(
            "cannot read the {what} {}: {error}; give {flag} FILE",
            path.display()
        ))),
    }
}

fn no_key(path: &Path, what: &str) -> Failure {
    Failure::failed(format_args!("{} is no {what}: restore it from a copy", path.display()))
}
