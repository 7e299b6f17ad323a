//! One call's media state: packets and SIP's word in, slots and a report out.
//!
//! Purpose: own the streams, tracks and gaps of a call, and say when a slot is complete.
//! Invariants: input comes in order of time; a slot is handed out `hold` after its end, or never
//! before there is sound after it; what is decided depends on packet times alone.
//! Non-goals: queues and threads (see `work`).
//! Sources: RFC 3264 §8.4 (hold), RFC 3550 §8.2 (SSRC changes), the design's "Traps of the timeline".

use super::decoder::Meaning;
use super::digits::DigitLog;
use super::evidence::Evidence;
use super::far_end::FarEnd;
use super::fax::FaxLog;
use super::gaps::{Gap, GapLog, GapReason};
use super::holds::Holds;
use super::key_exchange::KeyExchanges;
use super::missing::{Expected, Missing, why_unheard};
use super::notes::Notes;
use super::placement::{Content, Held, Surface};
use super::reading::Reading;
use super::report::{MediaReport, Recorded, StreamReport};
use super::settings::{MediaSettings, MediaSink, StartAt, Store};
use super::side::Side;
use super::stream::{Extended, Stream, StreamKey, Timed};
use super::track::SLOT_MS;
use super::unread::{Lock, keep_control};
use crate::base::limits::{EARLY_MEDIA_BYTES_MAX, END_GRACE_MS, STREAMS_PER_CALL_MAX};
use crate::base::time::NS_PER_MS;
use crate::base::{Channel, Entries, EntryKind, PacketEntry, PacketTime};
use crate::rtp::header::RtpView;
use crate::rtp::plan::{Control, MediaPlan, MediaState, ResumePoint};
use crate::rtp::srtp::KeyRing;
use crate::tls::KeyLog;

/// Network jitter that a packet may have and still find its slot, beside the reorder window.
const JITTER_MS: i64 = 250;
const _: () =
    assert!(END_GRACE_MS < JITTER_MS, "no slot beyond the BYE is handed out before the end");

/// A stream of another address takes a channel over after the one before was silent so long.
const TAKEOVER_MS: i64 = 60;

/// Lag of Opus at all rates for speech: 6.5 ms (312 samples at 48 kHz), which the pre-skip takes off.
pub const PRE_SKIP_NS: i64 = 6_500_000;

/// A call's media.
#[derive(Debug)]
pub struct CallMedia {
    pub(super) settings: MediaSettings,
    now: PacketTime,
    pub(super) start: Option<PacketTime>,
    answered: bool,
    ended_at: Option<PacketTime>,
    pub(super) plan: MediaPlan,
    plan_since: PacketTime,
    /// SRTP keys, by sender.
    pub(super) keys: [KeyRing; 2],
    pub(super) key_exchanges: KeyExchanges,
    pub(super) streams: Vec<Stream>,
    evidence: Evidence,
    sides: [Side; 2],
    pub(super) gaps: GapLog,
    pub(super) far_end: FarEnd,
    digits: DigitLog,
    pub(super) fax: FaxLog,
    notes: Notes,
    holds: Holds,
    expected: Expected,
    early: Vec<u8>,
    next_slot: u32,
    pub(super) bytes: u64,
    pub(super) recorded: Recorded,
    /// Packets were kept that cannot be heard.
    pub(super) has_unread: bool,
    packet: (Vec<u8>, Vec<u8>),
    /// The packet at hand, decrypted.
    unlocked: Vec<u8>,
}

impl CallMedia {
    /// A call before its first packet.
    #[must_use]
    pub fn new(settings: MediaSettings) -> Self {
        let side = || Side::new(settings.voice);
        Self {
            settings,
            now: PacketTime::MIN,
            start: None,
            answered: false,
            ended_at: None,
            plan: MediaPlan::default(),
            plan_since: PacketTime::MIN,
            keys: Default::default(),
            key_exchanges: KeyExchanges::default(),
            streams: Vec::new(),
            evidence: Evidence::default(),
            sides: [side(), side()],
            gaps: GapLog::default(),
            far_end: FarEnd::default(),
            digits: DigitLog::default(),
            fax: FaxLog::default(),
            notes: Notes::default(),
            holds: Holds::default(),
            expected: Expected::default(),
            early: Vec::new(),
            next_slot: 0,
            bytes: 0,
            recorded: Recorded::Nothing,
            has_unread: false,
            packet: (Vec::new(), Vec::new()),
            unlocked: Vec::new(),
        }
    }

    /// Where secrets of DTLS handshakes are looked up.
    pub fn set_key_log(&mut self, log: KeyLog) {
        self.key_exchanges.set_log(log);
    }

