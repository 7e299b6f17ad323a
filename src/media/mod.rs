//! A call's media: two channels on one clock.
//!
//! Purpose: from RTP packets and SIP's word on them to 20 ms slots of Opus, gaps with reasons,
//! digits and quality. Entry: [`CallMedia`].
//! Invariants: pure; the same packets give the same slots however the visits are cut.
//! Non-goals: which packets belong to the call (see `rtp::flow_table`), storage, threads.
//! Sources: RFC 3550, RFC 3264, RFC 7845; docs/time.md tells the story.

mod anchor;
mod call_media;
mod decoder;
mod digits;
mod evidence;
mod far_end;
mod fax;
mod gaps;
mod holds;
mod kept_opus;
mod key_exchange;
mod measured;
mod mender;
mod missing;
mod noise;
mod notes;
mod placement;
mod reading;
mod report;
mod settings;
mod side;
mod stream;
mod stretch;
mod tones;
mod track;
mod unread;
mod voice;

pub use call_media::CallMedia;
pub use decoder::{Codec, Decoder, Filled, Meaning, meaning};
pub use far_end::FarEndReport;
pub use fax::FaxReport;
pub use gaps::{Gap, GapReason};
pub use missing::Missing;
pub use report::{DigitReport, DigitSource, MediaReport, Recorded, StreamReport};
pub use settings::{Band, MediaSettings, MediaSink, StartAt, Store};
pub use stream::StreamKey;
pub use track::{SLOT_MS, SLOTS_PER_S};
pub use voice::{VoiceSettings, encoder_settings};
