//! Opens protected records.
//!
//! Purpose: one key and one direction: from a record's body to its content, when the sequence number is right.
//! Invariants: nothing that was not authenticated is handed out; a record that does not open says only that.
//! Non-goals: finding the key or the sequence number (see `half`), constant time: the listener answers nobody.
//! Sources: RFC 5246 §6.2.3 (CBC, AEAD), RFC 7366 (encrypt-then-MAC), RFC 5288 (GCM), RFC 7905 (ChaCha20), RFC 8446 §5.2.

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use super::derive::{TLS_1_3, expand_label};
use super::suite::{Mac, Protection, Suite};

const NONCE_BYTES: usize = 12;
const BLOCK_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// The order of authentication and encryption with CBC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MacOrder {
    #[default]
    MacThenEncrypt,
    /// RFC 7366.
    EncryptThenMac,
}

/// Which header and nonce rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Tls12,
    Tls13,
}

/// One direction's key of one epoch.
pub(super) struct RecordKey {
    cipher: Cipher,
    rules: Rules,
    iv: Zeroizing<Vec<u8>>,
}

enum Cipher {
    Aead(Box<LessSafeKey>),
    Cbc { key: Box<DecryptingKey>, mac: Box<hmac::Key>, order: MacOrder },
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RecordKey(…)")
    }
}

/// A record as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: u8,
    pub(super) version: [u8; 2],
    pub(super) body: &'a [u8],
}

impl RecordKey {
    /// TLS 1.2: the keys of one direction, cut from the key block.
    pub(super) fn tls12(
        suite: Suite,
        order: MacOrder,
        mac_key: &[u8],
        key: &[u8],
        iv: &[u8],
    ) -> Option<Self> {
        let cipher = match suite.protection {
            Protection::Aes128Cbc(mac) => cbc(&cipher::AES_128, key, mac, mac_key, order)?,
            Protection::Aes256Cbc(mac) => cbc(&cipher::AES_256, key, mac, mac_key, order)?,
            other => Cipher::Aead(Box::new(aead_key(other, key)?)),
        };
        Some(Self { cipher, rules: Rules::Tls12, iv: Zeroizing::new(iv.to_vec()) })
    }

    /// TLS 1.3: from a traffic secret.
    pub(super) fn tls13(suite: Suite, secret: &[u8]) -> Option<Self> {
        let key =
            expand_label(suite.hash, secret, (TLS_1_3, "key"), &[], suite.protection.key_bytes())?;
        let iv = expand_label(suite.hash, secret, (TLS_1_3, "iv"), &[], NONCE_BYTES)?;
        let cipher = Cipher::Aead(Box::new(aead_key(suite.protection, &key)?));
        Some(Self { cipher, rules: Rules::Tls13, iv })
    }

    /// The content of a record that was sent as number `sequence`, and its type; `None` when it does not
    /// authenticate. `out` is overwritten, and holds the content.
    pub(super) fn open(&self, record: Record<'_>, sequence: u64, out: &mut Vec<u8>) -> Option<u8> {
        out.clear();
        let kind = match (&self.cipher, self.rules) {
            (Cipher::Aead(key), Rules::Tls12) => {
                self.open_aead12(key, record, sequence, out)?;
                record.kind
            }
            (Cipher::Aead(key), Rules::Tls13) => {
                return self.open_aead13(key, record, sequence, out);
            }
            (Cipher::Cbc { key, mac, order: MacOrder::EncryptThenMac }, _) => {
                let length = record.body.len().checked_sub(mac.algorithm().tag_len())?;
                let (sealed, tag) = record.body.split_at_checked(length)?;
                let header = header(sequence, record, sealed.len())?;
                check(mac, &[&header, sealed], tag)?;
                decrypt_cbc(key, sealed, out)?;
                unpad(out)?;
                record.kind
            }
            (Cipher::Cbc { key, mac, order: MacOrder::MacThenEncrypt }, _) => {
                decrypt_cbc(key, record.body, out)?;
                unpad(out)?;
                let length = out.len().checked_sub(mac.algorithm().tag_len())?;
                let header = header(sequence, record, length)?;
                let (content, tag) = out.split_at_checked(length)?;
                check(mac, &[&header, content], tag)?;
                out.truncate(length);
                record.kind
            }
        };
        Some(kind)
    }

