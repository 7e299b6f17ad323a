//! What a packet's payload is, by SIP's word on its type.
//!
//! Purpose: look payload types up in the plan, through redundancy (RFC 2198) where it is used.
//! Invariants: borrows the packet; copies only older payloads, for the recording.
//! Non-goals: decoding (see `decoder`), decryption.
//! Sources: RFC 2198, RFC 3551 §6, RFC 4733 §2.5.1.4 (events within redundancy).

use super::decoder::{Codec, Meaning, meaning, why_unread};
use super::gaps::GapReason;
use crate::rtp::header::RtpView;
use crate::rtp::plan::{ChannelPlan, MediaFormat};
use crate::rtp::red::RedPacket;

/// An older payload that came along.
#[derive(Clone, Debug)]
pub struct Redundant {
    /// Extended RTP timestamp.
    pub timestamp: i64,
    /// Its codec.
    pub codec: Codec,
    /// The payload.
    pub payload: Vec<u8>,
}

/// One packet's payload.
#[derive(Clone, Debug)]
pub struct Reading<'a> {
    /// What it means.
    pub meaning: Meaning,
    /// RTP clock of the payload's format; 8 000 where unknown.
    pub clock_hz: u32,
    /// The payload itself: of a redundant packet, the newest.
    pub payload: &'a [u8],
    payload_type: u8,
    red: Option<RedPacket<'a>>,
}

impl<'a> Reading<'a> {
    /// Of a packet of a sender.
    #[must_use]
    pub fn new(sending: &ChannelPlan, view: &RtpView<'a>) -> Self {
        let (mut payload_type, mut payload) = (view.payload_type().0, view.payload());
        let mut format = sending.format(payload_type);
        let mut red = None;
        if format.as_ref().is_some_and(|format| format.encoding == "RED") {
            red = RedPacket::parse(payload);
            if let Some(packet) = &red {
                (payload_type, payload) = (packet.primary.payload_type, packet.primary.payload);
                format = sending.format(payload_type);
            }
        }
        Self::of(format.as_deref(), payload_type, payload, red)
    }

    /// Of a packet whose payload is locked: what it would mean, by its type alone.
    #[must_use]
    pub fn locked(sending: &ChannelPlan, view: &RtpView<'a>) -> Self {
        let payload_type = view.payload_type().0;
        Self::of(sending.format(payload_type).as_deref(), payload_type, view.payload(), None)
    }

    fn of(
        format: Option<&MediaFormat>,
        payload_type: u8,
        payload: &'a [u8],
        red: Option<RedPacket<'a>>,
    ) -> Self {
        let clock_hz = format.map_or(8_000, |format| format.clock_hz);
        let meaning = format.map_or(Meaning::Undecodable, meaning);
        Self { meaning, clock_hz, payload, payload_type, red }
    }

    /// True for sound, decodable or not.
    #[must_use]
    pub const fn is_audio(&self) -> bool {
        !matches!(self.meaning, Meaning::Events | Meaning::ComfortNoise)
    }

    /// True for sound that nothing else comes along with.
    #[must_use]
    pub const fn is_plain_sound(&self) -> bool {
        matches!(self.meaning, Meaning::Audio(_)) && self.red.is_none()
    }

    /// The encoding's name, by what its sender sends.
    #[must_use]
    pub fn codec(&self, sending: &ChannelPlan) -> String {
        let unknown = || format!("PT{}", self.payload_type);
        sending.format(self.payload_type).map_or_else(unknown, |format| format.encoding.clone())
    }

    /// Why it is kept as it came, if it is; `codec` names the stream's.
    #[must_use]
    pub fn unread(&self, codec: &str) -> Option<(GapReason, String)> {
        let is_unread = matches!(self.meaning, Meaning::Undecodable | Meaning::NoDecoder);
        is_unread.then(|| (GapReason::Undecodable, why_unread(self.meaning, codec)))
    }

    /// Older payloads that came along; `timestamp` is the packet's, extended.
    #[must_use]
    pub fn redundant(&self, sending: &ChannelPlan, timestamp: i64) -> Vec<Redundant> {
        let older = self.red.iter().flat_map(RedPacket::older);
        let read = older.filter_map(|block| {
            let format = sending.format(block.payload_type)?;
            let Meaning::Audio(codec) = meaning(&format) else { return None };
            let timestamp = timestamp.checked_sub(i64::from(block.offset))?;
            Some(Redundant { timestamp, codec, payload: block.payload.to_vec() })
        });
        read.collect()
    }
}
