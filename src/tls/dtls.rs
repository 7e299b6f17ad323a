//! DTLS handshakes that give SRTP its keys.
//!
//! Purpose: from the two hellos of a handshake and the key log's secret to the keying material of
//! DTLS-SRTP.
//! Invariants: only hellos are gathered, one for each end, up to `DTLS_HELLO_BYTES_MAX`; nothing is
//! believed that a packet will not authenticate.
//! Non-goals: decrypting DTLS records (the key log has what is needed), DTLS 1.0's own PRF, SRTP
//! itself (see `rtp::srtp`).
//! Sources: RFC 6347 §4.1, §4.2.2 (records, fragments), RFC 5764 §4.1, §4.2 (use_srtp, exporter),
//! RFC 5705 §4, RFC 9147 §4, §5.3 (DTLS 1.3), RFC 8446 §7.5 (its exporter).
//!
//! ```text
//! record     type(1) version(2) epoch(2) sequence(6) length(2) fragment
//! handshake  type(1) length(3) message_seq(2) fragment_offset(3) fragment_length(3) body
//! ```

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::Side;
use super::derive::{expand_label, prf};
use super::key_log::{KeyLabel, KeyLog, RANDOM_BYTES};
use super::suite::Hash;
use crate::base::Reader;
use crate::base::limits::{DTLS_HELLO_BYTES_MAX, DTLS_MESSAGES_PER_RECORD_MAX, DTLS_PROFILES_MAX};

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const USE_SRTP: u16 = 14;
const SUPPORTED_VERSIONS: u16 = 43;
const DTLS_1_0: u16 = 0xfeff;
const DTLS_1_3: u16 = 0xfefc;

/// The label of RFC 5764 §4.2.
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The handshake between two addresses, as far as it was seen.
#[derive(Debug, Default)]
pub struct DtlsHandshake {
    client: Option<Hello>,
    server: Option<Hello>,
    gathering: [Gathering; 2],
}

/// What a hello says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hello {
    random: [u8; RANDOM_BYTES],
    /// Of a ServerHello.
    version: u16,
    /// Of a ServerHello.
    suite: u16,
    profiles: Vec<u16>,
    mki: Vec<u8>,
}

/// A hello whose fragments are not all here.
#[derive(Debug, Default)]
struct Gathering {
    message_seq: u16,
    body: Vec<u8>,
    is_there: Vec<bool>,
    missing: usize,
}

/// Keying material of one protection profile.
#[derive(Debug)]
pub struct DtlsSrtpKeys {
    /// The protection profile's number.
    pub profile: u16,
    /// Master key and salt of what the DTLS client sends.
    pub client: Zeroizing<Vec<u8>>,
    /// Master key and salt of what the server sends.
    pub server: Zeroizing<Vec<u8>>,
    /// Master key identifier, or empty.
    pub mki: Vec<u8>,
}

impl DtlsHandshake {
    /// Takes a datagram of either end. `Some` when a hello was in it: which end its sender is.
    pub fn on_datagram(&mut self, datagram: &[u8]) -> Option<Side> {
        let mut reader = Reader::new(datagram);
        let mut said = None;
        for _ in 0..DTLS_MESSAGES_PER_RECORD_MAX {
            let Some((kind, epoch, fragment)) = record(&mut reader) else { break };
            if kind == HANDSHAKE && epoch == 0 {
                said = self.on_record(fragment).or(said);
            }
        }
        said
    }

    fn on_record(&mut self, record: &[u8]) -> Option<Side> {
        let mut reader = Reader::new(record);
        let mut said = None;
        for _ in 0..DTLS_MESSAGES_PER_RECORD_MAX {
            let Some(fragment) = Fragment::read(&mut reader) else { break };
            let side = match fragment.kind {
                CLIENT_HELLO => Side::Client,
                SERVER_HELLO => Side::Server,
                _ => continue,
            };
            let [of_client, of_server] = &mut self.gathering;
            let gathering = if side == Side::Client { of_client } else { of_server };
            let Some(body) = gathering.add(&fragment) else { continue };
            let hello =
                if side == Side::Client { client_hello(&body) } else { server_hello(&body) };
            let Some(hello) = hello else { continue };
            match side {
                // A new handshake: what the server said belongs to the one before it.
                Side::Client
                    if self.client.as_ref().is_none_or(|old| old.random != hello.random) =>
                {
                    self.client = Some(hello);
                    self.server = None;
                }
                Side::Client => self.client = Some(hello),
                Side::Server => self.server = Some(hello),
            }
            said = Some(side);
        }
        said
    }

