//! Changing who can open recordings, with a power cut after every step, and old files put back.
//!
//! Purpose: a recipient who was taken away does not come back by an older file, and no crash between
//! two files of a change leaves an archive that looks tampered with.
//! Invariants: a run is the same each time: the disk is simulated, and time is a number.
//! Non-goals: the commands (see tests/cli_keys.rs).
//! Sources: docs/archive.md, "Change settings", "Rewrap", "Verify".

mod archive_common;

use archive_common::{Protect, identities, keys, options};
use callspan::archive::recipients::new_pair;
use callspan::archive::verify::{Verdict, VerifyOptions, verify_on};
use callspan::archive::{
    ArchiveError, ClockReading, Compression, Curator, DiskSim, Identities, Manifest, RecordKind,
    Writer,
};
use callspan::base::CallId;
use serde_json::json;

const CALL: CallId = CallId(0xa1);

fn clock() -> ClockReading {
    ClockReading { now_ns: 1_795_489_056_000_000_000, ..ClockReading::default() }
}

fn curator(disk: &DiskSim) -> Curator<DiskSim> {
    Curator::open(disk.clone(), keys(), clock).expect("curator")
}

fn writer(disk: &DiskSim) -> Result<Writer<DiskSim>, ArchiveError> {
    Writer::open(disk.clone(), options(8_192)).map(|(writer, _)| writer)
}

fn record(disk: &DiskSim) {
    let mut writer = writer(disk).expect("writer");
    let summary = json!({"id": CALL.to_string(), "state": "ended",
        "started_at": "2026-11-24T02:57:36.000000+00:00"});
    for (kind, body) in
        [(RecordKind::Audio, "sound".to_owned()), (RecordKind::Summary, summary.to_string())]
    {
        writer.append(CALL, kind, body.as_bytes(), Compression::None).expect("room");
    }
    writer.seal().expect("sealed");
}

/// A sealed archive with a finished segment.
fn archive() -> DiskSim {
    let disk = Protect::Sealed.disk();
    record(&disk);
    disk
}

/// The present recipients, and one more.
fn with_another(disk: &DiskSim) -> (Manifest, Identities) {
    let (secret, public) = new_pair("now");
    let mut settings = Manifest::read(disk).expect("settings");
    settings.recipients.push(public);
    (settings, Identities::parse(&secret).expect("an identity"))
}

#[track_caller]
fn is_whole(disk: &DiskSim) {
    let found = verify_on(disk, &VerifyOptions::default()).expect("checked");
    assert_eq!(found.verdict(), Verdict::Whole, "{:?} {:?}", found.faults, found.leftovers);
}

#[track_caller]
fn is_damaged(disk: &DiskSim, file: &str, part: &str) {
    let found = verify_on(disk, &VerifyOptions::default()).expect("checked");
    let told =
        |fault: &&callspan::archive::verify::Fault| fault.file == file && fault.what.contains(part);
    assert!(found.faults.iter().any(|fault| told(&fault)), "{:?}", found.faults);
}

#[test]
fn an_older_manifest_is_found_and_nothing_is_recorded_for_those_in_it() {
    let disk = archive();
    let (settings, _) = with_another(&disk);
    let first = disk.bytes("archive.toml").expect("settings");
    curator(&disk).change_settings(&settings).expect("changed");
    let second = disk.bytes("archive.toml").expect("settings");
    is_whole(&disk);
    let without = Manifest { recipients: settings.recipients[1..].to_vec(), ..settings };
    curator(&disk).change_settings(&without).expect("changed");
    is_whole(&disk);
    let third = disk.bytes("archive.toml").expect("settings");
    for old in [first, second] {
        disk.plant("archive.toml", &old);
        is_damaged(&disk, "archive.toml", "an older one was put back");
        let refused = writer(&disk).map(drop).expect_err("refused");
        assert_eq!(refused.label(), "bad_manifest", "{refused}");
    }
    disk.plant("archive.toml", &third);
    is_whole(&disk);
    record(&disk);
}

#[test]
fn older_wrapped_keys_are_found() {
    let disk = archive();
    let name = "segments/0000000001.keys";
    let mut versions = vec![disk.bytes(name).expect("keys")];
    let mut known = identities();
    for _ in 0..2 {
        let (settings, other) = with_another(&disk);
        let mut curator = curator(&disk);
        curator.change_settings(&settings).expect("changed");
        assert_eq!(curator.rewrap(&known).expect("wrapped").keys, 1);
        drop(curator);
        is_whole(&disk);
        versions.push(disk.bytes(name).expect("keys"));
        known = other;
    }
    for old in &versions[..2] {
        disk.plant(name, old);
        is_damaged(&disk, name, "older file than its keys were last wrapped in");
    }
    disk.plant(name, &versions[2]);
    is_whole(&disk);
    // A key of such a file is destroyed like any other.
    curator(&disk).erase(CALL, "asked for").expect("erased");
    is_whole(&disk);
    disk.plant(name, &versions[2]);
    is_damaged(&disk, name, "are back, which was erased");
}

#[test]
fn lines_cut_from_the_tombstones_are_missed_by_the_checkpoints_that_knew_them() {
    let disk = archive();
    let mut upkeep = curator(&disk);
    upkeep.hold(CALL, "case 7").expect("held");
    upkeep.hold(CALL, "case 8").expect("held");
    drop(upkeep);
    record(&disk);
    is_whole(&disk);
    let lines = disk.bytes("tombstones").expect("lines");
    let first = lines.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    disk.plant("tombstones", &lines[..first]);
    is_damaged(
        &disk,
        "tombstones",
        "it ends after 1 lines, and segments/0000000002.segment knows of 2",
    );
    disk.plant("tombstones", b"");
    is_damaged(&disk, "tombstones", "it ends after 0 lines");
    disk.plant("tombstones", &lines);
    is_whole(&disk);
    // What came after the newest checkpoint, only one that is kept elsewhere can miss.
    curator(&disk).release(CALL, "closed").expect("released");
    let rolled_back = disk.bytes("tombstones").expect("lines").len();
    assert!(rolled_back > lines.len());
    disk.plant("tombstones", &lines);
    is_whole(&disk);
}

#[test]
fn a_power_cut_after_any_step_of_a_change_leaves_the_old_or_the_new_recipients() {
    for stop in 0.. {
        let disk = archive();
        let (settings, other) = with_another(&disk);
        let old = Manifest::read(&disk).expect("settings").recipients;
        let mut first = curator(&disk);
        disk.stop_after(stop);
        let done = first
            .change_settings(&settings)
            .and_then(|()| first.rewrap(&identities()).map(drop))
            .is_ok();
        for seed in 0..4 {
            let image = disk.crash(seed);
            let found = verify_on(&image, &VerifyOptions::default()).expect("checked");
            let why = format!("stop {stop}, seed {seed}: {:?}", found.faults);
            assert_ne!(found.verdict(), Verdict::Damaged, "{why}");
            // A recording may begin before anybody looks after it.
            record(&image);
            drop(curator(&image));
            is_whole(&image);
            let now = Manifest::read(&image).expect("settings").recipients;
            assert!(now == old || now == settings.recipients, "{why}");
            let wrapped = curator(&image).rewrap(&other).expect("wrapped").keys > 0;
            assert!(!wrapped || now == settings.recipients, "{why}");
            assert!(wrapped || !done, "{why}");
            is_whole(&image);
        }
        if done {
            assert!(stop > 8, "there were steps to stop at");
            break;
        }
    }
}
