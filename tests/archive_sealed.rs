//! Sealed archives on a simulated disk: kills at every step, and what a full disk leaves.

mod archive_common;

use std::collections::BTreeMap;

use archive_common::{Nonces, Protect, identities, open_writer, options};
use callspan::archive::verify::{Verdict, Verified, VerifyOptions, verify_on};
use callspan::archive::{ArchiveError, Compression, Disk, DiskSim, RecordKind, Writer};
use callspan::base::CallId;

const SEGMENT_BYTES: u64 = 3_000;
/// Ends in the first life.
const SHORT: CallId = CallId(0xa1);
/// Goes on in the second life.
const LONG: CallId = CallId(0xb2);
/// Begins in the second life.
const LATE: CallId = CallId(0xc3);

type Records = BTreeMap<(CallId, u32), Vec<u8>>;

fn verified(disk: &DiskSim) -> Verified {
    let found = verify_on(disk, &VerifyOptions::default()).expect("verified");
    assert_ne!(found.verdict(), Verdict::Damaged, "{:?}", found.faults);
    found
}

fn summary(call: CallId, state: &str) -> Vec<u8> {
    format!(
        r#"{{"sip_call_ids":["{call}@pbx"],"state":"{state}","started_at":"2026-11-24T01:00:00Z",
            "caller":{{"number":"4820001001"}},"callee":{{"number":"4830002002"}}}}"#
    )
    .into_bytes()
}

/// A writer's life: what it was asked, what it acknowledged.
struct Life<'m> {
    writer: Writer<DiskSim>,
    promised: &'m mut Promised,
}

/// What every life so far appended.
#[derive(Clone, Debug, Default)]
struct Promised {
    acknowledged: Records,
    waiting: Records,
}

impl Promised {
    /// What a reader finds is what was appended, and all that was acknowledged is there.
    fn check(&mut self, writer: &Writer<DiskSim>, place: &str) {
        let mut found = Records::new();
        for call in [SHORT, LONG, LATE] {
            for record in writer.read_call(call).expect(place) {
                found.insert((call, record.sequence), record.body);
            }
        }
        for (key, body) in &self.acknowledged {
            assert_eq!(found.get(key), Some(body), "{place}: acknowledged {key:?} is whole");
        }
        for (key, body) in &found {
            let known = self.acknowledged.get(key).or_else(|| self.waiting.get(key));
            assert_eq!(known, Some(body), "{place}: {key:?} was appended");
        }
        self.acknowledged = found;
        self.waiting.clear();
    }
}

impl Life<'_> {
    fn append(
        &mut self,
        call: CallId,
        kind: RecordKind,
        body: Vec<u8>,
    ) -> Result<(), ArchiveError> {
        let at = self.writer.append(call, kind, &body, Compression::Lz4)?;
        self.promised.waiting.insert((call, at.sequence), body);
        Ok(())
    }

    fn sound(&mut self, call: CallId, number: u8) -> Result<(), ArchiveError> {
        let body = (0..150_u8).map(|at| at.wrapping_mul(number | 1) ^ number).collect();
        self.append(call, RecordKind::Audio, body)
    }

    fn commit(&mut self) -> Result<(), ArchiveError> {
        self.writer.commit()?;
        self.promised.acknowledged.append(&mut self.promised.waiting);
        Ok(())
    }

    /// Two calls, of which one ends; segments fill up and are sealed on the way.
    fn first(&mut self) -> Result<(), ArchiveError> {
        for call in [SHORT, LONG] {
            self.append(call, RecordKind::CallOpened, summary(call, "ongoing"))?;
            self.append(call, RecordKind::Sip, b"INVITE sip:4830002002@pbx SIP/2.0".to_vec())?;
        }
        self.commit()?;
        for number in 0..8 {
            self.sound(SHORT, number)?;
            self.sound(LONG, number + 100)?;
            if number % 2 == 1 {
                self.commit()?;
            }
        }
        self.append(SHORT, RecordKind::Summary, summary(SHORT, "ended"))?;
        self.commit()?;
        // A straggler: the call's keys are gone, and it gets new ones.
        self.append(SHORT, RecordKind::Sip, b"BYE sip:4820001001@pbx SIP/2.0".to_vec())?;
        self.sound(LONG, 120)?;
        self.commit()
    }

    /// One call goes on, another begins; the process ends as it should.
    fn second(&mut self) -> Result<(), ArchiveError> {
        self.append(LATE, RecordKind::CallOpened, summary(LATE, "ongoing"))?;
        for number in 0..8 {
            self.sound(LONG, number + 130)?;
            self.sound(LATE, number + 200)?;
            if number % 3 == 2 {
                self.commit()?;
            }
        }
        for call in [LONG, LATE] {
            self.append(call, RecordKind::Summary, summary(call, "ended"))?;
        }
        self.commit()?;
        self.writer.seal().map(|_| ())
    }
}

