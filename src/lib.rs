//! callspan: a passive call recorder.
//!
//! Purpose: follow SIP and RTP at a mirror port, and keep every call as a two-channel Opus recording
//! in a verifiable archive. ARCHITECTURE.md shows the way of a packet through the layers.
//! Invariants: a lower layer never imports a higher one (`tests/tidy.rs` checks it).
//! Non-goals: taking part in a call; nothing is ever sent on a capture interface.
//! Sources: RFC 3261 (SIP), RFC 3264 (offer/answer), RFC 3550 (RTP), RFC 7845 (Ogg Opus).
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::cast_possible_wrap))] // small counts in tests

pub mod archive;
pub mod base;
pub mod call;
pub mod capture;
pub mod codec;
pub mod media;
pub mod net;
pub mod ops;
pub mod rtp;
pub mod sip;
pub mod tls;
pub mod work;

pub mod app;
pub mod cli;
