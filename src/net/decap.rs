//! One frame in, at most one transport payload out.
//!
//! Purpose: the way of a frame through link, tunnels, IP, duplicates, fragments and transport, in one
//! place.
//! Invariants: every frame ends in exactly one [`Decapped`]; an unfragmented one costs no allocation.
//! Non-goals: deciding what a payload is, and what to do with a repeated one (the front does).
//! Sources: RFC 791, RFC 8200, RFC 768, RFC 9293.
//!
//! Duplicates are looked for in the innermost packet, whatever carried it: a frame that is mirrored once
//! as it is and once through a tunnel is one frame. A tunnel's packet that the way fragmented is put
//! together first, and then looked into once more.

use super::duplicates::{DuplicateWindow, Sighting};
use super::fragments::{Added, DatagramKey, Fragment, Fragments};
use super::hep;
use super::ip::{self, IpPacket, PROTOCOL_TCP, PROTOCOL_UDP, Part, Version};
use super::link;
use super::transport::{self, Addresses, TcpSegment, Transport};
use super::tunnel::{self, Innermost};
use crate::base::{FiveTuple, Frame, FrameOutcome, LinkType, PacketTime};

/// Takes frames of one ring apart. Owns its unfinished datagrams and its duplicate window.
#[derive(Debug)]
pub struct Decap {
    duplicates: DuplicateWindow,
    fragments: Fragments,
    /// A tunnel's packet that was put together of fragments.
    tunnelled: Vec<u8>,
}

/// What a frame carried, or its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decapped<'a> {
    /// A UDP datagram.
    Udp {
        /// Who to whom.
        flow: FiveTuple,
        /// UDP payload, as much as was captured; may be empty.
        payload: &'a [u8],
        /// Whether the same frame came a moment before.
        sighting: Sighting,
        /// Whether `payload` is all of it.
        cut: Cut,
    },
    /// A TCP segment.
    Tcp {
        /// Who to whom.
        flow: FiveTuple,
        /// The segment.
        segment: TcpSegment<'a>,
        /// Whether the same frame came a moment before.
        sighting: Sighting,
    },
    /// Nothing to hand on: the frame's outcome is decided.
    Done(FrameOutcome),
}

/// Whether a payload is as long as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is.
    Whole,
    /// The capture's snap length cut it; what is there is its beginning.
    Short,
}

impl Default for Decap {
    fn default() -> Self {
        Self::new()
    }
}

impl Decap {
    /// Allocates the duplicate window (2 MiB).
    #[must_use]
    pub fn new() -> Self {
        let (duplicates, fragments) = (DuplicateWindow::new(), Fragments::new());
        Self { duplicates, fragments, tunnelled: Vec::new() }
    }

    /// Takes one frame apart. The fragment that completes a datagram yields the datagram.
    pub fn frame<'a>(&'a mut self, frame: &Frame<'a>) -> Decapped<'a> {
        self.steps(frame).unwrap_or_else(Decapped::Done)
    }

    /// Gives up fragments that are too old, and returns how many frames have to be moved from
    /// `Fragment` to `FragmentDropped`: see [`Self::take_dropped`].
    pub fn expire(&mut self, now: PacketTime) -> u64 {
        self.fragments.expire(now);
        self.take_dropped()
    }

    /// Frames that were counted `Fragment` when they came and whose datagram was given up since the
    /// last call: they have to be moved to `FragmentDropped`.
    pub fn take_dropped(&mut self) -> u64 {
        self.fragments.take_dropped()
    }

