//! Takes off the link layer.
//!
//! Purpose: find the IP header behind Ethernet, VLAN tags, MPLS, PPPoE, Linux cooked, loopback or nothing.
//! Invariants: what comes back is a tail of what came in; at most `VLAN_TAGS_MAX` tags,
//! `MPLS_LABELS_MAX` labels and `TUNNELS_MAX` frames within frames are read.
//! Non-goals: LLC without SNAP, which ends as `not_voip`; the trailer (IP's length cuts it).
//! Sources: IEEE 802.3, 802.2, 802.1Q, 802.1ad; RFC 1042 (SNAP); RFC 3032, 4385, 4448 (MPLS); RFC 2516 (PPPoE); LINKTYPE_NULL, _LOOP, _LINUX_SLL, _LINUX_SLL2 of tcpdump.org.

use super::tunnel::ppp_type;
use crate::base::limits::{MPLS_LABELS_MAX, TUNNELS_MAX, VLAN_TAGS_MAX};
use crate::base::{Frame, FrameOutcome, LinkType, Reader};
use etherparse::{EtherType, Ethernet2HeaderSlice, SingleVlanHeaderSlice, ether_type};

/// Which IP the link layer announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    Ipv4,
    Ipv6,
    /// The first nibble decides.
    ByVersion,
}

/// The IP packet of a frame (with whatever trails it) and what it was announced as.
///
/// # Errors
/// `MalformedLink` or `CutShort` when a header is not whole, `NotVoip` when it is not IP,
/// `UnsupportedLink` for link types and tag depths that are not read here.
pub(super) fn network<'a>(frame: &Frame<'a>) -> Result<(Network, &'a [u8]), FrameOutcome> {
    let found = match frame.link {
        LinkType::Ethernet => ethernet(frame.bytes, TUNNELS_MAX),
        LinkType::RawIp => Some(Ok((Network::ByVersion, frame.bytes))),
        LinkType::Null => loopback(frame.bytes, Order::Either),
        LinkType::Loop => loopback(frame.bytes, Order::Network),
        LinkType::LinuxCooked => cooked(frame.bytes),
        LinkType::LinuxCooked2 => cooked2(frame.bytes),
        LinkType::Hep | LinkType::Other(_) => return Err(FrameOutcome::UnsupportedLink),
    };
    found.unwrap_or_else(|| Err(incomplete(missing_bytes(frame))))
}

/// The same for an Ethernet frame in a tunnel, of which the capture cut off `missing_bytes`.
///
/// # Errors
/// As `network`.
pub(super) fn inner_ethernet(
    bytes: &[u8],
    missing_bytes: usize,
) -> Result<(Network, &[u8]), FrameOutcome> {
    ethernet(bytes, TUNNELS_MAX).unwrap_or_else(|| Err(incomplete(missing_bytes)))
}

/// The same for what a tunnel announces by an EtherType.
///
/// # Errors
/// As `network`.
pub(super) fn inner_typed(
    kind: u16,
    bytes: &[u8],
    missing_bytes: usize,
) -> Result<(Network, &[u8]), FrameOutcome> {
    let found = by_ether_type(EtherType(kind), bytes, TUNNELS_MAX);
    found.unwrap_or_else(|| Err(incomplete(missing_bytes)))
}

const fn incomplete(missing_bytes: usize) -> FrameOutcome {
    if missing_bytes > 0 { FrameOutcome::CutShort } else { FrameOutcome::MalformedLink }
}

/// Bytes of the frame that the capture did not keep.
pub(super) fn missing_bytes(frame: &Frame<'_>) -> usize {
    usize::try_from(frame.wire_len_bytes).unwrap_or(usize::MAX).saturating_sub(frame.bytes.len())
}

/// `None`: the bytes end within a header.
type Found<'a> = Option<Result<(Network, &'a [u8]), FrameOutcome>>;

/// `depth`: how many more frames within this one are looked into.
fn ethernet(bytes: &[u8], depth: usize) -> Found<'_> {
    let header = Ethernet2HeaderSlice::from_slice(bytes).ok()?;
    by_ether_type(header.ether_type(), bytes.get(header.slice().len()..)?, depth)
}

