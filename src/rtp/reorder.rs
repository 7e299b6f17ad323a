//! Puts the packets of one RTP stream back into sending order.
//!
//! Purpose: hand the decoder packets in extended-sequence order, or tell it that one will not come.
//! Invariants: what comes out rises, except that a lone far packet may come out last; at most
//! `REORDER_PACKETS_MAX` packets wait in the window, as many behind a restart, and one on
//! probation; every packet offered comes out once or is given back once.
//! Non-goals: when to give up on a gap (the owner knows the time) and jitter smoothing.
//! Sources: RFC 3550 §5.1 and A.1 (sequence numbers, probation after a jump).
//!
//! ```text
//!        popped | window: next .. next + 64       | far: on probation
//!  …  97  98  99 | 100  __  102  103  …           | 4711 (4712 confirms it: the window moves there)
//! ```

use std::collections::VecDeque;

use super::extended_seq::ExtendedSeq;
use crate::base::limits::REORDER_PACKETS_MAX;

/// Why a packet was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RtpDrop {
    /// Its turn has passed.
    Late,
    /// One with this number is held already.
    Duplicate,
    /// So far ahead that only a second packet there would have confirmed it.
    TooFarAhead,
}

impl RtpDrop {
    /// Metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::TooFarAhead => "too_far_ahead",
        }
    }
}

/// The packets of one stream that wait for their turn.
#[derive(Clone, Debug)]
pub struct ReorderBuffer<T> {
    /// The number that the front of `window` stands for.
    next: Option<ExtendedSeq>,
    window: VecDeque<Option<T>>,
    /// How many of `window` are filled.
    held: usize,
    /// In order, from before a confirmed jump; handed out first.
    leaving: VecDeque<(ExtendedSeq, T)>,
    far: Option<(ExtendedSeq, T)>,
    /// Packets accepted since `far` came.
    since_far: usize,
    has_popped: bool,
}

