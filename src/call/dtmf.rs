//! Keys that SIP tells of, as events for a call's media.
//!
//! Purpose: find the call and the party of an INFO or NOTIFY that stands for a key press.
//! Invariants: no state: retransmissions are told by their CSeq where digits are collected.
//! Non-goals: the bodies (see `sip::dtmf_body`), the same key from several sources (see `media`).
//! Sources: RFC 6086 (INFO), RFC 4730 §4.1 (KPML's Event parameters), RFC 3261 §12.2.1.1 (CSeq).

use super::correlator::Correlator;
use super::event::CallEvent;
use crate::base::{CallIndex, Channel, PacketTime};
use crate::rtp::plan::{Control, DigitPhase, SignalledDigit};
use crate::sip::Message;
use crate::sip::dtmf_body::{KeyPhase, key_presses};

impl Correlator {
    /// Tells the keys of a message, if it has any, to the call that it is about.
    pub(super) fn note_digits(&mut self, now: PacketTime, message: &Message<'_>) {
        let mut presses = key_presses(message).peekable();
        if presses.peek().is_none() {
            return;
        }
        let Some((index, tag)) = self.pressed_in(message) else { return };
        let Some(leg) = self.table.get(index).filter(|leg| leg.is_live()) else { return };
        let party = if leg.caller_tag == tag { Channel::Caller } else { Channel::Callee };
        let (channel, conversation) = (leg.orientation.channel(party), leg.conversation);
        for (position, press) in (0_u8..).zip(presses) {
            let control = Control::Digit(SignalledDigit {
                channel,
                digit: press.key.to_owned(),
                duration_ms: press.duration_ms,
                phase: match press.phase {
                    KeyPhase::Whole => DigitPhase::Whole,
                    KeyPhase::Held => DigitPhase::Held,
                    KeyPhase::Released => DigitPhase::Released,
                },
                leg: index.0,
                cseq: message.cseq().number,
                position,
            });
            self.events.push(CallEvent::Control { call: conversation, time: now, control });
        }
    }

    /// The leg, and the tag of the party whose key it is: that of the dialog, or, for a
    /// subscription beside it, those that the Event header names.
    fn pressed_in(&self, message: &Message<'_>) -> Option<(CallIndex, Vec<u8>)> {
        if let Some(leg) = self.table.find(message.call_id()) {
            return Some((leg, message.from().tag().unwrap_or_default().to_vec()));
        }
        let event = message.header("event")?;
        let leg = self.table.find(parameter(&event, "call-id")?)?;
        Some((leg, parameter(&event, "local-tag").unwrap_or_default().to_vec()))
    }
}

/// A parameter of the Event header, without its quotes.
fn parameter<'a>(event: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = crate::sip::lines::parameter(event, name)?;
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(inner.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that a message tells of, with the party that pressed them.
    fn told(correlator: &mut Correlator, text: &str) -> Vec<(Channel, String)> {
        let digit = |event| match event {
            CallEvent::Control { control: Control::Digit(it), .. } => Some((it.channel, it.digit)),
            _ => None,
        };
        correlator.hear(text).into_iter().filter_map(digit).collect()
    }

    fn request(method: &str, from: &str, to: &str, more: &str) -> String {
        format!(
            "{method} sip:x SIP/2.0\nCall-ID: one\nCSeq: 7 {method}\nFrom: <sip:a>;tag={from}\n\
             To: <sip:b>{to}\n{more}"
        )
    }

    #[test]
    fn a_key_is_pressed_by_who_sends_the_request() {
        let mut correlator = Correlator::default();
        told(&mut correlator, &request("INVITE", "a", "", "\n"));
        let five = "Content-Type: application/dtmf-relay\n\nSignal=5\n";
        let by_caller = told(&mut correlator, &request("INFO", "a", ";tag=b", five));
        assert_eq!(by_caller, [(Channel::Caller, "5".to_owned())]);
        let by_callee = told(&mut correlator, &request("INFO", "b", ";tag=a", five));
        assert_eq!(by_callee, [(Channel::Callee, "5".to_owned())]);
        assert_eq!(told(&mut correlator, &request("MESSAGE", "a", ";tag=b", five)), []);
    }

    #[test]
    fn a_kpml_subscription_beside_the_dialog_names_the_call_in_its_event() {
        let mut correlator = Correlator::default();
        told(&mut correlator, &request("INVITE", "a", "", "\n"));
        let notify = |event: &str| {
            format!(
                "NOTIFY sip:x SIP/2.0\nCall-ID: other\nCSeq: 1 NOTIFY\nFrom: <sip:a>;tag=s\n\
                 Event: kpml{event}\nContent-Type: application/kpml-response+xml\n\n\
                 <kpml-response version=\"1.0\" code=\"200\" text=\"OK\" digits=\"*1\"/>"
            )
        };
        let named = notify(";remote-tag=b;local-tag=a;call-id=\"one\"");
        let keys = ["*", "1"].map(|key| (Channel::Caller, key.to_owned()));
        assert_eq!(told(&mut correlator, &named), keys);
        assert_eq!(told(&mut correlator, &notify(";call-id=none")), []);
        assert_eq!(told(&mut correlator, &notify("")), []);
    }
}
