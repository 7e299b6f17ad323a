//! A conversation: the legs that are recorded as one call, and what is told of them.
//!
//! Purpose: join the claims and plans of a conversation's legs, say when it is answered, who speaks
//! on a channel, and when it is over.
//! Invariants: a conversation is over when no leg is live and no transfer is on its way; its claims and
//! plan are told when they change, the plan before the answer; a leg that joins never changes what
//! was recorded before.
//! Non-goals: what a message means to its leg (see `leg`), who joins (see `join`).
//! Sources: RFC 5589 (transfer), RFC 3264 (whose media is where).

use super::correlator::Correlator;
use super::dialog::Branch;
use super::event::{CallEvent, CallFacts, EndReason, LegFacts, Party, Speaker};
use super::join::{Join, JoinedBy};
use super::leg::{Leg, Orientation, Phase};
use super::lingering;
use super::media_description::MediaDescription;
use super::table::CallTable;
use crate::base::limits::{
    CLAIMS_PER_CALL_MAX, SPEAKERS_PER_CALL_MAX, SSRCS_PER_CALL_MAX, TRANSFER_WAIT_MS,
};
use crate::base::{CallId, CallIndex, Channel, Endpoint, PacketTime};
use crate::rtp::flow_table::{Claim, ClaimRole};
use crate::rtp::plan::{Control, LegPlan, MediaPlan};

/// Legs that are recorded as one.
#[derive(Debug)]
pub struct Conversation {
    /// The index of its first leg.
    pub index: CallIndex,
    /// Its id, once it is known.
    pub id: Option<CallId>,
    /// Its legs, in the order in which they joined.
    pub legs: Vec<CallIndex>,
    /// What is told of it.
    pub facts: CallFacts,
    /// What was published last.
    pub claims: Vec<Claim>,
    /// What was published last.
    pub plan: MediaPlan,
    /// SSRCs that its parties said they send with.
    pub ssrcs: Vec<(Channel, u32)>,
    /// When we learned that it is over.
    pub over_at: Option<PacketTime>,
    /// Until when the call that a REFER asked for is waited for, all legs being over.
    pub transfer_until: Option<PacketTime>,
    /// Between which two addresses a leg of it sends its media (see `absorb`).
    pub media_ends: Option<(Endpoint, Endpoint)>,
    /// What other legs may name it by (see `join`).
    pub keys: Vec<Vec<u8>>,
}

impl Conversation {
    /// One that begins with `leg`.
    #[must_use]
    pub fn new(leg: &Leg, now: PacketTime, keys: Vec<Vec<u8>>) -> Self {
        let facts = CallFacts {
            sip_call_id: String::from_utf8_lossy(&leg.sip_call_id).into_owned(),
            started_at: now,
            answered_at: None,
            ended: None,
            status_code: None,
            origin: leg.origin,
            caller: leg.caller.clone(),
            callee: leg.callee.clone(),
            legs: Vec::new(),
            speakers: Vec::new(),
            joined_to: None,
        };
        Self {
            index: leg.index,
            id: None,
            legs: vec![leg.index],
            facts,
            claims: Vec::new(),
            plan: MediaPlan::default(),
            ssrcs: Vec::new(),
            over_at: None,
            transfer_until: None,
            media_ends: None,
            keys,
        }
    }

    /// Another party speaks on `channel` since `since`.
    fn speaks(&mut self, channel: Channel, party: Party, since: PacketTime) {
        let facts = &mut self.facts;
        if facts.speakers.is_empty() {
            let began = facts.answered_at.unwrap_or(facts.started_at);
            let first = [(Channel::Caller, &facts.caller), (Channel::Callee, &facts.callee)];
            let first = first.map(|(channel, party)| Speaker {
                channel,
                party: party.clone(),
                since: began,
            });
            facts.speakers.extend(first);
        }
        if facts.speakers.len() < SPEAKERS_PER_CALL_MAX {
            facts.speakers.push(Speaker { channel, party, since });
        }
    }
}

