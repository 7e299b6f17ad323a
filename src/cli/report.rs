//! What a run of `capture` or `replay` comes to: the last JSON object, and the words for people.
//!
//! Purpose: one shape that the application fills and the command line prints.
//! Invariants: `received` is shown beside the sum of outcomes as it was counted, never made to fit;
//! a run that lost something has status 3 and says what.
//! Non-goals: single calls (see `call::summary`).
//! Sources: none.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Exit;
use crate::base::{FrameOutcome, OutcomeCounts};

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    /// Frames that reached us.
    pub frames_received: u64,
    /// Frames that the kernel dropped because the ring was full; zero for files.
    pub kernel_dropped: u64,
    /// What became of the frames.
    pub outcomes: OutcomeCounts,
    /// Calls that were followed.
    pub calls_seen: u64,
    /// Calls of which something is in the archive.
    pub calls_recorded: u64,
    /// Calls still going on when the run ended.
    pub calls_truncated: u64,
    /// True when the archive is sealed: its addresses then stay out of what may be a log.
    pub is_sealed: bool,
    /// RTP that belonged to no call: the flows that carried most of it.
    pub unclaimed: Vec<UnclaimedFlow>,
    /// Anything else that was lost or cut short, one sentence each ("a.pcap: ends inside a frame").
    pub losses: Vec<String>,
    /// Processor time of the process, in seconds.
    pub cpu_s: f64,
    /// Time that passed, in seconds.
    pub wall_s: f64,
    /// Most memory that the process held, in bytes.
    pub peak_rss_bytes: u64,
}

/// An RTP or RTCP flow that no SDP announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnclaimedFlow {
    /// `ip:port`.
    pub source: String,
    /// `ip:port`.
    pub destination: String,
    /// `0x` and eight hex digits.
    pub ssrc: String,
    /// `RTP` or `RTCP`.
    pub kind: &'static str,
    /// Packets seen.
    pub packets: u64,
    /// The likely reason, for people.
    pub reason: String,
}

/// A run that could not go on.
#[derive(Clone, Debug, PartialEq)]
pub struct RunError {
    /// `Failed`, or `Usage` where the command line is to blame.
    pub exit: Exit,
    /// One line that says what to do.
    pub message: String,
    /// What was done until then; what was recorded is kept.
    pub report: Option<Box<RunReport>>,
}

impl RunError {
    /// Status 1 and a line, with nothing done yet.
    pub fn failed(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string(), report: None }
    }
}

