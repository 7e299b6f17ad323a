//! From the words of the command line to a [`Command`].
//!
//! Purpose: defaults and the checks between flags, and one line for every mistake.
//! Invariants: a usage error is a single line that says what to type instead.
//! Non-goals: opening anything (but the configuration file, in `config`).
//! Sources: none.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use super::args::{
    ArchiveArg, CallsArgs, CaptureArgs, EraseArgs, ExportArgs, HoldArgs, IndexCommand, InitArgs,
    KeyArgs, KeysCommand, RecipientsCommand, RetainArgs, RunArgs, TimestampArgs, Typed,
    TypedCommand, VerifyArgs, VerifyEvidenceArgs,
};
use super::config::{self, Environment};
use super::options::{self, HeuristicRtp, OutputFormat, RINGS_MAX, RunOptions};
use super::{
    ArchivePlace, CallsQuery, Change, Command, Confidentiality, EraseJob, EvidenceJob, ExportJob,
    KeyPaths, Mode, NoCommand, Overwrite, Usage, VerifyJob, Which,
};
use crate::archive::Retention;
use crate::base::limits;

/// Reads the command line, the configuration file it names, and the process's environment.
///
/// `args`: the words, the program's name first.
///
/// # Errors
/// [`NoCommand::Help`] when help or the version was asked for; [`NoCommand::Wrong`] with one line.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, NoCommand> {
    parse_in(args, &|name| std::env::var_os(name))
}

/// [`parse`] with another environment.
///
/// # Errors
/// As [`parse`].
pub fn parse_in(
    args: impl Iterator<Item = OsString>,
    environment: Environment<'_>,
) -> Result<Command, NoCommand> {
    let typed = Typed::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            NoCommand::Help(error.render().to_string())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            NoCommand::Wrong(Usage(
                "say what to do; `callspan --help` lists the commands".to_owned(),
            ))
        }
        _ => NoCommand::Wrong(Usage(one_line(&error))),
    })?;
    meaning(typed.command, environment).map_err(NoCommand::Wrong)
}

fn meaning(typed: TypedCommand, environment: Environment<'_>) -> Result<Command, Usage> {
    match typed {
        TypedCommand::Init(init) => init_of(init, environment),
        TypedCommand::Capture(capture) => capture_of(capture, environment),
        TypedCommand::Replay(replay) => {
            let shared = CaptureArgs { interface: Vec::new(), run: replay.run };
            let CaptureArgs { run, .. } = config::complete(shared, environment)?;
            let options = run_options(run)?;
            if options.hep_listen.is_some() {
                let only = "--hep-listen is for `capture`: a replay reads files alone";
                return Err(Usage(only.to_owned()));
            }
            Ok(Command::Replay { files: replay.files, options })
        }
        TypedCommand::Calls(calls) => calls_of(calls, environment),
        TypedCommand::Show(show) => Ok(Command::Show {
            call: show.call,
            archive: archive_of(show.archive, environment)?,
            json: format_of(show.json),
        }),
        TypedCommand::Export(export) => export_of(export, environment),
        TypedCommand::Verify(verify) => verify_of(verify, environment),
        TypedCommand::Erase(erase) => erase_of(erase, environment),
        TypedCommand::Hold(HoldArgs { call, archive, reason }) => {
            Ok(Command::Hold { call, archive: archive_of(archive, environment)?, reason })
        }
        TypedCommand::Release(HoldArgs { call, archive, reason }) => {
            Ok(Command::Release { call, archive: archive_of(archive, environment)?, reason })
        }
        TypedCommand::Retain(RetainArgs { archive, dry_run }) => Ok(Command::Retain {
            archive: archive_of(archive, environment)?,
            mode: mode_of(dry_run),
        }),
        TypedCommand::Recipients(command) => recipients_of(command, environment),
        TypedCommand::Drill(drill) => Ok(Command::Drill {
            archive: archive_of(drill.archive, environment)?,
            identity: drill.identity,
            calls: drill.calls,
        }),
        TypedCommand::Evidence(evidence) => Ok(Command::Evidence(EvidenceJob {
            call: evidence.call,
            archive: archive_of(evidence.archive, environment)?,
            identity: evidence.identity,
            output: evidence.output,
        })),
        TypedCommand::VerifyEvidence(VerifyEvidenceArgs { directory, public_key }) => {
            Ok(Command::VerifyEvidence { directory, public_key })
        }
        TypedCommand::Timestamp(TimestampArgs { archive, url }) => {
            Ok(Command::Timestamp { archive: archive_of(archive, environment)?, url })
        }
        TypedCommand::Keys(KeysCommand::New(keys)) => Ok(Command::KeysNew { output: keys.output }),
        TypedCommand::Index(IndexCommand::Rebuild(archive)) => {
            Ok(Command::IndexRebuild { archive: archive_of(archive, environment)? })
        }
    }
}

