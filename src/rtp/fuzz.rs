//! Bodies of the fuzz targets for this layer, kept here so that they always compile.
//!
//! Purpose: statements about any bytes; they panic when one does not hold.
//! Invariants: none of its own.
//! Non-goals: producing inputs (see `fuzz/`).
//! Sources: RFC 3550.

use super::classify::{Datagram, classify};
use super::extended_seq::{SeqExtender, TimestampExtender};
use super::header::RtpView;
use super::loss::LossCounter;
use super::quality::Jitter;
use super::red::RedPacket;
use super::reorder::ReorderBuffer;
use super::rtcp::{RtcpPacket, RtcpPackets};
use super::rtcp_xr::ExtendedBlock;
use super::sight::look;
use super::srtp::{KeyRing, SrtpStream};
use super::srtp_key::SrtpKey;
use super::srtp_suite::SrtpSuite;
use super::telephone_event::{EventTracker, TelephoneEvent};
use super::turn::relayed;
use super::udptl::UdptlPacket;
use super::zrtp::ZrtpMessage;
use crate::base::limits::REORDER_PACKETS_MAX;
use crate::base::{PacketTime, Reader};

/// A view covers exactly the packet; a stream of any packets keeps the counters in balance.
///
/// # Panics
/// When it does not hold: a bug.
pub fn rtp(data: &[u8]) {
    if let Ok(view) = RtpView::parse(data) {
        let covered = view.header_bytes().len() + view.payload().len();
        assert!(covered <= data.len() && (covered == data.len() || view.has_padding()));
        let header = RtpView::parse_header(view.header_bytes());
        assert!(header.is_ok_and(|header| header.seq() == view.seq()));
    } else {
        assert_ne!(classify(data), Datagram::Rtp);
    }
    let channel = [&[0x40, 0, 0, 12][..], data].concat();
    for relayed in [relayed(data), relayed(&channel)].into_iter().flatten() {
        assert!(relayed.len() < channel.len());
        assert!(matches!(classify(relayed), Datagram::Rtp | Datagram::Rtcp));
    }
    let packets = data.chunks(40).map(|packet| (PacketTime::MIN, packet));
    let looks = look(&packets);
    assert!(looks.packets <= data.len() / 12 && looks.payload_type < 128);
    stream(data);
}

/// A fax packet lies within its datagram, and no shorter or longer datagram is the same packet.
///
/// # Panics
/// When it does not hold: a bug.
pub fn udptl(data: &[u8]) {
    let Some(packet) = UdptlPacket::parse(data) else { return };
    assert!(!packet.primary.is_empty() && packet.primary.len() + 4 < data.len());
    assert_eq!(data.get(..2), Some(&packet.seq.to_be_bytes()[..]));
    assert_eq!(data.split_last().and_then(|(_, rest)| UdptlPacket::parse(rest)), None);
}

/// Takes the bytes as (sequence number, payload) pairs of one stream.
fn stream(data: &[u8]) {
    let mut reader = Reader::new(data);
    let (mut seqs, mut timestamps) = (SeqExtender::new(), TimestampExtender::new());
    let (mut loss, mut jitter) = (LossCounter::new(), Jitter::new(8_000));
    let (mut buffer, mut tracker) = (ReorderBuffer::new(), EventTracker::new());
    let (mut offered, mut back, mut out) = (0u64, 0u64, 0u64);
    while let (Some(seq), Some(rest)) = (reader.u16_be(), reader.array::<4>()) {
        let extended = seqs.extend(seq);
        assert_eq!(extended.low_16(), seq);
        loss.on_packet(extended);
        let word = u32::from_be_bytes(rest);
        jitter.on_packet(i64::from(word) << 8, timestamps.extend(word));
        if let Some(event) = TelephoneEvent::parse(&rest) {
            tracker.on_packet((seq & 1 == 1).into(), word, event);
        }
        offered += 1;
        back += u64::from(buffer.insert(extended, seq).is_err());
        assert!(buffer.len() <= 2 * REORDER_PACKETS_MAX + 1);
        if rest.contains(&0) {
            out += u64::from(buffer.pop_next().is_some());
        }
    }
    while buffer.pop_gap().is_some() {
        out += 1;
    }
    assert_eq!(offered, back + out);
    assert!(jitter.ms().is_finite());
    assert!((0.0..=1.0).contains(&loss.loss_ratio()) && loss.burst_ratio() >= 1.0);
    assert!(loss.received() + loss.duplicate() + loss.stray() >= offered);
}

