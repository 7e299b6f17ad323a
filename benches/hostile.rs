//! Input that was made to cost more than its length, growing.
//!
//! Purpose: show that each parser's time a byte stays the same while hostile input grows sixteenfold:
//! the line for 16 units beside the line for 1 (criterion prints bytes a second for both).
//! Invariants: the bodies are those of the fuzz targets; what they check is checked here too.
//! Non-goals: ordinary input (see `sip_parse`, `decap`, `pipeline`).
//! Sources: RFC 4475 (torture), SegmentSmack and FragmentSmack (2018).

#![allow(missing_docs, reason = "criterion makes a public function")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// How much longer the longest input is.
const GROWTH: [usize; 3] = [1, 4, 16];

type Body = fn(&[u8]);

/// A name, what makes an input of so many units, and what reads it.
type Attack = (&'static str, fn(usize) -> Vec<u8>, Body);

const ATTACKS: [Attack; 9] = [
    ("sip folded headers", folded_headers, callspan::sip::fuzz::message),
    ("sip headers of one byte", short_headers, callspan::sip::fuzz::message),
    ("sip open quotes", open_quotes, callspan::sip::fuzz::message),
    ("sip stream without an end", endless_stream, callspan::sip::fuzz::framing),
    ("sdp attributes for every format", sdp_attributes, callspan::sip::fuzz::sdp),
    ("tcp segments of one byte, newest first", tiny_segments, callspan::net::fuzz::tcp),
    ("fragments of eight bytes", tiny_fragments, callspan::net::fuzz::decap),
    ("rtcp of empty packets", empty_reports, callspan::rtp::fuzz::rtcp),
    ("invites, each a call", invites, callspan::work::fuzz::pipeline),
];

fn repeated(head: &[u8], unit: &[u8], count: usize, tail: &[u8]) -> Vec<u8> {
    [head, &unit.repeat(count), tail].concat()
}

const REQUEST: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n";

fn folded_headers(units: usize) -> Vec<u8> {
    repeated(&[REQUEST, b"Subject: x\r\n"].concat(), b" \r\n", 900 * units, b"\r\n")
}

fn short_headers(units: usize) -> Vec<u8> {
    repeated(REQUEST, b"a:\r\n", 700 * units, b"\r\n")
}

fn open_quotes(units: usize) -> Vec<u8> {
    repeated(&[REQUEST, b"From: "].concat(), b"\"\\<;", 700 * units, b"\r\n\r\n")
}

fn endless_stream(units: usize) -> Vec<u8> {
    repeated(&[1], b"SIP/2.0 200\r\nl:", 200 * units, b"")
}

fn sdp_attributes(units: usize) -> Vec<u8> {
    let head = b"v=0\r\nm=audio 9 RTP/AVP 0 8 9 18 96 97 98 99\r\n";
    repeated(head, b"a=rtpmap:96 x/1\r\n", 180 * units, b"")
}

/// Entries of `net::fuzz::tcp`: control, flags, sequence number, length, bytes.
fn tiny_segments(units: usize) -> Vec<u8> {
    let mut data = b"\x00\x01\0\0\0\x00\x02SI".to_vec();
    for number in (2..2 + 300 * units).rev() {
        let sequence = u32::try_from(2 * number).unwrap_or(0).to_be_bytes();
        data.extend([&[0, 1][..], &sequence, &[1, b'x']].concat());
    }
    data
}

/// Entries of `net::fuzz::decap`: link, step, cut, length, bytes; each a fragment of its own datagram.
fn tiny_fragments(units: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for number in 0..100 * units {
        let [high, low] = u16::try_from(number % 65_536).unwrap_or(0).to_be_bytes();
        let mut packet = vec![0x45, 0, 0, 28, high, low, 0x20, 0, 64, 17, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 0, 100, 0, 0]);
        data.extend([1, 0, 0, 0, u8::try_from(packet.len()).unwrap_or(0)]);
        data.extend(packet);
    }
    data
}

fn empty_reports(units: usize) -> Vec<u8> {
    repeated(&[], &[0x80, 201, 0, 1, 0, 0, 0, 9], 400 * units, b"")
}

/// Entries of `work::fuzz::pipeline`: step, length, an Ethernet frame.
fn invites(units: usize) -> Vec<u8> {
    let mut data = vec![0];
    for number in 0..20 * units {
        let sip = format!(
            "INVITE sip:b@b SIP/2.0\r\nFrom: <sip:alice@a>;tag=1\r\nTo: <sip:b@b>\r\n\
             Call-ID: {number:08}\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\r\n\
             v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n"
        );
        let udp_len = u16::try_from(8 + sip.len()).unwrap_or(0);
        let ip_len = udp_len.saturating_add(20).to_be_bytes();
        let frame_len = udp_len.saturating_add(34).to_be_bytes();
        data.extend([1, frame_len[0], frame_len[1]]);
        data.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, ip_len[0], ip_len[1]]);
        data.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        data.extend([0x13, 0xc4, 0x13, 0xc4, udp_len.to_be_bytes()[0], udp_len.to_be_bytes()[1]]);
        data.extend([0, 0]);
        data.extend(sip.as_bytes());
    }
    data
}

fn hostile(criterion: &mut Criterion) {
    for (name, make, body) in ATTACKS {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        for units in GROWTH {
            let input = make(units);
            group.throughput(Throughput::Bytes(input.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(units), &input, |bencher, input| {
                bencher.iter(|| body(black_box(input)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hostile);
criterion_main!(benches);
