//! SIP messages in a TCP byte stream.
//!
//! Purpose: hand over whole messages, whatever the segments were, and find the way back after
//! bytes were lost or a length was wrong.
//! Invariants: what is found does not depend on where the stream was cut; each byte is searched
//! once (and moved at most once); at most one message and one segment are held.
//! Non-goals: putting segments in order (see `net`), parsing (see `message`).
//! Sources: RFC 3261 §7.5, §18.3; RFC 5626 §3.5.1 (CRLF keep-alives).
//!
//! ```text
//!   Between ──start line──► Headers ──blank line──► Body ──its end──► Between
//!      ▲  └─anything else─► MidLine       │ a start line among the headers begins a new message
//!      └───────line end───────┘           └ too long: Between, at the line that was too much
//! ```
//!
//! The end of a body: Content-Length; without one, the end of the headers, or, if there is a
//! Content-Type, the next start line. A start line inside a body ends it early, because then the
//! Content-Length was wrong – unless the body may carry SIP itself (`message/sipfrag`).

use memchr::memchr;

use super::lines::{Essential, HeaderLines, decimal, split_around, trim};
use super::start_line::{StartLine, is_start_line};
use super::{Likeness, Method, looks_like_sip};
use crate::base::limits::{SIP_MESSAGE_BYTES_MAX, SIP_METHOD_BYTES_MAX, SIP_START_LINE_BYTES_MAX};

/// How bytes relate to those fed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// They follow directly.
    Contiguous,
    /// Bytes are missing before them, or nothing is known of what came before.
    Gap,
}

/// Cuts one direction of a TCP connection into SIP messages.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// What was fed but not yet handed over; begins where the current state began.
    held: Vec<u8>,
    state: State,
    skipped_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At the beginning of a line where a message may begin.
    #[default]
    Between,
    /// As `Between`, but it may be the middle of a line: only methods we know begin a message.
    AfterGap,
    /// Inside a line that is no SIP; its bytes are not kept.
    MidLine,
    /// In the headers of the message at the front.
    Headers(Search),
    /// In its body.
    Body(Search, Body),
}

/// A search for line ends, by offsets from the message's first byte.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    /// Where the line begins whose end is looked for.
    line: usize,
    /// Up to where there is no line end.
    searched: usize,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    end: BodyEnd,
    inner: InnerLines,
}

#[derive(Clone, Copy, Debug)]
enum BodyEnd {
    /// Offset from the message's first byte.
    At(usize),
    NextStartLine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InnerLines {
    /// A start line cannot be part of the body.
    Watch,
    /// It is SDP: not even the beginning of a start line can be part of the body.
    WatchLast,
    /// The body may carry SIP.
    Ignore,
}

/// What one step found at the front of the bytes.
enum Step {
    /// More bytes are needed.
    Wait,
    /// The state moved; look again.
    Again,
    /// This many bytes are no SIP; then look again.
    Skip(usize),
    /// This many bytes are a message; then look again, in `Between`.
    Message(usize),
}

impl Search {
    /// The offset of the end (LF) of the line searched for; remembers how far it looked.
    fn line_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let found = memchr(b'\n', bytes.get(self.searched..)?);
        let end = found.map(|at| self.searched.saturating_add(at));
        self.searched = end.unwrap_or(bytes.len());
        end
    }

    /// The line that ends at `end`, without its line end.
    fn line<'a>(&self, bytes: &'a [u8], end: usize) -> &'a [u8] {
        let line = bytes.get(self.line..end).unwrap_or(&[]);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    const fn after(end: usize) -> Self {
        let line = end.saturating_add(1);
        Self { line, searched: line }
    }
}

