//! Media that fits no SDP by its addresses.
//!
//! Purpose: give a flow of strangers to the one call that it can be of, and say by what evidence.
//! Invariants: where two calls could be meant, neither gets it; calls are compared with a bounded
//! number of flows a second; what is learned stays until the call lets go of its addresses.
//! Non-goals: flows that SDP names (see `rtp::flow_table`), calls made from media (`from_media`).
//! Sources: RFC 3264 §5.1, RFC 4961 (symmetric RTP), RFC 8445 (why addresses differ).
//!
//! ```text
//!  SSRC announced (a=ssrc)             the only call that announced it                      ssrc
//!  SSRC in RTCP of announced addresses the call that it is of, party silent                 ssrc
//!  source announced by several calls   the one of them that has not heard this party    symmetric
//!  both ports announced, elsewhere     the only call, party silent                      port 0.8
//!  one port announced, elsewhere       the only call, party not heard, format known     port 0.6
//!  one IP address announced            the only call, answered, as above, only flow     time
//! ```

use super::conversation::Conversation;
use super::correlator::Correlator;
use super::event::CallEvent;
use super::from_media::MediaCalls;
use crate::base::limits::{CALLS_COMPARED_PER_S_MAX, LEARNED_PER_CALL_MAX, STRANGERS_MAX};
use crate::base::{CallIndex, Channel, Endpoint, PacketTime};
use crate::rtp::flow_table::{Claim, ClaimRole, LearnedFlow};
use crate::rtp::matched_by::MatchedBy;
use crate::rtp::sight::{FlowSight, Occasion, Sound};
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};

/// Packets before one port or one address is enough: time for the SDP to come after all, and short
/// enough for the recording to take what has waited.
const PATIENCE_PACKETS: usize = 10;

/// A party that was not heard for so long may have gone on from another address.
const SILENT_MS: i64 = 1_000;

/// What is known of flows that SDP does not name.
#[derive(Debug, Default)]
pub struct Strangers {
    learned: HashMap<(Endpoint, Endpoint), CallIndex, RandomState>,
    by_call: HashMap<CallIndex, Vec<(Endpoint, Endpoint)>, RandomState>,
    /// Flows of strangers that were seen lately, oldest first.
    seen: VecDeque<(PacketTime, Endpoint, Endpoint)>,
    second: i64,
    compared: usize,
    calls: MediaCalls,
}

/// Tells when a party of a call was last heard.
pub type Heard<'a> = &'a dyn Fn(CallIndex, Channel) -> Option<PacketTime>;

/// Whether a flow can be of a call.
type Rule<'a> = dyn Fn(&Conversation) -> Option<Fitting> + 'a;

/// How a flow fits a call.
#[derive(Clone, Copy)]
struct Fitting {
    sender: Channel,
    role: ClaimRole,
    by: MatchedBy,
}

impl Strangers {
    /// Of which calls are made, or not.
    pub(super) fn new(calls: MediaCalls) -> Self {
        Self { calls, ..Self::default() }
    }

    /// Whether so many calls may be compared with one more flow in this second.
    fn may_compare(&mut self, now: PacketTime, calls: usize) -> bool {
        let second = now.ns().div_euclid(crate::base::time::NS_PER_S);
        if second != self.second {
            (self.second, self.compared) = (second, 0);
        }
        self.compared = self.compared.saturating_add(calls.max(1));
        self.compared <= CALLS_COMPARED_PER_S_MAX
    }

    fn note_seen(&mut self, now: PacketTime, sight: &FlowSight) {
        let old = |seen: &(PacketTime, Endpoint, Endpoint)| now.ms_since(seen.0) > SEEN_MS;
        while self.seen.len() >= STRANGERS_MAX || self.seen.front().is_some_and(old) {
            self.seen.pop_front();
        }
        if !self.seen.iter().any(|seen| (seen.1, seen.2) == (sight.source, sight.destination)) {
            self.seen.push_back((now, sight.source, sight.destination));
        }
    }

    /// Notes that a call has learned a flow; false when it has learned enough.
    pub(super) fn learn(&mut self, call: CallIndex, flow: &LearnedFlow) -> bool {
        let known = self.by_call.entry(call).or_default();
        let key = pair(flow.source, flow.destination);
        let is_new = known.len() < LEARNED_PER_CALL_MAX && !self.learned.contains_key(&key);
        if is_new {
            known.push(key);
            self.learned.insert(key, call);
        }
        is_new
    }

    /// A call lets go of its addresses.
    pub(super) fn forget(&mut self, call: CallIndex) {
        for key in self.by_call.remove(&call).unwrap_or_default() {
            self.learned.remove(&key);
        }
    }

