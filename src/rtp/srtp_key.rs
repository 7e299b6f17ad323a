//! SRTP master keys: what SDP or a DTLS handshake gave one party to send with.
//!
//! Purpose: carry a master key and salt from where they are found to where packets are opened.
//! Invariants: nothing prints a key; every copy is wiped when it is dropped; key and salt have the
//! lengths of their suite.
//! Non-goals: deriving session keys (see `srtp_session`).
//! Sources: RFC 3711 §3.2.1 and §8.1, RFC 4568 §6.1 and §6.3 (MKI, session parameters).

use super::srtp_suite::SrtpSuite;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a master key identifier, at most.
/// Source: RFC 4568 §6.1.
pub const MKI_LEN_BYTES_MAX: usize = 128;

/// Whether payloads are ciphertext. They are authenticated in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secrecy {
    /// They are.
    #[default]
    Encrypted,
    /// They are not (`UNENCRYPTED_SRTP`, `UNENCRYPTED_SRTCP`).
    Unencrypted,
}

/// A master key with its salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKey {
    suite: SrtpSuite,
    /// Key, then salt.
    material: Material,
    /// Follows every packet of this key; empty where there is only one key.
    #[serde(default)]
    mki: Vec<u8>,
    #[serde(default)]
    rtp: Secrecy,
    #[serde(default)]
    rtcp: Secrecy,
}

#[derive(Clone, PartialEq, Eq)]
struct Material(Zeroizing<Vec<u8>>);

impl Serialize for Material {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(self.0.as_slice()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Material {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD.decode(text.as_bytes());
        // The decoder's error would name a byte of the key.
        let bytes = bytes.map_err(|_| serde::de::Error::custom("a key that is not base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SrtpKey({}, …)", self.suite.name())
    }
}

impl SrtpKey {
    /// A key of `suite`; `None` unless `material` is exactly as long as its key and its salt.
    #[must_use]
    pub fn new(suite: SrtpSuite, material: &[u8]) -> Option<Self> {
        let wanted = suite.key_len_bytes().saturating_add(suite.salt_len_bytes());
        let material = Material(Zeroizing::new(material.to_vec()));
        let is_whole = material.0.len() == wanted;
        let secrecy = Secrecy::default();
        is_whole.then_some(Self { suite, material, mki: Vec::new(), rtp: secrecy, rtcp: secrecy })
    }

    /// A key from the base64 text of an `inline:`; padding may be missing, as it is from some phones.
    /// Source: RFC 4568 §6.1.
    #[must_use]
    pub fn from_inline(suite: SrtpSuite, text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at.saturating_add(1));
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let material = Zeroizing::new(engine.decode(text.get(..end)?).ok()?);
        Self::new(suite, &material)
    }

    /// The same key with an identifier, at most `MKI_LEN_BYTES_MAX` bytes of it.
    #[must_use]
    pub fn with_mki(mut self, mki: &[u8]) -> Self {
        self.mki = mki.get(..MKI_LEN_BYTES_MAX).unwrap_or(mki).to_vec();
        self
    }

    /// The same key for packets that are only authenticated.
    #[must_use]
    pub const fn with_secrecy(mut self, rtp: Secrecy, rtcp: Secrecy) -> Self {
        self.rtp = rtp;
        self.rtcp = rtcp;
        self
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> SrtpSuite {
        self.suite
    }

    /// The master key identifier, or empty.
    #[must_use]
    pub fn mki(&self) -> &[u8] {
        &self.mki
    }

    /// Whether RTP payloads are ciphertext.
    #[must_use]
    pub const fn rtp_secrecy(&self) -> Secrecy {
        if self.suite.is_null() { Secrecy::Unencrypted } else { self.rtp }
    }

    /// Master key and master salt; `None` for a key that was read with the wrong length.
    #[must_use]
    pub(super) fn parts(&self) -> Option<(&[u8], &[u8])> {
        let (key, salt) = self.material.0.split_at_checked(self.suite.key_len_bytes())?;
        (salt.len() == self.suite.salt_len_bytes()).then_some((key, salt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4568 §6.1, the example.
    const INLINE: &[u8] = b"d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    #[test]
    fn an_inline_key_is_read_with_and_without_padding_and_only_at_its_length() {
        let key = SrtpKey::from_inline(SrtpSuite::AesCm128Tag80, INLINE).expect("30 bytes");
        assert_eq!(key.parts().map(|(key, salt)| (key.len(), salt.len())), Some((16, 14)));
        assert_eq!(SrtpKey::from_inline(SrtpSuite::AesCm256Tag80, INLINE), None);
        for bad in
            [&b""[..], b"=", b"====", &INLINE[1..], b"d0Rm*mcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj"]
        {
            assert_eq!(SrtpKey::from_inline(SrtpSuite::AesCm128Tag80, bad), None);
        }
        // 46 bytes: its base64 is padded by two.
        let long = STANDARD.encode([7; 46]);
        let padded = SrtpKey::from_inline(SrtpSuite::AesCm256Tag80, long.as_bytes());
        let bare =
            SrtpKey::from_inline(SrtpSuite::AesCm256Tag80, long.trim_end_matches('=').as_bytes());
        assert!(padded.is_some() && padded == bare);
    }

    #[test]
    fn a_key_reads_back_from_its_json_and_is_not_printed() {
        let key = SrtpKey::new(SrtpSuite::Gcm128, &[0x41; 28]).expect("28 bytes").with_mki(&[1, 2]);
        let key = key.with_secrecy(Secrecy::Encrypted, Secrecy::Unencrypted);
        let text = serde_json::to_string(&key).expect("JSON");
        assert_eq!(serde_json::from_str::<SrtpKey>(&text).ok(), Some(key.clone()));
        let printed = format!("{key:?}");
        assert_eq!(printed, "SrtpKey(AEAD_AES_128_GCM, …)");
        let wrong: Result<SrtpKey, _> =
            serde_json::from_str(r#"{"suite":"AEAD_AES_128_GCM","material":"QUJD!"}"#);
        assert!(!wrong.expect_err("not base64").to_string().contains("33"), "no byte of a key");
        let short = r#"{"suite":"AEAD_AES_128_GCM","material":"QUJD"}"#;
        let short: SrtpKey = serde_json::from_str(short).expect("JSON");
        assert_eq!(short.parts(), None);
    }
}
