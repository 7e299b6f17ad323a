//! `callspan replay`: records calls from capture files.
//!
//! Purpose: refuse what cannot be meant, start the application, print what it came to.
//! Invariants: the same file named twice is a usage error, however it is spelled.
//! Non-goals: reading captures (see `capture`) and joining everything (see `app`).
//! Sources: none.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::output::{self, Failure};
use super::{Exit, OutputFormat, RunError, RunOptions, RunReport};

/// Runs a replay and prints its report.
pub fn replay(
    files: &[PathBuf],
    options: &RunOptions,
    start: fn(&[PathBuf], &RunOptions) -> Result<RunReport, RunError>,
) -> Result<Exit, Failure> {
    refuse_twice(files)?;
    crate::ops::log::init(options.log_format);
    print_result(start(files, options), options.json)
}

/// Prints the report, whether the run came to its end or not, and says how to exit.
pub(super) fn print_result(
    result: Result<RunReport, RunError>,
    json: OutputFormat,
) -> Result<Exit, Failure> {
    match result {
        Ok(report) => {
            print_report(&report, json)?;
            let losses = report.losses_in_words();
            if !losses.is_empty() {
                output::complain(&format!("done, but something was lost: {}", losses.join("; ")));
            }
            Ok(report.exit())
        }
        Err(error) => {
            if let Some(report) = &error.report {
                print_report(report, json)?;
            }
            Err(Failure { exit: error.exit, message: error.message })
        }
    }
}

fn print_report(report: &RunReport, json: OutputFormat) -> Result<(), Failure> {
    match json {
        OutputFormat::JsonLines => output::to_stdout(|out| writeln!(out, "{}", report.to_json())),
        OutputFormat::Text => {
            output::remark(report.to_text().trim_end());
            Ok(())
        }
    }
}

/// The same file twice would record every call twice; by device and inode, since a path can be
/// spelled in many ways.
fn refuse_twice(files: &[PathBuf]) -> Result<(), Failure> {
    let mut seen: Vec<(Identity, &Path)> = Vec::new();
    for file in files {
        let identity = if file.as_os_str() == "-" {
            Identity::StandardInput
        } else {
            let known = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?;
            if known.is_dir() {
                return Err(Failure::failed(format_args!(
                    "{}: is a directory; name the capture files in it",
                    file.display()
                )));
            }
            Identity::File(known.dev(), known.ino())
        };
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == identity) {
            return Err(Failure::usage(format_args!(
                "{} and {} are the same file; name it once",
                first.display(),
                file.display()
            )));
        }
        seen.push((identity, file));
    }
    Ok(())
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Failure::failed(format_args!(
            "no such capture file: {}; check the name",
            file.display()
        ));
    }
    Failure::failed(format_args!(
        "cannot read {}: {error}; check its permissions and the disk",
        file.display()
    ))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    StandardInput,
    File(u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_is_refused_however_it_is_spelled() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, other) = (directory.path().join("a.pcap"), directory.path().join("b.pcap"));
        std::fs::write(&file, "x").expect("written");
        std::fs::write(&other, "x").expect("written");
        let link = directory.path().join("link.pcap");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert_eq!(refuse_twice(&[file.clone(), other]), Ok(()));
        assert_eq!(refuse_twice(&[file, link]).expect_err("twice").exit, Exit::Usage);
        assert_eq!(refuse_twice(&["-".into(), "-".into()]).expect_err("twice").exit, Exit::Usage);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = refuse_twice(&["no/such.pcap".into()]).expect_err("missing");
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.message, "no such capture file: no/such.pcap; check the name");
        assert_eq!(refuse_twice(&[".".into()]).expect_err("directory").exit, Exit::Failed);
    }
}
