//! What is said of an address: who receives there, and how well a packet fits it.
//!
//! Purpose: the values that the correlator tells and that fronts ask for.
//! Invariants: plain values; the order of `Fit` is the order in which evidence wins.
//! Non-goals: looking them up (see `flow_table`).
//! Sources: RFC 3264 §5.1, RFC 8445 §5.3 (candidates).

use super::matched_by::MatchedBy;
use crate::base::{CallIndex, Channel, Endpoint};

/// What is received at a claimed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRole {
    /// Audio.
    Audio,
    /// Audio, perhaps: an ICE candidate.
    Candidate,
    /// RTCP of an audio medium, on its own port.
    Rtcp,
    /// T.38 fax; sound that still comes there is sound.
    Fax,
    /// Video or another medium that is not recorded.
    NotAudio,
    /// The address of a fork's branch that did not answer.
    Loser,
}

/// One announced address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where the party receives.
    pub endpoint: Endpoint,
    /// Which party receives there.
    pub party: Channel,
    /// What it receives.
    pub role: ClaimRole,
}

/// A flow that is a call's although SDP announced neither of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedFlow {
    /// One end.
    pub source: Endpoint,
    /// The other; packets the other way are the other party's.
    pub destination: Endpoint,
    /// Who sends from `source`.
    pub sender: Channel,
    /// What it carries.
    pub role: ClaimRole,
    /// Why we think so.
    pub by: MatchedBy,
}

/// Whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The call.
    pub call: CallIndex,
    /// Which party sent the packet.
    pub sender: Channel,
    /// What the flow carries.
    pub role: ClaimRole,
    /// How sure we are.
    pub fit: Fit,
    /// By what evidence.
    pub by: MatchedBy,
}

/// Which ends of a packet were announced; better is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// None: media that a call was made from. SIP's word takes it away.
    Heuristic,
    /// Only the sender's address, an ICE candidate.
    SourceCandidate,
    /// Only the sender's address.
    Source,
    /// None, but the flow was learned.
    Learned,
    /// Only the receiver's address, an ICE candidate.
    DestinationCandidate,
    /// Both, and one is an ICE candidate.
    BothCandidate,
    /// Only the receiver's address.
    Destination,
    /// Both.
    Both,
}

impl Fit {
    /// True where the destination is known to be the call's, and not only the sender.
    #[must_use]
    pub const fn is_firm(self) -> bool {
        !matches!(self, Self::Heuristic | Self::SourceCandidate | Self::Source)
    }

    pub(super) const fn by(self) -> MatchedBy {
        match self {
            Self::Both => MatchedBy::Sdp,
            Self::Destination => MatchedBy::Destination,
            Self::Source => MatchedBy::Symmetric,
            Self::BothCandidate | Self::DestinationCandidate | Self::SourceCandidate => {
                MatchedBy::Ice
            }
            Self::Learned | Self::Heuristic => MatchedBy::Heuristic,
        }
    }
}
