//! Takes off what carries mirrored frames over a network.
//!
//! Purpose: from an IP packet to the frame, packet or message inside it: GRE, ERSPAN I to III, VXLAN,
//! Geneve, GTP-U, TZSP, L2TP v2 and v3, IP in IP, 6in4, PPTP, HEP v2 and v3.
//! Invariants: what comes back is a part of what came in; at most `TUNNELS_MAX` are taken off; a
//! datagram on a tunnel's port that does not begin like the tunnel stays an ordinary datagram.
//! Non-goals: control messages, encryption, HEP over TCP (see `hep`), HEP's own time (the capture clock is ours).
//! Sources: RFC 2784, 2890, 2637 (GRE, PPTP); draft-foschiano-erspan-03; RFC 7348 and
//! draft-ietf-nvo3-vxlan-gpe-12; RFC 8926; 3GPP TS 29.281 §5; RFC 2661, 3931; RFC 2003, 4213; TZSP as
//! Wireshark describes it; HEP3 of the Homer project, revision 12.

use super::hep::{HepMessage, hep2, hep3};
use super::ip::{self, IpPacket, PROTOCOL_UDP};
use super::link;
use crate::base::limits::TUNNELS_MAX;
use crate::base::{FiveTuple, FrameOutcome, Reader};

const IP_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const L2TP_V3: u8 = 115;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
/// Transparent Ethernet bridging: an Ethernet frame, in GRE and Geneve.
const TYPE_ETHERNET: u16 = 0x6558;

/// Where the way inwards ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Innermost<'a> {
    /// At a packet that carries no other.
    Packet(IpPacket<'a>),
    /// At a message that an agent took off the wire elsewhere (HEP), as a datagram.
    Message {
        /// Who sent it to whom there.
        flow: FiveTuple,
        /// It.
        payload: &'a [u8],
    },
}

/// What a tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner<'a> {
    Ethernet(&'a [u8]),
    /// By its EtherType.
    Typed(u16, &'a [u8]),
    Message {
        flow: FiveTuple,
        payload: &'a [u8],
    },
}

/// Takes tunnels off a packet, one after the other. A fragment is not looked into.
///
/// # Errors
/// `UnsupportedLink` beyond `TUNNELS_MAX`, and what the inner layers say.
pub(super) fn innermost(mut packet: IpPacket<'_>) -> Result<Innermost<'_>, FrameOutcome> {
    for _ in 0..=TUNNELS_MAX {
        let inner =
            if packet.part.is_none() { inside(packet.protocol, packet.payload) } else { None };
        let missing_bytes = packet.missing_bytes;
        let (network, bytes) = match inner {
            None => return Ok(Innermost::Packet(packet)),
            Some(Inner::Message { flow, payload }) => {
                return Ok(Innermost::Message { flow, payload });
            }
            Some(Inner::Ethernet(frame)) => link::inner_ethernet(frame, missing_bytes)?,
            Some(Inner::Typed(kind, bytes)) => link::inner_typed(kind, bytes, missing_bytes)?,
        };
        packet = ip::packet(network, bytes, missing_bytes)?;
    }
    Err(FrameOutcome::UnsupportedLink)
}

/// True for a protocol of IP that is a tunnel.
pub(super) const fn is_tunnel(protocol: u8) -> bool {
    matches!(protocol, IP_IN_IP | IPV6_IN_IP | GRE | L2TP_V3)
}

/// True when a whole datagram carries another.
pub(super) fn carries_another(protocol: u8, payload: &[u8]) -> bool {
    inside(protocol, payload).is_some()
}

fn inside(protocol: u8, payload: &[u8]) -> Option<Inner<'_>> {
    match protocol {
        PROTOCOL_UDP => udp(payload),
        IP_IN_IP => Some(Inner::Typed(TYPE_IPV4, payload)),
        IPV6_IN_IP => Some(Inner::Typed(TYPE_IPV6, payload)),
        GRE => gre(payload),
        L2TP_V3 => l2tp_v3(payload),
        _ => None,
    }
}

/// By destination port; HEP3 by its first bytes.
fn udp(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    reader.take(2)?;
    let port = reader.u16_be()?;
    let payload = bytes.get(8..)?;
    match port {
        4_789 | 8_472 => vxlan(payload),
        4_790 => vxlan_gpe(payload),
        6_081 => geneve(payload),
        2_152 => gtp_u(payload),
        37_008 => tzsp(payload),
        1_701 => l2tp(payload),
        _ if payload.first() == Some(&b'H') => hep(hep3(payload)),
        9_060 => hep(hep2(payload)),
        _ => None,
    }
}

/// ```text
/// 0 u16 C . K S … A … version   2 u16 protocol   [C] 4 checksum   [K] 4 key   [S] 4   [A] 4
/// ```
fn gre(bytes: &[u8]) -> Option<Inner<'_>> {
    const ROUTING: u16 = 0x4000;
    let mut reader = Reader::new(bytes);
    let (flags, kind) = (reader.u16_be()?, reader.u16_be()?);
    if flags & ROUTING != 0 || flags & 7 > 1 {
        return None;
    }
    let is_pptp = flags & 7 == 1;
    let optional = [0x8000, 0x2000, 0x1000, if is_pptp { 0x0080 } else { 0 }];
    for _ in optional.into_iter().filter(|bit| flags & bit != 0) {
        reader.take(4)?;
    }
    let has_sequence = flags & 0x1000 != 0;
    match kind {
        TYPE_ETHERNET => Some(Inner::Ethernet(reader.rest())),
        // ERSPAN I has no header of its own, and no sequence number in GRE's; II has both.
        0x88be if !has_sequence => Some(Inner::Ethernet(reader.rest())),
        0x88be => {
            reader.take(8)?;
            Some(Inner::Ethernet(reader.rest()))
        }
        0x22eb => erspan_3(reader),
        0x880b => ppp(reader.rest()),
        kind => Some(Inner::Typed(kind, reader.rest())),
    }
}

