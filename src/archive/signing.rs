//! The archive's signing key: Ed25519, in the forms that transparency logs use.
//!
//! Purpose: sign checkpoints as notes that other tools check too, and everything else detached.
//! Invariants: nothing prints a secret key; a detached signature is bound to what it was made for;
//! how long each signed part is, is signed too.
//! Non-goals: where the key's file is (see `cli::key_files`).
//! Sources: RFC 8032 (Ed25519); C2SP signed-note; Go's `sumdb/note` (the key files).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::merkle::sha256;
use super::secret::{KEY_BYTES, Secret};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// The algorithm's number in C2SP notes.
const ED25519_CODE: u8 = 1;
const SECRET_PREFIX: &str = "PRIVATE+KEY+";
/// A note is no longer than this, and has no more signatures.
const NOTE_BYTES_MAX: usize = 64 << 10;
const NOTE_SIGNATURES_MAX: usize = 64;

/// Signs what the archive finishes.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Secret,
    name: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey({})", self.name)
    }
}

/// Checks what the archive signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    public: [u8; KEY_BYTES],
}

/// Why a note is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// It has not the form of a signed note.
    #[error("it is no signed note")]
    Malformed,
    /// No signature in it is by this key.
    #[error("it is not signed by this key")]
    NotSigned,
    /// The signature by this key is wrong.
    #[error("its signature is wrong")]
    BadSignature,
}

impl SigningKey {
    /// The key that these 32 random bytes make. `name`: without `+` and white space.
    #[must_use]
    pub fn generate(name: &str, seed: [u8; KEY_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        let seed = Secret::from_slice(&seed)?;
        is_name(name).then(|| Self { pair, seed, name: name.to_owned() })
    }

    /// Reads the text of a key file: `PRIVATE+KEY+name+hash+base64`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().strip_prefix(SECRET_PREFIX)?.splitn(3, '+');
        let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
        let bytes = Zeroizing::new(STANDARD.decode(key).ok()?);
        let (code, seed) = bytes.split_first()?;
        let key = Self::generate(name, seed.try_into().ok()?)?;
        let known = *code == ED25519_CODE && hash == key.verifying_key().id_hex();
        known.then_some(key)
    }

    /// The text of its key file.
    #[must_use]
    pub fn file_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![ED25519_CODE]);
        bytes.extend_from_slice(self.seed.bytes());
        let encoded = Zeroizing::new(STANDARD.encode(bytes.as_slice()));
        let (name, hash) = (&self.name, self.verifying_key().id_hex());
        Zeroizing::new(format!("{SECRET_PREFIX}{name}+{hash}+{}\n", encoded.as_str()))
    }

    /// Its public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        let public = self.pair.public_key().as_ref().try_into().unwrap_or_default();
        VerifyingKey { name: self.name.clone(), public }
    }

    /// Signs `parts` for the end that `context` names.
    #[must_use]
    pub fn sign(&self, context: &str, parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
        let signature = self.pair.sign(&framed(context, parts));
        signature.as_ref().try_into().unwrap_or([0; SIGNATURE_BYTES])
    }
}

impl VerifyingKey {
    /// True if the key signed exactly these parts for this end.
    #[must_use]
    pub fn verify(
        &self,
        context: &str,
        parts: &[&[u8]],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> bool {
        self.is_signed(&framed(context, parts), signature)
    }

    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message, signature).is_ok()
    }

    /// The first 4 bytes of SHA-256 of name, line feed, algorithm and key (C2SP signed-note).
    fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.name.as_bytes(), b"\n", &[ED25519_CODE], &self.public]);
        hash.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    fn id_hex(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id()))
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_CODE][..], &self.public].concat();
        write!(out, "{}+{}+{}", self.name, self.id_hex(), STANDARD.encode(key))
    }
}

impl FromStr for VerifyingKey {
    type Err = NoteFault;

    fn from_str(text: &str) -> Result<Self, NoteFault> {
        let read = || {
            let mut parts = text.trim().splitn(3, '+');
            let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
            let bytes = STANDARD.decode(key).ok()?;
            let (code, public) = bytes.split_first()?;
            let key = Self { name: name.to_owned(), public: public.try_into().ok()? };
            let known = *code == ED25519_CODE && is_name(name) && hash == key.id_hex();
            known.then_some(key)
        };
        read().ok_or(NoteFault::Malformed)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| letter == '+' || letter.is_whitespace())
}

