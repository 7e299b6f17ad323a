//! One leg: what is known of one Call-ID, and how a message changes it.
//!
//! Purpose: the state machine of a leg: set up, answered by one branch, changed, ended.
//! Invariants: a message changes one leg; a message that makes no sense changes nothing.
//! Non-goals: which conversation a leg is of (see `join`), what is told of it (see `conversation`).
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
use super::event::{CallOrigin, EndReason, Party};
use super::join::JoinedBy;
use super::media_description::MediaDescription;
use crate::base::limits::LEGS_PER_CALL_MAX;
use crate::base::{CallIndex, Channel, Endpoint, FiveTuple, PacketTime};
use crate::sip::{Message, Method, NameAddr, Sdp, StartLine};

/// Where a leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// INVITE seen, no final answer.
    Setup,
    /// Finally refused at the time given; may still be tried again.
    Refused {
        /// When.
        at: PacketTime,
        /// `Rejected` or `Cancel`.
        reason: EndReason,
    },
    /// Answered.
    Answered,
    /// Over; its Call-ID is remembered for a while.
    Ended {
        /// When it ended.
        at: PacketTime,
        /// Why.
        reason: EndReason,
    },
}

/// Whether the caller gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// No CANCEL was seen.
    No,
    /// It was.
    Yes,
}

/// Which channel of its conversation a leg's parties speak on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orientation {
    /// The leg's caller on the caller's.
    #[default]
    Same,
    /// The leg's caller on the callee's: a callee was transferred, or the recorder's switch called
    /// both.
    Crossed,
}

impl Orientation {
    /// The conversation's channel of a party of the leg.
    #[must_use]
    pub const fn channel(self, party: Channel) -> Channel {
        match self {
            Self::Same => party,
            Self::Crossed => party.other(),
        }
    }
}

/// What a message did to its leg, beside what its descriptions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing else.
    Nothing,
    /// A 2xx to its INVITE.
    Answered,
    /// It is over.
    Ended(EndReason),
}

/// One Call-ID.
#[derive(Debug)]
pub struct Leg {
    /// Its place.
    pub index: CallIndex,
    /// The place of the leg that its conversation began with; its own for that one.
    pub conversation: CallIndex,
    /// How it stands in its conversation.
    pub orientation: Orientation,
    /// What told that it is of its conversation, for all legs but the first.
    pub joined: Option<JoinedBy>,
    /// Call-ID header value.
    pub sip_call_id: Vec<u8>,
    /// How it was found.
    pub origin: CallOrigin,
    /// Who sent the INVITE.
    pub caller: Party,
    /// Who was called.
    pub callee: Party,
    /// The way of the message that it was found by: from where to where.
    pub path: (Endpoint, Endpoint),
    /// Where it stands.
    pub phase: Phase,
    /// The 2xx to the INVITE.
    pub answered_at: Option<PacketTime>,
    /// Final status of the INVITE.
    pub status_code: Option<u16>,
    /// True for a while after its BYE: packets from before it are on their way.
    pub lingers: bool,
    /// From tag of the INVITE.
    pub caller_tag: Vec<u8>,
    /// Whether a CANCEL was seen.
    pub cancelled: Cancelled,
    /// The INVITE's offer, for branches that begin later.
    pub initial_offer: Option<OpenOffer>,
    /// CSeq of the INVITE being tried.
    pub invite_cseq: u32,
    /// Dialogs by the callee's tag, in order of appearance.
    pub branches: Vec<Branch>,
    /// The branch that answered.
    pub winner: Option<usize>,
    /// Last SIP message.
    pub last_sip: PacketTime,
}

/// What a message of a Call-ID that nobody knows begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// Nothing.
    Nothing,
    /// A call, from its INVITE on.
    Invite,
    /// A call that went on when capturing began.
    MidCall,
}

impl Begins {
    /// An INVITE begins a call; so does what only a call in progress has, where capturing began too
    /// late to see its INVITE or sees one way only.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Self {
        let has_tag = message.to().tag().is_some();
        match message.start() {
            StartLine::Request { method: Method::Invite, .. } if !has_tag => Self::Invite,
            StartLine::Request {
                method: Method::Invite | Method::Bye | Method::Update | Method::Prack,
                ..
            } if has_tag => Self::MidCall,
            StartLine::Response { status, .. } => match message.cseq().method {
                Method::Invite if status < 300 => Self::MidCall,
                Method::Bye | Method::Update | Method::Prack if has_tag && status < 300 => {
                    Self::MidCall
                }
                _ => Self::Nothing,
            },
            StartLine::Request { .. } => Self::Nothing,
        }
    }
}

