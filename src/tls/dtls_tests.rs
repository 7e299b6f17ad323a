//! Hellos made by hand, in every cut, and the exporters' vectors.
//!
//! Purpose: what a handshake agrees on is found however it is cut, and nothing else is.
//! Invariants: virtual; a real handshake is in tests/srtp_calls.rs.
//! Non-goals: SRTP.
//! Sources: RFC 5764 §4.1, RFC 6347 §4.2.2, RFC 8446 §7.5, RFC 9147 §5.9.

use super::*;
use crate::tls::KeyLogParser;
use std::fmt::Write as _;

const CLIENT_RANDOM: [u8; 32] = [0xc1; 32];
const SERVER_RANDOM: [u8; 32] = [0x5e; 32];

fn with_length(length_bytes: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[4 - length_bytes..], bytes].concat()
}

fn extensions(list: &[(u16, &[u8])]) -> Vec<u8> {
    let each =
        |(kind, value): &(u16, &[u8])| [&kind.to_be_bytes()[..], &with_length(2, value)].concat();
    with_length(2, &list.iter().flat_map(each).collect::<Vec<u8>>())
}

/// `profiles` and an MKI of one byte.
fn use_srtp(profiles: &[u16]) -> Vec<u8> {
    let profiles: Vec<u8> = profiles.iter().flat_map(|it| it.to_be_bytes()).collect();
    [with_length(2, &profiles), vec![1, 0x77]].concat()
}

fn client_hello_body() -> Vec<u8> {
    let list = extensions(&[(10, &[0, 2, 0, 23]), (USE_SRTP, &use_srtp(&[7, 1, 2]))]);
    [&[254, 253][..], &CLIENT_RANDOM, &[0, 0, 0, 2, 0xc0, 0x2b, 1, 0], &list].concat()
}

fn server_hello_body(suite: u16, profile: u16, version: Option<u16>) -> Vec<u8> {
    let srtp = use_srtp(&[profile]);
    let version = version.map(u16::to_be_bytes);
    let list = match &version {
        Some(version) => extensions(&[(SUPPORTED_VERSIONS, version)]),
        None => extensions(&[(USE_SRTP, &srtp)]),
    };
    [&[254, 253][..], &SERVER_RANDOM, &[0], &suite.to_be_bytes(), &[0], &list].concat()
}

/// A record with `bytes` of a message, from `offset` on.
fn record_of(kind: u8, body: &[u8], offset: usize, len_bytes: usize) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).expect("short").to_be_bytes()[1..].to_vec();
    let part = &body[offset..(offset + len_bytes).min(body.len())];
    let header = [vec![kind], number(body.len()), vec![0, 0], number(offset), number(part.len())];
    let fragment = [&header.concat()[..], part].concat();
    [&[HANDSHAKE, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0][..], &with_length(2, &fragment)].concat()
}

