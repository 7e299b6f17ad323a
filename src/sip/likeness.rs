//! Is this SIP? A first look at bytes of unknown kind.
//!
//! Purpose: let the front sort packets without parsing them.
//! Invariants: `No` and `Yes` are final: more bytes at the end do not change them.
//! Non-goals: whether the message can be used (see `message`).
//! Sources: RFC 3261 §7.1, §7.2, §7.5 (leading line ends).

use memchr::memchr;

use super::lines::{is_token_byte, skip_line_ends, split_around};
use super::start_line::split_request;
use crate::base::limits;

/// How a payload looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Not SIP.
    No,
    /// Could become SIP with more bytes: for a datagram no, for a TCP stream wait.
    Maybe,
    /// Its first line is SIP's.
    Yes,
}

/// Looks at the first line: `SIP/2.0 ` or a method, a URI and ` SIP/2.0`; leading CR and LF are
/// skipped. The rest of the message is not looked at.
///
/// Most other payloads fall at their first byte (RTP begins with 0x80) or at the first byte after
/// the first word; what begins like text costs one search for the line's end.
#[must_use]
pub fn looks_like_sip(bytes: &[u8]) -> Likeness {
    const RESPONSE: &[u8] = b"SIP/2.0 ";
    let bytes = skip_line_ends(bytes);
    match bytes.first() {
        None => return Likeness::Maybe,
        Some(first) if !is_token_byte(*first) => return Likeness::No,
        Some(_) => {}
    }
    let head = bytes.get(..RESPONSE.len()).unwrap_or(bytes);
    if RESPONSE.get(..head.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(head)) {
        return if head.len() == RESPONSE.len() { Likeness::Yes } else { Likeness::Maybe };
    }
    looks_like_request(bytes)
}

fn looks_like_request(bytes: &[u8]) -> Likeness {
    let mut words = bytes;
    let mut method_len = 0usize;
    while let [byte, rest @ ..] = words {
        if !is_token_byte(*byte) {
            break;
        }
        method_len = method_len.saturating_add(1);
        if method_len > limits::SIP_METHOD_BYTES_MAX {
            return Likeness::No;
        }
        words = rest;
    }
    if !matches!(words, [] | [b' ' | b'\t', ..]) {
        return Likeness::No;
    }
    while let [b' ' | b'\t', rest @ ..] = words {
        words = rest;
    }
    // A Request-URI begins with its scheme, or (wrongly) with `<`; never with a control character.
    if matches!(words, [b'\0'..=b' ' | b':' | 0x7f, ..]) {
        return Likeness::No;
    }
    let window = bytes.get(..limits::SIP_START_LINE_BYTES_MAX).unwrap_or(bytes);
    match memchr(b'\n', window) {
        Some(at) if split_request(split_around(window, at).0).is_some() => Likeness::Yes,
        None if bytes.len() < limits::SIP_START_LINE_BYTES_MAX => Likeness::Maybe,
        Some(_) | None => Likeness::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_of_sip_are_recognised_and_others_are_not() {
        for yes in [
            &b"SIP/2.0 200 OK\r\n"[..],
            b"INVITE sip:a@b SIP/2.0\r\nVia: x",
            b"\r\n\r\nBYE sip:a@b SIP/2.0\n",
            b"!interesting-Method0123456789_*+`.%indeed'~ sip:a@b SIP/2.0\r\n",
            b"INVITE <sip:a@b;lr> SIP/2.0 \r\n",
        ] {
            assert_eq!(looks_like_sip(yes), Likeness::Yes, "{yes:?}");
        }
        for no in [
            &[0x80, 0, 0, 1, 0, 0, 0, 0][..],
            b"GET / HTTP/1.1\r\n",
            b"INVITE sip:a@b SIP/7.0\r\n",
            b"{\"json\":1}",
            b"hello: world",
            b"A \0\0\0",
            &[b'A'; 65],
        ] {
            assert_eq!(looks_like_sip(no), Likeness::No, "{no:?}");
        }
        for maybe in [&b""[..], b"\r\n", b"S", b"SIP/2", b"INVI", b"INVITE ", b"GET / HTTP/1.1"] {
            assert_eq!(looks_like_sip(maybe), Likeness::Maybe, "{maybe:?}");
        }
    }

    #[test]
    fn a_verdict_never_changes_when_more_bytes_come() {
        let long = [&b"INVITE sip:"[..], &[b'x'; 9_000], b"@b SIP/2.0\r\n"].concat();
        for whole in [
            &b"\r\nSIP/2.0 200 OK\r\n"[..],
            b"INVITE sip:a@b SIP/2.0\r\nVia: x",
            b"GET / HTTP/1.1\r\nINVITE sip:a@b SIP/2.0\r\n",
            b"SIPPING sip:a@b SIP/2.0\r\n",
            &long,
        ] {
            let mut verdict = Likeness::Maybe;
            for cut in 0..=whole.len() {
                let now = looks_like_sip(&whole[..cut]);
                assert!(verdict == Likeness::Maybe || verdict == now, "cut at {cut}");
                verdict = now;
            }
            assert_ne!(verdict, Likeness::Maybe);
        }
    }
}
