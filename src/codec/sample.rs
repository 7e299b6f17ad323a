//! Conversions to a 16-bit sample.
//!
//! Purpose: saturation in one place.
//! Invariants: what is out of range becomes the nearest end; what is no number becomes 0.
//! Non-goals: dither.
//! Sources: none.

/// The nearest 16-bit sample.
#[must_use]
pub fn saturate(value: i32) -> i16 {
    i16::try_from(value.clamp(-32_768, 32_767)).unwrap_or(0)
}

/// The nearest 16-bit sample, halves away from zero.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // The cast saturates, and makes NaN 0.
pub fn round_to_sample(value: f32) -> i16 {
    value.round() as i16 // tidy: lossless because rounded before; out of range it saturates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_saturate() {
        assert_eq!([saturate(40_000), saturate(-40_000), saturate(-7)], [32_767, -32_768, -7]);
        assert_eq!([round_to_sample(1e9), round_to_sample(-1e9)], [32_767, -32_768]);
        assert_eq!([round_to_sample(0.5), round_to_sample(-1.5)], [1, -2]);
        assert_eq!(round_to_sample(f32::NAN), 0);
    }
}
