//! How a packet stands in a call's queue, in a spill and in a raw recording: the same bytes in all three.
//!
//! Purpose: one self-describing layout, written once by the front and read by workers and exports.
//! Invariants: an entry that was written whole reads back equal; a torn one reads as the end; a body can
//! be cut before any whole entry, never inside what went before.
//! Non-goals: compression and encryption (see `archive`).
//! Sources: none; the layout is drawn here and in docs/archive.md.
//!
//! ```text
//! whole:  0  u8      kind                       short, a packet of a flow that stands before it:
//!         1  u8      channel that sent it       0  u8      0x80 + which of the whole RTP entries
//!                    (0 caller, 1 callee)                  before it has the same addresses and channel
//!         2  u16 LE  payload length n           1  u16 LE  payload length n
//!         4  i64 LE  capture time, ns           3  u40 LE  ns since that entry
//!        12  [18]    source: address, port      8  n       payload
//!        30  [18]    destination
//!        48  n       payload
//! ```

use super::{Channel, Endpoint, PacketTime, Reader};

/// Bytes before the payload, as drawn above.
const HEADER_LEN_BYTES: usize = 48;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An RTP packet (UDP payload).
    Rtp,
    /// An RTCP packet (UDP payload).
    Rtcp,
    /// A DTLS or ZRTP packet: how the phones agree on SRTP keys (UDP payload).
    KeyExchange,
    /// A UDPTL packet of T.38 fax (UDP payload).
    Udptl,
    /// A frame seen a second time; payload: its RTP header alone.
    DuplicateRtp,
    /// A control event of the call, as `call::Control` writes it; addresses are zero.
    Control,
    /// A packet was dropped by us here.
    Dropped,
    /// What follows waited for its SDP until this time: older packets, in their own order.
    Claimed,
    /// Packets between these addresses follow; payload: `rtp::matched_by::MatchedBy`'s code.
    Matched,
}

impl EntryKind {
    const fn code(self) -> u8 {
        match self {
            Self::Rtp => 0,
            Self::Rtcp => 1,
            Self::KeyExchange => 7,
            Self::DuplicateRtp => 2,
            Self::Control => 3,
            Self::Dropped => 4,
            Self::Claimed => 5,
            Self::Matched => 6,
            Self::Udptl => 8,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Rtp),
            1 => Some(Self::Rtcp),
            2 => Some(Self::DuplicateRtp),
            3 => Some(Self::Control),
            4 => Some(Self::Dropped),
            5 => Some(Self::Claimed),
            6 => Some(Self::Matched),
            7 => Some(Self::KeyExchange),
            8 => Some(Self::Udptl),
            _ => None,
        }
    }
}

/// One packet of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketEntry<'a> {
    /// When it passed the tap.
    pub time: PacketTime,
    /// Who sent it, on the wire.
    pub source: Endpoint,
    /// To whom, on the wire.
    pub destination: Endpoint,
    /// What it is.
    pub kind: EntryKind,
    /// Which party sent it.
    pub channel: Channel,
    /// UDP payload, at most 65 535 bytes.
    pub payload: &'a [u8],
}

impl<'a> PacketEntry<'a> {
    /// Bytes before the payload.
    pub const HEADER_LEN_BYTES: usize = HEADER_LEN_BYTES;

    /// A mark of our own between packets: without addresses.
    #[must_use]
    pub const fn mark(time: PacketTime, kind: EntryKind, payload: &'a [u8]) -> Self {
        let nowhere = Endpoint { ip: [0; 16], port: 0 };
        let (source, destination, channel) = (nowhere, nowhere, Channel::Caller);
        Self { time, source, destination, kind, channel, payload }
    }

    /// Bytes that the whole entry takes.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        Self::HEADER_LEN_BYTES + self.payload.len()
    }

    /// Writes the entry, whole, at the start of `out` and returns its length; `None` and nothing written
    /// when there is too little room or the payload is longer than 65 535 bytes.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let payload_len = u16::try_from(self.payload.len()).ok()?;
        let (header, rest) = out.split_first_chunk_mut::<HEADER_LEN_BYTES>()?;
        rest.get_mut(..self.payload.len())?.copy_from_slice(self.payload);
        header[0] = self.kind.code();
        header[1] = match self.channel {
            Channel::Caller => 0,
            Channel::Callee => 1,
        };
        header[2..4].copy_from_slice(&payload_len.to_le_bytes());
        header[4..12].copy_from_slice(&self.time.ns().to_le_bytes());
        header[12..28].copy_from_slice(&self.source.ip);
        header[28..30].copy_from_slice(&self.source.port.to_le_bytes());
        header[30..46].copy_from_slice(&self.destination.ip);
        header[46..48].copy_from_slice(&self.destination.port.to_le_bytes());
        Some(self.len_bytes())
    }

    /// Reads an entry that stands alone, whole; `None` where the bytes are torn or of an unknown kind.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut ahead = Reader::new(bytes);
        let kind = EntryKind::from_code(ahead.u8()?)?;
        let channel = if ahead.u8()? == 0 { Channel::Caller } else { Channel::Callee };
        let payload_len = ahead.u16_le()?;
        let time = PacketTime::from_ns(ahead.i64_le()?);
        let source = Endpoint { ip: ahead.array()?, port: ahead.u16_le()? };
        let destination = Endpoint { ip: ahead.array()?, port: ahead.u16_le()? };
        let payload = ahead.take(usize::from(payload_len))?;
        Some(Self { time, source, destination, kind, channel, payload })
    }
}