    /// Bytes held in unfinished datagrams.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.fragments.held_bytes()
    }

    fn steps<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Decapped<'a>, FrameOutcome> {
        if frame.link == LinkType::Hep {
            let message = hep::parse(frame.bytes).ok_or(FrameOutcome::MalformedLink)?;
            let (flow, payload) = (message.flow, message.payload);
            return Ok(Decapped::Udp { flow, payload, sighting: Sighting::First, cut: Cut::Whole });
        }
        let (network, bytes) = link::network(frame)?;
        let outermost = ip::packet(network, bytes, link::missing_bytes(frame))?;
        let Self { duplicates, fragments, tunnelled } = self;
        let (packet, part, sighting) = match inwards(duplicates, outermost, frame.time)? {
            Inwards::Whole(decapped) => return Ok(decapped),
            Inwards::Part(packet, part, sighting) => (packet, part, sighting),
        };
        let first = complete(fragments, &packet, part, frame.time)?;
        let (protocol, datagram) = whole(fragments, packet.version, first)?;
        if !tunnel::carries_another(protocol, datagram) {
            let (protocol, payload) = whole(fragments, packet.version, first)?;
            return transported(&IpPacket { protocol, payload, part: None, ..packet }, sighting);
        }
        tunnelled.clear();
        tunnelled.extend_from_slice(datagram);
        let carrier = IpPacket { protocol, payload: tunnelled, part: None, ..packet };
        let (packet, part, sighting) = match inwards(duplicates, carrier, frame.time)? {
            Inwards::Whole(decapped) => return Ok(decapped),
            Inwards::Part(packet, part, sighting) => (packet, part, sighting),
        };
        let first = complete(fragments, &packet, part, frame.time)?;
        let (protocol, payload) = whole(fragments, packet.version, first)?;
        transported(&IpPacket { protocol, payload, part: None, ..packet }, sighting)
    }
}

/// Where a packet leads without its other fragments.
enum Inwards<'a> {
    Whole(Decapped<'a>),
    Part(IpPacket<'a>, Part, Sighting),
}

/// Takes tunnels off, and looks for duplicates of what is innermost.
fn inwards<'a>(
    duplicates: &mut DuplicateWindow,
    carrier: IpPacket<'a>,
    now: PacketTime,
) -> Result<Inwards<'a>, FrameOutcome> {
    let packet = match tunnel::innermost(carrier)? {
        Innermost::Packet(packet) => packet,
        Innermost::Message { flow, payload } => {
            let sighting = duplicates.sight(&carrier, now);
            let cut = if carrier.missing_bytes > 0 { Cut::Short } else { Cut::Whole };
            return Ok(Inwards::Whole(Decapped::Udp { flow, payload, sighting, cut }));
        }
    };
    if !may_carry_transport(&packet) {
        return Err(FrameOutcome::NotVoip);
    }
    let sighting = duplicates.sight(&packet, now);
    match packet.part {
        None => transported(&packet, sighting).map(Inwards::Whole),
        Some(_) if sighting == Sighting::Repeated => Err(FrameOutcome::Duplicate),
        Some(part) => Ok(Inwards::Part(packet, part, sighting)),
    }
}

fn transported<'a>(
    packet: &IpPacket<'a>,
    sighting: Sighting,
) -> Result<Decapped<'a>, FrameOutcome> {
    let addresses = Addresses { source: packet.source, destination: packet.destination };
    let missing_bytes = packet.missing_bytes;
    let transport =
        transport::transport(addresses, packet.protocol, packet.payload, missing_bytes)?;
    Ok(match transport {
        Transport::Udp { flow, payload, missing_bytes } => {
            let cut = if missing_bytes > 0 { Cut::Short } else { Cut::Whole };
            Decapped::Udp { flow, payload, sighting, cut }
        }
        Transport::Tcp { flow, segment } => Decapped::Tcp { flow, segment, sighting },
    })
}

/// Takes a fragment; the protocol of the datagram's first header if it completes one.
#[cold]
fn complete(
    fragments: &mut Fragments,
    packet: &IpPacket<'_>,
    part: Part,
    now: PacketTime,
) -> Result<u8, FrameOutcome> {
    let key = DatagramKey {
        source: packet.source,
        destination: packet.destination,
        version: packet.version,
        identification: packet.identification,
        protocol: match packet.version {
            Version::V4 => packet.protocol,
            Version::V6 => 0,
        },
    };
    let fragment = Fragment { part, protocol: packet.protocol, payload: packet.payload };
    match fragments.add(key, fragment, now) {
        Added::Held => Err(FrameOutcome::Fragment),
        Added::Dropped => Err(FrameOutcome::FragmentDropped),
        Added::Whole { protocol } => Ok(protocol),
    }
}

/// The datagram that was completed last, and its protocol; `first`: what `complete` returned.
fn whole(fragments: &Fragments, version: Version, first: u8) -> Result<(u8, &[u8]), FrameOutcome> {
    let datagram = fragments.whole();
    match version {
        Version::V4 => Ok((first, datagram)),
        Version::V6 => {
            let upper = ip::upper_layer(first, datagram, 0)?;
            if upper.part.is_some() {
                return Err(FrameOutcome::MalformedIp);
            }
            Ok((upper.protocol, upper.payload))
        }
    }
}

