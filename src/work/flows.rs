//! Which call each flow belongs to, remembered packet by packet.
//!
//! Purpose: one look-up for a known flow; keep a call's late packets out of the next call that
//! uses the same ports.
//! Invariants: bounded by `FLOWS_MAX`; an entry holds until one of its addresses changes hands.
//! Non-goals: what SDP announced (see `rtp::flow_table`).
//! Sources: RFC 3550 §8 (SSRC), RFC 3264.

use super::orphans::FlowKey;
use crate::base::limits::{ENDED_FLOW_MS, FLOWS_MAX};
use crate::base::{CallIndex, Channel, PacketTime};
use crate::rtp::flow_table::{ClaimRole, Fit, FlowTable, Match, Stamp};
use crate::rtp::matched_by::MatchedBy;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Calls that one flow may belong to.
const TARGETS_MAX: usize = 4;

/// Sequence numbers within which a packet continues a stream.
const CONTINUES: u16 = 100;

/// Where a flow's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The call.
    pub call: CallIndex,
    /// Who sent the packet.
    pub sender: Channel,
    /// What it carries.
    pub role: ClaimRole,
    /// By what evidence.
    pub by: MatchedBy,
}

/// Whether the calls of a flow have been told how it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// This is the first packet since it was found.
    #[default]
    NotYet,
    /// They know.
    Already,
}

/// Up to four targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    list: [Option<Target>; TARGETS_MAX],
    /// Whether they have been told of the flow.
    pub told: Told,
}

impl Targets {
    fn from_matches(matches: &[Match]) -> Self {
        let mut list = [None; TARGETS_MAX];
        for (slot, found) in list.iter_mut().zip(matches) {
            let Match { call, sender, role, by, .. } = *found;
            *slot = Some(Target { call, sender, role, by });
        }
        Self { list, told: Told::NotYet }
    }

    /// The targets, oldest claim first.
    pub fn iter(&self) -> impl Iterator<Item = Target> + '_ {
        self.list.iter().flatten().copied()
    }

    fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The one call that a flow of sound goes to, once it was told of it.
    #[must_use]
    pub fn only(&self) -> Option<Target> {
        let [first, rest @ ..] = self.list;
        let is_only = rest.iter().all(Option::is_none) && self.told == Told::Already;
        first.filter(|target| is_only && is_audio(target.role))
    }

    fn has(&self, call: CallIndex) -> bool {
        self.iter().any(|target| target.call == call)
    }
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    targets: Targets,
    stamp: Stamp,
    last: PacketTime,
    seq: u16,
    /// The call that it was of has ended.
    is_over: bool,
    /// Its call announced where it goes, and not only where it comes from.
    is_firm: bool,
}

/// What a packet's flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Of these calls.
    Calls(Targets),
    /// Of a call that has ended.
    AfterEnd,
    /// Nobody's, so far.
    Unknown,
}

/// Flows seen lately.
#[derive(Debug, Default)]
pub struct Flows {
    flows: HashMap<FlowKey, Flow, RandomState>,
    found: Vec<Match>,
}

impl Flows {
    /// Whose a packet is.
    pub fn find(&mut self, key: FlowKey, seq: u16, now: PacketTime, table: &FlowTable) -> Found {
        let known = self.flows.get_mut(&key);
        if let Some(flow) = known {
            if !flow.is_over && table.is_current(flow.stamp) {
                flow.last = now;
                flow.seq = seq;
                return Found::Calls(flow.targets);
            }
        }
        self.resolve(key, seq, now, table)
    }

    /// Another lane took packets of a flow, the last at `last`.
    pub fn touch(&mut self, key: FlowKey, (last, seq): (PacketTime, u16)) {
        if let Some(flow) = self.flows.get_mut(&key) {
            if last > flow.last {
                (flow.last, flow.seq) = (last, seq);
            }
        }
    }

    /// The one call that a known flow of sound goes to, and when the table said so.
    #[must_use]
    pub fn only(&self, key: FlowKey) -> Option<(Target, Stamp)> {
        let flow = self.flows.get(&key).filter(|flow| !flow.is_over)?;
        Some((flow.targets.only()?, flow.stamp))
    }

