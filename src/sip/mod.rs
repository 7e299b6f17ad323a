//! SIP and SDP as they stand on the wire: detection, framing, messages, session descriptions.
//!
//! Purpose: turn bytes into values that `call` can correlate, without copying and without trust.
//! Invariants: no input panics, allocates without bound, or costs more than linear time; nothing
//! here knows that RTP exists.
//! Non-goals: dialog and transaction state (see `call`), judging whether a message is legal.
//! Sources: RFC 3261 (SIP), RFC 4475 (torture tests), RFC 8866 (SDP), RFC 5621 (bodies).

pub mod dtmf_body;
pub mod framer;
pub mod fuzz;
pub mod likeness;
pub(crate) mod lines;
pub mod message;
pub mod method;
pub(crate) mod multipart;
pub mod name_addr;
pub mod reject;
pub mod sdp;
pub mod sdp_crypto;
pub mod sdp_format;
pub mod sdp_media;
pub mod sdp_paths;
pub(crate) mod stable_hash;
pub mod start_line;
pub mod transaction;
pub mod websocket;

pub use framer::{Framer, Gap};
pub use likeness::{Likeness, looks_like_sip};
pub use message::{BodyState, CSeq, HeadersState, Message};
pub use method::Method;
pub use name_addr::{NameAddr, Party};
pub use reject::SipReject;
pub use sdp::{Origin, Sdp, SdpReject};
pub use sdp_crypto::{CryptoLine, InlineKey, SessionParameter};
pub use sdp_format::Format;
pub use sdp_media::{Direction, Media, MediaKind, MediaProtocol, RtcpAttribute};
pub use sdp_paths::{Candidate, CandidateKind, MediaPaths};
pub use start_line::StartLine;
pub use transaction::TransactionKey;
pub use websocket::{WebSocket, looks_like_websocket};
