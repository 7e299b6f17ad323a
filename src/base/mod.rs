//! What every layer shares: packet time, identifiers, limits, outcomes and the byte reader.
//!
//! Purpose: give the layers above one vocabulary, so that siblings need not import each other.
//! Invariants: nothing here opens, spawns, allocates without bound, or reads a clock.
//! Non-goals: anything that knows SIP, RTP or a file format.
//! Sources: RFC 3550 (SSRC), RFC 4291 §2.5.5.2 (IPv4-mapped addresses).

pub mod endpoint;
pub mod entry;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod reader;
pub mod rfc3339;
pub mod time;

pub use endpoint::{Endpoint, FiveTuple, Protocol};
pub use entry::{Entries, EntryFlows, EntryKind, PacketEntry};
pub use frame::{Frame, FrameSink, FrameSource, KernelCounts, LinkType, Polled};
pub use ids::{CallId, CallIndex, Channel, PayloadType, RingIndex, Ssrc};
pub use outcome::{FrameOutcome, OutcomeCounts};
pub use reader::Reader;
pub use time::PacketTime;
