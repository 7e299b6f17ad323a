//! What was typed: the grammar of the command line, one field a flag.
//!
//! Purpose: the one place from which parsing, `--help`, docs/CLI.md and the keys of the
//! configuration file come.
//! Invariants: every flag of `RunArgs` is optional here; defaults are given in `parse`, after the
//! file and the environment had their say.
//! Non-goals: meaning and checks between flags (see `options` and `parse`).
//! Sources: none.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::options::{Band, Bitrate, Legs, LogFormat, Start, Store, parse_bitrate, parse_size};

/// Records calls from a mirror port or from capture files, and never sends a packet.
#[derive(Debug, Parser)]
#[command(name = "callspan", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but something was lost."
)]
pub struct Typed {
    /// What to do.
    #[command(subcommand)]
    pub command: TypedCommand,
}

/// One subcommand as typed.
#[derive(Debug, Subcommand)]
pub enum TypedCommand {
    /// Make a new archive
    Init(InitArgs),
    /// Record calls from live interfaces, until SIGTERM
    Capture(CaptureArgs),
    /// Record calls from capture files
    Replay(ReplayArgs),
    /// List calls, oldest first
    Calls(CallsArgs),
    /// Show one call: SIP ladder, streams, quality, gaps
    Show(ShowArgs),
    /// Write one call to a file
    Export(ExportArgs),
    /// Check that everything is there as it was sealed
    Verify(VerifyArgs),
    /// Erase a call, or a person's calls, for good
    Erase(EraseArgs),
    /// Keep a call from being erased
    Hold(HoldArgs),
    /// End a legal hold
    Release(HoldArgs),
    /// Erase what is older than the retention allows, and give room back
    Retain(RetainArgs),
    /// Make a directory that proves one call to somebody without the archive
    Evidence(EvidenceArgs),
    /// Check a directory that `evidence` made, without the archive
    VerifyEvidence(VerifyEvidenceArgs),
    /// Have finished segments stamped by a timestamping authority (RFC 3161)
    Timestamp(TimestampArgs),
    /// Say who can open what is recorded from now on
    #[command(subcommand)]
    Recipients(RecipientsCommand),
    /// Prove that an identity opens recordings, before it matters
    Drill(DrillArgs),
    /// Make keys that open recordings
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look after the archive's index
    #[command(subcommand)]
    Index(IndexCommand),
}