    fn open_aead12(
        &self,
        key: &LessSafeKey,
        record: Record<'_>,
        sequence: u64,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut nonce = [0; NONCE_BYTES];
        let sealed = if self.iv.len() == NONCE_BYTES {
            nonce = self.mixed_nonce(sequence)?;
            record.body
        } else {
            // GCM: 4 derived bytes, then 8 that the record begins with.
            let (explicit, sealed) = record.body.split_first_chunk::<8>()?;
            let (fixed, rest) = nonce.split_first_chunk_mut::<4>()?;
            fixed.copy_from_slice(self.iv.get(..4)?);
            rest.copy_from_slice(explicit);
            sealed
        };
        let aad = header(sequence, record, sealed.len().checked_sub(TAG_BYTES)?)?;
        out.extend_from_slice(sealed);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = key.open_in_place(nonce, Aad::from(aad), out).ok()?.len();
        out.truncate(length);
        Some(())
    }

    fn open_aead13(
        &self,
        key: &LessSafeKey,
        record: Record<'_>,
        sequence: u64,
        out: &mut Vec<u8>,
    ) -> Option<u8> {
        let nonce = Nonce::assume_unique_for_key(self.mixed_nonce(sequence)?);
        let [high, low] = u16::try_from(record.body.len()).ok()?.to_be_bytes();
        let [major, minor] = record.version;
        out.extend_from_slice(record.body);
        let aad = Aad::from([record.kind, major, minor, high, low]);
        let length = key.open_in_place(nonce, aad, out).ok()?.len();
        out.truncate(length);
        // The type stands behind the content, and zeroes behind the type (RFC 8446 §5.2).
        let end = out.iter().rposition(|byte| *byte != 0)?;
        let kind = *out.get(end)?;
        out.truncate(end);
        Some(kind)
    }

    /// The sequence number on the IV's last 8 bytes.
    fn mixed_nonce(&self, sequence: u64) -> Option<[u8; NONCE_BYTES]> {
        let mut nonce = <[u8; NONCE_BYTES]>::try_from(self.iv.as_slice()).ok()?;
        for (byte, mixed) in nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()) {
            *byte ^= mixed;
        }
        Some(nonce)
    }
}

fn aead_key(protection: Protection, key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match protection {
        Protection::Aes128Gcm => &aead::AES_128_GCM,
        Protection::Aes256Gcm => &aead::AES_256_GCM,
        Protection::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        Protection::Aes128Cbc(_) | Protection::Aes256Cbc(_) => return None,
    };
    Some(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))
}

fn cbc(
    algorithm: &'static cipher::Algorithm,
    key: &[u8],
    mac: Mac,
    mac_key: &[u8],
    order: MacOrder,
) -> Option<Cipher> {
    let hash = match mac {
        Mac::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Mac::Sha256 => hmac::HMAC_SHA256,
        Mac::Sha384 => hmac::HMAC_SHA384,
    };
    let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
    let key = Box::new(key);
    Some(Cipher::Cbc { key, mac: Box::new(hmac::Key::new(hash, mac_key)), order })
}

/// ```text
/// 0 u64 sequence   8 u8 type   9 u16 version   11 u16 length of the content
/// ```
fn header(sequence: u64, record: Record<'_>, length: usize) -> Option<[u8; 13]> {
    let mut header = [0; 13];
    let (number, rest) = header.split_first_chunk_mut::<8>()?;
    *number = sequence.to_be_bytes();
    let ([major, minor], [high, low]) = (record.version, u16::try_from(length).ok()?.to_be_bytes());
    rest.copy_from_slice(&[record.kind, major, minor, high, low]);
    Some(header)
}

fn check(key: &hmac::Key, parts: &[&[u8]], tag: &[u8]) -> Option<()> {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    (context.sign().as_ref() == tag).then_some(())
}

/// `sealed`: the IV, then whole blocks.
fn decrypt_cbc(key: &DecryptingKey, sealed: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (iv, blocks) = sealed.split_first_chunk::<BLOCK_BYTES>()?;
    if blocks.is_empty() || blocks.len() % BLOCK_BYTES != 0 {
        return None;
    }
    out.extend_from_slice(blocks);
    key.decrypt(out, DecryptionContext::Iv128(FixedLength::from(iv))).ok().map(|_| ())
}

/// The last byte says how many bytes of the same value stand before it.
fn unpad(out: &mut Vec<u8>) -> Option<()> {
    let padding = *out.last()?;
    let length = out.len().checked_sub(usize::from(padding).checked_add(1)?)?;
    if out.get(length..)?.iter().any(|byte| *byte != padding) {
        return None;
    }
    out.truncate(length);
    Some(())
}
