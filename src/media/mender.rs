//! Packets for the holes between Opus packets that are kept as they came.
//!
//! Purpose: where up to three packets are missing, put there what the next one says of them (in-band
//! forward error correction) and what libopus guesses, encoded anew: a player is not told of losses.
//! Invariants: kept packets are untouched; nothing runs, and nothing is allocated, while nothing is
//! lost; the same packets give the same ones.
//! Non-goals: other durations than 20 ms (those are transcoded, see `decoder`).
//! Sources: RFC 6716 §2.1.7 (FEC), §4.4 (concealment), RFC 7845 §4.6 (pre-skip).
//!
//! ```text
//! decoded:  | N−2 | N−1 |  N (lost)  | N+1 |      at the sender's own band
//! encoded:        |warm |  N  |                   each taken 6.5 ms later, which its encoder lags
//! ```

use crate::codec::{EncoderSettings, OpusBandwidth, OpusDecoder, OpusVoiceEncoder, packet_info};

/// Lost packets that are made up for at once: 60 ms.
pub const MENDED_MAX: usize = 3;

/// Packets remembered, for the decoder to settle on.
const REMEMBERED: usize = 2;

/// Complexity of the few packets that are made.
const COMPLEXITY: u8 = 5;

/// Bytes of the longest packet of 20 ms.
const PACKET_BYTES_MAX: usize = 1_276;

/// Remembers a stream's last packets.
#[derive(Debug, Default)]
pub struct Mender {
    recent: [Vec<u8>; REMEMBERED],
    count: usize,
}

impl Mender {
    /// Takes a packet of 20 ms that was kept.
    pub fn remember(&mut self, packet: &[u8]) {
        self.recent.rotate_left(1);
        if let Some(last) = self.recent.last_mut() {
            last.clear();
            last.extend_from_slice(packet);
        }
        self.count = self.count.saturating_add(1).min(REMEMBERED);
    }

    /// What follows is another sound.
    pub fn forget(&mut self) {
        self.count = 0;
    }

    /// Packets for the `missing` ones (at most [`MENDED_MAX`]) between those that were remembered and
    /// `next`; empty where they cannot be made.
    #[must_use]
    pub fn mend(&self, missing: usize, next: &[u8]) -> Vec<Vec<u8>> {
        if self.count == 0 || missing == 0 || missing > MENDED_MAX {
            return Vec::new();
        }
        self.made(missing, next).unwrap_or_default()
    }

