//! `callspan init`: makes a new archive.
//!
//! Purpose: one explicit step before anything is recorded, which says who will be able to listen.
//! Invariants: an archive is never made by accident, and never over other files.
//! Non-goals: keys (see the archive issue).
//! Sources: none.

use std::path::Path;

use super::output::{self, Failure};
use super::store::archive_failure;
use super::{Confidentiality, Exit};
use crate::archive::{self, InitOptions, Protection};

/// Makes the archive.
pub fn init(path: &Path, confidentiality: Confidentiality) -> Result<Exit, Failure> {
    let protection = match confidentiality {
        Confidentiality::Plaintext => Protection::Plaintext,
    };
    archive::init(path, InitOptions { protection }).map_err(|error| archive_failure(&error))?;
    output::remark(&format!(
        "{} is an archive now; its recordings are not sealed: whoever reads the files can listen",
        path.display()
    ));
    Ok(Exit::Done)
}
