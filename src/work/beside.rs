//! What passes beside a call's RTP: RTCP, the phones' agreement on keys, T.38.
//!
//! Purpose: hand it to its call; hold reports and handshakes that come ahead of SIP's word, which is
//! another thread's when capturing: a phone may begin its DTLS handshake within a millisecond.
//! Invariants: at most `EARLY_PACKETS_MAX` are held, for `ORPHAN_WAIT_MS`; each comes out once, with one
//! outcome.
//! Non-goals: RTP ahead of its SDP (see `orphans`), what the packets say (see `media`).
//! Sources: RFC 3550 §11 (RTCP's port), RFC 5764 §3, RFC 6189 §4, ITU-T T.38 §9.1.

use super::front::{MediaPacket, Rest, SipPort};
use super::orphans::{Carries, FlowKey};
use super::outbox::{Outbox, Pushed};
use crate::base::limits::{EARLY_PACKETS_MAX, ORPHAN_WAIT_MS};
use crate::base::{
    Channel, Endpoint, EntryKind, FiveTuple, FrameOutcome, PacketEntry, PacketTime, Ssrc,
};
use crate::net::Sighting;
use crate::rtp::flow_table::{ClaimRole, FlowTable, Match};
use crate::rtp::rtcp::sender_of;
use crate::rtp::udptl::UdptlPacket;
use std::collections::VecDeque;

/// Packets of nobody, so far; oldest first.
#[derive(Debug)]
pub struct Early {
    held: VecDeque<Vec<u8>>,
    /// Buffers that hold none, made at once, so that the front allocates nothing later.
    free: Vec<Vec<u8>>,
}

/// Bytes that a report or a handshake with its entry's header takes at first.
const USUAL_BYTES: usize = 512;

impl Default for Early {
    fn default() -> Self {
        let buffer = || Vec::with_capacity(USUAL_BYTES);
        Self {
            held: VecDeque::with_capacity(EARLY_PACKETS_MAX),
            free: (0..EARLY_PACKETS_MAX).map(|_| buffer()).collect(),
        }
    }
}

impl Early {
    /// Packets that wait.
    pub fn waiting(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX)
    }
}

impl<P: SipPort> Rest<P> {
    /// RTCP, or how phones agree on keys; `None` while it waits for its call.
    pub(super) fn beside(
        &mut self,
        packet: MediaPacket<'_>,
        kind: EntryKind,
    ) -> Option<FrameOutcome> {
        if packet.sighting == Sighting::Repeated {
            return Some(FrameOutcome::Duplicate);
        }
        let entry = entry_of(packet, kind);
        if let Some(found) = owner(&self.table, &entry) {
            return Some(self.deliver_to(found, &entry));
        }
        if kind == EntryKind::Rtcp && self.is_after_end(&entry) {
            return Some(FrameOutcome::AfterEnd);
        }
        self.hold(&entry);
        None
    }

    /// A last report of a flow whose call has let go of its addresses.
    fn is_after_end(&self, entry: &PacketEntry<'_>) -> bool {
        let Some(ssrc) = sender_of(entry.payload) else { return false };
        let (source, destination) = (entry.source, entry.destination);
        let ways = [(source, destination), (beside(source), beside(destination))];
        ways.into_iter().any(|(source, destination)| {
            self.flows.was_known(FlowKey { source, destination, ssrc }, entry.time)
        })
    }

    /// T.38, where a call agreed on it.
    pub(super) fn fax(&mut self, packet: MediaPacket<'_>) -> Option<FrameOutcome> {
        if !self.table.has_fax() {
            return None;
        }
        UdptlPacket::parse(packet.payload)?;
        let found = self.table.find(packet.flow.source, packet.flow.destination)?;
        if found.role != ClaimRole::Fax {
            return None;
        }
        Some(match packet.sighting {
            Sighting::Repeated => FrameOutcome::Duplicate,
            Sighting::First => self.deliver_to(found, &entry_of(packet, EntryKind::Udptl)),
        })
    }

