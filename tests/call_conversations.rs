//! Legs that are one conversation: B2BUAs, transfers, replaced dialogs.
//!
//! Purpose: which legs are joined, on which channel their parties are, who speaks since when, and when
//! the conversation is over; and what must never be joined.
//! Invariants: time is virtual; hosts are 10.9.0.N.
//! Non-goals: sound (see tests/lab), one leg alone (see `call_correlation`).
//! Sources: RFC 3515, RFC 3891, RFC 5589, RFC 7989.

mod common;

use callspan::base::Channel::{Callee, Caller};
use callspan::base::limits::{END_GRACE_MS, TRANSFER_WAIT_MS};
use callspan::call::{CallFacts, Correlator, EndReason, JoinSettings, JoinedBy, Legs};
use common::{Sip, Tap, at_ms, request, response, sdp};

const ALICE: &str = "10.0.0.1:4000";
const BOB: &str = "10.0.0.2:5000";
const CAROL: &str = "10.0.0.3:6000";
const SWITCH_IN: &str = "10.0.0.9:7000";
const SWITCH_OUT: &str = "10.0.0.9:7100";

fn joined_by(facts: &CallFacts) -> Vec<JoinedBy> {
    facts.legs.iter().map(|leg| leg.by).collect()
}

/// Alice (host 1) calls the switch (host 2), which has not called on yet.
fn inbound(tap: &mut Tap, headers: &str) {
    let mut invite = request("INVITE", 1).with(sdp(ALICE));
    if !headers.is_empty() {
        invite = invite.header(headers);
    }
    tap.sees(0, &invite);
}

/// The switch (host 2) calls Bob (host 3).
fn onward() -> Sip {
    request("INVITE", 1).of_call("2@switch").between(2, 3).with(sdp(SWITCH_OUT))
}

fn both_answer(tap: &mut Tap) {
    tap.sees(2_000, &onward_response(200).with(sdp(BOB)));
    tap.sees(2_005, &response(200, "INVITE", 1, "bob").with(sdp(SWITCH_IN)));
}

fn onward_response(status: u16) -> Sip {
    response(status, "INVITE", 1, "bob2").of_call("2@switch").between(3, 2)
}

#[test]
fn what_a_b2bua_sends_on_is_one_conversation() {
    let mut tap = Tap::default();
    inbound(&mut tap, "");
    tap.sees(100, &onward());
    both_answer(&mut tap);
    assert_eq!(
        (tap.opened.len(), tap.answered.last().map(joined_by)),
        (1, Some(vec![JoinedBy::Path]))
    );
    assert_eq!(tap.audio_of(Caller), [ALICE, SWITCH_OUT]);
    assert_eq!(tap.audio_of(Callee), [SWITCH_IN, BOB]);
    let bye =
        request("BYE", 2).in_dialog("bob2").of_call("2@switch").sent_by_callee().between(3, 2);
    tap.sees(9_000, &bye);
    assert!(tap.ended.is_empty(), "the other leg goes on");
    tap.sees(9_004, &request("BYE", 2).in_dialog("bob").sent_by_callee());
    assert_eq!(tap.ended.len(), 1);
    let facts = &tap.ended[0];
    assert_eq!(facts.answered_at, Some(at_ms(2_000)));
    assert_eq!(facts.ended, Some((at_ms(9_004), EndReason::Bye)));
    assert!(facts.speakers.is_empty(), "nobody was transferred");
    tap.passes(9_004 + END_GRACE_MS);
    assert!(tap.claims.is_empty());
}

#[test]
fn a_leg_that_ended_takes_its_last_packets_while_the_other_goes_on() {
    let mut tap = Tap::default();
    inbound(&mut tap, "");
    tap.sees(100, &onward());
    both_answer(&mut tap);
    tap.sees(9_000, &request("BYE", 2).in_dialog("bob2").of_call("2@switch").between(2, 3));
    assert_eq!(tap.audio_of(Callee), [SWITCH_IN, BOB]);
    tap.passes(9_000 + END_GRACE_MS);
    assert_eq!(tap.audio_of(Callee), [SWITCH_IN]);
    assert_eq!(tap.audio_of(Caller), [ALICE]);
}

#[test]
fn each_leg_is_a_call_of_its_own_when_operators_want_it() {
    let settings = JoinSettings { legs: Legs::All, ..JoinSettings::default() };
    let mut tap = Tap { correlator: Correlator::new(settings), ..Tap::default() };
    inbound(&mut tap, "Session-ID: aa55;remote=00");
    tap.sees(100, &onward().header("Session-ID: aa55;remote=00"));
    assert_eq!(tap.opened.len(), 2);
}

