//! What the media layer tells of a finished call.
//!
//! Purpose: figures for the summary: streams, gaps, digits, length.
//! Invariants: values depend on the packets alone, not on how visits were cut.
//! Non-goals: JSON (see `call::summary`).
//! Sources: RFC 3550 §6.4.1 (jitter), ITU-T G.107 (MOS).

use super::far_end::FarEndReport;
use super::fax::FaxReport;
use super::gaps::Gap;
use super::missing::Missing;
use super::stream::StreamKey;
use crate::base::{Channel, PacketTime};
use crate::rtp::SrtpSuite;
use crate::rtp::matched_by::MatchedBy;

/// What is in the archive of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing.
    #[default]
    Nothing,
    /// Opus audio.
    Audio,
    /// RTP as it came.
    Raw,
}

/// One stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamReport {
    /// Which.
    pub key: StreamKey,
    /// First packet's arrival.
    pub first: PacketTime,
    /// Encoding name.
    pub codec: String,
    /// The SRTP suite that its packets were opened with.
    pub srtp: Option<SrtpSuite>,
    /// RTP clock.
    pub clock_hz: u32,
    /// Packets, duplicates left out.
    pub packets: u64,
    /// Never seen.
    pub lost: u64,
    /// Too late for their place.
    pub late: u64,
    /// Seen again.
    pub duplicate: u64,
    /// Out of order.
    pub reordered: u64,
    /// Interarrival jitter, at the end.
    pub jitter_ms: f64,
    /// The same, its mean over the packets.
    pub jitter_mean_ms: f64,
    /// The same, at its worst.
    pub jitter_max_ms: f64,
    /// E-model.
    pub mos: Option<f64>,
    /// What the phones said of it in RTCP.
    pub rtcp: Option<FarEndReport>,
    /// By what evidence it is of this call, where that is known.
    pub matched_by: Option<MatchedBy>,
}

/// One digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigitReport {
    /// Who pressed it.
    pub channel: Channel,
    /// Its label.
    pub digit: String,
    /// When it was pressed.
    pub time: PacketTime,
    /// How long it was held, where known.
    pub duration_ms: Option<u32>,
    /// What told it.
    pub source: DigitSource,
}

/// What told a digit; the most exact first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DigitSource {
    /// A telephone-event in RTP.
    Rtp,
    /// SIP INFO or NOTIFY.
    Info,
    /// Tones in the sound.
    Inband,
}

impl DigitSource {
    /// As the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rtp => "rtp",
            Self::Info => "info",
            Self::Inband => "inband",
        }
    }
}

/// A call's media.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaReport {
    /// Second 0 of the recording.
    pub start: Option<PacketTime>,
    /// Length, ns.
    pub len_ns: i64,
    /// What is in the archive.
    pub recorded: Recorded,
    /// Bytes of Opus packets, or of raw entries.
    pub bytes: u64,
    /// In order of first packet.
    pub streams: Vec<StreamReport>,
    /// In order of time.
    pub gaps: Vec<Gap>,
    /// In order of time.
    pub digits: Vec<DigitReport>,
    /// Why a party's sound is missing, by channel.
    pub missing: [Option<Missing>; 2],
    /// Whether it is a fax.
    pub fax: Option<FaxReport>,
    /// For people.
    pub notes: Vec<String>,
}
