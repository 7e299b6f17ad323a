//! Why a party's sound is not in the recording.
//!
//! Purpose: one reason for each side that is missing, from SDP, from RTCP and from what was seen.
//! Invariants: a party that was heard has no reason; without other evidence a party is only *not seen*,
//! since a tap cannot know what did not pass it.
//! Non-goals: stretches that are missing (see `gaps`).
//! Sources: RFC 3264 §5.1 (directions), RFC 3550 §6.4 (who does not send reports as a receiver).

use super::far_end::Sending;
use super::gaps::{Gap, GapReason};
use crate::base::Channel;
use crate::rtp::plan::{MediaPlan, MediaState};

/// Why a side is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nobody answered the call.
    NotAnswered,
    /// No SDP that was seen names a format.
    NoMediaNegotiated,
    /// By SDP this party was on hold all the time.
    OnHold,
    /// By its own RTCP reports it sent nothing.
    NeverSent,
    /// Nothing of it passed the tap.
    NotSeen,
    /// It was seen, in a format that cannot be decoded here.
    Undecodable,
    /// There was a fax in the sound's place.
    Fax,
    /// It was seen, and there is no key.
    Encrypted,
}

impl Missing {
    /// As the JSON has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotAnswered => "not_answered",
            Self::NoMediaNegotiated => "no_media_negotiated",
            Self::OnHold => "on_hold",
            Self::NeverSent => "never_sent",
            Self::NotSeen => "not_seen",
            Self::Undecodable => "undecodable",
            Self::Fax => "fax",
            Self::Encrypted => "encrypted",
        }
    }

    /// A sentence for people about `channel`; `None` where another note says it.
    #[must_use]
    pub fn sentence(self, channel: Channel) -> Option<String> {
        let what = match self {
            Self::NotAnswered | Self::Undecodable | Self::Fax | Self::Encrypted => return None,
            Self::NoMediaNegotiated => "no audio was negotiated, as far as was seen",
            Self::OnHold => "on hold by SDP for the whole call",
            Self::NeverSent => "sent no media, by its own RTCP reports",
            Self::NotSeen => "its media did not pass the tap",
        };
        Some(format!("{}: {what}", channel.label()))
    }
}

/// What SDP made expect of each channel while the call was answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    channels: [Expectation; 2],
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Unanswered,
    Answered,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Expectation {
    #[default]
    Nothing,
    Hold,
    Fax,
    Sound,
}

impl Expected {
    /// The call is answered, with this plan.
    pub fn answer(&mut self, plan: &MediaPlan) {
        self.phase = Phase::Answered;
        self.plan(plan);
    }

    /// Takes a plan; what was only offered before the answer is not expected.
    pub fn plan(&mut self, plan: &MediaPlan) {
        if self.phase == Phase::Unanswered {
            return;
        }
        for channel in Channel::BOTH {
            let of_legs = plan.legs.iter().flat_map(|leg| [&leg.caller, &leg.callee]);
            let mut all = of_legs.chain([plan.channel(channel)]);
            let now = match plan.state(channel) {
                MediaState::Fax => Expectation::Fax,
                _ if all.all(|it| it.formats.is_empty()) => Expectation::Nothing,
                MediaState::OnHold => Expectation::Hold,
                MediaState::Flowing => Expectation::Sound,
            };
            let known = &mut self.channels[channel.index()];
            *known = now.max(*known);
        }
    }

    /// Why a party of which no stream was seen is missing. `said`: what RTCP says of its sending.
    #[must_use]
    pub const fn why_unseen(self, channel: Channel, said: Option<Sending>) -> Missing {
        if matches!(self.phase, Phase::Unanswered) {
            return Missing::NotAnswered;
        }
        match (self.channels[channel.index()], said) {
            (_, Some(Sending::Media)) | (Expectation::Sound, None) => Missing::NotSeen,
            (Expectation::Nothing, _) => Missing::NoMediaNegotiated,
            (Expectation::Hold, _) => Missing::OnHold,
            (Expectation::Fax, _) => Missing::Fax,
            (Expectation::Sound, Some(Sending::Nothing)) => Missing::NeverSent,
        }
    }
}

/// Why a party that was seen was never heard, by the gaps of its channel.
#[must_use]
pub fn why_unheard(channel: Channel, gaps: &[Gap]) -> Option<Missing> {
    let has = |reason| gaps.iter().any(|gap| gap.channel == channel && gap.reason == reason);
    if has(GapReason::Encrypted) {
        return Some(Missing::Encrypted);
    }
    if has(GapReason::Fax) {
        return Some(Missing::Fax);
    }
    has(GapReason::Undecodable).then_some(Missing::Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::plan::MediaFormat;

    fn plan(state: MediaState) -> MediaPlan {
        let mut plan = MediaPlan::default();
        plan.callee.formats.extend(MediaFormat::from_static(8));
        plan.callee.state = state;
        plan
    }

    #[test]
    fn a_hold_is_a_reason_only_while_there_was_nothing_else() {
        let mut expected = Expected::default();
        let why = |it: &Expected, said| it.why_unseen(Channel::Callee, said);
        assert_eq!(why(&expected, None), Missing::NotAnswered);
        expected.plan(&plan(MediaState::Flowing));
        expected.answer(&MediaPlan::default());
        assert_eq!(why(&expected, None), Missing::NoMediaNegotiated);
        expected.plan(&plan(MediaState::OnHold));
        assert_eq!(why(&expected, None), Missing::OnHold);
        assert_eq!(why(&expected, Some(Sending::Media)), Missing::NotSeen);
        expected.plan(&plan(MediaState::Flowing));
        expected.plan(&plan(MediaState::OnHold));
        assert_eq!(why(&expected, None), Missing::NotSeen);
        assert_eq!(why(&expected, Some(Sending::Nothing)), Missing::NeverSent);
        assert_eq!(expected.why_unseen(Channel::Caller, None), Missing::NoMediaNegotiated);
    }
}
