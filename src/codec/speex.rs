//! Speex's payloads: where its frames end.
//!
//! Purpose: cut a payload of several frames, which follow each other bit by bit, into frames that
//! begin on an octet, as libavcodec takes them.
//! Invariants: each step goes forward; nothing is allocated.
//! Non-goals: the coder itself (libavcodec's), in-band messages (skipped), stereo.
//! Sources: RFC 5574 §3.1 (payload, padding), §3.3; the Speex Manual §9.3 and §10.4 (bits of each
//! submode), §9.4 (in-band signalling).

use super::bits::{bits, copy_bits};

/// Octets of the longest frame: the best submodes of all three bands, 492 + 2 × 352 bits.
pub const FRAME_BYTES_MAX: usize = 150;

/// Bits of narrow band's submodes 0 to 8, the flag and the submode's number included.
const NARROW_BITS: [usize; 9] = [5, 43, 119, 160, 220, 300, 364, 492, 79];
/// Bits of a higher band's submodes 0 to 4, likewise.
const HIGH_BITS: [usize; 5] = [4, 36, 112, 192, 352];
/// Bits of in-band messages 0 to 15, without their five bits of head.
const MESSAGE_BITS: [usize; 16] = [1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64];

/// The frames of one payload.
#[derive(Clone, Copy, Debug)]
pub struct SpeexFrames<'a> {
    payload: &'a [u8],
    at_bit: usize,
}

impl<'a> SpeexFrames<'a> {
    /// Of a payload as it came.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { payload, at_bit: 0 }
    }

    /// Copies the next frame to `out` and returns its octets; `None` after the last.
    pub fn next_frame(&mut self, out: &mut [u8; FRAME_BYTES_MAX]) -> Option<usize> {
        self.skip_messages()?;
        let from = self.at_bit;
        let end = self.frame_end(from)?;
        self.at_bit = end;
        copy_bits(self.payload, from, end.saturating_sub(from), out)
    }

    /// Skips requests of user and decoder; `None` where the terminator stands, or nothing.
    fn skip_messages(&mut self) -> Option<()> {
        loop {
            let skipped = match bits(self.payload, self.at_bit, 5)? {
                // A byte count, and four bits that say what for.
                13 => {
                    let octets = bits(self.payload, self.at_bit.saturating_add(5), 5)?;
                    usize::from(octets).saturating_mul(8).saturating_add(10)
                }
                14 => {
                    let code = bits(self.payload, self.at_bit.saturating_add(5), 4)?;
                    MESSAGE_BITS.get(usize::from(code))?.saturating_add(9)
                }
                _ => return Some(()),
            };
            self.at_bit = self.at_bit.saturating_add(skipped);
        }
    }

    /// Where the frame that begins at a position ends: after its narrow band, and the higher bands
    /// that follow.
    fn frame_end(&self, from: usize) -> Option<usize> {
        let submode = bits(self.payload, from, 5)?;
        let mut end = from.saturating_add(*NARROW_BITS.get(usize::from(submode))?);
        for _ in 0..2 {
            // A set bit begins a higher band; without it, the next frame does.
            let Some(head) = bits(self.payload, end, 4).filter(|head| head & 8 != 0) else { break };
            end = end.saturating_add(*HIGH_BITS.get(usize::from(head & 7))?);
        }
        (end <= self.payload.len().saturating_mul(8)).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(bits: &[(u32, usize)]) -> Vec<u8> {
        let all: Vec<u8> = bits
            .iter()
            .flat_map(|(value, count)| (0..*count).rev().map(move |bit| (value >> bit & 1) as u8))
            .collect();
        all.chunks(8)
            .map(|octet| octet.iter().enumerate().fold(0, |sum, (at, bit)| sum | bit << (7 - at)))
            .collect()
    }

    #[test]
    fn frames_are_cut_at_their_bits_and_messages_are_skipped() {
        // Narrow band, submode 1; a message of one bit; narrow band 1 with a higher band of 36.
        let frame = [(1, 5), (0x2b, 32), (0, 6)];
        let payload = octets(
            &[
                &frame[..],
                &[(14, 5), (0, 4), (1, 1)],
                &frame,
                &[(9, 4), (0x7fff_ffff, 32)],
                &[(15, 5)],
            ]
            .concat(),
        );
        let mut frames = SpeexFrames::new(&payload);
        let mut out = [0; FRAME_BYTES_MAX];
        assert_eq!(frames.next_frame(&mut out), Some(6));
        let first = out;
        assert_eq!(frames.next_frame(&mut out), Some(10));
        assert_eq!(out[..5], first[..5]);
        assert_eq!(frames.next_frame(&mut out), None);
    }

    #[test]
    fn garbage_ends() {
        let mut state = 1u32;
        for length in 0..200 {
            let payload: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let mut frames = SpeexFrames::new(&payload);
            let mut out = [0; FRAME_BYTES_MAX];
            let mut count = 0;
            while frames.next_frame(&mut out).is_some() {
                count += 1;
            }
            assert!(count <= length * 8 / 5);
        }
    }
}
