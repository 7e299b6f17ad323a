//! pcapng files: blocks in sections, each section with its own byte order and interfaces.
//!
//! Purpose: frames of enhanced, simple and obsolete packet blocks, and TLS key logs of decryption secrets blocks; all
//! other blocks are skipped.
//! Invariants: every block moves the reader on by at least 12 bytes; only a block's head and its
//! frame are ever buffered; a frame whose bytes are there is delivered even when the rest of its
//! block is cut off.
//! Non-goals: comments, names, statistics, secrets of other kinds; the trailing copy of a block's length (the
//! leading one is followed, rounded up to four as other readers do).
//! Sources: draft-ietf-opsawg-pcapng §4 (blocks), §4.2 (interface options), §4.7 (secrets), appendix A (packet block).
//!
//! ```text
//! block:     type u32, total length u32, body, (padding), total length u32
//! enhanced:  interface u32, time high u32, time low u32, captured u32, original u32, frame
//! simple:    original u32, frame                (interface 0, no time)
//! secrets:   kind u32, length u32, text
//! obsolete:  interface u16, drops u16, time high u32, time low u32, captured u32, original u32, frame
//! ```

use super::bytes::{ByteOrder, Fields};
use super::input::Input;
use super::record::{ReadFault, Record};
use crate::base::{LinkType, PacketTime, limits};
use zeroize::Zeroizing;

/// The section header's type reads the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
/// `TLSK`: a key log as TLS libraries write it.
const TLS_KEY_LOG: u32 = 0x544c_534b;
const OPTION_END: u16 = 0;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;
/// A block with an empty body.
const BLOCK_LEN_BYTES_MIN: u32 = 12;
/// Bytes before a frame, from the block's type on.
const ENHANCED_HEAD_BYTES: usize = 28;
const SIMPLE_HEAD_BYTES: usize = 12;

/// Reads frames of a pcapng file.
#[derive(Default)]
pub(super) struct PcapngReader {
    section: Option<ByteOrder>,
    interfaces: Vec<Interface>,
    /// For simple packet blocks, which bring no time of their own.
    last_time: PacketTime,
    /// Key logs since the last call of [`Self::take_secrets`].
    secrets: Zeroizing<Vec<u8>>,
}

/// What an interface description block says.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    snap_len_bytes: u32,
    resolution: u8,
    offset_s: i64,
}

/// The head of a block.
#[derive(Clone, Copy)]
struct BlockHead {
    kind: u32,
    /// Rounded up to four bytes.
    len_bytes: u64,
}

