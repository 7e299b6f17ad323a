//! The kernel's receive ring: a packet socket and the memory it shares with us.
//!
//! Purpose: everything about AF_PACKET that needs `unsafe`, behind safe methods.
//! Invariants: nothing is ever written to the socket, and it has no transmit ring; a block is read
//! only while its status says that it is ours, and given back exactly once; no frame gets in before
//! filter and fanout are in place.
//! Non-goals: what stands in a block (see `block`), and waiting, time and errors for people (see
//! `ring_source`).
//! Sources: packet(7), socket(7) (SO_ATTACH_FILTER), the kernel's packet_mmap.rst.
#![allow(unsafe_code)]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};

use super::filter::Instruction;

/// The kernel hands over a block that is not full after this.
pub(super) const RETIRE_MS: u16 = 50;
/// Number of TPACKET_V3 in if_packet.h (`libc` has it as an enum, without its number).
const TPACKET_V3: libc::c_int = 2;
/// What the kernel is told as frame size; TPACKET_V3 packs frames closer than that.
const FRAME_BYTES: usize = 2_048;
/// Where a block's status stands.
const STATUS_OFFSET: usize =
    offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);

/// A packet socket with its ring.
pub(super) struct Ring {
    // Field order is drop order: the memory is unmapped before the socket closes.
    memory: MmapRaw,
    socket: OwnedFd,
    block_bytes: usize,
    block_count: usize,
}

/// What the kernel counted since it was asked before.
pub(super) struct Statistics {
    /// Frames that passed the filter, those dropped included.
    pub(super) seen: u32,
    /// Frames without room in the ring.
    pub(super) dropped: u32,
}

/// A socket on its way to a [`Ring`]; it takes nothing yet.
pub(super) struct Unbound {
    socket: OwnedFd,
    interface: u32,
}

impl Unbound {
    /// Opens a raw packet socket for one interface. Protocol 0 means that it gets nothing.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW.
    pub(super) fn open(interface: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        let unbound = Self { socket, interface };
        bind(unbound.socket.as_fd(), interface, 0)?;
        Ok(unbound)
    }

    /// ARPHRD_* of the interface.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub(super) fn hardware_type(&self) -> io::Result<u16> {
        let mut address = link_layer_address(0, 0)?;
        let mut len = socklen::<libc::sockaddr_ll>()?;
        // SAFETY: `address` is a plain C struct of `len` bytes that outlives the call, and the
        // kernel writes at most `len` bytes to it. (nix refuses the short address of Ethernet.)
        let answer = unsafe {
            libc::getsockname(self.socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
        };
        check(answer)?;
        Ok(address.sll_hatype)
    }

    /// Sets up the ring and a filter that refuses everything, and only then binds.
    ///
    /// # Errors
    /// What the kernel says: `ENOMEM` for a ring that is too large.
    pub(super) fn into_ring(self, block_bytes: usize, block_count: usize) -> io::Result<Ring> {
        let socket = self.socket.as_fd();
        attach_filter(socket, &[Instruction::REFUSE_ALL])?;
        set_option(socket, libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V3)?;
        let ring_bytes = block_bytes.checked_mul(block_count).ok_or_else(too_large)?;
        let request = libc::tpacket_req3 {
            tp_block_size: c_uint(block_bytes)?,
            tp_block_nr: c_uint(block_count)?,
            tp_frame_size: c_uint(FRAME_BYTES)?,
            tp_frame_nr: c_uint(ring_bytes / FRAME_BYTES)?,
            tp_retire_blk_tov: RETIRE_MS.into(),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let memory = MmapOptions::new().len(ring_bytes).map_raw(socket.as_raw_fd())?;
        // Frames that this host sends on the interface are not the mirror's. Kernels before 4.20
        // do not know the option, and nobody sends on a mirror port.
        let on: libc::c_int = 1;
        let _ = set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on);
        let promiscuous = libc::packet_mreq {
            mr_ifindex: i32::try_from(self.interface).map_err(|_| too_large())?,
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).map_err(|_| too_large())?,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
        let every_protocol = u16::try_from(libc::ETH_P_ALL).map_err(|_| too_large())?;
        bind(socket, self.interface, every_protocol)?;
        Ok(Ring { memory, socket: self.socket, block_bytes, block_count })
    }
}

impl Ring {
    /// Joins a fanout group by flow hash. The hash is symmetric, so both directions of a flow, and
    /// all fragments of a datagram, come to the same ring; the kernel reassembles nothing.
    ///
    /// # Errors
    /// `EINVAL` when the group's id is taken by sockets of another kind or interface.
    pub(super) fn join_fanout(&self, group: u16) -> io::Result<()> {
        let argument = u32::from(group) | (libc::PACKET_FANOUT_HASH << 16);
        set_option(self.socket.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, &argument)
    }

