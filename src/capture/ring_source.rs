//! A live interface as a source of frames.
//!
//! Purpose: poll one TPACKET_V3 ring, block by block.
//! Invariants: time never decreases, `Idle` included; every frame of a block is handed over before
//! the block goes back; nothing is sent.
//! Non-goals: memory mapping and system calls (see `ring`), threads (see `work`).
//! Sources: packet(7), the kernel's packet_mmap.rst.

use std::io;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::time::{ClockId, clock_gettime};

use super::block::BlockFrames;
use super::error::CaptureError;
use super::filter::{Filter, Instruction};
use super::interfaces;
use super::ring::{RETIRE_MS, Ring, Unbound};
use crate::base::time::NS_PER_S;
use crate::base::{Frame, FrameSink, FrameSource, KernelCounts, LinkType, PacketTime, Polled};

/// Blocks of a ring of usual size; each holds a second of one G.711 call and more.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks of a small ring; still longer than the longest frame (64 KiB after receive offload).
const SMALL_BLOCK_BYTES: usize = 256 << 10;
/// Fewer would leave the kernel without a block while we read one.
const BLOCK_COUNT_MIN: usize = 4;
/// One poll waits for this long at most; twice the retire timeout, so a block with frames ends it.
const WAIT_MS: u16 = 100;
/// After the interface went: what it sent before is handed over within one retire timeout.
const LAST_BLOCK_WAIT_MS: u16 = 150;
/// A frame that was stamped this long ago has been handed over: four retire timeouts.
const IDLE_MARGIN_MS: i64 = 200;

/// Raw IP of cellular modems (the kernel's if_arp.h); `libc` has no name for it.
const ARPHRD_RAWIP: u16 = 519;

const _: () = assert!(WAIT_MS >= 2 * RETIRE_MS && LAST_BLOCK_WAIT_MS > 2 * RETIRE_MS);

/// Rings that share an interface's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanoutGroup {
    /// The group's number: the same for its rings, and for nothing else in the network namespace.
    pub id: u16,
    /// How many rings there will be; with one, no group is made.
    pub count: u16,
}

/// How to open a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions<'a> {
    /// Bytes of the ring; rounded down to whole blocks, at least four small ones (1 MiB).
    pub ring_bytes: usize,
    /// Sharing with other rings of the same interface.
    pub fanout: Option<FanoutGroup>,
    /// An expression of pcap-filter(7); the kernel counts and hands over only what it matches.
    pub filter: Option<&'a str>,
}

/// Frames of a live interface.
pub struct RingSource {
    ring: Ring,
    interface: String,
    link: LinkType,
    /// The block that the kernel fills next.
    index: usize,
    last_time: PacketTime,
    time_steps: u64,
    counts: KernelCounts,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// The interface is gone; its last block may still come.
    Draining,
}

impl RingSource {
    /// Opens a ring on an interface, in promiscuous mode.
    ///
    /// The ring takes frames from the moment this returns; of a fanout group's frames, those for a
    /// ring that is still being opened are not seen. Frames that this host itself sends on the
    /// interface are left out.
    ///
    /// # Errors
    /// `NoSuchInterface`, `NoPermission`, `UnsupportedInterface`, `BadFilter`, `RingTooLarge`,
    /// `InterfaceGone` (it is down), `Ring` for anything else that the kernel refuses.
    pub fn open(interface: &str, options: RingOptions<'_>) -> Result<Self, CaptureError> {
        let index = interfaces::index_of(interface)?;
        let fail = |step, error| explain(interface, step, error);
        let unbound = Unbound::open(index).map_err(|error| fail("open a packet socket", error))?;
        let hardware_type =
            unbound.hardware_type().map_err(|error| fail("read the hardware type", error))?;
        let link = link_of(hardware_type).ok_or_else(|| CaptureError::UnsupportedInterface {
            name: interface.to_owned(),
            hardware_type,
        })?;
        let program = match options.filter {
            Some(text) => Some(Filter::compile_live(text, interface, link)?.instructions()),
            None => None,
        };
        let (block_bytes, block_count) = blocks_for(options.ring_bytes);
        let ring = unbound.into_ring(block_bytes, block_count).map_err(|error| {
            if error.raw_os_error() == Some(libc::ENOMEM) {
                let bytes = options.ring_bytes;
                CaptureError::RingTooLarge { interface: interface.to_owned(), bytes }
            } else {
                fail("set up the ring", error)
            }
        })?;
        if let Some(group) = options.fanout.filter(|group| group.count > 1) {
            ring.join_fanout(group.id).map_err(|error| fail("join the fanout group", error))?;
        }
        let_in(&ring, interface, options.filter, program.as_deref())?;
        let source = Self {
            ring,
            interface: interface.to_owned(),
            link,
            index: 0,
            last_time: PacketTime::MIN,
            time_steps: 0,
            counts: KernelCounts::default(),
            state: State::Up,
        };
        if source.take_error()? == libc::ENETDOWN {
            return Err(source.gone());
        }
        Ok(source)
    }

