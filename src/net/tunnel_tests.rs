//! Every tunnel, its limits and its faults.
//!
//! Purpose: one datagram comes out of everything that may carry it.
//! Invariants: headers are written by hand, from the drawings in the specifications.
//! Non-goals: the whole way of a tunnelled call (see tests/capture_tunnels.rs).
//! Sources: as `tunnel`.

use super::super::decap::{Cut, Decap, Decapped};
use super::super::duplicates::Sighting;
use super::super::frames::{self, V4, WHOLE, frame};
use super::*;
use crate::base::{LinkType, Protocol};

const HELLO: &[u8] = b"hello, tap";

fn inner() -> Vec<u8> {
    frames::v4(V4 { identification: 99, ..WHOLE }, &frames::udp(HELLO))
}

fn in_ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    frames::ethernet(&[0x0800], &frames::v4(V4 { protocol, ..WHOLE }, payload))
}

fn in_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = frames::udp(payload);
    datagram[2..4].copy_from_slice(&port.to_be_bytes());
    in_ip(PROTOCOL_UDP, &datagram)
}

/// One datagram, in everything that carries it.
fn wrapped() -> Vec<(&'static str, Vec<u8>)> {
    let ip = inner();
    let six = frames::v6(frames::UDP, &frames::udp(HELLO));
    let ethernet = frames::ethernet(&[0x0800], &ip);
    let tagged = frames::ethernet(&[0x8100, 0x0800], &ip);
    let ppp = [&[0xff, 0x03, 0x00, 0x21][..], &ip].concat();
    let with = |head: &[u8], body: &[u8]| [head, body].concat();
    vec![
        ("mpls", frames::ethernet(&[0x8847], &with(&[0, 1, 0, 64, 0, 2, 1, 64], &ip))),
        ("pseudowire", frames::ethernet(&[0x8847], &with(&[0, 2, 1, 64, 0, 0, 0, 0], &ethernet))),
        ("pppoe", frames::ethernet(&[0x8864], &with(&[0x11, 0, 0, 1, 0, 9, 0, 0x21], &ip))),
        ("ip in ip", in_ip(4, &ip)),
        ("6in4", in_ip(41, &six)),
        ("gre", in_ip(47, &with(&[0, 0, 8, 0], &ip))),
        ("gre ethernet", in_ip(47, &with(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1], &tagged))),
        (
            "gre all fields",
            in_ip(47, &with(&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], &ip)),
        ),
        (
            "gre ppp",
            in_ip(47, &with(&[0x30, 0x81, 0x88, 0x0b, 0, 60, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2], &ppp)),
        ),
        ("erspan 1", in_ip(47, &with(&[0, 0, 0x88, 0xbe], &ethernet))),
        (
            "erspan 2",
            in_ip(
                47,
                &with(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 2], &tagged),
            ),
        ),
        (
            "erspan 3",
            in_ip(
                47,
                &with(
                    &[
                        &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 1][..],
                        &[0; 7],
                        &[1],
                        &[0; 8],
                    ]
                    .concat(),
                    &ethernet,
                ),
            ),
        ),
        (
            "erspan 3 ip",
            in_ip(
                47,
                &with(
                    &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 1, 0, 0, 0, 0, 0, 0, 8, 0],
                    &ip,
                ),
            ),
        ),
    ]
    .into_iter()
    .chain(in_datagrams())
    .collect()
}

/// The same, in what UDP carries.
fn in_datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let ip = inner();
    let ethernet = frames::ethernet(&[0x0800], &ip);
    let tagged = frames::ethernet(&[0x8100, 0x0800], &ip);
    let ppp = [&[0xff, 0x03, 0x00, 0x21][..], &ip].concat();
    let with = |head: &[u8], body: &[u8]| [head, body].concat();
    let gtp_len = u16::try_from(ip.len()).expect("short").to_be_bytes();
    let gtp = with(&[0x30, 0xff, gtp_len[0], gtp_len[1], 0, 0, 0, 7], &ip);
    let longer = (u16::try_from(ip.len()).expect("short") + 8).to_be_bytes();
    let extended = [0x34, 0xff, longer[0], longer[1], 0, 0, 0, 7, 0, 1, 0, 0x85, 1, 0x10, 9, 0];
    vec![
        ("vxlan", in_udp(4_789, &with(&[8, 0, 0, 0, 0, 0, 7, 0], &ethernet))),
        ("vxlan linux", in_udp(8_472, &with(&[8, 0, 0, 0, 0, 0, 7, 0], &tagged))),
        ("vxlan-gpe", in_udp(4_790, &with(&[0x0c, 0, 0, 1, 0, 0, 7, 0], &ip))),
        ("geneve", in_udp(6_081, &with(&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 0], &ethernet))),
        ("gtp-u", in_udp(2_152, &gtp)),
        ("gtp-u extended", in_udp(2_152, &with(&extended, &ip))),
        ("tzsp", in_udp(37_008, &with(&[1, 0, 0, 1, 0, 10, 1, 99, 1], &ethernet))),
        ("l2tp", in_udp(1_701, &with(&[0x40, 2, 0, 60, 0, 1, 0, 2], &ppp))),
        ("l2tp3 udp", in_udp(1_701, &with(&[0, 3, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4], &ethernet))),
        ("l2tp3 ip", in_ip(115, &with(&[0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8], &ethernet))),
        (
            "nested",
            in_udp(
                4_789,
                &with(
                    &[8, 0, 0, 0, 0, 0, 7, 0],
                    &in_ip(47, &with(&[0, 0, 8, 0], &in_ip(4, &ip)[14..])),
                ),
            ),
        ),
    ]
}