impl Correlator {
    /// A leg that no conversation knew joins one, before anything of it was recorded.
    pub(super) fn join(&mut self, now: PacketTime, leg: CallIndex, join: Join) {
        let Some(joined) = self.table.get_mut(leg) else { return };
        joined.conversation = join.conversation;
        joined.orientation = join.orientation;
        joined.joined = Some(join.by);
        let call_id = joined.sip_call_id.clone();
        if let Some(it) = self.table.conversation_mut(join.conversation) {
            it.legs.push(leg);
            it.transfer_until = None;
        }
        self.tell_leg(join.conversation, &call_id, join.by, now, None);
        if let Some(consultation) = join.consultation {
            self.tell_consultation(now, consultation, join.conversation);
        }
    }

    /// Two of the three spoke apart before an attended transfer: their call keeps its own recording,
    /// and says whose it is.
    fn tell_consultation(&mut self, now: PacketTime, other: CallIndex, conversation: CallIndex) {
        let main = self.table.conversation(conversation).and_then(|it| it.id);
        let Some(it) = self.table.conversation_mut(other) else { return };
        if it.facts.joined_to.is_some() {
            return;
        }
        it.facts.joined_to = main;
        let (call_id, id) = (it.facts.sip_call_id.clone(), it.id);
        let facts = Box::new(it.facts.clone());
        self.events.push(CallEvent::Changed { call: other, facts });
        self.tell_leg(conversation, call_id.as_bytes(), JoinedBy::Replaces, now, id);
    }

    pub(super) fn tell_leg(
        &mut self,
        conversation: CallIndex,
        call_id: &[u8],
        by: JoinedBy,
        since: PacketTime,
        recorded_apart: Option<CallId>,
    ) {
        let Some(it) = self.table.conversation_mut(conversation) else { return };
        let sip_call_id = String::from_utf8_lossy(call_id).into_owned();
        it.facts.legs.push(LegFacts { sip_call_id, by, since, recorded_apart });
        let facts = Box::new(it.facts.clone());
        self.events.push(CallEvent::Changed { call: conversation, facts });
    }

    /// A conversation has got its id.
    pub fn name(&mut self, conversation: CallIndex, id: CallId) {
        if let Some(it) = self.table.conversation_mut(conversation) {
            it.id = Some(id);
        }
    }

    /// A leg was answered.
    pub(super) fn on_answer(&mut self, leg: CallIndex, now: PacketTime) {
        let Some(leg) = self.table.get(leg) else { return };
        let (index, status) = (leg.conversation, leg.status_code);
        let speaker = leg.joined.and_then(JoinedBy::new_party).map(|party| {
            let who = if party == Channel::Caller { &leg.caller } else { &leg.callee };
            (leg.orientation.channel(party), who.clone())
        });
        // The plan first: media held since before the answer is told from losers by it.
        self.publish(index, now);
        let Some(it) = self.table.conversation_mut(index) else { return };
        if let Some((channel, party)) = speaker {
            it.speaks(channel, party, now);
        }
        it.facts.status_code = status.or(it.facts.status_code);
        self.tell_answer(index, now);
    }

    /// A leg of a conversation is answered; the first time, so is the conversation.
    pub(super) fn tell_answer(&mut self, index: CallIndex, now: PacketTime) {
        let Some(it) = self.table.conversation_mut(index) else { return };
        if it.facts.answered_at.is_none() {
            it.facts.answered_at = Some(now);
            let control = Control::Answered;
            self.events.push(CallEvent::Control { call: index, time: now, control });
        }
        let facts = Box::new(it.facts.clone());
        self.events.push(CallEvent::Changed { call: index, facts });
    }

    /// Ends a leg at `at`, which may lie before `now` (a timeout ends with the last media), and its
    /// conversation when it was the last one.
    pub(super) fn end_leg(
        &mut self,
        leg: CallIndex,
        now: PacketTime,
        at: PacketTime,
        reason: EndReason,
    ) {
        let Some(it) = self.table.get_mut(leg) else { return };
        it.phase = Phase::Ended { at, reason };
        it.lingers = reason == EndReason::Bye;
        let (lingers, conversation) = (it.lingers, it.conversation);
        let awaits = self.joins.awaits(conversation, now);
        if !self.table.has_live_leg(conversation) && !awaits {
            self.finish(conversation, leg, now);
            return;
        }
        if lingers {
            let mut claims = Vec::new();
            if let Some(leg) = self.table.get(leg) {
                let _ = leg_media(leg, &mut claims);
            }
            self.lingering.add(now, leg, conversation, claims);
        }
        let is_waiting = !self.table.has_live_leg(conversation);
        if let Some(it) = self.table.conversation_mut(conversation).filter(|_| is_waiting) {
            it.transfer_until = Some(now.plus_ms(TRANSFER_WAIT_MS));
        }
        self.publish(conversation, now);
    }

