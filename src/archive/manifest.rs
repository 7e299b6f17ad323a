//! `archive.toml`: what makes a directory an archive.
//!
//! Purpose: the format version and the archive's random id, written once by `callspan init`.
//! Invariants: it is the last file that `init` makes durable, so a directory without it holds
//! nothing worth keeping; it is replaced by renaming, never rewritten in place.
//! Non-goals: settings of a capture (see the configuration file).
//! Sources: TOML 1.0; RFC 3339.

use std::io::{self, IoSlice};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, is_full, read_vec};
use super::error::ArchiveError;
use super::index::Index;
use super::{DiskOs, INDEX_NAME, LOCK_NAME, MANIFEST_NAME, SEGMENTS_DIR};

/// Version of the directory's layout.
pub const FORMAT_VERSION: u64 = 1;
/// No `archive.toml` that we wrote is longer.
const MANIFEST_BYTES_MAX: usize = 64 << 10;
const MANIFEST_NEW_NAME: &str = "archive.toml.new";

/// How records are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Not at all: anyone who can read the files can listen.
    Plaintext,
}

/// What `init` is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitOptions {
    /// How records will be protected.
    pub protection: Protection,
}

/// The contents of `archive.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the directory's layout.
    pub format: u64,
    /// The archive's random id: 32 hex digits.
    pub archive: String,
    /// True when records are not encrypted.
    pub plaintext: bool,
    /// When it was made, by the disk's clock: RFC 3339 in UTC.
    pub created: String,
}

impl Manifest {
    /// Reads `archive.toml`.
    ///
    /// # Errors
    /// `NotInitialised`, `BadManifest`, `VersionUnknown`, `Io`.
    pub fn read<D: Disk>(disk: &D) -> Result<Self, ArchiveError> {
        let io = |error| ArchiveError::io("read", MANIFEST_NAME, error);
        let file = match disk.open_read(MANIFEST_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArchiveError::NotInitialised { path: disk.place().into() });
            }
            Err(error) => return Err(io(error)),
        };
        let bytes = read_vec(disk, &file, 0, MANIFEST_BYTES_MAX).map_err(io)?;
        let bad = |reason: String| ArchiveError::BadManifest {
            reason: reason.lines().next().unwrap_or_default().to_owned(),
        };
        let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        // The version first: another version may hold other keys.
        let found = table.get("format").and_then(toml::Value::as_integer);
        let found = found.and_then(|found| u64::try_from(found).ok());
        let found = found.ok_or_else(|| bad("format is missing".to_owned()))?;
        if found != FORMAT_VERSION {
            let name = MANIFEST_NAME.to_owned();
            return Err(ArchiveError::VersionUnknown { name, found, known: FORMAT_VERSION });
        }
        let manifest: Self = table.try_into().map_err(|error| bad(error.to_string()))?;
        manifest.archive_id().ok_or_else(|| bad("archive is not 32 hex digits".to_owned()))?;
        Ok(manifest)
    }

    /// The archive's random id as bytes.
    #[must_use]
    pub fn archive_id(&self) -> Option<[u8; 16]> {
        let digits =
            self.archive.len() == 32 && self.archive.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(&self.archive, 16).ok()?;
        digits.then_some(number.to_be_bytes())
    }
}

/// Makes an archive of the directory at `path`, which must be empty or not exist.
///
/// # Errors
/// `AlreadyInitialised`, `NotEmpty`, `Full`, `Io`, `Index`.
pub fn init(path: &Path, options: InitOptions) -> Result<(), ArchiveError> {
    init_on(&mut DiskOs::new(path), options)
}

/// The same as [`init`], on any disk. See docs/archive.md, "Initialise".
///
/// # Errors
/// As [`init`].
pub fn init_on<D: Disk>(disk: &mut D, options: InitOptions) -> Result<(), ArchiveError> {
    // Step 1: the directory, and nobody else's files in it.
    disk.create_dir("").map_err(|error| ArchiveError::io("create", &disk.place(), error))?;
    let names = disk.list("").map_err(|error| ArchiveError::io("list", &disk.place(), error))?;
    if names.iter().any(|name| name == MANIFEST_NAME) {
        return Err(ArchiveError::AlreadyInitialised { path: disk.place().into() });
    }
    refuse_strangers(disk, &names)?;
    // Step 2: what an unfinished `init` left.
    for name in names.iter().filter(|name| is_leftover(name) && *name != SEGMENTS_DIR) {
        disk.remove(name).map_err(|error| ArchiveError::io("remove", name, error))?;
    }
    // Step 3: the directory of segments and an empty index.
    let make = |error| ArchiveError::io("create", SEGMENTS_DIR, error);
    disk.create_dir(SEGMENTS_DIR).map_err(make)?;
    disk.sync_dir(SEGMENTS_DIR).map_err(make)?;
    Index::create(&disk.index_place(), &disk.place(), None)?;
    // Step 4: archive.toml, durable under another name, then under its own.
    write_manifest(disk, options)
}

fn is_leftover(name: &str) -> bool {
    [MANIFEST_NEW_NAME, LOCK_NAME, SEGMENTS_DIR].contains(&name) || name.starts_with(INDEX_NAME)
}

fn refuse_strangers<D: Disk>(disk: &D, names: &[String]) -> Result<(), ArchiveError> {
    let refuse = |found: &str| {
        Err(ArchiveError::NotEmpty { path: disk.place().into(), found: found.to_owned() })
    };
    if let Some(stranger) = names.iter().find(|name| !is_leftover(name)) {
        return refuse(stranger);
    }
    if names.iter().any(|name| name == SEGMENTS_DIR) {
        let segments = disk.list(SEGMENTS_DIR);
        let segments = segments.map_err(|error| ArchiveError::io("list", SEGMENTS_DIR, error))?;
        if !segments.is_empty() {
            return refuse(SEGMENTS_DIR);
        }
    }
    Ok(())
}

fn write_manifest<D: Disk>(disk: &mut D, options: InitOptions) -> Result<(), ArchiveError> {
    let io = |error: io::Error| ArchiveError::io("write", MANIFEST_NAME, error);
    let mut id = [0; 16];
    disk.random(&mut id).map_err(|error| ArchiveError::io("read", "/dev/urandom", error))?;
    let file = disk.create_preallocated(MANIFEST_NEW_NAME, 0).map_err(io)?;
    let created_ns = disk.modified_ns(&file).map_err(io)?;
    let created = jiff::Timestamp::from_nanosecond(created_ns.into()).unwrap_or_default();
    let manifest = Manifest {
        format: FORMAT_VERSION,
        archive: format!("{:032x}", u128::from_be_bytes(id)),
        plaintext: options.protection == Protection::Plaintext,
        created: created.to_string(),
    };
    let text = toml::to_string(&manifest)
        .map_err(|error| ArchiveError::BadManifest { reason: error.to_string() })?;
    match disk.write_at(&file, 0, &[IoSlice::new(text.as_bytes())]) {
        Err(error) if is_full(&error) => {
            let free = disk.free_bytes().unwrap_or(0);
            return Err(ArchiveError::Full { needed: text.len() as u64, free });
        }
        written => written.map_err(io)?,
    }
    disk.sync_data(&file).map_err(io)?;
    disk.rename(MANIFEST_NEW_NAME, MANIFEST_NAME).map_err(io)?;
    disk.sync_dir("").map_err(io)
}
