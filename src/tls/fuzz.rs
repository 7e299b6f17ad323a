//! Bodies of the fuzz targets for this layer, kept here so that they always compile.
//!
//! Purpose: statements about any bytes; they panic when one does not hold.
//! Invariants: none of its own.
//! Non-goals: producing inputs (see `fuzz/`).
//! Sources: RFC 9850; RFC 5246 and RFC 8446.

use super::key_log::{KeyLog, KeyLogParser};
use super::{Arrival, DtlsHandshake, Side, TlsConnection, TlsKeys};
use crate::base::limits::{DTLS_PROFILES_MAX, TLS_WAITING_BYTES_MAX};
use crate::base::{PacketTime, Reader};

/// What a key log says does not depend on where reading it was interrupted.
///
/// # Panics
/// When it does not hold: a bug.
pub fn key_log(data: &[u8]) {
    let (cut, text) = data.split_first().map_or((0, data), |(cut, text)| (usize::from(*cut), text));
    let counts = |parts: &[&[u8]]| {
        let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
        for part in parts {
            parser.push(part, &log);
        }
        parser.finish(&log);
        log.counts()
    };
    let whole = counts(&[text]);
    let (head, tail) = text.split_at(cut.min(text.len()));
    assert_eq!(whole, counts(&[head, tail]));
    let lines = text.split(|byte| *byte == b'\n').count() as u64;
    assert!(whole.secrets + whole.ignored + whole.malformed <= lines);
}

/// A handshake of any datagrams gives keys of the lengths that were asked for, a bounded number of them.
///
/// `data`: `u16` length, a key log, then datagrams behind their `u16` lengths.
///
/// # Panics
/// When it does not hold: a bug.
pub fn dtls(data: &[u8]) {
    let mut reader = Reader::new(data);
    let length = reader.u16_be().map_or(0, usize::from);
    let (log, mut parser) = (KeyLog::new(), KeyLogParser::new());
    parser.push(reader.take(length).unwrap_or_default(), &log);
    parser.finish(&log);
    let mut handshake = DtlsHandshake::default();
    while let Some(datagram) = reader.u16_be().and_then(|length| reader.take(usize::from(length))) {
        handshake.on_datagram(datagram);
        let keys = handshake.srtp_keys(&log, |profile| (profile < 9).then_some((16, 14)));
        assert!(keys.len() <= DTLS_PROFILES_MAX && (keys.is_empty() || handshake.has_srtp()));
        assert!(keys.iter().all(|it| it.client.len() == 30 && it.server.len() == 30));
    }
}

/// What is said in a connection is never more than what was sent, waits bounded, and does not depend on how TCP cut it.
///
/// `data`: `u16` length, a key log, then pieces: `u8` (1 server, 2 after a gap), `u16` length, bytes.
///
/// # Panics
/// When it does not hold: a bug.
pub fn stream(data: &[u8]) {
    let mut reader = Reader::new(data);
    let length = reader.u16_be().map_or(0, usize::from);
    let (keys, mut parser) = (TlsKeys::default(), KeyLogParser::new());
    parser.push(reader.take(length).unwrap_or_default(), &keys.log);
    parser.finish(&keys.log);
    let whole = said(&keys, reader, usize::MAX);
    for step in [1, 100] {
        assert_eq!(whole, said(&keys, reader, step));
    }
}

/// What each side said, with the places of gaps.
fn said(keys: &TlsKeys, mut reader: Reader<'_>, step: usize) -> [(Vec<u8>, Vec<usize>); 2] {
    let (mut connection, mut heard) =
        (TlsConnection::new(), <[(Vec<u8>, Vec<usize>); 2]>::default());
    let (mut fed, now) = (0, PacketTime::from_ms(0));
    while let (Some(how), Some(length)) = (reader.u8(), reader.u16_be()) {
        let Some(bytes) = reader.take(usize::from(length)) else { break };
        let side = if how & 1 == 1 { Side::Server } else { Side::Client };
        let mut arrival = if how & 2 == 2 { Arrival::AfterGap } else { Arrival::Contiguous };
        for piece in bytes.chunks(step) {
            connection.feed(side, (piece, arrival), now, keys, |side, bytes, arrival| {
                let (all, gaps) = &mut heard[usize::from(side == Side::Server)];
                if arrival == Arrival::AfterGap {
                    gaps.push(all.len());
                }
                all.extend_from_slice(bytes);
            });
            arrival = Arrival::Contiguous;
        }
        fed += bytes.len();
        assert!(connection.held_bytes() <= 2 * (TLS_WAITING_BYTES_MAX + 20_000));
    }
    assert!(heard.iter().map(|(all, _)| all.len()).sum::<usize>() <= fed);
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_hold_for_pseudo_random_bytes() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for round in 0..2_000usize {
            let data: Vec<u8> = (0..round % 600).map(|_| next()).collect();
            key_log(&data);
            stream(&data);
        }
    }
}
