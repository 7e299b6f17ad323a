//! Fuzz bodies of this folder, in the crate so that they always compile.
//!
//! Purpose: one function a target, `&[u8]` in, that panics when an invariant of `net` breaks.
//! Invariants: the same input takes the same way each time.
//! Non-goals: speed, and being called by the recorder.
//! Sources: none.

use super::{
    Continuity, Decap, Decapped, HepFramer, Interest, Sighting, TcpFlags, TcpSegment, TcpStreams,
};
use crate::base::limits::{
    FRAGMENT_BYTES_MAX, TCP_OPENINGS_PARKED_BYTES_MAX, TCP_PARKED_BYTES_MAX,
};
use crate::base::{
    Endpoint, FiveTuple, Frame, FrameOutcome, LinkType, PacketTime, Protocol, Reader,
};

/// What a HEP stream says never depends on where TCP cut it, and what it holds is less than a message.
///
/// # Panics
/// When an invariant breaks.
pub fn hep(data: &[u8]) {
    let said = |step: usize| {
        let (mut framer, mut said) = (HepFramer::default(), Vec::new());
        for piece in data.chunks(step) {
            framer.feed(piece, Continuity::Contiguous, |message| {
                said.push((message.flow, message.time, message.payload.to_vec()));
            });
            assert!(framer.held_bytes() < 1 << 16);
        }
        said
    };
    let whole = said(data.len().max(1));
    assert_eq!(whole, said(1));
    assert_eq!(whole, said(100));
    let _ = super::hep::parse(data);
}

/// Frames of any link type and any length through one [`Decap`]: no panic, bounds hold, and the
/// dropped frames are among those that were counted as fragments.
///
/// Input: frames, each `link u8, time step in ms u8, bytes cut off u8, length u16 BE, bytes`.
///
/// # Panics
/// When an invariant breaks.
pub fn decap(data: &[u8]) {
    let mut decap = Decap::new();
    let mut reader = Reader::new(data);
    let mut time = PacketTime::from_ms(0);
    let (mut fragments, mut dropped) = (0_u64, 0_u64);
    while let Some([link, step_ms, cut, high, low]) = reader.array::<5>() {
        let len_bytes = usize::from(u16::from_be_bytes([high, low])).min(reader.remaining());
        let Some(bytes) = reader.take(len_bytes) else { break };
        time = time.plus_ms(i64::from(step_ms));
        let len_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let wire_len_bytes = len_bytes.saturating_add(u32::from(cut));
        let frame = Frame { time, link: link_type(link), bytes, wire_len_bytes };
        match decap.frame(&frame) {
            Decapped::Done(FrameOutcome::Fragment) => fragments = fragments.saturating_add(1),
            Decapped::Udp { sighting: Sighting::First, .. }
            | Decapped::Tcp { sighting: Sighting::First, .. }
                if fragments == 0 =>
            {
                let again = decap.frame(&frame);
                let (Decapped::Udp { sighting, .. } | Decapped::Tcp { sighting, .. }) = again
                else {
                    panic!("the same frame became {again:?}");
                };
                assert_eq!(sighting, Sighting::Repeated, "the same frame at the same time");
            }
            _ => {}
        }
        dropped = dropped.saturating_add(decap.take_dropped());
        assert!(decap.held_bytes() <= FRAGMENT_BYTES_MAX, "fragments are bounded");
    }
    dropped = dropped.saturating_add(decap.expire(PacketTime::MAX));
    assert!(dropped <= fragments, "{dropped} dropped of {fragments}");
    assert_eq!(decap.held_bytes(), 0, "nothing is held after the end");
}

