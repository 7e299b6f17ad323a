//! The archive against a map: random appends, commits, rotations, kills and power cuts.

mod archive_common;

use std::collections::BTreeMap;

use callspan::archive::{Compression, DiskSim, RecordKind, Writer};
use callspan::base::CallId;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append { call: u64, len: usize, compress: Compression },
    Commit,
    Seal,
    FailSync { number: u64 },
    Kill,
    PowerCut { seed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let compress = prop_oneof![Just(Compression::Lz4), Just(Compression::None)];
    prop_oneof![
        12 => (0..5_u64, 0..400_usize, compress)
            .prop_map(|(call, len, compress)| Step::Append { call, len, compress }),
        4 => Just(Step::Commit),
        1 => Just(Step::Seal),
        1 => (1..3_u64).prop_map(|number| Step::FailSync { number }),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
    ]
}

type Records = BTreeMap<(u64, u32), Vec<u8>>;

/// The archive and what it promised.
struct Model {
    disk: DiskSim,
    writer: Option<Writer<DiskSim>>,
    acknowledged: Records,
    waiting: Records,
    segment_bytes: u64,
    appended: u64,
}

impl Model {
    fn new(segment_bytes: u64) -> Self {
        let disk = archive_common::simulated();
        let (acknowledged, waiting) = (Records::new(), Records::new());
        let mut model =
            Self { disk, writer: None, acknowledged, waiting, segment_bytes, appended: 0 };
        model.reopen();
        model
    }

    fn writer(&mut self) -> &mut Writer<DiskSim> {
        self.writer.as_mut().expect("open")
    }

    fn reopen(&mut self) {
        let options = archive_common::options(self.segment_bytes);
        let (writer, recovered) = Writer::open(self.disk.clone(), options).expect("opened");
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

    fn check(&self) {
        let mut expected = self.acknowledged.clone();
        expected.extend(self.waiting.clone());
        assert_eq!(self.read(), expected);
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
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_archive_holds_what_a_map_of_acknowledged_records_holds(
        segment_bytes in 256..6_000_u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(segment_bytes);
        for step in steps {
            model.step(step);
        }
        model.disk = model.disk.crash(7);
        model.reopen();
    }
}