    /// A conversation is over; `leg` was its last one. After a BYE the claims stay for a while, and
    /// the media is final only then: see `lingering`.
    pub(super) fn finish(&mut self, conversation: CallIndex, leg: CallIndex, now: PacketTime) {
        let Some((at, reason)) = end_of(&self.table, conversation) else { return };
        let status = self.table.get(conversation).and_then(|leg| leg.status_code);
        let Some(it) = self.table.conversation_mut(conversation) else { return };
        it.facts.status_code = it.facts.status_code.or(status);
        let claims = std::mem::take(&mut it.claims);
        let lingers = reason == EndReason::Bye && at >= now;
        let final_at = if lingers { lingering::until(now) } else { now };
        self.close(conversation, now, (at, reason), final_at);
        if lingers {
            self.lingering.add(now, leg, conversation, claims);
        } else {
            self.let_go_now(conversation, now);
        }
    }

    /// A conversation is over since `now`, having ended at `at`; nothing joins it any more, and at
    /// `final_at` no packet of it is on its way.
    pub(super) fn close(
        &mut self,
        call: CallIndex,
        now: PacketTime,
        (at, reason): (PacketTime, EndReason),
        final_at: PacketTime,
    ) {
        let Some(it) = self.table.conversation_mut(call) else { return };
        it.over_at = Some(now);
        it.facts.ended = Some((at, reason));
        let (caller, keys) = (it.facts.caller.number.clone(), std::mem::take(&mut it.keys));
        let ends = it.media_ends.take();
        self.events.push(CallEvent::Ended { call, facts: Box::new(it.facts.clone()) });
        self.joins.end(call, &caller, &keys, ends);
        let last_packet_ms = if reason == EndReason::Timeout { LAST_PACKET_MS } else { 0 };
        let control = Control::Ended { at_ns: at.plus_ms(last_packet_ms).ns() };
        self.events.push(CallEvent::Control { call, time: final_at, control });
    }

    /// A conversation that is over claims nothing any more.
    pub(super) fn let_go_now(&mut self, call: CallIndex, time: PacketTime) {
        self.events.push(CallEvent::Claims { call, claims: Vec::new(), time });
    }

    /// A leg that a BYE ended lets go of its addresses.
    pub(super) fn let_go_of(&mut self, leg: CallIndex, conversation: CallIndex, time: PacketTime) {
        if let Some(leg) = self.table.get_mut(leg) {
            leg.lingers = false;
        }
        let is_over = self.table.conversation(conversation).is_none_or(|it| it.over_at.is_some());
        if !is_over {
            self.publish(conversation, time);
        } else if !self.table.legs_of(conversation).any(|leg| leg.lingers) {
            self.let_go_now(conversation, time);
        }
    }

    /// Publishes a conversation's claims and plan where they changed.
    pub(super) fn publish(&mut self, index: CallIndex, now: PacketTime) {
        let (claims, plan) = described(&self.table, index);
        let ssrcs = announced_ssrcs(&self.table, index);
        let Some(it) = self.table.conversation_mut(index) else { return };
        if it.over_at.is_some() {
            return;
        }
        it.ssrcs = ssrcs;
        if claims != it.claims {
            it.claims.clone_from(&claims);
            self.events.push(CallEvent::Claims { call: index, claims, time: now });
        }
        if let Some(plan) = plan.filter(|plan| *plan != it.plan) {
            it.plan = plan.clone();
            let control = Control::Plan(plan);
            self.events.push(CallEvent::Control { call: index, time: now, control });
        }
    }
}

/// A call that timed out is recorded to the end of its last packet, which lasts this long.
const LAST_PACKET_MS: i64 = 20;

