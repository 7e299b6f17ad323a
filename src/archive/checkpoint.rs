//! The checkpoint of a sealed segment: a transparency log's tree head, with what the segment holds.
//!
//! Purpose: one small signed text that binds every record and key slot of a segment, and every
//! segment sealed before it; kept off the box, it proves later what the archive was.
//! Invariants: a text is accepted only if writing it again gives the same bytes, so that nothing is
//! signed that is not understood; the log's leaf binds every line about the segment; a signed
//! checkpoint is shorter than [`CHECKPOINT_BYTES_MAX`].
//! Non-goals: signing (see `signing`), where checkpoints are kept, the clock that is asked.
//! Sources: C2SP tlog-checkpoint; RFC 9162 §2.1; RFC 3339; adjtimex(2) (the figures of the clock).
//!
//! ```text
//! callspan/00112233445566778899aabbccddeeff        origin: the archive's id
//! 7                                                segments in the log, this one included
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=     root over their leaves
//! segment 9                                        its number (numbers may be left out)
//! records 1200 <root>                              count, Merkle root over the records
//! table <hash>                                     SHA-256 of the record table
//! slots 16 <root>                                  count, Merkle root over the key slots
//! previous <hash>                                  SHA-256 of the previous signed note, or zeros
//! tombstones 12 <hash>                             lines of `tombstones`, SHA-256 of the last, or zeros
//! sealed 2026-11-24T02:57:36.123456789+00:00
//! clock synchronised 120 4500                      state, estimated and maximum error in µs, or -
//! ```

use super::merkle::{Hash, leaf_hash};
use crate::base::limits::CHECKPOINT_BYTES_MAX;
use crate::base::rfc3339::{format_utc_ns, parse_utc_ns};

const ORIGIN_PREFIX: &str = "callspan/";

/// What the kernel said about the clock that dated the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockQuality {
    /// Whether something disciplines it.
    pub state: ClockState,
    /// The kernel's estimate of its error, in µs.
    pub estimated_error_us: Option<u64>,
    /// The kernel's bound of its error, in µs.
    pub maximum_error_us: Option<u64>,
}

/// Whether the clock follows a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockState {
    /// The kernel says so.
    Synchronised,
    /// The kernel says that it does not.
    Unsynchronised,
    /// Nobody could be asked.
    #[default]
    Unknown,
}

impl ClockState {
    /// The variant in snake_case, as the checkpoint has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Synchronised => "synchronised",
            Self::Unsynchronised => "unsynchronised",
            Self::Unknown => "unknown",
        }
    }

    fn parse(label: &str) -> Option<Self> {
        let all = [Self::Synchronised, Self::Unsynchronised, Self::Unknown];
        all.into_iter().find(|state| state.label() == label)
    }
}

/// What one sealed segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentStatement {
    /// The segment's number.
    pub segment: u64,
    /// How many records it holds.
    pub records: u64,
    /// Merkle root over its records.
    pub records_root: Hash,
    /// SHA-256 of its record table.
    pub table: Hash,
    /// How many key slots it has.
    pub slots: u64,
    /// Merkle root over its key slots.
    pub slots_root: Hash,
    /// SHA-256 of the previous checkpoint's whole signed note; zeros for the first.
    pub previous: Hash,
    /// How many lines `tombstones` had when it was sealed, and SHA-256 of the last; zeros for none.
    pub tombstones: (u64, Hash),
    /// When it was sealed, in ns since 1970, by the machine's clock.
    pub sealed_ns: i64,
    /// How good that clock was.
    pub clock: ClockQuality,
}

impl SegmentStatement {
    /// The checkpoint's extension lines, each with its newline.
    #[must_use]
    pub fn lines(&self) -> String {
        let micros = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
        format!(
            "segment {}\nrecords {} {}\ntable {}\nslots {} {}\nprevious {}\ntombstones {} {}\nsealed {}\nclock {} {} {}\n",
            self.segment,
            self.records,
            self.records_root.to_base64(),
            self.table.to_base64(),
            self.slots,
            self.slots_root.to_base64(),
            self.previous.to_base64(),
            self.tombstones.0,
            self.tombstones.1.to_base64(),
            format_utc_ns(self.sealed_ns),
            self.clock.state.label(),
            micros(self.clock.estimated_error_us),
            micros(self.clock.maximum_error_us),
        )
    }

