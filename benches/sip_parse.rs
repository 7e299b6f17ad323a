//! One SIP message to what the correlator asks of it, beside a parser written without a thought.
//!
//! Purpose: `sip::Message` against `str::split` and a map of all headers, in one run.
//! Invariants: both give the same Call-ID, CSeq, tags, branch and body, asserted before the timing.
//! Non-goals: TCP framing (see `sip::Framer`).
//! Sources: RFC 3261 §7.3, RFC 4566.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::sip::{Message, Sdp};
use common::{calls, count};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::HashMap;
use std::hint::black_box;

/// What the correlator asks of every message.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    call_id: &'a [u8],
    cseq: u32,
    from_tag: Option<&'a [u8]>,
    to_tag: Option<&'a [u8]>,
    branch: Option<&'a [u8]>,
    body_len: usize,
}

fn ours(bytes: &[u8]) -> Asked<'_> {
    let message = Message::parse(bytes).expect("it is SIP");
    Asked {
        call_id: message.call_id(),
        cseq: message.cseq().number,
        from_tag: message.from().tag(),
        to_tag: message.to().tag(),
        branch: message.via_branch(),
        body_len: message.body().len(),
    }
}

/// Splits everything, keeps everything.
fn naive(bytes: &[u8]) -> Asked<'_> {
    let text = std::str::from_utf8(bytes).expect("the bench's messages are text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
    let mut headers: HashMap<String, Vec<&str>> = HashMap::new();
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').expect("a colon");
        headers.entry(name.trim().to_ascii_lowercase()).or_default().push(value.trim());
    }
    let parameter = |header: &str, name: &str| {
        let value = *headers.get(header)?.first()?;
        let found = value.split(';').skip(1).find_map(|part| part.trim().strip_prefix(name))?;
        Some(found.as_bytes())
    };
    let cseq = headers["cseq"][0].split(' ').next().expect("a number");
    Asked {
        call_id: headers["call-id"][0].as_bytes(),
        cseq: cseq.parse().expect("a number"),
        from_tag: parameter("from", "tag="),
        to_tag: parameter("to", "tag="),
        branch: parameter("via", "branch="),
        body_len: body.len(),
    }
}

fn pair(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, bytes: &[u8]) {
    assert_eq!(ours(bytes), naive(bytes), "{name}");
    group.throughput(Throughput::Bytes(count(bytes.len())));
    group.bench_function(format!("{name}/callspan"), |bencher| {
        bencher.iter(|| black_box(ours(black_box(bytes))));
    });
    group.bench_function(format!("{name}/naive_split"), |bencher| {
        bencher.iter(|| black_box(naive(black_box(bytes))));
    });
}

fn sip_parse(criterion: &mut Criterion) {
    let invite = calls::invite(7);
    let mut group = criterion.benchmark_group("sip_parse");
    pair(&mut group, "invite", &invite);
    pair(&mut group, "answer", &calls::message(7, "SIP/2.0 200 OK", "1 INVITE", None));
    // As many headers as are read, before those that matter.
    let filler: Vec<String> = (0..230).map(|at| format!("X-Filler-{at}: {at}\r\n")).collect();
    let text = String::from_utf8(invite.clone()).expect("text");
    let crowded = text.replacen("Via:", &format!("{}Via:", filler.concat()), 1);
    pair(&mut group, "worst_many_headers", crowded.as_bytes());
    let message = Message::parse(&invite).expect("it is SIP");
    let body = message.sdp().expect("it has an SDP");
    assert_eq!(Sdp::parse(body).expect("an SDP").media.len(), 1);
    group.throughput(Throughput::Bytes(count(body.len())));
    group.bench_function("sdp", |bencher| bencher.iter(|| black_box(Sdp::parse(black_box(body)))));
    group.finish();
}

criterion_group!(benches, sip_parse);
criterion_main!(benches);
