//! The keys that a writer holds for the calls it writes.
//!
//! Purpose: make a call's keys when its first record comes, remember where a segment keeps them, and
//! hand out counters that never come twice.
//! Invariants: each key is random and of this process alone; its counter only grows; a call's keys
//! are forgotten (and wiped) when the call has ended, and made anew should it go on.
//! Non-goals: the bytes of slots (see `sidecar`), sealing (see `cipher`).
//! Sources: docs/archive.md, "Keys".

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::cipher::RecordKey;
use super::disk::Disk;
use super::error::ArchiveError;
use super::recipients::{self, ArchiveRecipient};
use super::secret::{BoxKey, Secret};
use super::segment::{RecordKind, SegmentId};
use super::sidecar::{KeySlot, Purpose, slot_size};
use crate::base::CallId;

/// Who can open what is written.
#[derive(Debug)]
pub struct Sealing {
    /// Opens metadata.
    pub box_key: BoxKey,
    /// Open sound.
    pub recipients: Vec<ArchiveRecipient>,
}

/// One key of a call, and how often it was used.
#[derive(Debug)]
pub(super) struct EpochKey {
    pub key: Arc<RecordKey>,
    slot: KeySlot,
    next_counter: u64,
    /// Its slot in the segment where it was last used.
    place: Option<(SegmentId, u32)>,
}

impl EpochKey {
    /// A counter that this key never had; `None` after 2^64 records.
    pub fn counter(&mut self) -> Option<u64> {
        let counter = self.next_counter;
        self.next_counter = counter.checked_add(1)?;
        Some(counter)
    }
}

/// The keys of all calls that are being written.
#[derive(Debug)]
pub(super) struct CallKeys {
    sealing: Sealing,
    archive: [u8; 16],
    /// Bytes of a slot in segments that begin from now on.
    pub slot_bytes: u32,
    keys: HashMap<(CallId, Purpose), EpochKey, RandomState>,
}

/// What a record's kind is sealed for.
pub(super) const fn purpose_of(kind: RecordKind) -> Purpose {
    match kind {
        RecordKind::CallOpened | RecordKind::Summary | RecordKind::Sip => Purpose::Metadata,
        RecordKind::Audio | RecordKind::Raw | RecordKind::Spill | RecordKind::SpillDone => {
            Purpose::Audio
        }
    }
}

/// What a wrapped metadata key belongs to: it opens nowhere else.
pub(super) fn wrap_context(archive: &[u8; 16], call: CallId, epoch: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[..16].copy_from_slice(archive);
    out[16..24].copy_from_slice(&call.0.to_le_bytes());
    out[24..].copy_from_slice(&epoch.to_le_bytes());
    out
}

impl CallKeys {
    /// No keys yet. Wraps once, to see how large a slot must be.
    ///
    /// # Errors
    /// `Sealing` when the recipients cannot be used together, or do not fit a slot.
    pub fn new(sealing: Sealing, archive: [u8; 16]) -> Result<Self, ArchiveError> {
        let slot_bytes = try_out(&sealing.recipients)?;
        Ok(Self { sealing, archive, slot_bytes, keys: HashMap::default() })
    }

    /// The call's key for records of this purpose, made if there is none.
    ///
    /// # Errors
    /// `Sealing`, `Io` (no random bytes).
    pub fn key<D: Disk>(
        &mut self,
        disk: &mut D,
        call: CallId,
        purpose: Purpose,
    ) -> Result<&mut EpochKey, ArchiveError> {
        if !self.keys.contains_key(&(call, purpose)) {
            let made = self.make(disk, call, purpose)?;
            self.keys.insert((call, purpose), made);
        }
        self.keys.get_mut(&(call, purpose)).ok_or_else(|| broken("a key vanished"))
    }

    /// The call's present key, if records of this purpose were written.
    pub fn present(&self, call: CallId, purpose: Purpose) -> Option<&RecordKey> {
        self.keys.get(&(call, purpose)).map(|epoch| &*epoch.key)
    }

