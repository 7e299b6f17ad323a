//! One line of `tombstones`: its bytes, and what they say.
//!
//! Purpose: write and read lines, and tell a torn end from a changed one.
//! Invariants: a line counts only if writing it again gives the same bytes.
//! Non-goals: whether it is signed, and follows the line before it (see `tombstones`).
//! Sources: RFC 8259 (JSON); docs/archive.md.
//!
//! ```text
//! <base64 of 64 bytes of signature> <JSON object>\n         one line an entry, in this order of keys:
//! {"n":1,"previous":"<64 hex>","time":"<RFC 3339, ns>","kind":"erase_begun","call":"<16 hex>",
//!  "reason":"…","started_at":"<RFC 3339, ns>"}              (drawn on two lines; "started_at" may lack)
//! "erased": call    "held", "released": call, reason    "compacted", "rewrapped": segment, hash (64 hex)
//! "settings": hash
//! previous: SHA-256 of the whole line before, with its newline; zeros for the first.
//! signature: detached, context "callspan tombstone", parts: the archive's id (16 bytes), the JSON.
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::merkle::{Hash, sha256};
use super::segment::SegmentId;
use super::tombstones::Tombstone;
use crate::base::limits::TOMBSTONE_LINE_BYTES_MAX;
use crate::base::rfc3339::{format_utc_ns, parse_utc_ns};

/// A block that was never written reads as zeros up to a multiple of this.
const SECTOR_BYTES: usize = 512;

/// The JSON of a line. Keys that a kind does not have are absent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub n: u64,
    pub previous: String,
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
    hash: Option<String>,
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
    Settings,
}

impl Entry {
    pub fn of(n: u64, previous: Hash, time_ns: i64, tombstone: &Tombstone) -> Self {
        let (kind, segment, hash, started_at_ns) = match tombstone {
            Tombstone::EraseBegun { started_at_ns, .. } => {
                (Kind::EraseBegun, None, None, *started_at_ns)
            }
            Tombstone::Erased { .. } => (Kind::Erased, None, None, None),
            Tombstone::Held { .. } => (Kind::Held, None, None, None),
            Tombstone::Released { .. } => (Kind::Released, None, None, None),
            Tombstone::Compacted { segment, footer } => {
                (Kind::Compacted, Some(segment.0), Some(footer.to_hex()), None)
            }
            Tombstone::Rewrapped { segment, slots } => {
                (Kind::Rewrapped, Some(segment.0), Some(slots.to_hex()), None)
            }
            Tombstone::Settings { manifest } => {
                (Kind::Settings, None, Some(manifest.to_hex()), None)
            }
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
            hash,
        }
    }

    pub fn to_json(&self) -> String {
        // Strings, numbers and a unit enum: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// When it was made, and what it says; `None` if a key is missing, or not its kind's.
    pub fn meaning(&self) -> Option<(i64, Tombstone)> {
        let call = || self.call.as_ref()?.parse().ok();
        let reason = || self.reason.clone();
        let segment = || self.segment.map(SegmentId);
        let hash = || Hash::from_hex(self.hash.as_ref()?);
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
            Kind::Compacted => Tombstone::Compacted { segment: segment()?, footer: hash()? },
            Kind::Rewrapped => Tombstone::Rewrapped { segment: segment()?, slots: hash()? },
            Kind::Settings => Tombstone::Settings { manifest: hash()? },
        };
        let time_ns = parse_utc_ns(&self.time)?;
        // Keys of another kind would be lost here, and other spellings be made ours.
        let previous = Hash::from_hex(&self.previous)?;
        let again = Self::of(self.n, previous, time_ns, &tombstone).to_json();
        (again == self.to_json()).then_some((time_ns, tombstone))
    }
}

/// How many lines a file has that ends with `tail`, and SHA-256 of the last whole one; `None` if no
/// whole line is in it. Whether they are genuine is for `parse` to say.
#[must_use]
pub(super) fn end_of(tail: &[u8]) -> Option<(u64, Hash)> {
    let lines = tail.split_inclusive(|byte| *byte == b'\n');
    lines.rev().find_map(|line| Some((read_line(line)?.2.n, sha256(&[line]))))
}

/// Signature, JSON and its entry, of a line with its newline, in the one spelling that is ours.
pub(super) fn read_line(line: &[u8]) -> Option<([u8; 64], &[u8], Entry)> {
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
pub(super) fn is_torn(tail: &[u8], offset: usize) -> bool {
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