/// `callspan verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The archive's directory (or CALLSPAN_ARCHIVE in the environment)
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// The archive's public key as it was kept elsewhere: a vkey, or a file that holds one
    #[arg(long, value_name = "KEY")]
    pub public_key: Option<String>,
    /// A checkpoint that was kept elsewhere: tells when the archive was rolled back
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `callspan erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The call's id (or its first 6 or more characters), or a SIP Call-ID
    #[arg(required_unless_present = "number", conflicts_with = "number")]
    pub call: Option<String>,
    /// All calls of this number, as `callspan calls --number` finds them; they are listed first
    #[arg(long, value_name = "N")]
    pub number: Option<String>,
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Why: kept for auditors, so it must name nobody
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Only list what would be erased
    #[arg(long)]
    pub dry_run: bool,
}

/// `callspan hold` and `release`.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// The call's id (or its first 6 or more characters), or a SIP Call-ID
    pub call: String,
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Why: kept for auditors, so it must name nobody
    #[arg(long, value_name = "TEXT", default_value = "not given")]
    pub reason: String,
}

/// `callspan retain`.
#[derive(Debug, Args)]
pub struct RetainArgs {
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Only say what would be erased
    #[arg(long)]
    pub dry_run: bool,
}

/// `callspan evidence`.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// The call's id (or its first 6 or more characters), or a SIP Call-ID
    pub call: String,
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Opens a sealed recording: the identity of one of its recipients
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The directory to make
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
}

/// `callspan verify-evidence`.
#[derive(Debug, Args)]
pub struct VerifyEvidenceArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The recorder's public key (a vkey) as it was kept elsewhere
    #[arg(long, value_name = "KEY")]
    pub public_key: Option<String>,
}

/// `callspan timestamp`.
#[derive(Debug, Args)]
pub struct TimestampArgs {
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// The authority's address: http://…; only hashes are sent
    #[arg(long, value_name = "URL")]
    pub url: String,
}

/// `callspan recipients`.
#[derive(Debug, Subcommand)]
pub enum RecipientsCommand {
    /// List them
    List(ArchiveArg),
    /// Seal new calls to these public keys too
    Add(RecipientsArgs),
    /// Do not seal new calls to these public keys any more
    Remove(RecipientsArgs),
    /// Wrap the keys of old calls for the present recipients
    Rewrap(RewrapArgs),
}

/// `callspan recipients rewrap`.
#[derive(Debug, Args)]
pub struct RewrapArgs {
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// The identity of somebody who can open the old calls
    #[arg(long, short, value_name = "FILE")]
    pub identity: PathBuf,
}

/// `callspan recipients add` and `remove`.
#[derive(Debug, Args)]
pub struct RecipientsArgs {
    /// Public keys: age1…, or SSH keys
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
}

/// `callspan drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// The identity to try, from the back-up
    #[arg(long, short, value_name = "FILE")]
    pub identity: PathBuf,
    /// How many of the newest calls to open [default: 10]
    #[arg(long, value_name = "N", value_parser = in_range::<u32, 1, 1_000_000>, default_value = "10", hide_default_value = true)]
    pub calls: u32,
}

/// `callspan keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a pair: an identity that opens recordings, and its public key for `init --recipient`
    New(KeysNewArgs),
}

