//! Rebuilds fragmented IP datagrams.
//!
//! Purpose: a SIP message larger than the network's packets comes in parts, in any order.
//! Invariants: at most `FRAGMENTED_DATAGRAMS_MAX` datagrams and `FRAGMENT_BYTES_MAX` of buffers; the
//! cost of a fragment is linear in its own length; a datagram whose copies of a byte disagree is
//! dropped whole, with what still comes of it; every frame held is either merged or counted dropped.
//! Non-goals: guessing which copy the receiver believed.
//! Sources: RFC 791 §3.2, RFC 815, RFC 8200 §4.5, RFC 5722 (overlaps), RFC 1858 (attacks).
//!
//! Offsets are multiples of 8 bytes, so a bit for each 8-byte block says what has come. Only the last
//! block of a datagram may be shorter, and only last fragments reach it, all with the same end.

use super::aged_map::AgedMap;
use super::ip::{Part, PartEnd, Version};
use crate::base::PacketTime;
use crate::base::limits::{
    DATAGRAM_BYTES_MAX, FRAGMENT_BYTES_MAX, FRAGMENT_TIMEOUT_MS, FRAGMENTED_DATAGRAMS_MAX,
};

/// What tells datagrams apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DatagramKey {
    pub(super) source: [u8; 16],
    pub(super) destination: [u8; 16],
    pub(super) version: Version,
    pub(super) identification: u32,
    /// IPv4's protocol; 0 for IPv6, which does not count it in.
    pub(super) protocol: u8,
}

/// One fragment that passed `ip::packet`: not empty, not beyond the largest datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) part: Part,
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
}

/// What a fragment led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Its datagram still lacks something.
    Held,
    /// The datagram is whole: [`Fragments::whole`], whose first header has this protocol number.
    Whole { protocol: u8 },
    /// Given up at once.
    Dropped,
}

/// Bytes of a block.
const BLOCK_LEN_BYTES: usize = 8;
/// Blocks of the largest datagram, 64 to a word.
const WORDS: usize = DATAGRAM_BYTES_MAX.div_ceil(BLOCK_LEN_BYTES * 64);
/// Buffers grow to powers of two from here.
const BUFFER_LEN_BYTES_MIN: usize = 2_048;

#[derive(Debug)]
struct Partial {
    started: PacketTime,
    /// `None`: overlaps disagreed; the rest is refused until the timeout.
    buffer: Option<Vec<u8>>,
    blocks: [u64; WORDS],
    blocks_seen: usize,
    /// End of the fragment that reaches farthest.
    end_bytes: usize,
    /// Set by a last fragment.
    total_bytes: Option<usize>,
    /// Set by the first fragment: protocol of what follows.
    protocol: u8,
    frames: u64,
}

/// The datagrams of one ring that are being rebuilt.
#[derive(Debug)]
pub(super) struct Fragments {
    partials: AgedMap<DatagramKey, Partial>,
    /// Buffers to use again. They count as allocated, not as held.
    spare: Vec<Vec<u8>>,
    whole: Vec<u8>,
    whole_len_bytes: usize,
    allocated_bytes: usize,
    held_bytes: usize,
    dropped_frames: u64,
}

impl Fragments {
    pub(super) fn new() -> Self {
        Self {
            partials: AgedMap::new(FRAGMENTED_DATAGRAMS_MAX),
            spare: Vec::new(),
            whole: Vec::new(),
            whole_len_bytes: 0,
            allocated_bytes: 0,
            held_bytes: 0,
            dropped_frames: 0,
        }
    }

