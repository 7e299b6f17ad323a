//! Correlates SIP dialogs and their media into calls.
//!
//! Purpose: from SIP messages and packet time, say which calls there are, whose media is expected
//! where, when a call is answered and why it ends. Entry: [`Correlator`].
//! Invariants: pure: messages and a time in, events out; at most `CALLS_MAX` calls are followed.
//! Non-goals: RTP itself (see `media`), threads and storage (see `work`).
//! Sources: RFC 3261 (dialogs), RFC 3264 (offer/answer), RFC 3262 (PRACK), RFC 3311 (UPDATE),
//! RFC 5589 (transfer).

mod absorb;
mod conversation;
mod correlator;
mod dialog;
mod dtmf;
mod event;
mod expiry;
mod from_media;
mod join;
mod leg;
mod lingering;
mod media_description;
mod sdes;
mod strangers;
pub mod summary;
mod table;

pub use correlator::{Attributed, Correlator};
pub use event::{CallEvent, CallFacts, CallOrigin, EndReason, LegFacts, Party, Speaker};
pub use from_media::MediaCalls;
pub use join::{JoinSettings, JoinedBy, Legs};
