//! Overload: packets are put aside into the archive, and nothing is lost or heard differently.
//!
//! Purpose: workers that come too late find hundreds of blocks, spill them raw, and transcode them
//! when the load has fallen; the recordings equal those of workers that kept up.
//! Invariants: no sleep decides the outcome; the archive is real, in a directory of its own.
//! Non-goals: speed.
//! Sources: the design's "Overload never drops silently".

mod harness;

use callspan::base::{FrameOutcome, PacketTime};
use harness::{ALICE, BOB, Finished, Harness, answer, rtp, sip, udp};
use std::path::Path;
use std::time::Duration;

const CALLS: u32 = 20;
const TALK_MS: i64 = 8_000;
const BLOCKS: usize = 1_300;

/// When the workers start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Workers {
    AtOnce,
    AfterTheMedia,
}

fn ports(call: u32) -> (u16, u16) {
    let call = u16::try_from(call).expect("few calls");
    (4_000 + call * 4, 4_002 + call * 4)
}

/// Something that differs by call, channel and time, and is not silence.
fn sound(call: u32, channel: u8, number: u32) -> Vec<u8> {
    let (call, number) = (call.to_le_bytes()[0], number.to_le_bytes()[0]);
    (0..160_u8).map(|n| n.wrapping_mul(call + 3).wrapping_add(channel) ^ number).collect()
}

fn record(path: &Path, when: Workers) -> Finished {
    let mut harness = Harness::new(path, BLOCKS);
    if when == Workers::AtOnce {
        harness.start_workers();
    }
    for call in 0..CALLS {
        let (from, to) = ports(call);
        answer(&mut harness, 0, call, from, to);
    }
    for number in 0..u32::try_from(TALK_MS / 20).expect("short") {
        let ms = i64::from(number) * 20;
        for call in 0..CALLS {
            let (from, to) = ports(call);
            let there = rtp(call * 2, number, &sound(call, 0, number));
            harness.frame(ms, &udp(ALICE, from, BOB, to, &there));
            let back = rtp(call * 2 + 1, number, &sound(call, 1, number));
            harness.frame(ms, &udp(BOB, to, ALICE, from, &back));
        }
        harness.front.between(PacketTime::MIN);
        while when == Workers::AtOnce && harness.blocks.load_permille() > 250 {
            // Workers that keep up: the queue never grows.
            std::thread::yield_now();
        }
    }
    if when == Workers::AfterTheMedia {
        assert!(harness.blocks.load_permille() > 600, "{} ‰", harness.blocks.load_permille());
        harness.start_workers();
        while harness.blocks.load_permille() > 300 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for call in 0..CALLS {
        let bye = sip(call, "BYE sip:b@x SIP/2.0", "2 BYE", None);
        harness.frame(TALK_MS, &udp(ALICE, 5060, BOB, 5060, &bye));
    }
    let finished = harness.finish();
    assert_eq!(finished.outcomes.get(FrameOutcome::QueueFull), 0);
    assert_eq!(finished.outcomes.total(), finished.received);
    assert_eq!(finished.calls.len(), CALLS as usize);
    finished
}

#[test]
fn packets_put_aside_under_load_become_the_same_recordings() {
    let directory = tempfile::tempdir().expect("directory");
    let calm = record(&directory.path().join("calm"), Workers::AtOnce);
    assert_eq!(calm.spilled_bytes, 0, "workers that keep up put nothing aside");
    let late = record(&directory.path().join("late"), Workers::AfterTheMedia);
    assert!(late.spilled_bytes > 1 << 20, "only {} bytes were put aside", late.spilled_bytes);
    for (number, (calm, late)) in calm.slots().iter().zip(&late.slots()).enumerate() {
        let differs = calm.iter().zip(late).position(|(calm, late)| calm != late);
        assert_eq!((differs, late.len()), (None, 401), "call {number} sounds different");
        assert_eq!(calm.len(), 401);
    }
    assert_eq!(calm.summaries(), late.summaries());
}

#[test]
fn a_call_that_has_ended_ahead_of_a_ring_does_not_keep_the_workers_busy() {
    let directory = tempfile::tempdir().expect("directory");
    let mut harness = Harness::new(&directory.path().join("archive"), BLOCKS);
    harness.start_workers();
    let (from, to) = ports(0);
    answer(&mut harness, 0, 0, from, to);
    for number in 0..50 {
        let there = rtp(0, number, &sound(0, 0, number));
        harness.frame(i64::from(number) * 20, &udp(ALICE, from, BOB, to, &there));
    }
    harness.front.between(PacketTime::MIN);
    let bye = sip(0, "BYE sip:b@x SIP/2.0", "2 BYE", None);
    harness.frame(1_000, &udp(ALICE, 5060, BOB, 5060, &bye));
    // The port is silent: nothing comes after the BYE's own moment for half a second.
    std::thread::sleep(Duration::from_millis(500));
    let visits = harness.stats.visits.get();
    assert!(harness.stats.calls_open.get() == 1 && visits > 0, "the call waits for its ring");
    assert!(visits < 5_000, "{visits} visits of one call in half a second");
    harness.finish();
}
