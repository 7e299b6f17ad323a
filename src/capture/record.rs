//! One frame as it stands in a capture file, and why reading may stop.
//!
//! Purpose: what the two file formats have in common.
//! Invariants: a `Record` was checked against the window it points into.
//! Non-goals: who owns the bytes (see `input`).
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

use std::io;
use zeroize::Zeroizing;

use super::input::Input;
use super::pcap_file::PcapReader;
use super::pcapng_file::PcapngReader;
use crate::base::{LinkType, PacketTime};

/// A frame at the front of an input; nothing of it has been consumed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// As the file says, not yet clamped.
    pub(super) time: PacketTime,
    /// How the frame begins.
    pub(super) link: LinkType,
    /// Length on the wire; never less than `len_bytes`.
    pub(super) wire_len_bytes: u32,
    /// Where the frame begins in the input's window.
    pub(super) start: usize,
    /// Captured bytes.
    pub(super) len_bytes: usize,
    /// What to skip to come to the next record.
    pub(super) advance_bytes: u64,
}

/// Why reading stops before the end, for good or for now.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The input ends inside a record.
    Truncated,
    /// The record contradicts itself.
    Damaged(&'static str),
    /// A pipe has nothing for now; asking again later goes on where this stopped.
    NotYet,
    /// The system says no.
    Io(io::Error),
}

/// Either format.
pub(super) enum Reader {
    /// Classic pcap.
    Pcap(PcapReader),
    /// pcapng.
    Pcapng(PcapngReader),
}

impl Reader {
    /// TLS secrets that stood before the latest frame, as text of a key log.
    pub(super) fn take_secrets(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Pcap(_) => None,
            Self::Pcapng(reader) => reader.take_secrets(),
        }
    }

    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// `Truncated`, `Damaged`, `Io`; the input stands before the record that caused it.
    #[inline]
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, ReadFault> {
        match self {
            Self::Pcap(reader) => reader.next(input),
            Self::Pcapng(reader) => reader.next(input),
        }
    }
}
