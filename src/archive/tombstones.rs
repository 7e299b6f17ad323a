//! What was erased, held, compacted and wrapped anew: a signed chain of lines.
//!
//! Purpose: tell an erased call from a damaged one, and prove when and why it was erased, without
//! saying anything about the people in it.
//! Invariants: each line names the hash of the one before it, so none can be changed, taken out or
//! moved; a line counts only if writing it again gives the same bytes; nothing is erased while it
//! is on hold; a reason is one line of at most `TOMBSTONE_REASON_BYTES_MAX` bytes.
//! Non-goals: files (see `tombstone_file`); noticing that last lines were cut off with their
//! newlines, which only a count kept elsewhere can tell: checkpoints have it (see `verify`).
//! Sources: RFC 8259 (JSON); docs/archive.md.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::merkle::{Hash, sha256};
use super::segment::SegmentId;
use super::signing::{SigningKey, VerifyingKey};
use super::tombstone_line::{Entry, is_torn, read_line};
use crate::base::CallId;
use crate::base::limits::TOMBSTONE_REASON_BYTES_MAX;

const CONTEXT: &str = "callspan tombstone";

/// One thing that happened to an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tombstone {
    /// From now on the call's keys are being destroyed; there is no way back.
    EraseBegun {
        /// Which call.
        call: CallId,
        /// Why: text for an auditor, without personal data.
        reason: String,
        /// When the call began, in ns since 1970, if that may be kept.
        started_at_ns: Option<i64>,
    },
    /// The call's keys are gone.
    Erased {
        /// Which call.
        call: CallId,
    },
    /// The call must not be erased.
    Held {
        /// Which call.
        call: CallId,
        /// Why.
        reason: String,
    },
    /// The call may be erased again.
    Released {
        /// Which call.
        call: CallId,
        /// Why.
        reason: String,
    },
    /// The segment was replaced by a smaller one.
    Compacted {
        /// Which segment.
        segment: SegmentId,
        /// SHA-256 of the successor's footer.
        footer: Hash,
    },
    /// The keys of the segment were wrapped for other recipients.
    Rewrapped {
        /// Which segment.
        segment: SegmentId,
        /// Merkle root over the slots of the new key file.
        slots: Hash,
    },
    /// `archive.toml` was replaced.
    Settings {
        /// SHA-256 of the new one.
        manifest: Hash,
    },
}

impl Tombstone {
    /// The call that it is about.
    #[must_use]
    pub const fn call(&self) -> Option<CallId> {
        match self {
            Self::EraseBegun { call, .. }
            | Self::Erased { call }
            | Self::Held { call, .. }
            | Self::Released { call, .. } => Some(*call),
            Self::Compacted { .. } | Self::Rewrapped { .. } | Self::Settings { .. } => None,
        }
    }

    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::EraseBegun { reason, .. }
            | Self::Held { reason, .. }
            | Self::Released { reason, .. } => Some(reason),
            Self::Erased { .. }
            | Self::Compacted { .. }
            | Self::Rewrapped { .. }
            | Self::Settings { .. } => None,
        }
    }
}

/// Why a tombstone may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TombstoneRefusal {
    /// Empty, too long, or with a control character.
    #[error("the reason must be 1 to {TOMBSTONE_REASON_BYTES_MAX} bytes on one line")]
    Reason,
    /// On legal hold.
    #[error("it is on hold: release it first")]
    OnHold,
    /// Erased, or about to be.
    #[error("it is erased already")]
    AlreadyErased,
    /// `Erased` without `EraseBegun`.
    #[error("its erasure has not begun")]
    NotBegun,
    /// `Released` without `Held`.
    #[error("it is not on hold")]
    NotHeld,
}

impl TombstoneRefusal {
    /// Metric label: the variant in snake_case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reason => "reason",
            Self::OnHold => "on_hold",
            Self::AlreadyErased => "already_erased",
            Self::NotBegun => "not_begun",
            Self::NotHeld => "not_held",
        }
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TombstoneDamage {
    /// No signature, space and JSON, or too long.
    #[error("it is not a tombstone")]
    NotALine,
    /// Its number does not follow: a line is missing, or there twice.
    #[error("its number does not follow the line before it")]
    Number,
    /// It does not name the line before it.
    #[error("it does not follow the line before it")]
    Previous,
    /// The signature is not the key's.
    #[error("its signature does not match")]
    Signature,
    /// It says what the lines before it forbid.
    #[error("it contradicts the lines before it")]
    Contradiction,
}

impl TombstoneDamage {
    /// Metric label: the variant in snake_case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotALine => "not_a_line",
            Self::Number => "number",
            Self::Previous => "previous",
            Self::Signature => "signature",
            Self::Contradiction => "contradiction",
        }
    }
}

/// The first line that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TombstoneFault {
    /// Which one, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: TombstoneDamage,
}

/// The erasure of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Why.
    pub reason: String,
    /// When the call began, if that was kept; ns since 1970.
    pub started_at_ns: Option<i64>,
    /// When its erasure began, in ns since 1970.
    pub begun_ns: i64,
    /// When it was done; `None`: it has to be finished.
    pub erased_ns: Option<i64>,
}

