//! What the index keeps of a call's summary.
//!
//! Purpose: the searchable fields of a summary record.
//! Invariants: the JSON itself is kept byte for byte, so that a rebuilt index tells the same.
//! Non-goals: the full summary (`call::CallSummary`), of which only the fields here are read; how
//! numbers are compared (see `index_number`).
//! Sources: RFC 3339 (times).

use serde::Deserialize;

use super::error::ArchiveError;
use crate::base::CallId;
use crate::base::rfc3339::parse_ns;

/// A row of the index, from one CallOpened or Summary record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// Whose.
    pub call: CallId,
    /// Of the record: the highest wins.
    pub sequence: u32,
    /// First packet.
    pub started_ns: i64,
    /// End; none while it goes on. Of a call whose end nobody saw: the last that is known of it, so
    /// that retention never waits for it.
    pub ended_ns: Option<i64>,
    /// From the answer to the end; none before the end, and of a call that nobody answered.
    pub duration_ms: Option<i64>,
    /// The lowest MOS of a stream, in thousandths.
    pub mos_milli: Option<i64>,
    /// `ongoing`, `ended`, `truncated`.
    pub state: String,
    /// Retention class; empty: the archive's default.
    pub class: String,
    /// Codecs of its streams in upper case, each once, sorted, a space between them.
    pub codecs: String,
    /// As written in the summary.
    pub caller_number: String,
    /// As written in the summary, then the numbers of parties that a transfer brought in, one a line.
    pub callee_number: String,
    /// Call-ID header values.
    pub sip_call_ids: Vec<String>,
    /// The body of the record.
    pub json: String,
}

/// State of a call that goes on.
pub(super) const ONGOING: &str = "ongoing";

#[derive(Deserialize)]
struct Searchable {
    started_at: String,
    #[serde(default)]
    answered_at: Option<String>,
    #[serde(default)]
    ended_at: Option<String>,
    state: String,
    #[serde(default)]
    origin: String,
    #[serde(default)]
    retention_class: Option<String>,
    #[serde(default)]
    caller: Party,
    #[serde(default)]
    callee: Party,
    #[serde(default)]
    recording: Recording,
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    sip_call_ids: Vec<String>,
    #[serde(default)]
    speakers: Vec<Party>,
}

#[derive(Default, Deserialize)]
struct Party {
    #[serde(default)]
    number: String,
}

#[derive(Default, Deserialize)]
struct Recording {
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    seconds: f64,
}

#[derive(Deserialize)]
struct Stream {
    #[serde(default)]
    codec: String,
    #[serde(default)]
    mos: Option<f64>,
}

impl CallRow {
    /// Reads the body of a CallOpened or Summary record.
    ///
    /// # Errors
    /// `BadSummary` when it is no JSON, or has no `state` or no RFC 3339 `started_at`.
    pub fn from_body(call: CallId, sequence: u32, body: &[u8]) -> Result<Self, ArchiveError> {
        let bad = |reason: String| ArchiveError::BadSummary { call, reason };
        let json = std::str::from_utf8(body).map_err(|error| bad(error.to_string()))?;
        let fields: Searchable =
            serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
        let started_ns = parse_ns(&fields.started_at)
            .ok_or_else(|| bad("started_at is no RFC 3339 time".to_owned()))?;
        Ok(Self {
            call,
            sequence,
            started_ns,
            ended_ns: fields.ended_ns(started_ns),
            duration_ms: fields.duration_ms(),
            mos_milli: fields.streams.iter().filter_map(|stream| mos_milli(stream.mos?)).min(),
            codecs: codecs(&fields.streams),
            state: fields.state,
            class: fields.retention_class.unwrap_or_default(),
            caller_number: fields.caller.number,
            callee_number: callee_numbers(fields.callee.number, &fields.speakers),
            sip_call_ids: fields.sip_call_ids,
            json: json.to_owned(),
        })
    }
}

impl Searchable {
    fn ended_ns(&self, started_ns: i64) -> Option<i64> {
        if self.state == ONGOING {
            return None;
        }
        // A call of a process that was killed is `truncated` and has no end: its sound has one.
        let last_known = || {
            let zero = self.recording.started_at.as_deref().or(self.answered_at.as_deref());
            #[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
            let sound_ns = (self.recording.seconds.max(0.0) * 1e9) as i64;
            zero.and_then(parse_ns).unwrap_or(started_ns).saturating_add(sound_ns)
        };
        Some(self.ended_at.as_deref().and_then(parse_ns).unwrap_or_else(last_known))
    }