    /// True once `Control::Ended` was taken: the report is final.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Takes one packet at `now`, which is its arrival or, for one that waited for its SDP, the
    /// moment that it was claimed.
    pub fn entry(&mut self, now: PacketTime, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        if self.is_ended() {
            return;
        }
        self.advance(now, sink);
        match entry.kind {
            EntryKind::Control => {
                if let Ok(control) = serde_json::from_slice(entry.payload) {
                    self.control(now, &control, sink);
                }
            }
            EntryKind::Rtp if self.holds_early_media() => self.hold(entry),
            EntryKind::Rtp if self.is_header(entry) => self.header(entry),
            EntryKind::Rtp => {
                if !self.settled(entry, sink) {
                    self.rtp(entry, sink);
                }
            }
            EntryKind::DuplicateRtp => self.copy(entry),
            EntryKind::Dropped => self.dropped(entry),
            EntryKind::Rtcp => self.rtcp(entry, sink),
            EntryKind::KeyExchange => self.key_exchange(entry, sink),
            EntryKind::Udptl => self.fax_packet(entry, sink),
            EntryKind::Matched => self.evidence.note(entry),
            EntryKind::Claimed => {}
        }
    }

    /// Takes SIP's word at `now`.
    pub fn control(&mut self, now: PacketTime, control: &Control, sink: &mut dyn MediaSink) {
        if self.is_ended() {
            return;
        }
        self.advance(now, sink);
        if self.settings.store == Store::Raw {
            keep_control(now, control, sink);
        }
        match control {
            Control::Plan(plan) => self.change_plan(now, plan, sink),
            Control::Answered => {
                self.answered = true;
                self.expected.answer(&self.plan);
                if self.settings.start == StartAt::Answer {
                    self.start = self.start.or(Some(now));
                }
                self.play_early(sink);
            }
            Control::Ended { at_ns } => self.end(PacketTime::from_ns(*at_ns), sink),
            Control::Digit(told) if self.start.is_some() => self.digits.signalled(now, told),
            Control::Digit(_) => {}
            Control::Resumed(point) => self.resume(now, point, sink),
        }
    }

    /// Time goes on: gives up what is due, and hands out the slots that are complete.
    pub fn advance(&mut self, now: PacketTime, sink: &mut dyn MediaSink) {
        self.now = self.now.max(now);
        if !self.is_ended() {
            self.progress(self.now, sink);
        }
    }

    fn progress(&mut self, now: PacketTime, sink: &mut dyn MediaSink) {
        let Some(start) = self.start.filter(|_| self.settings.store == Store::Opus) else { return };
        let window_ms = self.settings.reorder_window_ms;
        for index in 0..self.streams.len() {
            self.with_stream(start, index, |stream, surface| stream.tick(now, window_ms, surface));
        }
        let hold_ms = window_ms.saturating_add(JITTER_MS);
        let passed_ms = now.ms_since(start).saturating_sub(hold_ms);
        let complete = passed_ms.div_euclid(SLOT_MS);
        let heard = self.sides.iter().map(|side| side.track.end_slot()).max().unwrap_or(0);
        self.hand_out(complete.min(heard), sink);
    }

    /// How far the call has come.
    #[must_use]
    pub const fn now(&self) -> PacketTime {
        self.now
    }

    /// Where the call stands, for packets that are put aside and, should this process die, are read
    /// by another.
    #[must_use]
    pub fn resume_point(&self) -> Control {
        Control::Resumed(ResumePoint {
            plan: self.plan.clone(),
            answered: self.answered,
            start_ns: self.start.map(PacketTime::ns),
            next_slot: self.next_slot,
        })
    }

    /// Goes on where another process stopped; ignored by the one that never stopped.
    fn resume(&mut self, now: PacketTime, point: &ResumePoint, sink: &mut dyn MediaSink) {
        if self.start.is_some() || !self.streams.is_empty() {
            return;
        }
        self.plan = point.plan.clone();
        self.take_keys(now, sink);
        self.answered = point.answered;
        self.start = point.start_ns.map(PacketTime::from_ns);
        self.next_slot = point.next_slot;
        for side in &mut self.sides {
            side.track.skip_to(i64::from(point.next_slot));
        }
    }

    pub(super) fn is_recording(&self) -> bool {
        self.answered || self.settings.start == StartAt::Media
    }

    fn holds_early_media(&self) -> bool {
        self.settings.start == StartAt::Media && !self.answered
    }

