//! TCP directions that are not decided yet.
//!
//! Purpose: a SYN tells where a direction begins, so that its first segments may come out of order or
//! tiny, and still be judged from the first byte.
//! Invariants: at most `TCP_OPENINGS_MAX` of them; `TCP_OPENING_BYTES_MAX` parked in each and
//! `TCP_OPENINGS_PARKED_BYTES_MAX` in all; nothing parked for longer than `TCP_GAP_TIMEOUT_MS`.
//! Non-goals: deciding (see `tcp_streams`).
//! Sources: RFC 9293 §3.4.1 (initial sequence numbers).

use super::aged_map::AgedMap;
use super::tcp_direction::{extend, first_position};
use super::tcp_parked::Parked;
use super::transport::TcpSegment;
use crate::base::limits::{
    TCP_GAP_TIMEOUT_MS, TCP_OPENING_BYTES_MAX, TCP_OPENINGS_MAX, TCP_OPENINGS_PARKED_BYTES_MAX,
    TCP_WINDOW_BYTES_MAX,
};
use crate::base::{FiveTuple, PacketTime};

/// Whether a direction is worth following, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Follow it.
    Wanted,
    /// Keep nothing.
    Unwanted,
    /// Too few bytes to tell; ask again with more (up to `TCP_SNIFF_BYTES_MAX`).
    NeedMore,
}

/// One direction whose SYN was seen, or which began in tiny segments.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub(super) first_seq: u32,
    pub(super) parked: Parked,
    /// Frames counted `NotVoip` for it, without and with payload.
    pub(super) control_frames: u64,
    pub(super) payload_frames: u64,
}

/// Where a segment stands in an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It carries the first byte, and nothing is parked.
    First,
    /// It carries something else of what the SYN announced.
    Later,
    /// Not what the SYN announced: a keep-alive, or another connection whose SYN was lost.
    Elsewhere,
}

/// The undecided directions of one ring.
#[derive(Debug)]
pub(super) struct Openings {
    table: AgedMap<FiveTuple, Opening>,
    /// Those with parked bytes, since when.
    stalled: AgedMap<FiveTuple, PacketTime>,
    parked_bytes: usize,
}

impl Opening {
    pub(super) fn standing(&self, segment: TcpSegment<'_>) -> Standing {
        let first = first_position(self.first_seq);
        match extend(first, segment.seq).checked_sub(first) {
            Some(0) if self.parked.is_empty() => Standing::First,
            Some(ahead) if ahead <= TCP_WINDOW_BYTES_MAX => Standing::Later,
            _ => Standing::Elsewhere,
        }
    }
}

impl Openings {
    pub(super) fn new() -> Self {
        Self {
            table: AgedMap::new(TCP_OPENINGS_MAX),
            stalled: AgedMap::new(TCP_OPENINGS_MAX),
            parked_bytes: 0,
        }
    }

    pub(super) fn get(&self, flow: &FiveTuple) -> Option<&Opening> {
        self.table.get(flow)
    }

    /// For the counters; what is parked changes through [`Self::park`] alone.
    pub(super) fn get_mut(&mut self, flow: &FiveTuple) -> Option<&mut Opening> {
        self.table.get_mut(flow)
    }

    pub(super) fn parked_bytes(&self) -> usize {
        self.parked_bytes
    }

    /// Begins an opening, unless the same has begun already.
    pub(super) fn open(&mut self, flow: FiveTuple, first_seq: u32) {
        if self.table.get(&flow).is_some_and(|opening| opening.first_seq == first_seq) {
            return;
        }
        let opening = Opening { first_seq, ..Opening::default() };
        if let Some((gone, opening)) = self.table.insert(flow, opening) {
            self.stalled.remove(&gone);
            self.parked_bytes = self.parked_bytes.saturating_sub(opening.parked.charge_bytes());
        }
    }

