//! The `callspan` program: joins the command line and the application, and exits with the status.
//!
//! Purpose: the one place that knows both `cli` and `app`.
//! Invariants: nothing is decided here.
//! Non-goals: everything else.
//! Sources: none.

use std::process::ExitCode;

use callspan::app;
use callspan::cli::{self, Runner};

fn main() -> ExitCode {
    let runner = Runner { replay: app::replay, capture: app::capture };
    cli::main(std::env::args_os(), runner)
}