/// ```text
/// 0 [10] version, VLAN, COS, session, timestamp, SGT   10 P:1 FT:5 Hw:2   11 Hw:4 D:1 Gra:2 O:1
/// 12 [8] with O: platform-specific
/// ```
fn erspan_3(mut reader: Reader<'_>) -> Option<Inner<'_>> {
    const FRAME_IS_IP: u8 = 2;
    let [.., kind, options] = reader.array::<12>()?;
    if options & 1 != 0 {
        reader.take(8)?;
    }
    match (kind >> 2) & 0x1f {
        FRAME_IS_IP => by_version(reader.rest()),
        _ => Some(Inner::Ethernet(reader.rest())),
    }
}

/// ```text
/// 0 u8 flags: 8 = VNI valid   1 [3]   4 [3] VNI   7 u8 zero
/// ```
fn vxlan(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    let [flags, .., reserved] = reader.array::<8>()?;
    // 0x80: a group policy id stands in bytes 2 and 3.
    let is_vxlan = matches!(flags, 0x08 | 0x88) && reserved == 0;
    is_vxlan.then_some(Inner::Ethernet(reader.rest()))
}

fn vxlan_gpe(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    let [flags, _, _, next, .., reserved] = reader.array::<8>()?;
    if flags & 0xcc != 0x0c || reserved != 0 {
        return None;
    }
    match next {
        1 => Some(Inner::Typed(TYPE_IPV4, reader.rest())),
        2 => Some(Inner::Typed(TYPE_IPV6, reader.rest())),
        3 => Some(Inner::Ethernet(reader.rest())),
        _ => None,
    }
}

/// ```text
/// 0 version:2 options:6 (× 4 bytes)   1 O C …   2 u16 protocol   4 [3] VNI   7 u8 zero   8 options
/// ```
fn geneve(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    let [first, flags, high, low, .., reserved] = reader.array::<8>()?;
    if first >> 6 != 0 || flags & 0x3f != 0 || reserved != 0 {
        return None;
    }
    reader.take(usize::from(first & 0x3f) * 4)?;
    match u16::from_be_bytes([high, low]) {
        TYPE_ETHERNET => Some(Inner::Ethernet(reader.rest())),
        kind => Some(Inner::Typed(kind, reader.rest())),
    }
}

/// ```text
/// 0 version:3 PT:1 0 E S PN   1 u8 255 = G-PDU   2 u16 length   4 u32 TEID
/// 8 with E, S or PN: u16 sequence, u8 N-PDU, u8 next; extensions: u8 length (× 4), …, u8 next
/// ```
fn gtp_u(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    let [first, kind, high, low, ..] = reader.array::<8>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if first & 0xf0 != 0x30 || kind != 0xff || length > bytes.len().saturating_sub(8) {
        return None;
    }
    if first & 0x07 != 0 {
        let [.., mut next] = reader.array::<4>()?;
        while next != 0 {
            let len = usize::from(reader.u8()?) * 4;
            let extension = reader.take(len.checked_sub(1)?)?;
            next = *extension.last()?;
        }
    }
    by_version(reader.rest())
}

/// ```text
/// 0 u8 1   1 u8 type: 0, 1 = a packet   2 u16 1 = Ethernet   4 tags: 0 padding, 1 end, else u8 length
/// ```
fn tzsp(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    let [version, kind, high, low] = reader.array::<4>()?;
    if version != 1 || kind > 1 || [high, low] != [0, 1] {
        return None;
    }
    loop {
        match reader.u8()? {
            0 => {}
            1 => return Some(Inner::Ethernet(reader.rest())),
            _ => {
                let len = reader.u8()?;
                reader.take(usize::from(len))?;
            }
        }
    }
}

/// ```text
/// 0 u16 T L . . S . O P … version   [L] u16 length   u16 tunnel   u16 session   [S] 4   [O] u16 + pad
/// ```
fn l2tp(bytes: &[u8]) -> Option<Inner<'_>> {
    const CONTROL: u16 = 0x8000;
    let mut reader = Reader::new(bytes);
    let flags = reader.u16_be()?;
    if flags & CONTROL != 0 {
        return None;
    }
    match flags & 0x0f {
        2 => {
            if flags & 0x4000 != 0 {
                reader.take(2)?;
            }
            reader.take(4)?;
            if flags & 0x0800 != 0 {
                reader.take(4)?;
            }
            if flags & 0x0200 != 0 {
                let pad = reader.u16_be()?;
                reader.take(usize::from(pad))?;
            }
            ppp(reader.rest())
        }
        3 => {
            reader.take(2)?;
            l2tp_v3(reader.rest())
        }
        _ => None,
    }
}

