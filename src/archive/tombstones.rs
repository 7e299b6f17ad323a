//! What was erased, held, compacted and wrapped anew: a signed chain of lines.
//!
//! Purpose: tell an erased call from a damaged one, and prove when and why it was erased, without
//! saying anything about the people in it.
//! Invariants: each line names the hash of the one before it, so none can be changed, taken out or
//! moved; a line counts only if writing it again gives the same bytes; nothing is erased while it
//! is on hold; a reason is one line of at most `TOMBSTONE_REASON_BYTES_MAX` bytes.
//! Non-goals: files (see `tombstone_file`); noticing that last lines were cut off with their
//! newlines, which only a count kept elsewhere can tell (see [`Tombstones::count`] and `head`).
//! Sources: RFC 8259 (JSON); docs/archive.md.
//!
//! ```text
//! <base64 of 64 bytes of signature> <JSON object>\n         one line an entry, in this order of keys:
//! {"n":1,"previous":"<64 hex>","time":"<RFC 3339, ns>","kind":"erase_begun","call":"<16 hex>",
//!  "reason":"…","started_at":"<RFC 3339, ns>"}              (drawn on two lines; "started_at" may lack)
//! "erased": call    "held", "released": call, reason    "compacted": segment, footer (64 hex)
//! "rewrapped": segment
//! previous: SHA-256 of the whole line before, with its newline; zeros for the first.
//! signature: detached, context "callspan tombstone", parts: the archive's id (16 bytes), the JSON.
//! ```

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::merkle::{Hash, sha256};
use super::segment::SegmentId;
use super::signing::{SigningKey, VerifyingKey};
use crate::base::CallId;
use crate::base::limits::{TOMBSTONE_LINE_BYTES_MAX, TOMBSTONE_REASON_BYTES_MAX};
use crate::base::rfc3339::{format_utc_ns, parse_utc_ns};

const CONTEXT: &str = "callspan tombstone";
/// A block that was never written reads as zeros up to a multiple of this.
const SECTOR_BYTES: usize = 512;

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
            Self::Compacted { .. } | Self::Rewrapped { .. } => None,
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::EraseBegun { reason, .. }
            | Self::Held { reason, .. }
            | Self::Released { reason, .. } => Some(reason),
            Self::Erased { .. } | Self::Compacted { .. } | Self::Rewrapped { .. } => None,
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
    count: u64,
    head: Hash,
    erasures: BTreeMap<CallId, Erasure>,
    holds: BTreeMap<CallId, String>,
    compactions: BTreeMap<SegmentId, Hash>,
}

impl Tombstones {
    /// None yet, of this archive.
    #[must_use]
    pub const fn new(archive_id: [u8; 16]) -> Self {
        Self {
            archive_id,
            count: 0,
            head: Hash::new([0; 32]),
            erasures: BTreeMap::new(),
            holds: BTreeMap::new(),
            compactions: BTreeMap::new(),
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
                Err(what) => return Err(TombstoneFault { line: tombstones.count + 1, what }),
            }
        }
        Ok((tombstones, rest.len() as u64))
    }

    /// Reads one line, with its newline, that follows all before it.
    fn take(&mut self, line: &[u8], key: Option<&VerifyingKey>) -> Result<(), TombstoneDamage> {
        let (signature, json, entry) = read_line(line).ok_or(TombstoneDamage::NotALine)?;
        let (time_ns, tombstone) = entry.meaning().ok_or(TombstoneDamage::NotALine)?;
        if entry.n != self.count.saturating_add(1) {
            return Err(TombstoneDamage::Number);
        }
        if entry.previous != self.head.to_hex() {
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
        let entry = Entry::of(self.count.saturating_add(1), self.head, time_ns, tombstone);
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
            Tombstone::Rewrapped { .. } => {}
        }
        self.count = self.count.saturating_add(1);
        self.head = head;
    }

    /// Only what decides on new tombstones about these calls: cheap to change and to throw away.
    pub(super) fn staged(&self, calls: impl Iterator<Item = CallId>) -> Self {
        let mut staged = Self { count: self.count, head: self.head, ..Self::new(self.archive_id) };
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
        (self.count, self.head) = (staged.count, staged.head);
    }

    /// How many lines there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// SHA-256 of the last line, zeros if there is none: it binds all lines.
    #[must_use]
    pub const fn head(&self) -> Hash {
        self.head
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
}

/// The JSON of a line. Keys that a kind does not have are absent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    n: u64,
    previous: String,
    time: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    footer: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    EraseBegun,
    Erased,
    Held,
    Released,
    Compacted,
    Rewrapped,
}

