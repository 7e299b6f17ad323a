//! Redundant audio data: a packet that also carries older packets' payloads.
//!
//! Purpose: the primary payload, and the older ones with how far back they belong.
//! Invariants: at most [`BLOCKS_MAX`] older payloads; every length is checked; nothing is copied.
//! Non-goals: which payload types nest (the caller looks them up).
//! Sources: RFC 2198 §3 (format), §4 (the last block is the primary).
//!
//! ```text
//! |1|  block PT  |   timestamp offset (14)   | block length (10) |   each older block
//! |0|  block PT  |                                                 the primary
//! ```

use crate::base::Reader;

/// Older payloads that are read.
pub const BLOCKS_MAX: usize = 8;

/// One payload within a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedBlock<'a> {
    /// Its payload type, 0–127.
    pub payload_type: u8,
    /// How much earlier than the packet's timestamp it was taken, in RTP ticks; 0 for the primary.
    pub offset: u16,
    /// Its payload.
    pub payload: &'a [u8],
}

/// One packet's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedPacket<'a> {
    /// What the packet is sent for.
    pub primary: RedBlock<'a>,
    older: [RedBlock<'a>; BLOCKS_MAX],
    count: usize,
}

impl<'a> RedPacket<'a> {
    /// Reads a payload; `None` if its headers contradict its length or name too many blocks.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut headers = Reader::new(payload);
        let mut packet = Self::default();
        let mut lengths = [0usize; BLOCKS_MAX];
        loop {
            let [first] = headers.array()?;
            if first & 0x80 == 0 {
                packet.primary.payload_type = first;
                break;
            }
            let [high, middle, low] = headers.array()?;
            let block = packet.older.get_mut(packet.count)?;
            block.payload_type = first & 0x7f;
            block.offset = u16::from_be_bytes([high, middle]) >> 2;
            let length = lengths.get_mut(packet.count)?;
            *length = usize::from(u16::from_be_bytes([middle & 3, low]));
            packet.count = packet.count.saturating_add(1);
        }
        let mut data = headers;
        for (block, length) in packet.older.iter_mut().zip(lengths).take(packet.count) {
            block.payload = data.take(length)?;
        }
        packet.primary.payload = data.rest();
        Some(packet)
    }

    /// The older payloads that hold something, oldest first as senders write them.
    pub fn older(&self) -> impl Iterator<Item = &RedBlock<'a>> {
        let has_sound = |block: &&RedBlock<'a>| block.offset > 0 && !block.payload.is_empty();
        self.older.iter().take(self.count).filter(has_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2198 §6: a primary of PT 7 and one older block of PT 5, 160 ticks before.
    fn example() -> Vec<u8> {
        let offset_and_length = (160u32 << 10 | 3).to_be_bytes();
        let mut bytes = vec![0x80 | 5];
        bytes.extend(&offset_and_length[1..]);
        bytes.push(7);
        bytes.extend(b"oldprimary");
        bytes
    }

    #[test]
    fn blocks_are_found_as_the_rfc_draws_them() {
        let bytes = example();
        let packet = RedPacket::parse(&bytes).expect("read");
        let primary = RedBlock { payload_type: 7, offset: 0, payload: b"primary" };
        assert_eq!(packet.primary, primary);
        let older: Vec<_> = packet.older().copied().collect();
        assert_eq!(older, [RedBlock { payload_type: 5, offset: 160, payload: b"old" }]);
        assert_eq!(RedPacket::parse(&[7, 1, 2]).map(|it| it.older().count()), Some(0));
    }

    #[test]
    fn cut_and_endless_headers_are_refused() {
        let bytes = example();
        for end in 0..8 {
            assert_eq!(RedPacket::parse(&bytes[..end]), None, "{end}");
        }
        assert_eq!(RedPacket::parse(&[0x80; 200]), None);
    }
}
