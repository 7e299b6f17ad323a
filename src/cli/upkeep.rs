//! `callspan erase`, `hold`, `release`, `retain`: what takes calls out of an archive, and what keeps them.
//!
//! Purpose: destroy one call, one person's calls, or all that are due; refuse where the law holds them.
//! Invariants: what will be erased is listed before it is; nothing is erased without a reason.
//! Non-goals: how (see `archive::curator`).
//! Sources: docs/archive.md, "Erase", "Retain".

use jiff::Timestamp;

use super::key_files::ArchivePlace;
use super::output::{self, Failure};
use super::store::{FoundCall, Store, archive_failure};
use super::{Exit, people};
use crate::archive::curator::{Curator, Purged};
use crate::archive::{ArchiveError, DiskOs, Query};
use crate::base::CallId;
use crate::ops::clock;

/// Whether to do it, or only to say what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Do,
    /// Say what would be done.
    DryRun,
}

/// Which calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// One: its id, the beginning of it, or a Call-ID.
    Call(String),
    /// All of a number.
    Number(String),
}

/// What `erase` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseJob {
    /// Which archive.
    pub archive: ArchivePlace,
    /// Which calls.
    pub which: Which,
    /// Why.
    pub reason: String,
    /// Whether to do it.
    pub mode: Mode,
}

/// A curator of the archive.
pub fn open(place: &ArchivePlace) -> Result<Curator<DiskOs>, Failure> {
    let keys = place.load()?;
    Curator::open(DiskOs::new(&place.dir), keys, clock::read).map_err(|e| archive_failure(&e))
}

/// Erases a call, or a person's calls.
pub fn erase(job: &EraseJob) -> Result<Exit, Failure> {
    let store = Store::open(&job.archive)?;
    let calls = match &job.which {
        Which::Call(name) => vec![store.find(name)?],
        Which::Number(number) => {
            let query = Query { number: Some(number.clone()), ..Query::default() };
            store.found(&query)?
        }
    };
    output::to_stdout(|out| {
        for call in &calls {
            let (caller, callee) = (&call.summary.caller, &call.summary.callee);
            let parties = format!("{} → {}", people::party(caller), people::party(callee));
            writeln!(out, "{}  {}  {parties}", call.id, call.summary.started_at)?;
        }
        Ok(())
    })?;
    if calls.is_empty() {
        return Err(Failure::failed("no call matches: nothing was erased"));
    }
    if job.mode == Mode::DryRun {
        output::remark(&format!("{} calls would be erased", calls.len()));
        return Ok(Exit::Done);
    }
    drop(store);
    let mut ids: Vec<CallId> = calls.iter().flat_map(FoundCall::with_parts).collect();
    ids.sort_unstable();
    ids.dedup();
    erase_all(&mut open(&job.archive)?, &ids, &job.reason)
}

/// Erases calls one by one; what is refused does not keep the others.
fn erase_all(
    curator: &mut Curator<DiskOs>,
    calls: &[CallId],
    reason: &str,
) -> Result<Exit, Failure> {
    let (mut erased, mut refused, mut log) = (0, None, Purged::Whole);
    let is_only = calls.len() == 1;
    for call in calls {
        match curator.erase(*call, reason) {
            Ok(purged) => {
                erased += 1;
                log = purged;
            }
            // Of one call the reason is the whole answer.
            Err(error) if is_only => return Err(archive_failure(&error)),
            Err(
                error @ (ArchiveError::TombstoneRefused { .. }
                | ArchiveError::StillOngoing { .. }
                | ArchiveError::NotSealedYet { .. }),
            ) => {
                refused = Some(error.to_string());
                output::complain(&error.to_string());
            }
            Err(error) => return Err(archive_failure(&error)),
        }
    }
    output::remark(&format!("{erased} calls erased"));
    if log == Purged::LogInUse {
        output::complain(
            "a reader still had the index open: its log keeps old bytes until the next erasure; \
             run `callspan retain` later",
        );
        return Ok(Exit::Lost);
    }
    match refused {
        Some(_) if erased == 0 => Err(Failure::failed("nothing was erased")),
        Some(_) => Ok(Exit::Lost),
        None => Ok(Exit::Done),
    }
}

/// The call that `name` names, and with it the calls that are parts of it.
fn id_and_parts(place: &ArchivePlace, name: &str) -> Result<(CallId, Vec<CallId>), Failure> {
    let call = Store::open(place)?.find(name)?;
    Ok((call.id, call.with_parts()))
}

/// Puts a call under legal hold.
pub fn hold(call: &str, place: &ArchivePlace, reason: &str) -> Result<Exit, Failure> {
    let (id, parts) = id_and_parts(place, call)?;
    let mut curator = open(place)?;
    for part in parts {
        curator.hold(part, reason).map_err(|error| archive_failure(&error))?;
    }
    output::remark(&format!("call {id} is on hold: it will not be erased until it is released"));
    Ok(Exit::Done)
}

/// Ends a legal hold.
pub fn release(call: &str, place: &ArchivePlace, reason: &str) -> Result<Exit, Failure> {
    let (id, parts) = id_and_parts(place, call)?;
    let mut curator = open(place)?;
    for part in parts {
        curator.release(part, reason).map_err(|error| archive_failure(&error))?;
    }
    output::remark(&format!("call {id} is released: retention applies to it again"));
    Ok(Exit::Done)
}

/// Erases what is due, and gives room back.
pub fn retain(place: &ArchivePlace, mode: Mode) -> Result<Exit, Failure> {
    let mut curator = open(place)?;
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let (due, held) = curator.due(now_ns).map_err(|error| archive_failure(&error))?;
    if held > 0 {
        output::complain(&format!("{held} calls are due and on legal hold: they stay"));
    }
    if mode == Mode::DryRun {
        output::to_stdout(|out| due.iter().try_for_each(|call| writeln!(out, "{call}")))?;
        output::remark(&format!("{} calls would be erased", due.len()));
        return Ok(Exit::Done);
    }
    let exit = if due.is_empty() {
        output::remark("no call is due");
        Exit::Done
    } else {
        erase_all(&mut curator, &due, "retention: its time is over")?
    };
    let reclaimed = curator.reclaim().map_err(|error| archive_failure(&error))?;
    if reclaimed.segments > 0 {
        output::remark(&format!(
            "{} segments compacted, {} bytes free again",
            reclaimed.segments, reclaimed.bytes
        ));
    }
    Ok(exit)
}
