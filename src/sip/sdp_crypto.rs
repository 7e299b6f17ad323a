//! SDES: SRTP keys in a session description.
//!
//! Purpose: take an `a=crypto` line apart: suite, keys with lifetime and MKI, session parameters.
//! Invariants: nothing is copied; no key is printed; what cannot be read is left out.
//! Non-goals: base64 and the lengths of suites (see `rtp::SrtpKey`), which line is in use (see `call`).
//! Sources: RFC 4568 §4, §6.1 (inline keys), §6.3 (session parameters), §9.1 (grammar).

use std::fmt;

use super::lines::{decimal, split_around, split_word};
use crate::base::limits;

/// One `a=crypto` line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CryptoLine<'a> {
    /// Names the line: an answer repeats the tag of the line that it accepts.
    pub tag: u32,
    /// The crypto suite's name.
    pub suite: &'a [u8],
    keys: &'a [u8],
    parameters: &'a [u8],
}

/// One `inline:` of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InlineKey<'a> {
    /// Master key and salt in base64.
    pub key_and_salt: &'a [u8],
    /// Packets that it may serve at most, where it says so; not enforced by a recorder.
    pub lifetime_packets: Option<u64>,
    /// Value and length in bytes of the master key identifier.
    pub mki: Option<(u64, u8)>,
}

/// A session parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionParameter<'a> {
    /// Keys are derived again every 2^n packets.
    KeyDerivationRate(u64),
    /// RTP is not encrypted.
    UnencryptedSrtp,
    /// RTCP is not encrypted.
    UnencryptedSrtcp,
    /// RTP is not authenticated.
    UnauthenticatedSrtp,
    /// What changes nothing for a listener: `WSH`, `FEC_ORDER`, `FEC_KEY`, and unknown ones.
    Other(&'a [u8]),
}

impl fmt::Debug for CryptoLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CryptoLine({}, {}, …)", self.tag, self.suite.escape_ascii())
    }
}

impl fmt::Debug for InlineKey<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "InlineKey({:?}, {:?}, …)", self.lifetime_packets, self.mki)
    }
}

impl<'a> CryptoLine<'a> {
    /// Reads what follows `a=crypto:`; `None` without a tag, a suite and keys.
    /// Source: RFC 4568 §9.1.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = split_word(value);
        let (suite, rest) = split_word(rest);
        let (keys, parameters) = split_word(rest);
        let tag = decimal(tag).and_then(|tag| u32::try_from(tag).ok())?;
        (!suite.is_empty() && !keys.is_empty()).then_some(Self { tag, suite, keys, parameters })
    }

    /// Its keys, at most `limits::SDP_CRYPTO_KEYS_MAX`.
    pub fn keys(&self) -> impl Iterator<Item = InlineKey<'a>> + use<'a> {
        let all = self.keys.split(|byte| *byte == b';');
        all.take(limits::SDP_CRYPTO_KEYS_MAX).filter_map(InlineKey::parse)
    }

    /// Its session parameters.
    pub fn parameters(&self) -> impl Iterator<Item = SessionParameter<'a>> + use<'a> {
        let words = self.parameters.split(|byte| matches!(byte, b' ' | b'\t'));
        words.filter(|word| !word.is_empty()).map(SessionParameter::parse)
    }
}

impl<'a> InlineKey<'a> {
    /// `inline:KEY|LIFETIME|MKI:LENGTH`, the last two optional.
    fn parse(value: &'a [u8]) -> Option<Self> {
        let (method, info) = value.split_at_checked(b"inline:".len())?;
        if !method.eq_ignore_ascii_case(b"inline:") {
            return None;
        }
        let mut fields = info.split(|byte| *byte == b'|');
        let mut key = Self { key_and_salt: fields.next()?, lifetime_packets: None, mki: None };
        for field in fields.take(2) {
            match field.iter().position(|byte| *byte == b':') {
                Some(colon) => key.mki = Some(parse_mki(field, colon)?),
                None => key.lifetime_packets = parse_lifetime(field),
            }
        }
        Some(key)
    }
}

/// `VALUE:LENGTH`. An MKI that cannot be read makes the key useless: every packet carries it.
fn parse_mki(field: &[u8], colon: usize) -> Option<(u64, u8)> {
    let (value, length) = split_around(field, colon);
    let length = decimal(length).and_then(|length| u8::try_from(length).ok())?;
    (1..=128).contains(&length).then_some((decimal(value)?, length))
}

/// A number, or `2^` and its exponent.
fn parse_lifetime(field: &[u8]) -> Option<u64> {
    match field.strip_prefix(b"2^") {
        Some(exponent) => {
            let exponent = decimal(exponent).and_then(|number| u32::try_from(number).ok())?;
            1_u64.checked_shl(exponent)
        }
        None => decimal(field),
    }
}

