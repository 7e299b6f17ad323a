//! Which conversation a new leg is of.
//!
//! Purpose: recognise the legs of one conversation: what a B2BUA sends on, what a REFER asked for,
//! what replaces a dialog, and what carries the same Session-ID or the header that operators name.
//! Invariants: a leg is joined when exactly one conversation can be meant, else never; with `Legs::All`
//! nothing is joined; nothing here outlives its conversation.
//! Non-goals: what becomes of a joined leg (see `conversation`), legs known by their media
//! (`Correlator::absorb`).
//! Sources: RFC 3515 (REFER), RFC 3891 (Replaces), RFC 3892 (Referred-By), RFC 3911 (Join), RFC 5589
//! (transfer), RFC 7989 (Session-ID), RFC 7092 (kinds of B2BUAs).

use super::from_media::MediaCalls;
use super::leg::{Leg, Orientation, Phase};
use super::table::CallTable;
use crate::base::limits::{
    JOIN_KEY_BYTES_MAX, LEGS_PER_CONVERSATION_MAX, REFERRAL_WAIT_MS, REFERRALS_MAX, SAME_CALLER_MAX,
};
use crate::base::{CallIndex, Channel, Endpoint, FiveTuple, PacketTime};
use crate::sip::{Message, Method, NameAddr, StartLine};
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};

/// Whether legs of one conversation are recorded as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Legs {
    /// One recording a conversation.
    #[default]
    One,
    /// One recording a Call-ID.
    All,
}

/// How legs are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinSettings {
    /// Whether calls are made from media that no SIP announced.
    pub media_calls: MediaCalls,
    /// Whether they are.
    pub legs: Legs,
    /// A header whose value is the same in all legs of a conversation.
    pub header: Option<String>,
}

/// What told that a leg is of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinedBy {
    /// The same Session-ID.
    SessionId,
    /// The same value of the operator's header.
    JoinHeader,
    /// A REFER within the conversation asked for it.
    Refer,
    /// It names a dialog of the conversation in Replaces or Join.
    Replaces,
    /// It comes from where the conversation's INVITE went, for the same caller.
    Path,
    /// It announces the same media addresses.
    Media,
}

impl JoinedBy {
    /// As the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::SessionId => "session_id",
            Self::JoinHeader => "join_header",
            Self::Refer => "refer",
            Self::Replaces => "replaces",
            Self::Path => "path",
            Self::Media => "media",
        }
    }

    /// Which party of the joined leg was not in the conversation before; `None` where the leg is only
    /// another hop.
    #[must_use]
    pub const fn new_party(self) -> Option<Channel> {
        match self {
            Self::Refer => Some(Channel::Callee),
            Self::Replaces => Some(Channel::Caller),
            _ => None,
        }
    }
}

/// A leg's place in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// The conversation.
    pub conversation: CallIndex,
    /// How the leg stands in it.
    pub orientation: Orientation,
    /// What told.
    pub by: JoinedBy,
    /// The conversation of the dialog that the leg replaces, where that is another one: what two of
    /// the three said to each other before an attended transfer.
    pub consultation: Option<CallIndex>,
}

/// A REFER that asks a party of a conversation to call somebody.
#[derive(Debug)]
struct Referral {
    conversation: CallIndex,
    leg: CallIndex,
    cseq: u32,
    at: PacketTime,
    /// Who is to call, as a channel of the conversation.
    transferee: Channel,
    /// From where the call will come.
    transferee_address: Endpoint,
    /// Whom to call: number, or URI where that has no user part.
    target: String,
    /// The Call-ID that the call is to replace.
    replaces: Option<Vec<u8>>,
}

/// Everything that tells legs of one conversation.
#[derive(Debug, Default)]
pub struct Joins {
    settings: JoinSettings,
    by_key: HashMap<Vec<u8>, CallIndex, RandomState>,
    by_caller: HashMap<String, Vec<CallIndex>, RandomState>,
    by_media: HashMap<(Endpoint, Endpoint), CallIndex, RandomState>,
    referrals: VecDeque<Referral>,
}

