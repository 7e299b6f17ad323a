//! The index: a SQLite file that finds calls by time, number, quality, id and Call-ID.
//!
//! Purpose: answer `calls` and `show` without reading segments; with a key the file is encrypted.
//! Invariants: it is a cache, made again from the segments by `callspan index rebuild`; it never
//! names bytes that are not durable yet; only the files `index*.rs` call SQLite, and SQLite alone
//! touches the index file (not `Disk`).
//! Non-goals: being durable itself: after a power cut it may lag, and the next writer catches up.
//! Sources: SQLite's documentation of WAL mode, `user_version` and `PRAGMA synchronous`; SQLCipher's
//! of its design (pages and their log are encrypted, `-shm` holds page numbers only).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use super::INDEX_NAME;
use super::disk::IndexPlace;
use super::error::ArchiveError;
pub use super::index_key::IndexKey;
use super::index_row::ONGOING;
pub use super::index_search::Query;
use super::index_search::{PROBES, Place, Probes, search};
pub use super::index_write::Batch;
use super::index_write::{apply, purge};
use super::segment::{SegmentId, SegmentState};
use crate::base::CallId;

/// Version of the tables below; another one is answered with "rebuild".
const SCHEMA_VERSION: i64 = 2;
/// A reader waits this long for SQLite's short exclusive moments (checkpoint, recovery).
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Statements that are kept prepared.
const STATEMENTS_KEPT: usize = 48;
/// What an unencrypted SQLite file begins with.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// `calls` is kept in order of time, without the JSON, so that walking it reads little; every index
/// of it carries start and call, and so needs no look at the table.
const SCHEMA: &str = "
CREATE TABLE calls(started_ns INTEGER NOT NULL, call INTEGER NOT NULL, sequence INTEGER NOT NULL,
  summary INTEGER NOT NULL, ended_ns INTEGER, duration_ms INTEGER, mos_milli INTEGER,
  state TEXT NOT NULL, class TEXT NOT NULL, codecs TEXT NOT NULL, caller_number TEXT NOT NULL,
  callee_number TEXT NOT NULL, PRIMARY KEY(started_ns, call)) WITHOUT ROWID;
