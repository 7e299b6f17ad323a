//! Tells what a UDP payload is by its content, since ports say nothing.
//!
//! Purpose: sort the datagrams of a media port into RTP, RTCP, STUN, DTLS, ZRTP and the rest.
//! Invariants: `Rtp` means that [`RtpView::parse`] accepts it; no byte pattern panics.
//! Non-goals: certainty (twelve random bytes can look like RTP; the flow table decides), TURN
//! channels, and DTLS 1.3's short records, all of which are `Other`.
//! Sources: RFC 5761 §4 (RTP beside RTCP), RFC 7983 (first byte), RFC 8489 §5, RFC 6347 §4.1.

use super::header::RtpView;
use super::zrtp::ZrtpMessage;
use crate::base::Reader;

/// What a UDP payload looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datagram {
    /// RTP version 2.
    Rtp,
    /// RTCP version 2, a whole compound packet or SRTCP.
    Rtcp,
    /// STUN, with its magic cookie or the exact length of RFC 3489.
    Stun,
    /// A DTLS 1.0 or 1.2 record.
    Dtls,
    /// A ZRTP packet, by its magic cookie.
    Zrtp,
    /// None of these.
    Other,
}

/// Looks at the first bytes and the lengths in them.
#[must_use]
pub fn classify(payload: &[u8]) -> Datagram {
    let Some(([first, second], _)) = payload.split_first_chunk::<2>() else {
        return Datagram::Other;
    };
    match first {
        0..=3 if is_stun(payload) => Datagram::Stun,
        16..=19 if ZrtpMessage::parse(payload).is_some() => Datagram::Zrtp,
        20..=26 if is_dtls(payload) => Datagram::Dtls,
        // With the marker bit these are the payload types 64-95, which RTP keeps free for RTCP.
        128..=191 if (192..=223).contains(second) => {
            if is_rtcp(payload) {
                Datagram::Rtcp
            } else {
                Datagram::Other
            }
        }
        128..=191 if RtpView::parse(payload).is_ok() => Datagram::Rtp,
        _ => Datagram::Other,
    }
}

/// 20-byte header, body in whole words, and the cookie (or, for RFC 3489, exactly that body).
fn is_stun(payload: &[u8]) -> bool {
    const MAGIC_COOKIE: u32 = 0x2112_a442;
    let mut reader = Reader::new(payload);
    let (_, length, cookie) = (reader.u16_be(), reader.u16_be(), reader.u32_be());
    let (Some(length), Some(cookie), Some(_)) = (length, cookie, reader.take(12)) else {
        return false;
    };
    let body = usize::from(length);
    body % 4 == 0
        && body <= reader.remaining()
        && (cookie == MAGIC_COOKIE || body == reader.remaining())
}

/// Content type (already looked at), version 254.x, epoch, sequence number, a length that fits.
fn is_dtls(payload: &[u8]) -> bool {
    let mut reader = Reader::new(payload);
    let (_, major, _) = (reader.u8(), reader.u8(), reader.take(9));
    let Some(length) = reader.u16_be() else { return false };
    major == Some(254) && usize::from(length) <= reader.remaining()
}

/// The first packet's length fits, and what follows is either another header whose length fits,
/// and so on to the end, or (SRTCP) starts with something that is no header.
fn is_rtcp(payload: &[u8]) -> bool {
    let mut reader = Reader::new(payload);
    let mut packets = 0u32;
    while let Some([flags, packet_type, high, low]) = reader.array::<4>() {
        if flags >> 6 != 2 || !(192..=223).contains(&packet_type) {
            return packets > 0;
        }
        let body = usize::from(u16::from_be_bytes([high, low])).saturating_mul(4);
        // The sender's SSRC follows every header but that of an empty BYE.
        if body == 0 && (flags & 0x1f != 0 || packet_type != 203) {
            return false;
        }
        if reader.take(body).is_none() {
            return false;
        }
        packets = packets.saturating_add(1);
    }
    packets > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTP: [u8; 14] = [0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 9, 0xff, 0xff];
    /// An empty receiver report and a BYE.
    const RTCP: [u8; 16] = [0x80, 201, 0, 1, 0, 0, 0, 9, 0x81, 203, 0, 1, 0, 0, 0, 9];

    fn stun() -> Vec<u8> {
        let mut packet = vec![0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42];
        packet.extend([7; 12]);
        packet.extend([0x80, 0x28, 0, 0]);
        packet
    }

    #[test]
    fn each_kind_is_told_by_its_content() {
        assert_eq!(classify(&RTP), Datagram::Rtp);
        assert_eq!(classify(&RTCP), Datagram::Rtcp);
        assert_eq!(classify(&stun()), Datagram::Stun);
        let dtls = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        assert_eq!(classify(&dtls), Datagram::Dtls);
        assert_eq!(classify(&super::super::zrtp::tests::packet(*b"Hello   ")), Datagram::Zrtp);
        assert_eq!(classify(b"INVITE sip:bob@example.com SIP/2.0\r\n"), Datagram::Other);
        assert_eq!(classify(b"\r\n\r\n"), Datagram::Other);
        assert_eq!(classify(&[]), Datagram::Other);
    }

    #[test]
    fn old_stun_without_cookie_must_fill_the_datagram_exactly() {
        let mut old = stun();
        old[4] = 0x55;
        assert_eq!(classify(&old), Datagram::Stun);
        old.push(0);
        assert_eq!(classify(&old), Datagram::Other);
    }

    #[test]
    fn marker_with_a_common_payload_type_stays_rtp() {
        for payload_type in [0u8, 8, 9, 13, 18, 63, 96, 101, 127] {
            let mut packet = RTP;
            packet[1] = payload_type | 0x80;
            assert_eq!(classify(&packet), Datagram::Rtp, "type {payload_type}");
        }
    }

    #[test]
    fn rtcp_with_a_length_that_does_not_fit_is_neither() {
        let mut packet = RTCP;
        packet[3] = 9;
        assert_eq!(classify(&packet), Datagram::Other);
        packet[3] = 0;
        assert_eq!(classify(&packet), Datagram::Other);
    }

    #[test]
    fn srtcp_with_its_encrypted_tail_is_rtcp() {
        let mut packet = RTCP[..8].to_vec();
        packet.extend([0x13; 14]);
        assert_eq!(classify(&packet), Datagram::Rtcp);
    }

    #[test]
    fn no_cut_of_anything_is_taken_for_something_else() {
        for (whole, kind) in [
            (RTP.to_vec(), Datagram::Rtp),
            (stun(), Datagram::Stun),
            (RTCP.to_vec(), Datagram::Rtcp),
        ] {
            for cut in 0..whole.len() {
                let found = classify(&whole[..cut]);
                assert!(
                    found == kind || found == Datagram::Other,
                    "{kind:?} cut at {cut}: {found:?}"
                );
            }
        }
        assert_eq!(classify(&RTP[..11]), Datagram::Other);
    }
}
