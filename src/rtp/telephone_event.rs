//! DTMF digits as RTP telephone events.
//!
//! Purpose: one [`Digit`] for each key pressed, from packets that repeat, get lost and are updated.
//! Invariants: a digit is told once, with the first packet seen of its event.
//! Non-goals: tones in the audio, and other events than DTMF and flash.
//! Sources: RFC 4733 §2.3 (payload), §2.5 (procedures), §3.2 (DTMF events); RFC 2833.
//!
//! ```text
//! |     event     |E|R| volume    |          duration             |
//! ```

use crate::base::Reader;

/// Payload of one event packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// 0–9, 10 `*`, 11 `#`, 12–15 `A`–`D`, 16 flash; others are not DTMF.
    pub event: u8,
    /// The event is over; sent three times (§2.5.1.4).
    pub end: bool,
    /// Power of the tone, 0 to −63 dBm0, sign dropped.
    pub volume: u8,
    /// How long it has lasted, in timestamp units.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads the first event of a payload; what follows the four bytes is not read.
    ///
    /// `None` if there are fewer than four bytes.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let [event, flags, high, low] = reader.array()?;
        Some(Self {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([high, low]),
        })
    }
}

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// As [`digit_label`] has it.
    pub digit: &'static str,
    /// When it began, on the stream's RTP clock.
    pub rtp_timestamp: u32,
    /// How long it had lasted when it was first seen, in timestamp units.
    pub duration_units: u32,
}

/// `0`–`9`, `*`, `#`, `A`–`D`, `flash`; empty for what is no key.
#[must_use]
pub fn digit_label(event: u8) -> &'static str {
    const LABELS: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "#", "A", "B", "C", "D", "flash"];
    LABELS.get(usize::from(event)).copied().unwrap_or("")
}

/// Events remembered, so that a late packet of one is not taken for a new one.
const REMEMBERED_EVENTS: usize = 4;

/// One event as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    event: u8,
    /// Timestamp of the latest segment seen.
    timestamp: u32,
    duration: u16,
    ended: bool,
    /// When the first segment began, and how long the segments before this one lasted in all.
    began: u32,
    before: u32,
}

/// How long the key was held of which a packet came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When it was pressed, on the stream's RTP clock: [`Digit::rtp_timestamp`].
    pub rtp_timestamp: u32,
    /// How long, in timestamp units, as far as it is known.
    pub duration_units: u32,
}

/// Turns the event packets of one stream into digits.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTracker {
    /// Newest first.
    known: [Option<Known>; REMEMBERED_EVENTS],
    latest: Option<Held>,
}

impl EventTracker {
    /// Before the first event.
    #[must_use]
    pub const fn new() -> Self {
        Self { known: [None; REMEMBERED_EVENTS], latest: None }
    }

    /// The key that the latest packet was about.
    #[must_use]
    pub const fn held(&self) -> Option<Held> {
        self.latest
    }

    /// Takes one event packet and tells the digit if it is the first of its event.
    ///
    /// `marker` and `rtp_timestamp` are those of the RTP header. Packets of one event share their
    /// timestamp (§2.5.1.1); its start may have been lost. An event longer than 0xFFFF goes on in
    /// segments without marker, each of which begins where the one before ended (§2.5.1.3).
    pub fn on_packet(
        &mut self,
        marker: Marker,
        rtp_timestamp: u32,
        event: TelephoneEvent,
    ) -> Option<Digit> {
        let digit = digit_label(event.event);
        if digit.is_empty() {
            return None;
        }
        for known in self.known.iter_mut().flatten() {
            if known.timestamp == rtp_timestamp && known.event == event.event {
                known.duration = known.duration.max(event.duration);
                known.ended |= event.end;
                self.latest = Some(known.held());
                return None;
            }
        }
        let now = Known {
            event: event.event,
            timestamp: rtp_timestamp,
            duration: event.duration,
            ended: event.end,
            began: rtp_timestamp,
            before: 0,
        };
        if let [Some(latest), ..] = &mut self.known {
            if marker == Marker::Clear && latest.continues_with(now) {
                *latest = now.after(*latest);
                self.latest = Some(latest.held());
                return None;
            }
        }
        self.latest = Some(now.held());
        self.known.rotate_right(1);
        let [newest, ..] = &mut self.known;
        *newest = Some(now);
        let duration_units = u32::from(event.duration);
        Some(Digit { digit, rtp_timestamp, duration_units })
    }
}

/// The RTP marker bit; on events it says "a new one begins here" (§2.5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// 1.
    Set,
    /// 0.
    Clear,
}

impl From<bool> for Marker {
    fn from(bit: bool) -> Self {
        if bit { Self::Set } else { Self::Clear }
    }
}

impl Known {
    fn held(self) -> Held {
        let duration_units = self.before.saturating_add(u32::from(self.duration));
        Held { rtp_timestamp: self.began, duration_units }
    }

    /// This segment of the key that `previous` is another segment of. Where the duration grew it
    /// counts from the beginning; else it began anew.
    fn after(self, previous: Self) -> Self {
        let began_anew = self.duration < previous.duration || previous.duration == u16::MAX;
        let added = if began_anew { u32::from(previous.duration) } else { 0 };
        Self { began: previous.began, before: previous.before.saturating_add(added), ..self }
    }

