//! docs/CLI.md and docs/METRICS.md say what the program does.
//!
//! Purpose: pages that are made from the code stay equal to it; `CALLSPAN_BLESS=1` writes them.
//! Invariants: the test writes nothing without being asked to.
//! Non-goals: the pages that people write.
//! Sources: none.

use std::path::Path;

fn compare(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    if std::env::var_os("CALLSPAN_BLESS").is_some() {
        std::fs::write(&path, made).expect("written");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let different = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "docs/{page} is not what the code says, from line {} on; write it anew with \
         `CALLSPAN_BLESS=1 cargo test --test cli_docs`",
        different.unwrap_or_else(|| kept.lines().count().min(made.lines().count())) + 1
    );
}

#[test]
fn the_command_line_page_is_the_help() {
    compare("CLI.md", &callspan::cli::reference::page());
}

#[test]
fn the_metrics_page_is_the_registry() {
    compare("METRICS.md", &callspan::ops::metrics::reference());
}