/// Follows VLAN tags to the IP header. A number up to 1 500 is an 802.3 length: LLC follows.
fn by_ether_type(mut announced: EtherType, mut bytes: &[u8], depth: usize) -> Found<'_> {
    for _ in 0..=VLAN_TAGS_MAX {
        match announced {
            ether_type::IPV4 => return Some(Ok((Network::Ipv4, bytes))),
            ether_type::IPV6 => return Some(Ok((Network::Ipv6, bytes))),
            ether_type::VLAN_TAGGED_FRAME
            | ether_type::PROVIDER_BRIDGING
            | ether_type::VLAN_DOUBLE_TAGGED_FRAME => {
                let tag = SingleVlanHeaderSlice::from_slice(bytes).ok()?;
                announced = tag.ether_type();
                bytes = bytes.get(tag.slice().len()..)?;
            }
            EtherType(TYPE_MPLS | 0x8848) => return mpls(bytes, depth),
            EtherType(0x8864) => {
                // 6 bytes of PPPoE: version, code, session, length.
                let session = bytes.get(6..)?;
                return match ppp_type(session) {
                    Some((kind, inner)) if depth > 0 => {
                        by_ether_type(EtherType(kind), inner, depth - 1)
                    }
                    _ => Some(Err(FrameOutcome::NotVoip)),
                };
            }
            EtherType(..=LLC_LENGTH_MAX) => match snap_type(bytes) {
                Some((kind, inner)) => (announced, bytes) = (EtherType(kind), inner),
                None => return Some(Err(FrameOutcome::NotVoip)),
            },
            _ => return Some(Err(FrameOutcome::NotVoip)),
        }
    }
    Some(Err(FrameOutcome::UnsupportedLink))
}

/// The largest number in an EtherType's place that is a length (IEEE 802.3 §3.2.6).
const LLC_LENGTH_MAX: u16 = 1_500;

/// ```text
/// 0 u8 0xaa DSAP   1 u8 0xaa SSAP   2 u8 3 unnumbered   3 [3] organisation: zero, or 00 00 f8   6 u16 EtherType
/// ```
///
/// `None`: another LLC (spanning tree, IS-IS), another organisation's protocol, or not whole.
fn snap_type(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut reader = Reader::new(bytes);
    let head = reader.array::<6>()?;
    let kind = reader.u16_be()?;
    let is_snap = matches!(head, [0xaa, 0xaa, 3, 0, 0, 0 | 0xf8]);
    (is_snap && kind > LLC_LENGTH_MAX).then_some((kind, reader.rest()))
}

/// MPLS unicast.
pub(super) const TYPE_MPLS: u16 = 0x8847;

/// Nothing in a label says what it carries: IP shows its version; a pseudowire begins with a control
/// word, whose first four bits are zero, or at once with an Ethernet frame.
fn mpls(bytes: &[u8], depth: usize) -> Found<'_> {
    let mut reader = Reader::new(bytes);
    for _ in 0..MPLS_LABELS_MAX {
        let [_, _, label_end, _] = reader.array::<4>()?;
        if label_end & 1 == 0 {
            continue;
        }
        let inner = reader.rest();
        return match (inner.first()? >> 4, depth) {
            (4 | 6, _) => Some(Ok((Network::ByVersion, inner))),
            (_, 0) => Some(Err(FrameOutcome::UnsupportedLink)),
            (0, _) => ethernet(inner.get(4..)?, depth - 1),
            _ => ethernet(inner, depth - 1),
        };
    }
    Some(Err(FrameOutcome::UnsupportedLink))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Network,
    Either,
}

/// A 4-byte address family. AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 23 on Windows, 24 on
/// NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
fn loopback(bytes: &[u8], order: Order) -> Found<'_> {
    let mut reader = Reader::new(bytes);
    let written = reader.u32_be()?;
    let family = match order {
        Order::Either if written > 0xffff => written.swap_bytes(),
        _ => written,
    };
    Some(match family {
        2 => Ok((Network::Ipv4, reader.rest())),
        10 | 23 | 24 | 28 | 30 => Ok((Network::Ipv6, reader.rest())),
        _ => Err(FrameOutcome::NotVoip),
    })
}

/// ```text
/// 0 u16 direction   2 u16 ARPHRD   4 u16 address length   6 [8] address   14 u16 EtherType
/// ```
fn cooked(bytes: &[u8]) -> Found<'_> {
    let mut reader = Reader::new(bytes);
    let header = reader.array::<16>()?;
    let [_, _, hardware_high, hardware_low, .., type_high, type_low] = header;
    by_hardware([hardware_high, hardware_low], [type_high, type_low], reader.rest())
}

/// ```text
/// 0 u16 EtherType   2 u16 zero   4 u32 interface   8 u16 ARPHRD   10 u8 direction
/// 11 u8 address length   12 [8] address
/// ```
fn cooked2(bytes: &[u8]) -> Found<'_> {
    let mut reader = Reader::new(bytes);
    let announced = reader.array::<2>()?;
    reader.take(6)?;
    let hardware = reader.array::<2>()?;
    reader.take(10)?;
    by_hardware(hardware, announced, reader.rest())
}

/// For netlink, GRE and radiotap devices the type field is not an EtherType.
fn by_hardware(hardware: [u8; 2], announced: [u8; 2], rest: &[u8]) -> Found<'_> {
    const NETLINK: u16 = 824;
    const IPGRE: u16 = 778;
    const RADIOTAP: u16 = 803;
    match u16::from_be_bytes(hardware) {
        NETLINK | IPGRE | RADIOTAP => Some(Err(FrameOutcome::NotVoip)),
        _ => by_ether_type(EtherType(u16::from_be_bytes(announced)), rest, TUNNELS_MAX),
    }
}