    /// True when this flow was a call's a moment ago.
    #[must_use]
    pub fn was_known(&self, key: FlowKey, now: PacketTime) -> bool {
        self.flows.get(&key).is_some_and(|flow| now.ms_since(flow.last) <= ENDED_FLOW_MS)
    }

    #[cold]
    fn resolve(&mut self, key: FlowKey, seq: u16, now: PacketTime, table: &FlowTable) -> Found {
        table.find_all(key.source, key.destination, &mut self.found);
        let mut targets = Targets::from_matches(&self.found);
        let is_firm = self.found.iter().any(|found| found.fit.is_firm());
        let before = self.flows.get(&key).copied();
        if let Some(flow) = before {
            let recent = now.ms_since(flow.last) <= ENDED_FLOW_MS;
            // Its call ended or moved its media, and not only: another call fits better.
            let lost_its_call = flow.targets.iter().all(|old| {
                !targets.has(old.call) && !table.claims(old.call, key.source, key.destination)
            });
            let continues =
                seq.wrapping_sub(flow.seq) < CONTINUES || flow.seq.wrapping_sub(seq) < CONTINUES;
            // A guess by the sender's address alone yields to a call that announces the destination.
            let was_guess = is_firm && !flow.is_firm;
            if recent && lost_its_call && (targets.is_empty() || continues && !was_guess) {
                let over = Flow { last: now, seq, is_over: true, ..flow };
                self.flows.insert(key, over);
                return Found::AfterEnd;
            }
        }
        if targets.is_empty() {
            self.flows.remove(&key);
            return Found::Unknown;
        }
        if let Some(flow) = before.filter(|flow| !flow.is_over) {
            // A call that still listens where a flow goes that never paused keeps it. One that only
            // shares the sender's address does not: a gateway may send every call from one port.
            let goes_on = now.ms_since(flow.last) < 500 && seq.wrapping_sub(flow.seq) < CONTINUES;
            let is_kept = |old: &Target| {
                let listens = table.receives(old.call, key.destination);
                goes_on && listens && !targets.has(old.call) && is_audio(old.role)
            };
            let mut kept = Targets::default();
            let old = flow.targets.iter().filter(is_kept);
            kept.list.iter_mut().zip(old).for_each(|(slot, target)| *slot = Some(target));
            // Another call that announces where it goes, and not where it comes from, may mean a
            // flow of its own: this one's sender stays who it was.
            let is_guess = self.found.iter().all(|found| found.fit < Fit::Both);
            if flow.is_firm && is_guess && !kept.is_empty() {
                targets = kept;
            } else {
                let free = targets.list.iter_mut().filter(|slot| slot.is_none());
                free.zip(kept.iter()).for_each(|(slot, target)| *slot = Some(target));
            }
        }
        self.make_room(now);
        if self.flows.len() < FLOWS_MAX {
            let flow = Flow {
                targets: Targets { told: Told::Already, ..targets },
                stamp: table.stamp(key.source, key.destination),
                last: now,
                seq,
                is_over: false,
                is_firm,
            };
            self.flows.insert(key, flow);
        }
        Found::Calls(targets)
    }

    fn make_room(&mut self, now: PacketTime) {
        if self.flows.len() >= FLOWS_MAX {
            self.flows.retain(|_, flow| now.ms_since(flow.last) < 2 * ENDED_FLOW_MS);
        }
    }
}

