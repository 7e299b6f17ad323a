//! The calls that are being followed, found by Call-ID.
//!
//! Purpose: own the calls; give out and take back their indexes.
//! Invariants: at most `CALLS_MAX` calls; an index is not given out again before the call's Call-ID
//! is forgotten; iteration is in order of index, never of a hash.
//! Non-goals: what a message means (see `correlator`).
//! Sources: RFC 3261 §8.1.1.4 (Call-ID).

use super::dialog::{Branch, OpenOffer};
use super::event::{CallFacts, EndReason};
use crate::base::limits::{CALLS_MAX, LEGS_PER_CALL_MAX};
use crate::base::{CallIndex, PacketTime};
use crate::rtp::flow_table::Claim;
use crate::rtp::plan::MediaPlan;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Where a call stands.
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
        /// When we learned of it.
        at: PacketTime,
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

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Its place.
    pub index: CallIndex,
    /// Call-ID header value.
    pub sip_call_id: Vec<u8>,
    /// What is told of it.
    pub facts: CallFacts,
    /// Where it stands.
    pub phase: Phase,
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
    /// What was published last.
    pub claims: Vec<Claim>,
    /// What was published last.
    pub plan: MediaPlan,
}

impl Call {
    /// The branch with the callee's tag, made where it is new; beyond `LEGS_PER_CALL_MAX` the last.
    pub fn branch(&mut self, tag: &[u8]) -> usize {
        if let Some(found) = self.branches.iter().position(|branch| branch.tag == tag) {
            return found;
        }
        if self.branches.len() < LEGS_PER_CALL_MAX {
            self.branches.push(Branch::new(tag, self.initial_offer.clone()));
        }
        self.branches.len().saturating_sub(1)
    }

    /// True until the call is over.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. })
    }
}

/// All calls.
#[derive(Debug, Default)]
pub struct CallTable {
    slots: Vec<Option<Call>>,
    free: Vec<u32>,
    by_call_id: HashMap<Vec<u8>, CallIndex, RandomState>,
}

impl CallTable {
    /// Puts a call into a free slot; `None` when the table is full. A call with the same Call-ID
    /// that is over keeps its slot until it expires, but is no longer found.
    pub fn insert(
        &mut self,
        call_id: &[u8],
        make: impl FnOnce(CallIndex) -> Call,
    ) -> Option<CallIndex> {
        let index = match self.free.pop() {
            Some(index) => CallIndex(index),
            None if self.slots.len() < CALLS_MAX => {
                self.slots.push(None);
                CallIndex(u32::try_from(self.slots.len() - 1).ok()?)
            }
            None => return None,
        };
        let slot = self.slots.get_mut(index.0 as usize)?;
        *slot = Some(make(index));
        self.by_call_id.insert(call_id.to_vec(), index);
        Some(index)
    }

    /// The call of a Call-ID.
    #[must_use]
    pub fn find(&self, call_id: &[u8]) -> Option<CallIndex> {
        self.by_call_id.get(call_id).copied()
    }

    /// A call by its index.
    pub fn get_mut(&mut self, index: CallIndex) -> Option<&mut Call> {
        self.slots.get_mut(index.0 as usize)?.as_mut()
    }

    /// A call by its index.
    #[must_use]
    pub fn get(&self, index: CallIndex) -> Option<&Call> {
        self.slots.get(index.0 as usize)?.as_ref()
    }

    /// Forgets a call and frees its index.
    pub fn remove(&mut self, index: CallIndex) {
        let Some(call) = self.slots.get_mut(index.0 as usize).and_then(Option::take) else {
            return;
        };
        if self.find(&call.sip_call_id) == Some(index) {
            self.by_call_id.remove(&call.sip_call_id);
        }
        self.free.push(index.0);
    }

    /// Calls in order of index.
    pub fn iter(&self) -> impl Iterator<Item = &Call> {
        self.slots.iter().flatten()
    }

    /// Calls that are not over.
    #[must_use]
    pub fn live(&self) -> usize {
        self.iter().filter(|call| call.is_live()).count()
    }
}
