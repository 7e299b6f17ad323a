//! One suite for every source of frames: files, the simulated ring, the ring itself.
#![allow(dead_code)] // Each test binary uses its own part.

use std::io::Write;

use callspan::base::{Frame, FrameSink, FrameSource, KernelCounts, LinkType, PacketTime, Polled};

/// A frame as it was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub time: PacketTime,
    pub link: LinkType,
    pub bytes: Vec<u8>,
    pub wire_len_bytes: u32,
}

/// Keeps what it is handed, and checks what holds for every source.
#[derive(Default)]
pub struct Collect {
    pub frames: Vec<Seen>,
}

impl FrameSink for Collect {
    fn frame(&mut self, frame: Frame<'_>) {
        if let Some(last) = self.frames.last() {
            assert!(frame.time >= last.time, "time went back");
        }
        assert!(u32::try_from(frame.bytes.len()).expect("short") <= frame.wire_len_bytes);
        self.frames.push(Seen {
            time: frame.time,
            link: frame.link,
            bytes: frame.bytes.to_vec(),
            wire_len_bytes: frame.wire_len_bytes,
        });
    }
}

/// Polls to the end; idle times never pass the frames that follow. Returns frames and errors.
pub fn drain<S: FrameSource + ?Sized>(source: &mut S) -> (Vec<Seen>, Vec<S::Error>) {
    let mut sink = Collect::default();
    let mut errors = Vec::new();
    let mut idle = PacketTime::MIN;
    loop {
        let before = sink.frames.len();
        match source.poll(&mut sink) {
            Ok(Polled::Frames) => {}
            Ok(Polled::Idle { now }) => {
                assert!(now >= idle, "the idle clock went back");
                idle = now;
            }
            Ok(Polled::End) => return (sink.frames, errors),
            Err(error) => errors.push(error),
        }
        for frame in &sink.frames[before..] {
            assert!(frame.time >= idle, "a frame from before the idle clock");
        }
        assert!(errors.len() < 100, "errors without end");
    }
}

/// The suite: what goes in comes out, once, in order, and then nothing more.
pub fn delivers_each_frame_once<S: FrameSource + ?Sized>(
    source: &mut S,
    expected: &[(LinkType, Vec<u8>)],
) -> Vec<Seen> {
    let (frames, errors) = drain(source);
    assert!(errors.is_empty());
    assert_eq!(frames.len(), expected.len());
    for (frame, (link, bytes)) in frames.iter().zip(expected) {
        assert_eq!((&frame.link, &frame.bytes), (link, bytes));
    }
    assert!(matches!(source.poll(&mut Collect::default()), Ok(Polled::End)));
    frames
}

/// A live source that ends when it has been silent for a while.
pub struct UntilQuiet<S>(pub S);

impl<S: FrameSource> FrameSource for UntilQuiet<S> {
    type Error = S::Error;

    fn poll(&mut self, sink: &mut dyn FrameSink) -> Result<Polled, S::Error> {
        for _ in 0..3 {
            let polled = self.0.poll(sink)?;
            if !matches!(polled, Polled::Idle { .. }) {
                return Ok(polled);
            }
        }
        Ok(Polled::End)
    }

    fn kernel_counts(&mut self) -> KernelCounts {
        self.0.kernel_counts()
    }
}

/// A classic pcap file, nanoseconds, in this host's favourite byte order: little-endian.
pub fn pcap(link: u32, frames: &[(i64, &[u8])]) -> Vec<u8> {
    let mut out = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    out.extend(link.to_le_bytes());
    for (ns, bytes) in frames {
        let len = u32::try_from(bytes.len()).expect("short");
        let seconds = u32::try_from(ns / 1_000_000_000).expect("32 bits");
        let rest = u32::try_from(ns % 1_000_000_000).expect("32 bits");
        for field in [seconds, rest, len, len] {
            out.extend(field.to_le_bytes());
        }
        out.extend(*bytes);
    }
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("memory")
}