const fn is_audio(role: ClaimRole) -> bool {
    matches!(role, ClaimRole::Audio | ClaimRole::Candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Endpoint, Ssrc};
    use crate::rtp::flow_table::Claim;

    fn at(ms: i64) -> PacketTime {
        PacketTime::from_ms(ms)
    }

    fn setup() -> (FlowTable, FlowKey, [Claim; 2]) {
        let (source, destination) =
            (Endpoint::v4([10, 0, 0, 1], 4_000), Endpoint::v4([10, 0, 0, 2], 5_000));
        let claim = |endpoint, party| Claim { endpoint, party, role: ClaimRole::Audio };
        let claims = [claim(source, Channel::Caller), claim(destination, Channel::Callee)];
        (FlowTable::default(), FlowKey { source, destination, ssrc: Ssrc(7) }, claims)
    }

    fn call_of(found: Found) -> Option<CallIndex> {
        match found {
            Found::Calls(targets) => targets.iter().next().map(|target| target.call),
            _ => None,
        }
    }

    #[test]
    fn two_calls_that_reuse_a_port_and_even_the_ssrc_never_mix() {
        let (mut table, key, claims) = setup();
        let mut flows = Flows::default();
        table.set(CallIndex(1), &claims, at(0));
        assert_eq!(call_of(flows.find(key, 500, at(0), &table)), Some(CallIndex(1)));
        table.remove(CallIndex(1));
        assert_eq!(flows.find(key, 501, at(20), &table), Found::AfterEnd);
        table.set(CallIndex(2), &claims, at(30));
        // A last packet of the first call, on its way when the second began.
        assert_eq!(flows.find(key, 502, at(40), &table), Found::AfterEnd);
        // The second call's phone starts anew.
        assert_eq!(call_of(flows.find(key, 9_000, at(60), &table)), Some(CallIndex(2)));
        assert_eq!(call_of(flows.find(key, 9_001, at(80), &table)), Some(CallIndex(2)));
    }

    #[test]
    fn a_flow_seen_before_its_answer_goes_to_the_call_that_announces_its_destination() {
        let (mut table, key, claims) = setup();
        let mut flows = Flows::default();
        // Another call of the same gateway, which sends all its calls from one port.
        let elsewhere = Endpoint::v4([10, 0, 0, 2], 4_998);
        let other = Claim { endpoint: elsewhere, ..claims[1] };
        table.set(CallIndex(1), &[claims[0], other], at(0));
        assert_eq!(call_of(flows.find(key, 500, at(1), &table)), Some(CallIndex(1)));
        // The correlator's word comes a moment after the first packet.
        table.set(CallIndex(2), &claims, at(2));
        for packet in 1..50_u16 {
            let now = at(2 + i64::from(packet) * 20);
            let Found::Calls(targets) = flows.find(key, 500 + packet, now, &table) else {
                panic!("packet {packet} has no call");
            };
            let calls: Vec<_> = targets.iter().map(|target| target.call).collect();
            assert_eq!(calls, [CallIndex(2)]);
        }
    }

    #[test]
    fn a_flow_that_fitted_a_call_by_its_sender_alone_does_not_end_with_it() {
        let (mut table, key, claims) = setup();
        let mut flows = Flows::default();
        table.set(CallIndex(1), &claims[..1], at(0));
        assert_eq!(call_of(flows.find(key, 500, at(1), &table)), Some(CallIndex(1)));
        table.remove(CallIndex(1));
        assert_eq!(flows.find(key, 501, at(20), &table), Found::AfterEnd);
        table.set(CallIndex(2), &claims, at(30));
        assert_eq!(call_of(flows.find(key, 502, at(40), &table)), Some(CallIndex(2)));
        assert_eq!(call_of(flows.find(key, 503, at(60), &table)), Some(CallIndex(2)));
    }

    #[test]
    fn an_unknown_flow_stays_unknown_until_it_is_announced() {
        let (mut table, key, claims) = setup();
        let mut flows = Flows::default();
        assert_eq!(flows.find(key, 1, at(0), &table), Found::Unknown);
        table.set(CallIndex(3), &claims, at(10));
        assert_eq!(call_of(flows.find(key, 2, at(20), &table)), Some(CallIndex(3)));
    }

    #[test]
    fn a_flow_through_a_port_that_two_calls_share_stays_with_its_call() {
        let (mut table, key, claims) = setup();
        let mut flows = Flows::default();
        // A gateway that receives every call on one port, and two phones behind a NAT.
        let phone = Endpoint::v4([192, 168, 0, 9], 4_000);
        let gateway = claims[1];
        table.set(CallIndex(1), &[Claim { endpoint: phone, ..claims[0] }, gateway], at(0));
        assert_eq!(call_of(flows.find(key, 1, at(0), &table)), Some(CallIndex(1)));
        let other = phone.with_port(4_002);
        table.set(CallIndex(2), &[Claim { endpoint: other, ..claims[0] }, gateway], at(10));
        let Found::Calls(targets) = flows.find(key, 2, at(20), &table) else { panic!("lost") };
        let calls: Vec<_> = targets.iter().map(|target| target.call).collect();
        assert_eq!(calls, [CallIndex(1)]);
    }
}