    fn make<D: Disk>(
        &self,
        disk: &mut D,
        call: CallId,
        purpose: Purpose,
    ) -> Result<EpochKey, ArchiveError> {
        let mut bytes = zeroize::Zeroizing::new([0; 52]);
        disk.random(bytes.as_mut())
            .map_err(|error| ArchiveError::io("read", "/dev/urandom", error))?;
        let (secret, rest) = bytes.split_at(32);
        let secret = Secret::from_slice(secret).ok_or_else(|| broken("no key"))?;
        let epoch = rest.first_chunk().map_or(0, |name| u64::from_le_bytes(*name));
        let nonce = rest.last_chunk::<12>().copied().unwrap_or_default();
        let wrapped = match purpose {
            Purpose::Metadata => {
                let context = wrap_context(&self.archive, call, epoch);
                self.sealing.box_key.wrap(nonce, &context, &secret)
            }
            Purpose::Audio => recipients::wrap(&self.sealing.recipients, &secret).ok(),
        };
        let wrapped = wrapped.ok_or_else(|| broken("a call's key cannot be wrapped"))?;
        let key = RecordKey::new(&secret, epoch).ok_or_else(|| broken("no key"))?;
        let slot = KeySlot { call, epoch, purpose, wrapped };
        Ok(EpochKey { key: Arc::new(key), slot, next_counter: 0, place: None })
    }

    /// Wipes the keys of a call that has ended.
    pub fn forget(&mut self, call: CallId) {
        self.keys.remove(&(call, Purpose::Metadata));
        self.keys.remove(&(call, Purpose::Audio));
    }
}

impl EpochKey {
    /// The slot that holds this key in `segment`; `next`: the number that a new one gets. Returns the
    /// number, and the bytes of the slot if it has to be written first.
    pub fn place(
        &mut self,
        segment: SegmentId,
        next: u32,
        slot_bytes: u32,
    ) -> Result<(u32, Option<Vec<u8>>), ArchiveError> {
        if let Some((known, number)) = self.place {
            if known == segment {
                return Ok((number, None));
            }
        }
        let bytes = self.slot.encode(slot_bytes).ok_or_else(|| broken("a key fits no slot"))?;
        self.place = Some((segment, next));
        Ok((next, Some(bytes)))
    }
}

/// Wraps once, to see how large a slot must be and whether the recipients go together.
///
/// # Errors
/// `Sealing`.
pub(super) fn try_out(recipients: &[ArchiveRecipient]) -> Result<u32, ArchiveError> {
    let zeros = Secret::from_slice(&[0; 32]).ok_or_else(|| broken("no key"))?;
    let sample = recipients::wrap(recipients, &zeros);
    let sample = sample.map_err(|reason| ArchiveError::Sealing { reason })?;
    slot_size(sample.len())
        .ok_or_else(|| broken("there are too many recipients: their keys fit no slot"))
}

fn broken(reason: &str) -> ArchiveError {
    ArchiveError::Sealing { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::DiskSim;
    use crate::archive::recipients::{Identities, new_pair};

    #[test]
    fn a_call_has_one_key_a_purpose_and_a_slot_a_segment_and_counters_never_repeat() {
        let (text, public) = new_pair("now");
        let box_key = BoxKey::new(Secret::from_slice(&[1; 32]).expect("32 bytes"));
        let recipients = vec![ArchiveRecipient::parse(&public).expect("recipient")];
        let sealing = Sealing { box_key: box_key.clone(), recipients };
        let mut keys = CallKeys::new(sealing, [9; 16]).expect("keys");
        let mut disk = DiskSim::new();
        let call = CallId(5);
        let audio = keys.key(&mut disk, call, Purpose::Audio).expect("made");
        assert_eq!((audio.counter(), audio.counter()), (Some(0), Some(1)));
        let (number, slot) = audio.place(SegmentId(1), 4, 1_024).expect("placed");
        assert!(number == 4 && slot.is_some());
        assert_eq!(audio.place(SegmentId(1), 5, 1_024).expect("placed"), (4, None));
        let (number, again) = audio.place(SegmentId(2), 0, 1_024).expect("placed");
        assert_eq!((number, again.is_some()), (0, true));
        assert_eq!(again, slot, "the same key in the next segment");
        let identities = Identities::parse(&text).expect("identity");
        let epoch = audio.key.epoch;
        assert!(identities.unwrap(&audio.slot.wrapped).is_some());
        let metadata = keys.key(&mut disk, call, Purpose::Metadata).expect("made");
        let context = wrap_context(&[9; 16], call, metadata.key.epoch);
        assert!(box_key.unwrap(&metadata.slot.wrapped, &context).is_some());
        keys.forget(call);
        let later = keys.key(&mut disk, call, Purpose::Audio).expect("made");
        assert_ne!(later.key.epoch, epoch, "a call that goes on gets a new key");
        assert_eq!(later.counter(), Some(0));
    }
}