/// Context and parts, each behind its length, so that no two lists make the same bytes.
fn framed(context: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in std::iter::once(&context.as_bytes()).chain(parts) {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Signs a text that ends with a line feed as a note.
#[must_use]
pub fn sign_note(text: &str, key: &SigningKey) -> String {
    let signature = key.pair.sign(text.as_bytes());
    let signed = [&key.verifying_key().id()[..], signature.as_ref()].concat();
    format!("{text}\n— {} {}\n", key.name, STANDARD.encode(signed))
}

/// The text of a note that `key` signed. Signatures by other keys do not matter.
///
/// # Errors
/// `Malformed`, `NotSigned`, `BadSignature`.
pub fn open_note<'a>(bytes: &'a [u8], key: &VerifyingKey) -> Result<&'a str, NoteFault> {
    let note = std::str::from_utf8(bytes).map_err(|_| NoteFault::Malformed)?;
    let split = note.rfind("\n\n").filter(|_| bytes.len() <= NOTE_BYTES_MAX);
    let split = split.ok_or(NoteFault::Malformed)?;
    let (text, rest) = (note.get(..=split), note.get(split + 2..));
    let (text, rest) = text.zip(rest).ok_or(NoteFault::Malformed)?;
    let lines = rest.strip_suffix('\n').ok_or(NoteFault::Malformed)?;
    for (number, line) in lines.split('\n').enumerate() {
        let signature = line.strip_prefix("— ").and_then(|line| line.split_once(' '));
        let (name, signature) = signature.ok_or(NoteFault::Malformed)?;
        let signature = STANDARD.decode(signature).map_err(|_| NoteFault::Malformed)?;
        if number >= NOTE_SIGNATURES_MAX {
            return Err(NoteFault::Malformed);
        }
        let Some((id, signature)) = signature.split_first_chunk::<4>() else {
            return Err(NoteFault::Malformed);
        };
        if name == key.name && *id == key.id() {
            let right = key.is_signed(text.as_bytes(), signature);
            return if right { Ok(text) } else { Err(NoteFault::BadSignature) };
        }
    }
    Err(NoteFault::NotSigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::generate("callspan-test", [byte; 32]).expect("a key")
    }

    #[test]
    fn a_note_of_the_go_documentation_opens_with_its_key() {
        // golang.org/x/mod/sumdb/note, package example: PeterNeumann's key and note.
        let key: VerifyingKey =
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
                .parse()
                .expect("key");
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = format!(
            "{text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        );
        assert_eq!(open_note(note.as_bytes(), &key), Ok(text));
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn keys_read_back_and_print_no_secret() {
        let one = key(1);
        let again = SigningKey::parse(&one.file_text()).expect("reads back");
        assert_eq!(again.verifying_key(), one.verifying_key());
        assert_eq!(format!("{one:?}"), "SigningKey(callspan-test)");
        assert!(SigningKey::parse("PRIVATE+KEY+x+00000000+AAAA").is_none());
        assert!(SigningKey::generate("a b", [0; 32]).is_none());
    }

    #[test]
    fn every_flipped_byte_of_a_note_is_noticed() {
        let note = sign_note("one\ntwo\n", &key(1));
        let public = key(1).verifying_key();
        assert_eq!(open_note(note.as_bytes(), &public), Ok("one\ntwo\n"));
        assert_eq!(open_note(note.as_bytes(), &key(2).verifying_key()), Err(NoteFault::NotSigned));
        for place in 0..note.len() {
            let mut flipped = note.clone().into_bytes();
            flipped[place] ^= 1;
            assert!(open_note(&flipped, &public).is_err(), "byte {place}");
            assert!(open_note(&note.as_bytes()[..place], &public).is_err(), "cut {place}");
        }
    }

    #[test]
    fn a_detached_signature_is_for_its_context_and_parts_alone() {
        let signature = key(1).sign("a", &[b"bc", b"d"]);
        let public = key(1).verifying_key();
        assert!(public.verify("a", &[b"bc", b"d"], &signature));
        assert!(!public.verify("a", &[b"b", b"cd"], &signature));
        assert!(!public.verify("ab", &[b"c", b"d"], &signature));
        assert!(!public.verify("a", &[b"bc"], &signature));
        assert!(!key(2).verifying_key().verify("a", &[b"bc", b"d"], &signature));
    }
}
