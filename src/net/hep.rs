//! HEP: messages that an agent took off the wire elsewhere, with who sent them to whom, and when.
//!
//! Purpose: parse one message (versions 1 to 3), and cut a TCP stream of version 3 into messages.
//! Invariants: what comes back is a part of what came in; a stream holds at most one message, 64 KiB.
//! Non-goals: correlation, authentication keys, compressed payloads, messages about anything but IP.
//! Sources: HEP3 of the Homer project, revision 12; HEP1 and HEP2 as sipcapture's Kamailio module writes them.

use super::tcp_direction::Continuity;
use crate::base::{Endpoint, FiveTuple, PacketTime, Protocol, Reader};

const MAGIC: [u8; 4] = *b"HEP3";
const HEAD_BYTES: usize = 6;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HepMessage<'a> {
    /// Who sent it to whom, where it was taken.
    pub flow: FiveTuple,
    /// What was sent.
    pub payload: &'a [u8],
    /// When it was taken, by the agent's clock.
    pub time: Option<PacketTime>,
}

/// A message of any version, alone in its datagram.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<HepMessage<'_>> {
    if bytes.starts_with(&MAGIC) { hep3(bytes) } else { hep2(bytes) }
}

/// Bytes of the message of version 3 that `bytes` begin with; `None` when they begin otherwise, or are too few to tell.
#[must_use]
pub fn length3(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(bytes);
    let is_hep = reader.array::<4>()? == MAGIC;
    let length = usize::from(reader.u16_be()?);
    (is_hep && length > HEAD_BYTES).then_some(length)
}

/// ```text
/// 0 `HEP3`   4 u16 length   6 chunks: u16 vendor, u16 type, u16 length (these 6 included), value
/// ```
pub(super) fn hep3(bytes: &[u8]) -> Option<HepMessage<'_>> {
    let mut reader = Reader::new(bytes);
    if reader.array::<4>()? != MAGIC {
        return None;
    }
    let length = usize::from(reader.u16_be()?);
    let mut chunks = Reader::new(bytes.get(HEAD_BYTES..length.min(bytes.len()))?);
    let mut source = Endpoint { ip: [0; 16], port: 0 };
    let (mut destination, mut protocol, mut payload) = (source, Protocol::Udp, None);
    let (mut seconds, mut micros) = (None, 0);
    while let Some([vendor_high, vendor_low, high, low, long, short]) = chunks.array::<6>() {
        let len = usize::from(u16::from_be_bytes([long, short])).checked_sub(6)?;
        let value = chunks.take(len)?;
        if [vendor_high, vendor_low] != [0, 0] {
            continue;
        }
        match (u16::from_be_bytes([high, low]), value) {
            (2, [6]) => protocol = Protocol::Tcp,
            (3 | 5, _) => source.ip = address(value)?,
            (4 | 6, _) => destination.ip = address(value)?,
            (7, [high, low]) => source.port = u16::from_be_bytes([*high, *low]),
            (8, [high, low]) => destination.port = u16::from_be_bytes([*high, *low]),
            (9, [a, b, c, d]) => seconds = Some(u32::from_be_bytes([*a, *b, *c, *d])),
            (10, [a, b, c, d]) => micros = u32::from_be_bytes([*a, *b, *c, *d]),
            (15, _) => payload = Some(value),
            _ => {}
        }
    }
    let flow = FiveTuple { protocol, source, destination };
    Some(HepMessage { flow, payload: payload?, time: seconds.map(|seconds| time(seconds, micros)) })
}

/// ```text
/// 0 u8 2   1 u8 length   2 u8 family   3 u8 protocol   4 u16 source   6 u16 destination
/// 8 addresses   length: u32 s, u32 µs, u16 agent, u16 zero (little-endian)
/// ```
pub(super) fn hep2(bytes: &[u8]) -> Option<HepMessage<'_>> {
    let mut reader = Reader::new(bytes);
    let [version, length, family, protocol] = reader.array::<4>()?;
    let address_bytes = match (family, length) {
        (2, 16) => 4,
        (10, 40) => 16,
        _ => return None,
    };
    let protocol = match protocol {
        17 => Protocol::Udp,
        6 => Protocol::Tcp,
        _ => return None,
    };
    let (from, to) = (reader.u16_be()?, reader.u16_be()?);
    let source = Endpoint { ip: address(reader.take(address_bytes)?)?, port: from };
    let destination = Endpoint { ip: address(reader.take(address_bytes)?)?, port: to };
    let mut taken = None;
    if version == 2 {
        let (seconds, micros) = (reader.u32_le()?, reader.u32_le()?);
        reader.take(4)?;
        taken = Some(time(seconds, micros));
    }
    let flow = FiveTuple { protocol, source, destination };
    matches!(version, 1 | 2).then_some(HepMessage { flow, payload: reader.rest(), time: taken })
}

fn time(seconds: u32, micros: u32) -> PacketTime {
    let ns = i64::from(seconds).saturating_mul(1_000_000_000);
    PacketTime::from_ns(ns.saturating_add(i64::from(micros.min(999_999)).saturating_mul(1_000)))
}

fn address(bytes: &[u8]) -> Option<[u8; 16]> {
    match *bytes {
        [a, b, c, d] => Some(Endpoint::v4([a, b, c, d], 0).ip),
        _ => bytes.try_into().ok(),
    }
}