    /// Parks a segment of an opening; when that is too much, an opening goes, perhaps this one.
    pub(super) fn park(&mut self, flow: &FiveTuple, segment: TcpSegment<'_>, now: PacketTime) {
        let Some(opening) = self.table.get_mut(flow) else { return };
        let position = extend(first_position(opening.first_seq), segment.seq);
        let before = opening.parked.charge_bytes();
        opening.parked.insert(position, segment.payload, now);
        let after = opening.parked.charge_bytes();
        self.parked_bytes = self.parked_bytes.saturating_add(after).saturating_sub(before);
        if after > TCP_OPENING_BYTES_MAX {
            self.remove(flow);
        } else if !self.stalled.contains(flow) {
            self.stalled.insert(*flow, now);
        }
        while self.parked_bytes > TCP_OPENINGS_PARKED_BYTES_MAX {
            let Some((&oldest, _)) = self.stalled.oldest() else { break };
            self.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, flow: &FiveTuple) -> Option<Opening> {
        let opening = self.table.remove(flow)?;
        self.stalled.remove(flow);
        self.parked_bytes = self.parked_bytes.saturating_sub(opening.parked.charge_bytes());
        Some(opening)
    }

    /// Forgets those whose first bytes did not come in time.
    pub(super) fn expire(&mut self, now: PacketTime) {
        while let Some((&flow, since)) = self.stalled.oldest() {
            if now.ms_since(*since) < TCP_GAP_TIMEOUT_MS {
                break;
            }
            self.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames;
    use super::super::transport::TcpFlags;
    use super::*;
    use crate::base::Protocol;
    use crate::base::limits::TCP_PIECE_OVERHEAD_BYTES;

    fn segment(seq: u32, payload: &[u8]) -> TcpSegment<'_> {
        TcpSegment { seq, flags: TcpFlags::default(), payload, missing_bytes: 0 }
    }

    fn flow(number: usize) -> FiveTuple {
        let mut flow = frames::flow(Protocol::Tcp);
        flow.source.port = u16::try_from(number).expect("few");
        flow
    }

    #[test]
    fn a_segment_stands_where_the_syn_says_across_the_wrap() {
        let opening = Opening { first_seq: u32::MAX, ..Opening::default() };
        assert_eq!(opening.standing(segment(u32::MAX, b"S")), Standing::First);
        assert_eq!(opening.standing(segment(3, b"S")), Standing::Later);
        assert_eq!(opening.standing(segment(u32::MAX - 1, b"S")), Standing::Elsewhere);
        assert_eq!(opening.standing(segment(0x4000_0000, b"S")), Standing::Elsewhere);
    }

    #[test]
    fn parked_bytes_are_bounded_in_each_and_in_all() {
        let mut openings = Openings::new();
        let now = PacketTime::from_ms(0);
        openings.open(flow(1), 0);
        openings.park(&flow(1), segment(1, &[0; TCP_OPENING_BYTES_MAX]), now);
        assert!(openings.get(&flow(1)).is_none(), "too much for one");
        let payload = [0; TCP_OPENING_BYTES_MAX - TCP_PIECE_OVERHEAD_BYTES];
        let fit = TCP_OPENINGS_PARKED_BYTES_MAX / TCP_OPENING_BYTES_MAX;
        for number in 0..=fit {
            openings.open(flow(number), 0);
            openings.park(&flow(number), segment(1, &payload), now);
        }
        assert!(openings.get(&flow(0)).is_none(), "the oldest went");
        assert!(openings.get(&flow(1)).is_some());
        assert_eq!(openings.parked_bytes(), TCP_OPENINGS_PARKED_BYTES_MAX);
        openings.expire(now.plus_ms(TCP_GAP_TIMEOUT_MS - 1));
        assert!(openings.get(&flow(1)).is_some());
        openings.expire(now.plus_ms(TCP_GAP_TIMEOUT_MS));
        assert_eq!(openings.parked_bytes(), 0);
    }

    #[test]
    fn an_opening_without_bytes_waits_until_newer_ones_need_its_place() {
        let mut openings = Openings::new();
        for number in 0..TCP_OPENINGS_MAX {
            openings.open(flow(number), 5);
        }
        openings.expire(PacketTime::MAX);
        assert!(openings.get(&flow(0)).is_some());
        openings.open(flow(TCP_OPENINGS_MAX), 5);
        assert!(openings.get(&flow(0)).is_none());
        assert!(openings.get(&flow(1)).is_some());
    }
}