    fn duration_ms(&self) -> Option<i64> {
        let ended_ns = self.ended_at.as_deref().and_then(parse_ns);
        // The answer of a call that was joined while it went on was never seen.
        let joined = (self.origin != "invite").then_some(self.recording.started_at.as_deref());
        let answered = self.answered_at.as_deref().or(joined.flatten());
        let length_ns = ended_ns?.checked_sub(answered.and_then(parse_ns)?)?;
        Some(length_ns.max(0) / 1_000_000)
    }
}

/// A MOS in thousandths, so that it can be compared without rounding.
pub(super) fn mos_milli(mos: f64) -> Option<i64> {
    let milli = (mos * 1_000.0).round();
    #[allow(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
    milli.is_finite().then_some(milli as i64)
}

fn codecs(streams: &[Stream]) -> String {
    let upper = |stream: &Stream| stream.codec.to_uppercase();
    let mut names: Vec<String> =
        streams.iter().map(upper).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" ")
}

fn callee_numbers(callee: String, speakers: &[Party]) -> String {
    let mut numbers = vec![callee];
    for Party { number } in speakers {
        if !number.is_empty() && !numbers.contains(number) {
            numbers.push(number.clone());
        }
    }
    numbers.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> CallRow {
        CallRow::from_body(CallId(7), 3, json.as_bytes()).expect("valid")
    }

    #[test]
    fn a_summary_without_a_start_is_refused() {
        let row = read(r#"{"started_at":"2026-11-24T01:00:00.5Z","state":"ended","x":[1]}"#);
        assert_eq!(row.started_ns % 1_000_000_000, 500_000_000);
        assert_eq!((row.sip_call_ids.len(), row.sequence), (0, 3));
        assert_eq!((row.duration_ms, row.mos_milli), (None, None));
        assert_eq!((&*row.class, &*row.codecs), ("", ""));
        for bad in
            [&b"{"[..], b"{\"state\":\"x\"}", b"{\"started_at\":\"now\",\"state\":\"x\"}", b"\xff"]
        {
            let error = CallRow::from_body(CallId(7), 3, bad).unwrap_err();
            assert_eq!(error.label(), "bad_summary");
        }
    }

    #[test]
    fn the_worst_stream_and_every_codec_count() {
        let row = read(
            r#"{"started_at":"2026-11-24T01:00:00Z","answered_at":"2026-11-24T01:00:05.25Z",
            "ended_at":"2026-11-24T01:01:00Z","state":"ended","origin":"invite",
            "retention_class":"trading","streams":[{"codec":"PCMA","mos":4.37},
            {"codec":"opus","mos":null},{"codec":"PCMA","mos":3.2}]}"#,
        );
        assert_eq!((row.duration_ms, row.mos_milli), (Some(54_750), Some(3_200)));
        assert_eq!((&*row.codecs, &*row.class), ("OPUS PCMA", "trading"));
    }

    #[test]
    fn a_call_that_was_cut_off_ends_with_its_sound_and_one_that_goes_on_has_no_end() {
        let json = |state: &str, more: &str| {
            format!(r#"{{"started_at":"1970-01-01T00:00:01Z","state":"{state}"{more}}}"#)
        };
        let answered = r#","answered_at":"1970-01-01T00:00:03Z","recording":{"seconds":2.5}"#;
        assert_eq!(read(&json("truncated", answered)).ended_ns, Some(5_500_000_000));
        assert_eq!(read(&json("truncated", answered)).duration_ms, None, "nobody saw its end");
        assert_eq!(read(&json("truncated", "")).ended_ns, Some(1_000_000_000));
        let ended = r#","ended_at":"1970-01-01T00:00:04Z""#;
        assert_eq!(read(&json("ended", ended)).ended_ns, Some(4_000_000_000));
        assert_eq!(read(&json("ongoing", answered)).ended_ns, None);
        assert_eq!(read(&json("ongoing", ended)).ended_ns, None);
    }

    #[test]
    fn a_call_that_nobody_answered_has_no_length_but_one_joined_late_has() {
        let json = |origin: &str| {
            format!(
                r#"{{"started_at":"2026-11-24T01:00:00Z","answered_at":null,
                "ended_at":"2026-11-24T01:01:00Z","state":"ended","origin":"{origin}",
                "recording":{{"started_at":"2026-11-24T01:00:10Z"}}}}"#
            )
        };
        assert_eq!(read(&json("invite")).duration_ms, None);
        assert_eq!(read(&json("mid_call")).duration_ms, Some(50_000));
    }
}
