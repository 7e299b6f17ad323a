//! Fuzz bodies of this folder, in the crate so that they always compile.
//!
//! Purpose: the whole way of a packet in one function, `&[u8]` in, that panics when an invariant breaks.
//! Invariants: the same input takes the same way each time; nothing is written, and no thread starts.
//! Non-goals: speed, and being called by the recorder.
//! Sources: none.

use super::front::Front;
use super::outbox::{Outbox, WhenFull};
use super::ports::InlinePort;
use super::queue::{BlockPool, Progress};
use super::ready::Ready;
use super::signalling::{Joined, Signalling};
use super::stats::{FrontStats, Stats};
use super::visit::{Load, Visited};
use super::writer::ArchiveSender;
use crate::base::limits::CALLS_MAX;
use crate::base::{Frame, FrameSink, LinkType, PacketTime, Reader, RingIndex};
use crate::call::JoinSettings;
use crate::media::{Band, MediaReport, MediaSettings, StartAt, Store, VoiceSettings};
use std::sync::Arc;

/// Blocks that the pipeline may have.
const BLOCKS: usize = 256;

/// Frames between two rounds of visits.
const FRAMES_A_ROUND: u64 = 16;

struct Pipeline {
    front: Front<InlinePort>,
    ready: Arc<Ready>,
    progress: Arc<Progress>,
    blocks: Arc<BlockPool>,
    stats: Arc<Stats>,
    archive: ArchiveSender,
}

impl Pipeline {
    fn new(settings: MediaSettings) -> Self {
        let stats = Arc::new(Stats::default());
        let archive = ArchiveSender::to_nowhere(Arc::clone(&stats));
        let (ready, progress) = (Arc::new(Ready::new(CALLS_MAX)), Arc::new(Progress::new(1)));
        let joined = Joined {
            archive: archive.clone(),
            ready: Arc::clone(&ready),
            progress: Arc::clone(&progress),
            stats: Arc::clone(&stats),
        };
        let blocks = Arc::new(BlockPool::new(BLOCKS));
        let (pool, drop) = (Arc::clone(&blocks), WhenFull::Drop);
        let outbox =
            Outbox::new(RingIndex(0), pool, Arc::clone(&ready), Arc::clone(&progress), drop);
        let known_ids = Box::new(|_| false);
        let signalling = Signalling::new(settings, JoinSettings::default(), 1, known_ids, joined);
        let figures = Arc::new(FrontStats::default());
        let front = Front::new(InlinePort::new(signalling), outbox, figures);
        Self { front, ready, progress, blocks, stats, archive }
    }

    /// Visits every call that wants it.
    fn visit(&self) {
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.take() else { return };
            let Some(mut work) = slot.enter() else { continue };
            let safe = self.progress.safe();
            match work.visit(&slot, safe, Load::Normal, &self.blocks, &self.archive) {
                Visited::Finished(report) => {
                    work.release(&slot, &self.blocks);
                    self.stats.calls_open.sub(1);
                    check(&report);
                }
                Visited::Open | Visited::Aside | Visited::Ending => {
                    if slot.leave(Some(work)) {
                        self.ready.put(slot);
                    }
                }
            }
        }
    }
}

fn check(report: &MediaReport) {
    assert!(report.len_ns >= 0, "a recording of {} ns", report.len_ns);
    for gap in &report.gaps {
        assert!(gap.from_ns <= gap.to_ns, "a gap that ends before it begins: {gap:?}");
    }
    for stream in &report.streams {
        assert!(stream.jitter_ms.is_finite(), "jitter {}", stream.jitter_ms);
    }
}

/// Frames through everything but the archive: no panic, every frame has one outcome, every call is
/// finished, and every block comes back.
///
/// Input: one byte of settings, then frames, each `time step in ms u8, length u16 BE, bytes`, of
/// Ethernet.
///
/// # Panics
/// When an invariant breaks.
pub fn pipeline(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Some(flags) = reader.u8() else { return };
    let mut pipeline = Pipeline::new(settings(flags));
    let (mut time, mut received) = (PacketTime::from_ms(1_000_000), 0_u64);
    while let Some([step_ms, high, low]) = reader.array::<3>() {
        let len_bytes = usize::from(u16::from_be_bytes([high, low])).min(reader.remaining());
        let Some(bytes) = reader.take(len_bytes) else { break };
        time = time.plus_ms(i64::from(step_ms));
        let wire_len_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        pipeline.front.frame(Frame { time, link: LinkType::Ethernet, bytes, wire_len_bytes });
        received = received.saturating_add(1);
        if received % FRAMES_A_ROUND == 0 {
            pipeline.front.between(time);
            pipeline.visit();
        }
    }
    pipeline.front.port().drain_timers();
    pipeline.front.finish();
    for _ in 0..64 {
        pipeline.visit();
    }
    assert_eq!(pipeline.front.received(), received);
    let outcomes = pipeline.front.outcomes();
    let accounted: u64 = outcomes.iter().map(|(_, count)| count).sum();
    assert_eq!(accounted, received, "each frame has one outcome: {outcomes:?}");
    assert_eq!(pipeline.stats.calls_open.get(), 0, "every call is finished");
    assert_eq!(pipeline.blocks.in_use(), 0, "every block is given back");
}

const fn settings(flags: u8) -> MediaSettings {
    MediaSettings {
        start: if flags & 1 == 0 { StartAt::Answer } else { StartAt::Media },
        store: match flags & 6 {
            0 | 2 => Store::Opus,
            4 => Store::Raw,
            _ => Store::None,
        },
        band: if flags & 8 == 0 { Band::Auto } else { Band::Narrow },
        reorder_window_ms: 60,
        voice: VoiceSettings { bitrate: None, complexity: 0 },
    }
}