fn init_of(init: InitArgs, environment: Environment<'_>) -> Result<Command, Usage> {
    if !init.plaintext && init.recipient.is_empty() {
        return Err(Usage(
            "who may listen? give --recipient KEY (`callspan keys new` makes one), or \
             --plaintext for an archive that is not sealed"
                .to_owned(),
        ));
    }
    let confidentiality = if init.plaintext {
        Confidentiality::Plaintext
    } else {
        Confidentiality::Sealed(init.recipient)
    };
    let days = init.retention.unwrap_or_default().0;
    let retention = Retention { days, ..Retention::default() };
    let archive = place_of(init.archive, init.keys, environment);
    Ok(Command::Init { archive, confidentiality, retention })
}

fn erase_of(erase: EraseArgs, environment: Environment<'_>) -> Result<Command, Usage> {
    let which = match (erase.call, erase.number) {
        (_, Some(number)) => Which::Number(number),
        (Some(call), None) => Which::Call(call),
        (None, None) => return Err(Usage("which call? give its id, or --number N".to_owned())),
    };
    let archive = archive_of(erase.archive, environment)?;
    let (reason, mode) = (erase.reason, mode_of(erase.dry_run));
    Ok(Command::Erase(EraseJob { archive, which, reason, mode }))
}

fn recipients_of(
    command: RecipientsCommand,
    environment: Environment<'_>,
) -> Result<Command, Usage> {
    let (archive, change) = match command {
        RecipientsCommand::List(archive) => (archive, Change::List),
        RecipientsCommand::Add(args) => (args.archive, Change::Add(args.keys)),
        RecipientsCommand::Remove(args) => (args.archive, Change::Remove(args.keys)),
        RecipientsCommand::Rewrap(args) => {
            (args.archive, Change::Rewrap { identity: args.identity })
        }
    };
    Ok(Command::Recipients { archive: archive_of(archive, environment)?, change })
}

const fn mode_of(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Do }
}

fn capture_of(capture: CaptureArgs, environment: Environment<'_>) -> Result<Command, Usage> {
    let CaptureArgs { interface, run } = config::complete(capture, environment)?;
    let options = run_options(run)?;
    check_interfaces(&interface, &options)?;
    Ok(Command::Capture { interfaces: interface, options })
}

fn calls_of(calls: CallsArgs, environment: Environment<'_>) -> Result<Command, Usage> {
    Ok(Command::Calls {
        archive: archive_of(calls.archive, environment)?,
        query: CallsQuery {
            from: calls.from,
            to: calls.to,
            number: calls.number,
            seconds_min: calls.min_seconds,
            seconds_max: calls.max_seconds,
            codec: calls.codec,
            mos_below: calls.mos_below,
            mos_above: calls.mos_above,
            call_id: calls.call_id,
            limit: calls.limit,
        },
        json: format_of(calls.json),
    })
}

fn verify_of(verify: VerifyArgs, environment: Environment<'_>) -> Result<Command, Usage> {
    Ok(Command::Verify(VerifyJob {
        archive: verify
            .archive
            .or_else(|| variable("CALLSPAN_ARCHIVE", environment))
            .ok_or_else(no_archive)?,
        public_key: verify.public_key,
        checkpoint: verify.checkpoint,
        json: format_of(verify.json),
    }))
}

fn export_of(export: ExportArgs, environment: Environment<'_>) -> Result<Command, Usage> {
    Ok(Command::Export(ExportJob {
        call: export.call,
        archive: archive_of(export.archive, environment)?,
        format: export.format,
        output: export.output,
        identity: export.identity,
        overwrite: if export.force { Overwrite::Replace } else { Overwrite::Refuse },
    }))
}

const fn format_of(json: bool) -> OutputFormat {
    if json { OutputFormat::JsonLines } else { OutputFormat::Text }
}

fn archive_of(typed: ArchiveArg, environment: Environment<'_>) -> Result<ArchivePlace, Usage> {
    let dir = typed.dir.or_else(|| variable("CALLSPAN_ARCHIVE", environment));
    Ok(place_of(dir.ok_or_else(no_archive)?, typed.keys, environment))
}

