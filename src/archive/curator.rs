//! What changes an archive beside its writer: erasing, holding, retaining, compacting.
//!
//! Purpose: destroy a call for good, refuse where the law holds it, and give the room back; a writer
//! may go on writing meanwhile.
//! Invariants: an erasure is announced before the first key is touched, and finished by the next
//! curator if a crash cut it short; a call that is held, or goes on, is never erased; nothing says who
//! was in an erased call.
//! Non-goals: deciding why (see the commands and the rules).
//! Sources: docs/archive.md, "Erase", "Compact", "Retain".

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};

use serde_json::json;

use super::box_keys::BoxKeys;
use super::chain::Clock;
use super::compact::{successor_name, take_place, write_successor};
use super::disk::{Disk, IndexPlace, read_vec};
use super::error::ArchiveError;
use super::footer::Footer;
use super::index::{Index, LogState};
use super::manifest::{self, Manifest, Named, Retention};
use super::merkle::{Hash, sha256};
use super::recipients::Identities;
use super::record::{RecordHeader, record_span_bytes};
use super::recover::{catch_up, list_segments};
use super::rewrap::{self, Rewrap, Rewrapped, new_keys_name};
use super::scan::{check_entry, entry_bytes, read_footer, scan};
use super::segment::{SegmentId, SegmentState};
use super::sidecar::{SIDECAR_HEADER_BYTES, SidecarHeader, SlotBytes, decode_slot};
use super::tombstone_file::TombstoneFile;
use super::tombstones::{Tombstone, Tombstones};
use super::unseal::Unsealer;
use super::{SEGMENTS_DIR, UPKEEP_LOCK_NAME};
use crate::base::CallId;
use crate::base::rfc3339::format_utc;

/// Whether readers still held SQLite's log when a call was purged from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Nothing of the call is left in the index's files.
    Whole,
    /// A reader was at work: the log is emptied by the next erasure or the writer's end.
    LogInUse,
}

/// What a compaction gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Segments that were written anew.
    pub segments: u64,
    /// Bytes that are free again.
    pub bytes: u64,
}

/// Compact a segment when at least so much of its records is dead.
const DEAD_PERCENT_MIN: u64 = 50;
/// Room for the lines of an erasure, and for what the index's log takes.
const TOMBSTONES_ROOM_BYTES: u64 = 64 << 10;

/// Erases, holds and compacts in one archive.
pub struct Curator<D: Disk> {
    disk: D,
    index: Index,
    archive: [u8; 16],
    plaintext: bool,
    keys: BoxKeys,
    clock: Clock,
    tombstones: TombstoneFile,
    retention: Retention,
}

impl<D: Disk> Curator<D> {
    /// Takes the upkeep lock, and finishes what an earlier curator began.
    ///
    /// # Errors
    /// `NotInitialised`, `Keys`, `UpkeepLocked`, `BadTombstones`, `IndexUnusable`, `Io`, `Index`.
    pub fn open(disk: D, keys: BoxKeys, clock: Clock) -> Result<Self, ArchiveError> {
        let manifest = Manifest::read(&disk)?;
        manifest.check_keys(&keys)?;
        let mut disk = disk;
        take_upkeep_lock(&mut disk)?;
        let archive = manifest.archive_id().unwrap_or_default();
        let key = keys.signing.verifying_key();
        let mut tombstones = TombstoneFile::load(&disk, archive, Some(&key))?;
        tombstones.cut_torn_tail(&mut disk)?;
        let (manifest, named) = Manifest::current(&disk, tombstones.tombstones())?;
        if named == Named::NotYet {
            manifest::take_place(&mut disk)?;
        }
        let index_key = (!manifest.plaintext).then(|| keys.box_key.index_key());
        let index = Index::open_writer(&disk.index_place(), &disk.place(), index_key.as_ref())?;
        let (plaintext, retention) = (manifest.plaintext, manifest.retention.clone());
        let mut curator =
            Self { disk, index, archive, plaintext, keys, clock, tombstones, retention };
        purge_erased(&mut curator.index, curator.tombstones.tombstones())?;
        curator.finish_compactions()?;
        curator.finish_rewraps()?;
        curator.catch_up(manifest.recipients)?;
        let unfinished: Vec<CallId> = curator.tombstones().unfinished().collect();
        for call in unfinished {
            curator.destroy(call)?;
        }
        Ok(curator)
    }

