//! The front: one frame in, one outcome counted.
//!
//! Purpose: take frames of one ring apart, send SIP to the correlator and copy RTP, once, into its
//! call's queue.
//! Invariants: every frame ends in one outcome or waits in the orphan buffer; nothing here decodes,
//! locks, logs or reads a clock, and media allocates nothing once blocks and tables have grown.
//! Non-goals: SIP's meaning (see `signalling`), order within a stream (see `media`).
//! Sources: RFC 3261 §18, RFC 5761 §4 (RTP or RTCP), RFC 3550.

use super::beside::Early;
use super::carried::{Carried, Look, look};
use super::express::{Express, Pass, Ticket};
use super::flows::{Flows, Found, Target, Targets, Told};
use super::orphans::{FlowKey, Orphans, UnclaimedFlow};
use super::outbox::{Outbox, Pushed};
use super::reported::Reported;
use super::secure::Secure;
use super::signalling::TableUpdate;
use super::stats::FrontStats;
use crate::base::{
    Channel, Endpoint, EntryKind, FiveTuple, Frame, FrameOutcome, FrameSink, OutcomeCounts,
    PacketEntry, PacketTime, Ssrc,
};
use crate::net::{
    Continuity, Decap, Decapped, Interest, PlainRtp, Sighting, TcpMoves, TcpSegment, TcpStreams,
    plain_rtp,
};
use crate::rtp::classify::{Datagram, classify};
use crate::rtp::flow_table::{ClaimRole, FlowTable};
use crate::rtp::header::RtpView;
use crate::rtp::sight::FlowSight;
use crate::rtp::turn::relayed;
use crate::sip::{Likeness, looks_like_sip};
use crate::tls::{self, TlsKeys};
use std::sync::Arc;

/// Where a front sends SIP.
pub trait SipPort {
    /// Takes one message; the outcome of its frame.
    fn message(&mut self, time: PacketTime, flow: FiveTuple, bytes: &[u8]) -> FrameOutcome;

    /// Takes what a flow that nobody claimed looks like.
    fn sight(&mut self, _time: PacketTime, _sight: FlowSight) {}

    /// Time goes on.
    fn tick(&mut self, now: PacketTime);

    /// Takes the next update for the front's tables.
    fn update(&mut self) -> Option<TableUpdate>;
}

/// One front.
pub struct Front<P: SipPort> {
    /// Apart from the rest, since what it hands out is borrowed from it.
    decap: Decap,
    rest: Rest<P>,
}

/// What takes packets apart from frames.
pub(super) struct Rest<P: SipPort> {
    port: P,
    tcp: TcpStreams<Carried>,
    /// Only where TLS is read.
    secure: Option<Secure>,
    pub(super) table: FlowTable,
    pub(super) flows: Flows,
    express: Express,
    pub(super) orphans: Orphans,
    pub(super) reported: Reported,
    pub(super) early: Early,
    /// Empty between calls, kept for its memory.
    sights: Vec<FlowSight>,
    pub(super) outbox: Outbox,
    pub(super) outcomes: OutcomeCounts,
    received: u64,
    now: PacketTime,
    stats: Arc<FrontStats>,
}

/// A UDP packet that is RTP or RTCP.
#[derive(Clone, Copy)]
pub(super) struct MediaPacket<'a> {
    pub(super) time: PacketTime,
    pub(super) flow: FiveTuple,
    pub(super) payload: &'a [u8],
    pub(super) sighting: Sighting,
}

impl<P: SipPort> Front<P> {
    /// A front that has seen nothing yet.
    #[must_use]
    pub fn new(port: P, outbox: Outbox, stats: Arc<FrontStats>) -> Self {
        let rest = Rest {
            port,
            tcp: TcpStreams::new(),
            secure: None,
            table: FlowTable::default(),
            flows: Flows::default(),
            express: Express::default(),
            orphans: Orphans::default(),
            reported: Reported::default(),
            early: Early::default(),
            sights: Vec::new(),
            outbox,
            outcomes: OutcomeCounts::default(),
            received: 0,
            now: PacketTime::MIN,
            stats,
        };
        Self { decap: Decap::new(), rest }
    }

