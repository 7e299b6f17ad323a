//! One direction of a connection: its records, its key, its sequence number.
//!
//! Purpose: read records in order; keep going when bytes are missing, as long as a key proves where it is.
//! Invariants: at most `TLS_RESYNC_TRIES` sequence numbers are tried for a record, and after `TLS_FAILED_RECORDS_MAX`
//! failures in a row the direction is given up; only what authenticated is delivered.
//! Non-goals: what the handshake means (see `handshake`), how long to wait (see `connection`).
//! Sources: RFC 5246 §6 and §7.1, RFC 8446 §4.6.3, §5 and §7.2.

use super::cipher::{Record, RecordKey};
use super::derive::{TLS_1_3, expand_label};
use super::handshake::{FINISHED, Handshake, KEY_UPDATE, Messages, Version};
use super::key_log::{KeyLabel, KeySecret};
use super::records::{APPLICATION_DATA, CHANGE_CIPHER_SPEC, Front, HANDSHAKE, Records};
use super::suite::Suite;
use super::{Arrival, Side, TlsFault, TlsKeys};
use crate::base::limits::{TLS_FAILED_RECORDS_MAX, TLS_RESYNC_TRIES};

/// Which keys protect what a direction sends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Plain,
    /// TLS 1.2 behind ChangeCipherSpec.
    Protected,
    /// TLS 1.3 up to Finished.
    Handshake,
    /// TLS 1.3.
    Traffic,
}

/// How far a sequence number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Sure,
    /// Up to so many records may have been passed over, or counted that were none of this key's.
    Unsure {
        behind: u64,
    },
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was read.
    Progress,
    /// More bytes have to come.
    NeedsBytes,
    /// A secret, or the other end's hello, has to come.
    NeedsKey,
    /// It cannot go on.
    Fault(TlsFault),
}

#[derive(Debug)]
pub(super) struct Half {
    side: Side,
    records: Records,
    messages: Messages,
    phase: Phase,
    key: Option<RecordKey>,
    /// TLS 1.3: what `key` was made of.
    secret: Option<KeySecret>,
    sequence: u64,
    certainty: Certainty,
    /// Behind a gap: record boundaries are looked for.
    seeking: bool,
    failures: u32,
    /// Of the next delivery.
    arrival: Arrival,
}

