//! Gathers what one visit makes into records.
//!
//! Purpose: one audio record and one raw record a visit, not one a slot.
//! Invariants: records of a call are sent in the order of their content; a record stays far below
//! the archive's limit.
//! Non-goals: compressing (see `archive`), the archive's thread (see `writer`).
//! Sources: docs/archive.md (record bodies).

use super::writer::ArchiveSender;
use crate::archive::body::AudioBatchWriter;
use crate::archive::{Compression, RecordKind};
use crate::base::{CallId, EntryFlows, EntryKind, PacketEntry, PacketTime};
use crate::media::MediaSink;
use crate::rtp::plan::Control;

/// A record is closed beyond this.
const RECORD_BYTES: usize = 256 << 10;

/// Gathers one visit's output.
#[derive(Debug)]
pub struct BatchSink<'a> {
    call: CallId,
    archive: &'a ArchiveSender,
    audio: Option<AudioBatchWriter>,
    raw: Body,
    spill: Body,
}

/// Entries on their way to a record.
#[derive(Debug, Default)]
struct Body {
    bytes: Vec<u8>,
    flows: EntryFlows,
}

impl<'a> BatchSink<'a> {
    /// For one call.
    #[must_use]
    pub fn new(call: CallId, archive: &'a ArchiveSender) -> Self {
        Self { call, archive, audio: None, raw: Body::default(), spill: Body::default() }
    }

    /// Puts a packet aside.
    pub fn spill(&mut self, entry: &PacketEntry<'_>) {
        self.spill.append(entry);
        if self.spill.bytes.len() >= RECORD_BYTES {
            self.flush_spill();
        }
    }

    /// Puts a control aside.
    pub fn spill_control(&mut self, time: PacketTime, control: &Control) {
        if let Ok(payload) = serde_json::to_vec(control) {
            self.spill(&PacketEntry::mark(time, EntryKind::Control, &payload));
        }
    }

    /// Sends what is gathered.
    pub fn flush(&mut self) {
        self.flush_audio();
        self.flush_raw();
        self.flush_spill();
    }

    /// Entries that stand in the layout of a body already, kept as a record of their own.
    pub fn raw_body(&mut self, body: &[u8]) {
        self.flush_raw();
        if !body.is_empty() {
            self.archive.append(self.call, RecordKind::Raw, body.to_vec(), Compression::Lz4);
        }
    }

    fn flush_audio(&mut self) {
        if let Some(audio) = self.audio.take() {
            let body = audio.finish();
            self.archive.append(self.call, RecordKind::Audio, body, Compression::None);
        }
    }

    fn flush_raw(&mut self) {
        if !self.raw.bytes.is_empty() {
            let body = std::mem::take(&mut self.raw).bytes;
            self.archive.append(self.call, RecordKind::Raw, body, Compression::Lz4);
        }
    }

    fn flush_spill(&mut self) {
        if !self.spill.bytes.is_empty() {
            let body = std::mem::take(&mut self.spill).bytes;
            self.archive.count_spilled(body.len());
            self.archive.append(self.call, RecordKind::Spill, body, Compression::Lz4);
        }
    }
}

/// The same, for packets that are kept otherwise: what SIP says of them is kept before them.
pub struct ControlsOnly<'a, 'b>(pub &'a mut BatchSink<'b>);

impl MediaSink for ControlsOnly<'_, '_> {
    fn slot(&mut self, number: u32, left: &[u8], right: &[u8]) {
        self.0.slot(number, left, right);
    }

    fn raw(&mut self, entry: &PacketEntry<'_>) {
        if entry.kind == EntryKind::Control {
            self.0.raw(entry);
        }
    }
}

impl MediaSink for BatchSink<'_> {
    fn slot(&mut self, number: u32, left: &[u8], right: &[u8]) {
        let audio = self.audio.get_or_insert_with(|| AudioBatchWriter::new(number));
        // An Opus frame has at most 1 275 bytes, so a slot is never too long.
        let _ = audio.push(left, right);
        self.archive.count_slot();
        if audio.len_bytes() >= RECORD_BYTES {
            self.flush_audio();
        }
    }

    fn raw(&mut self, entry: &PacketEntry<'_>) {
        self.raw.append(entry);
        if self.raw.bytes.len() >= RECORD_BYTES {
            self.flush_raw();
        }
    }
}

impl Body {
    fn append(&mut self, entry: &PacketEntry<'_>) {
        let at = self.bytes.len();
        self.bytes.resize(at + entry.len_bytes(), 0);
        let written = self.bytes.get_mut(at..).and_then(|room| self.flows.write(entry, room));
        self.bytes.truncate(at + written.unwrap_or(0));
    }
}
