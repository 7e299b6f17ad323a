//! Both directions of one TLS connection.
//!
//! Purpose: bytes as captured in, what was said out, in the order of each direction; what lacks a key waits.
//! Invariants: at most `TLS_WAITING_BYTES_MAX` wait, and for at most `TLS_WAITING_MS_MAX` of packet time; then records
//! are counted and dropped, and a key that comes even later opens what follows.
//! Non-goals: finding the connection of a segment, bounds over all connections (see `work::secure`).
//! Sources: RFC 5246, RFC 8446.

use super::half::{Half, Step};
use super::handshake::Handshake;
use super::{Arrival, Side, TlsFault, TlsKeys};
use crate::base::PacketTime;
use crate::base::limits::{TLS_WAITING_BYTES_MAX, TLS_WAITING_MS_MAX};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStatus {
    /// Its handshake goes on, or its secrets have not come yet.
    Waiting,
    /// Application data has been read.
    Open,
    /// It waited too long for its secrets: what came until now is lost.
    WithoutKey,
    /// It cannot be read.
    Failed(TlsFault),
}

/// A connection.
#[derive(Debug)]
pub struct TlsConnection {
    handshake: Handshake,
    client: Direction,
    server: Direction,
    status: TlsStatus,
    waiting_since: Option<PacketTime>,
}

#[derive(Debug)]
struct Direction {
    half: Half,
    fault: Option<TlsFault>,
}

impl Direction {
    fn new(side: Side) -> Self {
        Self { half: Half::new(side), fault: None }
    }
}

impl Default for TlsConnection {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsConnection {
    /// One of which nothing was seen.
    #[must_use]
    pub fn new() -> Self {
        Self {
            handshake: Handshake::default(),
            client: Direction::new(Side::Client),
            server: Direction::new(Side::Server),
            status: TlsStatus::Waiting,
            waiting_since: None,
        }
    }

    /// How far it has come.
    #[must_use]
    pub const fn status(&self) -> TlsStatus {
        self.status
    }

    /// Bytes that wait.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.client.half.held_bytes().saturating_add(self.server.half.held_bytes())
    }

    /// Takes the next bytes of one direction. `deliver` gets application data, of either direction.
    pub fn feed(
        &mut self,
        side: Side,
        (bytes, arrival): (&[u8], Arrival),
        now: PacketTime,
        keys: &TlsKeys,
        mut deliver: impl FnMut(Side, &[u8], Arrival),
    ) {
        let direction = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let is_over = matches!(self.status, TlsStatus::Failed(_)) || direction.fault.is_some();
        if !is_over {
            direction.half.push(bytes, arrival);
            self.go_on(now, keys, &mut deliver);
        }
    }

    /// Tries again, since time went on or secrets came.
    pub fn poll(
        &mut self,
        now: PacketTime,
        keys: &TlsKeys,
        mut deliver: impl FnMut(Side, &[u8], Arrival),
    ) {
        self.go_on(now, keys, &mut deliver);
    }

    /// What waits is given up now.
    pub fn give_up(&mut self) {
        if self.handshake.agreed().is_none() {
            self.fail(TlsFault::HelloNotSeen);
            return;
        }
        if self.status == TlsStatus::Waiting {
            self.status = TlsStatus::WithoutKey;
        }
        for direction in [&mut self.client, &mut self.server] {
            direction.half.pass_over(&self.handshake);
        }
        self.waiting_since = None;
    }

    fn go_on(
        &mut self,
        now: PacketTime,
        keys: &TlsKeys,
        deliver: &mut impl FnMut(Side, &[u8], Arrival),
    ) {
        if matches!(self.status, TlsStatus::Failed(_)) {
            return;
        }
        let mut said = false;
        let needs_key = self.read(keys, &mut |side, bytes: &[u8], arrival| {
            said = true;
            deliver(side, bytes, arrival);
        });
        if matches!(self.status, TlsStatus::Failed(_)) {
            return;
        }
        if said {
            self.status = TlsStatus::Open;
        }
        if !needs_key {
            self.waiting_since = None;
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let too_long = now.ms_since(since) >= TLS_WAITING_MS_MAX;
        let too_much = self.held_bytes() > TLS_WAITING_BYTES_MAX;
        if too_long || too_much || self.status == TlsStatus::WithoutKey {
            self.give_up();
        }
    }

    /// Reads as far as it goes; true when a secret has to come. One direction's hello may be what the other waits for.
    fn read(&mut self, keys: &TlsKeys, deliver: &mut impl FnMut(Side, &[u8], Arrival)) -> bool {
        let mut content = Vec::new();
        loop {
            let (mut progress, mut needs_key) = (false, false);
            let both = [(Side::Client, &mut self.client), (Side::Server, &mut self.server)];
            for (side, direction) in both {
                if direction.fault.is_some() {
                    continue;
                }
                loop {
                    match direction.half.step(&mut self.handshake, keys, &mut content, deliver) {
                        Step::Progress => progress = true,
                        Step::NeedsBytes => break,
                        Step::NeedsKey => {
                            needs_key = true;
                            break;
                        }
                        Step::Fault(fault) => {
                            // What it holds is of no use.
                            *direction = Direction { fault: Some(fault), ..Direction::new(side) };
                            break;
                        }
                    }
                }
            }
            match (self.client.fault, self.server.fault) {
                (Some(fault), Some(_)) => self.fail(fault),
                (Some(fault), None) | (None, Some(fault)) if fault.is_final() => self.fail(fault),
                _ if progress => continue,
                _ => {}
            }
            return needs_key;
        }
    }

    fn fail(&mut self, fault: TlsFault) {
        *self = Self { status: TlsStatus::Failed(fault), ..Self::new() };
    }
}
