//! Finding calls among a million.
//!
//! Purpose: what an operator asks of the index, first page, of an encrypted index and beside it of a
//! plain SQLite file with the same tables and statements; what a call costs to insert.
//! Invariants: every search finds what a naive filter over the same calls finds, before it is timed;
//! the limit is 50 ms (median) for each, with an index that was just opened too.
//! Non-goals: reading their audio (see `callspan export`).
//! Sources: docs/archive.md, "The index".

mod common;

use callspan::archive::{CallRow, Index, IndexBatch, IndexKey, IndexPlace, Query, SegmentId};
use callspan::base::CallId;
use callspan::base::rfc3339::format_utc;
use common::{Noise, calls::call_id, count, size};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds since the epoch: 2026-01-01.
const FIRST_S: i64 = 1_767_225_600;
/// The first page.
const PAGE: usize = 50;
/// Calls of one batch: as when the index is made again from segments of many short calls.
const BATCH_CALLS: usize = 20_000;

/// A call as the generator thought of it.
struct Call {
    id: u64,
    number: usize,
    start_s: i64,
    talked_s: i64,
    mos_milli: i64,
    codec: &'static str,
    caller: String,
    callee: String,
}

fn generate(calls: usize) -> Vec<Call> {
    let mut noise = Noise(0x5eed_0fca_1100);
    let mut draw = move |most: u64| i64::try_from((noise.next() >> 20) % most).expect("small");
    let one = |number: usize| {
        let start_s = FIRST_S + i64::try_from(number).expect("small") * 20 + draw(20);
        let hundred = draw(100);
        // Five calls of more than an hour, however many there are.
        let is_long = number % (calls / 5) == calls / 10;
        Call {
            // An id is a hash.
            id: count(number).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            number,
            start_s,
            talked_s: if is_long { 3_700 } else { draw(1_200) },
            mos_milli: if draw(1_000) == 0 { 1_500 } else { 2_500 + draw(190) * 10 },
            codec: match hundred {
                0..90 => "PCMA",
                90..99 => "G722",
                _ if draw(calls as u64 / 100) < 10 => "iLBC",
                _ => "opus",
            },
            caller: match draw(3) {
                0 => format!("+4822{:07}", draw(10_000_000)),
                1 => format!("022{:07}", draw(10_000_000)),
                _ => format!("0049{:09}", 100_000_000 + draw(900_000_000)),
            },
            callee: format!("{}", 200 + draw(800)),
        }
    };
    (0..calls).map(one).collect()
}

/// A summary as long as a real one.
fn summary(call: &Call) -> String {
    let time = |second: i64| format_utc(second * 1_000_000_000);
    let (start, end) = (time(call.start_s), time(call.start_s + call.talked_s));
    let mut streams = String::new();
    for channel in ["caller", "callee"] {
        let _ = write!(
            streams,
            r#"{}{{"channel":"{channel}","codec":"{}","clock_hz":8000,"ssrc":"0x{:08x}",
"source":"192.0.2.17:40002","destination":"198.51.100.9:17442","packets":{},"lost":3,"late":0,
"duplicate":0,"reordered":1,"jitter_ms":0.31,"mos":{}.{:03}}}"#,
            if streams.is_empty() { "" } else { "," },
            call.codec,
            call.number,
            call.talked_s * 50,
            call.mos_milli / 1_000,
            call.mos_milli % 1_000,
        );
    }
    format!(
        r#"{{"id":"{:016x}","sip_call_ids":["{}"],"state":"ended","started_at":"{start}",
"answered_at":"{start}","ended_at":"{end}","end_reason":"bye","status_code":200,"origin":"invite",
"verdict":"both","caller":{{"uri":"sip:{}@example.com","number":"{}","name":"Alice Example"}},
"callee":{{"uri":"sip:{}@example.com","number":"{}","name":""}},"recording":{{"state":"stored",
"started_at":"{start}","seconds":{}.0,"bytes":{},"channels":2}},"streams":[{streams}],
"gaps":[],"dtmf":[],"notes":[]}}"#,
        call.id,
        call_id(call.number),
        call.caller,
        call.caller,
        call.callee,
        call.callee,
        call.talked_s,
        call.talked_s * 4_000,
    )
}

