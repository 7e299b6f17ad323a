//! Payload formats of a media section.
//!
//! Purpose: what a payload type means, from rtpmap or, for static types, from RFC 3551.
//! Invariants: encoding names are upper-case graphic ASCII of at most 32 characters.
//! Non-goals: whether it can be decoded (see `codec`).
//! Sources: RFC 3551 §6, tables 4 and 5; RFC 8866 §6.6 (rtpmap), §6.15 (fmtp).

use super::lines::{decimal, split_word};

/// Characters kept of an encoding name; registered ones have at most 24.
const ENCODING_CHARS_MAX: usize = 32;

/// One payload format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format<'a> {
    /// RTP payload type, 0–127.
    pub payload_type: u8,
    /// Encoding name, upper case; empty for a dynamic type without rtpmap.
    pub encoding: String,
    /// RTP clock rate; 0 where unknown.
    pub clock_hz: u32,
    /// Channels, at least 1.
    pub channels: u8,
    /// The parameters of `a=fmtp`, after the payload type.
    pub fmtp: Option<&'a [u8]>,
}

impl Format<'_> {
    /// What the payload type means without rtpmap.
    #[must_use]
    pub fn of_static_type(payload_type: u8) -> Self {
        let (encoding, clock_hz, channels) = static_type(payload_type);
        Self { payload_type, encoding: encoding.to_owned(), clock_hz, channels, fmtp: None }
    }

    /// Applies `<encoding>/<clock rate>[/<channels>]`; what is unreadable stays as it was.
    pub(crate) fn apply_rtpmap(&mut self, value: &[u8]) {
        let mut parts = value.split(|byte| *byte == b'/');
        let name = split_word(parts.next().unwrap_or(&[])).0;
        let name: String = name
            .iter()
            .filter(|byte| byte.is_ascii_graphic())
            .take(ENCODING_CHARS_MAX)
            .map(|byte| char::from(byte.to_ascii_uppercase()))
            .collect();
        if name.is_empty() {
            return;
        }
        let mut number = || parts.next().and_then(|digits| decimal(split_word(digits).0));
        let clock_hz = number().and_then(|clock| u32::try_from(clock).ok());
        let channels = number().and_then(|channels| u8::try_from(channels).ok());
        if self.encoding != name {
            self.clock_hz = 0;
        }
        self.encoding = name;
        self.clock_hz = clock_hz.unwrap_or(self.clock_hz);
        self.channels = channels.unwrap_or(1).max(1);
    }
}

/// RFC 3551 tables 4 and 5. G.722's clock is 8 000 Hz although it samples at 16 000 (§4.5.2).
const fn static_type(payload_type: u8) -> (&'static str, u32, u8) {
    match payload_type {
        0 => ("PCMU", 8_000, 1),
        3 => ("GSM", 8_000, 1),
        4 => ("G723", 8_000, 1),
        5 => ("DVI4", 8_000, 1),
        6 => ("DVI4", 16_000, 1),
        7 => ("LPC", 8_000, 1),
        8 => ("PCMA", 8_000, 1),
        9 => ("G722", 8_000, 1),
        10 => ("L16", 44_100, 2),
        11 => ("L16", 44_100, 1),
        12 => ("QCELP", 8_000, 1),
        // 19 was comfort noise in drafts, and is in old Cisco gear.
        13 | 19 => ("CN", 8_000, 1),
        14 => ("MPA", 90_000, 1),
        15 => ("G728", 8_000, 1),
        16 => ("DVI4", 11_025, 1),
        17 => ("DVI4", 22_050, 1),
        18 => ("G729", 8_000, 1),
        25 => ("CELB", 90_000, 1),
        26 => ("JPEG", 90_000, 1),
        28 => ("NV", 90_000, 1),
        31 => ("H261", 90_000, 1),
        32 => ("MPV", 90_000, 1),
        33 => ("MP2T", 90_000, 1),
        34 => ("H263", 90_000, 1),
        // G.721, now G726-32, was 2 in RFC 1890 and is still sent by old adapters.
        2 => ("G726-32", 8_000, 1),
        _ => ("", 0, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_types_need_no_rtpmap_and_rtpmap_wins() {
        let mut format = Format::of_static_type(0);
        assert_eq!(
            (format.encoding.as_str(), format.clock_hz, format.channels),
            ("PCMU", 8_000, 1)
        );
        format.apply_rtpmap(b"opus/48000/2");
        assert_eq!(
            (format.encoding.as_str(), format.clock_hz, format.channels),
            ("OPUS", 48_000, 2)
        );
        format.apply_rtpmap(b"/1");
        assert_eq!((format.encoding.as_str(), format.clock_hz), ("OPUS", 48_000));
        assert_eq!(Format::of_static_type(96).encoding, "");
    }

    #[test]
    fn hostile_rtpmaps_are_cut_or_ignored() {
        let mut format = Format::of_static_type(8);
        format.apply_rtpmap(b"PCMA");
        assert_eq!((format.clock_hz, format.channels), (8_000, 1));
        format.apply_rtpmap(b"PCMA/99999999999/0");
        assert_eq!((format.clock_hz, format.channels), (8_000, 1));
        format.apply_rtpmap(&[b"x\xff".repeat(99).as_slice(), b"/16000/300"].concat());
        assert_eq!(format.encoding, "X".repeat(ENCODING_CHARS_MAX));
        assert_eq!((format.clock_hz, format.channels), (16_000, 1));
    }
}
