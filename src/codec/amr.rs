//! AMR's and AMR-WB's RTP payloads: which frames are in a packet.
//!
//! Purpose: both layouts (octet-aligned, bandwidth-efficient) to frames as libavcodec takes them.
//! Invariants: a payload is read whole or refused; at most [`FRAMES_MAX`] frames; nothing is
//! allocated.
//! Non-goals: interleaving, CRCs, robust sorting and several channels, which nobody was met using:
//! [`AmrFormat::from_fmtp`] refuses them.
//! Sources: RFC 4867 §4.3 (bandwidth-efficient), §4.4 (octet-aligned), §5.3 (storage), §8.1
//! (parameters); 3GPP TS 26.101 and 26.201 (frame types, bits), TS 26.092 and 26.192 (silence).
//!
//! ```text
//! octet-aligned          | CMR |0000|  |F| FT  |Q|00| …  one octet each   then frames, whole octets
//! bandwidth-efficient    | CMR |F| FT  |Q|F| FT  |Q| …   then frames, bit by bit, and padding
//! ```

use super::bits::{bits, copy_bits};
use super::error::CodecError;
use super::sample::round_to_sample;

/// Frames in one packet: 240 ms of sound.
pub const FRAMES_MAX: usize = 12;

/// Octets of the longest frame with its header: AMR-WB at 23.85 kbit/s, 477 bits.
pub const FRAME_BYTES_MAX: usize = 61;

/// Frame type of "nothing was sent" (RFC 4867 §4.3.2, note).
const NO_DATA: u8 = 15;
/// Frame type of a lost frame, AMR-WB only.
const SPEECH_LOST: u8 = 14;

/// Which of the two coders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmrBand {
    /// AMR, 8 kHz.
    Narrow,
    /// AMR-WB, 16 kHz.
    Wide,
}

impl AmrBand {
    /// Rate of the samples.
    #[must_use]
    pub const fn sample_rate_hz(self) -> u32 {
        match self {
            Self::Narrow => 8_000,
            Self::Wide => 16_000,
        }
    }

    /// Speech (or silence) bits of a frame type; `None` for types that are not sent.
    const fn bits(self, frame_type: u8) -> Option<usize> {
        // TS 26.101 table 1a, TS 26.201 table 1a; the last of each list is the silence frame.
        Some(match (self, frame_type) {
            (Self::Narrow, 0) => 95,
            (Self::Narrow, 1) => 103,
            (Self::Narrow, 2) => 118,
            (Self::Narrow, 3) => 134,
            (Self::Narrow, 4) => 148,
            (Self::Narrow, 5) => 159,
            (Self::Narrow, 6) => 204,
            (Self::Narrow, 7) => 244,
            (Self::Narrow, 8) => 39,
            (Self::Wide, 0) => 132,
            (Self::Wide, 1) => 177,
            (Self::Wide, 2) => 253,
            (Self::Wide, 3) => 285,
            (Self::Wide, 4) => 317,
            (Self::Wide, 5) => 365,
            (Self::Wide, 6) => 397,
            (Self::Wide, 7) => 461,
            (Self::Wide, 8) => 477,
            (Self::Wide, 9) => 40,
            (_, NO_DATA) | (Self::Wide, SPEECH_LOST) => 0,
            _ => return None,
        })
    }

    const fn silence_type(self) -> u8 {
        match self {
            Self::Narrow => 8,
            Self::Wide => 9,
        }
    }
}

/// How frames stand in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmrLayout {
    /// Headers and frames one after the other, bit by bit: what SDP means without a parameter.
    BandwidthEfficient,
    /// Each on whole octets: `octet-align=1`.
    OctetAligned,
}

/// What SDP says of an AMR format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmrFormat {
    /// Which coder.
    pub band: AmrBand,
    /// What `octet-align` says; payloads that contradict it are read as they are.
    pub layout: AmrLayout,
}