/// Nothing that was not protected with the key is ever opened: not under any suite, as RTP or RTCP, and
/// ZRTP is no RTP.
///
/// `data`: packets behind their `u16` lengths.
///
/// # Panics
/// When it does not hold: a bug.
pub fn srtp(data: &[u8]) {
    let suites = [SrtpSuite::AesCm128Tag80, SrtpSuite::AesCm192Tag80, SrtpSuite::Gcm256];
    let mut ring = KeyRing::default();
    for suite in suites {
        // No fuzzer finds a tag of 80 bits for this key.
        let material = vec![0x3c; suite.key_len_bytes() + suite.salt_len_bytes()];
        let key = SrtpKey::new(suite, &material).map(|key| key.with_mki(&[1]));
        if let Some(key) = key {
            ring.add(key);
        }
    }
    let (mut stream, mut reader, mut out) = (SrtpStream::default(), Reader::new(data), vec![7]);
    while let Some(packet) = reader.u16_be().and_then(|length| reader.take(usize::from(length))) {
        let is_open =
            stream.open(&ring, packet, &mut out) || ring.unprotect_rtcp(packet, &mut out).is_some();
        assert!(!is_open && out == [7] && stream.suite().is_none());
        assert!(ZrtpMessage::parse(packet).is_none() || classify(packet) == Datagram::Zrtp);
    }
}

/// The iteration ends, and hands out no more than a packet of that length can hold.
///
/// # Panics
/// When it does not hold: a bug.
pub fn rtcp(data: &[u8]) {
    let mut words = 0;
    for packet in RtcpPackets::new(data) {
        words += 1 + match packet {
            RtcpPacket::SenderReport { reports, .. } => 6 + 6 * reports.count(),
            RtcpPacket::ReceiverReport { reports, .. } => 1 + 6 * reports.count(),
            RtcpPacket::SourceDescription { names } => 2 * names.count(),
            RtcpPacket::Bye { sources } => sources.count(),
            RtcpPacket::ExtendedReport { blocks, .. } => 1 + blocks.map(block_words).sum::<usize>(),
            RtcpPacket::Other { .. } => 0,
        };
    }
    assert!(words * 4 <= data.len());
    assert!(!RtcpPackets::is_whole(data) || data.len() % 4 == 0);
}

/// Words that a block takes at least.
fn block_words(block: ExtendedBlock<'_>) -> usize {
    match block {
        ExtendedBlock::ReceiverTime { .. } => 3,
        ExtendedBlock::Delays(delays) => 1 + 3 * delays.count(),
        ExtendedBlock::Statistics(_) => 8,
        ExtendedBlock::Voip(_) => 9,
        ExtendedBlock::Other { .. } => 1,
    }
}

/// The blocks of a redundant packet lie in it, one after the other.
///
/// # Panics
/// When it does not hold: a bug.
pub fn red(data: &[u8]) {
    let Some(packet) = RedPacket::parse(data) else { return };
    let older: usize = packet.older().map(|block| block.payload.len()).sum();
    assert!(older.saturating_add(packet.primary.payload.len()) < data.len());
    assert!(data.ends_with(packet.primary.payload));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_hold_for_pseudo_random_bytes() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for round in 0..2_000usize {
            let mut data: Vec<u8> = (0..round % 600).map(|_| next()).collect();
            rtp(&data);
            rtcp(&data);
            srtp(&data);
            if let [first, second, ..] = data.as_mut_slice() {
                *first = 0x80 | (*first & 0x3f);
                *second = 200 + (*second & 7);
                rtcp(&data);
                rtp(&data);
            }
        }
    }
}
