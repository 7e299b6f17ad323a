//! TLS connections that OpenSSL made, read with their key logs.
//!
//! Purpose: an independent implementation speaks; what it said must come out, for each suite, in spite of losses and of
//! keys that come late.
//! Invariants: the connections are made at run time, in memory or over loopback; nothing of them is kept.
//! Non-goals: SIP (see `tls_calls.rs`).
//! Sources: RFC 5246, RFC 7366, RFC 7627, RFC 8446.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use callspan::base::PacketTime;
use callspan::base::limits::{TLS_WAITING_BYTES_MAX, TLS_WAITING_MS_MAX};
use callspan::tls::{
    Arrival, KeyLogParser, RsaKey, Side, TlsConnection, TlsFault, TlsKeys, TlsStatus,
};

/// What OpenSSL made.
struct Pair {
    wire: Vec<(Side, Vec<u8>)>,
    said: [Vec<u8>; 2],
    key_log: Vec<u8>,
    pem: String,
}

fn parts(path: &Path) -> Vec<(Side, Vec<u8>)> {
    let data = std::fs::read(path).expect("written by tls_pair.py");
    let (mut rest, mut found) = (&data[..], Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let side = if head[0] == 0 { Side::Client } else { Side::Server };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        found.push((side, tail[..length].to_vec()));
        rest = &tail[length..];
    }
    found
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Server)
}

fn pair(arguments: &[&str]) -> Pair {
    let folder = tempfile::tempdir().expect("a folder");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/tls_pair.py");
    let made = Command::new("python3").arg(script).arg(folder.path()).args(arguments).output();
    let made = made.expect("python3 runs");
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
    let mut said = [Vec::new(), Vec::new()];
    for (side, text) in parts(&folder.path().join("said")) {
        said[index(side)].extend(text);
    }
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("written");
    let pem = String::from_utf8(read("key.pem")).expect("PEM");
    Pair { wire: parts(&folder.path().join("wire")), said, key_log: read("keys.log"), pem }
}

fn keys(log: &[u8]) -> TlsKeys {
    let (keys, mut parser) = (TlsKeys::default(), KeyLogParser::new());
    parser.push(log, &keys.log);
    parser.finish(&keys.log);
    keys
}

/// One tap; what it heard of each side, gaps counted.
struct Tap {
    connection: TlsConnection,
    keys: TlsKeys,
    heard: [Vec<u8>; 2],
    gaps: [usize; 2],
    now: PacketTime,
}

impl Tap {
    fn new(keys: TlsKeys) -> Self {
        let (connection, now) = (TlsConnection::new(), PacketTime::from_ms(0));
        Self { connection, keys, heard: Default::default(), gaps: [0; 2], now }
    }

    fn feed(&mut self, side: Side, bytes: &[u8], arrival: Arrival) {
        let (heard, gaps) = (&mut self.heard, &mut self.gaps);
        self.connection.feed(
            side,
            (bytes, arrival),
            self.now,
            &self.keys,
            |side, said, arrival| {
                heard[index(side)].extend_from_slice(said);
                gaps[index(side)] += usize::from(arrival == Arrival::AfterGap);
            },
        );
    }

    fn poll(&mut self) {
        let heard = &mut self.heard;
        self.connection.poll(self.now, &self.keys, |side, said, _| {
            heard[index(side)].extend_from_slice(said);
        });
    }

    #[track_caller]
    fn heard_all(&self, pair: &Pair, what: &str) {
        for side in [0, 1] {
            let (heard, said) = (&self.heard[side], &pair.said[side]);
            assert!(
                heard == said,
                "{what}: {} of {} bytes of side {side}",
                heard.len(),
                said.len()
            );
        }
        assert_eq!((self.gaps, self.connection.status()), ([0; 2], TlsStatus::Open), "{what}");
        assert_eq!(self.connection.held_bytes(), 0, "{what}");
    }
}

fn hear(pair: &Pair, keys: TlsKeys, step: usize) -> Tap {
    let mut tap = Tap::new(keys);
    for (side, bytes) in &pair.wire {
        for piece in bytes.chunks(step) {
            tap.feed(*side, piece, Arrival::Contiguous);
        }
    }
    tap
}

const SUITES_12: [&str; 16] = [
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "DHE-RSA-AES256-SHA256",
    "AES128-SHA",
    "AES256-SHA",
    "AES128-SHA256",
    "AES256-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
];

const SUITES_13: [&str; 3] =
    ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

#[test]
fn every_suite_of_1_2_is_read_with_its_key_log() {
    for suite in SUITES_12 {
        let pair = pair(&["1.2", suite]);
        hear(&pair, keys(&pair.key_log), 1_400).heard_all(&pair, suite);
    }
    for suite in ["ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384", "AES128-SHA256"] {
        let pair = pair(&["1.2", suite, "no-etm"]);
        hear(&pair, keys(&pair.key_log), 777)
            .heard_all(&pair, &format!("{suite} without RFC 7366"));
    }
}

