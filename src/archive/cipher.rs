//! Sealing the body of a record.
//!
//! Purpose: AES-256-GCM under a call's own key, with a nonce that cannot repeat.
//! Invariants: a key is made for one epoch (one call, one process, one purpose) and its counter only
//! grows, so that no nonce is used twice under it, whatever a crash cut off; a record opens only in
//! its own archive, epoch and header.
//! Non-goals: where keys come from (see `call_keys`) and where they are kept (see `sidecar`).
//! Sources: NIST SP 800-38D §8.2.1 (deterministic construction of the nonce).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::secret::Secret;

/// Bytes that sealing adds to a body.
pub const TAG_BYTES: usize = 16;

/// What a record is bound to: archive (16), epoch (8), and its header without the CRC (44).
pub const CONTEXT_BYTES: usize = 68;

/// The expanded key of an epoch.
pub struct RecordKey {
    key: LessSafeKey,
    /// The epoch's random name.
    pub epoch: u64,
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RecordKey({:016x})", self.epoch)
    }
}

impl RecordKey {
    /// Expands a key. `None` never happens for 32 bytes.
    #[must_use]
    pub fn new(secret: &Secret, epoch: u64) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, secret.bytes()).ok()?;
        Some(Self { key: LessSafeKey::new(key), epoch })
    }

    /// Seals `body` in place and returns its tag. `counter` must never come again for this key.
    #[must_use]
    pub fn seal(
        &self,
        counter: u64,
        context: &[u8; CONTEXT_BYTES],
        body: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        let sealed = self.key.seal_in_place_separate_tag(nonce(counter), Aad::from(context), body);
        sealed.ok()?.as_ref().try_into().ok()
    }

    /// Opens a body with its tag behind it; `None` if one bit of them, of the context or of the key
    /// is another.
    #[must_use]
    pub fn open(
        &self,
        counter: u64,
        context: &[u8; CONTEXT_BYTES],
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let mut body = sealed.to_vec();
        let len = self.key.open_in_place(nonce(counter), Aad::from(context), &mut body).ok()?.len();
        body.truncate(len);
        Some(body)
    }
}

/// 32 bits of zero, then the counter.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// The context of a record: `header` is its first 44 bytes.
#[must_use]
pub fn context(archive: &[u8; 16], epoch: u64, header: &[u8; 44]) -> [u8; CONTEXT_BYTES] {
    let mut out = [0; CONTEXT_BYTES];
    out[..16].copy_from_slice(archive);
    out[16..24].copy_from_slice(&epoch.to_le_bytes());
    out[24..].copy_from_slice(header);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_as_it_was_sealed() {
        let secret = Secret::from_slice(&[5; 32]).expect("32 bytes");
        let key = RecordKey::new(&secret, 7).expect("a key");
        let context = context(&[1; 16], 7, &[2; 44]);
        let mut body = b"hello".to_vec();
        let tag = key.seal(3, &context, &mut body).expect("sealed");
        assert_ne!(body, b"hello");
        body.extend(tag);
        assert_eq!(key.open(3, &context, &body).as_deref(), Some(&b"hello"[..]));
        assert_eq!(key.open(4, &context, &body), None, "another counter");
        for place in 0..context.len() {
            let mut other = context;
            other[place] ^= 1;
            assert_eq!(key.open(3, &other, &body), None, "context byte {place}");
        }
        for place in 0..body.len() {
            let mut other = body.clone();
            other[place] ^= 1;
            assert_eq!(key.open(3, &context, &other), None, "byte {place}");
            assert_eq!(key.open(3, &context, &body[..place]), None, "cut {place}");
        }
    }

    #[test]
    fn the_ciphertext_is_that_of_the_published_test_case() {
        // AES-GCM test case 13 of McGrew and Viega: a zero key, a zero nonce, nothing sealed; our
        // context is not empty, so the tag differs, but equal inputs must give equal bytes.
        let secret = Secret::from_slice(&[0; 32]).expect("32 bytes");
        let key = RecordKey::new(&secret, 0).expect("a key");
        let mut zeros = [0; 16];
        key.seal(0, &[0; CONTEXT_BYTES], &mut zeros).expect("sealed");
        // Test case 14: the ciphertext does not depend on the associated data.
        let published: [u8; 16] = [
            0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3,
            0x9d, 0x18,
        ];
        assert_eq!(zeros, published);
    }
}