    /// Reads TLS with what the operator gave; without this TLS is not followed.
    #[must_use]
    pub fn with_tls(mut self, keys: TlsKeys) -> Self {
        self.rest.secure = Some(Secure::new(keys));
        self
    }

    /// Between blocks: timers, hand-over of blocks that are old enough, figures.
    ///
    /// `now`: the source's time, where it is silent.
    pub fn between(&mut self, now: PacketTime) {
        let given_up = self.decap.expire(now.max(self.rest.now));
        self.rest.move_fragments(given_up);
        self.rest.between(now);
    }

    /// The end of the input: what still waits for its SDP is looked at a last time.
    pub fn last_looks(&mut self) {
        self.rest.last_looks(PacketTime::MAX);
    }

    /// The end of the input: nothing waits any more. The correlator's timers are the caller's.
    pub fn finish(&mut self) {
        let given_up = self.decap.expire(PacketTime::MAX);
        self.rest.move_fragments(given_up);
        self.rest.finish();
    }

    /// The way to the correlator.
    pub const fn port(&mut self) -> &mut P {
        &mut self.rest.port
    }

    /// The latest frame's time.
    #[must_use]
    pub const fn now(&self) -> PacketTime {
        self.rest.now
    }

    /// Frames by outcome, so far.
    #[must_use]
    pub const fn outcomes(&self) -> &OutcomeCounts {
        &self.rest.outcomes
    }

    /// Frames received, so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.rest.received
    }

    /// The flows that carry most of what nobody claimed, with the likely reason.
    #[must_use]
    pub fn unclaimed(&self, most: usize) -> Vec<(UnclaimedFlow, &'static str)> {
        let flows = self.rest.orphans.biggest_unclaimed(most);
        flows.into_iter().map(|flow| (flow.clone(), self.rest.likely_reason(flow.key))).collect()
    }
}

impl<P: SipPort> Rest<P> {
    fn between(&mut self, now: PacketTime) {
        self.now = self.now.max(now);
        let time = self.now;
        self.port.tick(time);
        self.apply_updates();
        self.last_looks(time);
        self.orphans.expire(time);
        self.resolve_orphans();
        self.give_up_early(time);
        let Self { port, tcp, secure, .. } = self;
        tcp.expire(time, |flow, carried, bytes, continuity| {
            carry(secure, carried, (flow, bytes, continuity), time, |flow, message| {
                port.message(time, *flow, message);
            });
        });
        if let Some(secure) = secure {
            secure.poll(time, |flow, message| {
                port.message(time, *flow, message);
            });
        }
        self.apply_tcp_moves(FrameOutcome::Sip);
        self.apply_updates();
        self.outbox.hand_over_old(time);
        self.publish();
    }

    fn finish(&mut self) {
        self.apply_updates();
        self.orphans.expire(PacketTime::MAX);
        self.resolve_orphans();
        self.give_up_early(PacketTime::MAX);
        self.outbox.finish();
        self.publish();
    }

    /// Tells of every flow whose first packet is given up at `until`, while it can still be claimed;
    /// true where there was one.
    fn last_looks(&mut self, until: PacketTime) -> bool {
        let mut sights = std::mem::take(&mut self.sights);
        self.orphans.last_looks(until, &mut sights);
        let has_told = !sights.is_empty();
        for sight in sights.drain(..) {
            self.tell(self.now, sight);
        }
        self.sights = sights;
        has_told
    }

    fn tell(&mut self, time: PacketTime, sight: FlowSight) {
        let reported = self.reported.sender(sight.ssrc);
        self.port.sight(time, FlowSight { reported, ..sight });
        self.apply_updates();
    }

