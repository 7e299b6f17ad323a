//! What time it is, and how well this machine's clock is kept.
//!
//! Purpose: evidence of time: each finished segment notes it.
//! Invariants: what the kernel does not tell is unknown, never assumed.
//! Non-goals: setting a clock.
//! Sources: adjtimex(2); RFC 5905 §4 (what the errors mean).

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::archive::ClockReading;
use crate::archive::checkpoint::{ClockQuality, ClockState};

/// Reads the clock and the kernel's opinion of it.
#[must_use]
pub fn read() -> ClockReading {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    ClockReading { now_ns, quality: quality() }
}

fn quality() -> ClockQuality {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeros are a valid `timex` (it holds integers alone), whose `modes` of 0 asks the
    // kernel to change nothing; the pointer is to memory of that type that lives until the call ends.
    let (result, state) = unsafe {
        let result = libc::adjtimex(state.as_mut_ptr());
        (result, state.assume_init())
    };
    if result < 0 {
        return ClockQuality::default();
    }
    let synchronised = state.status & libc::STA_UNSYNC == 0 && result != libc::TIME_ERROR;
    let microseconds = |number: libc::c_long| u64::try_from(number).ok();
    ClockQuality {
        state: if synchronised { ClockState::Synchronised } else { ClockState::Unsynchronised },
        estimated_error_us: microseconds(state.esterror),
        maximum_error_us: microseconds(state.maxerror),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_and_the_kernel_has_an_opinion_of_it() {
        let reading = read();
        assert!(reading.now_ns > 1_700_000_000_000_000_000, "{reading:?}");
        assert_ne!(reading.quality.state, ClockState::Unknown, "{reading:?}");
    }
}
