//! `callspan replay`: calls from capture files.
//!
//! Purpose: read files in time order and drive one front, which runs the correlator itself.
//! Invariants: the reader waits for workers and archive, so nothing is dropped; the result does
//! not depend on their number or speed.
//! Non-goals: file formats (see `capture`).
//! Sources: none.

use super::engine::{Engine, FrontsReport, UNCLAIMED_SHOWN};
use super::key_log::{KeyLogFile, tls_keys};
use super::watch::serve_metrics;
use crate::base::{FrameOutcome, FrameSource, PacketTime, Polled, RingIndex};
use crate::capture::{CaptureError, ErrorClass, FileSource};
use crate::cli::{Exit, OutputFormat, RunError, RunOptions, RunReport};
use crate::work::front::Front;
use crate::work::pool::Overload;
use crate::work::ports::InlinePort;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::PathBuf;

/// Records calls from capture files.
///
/// # Errors
/// A file that cannot be read, an archive that cannot be written; what was recorded is kept.
pub fn replay(files: &[PathBuf], options: &RunOptions) -> Result<RunReport, RunError> {
    let engine_error = |error: CaptureError| RunError {
        exit: if error.class() == ErrorClass::Usage { Exit::Usage } else { Exit::Failed },
        ..RunError::failed(error)
    };
    let mut source = FileSource::open(files, options.filter.as_deref()).map_err(engine_error)?;
    if let Some(path) = &options.tls_keylog {
        KeyLogFile::new(path.clone(), source.key_log().clone()).read_whole()?;
    }
    let tls = tls_keys(options, source.key_log().clone())?;
    let engine = Engine::start(options, 1, Overload::Wait)?;
    let (outbox, stats) = engine.front_parts(RingIndex(0));
    let mut front =
        Front::new(InlinePort::new(engine.signalling(source.key_log().clone())?), outbox, stats);
    if let Some(keys) = tls {
        front = front.with_tls(keys);
    }
    let metrics = serve_metrics(options, &engine, &[])?;
    let bar = progress_bar(options, &source);
    let damage = read(&mut source, &mut front, &engine, &bar);
    bar.finish_and_clear();
    front.last_looks();
    front.port().drain_timers();
    front.finish();
    let mut outcomes = *front.outcomes();
    outcomes.add_many(FrameOutcome::Filtered, source.filtered());
    let report = FrontsReport {
        received: front.received().saturating_add(source.filtered()),
        outcomes,
        unclaimed: front.unclaimed(UNCLAIMED_SHOWN),
        losses: damage,
        ..FrontsReport::default()
    };
    let result = engine.finish(report);
    drop(metrics);
    result
}

/// Reads to the end; returns what of the files was cut or damaged.
fn read(
    source: &mut FileSource,
    front: &mut Front<InlinePort>,
    engine: &Engine,
    bar: &ProgressBar,
) -> Vec<String> {
    let mut damage = Vec::new();
    loop {
        match source.poll(front) {
            Ok(Polled::Frames) => front.between(PacketTime::MIN),
            Ok(Polled::Idle { now }) => front.between(now),
            Ok(Polled::End) => return damage,
            Err(error) => damage.push(error.to_string()),
        }
        let (read, total) = source.progress();
        bar.set_length(total);
        bar.set_position(read);
        if engine.failure().is_some() {
            return damage;
        }
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(options: &RunOptions, source: &FileSource) -> ProgressBar {
    let bar = ProgressBar::new(source.progress().1);
    if options.json == OutputFormat::JsonLines {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
