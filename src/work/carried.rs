//! What one direction of a connection carries.
//!
//! Purpose: decide by the first bytes, and turn what follows into SIP messages.
//! Invariants: what was decided stays; a direction that is nothing of ours holds no bytes.
//! Non-goals: TCP (see `net::TcpStreams`), opening TLS (see `secure`).
//! Sources: RFC 3261 §18.3 (framing), RFC 7118 (WebSocket), HEP3 of the Homer project, RFC 5246 and RFC 8446 (records).

use crate::base::FiveTuple;
use crate::base::limits::SIP_START_LINE_BYTES_MAX;
use crate::net::hep::length3;
use crate::net::{Continuity, HepFramer};
use crate::sip::{Framer, Gap, Likeness, WebSocket, looks_like_sip, looks_like_websocket};
use crate::tls::{Opening, Side, opening};

/// One direction's protocol, with what of it has not been handed on.
#[derive(Debug)]
pub(super) enum Carried {
    /// The first bytes are not enough, or there are none.
    Undecided {
        /// What came, leading line ends aside.
        prefix: Vec<u8>,
        continuity: Continuity,
    },
    Sip(Framer),
    /// SIP over WebSocket, its HTTP included.
    WebSocket(Box<WebSocket>),
    /// What an agent sends a collector.
    Hep(HepFramer),
    /// Records of a connection that [`super::secure::Secure`] holds.
    Tls(Side),
    /// Nothing that is followed.
    Other,
}

impl Default for Carried {
    fn default() -> Self {
        Self::Undecided { prefix: Vec::new(), continuity: Continuity::Contiguous }
    }
}

/// What first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Sip,
    WebSocket,
    Hep,
    Tls(Side),
    Other,
    /// More of them are needed.
    Unclear,
}

/// Looks at the first bytes of a direction.
pub(super) fn look(bytes: &[u8]) -> Look {
    match opening(bytes) {
        Opening::Hello(side) => return Look::Tls(side),
        Opening::TooShort if !bytes.is_empty() => return Look::Unclear,
        _ => {}
    }
    if length3(bytes).is_some() {
        return Look::Hep;
    }
    match (looks_like_sip(bytes), looks_like_websocket(bytes)) {
        (Likeness::Yes, _) => Look::Sip,
        (_, Likeness::Yes) => Look::WebSocket,
        (Likeness::No, Likeness::No) => Look::Other,
        _ if bytes.len() < SIP_START_LINE_BYTES_MAX => Look::Unclear,
        _ => Look::Other,
    }
}

impl Carried {
    /// Takes the next bytes of `flow`; `on_message` gets each SIP message that they complete, with who sent it to
    /// whom. Returns the side and the bytes when they are TLS.
    pub(super) fn feed<'a>(
        &mut self,
        flow: &FiveTuple,
        bytes: &'a [u8],
        continuity: Continuity,
        mut on_message: impl FnMut(&FiveTuple, &[u8]),
    ) -> Option<(Side, Records<'a>)> {
        match self {
            Self::Other => None,
            Self::Tls(side) => Some((*side, Records::Next(bytes, continuity))),
            Self::Sip(framer) => {
                framer.feed(bytes, gap(continuity), |message| on_message(flow, message));
                None
            }
            Self::WebSocket(socket) => {
                socket.feed(bytes, gap(continuity), |message| on_message(flow, message));
                if socket.is_other() {
                    *self = Self::Other;
                }
                None
            }
            Self::Hep(framer) => {
                framer.feed(bytes, continuity, |message| {
                    if looks_like_sip(message.payload) == Likeness::Yes {
                        on_message(&message.flow, message.payload);
                    }
                });
                None
            }
            Self::Undecided { .. } => self.decide(flow, bytes, continuity, on_message),
        }
    }

    /// True when it is known to carry SIP.
    pub(super) fn is_sip(&self) -> bool {
        match self {
            Self::Sip(_) | Self::Hep(_) => true,
            Self::WebSocket(socket) => socket.is_open(),
            Self::Undecided { .. } | Self::Tls(_) | Self::Other => false,
        }
    }

    fn decide<'a>(
        &mut self,
        flow: &FiveTuple,
        bytes: &[u8],
        now: Continuity,
        on_message: impl FnMut(&FiveTuple, &[u8]),
    ) -> Option<(Side, Records<'a>)> {
        let Self::Undecided { prefix, continuity } = self else { return None };
        if now == Continuity::Gap {
            prefix.clear();
            *continuity = Continuity::Gap;
        }
        prefix.extend_from_slice(bytes);
        let blank = prefix.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        prefix.drain(..blank);
        let (first, continuity) = match look(prefix) {
            Look::Unclear => return None,
            _ => (std::mem::take(prefix), *continuity),
        };
        *self = match (look(&first), continuity) {
            (Look::Tls(side), _) => {
                *self = Self::Tls(side);
                return Some((side, Records::First(first, continuity)));
            }
            (Look::WebSocket, _) => Self::WebSocket(Box::new(WebSocket::new(&first))),
            (Look::Hep, _) => Self::Hep(HepFramer::default()),
            // Behind a gap it may be the middle of a message: the framer finds the next one.
            (Look::Sip, _) | (_, Continuity::Gap) => Self::Sip(Framer::default()),
            _ => Self::Other,
        };
        let continuity =
            if matches!(self, Self::WebSocket(_)) { Continuity::Contiguous } else { continuity };
        self.feed(flow, &first, continuity, on_message);
        None
    }
}

