//! Where else a medium may be: ICE candidates and sources.
//!
//! Purpose: addresses beside the `c=` and `m=` lines, and the SSRCs that will come.
//! Invariants: at most `limits::SDP_CANDIDATES_MAX` candidates, as many remote ones, and
//! `limits::SDP_SSRCS_MAX` sources; a line that cannot be read is passed over.
//! Non-goals: ICE's checks and priorities; candidates by name (`….local`) and over TCP.
//! Sources: RFC 8839 §5.1 (candidate), §5.2 (remote-candidates); RFC 5576 §4.1 (ssrc).
//!
//! ```text
//! a=candidate:<foundation> <component> UDP <priority> <address> <port> typ <type> [raddr <address>] [rport <port>] …
//! a=remote-candidates:<component> <address> <port> [<component> <address> <port>]…
//! a=ssrc:<number> <attribute>[:<value>]
//! ```

use super::lines::{decimal, split_around, split_word};
use crate::base::limits;
use std::net::IpAddr;

/// How an address came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CandidateKind {
    /// An interface of the party.
    Host,
    /// What a STUN server saw (`srflx`).
    ServerReflexive,
    /// What the peer saw (`prflx`).
    PeerReflexive,
    /// An address at a TURN server.
    Relay,
}

/// One `a=candidate` for UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// 1: RTP; 2: RTCP.
    pub component: u16,
    /// Address and port.
    pub at: (IpAddr, u16),
    /// Its type.
    pub kind: CandidateKind,
    /// `raddr` and `rport`: the address behind it, where told.
    pub related: Option<(IpAddr, u16)>,
}

/// What a media section says beside its `m=` and `c=` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaPaths {
    /// `a=candidate`, in order.
    pub candidates: Vec<Candidate>,
    /// `a=remote-candidates`: component and address of the *other* party, as this one found them.
    pub remote: Vec<(u16, (IpAddr, u16))>,
    /// `a=ssrc`, each number once.
    pub ssrcs: Vec<u32>,
}

impl MediaPaths {
    /// Takes an attribute of the section; others are ignored.
    pub(crate) fn apply_attribute(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"candidate" if self.candidates.len() < limits::SDP_CANDIDATES_MAX => {
                self.candidates.extend(candidate(value));
            }
            b"remote-candidates" => self.read_remote(value),
            b"ssrc" if self.ssrcs.len() < limits::SDP_SSRCS_MAX => {
                let (word, _) = split_word(value);
                let number = decimal(word).and_then(|number| u32::try_from(number).ok());
                self.ssrcs.extend(number.filter(|number| !self.ssrcs.contains(number)));
            }
            _ => {}
        }
    }

    fn read_remote(&mut self, value: &[u8]) {
        let mut rest = value;
        while self.remote.len() < limits::SDP_CANDIDATES_MAX {
            let (component, tail) = split_word(rest);
            let (address, tail) = split_word(tail);
            let (port, tail) = split_word(tail);
            let (Some(component), Some(at)) = (small(component), place(address, port)) else {
                break;
            };
            self.remote.push((component, at));
            rest = tail;
        }
    }
}

fn candidate(value: &[u8]) -> Option<Candidate> {
    let (_, rest) = split_word(value);
    let (component, rest) = split_word(rest);
    let (transport, rest) = split_word(rest);
    let (_, rest) = split_word(rest);
    let (address, rest) = split_word(rest);
    let (port, rest) = split_word(rest);
    let (typ, rest) = split_word(rest);
    let (kind, mut rest) = split_word(rest);
    if !transport.eq_ignore_ascii_case(b"udp") || typ != b"typ" {
        return None;
    }
    let kind = match kind {
        b"host" => CandidateKind::Host,
        b"srflx" => CandidateKind::ServerReflexive,
        b"prflx" => CandidateKind::PeerReflexive,
        b"relay" => CandidateKind::Relay,
        _ => return None,
    };
    let (mut related, mut related_port): (&[u8], &[u8]) = (&[], &[]);
    while !rest.is_empty() {
        let (name, tail) = split_word(rest);
        let (value, tail) = split_word(tail);
        match name {
            b"raddr" => related = value,
            b"rport" => related_port = value,
            _ => {}
        }
        rest = tail;
    }
    let component = small(component)?;
    let at = place(address, port)?;
    // 0.0.0.0 and port 9 hide what is behind (RFC 8839 §5.1).
    let is_shown = |at: &(IpAddr, u16)| !at.0.is_unspecified() && at.1 != 9;
    let related = place(related, related_port).filter(is_shown);
    Some(Candidate { component, at, kind, related })
}

