//! Decapsulation against another builder of packets, and IP reassembly against the datagram itself.
//!
//! Purpose: etherparse's writer makes the packets, so that builder and reader do not share mistakes.
//! Invariants: one datagram in any number of fragments comes out once, or never and counted.
//! Non-goals: the headers' every field (see the unit tests).
//! Sources: RFC 791 §3.2, RFC 8200 §4.5, RFC 5722.

use callspan::base::{Frame, FrameOutcome, LinkType, PacketTime};
use callspan::net::{Cut, Decap, Decapped, fuzz};
use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, VlanId,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// A UDP header and payload.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(5060, 5062);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).expect("short enough");
    bytes.split_off(20)
}

/// One fragment of `datagram` as a raw IP frame.
fn fragment(family: Family, datagram: &[u8], start: usize, end: usize) -> Vec<u8> {
    let more = end < datagram.len();
    let offset = IpFragOffset::try_new(u16::try_from(start / 8).expect("small")).expect("13 bits");
    let part = &datagram[start..end];
    let mut bytes = Vec::new();
    match family {
        Family::V4 => {
            let len = u16::try_from(part.len()).expect("short");
            let (source, destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
            let mut header =
                Ipv4Header::new(len, 64, IpNumber::UDP, source, destination).expect("fits");
            header.identification = 77;
            header.dont_fragment = false;
            header.more_fragments = more;
            header.fragment_offset = offset;
            header.write(&mut bytes).expect("memory");
        }
        Family::V6 => {
            let header = Ipv6Header {
                payload_length: u16::try_from(part.len() + 8).expect("short"),
                next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
                hop_limit: 64,
                source: [1; 16],
                destination: [2; 16],
                ..Ipv6Header::default()
            };
            header.write(&mut bytes).expect("memory");
            let part = Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, 77);
            part.write(&mut bytes).expect("memory");
        }
    }
    bytes.extend(part);
    bytes
}

fn raw(bytes: &[u8], ms: i64) -> Frame<'_> {
    Frame {
        time: PacketTime::from_ms(ms),
        link: LinkType::RawIp,
        bytes,
        wire_len_bytes: u32::try_from(bytes.len()).expect("short"),
    }
}

/// Ranges that cover `len` bytes, cut at multiples of 8, and more that overlap or repeat them; none
/// of everything, which would not be a fragment, nor longer than a packet.
fn ranges(len: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    let blocks = len.div_ceil(8);
    let cuts = prop::collection::vec(0..=blocks, 0..20);
    let more = prop::collection::vec((0..blocks, 1..100_usize), 0..10);
    (cuts, more)
        .prop_map(move |(mut cuts, more)| {
            cuts.extend([0, 1, blocks]);
            cuts.sort_unstable();
            cuts.dedup();
            let cuts = cuts.windows(2).map(|pair| (pair[0], pair[1]));
            let more = more.into_iter().map(|(start, size)| (start, start + size));
            cuts.chain(more)
                .map(|(start, end)| (start * 8, (end * 8).min(len)))
                .filter(|range| *range != (0, len))
                .collect()
        })
        .prop_shuffle()
}