    /// The segment's leaf in the log: the Merkle leaf hash of [`Self::lines`].
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&[self.lines().as_bytes()])
    }

    fn parse<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut next = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let segment = next("segment")?.parse().ok()?;
        let (records, records_root) = counted(next("records")?)?;
        let table = Hash::from_base64(next("table")?)?;
        let (slots, slots_root) = counted(next("slots")?)?;
        let previous = Hash::from_base64(next("previous")?)?;
        let tombstones = counted(next("tombstones")?)?;
        let sealed_ns = parse_utc_ns(next("sealed")?)?;
        let clock = clock(next("clock")?)?;
        Some(Self {
            segment,
            records,
            records_root,
            table,
            slots,
            slots_root,
            previous,
            tombstones,
            sealed_ns,
            clock,
        })
    }
}

fn counted(text: &str) -> Option<(u64, Hash)> {
    let (count, root) = text.split_once(' ')?;
    Some((count.parse().ok()?, Hash::from_base64(root)?))
}

fn clock(text: &str) -> Option<ClockQuality> {
    let micros = |word: &str| match word {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let (state, errors) = text.split_once(' ')?;
    let (estimated, maximum) = errors.split_once(' ')?;
    Some(ClockQuality {
        state: ClockState::parse(state)?,
        estimated_error_us: micros(estimated)?,
        maximum_error_us: micros(maximum)?,
    })
}

/// A tree head of the archive's log of segments, made when its last segment was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log it is: see [`origin`].
    pub origin: String,
    /// Segments in the log, this one included.
    pub size: u64,
    /// Merkle root over the leaves of all of them.
    pub root: Hash,
    /// The last one.
    pub segment: SegmentStatement,
}

/// The origin of an archive's log: `callspan/` and the archive's id in 32 lower-case hex digits.
#[must_use]
pub fn origin(archive_id: [u8; 16]) -> String {
    format!("{ORIGIN_PREFIX}{:032x}", u128::from_be_bytes(archive_id))
}

impl Checkpoint {
    /// The note's text, as drawn above; its last newline included.
    ///
    /// Source: C2SP tlog-checkpoint, "Note text".
    #[must_use]
    pub fn text(&self) -> String {
        let root = self.root.to_base64();
        format!("{}\n{}\n{root}\n{}", self.origin, self.size, self.segment.lines())
    }