/// Both lives, cut at step `stop`: the disk as it was then, and whether they had ended.
fn lives(
    protect: Protect,
    stop: u64,
    promised: &mut Promised,
    nonces: &mut Nonces,
) -> (DiskSim, bool) {
    let disk = protect.disk();
    let (writer, _) = open_writer(&disk, SEGMENT_BYTES);
    let before = disk.steps();
    disk.stop_after(stop);
    if (Life { writer, promised: &mut *promised }).first().is_err() {
        return (disk, false);
    }
    let left = stop - (disk.steps() - before);
    // SIGKILL: the file system has everything that was written.
    let disk = disk.kill();
    nonces.note(&disk);
    disk.stop_after(left);
    let Ok((mut writer, _)) = Writer::open(disk.clone(), options(SEGMENT_BYTES)) else {
        return (disk, false);
    };
    writer.unlock(identities());
    let finished = Life { writer, promised }.second().is_ok();
    (disk, finished)
}

/// Opens what a crash left, looks at everything, goes on for a moment, and looks again.
fn check_image(image: &DiskSim, mut promised: Promised, mut nonces: Nonces, place: &str) {
    verified(image);
    nonces.note(image);
    let (writer, recovered) = open_writer(image, SEGMENT_BYTES);
    assert!(recovered.segments.iter().all(|found| found.damaged.is_empty()), "{place}");
    assert_eq!(recovered.unreadable, [], "{place}");
    promised.check(&writer, place);
    let mut life = Life { writer, promised: &mut promised };
    life.sound(LONG, 250).expect(place);
    life.commit().expect(place);
    life.writer.seal().expect(place);
    let writer = life.writer;
    promised.check(&writer, place);
    nonces.note(image);
    let found = verified(image);
    assert_eq!((found.verdict(), found.unsigned_records), (Verdict::Whole, 0), "{place}");
    assert!(found.records >= promised.acknowledged.len() as u64, "{place}");
}

/// Cuts the lives at every step, and looks at `seeds` crashes and one kill at each. Returns how many.
fn kills(protect: Protect, seeds: u64) -> u64 {
    let (mut images, mut stop) = (0, 0);
    loop {
        let (mut promised, mut nonces) = (Promised::default(), Nonces::default());
        let (disk, finished) = lives(protect, stop, &mut promised, &mut nonces);
        // What reached no disk was sealed all the same: no nonce of it may come again.
        nonces.note(&disk);
        let killed = disk.kill();
        check_image(&killed, promised.clone(), nonces.clone(), &format!("stop {stop}, kill"));
        for seed in 0..seeds {
            let place = format!("stop {stop}, crash {seed}");
            check_image(&disk.crash(seed), promised.clone(), nonces.clone(), &place);
        }
        images += 1 + seeds;
        if finished {
            return images;
        }
        stop += 1;
    }
}

#[test]
fn after_a_thousand_kills_at_every_step_of_two_lives_a_sealed_archive_is_whole() {
    let images = kills(Protect::Sealed, 6);
    println!("{images} crash images");
    assert!(images >= 1_000, "only {images} crash images");
}

#[test]
fn after_a_kill_at_every_step_of_two_lives_a_plaintext_archive_is_whole() {
    let images = kills(Protect::Plaintext, 5);
    assert!(images >= 250, "only {images} crash images");
}

