//! What the two hellos of a connection agree on.
//!
//! Purpose: gather randoms, version, suite and what a master secret is made of, from the handshake messages of both ends.
//! Invariants: a message is held whole up to `TLS_MESSAGE_BYTES_MAX`, and longer ones are passed over; nothing is
//! believed that a key will not prove.
//! Non-goals: certificates, signatures, Finished: who decrypts has the endpoints' own word.
//! Sources: RFC 5246 §7.4, RFC 8446 §4, RFC 7627 (extended master secret), RFC 7366 (encrypt-then-MAC).

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::cipher::{MacOrder, RecordKey};
use super::derive::prf;
use super::key_log::{KeyLabel, KeySecret, RANDOM_BYTES};
use super::suite::{Exchange, Hash, Suite};
use super::{Side, TlsKeys};
use crate::base::Reader;
use crate::base::limits::TLS_MESSAGE_BYTES_MAX;

const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SERVER_HELLO_DONE: u8 = 14;
const CLIENT_KEY_EXCHANGE: u8 = 16;
/// The end of a direction's handshake.
pub(super) const FINISHED: u8 = 20;
/// The next generation of a direction's key follows (RFC 8446 §4.6.3).
pub(super) const KEY_UPDATE: u8 = 24;

const HEADER_BYTES: usize = 4;
const MASTER_BYTES: usize = 48;

/// The random of a HelloRetryRequest: SHA-256 of its name (RFC 8446 §4.1.3).
pub(super) const RETRY_RANDOM: [u8; RANDOM_BYTES] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Cuts handshake records into messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// A message that is not whole, its header included.
    pending: Vec<u8>,
    /// Bytes of a message that is too long, still to be passed over.
    passing_over: usize,
}

impl Messages {
    /// Takes a record's content; `on_message` gets each whole message, header included.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut on_message: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let wanted = match self.length() {
                _ if self.passing_over > 0 => self.passing_over,
                None => HEADER_BYTES.saturating_sub(self.pending.len()),
                Some(length) if length > TLS_MESSAGE_BYTES_MAX => {
                    self.pending.clear();
                    self.passing_over = length;
                    continue;
                }
                Some(length) => {
                    length.saturating_add(HEADER_BYTES).saturating_sub(self.pending.len())
                }
            };
            let (head, tail) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            bytes = tail;
            if self.passing_over > 0 {
                self.passing_over = self.passing_over.saturating_sub(head.len());
                continue;
            }
            self.pending.extend_from_slice(head);
            if self.length().is_some_and(|length| self.pending.len() >= length + HEADER_BYTES) {
                on_message(&self.pending);
                self.pending.clear();
            }
        }
    }

    /// Bytes are missing: what was begun is given up.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The body's length, when the header is whole.
    fn length(&self) -> Option<usize> {
        let [_, high, middle, low] = *self.pending.first_chunk::<HEADER_BYTES>()?;
        usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()
    }
}

/// Which rules a connection follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Tls12,
    Tls13,
    /// Before 1.2.
    Old,
}

/// What a ServerHello said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    pub(super) version: Version,
    /// `None`: one that we cannot open.
    pub(super) suite: Option<Suite>,
    random: [u8; RANDOM_BYTES],
    mac_order: MacOrder,
    master: MasterRule,
}

/// What the master secret is made of (RFC 7627).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MasterRule {
    Randoms,
    SessionHash,
}

/// The handshake of one connection; a renegotiation replaces what the one before it said.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    client_random: Option<[u8; RANDOM_BYTES]>,
    agreed: Option<Agreed>,
    encrypted_pre_master: Vec<u8>,
    transcript: Transcript,
    /// The master secret that the pre-master secret led to, or that it led to none: the decryption is costly.
    from_rsa: FromRsa,
}

/// What an encrypted pre-master secret led to.
#[derive(Debug, Default)]
enum FromRsa {
    #[default]
    NotTried,
    NoKey,
    Master(KeySecret),
}

/// Messages for the session hash, in the order of the protocol whatever order they were seen in.
#[derive(Debug, Default)]
struct Transcript {
    hello: Vec<u8>,
    server: Vec<u8>,
    client: Vec<u8>,
    /// The server's flight, and the client's key exchange, are in: what follows does not count.
    server_done: bool,
    client_done: bool,
}

impl Handshake {
    pub(super) const fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    pub(super) const fn client_random(&self) -> Option<&[u8; RANDOM_BYTES]> {
        self.client_random.as_ref()
    }