CREATE UNIQUE INDEX calls_by_id ON calls(call);
CREATE INDEX calls_by_duration ON calls(duration_ms) WHERE duration_ms IS NOT NULL;
CREATE INDEX calls_by_mos ON calls(mos_milli) WHERE mos_milli IS NOT NULL;
CREATE INDEX calls_by_state ON calls(state) WHERE state <> 'ended';
CREATE INDEX calls_by_class ON calls(class, ended_ns) WHERE ended_ns IS NOT NULL;
CREATE TABLE summaries(id INTEGER PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE numbers(text TEXT NOT NULL, started_ns INTEGER NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY(text, started_ns, call)) WITHOUT ROWID;
CREATE TABLE codecs(name TEXT NOT NULL, started_ns INTEGER NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY(name, started_ns, call)) WITHOUT ROWID;
CREATE TABLE sip_call_ids(hash INTEGER NOT NULL, started_ns INTEGER NOT NULL,
  call INTEGER NOT NULL, PRIMARY KEY(hash, started_ns, call)) WITHOUT ROWID;
CREATE TABLE call_segments(call INTEGER NOT NULL, segment INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL, PRIMARY KEY(call, segment)) WITHOUT ROWID;
CREATE INDEX call_segments_by_segment ON call_segments(segment);
CREATE TABLE segments(id INTEGER PRIMARY KEY, sealed INTEGER NOT NULL,
  committed_bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE purged(call INTEGER PRIMARY KEY);
";

/// Both: what is deleted is overwritten, sorting never makes a file, and pages (KiB) stay decrypted.
const SETTINGS: &str = "PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON;
    PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536;";

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

/// What became of SQLite's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Folded into the index, and empty.
    Truncated,
    /// Somebody reads an older state of the index: try again.
    InUse,
}

/// The open index.
pub struct Index {
    connection: Connection,
    place: String,
}

impl Index {
    /// Makes a new, empty index; `place` is the archive's directory, for messages. With a key it is
    /// encrypted, unless it is in memory.
    ///
    /// # Errors
    /// `Io`, `Index`, `IndexUnusable`.
    pub fn create(
        index: &IndexPlace,
        place: &str,
        key: Option<&IndexKey>,
    ) -> Result<Self, ArchiveError> {
        let (connection, key) = match index {
            IndexPlace::File(path) => {
                // SQLite gives its log the mode of the file: numbers and names are private too.
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                file.map_err(|error| ArchiveError::io("create", INDEX_NAME, error))?;
                (Connection::open(path), key)
            }
            IndexPlace::Memory => (Connection::open_in_memory(), None),
        };
        let make = |connection: Connection| {
            prepare(&connection, key)?;
            let _mode: String =
                connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            connection.execute_batch(&format!(
                "{SETTINGS} BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?;
            Ok(connection)
        };
        let connection = connection.and_then(make).map_err(|error| fail("create", place, error))?;
        Ok(Self { connection, place: place.to_owned() })
    }

    /// Opens the index to write to it; one in memory begins empty.
    ///
    /// # Errors
    /// `IndexUnusable` when it is missing, damaged, of another version, or of another key.
    pub fn open_writer(
        index: &IndexPlace,
        place: &str,
        key: Option<&IndexKey>,
    ) -> Result<Self, ArchiveError> {
        if *index == IndexPlace::Memory {
            return Self::create(index, place, key);
        }
        Self::open(index, place, key, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// Opens the index to query it while another process may write.
    ///
    /// # Errors
    /// `IndexUnusable` when it is missing, damaged, of another version, or of another key.
    pub fn open_reader(
        index: &IndexPlace,
        place: &str,
        key: Option<&IndexKey>,
    ) -> Result<Self, ArchiveError> {
        Self::open(index, place, key, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn open(
        index: &IndexPlace,
        place: &str,
        key: Option<&IndexKey>,
        flags: OpenFlags,
    ) -> Result<Self, ArchiveError> {
        let unusable = |reason| ArchiveError::IndexUnusable { reason, place: place.to_owned() };
        let path = match index {
            IndexPlace::File(path) if path.exists() => path,
            _ => return Err(unusable("missing")),
        };
        let open = || {
            let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            prepare(&connection, key)?;
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            connection.execute_batch(SETTINGS)?;
            Ok((connection, version))
        };
        let (connection, version) = open().map_err(|error: rusqlite::Error| {
            if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) {
                return unusable(why_unreadable(path, key));
            }
            fail("open", place, error)
        })?;
        if version != SCHEMA_VERSION {
            return Err(unusable("of another version"));
        }
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
        self.calls_with(query, PROBES)
    }

    pub(super) fn calls_with(
        &self,
        query: &Query,
        probes: Probes,
    ) -> Result<Vec<IndexedCall>, ArchiveError> {
        let read = || {
            // One transaction: the writer may go on between two statements.
            let _snapshot = self.connection.unchecked_transaction()?;
            let mut places = search(&self.connection, query, probes)?;
            places.reverse();
            self.read_calls(&places)
        };
        self.map("read", read())
    }

    #[cfg(test)]
    pub(super) fn set_version(&self, version: i64) {
        self.connection.pragma_update(None, "user_version", version).expect("set");
    }

    fn read_calls(&self, places: &[Place]) -> rusqlite::Result<Vec<IndexedCall>> {
        const SQL: &str = "SELECT call, started_ns, json FROM calls
            JOIN summaries ON summaries.id = summary WHERE started_ns = ?1 AND call = ?2";
        let mut statement = self.connection.prepare_cached(SQL)?;
        let one = |place: &Place| statement.query_row([place.0, place.1], indexed_call);
        places.iter().map(one).collect()
    }

    /// One call by its id.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn call(&self, id: CallId) -> Result<Option<IndexedCall>, ArchiveError> {
        const SQL: &str = "SELECT call, started_ns, json FROM calls
            JOIN summaries ON summaries.id = summary WHERE call = ?1";
        let read = || {
            let mut statement = self.connection.prepare_cached(SQL)?;
            statement.query_map([call_key(id)], indexed_call)?.next().transpose()
        };
        self.map("read", read())
    }

    /// Calls with a dialog of this Call-ID, oldest first.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn calls_by_sip_call_id(&self, text: &str) -> Result<Vec<IndexedCall>, ArchiveError> {
        self.calls(&Query { sip_call_id: Some(text.to_owned()), ..Query::default() })
    }

    /// How many calls it lists.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn count(&self) -> Result<u64, ArchiveError> {
        let count = self.connection.query_row("SELECT count(*) FROM calls", [], |row| row.get(0));
        let count: i64 = self.map("count", count)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Calls whose newest summary says `ongoing`, oldest first.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn ongoing(&self) -> Result<Vec<IndexedCall>, ArchiveError> {
        self.calls(&Query { state: Some(ONGOING.to_owned()), ..Query::default() })
    }

    /// Calls of a retention class that ended before this time, those that ended first before others;
    /// none that goes on, and none that was purged.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn ended_before(&self, ended_ns: i64, class: &str) -> Result<Vec<CallId>, ArchiveError> {
        const SQL: &str = "SELECT call FROM calls INDEXED BY calls_by_class
            WHERE class = ?1 AND ended_ns < ?2 ORDER BY ended_ns";
        self.call_ids(SQL, params![class, ended_ns])
    }

    /// Retention classes of the calls that [`Index::ended_before`] can list, in order; the default
    /// is the empty one.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn classes(&self) -> Result<Vec<String>, ArchiveError> {
        // From one class to the next by the index: `DISTINCT` would read a row a call.
        const SQL: &str = "WITH RECURSIVE found(class) AS (
              SELECT min(class) FROM calls INDEXED BY calls_by_class WHERE ended_ns IS NOT NULL
              UNION ALL SELECT (SELECT min(calls.class) FROM calls INDEXED BY calls_by_class
                WHERE calls.class > found.class AND ended_ns IS NOT NULL)
              FROM found WHERE found.class IS NOT NULL)
            SELECT class FROM found WHERE class IS NOT NULL";
        let read = || {
            let mut statement = self.connection.prepare_cached(SQL)?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        self.map("read", read())
    }

    /// Calls that were taken out.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn purged(&self) -> Result<BTreeSet<CallId>, ArchiveError> {
        Ok(self.call_ids("SELECT call FROM purged", [])?.into_iter().collect())
    }

    /// Calls with records in the segment, in order of their ids.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn calls_of_segment(&self, segment: SegmentId) -> Result<Vec<CallId>, ArchiveError> {
        const SQL: &str = "SELECT call FROM call_segments INDEXED BY call_segments_by_segment
            WHERE segment = ?1 ORDER BY call";
        self.call_ids(SQL, params![signed(segment.0)])
    }

    fn call_ids(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<CallId>, ArchiveError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, |row| Ok(call_from_key(row.get(0)?)))?.collect()
        };
        self.map("read", read())
    }

    /// Takes out all that is known of a call and lists `stub_json` instead, in the state `erased`;
    /// later rows of it are ignored. Which segments hold its records is kept. The old bytes may
    /// stand in SQLite's log until [`Index::checkpoint_truncate`].
    ///
    /// `stub_json`: must name nobody (not checked here). `started_ns`: under which time it is listed.
    /// # Errors
    /// `Index`, `IndexUnusable`; then nothing was taken out.
    pub fn purge(
        &mut self,
        call: CallId,
        stub_json: &str,
        started_ns: i64,
    ) -> Result<(), ArchiveError> {
        let result = purge(&mut self.connection, call, stub_json, started_ns);
        self.map("write to", result)
    }

    /// Forgets a segment that is there no more, and which calls it held.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`; then nothing was forgotten.
    pub fn forget_segment(&mut self, segment: SegmentId) -> Result<(), ArchiveError> {
        let forget = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let segment = signed(segment.0);
            transaction.execute("DELETE FROM call_segments WHERE segment = ?1", [segment])?;
            transaction.execute("DELETE FROM segments WHERE id = ?1", [segment])?;
            transaction.commit()
        };
        let result = forget(&mut self.connection);
        self.map("write to", result)
    }

    /// Folds SQLite's log into the index and empties it. Waits for readers, for a few seconds.
    ///
    /// # Errors
    /// `Index`, `IndexUnusable`.
    pub fn checkpoint_truncate(&mut self) -> Result<LogState, ArchiveError> {
        let fold = || {
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                let is_busy: bool = row.get(0)?;
                Ok(if is_busy { LogState::InUse } else { LogState::Truncated })
            })
        };
        self.map("fold the log into", fold())
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

