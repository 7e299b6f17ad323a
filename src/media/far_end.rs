//! What the phones themselves say in RTCP: how each stream was sent, and how it arrived.
//!
//! Purpose: the receiver's view of a stream beside ours, so that loss in front of the tap and behind it
//! can be told apart.
//! Invariants: at most `STREAMS_PER_CALL_MAX` sources and as many receptions; only a report about an
//! SSRC that was seen as a stream of the other party is ever told.
//! Non-goals: clocks (sound is placed by packet times), SRTCP (decrypted before it comes here, or not
//! used).
//! Sources: RFC 3550 §6.4 (SR, RR), §6.4.1 (round trip by LSR and DLSR), §6.5 (CNAME), §6.6 (BYE);
//! RFC 3611 §4.5-4.7 (extended reports); RFC 5506 (reduced size: any order, any packet alone).
//!
//! ```text
//!  sender ──── SR(ntp) ────► tap ────────────────► receiver    round trip as told here:
//!                             │◄── RR(LSR, DLSR) ──────┤       RR passes − SR passes − DLSR
//! ```

use super::stream::StreamKey;
use crate::base::limits::STREAMS_PER_CALL_MAX;
use crate::base::time::{NS_PER_MS, NS_PER_S};
use crate::base::{Channel, PacketEntry, PacketTime, Ssrc};
use crate::rtp::plan::Protection;
use crate::rtp::rtcp::{ReportBlock, ReportBlocks, RtcpPacket, RtcpPackets};
use crate::rtp::rtcp_xr::{ExtendedBlock, ExtendedBlocks, Statistics, VoipMetrics};

/// Reference times kept of a source: an answer to an older one is not measured.
const REFERENCES_KEPT: usize = 8;

/// A longer round trip is a clock that lies.
const ROUND_TRIP_NS_MAX: i64 = 60 * NS_PER_S;

/// The tap's and the phones' clocks, and their rounding, may make a very short way negative.
const ROUND_TRIP_NS_MIN: i64 = -5 * NS_PER_MS;

/// What RTCP said about one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FarEndReport {
    /// Report blocks of its receiver.
    pub reports: u64,
    /// Lost on the whole way, by the latest of them; negative with duplicates (RFC 3550 §6.4.1).
    pub lost: Option<i32>,
    /// The worst share lost between two of them, 0-1.
    pub fraction_lost_max: Option<f64>,
    /// Interarrival jitter at the receiver, by the latest.
    pub jitter_ms: Option<f64>,
    /// From the tap to the receiver and back, mean.
    pub round_trip_ms: Option<f64>,
    /// Packets by the sender's own latest count.
    pub sent_packets: Option<u32>,
    /// The sender's canonical name.
    pub cname: Option<String>,
    /// The sender said goodbye.
    pub goodbye: bool,
    /// The latest figures of the receiver's quality monitor.
    pub voip: Option<VoipMetrics>,
    /// Counts of its statistics, all intervals added.
    pub statistics: Option<StatisticsReport>,
}

/// Statistics summaries of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StatisticsReport {
    /// Lost.
    pub lost: Option<u64>,
    /// Came again.
    pub duplicate: Option<u64>,
    /// Mean jitter of the latest interval.
    pub jitter_ms: Option<f64>,
}

/// What RTCP says of a party's sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It sent media: its own count, or the other party's reports say so.
    Media,
    /// It reported, and never that it sent anything.
    Nothing,
}

/// All that RTCP said in a call.
#[derive(Debug, Default)]
pub struct FarEnd {
    /// Which channels' parties sent reports.
    reported: [bool; 2],
    sources: Vec<Source>,
    receptions: Vec<Reception>,
}

/// One SSRC, by its own word.
#[derive(Debug)]
struct Source {
    channel: Channel,
    ssrc: Ssrc,
    sent_packets: Option<u32>,
    cname: Option<String>,
    goodbye: bool,
    /// Middle 32 bits of an NTP time, and when it passed; newest first.
    references: [Option<(u32, PacketTime)>; REFERENCES_KEPT],
}

/// One SSRC, by the word of one who receives it.
#[derive(Debug)]
struct Reception {
    /// Who sends the stream.
    channel: Channel,
    ssrc: Ssrc,
    /// From where the report came, and to where it went.
    path: ([u8; 16], [u8; 16]),
    reports: u64,
    lost: i32,
    fraction_lost_max: u8,
    jitter_ticks: u32,
    round_trips_ns: (i64, i64),
    voip: Option<VoipMetrics>,
    statistics: Option<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    lost: Option<u64>,
    duplicate: Option<u64>,
    jitter_mean_ticks: Option<u32>,
}