impl PcapngReader {
    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// `Truncated` when the frame is not whole, `Damaged` for lengths that contradict each other or
    /// an interface never described, `Io`.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, ReadFault> {
        loop {
            let Some(head) = input.peek::<8>()? else {
                return Ok(None);
            };
            if head.starts_with(&SECTION_HEADER) {
                self.begin_section(input)?;
                continue;
            }
            let order = self.section.ok_or(ReadFault::Damaged("a block before any section"))?;
            let head = BlockHead::parse(&head, order)?;
            match head.kind {
                ENHANCED_PACKET => return self.enhanced(input, head, order).map(Some),
                OBSOLETE_PACKET => return self.obsolete(input, head, order).map(Some),
                SIMPLE_PACKET => return self.simple(input, head, order).map(Some),
                INTERFACE_DESCRIPTION => self.describe(input, head, order)?,
                DECRYPTION_SECRETS => self.secrets(input, head, order)?,
                _ => {}
            }
            input.skip(head.len_bytes)?;
        }
    }

    fn begin_section(&mut self, input: &mut Input) -> Result<(), ReadFault> {
        let head = input.peek::<12>()?.ok_or(ReadFault::Truncated)?;
        let magic = head.last_chunk::<4>().copied().unwrap_or_default();
        let order = [ByteOrder::Little, ByteOrder::Big]
            .into_iter()
            .find(|order| order.u32(magic) == BYTE_ORDER_MAGIC)
            .ok_or(ReadFault::Damaged("a section without its byte-order magic"))?;
        let block = BlockHead::parse(&head, order)?;
        if block.len_bytes < 28 {
            return Err(ReadFault::Damaged("a section header that is too short"));
        }
        self.section = Some(order);
        self.interfaces.clear();
        // Last: from here on the input owes these bytes, even if a pipe has not brought them yet.
        input.skip(block.len_bytes)
    }

    fn describe(
        &mut self,
        input: &mut Input,
        head: BlockHead,
        order: ByteOrder,
    ) -> Result<(), ReadFault> {
        if self.interfaces.len() >= limits::CAPTURE_INTERFACES_MAX {
            return Err(ReadFault::Damaged("more than 65536 interfaces"));
        }
        let whole = usize::try_from(head.len_bytes).unwrap_or(usize::MAX);
        let wanted = whole.min(limits::CAPTURE_DESCRIPTION_BYTES_MAX);
        if input.ensure(wanted)? < wanted {
            return Err(ReadFault::Truncated);
        }
        // The last four bytes repeat the length.
        let body = input.window().get(8..wanted.saturating_sub(4)).unwrap_or_default();
        let interface = Interface::parse(body, order)
            .ok_or(ReadFault::Damaged("an interface description that is too short"))?;
        self.interfaces.push(interface);
        Ok(())
    }

    /// The key logs that were passed on the way to the latest frame.
    pub(super) fn take_secrets(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        // Asked for each frame: what is empty is not wiped.
        (!self.secrets.is_empty()).then(|| std::mem::take(&mut self.secrets))
    }

    fn secrets(
        &mut self,
        input: &mut Input,
        head: BlockHead,
        order: ByteOrder,
    ) -> Result<(), ReadFault> {
        let whole = usize::try_from(head.len_bytes).unwrap_or(usize::MAX);
        let wanted = whole.min(limits::CAPTURE_SECRETS_BYTES_MAX);
        if input.ensure(wanted)? < wanted {
            return Err(ReadFault::Truncated);
        }
        let mut fields = Fields::new(input.window().get(8..wanted).unwrap_or_default(), order);
        let (kind, length) = (fields.u32(), fields.u32());
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        if kind == Some(TLS_KEY_LOG) {
            // A block that is longer than what is read of it has lines enough in its first part.
            let room = wanted.saturating_sub(20);
            self.secrets.extend_from_slice(fields.take(length.min(room)).unwrap_or_default());
            self.secrets.push(b'\n');
        }
        Ok(())
    }

    fn enhanced(
        &mut self,
        input: &mut Input,
        head: BlockHead,
        order: ByteOrder,
    ) -> Result<Record, ReadFault> {
        let body = packet_head(input, head)?;
        let mut fields = Fields::new(&body, order);
        let interface = fields.u32().ok_or(ReadFault::Truncated)?;
        self.timed_packet(input, head, interface, &mut fields)
    }

    fn obsolete(
        &mut self,
        input: &mut Input,
        head: BlockHead,
        order: ByteOrder,
    ) -> Result<Record, ReadFault> {
        let body = packet_head(input, head)?;
        let mut fields = Fields::new(&body, order);
        let (Some(interface), Some(_drops)) = (fields.u16(), fields.u16()) else {
            return Err(ReadFault::Truncated);
        };
        self.timed_packet(input, head, u32::from(interface), &mut fields)
    }

    /// The fields that enhanced and obsolete packet blocks share, from the time on.
    fn timed_packet(
        &mut self,
        input: &mut Input,
        head: BlockHead,
        interface: u32,
        fields: &mut Fields<'_>,
    ) -> Result<Record, ReadFault> {
        let (Some(high), Some(low), Some(captured), Some(original)) =
            (fields.u32(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Err(ReadFault::Truncated);
        };
        let interface = self.interface(interface)?;
        let len_bytes = frame_in(input, head, ENHANCED_HEAD_BYTES, captured)?;
        self.last_time = interface.time((u64::from(high) << 32) | u64::from(low));
        Ok(Record {
            time: self.last_time,
            link: interface.link,
            wire_len_bytes: original.max(captured),
            start: ENHANCED_HEAD_BYTES,
            len_bytes,
            advance_bytes: head.len_bytes,
        })
    }

    fn simple(
        &mut self,
        input: &mut Input,
        head: BlockHead,
        order: ByteOrder,
    ) -> Result<Record, ReadFault> {
        let bytes = input.peek::<SIMPLE_HEAD_BYTES>()?.ok_or(ReadFault::Truncated)?;
        let original = order.u32(bytes.last_chunk::<4>().copied().unwrap_or_default());
        let interface = self.interface(0)?;
        // Captured length is not written: the least of wire length, snap length and room.
        let room = head
            .len_bytes
            .checked_sub(16)
            .ok_or(ReadFault::Damaged("a block that is too short"))?;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let snapped = match interface.snap_len_bytes {
            0 => original,
            snap => original.min(snap),
        };
        let captured = snapped.min(room);
        let len_bytes = frame_in(input, head, SIMPLE_HEAD_BYTES, captured)?;
        Ok(Record {
            time: self.last_time,
            link: interface.link,
            wire_len_bytes: original.max(captured),
            start: SIMPLE_HEAD_BYTES,
            len_bytes,
            advance_bytes: head.len_bytes,
        })
    }

    fn interface(&self, index: u32) -> Result<Interface, ReadFault> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.interfaces.get(index))
            .copied()
            .ok_or(ReadFault::Damaged("a frame of an interface that was never described"))
    }
}

