//! Two conversations that turn out to be one.
//!
//! Purpose: when both parties of an answered leg have said where they receive, look whether another
//! conversation has the same two ends, and let the older one take in the younger one's legs.
//! Invariants: what the younger one recorded stays its own, and it says whose part it is; no packet is of
//! both afterwards.
//! Non-goals: legs that are known at their INVITE (see `join`).
//! Sources: RFC 7092 §3.2 (B2BUAs that leave media alone), RFC 3725 (third-party call control).

use super::correlator::Correlator;
use super::event::EndReason;
use super::join::JoinedBy;
use super::leg::Leg;
use crate::base::limits::LEGS_PER_CONVERSATION_MAX;
use crate::base::{CallIndex, Channel, Endpoint, PacketTime};

impl Correlator {
    /// What `leg` says of its media may show that its conversation is another one's.
    pub(super) fn compare_media(&mut self, leg: CallIndex, now: PacketTime) {
        let Some(leg) = self.table.get(leg).filter(|leg| leg.is_live()) else { return };
        let (conversation, Some(ends)) = (leg.conversation, media_ends(leg)) else { return };
        let Some(it) = self.table.conversation_mut(conversation) else { return };
        if it.media_ends == Some(ends) || it.over_at.is_some() {
            return;
        }
        let before = it.media_ends.replace(ends);
        let other = self.joins.same_media(&self.table, conversation, before, ends);
        if let Some(other) = other {
            let started = |index| self.table.conversation(index).map(|it| it.facts.started_at);
            let (older, younger) = if started(other) <= started(conversation) {
                (other, conversation)
            } else {
                (conversation, other)
            };
            self.absorb(older, younger, now);
        }
    }

    /// The legs of `younger` are legs of `older` from now on.
    fn absorb(&mut self, older: CallIndex, younger: CallIndex, now: PacketTime) {
        let room = |index| self.table.conversation(index).map_or(0, |it| it.legs.len());
        if room(older).saturating_add(room(younger)) > LEGS_PER_CONVERSATION_MAX {
            return;
        }
        let older_id = self.table.conversation(older).and_then(|it| it.id);
        let Some(it) = self.table.conversation_mut(younger) else { return };
        it.facts.joined_to = older_id;
        let (legs, id) = (std::mem::take(&mut it.legs), it.id);
        let answered_at = it.facts.answered_at;
        self.close(younger, now, (now, EndReason::Joined), now);
        self.let_go_now(younger, now);
        for index in legs {
            let Some(leg) = self.table.get_mut(index) else { continue };
            leg.conversation = older;
            leg.joined = Some(JoinedBy::Media);
            let call_id = leg.sip_call_id.clone();
            if let Some(it) = self.table.conversation_mut(older) {
                it.legs.push(index);
            }
            self.tell_leg(older, &call_id, JoinedBy::Media, now, id);
        }
        self.publish(older, now);
        if answered_at.is_some() {
            self.tell_answer(older, now);
        }
    }
}

/// Where the two parties of an answered leg receive, in order of address.
fn media_ends(leg: &Leg) -> Option<(Endpoint, Endpoint)> {
    let branch = leg.winner.and_then(|at| leg.branches.get(at))?;
    let of = |party| branch.descriptions(party).next()?.audio_endpoints().next();
    let (one, other) = (of(Channel::Caller)?, of(Channel::Callee)?);
    Some(if one <= other { (one, other) } else { (other, one) })
}
