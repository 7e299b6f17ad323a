//! A hash that is the same in every run and on every machine.
//!
//! Purpose: names for transactions and contents that may appear in output.
//! Invariants: fields are separated, so `ab`+`c` and `a`+`bc` differ.
//! Non-goals: resisting someone who wants collisions; map keys from the wire use a seeded hash.
//! Sources: FNV-1a (the constants of its 64-bit form), SplitMix64 (the mixers).

/// Running state; begins at the FNV offset basis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StableHash(u64);

const PRIME: u64 = 0x0000_0100_0000_01b3;
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

impl StableHash {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn step(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(PRIME);
    }

    /// One field, byte by byte (plain FNV-1a), then a separator no byte can be.
    pub(crate) fn field(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            self.step(u64::from(byte));
        }
        self.step(0x100);
    }

    /// Long content, eight bytes a step: a byte a step would cost a microsecond a message. Each
    /// word is mixed before it goes in, because a multiplication alone never carries high bits
    /// down, and a change in one word could be undone by a change in the next.
    pub(crate) fn content(&mut self, mut bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        while let Some((word, rest)) = bytes.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*word).wrapping_mul(MIXER);
            self.step(word ^ (word >> 32));
            self.0 = self.0.rotate_left(29);
            bytes = rest;
        }
        self.field(bytes.iter().copied());
        self.step(len);
    }

    pub(crate) const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let of = |fields: &[&[u8]]| {
            let mut hash = StableHash::new();
            for field in fields {
                hash.field(field.iter().copied());
            }
            hash.finish()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
    }

    #[test]
    fn every_bit_of_the_content_counts() {
        let of = |bytes: &[u8]| {
            let mut hash = StableHash::new();
            hash.content(bytes);
            hash.finish()
        };
        let plain = [7u8; 37];
        let mut seen = std::collections::BTreeSet::from([of(&plain), of(&plain[..36])]);
        for index in 0..plain.len() {
            for bit in 0..8 {
                let mut changed = plain;
                changed[index] ^= 1 << bit;
                assert!(seen.insert(of(&changed)), "byte {index} bit {bit}");
            }
        }
    }
}