impl BlockHead {
    /// `bytes` begin with type and total length.
    fn parse(bytes: &[u8], order: ByteOrder) -> Result<Self, ReadFault> {
        let mut fields = Fields::new(bytes, order);
        let (Some(kind), Some(total)) = (fields.u32(), fields.u32()) else {
            return Err(ReadFault::Truncated);
        };
        if total < BLOCK_LEN_BYTES_MIN {
            return Err(ReadFault::Damaged("a block shorter than its own head"));
        }
        Ok(Self { kind, len_bytes: u64::from(total).next_multiple_of(4) })
    }
}

impl Interface {
    fn parse(body: &[u8], order: ByteOrder) -> Option<Self> {
        let mut fields = Fields::new(body, order);
        let link = LinkType::from_registry(fields.u16()?);
        fields.u16()?;
        let snap_len_bytes = fields.u32()?;
        // Microseconds, unless an option says otherwise.
        let mut interface = Self { link, snap_len_bytes, resolution: 6, offset_s: 0 };
        while let Some((code, value)) = option(&mut fields) {
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_TIME_RESOLUTION, [resolution, ..]) => interface.resolution = *resolution,
                (OPTION_TIME_OFFSET, value) => {
                    if let Some(bytes) = value.first_chunk::<8>() {
                        interface.offset_s = order.i64(*bytes);
                    }
                }
                _ => {}
            }
        }
        Some(interface)
    }

    /// Units of this interface's clock since the epoch, as nanoseconds; clamped to what fits.
    fn time(&self, units: u64) -> PacketTime {
        const NS: u128 = 1_000_000_000;
        let units = u128::from(units);
        let exponent = u32::from(self.resolution & 0x7f);
        let ns = if self.resolution & 0x80 != 0 {
            // Units of 2^-exponent s; 2^64 × 10^9 fits, and exponent is at most 127.
            units.saturating_mul(NS).checked_shr(exponent).unwrap_or(0)
        } else {
            match 10_u128.checked_pow(exponent) {
                Some(units_per_s) => units.saturating_mul(NS).checked_div(units_per_s).unwrap_or(0),
                None => 0,
            }
        };
        let offset_ns = i128::from(self.offset_s).saturating_mul(1_000_000_000);
        let ns = i128::try_from(ns).unwrap_or(i128::MAX).saturating_add(offset_ns);
        let clamped = ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        PacketTime::from_ns(i64::try_from(clamped).unwrap_or(i64::MAX))
    }
}

