//! Why a frame was not decoded or encoded.
//!
//! Purpose: one small vocabulary for all codecs, whose labels are metric labels.
//! Invariants: the variant in snake_case is the label.
//! Non-goals: errors of writing files, which are `std::io::Error`.
//! Sources: none.

/// Why a frame was not decoded or encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum CodecError {
    /// The result does not fit the buffer given.
    #[error("the frame is longer than the buffer")]
    FrameTooLong,
    /// The input's length is no whole number of frames or samples.
    #[error("the length is no whole number of frames")]
    BadLength,
    /// The packet contradicts itself.
    #[error("the packet contradicts itself")]
    BadPacket,
    /// A rate, channel count or setting that the codec does not have.
    #[error("the codec has no such setting")]
    Unsupported,
    /// The codec library failed where it should not.
    #[error("the codec library failed")]
    Internal,
}

impl CodecError {
    /// Metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::FrameTooLong => "frame_too_long",
            Self::BadLength => "bad_length",
            Self::BadPacket => "bad_packet",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }
}
