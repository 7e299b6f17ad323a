//! What must hold for any bytes at all.
//!
//! Purpose: bodies of fuzz targets, compiled and tested with the crate so that they cannot rot.
//! Invariants: each panics only when a property is broken.
//! Non-goals: finding inputs (see the fuzz targets).
//! Sources: RFC 3261 §18.3 (framing).

use super::dtmf_body::{self, key_presses};
use super::{Framer, Gap, Likeness, Message, Sdp, WebSocket, looks_like_sip};
use crate::base::limits;

/// Cuts tried at most for one input, so that a long one does not cost its square.
const CUTS_MAX: usize = 256;

/// Parses `data` and asks the message for everything.
///
/// # Panics
/// When the detection disagrees with the parser, the message does not parse again from its own
/// parts, or a header that is listed cannot be looked up.
pub fn message(data: &[u8]) {
    let likeness = looks_like_sip(data);
    let Ok(message) = Message::parse(data) else { return };
    let Ok(again) = Message::parse(data) else { panic!("the same bytes parse again") };
    assert_eq!(message.content_key(), again.content_key());
    assert_eq!(message.transaction_key(), again.transaction_key());
    assert!(!message.call_id().is_empty());
    assert!(message.body().len() <= data.len());
    if data.contains(&b'\n') && data.first().is_some_and(u8::is_ascii_alphabetic) {
        assert_eq!(likeness, Likeness::Yes, "what parses looks like SIP");
    }
    for party in [message.from().party(), message.to().party()] {
        for text in [&party.uri, &party.number, &party.name] {
            assert!(text.len() <= limits::SIP_PARTY_TEXT_BYTES_MAX);
            assert!(!text.contains(char::is_control));
        }
    }
    for (name, value) in message.all_headers() {
        if let Ok(name) = std::str::from_utf8(name) {
            assert!(message.headers(name).any(|found| found == value));
            assert!(message.list(name).count() <= value.len().saturating_mul(2).max(data.len()));
        }
        assert!(!value.contains(&b'\n'), "unfolded");
    }
    assert!(key_presses(&message).count() <= limits::SIP_DIGITS_PER_MESSAGE_MAX);
    if let Some(description) = message.sdp() {
        sdp(description);
    }
    let _ = (message.via_branch(), message.request_uri().map(|uri| uri.party()));
}

/// Takes the bytes as a body of each type that tells of keys.
///
/// # Panics
/// When more keys are read than may be, or one that is none.
pub fn dtmf_body(data: &[u8]) {
    for kind in [
        "application/dtmf-relay",
        "application/dtmf",
        "audio/telephone-event",
        "application/kpml-response+xml",
        "application/hook-flash",
    ] {
        let mut count = 0;
        for press in dtmf_body::read(kind.as_bytes(), data) {
            assert!(matches!(press.key.len(), 1 | 5));
            count += 1;
        }
        assert!(count <= limits::SIP_DIGITS_PER_MESSAGE_MAX.min(data.len().max(1)));
    }
}

/// What a WebSocket says never depends on where TCP cut the stream, and no message is longer than one may be.
///
/// # Panics
/// When it does.
pub fn websocket(data: &[u8]) {
    let said = |step: usize| {
        let (mut socket, mut said) = (WebSocket::new(data), Vec::new());
        for piece in data.chunks(step) {
            socket.feed(piece, Gap::Contiguous, |message| {
                assert!(message.len() <= 2 * limits::SIP_MESSAGE_BYTES_MAX);
                said.push(message.to_vec());
            });
            if socket.is_lost() {
                break; // Where it is found again depends on the pieces.
            }
        }
        said
    };
    let whole = said(data.len().max(1));
    assert_eq!(whole, said(1));
    assert_eq!(whole, said(data.len().div_ceil(3).max(1)));
    let mut socket = WebSocket::new(data);
    let (head, tail) = data.split_at(data.len() / 2);
    socket.feed(head, Gap::Contiguous, |_| {});
    socket.feed(tail, Gap::Gap, |_| {});
}

/// What the framer finds never depends on where TCP cut the stream (RFC 3261 §18.3).
///
/// # Panics
/// When it does.
pub fn framing(data: &[u8]) {
    let whole = messages_in(&[data]);
    let step = data.len().div_ceil(CUTS_MAX).max(1);
    for cut in (0..=data.len()).step_by(step) {
        let (head, tail) = data.split_at(cut);
        assert_eq!(whole, messages_in(&[head, tail]), "cut at byte {cut}");
    }
    let bytes: Vec<_> = data.chunks(1).collect();
    assert_eq!(whole, messages_in(&bytes), "byte by byte");
}

/// Every message in a stream that arrives in these segments, the unfinished last one included.
pub fn messages_in(segments: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut framer = Framer::default();
    let mut messages = Vec::new();
    for segment in segments {
        framer.feed(segment, Gap::Contiguous, |message| messages.push(message.to_vec()));
    }
    framer.finish(|message| messages.push(message.to_vec()));
    messages
}

/// Parses `data` as a session description.
///
/// # Panics
/// When a limit is passed, or line ends of another kind change what is found.
pub fn sdp(data: &[u8]) {
    let parsed = Sdp::parse(data);
    if let Ok(parsed) = &parsed {
        assert!(parsed.media.len() <= limits::SDP_MEDIA_MAX);
        for media in &parsed.media {
            assert!(media.formats.len() <= limits::SDP_FORMATS_MAX);
            assert!(media.paths.candidates.len() <= limits::SDP_CANDIDATES_MAX);
            assert!(media.paths.remote.len() <= limits::SDP_CANDIDATES_MAX);
            assert!(media.paths.ssrcs.len() <= limits::SDP_SSRCS_MAX);
            assert!(media.crypto.len() <= limits::SDP_CRYPTO_MAX.min(media.crypto_count));
            for line in &media.crypto {
                assert!(line.keys().count() <= limits::SDP_CRYPTO_KEYS_MAX);
                assert!(line.keys().all(|key| key.mki.is_none_or(|(_, length)| length <= 128)));
                assert!(line.parameters().count() <= data.len());
            }
            for format in &media.formats {
                assert!(format.payload_type < 128 && format.encoding.len() <= 32);
                assert!(format.encoding.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
    let doubled: Vec<u8> = data
        .split(|byte| *byte == b'\n')
        .flat_map(|line| line.iter().copied().chain(*b" \r\n"))
        .collect();
    assert_eq!(parsed, Sdp::parse(&doubled), "line ends");
}