    /// Takes one fragment.
    pub(super) fn add(
        &mut self,
        key: DatagramKey,
        fragment: Fragment<'_>,
        now: PacketTime,
    ) -> Added {
        self.expire(now);
        let end_bytes = fragment.part.offset_bytes.saturating_add(fragment.payload.len());
        if !self.partials.contains(&key) {
            self.open(key, end_bytes, now);
        }
        if !self.make_room(&key, end_bytes) {
            return Added::Dropped;
        }
        let Some(partial) = self.partials.get_mut(&key) else { return Added::Dropped };
        if partial.merge(fragment, end_bytes).is_none() {
            self.poison(&key);
            return Added::Dropped;
        }
        let (complete, protocol) = (partial.complete(), partial.protocol);
        let Some(total_bytes) = complete else { return Added::Held };
        if let Some(done) = self.partials.remove(&key) {
            let buffer = done.buffer.unwrap_or_default();
            self.held_bytes = self.held_bytes.saturating_sub(buffer.len());
            let former = std::mem::replace(&mut self.whole, buffer);
            self.spare.push(former);
            self.whole_len_bytes = total_bytes;
        }
        Added::Whole { protocol }
    }

    /// The datagram that the last `add` completed.
    pub(super) fn whole(&self) -> &[u8] {
        self.whole.get(..self.whole_len_bytes).unwrap_or(&[])
    }

    /// Gives up datagrams that are too old.
    pub(super) fn expire(&mut self, now: PacketTime) {
        while let Some((_, partial)) = self.partials.oldest() {
            if now.ms_since(partial.started) < FRAGMENT_TIMEOUT_MS {
                break;
            }
            self.drop_oldest();
        }
    }

    /// Frames held before that were given up since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_frames)
    }

    /// Bytes of buffers of unfinished datagrams.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn open(&mut self, key: DatagramKey, end_bytes: usize, now: PacketTime) {
        let full = self.partials.len() >= FRAGMENTED_DATAGRAMS_MAX;
        let growth = buffer_len_bytes(end_bytes);
        let filled = self.allocated_bytes.saturating_add(growth) > FRAGMENT_BYTES_MAX;
        // Under a flood the oldest datagram's buffer serves the newest, without zeroing it again.
        if full || (self.spare.is_empty() && filled) {
            self.drop_oldest();
        }
        let buffer = self.spare.pop().unwrap_or_default();
        self.held_bytes = self.held_bytes.saturating_add(buffer.len());
        let partial = Partial {
            started: now,
            buffer: Some(buffer),
            blocks: [0; WORDS],
            blocks_seen: 0,
            end_bytes: 0,
            total_bytes: None,
            protocol: 0,
            frames: 0,
        };
        self.partials.insert(key, partial);
    }

    /// Makes the buffer of `key` reach `end_bytes`. False when the datagram is refused, or was
    /// itself the oldest and had to go.
    fn make_room(&mut self, key: &DatagramKey, end_bytes: usize) -> bool {
        let len_bytes = match self.partials.get(key) {
            Some(Partial { buffer: Some(buffer), .. }) => buffer.len(),
            _ => return false,
        };
        if end_bytes <= len_bytes {
            return true;
        }
        let growth = buffer_len_bytes(end_bytes).saturating_sub(len_bytes);
        while self.allocated_bytes.saturating_add(growth) > FRAGMENT_BYTES_MAX {
            if let Some(buffer) = self.spare.pop() {
                self.allocated_bytes = self.allocated_bytes.saturating_sub(buffer.len());
            } else {
                self.drop_oldest();
                if !self.partials.contains(key) {
                    return false;
                }
            }
        }
        let Some(Partial { buffer: Some(buffer), .. }) = self.partials.get_mut(key) else {
            return false;
        };
        buffer.reserve_exact(growth);
        buffer.resize(len_bytes.saturating_add(growth), 0);
        self.allocated_bytes = self.allocated_bytes.saturating_add(growth);
        self.held_bytes = self.held_bytes.saturating_add(growth);
        true
    }

    fn drop_oldest(&mut self) {
        if let Some((_, partial)) = self.partials.pop_oldest() {
            self.dropped_frames = self.dropped_frames.saturating_add(partial.frames);
            self.recycle(partial.buffer);
        }
    }

    /// Drops what a datagram holds, but remembers to refuse the rest of it (RFC 5722 §3).
    fn poison(&mut self, key: &DatagramKey) {
        if let Some(partial) = self.partials.get_mut(key) {
            let frames = std::mem::take(&mut partial.frames);
            let buffer = partial.buffer.take();
            self.dropped_frames = self.dropped_frames.saturating_add(frames);
            self.recycle(buffer);
        }
    }

    fn recycle(&mut self, buffer: Option<Vec<u8>>) {
        if let Some(buffer) = buffer {
            self.held_bytes = self.held_bytes.saturating_sub(buffer.len());
            self.spare.push(buffer);
        }
    }
}

