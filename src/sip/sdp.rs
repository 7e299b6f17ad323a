//! Session descriptions.
//!
//! Purpose: which media a party announces, and where it wants them.
//! Invariants: at most `limits::SDP_MEDIA_MAX` media sections; each line is looked at once.
//! Non-goals: offer/answer, times, bandwidths.
//! Sources: RFC 8866 (SDP), RFC 3264 (hold, rejection), RFC 2543 §B.5 (hold by 0.0.0.0).

use std::net::IpAddr;

use memchr::{memchr, memchr2};

use super::lines::{split_around, split_word, trim};
use super::sdp_media::Connection;
use super::{Direction, Media};
use crate::base::limits;

/// Why bytes are no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SdpReject {
    /// Neither a `v=` nor an `m=` line.
    NotSdp,
    /// Longer than a SIP message may be.
    TooLong,
}

impl SdpReject {
    /// The variant in snake_case, for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotSdp => "not_sdp",
            Self::TooLong => "too_long",
        }
    }
}

/// The `o=` line. Identifier and version are numbers, but of any length: compare them as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// `<username>`, often `-`.
    pub user: &'a [u8],
    /// `<sess-id>`.
    pub session_id: &'a [u8],
    /// `<sess-version>`: unchanged means that the description is unchanged (RFC 3264 §8).
    pub session_version: &'a [u8],
    /// `<unicast-address>`; `None` for a host name.
    pub address: Option<IpAddr>,
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdp<'a> {
    /// `o=`, if there is one with at least three words.
    pub origin: Option<Origin<'a>>,
    /// The session's `c=`.
    pub address: Option<IpAddr>,
    /// The session's direction; both if it names none.
    pub direction: Direction,
    /// The media sections, in order.
    pub media: Vec<Media<'a>>,
    /// Sections beyond `limits::SDP_MEDIA_MAX`, not read.
    pub media_ignored: usize,
}

/// What is said before the first `m=`.
#[derive(Default)]
struct Session {
    connection: Option<Connection>,
    direction: Option<Direction>,
    ptime: Option<u16>,
    has_fingerprint: bool,
}

impl<'a> Sdp<'a> {
    /// Reads a description; line ends may be CRLF, LF or CR, and lines may end in spaces. Lines
    /// that cannot be read are passed over.
    ///
    /// # Errors
    /// `NotSdp`, `TooLong`.
    /// Source: RFC 8866 §5.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SdpReject> {
        if bytes.len() > limits::SIP_MESSAGE_BYTES_MAX.saturating_mul(2) {
            return Err(SdpReject::TooLong);
        }
        let mut sdp = Self {
            origin: None,
            address: None,
            direction: Direction::default(),
            media: Vec::new(),
            media_ignored: 0,
        };
        let mut session = Session::default();
        let (mut has_version, mut rest) = (false, bytes);
        while !rest.is_empty() {
            let (line, tail) = match memchr2(b'\n', b'\r', rest) {
                Some(at) => split_around(rest, at),
                None => (rest, &[] as &[u8]),
            };
            rest = tail;
            let [kind, b'=', value @ ..] = trim(line) else { continue };
            match kind {
                b'v' => has_version = true,
                b'm' => sdp.begin_media(value),
                _ if sdp.media_ignored > 0 => {}
                _ => sdp.apply(*kind, value, &mut session),
            }
        }
        if !has_version && sdp.media.is_empty() {
            return Err(SdpReject::NotSdp);
        }
        sdp.inherit(&session);
        Ok(sdp)
    }

    fn begin_media(&mut self, value: &'a [u8]) {
        if self.media.len() < limits::SDP_MEDIA_MAX {
            self.media.push(Media::parse(value));
        } else {
            self.media_ignored = self.media_ignored.saturating_add(1);
        }
    }

    /// A line other than `m=`, of the section that was begun last.
    fn apply(&mut self, kind: u8, value: &'a [u8], session: &mut Session) {
        let media = self.media.last_mut();
        match (kind, media) {
            (b'o', None) => self.origin = self.origin.or_else(|| parse_origin(value)),
            // Several c= lines are layers of a multicast session: the first is the base.
            (b'c', Some(media)) => {
                media.connection = media.connection.or_else(|| Connection::parse(value));
            }
            (b'c', None) => {
                session.connection = session.connection.or_else(|| Connection::parse(value));
            }
            (b'a', media) => {
                let (name, value) = match memchr(b':', value) {
                    Some(at) => split_around(value, at),
                    None => (value, &[] as &[u8]),
                };
                let (name, value) = (trim(name), trim(value));
                match media {
                    Some(media) => media.apply_attribute(name, value),
                    None => session.apply_attribute(name, value),
                }
            }
            _ => {}
        }
    }

    /// Gives every section what only the session said.
    fn inherit(&mut self, session: &Session) {
        self.address = session.connection.and_then(Connection::address);
        self.direction = session.direction.unwrap_or_default();
        for media in &mut self.media {
            let connection = media.connection.or(session.connection);
            media.address = connection.and_then(Connection::address);
            media.has_host_name = connection == Some(Connection::HostName);
            media.direction = media.own_direction.unwrap_or(self.direction);
            media.ptime_ms = media.ptime_ms.or(session.ptime);
            media.has_fingerprint |= session.has_fingerprint;
        }
    }
}

