//! Takes off IPv4 or IPv6.
//!
//! Purpose: addresses, protocol and payload of one packet, and whether it is part of a larger one.
//! Invariants: `payload` ends where IP says it ends, never in the link's padding; a length that
//! neither the bytes nor what the capture cut can explain is malformed.
//! Non-goals: header checksums (offload), options, and routing headers' final destinations.
//! Sources: RFC 791 §3.1, RFC 8200 §4, RFC 4302 §2.2 (AH's length), RFC 6946 (atomic fragments).

use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::link::Network;
use crate::base::limits::{DATAGRAM_BYTES_MAX, IPV6_EXTENSIONS_MAX};
use crate::base::{Endpoint, FrameOutcome, Reader};

/// TCP's protocol number.
pub(super) const PROTOCOL_TCP: u8 = 6;
/// UDP's protocol number.
pub(super) const PROTOCOL_UDP: u8 = 17;

/// Whether more of the datagram follows a fragment (flag MF).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartEnd {
    More,
    Last,
}

/// Which part of a datagram a fragment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset_bytes: usize,
    pub(super) end: PartEnd,
}

/// One IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpPacket<'a> {
    /// IPv4 as IPv4-mapped.
    pub(super) source: [u8; 16],
    pub(super) destination: [u8; 16],
    /// Version of its header.
    pub(super) version: Version,
    /// Protocol of `payload`; of an IPv6 fragment what its fragment header says, perhaps an
    /// extension header.
    pub(super) protocol: u8,
    /// IPv4: always; IPv6: of fragments, else 0.
    pub(super) identification: u32,
    /// `None`: a whole datagram.
    pub(super) part: Option<Part>,
    pub(super) payload: &'a [u8],
    /// Bytes of the payload that the capture cut off.
    pub(super) missing_bytes: usize,
}

/// IP's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Version {
    V4,
    V6,
}

/// What an IPv6 header chain leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upper<'a> {
    pub(super) protocol: u8,
    pub(super) identification: u32,
    pub(super) part: Option<Part>,
    pub(super) payload: &'a [u8],
}

/// Reads one packet from the start of `bytes`; `missing_bytes`: how many the capture cut off behind.
///
/// # Errors
/// `MalformedIp`, or `CutShort` when a header is not whole because the capture cut it.
pub(super) fn packet(
    network: Network,
    bytes: &[u8],
    missing_bytes: usize,
) -> Result<IpPacket<'_>, FrameOutcome> {
    let Some(first) = bytes.first() else { return Err(incomplete(missing_bytes)) };
    match (first >> 4, network) {
        (4, Network::Ipv4 | Network::ByVersion) => v4(bytes, missing_bytes),
        (6, Network::Ipv6 | Network::ByVersion) => v6(bytes, missing_bytes),
        _ => Err(FrameOutcome::MalformedIp),
    }
}

fn v4(bytes: &[u8], missing_bytes: usize) -> Result<IpPacket<'_>, FrameOutcome> {
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
        etherparse::err::ipv4::HeaderSliceError::Len(_) => incomplete(missing_bytes),
        etherparse::err::ipv4::HeaderSliceError::Content(_) => FrameOutcome::MalformedIp,
    })?;
    let header_len_bytes = header.slice().len();
    let rest = bytes.get(header_len_bytes..).unwrap_or(&[]);
    // A total length of 0 is what segmentation offload leaves in captures on the sender.
    let (payload, missing_bytes) = match usize::from(header.total_len()) {
        0 => (rest, missing_bytes),
        total => {
            let claimed = total.checked_sub(header_len_bytes).ok_or(FrameOutcome::MalformedIp)?;
            bounded(rest, claimed, missing_bytes)?
        }
    };
    let packet = IpPacket {
        source: Endpoint::v4(header.source(), 0).ip,
        destination: Endpoint::v4(header.destination(), 0).ip,
        version: Version::V4,
        protocol: header.protocol().0,
        identification: u32::from(header.identification()),
        part: part(header.fragments_offset().value(), header.more_fragments()),
        payload,
        missing_bytes,
    };
    check_part(packet.part, payload, missing_bytes, header_len_bytes)?;
    Ok(packet)
}

