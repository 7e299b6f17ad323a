//! One SRTP master key at work: session keys derived from it, packets authenticated and decrypted.
//!
//! Purpose: RTP and RTCP packets of one sender to what was in them.
//! Invariants: nothing is decrypted before its tag was right; output is written only then; one
//! pass over the packet for each roll-over counter that is tried.
//! Non-goals: which key and which roll-over counter (see `srtp`), replay (a recorder hears a
//! replayed packet as a duplicate), protecting packets.
//! Sources: RFC 3711 §3.3, §3.4, §4.1.1, §4.2, §4.3; RFC 6188 §3; RFC 7714 §8, §9, §11.
//!
//! ```text
//! SRTP   | header | ciphertext ........ | MKI | tag |     HMAC over header, ciphertext and counter
//!        | header | ciphertext and tag  | MKI |           GCM: the header is associated data
//! SRTCP  | 8 bytes | ciphertext ... | E, index | MKI | tag |
//!        | 8 bytes | ciphertext and tag | E, index | MKI |
//! ```

use super::header::RtpView;
use super::srtp_key::{Secrecy, SrtpKey};
use super::srtp_suite::SrtpSuite;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, AES_256_KEY_LEN, DecryptingKey, DecryptionContext, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a salt in counter mode; the 12 of GCM are read with zeros behind them (RFC 7714 §11).
const SALT_LEN_BYTES: usize = 14;
/// Bytes of an HMAC-SHA1 key (RFC 3711 §4.2.1).
const AUTH_KEY_LEN_BYTES: usize = 20;
/// Bytes of a GCM tag.
const GCM_TAG_LEN_BYTES: usize = 16;
/// Bytes of an RTCP packet that are never encrypted.
const RTCP_CLEAR_LEN_BYTES: usize = 8;
/// The bit of the SRTCP index word that says "encrypted".
const RTCP_ENCRYPTED: u32 = 1 << 31;

/// How a packet is opened.
enum Transform {
    /// AES in counter mode with HMAC.
    Counter(Box<CounterMode>),
    /// Both in one.
    Gcm(LessSafeKey),
}

/// `cipher`: where the payload is ciphertext.
struct CounterMode {
    cipher: Option<DecryptingKey>,
    auth: hmac::Key,
    tag_len_bytes: usize,
}

/// Session keys of RTP, or of RTCP.
struct SessionKeys {
    transform: Transform,
    salt: Zeroizing<[u8; SALT_LEN_BYTES]>,
}

/// A master key, ready to open packets.
pub struct SrtpSession {
    key: SrtpKey,
    derived: Vec<Derived>,
}

/// What one way of derivation makes of a master key.
struct Derived {
    rtp: SessionKeys,
    rtcp: SessionKeys,
}

impl fmt::Debug for SrtpSession {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SrtpSession({}, …)", self.key.suite().name())
    }
}

/// A protected packet in its parts.
struct Parts<'a> {
    header: &'a [u8],
    ciphertext: &'a [u8],
    tag: &'a [u8],
}

impl SrtpSession {
    /// Derives the session keys; `None` for a key of the wrong length.
    ///
    /// The key derivation rate is 0: keys are derived once (RFC 3711 §4.3.1). Keys of 192 bits are
    /// derived in two ways, RFC 6188's and that of libsrtp up to 2.x, which reads key and salt, with
    /// zeros behind them, as a key of 256 bits and its salt; phones built on it understand each other.
    #[must_use]
    pub fn new(key: SrtpKey) -> Option<Self> {
        let (master, salt) = key.parts()?;
        let mut derived = vec![Derived::new(&key, master, salt)?];
        if master.len() == 24 {
            let mut joined = Zeroizing::new([master, salt].concat());
            joined.resize(AES_256_KEY_LEN.saturating_add(SALT_LEN_BYTES), 0);
            let (master, salt) = joined.split_at_checked(AES_256_KEY_LEN)?;
            derived.push(Derived::new(&key, master, salt)?);
        }
        Some(Self { key, derived })
    }

    /// The master key.
    #[must_use]
    pub const fn key(&self) -> &SrtpKey {
        &self.key
    }

    /// Opens an RTP packet with the first of `rocs` (roll-over counters) that authenticates it, and
    /// returns that one. `out` becomes the packet without MKI and tag, its payload decrypted; it is
    /// not touched when none does.
    /// Source: RFC 3711 §3.3, RFC 7714 §8.
    pub fn unprotect(
        &self,
        packet: &[u8],
        rocs: &(impl Iterator<Item = u32> + Clone),
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let (first, rest) = self.derived.split_first()?;
        self.open_rtp(first, packet, rocs.clone(), out).or_else(|| {
            rest.iter().find_map(|other| self.open_rtp(other, packet, rocs.clone(), out))
        })
    }