    fn likely_reason(&self, key: FlowKey) -> &'static str {
        if self.outcomes.get(FrameOutcome::Sip) == 0 {
            "no SIP was seen at all"
        } else if self.table.knows_port(key.destination) || self.table.knows_port(key.source) {
            "SDP announced the port at another address (NAT)"
        } else {
            "no SDP announced its addresses"
        }
    }

    fn publish(&self) {
        let waiting = self.orphans.waiting().saturating_add(self.early.waiting());
        self.stats.publish(self.received, waiting, &self.outcomes);
        self.stats.unclaimed_flows.set(self.orphans.unclaimed_flows());
    }

    fn resolve_orphans(&mut self) {
        for (outcome, frames) in self.orphans.take_resolved().outcomes() {
            self.outcomes.add_many(outcome, frames);
        }
    }

    fn move_fragments(&mut self, given_up: u64) {
        self.outcomes.take_many(FrameOutcome::Fragment, given_up);
        self.outcomes.add_many(FrameOutcome::FragmentDropped, given_up);
    }

    fn apply_updates(&mut self) {
        while let Some(update) = self.port.update() {
            match update {
                TableUpdate::Opened(slot) => self.outbox.open(slot),
                TableUpdate::Forgotten(call) => {
                    self.reported.forget(call);
                    self.table.remove(call);
                    self.outbox.close(call);
                }
                TableUpdate::Claims(call, claims, time) => {
                    self.table.set(call, &claims, time);
                    self.resolve_early(time);
                    for claim in claims.iter() {
                        self.claim_orphans(claim.endpoint, time);
                    }
                }
                TableUpdate::Learned(call, flow, time) => {
                    self.table.learn(call, flow);
                    self.resolve_early(time);
                    self.claim_orphans(flow.source, time);
                }
            }
        }
    }

    fn claim_orphans(&mut self, endpoint: Endpoint, time: PacketTime) {
        let Self { orphans, flows, table, outbox, outcomes, .. } = self;
        orphans.claim(endpoint, |key, entry| {
            let Ok(view) = RtpView::parse_header(entry.payload) else { return false };
            match flows.find(key, view.seq(), entry.time, table) {
                Found::Unknown => false,
                Found::AfterEnd => {
                    outcomes.add(FrameOutcome::AfterEnd);
                    true
                }
                Found::Calls(targets) => {
                    let mut outcome = FrameOutcome::Rtp;
                    for target in targets.iter() {
                        outbox.mark_claimed(target.call, time);
                        outcome = deliver(outbox, target, targets.told, *entry);
                    }
                    outcomes.add(outcome);
                    true
                }
            }
        });
    }

    fn datagram(&mut self, packet: MediaPacket<'_>) -> Option<FrameOutcome> {
        if looks_like_sip(packet.payload) == Likeness::Yes {
            if packet.sighting == Sighting::Repeated {
                return Some(FrameOutcome::Duplicate);
            }
            let outcome = self.port.message(packet.time, packet.flow, packet.payload);
            self.apply_updates();
            return Some(outcome);
        }
        // Before its first bytes are looked at: a sequence number may look like anything.
        if let Some(outcome) = self.fax(packet) {
            return Some(outcome);
        }
        match classify(packet.payload) {
            Datagram::Stun | Datagram::Other => {
                if let Some(payload) = relayed(packet.payload) {
                    return self.media(MediaPacket { payload, ..packet });
                }
                Some(not_voip(packet.sighting))
            }
            _ => self.media(packet),
        }
    }

    fn media(&mut self, packet: MediaPacket<'_>) -> Option<FrameOutcome> {
        match classify(packet.payload) {
            Datagram::Rtp => self.rtp(packet),
            Datagram::Rtcp => self.beside(packet, EntryKind::Rtcp),
            Datagram::Dtls | Datagram::Zrtp => self.beside(packet, EntryKind::KeyExchange),
            _ => Some(not_voip(packet.sighting)),
        }
    }

    /// Takes a packet that continues a stream in full swing.
    fn express(
        &mut self,
        time: PacketTime,
        tag: u64,
        plain: &PlainRtp<'_>,
    ) -> Option<FrameOutcome> {
        let Self { express, table, outbox, .. } = self;
        let pass = express.pass(tag, plain, time, |stamp| table.is_current(stamp))?;
        let (source, destination) = plain.endpoints();
        let (ticket, kind, payload) = match pass {
            Pass::On(ticket) => (ticket, EntryKind::Rtp, plain.packet),
            Pass::Copy(ticket) => {
                (ticket, EntryKind::DuplicateRtp, plain.packet.get(..12).unwrap_or_default())
            }
        };
        let channel = ticket.sender;
        let entry = PacketEntry { time, source, destination, kind, channel, payload };
        Some(match outbox.push(ticket.call, &entry) {
            _ if kind == EntryKind::DuplicateRtp => FrameOutcome::Duplicate,
            Pushed::Taken => FrameOutcome::Rtp,
            Pushed::Full => FrameOutcome::QueueFull,
            Pushed::NoCall => FrameOutcome::CallLimit,
        })
    }

    /// A packet of perhaps a known stream goes the slow way; true when its frame passed a moment ago.
    fn leave_express(&mut self, time: PacketTime, tag: u64, plain: &PlainRtp<'_>) -> bool {
        let Some(seen) = self.express.leave(tag) else { return false };
        let (source, destination) = plain.endpoints();
        self.flows.touch(FlowKey { source, destination, ssrc: Ssrc(plain.ssrc) }, seen);
        self.express.has_passed(tag, plain, time)
    }

    /// A packet went the slow way into a call: those after it need not.
    fn admit_express(&mut self, packet: MediaPacket<'_>, tag: u64, plain: &PlainRtp<'_>) {
        let (source, destination) = plain.endpoints();
        let key = FlowKey { source, destination, ssrc: Ssrc(plain.ssrc) };
        // Not what was within a tunnel.
        let is_it = (packet.flow.source, packet.flow.destination) == (source, destination);
        if let Some((target, stamp)) = self.flows.only(key).filter(|_| is_it) {
            let ticket = Ticket { call: target.call, sender: target.sender, stamp };
            self.express.admit(tag, plain, packet.time, ticket);
        }
    }

    fn segment(
        &mut self,
        time: PacketTime,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
    ) -> FrameOutcome {
        let Self { port, tcp, secure, .. } = self;
        let mut refused = None;
        let reads_tls = secure.is_some();
        let wanted = |bytes: &[u8]| match look(bytes) {
            Look::Sip | Look::WebSocket | Look::Hep => Interest::Wanted,
            Look::Tls(_) if reads_tls => Interest::Wanted,
            Look::Unclear => Interest::NeedMore,
            Look::Tls(_) | Look::Other => Interest::Unwanted,
        };
        let outcome =
            tcp.segment(flow, segment, time, wanted, |flow, carried, bytes, continuity| {
                carry(secure, carried, (flow, bytes, continuity), time, |flow, message| {
                    let outcome = port.message(time, *flow, message);
                    if outcome != FrameOutcome::Sip {
                        refused = Some(outcome);
                    }
                });
            });
        let outcome = self.settled(flow, segment, outcome);
        self.apply_updates();
        match refused {
            Some(refused) if outcome == FrameOutcome::Sip => refused,
            _ => outcome,
        }
    }

    /// The outcome of a segment that TCP counts as wanted, by what its direction turned out to carry.
    fn settled(
        &mut self,
        flow: FiveTuple,
        segment: TcpSegment<'_>,
        outcome: FrameOutcome,
    ) -> FrameOutcome {
        let TcpMoves { not_voip_to_sip: before, .. } = self.tcp.moves();
        let is_wanted = outcome == FrameOutcome::Sip;
        let carries = match (self.tcp.state(&flow), &mut self.secure) {
            (Some(Carried::Tls(_)), Some(secure)) if is_wanted => {
                secure.frames(&flow, before.saturating_add(1))
            }
            (Some(Carried::Other), _) if is_wanted => FrameOutcome::NotVoip,
            (Some(Carried::WebSocket(socket)), _) if is_wanted && !socket.is_open() => {
                FrameOutcome::NotVoip
            }
            // In the middle of a connection whose hellos were not seen.
            (None, Some(_))
                if outcome == FrameOutcome::NotVoip && tls::is_record(segment.payload) =>
            {
                FrameOutcome::TlsWithoutKey
            }
            _ => outcome,
        };
        let is_over = matches!(self.tcp.state(&flow), Some(Carried::Other | Carried::Tls(_)));
        if is_over && carries == FrameOutcome::NotVoip {
            self.tcp.forget(&flow);
        }
        self.apply_tcp_moves(if outcome == FrameOutcome::Sip {
            carries
        } else {
            FrameOutcome::Sip
        });
        carries
    }

    /// Frames of a TCP direction that was not known to be wanted when they came. `carries`: what it carries.
    fn apply_tcp_moves(&mut self, carries: FrameOutcome) {
        let moves = self.tcp.take_moves();
        let secure = self.secure.as_mut().map(Secure::take_moves).unwrap_or_default();
        let mut shift = |from, to, frames| {
            self.outcomes.take_many(from, frames);
            self.outcomes.add_many(to, frames);
        };
        shift(FrameOutcome::NotVoip, carries, moves.not_voip_to_sip);
        shift(FrameOutcome::NotVoip, FrameOutcome::TcpControl, moves.not_voip_to_tcp_control);
        shift(FrameOutcome::Sip, FrameOutcome::TcpDropped, moves.sip_to_tcp_dropped);
        shift(FrameOutcome::TlsWithoutKey, FrameOutcome::Sip, secure.to_sip);
        shift(FrameOutcome::TlsWithoutKey, FrameOutcome::NotVoip, secure.to_not_voip);
    }

    fn rtp(&mut self, packet: MediaPacket<'_>) -> Option<FrameOutcome> {
        let MediaPacket { time, flow, payload, sighting } = packet;
        let Ok(view) = RtpView::parse_header(payload) else { return Some(FrameOutcome::NotVoip) };
        let FiveTuple { source, destination, .. } = flow;
        let key = FlowKey { source, destination, ssrc: view.ssrc() };
        let is_copy = sighting == Sighting::Repeated;
        let (kind, payload) = match sighting {
            Sighting::First => (EntryKind::Rtp, payload),
            Sighting::Repeated => (EntryKind::DuplicateRtp, view.header_bytes()),
        };
        let channel = Channel::Caller;
        let entry = PacketEntry { time, source, destination, kind, channel, payload };
        let found = self.flows.find(key, view.seq(), time, &self.table);
        let outcome = match found {
            Found::Calls(targets) => self.deliver_all(&targets, entry),
            Found::AfterEnd => FrameOutcome::AfterEnd,
            Found::Unknown if is_copy => FrameOutcome::Duplicate,
            Found::Unknown => return self.nobodys(key, view.seq(), entry),
        };
        Some(if is_copy { FrameOutcome::Duplicate } else { outcome })
    }

    /// Keeps a packet of nobody, and tells of its flow when there is something new to tell.
    #[cold]
    fn nobodys(&mut self, key: FlowKey, seq: u16, entry: PacketEntry<'_>) -> Option<FrameOutcome> {
        if self.last_looks(entry.time) {
            if let Found::Calls(targets) = self.flows.find(key, seq, entry.time, &self.table) {
                return Some(self.deliver_all(&targets, entry));
            }
        }
        self.orphans.keep(key, &entry);
        if let Some(sight) = self.orphans.due_look(key, entry.time) {
            self.tell(entry.time, sight);
        }
        self.resolve_orphans();
        None
    }

    fn deliver_all(&mut self, targets: &Targets, entry: PacketEntry<'_>) -> FrameOutcome {
        let mut outcome = FrameOutcome::Rtp;
        for target in targets.iter() {
            outcome = deliver(&mut self.outbox, target, targets.told, entry);
        }
        outcome
    }
}

