//! The bundled call, as a mirror sends it over a network: the same recording comes out.
//!
//! Purpose: hold every encapsulation against the call as it was captured, from file to exported bytes.
//! Invariants: each tunnel's header is written here by hand, from its specification.
//! Non-goals: fields and faults of each tunnel (see `net::tunnel`).
//! Sources: as `net::tunnel`; LINKTYPE_ETHERNET; the pcap file format.

mod robust_common;

use robust_common::{Case, phones};

/// Ethernet, IPv4 and, for `protocol` 17, UDP to `port`, around a payload.
fn carried(protocol: u8, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut inner = Vec::new();
    if protocol == 17 {
        let len = u16::try_from(8 + payload.len()).expect("short");
        inner.extend([0xc0, 0x00]);
        inner.extend(port.to_be_bytes());
        inner.extend(len.to_be_bytes());
        inner.extend([0, 0]);
    }
    inner.extend(payload);
    let len = u16::try_from(20 + inner.len()).expect("short");
    let mut bytes = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x08, 0x00, 0x45, 0];
    bytes.extend(len.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    bytes.extend(inner);
    bytes
}

/// A frame behind other addresses and an EtherType.
fn announced(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8];
    bytes.extend(ether_type.to_be_bytes());
    bytes.extend(payload);
    bytes
}

type Wrap = fn(&[u8]) -> Vec<u8>;

fn behind(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, body].concat()
}

/// Each takes a whole Ethernet frame that carries IPv4.
const WRAPS: [(&str, Wrap); 17] = [
    ("llc/snap", |frame| {
        let length = u16::try_from(8 + frame.len() - 14).expect("short");
        announced(length, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &frame[14..]].concat())
    }),
    ("mpls", |frame| announced(0x8847, &behind(&[0, 1, 0, 64, 0, 2, 1, 64], &frame[14..]))),
    ("pseudowire", |frame| announced(0x8847, &behind(&[0, 2, 1, 64, 0, 0, 0, 0], frame))),
    ("pppoe", |frame| announced(0x8864, &behind(&[0x11, 0, 0, 1, 0, 0, 0, 0x21], &frame[14..]))),
    ("ip in ip", |frame| carried(4, 0, &frame[14..])),
    ("gre", |frame| carried(47, 0, &behind(&[0, 0, 8, 0], &frame[14..]))),
    ("erspan 1", |frame| carried(47, 0, &behind(&[0, 0, 0x88, 0xbe], frame))),
    ("erspan 2", |frame| {
        let head = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 1, 0, 0, 0, 2];
        carried(47, 0, &behind(&head, frame))
    }),
    ("erspan 3", |frame| {
        let head = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        carried(47, 0, &behind(&head, frame))
    }),
    ("vxlan", |frame| carried(17, 4_789, &behind(&[8, 0, 0, 0, 0, 0, 7, 0], frame))),
    ("vxlan-gpe", |frame| carried(17, 4_790, &behind(&[0x0c, 0, 0, 1, 0, 0, 7, 0], &frame[14..]))),
    ("geneve", |frame| carried(17, 6_081, &behind(&[0, 0, 0x65, 0x58, 0, 0, 7, 0], frame))),
    ("gtp-u", |frame| {
        let [high, low] = u16::try_from(frame.len() - 14).expect("short").to_be_bytes();
        carried(17, 2_152, &behind(&[0x30, 0xff, high, low, 0, 0, 0, 7], &frame[14..]))
    }),
    ("tzsp", |frame| carried(17, 37_008, &behind(&[1, 0, 0, 1, 10, 1, 99, 1], frame))),
    ("l2tp", |frame| {
        carried(17, 1_701, &behind(&[0, 2, 0, 1, 0, 2, 0xff, 3, 0, 0x21], &frame[14..]))
    }),
    ("l2tp v3", |frame| carried(115, 0, &behind(&[0, 0, 0, 9, 1, 2, 3, 4], frame))),
    ("vlan, vxlan, gre", |frame| {
        let gre = carried(47, 0, &behind(&[0, 0, 0x65, 0x58], frame));
        let vxlan = carried(17, 4_789, &behind(&[8, 0, 0, 0, 0, 0, 7, 0], &gre));
        announced(0x8100, &[&[0, 42, 8, 0][..], &vxlan[14..]].concat())
    }),
];

/// The capture with each IPv4 frame wrapped: a classic pcap file, little-endian.
fn wrapped(capture: &[u8], wrap: Wrap) -> Vec<u8> {
    let (head, mut rest) = capture.split_at(24);
    assert_eq!(head[..3], [0xd4, 0xc3, 0xb2], "a little-endian capture");
    let mut out = head.to_vec();
    // The snap length has to hold what is longer now.
    out[16..20].copy_from_slice(&262_144_u32.to_le_bytes());
    while let Some((record, behind)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes(record[8..12].try_into().expect("4 bytes")) as usize;
        let (frame, next) = behind.split_at(len);
        rest = next;
        let is_ip = frame[12..14] == [8, 0];
        let frame = if is_ip { wrap(frame) } else { frame.to_vec() };
        let len = u32::try_from(frame.len()).expect("short").to_le_bytes();
        out.extend([&record[..8], &len, &len, &frame].concat());
    }
    out
}

/// The call as it is listed, and its exported bytes.
fn recorded(capture: &[u8]) -> (String, Vec<u8>) {
    let case = Case::new();
    let path = case.write("call.pcap", capture);
    let done = case.run(["replay".as_ref(), path.as_os_str()]);
    assert_eq!(done.status, Some(0), "{done:?}");
    let call = case.only_call();
    let id = call["id"].as_str().expect("an id").to_owned();
    let done = case.run(["export", id.as_str(), "--format", "opus", "--output", "call.opus"]);
    assert_eq!(done.status, Some(0), "{done:?}");
    (call.to_string(), std::fs::read(case.path("call.opus")).expect("exported"))
}

#[test]
fn the_call_is_the_same_in_every_tunnel() {
    let capture = std::fs::read(phones()).expect("the bundled capture");
    let (listed, sound) = recorded(&capture);
    for (name, wrap) in WRAPS {
        let (there, heard) = recorded(&wrapped(&capture, wrap));
        assert_eq!(there, listed, "{name}");
        assert!(heard == sound, "{name}: the exported bytes differ");
    }
}
