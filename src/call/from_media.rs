//! Calls made from media alone.
//!
//! Purpose: with `--heuristic-rtp`, turn a flow that is sound beyond doubt and that no SIP announced in
//! time into a call of its own, both ways of it.
//! Invariants: nothing that SIP announced becomes such a call; a call that SIP announces later takes
//! the media over; which side called is not known and not said.
//! Non-goals: what is sound beyond doubt (see `rtp::sight`).
//! Sources: RFC 3551 §6 (static payload types), RFC 7587 §4.1 (Opus), RFC 4961 (both ways of a flow).

use super::conversation::Conversation;
use super::correlator::Correlator;
use super::event::{CallEvent, CallOrigin};
use super::leg::Leg;
use crate::base::{Channel, PacketTime};
use crate::rtp::flow_table::{ClaimRole, LearnedFlow};
use crate::rtp::matched_by::MatchedBy;
use crate::rtp::plan::{ChannelPlan, Control, MediaFormat, MediaPlan, Protection};
use crate::rtp::sight::{FlowSight, Looks, Sound};

/// Whether calls are made from media that no SIP announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaCalls {
    /// They are not: it is listed as unclaimed.
    #[default]
    Never,
    /// They are (`--heuristic-rtp`).
    Made,
}

/// Both ways of a flow are gathered for so long before the timeline begins with the older of them: the
/// other way may wait at another ring.
const GATHER_MS: i64 = 200;

/// The payload type of telephone events where nobody says otherwise.
const EVENTS_BY_CUSTOM: u8 = 101;

impl Correlator {
    /// Makes a call from a flow that is sound beyond doubt, where there is room.
    pub(super) fn open_from_media(&mut self, now: PacketTime, sight: &FlowSight) {
        if !sight.looks.sound.is_audio() {
            return;
        }
        let FlowSight { source, destination, ssrc, first, .. } = *sight;
        // No Call-ID header has a line end.
        let name = format!("\nmedia {source} {destination} {ssrc}").into_bytes();
        let make = |index| {
            let mut leg = Leg::from_media(index, first, (source, destination));
            leg.sip_call_id.clone_from(&name);
            leg
        };
        let Some(call) = self.table.insert(&name, make) else { return };
        let Some(leg) = self.table.get(call) else { return };
        let mut conversation = Conversation::new(leg, first, Vec::new());
        conversation.facts.sip_call_id.clear();
        let plan = plan_of(&sight.looks);
        conversation.plan = plan.clone();
        self.table.begin(conversation);
        let origin = CallOrigin::Heuristic;
        self.events.push(CallEvent::Opened { call, time: first, sip_call_id: name, origin });
        let control = Control::Plan(plan);
        self.events.push(CallEvent::Control { call, time: now, control });
        let (time, control) = (now.plus_ms(GATHER_MS), Control::Answered);
        self.events.push(CallEvent::Control { call, time, control });
        let (sender, role, by) = (Channel::Caller, ClaimRole::Audio, MatchedBy::Heuristic);
        self.learn(call, LearnedFlow { source, destination, sender, role, by }, now);
    }
}

/// What both sides send, as far as one way of the flow tells.
fn plan_of(looks: &Looks) -> MediaPlan {
    let format = |payload_type, encoding: &str, clock_hz, channels| MediaFormat {
        payload_type,
        encoding: encoding.to_owned(),
        clock_hz,
        channels,
        fmtp: String::new(),
    };
    let mut plan = ChannelPlan::default();
    if looks.sound == Sound::Opus {
        plan.formats.push(format(looks.payload_type, "OPUS", 48_000, 2));
    }
    let events = looks.events.unwrap_or(EVENTS_BY_CUSTOM);
    if looks.sound == Sound::Events || events != looks.payload_type {
        plan.formats.push(format(events, "TELEPHONE-EVENT", 8_000, 1));
    }
    if looks.sound == Sound::Encrypted {
        plan.protection = Protection::Encrypted;
    }
    MediaPlan { caller: plan.clone(), callee: plan, ..MediaPlan::default() }
}