impl<'a> SessionParameter<'a> {
    fn parse(word: &'a [u8]) -> Self {
        // A leading `-` asks a reader that does not know the parameter to refuse the line.
        let name = word.strip_prefix(b"-").unwrap_or(word);
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.split_at_checked(4) {
            Some((kdr, rate)) if kdr.eq_ignore_ascii_case(b"KDR=") => {
                Self::KeyDerivationRate(decimal(rate).unwrap_or(u64::MAX))
            }
            _ if is(b"UNENCRYPTED_SRTP") => Self::UnencryptedSrtp,
            _ if is(b"UNENCRYPTED_SRTCP") => Self::UnencryptedSrtcp,
            _ if is(b"UNAUTHENTICATED_SRTP") => Self::UnauthenticatedSrtp,
            _ => Self::Other(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SessionParameter as P;
    use super::*;

    type Key<'a> = (&'a [u8], Option<u64>, Option<(u64, u8)>);

    fn keys(line: &str) -> Vec<Key<'_>> {
        let line = CryptoLine::parse(line.as_bytes()).expect("a line");
        line.keys().map(|key| (key.key_and_salt, key.lifetime_packets, key.mki)).collect()
    }

    #[test]
    fn the_examples_of_rfc_4568_are_read() {
        let text = "1 AES_CM_128_HMAC_SHA1_80 \
            inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4;\
            inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4 FEC_ORDER=FEC_SRTP";
        let line = CryptoLine::parse(text.as_bytes()).expect("a line");
        assert_eq!((line.tag, line.suite), (1, &b"AES_CM_128_HMAC_SHA1_80"[..]));
        assert_eq!(
            keys(text),
            [
                (&b"WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"[..], Some(1 << 20), Some((1, 4))),
                (&b"QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5"[..], Some(1 << 20), Some((2, 4))),
            ]
        );
        let other = SessionParameter::Other(b"FEC_ORDER=FEC_SRTP");
        assert_eq!(line.parameters().collect::<Vec<_>>(), [other]);
    }

    #[test]
    fn lifetime_and_mki_are_optional_and_either_may_stand_alone() {
        for (info, lifetime, mki) in [
            ("inline:QUJD", None, None),
            ("INLINE:QUJD|1048576", Some(1_048_576), None),
            ("inline:QUJD|2^31", Some(1 << 31), None),
            ("inline:QUJD|2^99", None, None),
            ("inline:QUJD|66051:3", None, Some((66_051, 3))),
            ("inline:QUJD|2^20|1:128", Some(1 << 20), Some((1, 128))),
        ] {
            assert_eq!(keys(&format!("7 X {info}")), [(&b"QUJD"[..], lifetime, mki)], "{info}");
        }
        for info in
            ["inline", "uri:QUJD", "inline:QUJD|1:129", "inline:QUJD|1:0", "inline:QUJD|x:4"]
        {
            assert_eq!(keys(&format!("7 X {info}")), [], "{info}");
        }
    }

    #[test]
    fn session_parameters_are_told_apart() {
        let line = "3 X inline:QUJD KDR=0 KDR=24 -UNENCRYPTED_SRTP unencrypted_srtcp \
            UNAUTHENTICATED_SRTP WSH=64";
        let line = CryptoLine::parse(line.as_bytes()).expect("a line");
        let expected = [
            P::KeyDerivationRate(0),
            P::KeyDerivationRate(24),
            P::UnencryptedSrtp,
            P::UnencryptedSrtcp,
            P::UnauthenticatedSrtp,
            P::Other(b"WSH=64"),
        ];
        assert_eq!(line.parameters().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn lines_without_tag_suite_or_keys_are_none_and_no_key_is_printed() {
        for line in ["", "1", "1 X", "x X inline:QUJD", "99999999999 X inline:QUJD"] {
            assert_eq!(CryptoLine::parse(line.as_bytes()), None, "{line}");
        }
        let line = CryptoLine::parse(b"1 X inline:c2VjcmV0 WSH=64").expect("a line");
        let printed = format!("{line:?} {:?}", line.keys().collect::<Vec<_>>());
        assert_eq!(printed, "CryptoLine(1, X, …) [InlineKey(None, None, …)]");
    }

    #[test]
    fn a_flood_of_keys_meets_its_limit() {
        let many = format!("1 X {}", "inline:QUJD;".repeat(limits::SDP_CRYPTO_KEYS_MAX + 5));
        assert_eq!(keys(&many).len(), limits::SDP_CRYPTO_KEYS_MAX);
    }
}
