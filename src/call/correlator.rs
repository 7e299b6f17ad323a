//! From SIP messages to calls.
//!
//! Purpose: the state machine of a call: set up, answered by one branch, changed, ended.
//! Invariants: a message changes the state of at most one call; events come in the order in which
//! they must be applied; a message that makes no sense changes nothing.
//! Non-goals: offer/answer (see `dialog`), timers (see `expiry`), several Call-IDs as one call.
//! Sources: RFC 3261 §9 (CANCEL), §12 (dialogs), §13 (INVITE), §15 (BYE), §16.7 (forking).
//!
//! ```text
//!            2xx                        BYE, timeout
//!  Setup ───────────► Answered ───────────────────────► Ended
//!    │ ▲  ≥ 300                                           ▲
//!    │ └──────────── INVITE again, 1xx/2xx of a branch    │
//!    └─► Refused ─────────────────────────────────────────┘ after RETRY_WAIT_MS
//! ```

use super::dialog::{Branch, Carrier, OpenOffer};
use super::event::{CallEvent, CallFacts, CallOrigin, EndReason, Party};
use super::lingering::{self, Lingering};
use super::media_description::MediaDescription;
use super::strangers::Strangers;
use super::table::{Call, CallTable, Cancelled, Phase};
use crate::base::{CallIndex, Channel, PacketTime};
use crate::rtp::plan::{Control, MediaPlan};
use crate::sip::{Message, Method, NameAddr, Sdp, StartLine};

/// Follows every call.
#[derive(Debug, Default)]
pub struct Correlator {
    pub(super) table: CallTable,
    pub(super) events: Vec<CallEvent>,
    pub(super) strangers: Strangers,
    lingering: Lingering,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributed {
    /// It belongs to this call.
    Call(CallIndex),
    /// SIP, but of no call (REGISTER, OPTIONS…).
    NoCall,
    /// It would have opened a call beyond `CALLS_MAX`.
    NoRoom,
}

impl Correlator {
    /// Takes one SIP message that passed the tap at `now`.
    pub fn on_message(&mut self, now: PacketTime, message: &Message<'_>) -> Attributed {
        self.let_go(now);
        let index = match self.find_or_open(now, message) {
            Attributed::Call(index) => index,
            other => return other,
        };
        let Some(call) = self.table.get_mut(index) else { return Attributed::NoCall };
        call.last_sip = now;
        let events = &mut self.events;
        let told = events.len();
        match message.start() {
            StartLine::Request { method, .. } => on_request(events, call, now, method, message),
            StartLine::Response { status, .. } => on_response(events, call, now, status, message),
        }
        if call.is_live() {
            publish(events, call, now);
        } else if !call.claims.is_empty() {
            self.lingering.add(now, index, std::mem::take(&mut call.claims));
        }
        self.give_way(now, told);
        Attributed::Call(index)
    }

    /// Time goes on: calls that ended let go of their addresses. Cheap when called often.
    pub fn let_go(&mut self, now: PacketTime) {
        while let Some((call, time)) = self.lingering.take_due(now) {
            self.events.push(CallEvent::Claims { call, claims: Vec::new(), time });
        }
    }

    /// Whoever has an address that events since `told` announce lets go of it before that.
    fn give_way(&mut self, now: PacketTime, told: usize) {
        let announced = self.events.iter().skip(told).filter_map(|event| match event {
            CallEvent::Claims { claims, .. } => Some(claims.as_slice()),
            _ => None,
        });
        let gone: Vec<CallIndex> =
            announced.flat_map(|claims| self.lingering.give_way(claims)).collect();
        for call in gone {
            let let_go = CallEvent::Claims { call, claims: Vec::new(), time: now };
            self.events.insert(told, let_go);
        }
    }

    /// Takes the events since the last call, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = CallEvent> + '_ {
        let strangers = &mut self.strangers;
        self.events.drain(..).inspect(|event| match event {
            CallEvent::Claims { call, claims, .. } if claims.is_empty() => strangers.forget(*call),
            _ => {}
        })
    }

