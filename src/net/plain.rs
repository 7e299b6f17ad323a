//! The commonest frame of all, read in one go: Ethernet or nothing, IPv4 without options, UDP, RTP.
//!
//! Purpose: what `decap` says of such a frame, for a tenth of its price; of any other frame nothing.
//! Invariants: what is accepted here, `Decap::frame` accepts too, as UDP with the same flow and payload
//! (a tunnel's outer frame aside: it is a datagram here); nothing is remembered.
//! Non-goals: duplicates, tunnels, fragments, cut frames, IPv6 (see `decap`).
//! Sources: RFC 894, IEEE 802.1Q, RFC 791 §3.1, RFC 768, RFC 3550 §5.1, RFC 5761 §4.

use crate::base::{Endpoint, Frame, LinkType};

/// An IPv4 datagram whose payload begins as RTP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainRtp<'a> {
    /// Sender, and its port.
    pub source: ([u8; 4], u16),
    /// Receiver, and its port.
    pub destination: ([u8; 4], u16),
    /// Of the IP header.
    pub identification: u16,
    /// Payload type, without the marker.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: u16,
    /// Synchronization source.
    pub ssrc: u32,
    /// The RTP packet.
    pub packet: &'a [u8],
}

impl PlainRtp<'_> {
    /// Sender and receiver as elsewhere.
    #[must_use]
    pub fn endpoints(&self) -> (Endpoint, Endpoint) {
        let ((source, from), (destination, to)) = (self.source, self.destination);
        (Endpoint::v4(source, from), Endpoint::v4(destination, to))
    }
}

/// Fixed headers: IPv4 without options, UDP, RTP.
const HEADERS_LEN_BYTES: usize = 20 + 8 + 12;

/// Reads a frame; `None` for one that has to be taken apart with care.
#[must_use]
pub fn plain_rtp<'a>(frame: &Frame<'a>) -> Option<PlainRtp<'a>> {
    let bytes = match frame.link {
        LinkType::Ethernet => behind_ethernet(frame.bytes)?,
        LinkType::RawIp => frame.bytes,
        _ => return None,
    };
    let headers = bytes.first_chunk::<HEADERS_LEN_BYTES>()?;
    let [
        version,
        _,
        total_high,
        total_low,
        id_high,
        id_low,
        part_high,
        part_low,
        _,
        protocol,
        _,
        _,
        from_0,
        from_1,
        from_2,
        from_3,
        to_0,
        to_1,
        to_2,
        to_3,
        source_high,
        source_low,
        destination_high,
        destination_low,
        udp_high,
        udp_low,
        _,
        _,
        flags,
        marker_and_type,
        seq_high,
        seq_low,
        _,
        _,
        _,
        _,
        ssrc @ ..,
    ] = *headers;
    let two = |high, low| u16::from_be_bytes([high, low]);
    // Version 4, five words, no fragment (offset and "more" are zero), UDP.
    let is_plain = version == 0x45 && two(part_high & 0x3f, part_low) == 0 && protocol == 17;
    let (total, udp) =
        (usize::from(two(total_high, total_low)), usize::from(two(udp_high, udp_low)));
    // Version 2, no padding, no extension, no CSRC; a payload type that is not RTCP's.
    let payload_type = marker_and_type & 0x7f;
    let is_rtp = flags == 0x80 && !(64..96).contains(&payload_type);
    if !is_plain || !is_rtp || total != udp.saturating_add(20) || total < HEADERS_LEN_BYTES {
        return None;
    }
    let packet = bytes.get(28..total)?;
    Some(PlainRtp {
        source: ([from_0, from_1, from_2, from_3], two(source_high, source_low)),
        destination: ([to_0, to_1, to_2, to_3], two(destination_high, destination_low)),
        identification: two(id_high, id_low),
        payload_type,
        seq: two(seq_high, seq_low),
        ssrc: u32::from_be_bytes(ssrc),
        packet,
    })
}

/// What an Ethernet frame announces as IPv4, behind up to two VLAN tags.
fn behind_ethernet(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(12..)?;
    for _ in 0..3 {
        let (kind, behind) = rest.split_first_chunk::<2>()?;
        match u16::from_be_bytes(*kind) {
            0x0800 => return Some(behind),
            0x8100 | 0x88a8 => rest = behind.get(2..)?,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::frames::{self, V4, WHOLE, frame};
    use super::*;
    use crate::net::{Decap, Decapped};

    const RTP: [u8; 16] = [0x80, 0x88, 1, 2, 0, 0, 0, 160, 0xa, 0xb, 0xc, 0xd, 1, 2, 3, 4];

    fn read(link: LinkType, bytes: &[u8]) -> Option<(Vec<u8>, u16, u32)> {
        let plain = plain_rtp(&frame(link, bytes))?;
        let mut decap = Decap::new();
        let Decapped::Udp { flow, payload, .. } = decap.frame(&frame(link, bytes)) else {
            panic!("decap refuses what is plain")
        };
        assert_eq!((flow.source, flow.destination), plain.endpoints());
        assert_eq!(payload, plain.packet);
        assert_eq!(plain.payload_type, 8);
        Some((plain.packet.to_vec(), plain.seq, plain.ssrc))
    }

    #[test]
    fn plain_frames_are_read_as_decap_reads_them() {
        let ip = frames::v4(WHOLE, &frames::udp(&RTP));
        let expected = Some((RTP.to_vec(), 0x0102, 0x0a0b_0c0d));
        assert_eq!(read(LinkType::RawIp, &ip), expected);
        for tags in [&[0x0800][..], &[0x8100, 0x0800], &[0x88a8, 0x8100, 0x0800]] {
            let bytes = frames::ethernet(tags, &ip);
            assert_eq!(read(LinkType::Ethernet, &bytes), expected, "{tags:x?}");
            let padded = [&bytes[..], &[0; 9]].concat();
            assert_eq!(read(LinkType::Ethernet, &padded), expected, "{tags:x?} padded");
            for cut in 0..bytes.len() {
                assert_eq!(read(LinkType::Ethernet, &bytes[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn whatever_is_not_plain_is_left_to_decap() {
        let with = |at: usize, value: u8| {
            let mut ip = frames::v4(WHOLE, &frames::udp(&RTP));
            ip[at] = value;
            ip
        };
        // Options, more fragments, an offset, TCP, another total length; padding, extension, CSRC,
        // version 1, RTCP, another UDP length.
        let changes = [
            (0, 0x46),
            (6, 0x20),
            (7, 1),
            (9, 6),
            (3, 43),
            (28, 0xa0),
            (28, 0x90),
            (28, 0x81),
            (28, 0x40),
            (29, 200),
            (25, 23),
        ];
        for (at, value) in changes {
            let bytes = with(at, value);
            assert_eq!(plain_rtp(&frame(LinkType::RawIp, &bytes)), None, "byte {at} is {value}");
        }
        let fragment = V4 { protocol: frames::TCP, ..WHOLE };
        let tcp = frames::v4(fragment, &frames::udp(&RTP));
        assert_eq!(plain_rtp(&frame(LinkType::RawIp, &tcp)), None);
        let six = frames::ethernet(&[0x86dd], &frames::v6(frames::UDP, &frames::udp(&RTP)));
        assert_eq!(plain_rtp(&frame(LinkType::Ethernet, &six)), None);
    }
}
