//! The reorder buffer against a sorted list.
//!
//! Purpose: whatever arrives in whatever order, packets come out sorted, each once, none vanishes.
//! Invariants: the model keeps everything in a `BTreeMap` and knows no window but the rule.
//! Non-goals: restarts, whose rules the unit tests show (here: nothing beyond the window).
//! Sources: RFC 3550 §5.1.

use std::collections::BTreeMap;

use callspan::base::limits::REORDER_PACKETS_MAX;
use callspan::rtp::{ExtendedSeq, ReorderBuffer, RtpDrop, SeqExtender};
use proptest::prelude::*;

/// What happens to the buffer.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A packet this far from the newest (0: the next one; negative: late or again).
    Arrives(i64),
    PopNext,
    PopGap,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (-20i64..8).prop_map(Step::Arrives),
        3 => Just(Step::PopNext),
        1 => Just(Step::PopGap),
    ]
}

/// The plain version: everything held, sorted by number.
#[derive(Default)]
struct Model {
    next: Option<u64>,
    held: BTreeMap<u64, u32>,
    has_popped: bool,
}

impl Model {
    fn insert(&mut self, seq: u64, packet: u32) -> Result<(), (RtpDrop, u32)> {
        let next = self.next.unwrap_or(seq);
        if seq < next && self.has_popped {
            return Err((RtpDrop::Late, packet));
        }
        if self.held.contains_key(&seq) {
            return Err((RtpDrop::Duplicate, packet));
        }
        self.next = Some(next.min(seq));
        self.held.insert(seq, packet);
        Ok(())
    }

    fn pop(&mut self, seq: Option<u64>) -> Option<(ExtendedSeq, u32)> {
        let seq = seq?;
        let packet = self.held.remove(&seq)?;
        self.next = Some(seq + 1);
        self.has_popped = true;
        Some((ExtendedSeq(seq), packet))
    }

    fn pop_gap(&mut self) -> Option<(ExtendedSeq, u32)> {
        let oldest = self.held.keys().next().copied();
        self.pop(oldest)
    }

    /// True when `seq` is where the window's rule has a say, which this model does not have.
    fn is_beyond_the_window(&self, seq: u64) -> bool {
        let window = REORDER_PACKETS_MAX as u64;
        let next = self.next.unwrap_or(seq);
        let highest = self.held.keys().next_back().copied().unwrap_or(next);
        seq >= next + window || highest >= seq + window
    }
}

proptest! {
    #[test]
    fn the_buffer_does_what_a_sorted_list_does(first in any::<u16>(), steps in prop::collection::vec(step(), 1..400)) {
        let mut extender = SeqExtender::new();
        let (mut buffer, mut model) = (ReorderBuffer::new(), Model::default());
        let mut newest = 65_536 + u64::from(first);
        for (packet, step) in (0u32..).zip(steps) {
            match step {
                Step::Arrives(offset) => {
                    let seq = newest.saturating_add_signed(offset + 1);
                    if model.is_beyond_the_window(seq) {
                        continue;
                    }
                    newest = newest.max(seq);
                    let wire = u16::try_from(seq & 0xffff).expect("16 bits");
                    let extended = if extender.highest().is_none() {
                        // The first packet fixes the line.
                        newest = 65_536 + u64::from(wire);
                        extender.extend(wire)
                    } else {
                        extender.extend(wire)
                    };
                    prop_assert_eq!(extended.low_16(), wire);
                    prop_assert_eq!(buffer.insert(extended, packet), model.insert(extended.0, packet));
                }
                Step::PopNext => {
                    let next = model.next;
                    prop_assert_eq!(buffer.pop_next(), model.pop(next));
                }
                Step::PopGap => prop_assert_eq!(buffer.pop_gap(), model.pop_gap()),
            }
            prop_assert_eq!(buffer.len(), model.held.len());
            let oldest = model.held.first_key_value().map(|(seq, packet)| (ExtendedSeq(*seq), packet));
            prop_assert_eq!(buffer.peek(), oldest);
        }
        while let Some(popped) = model.pop_gap() {
            prop_assert_eq!(buffer.pop_gap(), Some(popped));
        }
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn every_packet_comes_out_once_or_back_once_whatever_the_numbers(
        numbers in prop::collection::vec(prop_oneof![8 => 0u64..200, 1 => 0u64..100_000], 1..600),
    ) {
        let mut buffer = ReorderBuffer::new();
        let mut seen = vec![0u32; numbers.len()];
        for (packet, number) in numbers.iter().enumerate() {
            if let Err((_, back)) = buffer.insert(ExtendedSeq(65_536 + number), packet) {
                seen[back] += 1;
            }
            if packet % 3 == 0 {
                if let Some((seq, out)) = buffer.pop_next() {
                    prop_assert_eq!(seq, ExtendedSeq(65_536 + numbers[out]));
                    seen[out] += 1;
                }
            }
        }
        while let Some((_, out)) = buffer.pop_gap() {
            seen[out] += 1;
        }
        prop_assert!(seen.iter().all(|count| *count == 1));
    }
}