#[test]
fn a_session_id_joins_what_numbers_and_ways_do_not() {
    for (here, there, calls) in [
        ("Session-ID: aa55;remote=00000000000000000000000000000000", "Session-ID: AA55", 1),
        ("Session-ID: aa55", "Session-ID: bb66;remote=aa55", 2),
        (
            "Session-ID: 00000000000000000000000000000000",
            "Session-ID: 00000000000000000000000000000000",
            2,
        ),
    ] {
        let mut tap = Tap::default();
        inbound(&mut tap, here);
        tap.sees(100, &onward().called_as("pilot").between(7, 8).header(there));
        assert_eq!(tap.opened.len(), calls, "{here} {there}");
    }
}

#[test]
fn the_operators_header_joins_and_another_value_does_not() {
    for (value, calls) in [("42", 1), ("43", 2)] {
        let settings = JoinSettings { header: Some("x-CALL".into()), ..JoinSettings::default() };
        let mut tap = Tap { correlator: Correlator::new(settings), ..Tap::default() };
        inbound(&mut tap, "X-Call: 42");
        let leg = onward().called_as("pilot").between(7, 8).header(&format!("X-Call: {value}"));
        tap.sees(100, &leg);
        assert_eq!(tap.opened.len(), calls, "{value}");
    }
}

#[test]
fn two_calls_that_one_switch_makes_face_each_other() {
    let settings = JoinSettings { header: Some("X-Call".into()), ..JoinSettings::default() };
    let mut tap = Tap { correlator: Correlator::new(settings), ..Tap::default() };
    inbound(&mut tap, "X-Call: 42");
    let leg = request("INVITE", 1).of_call("2@switch").called_as("pilot").for_user("carol");
    tap.sees(100, &leg.header("X-Call: 42").between(1, 3).with(sdp(CAROL)));
    assert_eq!(tap.opened.len(), 1);
    assert_eq!(tap.audio_of(Callee), [CAROL], "the caller of the second faces the first's callee");
}

#[test]
fn a_leg_that_could_be_of_two_conversations_is_of_none() {
    let mut tap = Tap::default();
    inbound(&mut tap, "");
    tap.sees(50, &request("INVITE", 1).of_call("other").with(sdp(CAROL)));
    tap.sees(100, &onward());
    assert_eq!(tap.opened.len(), 3);
}

#[test]
fn callers_without_a_number_and_strangers_are_not_joined_by_their_way() {
    for leg in [
        onward().called_as("mallory"),
        onward().between(4, 3),
        // Back to where the first came from: another call between the same two hosts.
        request("INVITE", 1).of_call("2@switch").with(sdp(SWITCH_OUT)),
    ] {
        let mut tap = Tap::default();
        inbound(&mut tap, "");
        tap.sees(100, &leg);
        assert_eq!(tap.opened.len(), 2);
    }
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).called_as("anonymous").with(sdp(ALICE)));
    tap.sees(100, &onward().called_as("anonymous"));
    assert_eq!(tap.opened.len(), 2);
}