    /// True when `now` is the same key still held down, in another segment or from a sender that
    /// moves the timestamp with every packet while the duration grows as fast.
    fn continues_with(self, now: Self) -> bool {
        if self.ended || self.event != now.event {
            return false;
        }
        let moved = now.timestamp.wrapping_sub(self.timestamp);
        let grown = now.duration.checked_sub(self.duration).map(u32::from);
        moved == u32::from(u16::MAX)
            || moved == u32::from(self.duration)
            || grown.is_some_and(|grown| grown > 0 && moved <= grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: u8, duration: u16) -> TelephoneEvent {
        TelephoneEvent { event, end: false, volume: 10, duration }
    }

    fn end(event: u8, duration: u16) -> TelephoneEvent {
        TelephoneEvent { event, end: true, volume: 10, duration }
    }

    /// Digits told for a list of (marker, timestamp, event).
    fn digits(packets: &[(Marker, u32, TelephoneEvent)]) -> Vec<(&'static str, u32)> {
        let mut tracker = EventTracker::new();
        packets
            .iter()
            .filter_map(|(marker, timestamp, event)| tracker.on_packet(*marker, *timestamp, *event))
            .map(|digit| (digit.digit, digit.rtp_timestamp))
            .collect()
    }

    #[test]
    fn payload_fields_are_read_and_every_cut_is_refused() {
        let payload = [11, 0x8a, 0x03, 0x20];
        assert_eq!(TelephoneEvent::parse(&payload), Some(end(11, 800)));
        for cut in 0..4 {
            assert_eq!(TelephoneEvent::parse(&payload[..cut]), None);
        }
    }

    #[test]
    fn one_key_press_is_one_digit_however_often_it_is_updated_and_ended() {
        let told = digits(&[
            (Marker::Set, 1_000, event(5, 0)),
            (Marker::Clear, 1_000, event(5, 160)),
            (Marker::Clear, 1_000, end(5, 800)),
            (Marker::Clear, 1_000, end(5, 800)),
            (Marker::Clear, 1_000, end(5, 800)),
        ]);
        assert_eq!(told, [("5", 1_000)]);
    }

    #[test]
    fn the_same_key_twice_is_two_digits() {
        let told = digits(&[
            (Marker::Set, 1_000, event(5, 0)),
            (Marker::Clear, 1_000, end(5, 800)),
            (Marker::Set, 3_000, event(5, 0)),
            (Marker::Clear, 3_000, end(5, 800)),
        ]);
        assert_eq!(told, [("5", 1_000), ("5", 3_000)]);
    }

    #[test]
    fn a_digit_whose_start_was_lost_is_told_by_what_came() {
        assert_eq!(digits(&[(Marker::Clear, 7, end(15, 800))]), [("D", 7)]);
        let lost_between =
            digits(&[(Marker::Set, 1_000, event(5, 0)), (Marker::Clear, 3_000, event(5, 160))]);
        assert_eq!(lost_between, [("5", 1_000), ("5", 3_000)]);
    }

    #[test]
    fn a_key_held_for_more_than_0xffff_units_goes_on_in_segments() {
        let told = digits(&[
            (Marker::Set, 0xffff_fff0, event(9, 0)),
            (Marker::Clear, 0xffff_fff0, event(9, 0xffff)),
            (Marker::Clear, 0xffef, event(9, 160)),
            (Marker::Clear, 0xffef, event(9, 0xffff)),
            (Marker::Clear, 0x1_ffee, end(9, 400)),
        ]);
        assert_eq!(told, [("9", 0xffff_fff0)]);
    }

    #[test]
    fn a_sender_that_moves_the_timestamp_with_the_duration_presses_one_key() {
        let told = digits(&[
            (Marker::Set, 1_000, event(1, 160)),
            (Marker::Clear, 1_160, event(1, 320)),
            (Marker::Clear, 1_320, event(1, 480)),
            (Marker::Clear, 1_480, end(1, 640)),
        ]);
        assert_eq!(told, [("1", 1_000)]);
    }

    #[test]
    fn a_key_is_held_as_long_as_its_segments_together() {
        let mut tracker = EventTracker::new();
        for (timestamp, event) in [
            (0x100, event(9, 0)),
            (0x100, event(9, 0xffff)),
            (0x1_00ff, event(9, 160)),
            (0x1_00ff, end(9, 400)),
        ] {
            tracker.on_packet(Marker::Clear, timestamp, event);
        }
        let held = Held { rtp_timestamp: 0x100, duration_units: 0xffff + 400 };
        assert_eq!(tracker.held(), Some(held));
        let mut moving = EventTracker::new();
        for (timestamp, event) in
            [(1_000, event(1, 160)), (1_160, event(1, 320)), (1_320, end(1, 480))]
        {
            moving.on_packet(Marker::Clear, timestamp, event);
        }
        let held = Held { rtp_timestamp: 1_000, duration_units: 480 };
        assert_eq!(moving.held(), Some(held));
    }

    #[test]
    fn late_packets_of_an_earlier_event_are_not_new() {
        let told = digits(&[
            (Marker::Set, 1_000, event(1, 0)),
            (Marker::Set, 3_000, event(2, 0)),
            (Marker::Clear, 1_000, end(1, 800)),
            (Marker::Clear, 3_000, end(2, 800)),
        ]);
        assert_eq!(told, [("1", 1_000), ("2", 3_000)]);
    }

    #[test]
    fn events_that_are_no_keys_are_not_told() {
        assert_eq!(digits(&[(Marker::Set, 1, event(36, 0))]), []);
        assert_eq!(digits(&[(Marker::Set, 1, event(16, 0))]), [("flash", 1)]);
        let all: String = (0..=255).map(digit_label).collect();
        assert_eq!(all, "0123456789*#ABCDflash");
    }
}
