//! What a replay costs beside `tcpdump`, which only copies packets: CPU time of both, in turns.
//!
//! Purpose: the ratios of docs/performance.md, and memory a call, of the built program as it is used.
//! Invariants: every pair runs the same file, warm, one program after the other; what is printed is the
//! median of the pairs' ratios; each replay must have seen every call and every frame.
//! Non-goals: stages (see the other benches), live capture (see `tests/lab`).
//! Sources: getrusage(2): CPU time and peak memory of children that were waited for.

#![allow(clippy::cast_precision_loss, reason = "counts of packets")]

mod common;

use common::calls::{Talk, capture};
use common::{count, make_archive, size};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// CPU seconds of all children so far.
fn children_s() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it always can be asked");
    let times = [usage.user_time(), usage.system_time()];
    times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}

/// Runs to the end; CPU seconds, and what it printed.
fn cost(command: &mut Command) -> (f64, Vec<u8>) {
    let before = children_s();
    let output = command.stderr(Stdio::null()).output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    (children_s() - before, output.stdout)
}

/// A replay into a new archive; CPU seconds and its report.
fn replay(folder: &Path, file: &Path, store: &str) -> (f64, Value) {
    let archive = tempfile::tempdir_in(folder).expect("a folder");
    let place = archive.path().join("archive");
    make_archive(&place);
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("replay").arg(file).arg("--archive").arg(&place);
    command.args(["--json", "--opus-complexity", "0", "--store", store]);
    let (cpu_s, out) = cost(&mut command);
    let report: Value = serde_json::from_slice(&out).expect("a report");
    assert_eq!(report["frames"]["kernel_dropped"], 0);
    (cpu_s, report)
}

fn tcpdump(file: &Path, to: &Path) -> f64 {
    let mut command = Command::new("tcpdump");
    command.arg("-r").arg(file).arg("-w").arg(to);
    cost(&mut command).0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn case(folder: &Path, calls: usize, seconds: u32, pairs: usize) {
    let file = folder.join("calls.pcap");
    let frames = capture(calls, seconds, Talk::Both);
    common::write_pcap(&file, &frames);
    let packets = frames.len();
    drop(frames);
    let copy = folder.join("copy.pcap");
    for (store, to) in [("none", Path::new("/dev/null")), ("raw", copy.as_path())] {
        let mut ratios = Vec::new();
        let (mut ours, mut memory) = (Vec::new(), 0);
        for _ in 0..pairs {
            let (cpu_s, report) = replay(folder, &file, store);
            assert_eq!(report["frames"]["received"], count(packets), "{store}");
            assert_eq!(report["calls"]["seen"], count(calls), "{store}");
            ratios.push(cpu_s / tcpdump(&file, to));
            ours.push(cpu_s * 1e9 / packets as f64);
            memory = report["peak_rss_bytes"].as_u64().expect("bytes");
        }
        println!(
            "against_tcpdump/{calls}_calls/{store}: {:.2} x tcpdump -w {}, {:.0} ns a packet, {} MiB",
            median(ratios),
            to.display(),
            median(ours),
            memory >> 20,
        );
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    // Short as a check; else 1,000 calls of 20 s, and as many packets of ten times the calls.
    let (cases, pairs) = size((vec![(20, 1)], 1), (vec![(100, 200), (1_000, 20), (10_000, 4)], 5));
    for (calls, seconds) in cases {
        case(folder.path(), calls, seconds, pairs);
    }
}
