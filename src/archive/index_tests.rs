//! The index against what it must answer.
//!
//! Purpose: the search beside a naive filter over random calls; keys, purging, versions.
//! Invariants: none.
//! Non-goals: how fast it is (see `benches/index_query.rs`).
//! Sources: docs/archive.md, "The index".

use std::path::Path;

use proptest::prelude::*;

use super::disk::IndexPlace;
use super::error::ArchiveError;
use super::index::{Batch, Index, IndexKey, IndexedCall, LogState, Query};
use super::index_row::CallRow;
use super::segment::SegmentId;
use crate::base::CallId;

fn row(call: u64, sequence: u32, second: u32, caller: &str) -> CallRow {
    let json = format!(
        r#"{{"started_at":"2026-11-24T00:00:{second:02}Z","state":"ended",
        "caller":{{"number":"{caller}"}},"sip_call_ids":["c{call}"]}}"#
    );
    CallRow::from_body(CallId(call), sequence, json.as_bytes()).expect("valid")
}

fn fill(index: &mut Index, rows: Vec<CallRow>) {
    let mut batch = Batch::default();
    for row in rows {
        batch.saw(row.call, SegmentId(1), row.sequence);
        batch.add_row(row);
    }
    index.apply(&batch).expect("applied");
}

fn index_of(rows: Vec<CallRow>) -> Index {
    let mut index = Index::create(&IndexPlace::Memory, "here", None).expect("memory");
    fill(&mut index, rows);
    index
}

fn ids(calls: &[IndexedCall]) -> Vec<u64> {
    calls.iter().map(|call| call.id.0).collect()
}

fn find(index: &Index, query: &Query) -> Vec<u64> {
    ids(&index.calls(query).expect("read"))
}

fn number(text: &str) -> Query {
    Query { number: Some(text.to_owned()), ..Query::default() }
}

#[test]
fn calls_come_by_start_then_by_unsigned_id_and_a_limit_keeps_the_newest() {
    let index = index_of(vec![
        row(u64::MAX, 0, 5, ""),
        row(1, 0, 5, ""),
        row(9, 0, 1, ""),
        row(3, 0, 7, ""),
    ]);
    let all = index.calls(&Query::default()).expect("read");
    assert_eq!(ids(&all), [9, 1, u64::MAX, 3]);
    assert_eq!(
        find(&index, &Query { limit: Some(2), ..Query::default() }),
        [u64::MAX, 3],
        "the newest"
    );
    let start = all.get(1).map(|call| call.started_ns);
    let from = Query { from_ns: start, ..Query::default() };
    assert_eq!(find(&index, &from), [1, u64::MAX, 3], "from is inclusive");
    let to = Query { to_ns: start, ..Query::default() };
    assert_eq!(find(&index, &to), [9], "to is exclusive");
}

#[test]
fn a_number_is_found_by_its_end_and_with_a_star_by_its_beginning() {
    let index =
        index_of(vec![row(1, 0, 1, "+49 30 1234"), row(2, 0, 2, "1234"), row(3, 0, 3, "41234")]);
    for (typed, found) in [
        ("1234", &[1, 2, 3][..]),
        ("0049 301234", &[1]),
        ("0301234", &[1]),
        ("301", &[]),
        ("301*", &[1]),
        ("4*", &[1, 3]),
        ("+", &[]),
        ("%", &[]),
    ] {
        assert_eq!(find(&index, &number(typed)), found, "{typed}");
    }
}

#[test]
fn the_highest_sequence_wins_in_any_order_and_its_old_keys_are_gone() {
    let mut index = index_of(vec![row(1, 5, 9, "77")]);
    for (sequence, caller, found) in [(4, "66", 0), (6, "66", 1)] {
        fill(&mut index, vec![row(1, sequence, 8, caller)]);
        assert_eq!(find(&index, &number("66")).len(), found);
    }
    assert_eq!(find(&index, &number("77")), [0_u64; 0]);
    assert_eq!(index.calls_by_sip_call_id("c1").expect("read").len(), 1);
    assert_eq!(find(&index, &Query::default()), [1]);
}

