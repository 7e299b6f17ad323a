//! What somebody who means harm can send over TCP, in growing amounts.
//!
//! Purpose: `tls::TlsConnection`, `sip::WebSocket` and `net::HepFramer` cost the same a byte, however many there are.
//! Invariants: what comes of the input is asserted before the timing; each input has four times the bytes of the one before.
//! Non-goals: the speed of honest traffic, of which there is little.
//! Sources: docs/hostile.md, "Quadratic work".

#![allow(missing_docs, reason = "criterion makes a public function")]

use callspan::base::PacketTime;
use callspan::net::{Continuity, HepFramer};
use callspan::sip::{Gap, WebSocket};
use callspan::tls::{Arrival, Side, TlsConnection, TlsKeys, TlsStatus};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const SIZES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
const SEGMENT: usize = 100;

fn repeated(pattern: &[u8], bytes: usize) -> Vec<u8> {
    pattern.iter().copied().cycle().take(bytes).collect()
}

/// Headers of records at every place, behind gaps, of a connection whose secrets never come.
fn tls(flood: &[u8]) -> TlsStatus {
    let (mut connection, keys) = (TlsConnection::new(), TlsKeys::default());
    let (client, server) = hellos();
    let now = PacketTime::from_ms(0);
    let mut feed = |side, bytes: &[u8], arrival| {
        connection.feed(side, (bytes, arrival), now, &keys, |_, _, _| {});
    };
    feed(Side::Client, &client, Arrival::Contiguous);
    feed(Side::Server, &server, Arrival::Contiguous);
    for (number, piece) in flood.chunks(SEGMENT).enumerate() {
        let arrival = if number % 7 == 0 { Arrival::AfterGap } else { Arrival::Contiguous };
        feed(Side::Client, piece, arrival);
    }
    connection.status()
}

/// A ClientHello and a ServerHello of TLS 1.3, as short as they may be.
fn hellos() -> (Vec<u8>, Vec<u8>) {
    let client = [&[1, 0, 0, 34, 3, 3][..], &[1; 32]].concat();
    let extensions = [0, 6, 0, 43, 0, 2, 3, 4];
    let server = [&[2, 0, 0, 46, 3, 3][..], &[2; 32], &[0, 0x13, 0x01, 0], &extensions].concat();
    let record =
        |body: &[u8]| [&[22, 3, 3, 0, u8::try_from(body.len()).unwrap_or(0)], body].concat();
    (record(&client), record(&server))
}

/// Messages in fragments of one byte with pings between.
fn websocket(flood: &[u8]) -> usize {
    let (mut socket, mut messages) = (WebSocket::new(flood), 0);
    for piece in flood.chunks(SEGMENT) {
        socket.feed(piece, Gap::Contiguous, |_| messages += 1);
    }
    messages
}

fn hep(flood: &[u8]) -> usize {
    let (mut framer, mut messages) = (HepFramer::default(), 0);
    for piece in flood.chunks(SEGMENT) {
        framer.feed(piece, Continuity::Contiguous, |_| messages += 1);
    }
    messages
}

fn hostile_streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hostile_streams");
    for bytes in SIZES {
        group.throughput(Throughput::Bytes(u64::try_from(bytes).unwrap_or(u64::MAX)));
        let headers = repeated(&[23, 3, 3, 0, 9], bytes);
        let long_headers = repeated(&[23, 3, 3, 0x40, 0], bytes);
        let fragments = repeated(&[0x01, 1, b'I', 0x89, 0, 0x00, 1, b'N'], bytes);
        let magic = repeated(b"HEP3\0\0HEP", bytes);
        let is_most = SIZES.iter().all(|size| *size <= bytes);
        assert!(tls(&headers) == TlsStatus::WithoutKey || !is_most);
        assert_eq!((websocket(&fragments), hep(&magic)), (0, 0));
        for (name, flood) in [("tls_headers", &headers), ("tls_long_headers", &long_headers)] {
            group.bench_function(format!("{name}/{bytes}"), |bencher| {
                bencher.iter(|| black_box(tls(black_box(flood))));
            });
        }
        group.bench_function(format!("websocket_fragments/{bytes}"), |bencher| {
            bencher.iter(|| black_box(websocket(black_box(&fragments))));
        });
        group.bench_function(format!("hep_magic/{bytes}"), |bencher| {
            bencher.iter(|| black_box(hep(black_box(&magic))));
        });
    }
    group.finish();
}

criterion_group!(benches, hostile_streams);
criterion_main!(benches);
