//! Erasing, holding and keeping calls, with a power cut after every step.
//!
//! Purpose: an erased call is gone for everybody, whatever happens meanwhile; all others stay, and the
//! archive still proves what it holds.
//! Invariants: a run is the same each time: the disk is simulated, and time is a number.
//! Non-goals: the commands (see tests/cli_upkeep.rs), and crashes of the writer alone.
//! Sources: docs/archive.md, "Erase", "Compact", "Retain".

mod archive_common;

use archive_common::{Protect, keys, options};
use callspan::archive::tombstones::TombstoneRefusal;
use callspan::archive::verify::{Verdict, Verified, VerifyOptions, verify_on};
use callspan::archive::{
    ArchiveError, ClockReading, Compression, Curator, Disk, DiskSim, InitOptions, RecordKind,
    Writer, init_on,
};
use callspan::base::{CallId, rfc3339};
use serde_json::json;

const CALLS: [CallId; 4] = [CallId(0xa1), CallId(0xb2), CallId(0xc3), CallId(0xd4)];
const ERASED: CallId = CALLS[1];
const DAY_NS: i64 = 86_400 * 1_000_000_000;
const START_NS: i64 = 1_795_489_056_000_000_000;
const SEGMENT_BYTES: u64 = 8_192;

fn clock() -> ClockReading {
    ClockReading { now_ns: START_NS, ..ClockReading::default() }
}

fn curator(disk: &DiskSim) -> Result<Curator<DiskSim>, ArchiveError> {
    Curator::open(disk.clone(), keys(), clock)
}

fn writer(disk: &DiskSim) -> Writer<DiskSim> {
    Writer::open(disk.clone(), options(SEGMENT_BYTES)).expect("writer").0
}

/// What only this call says.
fn marker(call: CallId) -> String {
    format!("words-of-{:x}", call.0)
}

fn summary(call: CallId, started_ns: i64, state: &str, class: &str) -> Vec<u8> {
    let ended_at = (state == "ended").then(|| rfc3339::format_utc(started_ns + 1_000_000_000));
    json!({
        "id": call.to_string(), "state": state, "started_at": rfc3339::format_utc(started_ns),
        "ended_at": ended_at, "sip_call_ids": [marker(call)], "retention_class": class,
        "caller": {"uri": "", "number": format!("4930{}", call.0), "name": marker(call)},
        "callee": {"uri": "", "number": "200", "name": ""},
    })
    .to_string()
    .into_bytes()
}

fn put(writer: &mut Writer<DiskSim>, call: CallId, kind: RecordKind, body: &[u8]) {
    writer.append(call, kind, body, Compression::None).expect("room");
}

/// Records that say whose they are; `rounds` of them fill a few segments.
fn record(writer: &mut Writer<DiskSim>, calls: &[CallId], rounds: usize) {
    for round in 0..rounds {
        for call in calls {
            let body = format!("{} {round} {}", marker(*call), "x".repeat(400));
            put(writer, *call, RecordKind::Sip, body.as_bytes());
        }
        writer.commit().expect("commit");
    }
}

fn end(writer: &mut Writer<DiskSim>, calls: &[CallId]) {
    for call in calls {
        put(writer, *call, RecordKind::Summary, &summary(*call, START_NS, "ended", ""));
    }
    writer.commit().expect("commit");
}

/// Four calls that stand in each of a few finished segments.
fn filled(disk: &DiskSim) {
    let mut writer = writer(disk);
    record(&mut writer, &CALLS, 9);
    end(&mut writer, &CALLS);
    writer.seal().expect("sealed");
    drop(writer);
    let segments = sealed_segments(disk);
    assert!(segments > 1, "{segments} segments");
}

fn sealed_segments(disk: &DiskSim) -> usize {
    let names = disk.list("segments").expect("names");
    names.iter().filter(|name| name.ends_with(".segment")).count()
}

fn verified(disk: &DiskSim) -> Verified {
    verify_on(disk, &VerifyOptions::default()).expect("checked")
}

