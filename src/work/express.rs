//! The express lane: streams in full swing, known by one look into one cache line.
//!
//! Purpose: a packet that continues a stream whose call is known needs no decapsulation with care, no
//! look-up by addresses and no hash of its content.
//! Invariants: an entry is one cache line, and only more streams than ever before allocate; what is taken here goes
//! where the slow way would have sent it: an entry holds until an address of it changes hands, and a packet
//! whose number was seen before is either known as a copy of its frame or left to the slow way.
//! Non-goals: IPv6, streams of several calls, anything that is not RTP (see `front`).
//! Sources: RFC 3550 §5.1; the sizes of a cache line on x86-64 and most ARM cores (64 bytes).
//!
//! Two streams whose 64-bit keyed hashes are equal would be mixed up: with 100,000 of them the chance is
//! 3 in 10^10.

use crate::base::limits::{DUPLICATE_WINDOW_MS, EXPRESS_STREAMS_MAX};
use crate::base::time::NS_PER_MS;
use crate::base::{CallIndex, Channel, PacketTime};
use crate::net::PlainRtp;
use crate::rtp::flow_table::Stamp;
use foldhash::fast::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Sequence numbers by which a packet may be ahead of the one before.
const AHEAD_MAX: u16 = 100;

/// Packets of a stream that are remembered, to know copies of their frames: at 20 ms there are two within
/// the duplicate window.
const RECENT: usize = 3;

/// Where a stream's packets go.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// The one call.
    pub call: CallIndex,
    /// Who sends it.
    pub sender: Channel,
    /// When the table said so.
    pub stamp: Stamp,
}

/// One packet that passed.
#[derive(Clone, Copy, Debug)]
struct Passed {
    /// Capture time in units of 65.536 µs, modulo 2^32.
    tick: u32,
    seq: u16,
    identification: u16,
}

/// One stream.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Stream {
    tag: u64,
    last: PacketTime,
    stamp: Stamp,
    call: CallIndex,
    recent: [Passed; RECENT],
    seq: u16,
    sender: Channel,
    payload_type: u8,
}

const _: () = assert!(size_of::<Stream>() == 64, "one cache line");

/// What a packet is to the express lane.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    /// It continues a stream.
    On(Ticket),
    /// Its frame was here a moment before.
    Copy(Ticket),
}

/// The streams of one front.
#[derive(Debug)]
pub struct Express {
    hasher: RandomState,
    streams: Vec<Stream>,
}

/// Streams for which there is room at first: a power of two, and so is every size after it.
const STREAMS_AT_FIRST: usize = 1 << 12;

/// Places beside each other in which a stream may stand.
const WAYS: usize = 8;

/// A stream that was silent for so long gives its place away.
const GOES_ON_MS: i64 = 10_000;

const NONE: Stream = Stream {
    tag: 0,
    last: PacketTime::MIN,
    stamp: Stamp::NEVER,
    call: CallIndex(0),
    recent: [Passed { tick: 0, seq: 0, identification: 0 }; RECENT],
    seq: 0,
    sender: Channel::Caller,
    payload_type: NOT_ADMITTED,
};

/// No payload type: the stream has to be admitted again.
const NOT_ADMITTED: u8 = 0xff;

impl Default for Express {
    fn default() -> Self {
        Self { hasher: RandomState::default(), streams: vec![NONE; STREAMS_AT_FIRST] }
    }
}

impl Express {
    /// What names the stream of a packet; never 0.
    #[must_use]
    pub fn tag(&self, packet: &PlainRtp<'_>) -> u64 {
        let ((source, from), (destination, to)) = (packet.source, packet.destination);
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(
            u64::from(u32::from_ne_bytes(source)) << 32
                | u64::from(u32::from_ne_bytes(destination)),
        );
        hasher.write_u64(u64::from(from) << 48 | u64::from(to) << 32 | u64::from(packet.ssrc));
        hasher.finish() | 1
    }

    /// Takes a packet that continues a stream for which `is_current` says that its ticket is valid.
    pub fn pass(
        &mut self,
        tag: u64,
        packet: &PlainRtp<'_>,
        now: PacketTime,
        is_current: impl FnOnce(Stamp) -> bool,
    ) -> Option<Pass> {
        let at = self.place(tag)?;
        let stream = self.streams.get_mut(at)?;
        if stream.payload_type != packet.payload_type || !is_current(stream.stamp) {
            return None;
        }
        let Stream { call, sender, stamp, .. } = *stream;
        let ticket = Ticket { call, sender, stamp };
        let ahead = packet.seq.wrapping_sub(stream.seq);
        if ahead == 0 || ahead > AHEAD_MAX {
            return stream.has_passed(packet, now).then_some(Pass::Copy(ticket));
        }
        stream.note(packet, now);
        Some(Pass::On(ticket))
    }

