//! Frames for `export --format pcap`, made around archived payloads.
//!
//! Purpose: let Wireshark and friends open a call's signalling and media with its addresses and times.
//! Invariants: addresses, ports, payloads and times are the archived ones; what is made up (MAC
//! addresses, TTL, TCP numbers, handshakes that were not kept) is the same every time.
//! Non-goals: the frames as they were: link layers and tunnels are not archived.
//! Sources: RFC 791, RFC 768, RFC 9293; etherparse writes the headers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use foldhash::fast::RandomState;
use pcap::{Capture, Linktype, Packet, PacketHeader, Precision, Savefile};

use crate::base::time::NS_PER_S;
use crate::base::{Endpoint, PacketTime};

/// Locally administered addresses that say what they are: no phone has them.
const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const DESTINATION_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const HOPS: u8 = 64;
/// Payload of one made-up TCP segment: as on Ethernet.
const SEGMENT_BYTES: usize = 1_400;
/// An IPv4 datagram's 65 535 bytes less the headers of IP and UDP.
const UDP_PAYLOAD_BYTES_MAX: usize = 65_507;

/// A capture file being written.
pub struct FrameWriter {
    file: Savefile,
    tcp: HashMap<(Endpoint, Endpoint), u32, RandomState>,
    file_bytes: u64,
}

/// A payload that fits in no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoesNotFit;

impl FrameWriter {
    /// Begins the file `path` (`-` is standard output), with times in nanoseconds.
    ///
    /// # Errors
    /// What libpcap says.
    pub fn create(path: &Path) -> Result<Self, pcap::Error> {
        let dead = Capture::dead_with_precision(Linktype::ETHERNET, Precision::Nano)?;
        Ok(Self { file: dead.savefile(path)?, tcp: HashMap::default(), file_bytes: 24 })
    }

    /// Writes a UDP datagram.
    ///
    /// # Errors
    /// [`DoesNotFit`] when the payload is longer than a datagram can be.
    pub fn udp(
        &mut self,
        time: PacketTime,
        source: Endpoint,
        destination: Endpoint,
        payload: &[u8],
    ) -> Result<(), DoesNotFit> {
        if payload.len() > UDP_PAYLOAD_BYTES_MAX {
            return Err(DoesNotFit);
        }
        let mut frame = Vec::new();
        let builder = network(source, destination).udp(source.port, destination.port);
        builder.write(&mut frame, payload).map_err(|_| DoesNotFit)?;
        self.put(time, &frame);
        Ok(())
    }

    /// Writes a message as TCP segments that follow those written before in the same direction.
    ///
    /// # Errors
    /// [`DoesNotFit`], which the size of a segment rules out.
    pub fn tcp(
        &mut self,
        time: PacketTime,
        source: Endpoint,
        destination: Endpoint,
        payload: &[u8],
    ) -> Result<(), DoesNotFit> {
        let segments = payload.chunks(SEGMENT_BYTES).count();
        for (position, segment) in payload.chunks(SEGMENT_BYTES).enumerate() {
            let sequence = *self.tcp.entry((source, destination)).or_insert(1);
            let acknowledged = *self.tcp.entry((destination, source)).or_insert(1);
            let mut builder = network(source, destination)
                .tcp(source.port, destination.port, sequence, 65_535)
                .ack(acknowledged);
            if position + 1 == segments {
                builder = builder.psh();
            }
            let mut frame = Vec::new();
            builder.write(&mut frame, segment).map_err(|_| DoesNotFit)?;
            self.put(time, &frame);
            let next = sequence.wrapping_add(u32::try_from(segment.len()).unwrap_or_default());
            self.tcp.insert((source, destination), next);
        }
        Ok(())
    }

    /// Writes what is buffered, and returns the bytes that the file has when nothing went wrong:
    /// libpcap does not say when a frame found no room on the disk.
    ///
    /// # Errors
    /// What libpcap says: the disk is full, as a rule.
    pub fn finish(mut self) -> Result<u64, pcap::Error> {
        self.file.flush()?;
        Ok(self.file_bytes)
    }

