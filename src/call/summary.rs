//! What is told of a call: the object of `calls --json`, field for field.
//!
//! Purpose: one shape for the archive's summary record, the index, the CLI and, later, the API.
//! Invariants: the JSON names are the contract of the design; times are RFC 3339 in UTC.
//! Non-goals: where the audio stands (see `archive`).
//! Sources: RFC 3550 (jitter, loss), ITU-T G.107 (MOS).

use serde::{Deserialize, Serialize};

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallSummary {
    /// 16 hex digits.
    pub id: String,
    /// Call-ID header values of the dialogs that belong to the call.
    pub sip_call_ids: Vec<String>,
    /// `ended`, `ongoing` or `truncated`.
    pub state: String,
    /// First packet of the call.
    pub started_at: String,
    /// The 2xx to the INVITE.
    pub answered_at: Option<String>,
    /// BYE, final rejection, or the packet after which a timeout ended it.
    pub ended_at: Option<String>,
    /// `bye`, `cancel`, `rejected`, `timeout`, `shutdown`, or null while it goes on.
    pub end_reason: Option<String>,
    /// Final status of the INVITE, where one was seen.
    pub status_code: Option<u16>,
    /// `invite`, `mid_call` or `heuristic`.
    pub origin: String,
    /// Whose media was seen: `both`, `caller_only`, `callee_only`, `none`.
    pub verdict: String,
    /// Why a side is missing, for each that is.
    #[serde(default)]
    pub verdict_why: VerdictWhy,
    /// Who sent the first INVITE.
    pub caller: PartySummary,
    /// Who was called.
    pub callee: PartySummary,
    /// What is in the archive.
    pub recording: RecordingSummary,
    /// One a stream (SSRC one way), in order of first packet.
    pub streams: Vec<StreamSummary>,
    /// What is missing, in order of time.
    pub gaps: Vec<GapSummary>,
    /// Digits, in order of time.
    pub dtmf: Vec<DtmfSummary>,
    /// `unknown` where caller and callee are only the two sides of a call that was made from media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sides: Option<String>,
    /// Whether it is a fax; null where nothing says so.
    #[serde(default)]
    pub fax: Option<FaxSummary>,
    /// Anything a person should know ("raw RTP kept: G729 cannot be decoded").
    #[serde(default)]
    pub notes: Vec<String>,
    /// Further legs of the conversation, in the order in which they joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legs: Vec<LegSummary>,
    /// Who speaks on which channel since when, where a transfer changed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speakers: Vec<SpeakerSummary>,
    /// The call that this one is a part of: it is listed with that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_to: Option<String>,
}

/// A leg of a conversation beside the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSummary {
    /// Call-ID header value.
    pub sip_call_id: String,
    /// `session_id`, `join_header`, `refer`, `replaces`, `path` or `media`.
    pub joined_by: String,
    /// When it joined.
    pub joined_at: String,
    /// The id of the call that has what was recorded of it apart, or null.
    pub call: Option<String>,
}

/// Who speaks on a channel from a moment on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeakerSummary {
    /// `caller` or `callee`.
    pub channel: String,
    /// Second of the recording.
    pub at_s: f64,
    /// Who.
    #[serde(flatten)]
    pub party: PartySummary,
}

/// Why a side's sound is missing: `never_sent`, `not_seen`, `undecodable`, `encrypted`, `fax`,
/// `on_hold`, `not_answered`, `no_media_negotiated`; null where it is there, or the call goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictWhy {
    /// The caller's side.
    pub caller: Option<String>,
    /// The callee's.
    pub callee: Option<String>,
}

/// A fax in a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaxSummary {
    /// SDP agreed on T.38, or its packets were seen: they are kept as they came.
    pub t38: bool,
    /// Packets of T.38 (UDPTL).
    #[serde(default)]
    pub t38_packets: u64,
    /// The sound is a fax (pass-through): from the first message on it is kept as it came.
    pub passthrough: bool,
    /// Second of the recording in which it was noticed.
    pub at_s: f64,
    /// `cng` (calling beep), `ced` (answer tone), `v21` (preamble of a message).
    pub tones: Vec<String>,
}

/// A party of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartySummary {
    /// `sip:user@host`, without parameters.
    pub uri: String,
    /// User part, or the number of a `tel:` URI.
    pub number: String,
    /// Display name, or empty.
    pub name: String,
}

/// The recording of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingSummary {
    /// `stored`, `raw`, `none` or `erased`.
    pub state: String,
    /// Second 0 of the recording.
    pub started_at: Option<String>,
    /// Length, in seconds.
    pub seconds: f64,
    /// Bytes of audio (or raw RTP) records in the archive.
    pub bytes: u64,
    /// 2, or 0 without a recording.
    pub channels: u8,
}

