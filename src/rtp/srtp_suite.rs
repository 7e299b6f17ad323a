//! SRTP crypto suites: their names, lengths and transforms.
//!
//! Purpose: one value for what SDES calls a crypto suite and DTLS a protection profile.
//! Invariants: plain values; lengths are those of the suite's RFC.
//! Non-goals: F8 and SEED, which nobody sends; the draft suites with 8-byte GCM tags.
//! Sources: RFC 4568 §6.2 (SDES), RFC 6188 (AES-192 and AES-256), RFC 7714 (AES-GCM),
//! RFC 5764 §4.1.2 and RFC 7714 §14.2 (DTLS profiles).

use serde::{Deserialize, Serialize};

/// A crypto suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SrtpSuite {
    /// AES-128 in counter mode, 80 bits of HMAC-SHA1.
    #[serde(rename = "AES_CM_128_HMAC_SHA1_80")]
    AesCm128Tag80,
    /// The same with 32 bits on RTP; RTCP keeps 80 (RFC 4568 §6.2.2).
    #[serde(rename = "AES_CM_128_HMAC_SHA1_32")]
    AesCm128Tag32,
    /// AES-192 in counter mode.
    #[serde(rename = "AES_192_CM_HMAC_SHA1_80")]
    AesCm192Tag80,
    /// The same with 32 bits on RTP.
    #[serde(rename = "AES_192_CM_HMAC_SHA1_32")]
    AesCm192Tag32,
    /// AES-256 in counter mode.
    #[serde(rename = "AES_256_CM_HMAC_SHA1_80")]
    AesCm256Tag80,
    /// The same with 32 bits on RTP.
    #[serde(rename = "AES_256_CM_HMAC_SHA1_32")]
    AesCm256Tag32,
    /// Authenticated, not encrypted (DTLS only; SDES says it by `UNENCRYPTED_SRTP`).
    #[serde(rename = "NULL_HMAC_SHA1_80")]
    NullTag80,
    /// The same with 32 bits on RTP.
    #[serde(rename = "NULL_HMAC_SHA1_32")]
    NullTag32,
    /// AES-128 in Galois/counter mode, tags of 128 bits.
    #[serde(rename = "AEAD_AES_128_GCM")]
    Gcm128,
    /// AES-256 in Galois/counter mode.
    #[serde(rename = "AEAD_AES_256_GCM")]
    Gcm256,
}

/// Every suite, with its name, its DTLS profile (0: none), and the lengths of key, salt and tag.
const SUITES: [(SrtpSuite, &str, u16, [usize; 3]); 10] = [
    (SrtpSuite::AesCm128Tag80, "AES_CM_128_HMAC_SHA1_80", 1, [16, 14, 10]),
    (SrtpSuite::AesCm128Tag32, "AES_CM_128_HMAC_SHA1_32", 2, [16, 14, 4]),
    (SrtpSuite::AesCm192Tag80, "AES_192_CM_HMAC_SHA1_80", 0, [24, 14, 10]),
    (SrtpSuite::AesCm192Tag32, "AES_192_CM_HMAC_SHA1_32", 0, [24, 14, 4]),
    (SrtpSuite::AesCm256Tag80, "AES_256_CM_HMAC_SHA1_80", 0, [32, 14, 10]),
    (SrtpSuite::AesCm256Tag32, "AES_256_CM_HMAC_SHA1_32", 0, [32, 14, 4]),
    (SrtpSuite::NullTag80, "NULL_HMAC_SHA1_80", 5, [16, 14, 10]),
    (SrtpSuite::NullTag32, "NULL_HMAC_SHA1_32", 6, [16, 14, 4]),
    (SrtpSuite::Gcm128, "AEAD_AES_128_GCM", 7, [16, 12, 16]),
    (SrtpSuite::Gcm256, "AEAD_AES_256_GCM", 8, [32, 12, 16]),
];

