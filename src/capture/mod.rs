//! Where frames come from: live TPACKET_V3 rings, capture files, and a simulation of both.
//!
//! Purpose: everything that brings frames, behind `base::FrameSource`.
//! Invariants: nothing here sends (`hep_source` receives on sockets of its own); `unsafe` stands in `ring.rs` (the kernel's ring) and `mmap.rs`
//! (mapping a capture file) and nowhere else.
//! Non-goals: parsing what is inside a frame (see `net`), and threads (see `work`).
//! Sources: packet(7), the kernel's packet_mmap.rst, draft-ietf-opsawg-pcap, -pcapng.

mod block;
mod bytes;
mod error;
mod file_source;
mod filter;
pub mod fuzz;
mod hep_source;
mod input;
pub mod interfaces;
mod pcap_file;
mod pcapng_file;
mod record;
mod ring;
mod ring_source;
mod sim;

pub use error::{CaptureError, ErrorClass};
pub use file_source::FileSource;
pub use filter::{Filter, Instruction};
pub use hep_source::HepSource;
pub use ring_source::{FanoutGroup, RingOptions, RingSource};
pub use sim::SimSource;
