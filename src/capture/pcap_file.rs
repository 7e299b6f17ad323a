//! Classic capture files: one header, then frames.
//!
//! Purpose: both byte orders, microseconds and nanoseconds.
//! Invariants: a length from the file is checked against what is there before it is used; every
//! call moves on or ends.
//! Non-goals: the "modified" pcap of old kernels' patches, and stripping a frame check sequence (it
//! stands behind the IP datagram, whose own length ends it).
//! Sources: draft-ietf-opsawg-pcap §4 (file header), §5 (packet record), §4.1 (FCS bits).
//!
//! ```text
//! file header, 24 bytes: magic u32, major u16, minor u16, reserved u32 × 2, snap length u32,
//!                        FCS and link type u32 (the low 16 bits are the link type)
//! record, 16 + n bytes:  seconds u32, fraction u32, captured length n u32, original length u32
//! ```

use super::bytes::{ByteOrder, Fields};
use super::input::Input;
use super::record::{ReadFault, Record};
use crate::base::time::NS_PER_S;
use crate::base::{LinkType, PacketTime, limits};

/// Bytes before the first record.
const FILE_HEADER_LEN_BYTES: usize = 24;
/// Bytes before a frame.
const RECORD_HEADER_LEN_BYTES: usize = 16;
/// Magic with microseconds in the fraction.
const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
/// Magic with nanoseconds in the fraction.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Reads frames of a classic pcap file.
pub(super) struct PcapReader {
    order: ByteOrder,
    fraction_ns: i64,
    link: LinkType,
}

impl PcapReader {
    /// What the first four bytes say: byte order, and the unit of the fraction in ns.
    fn recognise(magic: [u8; 4]) -> Option<(ByteOrder, i64)> {
        [ByteOrder::Little, ByteOrder::Big].into_iter().find_map(|order| match order.u32(magic) {
            MAGIC_MICROSECONDS => Some((order, 1_000)),
            MAGIC_NANOSECONDS => Some((order, 1)),
            _ => None,
        })
    }

    /// True when a file that begins with `magic` is one of these.
    pub(super) fn is_magic(magic: [u8; 4]) -> bool {
        Self::recognise(magic).is_some()
    }

    /// Consumes the file header; the magic was checked before.
    ///
    /// # Errors
    /// `Truncated` inside the header, `Damaged` without the magic, `Io`.
    pub(super) fn open(input: &mut Input) -> Result<Self, ReadFault> {
        const NOT_PCAP: ReadFault = ReadFault::Damaged("no pcap magic number");
        let magic = input.peek::<4>()?.ok_or(ReadFault::Truncated)?;
        let (order, fraction_ns) = Self::recognise(magic).ok_or(NOT_PCAP)?;
        let header = input.peek::<FILE_HEADER_LEN_BYTES>()?.ok_or(ReadFault::Truncated)?;
        let mut fields = Fields::new(&header, order);
        // Magic, version, two reserved fields, snap length: what counts is each record's own length.
        let network = fields.take(20).and_then(|_| fields.u32()).ok_or(ReadFault::Truncated)?;
        let link = u16::try_from(network & 0xffff).map_or(LinkType::Other(0), |number| {
            // The upper half says whether frames end with an FCS.
            LinkType::from_registry(number)
        });
        input.skip(24)?;
        Ok(Self { order, fraction_ns, link })
    }

