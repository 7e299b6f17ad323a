//! `callspan capture`: records calls from live interfaces until SIGTERM.
//!
//! Purpose: start the application and print what it came to.
//! Invariants: nothing is opened here; permissions and interfaces are the capture layer's to judge.
//! Non-goals: joining everything (see `app`).
//! Sources: none.

use super::output::Failure;
use super::{Exit, RunError, RunOptions, RunReport};

/// Runs a capture and prints its report.
pub fn capture(
    interfaces: &[String],
    options: &RunOptions,
    start: fn(&[String], &RunOptions) -> Result<RunReport, RunError>,
) -> Result<Exit, Failure> {
    crate::ops::log::init(options.log_format);
    super::replay::print_result(start(interfaces, options), options.json)
}
