//! `callspan recipients`: who can open what is recorded from now on.
//!
//! Purpose: add and take away recipients of new calls, list them, and wrap old calls' keys for them.
//! Invariants: the change is whole or not at all, and signed; a running recording keeps the recipients
//! that it began with until it is started again.
//! Non-goals: taking a recording from somebody who has opened it already.
//! Sources: docs/keys.md.

use std::path::{Path, PathBuf};

use super::Exit;
use super::key_files::{ArchivePlace, load_identities};
use super::output::{self, Failure};
use super::store::archive_failure;
use crate::archive::{
    ArchiveError, ArchiveRecipient, DiskOs, Manifest, Protection, usable_recipients,
};

/// What to do with the recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: list them.
    List,
    /// Add these.
    Add(Vec<String>),
    /// Take these away.
    Remove(Vec<String>),
    /// Wrap the keys of old calls for the present ones.
    Rewrap {
        /// Opens the old keys.
        identity: PathBuf,
    },
}

/// Lists or changes the recipients of an archive.
pub fn recipients(place: &ArchivePlace, change: &Change) -> Result<Exit, Failure> {
    let failed = |error: ArchiveError| archive_failure(&error);
    let mut manifest = Manifest::read(&DiskOs::new(&place.dir)).map_err(failed)?;
    if manifest.plaintext {
        return Err(Failure::failed(format_args!(
            "{} is a plaintext archive and has no recipients: make a new one with `callspan init \
             DIR --recipient KEY`",
            place.dir.display()
        )));
    }
    let wanted = match change {
        Change::List => {
            let list = |out: &mut dyn std::io::Write| {
                manifest.recipients.iter().try_for_each(|text| writeln!(out, "{text}"))
            };
            output::to_stdout(list)?;
            return Ok(Exit::Done);
        }
        Change::Rewrap { identity } => return rewrap(place, identity),
        Change::Add(keys) => [manifest.recipients.clone(), keys.clone()].concat(),
        Change::Remove(keys) => {
            let mut left = manifest.recipients.clone();
            for key in keys {
                let known = ArchiveRecipient::parse(key).map_err(Failure::failed)?;
                if !left.iter().any(|text| text == known.text()) {
                    return Err(Failure::failed(format_args!("{key} is no recipient here")));
                }
                left.retain(|text| text != known.text());
            }
            left
        }
    };
    // The lock is held until the end; what another change wrote before it is not overwritten.
    let mut curator = super::upkeep::open(place)?;
    if curator.settings().map_err(failed)? != manifest {
        return Err(Failure::failed("the recipients were changed meanwhile: try again"));
    }
    manifest.recipients = usable_recipients(&Protection::Recipients(wanted)).map_err(failed)?;
    curator.change_settings(&manifest).map_err(failed)?;
    output::remark(&format!(
        "calls recorded from the next start on are sealed to {} recipients; older calls stay as \
         they are",
        manifest.recipients.len()
    ));
    Ok(Exit::Done)
}

fn rewrap(place: &ArchivePlace, identity: &Path) -> Result<Exit, Failure> {
    let identities = load_identities(identity)?;
    let mut curator = super::upkeep::open(place)?;
    let done = curator.rewrap(&identities).map_err(|error| archive_failure(&error))?;
    output::remark(&format!(
        "{} keys in {} segments are wrapped for the present recipients",
        done.keys, done.segments
    ));
    if done.unopened == 0 {
        return Ok(Exit::Done);
    }
    output::complain(&format!(
        "{} keys do not open with this identity and stay as they are; give one of their recipients",
        done.unopened
    ));
    Ok(Exit::Lost)
}