impl Joins {
    /// As operators want it.
    #[must_use]
    pub fn new(settings: JoinSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// False when nothing is joined.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self.settings.legs, Legs::One)
    }

    /// The conversation that the leg `message` begins is of, where there is one.
    pub fn find(
        &mut self,
        table: &CallTable,
        now: PacketTime,
        flow: FiveTuple,
        message: &Message<'_>,
    ) -> Option<Join> {
        if !self.is_on() {
            return None;
        }
        let is_open = |join: &Join| {
            let conversation = table.conversation(join.conversation);
            conversation
                .is_some_and(|it| it.over_at.is_none() && it.legs.len() < LEGS_PER_CONVERSATION_MAX)
        };
        let referred = self.referred(table, now, flow, message).filter(is_open);
        referred
            .or_else(|| replaced(table, message).filter(is_open))
            .or_else(|| self.same_key(table, flow, message).filter(is_open))
            .or_else(|| self.same_path(table, flow, message).filter(is_open))
    }

    /// A REFER: `leg` saw it from `by`.
    pub fn refer(
        &mut self,
        now: PacketTime,
        leg: &Leg,
        by: Channel,
        flow: FiveTuple,
        message: &Message<'_>,
    ) {
        let cseq = message.cseq().number;
        let is_known = |it: &Referral| it.leg == leg.index && it.cseq == cseq;
        let Some(refer_to) = message.header("Refer-To") else { return };
        if !self.is_on() || self.referrals.iter().any(is_known) {
            return;
        }
        let refer_to = NameAddr::parse(&refer_to);
        let replaces = refer_to.uri_header("replaces");
        let call_id = replaces.and_then(|value| {
            let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
            value.get(..end).map(<[u8]>::to_vec)
        });
        if self.referrals.len() >= REFERRALS_MAX {
            self.referrals.pop_front();
        }
        self.referrals.push_back(Referral {
            conversation: leg.conversation,
            leg: leg.index,
            cseq,
            at: now,
            transferee: leg.orientation.channel(by.other()),
            transferee_address: flow.destination,
            target: target_of(&refer_to),
            replaces: call_id.filter(|it| !it.is_empty()),
        });
    }

    /// A REFER was refused, or the call that it asked for failed: nothing will come of it.
    pub fn refer_failed(&mut self, leg: CallIndex) {
        self.referrals.retain(|it| it.leg != leg);
    }

    /// True while a call that a REFER asked for may still come.
    #[must_use]
    pub fn awaits(&self, conversation: CallIndex, now: PacketTime) -> bool {
        let is_due = |it: &Referral| now.ms_since(it.at) < REFERRAL_WAIT_MS;
        self.referrals.iter().any(|it| it.conversation == conversation && is_due(it))
    }

    /// A conversation begins with `leg`.
    pub fn begin(&mut self, leg: &Leg, message: &Message<'_>) -> Vec<Vec<u8>> {
        if !self.is_on() {
            return Vec::new();
        }
        if is_telling(&leg.caller.number) {
            let calls = self.by_caller.entry(leg.caller.number.clone()).or_default();
            if calls.len() < SAME_CALLER_MAX {
                calls.push(leg.index);
            }
        }
        let keys = self.keys(message);
        for key in &keys {
            self.by_key.insert(key.clone(), leg.index);
        }
        keys
    }

    /// A leg of `conversation` sends its media between the addresses `ends` now (`before`: between
    /// others): the conversation that did so already, where it is another one.
    pub fn same_media(
        &mut self,
        table: &CallTable,
        conversation: CallIndex,
        before: Option<(Endpoint, Endpoint)>,
        ends: (Endpoint, Endpoint),
    ) -> Option<CallIndex> {
        self.forget_media(conversation, before);
        let known = *self.by_media.entry(ends).or_insert(conversation);
        let is_open = table.conversation(known).is_some_and(|it| it.over_at.is_none());
        if known == conversation || !is_open {
            self.by_media.insert(ends, conversation);
            return None;
        }
        // Test tools send every call from the same ports: only what a switch sent on is joined.
        let path = |index| table.get(index).map(|leg| leg.path);
        let (first, second) = (path(known)?, path(conversation)?);
        let is_chained = goes_on(first, second.0, second.1) || goes_on(second, first.0, first.1);
        (self.is_on() && is_chained).then_some(known)
    }