fn small(word: &[u8]) -> Option<u16> {
    decimal(word).and_then(|number| u16::try_from(number).ok())
}

/// An address and a port that is not 0; a scope (`%eth0`) is taken off.
fn place(address: &[u8], port: &[u8]) -> Option<(IpAddr, u16)> {
    let address = match memchr::memchr(b'%', address) {
        Some(at) => split_around(address, at).0,
        None => address,
    };
    let address = std::str::from_utf8(address).ok()?.parse().ok()?;
    Some((address, small(port).filter(|port| *port != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> MediaPaths {
        let mut paths = MediaPaths::default();
        for line in lines {
            let (name, value) = line.split_once(':').expect("an attribute");
            paths.apply_attribute(name.as_bytes(), value.as_bytes());
        }
        paths
    }

    fn at(text: &str) -> (IpAddr, u16) {
        let at: std::net::SocketAddr = text.parse().expect("an address");
        (at.ip(), at.port())
    }

    #[test]
    fn candidates_of_rfc_8839_are_read() {
        // RFC 8839 §5.1 and §5.6, and what browsers add.
        let paths = read(&[
            "candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host",
            "candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998",
            "candidate:3 2 udp 41885439 2001:db8::7 50000 typ relay raddr 0.0.0.0 rport 9 generation 0 ufrag x",
            "candidate:4 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active",
            "candidate:5 1 UDP 1 7f1c.local 9000 typ host",
            "candidate:6 1 UDP 1 10.0.0.1 0 typ host",
            "candidate:7",
        ]);
        let [host, reflexive, relay] = paths.candidates.as_slice() else { panic!("{paths:?}") };
        assert_eq!((host.component, host.at), (1, at("203.0.113.141:8998")));
        assert_eq!((host.kind, host.related), (CandidateKind::Host, None));
        assert_eq!(reflexive.kind, CandidateKind::ServerReflexive);
        assert_eq!(reflexive.related, Some(at("203.0.113.141:8998")));
        assert_eq!((relay.component, relay.at), (2, at("[2001:db8::7]:50000")));
        assert_eq!((relay.kind, relay.related), (CandidateKind::Relay, None));
    }

    #[test]
    fn remote_candidates_and_sources_are_read() {
        let paths = read(&[
            "remote-candidates:1 192.0.2.3 45664 2 192.0.2.3 45665 x",
            "ssrc:1001 cname:a@b",
            "ssrc:1001 msid:x y",
            "ssrc:4294967295 cname:a@b",
            "ssrc:4294967296 cname:a@b",
        ]);
        assert_eq!(paths.remote, [(1, at("192.0.2.3:45664")), (2, at("192.0.2.3:45665"))]);
        assert_eq!(paths.ssrcs, [1_001, u32::MAX]);
    }

    #[test]
    fn a_flood_of_candidates_meets_its_limit() {
        let mut paths = MediaPaths::default();
        for number in 0..500u32 {
            let line = format!("{number} 1 UDP 1 10.0.0.1 9000 typ host");
            paths.apply_attribute(b"candidate", line.as_bytes());
            paths.apply_attribute(b"ssrc", number.to_string().as_bytes());
        }
        paths.apply_attribute(b"remote-candidates", "1 10.0.0.1 9 ".repeat(500).as_bytes());
        assert_eq!(paths.candidates.len(), limits::SDP_CANDIDATES_MAX);
        assert_eq!(paths.remote.len(), limits::SDP_CANDIDATES_MAX);
        assert_eq!(paths.ssrcs.len(), limits::SDP_SSRCS_MAX);
    }
}