#[track_caller]
fn is_whole(disk: &DiskSim, erased_calls: u64) -> Verified {
    let found = verified(disk);
    assert_eq!(found.verdict(), Verdict::Whole, "{:?} {:?}", found.faults, found.leftovers);
    assert_eq!(found.erased_calls, erased_calls);
    found
}

#[track_caller]
fn is_damaged(disk: &DiskSim, part: &str) {
    let found = verified(disk);
    assert_eq!(found.verdict(), Verdict::Damaged, "{:?}", found.leftovers);
    assert!(found.faults.iter().any(|fault| fault.what.contains(part)), "{:?}", found.faults);
}

fn files(disk: &DiskSim) -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = disk.list("").expect("names");
    names.extend(
        disk.list("segments").expect("names").iter().map(|name| format!("segments/{name}")),
    );
    names.into_iter().filter_map(|name| Some((name.clone(), disk.bytes(&name)?))).collect()
}

fn holds(disk: &DiskSim, text: &str) -> bool {
    let text = text.as_bytes();
    files(disk).iter().any(|(_, bytes)| bytes.windows(text.len()).any(|part| part == text))
}

/// Key slots that name the call (bytes 0 to 8 of a slot, from byte 64 of a key file on).
fn slots_of(disk: &DiskSim, call: CallId) -> usize {
    let keys = files(disk).into_iter().filter(|(_, bytes)| bytes.starts_with(b"CALLKEYS"));
    keys.map(|(_, bytes)| {
        let len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        let slots = bytes[64..].chunks(len);
        slots.filter(|slot| slot.starts_with(&call.0.to_le_bytes())).count()
    })
    .sum()
}

/// All calls but the erased one say what they said; of that one nothing is listed, read or written.
#[track_caller]
fn only_one_is_gone(disk: &DiskSim, is_sealed: bool) {
    let mut writer = writer(disk);
    for call in CALLS.into_iter().filter(|call| *call != ERASED) {
        let records = writer.read_call(call).expect("read");
        assert_eq!(records.len(), 10, "call {call}");
        let said = marker(call).into_bytes();
        assert!(records.iter().all(|r| r.body.windows(said.len()).any(|part| part == said)));
    }
    match writer.read_call(ERASED) {
        Err(ArchiveError::Erased { call }) if is_sealed => assert_eq!(call, ERASED),
        Ok(records) if !is_sealed => assert_eq!(records.len(), 0),
        other => panic!("{other:?}"),
    }
    writer.append(CallId(0x77), RecordKind::Sip, b"goes on", Compression::None).expect("room");
    writer.seal().expect("sealed");
}

fn archive(is_sealed: bool) -> DiskSim {
    let disk = if is_sealed { Protect::Sealed.disk() } else { Protect::Plaintext.disk() };
    filled(&disk);
    disk
}

#[test]
fn an_erased_call_of_a_sealed_archive_has_no_key_left_and_the_others_open() {
    let disk = archive(true);
    assert!(slots_of(&disk, ERASED) > 1, "a key in each segment");
    let before = slots_of(&disk, CALLS[0]);
    curator(&disk).expect("curator").erase(ERASED, "asked for").expect("erased");
    assert_eq!((slots_of(&disk, ERASED), slots_of(&disk, CALLS[0])), (0, before));
    is_whole(&disk, 1);
    only_one_is_gone(&disk, true);
    is_whole(&disk, 1);
    only_one_is_gone(&disk, true);
    let tombstones = disk.bytes("tombstones").expect("tombstones");
    assert!(!String::from_utf8_lossy(&tombstones).contains("4930"), "nobody is named");
}

