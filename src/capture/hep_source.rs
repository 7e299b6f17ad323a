//! A socket of our own as a source of frames: HEP, which agents send to a collector.
//!
//! Purpose: receive messages of HEP v2 and v3 over UDP and of v3 over TCP, at one address; each is a frame.
//! Invariants: nothing is sent; at most `HEP_CONNECTIONS_MAX` connections, each holding less than one message; time never
//! decreases, `Idle` included.
//! Non-goals: what a message holds (see `net::hep`), TLS towards the agent, authentication: whoever reaches the address is
//! believed, as whoever reaches a mirror port is.
//! Sources: HEP3 of the Homer project, revision 12; udp(7), tcp(7), socket(7) (SO_RXQ_OVFL).

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use super::error::CaptureError;
use crate::base::limits::{
    CAPTURE_BATCH_FRAMES, DATAGRAM_BYTES_MAX, HEP_CLOCK_MS_MAX, HEP_CONNECTIONS_MAX,
};
use crate::base::{Frame, FrameSink, FrameSource, KernelCounts, LinkType, PacketTime, Polled};
use crate::net::{Continuity, HepFramer, hep};

/// One poll waits for this long at most.
const WAIT_MS: u16 = 100;
/// An agent's message that is older than this has arrived: the network's way, and the agent's buffer.
const IDLE_MARGIN_MS: i64 = 500;
/// Asked of the kernel for the UDP socket: half a second of a thousand calls.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;

/// Receives HEP.
#[derive(Debug)]
pub struct HepSource {
    address: SocketAddr,
    udp: UdpSocket,
    listener: TcpListener,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
    last_time: PacketTime,
    counts: KernelCounts,
    refused: u64,
}

/// An agent's connection.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    framer: HepFramer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

impl HepSource {
    /// Binds a UDP and a TCP socket to `address`.
    ///
    /// # Errors
    /// `Listen` when one cannot be bound.
    pub fn open(address: SocketAddr) -> Result<Self, CaptureError> {
        let failed = |error: io::Error| CaptureError::Listen { address, error };
        let udp = UdpSocket::bind(address).map_err(failed)?;
        let listener = TcpListener::bind(udp.local_addr().map_err(failed)?).map_err(failed)?;
        udp.set_nonblocking(true).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let counts_drops = setsockopt(&udp, sockopt::RxqOvfl, &1);
        counts_drops.map_err(|error| failed(error.into()))?;
        // As much as the system allows (net.core.rmem_max); less is no error.
        let _ = setsockopt(&udp, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
        Ok(Self {
            address,
            udp,
            listener,
            peers: Vec::new(),
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            last_time: PacketTime::MIN,
            counts: KernelCounts::default(),
            refused: 0,
        })
    }

    /// The address, with the port that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Connections that were closed at once because there were too many.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Waits for something to arrive; true when it did.
    fn wait(&self) -> io::Result<bool> {
        let mut descriptors = vec![
            PollFd::new(self.udp.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        let streams = self.peers.iter().map(|peer| peer.stream.as_fd());
        descriptors.extend(streams.map(|stream| PollFd::new(stream, PollFlags::POLLIN)));
        match poll(&mut descriptors, PollTimeout::from(WAIT_MS)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn datagrams(&mut self, sink: &mut dyn FrameSink) -> io::Result<()> {
        for _ in 0..CAPTURE_BATCH_FRAMES {
            let mut control = nix::cmsg_space!(u32);
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let received = recvmsg::<()>(
                self.udp.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            );
            let (length, dropped) = match received {
                Ok(message) => (message.bytes, dropped(message.cmsgs())),
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                // What an earlier answer of the network said; nothing of ours was sent.
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNREFUSED) => continue,
                Err(error) => return Err(error.into()),
            };
            self.counts.dropped = dropped.map_or(self.counts.dropped, u64::from);
            let bytes = self.buffer.get(..length).unwrap_or_default();
            hand_over(bytes, &mut self.last_time, &mut self.counts, sink);
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.peers.len() >= HEP_CONNECTIONS_MAX || stream.set_nonblocking(true).is_err() {
                self.refused = self.refused.saturating_add(1);
                continue; // Dropped, and so closed.
            }
            self.peers.push(Peer { stream, framer: HepFramer::default() });
        }
    }

    fn streams(&mut self, sink: &mut dyn FrameSink) {
        let Self { peers, buffer, last_time, counts, .. } = self;
        peers.retain_mut(|peer| {
            let mut hand = |bytes: &[u8]| hand_over(bytes, last_time, counts, sink);
            peer.read(buffer, &mut hand) == Life::GoesOn
        });
    }
}

impl Peer {
    /// Reads what is there, a buffer at most; a connection that does not speak HEP is over.
    fn read(&mut self, buffer: &mut [u8], on_message: &mut impl FnMut(&[u8])) -> Life {
        match self.stream.read(buffer) {
            Ok(0) => Life::Over,
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                self.framer.feed_whole(bytes, Continuity::Contiguous, on_message);
                if self.framer.is_seeking() { Life::Over } else { Life::GoesOn }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Life::GoesOn
            }
            Err(_) => Life::Over,
        }
    }
}

/// The kernel's count of datagrams that found no room, when it says one.
fn dropped(messages: nix::Result<impl Iterator<Item = ControlMessageOwned>>) -> Option<u32> {
    messages.ok()?.find_map(|message| match message {
        ControlMessageOwned::RxqOvfl(count) => Some(count),
        _ => None,
    })
}

/// A message is a frame, at the time that its agent took it, unless the agent's clock is far from ours.
fn hand_over(
    bytes: &[u8],
    last_time: &mut PacketTime,
    counts: &mut KernelCounts,
    sink: &mut dyn FrameSink,
) {
    let arrival = now();
    let taken = hep::parse(bytes).and_then(|message| message.time);
    let taken = taken.filter(|taken| arrival.ms_since(*taken).abs() <= HEP_CLOCK_MS_MAX);
    *last_time = taken.unwrap_or(arrival).max(*last_time);
    counts.seen = counts.seen.saturating_add(1);
    let wire_len_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    sink.frame(Frame { time: *last_time, link: LinkType::Hep, bytes, wire_len_bytes });
}

fn now() -> PacketTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    PacketTime::from_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl FrameSource for HepSource {
    type Error = CaptureError;

    fn poll(&mut self, sink: &mut dyn FrameSink) -> Result<Polled, CaptureError> {
        let address = self.address;
        let failed = |error: io::Error| CaptureError::Listen { address, error };
        if !self.wait().map_err(failed)? {
            self.last_time = self.last_time.max(now().plus_ms(-IDLE_MARGIN_MS));
            return Ok(Polled::Idle { now: self.last_time });
        }
        self.accept();
        self.datagrams(sink).map_err(failed)?;
        self.streams(sink);
        Ok(Polled::Frames)
    }

    fn kernel_counts(&mut self) -> KernelCounts {
        let KernelCounts { seen, dropped } = self.counts;
        KernelCounts { seen: seen.saturating_add(dropped), dropped }
    }
}