/// Cuts a TCP direction into messages of version 3.
#[derive(Debug, Default)]
pub struct HepFramer {
    /// A message that is not whole.
    held: Vec<u8>,
    /// Bytes are missing, or were none of HEP: the next magic is looked for.
    seeking: bool,
}

impl HepFramer {
    /// Takes the next bytes; `on_message` gets each message that they complete.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        continuity: Continuity,
        mut on_message: impl FnMut(HepMessage<'_>),
    ) {
        self.feed_whole(bytes, continuity, |bytes| {
            if let Some(message) = hep3(bytes) {
                on_message(message);
            }
        });
    }

    /// The same, with each message as it came, parsed or not.
    pub fn feed_whole(
        &mut self,
        bytes: &[u8],
        continuity: Continuity,
        mut on_message: impl FnMut(&[u8]),
    ) {
        if continuity == Continuity::Gap {
            self.held.clear();
            self.seeking = true;
        }
        self.held.extend_from_slice(bytes);
        let mut rest = self.held.as_slice();
        loop {
            if self.seeking {
                let at = memchr::memmem::find(rest, &MAGIC);
                // The last bytes may be the beginning of the magic.
                let kept = rest.len().saturating_sub(MAGIC.len() - 1);
                rest = rest.get(at.unwrap_or(kept)..).unwrap_or_default();
                if at.is_none() {
                    break;
                }
            }
            let begun = rest.len() < HEAD_BYTES && rest.iter().zip(MAGIC).all(|(a, b)| *a == b);
            if rest.is_empty() || begun {
                break;
            }
            let Some(length) = length3(rest) else {
                self.seeking = true;
                rest = rest.get(1..).unwrap_or_default();
                continue;
            };
            let Some((message, behind)) = rest.split_at_checked(length) else { break };
            self.seeking = false;
            rest = behind;
            on_message(message);
        }
        let taken = self.held.len().saturating_sub(rest.len());
        self.held.drain(..taken);
    }

    /// True when what came last was not HEP, or bytes are missing.
    #[must_use]
    pub const fn is_seeking(&self) -> bool {
        self.seeking
    }

    /// Bytes of a message that is not whole.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 3 with its chunks in the usual order.
    pub(crate) fn written(payload: &[u8]) -> Vec<u8> {
        let chunk = |kind: u8, value: &[u8]| {
            let length = u16::try_from(6 + value.len()).expect("short").to_be_bytes();
            [&[0, 0, 0, kind][..], &length, value].concat()
        };
        let chunks = [
            chunk(1, &[2]),
            chunk(2, &[17]),
            chunk(3, &[10, 0, 0, 1]),
            chunk(4, &[10, 0, 0, 2]),
            chunk(7, &5_060_u16.to_be_bytes()),
            chunk(8, &5_061_u16.to_be_bytes()),
            chunk(9, &1_700_000_000_u32.to_be_bytes()),
            chunk(10, &250_000_u32.to_be_bytes()),
            chunk(11, &[1]),
            chunk(15, payload),
        ]
        .concat();
        let length = u16::try_from(6 + chunks.len()).expect("short").to_be_bytes();
        [&MAGIC[..], &length, &chunks].concat()
    }

    #[test]
    fn a_message_says_who_sent_what_to_whom_and_when() {
        let bytes = written(b"OPTIONS");
        let message = parse(&bytes).expect("whole");
        assert_eq!(message.payload, b"OPTIONS");
        assert_eq!(message.flow.source, Endpoint::v4([10, 0, 0, 1], 5_060));
        assert_eq!(message.flow.destination, Endpoint::v4([10, 0, 0, 2], 5_061));
        assert_eq!(message.time, Some(PacketTime::from_ns(1_700_000_000_250_000_000)));
        let two = [
            &[2, 16, 2, 17, 0x13, 0xc4, 0x13, 0xc5, 10, 0, 0, 1, 10, 0, 0, 2][..],
            &1_700_000_000_u32.to_le_bytes(),
            &7_u32.to_le_bytes(),
            &[0; 4],
            b"OPTIONS",
        ]
        .concat();
        let older = parse(&two).expect("whole");
        assert_eq!((older.flow, older.payload), (message.flow, message.payload));
        assert_eq!(older.time, Some(PacketTime::from_ns(1_700_000_000_000_007_000)));
    }

    #[test]
    fn a_stream_is_cut_into_its_messages_wherever_it_was_interrupted() {
        let stream = [written(b"one"), written(b"two"), written(b"three")].concat();
        for step in [1, 3, 50, stream.len()] {
            let (mut framer, mut heard) = (HepFramer::default(), Vec::new());
            for piece in stream.chunks(step) {
                let hear = |message: HepMessage<'_>| heard.push(message.payload.to_vec());
                framer.feed(piece, Continuity::Contiguous, hear);
            }
            assert_eq!(heard, [&b"one"[..], b"two", b"three"], "in pieces of {step}");
            assert_eq!(framer.held_bytes(), 0);
        }
        let (mut framer, mut heard) = (HepFramer::default(), Vec::new());
        let mut feed = |bytes: &[u8], continuity| {
            framer.feed(bytes, continuity, |message| heard.push(message.payload.to_vec()));
        };
        feed(&stream[..20], Continuity::Contiguous);
        feed(&stream[40..], Continuity::Gap);
        assert_eq!(heard, [&b"two"[..], b"three"]);
    }
}
