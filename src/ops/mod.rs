//! What operations see of a running process: metrics, health, logs, and words to systemd.
//!
//! Purpose: let people and Prometheus watch without the recording noticing.
//! Invariants: nothing here is called per packet; values are pulled when somebody asks.
//! Non-goals: deciding anything about calls.
//! Sources: the Prometheus text exposition format; sd_notify(3).

pub mod checkpoint_copy;
pub mod clock;
pub mod http;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod timestamp_client;
