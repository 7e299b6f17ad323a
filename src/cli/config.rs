//! Where a flag's value comes from when it was not typed: the file, then the environment.
//!
//! Purpose: one key per flag, by the grammar of `args`, so that no list of keys can fall behind it.
//! Invariants: a flag wins over the file, the file over the environment; a key that no flag has is
//! an error that names it; a value is checked by the same code wherever it came from.
//! Non-goals: configuration that is not a flag.
//! Sources: TOML 1.0 (the file).

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, Command, FromArgMatches};

use super::Usage;
use super::args::{CaptureArgs, KeyArgs, RunArgs};

/// Looks a variable up in the environment (a map, in tests).
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Fills what was not typed from the configuration file and the environment.
///
/// # Errors
/// One sentence, when the file cannot be read, or a key or a value in it or in the environment is
/// wrong.
pub fn complete(typed: CaptureArgs, environment: Environment<'_>) -> Result<CaptureArgs, Usage> {
    let from_environment = read_environment(environment)?;
    let path = typed.run.config.clone().or_else(|| from_environment.run.config.clone());
    let from_file = path.as_deref().map(read_file).transpose()?;
    let lower = match from_file {
        Some(file) => overlay(file, from_environment),
        None => from_environment,
    };
    Ok(overlay(typed, lower))
}

/// The name of a flag's variable: `CALLSPAN_` and the flag in capitals.
#[must_use]
pub fn variable_of(flag: &str) -> String {
    format!("CALLSPAN_{}", flag.replace('-', "_").to_uppercase())
}

/// Every flag that has a key, in the order of the help, and whether it takes a value.
#[must_use]
pub fn keys() -> Vec<(String, Takes)> {
    let grammar = CaptureArgs::augment_args(Command::new("callspan"));
    let flags = grammar.get_arguments().filter_map(|flag| {
        let takes = if flag.get_action().takes_values() { Takes::Value } else { Takes::Nothing };
        flag.get_long().map(|name| (name.to_owned(), takes))
    });
    flags.collect()
}

/// What stands behind a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A value.
    Value,
    /// Nothing: it is there or not.
    Nothing,
}

fn read_environment(environment: Environment<'_>) -> Result<CaptureArgs, Usage> {
    let mut values = Vec::new();
    for (flag, takes) in keys() {
        let variable = variable_of(&flag);
        let Some(value) = environment(&variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        match takes {
            Takes::Value => values.push((variable, with_value(&flag, value))),
            Takes::Nothing => match value.to_str() {
                Some("1" | "true") => values.push((variable, format!("--{flag}").into())),
                Some("0" | "false") => {}
                _ => return Err(Usage(format!("{variable}: give 1 or 0"))),
            },
        }
    }
    parse_each(values)
}

fn read_file(path: &Path) -> Result<CaptureArgs, Usage> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("{shown}: cannot read the configuration file: {error}")))?;
    let table = text
        .parse::<toml::Table>()
        .map_err(|error| Usage(format!("{shown}: not TOML: {}", place(&text, &error))))?;
    let known = keys();
    let mut values = Vec::new();
    for (key, value) in &table {
        if key == "config" {
            return Err(Usage(format!("{shown}: `config` cannot be set in the file itself")));
        }
        let Some((_, takes)) = known.iter().find(|(flag, _)| flag == key) else {
            return Err(Usage(format!(
                "{shown}: unknown key `{key}`; keys are named as the flags in `callspan capture --help`"
            )));
        };
        for word in
            words_of(key, value, *takes).map_err(|what| Usage(format!("{shown}: {what}")))?
        {
            values.push((shown.to_string(), word));
        }
    }
    parse_each(values)
}