    /// The index may lag behind the segments: what it does not know cannot be erased.
    fn catch_up(&mut self, recipients: Vec<String>) -> Result<(), ArchiveError> {
        let unsealer = Unsealer::new(self.archive, Some(self.keys.box_key.clone()), recipients);
        let mut listed = list_segments(&self.disk)?;
        // A segment that grows is its writer's to index; only an index in memory is nobody else's.
        let is_ours = self.disk.index_place() == IndexPlace::Memory;
        listed.retain(|(_, state)| *state == SegmentState::Sealed || is_ours);
        // What cannot be read is for `verify` to tell.
        catch_up(&self.disk, &mut self.index, self.archive, &listed, &unsealer)?;
        Ok(())
    }

    /// What was erased, held and compacted so far.
    #[must_use]
    pub const fn tombstones(&self) -> &Tombstones {
        self.tombstones.tombstones()
    }

    /// Erases a call for good: see "Erase".
    ///
    /// # Errors
    /// `UnknownCall`, `StillOngoing`, `NotSealedYet`, `MissingSegment`, `TombstoneRefused` (held, erased
    /// already, or a reason that is none): nothing was touched. `Full`, `Io`, `Index`: call again.
    pub fn erase(&mut self, call: CallId, reason: &str) -> Result<Purged, ArchiveError> {
        // Step 1: what must not be erased is refused.
        let found = self.index.call(call)?.ok_or(ArchiveError::UnknownCall { call })?;
        if self.index.ongoing()?.iter().any(|ongoing| ongoing.id == call) {
            return Err(ArchiveError::StillOngoing { call });
        }
        let segments = self.segments_of(call)?;
        let open = segments.iter().find(|(_, state)| **state == SegmentState::Open);
        if let Some((segment, _)) = open.filter(|_| self.plaintext) {
            return Err(ArchiveError::NotSealedYet { call, segment: *segment });
        }
        if self.plaintext {
            self.has_room(segments.keys())?;
        }
        // Step 2: from now on there is no way back.
        let started_at_ns = Some(found.started_ns);
        self.note(&[Tombstone::EraseBegun { call, reason: reason.to_owned(), started_at_ns }])?;
        self.destroy(call)
    }