/// Where a packet came from.
#[derive(Clone, Copy)]
struct Origin {
    time: PacketTime,
    channel: Channel,
    path: ([u8; 16], [u8; 16]),
}

impl FarEnd {
    /// Takes one RTCP datagram.
    ///
    /// `protection`: of the party that sent it. Where media is encrypted, only what is whole to its
    /// last byte is read: ciphertext never is.
    pub fn on_rtcp(&mut self, entry: &PacketEntry<'_>, protection: Protection) {
        if protection == Protection::Encrypted && !RtcpPackets::is_whole(entry.payload) {
            return;
        }
        let path = (entry.source.ip, entry.destination.ip);
        let origin = Origin { time: entry.time, channel: entry.channel, path };
        for packet in RtcpPackets::new(entry.payload) {
            self.on_packet(origin, packet);
        }
    }

    fn on_packet(&mut self, origin: Origin, packet: RtcpPacket<'_>) {
        self.reported[origin.channel.index()] |=
            matches!(packet, RtcpPacket::SenderReport { .. } | RtcpPacket::ReceiverReport { .. });
        match packet {
            RtcpPacket::SenderReport { ssrc, ntp, packets, reports, .. } => {
                if let Some(source) = self.source(origin.channel, ssrc) {
                    source.sent_packets = Some(packets);
                    source.refer(ntp, origin.time);
                }
                self.on_blocks(origin, reports);
            }
            RtcpPacket::ReceiverReport { reports, .. } => self.on_blocks(origin, reports),
            RtcpPacket::SourceDescription { names } => {
                for (ssrc, name) in names {
                    if let Some(source) = self.source(origin.channel, ssrc) {
                        source.cname = Some(readable(name));
                    }
                }
            }
            RtcpPacket::Bye { sources } => {
                for ssrc in sources {
                    if let Some(source) = self.source(origin.channel, ssrc) {
                        source.goodbye = true;
                    }
                }
            }
            RtcpPacket::ExtendedReport { ssrc, blocks } => self.on_extended(origin, ssrc, blocks),
            RtcpPacket::Other { .. } => {}
        }
    }

    fn on_blocks(&mut self, origin: Origin, blocks: ReportBlocks<'_>) {
        for block in blocks {
            let ReportBlock { ssrc, last_sender_report, .. } = block;
            let delay = block.delay_since_last_sender_report;
            let round_trip = self.round_trip_ns(origin, ssrc, last_sender_report, delay);
            let Some(reception) = self.reception(origin, ssrc) else { continue };
            reception.reports = reception.reports.saturating_add(1);
            reception.lost = block.cumulative_lost;
            reception.fraction_lost_max = reception.fraction_lost_max.max(block.fraction_lost);
            reception.jitter_ticks = block.jitter_ticks;
            reception.measured(round_trip);
        }
    }

    fn on_extended(&mut self, origin: Origin, reporter: Ssrc, blocks: ExtendedBlocks<'_>) {
        for block in blocks {
            match block {
                ExtendedBlock::ReceiverTime { ntp } => {
                    if let Some(source) = self.source(origin.channel, reporter) {
                        source.refer(ntp, origin.time);
                    }
                }
                ExtendedBlock::Delays(delays) => {
                    for it in delays {
                        let round_trip =
                            self.round_trip_ns(origin, it.ssrc, it.last_reference, it.delay);
                        if round_trip.is_some() {
                            if let Some(reception) = self.reception(origin, it.ssrc) {
                                reception.measured(round_trip);
                            }
                        }
                    }
                }
                ExtendedBlock::Statistics(found) => {
                    if let Some(reception) = self.reception(origin, found.ssrc) {
                        reception.statistics.get_or_insert_default().add(found);
                    }
                }
                ExtendedBlock::Voip(found) => {
                    if let Some(reception) = self.reception(origin, found.ssrc) {
                        reception.voip = Some(found);
                    }
                }
                ExtendedBlock::Other { .. } => {}
            }
        }
    }

    /// How long the way from the tap to the reporter and back took: when what it answers passed is
    /// remembered, and how long it waited there it says itself.
    fn round_trip_ns(&self, origin: Origin, ssrc: Ssrc, reference: u32, delay: u32) -> Option<i64> {
        if reference == 0 {
            return None;
        }
        let sender = origin.channel.other();
        let source = self.sources.iter().find(|it| it.channel == sender && it.ssrc == ssrc)?;
        let known = source.references.iter().flatten().find(|(at, _)| *at == reference);
        let (_, passed) = known?;
        let waited_ns = i64::from(delay).saturating_mul(NS_PER_S) / 65_536;
        let round_trip_ns = origin.time.ns_since(*passed).saturating_sub(waited_ns);
        let is_possible = (ROUND_TRIP_NS_MIN..=ROUND_TRIP_NS_MAX).contains(&round_trip_ns);
        Some(round_trip_ns.max(0)).filter(|_| is_possible)
    }