/// A session id, then a cookie and a sublayer whose lengths only the two ends know: the first place
/// where an Ethernet frame with IP in it can begin is taken.
fn l2tp_v3(bytes: &[u8]) -> Option<Inner<'_>> {
    let mut reader = Reader::new(bytes);
    if reader.u32_be()? == 0 {
        return None; // a control message
    }
    let rest = reader.rest();
    let at = [0, 4, 8, 12].into_iter().find(|at| rest.get(*at..).is_some_and(begins_ethernet))?;
    rest.get(at..).map(Inner::Ethernet)
}

fn begins_ethernet(bytes: &[u8]) -> bool {
    let kind = bytes.get(12..14);
    let version = bytes.get(14).map(|first| first >> 4);
    match kind {
        Some([0x08, 0x00]) => version == Some(4),
        Some([0x86, 0xdd]) => version == Some(6),
        Some([0x81, 0x00]) => true,
        _ => false,
    }
}

/// PPP, perhaps with address and control, perhaps with its protocol in one byte.
pub(super) fn ppp_type(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let bytes = bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes);
    let mut reader = Reader::new(bytes);
    let first = reader.u8()?;
    let protocol =
        if first & 1 == 1 { u16::from(first) } else { u16::from_be_bytes([first, reader.u8()?]) };
    match protocol {
        0x0021 => Some((TYPE_IPV4, reader.rest())),
        0x0057 => Some((TYPE_IPV6, reader.rest())),
        0x0281 => Some((link::TYPE_MPLS, reader.rest())),
        _ => None,
    }
}

fn ppp(bytes: &[u8]) -> Option<Inner<'_>> {
    ppp_type(bytes).map(|(kind, bytes)| Inner::Typed(kind, bytes))
}

fn by_version(bytes: &[u8]) -> Option<Inner<'_>> {
    match bytes.first()? >> 4 {
        4 => Some(Inner::Typed(TYPE_IPV4, bytes)),
        6 => Some(Inner::Typed(TYPE_IPV6, bytes)),
        _ => None,
    }
}

fn hep(message: Option<HepMessage<'_>>) -> Option<Inner<'_>> {
    message.map(|HepMessage { flow, payload, .. }| Inner::Message { flow, payload })
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
