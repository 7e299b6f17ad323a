//! Streams of segments, in order and not.
//!
//! Purpose: the tests of `tcp_streams`, apart for their length.
//! Invariants: none of its own.
//! Non-goals: random streams (see `tests/model_net_tcp.rs`).
//! Sources: RFC 9293, RFC 5961.

use super::super::frames;
use super::super::transport::TcpFlags;
use super::*;
use crate::base::Protocol;

const ACK: TcpFlags = TcpFlags { syn: false, fin: false, rst: false };
const SYN: TcpFlags = TcpFlags { syn: true, ..ACK };
const FIN: TcpFlags = TcpFlags { fin: true, ..ACK };

/// Streams whose state is what they delivered; a gap is written as `|`.
struct Tap {
    streams: TcpStreams<Vec<u8>>,
    flow: FiveTuple,
    heard: Vec<u8>,
    now: PacketTime,
}

impl Tap {
    fn new() -> Self {
        let flow = frames::flow(Protocol::Tcp);
        let (heard, now) = (Vec::new(), PacketTime::from_ms(0));
        Self { streams: TcpStreams::new(), flow, heard, now }
    }

    fn feed(&mut self, seq: u32, flags: TcpFlags, payload: &[u8]) -> FrameOutcome {
        let segment = TcpSegment { seq, flags, payload, missing_bytes: 0 };
        self.feed_segment(segment)
    }

    fn feed_segment(&mut self, segment: TcpSegment<'_>) -> FrameOutcome {
        let heard = &mut self.heard;
        let deliver = |_: &FiveTuple, state: &mut Vec<u8>, bytes: &[u8], how| {
            hear(heard, state, bytes, how);
        };
        self.streams.segment(self.flow, segment, self.now, sniff, deliver)
    }

    fn expire(&mut self, now: PacketTime) {
        let heard = &mut self.heard;
        self.streams.expire(now, |_, state, bytes, how| hear(heard, state, bytes, how));
    }

    fn heard(&self) -> &str {
        std::str::from_utf8(&self.heard).expect("ASCII")
    }
}

fn hear(heard: &mut Vec<u8>, state: &mut Vec<u8>, bytes: &[u8], continuity: Continuity) {
    if continuity == Continuity::Gap {
        heard.push(b'|');
    }
    heard.extend(bytes);
    state.extend(bytes);
}

fn sniff(bytes: &[u8]) -> Interest {
    match bytes {
        [b'S', b'I', b'P', ..] => Interest::Wanted,
        [] | [b'S'] | [b'S', b'I'] => Interest::NeedMore,
        _ => Interest::Unwanted,
    }
}

#[test]
fn bytes_come_in_order_across_reordering_overlap_and_the_wrap() {
    let mut tap = Tap::new();
    let start = u32::MAX - 4;
    assert_eq!(tap.feed(start.wrapping_sub(1), SYN, b""), FrameOutcome::NotVoip);
    assert_eq!(tap.feed(start, ACK, b"SIP/a"), FrameOutcome::Sip);
    assert_eq!(tap.feed(3, ACK, b"efg"), FrameOutcome::Sip);
    assert_eq!(tap.feed(4, ACK, b"fg"), FrameOutcome::TcpControl);
    assert_eq!(tap.heard(), "SIP/a");
    assert_eq!(tap.feed(start + 4, ACK, b"abcd"), FrameOutcome::Sip);
    assert_eq!(tap.feed(start, ACK, b"SIP/abc"), FrameOutcome::TcpControl);
    assert_eq!(tap.feed(6, ACK, b""), FrameOutcome::TcpControl);
    assert_eq!(tap.feed(5, ACK, b"gh"), FrameOutcome::Sip);
    assert_eq!((tap.heard(), tap.streams.held_bytes()), ("SIP/abcdefgh", 0));
    let moves = TcpMoves { not_voip_to_tcp_control: 1, ..TcpMoves::default() };
    assert_eq!(tap.streams.take_moves(), moves);
}

