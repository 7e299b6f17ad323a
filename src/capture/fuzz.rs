//! What the fuzzer runs on capture files and on blocks of a ring.
//!
//! Purpose: bodies of fuzz targets, in the crate so that they always compile.
//! Invariants: they return for every input.
//! Non-goals: finding anything in frames (see `net`).
//! Sources: none.

use super::FileSource;
use super::block::BlockFrames;
use crate::base::{Frame, FrameSink, FrameSource, PacketTime, Polled};

/// Reads `data` as a capture file of any kind: time never decreases, frames are never longer than
/// the wire says, and reading comes to an end.
///
/// # Panics
/// When one of these does not hold.
pub fn files(data: &[u8]) {
    struct Check(PacketTime);
    impl FrameSink for Check {
        fn frame(&mut self, frame: Frame<'_>) {
            assert!(frame.time >= self.0, "time went back");
            assert!(u32::try_from(frame.bytes.len()).is_ok_and(|len| len <= frame.wire_len_bytes));
            self.0 = frame.time;
        }
    }
    let Ok(mut source) = FileSource::from_bytes(data.to_vec(), None) else { return };
    let mut sink = Check(PacketTime::MIN);
    let mut errors = 0;
    loop {
        match source.poll(&mut sink) {
            Ok(Polled::End) => break,
            Ok(_) => {}
            Err(_) => errors += 1,
        }
        assert!(errors <= 1, "one file gave several errors");
    }
    assert!(matches!(source.poll(&mut sink), Ok(Polled::End)), "after the end comes nothing");
}

/// Walks `data` as a block of a ring: frames are inside it, and no more than it counts.
///
/// # Panics
/// When one of these does not hold.
pub fn block(data: &[u8]) {
    let Some(mut frames) = BlockFrames::new(data) else { return };
    let counted = frames.left();
    let mut walked = 0_u32;
    let inside = data.as_ptr_range();
    for frame in frames.by_ref() {
        walked += 1;
        let bytes = frame.bytes.as_ptr_range();
        assert!(inside.start <= bytes.start && bytes.end <= inside.end);
        assert!(u32::try_from(frame.bytes.len()).is_ok_and(|len| len <= frame.wire_len_bytes));
    }
    assert_eq!(counted - walked, frames.left());
}
