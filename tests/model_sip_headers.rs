//! The SIP parser beside a naive twin, and the framer beside the messages that went in.
//!
//! Purpose: what the one-pass scanner finds is what `str::split` finds.
//! Invariants: random bytes never panic; framing is independent of cuts.
//! Non-goals: malformed messages by design (see `sip_torture.rs`).
//! Sources: RFC 3261 §7.3.1 (folding), §18.3 (framing).

use std::borrow::Cow;

use callspan::sip::{Framer, Gap, Message, fuzz};
use proptest::collection::vec;
use proptest::prelude::*;

/// The naive twin: headers by `str::split`, folds joined by one space.
fn naive_headers(text: &str) -> Vec<(String, String)> {
    let head = text.split("\r\n\r\n").next().unwrap_or("");
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in head.split("\r\n").skip(1) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                let more = line.trim();
                if !more.is_empty() {
                    let space = if value.is_empty() { "" } else { " " };
                    *value += space;
                    *value += more;
                }
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    headers
}

fn serialize(headers: &[(String, String)], body: &str) -> String {
    let mut text = "INVITE sip:a@b SIP/2.0\r\n".to_owned();
    for (name, value) in headers {
        text += &[name, ": ", value, "\r\n"].concat();
    }
    text + &format!("Call-ID: c\r\nCSeq: 1 INVITE\r\nl: {}\r\n\r\n{body}", body.len())
}

fn header() -> impl Strategy<Value = (String, String)> {
    // Names that are no essential header (all of those begin with another letter), values with
    // folds in them.
    (
        "[X-Z][a-zA-Z0-9-]{0,12}[ \t]{0,2}",
        "[ -~]{0,30}((\r\n[ \t]{1,3}[!-~]{1,9})| ;a=\"b,c\"){0,3}",
    )
}

fn message_text() -> impl Strategy<Value = String> {
    (vec(header(), 0..20), "[a-z=0-9\r\n]{0,40}")
        .prop_map(|(headers, body)| serialize(&headers, &body))
}

proptest! {
    #[test]
    fn the_scanner_finds_the_headers_that_the_naive_twin_finds(
        headers in vec(header(), 0..20),
        body in "[ -~\r\n]{0,60}",
    ) {
        let text = serialize(&headers, &body);
        let message = Message::parse(text.as_bytes()).expect("message");
        let found: Vec<_> = message
            .all_headers()
            .map(|(name, value)| {
                let name = String::from_utf8_lossy(name).into_owned();
                (name, String::from_utf8_lossy(&value).into_owned())
            })
            .collect();
        prop_assert_eq!(&found, &naive_headers(&text));
        prop_assert_eq!(found.len(), headers.len() + 3);
        prop_assert_eq!(message.body(), body.as_bytes());
        for (name, _) in &headers {
            let name = name.trim();
            let naive: Vec<_> = found
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_bytes().to_vec())
                .collect();
            // One letter is a compact form of something else.
            if name.len() > 1 {
                let by_name: Vec<_> = message.headers(name).map(Cow::into_owned).collect();
                prop_assert_eq!(by_name, naive);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(data in vec(any::<u8>(), 0..400)) {
        fuzz::message(&data);
        fuzz::sdp(&data);
        fuzz::framing(&data);
    }

    #[test]
    fn random_text_that_looks_like_sip_keeps_every_property(
        tail in "(((Via|To|f|CSeq|Call-ID|l|c|Content-Type|Subject ):[ -~]{0,20}|BYE sip:a SIP/2.0|SIP/2.0 200 OK|)\r?\n){0,12}[ -~]{0,30}",
    ) {
        let text = format!("INVITE sip:a@b SIP/2.0\r\ni: 1\r\nCSeq: 1 INVITE\r\n{tail}");
        fuzz::message(text.as_bytes());
        fuzz::framing(text.as_bytes());
        fuzz::framing(tail.as_bytes());
    }

    #[test]
    fn random_descriptions_keep_every_property(
        lines in vec("(v=0|o=- 1 2 IN IP4 1.2.3.4|c=IN IP[46] [0-9.:/]{0,12}|m=audio [0-9/]{0,5} RTP/S?AVPF? [0-9 ]{0,20}|a=(rtpmap|fmtp|rtcp|ptime):[ -~]{0,20}|[a-z]=[ -~]{0,20})", 0..30),
    ) {
        fuzz::sdp(lines.join("\n").as_bytes());
    }

    #[test]
    fn the_framer_gives_back_the_messages_that_went_in(
        messages in vec(message_text(), 1..6),
        sizes in vec(1usize..200, 1..40),
    ) {
        let stream = messages.join("\r\n\r\n").into_bytes();
        let (mut framer, mut found) = (Framer::default(), Vec::new());
        let (mut rest, mut sizes) = (stream.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let size = sizes.next().copied().unwrap_or(1).min(rest.len());
            let (segment, tail) = rest.split_at(size);
            framer.feed(segment, Gap::Contiguous, |message| found.push(message.to_vec()));
            rest = tail;
        }
        let expected: Vec<_> = messages.iter().map(|text| text.clone().into_bytes()).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(framer.skipped_bytes(), 0);
    }
}
