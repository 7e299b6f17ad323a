//! The archive's signing key, and the two kinds of signatures that it makes.
//!
//! Purpose: sign checkpoints as notes that any transparency tool can check, and other statements
//! (tombstones, audit entries) with a detached signature.
//! Invariants: a secret is wiped when dropped and never printed; a detached signature can be taken
//! neither for one of another context nor for that of a note: what it signs begins with a byte
//! that no note may hold; a note is believed only after the given key's signature was checked.
//! Non-goals: where keys are kept (outside of the archive), and what a note says (`checkpoint`).
//! Sources: C2SP signed-note (format, key ids); Go's sumdb/note (the two keys' text forms);
//! RFC 8032 (Ed25519).

use std::fmt;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize as _, Zeroizing};

use super::merkle::sha256;
use crate::base::limits::{KEY_NAME_BYTES_MAX, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX};

/// Type byte of Ed25519 in keys and key ids (C2SP signed-note, "Signature types").
const ED25519_TYPE: u8 = 1;
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";
/// In front of each signature line: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// Begins what a detached signature signs. Notes hold no byte 0.
const DETACHED_PREFIX: &[u8] = b"\0callspan detached signature 1\0";

/// The public half: a name, and the 32 bytes of RFC 8032.
///
/// Its text is `name+hex8+base64(0x01, key)`, the "vkey" of Go's sumdb/note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    key: [u8; 32],
    id: [u8; 4],
}

impl VerifyingKey {
    /// A key of this name; `None` if the name is empty, over 128 bytes, or holds white space, `+` or
    /// control characters. Whether `key` is a point of the curve is not checked: if it is not, no
    /// signature verifies.
    #[must_use]
    pub fn new(name: &str, key: [u8; 32]) -> Option<Self> {
        if !is_key_name(name) {
            return None;
        }
        let hash = sha256(&[name.as_bytes(), b"\n", &[ED25519_TYPE], &key]);
        let (id, _) = hash.as_bytes().split_first_chunk::<4>()?;
        Some(Self { name: name.to_owned(), key, id: *id })
    }

    /// Reads the one spelling that `Display` writes, line breaks at the end aside; `None` if it is
    /// anything else, or if the id is not that of name and key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\n', '\r']);
        let (name, rest) = text.split_once('+')?;
        let (_, encoded) = rest.split_once('+')?;
        let bytes: [u8; 33] = STANDARD.decode(encoded).ok()?.try_into().ok()?;
        let (kind, key) = bytes.split_first_chunk::<1>()?;
        let key = Self::new(name, key.try_into().ok()?)?;
        (*kind == [ED25519_TYPE] && key.to_string() == text).then_some(key)
    }

    /// The name, as signature lines have it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id: the first four bytes of SHA-256 of name, newline, 0x01 and key.
    #[must_use]
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The 32 bytes of RFC 8032 §5.1.5.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// True if `signature` is that of [`SigningKey::sign`] over the same context and parts.
    #[must_use]
    pub fn verify(&self, context: &str, parts: &[&[u8]], signature: &[u8; 64]) -> bool {
        self.has_signed(&framed(context, parts), signature)
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key).verify(message, signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [ED25519_TYPE; 33];
        bytes.iter_mut().skip(1).zip(self.key).for_each(|(byte, from)| *byte = from);
        let id = u32::from_be_bytes(self.id);
        write!(out, "{}+{id:08x}+{}", self.name, STANDARD.encode(bytes))
    }
}

/// The secret half; `Debug` shows the public one.
#[derive(Clone)]
pub struct SigningKey {
    public: VerifyingKey,
    seed: Zeroizing<[u8; 32]>,
    // AWS-LC wipes whatever it frees.
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey({})", self.public)
    }
}

impl SigningKey {
    /// A new key, of random bytes of the system; `None` for a name that [`VerifyingKey::new`]
    /// refuses, or if there are no random bytes.
    #[must_use]
    pub fn generate(name: &str) -> Option<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(seed.as_mut_slice()).ok()?;
        Self::from_seed(name, *seed)
    }

    /// The key of 32 random bytes (`Disk::random`); `None` for a name that [`VerifyingKey::new`]
    /// refuses. The caller wipes its own copy of the seed.
    #[must_use]
    pub fn from_seed(name: &str, mut seed: [u8; 32]) -> Option<Self> {
        let kept = Zeroizing::new(seed);
        seed.zeroize();
        let pair = Ed25519KeyPair::from_seed_unchecked(kept.as_slice()).ok()?;
        let key = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { public: VerifyingKey::new(name, key)?, seed: kept, pair })
    }

    /// Reads what [`Self::file_text`] writes, or Go's sumdb/note; `None` if it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.trim_end_matches(['\n', '\r']).strip_prefix(PRIVATE_PREFIX)?;
        let (name, rest) = rest.split_once('+')?;
        let (id, encoded) = rest.split_once('+')?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let (kind, seed) = bytes.split_first()?;
        let key = Self::from_seed(name, seed.try_into().ok()?)?;
        let same_id = format!("{:08x}", u32::from_be_bytes(key.public.id)) == id;
        (*kind == ED25519_TYPE && same_id).then_some(key)
    }

    /// One line for a file of mode 0600: `PRIVATE+KEY+name+hex8+base64(0x01, seed)`.
    #[must_use]
    pub fn file_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ED25519_TYPE; 33]);
        bytes.iter_mut().skip(1).zip(self.seed.iter()).for_each(|(byte, from)| *byte = *from);
        let id = u32::from_be_bytes(self.public.id);
        // Room for all of it: a string that grows would leave parts of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(96 + self.public.name.len()));
        text.push_str(PRIVATE_PREFIX);
        text.push_str(&self.public.name);
        for part in ["+", &format!("{id:08x}"), "+"] {
            text.push_str(part);
        }
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        text.push('\n');
        text
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    /// The signature over a context, which says what is signed, and any number of parts. Lengths
    /// are signed too, so no byte can move from one part to the next.
    ///
    /// # Panics
    /// If AWS-LC is out of memory.
    #[must_use]
    pub fn sign(&self, context: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.sign_bytes(&framed(context, parts))
    }

    fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        let signature = self.pair.sign(message);
        bytes.iter_mut().zip(signature.as_ref()).for_each(|(byte, from)| *byte = *from);
        bytes
    }
}

