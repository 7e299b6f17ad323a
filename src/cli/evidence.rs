//! `callspan evidence` and `verify-evidence`: one call, to hand to a court.
//!
//! Purpose: a directory that is heard and checked without the archive, and its check.
//! Invariants: what is in it opens this call and no other; the recording and the figures are made
//! again from the signed records when it is checked, and compared byte for byte.
//! Non-goals: proving when a segment was sealed to somebody who does not trust the box's clock (see
//! `callspan timestamp`).
//! Sources: docs/archive.md, "Evidence".

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Exit;
use super::export::opus_of;
use super::key_files::{ArchivePlace, load_identities};
use super::output::{self, Failure};
use super::store::Store;
use super::timestamp::stamp_name;
use crate::archive::evidence::{SegmentEvidence, check};
use crate::archive::merkle::sha256;
use crate::archive::signing::VerifyingKey;
use crate::archive::{OwnedRecord, RecordKind};
use crate::base::CallId;
use crate::call::summary::CallSummary;

const PROOF_NAME: &str = "proof.json";
const RECORDS_NAME: &str = "records.bin";
const SUMS_NAME: &str = "SHA256SUMS";
const CALL_NAME: &str = "call.json";
const SOUND_NAME: &str = "recording.opus";

/// What `evidence` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceJob {
    /// Call id, its beginning, or a SIP Call-ID.
    pub call: String,
    /// Which archive.
    pub archive: ArchivePlace,
    /// Opens a sealed recording.
    pub identity: Option<PathBuf>,
    /// The directory to make.
    pub output: PathBuf,
}

/// The contents of `proof.json`.
#[derive(Serialize, Deserialize)]
struct Proof {
    /// Version of this form.
    version: u32,
    /// What made it.
    tool: String,
    /// The archive's id.
    archive: String,
    /// The call's id.
    call: String,
    /// The archive's public key.
    public_key: String,
    /// One part a segment.
    segments: Vec<SegmentEvidence>,
}

/// Writes a call's evidence.
pub fn evidence(job: &EvidenceJob) -> Result<Exit, Failure> {
    let mut store = Store::open(&job.archive)?;
    if let Some(identity) = &job.identity {
        store.unlock(load_identities(identity)?);
    }
    let call = store.find(&job.call)?;
    let (segments, records) = store.evidence(call.id)?;
    let manifest = store.manifest();
    let proof = Proof {
        version: 1,
        tool: format!("callspan {}", env!("CARGO_PKG_VERSION")),
        archive: manifest.archive.clone(),
        call: call.id.to_string(),
        public_key: manifest.signing_key.clone(),
        segments,
    };
    // It is checked before it is handed out.
    let opened = open(&proof, &records)?;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let json = summary_of(&opened)?;
    let summary = read_summary(&json)?;
    if let Some(sound) = opus_of(call.id, &summary, &opened)? {
        files.insert(SOUND_NAME.into(), sound);
    }
    for part in &proof.segments {
        let name = format!("checkpoint-{:010}.txt", part.segment);
        files.insert(name, part.checkpoint.clone().into_bytes());
        if let Ok(stamp) = fs::read(job.archive.dir.join(stamp_name(part.segment))) {
            files.insert(format!("timestamp-{:010}.tsr", part.segment), stamp);
        }
    }
    files.insert("README.txt".into(), readme(&proof, &summary).into_bytes());
    files.insert(CALL_NAME.into(), json);
    let proof = serde_json::to_vec_pretty(&proof);
    files.insert(PROOF_NAME.into(), proof.map_err(Failure::failed)?);
    files.insert(RECORDS_NAME.into(), records);
    let sums: Vec<String> = files
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", sha256(&[bytes]).to_hex()))
        .collect();
    files.insert(SUMS_NAME.into(), sums.concat().into_bytes());
    write_all(&job.output, &files)?;
    output::remark(&format!(
        "{} holds the evidence of call {}: whoever has it can listen; \
         `callspan verify-evidence {}` checks it",
        job.output.display(),
        call.id,
        job.output.display()
    ));
    Ok(Exit::Done)
}

fn write_all(directory: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    let write = || {
        DirBuilder::new().mode(0o700).create(directory)?;
        for (name, bytes) in files {
            let mut file = File::create_new(directory.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        File::open(directory)?.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::failed(format_args!(
            "cannot write {}: {error}; give a directory that does not exist",
            directory.display()
        ))
    })
}

/// Checks every part, and opens all records, by sequence.
fn open(proof: &Proof, records: &[u8]) -> Result<Vec<OwnedRecord>, Failure> {
    let wrong = |what: &str| Failure::failed(format_args!("{PROOF_NAME}: {what}"));
    let key = VerifyingKey::parse(&proof.public_key).ok_or_else(|| wrong("its key is no vkey"))?;
    let archive = u128::from_str_radix(&proof.archive, 16).map_err(|_| wrong("no archive id"))?;
    let call: CallId = proof.call.parse().map_err(|_| wrong("no call id"))?;
    let mut opened = Vec::new();
    for part in &proof.segments {
        let found = check(part, archive.to_be_bytes(), call, &key, records);
        opened.extend(found.map_err(Failure::failed)?);
    }
    opened.sort_by_key(|record| record.sequence);
    opened.dedup_by_key(|record| record.sequence);
    // Sequences count from 0 without a hole, so that a record that was left out is missed.
    let whole = (0..).zip(&opened).all(|(number, record)| record.sequence == number);
    if whole { Ok(opened) } else { Err(wrong("a record of the call is missing")) }
}

fn summary_of(opened: &[OwnedRecord]) -> Result<Vec<u8>, Failure> {
    let kinds = [RecordKind::CallOpened, RecordKind::Summary];
    let last = opened.iter().rev().find(|record| kinds.contains(&record.kind));
    let last = last.ok_or_else(|| Failure::failed("the call has no summary"))?;
    Ok(last.body.clone())
}

fn read_summary(json: &[u8]) -> Result<CallSummary, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        Failure::failed(format_args!("the call's summary cannot be read: {error}"))
    })
}

