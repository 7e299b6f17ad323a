//! One SIP message.
//!
//! Purpose: read what correlation needs in one pass, and find any other header on demand.
//! Invariants: nothing is copied or allocated by `parse`; what exists is a slice of the input.
//! Non-goals: judging legality: a recorder takes what the phones understood, and rejects only
//! what it cannot attach to a dialog.
//! Sources: RFC 3261 §7, §8.1.1, §17.2.3, §18.3, §20; RFC 4475.
//!
//! ```text
//! for each header line (folds belong to it):      one memchr for its end, a short loop for its colon
//!     is it one of seven by length, then name?     keep the first of each kind
//! the blank line: what follows is the body         cut by Content-Length, where that is less
//! ```
//!
//! No table of headers is kept: a second walk for a rare header costs less than filling a table
//! for every message.

use std::borrow::Cow;

use super::lines::{
    Essential, HeaderLine, HeaderLines, Pieces, decimal, is_same_header, parameter, skip_line_ends,
    split_line, split_word, trim, unfold,
};
use super::{Method, NameAddr, SipReject, StartLine, multipart};
use crate::base::limits;

/// How the body relates to Content-Length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// As long as Content-Length says, or there is no readable one and the body is all that follows.
    Whole,
    /// Content-Length says more than there is; the body is what there is.
    Shorter,
    /// More follows than Content-Length says; it does not belong to the message (RFC 3261 §18.3).
    Followed,
}

/// Whether all headers can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersState {
    /// All.
    Whole,
    /// More than `limits::SIP_HEADERS_MAX`: lookups see only the first of them.
    Cut,
}

/// The CSeq header (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// Sequence number.
    pub number: u32,
    /// Method of the request, also in its responses.
    pub method: Method,
}

/// The headers that every message is asked for; raw values, the first of each.
#[derive(Clone, Copy, Debug, Default)]
struct Found<'a> {
    call_id: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    via: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
}

impl<'a> Found<'a> {
    fn take(&mut self, line: HeaderLine<'a>) {
        let Some(essential) = Essential::of(line.name) else { return };
        let slot = match essential {
            Essential::CallId => &mut self.call_id,
            Essential::CSeq => &mut self.cseq,
            Essential::From => &mut self.from,
            Essential::To => &mut self.to,
            Essential::Via => &mut self.via,
            Essential::ContentType => &mut self.content_type,
            Essential::ContentLength => &mut self.content_length,
        };
        slot.get_or_insert(line.value);
    }
}

/// A parsed SIP message, borrowing the bytes it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    start: StartLine<'a>,
    start_line: &'a [u8],
    headers: &'a [u8],
    headers_state: HeadersState,
    found: Found<'a>,
    call_id: &'a [u8],
    cseq: CSeq,
    body: &'a [u8],
    declared_len: Option<u64>,
    body_state: BodyState,
}

