//! Codecs and containers: what turns payloads into samples, and samples into files.
//!
//! Purpose: decoders of the telephone codecs (by libavcodec where long), the Opus encoder, Ogg Opus and
//! WAV writers, resampling.
//! Invariants: a decoder never panics and never writes past what it reports; buffers are the caller's.
//! Non-goals: which codec a stream uses and where losses are (see `sip` and `media`).
//! Sources: ITU-T G.711, G.722; RFC 3389, RFC 3551, RFC 6716, RFC 7845.

pub mod amr;
pub mod avcodec;
mod bits;
pub mod comfort_noise;
pub mod conceal;
pub mod dtmf_tones;
pub mod error;
pub mod fax_tones;
pub mod fuzz;
pub mod g711;
pub mod g722;
pub mod g726;
pub mod l16;
pub mod ogg;
pub mod opus;
pub mod opus_packet;
pub mod resample;
pub mod sample;
pub mod speech;
pub mod speex;
pub mod tone_bank;
pub mod wav;

pub use comfort_noise::{ComfortNoise, NoiseGenerator};
pub use conceal::Concealer;
pub use error::CodecError;
pub use g722::G722Decoder;
pub use ogg::{OggOpusHead, OggOpusWriter};
pub use opus::{EncoderSettings, OpusDecoder, OpusVoiceEncoder, silence_packet};
pub use opus_packet::{
    OpusBandwidth, OpusMode, OpusPacketInfo, is_dtx, packet_info, self_delimited,
};
pub use resample::interpolate;
pub use speech::{SpeechCodec, SpeechDecoder};
pub use wav::WavWriter;
