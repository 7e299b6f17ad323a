//! A captured frame, and where frames come from.
//!
//! Purpose: the one trait through which live rings, capture files and simulations feed the front.
//! Invariants: a source never goes back in time (`Frame::time` is clamped to its highest yet).
//! Non-goals: parsing (see `net`).
//! Sources: the LINKTYPE registry of tcpdump.org.

use super::PacketTime;

/// Link-layer framing, by the LINKTYPE registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkType {
    /// DLT_NULL (0): loopback, 4-byte family in the capturing host's byte order.
    Null,
    /// DLT_EN10MB (1).
    Ethernet,
    /// DLT_RAW (12, 14, 101) and LINKTYPE_IPV4/IPV6 (228, 229): an IP header at once.
    RawIp,
    /// DLT_LOOP (108): loopback, 4-byte family in network order.
    Loop,
    /// DLT_LINUX_SLL (113): Linux "cooked" v1.
    LinuxCooked,
    /// DLT_LINUX_SLL2 (276): Linux "cooked" v2.
    LinuxCooked2,
    /// A message of HEP, as an agent sent it to us: no link at all.
    Hep,
    /// Something we do not read; its registry number, for the message.
    Other(u16),
}

impl LinkType {
    /// From the registry number in a capture file's header.
    #[must_use]
    pub const fn from_registry(number: u16) -> Self {
        match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            108 => Self::Loop,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCooked2,
            other => Self::Other(other),
        }
    }
}

/// One frame as captured.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it passed the tap; never earlier than the frame before it from the same source.
    pub time: PacketTime,
    /// How `bytes` begins.
    pub link: LinkType,
    /// What was captured, from the link-layer header on.
    pub bytes: &'a [u8],
    /// Its length on the wire, in bytes; more than `bytes.len()` when the capture cut it.
    pub wire_len_bytes: u32,
}

/// What takes frames.
pub trait FrameSink {
    /// Takes one frame; it must be done with the bytes when it returns.
    fn frame(&mut self, frame: Frame<'_>);
}

/// What one poll brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Frames were handed over.
    Frames,
    /// A live port was silent; `now` is the source's clock.
    Idle {
        /// The time to run timers with.
        now: PacketTime,
    },
    /// There will be no more frames.
    End,
}

/// What the kernel says of a live ring, summed since it was opened. Zero for files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Frames that reached the ring's socket, those dropped included.
    pub seen: u64,
    /// Frames that found no room in the ring.
    pub dropped: u64,
}

/// Where frames come from: a ring, capture files, a simulation.
pub trait FrameSource {
    /// The error that ends the source.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Hands at most one block of frames to `sink`; a live source waits a short, bounded time.
    ///
    /// # Errors
    /// When the source is gone (interface removed) or damaged (a truncated file): frames before
    /// that have been handed over.
    fn poll(&mut self, sink: &mut dyn FrameSink) -> Result<Polled, Self::Error>;

    /// The kernel's counters so far.
    fn kernel_counts(&mut self) -> KernelCounts;
}
