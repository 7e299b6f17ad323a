//! The bytes of a segment's `.keys` file: slots of wrapped keys.
//!
//! Purpose: keep the keys of a segment's calls apart from what they seal, so that a call can be
//! erased by destroying a few hundred bytes.
//! Invariants: slots have one length in a file and are only ever added or zeroed; keys that are wrapped
//! anew come in a new file, which lists the hashes of its slots; a slot decodes only if its CRC is
//! right; a zeroed slot is all zeros.
//! Non-goals: what is in a wrapped key (see `secret` and `recipients`), and files (see `open_segment`).
//! Sources: docs/archive.md, "Bytes of a key file".
//!
//! ```text
//! header  64 bytes          slot  slot_bytes, the first at 64
//!  0  `CALLKEYS`             0  u64  call id
//!  8  u16  version 2         8  u64  epoch
//! 10  u16  zero             16  u8   purpose: 1 metadata, 2 audio
//! 12  u32  slot_bytes       17  u8   zero
//! 16  archive id            18  u16  wrapped length w
//! 32  u64  segment          20  u32  CRC-32C of the whole slot, this field as zero
//! 40  u32  listed n         24  [w]  wrapped key, then zeros
//! 44  zeros                 n > 0: n slots, and behind them n × 32 bytes: SHA-256 of each, as it
//! 60  u32  CRC-32C          was wrapped anew
//! ```

use super::segment::{SegmentId, crc32c};
use crate::base::limits::KEY_SLOT_BYTES_MAX;
use crate::base::{CallId, Reader};

/// Bytes before the first slot.
pub const SIDECAR_HEADER_BYTES: usize = 64;
/// Bytes of a slot before the wrapped key.
const SLOT_HEADER_BYTES: usize = 24;
/// Lengths that a slot may have: the first that fits is taken.
const SLOT_SIZES: [usize; 3] = [1_024, 4_096, KEY_SLOT_BYTES_MAX];

const MAGIC: [u8; 8] = *b"CALLKEYS";
const VERSION: u16 = 2;

/// What a key seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// SIP, parties, figures: the box opens it.
    Metadata = 1,
    /// Sound, encoded or as RTP: a recipient opens it.
    Audio = 2,
}

/// A wrapped key and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// The call.
    pub call: CallId,
    /// The random name of the epoch.
    pub epoch: u64,
    /// What the key seals.
    pub purpose: Purpose,
    /// The key, wrapped for the box or as an age file.
    pub wrapped: Vec<u8>,
}

/// What a slot's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotBytes {
    /// A key.
    Key(KeySlot),
    /// Zeros: erased, or never used.
    Empty,
    /// Neither.
    Damaged,
}

/// The first 64 bytes of a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidecarHeader {
    /// The archive's random id.
    pub archive: [u8; 16],
    /// The segment whose keys these are.
    pub segment: SegmentId,
    /// Bytes of each slot.
    pub slot_bytes: u32,
    /// How many slots a file that was wrapped anew has; 0 in the first one of a segment.
    pub listed: u32,
}

