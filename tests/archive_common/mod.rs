//! Archives for tests: keys that are always the same, and the shortest way to make and open one.
//!
//! Purpose: what every test of the archive needs, once.
//! Invariants: the keys are no secret, and guard nothing but tests.
//! Non-goals: calls and media (see `harness`).
//! Sources: none.
#![allow(dead_code, reason = "each test binary uses its part")]

use callspan::archive::recipients::new_pair;
use callspan::archive::record::decode_record;
use callspan::archive::{
    Archive, BoxKeys, Disk, DiskSim, Identities, InitOptions, Recovered, Writer, WriterOptions,
    init, init_on,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

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

/// How the archives of a test are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protect {
    /// Not at all.
    Plaintext,
    /// Sealed to the recipient of all tests.
    Sealed,
}

impl Protect {
    pub const BOTH: [Self; 2] = [Self::Plaintext, Self::Sealed];

    /// A new archive on a simulated disk.
    pub fn disk(self) -> DiskSim {
        let options = match self {
            Self::Plaintext => InitOptions::plaintext(),
            Self::Sealed => InitOptions::sealed_to(&[&pair().1]),
        };
        let mut disk = DiskSim::new();
        init_on(&mut disk, &options, &keys()).expect("a new archive");
        disk
    }

    /// Bytes that sealing adds to a body.
    pub fn tag_bytes(self) -> usize {
        if self == Self::Sealed { 16 } else { 0 }
    }

    /// Bytes that a record with a body of so many bytes takes in a segment.
    pub fn span(self, body_bytes: usize) -> usize {
        (48 + body_bytes + self.tag_bytes()).next_multiple_of(8)
    }
}

/// The identity file and the public key of the recipient of all tests.
fn pair() -> &'static (String, String) {
    static PAIR: OnceLock<(String, String)> = OnceLock::new();
    PAIR.get_or_init(|| {
        let (text, public) = new_pair("now");
        (text.to_string(), public)
    })
}

/// Opens what is sealed to the recipient of all tests.
pub fn identities() -> Identities {
    Identities::parse(&pair().0).expect("an identity")
}

/// A writer that can read sound too, and what it found.
pub fn open_writer(disk: &DiskSim, segment_bytes: u64) -> (Writer<DiskSim>, Recovered) {
    let opened = Writer::open(disk.clone(), options(segment_bytes));
    let (mut writer, recovered) = opened.expect("a writer");
    writer.unlock(identities());
    (writer, recovered)
}

/// Every nonce that was used, with the bytes that were sealed with it: by key epoch and counter.
#[derive(Clone, Debug, Default)]
pub struct Nonces(BTreeMap<(u64, u64), Vec<u8>>);

impl Nonces {
    /// Notes every sealed record on a disk. A nonce that sealed two different things fails the test.
    pub fn note(&mut self, disk: &DiskSim) {
        for name in disk.list("segments").expect("a directory") {
            let Some((number, "open" | "segment")) = name.split_once('.') else { continue };
            let keys = disk.bytes(&format!("segments/{number}.keys")).unwrap_or_default();
            let bytes = disk.bytes(&format!("segments/{name}")).expect("a file");
            self.note_segment(&bytes, &keys);
        }
    }

    fn note_segment(&mut self, mut bytes: &[u8], keys: &[u8]) {
        bytes = bytes.get(64..).unwrap_or_default();
        while let Ok(record) = decode_record(bytes) {
            if let Some(seal) = record.header.seal {
                // docs/archive.md, "Bytes of a key file": the epoch is 8 bytes into the slot.
                let word = |at: usize, len: usize| {
                    let mut word = [0; 8];
                    word[..len].copy_from_slice(&keys[at..at + len]);
                    u64::from_le_bytes(word)
                };
                let slot_bytes = usize::try_from(word(12, 4)).expect("small");
                let epoch = word(64 + slot_bytes * seal.slot as usize + 8, 8);
                let known = self.0.entry((epoch, seal.counter)).or_insert(record.bytes.to_vec());
                assert!(
                    *known == record.bytes,
                    "epoch {epoch:x}, counter {}: two records under one nonce",
                    seal.counter
                );
            }
            bytes = &bytes[record.bytes.len()..];
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// An archive to read from.
pub fn reader(path: &Path) -> Archive {
    Archive::open(path, Some(&keys().box_key)).expect("readable")
}