    fn open_rtp(
        &self,
        derived: &Derived,
        packet: &[u8],
        mut rocs: impl Iterator<Item = u32>,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let view = RtpView::parse_header(packet).ok()?;
        let header = view.header_bytes();
        let (ssrc, seq) = (view.ssrc().0, view.seq());
        let SessionKeys { transform, salt } = &derived.rtp;
        let parts = self.split(transform, packet, header.len())?;
        match transform {
            Transform::Counter(mode) => {
                let CounterMode { cipher, auth, .. } = &**mode;
                let mut before = hmac::Context::with_key(auth);
                before.update(parts.header);
                before.update(parts.ciphertext);
                let roc = rocs.find(|roc| {
                    let mut whole = before.clone();
                    whole.update(&roc.to_be_bytes());
                    is_tag(&whole.sign(), parts.tag)
                })?;
                out.clear();
                out.extend_from_slice(parts.header);
                out.extend_from_slice(parts.ciphertext);
                if let Some(cipher) = cipher {
                    let index = u64::from(roc) << 16 | u64::from(seq);
                    let iv = counter_block(salt, ssrc, index);
                    decrypt(cipher, out.get_mut(header.len()..)?, iv)?;
                }
                Some(roc)
            }
            Transform::Gcm(key) => {
                let mut plain = vec![0; parts.ciphertext.len()];
                let roc = rocs.find(|roc| {
                    let nonce = rtp_nonce(salt, ssrc, *roc, seq);
                    open(key, nonce, parts.header, &parts, &mut plain).is_some()
                })?;
                out.clear();
                out.extend_from_slice(header);
                out.extend_from_slice(&plain);
                Some(roc)
            }
        }
    }

    /// Opens an RTCP packet, compound or of reduced size: `out` becomes it without index, MKI and
    /// tag, decrypted. `None`, and `out` untouched, when it is not authentic.
    /// Source: RFC 3711 §3.4, RFC 7714 §9.
    pub fn unprotect_rtcp(&self, packet: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.derived.iter().find_map(|derived| self.open_rtcp(derived, packet, out))
    }

    fn open_rtcp(&self, derived: &Derived, packet: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let header = packet.get(..RTCP_CLEAR_LEN_BYTES)?;
        let ssrc = u32::from_be_bytes(*header.last_chunk::<4>()?);
        let SessionKeys { transform, salt } = &derived.rtcp;
        match transform {
            Transform::Counter(mode) => {
                let CounterMode { cipher, auth, tag_len_bytes } = &**mode;
                let (packet, tag) = split_end(packet, *tag_len_bytes)?;
                let authenticated = self.without_mki(packet)?;
                let (body, word) = split_word(authenticated)?;
                let payload = body.get(RTCP_CLEAR_LEN_BYTES..)?;
                is_tag(&hmac::sign(auth, authenticated), tag).then_some(())?;
                out.clear();
                out.extend_from_slice(header);
                out.extend_from_slice(payload);
                if let Some(cipher) = cipher.as_ref().filter(|_| word & RTCP_ENCRYPTED != 0) {
                    let index = u64::from(word & !RTCP_ENCRYPTED);
                    let iv = counter_block(salt, ssrc, index);
                    decrypt(cipher, out.get_mut(RTCP_CLEAR_LEN_BYTES..)?, iv)?;
                }
            }
            Transform::Gcm(key) => {
                let (sealed, word) = split_word(self.without_mki(packet)?)?;
                let (body, tag) = split_end(sealed, GCM_TAG_LEN_BYTES)?;
                let payload = body.get(RTCP_CLEAR_LEN_BYTES..)?;
                let (clear, ciphertext) =
                    if word & RTCP_ENCRYPTED != 0 { (header, payload) } else { (body, &[][..]) };
                let mut associated = clear.to_vec();
                associated.extend_from_slice(&word.to_be_bytes());
                let nonce = rtcp_nonce(salt, ssrc, word & !RTCP_ENCRYPTED);
                let mut plain = vec![0; ciphertext.len()];
                let parts = Parts { header: clear, ciphertext, tag };
                open(key, nonce, &associated, &parts, &mut plain)?;
                out.clear();
                out.extend_from_slice(clear);
                out.extend_from_slice(&plain);
            }
        }
        Some(())
    }

    fn split<'a>(
        &self,
        transform: &Transform,
        packet: &'a [u8],
        header_len_bytes: usize,
    ) -> Option<Parts<'a>> {
        let (header, rest) = packet.split_at_checked(header_len_bytes)?;
        let (ciphertext, tag) = match transform {
            Transform::Counter(mode) => {
                let (rest, tag) = split_end(rest, mode.tag_len_bytes)?;
                (self.without_mki(rest)?, tag)
            }
            Transform::Gcm(_) => split_end(self.without_mki(rest)?, GCM_TAG_LEN_BYTES)?,
        };
        Some(Parts { header, ciphertext, tag })
    }

    /// What stands before this key's MKI; `None` for packets of another key.
    fn without_mki<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.strip_suffix(self.key.mki())
    }
}