/// A fragment of IPv6 may begin with an extension header, and later ones repeat its number.
fn may_carry_transport(packet: &IpPacket<'_>) -> bool {
    let is_part = packet.part.is_some();
    let fragment_of_v6 = packet.version == Version::V6 && is_part;
    let fragment_of_tunnel = is_part && tunnel::is_tunnel(packet.protocol);
    matches!(packet.protocol, PROTOCOL_UDP | PROTOCOL_TCP) || fragment_of_v6 || fragment_of_tunnel
}

#[cfg(test)]
mod tests {
    use super::super::frames::{self, V4, WHOLE, frame};
    use super::*;
    use crate::base::Protocol;
    use crate::base::limits::{DUPLICATE_WINDOW_MS, FRAGMENT_TIMEOUT_MS, IPV6_EXTENSIONS_MAX};

    const HELLO: &[u8] = b"hello, tap";

    /// Every link type around one UDP datagram, of both IP versions where the link tells.
    fn links() -> Vec<(LinkType, Vec<u8>)> {
        let four = frames::v4(WHOLE, &frames::udp(HELLO));
        let six = frames::v6(frames::UDP, &frames::udp(HELLO));
        vec![
            (LinkType::Ethernet, frames::ethernet(&[0x0800], &four)),
            (LinkType::Ethernet, frames::ethernet(&[0x86dd], &six)),
            (LinkType::Ethernet, frames::ethernet(&[0x8100, 0x0800], &four)),
            (LinkType::Ethernet, frames::ethernet(&[0x88a8, 0x8100, 0x0800], &four)),
            (LinkType::Ethernet, frames::ethernet(&[0x9100, 0x88a8, 0x8100, 0x8100, 0x86dd], &six)),
            (LinkType::RawIp, four.clone()),
            (LinkType::RawIp, six.clone()),
            (LinkType::LinuxCooked, frames::cooked(0x0800, &four)),
            (LinkType::LinuxCooked2, frames::cooked2(0x86dd, &six)),
            (LinkType::Null, frames::loopback([2, 0, 0, 0], &four)),
            (LinkType::Null, frames::loopback([0, 0, 0, 30], &six)),
            (LinkType::Loop, frames::loopback([0, 0, 0, 2], &four)),
            (LinkType::Loop, frames::loopback([0, 0, 0, 24], &six)),
        ]
    }

    fn payload_of(link: LinkType, bytes: &[u8]) -> Result<Vec<u8>, FrameOutcome> {
        match Decap::new().frame(&frame(link, bytes)) {
            Decapped::Udp { payload, cut: Cut::Whole, .. } => Ok(payload.to_vec()),
            Decapped::Done(outcome) => Err(outcome),
            other => panic!("{other:?}"),
        }
    }

    fn raw(bytes: &[u8]) -> Result<Vec<u8>, FrameOutcome> {
        payload_of(LinkType::RawIp, bytes)
    }

    #[test]
    fn every_link_type_yields_the_datagram_without_the_padding_behind_it() {
        for (link, bytes) in links() {
            assert_eq!(payload_of(link, &bytes).as_deref(), Ok(HELLO), "{link:?}");
            let padded = [&bytes[..], &[0xee; 9]].concat();
            assert_eq!(payload_of(link, &padded).as_deref(), Ok(HELLO), "{link:?} padded");
        }
    }

