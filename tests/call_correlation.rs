//! From SIP messages to calls, one behaviour a test.
//!
//! Purpose: every way in which a call is set up, changed and ended, as the correlator tells it.
//! Invariants: limits are met to the millisecond, in virtual time.
//! Non-goals: media (see `corpus_calls`), parsing (see `sip_torture`).
//! Sources: RFC 3261 §9, §13–§15, RFC 3262, RFC 3264, RFC 3311, RFC 6337.

mod common;

use callspan::base::Channel::{Callee, Caller};
use callspan::base::limits::{
    CALLS_MAX, END_GRACE_MS, HOLD_TIMEOUT_MS, MEDIA_TIMEOUT_MS, NO_MEDIA_TIMEOUT_MS, RETRY_WAIT_MS,
    SETUP_TIMEOUT_MS,
};
use callspan::call::{Attributed, CallOrigin, EndReason};
use callspan::rtp::plan::MediaState::{Flowing, OnHold};
use common::{Tap, at_ms, request, response, sdp, sdp_that_is};

const ALICE: &str = "10.0.0.1:4000";
const ALICE_MOVED: &str = "10.0.0.1:4400";
const BOB: &str = "10.0.0.2:5000";
const BOB_MOVED: &str = "10.0.0.2:5500";
const CAROL: &str = "10.0.0.3:6000";

/// Alice and Bob talk since 2 s.
fn talking() -> Tap {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(1_000, &response(180, "INVITE", 1, "bob"));
    tap.sees(2_000, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(2_000, &request("ACK", 1).in_dialog("bob"));
    tap
}

#[track_caller]
fn media_is(tap: &Tap, caller: &[&str], callee: &[&str]) {
    assert_eq!((tap.audio_of(Caller), tap.audio_of(Callee)), (own(caller), own(callee)));
}

fn own(places: &[&str]) -> Vec<String> {
    places.iter().map(|place| (*place).to_owned()).collect()
}

#[track_caller]
fn ended_once(tap: &mut Tap, ms: i64, reason: EndReason) {
    let ends: Vec<_> = tap.ended.iter().map(|facts| facts.ended).collect();
    assert_eq!(ends, [Some((at_ms(ms), reason))]);
    tap.passes(ms + END_GRACE_MS);
    assert!(tap.claims.is_empty());
}

#[test]
fn an_early_offer_is_answered_by_the_2xx() {
    let tap = talking();
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!(tap.answered.len(), 1);
    assert_eq!(tap.answered[0].answered_at, Some(at_ms(2_000)));
    assert_eq!(tap.answered[0].status_code, Some(200));
    assert_eq!(tap.answered[0].caller.number, "alice");
    assert_eq!(tap.answered[0].callee.number, "bob");
    assert_eq!(tap.answered[0].origin, CallOrigin::Invite);
}

#[test]
fn an_offer_alone_opens_its_flow() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    media_is(&tap, &[ALICE], &[]);
    assert!(tap.answered.is_empty());
}

#[test]
fn a_delayed_offer_is_answered_by_the_ack() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1));
    tap.sees(900, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    media_is(&tap, &[], &[BOB]);
    tap.sees(1_000, &request("ACK", 1).in_dialog("bob").with(sdp(ALICE)));
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!(tap.answered[0].answered_at, Some(at_ms(900)));
}

#[test]
fn a_183_with_sdp_then_a_200_without_keeps_the_media() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(500, &response(183, "INVITE", 1, "bob").with(sdp(BOB)));
    media_is(&tap, &[ALICE], &[BOB]);
    assert!(tap.answered.is_empty());
    tap.sees(900, &response(200, "INVITE", 1, "bob"));
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!(tap.answered.len(), 1);
}

