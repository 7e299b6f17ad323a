//! Legs that a BYE ended a moment ago, and whose last packets are still on their way.
//!
//! Purpose: keep a leg's claims for `END_GRACE_MS` after its BYE, since a BYE overtakes sound that
//! was said before it; let go at once of an address that another call announces.
//! Invariants: in order of the BYEs; no address belongs to a call that ended and to one that goes on.
//! Non-goals: how far the recording goes (the BYE, see `media`).
//! Sources: RFC 3261 §15.1.1 (a party that sends BYE stops sending and listening then).

use crate::base::limits::END_GRACE_MS;
use crate::base::{CallIndex, PacketTime};
use crate::rtp::flow_table::Claim;
use std::collections::VecDeque;

/// A leg that a BYE ended.
#[derive(Debug)]
struct Lingerer {
    due: Due,
    claims: Vec<Claim>,
}

/// A leg whose grace is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since when.
    pub until: PacketTime,
    /// Which.
    pub leg: CallIndex,
    /// Its conversation.
    pub conversation: CallIndex,
}

/// Ended legs that still take packets.
#[derive(Debug, Default)]
pub struct Lingering {
    legs: VecDeque<Lingerer>,
}

/// Until when the packets of a leg that a BYE ended at `at` are taken.
#[must_use]
pub const fn until(at: PacketTime) -> PacketTime {
    at.plus_ms(END_GRACE_MS)
}

impl Lingering {
    /// A BYE ended `leg` at `at`. BYEs come in order of time.
    pub fn add(
        &mut self,
        at: PacketTime,
        leg: CallIndex,
        conversation: CallIndex,
        claims: Vec<Claim>,
    ) {
        let due = Due { until: until(at), leg, conversation };
        self.legs.push_back(Lingerer { due, claims });
    }

    /// When the next leg's grace is over.
    #[must_use]
    pub fn next_due(&self) -> Option<PacketTime> {
        self.legs.front().map(|lingerer| lingerer.due.until)
    }

    /// Takes the next leg whose grace is over at `now`.
    pub fn take_due(&mut self, now: PacketTime) -> Option<Due> {
        self.legs.front().filter(|lingerer| lingerer.due.until <= now)?;
        self.legs.pop_front().map(|lingerer| lingerer.due)
    }

    /// The conversation `by` announces `claims`: takes all legs of other conversations that had one of
    /// these addresses.
    pub fn give_way(&mut self, by: CallIndex, claims: &[Claim]) -> Vec<(CallIndex, CallIndex)> {
        let shares = |old: &Claim| claims.iter().any(|new| new.endpoint == old.endpoint);
        let others = self.legs.iter().filter(|it| it.due.conversation != by);
        let gone: Vec<CallIndex> = others
            .filter(|it| it.claims.iter().any(shares))
            .map(|it| it.due.conversation)
            .collect();
        let mut taken = Vec::new();
        self.legs.retain(|it| {
            let stays = !gone.contains(&it.due.conversation);
            if !stays {
                taken.push((it.due.leg, it.due.conversation));
            }
            stays
        });
        taken
    }
}