impl RunReport {
    /// The object of the contract.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut by_outcome = Map::new();
        for (outcome, count) in self.outcomes.iter() {
            by_outcome.insert(outcome.label().to_owned(), json!(count));
        }
        let unclaimed: Vec<Value> = self
            .unclaimed
            .iter()
            .map(|flow| {
                json!({"source": flow.source, "destination": flow.destination, "ssrc": flow.ssrc,
                    "kind": flow.kind.to_ascii_lowercase(), "packets": flow.packets, "reason": flow.reason})
            })
            .collect();
        json!({
            "frames": {
                "received": self.frames_received,
                "kernel_dropped": self.kernel_dropped,
                "by_outcome": by_outcome,
            },
            "calls": {
                "seen": self.calls_seen,
                "recorded": self.calls_recorded,
                "truncated": self.calls_truncated,
            },
            "unclaimed": unclaimed,
            "losses": self.losses_in_words(),
            "cpu_s": rounded(self.cpu_s),
            "wall_s": rounded(self.wall_s),
            "peak_rss_bytes": self.peak_rss_bytes,
        })
    }

    /// What was lost, one phrase each; empty when nothing was.
    #[must_use]
    pub fn losses_in_words(&self) -> Vec<String> {
        let mut losses = Vec::new();
        if self.kernel_dropped > 0 {
            losses.push(format!(
                "the kernel dropped {} frames (raise --ring-size or --capture-threads)",
                self.kernel_dropped
            ));
        }
        for (outcome, count) in self.outcomes.iter() {
            if outcome.is_our_loss() && count > 0 {
                losses.push(format!("{count} frames dropped as {}", outcome.label()));
            }
        }
        if self.calls_truncated > 0 {
            let were = if self.calls_truncated == 1 { "call was" } else { "calls were" };
            losses.push(format!("{} {were} still going on and end here", self.calls_truncated));
        }
        losses.extend(self.losses.iter().cloned());
        losses
    }

    /// `Lost` when something was lost, else `Done`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.losses_in_words().is_empty() { Exit::Done } else { Exit::Lost }
    }

    /// A few lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "calls   {} seen, {} recorded, {} truncated",
            self.calls_seen, self.calls_recorded, self.calls_truncated
        );
        let _ = write!(text, "frames  {} received", self.frames_received);
        for (outcome, count) in self.outcomes.iter().filter(|(_, count)| *count > 0) {
            let _ = write!(text, ", {count} {}", outcome.label());
        }
        let _ = writeln!(text, "; {} dropped by the kernel", self.kernel_dropped);
        let _ = writeln!(
            text,
            "cost    {:.2} s of processor time in {:.2} s, {} MiB of memory",
            self.cpu_s,
            self.wall_s,
            self.peak_rss_bytes >> 20
        );
        if self.outcomes.get(FrameOutcome::TlsWithoutKey) > 0 {
            text.push_str("TLS without a key was not read: docs/tls.md says what it takes\n");
        }
        if self.outcomes.get(FrameOutcome::UnclaimedRtp) > 0 {
            let _ = writeln!(text, "RTP that belongs to no call (not recorded):");
            for flow in &self.unclaimed {
                let UnclaimedFlow { source, destination, ssrc, kind, packets, reason } = flow;
                let _ = if self.is_sealed {
                    writeln!(text, "        {ssrc} {packets} {kind} packets: {reason}")
                } else {
                    writeln!(
                        text,
                        "        {source} → {destination} {ssrc} {packets} {kind} packets: {reason}"
                    )
                };
            }
            if self.is_sealed {
                text.push_str("        (the archive is sealed: --json has the addresses)\n");
            }
        }
        text
    }
}

/// Milliseconds are enough.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lose = fn(&mut RunReport);

    fn report() -> RunReport {
        let mut outcomes = OutcomeCounts::default();
        outcomes.add_many(FrameOutcome::Sip, 7);
        outcomes.add_many(FrameOutcome::Rtp, 100);
        RunReport {
            frames_received: 107,
            outcomes,
            calls_seen: 1,
            calls_recorded: 1,
            cpu_s: 0.123_456,
            wall_s: 0.5,
            peak_rss_bytes: 3 << 20,
            ..RunReport::default()
        }
    }

    #[test]
    fn the_object_has_the_names_of_the_contract_and_every_outcome() {
        let object = report().to_json();
        assert_eq!(object["frames"]["received"], 107);
        assert_eq!(object["frames"]["kernel_dropped"], 0);
        assert_eq!(object["frames"]["by_outcome"]["rtp"], 100);
        let outcomes = object["frames"]["by_outcome"].as_object().expect("object");
        assert_eq!(outcomes.len(), FrameOutcome::COUNT);
        assert_eq!(object["calls"], json!({"seen": 1, "recorded": 1, "truncated": 0}));
        assert_eq!((&object["cpu_s"], &object["wall_s"]), (&json!(0.123), &json!(0.5)));
        assert_eq!(object["peak_rss_bytes"], 3 << 20);
    }

    #[test]
    fn any_loss_is_status_3_and_is_named() {
        assert_eq!(report().exit(), Exit::Done);
        let lossy: [(Lose, &str); 4] = [
            (|it| it.kernel_dropped = 2, "the kernel dropped 2 frames"),
            (|it| it.outcomes.add(FrameOutcome::QueueFull), "1 frames dropped as queue_full"),
            (|it| it.calls_truncated = 1, "1 call was still going on"),
            (|it| it.losses.push("a.pcap: ends inside a frame".into()), "a.pcap"),
        ];
        for (lose, words) in lossy {
            let mut report = report();
            lose(&mut report);
            assert_eq!(report.exit(), Exit::Lost, "{words}");
            assert!(report.losses_in_words().concat().contains(words), "{words}");
        }
    }

    #[test]
    fn people_read_the_same_numbers() {
        let text = report().to_text();
        assert!(text.contains("1 seen, 1 recorded, 0 truncated"), "{text}");
        assert!(text.contains("107 received, 7 sip, 100 rtp; 0 dropped by the kernel"), "{text}");
    }
}
