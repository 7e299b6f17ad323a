//! What changes the index: rows of summaries, segments, and calls that are taken out for good.
//!
//! Purpose: apply a batch in one transaction; put a stub in the place of a purged call.
//! Invariants: the highest sequence of a call wins in any order; what is searched by is taken out
//! with the row it came from; a purged call never comes back.
//! Non-goals: transactions over several batches; durability (see `index`).
//! Sources: SQLite's documentation of WITHOUT ROWID tables.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, params};

use super::index::{call_key, signed, sip_call_id_key};
use super::index_number::number_keys;
use super::index_row::CallRow;
use super::segment::{SegmentId, SegmentState};
use crate::base::CallId;

/// No record has this sequence: what stands there is never replaced.
const PURGED_SEQUENCE: i64 = i64::MAX;
/// State of a call that was taken out.
const ERASED: &str = "erased";

/// A change of the index that becomes visible whole or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    /// The newest row of each call.
    pub rows: BTreeMap<CallId, CallRow>,
    /// The highest sequence of a call in a segment.
    pub last_sequences: BTreeMap<(CallId, SegmentId), u32>,
    /// Segments, and up to which byte they are committed.
    pub segments: BTreeMap<SegmentId, (SegmentState, u64)>,
}

impl Batch {
    /// Adds a row, unless a newer one of the same call waits.
    pub fn add_row(&mut self, row: CallRow) {
        let newer = self.rows.get(&row.call).is_none_or(|old| old.sequence <= row.sequence);
        if newer {
            self.rows.insert(row.call, row);
        }
    }

    /// Notes that a record of the call stands in the segment.
    pub fn saw(&mut self, call: CallId, segment: SegmentId, sequence: u32) {
        let last = self.last_sequences.entry((call, segment)).or_insert(sequence);
        *last = sequence.max(*last);
    }

    /// Forgets all of it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Applies a batch in one transaction.
pub(super) fn apply(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (segment, (state, committed_bytes)) in &batch.segments {
        let sealed = *state == SegmentState::Sealed;
        transaction
            .prepare_cached("INSERT OR REPLACE INTO segments VALUES(?1, ?2, ?3)")?
            .execute(params![signed(segment.0), sealed, signed(*committed_bytes)])?;
    }
    for ((call, segment), last_sequence) in &batch.last_sequences {
        transaction
            .prepare_cached(
                "INSERT INTO call_segments VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE
                 SET last_sequence = max(last_sequence, excluded.last_sequence)",
            )?
            .execute(params![call_key(*call), signed(segment.0), last_sequence])?;
    }
    let mut keys = Keys::default();
    // In order of time the tables grow at their end, and a page is written once.
    let mut rows: Vec<&CallRow> = batch.rows.values().collect();
    rows.sort_unstable_by_key(|row| row.started_ns);
    for row in rows {
        put_call(&transaction, row, &mut keys)?;
    }
    keys.insert(&transaction)?;
    transaction.commit()
}

/// Takes out all of a call and puts a stub there.
pub(super) fn purge(
    connection: &mut Connection,
    call: CallId,
    stub_json: &str,
    started_ns: i64,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let key = call_key(call);
    transaction.execute("INSERT OR IGNORE INTO purged VALUES(?1)", [key])?;
    if let Some(old) = Old::read(&transaction, key)? {
        old.remove(&transaction, key)?;
        transaction.execute("DELETE FROM summaries WHERE id = ?1", [old.summary])?;
    }
    transaction.execute("INSERT INTO summaries(json) VALUES(?1)", [stub_json])?;
    let summary = transaction.last_insert_rowid();
    transaction.execute(
        "INSERT INTO calls VALUES(?1, ?2, ?3, ?4, NULL, NULL, NULL, ?5, '', '', '', '')",
        params![started_ns, key, PURGED_SEQUENCE, summary, ERASED],
    )?;
    transaction.commit()
}

/// What is looked up, gathered so that it can be inserted in the order of the tables.
#[derive(Default)]
struct Keys {
    numbers: BTreeSet<(String, i64, i64)>,
    codecs: BTreeSet<(String, i64, i64)>,
    sip_call_ids: BTreeSet<(i64, i64, i64)>,
}

impl Keys {
    fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut number =
            connection.prepare_cached("INSERT OR IGNORE INTO numbers VALUES(?1, ?2, ?3)")?;
        for (text, started_ns, call) in &self.numbers {
            number.execute(params![text, started_ns, call])?;
        }
        let mut codec =
            connection.prepare_cached("INSERT OR IGNORE INTO codecs VALUES(?1, ?2, ?3)")?;
        for (name, started_ns, call) in &self.codecs {
            codec.execute(params![name, started_ns, call])?;
        }
        let mut call_id =
            connection.prepare_cached("INSERT OR IGNORE INTO sip_call_ids VALUES(?1, ?2, ?3)")?;
        for (hash, started_ns, call) in &self.sip_call_ids {
            call_id.execute(params![hash, started_ns, call])?;
        }
        Ok(())
    }
}

