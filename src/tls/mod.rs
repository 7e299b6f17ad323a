//! TLS as a silent listener: secrets that the endpoints logged, and what they open.
//!
//! Purpose: turn a captured TLS connection into the bytes that were said in it, when somebody handed over its secrets.
//! Invariants: no secret is printed, and each is wiped when it is dropped; nothing here opens a file or a socket;
//! everything that the wire or a key log can make grow is bounded by `base::limits`.
//! Non-goals: taking part in a handshake, judging certificates, breaking a connection whose secrets nobody gave.
//! Sources: RFC 5246 (TLS 1.2), RFC 8446 (TLS 1.3), RFC 9850 (the key log format).

mod cipher;
mod connection;
pub mod derive;
pub mod dtls;
pub mod fuzz;
mod half;
mod handshake;
pub mod key_log;
mod records;
mod rsa_key;
pub mod suite;

use std::sync::Arc;

pub use connection::{TlsConnection, TlsStatus};
pub use dtls::{DtlsHandshake, DtlsSrtpKeys};
pub use key_log::{KeyLabel, KeyLog, KeyLogCounts, KeyLogParser, KeySecret};
pub use records::{Opening, is_record, opening};
pub use rsa_key::{RsaKey, RsaKeyError};

/// What the operator gave to read TLS with; clones share it.
#[derive(Clone, Debug, Default)]
pub struct TlsKeys {
    /// Secrets of single connections.
    pub log: KeyLog,
    /// A server's key, for connections without ephemeral keys.
    pub rsa: Option<Arc<RsaKey>>,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who sent the ClientHello.
    Client,
    /// Who answered it.
    Server,
}

/// Whether bytes follow those before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They do.
    Contiguous,
    /// Bytes before these are missing.
    AfterGap,
}

/// Why a connection cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// A hello is missing: the capture began in the middle, or lost it.
    HelloNotSeen,
    /// Older than TLS 1.2.
    UnsupportedVersion,
    /// A suite that is not read here.
    UnsupportedSuite,
    /// Not TLS after all.
    NotTls,
    /// The logged secrets do not open it, or too much of it was lost.
    DoesNotOpen,
}

impl TlsFault {
    /// True when it holds for both directions.
    const fn is_final(self) -> bool {
        !matches!(self, Self::DoesNotOpen)
    }
}