/// What a detached signature signs: a prefix, then context, count of parts and parts, each with its
/// length (u64, little-endian) in front.
fn framed(context: &str, parts: &[&[u8]]) -> Vec<u8> {
    let len = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes();
    let mut message = DETACHED_PREFIX.to_vec();
    message.extend_from_slice(&len(context.as_bytes()));
    message.extend_from_slice(context.as_bytes());
    message.extend_from_slice(&(parts.len() as u64).to_le_bytes());
    for part in parts {
        message.extend_from_slice(&len(part));
        message.extend_from_slice(part);
    }
    message
}

fn is_key_name(name: &str) -> bool {
    let plain = |letter: char| !letter.is_whitespace() && !letter.is_control() && letter != '+';
    !name.is_empty() && name.len() <= KEY_NAME_BYTES_MAX && name.chars().all(plain)
}

/// Why a note is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// Over [`NOTE_BYTES_MAX`] bytes or [`NOTE_SIGNATURES_MAX`] signatures.
    #[error("the note is too long")]
    TooLong,
    /// No UTF-8, or control characters other than newline.
    #[error("the note is not text")]
    NotText,
    /// No text, blank line and signatures in this order, or a malformed signature line.
    #[error("the note is not a signed note")]
    Malformed,
    /// None of the signatures is of the given key.
    #[error("the note is not signed with the expected key")]
    OtherKey,
    /// A signature with the key's name and id is wrong.
    #[error("the note's signature does not match its text")]
    WrongSignature,
}

impl NoteFault {
    /// Metric label: the variant in snake_case.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotText => "not_text",
            Self::Malformed => "malformed",
            Self::OtherKey => "other_key",
            Self::WrongSignature => "wrong_signature",
        }
    }
}

/// `text`, a blank line, and one line with the key's signature over `text`.
///
/// `text` ends with a newline, and has no other control characters; other texts make a note that
/// [`open_note`] refuses.
///
/// # Panics
/// If AWS-LC is out of memory.
/// Source: C2SP signed-note.
#[must_use]
pub fn sign_note(text: &str, key: &SigningKey) -> String {
    let signature = key.sign_bytes(text.as_bytes());
    let bytes = [&key.public.id[..], &signature].concat();
    format!("{text}\n{SIGNATURE_PREFIX}{} {}\n", key.public.name, STANDARD.encode(bytes))
}

/// The text of a note that `key` has signed, its last newline included.
///
/// Signatures of other keys are not looked at. Any input is safe.
///
/// # Errors
/// Any [`NoteFault`]; then nothing of the note may be believed.
/// Source: C2SP signed-note.
pub fn open_note<'a>(bytes: &'a [u8], key: &VerifyingKey) -> Result<&'a str, NoteFault> {
    let (text, lines) = split_note(bytes)?;
    let (mut count, mut is_signed) = (0, false);
    for line in lines.split('\n') {
        count += 1;
        if count > NOTE_SIGNATURES_MAX {
            return Err(NoteFault::TooLong);
        }
        let (name, id, signature) = signature_line(line).ok_or(NoteFault::Malformed)?;
        if name == key.name && id == key.id {
            if !key.has_signed(text.as_bytes(), &signature) {
                return Err(NoteFault::WrongSignature);
            }
            is_signed = true;
        }
    }
    if is_signed { Ok(text) } else { Err(NoteFault::OtherKey) }
}

/// The text of a note whose signatures nobody has checked: to see which key or archive it names,
/// and to say more than that without a key only as "not proven".
///
/// # Errors
/// `TooLong`, `NotText`, `Malformed` (signature lines are not looked at).
pub fn unchecked_text(bytes: &[u8]) -> Result<&str, NoteFault> {
    split_note(bytes).map(|(text, _)| text)
}

/// The text, and the signature lines without the last one's newline.
fn split_note(bytes: &[u8]) -> Result<(&str, &str), NoteFault> {
    if bytes.len() > NOTE_BYTES_MAX {
        return Err(NoteFault::TooLong);
    }
    let note = std::str::from_utf8(bytes).map_err(|_| NoteFault::NotText)?;
    if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteFault::NotText);
    }
    // The text may hold blank lines: the last one is what separates.
    let blank = note.rfind("\n\n").ok_or(NoteFault::Malformed)?;
    let (text, rest) = note.split_at(blank + 1);
    let lines = rest.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    Ok((text, lines.ok_or(NoteFault::Malformed)?))
}

/// Key name, key id and signature of one line.
fn signature_line(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    let plain = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
    (plain && !signature.is_empty()).then(|| (name, *id, signature.to_vec()))
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