    /// Calls that go on.
    #[must_use]
    pub fn live(&self) -> usize {
        self.table.live()
    }

    fn find_or_open(&mut self, now: PacketTime, message: &Message<'_>) -> Attributed {
        let known = self.table.find(message.call_id());
        let begins = begins_call(message);
        if let Some(index) = known {
            let is_over = self.table.get(index).is_none_or(|call| !call.is_live());
            if !(is_over && begins == Begins::Invite) {
                return Attributed::Call(index);
            }
        }
        if begins == Begins::Nothing {
            return Attributed::NoCall;
        }
        let opened = self.table.insert(message.call_id(), |index| new_call(index, now, message));
        let Some(index) = opened else {
            return Attributed::NoRoom;
        };
        let sip_call_id = message.call_id().to_vec();
        self.events.push(CallEvent::Opened { call: index, time: now, sip_call_id });
        Attributed::Call(index)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Nothing,
    Invite,
    MidCall,
}

/// An INVITE begins a call; so does any answer to one, where capturing began too late to see it.
fn begins_call(message: &Message<'_>) -> Begins {
    match message.start() {
        StartLine::Request { method: Method::Invite, .. } => match message.to().tag() {
            None => Begins::Invite,
            Some(_) => Begins::MidCall,
        },
        StartLine::Response { status, .. }
            if message.cseq().method == Method::Invite && status < 300 =>
        {
            Begins::MidCall
        }
        _ => Begins::Nothing,
    }
}

fn new_call(index: CallIndex, now: PacketTime, message: &Message<'_>) -> Call {
    let origin = match begins_call(message) {
        Begins::Invite => CallOrigin::Invite,
        _ => CallOrigin::MidCall,
    };
    Call {
        index,
        sip_call_id: message.call_id().to_vec(),
        facts: CallFacts {
            sip_call_id: String::from_utf8_lossy(message.call_id()).into_owned(),
            started_at: now,
            answered_at: None,
            ended: None,
            status_code: None,
            origin,
            caller: party(&message.from()),
            callee: party(&message.to()),
        },
        phase: Phase::Setup,
        caller_tag: message.from().tag().unwrap_or_default().to_vec(),
        cancelled: Cancelled::No,
        initial_offer: None,
        invite_cseq: message.cseq().number,
        branches: Vec::new(),
        winner: None,
        last_sip: now,
        claims: Vec::new(),
        plan: MediaPlan::default(),
    }
}

fn party(name_addr: &NameAddr<'_>) -> Party {
    let party = name_addr.party();
    Party { uri: party.uri, number: party.number, name: party.name }
}

/// Which party sent a message, and the callee's tag in it.
fn sides<'a>(call: &Call, message: &Message<'a>) -> (Channel, Option<&'a [u8]>) {
    let (from, to) = (message.from().tag(), message.to().tag());
    let from_caller = from.unwrap_or_default() == call.caller_tag;
    let callee_tag = if from_caller { to } else { from };
    let requester = if from_caller { Channel::Caller } else { Channel::Callee };
    match message.start() {
        StartLine::Request { .. } => (requester, callee_tag),
        StartLine::Response { .. } => (requester.other(), callee_tag),
    }
}

fn media_of(message: &Message<'_>) -> Option<MediaDescription> {
    let sdp = Sdp::parse(message.sdp()?).ok()?;
    Some(MediaDescription::from_sdp(&sdp))
}

fn on_request(
    events: &mut Vec<CallEvent>,
    call: &mut Call,
    now: PacketTime,
    method: Method,
    message: &Message<'_>,
) {
    let (by, callee_tag) = sides(call, message);
    match (method, callee_tag) {
        (Method::Invite, None) => on_first_invite(call, message),
        (Method::Invite, Some(_)) if call.facts.origin == CallOrigin::MidCall => {
            answer(events, call, now, callee_tag.unwrap_or_default());
            offer(call, by, Carrier::Request, callee_tag, message);
        }
        (Method::Invite | Method::Update, _) => {
            offer(call, by, Carrier::Request, callee_tag, message);
        }
        (Method::Ack | Method::Prack, _) => {
            offer(call, by, Carrier::Acknowledgement, callee_tag, message);
        }
        (Method::Cancel, _) => call.cancelled = Cancelled::Yes,
        (Method::Bye, _) => on_bye(events, call, now, callee_tag.unwrap_or_default()),
        _ => {}
    }
}

