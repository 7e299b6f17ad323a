//! Logs on standard error, as text or JSON.
//!
//! Purpose: one subscriber for the process, set once.
//! Invariants: standard output stays free for results; a second call changes nothing.
//! Non-goals: files and rotation (journald does that better).
//! Sources: none.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard error, from `info` up or as `CALLSPAN_LOG` says
/// (`debug`, `callspan::call=trace`).
pub fn init(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("CALLSPAN_LOG")
        .from_env_lossy();
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A subscriber that is set already (by a test, by an embedding program) is as good.
    let _ = match format {
        LogFormat::Text => base.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
    };
}