/// `callspan keys new`.
#[derive(Debug, Args)]
pub struct KeysNewArgs {
    /// Where the identity goes [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `callspan init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Directory of the new archive; it must not exist, or be empty
    pub archive: PathBuf,
    /// Seal recordings to this public key (age1…, or an SSH key); may be given more than once
    #[arg(long, short, value_name = "KEY", conflicts_with = "plaintext")]
    pub recipient: Vec<String>,
    /// Do not seal what is recorded: whoever can read the files can listen
    #[arg(long)]
    pub plaintext: bool,
    /// How long calls are kept: a number of days, or none [default: none]
    #[arg(long, value_name = "DAYS", value_parser = parse_retention)]
    pub retention: Option<RetentionDays>,
    /// Where the box's keys are, or are to be made.
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// Where the box's keys are.
#[derive(Clone, Debug, Default, Args)]
pub struct KeyArgs {
    /// The key that signs segments [default: DIR.keys/signing.key beside the archive DIR]
    #[arg(long, value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
    /// The key that opens metadata [default: DIR.keys/box.key beside the archive DIR]
    #[arg(long, value_name = "FILE")]
    pub box_key: Option<PathBuf>,
}

/// Days that calls are kept; `None`: for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionDays(pub Option<u32>);

fn parse_retention(text: &str) -> Result<RetentionDays, String> {
    if text == "none" {
        return Ok(RetentionDays(None));
    }
    let days = text.parse::<u32>().ok().filter(|days| (1..=36_500).contains(days));
    days.map(|days| RetentionDays(Some(days)))
        .ok_or_else(|| "give a number of days from 1 to 36500, or none".to_owned())
}

/// `callspan capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Interface that the mirror port is plugged into; may be given more than once
    #[arg(long, short, value_name = "IF")]
    pub interface: Vec<String>,
    /// Flags shared with `replay`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `callspan replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Capture files (pcap or pcapng, also .gz and .zst), merged by time; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Flags shared with `capture`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The flags of `capture` and `replay`. Each is also a key of the configuration file, and
/// `CALLSPAN_` with its name in capitals in the environment.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// The archive's directory
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// Where the box's keys are.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// What is kept of a call's media [default: opus]
    #[arg(long, value_name = "WHAT", hide_possible_values = true, long_help = STORE_HELP)]
    pub store: Option<Store>,
    /// What second 0 of a recording is [default: answer]
    #[arg(long, value_name = "WHEN", hide_possible_values = true, long_help = START_HELP)]
    pub start: Option<Start>,
    /// Worker threads, 1 to 256 [default: one a processor]
    #[arg(long, value_name = "N", value_parser = in_range::<usize, 1, 256>)]
    pub workers: Option<usize>,
    /// Capture rings and threads per interface, 1 to 64 [default: 1]
    #[arg(long, value_name = "N", value_parser = in_range::<usize, 1, 64>)]
    pub capture_threads: Option<usize>,
    /// Bits a second of one channel: a number, 24k, or auto [default: auto]
    #[arg(long, value_name = "B", value_parser = parse_bitrate, long_help = BITRATE_HELP)]
    pub opus_bitrate: Option<Bitrate>,
    /// Effort of the Opus encoder, 0 to 10 [default: 0]
    #[arg(long, value_name = "0-10", value_parser = in_range::<u8, 0, 10>, long_help = COMPLEXITY_HELP)]
    pub opus_complexity: Option<u8>,
    /// How long a gap waits for a late packet, in milliseconds, 0 to 1000 [default: 200]
    #[arg(long, value_name = "MS", value_parser = in_range::<i64, 0, 1_000>)]
    pub reorder_window: Option<i64>,
    /// Time between two commits to disk, in milliseconds, 50 to 60000 [default: 1000]
    #[arg(long, value_name = "MS", value_parser = in_range::<u64, 50, 60_000>)]
    pub commit_interval: Option<u64>,
    /// Size of each capture ring, in MiB, 1 to 4096 [default: 64]
    #[arg(long, value_name = "MIB", value_parser = in_range::<u32, 1, 4_096>)]
    pub ring_size: Option<u32>,
    /// Keep so much of the archive's disk free: below it new calls are not recorded [default: 0]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub disk_reserve: Option<u64>,
    /// Copy each new checkpoint into this directory, which another machine should keep
    #[arg(long, value_name = "DIR")]
    pub checkpoint_to: Option<PathBuf>,
    /// Read only frames that match this BPF expression
    #[arg(long, value_name = "BPF")]
    pub filter: Option<String>,
    /// Bandwidth of the recording: nb (8 kHz), wb (16 kHz) or auto [default: auto]
    #[arg(long, value_name = "BAND", hide_possible_values = true)]
    pub band: Option<Band>,
    /// What is one recording: one for a whole conversation, or all for each Call-ID [default: one]
    #[arg(long, value_name = "LEGS", hide_possible_values = true, long_help = LEGS_HELP)]
    pub legs: Option<Legs>,
    /// A SIP header whose value is the same in all legs of a conversation, as in X-Call-UUID
    #[arg(long, value_name = "NAME", value_parser = header_name)]
    pub join_header: Option<String>,
    /// Receive HEP (v2, v3) from agents on this address, UDP and TCP, as in 0.0.0.0:9060; `capture` only
    #[arg(long, value_name = "ADDR", value_parser = socket_address)]
    pub hep_listen: Option<SocketAddr>,
    /// Read TLS with the secrets of this key log (SSLKEYLOGFILE); while capturing it is followed
    #[arg(long, value_name = "FILE", long_help = TLS_KEYLOG_HELP)]
    pub tls_keylog: Option<PathBuf>,
    /// Read TLS with this RSA key of the server (PEM): static-RSA suites of TLS 1.2 only
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Make calls from RTP that no SIP announced
    #[arg(long, long_help = HEURISTIC_HELP)]
    pub heuristic_rtp: bool,
    /// Serve Prometheus metrics on this address, as in 127.0.0.1:9464
    #[arg(long, value_name = "ADDR", value_parser = socket_address)]
    pub metrics: Option<SocketAddr>,
    /// Configuration file (TOML); every flag has a key of the same name
    #[arg(long, value_name = "FILE", long_help = CONFIG_HELP)]
    pub config: Option<PathBuf>,
    /// How logs on standard error look: text or json [default: text]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
    /// End with one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

const STORE_HELP: &str = "What is kept of a call's media [default: opus]\n\n\
- opus: two channels of Opus, caller left and callee right\n\
- raw:  the RTP as it came, LZ4-compressed\n\
- none: nothing; calls are correlated and measured only";
const LEGS_HELP: &str = "What is one recording [default: one]\n\n\
- one: a conversation: what a B2BUA sends on, a transfer and what replaces a dialog are joined\n\
- all: each Call-ID";
const HEURISTIC_HELP: &str = "Make calls from RTP that no SIP announced\n\n\
Only from what is sound beyond doubt: both ways of a flow are a call of origin `heuristic`; who\n\
called is not known. Ciphertext and formats that only SDP could tell are kept raw.";
const START_HELP: &str = "What second 0 of a recording is [default: answer]\n\n\
- answer: the 2xx to the INVITE; media before it is measured and discarded\n\
- media:  the first media packet, ringing and announcements included";
const BITRATE_HELP: &str = "Bits a second of one channel: a number from 6000 to 256000, 24k, or \
auto\n[default: auto]\n\nauto is 16k for narrow-band and 24k for wide-band calls.";
const COMPLEXITY_HELP: &str = "Effort of the Opus encoder, 0 to 10 [default: 0]\n\n\
5 sounds a little better (0.1 of PESQ) and costs three times the processor time.";
const TLS_KEYLOG_HELP: &str = "Read TLS with the secrets of this key log (SSLKEYLOGFILE); while capturing it is followed\n\n\
SIP over TLS 1.2 and 1.3. A replay reads the file whole before the first frame; a capture reads what is added to it,\n\
and follows it through rotation. The file opens every connection that it names: docs/tls.md.";
const CONFIG_HELP: &str = "Configuration file (TOML); every flag has a key of the same name\n\n\
A flag wins over the file, and the file over the environment: CALLSPAN_ and the flag's name\n\
in capitals, as in CALLSPAN_COMMIT_INTERVAL. An unknown key is an error.";

/// A mean opinion score, to the thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mos {
    /// In thousandths.
    pub milli: i64,
}