/// The next option: code and value; `None` where they end or do not fit.
fn option<'a>(fields: &mut Fields<'a>) -> Option<(u16, &'a [u8])> {
    let code = fields.u16()?;
    let len_bytes = usize::from(fields.u16()?);
    let value = fields.take(len_bytes)?;
    // Padding to four bytes; it may be missing behind the last one.
    let _ = fields.take(len_bytes.next_multiple_of(4).saturating_sub(len_bytes));
    Some((code, value))
}

/// The 20 bytes between the block's head and the frame of an enhanced or obsolete packet block.
fn packet_head(input: &mut Input, head: BlockHead) -> Result<[u8; 20], ReadFault> {
    if head.len_bytes < 32 {
        return Err(ReadFault::Damaged("a packet block that is too short"));
    }
    let bytes = input.peek::<ENHANCED_HEAD_BYTES>()?.ok_or(ReadFault::Truncated)?;
    bytes.last_chunk::<20>().copied().ok_or(ReadFault::Truncated)
}

/// Checks that a frame of `captured` bytes fits its block and is there; returns its length.
fn frame_in(
    input: &mut Input,
    head: BlockHead,
    start: usize,
    captured: u32,
) -> Result<usize, ReadFault> {
    let len_bytes = usize::try_from(captured).unwrap_or(usize::MAX);
    if len_bytes > limits::CAPTURE_FRAME_BYTES_MAX {
        return Err(ReadFault::Damaged("a frame longer than 256 KiB"));
    }
    let end = start.saturating_add(len_bytes);
    let with_trailer = u64::try_from(end).unwrap_or(u64::MAX).saturating_add(4);
    if with_trailer > head.len_bytes {
        return Err(ReadFault::Damaged("a frame longer than its block"));
    }
    if input.ensure(end)? < end {
        return Err(ReadFault::Truncated);
    }
    Ok(len_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes blocks in one byte order.
    struct Writer(ByteOrder, Vec<u8>);

    impl Writer {
        fn new(order: ByteOrder) -> Self {
            let mut writer = Self(order, Vec::new());
            writer.section();
            writer
        }

        fn two(&self, value: u16) -> [u8; 2] {
            if self.0 == ByteOrder::Little { value.to_le_bytes() } else { value.to_be_bytes() }
        }

        fn four(&self, value: u32) -> [u8; 4] {
            if self.0 == ByteOrder::Little { value.to_le_bytes() } else { value.to_be_bytes() }
        }

        fn block(&mut self, kind: u32, body: &[u8]) {
            let total = u32::try_from(body.len().next_multiple_of(4) + 12).expect("short");
            let (kind, total) = (self.four(kind), self.four(total));
            self.1.extend(kind);
            self.1.extend(total);
            self.1.extend(body);
            self.1.resize(self.1.len().next_multiple_of(4), 0);
            self.1.extend(total);
        }

        fn section(&mut self) {
            let mut body = self.four(BYTE_ORDER_MAGIC).to_vec();
            body.extend(self.two(1));
            body.extend(self.two(0));
            body.extend([0xff; 8]);
            self.block(0x0a0d_0d0a, &body);
        }

        fn interface(&mut self, link: u16, snap: u32, options: &[(u16, &[u8])]) {
            let mut body = self.two(link).to_vec();
            body.extend([0; 2]);
            body.extend(self.four(snap));
            for (code, value) in options {
                body.extend(self.two(*code));
                body.extend(self.two(u16::try_from(value.len()).expect("short")));
                body.extend(*value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            self.block(INTERFACE_DESCRIPTION, &body);
        }

        fn packet(&mut self, interface: u32, units: u64, frame: &[u8]) {
            let mut body = self.four(interface).to_vec();
            self.packet_tail(&mut body, units, frame);
            self.block(ENHANCED_PACKET, &body);
        }

        fn packet_tail(&self, body: &mut Vec<u8>, units: u64, frame: &[u8]) {
            let len = u32::try_from(frame.len()).expect("short");
            body.extend(self.four(u32::try_from(units >> 32).expect("32 bits")));
            body.extend(self.four(u32::try_from(units & 0xffff_ffff).expect("32 bits")));
            body.extend(self.four(len));
            body.extend(self.four(len + 4));
            body.extend(frame);
        }
    }

    type Seen = (PacketTime, LinkType, u32, Vec<u8>);

    fn read_all(data: &[u8]) -> (Vec<Seen>, Option<ReadFault>) {
        let mut input = Input::from_memory(data.to_vec()).expect("memory");
        let mut reader = PcapngReader::default();
        let mut seen = Vec::new();
        loop {
            match reader.next(&mut input) {
                Ok(Some(record)) => {
                    let end = record.start + record.len_bytes;
                    let bytes = input.window()[record.start..end].to_vec();
                    seen.push((record.time, record.link, record.wire_len_bytes, bytes));
                    if let Err(fault) = input.skip(record.advance_bytes) {
                        return (seen, Some(fault));
                    }
                }
                Ok(None) => return (seen, None),
                Err(fault) => return (seen, Some(fault)),
            }
        }
    }

    #[test]
    fn interfaces_have_their_own_link_type_resolution_and_offset() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let mut writer = Writer::new(order);
            let offset = match order {
                ByteOrder::Little => 100_i64.to_le_bytes(),
                ByteOrder::Big => 100_i64.to_be_bytes(),
            };
            writer.interface(1, 0, &[]);
            writer.interface(101, 0, &[(2, b"eth0"), (9, &[9]), (0, b"")]);
            writer.interface(113, 0, &[(9, &[0x80 | 0x0a]), (14, &offset)]);
            writer.interface(276, 0, &[(9, &[12])]);
            writer.block(4, b"name resolution");
            writer.packet(0, 1_500_000, b"micro");
            writer.packet(1, 5_000_000_001, b"nano");
            writer.packet(2, 1_536, b"binary");
            writer.block(5, b"interface statistics");
            writer.packet(3, 7_000_000_000_999, b"pico");
            let (seen, fault) = read_all(&writer.1);
            assert!(fault.is_none(), "{fault:?}");
            let expected = [
                (1_500_000_000, LinkType::Ethernet, 9, &b"micro"[..]),
                (5_000_000_001, LinkType::RawIp, 8, b"nano"),
                // 1 536 / 2^10 s, and 100 s.
                (101_500_000_000, LinkType::LinuxCooked, 10, b"binary"),
                (7_000_000_000, LinkType::LinuxCooked2, 8, b"pico"),
            ];
            for ((time, link, wire, bytes), (ns, want_link, want_wire, want)) in
                seen.iter().zip(expected)
            {
                assert_eq!(*time, PacketTime::from_ns(ns));
                assert_eq!((*link, *wire, &bytes[..]), (want_link, want_wire, want));
            }
            assert_eq!(seen.len(), 4);
        }
    }

    #[test]
    fn simple_and_obsolete_blocks_are_read_too() {
        let mut writer = Writer::new(ByteOrder::Big);
        writer.interface(1, 4, &[]);
        let mut body = writer.two(0).to_vec();
        body.extend(writer.two(7));
        writer.packet_tail(&mut body, 2_000_000, b"old");
        writer.block(OBSOLETE_PACKET, &body);
        let mut body = writer.four(6).to_vec();
        body.extend(b"simp");
        writer.block(SIMPLE_PACKET, &body);
        let (seen, fault) = read_all(&writer.1);
        assert!(fault.is_none(), "{fault:?}");
        let two_s = PacketTime::from_ms(2_000);
        assert_eq!(seen[0], (two_s, LinkType::Ethernet, 7, b"old".to_vec()));
        // The snap length cut it to four bytes; without a time of its own it has the last one.
        assert_eq!(seen[1], (two_s, LinkType::Ethernet, 6, b"simp".to_vec()));
    }

    #[test]
    fn a_new_section_may_turn_the_byte_order_and_forgets_the_interfaces() {
        let mut writer = Writer::new(ByteOrder::Little);
        writer.interface(1, 0, &[]);
        writer.packet(0, 1, b"a");
        writer.0 = ByteOrder::Big;
        writer.section();
        writer.interface(101, 0, &[]);
        writer.packet(0, 2, b"b");
        let (seen, fault) = read_all(&writer.1);
        assert!(fault.is_none());
        assert_eq!((seen[0].1, seen[1].1), (LinkType::Ethernet, LinkType::RawIp));
        writer.section();
        writer.packet(0, 3, b"c");
        let (seen, fault) = read_all(&writer.1);
        assert_eq!(seen.len(), 2);
        assert!(matches!(fault, Some(ReadFault::Damaged(_))));
    }

    #[test]
    fn every_cut_delivers_the_frames_whose_bytes_are_there_and_then_says_truncated() {
        let mut writer = Writer::new(ByteOrder::Little);
        writer.interface(1, 0, &[(9, &[9])]);
        let mut frames_end = Vec::new();
        let mut clean = vec![0, 28, writer.1.len()];
        for frame in [&b"one"[..], b"second", b"the third"] {
            let start = writer.1.len();
            writer.packet(0, 5, frame);
            frames_end.push(start + 28 + frame.len());
            clean.push(writer.1.len());
        }
        for cut in 0..=writer.1.len() {
            let (seen, fault) = read_all(&writer.1[..cut]);
            let whole = frames_end.iter().filter(|end| **end <= cut).count();
            assert_eq!(seen.len(), whole, "cut at {cut}");
            if clean.contains(&cut) {
                assert!(fault.is_none(), "cut at {cut}: {fault:?}");
            } else {
                assert!(matches!(fault, Some(ReadFault::Truncated)), "cut at {cut}: {fault:?}");
            }
        }
    }

    #[test]
    fn a_block_whose_length_leaves_out_its_padding_is_followed_as_if_it_did_not() {
        let mut writer = Writer::new(ByteOrder::Little);
        writer.interface(1, 0, &[]);
        let start = writer.1.len();
        writer.packet(0, 1, b"odd");
        writer.packet(0, 2, b"next");
        // 32 bytes of head and trailer, and 3 of frame.
        writer.1[start + 4..start + 8].copy_from_slice(&35_u32.to_le_bytes());
        let (seen, fault) = read_all(&writer.1);
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!((seen.len(), &seen[1].3[..]), (2, &b"next"[..]));
    }

    #[test]
    fn times_beyond_what_fits_are_clamped_not_wrapped() {
        let interface = |resolution, offset_s| Interface {
            link: LinkType::Ethernet,
            snap_len_bytes: 0,
            resolution,
            offset_s,
        };
        assert_eq!(interface(0, 0).time(u64::MAX), PacketTime::MAX);
        assert_eq!(interface(6, i64::MIN).time(0), PacketTime::MIN);
        assert_eq!(interface(127, 0).time(u64::MAX), PacketTime::from_ns(0));
        assert_eq!(interface(0xff, 0).time(u64::MAX), PacketTime::from_ns(0));
        assert_eq!(interface(0x80, 0).time(3), PacketTime::from_ms(3_000));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_damage() {
        let mut writer = Writer::new(ByteOrder::Little);
        writer.interface(1, 0, &[]);
        let start = writer.1.len();
        writer.packet(0, 5, b"frame");
        // Captured length beyond the block; block shorter than its head; unknown interface.
        for (at, value) in [(20, 9_u32), (20, u32::MAX), (4, 8), (4, 16), (8, 1)] {
            let mut data = writer.1.clone();
            data[start + at..start + at + 4].copy_from_slice(&value.to_le_bytes());
            let (seen, fault) = read_all(&data);
            assert!(seen.is_empty());
            assert!(matches!(fault, Some(ReadFault::Damaged(_))), "{at} {value}: {fault:?}");
        }
    }
}