/// Fills an index and says how long SQLite took.
fn fill(place: &IndexPlace, key: Option<&IndexKey>, calls: &[Call]) -> Duration {
    let mut index = Index::create(place, "bench", key).expect("a new index");
    let mut took = Duration::ZERO;
    for (segment, calls) in calls.chunks(BATCH_CALLS).enumerate() {
        let mut batch = IndexBatch::default();
        for call in calls {
            let body = summary(call);
            batch.saw(CallId(call.id), SegmentId(count(segment)), 9);
            batch.add_row(CallRow::from_body(CallId(call.id), 9, body.as_bytes()).expect("valid"));
        }
        let start = Instant::now();
        index.apply(&batch).expect("applied");
        took += start.elapsed();
    }
    let start = Instant::now();
    index.close().expect("closed");
    took + start.elapsed()
}

/// A search, and the same as a plain filter.
struct Case {
    name: &'static str,
    query: Query,
    fits: Box<dyn Fn(&Call) -> bool>,
}

fn case(name: &'static str, query: Query, fits: impl Fn(&Call) -> bool + 'static) -> Case {
    let limit = u32::try_from(PAGE).ok();
    Case { name, query: Query { limit, ..query }, fits: Box::new(fits) }
}

fn by_number(text: &str) -> Query {
    Query { number: Some(text.to_owned()), ..Query::default() }
}

fn by_codec(text: &str) -> Query {
    Query { codec: Some(text.to_owned()), ..Query::default() }
}

fn number_cases(calls: &[Call]) -> Vec<Case> {
    let middle = calls[calls.len() / 2..].iter().find(|call| call.caller.starts_with("+48"));
    let number = middle.expect("a third of them").caller.clone();
    let national = number.trim_start_matches("+48").to_owned();
    let same = move |call: &Call| {
        ["+48", "0"].iter().any(|front| call.caller == format!("{front}{national}"))
    };
    let (same_too, trunk) = (same.clone(), number.replace("+48", "0"));
    let ends = |end: &'static str| {
        move |call: &Call| call.caller.ends_with(end) || call.callee.ends_with(end)
    };
    vec![
        case("one number", by_number(&number), same),
        case("the same, national", by_number(&trunk), same_too),
        case("--number 1 (a fifth)", by_number("1"), ends("1")),
        case("--number 4711", by_number("4711"), ends("4711")),
        case("--number '+4822*' (two thirds)", by_number("+4822*"), |call| {
            call.caller.starts_with("+4822") || call.caller.starts_with("022")
        }),
        case("--number '+48221234*'", by_number("+48221234*"), |call| {
            call.caller.starts_with("+48221234") || call.caller.starts_with("0221234")
        }),
        case("number of nobody", by_number("777777777777"), |_| false),
    ]
}

