//! A call's SIP messages as a drawing: a column an endpoint, a line a message.
//!
//! Purpose: let people see at a glance who said what to whom, and when.
//! Invariants: drawn from what is archived, message by message; nothing from the wire reaches the
//! terminal as a control character; the work grows linearly with the messages.
//! Non-goals: understanding SIP (see `sip`): only the lines that are shown are read here.
//! Sources: RFC 3261 §7.3.3 (compact header names), §20.16 (CSeq).

use std::fmt::Write as _;
use std::io::{self, Write};

use super::output::printable;
use crate::base::{Endpoint, PacketTime, Protocol};

/// One message, as it passed the tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LadderMessage {
    /// When.
    pub time: PacketTime,
    /// From where.
    pub source: Endpoint,
    /// To where.
    pub destination: Endpoint,
    /// Over what.
    pub protocol: Protocol,
    /// Its lines that matter here.
    pub head: MessageHead,
}

/// The lines of a message that a ladder shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageHead {
    /// `INVITE sip:… SIP/2.0` or `SIP/2.0 200 OK`.
    pub start_line: String,
    /// Value of `Call-ID`.
    pub call_id: String,
    /// Value of `CSeq`.
    pub cseq: String,
    /// Whether a session description comes with it.
    pub body: Body,
}

/// What a message carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// SDP.
    Sdp,
    /// Nothing, or something else.
    #[default]
    Other,
}

impl MessageHead {
    /// Picks the lines out of a message; those that are not there stay empty.
    #[must_use]
    pub fn read(message: &[u8]) -> Self {
        let mut lines = message.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut head = Self { start_line: lossy(lines.next()), ..Self::default() };
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            let value = || lossy(value.get(1..).map(<[u8]>::trim_ascii));
            match name.trim_ascii().to_ascii_lowercase().as_slice() {
                b"call-id" | b"i" => head.call_id = value(),
                b"cseq" => head.cseq = value(),
                b"content-type" | b"c" => {
                    let kind = value().to_ascii_lowercase();
                    // A multipart body of a phone's INVITE has SDP in it as a rule.
                    if kind.starts_with("application/sdp") || kind.starts_with("multipart/") {
                        head.body = Body::Sdp;
                    }
                }
                _ => {}
            }
        }
        head
    }

    /// `INVITE (SDP)`, or `200 OK INVITE (SDP)`.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = match self.start_line.strip_prefix("SIP/2.0 ") {
            Some(status) => match self.cseq.split_whitespace().nth(1) {
                Some(method) => format!("{status} · {method}"),
                None => status.to_owned(),
            },
            None => self.start_line.split(' ').next().unwrap_or_default().to_owned(),
        };
        if self.body == Body::Sdp {
            label.push_str(" (SDP)");
        }
        printable(&label)
    }
}

