//! Wrapping the keys of old calls for the recipients of today.
//!
//! Purpose: let a new recipient open old calls, and an old one no more, without touching a record.
//! Invariants: only somebody who can open a key can have it wrapped anew; a segment's key file is
//! replaced whole, and the old one is overwritten; the new one lists the hashes of its slots, and a
//! tombstone binds them before it takes its place, since the segment's checkpoint cannot know them.
//! Non-goals: taking a key from somebody who has seen it already.
//! Sources: docs/archive.md, "Rewrap".

use std::io::{self, IoSlice};

use super::SEGMENTS_DIR;
use super::disk::{Disk, open_if_there, read_vec};
use super::error::ArchiveError;
use super::footer;
use super::merkle::{Hash, root, sha256};
use super::open_segment::full_or_io;
use super::recipients::{self, ArchiveRecipient, Identities};
use super::segment::SegmentId;
use super::sidecar::{
    KeySlot, Purpose, SIDECAR_HEADER_BYTES, SidecarHeader, SlotBytes, decode_slot,
};

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

/// For whom.
pub(super) struct Rewrap<'r> {
    pub archive: [u8; 16],
    pub identities: &'r Identities,
    pub recipients: &'r [ArchiveRecipient],
}

impl Rewrap<'_> {
    /// Steps 1 and 2 of "Rewrap": the audio keys of one segment, wrapped anew, in a file that is durable
    /// under another name. Returns the root over its slots; `None` where no key opened.
    ///
    /// # Errors
    /// `Sealing` (the new recipients do not fit a slot), `BadKeySlot`, `Full`, `Io`.
    pub fn stage<D: Disk>(
        &self,
        disk: &mut D,
        segment: SegmentId,
        total: &mut Rewrapped,
    ) -> Result<Option<Hash>, ArchiveError> {
        let name = segment.keys_name();
        let io = |error: io::Error| ArchiveError::io("rewrap", &name, error);
        let Some((header, mut bytes)) = read_keys(disk, &name, self.archive, segment)? else {
            return Ok(None);
        };
        // Step 1: every slot that opens, in memory.
        let slots = header.slots_in(bytes.len() as u64);
        let end = header.slot_offset(u32::try_from(slots).unwrap_or(u32::MAX));
        bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        let (mut changed, mut hashes) = (0, Vec::new());
        let (head, slots) = bytes.split_at_mut(SIDECAR_HEADER_BYTES);
        for slot in slots.chunks_exact_mut(header.slot_bytes as usize) {
            if let SlotBytes::Key(key) = decode_slot(slot) {
                if key.purpose == Purpose::Audio {
                    match self.slot(&key, segment, header.slot_bytes)? {
                        Some(new) => {
                            slot.copy_from_slice(&new);
                            changed += 1;
                        }
                        None => total.unopened += 1,
                    }
                }
            }
            hashes.push(sha256(&[slot]));
        }
        if changed == 0 {
            return Ok(None);
        }
        let listed = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        head.copy_from_slice(&SidecarHeader { listed, ..header }.encode());
        for hash in &hashes {
            bytes.extend_from_slice(hash.as_bytes());
        }
        // Step 2: a new file, durable.
        let new_name = new_keys_name(segment);
        let len_bytes = bytes.len() as u64;
        let file = disk
            .create_preallocated(&new_name, 0)
            .map_err(|error| full_or_io(disk, "create", &new_name, len_bytes, error))?;
        disk.write_at(&file, 0, &[IoSlice::new(&bytes)])
            .map_err(|error| full_or_io(disk, "write", &new_name, len_bytes, error))?;
        disk.sync_data(&file).map_err(io)?;
        disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
        total.keys += changed;
        total.segments += 1;
        Ok(Some(root(&hashes)))
    }

    /// The bytes of a slot for the recipients of today; `None` when the identity does not open it.
    fn slot(
        &self,
        key: &KeySlot,
        segment: SegmentId,
        slot_bytes: u32,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(secret) = self.identities.unwrap(&key.wrapped) else { return Ok(None) };
        let wrapped = recipients::wrap(self.recipients, &secret)
            .map_err(|reason| ArchiveError::Sealing { reason })?;
        let bytes = KeySlot { wrapped, ..key.clone() }.encode(slot_bytes);
        let bytes = bytes.ok_or_else(|| ArchiveError::Sealing {
            reason: format!("the recipients' keys do not fit the key slots of {segment}"),
        })?;
        Ok(Some(bytes))
    }
}

/// Steps 4 and 5 of "Rewrap": the file that was announced takes the place of the old one, whose wraps
/// are overwritten.
pub(super) fn take_place<D: Disk>(disk: &mut D, segment: SegmentId) -> Result<(), ArchiveError> {
    let name = segment.keys_name();
    let io = |error: io::Error| ArchiveError::io("rewrap", &name, error);
    let old = disk.open_write(&name).map_err(io)?;
    // Step 4: its name.
    disk.rename(&new_keys_name(segment), &name).map_err(io)?;
    disk.sync_dir(SEGMENTS_DIR).map_err(io)?;
    // Step 5: the old wraps, where the file system overwrites in place.
    overwrite(disk, &old).map_err(io)
}

/// Overwrites a file with zeros, durably.
pub(super) fn overwrite<D: Disk>(disk: &mut D, file: &D::File) -> io::Result<()> {
    let len = usize::try_from(disk.len_bytes(file)?).unwrap_or(0);
    disk.write_at(file, 0, &[IoSlice::new(&vec![0; len])])?;
    disk.sync_data(file)
}

/// The hashes that a file of wrapped keys lists of its slots, and the root over them; `None` where the
/// file is none of this segment, or lists nothing.
pub(super) fn listed<D: Disk>(
    disk: &D,
    name: &str,
    archive: [u8; 16],
    segment: SegmentId,
) -> Option<(Vec<Hash>, Hash)> {
    let (header, bytes) = read_keys(disk, name, archive, segment).ok()??;
    let list = bytes.get(usize::try_from(header.slot_offset(header.listed)).ok()?..)?;
    let hashes: Vec<Hash> = footer::hashes(list).collect();
    let is_whole = header.listed > 0 && list.len() == header.listed as usize * 32;
    let root = root(&hashes);
    is_whole.then_some((hashes, root))
}

/// A key file, whole; `None` where there is none.
fn read_keys<D: Disk>(
    disk: &D,
    name: &str,
    archive: [u8; 16],
    segment: SegmentId,
) -> Result<Option<(SidecarHeader, Vec<u8>)>, ArchiveError> {
    let io = |error: io::Error| ArchiveError::io("read", name, error);
    let Some(file) = open_if_there(disk, name).map_err(io)? else { return Ok(None) };
    let len = usize::try_from(disk.len_bytes(&file).map_err(io)?).unwrap_or(usize::MAX);
    let bytes = read_vec(disk, &file, 0, len).map_err(io)?;
    let header = SidecarHeader::decode(&bytes, archive, segment);
    Ok(Some((header.ok_or(ArchiveError::BadKeySlot { segment, slot: 0 })?, bytes)))
}
