//! Packets that are locked, or that no decoder here reads: opened where a key fits, else kept as they
//! came.
//!
//! Purpose: authenticate and decrypt before anything is made of a payload, and keep what cannot be
//! heard, with its reason.
//! Invariants: a packet that fails authentication is never decoded; ciphertext is never taken for
//! sound, whatever SDP said; keys are tried only of the party that sent the packet.
//! Non-goals: cryptography (see `rtp::srtp`), decoders (see `decoder`).
//! Sources: RFC 3711 §3.3, RFC 4568 §7, RFC 8643 §3 (crypto attributes beside RTP/AVP).

use super::call_media::CallMedia;
use super::gaps::{Gap, GapReason};
use super::key_exchange::Agreement;
use super::report::Recorded;
use super::settings::{MediaSink, Store};
use super::track::SLOT_MS;
use crate::base::time::NS_PER_MS;
use crate::base::{Channel, EntryKind, PacketEntry, PacketTime};
use crate::rtp::header::RtpView;
use crate::rtp::plan::{ChannelPlan, Control, Protection};

/// Packets of a stream that were seen to be ciphertext; from then on their length alone tells.
const LOCKED_BY_SIGHT: u64 = 8;

/// What a packet is, once its sender's keys were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// It came in the clear.
    None,
    /// A key authenticated it, and it is decrypted.
    Opened,
    /// No key did.
    Locked,
}

impl CallMedia {
    /// Tries the sender's keys on a packet of the stream `index`: `out` is the packet in the clear
    /// where one opens it.
    pub(super) fn unlock(
        &mut self,
        entry: &PacketEntry<'_>,
        index: usize,
        payload_type: u8,
        out: &mut Vec<u8>,
    ) -> Lock {
        let sending = self.plan.sending(entry.channel, entry.source, entry.destination);
        let protection = sending.protection;
        let ring = &self.keys[entry.channel.index()];
        let Some(stream) = self.streams.get_mut(index) else { return Lock::Locked };
        if !ring.is_empty() && stream.srtp.open(ring, entry.payload, out) {
            return Lock::Opened;
        }
        let is_locked = match protection {
            Protection::Encrypted => true,
            _ if self.key_exchanges.agreement(entry).is_some() => true,
            Protection::Optional if stream.srtp.suite().is_some() => true,
            Protection::Optional if !has_bytes_by_time(sending, payload_type) => !ring.is_empty(),
            Protection::Optional | Protection::Plain => {
                let is_known = stream.locked >= LOCKED_BY_SIGHT;
                has_bytes_by_time(sending, payload_type) && is_ciphertext(entry.payload, is_known)
            }
        };
        if is_locked {
            stream.locked = stream.locked.saturating_add(1);
            return Lock::Locked;
        }
        Lock::None
    }

    /// RTCP, protected or not; what is kept is what was on the wire.
    pub(super) fn rtcp(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        let ring = &self.keys[entry.channel.index()];
        let mut plain = Vec::new();
        if !ring.is_empty() && ring.unprotect_rtcp(entry.payload, &mut plain).is_some() {
            let opened = PacketEntry { payload: &plain, ..*entry };
            self.far_end.on_rtcp(&opened, Protection::Plain);
        } else {
            let sending = self.plan.sending(entry.channel, entry.source, entry.destination);
            self.far_end.on_rtcp(entry, sending.protection);
        }
        if self.settings.store == Store::Raw {
            self.keep_raw(entry, sink);
        }
    }

    /// DTLS or ZRTP on one of the call's flows.
    pub(super) fn key_exchange(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        if self.key_exchanges.on_packet(entry) {
            self.take_keys(entry.time, sink);
        }
        if self.settings.store == Store::Raw {
            sink.raw(entry);
        }
    }

    /// Takes the keys of a new plan, or of a handshake, which become part of the plan; those before
    /// it are tried for as long as there is room.
    pub(super) fn take_keys(&mut self, now: PacketTime, sink: &mut dyn MediaSink) {
        for channel in Channel::BOTH {
            let plan = self.plan.channel_mut(channel);
            let announced = std::mem::take(&mut plan.keys);
            plan.add_keys(self.key_exchanges.keys(channel));
            plan.add_keys(&announced);
            let keys = self.plan.of_channel(channel).flat_map(|plan| &plan.keys);
            self.keys[channel.index()].update(keys);
        }
        let has_learned = self.key_exchanges.any() == Some(Agreement::Dtls);
        if self.has_unread || (has_learned && self.settings.store == Store::Raw) {
            keep_control(now, &Control::Plan(self.plan.clone()), sink);
        }
    }