#[test]
fn a_purged_call_leaves_a_stub_and_never_comes_back() {
    let ongoing = r#"{"started_at":"2026-11-24T00:00:01Z","state":"ongoing","sip_call_ids":["c1"],
        "caller":{"number":"77"},"streams":[{"codec":"PCMA","mos":4}]}"#;
    let opened = CallRow::from_body(CallId(1), 0, ongoing.as_bytes()).expect("valid");
    let mut index = index_of(vec![opened, row(2, 0, 2, "77")]);
    let stub = r#"{"state":"erased"}"#;
    index.purge(CallId(1), stub, 5).expect("purged");
    fill(&mut index, vec![row(1, 9, 3, "77"), row(1, u32::MAX, 3, "77")]);
    index.purge(CallId(1), stub, 5).expect("purged again");
    index.purge(CallId(3), stub, 6).expect("purged before it is known");
    fill(&mut index, vec![row(3, 0, 3, "77")]);
    assert_eq!(find(&index, &number("77")), [2]);
    assert_eq!(find(&index, &Query { codec: Some("pcma".into()), ..Query::default() }), [0_u64; 0]);
    assert_eq!(index.calls_by_sip_call_id("c1").expect("read"), []);
    assert_eq!(index.ongoing().expect("read"), []);
    assert_eq!(find(&index, &Query { state: Some("erased".into()), ..Query::default() }), [1, 3]);
    let left = index.call(CallId(1)).expect("read").expect("a stub");
    assert_eq!((left.summary_json.as_str(), left.started_ns), (stub, 5));
    assert_eq!(index.purged().expect("read"), [CallId(1), CallId(3)].into());
    assert_eq!(index.last_sequence(CallId(1)).expect("read"), Some(u32::MAX), "kept");
    index.forget_segment(SegmentId(1)).expect("forgotten");
    assert_eq!(index.calls_of_segment(SegmentId(1)).expect("read"), []);
}

#[test]
fn retention_finds_what_ended_long_ago() {
    let ended = |call: u64, second: u32, class: &str| {
        let json = format!(
            r#"{{"started_at":"2026-11-24T00:00:00Z","ended_at":"1970-01-01T00:00:{second:02}Z",
            "state":"ended","retention_class":"{class}"}}"#
        );
        CallRow::from_body(CallId(call), 0, json.as_bytes()).expect("valid")
    };
    let going = r#"{"started_at":"1970-01-01T00:00:00Z","state":"ongoing","retention_class":"x"}"#;
    let cut = going.replace("ongoing", "truncated").replace('x', "cut");
    let rows = vec![
        ended(1, 9, ""),
        ended(2, 3, ""),
        ended(3, 1, "long"),
        row(4, 0, 1, ""),
        CallRow::from_body(CallId(5), 0, going.as_bytes()).expect("valid"),
        CallRow::from_body(CallId(6), 0, cut.as_bytes()).expect("valid"),
    ];
    assert_eq!(index_of(Vec::new()).classes().expect("read"), [""; 0]);
    let mut index = index_of(rows);
    assert_eq!(index.classes().expect("read"), ["", "cut", "long"]);
    let before = |index: &Index, second: i64, class: &str| {
        index.ended_before(second * 1_000_000_000, class).expect("read")
    };
    assert_eq!(before(&index, 9, ""), [CallId(2)]);
    assert_eq!(before(&index, 10, ""), [CallId(2), CallId(1)]);
    assert_eq!(before(&index, 10, "long"), [CallId(3)]);
    assert_eq!(before(&index, 10, "x"), [], "it goes on");
    assert_eq!(before(&index, 10, "cut"), [CallId(6)], "nobody saw its end, but it is over");
    index.purge(CallId(2), "{}", 0).expect("purged");
    assert_eq!(before(&index, 10, ""), [CallId(1)]);
    index.purge(CallId(3), "{}", 0).expect("purged");
    assert_eq!(index.classes().expect("read"), ["", "cut"]);
    assert_eq!(index.calls_of_segment(SegmentId(1)).expect("read").len(), 6);
}

fn holds(directory: &Path, wanted: &str) -> bool {
    let mut found = false;
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let bytes = std::fs::read(entry.path()).expect("read");
        found |= memchr::memmem::find(&bytes, wanted.as_bytes()).is_some();
    }
    found
}

