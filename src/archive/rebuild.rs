//! `callspan index rebuild`: the index again, from the segments alone.
//!
//! Purpose: any loss of the index costs time and nothing else.
//! Invariants: the old index stays until the new one is whole; a rebuilt index lists the same rows,
//! byte for byte.
//! Non-goals: sealing or repairing segments (see `recover`).
//! Sources: docs/archive.md, "Rebuild the index".

use std::path::Path;

use super::curator::{purge_erased, take_upkeep_lock};
use super::disk::{Disk, IndexPlace, remove_if_there};
use super::error::ArchiveError;
use super::index::{Batch, Index};
use super::manifest::Manifest;
use super::reader::index_key;
use super::recover::{SegmentCounts, list_segments, read_segment};
use super::secret::BoxKey;
use super::tombstone_file::TombstoneFile;
use super::unseal::Unsealer;
use super::writer::take_lock;
use super::{DiskOs, INDEX_NAME};

/// What a rebuild read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Calls in the new index.
    pub calls: u64,
    /// Segments read.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Segments that cannot be read at all, damaged records, and summaries that are no summaries.
    pub skipped: u64,
}

/// Makes the index of the archive at `path` again.
///
/// # Errors
/// `NotInitialised`, `Locked`, `UpkeepLocked`, `VersionUnknown`, `BadManifest`, `Io`, `Index`.
pub fn rebuild_index(path: &Path, box_key: Option<&BoxKey>) -> Result<Rebuilt, ArchiveError> {
    let mut disk = DiskOs::new(path);
    // Step 1: an archive that nobody writes to.
    let manifest = Manifest::read(&disk)?;
    let archive = manifest.archive_id().unwrap_or_default();
    let index_key = index_key(&manifest, box_key)?;
    let unsealer = Unsealer::new(archive, box_key.cloned(), Vec::new());
    take_lock(&mut disk)?;
    // Nor erases: what is erased meanwhile would be read in again.
    take_upkeep_lock(&mut disk)?;
    // Step 2: a new index beside the old one.
    let new_name = format!("{INDEX_NAME}.new");
    remove_index(&mut disk, &new_name)?;
    let place = IndexPlace::File(path.join(&new_name));
    let mut index = Index::create(&place, &disk.place(), index_key.as_ref())?;
    // Step 3: erased calls first, so that nothing of them is taken; then every segment, in order.
    let key = manifest.verifying_key()?;
    let tombstones = TombstoneFile::load(&disk, archive, Some(&key))?;
    purge_erased(&mut index, tombstones.tombstones())?;
    let mut rebuilt = Rebuilt::default();
    let segments = list_segments(&disk)?;
    read_into(&mut index, &mut rebuilt, || {
        let read = |listed| read_segment(&disk, archive, listed, &unsealer);
        segments.iter().copied().map(read)
    })?;
    rebuilt.calls = index.count()?;
    // Step 4: closing folds SQLite's log into the new file.
    index.close()?;
    // Step 5: the old one goes with its log, which would not fit the new one.
    remove_index(&mut disk, INDEX_NAME)?;
    let io = |error| ArchiveError::io("replace", INDEX_NAME, error);
    disk.rename(&new_name, INDEX_NAME).map_err(io)?;
    disk.sync_dir("").map_err(io)?;
    Ok(rebuilt)
}

/// Applies what is read of each segment, in order, while the next one is being read.
fn read_into<I>(
    index: &mut Index,
    rebuilt: &mut Rebuilt,
    segments: impl FnOnce() -> I + Send,
) -> Result<(), ArchiveError>
where
    I: Iterator<Item = Result<(SegmentCounts, Batch), ArchiveError>>,
{
    std::thread::scope(|scope| {
        let (sender, read) = crossbeam::channel::bounded(1);
        // A send fails only once the other side has given up.
        scope.spawn(move || segments().try_for_each(|segment| sender.send(segment)));
        for segment in read {
            match segment {
                Ok((counts, batch)) => {
                    index.apply(&batch)?;
                    rebuilt.segments += 1;
                    rebuilt.records += counts.records;
                    rebuilt.skipped += counts.skipped;
                }
                Err(ArchiveError::BadSegment { .. }) => rebuilt.skipped += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

fn remove_index<D: Disk>(disk: &mut D, name: &str) -> Result<(), ArchiveError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let name = format!("{name}{suffix}");
        remove_if_there(disk, &name).map_err(|error| ArchiveError::io("remove", &name, error))?;
    }
    Ok(())
}