/// What comes before the first page is read.
fn prepare(connection: &Connection, key: Option<&IndexKey>) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    if let Some(key) = key {
        key.unlock(connection)?;
    }
    connection.busy_timeout(BUSY_WAIT)
}

/// A file that is no database with this key, or without one.
fn why_unreadable(path: &Path, key: Option<&IndexKey>) -> &'static str {
    let mut magic = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match (key, read.is_ok() && magic == *SQLITE_MAGIC) {
        (None, true) => "damaged",
        (None, false) => "damaged, or encrypted and no key was given",
        (Some(_), true) => "not encrypted, but this archive has a key",
        (Some(_), false) => "not readable with this key, or damaged",
    }
}

fn fail(op: &'static str, place: &str, source: rusqlite::Error) -> ArchiveError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ArchiveError::IndexUnusable { reason: "damaged", place: place.to_owned() }
        }
        _ => ArchiveError::Index { op, source },
    }
}

/// SQLite's integers are signed: the highest bit is flipped, so that ids keep their order.
pub(super) fn call_key(call: CallId) -> i64 {
    i64::from_le_bytes((call.0 ^ (1 << 63)).to_le_bytes())
}

fn call_from_key(key: i64) -> CallId {
    CallId(u64::from_le_bytes(key.to_le_bytes()) ^ (1 << 63))
}

/// A Call-ID as it is looked up: a part of its SHA-256, a quarter of the text's size.
pub(super) fn sip_call_id_key(text: &str) -> i64 {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

/// A count or a segment's number, which never come near SQLite's 63 bits.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn indexed_call(row: &Row<'_>) -> rusqlite::Result<IndexedCall> {
    let id = call_from_key(row.get(0)?);
    Ok(IndexedCall { id, started_ns: row.get(1)?, summary_json: row.get(2)? })
}