impl AmrFormat {
    /// From the parameters of `a=fmtp`; `None` for what is not read: interleaving, CRCs and robust
    /// sorting (RFC 4867 §8.1).
    #[must_use]
    pub fn from_fmtp(band: AmrBand, fmtp: &str) -> Option<Self> {
        let mut layout = AmrLayout::BandwidthEfficient;
        for parameter in fmtp.split(';') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, is_on) = (name.trim(), value.trim() != "0");
            let named = |known: &str| name.eq_ignore_ascii_case(known);
            if named("octet-align") && is_on {
                layout = AmrLayout::OctetAligned;
            } else if named("interleaving") || (is_on && (named("crc") || named("robust-sorting")))
            {
                return None;
            }
        }
        Some(Self { band, layout })
    }

    /// Reads a payload. One that does not quite fit the announced layout and fits the other without a
    /// flaw is read as the other: phones exist that announce one and send the other.
    ///
    /// # Errors
    /// `BadPacket` if it fits neither.
    pub fn frames(self, payload: &[u8]) -> Result<AmrFrames<'_>, CodecError> {
        let other = match self.layout {
            AmrLayout::BandwidthEfficient => AmrLayout::OctetAligned,
            AmrLayout::OctetAligned => AmrLayout::BandwidthEfficient,
        };
        let announced = AmrFrames::read(self.band, self.layout, payload);
        if announced.as_ref().is_some_and(AmrFrames::is_tidy) {
            return announced.ok_or(CodecError::BadPacket);
        }
        let read = AmrFrames::read(self.band, other, payload).filter(AmrFrames::is_tidy);
        read.or(announced).ok_or(CodecError::BadPacket)
    }
}

/// One frame of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmrFrame {
    /// Speech: a header and bits, as RFC 4867 §5.3 stores them, in the first so many octets.
    Speech([u8; FRAME_BYTES_MAX], usize),
    /// Silence at a level, in dB below the overload point; `None` if the frame tells none.
    Silence(Option<u8>),
    /// A frame that was damaged on its way to the sender.
    Bad,
    /// Nothing was sent for this time: a pause goes on.
    NoData,
}

/// The frames of one packet.
#[derive(Clone, Debug)]
pub struct AmrFrames<'a> {
    band: AmrBand,
    layout: AmrLayout,
    payload: &'a [u8],
    headers: [Header; FRAMES_MAX],
    count: usize,
    next: usize,
    at_bit: usize,
}

/// An entry of the table of contents.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    frame_type: u8,
    is_good: bool,
    bits: usize,
}

impl<'a> AmrFrames<'a> {
    /// Reads the table of contents; `None` if what follows is not as long as it says.
    fn read(band: AmrBand, layout: AmrLayout, payload: &'a [u8]) -> Option<Self> {
        let (first, step) = match layout {
            AmrLayout::BandwidthEfficient => (4, 6),
            AmrLayout::OctetAligned => (8, 8),
        };
        let mode_request = bits(payload, 0, 4)?;
        if mode_request != NO_DATA && mode_request >= band.silence_type() {
            return None;
        }
        let mut frames = Self {
            band,
            layout,
            payload,
            headers: [Header::default(); FRAMES_MAX],
            count: 0,
            next: 0,
            at_bit: first,
        };
        let mut follows = true;
        while follows {
            // F, four bits of the type, Q, and with whole octets two of padding.
            let entry = bits(payload, frames.at_bit, 6)?;
            let frame_type = (entry >> 1) & 0x0f;
            let bits = band.bits(frame_type)?;
            let slot = frames.headers.get_mut(frames.count)?;
            *slot = Header { frame_type, is_good: entry & 1 == 1, bits };
            frames.count = frames.count.saturating_add(1);
            frames.at_bit = frames.at_bit.saturating_add(step);
            follows = entry & 0x20 != 0;
        }
        let headers = frames.headers.iter().take(frames.count);
        let frames_bits: usize = headers.map(|header| frames.room(header.bits)).sum();
        let whole = frames.at_bit.saturating_add(frames_bits).div_ceil(8);
        (whole == payload.len()).then_some(frames)
    }

