//! The writer over a simulated disk that fills up, fails and is unplugged.

mod archive_common;

use archive_common::{Nonces, Protect, open_writer, options};
use callspan::archive::verify::{Verdict, VerifyOptions, verify_on};
use callspan::archive::{
    ArchiveError, Compression, DiskSim, OwnedRecord, RecordKind, SegmentFault, SegmentId, Writer,
};
use callspan::base::CallId;

const CALL: CallId = CallId(0xabc);
const SEGMENT: &str = "segments/0000000001.open";

fn writer(disk: &DiskSim, segment_bytes: u64) -> Writer<DiskSim> {
    open_writer(disk, segment_bytes).0
}

fn verdict(disk: &DiskSim) -> Verdict {
    let found = verify_on(disk, &VerifyOptions::default()).expect("verified");
    assert_ne!(found.verdict(), Verdict::Damaged, "{:?}", found.faults);
    found.verdict()
}

fn append(writer: &mut Writer<DiskSim>, body: &[u8]) -> Result<(), ArchiveError> {
    writer.append(CALL, RecordKind::Audio, body, Compression::None).map(|_| ())
}

fn bodies(records: &[OwnedRecord]) -> Vec<&[u8]> {
    records.iter().map(|record| record.body.as_slice()).collect()
}

#[test]
fn a_tail_torn_at_every_byte_of_the_last_record_is_cut_and_reported() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let mut first = writer(&disk, 4_096);
        for body in [&b"one"[..], b"two, a little longer", b"the last record"] {
            append(&mut first, body).expect("room");
        }
        first.commit().expect("commit");
        let whole = disk.bytes(SEGMENT).expect("segment");
        let last = 64 + protect.span(3) + protect.span(20);
        let last_len = protect.span(15);
        for kept in 0..last_len {
            let mut torn = whole.clone();
            torn[last + kept..].fill(0);
            let image = disk.kill();
            image.plant(SEGMENT, &torn);
            let is_whole = torn == whole;
            assert_eq!(verdict(&image) == Verdict::Whole, is_whole || kept == 0, "{kept} kept");
            let (reopened, recovered) = open_writer(&image, 4_096);
            let segment = recovered.segments.first().expect("one segment");
            // The padding is zero already, so the last byte is no loss.
            let (records, cut) = if is_whole { (3, 0) } else { (2, kept) };
            let cut =
                torn[last..last + cut].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            assert_eq!(
                (segment.kept_records, segment.cut_bytes),
                (records, cut as u64),
                "{kept} kept"
            );
            assert_eq!(
                reopened.read_call(CALL).expect("read").len() as u64,
                records,
                "{kept} kept"
            );
            assert_eq!(image.bytes(SEGMENT), None, "sealed");
            assert_eq!(verdict(&image), Verdict::Whole, "{kept} kept");
        }
    }
}

