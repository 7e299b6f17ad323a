//! Media whose addresses are not those of the SDP: NAT, relays, shared ports.
//!
//! Purpose: each way in which a stream finds its call without its address, and each in which it must
//! not.
//! Invariants: virtual time; no files but the test's own archive.
//! Non-goals: captures by others (see `corpus_calls`).
//! Sources: RFC 3264 §5.1, RFC 4961, RFC 3550 §8.

mod harness;

use callspan::base::{FrameOutcome, PacketTime};
use callspan::call::summary::{CallSummary, StreamSummary};
use callspan::call::{JoinSettings, MediaCalls};
use harness::{ALICE, BOB, Finished, Harness, answer, rtp, sip, udp};

const NAT: [u8; 4] = [203, 0, 113, 9];
const RELAY: [u8; 4] = [198, 51, 100, 7];
const BLOCKS: usize = 512;

/// PCMA that is sound and no noise.
const SOUND: [u8; 160] = [0x55; 160];

/// One way of a call on the wire: from, to, SSRC.
type Way = ([u8; 4], u16, [u8; 4], u16, u32);

/// Packets of some flows, every 20 ms of [`from`, `to`) ms.
fn talk(harness: &mut Harness, from_ms: i64, to_ms: i64, ways: &[Way]) {
    for number in 0..u32::try_from((to_ms - from_ms) / 20).expect("short") {
        for (source, from, destination, to, ssrc) in ways {
            let packet = rtp(*ssrc, number, &SOUND);
            let ms = from_ms + i64::from(number) * 20;
            harness.frame(ms, &udp(*source, *from, *destination, *to, &packet));
        }
    }
}

fn bye(harness: &mut Harness, ms: i64, call: u32) {
    let bye = sip(call, "BYE sip:b@x SIP/2.0", "2 BYE", None);
    harness.frame(ms, &udp(ALICE, 5060, BOB, 5060, &bye));
}

fn run(work: impl FnOnce(&mut Harness)) -> (Finished, Vec<CallSummary>) {
    run_with(MediaCalls::Never, work)
}

fn run_with(
    media_calls: MediaCalls,
    work: impl FnOnce(&mut Harness),
) -> (Finished, Vec<CallSummary>) {
    let directory = tempfile::tempdir().expect("a directory");
    let joins = JoinSettings { media_calls, ..JoinSettings::default() };
    let mut harness = Harness::with(&directory.path().join("a"), BLOCKS, joins);
    work(&mut harness);
    let finished = harness.finish();
    let summaries = finished.summaries();
    (finished, summaries)
}

/// Channel, SSRC, packets and evidence of each stream.
fn told(call: &CallSummary) -> Vec<(String, String, u64, String)> {
    let row = |it: &StreamSummary| {
        let by = it.matched_by.clone().unwrap_or_default();
        (it.channel.clone(), it.ssrc.clone(), it.packets, by)
    };
    call.streams.iter().map(row).collect()
}

fn row(channel: &str, ssrc: u32, packets: u64, by: &str) -> (String, String, u64, String) {
    (channel.into(), format!("0x{ssrc:08x}"), packets, by.into())
}

#[test]
fn ports_that_both_parties_announced_name_the_call_at_any_address() {
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        talk(harness, 10, 1_010, &[(NAT, 4_000, RELAY, 5_000, 7), (RELAY, 5_000, NAT, 4_000, 9)]);
        bye(harness, 1_200, 1);
    });
    assert_eq!(told(&calls[0]), [row("caller", 7, 50, "port"), row("callee", 9, 50, "port")]);
    assert_eq!(calls[0].streams[0].confidence, Some(0.8));
    assert!(calls[0].gaps.iter().all(|gap| gap.reason != "late"), "{:?}", calls[0].gaps);
}

#[test]
fn ports_that_two_calls_announced_name_neither() {
    let (finished, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        answer(harness, 5, 2, 4_000, 5_000);
        talk(harness, 10, 1_010, &[(NAT, 4_000, RELAY, 5_000, 7)]);
        bye(harness, 1_200, 1);
        bye(harness, 1_200, 2);
    });
    assert!(calls.iter().all(|call| call.streams.is_empty()));
    assert_eq!(finished.outcomes.get(FrameOutcome::UnclaimedRtp), 50);
}

#[test]
fn a_phone_behind_a_nat_is_heard_by_where_its_peer_sends() {
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        talk(harness, 10, 1_010, &[(NAT, 61_000, BOB, 5_000, 7), (BOB, 5_000, NAT, 61_000, 9)]);
        bye(harness, 1_200, 1);
    });
    let expected = [row("caller", 7, 50, "sdp"), row("callee", 9, 50, "symmetric")];
    assert_eq!(told(&calls[0]), expected);
}

