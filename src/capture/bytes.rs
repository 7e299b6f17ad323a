//! Fields of capture files, whose byte order the file itself declares.
//!
//! Purpose: one cursor for both byte orders.
//! Invariants: as `base::Reader`: it hands out only bytes that exist.
//! Non-goals: packets (network order, see `net`).
//! Sources: draft-ietf-opsawg-pcap §4, draft-ietf-opsawg-pcapng §3.

use crate::base::Reader;

/// How the writing host stored integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// Two bytes as a number.
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// Four bytes as a number.
    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Eight bytes as a number in two's complement.
    pub(super) const fn i64(self, bytes: [u8; 8]) -> i64 {
        match self {
            Self::Little => i64::from_le_bytes(bytes),
            Self::Big => i64::from_be_bytes(bytes),
        }
    }
}

/// A cursor that knows the byte order.
pub(super) struct Fields<'a> {
    reader: Reader<'a>,
    order: ByteOrder,
}

impl<'a> Fields<'a> {
    /// Starts at the first byte of `bytes`.
    pub(super) const fn new(bytes: &'a [u8], order: ByteOrder) -> Self {
        Self { reader: Reader::new(bytes), order }
    }

    /// Two bytes.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.reader.array().map(|bytes| self.order.u16(bytes))
    }

    /// Four bytes.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.reader.array().map(|bytes| self.order.u32(bytes))
    }

    /// The next `len_bytes` bytes.
    pub(super) fn take(&mut self, len_bytes: usize) -> Option<&'a [u8]> {
        self.reader.take(len_bytes)
    }
}