impl SidecarHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SIDECAR_HEADER_BYTES] {
        let mut out = [0; SIDECAR_HEADER_BYTES];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.slot_bytes.to_le_bytes());
        out[16..32].copy_from_slice(&self.archive);
        out[32..40].copy_from_slice(&self.segment.0.to_le_bytes());
        out[40..44].copy_from_slice(&self.listed.to_le_bytes());
        let crc = crc32c(&[&out[..60]]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` where it is none of this archive and segment.
    #[must_use]
    pub fn decode(bytes: &[u8], archive: [u8; 16], segment: SegmentId) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<SIDECAR_HEADER_BYTES>()?;
        let mut reader = Reader::new(bytes);
        reader.take(12)?;
        let slot_bytes = reader.u32_le()?;
        reader.take(24)?;
        let header = Self { archive, segment, slot_bytes, listed: reader.u32_le()? };
        let known = SLOT_SIZES.contains(&(header.slot_bytes as usize));
        (known && header.encode() == *bytes).then_some(header)
    }

    /// Where slot `number` begins.
    #[must_use]
    pub fn slot_offset(&self, number: u32) -> u64 {
        SIDECAR_HEADER_BYTES as u64 + u64::from(number) * u64::from(self.slot_bytes)
    }

    /// How many whole slots a file of `len_bytes` has.
    #[must_use]
    pub fn slots_in(&self, len_bytes: u64) -> u64 {
        if self.listed > 0 {
            return u64::from(self.listed);
        }
        len_bytes.saturating_sub(SIDECAR_HEADER_BYTES as u64) / u64::from(self.slot_bytes)
    }
}

/// Bytes of a slot that holds a wrapped key of `wrapped_len` bytes with room for one recipient more;
/// `None` when no slot is large enough.
#[must_use]
pub fn slot_size(wrapped_len: usize) -> Option<u32> {
    let needed = wrapped_len + wrapped_len / 4 + SLOT_HEADER_BYTES;
    let size = SLOT_SIZES.into_iter().find(|size| needed <= *size)?;
    u32::try_from(size).ok()
}

impl KeySlot {
    /// The slot's bytes; `None` when it does not fit.
    #[must_use]
    pub fn encode(&self, slot_bytes: u32) -> Option<Vec<u8>> {
        let mut out = vec![0; slot_bytes as usize];
        let end = SLOT_HEADER_BYTES.checked_add(self.wrapped.len())?;
        out.get_mut(SLOT_HEADER_BYTES..end)?.copy_from_slice(&self.wrapped);
        out[0..8].copy_from_slice(&self.call.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16] = self.purpose as u8;
        out[18..20].copy_from_slice(&u16::try_from(self.wrapped.len()).ok()?.to_le_bytes());
        set_crc(&mut out);
        Some(out)
    }
}

fn set_crc(slot: &mut [u8]) {
    if let Some(place) = slot.get_mut(20..24) {
        place.fill(0);
    }
    let crc = crc32c(&[slot]).to_le_bytes();
    if let Some(place) = slot.get_mut(20..24) {
        place.copy_from_slice(&crc);
    }
}

/// Reads a slot.
#[must_use]
pub fn decode_slot(bytes: &[u8]) -> SlotBytes {
    if bytes.iter().all(|byte| *byte == 0) {
        return SlotBytes::Empty;
    }
    let read = || {
        let mut checked = bytes.to_vec();
        set_crc(&mut checked);
        let mut reader = Reader::new(bytes);
        let call = CallId(reader.u64_le()?);
        let epoch = reader.u64_le()?;
        let purpose = match reader.u8()? {
            1 => Purpose::Metadata,
            2 => Purpose::Audio,
            _ => return None,
        };
        if reader.u8()? != 0 {
            return None;
        }
        let len = reader.u16_le()?;
        reader.take(4)?;
        let wrapped = reader.take(usize::from(len))?.to_vec();
        let slot = KeySlot { call, epoch, purpose, wrapped };
        (checked == bytes).then_some(slot)
    };
    read().map_or(SlotBytes::Damaged, SlotBytes::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> KeySlot {
        let (call, epoch) = (CallId(0x0102), 0x0304);
        KeySlot { call, epoch, purpose: Purpose::Audio, wrapped: b"age".to_vec() }
    }

    #[test]
    fn header_and_slot_have_the_drawn_bytes() {
        let header = SidecarHeader {
            archive: [0xa5; 16],
            segment: SegmentId(9),
            slot_bytes: 1_024,
            listed: 7,
        };
        let bytes = header.encode();
        let drawn = [
            &b"CALLKEYS"[..],
            &[2, 0, 0, 0, 0, 4, 0, 0],
            &[0xa5; 16],
            &[9, 0, 0, 0, 0, 0, 0, 0],
            &[7, 0, 0, 0],
            &[0; 16],
        ]
        .concat();
        assert_eq!(bytes[..60], drawn);
        assert_eq!(SidecarHeader::decode(&bytes, [0xa5; 16], SegmentId(9)), Some(header));
        assert_eq!(SidecarHeader::decode(&bytes, [0xa5; 16], SegmentId(8)), None);
        assert_eq!(SidecarHeader::decode(&bytes, [0xa4; 16], SegmentId(9)), None);
        assert_eq!((header.slot_offset(2), header.slots_in(64 + 2_047)), (2_112, 7));
        let first = SidecarHeader { listed: 0, ..header };
        assert_eq!(first.slots_in(64 + 2_047), 1);
        let slot_bytes = slot().encode(1_024).expect("fits");
        let drawn = [2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0];
        assert_eq!(slot_bytes[..20], drawn);
        assert_eq!(slot_bytes[24..28], *b"age\0");
        assert_eq!(slot_bytes.len(), 1_024);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_slot_is_noticed() {
        let bytes = slot().encode(1_024).expect("fits");
        assert_eq!(decode_slot(&bytes), SlotBytes::Key(slot()));
        assert_eq!(decode_slot(&[0; 1_024]), SlotBytes::Empty);
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            assert_eq!(decode_slot(&flipped), SlotBytes::Damaged, "byte {place}");
            if place > 0 {
                assert_eq!(decode_slot(&bytes[..place]), SlotBytes::Damaged, "cut {place}");
            }
        }
    }

    #[test]
    fn a_slot_has_room_for_another_recipient_and_an_end() {
        assert_eq!(slot_size(300), Some(1_024));
        assert_eq!(slot_size(801), Some(4_096));
        assert_eq!(slot_size(13_000), Some(16_384));
        assert_eq!(slot_size(16_384), None);
        let long = KeySlot { wrapped: vec![1; 1_001], ..slot() };
        assert_eq!(long.encode(1_024), None);
    }
}