/// The words that would have been typed for one key of the file.
fn words_of(key: &str, value: &toml::Value, takes: Takes) -> Result<Vec<OsString>, String> {
    let one = |value: &toml::Value| match (takes, value) {
        (Takes::Nothing, toml::Value::Boolean(true)) => Ok(Some(format!("--{key}").into())),
        (Takes::Nothing, toml::Value::Boolean(false)) => Ok(None),
        (Takes::Nothing, _) => Err(format!("key `{key}`: give true or false")),
        (Takes::Value, toml::Value::String(text)) => Ok(Some(with_value(key, text.into()))),
        (Takes::Value, toml::Value::Integer(number)) => {
            Ok(Some(with_value(key, number.to_string().into())))
        }
        (Takes::Value, _) => Err(format!("key `{key}`: give a text or a whole number")),
    };
    match value {
        toml::Value::Array(items) if key == "interface" => {
            items.iter().filter_map(|item| one(item).transpose()).collect()
        }
        value => Ok(one(value)?.into_iter().collect()),
    }
}

fn with_value(flag: &str, value: OsString) -> OsString {
    let mut word = OsString::from(format!("--{flag}="));
    word.push(value);
    word
}

/// Parses words that each came from somewhere: first alone, so that an error can name the place.
fn parse_each(values: Vec<(String, OsString)>) -> Result<CaptureArgs, Usage> {
    for (origin, word) in &values {
        parse_words(vec![word.clone()])
            .map_err(|error| Usage(format!("{origin}: {}", super::parse::one_line(&error))))?;
    }
    parse_words(values.into_iter().map(|(_, word)| word).collect())
        .map_err(|error| Usage(super::parse::one_line(&error)))
}

fn parse_words(words: Vec<OsString>) -> Result<CaptureArgs, clap::Error> {
    let grammar = CaptureArgs::augment_args(Command::new("callspan").no_binary_name(true));
    CaptureArgs::from_arg_matches(&grammar.try_get_matches_from(words)?)
}