/// Whole RTP entries of a body that later ones may refer to.
const FLOWS_MAX: usize = 8;

/// What the first byte of a short entry has beyond the flow's number.
const SHORT: u8 = 0x80;

/// Bytes before the payload of a short entry.
const SHORT_LEN_BYTES: usize = 8;

/// Nanoseconds that a short entry has room for: 18 minutes.
const SHORT_NS_MAX: i64 = (1 << 40) - 1;

/// A flow that a whole entry has named.
#[derive(Clone, Copy, Debug)]
struct Flow {
    time: PacketTime,
    source: Endpoint,
    destination: Endpoint,
    channel: Channel,
}

impl Flow {
    /// Of an entry that names a flow for those after it.
    fn of(entry: &PacketEntry<'_>) -> Option<Self> {
        let PacketEntry { time, source, destination, channel, .. } = *entry;
        (entry.kind == EntryKind::Rtp).then_some(Self { time, source, destination, channel })
    }
}

/// The flows of a body, as far as they have been named: the same to who writes and who reads.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct EntryFlows {
    /// First, so that it shares a cache line with what stands before it.
    count: usize,
    named: [Option<Flow>; FLOWS_MAX],
}

impl EntryFlows {
    /// Forgets all: another body begins.
    pub const fn clear(&mut self) {
        self.count = 0;
    }

    /// Writes an entry behind those that were written before, as short as may be; as `PacketEntry::write`
    /// else.
    #[must_use]
    pub fn write(&mut self, entry: &PacketEntry<'_>, out: &mut [u8]) -> Option<usize> {
        self.write_with(entry, entry.payload, out)
    }

    /// The same, with another payload than the entry's.
    #[must_use]
    pub fn write_with(
        &mut self,
        entry: &PacketEntry<'_>,
        payload: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        if entry.kind == EntryKind::Rtp {
            if let Some((number, ns)) = self.find(entry) {
                return write_short(number, ns, payload, out);
            }
        }
        let written = PacketEntry { payload, ..*entry }.write(out)?;
        self.name(Flow::of(entry));
        Some(written)
    }

    /// Which flow an entry is of, and how long after its first.
    fn find(&self, entry: &PacketEntry<'_>) -> Option<(u8, i64)> {
        let named = self.named.iter().take(self.count).flatten();
        for (number, flow) in (0..).zip(named) {
            // Ports tell most flows apart, and all but two flows of a call are rare.
            if flow.source == entry.source
                && flow.destination == entry.destination
                && flow.channel == entry.channel
            {
                let ns = entry.time.ns_since(flow.time);
                if (0..=SHORT_NS_MAX).contains(&ns) {
                    return Some((number, ns));
                }
            }
        }
        None
    }

    fn name(&mut self, flow: Option<Flow>) {
        if let (Some(flow), Some(place)) = (flow, self.named.get_mut(self.count)) {
            *place = Some(flow);
            self.count = self.count.saturating_add(1);
        }
    }

    /// Reads the next entry; `None` at the end, or where the bytes are torn, of an unknown kind or of a
    /// flow that nothing named.
    pub fn read<'a>(&mut self, reader: &mut Reader<'a>) -> Option<PacketEntry<'a>> {
        let entry = self.peek(reader.rest())?;
        self.take(&entry, reader);
        Some(entry)
    }

    /// The entry at the start of `bytes`, without going on.
    #[must_use]
    pub fn peek<'a>(&self, bytes: &'a [u8]) -> Option<PacketEntry<'a>> {
        let (first, _) = bytes.split_first()?;
        match first.checked_sub(SHORT) {
            Some(number) => self.peek_short(usize::from(number), bytes),
            None => PacketEntry::read(bytes),
        }
    }

    /// Goes on behind an entry that was peeked at; returns the bytes that it takes.
    pub fn take(&mut self, entry: &PacketEntry<'_>, reader: &mut Reader<'_>) -> usize {
        let is_short = reader.rest().first().is_some_and(|first| *first >= SHORT);
        let header = if is_short { SHORT_LEN_BYTES } else { HEADER_LEN_BYTES };
        if !is_short {
            self.name(Flow::of(entry));
        }
        let len_bytes = header.saturating_add(entry.payload.len());
        let _ = reader.take(len_bytes);
        len_bytes
    }

    fn peek_short<'a>(&self, number: usize, bytes: &'a [u8]) -> Option<PacketEntry<'a>> {
        let named = self.named.get(..self.count)?;
        let Flow { time, source, destination, channel } = (*named.get(number)?)?;
        let (header, rest) = bytes.split_first_chunk::<SHORT_LEN_BYTES>()?;
        let [_, low, high, ns @ ..] = *header;
        let mut wide = [0; 8];
        wide[..5].copy_from_slice(&ns);
        let payload = rest.get(..usize::from(u16::from_le_bytes([low, high])))?;
        let time = time.plus_ns(i64::from_le_bytes(wide));
        let kind = EntryKind::Rtp;
        Some(PacketEntry { time, source, destination, kind, channel, payload })
    }
}