#[test]
fn two_phones_behind_one_nat_that_call_one_port_are_not_mixed() {
    // A gateway that has one port for all calls; the NAT keeps the phones' ports.
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        let first = [(NAT, 4_000, BOB, 5_000, 7), (BOB, 5_000, NAT, 4_000, 9)];
        talk(harness, 10, 510, &first);
        answer(harness, 510, 2, 4_002, 5_000);
        let second = [(NAT, 4_002, BOB, 5_000, 17), (BOB, 5_000, NAT, 4_002, 19)];
        talk(harness, 520, 1_020, &second);
        bye(harness, 1_200, 1);
        bye(harness, 1_200, 2);
    });
    let first = [row("caller", 7, 25, "sdp"), row("callee", 9, 25, "symmetric")];
    assert_eq!(told(&calls[0]), first);
    let second = [row("caller", 17, 25, "sdp"), row("callee", 19, 25, "symmetric")];
    assert_eq!(told(&calls[1]), second);
}

#[test]
fn one_port_is_enough_for_the_one_call_that_waits_for_this_party() {
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        // Bob is heard where SDP says; Alice comes through a relay that has other ports.
        talk(harness, 10, 1_010, &[(BOB, 5_000, ALICE, 4_000, 9), (NAT, 4_000, RELAY, 31_000, 7)]);
        bye(harness, 1_200, 1);
    });
    assert_eq!(told(&calls[0]), [row("callee", 9, 50, "sdp"), row("caller", 7, 50, "port")]);
    assert_eq!(calls[0].streams[1].confidence, Some(0.6));
    assert!(calls[0].gaps.iter().all(|gap| gap.reason != "late"), "{:?}", calls[0].gaps);
}

#[test]
fn the_only_flow_from_a_partys_address_is_its_sound() {
    let lone = (ALICE, 22_222, RELAY, 31_000, 7);
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        talk(harness, 10, 1_010, &[(BOB, 5_000, ALICE, 4_000, 9), lone]);
        bye(harness, 1_200, 1);
    });
    assert_eq!(told(&calls[0]), [row("callee", 9, 50, "sdp"), row("caller", 7, 50, "time")]);
    // Two such flows: either could be meant.
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        let rival = (ALICE, 22_224, RELAY, 31_002, 8);
        talk(harness, 10, 1_010, &[(BOB, 5_000, ALICE, 4_000, 9), lone, rival]);
        bye(harness, 1_200, 1);
    });
    assert_eq!(told(&calls[0]), [row("callee", 9, 50, "sdp")]);
}

/// An INVITE and its 200 whose media lines say nothing, and whose candidates say it all.
fn answer_with_candidates(harness: &mut Harness, alice: &[&str], bob: &[&str]) {
    for (line, candidates) in [("INVITE sip:b@x SIP/2.0", alice), ("SIP/2.0 200 OK", bob)] {
        let lines: Vec<_> = candidates.iter().map(|it| format!("a=candidate:{it}\r\n")).collect();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
             m=audio 9 RTP/AVP 8\r\n{}",
            lines.concat()
        );
        let head = String::from_utf8(sip(1, line, "1 INVITE", None)).expect("text");
        let message = head.replace("Content-Length: 0", &format!("Content-Length: {}", sdp.len()));
        let bytes = [message.as_bytes(), sdp.as_bytes()].concat();
        harness.frame(0, &udp(ALICE, 5060, BOB, 5060, &bytes));
    }
}

#[test]
fn an_ssrc_that_sdp_names_finds_its_call_at_any_address() {
    let strangers = [(NAT, 30_000, RELAY, 31_000, 7), (RELAY, 31_000, NAT, 30_000, 9)];
    let (_, calls) = run(|harness| {
        for (line, port, ssrc) in
            [("INVITE sip:b@x SIP/2.0", 4_000, 7), ("SIP/2.0 200 OK", 5_000, 9)]
        {
            let sdp = format!(
                "v=0\r\nc=IN IP4 10.7.7.7\r\nm=audio {port} RTP/AVP 8\r\na=ssrc:{ssrc} cname:x\r\n"
            );
            let head = String::from_utf8(sip(1, line, "1 INVITE", None)).expect("text");
            let length = format!("Content-Length: {}", sdp.len());
            let message = head.replace("Content-Length: 0", &length) + &sdp;
            harness.frame(0, &udp(ALICE, 5060, BOB, 5060, message.as_bytes()));
        }
        talk(harness, 10, 1_010, &strangers);
        bye(harness, 1_200, 1);
    });
    let rows = told(&calls[0]);
    assert_eq!(rows, [row("caller", 7, 50, "ssrc"), row("callee", 9, 50, "ssrc")]);
    assert_eq!(calls[0].streams[0].confidence, Some(0.85));
}

