//! What record bodies hold: SIP messages, and Opus packets in slots of 20 ms.
//!
//! Purpose: compact, self-describing layouts, written by workers and read by exports.
//! Invariants: what was encoded whole reads back equal; torn bytes read as the end.
//! Non-goals: raw packets (see `base::PacketEntry`) and what a slot's packet means (see `media`).
//! Sources: none; the layouts are drawn here and in docs/archive.md. RFC 6716 §3.2.1 (an Opus
//! frame has at most 1275 bytes).
//!
//! ```text
//! SIP entry (any number of them in a Sip record)     Audio batch (an Audio record)
//!  0  i64 LE  capture time, ns                        0  u32 LE  first slot
//!  8  [18]    source: 16 address, port                4  u32 LE  slots n
//! 26  [18]    destination                             8  n slots:
//! 44  u32 LE  message length m                            u16 LE  left length l
//! 48  u8      protocol (0 UDP, 1 TCP)                     u16 LE  right length r
//! 49  [3]     zero                                        l       left (caller) packet
//! 52  m       message                                     r       right (callee) packet
//! ```

use crate::base::{Endpoint, PacketTime, Protocol, Reader};

/// One SIP message as captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipEntry<'a> {
    /// When it passed the tap.
    pub time: PacketTime,
    /// How it was carried.
    pub protocol: Protocol,
    /// Who sent it, on the wire.
    pub source: Endpoint,
    /// To whom, on the wire.
    pub destination: Endpoint,
    /// The whole message.
    pub message: &'a [u8],
}

impl<'a> SipEntry<'a> {
    /// Bytes before the message.
    pub const HEADER_LEN_BYTES: usize = 52;

    /// Appends the entry to a body. A message is at most `SIP_MESSAGE_BYTES_MAX` long (not checked
    /// here; beyond 4 GiB it would be cut).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.message.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&self.time.ns().to_le_bytes());
        for endpoint in [&self.source, &self.destination] {
            out.extend_from_slice(&endpoint.ip);
            out.extend_from_slice(&endpoint.port.to_le_bytes());
        }
        out.extend_from_slice(&len.to_le_bytes());
        let protocol = match self.protocol {
            Protocol::Udp => 0,
            Protocol::Tcp => 1,
        };
        out.extend_from_slice(&[protocol, 0, 0, 0]);
        out.extend(self.message.iter().take(len as usize));
    }

    /// Reads the next entry; `None` at the end, or where the bytes are torn.
    pub fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut ahead = *reader;
        let time = PacketTime::from_ns(ahead.i64_le()?);
        let source = Endpoint { ip: ahead.array()?, port: ahead.u16_le()? };
        let destination = Endpoint { ip: ahead.array()?, port: ahead.u16_le()? };
        let len = ahead.u32_le()? as usize;
        let protocol = match ahead.array()? {
            [0, 0, 0, 0] => Protocol::Udp,
            [1, 0, 0, 0] => Protocol::Tcp,
            _ => return None,
        };
        let message = ahead.take(len)?;
        *reader = ahead;
        Some(Self { time, protocol, source, destination, message })
    }

    /// The entries of a Sip record's body, in the order of their encoding.
    pub fn iterate(body: &'a [u8]) -> impl Iterator<Item = SipEntry<'a>> {
        let mut reader = Reader::new(body);
        std::iter::from_fn(move || Self::read(&mut reader))
    }
}

/// One 20 ms slot of a recording; an empty side has no packet there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSlot<'a> {
    /// Number of the slot, from the recording's start.
    pub slot: u32,
    /// The caller's Opus packet.
    pub left: &'a [u8],
    /// The callee's Opus packet.
    pub right: &'a [u8],
}

/// The body of an Audio record: consecutive slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioBatch<'a> {
    /// Number of the first slot, from the recording's start.
    pub first_slot: u32,
    /// How many slots follow.
    pub slots: u32,
    packets: &'a [u8],
}

impl<'a> AudioBatch<'a> {
    /// Reads a body; `None` if it is too short to be one.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (first_slot, slots) = (reader.u32_le()?, reader.u32_le()?);
        Some(Self { first_slot, slots, packets: reader.rest() })
    }

    /// The slots in order; it ends early where the bytes are torn.
    pub fn iterate(&self) -> impl Iterator<Item = AudioSlot<'a>> + use<'a> {
        let mut reader = Reader::new(self.packets);
        let first_slot = self.first_slot;
        (0..self.slots).map_while(move |position| {
            let (left, right) = (reader.u16_le()?, reader.u16_le()?);
            let left = reader.take(usize::from(left))?;
            let right = reader.take(usize::from(right))?;
            Some(AudioSlot { slot: first_slot.checked_add(position)?, left, right })
        })
    }
}

