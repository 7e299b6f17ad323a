//! From SIP messages to calls.
//!
//! Purpose: give each message to its leg, and each leg to its conversation.
//! Invariants: a message changes at most one leg; events come in the order in which they must be
//! applied; a message that makes no sense changes nothing.
//! Non-goals: a leg's states (see `leg`), offer/answer (see `dialog`), timers (see `expiry`), what is
//! told of a conversation (see `conversation`).
//! Sources: RFC 3261 §12 (dialogs), RFC 3515 (REFER).

use super::conversation::Conversation;
use super::event::CallEvent;
use super::join::{JoinSettings, Joins};
use super::leg::{Begins, Leg, Step};
use super::lingering::Lingering;
use super::strangers::Strangers;
use super::table::CallTable;
use crate::base::{CallIndex, FiveTuple, PacketTime};
use crate::sip::{Message, Method, StartLine};

/// Follows every call.
#[derive(Debug, Default)]
pub struct Correlator {
    pub(super) table: CallTable,
    pub(super) events: Vec<CallEvent>,
    pub(super) lingering: Lingering,
    pub(super) joins: Joins,
    pub(super) strangers: Strangers,
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
    /// A correlator that joins legs as `settings` say.
    #[must_use]
    pub fn new(settings: JoinSettings) -> Self {
        let strangers = Strangers::new(settings.media_calls);
        Self { joins: Joins::new(settings), strangers, ..Self::default() }
    }

    /// Takes one SIP message that passed the tap at `now`, from where to where `flow` says.
    pub fn on_message(
        &mut self,
        now: PacketTime,
        flow: FiveTuple,
        message: &Message<'_>,
    ) -> Attributed {
        self.let_go(now);
        self.note_digits(now, message);
        let told = self.events.len();
        let index = match self.find_or_open(now, flow, message) {
            Attributed::Call(index) => index,
            other => return other,
        };
        let Some(leg) = self.table.get_mut(index) else { return Attributed::NoCall };
        let conversation = leg.conversation;
        let step = leg.on_message(now, message);
        self.follow_transfer(now, index, flow, message);
        match step {
            Step::Nothing => {}
            Step::Answered => self.on_answer(index, now),
            Step::Ended(reason) => self.end_leg(index, now, now, reason),
        }
        self.publish(conversation, now);
        self.compare_media(index, now);
        self.give_way(now, told);
        let conversation = self.table.get(index).map_or(conversation, |leg| leg.conversation);
        Attributed::Call(conversation)
    }

    /// When time has to go on next: `let_go` does nothing before.
    #[must_use]
    pub fn next_due(&self) -> Option<PacketTime> {
        self.lingering.next_due()
    }

    /// Time goes on: calls that ended let go of their addresses. Cheap when called often.
    pub fn let_go(&mut self, now: PacketTime) {
        while let Some(due) = self.lingering.take_due(now) {
            self.let_go_of(due.leg, due.conversation, due.until);
        }
    }

    /// Whoever has an address that events since `told` announce lets go of it before that.
    fn give_way(&mut self, now: PacketTime, told: usize) {
        let announced: Vec<_> = self
            .events
            .iter()
            .skip(told)
            .filter_map(|event| match event {
                CallEvent::Claims { call, claims, .. } => Some((*call, claims.clone())),
                _ => None,
            })
            .collect();
        let before = self.events.len();
        for (call, claims) in announced {
            for (leg, conversation) in self.lingering.give_way(call, &claims) {
                self.let_go_of(leg, conversation, now);
            }
        }
        let given = self.events.len().saturating_sub(before);
        if let Some(since) = self.events.get_mut(told..) {
            since.rotate_right(given);
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

    fn find_or_open(
        &mut self,
        now: PacketTime,
        flow: FiveTuple,
        message: &Message<'_>,
    ) -> Attributed {
        let known = self.table.find(message.call_id());
        let begins = Begins::of(message);
        if let Some(index) = known {
            let is_over = self.table.get(index).is_none_or(|leg| !leg.is_live());
            if !(is_over && begins == Begins::Invite) {
                return Attributed::Call(index);
            }
        }
        if begins == Begins::Nothing {
            return Attributed::NoCall;
        }
        let join = self.joins.find(&self.table, now, flow, message);
        let make = |index| Leg::new(index, now, flow, message);
        let Some(index) = self.table.insert(message.call_id(), make) else {
            return Attributed::NoRoom;
        };
        if let Some(join) = join {
            self.join(now, index, join);
        } else if let Some(leg) = self.table.get(index) {
            let keys = self.joins.begin(leg, message);
            let origin = leg.origin;
            let conversation = Conversation::new(leg, now, keys);
            self.table.begin(conversation);
            let sip_call_id = message.call_id().to_vec();
            self.events.push(CallEvent::Opened { call: index, time: now, sip_call_id, origin });
        }
        Attributed::Call(index)
    }

    /// REFER, and what becomes of it.
    fn follow_transfer(
        &mut self,
        now: PacketTime,
        leg: CallIndex,
        flow: FiveTuple,
        message: &Message<'_>,
    ) {
        let Some(leg) = self.table.get(leg) else { return };
        match message.start() {
            StartLine::Request { method: Method::Refer, .. } => {
                let (by, _) = leg.sides(message);
                self.joins.refer(now, leg, by, flow, message);
            }
            StartLine::Request { method: Method::Notify, .. } if has_failed(message) => {
                self.joins.refer_failed(leg.index);
            }
            StartLine::Response { status, .. }
                if message.cseq().method == Method::Refer && status >= 300 =>
            {
                self.joins.refer_failed(leg.index);
            }
            _ => {}
        }
    }
}

/// A NOTIFY that says that the call that a REFER asked for failed (RFC 3515 §2.4.5).
fn has_failed(message: &Message<'_>) -> bool {
    let status = message.body().strip_prefix(b"SIP/2.0 ");
    status.is_some_and(|rest| matches!(rest.first(), Some(b'3'..=b'6')))
}

#[cfg(test)]
impl Correlator {
    /// Takes a message written with bare line ends, between two hosts, and what it tells.
    pub(super) fn hear(&mut self, text: &str) -> Vec<CallEvent> {
        use crate::base::{Endpoint, Protocol};
        let bytes = text.replace('\n', "\r\n");
        let message = Message::parse(bytes.as_bytes()).expect("a message");
        let (source, destination) =
            (Endpoint::v4([10, 0, 0, 1], 5_060), Endpoint::v4([10, 0, 0, 2], 5_060));
        let flow = FiveTuple { protocol: Protocol::Udp, source, destination };
        self.on_message(PacketTime::from_ms(0), flow, &message);
        self.drain().collect()
    }
}
