//! The application: what starts and joins everything.
//!
//! Purpose: one function a command that records: [`replay`] and [`capture`].
//! Invariants: every thread that is started is joined; what was recorded before a failure is sealed.
//! Non-goals: words and exit statuses (see `cli`).
//! Sources: none.

mod capture;
mod engine;
mod key_log;
mod recovered;
mod replay;
mod resources;
mod watch;

pub use capture::capture;
pub use replay::replay;
