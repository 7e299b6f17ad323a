//! SRTP keys that phones agree on in the media path: DTLS with the key log, and ZRTP, whose keys
//! nobody else can have.
//!
//! Purpose: from handshakes on a call's flows to keys for each party, and to knowing which flows are
//! locked.
//! Invariants: at most `KEY_EXCHANGES_PER_CALL_MAX` pairs of addresses, and as many keys for a party as
//! one may have; a key counts only once a packet is authentic with it.
//! Non-goals: the handshakes themselves (see `tls::dtls`, `rtp::zrtp`).
//! Sources: RFC 5764 §4.2 (which key is whose), RFC 6189 §4.6 (ZRTP: from when on media is SRTP).

use crate::base::limits::{KEY_EXCHANGES_PER_CALL_MAX, SRTP_KEYS_PER_CHANNEL_MAX};
use crate::base::{Channel, Endpoint, PacketEntry};
use crate::rtp::{SrtpKey, SrtpSuite, ZrtpMessage};
use crate::tls::{DtlsHandshake, KeyLog, Side};

/// How a flow's keys were agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// DTLS: the key log may have them.
    Dtls,
    /// ZRTP.
    Zrtp,
}

/// A call's key agreements.
#[derive(Debug, Default)]
pub struct KeyExchanges {
    log: Option<KeyLog>,
    pairs: Vec<Pair>,
    /// Keys that were derived, by sender.
    keys: [Vec<SrtpKey>; 2],
    /// The log as it was when it had no secret for some handshake.
    waits_since: Option<u64>,
}

#[derive(Debug)]
struct Pair {
    ends: [Endpoint; 2],
    handshake: DtlsHandshake,
    /// Who sent the ClientHello.
    client: Option<Channel>,
    /// A handshake whose keys are not known yet.
    is_open: bool,
    agreed: Option<Agreement>,
}

fn ends(entry: &PacketEntry<'_>) -> [Endpoint; 2] {
    let (source, destination) = (entry.source, entry.destination);
    if source <= destination { [source, destination] } else { [destination, source] }
}

impl KeyExchanges {
    /// Where secrets of handshakes are looked up.
    pub fn set_log(&mut self, log: KeyLog) {
        self.log = Some(log);
    }

    /// Takes a DTLS or ZRTP packet; true when it brought keys.
    pub fn on_packet(&mut self, entry: &PacketEntry<'_>) -> bool {
        let ends = ends(entry);
        let at = self.pairs.iter().position(|pair| pair.ends == ends).or_else(|| {
            let has_room = self.pairs.len() < KEY_EXCHANGES_PER_CALL_MAX;
            has_room.then(|| {
                self.pairs.push(Pair {
                    ends,
                    handshake: DtlsHandshake::default(),
                    client: None,
                    is_open: false,
                    agreed: None,
                });
                self.pairs.len().saturating_sub(1)
            })
        });
        let Some(pair) = at.and_then(|at| self.pairs.get_mut(at)) else { return false };
        if let Some(message) = ZrtpMessage::parse(entry.payload) {
            match message {
                ZrtpMessage::Agreeing => {}
                ZrtpMessage::Confirmed => pair.agreed = Some(Agreement::Zrtp),
                ZrtpMessage::Cleared => pair.agreed = None,
            }
            return false;
        }
        let Some(side) = pair.handshake.on_datagram(entry.payload) else { return false };
        pair.client = Some(match side {
            Side::Client => entry.channel,
            Side::Server => entry.channel.other(),
        });
        if !pair.handshake.has_srtp() {
            return false;
        }
        pair.agreed = Some(Agreement::Dtls);
        pair.is_open = true;
        self.derive()
    }

    /// True when the key log has grown and brought keys of a handshake that waited for them.
    pub fn look_again(&mut self) -> bool {
        let version = self.log.as_ref().map(KeyLog::version);
        self.waits_since.is_some() && self.waits_since != version && self.derive()
    }

    /// Derives what the log has secrets for; true when that were some.
    fn derive(&mut self) -> bool {
        let Some(log) = &self.log else { return false };
        // Read before the secrets: one that comes meanwhile is looked for again.
        let version = log.version();
        let (mut found, mut waits) = (false, false);
        for pair in self.pairs.iter_mut().filter(|pair| pair.is_open) {
            let Some(client) = pair.client else { continue };
            let keys = pair.handshake.srtp_keys(log, lengths);
            if keys.is_empty() {
                waits = true;
                continue;
            }
            pair.is_open = false;
            for derived in keys {
                let Some(suite) = SrtpSuite::from_profile(derived.profile) else { continue };
                for (channel, material) in
                    [(client, &derived.client), (client.other(), &derived.server)]
                {
                    let Some(key) = SrtpKey::new(suite, material) else { continue };
                    let keys = &mut self.keys[channel.index()];
                    let key = key.with_mki(&derived.mki);
                    if !keys.contains(&key) {
                        keys.insert(0, key);
                        keys.truncate(SRTP_KEYS_PER_CHANNEL_MAX);
                        found = true;
                    }
                }
            }
        }
        self.waits_since = waits.then_some(version);
        found
    }

    /// Keys that a party sends with, the newest first.
    pub fn keys(&self, sender: Channel) -> &[SrtpKey] {
        &self.keys[sender.index()]
    }

    /// How the keys of a packet's flow were agreed on, if they were.
    pub fn agreement(&self, entry: &PacketEntry<'_>) -> Option<Agreement> {
        if self.pairs.is_empty() {
            return None;
        }
        let ends = ends(entry);
        self.pairs.iter().find(|pair| pair.ends == ends).and_then(|pair| pair.agreed)
    }

    /// How keys were agreed on in this call, for people.
    pub fn any(&self) -> Option<Agreement> {
        let agreed = |wanted| self.pairs.iter().any(|pair| pair.agreed == Some(wanted));
        if agreed(Agreement::Zrtp) {
            Some(Agreement::Zrtp)
        } else {
            agreed(Agreement::Dtls).then_some(Agreement::Dtls)
        }
    }
}

fn lengths(profile: u16) -> Option<(usize, usize)> {
    let suite = SrtpSuite::from_profile(profile)?;
    Some((suite.key_len_bytes(), suite.salt_len_bytes()))
}