/// Names that phones give some suites, from drafts of RFC 6188.
const ALIASES: [(&str, SrtpSuite); 4] = [
    ("AES_CM_192_HMAC_SHA1_80", SrtpSuite::AesCm192Tag80),
    ("AES_CM_192_HMAC_SHA1_32", SrtpSuite::AesCm192Tag32),
    ("AES_CM_256_HMAC_SHA1_80", SrtpSuite::AesCm256Tag80),
    ("AES_CM_256_HMAC_SHA1_32", SrtpSuite::AesCm256Tag32),
];

impl SrtpSuite {
    /// The suite of an `a=crypto` line, in any case; `None` for one that is not supported.
    /// Source: RFC 4568 §9.1 (`srtp-crypto-suite`).
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
        let suite = SUITES.iter().find(|(_, known, ..)| is(known)).map(|(suite, ..)| *suite);
        suite.or_else(|| ALIASES.iter().find(|(known, _)| is(known)).map(|(_, suite)| *suite))
    }

    /// The suite of a DTLS-SRTP protection profile.
    /// Source: RFC 5764 §4.1.2, RFC 7714 §14.2.
    #[must_use]
    pub fn from_profile(profile: u16) -> Option<Self> {
        let found = SUITES.iter().find(|(_, _, known, _)| *known != 0 && *known == profile);
        found.map(|(suite, ..)| *suite)
    }

    /// Its name in SDP.
    #[must_use]
    pub fn name(self) -> &'static str {
        SUITES.iter().find(|(suite, ..)| *suite == self).map_or("", |(_, name, ..)| name)
    }

    fn lengths(self) -> [usize; 3] {
        SUITES
            .iter()
            .find(|(suite, ..)| *suite == self)
            .map_or([16, 14, 10], |(.., lengths)| *lengths)
    }

    /// Bytes of the master key, and of the session keys that encrypt.
    #[must_use]
    pub fn key_len_bytes(self) -> usize {
        let [key, ..] = self.lengths();
        key
    }

    /// Bytes of the master salt.
    #[must_use]
    pub fn salt_len_bytes(self) -> usize {
        let [_, salt, _] = self.lengths();
        salt
    }

    /// Bytes of the tag of an RTP packet.
    #[must_use]
    pub fn tag_len_bytes(self) -> usize {
        let [.., tag] = self.lengths();
        tag
    }

    /// Bytes of the tag of an RTCP packet: never less than 80 bits.
    #[must_use]
    pub fn rtcp_tag_len_bytes(self) -> usize {
        self.tag_len_bytes().max(10)
    }

    /// True where one transform encrypts and authenticates.
    #[must_use]
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::Gcm128 | Self::Gcm256)
    }

    /// True where nothing is encrypted.
    #[must_use]
    pub const fn is_null(self) -> bool {
        matches!(self, Self::NullTag80 | Self::NullTag32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_found_by_their_names_and_profiles() {
        for (suite, name, profile, [key, salt, tag]) in SUITES {
            assert_eq!(SrtpSuite::from_name(name.to_lowercase().as_bytes()), Some(suite));
            assert_eq!((suite.name(), suite.key_len_bytes()), (name, key));
            assert_eq!((suite.salt_len_bytes(), suite.tag_len_bytes()), (salt, tag));
            if profile != 0 {
                assert_eq!(SrtpSuite::from_profile(profile), Some(suite));
            }
            assert_eq!(serde_json::to_string(&suite).ok(), Some(format!("\"{name}\"")));
        }
        assert_eq!(
            SrtpSuite::from_name(b"AES_CM_256_HMAC_SHA1_80"),
            Some(SrtpSuite::AesCm256Tag80)
        );
        assert_eq!(SrtpSuite::from_name(b"F8_128_HMAC_SHA1_80"), None);
        assert_eq!((SrtpSuite::from_profile(0), SrtpSuite::from_profile(9)), (None, None));
    }
}
