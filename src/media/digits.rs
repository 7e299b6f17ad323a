//! The keys that were pressed in a call, from wherever they were told.
//!
//! Purpose: collect digits of telephone-events, of SIP and of tones, and tell each press once.
//! Invariants: what is told does not depend on the order in which sources are read; at most
//! `GAPS_PER_CALL_MAX` reports are kept.
//! Non-goals: finding them (see `rtp::telephone_event`, `sip::dtmf_body`, `codec::dtmf_tones`).
//! Sources: RFC 4733 §1 (why gateways send a key twice), RFC 6086.
//!
//! One press may be told by several *lines*: an event stream and the tone that leaked before it, or
//! INFO on both legs of a B2BUA. A line tells a press once, so two reports of one line are two
//! presses, and reports of two lines that are near each other are one.

use super::report::{DigitReport, DigitSource};
use crate::base::limits::GAPS_PER_CALL_MAX;
use crate::base::{Channel, PacketEntry, PacketTime};
use crate::codec::dtmf_tones::ToneDigit;
use crate::rtp::header::RtpView;
use crate::rtp::plan::{DigitPhase, SignalledDigit};
use crate::rtp::telephone_event::{EventTracker, TelephoneEvent, digit_label};

/// Two legs tell a press at nearly the same time.
const SAME_SOURCE_MS: i64 = 300;

/// SIP tells a press when it is over, or when it begins; tone and event begin together.
const OTHER_SOURCE_MS: i64 = 1_000;

/// A NOTIFY of a key that is held is sent again within this; after it, it is a new press.
const HELD_MS: i64 = 5_000;

/// A packet of events is as much ahead of the time at most: the longest packet, and jitter.
const EVENT_PACKET_MS: u32 = 100;

/// A retransmission comes within so many reports.
const LOOK_BACK: usize = 64;

/// What told a press: an RTP stream by its place in the call, a leg by its number, a channel's sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// What kind it is.
    pub source: DigitSource,
    /// Which of them.
    pub number: u64,
}

#[derive(Clone, Debug)]
struct Heard {
    channel: Channel,
    digit: &'static str,
    time: PacketTime,
    duration_ms: Option<u32>,
    /// How long it had lasted by its own word when it was first seen.
    before_ms: Option<u32>,
    line: Line,
    /// What makes it this report of its line: an RTP timestamp, or CSeq and place in the message.
    mark: (u32, u8),
    /// For SIP: the latest message about it, when that came, and whether it said that it goes on.
    last_mark: (u32, u8),
    touched: PacketTime,
    is_held: bool,
}

impl Heard {
    /// A press at its first report.
    const fn new(
        channel: Channel,
        digit: &'static str,
        time: PacketTime,
        line: Line,
        mark: (u32, u8),
    ) -> Self {
        Self {
            channel,
            digit,
            time,
            duration_ms: None,
            before_ms: None,
            line,
            mark,
            last_mark: mark,
            touched: time,
            is_held: false,
        }
    }
}

/// The digits of one call.
#[derive(Debug, Default)]
pub struct DigitLog {
    heard: Vec<Heard>,
}

impl DigitLog {
    /// A press told in media; `mark` tells it from others of the same line.
    pub fn note(
        &mut self,
        channel: Channel,
        digit: &'static str,
        time: PacketTime,
        line: Line,
        mark: u32,
    ) {
        self.push(Heard::new(channel, digit, time, line, (mark, 0)));
    }

    /// A packet of telephone-events: its stream's place in the call, the clock, and what it says.
    pub fn event(
        &mut self,
        entry: &PacketEntry<'_>,
        view: &RtpView<'_>,
        events: &mut EventTracker,
        (index, clock_hz, told): (usize, u32, &[u8]),
    ) {
        let Some(event) = TelephoneEvent::parse(told) else { return };
        let begun = events.on_packet(view.marker().into(), view.timestamp(), event);
        let line = Line { source: DigitSource::Rtp, number: u64::try_from(index).unwrap_or(0) };
        if let Some(digit) = begun {
            self.note(entry.channel, digit.digit, entry.time, line, digit.rtp_timestamp);
        }
        if let Some(held) = events.held() {
            let units = u64::from(held.duration_units).saturating_mul(1_000);
            let ms = units / u64::from(clock_hz.max(1));
            self.held(line, held.rtp_timestamp, u32::try_from(ms).unwrap_or(u32::MAX));
            self.seen_until(line, held.rtp_timestamp, entry.time);
        }
    }

    /// Tones that were heard in a recording that began at `start`.
    pub fn tone(&mut self, channel: Channel, start: PacketTime, heard: ToneDigit) {
        let time = start.plus_ns(whole(ToneDigit::ms(heard.begin) * 1e6));
        let line = Line { source: DigitSource::Inband, number: 0 };
        let mark = u32::try_from(whole(heard.begin)).unwrap_or(u32::MAX);
        let length_ms = u32::try_from(whole(ToneDigit::ms(heard.length))).unwrap_or(0);
        self.note(channel, heard.digit, time, line, mark);
        self.held(line, mark, length_ms);
    }

