//! A call's summary: SIP's facts and the media report as one object.
//!
//! Purpose: fill `call::summary::CallSummary`, the contract's JSON.
//! Invariants: the same facts and report give the same bytes; numbers are rounded, so that they
//! print alike everywhere.
//! Non-goals: where it is stored (see `archive`).
//! Sources: the design's JSON contract.

use crate::base::rfc3339::format_utc;
use crate::base::time::NS_PER_S;
use crate::base::{CallId, Channel, PacketTime};
use crate::call::summary::{
    CallSummary, DtmfSummary, FaxSummary, GapSummary, LegSummary, PartySummary, RecordingSummary,
    RtcpSummary, SpeakerSummary, StreamSummary, VerdictWhy, XrSummary,
};
use crate::call::{CallFacts, CallOrigin, EndReason, LegFacts, Party};
use crate::media::{FarEndReport, Gap, MediaReport, Recorded, StreamReport};
use crate::rtp::matched_by::MatchedBy;
use crate::rtp::rtcp_xr::VoipMetrics;

/// A call that goes on: how long its recording is and how well it was heard is told at its end.
#[must_use]
pub fn summarise_ongoing(id: CallId, facts: &CallFacts, report: &MediaReport) -> CallSummary {
    let streams =
        report.streams.iter().map(|it| StreamReport { mos: None, ..it.clone() }).collect();
    let so_far = MediaReport { len_ns: 0, bytes: 0, gaps: Vec::new(), streams, ..report.clone() };
    summarise(id, facts, &so_far)
}

/// A call, ended or not.
#[must_use]
pub fn summarise(id: CallId, facts: &CallFacts, report: &MediaReport) -> CallSummary {
    let (state, ended_at, end_reason) = match facts.ended {
        None => ("ongoing", None, None),
        Some((at, EndReason::Shutdown)) => ("truncated", Some(at), Some(EndReason::Shutdown)),
        Some((at, reason)) => ("ended", Some(at), Some(reason)),
    };
    let since = report.start.unwrap_or(facts.started_at);
    let second = |time: PacketTime| round(time.ns_since(since) as f64 / NS_PER_S as f64, 6);
    CallSummary {
        id: id.to_string(),
        sip_call_ids: sip_call_ids(facts),
        state: state.into(),
        started_at: format_utc(facts.started_at.ns()),
        answered_at: facts.answered_at.map(|at| format_utc(at.ns())),
        ended_at: ended_at.map(|at| format_utc(at.ns())),
        end_reason: end_reason.map(|reason| reason.label().into()),
        status_code: facts.status_code,
        origin: facts.origin.label().into(),
        verdict: verdict(report).into(),
        verdict_why: verdict_why(facts, report),
        caller: party(&facts.caller),
        callee: party(&facts.callee),
        recording: recording(report),
        streams: report.streams.iter().map(stream).collect(),
        gaps: report.gaps.iter().map(gap).collect(),
        dtmf: report
            .digits
            .iter()
            .map(|digit| DtmfSummary {
                channel: digit.channel.label().into(),
                digit: digit.digit.clone(),
                at_s: second(digit.time),
                source: digit.source.label().into(),
                duration_ms: digit.duration_ms,
            })
            .collect(),
        fax: report.fax.as_ref().map(|fax| FaxSummary {
            t38: fax.has_t38,
            t38_packets: fax.t38_packets,
            passthrough: fax.is_passthrough,
            at_s: second(fax.time),
            tones: fax.tones.iter().map(|tone| tone.label().into()).collect(),
        }),
        notes: notes(facts, report),
        sides: is_heuristic(facts).then(|| "unknown".into()),
        legs: facts.legs.iter().map(leg).collect(),
        speakers: facts
            .speakers
            .iter()
            .map(|speaker| SpeakerSummary {
                channel: speaker.channel.label().into(),
                at_s: second(speaker.since).max(0.0),
                party: party(&speaker.party),
            })
            .collect(),
        joined_to: facts.joined_to.map(|id| id.to_string()),
    }
}

/// Only of a call that is over: what is not seen yet may still come.
fn verdict_why(facts: &CallFacts, report: &MediaReport) -> VerdictWhy {
    let why = |channel: Channel| {
        let missing = report.missing[channel.index()].filter(|_| facts.ended.is_some());
        missing.map(|missing| missing.label().to_owned())
    };
    VerdictWhy { caller: why(Channel::Caller), callee: why(Channel::Callee) }
}

fn is_heuristic(facts: &CallFacts) -> bool {
    facts.origin == CallOrigin::Heuristic
}

fn notes(facts: &CallFacts, report: &MediaReport) -> Vec<String> {
    let mut notes = report.notes.clone();
    for channel in Channel::BOTH.into_iter().filter(|_| facts.ended.is_some()) {
        let missing = report.missing[channel.index()];
        notes.extend(missing.and_then(|missing| missing.sentence(channel)));
    }
    if is_heuristic(facts) {
        notes.push("made from media alone: which side called is not known".into());
    }
    notes
}

