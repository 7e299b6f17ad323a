//! Thousands of random changes to a finished archive: each is found, and none makes `verify` panic.
//!
//! Purpose: flip a bit, cut or lengthen a file, swap, remove, put back an old version; then the kinds
//! one by one, each told apart.
//! Invariants: everything comes from a seed, which a failure names together with the change.
//! Non-goals: crashes (see `archive_sealed`).
//! Sources: docs/archive.md, "Verify".

mod archive_common;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use archive_common::{Protect, keys, open_writer};
use callspan::archive::disk_sim::Random;
use callspan::archive::record::decode_record;
use callspan::archive::verify::{Verdict, Verified, VerifyOptions, verify_on};
use callspan::archive::{Compression, Disk, DiskSim, RecordKind};
use callspan::base::CallId;

/// The seed of all changes: a failure's number begins from here.
const SEED: u64 = 0x5ea1_ed00_0000_0004;

/// The bytes of every file by its name.
type Files = BTreeMap<String, Vec<u8>>;

/// A finished archive, and what its keeper has elsewhere.
struct Finished {
    files: Files,
    /// Earlier bytes that files had, by the name that they have now.
    earlier: Vec<(String, Vec<u8>)>,
    options: VerifyOptions,
}

/// One change.
#[derive(Debug)]
enum Change {
    FlipBit { name: String, byte: usize, bit: usize },
    Cut { name: String, len: usize },
    Lengthen { name: String, by: usize, with: u8 },
    Swap { one: String, other: String },
    Remove { name: String },
    PutBack { name: String, version: usize },
    CopyOver { from: String, to: String },
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

impl Change {
    fn random(random: &mut Random, archive: &Finished) -> Self {
        let names: Vec<&String> = archive.files.keys().collect();
        let any = |random: &mut Random| names[random.below(names.len())].clone();
        let name = any(random);
        let len = archive.files[&name].len();
        match random.below(12) {
            0..=4 => Self::FlipBit { name, byte: random.below(len), bit: random.below(8) },
            5 | 6 => Self::Cut { name, len: random.below(len) },
            7 => {
                let with = if random.below(2) == 0 { 0 } else { random.next().to_le_bytes()[0] };
                Self::Lengthen { name, by: 1 + random.below(100), with }
            }
            8 => Self::Swap { one: name, other: any(random) },
            9 => Self::Remove { name },
            10 => {
                let version = random.below(archive.earlier.len());
                Self::PutBack { name: archive.earlier[version].0.clone(), version }
            }
            _ => Self::CopyOver { from: name, to: any(random) },
        }
    }

