//! Whose packet is this? Asked of every RTP packet.
//!
//! Purpose: `work::flows` (a known flow), `rtp::flow_table` (a flow after a change of the table),
//! and plain maps beside them, in one run.
//! Invariants: every look-up finds the call it should, asserted before the timing.
//! Non-goals: what is done with the answer (see `queue`).
//! Sources: RFC 3550 §8.

#![allow(missing_docs, reason = "criterion makes a public function")]

mod common;

use callspan::base::{CallIndex, Channel, Endpoint, PacketTime, Ssrc};
use callspan::rtp::flow_table::{Claim, ClaimRole, FlowTable};
use callspan::work::flows::{Flows, Found};
use callspan::work::orphans::FlowKey;
use common::{Noise, count, low_16, low_32, media_end, size};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;

type Ends = (Endpoint, Endpoint);

fn key(call: usize, party: Channel) -> FlowKey {
    let (source, destination) = (media_end(call, party), media_end(call, party.other()));
    FlowKey { source, destination, ssrc: Ssrc(low_32(call * 2 + party.index())) }
}

/// The flows of `calls` calls, in an order without a pattern.
fn keys(calls: usize) -> Vec<(FlowKey, CallIndex)> {
    let mut keys = Vec::new();
    for call in 0..calls {
        for party in Channel::BOTH {
            keys.push((key(call, party), CallIndex(low_32(call))));
        }
    }
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    for last in (1..keys.len()).rev() {
        let other = usize::try_from(noise.next() % count(last + 1)).expect("an index");
        keys.swap(last, other);
    }
    keys
}

fn table_of(calls: usize) -> FlowTable {
    let mut table = FlowTable::default();
    for call in 0..calls {
        let claims = Channel::BOTH.map(|party| Claim {
            endpoint: media_end(call, party),
            party,
            role: ClaimRole::Audio,
        });
        table.set(CallIndex(low_32(call)), &claims, PacketTime::MIN);
    }
    table
}

/// Looks all flows up; the sum of the calls found.
fn in_flows(flows: &mut Flows, keys: &[FlowKey], table: &FlowTable) -> u64 {
    let (mut sum, now) = (0, PacketTime::from_ms(0));
    for (number, key) in keys.iter().enumerate() {
        match flows.find(*key, low_16(number), now, table) {
            Found::Calls(targets) => {
                sum += targets.iter().map(|target| u64::from(target.call.0)).sum::<u64>();
            }
            Found::AfterEnd | Found::Unknown => {}
        }
    }
    sum
}

fn plain<S: BuildHasher + Default>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    flows: &[(FlowKey, CallIndex)],
    expected: u64,
) {
    let ends = |key: &FlowKey| (key.source, key.destination);
    let map: HashMap<Ends, CallIndex, S> =
        flows.iter().map(|(key, call)| (ends(key), *call)).collect();
    let sum = || flows.iter().map(|(key, _)| u64::from(map[&ends(key)].0)).sum::<u64>();
    assert_eq!(sum(), expected);
    group.bench_function(name, |bencher| bencher.iter(|| black_box(sum())));
}

fn flow_lookup(criterion: &mut Criterion) {
    for calls in size(vec![100], vec![100, 10_000]) {
        let flows = keys(calls);
        let known: Vec<FlowKey> = flows.iter().map(|(key, _)| *key).collect();
        let expected = flows.iter().map(|(_, call)| u64::from(call.0)).sum::<u64>();
        let table = table_of(calls);
        let mut group = criterion.benchmark_group(format!("flow_lookup/{calls}_calls"));
        group.throughput(Throughput::Elements(count(flows.len())));
        let mut cache = Flows::default();
        assert_eq!(in_flows(&mut cache, &known, &table), expected);
        group.bench_function("known_flow", |bencher| {
            bencher.iter(|| black_box(in_flows(&mut cache, &known, &table)));
        });
        plain::<std::hash::RandomState>(&mut group, "plain_std_map", &flows, expected);
        plain::<foldhash::fast::RandomState>(&mut group, "plain_foldhash_map", &flows, expected);
        // A call is set up or ends for every pass over all flows.
        let mut changing = table_of(calls);
        let newcomer = CallIndex(low_32(calls));
        let claim = |port| Claim {
            endpoint: Endpoint::v4([10, 9, 9, 9], port),
            party: Channel::Caller,
            role: ClaimRole::Audio,
        };
        let mut port = 0_u16;
        group.bench_function("while_calls_are_set_up", |bencher| {
            bencher.iter(|| {
                port = port.wrapping_add(2);
                changing.set(newcomer, &[claim(port)], PacketTime::MIN);
                black_box(in_flows(&mut cache, &known, &changing))
            });
        });
        assert_eq!(in_flows(&mut cache, &known, &changing), expected);
        let unknown: Vec<FlowKey> =
            (0..flows.len()).map(|number| key(0x8000 + number, Channel::Caller)).collect();
        assert_eq!(in_flows(&mut cache, &unknown, &table), 0);
        group.bench_function("worst_unknown_flows", |bencher| {
            bencher.iter(|| black_box(in_flows(&mut cache, &unknown, &table)));
        });
        group.finish();
    }
}

criterion_group!(benches, flow_lookup);
criterion_main!(benches);
