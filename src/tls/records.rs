//! Records in a stream of bytes, some of which may be missing.
//!
//! Purpose: hold what one end sent until it can be read, and find record boundaries again behind a gap.
//! Invariants: every byte is looked at a bounded number of times; a record never spans a gap.
//! Non-goals: what is in a record (see `half`), how much may wait (see `connection`).
//! Sources: RFC 5246 §6.2, RFC 8446 §5.1 and §5.2 (lengths).

use std::collections::VecDeque;

use super::Arrival;
use super::cipher::Record;

pub(super) const HEADER_BYTES: usize = 5;
/// Bytes of content, and of what protection may add (RFC 5246 §6.2.3).
const BODY_BYTES_MAX: usize = (1 << 14) + 2_048;
/// What was read is dropped when it is at least this, and at least half of what is held.
const COMPACT_BYTES: usize = 4_096;

/// change_cipher_spec
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
/// handshake
pub(super) const HANDSHAKE: u8 = 22;
/// application_data
pub(super) const APPLICATION_DATA: u8 = 23;

/// One end's bytes.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// What has been read of `bytes`.
    at: usize,
    /// Where in `bytes` something is missing before the byte, in rising order.
    gaps: VecDeque<usize>,
}

/// What stands at the front.
#[derive(Clone, Copy, Debug)]
pub(super) enum Front<'a> {
    /// A whole record.
    Whole(Record<'a>),
    /// The beginning of one, or nothing.
    Begun,
    /// Nothing that could be a record.
    Implausible,
    /// Bytes are missing here; see [`Records::pass_gap`].
    Gap,
}

impl Records {
    pub(super) fn push(&mut self, bytes: &[u8], arrival: Arrival) {
        if arrival == Arrival::AfterGap && self.gaps.back() != Some(&self.bytes.len()) {
            self.gaps.push_back(self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes held, the marks of gaps included.
    pub(super) fn held_bytes(&self) -> usize {
        let marks = self.gaps.len().saturating_mul(size_of::<usize>());
        self.bytes.len().saturating_sub(self.at).saturating_add(marks)
    }

    pub(super) fn front(&self) -> Front<'_> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let gap = self.gaps.front().and_then(|gap| gap.checked_sub(self.at));
        if gap == Some(0) {
            return Front::Gap;
        }
        let Some((header, body)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return if gap.is_some() { Front::Gap } else { Front::Begun };
        };
        let Some((kind, version, length)) = plausible(*header) else { return Front::Implausible };
        if gap.is_some_and(|gap| gap < HEADER_BYTES.saturating_add(length)) {
            return Front::Gap;
        }
        body.get(..length).map_or(Front::Begun, |body| Front::Whole(Record { kind, version, body }))
    }

    /// Drops what the gap cut, and goes on behind it.
    pub(super) fn pass_gap(&mut self) {
        if let Some(gap) = self.gaps.pop_front() {
            self.pass(gap.saturating_sub(self.at));
        }
    }

    /// The front record has been read.
    pub(super) fn pass_record(&mut self) {
        if let Front::Whole(record) = self.front() {
            self.pass(record.body.len().saturating_add(HEADER_BYTES));
        }
    }

    /// Goes on to where a record may begin, at least one byte on; false when none is in sight.
    pub(super) fn seek(&mut self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let until = self.gaps.front().map_or(rest.len(), |gap| gap.saturating_sub(self.at));
        let here = rest.get(..until).unwrap_or(rest);
        let found = here.windows(HEADER_BYTES).skip(1).position(|window| {
            window.first_chunk().is_some_and(|header| plausible(*header).is_some())
        });
        // The last few bytes may be the beginning of a header.
        let passed =
            found.map_or(here.len().saturating_sub(HEADER_BYTES - 1), |at| at.saturating_add(1));
        self.pass(passed.max(usize::from(found.is_some())));
        found.is_some()
    }

    fn pass(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.bytes.len());
        if self.at >= COMPACT_BYTES && self.at >= self.bytes.len() / 2
            || self.at == self.bytes.len()
        {
            self.bytes.drain(..self.at);
            self.gaps.iter_mut().for_each(|gap| *gap = gap.saturating_sub(self.at));
            self.at = 0;
        }
    }
}

/// Type, version and length of the body.
fn plausible(header: [u8; HEADER_BYTES]) -> Option<(u8, [u8; 2], usize)> {
    let [kind, major, minor, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let fits = matches!(kind, CHANGE_CIPHER_SPEC..=APPLICATION_DATA)
        && (major, minor) >= (3, 0)
        && (major, minor) <= (3, 4)
        && length <= BODY_BYTES_MAX;
    fits.then_some((kind, [major, minor], length))
}

/// What a direction's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A ClientHello or a ServerHello.
    Hello(super::Side),
    /// Too few bytes to tell.
    TooShort,
    /// Not the beginning of a TLS connection.
    Other,
}

/// Judges the first bytes that a direction carries: a handshake record that begins with a hello.
#[must_use]
pub fn opening(bytes: &[u8]) -> Opening {
    let shape = |at: usize, byte: u8| match at {
        0 => byte == HANDSHAKE,
        1 => byte == 3,
        2 => byte <= 4,
        3 => byte <= 0x48, // a body of up to 18 432 bytes
        5 => matches!(byte, 1 | 2),
        6 => byte == 0, // a hello of under 64 kB
        _ => true,
    };
    if bytes.iter().take(7).enumerate().any(|(at, byte)| !shape(at, *byte)) {
        return Opening::Other;
    }
    match bytes.get(5..7) {
        Some([1, _]) => Opening::Hello(super::Side::Client),
        Some(_) => Opening::Hello(super::Side::Server),
        None => Opening::TooShort,
    }
}

/// True when a segment begins with a whole header of application data: the middle of a connection.
#[must_use]
pub fn is_record(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().and_then(|header| plausible(*header));
    header.is_some_and(|(kind, version, length)| {
        kind == APPLICATION_DATA && version == [3, 3] && length > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3][..], &u16::try_from(body.len()).expect("short").to_be_bytes(), body].concat()
    }

