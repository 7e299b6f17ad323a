//! The file of tombstones on a disk that is unplugged, fills up and fails.
//!
//! Purpose: show that an acknowledged tombstone is never lost, whatever step was the last.
//! Invariants: none.
//! Non-goals: what lines say (see `tombstones_tests`).
//! Sources: the numbered steps in `tombstone_file`.

use super::super::disk_sim::DiskSim;
use super::*;

const ARCHIVE: [u8; 16] = [7; 16];

fn key() -> SigningKey {
    SigningKey::from_seed("callspan/a", [1; 32]).expect("a name")
}

fn load(disk: &DiskSim) -> TombstoneFile {
    let loaded = TombstoneFile::load(disk, ARCHIVE, Some(&key().verifying_key()));
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

fn erasing(call: u64) -> [Tombstone; 2] {
    let call = CallId(call);
    let reason = "retention".to_owned();
    [Tombstone::EraseBegun { call, reason, started_at_ns: None }, Tombstone::Erased { call }]
}

fn append(file: &mut TombstoneFile, disk: &DiskSim, call: u64) -> Result<(), ArchiveError> {
    file.append(&mut disk.clone(), &erasing(call), 5, &key())
}

/// A disk with the erasures of calls 1 and 2.
fn disk() -> DiskSim {
    let disk = DiskSim::new();
    let mut file = load(&disk);
    for call in [1, 2] {
        append(&mut file, &disk, call).expect("room");
    }
    disk
}

fn erased(file: &TombstoneFile) -> Vec<u64> {
    let all = file.tombstones().erasures();
    all.filter(|(_, erasure)| erasure.erased_ns.is_some()).map(|(call, _)| call.0).collect()
}

#[test]
fn what_was_appended_is_there_after_a_power_cut() {
    let disk = disk();
    for seed in 0..8 {
        let file = load(&disk.crash(seed));
        assert_eq!((erased(&file), file.torn_bytes()), (vec![1, 2], 0));
        assert_eq!(file.tombstones().count(), 4);
    }
}

/// Does `work` on the disk that `make` gives, stopping after each step, and looks at what a power
/// cut leaves: calls 1 and 2 (and 3, once acknowledged), and an archive that goes on.
fn crash_at_each_step(
    make: impl Fn() -> DiskSim,
    work: impl Fn(&DiskSim) -> Result<(), ArchiveError>,
    before: &[u64],
) {
    let whole = make();
    let start = whole.steps();
    work(&whole).expect("nothing fails");
    let steps = whole.steps() - start;
    assert!(steps >= 2, "a write and a sync");
    for stop in 0..=steps {
        for seed in 0..32 {
            let disk = make();
            disk.stop_after(stop);
            let acknowledged = work(&disk).is_ok();
            assert_eq!(acknowledged, stop == steps);
            let image = disk.crash(seed);
            let mut file = load(&image);
            let found = erased(&file);
            let with_new = [before, &[3]].concat();
            assert!(found == with_new || !acknowledged && found == before, "{found:?} at {stop}");
            append(&mut file, &image, 4).expect("it goes on");
            let again = load(&image.crash(seed));
            assert_eq!(erased(&again), [&found[..], &[4]].concat());
            assert_eq!(again.torn_bytes(), 0);
        }
    }
}

#[test]
fn a_power_cut_at_any_step_of_an_append_loses_nothing_acknowledged() {
    crash_at_each_step(disk, |disk| append(&mut load(disk), disk, 3), &[1, 2]);
}

#[test]
fn a_power_cut_at_any_step_of_the_first_append_leaves_all_or_nothing() {
    crash_at_each_step(DiskSim::new, |disk| append(&mut load(disk), disk, 3), &[]);
}

#[test]
fn a_power_cut_while_a_torn_tail_is_cut_off_loses_nothing() {
    let torn = || {
        let disk = disk();
        let mut bytes = disk.bytes(TOMBSTONES_NAME).expect("file");
        let tail = bytes[..100].to_vec();
        bytes.extend(tail);
        disk.plant(TOMBSTONES_NAME, &bytes);
        disk
    };
    assert_eq!(load(&torn()).torn_bytes(), 100);
    let work = |disk: &DiskSim| {
        let mut file = load(disk);
        append(&mut file, disk, 3)?;
        assert_eq!(file.torn_bytes(), 0);
        Ok(())
    };
    crash_at_each_step(torn, work, &[1, 2]);
}

#[test]
fn after_a_failed_sync_the_next_append_makes_the_file_afresh_and_loses_nothing() {
    let failed = || {
        let disk = disk();
        let mut file = load(&disk);
        disk.fail_sync(1);
        let error = append(&mut file, &disk, 9).expect_err("the sync failed");
        assert!(matches!(error, ArchiveError::Io { .. }), "{error}");
        assert_eq!(erased(&file), [1, 2], "not durable, so not true");
        (disk, file)
    };
    let (whole, mut file) = failed();
    let start = whole.steps();
    append(&mut file, &whole, 3).expect("afresh");
    let steps = whole.steps() - start;
    for stop in 0..=steps {
        for seed in 0..32 {
            let (disk, mut file) = failed();
            disk.stop_after(stop);
            let acknowledged = append(&mut file, &disk, 3).is_ok();
            let found = erased(&load(&disk.crash(seed)));
            assert!(found.starts_with(&[1, 2]), "{found:?}");
            assert!(!acknowledged || found == [1, 2, 3], "{found:?} after step {stop}");
        }
    }
}

#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    let disk = disk();
    let mut file = load(&disk);
    disk.set_write_budget(Some(50));
    let error = append(&mut file, &disk, 3).expect_err("no room");
    assert!(matches!(error, ArchiveError::Full { .. }), "{error}");
    assert_eq!(erased(&file), [1, 2]);
    disk.set_write_budget(None);
    assert_eq!(load(&disk).torn_bytes(), 50);
    append(&mut file, &disk, 3).expect("room again");
    let again = load(&disk.crash(1));
    assert_eq!((erased(&again), again.torn_bytes()), (vec![1, 2, 3], 0));
}

