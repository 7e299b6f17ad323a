//! Opens the packets of SRTP streams: which key, and which roll-over counter.
//!
//! Purpose: find, for each packet of a stream, the key and the counter that authenticate it, also
//! when the capture began in the middle of the call and when a re-INVITE changed the keys.
//! Invariants: a packet that no key authenticates is never handed out; a stream's search is bounded
//! in keys, counters and how often it is made; what is found depends on the packets alone.
//! Non-goals: cryptography (see `srtp_session`), where keys come from (SDP: `call`; DTLS: `media`).
//! Sources: RFC 3711 §3.3.1 and Appendix A (index guess), §8.1 (MKI, re-keying); RFC 4568 §6.4 and
//! §7.1.4 (keys of offer and answer).

use super::header::RtpView;
use super::srtp_key::SrtpKey;
use super::srtp_session::SrtpSession;
use super::srtp_suite::SrtpSuite;
use crate::base::limits::{SRTP_KEY_RING_MAX, SRTP_ROC_TRIED_MAX};
use std::sync::Arc;

/// Packets that fail one after the other and are each searched for; beyond them every second,
/// fourth, eighth… so that a stream without its key costs no search a packet.
const SEARCHES_IN_A_ROW: u32 = 8;

/// Keys that one party may be sending with: the newest first.
#[derive(Debug, Default)]
pub struct KeyRing {
    sessions: Vec<Arc<SrtpSession>>,
    generation: u32,
}

impl KeyRing {
    /// Takes the keys that are in use or on offer now, the likeliest first. Older ones stay behind
    /// them, as far as `SRTP_KEY_RING_MAX` goes: both are tried while they change.
    pub fn update<'a>(&mut self, keys: impl Iterator<Item = &'a SrtpKey>) {
        let mut sessions: Vec<Arc<SrtpSession>> = Vec::new();
        for key in keys.take(SRTP_KEY_RING_MAX) {
            let known = self.sessions.iter().find(|session| session.key() == key).cloned();
            let session = known.or_else(|| SrtpSession::new(key.clone()).map(Arc::new));
            sessions.extend(session.filter(|_| sessions.iter().all(|it| it.key() != key)));
        }
        for old in &self.sessions {
            if sessions.len() < SRTP_KEY_RING_MAX && sessions.iter().all(|it| it.key() != old.key())
            {
                sessions.push(Arc::clone(old));
            }
        }
        let is_same = |(new, old): (&Arc<SrtpSession>, _)| Arc::ptr_eq(new, old);
        if sessions.len() != self.sessions.len()
            || !sessions.iter().zip(&self.sessions).all(is_same)
        {
            self.generation = self.generation.wrapping_add(1);
        }
        self.sessions = sessions;
    }

    /// Adds one key before those that are known.
    pub fn add(&mut self, key: SrtpKey) {
        self.update([key].iter());
    }

    /// True when there is no key to try.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Opens an RTCP packet with the first key that authenticates it: `out` becomes the packet as
    /// it was before it was protected. `None`, and `out` untouched, when none does.
    /// Source: RFC 3711 §3.4.
    pub fn unprotect_rtcp(&self, packet: &[u8], out: &mut Vec<u8>) -> Option<SrtpSuite> {
        let opened = |session: &&Arc<SrtpSession>| session.unprotect_rtcp(packet, out).is_some();
        let mut sessions = self.sessions.iter();
        sessions.find(opened).map(|session| session.key().suite())
    }
}

/// What is known of one SRTP stream.
#[derive(Debug, Default)]
pub struct SrtpStream {
    current: Option<Current>,
    /// Packets since the last that was authentic.
    failures: u32,
    /// The keys that `failures` counts for.
    generation: u32,
}

#[derive(Debug)]
struct Current {
    session: Arc<SrtpSession>,
    roc: u32,
    /// The highest sequence number under `roc`: `s_l` of RFC 3711 §3.3.1.
    highest_seq: u16,
}

impl SrtpStream {
    /// The suite that authenticated packets last.
    #[must_use]
    pub fn suite(&self) -> Option<SrtpSuite> {
        self.current.as_ref().map(|current| current.session.key().suite())
    }

    /// Opens a packet with the keys of its sender; false, and `out` untouched, when none
    /// authenticates it. Else `out` becomes the RTP packet, padding still in it.
    /// Source: RFC 3711 §3.3.
    pub fn open(&mut self, ring: &KeyRing, packet: &[u8], out: &mut Vec<u8>) -> bool {
        let Ok(view) = RtpView::parse_header(packet) else { return false };
        let seq = view.seq();
        if let Some(current) = &mut self.current {
            let guess = current.guess(seq);
            if let Some(roc) = current.session.unprotect(packet, &std::iter::once(guess), out) {
                current.advance(roc, seq);
                self.failures = 0;
                return true;
            }
        }
        if self.generation != ring.generation {
            self.generation = ring.generation;
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let is_due = self.failures <= SEARCHES_IN_A_ROW || self.failures.is_power_of_two();
        if ring.is_empty() || !is_due {
            return false;
        }
        let Some(found) = self.search(ring, packet, seq, out) else { return false };
        self.current = Some(found);
        self.failures = 0;
        true
    }

    /// Every key with every counter that is likely: those around the last, then all from 0 on.
    fn search(
        &self,
        ring: &KeyRing,
        packet: &[u8],
        seq: u16,
        out: &mut Vec<u8>,
    ) -> Option<Current> {
        let near = self.current.as_ref().map(|current| {
            let roc = current.guess(seq);
            [roc, roc.wrapping_add(1), roc.wrapping_sub(1)]
        });
        let near = near.into_iter().flatten();
        ring.sessions.iter().find_map(|session| {
            let rocs = near.clone().chain(0..SRTP_ROC_TRIED_MAX);
            let roc = session.unprotect(packet, &rocs, out)?;
            Some(Current { session: Arc::clone(session), roc, highest_seq: seq })
        })
    }
}

impl Current {
    /// The counter of a packet by its sequence number alone.
    /// Source: RFC 3711 Appendix A.
    fn guess(&self, seq: u16) -> u32 {
        let (seq, highest) = (u32::from(seq), u32::from(self.highest_seq));
        if highest < 0x8000 && seq > highest.saturating_add(0x8000) {
            self.roc.wrapping_sub(1)
        } else if highest >= 0x8000 && highest.saturating_sub(0x8000) > seq {
            self.roc.wrapping_add(1)
        } else {
            self.roc
        }
    }

    const fn advance(&mut self, roc: u32, seq: u16) {
        if roc == self.roc.wrapping_add(1) || (roc == self.roc && seq > self.highest_seq) {
            self.roc = roc;
            self.highest_seq = seq;
        }
    }
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
