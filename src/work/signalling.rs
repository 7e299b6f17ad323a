//! The correlator's side: SIP messages in, table updates, controls and records out.
//!
//! Purpose: own the correlator and the calls' slots, wherever it runs: in the reader of a replay,
//! or in a thread of its own when capturing live.
//! Invariants: a call's controls are pushed before the correlator's progress passes them; every
//! message of a call is archived once.
//! Non-goals: SIP itself (see `call`), media (see `visit`).
//! Sources: RFC 3261.

use super::queue::{CallSlot, Keep, Progress};
use super::ready::Ready;
use super::stats::Stats;
use super::summary::summarise_ongoing;
use super::visit::CallWork;
use super::writer::ArchiveSender;
use crate::archive::body::SipEntry;
use crate::archive::{Compression, RecordKind};
use crate::base::limits::SIP_MESSAGES_PER_CALL_MAX;
use crate::base::{CallId, CallIndex, FiveTuple, FrameOutcome, PacketTime};
use crate::call::{Attributed, CallEvent, CallOrigin, Correlator, EndReason, JoinSettings};
use crate::media::{MediaReport, MediaSettings, StartAt, Store};
use crate::rtp::flow_table::{Claim, LearnedFlow};
use crate::rtp::plan::Control;
use crate::rtp::sight::FlowSight;
use crate::sip::Message;
use crate::tls::KeyLog;
use std::sync::Arc;

/// What a front must know.
#[derive(Clone, Debug)]
pub enum TableUpdate {
    /// A call begins.
    Opened(Arc<CallSlot>),
    /// All that a call claims from now on.
    Claims(CallIndex, Arc<[Claim]>, PacketTime),
    /// A flow of a call that its SDP does not name.
    Learned(CallIndex, LearnedFlow, PacketTime),
    /// A call's index may be used again.
    Forgotten(CallIndex),
}

/// Whether an id is taken already; asked once a call.
pub type KnownIds = Box<dyn Fn(CallId) -> bool + Send>;

/// What the correlator's side shares with the workers.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The archive's queue.
    pub archive: ArchiveSender,
    /// Calls that want a visit.
    pub ready: Arc<Ready>,
    /// How far producers have come.
    pub progress: Arc<Progress>,
    /// Figures.
    pub stats: Arc<Stats>,
}

/// Owns the correlator.
pub struct Signalling {
    correlator: Correlator,
    slots: Vec<Option<(Arc<CallSlot>, usize)>>,
    known_ids: KnownIds,
    settings: MediaSettings,
    rings: usize,
    archive: ArchiveSender,
    ready: Arc<Ready>,
    progress: Arc<Progress>,
    stats: Arc<Stats>,
    key_log: Option<KeyLog>,
    last_tick: PacketTime,
    /// Before this a tick has nothing to do.
    due: PacketTime,
}

/// Timers run once in this much packet time.
const TICK_MS: i64 = 250;

/// How often the others are told how far the correlator has come.
const PROGRESS_MS: i64 = 1;

impl Signalling {
    /// A correlator without calls.
    #[must_use]
    pub fn new(
        settings: MediaSettings,
        joins: JoinSettings,
        rings: usize,
        known_ids: KnownIds,
        shared: Joined,
    ) -> Self {
        Self {
            correlator: Correlator::new(joins),
            slots: Vec::new(),
            known_ids,
            settings,
            rings,
            archive: shared.archive,
            ready: shared.ready,
            progress: shared.progress,
            stats: shared.stats,
            key_log: None,
            last_tick: PacketTime::MIN,
            due: PacketTime::MIN,
        }
    }

    /// Looks secrets of DTLS handshakes up in `log` from now on.
    pub fn set_key_log(&mut self, log: KeyLog) {
        self.key_log = Some(log);
    }

    /// Calls that go on.
    #[must_use]
    pub fn live(&self) -> usize {
        self.correlator.live()
    }

