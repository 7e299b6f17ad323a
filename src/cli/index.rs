//! `callspan index rebuild`: makes the index again from the segments.
//!
//! Purpose: the index is a cache; losing it costs this command and nothing else.
//! Invariants: segments are only read; what cannot be read is counted and told (status 3).
//! Non-goals: repairing segments.
//! Sources: docs/archive.md, "Rebuild".

use super::Exit;
use super::key_files::ArchivePlace;
use super::output::{self, Failure};
use super::store::archive_failure;
use crate::archive::rebuild_index;

/// Rebuilds the index.
pub fn rebuild(place: &ArchivePlace) -> Result<Exit, Failure> {
    let rebuilt = rebuild_index(&place.dir, place.load_box_key()?.as_ref())
        .map_err(|error| archive_failure(&error))?;
    output::remark(&format!(
        "index made again: {} calls, {} records in {} segments",
        rebuilt.calls, rebuilt.records, rebuilt.segments
    ));
    if rebuilt.skipped == 0 {
        return Ok(Exit::Done);
    }
    output::complain(&format!(
        "{} segments or records could not be read and are not in the index; restore them from a copy",
        rebuilt.skipped
    ));
    Ok(Exit::Lost)
}