    fn source(&mut self, channel: Channel, ssrc: Ssrc) -> Option<&mut Source> {
        let known = self.sources.iter().position(|it| it.channel == channel && it.ssrc == ssrc);
        if known.is_none() && self.sources.len() < STREAMS_PER_CALL_MAX {
            self.sources.push(Source {
                channel,
                ssrc,
                sent_packets: None,
                cname: None,
                goodbye: false,
                references: [None; REFERENCES_KEPT],
            });
            return self.sources.last_mut();
        }
        self.sources.get_mut(known?)
    }

    /// What the sender of a packet says about a stream of the other party.
    fn reception(&mut self, origin: Origin, ssrc: Ssrc) -> Option<&mut Reception> {
        let Origin { path, .. } = origin;
        let channel = origin.channel.other();
        let is_it = |it: &Reception| (it.channel, it.ssrc, it.path) == (channel, ssrc, path);
        let known = self.receptions.iter().position(is_it);
        if known.is_none() && self.receptions.len() < STREAMS_PER_CALL_MAX {
            self.receptions.push(Reception {
                channel,
                ssrc,
                path,
                reports: 0,
                lost: 0,
                fraction_lost_max: 0,
                jitter_ticks: 0,
                round_trips_ns: (0, 0),
                voip: None,
                statistics: None,
            });
            return self.receptions.last_mut();
        }
        self.receptions.get_mut(known?)
    }

    /// Whether a party sent media, by its own reports and those about it; `None` where there are none.
    #[must_use]
    pub fn sending(&self, channel: Channel) -> Option<Sending> {
        let sent = |it: &Source| it.channel == channel && it.sent_packets.is_some_and(|n| n > 0);
        let heard = |it: &Reception| it.channel == channel && it.reports > 0;
        if self.sources.iter().any(sent) || self.receptions.iter().any(heard) {
            return Some(Sending::Media);
        }
        self.reported[channel.index()].then_some(Sending::Nothing)
    }

    /// What was said about a stream; `None` when nothing was.
    ///
    /// Where several hops carry the same SSRC, the report that travelled its way backwards is its
    /// receiver's; else the first one heard.
    #[must_use]
    pub fn report(&self, key: &StreamKey, clock_hz: u32) -> Option<FarEndReport> {
        let is_it = |it: &&Reception| it.channel == key.channel && it.ssrc == key.ssrc;
        let back = (key.destination.ip, key.source.ip);
        let mut receptions = self.receptions.iter().filter(is_it);
        let heard = receptions.clone().find(|it| it.path == back).or_else(|| receptions.next());
        let mut sources = self.sources.iter();
        let source = sources.find(|it| it.channel == key.channel && it.ssrc == key.ssrc);
        if heard.is_none() && source.is_none() {
            return None;
        }
        let mut report =
            heard.map_or_else(FarEndReport::default, |reception| reception.report(clock_hz));
        if let Some(source) = source {
            report.sent_packets = source.sent_packets;
            report.cname.clone_from(&source.cname);
            report.goodbye = source.goodbye;
        }
        Some(report)
    }
}

impl Source {
    fn refer(&mut self, ntp: u64, passed: PacketTime) {
        if ntp != 0 {
            self.references.rotate_right(1);
            let [newest, ..] = &mut self.references;
            *newest = u32::try_from(ntp >> 16 & 0xffff_ffff).ok().map(|middle| (middle, passed));
        }
    }
}

impl Reception {
    fn measured(&mut self, round_trip_ns: Option<i64>) {
        if let Some(round_trip_ns) = round_trip_ns {
            let (sum, count) = self.round_trips_ns;
            self.round_trips_ns = (sum.saturating_add(round_trip_ns), count.saturating_add(1));
        }
    }

    fn report(&self, clock_hz: u32) -> FarEndReport {
        let is_reported = self.reports > 0;
        let (sum_ns, measured) = self.round_trips_ns;
        let jitter = || ticks_to_ms(self.jitter_ticks, clock_hz);
        FarEndReport {
            reports: self.reports,
            lost: is_reported.then_some(self.lost),
            fraction_lost_max: is_reported.then(|| f64::from(self.fraction_lost_max) / 256.0),
            jitter_ms: is_reported.then(jitter),
            round_trip_ms: (measured > 0).then(|| sum_ns as f64 / measured as f64 / 1e6),
            voip: self.voip,
            statistics: self.statistics.map(|counts| counts.report(clock_hz)),
            ..FarEndReport::default()
        }
    }
}