/// A packet of more than 65 535 bytes, which Opus does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audio packet is too long")]
pub struct SlotTooLong;

/// Builds the body of an Audio record, slot by slot.
#[derive(Clone, Debug)]
pub struct AudioBatchWriter {
    bytes: Vec<u8>,
    slots: u32,
}

impl AudioBatchWriter {
    /// An empty batch that begins at slot `first_slot`.
    #[must_use]
    pub fn new(first_slot: u32) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&first_slot.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, slots: 0 }
    }

    /// Adds the next slot; an empty side has no packet.
    ///
    /// # Errors
    /// `SlotTooLong`; nothing has been added.
    pub fn push(&mut self, left: &[u8], right: &[u8]) -> Result<(), SlotTooLong> {
        let left_len = u16::try_from(left.len()).map_err(|_| SlotTooLong)?;
        let right_len = u16::try_from(right.len()).map_err(|_| SlotTooLong)?;
        self.slots = self.slots.checked_add(1).ok_or(SlotTooLong)?;
        self.bytes.extend_from_slice(&left_len.to_le_bytes());
        self.bytes.extend_from_slice(&right_len.to_le_bytes());
        self.bytes.extend_from_slice(left);
        self.bytes.extend_from_slice(right);
        Ok(())
    }

    /// Slots so far.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The body.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if let Some(place) = self.bytes.get_mut(4..8) {
            place.copy_from_slice(&self.slots.to_le_bytes());
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(message: &[u8]) -> SipEntry<'_> {
        SipEntry {
            time: PacketTime::from_ns(0x0102),
            protocol: Protocol::Tcp,
            source: Endpoint::v4([10, 0, 0, 1], 0x13c4),
            destination: Endpoint::v4([10, 0, 0, 2], 0x13c5),
            message,
        }
    }

    #[test]
    fn a_sip_entry_has_the_drawn_bytes() {
        let mut bytes = Vec::new();
        entry(b"BYE").encode(&mut bytes);
        let drawn: &[&[u8]] = &[
            &[2, 1, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1, 0xc4, 0x13],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2, 0xc5, 0x13],
            &[3, 0, 0, 0, 1, 0, 0, 0],
            b"BYE",
        ];
        assert_eq!(bytes, drawn.concat());
    }

    #[test]
    fn sip_entries_read_back_and_a_cut_loses_only_the_last() {
        let mut bytes = Vec::new();
        entry(b"INVITE").encode(&mut bytes);
        let first = bytes.len();
        entry(b"").encode(&mut bytes);
        assert_eq!(SipEntry::iterate(&bytes).collect::<Vec<_>>(), [entry(b"INVITE"), entry(b"")]);
        for cut in 0..bytes.len() {
            let read = SipEntry::iterate(bytes.get(..cut).expect("cut")).count();
            assert_eq!(read, usize::from(cut >= first), "cut at {cut}");
        }
    }

    #[test]
    fn an_audio_batch_has_the_drawn_bytes_and_reads_back() {
        let mut writer = AudioBatchWriter::new(50);
        writer.push(b"ab", b"c").expect("short");
        writer.push(b"", b"").expect("short");
        assert_eq!(writer.push(&vec![0; 65_536], b""), Err(SlotTooLong));
        assert_eq!((writer.slots(), writer.len_bytes()), (2, 19));
        let body = writer.finish();
        assert_eq!(body, b"\x32\0\0\0\x02\0\0\0\x02\0\x01\0abc\0\0\0\0");
        let batch = AudioBatch::parse(&body).expect("whole");
        let slots: Vec<_> = batch.iterate().collect();
        assert_eq!(slots.first(), Some(&AudioSlot { slot: 50, left: b"ab", right: b"c" }));
        assert_eq!(slots.get(1), Some(&AudioSlot { slot: 51, left: b"", right: b"" }));
        for cut in 0..body.len() {
            let read = AudioBatch::parse(body.get(..cut).expect("cut"));
            let read = read.map_or(0, |batch| batch.iterate().count());
            assert_eq!(read, usize::from(cut >= 15), "cut at {cut}");
        }
    }

    #[test]
    fn a_batch_that_claims_more_slots_than_there_are_ends_with_its_bytes() {
        let batch = AudioBatch::parse(b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0");
        assert_eq!(batch.expect("header").iterate().count(), 1, "slot numbers do not wrap");
    }
}