impl Session {
    fn apply_attribute(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"ptime" => {
                let digits = std::str::from_utf8(value).ok();
                self.ptime = digits.and_then(|digits| digits.parse().ok()).or(self.ptime);
            }
            b"fingerprint" => self.has_fingerprint = true,
            name => self.direction = Direction::from_attribute(name).or(self.direction),
        }
    }
}

fn parse_origin(value: &[u8]) -> Option<Origin<'_>> {
    let (user, rest) = split_word(value);
    let (session_id, rest) = split_word(rest);
    let (session_version, rest) = split_word(rest);
    if session_version.is_empty() {
        return None;
    }
    let address = Connection::parse(rest).and_then(Connection::address);
    Some(Origin { user, session_id, session_version, address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{MediaKind, MediaProtocol, RtcpAttribute, fuzz};

    fn parse(text: &str) -> Sdp<'_> {
        fuzz::sdp(text.as_bytes());
        Sdp::parse(text.as_bytes()).expect("description")
    }

    fn ip(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    const OFFER: &str = "v=0\r\no=- 20518 7 IN IP4 203.0.113.1\r\ns= \r\nc=IN IP4 203.0.113.1\r\n\
        t=0 0\r\na=ptime:30\r\na=sendonly\r\n\
        m=audio 54400/2 RTP/SAVPF 0 96 101 \r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n\
        a=rtcp:53020 IN IP4 126.16.64.4\r\na=rtcp-mux\r\na=crypto:1 AES x\r\na=crypto:2\r\n\
        a=label:left\r\n\
        m=video 0 RTP/AVP 34\r\nc=IN IP6 2001:db8::2/3\r\n\
        m=image 9 udptl t38\r\nc=IN IP4 fax.example\r\n";

    #[test]
    fn an_offer_of_three_media_is_read() {
        let sdp = parse(OFFER);
        let origin = sdp.origin.expect("origin");
        assert_eq!((origin.session_id, origin.session_version), (&b"20518"[..], &b"7"[..]));
        assert_eq!((origin.user, origin.address), (&b"-"[..], ip("203.0.113.1")));
        let [audio, video, image] = sdp.media.as_slice() else { panic!("three media") };
        assert_eq!((audio.kind, audio.port, audio.port_count), (MediaKind::Audio, 54_400, 2));
        assert_eq!(audio.protocol, MediaProtocol::RtpSavpf);
        assert!(audio.protocol.is_encrypted() && audio.has_rtcp_mux && !audio.is_on_hold());
        assert_eq!((audio.address, audio.direction), (ip("203.0.113.1"), Direction::SendRecv));
        let formats: Vec<_> =
            audio.formats.iter().map(|f| (f.payload_type, &*f.encoding, f.fmtp)).collect();
        let opus = (96, "OPUS", Some(&b"useinbandfec=1"[..]));
        assert_eq!(
            formats,
            [(0, "PCMU", None), opus, (101, "TELEPHONE-EVENT", Some(&b"0-15"[..]))]
        );
        assert_eq!((audio.ptime_ms, audio.crypto_count), (Some(20), 2));
        assert_eq!(audio.crypto.iter().map(|line| line.tag).collect::<Vec<_>>(), [1]);
        let rtcp = RtcpAttribute { port: 53_020, address: ip("126.16.64.4") };
        assert_eq!((audio.rtcp, audio.label), (Some(rtcp), Some(&b"left"[..])));
        assert_eq!((video.port, video.address), (0, ip("2001:db8::2")));
        assert_eq!((video.direction, video.ptime_ms), (Direction::SendOnly, Some(30)));
        assert!(!video.is_on_hold());
        assert_eq!((image.kind, image.protocol), (MediaKind::Image, MediaProtocol::Udptl));
        assert_eq!((image.address, image.has_host_name), (None, true));
        assert!(image.formats.is_empty());
    }

    #[test]
    fn line_ends_of_every_kind_give_the_same() {
        let whole = Sdp::parse(OFFER.as_bytes()).expect("description");
        for other in [OFFER.replace('\r', ""), OFFER.replace('\n', ""), format!("\r\n{OFFER}\0\0")]
        {
            assert_eq!(Sdp::parse(other.as_bytes()).as_ref(), Ok(&whole));
        }
    }

    #[test]
    fn every_cut_is_a_description_or_not_yet_one() {
        for cut in 0..OFFER.len() {
            let parsed = Sdp::parse(&OFFER.as_bytes()[..cut]);
            assert_eq!(parsed.is_ok(), cut >= 2, "cut at {cut}");
        }
    }

    #[test]
    fn hold_is_said_by_direction_or_by_the_zero_address() {
        for (lines, hold) in [
            ("c=IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 0", true),
            ("c=IN IP6 ::\nm=audio 9 RTP/AVP 0", true),
            ("c=IN IP4 10.0.0.1\nm=audio 9 RTP/AVP 0\na=inactive", true),
            ("c=IN IP4 10.0.0.1\na=sendonly\nm=audio 9 RTP/AVP 0", true),
            ("c=IN IP4 10.0.0.1\na=sendonly\nm=audio 9 RTP/AVP 0\na=sendrecv", false),
            ("c=IN IP4 10.0.0.1\nm=audio 9 RTP/AVP 0\na=recvonly", false),
            ("m=audio 9 RTP/AVP 0", false),
        ] {
            assert_eq!(parse(&format!("v=0\n{lines}\n")).media[0].is_on_hold(), hold, "{lines}");
        }
    }

    #[test]
    fn odd_connections_and_media_are_taken_as_far_as_they_go() {
        let sdp =
            parse("m=audio 9 rtp/avp 8 300 x 8\nc=IN IP4 224.2.1.1/127/3\nc=IN IP4 224.2.1.2\n");
        assert_eq!((sdp.origin, sdp.address), (None, None));
        assert_eq!(sdp.media[0].address, ip("224.2.1.1"));
        assert_eq!(sdp.media[0].formats.len(), 2);
        for line in ["m=", "m=audio", "m=audio x RTP/AVP 0", "m=audio 70000 RTP/AVP 0"] {
            let sdp = parse(line);
            assert_eq!((sdp.media.len(), sdp.media[0].port), (1, 0), "{line}");
        }
        assert_eq!(parse("v=0").media.len(), 0);
        assert_eq!(parse("m=audio 9 TCP/RTP/AVP 0").media[0].protocol, MediaProtocol::Tcp);
    }

    #[test]
    fn floods_of_media_and_formats_meet_their_limits() {
        let types = "0 ".repeat(limits::SDP_FORMATS_MAX + 3);
        let section = format!("m=audio 9 RTP/AVP {types}\n");
        let text = "v=0\n".to_owned() + &section.repeat(limits::SDP_MEDIA_MAX + 2) + "a=sendonly\n";
        let sdp = parse(&text);
        assert_eq!((sdp.media.len(), sdp.media_ignored), (limits::SDP_MEDIA_MAX, 2));
        assert_eq!(sdp.media[0].formats.len(), limits::SDP_FORMATS_MAX);
        assert_eq!(sdp.media[0].formats_ignored, 3);
        assert!(sdp.media.iter().all(|media| media.direction == Direction::SendRecv));
    }

    #[test]
    fn other_bytes_are_rejected_with_their_label() {
        assert_eq!(Sdp::parse(b"").map_err(SdpReject::label), Err("not_sdp"));
        assert_eq!(Sdp::parse(b"<xml/>\r\n").map_err(SdpReject::label), Err("not_sdp"));
        let long = vec![b'v'; 2 * limits::SIP_MESSAGE_BYTES_MAX + 1];
        assert_eq!(Sdp::parse(&long).map_err(SdpReject::label), Err("too_long"));
    }
}
