//! The `callspan` program: joins the command line and the application, and exits with the status.
//!
//! Purpose: the one place that knows both `cli` and `app`.
//! Invariants: nothing is decided here.
//! Non-goals: everything else.
//! Sources: none.

use std::process::ExitCode;

use callspan::cli::{self, RunError, Runner};

fn main() -> ExitCode {
    // The application takes these two places when it lands.
    let runner = Runner {
        replay: |_, _| Err(RunError::failed("replay is not joined to this build yet")),
        capture: |_, _| Err(RunError::failed("capture is not joined to this build yet")),
    };
    cli::main(std::env::args_os(), runner)
}