    /// True once both ends have named a protection profile, or may have (DTLS 1.3 hides the server's).
    #[must_use]
    pub fn has_srtp(&self) -> bool {
        !self.profiles().is_empty()
    }

    /// What the key log gives, one for each profile that may have been chosen; empty while the log
    /// has no secret of this handshake. `lengths`: bytes of a profile's master key and salt, `None`
    /// for one that cannot be used.
    #[must_use]
    pub fn srtp_keys(
        &self,
        log: &KeyLog,
        lengths: impl Fn(u16) -> Option<(usize, usize)>,
    ) -> Vec<DtlsSrtpKeys> {
        let (Some(client), Some(server)) = (&self.client, &self.server) else { return Vec::new() };
        let derive = |profile: &u16| {
            let (key, salt) = lengths(*profile)?;
            let length = key.checked_add(salt)?.checked_mul(2)?;
            let material = export(log, client, server, length)?;
            let mut reader = Reader::new(&material);
            let (client_key, server_key) = (reader.take(key)?, reader.take(key)?);
            let (client_salt, server_salt) = (reader.take(salt)?, reader.take(salt)?);
            let joined = |key: &[u8], salt: &[u8]| Zeroizing::new([key, salt].concat());
            Some(DtlsSrtpKeys {
                profile: *profile,
                client: joined(client_key, client_salt),
                server: joined(server_key, server_salt),
                mki: if server.version == DTLS_1_3 { client } else { server }.mki.clone(),
            })
        };
        self.profiles().iter().filter_map(derive).collect()
    }

    /// The profile that the server chose, or all that it may have chosen from.
    fn profiles(&self) -> &[u16] {
        match (&self.client, &self.server) {
            (Some(client), Some(server)) if server.version == DTLS_1_3 => &client.profiles,
            (Some(_), Some(server)) => &server.profiles,
            _ => &[],
        }
    }
}

fn export(
    log: &KeyLog,
    client: &Hello,
    server: &Hello,
    len_bytes: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let hash = hash_of(server.suite);
    if server.version == DTLS_1_3 {
        let secret = log.secret(&client.random, KeyLabel::Exporter)?;
        return exporter_1_3(hash, secret.as_bytes(), len_bytes);
    }
    if server.version == DTLS_1_0 {
        return None;
    }
    let master = log.secret(&client.random, KeyLabel::Master)?;
    prf(hash, master.as_bytes(), LABEL.as_bytes(), (&client.random, &server.random), len_bytes)
}

/// The exporter of (D)TLS 1.3, without a context.
/// Source: RFC 8446 §7.5 and §7.1; RFC 9147 §5.9 for the prefix of its labels.
fn exporter_1_3(hash: Hash, secret: &[u8], len_bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
    const PREFIX: &str = "dtls13";
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
    };
    let nothing = digest::digest(algorithm, b"");
    let derived = expand_label(hash, secret, (PREFIX, LABEL), nothing.as_ref(), hash.len_bytes())?;
    expand_label(hash, &derived, (PREFIX, "exporter"), nothing.as_ref(), len_bytes)
}

/// The hash of a suite's PRF: SHA-384 where its name says so, else that of TLS 1.2.
/// Source: RFC 5246 §5; IANA's registry of cipher suites.
const fn hash_of(suite: u16) -> Hash {
    match suite {
        0x009d | 0x009f | 0x00a1 | 0x00a3 | 0x00a5 | 0x00a7 | 0x00a9 | 0x00ab | 0x00ad | 0x00af
        | 0x00b1 | 0x00b3 | 0x00b5 | 0x00b7 | 0x00b9 | 0x1302 | 0xc024 | 0xc026 | 0xc028
        | 0xc02a | 0xc02c | 0xc02e | 0xc030 | 0xc032 | 0xc036 | 0xc038 | 0xc03b => Hash::Sha384,
        _ => Hash::Sha256,
    }
}

