//! What the correlator tells: events, and the facts of a call.
//!
//! Purpose: values that `work` turns into flow tables, controls and records.
//! Invariants: the caller drains events before the next input.
//! Non-goals: media figures (see `media::MediaReport`).
//! Sources: the design's JSON contract (labels).

use super::join::JoinedBy;
use crate::base::{CallId, CallIndex, Channel, PacketTime};
use crate::rtp::flow_table::{Claim, LearnedFlow};
use crate::rtp::plan::Control;

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// BYE from either side.
    Bye,
    /// CANCEL by the caller.
    Cancel,
    /// A final response of 300 or more.
    Rejected,
    /// Nothing was heard of it any more.
    Timeout,
    /// callspan stopped while it went on: the call is truncated.
    Shutdown,
    /// It turned out to be a leg of another call, which goes on.
    Joined,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Bye, Self::Cancel, Self::Rejected, Self::Timeout, Self::Shutdown, Self::Joined];

    /// As the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bye => "bye",
            Self::Cancel => "cancel",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Joined => "joined",
        }
    }
}

/// How we learned of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOrigin {
    /// By its INVITE.
    Invite,
    /// By a later message: capturing began while it was going on.
    MidCall,
    /// By its media alone.
    Heuristic,
}

impl CallOrigin {
    /// As the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::MidCall => "mid_call",
            Self::Heuristic => "heuristic",
        }
    }
}

/// A party as SIP names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// `sip:user@host`.
    pub uri: String,
    /// User part or telephone number.
    pub number: String,
    /// Display name.
    pub name: String,
}

/// A leg of a call beside the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegFacts {
    /// Call-ID header value.
    pub sip_call_id: String,
    /// What told that it is of this call.
    pub by: JoinedBy,
    /// When that was.
    pub since: PacketTime,
    /// The call that its recording is of, where that is not this one.
    pub recorded_apart: Option<CallId>,
}

/// Who speaks on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The channel.
    pub channel: Channel,
    /// Who.
    pub party: Party,
    /// Since when.
    pub since: PacketTime,
}

/// What SIP tells of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFacts {
    /// Call-ID header value.
    pub sip_call_id: String,
    /// First message.
    pub started_at: PacketTime,
    /// The 2xx to the INVITE.
    pub answered_at: Option<PacketTime>,
    /// The end, where it has come.
    pub ended: Option<(PacketTime, EndReason)>,
    /// Final status of the INVITE.
    pub status_code: Option<u16>,
    /// How we learned of it.
    pub origin: CallOrigin,
    /// Who sent the INVITE.
    pub caller: Party,
    /// Who was called.
    pub callee: Party,
    /// Its further legs, in the order in which they joined.
    pub legs: Vec<LegFacts>,
    /// Who spoke on which channel since when; empty where nobody was transferred.
    pub speakers: Vec<Speaker>,
    /// The call that this one is a part of, and is listed with.
    pub joined_to: Option<CallId>,
}

/// Something the layers above must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// A call begins.
    Opened {
        /// Which.
        call: CallIndex,
        /// First message.
        time: PacketTime,
        /// Call-ID header value, as it came.
        sip_call_id: Vec<u8>,
        /// How it was found.
        origin: CallOrigin,
    },
    /// All addresses that the call claims from now on.
    Claims {
        /// Which.
        call: CallIndex,
        /// Complete: replaces those before.
        claims: Vec<Claim>,
        /// Since when.
        time: PacketTime,
    },
    /// A flow is the call's although its SDP does not name it.
    Learned {
        /// Which.
        call: CallIndex,
        /// What.
        flow: LearnedFlow,
        /// When that was found.
        time: PacketTime,
    },
    /// Something for the call's media, in order of time.
    Control {
        /// Which.
        call: CallIndex,
        /// When.
        time: PacketTime,
        /// What.
        control: Control,
    },
    /// The facts changed in a way that a list of calls should show (answered).
    Changed {
        /// Which.
        call: CallIndex,
        /// As they are now.
        facts: Box<CallFacts>,
    },
    /// The call ended; comes before its `Control::Ended`.
    Ended {
        /// Which.
        call: CallIndex,
        /// Final.
        facts: Box<CallFacts>,
    },
}
