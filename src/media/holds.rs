//! When each party of a call is on hold.
//!
//! Purpose: turn what SDP says of a channel into gaps with the reason `hold`.
//! Invariants: sound during a hold (music by the phone that is held) is no gap.
//! Non-goals: what SDP means (see `call::dialog`).
//! Sources: RFC 3264 §8.4.

use super::gaps::{Gap, GapLog, GapReason};
use super::track::SLOT_MS;
use crate::base::Channel;
use crate::base::time::NS_PER_MS;
use crate::rtp::plan::MediaState;

/// Since when each channel has been on hold, in ns from the recording's start.
#[derive(Debug, Default)]
pub struct Holds {
    from_ns: [Option<i64>; 2],
}

impl Holds {
    /// SDP says at `now_ns` whether sound is expected on a channel.
    pub fn change(&mut self, channel: Channel, state: MediaState, now_ns: i64, gaps: &mut GapLog) {
        let from_ns = &mut self.from_ns[channel.index()];
        if state == MediaState::OnHold {
            from_ns.get_or_insert(now_ns);
        } else if let Some(from_ns) = from_ns.take() {
            gaps.note(Gap::silent(channel, (from_ns, now_ns), GapReason::Hold));
        }
    }

    /// Sound on a channel at `at_ns`: the gap before it ends, and another may begin after it.
    pub fn interrupt(&mut self, channel: Channel, at_ns: i64, gaps: &mut GapLog) {
        if let Some(from_ns) = &mut self.from_ns[channel.index()] {
            gaps.note(Gap::silent(channel, (*from_ns, at_ns), GapReason::Hold));
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
