//! `archive.toml`: what makes a directory an archive.
//!
//! Purpose: format version, random id, who can open recordings, how long they are kept; written by
//! `callspan init`, changed by `callspan recipients`.
//! Invariants: it is the last file that `init` makes durable, so a directory without it holds
//! nothing worth keeping; it is replaced by renaming, never rewritten in place; the archive's signing
//! key signs it, so that nobody slips in a recipient, and `tombstones` knows the last, so that nobody
//! puts an older one back.
//! Non-goals: settings of a capture (see the configuration file).
//! Sources: TOML 1.0; RFC 3339.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::box_keys::BoxKeys;
use super::disk::{Disk, is_full, open_if_there, read_vec, remove_if_there};
use super::error::ArchiveError;
use super::index::Index;
use super::merkle::{Hash, sha256};
use super::recipients::{ArchiveRecipient, RECIPIENTS_MAX};
use super::signing::VerifyingKey;
use super::tombstones::Tombstones;
use super::{DiskOs, INDEX_NAME, LOCK_NAME, MANIFEST_NAME, SEGMENTS_DIR};

/// Version of the directory's layout.
pub const FORMAT_VERSION: u64 = 2;
/// No `archive.toml` that we wrote is longer.
const MANIFEST_BYTES_MAX: usize = 128 << 10;
const MANIFEST_NEW_NAME: &str = "archive.toml.new";
const SIGNATURE_PREFIX: &str = "# signed: ";
const SIGNING_CONTEXT: &str = "callspan archive.toml";

/// How records are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Not at all: anyone who can read the files can listen.
    Plaintext,
    /// Sealed to these age recipients, public keys.
    Recipients(Vec<String>),
}

/// How long calls are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Days for a call without a class; `None`: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Days for calls of a class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, u32>,
}

impl Retention {
    /// Days for a call of this class (`""`: none), where there is an end.
    #[must_use]
    pub fn days_of(&self, class: &str) -> Option<u32> {
        self.classes.get(class).copied().or(self.days)
    }
}

/// What `init` is to make.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// How records will be protected.
    pub protection: Protection,
    /// How long calls will be kept.
    pub retention: Retention,
}

impl InitOptions {
    /// A plaintext archive that keeps everything.
    #[must_use]
    pub fn plaintext() -> Self {
        Self { protection: Protection::Plaintext, retention: Retention::default() }
    }

    /// An archive sealed to these recipients that keeps everything.
    #[must_use]
    pub fn sealed_to(recipients: &[&str]) -> Self {
        let recipients = recipients.iter().map(|text| (*text).to_owned()).collect();
        Self { protection: Protection::Recipients(recipients), retention: Retention::default() }
    }
}

/// The contents of `archive.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the directory's layout.
    pub format: u64,
    /// The archive's random id: 32 hex digits.
    pub archive: String,
    /// When it was made, by the disk's clock: RFC 3339 in UTC.
    pub created: String,
    /// True when records are not encrypted.
    pub plaintext: bool,
    /// Who can open what is recorded from now on: age public keys.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// The fingerprint of the box key; empty in a plaintext archive.
    #[serde(default)]
    pub box_key: String,
    /// The public half of the signing key, as a C2SP vkey.
    pub signing_key: String,
    /// How long calls are kept.
    #[serde(default)]
    pub retention: Retention,
}

impl Manifest {
    /// Reads `archive.toml` and checks it against its own signature. Whether the key in it is the
    /// right one is for whoever knows the right one to say (`check_keys`, `verify`).
    ///
    /// # Errors
    /// `NotInitialised`, `BadManifest`, `VersionUnknown`, `Io`.
    pub fn read<D: Disk>(disk: &D) -> Result<Self, ArchiveError> {
        Self::parse(&read_own(disk)?)
    }

