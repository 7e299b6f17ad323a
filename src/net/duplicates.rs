//! Finds frames that the mirror copied twice.
//!
//! Purpose: a switch that mirrors both ports of a conversation shows each frame twice, a moment
//! apart, perhaps with another VLAN tag or a lower TTL; that must not look like network behaviour.
//! Invariants: exact for the last `DUPLICATE_SLOTS` different frames, so the hash seed never shows
//! in the result (a 64-bit collision aside); O(1), and nothing is allocated after `new`.
//! Non-goals: retransmissions (they come later than the window) and RTP duplicates in the network.
//! Sources: RFC 791 §3.1, RFC 8200 §3 (which fields a hop may change).
//!
//! A direct-mapped table would forget a frame whenever another falls on its slot, and which ones do
//! would follow the seed: the same file would count differently each time. So the frames stand in a
//! ring in order of arrival, and chains through it, as in LZ77 matchers, lead to equal hashes:
//!
//! ```text
//! heads[hash % n] ─► position 812 ─► before: 640 ─► before: 77 (< oldest: end of the chain)
//! ring[position % n] = fingerprint, time, before
//! ```

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::ip::{IpPacket, PROTOCOL_TCP, PROTOCOL_UDP, PartEnd};
use crate::base::PacketTime;
use crate::base::limits::{DUPLICATE_SLOTS, DUPLICATE_STEPS_MAX, DUPLICATE_WINDOW_MS};
use crate::base::time::NS_PER_MS;

/// Whether a frame's content was there a moment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Not within `DUPLICATE_WINDOW_MS`.
    First,
    /// The same content came within `DUPLICATE_WINDOW_MS`.
    Repeated,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: u64,
    time: PacketTime,
    before: u64,
}

/// The recent frames of one ring.
#[derive(Debug)]
pub(super) struct DuplicateWindow {
    hasher: RandomState,
    /// Position of the newest frame of each bucket; positions count from 1, so 0 is older than all.
    heads: Box<[u64]>,
    ring: Box<[Seen]>,
    next: u64,
    oldest: u64,
}

impl DuplicateWindow {
    /// Allocates the window: about 2 MiB.
    pub(super) fn new() -> Self {
        let never = Seen { fingerprint: 0, time: PacketTime::MIN, before: 0 };
        Self {
            hasher: RandomState::default(),
            heads: vec![0; DUPLICATE_SLOTS].into_boxed_slice(),
            ring: vec![never; DUPLICATE_SLOTS].into_boxed_slice(),
            next: 1,
            oldest: 1,
        }
    }

    /// Has this packet's content been here within the window before `now`?
    pub(super) fn sight(&mut self, packet: &IpPacket<'_>, now: PacketTime) -> Sighting {
        let fingerprint = self.fingerprint(packet);
        self.sight_fingerprint(fingerprint, now)
    }