/// The next record: content type, epoch, fragment. `None` at the end, and at what is no record.
fn record<'a>(reader: &mut Reader<'a>) -> Option<(u8, u16, &'a [u8])> {
    let (kind, version, epoch) = (reader.u8()?, reader.u16_be()?, reader.u16_be()?);
    let _sequence = reader.take(6)?;
    let length = reader.u16_be()?;
    let fragment = reader.take(usize::from(length))?;
    (version >> 8 == 254).then_some((kind, epoch, fragment))
}

struct Fragment<'a> {
    kind: u8,
    length: usize,
    message_seq: u16,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let kind = reader.u8()?;
        let length = u24(reader)?;
        let message_seq = reader.u16_be()?;
        let (offset, fragment_length) = (u24(reader)?, u24(reader)?);
        let bytes = reader.take(fragment_length)?;
        Some(Self { kind, length, message_seq, offset, bytes })
    }
}

fn u24(reader: &mut Reader<'_>) -> Option<usize> {
    let [high, middle, low] = reader.array::<3>()?;
    usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()
}

impl Gathering {
    /// The whole body, once its last fragment is here.
    fn add(&mut self, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        let end = fragment.offset.checked_add(fragment.bytes.len())?;
        if fragment.length > DTLS_HELLO_BYTES_MAX || end > fragment.length {
            return None;
        }
        if fragment.bytes.len() == fragment.length {
            return Some(fragment.bytes.to_vec());
        }
        if self.message_seq != fragment.message_seq || self.body.len() != fragment.length {
            self.missing = fragment.length;
            self.message_seq = fragment.message_seq;
            self.body = vec![0; fragment.length];
            self.is_there = vec![false; fragment.length];
        }
        self.body.get_mut(fragment.offset..end)?.copy_from_slice(fragment.bytes);
        for is_there in self.is_there.get_mut(fragment.offset..end)? {
            if !std::mem::replace(is_there, true) {
                self.missing = self.missing.saturating_sub(1);
            }
        }
        (self.missing == 0).then(|| std::mem::take(&mut self.body))
    }
}

fn client_hello(body: &[u8]) -> Option<Hello> {
    let mut reader = Reader::new(body);
    let version = reader.u16_be()?;
    let random = reader.array()?;
    let _session_id = short_vector(&mut reader)?;
    let _cookie = short_vector(&mut reader)?;
    let _suites = long_vector(&mut reader)?;
    let _compressions = short_vector(&mut reader)?;
    let mut hello = Hello { random, version, suite: 0, profiles: Vec::new(), mki: Vec::new() };
    hello.read_extensions(&mut reader);
    Some(hello)
}

fn server_hello(body: &[u8]) -> Option<Hello> {
    let mut reader = Reader::new(body);
    let version = reader.u16_be()?;
    let random = reader.array()?;
    let _session_id = short_vector(&mut reader)?;
    let suite = reader.u16_be()?;
    let _compression = reader.u8()?;
    let mut hello = Hello { random, version, suite, profiles: Vec::new(), mki: Vec::new() };
    hello.read_extensions(&mut reader);
    // A HelloRetryRequest says that the ServerHello is still to come (RFC 8446 §4.1.3).
    (random != super::handshake::RETRY_RANDOM).then_some(hello)
}

impl Hello {
    /// Extensions may be missing altogether.
    fn read_extensions(&mut self, reader: &mut Reader<'_>) {
        let Some(extensions) = long_vector(reader) else { return };
        let mut reader = Reader::new(extensions);
        while let (Some(kind), Some(value)) = (reader.u16_be(), long_vector(&mut reader)) {
            let mut value = Reader::new(value);
            match kind {
                USE_SRTP => {
                    let profiles = long_vector(&mut value).unwrap_or_default();
                    let pairs = profiles.chunks_exact(2).take(DTLS_PROFILES_MAX);
                    let number = |pair: &[u8]| pair.first_chunk().copied().map(u16::from_be_bytes);
                    self.profiles = pairs.filter_map(number).collect();
                    self.mki = short_vector(&mut value).unwrap_or_default().to_vec();
                }
                // In a ServerHello it is one version, in a ClientHello a list that is not needed.
                SUPPORTED_VERSIONS if value.remaining() == 2 => {
                    self.version = value.u16_be().unwrap_or(self.version);
                }
                _ => {}
            }
        }
    }
}

fn short_vector<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u8()?;
    reader.take(usize::from(length))
}

fn long_vector<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u16_be()?;
    reader.take(usize::from(length))
}

#[cfg(test)]
#[path = "dtls_tests.rs"]
mod tests;