    fn hold(&mut self, entry: &PacketEntry<'_>) {
        let at = self.early.len();
        if at.saturating_add(entry.len_bytes()) > EARLY_MEDIA_BYTES_MAX {
            self.note("early media beyond 2 MiB was not kept");
            return;
        }
        self.early.resize(at + entry.len_bytes(), 0);
        let _ = entry.write(&mut self.early[at..]);
    }

    fn play_early(&mut self, sink: &mut dyn MediaSink) {
        let early = std::mem::take(&mut self.early);
        self.answered = true;
        let mut entries: Vec<_> = Entries::new(&early).collect();
        // Flows that waited for their SDP were claimed one after the other.
        entries.sort_by_key(|entry| entry.time);
        entries.retain(|entry| !self.plan.is_loser(entry.source));
        for entry in &entries {
            self.progress(entry.time, sink);
            self.rtp(entry, sink);
        }
    }

    fn change_plan(&mut self, now: PacketTime, plan: &MediaPlan, sink: &mut dyn MediaSink) {
        self.plan = plan.clone();
        self.plan_since = now;
        self.take_keys(now, sink);
        self.expected.plan(plan);
        self.fax.on_new_plan();
        if Channel::BOTH.into_iter().any(|channel| plan.state(channel) == MediaState::Fax) {
            self.fax.t38(now);
        }
        let Some(start) = self.start else { return };
        let now_ns = now.ns_since(start);
        for channel in Channel::BOTH {
            self.holds.change(channel, self.plan.state(channel), now_ns, &mut self.gaps);
        }
    }

    fn end(&mut self, at: PacketTime, sink: &mut dyn MediaSink) {
        self.play_early(sink);
        if let Some(start) = self.start {
            for index in 0..self.streams.len() {
                self.with_stream(start, index, Stream::finish);
            }
            let end_ns = at.ns_since(start).max(0);
            self.holds.end(end_ns, &mut self.gaps);
            let slot_ns = SLOT_MS * NS_PER_MS;
            // Half a slot for the decoder's delay, so that the last sound is not cut off.
            let slots = end_ns.saturating_add(PRE_SKIP_NS + slot_ns - 1).div_euclid(slot_ns);
            let has_sound = self.next_slot > 0
                || self.sides.iter().any(|side| side.track.end_slot() > side.track.first_slot());
            if has_sound {
                self.hand_out(slots, sink);
            }
            for (side, channel) in self.sides.iter_mut().zip(Channel::BOTH) {
                side.finish(start, channel, &mut self.digits);
            }
        }
        self.ended_at = Some(at);
    }

    /// Hands out all slots before `until`.
    fn hand_out(&mut self, until: i64, sink: &mut dyn MediaSink) {
        if self.settings.store != Store::Opus {
            return;
        }
        let Some(start) = self.start else { return };
        while i64::from(self.next_slot) < until {
            let (left, right) = (&mut self.packet.0, &mut self.packet.1);
            let outs = Channel::BOTH.into_iter().zip([&mut *left, &mut *right]);
            for (side, (channel, out)) in self.sides.iter_mut().zip(outs) {
                let logs = (&mut self.digits, &mut self.fax);
                side.take((self.next_slot, start), channel, logs, out);
            }
            let added = left.len().saturating_add(right.len());
            self.bytes = self.bytes.saturating_add(u64::try_from(added).unwrap_or(0));
            sink.slot(self.next_slot, left, right);
            self.recorded = Recorded::Audio;
            self.next_slot = self.next_slot.saturating_add(1);
        }
    }

    fn rtp(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        if self.key_exchanges.look_again() {
            self.take_keys(entry.time, sink);
        }
        // The padding of SRTP is encrypted: only the header can be read before it is opened.
        let Ok(header) = RtpView::parse_header(entry.payload) else { return };
        let sending = self.plan.sending(entry.channel, entry.source, entry.destination);
        let payload_type = header.payload_type().0;
        let clock_hz = sending.format(payload_type).map_or(8_000, |format| format.clock_hz);
        let index = self.stream(entry, &header, clock_hz);
        let mut unlocked = std::mem::take(&mut self.unlocked);
        let lock = self.unlock(entry, index, payload_type, &mut unlocked);
        let view = match lock {
            Lock::None => RtpView::parse(entry.payload),
            Lock::Opened => RtpView::parse(&unlocked),
            Lock::Locked => Ok(header),
        };
        if let Ok(view) = view {
            self.packet(entry, &view, lock, index, sink);
        }
        self.unlocked = unlocked;
    }

