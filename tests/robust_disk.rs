//! A full disk: one line that says so, and what was recorded before stays.
//!
//! Purpose: issue 3's "full disk", on a small tmpfs in a mount namespace of the test's own.
//! Invariants: needs root; the mount is gone when its shell ends, however it ends.
//! Non-goals: failing single writes (see tests/archive_faults.rs).
//! Sources: unshare(1), tmpfs(5).

mod robust_common;

use robust_common::{CALLSPAN, Case, Ended, ends, phones};

/// Runs a script of bash in a tmpfs of that size; `$CALLSPAN` and `$PHONES` are set.
fn on_a_disk_of(case: &Case, size: &str, script: &str) -> Ended {
    robust_common::needs_root();
    let place = case.path("disk");
    std::fs::create_dir_all(&place).expect("made");
    let mut command = case.command("unshare");
    let whole = format!(
        "mount -t tmpfs -o size={size} none disk && cd disk && \
         $CALLSPAN init calls --plaintext 2>/dev/null && {script}"
    );
    command.args(["--mount", "bash", "-c", &whole]).env("CALLSPAN", CALLSPAN);
    command.env("LAB", robust_common::lab(""));
    ends(command.env("PHONES", phones()).env("CALLSPAN_ARCHIVE", "calls"))
}

#[test]
fn a_disk_too_small_for_a_segment_is_told_at_once() {
    let case = Case::new();
    let done = on_a_disk_of(&case, "20m", "$CALLSPAN replay $PHONES --json");
    done.says(1, &["the disk of the archive is full", "bytes are needed", "make room"]);
    let report = done.report();
    assert_eq!(report["calls"]["recorded"], 0, "nothing reached the disk: {report}");
}

#[test]
fn what_was_recorded_before_the_disk_filled_stays_and_room_makes_it_go_on() {
    let case = Case::new();
    let done = on_a_disk_of(
        &case,
        "300m",
        "$CALLSPAN replay $PHONES 2>/dev/null && fallocate -l 100m filler && \
         { $CALLSPAN replay $PHONES --json >&2; echo $?; $CALLSPAN calls --json | wc -l; \
           id=$($CALLSPAN calls --json | sed 's/.*\"id\":\"\\([0-9a-f]*\\).*/\\1/'); \
           $CALLSPAN export $id --format wav --output kept.wav 2>/dev/null; stat -c %s kept.wav; \
           rm filler kept.wav; $CALLSPAN replay $PHONES 2>/dev/null; echo $?; \
           $CALLSPAN calls --json | wc -l; }",
    );
    let told: Vec<u64> = done.out.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(told.len(), 5, "{done:?}");
    assert_eq!((told[0], told[1]), (1, 1), "status 1, and the first call is there: {done:?}");
    assert!(told[2] > 300_000, "eleven seconds of two channels: {done:?}");
    assert_eq!((told[3], told[4]), (0, 2), "with room it goes on: {done:?}");
    let line = done.errors.lines().last().expect("a line");
    assert!(line.starts_with("callspan: the disk of the archive is full"), "{done:?}");
}

/// Writes a call whose sound is noise: 280 MB that nothing compresses.
const NOISE: &str = r#"
import os, struct, sys
sys.path.insert(0, os.environ["LAB"])
import wire
begin, media = 1_764_000_000 * 10**9, (("10.1.0.1", 9000), ("10.1.0.2", 9000))
dialog = wire.Dialog("noise", "+481", "+482", (("10.1.0.1", 5060), ("10.1.0.2", 5060)), media, 8)
prefixes = [wire.udp_prefix(media[side], media[1 - side], 812) for side in (0, 1)]
out = sys.stdout.buffer
out.write(wire.PCAP_HEADER)
for when, frame in dialog.opening(begin):
    out.write(wire.record(when, frame))
for number in range(175_000):
    when = begin + 20_000_000 + number * 100_000_000
    for side in (0, 1):
        header = struct.pack("!BBHII", 0x80, 8, number & 0xFFFF, number * 800 & 0xFFFFFFFF, side + 1)
        out.write(wire.record(when + side, prefixes[side] + header + os.urandom(800)))
"#;

#[test]
fn a_disk_that_fills_in_the_middle_of_a_run_ends_it_with_one_line() {
    let case = Case::new();
    case.write("noise.py", NOISE.as_bytes());
    // The first segment finds room, the second does not.
    let done = on_a_disk_of(
        &case,
        "300m",
        "python3 ../noise.py 2>/dev/null | $CALLSPAN replay - --store raw --json; \
         echo ${PIPESTATUS[1]} >&2; ls calls/segments | wc -l >&2; \
         $CALLSPAN calls --json | wc -l >&2",
    );
    let lines: Vec<&str> = done.errors.lines().collect();
    assert_eq!(lines.len(), 4, "{done:?}");
    assert!(lines[0].starts_with("callspan: the disk of the archive is full"), "{done:?}");
    assert!(lines[0].contains("make room"), "{done:?}");
    assert_eq!(lines[1..], ["1", "1", "1"], "status, segments, calls: {done:?}");
    done.report();
}