    /// Takes one SIP message; appends what fronts must know to `updates`. Returns the outcome of the
    /// frame that carried it.
    pub fn message(
        &mut self,
        time: PacketTime,
        flow: FiveTuple,
        bytes: &[u8],
        updates: &mut Vec<TableUpdate>,
    ) -> FrameOutcome {
        let Ok(message) = Message::parse(bytes) else { return FrameOutcome::MalformedSip };
        let attributed = self.correlator.on_message(time, flow, &message);
        self.drain(updates);
        match attributed {
            Attributed::Call(index) => self.keep(index, time, flow, bytes),
            Attributed::NoRoom => return FrameOutcome::CallLimit,
            Attributed::NoCall => {}
        }
        FrameOutcome::Sip
    }

    /// Takes what a flow that nobody claimed looks like.
    pub fn sight(&mut self, time: PacketTime, sight: &FlowSight, updates: &mut Vec<TableUpdate>) {
        let slots = &self.slots;
        let heard = |call: CallIndex, party| slot_of(slots, call)?.last_media_of(party);
        self.correlator.on_sight(time, sight, &heard);
        self.drain(updates);
    }

    /// Time goes on: ends what is due. Cheap when called often.
    pub fn tick(&mut self, now: PacketTime, updates: &mut Vec<TableUpdate>) {
        if now >= self.due {
            self.tick_due(now, updates);
        }
    }

    fn tick_due(&mut self, now: PacketTime, updates: &mut Vec<TableUpdate>) {
        self.correlator.let_go(now);
        self.drain(updates);
        if now.ms_since(self.last_tick) >= TICK_MS {
            // Only whole ticks count, so that the outcome does not depend on who calls when.
            let ticks = now.ns().div_euclid(TICK_MS * 1_000_000);
            let at = PacketTime::from_ms(ticks.saturating_mul(TICK_MS));
            self.last_tick = at;
            self.expire(at, updates);
            self.visit_silent(at);
            self.stats.calls_live.set(u64::try_from(self.live()).unwrap_or(0));
        }
        self.progress.signalling(now);
        let next = now.plus_ms(PROGRESS_MS);
        self.due = self.correlator.next_due().map_or(next, |due| due.min(next));
    }

    /// The end of the input: every timer is due.
    pub fn drain_timers(&mut self, updates: &mut Vec<TableUpdate>) {
        // One short of the end, since only what lies before a producer's progress is taken.
        let end = PacketTime::MAX.plus_ns(-1);
        self.correlator.let_go(end);
        self.expire(end, updates);
        self.finish();
    }

    /// callspan stops: what goes on is truncated.
    pub fn shut_down(&mut self, now: PacketTime, updates: &mut Vec<TableUpdate>) {
        self.correlator.shut_down(now);
        self.drain(updates);
        self.finish();
    }

    fn finish(&mut self) {
        self.progress.signalling(PacketTime::MAX);
        self.visit_all();
    }

    fn visit_all(&self) {
        for (slot, _) in self.slots.iter().flatten() {
            self.ready.request(slot);
        }
    }

    /// Asks for visits of calls that no packets bring one: their time goes on all the same.
    fn visit_silent(&self, now: PacketTime) {
        for (slot, _) in self.slots.iter().flatten() {
            if slot.last_media().is_none_or(|last| now.ms_since(last) >= TICK_MS) {
                self.ready.request(slot);
            }
        }
    }

    fn expire(&mut self, now: PacketTime, updates: &mut Vec<TableUpdate>) {
        let slots = &self.slots;
        let last_media = |index: CallIndex| slot_of(slots, index)?.last_media();
        let forgotten = self.correlator.expire(now, last_media);
        self.drain(updates);
        for index in forgotten {
            if let Some(slot) = self.slots.get_mut(index.0 as usize) {
                *slot = None;
            }
            updates.push(TableUpdate::Forgotten(index));
        }
    }

    fn drain(&mut self, updates: &mut Vec<TableUpdate>) {
        // A leg may linger now.
        self.due = PacketTime::MIN;
        let events: Vec<CallEvent> = self.correlator.drain().collect();
        for event in events {
            self.apply(event, updates);
        }
    }