/// Nothing of the media's addresses is announced; the phones' reports go between the announced ones.
#[test]
fn an_ssrc_that_a_report_names_finds_its_call_at_any_address() {
    let strangers = [(NAT, 30_000, RELAY, 31_000, 7), (RELAY, 31_000, NAT, 30_000, 9)];
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        // Another call at the same time: what is left over could be of either.
        answer(harness, 1, 2, 4_400, 5_400);
        harness.frame(5, &udp(ALICE, 4_001, BOB, 5_001, &report(7, Some(0))));
        harness.frame(6, &udp(BOB, 5_001, ALICE, 4_001, &report(9, Some(0))));
        talk(harness, 10, 2_010, &strangers);
        bye(harness, 2_200, 1);
        bye(harness, 2_200, 2);
    });
    let of = |number: usize| {
        calls
            .iter()
            .find(|call| call.sip_call_ids[0] == format!("{number}@harness"))
            .expect("a call")
    };
    let rows = told(of(1));
    assert_eq!(rows, [row("caller", 7, 100, "ssrc"), row("callee", 9, 100, "ssrc")]);
    assert_eq!(told(of(2)), []);
}

#[test]
fn ice_candidates_are_possible_addresses() {
    let (_, calls) = run(|harness| {
        let alice = ["1 1 UDP 1 192.168.7.2 4000 typ host"];
        let bob = ["1 1 UDP 1 198.51.100.7 50000 typ relay raddr 10.0.0.2 rport 5000"];
        answer_with_candidates(harness, &alice, &bob);
        let home = [192, 168, 7, 2];
        // Two hops: between the phone and the relay, and between the relay and the other phone.
        let near = [(home, 4_000, RELAY, 50_000, 7), (RELAY, 50_000, home, 4_000, 9)];
        let far = [(RELAY, 3_478, BOB, 5_000, 7), (BOB, 5_000, RELAY, 3_478, 9)];
        talk(harness, 10, 1_010, &[near, far].concat());
        bye(harness, 1_200, 1);
    });
    let expected = [("caller", 7), ("callee", 9), ("caller", 7), ("callee", 9)];
    let expected = expected.map(|(channel, ssrc)| row(channel, ssrc, 50, "ice"));
    assert_eq!(told(&calls[0]), expected);
    assert!(calls[0].gaps.iter().all(|gap| gap.reason != "hold"), "{:?}", calls[0].gaps);
}

#[test]
fn media_within_turn_is_the_phones() {
    let (finished, calls) = run(|harness| {
        answer_with_candidates(
            harness,
            &["1 1 UDP 1 198.51.100.7 50000 typ relay raddr 10.0.0.1 rport 4000"],
            &["1 1 UDP 1 10.0.0.2 5000 typ host"],
        );
        for number in 0..50 {
            let packet = rtp(7, number, &SOUND);
            let frame = [&[0x40, 0, 0, 172], packet.as_slice()].concat();
            let ms = 10 + i64::from(number) * 20;
            harness.frame(ms, &udp(ALICE, 4_000, RELAY, 3_478, &frame));
            harness.frame(ms + 1, &udp(RELAY, 50_000, BOB, 5_000, &packet));
        }
        bye(harness, 1_200, 1);
    });
    assert_eq!(told(&calls[0]), [row("caller", 7, 50, "ice"), row("caller", 7, 50, "ice")]);
    assert_eq!(finished.outcomes.get(FrameOutcome::Rtp), 100);
}

/// Both ways of a call without SIP.
const BOTH_WAYS: [Way; 2] = [(NAT, 4_000, RELAY, 5_000, 7), (RELAY, 5_000, NAT, 4_000, 9)];

