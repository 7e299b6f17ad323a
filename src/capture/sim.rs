//! A source of frames from memory, which behaves as a live ring does.
//!
//! Purpose: the upper layers' tests meet blocks, idle polls and errors without a network.
//! Invariants: as every source: time never decreases, and each frame is handed over once.
//! Non-goals: kernel drops that nobody asked for.
//! Sources: none.

use std::collections::VecDeque;

use super::error::CaptureError;
use crate::base::{
    Frame, FrameSink, FrameSource, KernelCounts, LinkType, PacketTime, Polled, limits,
};

/// A block ends after this, as the ring's retire timeout has it.
const BLOCK_MS: i64 = 50;
/// A gap longer than this is told by idle polls.
const IDLE_MS: i64 = 100;
/// Idle polls in one gap, however long it is.
const IDLE_POLLS_MAX: i64 = 16;

/// Frames from memory.
pub struct SimSource {
    frames: VecDeque<(PacketTime, LinkType, Vec<u8>)>,
    last_time: PacketTime,
    state: State,
    time_steps: u64,
    counts: KernelCounts,
    ends_with: Option<CaptureError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No frame yet, so there is no gap before the next.
    Fresh,
    Running,
}

impl SimSource {
    /// These frames, in this order; times that step back are clamped.
    #[must_use]
    pub fn new(frames: Vec<(PacketTime, LinkType, Vec<u8>)>) -> Self {
        let seen = u64::try_from(frames.len()).unwrap_or(u64::MAX);
        Self {
            frames: frames.into(),
            last_time: PacketTime::MIN,
            state: State::Fresh,
            time_steps: 0,
            counts: KernelCounts { seen, dropped: 0 },
            ends_with: None,
        }
    }

    /// The same, but the last frame is followed by this error.
    #[must_use]
    pub fn ending_with(mut self, error: CaptureError) -> Self {
        self.ends_with = Some(error);
        self
    }

    /// The same, but the kernel says that it dropped so many frames beside these.
    #[must_use]
    pub const fn with_kernel_drops(mut self, frames: u64) -> Self {
        self.counts.seen = self.counts.seen.saturating_add(frames);
        self.counts.dropped = self.counts.dropped.saturating_add(frames);
        self
    }

    /// How often time stepped back (and was clamped).
    #[must_use]
    pub const fn time_steps(&self) -> u64 {
        self.time_steps
    }
}

impl FrameSource for SimSource {
    type Error = CaptureError;

    fn poll(&mut self, sink: &mut dyn FrameSink) -> Result<Polled, CaptureError> {
        let Some((first, _, _)) = self.frames.front() else {
            return self.ends_with.take().map_or(Ok(Polled::End), Err);
        };
        let first = *first;
        let gap_ms = first.ms_since(self.last_time);
        if self.state == State::Running && gap_ms > IDLE_MS {
            let step_ms = (gap_ms / IDLE_POLLS_MAX).max(IDLE_MS);
            self.last_time = self.last_time.plus_ms(step_ms);
            return Ok(Polled::Idle { now: self.last_time });
        }
        self.state = State::Running;
        let block_end = first.max(self.last_time).plus_ms(BLOCK_MS);
        for _ in 0..limits::CAPTURE_BATCH_FRAMES {
            // `pop_front_if` came after our Rust version.
            if self.frames.front().is_none_or(|(time, _, _)| *time >= block_end) {
                break;
            }
            let Some((time, link, bytes)) = self.frames.pop_front() else { break };
            if time < self.last_time {
                self.time_steps = self.time_steps.saturating_add(1);
            }
            self.last_time = self.last_time.max(time);
            let wire_len_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            sink.frame(Frame { time: self.last_time, link, bytes: &bytes, wire_len_bytes });
        }
        Ok(Polled::Frames)
    }

    fn kernel_counts(&mut self) -> KernelCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Times(Vec<i64>);

    impl FrameSink for Times {
        fn frame(&mut self, frame: Frame<'_>) {
            self.0.push(frame.time.ns() / 1_000_000);
        }
    }

    fn at_ms(ms: i64) -> (PacketTime, LinkType, Vec<u8>) {
        (PacketTime::from_ms(ms), LinkType::Ethernet, vec![0; 60])
    }

    #[test]
    fn gaps_are_idle_polls_whose_time_never_passes_the_next_frame() {
        let mut source =
            SimSource::new(vec![at_ms(1_000), at_ms(1_010), at_ms(1_350), at_ms(90_000)]);
        let mut times = Times(Vec::new());
        let mut idle = Vec::new();
        loop {
            match source.poll(&mut times).expect("no error") {
                Polled::Frames => {}
                Polled::Idle { now } => idle.push(now.ns() / 1_000_000),
                Polled::End => break,
            }
        }
        assert_eq!(times.0, [1_000, 1_010, 1_350, 90_000]);
        assert_eq!(idle[..3], [1_110, 1_210, 1_310]);
        assert!(idle.len() < 100 && idle.is_sorted() && idle.iter().all(|now| *now <= 90_000));
    }

    #[test]
    fn steps_back_are_clamped_and_the_error_comes_last() {
        let gone = CaptureError::InterfaceGone { name: "sim".into() };
        let mut source = SimSource::new(vec![at_ms(20), at_ms(10)]).ending_with(gone);
        let mut times = Times(Vec::new());
        assert_eq!(source.poll(&mut times).expect("frames"), Polled::Frames);
        assert_eq!((times.0, source.time_steps()), (vec![20, 20], 1));
        assert!(source.poll(&mut Times(Vec::new())).is_err());
        let counts = SimSource::new(vec![at_ms(0)]).with_kernel_drops(4).kernel_counts();
        assert_eq!(counts, KernelCounts { seen: 5, dropped: 4 });
    }
}
