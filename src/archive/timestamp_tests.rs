//! RFC 3161 bytes, built by hand.
//!
//! Purpose: each way in which an answer can be wrong, and every cut and flipped bit.
//! Invariants: none.
//! Non-goals: real services (see `tests/ops_timestamp.rs`, with OpenSSL's).
//! Sources: RFC 3161 §2.4; X.690.

use super::super::merkle::sha256;
use super::*;

const NONCE: u64 = 0x8122_3344_5566_7788;

fn digest() -> Hash {
    sha256(&[b"a checkpoint"])
}

/// Any length, unlike `element`.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).expect("short").to_be_bytes();
    let mut bytes = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    bytes.extend(content);
    bytes
}

fn tst_info(digest: &Hash, nonce: Option<u64>, time: &str) -> Vec<u8> {
    let algorithm = der(SEQUENCE, &[&der(OBJECT, &[SHA256]), &der(NULL, &[])]);
    let imprint = der(SEQUENCE, &[&algorithm, &der(OCTET_STRING, &[digest.as_bytes()])]);
    let nonce = nonce.map_or(vec![], |nonce| der(INTEGER, &[&positive(nonce)]));
    let accuracy = der(SEQUENCE, &[&der(INTEGER, &[&[1]])]);
    der(
        SEQUENCE,
        &[
            &der(INTEGER, &[&[1]]),
            &der(OBJECT, &[&[0x2a, 0x03, 0x04]]),
            &imprint,
            &der(INTEGER, &[&[7]]),
            &der(GENERALIZED_TIME, &[time.as_bytes()]),
            &accuracy,
            &der(BOOLEAN, &[&[0xff]]),
            &nonce,
            &der(CONTEXT_0, &[&der(INTEGER, &[&[1]])]),
        ],
    )
}

fn token(info: &[u8]) -> Vec<u8> {
    let content = der(CONTEXT_0, &[&der(OCTET_STRING, &[info])]);
    let inner = der(SEQUENCE, &[&der(OBJECT, &[TST_INFO]), &content]);
    let signed = der(
        SEQUENCE,
        // Signatures would follow: nothing here reads them.
        &[&der(INTEGER, &[&[3]]), &der(SET, &[]), &inner, &der(SET, &[&[0; 200]])],
    );
    der(SEQUENCE, &[&der(OBJECT, &[SIGNED_DATA]), &der(CONTEXT_0, &[&signed])])
}

fn granted(info: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(SEQUENCE, &[&der(INTEGER, &[&[0]])]), &token(info)])
}

fn good() -> Vec<u8> {
    granted(&tst_info(&digest(), Some(NONCE), "20261124025736.123Z"))
}