    /// Bodies of whole records; `|` for a gap.
    fn read(records: &mut Records) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match records.front() {
                Front::Whole(record) => {
                    seen.push(String::from_utf8_lossy(record.body).into_owned());
                    records.pass_record();
                }
                Front::Gap => {
                    seen.push("|".into());
                    records.pass_gap();
                }
                Front::Implausible => {
                    if !records.seek() {
                        return seen;
                    }
                }
                Front::Begun => return seen,
            }
        }
    }

    #[test]
    fn records_are_whole_wherever_the_stream_was_cut() {
        let stream = [record(22, b"hello"), record(23, b""), record(23, b"data")].concat();
        for cut in 0..=stream.len() {
            let mut records = Records::default();
            let (head, tail) = stream.split_at(cut);
            records.push(head, Arrival::Contiguous);
            let mut seen = read(&mut records);
            records.push(tail, Arrival::Contiguous);
            seen.extend(read(&mut records));
            assert_eq!(seen, ["hello", "", "data"], "cut at {cut}");
            assert_eq!(records.held_bytes(), 0);
        }
    }

    #[test]
    fn behind_a_gap_the_next_record_is_found() {
        let mut records = Records::default();
        let (first, second) = (record(23, b"first"), record(23, b"second"));
        records.push(&first[..7], Arrival::Contiguous);
        records.push(b"st of it, no header", Arrival::AfterGap);
        records.push(&second, Arrival::Contiguous);
        assert_eq!(read(&mut records), ["|", "second"]);
        records.push(&second, Arrival::AfterGap);
        records.push(&first[..3], Arrival::AfterGap);
        records.push(&first, Arrival::AfterGap);
        assert_eq!(read(&mut records), ["|", "second", "|", "|", "first"]);
    }

    #[test]
    fn an_opening_is_a_hello() {
        let client = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc];
        for length in 0..7 {
            assert_eq!(opening(&client[..length]), Opening::TooShort);
        }
        assert_eq!(opening(&client), Opening::Hello(crate::tls::Side::Client));
        assert_eq!(opening(&[22, 3, 3, 0, 90, 2, 0]), Opening::Hello(crate::tls::Side::Server));
        assert_eq!(opening(b"INVITE"), Opening::Other);
        assert_eq!(opening(&[23, 3, 3]), Opening::Other);
    }
}
