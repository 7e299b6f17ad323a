//! Overload: packets are put aside into the archive, and nothing is lost or heard differently.
//!
//! Purpose: workers that come too late find hundreds of blocks, spill them raw, and transcode them
//! when the load has fallen; the recordings equal those of workers that kept up.
//! Invariants: no sleep decides the outcome; the archive is real, in a directory of its own.
//! Non-goals: speed.
//! Sources: the design's "Overload never drops silently".

use callspan::archive::{
    Archive, AudioBatch, DiskOs, InitOptions, Protection, Query, RecordKind, Writer, WriterOptions,
    init,
};
use callspan::base::limits::CALLS_MAX;
use callspan::base::{Frame, FrameOutcome, FrameSink, LinkType, PacketTime, RingIndex};
use callspan::media::{Band, MediaSettings, StartAt, Store, VoiceSettings};
use callspan::work::front::Front;
use callspan::work::outbox::{Outbox, WhenFull};
use callspan::work::pool::{Overload, Pool, Shared};
use callspan::work::ports::InlinePort;
use callspan::work::queue::{BlockPool, Progress};
use callspan::work::ready::Ready;
use callspan::work::signalling::{Joined, Signalling};
use callspan::work::stats::{FrontStats, Stats};
use callspan::work::writer::ArchiveThread;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CALLS: u8 = 20;
const TALK_MS: i64 = 8_000;
const BLOCKS: usize = 800;

/// When the workers start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Workers {
    AtOnce,
    AfterTheMedia,
}

fn udp(source: [u8; 4], from: u16, destination: [u8; 4], to: u16, payload: &[u8]) -> Vec<u8> {
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

const ALICE: [u8; 4] = [10, 0, 0, 1];
const BOB: [u8; 4] = [10, 0, 0, 2];

fn sip(call: u8, line: &str, cseq: &str, port: Option<(&str, u16)>) -> Vec<u8> {
    let sdp = port.map_or_else(String::new, |(address, port)| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 8\r\n"
        )
    });
    let to_tag = if line.starts_with("INVITE") { "" } else { ";tag=b" };
    format!(
        "{line}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{call}{cseq}\r\n\
         From: <sip:a{call}@x>;tag=a\r\nTo: <sip:b{call}@x>{to_tag}\r\nCall-ID: {call}@spill\r\n\
         CSeq: {cseq}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
    .into_bytes()
}

fn rtp(call: u8, channel: u8, number: i64) -> Vec<u8> {
    let seq = u16::try_from(number).expect("short call").to_be_bytes();
    let timestamp = u32::try_from(number * 160).expect("short call").to_be_bytes();
    let mut bytes = vec![0x80, 8, seq[0], seq[1]];
    bytes.extend_from_slice(&timestamp);
    bytes.extend_from_slice(&[call, channel, 0, 1]);
    // Something that differs by call, channel and time, and is not silence.
    bytes.extend((0..160_u8).map(|n| n.wrapping_mul(call + 3).wrapping_add(channel) ^ seq[1]));
    bytes
}