#[test]
fn an_erased_call_of_a_plaintext_archive_is_in_no_file_any_more() {
    let disk = archive(false);
    assert!(holds(&disk, &marker(ERASED)), "the search finds what is there");
    curator(&disk).expect("curator").erase(ERASED, "asked for").expect("erased");
    assert!(!holds(&disk, &marker(ERASED)) && holds(&disk, &marker(CALLS[0])));
    assert_eq!(is_whole(&disk, 1).dropped_records, 10);
    only_one_is_gone(&disk, false);
    assert!(!holds(&disk, &marker(ERASED)), "nor after a writer was there");
    assert_eq!(is_whole(&disk, 1).dropped_records, 10);
}

/// Erases with the power cut after each step, and again while the next curator finishes it.
fn survives_every_power_cut(is_sealed: bool) {
    let (mut finished, mut never_begun) = (0, 0);
    for stop in 0.. {
        let disk = archive(is_sealed);
        let mut first = curator(&disk).expect("curator");
        disk.stop_after(stop);
        let done = first.erase(ERASED, "asked for").is_ok();
        for seed in 0..6 {
            let at = format!("stop {stop}, seed {seed}");
            let image = disk.crash(seed);
            assert_ne!(
                verified(&image).verdict(),
                Verdict::Damaged,
                "{at}: {:?}",
                verified(&image)
            );
            // Finishing it is cut short, too.
            image.stop_after(seed * 2);
            let cut_short = curator(&image).map(drop);
            let image = image.crash(seed + 100);
            assert_ne!(verified(&image).verdict(), Verdict::Damaged, "{at}: {cut_short:?}");
            drop(curator(&image).unwrap_or_else(|error| panic!("{at}: {error}")));
            let erased = verified(&image).erased_calls;
            assert!(!done || erased == 1, "{at}: what was acknowledged is done");
            is_whole(&image, erased);
            if erased == 0 {
                never_begun += 1;
                assert_eq!(writer(&image).read_call(ERASED).expect("read").len(), 10, "{at}");
                curator(&image).expect("curator").erase(ERASED, "again").expect("erased");
            }
            finished += erased;
            assert_eq!(slots_of(&image, ERASED), 0, "{at}");
            assert!(!holds(&image, &marker(ERASED)), "{at}");
            only_one_is_gone(&image, is_sealed);
            is_whole(&image, 1);
        }
        if done {
            assert!(
                stop > 8 && finished > 20 && never_begun > 4,
                "{stop} {finished} {never_begun}"
            );
            break;
        }
    }
}

#[test]
fn a_power_cut_after_any_step_of_erasing_from_a_sealed_archive_leaves_it_done_or_to_be_done() {
    survives_every_power_cut(true);
}

#[test]
fn a_power_cut_after_any_step_of_erasing_from_a_plaintext_archive_leaves_it_done_or_to_be_done() {
    survives_every_power_cut(false);
}