    /// A conversation is over: nothing joins it any more.
    pub fn end(
        &mut self,
        conversation: CallIndex,
        caller: &str,
        keys: &[Vec<u8>],
        ends: Option<(Endpoint, Endpoint)>,
    ) {
        self.forget_media(conversation, ends);
        for key in keys {
            if self.by_key.get(key) == Some(&conversation) {
                self.by_key.remove(key);
            }
        }
        if let Some(calls) = self.by_caller.get_mut(caller) {
            calls.retain(|call| *call != conversation);
            if calls.is_empty() {
                self.by_caller.remove(caller);
            }
        }
        self.referrals.retain(|it| it.conversation != conversation);
    }

    fn forget_media(&mut self, conversation: CallIndex, ends: Option<(Endpoint, Endpoint)>) {
        if let Some(ends) = ends.filter(|ends| self.by_media.get(ends) == Some(&conversation)) {
            self.by_media.remove(&ends);
        }
    }

    /// What two legs of a conversation have in common in their headers.
    fn keys(&self, message: &Message<'_>) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut add = |kind: u8, value: &[u8]| {
            if !value.is_empty() && value.len() <= JOIN_KEY_BYTES_MAX {
                keys.push([&[kind], value].concat());
            }
        };
        if let Some(value) = message.header("Session-ID") {
            // The nil UUID names nobody (RFC 7989 §5).
            let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
            let own = value.get(..end).unwrap_or_default().trim_ascii();
            if own.iter().any(|byte| *byte != b'0') {
                add(b'S', &own.to_ascii_lowercase());
            }
        }
        if let Some(name) = &self.settings.header {
            if let Some(value) = message.header(name) {
                add(b'H', value.trim_ascii());
            }
        }
        keys
    }

    fn same_key(&self, table: &CallTable, flow: FiveTuple, message: &Message<'_>) -> Option<Join> {
        let keys = self.keys(message);
        let found = keys.iter().find_map(|key| Some((key, *self.by_key.get(key)?)));
        let (key, conversation) = found?;
        let by =
            if key.first() == Some(&b'S') { JoinedBy::SessionId } else { JoinedBy::JoinHeader };
        let first = table.get(conversation)?;
        let orientation = orientation_by_path(first.path, (flow.source, flow.destination));
        Some(Join { conversation, orientation, by, consultation: None })
    }

    /// A B2BUA calls on: the INVITE comes from where another went, for the same caller, and only one
    /// conversation waits for such a leg.
    fn same_path(&self, table: &CallTable, flow: FiveTuple, message: &Message<'_>) -> Option<Join> {
        if message.request_method() != Some(Method::Invite) {
            return None;
        }
        let caller = message.from().party().number;
        let waits = |index: &&CallIndex| {
            let Some(first) = table.get(**index) else { return false };
            let chained = goes_on(first.path, flow.source, flow.destination);
            let onward = table.legs_of(**index).skip(1);
            chained && !onward.into_iter().any(|leg| leg.phase == Phase::Answered)
        };
        let calls = self.by_caller.get(&caller).filter(|calls| calls.len() < SAME_CALLER_MAX)?;
        let mut candidates = calls.iter().filter(waits);
        let conversation = *candidates.next()?;
        if candidates.next().is_some() {
            return None;
        }
        let (orientation, by) = (Orientation::Same, JoinedBy::Path);
        Some(Join { conversation, orientation, by, consultation: None })
    }

    /// The call that a REFER asked for.
    fn referred(
        &mut self,
        table: &CallTable,
        now: PacketTime,
        flow: FiveTuple,
        message: &Message<'_>,
    ) -> Option<Join> {
        self.referrals.retain(|it| now.ms_since(it.at) < REFERRAL_WAIT_MS);
        let StartLine::Request { method: Method::Invite, uri, .. } = message.start() else {
            return None;
        };
        let replaced = message.header("Replaces");
        let replaced = replaced.as_deref().map(dialog_call_id);
        let targets = [target_of(&NameAddr::parse(uri)), target_of(&message.to())];
        let fits = |it: &Referral| {
            let from_transferee = it.transferee_address.ip == flow.source.ip
                || message.header("Referred-By").is_some();
            let asked_for = from_transferee && targets.contains(&it.target);
            it.replaces.as_deref().map_or(asked_for, |call_id| replaced == Some(call_id))
        };
        let at = self.referrals.iter().rposition(fits)?;
        let referral = self.referrals.remove(at)?;
        let orientation = match referral.transferee {
            Channel::Caller => Orientation::Same,
            Channel::Callee => Orientation::Crossed,
        };
        let conversation = referral.conversation;
        let replaced = referral.replaces.and_then(|call_id| table.find(&call_id));
        let consultation = replaced
            .and_then(|leg| Some(table.get(leg)?.conversation))
            .filter(|other| *other != conversation);
        Some(Join { conversation, orientation, by: JoinedBy::Refer, consultation })
    }
}

