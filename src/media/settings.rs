//! How calls are recorded, and who takes what comes out.
//!
//! Purpose: what operators choose, as the media layer needs it.
//! Invariants: plain values.
//! Non-goals: flags (see `cli::options`).
//! Sources: the design's command line.

use super::voice::VoiceSettings;
use crate::base::PacketEntry;

/// From when a call is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// The 2xx.
    #[default]
    Answer,
    /// The first media packet.
    Media,
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// Opus.
    #[default]
    Opus,
    /// RTP as it came.
    Raw,
    /// Nothing: measured only.
    None,
}

/// Widest band that is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Band {
    /// 8 kHz.
    Narrow,
    /// 16 kHz.
    Wide,
    /// As the codec has it.
    #[default]
    Auto,
}

impl Band {
    /// The highest sample rate that a channel is encoded at.
    #[must_use]
    pub const fn rate_hz_max(self) -> u32 {
        match self {
            Self::Narrow => 8_000,
            Self::Wide => 16_000,
            Self::Auto => 48_000,
        }
    }
}

/// How calls are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaSettings {
    /// From when.
    pub start: StartAt,
    /// What is kept.
    pub store: Store,
    /// Widest band.
    pub band: Band,
    /// How long a missing packet is waited for.
    pub reorder_window_ms: i64,
    /// Encoder.
    pub voice: VoiceSettings,
}

/// What takes a call's output.
pub trait MediaSink {
    /// One slot: its number from the recording's start, and an Opus packet of 20 ms a channel.
    fn slot(&mut self, number: u32, left: &[u8], right: &[u8]);

    /// A packet to be kept as it came.
    fn raw(&mut self, entry: &PacketEntry<'_>);
}