fn v6(bytes: &[u8], missing_bytes: usize) -> Result<IpPacket<'_>, FrameOutcome> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
        etherparse::err::ipv6::HeaderSliceError::Len(_) => incomplete(missing_bytes),
        etherparse::err::ipv6::HeaderSliceError::Content(_) => FrameOutcome::MalformedIp,
    })?;
    let rest = bytes.get(header.slice().len()..).unwrap_or(&[]);
    // A payload length of 0: a jumbogram (RFC 2675), or segmentation offload.
    let (payload, missing_bytes) = match usize::from(header.payload_length()) {
        0 => (rest, missing_bytes),
        claimed => bounded(rest, claimed, missing_bytes)?,
    };
    let upper = upper_layer(header.next_header().0, payload, missing_bytes)?;
    check_part(upper.part, upper.payload, missing_bytes, 0)?;
    Ok(IpPacket {
        source: header.source(),
        destination: header.destination(),
        version: Version::V6,
        protocol: upper.protocol,
        identification: upper.identification,
        part: upper.part,
        payload: upper.payload,
        missing_bytes,
    })
}

/// Follows IPv6 extension headers up to a transport header or a fragment header.
///
/// # Errors
/// `MalformedIp` for more than `IPV6_EXTENSIONS_MAX`, or one that does not fit (`CutShort` when the
/// capture cut it).
pub(super) fn upper_layer(
    mut protocol: u8,
    mut payload: &[u8],
    missing_bytes: usize,
) -> Result<Upper<'_>, FrameOutcome> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    let mut identification = 0;
    for _ in 0..=IPV6_EXTENSIONS_MAX {
        let mut reader = Reader::new(payload);
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION => {
                let [next, units] = reader.array().ok_or(incomplete(missing_bytes))?;
                let len_bytes = match protocol {
                    AUTHENTICATION => usize::from(units).saturating_mul(4),
                    _ => usize::from(units).saturating_mul(8),
                };
                // Both count without the first 8 bytes, of which two have been read.
                let body = reader.take(len_bytes.saturating_add(6));
                body.ok_or(incomplete(missing_bytes))?;
                protocol = next;
                payload = reader.rest();
            }
            FRAGMENT => {
                let header = Ipv6FragmentHeaderSlice::from_slice(payload)
                    .map_err(|_| incomplete(missing_bytes))?;
                payload = payload.get(header.slice().len()..).unwrap_or(&[]);
                protocol = header.next_header().0;
                let offset = header.fragment_offset().value();
                let part = part(offset, header.more_fragments());
                identification = header.identification();
                if part.is_some() {
                    return Ok(Upper { protocol, identification, part, payload });
                }
            }
            _ => return Ok(Upper { protocol, identification, part: None, payload }),
        }
    }
    Err(FrameOutcome::MalformedIp)
}

/// A header ends behind the bytes: the capture's doing, or a lie.
fn incomplete(missing_bytes: usize) -> FrameOutcome {
    if missing_bytes > 0 { FrameOutcome::CutShort } else { FrameOutcome::MalformedIp }
}

/// The first `claimed` bytes of `rest`, and how many of them the capture cut off.
fn bounded(
    rest: &[u8],
    claimed: usize,
    missing_bytes: usize,
) -> Result<(&[u8], usize), FrameOutcome> {
    match rest.get(..claimed) {
        Some(payload) => Ok((payload, 0)),
        None => match claimed.saturating_sub(rest.len()) {
            lacking if lacking <= missing_bytes => Ok((rest, lacking)),
            _ => Err(FrameOutcome::MalformedIp),
        },
    }
}

/// What offset (in units of 8 bytes) and flag MF say; `None` for a whole datagram.
fn part(offset_units: u16, more_fragments: bool) -> Option<Part> {
    let offset_bytes = usize::from(offset_units).saturating_mul(8);
    let end = if more_fragments { PartEnd::More } else { PartEnd::Last };
    (offset_bytes > 0 || more_fragments).then_some(Part { offset_bytes, end })
}

/// A fragment must be whole, not empty, a multiple of 8 bytes unless the last, and end within the
/// largest datagram.
fn check_part(
    part: Option<Part>,
    payload: &[u8],
    missing_bytes: usize,
    header_len_bytes: usize,
) -> Result<(), FrameOutcome> {
    let Some(part) = part else { return Ok(()) };
    let len_bytes = payload.len().saturating_add(missing_bytes);
    let end_bytes = part.offset_bytes.saturating_add(len_bytes);
    let uneven = part.end == PartEnd::More && len_bytes % 8 != 0;
    if len_bytes == 0 || uneven || end_bytes.saturating_add(header_len_bytes) > DATAGRAM_BYTES_MAX {
        return Err(FrameOutcome::MalformedIp);
    }
    if missing_bytes > 0 { Err(FrameOutcome::CutShort) } else { Ok(()) }
}
