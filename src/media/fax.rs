//! Whether a call is a fax, and since when.
//!
//! Purpose: say that what sounds like noise is a page, and that T.38 took the sound's place; keep both as
//! they came, since no listener hears a page and no receiver reads one that went through Opus.
//! Invariants: each tone and the agreement are told once, with the first time of any.
//! Non-goals: the page itself (see `export --format pcap`); calling and answer tones are sound.
//! Sources: ITU-T T.30 §4.1 (tones), T.38 annex D (its SDP).

use crate::base::PacketTime;
use crate::codec::fax_tones::FaxTone;

/// A fax in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaxReport {
    /// When it was first noticed.
    pub time: PacketTime,
    /// SDP agreed on T.38, or its packets came.
    pub has_t38: bool,
    /// Packets of T.38.
    pub t38_packets: u64,
    /// The sound itself was a fax.
    pub is_passthrough: bool,
    /// The tones that were heard.
    pub tones: Vec<FaxTone>,
}

/// What is known of a fax in one call.
#[derive(Debug, Default)]
pub struct FaxLog {
    t38: Option<PacketTime>,
    packets: u64,
    tones: Vec<(FaxTone, PacketTime)>,
    /// A machine that had announced itself said a message, and SDP has not changed since.
    is_message: bool,
}

impl FaxLog {
    /// SDP agreed on T.38.
    pub fn t38(&mut self, now: PacketTime) {
        self.t38.get_or_insert(now);
    }

    /// A packet of T.38 came.
    pub fn packet(&mut self, time: PacketTime) {
        self.t38(time);
        self.packets = self.packets.saturating_add(1);
    }

    /// True while the sound is a machine's messages and pages.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        self.is_message
    }

    /// SDP changed: what follows may be people again.
    pub const fn on_new_plan(&mut self) {
        self.is_message = false;
    }

    /// A tone was heard on one of the channels.
    pub fn tone(&mut self, tone: FaxTone, time: PacketTime) {
        match self.tones.iter_mut().find(|(known, _)| *known == tone) {
            Some((_, first)) => *first = time.min(*first),
            None => self.tones.push((tone, time)),
        }
        // Flags alone may be a sound of another kind, and a call must not lose its sound to it: machines
        // call with CNG or answer with CED before they say anything (T.30 §4.1).
        let is_announced = self.tones.iter().any(|(tone, _)| *tone != FaxTone::V21);
        self.is_message |= tone == FaxTone::V21 && is_announced;
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
        Some(FaxReport {
            time,
            has_t38: self.t38.is_some(),
            t38_packets: self.packets,
            is_passthrough,
            tones,
        })
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
        assert!(!log.is_message());
        log.tone(FaxTone::V21, at(2_000));
        log.t38(at(300));
        log.t38(at(5_000));
        let report = log.report().expect("a fax");
        assert_eq!((report.time, report.is_passthrough, report.has_t38), (at(300), true, true));
        assert_eq!(report.tones, [FaxTone::Cng, FaxTone::V21]);
        let mut flags_alone = FaxLog::default();
        flags_alone.tone(FaxTone::V21, at(900));
        assert!(!flags_alone.is_message(), "anything may sound like flags");
        assert!(log.is_message());
        log.on_new_plan();
        assert!(!log.is_message());
    }
}