    /// True when all frames are good, and reserved bits and padding are zero, as senders leave them.
    fn is_tidy(&self) -> bool {
        let headers = || self.headers.iter().take(self.count);
        let all_bits: usize = headers().map(|header| self.room(header.bits)).sum();
        let used = self.at_bit.saturating_add(all_bits) % 8;
        let padding = self.payload.last().map_or(0, |last| last << used);
        let mut reserved = 0;
        if self.layout == AmrLayout::OctetAligned {
            let entries = self.payload.iter().skip(1).take(self.count);
            reserved =
                entries.fold(bits(self.payload, 4, 4).unwrap_or(0), |sum, it| sum | (it & 3));
        }
        headers().all(|header| header.is_good) && (used == 0 || padding == 0) && reserved == 0
    }

    /// Bits that a frame of so many takes in the payload.
    const fn room(&self, bits: usize) -> usize {
        match self.layout {
            AmrLayout::BandwidthEfficient => bits,
            AmrLayout::OctetAligned => bits.next_multiple_of(8),
        }
    }

    fn frame(&self, header: Header) -> Option<AmrFrame> {
        if header.frame_type == NO_DATA {
            return Some(AmrFrame::NoData);
        }
        if !header.is_good || header.frame_type == SPEECH_LOST {
            return Some(AmrFrame::Bad);
        }
        if header.frame_type == self.band.silence_type() {
            return Some(AmrFrame::Silence(self.silence_level()));
        }
        let mut stored = [0; FRAME_BYTES_MAX];
        let (first, speech) = stored.split_first_mut()?;
        *first = header.frame_type << 3 | 0x04;
        let len = copy_bits(self.payload, self.at_bit, header.bits, speech)?;
        Some(AmrFrame::Speech(stored, len.saturating_add(1)))
    }

    /// The level of the silence frame that stands next: its logarithmic energy, in the six bits after
    /// the spectrum's (28 in wide band, 29 in narrow), if it is an update (a bit at 35).
    ///
    /// TS 26.092 §5.2 and TS 26.192 §5.2: log2 of the root mean square is index / 4 − 2.5 (of samples
    /// halved before, §3.1 of TS 26.090), and index / 2.625 − 2.
    fn silence_level(&self) -> Option<u8> {
        /// 20 log10(2): decibels of one step of the binary logarithm.
        const DECIBELS: f32 = 6.020_6;
        let at = |offset: usize| self.at_bit.saturating_add(offset);
        if bits(self.payload, at(35), 1)? == 0 {
            return None;
        }
        let log2_rms = match self.band {
            AmrBand::Narrow => f32::from(bits(self.payload, at(29), 6)?) / 4.0 - 1.5,
            AmrBand::Wide => f32::from(bits(self.payload, at(28), 6)?) / 2.625 - 2.0,
        };
        let below = round_to_sample((15.0 - log2_rms) * DECIBELS).clamp(0, 127);
        u8::try_from(below).ok()
    }
}

