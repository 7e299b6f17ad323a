//! One frame in, at most one transport payload out.
//!
//! Purpose: the way of a frame through link, IP, duplicates, fragments and transport, in one place.
//! Invariants: every frame ends in exactly one [`Decapped`]; an unfragmented one costs no allocation.
//! Non-goals: deciding what a payload is, and what to do with a repeated one (the front does).
//! Sources: RFC 791, RFC 8200, RFC 768, RFC 9293.
//!
//! A tunnel (VXLAN, GRE, ERSPAN…) will be one more step: `transport` or `ip` yields an inner frame or
//! packet, and the steps run again on it, to a depth limit, before duplicates are looked for.

use super::duplicates::{DuplicateWindow, Sighting};
use super::fragments::{Added, DatagramKey, Fragment, Fragments};
use super::ip::{self, IpPacket, PROTOCOL_TCP, PROTOCOL_UDP, Part, Version};
use super::link;
use super::transport::{self, Addresses, TcpSegment, Transport};
use crate::base::{FiveTuple, Frame, FrameOutcome, PacketTime};

/// Takes frames of one ring apart. Owns its unfinished datagrams and its duplicate window.
#[derive(Debug)]
pub struct Decap {
    duplicates: DuplicateWindow,
    fragments: Fragments,
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
        Self { duplicates: DuplicateWindow::new(), fragments: Fragments::new() }
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
        let (network, bytes) = link::network(frame)?;
        let packet = ip::packet(network, bytes, link::missing_bytes(frame))?;
        if !may_carry_transport(&packet) {
            return Err(FrameOutcome::NotVoip);
        }
        let sighting = self.duplicates.sight(&packet, frame.time);
        let addresses = Addresses { source: packet.source, destination: packet.destination };
        let transport = match packet.part {
            None => transport::transport(
                addresses,
                packet.protocol,
                packet.payload,
                packet.missing_bytes,
            )?,
            Some(_) if sighting == Sighting::Repeated => return Err(FrameOutcome::Duplicate),
            Some(part) => self.fragment(&packet, part, frame.time)?,
        };
        Ok(match transport {
            Transport::Udp { flow, payload, missing_bytes } => {
                let cut = if missing_bytes > 0 { Cut::Short } else { Cut::Whole };
                Decapped::Udp { flow, payload, sighting, cut }
            }
            Transport::Tcp { flow, segment } => Decapped::Tcp { flow, segment, sighting },
        })
    }

    #[cold]
    fn fragment(
        &mut self,
        packet: &IpPacket<'_>,
        part: Part,
        now: PacketTime,
    ) -> Result<Transport<'_>, FrameOutcome> {
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
        let first = match self.fragments.add(key, fragment, now) {
            Added::Held => return Err(FrameOutcome::Fragment),
            Added::Dropped => return Err(FrameOutcome::FragmentDropped),
            Added::Whole { protocol } => protocol,
        };
        let datagram = self.fragments.whole();
        let (protocol, payload) = match packet.version {
            Version::V4 => (first, datagram),
            Version::V6 => {
                let upper = ip::upper_layer(first, datagram, 0)?;
                if upper.part.is_some() {
                    return Err(FrameOutcome::MalformedIp);
                }
                (upper.protocol, upper.payload)
            }
        };
        let addresses = Addresses { source: packet.source, destination: packet.destination };
        transport::transport(addresses, protocol, payload, 0)
    }
}

/// A fragment of IPv6 may begin with an extension header, and later ones repeat its number.
fn may_carry_transport(packet: &IpPacket<'_>) -> bool {
    let fragment_of_v6 = packet.version == Version::V6 && packet.part.is_some();
    matches!(packet.protocol, PROTOCOL_UDP | PROTOCOL_TCP) || fragment_of_v6
}
