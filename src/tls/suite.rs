//! Cipher suites that can be opened.
//!
//! Purpose: from a suite's number to what protects its records.
//! Invariants: a suite that is not listed is `None`, never a guess.
//! Non-goals: CCM, ARIA, Camellia, RC4, 3DES and suites without encryption; how strong a suite is.
//! Sources: the TLS Cipher Suites registry of IANA; RFC 5246 A.5, 5288, 5289, 5487, 5489, 7905, 8446 B.4.

/// The hash of a suite's key derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl Hash {
    /// Bytes of its output.
    #[must_use]
    pub const fn len_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// What protects a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Cbc(Mac),
    Aes256Cbc(Mac),
}

impl Protection {
    pub(super) const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Cbc(_) => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 | Self::Aes256Cbc(_) => 32,
        }
    }

    /// Bytes of the part of the nonce that both ends derive in TLS 1.2 (none for CBC since 1.1).
    pub(super) const fn fixed_iv_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 4,
            Self::ChaCha20Poly1305 => 12,
            Self::Aes128Cbc(_) | Self::Aes256Cbc(_) => 0,
        }
    }

    pub(super) const fn mac_bytes(self) -> usize {
        match self {
            Self::Aes128Cbc(mac) | Self::Aes256Cbc(mac) => mac.len_bytes(),
            _ => 0,
        }
    }
}

/// The hash of a CBC suite's HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mac {
    Sha1,
    Sha256,
    Sha384,
}

impl Mac {
    pub(super) const fn len_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// How the two ends agreed on the pre-master secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The client sent it, encrypted to the server's RSA key.
    StaticRsa,
    /// So that only a key log can tell.
    Other,
}

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) exchange: Exchange,
    pub(super) protection: Protection,
    pub(super) hash: Hash,
}

impl Suite {
    /// By the number in a ServerHello.
    pub(super) fn from_registry(number: u16) -> Option<Self> {
        use Protection::{Aes128Cbc, Aes128Gcm, Aes256Cbc, Aes256Gcm, ChaCha20Poly1305};
        let exchange = match number {
            0x002f | 0x0035 | 0x003c | 0x003d | 0x009c | 0x009d => Exchange::StaticRsa,
            _ => Exchange::Other,
        };
        let (protection, hash) = match number {
            // RSA, DH, DHE with SHA-1, then PSK and ECDH(E).
            0x002f..=0x0034 | 0x008c | 0x0090 | 0x0094 => (Aes128Cbc(Mac::Sha1), Hash::Sha256),
            0x0035..=0x003a | 0x008d | 0x0091 | 0x0095 => (Aes256Cbc(Mac::Sha1), Hash::Sha256),
            0xc004 | 0xc009 | 0xc00e | 0xc013 | 0xc018 | 0xc035 => {
                (Aes128Cbc(Mac::Sha1), Hash::Sha256)
            }
            0xc005 | 0xc00a | 0xc00f | 0xc014 | 0xc019 | 0xc036 => {
                (Aes256Cbc(Mac::Sha1), Hash::Sha256)
            }
            0x003c | 0x003e..=0x0040 | 0x0067 | 0x006c | 0x00ae | 0x00b2 | 0x00b6 => {
                (Aes128Cbc(Mac::Sha256), Hash::Sha256)
            }
            0xc023 | 0xc025 | 0xc027 | 0xc029 | 0xc037 => (Aes128Cbc(Mac::Sha256), Hash::Sha256),
            0x003d | 0x0068..=0x006b | 0x006d => (Aes256Cbc(Mac::Sha256), Hash::Sha256),
            0xc024 | 0xc026 | 0xc028 | 0xc02a | 0xc038 | 0x00af | 0x00b3 | 0x00b7 => {
                (Aes256Cbc(Mac::Sha384), Hash::Sha384)
            }
            0x009c | 0x009e | 0x00a0 | 0x00a2 | 0x00a4 | 0x00a6 | 0x00a8 | 0x00aa | 0x00ac => {
                (Aes128Gcm, Hash::Sha256)
            }
            0x009d | 0x009f | 0x00a1 | 0x00a3 | 0x00a5 | 0x00a7 | 0x00a9 | 0x00ab | 0x00ad => {
                (Aes256Gcm, Hash::Sha384)
            }
            0xc02b | 0xc02d | 0xc02f | 0xc031 | 0xd001 | 0x1301 => (Aes128Gcm, Hash::Sha256),
            0xc02c | 0xc02e | 0xc030 | 0xc032 | 0xd002 | 0x1302 => (Aes256Gcm, Hash::Sha384),
            0xcca8..=0xccae | 0x1303 => (ChaCha20Poly1305, Hash::Sha256),
            _ => return None,
        };
        Some(Self { exchange, protection, hash })
    }
}
