//! Wrapping the keys of old calls for the recipients of today.
//!
//! Purpose: let a new recipient open old calls, and an old one no more, without touching a record.
//! Invariants: only somebody who can open a key can have it wrapped anew; a segment's key file is
//! replaced whole, and the old one is overwritten; each new slot is signed, since the segment's
//! checkpoint cannot know it.
//! Non-goals: taking a key from somebody who has seen it already.
//! Sources: docs/archive.md, "Rewrap".

use std::io::{self, IoSlice};

use super::SEGMENTS_DIR;
use super::disk::{Disk, read_vec};
use super::error::ArchiveError;
use super::open_segment::full_or_io;
use super::recipients::{self, ArchiveRecipient, Identities};
use super::segment::SegmentId;
use super::sidecar::{
    KeySlot, Purpose, SIDECAR_HEADER_BYTES, SidecarHeader, SlotBytes, SlotState, decode_slot,
    set_signature, signed_parts,
};
use super::signing::{SigningKey, VerifyingKey};

const CONTEXT: &str = "callspan rewrapped key";

/// What wrapping anew came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Keys that the recipients of today open.
    pub keys: u64,
    /// Keys that the identity that was given does not open: they stay as they are.
    pub unopened: u64,
    /// Segments whose key file was replaced.
    pub segments: u64,
}

/// The file that becomes a segment's key file.
pub(super) fn new_keys_name(segment: SegmentId) -> String {
    format!("{}.new", segment.keys_name())
}

/// For whom, by whom.
pub(super) struct Rewrap<'r> {
    pub archive: [u8; 16],
    pub identities: &'r Identities,
    pub recipients: &'r [ArchiveRecipient],
    pub signing: &'r SigningKey,
}

impl Rewrap<'_> {
    /// Wraps the audio keys of one segment anew: "Rewrap".
    ///
    /// # Errors
    /// `Sealing` (the new recipients do not fit a slot), `BadKeySlot`, `Full`, `Io`.
    pub fn segment<D: Disk>(
        &self,
        disk: &mut D,
        segment: SegmentId,
        total: &mut Rewrapped,
    ) -> Result<(), ArchiveError> {
        let name = segment.keys_name();
        let io = |error: io::Error| ArchiveError::io("rewrap", &name, error);
        let old = match disk.open_write(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(io)?,
        };
        let len_bytes = disk.len_bytes(&old).map_err(io)?;
        let mut bytes = read_vec(disk, &old, 0, usize::try_from(len_bytes).unwrap_or(usize::MAX))
            .map_err(io)?;
        let header = SidecarHeader::decode(&bytes, self.archive, segment);
        let header = header.ok_or(ArchiveError::BadKeySlot { segment, slot: 0 })?;
        // Step 1: every slot that opens, in memory.
        let (mut changed, slots) = (0, bytes.get_mut(SIDECAR_HEADER_BYTES..).unwrap_or_default());
        for (number, slot) in (0..).zip(slots.chunks_exact_mut(header.slot_bytes as usize)) {
            let SlotBytes::Key(key) = decode_slot(slot) else { continue };
            if key.purpose != Purpose::Audio {
                continue;
            }
            match self.slot(&key, segment, number, header.slot_bytes)? {
                Some(new) => {
                    slot.copy_from_slice(&new);
                    changed += 1;
                }
                None => total.unopened += 1,
            }
        }
        if changed == 0 {
            return Ok(());
        }
        // Step 2: a new file, durable.
        let new_name = new_keys_name(segment);
        let file = disk
            .create_preallocated(&new_name, 0)
            .map_err(|error| full_or_io(disk, "create", &new_name, len_bytes, error))?;
        disk.write_at(&file, 0, &[IoSlice::new(&bytes)])
            .map_err(|error| full_or_io(disk, "write", &new_name, len_bytes, error))?;
        disk.sync_data(&file).map_err(io)?;
        // Step 3: it takes the place of the old one.
        disk.rename(&new_name, &name).map_err(io)?;
        disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
        // Step 4: the old wraps are overwritten, where the file system overwrites in place.
        let zeros = vec![0; bytes.len()];
        disk.write_at(&old, 0, &[IoSlice::new(&zeros)]).map_err(io)?;
        disk.sync_data(&old).map_err(io)?;
        total.keys += changed;
        total.segments += 1;
        Ok(())
    }

    /// The bytes of a slot for the recipients of today; `None` when the identity does not open it.
    fn slot(
        &self,
        key: &KeySlot,
        segment: SegmentId,
        number: u32,
        slot_bytes: u32,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(secret) = self.identities.unwrap(&key.wrapped) else { return Ok(None) };
        let wrapped = recipients::wrap(self.recipients, &secret)
            .map_err(|reason| ArchiveError::Sealing { reason })?;
        let new = KeySlot { state: SlotState::Rewrapped, wrapped, ..key.clone() };
        let mut bytes = new.encode(slot_bytes).ok_or_else(|| ArchiveError::Sealing {
            reason: format!("the recipients' keys do not fit the key slots of {segment}"),
        })?;
        if let Some((body, _)) = signed_parts(&bytes) {
            let parts = parts_of(&self.archive, segment, number);
            let [archive, place] = &parts;
            let signature = self.signing.sign(CONTEXT, &[archive, place, &body]);
            set_signature(&mut bytes, &signature);
        }
        Ok(Some(bytes))
    }
}

fn parts_of(archive: &[u8; 16], segment: SegmentId, number: u32) -> [Vec<u8>; 2] {
    let place = [&segment.0.to_le_bytes()[..], &number.to_le_bytes()].concat();
    [archive.to_vec(), place]
}

/// True for a slot that was wrapped anew and that `key` signed for this place.
pub(super) fn is_signed(
    slot: &[u8],
    archive: [u8; 16],
    segment: SegmentId,
    number: u32,
    key: &VerifyingKey,
) -> bool {
    let [archive, place] = parts_of(&archive, segment, number);
    signed_parts(slot).is_some_and(|(body, signature)| {
        key.verify(CONTEXT, &[&archive, &place, &body], &signature)
    })
}
