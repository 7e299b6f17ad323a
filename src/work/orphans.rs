//! RTP that came before its SDP.
//!
//! Purpose: keep it for two seconds, in case the SDP is only a little behind (an answer in the ACK,
//! SIP over another ring).
//! Invariants: bytes and packets are bounded, for one flow and for all; the oldest flow goes whole;
//! every packet that is kept comes out once: claimed, unclaimed or dropped.
//! Non-goals: whose it is (see `rtp::flow_table`).
//! Sources: RFC 3264 §5.1 (media may arrive before the answer).

use crate::base::limits::{
    ORPHAN_BYTES_MAX, ORPHAN_WAIT_MS, ORPHANS_PER_FLOW_MAX, UNCLAIMED_FLOWS_MAX,
};
use crate::base::{Endpoint, FrameOutcome, PacketEntry, PacketTime, Ssrc};
use crate::rtp::sight::{FlowSight, Occasion, Sound, look};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A flow: both addresses and the SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
    /// Synchronization source.
    pub ssrc: Ssrc,
}

#[derive(Debug)]
struct OrphanFlow {
    serial: u64,
    first: PacketTime,
    packets: VecDeque<(PacketTime, Vec<u8>)>,
    /// Packets that have left it: the number of its first in `packets`.
    left: u64,
    bytes: usize,
    /// Packets that the cap pushed out before it is known whether anybody claims the flow.
    pushed_out: u64,
    /// It had packets that nobody claimed: more of the same is no surprise.
    is_known_unclaimed: bool,
    /// With so many packets it is looked at next.
    next_look: u64,
    /// Whether it was looked at late enough for a call to be made from it.
    last_look: LastLook,
}

/// Whether the look before the first packet is given up was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastLook {
    Due,
    Taken,
}

/// Packets with which a flow is looked at first; then with twice as many, and so on.
const FIRST_LOOK: u64 = 5;

/// Packets between two looks at most: about ten seconds.
const LOOK_AGAIN_MOST: u64 = 500;

/// A flow that has waited so long will not be announced any more: time to make a call from it, while
/// its first packet is still held.
const LAST_LOOK_MS: i64 = ORPHAN_WAIT_MS - 500;

/// What an unclaimed flow carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carries {
    /// RTP.
    Rtp,
    /// RTCP.
    Rtcp,
}

/// When one packet is due. It may have left before: then its flow is another, or is beyond it.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    time: PacketTime,
    key: FlowKey,
    serial: u64,
    number: u64,
}

/// Arrivals of packets that have left, beyond which they are cleared away.
const STALE_ARRIVALS_MAX: usize = 1_024;

/// One flow that nobody claimed, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnclaimedFlow {
    /// Which.
    pub key: FlowKey,
    /// What.
    pub carries: Carries,
    /// Its frames.
    pub frames: u64,
}

/// What became of packets that had waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Nobody claimed them in time.
    pub unclaimed: u64,
    /// They met the cap.
    pub dropped: u64,
}

/// The orphan buffer of one front.
#[derive(Debug, Default)]
pub struct Orphans {
    flows: HashMap<FlowKey, OrphanFlow, RandomState>,
    by_endpoint: HashMap<Endpoint, Vec<FlowKey>, RandomState>,
    by_age: BTreeMap<u64, FlowKey>,
    /// Packets in order of arrival: what expires next.
    order: VecDeque<Arrival>,
    serial: u64,
    bytes: usize,
    /// Packets in all flows.
    held: usize,
    /// `pushed_out` of all flows.
    pushed_out: u64,
    resolved: Resolved,
    unclaimed: HashMap<(FlowKey, Carries), u64, RandomState>,
}