    fn put(&mut self, time: PacketTime, frame: &[u8]) {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        // With `Precision::Nano` the second field counts nanoseconds.
        let stamp = libc::timeval {
            tv_sec: time.ns().div_euclid(NS_PER_S),
            tv_usec: time.ns().rem_euclid(NS_PER_S),
        };
        self.file.write(&Packet::new(&PacketHeader { ts: stamp, caplen: len, len }, frame));
        self.file_bytes = self.file_bytes.saturating_add(16 + u64::from(len));
    }
}

fn network(source: Endpoint, destination: Endpoint) -> PacketBuilderStep<IpHeaders> {
    let link = PacketBuilder::ethernet2(SOURCE_MAC, DESTINATION_MAC);
    match (source.address(), destination.address()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOPS),
        // One family for both: an IPv4 address is written IPv4-mapped where the other is IPv6.
        _ => link.ipv6(source.ip, destination.ip, HOPS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    fn read_back(write: impl FnOnce(&mut FrameWriter)) -> Vec<(i64, Vec<u8>)> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("call.pcap");
        let mut writer = FrameWriter::create(&path).expect("created");
        write(&mut writer);
        writer.finish().expect("written");
        let mut capture =
            Capture::from_file_with_precision(&path, Precision::Nano).expect("a capture");
        let mut frames = Vec::new();
        while let Ok(packet) = capture.next_packet() {
            let ns = packet.header.ts.tv_sec * NS_PER_S + packet.header.ts.tv_usec;
            frames.push((ns, packet.data.to_vec()));
        }
        frames
    }

    #[test]
    fn a_datagram_keeps_its_time_to_the_nanosecond_its_addresses_and_its_payload() {
        let (a, b) = (Endpoint::v4([10, 0, 0, 1], 4_000), Endpoint::v4([10, 0, 0, 2], 4_002));
        let time = PacketTime::from_ns(1_795_489_056_123_456_789);
        let frames = read_back(|writer| writer.udp(time, a, b, b"speech").expect("fits"));
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].0, time.ns());
        let packet = SlicedPacket::from_ethernet(&frames[0].1).expect("whole");
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
        assert_eq!(ip.header().source_addr().to_string(), "10.0.0.1");
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
        assert_eq!((udp.source_port(), udp.destination_port()), (4_000, 4_002));
        assert_eq!(udp.payload(), b"speech");
    }

    #[test]
    fn a_long_message_over_tcp_joins_up_again() {
        let a = Endpoint::new("2001:db8::1".parse().expect("address"), 5_060);
        let b = Endpoint::v4([10, 0, 0, 2], 5_060);
        let message: Vec<u8> = (0..3_000_u16).map(|index| index.to_le_bytes()[0]).collect();
        let frames = read_back(|writer| {
            writer.tcp(PacketTime::from_ms(1), a, b, &message).expect("fits");
            writer.tcp(PacketTime::from_ms(2), b, a, b"ok").expect("fits");
            writer.tcp(PacketTime::from_ms(3), a, b, b"more").expect("fits");
        });
        let mut joined = Vec::new();
        let mut next = 1;
        for (_, frame) in &frames {
            let packet = SlicedPacket::from_ethernet(frame).expect("whole");
            let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP") };
            let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("no IPv6") };
            if ip.header().source_addr() == std::net::Ipv6Addr::from(b.ip) {
                assert_eq!(tcp.acknowledgment_number(), 3_001);
                continue;
            }
            assert_eq!(tcp.sequence_number(), next);
            next += u32::try_from(tcp.payload().len()).expect("short");
            joined.extend_from_slice(tcp.payload());
        }
        assert_eq!(joined, [message.as_slice(), b"more"].concat());
    }

    #[test]
    fn a_payload_no_datagram_can_hold_is_refused() {
        let a = Endpoint::v4([10, 0, 0, 1], 1);
        let frames = read_back(|writer| {
            let long = vec![0; UDP_PAYLOAD_BYTES_MAX + 1];
            assert_eq!(writer.udp(PacketTime::from_ms(0), a, a, &long), Err(DoesNotFit));
            assert_eq!(writer.udp(PacketTime::from_ms(0), a, a, &long[1..]), Ok(()));
        });
        assert_eq!(frames.len(), 1);
    }
}
