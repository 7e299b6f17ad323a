//! The index: a SQLite file that finds calls by time, number, id and Call-ID.
//!
//! Purpose: answer `calls` and `show` without reading segments.
//! Invariants: it is a cache, made again from the segments by `callspan index rebuild`; it never
//! names bytes that are not durable yet; only this file calls SQLite, and SQLite alone touches the
//! index file (not `Disk`).
//! Non-goals: being durable itself: after a power cut it may lag, and the next writer catches up.
//! Sources: SQLite's documentation of WAL mode, `user_version` and `PRAGMA synchronous`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ToSql, params};

use super::INDEX_NAME;
use super::disk::IndexPlace;
use super::error::ArchiveError;
use super::index_row::{CallRow, number_key};
use super::segment::{SegmentId, SegmentState};
use crate::base::CallId;

/// Version of the tables below; another one is answered with "rebuild".
const SCHEMA_VERSION: i64 = 1;
/// A reader waits this long for SQLite's short exclusive moments (checkpoint, recovery).
const BUSY_WAIT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE calls(id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, started_ns INTEGER NOT NULL,
  ended_ns INTEGER, state TEXT NOT NULL, caller_number TEXT NOT NULL, callee_number TEXT NOT NULL,
  json TEXT NOT NULL);
CREATE INDEX calls_by_start ON calls(started_ns, id);
CREATE INDEX calls_ongoing ON calls(started_ns, id) WHERE state = 'ongoing';
CREATE TABLE numbers(digits_reversed TEXT NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY(digits_reversed, call)) WITHOUT ROWID;
CREATE INDEX numbers_by_call ON numbers(call);
CREATE TABLE sip_call_ids(call_id TEXT NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY(call_id, call)) WITHOUT ROWID;
CREATE INDEX sip_call_ids_by_call ON sip_call_ids(call);
CREATE TABLE call_segments(call INTEGER NOT NULL, segment INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL, PRIMARY KEY(call, segment)) WITHOUT ROWID;
CREATE TABLE segments(id INTEGER PRIMARY KEY, sealed INTEGER NOT NULL,
  committed_bytes INTEGER NOT NULL) WITHOUT ROWID;
";

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Calls that began at this time or later, in nanoseconds since the epoch.
    pub from_ns: Option<i64>,
    /// Calls that began before this time.
    pub to_ns: Option<i64>,
    /// Calls whose caller or callee has this number, or a number that ends with it.
    pub number: Option<String>,
    /// Only the newest so many.
    pub limit: Option<u32>,
}

/// A call as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedCall {
    /// Its name.
    pub id: CallId,
    /// First packet, in nanoseconds since the epoch.
    pub started_ns: i64,
    /// The newest summary record, byte for byte.
    pub summary_json: String,
}

/// A change of the index that becomes visible whole or not at all.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The newest row of each call.
    pub rows: BTreeMap<CallId, CallRow>,
    /// The highest sequence of a call in a segment.
    pub last_sequences: BTreeMap<(CallId, SegmentId), u32>,
    /// Segments, and up to which byte they are committed.
    pub segments: BTreeMap<SegmentId, (SegmentState, u64)>,
}

impl Batch {
    pub fn add_row(&mut self, row: CallRow) {
        let newer = self.rows.get(&row.call).is_none_or(|old| old.sequence <= row.sequence);
        if newer {
            self.rows.insert(row.call, row);
        }
    }