#[test]
fn a_200_that_repeats_the_183_changes_no_address() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(500, &response(183, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(900, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    media_is(&tap, &[ALICE], &[BOB]);
}

#[test]
fn a_prack_answers_the_offer_of_a_183() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1));
    tap.sees(500, &response(183, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(600, &request("PRACK", 2).in_dialog("bob").with(sdp(ALICE)));
    tap.sees(610, &response(200, "PRACK", 2, "bob"));
    assert!(tap.answered.is_empty(), "a 200 to PRACK is no answer of the call");
    tap.sees(900, &response(200, "INVITE", 1, "bob"));
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!(tap.answered.len(), 1);
}

fn forked() -> Tap {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(500, &response(183, "INVITE", 1, "carol").with(sdp(CAROL)));
    tap.sees(600, &response(183, "INVITE", 1, "bob").with(sdp(BOB)));
    tap
}

#[test]
fn a_fork_follows_the_branch_that_answers() {
    let mut tap = forked();
    media_is(&tap, &[ALICE], &[CAROL, BOB]);
    tap.sees(900, &response(200, "INVITE", 1, "bob"));
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!((tap.losers(), &tap.plan.losers), (own(&[CAROL]), &own(&[CAROL])));
    assert_eq!(tap.opened.len(), 1);
}

#[test]
fn a_second_2xx_of_another_branch_does_not_win() {
    let mut tap = forked();
    tap.sees(900, &response(200, "INVITE", 1, "bob"));
    tap.sees(950, &response(200, "INVITE", 1, "carol").with(sdp(CAROL)));
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!((tap.losers(), tap.answered.len()), (own(&[CAROL]), 1));
}

#[test]
fn the_bye_of_a_losing_branch_does_not_end_the_call() {
    let mut tap = forked();
    tap.sees(900, &response(200, "INVITE", 1, "bob"));
    tap.sees(950, &response(200, "INVITE", 1, "carol").with(sdp(CAROL)));
    tap.sees(990, &request("BYE", 2).in_dialog("carol"));
    assert!(tap.ended.is_empty());
    tap.sees(9_000, &request("BYE", 2).in_dialog("bob"));
    ended_once(&mut tap, 9_000, EndReason::Bye);
}

#[test]
fn a_re_invite_moves_the_media_when_it_is_answered() {
    let mut tap = talking();
    tap.sees(5_000, &request("INVITE", 2).in_dialog("bob").with(sdp(ALICE_MOVED)));
    media_is(&tap, &[ALICE, ALICE_MOVED], &[BOB]);
    tap.sees(5_100, &response(200, "INVITE", 2, "bob").with(sdp(BOB_MOVED)));
    media_is(&tap, &[ALICE_MOVED], &[BOB_MOVED]);
    assert_eq!((tap.opened.len(), tap.answered.len()), (1, 1));
}

#[test]
fn the_callee_may_move_its_media_too() {
    let mut tap = talking();
    let again = request("INVITE", 77).in_dialog("bob").sent_by_callee();
    tap.sees(5_000, &again.with(sdp(BOB_MOVED)));
    media_is(&tap, &[ALICE], &[BOB, BOB_MOVED]);
    tap.sees(5_100, &response(200, "INVITE", 77, "bob").sent_by_callee().with(sdp(ALICE)));
    media_is(&tap, &[ALICE], &[BOB_MOVED]);
}

#[test]
fn a_delayed_re_invite_moves_the_media_with_its_ack() {
    let mut tap = talking();
    tap.sees(5_000, &request("INVITE", 2).in_dialog("bob"));
    tap.sees(5_100, &response(200, "INVITE", 2, "bob").with(sdp(BOB)));
    tap.sees(5_200, &request("ACK", 2).in_dialog("bob").with(sdp(CAROL)));
    media_is(&tap, &[CAROL], &[BOB]);
}

#[test]
fn sendonly_inactive_and_the_null_address_hold_and_sendrecv_resumes() {
    for (offer, answer, held) in [
        (sdp_that_is("sendonly", ALICE), sdp_that_is("recvonly", BOB), (Flowing, OnHold)),
        (sdp_that_is("inactive", ALICE), sdp_that_is("inactive", BOB), (OnHold, OnHold)),
        (sdp("0.0.0.0:4000"), sdp(BOB), (Flowing, OnHold)),
    ] {
        let mut tap = talking();
        assert_eq!(tap.states(), (Flowing, Flowing));
        tap.sees(5_000, &request("INVITE", 2).in_dialog("bob").with(offer.clone()));
        tap.sees(5_100, &response(200, "INVITE", 2, "bob").with(answer));
        assert_eq!(tap.states(), held, "{offer}");
        tap.sees(9_000, &request("INVITE", 3).in_dialog("bob").with(sdp(ALICE)));
        tap.sees(9_100, &response(200, "INVITE", 3, "bob").with(sdp(BOB)));
        assert_eq!(tap.states(), (Flowing, Flowing), "{offer}");
        media_is(&tap, &[ALICE], &[BOB]);
    }
}

#[test]
fn a_refused_re_invite_leaves_the_media_as_it_was() {
    let mut tap = talking();
    tap.sees(5_000, &request("INVITE", 2).in_dialog("bob").with(sdp(ALICE_MOVED)));
    tap.sees(5_100, &response(488, "INVITE", 2, "bob"));
    media_is(&tap, &[ALICE], &[BOB]);
    tap.waits(5_100 + RETRY_WAIT_MS, Some(5_100));
    assert!(tap.ended.is_empty(), "the call goes on");
}

#[test]
fn a_refusal_of_one_party_s_offer_leaves_the_other_s_with_the_same_cseq() {
    let mut tap = talking();
    tap.sees(5_000, &request("INVITE", 2).in_dialog("bob").with(sdp(ALICE_MOVED)));
    // Glare (RFC 3261 §14.1): the callee's own re-INVITE, with a number of its own.
    tap.sees(5_050, &response(491, "INVITE", 2, "bob").sent_by_callee());
    tap.sees(5_100, &response(200, "INVITE", 2, "bob").with(sdp(BOB)));
    media_is(&tap, &[ALICE_MOVED], &[BOB]);
}

#[test]
fn a_re_invite_with_broken_sdp_changes_nothing() {
    let mut tap = talking();
    tap.sees(5_000, &request("INVITE", 2).in_dialog("bob").with("v=0\r\nm=audio what\r\n"));
    tap.sees(5_100, &response(400, "INVITE", 2, "bob"));
    media_is(&tap, &[ALICE], &[BOB]);
    assert_eq!(tap.states(), (Flowing, Flowing));
}

#[test]
fn an_update_moves_the_media() {
    let mut tap = talking();
    tap.sees(5_000, &request("UPDATE", 2).in_dialog("bob").with(sdp(ALICE_MOVED)));
    tap.sees(5_100, &response(200, "UPDATE", 2, "bob").with(sdp(BOB)));
    media_is(&tap, &[ALICE_MOVED], &[BOB]);
}

#[test]
fn an_update_before_the_answer_moves_early_media() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(500, &response(183, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(600, &request("UPDATE", 2).in_dialog("bob").with(sdp(ALICE_MOVED)));
    tap.sees(610, &response(200, "UPDATE", 2, "bob").with(sdp(BOB_MOVED)));
    assert!(tap.answered.is_empty(), "a 200 to UPDATE is no answer of the call");
    tap.sees(900, &response(200, "INVITE", 1, "bob"));
    assert_eq!(tap.audio_of(Callee), [BOB_MOVED]);
    assert!(tap.losers().is_empty());
}

#[test]
fn a_cancelled_invite_ends_as_cancel_at_its_487() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(3_000, &request("CANCEL", 1));
    tap.sees(3_050, &response(200, "CANCEL", 1, "bob"));
    tap.sees(3_100, &response(487, "INVITE", 1, "bob"));
    tap.waits(3_100 + RETRY_WAIT_MS - 1, None);
    assert!(tap.ended.is_empty());
    tap.waits(3_100 + RETRY_WAIT_MS, None);
    ended_once(&mut tap, 3_100, EndReason::Cancel);
    assert_eq!((tap.ended[0].status_code, tap.ended[0].answered_at), (Some(487), None));
}

#[test]
fn a_cancel_that_crosses_the_200_does_not_cancel() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(3_000, &request("CANCEL", 1));
    tap.sees(3_001, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(3_050, &response(481, "CANCEL", 1, "bob"));
    media_is(&tap, &[ALICE], &[BOB]);
    tap.sees(3_100, &request("BYE", 2).in_dialog("bob"));
    ended_once(&mut tap, 3_100, EndReason::Bye);
}

#[test]
fn a_rejected_call_ends_at_its_rejection() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(700, &response(486, "INVITE", 1, "bob"));
    tap.sees(710, &request("ACK", 1).in_dialog("bob"));
    tap.waits(700 + RETRY_WAIT_MS, None);
    ended_once(&mut tap, 700, EndReason::Rejected);
    assert_eq!(tap.ended[0].status_code, Some(486));
}

