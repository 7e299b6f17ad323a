//! A server's RSA key, which opens connections that sent the pre-master secret encrypted to it.
//!
//! Purpose: read a PEM file's text, and decrypt pre-master secrets.
//! Invariants: the key is not shown by `Debug`; a text that is no RSA key says what it is instead.
//! Non-goals: certificates, keys with a passphrase; connections with ephemeral keys (all of TLS 1.3, most of 1.2), which
//! no server's key can open.
//! Sources: RFC 7468 (PEM), RFC 8017 A.1.2 and RFC 5208 (the two forms), RFC 5246 §7.4.7.1.

use std::fmt;

use aws_lc_rs::rsa::{Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Bytes of a pre-master secret: the version, then 46 random ones.
const PRE_MASTER_BYTES: usize = 48;

/// Why a text is no key for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaKeyError {
    /// No PEM block of a private key.
    #[error("it holds no PEM block `PRIVATE KEY` or `RSA PRIVATE KEY`")]
    NoKey,
    /// It is under a passphrase.
    #[error("its key is encrypted: take the passphrase off (openssl pkey -in FILE -out NEW)")]
    Encrypted,
    /// Another algorithm, or damaged.
    #[error("its key is not an RSA key of 2048 to 8192 bits")]
    NotRsa,
}

/// An RSA private key.
pub struct RsaKey(Pkcs1PrivateDecryptingKey);

impl fmt::Debug for RsaKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RsaKey(…)")
    }
}

impl RsaKey {
    /// Reads the first private key of a PEM text.
    ///
    /// # Errors
    /// See [`RsaKeyError`].
    pub fn from_pem(text: &str) -> Result<Self, RsaKeyError> {
        if text.contains("ENCRYPTED") {
            return Err(RsaKeyError::Encrypted);
        }
        let pkcs8 = match (block(text, "PRIVATE KEY"), block(text, "RSA PRIVATE KEY")) {
            (Some(pkcs8), _) => pkcs8,
            (None, Some(pkcs1)) => wrapped(&pkcs1).ok_or(RsaKeyError::NotRsa)?,
            (None, None) => return Err(RsaKeyError::NoKey),
        };
        let key = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| RsaKeyError::NotRsa)?;
        let key = Pkcs1PrivateDecryptingKey::new(key).map_err(|_| RsaKeyError::NotRsa)?;
        Ok(Self(key))
    }

    /// The pre-master secret, or `None` when it was encrypted to another key.
    pub(super) fn decrypt(&self, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if encrypted.len() != self.0.key_size_bytes() {
            return None;
        }
        let mut room = Zeroizing::new(vec![0; self.0.min_output_size()]);
        let length = self.0.decrypt(encrypted, &mut room).ok()?.len();
        room.truncate(length);
        (length == PRE_MASTER_BYTES).then_some(room)
    }
}

fn block(text: &str, name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (begin, end) =
        (["-----BEGIN ", name, "-----"].concat(), ["-----END ", name, "-----"].concat());
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    let body: Zeroizing<Vec<u8>> =
        Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    STANDARD.decode(&*body).ok().map(Zeroizing::new)
}

/// The PKCS #8 form around a PKCS #1 key.
///
/// ```text
/// SEQUENCE { INTEGER 0, SEQUENCE { OID rsaEncryption, NULL }, OCTET STRING { key } }
/// ```
fn wrapped(pkcs1: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const HEAD: [u8; 18] =
        [2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let inner = u16::try_from(pkcs1.len()).ok()?;
    let outer = inner.checked_add(22)?.to_be_bytes();
    let inner = inner.to_be_bytes();
    let parts = [&[0x30, 0x82][..], &outer, &HEAD, &[4, 0x82], &inner, pkcs1];
    Some(Zeroizing::new(parts.concat()))
}