/// Checks a directory of evidence without the archive.
pub fn verify_evidence(directory: &Path, public_key: Option<&str>) -> Result<Exit, Failure> {
    let read = |name: &str| {
        fs::read(directory.join(name)).map_err(|error| {
            Failure::failed(format_args!("cannot read {}/{name}: {error}", directory.display()))
        })
    };
    let sums = String::from_utf8(read(SUMS_NAME)?).map_err(Failure::failed)?;
    let mut named = 0;
    for line in sums.lines() {
        let (sum, name) =
            line.split_once("  ").ok_or_else(|| bad_sums("is not a list of hashes"))?;
        if name.contains('/') || sha256(&[&read(name)?]).to_hex() != sum {
            return Err(Failure::failed(format_args!("{name} is not what {SUMS_NAME} says")));
        }
        named += 1;
    }
    let proof: Proof = serde_json::from_slice(&read(PROOF_NAME)?)
        .map_err(|error| Failure::failed(format_args!("{PROOF_NAME} cannot be read: {error}")))?;
    if public_key.is_some_and(|key| key.trim() != proof.public_key) {
        return Err(Failure::failed(format_args!(
            "{PROOF_NAME} names another public key than the one that was given"
        )));
    }
    let opened = open(&proof, &read(RECORDS_NAME)?)?;
    let json = summary_of(&opened)?;
    if read(CALL_NAME)? != json {
        return Err(Failure::failed(format_args!("{CALL_NAME} is not what the records say")));
    }
    let call: CallId = proof.call.parse().map_err(Failure::failed)?;
    let sound = opus_of(call, &read_summary(&json)?, &opened)?;
    let has_file = directory.join(SOUND_NAME).exists();
    match &sound {
        Some(sound) if read(SOUND_NAME)? != *sound => {
            return Err(Failure::failed(format_args!("{SOUND_NAME} is not what the records hold")));
        }
        None if has_file => {
            return Err(Failure::failed(format_args!("{SOUND_NAME} is in no record")));
        }
        _ => {}
    }
    output::remark(&format!(
        "the evidence of call {call} holds: {named} files, {} records in {} segments, each signed by \
         {}",
        opened.len(),
        proof.segments.len(),
        proof.public_key
    ));
    if public_key.is_none() {
        output::remark(
            "self-consistent only: compare that key with the one that the recorder's owner gave out \
             (or give --public-key)",
        );
    }
    Ok(Exit::Done)
}

fn bad_sums(what: &str) -> Failure {
    Failure::failed(format_args!("{SUMS_NAME} {what}"))
}

/// What is in the directory, for people.
fn readme(proof: &Proof, call: &CallSummary) -> String {
    let Proof { tool, archive, call: id, public_key, .. } = proof;
    format!(
        "Evidence of one telephone call\n\
         ==============================\n\n\
         Call       {id}\n\
         Started    {}\n\
         Made by    {tool}\n\
         Archive    {archive}\n\
         Public key {public_key}\n\n\
         {SOUND_NAME}       the recording: caller left, callee right (if the call has one)\n\
         {CALL_NAME}            who called whom, when, how well it was heard, and what is missing\n\
         checkpoint-*.txt     what the recorder signed when it finished each part of its archive\n\
         timestamp-*.tsr      a timestamping authority's word on the checkpoint of the same number\n\
         \x20                    (RFC 3161; `openssl ts -verify -in FILE.tsr -data CHECKPOINT.txt`)\n\
         {PROOF_NAME}           the way from each record of the call to these signatures, and the\n\
         \x20                    call's own keys, which open no other call\n\
         {RECORDS_NAME}          the records, byte for byte as they are archived\n\
         {SUMS_NAME}           a hash of each file\n\n\
         To check it: callspan verify-evidence DIR --public-key '{public_key}'\n\
         That makes recording and figures again from the signed records and compares them byte for\n\
         byte. `sha256sum -c {SUMS_NAME}` checks the files alone.\n\n\
         What this proves: the owner of that key signed these records at the time that each\n\
         checkpoint tells, by a clock that was kept as its line `clock` tells. What it does not: that\n\
         nobody else has the key, and who was behind a telephone number.\n\n\
         Whoever has this directory can listen to the call. Keep it accordingly.\n",
        call.started_at
    )
}