    fn apply(&mut self, event: CallEvent, updates: &mut Vec<TableUpdate>) {
        match event {
            CallEvent::Opened { call, time, sip_call_id, origin } => {
                let slot = self.open(call, time, &sip_call_id, origin);
                updates.push(TableUpdate::Opened(slot));
            }
            CallEvent::Claims { call, claims, time } => {
                updates.push(TableUpdate::Claims(call, claims.into(), time));
            }
            CallEvent::Learned { call, flow, time } => {
                updates.push(TableUpdate::Learned(call, flow, time));
            }
            CallEvent::Control { call, time, control } => {
                if let Some(slot) = slot_of(&self.slots, call) {
                    if let Control::Plan(plan) = &control {
                        slot.read_types(plan.payload_types("RED"));
                    }
                    slot.control(time, control);
                    self.ready.request(slot);
                }
            }
            CallEvent::Changed { call, facts } => {
                if let Some(slot) = slot_of(&self.slots, call) {
                    let summary = summarise_ongoing(slot.id, &facts, &MediaReport::default());
                    self.archive.append_json(slot.id, RecordKind::CallOpened, &summary);
                    slot.leave_facts(facts);
                }
            }
            CallEvent::Ended { call, facts } => {
                if let Some((_, reason)) = facts.ended {
                    let at = EndReason::ALL.iter().position(|known| *known == reason);
                    if let Some(ended) = at.and_then(|at| self.stats.calls_ended.get(at)) {
                        ended.add(1);
                    }
                }
                if let Some(slot) = slot_of(&self.slots, call) {
                    slot.leave_facts(facts);
                }
            }
        }
    }

    fn open(
        &mut self,
        index: CallIndex,
        time: PacketTime,
        sip_call_id: &[u8],
        origin: CallOrigin,
    ) -> Arc<CallSlot> {
        let mut count = 0;
        let mut id = CallId::derive(time.ns(), sip_call_id, count);
        while (self.known_ids)(id) {
            count += 1;
            id = CallId::derive(time.ns(), sip_call_id, count);
        }
        self.correlator.name(index, id);
        let mut settings = self.settings;
        if origin == CallOrigin::Heuristic {
            // There is no answer to begin with; what has waited is played when both ways are known.
            settings.start = StartAt::Media;
        }
        let is_refused = self.stats.is_refusing();
        if is_refused {
            settings.store = Store::None;
            self.stats.calls_refused.add(1);
        }
        let mut work = Box::new(CallWork::new(settings, self.rings));
        if let Some(log) = &self.key_log {
            work.media.set_key_log(log.clone());
        }
        if is_refused {
            work.note("not recorded: the disk was down to its reserve");
        }
        let keep = if settings.store == Store::None { Keep::Headers } else { Keep::Packets };
        let slot = Arc::new(CallSlot::new((index, id), keep, self.rings, work));
        let at = index.0 as usize;
        if self.slots.len() <= at {
            self.slots.resize_with(at + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some((Arc::clone(&slot), 0));
        }
        self.stats.calls_seen.add(1);
        self.stats.calls_open.add(1);
        slot
    }

    /// Archives a message of a call.
    fn keep(&mut self, index: CallIndex, time: PacketTime, flow: FiveTuple, bytes: &[u8]) {
        let Some(Some((slot, kept))) = self.slots.get_mut(index.0 as usize) else { return };
        *kept += 1;
        if *kept > SIP_MESSAGES_PER_CALL_MAX {
            return;
        }
        let FiveTuple { protocol, source, destination } = flow;
        let mut body = Vec::with_capacity(bytes.len() + 64);
        SipEntry { time, protocol, source, destination, message: bytes }.encode(&mut body);
        self.archive.append(slot.id, RecordKind::Sip, body, Compression::Lz4);
    }
}

fn slot_of(slots: &[Option<(Arc<CallSlot>, usize)>], index: CallIndex) -> Option<&Arc<CallSlot>> {
    slots.get(index.0 as usize)?.as_ref().map(|(slot, _)| slot)
}