    /// The settings that hold, and whether they still wait for their name: `archive.toml`, or the one
    /// that the last `settings` line announced and that a crash kept from taking its place.
    ///
    /// # Errors
    /// As `read`; `BadManifest` when an older one stands in its place.
    pub fn current<D: Disk>(
        disk: &D,
        tombstones: &Tombstones,
    ) -> Result<(Self, Named), ArchiveError> {
        let own = read_own(disk)?;
        let manifest = Self::parse(&own)?;
        let is_it = |bytes: &[u8]| tombstones.settings().is_none_or(|it| it == sha256(&[bytes]));
        if is_it(&own) {
            return Ok((manifest, Named::Yes));
        }
        match read_file(disk, MANIFEST_NEW_NAME)? {
            Some(bytes) if is_it(&bytes) => Ok((Self::parse(&bytes)?, Named::NotYet)),
            _ => Err(bad("it is not the one that was signed last: an older one was put back")),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let text = std::str::from_utf8(bytes).map_err(|error| bad(&error.to_string()))?;
        let table: toml::Table = toml::from_str(text).map_err(|error| bad(&error.to_string()))?;
        // The version first: another version may hold other keys.
        let found = table.get("format").and_then(toml::Value::as_integer);
        let found = found.and_then(|found| u64::try_from(found).ok());
        let found = found.ok_or_else(|| bad("format is missing"))?;
        if found != FORMAT_VERSION {
            let name = MANIFEST_NAME.to_owned();
            return Err(ArchiveError::VersionUnknown { name, found, known: FORMAT_VERSION });
        }
        let manifest: Self = table.try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string();
            bad(&text)
        })?;
        manifest.archive_id().ok_or_else(|| bad("archive is not 32 hex digits"))?;
        let key = manifest.verifying_key()?;
        if !is_signed(text, &key) {
            return Err(bad("its signature does not match: it was changed by hand"));
        }
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

    /// The key that checks what the archive's signing key signed.
    ///
    /// # Errors
    /// `BadManifest`.
    pub fn verifying_key(&self) -> Result<VerifyingKey, ArchiveError> {
        VerifyingKey::parse(&self.signing_key).ok_or_else(|| bad("signing_key is no vkey"))
    }

    /// The recipients of what is recorded from now on.
    ///
    /// # Errors
    /// `BadManifest`.
    pub fn recipients(&self) -> Result<Vec<ArchiveRecipient>, ArchiveError> {
        parse_recipients(&self.recipients)
    }

    /// Checks that the keys of the box are this archive's.
    ///
    /// # Errors
    /// `Keys`.
    pub fn check_keys(&self, keys: &BoxKeys) -> Result<(), ArchiveError> {
        let signing = keys.signing.verifying_key().to_string();
        if signing != self.signing_key {
            return Err(wrong_key("the signing key", &self.signing_key, &signing, "--signing-key"));
        }
        self.check_box_key(Some(&keys.box_key))
    }

    /// Checks that a box key is this archive's, where the archive is sealed.
    ///
    /// # Errors
    /// `Keys`.
    pub fn check_box_key(&self, key: Option<&super::secret::BoxKey>) -> Result<(), ArchiveError> {
        let found = key.map(super::secret::BoxKey::fingerprint).unwrap_or_default();
        if self.plaintext || key.is_none() || found == self.box_key {
            return Ok(());
        }
        Err(wrong_key("the box key", &self.box_key, &found, "--box-key"))
    }

    /// Makes the file that is to replace `archive.toml`, durable under another name; its SHA-256.
    ///
    /// # Errors
    /// `BadManifest`, `Full`, `Io`.
    pub(super) fn stage<D: Disk>(
        &self,
        disk: &mut D,
        keys: &BoxKeys,
    ) -> Result<Hash, ArchiveError> {
        let io = |error: io::Error| ArchiveError::io("write", MANIFEST_NAME, error);
        let mut text = toml::to_string(self).map_err(|error| bad(&error.to_string()))?;
        let signature = keys.signing.sign(SIGNING_CONTEXT, &[text.as_bytes()]);
        text.push_str(SIGNATURE_PREFIX);
        text.push_str(&STANDARD.encode(signature));
        text.push('\n');
        remove_if_there(disk, MANIFEST_NEW_NAME).map_err(io)?;
        let file = disk.create_preallocated(MANIFEST_NEW_NAME, 0).map_err(io)?;
        match disk.write_at(&file, 0, &[IoSlice::new(text.as_bytes())]) {
            Err(error) if is_full(&error) => {
                let free = disk.free_bytes().unwrap_or(0);
                return Err(ArchiveError::Full { needed: text.len() as u64, free });
            }
            written => written.map_err(io)?,
        }
        disk.sync_data(&file).map_err(io)?;
        Ok(sha256(&[text.as_bytes()]))
    }
}

/// Whether settings stand under their own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// They do.
    Yes,
    /// They wait for it under another one.
    NotYet,
}

/// Puts the file that was staged in the place of `archive.toml`.
pub(super) fn take_place<D: Disk>(disk: &mut D) -> Result<(), ArchiveError> {
    let io = |error: io::Error| ArchiveError::io("write", MANIFEST_NAME, error);
    disk.rename(MANIFEST_NEW_NAME, MANIFEST_NAME).map_err(io)?;
    disk.sync_dir("").map_err(io)
}

/// The bytes of `archive.toml`.
fn read_own<D: Disk>(disk: &D) -> Result<Vec<u8>, ArchiveError> {
    let bytes = read_file(disk, MANIFEST_NAME)?;
    bytes.ok_or_else(|| ArchiveError::NotInitialised { path: disk.place().into() })
}

