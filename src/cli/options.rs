//! What the flags of `capture` and `replay` mean, once everything that was typed is known.
//!
//! Purpose: one plain struct that the application starts from, and the checks between its values.
//! Invariants: a `RunOptions` that exists is within its documented ranges.
//! Non-goals: how the values were typed (see `args`) or where they came from (see `config`).
//! Sources: RFC 6716 §2.1.1 (Opus bit rates).

use std::net::SocketAddr;

use clap::ValueEnum;

use super::key_files::ArchivePlace;
pub use crate::ops::log::LogFormat;

/// What is kept of a call's media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// Two channels of Opus.
    #[default]
    Opus,
    /// The RTP as it came, LZ4-compressed.
    Raw,
    /// Nothing: correlate and measure only.
    None,
}

/// What second 0 of a recording is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// The 2xx to the INVITE; media before it is measured and discarded.
    #[default]
    Answer,
    /// The first media packet, ringing and announcements included.
    Media,
}

/// Audio bandwidth of the recorded Opus channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Band {
    /// Narrow-band: 8 kHz sampling.
    Nb,
    /// Wide-band: 16 kHz sampling.
    Wb,
    /// As the call's codecs are.
    #[default]
    Auto,
}

/// What is one recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Legs {
    /// A conversation, with all its legs.
    #[default]
    One,
    /// Each Call-ID.
    All,
}

/// What becomes of RTP that no SIP announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeuristicRtp {
    /// It is listed in the report.
    #[default]
    Off,
    /// Calls are made from it.
    On,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// JSON Lines on standard output, and nothing else there.
    JsonLines,
}

/// Everything that `capture` and `replay` are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Which archive.
    pub archive: ArchivePlace,
    /// What is kept of the media.
    pub store: Store,
    /// What second 0 of a recording is.
    pub start: Start,
    /// Worker threads, 1 to [`WORKERS_MAX`].
    pub workers: usize,
    /// Rings (and front threads) per interface, 1 to [`CAPTURE_THREADS_MAX`].
    pub capture_threads: usize,
    /// Bits a second of one channel; `None`: 16 000 narrow-band, 24 000 wide-band.
    pub opus_bitrate: Option<u32>,
    /// Opus encoder complexity, 0 to 10.
    pub opus_complexity: u8,
    /// How long a gap may wait for a packet that comes late, in milliseconds.
    pub reorder_window_ms: i64,
    /// Wall time between two commits of the archive, in milliseconds.
    pub commit_interval_ms: u64,
    /// Size of one capture ring, in MiB.
    pub ring_size_mib: u32,
    /// A BPF expression that frames must match.
    pub filter: Option<String>,
    /// Bandwidth of the recorded channels.
    pub band: Band,
    /// What is one recording.
    pub legs: Legs,
    /// A header whose value is the same in all legs of a conversation.
    pub join_header: Option<String>,
    /// Whether calls are made from media that no SIP announced.
    pub heuristic_rtp: HeuristicRtp,
    /// Bytes of the disk that are kept free: below it new calls are not recorded; 0: no limit.
    pub disk_reserve_bytes: u64,
    /// Where each new checkpoint is copied to.
    pub checkpoint_to: Option<std::path::PathBuf>,
    /// Where agents send HEP to.
    pub hep_listen: Option<SocketAddr>,
    /// A key log of TLS secrets.
    pub tls_keylog: Option<std::path::PathBuf>,
    /// A server's RSA key, PEM.
    pub tls_key: Option<std::path::PathBuf>,
    /// Where Prometheus may scrape.
    pub metrics: Option<SocketAddr>,
    /// How logs on standard error look.
    pub log_format: LogFormat,
    /// How the result is printed.
    pub json: OutputFormat,
}

/// Most worker threads.
pub const WORKERS_MAX: usize = 256;
/// Most rings per interface.
pub const CAPTURE_THREADS_MAX: usize = 64;
/// Most rings in all: a ring's index is one byte.
pub const RINGS_MAX: usize = 255;
/// Default of `--opus-complexity`: a third of the CPU of 5 for 0.1 of PESQ.
pub const OPUS_COMPLEXITY: u8 = 0;
/// Default of `--reorder-window`.
pub const REORDER_WINDOW_MS: i64 = 200;
/// Default of `--ring-size`.
pub const RING_SIZE_MIB: u32 = 64;

/// The number of workers when nobody says: one a processor, at most [`WORKERS_MAX`].
#[must_use]
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// Reads `--opus-bitrate`: bits a second, `24k`, or `auto`.
///
/// # Errors
/// A sentence when it is none of these, or outside of 6–256 kbit/s.
pub fn parse_bitrate(text: &str) -> Result<Bitrate, String> {
    if text == "auto" {
        return Ok(Bitrate(None));
    }
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => (text, 1),
    };
    let bits = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    match bits {
        Some(bits) if (6_000..=256_000).contains(&bits) => Ok(Bitrate(Some(bits))),
        _ => Err("give bits a second from 6000 to 256000, `24k`, or `auto`".to_owned()),
    }
}

/// Reads `--disk-reserve`: bytes, or a number with K, M, G or T (powers of 1024).
///
/// # Errors
/// A sentence when it is none of these.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 30),
        Some((at, 't' | 'T')) => (text.get(..at), 40),
        _ => (Some(text), 0),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok());
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "give bytes, or a size as in 500M, 20G or 1T".to_owned())
}

/// A bit rate of one Opus channel; `None` is automatic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bitrate(pub Option<u32>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, bytes) in [("0", 0), ("17", 17), ("3k", 3_072), ("2G", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "G", "-1", "1.5G", "1GB", "99999999999T", "é"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bit_rates_are_numbers_thousands_or_auto() {
        assert_eq!(parse_bitrate("24k"), Ok(Bitrate(Some(24_000))));
        assert_eq!(parse_bitrate("6000"), Ok(Bitrate(Some(6_000))));
        assert_eq!(parse_bitrate("auto"), Ok(Bitrate(None)));
        for wrong in ["", "k", "5999", "256001", "4294968k", "-1", "24 k"] {
            assert!(parse_bitrate(wrong).is_err(), "{wrong}");
        }
    }
}
