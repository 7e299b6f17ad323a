//! What is signed when a segment is finished.
//!
//! Purpose: a checkpoint of the log of segments, with one segment's own hashes in it.
//! Invariants: a text reads back only if writing it again gives the same bytes; the log's leaf of a
//! segment binds everything that the checkpoint says of it; nothing in it is personal.
//! Non-goals: signing (see `signing`), and what goes into the hashes (see `chain`).
//! Sources: C2SP tlog-checkpoint; RFC 6962 §2.1; RFC 3339.
//!
//! ```text
//! callspan/<archive id, 32 hex digits>         origin
//! <segments in the log, this one included>     size
//! <base64 of the log's root>                   root
//! segment <number>
//! records <count> <base64 root over the records>
//! table <base64 SHA-256 of the segment's header and the footer's table>
//! slots <count> <base64 root over the key slots' hashes>
//! previous <base64 SHA-256 of the checkpoint before this one, with its signature>
//! sealed <RFC 3339>
//! clock <synchronised|unsynchronised|unknown> <estimated error, µs, or -> <most, µs, or ->
//! ```

use super::merkle::{Hash, leaf_hash};

/// Whether the machine's clock follows another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockState {
    /// The kernel says that it does.
    Synchronised,
    /// The kernel says that it does not.
    Unsynchronised,
    /// Nobody said.
    #[default]
    Unknown,
}

impl ClockState {
    const ALL: [Self; 3] = [Self::Synchronised, Self::Unsynchronised, Self::Unknown];

    /// As it stands in a checkpoint.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Synchronised => "synchronised",
            Self::Unsynchronised => "unsynchronised",
            Self::Unknown => "unknown",
        }
    }
}

/// How far a time can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockQuality {
    /// Whether the clock follows another one.
    pub state: ClockState,
    /// How wrong it probably is, in microseconds.
    pub estimated_error_us: Option<u64>,
    /// How wrong it is at most, in microseconds.
    pub maximum_error_us: Option<u64>,
}

/// What a checkpoint says of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStatement {
    /// The segment's number.
    pub segment: u64,
    /// Its records.
    pub records: u64,
    /// The root of the tree over them.
    pub records_root: Hash,
    /// SHA-256 of its header and its table.
    pub table: Hash,
    /// Its key slots.
    pub slots: u64,
    /// The root of the tree over their hashes.
    pub slots_root: Hash,
    /// SHA-256 of the checkpoint before, as a signed note; zeros in the first.
    pub previous: Hash,
    /// When it was finished, in nanoseconds since the epoch.
    pub sealed_ns: i64,
    /// How well that is known.
    pub clock: ClockQuality,
}

/// The text of a checkpoint is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no checkpoint")]
pub struct BadCheckpoint;

impl SegmentStatement {
    /// Its lines.
    fn text(&self) -> String {
        let Self { segment, records, records_root, table, slots, slots_root, previous, .. } = self;
        let sealed = jiff::Timestamp::from_nanosecond(self.sealed_ns.into()).unwrap_or_default();
        let ClockQuality { state, estimated_error_us, maximum_error_us } = self.clock;
        let microseconds =
            |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |us| us.to_string());
        format!(
            "segment {segment}\nrecords {records} {}\ntable {}\nslots {slots} {}\nprevious {}\n\
             sealed {sealed}\nclock {} {} {}\n",
            records_root.to_base64(),
            table.to_base64(),
            slots_root.to_base64(),
            previous.to_base64(),
            state.label(),
            microseconds(estimated_error_us),
            microseconds(maximum_error_us),
        )
    }

    /// The segment's leaf in the log.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&[self.text().as_bytes()])
    }

    fn read(lines: &mut std::str::Split<'_, char>) -> Option<Self> {
        let mut words = |name: &str| {
            let mut words = lines.next()?.split(' ');
            (words.next()? == name).then_some(words)
        };
        let segment = words("segment")?.next()?.parse().ok()?;
        let mut line = words("records")?;
        let records = line.next()?.parse().ok()?;
        let records_root = Hash::from_base64(line.next()?)?;
        let table = Hash::from_base64(words("table")?.next()?)?;
        let mut line = words("slots")?;
        let slots = line.next()?.parse().ok()?;
        let slots_root = Hash::from_base64(line.next()?)?;
        let previous = Hash::from_base64(words("previous")?.next()?)?;
        let sealed: jiff::Timestamp = words("sealed")?.next()?.parse().ok()?;
        let sealed_ns = i64::try_from(sealed.as_nanosecond()).ok()?;
        let mut line = words("clock")?;
        let state = line.next()?;
        let state = ClockState::ALL.into_iter().find(|known| known.label() == state)?;
        let mut microseconds = || match line.next()? {
            "-" => Some(None),
            number => number.parse().ok().map(Some),
        };
        let (estimated_error_us, maximum_error_us) = (microseconds()?, microseconds()?);
        let clock = ClockQuality { state, estimated_error_us, maximum_error_us };
        Some(Self {
            segment,
            records,
            records_root,
            table,
            slots,
            slots_root,
            previous,
            sealed_ns,
            clock,
        })
    }
}