    /// Takes one whole message of one end.
    pub(super) fn on_message(&mut self, side: Side, message: &[u8]) {
        let mut reader = Reader::new(message);
        let (Some([kind, ..]), body) = (reader.array::<HEADER_BYTES>(), reader.rest()) else {
            return;
        };
        match (side, kind) {
            (Side::Client, CLIENT_HELLO) => self.on_client_hello(message, body),
            (Side::Server, SERVER_HELLO) => self.on_server_hello(body),
            (Side::Client, CLIENT_KEY_EXCHANGE) => self.on_key_exchange(body),
            _ => {}
        }
        self.transcript.add(side, kind, message);
        if matches!(kind, CLIENT_HELLO | SERVER_HELLO | SERVER_HELLO_DONE | CLIENT_KEY_EXCHANGE) {
            self.from_rsa = FromRsa::NotTried;
        }
        let needed = self.agreed.is_none_or(|agreed| agreed.is_static_rsa());
        if !needed {
            self.transcript = Transcript::default();
        }
    }

    fn on_client_hello(&mut self, message: &[u8], body: &[u8]) {
        let Some(random) = body.get(2..).and_then(|rest| rest.first_chunk()) else { return };
        // The second hello after a HelloRetryRequest has the same random; another one begins anew.
        if self.client_random.is_some_and(|known| known != *random) {
            self.agreed = None;
            self.encrypted_pre_master.clear();
        }
        self.client_random = Some(*random);
        self.transcript = Transcript { hello: message.to_vec(), ..Transcript::default() };
    }

    fn on_server_hello(&mut self, body: &[u8]) {
        let agreed = parse_server_hello(body).filter(|agreed| agreed.random != RETRY_RANDOM);
        if agreed.is_some() {
            self.agreed = agreed;
        }
    }

    /// The encrypted pre-master secret, behind its length (RFC 5246 §7.4.7.1).
    fn on_key_exchange(&mut self, body: &[u8]) {
        let mut reader = Reader::new(body);
        let encrypted = reader.u16_be().and_then(|length| reader.take(usize::from(length)));
        self.encrypted_pre_master = encrypted.unwrap_or_default().to_vec();
    }

    /// The key that one end of a TLS 1.2 connection sends with, when the secrets are known.
    pub(super) fn key12(&mut self, side: Side, keys: &TlsKeys) -> Option<RecordKey> {
        let (agreed, client_random) = (self.agreed?, self.client_random?);
        let suite = agreed.suite?;
        let logged = keys.log.secret(&client_random, KeyLabel::Master);
        let master = logged.or_else(|| self.master_once(&agreed, suite, keys))?;
        let protection = suite.protection;
        let sizes = [protection.mac_bytes(), protection.key_bytes(), protection.fixed_iv_bytes()];
        let length: usize = sizes.iter().sum::<usize>().checked_mul(2)?;
        let seeds = (&agreed.random[..], &client_random[..]);
        let block = prf(suite.hash, master.as_bytes(), b"key expansion", seeds, length)?;
        let mut block = Reader::new(&block);
        // Both ends' MAC keys, both keys, both IVs; the client's first (RFC 5246 §6.3).
        let mut mine = sizes.iter().map(|size| {
            let (client, server) = (block.take(*size)?, block.take(*size)?);
            Some(if side == Side::Client { client } else { server })
        });
        let (mac_key, key, iv) = (mine.next()??, mine.next()??, mine.next()??);
        RecordKey::tls12(suite, agreed.mac_order, mac_key, key, iv)
    }

    /// [`Self::master_from_rsa`], once for each handshake while a server's key is all that may know it.
    fn master_once(&mut self, agreed: &Agreed, suite: Suite, keys: &TlsKeys) -> Option<KeySecret> {
        match &self.from_rsa {
            FromRsa::Master(master) => return Some(master.clone()),
            FromRsa::NoKey => return None,
            FromRsa::NotTried => {}
        }
        let master = self.master_from_rsa(agreed, suite, keys);
        self.from_rsa = match &master {
            Some(master) => FromRsa::Master(master.clone()),
            None if keys.rsa.is_some() => FromRsa::NoKey,
            None => FromRsa::NotTried,
        };
        master
    }

    fn master_from_rsa(&self, agreed: &Agreed, suite: Suite, keys: &TlsKeys) -> Option<KeySecret> {
        if suite.exchange != Exchange::StaticRsa || self.encrypted_pre_master.is_empty() {
            return None;
        }
        let encrypted = self.encrypted_pre_master.as_slice();
        let logged = keys.log.rsa_pre_master(encrypted);
        let pre_master = match (&logged, &keys.rsa) {
            (Some(logged), _) => Zeroizing::new(logged.as_bytes().to_vec()),
            (None, Some(key)) => key.decrypt(encrypted)?,
            (None, None) => return None,
        };
        let client_random = self.client_random?;
        let master = match agreed.master {
            MasterRule::Randoms => {
                let seeds = (&client_random[..], &agreed.random[..]);
                prf(suite.hash, &pre_master, b"master secret", seeds, MASTER_BYTES)
            }
            MasterRule::SessionHash => {
                let hash = self.transcript.hash(suite.hash)?;
                let label = b"extended master secret";
                prf(suite.hash, &pre_master, label, (hash.as_ref(), &[]), MASTER_BYTES)
            }
        };
        master.map(KeySecret::new)
    }
}

impl Agreed {
    fn is_static_rsa(&self) -> bool {
        self.suite.is_some_and(|suite| suite.exchange == Exchange::StaticRsa)
    }
}

