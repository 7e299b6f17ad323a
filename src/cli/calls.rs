//! `callspan calls`: which calls there are.
//!
//! Purpose: find calls by time and number; a table for people, the archived objects for programs.
//! Invariants: oldest first; with `--json` each line is the call's summary as it is archived.
//! Non-goals: one call in full (see `show`).
//! Sources: none.

use std::io::{self, Write};

use super::people;
use super::table::{Align, Table};
use crate::call::summary::CallSummary;

fn print_table(out: &mut dyn Write, calls: &[CallSummary]) -> io::Result<()> {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("STARTED (UTC)", Align::Left),
        ("TALKED", Align::Right),
        ("CALLER", Align::Left),
        ("CALLEE", Align::Left),
        ("STATE", Align::Left),
        ("HEARD", Align::Left),
        ("MOS", Align::Right),
        ("GAPS", Align::Right),
    ]);
    for call in calls {
        table.row(&[
            call.id.clone(),
            people::short_time(&call.started_at),
            people::talked(call),
            people::party(&call.caller),
            format!("→ {}", people::party(&call.callee)),
            call.state.clone(),
            call.verdict.clone(),
            people::worst_mos(call),
            call.gaps.len().to_string(),
        ]);
    }
    table.write(out, "")
}

#[cfg(test)]
mod tests {
    use super::super::people::tests::call;
    use super::*;

    #[test]
    fn a_call_is_one_line_of_the_table() {
        let mut text = Vec::new();
        print_table(&mut text, &[call()]).expect("memory");
        let text = String::from_utf8(text).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "ID                STARTED (UTC)         TALKED  CALLER  CALLEE               STATE  HEARD  MOS  GAPS",
                "0123456789abcdef  2026-11-24 02:57:36  1:02:22  100     → sip:bob@b.example  ended  both   4.4     1",
            ]
        );
    }
}