    pub fn saw(&mut self, call: CallId, segment: SegmentId, sequence: u32) {
        let last = self.last_sequences.entry((call, segment)).or_insert(sequence);
        *last = sequence.max(*last);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// STUB replaced by the index branch
#[derive(Clone, Debug)]
pub struct IndexKey([u8; 32]);
impl IndexKey {
    /// x
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The open index.
pub(super) struct Index {
    connection: Connection,
    place: String,
}

impl Index {
    /// Makes a new, empty index; `place` is the archive's directory, for messages.
    ///
    /// # Errors
    /// `Io`, `Index`, `IndexUnusable`.
    pub fn create(
        index: &IndexPlace,
        place: &str,
        _key: Option<&IndexKey>,
    ) -> Result<Self, ArchiveError> {
        let connection = match index {
            IndexPlace::File(path) => {
                // SQLite gives its log the mode of the file: numbers and names are private too.
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                file.map_err(|error| ArchiveError::io("create", INDEX_NAME, error))?;
                Connection::open(path)
            }
            IndexPlace::Memory => Connection::open_in_memory(),
        };
        let make = |connection: Connection| {
            connection.busy_timeout(BUSY_WAIT)?;
            let _mode: String =
                connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?;
            Ok(connection)
        };
        let connection = connection.and_then(make).map_err(|error| fail("create", place, error))?;
        Ok(Self { connection, place: place.to_owned() })
    }

    /// Opens the index to write to it; one in memory begins empty.
    ///
    /// # Errors
    /// `IndexUnusable` when it is missing, damaged, or of another version.
    pub fn open_writer(
        index: &IndexPlace,
        place: &str,
        _key: Option<&IndexKey>,
    ) -> Result<Self, ArchiveError> {
        if *index == IndexPlace::Memory {
            return Self::create(index, place, None);
        }
        let opened = Self::open(index, place, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let set = opened.connection.pragma_update(None, "synchronous", "NORMAL");
        set.map_err(|error| fail("open", place, error))?;
        Ok(opened)
    }

    /// Opens the index to query it while another process may write.
    ///
    /// # Errors
    /// `IndexUnusable` when it is missing, damaged, or of another version.
    pub fn open_reader(
        index: &IndexPlace,
        place: &str,
        _key: Option<&IndexKey>,
    ) -> Result<Self, ArchiveError> {
        Self::open(index, place, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open(index: &IndexPlace, place: &str, flags: OpenFlags) -> Result<Self, ArchiveError> {
        let unusable = |reason| ArchiveError::IndexUnusable { reason, place: place.to_owned() };
        let path = match index {
            IndexPlace::File(path) if path.exists() => path,
            _ => return Err(unusable("missing")),
        };
        let open = || {
            let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_WAIT)?;
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((connection, version))
        };
        let (connection, version) = open().map_err(|error| fail("open", place, error))?;
        if version != SCHEMA_VERSION {
            return Err(unusable("of another version"));
        }
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection, place: place.to_owned() })
    }

    /// Closes the file; SQLite folds its log into it.
    ///
    /// # Errors
    /// `Index`.
    pub fn close(self) -> Result<(), ArchiveError> {
        self.connection.close().map_err(|(_, error)| fail("close", &self.place, error))
    }

    fn map<T>(&self, op: &'static str, result: rusqlite::Result<T>) -> Result<T, ArchiveError> {
        result.map_err(|error| fail(op, &self.place, error))
    }

    /// Applies a batch in one transaction.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`; then nothing of the batch is in the index.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ArchiveError> {
        let result = apply(&mut self.connection, batch);
        self.map("write to", result)
    }

    /// Calls that match, oldest first by (start, id).
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn calls(&self, query: &Query) -> Result<Vec<IndexedCall>, ArchiveError> {
        let limit = query.limit.map_or(-1, i64::from);
        let from_ns = query.from_ns.unwrap_or(i64::MIN);
        // `to_ns` is exclusive; without it even the last nanosecond there is belongs to the list.
        let last_ns = match query.to_ns {
            Some(i64::MIN) => return Ok(Vec::new()),
            Some(to_ns) => to_ns.saturating_sub(1),
            None => i64::MAX,
        };
        let mut calls = if let Some(number) = &query.number {
            let key = number_key(number);
            if key.is_empty() {
                return Ok(Vec::new());
            }
            let beyond = format!("{key}\u{10ffff}");
            self.list(BY_NUMBER, params![from_ns, last_ns, limit, key, beyond])?
        } else {
            self.list(BY_TIME, params![from_ns, last_ns, limit])?
        };
        calls.reverse();
        Ok(calls)
    }

    /// One call by its id.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn call(&self, id: CallId) -> Result<Option<IndexedCall>, ArchiveError> {
        const SQL: &str = "SELECT id, started_ns, json FROM calls WHERE id = ?1";
        Ok(self.list(SQL, params![call_key(id)])?.pop())
    }

    /// Calls with a dialog of this Call-ID, oldest first.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn calls_by_sip_call_id(&self, text: &str) -> Result<Vec<IndexedCall>, ArchiveError> {
        const SQL: &str = "SELECT id, started_ns, json FROM calls WHERE id IN
            (SELECT call FROM sip_call_ids WHERE call_id = ?1) ORDER BY started_ns, id";
        self.list(SQL, params![text])
    }