impl Iterator for AmrFrames<'_> {
    type Item = AmrFrame;

    fn next(&mut self) -> Option<AmrFrame> {
        if self.next >= self.count {
            return None;
        }
        let header = *self.headers.get(self.next)?;
        let frame = self.frame(header)?;
        self.next = self.next.saturating_add(1);
        self.at_bit = self.at_bit.saturating_add(self.room(header.bits));
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANDS: [AmrBand; 2] = [AmrBand::Narrow, AmrBand::Wide];
    const LAYOUTS: [AmrLayout; 2] = [AmrLayout::BandwidthEfficient, AmrLayout::OctetAligned];

    /// A payload, written bit by bit as RFC 4867 draws it: frames of a type, Q, and their bits.
    fn payload(layout: AmrLayout, frames: &[(u8, bool, Vec<bool>)]) -> Vec<u8> {
        let mut all: Vec<bool> = vec![true; 4];
        let push = |all: &mut Vec<bool>, value: u8, count: u8| {
            all.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        };
        let align = |all: &mut Vec<bool>| {
            if layout == AmrLayout::OctetAligned {
                all.resize(all.len().next_multiple_of(8), false);
            }
        };
        align(&mut all);
        for (number, (frame_type, is_good, _)) in frames.iter().enumerate() {
            push(&mut all, u8::from(number + 1 < frames.len()), 1);
            push(&mut all, *frame_type, 4);
            push(&mut all, u8::from(*is_good), 1);
            align(&mut all);
        }
        for (_, _, speech) in frames {
            all.extend(speech);
            align(&mut all);
        }
        all.resize(all.len().next_multiple_of(8), false);
        let octet = |bits: &[bool]| bits.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit));
        all.chunks(8).map(octet).collect()
    }

    fn pattern(count: usize) -> Vec<bool> {
        (0..count).map(|bit| bit * bit % 7 < 3).collect()
    }

    #[test]
    fn every_frame_type_is_found_in_both_layouts_whatever_was_announced() {
        for band in BANDS {
            for sent in LAYOUTS {
                for frame_type in 0..band.silence_type() {
                    let count = band.bits(frame_type).expect("sent");
                    let speech = (frame_type, true, pattern(count));
                    let packet = payload(sent, &[speech.clone(), (15, true, vec![]), speech]);
                    for announced in LAYOUTS {
                        let format = AmrFormat { band, layout: announced };
                        let found: Vec<_> = format.frames(&packet).expect("read").collect();
                        let [AmrFrame::Speech(stored, len), AmrFrame::NoData, last] = found[..]
                        else {
                            panic!("{band:?} {sent:?} {frame_type}: {found:?}");
                        };
                        assert_eq!(len, 1 + count.div_ceil(8));
                        assert_eq!(stored[0], frame_type << 3 | 4);
                        assert_eq!(last, AmrFrame::Speech(stored, len));
                        let wanted = pattern(count);
                        let bit = |at: usize| stored[1 + at / 8] >> (7 - at % 8) & 1 == 1;
                        assert!((0..count).all(|at| bit(at) == wanted[at]));
                    }
                }
            }
        }
    }

    #[test]
    fn silence_tells_its_level_and_bad_frames_are_bad() {
        // Index 36 in narrow band: 2^(36/4 − 1.5) = 181, which is 45 dB below 32 768.
        let mut bits = pattern(39);
        for (bit, value) in
            bits[29..36].iter_mut().zip([true, false, false, true, false, false, true])
        {
            *bit = value;
        }
        let format = AmrFormat { band: AmrBand::Narrow, layout: AmrLayout::OctetAligned };
        let first = |packet: &[u8]| format.frames(packet).expect("read").next().expect("one");
        let packet = payload(format.layout, &[(8, true, bits.clone())]);
        assert_eq!(first(&packet), AmrFrame::Silence(Some(45)));
        bits[35] = false;
        let packet = payload(format.layout, &[(8, true, bits)]);
        assert_eq!(first(&packet), AmrFrame::Silence(None));
        let packet = payload(format.layout, &[(7, false, pattern(244))]);
        assert_eq!(first(&packet), AmrFrame::Bad);
    }

    #[test]
    fn wrong_lengths_types_and_requests_are_refused() {
        let format = AmrFormat { band: AmrBand::Narrow, layout: AmrLayout::OctetAligned };
        let whole = payload(format.layout, &[(7, true, pattern(244))]);
        assert!(format.frames(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(format.frames(&whole[..end]).is_err(), "{end}");
        }
        assert!(format.frames(&[&whole[..], &[0]].concat()).is_err());
        assert!(format.frames(&[0xf0, 9 << 3 | 4]).is_err(), "no such type");
        assert!(format.frames(&[0x90, 15 << 3 | 4]).is_err(), "no such mode");
        let endless = vec![0xfc; 99];
        assert!(format.frames(&endless).is_err());
    }

    #[test]
    fn parameters_choose_the_layout_or_rule_the_format_out() {
        let layout = |fmtp| AmrFormat::from_fmtp(AmrBand::Wide, fmtp).map(|format| format.layout);
        assert_eq!(layout(""), Some(AmrLayout::BandwidthEfficient));
        assert_eq!(layout("mode-set=0,2; octet-align=0"), Some(AmrLayout::BandwidthEfficient));
        assert_eq!(layout("Octet-Align = 1; mode-set=7"), Some(AmrLayout::OctetAligned));
        assert_eq!(layout("octet-align=1; crc=1"), None);
        assert_eq!(layout("octet-align=1;interleaving=30"), None);
        assert_eq!(layout("robust-sorting=0;crc=0"), Some(AmrLayout::BandwidthEfficient));
    }
}
