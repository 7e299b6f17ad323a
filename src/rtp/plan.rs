//! What SIP said of a call's media, as plain values that the media layer understands.
//!
//! Purpose: carry offer/answer results (payload types, directions, hold) from `call` to `media`
//! without either importing the other, and into raw recordings, where they are needed again.
//! Invariants: a plan is complete: it replaces the one before it.
//! Non-goals: SDP text (see `sip::Sdp`), addresses of the table that fronts read (`flow_table`).
//! Sources: RFC 3264 (offer/answer), RFC 3551 §6 (static payload types), RFC 4566.

use super::srtp_key::SrtpKey;
use crate::base::limits::SRTP_KEYS_PER_CHANNEL_MAX;
use crate::base::{Channel, Endpoint};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One payload format: a line of `a=rtpmap`, or a static type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaFormat {
    /// 0–127.
    pub payload_type: u8,
    /// Encoding name, upper case.
    pub encoding: String,
    /// RTP clock rate.
    pub clock_hz: u32,
    /// Audio channels; 1 unless given.
    pub channels: u8,
    /// `a=fmtp` parameters, or empty.
    #[serde(default)]
    pub fmtp: String,
}

impl MediaFormat {
    /// The static assignment of a payload type (RFC 3551 §6), for audio that callspan may meet.
    #[must_use]
    pub fn from_static(payload_type: u8) -> Option<Self> {
        let (encoding, clock_hz, channels) = match payload_type {
            0 => ("PCMU", 8_000, 1),
            // G.721 of RFC 1890; the same code at the same rate.
            2 => ("G726-32", 8_000, 1),
            3 => ("GSM", 8_000, 1),
            4 => ("G723", 8_000, 1),
            8 => ("PCMA", 8_000, 1),
            9 => ("G722", 8_000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            13 | 19 => ("CN", 8_000, 1),
            15 => ("G728", 8_000, 1),
            18 => ("G729", 8_000, 1),
            _ => return None,
        };
        let encoding = encoding.to_owned();
        Some(Self { payload_type, encoding, clock_hz, channels, fmtp: String::new() })
    }
}

/// Whether one party's media is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaState {
    /// Media may flow.
    #[default]
    Flowing,
    /// Held by `sendonly`, `inactive` or address 0.0.0.0 (RFC 3264 §8.4).
    OnHold,
    /// T.38 fax was agreed on in the sound's place (T.38 annex D).
    Fax,
}

/// Whether payloads are ciphertext, by SDP; more is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protection {
    /// RTP/AVP.
    #[default]
    Plain,
    /// RTP/AVP with keys beside it, or between two descriptions: each packet tells (RFC 8643).
    Optional,
    /// RTP/SAVP and the like: payloads are ciphertext.
    Encrypted,
}

/// What one party sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPlan {
    /// Formats by the receiver's SDP (which assigns the numbers that are sent to it), then the
    /// sender's own, for phones that use their own numbers.
    pub formats: Vec<MediaFormat>,
    /// Whether sound is expected from this party.
    pub state: MediaState,
    /// Whether it is ciphertext.
    pub protection: Protection,
    /// SRTP keys that this party may send with, by its own SDP: those that were accepted first.
    #[serde(default)]
    pub keys: Vec<SrtpKey>,
    /// What its SDP offers beside them and callspan cannot use.
    #[serde(default)]
    pub refused: Vec<String>,
}

impl ChannelPlan {
    /// Adds keys that are not there yet, as far as `SRTP_KEYS_PER_CHANNEL_MAX` goes.
    pub fn add_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a SrtpKey>) {
        for key in keys {
            if self.keys.len() < SRTP_KEYS_PER_CHANNEL_MAX && !self.keys.contains(key) {
                self.keys.push(key.clone());
            }
        }
    }

    /// Adds what cannot be used, likewise.
    pub fn add_refused<'a>(&mut self, refused: impl IntoIterator<Item = &'a String>) {
        for reason in refused {
            if self.refused.len() < SRTP_KEYS_PER_CHANNEL_MAX && !self.refused.contains(reason) {
                self.refused.push(reason.clone());
            }
        }
    }
}

/// What is sent on a further leg of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegPlan {
    /// Where its media is received, as far as no leg before it receives there too.
    pub addresses: Vec<Endpoint>,
    /// What is sent on the caller's channel.
    pub caller: ChannelPlan,
    /// What is sent on the callee's channel.
    pub callee: ChannelPlan,
}

/// What both parties send, from a moment on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaPlan {
    /// What the caller sends.
    pub caller: ChannelPlan,
    /// What the callee sends.
    pub callee: ChannelPlan,
    /// Media addresses of fork branches that did not answer; their media is not of this call.
    #[serde(default)]
    pub losers: Vec<String>,
    /// What is sent on the call's further legs: another hop, or after a transfer.
    #[serde(default)]
    pub legs: Vec<LegPlan>,
}

impl MediaPlan {
    /// The plan of one party.
    #[must_use]
    pub const fn channel(&self, channel: Channel) -> &ChannelPlan {
        match channel {
            Channel::Caller => &self.caller,
            Channel::Callee => &self.callee,
        }
    }

    /// The plan of one party, to change.
    pub const fn channel_mut(&mut self, channel: Channel) -> &mut ChannelPlan {
        match channel {
            Channel::Caller => &mut self.caller,
            Channel::Callee => &mut self.callee,
        }
    }

