//! Searching the index: a page of calls in milliseconds, whatever is asked.
//!
//! Purpose: calls by time, number, duration, codec, quality, Call-ID and state, the newest first.
//! Invariants: every condition says both what to read of its table and whether a row fits, and both
//! say the same; how much is read before an answer is bounded, unless conditions that many calls
//! meet exclude each other; one search sees one state of the index.
//! Non-goals: ranking; the beginning of an id (see `cli::store`).
//! Sources: docs/archive.md, "The index".
//!
//! The plain version: walk the calls from the newest to the oldest, keep those that fit, stop when
//! there are enough. That is fast where many fit. Where few do, the tables of the conditions know
//! them, so:
//! 1. Read each condition's calls, up to `few`. Those that have no more are *known*.
//! 2. If one is known: what all known ones share, newest first, and the others checked row by row.
//! 3. If none is: each is met by many, so walk `walk_rows`; mostly the page is full by then.
//! 4. If it is not, repeat 1 and 2 with `many`; if still none is known, walk to the end.

use rusqlite::{Connection, Row, ToSql, params};

use super::index::sip_call_id_key;
use super::index_number::NumberPattern;
use super::index_write::sip_call_ids_in;

/// How far a step goes before the next is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probes {
    /// Calls read of each condition at first.
    few: usize,
    /// Calls looked at by the first walk.
    walk_rows: usize,
    /// Calls read of each condition when the first walk found too little.
    many: usize,
}

/// Each step is some milliseconds.
pub(super) const PROBES: Probes = Probes { few: 4_000, walk_rows: 10_000, many: 100_000 };

/// Bounds that make tests with a few calls take every way.
#[cfg(test)]
pub(super) const PROBES_TESTED: [Probes; 4] = [
    PROBES,
    Probes { few: 0, walk_rows: 0, many: 0 },
    Probes { few: 2, walk_rows: 3, many: 10 },
    Probes { few: 0, walk_rows: 5, many: 1_000 },
];

/// What to list. Everything that is given must be true of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Calls that began at this time or later, in nanoseconds since the epoch.
    pub from_ns: Option<i64>,
    /// Calls that began before this time.
    pub to_ns: Option<i64>,
    /// Calls whose caller or callee has this number, or one that ends with it; with a trailing `*`,
    /// one that begins with it.
    pub number: Option<String>,
    /// Calls that were talked for so long or longer, from the answer to the end.
    pub duration_ms_min: Option<i64>,
    /// Calls that were talked for so long or shorter.
    pub duration_ms_max: Option<i64>,
    /// Calls with a stream of this codec, in any case.
    pub codec: Option<String>,
    /// Calls whose worst stream has a MOS below this, in thousandths.
    pub mos_milli_below: Option<i64>,
    /// Calls whose worst stream has a MOS above this, in thousandths.
    pub mos_milli_above: Option<i64>,
    /// Calls with a dialog of this Call-ID.
    pub sip_call_id: Option<String>,
    /// Calls in this state.
    pub state: Option<String>,
    /// Only the newest so many.
    pub limit: Option<u32>,
}

/// Where a call stands in the index: its start and its key.
pub(super) type Place = (i64, i64);

/// Places of the calls that match, the newest first.
pub(super) fn search(
    connection: &Connection,
    query: &Query,
    probes: Probes,
) -> rusqlite::Result<Vec<Place>> {
    let Some(wanted) = Wanted::read(query) else { return Ok(Vec::new()) };
    if wanted.conditions.is_empty() {
        return wanted.walk(connection, usize::MAX).map(|walked| walked.found);
    }
    if let Some(found) = wanted.known_to_fit(connection, probes.few, 0)? {
        return Ok(found);
    }
    if query.limit.is_some() {
        let walked = wanted.walk(connection, probes.walk_rows)?;
        if walked.is_done {
            return Ok(walked.found);
        }
        if let Some(found) = wanted.known_to_fit(connection, probes.many, probes.walk_rows)? {
            return Ok(found);
        }
    }
    wanted.walk(connection, usize::MAX).map(|walked| walked.found)
}

/// A query, checked and taken apart.
struct Wanted {
    first_ns: i64,
    last_ns: i64,
    limit: usize,
    conditions: Vec<Condition>,
}

struct Walked {
    found: Vec<Place>,
    /// Nothing is left that could be found.
    is_done: bool,
}