impl Orphans {
    /// Keeps a packet; `entry.channel` has no meaning yet.
    ///
    /// What has waited long enough by its time is given up first: a source that hands over minutes
    /// of frames at once has no time in between for `expire`.
    pub fn keep(&mut self, key: FlowKey, entry: &PacketEntry<'_>) {
        self.expire(entry.time);
        if !self.flows.contains_key(&key) {
            self.open(key, entry.time);
        }
        self.make_room(key, entry.time);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let mut bytes = vec![0; entry.len_bytes()];
        if entry.write(&mut bytes).is_none() {
            self.resolved.dropped += 1;
            return;
        }
        flow.bytes += bytes.len();
        self.bytes += bytes.len();
        self.held += 1;
        let number = flow.left.saturating_add(u64::try_from(flow.packets.len()).unwrap_or(0));
        flow.packets.push_back((entry.time, bytes));
        let serial = flow.serial;
        self.order.push_back(Arrival { time: entry.time, key, serial, number });
        while self.bytes > ORPHAN_BYTES_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.drop_flow(oldest);
        }
        if self.order.len() > 2 * self.held + STALE_ARRIVALS_MAX {
            let flows = &self.flows;
            self.order.retain(|arrival| is_held(flows, *arrival));
        }
    }

    /// Pushes out the oldest packet of a flow that is full. Whether that is our loss is known only
    /// when the flow is claimed, or when nobody claimed it in time.
    fn make_room(&mut self, key: FlowKey, now: PacketTime) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.packets.len() < ORPHANS_PER_FLOW_MAX {
            return;
        }
        let Some((_, oldest)) = flow.packets.pop_front() else { return };
        flow.left += 1;
        flow.bytes -= oldest.len();
        flow.pushed_out += 1;
        self.bytes -= oldest.len();
        self.held -= 1;
        self.pushed_out += 1;
        if flow.is_known_unclaimed || now.ms_since(flow.first) >= ORPHAN_WAIT_MS {
            self.give_up_pushed_out(key);
        }
    }

    /// Nobody claims the flow: what the cap pushed out of it was unclaimed too.
    fn give_up_pushed_out(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.is_known_unclaimed = true;
        let frames = std::mem::take(&mut flow.pushed_out);
        if frames > 0 {
            self.pushed_out -= frames;
            self.resolved.unclaimed += frames;
            self.count_unclaimed(key, Carries::Rtp, frames);
        }
    }

    /// Hands the packets of every flow that touches `endpoint` to `claim`, oldest flow first.
    pub fn claim(
        &mut self,
        endpoint: Endpoint,
        mut claim: impl FnMut(FlowKey, &PacketEntry<'_>) -> bool,
    ) {
        let mut keys = self.by_endpoint.get(&endpoint).cloned().unwrap_or_default();
        keys.sort_by_key(|key| self.flows.get(key).map(|flow| flow.serial));
        for key in keys {
            let Some(flow) = self.flows.get(&key) else { continue };
            let mut is_claimed = false;
            for (_, bytes) in &flow.packets {
                if let Some(entry) = PacketEntry::read(bytes) {
                    is_claimed = claim(key, &entry);
                    if !is_claimed {
                        break;
                    }
                }
            }
            if is_claimed {
                self.forget(key);
            }
        }
    }

    /// Gives up packets that have waited long enough.
    pub fn expire(&mut self, now: PacketTime) {
        while let Some(arrival) = self.order.front().copied() {
            if now.ms_since(arrival.time) < ORPHAN_WAIT_MS {
                break;
            }
            self.order.pop_front();
            let key = arrival.key;
            let is_held = is_held(&self.flows, arrival);
            let Some(flow) = self.flows.get_mut(&key).filter(|_| is_held) else { continue };
            if let Some((_, bytes)) = flow.packets.pop_front() {
                flow.left += 1;
                flow.bytes -= bytes.len();
                self.bytes -= bytes.len();
                self.held -= 1;
                self.resolved.unclaimed += 1;
                let is_empty = flow.packets.is_empty();
                self.count_unclaimed(key, Carries::Rtp, 1);
                self.give_up_pushed_out(key);
                if is_empty {
                    self.forget(key);
                }
            }
        }
    }

    /// What became of packets since the last call.
    pub fn take_resolved(&mut self) -> Resolved {
        std::mem::take(&mut self.resolved)
    }

    /// Packets that still wait, or of which it is not known yet what they were.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        u64::try_from(self.held).unwrap_or(u64::MAX).saturating_add(self.pushed_out)
    }

    /// Flows that nobody claimed, as far as they are remembered.
    #[must_use]
    pub fn unclaimed_flows(&self) -> u64 {
        u64::try_from(self.unclaimed.len()).unwrap_or(u64::MAX)
    }

    /// The flows that carry most of what nobody claimed, biggest first.
    #[must_use]
    pub fn biggest_unclaimed(&self, most: usize) -> Vec<UnclaimedFlow> {
        let mut flows: Vec<UnclaimedFlow> = self
            .unclaimed
            .iter()
            .map(|((key, carries), frames)| UnclaimedFlow {
                key: *key,
                carries: *carries,
                frames: *frames,
            })
            .collect();
        flows.sort_by_key(|flow| (std::cmp::Reverse(flow.frames), flow.key, flow.carries));
        flows.truncate(most);
        flows
    }

    /// Counts frames of a flow that nobody claimed.
    pub fn count_unclaimed(&mut self, key: FlowKey, carries: Carries, frames: u64) {
        let key = (key, carries);
        if self.unclaimed.len() < UNCLAIMED_FLOWS_MAX || self.unclaimed.contains_key(&key) {
            *self.unclaimed.entry(key).or_default() += frames;
        }
    }

    /// What a flow looks like, where it has enough packets since it was looked at last.
    pub fn due_look(&mut self, key: FlowKey, now: PacketTime) -> Option<FlowSight> {
        let flow = self.flows.get_mut(&key)?;
        let packets = flow.left.saturating_add(u64::try_from(flow.packets.len()).unwrap_or(0));
        if packets < flow.next_look {
            return None;
        }
        flow.next_look = packets.saturating_add(packets.min(LOOK_AGAIN_MOST));
        let is_last = now.ms_since(flow.first) >= LAST_LOOK_MS;
        flow.look(key, if is_last { Occasion::Last } else { Occasion::Early })
    }

    /// Flows whose first packet is given up at `now` and that were not looked at late enough.
    pub fn last_looks(&mut self, now: PacketTime, out: &mut Vec<FlowSight>) {
        let due = |arrival: &&Arrival| now.ms_since(arrival.time) >= ORPHAN_WAIT_MS;
        for arrival in self.order.iter().take_while(due) {
            let Some(flow) = self.flows.get_mut(&arrival.key) else { continue };
            if flow.serial == arrival.serial && flow.last_look == LastLook::Due {
                out.extend(flow.look(arrival.key, Occasion::Last));
            }
        }
    }

    fn open(&mut self, key: FlowKey, first: PacketTime) {
        self.serial += 1;
        let is_known_unclaimed = self.unclaimed.contains_key(&(key, Carries::Rtp));
        let flow = OrphanFlow {
            serial: self.serial,
            first,
            packets: VecDeque::new(),
            left: 0,
            bytes: 0,
            pushed_out: 0,
            is_known_unclaimed,
            next_look: FIRST_LOOK,
            last_look: LastLook::Due,
        };
        self.flows.insert(key, flow);
        self.by_age.insert(self.serial, key);
        for endpoint in [key.source, key.destination] {
            self.by_endpoint.entry(endpoint).or_default().push(key);
        }
    }

    fn drop_flow(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get(&key) else { return };
        let frames = u64::try_from(flow.packets.len()).unwrap_or(0);
        if flow.is_known_unclaimed {
            self.resolved.unclaimed += frames;
            self.count_unclaimed(key, Carries::Rtp, frames);
        } else {
            self.resolved.dropped += frames;
        }
        self.forget(key);
    }

    fn forget(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.remove(&key) else { return };
        debug_assert!(flow.first.ns() != i64::MAX);
        self.bytes -= flow.bytes;
        self.held -= flow.packets.len();
        // Claimed, or dropped whole: these were a call's, as far as is known.
        self.pushed_out -= flow.pushed_out;
        self.resolved.dropped += flow.pushed_out;
        self.by_age.remove(&flow.serial);
        for endpoint in [key.source, key.destination] {
            if let Some(keys) = self.by_endpoint.get_mut(&endpoint) {
                keys.retain(|known| *known != key);
                if keys.is_empty() {
                    self.by_endpoint.remove(&endpoint);
                }
            }
        }
    }
}

