//! The key log (`SSLKEYLOGFILE`): secrets of connections, found by the client's random.
//!
//! Purpose: read the lines that TLS libraries write, also from a file that is still being written, and share what they
//! say with all who decrypt (TLS streams, DTLS-SRTP).
//! Invariants: no secret is printed by `Debug`, and each is wiped when its last holder drops it; connections are
//! bounded by `KEY_LOG_CONNECTIONS_MAX`, and the oldest goes; a line counts only when it is whole.
//! Non-goals: reading the file (see `app`), deriving keys; generations after the first, which follow from it
//! (RFC 8446 §7.2).
//! Sources: RFC 9850 (SSLKEYLOGFILE), NSS key log format (`RSA`), RFC 5246 §7.4.1.2 (random).

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use crate::base::limits::{
    KEY_LOG_CONNECTIONS_MAX, KEY_LOG_LINE_BYTES_MAX, KEY_LOG_SECRET_BYTES_MAX,
};

/// Bytes of a hello's random (RFC 5246 §7.4.1.2, RFC 8446 §4.1.2).
pub const RANDOM_BYTES: usize = 32;
/// First bytes of an encrypted pre-master secret that an `RSA` line is found by.
pub const RSA_NAME_BYTES: usize = 8;

/// Which secret of a connection a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLabel {
    /// `CLIENT_RANDOM`: the master secret up to version 1.2, for TLS and DTLS.
    Master,
    /// `CLIENT_HANDSHAKE_TRAFFIC_SECRET`.
    ClientHandshake,
    /// `SERVER_HANDSHAKE_TRAFFIC_SECRET`.
    ServerHandshake,
    /// `CLIENT_TRAFFIC_SECRET_0`.
    ClientTraffic,
    /// `SERVER_TRAFFIC_SECRET_0`.
    ServerTraffic,
    /// `EXPORTER_SECRET`.
    Exporter,
}

impl KeyLabel {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"CLIENT_RANDOM" => Self::Master,
            b"CLIENT_HANDSHAKE_TRAFFIC_SECRET" => Self::ClientHandshake,
            b"SERVER_HANDSHAKE_TRAFFIC_SECRET" => Self::ServerHandshake,
            b"CLIENT_TRAFFIC_SECRET_0" => Self::ClientTraffic,
            b"SERVER_TRAFFIC_SECRET_0" => Self::ServerTraffic,
            b"EXPORTER_SECRET" => Self::Exporter,
            _ => return None,
        })
    }
}

/// A secret; clones share it, and the last one to go wipes it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(Arc<Zeroizing<Vec<u8>>>);

impl KeySecret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(bytes))
    }

    /// The secret's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KeySecret(…)")
    }
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLogCounts {
    /// Secrets taken in.
    pub secrets: u64,
    /// Comments, empty lines and secrets that nobody here needs.
    pub ignored: u64,
    /// Lines that are none of the format.
    pub malformed: u64,
    /// Connections that were forgotten because there were too many.
    pub forgotten: u64,
}

/// What one connection's secrets are found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Random([u8; RANDOM_BYTES]),
    Rsa([u8; RSA_NAME_BYTES]),
}

#[derive(Default)]
struct Table {
    /// At most one secret a label, and none where the name is `Rsa` and the label is not `Master`.
    secrets: HashMap<Name, Vec<(KeyLabel, KeySecret)>>,
    /// Names by age, the oldest first; each stands here once.
    ages: VecDeque<Name>,
    counts: KeyLogCounts,
}

#[derive(Default)]
struct Shared {
    table: RwLock<Table>,
    /// Grows with every secret, so that who waits need not take the lock to see that nothing came.
    version: AtomicU64,
}

/// Secrets by client random; clones share one table, and any thread may read or add.
#[derive(Clone, Default)]
pub struct KeyLog(Arc<Shared>);

impl fmt::Debug for KeyLog {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeyLog").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl KeyLog {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A number that is another one as soon as a secret has been added.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The secret of the connection whose ClientHello had `client_random`.
    #[must_use]
    pub fn secret(&self, client_random: &[u8; RANDOM_BYTES], label: KeyLabel) -> Option<KeySecret> {
        self.find(&Name::Random(*client_random), label)
    }

    /// The pre-master secret (48 bytes) that was sent encrypted as `encrypted` (static RSA).
    #[must_use]
    pub fn rsa_pre_master(&self, encrypted: &[u8]) -> Option<KeySecret> {
        let name = encrypted.first_chunk::<RSA_NAME_BYTES>()?;
        self.find(&Name::Rsa(*name), KeyLabel::Master)
    }

    /// What became of all lines so far.
    #[must_use]
    pub fn counts(&self) -> KeyLogCounts {
        self.0.table.read().unwrap_or_else(PoisonError::into_inner).counts
    }

    fn find(&self, name: &Name, label: KeyLabel) -> Option<KeySecret> {
        let table = self.0.table.read().unwrap_or_else(PoisonError::into_inner);
        let secrets = table.secrets.get(name)?;
        secrets.iter().find(|(known, _)| *known == label).map(|(_, secret)| secret.clone())
    }

