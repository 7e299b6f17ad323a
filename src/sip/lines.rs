//! Header lines, their folds, lists and parameters.
//!
//! Purpose: the one place that knows how SIP text is cut into pieces.
//! Invariants: every piece is a slice of the input; each function walks its input once.
//! Non-goals: the meaning of any header.
//! Sources: RFC 3261 §7.3 (headers, folding, compact forms), §25.1 (LWS, token).

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};

/// One header as it stands: `name` without white space, `value` raw (folds inside, not trimmed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderLine<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// Walks the headers up to and with the blank line that ends them.
#[derive(Clone, Debug)]
pub(crate) struct HeaderLines<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl<'a> HeaderLines<'a> {
    /// `bytes` begins after the start line (or after a boundary, in a multipart body).
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, ended: false }
    }

    /// What follows the lines read; the body, once the iterator has ended.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for HeaderLines<'a> {
    type Item = HeaderLine<'a>;

    fn next(&mut self) -> Option<HeaderLine<'a>> {
        while !self.ended {
            match self.rest {
                [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => {
                    self.rest = rest;
                    self.ended = true;
                    break;
                }
                // Some devices end a datagram with NUL bytes.
                [] | [0, ..] => {
                    self.ended = true;
                    break;
                }
                _ => {}
            }
            let (line, rest) = split_folded_line(self.rest);
            self.rest = rest;
            // Names are short: a plain loop finds their end sooner than a vector search.
            if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                let (name, value) = split_around(line, colon);
                let name = match name {
                    [.., b'\0'..=b' '] => trim(name),
                    name => name,
                };
                if !name.is_empty() {
                    return Some(HeaderLine { name, value });
                }
            }
        }
        None
    }
}

/// Cuts off the first line; neither part has the LF. A line without end takes everything.
pub(crate) fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'\n', bytes) {
        Some(at) => split_around(bytes, at),
        None => (bytes, &[]),
    }
}

/// As [`split_line`], but a line goes on while the next begins with white space.
fn split_folded_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = split_line(bytes);
    match rest {
        [b' ' | b'\t', ..] => split_at_last_fold(bytes),
        _ => (line, rest),
    }
}

#[cold]
fn split_at_last_fold(bytes: &[u8]) -> (&[u8], &[u8]) {
    for at in memchr_iter(b'\n', bytes) {
        let (line, rest) = split_around(bytes, at);
        if !matches!(rest, [b' ' | b'\t', ..]) {
            return (line, rest);
        }
    }
    (bytes, &[])
}

/// What is before and after the byte at `at`.
pub(crate) fn split_around(bytes: &[u8], at: usize) -> (&[u8], &[u8]) {
    let (head, tail) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    (head, tail.get(1..).unwrap_or(&[]))
}

/// Leading CR and LF are keep-alives, and allowed before a start line (RFC 3261 §7.5).
pub(crate) fn skip_line_ends(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0)
}

/// Without white space, line ends and NUL bytes at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_space(*first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !is_space(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// The first word and what follows it, both trimmed.
pub(crate) fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = trim(bytes);
    let end = bytes.iter().position(|byte| is_space(*byte)).unwrap_or(bytes.len());
    let (word, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    (word, trim(rest))
}

/// `token` of RFC 3261 §25.1.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// The value, trimmed, with every fold (CRLF and the white space around it) as one space.
pub(crate) fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = trim(value);
    if memchr2(b'\n', b'\r', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut plain = Vec::with_capacity(value.len());
    for (index, line) in value.split(|byte| *byte == b'\n').enumerate() {
        let line = trim(line);
        if index > 0 && !line.is_empty() {
            plain.push(b' ');
        }
        plain.extend_from_slice(line);
    }
    Cow::Owned(plain)
}

/// Cuts `bytes` at `separator`, but not inside quotes or `<>`; pieces are trimmed.
#[derive(Clone, Debug)]
pub(crate) struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
    protection: Protection,
}

/// Whether anything in the text can hide a separator; asked once, for the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    None,
    QuotesOrBrackets,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], separator: u8) -> Self {
        let protection = match memchr2(b'"', b'<', bytes) {
            Some(_) => Protection::QuotesOrBrackets,
            None => Protection::None,
        };
        Self { rest: Some(bytes), separator, protection }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let bytes = self.rest?;
        if self.protection == Protection::None {
            let Some(at) = memchr(self.separator, bytes) else {
                self.rest = None;
                return Some(trim(bytes));
            };
            let (piece, rest) = split_around(bytes, at);
            self.rest = Some(rest);
            return Some(trim(piece));
        }
        let (mut quoted, mut escaped, mut angled) = (false, false, false);
        for (index, byte) in bytes.iter().enumerate() {
            match *byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'<' => angled = true,
                b'>' => angled = false,
                _ if angled => {}
                byte if byte == self.separator => {
                    let (piece, rest) = split_around(bytes, index);
                    self.rest = Some(rest);
                    return Some(trim(piece));
                }
                _ => {}
            }
        }
        self.rest = None;
        Some(trim(bytes))
    }
}