/// Alice (1) and Bob (2) talk; `by` asks the other to call Carol.
fn referred(by_bob: bool, headers: &str) -> Tap {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(1_000, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    let mut refer = request("REFER", 5).in_dialog("bob").header(headers);
    if by_bob {
        refer = refer.sent_by_callee();
    }
    tap.sees(5_000, &refer);
    tap
}

/// Whoever is on `host` calls Carol (4).
fn to_carol(host: u8, user: &str) -> Sip {
    request("INVITE", 1).of_call("3@transfer").called_as(user).for_user("carol").between(host, 4)
}

fn carol_answers(tap: &mut Tap, ms: i64, host: u8) {
    let answer = response(200, "INVITE", 1, "carol").of_call("3@transfer").between(4, host);
    tap.sees(ms, &answer.with(sdp(CAROL)));
}

#[test]
fn a_blind_transfer_goes_on_in_the_same_recording() {
    // Bob sends Alice to Carol: Alice stays the caller, Carol is heard on the callee's channel.
    let mut tap = referred(true, "Refer-To: <sip:carol@c.example>");
    tap.sees(5_100, &request("BYE", 6).in_dialog("bob").sent_by_callee());
    assert!(tap.ended.is_empty(), "the call that was asked for may still come");
    tap.sees(5_400, &to_carol(1, "alice").with(sdp(ALICE)));
    carol_answers(&mut tap, 7_000, 1);
    assert_eq!(tap.opened.len(), 1);
    assert_eq!(
        (tap.audio_of(Caller), tap.audio_of(Callee)),
        (vec![ALICE.into()], vec![CAROL.into()])
    );
    let facts = tap.answered.last().expect("told");
    assert_eq!((facts.answered_at, joined_by(facts)), (Some(at_ms(1_000)), vec![JoinedBy::Refer]));
    let speakers: Vec<_> =
        facts.speakers.iter().map(|it| (it.channel, it.party.number.as_str(), it.since)).collect();
    assert_eq!(
        speakers,
        [
            (Caller, "alice", at_ms(1_000)),
            (Callee, "bob", at_ms(1_000)),
            (Callee, "carol", at_ms(7_000))
        ]
    );
    tap.sees(9_000, &request("BYE", 2).of_call("3@transfer").in_dialog("carol").between(1, 4));
    assert_eq!(tap.ended[0].ended, Some((at_ms(9_000), EndReason::Bye)));
}

#[test]
fn a_callee_who_is_transferred_keeps_the_callees_channel() {
    let mut tap = referred(false, "Refer-To: sip:carol@c.example");
    tap.sees(5_400, &to_carol(2, "bob").with(sdp(BOB)));
    carol_answers(&mut tap, 7_000, 2);
    tap.sees(7_100, &request("BYE", 6).in_dialog("bob"));
    tap.passes(7_100 + END_GRACE_MS);
    assert_eq!(
        (tap.audio_of(Caller), tap.audio_of(Callee)),
        (vec![CAROL.into()], vec![BOB.into()])
    );
    let last = tap.answered.last().and_then(|facts| facts.speakers.last()).expect("a speaker");
    assert_eq!((last.channel, last.party.number.as_str()), (Caller, "carol"));
}

#[test]
fn a_transfer_that_never_comes_ends_the_call_at_its_bye() {
    let mut tap = referred(true, "Refer-To: <sip:carol@c.example>");
    tap.sees(5_100, &request("BYE", 6).in_dialog("bob").sent_by_callee());
    tap.waits(5_100 + TRANSFER_WAIT_MS - 1, None);
    assert!(tap.ended.is_empty());
    tap.waits(5_100 + TRANSFER_WAIT_MS, None);
    assert_eq!(tap.ended[0].ended, Some((at_ms(5_100), EndReason::Bye)));
    assert!(tap.claims.is_empty());
}

#[test]
fn a_refused_transfer_is_not_waited_for() {
    for refusal in [
        response(603, "REFER", 5, "bob"),
        request("NOTIFY", 7).in_dialog("bob").with("SIP/2.0 486 Busy Here\r\n"),
    ] {
        let mut tap = referred(true, "Refer-To: <sip:carol@c.example>");
        tap.sees(5_050, &refusal);
        tap.sees(5_100, &request("BYE", 6).in_dialog("bob").sent_by_callee());
        assert_eq!(tap.ended.len(), 1);
    }
}

#[test]
fn an_attended_transfer_joins_by_what_it_replaces_and_keeps_the_consultation_apart() {
    let refer_to =
        "Refer-To: <sip:carol@c.example?Replaces=consult%40b%3Bto-tag%3Dcarol%3Bfrom-tag%3Dalice>";
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(1_000, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    // Bob asks Carol first.
    let asks = request("INVITE", 1).of_call("consult@b").called_as("bob").for_user("carol");
    tap.sees(3_000, &asks.between(2, 4).with(sdp("10.0.0.2:5200")));
    let answer = response(200, "INVITE", 1, "carol").of_call("consult@b").between(4, 2);
    tap.sees(3_500, &answer.with(sdp("10.0.0.3:6200")));
    assert_eq!(tap.opened.len(), 2);
    tap.sees(5_000, &request("REFER", 5).in_dialog("bob").header(refer_to).sent_by_callee());
    let replaces = "Replaces: consult@b;to-tag=carol;from-tag=alice";
    tap.sees(6_000, &to_carol(1, "alice").header(replaces).with(sdp(ALICE)));
    carol_answers(&mut tap, 6_100, 1);
    assert_eq!(tap.opened.len(), 2, "no third call");
    let facts = tap.answered.last().expect("told");
    assert_eq!(joined_by(facts), [JoinedBy::Refer, JoinedBy::Replaces]);
    assert_eq!(facts.legs[1].sip_call_id, "consult@b");
    assert_eq!((tap.audio_of(Caller), tap.audio_of(Callee).len()), (vec![ALICE.into()], 2));
}

#[test]
fn who_replaces_a_dialog_speaks_in_its_place() {
    // Carol takes over from Bob: she replaces his dialog at Alice's phone.
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(1_000, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    let takes = request("INVITE", 1).of_call("pickup").called_as("carol").for_user("alice");
    let takes = takes.header("Replaces: 1@a.example;to-tag=alice;from-tag=bob").between(4, 1);
    tap.sees(4_000, &takes.with(sdp(CAROL)));
    let answer = response(200, "INVITE", 1, "x").of_call("pickup").between(1, 4);
    tap.sees(4_100, &answer.with(sdp(ALICE)));
    tap.sees(4_200, &request("BYE", 2).in_dialog("bob"));
    tap.passes(4_200 + END_GRACE_MS);
    assert_eq!(tap.opened.len(), 1);
    assert_eq!(
        (tap.audio_of(Caller), tap.audio_of(Callee)),
        (vec![ALICE.into()], vec![CAROL.into()])
    );
    let facts = tap.answered.last().expect("told");
    let last = facts.speakers.last().expect("a speaker");
    assert_eq!((last.channel, last.party.number.as_str()), (Callee, "carol"));
}

#[test]
fn a_refused_second_leg_does_not_end_the_conversation() {
    let mut tap = referred(true, "Refer-To: <sip:carol@c.example>");
    tap.sees(5_400, &to_carol(1, "alice").with(sdp(ALICE)));
    tap.sees(6_000, &response(486, "INVITE", 1, "carol").of_call("3@transfer").between(4, 1));
    tap.waits(30_000, Some(29_990));
    assert!(tap.ended.is_empty());
    tap.sees(31_000, &request("BYE", 9).in_dialog("bob"));
    assert_eq!(tap.ended[0].ended, Some((at_ms(31_000), EndReason::Bye)));
    assert_eq!(tap.ended[0].status_code, Some(200));
}

/// A switch (2) calls on as somebody else, and then lets both phones talk to each other directly.
fn connected_directly(second_from: u8) -> Tap {
    let mut tap = Tap::default();
    inbound(&mut tap, "");
    let onward = onward().called_as("pilot").between(second_from, 3);
    tap.sees(100, &onward);
    tap.sees(2_000, &onward_response(200).with(sdp(BOB)));
    tap.sees(2_005, &response(200, "INVITE", 1, "bob").with(sdp(SWITCH_IN)));
    assert_eq!(tap.opened.len(), 2, "nothing tells yet");
    let again = request("INVITE", 2).of_call("2@switch").in_dialog("bob2").between(second_from, 3);
    tap.sees(3_000, &again.with(sdp(ALICE)));
    let accepted = response(200, "INVITE", 2, "bob2").of_call("2@switch").between(3, second_from);
    tap.sees(3_010, &accepted.with(sdp(BOB)));
    tap.sees(3_020, &request("INVITE", 7).in_dialog("bob").sent_by_callee().with(sdp(BOB)));
    tap.sees(3_030, &response(200, "INVITE", 7, "bob").sent_by_callee().with(sdp(ALICE)));
    tap
}

#[test]
fn legs_that_announce_the_same_two_ends_become_one_conversation() {
    let mut tap = connected_directly(2);
    let part = tap.ended.first().expect("the younger one is a part now");
    assert_eq!(part.ended, Some((at_ms(3_030), EndReason::Joined)));
    assert_eq!(tap.answered.last().map(joined_by), Some(vec![JoinedBy::Media]));
    let claims = |call| tap.claims_told.iter().rev().find(|told| told.0 == call);
    let ends = claims(tap.opened[0]).map(|told| told.1.iter().map(|it| it.endpoint.to_string()));
    let ends: Vec<String> = ends.into_iter().flatten().collect();
    assert!(ends.contains(&ALICE.to_owned()) && ends.contains(&BOB.to_owned()), "{ends:?}");
    assert_eq!(claims(tap.opened[1]).map(|told| told.1.len()), Some(0));
    tap.sees(9_000, &request("BYE", 8).in_dialog("bob"));
    assert_eq!(tap.ended.len(), 1, "the other leg goes on");
    tap.sees(9_010, &request("BYE", 8).in_dialog("bob2").of_call("2@switch").between(2, 3));
    assert_eq!(tap.ended.len(), 2);
}

#[test]
fn the_same_ends_of_calls_that_no_switch_joins_stay_two_calls() {
    let tap = connected_directly(7);
    assert!(tap.ended.is_empty());
}