#[test]
fn media_alone_is_a_call_from_its_first_packet_on() {
    // Shorter than the wait for SDP, longer, and with the other way beginning later.
    for (first_ms, second_ms, end_ms) in [(0, 0, 1_000), (0, 0, 6_000), (0, 3_000, 6_000)] {
        let (_, calls) = run_with(MediaCalls::Made, |harness| {
            for ms in (first_ms..end_ms).step_by(20) {
                let number = u32::try_from(ms / 20).expect("short");
                let ways = if ms < second_ms { &BOTH_WAYS[..1] } else { &BOTH_WAYS[..] };
                for (source, from, destination, to, ssrc) in ways {
                    let packet = rtp(*ssrc, number, &SOUND);
                    harness.frame(ms, &udp(*source, *from, *destination, *to, &packet));
                }
            }
        });
        let [call] = calls.as_slice() else { panic!("{calls:?}") };
        let packets = |from_ms: i64| u64::try_from((end_ms - from_ms) / 20).expect("short");
        let expected = [
            row("caller", 7, packets(first_ms), "heuristic"),
            row("callee", 9, packets(second_ms), "heuristic"),
        ];
        assert_eq!(told(call), expected);
        assert_eq!((call.origin.as_str(), call.verdict.as_str()), ("heuristic", "both"));
        assert!(call.sip_call_ids.is_empty() && call.answered_at.is_none());
        assert_eq!(call.sides.as_deref(), Some("unknown"));
        let seconds = f64::from(u32::try_from(end_ms).expect("short")) / 1e3;
        assert!((call.recording.seconds - seconds).abs() < 0.03, "{:?}", call.recording);
        assert!(call.gaps.is_empty(), "{:?}", call.gaps);
    }
}

#[test]
fn sip_that_comes_in_time_leaves_nothing_to_guess_and_late_sip_takes_over() {
    let (_, calls) = run_with(MediaCalls::Made, |harness| {
        talk(harness, 0, 1_000, &[(ALICE, 4_000, BOB, 5_000, 7)]);
        answer(harness, 1_000, 1, 4_000, 5_000);
        bye(harness, 1_500, 1);
    });
    assert_eq!((calls.len(), calls[0].origin.as_str()), (1, "invite"));
    let (_, calls) = run_with(MediaCalls::Made, |harness| {
        for number in 0..250 {
            if number == 200 {
                answer(harness, 4_000, 1, 4_000, 5_000);
            }
            let packet = rtp(7, number, &SOUND);
            harness.frame(i64::from(number) * 20, &udp(ALICE, 4_000, BOB, 5_000, &packet));
        }
        bye(harness, 5_000, 1);
    });
    let origins: Vec<_> = calls.iter().map(|call| call.origin.as_str()).collect();
    assert_eq!(origins, ["heuristic", "invite"]);
    assert_eq!(told(&calls[0]), [row("caller", 7, 200, "heuristic")]);
    assert_eq!(told(&calls[1]), [row("caller", 7, 50, "sdp")]);
}

#[test]
fn ciphertext_is_never_played_in_a_call_of_media_alone() {
    let (_, calls) = run_with(MediaCalls::Made, |harness| {
        let mut state = 1u64;
        for number in 0..100 {
            let noise = [(); 160].map(|()| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            });
            let packet = rtp(7, number, &noise);
            harness.frame(i64::from(number) * 20, &udp(NAT, 4_000, RELAY, 5_000, &packet));
        }
    });
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].recording.state, "raw", "{:?}", calls[0].notes);
    assert!(calls[0].gaps.iter().all(|gap| gap.reason == "encrypted"), "{:?}", calls[0].gaps);
}