    /// Takes in one whole line, without its end.
    fn line(&self, line: &[u8]) {
        let parsed = parse_line(line);
        let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut table.counts;
        match parsed {
            Line::Ignored => counts.ignored = counts.ignored.saturating_add(1),
            Line::Malformed => counts.malformed = counts.malformed.saturating_add(1),
            Line::Secret(name, label, secret) => {
                counts.secrets = counts.secrets.saturating_add(1);
                table.add(name, label, secret);
                drop(table);
                self.0.version.fetch_add(1, Ordering::Release);
            }
        }
    }
}

impl Table {
    fn add(&mut self, name: Name, label: KeyLabel, secret: KeySecret) {
        if !self.secrets.contains_key(&name) {
            if self.secrets.len() >= KEY_LOG_CONNECTIONS_MAX {
                if let Some(oldest) = self.ages.pop_front() {
                    self.secrets.remove(&oldest);
                    self.counts.forgotten = self.counts.forgotten.saturating_add(1);
                }
            }
            self.ages.push_back(name);
        }
        let secrets = self.secrets.entry(name).or_default();
        match secrets.iter_mut().find(|(known, _)| *known == label) {
            Some((_, known)) => *known = secret,
            None => secrets.push((label, secret)),
        }
    }
}

enum Line {
    Secret(Name, KeyLabel, KeySecret),
    Ignored,
    Malformed,
}

/// `LABEL name secret`, the latter two in hexadecimal.
fn parse_line(line: &[u8]) -> Line {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Line::Ignored;
    }
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(label), Some(name), Some(secret), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Line::Malformed;
    };
    let (Some(name), Some(secret)) = (hex(name), hex(secret)) else { return Line::Malformed };
    let (name, label) = match KeyLabel::parse(label) {
        Some(label) => (<[u8; RANDOM_BYTES]>::try_from(name.as_slice()).map(Name::Random), label),
        None if label == b"RSA" => {
            (<[u8; RSA_NAME_BYTES]>::try_from(name.as_slice()).map(Name::Rsa), KeyLabel::Master)
        }
        // Later generations, early data, encrypted hellos: well-formed, and not needed.
        None => return Line::Ignored,
    };
    match name {
        Ok(name) if !secret.is_empty() => Line::Secret(name, label, KeySecret::new(secret)),
        _ => Line::Malformed,
    }
}

fn hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() || pairs.len() > KEY_LOG_SECRET_BYTES_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for pair in pairs {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

/// Cuts a key log into lines, however it arrives.
pub struct KeyLogParser {
    /// A line that has not ended; never longer than it was made for, so that no copy is left behind.
    pending: Zeroizing<Vec<u8>>,
    state: LineState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LineState {
    Gathering,
    /// The line was too long and is passed over up to its end.
    PassingOver,
}

impl fmt::Debug for KeyLogParser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("KeyLogParser(…)")
    }
}

impl Default for KeyLogParser {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyLogParser {
    /// Stands at the beginning of a line.
    #[must_use]
    pub fn new() -> Self {
        let pending = Zeroizing::new(Vec::with_capacity(KEY_LOG_LINE_BYTES_MAX));
        Self { pending, state: LineState::Gathering }
    }

    /// Takes the next bytes of the file and adds each whole line to `log`; half a line waits.
    pub fn push(&mut self, mut bytes: &[u8], log: &KeyLog) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            self.gather(line);
            self.end_line(log);
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.gather(bytes);
    }