/// Records all calls; returns each call's slots, in the order of `calls`, and the spilled bytes.
fn record(path: &Path, when: Workers) -> (Vec<Vec<(u32, Vec<u8>, Vec<u8>)>>, u64) {
    init(path, InitOptions { protection: Protection::Plaintext }).expect("new archive");
    let (writer, _) = Writer::open(DiskOs::new(path), WriterOptions { segment_bytes: 8 << 20 })
        .expect("archive opens");
    let stats = Arc::new(Stats::default());
    let archive = ArchiveThread::start(writer, 100, Arc::clone(&stats)).expect("thread");
    let joined = Joined {
        archive: archive.sender(),
        ready: Arc::new(Ready::new(CALLS_MAX)),
        progress: Arc::new(Progress::new(1)),
        stats: Arc::clone(&stats),
    };
    let blocks = Arc::new(BlockPool::new(BLOCKS));
    let (ready, progress) = (Arc::clone(&joined.ready), Arc::clone(&joined.progress));
    let outbox = Outbox::new(
        RingIndex(0),
        Arc::clone(&blocks),
        Arc::clone(&ready),
        Arc::clone(&progress),
        WhenFull::Drop,
    );
    let settings = MediaSettings {
        start: StartAt::Answer,
        store: Store::Opus,
        band: Band::Auto,
        reorder_window_ms: 200,
        voice: VoiceSettings { bitrate: None, complexity: 0 },
    };
    let signalling = Signalling::new(settings, 1, Box::new(|_| false), joined.clone());
    let mut front =
        Front::new(InlinePort::new(signalling), outbox, Arc::new(FrontStats::default()));
    let shared = Shared::new(
        ready,
        progress,
        Arc::clone(&blocks),
        Arc::clone(&stats),
        archive.sender(),
        Overload::Spill,
    );
    let shared = Arc::new(shared);
    let start = || Pool::start(2, Arc::clone(&shared)).expect("threads");
    let mut pool = (when == Workers::AtOnce).then(start);
    let send = |front: &mut Front<InlinePort>, ms: i64, bytes: &[u8]| {
        let wire_len_bytes = u32::try_from(bytes.len()).expect("short");
        let time = PacketTime::from_ms(1_000_000 + ms);
        front.frame(Frame { time, link: LinkType::RawIp, bytes, wire_len_bytes });
    };
    for call in 0..CALLS {
        let (from, to) = (4_000 + u16::from(call) * 4, 4_002 + u16::from(call) * 4);
        let invite = sip(call, "INVITE sip:b@x SIP/2.0", "1 INVITE", Some(("10.0.0.1", from)));
        send(&mut front, 0, &udp(ALICE, 5060, BOB, 5060, &invite));
        let answer = sip(call, "SIP/2.0 200 OK", "1 INVITE", Some(("10.0.0.2", to)));
        send(&mut front, 0, &udp(BOB, 5060, ALICE, 5060, &answer));
    }
    for number in 0..TALK_MS / 20 {
        for call in 0..CALLS {
            let (from, to) = (4_000 + u16::from(call) * 4, 4_002 + u16::from(call) * 4);
            send(&mut front, number * 20, &udp(ALICE, from, BOB, to, &rtp(call, 0, number)));
            send(&mut front, number * 20, &udp(BOB, to, ALICE, from, &rtp(call, 1, number)));
        }
        front.between(PacketTime::MIN);
        if when == Workers::AtOnce {
            // Workers that keep up: the queue never grows.
            while blocks.load_permille() > 250 {
                std::thread::yield_now();
            }
        }
    }
    if when == Workers::AfterTheMedia {
        assert!(blocks.load_permille() > 600, "{} ‰", blocks.load_permille());
        pool = Some(start());
        while blocks.load_permille() > 300 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for call in 0..CALLS {
        let bye = sip(call, "BYE sip:b@x SIP/2.0", "2 BYE", None);
        send(&mut front, TALK_MS, &udp(ALICE, 5060, BOB, 5060, &bye));
    }
    front.port().drain_timers();
    front.finish();
    assert_eq!(front.outcomes().get(FrameOutcome::QueueFull), 0);
    assert_eq!(front.outcomes().total(), front.received());
    let left = pool.expect("started").finish(|| false);
    assert_eq!(left, 0);
    archive.finish().expect("sealed");
    let reader = Archive::open(path).expect("readable");
    let calls = reader.calls(&Query::default()).expect("index");
    assert_eq!(calls.len(), usize::from(CALLS));
    let slots = calls.iter().map(|call| {
        let mut slots = Vec::new();
        for record in reader.records(call.id, &[RecordKind::Audio]).expect("records") {
            let batch = AudioBatch::parse(&record.body).expect("audio");
            let copied = batch.iterate().map(|s| (s.slot, s.left.to_vec(), s.right.to_vec()));
            slots.extend(copied);
        }
        slots
    });
    (slots.collect(), stats.spilled_bytes.get())
}

#[test]
fn packets_put_aside_under_load_become_the_same_recordings() {
    let directory = tempfile::tempdir().expect("directory");
    let (calm, spilled) = record(&directory.path().join("calm"), Workers::AtOnce);
    assert_eq!(spilled, 0, "workers that keep up put nothing aside");
    let (late, spilled) = record(&directory.path().join("late"), Workers::AfterTheMedia);
    assert!(spilled > 1 << 20, "only {spilled} bytes were put aside");
    for (number, (calm, late)) in calm.iter().zip(&late).enumerate() {
        assert_eq!(calm.len(), 401, "call {number}");
        let differs = calm.iter().zip(late).position(|(calm, late)| calm != late);
        let (calm, late) = (calm.len(), late.len());
        assert_eq!((differs, late), (None, calm), "call {number} sounds different after overload");
    }
}