#[test]
fn every_suite_of_1_3_is_read_with_its_key_log() {
    for suite in SUITES_13 {
        let pair = pair(&["1.3", suite]);
        for step in [1, 1_400, usize::MAX] {
            hear(&pair, keys(&pair.key_log), step).heard_all(&pair, suite);
        }
    }
}

#[test]
fn key_updates_of_both_ends_are_followed() {
    let pair = pair(&["1.3", "key-update"]);
    assert!(pair.said[0].len() > 20 && pair.said[1].len() > 20);
    hear(&pair, keys(&pair.key_log), 1_400).heard_all(&pair, "key updates");
}

#[test]
fn a_servers_rsa_key_opens_what_was_sent_encrypted_to_it_and_nothing_else() {
    for (suite, options) in [
        ("AES128-SHA", &["no-etm", "no-ems"][..]),
        ("AES256-GCM-SHA384", &["no-ems"]),
        ("AES128-GCM-SHA256", &[]),
        ("AES256-SHA256", &[]),
    ] {
        let pair = pair(&[&["1.2", suite][..], options].concat());
        let rsa = Some(Arc::new(RsaKey::from_pem(&pair.pem).expect("a key")));
        let keys = TlsKeys { rsa, ..TlsKeys::default() };
        hear(&pair, keys, 1_400).heard_all(&pair, suite);
    }
    let ephemeral = pair(&["1.2", "ECDHE-RSA-AES128-GCM-SHA256"]);
    let rsa = Some(Arc::new(RsaKey::from_pem(&ephemeral.pem).expect("a key")));
    let tap = hear(&ephemeral, TlsKeys { rsa, ..TlsKeys::default() }, 1_400);
    assert!(tap.heard.iter().all(Vec::is_empty));
}

#[test]
fn a_traffic_secret_alone_is_enough_for_what_follows_the_handshake() {
    let pair = pair(&["1.3", "TLS_AES_256_GCM_SHA384"]);
    let log = String::from_utf8(pair.key_log.clone()).expect("text");
    let few: String = log
        .lines()
        .filter(|line| !line.contains("HANDSHAKE"))
        .fold(String::new(), |text, line| text + line + "\n");
    let tap = hear(&pair, keys(few.as_bytes()), 1_400);
    assert_eq!(tap.heard, pair.said);
}

#[test]
fn what_came_before_its_key_is_read_when_the_key_comes() {
    for arguments in [["1.2", "ECDHE-RSA-AES128-GCM-SHA256"], ["1.3", "TLS_AES_128_GCM_SHA256"]] {
        let mut pair = pair(&arguments);
        pair.wire.truncate(pair.wire.len() / 2); // The later messages are more than may wait.
        let mut tap = hear(&pair, TlsKeys::default(), 1_400);
        assert_eq!(tap.connection.status(), TlsStatus::Waiting);
        assert!(tap.heard.iter().all(Vec::is_empty) && tap.connection.held_bytes() > 1_000);
        tap.keys = keys(&pair.key_log);
        tap.now = PacketTime::from_ms(TLS_WAITING_MS_MAX - 1);
        tap.poll();
        assert_eq!(tap.connection.status(), TlsStatus::Open);
        for side in [0, 1] {
            let heard = &tap.heard[side];
            assert!(heard.len() > 500 && pair.said[side].starts_with(heard), "{arguments:?}");
        }
    }
}

#[test]
fn a_key_that_comes_too_late_opens_what_follows() {
    for arguments in [["1.2", "ECDHE-RSA-AES128-GCM-SHA256"], ["1.3", "TLS_AES_128_GCM_SHA256"]] {
        let pair = pair(&arguments);
        let mut tap = Tap::new(TlsKeys::default());
        let half = pair.wire.len() / 2;
        for (at, (side, bytes)) in pair.wire.iter().enumerate() {
            if at == half {
                tap.now = PacketTime::from_ms(TLS_WAITING_MS_MAX + 1);
                tap.poll();
                assert_eq!(tap.connection.status(), TlsStatus::WithoutKey);
                assert_eq!(tap.connection.held_bytes(), 0);
                tap.keys = keys(&pair.key_log);
            }
            tap.feed(*side, bytes, Arrival::Contiguous);
        }
        for side in [0, 1] {
            let heard = &tap.heard[side];
            let enough = heard.len() > pair.said[side].len() / 2;
            assert!(enough && pair.said[side].ends_with(heard), "{arguments:?} {side}");
            assert_eq!(tap.gaps[side], 1);
        }
    }
}

