//! G.711: A-law and μ-law, one byte a sample at 8 000 Hz.
//!
//! Purpose: expand payloads by table, and compress samples for tests and exports.
//! Invariants: expanding and compressing a code gives the same code (but μ-law's negative zero).
//! Non-goals: packet loss concealment (Appendix I) and comfort noise (Appendix II).
//! Sources: ITU-T G.711 Tables 1a–2b; RFC 3551 §4.5.14 (bit order).

use super::error::CodecError;

/// Decodes one A-law payload into 16-bit linear samples and returns how many it wrote.
///
/// `payload`: one byte per sample, mono, RTP padding already removed. `pcm`: at least as many
/// samples; those beyond are left as they were.
///
/// # Errors
/// `FrameTooLong` if `pcm` is shorter than `payload`; nothing has been written.
/// Source: ITU-T G.711; payload type 8 in RFC 3551 §4.5.14.
pub fn decode_alaw(payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
    decode(&ALAW, payload, pcm)
}

/// Decodes one μ-law payload into 16-bit linear samples and returns how many it wrote.
///
/// `payload`: one byte per sample, mono, RTP padding already removed. `pcm`: at least as many
/// samples; those beyond are left as they were.
///
/// # Errors
/// `FrameTooLong` if `pcm` is shorter than `payload`; nothing has been written.
/// Source: ITU-T G.711; payload type 0 in RFC 3551 §4.5.14.
pub fn decode_ulaw(payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
    decode(&ULAW, payload, pcm)
}

/// Encodes samples as A-law and returns how many bytes it wrote.
///
/// # Errors
/// `FrameTooLong` if `out` is shorter than `pcm`; nothing has been written.
pub fn encode_alaw(pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
    encode(compress_alaw, pcm, out)
}

/// Encodes samples as μ-law and returns how many bytes it wrote.
///
/// # Errors
/// `FrameTooLong` if `out` is shorter than `pcm`; nothing has been written.
pub fn encode_ulaw(pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
    encode(compress_ulaw, pcm, out)
}

fn decode(table: &[i16; 256], payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
    let pcm = pcm.get_mut(..payload.len()).ok_or(CodecError::FrameTooLong)?;
    for (sample, code) in pcm.iter_mut().zip(payload) {
        *sample = table.get(usize::from(*code)).copied().unwrap_or(0);
    }
    Ok(payload.len())
}

fn encode(compress: fn(i16) -> u8, pcm: &[i16], out: &mut [u8]) -> Result<usize, CodecError> {
    let out = out.get_mut(..pcm.len()).ok_or(CodecError::FrameTooLong)?;
    for (code, sample) in out.iter_mut().zip(pcm) {
        *code = compress(*sample);
    }
    Ok(pcm.len())
}

static ALAW: [i16; 256] = alaw_table();
static ULAW: [i16; 256] = ulaw_table();

const fn alaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut rest: &mut [i16] = &mut table;
    let mut code: i16 = 0;
    while let [first, tail @ ..] = rest {
        *first = expand_alaw(code);
        rest = tail;
        code += 1;
    }
    table
}

const fn ulaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut rest: &mut [i16] = &mut table;
    let mut code: i16 = 0;
    while let [first, tail @ ..] = rest {
        *first = expand_ulaw(code);
        rest = tail;
        code += 1;
    }
    table
}

/// 13-bit value of Table 1a in the upper bits of 16: even bits inverted, sign set for positive.
const fn expand_alaw(code: i16) -> i16 {
    let code = code ^ 0x55;
    let segment = (code >> 4) & 7;
    let step = ((code & 15) << 4) + 8;
    let value = if segment == 0 { step } else { (step + 0x100) << (segment - 1) };
    if code & 0x80 == 0 { -value } else { value }
}

/// 14-bit value of Table 2a in the upper bits of 16: all bits inverted, biased by 33 × 4.
const fn expand_ulaw(code: i16) -> i16 {
    let code = code ^ 0xff;
    let value = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
    if code & 0x80 == 0 { value } else { -value }
}

