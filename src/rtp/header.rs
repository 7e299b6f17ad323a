//! The RTP header, validated once and then read without failing.
//!
//! Purpose: fields and payload of one RTP packet, without CSRC list, extension and padding.
//! Invariants: a view exists only if every length that the header states fits the packet.
//! Non-goals: the meaning of extensions (RFC 8285) and SRTP, whose padding is encrypted.
//! Sources: RFC 3550 §5.1 (header), §5.3.1 (extension).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |                    CSRC, CC times 32 bits                     |
//! |  profile-defined (if X)       |  length in 32-bit words       |
//! ```

use crate::base::{PayloadType, Reader, Ssrc};

/// Bytes of the header that every packet has.
pub const FIXED_HEADER_LEN_BYTES: usize = 12;

/// Why a packet is not RTP that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RtpReject {
    /// Fewer than twelve bytes.
    ShortHeader,
    /// The version is not 2.
    BadVersion,
    /// The CSRC list runs past the end.
    ShortCsrcList,
    /// The header extension runs past the end.
    ShortExtension,
    /// The padding is announced, but its count is zero or longer than what is there.
    BadPadding,
}

impl RtpReject {
    /// Metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ShortHeader => "short_header",
            Self::BadVersion => "bad_version",
            Self::ShortCsrcList => "short_csrc_list",
            Self::ShortExtension => "short_extension",
            Self::BadPadding => "bad_padding",
        }
    }
}

/// A header extension: its profile-defined number and its words (RFC 3550 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpExtension<'a> {
    /// The 16 bits "defined by profile".
    pub profile: u16,
    /// The extension's words, a multiple of four bytes.
    pub data: &'a [u8],
}

