//! `callspan timestamp`: has checkpoints stamped by somebody else's clock.
//!
//! Purpose: prove that a finished segment existed at a time, without trusting the box's own clock.
//! Invariants: only a hash leaves the box; a stamp is kept only if it answers our request; what is
//! stamped already is not sent again.
//! Non-goals: checking the authority's signature: `openssl ts -verify` does, with its certificate.
//! Sources: RFC 3161.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use super::Exit;
use super::key_files::ArchivePlace;
use super::output::{self, Failure};
use super::store::archive_failure;
use crate::archive::merkle::sha256;
use crate::archive::{DiskOs, checkpoints};
use crate::base::limits::TIMESTAMP_TIMEOUT_MS;
use crate::base::rfc3339::format_utc;
use crate::ops::timestamp_client::fetch;

/// The directory of stamps, in the archive.
pub const STAMPS_DIR: &str = "stamps";

/// The name of a segment's stamp.
pub fn stamp_name(segment: u64) -> String {
    format!("{STAMPS_DIR}/{segment:010}.tsr")
}

/// Has every finished segment stamped that has no stamp yet.
pub fn timestamp(place: &ArchivePlace, url: &str) -> Result<Exit, Failure> {
    let wanted = checkpoints(&DiskOs::new(&place.dir)).map_err(|error| archive_failure(&error))?;
    let io = |what: &str, error: std::io::Error| {
        Failure::failed(format_args!("cannot {what} {}/{STAMPS_DIR}: {error}", place.dir.display()))
    };
    match DirBuilder::new().mode(0o700).create(place.dir.join(STAMPS_DIR)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io("make", error)),
        _ => {}
    }
    let (mut made, mut known, mut last_ns) = (0_u64, 0_u64, None);
    for (segment, note) in wanted {
        let path = place.dir.join(stamp_name(segment.0));
        if path.exists() {
            known += 1;
            continue;
        }
        let nonce = random().map_err(|error| io("stamp for", error))?;
        let limit = Duration::from_millis(TIMESTAMP_TIMEOUT_MS);
        let reply = fetch(url, &sha256(&[note.as_bytes()]), nonce, limit)
            .map_err(|error| Failure::failed(format_args!("{segment} has no stamp: {error}")))?;
        // Whole or not at all.
        let new = path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&reply.response)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| io("write to", error))?;
        last_ns = Some(reply.time_ns);
        made += 1;
    }
    let at = last_ns.map(|time_ns| format!(", the last at {}", format_utc(time_ns)));
    output::remark(&format!(
        "{made} checkpoints stamped{}; {known} had a stamp",
        at.unwrap_or_default()
    ));
    Ok(Exit::Done)
}

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
