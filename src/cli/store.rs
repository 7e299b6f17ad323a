//! The archive as the commands read it: calls by name, their messages, slots and raw packets.
//!
//! Purpose: one place that turns archived bytes into values and the archive's errors into one line.
//! Invariants: it never writes; what cannot be decoded fails the command, and is never left out.
//! Non-goals: searching (the archive's index does it).
//! Sources: docs/archive.md.

use super::export_audio::SlotPair;
use super::export_pcap::SipMessage;
use super::key_files::ArchivePlace;
use super::output::Failure;
use crate::archive::{
    Archive, ArchiveError, AudioBatch, Identities, IndexedCall, Manifest, Query, RecordKind,
    SipEntry, evidence::SegmentEvidence,
};
use crate::base::{CallId, Reader};
use crate::call::summary::CallSummary;

/// Fewer characters of an id than this name no call: they would match too many.
const PREFIX_MIN: usize = 6;
/// Calls named when one name fits several.
const CANDIDATES_SHOWN: usize = 4;

/// An archive that was opened for reading.
pub struct Store {
    archive: Archive,
    place: String,
}

/// A call as it is archived.
pub struct FoundCall {
    /// Its id.
    pub id: CallId,
    /// When its first packet came, in nanoseconds since the epoch.
    pub started_ns: i64,
    /// Its object, as archived.
    pub json: String,
    /// The same, read.
    pub summary: CallSummary,
}

/// The archive's own sentence says what to do.
pub fn archive_failure(error: &ArchiveError) -> Failure {
    Failure::failed(error)
}

impl Store {
    /// Opens an archive; a sealed one needs its box key.
    pub fn open(place: &ArchivePlace) -> Result<Self, Failure> {
        let box_key = place.load_box_key()?;
        let archive = Archive::open(&place.dir, box_key.as_ref()).map_err(|error| {
            // Where it was looked for says more than that it is missing.
            let missing = matches!(error, ArchiveError::Keys { .. }) && box_key.is_none();
            let wanted = missing.then(|| format!(" (looked for {})", place.box_path().display()));
            Failure::failed(format_args!("{error}{}", wanted.unwrap_or_default()))
        })?;
        Ok(Self { archive, place: place.dir.display().to_string() })
    }

    /// Adds identities that open sound.
    pub fn unlock(&mut self, identities: Identities) {
        self.archive.unlock(identities);
    }

    /// Calls that match, oldest first.
    pub fn calls(&self, query: &Query) -> Result<Vec<IndexedCall>, Failure> {
        self.archive.calls(query).map_err(|error| archive_failure(&error))
    }

    /// Calls that match, without those that are a part of another and are listed with it, oldest
    /// first.
    pub fn listed(&self, query: &Query) -> Result<Vec<IndexedCall>, Failure> {
        let mut wider = query.clone();
        loop {
            let mut calls = self.calls(&wider)?;
            let found = calls.len();
            calls.retain(|call| !is_part(call));
            let Some((limit, asked)) = query.limit.zip(wider.limit) else { return Ok(calls) };
            let (wanted, asked) = (limit as usize, asked as usize);
            if calls.len() >= wanted || found < asked {
                // The newest so many.
                return Ok(calls.split_off(calls.len().saturating_sub(wanted)));
            }
            wider.limit = Some(u32::try_from(asked.saturating_mul(2)).unwrap_or(u32::MAX));
        }
    }

    /// The calls that match, read.
    pub fn found(&self, query: &Query) -> Result<Vec<FoundCall>, Failure> {
        self.calls(query)?.into_iter().map(read_call).collect()
    }

    /// The one call that `name` names: its id, the beginning of it, or a SIP Call-ID.
    pub fn find(&self, name: &str) -> Result<FoundCall, Failure> {
        let mut found = self.archive.find(name).map_err(|error| archive_failure(&error))?;
        if found.is_empty() && is_prefix(name) {
            let wanted = name.to_ascii_lowercase();
            found = self.calls(&Query::default())?;
            found.retain(|call| call.id.to_string().starts_with(&wanted));
        }
        if found.len() > 1 {
            found.retain(|call| !is_part(call));
        }
        match (found.pop(), found.as_slice()) {
            (Some(one), []) => read_call(one),
            (Some(last), others) => Err(several(name, others, &last)),
            (None, _) => Err(Failure::failed(format_args!(
                "no call `{name}` in {}; `callspan calls --archive {}` lists them",
                self.place, self.place
            ))),
        }
    }

