//! Whether a call is a fax, and since when.
//!
//! Purpose: say that what sounds like noise is a page, and that T.38 took the sound's place.
//! Invariants: each tone and the agreement are told once, with the first time of any.
//! Non-goals: the page itself: sound is recorded as it is, and of T.38's packets none is kept.
//! Sources: ITU-T T.30 §4.1 (tones), T.38 annex D (its SDP).

use crate::base::PacketTime;
use crate::codec::fax_tones::FaxTone;

/// A fax in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaxReport {
    /// When it was first noticed.
    pub time: PacketTime,
    /// SDP agreed on T.38.
    pub has_t38: bool,
    /// The sound itself was a fax.
    pub is_passthrough: bool,
    /// The tones that were heard.
    pub tones: Vec<FaxTone>,
}

/// What is known of a fax in one call.
#[derive(Debug, Default)]
pub struct FaxLog {
    t38: Option<PacketTime>,
    tones: Vec<(FaxTone, PacketTime)>,
}

impl FaxLog {
    /// SDP agreed on T.38.
    pub fn agreed(&mut self, now: PacketTime) {
        self.t38.get_or_insert(now);
    }

    /// A tone was heard on one of the channels.
    pub fn tone(&mut self, tone: FaxTone, time: PacketTime) {
        match self.tones.iter_mut().find(|(known, _)| *known == tone) {
            Some((_, first)) => *first = time.min(*first),
            None => self.tones.push((tone, time)),
        }
    }

    /// What is told; `None` where there is no sign of a fax.
    #[must_use]
    pub fn report(&self) -> Option<FaxReport> {
        let times = self.tones.iter().map(|(_, time)| *time).chain(self.t38);
        let time = times.min()?;
        let mut tones: Vec<FaxTone> = self.tones.iter().map(|(tone, _)| *tone).collect();
        tones.sort_unstable();
        // A beep alone is a machine that called a person.
        let is_passthrough = tones.iter().any(|tone| *tone != FaxTone::Cng);
        Some(FaxReport { time, has_t38: self.t38.is_some(), is_passthrough, tones })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_counts_and_a_beep_alone_is_no_pass_through() {
        let at = PacketTime::from_ms;
        let mut log = FaxLog::default();
        assert_eq!(log.report(), None);
        log.tone(FaxTone::Cng, at(900));
        log.tone(FaxTone::Cng, at(700));
        let report = log.report().expect("a beep");
        assert_eq!((report.time, report.is_passthrough, report.has_t38), (at(700), false, false));
        log.tone(FaxTone::V21, at(2_000));
        log.agreed(at(300));
        log.agreed(at(5_000));
        let report = log.report().expect("a fax");
        assert_eq!((report.time, report.is_passthrough, report.has_t38), (at(300), true, true));
        assert_eq!(report.tones, [FaxTone::Cng, FaxTone::V21]);
    }
}