fn compress_alaw(sample: i16) -> u8 {
    // Negative values are ones' complement here, so that −1…−16 share the first negative step.
    let (sign, magnitude) = if sample < 0 { (0, !sample) } else { (0x80, sample) };
    let magnitude = u16::try_from(magnitude).unwrap_or(0);
    let segment = (magnitude >> 8).checked_ilog2().map_or(0, |bit| bit.saturating_add(1));
    let shift = segment.max(1).saturating_add(3);
    pack(sign, segment, magnitude >> shift) ^ 0x55
}

fn compress_ulaw(sample: i16) -> u8 {
    /// 32 635: beyond it the bias would carry into a ninth segment.
    const CLIP: u16 = 0x7fff - 0x84;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs().min(CLIP).saturating_add(0x84);
    let segment = (magnitude >> 7).checked_ilog2().unwrap_or(0);
    !pack(sign, segment, magnitude >> segment.saturating_add(3))
}

/// Sign, three bits of segment, four bits of step.
fn pack(sign: u8, segment: u32, step: u16) -> u8 {
    let segment = u8::try_from(segment & 7).unwrap_or(0) << 4;
    sign | segment | u8::try_from(step & 15).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_codes() -> Vec<u8> {
        (0..=255).collect()
    }

    #[test]
    fn decision_values_are_those_of_the_tables() {
        let mut pcm = [0; 6];
        // G.711 Table 1a: character signals 0xD5 (smallest), 0xAA (largest), and their negatives.
        decode_alaw(&[0xd5, 0x55, 0xaa, 0x2a, 0xc5, 0x80], &mut pcm).expect("room");
        assert_eq!(pcm, [8, -8, 32_256, -32_256, 264, 5_504]);
        // G.711 Table 2a: both zeros, the largest, the smallest steps.
        decode_ulaw(&[0xff, 0x7f, 0x80, 0x00, 0xfe, 0x7e], &mut pcm).expect("room");
        assert_eq!(pcm, [0, 0, 32_124, -32_124, 8, -8]);
    }

    #[test]
    fn every_code_survives_expanding_and_compressing() {
        let (mut pcm, mut codes) = ([0; 256], [0; 256]);
        decode_alaw(&all_codes(), &mut pcm).expect("room");
        encode_alaw(&pcm, &mut codes).expect("room");
        assert_eq!(codes.to_vec(), all_codes());
        decode_ulaw(&all_codes(), &mut pcm).expect("room");
        encode_ulaw(&pcm, &mut codes).expect("room");
        let mut expected = all_codes();
        expected[0x7f] = 0xff; // negative zero
        assert_eq!(codes.to_vec(), expected);
    }

    #[test]
    fn compressing_takes_the_nearest_step() {
        let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut codes = vec![0; samples.len()];
        let mut decoded = vec![0; samples.len()];
        for (encode, decode) in [
            (encode_alaw as fn(&[i16], &mut [u8]) -> _, decode_alaw as fn(&[u8], &mut [i16]) -> _),
            (encode_ulaw, decode_ulaw),
        ] {
            encode(&samples, &mut codes).expect("room");
            decode(&codes, &mut decoded).expect("room");
            for (sample, decoded) in samples.iter().zip(&decoded) {
                let (sample, decoded) = (i32::from(*sample), i32::from(*decoded));
                let tolerance = 8.max((sample.abs() + 132) / 32 + 4).max(sample.abs() - 32_124);
                assert!((sample - decoded).abs() <= tolerance, "{sample} became {decoded}");
            }
        }
    }

    #[test]
    fn a_buffer_too_short_is_refused_and_left_alone() {
        let mut pcm = [7; 3];
        assert_eq!(decode_ulaw(&[0; 4], &mut pcm), Err(CodecError::FrameTooLong));
        assert_eq!(encode_alaw(&[0; 4], &mut [0; 3]), Err(CodecError::FrameTooLong));
        assert_eq!(pcm, [7; 3]);
        assert_eq!(decode_alaw(&[], &mut pcm), Ok(0));
    }
}