impl Partial {
    /// Copies what is new; `None` when the fragment contradicts what came before.
    fn merge(&mut self, fragment: Fragment<'_>, end_bytes: usize) -> Option<()> {
        match (fragment.part.end, self.total_bytes) {
            (PartEnd::Last, Some(total)) if total != end_bytes => return None,
            (PartEnd::Last, None) if self.end_bytes > end_bytes => return None,
            (PartEnd::More, Some(total)) if total < end_bytes => return None,
            (PartEnd::Last, None) => self.total_bytes = Some(end_bytes),
            _ => {}
        }
        let buffer = self.buffer.as_mut()?;
        let mut start = fragment.part.offset_bytes;
        for bytes in fragment.payload.chunks(BLOCK_LEN_BYTES) {
            let end = start.checked_add(bytes.len())?;
            let kept = buffer.get_mut(start..end)?;
            let block = start / BLOCK_LEN_BYTES;
            let word = self.blocks.get_mut(block / 64)?;
            let bit = 1_u64 << (block % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.blocks_seen = self.blocks_seen.saturating_add(1);
                kept.copy_from_slice(bytes);
            } else if *kept != *bytes {
                return None;
            }
            start = end;
        }
        if fragment.part.offset_bytes == 0 {
            self.protocol = fragment.protocol;
        }
        self.end_bytes = self.end_bytes.max(end_bytes);
        self.frames = self.frames.saturating_add(1);
        Some(())
    }

    /// The datagram's length when nothing lacks.
    fn complete(&self) -> Option<usize> {
        self.total_bytes.filter(|total| self.blocks_seen == total.div_ceil(BLOCK_LEN_BYTES))
    }
}