impl OrphanFlow {
    /// What is held of it; `None` for what is no stream.
    fn look(&mut self, key: FlowKey, occasion: Occasion) -> Option<FlowSight> {
        if occasion == Occasion::Last {
            self.last_look = LastLook::Taken;
        }
        let entries = self.packets.iter().filter_map(|(time, bytes)| {
            let entry = PacketEntry::read(bytes)?;
            Some((*time, entry.payload))
        });
        let looks = look(&entries);
        let first = self.packets.front().map(|(time, _)| *time)?;
        let FlowKey { source, destination, ssrc } = key;
        let sight = FlowSight { source, destination, ssrc, reported: None, first, looks, occasion };
        (looks.sound != Sound::Unconvincing).then_some(sight)
    }
}

fn is_held(flows: &HashMap<FlowKey, OrphanFlow, RandomState>, arrival: Arrival) -> bool {
    let Some(flow) = flows.get(&arrival.key) else { return false };
    flow.serial == arrival.serial && flow.left <= arrival.number
}

impl Resolved {
    /// As outcomes.
    pub fn outcomes(self) -> [(FrameOutcome, u64); 2] {
        [(FrameOutcome::UnclaimedRtp, self.unclaimed), (FrameOutcome::OrphanDropped, self.dropped)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Channel, EntryKind};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::v4([10, 0, 0, 1], port)
    }

    fn key(port: u16) -> FlowKey {
        FlowKey { source: endpoint(port), destination: endpoint(1), ssrc: Ssrc(9) }
    }

    fn unclaimed(frames: u64) -> UnclaimedFlow {
        UnclaimedFlow { key: key(5), carries: Carries::Rtp, frames }
    }