    pub(super) fn is_learned(&self, one: Endpoint, other: Endpoint) -> bool {
        self.learned.contains_key(&pair(one, other))
    }
}

/// How long a flow of strangers is remembered as a rival of another.
const SEEN_MS: i64 = 5_000;

/// One key for both ways of a flow.
pub(super) fn pair(one: Endpoint, other: Endpoint) -> (Endpoint, Endpoint) {
    if one <= other { (one, other) } else { (other, one) }
}

impl Correlator {
    /// Takes what a flow of nobody looks like at `now`, and gives it to the call that it is of, where
    /// there is no doubt. `heard` tells when a party of a call was last heard.
    pub fn on_sight(&mut self, now: PacketTime, sight: &FlowSight, heard: Heard<'_>) {
        if self.strangers.is_learned(sight.source, sight.destination) {
            return;
        }
        self.strangers.note_seen(now, sight);
        if !self.strangers.may_compare(now, self.table.live()) {
            return;
        }
        if let Some((call, flow)) = self.owner(sight, heard) {
            self.learn(call, flow, now);
        } else if self.strangers.calls == MediaCalls::Made && sight.occasion == Occasion::Last {
            self.open_from_media(now, sight);
        }
    }

    /// Gives a flow to a call.
    pub(super) fn learn(&mut self, call: CallIndex, flow: LearnedFlow, time: PacketTime) {
        if self.strangers.learn(call, &flow) {
            self.events.push(CallEvent::Learned { call, flow, time });
        }
    }

    /// The one call that a flow can be of.
    fn owner(&self, sight: &FlowSight, heard: Heard<'_>) -> Option<(CallIndex, LearnedFlow)> {
        let rules: [&Rule<'_>; 6] = [
            &|call| by_ssrc(call, sight),
            &|call| by_report(call, sight, heard),
            &|call| shared_source(call, sight, heard),
            &|call| port_pair(call, sight, heard),
            &|call| one_port(call, sight, heard),
            &|call| by_time(call, sight, heard, &self.strangers.seen),
        ];
        for rule in rules {
            let mut fits = self
                .table
                .conversations()
                .filter(|call| call.over_at.is_none())
                .filter_map(|call| rule(call).map(|fitting| (call.index, fitting)));
            let (Some((call, fitting)), rival) = (fits.next(), fits.next()) else { continue };
            if rival.is_some() {
                return None;
            }
            let Fitting { sender, role, by } = fitting;
            let FlowSight { source, destination, .. } = *sight;
            return Some((call, LearnedFlow { source, destination, sender, role, by }));
        }
        None
    }
}

/// SDP says that a party sends with this SSRC (RFC 5576 §4.1).
fn by_ssrc(call: &Conversation, sight: &FlowSight) -> Option<Fitting> {
    let mut senders = call.ssrcs.iter().filter(|(_, ssrc)| *ssrc == sight.ssrc.0);
    let (sender, _) = *senders.next()?;
    let is_clear = senders.all(|(other, _)| *other == sender) && is_readable(call, sender, sight);
    let (role, by) = (ClaimRole::Audio, MatchedBy::Ssrc);
    is_clear.then_some(Fitting { sender, role, by })
}

/// RTCP of the call says that a party sends with this SSRC (RFC 3550 §6.4.1), and it is not heard
/// elsewhere: a tap on both sides of a relay sees the same media twice.
fn by_report(call: &Conversation, sight: &FlowSight, heard: Heard<'_>) -> Option<Fitting> {
    let (_, sender) = sight.reported.filter(|(index, _)| *index == call.index)?;
    let fits = is_silent(call, sender, sight, heard) && is_readable(call, sender, sight);
    fits.then_some(Fitting { sender, role: ClaimRole::Audio, by: MatchedBy::Ssrc })
}

/// The source was announced, by several calls (else the table had known it): the one that waits for
/// this party's sound is meant.
fn shared_source(call: &Conversation, sight: &FlowSight, heard: Heard<'_>) -> Option<Fitting> {
    let mut at_source = call.claims.iter().filter(|claim| claim.endpoint == sight.source);
    let claim = at_source.find(|claim| claim.role == ClaimRole::Audio)?;
    let sender = claim.party;
    (sight.looks.sound.is_audio() && waits(call, sender, sight, heard)).then_some(Fitting {
        sender,
        role: ClaimRole::Audio,
        by: MatchedBy::Symmetric,
    })
}