    /// What every copy of a packet has in common: no link layer, TTL, header checksum, DSCP or ECN;
    /// nor the transport checksum, which a sender's own copy lacks when its card computes it.
    fn fingerprint(&self, packet: &IpPacket<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&packet.source);
        hasher.write(&packet.destination);
        hasher.write_u32(packet.identification);
        hasher.write_u8(packet.protocol);
        hasher.write_usize(packet.payload.len().saturating_add(packet.missing_bytes));
        let offset_bytes = match packet.part {
            None => 0,
            Some(part) => {
                hasher.write_u8(if part.end == PartEnd::More { 1 } else { 2 });
                hasher.write_usize(part.offset_bytes);
                part.offset_bytes
            }
        };
        let checksum_at = match packet.protocol {
            PROTOCOL_UDP if offset_bytes == 0 => 6,
            PROTOCOL_TCP if offset_bytes == 0 => 16,
            _ => usize::MAX,
        };
        match packet.payload.split_at_checked(checksum_at) {
            Some((before, after)) => {
                hasher.write(before);
                hasher.write(after.get(2..).unwrap_or(&[]));
            }
            None => hasher.write(packet.payload),
        }
        hasher.finish()
    }

    fn sight_fingerprint(&mut self, fingerprint: u64, now: PacketTime) -> Sighting {
        self.forget(now);
        let bucket = slot(fingerprint);
        let newest = self.heads.get(bucket).copied().unwrap_or(0);
        let mut position = newest;
        for _ in 0..DUPLICATE_STEPS_MAX {
            if position < self.oldest {
                break;
            }
            let Some(seen) = self.ring.get(slot(position)) else { break };
            if seen.fingerprint == fingerprint {
                return Sighting::Repeated;
            }
            position = seen.before;
        }
        if let (Some(head), Some(seen)) =
            (self.heads.get_mut(bucket), self.ring.get_mut(slot(self.next)))
        {
            *seen = Seen { fingerprint, time: now, before: newest };
            *head = self.next;
            self.next = self.next.saturating_add(1);
        }
        Sighting::First
    }

    /// Moves `oldest` past what is older than the window, and past what the next frame overwrites.
    fn forget(&mut self, now: PacketTime) {
        let overwritten = self.next.saturating_sub(SLOTS);
        while self.oldest < self.next {
            let Some(seen) = self.ring.get(slot(self.oldest)) else { break };
            let recent = now.ns_since(seen.time) <= DUPLICATE_WINDOW_MS.saturating_mul(NS_PER_MS);
            if recent && self.oldest > overwritten {
                break;
            }
            self.oldest = self.oldest.saturating_add(1);
        }
    }
}

/// `DUPLICATE_SLOTS` (a power of two) as a distance between positions.
const SLOTS: u64 = 1 << DUPLICATE_SLOTS.trailing_zeros();

/// Where a position or a hash stands in a table of `DUPLICATE_SLOTS`.
fn slot(number: u64) -> usize {
    usize::try_from(number % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_us(us: i64) -> PacketTime {
        PacketTime::from_ns(us * 1_000)
    }

    #[test]
    fn content_repeats_only_within_the_window() {
        let mut window = DuplicateWindow::new();
        let end_us = DUPLICATE_WINDOW_MS * 1_000;
        assert_eq!(window.sight_fingerprint(7, at_us(0)), Sighting::First);
        assert_eq!(window.sight_fingerprint(8, at_us(0)), Sighting::First);
        assert_eq!(window.sight_fingerprint(7, at_us(0)), Sighting::Repeated);
        assert_eq!(window.sight_fingerprint(7, at_us(end_us)), Sighting::Repeated);
        assert_eq!(window.sight_fingerprint(7, at_us(end_us + 1)), Sighting::First);
        assert_eq!(window.sight_fingerprint(7, at_us(end_us + 2)), Sighting::Repeated);
    }

    #[test]
    fn frames_on_one_bucket_do_not_hide_each_other() {
        let mut window = DuplicateWindow::new();
        for turn in 0..8 {
            assert_eq!(window.sight_fingerprint(5 + turn * SLOTS, at_us(1)), Sighting::First);
        }
        for turn in 0..8 {
            assert_eq!(window.sight_fingerprint(5 + turn * SLOTS, at_us(2)), Sighting::Repeated);
        }
    }

    #[test]
    fn the_window_is_exact_for_as_many_frames_as_it_has_slots() {
        let mut window = DuplicateWindow::new();
        for number in 1..=SLOTS {
            assert_eq!(window.sight_fingerprint(number, at_us(0)), Sighting::First);
        }
        assert_eq!(window.sight_fingerprint(2, at_us(0)), Sighting::Repeated);
        assert_eq!(window.sight_fingerprint(SLOTS + 1, at_us(0)), Sighting::First);
        assert_eq!(window.sight_fingerprint(SLOTS, at_us(0)), Sighting::Repeated);
        assert_eq!(window.sight_fingerprint(1, at_us(0)), Sighting::First, "overwritten");
    }
}
