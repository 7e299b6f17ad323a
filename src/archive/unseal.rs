//! Opening sealed records.
//!
//! Purpose: find the key of a record in the segment's key file, unwrap it, and open the body.
//! Invariants: metadata needs the box's key, sound a recipient's identity; a key is unwrapped once
//! and kept until the unsealer is dropped; an erased call is told from a wrong identity.
//! Non-goals: sealing (see `open_segment`).
//! Sources: docs/archive.md, "Keys".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::call_keys::wrap_context;
use super::cipher::RecordKey;
use super::disk::{Disk, read_vec};
use super::error::{ArchiveError, SegmentFault};
use super::reader::OwnedRecord;
use super::recipients::Identities;
use super::record::StoredRecord;
use super::secret::{BoxKey, Secret};
use super::segment::SegmentId;
use super::sidecar::{
    KeySlot, Purpose, SIDECAR_HEADER_BYTES, SidecarHeader, SlotBytes, decode_slot,
};
use crate::base::CallId;

/// Opens records of one archive.
#[derive(Debug)]
pub struct Unsealer {
    archive: [u8; 16],
    box_key: Option<BoxKey>,
    identities: Identities,
    recipients: Vec<String>,
    keys: Mutex<HashMap<(SegmentId, u32), Arc<RecordKey>>>,
}

impl Unsealer {
    /// `recipients`: the archive's, to name them where an identity is missing.
    #[must_use]
    pub fn new(archive: [u8; 16], box_key: Option<BoxKey>, recipients: Vec<String>) -> Self {
        let (identities, keys) = (Identities::none(), Mutex::new(HashMap::new()));
        Self { archive, box_key, identities, recipients, keys }
    }

    /// Adds identities, so that sound opens too.
    pub fn set_identities(&mut self, identities: Identities) {
        self.identities = identities;
    }

    /// Opens a record that stands at `offset` of `segment`.
    ///
    /// # Errors
    /// `NoIdentity`, `Keys`, `Erased`, `BadKeySlot`, `BadSegment`, `Io`.
    pub fn open<D: Disk>(
        &self,
        disk: &D,
        segment: SegmentId,
        offset: u64,
        record: &StoredRecord<'_>,
    ) -> Result<OwnedRecord, ArchiveError> {
        let header = record.header;
        let key = match header.seal {
            Some(seal) => Some(self.key(disk, segment, seal.slot, header.call)?),
            None => None,
        };
        let body = record.open(self.archive, key.as_deref());
        let body = body.map_err(|fault| fault.at(segment, offset))?;
        Ok(OwnedRecord { kind: header.kind, sequence: header.sequence, body })
    }

    fn key<D: Disk>(
        &self,
        disk: &D,
        segment: SegmentId,
        number: u32,
        call: CallId,
    ) -> Result<Arc<RecordKey>, ArchiveError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(&(segment, number)) {
            return Ok(Arc::clone(key));
        }
        let (secret, slot) = self.secret(disk, segment, number, call)?;
        let bad = || ArchiveError::BadKeySlot { segment, slot: number };
        let key = Arc::new(RecordKey::new(&secret, slot.epoch).ok_or_else(bad)?);
        keys.insert((segment, number), Arc::clone(&key));
        Ok(key)
    }

    /// The bare key of a slot, and what the slot says of it.
    ///
    /// # Errors
    /// As `open`.
    pub fn secret<D: Disk>(
        &self,
        disk: &D,
        segment: SegmentId,
        number: u32,
        call: CallId,
    ) -> Result<(Secret, KeySlot), ArchiveError> {
        let bad = || ArchiveError::BadKeySlot { segment, slot: number };
        let slot = match decode_slot(&read_slot(disk, self.archive, segment, number)?) {
            SlotBytes::Key(slot) => slot,
            SlotBytes::Empty => return Err(ArchiveError::Erased { call }),
            SlotBytes::Damaged => return Err(bad()),
        };
        if slot.call != call {
            return Err(SegmentFault::RecordSealed.at(segment, 0));
        }
        let secret = match slot.purpose {
            Purpose::Metadata => {
                let box_key = self.box_key.as_ref().ok_or_else(no_box_key)?;
                let context = wrap_context(&self.archive, slot.call, slot.epoch);
                box_key.unwrap(&slot.wrapped, &context).ok_or_else(bad)?
            }
            Purpose::Audio => self.identities.unwrap(&slot.wrapped).ok_or_else(|| {
                let stranger = ", and not for the identity that was given";
                let given = if self.identities.is_empty() { "" } else { stranger };
                ArchiveError::NoIdentity { call, given, recipients: self.recipients.join(", ") }
            })?,
        };
        Ok((secret, slot))
    }
}

/// A sealed archive without its box key.
pub(super) fn no_box_key() -> ArchiveError {
    ArchiveError::Keys {
        reason: "the archive is sealed, and its box key is not there: give --box-key FILE".into(),
    }
}

/// The bytes of a slot.
pub(super) fn read_slot<D: Disk>(
    disk: &D,
    archive: [u8; 16],
    segment: SegmentId,
    number: u32,
) -> Result<Vec<u8>, ArchiveError> {
    let name = segment.keys_name();
    let io = |error| ArchiveError::io("read", &name, error);
    let file = disk.open_read(&name).map_err(io)?;
    let header = read_vec(disk, &file, 0, SIDECAR_HEADER_BYTES).map_err(io)?;
    let bad = || ArchiveError::BadKeySlot { segment, slot: number };
    let header = SidecarHeader::decode(&header, archive, segment).ok_or_else(bad)?;
    let len = header.slot_bytes as usize;
    let slot = read_vec(disk, &file, header.slot_offset(number), len).map_err(io)?;
    if slot.len() == len { Ok(slot) } else { Err(bad()) }
}
