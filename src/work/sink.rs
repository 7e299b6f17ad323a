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
use crate::base::{CallId, EntryKind, PacketEntry, PacketTime};
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
    raw: Vec<u8>,
    spill: Vec<u8>,
}

impl<'a> BatchSink<'a> {
    /// For one call.
    #[must_use]
    pub const fn new(call: CallId, archive: &'a ArchiveSender) -> Self {
        Self { call, archive, audio: None, raw: Vec::new(), spill: Vec::new() }
    }

    /// Puts a packet aside.
    pub fn spill(&mut self, entry: &PacketEntry<'_>) {
        append(&mut self.spill, entry);
        if self.spill.len() >= RECORD_BYTES {
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

    fn flush_audio(&mut self) {
        if let Some(audio) = self.audio.take() {
            let body = audio.finish();
            self.archive.append(self.call, RecordKind::Audio, body, Compression::None);
        }
    }

    fn flush_raw(&mut self) {
        if !self.raw.is_empty() {
            let body = std::mem::take(&mut self.raw);
            self.archive.append(self.call, RecordKind::Raw, body, Compression::Lz4);
        }
    }

    fn flush_spill(&mut self) {
        if !self.spill.is_empty() {
            let body = std::mem::take(&mut self.spill);
            self.archive.count_spilled(body.len());
            self.archive.append(self.call, RecordKind::Spill, body, Compression::Lz4);
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
        append(&mut self.raw, entry);
        if self.raw.len() >= RECORD_BYTES {
            self.flush_raw();
        }
    }
}

fn append(out: &mut Vec<u8>, entry: &PacketEntry<'_>) {
    let at = out.len();
    out.resize(at + entry.len_bytes(), 0);
    let written = out.get_mut(at..).and_then(|room| entry.write(room));
    out.truncate(at + written.unwrap_or(0));
}