impl Transcript {
    fn add(&mut self, side: Side, kind: u8, message: &[u8]) {
        let held = match side {
            Side::Client if kind != CLIENT_HELLO && !self.client_done => &mut self.client,
            Side::Server if kind != HELLO_REQUEST && !self.server_done => &mut self.server,
            _ => return,
        };
        // What is too long makes another hash, and no key.
        if held.len() < TLS_MESSAGE_BYTES_MAX {
            held.extend_from_slice(message);
        }
        self.server_done |= side == Side::Server && kind == SERVER_HELLO_DONE;
        self.client_done |= side == Side::Client && kind == CLIENT_KEY_EXCHANGE;
    }

    fn hash(&self, hash: Hash) -> Option<digest::Digest> {
        if !self.server_done {
            return None;
        }
        let mut context = digest::Context::new(match hash {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
        });
        for part in [&self.hello, &self.server, &self.client] {
            context.update(part);
        }
        Some(context.finish())
    }
}

/// ```text
/// 0 u16 version   2 [32] random   34 u8 length, session   u16 suite   u8 compression
/// u16 length, extensions: u16 type, u16 length, value
/// ```
fn parse_server_hello(body: &[u8]) -> Option<Agreed> {
    const ENCRYPT_THEN_MAC: u16 = 22;
    const EXTENDED_MASTER_SECRET: u16 = 23;
    const SUPPORTED_VERSIONS: u16 = 43;
    let mut reader = Reader::new(body);
    let mut version = reader.array::<2>()?;
    let random = reader.array::<RANDOM_BYTES>()?;
    let session = reader.u8()?;
    reader.take(usize::from(session))?;
    let suite = Suite::from_registry(reader.u16_be()?);
    reader.u8()?;
    let (mut mac_order, mut master) = (MacOrder::MacThenEncrypt, MasterRule::Randoms);
    let length = reader.u16_be().unwrap_or(0);
    let mut extensions = Reader::new(reader.take(usize::from(length)).unwrap_or_default());
    while let (Some(kind), Some(length)) = (extensions.u16_be(), extensions.u16_be()) {
        let value = extensions.take(usize::from(length))?;
        match (kind, value) {
            (ENCRYPT_THEN_MAC, _) => mac_order = MacOrder::EncryptThenMac,
            (EXTENDED_MASTER_SECRET, _) => master = MasterRule::SessionHash,
            (SUPPORTED_VERSIONS, [major, minor]) => version = [*major, *minor],
            _ => {}
        }
    }
    let version = match version {
        [3, 3] => Version::Tls12,
        [3, 4] => Version::Tls13,
        _ => Version::Old,
    };
    Some(Agreed { version, suite, random, mac_order, master })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_do_not_depend_on_how_records_cut_them() {
        let long = TLS_MESSAGE_BYTES_MAX + 1; // 01 00 01
        let too_long = [&[11, 1, 0, 1][..], &vec![7; long]].concat();
        let stream =
            [&[1, 0, 0, 2, 8, 9][..], &[14, 0, 0, 0], &too_long, &[20, 0, 0, 1, 5]].concat();
        for step in [1, 2, 3, 5, 16_384, stream.len()] {
            let (mut messages, mut seen) = (Messages::default(), Vec::new());
            for record in stream.chunks(step) {
                messages.push(record, |message| seen.push(message.to_vec()));
            }
            assert_eq!(
                seen,
                [vec![1, 0, 0, 2, 8, 9], vec![14, 0, 0, 0], vec![20, 0, 0, 1, 5]],
                "in records of {step}"
            );
        }
    }

    fn server_hello(version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
        let length = u16::try_from(extensions.len()).expect("short").to_be_bytes();
        [&version[..], &[5; 32], &[1, 0xee], &[0xc0, 0x2f], &[0], &length, extensions].concat()
    }

    #[test]
    fn a_server_hello_says_version_suite_and_the_rules_of_its_secrets() {
        let plain = parse_server_hello(&server_hello([3, 3], &[])).expect("whole");
        assert_eq!((plain.version, plain.master), (Version::Tls12, MasterRule::Randoms));
        assert_eq!(plain.suite, Suite::from_registry(0xc02f));
        let rules = parse_server_hello(&server_hello([3, 3], &[0, 22, 0, 0, 0, 23, 0, 0]));
        let rules = rules.expect("whole");
        assert_eq!(rules.mac_order, MacOrder::EncryptThenMac);
        assert_eq!(rules.master, MasterRule::SessionHash);
        let modern = parse_server_hello(&server_hello([3, 3], &[0, 43, 0, 2, 3, 4]));
        assert_eq!(modern.expect("whole").version, Version::Tls13);
        let old = parse_server_hello(&server_hello([3, 1], &[])).expect("whole");
        assert_eq!(old.version, Version::Old);
        assert!(parse_server_hello(&server_hello([3, 3], &[])[..36]).is_none());
    }
}
