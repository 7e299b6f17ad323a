//! One RTP stream: counted, put in order, and decoded onto its track.
//!
//! Purpose: from packets of one SSRC one way to samples at their place on the capture clock.
//! Invariants: every packet is counted once as received, duplicate or late; nothing waits longer
//! than the reorder window and the probation times; all decisions follow from packet times.
//! Non-goals: which stream of a channel is heard (see `call_media`).
//! Sources: RFC 3550 §5.1, §6.4.1 and A.1; RFC 3264 §8 (why timestamps restart); RFC 4733 §2.1.

use super::placement::{Held, Placer, Surface};
use super::report::StreamReport;
use crate::base::{Channel, Endpoint, PacketEntry, PacketTime, Ssrc};
use crate::rtp::extended_seq::{ExtendedSeq, SeqExtender, TimestampExtender};
use crate::rtp::header::RtpView;
use crate::rtp::loss::LossCounter;
use crate::rtp::quality::{Jitter, mos};
use crate::rtp::reorder::{ReorderBuffer, RtpDrop};
use crate::rtp::srtp::SrtpStream;
use crate::rtp::telephone_event::EventTracker;

/// The first packet waits this long for one that was sent before it.
const STARTING_MS: i64 = 60;

/// With so many packets the first is known.
const STARTING_PACKETS: usize = 8;

/// What tells streams of a call apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey {
    /// Who sent it.
    pub channel: Channel,
    /// Sender's address.
    pub source: Endpoint,
    /// Receiver's address.
    pub destination: Endpoint,
    /// Synchronization source.
    pub ssrc: Ssrc,
}

impl StreamKey {
    /// Of a packet.
    #[must_use]
    pub const fn of(entry: &PacketEntry<'_>, view: &RtpView<'_>) -> Self {
        let PacketEntry { channel, source, destination, .. } = *entry;
        Self { channel, source, destination, ssrc: view.ssrc() }
    }
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Its key.
    pub key: StreamKey,
    /// First packet's arrival.
    pub first: PacketTime,
    /// Last packet's arrival.
    pub last: PacketTime,
    /// Encoding name of its audio, once known.
    pub codec: String,
    /// RTP clock of its audio.
    pub clock_hz: u32,
    /// Packets that came too late for their place.
    pub late: u64,
    /// Frames that the front knew as copies.
    pub copies: u64,
    /// RFC 4733 events.
    pub events: EventTracker,
    /// Its keys and roll-over counter, where it is SRTP.
    pub srtp: SrtpStream,
    /// The payload type of its sound, once a packet of it was read whole, in the clear.
    pub sound: Option<u8>,
    /// Packets that no key opened.
    pub locked: u64,
    /// Until where packets that cannot be decoded reach, in ns from the recording's start.
    pub unread_until_ns: i64,
    jitter: Jitter,
    loss: LossCounter,
    sequence: SeqExtender,
    timestamps: TimestampExtender,
    reorder: ReorderBuffer<Held>,
    /// When the first packet for the recording came.
    recorded_since: Option<PacketTime>,
    placer: Placer,
}

/// A packet's numbers, extended.
#[derive(Clone, Copy, Debug)]
pub struct Extended {
    /// Sequence number.
    pub sequence: ExtendedSeq,
    /// Timestamp.
    pub timestamp: i64,
}

impl Stream {
    /// A stream before its first packet, which arrives at `arrival`.
    #[must_use]
    pub fn new(key: StreamKey, arrival: PacketTime, clock_hz: u32) -> Self {
        Self {
            key,
            first: arrival,
            last: arrival,
            codec: String::new(),
            clock_hz,
            late: 0,
            copies: 0,
            events: EventTracker::default(),
            srtp: SrtpStream::default(),
            sound: None,
            locked: 0,
            unread_until_ns: i64::MIN,
            jitter: Jitter::new(clock_hz),
            loss: LossCounter::new(),
            sequence: SeqExtender::new(),
            timestamps: TimestampExtender::new(),
            reorder: ReorderBuffer::new(),
            recorded_since: None,
            placer: Placer::default(),
        }
    }

