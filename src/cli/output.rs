//! Standard output and standard error, so that a pipe that closes is not a panic.
//!
//! Purpose: the one place that prints.
//! Invariants: `println!` and `eprintln!` are used nowhere in `cli`: both panic when the other end
//! is gone. A closed standard output ends the command quietly with status 0, as `head` expects.
//! Non-goals: logs (see `ops::log`).
//! Sources: none.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Write};

use super::Exit;

/// Why a command ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// With which status.
    pub exit: Exit,
    /// One line for people; empty: nothing needs saying.
    pub message: String,
}

impl Failure {
    /// Status 1 and a line.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string() }
    }

    /// Status 2 and a line.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }

    /// What a failed write to standard output means.
    pub fn printing(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self { exit: Exit::Done, message: String::new() };
        }
        Self::failed(format_args!("cannot write to standard output: {error}"))
    }
}

/// Runs `print` on a buffered standard output, flushed at the end.
pub fn to_stdout(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    print(&mut out).and_then(|()| out.flush()).map_err(|error| {
        // What is left in the buffer would fail again when dropped, unseen.
        Failure::printing(&error)
    })
}

/// Prints help on standard output.
pub fn help(text: &str) -> Exit {
    conclude(to_stdout(|out| out.write_all(text.as_bytes())).map(|()| Exit::Done))
}

/// One line on standard error, with the program's name; nobody listening is fine.
pub fn complain(message: &str) {
    let line: String =
        message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let _ = writeln!(io::stderr().lock(), "callspan: {line}");
}

/// A line for people on standard error, as it is.
pub fn remark(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says why, if there is something to say, and gives the status.
pub fn conclude(done: Result<Exit, Failure>) -> Exit {
    match done {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                complain(&failure.message);
            }
            failure.exit
        }
    }
}

/// Text from the wire for a terminal: control characters (escape sequences, line breaks) become `·`.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '·' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is() {
        let gone = Failure::printing(&io::Error::from(ErrorKind::BrokenPipe));
        assert_eq!((gone.exit, gone.message.as_str()), (Exit::Done, ""));
        let full = Failure::printing(&io::Error::from(ErrorKind::StorageFull));
        assert_eq!(full.exit, Exit::Failed);
    }

    #[test]
    fn escape_sequences_from_the_wire_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n"), "a·[2Jb··");
    }
}