impl Wanted {
    /// Nothing where no call can match.
    fn read(query: &Query) -> Option<Self> {
        // `to_ns` is exclusive; without it even the last nanosecond there is belongs to the list.
        let last_ns = query.to_ns.map_or(Some(i64::MAX), |to_ns| to_ns.checked_sub(1))?;
        // In this order they are read and checked: numbers take the longest.
        let mut conditions = Vec::new();
        if let Some(text) = &query.sip_call_id {
            conditions.push(Condition::SipCallId(text.clone()));
        }
        if query.duration_ms_min.is_some() || query.duration_ms_max.is_some() {
            let least = query.duration_ms_min.unwrap_or(0);
            let most = query.duration_ms_max.unwrap_or(i64::MAX);
            conditions.push(Condition::Duration { least, most });
        }
        if let Some(name) = &query.codec {
            conditions.push(Condition::Codec(name.to_uppercase()));
        }
        if query.mos_milli_below.is_some() || query.mos_milli_above.is_some() {
            let least = query.mos_milli_above.map_or(i64::MIN, |above| above.saturating_add(1));
            let most = query.mos_milli_below.map_or(i64::MAX, |below| below.saturating_sub(1));
            conditions.push(Condition::Mos { least, most });
        }
        if let Some(state) = &query.state {
            conditions.push(Condition::State(state.clone()));
        }
        if let Some(text) = &query.number {
            conditions.push(Condition::Number(NumberPattern::new(text)));
        }
        let limit = query.limit.and_then(|limit| usize::try_from(limit).ok());
        Some(Self {
            first_ns: query.from_ns.unwrap_or(i64::MIN),
            last_ns,
            limit: limit.unwrap_or(usize::MAX),
            conditions,
        })
    }

    /// Step 1 and 2: the answer from conditions that at most `most` calls meet, if there is one.
    /// `enough`: when no more are left, they are checked one by one, and no other table is read.
    fn known_to_fit(
        &self,
        connection: &Connection,
        most: usize,
        enough: usize,
    ) -> rusqlite::Result<Option<Vec<Place>>> {
        let (mut shared, mut others) = (None::<Vec<Place>>, Vec::new());
        for condition in &self.conditions {
            let is_enough = shared.as_ref().is_some_and(|places| places.len() <= enough);
            let known = if is_enough { None } else { condition.probe(connection, most)? };
            let Some(mut places) = known else {
                others.push(condition);
                continue;
            };
            places.retain(|place| (self.first_ns..=self.last_ns).contains(&place.0));
            places.sort_unstable_by(|left, right| right.cmp(left));
            places.dedup();
            if let Some(before) = shared {
                places.retain(|place| before.binary_search_by(|other| place.cmp(other)).is_ok());
            }
            if places.is_empty() {
                return Ok(Some(places));
            }
            shared = Some(places);
        }
        let Some(mut places) = shared else { return Ok(None) };
        if others.is_empty() {
            places.truncate(self.limit);
            return Ok(Some(places));
        }
        let mut statement = connection.prepare_cached(ONE)?;
        let mut found = Vec::new();
        for place in places {
            if found.len() >= self.limit {
                break;
            }
            let fits = statement.query_row([place.0, place.1], |row| fits_all(&others, row, 0))?;
            if fits {
                found.push(place);
            }
        }
        Ok(Some(found))
    }

    /// Step 3 and 4: looks at the newest `rows_most` calls of the time that is asked for.
    fn walk(&self, connection: &Connection, rows_most: usize) -> rusqlite::Result<Walked> {
        const ALL: &str = "SELECT started_ns, call FROM calls
            WHERE started_ns BETWEEN ?1 AND ?2 ORDER BY started_ns DESC, call DESC";
        const SQL: &str = "SELECT started_ns, call, duration_ms, mos_milli, state, codecs,
            caller_number, callee_number FROM calls
            WHERE started_ns BETWEEN ?1 AND ?2 ORDER BY started_ns DESC, call DESC";
        let conditions: Vec<&Condition> = self.conditions.iter().collect();
        let mut statement =
            connection.prepare_cached(if conditions.is_empty() { ALL } else { SQL })?;
        let mut rows = statement.query([self.first_ns, self.last_ns])?;
        let (mut found, mut looked_at) = (Vec::new(), 0_usize);
        while found.len() < self.limit {
            if looked_at >= rows_most {
                return Ok(Walked { found, is_done: false });
            }
            let Some(row) = rows.next()? else { break };
            looked_at += 1;
            if fits_all(&conditions, row, 2)? {
                found.push((row.get(0)?, row.get(1)?));
            }
        }
        Ok(Walked { found, is_done: true })
    }
}

