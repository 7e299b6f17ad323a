//! Media sections of a session description.
//!
//! Purpose: where a medium is received, and in which formats.
//! Invariants: at most `limits::SDP_FORMATS_MAX` formats; attributes apply to their own section.
//! Non-goals: offer/answer (see `call`), ICE candidates (see `sdp_paths`).
//! Sources: RFC 8866 §5.14, §6; RFC 3264; RFC 3605 (rtcp); RFC 4568 (crypto); RFC 5761 (rtcp-mux);
//! RFC 3711, RFC 5764 (protected profiles).

use std::net::IpAddr;

use super::lines::{decimal, split_around, split_word, trim};
use super::{CryptoLine, Format, MediaPaths};
use crate::base::limits;

/// The `<media>` of an `m=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// `audio`.
    Audio,
    /// `video`.
    Video,
    /// `image` (T.38 fax).
    Image,
    /// `application`.
    Application,
    /// `text`.
    Text,
    /// `message`.
    Message,
    /// Anything else.
    Other,
}

/// The `<proto>` of an `m=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaProtocol {
    /// `RTP/AVP`.
    RtpAvp,
    /// `RTP/AVPF`.
    RtpAvpf,
    /// `RTP/SAVP`: SRTP.
    RtpSavp,
    /// `RTP/SAVPF`.
    RtpSavpf,
    /// `UDP/TLS/RTP/SAVP`: SRTP keyed by DTLS.
    UdpTlsRtpSavp,
    /// `UDP/TLS/RTP/SAVPF`.
    UdpTlsRtpSavpf,
    /// `udptl`: T.38.
    Udptl,
    /// `TCP/…`, whatever follows.
    Tcp,
    /// Anything else.
    Other,
}

impl MediaProtocol {
    fn from_token(token: &[u8]) -> Self {
        let is = |name: &[u8]| token.eq_ignore_ascii_case(name);
        match token {
            _ if is(b"RTP/AVP") => Self::RtpAvp,
            _ if is(b"RTP/AVPF") => Self::RtpAvpf,
            _ if is(b"RTP/SAVP") => Self::RtpSavp,
            _ if is(b"RTP/SAVPF") => Self::RtpSavpf,
            _ if is(b"UDP/TLS/RTP/SAVP") => Self::UdpTlsRtpSavp,
            _ if is(b"UDP/TLS/RTP/SAVPF") => Self::UdpTlsRtpSavpf,
            _ if is(b"udptl") => Self::Udptl,
            [b't' | b'T', b'c' | b'C', b'p' | b'P', b'/', ..] => Self::Tcp,
            _ => Self::Other,
        }
    }

    /// True for RTP over UDP, protected or not.
    #[must_use]
    pub const fn is_rtp(self) -> bool {
        matches!(self, Self::RtpAvp | Self::RtpAvpf) || self.is_encrypted()
    }

    /// True where the profile says SRTP. `RTP/AVP` with crypto lines may still be encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::RtpSavp | Self::RtpSavpf | Self::UdpTlsRtpSavp | Self::UdpTlsRtpSavpf)
    }
}

/// Who sends, seen from who wrote the description (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// Only the writer.
    SendOnly,
    /// Only the other side.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    pub(crate) fn from_attribute(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"sendrecv" => Self::SendRecv,
            b"sendonly" => Self::SendOnly,
            b"recvonly" => Self::RecvOnly,
            b"inactive" => Self::Inactive,
            _ => return None,
        })
    }
}

/// `a=rtcp` (RFC 3605).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpAttribute {
    /// Port that RTCP is received on.
    pub port: u16,
    /// Address, where it differs from the media's.
    pub address: Option<IpAddr>,
}

/// A connection address: of an `o=` or `c=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Address(IpAddr),
    HostName,
}

impl Connection {
    /// `IN IP4 224.2.1.1/127/3`, or only its last word; `None` if empty.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let last = trim(value).rsplit(|byte| matches!(byte, b' ' | b'\t')).next()?;
        let name = last.split(|byte| *byte == b'/').next()?;
        if name.is_empty() {
            return None;
        }
        let address = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        Some(address.map_or(Self::HostName, Self::Address))
    }

    pub(crate) const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::HostName => None,
        }
    }
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// What is sent.
    pub kind: MediaKind,
    /// Port it is received on; 0 means rejected (RFC 3264 §6) or unreadable.
    pub port: u16,
    /// Consecutive ports (RTP pairs), at least 1.
    pub port_count: u16,
    /// How it is sent.
    pub protocol: MediaProtocol,
    /// Where it is received: the section's `c=`, else the session's.
    pub address: Option<IpAddr>,
    /// True when the address is a host name, which we do not resolve.
    pub has_host_name: bool,
    /// The section's direction, else the session's, else both.
    pub direction: Direction,
    /// RTP formats in order of preference; empty for other protocols.
    pub formats: Vec<Format<'a>>,
    /// Formats beyond `limits::SDP_FORMATS_MAX`, not read.
    pub formats_ignored: usize,
    /// `a=ptime`, in milliseconds.
    pub ptime_ms: Option<u16>,
    /// `a=rtcp`.
    pub rtcp: Option<RtcpAttribute>,
    /// `a=rtcp-mux`: RTCP shares the RTP port.
    pub has_rtcp_mux: bool,
    /// `a=crypto` lines (SDES keys), at most `limits::SDP_CRYPTO_MAX`.
    pub crypto: Vec<CryptoLine<'a>>,
    /// How many `a=crypto` lines there are, those that cannot be read or are too many included.
    pub crypto_count: usize,
    /// True when DTLS-SRTP is offered (`a=fingerprint`, in the section or the session).
    pub has_fingerprint: bool,
    /// `a=label` (RFC 4574).
    pub label: Option<&'a [u8]>,
    /// ICE candidates and sources.
    pub paths: MediaPaths,
    pub(crate) connection: Option<Connection>,
    pub(crate) own_direction: Option<Direction>,
}

