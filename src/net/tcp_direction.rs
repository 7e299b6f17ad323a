//! One direction of a TCP connection that is being followed.
//!
//! Purpose: turn segments in any order into bytes in order, and say where bytes are missing.
//! Invariants: `next` never decreases, except where a resynchronisation says `Gap`; every byte is
//! delivered at most once; what is parked lies behind `next`.
//! Non-goals: which directions to follow, caps over all of them, and timers (see `tcp_streams`).
//! Sources: RFC 9293 §3.4 and §3.10, RFC 5961 §3 (implausible RST).

use super::tcp_parked::{Parked, end_of};
use super::transport::TcpSegment;
use crate::base::PacketTime;
use crate::base::limits::TCP_WINDOW_BYTES_MAX;

/// Whether delivered bytes follow those delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// They do.
    Contiguous,
    /// Bytes before these are missing.
    Gap,
}

/// A followed direction with the caller's state.
#[derive(Debug)]
pub(super) struct Direction<S> {
    pub(super) state: S,
    pub(super) parked: Parked,
    /// Sequence number of its first byte: a SYN that fits it is a late or repeated one.
    pub(super) first_seq: u32,
    pub(super) life: Life,
    /// Position of the next byte to deliver.
    next: u64,
    /// Of the next delivery.
    continuity: Continuity,
    /// Position behind the last byte, from FIN.
    end: Option<u64>,
}

/// Whether more is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// FIN reached or RST seen. Remembered, so that a retransmission does not look like a new stream.
    Closed,
}

/// What became of a segment's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Some of it was delivered, and perhaps parked bytes behind it.
    Delivered,
    /// Some of it was parked.
    Parked,
    /// None of it was new.
    Old,
}

/// Position of a stream's first byte: high enough that nothing before it is negative.
pub(super) fn first_position(seq: u32) -> u64 {
    (1 << 32) | u64::from(seq)
}

/// The position nearest to `near` whose low 32 bits are `seq`.
pub(super) fn extend(near: u64, seq: u32) -> u64 {
    let low = u32::try_from(near & u64::from(u32::MAX)).unwrap_or(0);
    let step = i32::from_ne_bytes(seq.wrapping_sub(low).to_ne_bytes());
    near.saturating_add_signed(i64::from(step))
}

impl<S: Default> Direction<S> {
    /// A stream that begins at `first_seq`, perhaps with something parked from there on.
    pub(super) fn new(first_seq: u32, parked: Parked) -> Self {
        Self {
            state: S::default(),
            parked,
            first_seq,
            life: Life::Open,
            next: first_position(first_seq),
            continuity: Continuity::Contiguous,
            end: None,
        }
    }

    pub(super) fn position(&self, seq: u32) -> u64 {
        extend(self.next, seq)
    }

    /// True when a position may belong to what is going on.
    pub(super) fn is_near(&self, position: u64) -> bool {
        position.abs_diff(self.next) <= TCP_WINDOW_BYTES_MAX
    }

    pub(super) fn is_ahead(&self, position: u64) -> bool {
        position > self.next
    }

    /// True when FIN has been reached.
    pub(super) fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Delivers or parks a segment at `position`, which is near.
    pub(super) fn place(
        &mut self,
        position: u64,
        segment: TcpSegment<'_>,
        now: PacketTime,
        deliver: &mut impl FnMut(&mut S, &[u8], Continuity),
    ) -> Placed {
        let end = end_of(position, segment.payload);
        let wire_end = end.saturating_add(u64::from(segment.missing_bytes));
        if segment.flags.fin && self.end.is_none() {
            self.end = Some(wire_end);
        }
        if wire_end <= self.next {
            return Placed::Old;
        }
        if position > self.next {
            return match self.parked.insert(position, segment.payload, now) {
                0 => Placed::Old,
                _ => Placed::Parked,
            };
        }
        let passed = usize::try_from(self.next.saturating_sub(position)).unwrap_or(usize::MAX);
        self.hand_over(segment.payload.get(passed..).unwrap_or(&[]), deliver);
        if segment.missing_bytes > 0 {
            // The capture cuts retransmissions as well: waiting for these bytes is in vain, unless
            // some are parked already.
            let parked = self.parked.first().map_or(u64::MAX, |(start, _)| start);
            self.next = self.next.max(wire_end.min(parked));
            self.continuity = Continuity::Gap;
        }
        self.drain(deliver);
        Placed::Delivered
    }

    /// Delivers what is parked at `next`.
    pub(super) fn drain(&mut self, deliver: &mut impl FnMut(&mut S, &[u8], Continuity)) {
        while let Some((piece, passed)) = self.parked.take_at(self.next) {
            self.hand_over(piece.bytes.get(passed..).unwrap_or(&[]), deliver);
        }
    }

    /// Gives the bytes before the first parked piece up and delivers from there to the next gap.
    pub(super) fn skip_gap(&mut self, deliver: &mut impl FnMut(&mut S, &[u8], Continuity)) {
        if let Some((start, _)) = self.parked.first() {
            if start > self.next {
                self.next = start;
                self.continuity = Continuity::Gap;
            }
            self.drain(deliver);
        }
    }

    /// Goes on at `seq`, wherever that is, when nothing is parked. Returns its position.
    pub(super) fn resynchronise(&mut self, seq: u32) -> u64 {
        self.first_seq = seq;
        self.next = first_position(seq);
        self.continuity = Continuity::Gap;
        self.end = None;
        self.next
    }

    /// Ends the stream and frees the caller's state.
    pub(super) fn close(&mut self) {
        self.life = Life::Closed;
        self.state = S::default();
    }

    fn hand_over(&mut self, bytes: &[u8], deliver: &mut impl FnMut(&mut S, &[u8], Continuity)) {
        if !bytes.is_empty() {
            let continuity = std::mem::replace(&mut self.continuity, Continuity::Contiguous);
            deliver(&mut self.state, bytes, continuity);
            self.next = end_of(self.next, bytes);
        }
    }
}
