//! RTP within TURN: what a relayed phone exchanges with its server.
//!
//! Purpose: find the peer's datagram within a channel's or an indication's frame, since ICE's relay
//! candidates carry media that way.
//! Invariants: what is returned lies within the input; linear in it.
//! Non-goals: allocations, permissions, TURN over TCP; anything inside that is no RTP or RTCP.
//! Sources: RFC 8656 §12.4 (ChannelData), §11 (Send and Data indications), RFC 8489 §5 and §14
//! (STUN's header and attributes).
//!
//! ```text
//! | channel 0x4000-0x4fff | length | data … |          | 0x0016 / 0x0017 | length | cookie | id … | DATA … |
//! ```

use super::classify::{Datagram, classify};
use crate::base::Reader;

/// A Send indication (to the server) and a Data indication (from it).
const INDICATIONS: [u16; 2] = [0x0016, 0x0017];

/// The attribute that holds the peer's datagram.
const DATA: u16 = 0x0013;

/// The RTP or RTCP within a TURN frame; `None` for everything else.
#[must_use]
pub fn relayed(payload: &[u8]) -> Option<&[u8]> {
    let inner = match payload.first()? {
        0x40..=0x4f => channel_data(payload)?,
        0 => indication_data(payload)?,
        _ => return None,
    };
    matches!(classify(inner), Datagram::Rtp | Datagram::Rtcp).then_some(inner)
}

/// Over UDP a frame may, but need not, be padded to whole words.
fn channel_data(payload: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(payload);
    let (_, length) = (reader.u16_be()?, reader.u16_be()?);
    let data = reader.take(usize::from(length))?;
    (reader.remaining() < 4).then_some(data)
}

fn indication_data(payload: &[u8]) -> Option<&[u8]> {
    const MAGIC_COOKIE: u32 = 0x2112_a442;
    let mut reader = Reader::new(payload);
    let (kind, length) = (reader.u16_be()?, reader.u16_be()?);
    let cookie = reader.u32_be()?;
    reader.take(12)?;
    if !INDICATIONS.contains(&kind) || cookie != MAGIC_COOKIE {
        return None;
    }
    let mut attributes = Reader::new(reader.take(usize::from(length))?);
    loop {
        let (attribute, length) = (attributes.u16_be()?, usize::from(attributes.u16_be()?));
        let value = attributes.take(length)?;
        if attribute == DATA {
            return Some(value);
        }
        let padding = length.next_multiple_of(4).saturating_sub(length);
        attributes.take(padding)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTP: [u8; 14] = [0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 9, 0xff, 0xff];

    fn channel(inner: &[u8]) -> Vec<u8> {
        [&[0x40, 1, 0, u8::try_from(inner.len()).expect("short")], inner].concat()
    }

    fn indication(inner: &[u8]) -> Vec<u8> {
        let peer = [0, 0x12, 0, 8, 0, 1, 0, 0, 0, 0, 0, 0];
        let data = [&[0, 0x13, 0, u8::try_from(inner.len()).expect("short")], inner].concat();
        let padding = vec![0; data.len().next_multiple_of(4) - data.len()];
        let body = [&peer[..], &data, &padding].concat();
        let header = [0, 0x17, 0, u8::try_from(body.len()).expect("short"), 0x21, 0x12, 0xa4, 0x42];
        [&header[..], &[7; 12], &body].concat()
    }

    #[test]
    fn media_comes_out_of_both_frames_and_nothing_else_does() {
        assert_eq!(relayed(&channel(&RTP)), Some(&RTP[..]));
        assert_eq!(relayed(&[channel(&RTP), vec![0, 0]].concat()), Some(&RTP[..]), "padded");
        assert_eq!(relayed(&indication(&RTP)), Some(&RTP[..]));
        assert_eq!(relayed(&channel(b"a DTLS hello, say")), None);
        assert_eq!(relayed(&[channel(&RTP), vec![0; 4]].concat()), None, "more than padding");
        assert_eq!(relayed(&RTP), None);
    }

    #[test]
    fn a_cut_frame_gives_nothing() {
        for whole in [channel(&RTP), indication(&RTP)] {
            // The last two bytes of an indication are padding.
            for cut in 0..whole.len() - 2 {
                let inner = relayed(&whole[..cut]);
                assert_eq!(inner, None, "cut at {cut}");
            }
        }
    }
}