#[test]
fn a_flipped_bit_is_named_and_the_records_around_it_stay() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let mut first = writer(&disk, 4_096);
        for body in [b"one", b"two", b"six"] {
            append(&mut first, body).expect("room");
        }
        first.commit().expect("commit");
        let mut bytes = disk.bytes(SEGMENT).expect("segment");
        bytes[64 + protect.span(3) + 49] ^= 1; // in the second body
        let image = disk.kill();
        image.plant(SEGMENT, &bytes);
        let (again, recovered) = open_writer(&image, 4_096);
        let second = 64 + protect.span(3) as u64;
        assert_eq!(
            recovered.segments.first().map(|found| found.damaged.clone()),
            Some(vec![second])
        );
        assert_eq!(bodies(&again.read_call(CALL).expect("read")), [b"one", b"six"]);
        drop(again);
        // The same bit of a sealed segment: the table names the record, and reading it says where.
        let sealed = "segments/0000000001.segment";
        let mut bytes = image.bytes(sealed).expect("sealed");
        bytes[64 + 49] ^= 1;
        image.plant(sealed, &bytes);
        let error = writer(&image, 4_096).read_call(CALL).unwrap_err();
        match error {
            ArchiveError::BadSegment { segment, offset, fault } => {
                let found = (segment, offset, fault);
                assert_eq!(found, (SegmentId(1), 64, SegmentFault::RecordChecksum));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_payload_that_looks_like_a_record_is_never_taken_for_one() {
    let disk = Protect::Plaintext.disk();
    let mut first = writer(&disk, 4_096);
    append(&mut first, b"evil").expect("room");
    first.commit().expect("commit");
    // The caller sends the bytes of a whole record as payload, 8-aligned; then it is torn.
    let inner = disk.bytes(SEGMENT).expect("segment")[64..120].to_vec();
    let mut payload = inner.clone();
    payload.extend(&inner);
    append(&mut first, &payload).expect("room");
    first.commit().expect("commit");
    let mut bytes = disk.bytes(SEGMENT).expect("segment");
    bytes[120 + 4] = 0x55; // the outer record's kind
    let image = disk.kill();
    image.plant(SEGMENT, &bytes);
    let (_, recovered) = Writer::open(image, options(4_096)).expect("reopened");
    assert_eq!(recovered.segments.first().map(|segment| segment.kept_records), Some(1));
}

#[test]
fn a_full_disk_loses_nothing_committed_and_the_segment_is_sealed_all_the_same() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let manifest = disk.bytes("archive.toml").expect("manifest").len() as u64;
        let keys = if protect == Protect::Sealed { 64 + 1_024 } else { 0 };
        disk.set_capacity(Some(8_192 + keys + manifest)); // one segment, and archive.toml
        let mut writer = writer(&disk, 8_192);
        let mut taken = Vec::new();
        let error = loop {
            let body = vec![u8::try_from(taken.len()).expect("few"); 100];
            match append(&mut writer, &body) {
                Ok(()) => taken.push(body),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ArchiveError::Full { needed: 8_192, .. }), "{error}");
        assert!(taken.len() > 20);
        assert_eq!(writer.buffered_bytes(), 0, "what was taken has been committed");
        assert!(writer.seal().is_ok(), "the footer's room was kept");
        assert_eq!(bodies(&writer.read_call(CALL).expect("read")), taken);
        assert!(append(&mut writer, b"again").is_err());
        disk.set_capacity(None);
        append(&mut writer, b"again").expect("room was made");
        writer.commit().expect("commit");
        assert_eq!(writer.read_call(CALL).expect("read").len(), taken.len() + 1);
    }
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_commit_keeps_the_records_waiting() {
    for protect in Protect::BOTH {
        let needed = (protect.span(100) + protect.span(20)) as u64;
        for budget in 0..needed + 6 {
            let disk = protect.disk();
            let mut first = writer(&disk, 4_096);
            append(&mut first, b"committed").expect("room");
            first.commit().expect("commit");
            append(&mut first, &[1; 100]).expect("room");
            append(&mut first, &[2; 20]).expect("room");
            disk.set_write_budget(Some(budget));
            if budget < needed {
                let error = first.commit().unwrap_err();
                let full =
                    matches!(error, ArchiveError::Full { needed: told, .. } if told == needed);
                assert!(full, "{error}");
                assert_eq!(first.buffered_bytes() as u64, needed);
                // A kill now: what was committed is there, and whatever of the rest is whole.
                let (reopened, _) = open_writer(&disk.kill(), 4_096);
                let records = reopened.read_call(CALL).expect("read");
                // Padding is zero on the disk already, so the last bytes need not arrive; neither need
                // the last of a tag, if it happens to be zero.
                let arrived = usize::try_from(budget).expect("small");
                let unpadded = |len: usize| 48 + len + protect.tag_bytes();
                let ends = [unpadded(100), protect.span(100) + unpadded(20)];
                let whole = ends.iter().filter(|end| arrived >= **end).count();
                let lucky = ends.iter().filter(|end| arrived + 2 >= **end).count();
                assert!((1 + whole..=1 + lucky).contains(&records.len()), "budget {budget}");
                assert_eq!(
                    records.first().map(|record| record.body.as_slice()),
                    Some(&b"committed"[..])
                );
            }
            disk.set_write_budget(None);
            first.commit().expect("room was made");
            assert_eq!(first.read_call(CALL).expect("read").len(), 3, "budget {budget}");
        }
    }
}

#[test]
fn a_failed_sync_ends_the_segment_and_the_records_go_to_a_fresh_one() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let mut first = writer(&disk, 4_096);
        append(&mut first, b"before").expect("room");
        first.commit().expect("commit");
        append(&mut first, b"at risk").expect("room");
        disk.fail_sync(1);
        let committed = first.commit().expect("committed elsewhere");
        assert_eq!((committed.records, committed.failed_segments), (1, 1));
        append(&mut first, b"after").expect("room");
        first.commit().expect("commit");
        let expected = [&b"before"[..], b"at risk", b"after"];
        assert_eq!(bodies(&first.read_call(CALL).expect("read")), expected);
        for seed in 0..20 {
            let image = disk.crash(seed);
            verdict(&image);
            let (reopened, _) = open_writer(&image, 4_096);
            assert_eq!(bodies(&reopened.read_call(CALL).expect("read")), expected, "seed {seed}");
        }
        let image = disk.kill();
        let mut nonces = Nonces::default();
        nonces.note(&image);
        assert_eq!(
            nonces.count(),
            if protect == Protect::Sealed { 4 } else { 0 },
            "one was sealed twice"
        );
        let (reopened, recovered) = open_writer(&image, 4_096);
        assert_eq!(verdict(&image), Verdict::Whole);
        assert_eq!(recovered.segments.len(), 2, "both were left open");
        assert_eq!(bodies(&reopened.read_call(CALL).expect("read")), expected, "each record once");
    }
}