    /// Replaces the filter that refuses everything: from here on frames come.
    ///
    /// # Errors
    /// `EINVAL` when the kernel refuses the program.
    pub(super) fn let_in(&self, program: Option<&[Instruction]>) -> io::Result<()> {
        let socket = self.socket.as_fd();
        if let Some(program) = program {
            return attach_filter(socket, program);
        }
        let unused: libc::c_int = 0;
        set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &unused)
    }

    /// Blocks in the ring.
    pub(super) const fn block_count(&self) -> usize {
        self.block_count
    }

    /// The socket, to wait on.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The error that the socket holds, taken from it; 0 for none.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub(super) fn take_error(&self) -> io::Result<i32> {
        Ok(socket::getsockopt(&self.socket, sockopt::SocketError)?)
    }

    /// The bytes of a block, if the kernel has handed it over.
    pub(super) fn block(&self, index: usize) -> Option<&[u8]> {
        let offset = self.offset_of_block(index)?;
        // Acquire: what the kernel wrote before it set the bit is seen after reading it.
        if self.status(offset)?.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: `offset_of_block` checked that the block lies within the mapping, which lives as
        // long as `self`. While TP_STATUS_USER is set the kernel does not write to the block, and
        // we give it back only in `release`, which takes `&mut self` and so outlives this borrow.
        unsafe {
            let start = self.memory.as_ptr().add(offset);
            Some(std::slice::from_raw_parts(start, self.block_bytes))
        }
    }

    /// Gives a block back to the kernel.
    pub(super) fn release(&mut self, index: usize) {
        let status = self.offset_of_block(index).and_then(|offset| self.status(offset));
        if let Some(status) = status {
            // Release: our reads of the block come before the kernel may write to it.
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    /// What the kernel counted since the last call; asking resets its counters. `tp_packets`
    /// includes `tp_drops` (packet_getsockopt in the kernel's af_packet.c adds them up).
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub(super) fn statistics(&self) -> io::Result<Statistics> {
        let mut counts = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut len = socklen::<libc::tpacket_stats_v3>()?;
        // SAFETY: `counts` is a plain C struct of `len` bytes that outlives the call, and the
        // kernel writes at most `len` bytes to it.
        let answer = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast(),
                &raw mut len,
            )
        };
        check(answer)?;
        Ok(Statistics { seen: counts.tp_packets, dropped: counts.tp_drops })
    }

    /// Where a block begins; `None` beyond the ring.
    fn offset_of_block(&self, index: usize) -> Option<usize> {
        let offset = index.checked_mul(self.block_bytes)?;
        let end = offset.checked_add(self.block_bytes)?;
        (index < self.block_count && end <= self.memory.len()).then_some(offset)
    }

    /// The status word of the block at `offset`.
    fn status(&self, offset: usize) -> Option<&AtomicU32> {
        let at = offset.checked_add(STATUS_OFFSET)?;
        if at.checked_add(size_of::<AtomicU32>())? > self.memory.len() {
            return None;
        }
        // SAFETY: the word lies within the mapping (checked above), which is page-aligned and lives
        // as long as `self`; `offset` is a multiple of the block size and `STATUS_OFFSET` of four,
        // so it is aligned. Kernel and we access it as one 32-bit word only.
        Some(unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(at).cast()) })
    }
}

/// Attaches a classic BPF program, or replaces the one that is attached, in one step.
fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> = program
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.jump_true,
            jf: instruction.jump_false,
            k: instruction.operand,
        })
        .collect();
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| too_large())?;
    // The kernel copies the program during the call.
    let argument = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &argument)
}

/// Binds to an interface: protocol 0 for nothing, ETH_P_ALL for everything.
fn bind(socket: BorrowedFd<'_>, interface: u32, protocol: u16) -> io::Result<()> {
    let address = link_layer_address(interface, protocol)?;
    let len = socklen::<libc::sockaddr_ll>()?;
    // SAFETY: `address` is a sockaddr_ll of `len` bytes that outlives the call; the kernel reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })
}

/// An address of packet(7), without a hardware address.
fn link_layer_address(interface: u32, protocol: u16) -> io::Result<libc::sockaddr_ll> {
    Ok(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_| too_large())?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(interface).map_err(|_| too_large())?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    })
}

/// Sets a socket option whose argument is the C value `value`.
fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = socklen::<T>()?;
    // SAFETY: `value` is valid for reads of `len` bytes during the call, and all callers pass the C
    // type that packet(7) or socket(7) names for the option.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), len)
    })
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socklen<T>() -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of::<T>()).map_err(|_| too_large())
}

fn c_uint(value: usize) -> io::Result<libc::c_uint> {
    libc::c_uint::try_from(value).map_err(|_| too_large())
}

/// A number that does not fit the kernel's field.
fn too_large() -> io::Error {
    io::Error::from_raw_os_error(libc::EOVERFLOW)
}
