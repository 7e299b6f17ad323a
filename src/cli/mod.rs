//! The command line: what may be typed, and one file a command.
//!
//! Purpose: turn words into a [`Command`], run it, and end with the status that scripts rely on.
//! Invariants: with `--json` only JSON Lines reach standard output; a failure is one line on
//! standard error that says what to do; a reader that goes away (`| head`) is no failure.
//! Non-goals: recording (the application is called through [`Runner`]).
//! Sources: none.

pub mod args;
pub mod config;
pub mod options;
pub mod parse;
pub mod reference;
pub mod report;
pub mod when;

mod calls;
mod capture;
mod drill;
mod evidence;
mod export;
mod export_audio;
mod export_pcap;
mod frames;
mod index;
mod init;
mod key_files;
mod keys;
mod ladder;
mod outfile;
mod output;
mod people;
mod recipients;
mod replay;
mod show;
mod store;
mod table;
mod timestamp;
mod upkeep;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::archive::Retention;

pub use args::ExportFormat;
pub use evidence::EvidenceJob;
pub use key_files::{ArchivePlace, KeyPaths};
pub use options::{OutputFormat, RunOptions};
pub use output::Failure;
pub use parse::parse;
pub use recipients::Change;
pub use report::{RunError, RunReport};
pub use upkeep::{EraseJob, Mode, Which};
pub use verify::VerifyJob;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: done, but something was lost.
    Lost,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Lost => 3,
        })
    }
}

/// A usage error: one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage(pub String);

/// Why the command line gave no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCommand {
    /// Help or the version was asked for: the text for standard output.
    Help(String),
    /// A mistake.
    Wrong(Usage),
}

/// Who can open what a new archive will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confidentiality {
    /// Whoever reads the files.
    Plaintext,
    /// These recipients, age public keys.
    Sealed(Vec<String>),
}

/// What to do about an output file that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave it and fail.
    Refuse,
    /// Replace it when the new one is complete.
    Replace,
}

/// Which calls to list, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallsQuery {
    /// `--from`.
    pub from: Option<String>,
    /// `--to`.
    pub to: Option<String>,
    /// `--number`.
    pub number: Option<String>,
    /// `--min-seconds`.
    pub seconds_min: Option<u32>,
    /// `--max-seconds`.
    pub seconds_max: Option<u32>,
    /// `--codec`.
    pub codec: Option<String>,
    /// `--mos-below`.
    pub mos_below: Option<args::Mos>,
    /// `--mos-above`.
    pub mos_above: Option<args::Mos>,
    /// `--call-id`.
    pub call_id: Option<String>,
    /// `--limit`.
    pub limit: Option<usize>,
}

/// What `export` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportJob {
    /// Call id, its beginning, or a SIP Call-ID.
    pub call: String,
    /// Which archive.
    pub archive: ArchivePlace,
    /// Opens a sealed recording.
    pub identity: Option<PathBuf>,
    /// What to write.
    pub format: ExportFormat,
    /// Where to; `-` is standard output.
    pub output: PathBuf,
    /// What to do about a file that exists.
    pub overwrite: Overwrite,
}