    /// The table has changed at `now`: hands out what is somebody's now.
    pub(super) fn resolve_early(&mut self, now: PacketTime) {
        for _ in 0..self.early.held.len() {
            let Some(bytes) = self.early.held.pop_front() else { break };
            let found = PacketEntry::read(&bytes)
                .and_then(|entry| Some((owner(&self.table, &entry)?, entry)));
            if let Some((found, entry)) = found {
                self.outbox.mark_claimed(found.call, now);
                let outcome = self.deliver_to(found, &entry);
                self.outcomes.add(outcome);
                self.early.free.push(bytes);
            } else {
                self.early.held.push_back(bytes);
            }
        }
    }

    /// Gives up what has waited long enough at `now`.
    pub(super) fn give_up_early(&mut self, now: PacketTime) {
        while let Some(entry) = self.early.held.front().and_then(|it| PacketEntry::read(it)) {
            if now.ms_since(entry.time) < ORPHAN_WAIT_MS {
                break;
            }
            self.give_up_oldest();
        }
    }

    fn hold(&mut self, entry: &PacketEntry<'_>) {
        self.give_up_early(entry.time);
        if self.early.held.len() >= EARLY_PACKETS_MAX {
            self.give_up_oldest();
        }
        let mut bytes = self.early.free.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(entry.len_bytes(), 0);
        // A UDP payload always fits an entry.
        let _ = entry.write(&mut bytes);
        self.early.held.push_back(bytes);
    }

    fn give_up_oldest(&mut self) {
        let Some(bytes) = self.early.held.pop_front() else { return };
        let Some(entry) = PacketEntry::read(&bytes) else { return };
        let outcome = if entry.kind == EntryKind::Rtcp {
            let ssrc = sender_of(entry.payload).unwrap_or(Ssrc(0));
            let key = FlowKey { source: entry.source, destination: entry.destination, ssrc };
            self.orphans.count_unclaimed(key, Carries::Rtcp, 1);
            FrameOutcome::UnclaimedRtp
        } else {
            FrameOutcome::NotVoip
        };
        self.outcomes.add(outcome);
        self.early.free.push(bytes);
    }

    fn deliver_to(&mut self, found: Match, entry: &PacketEntry<'_>) -> FrameOutcome {
        if entry.kind == EntryKind::Rtcp && found.role != ClaimRole::NotAudio {
            self.reported.note(found.call, found.sender, entry.payload);
        }
        deliver(&mut self.outbox, found, entry)
    }
}

/// A packet as an entry; who sent it is not known yet.
fn entry_of(packet: MediaPacket<'_>, kind: EntryKind) -> PacketEntry<'_> {
    let MediaPacket { time, flow, payload, .. } = packet;
    let FiveTuple { source, destination, .. } = flow;
    PacketEntry { time, source, destination, kind, channel: Channel::Caller, payload }
}

/// The address of the media that a report at `end` is about (RFC 3550 §11).
const fn beside(end: Endpoint) -> Endpoint {
    end.with_port(end.port.wrapping_sub(1))
}

/// Whose the packet is. What is learned are flows of media; their reports run one port
/// higher. A handshake beside a medium that is not recorded is not looked at.
fn owner(table: &FlowTable, entry: &PacketEntry<'_>) -> Option<Match> {
    let (source, destination) = (entry.source, entry.destination);
    let found = table.find(source, destination);
    if entry.kind == EntryKind::Rtcp {
        return found.or_else(|| table.learned(beside(source), beside(destination)));
    }
    let found = found.or_else(|| table.learned(source, destination));
    found.filter(|it| !matches!(it.role, ClaimRole::NotAudio | ClaimRole::Loser))
}

/// Hands a packet that is no RTP to its call.
fn deliver(outbox: &mut Outbox, found: Match, entry: &PacketEntry<'_>) -> FrameOutcome {
    let outcome = match entry.kind {
        EntryKind::Rtcp if found.role == ClaimRole::NotAudio => return FrameOutcome::NotAudio,
        EntryKind::Rtcp => FrameOutcome::Rtcp,
        EntryKind::Udptl => FrameOutcome::Fax,
        _ => FrameOutcome::KeyExchange,
    };
    match outbox.push(found.call, &PacketEntry { channel: found.sender, ..*entry }) {
        Pushed::Taken => outcome,
        Pushed::Full => FrameOutcome::QueueFull,
        Pushed::NoCall => FrameOutcome::CallLimit,
    }
}