/// When and why a conversation ended: with the last of its answered legs; one that nobody answered,
/// as its first leg.
fn end_of(table: &CallTable, conversation: CallIndex) -> Option<(PacketTime, EndReason)> {
    let ends = |wanted: fn(&Leg) -> bool| {
        let legs = table.legs_of(conversation).filter(move |leg| wanted(leg));
        legs.filter_map(|leg| match leg.phase {
            Phase::Ended { at, reason } => Some((at, reason)),
            _ => None,
        })
    };
    let answered = ends(|leg| leg.answered_at.is_some()).max_by_key(|(at, _)| *at);
    let first = || {
        let (_, reason) = ends(|_| true).next()?;
        let (at, _) = ends(|_| true).max_by_key(|(at, _)| *at)?;
        Some((at, reason))
    };
    answered.or_else(first)
}

/// All that a conversation claims, and what its legs send; no plan where no leg is left to say.
fn described(table: &CallTable, index: CallIndex) -> (Vec<Claim>, Option<MediaPlan>) {
    let mut claims: Vec<Claim> = Vec::new();
    let mut plan: Option<MediaPlan> = None;
    for leg in table.legs_of(index).filter(|leg| leg.is_live() || leg.lingers) {
        let mut own = Vec::new();
        let mut own_plan = leg_media(leg, &mut own);
        if leg.orientation == Orientation::Crossed {
            std::mem::swap(&mut own_plan.caller, &mut own_plan.callee);
        }
        let mut addresses = Vec::new();
        for mut claim in own {
            claim.party = leg.orientation.channel(claim.party);
            let is_taken = claims.iter().any(|it| it.endpoint == claim.endpoint);
            if !is_taken && !addresses.contains(&claim.endpoint) {
                addresses.push(claim.endpoint);
            }
            let is_new =
                if claim.role == ClaimRole::Loser { !is_taken } else { !claims.contains(&claim) };
            if is_new && claims.len() < CLAIMS_PER_CALL_MAX {
                claims.push(claim);
            }
        }
        match &mut plan {
            None => plan = Some(own_plan),
            Some(plan) => {
                plan.losers.extend(own_plan.losers);
                let (caller, callee) = (own_plan.caller, own_plan.callee);
                plan.legs.push(LegPlan { addresses, caller, callee });
            }
        }
    }
    (claims, plan)
}

/// The SSRCs that SDP names, by who sends with them.
fn announced_ssrcs(table: &CallTable, index: CallIndex) -> Vec<(Channel, u32)> {
    let mut found = Vec::new();
    for leg in table.legs_of(index) {
        let Some(branch) = leg.winner.and_then(|at| leg.branches.get(at)) else { continue };
        for party in Channel::BOTH {
            let ssrcs = branch.descriptions(party).flat_map(MediaDescription::ssrcs);
            found.extend(ssrcs.map(|ssrc| (leg.orientation.channel(party), ssrc)));
        }
    }
    found.truncate(SSRCS_PER_CALL_MAX);
    found
}

/// What a leg claims and its parties send, in the leg's own terms.
fn leg_media(leg: &Leg, claims: &mut Vec<Claim>) -> MediaPlan {
    let mut plan = MediaPlan::default();
    if let Some(winner) = leg.winner.and_then(|at| leg.branches.get(at)) {
        winner.claims(claims);
        plan = winner.plan();
        let own: Vec<_> = claims.iter().map(|claim| claim.endpoint).collect();
        for loser in leg.losers() {
            for description in loser.descriptions(Channel::Callee) {
                let theirs = description.audio_endpoints().filter(|at| !own.contains(at));
                plan.losers.extend(theirs.map(|endpoint| endpoint.to_string()));
            }
            loser.loser_claims(claims);
        }
        return plan;
    }
    let initial = leg.initial_offer.as_ref().map(|offer| Branch::new(b"", Some(offer.clone())));
    for branch in leg.branches.iter().chain(initial.iter()) {
        branch.claims(claims);
        merge_plan(&mut plan, branch.plan());
    }
    plan
}

/// Before the answer every branch's formats may be heard.
fn merge_plan(plan: &mut MediaPlan, more: MediaPlan) {
    for (mine, theirs) in [(&mut plan.caller, more.caller), (&mut plan.callee, more.callee)] {
        for format in theirs.formats {
            if !mine.formats.contains(&format) {
                mine.formats.push(format);
            }
        }
        mine.protection = mine.protection.max(theirs.protection);
        mine.add_keys(&theirs.keys);
        mine.add_refused(&theirs.refused);
    }
}