    /// Counts a packet and extends its numbers; `None` for one that was counted before.
    ///
    /// Event packets repeat their timestamp, so jitter is not taken from them.
    pub fn measure(
        &mut self,
        arrival: PacketTime,
        view: &RtpView<'_>,
        is_audio: Timed,
    ) -> Option<Extended> {
        let sequence = self.sequence.extend(view.seq());
        let duplicates = self.loss.duplicate();
        self.loss.on_packet(sequence);
        if self.loss.duplicate() > duplicates {
            return None;
        }
        let timestamp = self.timestamps.extend(view.timestamp());
        self.last = self.last.max(arrival);
        if is_audio == Timed::Yes {
            self.jitter.on_packet(arrival.ns(), timestamp);
        }
        Some(Extended { sequence, timestamp })
    }

    /// Takes an audio or comfort-noise packet for the recording.
    pub fn receive(&mut self, sequence: ExtendedSeq, held: Held, surface: &mut Surface<'_>) {
        let arrival = held.arrival;
        let since = *self.recorded_since.get_or_insert(arrival);
        match self.reorder.insert(sequence, held) {
            Ok(()) => {}
            Err((RtpDrop::Duplicate, _)) => return,
            Err((_, held)) => {
                self.late += 1;
                self.placer.note_late(&held, surface);
            }
        }
        if arrival.ms_since(since) >= STARTING_MS || self.reorder.len() >= STARTING_PACKETS {
            self.drain(surface);
        }
    }

    /// Gives up gaps and probations that are due at `now`.
    pub fn tick(&mut self, now: PacketTime, window_ms: i64, surface: &mut Surface<'_>) {
        if self.recorded_since.is_some_and(|since| now.ms_since(since) >= STARTING_MS) {
            self.drain(surface);
        }
        while let Some((_, held)) = self.reorder.peek() {
            if now.ms_since(held.arrival) < window_ms {
                break;
            }
            self.skip(surface);
        }
        self.late += self.placer.tick(now, surface);
    }

    /// Places everything that is still held.
    pub fn finish(&mut self, surface: &mut Surface<'_>) {
        while self.reorder.peek().is_some() {
            self.skip(surface);
        }
        self.late += self.placer.finish(surface);
    }

    /// True when arriving Opus had to be decoded and encoded again.
    #[must_use]
    pub const fn was_transcoded(&self) -> bool {
        self.placer.was_transcoded()
    }

    /// Another stream is heard instead of this one.
    pub const fn pause(&mut self) {
        self.placer.pause();
    }

    fn skip(&mut self, surface: &mut Surface<'_>) {
        if let Some((sequence, held)) = self.reorder.pop_gap() {
            self.late += self.placer.place(sequence, held, surface);
        }
        self.drain(surface);
    }

    fn drain(&mut self, surface: &mut Surface<'_>) {
        while let Some((sequence, held)) = self.reorder.pop_next() {
            self.late += self.placer.place(sequence, held, surface);
        }
    }

    /// What is told of it.
    #[must_use]
    pub fn report(&self) -> StreamReport {
        let jitter_ms = self.jitter.ms();
        let (ratio, burst) = (self.loss.loss_ratio(), self.loss.burst_ratio());
        StreamReport {
            key: self.key,
            first: self.first,
            srtp: self.srtp.suite(),
            codec: if self.codec.is_empty() { "UNKNOWN".into() } else { self.codec.clone() },
            clock_hz: self.clock_hz,
            packets: self.loss.received().saturating_add(self.loss.stray()),
            lost: self.loss.lost(),
            late: self.late,
            duplicate: self.loss.duplicate().saturating_add(self.copies),
            reordered: self.loss.reordered(),
            jitter_ms,
            jitter_mean_ms: self.jitter.average_ms(),
            jitter_max_ms: self.jitter.max_ms(),
            mos: mos(&self.codec, ratio, burst, 0.0, jitter_ms),
            rtcp: None,
            matched_by: None,
        }
    }
}

/// Whether a packet's timestamp tells when its sound was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// Audio.
    Yes,
    /// An event, or something unknown.
    No,
}
