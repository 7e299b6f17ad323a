//! T.38 that SDP agrees on, as an event for a call's media.
//!
//! Purpose: tell when fax takes the place of sound.
//! Invariants: no state: an answer that is seen again says the same again.
//! Non-goals: fax within sound (see `media`), refusals, T.38's packets.
//! Sources: ITU-T T.38 annex D (`m=image … udptl t38`), RFC 4612 (`audio/t38` over RTP), RFC 3264 §6
//! (port 0 refuses).

use super::correlator::Correlator;
use super::event::CallEvent;
use crate::base::PacketTime;
use crate::rtp::plan::Control;
use crate::sip::{MediaKind, Message, Method, Sdp};

impl Correlator {
    /// Tells a call that the answer in this message takes T.38, if it does.
    pub(super) fn note_fax(&mut self, now: PacketTime, message: &Message<'_>) {
        let is_answer = message.status().is_some_and(|status| (200..300).contains(&status))
            && matches!(message.cseq().method, Method::Invite | Method::Update);
        if !is_answer || !message.sdp().is_some_and(has_fax) {
            return;
        }
        let leg = self.table.find(message.call_id()).and_then(|index| self.table.get(index));
        if let Some(leg) = leg.filter(|leg| leg.is_live()) {
            let call = leg.conversation;
            self.events.push(CallEvent::Control { call, time: now, control: Control::Fax });
        }
    }
}

/// A medium of its own, or a format of an audio medium, that is not refused.
fn has_fax(body: &[u8]) -> bool {
    let Ok(sdp) = Sdp::parse(body) else { return false };
    sdp.media.iter().filter(|medium| medium.port != 0).any(|medium| {
        medium.kind == MediaKind::Image
            || medium.formats.iter().any(|format| format.encoding.eq_ignore_ascii_case("T38"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_told(correlator: &mut Correlator, start: &str, sdp: &str) -> bool {
        let text = format!(
            "{start}\nCall-ID: one\nCSeq: 7 INVITE\nFrom: <sip:a>;tag=a\nTo: <sip:b>;tag=b\n\
             Content-Type: application/sdp\n\n{sdp}"
        );
        let is_fax = |event| matches!(event, CallEvent::Control { control: Control::Fax, .. });
        correlator.hear(&text).into_iter().any(is_fax)
    }

    #[test]
    fn fax_is_agreed_on_by_the_answer_and_not_by_the_offer() {
        let sdp =
            |media: &str| format!("v=0\no=- 1 1 IN IP4 10.0.0.9\nc=IN IP4 10.0.0.9\n{media}\n");
        let (offer, answer) = ("INVITE sip:x SIP/2.0", "SIP/2.0 200 OK");
        let mut correlator = Correlator::default();
        assert!(!is_told(&mut correlator, offer, &sdp("m=image 4000 udptl t38")));
        assert!(!is_told(&mut correlator, answer, &sdp("m=audio 4000 RTP/AVP 0")));
        assert!(!is_told(&mut correlator, answer, &sdp("m=image 0 udptl t38")));
        assert!(!is_told(&mut correlator, "SIP/2.0 488 No", &sdp("m=image 4000 udptl t38")));
        assert!(is_told(&mut correlator, answer, &sdp("m=image 4000 udptl t38")));
        let over_rtp = sdp("m=audio 4000 RTP/AVP 98\na=rtpmap:98 t38/8000");
        assert!(is_told(&mut correlator, answer, &over_rtp));
    }
}