impl Entry {
    fn of(n: u64, previous: Hash, time_ns: i64, tombstone: &Tombstone) -> Self {
        let (kind, segment, footer, started_at_ns) = match tombstone {
            Tombstone::EraseBegun { started_at_ns, .. } => {
                (Kind::EraseBegun, None, None, *started_at_ns)
            }
            Tombstone::Erased { .. } => (Kind::Erased, None, None, None),
            Tombstone::Held { .. } => (Kind::Held, None, None, None),
            Tombstone::Released { .. } => (Kind::Released, None, None, None),
            Tombstone::Compacted { segment, footer } => {
                (Kind::Compacted, Some(segment.0), Some(footer.to_hex()), None)
            }
            Tombstone::Rewrapped { segment } => (Kind::Rewrapped, Some(segment.0), None, None),
        };
        Self {
            n,
            previous: previous.to_hex(),
            time: format_utc_ns(time_ns),
            kind,
            call: tombstone.call().map(|call| call.to_string()),
            reason: tombstone.reason().map(str::to_owned),
            started_at: started_at_ns.map(format_utc_ns),
            segment,
            footer,
        }
    }

    fn to_json(&self) -> String {
        // Strings, numbers and a unit enum: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// When it was made, and what it says; `None` if a key is missing, or not its kind's.
    fn meaning(&self) -> Option<(i64, Tombstone)> {
        let call = || self.call.as_ref()?.parse().ok();
        let reason = || self.reason.clone();
        let segment = || self.segment.map(SegmentId);
        let tombstone = match self.kind {
            Kind::EraseBegun => {
                let started_at_ns = match &self.started_at {
                    Some(time) => Some(parse_utc_ns(time)?),
                    None => None,
                };
                Tombstone::EraseBegun { call: call()?, reason: reason()?, started_at_ns }
            }
            Kind::Erased => Tombstone::Erased { call: call()? },
            Kind::Held => Tombstone::Held { call: call()?, reason: reason()? },
            Kind::Released => Tombstone::Released { call: call()?, reason: reason()? },
            Kind::Compacted => {
                let footer = Hash::from_hex(self.footer.as_ref()?)?;
                Tombstone::Compacted { segment: segment()?, footer }
            }
            Kind::Rewrapped => Tombstone::Rewrapped { segment: segment()? },
        };
        let time_ns = parse_utc_ns(&self.time)?;
        // Keys of another kind would be lost here, and other spellings be made ours.
        let previous = Hash::from_hex(&self.previous)?;
        let again = Self::of(self.n, previous, time_ns, &tombstone).to_json();
        (again == self.to_json()).then_some((time_ns, tombstone))
    }
}

fn is_reason(reason: &str) -> bool {
    let len = 1..=TOMBSTONE_REASON_BYTES_MAX;
    len.contains(&reason.len()) && !reason.chars().any(char::is_control)
}

/// Signature, JSON and its entry, of a line with its newline, in the one spelling that is ours.
fn read_line(line: &[u8]) -> Option<([u8; 64], &[u8], Entry)> {
    if line.len() > TOMBSTONE_LINE_BYTES_MAX {
        return None;
    }
    let line = line.strip_suffix(b"\n")?;
    let (signature, json) = line.split_at_checked(88)?;
    let signature = STANDARD.decode(signature).ok()?.try_into().ok()?;
    let json = json.strip_prefix(b" ")?;
    let entry: Entry = serde_json::from_slice(json).ok()?;
    (entry.to_json().as_bytes() == json).then_some((signature, json, entry))
}

/// True if `tail`, which begins with a wrong line `offset` bytes into the file, is what a write cut
/// short by a power failure leaves.
fn is_torn(tail: &[u8], offset: usize) -> bool {
    // 1. Zeros within it are blocks that were not written: each run is made of whole blocks, but
    //    for the ends of what was to be written.
    let is_border = |at: usize| (offset + at) % SECTOR_BYTES == 0;
    let zeros_are_blocks = tail.windows(2).enumerate().all(|(at, pair)| match pair {
        [0, next] if *next != 0 => is_border(at + 1),
        [before, 0] if *before != 0 => is_border(at + 1),
        _ => true,
    });
    // 2. A whole entry in it was written whole: if it is wrong, it was changed later. Only the
    //    newline of the last one may be missing.
    let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let holds_an_entry = tail.split(|byte| matches!(byte, 0 | b'\n')).any(|part| {
        let end = part.iter().rposition(|byte| *byte == b'}').map_or(0, |at| at + 1);
        let (entry, _) = part.split_at(end);
        end != written && read_line(&[entry, b"\n"].concat()).is_some()
    });
    // 3. A line with a newline and without zeros was written whole, too.
    let is_incomplete =
        tail.contains(&0) || !tail.contains(&b'\n') && tail.len() < TOMBSTONE_LINE_BYTES_MAX;
    is_incomplete && zeros_are_blocks && !holds_an_entry
}

#[cfg(test)]
#[path = "tombstones_tests.rs"]
mod tests;