/// The value of the parameter `name` in `;a=b;c` (what is before the first `;` is no parameter
/// unless it looks like one). Empty for a parameter without a value; without its quotes.
pub(crate) fn parameter<'a>(parameters: &'a [u8], name: &str) -> Option<&'a [u8]> {
    for piece in Pieces::new(parameters, b';') {
        let (key, value) = match memchr(b'=', piece) {
            Some(at) => split_around(piece, at),
            None => (piece, &[] as &[u8]),
        };
        if trim(key).eq_ignore_ascii_case(name.as_bytes()) {
            return Some(parameter_value(trim(value)));
        }
    }
    None
}

fn parameter_value(value: &[u8]) -> &[u8] {
    if let [b'"', rest @ ..] = value {
        let end = memchr(b'"', rest).unwrap_or(rest.len());
        return rest.get(..end).unwrap_or(rest);
    }
    let end = value.iter().position(|byte| *byte == b',' || is_space(*byte));
    value.get(..end.unwrap_or(value.len())).unwrap_or(value)
}

/// The long form of a header name given in its compact form.
pub(crate) fn long_form(name: &[u8]) -> Option<&'static str> {
    let [letter] = name else { return None };
    Some(match letter.to_ascii_lowercase() {
        b'a' => "Accept-Contact",
        b'b' => "Referred-By",
        b'c' => "Content-Type",
        b'd' => "Request-Disposition",
        b'e' => "Content-Encoding",
        b'f' => "From",
        b'i' => "Call-ID",
        b'j' => "Reject-Contact",
        b'k' => "Supported",
        b'l' => "Content-Length",
        b'm' => "Contact",
        b'n' => "Identity-Info",
        b'o' => "Event",
        b'r' => "Refer-To",
        b's' => "Subject",
        b't' => "To",
        b'u' => "Allow-Events",
        b'v' => "Via",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => return None,
    })
}

/// The headers that every message is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Essential {
    CallId,
    CSeq,
    From,
    To,
    Via,
    ContentType,
    ContentLength,
}

impl Essential {
    /// By the length of the name, which leaves at most two candidates.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let is = |long: &[u8], found: Self| name.eq_ignore_ascii_case(long).then_some(found);
        match name.len() {
            1 => match name {
                [b'i' | b'I'] => Some(Self::CallId),
                [b'f' | b'F'] => Some(Self::From),
                [b't' | b'T'] => Some(Self::To),
                [b'v' | b'V'] => Some(Self::Via),
                [b'c' | b'C'] => Some(Self::ContentType),
                [b'l' | b'L'] => Some(Self::ContentLength),
                _ => None,
            },
            2 => is(b"To", Self::To),
            3 => is(b"Via", Self::Via),
            4 => is(b"From", Self::From).or_else(|| is(b"CSeq", Self::CSeq)),
            7 => is(b"Call-ID", Self::CallId),
            12 => is(b"Content-Type", Self::ContentType),
            14 => is(b"Content-Length", Self::ContentLength),
            _ => None,
        }
    }
}

/// True when both name the same header, whatever their case and form.
pub(crate) fn is_same_header(left: &[u8], right: &[u8]) -> bool {
    let left = long_form(left).map_or(left, str::as_bytes);
    let right = long_form(right).map_or(right, str::as_bytes);
    left.eq_ignore_ascii_case(right)
}

/// A decimal number of digits only; `None` if empty, too large, or anything else.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte.wrapping_sub(b'0')))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_values(bytes: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        HeaderLines::new(bytes).map(|line| (text(line.name), text(&unfold(line.value)))).collect()
    }

    #[test]
    fn folds_spaces_before_colons_and_bare_line_feeds_are_one_thing() {
        let headers = b"A : 1\r\nB:\r\n  two \r\n\tthree\nno colon here\nC:4\n\nbody: x\n";
        let mut lines = HeaderLines::new(headers);
        assert_eq!(lines.by_ref().count(), 3);
        assert_eq!(lines.rest(), b"body: x\n");
        let expected = [("A", "1"), ("B", "two three"), ("C", "4")];
        let expected: Vec<_> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(names_and_values(headers), expected);
    }

    #[test]
    fn headers_cut_anywhere_never_panic_and_never_reach_the_body() {
        let headers = b"A: 1\r\nB: 2\r\n\r\nbody: x";
        for cut in 0..=headers.len() {
            assert!(names_and_values(&headers[..cut]).len() <= 2, "cut at {cut}");
        }
    }

    #[test]
    fn lists_are_not_cut_inside_quotes_or_brackets() {
        let list = br#""Watson, \", T" <sip:a,b@x>;q=1 , <sip:c@x>,,"open, <d"#;
        let pieces: Vec<_> = Pieces::new(list, b',').collect();
        let expected: [&[u8]; 4] =
            [br#""Watson, \", T" <sip:a,b@x>;q=1"#, b"<sip:c@x>", b"", br#""open, <d"#];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn parameters_are_found_through_white_space_case_and_quotes() {
        let via = b"SIP/2.0/UDP h;Branch = z9hG4bKx ;rport;x=\"a;branch=b\"";
        assert_eq!(parameter(via, "branch"), Some(&b"z9hG4bKx"[..]));
        assert_eq!(parameter(via, "rport"), Some(&b""[..]));
        assert_eq!(parameter(via, "x"), Some(&b"a;branch=b"[..]));
        assert_eq!(parameter(via, "maddr"), None);
    }

    #[test]
    fn numbers_that_do_not_fit_are_none() {
        assert_eq!(decimal(b"0009"), Some(9));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(decimal(b""), None);
    }
}