/// Segments of four directions through one [`TcpStreams`]: no panic, bounds hold, no byte is
/// delivered twice or invented, and nothing is parked after the end.
///
/// Input: segments, each `direction and flags u8, time step in 10 ms u8, seq u32 BE, length u8,
/// bytes`.
///
/// # Panics
/// When an invariant breaks.
pub fn tcp(data: &[u8]) {
    let mut streams = TcpStreams::<usize>::new();
    let mut reader = Reader::new(data);
    let mut time = PacketTime::from_ms(0);
    let (mut fed_bytes, mut delivered_bytes) = (0_usize, 0_usize);
    while let Some([control, step, s0, s1, s2, s3, len_bytes]) = reader.array::<7>() {
        let len_bytes = usize::from(len_bytes).min(reader.remaining());
        let Some(payload) = reader.take(len_bytes) else { break };
        time = time.plus_ms(i64::from(step).saturating_mul(10));
        let segment = TcpSegment {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            flags: TcpFlags {
                syn: control & 0x10 != 0,
                fin: control & 0x20 != 0,
                rst: control & 0x40 != 0,
            },
            payload,
            missing_bytes: u32::from(control >> 7),
        };
        fed_bytes = fed_bytes.saturating_add(payload.len());
        let outcome =
            streams.segment(four_flows(control), segment, time, sniff, |_, sum, bytes, _| {
                *sum = sum.saturating_add(bytes.len());
                delivered_bytes = delivered_bytes.saturating_add(bytes.len());
            });
        assert!(
            matches!(outcome, FrameOutcome::Sip | FrameOutcome::TcpControl | FrameOutcome::NotVoip),
            "{outcome:?}"
        );
        let bound = TCP_PARKED_BYTES_MAX.saturating_add(TCP_OPENINGS_PARKED_BYTES_MAX);
        assert!(streams.held_bytes() <= bound, "parked bytes are bounded");
    }
    let mut first = Continuity::Gap;
    streams.expire(PacketTime::MAX, |_, _, bytes, continuity| {
        assert!(first == Continuity::Contiguous || continuity == Continuity::Gap, "a gap first");
        first = Continuity::Contiguous;
        delivered_bytes = delivered_bytes.saturating_add(bytes.len());
    });
    assert!(delivered_bytes <= fed_bytes, "{delivered_bytes} of {fed_bytes} bytes");
    assert_eq!(streams.held_bytes(), 0, "nothing is parked after the end");
}

fn link_type(number: u8) -> LinkType {
    match number % 7 {
        0 => LinkType::Ethernet,
        1 => LinkType::RawIp,
        2 => LinkType::Null,
        3 => LinkType::Loop,
        4 => LinkType::LinuxCooked,
        5 => LinkType::LinuxCooked2,
        _ => LinkType::Other(u16::from(number)),
    }
}

/// Both directions of two connections.
fn four_flows(control: u8) -> FiveTuple {
    let flow = FiveTuple {
        protocol: Protocol::Tcp,
        source: Endpoint::v4([10, 0, 0, 1], 5060),
        destination: Endpoint::v4([10, 0, 0, 2], if control & 2 == 0 { 5060 } else { 5061 }),
    };
    if control & 1 == 0 { flow } else { flow.reversed() }
}

fn sniff(bytes: &[u8]) -> Interest {
    match bytes {
        [b'S', b'I', ..] => Interest::Wanted,
        [b'S'] => Interest::NeedMore,
        _ => Interest::Unwanted,
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames;
    use super::*;

    fn entry(link: u8, cut: u8, bytes: &[u8]) -> Vec<u8> {
        let mut entry = vec![link, 1, cut];
        entry.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
        entry.extend(bytes);
        entry
    }

    #[test]
    fn the_bodies_hold_for_ordinary_traffic_and_for_every_cut_of_it() {
        let part = frames::V4 { more: true, ..frames::WHOLE };
        let mut input = entry(0, 0, &frames::ethernet(&[0x0800], &frames::v4(part, &[7; 16])));
        input.extend(entry(1, 9, &frames::v4(frames::WHOLE, &frames::udp(b"hello"))));
        let segments = b"\x00\x01\0\0\0\x05\x02SI\x00\x01\0\0\0\x09\x01x\x20\x01\0\0\0\x07\x02ab";
        for cut in 0..=input.len() {
            decap(&input[..cut]);
        }
        for cut in 0..=segments.len() {
            tcp(&segments[..cut]);
        }
    }
}
