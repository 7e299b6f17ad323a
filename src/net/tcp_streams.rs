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
use super::tcp_direction::{Continuity, Direction, Life, Placed, first_position};
use super::tcp_openings::{Interest, Openings, Standing};
use super::tcp_parked::Parked;
use super::transport::TcpSegment;
use crate::base::limits::{
    TCP_FLOWS_MAX, TCP_GAP_BYTES_MAX, TCP_GAP_TIMEOUT_MS, TCP_PARKED_BYTES_MAX, TCP_SNIFF_BYTES_MAX,
};
use crate::base::{FiveTuple, FrameOutcome, PacketTime};

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

/// TCP directions of one ring. `S`: the caller's state of each.
#[derive(Debug)]
pub struct TcpStreams<S> {
    followed: AgedMap<FiveTuple, Direction<S>>,
    /// Followed directions with parked bytes, since when (of the first piece).
    gaps: AgedMap<FiveTuple, PacketTime>,
    parked_bytes: usize,
    openings: Openings,
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
            openings: Openings::new(),
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
        self.openings.expire(now);
    }

    /// The caller's state of a followed direction.
    #[must_use]
    pub fn state(&self, flow: &FiveTuple) -> Option<&S> {
        self.followed.get(flow).map(|direction| &direction.state)
    }

    /// Follows a direction no longer: it turned out to be nothing of the caller's.
    pub fn forget(&mut self, flow: &FiveTuple) {
        self.gaps.remove(flow);
        if let Some(direction) = self.followed.remove(flow) {
            self.parked_bytes = self.parked_bytes.saturating_sub(direction.parked.charge_bytes());
        }
    }

    /// Corrections that [`Self::take_moves`] would return.
    #[must_use]
    pub const fn moves(&self) -> TcpMoves {
        self.moves
    }

    /// Corrections to earlier outcomes since the last call.
    pub fn take_moves(&mut self) -> TcpMoves {
        std::mem::take(&mut self.moves)
    }

    /// Bytes parked out of order, with their overhead.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.parked_bytes.saturating_add(self.openings.parked_bytes())
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
        self.openings.open(flow, first_seq);
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
                self.openings.remove(&flow);
            } else if refused == FrameOutcome::NotVoip {
                if let Some(opening) = self.openings.get_mut(&flow) {
                    opening.control_frames = opening.control_frames.saturating_add(1);
                }
            }
            return refused;
        }
        let interest = wanted(segment.payload);
        let standing = self.openings.get(&flow).map(|opening| opening.standing(segment));
        match (standing, interest) {
            (None | Some(Standing::Elsewhere), Interest::Wanted) => {
                self.openings.remove(&flow);
                return self.follow(flow, segment, now, deliver);
            }
            (Some(_), Interest::Wanted) => {
                self.promote(flow, deliver);
                return match self.followed.get(&flow) {
                    Some(direction) => {
                        let position = direction.position(segment.seq);
                        self.place(flow, position, segment, now, deliver)
                    }
                    None => refused,
                };
            }
            (None, Interest::NeedMore) => self.openings.open(flow, segment.seq),
            (None | Some(Standing::Elsewhere), _) => return refused,
            (Some(Standing::First), Interest::Unwanted) => {
                self.openings.remove(&flow);
                return refused;
            }
            (Some(Standing::First | Standing::Later), _) => {}
        }
        self.openings.park(&flow, segment, now);
        if let Some(opening) = self.openings.get_mut(&flow) {
            opening.payload_frames = opening.payload_frames.saturating_add(1);
        }
        // Undecided until more has come, even when the other direction is SIP.
        self.judge(flow, wanted, deliver).unwrap_or(FrameOutcome::NotVoip)
    }

    /// Asks about what has been gathered of an opening from its first byte on.
    fn judge(
        &mut self,
        flow: FiveTuple,
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
                opening.payload_frames = opening.payload_frames.saturating_sub(1);
                self.promote(flow, deliver);
                return Some(FrameOutcome::Sip);
            }
            Interest::NeedMore if filled < TCP_SNIFF_BYTES_MAX => {}
            _ => {
                self.openings.remove(&flow);
            }
        }
        None
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
        let Some(opening) = self.openings.remove(&flow) else { return };
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

#[cfg(test)]
#[path = "tcp_streams_tests.rs"]
mod tests;