    /// Lets a stream in, whose packet went the slow way and was new; the oldest of a place gives way.
    pub fn admit(&mut self, tag: u64, packet: &PlainRtp<'_>, now: PacketTime, ticket: Ticket) {
        let known = self.place(tag);
        if known.is_none() && self.is_crowded(tag, now) && self.streams.len() < EXPRESS_STREAMS_MAX
        {
            self.grow();
        }
        let last = |at: &usize| self.streams.get(*at).map_or(PacketTime::MIN, |stream| stream.last);
        // The first of those that were never used.
        let at = known.or_else(|| self.places(tag).min_by_key(last));
        let Some(stream) = at.and_then(|at| self.streams.get_mut(at)) else { return };
        let Ticket { call, sender, stamp } = ticket;
        let is_known = stream.tag == tag;
        let payload_type = packet.payload_type;
        // Long ago: nothing is a copy of it.
        let never = Passed { tick: tick(now).wrapping_sub(1 << 31), seq: 0, identification: 0 };
        let recent = if is_known { stream.recent } else { [never; RECENT] };
        let is_behind = is_known && stream.seq.wrapping_sub(packet.seq) <= AHEAD_MAX;
        let seq = if is_behind { stream.seq } else { packet.seq };
        *stream = Stream { tag, last: now, stamp, call, recent, seq, sender, payload_type };
    }

    /// When and with which number the stream was last seen; it has to be admitted again.
    pub fn leave(&mut self, tag: u64) -> Option<(PacketTime, u16)> {
        let at = self.place(tag)?;
        let stream = self.streams.get_mut(at)?;
        let seen = (stream.last, stream.seq);
        // Its recent packets stay: copies of their frames may still come.
        stream.payload_type = NOT_ADMITTED;
        Some(seen)
    }

    /// True when the frame passed here within the duplicate window.
    #[must_use]
    pub fn has_passed(&self, tag: u64, packet: &PlainRtp<'_>, now: PacketTime) -> bool {
        let stream = self.place(tag).and_then(|at| self.streams.get(at));
        stream.is_some_and(|stream| stream.has_passed(packet, now))
    }

    /// Twice the room, twice.
    #[cold]
    fn grow(&mut self) {
        let streams = vec![NONE; 4 * self.streams.len()];
        let before = std::mem::replace(&mut self.streams, streams);
        for stream in before.into_iter().filter(|stream| stream.tag != 0) {
            let is_free = |at: &usize| self.streams.get(*at).is_some_and(|place| place.tag == 0);
            let at = self.places(stream.tag).find(is_free);
            if let Some(place) = at.and_then(|at| self.streams.get_mut(at)) {
                *place = stream;
            }
        }
    }

    /// True when a new stream would take the place of one that still goes on.
    fn is_crowded(&self, tag: u64, now: PacketTime) -> bool {
        let goes_on = |at: usize| {
            let last = self.streams.get(at).map_or(PacketTime::MIN, |stream| stream.last);
            now.ms_since(last) < GOES_ON_MS
        };
        self.places(tag).all(goes_on)
    }

    /// Where a stream may stand.
    fn places(&self, tag: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.streams.len().saturating_sub(1);
        let first = usize::try_from(tag >> 8).unwrap_or(0);
        (0..WAYS).map(move |step| first.wrapping_add(step) & mask)
    }

    fn place(&self, tag: u64) -> Option<usize> {
        self.places(tag).find(|at| self.streams.get(*at).is_some_and(|stream| stream.tag == tag))
    }
}

impl Stream {
    fn note(&mut self, packet: &PlainRtp<'_>, now: PacketTime) {
        let PlainRtp { seq, identification, .. } = *packet;
        let [_, older @ ..] = self.recent;
        let [second, third] = older;
        self.recent = [second, third, Passed { tick: tick(now), seq, identification }];
        (self.last, self.seq) = (now, seq);
    }

    /// True when the same frame passed within the duplicate window.
    fn has_passed(&self, packet: &PlainRtp<'_>, now: PacketTime) -> bool {
        let window = DUPLICATE_WINDOW_MS * NS_PER_MS / TICK_NS;
        self.recent.iter().any(|passed| {
            passed.seq == packet.seq
                && passed.identification == packet.identification
                && i64::from(tick(now).wrapping_sub(passed.tick)) <= window
        })
    }
}

const TICK_NS: i64 = 65_536;