#[test]
fn an_encrypted_index_shows_no_number_and_a_purged_one_holds_none() {
    let key = IndexKey::new([7; 32]);
    for (key, shown) in [(None, true), (Some(&key), false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let place = IndexPlace::File(folder.path().join("index.sqlite"));
        let mut index = Index::create(&place, "here", key).expect("made");
        fill(&mut index, vec![row(1, 0, 1, "+4915733112244"), row(2, 0, 1, "mallory")]);
        assert!(folder.path().join("index.sqlite-wal").metadata().expect("a log").len() > 0);
        for wanted in ["4915733112244", "mallory", "SQLite format 3"] {
            assert_eq!(holds(folder.path(), wanted), shown, "{wanted} in the log");
        }
        assert_eq!(index.checkpoint_truncate().expect("folded"), LogState::Truncated);
        let mut index = reopened(index, &place, key);
        assert_eq!(holds(folder.path(), "4915733112244"), shown, "in the file");
        index.purge(CallId(1), "{}", 0).expect("purged");
        assert_eq!(index.checkpoint_truncate().expect("folded"), LogState::Truncated);
        assert!(!holds(folder.path(), "15733112244") && !holds(folder.path(), "44221133751"));
        assert_eq!(holds(folder.path(), "mallory"), shown);
        assert_eq!(find(&reopened(index, &place, key), &number("mallory")), [2]);
    }
}

fn reopened(index: Index, place: &IndexPlace, key: Option<&IndexKey>) -> Index {
    index.close().expect("closed");
    Index::open_reader(place, "here", key).expect("readable").close().expect("closed");
    Index::open_writer(place, "here", key).expect("writable")
}

#[test]
fn a_wrong_key_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| IndexPlace::File(folder.path().join(name));
    let (right, wrong) = (IndexKey::from([1; 32]), IndexKey::from([2; 32]));
    for (name, key) in [("plain", None), ("sealed", Some(&right))] {
        let mut index = Index::create(&place(name), "here", key).expect("made");
        fill(&mut index, vec![row(1, 0, 1, "1")]);
        index.close().expect("closed");
    }
    for (name, key, part) in [
        ("sealed", Some(&wrong), "not readable with this key"),
        ("sealed", None, "encrypted and no key"),
        ("plain", Some(&right), "not encrypted"),
    ] {
        for open in [Index::open_reader, Index::open_writer] {
            let Err(error) = open(&place(name), "here", key) else { panic!("{name} opened") };
            assert_eq!(error.label(), "index_unusable");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    for (name, key) in [("plain", None), ("sealed", Some(&right))] {
        let index = Index::open_reader(&place(name), "here", key).expect("still whole");
        assert_eq!(find(&index, &number("1")), [1]);
    }
}

#[test]
fn an_index_of_an_older_version_is_answered_with_rebuild() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = IndexPlace::File(folder.path().join("index.sqlite"));
    Index::create(&place, "here", None).expect("made").set_version(1);
    let Err(error) = Index::open_reader(&place, "here", None) else { panic!("opened") };
    assert!(matches!(error, ArchiveError::IndexUnusable { reason: "of another version", .. }));
}

#[derive(Clone, Debug)]
struct Call {
    second: i64,
    caller: String,
    callee: String,
    talked_s: Option<i64>,
    mos: Vec<Option<f64>>,
    codecs: Vec<&'static str>,
    sip_call_id: String,
    state: &'static str,
}

/// The same number as people and exchanges write it.
fn spelled(country: &str, national: &str, how: u8) -> String {
    match how {
        0 => format!("+{country}{national}"),
        1 => format!("00{country}{national}"),
        2 => format!("0{national}"),
        3 => national.to_owned(),
        4 => format!(
            "+{country} ({}) {}",
            national.get(..2).unwrap_or(""),
            national.get(2..).unwrap_or("")
        ),
        _ => format!("{country}{national}"),
    }
}

fn numbers() -> impl Strategy<Value = String> {
    let known = (prop::sample::select(vec!["48", "49", "1", "353"]), 2_u32..5, 0_u8..6)
        .prop_map(|(country, end, how)| spelled(country, &format!("22123456{end}"), how));
    prop_oneof![
        8 => known,
        1 => prop::sample::select(vec!["", "alice", "pbx-12", "101", "*21#"]).prop_map(str::to_owned),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let codec = prop::sample::select(vec!["PCMA", "opus", "G722"]);
    let mos = prop::option::of((10_i32..45).prop_map(|tenths| f64::from(tenths) / 10.0));
    (
        (0_i64..50, numbers(), numbers(), prop::option::of(0_i64..20)),
        (prop::collection::vec(mos, 0..3), prop::collection::vec(codec, 0..3)),
        ("c[0-9]", prop::sample::select(vec!["ended", "ended", "ongoing", "truncated"])),
    )
        .prop_map(
            |((second, caller, callee, talked_s), (mos, codecs), (sip_call_id, state))| Call {
                second,
                caller,
                callee,
                talked_s,
                mos,
                codecs,
                sip_call_id,
                state,
            },
        )
}

fn time(second: i64) -> String {
    crate::base::rfc3339::format_utc((1_800_000_000 + second) * 1_000_000_000)
}

fn summary(call: &Call) -> String {
    let streams = call.codecs.iter().zip(call.mos.iter().chain(std::iter::repeat(&None)));
    let streams: Vec<_> =
        streams.map(|(codec, mos)| serde_json::json!({ "codec": codec, "mos": mos })).collect();
    serde_json::json!({
        "started_at": time(call.second),
        "answered_at": call.talked_s.map(|_| time(call.second)),
        "ended_at": call.talked_s.map(|talked_s| time(call.second + talked_s)),
        "origin": "invite",
        "state": call.state,
        "sip_call_ids": ["x", call.sip_call_id],
        "caller": { "number": call.caller },
        "callee": { "number": call.callee },
        "streams": streams,
    })
    .to_string()
}

fn digits(text: &str) -> Option<String> {
    let kept: String = text.chars().filter(|letter| !"+ -()".contains(*letter)).collect();
    (!text.is_empty() && kept.bytes().all(|byte| byte.is_ascii_digit())).then_some(kept)
}

/// The digits after the country code, if that is whole and something follows.
fn national(full: &str) -> &str {
    let country = ["48", "49", "353", "1"].into_iter().find(|code| full.starts_with(code));
    full.get(country.map_or(full.len(), str::len)..).unwrap_or("")
}

/// As `number_fits`, for what was typed before a star.
fn begins(typed: &str, number: &str) -> bool {
    let (Some(wanted), Some(found)) = (digits(typed), digits(number)) else {
        return !typed.is_empty() && number.starts_with(typed);
    };
    let full = if number.starts_with('+') { Some(&*found) } else { found.strip_prefix("00") };
    let country_typed = typed.starts_with('+') || wanted.starts_with("00");
    match (country_typed, full) {
        (true, Some(full)) => {
            full.starts_with(if typed.starts_with('+') { &wanted } else { &wanted[2..] })
        }
        (true, None) => {
            let full = if typed.starts_with('+') { &*wanted } else { &wanted[2..] };
            let part = national(full);
            let spelled = [full.to_owned(), part.to_owned(), format!("0{part}")];
            !part.is_empty() && spelled.iter().any(|text| found.starts_with(text))
        }
        (false, Some(full)) => match wanted.strip_prefix('0') {
            Some(part) => !part.is_empty() && national(full).starts_with(part),
            None => full.starts_with(&wanted) || national(full).starts_with(&wanted),
        },
        (false, None) => {
            let trunk = |text: &str| text.strip_prefix('0').map_or(text.to_owned(), str::to_owned);
            found.starts_with(&wanted)
                || (wanted != "0" && trunk(&found).starts_with(&trunk(&wanted)))
        }
    }
}

/// What is asked of numbers, told apart from how the index stores them.
fn number_fits(typed: &str, number: &str) -> bool {
    if let Some(beginning) = typed.strip_suffix('*') {
        return begins(beginning, number);
    }
    let digits = |text: &str| digits(text).filter(|kept| !kept.is_empty());
    let (Some(wanted), Some(found)) = (digits(typed), digits(number)) else {
        return !typed.is_empty() && number.ends_with(typed.trim_start_matches('*'));
    };
    let full = |text: &str, digits: &str| -> Option<String> {
        if text.starts_with('+') {
            return Some(digits.to_owned());
        }
        digits.strip_prefix("00").filter(|rest| rest.len() > 6).map(str::to_owned)
    };
    match (full(typed, &wanted), full(number, &found)) {
        (Some(wanted), Some(found)) => wanted == found,
        (Some(wanted), None) => {
            let part = national(&wanted);
            found == wanted || found == part || found == format!("0{part}")
        }
        (None, full) => {
            let trunk = wanted.strip_prefix('0').filter(|rest| !rest.is_empty());
            let alike = |part: &str| match &full {
                Some(full) => national(full) == part,
                None => found == part,
            };
            full.as_deref().unwrap_or(&found).ends_with(&wanted) || trunk.is_some_and(alike)
        }
    }
}

fn fits(call: &Call, query: &Query) -> bool {
    let within = |value: Option<i64>, least: Option<i64>, most: Option<i64>| {
        (least.is_none() && most.is_none())
            || value.is_some_and(|value| {
                value >= least.unwrap_or(i64::MIN) && value <= most.unwrap_or(i64::MAX)
            })
    };
    let start_ns = (1_800_000_000 + call.second) * 1_000_000_000;
    let streams = call.codecs.len();
    let worst = call.mos.iter().take(streams).flatten().map(|mos| (mos * 1_000.0).round());
    #[allow(clippy::cast_possible_truncation, reason = "small")]
    let worst = worst.reduce(f64::min).map(|milli| milli as i64);
    let codec = |name: &String| call.codecs.iter().any(|codec| codec.eq_ignore_ascii_case(name));
    query.from_ns.is_none_or(|from_ns| start_ns >= from_ns)
        && query.to_ns.is_none_or(|to_ns| start_ns < to_ns)
        && query.number.as_ref().is_none_or(|typed| {
            number_fits(typed, &call.caller) || number_fits(typed, &call.callee)
        })
        && within(
            call.talked_s.map(|talked_s| talked_s * 1_000),
            query.duration_ms_min,
            query.duration_ms_max,
        )
        && within(
            worst,
            query.mos_milli_above.map(|above| above + 1),
            query.mos_milli_below.map(|below| below - 1),
        )
        && query.codec.as_ref().is_none_or(codec)
        && query.sip_call_id.as_ref().is_none_or(|id| *id == call.sip_call_id || id == "x")
        && query.state.as_ref().is_none_or(|state| state == call.state)
}

fn queries() -> impl Strategy<Value = Query> {
    let end = (numbers(), 1_usize..14).prop_map(|(number, kept)| {
        let letters: Vec<char> = number.chars().collect();
        letters.iter().skip(letters.len().saturating_sub(kept)).collect::<String>()
    });
    let beginning = (numbers(), 0_usize..14)
        .prop_map(|(number, kept)| number.chars().take(kept).chain(['*']).collect::<String>());
    let typed = prop_oneof![numbers(), end, beginning];
    let at_ns = || {
        prop::option::weighted(0.3, (0_i64..50).prop_map(|s| (1_800_000_000 + s) * 1_000_000_000))
    };
    let rare = 0.25;
    (
        (at_ns(), at_ns(), prop::option::of(typed)),
        (prop::option::weighted(rare, 0_i64..20_000), prop::option::weighted(rare, 0_i64..20_000)),
        (
            prop::option::weighted(rare, 1_000_i64..4_500),
            prop::option::weighted(rare, 1_000_i64..4_500),
        ),
        prop::option::weighted(rare, prop::sample::select(vec!["pcma", "OPUS", "g729"])),
        prop::option::weighted(rare, "c[0-9]|x"),
        prop::option::weighted(rare, prop::sample::select(vec!["ended", "ongoing", "truncated"])),
        prop::option::of(1_u32..9),
    )
        .prop_map(|(first, duration, mos, codec, sip_call_id, state, limit)| Query {
            from_ns: first.0,
            to_ns: first.1,
            number: first.2,
            duration_ms_min: duration.0,
            duration_ms_max: duration.1,
            codec: codec.map(str::to_owned),
            mos_milli_below: mos.0,
            mos_milli_above: mos.1,
            sip_call_id,
            state: state.map(str::to_owned),
            limit,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_search_finds_what_a_naive_filter_finds(
        calls in prop::collection::vec(calls(), 0..40),
        queries in prop::collection::vec(queries(), 12),
    ) {
        let rows = calls.iter().zip(0_u64..).map(|(call, id)| {
            CallRow::from_body(CallId(id), 0, summary(call).as_bytes()).expect("valid")
        });
        let index = index_of(rows.collect());
        for query in queries {
            let mut naive: Vec<(i64, u64)> = calls.iter().zip(0_u64..)
                .filter(|(call, _)| fits(call, &query))
                .map(|(call, id)| (call.second, id))
                .collect();
            naive.sort_unstable();
            let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
            let naive: Vec<u64> = naive.iter().skip(naive.len().saturating_sub(limit)).map(|call| call.1).collect();
            for probes in super::index_search::PROBES_TESTED {
                let found = index.calls_with(&query, probes).expect("read");
                prop_assert_eq!(ids(&found), naive.clone(), "{:?} {:?}", query, probes);
            }
        }
    }
}