/// One RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpView<'a> {
    flags: u8,
    marker_and_type: u8,
    seq: u16,
    timestamp: u32,
    ssrc: u32,
    extension: Option<RtpExtension<'a>>,
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> RtpView<'a> {
    /// Reads a UDP payload as one RTP packet.
    ///
    /// # Errors
    /// See [`RtpReject`]; nothing of the packet can be used then.
    /// Source: RFC 3550 §5.1, and A.1 for the checks.
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpReject> {
        let mut view = Self::parse_header(packet)?;
        if view.has_padding() {
            let count = view.payload.last().copied().map_or(0, usize::from);
            let kept = view.payload.len().checked_sub(count).ok_or(RtpReject::BadPadding)?;
            if count == 0 {
                return Err(RtpReject::BadPadding);
            }
            view.payload = view.payload.get(..kept).ok_or(RtpReject::BadPadding)?;
        }
        Ok(view)
    }

    /// Reads the header alone: the payload is whatever follows, padding still in it.
    ///
    /// For packets of which only the header was kept, and for SRTP, whose padding count cannot be
    /// read before decryption (RFC 3711 §3.1).
    ///
    /// # Errors
    /// See [`RtpReject`]; never `BadPadding`.
    pub fn parse_header(packet: &'a [u8]) -> Result<Self, RtpReject> {
        let mut reader = Reader::new(packet);
        let fixed: [u8; 12] = reader.array().ok_or(RtpReject::ShortHeader)?;
        let [flags, marker_and_type, seq_high, seq_low, t0, t1, t2, t3, s0, s1, s2, s3] = fixed;
        if flags >> 6 != 2 {
            return Err(RtpReject::BadVersion);
        }
        let csrc_count = usize::from(flags & 0x0f);
        reader.take(csrc_count.saturating_mul(4)).ok_or(RtpReject::ShortCsrcList)?;
        let mut extension = None;
        if flags & 0x10 != 0 {
            let profile = reader.u16_be().ok_or(RtpReject::ShortExtension)?;
            let words = reader.u16_be().ok_or(RtpReject::ShortExtension)?;
            let len_bytes = usize::from(words).saturating_mul(4);
            let data = reader.take(len_bytes).ok_or(RtpReject::ShortExtension)?;
            extension = Some(RtpExtension { profile, data });
        }
        let payload = reader.rest();
        let header_len_bytes = packet.len().saturating_sub(payload.len());
        Ok(Self {
            flags,
            marker_and_type,
            seq: u16::from_be_bytes([seq_high, seq_low]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            extension,
            header: packet.get(..header_len_bytes).unwrap_or_default(),
            payload,
        })
    }

    /// The marker bit; in audio, the first packet after a silence (RFC 3551 §4.1).
    #[must_use]
    pub const fn marker(&self) -> bool {
        self.marker_and_type & 0x80 != 0
    }

    /// The payload type.
    #[must_use]
    pub const fn payload_type(&self) -> PayloadType {
        PayloadType(self.marker_and_type & 0x7f)
    }

    /// The sequence number, as on the wire.
    #[must_use]
    pub const fn seq(&self) -> u16 {
        self.seq
    }

    /// The RTP timestamp, in ticks of the payload's clock.
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Who sent the stream.
    #[must_use]
    pub const fn ssrc(&self) -> Ssrc {
        Ssrc(self.ssrc)
    }

    /// Contributing sources listed, 0–15.
    #[must_use]
    pub const fn csrc_count(&self) -> u8 {
        self.flags & 0x0f
    }

    /// True when the packet announces padding.
    #[must_use]
    pub const fn has_padding(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// The header extension, if there is one.
    #[must_use]
    pub const fn extension(&self) -> Option<RtpExtension<'a>> {
        self.extension
    }

    /// The payload; padding and extension removed.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Everything before the payload: fixed header, CSRC list and extension.
    ///
    /// Read it back with [`RtpView::parse_header`]: the padding bit may be set in it.
    #[must_use]
    pub const fn header_bytes(&self) -> &'a [u8] {
        self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V=2, padding, extension, one CSRC; PCMA, marker; two payload bytes, padding of three.
    const FULL: [u8; 29] = [
        0xb1, 0x88, 0x12, 0x34, 0, 0, 0x01, 0x02, 0xde, 0xad, 0xbe, 0xef, // fixed
        0, 0, 0, 7, // CSRC
        0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0, // extension of one word
        0xaa, 0xbb, 0, 0, 3, // payload and padding
    ];

    #[test]
    fn every_field_is_read_and_padding_and_extension_are_not_payload() {
        let view = RtpView::parse(&FULL).expect("valid");
        assert!(view.marker());
        assert_eq!(view.payload_type(), PayloadType(8));
        assert_eq!((view.seq(), view.timestamp(), view.csrc_count()), (0x1234, 0x0102, 1));
        assert_eq!(view.ssrc(), Ssrc(0xdead_beef));
        let extension = view.extension().expect("present");
        assert_eq!((extension.profile, extension.data), (0xbede, &FULL[20..24]));
        assert_eq!(view.payload(), &[0xaa, 0xbb]);
        assert_eq!(view.header_bytes(), &FULL[..24]);
    }

    #[test]
    fn a_cut_at_every_length_is_refused_or_changes_only_the_payload() {
        for cut in 0..FULL.len() {
            let expected = match cut {
                0..=11 => RtpReject::ShortHeader,
                12..=15 => RtpReject::ShortCsrcList,
                16..=23 => RtpReject::ShortExtension,
                // The last byte left is then read as the padding count: 0xbb, 0xaa or 0.
                _ => RtpReject::BadPadding,
            };
            assert_eq!(RtpView::parse(&FULL[..cut]), Err(expected), "cut at {cut}");
        }
    }

    #[test]
    fn padding_may_be_all_there_is_but_never_more_and_never_zero() {
        let mut packet = FULL;
        packet[28] = 5;
        assert_eq!(RtpView::parse(&packet).expect("only padding").payload(), b"");
        packet[28] = 6;
        assert_eq!(RtpView::parse(&packet), Err(RtpReject::BadPadding));
        packet[28] = 0;
        assert_eq!(RtpView::parse(&packet), Err(RtpReject::BadPadding));
        assert_eq!(RtpView::parse_header(&packet).expect("header").payload(), &packet[24..]);
    }

    #[test]
    fn a_kept_header_reads_back_without_its_payload() {
        let header = RtpView::parse(&FULL).expect("valid").header_bytes();
        let again = RtpView::parse_header(header).expect("valid");
        assert_eq!((again.seq(), again.payload()), (0x1234, &b""[..]));
    }

    #[test]
    fn only_version_two_is_rtp() {
        for version in [0u8, 1, 3] {
            let mut packet = FULL;
            packet[0] = version << 6 | 0x31;
            assert_eq!(RtpView::parse(&packet), Err(RtpReject::BadVersion));
        }
    }

    #[test]
    fn an_extension_may_be_empty() {
        let packet = [0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9];
        let view = RtpView::parse(&packet).expect("valid");
        assert_eq!(view.extension().expect("present").data, b"");
        assert_eq!(view.payload(), &[9]);
    }
}
