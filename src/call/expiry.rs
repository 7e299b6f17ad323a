//! Calls that end because nothing is heard of them.
//!
//! Purpose: the timers of a call, on the packet clock.
//! Invariants: the outcome depends on packet times alone, not on how often `expire` is called; a
//! call that timed out ended with its last media or message, not when we noticed.
//! Non-goals: reading a clock.
//! Sources: RFC 3261 §16.6 (timer C), §17.1.1.2 (64 × T1), RFC 4028 (session timers, which a tap
//! cannot rely on).

use super::correlator::{Correlator, end};
use super::event::EndReason;
use super::table::{Call, Phase};
use crate::base::limits::{
    ENDED_CALL_MS, HOLD_TIMEOUT_MS, MEDIA_TIMEOUT_MS, NO_MEDIA_TIMEOUT_MS, RETRY_WAIT_MS,
    SETUP_TIMEOUT_MS,
};
use crate::base::{CallIndex, PacketTime};

enum Due {
    Nothing,
    End(PacketTime, EndReason),
    Forget,
}

impl Correlator {
    /// Ends and forgets what is due. `last_media` tells when the last RTP of a call passed.
    ///
    /// Returns the indexes that are free again.
    pub fn expire(
        &mut self,
        now: PacketTime,
        last_media: impl Fn(CallIndex) -> Option<PacketTime>,
    ) -> Vec<CallIndex> {
        let mut forgotten = Vec::new();
        let due: Vec<(CallIndex, Due)> = self
            .table
            .iter()
            .map(|call| (call.index, due(call, now, last_media(call.index))))
            .filter(|(_, due)| !matches!(due, Due::Nothing))
            .collect();
        for (index, due) in due {
            match due {
                Due::Nothing => {}
                Due::Forget => {
                    self.table.remove(index);
                    forgotten.push(index);
                }
                Due::End(at, reason) => {
                    if let Some(call) = self.table.get_mut(index) {
                        end(&mut self.events, call, now, at, reason);
                    }
                }
            }
        }
        forgotten
    }

    /// callspan stops: what goes on is truncated, in order of index.
    pub fn shut_down(&mut self, now: PacketTime) {
        let live: Vec<CallIndex> =
            self.table.iter().filter(|call| call.is_live()).map(|call| call.index).collect();
        for index in live {
            if let Some(call) = self.table.get_mut(index) {
                let (at, reason) = match call.phase {
                    Phase::Refused { at, reason } => (at, reason),
                    _ => (now, EndReason::Shutdown),
                };
                end(&mut self.events, call, now, at, reason);
            }
        }
    }
}

fn due(call: &Call, now: PacketTime, last_media: Option<PacketTime>) -> Due {
    match call.phase {
        Phase::Ended { at } if now.ms_since(at) >= ENDED_CALL_MS => Due::Forget,
        Phase::Refused { at, reason } if now.ms_since(at) >= RETRY_WAIT_MS => Due::End(at, reason),
        Phase::Ended { .. } | Phase::Refused { .. } => Due::Nothing,
        Phase::Setup => {
            let last = last_media.map_or(call.last_sip, |media| media.max(call.last_sip));
            if now.ms_since(last) >= SETUP_TIMEOUT_MS {
                return Due::End(last, EndReason::Timeout);
            }
            Due::Nothing
        }
        Phase::Answered => {
            let winner = call.winner.and_then(|at| call.branches.get(at));
            let on_hold = winner.is_some_and(super::dialog::Branch::is_on_hold);
            let limit_ms = match last_media {
                _ if on_hold => HOLD_TIMEOUT_MS,
                None => NO_MEDIA_TIMEOUT_MS,
                Some(_) => MEDIA_TIMEOUT_MS,
            };
            let heard = last_media.map_or(call.last_sip, |media| media.max(call.last_sip));
            if now.ms_since(heard) >= limit_ms {
                return Due::End(last_media.unwrap_or(heard), EndReason::Timeout);
            }
            Due::Nothing
        }
    }
}
