//! From a capture file to a sealed archive.
//!
//! Purpose: `app::replay` end to end: many calls at once with Opus, with nothing kept, and floods
//! that are nobody's call.
//! Invariants: every frame's outcome and every call's recording is asserted, in each pass.
//! Non-goals: live capture (see `tests/lab`).
//! Sources: none.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::app::replay;
use callspan::base::{Channel, FrameOutcome, PacketTime};
use callspan::cli::RunReport;
use callspan::cli::options::Store;
use common::calls::{Talk, capture};
use common::{Part, count, low_16, low_32, make_archive, media_end, rtp, size, udp_frame};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};

type Frames = Vec<(PacketTime, Vec<u8>)>;

fn case(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    frames: &Frames,
    store: Store,
    check: impl Fn(&RunReport),
) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("calls.pcap");
    common::write_pcap(&file, frames);
    let files = [file];
    let setup = || {
        let archive = tempfile::tempdir_in(folder.path()).expect("a folder");
        make_archive(&archive.path().join("archive"));
        archive
    };
    let run = |archive: tempfile::TempDir| {
        let options = common::run_options(&archive.path().join("archive"), store);
        let report = replay(&files, &options).expect("a replay");
        assert_eq!(report.frames_received, count(frames.len()), "{name}");
        assert_eq!(report.outcomes.total(), report.frames_received, "{name}");
        check(&report);
        archive
    };
    group.throughput(Throughput::Elements(count(frames.len())));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });
}

/// RTP of flows that nobody announced, `flows` of them in turn.
fn unknown_flows(flows: usize, packets: usize, part: Part) -> Frames {
    let one = |number: usize| {
        let (flow, seq) = (number % flows, number / flows);
        let (source, destination) =
            (media_end(flow, Channel::Caller), media_end(flow, Channel::Callee));
        // UDP header, RTP header and payload: a multiple of 8, as a fragment must be.
        let media = rtp(low_16(seq), low_32(flow), &[0xd5; 164]);
        let bytes = udp_frame(source, destination, low_16(number), part, &media);
        (PacketTime::from_ms(1_700_000_000_000).plus_ns(i64::from(low_32(number)) * 5_000), bytes)
    };
    (0..packets).map(one).collect()
}

fn pipeline(criterion: &mut Criterion) {
    let (calls, seconds) = size((4, 2), (50, 10));
    let recorded = |report: &RunReport, calls: usize| {
        let calls = count(calls);
        assert_eq!((report.calls_seen, report.calls_recorded), (calls, calls));
    };
    let mut group = criterion.benchmark_group(format!("pipeline/{calls}_calls"));
    // Passes are long: as many for each sample.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let both = capture(calls, seconds, Talk::Both);
    case(&mut group, "opus_both_talk", &both, Store::Opus, |report| recorded(report, calls));
    let turns = capture(calls, seconds, Talk::InTurns);
    case(&mut group, "opus_in_turns", &turns, Store::Opus, |report| recorded(report, calls));
    case(&mut group, "raw", &both, Store::Raw, |report| recorded(report, calls));
    case(&mut group, "none", &both, Store::None, |report| {
        let media = count(calls) * u64::from(seconds) * 100;
        assert_eq!(report.outcomes.get(FrameOutcome::Rtp), media);
    });
    let packets = size(2_000, 200_000);
    for (name, flows) in [("worst_unknown_flow", 1), ("worst_unknown_flows", packets)] {
        let flood = unknown_flows(flows, packets, Part::Whole);
        case(&mut group, name, &flood, Store::Opus, |report| {
            let outcomes = [FrameOutcome::UnclaimedRtp, FrameOutcome::OrphanDropped];
            let lost: u64 = outcomes.map(|outcome| report.outcomes.get(outcome)).iter().sum();
            assert_eq!(lost, count(packets));
        });
    }
    let fragments = unknown_flows(packets, packets, Part::First);
    case(&mut group, "worst_all_fragments", &fragments, Store::Opus, |report| {
        assert_eq!(report.outcomes.get(FrameOutcome::FragmentDropped), count(packets));
    });
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