    /// How frames of this interface begin.
    #[must_use]
    pub const fn link(&self) -> LinkType {
        self.link
    }

    /// How often time stepped back (and was clamped).
    #[must_use]
    pub const fn time_steps(&self) -> u64 {
        self.time_steps
    }

    /// Hands over the next block, if it is ours.
    fn take_block(&mut self, sink: &mut dyn FrameSink) -> Result<bool, CaptureError> {
        let Some(block) = self.ring.block(self.index) else { return Ok(false) };
        let mut left = u32::MAX;
        if let Some(mut frames) = BlockFrames::new(block) {
            for frame in frames.by_ref() {
                if frame.time < self.last_time {
                    self.time_steps = self.time_steps.saturating_add(1);
                }
                self.last_time = self.last_time.max(frame.time);
                sink.frame(Frame {
                    time: self.last_time,
                    link: self.link,
                    bytes: frame.bytes,
                    wire_len_bytes: frame.wire_len_bytes,
                });
            }
            left = frames.left();
        }
        self.ring.release(self.index);
        self.index = match self.index.saturating_add(1) {
            next if next < self.ring.block_count() => next,
            _ => 0,
        };
        if left == 0 { Ok(true) } else { Err(self.error("read a block", Errno::EPROTO.into())) }
    }

    /// Waits for a block, for at most `wait_ms`; an error of the socket ends the waiting.
    fn wait(&mut self, wait_ms: u16) -> Result<(), CaptureError> {
        let mut watched = [PollFd::new(self.ring.socket(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut watched, PollTimeout::from(wait_ms)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(self.error("wait for frames", error.into())),
        }
        let [socket] = &watched;
        let trouble = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        if socket.revents().is_some_and(|events| events.intersects(trouble)) {
            match self.take_error()? {
                0 => {}
                libc::ENETDOWN | libc::ENODEV | libc::ENXIO => self.state = State::Draining,
                code => {
                    let error = io::Error::from_raw_os_error(code);
                    return Err(self.error("wait for frames", error));
                }
            }
        }
        Ok(())
    }

    fn take_error(&self) -> Result<i32, CaptureError> {
        self.ring.take_error().map_err(|error| self.error("read the socket's error", error))
    }

    /// The system's clock, so far back that every earlier frame has been handed over.
    fn idle_time(&mut self) -> Result<PacketTime, CaptureError> {
        let now = clock_gettime(ClockId::CLOCK_REALTIME)
            .map_err(|error| self.error("read the clock", error.into()))?;
        let ns = now.tv_sec().saturating_mul(NS_PER_S).saturating_add(now.tv_nsec());
        let safe = PacketTime::from_ns(ns).plus_ms(IDLE_MARGIN_MS.saturating_neg());
        self.last_time = self.last_time.max(safe);
        Ok(self.last_time)
    }

    #[cold]
    fn error(&self, step: &'static str, error: io::Error) -> CaptureError {
        CaptureError::Ring { interface: self.interface.clone(), step, error }
    }

    #[cold]
    fn gone(&self) -> CaptureError {
        CaptureError::InterfaceGone { name: self.interface.clone() }
    }
}

impl FrameSource for RingSource {
    type Error = CaptureError;

    /// Hands over the frames of one block; waits for it for at most 100 ms.
    fn poll(&mut self, sink: &mut dyn FrameSink) -> Result<Polled, CaptureError> {
        if self.take_block(sink)? {
            return Ok(Polled::Frames);
        }
        self.wait(WAIT_MS)?;
        if self.state == State::Draining {
            self.wait(LAST_BLOCK_WAIT_MS)?;
            return if self.take_block(sink)? { Ok(Polled::Frames) } else { Err(self.gone()) };
        }
        if self.take_block(sink)? {
            return Ok(Polled::Frames);
        }
        Ok(Polled::Idle { now: self.idle_time()? })
    }

    fn kernel_counts(&mut self) -> KernelCounts {
        // A failure here (it has no cause while the socket is open) leaves the sum as it was.
        if let Ok(new) = self.ring.statistics() {
            self.counts.seen = self.counts.seen.saturating_add(u64::from(new.seen));
            self.counts.dropped = self.counts.dropped.saturating_add(u64::from(new.dropped));
        }
        self.counts
    }
}

/// Opens the ring for frames, and blames the filter when the kernel refuses it.
fn let_in(
    ring: &Ring,
    interface: &str,
    text: Option<&str>,
    program: Option<&[Instruction]>,
) -> Result<(), CaptureError> {
    ring.let_in(program).map_err(|error| match text {
        Some(text) => CaptureError::BadFilter { text: text.to_owned(), reason: error.to_string() },
        None => explain(interface, "open the ring for frames", error),
    })
}

/// Size and number of blocks for a ring of about `ring_bytes`.
fn blocks_for(ring_bytes: usize) -> (usize, usize) {
    let fits = ring_bytes >= BLOCK_BYTES.saturating_mul(BLOCK_COUNT_MIN);
    let block_bytes = if fits { BLOCK_BYTES } else { SMALL_BLOCK_BYTES };
    (block_bytes, (ring_bytes / block_bytes).max(BLOCK_COUNT_MIN))
}

/// How frames of a raw packet socket begin, by ARPHRD_* of the interface; `None`: we do not read it.
const fn link_of(hardware_type: u16) -> Option<LinkType> {
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(LinkType::Ethernet),
        // Tunnels without a link-layer header: tun, wireguard, ipip, sit, cellular modems.
        libc::ARPHRD_NONE
        | ARPHRD_RAWIP
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT => Some(LinkType::RawIp),
        _ => None,
    }
}

#[cold]
fn explain(interface: &str, step: &'static str, error: io::Error) -> CaptureError {
    let interface = interface.to_owned();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => CaptureError::NoPermission { interface },
        Some(libc::ENODEV | libc::ENXIO | libc::ENETDOWN) => {
            CaptureError::InterfaceGone { name: interface }
        }
        _ => CaptureError::Ring { interface, step, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_any_size_has_at_least_four_blocks_that_hold_the_longest_frame() {
        assert_eq!(blocks_for(64 << 20), (1 << 20, 64));
        assert_eq!(blocks_for(4 << 20), (1 << 20, 4));
        assert_eq!(blocks_for(3 << 20), (256 << 10, 12));
        assert_eq!(blocks_for(0), (256 << 10, 4));
    }

    #[test]
    fn only_link_types_that_are_read_are_taken() {
        assert_eq!(link_of(1), Some(LinkType::Ethernet));
        assert_eq!(link_of(772), Some(LinkType::Ethernet));
        assert_eq!(link_of(0xfffe), Some(LinkType::RawIp));
        assert_eq!(link_of(280), None);
    }
}