/// An RTCP report of `ssrc`, as a sender of `packets` or as a receiver.
fn report(ssrc: u32, packets: Option<u32>) -> Vec<u8> {
    let mut bytes = match packets {
        Some(_) => vec![0x80, 200, 0, 6],
        None => vec![0x80, 201, 0, 1],
    };
    bytes.extend(ssrc.to_be_bytes());
    if let Some(packets) = packets {
        bytes.extend([0; 12]);
        bytes.extend(packets.to_be_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

/// SIP is another thread's when capturing: a report or a handshake may be ahead of its word.
#[test]
fn reports_and_handshakes_ahead_of_their_sdp_are_the_calls() {
    let hello = [22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9];
    let (finished, calls) = run(|harness| {
        harness.frame(0, &udp(BOB, 5_001, ALICE, 4_001, &report(9, Some(3))));
        harness.frame(1, &udp(BOB, 5_000, ALICE, 4_000, &hello));
        harness.frame(2, &udp(RELAY, 5_000, NAT, 4_000, &hello));
        harness.frame(3, &udp(RELAY, 5_001, NAT, 4_001, &report(8, Some(3))));
        answer(harness, 10, 1, 4_000, 5_000);
        talk(harness, 10, 1_010, &[(ALICE, 4_000, BOB, 5_000, 7)]);
        bye(harness, 2_500, 1);
    });
    let of = |outcome| finished.outcomes.get(outcome);
    assert_eq!((of(FrameOutcome::Rtcp), of(FrameOutcome::KeyExchange)), (1, 1));
    assert_eq!((of(FrameOutcome::UnclaimedRtp), of(FrameOutcome::NotVoip)), (1, 1));
    assert_eq!(finished.outcomes.total(), finished.received);
    assert_eq!(calls[0].verdict_why.callee.as_deref(), Some("not_seen"));
}

#[test]
fn a_side_that_is_missing_has_a_reason() {
    for (packets, expected) in
        [(None, "never_sent"), (Some(0), "never_sent"), (Some(9), "not_seen")]
    {
        let (_, calls) = run(|harness| {
            answer(harness, 0, 1, 4_000, 5_000);
            talk(harness, 10, 1_010, &[(ALICE, 4_000, BOB, 5_000, 7)]);
            harness.frame(1_100, &udp(BOB, 5_001, ALICE, 4_001, &report(9, packets)));
            bye(harness, 1_200, 1);
        });
        assert_eq!(calls[0].verdict, "caller_only");
        assert_eq!(calls[0].verdict_why.caller, None);
        assert_eq!(calls[0].verdict_why.callee.as_deref(), Some(expected));
        assert!(calls[0].notes.iter().any(|note| note.starts_with("callee: ")));
    }
    let (_, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        bye(harness, 1_200, 1);
        let invite = sip(2, "INVITE sip:b@x SIP/2.0", "1 INVITE", None);
        harness.frame(1_300, &udp(ALICE, 5060, BOB, 5060, &invite));
        let refusal = sip(2, "SIP/2.0 486 Busy Here", "1 INVITE", None);
        harness.frame(1_400, &udp(BOB, 5060, ALICE, 5060, &refusal));
    });
    let why = |at: usize| calls[at].verdict_why.caller.as_deref();
    assert_eq!((why(0), why(1)), (Some("not_seen"), Some("not_answered")));
}

#[test]
fn rtp_within_an_icmp_error_is_no_media() {
    let (finished, calls) = run(|harness| {
        answer(harness, 0, 1, 4_000, 5_000);
        for number in 0..10 {
            let quoted = udp(ALICE, 4_000, BOB, 5_000, &rtp(7, number, &SOUND));
            harness.frame(10 + i64::from(number) * 20, &icmp(&quoted));
            harness.frame(11 + i64::from(number) * 20, &icmp_v6(&quoted_v6(number)));
        }
        bye(harness, 1_200, 1);
    });
    assert!(calls[0].streams.is_empty());
    assert_eq!(finished.outcomes.get(FrameOutcome::NotVoip), 20);
}

/// Destination unreachable, port unreachable, from BOB to ALICE.
fn icmp(quoted: &[u8]) -> Vec<u8> {
    let mut bytes = udp(BOB, 0, ALICE, 0, &[&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat());
    bytes.drain(20..28);
    let len = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    bytes[2..4].copy_from_slice(&len);
    bytes[9] = 1;
    bytes
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![0x60, 0, 0, 0, len[0], len[1], next_header, 64];
    bytes.extend([0xfd; 16]);
    bytes.extend([0xfe; 16]);
    bytes.extend(payload);
    bytes
}

fn quoted_v6(number: u32) -> Vec<u8> {
    ipv6(17, &udp(ALICE, 4_000, BOB, 5_000, &rtp(7, number, &SOUND))[20..])
}

/// RFC 4443 §3.1, code 4.
fn icmp_v6(quoted: &[u8]) -> Vec<u8> {
    ipv6(58, &[&[1, 4, 0, 0, 0, 0, 0, 0], quoted].concat())
}

#[test]
fn an_unclaimed_report_is_listed_as_one_with_its_sender() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut harness = Harness::new(&directory.path().join("a"), BLOCKS);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 42];
    harness.frame(0, &udp(NAT, 4_001, RELAY, 5_001, &report));
    assert_eq!(harness.front.unclaimed(5), [], "SIP may still announce it");
    harness.front.between(PacketTime::from_ms(1_003_000));
    let unclaimed = harness.front.unclaimed(5);
    assert_eq!(unclaimed[0].0.key.ssrc.to_string(), "0x0000002a");
    assert_eq!(unclaimed[0].0.carries, callspan::work::orphans::Carries::Rtcp);
    harness.finish();
}
