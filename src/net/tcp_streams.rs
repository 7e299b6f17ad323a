//! TCP reassembly of the directions that carry what the caller wants.
//!
//! Purpose: bytes in order for a framer (SIP has no packets over TCP), whatever order, overlap or loss
//! the mirror shows; and nothing kept of all the other TCP.
//! Invariants: content-agnostic; at most `TCP_FLOWS_MAX` directions followed, `TCP_OPENINGS_MAX`
//! undecided, and `TCP_PARKED_BYTES_MAX` + `TCP_OPENINGS_PARKED_BYTES_MAX` parked; every frame has one
//! outcome, corrected later only through [`TcpMoves`].
//! Non-goals: checksums, acknowledgements, windows; telling an injected segment from a real one.
//! Sources: RFC 9293, RFC 3261 §18.3 (SIP framing), RFC 5961 (implausible segments).
//!
//! ```text
//!            SYN                 first bytes wanted
//! unknown ────────► opening ───────────────────────► followed ──FIN, RST──► closed
//!    ▲ │               │ unwanted, too long            ▲                      │
//!    │ └─ a segment that looks wanted (mid-connection) ┘                      │
//!    └──────────────────────── SYN, or evicted ───────────────────────────────┘
//! ```
//!
//! Unwanted directions are not remembered: each later segment is asked about again, so that a capture
//! may begin in the middle of a connection, and a memory of refusals would have nothing to decide.

use super::aged_map::AgedMap;
use super::tcp_direction::{Direction, Life, Placed, extend, first_position};
use super::tcp_parked::Parked;
use super::transport::TcpSegment;
use crate::base::limits::{
    TCP_FLOWS_MAX, TCP_GAP_BYTES_MAX, TCP_GAP_TIMEOUT_MS, TCP_OPENING_BYTES_MAX, TCP_OPENINGS_MAX,
    TCP_OPENINGS_PARKED_BYTES_MAX, TCP_PARKED_BYTES_MAX, TCP_SNIFF_BYTES_MAX, TCP_WINDOW_BYTES_MAX,
};
use crate::base::{FiveTuple, FrameOutcome, PacketTime};

/// Whether delivered bytes follow those delivered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// They do.
    Contiguous,
    /// Bytes before these are missing.
    Gap,
}

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

/// Frames whose outcome turned out to be another than [`TcpStreams::segment`] said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpMoves {
    /// From `NotVoip` to `Sip`: payload that came before its direction was known to be wanted.
    pub not_voip_to_sip: u64,
    /// From `NotVoip` to `TcpControl`: handshakes of such directions.
    pub not_voip_to_tcp_control: u64,
    /// From `Sip` to `TcpDropped`: parked payload of directions that had to go.
    pub sip_to_tcp_dropped: u64,
}

/// A direction whose SYN was seen, or which began in tiny segments, and is not decided yet.
#[derive(Debug, Default)]
struct Opening {
    first_seq: u32,
    parked: Parked,
    /// Frames counted `NotVoip` for it, without and with payload.
    control_frames: u64,
    payload_frames: u64,
}

/// TCP directions of one ring. `S`: the caller's state of each.
#[derive(Debug)]
pub struct TcpStreams<S> {
    followed: AgedMap<FiveTuple, Direction<S>>,
    /// Followed directions with parked bytes, since when (of the first piece).
    gaps: AgedMap<FiveTuple, PacketTime>,
    parked_bytes: usize,
    openings: AgedMap<FiveTuple, Opening>,
    /// Openings with parked bytes, since when.
    stalled: AgedMap<FiveTuple, PacketTime>,
    openings_parked_bytes: usize,
    moves: TcpMoves,
}

