//! Streams in virtual packets: roll-over, lost and reordered packets, late captures, changed keys.
//!
//! Purpose: the right key and counter are found, and found within the bounds.
//! Invariants: packets are protected here by the RFC's own words, apart from the code under test
//! but for the primitives.
//! Non-goals: the transforms (see `srtp_session_tests`).
//! Sources: RFC 3711 §3.3 and §4.1.1.

use super::*;
use aws_lc_rs::{cipher, hmac, iv::FixedLength};

/// Session keys of 16, 20 and 14 bytes.
fn session_keys(master: [u8; 30]) -> ([u8; 16], [u8; 20], [u8; 14]) {
    let derive = |label: u8, out: &mut [u8]| {
        let mut block = [0; 16];
        block[..14].copy_from_slice(&master[16..]);
        block[7] ^= label;
        counter_mode(&master[..16], block, out);
    };
    let (mut key, mut auth, mut salt) = ([0; 16], [0; 20], [0; 14]);
    derive(0, &mut key);
    derive(1, &mut auth);
    derive(2, &mut salt);
    (key, auth, salt)
}

fn counter_mode(key: &[u8], block: [u8; 16], bytes: &mut [u8]) {
    let key = cipher::UnboundCipherKey::new(&cipher::AES_128, key).expect("16 bytes");
    let key = cipher::EncryptingKey::ctr(key).expect("a key");
    let context = cipher::EncryptionContext::Iv128(FixedLength::from(block));
    key.less_safe_encrypt(bytes, context).expect("encrypts");
}

/// The packet with extended sequence number `index` of SSRC 7, protected with AES_CM_128_HMAC_SHA1_80.
pub fn protect(master: [u8; 30], index: u64, payload: &[u8]) -> Vec<u8> {
    let (key, auth, salt) = session_keys(master);
    let seq = u16::try_from(index & 0xffff).expect("16 bits").to_be_bytes();
    let mut packet = vec![0x80, 0, seq[0], seq[1], 0, 0, 0, 0, 0, 0, 0, 7];
    packet.extend_from_slice(payload);
    let mut block = [0; 16];
    block[..14].copy_from_slice(&salt);
    block[7] ^= 7;
    for (byte, part) in block[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *byte ^= part;
    }
    counter_mode(&key, block, &mut packet[12..]);
    let roc = u32::try_from(index >> 16).expect("32 bits");
    let signed = [&packet[..], &roc.to_be_bytes()].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth);
    packet.extend_from_slice(&hmac::sign(&key, &signed).as_ref()[..10]);
    packet
}

fn key(byte: u8) -> SrtpKey {
    SrtpKey::new(SrtpSuite::AesCm128Tag80, &[byte; 30]).expect("30 bytes")
}

fn ring(keys: &[SrtpKey]) -> KeyRing {
    let mut ring = KeyRing::default();
    ring.update(keys.iter());
    ring
}

fn opens(stream: &mut SrtpStream, ring: &KeyRing, byte: u8, index: u64) -> bool {
    let mut out = Vec::new();
    let payload = [index.to_be_bytes(); 3].concat();
    let is_open = stream.open(ring, &protect([byte; 30], index, &payload), &mut out);
    assert!(!is_open || out[12..] == payload, "what was authenticated is decrypted right");
    is_open
}

#[test]
fn a_stream_rolls_over_through_loss_and_reordering() {
    let (ring, mut stream) = (ring(&[key(1)]), SrtpStream::default());
    let order = [65_500, 65_534, 65_533, 65_536, 65_535, 65_537, 65_520, 90_000, 131_071, 131_080];
    for index in order {
        assert!(opens(&mut stream, &ring, 1, index), "packet {index}");
    }
    assert_eq!(stream.suite(), Some(SrtpSuite::AesCm128Tag80));
}

#[test]
fn a_capture_that_begins_in_the_middle_of_a_call_finds_the_counter() {
    for roc in [0, 1, 5, u64::from(SRTP_ROC_TRIED_MAX) - 1] {
        let (ring, mut stream) = (ring(&[key(9), key(1)]), SrtpStream::default());
        for packet in 0..4 {
            assert!(opens(&mut stream, &ring, 1, (roc << 16) + 65_534 + packet), "counter {roc}");
        }
    }
    let (ring, mut stream) = (ring(&[key(1)]), SrtpStream::default());
    assert!(!opens(&mut stream, &ring, 1, u64::from(SRTP_ROC_TRIED_MAX) << 16));
}

#[test]
fn a_stream_silent_for_longer_than_a_guess_reaches_is_found_again() {
    let (ring, mut stream) = (ring(&[key(1)]), SrtpStream::default());
    for index in [100 << 16, (100 << 16) + 5] {
        stream.current.get_or_insert_with(|| Current {
            session: Arc::clone(&ring.sessions[0]),
            roc: 100,
            highest_seq: 0,
        });
        assert!(opens(&mut stream, &ring, 1, index));
    }
    assert!(opens(&mut stream, &ring, 1, (100 << 16) + 60_000), "half a counter was lost");
    assert!(opens(&mut stream, &ring, 1, (102 << 16) + 10), "a whole one was");
}

#[test]
fn keys_change_and_packets_of_both_open_meanwhile() {
    let (mut ring, mut stream) = (ring(&[key(1)]), SrtpStream::default());
    assert!(opens(&mut stream, &ring, 1, 70_000));
    ring.update([key(2)].iter());
    // The last of the old key comes behind the first of the new; the new counts from 0 again.
    for (byte, index) in [(1, 70_001), (2, 4_466), (1, 70_002), (2, 4_467), (2, 4_468)] {
        assert!(opens(&mut stream, &ring, byte, index), "key {byte}, packet {index}");
    }
    for byte in 3..80 {
        ring.update([key(byte)].iter());
        assert!(ring.sessions.len() <= SRTP_KEY_RING_MAX);
    }
    assert!(opens(&mut stream, &ring, 79, 4_469));
    assert!(!opens(&mut stream, &ring, 2, 4_470), "forgotten by then");
}

#[test]
fn what_is_not_authentic_never_comes_out_and_is_searched_for_ever_less_often() {
    let (mut ring, mut stream) = (ring(&[key(1)]), SrtpStream::default());
    let mut out = vec![1, 2, 3];
    for index in 0..100_u64 {
        assert!(!stream.open(&ring, &protect([2; 30], index, b"sound"), &mut out));
    }
    assert_eq!((out, stream.suite()), (vec![1, 2, 3], None));
    // Its key comes late: it is looked for at once.
    ring.add(key(2));
    assert!(opens(&mut stream, &ring, 2, 101));
    // A forged packet in between costs nothing but itself.
    assert!(!opens(&mut stream, &ring, 3, 102));
    assert!(opens(&mut stream, &ring, 2, 102));
}