fn write_short(number: u8, ns: i64, payload: &[u8], out: &mut [u8]) -> Option<usize> {
    let payload_len = u16::try_from(payload.len()).ok()?;
    let (header, rest) = out.split_first_chunk_mut::<SHORT_LEN_BYTES>()?;
    rest.get_mut(..payload.len())?.copy_from_slice(payload);
    header[0] = SHORT | number;
    header[1..3].copy_from_slice(&payload_len.to_le_bytes());
    let [ns @ .., _, _, _] = ns.to_le_bytes();
    header[3..8].copy_from_slice(&ns);
    Some(SHORT_LEN_BYTES.saturating_add(payload.len()))
}

/// Reads the entries of a body one after another.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    flows: EntryFlows,
    reader: Reader<'a>,
}

impl<'a> Entries<'a> {
    /// Of a whole body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { flows: EntryFlows::default(), reader: Reader::new(body) }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = PacketEntry<'a>;

    fn next(&mut self) -> Option<PacketEntry<'a>> {
        self.flows.read(&mut self.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: PacketEntry<'static> = PacketEntry {
        time: PacketTime::from_ms(7),
        source: Endpoint { ip: [1; 16], port: 4_000 },
        destination: Endpoint { ip: [2; 16], port: 4_002 },
        kind: EntryKind::Rtp,
        channel: Channel::Callee,
        payload: b"speech",
    };

    #[test]
    fn an_entry_reads_back_and_every_cut_of_it_reads_as_the_end() {
        let mut bytes = [0; 64];
        let len = ENTRY.write(&mut bytes).expect("room");
        assert_eq!(len, 54);
        assert_eq!(PacketEntry::read(&bytes[..len]), Some(ENTRY));
        for cut in 0..len {
            assert_eq!(PacketEntry::read(&bytes[..cut]), None, "cut at {cut}");
            assert_eq!(ENTRY.write(&mut bytes[..cut].to_vec()), None);
        }
    }

    /// Two flows, one the other way, another kind, a flow that went back in time, and one too many.
    fn mixed() -> Vec<PacketEntry<'static>> {
        let back = PacketEntry {
            source: ENTRY.destination,
            destination: ENTRY.source,
            channel: Channel::Caller,
            ..ENTRY
        };
        let at = |entry: PacketEntry<'static>, ms| PacketEntry {
            time: PacketTime::from_ms(ms),
            ..entry
        };
        let mut entries = vec![at(ENTRY, 7), at(back, 8), at(ENTRY, 27), at(back, 28)];
        entries.push(PacketEntry { kind: EntryKind::Rtcp, payload: b"report", ..at(back, 30) });
        entries.push(PacketEntry { payload: b"", ..at(ENTRY, 47) });
        entries.push(at(ENTRY, 5));
        entries.push(at(ENTRY, 7 + 2_000_000));
        for port in 0..10 {
            let other = PacketEntry { source: ENTRY.source.with_port(port), ..ENTRY };
            entries.extend([at(other, 60), at(other, 80)]);
        }
        entries
    }

    #[test]
    fn a_body_reads_back_and_a_flow_is_named_once() {
        let (mut flows, mut bytes, mut lens) = (EntryFlows::default(), vec![0; 4_096], Vec::new());
        let mut len = 0;
        for entry in mixed() {
            let written = flows.write(&entry, &mut bytes[len..]).expect("room");
            len += written;
            lens.push(written - entry.payload.len());
        }
        assert_eq!(lens[..8], [48, 48, 8, 8, 48, 8, 48, 48]);
        let read: Vec<_> = Entries::new(&bytes[..len]).collect();
        assert_eq!(read, mixed());
        assert_eq!(lens.iter().filter(|len| **len == 8).count(), 7, "{lens:?}");
        for cut in 0..len {
            let read: Vec<_> = Entries::new(&bytes[..cut]).collect();
            assert!(read.len() < mixed().len() && read == mixed()[..read.len()], "cut at {cut}");
        }
    }

    #[test]
    fn a_short_entry_without_its_flow_reads_as_the_end() {
        assert_eq!(Entries::new(&[0x80, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        let mut bytes = [0; 128];
        let mut flows = EntryFlows::default();
        let first = flows.write(&ENTRY, &mut bytes).expect("room");
        let second = flows.write(&ENTRY, &mut bytes[first..]).expect("room");
        assert_eq!(Entries::new(&bytes[..first + second]).count(), 2);
        bytes[first] = 0x81;
        assert_eq!(Entries::new(&bytes[..first + second]).count(), 1);
    }
}
