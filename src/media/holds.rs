//! When no sound is expected of a party, by SDP.
//!
//! Purpose: turn what SDP says of a channel into gaps with the reason `hold`, or `fax` where T.38 took
//! the sound's place.
//! Invariants: sound during a hold (music by the phone that is held) is no gap.
//! Non-goals: what SDP means (see `call::dialog`).
//! Sources: RFC 3264 §8.4, ITU-T T.38 annex D.

use super::gaps::{Gap, GapLog, GapReason};
use super::track::SLOT_MS;
use crate::base::Channel;
use crate::base::time::NS_PER_MS;
use crate::rtp::plan::MediaState;

/// Since when, in ns from the recording's start, and why no sound is expected on each channel.
#[derive(Debug, Default)]
pub struct Holds {
    silent: [Option<(i64, GapReason)>; 2],
}

impl Holds {
    /// SDP says at `now_ns` whether sound is expected on a channel.
    pub fn change(&mut self, channel: Channel, state: MediaState, now_ns: i64, gaps: &mut GapLog) {
        let reason = match state {
            MediaState::Flowing => None,
            MediaState::OnHold => Some(GapReason::Hold),
            MediaState::Fax => Some(GapReason::Fax),
        };
        let silent = &mut self.silent[channel.index()];
        if silent.map(|(_, reason)| reason) == reason {
            return;
        }
        if let Some((from_ns, reason)) = silent.take() {
            gaps.note(Gap::silent(channel, (from_ns, now_ns), reason));
        }
        *silent = reason.map(|reason| (now_ns, reason));
    }

    /// Sound on a channel at `at_ns`: the gap before it ends, and another may begin after it.
    pub fn interrupt(&mut self, channel: Channel, at_ns: i64, gaps: &mut GapLog) {
        if let Some((from_ns, reason)) = &mut self.silent[channel.index()] {
            gaps.note(Gap::silent(channel, (*from_ns, at_ns), *reason));
            *from_ns = at_ns.saturating_add(SLOT_MS * NS_PER_MS);
        }
    }

    /// The recording ends at `end_ns`.
    pub fn end(&mut self, end_ns: i64, gaps: &mut GapLog) {
        for channel in Channel::BOTH {
            self.change(channel, MediaState::Flowing, end_ns, gaps);
        }
    }
}