    /// Calls whose newest summary says `ongoing`, oldest first.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn ongoing(&self) -> Result<Vec<IndexedCall>, ArchiveError> {
        const SQL: &str = "SELECT id, started_ns, json FROM calls WHERE state = 'ongoing'
            ORDER BY started_ns, id";
        self.list(SQL, [])
    }

    fn list(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<IndexedCall>, ArchiveError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, indexed_call)?.collect()
        };
        self.map("read", read())
    }

    /// Whether any record of the call was committed.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn exists(&self, call: CallId) -> Result<bool, ArchiveError> {
        Ok(self.last_sequence(call)?.is_some())
    }

    /// The highest sequence of the call, as far as the index knows.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn last_sequence(&self, call: CallId) -> Result<Option<u32>, ArchiveError> {
        const SQL: &str = "SELECT max(last_sequence) FROM call_segments WHERE call = ?1";
        let read = || {
            let mut statement = self.connection.prepare_cached(SQL)?;
            statement.query_row([call_key(call)], |row| row.get(0))
        };
        self.map("read", read())
    }

    /// Segments that hold records of the call, in order, with the byte up to which they are committed.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn segments_of(&self, call: CallId) -> Result<Vec<(SegmentId, u64)>, ArchiveError> {
        const SQL: &str = "SELECT segment, committed_bytes FROM call_segments
            JOIN segments ON segments.id = segment WHERE call = ?1 ORDER BY segment";
        let read = || {
            let mut statement = self.connection.prepare_cached(SQL)?;
            let pair =
                |row: &Row<'_>| Ok((SegmentId(unsigned(row.get(0)?)), unsigned(row.get(1)?)));
            statement.query_map([call_key(call)], pair)?.collect()
        };
        self.map("read", read())
    }

    /// Every segment that the index knows, in order.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn segments(&self) -> Result<BTreeMap<SegmentId, SegmentState>, ArchiveError> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT id, sealed FROM segments")?;
            let pair = |row: &Row<'_>| {
                let sealed: bool = row.get(1)?;
                let state = if sealed { SegmentState::Sealed } else { SegmentState::Open };
                Ok((SegmentId(unsigned(row.get(0)?)), state))
            };
            statement.query_map([], pair)?.collect()
        };
        self.map("read", read())
    }
}

const BY_TIME: &str = "SELECT id, started_ns, json FROM calls
    WHERE started_ns BETWEEN ?1 AND ?2 ORDER BY started_ns DESC, id DESC LIMIT ?3";
const BY_NUMBER: &str = "SELECT id, started_ns, json FROM calls
    WHERE id IN (SELECT call FROM numbers WHERE digits_reversed >= ?4 AND digits_reversed < ?5)
    AND +started_ns BETWEEN ?1 AND ?2 ORDER BY started_ns DESC, id DESC LIMIT ?3";

fn fail(op: &'static str, place: &str, source: rusqlite::Error) -> ArchiveError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ArchiveError::IndexUnusable { reason: "damaged", place: place.to_owned() }
        }
        _ => ArchiveError::Index { op, source },
    }
}

/// SQLite's integers are signed: the highest bit is flipped, so that ids keep their order.
fn call_key(call: CallId) -> i64 {
    i64::from_le_bytes((call.0 ^ (1 << 63)).to_le_bytes())
}

fn call_from_key(key: i64) -> CallId {
    CallId(u64::from_le_bytes(key.to_le_bytes()) ^ (1 << 63))
}

/// A count or a segment's number, which never come near SQLite's 63 bits.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn indexed_call(row: &Row<'_>) -> rusqlite::Result<IndexedCall> {
    let id = call_from_key(row.get(0)?);
    Ok(IndexedCall { id, started_ns: row.get(1)?, summary_json: row.get(2)? })
}

fn apply(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
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
    for row in batch.rows.values() {
        upsert_call(&transaction, row)?;
    }
    transaction.commit()
}