/// An archive and where its keys are: a flag wins over the environment.
fn place_of(dir: PathBuf, keys: KeyArgs, environment: Environment<'_>) -> ArchivePlace {
    let signing = keys.signing_key.or_else(|| variable("CALLSPAN_SIGNING_KEY", environment));
    let box_key = keys.box_key.or_else(|| variable("CALLSPAN_BOX_KEY", environment));
    ArchivePlace { dir, keys: KeyPaths { signing, box_key } }
}

fn variable(name: &str, environment: Environment<'_>) -> Option<PathBuf> {
    environment(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn no_archive() -> Usage {
    Usage(
        "which archive? give --archive DIR (made with `callspan init DIR`), or set CALLSPAN_ARCHIVE"
            .to_owned(),
    )
}

fn run_options(run: RunArgs) -> Result<RunOptions, Usage> {
    Ok(RunOptions {
        archive: ArchivePlace {
            dir: run.archive.ok_or_else(no_archive)?,
            keys: KeyPaths { signing: run.keys.signing_key, box_key: run.keys.box_key },
        },
        store: run.store.unwrap_or_default(),
        start: run.start.unwrap_or_default(),
        workers: run.workers.unwrap_or_else(options::default_workers),
        capture_threads: run.capture_threads.unwrap_or(1),
        opus_bitrate: run.opus_bitrate.unwrap_or_default().0,
        opus_complexity: run.opus_complexity.unwrap_or(options::OPUS_COMPLEXITY),
        reorder_window_ms: run.reorder_window.unwrap_or(options::REORDER_WINDOW_MS),
        commit_interval_ms: run.commit_interval.unwrap_or(limits::COMMIT_INTERVAL_MS),
        ring_size_mib: run.ring_size.unwrap_or(options::RING_SIZE_MIB),
        disk_reserve_bytes: run.disk_reserve.unwrap_or(0),
        checkpoint_to: run.checkpoint_to,
        filter: run.filter,
        band: run.band.unwrap_or_default(),
        legs: run.legs.unwrap_or_default(),
        join_header: run.join_header,
        hep_listen: run.hep_listen,
        tls_keylog: run.tls_keylog,
        tls_key: run.tls_key,
        heuristic_rtp: if run.heuristic_rtp { HeuristicRtp::On } else { HeuristicRtp::Off },
        metrics: run.metrics,
        log_format: run.log_format.unwrap_or_default(),
        json: format_of(run.json),
    })
}

fn check_interfaces(interfaces: &[String], options: &RunOptions) -> Result<(), Usage> {
    if interfaces.is_empty() && options.hep_listen.is_none() {
        return Err(Usage(
            "which interface? give --interface IF (`ip link` lists them), or --hep-listen ADDR"
                .to_owned(),
        ));
    }
    for (position, interface) in interfaces.iter().enumerate() {
        if interfaces[..position].contains(interface) {
            return Err(Usage(format!("--interface {interface} is given twice; name it once")));
        }
    }
    let rings = interfaces
        .len()
        .saturating_mul(options.capture_threads)
        .saturating_add(usize::from(options.hep_listen.is_some()));
    if rings > RINGS_MAX {
        return Err(Usage(format!(
            "{rings} rings are too many: give fewer --interface or --capture-threads, {RINGS_MAX} \
             in all"
        )));
    }
    Ok(())
}

/// What clap says on several lines, on one.
pub(super) fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let first = rendered
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim().trim_start_matches("error: "))
        .collect::<Vec<_>>()
        .join(" ");
    let tip = match error.get(ContextKind::SuggestedArg) {
        Some(suggested) => format!("; did you mean {suggested}?"),
        None => String::new(),
    };
    let first = first.trim_end_matches('.');
    format!("{first}{tip} (see `callspan --help`)")
}

#[cfg(test)]
mod tests {
    use super::super::args::ExportFormat;
    use super::super::options::{Band, Legs, LogFormat, Start, Store};
    use super::*;

    fn read(line: &str) -> Result<Command, NoCommand> {
        parse_in(std::iter::once("callspan").chain(line.split(' ')).map(OsString::from), &|_| None)
    }

