//! SSRCs that a call's RTCP names, so that its media is known wherever it comes from.
//!
//! Purpose: a relay that no SDP announces may carry RTP while reports still go between announced
//! addresses; who sends them names its own source, and whom it hears.
//! Invariants: at most `SSRCS_PER_CALL_MAX` a call, of at most `CALLS_MAX` calls; where two calls name
//! an SSRC, the later has it; a call that is forgotten takes its SSRCs with it.
//! Non-goals: what reports say of quality (see `media`), whose a flow becomes (see `call::strangers`).
//! Sources: RFC 3550 §6.4.1 (sender's SSRC, SSRC_n of the blocks), §8.1 (SSRCs are random).

use crate::base::limits::{CALLS_MAX, SSRCS_PER_CALL_MAX};
use crate::base::{CallIndex, Channel, Ssrc};
use crate::rtp::rtcp::{RtcpPacket, RtcpPackets};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// What one front has read.
#[derive(Debug, Default)]
pub struct Reported {
    by_ssrc: HashMap<Ssrc, (CallIndex, Channel), RandomState>,
    by_call: HashMap<CallIndex, Vec<Ssrc>, RandomState>,
}

impl Reported {
    /// Takes a compound packet that `sender` sent in `call`. Of SRTCP only the first SSRC is in the
    /// clear; what is taken for others there are 32 random bits, which name nobody.
    pub fn note(&mut self, call: CallIndex, sender: Channel, compound: &[u8]) {
        for packet in RtcpPackets::new(compound) {
            let (RtcpPacket::SenderReport { ssrc: own, reports, .. }
            | RtcpPacket::ReceiverReport { ssrc: own, reports }) = packet
            else {
                continue;
            };
            self.name(own, call, sender);
            for report in reports {
                self.name(report.ssrc, call, sender.other());
            }
        }
    }

    fn name(&mut self, ssrc: Ssrc, call: CallIndex, sender: Channel) {
        if self.by_ssrc.get(&ssrc) == Some(&(call, sender)) {
            return;
        }
        if self.by_call.len() >= CALLS_MAX && !self.by_call.contains_key(&call) {
            return;
        }
        let of_call = self.by_call.entry(call).or_default();
        if !of_call.contains(&ssrc) {
            if of_call.len() >= SSRCS_PER_CALL_MAX {
                return;
            }
            of_call.push(ssrc);
        }
        self.by_ssrc.insert(ssrc, (call, sender));
    }

    /// Whose packets have this SSRC, as far as a report says.
    #[must_use]
    pub fn sender(&self, ssrc: Ssrc) -> Option<(CallIndex, Channel)> {
        self.by_ssrc.get(&ssrc).copied()
    }

    /// Forgets a call.
    pub fn forget(&mut self, call: CallIndex) {
        for ssrc in self.by_call.remove(&call).unwrap_or_default() {
            if self.by_ssrc.get(&ssrc).is_some_and(|(holder, _)| *holder == call) {
                self.by_ssrc.remove(&ssrc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver_report(own: u32, heard: u32) -> Vec<u8> {
        let mut bytes = vec![0x81, 201, 0, 7];
        bytes.extend(own.to_be_bytes());
        bytes.extend(heard.to_be_bytes());
        bytes.extend([0; 20]);
        bytes
    }

    #[test]
    fn a_report_names_its_sender_and_whom_it_hears_until_the_call_is_forgotten() {
        let mut reported = Reported::default();
        let (first, second) = (CallIndex(1), CallIndex(2));
        reported.note(first, Channel::Caller, &receiver_report(7, 9));
        assert_eq!(reported.sender(Ssrc(7)), Some((first, Channel::Caller)));
        assert_eq!(reported.sender(Ssrc(9)), Some((first, Channel::Callee)));
        assert_eq!(reported.sender(Ssrc(8)), None);
        reported.note(second, Channel::Callee, &receiver_report(9, 3));
        reported.forget(first);
        assert_eq!(reported.sender(Ssrc(7)), None);
        assert_eq!(reported.sender(Ssrc(9)), Some((second, Channel::Callee)));
        reported.forget(second);
        assert!(reported.by_ssrc.is_empty() && reported.by_call.is_empty());
    }

    #[test]
    fn a_call_names_no_more_than_its_limit() {
        let mut reported = Reported::default();
        for ssrc in 0..200 {
            reported.note(CallIndex(1), Channel::Caller, &receiver_report(ssrc, ssrc + 1_000));
        }
        assert_eq!(reported.by_ssrc.len(), SSRCS_PER_CALL_MAX);
    }
}