/// `callspan calls`.
#[derive(Debug, Args)]
pub struct CallsArgs {
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Calls that began at or after T: RFC 3339, 2026-11-23, -2h, yesterday
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Calls that began before T
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Calls whose caller's or callee's number is N, or ends with N; 'N*': begins with N
    #[arg(long, value_name = "N", allow_hyphen_values = true, long_help = NUMBER_HELP)]
    pub number: Option<String>,
    /// Calls that were talked for S seconds or longer, from the answer to the end
    #[arg(long, value_name = "S", value_parser = in_range::<u32, 0, 1_000_000_000>)]
    pub min_seconds: Option<u32>,
    /// Calls that were talked for S seconds or shorter
    #[arg(long, value_name = "S", value_parser = in_range::<u32, 0, 1_000_000_000>)]
    pub max_seconds: Option<u32>,
    /// Calls with a stream of this codec, as in PCMA or opus
    #[arg(long, value_name = "NAME")]
    pub codec: Option<String>,
    /// Calls whose worst stream has a MOS below X, 0 to 5
    #[arg(long, value_name = "X", value_parser = mos)]
    pub mos_below: Option<Mos>,
    /// Calls whose worst stream has a MOS above X, 0 to 5
    #[arg(long, value_name = "X", value_parser = mos)]
    pub mos_above: Option<Mos>,
    /// Calls with this SIP Call-ID
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub call_id: Option<String>,
    /// At most K calls: the latest ones, still oldest first
    #[arg(long, value_name = "K", value_parser = in_range::<usize, 1, 1_000_000_000>)]
    pub limit: Option<usize>,
    /// Print one JSON object a call
    #[arg(long)]
    pub json: bool,
}