    /// How long the press with that mark was held.
    pub fn held(&mut self, line: Line, mark: u32, duration_ms: u32) {
        let mut recent = self.heard.iter_mut().rev().take(LOOK_BACK);
        if let Some(heard) = recent.find(|it| it.line == line && it.mark.0 == mark) {
            heard.duration_ms = Some(duration_ms);
        }
    }

    /// The latest packet of a press: it was not held much longer than that, whatever its sender says
    /// (some count in the clock of the sound and not in that of their rtpmap).
    fn seen_until(&mut self, line: Line, mark: u32, now: PacketTime) {
        let mut recent = self.heard.iter_mut().rev().take(LOOK_BACK);
        let Some(heard) = recent.find(|it| it.line == line && it.mark.0 == mark) else { return };
        let told_ms = heard.duration_ms.unwrap_or(0);
        let before_ms = *heard.before_ms.get_or_insert(told_ms);
        let seen_ms = u32::try_from(now.ms_since(heard.time).max(0)).unwrap_or(u32::MAX);
        if told_ms > seen_ms.saturating_add(before_ms).saturating_add(EVENT_PACKET_MS) {
            heard.duration_ms = Some(seen_ms);
        }
    }

    /// A press, or an end of one, that SIP told of at `time`.
    pub fn signalled(&mut self, time: PacketTime, told: &SignalledDigit) {
        let Some(digit) = KEYS.map(digit_label).find(|label| *label == told.digit) else { return };
        let (channel, phase) = (told.channel, told.phase);
        let line = Line { source: DigitSource::Info, number: u64::from(told.leg) };
        let mark = (told.cseq, told.position);
        let mut recent = self.heard.iter_mut().rev().take(LOOK_BACK);
        let known = recent.find(|it| {
            let is_again = (it.mark..=it.last_mark).contains(&mark);
            let is_held = it.is_held && it.digit == digit && time.ms_since(it.touched) <= HELD_MS;
            it.line == line && it.channel == channel && (is_again || is_held)
        });
        if let Some(known) = known {
            let is_news = mark > known.last_mark && phase != DigitPhase::Whole;
            if is_news {
                (known.last_mark, known.touched) = (mark, time);
                known.is_held = phase == DigitPhase::Held;
                known.duration_ms = told.duration_ms.or(known.duration_ms);
                return;
            }
            if mark <= known.last_mark {
                return;
            }
        }
        let is_held = phase == DigitPhase::Held;
        let begun = Heard::new(channel, digit, time, line, mark);
        self.push(Heard { duration_ms: told.duration_ms, is_held, ..begun });
    }

    fn push(&mut self, heard: Heard) {
        if self.heard.len() < GAPS_PER_CALL_MAX {
            self.heard.push(heard);
        }
    }

    /// Every press once, in order of time.
    #[must_use]
    pub fn presses(&self) -> Vec<DigitReport> {
        let mut heard: Vec<&Heard> = self.heard.iter().collect();
        heard.sort_by_key(|it| (it.time, it.line, it.channel, it.mark));
        let mut presses: Vec<Press> = Vec::new();
        for report in heard {
            let recent = presses.len().saturating_sub(LOOK_BACK);
            let same = presses.iter_mut().skip(recent).find(|press| press.is_told_by(report));
            match same {
                Some(press) => press.add(report),
                None => presses.push(Press::new(report)),
            }
        }
        presses.sort_by_key(|press| press.report.time);
        presses.into_iter().map(|press| press.report).collect()
    }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates, and no recording is that long")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

/// A press, and what told it.
#[derive(Debug)]
struct Press {
    report: DigitReport,
    lines: Vec<Line>,
}

impl Press {
    fn new(heard: &Heard) -> Self {
        let Heard { channel, time, duration_ms, .. } = *heard;
        let (digit, source) = (heard.digit.to_owned(), heard.line.source);
        let report = DigitReport { channel, digit, time, duration_ms, source };
        Self { report, lines: vec![heard.line] }
    }

    fn is_told_by(&self, heard: &Heard) -> bool {
        let near_ms = if self.lines.iter().all(|line| line.source == heard.line.source) {
            SAME_SOURCE_MS
        } else {
            OTHER_SOURCE_MS.saturating_add(i64::from(self.report.duration_ms.unwrap_or(0)))
        };
        self.report.channel == heard.channel
            && self.report.digit == heard.digit
            && !self.lines.contains(&heard.line)
            && heard.time.ms_since(self.report.time).abs() <= near_ms
    }