    /// Reads what [`Self::text`] writes; `None` for anything else, be it another spelling of the same
    /// values or one more line. Whose archive it is, and whether the root is right, is not checked.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() >= CHECKPOINT_BYTES_MAX {
            return None;
        }
        let mut lines = text.split('\n');
        let origin = lines.next()?;
        let digits = origin.strip_prefix(ORIGIN_PREFIX)?;
        let is_id = digits.len() == 32
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let size = lines.next()?.parse().ok().filter(|size| *size > 0)?;
        let root = Hash::from_base64(lines.next()?)?;
        let segment = SegmentStatement::parse(&mut lines)?;
        let checkpoint = Self { origin: origin.to_owned(), size, root, segment };
        (is_id && checkpoint.text() == text).then_some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{Frontier, sha256};
    use super::super::signing::{SigningKey, open_note, sign_note};
    use super::*;
    use crate::base::limits::KEY_NAME_BYTES_MAX;

    fn checkpoint() -> Checkpoint {
        let clock = ClockQuality {
            state: ClockState::Synchronised,
            estimated_error_us: Some(120),
            maximum_error_us: None,
        };
        let segment = SegmentStatement {
            segment: 9,
            records: 1200,
            records_root: sha256(&[b"records"]),
            table: sha256(&[b"table"]),
            slots: 16,
            slots_root: sha256(&[b"slots"]),
            previous: Hash::new([0; 32]),
            tombstones: (12, sha256(&[b"line"])),
            sealed_ns: 1_795_489_056_123_456_789,
            clock,
        };
        let mut log = Frontier::default();
        log.push(segment.leaf_hash());
        Checkpoint { origin: origin([0xa5; 16]), size: 7, root: log.root(), segment }
    }

    #[test]
    fn the_text_is_the_drawn_one_and_is_read_back() {
        let checkpoint = checkpoint();
        let text = checkpoint.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "callspan/a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
        assert_eq!(lines[1], "7");
        assert_eq!(lines[2], checkpoint.root.to_base64());
        assert_eq!(lines[3], "segment 9");
        assert_eq!(lines[4], format!("records 1200 {}", sha256(&[b"records"]).to_base64()));
        assert_eq!(lines[5], format!("table {}", sha256(&[b"table"]).to_base64()));
        assert_eq!(lines[6], format!("slots 16 {}", sha256(&[b"slots"]).to_base64()));
        assert_eq!(lines[7], "previous AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        assert_eq!(lines[8], format!("tombstones 12 {}", sha256(&[b"line"]).to_base64()));
        assert_eq!(lines[9], "sealed 2026-11-24T02:57:36.123456789+00:00");
        assert_eq!(lines[10], "clock synchronised 120 -");
        assert_eq!(lines.len(), 11);
        assert_eq!(Checkpoint::parse(&text), Some(checkpoint));
    }

    #[test]
    fn the_leaf_of_the_log_binds_every_line_about_the_segment() {
        let (checkpoint, text) = (checkpoint(), checkpoint().text());
        let lines: String = text.split_inclusive('\n').skip(3).collect();
        assert_eq!(checkpoint.segment.leaf_hash(), sha256(&[&[0], lines.as_bytes()]));
        let mut other = checkpoint.segment.clone();
        other.clock.maximum_error_us = Some(0);
        assert_ne!(other.leaf_hash(), checkpoint.segment.leaf_hash());
    }

    #[test]
    fn any_other_spelling_is_refused() {
        let text = checkpoint().text();
        for (from, to) in [
            ("\n7\n", "\n07\n"),
            ("\n7\n", "\n+7\n"),
            ("\n7\n", "\n0\n"),
            ("segment 9", "segment  9"),
            ("segment 9", "segment 9 "),
            ("records 1200", "records 1_200"),
            ("123456789+00:00", "123456789Z"),
            ("synchronised 120 -", "synchronised 120 - "),
            ("synchronised 120 -", "synchronised 120"),
            ("synchronised 120 -", "good 120 -"),
            ("callspan/a5", "callspan/A5"),
            ("callspan/a5", "callspan/"),
            ("\ntable", "\r\ntable"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert_eq!(Checkpoint::parse(&changed), None, "{from:?} as {to:?}");
        }
        assert_eq!(Checkpoint::parse(&format!("{text}more\n")), None);
        assert_eq!(Checkpoint::parse(&format!("{text}\n")), None);
        assert_eq!(Checkpoint::parse(text.trim_end()), None);
        for at in 0..text.len() {
            assert_eq!(Checkpoint::parse(&text[..at]), None, "cut at {at}");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let read = Checkpoint::parse(&changed);
            assert!(read.is_none_or(|read| read.text() == changed), "byte {at}");
        }
    }

    #[test]
    fn the_largest_signed_checkpoint_is_below_its_limit() {
        let clock = ClockQuality {
            state: ClockState::Unsynchronised,
            estimated_error_us: Some(u64::MAX),
            maximum_error_us: Some(u64::MAX),
        };
        let segment = SegmentStatement {
            segment: u64::MAX,
            records: u64::MAX,
            slots: u64::MAX,
            tombstones: (u64::MAX, checkpoint().root),
            sealed_ns: i64::MAX,
            clock,
            ..checkpoint().segment
        };
        let largest = Checkpoint { size: u64::MAX, segment, ..checkpoint() };
        let name = "n".repeat(KEY_NAME_BYTES_MAX);
        let key = SigningKey::from_seed(&name, [5; 32]).expect("a name");
        let note = sign_note(&largest.text(), &key);
        assert!(note.len() < CHECKPOINT_BYTES_MAX, "{} bytes", note.len());
        let text = open_note(note.as_bytes(), &key.verifying_key()).expect("our note");
        assert_eq!(Checkpoint::parse(text), Some(largest));
    }
}