fn whole(kind: u8, body: &[u8]) -> Vec<u8> {
    record_of(kind, body, 0, body.len())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn log(label: &str, secret: &[u8]) -> KeyLog {
    let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
    parser.push(format!("{label} {} {}\n", hex(&CLIENT_RANDOM), hex(secret)).as_bytes(), &log);
    log
}

fn lengths(profile: u16) -> Option<(usize, usize)> {
    matches!(profile, 1 | 2 | 7).then_some((16, if profile == 7 { 12 } else { 14 }))
}

#[test]
fn keys_of_1_2_are_those_of_the_prf_whatever_fragments_the_hellos_come_in() {
    let secret = [9; 48];
    let wanted = prf(Hash::Sha256, &secret, LABEL.as_bytes(), (&CLIENT_RANDOM, &SERVER_RANDOM), 60);
    let wanted = wanted.expect("defined");
    let (client, server) = (client_hello_body(), server_hello_body(0xc02b, 2, None));
    for size in [1, 7, 40, 400] {
        let mut handshake = DtlsHandshake::default();
        let mut said = Vec::new();
        // Backwards, and each twice: UDP promises nothing.
        for (kind, body) in [(CLIENT_HELLO, &client), (SERVER_HELLO, &server)] {
            let offsets: Vec<_> = (0..body.len()).step_by(size).collect();
            for offset in offsets.into_iter().rev() {
                for _ in 0..2 {
                    said.extend(handshake.on_datagram(&record_of(kind, body, offset, size)));
                }
            }
        }
        said.dedup();
        assert_eq!(said, [Side::Client, Side::Server], "in pieces of {size}");
        assert!(handshake.has_srtp());
        assert!(handshake.srtp_keys(&KeyLog::new(), lengths).is_empty());
        let keys = handshake.srtp_keys(&log("CLIENT_RANDOM", &secret), lengths);
        let [keys] = keys.as_slice() else { panic!("one profile") };
        assert_eq!((keys.profile, keys.mki.as_slice()), (2, &[0x77][..]));
        assert_eq!(*keys.client, [&wanted[..16], &wanted[32..46]].concat());
        assert_eq!(*keys.server, [&wanted[16..32], &wanted[46..]].concat());
    }
}

#[test]
fn in_1_3_each_profile_that_was_offered_may_be_the_one() {
    // Computed with Python's hmac from RFC 8446 §7.1 and §7.5, with the prefix of RFC 9147 §5.9.
    let wanted = "2eea93880ff2b1cc73b586c1b67d269af694ac64f2e4da0d7899a4a80d48676d\
        3d23e510be9582b3966a5f4a4e5cd6dfb1a79a9188a96ef6";
    let secret: Vec<u8> = (0..32).collect();
    let derived = exporter_1_3(Hash::Sha256, &secret, 56).expect("defined");
    assert_eq!(hex(&derived), wanted);
    let mut handshake = DtlsHandshake::default();
    handshake.on_datagram(&whole(CLIENT_HELLO, &client_hello_body()));
    handshake.on_datagram(&whole(SERVER_HELLO, &server_hello_body(0x1301, 0, Some(DTLS_1_3))));
    let keys = handshake.srtp_keys(&log("EXPORTER_SECRET", &secret), lengths);
    assert_eq!(keys.iter().map(|keys| keys.profile).collect::<Vec<_>>(), [7, 1, 2]);
    assert_eq!(*keys[0].client, [&derived[..16], &derived[32..44]].concat());
}

#[test]
fn a_new_handshake_forgets_the_one_before_it() {
    let mut handshake = DtlsHandshake::default();
    let server = whole(SERVER_HELLO, &server_hello_body(0xc02b, 1, None));
    assert_eq!(
        handshake.on_datagram(&whole(CLIENT_HELLO, &client_hello_body())),
        Some(Side::Client)
    );
    assert_eq!(handshake.on_datagram(&server), Some(Side::Server));
    assert!(handshake.has_srtp());
    let mut other = client_hello_body();
    other[5] ^= 1;
    handshake.on_datagram(&whole(CLIENT_HELLO, &other));
    assert!(!handshake.has_srtp());
}

#[test]
fn cuts_other_epochs_and_long_messages_say_nothing() {
    let mut handshake = DtlsHandshake::default();
    let record = whole(CLIENT_HELLO, &client_hello_body());
    for cut in 0..record.len() {
        assert_eq!(handshake.on_datagram(&record[..cut]), None, "cut at {cut}");
    }
    let mut encrypted = record.clone();
    encrypted[4] = 1;
    assert_eq!(handshake.on_datagram(&encrypted), None);
    let long = vec![0; DTLS_HELLO_BYTES_MAX + 1];
    assert_eq!(handshake.on_datagram(&record_of(CLIENT_HELLO, &long, 0, 100)), None);
    assert_eq!(handshake.gathering.iter().map(|it| it.body.len()).sum::<usize>(), 0);
}