/// The leg takes the place of a dialog (RFC 3891 §3), or comes in beside it (RFC 3911).
fn replaced(table: &CallTable, message: &Message<'_>) -> Option<Join> {
    let value = message.header("Replaces").or_else(|| message.header("Join"))?;
    let leg = table.get(table.find(dialog_call_id(&value))?)?;
    // The to-tag is the tag of whoever gets this INVITE: who stays in the conversation.
    let stays = NameAddr::parse(&value).parameter("to-tag").and_then(|tag| leg.party_with_tag(tag));
    let stays = leg.orientation.channel(stays.unwrap_or(Channel::Callee));
    let orientation = match stays {
        Channel::Callee => Orientation::Same,
        Channel::Caller => Orientation::Crossed,
    };
    let conversation = leg.conversation;
    Some(Join { conversation, orientation, by: JoinedBy::Replaces, consultation: None })
}

/// The Call-ID in `call-id;to-tag=…;from-tag=…`.
fn dialog_call_id(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    value.get(..end).unwrap_or_default().trim_ascii()
}

/// Whom an address means: its number, or its URI where that has no user part.
fn target_of(address: &NameAddr<'_>) -> String {
    let party = address.party();
    if party.number.is_empty() { party.uri } else { party.number }
}

/// False for callers that are nobody in particular.
fn is_telling(number: &str) -> bool {
    const NOBODY: [&str; 5] = ["anonymous", "unavailable", "unknown", "restricted", "private"];
    !number.is_empty() && !NOBODY.iter().any(|name| number.eq_ignore_ascii_case(name))
}

/// True when a message from `source` to `destination` goes on where `first` ended. On one host ports
/// tell who is who.
fn goes_on(first: (Endpoint, Endpoint), source: Endpoint, destination: Endpoint) -> bool {
    let on_one_host = source.ip == destination.ip || first.0.ip == first.1.ip;
    if on_one_host { source == first.1 } else { source.ip == first.1.ip }
}

/// Two legs that the same host began, or that end at the same host: their other ends talk to each
/// other. A leg that goes on where the first ended has the same caller.
fn orientation_by_path(first: (Endpoint, Endpoint), leg: (Endpoint, Endpoint)) -> Orientation {
    let same_end = first.0 == leg.0 || first.1 == leg.1;
    let chained = first.1 == leg.0 || first.0 == leg.1;
    if same_end && !chained { Orientation::Crossed } else { Orientation::Same }
}
