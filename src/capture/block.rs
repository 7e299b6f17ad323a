//! One block of a TPACKET_V3 ring, as the kernel filled it.
//!
//! Purpose: walk the frames of a block without trusting an offset in it.
//! Invariants: every step goes forward, so a walk ends; only bytes of the block are handed out.
//! Non-goals: who owns the block (see `ring`). A VLAN tag that the kernel took out of the frame is
//! not put back: without it the frame is a plain Ethernet frame, and the same call's packets look
//! the same with and without their tag.
//! Sources: the kernel's include/uapi/linux/if_packet.h and Documentation/networking/packet_mmap.rst.
//!
//! ```text
//! block: version u32, private offset u32, status u32, frames u32, first frame's offset u32, …
//! frame:  0 next frame's offset u32   8 nanoseconds u32        16 length on the wire u32   24 frame's
//!         4 seconds u32              12 captured length u32    20 status u32                  start u16
//! ```

use crate::base::time::NS_PER_S;
use crate::base::{PacketTime, Reader};

/// A frame of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockFrame<'a> {
    /// By the kernel's clock, ns.
    pub(super) time: PacketTime,
    /// On the wire.
    pub(super) wire_len_bytes: u32,
    /// From the link-layer header on.
    pub(super) bytes: &'a [u8],
}

/// The frames of one block.
pub(super) struct BlockFrames<'a> {
    block: &'a [u8],
    /// Where the next frame's header begins.
    at: usize,
    left: u32,
}

impl<'a> BlockFrames<'a> {
    /// `block` is a whole block that the kernel has handed over; `None` when it is too short to be.
    pub(super) fn new(block: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(block);
        reader.take(12)?;
        let left = reader.array().map(u32::from_ne_bytes)?;
        let first = reader.array().map(u32::from_ne_bytes)?;
        Some(Self { block, at: usize::try_from(first).ok()?, left })
    }

    /// Frames that the kernel counted and that were not walked yet: 0 after a walk to the end,
    /// unless the block contradicts itself.
    pub(super) const fn left(&self) -> u32 {
        self.left
    }
}

impl<'a> Iterator for BlockFrames<'a> {
    type Item = BlockFrame<'a>;

    fn next(&mut self) -> Option<BlockFrame<'a>> {
        let left = self.left.checked_sub(1)?;
        let frame = self.block.get(self.at..)?;
        let mut reader = Reader::new(frame);
        let next = reader.array().map(u32::from_ne_bytes)?;
        let seconds = reader.array().map(u32::from_ne_bytes)?;
        let nanoseconds = reader.array().map(u32::from_ne_bytes)?;
        let captured = reader.array().map(u32::from_ne_bytes)?;
        let wire_len_bytes = reader.array().map(u32::from_ne_bytes)?;
        reader.take(4)?;
        let start = reader.array().map(u16::from_ne_bytes)?;
        let len_bytes = usize::try_from(captured).ok()?;
        let bytes = frame.get(usize::from(start)..)?.get(..len_bytes)?;
        // The last frame's offset is 0; nothing is read there, because none is left.
        let step = usize::try_from(next).ok()?;
        if left > 0 && step == 0 {
            return None;
        }
        self.at = self.at.checked_add(step)?;
        self.left = left;
        let ns = i64::from(seconds).saturating_mul(NS_PER_S).saturating_add(i64::from(nanoseconds));
        let wire_len_bytes = wire_len_bytes.max(captured);
        Some(BlockFrame { time: PacketTime::from_ns(ns), wire_len_bytes, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block as the kernel lays it out: 48 bytes of head, each frame 64 bytes behind its header.
    fn block(frames: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; 48];
        out[12..16].copy_from_slice(&u32::try_from(frames.len()).expect("few").to_ne_bytes());
        out[16..20].copy_from_slice(&48_u32.to_ne_bytes());
        for (place, (seconds, nanoseconds, bytes)) in frames.iter().enumerate() {
            let whole = (64 + bytes.len()).next_multiple_of(16);
            let next = if place + 1 == frames.len() { 0 } else { whole };
            let len = u32::try_from(bytes.len()).expect("short");
            let at = out.len();
            out.resize(at + whole, 0);
            let fields =
                [u32::try_from(next).expect("short"), *seconds, *nanoseconds, len, len + 4, 0];
            for (field, place) in fields.iter().zip((at..).step_by(4)) {
                out[place..place + 4].copy_from_slice(&field.to_ne_bytes());
            }
            out[at + 24..at + 26].copy_from_slice(&64_u16.to_ne_bytes());
            out[at + 64..at + 64 + bytes.len()].copy_from_slice(bytes);
        }
        out
    }

    #[test]
    fn all_frames_of_a_block_are_walked_in_order() {
        let bytes = block(&[(1, 5, b"one"), (2, 0, b"second frame, longer"), (3, 9, b"")]);
        let mut frames = BlockFrames::new(&bytes).expect("a block");
        let walked: Vec<_> = frames.by_ref().collect();
        assert_eq!(walked.len(), 3);
        assert_eq!(walked[0].time, PacketTime::from_ns(1_000_000_005));
        assert_eq!((walked[1].bytes, walked[1].wire_len_bytes), (&b"second frame, longer"[..], 24));
        assert_eq!(frames.left(), 0);
    }

    #[test]
    fn offsets_and_lengths_beyond_the_block_end_the_walk_and_leave_a_count() {
        let whole = block(&[(1, 5, b"one"), (2, 0, b"two")]);
        for (at, value) in [(16, u32::MAX), (48, u32::MAX), (48, 0), (48 + 12, 1 << 20), (12, 5)] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            let mut frames = BlockFrames::new(&bytes).expect("a block");
            assert!(frames.by_ref().count() <= 2);
            assert!(frames.left() > 0, "field at {at}");
        }
        for cut in 0..whole.len() {
            if let Some(frames) = BlockFrames::new(&whole[..cut]) {
                assert!(frames.count() <= 2);
            }
        }
    }
}