/// `line 3: what is wrong`.
fn place(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// `upper` where it has a value, else `lower`.
fn overlay(upper: CaptureArgs, lower: CaptureArgs) -> CaptureArgs {
    let interface = if upper.interface.is_empty() { lower.interface } else { upper.interface };
    let (upper, lower) = (upper.run, lower.run);
    let run = RunArgs {
        archive: upper.archive.or(lower.archive),
        keys: KeyArgs {
            signing_key: upper.keys.signing_key.or(lower.keys.signing_key),
            box_key: upper.keys.box_key.or(lower.keys.box_key),
        },
        store: upper.store.or(lower.store),
        start: upper.start.or(lower.start),
        workers: upper.workers.or(lower.workers),
        capture_threads: upper.capture_threads.or(lower.capture_threads),
        opus_bitrate: upper.opus_bitrate.or(lower.opus_bitrate),
        opus_complexity: upper.opus_complexity.or(lower.opus_complexity),
        reorder_window: upper.reorder_window.or(lower.reorder_window),
        commit_interval: upper.commit_interval.or(lower.commit_interval),
        ring_size: upper.ring_size.or(lower.ring_size),
        disk_reserve: upper.disk_reserve.or(lower.disk_reserve),
        checkpoint_to: upper.checkpoint_to.or(lower.checkpoint_to),
        filter: upper.filter.or(lower.filter),
        band: upper.band.or(lower.band),
        legs: upper.legs.or(lower.legs),
        join_header: upper.join_header.or(lower.join_header),
        hep_listen: upper.hep_listen.or(lower.hep_listen),
        tls_keylog: upper.tls_keylog.or(lower.tls_keylog),
        tls_key: upper.tls_key.or(lower.tls_key),
        heuristic_rtp: upper.heuristic_rtp || lower.heuristic_rtp,
        metrics: upper.metrics.or(lower.metrics),
        config: upper.config.or(lower.config),
        log_format: upper.log_format.or(lower.log_format),
        json: upper.json || lower.json,
    };
    CaptureArgs { interface, run }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value for every key that is not its default.
    const EVERY_KEY: &str = "interface = [\"eth1\", \"eth2\"]\narchive = \"calls\"\n\
        signing-key = \"s.key\"\nbox-key = \"b.key\"\n\
        store = \"raw\"\nstart = \"media\"\nworkers = 3\ncapture-threads = 2\n\
        opus-bitrate = \"32k\"\nopus-complexity = 5\nreorder-window = 100\n\
        commit-interval = 500\nring-size = 128\ndisk-reserve = \"1G\"\ncheckpoint-to = \"kept\"\nfilter = \"udp\"\nband = \"wb\"\n\
        hep-listen = \"127.0.0.1:9060\"\n\
        tls-keylog = \"keys.log\"\ntls-key = \"server.pem\"\n\
        legs = \"all\"\njoin-header = \"X-Call\"\nheuristic-rtp = true\n\
        metrics = \"127.0.0.1:9464\"\nlog-format = \"json\"\njson = true\n";

    fn none() -> CaptureArgs {
        parse_words(Vec::new()).expect("no words are fine")
    }

    fn from_text(text: &str) -> Result<CaptureArgs, Usage> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("callspan.toml");
        std::fs::write(&path, text).expect("written");
        let mut typed = none();
        typed.run.config = Some(path);
        complete(typed, &|_| None)
    }

    #[test]
    fn every_flag_has_a_key_and_every_key_is_taken_over() {
        let read = from_text(EVERY_KEY).expect("a whole file");
        let shown = format!("{read:?}");
        assert!(!shown.contains("None"), "a key is lost: {shown}");
        assert!(read.run.json);
        assert_eq!(read.interface, ["eth1", "eth2"]);
        for (key, _) in keys() {
            let here = EVERY_KEY.lines().any(|line| line.starts_with(&format!("{key} =")));
            assert_eq!(here, key != "config", "{key}");
        }
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_named() {
        for (text, part) in [
            ("worker = 3", "unknown key `worker`"),
            ("config = \"x\"", "`config` cannot be set in the file itself"),
            ("workers = 0", "invalid value '0' for '--workers <N>'"),
            ("workers = 1.5", "key `workers`: give a text or a whole number"),
            ("json = 1", "key `json`: give true or false"),
            ("a\nb = ", "not TOML: line 1:"),
            ("workers = [1, 2]", "key `workers`: give a text or a whole number"),
        ] {
            let message = from_text(text).expect_err(text).0;
            assert!(message.contains("callspan.toml: "), "{message}");
            assert!(message.contains(part), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_environment() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c.toml");
        std::fs::write(&path, "workers = 2\nopus-complexity = 2\n").expect("written");
        let mut typed = none();
        typed.run.workers = Some(1);
        let environment = |name: &str| match name {
            "CALLSPAN_CONFIG" => Some(path.clone().into_os_string()),
            "CALLSPAN_WORKERS" | "CALLSPAN_OPUS_COMPLEXITY" | "CALLSPAN_RING_SIZE" => {
                Some("3".into())
            }
            "CALLSPAN_JSON" => Some("1".into()),
            "CALLSPAN_FILTER" => Some(OsString::new()),
            _ => None,
        };
        let run = complete(typed, &environment).expect("complete").run;
        assert_eq!((run.workers, run.opus_complexity, run.ring_size), (Some(1), Some(2), Some(3)));
        assert!(run.json);
        assert_eq!(run.filter, None, "an empty variable is none");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let environment = |name: &str| (name == "CALLSPAN_STORE").then(|| "mp3".into());
        let message = complete(none(), &environment).expect_err("mp3").0;
        assert!(message.starts_with("CALLSPAN_STORE: invalid value 'mp3'"), "{message}");
        let environment = |name: &str| (name == "CALLSPAN_JSON").then(|| "yes".into());
        assert!(complete(none(), &environment).expect_err("yes").0.contains("CALLSPAN_JSON"));
    }
}