impl Derived {
    fn new(key: &SrtpKey, master: &[u8], salt: &[u8]) -> Option<Self> {
        let suite = key.suite();
        let rtp = (key.rtp_secrecy(), suite.tag_len_bytes());
        // RTCP says of each packet whether it is encrypted.
        let secrecy = if suite.is_null() { Secrecy::Unencrypted } else { Secrecy::Encrypted };
        let rtcp = (secrecy, suite.rtcp_tag_len_bytes());
        let derive =
            |first_label, with| SessionKeys::derive(suite, (master, salt), first_label, with);
        Some(Self { rtp: derive(0, rtp)?, rtcp: derive(3, rtcp)? })
    }
}

impl SessionKeys {
    /// `first_label`: 0 for RTP, 3 for RTCP (RFC 3711 §4.3.2); encryption, authentication and salt
    /// follow each other.
    fn derive(
        suite: SrtpSuite,
        (master, salt): (&[u8], &[u8]),
        first_label: u8,
        (secrecy, tag_len_bytes): (Secrecy, usize),
    ) -> Option<Self> {
        let derive = |label: u8, out: &mut [u8]| {
            derive_key(master, salt, first_label.saturating_add(label), out)
        };
        let mut session_key = Zeroizing::new(vec![0; suite.key_len_bytes()]);
        derive(0, &mut session_key)?;
        let mut session_salt = Zeroizing::new([0; SALT_LEN_BYTES]);
        derive(2, session_salt.get_mut(..suite.salt_len_bytes())?)?;
        let transform = if suite.is_aead() {
            let algorithm = if suite == SrtpSuite::Gcm128 { &AES_128_GCM } else { &AES_256_GCM };
            Transform::Gcm(LessSafeKey::new(UnboundKey::new(algorithm, &session_key).ok()?))
        } else {
            let mut auth = Zeroizing::new([0; AUTH_KEY_LEN_BYTES]);
            derive(1, auth.as_mut())?;
            let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth.as_ref());
            let cipher = match secrecy {
                Secrecy::Encrypted => Some(counter_cipher(&session_key)?),
                Secrecy::Unencrypted => None,
            };
            Transform::Counter(Box::new(CounterMode { cipher, auth, tag_len_bytes }))
        };
        Some(Self { transform, salt: session_salt })
    }
}

/// The AES-CM pseudo-random function with a key derivation rate of 0.
/// Source: RFC 3711 §4.3.1 and §4.3.3, RFC 6188 §3 (longer keys).
fn derive_key(master: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut block = [0; 16];
    block.get_mut(..salt.len())?.copy_from_slice(salt);
    // The label stands above the 48 bits of the packet index, at the right end of the salt.
    let [.., at, _, _, _, _, _, _, _, _] = &mut block;
    *at ^= label;
    out.fill(0);
    decrypt(&counter_cipher(master)?, out, block)
}

fn counter_cipher(key: &[u8]) -> Option<DecryptingKey> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return None,
    };
    DecryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

fn decrypt(cipher: &DecryptingKey, bytes: &mut [u8], block: [u8; 16]) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let context = DecryptionContext::Iv128(FixedLength::from(block));
    cipher.decrypt(bytes, context).ok().map(|_| ())
}

/// The first counter block of a packet: salt · 2^16 xor SSRC · 2^64 xor index · 2^16.
/// Source: RFC 3711 §4.1.1.
fn counter_block(salt: &[u8; SALT_LEN_BYTES], ssrc: u32, index: u64) -> [u8; 16] {
    let salt = salt.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte)) << 16;
    (salt ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16).to_be_bytes()
}

/// Source: RFC 7714 §8.1.
fn rtp_nonce(salt: &[u8; SALT_LEN_BYTES], ssrc: u32, roc: u32, seq: u16) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 ^ u128::from(roc) << 16 ^ u128::from(seq))
}

/// Source: RFC 7714 §9.1.
fn rtcp_nonce(salt: &[u8; SALT_LEN_BYTES], ssrc: u32, index: u32) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 ^ u128::from(index))
}

fn nonce(salt: &[u8; SALT_LEN_BYTES], number: u128) -> Nonce {
    let mut bytes = [0; 12];
    let [_, _, _, _, number @ ..] = number.to_be_bytes();
    for (byte, (salt, number)) in bytes.iter_mut().zip(salt.iter().zip(number)) {
        *byte = salt ^ number;
    }
    Nonce::assume_unique_for_key(bytes)
}

fn open(
    key: &LessSafeKey,
    nonce: Nonce,
    associated: &[u8],
    parts: &Parts<'_>,
    plain: &mut [u8],
) -> Option<()> {
    let associated = Aad::from(associated);
    key.open_separate_gather(nonce, associated, parts.ciphertext, parts.tag, plain).ok()
}

fn is_tag(whole: &hmac::Tag, tag: &[u8]) -> bool {
    let expected = whole.as_ref().get(..tag.len());
    !tag.is_empty()
        && expected.is_some_and(|expected| verify_slices_are_equal(expected, tag).is_ok())
}

fn split_end(bytes: &[u8], len_bytes: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(len_bytes)?)
}

/// The last four bytes, as a number, and what is before them.
fn split_word(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let (rest, word) = bytes.split_last_chunk::<4>()?;
    Some((rest, u32::from_be_bytes(*word)))
}

#[cfg(test)]
#[path = "srtp_session_tests.rs"]
mod tests;
