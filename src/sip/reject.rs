//! Why bytes are no SIP message for us.
//!
//! Purpose: one small value for the counter and the report.
//! Invariants: the label is the variant in snake_case.
//! Non-goals: everything that a recorder can live with (see `message`).
//! Sources: RFC 3261 §7, §8.1.1; RFC 4475.

/// Why bytes are no message for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SipReject {
    /// The first line is not SIP/2.0's.
    NotSip,
    /// A status code outside 100–699.
    BadStatus,
    /// Longer than `limits::SIP_MESSAGE_BYTES_MAX`.
    TooLong,
    /// No Call-ID, or an empty one.
    NoCallId,
    /// No CSeq.
    NoCseq,
    /// A CSeq whose number is no number below 2³², or a response's without a method.
    BadCseq,
}

impl SipReject {
    /// All, in order.
    pub const ALL: [Self; 6] =
        [Self::NotSip, Self::BadStatus, Self::TooLong, Self::NoCallId, Self::NoCseq, Self::BadCseq];

    /// The variant in snake_case, for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotSip => "not_sip",
            Self::BadStatus => "bad_status",
            Self::TooLong => "too_long",
            Self::NoCallId => "no_call_id",
            Self::NoCseq => "no_cseq",
            Self::BadCseq => "bad_cseq",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_variants_in_snake_case() {
        for reject in SipReject::ALL {
            let joined = reject.label().replace('_', "");
            assert_eq!(joined, format!("{reject:?}").to_ascii_lowercase());
        }
    }
}
