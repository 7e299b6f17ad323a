//! Keys that a phone tells in SIP instead of in its media.
//!
//! Purpose: read the bodies of INFO and NOTIFY that stand for a key press.
//! Invariants: one pass over the body, nothing allocated; at most `SIP_DIGITS_PER_MESSAGE_MAX` keys.
//! Non-goals: which call they are of, retransmissions (see `call::dtmf`), key presses within media.
//! Sources: RFC 6086 (INFO), RFC 4730 §5 (KPML), RFC 4733 §2.3 (the four bytes, which Cisco's NOTIFY
//! carries with a duration in ms); `application/dtmf-relay` (Cisco) and `application/dtmf` (Nortel,
//! Asterisk) have no standard and are read as they are seen.
//!
//! ```text
//! application/dtmf-relay               Signal= 5 ↵ Duration= 160      ms; 10-16 for * # A-D flash
//! application/dtmf                     5
//! audio/telephone-event                | event |E|R| volume | duration |     sent at begin and end
//! application/kpml-response+xml        <kpml-response … digits="5"/>
//! application/hook-flash               anything
//! ```

use super::lines::{split_line, trim};
use super::{Message, Method};
use crate::base::Reader;
use crate::base::limits::SIP_DIGITS_PER_MESSAGE_MAX;

/// A key that a message tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPress {
    /// `0`-`9`, `*`, `#`, `A`-`D`, or `flash`.
    pub key: &'static str,
    /// How long it was held, where told.
    pub duration_ms: Option<u32>,
    /// Which part of the press this is.
    pub phase: KeyPhase,
}

/// Whether a message tells of a whole press or of an end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPhase {
    /// All of it.
    Whole,
    /// It was pressed, or is still held.
    Held,
    /// It was let go.
    Released,
}

/// The keys of a request, in order; none for other messages.
pub fn key_presses<'a>(message: &Message<'a>) -> impl Iterator<Item = KeyPress> + use<'a> {
    let is_asked = matches!(message.request_method(), Some(Method::Info | Method::Notify));
    let kind = message.content_type().filter(|_| is_asked).unwrap_or_default();
    read(kind, message.body())
}

/// The keys of a body of the given Content-Type.
pub(super) fn read<'a>(
    content_type: &[u8],
    body: &'a [u8],
) -> impl Iterator<Item = KeyPress> + use<'a> {
    let kind = trim(content_type.split(|byte| *byte == b';').next().unwrap_or_default());
    let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
    let mut one = None;
    let mut several: &[u8] = &[];
    if is("application/dtmf-relay") || is("application/dtmf") {
        one = relay(body);
    } else if is("audio/telephone-event") {
        one = telephone_event(body);
    } else if is("application/kpml-response+xml") {
        several = kpml_digits(body).unwrap_or_default();
    } else if is("application/hook-flash") {
        one = Some(whole("flash", None));
    }
    let several = several.iter().take(SIP_DIGITS_PER_MESSAGE_MAX);
    one.into_iter().chain(several.filter_map(|byte| Some(whole(key_of_byte(*byte)?, None))))
}

const fn whole(key: &'static str, duration_ms: Option<u32>) -> KeyPress {
    KeyPress { key, duration_ms, phase: KeyPhase::Whole }
}

/// `Signal` and `Duration` lines in any order and case, or a body that is nothing but the key.
fn relay(body: &[u8]) -> Option<KeyPress> {
    let (mut key, mut duration_ms) = (None, None);
    let mut rest = body;
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        rest = after;
        let mut halves = line.splitn(2, |byte| *byte == b'=');
        let (name, value) = (trim(halves.next().unwrap_or_default()), halves.next().map(trim));
        match value {
            Some(value) if name.eq_ignore_ascii_case(b"signal") => key = key_of_text(value),
            Some(value) if name.eq_ignore_ascii_case(b"duration") => duration_ms = number(value),
            None if key.is_none() => key = key_of_text(name),
            _ => {}
        }
    }
    Some(whole(key?, duration_ms))
}

/// RFC 4733's four bytes; the duration is in ms here, and at the beginning the longest to expect.
fn telephone_event(body: &[u8]) -> Option<KeyPress> {
    let [event, flags, high, low] = Reader::new(body).array::<4>()?;
    let key = *KEYS.get(usize::from(event))?;
    if flags & 0x80 == 0 {
        return Some(KeyPress { key, duration_ms: None, phase: KeyPhase::Held });
    }
    let duration_ms = Some(u32::from(u16::from_be_bytes([high, low])));
    Some(KeyPress { key, duration_ms, phase: KeyPhase::Released })
}

/// The value of `digits` in the `kpml-response` element, unless its `code` is not 200 (RFC 4730 §5.3).
fn kpml_digits(body: &[u8]) -> Option<&[u8]> {
    let at = body.windows(ELEMENT.len()).position(|name| name == ELEMENT)?;
    let attributes = body.get(at..)?.get(ELEMENT.len()..)?;
    let end = attributes.iter().position(|byte| *byte == b'>')?;
    let attributes = attributes.get(..end)?;
    let code = attribute(attributes, b"code");
    if code.is_some_and(|code| code != b"200") {
        return None;
    }
    attribute(attributes, b"digits")
}

