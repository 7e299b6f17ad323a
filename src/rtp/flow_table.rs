//! Which call an address belongs to: what SDP announced, as one front reads it.
//!
//! Purpose: answer in a few look-ups whose call a UDP packet is, which party sent it, and how sure
//! that is.
//! Invariants: a table is owned by one front (a replica that the correlator's updates reach by a
//! queue), so it is read without a lock; at most `CLAIMS_PER_CALL_MAX` claims and
//! `LEARNED_PER_CALL_MAX` learned flows a call are kept; a sender's address that several
//! conversations share never decides alone.
//! Non-goals: telling streams apart by SSRC (see `work::flows`), who wins a fork (see `call`), which
//! flows are learned (see `call::strangers`).
//! Sources: RFC 3264 §5.1 (an SDP names where its sender wants to receive), RFC 4961 (symmetric
//! RTP: a phone sends from where it receives), RFC 8445 §5.3 (candidates).
//!
//! An announced address is where a party *receives*. A packet to it was sent by the other party; a
//! packet from it, by that party. Both ends matching beats the destination alone, which beats the
//! source alone; among equals the likest other end wins (a NAT may keep the port), then the newest
//! claim, since ports are used again and again.

pub use super::claim::{Claim, ClaimRole, Fit, LearnedFlow, Match};
use super::matched_by::MatchedBy;
use crate::base::limits::{
    CALLS_MAX, CLAIMS_PER_CALL_MAX, HOLDERS_PER_ENDPOINT_MAX, LEARNED_PER_CALL_MAX,
};
use crate::base::{CallIndex, Channel, Endpoint, PacketTime};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;

/// How like an address is to one that SDP announced for the same end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Nothing,
    Port,
    Address,
    Equal,
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
    by_pair: HashMap<(Endpoint, Endpoint), (CallIndex, LearnedFlow), RandomState>,
    learned: HashMap<CallIndex, Vec<LearnedFlow>, RandomState>,
    serial: u64,
    /// Claims of fax, by all calls.
    faxes: usize,
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