#[test]
fn the_request_is_the_drawn_one() {
    let request = request(&digest(), NONCE);
    let mut expected = vec![0x30, 0x44, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09];
    expected.extend(SHA256);
    expected.extend([0x05, 0x00, 0x04, 0x20]);
    expected.extend(digest().as_bytes());
    expected.extend([0x02, 0x09, 0x00, 0x81, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    expected.extend([0x01, 0x01, 0xff]);
    assert_eq!(request, expected);
}

#[test]
fn integers_are_as_short_as_der_wants_them() {
    assert_eq!(positive(0), [0]);
    assert_eq!(positive(0x7f), [0x7f]);
    assert_eq!(positive(0x80), [0, 0x80]);
    assert_eq!(positive(0x100), [1, 0]);
    assert_eq!(positive(u64::MAX), [0, 255, 255, 255, 255, 255, 255, 255, 255]);
}

#[test]
fn a_granted_answer_gives_its_time_and_its_token() {
    let bytes = good();
    let expected = token(&tst_info(&digest(), Some(NONCE), "20261124025736.123Z"));
    let timestamp = read_response(&bytes, &digest(), NONCE).expect("it is granted");
    assert_eq!(timestamp.time_ns, 1_795_489_056_123_000_000);
    assert_eq!(timestamp.token, expected);
}

#[test]
fn answers_to_other_questions_are_refused() {
    let other = sha256(&[b"another"]);
    assert_eq!(read_response(&good(), &other, NONCE), Err(TimestampFault::OtherDigest));
    assert_eq!(read_response(&good(), &digest(), 1), Err(TimestampFault::OtherNonce));
    let without = granted(&tst_info(&digest(), None, "20261124025736Z"));
    assert_eq!(read_response(&without, &digest(), NONCE), Err(TimestampFault::OtherNonce));
}

#[test]
fn a_refusal_says_why() {
    let words = der(SEQUENCE, &[&der(0x0c, &[b"\x1b[2Jno"])]);
    let bits = der(BIT_STRING, &[&[0, 0, 0x02]]);
    let status = der(SEQUENCE, &[&der(INTEGER, &[&[2]]), &words, &bits]);
    let refusal = der(SEQUENCE, &[&status]);
    let fault = read_response(&refusal, &digest(), NONCE);
    assert_eq!(fault, Err(TimestampFault::Refused { status: 2, failure: Some(14) }));
    let text = fault.expect_err("it is refused").to_string();
    assert_eq!(text, "the service refused (status 2, timeNotAvailable)");
    let bare = der(SEQUENCE, &[&der(SEQUENCE, &[&der(INTEGER, &[&[3]])])]);
    let fault = read_response(&bare, &digest(), NONCE);
    assert_eq!(fault, Err(TimestampFault::Refused { status: 3, failure: None }));
}

#[test]
fn times_are_those_of_rfc_3161_and_no_others() {
    assert_eq!(generalized_time(b"19700101000000Z"), Some(0));
    assert_eq!(generalized_time(b"19700101000000.000000001Z"), Some(1));
    assert_eq!(generalized_time(b"19700101000001.5Z"), Some(1_500_000_000));
    assert_eq!(generalized_time(b"19700101000000.0000000019Z"), Some(1));
    for bad in [
        "19700101000000",
        "197001010000Z",
        "19700101000000.Z",
        "19701301000000Z",
        "19700230000000Z",
        "19700101240000Z",
        "19700101000000+0100",
        "1970010100000 Z",
        "+9700101000000Z",
        "99990101000000Z",
        "",
    ] {
        assert_eq!(generalized_time(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn lengths_that_der_forbids_are_refused() {
    for bytes in [
        // Indefinite, not minimal, too long, five bytes of length, and nothing there.
        &[0x30, 0x80, 0x00, 0x00][..],
        &[0x30, 0x81, 0x01, 0x00],
        &[0x30, 0x82, 0x00, 0x80, 0x00],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x85, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00],
        &[0x30],
        &[],
    ] {
        assert_eq!(Der(bytes).take(SEQUENCE), None, "{bytes:02x?}");
        assert_eq!(read_response(bytes, &digest(), NONCE), Err(TimestampFault::Malformed));
    }
}

#[test]
fn an_answer_cut_anywhere_or_with_more_behind_is_malformed() {
    let bytes = good();
    for at in 0..bytes.len() {
        let fault = read_response(&bytes[..at], &digest(), NONCE);
        assert_eq!(fault, Err(TimestampFault::Malformed), "cut at {at}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(read_response(&longer, &digest(), NONCE), Err(TimestampFault::Malformed));
}

#[test]
fn a_flipped_bit_never_panics_and_never_changes_digest_or_nonce_unseen() {
    let bytes = good();
    let places = [digest().as_bytes().to_vec(), positive(NONCE)];
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let outcome = read_response(&changed, &digest(), NONCE);
            for place in &places {
                let begin = bytes.windows(place.len()).position(|window| window == place);
                let begin = begin.expect("it is in there");
                let inside = (begin..begin + place.len()).contains(&at);
                assert!(!inside || outcome.is_err(), "byte {at}, bit {bit}");
            }
        }
    }
}
