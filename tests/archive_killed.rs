//! The real program, killed with SIGKILL while it records into a sealed archive.
//!
//! Purpose: what a reader could see before the kill is there after it, `verify` finds no damage, and
//! recording goes on.
//! Invariants: only this test's own child is killed; moments come from a seed.
//! Non-goals: power cuts (see `archive_sealed`).
//! Sources: issue 4, "1,000 kills".

mod robust_common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::thread::sleep;
use std::time::Duration;

use robust_common::{CALLSPAN, Case, phones, signal, synthetic, wait};

const KILLS: u64 = 25;
const CALLS: u32 = 40;

/// The ids of the calls that are listed.
fn listed(case: &Case) -> BTreeSet<String> {
    case.calls().iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn after_each_of_25_kills_the_archive_is_whole_and_recording_goes_on() {
    let case = Case::sealed();
    let capture = synthetic(&case, "many.pcap", CALLS, &[]);
    let (mut kills, mut torn, mut in_the_middle, mut known) = (0, 0, 0, BTreeSet::new());
    let mut moment = 0x5eed_u64;
    while in_the_middle < KILLS {
        let mut command = case.command(CALLSPAN);
        command.arg("replay").arg(&capture).args(["--commit-interval", "50"]);
        let child = command.spawn().expect("starts");
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        sleep(Duration::from_millis(20 + (moment >> 33) % 300));
        signal(&child, nix::sys::signal::Signal::SIGKILL);
        let done = wait(child);
        kills += 1;
        assert!(kills <= 3 * KILLS, "the runs end too soon to be killed");
        in_the_middle += u64::from(done.status.is_none());
        let found = case.run(["verify", "--archive", "calls", "--json"]);
        assert!(matches!(found.status, Some(0 | 3)), "kill {kills}: {found:?}");
        torn += u64::from(found.status == Some(3));
        let before = listed(&case);
        assert!(before.is_superset(&known), "kill {kills}: a call that was listed is gone");
        // The next run mends what is torn, and records.
        let next = case.run([OsStr::new("replay"), phones().as_os_str()]);
        assert_eq!(next.status, Some(0), "kill {kills}: {next:?}");
        let found = case.run(["verify", "--archive", "calls"]);
        assert_eq!(found.status, Some(0), "kill {kills}: {found:?}");
        known = listed(&case);
        assert!(known.is_superset(&before), "kill {kills}: a call that was committed is gone");
        assert!(known.len() > before.len(), "kill {kills}: the next call is there");
    }
    println!("{in_the_middle} of {kills} kills in the middle, {torn} left a torn tail");
    // All of them open: no kill cost a key.
    let calls = case.calls();
    let has_sound = |call: &&serde_json::Value| call["recording"]["state"] == "stored";
    let call = calls.iter().rfind(has_sound).expect("a call with sound");
    let words = [
        "export",
        call["id"].as_str().expect("an id"),
        "-f",
        "wav",
        "-o",
        "last.wav",
        "--identity",
        "id.txt",
    ];
    assert_eq!(case.run(words).status, Some(0));
    assert_eq!(case.run(["index", "rebuild"]).status, Some(0));
    assert_eq!(listed(&case), known, "the segments alone hold every call");
}