    /// The call's messages, in order of time.
    pub fn sip(&self, call: CallId) -> Result<Vec<SipMessage>, Failure> {
        let mut messages = Vec::new();
        for body in self.bodies(call, &[RecordKind::Sip])? {
            let (mut reader, before) = (Reader::new(&body), messages.len());
            while let Some(entry) = SipEntry::read(&mut reader) {
                messages.push(SipMessage {
                    time: entry.time,
                    source: entry.source,
                    destination: entry.destination,
                    protocol: entry.protocol,
                    bytes: entry.message.to_vec(),
                });
            }
            if !reader.is_empty() || messages.len() == before {
                return Err(undecodable(call, "SIP"));
            }
        }
        messages.sort_by_key(|message| message.time);
        Ok(messages)
    }

    /// The call's slots, in order.
    pub fn slots(&self, call: CallId) -> Result<Vec<SlotPair>, Failure> {
        slots_from(call, &self.bodies(call, &[RecordKind::Audio])?)
    }

    /// What proves a call's records, and their bytes.
    pub fn evidence(&self, call: CallId) -> Result<(Vec<SegmentEvidence>, Vec<u8>), Failure> {
        self.archive.evidence(call).map_err(|error| archive_failure(&error))
    }

    /// What `archive.toml` says.
    pub const fn manifest(&self) -> &Manifest {
        self.archive.manifest()
    }

    /// Bodies of the call's raw packets, in the order in which they were written.
    pub fn raw(&self, call: CallId) -> Result<Vec<Vec<u8>>, Failure> {
        self.bodies(call, &[RecordKind::Raw, RecordKind::Spill])
    }

    /// Bodies of packets that were put aside under load.
    pub fn spilled(&self, call: CallId) -> Result<Vec<Vec<u8>>, Failure> {
        self.bodies(call, &[RecordKind::Spill])
    }

    fn bodies(&self, call: CallId, kinds: &[RecordKind]) -> Result<Vec<Vec<u8>>, Failure> {
        let records = match self.archive.records(call, kinds) {
            // An erased call is shown as one; what is left of it says nothing.
            Err(ArchiveError::Erased { .. }) if *kinds == [RecordKind::Sip] => Vec::new(),
            read => read.map_err(|error| archive_failure(&error))?,
        };
        Ok(records.into_iter().map(|record| record.body).collect())
    }
}

/// The slots of audio records, in order.
pub fn slots_from(call: CallId, bodies: &[Vec<u8>]) -> Result<Vec<SlotPair>, Failure> {
    let mut slots = Vec::new();
    for body in bodies {
        let batch = AudioBatch::parse(body).ok_or_else(|| undecodable(call, "audio"))?;
        let before = slots.len();
        slots.extend(batch.iterate().map(|slot| SlotPair {
            index: u64::from(slot.slot),
            packets: [slot.left.to_vec(), slot.right.to_vec()],
        }));
        if slots.len() - before != batch.slots as usize {
            return Err(undecodable(call, "audio"));
        }
    }
    slots.sort_by_key(|slot| slot.index);
    Ok(slots)
}

fn undecodable(call: CallId, what: &str) -> Failure {
    Failure::failed(format_args!(
        "call {call}: its {what} records cannot be read; was the archive written by a newer callspan?"
    ))
}

/// True for a call that is listed with another: what was said before an attended transfer.
fn is_part(call: &IndexedCall) -> bool {
    call.summary_json.contains("\"joined_to\":")
        && read_summary(call).is_ok_and(|summary| summary.joined_to.is_some())
}

impl FoundCall {
    /// The call, and the calls that are parts of it.
    #[must_use]
    pub fn with_parts(&self) -> Vec<CallId> {
        let parts = self.summary.legs.iter().filter_map(|leg| leg.call.as_ref()?.parse().ok());
        std::iter::once(self.id).chain(parts).collect()
    }
}

fn is_prefix(name: &str) -> bool {
    (PREFIX_MIN..16).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads the archived object of a call.
pub fn read_summary(call: &IndexedCall) -> Result<CallSummary, Failure> {
    serde_json::from_str(&call.summary_json).map_err(|error| {
        Failure::failed(format_args!("call {}: its summary cannot be read: {error}", call.id))
    })
}

fn read_call(call: IndexedCall) -> Result<FoundCall, Failure> {
    let summary = read_summary(&call)?;
    let IndexedCall { id, started_ns, summary_json: json } = call;
    Ok(FoundCall { id, started_ns, json, summary })
}

fn several(name: &str, others: &[IndexedCall], last: &IndexedCall) -> Failure {
    let count = others.len() + 1;
    let mut ids: Vec<String> = others.iter().map(|call| call.id.to_string()).collect();
    ids.push(last.id.to_string());
    let more = if count > CANDIDATES_SHOWN { ", …" } else { "" };
    ids.truncate(CANDIDATES_SHOWN);
    Failure::failed(format_args!(
        "`{name}` names {count} calls; give the id of one: {}{more}",
        ids.join(", ")
    ))
}
