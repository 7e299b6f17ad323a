//! What a process that was killed left behind.
//!
//! Purpose: say which segments were mended, and end the calls that were going on then.
//! Invariants: a call is truncated once: its summary is final after that.
//! Non-goals: mending files (see `archive::recover`).
//! Sources: docs/archive.md ("Open").

use crate::archive::{Archive, BoxKey, RecordKind, Recovered};
use crate::base::CallId;
use crate::base::rfc3339::{format_utc, parse_ns};
use crate::base::time::NS_PER_MS;
use crate::call::EndReason;
use crate::call::summary::{CallSummary, RecordingSummary};
use crate::media::{SLOT_MS, SLOTS_PER_S};
use crate::work::writer::ArchiveSender;
use std::path::Path;

/// Calls that were going on when an earlier process was killed are truncated; what they have of
/// audio is theirs.
pub fn truncate_ongoing(
    path: &Path,
    box_key: &BoxKey,
    archive: &ArchiveSender,
    recovered: &Recovered,
) {
    let reader = Archive::open(path, Some(box_key)).ok();
    for found in &recovered.segments {
        tracing::warn!(
            segment = found.segment.0,
            records_kept = found.kept_records,
            bytes_cut = found.cut_bytes,
            records_damaged = found.damaged.len(),
            "an earlier process ended early: its open segment was sealed"
        );
    }
    for segment in &recovered.unreadable {
        tracing::error!(
            segment = segment.0,
            "a segment cannot be read and is left as it is: run `callspan verify`"
        );
    }
    for call in &recovered.ongoing {
        if let Ok(mut summary) = serde_json::from_str::<CallSummary>(&call.summary_json) {
            summary.state = "truncated".into();
            summary.end_reason = Some(EndReason::Shutdown.label().into());
            if let Some(reader) = &reader {
                end_where_sound_ends(&mut summary, reader, call.id);
            }
            summary.notes.push(KILLED_NOTE.into());
            archive.append_json(call.id, RecordKind::Summary, &summary);
        }
    }
}

/// Told of a call that a killed process was recording.
const KILLED_NOTE: &str =
    "callspan was killed during this call: it has what was on the disk by then";

/// Fills in what the archive holds of a call that has no final summary. Of raw RTP, which the box
/// cannot open, it does not know how long it is.
fn end_where_sound_ends(summary: &mut CallSummary, archive: &Archive, id: CallId) {
    let (slots, bytes) = archive.audio_extent(id).unwrap_or_default();
    let recording = &mut summary.recording;
    if bytes == 0 {
        if recording.state == "stored" {
            *recording = RecordingSummary { state: "none".into(), ..RecordingSummary::default() };
        }
        return;
    }
    recording.state = "stored".into();
    recording.channels = 2;
    recording.bytes = bytes;
    recording.seconds = f64::from(slots) / f64::from(SLOTS_PER_S);
    // Second 0 is the answer where the process died before it told of the first sound.
    let since = recording.started_at.take().or_else(|| summary.answered_at.clone());
    let ns = since.as_deref().and_then(parse_ns);
    let len_ns = i64::from(slots).saturating_mul(SLOT_MS * NS_PER_MS);
    summary.ended_at = ns.map(|ns| format_utc(ns.saturating_add(len_ns)));
    summary.recording.started_at = since;
}
