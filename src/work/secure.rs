//! The TLS connections of one ring.
//!
//! Purpose: bring the two directions of a connection together, and SIP messages out of what they say.
//! Invariants: at most `TLS_CONNECTIONS_MAX` connections, and `TLS_WAITING_ALL_BYTES_MAX` that wait over all of them; the
//! oldest goes. A frame that was counted `TlsWithoutKey` is moved once its connection was read.
//! Non-goals: TLS itself (see `tls`); directions that arrive on different rings.
//! Sources: RFC 3261 §26.2.1 (SIP over TLS), RFC 5246, RFC 8446.

use super::carried::{Carried, Records};
use crate::base::limits::{TLS_CONNECTIONS_MAX, TLS_POLL_MS, TLS_WAITING_ALL_BYTES_MAX};
use crate::base::{FiveTuple, FrameOutcome, PacketTime};
use crate::net::{AgedMap, Continuity};
use crate::tls::{Arrival, Side, TlsConnection, TlsFault, TlsKeys, TlsStatus};

/// Connections by the flow of the lower endpoint.
#[derive(Debug)]
pub(super) struct Secure {
    keys: TlsKeys,
    connections: AgedMap<FiveTuple, Connection>,
    /// Those that hold bytes.
    waiting: AgedMap<FiveTuple, ()>,
    held_bytes: usize,
    /// The key log's version and the time when all that wait were last asked.
    polled: (u64, PacketTime),
    moves: Moves,
}

/// Frames that were counted `TlsWithoutKey` until it was known what they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) to_sip: u64,
    pub(super) to_not_voip: u64,
}

#[derive(Debug)]
struct Connection {
    tls: TlsConnection,
    client: Half,
    server: Half,
    /// Frames counted `TlsWithoutKey`, and not moved.
    frames: u64,
    held_bytes: usize,
}

#[derive(Debug, Default)]
struct Half {
    /// Who sends it; `None` before its first bytes.
    flow: Option<FiveTuple>,
    said: Carried,
}

impl Connection {
    fn new() -> Self {
        let tls = TlsConnection::new();
        Self { tls, client: Half::default(), server: Half::default(), frames: 0, held_bytes: 0 }
    }

    const fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// What its frames are, as far as is known.
    fn outcome(&self) -> FrameOutcome {
        let said = [&self.client.said, &self.server.said];
        match self.tls.status() {
            TlsStatus::Failed(TlsFault::NotTls) => FrameOutcome::NotVoip,
            _ if said.iter().any(|said| said.is_sip()) => FrameOutcome::Sip,
            _ if said.iter().any(|said| matches!(said, Carried::Other | Carried::Tls(_))) => {
                FrameOutcome::NotVoip
            }
            _ => FrameOutcome::TlsWithoutKey,
        }
    }
}

impl Secure {
    pub(super) fn new(keys: TlsKeys) -> Self {
        Self {
            keys,
            connections: AgedMap::new(TLS_CONNECTIONS_MAX),
            waiting: AgedMap::new(TLS_CONNECTIONS_MAX),
            held_bytes: 0,
            polled: (0, PacketTime::MIN),
            moves: Moves::default(),
        }
    }

    /// Takes bytes of a direction; `on_message` gets the SIP messages that they complete, perhaps of the other
    /// direction.
    pub(super) fn feed(
        &mut self,
        flow: &FiveTuple,
        side: Side,
        records: &Records<'_>,
        now: PacketTime,
        mut on_message: impl FnMut(&FiveTuple, &[u8]),
    ) {
        let key = key(flow);
        let (bytes, continuity) = match records {
            Records::First(bytes, continuity) => {
                self.begin(key, flow, side);
                (bytes.as_slice(), *continuity)
            }
            Records::Next(bytes, continuity) => (*bytes, *continuity),
        };
        let arrival = match continuity {
            Continuity::Contiguous => Arrival::Contiguous,
            Continuity::Gap => Arrival::AfterGap,
        };
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if connection.half(side).flow.is_none() {
            return;
        }
        let Connection { tls, client, server, .. } = connection;
        tls.feed(side, (bytes, arrival), now, &self.keys, |side, bytes, arrival| {
            say(
                if side == Side::Client { client } else { server },
                bytes,
                arrival,
                &mut on_message,
            );
        });
        self.settle(&key);
        self.connections.touch(&key);
        while self.held_bytes > TLS_WAITING_ALL_BYTES_MAX {
            let Some((oldest, ())) = self.waiting.pop_oldest() else { break };
            let Some(connection) = self.connections.get_mut(&oldest) else { continue };
            connection.tls.give_up();
            if connection.tls.held_bytes() > 0 {
                self.remove(&oldest); // Half a record: nothing is kept in doubt.
            } else {
                self.settle(&oldest);
            }
        }
    }

