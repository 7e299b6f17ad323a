//! Builds frames by hand for this folder's tests.
//!
//! Purpose: bytes written from the drawings in the RFCs, independent of the code that reads them.
//! Invariants: lengths are right unless a test says otherwise; checksums are zero.
//! Non-goals: anything outside tests.
//! Sources: RFC 791, RFC 8200, RFC 768, RFC 9293.

use crate::base::{Endpoint, FiveTuple, Frame, LinkType, PacketTime, Protocol};

pub(super) const A: [u8; 4] = [10, 0, 0, 1];
pub(super) const B: [u8; 4] = [10, 0, 0, 2];
pub(super) const UDP: u8 = 17;
pub(super) const TCP: u8 = 6;

pub(super) fn flow(protocol: Protocol) -> FiveTuple {
    FiveTuple { protocol, source: Endpoint::v4(A, 5060), destination: Endpoint::v4(B, 5080) }
}

pub(super) fn frame(link: LinkType, bytes: &[u8]) -> Frame<'_> {
    Frame { time: PacketTime::from_ms(0), link, bytes, wire_len_bytes: len32(bytes) }
}

pub(super) fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// Ports 5060 to 5080.
pub(super) fn udp(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x13, 0xc4, 0x13, 0xd8];
    bytes.extend(len16(8 + payload.len()));
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// Ports 5060 to 5080; `flags`: FIN 1, SYN 2, RST 4.
pub(super) fn tcp(seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x13, 0xc4, 0x13, 0xd8];
    bytes.extend(seq.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x60, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend([1, 1, 1, 0]); // options: three NOPs and the end
    bytes.extend(payload);
    bytes
}

/// What a test may choose of an IPv4 header.
#[derive(Clone, Copy)]
pub(super) struct V4 {
    pub(super) identification: u16,
    pub(super) offset_bytes: usize,
    pub(super) more: bool,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
}

pub(super) const WHOLE: V4 =
    V4 { identification: 7, offset_bytes: 0, more: false, ttl: 64, protocol: UDP };

pub(super) fn v4(header: V4, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(len16(20 + payload.len()));
    bytes.extend(header.identification.to_be_bytes());
    let [high, low] = len16(header.offset_bytes / 8);
    bytes.extend([if header.more { high | 0x20 } else { high }, low]);
    bytes.extend([header.ttl, header.protocol, 0, 0]);
    bytes.extend(A);
    bytes.extend(B);
    bytes.extend(payload);
    bytes
}

pub(super) fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(len16(payload.len()));
    bytes.extend([next_header, 64]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    bytes.extend(payload);
    bytes
}

/// An IPv6 fragment header and its part of the datagram. `field`: the offset in bytes, and M as bit 0.
pub(super) fn v6_part(next: u8, id: u32, field: usize, part: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend(len16(field));
    bytes.extend(id.to_be_bytes());
    bytes.extend(part);
    bytes
}

/// `types`: EtherTypes of the tags, then that of the payload.
pub(super) fn ethernet(types: &[u16], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for (position, number) in types.iter().enumerate() {
        if position > 0 {
            bytes.extend([0, 42]); // the tag before: VLAN 42
        }
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

pub(super) fn cooked(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    bytes.extend(ether_type.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(super) fn cooked2(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ether_type.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
    bytes.extend(payload);
    bytes
}

pub(super) fn loopback(family: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = family.to_vec();
    bytes.extend(payload);
    bytes
}