#[test]
fn a_challenged_invite_tried_again_is_one_call() {
    for challenge in [401, 407] {
        let mut tap = Tap::default();
        tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
        tap.sees(50, &response(challenge, "INVITE", 1, "proxy"));
        tap.sees(60, &request("ACK", 1).in_dialog("proxy"));
        tap.sees(70, &request("INVITE", 2).with(sdp(ALICE_MOVED)));
        tap.sees(900, &response(200, "INVITE", 2, "bob").with(sdp(BOB)));
        media_is(&tap, &[ALICE_MOVED], &[BOB]);
        assert_eq!((tap.opened.len(), tap.answered.len(), tap.ended.len()), (1, 1, 0));
        assert_eq!(tap.answered[0].status_code, Some(200));
    }
}

#[test]
fn either_side_may_hang_up() {
    let bye = request("BYE", 9).in_dialog("bob");
    for bye in [bye.clone(), bye.sent_by_callee()] {
        let mut tap = talking();
        tap.sees(8_000, &bye);
        ended_once(&mut tap, 8_000, EndReason::Bye);
    }
}

#[test]
fn a_call_without_bye_ends_exactly_at_the_media_limit() {
    let mut tap = talking();
    tap.waits(30_000 + MEDIA_TIMEOUT_MS - 1, Some(30_000));
    assert!(tap.ended.is_empty());
    tap.waits(30_000 + MEDIA_TIMEOUT_MS, Some(30_000));
    ended_once(&mut tap, 30_000, EndReason::Timeout);
}