    /// Asks those that wait again, when secrets came or time went on.
    pub(super) fn poll(&mut self, now: PacketTime, mut on_message: impl FnMut(&FiveTuple, &[u8])) {
        let version = self.keys.log.version();
        let (seen, at) = self.polled;
        if self.waiting.is_empty() || seen == version && now.ms_since(at) < TLS_POLL_MS {
            return;
        }
        self.polled = (version, now);
        for key in self.waiting.keys_by_age() {
            let Some(connection) = self.connections.get_mut(&key) else { continue };
            let Connection { tls, client, server, .. } = connection;
            tls.poll(now, &self.keys, |side, bytes, arrival| {
                let half = if side == Side::Client { &mut *client } else { &mut *server };
                say(half, bytes, arrival, &mut on_message);
            });
            self.settle(&key);
        }
    }

    /// The outcome of a payload frame of a TLS direction.
    pub(super) fn frames(&mut self, flow: &FiveTuple, frames: u64) -> FrameOutcome {
        let Some(connection) = self.connections.get_mut(&key(flow)) else {
            return FrameOutcome::TlsWithoutKey;
        };
        let outcome = connection.outcome();
        if outcome == FrameOutcome::TlsWithoutKey {
            connection.frames = connection.frames.saturating_add(frames);
        }
        outcome
    }

    /// Corrections since the last call.
    pub(super) fn take_moves(&mut self) -> Moves {
        std::mem::take(&mut self.moves)
    }

    /// A hello begins a connection, unless it is the other direction's answer.
    fn begin(&mut self, key: FiveTuple, flow: &FiveTuple, side: Side) {
        let is_new = self
            .connections
            .get_mut(&key)
            .is_none_or(|connection| connection.half(side).flow.is_some());
        if is_new {
            self.remove(&key);
            if let Some((evicted, gone)) = self.connections.insert(key, Connection::new()) {
                self.waiting.remove(&evicted);
                self.held_bytes = self.held_bytes.saturating_sub(gone.held_bytes);
            }
        }
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.half(side).flow = Some(*flow);
        }
    }

    fn remove(&mut self, key: &FiveTuple) {
        self.waiting.remove(key);
        if let Some(gone) = self.connections.remove(key) {
            self.held_bytes = self.held_bytes.saturating_sub(gone.held_bytes);
        }
    }

    /// Keeps the sum of what waits, and moves frames whose connection was read.
    fn settle(&mut self, key: &FiveTuple) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let held_bytes = connection.tls.held_bytes();
        self.held_bytes =
            self.held_bytes.saturating_add(held_bytes).saturating_sub(connection.held_bytes);
        connection.held_bytes = held_bytes;
        if held_bytes == 0 {
            self.waiting.remove(key);
        } else if !self.waiting.contains(key) {
            self.waiting.insert(*key, ());
        }
        let moved = match connection.outcome() {
            FrameOutcome::Sip => &mut self.moves.to_sip,
            FrameOutcome::NotVoip => &mut self.moves.to_not_voip,
            _ => return,
        };
        *moved = moved.saturating_add(std::mem::take(&mut connection.frames));
    }
}

/// Application data of one direction.
fn say(
    half: &mut Half,
    bytes: &[u8],
    arrival: Arrival,
    on_message: &mut impl FnMut(&FiveTuple, &[u8]),
) {
    let Some(flow) = half.flow else { return };
    let continuity = match arrival {
        Arrival::Contiguous => Continuity::Contiguous,
        Arrival::AfterGap => Continuity::Gap,
    };
    // TLS within TLS is nothing that phones do: `Carried` then hands on nothing.
    half.said.feed(&flow, bytes, continuity, on_message);
}

fn key(flow: &FiveTuple) -> FiveTuple {
    if flow.source <= flow.destination { *flow } else { flow.reversed() }
}
