//! By what evidence a stream was given to its call, and how sure that is.
//!
//! Purpose: one closed list of reasons, each with a fixed confidence, for the table that fronts read
//! and for the JSON.
//! Invariants: the better evidence has the greater confidence; words and numbers are a contract.
//! Non-goals: finding the evidence (see `rtp::flow_table`, `call::strangers`).
//! Sources: RFC 3264 §5.1, RFC 4961 (symmetric RTP), RFC 8445 (ICE), RFC 3550 §8 (SSRC), RFC 5576.

/// Why a stream is a call's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchedBy {
    /// Both ends are addresses that SDP announced.
    Sdp,
    /// It goes to an announced address, from one that is not (NAT, another port for sending).
    Destination,
    /// It comes from an announced address and goes to the far end's real one.
    Symmetric,
    /// One or both ends are ICE candidates.
    Ice,
    /// A report, `a=ssrc` or its own sequence numbers name the SSRC.
    Ssrc,
    /// Both ports were announced, at other addresses.
    PortPair,
    /// One port was announced, at another address.
    Port,
    /// The one call that lacked this side then.
    Time,
    /// No SIP: two flows that belong to each other.
    Heuristic,
}

impl MatchedBy {
    /// Every reason, surest first.
    pub const ALL: [Self; 9] = [
        Self::Sdp,
        Self::Destination,
        Self::Symmetric,
        Self::Ice,
        Self::Ssrc,
        Self::PortPair,
        Self::Port,
        Self::Time,
        Self::Heuristic,
    ];

    /// As the JSON has it: several reasons share a word and differ in confidence.
    #[must_use]
    pub const fn evidence(self) -> &'static str {
        match self {
            Self::Sdp | Self::Destination => "sdp",
            Self::Symmetric => "symmetric",
            Self::Ice => "ice",
            Self::Ssrc => "ssrc",
            Self::PortPair | Self::Port => "port",
            Self::Time => "time",
            Self::Heuristic => "heuristic",
        }
    }

    /// From 0 to 1: how sure it is that the stream is of this call. The numbers rank the evidence;
    /// they are no measured frequencies.
    #[must_use]
    pub const fn confidence(self) -> f64 {
        match self {
            Self::Sdp => 1.0,
            Self::Destination => 0.95,
            Self::Symmetric | Self::Ice => 0.9,
            Self::Ssrc => 0.85,
            Self::PortPair => 0.8,
            Self::Port => 0.6,
            Self::Time | Self::Heuristic => 0.5,
        }
    }

    /// Its place in [`ALL`](Self::ALL), as queues and spills carry it.
    #[must_use]
    pub fn code(self) -> u8 {
        let at = Self::ALL.iter().position(|by| *by == self);
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
    }

    /// The reason of a code; `None` where there is none.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_confidence_falls_in_order() {
        for (at, by) in MatchedBy::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(by.code()), at);
            assert_eq!(MatchedBy::from_code(by.code()), Some(by));
            assert!(by.confidence() > 0.0 && by.confidence() <= 1.0 && !by.evidence().is_empty());
        }
        assert_eq!(MatchedBy::from_code(9), None);
        let falls = |pair: &[MatchedBy]| pair[0].confidence() >= pair[1].confidence();
        assert!(MatchedBy::ALL.windows(2).all(falls));
    }
}