/// The INVITE, its retransmission, or the next try after a refusal.
fn on_first_invite(call: &mut Call, message: &Message<'_>) {
    if matches!(call.phase, Phase::Answered | Phase::Ended { .. }) {
        return;
    }
    let cseq = message.cseq().number;
    if cseq != call.invite_cseq {
        call.branches.clear();
        call.initial_offer = None;
        call.cancelled = Cancelled::No;
        call.invite_cseq = cseq;
        call.phase = Phase::Setup;
    }
    if let Some(media) = media_of(message) {
        match &mut call.initial_offer {
            Some(known) if known.media != media => known.media.merge_hop(&media),
            Some(_) => {}
            empty => *empty = Some(OpenOffer { by: Channel::Caller, media, cseq }),
        }
    }
}

fn offer(
    call: &mut Call,
    by: Channel,
    carrier: Carrier,
    callee_tag: Option<&[u8]>,
    message: &Message<'_>,
) {
    let Some(media) = media_of(message) else { return };
    let at = call.branch(callee_tag.unwrap_or_default());
    let cseq = message.cseq().number;
    if let Some(branch) = call.branches.get_mut(at) {
        branch.on_sdp(by, carrier, cseq, media);
    }
}

/// A BYE ends the call, unless it ends a branch that lost the fork.
fn on_bye(events: &mut Vec<CallEvent>, call: &mut Call, now: PacketTime, callee_tag: &[u8]) {
    let winner = call.winner.and_then(|at| call.branches.get(at));
    let of_loser = winner.is_some_and(|branch| branch.tag != callee_tag)
        && call.branches.iter().any(|branch| branch.tag == callee_tag);
    if !of_loser && call.is_live() {
        end(events, call, now, now, EndReason::Bye);
    }
}

fn on_response(
    events: &mut Vec<CallEvent>,
    call: &mut Call,
    now: PacketTime,
    status: u16,
    message: &Message<'_>,
) {
    let (by, callee_tag) = sides(call, message);
    let cseq = message.cseq();
    let carries_offers = matches!(cseq.method, Method::Invite | Method::Update | Method::Prack);
    if !carries_offers || status == 100 {
        return;
    }
    if status >= 300 {
        on_refusal(call, now, status, (by.other(), callee_tag), message);
        return;
    }
    if callee_tag.is_some() {
        offer(call, by, Carrier::Response, callee_tag, message);
    }
    let is_first = cseq.method == Method::Invite && call.winner.is_none();
    if is_first && matches!(call.phase, Phase::Setup | Phase::Refused { .. }) {
        call.phase = Phase::Setup;
        if status >= 200 {
            call.facts.status_code = Some(status);
            answer(events, call, now, callee_tag.unwrap_or_default());
        }
    }
}

fn on_refusal(
    call: &mut Call,
    now: PacketTime,
    status: u16,
    (requester, callee_tag): (Channel, Option<&[u8]>),
    message: &Message<'_>,
) {
    let cseq = message.cseq();
    for branch in &mut call.branches {
        if callee_tag.is_none_or(|tag| branch.tag == tag) {
            branch.on_failure(requester, cseq.number);
        }
    }
    let refuses_setup = cseq.method == Method::Invite
        && cseq.number == call.invite_cseq
        && call.phase == Phase::Setup;
    if refuses_setup {
        let cancelled = call.cancelled == Cancelled::Yes;
        let reason = if cancelled { EndReason::Cancel } else { EndReason::Rejected };
        call.facts.status_code = Some(status);
        call.phase = Phase::Refused { at: now, reason };
    }
}