impl<S: Default> Default for TcpStreams<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Default> TcpStreams<S> {
    /// Follows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            followed: AgedMap::new(TCP_FLOWS_MAX),
            gaps: AgedMap::new(TCP_FLOWS_MAX),
            parked_bytes: 0,
            openings: AgedMap::new(TCP_OPENINGS_MAX),
            stalled: AgedMap::new(TCP_OPENINGS_MAX),
            openings_parked_bytes: 0,
            moves: TcpMoves::default(),
        }
    }

    /// Feeds one segment.
    ///
    /// `wanted` judges the first payload bytes of a direction that is not followed. `deliver` takes
    /// bytes in order with the direction's state, zero or more times, perhaps of other directions
    /// too, whose gaps timed out or had to go. Returns the frame's outcome: `Sip`, `TcpControl` or
    /// `NotVoip`; see [`Self::take_moves`].
    pub fn segment(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        now: PacketTime,
        wanted: impl Fn(&[u8]) -> Interest,
        mut deliver: impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> FrameOutcome {
        self.expire(now, &mut deliver);
        if segment.flags.syn && !segment.flags.rst {
            return self.syn(flow, segment, now, &wanted, &mut deliver);
        }
        if self.followed.contains(&flow) {
            return self.known(flow, segment, now, &wanted, &mut deliver);
        }
        self.unknown(flow, segment, now, &wanted, &mut deliver)
    }

    /// Skips gaps that are older than `TCP_GAP_TIMEOUT_MS`: what is parked behind them is delivered
    /// with `Continuity::Gap`. `PacketTime::MAX` skips all.
    pub fn expire(
        &mut self,
        now: PacketTime,
        mut deliver: impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) {
        while let Some((flow, _)) = self.gaps.oldest().filter(|(_, since)| is_due(**since, now)) {
            let flow = *flow;
            self.skip_gap(&flow, &mut deliver);
        }
        while let Some((flow, _)) = self.stalled.oldest().filter(|(_, since)| is_due(**since, now))
        {
            let flow = *flow;
            self.forget_opening(&flow);
        }
    }

    /// Corrections to earlier outcomes since the last call.
    pub fn take_moves(&mut self) -> TcpMoves {
        std::mem::take(&mut self.moves)
    }

    /// Bytes parked out of order, with their overhead.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.parked_bytes.saturating_add(self.openings_parked_bytes)
    }

    /// Directions followed, closed ones that are still remembered included.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.followed.len()
    }

    /// A SYN begins a direction anew, unless it is a copy of the one that began it.
    fn syn(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        now: PacketTime,
        wanted: &impl Fn(&[u8]) -> Interest,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> FrameOutcome {
        let first_seq = segment.seq.wrapping_add(1);
        if let Some(direction) = self.followed.get(&flow) {
            if direction.first_seq == first_seq {
                return FrameOutcome::TcpControl;
            }
            self.end(&flow, deliver);
            self.followed.remove(&flow);
        }
        if self.openings.get(&flow).is_none_or(|opening| opening.first_seq != first_seq) {
            self.forget_opening(&flow);
            self.open(flow, first_seq);
        }
        // TCP Fast Open: data may come with the SYN.
        let data = TcpSegment { seq: first_seq, ..segment };
        self.unknown(flow, data, now, wanted, deliver)
    }

    fn known(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        now: PacketTime,
        wanted: &impl Fn(&[u8]) -> Interest,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> FrameOutcome {
        self.followed.touch(&flow);
        let Some(direction) = self.followed.get_mut(&flow) else { return FrameOutcome::NotVoip };
        let position = direction.position(segment.seq);
        let near = direction.is_near(position);
        if segment.flags.rst {
            if near {
                self.end(&flow, deliver);
            }
            return FrameOutcome::TcpControl;
        }
        let closed = direction.life == Life::Closed;
        if !near || (closed && direction.is_ahead(position)) {
            if wanted(segment.payload) != Interest::Wanted {
                return FrameOutcome::TcpControl;
            }
            if !closed {
                self.skip_all(&flow, deliver);
            }
            return match self.followed.get_mut(&flow) {
                Some(direction) if direction.life == Life::Open => {
                    let position = direction.resynchronise(segment.seq);
                    self.place(flow, position, segment, now, deliver)
                }
                _ => self.follow(flow, segment, now, deliver),
            };
        }
        if closed {
            return FrameOutcome::TcpControl;
        }
        self.place(flow, position, segment, now, deliver)
    }

    fn unknown(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        now: PacketTime,
        wanted: &impl Fn(&[u8]) -> Interest,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> FrameOutcome {
        let refused = if self.followed.contains(&flow.reversed()) {
            FrameOutcome::TcpControl
        } else {
            FrameOutcome::NotVoip
        };
        if segment.payload.is_empty() || segment.flags.rst {
            if segment.flags.rst || segment.flags.fin {
                self.forget_opening(&flow);
            } else if let Some(opening) = self.openings.get_mut(&flow) {
                opening.control_frames =
                    opening.control_frames.saturating_add(one_if_not_voip(refused));
            }
            return refused;
        }
        let interest = wanted(segment.payload);
        let Some(opening) = self.openings.get_mut(&flow) else {
            return match interest {
                Interest::Wanted => self.follow(flow, segment, now, deliver),
                Interest::NeedMore if segment.payload.len() < TCP_SNIFF_BYTES_MAX => {
                    self.open(flow, segment.seq);
                    self.park(flow, segment, now, refused);
                    refused
                }
                _ => refused,
            };
        };
        let next = first_position(opening.first_seq);
        let position = extend(next, segment.seq);
        if position < next || position.abs_diff(next) > TCP_WINDOW_BYTES_MAX {
            // Not what the SYN announced: a keep-alive, or another connection whose SYN was lost.
            if interest == Interest::Wanted {
                self.forget_opening(&flow);
                return self.follow(flow, segment, now, deliver);
            }
            return refused;
        }
        match interest {
            Interest::Wanted => {
                self.promote(flow, deliver);
                return self.place(flow, position, segment, now, deliver);
            }
            Interest::Unwanted if position == next && opening.parked.is_empty() => {
                self.forget_opening(&flow);
                return refused;
            }
            _ => self.park(flow, segment, now, refused),
        }
        self.judge(flow, refused, wanted, deliver).unwrap_or(refused)
    }

    /// Asks about what has been gathered of an opening from its first byte on.
    fn judge(
        &mut self,
        flow: FiveTuple,
        refused: FrameOutcome,
        wanted: &impl Fn(&[u8]) -> Interest,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> Option<FrameOutcome> {
        let opening = self.openings.get_mut(&flow)?;
        let mut prefix = [0; TCP_SNIFF_BYTES_MAX];
        let filled = opening.parked.prefix(first_position(opening.first_seq), &mut prefix);
        let prefix = prefix.get(..filled).filter(|prefix| !prefix.is_empty())?;
        match wanted(prefix) {
            Interest::Wanted => {
                // The frame at hand was counted with the opening's, but gets its outcome here.
                opening.payload_frames =
                    opening.payload_frames.saturating_sub(one_if_not_voip(refused));
                self.promote(flow, deliver);
                return Some(FrameOutcome::Sip);
            }
            Interest::NeedMore if filled < TCP_SNIFF_BYTES_MAX => {}
            _ => {
                self.forget_opening(&flow);
            }
        }
        None
    }

    fn open(&mut self, flow: FiveTuple, first_seq: u32) {
        let opening = Opening { first_seq, ..Opening::default() };
        if let Some((gone, opening)) = self.openings.insert(flow, opening) {
            self.stalled.remove(&gone);
            self.openings_parked_bytes =
                self.openings_parked_bytes.saturating_sub(opening.parked.charge_bytes());
        }
    }

    /// Parks a segment of an opening; `refused` is the outcome that the frame gets.
    fn park(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        now: PacketTime,
        refused: FrameOutcome,
    ) {
        let Some(opening) = self.openings.get_mut(&flow) else { return };
        let position = extend(first_position(opening.first_seq), segment.seq);
        let before = opening.parked.charge_bytes();
        opening.parked.insert(position, segment.payload, now);
        let after = opening.parked.charge_bytes();
        opening.payload_frames = opening.payload_frames.saturating_add(one_if_not_voip(refused));
        self.openings_parked_bytes =
            self.openings_parked_bytes.saturating_add(after).saturating_sub(before);
        if after > TCP_OPENING_BYTES_MAX {
            self.forget_opening(&flow);
        } else if !self.stalled.contains(&flow) {
            self.stalled.insert(flow, now);
        }
        while self.openings_parked_bytes > TCP_OPENINGS_PARKED_BYTES_MAX {
            let Some((&oldest, _)) = self.stalled.oldest() else { break };
            self.forget_opening(&oldest);
        }
    }

    fn forget_opening(&mut self, flow: &FiveTuple) -> Option<Opening> {
        let opening = self.openings.remove(flow)?;
        self.stalled.remove(flow);
        self.openings_parked_bytes =
            self.openings_parked_bytes.saturating_sub(opening.parked.charge_bytes());
        Some(opening)
    }

    /// Follows a direction from this segment on.
    fn follow(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        now: PacketTime,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> FrameOutcome {
        self.add(flow, Direction::new(segment.seq, Parked::default()));
        self.place(flow, first_position(segment.seq), segment, now, deliver)
    }

    /// Follows what was an opening, from its first byte on.
    fn promote(
        &mut self,
        flow: FiveTuple,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) {
        let Some(opening) = self.forget_opening(&flow) else { return };
        let moves = &mut self.moves;
        moves.not_voip_to_sip = moves.not_voip_to_sip.saturating_add(opening.payload_frames);
        moves.not_voip_to_tcp_control =
            moves.not_voip_to_tcp_control.saturating_add(opening.control_frames);
        self.add(flow, Direction::new(opening.first_seq, opening.parked));
        if let Some(direction) = self.followed.get_mut(&flow) {
            let before = direction.parked.charge_bytes();
            self.parked_bytes = self.parked_bytes.saturating_add(before);
            direction
                .drain(&mut |state, bytes, continuity| deliver(&flow, state, bytes, continuity));
            self.settle(flow, before, deliver);
        }
    }

    fn add(&mut self, flow: FiveTuple, direction: Direction<S>) {
        if let Some((gone, direction)) = self.followed.insert(flow, direction) {
            self.gaps.remove(&gone);
            self.parked_bytes = self.parked_bytes.saturating_sub(direction.parked.charge_bytes());
            self.moves.sip_to_tcp_dropped =
                self.moves.sip_to_tcp_dropped.saturating_add(direction.parked.frames());
        }
    }

    /// Delivers or parks a segment of a followed direction.
    fn place(
        &mut self,
        flow: FiveTuple,
        position: u64,
        segment: TcpSegment<'_>,
        now: PacketTime,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) -> FrameOutcome {
        let Some(direction) = self.followed.get_mut(&flow) else { return FrameOutcome::NotVoip };
        let before = direction.parked.charge_bytes();
        let first = direction.parked.first();
        let placed = direction.place(position, segment, now, &mut |state, bytes, continuity| {
            deliver(&flow, state, bytes, continuity);
        });
        if placed == Placed::Delivered && direction.parked.first() != first {
            self.gaps.remove(&flow);
        }
        self.settle(flow, before, deliver);
        match placed {
            Placed::Delivered | Placed::Parked if !segment.payload.is_empty() => FrameOutcome::Sip,
            _ => FrameOutcome::TcpControl,
        }
    }

    /// Brings caps and timers up to date after a direction's parked bytes changed from
    /// `before_bytes`.
    fn settle(
        &mut self,
        flow: FiveTuple,
        before_bytes: usize,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) {
        self.recount(&flow, before_bytes);
        while self.followed.get(&flow).is_some_and(|d| d.parked.charge_bytes() > TCP_GAP_BYTES_MAX)
        {
            self.skip_gap(&flow, deliver);
        }
        while self.parked_bytes > TCP_PARKED_BYTES_MAX {
            let Some((&oldest, _)) = self.gaps.oldest() else { break };
            self.skip_gap(&oldest, deliver);
        }
        if self.followed.get(&flow).is_some_and(|d| d.life == Life::Open && d.is_at_end()) {
            self.end(&flow, deliver);
        }
    }

    /// Keeps `parked_bytes` and the timer of the first gap.
    fn recount(&mut self, flow: &FiveTuple, before_bytes: usize) {
        let Some(direction) = self.followed.get(flow) else { return };
        let after_bytes = direction.parked.charge_bytes();
        self.parked_bytes =
            self.parked_bytes.saturating_add(after_bytes).saturating_sub(before_bytes);
        match direction.parked.first() {
            None => {
                self.gaps.remove(flow);
            }
            // A second gap is as old as the piece behind it, which may be older than others in the
            // list; until it heads the list it may wait a little longer than the timeout.
            Some((_, since)) => {
                if !self.gaps.contains(flow) {
                    self.gaps.insert(*flow, since);
                }
            }
        }
    }

    /// Delivers up to the second gap of a direction.
    fn skip_gap(
        &mut self,
        flow: &FiveTuple,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) {
        self.gaps.remove(flow);
        let Some(direction) = self.followed.get_mut(flow) else { return };
        let before = direction.parked.charge_bytes();
        direction.skip_gap(&mut |state, bytes, continuity| deliver(flow, state, bytes, continuity));
        let ended = direction.life == Life::Open && direction.is_at_end();
        self.recount(flow, before);
        if ended {
            self.end(flow, deliver);
        }
    }

    fn skip_all(
        &mut self,
        flow: &FiveTuple,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) {
        while self.followed.get(flow).is_some_and(|direction| !direction.parked.is_empty()) {
            self.skip_gap(flow, deliver);
        }
    }

    /// Delivers what is left of a direction and closes it; it is the next to be forgotten.
    fn end(
        &mut self,
        flow: &FiveTuple,
        deliver: &mut impl FnMut(&FiveTuple, &mut S, &[u8], Continuity),
    ) {
        while self.followed.get(flow).is_some_and(|direction| !direction.parked.is_empty()) {
            self.gaps.remove(flow);
            let Some(direction) = self.followed.get_mut(flow) else { return };
            let before = direction.parked.charge_bytes();
            direction
                .skip_gap(&mut |state, bytes, continuity| deliver(flow, state, bytes, continuity));
            self.recount(flow, before);
        }
        if let Some(direction) = self.followed.get_mut(flow) {
            direction.close();
        }
        self.followed.demote(flow);
    }
}

fn is_due(since: PacketTime, now: PacketTime) -> bool {
    now.ms_since(since) >= TCP_GAP_TIMEOUT_MS
}

fn one_if_not_voip(refused: FrameOutcome) -> u64 {
    u64::from(refused == FrameOutcome::NotVoip)
}