fn payload_and_ranges() -> impl Strategy<Value = (Vec<u8>, Vec<(usize, usize)>)> {
    // From one byte to the largest UDP payload of an IPv4 datagram, mostly small.
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 1..4_000),
        1 => Just(vec![7; 65_535 - 20 - 8]),
    ];
    payload.prop_flat_map(|payload| {
        let len = payload.len() + 8;
        (Just(payload), ranges(len))
    })
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_split_order_overlap_and_repetition_gives_the_datagram_once(
        (payload, ranges) in payload_and_ranges(), family in family(), step_ms in 0..60_i64,
    ) {
        let datagram = datagram(&payload);
        let mut decap = Decap::new();
        let mut came = vec![false; datagram.len()];
        let mut wholes = 0;
        for (number, (start, end)) in (0..).zip(ranges) {
            came[start..end].fill(true);
            let bytes = fragment(family, &datagram, start, end);
            match decap.frame(&raw(&bytes, number * step_ms)) {
                Decapped::Udp { payload: got, cut, .. } => {
                    prop_assert!(came.iter().all(|came| *came));
                    prop_assert_eq!((got, cut), (&payload[..], Cut::Whole));
                    wholes += 1;
                    break; // what comes after would begin another datagram
                }
                Decapped::Done(FrameOutcome::Fragment | FrameOutcome::Duplicate) => {
                    prop_assert!(!came.iter().all(|came| *came), "it was complete");
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(wholes, 1);
        prop_assert_eq!((decap.expire(PacketTime::MAX), decap.held_bytes()), (0, 0));
    }

    #[test]
    fn without_one_of_its_blocks_a_datagram_never_comes_out_and_all_of_it_is_counted(
        (payload, ranges) in payload_and_ranges(), family in family(),
        lost in any::<prop::sample::Index>(),
    ) {
        let datagram = datagram(&payload);
        let lost = lost.index(datagram.len());
        let mut decap = Decap::new();
        let mut held = 0;
        for (number, (start, end)) in (0..).zip(ranges) {
            if (start..end).contains(&lost) {
                continue;
            }
            match decap.frame(&raw(&fragment(family, &datagram, start, end), number)) {
                Decapped::Done(FrameOutcome::Fragment) => held += 1,
                Decapped::Done(FrameOutcome::Duplicate) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(decap.expire(PacketTime::MAX), held);
        prop_assert_eq!(decap.held_bytes(), 0);
    }

    #[test]
    fn a_datagram_with_one_contradicting_byte_never_comes_out(
        payload in prop::collection::vec(any::<u8>(), 32..400), at in 0..400_usize,
        family in family(),
    ) {
        let datagram = datagram(&payload);
        let middle = datagram.len() / 16 * 8;
        let mut forged = datagram.clone();
        forged[at % middle] ^= 1;
        let mut decap = Decap::new();
        let mut counts = [0; 2];
        for (bytes, start, end) in [
            (&datagram, 0, middle),
            (&forged, 0, middle),
            (&datagram, middle, datagram.len()),
            (&datagram, 0, middle),
        ] {
            // Far enough apart not to be copies.
            let ms = 100 * (counts[0] + counts[1]);
            match decap.frame(&raw(&fragment(family, bytes, start, end), ms)) {
                Decapped::Done(FrameOutcome::Fragment) => counts[0] += 1,
                Decapped::Done(FrameOutcome::FragmentDropped) => counts[1] += 1,
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(counts, [1, 3]);
        prop_assert_eq!(decap.take_dropped(), 1);
    }

    #[test]
    fn what_another_builder_wrote_is_read_back(
        payload in prop::collection::vec(any::<u8>(), 0..300), six: bool, tags in 0..3_u8,
        tcp: bool, seq: u32,
    ) {
        let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let vlan = VlanId::try_new(7).expect("12 bits");
        let link = match tags {
            0 => None,
            1 => Some(ethernet().single_vlan(vlan)),
            _ => Some(ethernet().double_vlan(vlan, vlan)),
        };
        let ip = match (link, six) {
            (None, false) => ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9),
            (None, true) => ethernet().ipv6([1; 16], [2; 16], 9),
            (Some(link), false) => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9),
            (Some(link), true) => link.ipv6([1; 16], [2; 16], 9),
        };
        let mut bytes = Vec::new();
        if tcp {
            ip.tcp(9, 10, seq, 1).fin().write(&mut bytes, &payload).expect("memory");
        } else {
            ip.udp(9, 10).write(&mut bytes, &payload).expect("memory");
        }
        let mut decap = Decap::new();
        let frame = Frame { link: LinkType::Ethernet, ..raw(&bytes, 0) };
        match decap.frame(&frame) {
            Decapped::Udp { flow, payload: got, cut, .. } => {
                prop_assert!(!tcp);
                prop_assert_eq!((got, cut), (&payload[..], Cut::Whole));
                prop_assert_eq!((flow.source.port, flow.destination.port), (9, 10));
            }
            Decapped::Tcp { flow, segment, .. } => {
                prop_assert!(tcp && segment.flags.fin && !segment.flags.syn && !segment.flags.rst);
                prop_assert_eq!((segment.payload, segment.seq), (&payload[..], seq));
                prop_assert_eq!((flow.source.port, flow.destination.port), (9, 10));
            }
            Decapped::Done(outcome) => prop_assert!(false, "{:?}", outcome),
        }
    }

    #[test]
    fn arbitrary_bytes_break_no_invariant(data in prop::collection::vec(any::<u8>(), 0..1_000)) {
        fuzz::decap(&data);
    }

    #[test]
    fn valid_frames_with_flipped_bits_break_no_invariant(
        (payload, ranges) in payload_and_ranges(), family in family(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 0..12),
    ) {
        let datagram = datagram(&payload);
        let mut data = Vec::new();
        for (start, end) in ranges {
            let bytes = fragment(family, &datagram, start, end);
            if let Ok(len) = u16::try_from(bytes.len()) {
                data.extend([1, 1, 0]);
                data.extend(len.to_be_bytes());
                data.extend(bytes);
            }
        }
        for (at, bit) in flips {
            if !data.is_empty() {
                // In the first headers, where it matters most.
                let at = at.index(data.len().min(120));
                data[at] ^= 1 << bit;
            }
        }
        fuzz::decap(&data);
    }
}
