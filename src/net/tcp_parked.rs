//! Bytes of one TCP direction that came ahead of their turn.
//!
//! Purpose: keep them until the gap before them fills or is given up.
//! Invariants: pieces never overlap (of a byte that came twice, the first copy is kept); `charge_bytes`
//! is the sum over pieces of their length and `TCP_PIECE_OVERHEAD_BYTES`.
//! Non-goals: caps and timeouts (see `tcp_streams`).
//! Sources: RFC 9293 §3.4 (sequence numbers).

use std::collections::BTreeMap;

use crate::base::PacketTime;
use crate::base::limits::TCP_PIECE_OVERHEAD_BYTES;

/// A run of bytes.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Box<[u8]>,
    /// When it came.
    time: PacketTime,
    /// 1 in the first piece of a frame, else 0.
    frames: u64,
}

/// Pieces by stream position (64 bits, so that sequence numbers may wrap).
#[derive(Debug, Default)]
pub(super) struct Parked {
    pieces: BTreeMap<u64, Piece>,
    charge_bytes: usize,
}

impl Parked {
    /// What the pieces cost.
    pub(super) fn charge_bytes(&self) -> usize {
        self.charge_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Position of the first piece, and when it came.
    pub(super) fn first(&self) -> Option<(u64, PacketTime)> {
        self.pieces.first_key_value().map(|(start, piece)| (*start, piece.time))
    }

    /// Frames that brought what is parked. Linear; for the rare case that all of it is given up.
    pub(super) fn frames(&self) -> u64 {
        self.pieces.values().fold(0, |sum, piece| sum.saturating_add(piece.frames))
    }

    /// Keeps those of `bytes` that are not there yet and returns how many they are.
    pub(super) fn insert(&mut self, start: u64, bytes: &[u8], now: PacketTime) -> usize {
        let (mut start, mut rest, mut kept, mut frames) = (start, bytes, 0_usize, 1);
        if let Some((before, piece)) = self.pieces.range(..=start).next_back() {
            let covered = end_of(*before, &piece.bytes).saturating_sub(start);
            (start, rest) = skip(start, rest, covered);
        }
        while !rest.is_empty() {
            let after = self.pieces.range(start..).next();
            let after = after.map(|(next, piece)| (*next, end_of(*next, &piece.bytes)));
            let free_bytes = after.map_or(u64::MAX, |(next, _)| next.saturating_sub(start));
            let free_bytes = usize::try_from(free_bytes).unwrap_or(usize::MAX).min(rest.len());
            let (new, _) = rest.split_at_checked(free_bytes).unwrap_or((rest, &[]));
            if !new.is_empty() {
                let piece = Piece { bytes: new.into(), time: now, frames };
                self.charge_bytes = self.charge_bytes.saturating_add(charge(&piece));
                self.pieces.insert(start, piece);
                kept = kept.saturating_add(new.len());
                frames = 0;
            }
            let covered = after.map_or(u64::MAX, |(_, end)| end.saturating_sub(start));
            (start, rest) = skip(start, rest, covered);
        }
        kept
    }

    /// Takes the first piece if it begins at or before `position`; of its bytes those from there on.
    pub(super) fn take_at(&mut self, position: u64) -> Option<(Piece, usize)> {
        let entry = self.pieces.first_entry()?;
        let passed = position.checked_sub(*entry.key())?;
        let piece = entry.remove();
        self.charge_bytes = self.charge_bytes.saturating_sub(charge(&piece));
        Some((piece, usize::try_from(passed).unwrap_or(usize::MAX)))
    }

    /// Copies what is contiguous from `position` into `prefix` and returns how many bytes that are.
    pub(super) fn prefix(&self, position: u64, prefix: &mut [u8]) -> usize {
        let mut filled = 0_usize;
        let mut position = position;
        for (start, piece) in &self.pieces {
            let room = prefix.get_mut(filled..).unwrap_or_default();
            if *start != position || room.is_empty() {
                break;
            }
            for (to, from) in room.iter_mut().zip(&piece.bytes) {
                *to = *from;
            }
            filled = filled.saturating_add(piece.bytes.len().min(room.len()));
            position = end_of(*start, &piece.bytes);
        }
        filled
    }
}

fn charge(piece: &Piece) -> usize {
    piece.bytes.len().saturating_add(TCP_PIECE_OVERHEAD_BYTES)
}

/// Position behind `bytes` that begin at `start`.
pub(super) fn end_of(start: u64, bytes: &[u8]) -> u64 {
    start.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

/// Goes on by `covered` bytes, to the end at most.
fn skip(start: u64, bytes: &[u8], covered: u64) -> (u64, &[u8]) {
    let covered = usize::try_from(covered).unwrap_or(usize::MAX);
    match bytes.split_at_checked(covered) {
        Some((passed, rest)) => (end_of(start, passed), rest),
        None => (end_of(start, bytes), &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(parked: &mut Parked) -> Vec<(u64, Vec<u8>)> {
        let mut pieces = Vec::new();
        while let Some((start, _)) = parked.first() {
            let (piece, passed) = parked.take_at(start).expect("the first piece");
            assert_eq!(passed, 0);
            pieces.push((start, piece.bytes.to_vec()));
        }
        pieces
    }

    #[test]
    fn the_first_copy_of_a_byte_is_kept_and_holes_are_filled() {
        let now = PacketTime::from_ms(1);
        let mut parked = Parked::default();
        assert_eq!(parked.insert(10, b"bb", now), 2);
        assert_eq!(parked.insert(14, b"dd", now), 2);
        assert_eq!(parked.insert(8, b"AAAAAAAAAA", now), 6);
        assert_eq!(parked.insert(9, b"XXXXX", now), 0);
        assert_eq!(parked.frames(), 3);
        let all = [(8, b"AA"), (10, b"bb"), (12, b"AA"), (14, b"dd"), (16, b"AA")];
        assert_eq!(parked.charge_bytes(), 10 + 5 * TCP_PIECE_OVERHEAD_BYTES);
        assert_eq!(drain(&mut parked), all.map(|(start, bytes)| (start, bytes.to_vec())));
        assert_eq!(parked.charge_bytes(), 0);
    }

    #[test]
    fn a_piece_is_taken_only_when_its_turn_has_come() {
        let mut parked = Parked::default();
        parked.insert(10, b"abcd", PacketTime::MIN);
        assert!(parked.take_at(9).is_none());
        let (piece, passed) = parked.take_at(12).expect("it began before");
        assert_eq!((&*piece.bytes, passed), (&b"abcd"[..], 2));
    }

    #[test]
    fn the_prefix_ends_at_the_first_hole_or_when_full() {
        let mut parked = Parked::default();
        parked.insert(5, b"ab", PacketTime::MIN);
        parked.insert(7, b"cd", PacketTime::MIN);
        parked.insert(10, b"zz", PacketTime::MIN);
        let mut prefix = [0; 16];
        assert_eq!(parked.prefix(5, &mut prefix), 4);
        assert_eq!(&prefix[..4], b"abcd");
        assert_eq!(parked.prefix(5, &mut prefix[..3]), 3);
        assert_eq!(parked.prefix(4, &mut prefix), 0);
    }
}