impl Half {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            records: Records::default(),
            messages: Messages::default(),
            phase: Phase::Plain,
            key: None,
            secret: None,
            sequence: 0,
            certainty: Certainty::Sure,
            seeking: false,
            failures: 0,
            arrival: Arrival::Contiguous,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], arrival: Arrival) {
        self.records.push(bytes, arrival);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.records.held_bytes()
    }

    /// Reads at most one record.
    pub(super) fn step(
        &mut self,
        handshake: &mut Handshake,
        keys: &TlsKeys,
        content: &mut Vec<u8>,
        deliver: &mut impl FnMut(Side, &[u8], Arrival),
    ) -> Step {
        let mut records = std::mem::take(&mut self.records);
        let step = self.step_in(&mut records, handshake, keys, content, deliver);
        self.records = records;
        step
    }

    fn step_in(
        &mut self,
        records: &mut Records,
        handshake: &mut Handshake,
        keys: &TlsKeys,
        content: &mut Vec<u8>,
        deliver: &mut impl FnMut(Side, &[u8], Arrival),
    ) -> Step {
        let record = match records.front() {
            Front::Begun => return Step::NeedsBytes,
            Front::Gap => {
                records.pass_gap();
                self.on_gap();
                return Step::Progress;
            }
            Front::Implausible if !self.seeking => return Step::Fault(TlsFault::NotTls),
            Front::Implausible => return sought(records),
            Front::Whole(record) => record,
        };
        let step = match self.enter(record, handshake) {
            Some(step) => step,
            None if self.phase == Phase::Plain => {
                content.clear();
                content.extend_from_slice(record.body);
                self.seeking = false;
                self.take_in(record.kind, handshake, content, deliver);
                Step::Progress
            }
            None => self.unprotect(record, handshake, keys, content, deliver),
        };
        match step {
            // What looked like a record inside of one does not open: the next place.
            Step::Progress if self.seeking => sought(records),
            Step::Progress => {
                records.pass_record();
                Step::Progress
            }
            other => other,
        }
    }

    /// Changes the phase where the record says so; `Some`: the record has done its work, or must wait.
    fn enter(&mut self, record: Record<'_>, handshake: &Handshake) -> Option<Step> {
        let version = handshake.agreed().map(|agreed| agreed.version);
        match (self.phase, record.kind, version) {
            (Phase::Plain, CHANGE_CIPHER_SPEC | APPLICATION_DATA, None) => Some(Step::NeedsKey),
            (_, CHANGE_CIPHER_SPEC, Some(Version::Tls13)) => Some(Step::Progress),
            (Phase::Plain, CHANGE_CIPHER_SPEC, Some(_)) => {
                self.begin(Phase::Protected);
                Some(Step::Progress)
            }
            (Phase::Plain, APPLICATION_DATA, Some(Version::Tls13)) => {
                self.begin(Phase::Handshake);
                None
            }
            (Phase::Plain, APPLICATION_DATA, Some(_)) => {
                // Its ChangeCipherSpec was lost.
                self.begin(Phase::Protected);
                self.certainty = Certainty::Unsure { behind: 0 };
                None
            }
            // Alerts may come in the clear (RFC 8446 §6.2).
            (Phase::Handshake | Phase::Traffic, kind, _) if kind != APPLICATION_DATA => {
                Some(Step::Progress)
            }
            _ => None,
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.key = None;
        self.secret = None;
        self.sequence = 0;
        self.certainty = Certainty::Sure;
    }

    fn on_gap(&mut self) {
        self.messages.reset();
        self.seeking = true;
        self.arrival = Arrival::AfterGap;
        self.certainty = match self.certainty {
            Certainty::Sure => Certainty::Unsure { behind: 0 },
            unsure @ Certainty::Unsure { .. } => unsure,
        };
    }

    fn unprotect(
        &mut self,
        record: Record<'_>,
        handshake: &mut Handshake,
        keys: &TlsKeys,
        content: &mut Vec<u8>,
        deliver: &mut impl FnMut(Side, &[u8], Arrival),
    ) -> Step {
        let Some(agreed) = handshake.agreed() else { return Step::NeedsKey };
        if agreed.version == Version::Old {
            return Step::Fault(TlsFault::UnsupportedVersion);
        }
        let Some(suite) = agreed.suite else { return Step::Fault(TlsFault::UnsupportedSuite) };
        if !self.find_key(suite, handshake, keys) {
            return Step::NeedsKey;
        }
        if let Some(kind) = self.open(record, suite, handshake, keys, content) {
            self.seeking = false;
            self.failures = 0;
            self.certainty = Certainty::Sure;
            self.take_in(kind, handshake, content, deliver);
            return Step::Progress;
        }
        self.failures = self.failures.saturating_add(1);
        self.arrival = Arrival::AfterGap;
        if self.certainty == Certainty::Sure {
            self.certainty = Certainty::Unsure { behind: 0 };
        }
        if self.failures > TLS_FAILED_RECORDS_MAX {
            return Step::Fault(TlsFault::DoesNotOpen);
        }
        Step::Progress
    }

    /// Makes the phase's key, unless it is there.
    fn find_key(&mut self, suite: Suite, handshake: &mut Handshake, keys: &TlsKeys) -> bool {
        if self.key.is_some() {
            return true;
        }
        if self.phase == Phase::Protected {
            self.key = handshake.key12(self.side, keys);
            return self.key.is_some();
        }
        if self.phase == Phase::Handshake {
            if let Some(secret) = self.logged(Phase::Handshake, handshake, keys) {
                return self.use_secret(secret, suite);
            }
            if self.logged(Phase::Traffic, handshake, keys).is_none() {
                return false;
            }
            // Only the traffic secret was logged: what the handshake still has to say does not open.
            self.begin(Phase::Traffic);
            self.certainty = Certainty::Unsure { behind: 0 };
        }
        match self.logged(Phase::Traffic, handshake, keys) {
            Some(secret) => self.use_secret(secret, suite),
            None => false,
        }
    }

    fn use_secret(&mut self, secret: KeySecret, suite: Suite) -> bool {
        self.key = RecordKey::tls13(suite, secret.as_bytes());
        self.secret = Some(secret);
        self.key.is_some()
    }

    fn logged(&self, phase: Phase, handshake: &Handshake, keys: &TlsKeys) -> Option<KeySecret> {
        let label = match (self.side, phase) {
            (Side::Client, Phase::Handshake) => KeyLabel::ClientHandshake,
            (Side::Server, Phase::Handshake) => KeyLabel::ServerHandshake,
            (Side::Client, _) => KeyLabel::ClientTraffic,
            (Side::Server, _) => KeyLabel::ServerTraffic,
        };
        keys.log.secret(handshake.client_random()?, label)
    }

    /// Opens a record under the present key, at a near sequence number, or under the key that must follow.
    fn open(
        &mut self,
        record: Record<'_>,
        suite: Suite,
        handshake: &Handshake,
        keys: &TlsKeys,
        content: &mut Vec<u8>,
    ) -> Option<u8> {
        let key = self.key.as_ref()?;
        if let Some(kind) = key.open(record, self.sequence, content) {
            self.sequence = self.sequence.saturating_add(1);
            return Some(kind);
        }
        if let Certainty::Unsure { behind } = self.certainty {
            let first = self.sequence.saturating_sub(behind);
            if let Some((kind, sequence)) = search(key, record, first, content) {
                self.sequence = sequence.saturating_add(1);
                return Some(kind);
            }
        } else if self.phase != Phase::Handshake {
            return None;
        }
        let secret = match self.phase {
            Phase::Plain | Phase::Protected => return None,
            Phase::Handshake => self.logged(Phase::Traffic, handshake, keys)?,
            Phase::Traffic => self.next_generation(suite)?,
        };
        let key = RecordKey::tls13(suite, secret.as_bytes())?;
        let (kind, sequence) = search(&key, record, 0, content)?;
        self.phase = Phase::Traffic;
        (self.key, self.secret, self.sequence) =
            (Some(key), Some(secret), sequence.saturating_add(1));
        Some(kind)
    }

    fn next_generation(&self, suite: Suite) -> Option<KeySecret> {
        let secret = self.secret.as_ref()?;
        let length = suite.hash.len_bytes();
        expand_label(suite.hash, secret.as_bytes(), (TLS_1_3, "traffic upd"), &[], length)
            .map(KeySecret::new)
    }

    /// Content that can be believed, or that is in the clear.
    fn take_in(
        &mut self,
        kind: u8,
        handshake: &mut Handshake,
        content: &[u8],
        deliver: &mut impl FnMut(Side, &[u8], Arrival),
    ) {
        match kind {
            APPLICATION_DATA if self.phase != Phase::Plain && !content.is_empty() => {
                let arrival = std::mem::replace(&mut self.arrival, Arrival::Contiguous);
                deliver(self.side, content, arrival);
            }
            HANDSHAKE => self.on_handshake(handshake, content),
            // A renegotiation in TLS 1.2.
            CHANGE_CIPHER_SPEC => self.begin(Phase::Protected),
            _ => {}
        }
    }

    fn on_handshake(&mut self, handshake: &mut Handshake, content: &[u8]) {
        let (side, mut finished, mut updated) = (self.side, false, false);
        self.messages.push(content, |message| {
            finished |= message.first() == Some(&FINISHED);
            updated |= message.first() == Some(&KEY_UPDATE);
            handshake.on_message(side, message);
        });
        match self.phase {
            Phase::Handshake if finished => self.begin(Phase::Traffic),
            Phase::Traffic if updated => {
                let suite = handshake.agreed().and_then(|agreed| agreed.suite);
                if let Some((suite, next)) =
                    suite.and_then(|suite| Some((suite, self.next_generation(suite)?)))
                {
                    self.use_secret(next, suite);
                    self.sequence = 0;
                }
            }
            _ => {}
        }
    }

    /// Drops what waits for a key, counting its records, so that a key that comes later still finds its place.
    pub(super) fn pass_over(&mut self, handshake: &Handshake) {
        let is_new = handshake.agreed().is_some_and(|agreed| agreed.version == Version::Tls13);
        loop {
            match self.records.front() {
                Front::Whole(record) => {
                    if self.phase == Phase::Plain && record.kind == HANDSHAKE {
                        return; // It is not what waits for a key.
                    }
                    let counts = if is_new { record.kind == APPLICATION_DATA } else { true };
                    if is_new && self.phase != Phase::Traffic {
                        self.begin(Phase::Traffic);
                    }
                    self.sequence = self.sequence.saturating_add(u64::from(counts));
                    // Some of these records were the handshake's.
                    let behind = if is_new { TLS_RESYNC_TRIES / 2 } else { 0 };
                    self.certainty = Certainty::Unsure { behind };
                    self.arrival = Arrival::AfterGap;
                    self.records.pass_record();
                }
                Front::Gap => {
                    self.records.pass_gap();
                    self.on_gap();
                }
                Front::Implausible => {
                    self.seeking = true;
                    if !self.records.seek() {
                        return;
                    }
                }
                Front::Begun => return,
            }
        }
    }
}

fn sought(records: &mut Records) -> Step {
    if records.seek() { Step::Progress } else { Step::NeedsBytes }
}

/// Tries sequence numbers from `first` on.
fn search(
    key: &RecordKey,
    record: Record<'_>,
    first: u64,
    content: &mut Vec<u8>,
) -> Option<(u8, u64)> {
    (first..first.saturating_add(TLS_RESYNC_TRIES))
        .find_map(|sequence| Some((key.open(record, sequence, content)?, sequence)))
}