    /// Keeps a packet that cannot be heard, and notes the gap.
    pub(super) fn keep_unread(
        &mut self,
        entry: &PacketEntry<'_>,
        index: usize,
        (start, reason, why): (PacketTime, GapReason, &str),
        sink: &mut dyn MediaSink,
    ) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let packet_ns = SLOT_MS * NS_PER_MS;
        let at_ns = entry.time.ns_since(start);
        let near = at_ns.abs_diff(stream.unread_until_ns) < 200 * NS_PER_MS.unsigned_abs();
        let from_ns = if near { stream.unread_until_ns } else { at_ns };
        let to_ns = at_ns.saturating_add(packet_ns).max(from_ns);
        stream.unread_until_ns = to_ns;
        let channel = entry.channel;
        self.gaps.note(Gap::silent(channel, (from_ns, to_ns), reason));
        if matches!(reason, GapReason::Undecodable | GapReason::Fax) {
            let channel = channel.label();
            self.note(&format!("{channel}: raw RTP kept: it {why}"));
        }
        self.keep_apart(entry, sink);
    }

    /// Keeps a packet as it came beside the sound, and before the first one what SIP says of it.
    fn keep_apart(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        if !self.has_unread {
            self.has_unread = true;
            keep_control(entry.time, &Control::Plan(self.plan.clone()), sink);
        }
        self.keep_raw(entry, sink);
    }

    /// T.38 in the sound's place.
    pub(super) fn fax_packet(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        self.fax.packet(entry.time);
        if self.is_recording() {
            self.start.get_or_insert(entry.time);
            match self.settings.store {
                Store::None => {}
                Store::Raw => self.keep_raw(entry, sink),
                Store::Opus => self.keep_apart(entry, sink),
            }
        }
    }

    /// Keeps a packet as it came.
    pub(super) fn keep_raw(&mut self, entry: &PacketEntry<'_>, sink: &mut dyn MediaSink) {
        if self.recorded == Recorded::Nothing {
            self.recorded = Recorded::Raw;
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(entry.len_bytes()).unwrap_or(0));
        sink.raw(entry);
    }

    /// What is told of packets that stayed locked.
    pub(super) fn notes_on_locked(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for channel in Channel::BOTH {
            let of_channel = self.streams.iter().filter(|stream| stream.key.channel == channel);
            let (mut locked, mut opened) = (0_u64, false);
            for stream in of_channel {
                locked = locked.saturating_add(stream.locked);
                opened |= stream.srtp.suite().is_some();
            }
            if locked == 0 {
                continue;
            }
            let agreement = self.key_exchanges.any();
            let why = if opened {
                "that no key authenticated"
            } else if agreement == Some(Agreement::Zrtp) {
                "with keys agreed on by ZRTP"
            } else if !self.keys[channel.index()].is_empty() {
                "that the known keys do not authenticate"
            } else if agreement == Some(Agreement::Dtls) {
                "with keys agreed on by DTLS, for which the key log has no secret"
            } else if self.plan.of_channel(channel).all(|it| it.protection == Protection::Plain) {
                "that are ciphertext, though SDP says they are not"
            } else {
                "without a key"
            };
            let label = channel.label();
            let refused = self.plan.of_channel(channel).flat_map(|plan| &plan.refused);
            notes.push(format!("{label}: encrypted (SRTP): {locked} packets {why}: kept raw"));
            for refused in refused {
                notes.push(format!("{label}: SDP offers SRTP that cannot be opened: {refused}"));
            }
        }
        notes
    }
}

/// Codecs whose payload has one byte for each tick of the clock, so that its length tells that
/// something follows it.
fn has_bytes_by_time(sending: &ChannelPlan, payload_type: u8) -> bool {
    sending
        .format(payload_type)
        .is_some_and(|it| matches!(it.encoding.as_str(), "PCMU" | "PCMA" | "G722"))
}

/// True for a payload that is ciphertext beyond doubt: as long as some multiple of 5 ms of sound and
/// an SRTP tag (4, 10 or 16 bytes, perhaps with an MKI), and its bytes are as evenly spread as random
/// ones. Speech uses few of G.711's codes at a time: 160 bytes of it hold some 60 values, random ones
/// 119, and fewer than 101 once in 10^5 packets. `is_known`: earlier packets were, and its length says
/// enough.
fn is_ciphertext(packet: &[u8], is_known: bool) -> bool {
    const BYTES_OF_5_MS: usize = 40;
    const EVENLY_SPREAD: f64 = 0.85;
    let Ok(view) = RtpView::parse_header(packet) else { return false };
    let payload = view.payload();
    let odd = payload.len() % BYTES_OF_5_MS;
    let is_tagged = matches!(odd, 4 | 10 | 16 | 5 | 8 | 11 | 14 | 17 | 20);
    if !is_tagged || is_known || payload.len() < 2 * BYTES_OF_5_MS {
        return is_tagged && is_known;
    }
    let mut seen = [false; 256];
    for byte in payload {
        seen[usize::from(*byte)] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let expected = 256.0 * (1.0 - (-(payload.len() as f64) / 256.0).exp());
    distinct as f64 >= EVENLY_SPREAD * expected
}

/// Keeps SIP's word among packets that are kept as they came.
pub(super) fn keep_control(now: PacketTime, control: &Control, sink: &mut dyn MediaSink) {
    if let Ok(payload) = serde_json::to_vec(control) {
        sink.raw(&PacketEntry::mark(now, EntryKind::Control, &payload));
    }
}