fn lossy(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// Columns from one life line to the next.
const SPACING: usize = 32;
/// More endpoints than this are listed, not drawn: the lines would not fit on a screen.
const COLUMNS_MAX: usize = 6;
/// Width of the time before the first life line.
const TIME_WIDTH: usize = 12;

/// Draws the messages; times count from `zero`.
pub fn draw(out: &mut dyn Write, messages: &[LadderMessage], zero: PacketTime) -> io::Result<()> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for message in messages {
        for endpoint in [message.source, message.destination] {
            if endpoints.len() <= COLUMNS_MAX && !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
    }
    if endpoints.len() > COLUMNS_MAX {
        return list(out, messages, zero);
    }
    let mut head = " ".repeat(TIME_WIDTH);
    for endpoint in &endpoints {
        let _ = write!(head, "{:<SPACING$}", endpoint.to_string());
    }
    writeln!(out, "{}", head.trim_end())?;
    for message in messages {
        let place = |of| endpoints.iter().position(|endpoint| *endpoint == of).unwrap_or_default();
        let (from, to) = (place(message.source), place(message.destination));
        let row = arrow(endpoints.len(), from, to, &message.head.label());
        writeln!(out, "{:>9}   {row}", offset(message.time, zero))?;
    }
    Ok(())
}

/// One line: life lines, and an arrow with its label from column `from` to column `to`.
fn arrow(columns: usize, from: usize, to: usize, label: &str) -> String {
    let mut row = vec![' '; columns.saturating_mul(SPACING)];
    for column in 0..columns {
        row[column * SPACING] = '│';
    }
    if from == to {
        let start = from * SPACING + 2;
        place_text(&mut row, start, &format!("⟲ {label}"));
    } else {
        let (first, last) = (from.min(to) * SPACING + 1, from.max(to) * SPACING - 1);
        row[first..=last].fill('─');
        let (head, at) = if from < to { ('▶', last) } else { ('◀', first) };
        row[at] = head;
        let room = last - first - 4;
        let shown: String = label.chars().take(room).collect();
        let start = first + (last - first + 1 - shown.chars().count() - 2) / 2;
        place_text(&mut row, start, &format!(" {shown} "));
    }
    row.into_iter().collect::<String>().trim_end().to_owned()
}

fn place_text(row: &mut [char], start: usize, text: &str) {
    for (cell, letter) in row.iter_mut().skip(start).zip(text.chars()) {
        *cell = letter;
    }
}

fn list(out: &mut dyn Write, messages: &[LadderMessage], zero: PacketTime) -> io::Result<()> {
    for message in messages {
        writeln!(
            out,
            "{:>9}   {} → {}  {}",
            offset(message.time, zero),
            message.source,
            message.destination,
            message.head.label()
        )?;
    }
    Ok(())
}

/// Seconds from `zero`, to the millisecond.
fn offset(time: PacketTime, zero: PacketTime) -> String {
    format!("{:.3}", seconds_since(time, zero))
}

/// Seconds from `zero` to `time`, to the microsecond, as far as archived times go.
#[must_use]
pub fn seconds_since(time: PacketTime, zero: PacketTime) -> f64 {
    let micros = |time: PacketTime| time.ns().div_euclid(1_000);
    micros(time).saturating_sub(micros(zero)) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(last: u8) -> Endpoint {
        Endpoint::v4([10, 0, 0, last], 5060)
    }

    fn message(ms: i64, from: u8, to: u8, text: &str) -> LadderMessage {
        LadderMessage {
            time: PacketTime::from_ms(ms),
            source: endpoint(from),
            destination: endpoint(to),
            protocol: Protocol::Udp,
            head: MessageHead::read(text.as_bytes()),
        }
    }

    const INVITE: &str = "INVITE sip:b@x SIP/2.0\r\ni: abc@a\r\nCSeq: 7 INVITE\r\n\
        Content-Type: application/sdp\r\n\r\nCSeq: 9 of the body\r\n";

    #[test]
    fn only_the_head_of_a_message_is_read() {
        let head = MessageHead::read(INVITE.as_bytes());
        assert_eq!(head.start_line, "INVITE sip:b@x SIP/2.0");
        assert_eq!((head.call_id.as_str(), head.cseq.as_str()), ("abc@a", "7 INVITE"));
        assert_eq!(head.label(), "INVITE (SDP)");
        let answer = "SIP/2.0 200 OK\r\nCSeq : 7 INVITE\r\n\r\n";
        assert_eq!(MessageHead::read(answer.as_bytes()).label(), "200 OK · INVITE");
    }

    #[test]
    fn every_cut_and_every_odd_byte_of_a_message_is_read_without_a_panic() {
        for cut in 0..INVITE.len() {
            let _ = MessageHead::read(&INVITE.as_bytes()[..cut]).label();
        }
        assert_eq!(MessageHead::read(b"\x1b[2J\xff x").label(), "·[2J\u{fffd}");
    }

    #[test]
    fn arrows_point_from_the_sender_to_the_receiver() {
        let messages = [
            message(1_000, 1, 2, INVITE),
            message(1_020, 2, 3, INVITE),
            message(2_500, 3, 1, "SIP/2.0 486 Busy Here\r\nCSeq: 7 INVITE\r\n\r\n"),
            message(2_600, 2, 2, "ACK x SIP/2.0\r\n\r\n"),
        ];
        let mut text = Vec::new();
        draw(&mut text, &messages, PacketTime::from_ms(1_000)).expect("memory");
        let text = String::from_utf8(text).expect("text");
        let expected = "\
            10.0.0.1:5060                   10.0.0.2:5060                   10.0.0.3:5060\n    \
0.000   │──────── INVITE (SDP) ────────▶│                               │\n    \
0.020   │                               │──────── INVITE (SDP) ────────▶│\n    \
1.500   │◀────────────────── 486 Busy Here · INVITE ────────────────────│\n    \
1.600   │                               │ ⟲ ACK                         │\n";
        assert_eq!(text.trim_start(), expected.trim_start(), "\n{text}");
    }

    #[test]
    fn many_endpoints_are_listed_and_a_long_reason_is_cut() {
        let long = format!("SIP/2.0 500 {}\r\n\r\n", "x".repeat(500));
        let messages: Vec<_> = (1..9).map(|last| message(0, last, last + 1, &long)).collect();
        let mut text = Vec::new();
        draw(&mut text, &messages, PacketTime::from_ms(0)).expect("memory");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("10.0.0.8:5060 → 10.0.0.9:5060  500 xxx"), "{text}");
        let row = arrow(2, 0, 1, &long);
        assert_eq!(row.chars().count(), SPACING + 1);
    }
}
