//! Secrets of the archive: the box's key, and the keys of single calls.
//!
//! Purpose: make, hold, derive and destroy 256-bit keys, and read and write the box key's file.
//! Invariants: nothing prints a key; every copy is wiped when it is dropped; keys that serve
//! different ends are derived apart (HKDF), so that none opens what another sealed.
//! Non-goals: recipients (see `recipients`), the signing key (see `signing`).
//! Sources: RFC 5869 (HKDF), NIST SP 800-38D (AES-GCM).

use std::fmt::{self, Write as _};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::cipher::TAG_BYTES;
use super::index::IndexKey;

/// Bytes of every symmetric key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a call's metadata key wrapped for the box: nonce, ciphertext, tag.
pub const BOX_WRAP_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;

const FILE_PREFIX: &str = "CALLSPAN-BOX-KEY-1-";

/// 256 secret bits.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

impl Secret {
    /// Takes 32 bytes; `None` for another number of them.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// The bytes, for whoever encrypts or wraps with them.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A key for one end, which tells nothing of this one (RFC 5869 §2.3).
    #[must_use]
    pub fn derive(&self, end: &str) -> Self {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"callspan").extract(self.bytes());
        let mut out = Zeroizing::new([0; KEY_BYTES]);
        // 32 bytes are one block of HKDF-SHA256, so neither step can fail.
        if let Ok(okm) = key.expand(&[end.as_bytes()], hkdf::HKDF_SHA256) {
            let _ = okm.fill(out.as_mut());
        }
        Self(out)
    }
}

/// The key that the box holds: metadata, and the index, are sealed under keys derived from it.
#[derive(Clone, Debug)]
pub struct BoxKey(Secret);

impl BoxKey {
    /// A box key of these random bytes.
    #[must_use]
    pub const fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Reads the text of a key file: one line, `CALLSPAN-BOX-KEY-1-` and 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim().strip_prefix(FILE_PREFIX)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
            return None;
        }
        for (place, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Secret::from_slice(bytes.as_slice()).map(Self)
    }

    /// The text of its key file.
    #[must_use]
    pub fn file_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::from(FILE_PREFIX));
        text.push_str(&Zeroizing::new(hex(self.0.bytes())));
        text.push('\n');
        text
    }

    /// 16 hex digits that tell box keys apart and reveal nothing: `archive.toml` names them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, self.0.derive("fingerprint").bytes());
        hex(hash.as_ref().get(..8).unwrap_or_default())
    }

    /// The key of the index.
    #[must_use]
    pub fn index_key(&self) -> IndexKey {
        IndexKey::new(*self.0.derive("index").bytes())
    }

    /// Wraps a call's metadata key. `nonce`: 96 random bits; `context`: what the key belongs to.
    #[must_use]
    pub fn wrap(&self, nonce: [u8; NONCE_LEN], context: &[u8], key: &Secret) -> Option<Vec<u8>> {
        let mut wrapped = nonce.to_vec();
        let mut body = key.bytes().to_vec();
        let sealer = self.wrapping_key()?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        sealer.seal_in_place_append_tag(nonce, Aad::from(context), &mut body).ok()?;
        wrapped.append(&mut body);
        Some(wrapped)
    }

    /// Opens what `wrap` made; `None` if it was made with another key or for another context.
    #[must_use]
    pub fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Option<Secret> {
        let (nonce, body) = wrapped.split_first_chunk::<NONCE_LEN>()?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.wrapping_key()?.open_in_place(nonce, Aad::from(context), &mut body).ok()?;
        Secret::from_slice(key)
    }

    fn wrapping_key(&self) -> Option<LessSafeKey> {
        let key = self.0.derive("metadata wrap");
        UnboundKey::new(&AES_256_GCM, key.bytes()).ok().map(LessSafeKey::new)
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Secret {
        Secret::from_slice(&[byte; KEY_BYTES]).expect("32 bytes")
    }

    #[test]
    fn a_key_file_reads_back_and_anything_else_is_none() {
        let box_key = BoxKey::new(key(0xa7));
        let text = box_key.file_text();
        let again = BoxKey::parse(&text).expect("reads back");
        assert_eq!(again.fingerprint(), box_key.fingerprint());
        assert_ne!(again.fingerprint(), BoxKey::new(key(0xa6)).fingerprint());
        for wrong in ["", "CALLSPAN-BOX-KEY-1-", "CALLSPAN-BOX-KEY-1-zz", &text[..text.len() - 2]] {
            assert!(BoxKey::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrapped_key_opens_only_with_its_box_key_and_its_context() {
        let box_key = BoxKey::new(key(1));
        let wrapped = box_key.wrap([9; NONCE_LEN], b"call 1", &key(2)).expect("wrapped");
        assert_eq!(wrapped.len(), BOX_WRAP_BYTES);
        let opened = box_key.unwrap(&wrapped, b"call 1").expect("opened");
        assert_eq!(opened.bytes(), key(2).bytes());
        assert!(box_key.unwrap(&wrapped, b"call 2").is_none());
        assert!(BoxKey::new(key(3)).unwrap(&wrapped, b"call 1").is_none());
        for place in 0..wrapped.len() {
            let mut flipped = wrapped.clone();
            flipped[place] ^= 1;
            assert!(box_key.unwrap(&flipped, b"call 1").is_none(), "byte {place}");
            assert!(box_key.unwrap(&wrapped[..place], b"call 1").is_none(), "cut {place}");
        }
    }

    #[test]
    fn nothing_prints_a_key() {
        assert_eq!(format!("{:?}", BoxKey::new(key(7))), "BoxKey(Secret(…))");
        assert_ne!(key(7).derive("a").bytes(), key(7).derive("b").bytes());
    }
}