impl<'a> Media<'a> {
    /// Reads what follows `m=`. Never fails: the position of a section matters in offer/answer.
    pub(crate) fn parse(value: &'a [u8]) -> Self {
        let (kind, rest) = split_word(value);
        let (ports, rest) = split_word(rest);
        let (protocol, rest) = split_word(rest);
        let (port, count) = match ports.iter().position(|byte| *byte == b'/') {
            Some(slash) => split_around(ports, slash),
            None => (ports, &[] as &[u8]),
        };
        let mut media = Self {
            kind: kind_of(kind),
            port: number(port).unwrap_or(0),
            port_count: number(count).unwrap_or(1).max(1),
            protocol: MediaProtocol::from_token(protocol),
            address: None,
            has_host_name: false,
            direction: Direction::default(),
            formats: Vec::new(),
            formats_ignored: 0,
            ptime_ms: None,
            rtcp: None,
            has_rtcp_mux: false,
            crypto: Vec::new(),
            crypto_count: 0,
            has_fingerprint: false,
            label: None,
            paths: MediaPaths::default(),
            connection: None,
            own_direction: None,
        };
        if media.protocol.is_rtp() {
            media.read_formats(rest);
        }
        media
    }

    fn read_formats(&mut self, list: &[u8]) {
        for word in list.split(|byte| matches!(byte, b' ' | b'\t')) {
            let Some(payload_type) = payload_type(word) else { continue };
            if self.formats.len() < limits::SDP_FORMATS_MAX {
                self.formats.push(Format::of_static_type(payload_type));
            } else {
                self.formats_ignored = self.formats_ignored.saturating_add(1);
            }
        }
    }

    /// Applies one attribute: `name` and what follows the colon.
    pub(crate) fn apply_attribute(&mut self, name: &[u8], value: &'a [u8]) {
        if let Some(direction) = Direction::from_attribute(name) {
            self.own_direction = Some(direction);
            return;
        }
        match name {
            b"rtpmap" => self.each_format(value, Format::apply_rtpmap),
            b"fmtp" => self.each_format(value, |format, rest| format.fmtp = Some(rest)),
            b"ptime" => {
                let digits = value.split(|byte| *byte == b'.').next().unwrap_or(value);
                self.ptime_ms = number(trim(digits)).or(self.ptime_ms);
            }
            b"rtcp" => {
                let (port, address) = split_word(value);
                let address = Connection::parse(address).and_then(Connection::address);
                self.rtcp = number(port).map(|port| RtcpAttribute { port, address });
            }
            b"rtcp-mux" => self.has_rtcp_mux = true,
            b"crypto" => {
                self.crypto_count = self.crypto_count.saturating_add(1);
                if self.crypto.len() < limits::SDP_CRYPTO_MAX {
                    self.crypto.extend(CryptoLine::parse(value));
                }
            }
            b"fingerprint" => self.has_fingerprint = true,
            b"label" => self.label = Some(value),
            _ => self.paths.apply_attribute(name, value),
        }
    }

    /// For every format of the payload type that `value` begins with: at most
    /// `limits::SDP_FORMATS_MAX` steps.
    fn each_format(&mut self, value: &'a [u8], apply: impl Fn(&mut Format<'a>, &'a [u8])) {
        let (word, rest) = split_word(value);
        let Some(payload_type) = payload_type(word) else { return };
        for format in &mut self.formats {
            if format.payload_type == payload_type {
                apply(format, rest);
            }
        }
    }

    /// True for a medium that its writer does not want to hear: `a=sendonly`, `a=inactive`
    /// (RFC 3264 §8.4), or the address 0.0.0.0 (RFC 2543 §B.5). A rejected medium is not on hold.
    #[must_use]
    pub fn is_on_hold(&self) -> bool {
        self.port != 0
            && (matches!(self.direction, Direction::SendOnly | Direction::Inactive)
                || self.address.is_some_and(|address| address.is_unspecified()))
    }
}

fn kind_of(token: &[u8]) -> MediaKind {
    let is = |name: &[u8]| token.eq_ignore_ascii_case(name);
    match token {
        _ if is(b"audio") => MediaKind::Audio,
        _ if is(b"video") => MediaKind::Video,
        _ if is(b"image") => MediaKind::Image,
        _ if is(b"application") => MediaKind::Application,
        _ if is(b"text") => MediaKind::Text,
        _ if is(b"message") => MediaKind::Message,
        _ => MediaKind::Other,
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    decimal(digits).and_then(|number| u16::try_from(number).ok())
}

fn payload_type(word: &[u8]) -> Option<u8> {
    decimal(word).and_then(|number| u8::try_from(number).ok()).filter(|number| *number < 128)
}
