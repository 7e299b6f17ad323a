//! What the process used.
//!
//! Purpose: figures for the report at the end of a run.
//! Invariants: none.
//! Non-goals: limits (see `base::limits`).
//! Sources: getrusage(2).

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Processor seconds of the process, user and system, and the most memory it held, in bytes.
pub fn used() -> (f64, u64) {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return (0.0, 0) };
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let peak_kib = u64::try_from(usage.max_rss()).unwrap_or(0);
    (seconds(usage.user_time()) + seconds(usage.system_time()), peak_kib.saturating_mul(1_024))
}