    fn packet(
        &mut self,
        entry: &PacketEntry<'_>,
        view: &RtpView<'_>,
        lock: Lock,
        index: usize,
        sink: &mut dyn MediaSink,
    ) {
        let sending = self.plan.sending(entry.channel, entry.source, entry.destination);
        let reading = match lock {
            Lock::Locked => Reading::locked(sending, view),
            Lock::None | Lock::Opened => Reading::new(sending, view),
        };
        let is_audio = reading.is_audio();
        let Some(stream) = self.streams.get_mut(index) else { return };
        if is_audio && stream.codec.is_empty() {
            stream.codec = reading.codec(sending);
        }
        let is_plain = lock == Lock::None && reading.is_plain_sound();
        stream.sound = Some(view.payload_type().0).filter(|_| is_plain);
        let timed = if is_audio { Timed::Yes } else { Timed::No };
        let Some(extended) = stream.measure(entry.time, view, timed) else { return };
        if !self.is_recording() {
            return;
        }
        let start = *self.start.get_or_insert(entry.time);
        let encrypted = lock == Lock::Locked;
        if reading.meaning == Meaning::Events && !encrypted {
            self.event(entry, view, &reading, index);
        }
        match self.settings.store {
            Store::None => {}
            Store::Raw => self.keep_raw(entry, sink),
            Store::Opus => {
                let unread = if encrypted {
                    Some((GapReason::Encrypted, String::new()))
                } else if self.fax.is_message() && is_audio {
                    Some((GapReason::Fax, "is a fax's".into()))
                } else {
                    reading.unread(self.streams.get(index).map_or("", |it| it.codec.as_str()))
                };
                let is_read = unread.is_none();
                if let Some((reason, why)) = unread {
                    self.keep_unread(entry, index, (start, reason, &why), sink);
                }
                let content = match reading.meaning {
                    Meaning::Audio(codec) if is_read => Content::Audio(codec),
                    Meaning::ComfortNoise if is_read => Content::ComfortNoise,
                    _ => Content::Other,
                };
                self.record(entry, &reading, extended, content, (index, start));
            }
        }
    }

    /// Puts a packet into its stream, if its stream is the one to be heard.
    fn record(
        &mut self,
        entry: &PacketEntry<'_>,
        reading: &Reading<'_>,
        extended: Extended,
        content: Content,
        (index, start): (usize, PacketTime),
    ) {
        if matches!(content, Content::Audio(_)) && !self.take_over(index, entry) {
            return;
        }
        if self.sides[entry.channel.index()].heard != Some(index) {
            return;
        }
        let sending = self.plan.sending(entry.channel, entry.source, entry.destination);
        let held = Held {
            arrival: entry.time,
            timestamp: extended.timestamp,
            clock_hz: reading.clock_hz,
            content,
            payload: reading.payload.to_vec(),
            redundant: reading.redundant(sending, extended.timestamp),
        };
        self.holds.interrupt(entry.channel, entry.time.ns_since(start), &mut self.gaps);
        self.with_stream(start, index, |stream, surface| {
            stream.receive(extended.sequence, held, surface);
        });
    }

    /// Whether a stream is heard on its channel. A new SSRC of the same address takes over at once
    /// (RFC 3550 §8.2: the phone restarted); another address when SDP changed since, or when the one
    /// heard before has fallen silent. So two hops of the same media are not mixed into one track.
    fn take_over(&mut self, index: usize, entry: &PacketEntry<'_>) -> bool {
        let heard = &mut self.sides[entry.channel.index()].heard;
        let Some(heard) = heard.filter(|heard| *heard != index) else {
            *heard = Some(index);
            return true;
        };
        let (Some(new), Some(old)) = (self.streams.get(index), self.streams.get(heard)) else {
            return false;
        };
        let same_flow =
            new.key.source == old.key.source && new.key.destination == old.key.destination;
        let is_newer = new.first > old.first;
        let silent = entry.time.ms_since(old.last) > TAKEOVER_MS;
        // Another leg's stream is the same sound at another hop, or who is transferred to.
        let leg = |stream: &Stream| self.plan.leg(stream.key.source, stream.key.destination);
        let moved = is_newer
            && new.first >= self.plan_since
            && old.first < self.plan_since
            && leg(new) == leg(old);
        if silent || moved || (same_flow && is_newer) {
            if let Some(old) = self.streams.get_mut(heard) {
                old.pause();
            }
            self.sides[entry.channel.index()].heard = Some(index);
            return true;
        }
        false
    }

