//! A call in words and numbers for people.
//!
//! Purpose: the same spelling of parties, lengths and quality in `calls` and `show`.
//! Invariants: what is not known is shown as `–`, never as zero.
//! Non-goals: JSON, which is the archive's own.
//! Sources: none.

use crate::call::summary::{CallSummary, PartySummary};

/// What is not known.
pub const UNKNOWN: &str = "–";

/// A value, or the dash.
#[must_use]
pub fn or_unknown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |known| known.to_string())
}

/// A number, or what there is instead.
#[must_use]
pub fn party(party: &PartySummary) -> String {
    let first = [&party.number, &party.uri, &party.name].into_iter().find(|text| !text.is_empty());
    first.map_or_else(|| UNKNOWN.to_owned(), Clone::clone)
}

/// `"Alice" 100 <sip:100@example.com>`, with what is there.
#[must_use]
pub fn party_in_full(party: &PartySummary) -> String {
    let mut words = Vec::new();
    if !party.name.is_empty() {
        words.push(format!("\"{}\"", party.name));
    }
    if !party.number.is_empty() {
        words.push(party.number.clone());
    }
    if !party.uri.is_empty() {
        words.push(format!("<{}>", party.uri));
    }
    if words.is_empty() { UNKNOWN.to_owned() } else { words.join(" ") }
}

/// From the answer to the end, as `m:ss` or `h:mm:ss`; unknown before the call ended, or when nobody
/// answered.
#[must_use]
pub fn talked(call: &CallSummary) -> String {
    let time = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
    match (time(&call.answered_at), time(&call.ended_at)) {
        (Some(answered), Some(ended)) => length(ended.duration_since(answered).as_secs()),
        _ => UNKNOWN.to_owned(),
    }
}

/// Whole seconds as `m:ss` or `h:mm:ss`.
#[must_use]
pub fn length(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// The worse of both directions, since that is the one people complain about.
#[must_use]
pub fn worst_mos(call: &CallSummary) -> String {
    let worst = call.streams.iter().filter_map(|stream| stream.mos).min_by(f64::total_cmp);
    worst.map_or_else(|| UNKNOWN.to_owned(), |mos| format!("{mos:.1}"))
}

/// A time to the second, without the zone: tables say UTC in their head.
#[must_use]
pub fn short_time(rfc3339: &str) -> String {
    match rfc3339.get(..19) {
        Some(to_the_second) => to_the_second.replacen('T', " ", 1),
        None => rfc3339.to_owned(),
    }
}

/// Bytes in a unit that people read.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::call::summary::{
        DtmfSummary, GapSummary, RecordingSummary, RtcpSummary, StreamSummary, VerdictWhy,
    };

    fn stream(channel: &str, mos: Option<f64>) -> StreamSummary {
        StreamSummary {
            channel: channel.into(),
            codec: "PCMA".into(),
            srtp: None,
            clock_hz: 8_000,
            ssrc: "0x0000002a".into(),
            source: "10.0.0.1:4000".into(),
            destination: "10.0.0.2:4002".into(),
            packets: 500,
            lost: 3,
            late: 0,
            duplicate: 1,
            reordered: 2,
            jitter_ms: 1.25,
            jitter_mean_ms: 1.0,
            jitter_max_ms: 3.5,
            mos,
            rtcp: (channel == "caller").then(|| RtcpSummary {
                reports: 12,
                lost: Some(7),
                fraction_lost_max: Some(0.125),
                jitter_ms: Some(2.5),
                sent_packets: Some(503),
                ..RtcpSummary::default()
            }),
            matched_by: Some("sdp".into()),
            confidence: Some(1.0),
        }
    }

    /// A whole call, as an archive tells it.
    pub fn call() -> CallSummary {
        CallSummary {
            id: "0123456789abcdef".into(),
            sip_call_ids: vec!["abc@a".into()],
            state: "ended".into(),
            started_at: "2026-11-24T02:57:36.123456+00:00".into(),
            answered_at: Some("2026-11-24T02:57:38.000000+00:00".into()),
            ended_at: Some("2026-11-24T04:00:00.500000+00:00".into()),
            end_reason: Some("bye".into()),
            status_code: Some(200),
            origin: "invite".into(),
            verdict: "both".into(),
            verdict_why: VerdictWhy::default(),
            caller: PartySummary {
                uri: "sip:100@a.example".into(),
                number: "100".into(),
                name: "Alice".into(),
            },
            callee: PartySummary { uri: "sip:bob@b.example".into(), ..PartySummary::default() },
            recording: RecordingSummary {
                state: "stored".into(),
                started_at: Some("2026-11-24T02:57:38.000000+00:00".into()),
                seconds: 3_742.5,
                bytes: 14_000_000,
                channels: 2,
            },
            streams: vec![stream("caller", Some(4.36)), stream("callee", None)],
            gaps: vec![GapSummary {
                channel: "caller".into(),
                at_s: 4.0,
                seconds: 0.06,
                reason: "lost".into(),
                concealed: 0.06,
            }],
            dtmf: ["5", "#"]
                .map(|digit| DtmfSummary {
                    channel: "caller".into(),
                    digit: digit.into(),
                    at_s: 3.21,
                    source: "rtp".into(),
                    duration_ms: Some(120),
                })
                .into(),
            sides: None,
            fax: None,
            notes: vec!["a note".into()],
            legs: Vec::new(),
            speakers: Vec::new(),
            joined_to: None,
        }
    }

    #[test]
    fn what_is_known_is_short_and_what_is_not_is_a_dash() {
        let mut call = call();
        assert_eq!(
            (party(&call.caller).as_str(), party(&call.callee).as_str()),
            ("100", "sip:bob@b.example")
        );
        assert_eq!(party_in_full(&call.caller), "\"Alice\" 100 <sip:100@a.example>");
        assert_eq!((talked(&call).as_str(), worst_mos(&call).as_str()), ("1:02:22", "4.4"));
        assert_eq!(short_time(&call.started_at), "2026-11-24 02:57:36");
        call.answered_at = None;
        call.streams.clear();
        assert_eq!((talked(&call).as_str(), worst_mos(&call).as_str()), (UNKNOWN, UNKNOWN));
        assert_eq!(party(&PartySummary::default()), UNKNOWN);
        assert_eq!((length(-3).as_str(), length(61).as_str()), ("0:00", "1:01"));
    }
}
