//! `callspan init`: makes a new archive, and the keys that the box needs to write to it.
//!
//! Purpose: one explicit step before anything is recorded, which says who will be able to listen.
//! Invariants: an archive is never made by accident, and never over other files; keys that exist are
//! used, not replaced.
//! Non-goals: recipients' identities (see `keys`).
//! Sources: none.

use super::key_files::ArchivePlace;
use super::output::{self, Failure};
use super::store::archive_failure;
use super::{Confidentiality, Exit};
use crate::archive::{self, InitOptions, MANIFEST_NAME, Protection, Retention};

/// Makes the archive.
pub fn init(
    place: &ArchivePlace,
    confidentiality: Confidentiality,
    retention: Retention,
) -> Result<Exit, Failure> {
    let protection = match confidentiality {
        Confidentiality::Plaintext => Protection::Plaintext,
        Confidentiality::Sealed(recipients) => Protection::Recipients(recipients),
    };
    let shown = place.dir.display();
    archive::usable_recipients(&protection).map_err(|error| archive_failure(&error))?;
    if place.dir.join(MANIFEST_NAME).exists() {
        let path = place.dir.clone();
        return Err(archive_failure(&archive::ArchiveError::AlreadyInitialised { path }));
    }
    let keys = place.load_or_make()?;
    let plaintext = protection == Protection::Plaintext;
    let days = retention.days;
    archive::init(&place.dir, &InitOptions { protection, retention }, &keys)
        .map_err(|error| archive_failure(&error))?;
    let how = if plaintext {
        "not sealed: whoever reads the files can listen"
    } else {
        "sealed to its recipients"
    };
    output::remark(&format!("{shown} is an archive now; its recordings are {how}"));
    output::remark(&format!(
        "its keys are {} and {}: keep a copy of both elsewhere",
        place.signing_path().display(),
        place.box_path().display()
    ));
    output::remark(&match days {
        Some(days) => {
            format!("calls are kept for {days} days; `callspan retain` erases older ones")
        }
        None => "calls are kept for good; `--retention DAYS` would set a length".to_owned(),
    });
    Ok(Exit::Done)
}
