//! From a captured frame to a transport payload, and from TCP segments to bytes in order.
//!
//! Purpose: take off link layers, tunnels and IP, rebuild fragmented datagrams and TCP streams, and say which
//! frames the mirror copied twice, so that the layers above see payloads with their 5-tuple alone.
//! Invariants: every frame ends as one payload or as one outcome; all state is bounded by
//! `base::limits`; the path of an unfragmented UDP datagram does not allocate.
//! Non-goals: what the payload means (see `sip`, `rtp`); checksums, which offload leaves unfilled.
//! Sources: RFC 791, RFC 8200 (IP), RFC 768 (UDP), RFC 9293 (TCP), IEEE 802.1Q, the LINKTYPE registry.

mod aged_map;
pub mod decap;
mod duplicates;
mod fragments;
#[cfg(test)]
mod frames;
pub mod fuzz;
pub mod hep;
mod ip;
mod link;
mod plain;
mod tcp_direction;
mod tcp_openings;
mod tcp_parked;
pub mod tcp_streams;
mod transport;
mod tunnel;

pub use aged_map::AgedMap;
pub use decap::{Cut, Decap, Decapped};
pub use duplicates::Sighting;
pub use hep::{HepFramer, HepMessage};
pub use plain::{PlainRtp, plain_rtp};
pub use tcp_direction::Continuity;
pub use tcp_openings::Interest;
pub use tcp_streams::{TcpMoves, TcpStreams};
pub use transport::{TcpFlags, TcpSegment};