    /// The most exact source tells when it was, and for how long.
    fn add(&mut self, heard: &Heard) {
        self.lines.push(heard.line);
        let known_ms = self.report.duration_ms;
        if heard.line.source < self.report.source {
            self.report.source = heard.line.source;
            self.report.time = heard.time;
            self.report.duration_ms = heard.duration_ms.or(known_ms);
        } else {
            self.report.duration_ms = known_ms.or(heard.duration_ms);
        }
    }
}

/// Events that are keys (RFC 4733 §3.2).
const KEYS: std::ops::RangeInclusive<u8> = 0..=16;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Line = Line { source: DigitSource::Rtp, number: 0 };
    const TONES: Line = Line { source: DigitSource::Inband, number: 0 };

    fn at(ms: i64) -> PacketTime {
        PacketTime::from_ms(ms)
    }

    fn told(digit: &str, cseq: u32, leg: u32, phase: DigitPhase) -> SignalledDigit {
        let duration_ms = (phase != DigitPhase::Held).then_some(160);
        let (channel, digit) = (Channel::Caller, digit.to_owned());
        SignalledDigit { channel, digit, duration_ms, phase, leg, cseq, position: 0 }
    }

    fn presses(log: &DigitLog) -> Vec<(String, i64, DigitSource, Option<u32>)> {
        let one = |it: DigitReport| (it.digit, it.time.ms_since(at(0)), it.source, it.duration_ms);
        log.presses().into_iter().map(one).collect()
    }

    #[test]
    fn a_retransmitted_info_is_no_second_press() {
        let mut log = DigitLog::default();
        for (ms, cseq) in [(0, 101), (500, 101), (700, 102), (1_200, 102), (1_500, 101)] {
            log.signalled(at(ms), &told("5", cseq, 0, DigitPhase::Whole));
        }
        let five = |ms| ("5".to_owned(), ms, DigitSource::Info, Some(160));
        assert_eq!(presses(&log), [five(0), five(700)]);
    }

    #[test]
    fn a_key_told_at_its_begin_while_held_and_at_its_end_is_one() {
        let mut log = DigitLog::default();
        let (held, released) = (DigitPhase::Held, DigitPhase::Released);
        for (ms, cseq, phase) in [
            (0, 103, held),
            (2_000, 104, held),
            (2_500, 105, released),
            (3_000, 105, released),
            (3_100, 103, held),
            (3_200, 106, held),
            (3_300, 107, released),
        ] {
            log.signalled(at(ms), &told("1", cseq, 0, phase));
        }
        let one = |ms| ("1".to_owned(), ms, DigitSource::Info, Some(160));
        assert_eq!(presses(&log), [one(0), one(3_200)]);
    }

    #[test]
    fn what_event_tone_and_info_tell_together_is_one_press_and_the_event_wins() {
        let mut log = DigitLog::default();
        for (number, ms) in [(0_u32, 1_000_i64), (1, 1_300)] {
            log.note(Channel::Caller, "1", at(ms), TONES, number);
            log.note(Channel::Caller, "1", at(ms + 40), STREAM, number);
            log.held(STREAM, number, 120);
            log.signalled(at(ms + 200), &told("1", number, 0, DigitPhase::Whole));
            log.signalled(at(ms + 230), &told("1", number, 1, DigitPhase::Whole));
        }
        let one = |ms| ("1".to_owned(), ms, DigitSource::Rtp, Some(120));
        assert_eq!(presses(&log), [one(1_040), one(1_340)]);
    }

    #[test]
    fn other_keys_other_parties_and_later_presses_stay_apart() {
        let mut log = DigitLog::default();
        log.note(Channel::Caller, "1", at(0), STREAM, 0);
        log.note(Channel::Callee, "1", at(10), TONES, 0);
        log.note(Channel::Caller, "2", at(20), TONES, 0);
        log.note(Channel::Caller, "1", at(1_500), TONES, 1);
        let sources: Vec<_> = log.presses().iter().map(|press| press.source).collect();
        let (rtp, inband) = (DigitSource::Rtp, DigitSource::Inband);
        assert_eq!(sources, [rtp, inband, inband, inband]);
    }

    #[test]
    fn the_order_in_which_sources_are_read_does_not_matter() {
        let notes = [(0, STREAM, 0), (30, TONES, 0), (400, STREAM, 1), (420, TONES, 1)];
        let log = |order: &[usize]| {
            let mut log = DigitLog::default();
            for index in order {
                let (ms, line, mark) = notes[*index];
                log.note(Channel::Caller, "7", at(ms), line, mark);
            }
            presses(&log)
        };
        assert_eq!(log(&[0, 1, 2, 3]), log(&[1, 3, 0, 2]));
        assert_eq!(log(&[3, 2, 1, 0]).len(), 2);
    }
}