    fn wrong(line: &str) -> String {
        match read(line) {
            Err(NoCommand::Wrong(Usage(message))) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let Ok(Command::Replay { files, options }) = read("replay a.pcap - --archive x") else {
            panic!("no replay");
        };
        assert_eq!(files, [PathBuf::from("a.pcap"), PathBuf::from("-")]);
        assert_eq!(
            options,
            RunOptions {
                archive: ArchivePlace::new("x".as_ref()),
                store: Store::Opus,
                start: Start::Answer,
                workers: options::default_workers(),
                capture_threads: 1,
                opus_bitrate: None,
                opus_complexity: 0,
                reorder_window_ms: 200,
                commit_interval_ms: 1_000,
                ring_size_mib: 64,
                disk_reserve_bytes: 0,
                checkpoint_to: None,
                filter: None,
                band: Band::Auto,
                legs: Legs::One,
                join_header: None,
                hep_listen: None,
                tls_keylog: None,
                tls_key: None,
                heuristic_rtp: HeuristicRtp::Off,
                metrics: None,
                log_format: LogFormat::Text,
                json: OutputFormat::Text,
            }
        );
    }

    #[test]
    fn every_flag_of_a_run_is_understood() {
        let Ok(Command::Capture { interfaces, options }) = read(
            "capture --interface eth1 -i eth2 --archive x --store none --start media --workers 3 \
             --capture-threads 2 --opus-bitrate 24k --opus-complexity 10 --reorder-window 0 \
             --commit-interval 50 --ring-size 1 --filter udp --band nb --legs all --join-header X-Id \
             --hep-listen [::]:9060 --tls-keylog k.log --tls-key s.pem \
             --heuristic-rtp --metrics [::1]:9464 \
             --log-format json --json",
        ) else {
            panic!("no capture");
        };
        assert_eq!(interfaces, ["eth1", "eth2"]);
        assert_eq!((options.store, options.start), (Store::None, Start::Media));
        assert_eq!((options.workers, options.capture_threads), (3, 2));
        assert_eq!((options.opus_bitrate, options.opus_complexity), (Some(24_000), 10));
        assert_eq!((options.reorder_window_ms, options.commit_interval_ms), (0, 50));
        assert_eq!((options.ring_size_mib, options.filter.as_deref()), (1, Some("udp")));
        assert_eq!((options.band, options.log_format), (Band::Nb, LogFormat::Json));
        assert_eq!(options.heuristic_rtp, HeuristicRtp::On);
        assert_eq!((options.legs, options.join_header.as_deref()), (Legs::All, Some("X-Id")));
        assert_eq!(options.hep_listen, Some("[::]:9060".parse().expect("address")));
        assert_eq!(options.tls_keylog.as_deref(), Some("k.log".as_ref()));
        assert_eq!(options.tls_key.as_deref(), Some("s.pem".as_ref()));
        assert_eq!(options.metrics, Some("[::1]:9464".parse().expect("address")));
        assert_eq!(options.json, OutputFormat::JsonLines);
    }

    #[test]
    fn mistakes_are_one_line_that_says_what_to_do() {
        for (line, part) in [
            ("init x", "--recipient KEY"),
            ("init x --plaintext --recipient age1x", "cannot be used with"),
            ("init x --plaintext --retention never", "a number of days"),
            ("replay --archive x", "<FILE>"),
            ("replay a.pcap", "--archive DIR"),
            ("capture --archive x", "--interface IF"),
            ("capture -i a -i a --archive x", "given twice"),
            ("replay a --archive x --hep-listen [::]:9060", "for `capture`"),
            ("capture -i a -i b -i c -i d --capture-threads 64 --archive x", "256 rings"),
            ("replay a --archive x --workers 0", "a whole number from 1 to 256"),
            ("replay a --archive x --wokers 1", "did you mean --workers"),
            ("replay a --archive x --opus-bitrate 1", "bits a second"),
            ("replay a --archive x --metrics 9464", "127.0.0.1:9464"),
            ("replay a --archive x --recipient k", "unexpected argument '--recipient'"),
            ("calls --archive x --mos-below good", "a number from 0 to 5"),
            ("calls --archive x --min-seconds=-1", "a whole number from 0"),
            ("export a --archive x --format mp3 --output y", "[possible values: opus, wav, pcap]"),
            ("index", "say what to do"),
            ("frobnicate", "unrecognized subcommand 'frobnicate'"),
        ] {
            let message = wrong(line);
            assert!(message.contains(part), "{line}: {message}");
            assert!(!message.contains('\n'), "{line}: {message}");
        }
    }

    #[test]
    fn the_archive_may_come_from_the_environment() {
        let words = ["callspan", "export", "abc", "-f", "wav", "-o", "-"];
        let environment = |name: &str| (name == "CALLSPAN_ARCHIVE").then(|| "calls".into());
        let command = parse_in(words.iter().map(OsString::from), &environment);
        let Ok(Command::Export(job)) = command else { panic!("{command:?}") };
        assert_eq!((job.archive.dir, job.format), ("calls".into(), ExportFormat::Wav));
        assert_eq!(job.overwrite, Overwrite::Refuse);
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for line in ["--help", "replay --help", "--version", "help calls"] {
            assert!(matches!(read(line), Err(NoCommand::Help(_))), "{line}");
        }
    }
}