impl<T> Default for ReorderBuffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> ReorderBuffer<T> {
    /// An empty buffer; it allocates with the first packets.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: None,
            window: VecDeque::new(),
            held: 0,
            leaving: VecDeque::new(),
            far: None,
            since_far: 0,
            has_popped: false,
        }
    }

    /// Packets held, a far one on probation included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.saturating_add(self.leaving.len()).saturating_add(usize::from(self.far.is_some()))
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number that comes out next, if it arrives.
    #[must_use]
    pub const fn next_seq(&self) -> Option<ExtendedSeq> {
        self.next
    }

    /// Takes one packet.
    ///
    /// # Errors
    /// The packet comes back with the reason. `TooFarAhead` gives back not the packet offered
    /// (which was taken) but an earlier one that nothing has confirmed; only while a restart is
    /// still being popped does it give back the one offered.
    pub fn insert(&mut self, seq: ExtendedSeq, packet: T) -> Result<(), (RtpDrop, T)> {
        let next = *self.next.get_or_insert(seq);
        let ahead = seq - next;
        let Ok(position) = usize::try_from(ahead) else {
            return self.insert_before(seq, next, packet);
        };
        if position >= REORDER_PACKETS_MAX {
            return self.insert_far(seq, packet);
        }
        self.place(position, packet)?;
        self.age_far()
    }

    /// The next packet in order; `None` while it is missing.
    pub fn pop_next(&mut self) -> Option<(ExtendedSeq, T)> {
        if let Some(packet) = self.leaving.pop_front() {
            return Some(packet);
        }
        let next = self.next?;
        self.window.front()?.as_ref()?;
        let packet = self.window.pop_front().flatten()?;
        self.held = self.held.saturating_sub(1);
        self.next = Some(next.next());
        self.has_popped = true;
        Some((next, packet))
    }

    /// The oldest packet held, in order or behind a gap, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<(ExtendedSeq, &T)> {
        if let Some((seq, packet)) = self.leaving.front() {
            return Some((*seq, packet));
        }
        let next = self.next?;
        for (position, slot) in self.window.iter().enumerate() {
            if let Some(packet) = slot {
                let ahead = u64::try_from(position).unwrap_or(0);
                return Some((ExtendedSeq(next.0.saturating_add(ahead)), packet));
            }
        }
        self.far.as_ref().map(|(seq, packet)| (*seq, packet))
    }

    /// Gives up on what is missing and takes the oldest packet held; the caller sees the gap in the
    /// numbers. A far packet on probation comes only when nothing else is left.
    pub fn pop_gap(&mut self) -> Option<(ExtendedSeq, T)> {
        while self.leaving.is_empty() && self.held > 0 {
            if self.window.front()?.is_some() {
                break;
            }
            self.window.pop_front();
            self.next = self.next.map(ExtendedSeq::next);
        }
        if let Some(packet) = self.pop_next() {
            return Some(packet);
        }
        let (seq, packet) = self.far.take()?;
        self.window.clear();
        self.next = Some(seq.next());
        self.has_popped = true;
        Some((seq, packet))
    }

    /// A packet from before the front: too late, unless nothing has come out yet.
    fn insert_before(
        &mut self,
        seq: ExtendedSeq,
        next: ExtendedSeq,
        packet: T,
    ) -> Result<(), (RtpDrop, T)> {
        let missing = usize::try_from(next - seq).unwrap_or(usize::MAX);
        let room = REORDER_PACKETS_MAX.saturating_sub(self.window.len());
        if self.has_popped || missing > room {
            return Err((RtpDrop::Late, packet));
        }
        for _ in 0..missing {
            self.window.push_front(None);
        }
        self.next = Some(seq);
        self.place(0, packet)?;
        self.age_far()
    }

    /// Puts a packet into the window.
    fn place(&mut self, position: usize, packet: T) -> Result<(), (RtpDrop, T)> {
        while self.window.len() <= position {
            self.window.push_back(None);
        }
        match self.window.get_mut(position) {
            Some(slot) if slot.is_none() => {
                *slot = Some(packet);
                self.held = self.held.saturating_add(1);
                Ok(())
            }
            _ => Err((RtpDrop::Duplicate, packet)),
        }
    }

    /// A packet beyond the window: on probation, or the confirmation of the one that is.
    fn insert_far(&mut self, seq: ExtendedSeq, packet: T) -> Result<(), (RtpDrop, T)> {
        let window = i64::try_from(REORDER_PACKETS_MAX).unwrap_or(i64::MAX);
        let Some((far_seq, far)) = self.far.take() else {
            self.far = Some((seq, packet));
            self.since_far = 0;
            return Ok(());
        };
        let distance = seq - far_seq;
        if distance == 0 {
            self.far = Some((far_seq, far));
            return Err((RtpDrop::Duplicate, packet));
        }
        if distance.saturating_abs() >= window {
            self.far = Some((seq, packet));
            self.since_far = 0;
            return Err((RtpDrop::TooFarAhead, far));
        }
        if !self.leaving.is_empty() {
            self.far = Some((far_seq, far));
            return Err((RtpDrop::TooFarAhead, packet));
        }
        self.restart_at(far_seq.min(seq));
        let (first, second) = if distance > 0 { (far, packet) } else { (packet, far) };
        self.place(0, first)?;
        self.place(usize::try_from(distance.saturating_abs()).unwrap_or(0), second)
    }

    /// Moves the window to `seq`; what it held leaves first, in order.
    fn restart_at(&mut self, seq: ExtendedSeq) {
        let mut number = self.next.unwrap_or(seq);
        for slot in self.window.drain(..) {
            if let Some(packet) = slot {
                self.leaving.push_back((number, packet));
            }
            number = number.next();
        }
        self.held = 0;
        self.next = Some(seq);
        self.has_popped = true;
    }

    /// Gives up on a far packet that a whole window of others has left behind.
    fn age_far(&mut self) -> Result<(), (RtpDrop, T)> {
        self.since_far = self.since_far.saturating_add(1);
        if self.since_far < REORDER_PACKETS_MAX {
            return Ok(());
        }
        match self.far.take() {
            Some((_, far)) => Err((RtpDrop::TooFarAhead, far)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::extended_seq::SeqExtender;
    use super::*;

    fn seq(number: u64) -> ExtendedSeq {
        ExtendedSeq(number)
    }

    fn drain(buffer: &mut ReorderBuffer<u64>) -> Vec<u64> {
        std::iter::from_fn(|| {
            buffer.pop_next().map(|(seq, packet)| {
                assert_eq!(seq.0, packet);
                packet
            })
        })
        .collect()
    }

    fn with(numbers: &[u64]) -> ReorderBuffer<u64> {
        let mut buffer = ReorderBuffer::new();
        for number in numbers {
            buffer.insert(seq(*number), *number).expect("accepted");
        }
        buffer
    }

    #[test]
    fn swapped_packets_come_out_in_order() {
        let mut buffer = with(&[10, 12, 11, 13]);
        assert_eq!(drain(&mut buffer), [10, 11, 12, 13]);
    }

    #[test]
    fn packets_swapped_at_the_very_start_come_out_in_order_too() {
        let mut buffer = with(&[11, 10, 12]);
        assert_eq!(drain(&mut buffer), [10, 11, 12]);
        assert_eq!(buffer.insert(seq(9), 9), Err((RtpDrop::Late, 9)));
    }

    #[test]
    fn a_gap_waits_until_it_is_given_up() {
        let mut buffer = with(&[10, 12, 13]);
        assert_eq!(drain(&mut buffer), [10]);
        assert_eq!(buffer.peek(), Some((seq(12), &12)));
        assert_eq!(buffer.pop_gap(), Some((seq(12), 12)));
        assert_eq!(drain(&mut buffer), [13]);
        assert_eq!(buffer.insert(seq(11), 11), Err((RtpDrop::Late, 11)));
        assert_eq!(buffer.pop_gap(), None);
    }

    #[test]
    fn the_same_number_twice_is_a_duplicate_while_held_and_late_afterwards() {
        let mut buffer = with(&[10, 12]);
        assert_eq!(buffer.insert(seq(12), 0), Err((RtpDrop::Duplicate, 0)));
        drain(&mut buffer);
        assert_eq!(buffer.insert(seq(10), 0), Err((RtpDrop::Late, 0)));
    }

    #[test]
    fn a_confirmed_jump_restarts_the_window_after_what_was_held() {
        let mut buffer = with(&[10, 12, 5_000, 5_001, 5_002]);
        assert_eq!(drain(&mut buffer), [10, 12, 5_000, 5_001, 5_002]);
    }

    #[test]
    fn a_jump_whose_first_packets_are_swapped_is_confirmed_too() {
        let mut buffer = with(&[10, 5_001, 5_000]);
        assert_eq!(drain(&mut buffer), [10, 5_000, 5_001]);
    }

    #[test]
    fn a_sender_that_restarts_lower_loses_one_packet_and_higher_none() {
        for (restart, lost) in [(200u16, vec![65_736]), (50_000, vec![])] {
            let (mut extender, mut buffer) = (SeqExtender::new(), ReorderBuffer::new());
            let (mut out, mut late) = (Vec::new(), Vec::new());
            for wire in (30_000..30_010).chain(restart..restart + 10) {
                let number = extender.extend(wire).0;
                if let Err((reason, packet)) = buffer.insert(seq(number), number) {
                    assert_eq!(reason, RtpDrop::Late);
                    late.push(packet);
                }
                out.extend(drain(&mut buffer));
            }
            assert_eq!((late.len(), out.len()), (lost.len(), 20 - lost.len()));
            assert_eq!(late, lost);
            assert!(out.is_sorted());
        }
    }

    #[test]
    fn a_lone_far_packet_is_given_back_when_another_comes_or_the_stream_goes_on() {
        let mut buffer = with(&[10, 5_000]);
        assert_eq!(buffer.insert(seq(9_000), 9_000), Err((RtpDrop::TooFarAhead, 5_000)));
        for number in 11..11 + 63 {
            buffer.insert(seq(number), number).expect("in order");
            drain(&mut buffer);
        }
        assert_eq!(buffer.insert(seq(74), 74), Err((RtpDrop::TooFarAhead, 9_000)));
        assert_eq!(drain(&mut buffer), [74]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_lone_far_packet_at_the_end_is_the_last_to_come_out() {
        let mut buffer = with(&[10, 5_000]);
        assert_eq!(drain(&mut buffer), [10]);
        assert_eq!(buffer.pop_gap(), Some((seq(5_000), 5_000)));
        buffer.insert(seq(5_001), 5_001).expect("goes on there");
        assert_eq!(drain(&mut buffer), [5_001]);
    }

    #[test]
    fn jumps_faster_than_anyone_pops_stay_bounded() {
        let mut buffer = ReorderBuffer::new();
        for jump in 0..100u64 {
            for step in 0..80u64 {
                let number = jump * 100_000 + step;
                let _ = buffer.insert(seq(number), number);
            }
        }
        assert!(buffer.len() <= 2 * REORDER_PACKETS_MAX + 1, "{}", buffer.len());
    }
}
