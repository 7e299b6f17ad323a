//! The test vectors of the RFCs, packets that another implementation protected, and every way to
//! damage one.
//!
//! Purpose: key derivation, counter mode, GCM, MKI and RTCP are what the standards say.
//! Invariants: expected bytes are printed in the RFCs, or were made by libsrtp.
//! Non-goals: which key and counter to try (see `srtp`).
//! Sources: RFC 3711 B.2 and B.3, RFC 6188 §7, RFC 7714 §16 and §17, libsrtp's test driver.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("digits")).collect()
}

fn derived(key: &str, salt: &str, label: u8, len_bytes: usize) -> Vec<u8> {
    let mut out = vec![0xaa; len_bytes];
    derive_key(&hex(key), &hex(salt), label, &mut out).expect("a key");
    out
}

#[test]
fn session_keys_are_those_of_rfc_3711_b3() {
    let (key, salt) = ("E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6");
    assert_eq!(derived(key, salt, 0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derived(key, salt, 2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    let auth = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE\
        E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25\
        6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(derived(key, salt, 1, 94), hex(auth));
}

#[test]
fn session_keys_of_longer_masters_are_those_of_rfc_6188_7() {
    let key = "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6";
    let salt = "3b04803de51ee7c96423ab5b78d2";
    let encryption = "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4";
    assert_eq!(derived(key, salt, 0, 32), hex(encryption));
    assert_eq!(derived(key, salt, 1, 20), hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    assert_eq!(derived(key, salt, 2, 14), hex("fa31791685ca444a9e07c6c64e93"));
    let key = "73edc66c4fa15776fb57f9505c17136550ffda71f3e8e5f1";
    let salt = "c8522f3acd4ce86d5add78edbb11";
    assert_eq!(derived(key, salt, 0, 24), hex("31874736a8f1143870c26e4857d8a5b2c4a354407faadabb"));
    assert_eq!(derived(key, salt, 1, 20), hex("355b10973cd95b9eacf4061c7e1a7151e7cfbfcb"));
    assert_eq!(derived(key, salt, 2, 14), hex("2372b82d639b6d8503a47adc0a6c"));
}

#[test]
fn the_key_stream_is_that_of_rfc_3711_b2() {
    let cipher = counter_cipher(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).expect("a key");
    let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().expect("14 bytes");
    let mut stream = vec![0; 0xff02 * 16];
    decrypt(&cipher, &mut stream, counter_block(&salt, 0, 0)).expect("key stream");
    for (block, expected) in [
        (0x0000, "E03EAD0935C95E80E166B16DD92B4EB4"),
        (0x0001, "D23513162B02D0F72A43A2FE4A5F97AB"),
        (0xfeff, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
        (0xff00, "362B7C3C6773516318A077D7FC5073AE"),
        (0xff01, "6A2CC3787889374FBEB4C81B17BA6C44"),
    ] {
        assert_eq!(stream[block * 16..][..16], hex(expected), "block {block:#x}");
    }
}

/// A session whose session keys are given, as RFC 7714 gives them.
fn gcm(suite: SrtpSuite) -> SrtpSession {
    let session_key: Vec<u8> = (0..32).take(suite.key_len_bytes()).collect();
    let keys = || {
        let algorithm = if suite == SrtpSuite::Gcm128 { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &session_key).expect("a key"));
        let mut salt = Zeroizing::new([0; SALT_LEN_BYTES]);
        salt[..12].copy_from_slice(b"Quid pro quo");
        SessionKeys { transform: Transform::Gcm(key), salt }
    };
    let master = vec![0; suite.key_len_bytes() + suite.salt_len_bytes()];
    let key = SrtpKey::new(suite, &master).expect("a key");
    SrtpSession { key, derived: vec![Derived { rtp: keys(), rtcp: keys() }] }
}

#[test]
fn gcm_opens_the_packets_of_rfc_7714_16() {
    let plain = [&hex("8040f17b8041f8d35501a0b2")[..], b"Gallia est omnis divisa in partes tres"];
    for (suite, sealed) in [
        (
            SrtpSuite::Gcm128,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a\
             51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            SrtpSuite::Gcm256,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a02\
             76ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let mut out = Vec::new();
        assert_eq!(gcm(suite).unprotect(&hex(sealed), &[1, 0].into_iter(), &mut out), Some(0));
        assert_eq!(out, plain.concat());
    }
}

#[test]
fn gcm_opens_the_rtcp_packets_of_rfc_7714_17() {
    let plain = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
        deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
    for (suite, sealed) in [
        (
            SrtpSuite::Gcm128,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
             4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        (
            SrtpSuite::Gcm256,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be\
             8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        ),
        (
            SrtpSuite::Gcm128,
            "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeef\
             deadbeefdeadbeefdeadbeef841dd9683dd78ec92ae58790125f62b3000005d4",
        ),
    ] {
        let (mut out, session, sealed) = (Vec::new(), gcm(suite), hex(sealed));
        assert_eq!(session.unprotect_rtcp(&sealed, &mut out), Some(()));
        assert_eq!(out, hex(plain));
        damage(&sealed, |damaged| session.unprotect_rtcp(damaged, &mut Vec::new()).is_some());
    }
}

/// libsrtp's reference packets: 16 bytes of 0xab under sequence number 0x1234 and SSRC 0xcafebabe.
fn libsrtp() -> [(SrtpSession, Vec<u8>); 2] {
    let session = |suite, key: &str| {
        SrtpSession::new(SrtpKey::new(suite, &hex(key)).expect("a key")).expect("session keys")
    };
    [
        (
            session(
                SrtpSuite::AesCm128Tag80,
                "E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6",
            ),
            hex("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"),
        ),
        (
            session(
                SrtpSuite::AesCm256Tag80,
                "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6\
                 3b04803de51ee7c96423ab5b78d2",
            ),
            hex("800f1234decafbadcafebabef1d9de17ff251ff1aa007774b0b4b40da08d9d9a5b3a55d8873b"),
        ),
    ]
}

#[test]
fn counter_mode_opens_what_libsrtp_protected() {
    for (session, packet) in libsrtp() {
        let mut out = Vec::new();
        assert_eq!(session.unprotect(&packet, &(0..3), &mut out), Some(0));
        assert_eq!(out, [&packet[..12], &[0xab; 16]].concat());
        assert_eq!(session.unprotect(&packet, &(1..9), &mut out), None, "of another counter");
    }
}

/// Every cut and every changed byte is refused.
fn damage(packet: &[u8], mut opens: impl FnMut(&[u8]) -> bool) {
    assert!(opens(packet));
    for cut in 0..packet.len() {
        assert!(!opens(&packet[..cut]), "cut at {cut}");
        let mut changed = packet.to_vec();
        changed[cut] ^= 0x11;
        assert!(!opens(&changed), "changed at {cut}");
    }
}

#[test]
fn a_damaged_packet_is_refused_and_leaves_the_output_as_it_was() {
    for (session, packet) in libsrtp() {
        damage(&packet, |damaged| {
            let mut out = vec![7];
            let is_open = session.unprotect(damaged, &[0].into_iter(), &mut out).is_some();
            assert!(is_open || out == [7]);
            is_open
        });
    }
    let session = gcm(SrtpSuite::Gcm128);
    let sealed = "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5\
        f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce";
    damage(&hex(sealed), |packet| {
        session.unprotect(packet, &[0].into_iter(), &mut Vec::new()).is_some()
    });
}

#[test]
fn an_mki_stands_before_the_tag_and_selects_its_key() {
    let [(session, packet), _] = libsrtp();
    let with_mki = |mki: &[u8]| SrtpSession::new(session.key.clone().with_mki(mki)).expect("keys");
    let (body, tag) = packet.split_at(packet.len() - 10);
    let marked = [body, &[0, 4], tag].concat();
    let mut out = Vec::new();
    assert_eq!(with_mki(&[0, 4]).unprotect(&marked, &[0].into_iter(), &mut out), Some(0));
    assert_eq!(out[12..], [0xab; 16]);
    assert_eq!(with_mki(&[0, 5]).unprotect(&marked, &[0].into_iter(), &mut out), None);
    assert_eq!(session.unprotect(&marked, &[0].into_iter(), &mut out), None);
}

#[test]
fn an_unencrypted_session_authenticates_and_leaves_the_payload() {
    let [(session, _), _] = libsrtp();
    let key = session.key.with_secrecy(Secrecy::Unencrypted, Secrecy::Unencrypted);
    let session = SrtpSession::new(key).expect("keys");
    let Transform::Counter(mode) = &session.derived[0].rtp.transform else {
        panic!("counter mode")
    };
    let mut packet = hex("800f1234decafbadcafebabe 0102030405");
    let tag = hmac::sign(&mode.auth, &[&packet[..], &[0; 4]].concat());
    packet.extend_from_slice(&tag.as_ref()[..10]);
    let mut out = Vec::new();
    assert_eq!(session.unprotect(&packet, &[0].into_iter(), &mut out), Some(0));
    assert_eq!(out, packet[..17]);
}
