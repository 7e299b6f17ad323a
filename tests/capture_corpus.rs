//! Real captures by others: every frame that tshark counts is delivered, once.
//!
//! The corpus is not part of the repository. It stands beside it (`../shared/corpus`), or where
//! `CALLSPAN_CORPUS` says; without it the check says loudly that it did not run, and fails in CI.

use std::path::PathBuf;

use callspan::base::{Frame, FrameSink, FrameSource, LinkType, PacketTime, Polled};
use callspan::capture::FileSource;

struct Seen {
    frames: u64,
    last: PacketTime,
    unknown_links: u64,
}

impl FrameSink for Seen {
    fn frame(&mut self, frame: Frame<'_>) {
        assert!(frame.time >= self.last, "time went back");
        self.last = frame.time;
        self.frames += 1;
        self.unknown_links += u64::from(matches!(frame.link, LinkType::Other(_)));
    }
}

fn read_all(paths: &[PathBuf]) -> (Seen, FileSource) {
    let mut source = FileSource::open(paths, None).expect("captures open");
    let mut seen = Seen { frames: 0, last: PacketTime::MIN, unknown_links: 0 };
    while source.poll(&mut seen).expect("captures are whole") != Polled::End {}
    (seen, source)
}

#[test]
fn every_frame_of_every_real_capture_is_delivered() {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let corpus = std::env::var_os("CALLSPAN_CORPUS").map_or_else(beside, PathBuf::from);
    let Ok(manifest) = std::fs::read_to_string(corpus.join("manifest.json")) else {
        let place = corpus.display();
        eprintln!("NOT CHECKED: there is no corpus at {place}; name it with CALLSPAN_CORPUS");
        assert!(std::env::var_os("CI").is_none(), "CI must have the corpus at {place}");
        return;
    };
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("manifest is JSON");
    let captures = manifest["captures"].as_array().expect("a list of captures");
    assert!(!captures.is_empty());
    let mut all = Vec::new();
    let mut sum = 0;
    for capture in captures {
        let name = capture["name"].as_str().expect("a name");
        let packets = capture["packets"].as_u64().expect("a packet count");
        let path = corpus.join("captures").join(name);
        let (seen, source) = read_all(std::slice::from_ref(&path));
        assert_eq!(seen.frames, packets, "{name}");
        assert_eq!(seen.unknown_links, 0, "{name}");
        assert_eq!(source.filtered(), 0, "{name}");
        let (read, total) = source.progress();
        assert_eq!((read, total), (total, capture["bytes"].as_u64().expect("bytes")), "{name}");
        all.push(path);
        sum += packets;
    }
    let (seen, _) = read_all(&all);
    assert_eq!(seen.frames, sum, "all captures at once");
}