/// The 2xx: one branch wins, the others lose.
fn answer(events: &mut Vec<CallEvent>, call: &mut Call, now: PacketTime, callee_tag: &[u8]) {
    if call.phase != Phase::Setup {
        return;
    }
    call.winner = Some(call.branch(callee_tag));
    call.phase = Phase::Answered;
    call.facts.answered_at = Some(now);
    // The plan first: media held since before the answer is told from losers by it.
    publish(events, call, now);
    let index = call.index;
    events.push(CallEvent::Control { call: index, time: now, control: Control::Answered });
    events.push(CallEvent::Changed { call: index, facts: Box::new(call.facts.clone()) });
}

/// A call that timed out is recorded to the end of its last packet, which lasts this long.
const LAST_PACKET_MS: i64 = 20;

/// Ends a call at `at`, which may lie before `now` (a timeout ends with the last media). After a BYE
/// the claims stay for a while, and the media is final only then: see `lingering`.
pub(super) fn end(
    events: &mut Vec<CallEvent>,
    call: &mut Call,
    now: PacketTime,
    at: PacketTime,
    reason: EndReason,
) {
    call.phase = Phase::Ended { at: now };
    call.facts.ended = Some((at, reason));
    let index = call.index;
    events.push(CallEvent::Ended { call: index, facts: Box::new(call.facts.clone()) });
    let last_packet_ms = if reason == EndReason::Timeout { LAST_PACKET_MS } else { 0 };
    let control = Control::Ended { at_ns: at.plus_ms(last_packet_ms).ns() };
    if reason == EndReason::Bye {
        let time = lingering::until(now);
        events.push(CallEvent::Control { call: index, time, control });
        return;
    }
    events.push(CallEvent::Control { call: index, time: now, control });
    call.claims.clear();
    events.push(CallEvent::Claims { call: index, claims: Vec::new(), time: now });
}

/// Publishes claims and plan where they changed.
fn publish(events: &mut Vec<CallEvent>, call: &mut Call, now: PacketTime) {
    let mut claims = Vec::new();
    let mut plan = MediaPlan::default();
    if let Some(winner) = call.winner.and_then(|at| call.branches.get(at)) {
        winner.claims(&mut claims);
        plan = winner.plan();
        let own: Vec<_> = claims.iter().map(|claim| claim.endpoint).collect();
        for loser in losers(call) {
            for description in loser.descriptions(Channel::Callee) {
                let theirs = description.audio_endpoints().filter(|at| !own.contains(at));
                plan.losers.extend(theirs.map(|endpoint| endpoint.to_string()));
            }
            loser.loser_claims(&mut claims);
        }
    } else {
        let initial =
            call.initial_offer.as_ref().map(|offer| Branch::new(b"", Some(offer.clone())));
        for branch in call.branches.iter().chain(initial.iter()) {
            branch.claims(&mut claims);
            merge_plan(&mut plan, branch.plan());
        }
        claims.dedup();
    }
    if claims != call.claims {
        call.claims.clone_from(&claims);
        events.push(CallEvent::Claims { call: call.index, claims, time: now });
    }
    if plan != call.plan {
        call.plan = plan.clone();
        let control = Control::Plan(plan);
        events.push(CallEvent::Control { call: call.index, time: now, control });
    }
}

fn losers(call: &Call) -> impl Iterator<Item = &Branch> {
    let winner = call.winner;
    let indexed = call.branches.iter().enumerate();
    indexed.filter(move |(at, _)| Some(*at) != winner).map(|(_, branch)| branch)
}

/// Before the answer every branch's formats may be heard.
fn merge_plan(plan: &mut MediaPlan, more: MediaPlan) {
    for (mine, theirs) in [(&mut plan.caller, more.caller), (&mut plan.callee, more.callee)] {
        for format in theirs.formats {
            if !mine.formats.contains(&format) {
                mine.formats.push(format);
            }
        }
        mine.protection = theirs.protection;
    }
}