/// Both ports stand in the call's SDP, one for each party, for media of one kind.
fn port_pair(call: &Conversation, sight: &FlowSight, heard: Heard<'_>) -> Option<Fitting> {
    let of = |party: Channel, end: Endpoint| {
        let is_it = move |claim: &&Claim| {
            claim.party == party && claim.endpoint.port == end.port && is_media(claim.role)
        };
        call.claims.iter().filter(is_it).map(|claim| claim.role)
    };
    let fits = |sender: Channel| {
        let mut roles = of(sender, sight.source);
        roles.find(|role| of(sender.other(), sight.destination).any(|other| other == *role))
    };
    let [by_caller, by_callee] = [Channel::Caller, Channel::Callee].map(fits);
    let (sender, role) = match (by_caller, by_callee) {
        (Some(role), None) => (Channel::Caller, role),
        (None, Some(role)) => (Channel::Callee, role),
        // The same port on both sides says nothing of who sends: the addresses must.
        _ => return None,
    };
    // A tap on both sides of a NAT sees the same media twice: the announced flow is enough.
    let is_sound = is_readable(call, sender, sight) && is_silent(call, sender, sight, heard);
    (role == ClaimRole::NotAudio || is_sound).then_some(Fitting {
        sender,
        role,
        by: MatchedBy::PortPair,
    })
}

/// One port stands in the call's SDP, and the party that would speak has not been heard.
fn one_port(call: &Conversation, sight: &FlowSight, heard: Heard<'_>) -> Option<Fitting> {
    if sight.looks.packets < PATIENCE_PACKETS || !sight.looks.sound.is_audio() {
        return None;
    }
    let mut senders =
        call.claims.iter().filter(|claim| claim.role == ClaimRole::Audio).filter_map(|claim| {
            match claim.endpoint.port {
                port if port == sight.source.port => Some(claim.party),
                port if port == sight.destination.port => Some(claim.party.other()),
                _ => None,
            }
        });
    let sender = senders.next()?;
    let is_clear = senders.all(|other| other == sender) && waits(call, sender, sight, heard);
    let role = ClaimRole::Audio;
    is_clear.then_some(Fitting { sender, role, by: MatchedBy::Port })
}

/// One address stands in the call's SDP, with another port; the call was answered, lacks this party,
/// and no other flow of strangers could be meant.
fn by_time(
    call: &Conversation,
    sight: &FlowSight,
    heard: Heard<'_>,
    seen: &VecDeque<(PacketTime, Endpoint, Endpoint)>,
) -> Option<Fitting> {
    let is_ready = sight.looks.packets >= PATIENCE_PACKETS && sight.looks.sound.is_audio();
    if !is_ready || call.facts.answered_at.is_none() {
        return None;
    }
    let sender = speaker_by_address(call, sight.source, sight.destination)?;
    let rivals = seen.iter().filter(|(_, source, destination)| {
        (*source, *destination) != (sight.source, sight.destination)
            && speaker_by_address(call, *source, *destination) == Some(sender)
    });
    let is_clear = rivals.count() == 0 && waits(call, sender, sight, heard);
    let role = ClaimRole::Audio;
    is_clear.then_some(Fitting { sender, role, by: MatchedBy::Time })
}

/// Who speaks in a flow between an address of the call and another; `None` where that is not clear.
fn speaker_by_address(
    call: &Conversation,
    source: Endpoint,
    destination: Endpoint,
) -> Option<Channel> {
    let audio = || call.claims.iter().filter(|claim| claim.role == ClaimRole::Audio);
    let at = |end: Endpoint| {
        let mut parties = audio().filter(move |claim| claim.endpoint.ip == end.ip);
        parties.next().map(|first| (first.party, parties.all(|it| it.party == first.party)))
    };
    match (at(source), at(destination)) {
        (Some((party, true)), None) => Some(party),
        (None, Some((party, true))) => Some(party.other()),
        (Some((one, true)), Some((other, true))) if one != other => Some(one),
        _ => None,
    }
}

/// True when the party was not heard lately, as the flow begins.
fn is_silent(call: &Conversation, sender: Channel, sight: &FlowSight, heard: Heard<'_>) -> bool {
    let is_long_ago = |last| sight.first.ms_since(last) > SILENT_MS;
    heard(call.index, sender).is_none_or(is_long_ago)
}

/// True when the call expects this party's sound in this format, and has not heard the party.
fn waits(call: &Conversation, sender: Channel, sight: &FlowSight, heard: Heard<'_>) -> bool {
    heard(call.index, sender).is_none() && is_readable(call, sender, sight)
}

/// True when the flow's payload type was negotiated, or is a static one of what it looks like.
fn is_readable(call: &Conversation, sender: Channel, sight: &FlowSight) -> bool {
    let format =
        call.plan.sending(sender, sight.source, sight.destination).format(sight.looks.payload_type);
    format.is_some() && sight.looks.sound != Sound::Unconvincing
}

const fn is_media(role: ClaimRole) -> bool {
    matches!(role, ClaimRole::Audio | ClaimRole::NotAudio)
}