impl Framer {
    /// Takes the next bytes of the stream, and calls `on_message` for each message that they
    /// complete, in order. A message lies in `bytes` itself if it is whole there.
    ///
    /// After [`Gap::Gap`], a message whose headers were complete is handed over as far as it came
    /// (its `BodyState` is `Shorter`), and one whose headers were not is skipped.
    pub fn feed(&mut self, bytes: &[u8], gap: Gap, mut on_message: impl FnMut(&[u8])) {
        if gap == Gap::Gap {
            self.finish(&mut on_message);
            self.state = State::AfterGap;
        }
        if self.held.is_empty() {
            let taken = self.walk(bytes, &mut on_message);
            self.held.extend_from_slice(bytes.get(taken..).unwrap_or(&[]));
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let taken = self.walk(&held, &mut on_message);
        // What is left came with this feed, or nothing was taken: no byte moves twice.
        held.drain(..taken.min(held.len()));
        if !held.is_empty() {
            self.held = held;
        }
    }

    /// Ends the stream: a message whose headers are complete is handed over as far as it came.
    pub fn finish(&mut self, mut on_message: impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        if let State::Body(..) = self.state {
            on_message(&held);
        } else {
            self.skip(held.len());
        }
        self.state = State::Between;
    }

    /// Bytes held for a message that is not whole yet; after every feed at most
    /// `limits::SIP_MESSAGE_BYTES_MAX`, and a start line's limit more while the end of an SDP body
    /// is in doubt.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.held.len()
    }

    /// Bytes passed over so far because they were no SIP; line ends between messages not counted.
    #[must_use]
    pub const fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    fn skip(&mut self, len_bytes: usize) {
        let len_bytes = u64::try_from(len_bytes).unwrap_or(u64::MAX);
        self.skipped_bytes = self.skipped_bytes.saturating_add(len_bytes);
    }

    /// Hands over what is whole; returns how many bytes are done with.
    fn walk(&mut self, bytes: &[u8], on_message: &mut impl FnMut(&[u8])) -> usize {
        let mut rest = bytes;
        loop {
            if let State::Between | State::AfterGap = self.state {
                while let [b'\r' | b'\n' | 0, tail @ ..] = rest {
                    rest = tail;
                }
            }
            let done = match self.step(rest) {
                Step::Wait => return bytes.len().saturating_sub(rest.len()),
                Step::Again => 0,
                Step::Skip(len_bytes) => {
                    self.skip(len_bytes);
                    len_bytes
                }
                Step::Message(len_bytes) => {
                    on_message(rest.get(..len_bytes).unwrap_or(rest));
                    self.state = State::Between;
                    len_bytes
                }
            };
            rest = rest.get(done..).unwrap_or(&[]);
        }
    }

    fn step(&mut self, rest: &[u8]) -> Step {
        match self.state {
            _ if rest.is_empty() => Step::Wait,
            State::Between | State::AfterGap => self.step_between(rest),
            State::MidLine => match memchr(b'\n', rest) {
                None => Step::Skip(rest.len()),
                Some(end) => {
                    self.state = State::Between;
                    Step::Skip(end.saturating_add(1))
                }
            },
            State::Headers(search) => self.step_headers(rest, search),
            State::Body(search, body) => self.step_body(rest, search, body),
        }
    }

    fn step_between(&mut self, rest: &[u8]) -> Step {
        let window = rest.get(..SIP_START_LINE_BYTES_MAX).unwrap_or(rest);
        let Some(end) = memchr(b'\n', window) else {
            // The first word says enough to give up early; the whole line decides.
            let head = rest.get(..SIP_METHOD_BYTES_MAX.saturating_add(8)).unwrap_or(rest);
            let is_hopeless =
                rest.len() >= SIP_START_LINE_BYTES_MAX || looks_like_sip(head) == Likeness::No;
            if is_hopeless {
                self.state = State::MidLine;
                return Step::Again;
            }
            return Step::Wait;
        };
        let (line, _) = split_around(rest, end);
        let begins = is_start_line(line)
            && match (self.state, StartLine::parse(line)) {
                (State::AfterGap, Ok(StartLine::Request { method, .. })) => method != Method::Other,
                _ => true,
            };
        self.state = if begins { State::Headers(Search::after(end)) } else { State::MidLine };
        Step::Again
    }

    fn step_headers(&mut self, rest: &[u8], mut search: Search) -> Step {
        while let Some(end) = search.line_end(rest) {
            if end >= SIP_MESSAGE_BYTES_MAX {
                break;
            }
            let line = search.line(rest, end);
            if line.is_empty() {
                let headers = rest.get(..=end).unwrap_or(rest);
                return self.begin_body(headers, Search::after(end));
            }
            if is_start_line(line) {
                // The end of the message before it was lost.
                self.state = State::Headers(Search::after(end.saturating_sub(search.line)));
                return Step::Skip(search.line);
            }
            search = Search::after(end);
        }
        if rest.len() > SIP_MESSAGE_BYTES_MAX {
            self.state = State::Between;
            return Step::Skip(search.line);
        }
        self.state = State::Headers(search);
        Step::Wait
    }

