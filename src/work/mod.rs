//! Threads and queues: from frames to archived calls.
//!
//! Purpose: the front of each ring, the per-call queues, the work-stealing pool, the archive's
//! thread, and back-pressure between them. To follow a packet start at [`front`].
//! Invariants: ownership moves through queues; nothing on the packet path locks or waits, but for
//! the reader of a replay, which waits for everybody.
//! Non-goals: what is decided about calls (see `call`, `media`) and starting it all (see `app`).
//! Sources: none.

mod beside;
mod carried;
mod express;
pub mod flows;
pub mod front;
pub mod fuzz;
pub mod orphans;
pub mod outbox;
pub mod pool;
pub mod ports;
pub mod queue;
pub mod ready;
pub mod render;
mod reported;
mod secure;
pub mod signalling;
pub mod sink;
pub mod stats;
pub mod summary;
pub mod visit;
pub mod writer;
