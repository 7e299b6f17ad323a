//! The first line of a SIP message.
//!
//! Purpose: tell a request from a response, and either from anything else.
//! Invariants: what it accepts is one line that names SIP/2.0 at its proper end.
//! Non-goals: the Request-URI's meaning (see `name_addr`).
//! Sources: RFC 3261 §7.1 (Request-Line), §7.2 (Status-Line); RFC 4475 for what is tolerated.

use memchr::memchr2;

use super::lines::{is_token_byte, split_word, trim};
use super::{Likeness, Method, SipReject, looks_like_sip};
use crate::base::limits;

const VERSION: &[u8] = b"SIP/2.0";

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request.
    Request {
        /// What it asks.
        method: Method,
        /// Request-URI as it stands, outer white space removed.
        uri: &'a [u8],
    },
    /// A response.
    Response {
        /// 100–699.
        status: u16,
        /// Reason phrase, possibly empty, any bytes.
        reason: &'a [u8],
    },
}

impl<'a> StartLine<'a> {
    /// Reads one line, with or without its CR; white space is tolerated wherever it may stand.
    ///
    /// # Errors
    /// `NotSip` for any other line, `BadStatus` for a status code outside 100–699.
    /// Source: RFC 3261 §7.1, §7.2; the version is compared without case (§7.1).
    pub fn parse(line: &'a [u8]) -> Result<Self, SipReject> {
        if let Some(rest) = after_version(line) {
            let (code, reason) = split_word(rest);
            return match code {
                [hundreds @ b'1'..=b'6', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                    let status = [hundreds, tens, ones].iter().fold(0u16, |sum, digit| {
                        sum.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0')))
                    });
                    Ok(Self::Response { status, reason })
                }
                _ => Err(SipReject::BadStatus),
            };
        }
        let (method, uri) = split_request(line).ok_or(SipReject::NotSip)?;
        Ok(Self::Request { method: Method::from_token(method), uri })
    }
}

/// What follows `SIP/2.0 ` at the beginning of a status line.
fn after_version(line: &[u8]) -> Option<&[u8]> {
    let (version, rest) = line.split_at_checked(VERSION.len())?;
    let is_response = version.eq_ignore_ascii_case(VERSION) && matches!(rest, [b' ', ..]);
    is_response.then_some(rest)
}

/// Method token and Request-URI of a request line; `None` if it is none.
pub(crate) fn split_request(line: &[u8]) -> Option<(&[u8], &[u8])> {
    if line.len() >= limits::SIP_START_LINE_BYTES_MAX {
        return None;
    }
    // The end first: few lines that are not request lines end in a version.
    let line = trim(line);
    let (rest, version) = line.split_at_checked(line.len().checked_sub(VERSION.len())?)?;
    if !version.eq_ignore_ascii_case(VERSION) || !matches!(rest, [.., b' ' | b'\t']) {
        return None;
    }
    if memchr2(0, b'\r', rest).is_some() {
        return None;
    }
    let (method, uri) = split_word(rest);
    let is_request = method.len() <= limits::SIP_METHOD_BYTES_MAX
        && !method.is_empty()
        && method.iter().all(|byte| is_token_byte(*byte))
        // `Subject : about SIP/2.0` is a header with white space before its colon.
        && !matches!(uri, [] | [b'\0'..=b' ' | b':' | 0x7f, ..]);
    is_request.then_some((method, uri))
}

/// True for a whole line that begins a message: where a framer may take up the stream again.
/// Never true when a first part of the line already looks like something else.
pub(crate) fn is_start_line(line: &[u8]) -> bool {
    // Most header lines fall at their last byte: a request line ends in `0`, or in white space.
    let may_begin =
        matches!(line, [.., b'0' | b' ' | b'\t' | b'\r' | 0]) || matches!(line, [b's' | b'S', ..]);
    may_begin
        && matches!(line, [first, ..] if is_token_byte(*first))
        && line.len() < limits::SIP_START_LINE_BYTES_MAX
        && StartLine::parse(line).is_ok()
        && looks_like_sip(line) != Likeness::No
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_are_told_apart_through_sloppy_spacing() {
        let uri = &b"sip:a@b"[..];
        let request = Ok(StartLine::Request { method: Method::Bye, uri });
        assert_eq!(StartLine::parse(b"BYE sip:a@b SIP/2.0"), request);
        assert_eq!(StartLine::parse(b"BYE  sip:a@b  sip/2.0  \r"), request);
        let response = Ok(StartLine::Response { status: 183, reason: b"Session Progress" });
        assert_eq!(StartLine::parse(b"SIP/2.0 183 Session Progress\r"), response);
        let bare = Ok(StartLine::Response { status: 100, reason: b"" });
        assert_eq!(StartLine::parse(b"SIP/2.0 100"), bare);
        assert_eq!(StartLine::parse(b"SIP/2.0 100 \r"), bare);
    }

    #[test]
    fn other_first_lines_are_rejected() {
        for line in [
            &b"GET / HTTP/1.1"[..],
            b"INVITE sip:a@b SIP/7.0",
            b"INVITE SIP/2.0",
            b"SIP/2.0",
            b"Via: SIP/2.0/UDP x SIP/2.0",
            b"Subject : about SIP/2.0",
            b"BYE \0sip:a SIP/2.0",
            b"BYE \x01sip:a SIP/2.0",
            b"BYE \rsip:a SIP/2.0",
            b"",
        ] {
            assert_eq!(StartLine::parse(line), Err(SipReject::NotSip), "{line:?}");
        }
        for line in
            [&b"SIP/2.0 4294967301 no"[..], b"SIP/2.0 99 no", b"SIP/2.0 700 no", b"SIP/2.0 "]
        {
            assert_eq!(StartLine::parse(line), Err(SipReject::BadStatus), "{line:?}");
        }
    }
}
