//! `callspan export --format pcap`: a call's signalling, and its media where it was kept raw.
//!
//! Purpose: archived payloads back into a capture file, in order of time.
//! Invariants: nothing that is not archived is invented; what is left out is counted and told.
//! Non-goals: making frames (see `frames`).
//! Sources: none.

use std::path::Path;

use super::frames::FrameWriter;
use super::output::Failure;
use crate::base::{Endpoint, Entries, EntryKind, PacketEntry, PacketTime, Protocol};

/// A SIP message with its bytes, as archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipMessage {
    /// When it passed the tap.
    pub time: PacketTime,
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// The whole message.
    pub bytes: Vec<u8>,
}

/// What came into the file, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcapCounts {
    /// SIP messages.
    pub sip: u64,
    /// RTP, RTCP and fax packets, and those by which keys are agreed on.
    pub media: u64,
    /// Payloads that fit in no frame.
    pub left_out: u64,
    /// Length that the file must have.
    pub file_bytes: u64,
}

/// Writes the file `path`: `sip` in order of time, and the bodies of raw records in theirs.
///
/// # Errors
/// When a body cannot be read or the file cannot be written.
pub fn write(
    path: &Path,
    sip: &[SipMessage],
    raw: impl Iterator<Item = Result<Vec<u8>, Failure>>,
) -> Result<PcapCounts, Failure> {
    let failed = |error: pcap::Error| Failure::failed(format_args!("cannot write frames: {error}"));
    let mut writer = FrameWriter::create(path).map_err(failed)?;
    let mut counts = PcapCounts::default();
    let mut waiting = sip.iter().peekable();
    for body in raw {
        let body = body?;
        for entry in Entries::new(&body) {
            while let Some(message) = waiting.next_if(|message| message.time <= entry.time) {
                put_sip(&mut writer, message, &mut counts);
            }
            put_media(&mut writer, &entry, &mut counts);
        }
    }
    for message in waiting {
        put_sip(&mut writer, message, &mut counts);
    }
    counts.file_bytes = writer.finish().map_err(failed)?;
    Ok(counts)
}

fn put_sip(writer: &mut FrameWriter, message: &SipMessage, counts: &mut PcapCounts) {
    let SipMessage { time, source, destination, protocol, bytes } = message;
    let written = match protocol {
        Protocol::Udp => writer.udp(*time, *source, *destination, bytes),
        Protocol::Tcp => writer.tcp(*time, *source, *destination, bytes),
    };
    match written {
        Ok(()) => counts.sip = counts.sip.saturating_add(1),
        Err(_) => counts.left_out = counts.left_out.saturating_add(1),
    }
}

fn put_media(writer: &mut FrameWriter, entry: &PacketEntry<'_>, counts: &mut PcapCounts) {
    match entry.kind {
        EntryKind::Rtp | EntryKind::Rtcp | EntryKind::KeyExchange | EntryKind::Udptl => {}
        // Not packets of their own: a doubled frame's header, our own marks.
        EntryKind::DuplicateRtp
        | EntryKind::Control
        | EntryKind::Dropped
        | EntryKind::Claimed
        | EntryKind::Matched => {
            return;
        }
    }
    match writer.udp(entry.time, entry.source, entry.destination, entry.payload) {
        Ok(()) => counts.media = counts.media.saturating_add(1),
        Err(_) => counts.left_out = counts.left_out.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Channel;

    fn entry(ms: i64, kind: EntryKind) -> Vec<u8> {
        let entry = PacketEntry {
            time: PacketTime::from_ms(ms),
            source: Endpoint::v4([10, 0, 0, 1], 4_000),
            destination: Endpoint::v4([10, 0, 0, 2], 4_002),
            kind,
            channel: Channel::Caller,
            payload: b"rtp",
        };
        let mut bytes = vec![0; entry.len_bytes()];
        entry.write(&mut bytes).expect("room");
        bytes
    }

    fn sip(ms: i64, len: usize) -> SipMessage {
        SipMessage {
            time: PacketTime::from_ms(ms),
            source: Endpoint::v4([10, 0, 0, 1], 5_060),
            destination: Endpoint::v4([10, 0, 0, 2], 5_060),
            protocol: Protocol::Udp,
            bytes: vec![b'x'; len],
        }
    }

    #[test]
    fn signalling_and_media_stand_in_order_of_time_and_what_does_not_fit_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("call.pcap");
        let bodies = [
            [entry(20, EntryKind::Rtp), entry(25, EntryKind::Control)].concat(),
            [entry(40, EntryKind::Rtcp), entry(41, EntryKind::DuplicateRtp)].concat(),
        ];
        let messages = [sip(10, 9), sip(30, 9), sip(31, 70_000), sip(50, 9)];
        let counts = write(&path, &messages, bodies.into_iter().map(Ok)).expect("written");
        let file_bytes = std::fs::metadata(&path).expect("a file").len();
        assert_eq!(counts, PcapCounts { sip: 3, media: 2, left_out: 1, file_bytes });
        let mut capture = pcap::Capture::from_file(&path).expect("a capture");
        let mut times = Vec::new();
        while let Ok(packet) = capture.next_packet() {
            times.push(packet.header.ts.tv_usec / 1_000);
        }
        assert_eq!(times, [10, 20, 30, 40, 50]);
    }

    #[test]
    fn a_body_that_cannot_be_read_fails_the_export() {
        let directory = tempfile::tempdir().expect("a directory");
        let bodies = [Err(Failure::failed("segment 3 is damaged"))];
        let failed = write(&directory.path().join("a.pcap"), &[], bodies.into_iter());
        assert_eq!(failed.expect_err("damaged").message, "segment 3 is damaged");
    }
}
