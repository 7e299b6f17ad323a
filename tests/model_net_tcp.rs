//! TCP reassembly against a naive model, and its caps.
//!
//! Purpose: whatever order, overlap, repetition and loss, what is delivered is what was sent, and what
//! is missing is said to be missing.
//! Invariants: the model is a vector of bytes that came or did not.
//! Non-goals: SIP.
//! Sources: RFC 9293 §3.4.

use callspan::base::limits::{
    TCP_FLOWS_MAX, TCP_GAP_BYTES_MAX, TCP_GAP_TIMEOUT_MS, TCP_PARKED_BYTES_MAX,
    TCP_PIECE_OVERHEAD_BYTES, TCP_WINDOW_BYTES_MAX,
};
use callspan::base::{Endpoint, FiveTuple, FrameOutcome, PacketTime, Protocol};
use callspan::net::{Continuity, Interest, TcpFlags, TcpMoves, TcpSegment, TcpStreams, fuzz};
use proptest::prelude::*;

type Heard = Vec<(Continuity, Vec<u8>)>;

fn flow(number: usize) -> FiveTuple {
    let port = u16::try_from(number).expect("few flows");
    FiveTuple {
        protocol: Protocol::Tcp,
        source: Endpoint::v4([10, 0, 0, 1], port),
        destination: Endpoint::v4([10, 0, 0, 2], 5060),
    }
}

fn segment(seq: u32, payload: &[u8]) -> TcpSegment<'_> {
    TcpSegment { seq, flags: TcpFlags::default(), payload, missing_bytes: 0 }
}

fn sniff(bytes: &[u8]) -> Interest {
    let wanted = b"SIP/";
    match bytes.iter().zip(wanted).all(|(byte, expected)| byte == expected) {
        true if bytes.len() >= wanted.len() => Interest::Wanted,
        true => Interest::NeedMore,
        false => Interest::Unwanted,
    }
}

/// Adds a delivery; contiguous ones are joined.
fn hear(heard: &mut Heard, bytes: &[u8], continuity: Continuity) {
    match heard.last_mut() {
        Some((_, last)) if continuity == Continuity::Contiguous => last.extend(bytes),
        _ => heard.push((continuity, bytes.to_vec())),
    }
}

struct Tap {
    streams: TcpStreams<()>,
    heard: Heard,
    now: PacketTime,
}

impl Tap {
    fn new() -> Self {
        Self { streams: TcpStreams::new(), heard: Vec::new(), now: PacketTime::from_ms(0) }
    }

    fn feed(&mut self, flow: FiveTuple, segment: TcpSegment<'_>) -> FrameOutcome {
        let heard = &mut self.heard;
        let deliver = |_: &FiveTuple, (): &mut (), bytes: &[u8], how| hear(heard, bytes, how);
        self.streams.segment(flow, segment, self.now, sniff, deliver)
    }

    fn end(&mut self) {
        let heard = &mut self.heard;
        self.streams.expire(PacketTime::MAX, |_, (), bytes, how| hear(heard, bytes, how));
    }
}

/// Runs of bytes that came, with what the tap must say of them.
fn model(stream: &[u8], came: &[bool]) -> Heard {
    let mut runs: Heard = Vec::new();
    let mut continuity = Continuity::Contiguous;
    for (byte, came) in stream.iter().zip(came) {
        if *came {
            hear(&mut runs, &[*byte], continuity);
            continuity = Continuity::Contiguous;
        } else {
            continuity = Continuity::Gap;
        }
    }
    runs
}

/// Segments as ranges of a stream of `len` bytes: a cut into pieces, and some more anywhere.
fn pieces(len: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    let cuts = prop::collection::vec(0..=len, 0..24);
    let more = prop::collection::vec((0..len, 1..200_usize), 0..12);
    (cuts, more).prop_map(move |(mut cuts, more)| {
        cuts.extend([0, len]);
        cuts.sort_unstable();
        let cuts = cuts.windows(2).map(|pair| (pair[0], pair[1]));
        let more = more.into_iter().map(|(start, size)| (start, (start + size).min(len)));
        cuts.chain(more).filter(|(start, end)| start < end).collect()
    })
}

