//! `callspan keys new`: a pair of age keys.
//!
//! Purpose: make a recipient for people who have no age tools at hand.
//! Invariants: the secret half is printed or written once, and nowhere else.
//! Non-goals: passphrases and hardware keys (age-keygen and its plugins make these).
//! Sources: the file format of age-keygen.

use std::path::Path;

use super::Exit;
use super::key_files::write_new;
use super::output::{self, Failure};
use crate::archive::recipients::new_pair;

/// Makes a pair; `path`: where the identity goes, `None`: standard output.
pub fn new(path: Option<&Path>) -> Result<Exit, Failure> {
    let now = jiff::Timestamp::now();
    let (identity, public) = new_pair(&now.to_string());
    if let Some(path) = path {
        write_new(path, &identity)?;
        output::to_stdout(|out| writeln!(out, "{public}"))?;
        output::remark(&format!(
            "{} opens what is sealed to this public key: keep it off the recorder, and a copy of it \
             elsewhere",
            path.display()
        ));
    } else {
        output::to_stdout(|out| out.write_all(identity.as_bytes()))?;
        output::remark(&format!("Public key: {public}"));
    }
    Ok(Exit::Done)
}
