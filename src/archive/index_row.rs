//! What the index keeps of a call's summary.
//!
//! Purpose: the searchable fields of a summary record, and how a number is compared.
//! Invariants: the JSON itself is kept byte for byte, so that a rebuilt index tells the same.
//! Non-goals: the full summary (`call::CallSummary`), of which only the fields here are read.
//! Sources: RFC 3339 (times), E.164 and ITU-T E.123 (how numbers are written).

use serde::Deserialize;

use super::error::ArchiveError;
use crate::base::CallId;

/// A row of the index, from one CallOpened or Summary record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallRow {
    /// Whose.
    pub call: CallId,
    /// Of the record: the highest wins.
    pub sequence: u32,
    /// First packet.
    pub started_ns: i64,
    /// End, if it has one.
    pub ended_ns: Option<i64>,
    /// `ongoing`, `ended`, `truncated`.
    pub state: String,
    /// As written in the summary.
    pub caller_number: String,
    /// As written in the summary.
    pub callee_number: String,
    /// Call-ID header values.
    pub sip_call_ids: Vec<String>,
    /// The body of the record.
    pub json: String,
}

#[derive(Deserialize)]
struct Searchable {
    started_at: String,
    #[serde(default)]
    ended_at: Option<String>,
    state: String,
    #[serde(default)]
    caller: Party,
    #[serde(default)]
    callee: Party,
    #[serde(default)]
    sip_call_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Party {
    #[serde(default)]
    number: String,
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
        let time_ns = |text: &str| {
            let time: jiff::Timestamp = text.parse().ok()?;
            i64::try_from(time.as_nanosecond()).ok()
        };
        let started_ns = time_ns(&fields.started_at)
            .ok_or_else(|| bad("started_at is no RFC 3339 time".to_owned()))?;
        Ok(Self {
            call,
            sequence,
            started_ns,
            ended_ns: fields.ended_at.as_deref().and_then(time_ns),
            state: fields.state,
            caller_number: fields.caller.number,
            callee_number: fields.callee.number,
            sip_call_ids: fields.sip_call_ids,
            json: json.to_owned(),
        })
    }

    /// The keys under which the call is found by number, each once.
    pub fn number_keys(&self) -> Vec<String> {
        let mut keys = vec![number_key(&self.caller_number), number_key(&self.callee_number)];
        keys.retain(|key| !key.is_empty());
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// A number as it is compared: digits alone, without `+` or the international `00` and without what
/// people put between digits (E.123), then reversed, so that a suffix becomes a prefix. Anything
/// with letters (`sip:reception@…`) is kept as it is, reversed.
pub(super) fn number_key(number: &str) -> String {
    let number = number.trim();
    let between = |letter: char| letter.is_whitespace() || "+-./()".contains(letter);
    if number
        .chars()
        .all(|letter| between(letter) || letter.is_ascii_digit() || "*#".contains(letter))
    {
        let digits: String = number.chars().filter(|letter| !between(*letter)).collect();
        let digits = digits.strip_prefix("00").unwrap_or(&digits);
        return digits.chars().rev().collect();
    }
    number.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_a_number_have_one_key() {
        for written in ["+49 30 1234", "004930 1234", "49301234", "+49 (30) 12-34", " 4930/1234 "] {
            assert_eq!(number_key(written), "43210394", "{written}");
        }
        assert_eq!(number_key("*21#"), "#12*");
        assert_eq!(number_key("reception+1"), "1+noitpecer");
        assert_eq!(number_key("+"), "");
    }

    #[test]
    fn a_summary_without_a_start_is_refused() {
        let good = br#"{"started_at":"2026-11-24T01:00:00.5Z","state":"ended","x":[1]}"#;
        let row = CallRow::from_body(CallId(7), 3, good).expect("valid");
        assert_eq!(row.started_ns % 1_000_000_000, 500_000_000);
        assert_eq!((row.ended_ns, row.sip_call_ids.len(), row.sequence), (None, 0, 3));
        for bad in
            [&b"{"[..], b"{\"state\":\"x\"}", b"{\"started_at\":\"now\",\"state\":\"x\"}", b"\xff"]
        {
            let error = CallRow::from_body(CallId(7), 3, bad).unwrap_err();
            assert_eq!(error.label(), "bad_summary");
        }
    }
}