fn stream_and_pieces() -> impl Strategy<Value = (Vec<u8>, Vec<(usize, usize)>)> {
    prop::collection::vec(any::<u8>(), 0..1_500).prop_flat_map(|bytes| {
        let stream = [&b"SIP/"[..], &bytes].concat();
        let len = stream.len();
        (Just(stream), pieces(len).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn after_a_syn_any_order_overlap_and_cut_gives_the_original_bytes(
        (stream, pieces) in stream_and_pieces(), first_seq: u32,
    ) {
        let mut tap = Tap::new();
        let mut outcomes = vec![];
        let syn = TcpFlags { syn: true, ..TcpFlags::default() };
        let opening = TcpSegment { flags: syn, ..segment(first_seq.wrapping_sub(1), b"") };
        outcomes.push(tap.feed(flow(1), opening));
        for (start, end) in pieces {
            let seq = first_seq.wrapping_add(u32::try_from(start).expect("short"));
            outcomes.push(tap.feed(flow(1), segment(seq, &stream[start..end])));
        }
        prop_assert_eq!(&tap.heard, &vec![(Continuity::Contiguous, stream)]);
        prop_assert_eq!(tap.streams.held_bytes(), 0);
        let early = outcomes.iter().filter(|outcome| **outcome == FrameOutcome::NotVoip).count();
        let moves = tap.streams.take_moves();
        let moved = moves.not_voip_to_sip + moves.not_voip_to_tcp_control;
        prop_assert_eq!(u64::try_from(early).expect("few"), moved, "all is SIP in the end");
    }

    #[test]
    fn what_is_lost_is_a_gap_at_the_right_place_and_nothing_else_is(
        (stream, pieces) in stream_and_pieces(), first_seq: u32, head in 4..40_usize,
        lost in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut tap = Tap::new();
        let head = head.min(stream.len());
        let mut came = vec![false; stream.len()];
        came[..head].fill(true);
        tap.feed(flow(1), segment(first_seq, &stream[..head]));
        for ((start, end), lost) in pieces.into_iter().zip(lost) {
            if !lost {
                came[start..end].fill(true);
                let seq = first_seq.wrapping_add(u32::try_from(start).expect("short"));
                let outcome = tap.feed(flow(1), segment(seq, &stream[start..end]));
                prop_assert!(matches!(outcome, FrameOutcome::Sip | FrameOutcome::TcpControl));
            }
        }
        tap.end();
        prop_assert_eq!(&tap.heard, &model(&stream, &came));
        prop_assert_eq!(tap.streams.held_bytes(), 0);
        prop_assert_eq!(tap.streams.take_moves(), TcpMoves::default());
    }

    #[test]
    fn arbitrary_segments_break_no_invariant(data in prop::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz::tcp(&data);
    }

    #[test]
    fn segments_close_together_break_no_invariant(
        entries in prop::collection::vec((any::<u8>(), 0..30_u8, 0..60_u8, any::<bool>()), 0..120),
    ) {
        let mut data = Vec::new();
        for (control, step, seq, long) in entries {
            // Mostly without flags, so that streams live for a while.
            let control = if control < 200 { control & 3 } else { control };
            let payload = if long { &b"SIP and more"[..] } else { b"x" };
            data.extend([control, step, 0, 0, 0, seq, u8::try_from(payload.len()).expect("short")]);
            data.extend(payload);
        }
        fuzz::tcp(&data);
    }
}

#[test]
fn a_direction_that_parks_too_much_skips_its_gap() {
    let mut tap = Tap::new();
    tap.feed(flow(1), segment(0, b"SIP/"));
    let chunk = vec![b'x'; 32 << 10];
    let mut seq = 100;
    while tap.heard.len() == 1 {
        assert!(tap.streams.held_bytes() <= TCP_GAP_BYTES_MAX);
        assert_eq!(tap.feed(flow(1), segment(seq, &chunk)), FrameOutcome::Sip);
        seq += 32 << 10;
    }
    assert_eq!(tap.streams.held_bytes(), 0);
    let (continuity, bytes) = &tap.heard[1];
    assert_eq!((*continuity, bytes.len()), (Continuity::Gap, 8 * chunk.len()));
}

#[test]
fn one_byte_segments_meet_the_cap_of_parked_bytes_as_well() {
    let mut tap = Tap::new();
    tap.feed(flow(1), segment(0, b"SIP/"));
    for step in 0..100_000 {
        tap.feed(flow(1), segment(100 + 2 * step, b"x"));
        assert!(tap.streams.held_bytes() <= TCP_GAP_BYTES_MAX);
    }
}

#[test]
fn the_longest_waiting_gap_is_skipped_when_all_directions_park_too_much() {
    let mut tap = Tap::new();
    let chunk = vec![b'x'; 60 << 10];
    let flows = TCP_PARKED_BYTES_MAX / (chunk.len() + TCP_PIECE_OVERHEAD_BYTES);
    for number in 0..=flows {
        tap.feed(flow(number), segment(0, b"SIP/"));
    }
    assert_eq!(tap.heard.len(), 1, "no gap yet");
    for number in 0..=flows {
        tap.feed(flow(number), segment(100, &chunk));
        assert!(tap.streams.held_bytes() <= TCP_PARKED_BYTES_MAX);
    }
    // The first one's missing bytes are old now, those of the last are not.
    let missing = [b'y'; 96];
    assert_eq!(tap.feed(flow(0), segment(4, &missing)), FrameOutcome::TcpControl);
    assert_eq!(tap.feed(flow(flows), segment(4, &missing)), FrameOutcome::Sip);
    assert_eq!(tap.heard.len(), 2, "one gap was skipped");
}

#[test]
fn the_least_recently_used_direction_goes_and_what_it_parked_is_dropped() {
    let mut tap = Tap::new();
    for number in 0..TCP_FLOWS_MAX {
        tap.feed(flow(number), segment(0, b"SIP/"));
    }
    tap.feed(flow(1), segment(50, b"parked"));
    tap.feed(flow(1), segment(60, b"parked"));
    tap.feed(flow(0), segment(4, b"still used"));
    for number in 2..TCP_FLOWS_MAX {
        tap.feed(flow(number), segment(4, b"still used"));
    }
    assert_eq!(tap.streams.take_moves(), TcpMoves::default());
    tap.feed(flow(TCP_FLOWS_MAX), segment(0, b"SIP/"));
    assert_eq!(tap.streams.flows(), TCP_FLOWS_MAX);
    let moves = TcpMoves { sip_to_tcp_dropped: 2, ..TcpMoves::default() };
    assert_eq!((tap.streams.take_moves(), tap.streams.held_bytes()), (moves, 0));
    assert_eq!(tap.feed(flow(0), segment(14, b"!")), FrameOutcome::Sip, "the used one stayed");
}

#[test]
fn closed_directions_go_before_any_that_is_open() {
    let mut tap = Tap::new();
    for number in 0..TCP_FLOWS_MAX {
        tap.feed(flow(number), segment(0, b"SIP/"));
    }
    let last = TCP_FLOWS_MAX - 1;
    let fin = TcpFlags { fin: true, ..TcpFlags::default() };
    tap.feed(flow(last), TcpSegment { flags: fin, ..segment(4, b"") });
    tap.feed(flow(TCP_FLOWS_MAX), segment(0, b"SIP/"));
    assert_eq!(tap.feed(flow(0), segment(4, b"on")), FrameOutcome::Sip);
    assert_eq!(tap.feed(flow(last), segment(4, b"x")), FrameOutcome::NotVoip, "forgotten");
}

#[test]
fn bytes_that_the_capture_cut_off_are_a_gap_at_once() {
    let mut tap = Tap::new();
    tap.feed(flow(1), TcpSegment { missing_bytes: 10, ..segment(0, b"SIP/") });
    tap.feed(flow(1), segment(14, b"next"));
    let expected =
        [(Continuity::Contiguous, b"SIP/".to_vec()), (Continuity::Gap, b"next".to_vec())];
    assert_eq!(tap.heard, expected);
}

#[test]
fn a_sequence_number_far_away_is_ignored_until_something_wanted_begins_there() {
    let mut tap = Tap::new();
    let far = u32::try_from(TCP_WINDOW_BYTES_MAX).expect("small") + 5;
    tap.feed(flow(1), segment(0, b"SIP/"));
    assert_eq!(tap.feed(flow(1), segment(far, b"stray")), FrameOutcome::TcpControl);
    assert_eq!(tap.feed(flow(1), segment(4, b"a")), FrameOutcome::Sip);
    assert_eq!(tap.feed(flow(1), segment(far + 100, b"SIP/b")), FrameOutcome::Sip);
    assert_eq!(tap.feed(flow(1), segment(far + 105, b"c")), FrameOutcome::Sip);
    let expected =
        [(Continuity::Contiguous, b"SIP/a".to_vec()), (Continuity::Gap, b"SIP/bc".to_vec())];
    assert_eq!(tap.heard, expected);
}

#[test]
fn a_second_gap_has_its_own_time() {
    let mut tap = Tap::new();
    tap.feed(flow(1), segment(0, b"SIP/"));
    tap.feed(flow(1), segment(6, b"first"));
    tap.now = PacketTime::from_ms(1_500);
    tap.feed(flow(1), segment(20, b"second"));
    tap.now = PacketTime::from_ms(1_900);
    assert_eq!(tap.feed(flow(1), segment(4, b"--")), FrameOutcome::Sip);
    tap.now = PacketTime::from_ms(1_500 + TCP_GAP_TIMEOUT_MS - 1);
    tap.feed(flow(2), segment(0, b""));
    assert_eq!(tap.heard, [(Continuity::Contiguous, b"SIP/--first".to_vec())]);
    tap.now = PacketTime::from_ms(1_500 + TCP_GAP_TIMEOUT_MS);
    tap.feed(flow(2), segment(0, b""));
    assert_eq!(tap.heard[1..], [(Continuity::Gap, b"second".to_vec())]);
}

#[test]
fn data_that_comes_with_the_syn_is_the_first_of_the_stream() {
    let mut tap = Tap::new();
    let syn = TcpFlags { syn: true, ..TcpFlags::default() };
    let opening = TcpSegment { flags: syn, ..segment(u32::MAX, b"SIP/") };
    assert_eq!(tap.feed(flow(1), opening), FrameOutcome::Sip);
    assert_eq!(tap.feed(flow(1), opening), FrameOutcome::TcpControl);
    assert_eq!(tap.feed(flow(1), segment(4, b"2")), FrameOutcome::Sip);
    assert_eq!(tap.heard, [(Continuity::Contiguous, b"SIP/2".to_vec())]);
}

#[test]
fn other_traffic_with_a_lost_first_segment_is_forgotten_at_the_timeout() {
    let mut tap = Tap::new();
    let syn = TcpFlags { syn: true, ..TcpFlags::default() };
    tap.feed(flow(1), TcpSegment { flags: syn, ..segment(0, b"") });
    assert_eq!(tap.feed(flow(1), segment(9, b"second")), FrameOutcome::NotVoip);
    assert!(tap.streams.held_bytes() > 0);
    tap.now = PacketTime::from_ms(TCP_GAP_TIMEOUT_MS);
    assert_eq!(tap.feed(flow(2), segment(9, b"")), FrameOutcome::NotVoip);
    assert_eq!((tap.streams.held_bytes(), tap.heard.len()), (0, 0));
}