/// Bytes of TLS.
pub(super) enum Records<'a> {
    /// The first ones of a direction, gathered.
    First(Vec<u8>, Continuity),
    Next(&'a [u8], Continuity),
}

const fn gap(continuity: Continuity) -> Gap {
    match continuity {
        Continuity::Contiguous => Gap::Contiguous,
        Continuity::Gap => Gap::Gap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Endpoint, Protocol};

    const MESSAGE: &[u8] =
        b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    fn flow() -> FiveTuple {
        let (source, destination) =
            (Endpoint::v4([10, 0, 0, 1], 5_060), Endpoint::v4([10, 0, 0, 2], 5_060));
        FiveTuple { protocol: Protocol::Tcp, source, destination }
    }

    fn messages(pieces: &[(&[u8], Continuity)]) -> (usize, Carried) {
        let (mut carried, mut count) = (Carried::default(), 0);
        for (bytes, continuity) in pieces {
            let records = carried.feed(&flow(), bytes, *continuity, |_, message| {
                assert_eq!(message, MESSAGE);
                count += 1;
            });
            assert!(records.is_none());
        }
        (count, carried)
    }

    #[test]
    fn sip_is_recognised_wherever_its_first_message_was_cut() {
        let whole = [b"\r\n\r\n", MESSAGE, MESSAGE].concat();
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            let (count, _) =
                messages(&[(head, Continuity::Contiguous), (tail, Continuity::Contiguous)]);
            assert_eq!(count, 2, "cut at {cut}");
        }
    }

    #[test]
    fn behind_a_gap_the_middle_of_a_message_does_not_end_the_direction() {
        let pieces = [(&MESSAGE[30..], Continuity::Gap), (MESSAGE, Continuity::Contiguous)];
        assert_eq!(messages(&pieces).0, 1);
        let (count, carried) = messages(&[(b"GET / HTTP/1.1\r\n\r\n", Continuity::Contiguous)]);
        assert!(count == 0 && matches!(carried, Carried::Other));
    }

    #[test]
    fn a_hello_hands_on_all_of_its_bytes() {
        let mut carried = Carried::default();
        assert!(carried.feed(&flow(), &[22, 3], Continuity::Contiguous, |_, _| {}).is_none());
        let hello = carried.feed(&flow(), &[1, 0, 90, 1, 0, 7], Continuity::Contiguous, |_, _| {});
        let Some((Side::Client, Records::First(bytes, Continuity::Contiguous))) = hello else {
            panic!("not a hello")
        };
        assert_eq!(bytes, [22, 3, 1, 0, 90, 1, 0, 7]);
        let next = carried.feed(&flow(), &[8], Continuity::Gap, |_, _| {});
        assert!(matches!(next, Some((Side::Client, Records::Next([8], Continuity::Gap)))));
    }
}