    /// An erasure that is begun has to be finished: a full disk is told before.
    fn has_room<'s>(
        &self,
        segments: impl Iterator<Item = &'s SegmentId>,
    ) -> Result<(), ArchiveError> {
        let mut needed = 0;
        for segment in segments {
            // Each successor takes its place before the next one is written.
            needed = needed.max(self.len_of(&segment.sealed_name())?);
        }
        needed += TOMBSTONES_ROOM_BYTES;
        let free =
            self.disk.free_bytes().map_err(|error| ArchiveError::io("ask", "disk", error))?;
        if free < needed { Err(ArchiveError::Full { needed, free }) } else { Ok(()) }
    }

    /// Steps 3–5 of "Erase".
    fn destroy(&mut self, call: CallId) -> Result<Purged, ArchiveError> {
        // Step 3: the keys, or in a plaintext archive the records.
        for (segment, state) in self.segments_of(call)? {
            if !self.plaintext {
                self.zero_slots(segment, state, call)?;
            } else if state == SegmentState::Sealed {
                self.compact(segment, &[call])?;
            }
        }
        // Step 4: the index names nobody any more.
        let erasure = self.tombstones().erasure(call);
        let started_ns = erasure.and_then(|erasure| erasure.started_at_ns).unwrap_or(0);
        self.index.purge(call, &stub(call, started_ns), started_ns)?;
        let log = self.index.checkpoint_truncate()?;
        // Step 5: done.
        self.note(&[Tombstone::Erased { call }])?;
        Ok(if log == LogState::Truncated { Purged::Whole } else { Purged::LogInUse })
    }

    /// Puts a call under legal hold.
    ///
    /// # Errors
    /// `UnknownCall`, `TombstoneRefused`, `Full`, `Io`, `Index`.
    pub fn hold(&mut self, call: CallId, reason: &str) -> Result<(), ArchiveError> {
        self.index.call(call)?.ok_or(ArchiveError::UnknownCall { call })?;
        self.note(&[Tombstone::Held { call, reason: reason.to_owned() }])
    }

    /// Ends a legal hold.
    ///
    /// # Errors
    /// `TombstoneRefused`, `Full`, `Io`.
    pub fn release(&mut self, call: CallId, reason: &str) -> Result<(), ArchiveError> {
        self.note(&[Tombstone::Released { call, reason: reason.to_owned() }])
    }

    /// Calls whose time is over at `now_ns`, held ones left out; and how many are held.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn due(&self, now_ns: i64) -> Result<(Vec<CallId>, u64), ArchiveError> {
        let (mut due, mut held) = (Vec::new(), 0);
        let mut classes = self.index.classes()?;
        classes.push(String::new());
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            let Some(days) = self.retention.days_of(&class) else { continue };
            let before_ns = now_ns.saturating_sub(i64::from(days).saturating_mul(DAY_NS));
            for call in self.index.ended_before(before_ns, &class)? {
                if self.tombstones().is_held(call) {
                    held += 1;
                } else if self.tombstones().erasure(call).is_none() {
                    due.push(call);
                }
            }
        }
        Ok((due, held))
    }

    /// Writes every finished segment anew of which at least half is dead.
    ///
    /// # Errors
    /// `BadSegment`, `Full`, `Io`.
    pub fn reclaim(&mut self) -> Result<Reclaimed, ArchiveError> {
        let mut reclaimed = Reclaimed::default();
        for (segment, state) in list_segments(&self.disk)? {
            if state == SegmentState::Sealed && self.dead_percent(segment)? >= DEAD_PERCENT_MIN {
                reclaimed.bytes += self.compact(segment, &[])?;
                reclaimed.segments += 1;
            }
        }
        Ok(reclaimed)
    }

    fn dead_percent(&self, segment: SegmentId) -> Result<u64, ArchiveError> {
        let name = segment.sealed_name();
        let io = |error| ArchiveError::io("read", &name, error);
        let file = self.disk.open_read(&name).map_err(io)?;
        let footer = read_footer(&self.disk, &file, segment)?;
        let Ok(footer) = Footer::decode(&footer) else { return Ok(0) };
        let (mut dead, mut all) = (0_u64, 0_u64);
        for entry in footer.entries() {
            let span = record_span_bytes(entry.stored_len);
            all = all.saturating_add(span);
            if self.tombstones().is_erased(entry.call) {
                dead = dead.saturating_add(span);
            }
        }
        Ok(dead.saturating_mul(100).checked_div(all).unwrap_or(0))
    }

    /// "Compact": without the erased calls, and without `also`. Returns the bytes that it gave back.
    fn compact(&mut self, segment: SegmentId, also: &[CallId]) -> Result<u64, ArchiveError> {
        let before = self.len_of(&segment.sealed_name())?;
        let tombstones = self.tombstones.tombstones();
        let is_dead = |call| tombstones.is_erased(call) || also.contains(&call);
        let signing = &self.keys.signing;
        let written = write_successor(&mut self.disk, self.archive, segment, signing, is_dead);
        let footer = match written {
            Ok(Some(footer)) => footer,
            Ok(None) => return Ok(0),
            Err(error) => {
                // Half a successor is of no use, and on a full disk in the way.
                let _ = self.disk.remove(&successor_name(segment));
                return Err(error);
            }
        };
        // Step 4: it is announced; step 5: it takes the place of the old one.
        self.note(&[Tombstone::Compacted { segment, footer }])?;
        take_place(&mut self.disk, segment)?;
        Ok(before.saturating_sub(self.len_of(&segment.sealed_name())?))
    }

    /// A successor that was announced takes its place; one that was not is removed.
    fn finish_compactions(&mut self) -> Result<(), ArchiveError> {
        for (segment, _) in list_segments(&self.disk)? {
            let name = successor_name(segment);
            let Ok(file) = self.disk.open_read(&name) else { continue };
            let footer = read_footer(&self.disk, &file, segment).unwrap_or_default();
            let announced: Option<Hash> = self.tombstones().compaction(segment);
            if announced == Some(sha256(&[&footer])) {
                take_place(&mut self.disk, segment)?;
            } else {
                let io = |error| ArchiveError::io("remove", &name, error);
                self.disk.remove(&name).map_err(io)?;
                self.disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Wraps the keys of all finished segments for the recipients of today: see "Rewrap".
    ///
    /// # Errors
    /// `BadManifest`, `Sealing`, `BadKeySlot`, `TombstoneRefused`, `Full`, `Io`.
    pub fn rewrap(&mut self, identities: &Identities) -> Result<Rewrapped, ArchiveError> {
        let recipients = self.settings()?.recipients()?;
        let mut total = Rewrapped::default();
        for (segment, state) in list_segments(&self.disk)? {
            if state == SegmentState::Sealed {
                let job = Rewrap { archive: self.archive, identities, recipients: &recipients };
                let staged = job.stage(&mut self.disk, segment, &mut total)?;
                if let Some(slots) = staged {
                    // Step 3: it is announced; steps 4 and 5: it takes the place of the old one.
                    self.note(&[Tombstone::Rewrapped { segment, slots }])?;
                    rewrap::take_place(&mut self.disk, segment)?;
                }
            }
        }
        Ok(total)
    }

    /// A key file that was announced takes its place; one that was not is destroyed.
    fn finish_rewraps(&mut self) -> Result<(), ArchiveError> {
        for (segment, _) in list_segments(&self.disk)? {
            let name = new_keys_name(segment);
            let io = |error| ArchiveError::io("remove", &name, error);
            let Ok(file) = self.disk.open_write(&name) else { continue };
            let announced = self.tombstones().rewrap(segment);
            let listed = rewrap::listed(&self.disk, &name, self.archive, segment);
            if announced.is_some() && announced == listed.map(|(_, root)| root) {
                rewrap::take_place(&mut self.disk, segment)?;
                continue;
            }
            rewrap::overwrite(&mut self.disk, &file).map_err(io)?;
            self.disk.remove(&name).map_err(io)?;
            self.disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
        }
        Ok(())
    }

    /// The settings that hold.
    ///
    /// # Errors
    /// `BadManifest`, `Io`.
    pub fn settings(&self) -> Result<Manifest, ArchiveError> {
        Ok(Manifest::current(&self.disk, self.tombstones())?.0)
    }

    /// Replaces `archive.toml`: see "Change settings".
    ///
    /// # Errors
    /// `BadManifest`, `TombstoneRefused`, `Full`, `Io`.
    pub fn change_settings(&mut self, settings: &Manifest) -> Result<(), ArchiveError> {
        // Step 1: durable under another name.
        let manifest = settings.stage(&mut self.disk, &self.keys)?;
        // Step 2: announced; step 3: under its own.
        self.note(&[Tombstone::Settings { manifest }])?;
        manifest::take_place(&mut self.disk)?;
        self.retention.clone_from(&settings.retention);
        Ok(())
    }

    fn len_of(&self, name: &str) -> Result<u64, ArchiveError> {
        let io = |error| ArchiveError::io("read", name, error);
        let file = self.disk.open_read(name).map_err(io)?;
        self.disk.len_bytes(&file).map_err(io)
    }

    /// Every segment that may hold records of the call: those that the index names, and those that it
    /// does not know whole.
    fn segments_of(&self, call: CallId) -> Result<BTreeMap<SegmentId, SegmentState>, ArchiveError> {
        let known = self.index.segments()?;
        let named: Vec<SegmentId> =
            self.index.segments_of(call)?.into_iter().map(|(segment, _)| segment).collect();
        let mut listed = list_segments(&self.disk)?;
        let is_there = |listed: &[(SegmentId, SegmentState)], named: &SegmentId| {
            listed.iter().any(|(segment, _)| segment == named)
        };
        if !named.iter().all(|segment| is_there(&listed, segment)) {
            // One that was sealed during the listing may have hidden from it.
            listed = list_segments(&self.disk)?;
        }
        // Its keys, or a copy of it that is put back, would outlive the erasure.
        if let Some(segment) = named.iter().find(|segment| !is_there(&listed, segment)) {
            return Err(ArchiveError::MissingSegment { segment: *segment });
        }
        let mut found = BTreeMap::new();
        for (segment, state) in listed {
            let is_known = known.get(&segment) == Some(&SegmentState::Sealed);
            let is_named = named.contains(&segment);
            // Of one that the index lags behind, a sealed archive's keys tell whose it is.
            if is_named || (!is_known && !self.plaintext) {
                found.insert(segment, state);
            }
        }
        Ok(found)
    }

    /// Overwrites a call's slots with zeros and makes that durable.
    fn zero_slots(
        &mut self,
        segment: SegmentId,
        state: SegmentState,
        call: CallId,
    ) -> Result<(), ArchiveError> {
        let name = segment.keys_name();
        let io = |error: io::Error| ArchiveError::io("erase", &name, error);
        let file = match self.disk.open_write(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(error)),
        };
        let header = read_vec(&self.disk, &file, 0, SIDECAR_HEADER_BYTES).map_err(io)?;
        let bad = ArchiveError::BadKeySlot { segment, slot: 0 };
        let header = SidecarHeader::decode(&header, self.archive, segment).ok_or(bad)?;
        let slots = header.slots_in(self.disk.len_bytes(&file).map_err(io)?);
        let zeros = vec![0; header.slot_bytes as usize];
        let (mut dead, mut damaged) = (Vec::new(), Vec::new());
        for number in 0..u32::try_from(slots).unwrap_or(u32::MAX) {
            let offset = header.slot_offset(number);
            let slot = read_vec(&self.disk, &file, offset, zeros.len()).map_err(io)?;
            match decode_slot(&slot) {
                SlotBytes::Key(key) if key.call == call => dead.push(number),
                SlotBytes::Damaged => damaged.push(number),
                SlotBytes::Key(_) | SlotBytes::Empty => {}
            }
        }
        // A power cut may have torn the zeros, and with them the name of the call.
        if !damaged.is_empty() {
            let (own, others) = self.slots_of(segment, state, call)?;
            damaged.retain(|number| match state {
                SegmentState::Sealed => !others.contains(number),
                // What no record names yet may be a key that the writer is about to use.
                SegmentState::Open => own.contains(number),
            });
            dead.extend(damaged);
        }
        for number in &dead {
            let offset = header.slot_offset(*number);
            self.disk.write_at(&file, offset, &[IoSlice::new(&zeros)]).map_err(io)?;
        }
        if !dead.is_empty() {
            self.disk.sync_data(&file).map_err(io)?;
        }
        Ok(())
    }

    /// The key slots that the call's records in a segment name, and those that records of calls name
    /// which nobody erased.
    fn slots_of(
        &self,
        segment: SegmentId,
        state: SegmentState,
        call: CallId,
    ) -> Result<(BTreeSet<u32>, BTreeSet<u32>), ArchiveError> {
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        let mut take = |header: RecordHeader| {
            let Some(seal) = header.seal else { return };
            if header.call == call {
                own.insert(seal.slot);
            } else if self.tombstones().erasure(header.call).is_none() {
                others.insert(seal.slot);
            }
        };
        // Open first: a segment is sealed at any time, and never opened again.
        let open = match state {
            SegmentState::Open => self.disk.open_read(&segment.open_name()).ok(),
            SegmentState::Sealed => None,
        };
        if let Some(file) = open {
            scan(&self.disk, &file, segment, |record| {
                take(record.header);
                true
            })?;
            return Ok((own, others));
        }
        let name = segment.sealed_name();
        let io = |error| ArchiveError::io("read", &name, error);
        let file = self.disk.open_read(&name).map_err(io)?;
        let footer = read_footer(&self.disk, &file, segment)?;
        let footer = Footer::decode(&footer).map_err(|fault| fault.at(segment, 0))?;
        for entry in footer.entries() {
            let bytes = entry_bytes(&self.disk, &file, segment, &entry)?;
            take(check_entry(&bytes, &entry, segment)?.header);
        }
        Ok((own, others))
    }

    fn note(&mut self, new: &[Tombstone]) -> Result<(), ArchiveError> {
        let now_ns = (self.clock)().now_ns;
        self.tombstones.append(&mut self.disk, new, now_ns, &self.keys.signing)
    }
}

/// Takes the lock of whoever erases, holds or compacts.
pub(super) fn take_upkeep_lock<D: Disk>(disk: &mut D) -> Result<(), ArchiveError> {
    disk.lock(UPKEEP_LOCK_NAME).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => ArchiveError::UpkeepLocked { place: disk.place() },
        _ => ArchiveError::io("lock", UPKEEP_LOCK_NAME, error),
    })
}

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// Tells the index of the calls that were erased, so that rows of theirs are never listed.
pub(super) fn purge_erased(index: &mut Index, tombstones: &Tombstones) -> Result<(), ArchiveError> {
    let known = index.purged()?;
    for (call, erasure) in tombstones.erasures().filter(|(call, _)| !known.contains(call)) {
        let started_ns = erasure.started_at_ns.unwrap_or(0);
        index.purge(call, &stub(call, started_ns), started_ns)?;
    }
    Ok(())
}

/// What the index lists of an erased call: nothing about anybody.
pub(super) fn stub(call: CallId, started_ns: i64) -> String {
    let nobody = json!({"uri": "", "number": "", "name": ""});
    json!({
        "id": call.to_string(),
        "sip_call_ids": [],
        "state": "ended",
        "started_at": format_utc(started_ns),
        "answered_at": null,
        "ended_at": null,
        "end_reason": null,
        "status_code": null,
        "origin": "invite",
        "verdict": "none",
        "caller": nobody,
        "callee": nobody,
        "recording":
            {"state": "erased", "started_at": null, "seconds": 0.0, "bytes": 0, "channels": 0},
        "streams": [],
        "gaps": [],
        "dtmf": [],
        "notes": [],
    })
    .to_string()
}
