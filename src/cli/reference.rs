//! docs/CLI.md, made from the grammar.
//!
//! Purpose: the page and `--help` cannot differ.
//! Invariants: the page does not depend on a terminal's width or colours.
//! Non-goals: tutorials (see README.md).
//! Sources: none.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::args::Typed;
use super::config;

const HEAD: &str = "# The command line\n\n\
This page is made from the help; `CALLSPAN_BLESS=1 cargo test --test cli_docs` writes it anew.\n\n\
- Results for programs go to standard output, with `--json` as JSON Lines and nothing else. Text for\n  \
people, progress and logs go to standard error.\n\
- Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but something was lost (frames dropped by us, a\n  \
call truncated). The reason is one line on standard error.\n\
- Times are RFC 3339 in UTC with the offset shown. `--from` and `--to` also take `2026-11-23`,\n  \
`2026-11-23T10:30`, `-2h` (`s`, `m`, `h`, `d`, `w`), `today`, `yesterday` and `now`; without a zone they\n  \
are UTC.\n\
- A call is named by its id, by the first 6 or more characters of it, or by a SIP Call-ID.\n";

const KEYS: &str = "\n## Configuration file and environment\n\n\
Every flag of `capture` and `replay` has a key of the same name in the TOML file that `--config` names,\n\
and a variable. A flag wins over the file, the file over the environment. An unknown key is an error.\n\
`interface` takes a list. The other commands read `CALLSPAN_ARCHIVE` too. `CALLSPAN_LOG` chooses what is\n\
logged (`debug`, `callspan::call=trace`).\n\n\
| key | variable |\n|---|---|\n";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    let mut program = Typed::command();
    program.build();
    section(&mut text, &mut program);
    text.push_str(KEYS);
    for (key, _) in config::keys() {
        let name = if key == "config" { "—".to_owned() } else { format!("`{key}`") };
        let _ = writeln!(text, "| {name} | `{}` |", config::variable_of(&key));
    }
    text
}

fn section(text: &mut String, command: &mut clap::Command) {
    let title = command.get_bin_name().unwrap_or("callspan").to_owned();
    let help = command.render_long_help().to_string();
    let _ = write!(text, "\n## {title}\n\n```text\n");
    for line in help.trim_end().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    for inner in command.get_subcommands_mut() {
        if inner.get_name() != "help" {
            section(text, inner);
        }
    }
}