#[test]
fn a_lost_segment_costs_only_the_records_that_it_touched() {
    for arguments in [
        ["1.2", "ECDHE-RSA-AES256-GCM-SHA384"],
        ["1.2", "ECDHE-RSA-AES128-SHA256"],
        ["1.2", "ECDHE-RSA-CHACHA20-POLY1305"],
        ["1.3", "TLS_AES_128_GCM_SHA256"],
    ] {
        let pair = pair(&arguments);
        let segments: Vec<(Side, &[u8])> = pair
            .wire
            .iter()
            .flat_map(|(side, bytes)| bytes.chunks(1_000).map(|piece| (*side, piece)))
            .collect();
        let first = segments.len() / 4;
        for lost in (first..segments.len() - 60).step_by(7) {
            let mut tap = Tap::new(keys(&pair.key_log));
            let mut missing = [false; 2];
            for (at, (side, piece)) in segments.iter().enumerate() {
                if at == lost {
                    missing[index(*side)] = true;
                    continue;
                }
                let after = std::mem::take(&mut missing[index(*side)]);
                let arrival = if after { Arrival::AfterGap } else { Arrival::Contiguous };
                tap.feed(*side, piece, arrival);
            }
            let hit = index(segments[lost].0);
            assert_eq!(tap.heard[1 - hit], pair.said[1 - hit], "the other side, {arguments:?}");
            let missed = pair.said[hit].len() - tap.heard[hit].len();
            assert!((1..=17_000).contains(&missed), "{missed} bytes missed, {arguments:?} {lost}");
            assert_eq!(tap.gaps[hit], 1, "{arguments:?} {lost}");
        }
    }
}

#[test]
fn what_failed_holds_nothing_however_much_follows() {
    let mut tap = Tap::new(TlsKeys::default());
    tap.feed(Side::Client, &[22, 3, 1, 0, 4, 1, 0, 0, 0], Arrival::Contiguous);
    tap.feed(Side::Client, b"nothing like a record", Arrival::Contiguous);
    assert_eq!(tap.connection.status(), TlsStatus::Failed(TlsFault::NotTls));
    for _ in 0..1_000 {
        tap.feed(Side::Client, &[23, 3, 3, 0x40, 0, 7, 7, 7], Arrival::Contiguous);
        tap.feed(Side::Server, &[7; 1_400], Arrival::AfterGap);
    }
    assert_eq!((tap.connection.held_bytes(), tap.gaps), (0, [0; 2]));
}

#[test]
fn what_waits_is_bounded_and_the_rest_of_a_flood_costs_nothing_more() {
    let pair = pair(&["1.3", "TLS_AES_128_GCM_SHA256"]);
    let mut tap = Tap::new(TlsKeys::default());
    for (side, bytes) in pair.wire.iter().take(2) {
        tap.feed(*side, bytes, Arrival::Contiguous);
    }
    // Headers at every place, each of a record as long as may be, and gaps.
    let flood = [23, 3, 3, 0x40, 0].repeat(4_000);
    for round in 0..100 {
        let arrival = if round % 3 == 0 { Arrival::AfterGap } else { Arrival::Contiguous };
        tap.feed(Side::Client, &flood, arrival);
        tap.feed(Side::Server, &flood, arrival);
        assert!(tap.connection.held_bytes() <= TLS_WAITING_BYTES_MAX + 2 * flood.len());
    }
    assert_eq!(tap.connection.status(), TlsStatus::WithoutKey);
    tap.keys = keys(&pair.key_log);
    for _ in 0..100 {
        tap.feed(Side::Client, &flood, Arrival::AfterGap);
        tap.feed(Side::Server, &flood, Arrival::AfterGap);
    }
    assert_eq!(tap.connection.status(), TlsStatus::Failed(TlsFault::DoesNotOpen));
    assert!(tap.heard.iter().all(Vec::is_empty) && tap.connection.held_bytes() == 0);
}

#[test]
fn what_cannot_be_read_says_why() {
    let pair = pair(&["1.3", "TLS_AES_128_GCM_SHA256"]);
    let mut tap = Tap::new(keys(&pair.key_log));
    for (side, bytes) in pair.wire.iter().skip(2) {
        tap.feed(*side, bytes, Arrival::Contiguous);
    }
    tap.now = PacketTime::from_ms(TLS_WAITING_MS_MAX);
    tap.poll();
    assert_eq!(tap.connection.status(), TlsStatus::Failed(TlsFault::HelloNotSeen));
    let wrong = String::from_utf8(pair.key_log.clone()).expect("text").lines().fold(
        String::new(),
        |text, line| {
            let cut = line.len() - 1;
            let last = if line.ends_with('0') { "1" } else { "0" };
            text + &line[..cut] + last + "\n"
        },
    );
    let tap = hear(&pair, keys(wrong.as_bytes()), 1_400);
    assert!(tap.heard.iter().all(Vec::is_empty));
    let failed = matches!(tap.connection.status(), TlsStatus::Failed(TlsFault::DoesNotOpen));
    assert!(failed || tap.connection.status() == TlsStatus::Waiting);
    let camellia = self::pair(&["1.2", "ECDHE-RSA-CAMELLIA256-SHA384"]);
    let tap = hear(&camellia, keys(&camellia.key_log), 1_400);
    assert_eq!(tap.connection.status(), TlsStatus::Failed(TlsFault::UnsupportedSuite));
}
