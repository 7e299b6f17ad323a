//! Reads UDP and TCP headers.
//!
//! Purpose: the 5-tuple and the payload of a datagram that IP has delimited.
//! Invariants: a UDP payload ends where UDP says it ends; a length that neither the bytes nor what
//! the capture cut can explain is malformed.
//! Non-goals: checksums (offload leaves them unfilled) and TCP options.
//! Sources: RFC 768, RFC 2675 §4 (UDP length 0), RFC 9293 §3.1.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::ip::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::base::{Endpoint, FiveTuple, FrameOutcome, Protocol};

/// The flags of a TCP segment that open and close a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// Opens the direction; its sequence number counts one before the first byte.
    pub syn: bool,
    /// Closes the direction after this segment's payload.
    pub fin: bool,
    /// Ends the connection at once.
    pub rst: bool,
}

/// One TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// Sequence number of the first payload byte (of the SYN, if it is one).
    pub seq: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Payload as captured.
    pub payload: &'a [u8],
    /// Bytes of the payload that the capture cut off behind `payload`.
    pub missing_bytes: u32,
}

/// What an IP datagram carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport<'a> {
    Udp { flow: FiveTuple, payload: &'a [u8], missing_bytes: usize },
    Tcp { flow: FiveTuple, segment: TcpSegment<'a> },
}

/// Addresses of a datagram, both IPv4-mapped or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) source: [u8; 16],
    pub(super) destination: [u8; 16],
}

/// Reads the transport header at the start of `bytes`, a datagram's payload of which the capture
/// cut off `missing_bytes` behind.
///
/// # Errors
/// `NotVoip` for other protocols; `MalformedTransport`, or `CutShort` when the capture cut the header.
pub(super) fn transport(
    addresses: Addresses,
    protocol: u8,
    bytes: &[u8],
    missing_bytes: usize,
) -> Result<Transport<'_>, FrameOutcome> {
    match protocol {
        PROTOCOL_UDP => udp(addresses, bytes, missing_bytes),
        PROTOCOL_TCP => tcp(addresses, bytes, missing_bytes),
        _ => Err(FrameOutcome::NotVoip),
    }
}

fn udp(
    addresses: Addresses,
    bytes: &[u8],
    missing_bytes: usize,
) -> Result<Transport<'_>, FrameOutcome> {
    let header = UdpHeaderSlice::from_slice(bytes).map_err(|_| incomplete(missing_bytes))?;
    let header_len_bytes = header.slice().len();
    let rest = bytes.get(header_len_bytes..).unwrap_or(&[]);
    let (payload, missing_bytes) = match usize::from(header.length()) {
        // Too long for 16 bits (a jumbogram), or left for the card to fill in.
        0 => (rest, missing_bytes),
        length => {
            let claimed =
                length.checked_sub(header_len_bytes).ok_or(FrameOutcome::MalformedTransport)?;
            let lacking = claimed.saturating_sub(rest.len());
            if lacking > missing_bytes {
                return Err(FrameOutcome::MalformedTransport);
            }
            (rest.get(..claimed).unwrap_or(rest), lacking)
        }
    };
    let flow = five_tuple(
        Protocol::Udp,
        addresses,
        Ports { source: header.source_port(), destination: header.destination_port() },
    );
    Ok(Transport::Udp { flow, payload, missing_bytes })
}

fn tcp(
    addresses: Addresses,
    bytes: &[u8],
    missing_bytes: usize,
) -> Result<Transport<'_>, FrameOutcome> {
    let header = TcpHeaderSlice::from_slice(bytes).map_err(|error| match error {
        etherparse::err::tcp::HeaderSliceError::Len(_) => incomplete(missing_bytes),
        etherparse::err::tcp::HeaderSliceError::Content(_) => FrameOutcome::MalformedTransport,
    })?;
    let flow = five_tuple(
        Protocol::Tcp,
        addresses,
        Ports { source: header.source_port(), destination: header.destination_port() },
    );
    let segment = TcpSegment {
        seq: header.sequence_number(),
        flags: TcpFlags { syn: header.syn(), fin: header.fin(), rst: header.rst() },
        payload: bytes.get(header.slice().len()..).unwrap_or(&[]),
        missing_bytes: u32::try_from(missing_bytes).unwrap_or(u32::MAX),
    };
    Ok(Transport::Tcp { flow, segment })
}

#[derive(Clone, Copy)]
struct Ports {
    source: u16,
    destination: u16,
}

fn five_tuple(protocol: Protocol, addresses: Addresses, ports: Ports) -> FiveTuple {
    FiveTuple {
        protocol,
        source: Endpoint { ip: addresses.source, port: ports.source },
        destination: Endpoint { ip: addresses.destination, port: ports.destination },
    }
}

/// A header ends behind the bytes: the capture's doing, or a lie.
fn incomplete(missing_bytes: usize) -> FrameOutcome {
    if missing_bytes > 0 { FrameOutcome::CutShort } else { FrameOutcome::MalformedTransport }
}
