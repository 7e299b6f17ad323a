//! Takes off the link layer.
//!
//! Purpose: find the IP header behind Ethernet, VLAN tags, Linux cooked, loopback or nothing.
//! Invariants: what comes back is a tail of what came in; at most `VLAN_TAGS_MAX` tags are read.
//! Non-goals: LLC/SNAP, MPLS and PPPoE, which end as `not_voip`; the trailer (IP's length cuts it).
//! Sources: IEEE 802.3, 802.1Q, 802.1ad; LINKTYPE_NULL, _LOOP, _LINUX_SLL, _LINUX_SLL2 of tcpdump.org.

use crate::base::limits::VLAN_TAGS_MAX;
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
        LinkType::Ethernet => ethernet(frame.bytes),
        LinkType::RawIp => Some(Ok((Network::ByVersion, frame.bytes))),
        LinkType::Null => loopback(frame.bytes, Order::Either),
        LinkType::Loop => loopback(frame.bytes, Order::Network),
        LinkType::LinuxCooked => cooked(frame.bytes),
        LinkType::LinuxCooked2 => cooked2(frame.bytes),
        LinkType::Other(_) => return Err(FrameOutcome::UnsupportedLink),
    };
    found.unwrap_or(Err(if missing_bytes(frame) > 0 {
        FrameOutcome::CutShort
    } else {
        FrameOutcome::MalformedLink
    }))
}

/// Bytes of the frame that the capture did not keep.
pub(super) fn missing_bytes(frame: &Frame<'_>) -> usize {
    usize::try_from(frame.wire_len_bytes).unwrap_or(usize::MAX).saturating_sub(frame.bytes.len())
}

/// `None`: the bytes end within a header.
type Found<'a> = Option<Result<(Network, &'a [u8]), FrameOutcome>>;

fn ethernet(bytes: &[u8]) -> Found<'_> {
    let header = Ethernet2HeaderSlice::from_slice(bytes).ok()?;
    by_ether_type(header.ether_type(), bytes.get(header.slice().len()..)?)
}

/// Follows VLAN tags to the IP header. A number up to 1 500 is an 802.3 length: LLC follows.
fn by_ether_type(mut announced: EtherType, mut bytes: &[u8]) -> Found<'_> {
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
            _ => return Some(Err(FrameOutcome::NotVoip)),
        }
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
        _ => by_ether_type(EtherType(u16::from_be_bytes(announced)), rest),
    }
}