impl Stamp {
    /// Of no answer: it says nothing.
    pub const NEVER: Self = Self { slots: [0; 2], counts: [0; 2] };
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
    /// Replaces all that a call claims; a call that claims nothing any more has learned nothing
    /// either. Claims beyond `CLAIMS_PER_CALL_MAX` are ignored, and so is a new call beyond
    /// `CALLS_MAX`.
    pub fn set(&mut self, call: CallIndex, claims: &[Claim], now: PacketTime) {
        if claims.is_empty() {
            self.unlearn(call);
        }
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
            self.faxes = self.faxes.saturating_add(usize::from(role == ClaimRole::Fax));
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

    /// Gives a call a flow that SDP does not name; the newest call that learns it has it. More than
    /// `LEARNED_PER_CALL_MAX` of one call are ignored, and so is a new call beyond `CALLS_MAX`.
    pub fn learn(&mut self, call: CallIndex, flow: LearnedFlow) {
        if self.learned.len() >= CALLS_MAX && !self.learned.contains_key(&call) {
            return;
        }
        let known = self.learned.entry(call).or_default();
        if known.len() >= LEARNED_PER_CALL_MAX {
            return;
        }
        known.push(flow);
        self.changes.note(flow.source);
        self.changes.note(flow.destination);
        self.by_pair.insert(pair(flow.source, flow.destination), (call, flow));
    }

    fn unlearn(&mut self, call: CallIndex) {
        for flow in self.learned.remove(&call).unwrap_or_default() {
            let key = pair(flow.source, flow.destination);
            if self.by_pair.get(&key).is_some_and(|(holder, _)| *holder == call) {
                self.by_pair.remove(&key);
            }
            self.changes.note(flow.source);
            self.changes.note(flow.destination);
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

    /// True while some call takes T.38 fax.
    #[must_use]
    pub const fn has_fax(&self) -> bool {
        self.faxes > 0
    }

    /// True when some call announced this port at another address: the mark of a NAT.
    #[must_use]
    pub fn knows_port(&self, endpoint: Endpoint) -> bool {
        self.by_endpoint.keys().any(|known| known.port == endpoint.port)
    }

    /// True when `call` claims one end of the flow, or has learned it.
    #[must_use]
    pub fn claims(&self, call: CallIndex, source: Endpoint, destination: Endpoint) -> bool {
        let has = |claim: &Claim| claim.endpoint == source || claim.endpoint == destination;
        let learned = self.by_pair.get(&pair(source, destination));
        self.by_call.get(&call).is_some_and(|claims| claims.iter().any(has))
            || learned.is_some_and(|(holder, _)| *holder == call)
    }

    /// True when `call` claims this address.
    #[must_use]
    pub fn receives(&self, call: CallIndex, endpoint: Endpoint) -> bool {
        let claims = self.by_call.get(&call).map_or(&[][..], Vec::as_slice);
        claims.iter().any(|claim| claim.endpoint == endpoint)
    }

    /// Whose a packet from `source` to `destination` is: the best fit, then the likest other end,
    /// then the newest claim. Nobody's where only the sender's address was announced, and that by
    /// several conversations alike.
    #[must_use]
    pub fn find(&self, source: Endpoint, destination: Endpoint) -> Option<Match> {
        let learned = self.learned(source, destination);
        let (senders, receivers) = (self.holders(source), self.holders(destination));
        let ranked = |(found, at): (Match, ClaimedAt)| {
            (found, (found.fit, self.likeness(found, source, destination)), at.serial)
        };
        let best = matches(senders, receivers)
            .map(ranked)
            .max_by_key(|(_, rank, serial)| (*rank, *serial));
        let Some((best, rank, _)) = best else { return learned };
        if learned.is_some_and(|learned| learned.fit > best.fit) {
            return learned;
        }
        if matches!(best.fit, Fit::Source | Fit::SourceCandidate) {
            let rivals = matches(senders, receivers).map(ranked);
            let is_shared = rivals.filter(|rival| rival.1 == rank).any(|(rival, ..)| {
                rival.call != best.call && !self.share_far_end(rival.call, best.call, source)
            });
            if is_shared {
                return learned;
            }
        }
        Some(best)
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

    /// The call that has learned this flow, either way.
    #[must_use]
    pub fn learned(&self, source: Endpoint, destination: Endpoint) -> Option<Match> {
        let (call, flow) = *self.by_pair.get(&pair(source, destination))?;
        let is_forward = flow.source == source;
        let sender = if is_forward { flow.sender } else { flow.sender.other() };
        let is_guess = flow.by == MatchedBy::Heuristic;
        let fit = if is_guess { Fit::Heuristic } else { Fit::Learned };
        Some(Match { call, sender, role: flow.role, fit, by: flow.by })
    }

    /// How like the end that was not announced is to what the call announced for it.
    fn likeness(&self, found: Match, source: Endpoint, destination: Endpoint) -> Likeness {
        let (seen, party) = match found.fit {
            Fit::Destination | Fit::DestinationCandidate => (source, found.sender),
            Fit::Source | Fit::SourceCandidate => (destination, found.sender.other()),
            _ => return Likeness::Equal,
        };
        let claims = self.by_call.get(&found.call).map_or(&[][..], Vec::as_slice);
        let like = |claim: &Claim| match (claim.endpoint.ip == seen.ip, claim.endpoint.port) {
            (true, port) if port == seen.port => Likeness::Equal,
            (true, _) => Likeness::Address,
            (false, port) if port == seen.port => Likeness::Port,
            _ => Likeness::Nothing,
        };
        let of_party = claims.iter().filter(|claim| claim.party == party);
        of_party.map(like).max().unwrap_or(Likeness::Nothing)
    }

    /// True when both calls announced an address beside `shared`: two dialogs of one conversation.
    fn share_far_end(&self, one: CallIndex, other: CallIndex, shared: Endpoint) -> bool {
        let (Some(mine), Some(theirs)) = (self.by_call.get(&one), self.by_call.get(&other)) else {
            return false;
        };
        mine.iter().any(|claim| {
            claim.role == ClaimRole::Audio
                && claim.endpoint != shared
                && theirs.iter().any(|their| their.endpoint == claim.endpoint)
        })
    }

    /// Who claims an address, oldest claim first.
    fn holders(&self, endpoint: Endpoint) -> &[Holder] {
        self.by_endpoint.get(&endpoint).map_or(&[], Vec::as_slice)
    }

    fn drop_claim(&mut self, call: CallIndex, claim: Claim) {
        self.changes.note(claim.endpoint);
        self.faxes = self.faxes.saturating_sub(usize::from(claim.role == ClaimRole::Fax));
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

/// One key for both ways of a flow.
fn pair(one: Endpoint, other: Endpoint) -> (Endpoint, Endpoint) {
    if one <= other { (one, other) } else { (other, one) }
}

fn matches(senders: &[Holder], receivers: &[Holder]) -> impl Iterator<Item = (Match, ClaimedAt)> {
    let to = receivers.iter().map(move |holder| {
        let sender = holder.party.other();
        let at_source = senders.iter().find(|at| at.call == holder.call && at.party == sender);
        let is_candidate = |role| role == ClaimRole::Candidate;
        let fit = match at_source.map(|at| at.role) {
            Some(role) if is_candidate(role) || is_candidate(holder.role) => Fit::BothCandidate,
            Some(_) => Fit::Both,
            None if is_candidate(holder.role) => Fit::DestinationCandidate,
            None => Fit::Destination,
        };
        let role = match at_source.map(|at| at.role) {
            Some(ClaimRole::Loser) => ClaimRole::Loser,
            _ => holder.role,
        };
        (Match { call: holder.call, sender, role, fit, by: fit.by() }, holder.at())
    });
    let from = senders.iter().map(|holder| {
        let Holder { call, party: sender, role, .. } = *holder;
        let is_candidate = role == ClaimRole::Candidate;
        let fit = if is_candidate { Fit::SourceCandidate } else { Fit::Source };
        (Match { call, sender, role, fit, by: fit.by() }, holder.at())
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

    #[test]
    fn a_senders_address_that_two_conversations_share_decides_nothing() {
        let mut table = FlowTable::default();
        let far = |port| Endpoint { ip: [9; 16], port };
        for (call, port) in [(1, 7_000), (2, 7_002)] {
            let claims = [audio(CALLER, Channel::Caller), audio(far(port), Channel::Callee)];
            table.set(CallIndex(call), &claims, PacketTime::from_ms(0));
        }
        assert_eq!(table.find(CALLER, STRANGER), None);
        // A NAT that keeps the port tells which.
        let kept = Endpoint { port: 7_000, ..STRANGER };
        assert_eq!(table.find(CALLER, kept).map(|found| found.call), Some(CallIndex(1)));
        // So does the sender's port where both announce the destination.
        assert_eq!(table.find(kept, CALLER).map(|found| found.call), Some(CallIndex(1)));
        // Two dialogs that announce the same far end are one conversation.
        let both = [audio(CALLER, Channel::Caller), audio(far(7_000), Channel::Callee)];
        table.remove(CallIndex(2));
        table.set(CallIndex(3), &both, PacketTime::from_ms(0));
        assert_eq!(table.find(CALLER, STRANGER).map(|found| found.call), Some(CallIndex(3)));
    }

    #[test]
    fn a_learned_flow_is_the_calls_both_ways_until_it_ends_or_sip_says_otherwise() {
        let mut table = FlowTable::default();
        let other = Endpoint { ip: [4; 16], port: 8_000 };
        let by = MatchedBy::Heuristic;
        let (sender, role) = (Channel::Caller, ClaimRole::Audio);
        let flow = LearnedFlow { source: STRANGER, destination: other, sender, role, by };
        let stamp = table.stamp(STRANGER, other);
        table.learn(CallIndex(1), flow);
        assert!(!table.is_current(stamp));
        let there = table.find(STRANGER, other).map(|found| (found.call, found.sender));
        assert_eq!(there, Some((CallIndex(1), Channel::Caller)));
        let back = table.find(other, STRANGER).map(|found| (found.call, found.sender));
        assert_eq!(back, Some((CallIndex(1), Channel::Callee)));
        assert_eq!(table.find(STRANGER, CALLEE), None, "only this flow");
        table.set(CallIndex(2), &[audio(other, Channel::Callee)], PacketTime::from_ms(1));
        assert_eq!(table.find(STRANGER, other).map(|found| found.call), Some(CallIndex(2)));
        table.remove(CallIndex(2));
        assert!(table.claims(CallIndex(1), STRANGER, other));
        table.remove(CallIndex(1));
        assert_eq!(table.find(STRANGER, other), None);
    }

    #[test]
    fn a_candidate_yields_to_what_the_media_line_says() {
        let mut table = FlowTable::default();
        let role = ClaimRole::Candidate;
        let candidate = Claim { endpoint: CALLEE, party: Channel::Callee, role };
        let claims = [audio(CALLER, Channel::Caller), candidate];
        table.set(CallIndex(1), &claims, PacketTime::from_ms(0));
        let found = table.find(CALLER, CALLEE).expect("claimed");
        assert_eq!((found.fit, found.by), (Fit::BothCandidate, MatchedBy::Ice));
        table.set(CallIndex(2), &[audio(CALLEE, Channel::Callee)], PacketTime::from_ms(0));
        assert_eq!(table.find(CALLER, CALLEE).map(|found| found.call), Some(CallIndex(2)));
    }

    #[test]
    fn a_call_learns_no_more_flows_than_its_limit() {
        let mut table = FlowTable::default();
        let (sender, role, by) = (Channel::Caller, ClaimRole::Audio, MatchedBy::Ssrc);
        for port in 0..100 {
            let source = Endpoint { port, ..STRANGER };
            let flow = LearnedFlow { source, destination: CALLEE, sender, role, by };
            table.learn(CallIndex(1), flow);
        }
        assert_eq!(table.by_pair.len(), LEARNED_PER_CALL_MAX);
        table.remove(CallIndex(1));
        assert!(table.by_pair.is_empty() && table.learned.is_empty());
    }
}