impl Leg {
    /// The leg that `message`, on its way along `flow`, begins.
    #[must_use]
    pub fn new(index: CallIndex, now: PacketTime, flow: FiveTuple, message: &Message<'_>) -> Self {
        let origin = match Begins::of(message) {
            Begins::Invite => CallOrigin::Invite,
            _ => CallOrigin::MidCall,
        };
        let path = match message.start() {
            StartLine::Request { .. } => (flow.source, flow.destination),
            StartLine::Response { .. } => (flow.destination, flow.source),
        };
        Self {
            index,
            conversation: index,
            orientation: Orientation::Same,
            joined: None,
            sip_call_id: message.call_id().to_vec(),
            origin,
            caller: party(&message.from()),
            callee: party(&message.to()),
            path,
            phase: Phase::Setup,
            answered_at: None,
            status_code: None,
            lingers: false,
            caller_tag: message.from().tag().unwrap_or_default().to_vec(),
            cancelled: Cancelled::No,
            initial_offer: None,
            invite_cseq: message.cseq().number,
            branches: Vec::new(),
            winner: None,
            last_sip: now,
        }
    }

    /// A leg of which only media is known, from `first` on, along `path`.
    #[must_use]
    pub fn from_media(index: CallIndex, first: PacketTime, path: (Endpoint, Endpoint)) -> Self {
        Self {
            index,
            conversation: index,
            orientation: Orientation::Same,
            joined: None,
            sip_call_id: Vec::new(),
            origin: CallOrigin::Heuristic,
            caller: Party::default(),
            callee: Party::default(),
            path,
            phase: Phase::Answered,
            answered_at: None,
            status_code: None,
            lingers: false,
            caller_tag: Vec::new(),
            cancelled: Cancelled::No,
            initial_offer: None,
            invite_cseq: 0,
            branches: Vec::new(),
            winner: None,
            last_sip: first,
        }
    }

