//! Addresses of the wire: an IP address with a port, and the 5-tuple of a packet.
//!
//! Purpose: fixed-size, hashable keys for flow tables, the same for IPv4 and IPv6.
//! Invariants: IPv4 is stored IPv4-mapped, so equal addresses have equal bytes.
//! Non-goals: names, scopes, and anything that resolves.
//! Sources: RFC 4291 §2.5.5.2 (IPv4-mapped IPv6 addresses).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address and a UDP or TCP port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// 16 bytes, network order; IPv4 as `::ffff:a.b.c.d`.
    pub ip: [u8; 16],
    /// Port, host order.
    pub port: u16,
}

impl Endpoint {
    /// From an address of either family and a port.
    #[must_use]
    pub fn new(ip: IpAddr, port: u16) -> Self {
        let ip = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { ip, port }
    }

    /// From the four bytes of an IPv4 header.
    #[must_use]
    pub fn v4(ip: [u8; 4], port: u16) -> Self {
        Self::new(IpAddr::V4(Ipv4Addr::from(ip)), port)
    }

    /// The address, IPv4 where it is IPv4-mapped.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        Ipv6Addr::from(self.ip).to_canonical()
    }

    /// The same address with another port.
    #[must_use]
    pub const fn with_port(self, port: u16) -> Self {
        Self { ip: self.ip, port }
    }

    /// True for `0.0.0.0` and `::` — RFC 2543's way to say hold.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.address().is_unspecified()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address(), self.port).fmt(out)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Transport protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Protocol {
    /// `udp` or `tcp`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a packet came from and went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FiveTuple {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
}

impl FiveTuple {
    /// The other direction of the same flow.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_print_as_usual() {
        assert_eq!(Endpoint::v4([10, 0, 0, 1], 5060).to_string(), "10.0.0.1:5060");
        let six = Endpoint::new("2001:db8::1".parse().expect("address"), 9);
        assert_eq!(six.to_string(), "[2001:db8::1]:9");
        assert!(Endpoint::v4([0, 0, 0, 0], 1).is_unspecified());
    }
}
