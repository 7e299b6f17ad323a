//! Makes audio of RTP that was stored as it came.
//!
//! Purpose: `export` of a call recorded with `--store raw`, or put aside under load and never
//! transcoded: the same media code, fed from the archive.
//! Invariants: the same entries give the same slots as when they came live.
//! Non-goals: containers (see `cli::export`).
//! Sources: docs/archive.md (raw records).

use crate::base::{Entries, EntryKind, PacketEntry, PacketTime};
use crate::media::{CallMedia, MediaReport, MediaSettings, MediaSink};
use crate::rtp::plan::Control;

/// Slots in order, and what is told of them.
#[derive(Debug, Default)]
pub struct Rendered {
    /// Slot number, left packet, right packet.
    pub slots: Vec<(u32, Vec<u8>, Vec<u8>)>,
    /// Streams, gaps, length.
    pub report: MediaReport,
}

impl MediaSink for Rendered {
    fn slot(&mut self, number: u32, left: &[u8], right: &[u8]) {
        self.slots.push((number, left.to_vec(), right.to_vec()));
    }

    fn raw(&mut self, _: &PacketEntry<'_>) {}
}

/// Renders bodies of raw or spilled records, in order, with `settings.store` set to Opus. Records of
/// a process that was killed have no end of their own: it is the end of the last packet then.
#[must_use]
pub fn render_raw(bodies: &[Vec<u8>], settings: MediaSettings) -> Rendered {
    let mut rendered = Rendered::default();
    let mut media = CallMedia::new(settings);
    let mut latest = PacketTime::MIN;
    let mut last_media = PacketTime::MIN;
    for body in bodies {
        for entry in Entries::new(body) {
            latest = latest.max(entry.time);
            if entry.kind == EntryKind::Rtp {
                last_media = last_media.max(entry.time);
            }
            media.entry(latest, &entry, &mut rendered);
        }
    }
    if !media.is_ended() {
        let end = last_media.plus_ms(20);
        let control = Control::Ended { at_ns: end.ns() };
        media.control(latest.max(end), &control, &mut rendered);
    }
    rendered.report = media.report();
    rendered
}
