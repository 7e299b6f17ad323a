//! `callspan calls`: which calls there are.
//!
//! Purpose: find calls by time, number, length, codec, quality and Call-ID; a table for people, the archived objects for programs.
//! Invariants: oldest first; a call that is a part of another is not listed; with `--json` each line is the call's summary as it is archived.
//! Non-goals: one call in full (see `show`).
//! Sources: none.

use std::io::{self, Write};

use super::key_files::ArchivePlace;
use super::output::{self, Failure};
use super::store::{Store, read_summary};
use super::table::{Align, Table};
use super::{CallsQuery, Exit, OutputFormat, people, when};
use crate::archive::Query;
use crate::call::summary::CallSummary;

/// Lists the calls that match.
pub fn calls(
    place: &ArchivePlace,
    query: &CallsQuery,
    json: OutputFormat,
) -> Result<Exit, Failure> {
    let query = read_query(query, jiff::Timestamp::now())?;
    let calls = Store::open(place)?.listed(&query)?;
    match json {
        OutputFormat::JsonLines => output::to_stdout(|out| {
            calls.iter().try_for_each(|call| writeln!(out, "{}", call.summary_json))
        })?,
        OutputFormat::Text => {
            let read = calls.iter().map(read_summary).collect::<Result<Vec<_>, _>>()?;
            output::to_stdout(|out| print_table(out, &read))?;
        }
    }
    Ok(Exit::Done)
}

fn read_query(typed: &CallsQuery, now: jiff::Timestamp) -> Result<Query, Failure> {
    let time = |flag: &str, text: &Option<String>| {
        let read = text.as_deref().map(|text| when::parse(text, now)).transpose();
        read.map_err(|message| Failure::usage(format_args!("{flag}: {message}")))
    };
    Ok(Query {
        from_ns: time("--from", &typed.from)?,
        to_ns: time("--to", &typed.to)?,
        number: typed.number.clone(),
        duration_ms_min: typed.seconds_min.map(milliseconds),
        duration_ms_max: typed.seconds_max.map(milliseconds),
        codec: typed.codec.clone(),
        mos_milli_below: typed.mos_below.map(|mos| mos.milli),
        mos_milli_above: typed.mos_above.map(|mos| mos.milli),
        sip_call_id: typed.call_id.clone(),
        state: None,
        limit: typed.limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)),
    })
}

/// `--max-seconds 10` means 10.000 and not 10.999.
fn milliseconds(seconds: u32) -> i64 {
    i64::from(seconds) * 1_000
}

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
