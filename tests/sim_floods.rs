//! Floods of every kind meet a cap and a counter, never the OOM killer (invariant 4).
//!
//! Purpose: what an attacker or a broken device can send without end.
//! Invariants: received = the sum over outcomes, always.
//! Non-goals: fragments and TCP (see tests/model_net_*.rs).
//! Sources: base/limits.rs.

mod harness;

use callspan::base::FrameOutcome;
use callspan::base::limits::{CALLS_MAX, ORPHAN_BYTES_MAX, STREAMS_PER_CALL_MAX};
use harness::{ALICE, BOB, Harness, answer, rtp, sip, udp};

const SOUND: [u8; 160] = [0x2a; 160];

#[test]
fn invites_beyond_the_table_are_counted_and_the_calls_in_it_live_on() {
    let directory = tempfile::tempdir().expect("directory");
    let mut harness = Harness::new(&directory.path().join("a"), 1_000);
    harness.start_workers();
    answer(&mut harness, 0, 0, 4_000, 4_002);
    let beyond = 250;
    for call in 1..u32::try_from(CALLS_MAX + beyond).expect("fits") {
        let invite = sip(call, "INVITE sip:b@x SIP/2.0", "1 INVITE", Some(("10.0.0.9", 9)));
        harness.frame(1, &udp(ALICE, 5060, BOB, 5060, &invite));
    }
    harness.frame(20, &udp(ALICE, 4_000, BOB, 4_002, &rtp(1, 1, &SOUND)));
    let finished = harness.finish();
    assert_eq!(finished.outcomes.get(FrameOutcome::CallLimit), beyond as u64);
    assert_eq!(finished.outcomes.get(FrameOutcome::Rtp), 1);
    assert_eq!(finished.outcomes.total(), finished.received);
    assert_eq!(finished.calls.len(), CALLS_MAX);
}

#[test]
fn an_ssrc_flood_at_an_announced_address_is_bounded_in_streams() {
    let directory = tempfile::tempdir().expect("directory");
    let mut harness = Harness::new(&directory.path().join("a"), 4_000);
    harness.start_workers();
    answer(&mut harness, 0, 0, 4_000, 4_002);
    for ssrc in 0..100_000 {
        let ms = i64::from(ssrc) / 50;
        harness.frame(ms, &udp(ALICE, 4_000, BOB, 4_002, &rtp(ssrc, 1, &SOUND)));
        // The call's queue has 64 places: a test that outran its workers would see it full.
        while harness.blocks.in_use() > 40 {
            harness.front.between(callspan::base::PacketTime::MIN);
            std::thread::yield_now();
        }
    }
    let finished = harness.finish();
    assert_eq!(finished.outcomes.get(FrameOutcome::Rtp), 100_000);
    assert_eq!(finished.outcomes.total(), finished.received);
    let summary = &finished.summaries()[0];
    assert_eq!(summary.streams.len(), STREAMS_PER_CALL_MAX);
    assert!(summary.notes.iter().any(|note| note.contains("more streams")), "{:?}", summary.notes);
}

#[test]
fn rtp_that_nobody_announced_is_bounded_and_counted_to_the_last_packet() {
    let directory = tempfile::tempdir().expect("directory");
    let mut harness = Harness::new(&directory.path().join("a"), 100);
    let big = vec![0x2a; 1_200];
    let flows = u32::try_from(2 * ORPHAN_BYTES_MAX / big.len()).expect("fits");
    for ssrc in 0..flows {
        let port = 10_000 + u16::try_from(ssrc % 50_000).expect("small");
        harness.frame(1, &udp(ALICE, port, BOB, 4_002, &rtp(ssrc, 1, &big)));
    }
    let finished = harness.finish();
    let dropped = finished.outcomes.get(FrameOutcome::OrphanDropped);
    let unclaimed = finished.outcomes.get(FrameOutcome::UnclaimedRtp);
    assert!(dropped > u64::from(flows) / 3, "{dropped}");
    assert_eq!(dropped + unclaimed, u64::from(flows));
    assert_eq!(finished.outcomes.total(), finished.received);
}

#[test]
fn without_workers_packets_are_refused_and_counted_when_the_blocks_are_used_up() {
    let directory = tempfile::tempdir().expect("directory");
    let mut harness = Harness::new(&directory.path().join("a"), 10);
    answer(&mut harness, 0, 0, 4_000, 4_002);
    for number in 0..3_000_u32 {
        let ms = i64::from(number) * 20;
        harness.frame(ms, &udp(ALICE, 4_000, BOB, 4_002, &rtp(1, number, &SOUND)));
    }
    let finished = harness.finish();
    let refused = finished.outcomes.get(FrameOutcome::QueueFull);
    assert!(refused > 1_000, "{refused}");
    assert_eq!(finished.outcomes.get(FrameOutcome::Rtp) + refused, 3_000);
    assert_eq!(finished.outcomes.total(), finished.received);
    let summary = &finished.summaries()[0];
    assert_eq!(summary.streams[0].packets + refused, 3_000);
}
