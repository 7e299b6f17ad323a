//! The capture clock: when a frame passed the tap.
//!
//! Purpose: one type for packet time, so that it is never mistaken for RTP or wall time.
//! Invariants: arithmetic saturates, so a hostile timestamp cannot overflow.
//! Non-goals: calendar dates (see `cli::when`) and reading a clock.
//! Sources: none; nanoseconds since 1970-01-01T00:00:00Z.

/// Nanoseconds since the Unix epoch, as captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketTime(i64);

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;
/// Nanoseconds in a second.
pub const NS_PER_S: i64 = 1_000_000_000;

impl PacketTime {
    /// The earliest time there is: before any frame.
    pub const MIN: Self = Self(i64::MIN);
    /// Later than any frame: at the end of a file, every timer is due.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// From whole milliseconds since the epoch.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms.saturating_mul(NS_PER_MS))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn ns(self) -> i64 {
        self.0
    }

    /// Nanoseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub const fn ns_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole milliseconds from `earlier` to `self`, rounded towards zero.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> i64 {
        self.ns_since(earlier) / NS_PER_MS
    }

    /// This time, `ms` milliseconds later (earlier when negative).
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        self.plus_ns(ms.saturating_mul(NS_PER_MS))
    }

    /// This time, `ns` nanoseconds later (earlier when negative).
    #[must_use]
    pub const fn plus_ns(self, ns: i64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_signed_and_saturate() {
        let early = PacketTime::from_ms(1_000);
        assert_eq!(early.plus_ms(250).ms_since(early), 250);
        assert_eq!(early.ms_since(early.plus_ms(250)), -250);
        assert_eq!(PacketTime::MAX.ns_since(PacketTime::MIN), i64::MAX);
        assert_eq!(PacketTime::MAX.plus_ms(1), PacketTime::MAX);
    }
}
