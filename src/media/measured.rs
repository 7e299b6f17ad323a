//! Packets of which only the numbers count: their sound is not recorded, or is kept as it came.
//!
//! Purpose: loss, jitter and order of a stream that is known, for a fraction of what sound costs.
//! Invariants: the figures are those that the long way gives; whatever could say more than its numbers
//! (events, redundancy, silence, another payload type, keys) goes the long way.
//! Non-goals: the long way (see `call_media`).
//! Sources: RFC 3550 §5.1.

use super::call_media::CallMedia;
use super::reading::Reading;
use super::settings::{MediaSink, Store};
use super::stream::{StreamKey, Timed};
use crate::base::PacketEntry;
use crate::rtp::header::{FIXED_HEADER_LEN_BYTES, RtpView};

impl CallMedia {
    /// True while packets are kept as they come, all of them.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        self.settings.store == Store::Raw && self.is_recording() && !self.is_ended()
    }

    /// Takes a packet that is kept as it came and says nothing new but its numbers; false for any other.
    pub(super) fn settled(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) -> bool {
        if self.settings.store != Store::Raw
            || !self.keys[entry.channel.index()].is_empty()
            || !self.is_recording()
        {
            return false;
        }
        let Ok(view) = RtpView::parse_header(entry.payload) else { return false };
        let Some(index) = self.known_stream(entry, &view) else { return false };
        let Some(stream) = self.streams.get_mut(index) else { return false };
        // Redundant payloads may hold events.
        if stream.sound != Some(view.payload_type().0) || view.has_padding() {
            return false;
        }
        if stream.measure(entry.time, &view, Timed::Yes).is_some() {
            self.start.get_or_insert(entry.time);
            self.keep_raw(entry, sink);
        }
        true
    }

    pub(super) fn is_header(&self, entry: &PacketEntry<'_>) -> bool {
        self.settings.store == Store::None && entry.payload.len() == FIXED_HEADER_LEN_BYTES
    }

    /// A header whose payload was not handed over, since nothing is recorded.
    pub(super) fn header(&mut self, entry: &PacketEntry<'_>) {
        let Ok(view) = RtpView::parse_header(entry.payload) else { return };
        let index = self.known_stream(entry, &view).unwrap_or_else(|| {
            // No packet of it was handed over whole: the plan says what it is.
            let sending = self.plan.sending(entry.channel, entry.source, entry.destination);
            let reading = Reading::locked(sending, &view);
            let (codec, clock_hz) = (reading.codec(sending), reading.clock_hz);
            let index = self.stream(entry, &view, clock_hz);
            if let Some(stream) = self.streams.get_mut(index) {
                stream.codec = codec;
            }
            index
        });
        let is_recording = self.is_recording();
        let Some(stream) = self.streams.get_mut(index) else { return };
        let measured = stream.measure(entry.time, &view, Timed::Yes).is_some();
        // As its first packets were.
        stream.locked += u64::from(stream.locked > 0 && stream.srtp.suite().is_none());
        if measured && is_recording {
            self.start.get_or_insert(entry.time);
        }
    }

    pub(super) fn known_stream(
        &self,
        entry: &PacketEntry<'_>,
        view: &RtpView<'_>,
    ) -> Option<usize> {
        let key = StreamKey::of(entry, view);
        self.streams.iter().rposition(|stream| stream.key == key)
    }

    /// A frame that the front knew as a copy: counted on its stream.
    pub(super) fn copy(&mut self, entry: &PacketEntry<'_>) {
        let Ok(view) = RtpView::parse_header(entry.payload) else { return };
        let index = self.stream(entry, &view, 8_000);
        if let Some(stream) = self.streams.get_mut(index) {
            stream.copies = stream.copies.saturating_add(1);
        }
    }
}