    fn begin_body(&mut self, headers: &[u8], search: Search) -> Step {
        let (mut declared_len, mut content_type) = (None, None);
        let (_, lines) = split_around(headers, memchr(b'\n', headers).unwrap_or(headers.len()));
        for line in HeaderLines::new(lines) {
            match Essential::of(line.name) {
                Some(Essential::ContentLength) if declared_len.is_none() => {
                    declared_len = Some(decimal(trim(line.value)));
                }
                Some(Essential::ContentType) if content_type.is_none() => {
                    content_type = Some(trim(line.value));
                }
                _ => {}
            }
        }
        let end = match (declared_len.flatten(), content_type) {
            (Some(len_bytes), _) => {
                let len_bytes = usize::try_from(len_bytes).unwrap_or(usize::MAX);
                let end = search.line.saturating_add(len_bytes);
                if end > SIP_MESSAGE_BYTES_MAX {
                    // A body that long cannot be kept; the headers can.
                    return Step::Message(search.line);
                }
                BodyEnd::At(end)
            }
            (None, Some(_)) => BodyEnd::NextStartLine,
            (None, None) => BodyEnd::At(search.line),
        };
        let inner = match (end, content_type) {
            (BodyEnd::At(_), Some(kind)) if may_carry_sip(kind) => InnerLines::Ignore,
            (BodyEnd::At(_), Some(kind)) if begins_with(kind, b"application/sdp") => {
                InnerLines::WatchLast
            }
            _ => InnerLines::Watch,
        };
        self.state = State::Body(search, Body { end, inner });
        Step::Again
    }

    fn step_body(&mut self, rest: &[u8], mut search: Search, body: Body) -> Step {
        let (end_max, is_certain) = match body.end {
            BodyEnd::At(end) => (end, true),
            BodyEnd::NextStartLine => (SIP_MESSAGE_BYTES_MAX, false),
        };
        let watched = rest.get(..end_max).unwrap_or(rest);
        if body.inner != InnerLines::Ignore {
            while let Some(end) = search.line_end(watched) {
                if is_start_line(search.line(watched, end)) {
                    return Step::Message(search.line);
                }
                search = Search::after(end);
            }
        }
        self.state = State::Body(search, body);
        if body.inner == InnerLines::WatchLast && rest.len() >= end_max {
            match last_line(rest, search.line, end_max) {
                LastLine::OfTheBody => {}
                LastLine::Unknown => return Step::Wait,
                LastLine::StartLine => return Step::Message(search.line),
            }
        }
        match rest.len() < end_max {
            true => Step::Wait,
            false if is_certain => Step::Message(end_max),
            // The line that reaches beyond the limit may be a start line: leave it.
            false => Step::Message(search.line),
        }
    }
}

/// What stands in the line in which a body of SDP is said to end.
enum LastLine {
    OfTheBody,
    Unknown,
    StartLine,
}

/// A Content-Length that is a little too large ends inside the next start line. SDP's own lines
/// (`a=…`) never look like the beginning of one, so that only such a message has to wait.
fn last_line(rest: &[u8], line: usize, end: usize) -> LastLine {
    let inside = rest.get(line..end).unwrap_or(&[]);
    if matches!(inside, [] | [b'\r', ..]) || looks_like_sip(inside) == Likeness::No {
        return LastLine::OfTheBody;
    }
    let tail = rest.get(line..).unwrap_or(&[]);
    let window = tail.get(..SIP_START_LINE_BYTES_MAX).unwrap_or(tail);
    match memchr(b'\n', window) {
        Some(at) if is_start_line(split_around(window, at).0) => LastLine::StartLine,
        None if tail.len() < SIP_START_LINE_BYTES_MAX => LastLine::Unknown,
        Some(_) | None => LastLine::OfTheBody,
    }
}