    fn made(&self, missing: usize, next: &[u8]) -> Option<Vec<Vec<u8>>> {
        let info = packet_info(next).filter(|info| info.samples_48k == 960)?;
        let rate_hz: u32 = match info.bandwidth {
            OpusBandwidth::Narrow => 8_000,
            OpusBandwidth::Medium => 12_000,
            OpusBandwidth::Wide => 16_000,
            OpusBandwidth::SuperWide => 24_000,
            OpusBandwidth::Full => 48_000,
        };
        let len = usize::try_from(rate_hz / 50).ok()?;
        let mut decoder = OpusDecoder::at_rate(rate_hz).ok()?;
        let known = self.recent.get(REMEMBERED.checked_sub(self.count)?..)?;
        let mut sound = vec![0; (known.len() + missing + 1) * len];
        let (before, rest) = sound.split_at_mut(known.len() * len);
        for (packet, pcm) in known.iter().zip(before.chunks_exact_mut(len)) {
            // One that is refused was silent.
            let _ = decoder.decode(packet, pcm);
        }
        let (lost, after) = rest.split_at_mut(missing * len);
        decoder.conceal(next, lost).ok()?;
        decoder.decode(next, after).ok()?;
        let bitrate = if rate_hz <= 16_000 { 24_000 } else { 32_000 };
        let settings = EncoderSettings { sample_rate_hz: rate_hz, bitrate, complexity: COMPLEXITY };
        let mut encoder = OpusVoiceEncoder::new(settings).ok()?;
        let lag = usize::try_from(encoder.lookahead_48k() * rate_hz / 48_000).ok()?;
        let mut packets = Vec::new();
        for number in known.len() - 1..known.len() + missing {
            let from = number * len + lag;
            let pcm = sound.get(from..from + len)?;
            let mut packet = vec![0; PACKET_BYTES_MAX];
            let written = encoder.encode_20ms(pcm, &mut packet).ok()?;
            packet.truncate(written);
            if number >= known.len() {
                packets.push(packet);
            }
        }
        Some(packets)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // Of test signals.
mod tests {
    use super::*;

    use ::opus::{Application, Bitrate, Channels, Encoder};

    /// Packets of a voice at 16 kHz, with forward error correction.
    fn packets(count: usize) -> Vec<Vec<u8>> {
        let mut encoder =
            Encoder::new(16_000, Channels::Mono, Application::Voip).expect("an encoder");
        encoder.set_bitrate(Bitrate::Bits(24_000)).expect("set");
        encoder.set_inband_fec(true).expect("set");
        encoder.set_packet_loss_perc(20).expect("set");
        let tone = |n: usize| {
            let t = n as f64 / 16_000.0 * std::f64::consts::TAU;
            (4_000.0 * ((t * 140.0).sin() + (t * 280.0).sin() / 2.0 + (t * 700.0).sin() / 3.0))
                as i16
        };
        let sound: Vec<i16> = (0..count * 320).map(tone).collect();
        let encode = |pcm: &[i16]| encoder.encode_vec(pcm, PACKET_BYTES_MAX).expect("encoded");
        sound.chunks_exact(320).map(encode).collect()
    }

    fn played(packets: &[Vec<u8>]) -> Vec<i16> {
        let mut decoder = OpusDecoder::at_rate(16_000).expect("a decoder");
        let mut pcm = vec![0; 320 * packets.len()];
        for (packet, out) in packets.iter().zip(pcm.chunks_exact_mut(320)) {
            decoder.decode(packet, out).expect("decoded");
        }
        pcm
    }

    fn alike(one: &[i16], other: &[i16]) -> f64 {
        let (mut product, mut mine, mut theirs) = (0.0, 1.0, 1.0);
        for (x, y) in one.iter().zip(other) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            product += x * y;
            mine += x * x;
            theirs += y * y;
        }
        product / (mine * theirs).sqrt()
    }

    #[test]
    fn a_hole_sounds_as_in_a_decoder_that_was_told_of_it() {
        let whole = packets(20);
        let theirs = played(&whole);
        for missing in 1..=MENDED_MAX {
            let next = 12 + missing;
            let mut mender = Mender::default();
            whole[..12].iter().for_each(|packet| mender.remember(packet));
            let made = mender.mend(missing, &whole[next]);
            assert_eq!(made.len(), missing);
            let mut mended = whole.clone();
            mended.splice(12..next, made);
            let ours = played(&mended);
            let mut decoder = OpusDecoder::at_rate(16_000).expect("a decoder");
            let mut told = vec![0; 320 * next];
            for (packet, pcm) in whole[..12].iter().zip(told.chunks_exact_mut(320)) {
                decoder.decode(packet, pcm).expect("decoded");
            }
            decoder.conceal(&whole[next], &mut told[12 * 320..]).expect("concealed");
            let hole = 12 * 320..next * 320;
            let mine = alike(&ours[hole.clone()], &theirs[hole.clone()]);
            let best = alike(&told[hole.clone()], &theirs[hole]);
            assert!(mine > best - 0.08, "{missing} missing: {mine}, and {best} at best");
            assert!(missing > 1 || mine > 0.95, "{mine}");
        }
    }

    #[test]
    fn longer_holes_and_first_packets_are_left_alone() {
        let whole = packets(6);
        let mut mender = Mender::default();
        assert!(mender.mend(1, &whole[1]).is_empty());
        mender.remember(&whole[0]);
        assert!(mender.mend(MENDED_MAX + 1, &whole[5]).is_empty());
        assert_eq!(mender.mend(1, &whole[2]).len(), 1);
        assert!(mender.mend(1, &[]).is_empty());
        mender.forget();
        assert!(mender.mend(1, &whole[2]).is_empty());
    }
}
