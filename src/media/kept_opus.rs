//! Opus packets that are kept as they came: on a grid of 20 ms.
//!
//! Purpose: put each packet into the slot nearest to its place, and something into short holes.
//! Invariants: a packet stands at most `GRID_ERROR_NS` (and 3 ms while somebody speaks) from its place;
//! none is changed.
//! Non-goals: packets of other durations, which are transcoded (see `placement`).
//! Sources: RFC 7587 §4.2 (the clock is 48 000 Hz), RFC 6716 §3.1 (durations).

use super::gaps::GapReason;
use super::mender::{MENDED_MAX, Mender};
use super::placement::{Held, Loss, Surface, note};
use super::track::SLOT_MS;
use crate::base::time::NS_PER_MS;
use crate::codec::{OpusBandwidth, packet_info};

/// A kept Opus packet may stand this far from its grid place before the grid is corrected.
const GRID_ERROR_NS: i64 = 14 * NS_PER_MS;

/// Opus packets so small hold silence or noise: a pause in which the grid may be corrected.
const PAUSE_BYTES: usize = 12;

/// RTP ticks of 20 ms.
const SLOT_TICKS: i64 = 960;

const SLOT_NS: i64 = SLOT_MS * NS_PER_MS;

/// True for a packet of 20 ms, no wider than what is recorded.
pub fn is_kept(packet: &[u8], surface: &Surface<'_>) -> bool {
    let Some(info) = packet_info(packet) else { return false };
    let rate_hz: u32 = match info.bandwidth {
        OpusBandwidth::Narrow => 8_000,
        OpusBandwidth::Medium | OpusBandwidth::Wide => 16_000,
        OpusBandwidth::SuperWide | OpusBandwidth::Full => 48_000,
    };
    i64::from(info.samples_48k) == SLOT_TICKS && rate_hz <= surface.rate_hz_max
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// 1 when it came too late for its slot.
    pub late: u64,
    /// How much of what is missing before it was filled.
    pub concealed_ns: i64,
}

/// Where one stream's grid stands.
#[derive(Debug, Default)]
pub struct KeptOpus {
    /// Slot and timestamp of the last packet.
    last: Option<(i64, i64)>,
    mender: Mender,
}

impl KeptOpus {
    /// The clock jumped: what follows has no place by what was before.
    pub fn forget(&mut self) {
        self.last = None;
        self.mender.forget();
    }

    /// Puts a packet into its slot; `loss` is what is missing before it.
    pub fn put(
        &mut self,
        held: &Held,
        from_ns: i64,
        loss: Option<Loss>,
        surface: &mut Surface<'_>,
    ) -> Kept {
        let slot = self.slot(held, from_ns, surface.pre_skip_ns);
        let concealed_ns = self.mend(loss, slot, &held.payload, surface);
        self.mender.remember(&held.payload);
        self.last = Some((slot, held.timestamp));
        surface.track.raise_rate(48_000.min(surface.rate_hz_max));
        let mut late = 0;
        // A packet of its table of contents alone says "silence goes on": the silence frame of
        // our own does as much, and players stumble over the other.
        if held.payload.len() > 2
            && !surface.track.put_packet(slot, &held.payload)
            && slot < surface.track.first_slot()
        {
            let at_ns = slot.saturating_mul(SLOT_NS);
            note(surface, at_ns, at_ns.saturating_add(SLOT_NS), GapReason::Late);
            late = u64::from(slot >= 0);
        }
        Kept { late, concealed_ns }
    }

    fn slot(&self, held: &Held, from_ns: i64, pre_skip_ns: i64) -> i64 {
        // What encoders of our own delay, the file's pre-skip takes off all channels: a packet
        // from elsewhere is put later by as much.
        let place_ns = from_ns.saturating_add(pre_skip_ns);
        let nearest = place_ns.saturating_add(SLOT_NS / 2).div_euclid(SLOT_NS);
        let Some((last_slot, last_timestamp)) = self.last else { return nearest };
        let steps = held.timestamp.saturating_sub(last_timestamp) / SLOT_TICKS;
        let expected = last_slot.saturating_add(steps.clamp(-1_000_000, 1_000_000));
        let error_ns = place_ns.saturating_sub(expected.saturating_mul(SLOT_NS));
        let is_pause = held.payload.len() <= PAUSE_BYTES || steps > 1;
        let allowed_ns = if is_pause { GRID_ERROR_NS } else { GRID_ERROR_NS + 3 * NS_PER_MS };
        if error_ns.abs() > allowed_ns { nearest } else { expected }
    }

    /// Fills the slots between the last packet and one for `slot`; returns how much, in ns.
    fn mend(&self, loss: Option<Loss>, slot: i64, next: &[u8], surface: &mut Surface<'_>) -> i64 {
        let (Some(loss), Some((last_slot, _))) = (loss, self.last) else { return 0 };
        let missing = usize::try_from(loss.ticks / SLOT_TICKS).unwrap_or(0);
        let is_in_step = slot.saturating_sub(last_slot) == loss.ticks / SLOT_TICKS + 1;
        if !loss.is_whole || !is_in_step || missing > MENDED_MAX {
            return 0;
        }
        let made = self.mender.mend(missing, next);
        let slots = (last_slot + 1..).zip(&made);
        let put = slots.filter(|(slot, packet)| surface.track.put_packet(*slot, packet)).count();
        i64::try_from(put).unwrap_or(0) * SLOT_NS
    }
}