#[test]
fn a_call_on_hold_ends_exactly_at_the_hold_limit() {
    let mut tap = talking();
    tap.sees(5_000, &request("INVITE", 2).in_dialog("bob").with(sdp_that_is("inactive", ALICE)));
    tap.sees(5_000, &response(200, "INVITE", 2, "bob").with(sdp_that_is("inactive", BOB)));
    tap.waits(5_000 + HOLD_TIMEOUT_MS - 1, Some(4_000));
    assert!(tap.ended.is_empty());
    tap.waits(5_000 + HOLD_TIMEOUT_MS, Some(4_000));
    ended_once(&mut tap, 4_000, EndReason::Timeout);
}

#[test]
fn a_call_whose_media_never_came_ends_exactly_at_its_limit() {
    let mut tap = talking();
    tap.waits(2_000 + NO_MEDIA_TIMEOUT_MS - 1, None);
    assert!(tap.ended.is_empty());
    tap.waits(2_000 + NO_MEDIA_TIMEOUT_MS, None);
    ended_once(&mut tap, 2_000, EndReason::Timeout);
}

#[test]
fn an_invite_without_any_answer_ends_exactly_at_its_limit() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.waits(SETUP_TIMEOUT_MS - 1, None);
    assert!(tap.ended.is_empty());
    tap.waits(SETUP_TIMEOUT_MS, None);
    ended_once(&mut tap, 0, EndReason::Timeout);
}

#[test]
fn retransmissions_change_nothing() {
    let mut tap = Tap::default();
    let messages = [
        request("INVITE", 1).with(sdp(ALICE)),
        response(183, "INVITE", 1, "bob").with(sdp(BOB)),
        response(200, "INVITE", 1, "bob").with(sdp(BOB)),
        request("ACK", 1).in_dialog("bob"),
        request("INVITE", 2).in_dialog("bob").with(sdp(ALICE_MOVED)),
        response(200, "INVITE", 2, "bob").with(sdp(BOB_MOVED)),
        request("BYE", 3).in_dialog("bob"),
    ];
    for (message, ms) in messages.iter().zip((0..).step_by(1_000)) {
        tap.sees(ms, message);
        let events = tap.events;
        tap.sees(ms + END_GRACE_MS - 1, message);
        assert_eq!(tap.events, events, "message at {ms} ms");
    }
    ended_once(&mut tap, 6_000, EndReason::Bye);
}