#[test]
fn a_full_disk_in_a_key_file_never_stops_the_writer_and_is_no_damage() {
    for (segment_bytes, room) in [256, SEGMENT_BYTES]
        .into_iter()
        .flat_map(|segment_bytes| (0..3_000).step_by(60).map(move |room| (segment_bytes, room)))
    {
        let place = format!("segments of {segment_bytes} bytes, {room} more");
        let disk = Protect::Sealed.disk();
        let (mut writer, _) = open_writer(&disk, segment_bytes);
        let append = |writer: &mut Writer<DiskSim>, call| {
            writer.append(CallId(call), RecordKind::Audio, &[3; 50], Compression::None)
        };
        append(&mut writer, 1).expect("room");
        writer.commit().expect("room");
        append(&mut writer, 2).expect("room");
        // What is preallocated stays, but key files find room for so many bytes only.
        disk.set_capacity(Some(used(&disk) + room));
        for call in 3..8 {
            let _refused_if_full = append(&mut writer, call);
        }
        let _full_perhaps = writer.commit();
        verified(&disk);
        // What was committed is sealed, in its preallocated room; the rest waits in memory.
        let _full_still = writer.seal();
        assert!(disk.bytes("segments/0000000001.segment").is_some(), "{place}");
        verified(&disk);
        for seed in 0..3 {
            let image = disk.crash(seed);
            verified(&image);
            let (again, recovered) = open_writer(&image, segment_bytes);
            let damaged = recovered.segments.iter().any(|found| !found.damaged.is_empty());
            assert!(!damaged, "{place}: {recovered:?}");
            assert_eq!(again.read_call(CallId(1)).expect("read").len(), 1, "{place}");
            assert_eq!(verified(&image).verdict(), Verdict::Whole, "{place}");
        }
        disk.set_capacity(None);
        writer.seal().expect("room was made");
        for call in 1..3 {
            assert_eq!(writer.read_call(CallId(call)).expect("read").len(), 1, "{place}");
        }
        assert_eq!(verified(&disk).verdict(), Verdict::Whole, "{place}");
    }
}

/// Bytes of all files.
fn used(disk: &DiskSim) -> u64 {
    let inside = disk.list("segments").unwrap_or_default();
    let inside = inside.iter().map(|name| format!("segments/{name}"));
    let names = std::iter::once("archive.toml".to_owned()).chain(inside);
    names.filter_map(|name| disk.bytes(&name)).map(|bytes| bytes.len() as u64).sum()
}

#[test]
fn a_power_cut_between_two_attempts_on_a_full_disk_leaves_a_torn_tail_and_no_damage() {
    for budget in (0..1_200).step_by(40) {
        let disk = Protect::Sealed.disk();
        let (mut writer, _) = open_writer(&disk, 8_192);
        let mut append = |body: u8| {
            let body = vec![body; 100];
            writer.append(LONG, RecordKind::Audio, &body, Compression::None).expect("room");
        };
        append(0);
        (1..8).for_each(&mut append);
        // The slot of the key finds room, the records do not all.
        disk.set_write_budget(Some(1_024 + budget));
        writer.commit().expect_err("full");
        disk.set_write_budget(None);
        // The machine stops after the second write and before its sync.
        disk.stop_after(1);
        writer.commit().expect_err("stopped");
        for seed in 0..30 {
            let image = disk.crash(seed);
            verified(&image);
            let (_, recovered) = open_writer(&image, 8_192);
            let damaged = recovered.segments.iter().any(|found| !found.damaged.is_empty());
            assert!(!damaged, "budget {budget}, seed {seed}: {recovered:?}");
        }
    }
}

#[test]
fn the_sound_of_a_call_that_ended_opens_with_an_identity_and_not_without() {
    let disk = Protect::Sealed.disk();
    let (mut writer, _) = Writer::open(disk.clone(), options(SEGMENT_BYTES)).expect("a writer");
    let put = |writer: &mut Writer<DiskSim>, kind, body: &[u8]| {
        writer.append(SHORT, kind, body, Compression::None).expect("room");
    };
    put(&mut writer, RecordKind::Audio, b"hello");
    put(&mut writer, RecordKind::Sip, b"INVITE");
    writer.commit().expect("commit");
    assert_eq!(writer.read_call(SHORT).expect("its key is still here").len(), 2);
    put(&mut writer, RecordKind::Summary, &summary(SHORT, "ended"));
    writer.seal().expect("sealed");
    let error = writer.read_call(SHORT).expect_err("its key is gone");
    assert_eq!(error.label(), "no_identity");
    let metadata = writer.read_call_kinds(SHORT, &[RecordKind::Sip, RecordKind::Summary]);
    assert_eq!(metadata.expect("the box opens these").len(), 2);
    writer.unlock(identities());
    assert_eq!(writer.read_call(SHORT).expect("opened")[0].body, b"hello");
}
