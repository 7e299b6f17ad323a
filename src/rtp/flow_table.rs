//! Which call an address belongs to: what SDP announced, as one front reads it.
//!
//! Purpose: answer in two look-ups whose call a UDP packet is, and which party sent it.
//! Invariants: a table is owned by one front (a replica that the correlator's updates reach by a
//! queue), so it is read without a lock; at most `CLAIMS_PER_CALL_MAX` claims a call are kept.
//! Non-goals: telling streams apart by SSRC (see `work::flows`), who wins a fork (see `call`).
//! Sources: RFC 3264 §5.1 (an SDP names where its sender wants to receive), RFC 4961 (symmetric
//! RTP: a phone sends from where it receives).
//!
//! An announced address is where a party *receives*. A packet to it was sent by the other party; a
//! packet from it, by that party. Both ends matching beats the destination alone, which beats the
//! source alone; among equals the newest claim wins, since ports are used again and again.

use crate::base::limits::{CALLS_MAX, CLAIMS_PER_CALL_MAX, HOLDERS_PER_ENDPOINT_MAX};
use crate::base::{CallIndex, Channel, Endpoint, PacketTime};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// What is received at a claimed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRole {
    /// Audio.
    Audio,
    /// RTCP of an audio medium, on its own port.
    Rtcp,
    /// Video, fax or another medium that is not recorded.
    NotAudio,
    /// The address of a fork's branch that did not answer.
    Loser,
}

/// One announced address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where the party receives.
    pub endpoint: Endpoint,
    /// Which party receives there.
    pub party: Channel,
    /// What it receives.
    pub role: ClaimRole,
}

/// Whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The call.
    pub call: CallIndex,
    /// Which party sent the packet.
    pub sender: Channel,
    /// What the flow carries.
    pub role: ClaimRole,
    /// How sure we are.
    pub fit: Fit,
}

/// Which ends of a packet were announced; better is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Only the sender's address.
    Source,
    /// Only the receiver's address.
    Destination,
    /// Both.
    Both,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    call: CallIndex,
    party: Channel,
    role: ClaimRole,
    serial: u64,
    since: PacketTime,
}

/// When a claim was made.
#[derive(Clone, Copy, Debug)]
struct ClaimedAt {
    serial: u64,
    since: PacketTime,
}

impl Holder {
    const fn at(&self) -> ClaimedAt {
        ClaimedAt { serial: self.serial, since: self.since }
    }
}

/// Two calls that announce the same addresses within this time are one conversation.
const SAME_CONVERSATION_MS: i64 = 5_000;

/// Announced addresses and whose they are.
#[derive(Debug, Default)]
pub struct FlowTable {
    by_endpoint: HashMap<Endpoint, Vec<Holder>, RandomState>,
    by_call: HashMap<CallIndex, Vec<Claim>, RandomState>,
    serial: u64,
    changes: Changes,
}

/// How often addresses changed hands, by a hash of the address: who remembers an answer of the
/// table asks whether it still holds, for the price of two reads.
#[derive(Debug)]
struct Changes {
    counts: Box<[u32; CHANGE_SLOTS]>,
    hasher: RandomState,
}

/// Addresses that share a slot cost each other a look-up now and then: with ten addresses changed
/// by a call's set-up, one flow in two hundred.
const CHANGE_SLOTS: usize = 4_096;

/// When an answer was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    slots: [u16; 2],
    counts: [u32; 2],
}

impl Default for Changes {
    fn default() -> Self {
        Self { counts: Box::new([0; CHANGE_SLOTS]), hasher: RandomState::default() }
    }
}

impl Changes {
    fn slot(&self, endpoint: Endpoint) -> u16 {
        let low = self.hasher.hash_one(endpoint) % 4_096;
        u16::try_from(low).unwrap_or(0)
    }

    fn count(&self, slot: u16) -> u32 {
        self.counts.get(usize::from(slot)).copied().unwrap_or(0)
    }

    fn note(&mut self, endpoint: Endpoint) {
        let slot = self.slot(endpoint);
        if let Some(count) = self.counts.get_mut(usize::from(slot)) {
            *count = count.wrapping_add(1);
        }
    }
}

