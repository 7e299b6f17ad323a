//! What is missing from a recording, and why.
//!
//! Purpose: a list of gaps, so that what was not captured never looks like spoken silence.
//! Invariants: gaps of one channel do not overlap; at most `GAPS_PER_CALL_MAX` are listed, later
//! ones are added to the last.
//! Non-goals: concealment itself (see `decoder`): a gap only says how much of it was filled.
//! Sources: the design's JSON contract (reasons).

use crate::base::Channel;
use crate::base::limits::GAPS_PER_CALL_MAX;
use crate::base::time::NS_PER_MS;

/// Why a stretch of a channel is not in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Packets never passed the tap.
    Lost,
    /// They came after their place had been written.
    Late,
    /// SDP announced a hold.
    Hold,
    /// A codec that cannot be decoded here.
    Undecodable,
    /// SRTP without its keys.
    Encrypted,
    /// A fax, whose packets are kept as they came.
    Fax,
    /// callspan dropped them under load.
    Dropped,
}

impl GapReason {
    /// As the JSON contract has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Late => "late",
            Self::Hold => "hold",
            Self::Undecodable => "undecodable",
            Self::Encrypted => "encrypted",
            Self::Fax => "fax",
            Self::Dropped => "dropped",
        }
    }
}

/// One gap; times in ns from the start of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose sound is missing.
    pub channel: Channel,
    /// First missing moment.
    pub from_ns: i64,
    /// First present one.
    pub to_ns: i64,
    /// Why.
    pub reason: GapReason,
    /// How much of it, from its beginning, sounds of what the packets around it let guess or say.
    pub concealed_ns: i64,
}

impl Gap {
    /// A gap that is silent.
    #[must_use]
    pub const fn silent(channel: Channel, (from_ns, to_ns): (i64, i64), reason: GapReason) -> Self {
        Self { channel, from_ns, to_ns, reason, concealed_ns: 0 }
    }
}

/// Gaps closer than this are one.
const MERGE_NS: i64 = NS_PER_MS;

/// The gaps of one call.
#[derive(Clone, Debug, Default)]
pub struct GapLog {
    gaps: Vec<Gap>,
}

impl GapLog {
    /// Notes that `[from_ns, to_ns)` of a channel is missing. A moment that is noted twice has the
    /// later reason: what was lost and then came is late.
    pub fn note(&mut self, gap: Gap) {
        let mut gap = Gap { from_ns: gap.from_ns.max(0), ..gap };
        if gap.to_ns <= gap.from_ns {
            return;
        }
        let concealed_ns = self.clear(gap.channel, gap.from_ns, gap.to_ns);
        gap.concealed_ns = gap.concealed_ns.max(concealed_ns).min(gap.to_ns - gap.from_ns);
        let near = |known: &&mut Gap| {
            known.channel == gap.channel
                && known.reason == gap.reason
                && known.from_ns <= gap.to_ns.saturating_add(MERGE_NS)
                && gap.from_ns <= known.to_ns.saturating_add(MERGE_NS)
        };
        // A gap touches only its neighbours in time, which are the last that were noted.
        if let Some(known) = self.gaps.iter_mut().rev().take(8).find(near) {
            known.from_ns = known.from_ns.min(gap.from_ns);
            known.to_ns = known.to_ns.max(gap.to_ns);
            known.concealed_ns = known.concealed_ns.saturating_add(gap.concealed_ns);
        } else if self.gaps.len() < GAPS_PER_CALL_MAX {
            self.gaps.push(gap);
        } else if let Some(last) = self.gaps.last_mut() {
            last.to_ns = last.to_ns.saturating_add(gap.to_ns - gap.from_ns);
            last.concealed_ns = last.concealed_ns.saturating_add(gap.concealed_ns);
        }
    }