fn cases(calls: &[Call]) -> Vec<Case> {
    let one_in = |part: usize| calls[calls.len() / part].start_s;
    let (quarter, half, later) = (one_in(4), one_in(2), one_in(2) + 86_400);
    let ns = |second: i64| Some(second * 1_000_000_000);
    let wanted = calls[calls.len() / 3].number;
    let all = Query::default;
    let mut cases = number_cases(calls);
    cases.extend([
        case("newest", all(), |_| true),
        case("one day", Query { from_ns: ns(half), to_ns: ns(later), ..all() }, move |call| {
            (half..later).contains(&call.start_s)
        }),
        case("codec of 90 %", by_codec("pcma"), |call| call.codec == "PCMA"),
        case("rare codec", by_codec("ilbc"), |call| call.codec == "iLBC"),
        case("codec of none", by_codec("AMR"), |_| false),
        case("over an hour (5)", Query { duration_ms_min: Some(3_600_000), ..all() }, |call| {
            call.talked_s >= 3_600
        }),
        case("under 5 s", Query { duration_ms_max: Some(5_000), ..all() }, |call| {
            call.talked_s <= 5
        }),
        case("MOS below 2 (0.1 %)", Query { mos_milli_below: Some(2_000), ..all() }, |call| {
            call.mos_milli < 2_000
        }),
        case("MOS above 4", Query { mos_milli_above: Some(4_000), ..all() }, |call| {
            call.mos_milli > 4_000
        }),
        case("Call-ID", Query { sip_call_id: Some(call_id(wanted)), ..all() }, move |call| {
            call.number == wanted
        }),
        case("--number 1, before a quarter", Query { to_ns: ns(quarter), ..by_number("1") }, {
            move |call| {
                call.start_s < quarter && (call.caller.ends_with('1') || call.callee.ends_with('1'))
            }
        }),
        case("rare codec, one half", Query { from_ns: ns(half), ..by_codec("ilbc") }, {
            move |call| call.start_s >= half && call.codec == "iLBC"
        }),
        case(
            "five conditions",
            Query {
                to_ns: ns(half),
                duration_ms_min: Some(1_100_000),
                mos_milli_below: Some(3_000),
                codec: Some("g722".to_owned()),
                ..by_number("7")
            },
            move |call| {
                let end = call.caller.ends_with('7') || call.callee.ends_with('7');
                let poor = call.mos_milli < 3_000 && call.codec == "G722";
                end && poor && call.talked_s >= 1_100 && call.start_s < half
            },
        ),
        case(
            "codec of 10 %, MOS of 0.1 %, none of both",
            Query {
                mos_milli_below: Some(1_600),
                duration_ms_min: Some(3_600_000),
                ..by_codec("G722")
            },
            |call| call.mos_milli < 1_600 && call.codec == "G722" && call.talked_s >= 3_600,
        ),
    ]);
    cases
}

fn median_ms(repeats: usize, mut run: impl FnMut() -> Duration) -> f64 {
    let mut times: Vec<Duration> = (0..repeats).map(|_| run()).collect();
    times.sort_unstable();
    times[repeats / 2].as_secs_f64() * 1_000.0
}

fn open(path: &Path, key: Option<&IndexKey>) -> Index {
    Index::open_reader(&IndexPlace::File(path.to_owned()), "bench", key).expect("a reader")
}

fn main() {
    let (total, repeats) = (size(2_000, 1_000_000), size(3, 21));
    let folder = tempfile::tempdir().expect("a folder");
    let key = IndexKey::new([0x5a; 32]);
    let calls = generate(total);
    let kinds = [("encrypted", Some(&key)), ("plain", None)];
    for (kind, key) in kinds {
        let path = folder.path().join(kind);
        let took = fill(&IndexPlace::File(path.clone()), key, &calls);
        let bytes = path.metadata().expect("a file").len();
        let each_us = took.as_secs_f64() * 1e6 / total as f64;
        println!("{kind}: {total} calls in, {each_us:.1} µs a call, {} MB", bytes / 1_000_000);
    }
    println!(
        "{:44}{:>12}{:>12}{:>12}{:>12}",
        "median, ms", "encrypted", "just opened", "plain", "just opened"
    );
    for case in cases(&calls) {
        let fitting = calls.iter().rev().filter(|call| (case.fits)(call)).take(PAGE);
        let mut expected: Vec<u64> = fitting.map(|call| call.id).collect();
        expected.reverse();
        print!("{:44}", case.name);
        for (kind, key) in kinds {
            let path = folder.path().join(kind);
            let index = open(&path, key);
            let ask = |index: &Index| index.calls(black_box(&case.query)).expect("the index");
            let found: Vec<u64> = ask(&index).iter().map(|call| call.id.0).collect();
            assert_eq!(found, expected, "{}: {kind}", case.name);
            let timed = |index: &Index| {
                let start = Instant::now();
                black_box(ask(index));
                start.elapsed()
            };
            let warm_ms = median_ms(repeats, || timed(&index));
            let opened_ms = median_ms(repeats, || timed(&open(&path, key)));
            print!("{warm_ms:12.2}{opened_ms:12.2}");
        }
        println!("{:>7} found", expected.len());
    }
}