/// A command with everything it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `callspan init`.
    Init {
        /// Directory to make.
        archive: ArchivePlace,
        /// Who can open it.
        confidentiality: Confidentiality,
        /// How long calls are kept.
        retention: Retention,
    },
    /// `callspan capture`.
    Capture {
        /// Interfaces to listen on, at least one.
        interfaces: Vec<String>,
        /// How to run.
        options: RunOptions,
    },
    /// `callspan replay`.
    Replay {
        /// Files to read; `-` is standard input.
        files: Vec<PathBuf>,
        /// How to run.
        options: RunOptions,
    },
    /// `callspan calls`.
    Calls {
        /// Which archive.
        archive: ArchivePlace,
        /// Which calls.
        query: CallsQuery,
        /// How to print.
        json: OutputFormat,
    },
    /// `callspan show`.
    Show {
        /// Call id, its beginning, or a SIP Call-ID.
        call: String,
        /// Which archive.
        archive: ArchivePlace,
        /// How to print.
        json: OutputFormat,
    },
    /// `callspan export`.
    Export(ExportJob),
    /// `callspan verify`.
    Verify(VerifyJob),
    /// `callspan erase`.
    Erase(EraseJob),
    /// `callspan hold`.
    Hold {
        /// Call id, its beginning, or a SIP Call-ID.
        call: String,
        /// Which archive.
        archive: ArchivePlace,
        /// Why.
        reason: String,
    },
    /// `callspan release`.
    Release {
        /// Call id, its beginning, or a SIP Call-ID.
        call: String,
        /// Which archive.
        archive: ArchivePlace,
        /// Why.
        reason: String,
    },
    /// `callspan retain`.
    Retain {
        /// Which archive.
        archive: ArchivePlace,
        /// Whether to do it.
        mode: Mode,
    },
    /// `callspan recipients`.
    Recipients {
        /// Which archive.
        archive: ArchivePlace,
        /// What to do.
        change: Change,
    },
    /// `callspan drill`.
    Drill {
        /// Which archive.
        archive: ArchivePlace,
        /// The identity to try.
        identity: PathBuf,
        /// How many calls.
        calls: u32,
    },
    /// `callspan evidence`.
    Evidence(EvidenceJob),
    /// `callspan verify-evidence`.
    VerifyEvidence {
        /// What `evidence` made.
        directory: PathBuf,
        /// The public key as it was kept elsewhere.
        public_key: Option<String>,
    },
    /// `callspan timestamp`.
    Timestamp {
        /// Which archive.
        archive: ArchivePlace,
        /// The authority.
        url: String,
    },
    /// `callspan keys new`.
    KeysNew {
        /// Where the identity goes; `None`: standard output.
        output: Option<PathBuf>,
    },
    /// `callspan index rebuild`.
    IndexRebuild {
        /// Which archive.
        archive: ArchivePlace,
    },
}

/// The application's two ways to record, given by `main` so that `cli` and `app` need not know
/// each other.
#[derive(Clone, Copy)]
pub struct Runner {
    /// Records from capture files; at least one, none twice.
    pub replay: fn(&[PathBuf], &RunOptions) -> Result<RunReport, RunError>,
    /// Records from interfaces until SIGTERM.
    pub capture: fn(&[String], &RunOptions) -> Result<RunReport, RunError>,
}

/// The whole program: reads the words (the program's name first), does it, and says how it ended.
pub fn main(words: impl Iterator<Item = OsString>, runner: Runner) -> ExitCode {
    let exit = match parse(words) {
        Ok(command) => run(command, runner),
        Err(NoCommand::Help(text)) => output::help(&text),
        Err(NoCommand::Wrong(Usage(message))) => {
            output::complain(&message);
            Exit::Usage
        }
    };
    exit.into()
}

/// Does one command and says how it ended; the reason for anything but 0 is on standard error.
pub fn run(command: Command, runner: Runner) -> Exit {
    let done = match command {
        Command::Init { archive, confidentiality, retention } => {
            init::init(&archive, confidentiality, retention)
        }
        Command::Capture { interfaces, options } => {
            capture::capture(&interfaces, &options, runner.capture)
        }
        Command::Replay { files, options } => replay::replay(&files, &options, runner.replay),
        Command::Calls { archive, query, json } => calls::calls(&archive, &query, json),
        Command::Show { call, archive, json } => show::show(&call, &archive, json),
        Command::Export(job) => export::export(&job),
        Command::IndexRebuild { archive } => index::rebuild(&archive),
        Command::Verify(job) => verify::verify(&job),
        Command::Erase(job) => upkeep::erase(&job),
        Command::Hold { call, archive, reason } => upkeep::hold(&call, &archive, &reason),
        Command::Release { call, archive, reason } => upkeep::release(&call, &archive, &reason),
        Command::Retain { archive, mode } => upkeep::retain(&archive, mode),
        Command::Evidence(job) => evidence::evidence(&job),
        Command::VerifyEvidence { directory, public_key } => {
            evidence::verify_evidence(&directory, public_key.as_deref())
        }
        Command::Timestamp { archive, url } => timestamp::timestamp(&archive, &url),
        Command::Recipients { archive, change } => recipients::recipients(&archive, &change),
        Command::Drill { archive, identity, calls } => drill::drill(&archive, &identity, calls),
        Command::KeysNew { output } => keys::new(output.as_deref()),
    };
    output::conclude(done)
}