/// `first`: the column of `duration_ms`.
fn fits_all(conditions: &[&Condition], row: &Row<'_>, first: usize) -> rusqlite::Result<bool> {
    for condition in conditions {
        if !condition.fits(row, first)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One thing that must be true of a call.
enum Condition {
    Number(NumberPattern),
    Duration { least: i64, most: i64 },
    Mos { least: i64, most: i64 },
    Codec(String),
    State(String),
    SipCallId(String),
}

impl Condition {
    /// The calls that meet it, in any order and perhaps twice; nothing if there are more than
    /// `most`, or if no table knows.
    fn probe(&self, connection: &Connection, most: usize) -> rusqlite::Result<Option<Vec<Place>>> {
        let mut places = Vec::new();
        let mut read = |sql: &str, low: &dyn ToSql, high: &dyn ToSql| -> rusqlite::Result<bool> {
            let room = i64::try_from(most + 1 - places.len()).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![low, high, room])?;
            while let Some(row) = rows.next()? {
                places.push((row.get(0)?, row.get(1)?));
            }
            Ok(places.len() > most)
        };
        let has_more = match self {
            Self::Number(pattern) => {
                let mut ranges = pattern.ranges().iter();
                ranges.try_fold(false, |has_more, range| {
                    Ok::<_, rusqlite::Error>(has_more || read(NUMBERS, &range.low, &range.beyond)?)
                })?
            }
            Self::Duration { least, most } => read(DURATIONS, least, most)?,
            Self::Mos { least, most } => read(QUALITIES, least, most)?,
            Self::Codec(name) => read(CODECS, name, name)?,
            Self::State(state) if state == "ended" => return Ok(None),
            Self::State(state) => read(STATES, state, state)?,
            // Whoever sends a Call-ID a million times makes this one search slow.
            Self::SipCallId(text) => return with_sip_call_id(connection, text).map(Some),
        };
        Ok((!has_more).then_some(places))
    }

    /// Whether a row of `calls` meets it; `first` is the column of `duration_ms`.
    fn fits(&self, row: &Row<'_>, first: usize) -> rusqlite::Result<bool> {
        let within = |column: usize, least: i64, most: i64| -> rusqlite::Result<bool> {
            let value: Option<i64> = row.get(column)?;
            Ok(value.is_some_and(|value| (least..=most).contains(&value)))
        };
        let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        match self {
            Self::Duration { least, most } => within(first, *least, *most),
            Self::Mos { least, most } => within(first + 1, *least, *most),
            Self::State(state) => Ok(text(first + 2)? == state),
            Self::Codec(name) => Ok(text(first + 3)?.split(' ').any(|codec| codec == name)),
            Self::Number(pattern) => {
                let callees = text(first + 5)?;
                Ok(pattern.matches(text(first + 4)?)
                    || callees.split('\n').any(|number| pattern.matches(number)))
            }
            // Always known, so nobody asks.
            Self::SipCallId(_) => Ok(true),
        }
    }
}

/// Calls with a dialog of this Call-ID.
fn with_sip_call_id(connection: &Connection, text: &str) -> rusqlite::Result<Vec<Place>> {
    const SQL: &str = "SELECT calls.started_ns, calls.call, json FROM sip_call_ids AS found
        JOIN calls ON calls.started_ns = found.started_ns AND calls.call = found.call
        JOIN summaries ON summaries.id = summary WHERE hash = ?1";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut rows = statement.query([sip_call_id_key(text)])?;
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        // Two Call-IDs may have one hash.
        if sip_call_ids_in(row.get_ref(2)?.as_str()?).iter().any(|found| found == text) {
            places.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(places)
}

/// The columns from `duration_ms` on are those that [`Condition::fits`] reads.
const ONE: &str = "SELECT duration_ms, mos_milli, state, codecs, caller_number, callee_number
    FROM calls WHERE started_ns = ?1 AND call = ?2";
const NUMBERS: &str =
    "SELECT started_ns, call FROM numbers WHERE text >= ?1 AND text < ?2 LIMIT ?3";
const DURATIONS: &str = "SELECT started_ns, call FROM calls INDEXED BY calls_by_duration
    WHERE duration_ms BETWEEN ?1 AND ?2 LIMIT ?3";
const QUALITIES: &str = "SELECT started_ns, call FROM calls INDEXED BY calls_by_mos
    WHERE mos_milli BETWEEN ?1 AND ?2 LIMIT ?3";
const CODECS: &str = "SELECT started_ns, call FROM codecs WHERE name BETWEEN ?1 AND ?2 LIMIT ?3";
const STATES: &str = "SELECT started_ns, call FROM calls INDEXED BY calls_by_state
    WHERE state BETWEEN ?1 AND ?2 AND state <> 'ended' LIMIT ?3";