    /// The further leg that packets between two addresses are of; `None` for the first leg.
    #[must_use]
    pub fn leg(&self, source: Endpoint, destination: Endpoint) -> Option<usize> {
        let is_of =
            |leg: &LegPlan| leg.addresses.contains(&destination) || leg.addresses.contains(&source);
        self.legs.iter().position(is_of)
    }

    /// What is sent on a channel between two addresses.
    #[must_use]
    pub fn sending(
        &self,
        channel: Channel,
        source: Endpoint,
        destination: Endpoint,
    ) -> &ChannelPlan {
        let leg = self.leg(source, destination).and_then(|at| self.legs.get(at));
        match (leg, channel) {
            (None, _) => self.channel(channel),
            (Some(leg), Channel::Caller) => &leg.caller,
            (Some(leg), Channel::Callee) => &leg.callee,
        }
    }

    /// What is sent on a channel, leg by leg.
    pub fn of_channel(&self, channel: Channel) -> impl Iterator<Item = &ChannelPlan> {
        let legs = self.legs.iter().map(move |leg| match channel {
            Channel::Caller => &leg.caller,
            Channel::Callee => &leg.callee,
        });
        [self.channel(channel)].into_iter().chain(legs)
    }

    /// The payload types that are of one encoding somewhere in the plan, a bit for each.
    #[must_use]
    pub fn payload_types(&self, encoding: &str) -> u128 {
        let channels = Channel::BOTH.into_iter().flat_map(|channel| self.of_channel(channel));
        let formats = channels.flat_map(|plan| &plan.formats);
        let of_it = formats.filter(|format| format.encoding == encoding);
        of_it.fold(0, |types, format| types | 1 << (format.payload_type & 0x7f))
    }

    /// Whether sound is expected on a channel: on one of the legs; else why not, by the first.
    #[must_use]
    pub fn state(&self, channel: Channel) -> MediaState {
        let first = self.channel(channel).state;
        let legs = self.legs.iter().map(|leg| match channel {
            Channel::Caller => leg.caller.state,
            Channel::Callee => leg.callee.state,
        });
        let is_flowing = legs.chain([first]).any(|state| state == MediaState::Flowing);
        if is_flowing { MediaState::Flowing } else { first }
    }
}

impl ChannelPlan {
    /// The format of a payload type: the plan's, or the static assignment.
    #[must_use]
    pub fn format(&self, payload_type: u8) -> Option<Cow<'_, MediaFormat>> {
        let planned = self.formats.iter().find(|format| format.payload_type == payload_type);
        planned
            .map(Cow::Borrowed)
            .or_else(|| MediaFormat::from_static(payload_type).map(Cow::Owned))
    }
}

impl MediaPlan {
    /// True when packets from `source` belong to a fork's losing branch.
    #[must_use]
    pub fn is_loser(&self, source: Endpoint) -> bool {
        !self.losers.is_empty() && self.losers.contains(&source.to_string())
    }
}

/// What a call's media state is told, in order of packet time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Offer/answer changed.
    Plan(MediaPlan),
    /// The 2xx to the INVITE passed the tap.
    Answered,
    /// The call is over; packets after this are not of it.
    Ended {
        /// Where the recording ends, ns since the epoch: the BYE, or the end of the last media.
        at_ns: i64,
    },
    /// SIP told that a key was pressed.
    Digit(SignalledDigit),
    /// What follows was put aside under load and begins in the middle of a call.
    Resumed(ResumePoint),
}

/// A key press that SIP told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalledDigit {
    /// Who pressed it.
    pub channel: Channel,
    /// `0`-`9`, `*`, `#`, `A`-`D`, or `flash`.
    pub digit: String,
    /// How long it was held, where told.
    pub duration_ms: Option<u32>,
    /// Which part of the press is told.
    pub phase: DigitPhase,
    /// Which leg told it: the same key on another leg is the same press.
    pub leg: u32,
    /// CSeq of the request: a retransmission has the same.
    pub cseq: u32,
    /// Its place among the keys of the request.
    pub position: u8,
}

/// Whether a whole key press is told, or an end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigitPhase {
    /// All of it.
    Whole,
    /// Pressed, or still held.
    Held,
    /// Let go.
    Released,
}

/// Where a call's media stood when its packets began to be put aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// The plan then.
    pub plan: MediaPlan,
    /// Whether the 2xx had passed.
    pub answered: bool,
    /// Second 0 of the recording, ns since the epoch, where it had begun.
    pub start_ns: Option<i64>,
    /// The next slot to be handed out.
    pub next_slot: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_overrides_static_types_and_falls_back_to_them() {
        let mut plan = MediaPlan::default();
        plan.caller.formats.push(MediaFormat {
            payload_type: 9,
            encoding: "OPUS".into(),
            clock_hz: 48_000,
            channels: 2,
            fmtp: String::new(),
        });
        let encoding =
            |channel, number| Some(plan.channel(channel).format(number)?.encoding.clone());
        assert_eq!(encoding(Channel::Caller, 9).as_deref(), Some("OPUS"));
        assert_eq!(encoding(Channel::Callee, 9).as_deref(), Some("G722"));
        assert_eq!(encoding(Channel::Callee, 97), None);
    }
}
