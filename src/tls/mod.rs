//! TLS as a silent listener: secrets that the endpoints logged, and what they open.
//!
//! Purpose: turn a captured TLS connection into the bytes that were said in it, when somebody handed over its secrets.
//! Invariants: no secret is printed, and each is wiped when it is dropped; nothing here opens a file or a socket;
//! everything that the wire or a key log can make grow is bounded by `base::limits`.
//! Non-goals: taking part in a handshake, judging certificates, breaking a connection whose secrets nobody gave.
//! Sources: RFC 5246 (TLS 1.2), RFC 8446 (TLS 1.3), RFC 9850 (the key log format).

pub mod fuzz;
pub mod key_log;

pub use key_log::{KeyLabel, KeyLog, KeyLogCounts, KeyLogParser, KeySecret};
