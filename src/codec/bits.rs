//! Fields that do not begin on an octet.
//!
//! Purpose: read bits, the highest of an octet first, at any position.
//! Invariants: nothing beyond the end is read.
//! Non-goals: writing.
//! Sources: none.

/// Up to eight bits from a position on, the first one highest; `None` beyond the end.
pub(super) fn bits(octets: &[u8], at: usize, count: usize) -> Option<u8> {
    let (octet, shift) = (at / 8, at % 8);
    let high = u16::from(*octets.get(octet)?) << 8;
    let low = if shift.saturating_add(count) > 8 {
        u16::from(*octets.get(octet.saturating_add(1))?)
    } else {
        0
    };
    let [window, _] = ((high | low) << shift).to_be_bytes();
    Some(window.checked_shr(u32::try_from(8usize.saturating_sub(count)).ok()?).unwrap_or(0))
}

/// Copies `count` bits from a position on to the beginning of `out`, and fills the last octet with
/// zeros; returns how many octets that took. `None` beyond the end of either.
pub(super) fn copy_bits(octets: &[u8], at: usize, count: usize, out: &mut [u8]) -> Option<usize> {
    let len = count.div_ceil(8);
    let mut left = count;
    for (octet, number) in out.get_mut(..len)?.iter_mut().zip(0usize..) {
        let taken = left.min(8);
        let from = at.saturating_add(number.saturating_mul(8));
        *octet = bits(octets, from, taken)? << 8usize.saturating_sub(taken);
        left = left.saturating_sub(taken);
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_at_any_position_and_not_beyond_the_end() {
        let octets = [0b1010_1100, 0b0111_0001];
        assert_eq!(bits(&octets, 0, 8), Some(0b1010_1100));
        assert_eq!(bits(&octets, 5, 6), Some(0b10_0011));
        assert_eq!(bits(&octets, 15, 1), Some(1));
        assert_eq!(bits(&octets, 15, 2), None);
        assert_eq!(bits(&octets, 16, 0), None);
        let mut out = [0xff; 2];
        assert_eq!(copy_bits(&octets, 3, 10, &mut out), Some(2));
        assert_eq!(out, [0b0110_0011, 0b1000_0000]);
        assert_eq!(copy_bits(&octets, 7, 10, &mut out), None);
        assert_eq!(copy_bits(&octets, 0, 16, &mut out[..1]), None);
    }
}
