//! Calls that end because nothing is heard of them.
//!
//! Purpose: the timers of a call, on the packet clock.
//! Invariants: the outcome depends on packet times alone, not on how often `expire` is called; a
//! call that timed out ended with its last media or message, not when we noticed.
//! Non-goals: reading a clock.
//! Sources: RFC 3261 §16.6 (timer C), §17.1.1.2 (64 × T1), RFC 4028 (session timers, which a tap
//! cannot rely on).

use super::correlator::Correlator;
use super::event::EndReason;
use super::leg::{Leg, Phase};
use crate::base::limits::{
    ENDED_CALL_MS, HOLD_TIMEOUT_MS, MEDIA_TIMEOUT_MS, NO_MEDIA_TIMEOUT_MS, RETRY_WAIT_MS,
    SETUP_TIMEOUT_MS,
};
use crate::base::{CallIndex, PacketTime};

impl Correlator {
    /// Ends and forgets what is due. `last_media` tells when the last RTP of a call passed.
    ///
    /// Returns the indexes that are free again.
    pub fn expire(
        &mut self,
        now: PacketTime,
        last_media: impl Fn(CallIndex) -> Option<PacketTime>,
    ) -> Vec<CallIndex> {
        let due: Vec<_> = self
            .table
            .iter()
            .filter_map(|leg| {
                due(leg, now, last_media(leg.conversation)).map(|due| (leg.index, due))
            })
            .collect();
        for (leg, (at, reason)) in due {
            self.end_leg(leg, now, at, reason);
        }
        let transfers: Vec<CallIndex> = self
            .table
            .conversations()
            .filter(|it| it.over_at.is_none() && it.transfer_until.is_some_and(|due| due <= now))
            .map(|it| it.index)
            .collect();
        for conversation in transfers {
            self.finish(conversation, conversation, now);
        }
        self.forget(now)
    }

    /// callspan stops: what goes on is truncated, in order of index.
    pub fn shut_down(&mut self, now: PacketTime) {
        let live: Vec<CallIndex> =
            self.table.iter().filter(|leg| leg.is_live()).map(|leg| leg.index).collect();
        for index in live {
            let (at, reason) = match self.table.get(index).map(|leg| leg.phase) {
                Some(Phase::Refused { at, reason }) => (at, reason),
                _ => (now, EndReason::Shutdown),
            };
            self.end_leg(index, now, at, reason);
        }
        let waiting: Vec<CallIndex> = self
            .table
            .conversations()
            .filter(|it| it.over_at.is_none())
            .map(|it| it.index)
            .collect();
        for conversation in waiting {
            self.finish(conversation, conversation, now);
        }
    }

    /// Forgets the legs of conversations that have been over for a while.
    fn forget(&mut self, now: PacketTime) -> Vec<CallIndex> {
        let is_due = |leg: &&Leg| {
            let over_at = self.table.conversation(leg.conversation).and_then(|it| it.over_at);
            over_at.is_some_and(|at| now.ms_since(at) >= ENDED_CALL_MS)
        };
        let forgotten: Vec<CallIndex> =
            self.table.iter().filter(is_due).map(|leg| leg.index).collect();
        for index in &forgotten {
            self.table.remove(*index);
        }
        forgotten
    }
}

/// When and why a leg is over because nothing was heard of it, or `None`.
fn due(
    leg: &Leg,
    now: PacketTime,
    last_media: Option<PacketTime>,
) -> Option<(PacketTime, EndReason)> {
    let last = last_media.map_or(leg.last_sip, |media| media.max(leg.last_sip));
    match leg.phase {
        Phase::Ended { .. } => None,
        Phase::Refused { at, reason } => {
            (now.ms_since(at) >= RETRY_WAIT_MS).then_some((at, reason))
        }
        Phase::Setup => {
            (now.ms_since(last) >= SETUP_TIMEOUT_MS).then_some((last, EndReason::Timeout))
        }
        Phase::Answered => {
            let limit_ms = match last_media {
                _ if leg.is_on_hold() => HOLD_TIMEOUT_MS,
                None => NO_MEDIA_TIMEOUT_MS,
                Some(_) => MEDIA_TIMEOUT_MS,
            };
            let ended = last_media.unwrap_or(last);
            (now.ms_since(last) >= limit_ms).then_some((ended, EndReason::Timeout))
        }
    }
}
