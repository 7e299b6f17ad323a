//! Bodies of the fuzz targets for this layer, kept here so that they always compile.
//!
//! Purpose: statements about any bytes; they panic when one does not hold.
//! Invariants: none of its own.
//! Non-goals: producing inputs (see `fuzz/`).
//! Sources: RFC 9850.

use super::key_log::{KeyLog, KeyLogParser};

/// What a key log says does not depend on where reading it was interrupted.
///
/// # Panics
/// When it does not hold: a bug.
pub fn key_log(data: &[u8]) {
    let (cut, text) = data.split_first().map_or((0, data), |(cut, text)| (usize::from(*cut), text));
    let counts = |parts: &[&[u8]]| {
        let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
        for part in parts {
            parser.push(part, &log);
        }
        parser.finish(&log);
        log.counts()
    };
    let whole = counts(&[text]);
    let (head, tail) = text.split_at(cut.min(text.len()));
    assert_eq!(whole, counts(&[head, tail]));
    let lines = text.split(|byte| *byte == b'\n').count() as u64;
    assert!(whole.secrets + whole.ignored + whole.malformed <= lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_hold_for_pseudo_random_bytes() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for round in 0..2_000usize {
            let data: Vec<u8> = (0..round % 600).map(|_| next()).collect();
            key_log(&data);
        }
    }
}