#[test]
fn first_segments_may_be_tiny_or_out_of_order_when_the_syn_was_seen() {
    let mut tap = Tap::new();
    tap.feed(99, SYN, b"");
    assert_eq!(tap.feed(104, ACK, b"late"), FrameOutcome::NotVoip);
    assert_eq!(tap.feed(100, ACK, b"S"), FrameOutcome::NotVoip);
    assert_eq!(tap.feed(102, ACK, b"P/"), FrameOutcome::NotVoip);
    assert_eq!(tap.feed(101, ACK, b"I"), FrameOutcome::Sip);
    assert_eq!(tap.heard(), "SIP/late");
    let moves = TcpMoves { not_voip_to_sip: 3, not_voip_to_tcp_control: 1, sip_to_tcp_dropped: 0 };
    assert_eq!((tap.streams.take_moves(), tap.streams.held_bytes()), (moves, 0));
}

#[test]
fn a_gap_is_skipped_exactly_at_its_timeout_and_later_bytes_of_it_are_old() {
    let mut tap = Tap::new();
    tap.feed(0, ACK, b"SIP");
    tap.feed(5, ACK, b"xy");
    tap.now = PacketTime::from_ms(1_000);
    tap.feed(8, ACK, b"z");
    tap.expire(PacketTime::from_ms(TCP_GAP_TIMEOUT_MS - 1));
    assert_eq!(tap.heard(), "SIP");
    tap.expire(PacketTime::from_ms(TCP_GAP_TIMEOUT_MS));
    assert_eq!(tap.heard(), "SIP|xy");
    assert_eq!(tap.feed(3, ACK, b"lo"), FrameOutcome::TcpControl);
    tap.expire(PacketTime::MAX);
    assert_eq!((tap.heard(), tap.streams.held_bytes()), ("SIP|xy|z", 0));
}

#[test]
fn a_capture_may_begin_in_mid_connection_and_other_traffic_is_not_kept() {
    let mut tap = Tap::new();
    assert_eq!(tap.feed(9, ACK, b"rest of a message"), FrameOutcome::NotVoip);
    assert_eq!((tap.streams.flows(), tap.streams.held_bytes()), (0, 0));
    assert_eq!(tap.feed(26, ACK, b"SIP/1"), FrameOutcome::Sip);
    assert_eq!(tap.feed(31, ACK, b" not like it"), FrameOutcome::Sip);
    tap.flow = tap.flow.reversed();
    assert_eq!(tap.feed(7, ACK, b""), FrameOutcome::TcpControl, "acknowledges SIP");
    assert_eq!(
        tap.feed(
            7, ACK, b"
"
        ),
        FrameOutcome::TcpControl,
        "keep-alive"
    );
    assert_eq!(tap.heard(), "SIP/1 not like it");
}

#[test]
fn after_fin_a_retransmission_is_old_and_a_new_syn_begins_a_new_stream() {
    let mut tap = Tap::new();
    tap.feed(0, ACK, b"SIP");
    assert_eq!(tap.feed(5, FIN, b"!"), FrameOutcome::Sip);
    assert_eq!(tap.feed(3, ACK, b"ab"), FrameOutcome::Sip);
    assert_eq!(tap.feed(0, FIN, b"SIPab!"), FrameOutcome::TcpControl);
    assert_eq!(tap.heard(), "SIPab!");
    assert_eq!(tap.feed(70, SYN, b""), FrameOutcome::NotVoip);
    assert_eq!(tap.feed(71, ACK, b"SIP again"), FrameOutcome::Sip);
    assert_eq!(tap.feed(70, SYN, b""), FrameOutcome::TcpControl, "the same SYN, late");
    let direction = tap.streams.followed.get(&tap.flow).expect("followed");
    assert_eq!(direction.state, b"SIP again", "state begins anew");
}

#[test]
fn rst_delivers_what_is_parked_unless_it_is_implausible() {
    let mut tap = Tap::new();
    let rst = TcpFlags { rst: true, ..ACK };
    tap.feed(0, ACK, b"SIP");
    tap.feed(9, ACK, b"parked");
    tap.feed(0x4000_0000, rst, b"");
    assert_eq!(tap.heard(), "SIP");
    tap.feed(3, rst, b"");
    assert_eq!((tap.heard(), tap.streams.held_bytes()), ("SIP|parked", 0));
    assert_eq!(tap.feed(15, ACK, b"more"), FrameOutcome::TcpControl);
}