    #[test]
    fn a_frame_that_ends_too_early_is_malformed_at_every_length() {
        for (link, bytes) in links() {
            for len in 0..bytes.len() {
                let outcome = payload_of(link, &bytes[..len]).expect_err("not whole");
                assert!(
                    matches!(outcome, FrameOutcome::MalformedLink | FrameOutcome::MalformedIp),
                    "{link:?} at {len}: {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn a_frame_cut_by_the_capture_yields_what_is_there_or_is_cut_short() {
        for (link, bytes) in links() {
            let header_len_bytes = bytes.len() - HELLO.len();
            for len in 0..bytes.len() {
                let mut decap = Decap::new();
                let whole = frame(link, &bytes);
                let cut_frame = Frame { bytes: &bytes[..len], ..whole };
                match decap.frame(&cut_frame) {
                    Decapped::Udp { payload, cut, .. } => {
                        assert_eq!((payload, cut), (&bytes[header_len_bytes..len], Cut::Short));
                        assert!(len >= header_len_bytes);
                    }
                    other => {
                        assert_eq!(other, Decapped::Done(FrameOutcome::CutShort), "at {len}");
                        assert!(len < header_len_bytes, "{link:?} at {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_capture_that_cut_only_the_trailer_has_the_whole_payload() {
        let bytes = frames::ethernet(&[0x0800], &frames::v4(WHOLE, &frames::udp(HELLO)));
        let whole = frame(LinkType::Ethernet, &bytes);
        let mut decap = Decap::new();
        let cut = decap.frame(&Frame { wire_len_bytes: whole.wire_len_bytes + 4, ..whole });
        assert!(matches!(cut, Decapped::Udp { cut: Cut::Whole, payload, .. } if payload == HELLO));
    }

    #[test]
    fn addresses_and_ports_are_those_of_the_headers() {
        let mut decap = Decap::new();
        let bytes = frames::v4(WHOLE, &frames::udp(HELLO));
        let Decapped::Udp { flow, sighting, .. } = decap.frame(&frame(LinkType::RawIp, &bytes))
        else {
            panic!("not UDP")
        };
        assert_eq!((flow, sighting), (frames::flow(Protocol::Udp), Sighting::First));
        let header = V4 { protocol: frames::TCP, ..WHOLE };
        let bytes = frames::v4(header, &frames::tcp(0x0102_0304, 0x12, b"x"));
        let Decapped::Tcp { flow, segment, .. } = decap.frame(&frame(LinkType::RawIp, &bytes))
        else {
            panic!("not TCP")
        };
        assert_eq!(flow, frames::flow(Protocol::Tcp));
        assert_eq!((segment.seq, segment.payload), (0x0102_0304, &b"x"[..]));
        assert!(segment.flags.syn && !segment.flags.fin && !segment.flags.rst);
    }

    #[test]
    fn what_is_not_ip_udp_or_tcp_is_not_voip() {
        let ip = frames::v4(WHOLE, &frames::udp(HELLO));
        let icmp = frames::v4(V4 { protocol: 1, ..WHOLE }, &[8, 0, 0, 0]);
        let mut netlink = frames::cooked(0x0800, &ip);
        netlink[2..4].copy_from_slice(&824_u16.to_be_bytes());
        for (link, bytes) in [
            (LinkType::Ethernet, frames::ethernet(&[0x0806], &[0; 28])),
            (LinkType::Ethernet, frames::ethernet(&[0x0026], &[0x42, 0x42, 3, 0, 0, 0, 8, 0])),
            (LinkType::Ethernet, frames::ethernet(&[0x002e], &[0xaa, 0xaa, 3, 0, 0, 12, 32, 0])),
            (LinkType::LinuxCooked, frames::cooked(0x0004, &ip)),
            (LinkType::LinuxCooked, netlink),
            (LinkType::Null, frames::loopback([0, 0, 0, 7], &ip)),
            (LinkType::Loop, frames::loopback([2, 0, 0, 0], &ip)),
            (LinkType::RawIp, icmp),
            (LinkType::RawIp, frames::v6(59, &[])),
        ] {
            assert_eq!(payload_of(link, &bytes), Err(FrameOutcome::NotVoip), "{link:?} {bytes:?}");
        }
        let five_tags = [0x8100, 0x8100, 0x8100, 0x8100, 0x8100, 0x0800];
        let five_tags = payload_of(LinkType::Ethernet, &frames::ethernet(&five_tags, &ip));
        assert_eq!(five_tags, Err(FrameOutcome::UnsupportedLink));
        assert_eq!(payload_of(LinkType::Other(9), &ip), Err(FrameOutcome::UnsupportedLink));
    }

    #[test]
    fn headers_that_contradict_themselves_are_malformed() {
        let good = frames::v4(WHOLE, &frames::udp(HELLO));
        for (at, value, outcome) in [
            (0, 0x44, FrameOutcome::MalformedIp), // header of 16 bytes
            (0, 0x55, FrameOutcome::MalformedIp), // version 5
            (3, 19, FrameOutcome::MalformedIp),   // total length below the header's
            (3, 39, FrameOutcome::MalformedIp),   // total length beyond the frame
            (25, 7, FrameOutcome::MalformedTransport),
            (25, 19, FrameOutcome::MalformedTransport), // beyond what IP carries
        ] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert_eq!(raw(&bytes), Err(outcome), "byte {at} = {value:#x}");
        }
        let wrong_family = frames::ethernet(&[0x86dd], &good);
        assert_eq!(payload_of(LinkType::Ethernet, &wrong_family), Err(FrameOutcome::MalformedIp));
        let offset_4 = [&frames::tcp(1, 0, b"")[..12], &[0x40, 0, 0, 0, 0, 0, 0, 0]].concat();
        let header = V4 { protocol: frames::TCP, ..WHOLE };
        assert_eq!(raw(&frames::v4(header, &offset_4)), Err(FrameOutcome::MalformedTransport));
    }

    #[test]
    fn an_ip_length_of_zero_means_what_is_there_and_udp_cuts_the_rest() {
        let mut bytes = frames::v4(WHOLE, &frames::udp(HELLO));
        bytes[2..4].fill(0);
        bytes.extend([0xee; 4]);
        assert_eq!(raw(&bytes).as_deref(), Ok(HELLO));
        bytes[24..26].fill(0);
        assert_eq!(raw(&bytes).as_deref(), Ok(&b"hello, tap\xee\xee\xee\xee"[..]));
        let mut bytes = frames::v6(frames::UDP, &frames::udp(HELLO));
        bytes[4..6].fill(0);
        assert_eq!(raw(&bytes).as_deref(), Ok(HELLO));
    }

    #[test]
    fn ipv6_extension_headers_are_followed_up_to_a_limit() {
        let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let authentication =
            [60, 4, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5];
        let long_routing = [&[51, 1][..], &[0; 14]].concat();
        let atomic = frames::v6_part(frames::UDP, 9, 0, &frames::udp(HELLO));
        let chain =
            [&options(43)[..], &long_routing, &authentication, &options(44), &atomic].concat();
        assert_eq!(raw(&frames::v6(0, &chain)).as_deref(), Ok(HELLO));
        for count in [IPV6_EXTENSIONS_MAX, IPV6_EXTENSIONS_MAX + 1] {
            let mut payload = Vec::new();
            for left in (0..count).rev() {
                payload.extend(options(if left == 0 { frames::UDP } else { 60 }));
            }
            payload.extend(frames::udp(HELLO));
            let expected = if count > IPV6_EXTENSIONS_MAX {
                Err(FrameOutcome::MalformedIp)
            } else {
                Ok(HELLO.to_vec())
            };
            assert_eq!(raw(&frames::v6(60, &payload)), expected, "{count} headers");
        }
        assert_eq!(raw(&frames::v6(0, &[17, 1, 0, 0, 0, 0, 0, 0])), Err(FrameOutcome::MalformedIp));
    }

    #[test]
    fn a_second_copy_is_known_whatever_a_switch_may_change() {
        let mut decap = Decap::new();
        let sighting = |decap: &mut Decap, bytes: &[u8], ms: i64| {
            let at = PacketTime::from_ms(ms);
            match decap.frame(&Frame { time: at, ..frame(LinkType::Ethernet, bytes) }) {
                Decapped::Udp { sighting, payload, .. } => {
                    assert_eq!(payload, HELLO, "both carry the payload");
                    sighting
                }
                other => panic!("{other:?}"),
            }
        };
        let ip = frames::v4(WHOLE, &frames::udp(HELLO));
        let mut routed = frames::v4(V4 { ttl: 63, ..WHOLE }, &frames::udp(HELLO));
        routed[1] = 0xb8; // DSCP EF
        routed[10..12].copy_from_slice(&[0x12, 0x34]);
        routed[26..28].copy_from_slice(&[0x56, 0x78]); // UDP checksum, filled by the card
        let next = frames::v4(V4 { identification: 8, ..WHOLE }, &frames::udp(HELLO));
        let untagged = frames::ethernet(&[0x0800], &ip);
        let tagged = frames::ethernet(&[0x8100, 0x0800], &routed);
        assert_eq!(sighting(&mut decap, &untagged, 0), Sighting::First);
        assert_eq!(sighting(&mut decap, &tagged, DUPLICATE_WINDOW_MS), Sighting::Repeated);
        let next = frames::ethernet(&[0x0800], &next);
        assert_eq!(sighting(&mut decap, &next, DUPLICATE_WINDOW_MS), Sighting::First);
        assert_eq!(sighting(&mut decap, &tagged, DUPLICATE_WINDOW_MS + 1), Sighting::First);
    }

    #[test]
    fn the_last_fragment_to_come_yields_the_datagram_and_copies_do_not_disturb() {
        let datagram = frames::udp(HELLO);
        let head = frames::v4(V4 { more: true, ..WHOLE }, &datagram[..8]);
        let tail = frames::v4(V4 { offset_bytes: 8, ..WHOLE }, &datagram[8..]);
        let mut decap = Decap::new();
        let held = decap.frame(&frame(LinkType::RawIp, &tail));
        assert_eq!(held, Decapped::Done(FrameOutcome::Fragment));
        let copy = decap.frame(&frame(LinkType::RawIp, &tail));
        assert_eq!(copy, Decapped::Done(FrameOutcome::Duplicate));
        assert!(decap.held_bytes() > 0);
        let whole = decap.frame(&frame(LinkType::RawIp, &head));
        let expected = Decapped::Udp {
            flow: frames::flow(Protocol::Udp),
            payload: HELLO,
            sighting: Sighting::First,
            cut: Cut::Whole,
        };
        assert_eq!(whole, expected);
        assert_eq!((decap.held_bytes(), decap.expire(PacketTime::MAX)), (0, 0));
    }

    #[test]
    fn ipv6_fragments_may_carry_extension_headers_but_no_second_fragment_header() {
        let inner = [&[frames::UDP, 0, 1, 4, 0, 0, 0, 0][..], &frames::udp(HELLO)].concat();
        for (first, datagram, expected) in [
            (60, inner.clone(), Ok(HELLO)),
            (44, frames::v6_part(60, 3, 8 | 1, &inner), Err(FrameOutcome::MalformedIp)),
        ] {
            let mut decap = Decap::new();
            let part = frames::v6_part(99, 5, 16, &datagram[16..]);
            let tail = frames::v6(44, &part);
            assert_eq!(
                decap.frame(&frame(LinkType::RawIp, &tail)),
                Decapped::Done(FrameOutcome::Fragment)
            );
            let head = frames::v6(44, &frames::v6_part(first, 5, 1, &datagram[..16]));
            match (decap.frame(&frame(LinkType::RawIp, &head)), expected) {
                (Decapped::Udp { payload, .. }, Ok(expected)) => assert_eq!(payload, expected),
                (Decapped::Done(outcome), Err(expected)) => assert_eq!(outcome, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn fragments_that_cannot_be_are_malformed_and_those_cut_by_the_capture_are_not_held() {
        let mut decap = Decap::new();
        let more = V4 { more: true, ..WHOLE };
        for (header, payload) in [
            (more, &[0_u8; 12][..]),
            (more, &[]),
            (V4 { offset_bytes: 8, ..WHOLE }, &[]),
            (V4 { offset_bytes: 65_512, ..WHOLE }, &[0; 8]),
        ] {
            let bytes = frames::v4(header, payload);
            let outcome = decap.frame(&frame(LinkType::RawIp, &bytes));
            assert_eq!(outcome, Decapped::Done(FrameOutcome::MalformedIp), "{payload:?}");
        }
        let bytes = frames::v4(more, &[0; 16]);
        let whole = frame(LinkType::RawIp, &bytes);
        let outcome = decap.frame(&Frame { bytes: &bytes[..30], ..whole });
        assert_eq!(outcome, Decapped::Done(FrameOutcome::CutShort));
        assert_eq!(decap.held_bytes(), 0);
    }

    #[test]
    fn a_datagram_that_never_comes_whole_is_moved_to_dropped_at_the_timeout() {
        let mut decap = Decap::new();
        let bytes = frames::v4(V4 { more: true, ..WHOLE }, &[0; 16]);
        let outcome = decap.frame(&frame(LinkType::RawIp, &bytes));
        assert_eq!(outcome, Decapped::Done(FrameOutcome::Fragment));
        assert_eq!(decap.expire(PacketTime::from_ms(FRAGMENT_TIMEOUT_MS - 1)), 0);
        assert_eq!(decap.expire(PacketTime::from_ms(FRAGMENT_TIMEOUT_MS)), 1);
        assert_eq!((decap.held_bytes(), decap.take_dropped()), (0, 0));
    }
}