/// A time in ticks, modulo 2^32 (three days).
fn tick(time: PacketTime) -> u32 {
    let ticks = time.ns().div_euclid(TICK_NS).rem_euclid(1 << 32);
    u32::try_from(ticks).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u16, identification: u16) -> PlainRtp<'static> {
        PlainRtp {
            source: ([10, 0, 0, 1], 4_000),
            destination: ([10, 0, 0, 2], 5_000),
            identification,
            payload_type: 8,
            seq,
            ssrc: 7,
            packet: &[],
        }
    }

    fn at(ms: i64) -> PacketTime {
        PacketTime::from_ms(1_700_000_000_000 + ms)
    }

    fn pass(express: &mut Express, packet: PlainRtp<'_>, ms: i64) -> &'static str {
        let tag = express.tag(&packet);
        match express.pass(tag, &packet, at(ms), |_| true) {
            Some(Pass::On(ticket)) if ticket.call == CallIndex(3) => "on",
            Some(Pass::Copy(ticket)) if ticket.call == CallIndex(3) => "copy",
            Some(_) => "another call's",
            None => "slow",
        }
    }

    fn admitted() -> Express {
        let mut express = Express::default();
        let stamp = Stamp::default();
        let ticket = Ticket { call: CallIndex(3), sender: Channel::Callee, stamp };
        let first = packet(65_530, 1);
        express.admit(express.tag(&first), &first, at(0), ticket);
        express
    }

    #[test]
    fn a_stream_goes_on_and_all_else_goes_the_slow_way() {
        let mut express = admitted();
        assert_eq!(pass(&mut express, packet(65_531, 2), 20), "on");
        assert_eq!(pass(&mut express, packet(2, 3), 40), "on", "wrapped, with a loss");
        assert_eq!(pass(&mut express, packet(1, 9), 41), "slow", "late");
        assert_eq!(pass(&mut express, packet(300, 9), 41), "slow", "too far ahead");
        let event = PlainRtp { payload_type: 101, ..packet(3, 4) };
        assert_eq!(pass(&mut express, event, 60), "slow", "another payload type");
        assert_eq!(pass(&mut express, PlainRtp { ssrc: 8, ..packet(3, 4) }, 60), "slow");
        assert_eq!(pass(&mut express, packet(4, 5), 80), "on");
        let again = packet(5, 6);
        let tag = express.tag(&again);
        assert!(
            express.pass(tag, &again, at(100), |_| false).is_none(),
            "an address changed hands"
        );
        assert_eq!(express.leave(tag), Some((at(80), 4)));
        assert_eq!(pass(&mut express, again, 100), "slow", "it has left");
    }

    #[test]
    fn a_copy_of_a_frame_is_known_and_a_packet_that_is_sent_again_is_not() {
        let mut express = admitted();
        assert_eq!(pass(&mut express, packet(65_531, 2), 20), "on");
        assert_eq!(pass(&mut express, packet(65_531, 2), 21), "copy");
        assert_eq!(pass(&mut express, packet(65_531, 3), 21), "slow", "another frame");
        assert_eq!(pass(&mut express, packet(65_532, 4), 40), "on");
        assert_eq!(pass(&mut express, packet(65_531, 2), 40), "copy", "behind the next one");
        assert_eq!(pass(&mut express, packet(65_531, 2), 60), "slow", "too long ago");
    }

    #[test]
    fn the_oldest_of_a_place_gives_way_and_comes_back_the_slow_way() {
        let mut express = Express::default();
        let ticket =
            Ticket { call: CallIndex(3), sender: Channel::Callee, stamp: Stamp::default() };
        let tag = |number: u64| number << 40 | 1;
        let admit = |express: &mut Express, number: u64, ms| {
            express.admit(tag(number), &packet(7, 1), at(ms), ticket);
        };
        // All of them want the first place; what is silent for long gives its place away.
        for number in 1..=8 {
            admit(&mut express, number, i64::try_from(number).expect("small"));
        }
        admit(&mut express, 9, GOES_ON_MS + 1);
        let known = |express: &Express, number: u64| express.place(tag(number)).is_some();
        assert_eq!(express.streams.len(), STREAMS_AT_FIRST);
        let all: Vec<_> = (1..=9).filter(|number| known(&express, *number)).collect();
        assert_eq!(all, [2, 3, 4, 5, 6, 7, 8, 9]);
        // While all go on, the table grows.
        for number in 2..=9 {
            admit(&mut express, number, GOES_ON_MS + 2);
        }
        admit(&mut express, 10, GOES_ON_MS + 3);
        assert_eq!(express.streams.len(), 4 * STREAMS_AT_FIRST);
        assert!(known(&express, 10));
    }
}