/// Quality of one RTP stream, at the tap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// Which party sent it: `caller` or `callee`.
    pub channel: String,
    /// Encoding name as in rtpmap, upper case.
    pub codec: String,
    /// The SRTP suite that authenticated it, by its name in SDP; null where it came in the clear, or
    /// locked.
    #[serde(default)]
    pub srtp: Option<String>,
    /// RTP clock rate.
    pub clock_hz: u32,
    /// `0x` and eight hex digits.
    pub ssrc: String,
    /// `ip:port`.
    pub source: String,
    /// `ip:port`.
    pub destination: String,
    /// Packets seen, duplicates left out.
    pub packets: u64,
    /// Never seen, by sequence number.
    pub lost: u64,
    /// Seen too late for the recording.
    pub late: u64,
    /// Seen more than once.
    pub duplicate: u64,
    /// Seen out of order.
    pub reordered: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1), at the end of the stream.
    pub jitter_ms: f64,
    /// The same, its mean over the packets.
    #[serde(default)]
    pub jitter_mean_ms: f64,
    /// The same, at its worst.
    #[serde(default)]
    pub jitter_max_ms: f64,
    /// E-model estimate (G.107), 1–4.5; null where the codec has no published impairment.
    pub mos: Option<f64>,
    /// By what evidence it is of this call: `sdp`, `symmetric`, `ice`, `ssrc`, `port`, `time`,
    /// `heuristic`; null where that is not known.
    #[serde(default)]
    pub matched_by: Option<String>,
    /// How sure that is, 0–1: a fixed value for each kind of evidence.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// What the phones themselves said of it in RTCP; null where they said nothing.
    #[serde(default)]
    pub rtcp: Option<RtcpSummary>,
}

/// One stream by the word of its sender and its receiver (RFC 3550, RFC 3611).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RtcpSummary {
    /// Reports of the receiver about it.
    pub reports: u64,
    /// Lost on the whole way by the latest of them; negative where more came than was sent.
    pub lost: Option<i32>,
    /// The worst share lost between two reports, 0-1.
    pub fraction_lost_max: Option<f64>,
    /// Interarrival jitter at the receiver, by the latest.
    pub jitter_ms: Option<f64>,
    /// From the tap to the receiver and back, mean.
    pub round_trip_ms: Option<f64>,
    /// Packets by the sender's latest count.
    pub sent_packets: Option<u32>,
    /// The sender's canonical name.
    pub cname: Option<String>,
    /// The sender said goodbye.
    pub bye: bool,
    /// The receiver's own quality monitor; null where it has none.
    pub xr: Option<XrSummary>,
}

/// Figures of an extended report (RFC 3611 §4.6 and §4.7); null: not told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct XrSummary {
    /// Listening quality, 1-5.
    pub mos_lq: Option<f64>,
    /// Conversational quality, 1-5.
    pub mos_cq: Option<f64>,
    /// 0-100.
    pub r_factor: Option<u8>,
    /// Lost in the network, 0-1.
    pub loss_rate: Option<f64>,
    /// Thrown away by the jitter buffer, 0-1.
    pub discard_rate: Option<f64>,
    /// Lost or discarded within bursts, 0-1.
    pub burst_density: Option<f64>,
    /// The same between bursts.
    pub gap_density: Option<f64>,
    /// Mean length of a burst.
    pub burst_ms: Option<u16>,
    /// Mean length between bursts.
    pub gap_ms: Option<u16>,
    /// Between the two phones and back.
    pub round_trip_ms: Option<u16>,
    /// Within the receiver.
    pub end_system_ms: Option<u16>,
    /// Lost by its statistics, all intervals added.
    pub lost: Option<u64>,
    /// Came again, by its statistics.
    pub duplicate: Option<u64>,
    /// Mean jitter of its latest interval.
    pub jitter_ms: Option<f64>,
}

/// A stretch of a channel that was not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapSummary {
    /// `caller` or `callee`.
    pub channel: String,
    /// Second of the recording.
    pub at_s: f64,
    /// Length.
    pub seconds: f64,
    /// `lost`, `late`, `hold`, `paused`, `masked`, `undecodable`, `encrypted`, `fax`,
    /// `dropped`.
    pub reason: String,
    /// Seconds of it that are not silent: made up of the sound before, or told by the packet after it.
    #[serde(default)]
    pub concealed: f64,
}

/// One digit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DtmfSummary {
    /// Who pressed it.
    pub channel: String,
    /// `0`–`9`, `*`, `#`, `A`–`D`, or `flash`.
    pub digit: String,
    /// Second of the recording.
    pub at_s: f64,
    /// `rtp` (telephone-event), `info` (SIP INFO or NOTIFY) or `inband` (tones).
    #[serde(default = "rtp")]
    pub source: String,
    /// How long it was held, where known.
    #[serde(default)]
    pub duration_ms: Option<u32>,
}

/// What digits came from before there were other sources.
fn rtp() -> String {
    "rtp".to_owned()
}
