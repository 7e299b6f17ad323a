//! Words to systemd: ready, still alive, stopping.
//!
//! Purpose: `Type=notify` and `WatchdogSec=` in the unit work; elsewhere nothing happens.
//! Invariants: a message that cannot be sent never stops a recording.
//! Non-goals: socket activation and file descriptor storage.
//! Sources: sd_notify(3), sd_watchdog_enabled(3).

use std::time::Duration;

use sd_notify::NotifyState;

/// Everything is open and frames are being read.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// SIGTERM came; what is queued is being finished.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The main loop went round once more.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often to call [`watchdog`]: half of what the unit demands; `None` when it demands nothing.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd did not take the message");
    }
}
