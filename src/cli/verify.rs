//! `callspan verify`: is everything there as it was sealed?
//!
//! Purpose: check an archive offline, with the public key alone, and say the first thing that is wrong.
//! Invariants: it never writes; status 0 whole, 1 damaged, 3 only the torn tail of a crash.
//! Non-goals: repairing.
//! Sources: docs/archive.md, "Verify".

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Exit;
use super::options::OutputFormat;
use super::output::{self, Failure};
use super::store::archive_failure;
use crate::archive::DiskOs;
use crate::archive::signing::VerifyingKey;
use crate::archive::verify::{Fault, Verdict, Verified, VerifyOptions, verify_on};

/// Faults that are told one by one.
const FAULTS_SHOWN: usize = 20;

/// What to check, and against what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyJob {
    /// The archive's directory.
    pub archive: PathBuf,
    /// `--public-key`: a vkey, or a file that holds one.
    pub public_key: Option<String>,
    /// `--checkpoint`.
    pub checkpoint: Option<PathBuf>,
    /// How to print.
    pub json: OutputFormat,
}

/// Checks an archive.
pub fn verify(job: &VerifyJob) -> Result<Exit, Failure> {
    let public_key = job.public_key.as_deref().map(read_key).transpose()?;
    let checkpoint = job.checkpoint.as_deref().map(read_text).transpose()?;
    let options = VerifyOptions { public_key, checkpoint };
    let found = verify_on(&DiskOs::new(&job.archive), &options);
    let found = found.map_err(|error| archive_failure(&error))?;
    match job.json {
        OutputFormat::JsonLines => print_json(&found, &options)?,
        OutputFormat::Text => print_text(&found, &options)?,
    }
    match found.verdict() {
        Verdict::Whole => Ok(Exit::Done),
        Verdict::TornTail => {
            output::complain(
                "a crash left something behind; the next `callspan capture` or `replay`, and \
                 `callspan retain`, mend it",
            );
            Ok(Exit::Lost)
        }
        Verdict::Damaged => {
            let first = found.faults.first().map(Fault::to_string).unwrap_or_default();
            let more = found.faults.len().saturating_sub(1);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            Err(Failure::failed(format_args!(
                "the archive is damaged: {first}{more}; restore what is named from a copy"
            )))
        }
    }
}

fn read_key(text: &str) -> Result<VerifyingKey, Failure> {
    let wrong = || Failure::usage(format_args!("--public-key: `{text}` is no vkey and no file"));
    let in_file = || VerifyingKey::parse(fs::read_to_string(text).ok()?.trim());
    VerifyingKey::parse(text).or_else(in_file).ok_or_else(wrong)
}

/// A note ends with one line feed; tools that took it from JSON may have added or lost some.
fn read_text(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map(|text| format!("{}\n", text.trim_end()));
    text.map_err(|error| {
        Failure::failed(format_args!("cannot read the checkpoint {}: {error}", path.display()))
    })
}

fn fault_json(fault: &Fault) -> serde_json::Value {
    json!({
        "file": fault.file,
        "offset": fault.offset,
        "call": fault.call.map(|call| call.to_string()),
        "sequence": fault.sequence,
        "what": fault.what,
    })
}

/// Against what it was checked: only a key or a checkpoint that was kept elsewhere proves anything
/// against somebody who can rewrite the archive.
fn anchor(options: &VerifyOptions) -> &'static str {
    match (&options.public_key, &options.checkpoint) {
        (Some(_), Some(_)) => "public key and checkpoint",
        (Some(_), None) => "public key",
        (None, Some(_)) => "checkpoint",
        (None, None) => "self-consistent only",
    }
}

fn print_json(found: &Verified, options: &VerifyOptions) -> Result<(), Failure> {
    let object = json!({
        "verdict": found.verdict().label(),
        "checked_against": anchor(options),
        "segments": found.segments,
        "records": found.records,
        "unsigned_records": found.unsigned_records,
        "dropped_records": found.dropped_records,
        "erased_calls": found.erased_calls,
        "torn_bytes": found.torn_bytes,
        "faults": found.faults.iter().map(fault_json).collect::<Vec<_>>(),
        "leftovers": found.leftovers.iter().map(fault_json).collect::<Vec<_>>(),
        "checkpoint": found.checkpoint,
    });
    output::to_stdout(|out| writeln!(out, "{object}"))
}

fn print_text(found: &Verified, options: &VerifyOptions) -> Result<(), Failure> {
    output::to_stdout(|out| {
        writeln!(
            out,
            "{} records in {} finished segments are as they were sealed",
            found.records, found.segments
        )?;
        if found.unsigned_records > 0 {
            writeln!(out, "{} records are whole and not signed yet", found.unsigned_records)?;
        }
        if found.erased_calls > 0 {
            writeln!(out, "{} calls were erased", found.erased_calls)?;
        }
        for fault in found.faults.iter().chain(&found.leftovers).take(FAULTS_SHOWN) {
            writeln!(out, "{}", output::printable(&fault.to_string()))?;
        }
        match anchor(options) {
            "self-consistent only" => writeln!(
                out,
                "self-consistent only: give --public-key and --checkpoint as they were kept \
                 elsewhere to prove more"
            ),
            against => writeln!(out, "checked against the {against} that was given"),
        }
    })
}