    /// True until it is over.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. })
    }

    /// True when the two parties cannot both be heard, by SDP.
    #[must_use]
    pub fn is_on_hold(&self) -> bool {
        self.winner.and_then(|at| self.branches.get(at)).is_some_and(Branch::is_on_hold)
    }

    /// The branches that did not answer, once one did.
    pub fn losers(&self) -> impl Iterator<Item = &Branch> {
        let winner = self.winner;
        let indexed = self.branches.iter().enumerate();
        indexed.filter(move |(at, _)| Some(*at) != winner).map(|(_, branch)| branch)
    }

    /// Which party has a tag, in a dialog of the leg.
    #[must_use]
    pub fn party_with_tag(&self, tag: &[u8]) -> Option<Channel> {
        if self.caller_tag == tag {
            return Some(Channel::Caller);
        }
        self.branches.iter().any(|branch| branch.tag == tag).then_some(Channel::Callee)
    }

    /// Takes a message of the leg that passed the tap at `now`.
    pub fn on_message(&mut self, now: PacketTime, message: &Message<'_>) -> Step {
        self.last_sip = now;
        match message.start() {
            StartLine::Request { method, .. } => self.on_request(now, method, message),
            StartLine::Response { status, .. } => self.on_response(now, status, message),
        }
    }

    /// Which party sent a message, and the callee's tag in it.
    #[must_use]
    pub fn sides<'a>(&self, message: &Message<'a>) -> (Channel, Option<&'a [u8]>) {
        let (from, to) = (message.from().tag(), message.to().tag());
        let from_caller = from.unwrap_or_default() == self.caller_tag;
        let callee_tag = if from_caller { to } else { from };
        let requester = if from_caller { Channel::Caller } else { Channel::Callee };
        match message.start() {
            StartLine::Request { .. } => (requester, callee_tag),
            StartLine::Response { .. } => (requester.other(), callee_tag),
        }
    }

    fn on_request(&mut self, now: PacketTime, method: Method, message: &Message<'_>) -> Step {
        let (by, callee_tag) = self.sides(message);
        match (method, callee_tag) {
            (Method::Invite, None) => self.on_first_invite(message),
            (Method::Invite, Some(tag)) if self.origin == CallOrigin::MidCall => {
                let step = self.answer(now, tag);
                self.offer(by, Carrier::Request, callee_tag, message);
                return step;
            }
            (Method::Invite | Method::Update, _) => {
                self.offer(by, Carrier::Request, callee_tag, message);
            }
            (Method::Ack | Method::Prack, _) => {
                self.offer(by, Carrier::Acknowledgement, callee_tag, message);
            }
            (Method::Cancel, _) => self.cancelled = Cancelled::Yes,
            (Method::Bye, _) => return self.on_bye(callee_tag.unwrap_or_default()),
            _ => {}
        }
        Step::Nothing
    }

    /// The INVITE, its retransmission, or the next try after a refusal.
    fn on_first_invite(&mut self, message: &Message<'_>) {
        if matches!(self.phase, Phase::Answered | Phase::Ended { .. }) {
            return;
        }
        let cseq = message.cseq().number;
        if cseq != self.invite_cseq {
            self.branches.clear();
            self.initial_offer = None;
            self.cancelled = Cancelled::No;
            self.invite_cseq = cseq;
            self.phase = Phase::Setup;
        }
        if let Some(media) = media_of(message) {
            match &mut self.initial_offer {
                Some(known) if known.media != media => known.media.merge_hop(&media),
                Some(_) => {}
                empty => *empty = Some(OpenOffer { by: Channel::Caller, media, cseq }),
            }
        }
    }

    fn offer(&mut self, by: Channel, carrier: Carrier, tag: Option<&[u8]>, message: &Message<'_>) {
        let Some(media) = media_of(message) else { return };
        let at = self.branch(tag.unwrap_or_default());
        let cseq = message.cseq().number;
        if let Some(branch) = self.branches.get_mut(at) {
            branch.on_sdp(by, carrier, cseq, media);
        }
    }

    /// The branch with the callee's tag, made where it is new; beyond `LEGS_PER_CALL_MAX` the last.
    fn branch(&mut self, tag: &[u8]) -> usize {
        if let Some(found) = self.branches.iter().position(|branch| branch.tag == tag) {
            return found;
        }
        if self.branches.len() < LEGS_PER_CALL_MAX {
            self.branches.push(Branch::new(tag, self.initial_offer.clone()));
        }
        self.branches.len().saturating_sub(1)
    }

    /// A BYE ends the leg, unless it ends a branch that lost the fork.
    fn on_bye(&self, callee_tag: &[u8]) -> Step {
        let winner = self.winner.and_then(|at| self.branches.get(at));
        let of_loser = winner.is_some_and(|branch| branch.tag != callee_tag)
            && self.branches.iter().any(|branch| branch.tag == callee_tag);
        if of_loser || !self.is_live() { Step::Nothing } else { Step::Ended(EndReason::Bye) }
    }

    fn on_response(&mut self, now: PacketTime, status: u16, message: &Message<'_>) -> Step {
        let (by, callee_tag) = self.sides(message);
        let cseq = message.cseq();
        if cseq.method == Method::Bye && (200..300).contains(&status) {
            // Where only the responses pass the tap.
            return self.on_bye(callee_tag.unwrap_or_default());
        }
        let carries_offers = matches!(cseq.method, Method::Invite | Method::Update | Method::Prack);
        if !carries_offers || status == 100 {
            return Step::Nothing;
        }
        if status >= 300 {
            self.on_refusal(now, status, (by.other(), callee_tag), message);
            return Step::Nothing;
        }
        if callee_tag.is_some() {
            self.offer(by, Carrier::Response, callee_tag, message);
        }
        let is_first = cseq.method == Method::Invite && self.winner.is_none();
        if is_first && matches!(self.phase, Phase::Setup | Phase::Refused { .. }) {
            self.phase = Phase::Setup;
            if status >= 200 {
                self.status_code = Some(status);
                return self.answer(now, callee_tag.unwrap_or_default());
            }
        }
        Step::Nothing
    }

    fn on_refusal(
        &mut self,
        now: PacketTime,
        status: u16,
        (requester, callee_tag): (Channel, Option<&[u8]>),
        message: &Message<'_>,
    ) {
        let cseq = message.cseq();
        for branch in &mut self.branches {
            if callee_tag.is_none_or(|tag| branch.tag == tag) {
                branch.on_failure(requester, cseq.number);
            }
        }
        let refuses_setup = cseq.method == Method::Invite
            && cseq.number == self.invite_cseq
            && self.phase == Phase::Setup;
        if refuses_setup {
            let cancelled = self.cancelled == Cancelled::Yes;
            let reason = if cancelled { EndReason::Cancel } else { EndReason::Rejected };
            self.status_code = Some(status);
            self.phase = Phase::Refused { at: now, reason };
        }
    }

    /// The 2xx: one branch wins, the others lose.
    fn answer(&mut self, now: PacketTime, callee_tag: &[u8]) -> Step {
        if self.phase != Phase::Setup {
            return Step::Nothing;
        }
        self.winner = Some(self.branch(callee_tag));
        self.phase = Phase::Answered;
        self.answered_at = Some(now);
        Step::Answered
    }
}

fn party(name_addr: &NameAddr<'_>) -> Party {
    let party = name_addr.party();
    Party { uri: party.uri, number: party.number, name: party.name }
}

fn media_of(message: &Message<'_>) -> Option<MediaDescription> {
    let sdp = Sdp::parse(message.sdp()?).ok()?;
    Some(MediaDescription::from_sdp(&sdp))
}