    /// True when `bytes` begin with a whole record, so that reading it cannot fail.
    pub(super) fn is_whole(&self, bytes: &[u8]) -> bool {
        let Some(header) = bytes.first_chunk::<RECORD_HEADER_LEN_BYTES>() else { return false };
        let [_, _, _, _, _, _, _, _, captured @ .., _, _, _, _] = *header;
        let len_bytes = usize::try_from(self.order.u32(captured)).unwrap_or(usize::MAX);
        len_bytes <= limits::CAPTURE_FRAME_BYTES_MAX
            && bytes.len() >= RECORD_HEADER_LEN_BYTES.saturating_add(len_bytes)
    }

    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// `Truncated` when the frame is not whole, `Damaged` for an impossible length, `Io`.
    // In place: a record that is handed over by memory is read back in other widths than it was written
    // in, and such a load waits for every store before it, among them those that missed the cache.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "measured: 30 ns a packet")]
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, ReadFault> {
        if input.ensure(RECORD_HEADER_LEN_BYTES)? == 0 {
            return Ok(None);
        }
        let mut fields = Fields::new(input.window(), self.order);
        let (Some(seconds), Some(fraction), Some(captured), Some(original)) =
            (fields.u32(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Err(ReadFault::Truncated);
        };
        let len_bytes = usize::try_from(captured).unwrap_or(usize::MAX);
        if len_bytes > limits::CAPTURE_FRAME_BYTES_MAX {
            return Err(ReadFault::Damaged("a frame longer than 256 KiB"));
        }
        let whole = RECORD_HEADER_LEN_BYTES.saturating_add(len_bytes);
        if input.ensure(whole)? < whole {
            return Err(ReadFault::Truncated);
        }
        let fraction_ns = i64::from(fraction).saturating_mul(self.fraction_ns);
        let ns = i64::from(seconds).saturating_mul(NS_PER_S).saturating_add(fraction_ns);
        Ok(Some(Record {
            time: PacketTime::from_ns(ns),
            link: self.link,
            wire_len_bytes: original.max(captured),
            start: RECORD_HEADER_LEN_BYTES,
            len_bytes,
            advance_bytes: u64::from(captured).saturating_add(16),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(
        order: ByteOrder,
        magic: u32,
        network: u32,
        records: &[(u32, u32, u32, &[u8])],
    ) -> Vec<u8> {
        let four = |value: u32| match order {
            ByteOrder::Little => value.to_le_bytes(),
            ByteOrder::Big => value.to_be_bytes(),
        };
        let mut out = four(magic).to_vec();
        out.extend([0; 4 + 8]);
        out.extend(four(65_535));
        out.extend(four(network));
        for (seconds, fraction, original, bytes) in records {
            out.extend(four(*seconds));
            out.extend(four(*fraction));
            out.extend(four(u32::try_from(bytes.len()).expect("short")));
            out.extend(four(*original));
            out.extend(*bytes);
        }
        out
    }

    fn read_all(data: &[u8]) -> (Vec<(Record, Vec<u8>)>, Option<ReadFault>) {
        let mut input = Input::from_memory(data.to_vec()).expect("memory");
        let mut records = Vec::new();
        let mut reader = match PcapReader::open(&mut input) {
            Ok(reader) => reader,
            Err(fault) => return (records, Some(fault)),
        };
        loop {
            match reader.next(&mut input) {
                Ok(Some(record)) => {
                    let end = record.start + record.len_bytes;
                    records.push((record, input.window()[record.start..end].to_vec()));
                    if let Err(fault) = input.skip(record.advance_bytes) {
                        return (records, Some(fault));
                    }
                }
                Ok(None) => return (records, None),
                Err(fault) => return (records, Some(fault)),
            }
        }
    }

    #[test]
    fn both_byte_orders_and_both_resolutions_read_the_same_instant() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            for (magic, fraction) in
                [(MAGIC_MICROSECONDS, 250_000), (MAGIC_NANOSECONDS, 250_000_000)]
            {
                let data = file(order, magic, 1, &[(7, fraction, 60, b"frame")]);
                let (records, fault) = read_all(&data);
                assert!(fault.is_none());
                let (record, bytes) = &records[0];
                assert_eq!(record.time, PacketTime::from_ms(7_250));
                assert_eq!((record.link, record.wire_len_bytes), (LinkType::Ethernet, 60));
                assert_eq!(bytes, b"frame");
            }
        }
    }

    #[test]
    fn frame_check_sequence_bits_are_not_part_of_the_link_type() {
        // f bit, FCS length 2 × 16 bits, LINKTYPE_LINUX_SLL.
        let data = file(ByteOrder::Little, MAGIC_MICROSECONDS, 0x2400_0071, &[(0, 0, 1, b"x")]);
        assert_eq!(read_all(&data).0[0].0.link, LinkType::LinuxCooked);
    }

    #[test]
    fn a_wire_length_below_the_captured_one_is_raised_to_it() {
        let data = file(ByteOrder::Big, MAGIC_MICROSECONDS, 1, &[(0, 0, 2, b"frame")]);
        assert_eq!(read_all(&data).0[0].0.wire_len_bytes, 5);
    }

    #[test]
    fn every_cut_delivers_the_whole_frames_first_and_then_says_truncated() {
        let data = file(
            ByteOrder::Little,
            MAGIC_MICROSECONDS,
            1,
            &[(0, 0, 5, b"first"), (1, 0, 3, b"two")],
        );
        for cut in 0..=data.len() {
            let (records, fault) = read_all(&data[..cut]);
            let whole = usize::from(cut >= 24 + 21) + usize::from(cut >= 24 + 21 + 19);
            assert_eq!(records.len(), whole, "cut at {cut}");
            let clean = [24, 24 + 21, 24 + 21 + 19].contains(&cut);
            assert_eq!(fault.is_none(), clean, "cut at {cut}");
            assert!(
                clean || matches!(fault, Some(ReadFault::Truncated)),
                "cut at {cut}: {fault:?}"
            );
        }
    }

    #[test]
    fn a_frame_of_impossible_length_is_damage_not_an_allocation() {
        let mut data = file(ByteOrder::Little, MAGIC_MICROSECONDS, 1, &[(0, 0, 1, b"x")]);
        data.extend([0; 8]);
        data.extend(0x0004_0001_u32.to_le_bytes());
        data.extend([0; 4]);
        let (records, fault) = read_all(&data);
        assert_eq!(records.len(), 1);
        assert!(matches!(fault, Some(ReadFault::Damaged(_))));
    }
}