fn hep3() -> Vec<u8> {
    let chunk = |kind: u16, value: &[u8]| {
        let len = u16::try_from(6 + value.len()).expect("short");
        [&[0, 0][..], &kind.to_be_bytes(), &len.to_be_bytes(), value].concat()
    };
    let chunks = [
        chunk(1, &[2]),
        chunk(2, &[17]),
        chunk(3, &frames::A),
        chunk(4, &frames::B),
        chunk(7, &5_060_u16.to_be_bytes()),
        chunk(8, &5_080_u16.to_be_bytes()),
        chunk(9, &[0; 4]),
        chunk(11, &[1]),
        chunk(15, HELLO),
    ]
    .concat();
    let len = u16::try_from(6 + chunks.len()).expect("short").to_be_bytes();
    in_udp(9_063, &[&b"HEP3"[..], &len, &chunks].concat())
}

fn hep2() -> Vec<u8> {
    let head = [&[2, 16, 2, 17, 0x13, 0xc4, 0x13, 0xd8][..], &frames::A, &frames::B, &[0; 12]];
    in_udp(9_060, &[&head.concat()[..], HELLO].concat())
}

#[test]
fn every_tunnel_yields_the_datagram_within_and_is_no_second_sighting() {
    for (name, bytes) in wrapped() {
        let mut decap = Decap::new();
        let Decapped::Udp { payload, sighting, cut, .. } =
            decap.frame(&frame(LinkType::Ethernet, &bytes))
        else {
            panic!("{name}: {:?}", Decap::new().frame(&frame(LinkType::Ethernet, &bytes)));
        };
        assert_eq!((payload, sighting, cut), (HELLO, Sighting::First, Cut::Whole), "{name}");
        if name == "6in4" {
            continue;
        }
        let plain = frames::ethernet(&[0x0800], &inner());
        let again = decap.frame(&frame(LinkType::Ethernet, &plain));
        let Decapped::Udp { flow, sighting, .. } = again else { panic!("{name}: {again:?}") };
        assert_eq!((flow, sighting), (frames::flow(Protocol::Udp), Sighting::Repeated), "{name}");
    }
    for bytes in [hep3(), hep2()] {
        let mut decap = Decap::new();
        let found = decap.frame(&frame(LinkType::Ethernet, &bytes));
        let Decapped::Udp { flow, payload, .. } = found else { panic!("{found:?}") };
        assert_eq!((flow, payload), (frames::flow(Protocol::Udp), HELLO));
    }
}

#[test]
fn a_tunnel_cut_anywhere_is_told_and_never_read_beyond() {
    for (name, bytes) in wrapped() {
        for len in 0..bytes.len() {
            let mut decap = Decap::new();
            let found = decap.frame(&frame(LinkType::Ethernet, &bytes[..len]));
            let is_told = matches!(found, Decapped::Done(_));
            assert!(is_told, "{name} cut at {len}: {found:?}");
        }
    }
}

#[test]
fn a_tunnel_s_packet_that_came_in_fragments_is_put_together_first() {
    let ethernet = frames::ethernet(&[0x0800], &inner());
    let gre = [&[0, 0, 0x65, 0x58][..], &ethernet].concat();
    let part = |offset_bytes, more, bytes: &[u8]| {
        let header = V4 { protocol: GRE, offset_bytes, more, ..WHOLE };
        frames::ethernet(&[0x0800], &frames::v4(header, bytes))
    };
    let mut decap = Decap::new();
    let first = part(0, true, &gre[..24]);
    let held = decap.frame(&frame(LinkType::Ethernet, &first));
    assert_eq!(held, Decapped::Done(FrameOutcome::Fragment));
    let last = part(24, false, &gre[24..]);
    let found = decap.frame(&frame(LinkType::Ethernet, &last));
    assert!(matches!(found, Decapped::Udp { payload, .. } if payload == HELLO), "{found:?}");
}

#[test]
fn tunnels_are_taken_off_to_a_limit() {
    let nested = |times: usize| {
        let mut bytes = inner();
        for _ in 0..times {
            bytes = frames::v4(V4 { protocol: IP_IN_IP, ..WHOLE }, &bytes);
        }
        bytes
    };
    let outcome = |bytes: &[u8]| match Decap::new().frame(&frame(LinkType::RawIp, bytes)) {
        Decapped::Done(outcome) => Some(outcome),
        _ => None,
    };
    assert_eq!(outcome(&nested(TUNNELS_MAX)), None);
    assert_eq!(outcome(&nested(TUNNELS_MAX + 1)), Some(FrameOutcome::UnsupportedLink));
}

#[test]
fn media_on_a_tunnel_s_port_stays_media() {
    let rtp = [&[0x80, 8, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4][..], &[0xd5; 160]].concat();
    for port in [4_789, 8_472, 4_790, 6_081, 2_152, 37_008, 1_701, 9_060] {
        let bytes = in_udp(port, &rtp);
        let mut decap = Decap::new();
        let found = decap.frame(&frame(LinkType::Ethernet, &bytes));
        assert!(matches!(found, Decapped::Udp { payload, .. } if payload == rtp), "port {port}");
    }
}