/// The state of the log of segments after one more was finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log: `callspan/` and the archive's id.
    pub origin: String,
    /// Segments in it.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The last of them.
    pub segment: SegmentStatement,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { origin, size, root, segment } = self;
        format!("{origin}\n{size}\n{}\n{}", root.to_base64(), segment.text())
    }

    /// Reads a text.
    ///
    /// # Errors
    /// `BadCheckpoint` unless it is exactly what `text` would write.
    pub fn parse(text: &str) -> Result<Self, BadCheckpoint> {
        let read = || {
            let mut lines = text.split('\n');
            let origin = lines.next()?.to_owned();
            let size = lines.next()?.parse().ok()?;
            let root = Hash::from_base64(lines.next()?)?;
            let segment = SegmentStatement::read(&mut lines)?;
            Some(Self { origin, size, root, segment })
        };
        let read = read().ok_or(BadCheckpoint)?;
        if read.text() == text { Ok(read) } else { Err(BadCheckpoint) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::footer::CHECKPOINT_BYTES_MAX;
    use crate::archive::signing::{SigningKey, sign_note};

    fn largest() -> Checkpoint {
        let segment = SegmentStatement {
            segment: u64::MAX,
            records: u64::MAX,
            records_root: Hash::new([0xfe; 32]),
            table: Hash::new([0xfd; 32]),
            slots: u64::MAX,
            slots_root: Hash::new([0xfc; 32]),
            previous: Hash::new([0xfb; 32]),
            sealed_ns: 1_764_000_000_123_456_789,
            clock: ClockQuality {
                state: ClockState::Unsynchronised,
                estimated_error_us: Some(u64::MAX),
                maximum_error_us: None,
            },
        };
        let origin = format!("callspan/{:032x}", u128::MAX);
        Checkpoint { origin, size: u64::MAX, root: Hash::new([0xff; 32]), segment }
    }

    #[test]
    fn the_first_three_lines_are_those_of_a_tlog_checkpoint() {
        let text = Checkpoint { size: 12, ..largest() }.text();
        let lines: Vec<&str> = text.lines().take(3).collect();
        let root = "//////////////////////////////////////////8=";
        assert_eq!(lines, ["callspan/ffffffffffffffffffffffffffffffff", "12", root]);
        assert!(text.ends_with("clock unsynchronised 18446744073709551615 -\n"), "{text}");
    }

    #[test]
    fn a_checkpoint_reads_back_and_nothing_else_does() {
        let text = largest().text();
        assert_eq!(Checkpoint::parse(&text), Ok(largest()));
        for place in 0..text.len() {
            assert!(Checkpoint::parse(&text[..place]).is_err(), "cut at {place}");
            let mut other = text.clone().into_bytes();
            other[place] ^= 1;
            let Ok(other) = String::from_utf8(other) else { continue };
            assert_ne!(Checkpoint::parse(&other), Ok(largest()), "byte {place}");
        }
        assert!(Checkpoint::parse(&format!("{text}more\n")).is_err());
        assert!(Checkpoint::parse(&text.replace("segment ", "segment 0")).is_err());
    }

    #[test]
    fn the_largest_note_fits_its_room_in_a_footer() {
        let key = SigningKey::generate("callspan-00000000", [1; 32]).expect("a key");
        assert!(sign_note(&largest().text(), &key).len() <= CHECKPOINT_BYTES_MAX);
    }

    #[test]
    fn the_leaf_binds_everything_that_is_said_of_the_segment() {
        let leaf = largest().segment.leaf_hash();
        let changed = [
            SegmentStatement { segment: 1, ..largest().segment },
            SegmentStatement { previous: Hash::new([0; 32]), ..largest().segment },
            SegmentStatement { sealed_ns: 1, ..largest().segment },
            SegmentStatement { clock: ClockQuality::default(), ..largest().segment },
        ];
        assert!(changed.iter().all(|other| other.leaf_hash() != leaf));
    }
}