impl Counts {
    fn add(&mut self, found: Statistics) {
        let add = |sum: &mut Option<u64>, more: Option<u32>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(u64::from(more)));
            }
        };
        add(&mut self.lost, found.lost);
        add(&mut self.duplicate, found.duplicate);
        self.jitter_mean_ticks = found.jitter_mean_ticks.or(self.jitter_mean_ticks);
    }

    fn report(self, clock_hz: u32) -> StatisticsReport {
        let jitter_ms = self.jitter_mean_ticks.map(|ticks| ticks_to_ms(ticks, clock_hz));
        StatisticsReport { lost: self.lost, duplicate: self.duplicate, jitter_ms }
    }
}

/// The name without what is no text: some senders count their padding as a part of it.
fn readable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().filter(|it| !it.is_control()).collect()
}

fn ticks_to_ms(ticks: u32, clock_hz: u32) -> f64 {
    f64::from(ticks) * 1e3 / f64::from(clock_hz.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Endpoint, EntryKind};

    const CALLER: Endpoint = Endpoint { ip: [1; 16], port: 4_001 };
    const CALLEE: Endpoint = Endpoint { ip: [2; 16], port: 5_001 };
    const RELAY: Endpoint = Endpoint { ip: [3; 16], port: 6_001 };

    /// A sender report with one block: who, NTP, packets, about whom, lost, LSR and DLSR.
    fn sender_report(who: u32, ntp: u64, about: u32, lost: i32, lsr: u32, dlsr: u32) -> Vec<u8> {
        let mut bytes = vec![0x81, 200, 0, 12];
        bytes.extend(who.to_be_bytes());
        bytes.extend(ntp.to_be_bytes());
        bytes.extend([0, 0, 1, 64, 0, 0, 0, 250, 0, 0, 0x9c, 0x40]);
        bytes.extend(about.to_be_bytes());
        bytes.extend(lost.to_be_bytes()); // fraction in the upper byte
        bytes.extend([0, 1, 0, 9, 0, 0, 0, 80]);
        bytes.extend(lsr.to_be_bytes());
        bytes.extend(dlsr.to_be_bytes());
        bytes
    }

    fn entry(
        ms: i64,
        channel: Channel,
        (source, destination): (Endpoint, Endpoint),
        payload: &[u8],
    ) -> PacketEntry<'_> {
        let time = PacketTime::from_ms(ms);
        PacketEntry { time, source, destination, kind: EntryKind::Rtcp, channel, payload }
    }

    fn from_caller(ms: i64, payload: &[u8]) -> PacketEntry<'_> {
        entry(ms, Channel::Caller, (CALLER, CALLEE), payload)
    }

    fn from_callee(ms: i64, payload: &[u8]) -> PacketEntry<'_> {
        entry(ms, Channel::Callee, (CALLEE, CALLER), payload)
    }

    fn key(channel: Channel, ssrc: u32) -> StreamKey {
        let (source, destination) = match channel {
            Channel::Caller => (CALLER.with_port(4_000), CALLEE.with_port(5_000)),
            Channel::Callee => (CALLEE.with_port(5_000), CALLER.with_port(4_000)),
        };
        StreamKey { channel, source, destination, ssrc: Ssrc(ssrc) }
    }

    #[test]
    fn a_stream_has_its_senders_count_and_its_receivers_losses_and_round_trip() {
        let mut far = FarEnd::default();
        let plain = Protection::Plain;
        let caller = sender_report(10, 0xe000_0001_8000_0000, 20, 0x0000_0002, 0, 0);
        far.on_rtcp(&from_caller(1_000, &caller), plain);
        // The callee answers after half a second; the way there and back took 40 ms.
        let callee = sender_report(20, 0xe000_0002_0000_0000, 10, 0x4000_0007, 0x0001_8000, 0x8000);
        far.on_rtcp(&from_callee(1_540, &callee), plain);
        let later =
            sender_report(20, 0xe000_0003_0000_0000, 10, 0x0100_0009, 0x0001_8000, 0x1_0000);
        far.on_rtcp(&from_callee(2_020, &later), plain);
        let told = far.report(&key(Channel::Caller, 10), 8_000).expect("reported");
        let expected = FarEndReport {
            reports: 2,
            lost: Some(9),
            fraction_lost_max: Some(0.25),
            jitter_ms: Some(10.0),
            round_trip_ms: Some(30.0),
            sent_packets: Some(250),
            ..FarEndReport::default()
        };
        assert_eq!(told, expected);
        let other = far.report(&key(Channel::Callee, 20), 8_000).expect("reported");
        assert_eq!((other.reports, other.lost, other.round_trip_ms), (1, Some(2), None));
    }

    #[test]
    fn a_report_about_an_ssrc_that_is_no_stream_is_never_told() {
        let mut far = FarEnd::default();
        let report = sender_report(10, 1, 99, 5, 0, 0);
        far.on_rtcp(&from_caller(0, &report), Protection::Plain);
        assert_eq!(far.report(&key(Channel::Callee, 20), 8_000), None);
        let same_party = far.report(&key(Channel::Caller, 99), 8_000);
        assert_eq!(same_party, None, "nobody reports on himself");
    }

    #[test]
    fn a_sender_that_nobody_reports_on_has_its_own_count_name_and_goodbye() {
        let mut far = FarEnd::default();
        let mut compound = sender_report(10, 1, 20, 0, 0, 0);
        compound.extend([0x81, 202, 0, 3, 0, 0, 0, 10, 1, 4, b'a', b'@', b'b', 0, 0, 0]);
        compound.extend([0x81, 203, 0, 1, 0, 0, 0, 10]);
        far.on_rtcp(&from_caller(0, &compound), Protection::Plain);
        let told = far.report(&key(Channel::Caller, 10), 8_000).expect("its own word");
        assert_eq!((told.reports, told.lost, told.sent_packets), (0, None, Some(250)));
        assert_eq!((told.cname.as_deref(), told.goodbye), (Some("a@b"), true));
    }

    #[test]
    fn of_several_hops_the_report_that_went_the_streams_way_backwards_is_its_receivers() {
        let mut far = FarEnd::default();
        let at_relay = sender_report(30, 1, 10, 1, 0, 0);
        let hop = entry(0, Channel::Callee, (RELAY, CALLER), &at_relay);
        far.on_rtcp(&hop, Protection::Plain);
        let at_callee = sender_report(20, 1, 10, 8, 0, 0);
        far.on_rtcp(&from_callee(5, &at_callee), Protection::Plain);
        let direct = far.report(&key(Channel::Caller, 10), 8_000).expect("reported");
        assert_eq!(direct.lost, Some(8));
        let to_relay = StreamKey { destination: RELAY, ..key(Channel::Caller, 10) };
        assert_eq!(far.report(&to_relay, 8_000).expect("reported").lost, Some(1));
    }

    #[test]
    fn one_who_only_listens_gets_a_round_trip_by_its_reference_time() {
        let mut far = FarEnd::default();
        let reference = [0x80, 207, 0, 4, 0, 0, 0, 20, 4, 0, 0, 2, 0, 0, 0, 9, 0x80, 0, 0, 0];
        far.on_rtcp(&from_callee(100, &reference), Protection::Plain);
        let answer =
            [0x80, 207, 0, 5, 0, 0, 0, 10, 5, 0, 0, 3, 0, 0, 0, 20, 0, 9, 0x80, 0, 0, 0, 0x40, 0];
        far.on_rtcp(&from_caller(370, &answer), Protection::Plain);
        let told = far.report(&key(Channel::Callee, 20), 8_000).expect("measured");
        assert_eq!((told.reports, told.lost, told.round_trip_ms), (0, None, Some(20.0)));
    }

    #[test]
    fn ciphertext_is_not_read_and_what_was_decrypted_is() {
        let mut far = FarEnd::default();
        let whole = sender_report(10, 1, 20, 3, 0, 0);
        let mut secure = whole.clone();
        secure.extend([0x80, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        far.on_rtcp(&from_caller(0, &secure), Protection::Encrypted);
        assert_eq!(far.report(&key(Channel::Callee, 20), 8_000), None);
        far.on_rtcp(&from_caller(0, &whole), Protection::Encrypted);
        assert_eq!(far.report(&key(Channel::Callee, 20), 8_000).map(|it| it.lost), Some(Some(3)));
    }

    #[test]
    fn a_flood_of_sources_meets_the_cap() {
        let mut far = FarEnd::default();
        for ssrc in 0..10_000 {
            let report = sender_report(ssrc, 1, ssrc.wrapping_add(1_000), 0, 0, 0);
            far.on_rtcp(&from_caller(0, &report), Protection::Plain);
        }
        assert_eq!((far.sources.len(), far.receptions.len()), (64, 64));
    }
}