/// All tombstones of an archive, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstones {
    archive_id: [u8; 16],
    /// Lines before those in `heads`.
    before: u64,
    /// SHA-256 of the line before those in `heads`; zeros if there is none.
    origin: Hash,
    /// SHA-256 of each line.
    heads: Vec<Hash>,
    erasures: BTreeMap<CallId, Erasure>,
    holds: BTreeMap<CallId, String>,
    compactions: BTreeMap<SegmentId, Hash>,
    rewraps: BTreeMap<SegmentId, Hash>,
    settings: Option<Hash>,
}

impl Tombstones {
    /// None yet, of this archive.
    #[must_use]
    pub const fn new(archive_id: [u8; 16]) -> Self {
        Self {
            archive_id,
            before: 0,
            origin: Hash::new([0; 32]),
            heads: Vec::new(),
            erasures: BTreeMap::new(),
            holds: BTreeMap::new(),
            compactions: BTreeMap::new(),
            rewraps: BTreeMap::new(),
            settings: None,
        }
    }

    /// Reads a whole file, and how many bytes at its end are a line that never became whole.
    ///
    /// Without a key signatures are not checked, nor whose archive it is: the rest is.
    /// A tail is torn if it has no newline, or blocks of zeros that were never written; what is whole
    /// and wrong is damage, never torn.
    ///
    /// # Errors
    /// The first damaged line.
    pub fn parse(
        bytes: &[u8],
        archive_id: [u8; 16],
        key: Option<&VerifyingKey>,
    ) -> Result<(Self, u64), TombstoneFault> {
        let mut tombstones = Self::new(archive_id);
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let outcome = match rest.split_at_checked(end.unwrap_or(usize::MAX)) {
                Some((line, behind)) => tombstones.take(line, key).map(|()| behind),
                None => Err(TombstoneDamage::NotALine),
            };
            match outcome {
                Ok(behind) => rest = behind,
                Err(_) if is_torn(rest, bytes.len() - rest.len()) => break,
                Err(what) => return Err(TombstoneFault { line: tombstones.count() + 1, what }),
            }
        }
        Ok((tombstones, rest.len() as u64))
    }

    /// Reads one line, with its newline, that follows all before it.
    fn take(&mut self, line: &[u8], key: Option<&VerifyingKey>) -> Result<(), TombstoneDamage> {
        let (signature, json, entry) = read_line(line).ok_or(TombstoneDamage::NotALine)?;
        let (time_ns, tombstone) = entry.meaning().ok_or(TombstoneDamage::NotALine)?;
        if entry.n != self.count().saturating_add(1) {
            return Err(TombstoneDamage::Number);
        }
        if entry.previous != self.head().to_hex() {
            return Err(TombstoneDamage::Previous);
        }
        if key.is_some_and(|key| !key.verify(CONTEXT, &[&self.archive_id, json], &signature)) {
            return Err(TombstoneDamage::Signature);
        }
        self.check(&tombstone).map_err(|_| TombstoneDamage::Contradiction)?;
        self.apply(&tombstone, time_ns, sha256(&[line]));
        Ok(())
    }

    /// Adds a tombstone, made at `time_ns` (ns since 1970), and returns its line for the file.
    ///
    /// # Errors
    /// Any refusal; then nothing was added.
    pub fn append_line(
        &mut self,
        tombstone: &Tombstone,
        time_ns: i64,
        key: &SigningKey,
    ) -> Result<Vec<u8>, TombstoneRefusal> {
        self.check(tombstone)?;
        let entry = Entry::of(self.count().saturating_add(1), self.head(), time_ns, tombstone);
        let json = entry.to_json();
        let signature = key.sign(CONTEXT, &[&self.archive_id, json.as_bytes()]);
        let line = format!("{} {json}\n", STANDARD.encode(signature)).into_bytes();
        self.apply(tombstone, time_ns, sha256(&[&line]));
        Ok(line)
    }

    fn check(&self, tombstone: &Tombstone) -> Result<(), TombstoneRefusal> {
        if tombstone.reason().is_some_and(|reason| !is_reason(reason)) {
            return Err(TombstoneRefusal::Reason);
        }
        let Some(call) = tombstone.call() else { return Ok(()) };
        let (erasure, is_held) = (self.erasures.get(&call), self.holds.contains_key(&call));
        let is_done = erasure.is_some_and(|erasure| erasure.erased_ns.is_some());
        match tombstone {
            Tombstone::EraseBegun { .. } if is_held => Err(TombstoneRefusal::OnHold),
            // Beginning once more what was not finished is harmless.
            Tombstone::EraseBegun { .. } | Tombstone::Erased { .. } if is_done => {
                Err(TombstoneRefusal::AlreadyErased)
            }
            Tombstone::Erased { .. } if erasure.is_none() => Err(TombstoneRefusal::NotBegun),
            Tombstone::Held { .. } if erasure.is_some() => Err(TombstoneRefusal::AlreadyErased),
            Tombstone::Released { .. } if !is_held => Err(TombstoneRefusal::NotHeld),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, tombstone: &Tombstone, time_ns: i64, head: Hash) {
        match tombstone {
            Tombstone::EraseBegun { call, reason, started_at_ns } => {
                self.erasures.entry(*call).or_insert_with(|| Erasure {
                    reason: reason.clone(),
                    started_at_ns: *started_at_ns,
                    begun_ns: time_ns,
                    erased_ns: None,
                });
            }
            Tombstone::Erased { call } => {
                if let Some(erasure) = self.erasures.get_mut(call) {
                    erasure.erased_ns = Some(time_ns);
                }
            }
            Tombstone::Held { call, reason } => {
                self.holds.insert(*call, reason.clone());
            }
            Tombstone::Released { call, .. } => {
                self.holds.remove(call);
            }
            Tombstone::Compacted { segment, footer } => {
                self.compactions.insert(*segment, *footer);
            }
            Tombstone::Rewrapped { segment, slots } => {
                self.rewraps.insert(*segment, *slots);
            }
            Tombstone::Settings { manifest } => self.settings = Some(*manifest),
        }
        self.heads.push(head);
    }

    /// Only what decides on new tombstones about these calls: cheap to change and to throw away.
    pub(super) fn staged(&self, calls: impl Iterator<Item = CallId>) -> Self {
        let (before, origin) = (self.count(), self.head());
        let mut staged = Self { before, origin, ..Self::new(self.archive_id) };
        for call in calls {
            staged.erasures.extend(self.erasures.get(&call).map(|found| (call, found.clone())));
            staged.holds.extend(self.holds.get(&call).map(|found| (call, found.clone())));
        }
        staged
    }

    /// Takes over what was added to a [`Self::staged`] of the same calls.
    pub(super) fn accept(&mut self, staged: Self, calls: impl Iterator<Item = CallId>) {
        for call in calls {
            self.holds.remove(&call);
        }
        self.holds.extend(staged.holds);
        self.erasures.extend(staged.erasures);
        self.compactions.extend(staged.compactions);
        self.rewraps.extend(staged.rewraps);
        self.settings = staged.settings.or(self.settings);
        self.heads.extend(staged.heads);
    }

    /// How many lines there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.before.saturating_add(self.heads.len() as u64)
    }

    /// SHA-256 of the last line, zeros if there is none: it binds all lines.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.heads.last().copied().unwrap_or(self.origin)
    }

    /// What [`Self::head`] was after the first `count` lines; `None` if there are fewer.
    #[must_use]
    pub fn head_after(&self, count: u64) -> Option<Hash> {
        let Some(last) = count.checked_sub(1) else { return Some(Hash::new([0; 32])) };
        self.heads.get(usize::try_from(last).ok()?).copied()
    }

    /// True once the call's keys are gone.
    #[must_use]
    pub fn is_erased(&self, call: CallId) -> bool {
        self.erasure(call).is_some_and(|erasure| erasure.erased_ns.is_some())
    }

    /// The call's erasure, finished or not.
    #[must_use]
    pub fn erasure(&self, call: CallId) -> Option<&Erasure> {
        self.erasures.get(&call)
    }

    /// All erasures by call.
    pub fn erasures(&self) -> impl Iterator<Item = (CallId, &Erasure)> {
        self.erasures.iter().map(|(call, erasure)| (*call, erasure))
    }

    /// Calls whose erasure began and was not finished, by call: whoever opens the archive finishes it.
    pub fn unfinished(&self) -> impl Iterator<Item = CallId> {
        self.erasures().filter(|(_, erasure)| erasure.erased_ns.is_none()).map(|(call, _)| call)
    }

    /// Why the call is on hold; `None` if it is not.
    #[must_use]
    pub fn held(&self, call: CallId) -> Option<&str> {
        self.holds.get(&call).map(String::as_str)
    }

    /// True while the call must not be erased.
    #[must_use]
    pub fn is_held(&self, call: CallId) -> bool {
        self.holds.contains_key(&call)
    }

    /// SHA-256 of the footer that the segment has since its last compaction; `None`: the first one.
    #[must_use]
    pub fn compaction(&self, segment: SegmentId) -> Option<Hash> {
        self.compactions.get(&segment).copied()
    }

    /// Merkle root over the slots of the key file that the segment has since it was last wrapped anew;
    /// `None`: it has the first one.
    #[must_use]
    pub fn rewrap(&self, segment: SegmentId) -> Option<Hash> {
        self.rewraps.get(&segment).copied()
    }

    /// SHA-256 of `archive.toml` since its last change; `None`: it is the one of `init`.
    #[must_use]
    pub const fn settings(&self) -> Option<Hash> {
        self.settings
    }
}

fn is_reason(reason: &str) -> bool {
    let len = 1..=TOMBSTONE_REASON_BYTES_MAX;
    len.contains(&reason.len()) && !reason.chars().any(char::is_control)
}

#[cfg(test)]
#[path = "tombstones_tests.rs"]
mod tests;
