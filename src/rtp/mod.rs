//! RTP and RTCP: what a packet says, in which order packets were sent, and how well they arrived.
//!
//! Purpose: turn UDP payloads into validated views, ordered streams, digits and quality figures.
//! Invariants: pure; times are arguments; every bound is named in `base::limits`.
//! Non-goals: decoding sound (see `codec`) and placing it in time (see `media`).
//! Sources: RFC 3550 (RTP, RTCP), RFC 3551, RFC 3711 (SRTP), RFC 4733 (telephone events), RFC 5761,
//! RFC 7983.

mod claim;
pub mod classify;
pub mod extended_seq;
pub mod flow_table;
pub mod fuzz;
pub mod header;
pub mod loss;
pub mod matched_by;
pub mod plan;
pub mod quality;
pub mod red;
pub mod reorder;
pub mod rtcp;
pub mod rtcp_xr;
pub mod sight;
pub mod srtp;
pub mod srtp_key;
pub mod srtp_session;
pub mod srtp_suite;
pub mod telephone_event;
pub mod turn;
pub mod udptl;
pub mod zrtp;

pub use classify::{Datagram, classify};
pub use extended_seq::{ExtendedSeq, SeqExtender, TimestampExtender};
pub use header::{RtpReject, RtpView};
pub use loss::LossCounter;
pub use quality::{Jitter, mos};
pub use reorder::{ReorderBuffer, RtpDrop};
pub use rtcp::{ReportBlock, RtcpPacket, RtcpPackets};
pub use srtp::{KeyRing, SrtpStream};
pub use srtp_key::{Secrecy, SrtpKey};
pub use srtp_suite::SrtpSuite;
pub use telephone_event::{Digit, EventTracker, TelephoneEvent, digit_label};
pub use udptl::UdptlPacket;
pub use zrtp::ZrtpMessage;