impl FlowTable {
    /// Replaces all that a call claims. Claims beyond `CLAIMS_PER_CALL_MAX` are ignored, and so is
    /// a new call beyond `CALLS_MAX`.
    pub fn set(&mut self, call: CallIndex, claims: &[Claim], now: PacketTime) {
        let claims = claims.get(..CLAIMS_PER_CALL_MAX).unwrap_or(claims);
        let before = self.by_call.get(&call).map_or(&[][..], Vec::as_slice);
        if before == claims || (before.is_empty() && self.by_call.len() >= CALLS_MAX) {
            return;
        }
        let old = self.by_call.remove(&call).unwrap_or_default();
        let gone: Vec<Claim> =
            old.iter().filter(|claim| !claims.contains(claim)).copied().collect();
        for claim in gone {
            self.drop_claim(call, claim);
        }
        for claim in claims.iter().filter(|claim| !old.contains(claim)) {
            self.serial = self.serial.wrapping_add(1);
            let Claim { endpoint, party, role } = *claim;
            self.changes.note(endpoint);
            let holder = Holder { call, party, role, serial: self.serial, since: now };
            let holders = self.by_endpoint.entry(endpoint).or_default();
            if holders.len() >= HOLDERS_PER_ENDPOINT_MAX {
                holders.remove(0);
            }
            holders.push(holder);
        }
        if !claims.is_empty() {
            self.by_call.insert(call, claims.to_vec());
        }
    }

    /// Forgets a call.
    pub fn remove(&mut self, call: CallIndex) {
        self.set(call, &[], PacketTime::MIN);
    }

    /// The stamp of an answer about these two addresses.
    #[must_use]
    pub fn stamp(&self, source: Endpoint, destination: Endpoint) -> Stamp {
        let slots = [self.changes.slot(source), self.changes.slot(destination)];
        Stamp { slots, counts: slots.map(|slot| self.changes.count(slot)) }
    }

    /// True while neither address of a stamped answer has changed hands.
    #[must_use]
    pub fn is_current(&self, stamp: Stamp) -> bool {
        stamp.slots.map(|slot| self.changes.count(slot)) == stamp.counts
    }

    /// Calls that claim something.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.by_call.len()
    }

    /// True when some call announced this address.
    #[must_use]
    pub fn knows(&self, endpoint: Endpoint) -> bool {
        self.by_endpoint.contains_key(&endpoint)
    }

    /// True when some call announced this port at another address: the mark of a NAT.
    #[must_use]
    pub fn knows_port(&self, endpoint: Endpoint) -> bool {
        self.by_endpoint.keys().any(|known| known.port == endpoint.port)
    }

    /// True when `call` claims one end of the flow.
    #[must_use]
    pub fn claims(&self, call: CallIndex, source: Endpoint, destination: Endpoint) -> bool {
        self.by_call.get(&call).is_some_and(|claims| {
            claims.iter().any(|claim| claim.endpoint == source || claim.endpoint == destination)
        })
    }

    /// Whose a packet from `source` to `destination` is: the best fit, then the newest claim.
    #[must_use]
    pub fn find(&self, source: Endpoint, destination: Endpoint) -> Option<Match> {
        let (senders, receivers) = (self.holders(source), self.holders(destination));
        let best = matches(senders, receivers).max_by_key(|(found, at)| (found.fit, at.serial));
        best.map(|(found, _)| found)
    }

    /// Every call for which *both* ends were announced at about the same time, oldest claim first:
    /// a B2BUA that takes itself out of the media path announces one flow in two calls. A claim
    /// that is older belongs to a call whose BYE was lost: the newest has the ports now.
    pub fn find_all(&self, source: Endpoint, destination: Endpoint, out: &mut Vec<Match>) {
        out.clear();
        let (senders, receivers) = (self.holders(source), self.holders(destination));
        let both = || matches(senders, receivers).filter(|(found, _)| found.fit == Fit::Both);
        let newest = both().max_by_key(|(_, at)| at.serial).map(|(_, at)| at.since);
        let Some(newest) = newest else {
            out.extend(self.find(source, destination));
            return;
        };
        // In order of their claims: an endpoint's holders are pushed in order of their serials.
        for (candidate, at) in both() {
            let is_known = out.iter().any(|kept| kept.call == candidate.call);
            if newest.ms_since(at.since) <= SAME_CONVERSATION_MS && !is_known {
                out.push(candidate);
            }
        }
    }

    /// Who claims an address, oldest claim first.
    fn holders(&self, endpoint: Endpoint) -> &[Holder] {
        self.by_endpoint.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    fn drop_claim(&mut self, call: CallIndex, claim: Claim) {
        self.changes.note(claim.endpoint);
        if let Some(holders) = self.by_endpoint.get_mut(&claim.endpoint) {
            holders.retain(|holder| {
                holder.call != call || holder.party != claim.party || holder.role != claim.role
            });
            if holders.is_empty() {
                self.by_endpoint.remove(&claim.endpoint);
            }
        }
    }
}