/// Length of the buffer for a datagram that reaches at least `end_bytes`.
fn buffer_len_bytes(end_bytes: usize) -> usize {
    end_bytes.clamp(BUFFER_LEN_BYTES_MIN, DATAGRAM_BYTES_MAX).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(identification: u32) -> DatagramKey {
        DatagramKey {
            source: [1; 16],
            destination: [2; 16],
            version: Version::V4,
            identification,
            protocol: 17,
        }
    }

    fn add(fragments: &mut Fragments, id: u32, at: usize, end: PartEnd, payload: &[u8]) -> Added {
        let part = Part { offset_bytes: at, end };
        let fragment = Fragment { part, protocol: if at == 0 { 17 } else { 60 }, payload };
        fragments.add(key(id), fragment, PacketTime::from_ms(0))
    }

    #[test]
    fn equal_overlaps_merge_and_the_first_fragment_names_the_protocol() {
        let mut fragments = Fragments::new();
        let bytes: Vec<u8> = (0..37).collect();
        assert_eq!(add(&mut fragments, 1, 24, PartEnd::Last, &bytes[24..]), Added::Held);
        assert_eq!(add(&mut fragments, 1, 8, PartEnd::More, &bytes[8..32]), Added::Held);
        assert_eq!(add(&mut fragments, 1, 8, PartEnd::More, &bytes[8..16]), Added::Held);
        let whole = add(&mut fragments, 1, 0, PartEnd::More, &bytes[..16]);
        assert_eq!(whole, Added::Whole { protocol: 17 });
        assert_eq!(fragments.whole(), bytes);
        assert_eq!(fragments.take_dropped(), 0);
    }

    #[test]
    fn a_datagram_whose_copies_disagree_is_dropped_with_all_that_still_comes() {
        for (at, end, bytes) in [
            (8, PartEnd::More, &[9; 8][..]),
            (24, PartEnd::More, &[0; 8]),
            (16, PartEnd::Last, &[0; 7]),
            (8, PartEnd::Last, &[0; 8]),
        ] {
            let mut fragments = Fragments::new();
            assert_eq!(add(&mut fragments, 1, 0, PartEnd::More, &[0; 16]), Added::Held);
            assert_eq!(
                add(&mut fragments, 1, 16, PartEnd::Last, &[0; 5]),
                Added::Whole { protocol: 17 }
            );
            assert_eq!(add(&mut fragments, 2, 8, PartEnd::More, &[0; 8]), Added::Held);
            assert_eq!(add(&mut fragments, 2, 16, PartEnd::Last, &[0; 5]), Added::Held);
            assert_eq!(add(&mut fragments, 2, at, end, bytes), Added::Dropped, "at {at}");
            assert_eq!(add(&mut fragments, 2, 0, PartEnd::More, &[0; 8]), Added::Dropped);
            assert_eq!((fragments.take_dropped(), fragments.held_bytes()), (2, 0));
        }
    }

    #[test]
    fn a_last_fragment_that_ends_before_what_has_come_is_a_contradiction() {
        let mut fragments = Fragments::new();
        assert_eq!(add(&mut fragments, 1, 0, PartEnd::More, &[0; 16]), Added::Held);
        assert_eq!(add(&mut fragments, 1, 8, PartEnd::Last, &[0; 4]), Added::Dropped);
        assert_eq!(fragments.take_dropped(), 1);
    }

    #[test]
    fn the_oldest_datagram_goes_when_there_are_too_many() {
        let mut fragments = Fragments::new();
        let many = u32::try_from(FRAGMENTED_DATAGRAMS_MAX).expect("few");
        for id in 0..=many {
            assert_eq!(add(&mut fragments, id, 8, PartEnd::Last, b"tail"), Added::Held);
        }
        assert_eq!(fragments.take_dropped(), 1);
        assert_eq!(
            add(&mut fragments, 1, 0, PartEnd::More, b"headhead"),
            Added::Whole { protocol: 17 }
        );
        assert_eq!(fragments.whole(), b"headheadtail");
        assert_eq!(add(&mut fragments, 0, 0, PartEnd::More, b"headhead"), Added::Held);
    }

    #[test]
    fn buffers_are_bounded_however_far_the_fragments_reach() {
        let mut fragments = Fragments::new();
        let (mut held, mut dropped) = (0, 0);
        for id in 0..1_000 {
            assert_eq!(add(&mut fragments, id, 65_504, PartEnd::Last, &[1]), Added::Held);
            held += 1;
            assert!(fragments.allocated_bytes <= FRAGMENT_BYTES_MAX);
            dropped += fragments.take_dropped();
        }
        let kept = u64::try_from(FRAGMENT_BYTES_MAX / 65_536).expect("few");
        assert_eq!((held, dropped), (1_000, 1_000 - kept));
        // A datagram that is itself the oldest may have to go for its own growth.
        for id in 2_000..2_500 {
            add(&mut fragments, id, 8, PartEnd::More, &[1; 8]);
        }
        for id in 2_000..2_500 {
            add(&mut fragments, id, 65_504, PartEnd::Last, &[1]);
            assert!(fragments.allocated_bytes <= FRAGMENT_BYTES_MAX);
        }
        fragments.expire(PacketTime::MAX);
        assert_eq!(fragments.held_bytes(), 0);
    }

    #[test]
    fn a_completed_buffer_is_used_again_and_its_old_bytes_never_show() {
        let mut fragments = Fragments::new();
        for fill in 1..4_u8 {
            let id = u32::from(fill);
            assert_eq!(add(&mut fragments, id, 16, PartEnd::Last, &[fill; 3]), Added::Held);
            assert_eq!(add(&mut fragments, id, 0, PartEnd::More, &[fill; 8]), Added::Held);
            let whole = add(&mut fragments, id, 8, PartEnd::More, &[fill; 8]);
            assert_eq!(
                (whole, fragments.whole()),
                (Added::Whole { protocol: 17 }, &[fill; 19][..])
            );
        }
        assert_eq!(fragments.allocated_bytes, 2 * BUFFER_LEN_BYTES_MIN);
    }
}