#[test]
fn two_failed_syncs_are_an_error_and_the_records_still_wait() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let mut first = writer(&disk, 4_096);
        append(&mut first, b"stubborn").expect("room");
        disk.fail_sync(1); // the group's
        disk.fail_sync(2); // the fresh segment's header's
        assert_eq!(first.commit().unwrap_err().label(), "io");
        assert!(first.buffered_bytes() > 0);
        first.commit().expect("the disk is well again");
        assert_eq!(bodies(&first.read_call(CALL).expect("read")), [b"stubborn"]);
    }
}

#[test]
fn a_power_cut_after_any_step_of_any_commit_rotation_or_seal_keeps_what_was_acknowledged() {
    for protect in Protect::BOTH {
        let steps = (0..1_000).take_while(|stop| !power_cut_after(protect, *stop)).count();
        assert!((41..1_000).contains(&steps), "the run had {steps} steps to stop at");
    }
}

/// Runs until the power is cut at a step, and checks what can be left; true if it ended before.
fn power_cut_after(protect: Protect, stop: u64) -> bool {
    let disk = protect.disk();
    let (mut acknowledged, mut waiting) = (0, 0);
    let mut writer = writer(&disk, 4_096);
    disk.stop_after(stop);
    let mut run = || -> Result<(), ArchiveError> {
        for number in 0..30_u8 {
            append(&mut writer, &[number; 60])?;
            waiting += 1;
            if number % 4 == 3 {
                writer.commit()?;
                acknowledged += std::mem::take(&mut waiting);
            }
        }
        writer.seal()?;
        acknowledged += waiting;
        Ok(())
    };
    let finished = run().is_ok();
    for seed in 0..4 {
        let image = disk.crash(seed);
        verdict(&image);
        // The recovery itself is cut short too, at some step, and then done again.
        image.stop_after(seed * 3);
        let _cut_short = Writer::open(image.clone(), options(4_096));
        let image = image.crash(seed + 100);
        verdict(&image);
        let (reopened, _) = open_writer(&image, 4_096);
        let read = reopened.read_call(CALL).expect("read");
        let read = bodies(&read);
        assert!(read.len() >= acknowledged, "stop {stop}, seed {seed}");
        let expected: Vec<_> = (0..30_u8).map(|number| vec![number; 60]).collect();
        assert_eq!(read, expected[..read.len()], "stop {stop}, seed {seed}");
        assert_eq!(verdict(&image), Verdict::Whole, "stop {stop}, seed {seed}");
    }
    finished
}

#[test]
fn one_writer_at_a_time() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let first = writer(&disk, 4_096);
        let second = Writer::open(disk.clone(), options(4_096));
        assert_eq!(second.map(|_| ()).unwrap_err().label(), "locked");
        drop(first);
        writer(&disk, 4_096);
    }
}

#[test]
fn a_record_longer_than_a_segment_gets_a_segment_of_its_own() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let mut writer = writer(&disk, 512);
        for len in [10, 5_000, 10] {
            append(&mut writer, &vec![3; len]).expect("room");
        }
        writer.seal().expect("seal");
        let lengths: Vec<_> =
            writer.read_call(CALL).expect("read").iter().map(|record| record.body.len()).collect();
        assert_eq!(lengths, [10, 5_000, 10]);
    }
}

#[test]
fn a_segment_with_a_damaged_header_is_reported_kept_and_no_obstacle() {
    for protect in Protect::BOTH {
        let disk = protect.disk();
        let mut first = writer(&disk, 4_096);
        append(&mut first, b"one").expect("room");
        first.commit().expect("commit");
        let mut bytes = disk.bytes(SEGMENT).expect("segment");
        bytes[20] ^= 1;
        let image = disk.kill();
        image.plant(SEGMENT, &bytes);
        let (mut again, recovered) = open_writer(&image, 4_096);
        assert_eq!((recovered.unreadable, recovered.segments), (vec![SegmentId(1)], vec![]));
        append(&mut again, b"new").expect("room");
        again.commit().expect("commit");
        assert_eq!(image.bytes(SEGMENT), Some(bytes), "as it was");
        // Without records behind it, a torn header is the trace of a creation that was cut short.
        image.plant(SEGMENT, &[&b"CALLSP"[..], &[0; 4_000]].concat());
        drop(again);
        writer(&image, 4_096);
        assert_eq!(image.bytes(SEGMENT), None);
    }
}