const fn not_voip(sighting: Sighting) -> FrameOutcome {
    match sighting {
        Sighting::Repeated => FrameOutcome::Duplicate,
        Sighting::First => FrameOutcome::NotVoip,
    }
}

/// Hands a packet to one call, and first, where it does not know, how the packet's flow was found.
fn deliver(
    outbox: &mut Outbox,
    target: Target,
    told: Told,
    entry: PacketEntry<'_>,
) -> FrameOutcome {
    match target.role {
        ClaimRole::Loser => return FrameOutcome::LosingFork,
        ClaimRole::NotAudio => return FrameOutcome::NotAudio,
        ClaimRole::Audio | ClaimRole::Candidate | ClaimRole::Rtcp | ClaimRole::Fax => {}
    }
    let entry = PacketEntry { channel: target.sender, ..entry };
    if told == Told::NotYet {
        let code = [target.by.code()];
        outbox
            .push(target.call, &PacketEntry { kind: EntryKind::Matched, payload: &code, ..entry });
    }
    match outbox.push(target.call, &entry) {
        Pushed::Taken => FrameOutcome::Rtp,
        Pushed::Full => FrameOutcome::QueueFull,
        Pushed::NoCall => FrameOutcome::CallLimit,
    }
}

/// Gives a TCP direction's bytes to what it carries; TLS goes on to its connection.
fn carry(
    secure: &mut Option<Secure>,
    carried: &mut Carried,
    (flow, bytes, continuity): (&FiveTuple, &[u8], Continuity),
    time: PacketTime,
    mut on_message: impl FnMut(&FiveTuple, &[u8]),
) {
    let records = carried.feed(flow, bytes, continuity, &mut on_message);
    if let (Some((side, records)), Some(secure)) = (records, secure) {
        secure.feed(flow, side, &records, time, on_message);
    }
}