impl<'a> Message<'a> {
    /// Reads one message: a datagram's payload, or what the [`super::Framer`] handed over.
    ///
    /// Leading line ends, bare LF, folds, compact forms, white space before colons, lines that are
    /// no headers, a missing From, To or Via, and a wrong Content-Length are taken as they are.
    ///
    /// # Errors
    /// See [`SipReject`]: without a start line, a Call-ID and a CSeq a message cannot be attached
    /// to anything.
    /// Source: RFC 3261 §7, §18.3.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SipReject> {
        if bytes.len() > limits::SIP_MESSAGE_BYTES_MAX {
            return Err(SipReject::TooLong);
        }
        let (start_line, headers) = split_line(skip_line_ends(bytes));
        let start = StartLine::parse(start_line)?;
        let mut found = Found::default();
        let mut lines = HeaderLines::new(headers);
        let mut count = 0usize;
        for line in &mut lines {
            found.take(line);
            count = count.saturating_add(1);
        }
        let headers_state = match count {
            0..=limits::SIP_HEADERS_MAX => HeadersState::Whole,
            _ => HeadersState::Cut,
        };
        let call_id = trim(found.call_id.unwrap_or(&[]));
        if call_id.is_empty() {
            return Err(SipReject::NoCallId);
        }
        let cseq = parse_cseq(found.cseq.ok_or(SipReject::NoCseq)?, start)?;
        let declared_len = found.content_length.and_then(|value| decimal(trim(value)));
        let (body, body_state) = cut_body(lines.rest(), declared_len);
        let block_len_bytes = headers.len().saturating_sub(lines.rest().len());
        let headers = headers.get(..block_len_bytes).unwrap_or(headers);
        Ok(Self {
            start,
            start_line,
            headers,
            headers_state,
            found,
            call_id,
            cseq,
            body,
            declared_len,
            body_state,
        })
    }

    /// Request or response.
    #[must_use]
    pub const fn start(&self) -> StartLine<'a> {
        self.start
    }

    /// The method of a request; `None` for a response.
    #[must_use]
    pub const fn request_method(&self) -> Option<Method> {
        match self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// The status code of a response, 100–699; `None` for a request.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The method as it is spelled: a request's own, or what the CSeq of a response says.
    #[must_use]
    pub fn method_name(&self) -> &'a [u8] {
        match self.start {
            StartLine::Request { .. } => split_word(self.start_line).0,
            StartLine::Response { .. } => self.cseq_method_name(),
        }
    }

    /// The Request-URI as an address; `None` for a response.
    #[must_use]
    pub fn request_uri(&self) -> Option<NameAddr<'a>> {
        match self.start {
            StartLine::Request { uri, .. } => Some(NameAddr::parse(uri)),
            StartLine::Response { .. } => None,
        }
    }

    /// Call-ID, not empty.
    #[must_use]
    pub const fn call_id(&self) -> &'a [u8] {
        self.call_id
    }

    /// The start line, and the headers with the blank line, as they stand.
    pub(crate) const fn head(&self) -> (&'a [u8], &'a [u8]) {
        (self.start_line, self.headers)
    }

    /// CSeq. Its method may contradict the request line's (RFC 4475 §3.1.2.17).
    #[must_use]
    pub const fn cseq(&self) -> CSeq {
        self.cseq
    }

    /// The method as the CSeq spells it; empty if it names none.
    pub(crate) fn cseq_method_name(&self) -> &'a [u8] {
        split_word(self.found.cseq.unwrap_or(&[])).1
    }

    /// From; empty if there is none.
    #[must_use]
    pub fn from(&self) -> NameAddr<'a> {
        NameAddr::parse(self.found.from.unwrap_or(&[]))
    }

    /// To; empty if there is none.
    #[must_use]
    pub fn to(&self) -> NameAddr<'a> {
        NameAddr::parse(self.found.to.unwrap_or(&[]))
    }

    /// The topmost Via: the first value of the first such header.
    pub(crate) fn top_via(&self) -> &'a [u8] {
        Pieces::new(self.found.via.unwrap_or(&[]), b',').next().unwrap_or(&[])
    }

    /// The branch of the topmost Via (RFC 3261 §8.1.1.7); RFC 2543 phones send none.
    #[must_use]
    pub fn via_branch(&self) -> Option<&'a [u8]> {
        parameter(self.top_via(), "branch").filter(|branch| !branch.is_empty())
    }

    /// The first header of this name, long or compact, in any case; folds are one space.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.raw_headers(name).next().map(unfold)
    }

    /// Every header of this name, in order; a comma-joined list is one value.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a, 'n> {
        self.raw_headers(name).map(unfold)
    }

    /// Every element of the headers of this name: comma-joined lists are taken apart. For headers
    /// that are lists by their grammar (Via, Route, Contact, P-Asserted-Identity…), not for dates.
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a, 'n> {
        self.raw_headers(name)
            .flat_map(|value| Pieces::new(value, b','))
            .filter(|piece| !piece.is_empty())
            .map(unfold)
    }

    /// Every header as (name as spelled, value), in order.
    pub fn all_headers(&self) -> impl Iterator<Item = (&'a [u8], Cow<'a, [u8]>)> + use<'a> {
        HeaderLines::new(self.headers)
            .take(limits::SIP_HEADERS_MAX)
            .map(|line| (line.name, unfold(line.value)))
    }

    fn raw_headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        HeaderLines::new(self.headers)
            .take(limits::SIP_HEADERS_MAX)
            .filter(move |line| is_same_header(line.name, name.as_bytes()))
            .map(|line| line.value)
    }

    /// Whether lookups see every header.
    #[must_use]
    pub const fn headers_state(&self) -> HeadersState {
        self.headers_state
    }

    /// The body, possibly empty.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Content-Length, where there is a readable one.
    #[must_use]
    pub const fn declared_len(&self) -> Option<u64> {
        self.declared_len
    }

    /// Whether the body is what Content-Length says.
    #[must_use]
    pub const fn body_state(&self) -> BodyState {
        self.body_state
    }

    /// Content-Type as it stands; `None` if absent or empty.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.found.content_type.map(trim).filter(|value| !value.is_empty())
    }

    /// The session description: the whole body or a part of a multipart one (RFC 5621 §3). A body
    /// that begins with `v=0` needs no Content-Type.
    #[must_use]
    pub fn sdp(&self) -> Option<&'a [u8]> {
        match self.content_type() {
            Some(kind) => multipart::find_sdp(kind, self.body),
            None => trim(self.body).starts_with(b"v=0").then_some(self.body),
        }
    }
}