#[test]
fn one_dialog_on_two_hops_claims_the_media_of_both() {
    let mut tap = Tap::default();
    tap.sees(0, &request("INVITE", 1).with(sdp(ALICE)));
    tap.sees(5, &request("INVITE", 1).with(sdp("10.9.0.1:7000")));
    tap.sees(900, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(905, &response(200, "INVITE", 1, "bob").with(sdp("10.9.0.1:7002")));
    media_is(&tap, &[ALICE, "10.9.0.1:7000"], &[BOB, "10.9.0.1:7002"]);
    assert_eq!((tap.opened.len(), tap.answered.len()), (1, 1));
}

#[test]
fn a_call_id_used_again_after_the_end_is_another_call() {
    let mut tap = talking();
    tap.sees(8_000, &request("BYE", 2).in_dialog("bob"));
    tap.sees(9_000, &request("INVITE", 5).with(sdp(ALICE_MOVED)));
    assert_eq!(tap.opened.len(), 2);
    assert_ne!(tap.opened[0], tap.opened[1]);
    media_is(&tap, &[ALICE_MOVED], &[]);
}

#[test]
fn a_call_that_is_only_seen_from_its_answer_on_is_mid_call() {
    let mut tap = Tap::default();
    tap.sees(0, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    tap.sees(10, &request("ACK", 1).in_dialog("bob"));
    assert_eq!(tap.audio_of(Callee), [BOB]);
    assert_eq!(tap.answered[0].origin, CallOrigin::MidCall);
    tap.sees(5_000, &request("BYE", 2).in_dialog("bob"));
    ended_once(&mut tap, 5_000, EndReason::Bye);
}

#[test]
fn what_is_no_call_opens_none() {
    let mut tap = Tap::default();
    for method in ["REGISTER", "OPTIONS", "MESSAGE", "ACK", "CANCEL", "INFO", "NOTIFY"] {
        assert_eq!(tap.sees(0, &request(method, 1)), Attributed::NoCall, "{method}");
        assert_eq!(tap.sees(1, &response(200, method, 1, "b")), Attributed::NoCall, "{method}");
    }
    assert_eq!(tap.sees(2, &response(481, "BYE", 1, "b")), Attributed::NoCall);
    assert_eq!(tap.events, 0);
}

#[test]
fn a_call_of_which_only_the_end_is_seen_is_one() {
    for end in [request("BYE", 9).in_dialog("bob"), response(200, "BYE", 9, "bob")] {
        let mut tap = Tap::default();
        tap.sees(0, &end);
        assert_eq!(tap.opened.len(), 1);
        assert_eq!((tap.ended[0].origin, tap.ended[0].answered_at), (CallOrigin::MidCall, None));
        ended_once(&mut tap, 0, EndReason::Bye);
    }
}

#[test]
fn where_only_responses_pass_the_tap_a_call_begins_and_ends_with_them() {
    let mut tap = Tap::default();
    tap.sees(0, &response(180, "INVITE", 1, "bob"));
    tap.sees(900, &response(200, "INVITE", 1, "bob").with(sdp(BOB)));
    assert_eq!((tap.opened.len(), tap.audio_of(Callee)), (1, own(&[BOB])));
    tap.sees(8_000, &response(200, "BYE", 2, "bob"));
    tap.sees(8_500, &response(200, "BYE", 2, "bob"));
    ended_once(&mut tap, 8_000, EndReason::Bye);
}

#[test]
fn a_call_that_an_update_or_a_prack_betrays_is_mid_call() {
    for method in ["UPDATE", "PRACK"] {
        let mut tap = Tap::default();
        tap.sees(0, &request(method, 3).in_dialog("bob").with(sdp(ALICE)));
        assert_eq!((tap.opened.len(), tap.audio_of(Caller)), (1, own(&[ALICE])), "{method}");
    }
}

#[test]
fn an_invite_beyond_the_limit_finds_no_room() {
    let mut tap = Tap::default();
    for number in 0..CALLS_MAX {
        let invite = request("INVITE", 1).of_call(format!("{number}@a.example"));
        assert!(matches!(tap.sees(0, &invite), Attributed::Call(_)));
    }
    let one_more = request("INVITE", 1).of_call("more@a.example");
    assert_eq!(tap.sees(1, &one_more), Attributed::NoRoom);
    assert_eq!((tap.opened.len(), tap.correlator.live()), (CALLS_MAX, CALLS_MAX));
}

#[test]
fn a_stop_truncates_what_goes_on() {
    let mut tap = talking();
    tap.stops(4_000);
    ended_once(&mut tap, 4_000, EndReason::Shutdown);
}

#[test]
fn after_its_bye_a_call_keeps_its_addresses_for_packets_that_are_late() {
    let mut tap = talking();
    tap.sees(8_000, &request("BYE", 9).in_dialog("bob"));
    tap.passes(8_000 + END_GRACE_MS - 1);
    media_is(&tap, &[ALICE], &[BOB]);
    tap.passes(8_000 + END_GRACE_MS);
    ended_once(&mut tap, 8_000, EndReason::Bye);
}

#[test]
fn a_call_that_ended_gives_way_to_the_next_that_announces_its_address() {
    let mut tap = talking();
    tap.sees(8_000, &request("BYE", 9).in_dialog("bob"));
    tap.sees(8_010, &request("INVITE", 1).of_call("other").with(sdp(BOB)));
    let claims: Vec<_> = tap.claims_told.iter().rev().take(2).rev().cloned().collect();
    let (old, new) = (tap.opened[0], tap.opened[1]);
    assert_eq!(claims[0], (old, Vec::new()), "the old call lets go first");
    assert_eq!((claims[1].0, claims[1].1.is_empty()), (new, false));
    let told = tap.claims_told.len();
    tap.passes(60_000);
    assert_eq!(tap.claims_told.len(), told, "once");
}

#[test]
fn a_bye_told_again_neither_ends_the_call_again_nor_makes_it_wait_longer() {
    let mut tap = talking();
    let bye = request("BYE", 9).in_dialog("bob");
    tap.sees(8_000, &bye);
    tap.sees(8_150, &bye);
    tap.passes(8_000 + END_GRACE_MS);
    ended_once(&mut tap, 8_000, EndReason::Bye);
}