    fn entry(port: u16, ms: i64, payload: &[u8]) -> PacketEntry<'_> {
        PacketEntry {
            time: PacketTime::from_ms(ms),
            source: endpoint(port),
            destination: endpoint(1),
            kind: EntryKind::Rtp,
            channel: Channel::Caller,
            payload,
        }
    }

    #[test]
    fn what_is_claimed_in_time_comes_out_once_and_in_order() {
        let mut orphans = Orphans::default();
        for ms in [0, 20, 40] {
            orphans.keep(key(5), &entry(5, ms, b"rtp"));
        }
        let mut times = Vec::new();
        orphans.claim(endpoint(1), |_, entry| {
            times.push(entry.time.ns() / 1_000_000);
            true
        });
        assert_eq!(times, [0, 20, 40]);
        orphans.expire(PacketTime::MAX);
        assert_eq!((orphans.take_resolved(), orphans.bytes), (Resolved::default(), 0));
    }

    #[test]
    fn a_flow_that_nobody_claims_is_no_loss_however_many_frames_come_at_once() {
        // A replay hands over up to a whole file before it has time for `expire`.
        let mut orphans = Orphans::default();
        for number in 0..800 {
            orphans.keep(key(5), &entry(5, number * 40, b"rtp"));
        }
        assert!(orphans.waiting() <= 51, "{}", orphans.waiting());
        orphans.expire(PacketTime::MAX);
        assert_eq!(orphans.take_resolved(), Resolved { unclaimed: 800, dropped: 0 });
        assert_eq!(orphans.biggest_unclaimed(5), [unclaimed(800)]);
    }

    #[test]
    fn what_the_cap_pushed_out_is_a_loss_only_when_the_flow_is_claimed() {
        let beyond = 744;
        for is_claimed in [false, true] {
            let mut orphans = Orphans::default();
            for number in 0..1_000 {
                orphans.keep(key(5), &entry(5, number, b"video"));
            }
            assert_eq!((orphans.take_resolved(), orphans.waiting()), (Resolved::default(), 1_000));
            orphans.claim(endpoint(1), |_, _| is_claimed);
            orphans.expire(PacketTime::MAX);
            let expected = if is_claimed {
                Resolved { unclaimed: 0, dropped: beyond }
            } else {
                Resolved { unclaimed: 1_000, dropped: 0 }
            };
            assert_eq!((orphans.take_resolved(), orphans.waiting()), (expected, 0));
        }
    }

    #[test]
    fn what_nobody_claims_is_unclaimed_after_two_seconds() {
        let mut orphans = Orphans::default();
        orphans.keep(key(5), &entry(5, 0, b"rtp"));
        orphans.keep(key(5), &entry(5, 1_000, b"rtp"));
        orphans.expire(PacketTime::from_ms(ORPHAN_WAIT_MS - 1));
        assert_eq!(orphans.take_resolved().unclaimed, 0);
        orphans.expire(PacketTime::from_ms(ORPHAN_WAIT_MS));
        assert_eq!((orphans.take_resolved().unclaimed, orphans.waiting()), (1, 1));
        orphans.expire(PacketTime::MAX);
        assert_eq!(orphans.biggest_unclaimed(5), [unclaimed(2)]);
        assert!(orphans.flows.is_empty() && orphans.by_endpoint.is_empty());
    }

    #[test]
    fn a_flood_meets_the_caps_and_every_packet_is_counted() {
        let mut orphans = Orphans::default();
        let payload = vec![0; 60_000];
        let mut kept = 0;
        for flow in 0..400_u16 {
            orphans.keep(key(flow + 10), &entry(flow + 10, 0, &payload));
            kept += 1;
        }
        for _ in 0..(ORPHANS_PER_FLOW_MAX + 7) {
            orphans.keep(key(5), &entry(5, 1, b"small"));
            kept += 1;
        }
        assert!(orphans.bytes <= ORPHAN_BYTES_MAX);
        let dropped = orphans.take_resolved().dropped;
        assert!(dropped > 100, "{dropped}");
        assert_eq!(orphans.waiting() + dropped, kept);
        let in_flows = orphans.flows.values().map(|flow| flow.packets.len()).sum::<usize>();
        assert_eq!(orphans.held, in_flows);
        orphans.expire(PacketTime::MAX);
        assert_eq!(orphans.take_resolved().unclaimed + dropped, kept);
    }

    #[test]
    fn a_flood_within_one_moment_leaves_no_trail_of_what_it_pushed_out() {
        let mut orphans = Orphans::default();
        for packet in 0..20_000_u16 {
            orphans.keep(key(5), &entry(5, 0, &packet.to_be_bytes()));
        }
        assert_eq!((orphans.held, orphans.waiting()), (256, 20_000));
        assert!(orphans.order.len() <= 2 * orphans.held + STALE_ARRIVALS_MAX);
        orphans.expire(PacketTime::from_ms(ORPHAN_WAIT_MS));
        let resolved = orphans.take_resolved();
        assert_eq!((resolved.unclaimed, resolved.dropped), (20_000, 0));
        assert!(orphans.order.is_empty() && orphans.flows.is_empty());
    }
}