    fn apply(&self, archive: &Finished) -> Files {
        let mut files = archive.files.clone();
        let bytes = |name: &String| archive.files[name].clone();
        let mut put = |name: &String, bytes: Vec<u8>| {
            files.insert(name.clone(), bytes);
        };
        match self {
            Self::FlipBit { name, byte, bit } => {
                let mut bytes = bytes(name);
                bytes[*byte] ^= 1 << bit;
                put(name, bytes);
            }
            Self::Cut { name, len } => put(name, bytes(name)[..*len].to_vec()),
            Self::Lengthen { name, by, with } => {
                put(name, [bytes(name), vec![*with; *by]].concat());
            }
            Self::Swap { one, other } => {
                put(one, bytes(other));
                put(other, bytes(one));
            }
            Self::Remove { name } => {
                files.remove(name);
            }
            Self::PutBack { name, version } => put(name, archive.earlier[*version].1.clone()),
            Self::CopyOver { from, to } => put(to, bytes(from)),
        }
        files
    }
}

/// All files of a disk.
fn files_of(disk: &DiskSim) -> Files {
    let inside = disk.list("segments").expect("a directory");
    let inside = inside.iter().map(|name| format!("segments/{name}"));
    let names = std::iter::once("archive.toml".to_owned()).chain(inside);
    names.map(|name| (name.clone(), disk.bytes(&name).expect("a file"))).collect()
}

fn disk_of(files: &Files) -> DiskSim {
    let disk = DiskSim::new();
    for (name, bytes) in files {
        disk.plant(name, bytes);
    }
    disk
}

fn verify(files: &Files, options: &VerifyOptions) -> Verified {
    verify_on(&disk_of(files), options).expect("verified")
}

/// Records a dozen calls into several segments, keeping every version of every file.
fn finished(protect: Protect) -> Finished {
    let disk = protect.disk();
    let (mut writer, _) = open_writer(&disk, 3_200);
    let mut versions: Vec<(String, Vec<u8>)> = Vec::new();
    for number in 0..32_u64 {
        let call = CallId(1 + number % 5 + number / 10 * 5);
        let body = vec![u8::try_from(number).expect("small"); 140];
        writer.append(call, RecordKind::Audio, &body, Compression::None).expect("room");
        writer.append(call, RecordKind::Sip, b"INVITE sip:b@x", Compression::None).expect("room");
        if number % 2 == 1 {
            writer.commit().expect("committed");
            versions.extend(files_of(&disk));
        }
    }
    writer.seal().expect("sealed");
    let files = files_of(&disk);
    let mut earlier = Vec::new();
    for (name, bytes) in versions {
        let name = name.replace(".open", ".segment");
        let known = earlier.contains(&(name.clone(), bytes.clone()));
        if files.get(&name).is_some_and(|now| *now != bytes) && !known {
            earlier.push((name, bytes));
        }
    }
    let checkpoint = writer.checkpoint().map(str::to_owned);
    let options = VerifyOptions { public_key: Some(keys().signing.verifying_key()), checkpoint };
    Finished { files, earlier, options }
}

/// Makes so many random changes; returns how many there were of those that changed something.
fn changes(protect: Protect, rounds: u64) -> u64 {
    let archive = finished(protect);
    let whole = verify(&archive.files, &archive.options);
    assert_eq!(whole.verdict(), Verdict::Whole, "{whole:?}");
    assert!(whole.segments >= 4 && !archive.earlier.is_empty());
    let (mut made, mut round) = (0, 0);
    while made < rounds {
        let seed = SEED.wrapping_add(round);
        round += 1;
        let change = Change::random(&mut Random(seed), &archive);
        let changed = change.apply(&archive);
        if changed == archive.files {
            continue;
        }
        made += 1;
        let disk = disk_of(&changed);
        let found = catch_unwind(AssertUnwindSafe(|| verify_on(&disk, &archive.options)));
        let Ok(found) = found else { panic!("seed {seed:#x}: {change}: it panics") };
        let noticed = found.is_err() || found.is_ok_and(|it| it.verdict() == Verdict::Damaged);
        assert!(noticed, "seed {seed:#x}: {change}: nothing was noticed");
    }
    made
}

#[test]
fn ten_thousand_random_changes_to_a_sealed_archive_are_all_found() {
    assert_eq!(changes(Protect::Sealed, 10_000), 10_000);
}

#[test]
fn two_thousand_random_changes_to_a_plaintext_archive_are_all_found() {
    assert_eq!(changes(Protect::Plaintext, 2_000), 2_000);
}

#[test]
fn every_byte_of_a_finished_segment_and_its_key_file_counts() {
    let archive = finished(Protect::Sealed);
    for name in ["segments/0000000002.segment", "segments/0000000002.keys"] {
        let mut only = archive.files.clone();
        for byte in 0..only[name].len() {
            only.get_mut(name).expect("a file")[byte] ^= 1;
            let found = verify_on(&disk_of(&only), &archive.options).expect("verified");
            assert_eq!(found.verdict(), Verdict::Damaged, "{name}, byte {byte}");
            only.get_mut(name).expect("a file")[byte] ^= 1;
        }
    }
}

/// The first fault after a change.
#[track_caller]
fn first_fault(archive: &Finished, change: impl FnOnce(&mut Files)) -> String {
    let mut files = archive.files.clone();
    change(&mut files);
    let found = verify(&files, &archive.options);
    assert_eq!(found.verdict(), Verdict::Damaged);
    found.faults[0].to_string()
}

fn segment(number: u64) -> String {
    format!("segments/{number:010}.segment")
}

fn key_file(number: u64) -> String {
    format!("segments/{number:010}.keys")
}

#[test]
fn each_kind_of_change_is_told_apart_from_the_others() {
    for protect in Protect::BOTH {
        let archive = finished(protect);
        let last = archive.files.keys().filter(|name| name.ends_with(".segment")).count() as u64;
        let says = |fault: String, parts: &[&str]| {
            for part in parts {
                assert!(fault.contains(part), "`{part}` is not in `{fault}`");
            }
        };
        let bytes = &archive.files[&segment(2)];
        let after = |at: usize| at + decode_record(&bytes[at..]).expect("a record").bytes.len();
        let (second, third) = (after(64), after(after(64)));
        let flipped = first_fault(&archive, |files| {
            let bytes = files.get_mut(&segment(2)).expect("a file");
            // Also in a later record: the first is named.
            bytes[second + 50] ^= 4;
            bytes[third + 50] ^= 4;
        });
        let place = format!("at byte {second} (call ");
        says(flipped, &[&segment(2), &place, "record ", "checksum does not match"]);
        let cut =
            first_fault(&archive, |files| files.get_mut(&segment(2)).expect("").truncate(900));
        says(cut, &[&segment(2), "the file was cut"]);
        let removed = first_fault(&archive, |files| {
            files.remove(&segment(2));
            files.remove(&key_file(2));
        });
        says(removed, &[&segment(3), "number 2 of the log is missing", "removed"]);
        let swapped = first_fault(&archive, |files| {
            let (one, other) = (files[&segment(1)].clone(), files[&segment(2)].clone());
            files.insert(segment(1), other);
            files.insert(segment(2), one);
        });
        says(swapped, &[&segment(1), "its header names another segment"]);
        let rolled_back = first_fault(&archive, |files| {
            files.remove(&segment(last));
            files.remove(&key_file(last));
        });
        says(rolled_back, &["the checkpoint that was given", "rolled back"]);
        if protect == Protect::Sealed {
            let keys = first_fault(&archive, |files| {
                files.get_mut(&key_file(2)).expect("a file")[64 + 1_024 + 30] ^= 1;
            });
            says(keys, &[&key_file(2), "key slot 1 is not the one that was sealed"]);
            let gone = first_fault(&archive, |files| {
                files.remove(&key_file(2));
            });
            says(gone, &[&key_file(2), "missing"]);
        }
    }
}

#[test]
fn a_rolled_back_archive_is_whole_in_itself_and_betrayed_by_a_checkpoint_kept_elsewhere() {
    let archive = finished(Protect::Sealed);
    let mut files = archive.files.clone();
    let last = files.keys().filter(|name| name.ends_with(".segment")).count() as u64;
    files.remove(&segment(last));
    files.remove(&key_file(last));
    let alone = VerifyOptions { checkpoint: None, ..archive.options.clone() };
    let found = verify(&files, &alone);
    assert_eq!(found.verdict(), Verdict::Whole, "nothing in it says that more was there");
    // An older checkpoint is still kept.
    let older = VerifyOptions { checkpoint: found.checkpoint, ..archive.options.clone() };
    assert_eq!(verify(&files, &older).verdict(), Verdict::Whole);
    assert_eq!(verify(&archive.files, &older).verdict(), Verdict::Whole, "it has grown since");
    assert_eq!(verify(&files, &archive.options).verdict(), Verdict::Damaged);
}

#[test]
fn an_open_file_of_a_finished_segment_is_damage_and_never_replaces_it() {
    for protect in Protect::BOTH {
        let archive = finished(protect);
        let (_, old) = archive.earlier.iter().find(|(name, _)| *name == segment(2)).expect("one");
        let mut files = archive.files.clone();
        let open = "segments/0000000002.open".to_owned();
        files.insert(open.clone(), old.clone());
        let found = verify(&files, &archive.options);
        assert_eq!(found.verdict(), Verdict::Damaged);
        assert!(found.faults[0].to_string().contains("finished"), "{}", found.faults[0]);
        // The next start leaves both as they are, and says so.
        let disk = disk_of(&files);
        let (_, recovered) = open_writer(&disk, 3_200);
        assert_eq!(recovered.unreadable.len(), 1, "{recovered:?}");
        assert_eq!(disk.bytes(&segment(2)), Some(archive.files[&segment(2)].clone()));
        assert_eq!(disk.bytes(&open), Some(old.clone()));
    }
}

#[test]
fn a_torn_tail_of_the_open_segment_is_no_damage() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let (mut writer, _) = open_writer(&disk, 4_096);
        for body in [&b"one"[..], b"two"] {
            let call = CallId(1);
            writer.append(call, RecordKind::Audio, body, Compression::None).expect("room");
            writer.commit().expect("committed");
        }
        let mut files = files_of(&disk);
        assert_eq!(verify(&files, &VerifyOptions::default()).verdict(), Verdict::Whole);
        let open = files.get_mut("segments/0000000001.open").expect("a file");
        open[64 + protect.span(3) + 49] ^= 1;
        let found = verify(&files, &VerifyOptions::default());
        assert_eq!(found.verdict(), Verdict::TornTail);
        assert!(found.leftovers[0].to_string().contains("torn tail"), "{found:?}");
    }
}