const NUMBER_HELP: &str = "Calls whose caller's or callee's number is N, or ends with N; 'N*': begins \
with N\n\n\
+48 22 123 45 67, 0048221234567, 0221234567 and 221234567 find each other, whichever was recorded.\n\
Names (alice, pbx-12) are found the same way. Quote the star, so that the shell leaves it alone.";

/// `callspan show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The call's id (or its first 6 or more characters), or a SIP Call-ID
    pub call: String,
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// Print one JSON object: the call's, and its SIP messages as `sip`
    #[arg(long)]
    pub json: bool,
}

/// `callspan export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The call's id (or its first 6 or more characters), or a SIP Call-ID
    pub call: String,
    /// Which archive.
    #[command(flatten)]
    pub archive: ArchiveArg,
    /// What to write
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, long_help = FORMAT_HELP)]
    pub format: ExportFormat,
    /// Where to; - is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Opens a sealed recording: the identity of one of its recipients
    #[arg(long, short, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,
}

const FORMAT_HELP: &str = "What to write\n\n\
- opus: an Ogg file with two Opus channels, caller left and callee right\n\
- wav:  16-bit PCM at 48 kHz, caller left and callee right\n\
- pcap: the call's SIP messages, and its RTP where it was kept (--store raw)";

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Ogg Opus.
    Opus,
    /// 16-bit PCM.
    Wav,
    /// SIP and raw RTP as frames.
    Pcap,
}

/// `callspan index`.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Make the index again from the segments
    Rebuild(ArchiveArg),
}

/// Which archive.
#[derive(Debug, Args)]
pub struct ArchiveArg {
    /// The archive's directory (or CALLSPAN_ARCHIVE in the environment)
    #[arg(long = "archive", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the box's keys are.
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// Reads a whole number from `LOW` to `HIGH`, both included.
fn in_range<T, const LOW: i64, const HIGH: i64>(text: &str) -> Result<T, String>
where
    T: TryFrom<i64>,
{
    text.parse::<i64>()
        .ok()
        .filter(|number| (LOW..=HIGH).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("give a whole number from {LOW} to {HIGH}"))
}

fn mos(text: &str) -> Result<Mos, String> {
    let read = text.parse::<f64>().ok().filter(|mos| (0.0..=5.0).contains(mos));
    #[allow(clippy::cast_possible_truncation, reason = "it is at most 5000")]
    let milli = read.map(|mos| (mos * 1_000.0).round() as i64);
    milli
        .map(|milli| Mos { milli })
        .ok_or_else(|| "give a number from 0 to 5, as in 3.6".to_owned())
}

/// A token of RFC 3261 §25.1.
fn header_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        return Ok(text.to_owned());
    }
    Err("give the name of a SIP header, as in X-Call-UUID".to_owned())
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "give an address and a port, as in 127.0.0.1:9464 or [::1]:9464".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        Typed::command().debug_assert();
    }

    #[test]
    fn ranges_are_closed_and_named() {
        assert_eq!(in_range::<u8, 0, 10>("10"), Ok(10));
        assert_eq!(in_range::<u8, 0, 10>("11"), Err("give a whole number from 0 to 10".to_owned()));
        assert!(in_range::<u8, 0, 10>("1.5").is_err());
        assert!(in_range::<u8, 0, 10>("-1").is_err());
        assert_eq!(mos("3.6"), Ok(Mos { milli: 3_600 }));
        for wrong in ["-1", "5.1", "NaN", "good", ""] {
            assert!(mos(wrong).is_err(), "{wrong}");
        }
    }
}