impl<P: SipPort> FrameSink for Front<P> {
    fn frame(&mut self, frame: Frame<'_>) {
        let rest = &mut self.rest;
        rest.received = rest.received.wrapping_add(1);
        let time = frame.time.max(rest.now);
        rest.now = time;
        rest.port.tick(time);
        rest.apply_updates();
        let plain = plain_rtp(&frame).map(|plain| (rest.express.tag(&plain), plain));
        let mut is_copy = false;
        if let Some((tag, plain)) = &plain {
            if let Some(outcome) = rest.express(time, *tag, plain) {
                rest.outcomes.add(outcome);
                return;
            }
            is_copy = rest.leave_express(time, *tag, plain);
        }
        let outcome = match self.decap.frame(&frame) {
            Decapped::Done(outcome) => Some(outcome),
            Decapped::Udp { flow, payload, sighting, .. } => {
                let sighting = if is_copy { Sighting::Repeated } else { sighting };
                let packet = MediaPacket { time, flow, payload, sighting };
                let outcome = rest.datagram(packet);
                if let Some((tag, plain)) = plain.filter(|_| outcome == Some(FrameOutcome::Rtp)) {
                    rest.admit_express(packet, tag, &plain);
                }
                outcome
            }
            Decapped::Tcp { sighting: Sighting::Repeated, .. } => Some(FrameOutcome::Duplicate),
            Decapped::Tcp { flow, segment, .. } => Some(rest.segment(time, flow, segment)),
        };
        if let Some(outcome) = outcome {
            rest.outcomes.add(outcome);
        }
        let given_up = self.decap.take_dropped();
        if given_up > 0 {
            self.rest.move_fragments(given_up);
        }
    }
}