/// A file of the archive's directory, whole; `None` where there is none.
fn read_file<D: Disk>(disk: &D, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
    let io = |error| ArchiveError::io("read", name, error);
    let Some(file) = open_if_there(disk, name).map_err(io)? else { return Ok(None) };
    read_vec(disk, &file, 0, MANIFEST_BYTES_MAX).map(Some).map_err(io)
}

fn bad(reason: &str) -> ArchiveError {
    let reason = reason.lines().next().unwrap_or_default().to_owned();
    ArchiveError::BadManifest { reason }
}

fn wrong_key(what: &str, wanted: &str, found: &str, flag: &str) -> ArchiveError {
    ArchiveError::Keys {
        reason: format!("{what} is another archive's ({found}, wanted {wanted}): give {flag} FILE"),
    }
}

fn is_signed(text: &str, key: &VerifyingKey) -> bool {
    let read = || {
        let at = text.rfind(SIGNATURE_PREFIX)?;
        let (body, line) = text.split_at_checked(at)?;
        let line = line.strip_prefix(SIGNATURE_PREFIX)?.strip_suffix('\n')?;
        let signature: [u8; 64] = STANDARD.decode(line).ok()?.try_into().ok()?;
        Some(key.verify(SIGNING_CONTEXT, &[body.as_bytes()], &signature))
    };
    read().unwrap_or(false)
}

fn parse_recipients(texts: &[String]) -> Result<Vec<ArchiveRecipient>, ArchiveError> {
    let read = |text: &String| {
        ArchiveRecipient::parse(text).map_err(|reason| ArchiveError::Keys { reason })
    };
    texts.iter().map(read).collect()
}

/// Makes an archive of the directory at `path`, which must be empty or not exist.
///
/// # Errors
/// `AlreadyInitialised`, `NotEmpty`, `Keys`, `Sealing`, `Full`, `Io`, `Index`.
pub fn init(path: &Path, options: &InitOptions, keys: &BoxKeys) -> Result<(), ArchiveError> {
    init_on(&mut DiskOs::new(path), options, keys)
}

/// The same as [`init`], on any disk. See docs/archive.md, "Initialise".
///
/// # Errors
/// As [`init`].
pub fn init_on<D: Disk>(
    disk: &mut D,
    options: &InitOptions,
    keys: &BoxKeys,
) -> Result<(), ArchiveError> {
    let recipients = usable_recipients(&options.protection)?;
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
    let plaintext = options.protection == Protection::Plaintext;
    let index_key = (!plaintext).then(|| keys.box_key.index_key());
    Index::create(&disk.index_place(), &disk.place(), index_key.as_ref())?;
    // Step 4: archive.toml, durable under another name, then under its own.
    let mut id = [0; 16];
    disk.random(&mut id).map_err(|error| ArchiveError::io("read", "/dev/urandom", error))?;
    let manifest = Manifest {
        format: FORMAT_VERSION,
        archive: format!("{:032x}", u128::from_be_bytes(id)),
        created: created(disk)?,
        plaintext,
        recipients,
        box_key: if plaintext { String::new() } else { keys.box_key.fingerprint() },
        signing_key: keys.signing.verifying_key().to_string(),
        retention: options.retention.clone(),
    };
    manifest.stage(disk, keys)?;
    take_place(disk)
}

/// The time by the disk's clock: the archive reads no other.
fn created<D: Disk>(disk: &mut D) -> Result<String, ArchiveError> {
    let io = |error: io::Error| ArchiveError::io("write", MANIFEST_NAME, error);
    let file = disk.create_preallocated(MANIFEST_NEW_NAME, 0).map_err(io)?;
    let created_ns = disk.modified_ns(&file).map_err(io)?;
    Ok(jiff::Timestamp::from_nanosecond(created_ns.into()).unwrap_or_default().to_string())
}

/// The recipients as they will stand in `archive.toml`, once each, tried out together.
///
/// # Errors
/// `Keys`, `Sealing`.
pub fn usable_recipients(protection: &Protection) -> Result<Vec<String>, ArchiveError> {
    let Protection::Recipients(texts) = protection else { return Ok(Vec::new()) };
    let parsed = parse_recipients(texts)?;
    if parsed.is_empty() || parsed.len() > RECIPIENTS_MAX {
        let reason = format!("give 1 to {RECIPIENTS_MAX} recipients");
        return Err(ArchiveError::Keys { reason });
    }
    super::call_keys::try_out(&parsed)?;
    let mut texts = Vec::new();
    for recipient in &parsed {
        if !texts.iter().any(|known| known == recipient.text()) {
            texts.push(recipient.text().to_owned());
        }
    }
    Ok(texts)
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