/// The row that is there already, as far as it says what else there is of the call.
struct Old {
    started_ns: i64,
    sequence: i64,
    summary: i64,
    caller_number: String,
    callee_number: String,
    codecs: String,
}

impl Old {
    fn read(connection: &Connection, key: i64) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT started_ns, sequence, summary, caller_number, callee_number, codecs
                 FROM calls WHERE call = ?1",
            )?
            .query_row([key], |row| {
                Ok(Self {
                    started_ns: row.get(0)?,
                    sequence: row.get(1)?,
                    summary: row.get(2)?,
                    caller_number: row.get(3)?,
                    callee_number: row.get(4)?,
                    codecs: row.get(5)?,
                })
            })
            .optional()
    }

    /// Removes all but the summary's JSON.
    fn remove(&self, connection: &Connection, key: i64) -> rusqlite::Result<()> {
        let place = params![self.started_ns, key];
        connection
            .prepare_cached("DELETE FROM calls WHERE started_ns = ?1 AND call = ?2")?
            .execute(place)?;
        for number in numbers(&self.caller_number, &self.callee_number) {
            for text in number_keys(number) {
                let mut delete = connection.prepare_cached(DELETE_NUMBER)?;
                delete.execute(params![text, self.started_ns, key])?;
            }
        }
        for name in self.codecs.split(' ') {
            let mut delete = connection.prepare_cached(DELETE_CODEC)?;
            delete.execute(params![name, self.started_ns, key])?;
        }
        let mut read = connection.prepare_cached("SELECT json FROM summaries WHERE id = ?1")?;
        let json: String = read.query_row([self.summary], |row| row.get(0))?;
        for text in sip_call_ids_in(&json) {
            let mut delete = connection.prepare_cached(DELETE_CALL_ID)?;
            delete.execute(params![sip_call_id_key(&text), self.started_ns, key])?;
        }
        Ok(())
    }
}

const DELETE_NUMBER: &str = "DELETE FROM numbers WHERE text = ?1 AND started_ns = ?2 AND call = ?3";
const DELETE_CODEC: &str = "DELETE FROM codecs WHERE name = ?1 AND started_ns = ?2 AND call = ?3";
const DELETE_CALL_ID: &str =
    "DELETE FROM sip_call_ids WHERE hash = ?1 AND started_ns = ?2 AND call = ?3";

/// The Call-IDs of a summary; none of one that cannot be read.
/// All numbers of a row.
fn numbers<'a>(caller: &'a str, callee: &'a str) -> impl Iterator<Item = &'a str> {
    std::iter::once(caller).chain(callee.split('\n'))
}

pub(super) fn sip_call_ids_in(json: &str) -> Vec<String> {
    #[derive(Default, serde::Deserialize)]
    struct Ids {
        #[serde(default)]
        sip_call_ids: Vec<String>,
    }
    serde_json::from_str::<Ids>(json).unwrap_or_default().sip_call_ids
}

fn put_call(connection: &Connection, row: &CallRow, keys: &mut Keys) -> rusqlite::Result<()> {
    let key = call_key(row.call);
    let old = Old::read(connection, key)?;
    let summary = match old {
        Some(old) if old.sequence > i64::from(row.sequence) => return Ok(()),
        Some(old) => {
            old.remove(connection, key)?;
            connection
                .prepare_cached("UPDATE summaries SET json = ?2 WHERE id = ?1")?
                .execute(params![old.summary, row.json])?;
            old.summary
        }
        None => {
            connection
                .prepare_cached("INSERT INTO summaries(json) VALUES(?1)")?
                .execute([&row.json])?;
            connection.last_insert_rowid()
        }
    };
    connection
        .prepare_cached(
            "INSERT INTO calls VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            row.started_ns,
            key,
            row.sequence,
            summary,
            row.ended_ns,
            row.duration_ms,
            row.mos_milli,
            row.state,
            row.class,
            row.codecs,
            row.caller_number,
            row.callee_number,
        ])?;
    let place = |text: String| (text, row.started_ns, key);
    for number in numbers(&row.caller_number, &row.callee_number) {
        keys.numbers.extend(number_keys(number).into_iter().map(place));
    }
    let codecs = row.codecs.split(' ').filter(|name| !name.is_empty());
    keys.codecs.extend(codecs.map(|name| place(name.to_owned())));
    let hashes = row.sip_call_ids.iter().map(|text| sip_call_id_key(text));
    keys.sip_call_ids.extend(hashes.map(|hash| (hash, row.started_ns, key)));
    Ok(())
}
