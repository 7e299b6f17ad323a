//! Archives for tests: keys that are always the same, and the shortest way to make and open one.
//!
//! Purpose: what every test of the archive needs, once.
//! Invariants: the keys are no secret, and guard nothing but tests.
//! Non-goals: calls and media (see `harness`).
//! Sources: none.
#![allow(dead_code, reason = "each test binary uses its part")]

use callspan::archive::recipients::new_pair;
use callspan::archive::{
    Archive, BoxKeys, DiskSim, Identities, InitOptions, WriterOptions, init, init_on,
};
use std::path::Path;

/// The keys of every box in tests.
pub fn keys() -> BoxKeys {
    BoxKeys::from_random(&[7; 64]).expect("keys")
}

/// Segments of this size.
pub fn options(segment_bytes: u64) -> WriterOptions {
    WriterOptions { segment_bytes, ..WriterOptions::new(keys()) }
}

/// A plaintext archive in a directory.
pub fn plaintext(path: &Path) {
    init(path, &InitOptions::plaintext(), &keys()).expect("a new archive");
}

/// A plaintext archive on a simulated disk.
pub fn simulated() -> DiskSim {
    let mut disk = DiskSim::new();
    init_on(&mut disk, &InitOptions::plaintext(), &keys()).expect("a new archive");
    disk
}

/// A sealed archive on a simulated disk, and who opens it.
pub fn simulated_sealed() -> (DiskSim, Identities) {
    let (text, public) = new_pair("now");
    let mut disk = DiskSim::new();
    init_on(&mut disk, &InitOptions::sealed_to(&[&public]), &keys()).expect("a new archive");
    (disk, Identities::parse(&text).expect("an identity"))
}

/// An archive to read from.
pub fn reader(path: &Path) -> Archive {
    Archive::open(path, Some(&keys().box_key)).expect("readable")
}