fn matches(senders: &[Holder], receivers: &[Holder]) -> impl Iterator<Item = (Match, ClaimedAt)> {
    let to = receivers.iter().map(move |holder| {
        let sender = holder.party.other();
        let at_source = senders.iter().find(|at| at.call == holder.call && at.party == sender);
        let fit = if at_source.is_some() { Fit::Both } else { Fit::Destination };
        let role = match at_source.map(|at| at.role) {
            Some(ClaimRole::Loser) => ClaimRole::Loser,
            _ => holder.role,
        };
        (Match { call: holder.call, sender, role, fit }, holder.at())
    });
    let from = senders.iter().map(|holder| {
        let Holder { call, party: sender, role, .. } = *holder;
        (Match { call, sender, role, fit: Fit::Source }, holder.at())
    });
    to.chain(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: Endpoint = Endpoint { ip: [1; 16], port: 4_000 };
    const CALLEE: Endpoint = Endpoint { ip: [2; 16], port: 5_000 };
    const STRANGER: Endpoint = Endpoint { ip: [3; 16], port: 6_000 };

    fn audio(endpoint: Endpoint, party: Channel) -> Claim {
        Claim { endpoint, party, role: ClaimRole::Audio }
    }

    #[test]
    fn a_packet_is_sent_by_the_party_that_does_not_receive_it() {
        let mut table = FlowTable::default();
        table.set(
            CallIndex(1),
            &[audio(CALLER, Channel::Caller), audio(CALLEE, Channel::Callee)],
            PacketTime::from_ms(0),
        );
        let found = table.find(CALLER, CALLEE).expect("claimed");
        assert_eq!(
            (found.call, found.sender, found.fit),
            (CallIndex(1), Channel::Caller, Fit::Both)
        );
        let behind_nat = table.find(STRANGER, CALLEE).expect("destination");
        assert_eq!((behind_nat.sender, behind_nat.fit), (Channel::Caller, Fit::Destination));
        let to_relay = table.find(CALLEE, STRANGER).expect("source");
        assert_eq!((to_relay.sender, to_relay.fit), (Channel::Callee, Fit::Source));
        table.remove(CallIndex(1));
        assert_eq!(table.find(CALLER, CALLEE), None);
        assert_eq!(table.calls(), 0);
    }

    #[test]
    fn a_reused_port_goes_to_the_newest_claim_and_a_better_fit_beats_it() {
        let mut table = FlowTable::default();
        table.set(
            CallIndex(1),
            &[audio(CALLER, Channel::Caller), audio(CALLEE, Channel::Callee)],
            PacketTime::from_ms(0),
        );
        table.set(CallIndex(2), &[audio(CALLEE, Channel::Caller)], PacketTime::from_ms(0));
        assert_eq!(table.find(STRANGER, CALLEE).map(|found| found.call), Some(CallIndex(2)));
        assert_eq!(table.find(CALLER, CALLEE).map(|found| found.call), Some(CallIndex(1)));
    }

    #[test]
    fn a_flow_announced_in_two_calls_belongs_to_both() {
        let mut table = FlowTable::default();
        let claims = [audio(CALLER, Channel::Caller), audio(CALLEE, Channel::Callee)];
        table.set(CallIndex(1), &claims, PacketTime::from_ms(0));
        table.set(CallIndex(2), &claims, PacketTime::from_ms(0));
        let mut found = Vec::new();
        table.find_all(CALLEE, CALLER, &mut found);
        let calls = |found: &[Match]| found.iter().map(|found| found.call).collect::<Vec<_>>();
        assert_eq!(calls(&found), [CallIndex(1), CallIndex(2)]);
        table.set(CallIndex(3), &claims, PacketTime::from_ms(60_000));
        table.find_all(CALLEE, CALLER, &mut found);
        assert_eq!(calls(&found), [CallIndex(3)], "a stale call does not hear the next one");
    }

    #[test]
    fn an_answer_holds_until_one_of_its_addresses_changes_hands() {
        let mut table = FlowTable::default();
        let claims = [audio(CALLER, Channel::Caller), audio(CALLEE, Channel::Callee)];
        table.set(CallIndex(1), &claims, PacketTime::from_ms(0));
        let stamp = table.stamp(CALLER, CALLEE);
        table.set(CallIndex(1), &claims, PacketTime::from_ms(5));
        assert!(table.is_current(stamp), "nothing changed");
        table.set(CallIndex(2), &[audio(CALLEE, Channel::Caller)], PacketTime::from_ms(9));
        assert!(!table.is_current(stamp));
        let stamp = table.stamp(CALLER, CALLEE);
        table.remove(CallIndex(1));
        assert!(!table.is_current(stamp));
    }

    #[test]
    fn media_from_a_losing_branch_is_told_by_its_source() {
        let mut table = FlowTable::default();
        let loser = Claim { endpoint: STRANGER, party: Channel::Callee, role: ClaimRole::Loser };
        table.set(CallIndex(1), &[audio(CALLER, Channel::Caller), loser], PacketTime::from_ms(0));
        let found = table.find(STRANGER, CALLER).expect("claimed");
        assert_eq!(found.role, ClaimRole::Loser);
    }
}
