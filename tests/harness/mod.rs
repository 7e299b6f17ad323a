//! A front, a correlator, workers and an archive, driven frame by frame in virtual time.
//!
//! Purpose: tests of `work` without files, rings or phones, but with everything else real.
//! Invariants: time is what the test says; the archive lies in a directory of the test's own.
//! Non-goals: live rings and phones (see tests/lab).
//! Sources: none.
#![allow(dead_code, reason = "each test binary uses its part")]

use callspan::archive::{
    Archive, AudioBatch, BoxKeys, DiskOs, IndexedCall, InitOptions, Query, RecordKind, Writer,
    WriterOptions, init,
};
use callspan::base::limits::CALLS_MAX;
use callspan::base::{Frame, FrameSink, LinkType, OutcomeCounts, PacketTime, RingIndex};
use callspan::call::JoinSettings;
use callspan::call::summary::CallSummary;
use callspan::media::{Band, MediaSettings, StartAt, Store, VoiceSettings};
use callspan::tls::KeyLog;
use callspan::work::front::Front;
use callspan::work::outbox::{Outbox, WhenFull};
use callspan::work::pool::{Overload, Pool, Shared};
use callspan::work::ports::InlinePort;
use callspan::work::queue::{BlockPool, Progress};
use callspan::work::ready::Ready;
use callspan::work::signalling::{Joined, Signalling};
use callspan::work::stats::{FrontStats, Stats};
use callspan::work::writer::ArchiveThread;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const ALICE: [u8; 4] = [10, 0, 0, 1];
pub const BOB: [u8; 4] = [10, 0, 0, 2];

/// An Opus packet a channel, with its slot number.
pub type SlotRow = (u32, Vec<u8>, Vec<u8>);

pub struct Harness {
    pub front: Front<InlinePort>,
    pub blocks: Arc<BlockPool>,
    pub stats: Arc<Stats>,
    shared: Arc<Shared>,
    pool: Option<Pool>,
    archive: ArchiveThread,
    path: PathBuf,
}

fn keys() -> BoxKeys {
    BoxKeys::from_random(&[7; 64]).expect("keys")
}

pub struct Finished {
    pub received: u64,
    pub outcomes: OutcomeCounts,
    pub calls: Vec<IndexedCall>,
    pub spilled_bytes: u64,
    reader: Archive,
}

impl Harness {
    /// Without workers yet. `blocks`: how many there may be.
    pub fn new(path: &Path, blocks: usize) -> Self {
        Self::start(path, blocks, JoinSettings::default(), KeyLog::new())
    }

    /// The same, with other joins.
    pub fn with(path: &Path, blocks: usize, joins: JoinSettings) -> Self {
        Self::start(path, blocks, joins, KeyLog::new())
    }

    /// The same, with secrets of DTLS handshakes.
    pub fn with_key_log(path: &Path, blocks: usize, log: KeyLog) -> Self {
        Self::start(path, blocks, JoinSettings::default(), log)
    }

    fn start(path: &Path, blocks: usize, joins: JoinSettings, log: KeyLog) -> Self {
        let keys = keys();
        init(path, &InitOptions::plaintext(), &keys).expect("new archive");
        let options = WriterOptions { segment_bytes: 64 << 20, ..WriterOptions::new(keys) };
        let (writer, _) = Writer::open(DiskOs::new(path), options).expect("archive opens");
        let stats = Arc::new(Stats::default());
        let archive =
            ArchiveThread::start(writer, 100, 0, None, Arc::clone(&stats)).expect("thread");
        let joined = Joined {
            archive: archive.sender(),
            ready: Arc::new(Ready::new(CALLS_MAX)),
            progress: Arc::new(Progress::new(1)),
            stats: Arc::clone(&stats),
        };
        let blocks = Arc::new(BlockPool::new(blocks));
        let (ready, progress) = (Arc::clone(&joined.ready), Arc::clone(&joined.progress));
        let pool = Arc::clone(&blocks);
        let drop = WhenFull::Drop;
        let outbox =
            Outbox::new(RingIndex(0), pool, Arc::clone(&ready), Arc::clone(&progress), drop);
        let mut signalling = Signalling::new(settings(), joins, 1, Box::new(|_| false), joined);
        signalling.set_key_log(log);
        let front =
            Front::new(InlinePort::new(signalling), outbox, Arc::new(FrontStats::default()));
        let shared = Shared::new(
            ready,
            progress,
            Arc::clone(&blocks),
            Arc::clone(&stats),
            archive.sender(),
            Overload::Spill,
        );
        let (shared, path) = (Arc::new(shared), path.to_owned());
        Self { front, blocks, stats, shared, pool: None, archive, path }
    }