#[test]
fn a_refusal_writes_nothing_and_names_the_call() {
    let disk = disk();
    let mut file = load(&disk);
    let (before, steps) = (disk.bytes(TOMBSTONES_NAME), disk.steps());
    let hold = Tombstone::Held { call: CallId(5), reason: "court".to_owned() };
    let [begun, _] = erasing(5);
    let error = file.append(&mut disk.clone(), &[hold.clone(), begun], 5, &key());
    let error = error.expect_err("on hold").to_string();
    assert_eq!(error, "call 0000000000000005: it is on hold: release it first");
    assert_eq!((disk.bytes(TOMBSTONES_NAME), disk.steps()), (before, steps));
    assert!(!file.tombstones().is_held(CallId(5)));
    // Hold and release within one append are both remembered.
    let release = Tombstone::Released { call: CallId(5), reason: "closed".to_owned() };
    file.append(&mut disk.clone(), std::slice::from_ref(&hold), 5, &key()).expect("held");
    assert!(file.tombstones().is_held(CallId(5)));
    file.append(&mut disk.clone(), &[release, hold], 6, &key()).expect("held again");
    let [begun, erased] = erasing(5);
    assert!(file.append(&mut disk.clone(), &[begun, erased], 7, &key()).is_err());
    assert_eq!(load(&disk).tombstones(), file.tombstones());
    file.append(&mut disk.clone(), &[], 7, &key()).expect("nothing to do");
}

#[test]
fn damage_is_an_error_with_its_line_and_another_writer_is_noticed() {
    let disk = disk();
    let mut stale = load(&disk);
    append(&mut load(&disk), &disk, 3).expect("room");
    for _ in 0..2 {
        let error = append(&mut stale, &disk, 4).expect_err("changed").to_string();
        assert_eq!(
            error,
            "cannot write tombstones of the archive: another process changed it meanwhile"
        );
    }
    assert_eq!(erased(&load(&disk)), [1, 2, 3], "theirs is not lost");
    let empty = DiskSim::new();
    let (mut first, mut second) = (load(&empty), load(&empty));
    append(&mut first, &empty, 1).expect("the first");
    append(&mut second, &empty, 2).expect_err("changed");
    assert_eq!(erased(&load(&empty)), [1]);
    let mut bytes = disk.bytes(TOMBSTONES_NAME).expect("file");
    let third = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 5;
    bytes[third] ^= 1;
    disk.plant(TOMBSTONES_NAME, &bytes);
    let error = TombstoneFile::load(&disk, ARCHIVE, Some(&key().verifying_key()));
    let error = error.expect_err("damage").to_string();
    assert!(error.starts_with("the file tombstones is damaged (line 2: "), "{error}");
}