    fn event(
        &mut self,
        entry: &PacketEntry<'_>,
        view: &RtpView<'_>,
        reading: &Reading<'_>,
        index: usize,
    ) {
        let heard = self.sides[entry.channel.index()].heard;
        let same_flow = |other: usize| {
            let keys = (self.streams.get(index), self.streams.get(other));
            matches!(keys, (Some(mine), Some(theirs)) if mine.key.source == theirs.key.source)
        };
        if heard.is_none_or(same_flow) {
            if let Some(stream) = self.streams.get_mut(index) {
                let told = (index, reading.clock_hz, reading.payload);
                self.digits.event(entry, view, &mut stream.events, told);
            }
        }
    }

    fn dropped(&mut self, entry: &PacketEntry<'_>) {
        let Some(start) = self.start else { return };
        let from_ns = entry.time.ns_since(start);
        let to_ns = from_ns.saturating_add(SLOT_MS * NS_PER_MS);
        let (channel, reason) = (entry.channel, GapReason::Dropped);
        self.gaps.note(Gap::silent(channel, (from_ns, to_ns), reason));
    }

    /// The packet's stream, made where it is new; beyond `STREAMS_PER_CALL_MAX` the last.
    pub(super) fn stream(
        &mut self,
        entry: &PacketEntry<'_>,
        view: &RtpView<'_>,
        clock_hz: u32,
    ) -> usize {
        if let Some(found) = self.known_stream(entry, view) {
            return found;
        }
        let key = StreamKey::of(entry, view);
        if self.streams.len() < STREAMS_PER_CALL_MAX {
            self.streams.push(Stream::new(key, entry.time, clock_hz));
        } else {
            self.note("more streams than 64: the rest are counted in the last");
        }
        self.streams.len().saturating_sub(1)
    }

    /// Notes something for people, once; true when it was new.
    pub fn note(&mut self, text: &str) -> bool {
        self.notes.add(text)
    }

    fn with_stream(
        &mut self,
        start: PacketTime,
        index: usize,
        work: impl FnOnce(&mut Stream, &mut Surface<'_>),
    ) {
        let rate_hz_max = self.settings.band.rate_hz_max();
        let Some(stream) = self.streams.get_mut(index) else { return };
        let channel = stream.key.channel;
        let side = &mut self.sides[channel.index()];
        let mut surface = Surface {
            start,
            channel,
            track: &mut side.track,
            gaps: &mut self.gaps,
            pre_skip_ns: PRE_SKIP_NS,
            noise: &mut side.noise,
            rate_hz_max,
        };
        work(stream, &mut surface);
    }

    /// Parties of whom something is recorded.
    #[must_use]
    pub fn parties_recorded(&self) -> usize {
        if self.recorded == Recorded::Nothing {
            return 0;
        }
        let heard = |channel: &&Channel| self.streams.iter().any(|it| it.key.channel == **channel);
        Channel::BOTH.iter().filter(heard).count()
    }

    fn missing(&self, channel: Channel, gaps: &[Gap]) -> Option<Missing> {
        if self.streams.iter().any(|stream| stream.key.channel == channel) {
            let is_heard = self.sides[channel.index()].heard.is_some();
            return why_unheard(channel, gaps).filter(|_| !is_heard);
        }
        Some(self.expected.why_unseen(channel, self.far_end.sending(channel)))
    }

    /// What is told of the call; final once it [`is_ended`](Self::is_ended).
    #[must_use]
    pub fn report(&self) -> MediaReport {
        let end = self.ended_at.unwrap_or(self.now);
        let len_ns = self.start.map_or(0, |start| end.ns_since(start).max(0));
        let mut notes = self.notes.lines();
        notes.extend(self.notes_on_locked());
        for stream in self.streams.iter().filter(|stream| stream.was_transcoded()) {
            let channel = stream.key.channel.label();
            let text = format!("{channel}: Opus was transcoded, its packets are not of 20 ms");
            if !notes.contains(&text) {
                notes.push(text);
            }
        }
        let with_rtcp = |stream: &Stream| {
            let rtcp = self.far_end.report(&stream.key, stream.clock_hz);
            StreamReport { rtcp, ..stream.report() }
        };
        let gaps = self.gaps.sorted(len_ns);
        MediaReport {
            missing: Channel::BOTH.map(|channel| self.missing(channel, &gaps)),
            start: self.start.filter(|_| self.recorded != Recorded::Nothing),
            len_ns: if self.recorded == Recorded::Nothing { 0 } else { len_ns },
            recorded: self.recorded,
            bytes: self.bytes,
            streams: self
                .streams
                .iter()
                .map(with_rtcp)
                .map(|it| self.evidence.complete(it))
                .collect(),
            gaps,
            digits: self.digits.presses(),
            fax: self.fax.report(),
            notes,
        }
    }
}