/// The first leg's, then those of the others, each once.
fn sip_call_ids(facts: &CallFacts) -> Vec<String> {
    let mut ids = Vec::new();
    if !is_heuristic(facts) {
        ids.push(facts.sip_call_id.clone());
    }
    for leg in &facts.legs {
        if !ids.contains(&leg.sip_call_id) {
            ids.push(leg.sip_call_id.clone());
        }
    }
    ids
}

fn leg(facts: &LegFacts) -> LegSummary {
    LegSummary {
        sip_call_id: facts.sip_call_id.clone(),
        joined_by: facts.by.label().into(),
        joined_at: format_utc(facts.since.ns()),
        call: facts.recorded_apart.map(|id| id.to_string()),
    }
}

fn verdict(report: &MediaReport) -> &'static str {
    let has = |channel: Channel| report.streams.iter().any(|stream| stream.key.channel == channel);
    match (has(Channel::Caller), has(Channel::Callee)) {
        (true, true) => "both",
        (true, false) => "caller_only",
        (false, true) => "callee_only",
        (false, false) => "none",
    }
}

fn party(party: &Party) -> PartySummary {
    let Party { uri, number, name } = party.clone();
    PartySummary { uri, number, name }
}

fn recording(report: &MediaReport) -> RecordingSummary {
    let (state, channels) = match report.recorded {
        Recorded::Nothing => ("none", 0),
        Recorded::Audio => ("stored", 2),
        Recorded::Raw => ("raw", 2),
    };
    RecordingSummary {
        state: state.into(),
        started_at: report.start.map(|at| format_utc(at.ns())),
        seconds: seconds(report.len_ns),
        bytes: report.bytes,
        channels,
    }
}

fn stream(report: &StreamReport) -> StreamSummary {
    StreamSummary {
        channel: report.key.channel.label().into(),
        codec: report.codec.clone(),
        srtp: report.srtp.map(|suite| suite.name().into()),
        clock_hz: report.clock_hz,
        ssrc: report.key.ssrc.to_string(),
        source: report.key.source.to_string(),
        destination: report.key.destination.to_string(),
        packets: report.packets,
        lost: report.lost,
        late: report.late,
        duplicate: report.duplicate,
        reordered: report.reordered,
        jitter_ms: round(report.jitter_ms, 3),
        jitter_mean_ms: round(report.jitter_mean_ms, 3),
        jitter_max_ms: round(report.jitter_max_ms, 3),
        mos: report.mos.map(|mos| round(mos, 2)),
        rtcp: report.rtcp.as_ref().map(rtcp),
        matched_by: report.matched_by.map(|by| by.evidence().into()),
        confidence: report.matched_by.map(MatchedBy::confidence),
    }
}

fn rtcp(report: &FarEndReport) -> RtcpSummary {
    RtcpSummary {
        reports: report.reports,
        lost: report.lost,
        fraction_lost_max: report.fraction_lost_max.map(|share| round(share, 4)),
        jitter_ms: report.jitter_ms.map(|ms| round(ms, 3)),
        round_trip_ms: report.round_trip_ms.map(|ms| round(ms, 3)),
        sent_packets: report.sent_packets,
        cname: report.cname.clone(),
        bye: report.goodbye,
        xr: xr(report),
    }
}

fn xr(report: &FarEndReport) -> Option<XrSummary> {
    if report.voip.is_none() && report.statistics.is_none() {
        return None;
    }
    let voip = report.voip.as_ref();
    let share = |of: fn(&VoipMetrics) -> u8| voip.map(|it| round(f64::from(of(it)) / 256.0, 4));
    let mos = |of: fn(&VoipMetrics) -> Option<u8>| Some(f64::from(voip.and_then(of)?) / 10.0);
    let known = |of: fn(&VoipMetrics) -> u16| voip.map(of).filter(|ms| *ms != 0);
    let statistics = report.statistics.unwrap_or_default();
    Some(XrSummary {
        mos_lq: mos(|it| it.mos_lq_tenths),
        mos_cq: mos(|it| it.mos_cq_tenths),
        r_factor: voip.and_then(|it| it.r_factor),
        loss_rate: share(|it| it.loss_rate),
        discard_rate: share(|it| it.discard_rate),
        burst_density: share(|it| it.burst_density),
        gap_density: share(|it| it.gap_density),
        burst_ms: voip.map(|it| it.burst_duration_ms),
        gap_ms: voip.map(|it| it.gap_duration_ms),
        round_trip_ms: known(|it| it.round_trip_ms),
        end_system_ms: known(|it| it.end_system_ms),
        lost: statistics.lost,
        duplicate: statistics.duplicate,
        jitter_ms: statistics.jitter_ms.map(|ms| round(ms, 3)),
    })
}

fn gap(gap: &Gap) -> GapSummary {
    GapSummary {
        channel: gap.channel.label().into(),
        at_s: seconds(gap.from_ns),
        seconds: seconds(gap.to_ns.saturating_sub(gap.from_ns)),
        reason: gap.reason.label().into(),
        concealed: seconds(gap.concealed_ns),
    }
}

fn seconds(ns: i64) -> f64 {
    round(ns as f64 / NS_PER_S as f64, 6)
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