    /// The file has ended, or begins anew: what waits is taken as a line.
    pub fn finish(&mut self, log: &KeyLog) {
        if !self.pending.is_empty() || self.state == LineState::PassingOver {
            self.end_line(log);
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.pending.len().saturating_add(bytes.len()) > KEY_LOG_LINE_BYTES_MAX {
            self.pending.clear();
            self.state = LineState::PassingOver;
        }
        if self.state == LineState::Gathering {
            self.pending.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, log: &KeyLog) {
        // A line that is too long is malformed: nothing in the format is a lone word.
        let line: &[u8] =
            if self.state == LineState::PassingOver { b"too-long" } else { &self.pending };
        log.line(line);
        self.pending.clear();
        self.state = LineState::Gathering;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [u8; RANDOM_BYTES] = [0xab; RANDOM_BYTES];

    fn text(byte: u8, count: usize) -> String {
        format!("{byte:02x}").repeat(count)
    }

    fn line(label: &str, random: u8, secret: u8) -> String {
        format!("{label} {} {}\n", text(random, 32), text(secret, 48))
    }

    fn read(parts: &[&str]) -> KeyLog {
        let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
        for part in parts {
            parser.push(part.as_bytes(), &log);
        }
        log
    }

    fn found(log: &KeyLog, label: KeyLabel) -> Option<u8> {
        let secret = log.secret(&RANDOM, label)?;
        assert_eq!(secret.as_bytes().len(), 48);
        secret.as_bytes().first().copied()
    }

    #[test]
    fn each_secret_is_found_by_the_client_random_and_its_label() {
        let labels = [
            ("CLIENT_RANDOM", KeyLabel::Master),
            ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", KeyLabel::ClientHandshake),
            ("SERVER_HANDSHAKE_TRAFFIC_SECRET", KeyLabel::ServerHandshake),
            ("CLIENT_TRAFFIC_SECRET_0", KeyLabel::ClientTraffic),
            ("SERVER_TRAFFIC_SECRET_0", KeyLabel::ServerTraffic),
            ("EXPORTER_SECRET", KeyLabel::Exporter),
        ];
        let mut whole = String::from("# SSL/TLS secrets log file\n\r\n");
        for (number, (word, _)) in (1..).zip(labels) {
            whole += &line(word, 0xab, number);
            whole += &line(word, 0xcd, 99);
        }
        let log = read(&[&whole.replace('\n', "\r\n")]);
        for (number, (_, label)) in (1..).zip(labels) {
            assert_eq!(found(&log, label), Some(number));
        }
        let counts = KeyLogCounts { secrets: 12, ignored: 2, ..KeyLogCounts::default() };
        assert_eq!(log.counts(), counts);
        assert_eq!(log.secret(&[0; 32], KeyLabel::Master), None);
    }

    #[test]
    fn half_a_line_waits_wherever_it_was_cut() {
        let whole = line("CLIENT_RANDOM", 0xab, 7);
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(found(&read(&[head]), KeyLabel::Master), None, "cut at {cut}");
            assert_eq!(found(&read(&[head, tail]), KeyLabel::Master), Some(7), "cut at {cut}");
        }
        let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
        let before = log.version();
        parser.push(whole.trim_end().as_bytes(), &log);
        assert_eq!(log.version(), before);
        parser.finish(&log);
        parser.finish(&log);
        assert_eq!((found(&log, KeyLabel::Master), log.counts().secrets), (Some(7), 1));
        assert_ne!(log.version(), before);
    }

    #[test]
    fn a_pre_master_is_found_by_the_first_bytes_it_was_encrypted_to() {
        let log = read(&[&format!("RSA {} {}\n", text(0x11, 8), text(0x22, 48))]);
        let secret = log.rsa_pre_master(&[0x11; 256]).expect("known");
        assert_eq!(secret.as_bytes(), [0x22; 48]);
        assert!(log.rsa_pre_master(&[0x12; 256]).is_none());
        assert!(log.rsa_pre_master(&[0x11; 7]).is_none());
    }

    #[test]
    fn lines_of_another_shape_are_counted_and_do_no_harm() {
        let long = "x".repeat(KEY_LOG_LINE_BYTES_MAX + 1);
        let bad = [
            "CLIENT_RANDOM\n".to_owned(),
            format!("CLIENT_RANDOM {}\n", text(1, 32)),
            format!("CLIENT_RANDOM {} {}\n", text(1, 31), text(2, 48)),
            format!("CLIENT_RANDOM {} {}0\n", text(1, 32), text(2, 48)),
            format!("CLIENT_RANDOM {} {} more\n", text(1, 32), text(2, 48)),
            format!("CLIENT_RANDOM {} zz\n", text(1, 32)),
            format!("CLIENT_RANDOM {} {}\n", text(1, 32), text(2, KEY_LOG_SECRET_BYTES_MAX + 1)),
            format!("{long}\n"),
        ];
        let log = read(&[&bad.concat(), &line("CLIENT_RANDOM", 0xab, 3)]);
        assert_eq!(found(&log, KeyLabel::Master), Some(3));
        assert_eq!(log.counts().malformed, bad.len() as u64);
        let later = read(&[&line("CLIENT_TRAFFIC_SECRET_1", 0xab, 3)]);
        assert_eq!(later.counts(), KeyLogCounts { ignored: 1, ..KeyLogCounts::default() });
    }

    #[test]
    fn the_oldest_connection_goes_when_there_are_too_many() {
        let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
        for number in 0..=KEY_LOG_CONNECTIONS_MAX {
            let random = format!("{number:064x}");
            for label in ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"] {
                parser.push(format!("{label} {random} {}\n", text(9, 32)).as_bytes(), &log);
            }
        }
        let random = |number: usize| {
            let mut random = [0; RANDOM_BYTES];
            random[24..].copy_from_slice(&(number as u64).to_be_bytes());
            random
        };
        assert!(log.secret(&random(0), KeyLabel::ClientTraffic).is_none());
        assert!(log.secret(&random(1), KeyLabel::ServerTraffic).is_some());
        assert!(log.secret(&random(KEY_LOG_CONNECTIONS_MAX), KeyLabel::ServerTraffic).is_some());
        assert_eq!(log.counts().forgotten, 1);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let log = read(&[&line("CLIENT_RANDOM", 0xab, 0x5e)]);
        let secret = log.secret(&RANDOM, KeyLabel::Master).expect("known");
        assert_eq!(format!("{secret:?}"), "KeySecret(…)");
        let shown = format!("{log:?} {:?}", KeyLogParser::new());
        assert!(!shown.contains("5e") && !shown.contains("94"), "{shown}");
    }
}