fn parse_cseq(value: &[u8], start: StartLine<'_>) -> Result<CSeq, SipReject> {
    let (number, name) = split_word(value);
    let number = decimal(number).and_then(|number| u32::try_from(number).ok());
    let number = number.ok_or(SipReject::BadCseq)?;
    let method = match (name, start) {
        ([], StartLine::Request { method, .. }) => method,
        ([], StartLine::Response { .. }) => return Err(SipReject::BadCseq),
        (name, _) => Method::from_token(name),
    };
    Ok(CSeq { number, method })
}

fn cut_body(rest: &[u8], declared_len: Option<u64>) -> (&[u8], BodyState) {
    let Some(declared_len) = declared_len else {
        let end = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        return (rest.get(..end).unwrap_or(rest), BodyState::Whole);
    };
    let declared_len = usize::try_from(declared_len).unwrap_or(usize::MAX);
    match rest.split_at_checked(declared_len) {
        Some((body, [])) => (body, BodyState::Whole),
        Some((body, _)) => (body, BodyState::Followed),
        None => (rest, BodyState::Shorter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:bob@biloxi.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.example:5066;branch=z9hG4bK776asdhds;rport\r\n\
        Via: SIP/2.0/UDP below.example;branch=z9hG4bKbelow\r\n\
        Max-Forwards: 70\r\n\
        To: Bob <sip:bob@biloxi.example>\r\n\
        From: \"Alice\" <sip:alice@atlanta.example>;tag=1928301774\r\n\
        Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n\
        CSeq: 314159 INVITE\r\n\
        m: <sip:alice@pc33.atlanta.example>, <sip:second@x>\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 5\r\n\
        \r\n\
        v=0\r\n";

    fn text(value: Option<Cow<'_, [u8]>>) -> String {
        String::from_utf8_lossy(&value.expect("header")).into_owned()
    }

    #[test]
    fn an_ordinary_invite_is_read() {
        let message = Message::parse(INVITE).expect("message");
        let uri = &b"sip:bob@biloxi.example"[..];
        assert_eq!(message.start(), StartLine::Request { method: Method::Invite, uri });
        assert_eq!(message.call_id(), b"a84b4c76e66710@pc33.atlanta.example");
        assert_eq!(message.cseq(), CSeq { number: 314_159, method: Method::Invite });
        assert_eq!(message.from().tag(), Some(&b"1928301774"[..]));
        assert_eq!(message.to().tag(), None);
        assert_eq!(message.via_branch(), Some(&b"z9hG4bK776asdhds"[..]));
        assert_eq!(
            text(message.header("contact")),
            "<sip:alice@pc33.atlanta.example>, <sip:second@x>"
        );
        assert_eq!(message.list("Contact").count(), 2);
        assert_eq!(message.headers("v").count(), 2);
        assert_eq!(message.header("Subject"), None);
        assert_eq!(message.all_headers().count(), 10);
        assert_eq!(message.body(), b"v=0\r\n");
        assert_eq!(message.sdp(), Some(&b"v=0\r\n"[..]));
        assert_eq!((message.declared_len(), message.body_state()), (Some(5), BodyState::Whole));
        assert_eq!(message.method_name(), b"INVITE");
    }

    #[test]
    fn every_cut_either_parses_or_says_what_is_missing() {
        for cut in 0..INVITE.len() {
            match Message::parse(&INVITE[..cut]) {
                Ok(message) => assert!(cut > 300, "{message:?}"),
                Err(reject) => assert!(cut < 380, "cut at {cut}: {}", reject.label()),
            }
        }
    }

    #[test]
    fn content_length_cuts_marks_or_is_absent() {
        let with = |length: &str, body: &str| {
            format!("BYE sip:a SIP/2.0\ni: 1\nCSeq: 1 BYE\n{length}\n{body}")
        };
        for (length, body, expected, state) in [
            ("l: 3\n", "abcdef", "abc", BodyState::Followed),
            ("l: 9\n", "abcdef", "abcdef", BodyState::Shorter),
            ("l: 6\n", "abcdef", "abcdef", BodyState::Whole),
            ("", "abcdef\0\0", "abcdef", BodyState::Whole),
            ("l: -6\n", "abcdef", "abcdef", BodyState::Whole),
            ("l: 99999999999999999999999\n", "abcdef", "abcdef", BodyState::Whole),
            ("l: 0\n", "", "", BodyState::Whole),
        ] {
            let bytes = with(length, body);
            let message = Message::parse(bytes.as_bytes()).expect("message");
            assert_eq!((message.body(), message.body_state()), (expected.as_bytes(), state));
        }
    }

    #[test]
    fn rejects_say_what_is_missing() {
        let parse = |bytes: &[u8]| Message::parse(bytes).map(|_| ()).map_err(SipReject::label);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), Err("not_sip"));
        assert_eq!(parse(b"SIP/2.0 20 OK\r\n\r\n"), Err("bad_status"));
        assert_eq!(parse(b"SIP/2.0 200 OK\r\nCSeq: 1 BYE\r\n\r\n"), Err("no_call_id"));
        assert_eq!(parse(b"SIP/2.0 200 OK\r\ni:\r\nCSeq: 1 BYE\r\n\r\n"), Err("no_call_id"));
        assert_eq!(parse(b"SIP/2.0 200 OK\r\ni: x\r\n\r\n"), Err("no_cseq"));
        assert_eq!(
            parse(b"SIP/2.0 200 OK\r\ni: x\r\nCSeq: 4294967296 BYE\r\n\r\n"),
            Err("bad_cseq")
        );
        assert_eq!(parse(b"SIP/2.0 200 OK\r\ni: x\r\nCSeq: 1\r\n\r\n"), Err("bad_cseq"));
        assert_eq!(parse(b"BYE sip:a SIP/2.0\r\ni: x\r\nCSeq: 1\r\n\r\n"), Ok(()));
        let long = [INVITE, &vec![b'x'; limits::SIP_MESSAGE_BYTES_MAX]].concat();
        assert_eq!(parse(&long), Err("too_long"));
    }

    #[test]
    fn headers_beyond_the_limit_are_marked_but_the_essential_ones_are_still_found() {
        let many = "X: y\r\n".repeat(limits::SIP_HEADERS_MAX);
        let bytes = format!("BYE sip:a SIP/2.0\r\n{many}i: 1\r\nCSeq: 1 BYE\r\nl: 0\r\n\r\n");
        let message = Message::parse(bytes.as_bytes()).expect("message");
        assert_eq!(message.headers_state(), HeadersState::Cut);
        assert_eq!((message.call_id(), message.declared_len()), (&b"1"[..], Some(0)));
        assert_eq!(message.headers("x").count(), limits::SIP_HEADERS_MAX);
        assert_eq!(message.header("Call-ID"), None);
    }
}
