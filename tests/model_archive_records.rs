//! The archive against a map: random appends, commits, rotations, kills and power cuts.

mod archive_common;

use std::collections::BTreeMap;

use archive_common::{Nonces, Protect, open_writer};
use callspan::archive::verify::{Verdict, VerifyOptions, verify_on};
use callspan::archive::{Compression, DiskSim, RecordKind, Writer};
use callspan::base::CallId;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        call: u64,
        len: usize,
        compress: Compression,
    },
    Commit,
    Seal,
    FailSync {
        number: u64,
    },
    /// So many bytes may still be written; `None`: as many as there are.
    Room {
        bytes: Option<u64>,
    },
    Kill,
    PowerCut {
        seed: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let compress = prop_oneof![Just(Compression::Lz4), Just(Compression::None)];
    prop_oneof![
        12 => (0..5_u64, 0..400_usize, compress)
            .prop_map(|(call, len, compress)| Step::Append { call, len, compress }),
        4 => Just(Step::Commit),
        1 => Just(Step::Seal),
        1 => (1..3_u64).prop_map(|number| Step::FailSync { number }),
        1 => prop::option::of(0..900_u64).prop_map(|bytes| Step::Room { bytes }),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
    ]
}

type Records = BTreeMap<(u64, u32), Vec<u8>>;

/// The archive and what it promised.
struct Model {
    disk: DiskSim,
    nonces: Nonces,
    writer: Option<Writer<DiskSim>>,
    acknowledged: Records,
    waiting: Records,
    segment_bytes: u64,
    appended: u64,
}

impl Model {
    fn new(protect: Protect, segment_bytes: u64) -> Self {
        let disk = protect.disk();
        let (acknowledged, waiting, appended) = (Records::new(), Records::new(), 0);
        let (writer, nonces) = (None, Nonces::default());
        let mut model =
            Self { disk, nonces, writer, acknowledged, waiting, segment_bytes, appended };
        model.reopen();
        model
    }

    fn writer(&mut self) -> &mut Writer<DiskSim> {
        self.writer.as_mut().expect("open")
    }

    fn reopen(&mut self) {
        self.verify();
        let (writer, recovered) = open_writer(&self.disk, self.segment_bytes);
        assert!(recovered.segments.iter().all(|segment| segment.damaged.is_empty()));
        self.writer = Some(writer);
        // What waited may be there, whole and unchanged, or be gone; it is never acknowledged.
        let found = self.read();
        for (key, body) in &self.acknowledged {
            assert_eq!(found.get(key), Some(body), "acknowledged record {key:?}");
        }
        for (key, body) in &found {
            let known = self.acknowledged.get(key).or_else(|| self.waiting.get(key));
            assert_eq!(known, Some(body), "record {key:?} was appended");
        }
        self.acknowledged = found;
        self.waiting.clear();
    }

    /// Nothing that a crash leaves is taken for damage, and no nonce sealed two things.
    fn verify(&mut self) {
        let found = verify_on(&self.disk, &VerifyOptions::default()).expect("verified");
        assert_ne!(found.verdict(), Verdict::Damaged, "{:?}", found.faults);
        self.nonces.note(&self.disk);
    }

    fn read(&self) -> Records {
        let writer = self.writer.as_ref().expect("open");
        let mut records = Records::new();
        for call in 0..5 {
            for record in writer.read_call(CallId(call)).expect("read") {
                let old = records.insert((call, record.sequence), record.body);
                assert_eq!(old, None, "a sequence comes once");
            }
        }
        records
    }

    fn check(&mut self) {
        self.verify();
        let mut expected = self.acknowledged.clone();
        expected.extend(self.waiting.clone());
        let read = self.read();
        let keys = |records: &Records| records.keys().copied().collect::<Vec<_>>();
        assert_eq!(keys(&read), keys(&expected));
        assert!(read == expected, "a body is another one");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { call, len, compress } => {
                self.appended += 1;
                let seed = self.appended;
                let body: Vec<u8> =
                    (0..len as u64).map(|at| (at / 7 * seed).to_le_bytes()[0]).collect();
                let kind = RecordKind::ALL[2 + len % 5];
                // A failing sync may refuse a record; then it is not there.
                if let Ok(at) = self.writer().append(CallId(call), kind, &body, compress) {
                    self.waiting.insert((call, at.sequence), body);
                }
            }
            Step::Commit => {
                if self.writer().commit().is_ok() {
                    self.acknowledged.append(&mut self.waiting);
                }
            }
            Step::Seal => {
                if self.writer().seal().is_ok() {
                    self.acknowledged.append(&mut self.waiting);
                }
            }
            Step::FailSync { number } => self.disk.fail_sync(number),
            Step::Room { bytes } => self.disk.set_write_budget(bytes),
            Step::Kill => {
                self.disk = self.disk.kill();
                self.reopen();
            }
            Step::PowerCut { seed } => {
                self.disk = self.disk.crash(seed);
                self.reopen();
            }
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_archive_holds_what_a_map_of_acknowledged_records_holds(
        protect in prop_oneof![Just(Protect::Plaintext), Just(Protect::Sealed)],
        segment_bytes in 256..6_000_u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(protect, segment_bytes);
        for step in steps {
            model.step(step);
        }
        model.disk = model.disk.crash(7);
        model.reopen();
        model.step(Step::Seal);
        let found = verify_on(&model.disk, &VerifyOptions::default()).expect("verified");
        assert_eq!(found.verdict(), Verdict::Whole, "{found:?}");
    }
}