    /// Sound stands at `[from_ns, to_ns)` after all; returns how much of it was concealed.
    pub fn clear(&mut self, channel: Channel, from_ns: i64, to_ns: i64) -> i64 {
        let mut concealed_ns = 0i64;
        let mut at = self.gaps.len();
        let mut looked_at = 0;
        while at > 0 && looked_at < 16 {
            at -= 1;
            looked_at += 1;
            let Some(known) = self.gaps.get(at).copied() else { break };
            if known.channel != channel || known.to_ns <= from_ns || known.from_ns >= to_ns {
                continue;
            }
            self.gaps.remove(at);
            // What is concealed of a gap is its beginning.
            let len_before = from_ns.saturating_sub(known.from_ns).max(0);
            let len_cut = to_ns.min(known.to_ns).saturating_sub(from_ns.max(known.from_ns));
            let before_ns = known.concealed_ns.min(len_before);
            let cut_ns = known.concealed_ns.saturating_sub(before_ns).min(len_cut);
            concealed_ns = concealed_ns.saturating_add(cut_ns);
            let after_ns = known.concealed_ns.saturating_sub(before_ns).saturating_sub(cut_ns);
            let before = Gap { to_ns: from_ns, concealed_ns: before_ns, ..known };
            let after = Gap { from_ns: to_ns, concealed_ns: after_ns, ..known };
            for part in [after, before] {
                if part.to_ns > part.from_ns && self.gaps.len() < GAPS_PER_CALL_MAX {
                    self.gaps.insert(at, part);
                }
            }
        }
        concealed_ns
    }

    /// All gaps up to `end_ns`, in order of time, left channel first.
    #[must_use]
    pub fn sorted(&self, end_ns: i64) -> Vec<Gap> {
        let within = self.gaps.iter().filter(|gap| gap.from_ns < end_ns);
        let cut = |gap: &Gap| {
            let to_ns = gap.to_ns.min(end_ns);
            Gap { to_ns, concealed_ns: gap.concealed_ns.min(to_ns - gap.from_ns), ..*gap }
        };
        let mut gaps: Vec<Gap> = within.map(cut).collect();
        gaps.sort_by_key(|gap| (gap.from_ns, gap.channel));
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(from_ms: i64, to_ms: i64, reason: GapReason) -> Gap {
        let (from_ns, to_ns) = (from_ms * NS_PER_MS, to_ms * NS_PER_MS);
        Gap::silent(Channel::Caller, (from_ns, to_ns), reason)
    }

    #[test]
    fn neighbours_merge_and_what_came_late_is_no_longer_lost() {
        let mut log = GapLog::default();
        log.note(gap(100, 120, GapReason::Lost));
        log.note(gap(120, 160, GapReason::Lost));
        assert_eq!(log.sorted(i64::MAX), [gap(100, 160, GapReason::Lost)]);
        log.note(gap(120, 140, GapReason::Late));
        let expected = [
            gap(100, 120, GapReason::Lost),
            gap(120, 140, GapReason::Late),
            gap(140, 160, GapReason::Lost),
        ];
        assert_eq!(log.sorted(i64::MAX), expected);
        assert_eq!(log.sorted(110 * NS_PER_MS), [gap(100, 110, GapReason::Lost)]);
    }

    #[test]
    fn what_was_concealed_stays_with_its_part_of_the_gap() {
        let concealed = |it: Gap, ms: i64| Gap { concealed_ns: ms * NS_PER_MS, ..it };
        let mut log = GapLog::default();
        log.note(concealed(gap(100, 200, GapReason::Lost), 60));
        log.note(concealed(gap(200, 220, GapReason::Lost), 20));
        assert_eq!(log.sorted(i64::MAX), [concealed(gap(100, 220, GapReason::Lost), 80)]);
        log.note(gap(140, 160, GapReason::Late));
        let expected = [
            concealed(gap(100, 140, GapReason::Lost), 40),
            concealed(gap(140, 160, GapReason::Late), 20),
            concealed(gap(160, 220, GapReason::Lost), 20),
        ];
        assert_eq!(log.sorted(i64::MAX), expected);
        let cut = concealed(gap(100, 110, GapReason::Lost), 10);
        assert_eq!(log.sorted(110 * NS_PER_MS), [cut]);
    }

    #[test]
    fn the_list_is_bounded_and_keeps_the_sum() {
        let mut log = GapLog::default();
        for number in 0..(GAPS_PER_CALL_MAX as i64 + 5) {
            log.note(gap(number * 100, number * 100 + 20, GapReason::Lost));
        }
        let gaps = log.sorted(i64::MAX);
        assert_eq!(gaps.len(), GAPS_PER_CALL_MAX);
        let sum: i64 = gaps.iter().map(|gap| gap.to_ns - gap.from_ns).sum();
        assert_eq!(sum, (GAPS_PER_CALL_MAX as i64 + 5) * 20 * NS_PER_MS);
    }
}