const ELEMENT: &[u8] = b"kpml-response";

/// The value of an XML attribute, in either kind of quotes.
fn attribute<'a>(attributes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = attributes;
    loop {
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let found = trim(rest.get(..equals)?);
        let value = trim(rest.get(equals..)?.get(1..)?);
        let (quote, value) = value.split_first().filter(|(it, _)| matches!(it, b'"' | b'\''))?;
        let end = value.iter().position(|byte| byte == quote)?;
        if found == name {
            return value.get(..end);
        }
        rest = value.get(end..)?.get(1..)?;
    }
}

/// By their event numbers (RFC 4733 §3.2).
const KEYS: [&str; 17] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#", "A", "B", "C", "D", "flash"];

/// One character, or the number of an event.
fn key_of_text(text: &[u8]) -> Option<&'static str> {
    match text {
        [byte] => key_of_byte(*byte),
        _ => KEYS.get(usize::try_from(number(text)?).ok()?).copied(),
    }
}

fn key_of_byte(byte: u8) -> Option<&'static str> {
    if byte == b'!' {
        return Some("flash");
    }
    let is_it = |key: &&&str| key.as_bytes() == [byte.to_ascii_uppercase()];
    KEYS.iter().find(is_it).copied()
}

fn number(text: &[u8]) -> Option<u32> {
    super::lines::decimal(text).and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(kind: &str, body: &str) -> Vec<(&'static str, Option<u32>)> {
        let presses = read(kind.as_bytes(), body.as_bytes());
        presses.map(|press| (press.key, press.duration_ms)).collect()
    }

    #[test]
    fn a_relayed_key_is_read_however_it_is_spelled() {
        for (body, key, duration_ms) in [
            ("Signal=5\r\nDuration=160\r\n", "5", Some(160)),
            ("Signal= *\r\nDuration= 250\r\n", "*", Some(250)),
            ("signal=#", "#", None),
            ("Duration=100\nSignal=d\n", "D", Some(100)),
            ("Signal=11\r\n", "#", None),
            ("Signal=16\r\n", "flash", None),
            ("Signal=!\r\n", "flash", None),
            ("7", "7", None),
            ("10\r\n", "*", None),
        ] {
            assert_eq!(keys("application/dtmf-relay", body), [(key, duration_ms)], "{body:?}");
            assert_eq!(keys("Application/DTMF; x=y", body), [(key, duration_ms)], "{body:?}");
        }
        for body in ["", "Signal=\r\n", "Signal=17", "Signal=x", "Duration=160", "=5"] {
            assert_eq!(keys("application/dtmf-relay", body), [], "{body:?}");
        }
        assert_eq!(keys("application/sdp", "5"), []);
        assert_eq!(keys("application/hook-flash", "signal=hf"), [("flash", None)]);
    }

    #[test]
    fn a_telephone_event_is_told_at_its_begin_and_its_end() {
        let press = |body: &[u8]| read(b"audio/telephone-event", body).next();
        let held = KeyPress { key: "1", duration_ms: None, phase: KeyPhase::Held };
        assert_eq!(press(&[1, 0, 7, 0xd0]), Some(held));
        let released = KeyPress { key: "1", duration_ms: Some(150), phase: KeyPhase::Released };
        assert_eq!(press(&[1, 0x80, 0, 0x96]), Some(released));
        assert_eq!((press(&[1, 0x80, 0]), press(&[36, 0, 0, 0])), (None, None));
    }

    #[test]
    fn a_kpml_response_has_its_digits_in_either_quotes() {
        let kind = "application/kpml-response+xml";
        let response = |attributes: &str| {
            format!("<?xml version=\"1.0\"?>\n<kpml-response xmlns=\"urn:x\" {attributes}/>")
        };
        let told = keys(kind, &response("version='1.0' code='200' digits='*7' tag='a'"));
        assert_eq!(told, [("*", None), ("7", None)]);
        assert_eq!(keys(kind, &response("digits = \"#\"")), [("#", None)]);
        assert_eq!(keys(kind, &response("code=\"402\" digits=\"3\"")), []);
        assert_eq!(keys(kind, &response("code=\"200\"")), []);
        let long = "1".repeat(1_000);
        assert_eq!(keys(kind, &response(&format!("digits='{long}'"))).len(), 32);
    }

    #[test]
    fn only_info_and_notify_are_read() {
        let bytes = |method: &str| {
            format!("{method} sip:a SIP/2.0\ni: 1\nCSeq: 9 {method}\nc: application/dtmf\n\n5")
        };
        for (method, count) in [("INFO", 1), ("NOTIFY", 1), ("MESSAGE", 0)] {
            let bytes = bytes(method);
            let message = Message::parse(bytes.as_bytes()).expect("message");
            assert_eq!(key_presses(&message).count(), count, "{method}");
        }
    }
}
