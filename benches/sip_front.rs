//! Is this SIP? Asked of every UDP payload.
//!
//! Purpose: the cost of `sip::looks_like_sip` and `rtp::classify`.
//! Invariants: each verdict is asserted before it is timed.
//! Non-goals: parsing (see `sip_parse`).
//! Sources: RFC 3261 §7.1, RFC 5761 §4.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::base::limits::{SIP_METHOD_BYTES_MAX, SIP_START_LINE_BYTES_MAX};
use callspan::rtp::classify::{Datagram, classify};
use callspan::sip::{Likeness, looks_like_sip};
use common::{calls, count, rtp};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn sip_front(criterion: &mut Criterion) {
    let media = rtp(1, 2, &[0xd5; 160]);
    let invite = calls::invite(1);
    let answer = calls::message(1, "SIP/2.0 200 OK", "1 INVITE", None);
    // The longest first line that is looked at, and its end is not SIP's.
    let line = [b"INVITE sip:", &[b'x'; SIP_START_LINE_BYTES_MAX][..], b"\r\n"].concat();
    let word = vec![b'A'; SIP_METHOD_BYTES_MAX + 1];
    let cases = [
        ("rtp", &media, Likeness::No),
        ("invite", &invite, Likeness::Yes),
        ("answer", &answer, Likeness::Yes),
        ("long_word", &word, Likeness::No),
        ("worst_long_line", &line, Likeness::No),
    ];
    let mut group = criterion.benchmark_group("sip_front");
    group.throughput(Throughput::Elements(1));
    for (name, bytes, expected) in cases {
        assert_eq!(looks_like_sip(bytes), expected, "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| looks_like_sip(black_box(bytes))));
    }
    assert_eq!(classify(&media), Datagram::Rtp);
    group.bench_function("rtp_classify", |bencher| bencher.iter(|| classify(black_box(&media))));
    group.throughput(Throughput::Bytes(count(line.len())));
    group.bench_function("worst_long_line_bytes", |bencher| {
        bencher.iter(|| looks_like_sip(black_box(&line)));
    });
    group.finish();
}

criterion_group!(benches, sip_front);
criterion_main!(benches);