/// `message/sipfrag` (RFC 3420), `message/sip`, and multiparts that may hold one.
fn may_carry_sip(content_type: &[u8]) -> bool {
    begins_with(content_type, b"message/") || begins_with(content_type, b"multipart/")
}

fn begins_with(content_type: &[u8], prefix: &[u8]) -> bool {
    content_type.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::fuzz;

    fn found(stream: &[u8]) -> Vec<String> {
        fuzz::framing(stream);
        let messages = fuzz::messages_in(&[stream]);
        messages.iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect()
    }

    const BYE: &str =
        "BYE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n";
    const OK: &str =
        "SIP/2.0 200 OK\r\ni: 1\r\nCSeq: 1 INVITE\r\nc: application/sdp\r\nl: 5\r\n\r\nv=0\r\n";

    #[test]
    fn messages_and_keep_alives_in_one_segment_are_told_apart() {
        assert_eq!(
            found(&format!("\r\n\r\n{OK}\r\n\r\n{BYE}\r\n{OK}").into_bytes()),
            [OK, BYE, OK]
        );
    }

    #[test]
    fn a_whole_message_is_handed_over_from_the_segment_itself() {
        let mut framer = Framer::default();
        let segment = OK.as_bytes();
        let mut seen = 0;
        framer.feed(segment, Gap::Contiguous, |message| {
            assert_eq!(message.as_ptr(), segment.as_ptr());
            seen += 1;
        });
        assert_eq!((seen, framer.buffered(), framer.held.capacity()), (1, 0, 0));
    }

    #[test]
    fn bare_line_feeds_frame_too() {
        let (ok, bye) = (OK.replace('\r', "").replace("l: 5", "l: 4"), BYE.replace('\r', ""));
        assert_eq!(found(format!("{ok}{bye}").as_bytes()), [ok, bye]);
    }

    #[test]
    fn a_missing_content_length_means_no_body_or_one_up_to_the_next_start_line() {
        let bare = BYE.replace("Content-Length: 0\r\n", "");
        assert_eq!(found(format!("{bare}{OK}").as_bytes()), [&bare, OK]);
        let open = OK.replace("l: 5\r\n", "");
        assert_eq!(found(format!("{open}{BYE}").as_bytes()), [&open, BYE]);
        // Nothing follows: it comes when the stream ends.
        assert_eq!(found(open.as_bytes()), [open]);
    }

    #[test]
    fn a_wrong_content_length_costs_at_most_its_own_message() {
        let short = OK.replace("l: 5", "l: 2");
        let cut = short.strip_suffix("0\r\n").expect("body");
        assert_eq!(found(format!("{short}{BYE}").as_bytes()), [cut, BYE]);
        let long = OK.replace("l: 5", "l: 80");
        assert_eq!(found(format!("{long}{BYE}{BYE}").as_bytes()), [&long, BYE, BYE]);
        let huge = OK.replace("l: 5", "l: 99999999");
        let headers = huge.strip_suffix("v=0\r\n").expect("body");
        assert_eq!(found(format!("{huge}{BYE}").as_bytes()), [headers, BYE]);
    }

    #[test]
    fn a_content_length_that_ends_inside_the_next_start_line_costs_nothing() {
        for over in 1..=23 {
            let long = OK.replace("l: 5", &format!("l: {}", 5 + over));
            assert_eq!(found(format!("{long}{BYE}{OK}").as_bytes()), [&long, BYE, OK], "{over}");
        }
        // A body without a last line end does not wait for the next message.
        let open = OK.replace("l: 5", "l: 3");
        let open = open.strip_suffix("\r\n").expect("line end");
        let mut framer = Framer::default();
        let mut seen = 0;
        framer.feed(open.as_bytes(), Gap::Contiguous, |_| seen += 1);
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_sipfrag_body_is_not_cut_at_its_status_line() {
        let notify = "NOTIFY sip:a@b SIP/2.0\r\ni: 1\r\nc: message/sipfrag;version=2.0\r\nl: 18\r\n\r\n\
            SIP/2.0 200 OK\r\n\r\n";
        assert_eq!(found(format!("{notify}{BYE}").as_bytes()), [notify, BYE]);
    }

    #[test]
    fn garbage_and_torn_headers_are_skipped_up_to_the_next_start_line() {
        let torn =
            "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nSubject : a SIP/2.0\r\nFrom: <s";
        let stream = format!("garbage\r\nmore: \0\u{1}\r\n{torn}\r\n{BYE}tail");
        assert_eq!(found(stream.as_bytes()), [BYE]);
        let mut framer = Framer::default();
        framer.feed(stream.as_bytes(), Gap::Contiguous, |_| {});
        framer.finish(|_| {});
        let (all, message) = (stream.len(), BYE.len());
        assert_eq!(framer.skipped_bytes(), u64::try_from(all - message).expect("small"));
    }

    #[test]
    fn what_cannot_become_a_start_line_is_not_held() {
        let mut framer = Framer::default();
        for segment in [&b"\x16\x03\x01\x02"[..], &[b'a'; 5_000], b"GET / HTTP/1.1\r\nHost"] {
            framer.feed(segment, Gap::Contiguous, |_| panic!("no SIP"));
            assert!(framer.buffered() <= 4, "{}", framer.buffered());
        }
    }

    #[test]
    fn after_a_gap_known_methods_and_responses_begin_a_message_at_once() {
        for (next, expected) in [(BYE, 1), (OK, 1), (&BYE[1..], 0)] {
            let mut framer = Framer::default();
            let mut messages = Vec::new();
            framer.feed(b"INVITE sip:a@b SIP/2.0\r\nVia: ", Gap::Contiguous, |_| panic!("torn"));
            framer.feed(next.as_bytes(), Gap::Gap, |message| messages.push(message.to_vec()));
            assert_eq!(messages.len(), expected, "{next}");
            assert_eq!(framer.buffered(), 0);
            framer.feed(BYE.as_bytes(), Gap::Contiguous, |message| messages.push(message.to_vec()));
            assert_eq!(messages.len(), expected + 1);
        }
    }

    #[test]
    fn a_gap_inside_a_body_hands_over_the_headers_and_what_came() {
        let mut framer = Framer::default();
        let mut messages = Vec::new();
        let torn = &OK[..OK.len() - 2];
        framer.feed(torn.as_bytes(), Gap::Contiguous, |_| panic!("not whole"));
        framer.feed(BYE.as_bytes(), Gap::Gap, |message| messages.push(message.to_vec()));
        assert_eq!(messages, [torn.as_bytes(), BYE.as_bytes()]);
    }

    #[test]
    fn what_is_held_is_bounded_and_the_stream_is_found_again() {
        for endless in [
            format!("INVITE sip:{} SIP/2.0\r\n", "x".repeat(SIP_START_LINE_BYTES_MAX)),
            format!("INVITE sip:a SIP/2.0\r\n{}", "X: y\r\n".repeat(SIP_MESSAGE_BYTES_MAX / 4)),
            format!("BYE sip:a SIP/2.0\r\n{}\r\n", "X: y\r\n".repeat(SIP_MESSAGE_BYTES_MAX / 4)),
            format!("INVITE sip:a SIP/2.0\r\nX: {}\r\n", "y".repeat(2 * SIP_MESSAGE_BYTES_MAX)),
        ] {
            let stream = format!("{endless}{BYE}");
            for size in [1_000, 7_777, stream.len()] {
                let (mut framer, mut messages) = (Framer::default(), Vec::new());
                for segment in stream.as_bytes().chunks(size) {
                    let push = |message: &[u8]| messages.push(message.to_vec());
                    framer.feed(segment, Gap::Contiguous, push);
                    assert!(framer.buffered() <= SIP_MESSAGE_BYTES_MAX);
                }
                assert_eq!(messages, [BYE.as_bytes()], "segments of {size}");
            }
        }
        let open = OK.replace("l: 5\r\n", "") + &"a=x\r\n".repeat(SIP_MESSAGE_BYTES_MAX / 4);
        let (mut framer, mut lengths) = (Framer::default(), Vec::new());
        framer
            .feed((open + BYE).as_bytes(), Gap::Contiguous, |message| lengths.push(message.len()));
        assert!(lengths[0] <= SIP_MESSAGE_BYTES_MAX && lengths[0] > SIP_MESSAGE_BYTES_MAX - 8);
        assert_eq!((lengths.len(), lengths[1]), (2, BYE.len()));
    }
}