    pub fn start_workers(&mut self) {
        self.pool = Some(Pool::start(2, Arc::clone(&self.shared)).expect("threads"));
    }

    /// One raw-IP frame, `ms` after the beginning.
    pub fn frame(&mut self, ms: i64, bytes: &[u8]) {
        let wire_len_bytes = u32::try_from(bytes.len()).expect("short");
        let time = PacketTime::from_ms(1_000_000 + ms);
        self.front.frame(Frame { time, link: LinkType::RawIp, bytes, wire_len_bytes });
    }

    /// The end of the input; waits for the workers and seals the archive.
    pub fn finish(mut self) -> Finished {
        if self.pool.is_none() {
            self.start_workers();
        }
        self.front.last_looks();
        self.front.port().drain_timers();
        self.front.finish();
        let left = self.pool.take().expect("started").finish(|| false);
        assert_eq!(left, 0);
        self.archive.finish().expect("sealed");
        let reader = Archive::open(&self.path, None).expect("readable");
        Finished {
            received: self.front.received(),
            outcomes: *self.front.outcomes(),
            calls: reader.calls(&Query::default()).expect("index"),
            spilled_bytes: self.stats.spilled_bytes.get(),
            reader,
        }
    }
}

impl Finished {
    /// The slots of each call, in the order of `calls`.
    pub fn slots(&self) -> Vec<Vec<SlotRow>> {
        let rows = |call: &IndexedCall| {
            let records = self.reader.records(call.id, &[RecordKind::Audio]).expect("records");
            let batches =
                records.iter().map(|record| AudioBatch::parse(&record.body).expect("audio"));
            batches
                .flat_map(|batch| batch.iterate().collect::<Vec<_>>())
                .map(|slot| (slot.slot, slot.left.to_vec(), slot.right.to_vec()))
                .collect()
        };
        self.calls.iter().map(rows).collect()
    }

    pub fn summaries(&self) -> Vec<CallSummary> {
        let read = |call: &IndexedCall| serde_json::from_str(&call.summary_json).expect("summary");
        self.calls.iter().map(read).collect()
    }
}

pub fn settings() -> MediaSettings {
    MediaSettings {
        start: StartAt::Answer,
        store: Store::Opus,
        band: Band::Auto,
        reorder_window_ms: 200,
        voice: VoiceSettings { bitrate: None, complexity: 0 },
    }
}

/// An IPv4 datagram.
pub fn udp(source: [u8; 4], from: u16, destination: [u8; 4], to: u16, payload: &[u8]) -> Vec<u8> {
    let length = |extra: usize| u16::try_from(payload.len() + extra).expect("short").to_be_bytes();
    let mut bytes = vec![0x45, 0];
    bytes.extend_from_slice(&length(28));
    bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    bytes.extend_from_slice(&source);
    bytes.extend_from_slice(&destination);
    bytes.extend_from_slice(&from.to_be_bytes());
    bytes.extend_from_slice(&to.to_be_bytes());
    bytes.extend_from_slice(&length(8));
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

/// A SIP message of call `call`, with an SDP where an address and a port are given.
pub fn sip(call: u32, line: &str, cseq: &str, port: Option<(&str, u16)>) -> Vec<u8> {
    let sdp = port.map_or_else(String::new, |(address, port)| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8\r\n"
        )
    });
    let to_tag = if line.starts_with("INVITE") { "" } else { ";tag=b" };
    format!(
        "{line}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{call}{cseq}\r\n\
         From: <sip:a{call}@x>;tag=a\r\nTo: <sip:b{call}@x>{to_tag}\r\nCall-ID: {call}@harness\r\n\
         CSeq: {cseq}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
    .into_bytes()
}

/// INVITE and 200 of a call between ALICE:`from` and BOB:`to`, at `ms`.
pub fn answer(harness: &mut Harness, ms: i64, call: u32, from: u16, to: u16) {
    let invite = sip(call, "INVITE sip:b@x SIP/2.0", "1 INVITE", Some(("10.0.0.1", from)));
    harness.frame(ms, &udp(ALICE, 5060, BOB, 5060, &invite));
    let answer = sip(call, "SIP/2.0 200 OK", "1 INVITE", Some(("10.0.0.2", to)));
    harness.frame(ms, &udp(BOB, 5060, ALICE, 5060, &answer));
}

/// A PCMA packet of 20 ms.
pub fn rtp(ssrc: u32, number: u32, payload: &[u8]) -> Vec<u8> {
    let seq = u16::try_from(number & 0xffff).expect("masked").to_be_bytes();
    let mut bytes = vec![0x80, 8, seq[0], seq[1]];
    bytes.extend_from_slice(&number.wrapping_mul(160).to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