fn upsert_call(connection: &Connection, row: &CallRow) -> rusqlite::Result<()> {
    let key = call_key(row.call);
    let newest: Option<u32> = connection
        .prepare_cached("SELECT sequence FROM calls WHERE id = ?1")?
        .query_row([key], |found| found.get(0))
        .optional()?;
    if newest.is_some_and(|newest| newest > row.sequence) {
        return Ok(());
    }
    let values: [&dyn ToSql; 8] = [
        &key,
        &row.sequence,
        &row.started_ns,
        &row.ended_ns,
        &row.state,
        &row.caller_number,
        &row.callee_number,
        &row.json,
    ];
    connection
        .prepare_cached("INSERT OR REPLACE INTO calls VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(values)?;
    if newest.is_some() {
        connection.prepare_cached("DELETE FROM numbers WHERE call = ?1")?.execute([key])?;
        connection.prepare_cached("DELETE FROM sip_call_ids WHERE call = ?1")?.execute([key])?;
    }
    for digits_reversed in row.number_keys() {
        connection
            .prepare_cached("INSERT OR IGNORE INTO numbers VALUES(?1, ?2)")?
            .execute(params![digits_reversed, key])?;
    }
    for call_id in &row.sip_call_ids {
        connection
            .prepare_cached("INSERT OR IGNORE INTO sip_call_ids VALUES(?1, ?2)")?
            .execute(params![call_id, key])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(call: u64, sequence: u32, second: u32, caller: &str) -> CallRow {
        let json = format!(
            r#"{{"started_at":"2026-11-24T00:00:{second:02}Z","state":"ended",
            "caller":{{"number":"{caller}"}},"sip_call_ids":["c{call}"]}}"#
        );
        CallRow::from_body(CallId(call), sequence, json.as_bytes()).expect("valid")
    }

    fn index_of(rows: Vec<CallRow>) -> Index {
        let mut index = Index::create(&IndexPlace::Memory, "here").expect("memory");
        let mut batch = Batch::default();
        for row in rows {
            batch.add_row(row);
        }
        index.apply(&batch).expect("applied");
        index
    }

    fn ids(calls: &[IndexedCall]) -> Vec<u64> {
        calls.iter().map(|call| call.id.0).collect()
    }

    #[test]
    fn calls_come_by_start_then_by_unsigned_id_and_a_limit_keeps_the_newest() {
        let index = index_of(vec![
            row(u64::MAX, 0, 5, ""),
            row(1, 0, 5, ""),
            row(9, 0, 1, ""),
            row(3, 0, 7, ""),
        ]);
        let all = index.calls(&Query::default()).expect("read");
        assert_eq!(ids(&all), [9, 1, u64::MAX, 3]);
        let limited = index.calls(&Query { limit: Some(2), ..Query::default() }).expect("read");
        assert_eq!(ids(&limited), [u64::MAX, 3]);
        let start = all.get(1).map(|call| call.started_ns);
        let from = index.calls(&Query { from_ns: start, ..Query::default() }).expect("read");
        assert_eq!(ids(&from), [1, u64::MAX, 3], "from is inclusive");
        let to = index.calls(&Query { to_ns: start, ..Query::default() }).expect("read");
        assert_eq!(ids(&to), [9], "to is exclusive");
    }

    #[test]
    fn a_number_is_found_by_suffix_and_only_by_suffix() {
        let index = index_of(vec![
            row(1, 0, 1, "+49 30 1234"),
            row(2, 0, 2, "1234"),
            row(3, 0, 3, "41234"),
        ]);
        let find = |number: &str| {
            let query = Query { number: Some(number.to_owned()), ..Query::default() };
            ids(&index.calls(&query).expect("read"))
        };
        assert_eq!(find("1234"), [1, 2, 3]);
        assert_eq!(find("0049 301234"), [1]);
        assert_eq!(find("301"), Vec::<u64>::new());
        assert_eq!(find("+"), Vec::<u64>::new());
        assert_eq!(find("%"), Vec::<u64>::new());
    }

    #[test]
    fn the_highest_sequence_wins_in_any_order_and_its_old_keys_are_gone() {
        let mut index = index_of(vec![row(1, 5, 9, "77")]);
        for (sequence, caller, found) in [(4, "66", 0), (6, "66", 1)] {
            let mut batch = Batch::default();
            batch.add_row(row(1, sequence, 9, caller));
            index.apply(&batch).expect("applied");
            let query = Query { number: Some("66".to_owned()), ..Query::default() };
            assert_eq!(index.calls(&query).expect("read").len(), found);
        }
        let query = Query { number: Some("77".to_owned()), ..Query::default() };
        assert_eq!(index.calls(&query).expect("read"), []);
        assert_eq!(index.calls_by_sip_call_id("c1").expect("read").len(), 1);
    }

    #[test]
    fn no_query_scans_the_table_of_calls() {
        let index = index_of(vec![row(1, 0, 1, "1")]);
        for (sql, expected) in
            [(BY_TIME, "calls_by_start"), (BY_NUMBER, "SEARCH numbers USING PRIMARY KEY")]
        {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let mut statement = index.connection.prepare(&explain).expect("prepared");
            for place in 1..=statement.parameter_count() {
                statement.raw_bind_parameter(place, 1).expect("bound");
            }
            let mut rows = statement.raw_query();
            let mut plan = String::new();
            while let Some(step) = rows.next().expect("plan") {
                plan.push_str(&step.get::<_, String>(3).expect("text"));
                plan.push('\n');
            }
            assert!(plan.contains(expected) && !plan.contains("SCAN calls\n"), "{plan}");
        }
    }
}