#[track_caller]
fn is_refused(done: Result<(), ArchiveError>, expected: TombstoneRefusal) {
    match done {
        Err(ArchiveError::TombstoneRefused { refusal, .. }) => assert_eq!(refusal, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_on_hold_is_not_erased_until_it_is_released_and_never_twice() {
    for is_sealed in [true, false] {
        let disk = archive(is_sealed);
        let mut curator = curator(&disk).expect("curator");
        curator.hold(ERASED, "case 7").expect("held");
        let before = files(&disk);
        is_refused(curator.erase(ERASED, "x").map(drop), TombstoneRefusal::OnHold);
        assert_eq!(files(&disk), before, "nothing was touched");
        is_whole(&disk, 0);
        is_refused(curator.release(CALLS[0], "x"), TombstoneRefusal::NotHeld);
        curator.release(ERASED, "case closed").expect("released");
        is_refused(curator.erase(ERASED, "").map(drop), TombstoneRefusal::Reason);
        curator.erase(ERASED, "asked for").expect("erased");
        is_refused(curator.erase(ERASED, "x").map(drop), TombstoneRefusal::AlreadyErased);
        is_refused(curator.hold(ERASED, "x"), TombstoneRefusal::AlreadyErased);
        for done in [curator.erase(CallId(9), "x").map(drop), curator.hold(CallId(9), "x")] {
            assert_eq!(done.unwrap_err().label(), "unknown_call");
        }
        is_whole(&disk, 1);
    }
}

#[test]
fn a_call_that_goes_on_is_not_erased_and_a_plaintext_one_waits_for_its_segment() {
    let disk = archive(false);
    let mut writer = writer(&disk);
    let (ended, ongoing) = (CallId(0xe5), CallId(0xf6));
    put(&mut writer, ongoing, RecordKind::CallOpened, &summary(ongoing, START_NS, "ongoing", ""));
    end(&mut writer, &[ended]);
    let mut first = curator(&disk).expect("curator");
    assert_eq!(first.erase(ongoing, "x").unwrap_err().label(), "still_ongoing");
    assert_eq!(first.erase(ended, "x").unwrap_err().label(), "not_sealed_yet");
    assert_eq!(curator(&disk).map(drop).unwrap_err().label(), "upkeep_locked");
    drop(first);
    writer.seal().expect("sealed");
    is_whole(&disk, 0);
    curator(&disk).expect("curator").erase(ended, "x").expect("erased");
    is_whole(&disk, 1);
    assert!(!holds(&disk, &marker(ended)));
}

#[test]
fn keys_that_are_put_back_after_erasing_are_found() {
    let disk = archive(true);
    let name = "segments/0000000001.keys";
    let old = disk.bytes(name).expect("keys");
    curator(&disk).expect("curator").erase(ERASED, "asked for").expect("erased");
    let new = disk.bytes(name).expect("keys");
    disk.plant(name, &old);
    is_damaged(&disk, "which was erased");
    disk.plant(name, &new);
    is_whole(&disk, 1);
}

#[test]
fn segments_from_before_a_compaction_that_are_put_back_are_found() {
    let disk = archive(false);
    let name = "segments/0000000001.segment";
    let mut versions = vec![disk.bytes(name).expect("a segment")];
    let mut curator = curator(&disk).expect("curator");
    for call in [ERASED, CALLS[2]] {
        curator.erase(call, "asked for").expect("erased");
        versions.push(disk.bytes(name).expect("a segment"));
    }
    for old in &versions[..2] {
        disk.plant(name, old);
        is_damaged(&disk, "older file than its last compaction");
    }
    disk.plant(name, &versions[2]);
    is_whole(&disk, 2);
}

#[test]
fn tombstones_that_were_cut_by_whole_lines_are_missed() {
    let disk = archive(true);
    curator(&disk).expect("curator").erase(ERASED, "asked for").expect("erased");
    let lines = disk.bytes("tombstones").expect("tombstones");
    let first = lines.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    // Without the last line it is what a crash leaves: begun, and to be finished.
    disk.plant("tombstones", &lines[..first]);
    assert_eq!(verified(&disk).verdict(), Verdict::TornTail);
    disk.plant("tombstones", b"");
    is_damaged(&disk, "no tombstone says why");
    disk.plant("tombstones", &lines[first..]);
    is_damaged(&disk, "number");
    disk.plant("tombstones", &lines);
    is_whole(&disk, 1);
}

fn kept_for(days: u32, classes: &[(&str, u32)], is_sealed: bool) -> DiskSim {
    let public = callspan::archive::recipients::new_pair("now").1;
    let mut made =
        if is_sealed { InitOptions::sealed_to(&[&public]) } else { InitOptions::plaintext() };
    made.retention.days = Some(days);
    made.retention.classes =
        classes.iter().map(|(class, days)| ((*class).to_owned(), *days)).collect();
    let mut disk = DiskSim::new();
    init_on(&mut disk, &made, &keys()).expect("a new archive");
    disk
}

#[test]
fn what_is_due_goes_by_the_class_of_the_call_and_what_is_held_stays() {
    let disk = kept_for(30, &[("trading", 100), ("short", 1)], true);
    let mut writer = writer(&disk);
    for (call, class) in CALLS.into_iter().zip(["", "trading", "short", "unheard-of"]) {
        put(&mut writer, call, RecordKind::Summary, &summary(call, START_NS, "ended", class));
    }
    writer.seal().expect("sealed");
    let mut curator = curator(&disk).expect("curator");
    // They end a second after they began; what ended exactly so long ago is not older.
    let due = |curator: &Curator<DiskSim>, days: i64| {
        curator.due(START_NS + 2_000_000_000 + days * DAY_NS).expect("due")
    };
    assert_eq!(curator.due(START_NS + 1_000_000_000 + DAY_NS).expect("due"), (vec![], 0));
    assert_eq!(due(&curator, 0), (vec![], 0));
    assert_eq!(due(&curator, 1), (vec![CALLS[2]], 0));
    let sorted = |(mut calls, held): (Vec<CallId>, u64)| {
        calls.sort_unstable();
        (calls, held)
    };
    assert_eq!(sorted(due(&curator, 30)), (vec![CALLS[0], CALLS[2], CALLS[3]], 0));
    curator.hold(CALLS[0], "case 7").expect("held");
    assert_eq!(sorted(due(&curator, 100)), (vec![CALLS[1], CALLS[2], CALLS[3]], 1));
    curator.erase(CALLS[2], "retention").expect("erased");
    assert_eq!(sorted(due(&curator, 100)), (vec![CALLS[1], CALLS[3]], 1));
    is_whole(&disk, 1);
}

#[test]
fn only_segments_that_are_half_dead_are_compacted_and_the_evidence_stays() {
    let disk = Protect::Sealed.disk();
    let mut first = writer(&disk);
    record(&mut first, &CALLS[..2], 4);
    first.seal().expect("sealed");
    let kept = first.checkpoint().map(str::to_owned);
    record(&mut first, &CALLS[1..], 3);
    end(&mut first, &CALLS);
    first.seal().expect("sealed");
    drop(first);
    let names = ["segments/0000000001.segment", "segments/0000000002.segment"];
    let before = names.map(|name| disk.bytes(name).expect("a segment"));
    let options = VerifyOptions {
        public_key: Some(keys().signing.verifying_key()),
        checkpoint: kept.clone(),
    };
    let mut curator = curator(&disk).expect("curator");
    assert_eq!(curator.reclaim().expect("reclaimed").segments, 0);
    curator.erase(CALLS[0], "retention").expect("erased");
    let reclaimed = curator.reclaim().expect("reclaimed");
    assert!(reclaimed.segments == 1 && reclaimed.bytes > 1_000, "{reclaimed:?}");
    let after = names.map(|name| disk.bytes(name).expect("a segment"));
    assert!(after[0].len() < before[0].len() && after[1] == before[1], "only the first");
    let found = verify_on(&disk, &options).expect("checked");
    assert_eq!(found.verdict(), Verdict::Whole, "{:?} {:?}", found.faults, found.leftovers);
    assert_eq!((found.segments, found.dropped_records), (sealed_segments(&disk) as u64, 4));
    assert_eq!(curator.reclaim().expect("reclaimed").segments, 0, "once");
    drop(curator);
    assert_eq!(writer(&disk).read_call(CALLS[1]).expect("read").len(), 8);
}

#[test]
fn a_power_cut_after_any_step_of_compacting_loses_nothing() {
    for stop in 0.. {
        let disk = archive(true);
        let mut first = curator(&disk).expect("curator");
        for call in &CALLS[1..3] {
            first.erase(*call, "retention").expect("erased");
        }
        disk.stop_after(stop);
        let done = first.reclaim().is_ok();
        for seed in 0..4 {
            let image = disk.crash(seed);
            assert_ne!(verified(&image).verdict(), Verdict::Damaged, "stop {stop}, seed {seed}");
            drop(curator(&image).expect("curator"));
            is_whole(&image, 2);
            assert_eq!(writer(&image).read_call(CALLS[0]).expect("read").len(), 10);
        }
        if done {
            assert!(stop > 4, "there were steps to stop at");
            break;
        }
    }
}

#[test]
fn a_writer_goes_on_while_calls_of_finished_and_of_the_open_segment_are_erased() {
    let disk = archive(true);
    let mut writer = writer(&disk);
    let (ended, ongoing) = (CallId(0xe5), CallId(0xf6));
    record(&mut writer, &[ongoing, ended], 2);
    end(&mut writer, &[ended]);
    let mut first = curator(&disk).expect("curator");
    first.erase(ERASED, "of finished segments").expect("erased");
    record(&mut writer, &[ongoing], 12);
    first.erase(ended, "of the open segment").expect("erased");
    record(&mut writer, &[ongoing], 12);
    assert_eq!(slots_of(&disk, ended), 0);
    writer.seal().expect("sealed");
    is_whole(&disk, 2);
    assert_eq!(writer.read_call(ongoing).expect("read").len(), 26);
    drop((writer, first));
    only_one_is_gone(&disk, true);
    is_whole(&disk, 2);
}

#[test]
fn a_power_cut_after_erasing_from_the_open_segment_costs_no_other_call() {
    for stop in 0.. {
        let disk = Protect::Sealed.disk();
        let mut writer = writer(&disk);
        // The key of the erased call is the last one, and a record of another call stands behind it.
        record(&mut writer, &[CALLS[0], ERASED], 2);
        end(&mut writer, &[ERASED]);
        record(&mut writer, &[CALLS[0]], 1);
        let mut first = curator(&disk).expect("curator");
        disk.stop_after(stop);
        let done = first.erase(ERASED, "asked for").is_ok();
        for seed in 0..6 {
            let image = disk.crash(seed);
            assert_ne!(verified(&image).verdict(), Verdict::Damaged, "stop {stop}, seed {seed}");
            let mut again = self::writer(&image);
            assert_eq!(again.read_call(CALLS[0]).expect("read").len(), 3, "stop {stop}");
            record(&mut again, &[CALLS[0]], 1);
            again.seal().expect("sealed");
            drop(again);
            assert_ne!(verified(&image).verdict(), Verdict::Damaged, "stop {stop}, seed {seed}");
            drop(curator(&image).expect("curator"));
            let erased = verified(&image).erased_calls;
            is_whole(&image, erased);
            assert!(erased == 1 || !done, "stop {stop}, seed {seed}");
            assert!(erased == 0 || slots_of(&image, ERASED) == 0, "stop {stop}, seed {seed}");
        }
        if done {
            assert!(stop > 3, "there were steps to stop at");
            break;
        }
    }
}

#[test]
fn zeros_that_a_power_cut_tore_are_no_damage_and_the_rest_of_the_key_goes() {
    let disk = archive(true);
    let erased = disk.kill();
    curator(&erased).expect("curator").erase(ERASED, "asked for").expect("erased");
    let lines = erased.bytes("tombstones").expect("tombstones");
    let first = lines.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    let name = "segments/0000000001.keys";
    let keys = disk.bytes(name).expect("keys");
    let start = keys.windows(8).position(|id| *id == ERASED.0.to_le_bytes()).expect("a slot");
    for torn in [1, 8, 16, 20, 24, 40] {
        let image = disk.kill();
        let mut bytes = keys.clone();
        bytes[start..start + torn].fill(0);
        image.plant(name, &bytes);
        is_damaged(&image, "key slot");
        image.plant("tombstones", &lines[..first]);
        let found = verified(&image);
        assert_eq!(found.verdict(), Verdict::TornTail, "{torn} bytes: {:?}", found.faults);
        drop(curator(&image).expect("curator"));
        is_whole(&image, 1);
        let bytes = image.bytes(name).expect("keys");
        assert!(bytes[start..start + 1_024].iter().all(|byte| *byte == 0), "{torn} bytes");
        only_one_is_gone(&image, true);
    }
}
