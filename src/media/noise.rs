//! Stretches of comfort noise: where a sender said that it is silent.
//!
//! Purpose: fill what no packet fills, from a silence packet until sound goes on.
//! Invariants: stretches are in order and do not overlap; at most `SPANS_MAX` are held, the oldest
//! goes.
//! Non-goals: making noise (see `codec::comfort_noise`), gaps: what was lost stays silent.
//! Sources: RFC 3389 §4 (noise until the next packet).

use crate::codec::ComfortNoise;
use std::collections::VecDeque;

/// Stretches held: silence and speech of 20 ms in turn, for the longest hold time (four seconds).
const SPANS_MAX: usize = 100;

/// One stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseSpan {
    /// Level and colour.
    pub noise: ComfortNoise,
    /// Where it begins, in ns from the recording's start.
    pub from_ns: i64,
    /// Where sound goes on; `i64::MAX` until that is known.
    pub until_ns: i64,
}

/// The stretches of one channel.
#[derive(Clone, Debug, Default)]
pub struct NoiseSpans {
    spans: VecDeque<NoiseSpan>,
}

impl NoiseSpans {
    /// The sender is silent from a moment on.
    pub fn begin(&mut self, noise: ComfortNoise, from_ns: i64) {
        if self.spans.back().is_some_and(|last| last.until_ns == i64::MAX && last.noise == noise) {
            return;
        }
        self.end(from_ns);
        if self.spans.len() >= SPANS_MAX {
            self.spans.pop_front();
        }
        self.spans.push_back(NoiseSpan { noise, from_ns, until_ns: i64::MAX });
    }

    /// Sound goes on at a moment.
    pub fn end(&mut self, at_ns: i64) {
        if let Some(last) = self.spans.back_mut() {
            last.until_ns = last.until_ns.min(at_ns);
        }
    }

    /// Those that lie between two moments, at least partly.
    pub fn within(&self, from_ns: i64, to_ns: i64) -> impl Iterator<Item = &NoiseSpan> {
        self.spans.iter().filter(move |span| span.from_ns < to_ns && span.until_ns > from_ns)
    }

    /// Drops those that ended before a moment.
    pub fn forget(&mut self, before_ns: i64) {
        while self.spans.front().is_some_and(|span| span.until_ns <= before_ns) {
            self.spans.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(level: u8) -> ComfortNoise {
        ComfortNoise::parse(&[level]).expect("a level")
    }

    #[test]
    fn pauses_shortly_after_each_other_are_all_kept() {
        let mut spans = NoiseSpans::default();
        spans.begin(noise(50), 100);
        spans.end(200);
        spans.begin(noise(60), 300);
        spans.begin(noise(60), 320);
        spans.begin(noise(70), 340);
        let found: Vec<_> = spans.within(0, 1_000).map(|it| (it.from_ns, it.until_ns)).collect();
        assert_eq!(found, [(100, 200), (300, 340), (340, i64::MAX)]);
        assert_eq!(spans.within(200, 300).count(), 0);
        spans.forget(340);
        assert_eq!(spans.within(0, 1_000).count(), 1);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut spans = NoiseSpans::default();
        for number in 0..1_000 {
            spans.begin(noise(50), number * 40);
            spans.end(number * 40 + 20);
        }
        assert_eq!(spans.within(0, i64::MAX).count(), SPANS_MAX);
    }
}
