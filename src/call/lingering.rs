//! Calls that a BYE ended a moment ago, and whose last packets are still on their way.
//!
//! Purpose: keep a call's claims for `END_GRACE_MS` after its BYE, since a BYE overtakes sound that
//! was said before it; let go at once of an address that another call announces.
//! Invariants: in order of the BYEs; no address belongs to a call that ended and to one that goes on.
//! Non-goals: how far the recording goes (the BYE, see `media`).
//! Sources: RFC 3261 §15.1.1 (a party that sends BYE stops sending and listening then).

use crate::base::limits::END_GRACE_MS;
use crate::base::{CallIndex, PacketTime};
use crate::rtp::flow_table::Claim;
use std::collections::VecDeque;

#[derive(Debug)]
struct Lingerer {
    until: PacketTime,
    call: CallIndex,
    claims: Vec<Claim>,
}

/// Ended calls that still take packets.
#[derive(Debug, Default)]
pub struct Lingering {
    calls: VecDeque<Lingerer>,
}

/// Until when the packets of a call that a BYE ended at `at` are taken.
#[must_use]
pub const fn until(at: PacketTime) -> PacketTime {
    at.plus_ms(END_GRACE_MS)
}

impl Lingering {
    /// A BYE ended `call` at `at`. BYEs come in order of time.
    pub fn add(&mut self, at: PacketTime, call: CallIndex, claims: Vec<Claim>) {
        self.calls.push_back(Lingerer { until: until(at), call, claims });
    }

    /// Takes the next call whose grace is over at `now`, and when that was.
    pub fn take_due(&mut self, now: PacketTime) -> Option<(CallIndex, PacketTime)> {
        self.calls.front().filter(|lingerer| lingerer.until <= now)?;
        let due = self.calls.pop_front()?;
        Some((due.call, due.until))
    }

    /// Another call announces `claims`: takes all calls that had one of these addresses.
    pub fn give_way(&mut self, claims: &[Claim]) -> Vec<CallIndex> {
        let mut gone = Vec::new();
        self.calls.retain(|lingerer| {
            let shares = |old: &Claim| claims.iter().any(|new| new.endpoint == old.endpoint);
            let stays = !lingerer.claims.iter().any(shares);
            if !stays {
                gone.push(lingerer.call);
            }
            stays
        });
        gone
    }
}
