//! The archive's thread: one writer, group commit.
//!
//! Purpose: take records from workers and correlator through a bounded queue, and commit them in
//! groups.
//! Invariants: what waited longest waits no longer than the commit interval allows; after a
//! failure nothing more is written, and everybody is told why.
//! Non-goals: the format (see `archive`).
//! Sources: none.

use super::stats::{COMMIT_BOUNDS_MS, Stats};
use crate::archive::{ArchiveError, Compression, Disk, RecordKind, Writer};
use crate::base::CallId;
use crate::base::limits::SEGMENT_AGE_MS_MAX;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use foldhash::fast::RandomState;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Records on their way; senders wait beyond it.
const QUEUE: usize = 1_024;
/// How long the end of a run waits for the way of the last checkpoint to be free.
const LAST_CHECKPOINT_WAIT: Duration = Duration::from_secs(2);

/// A group is committed at this size, before its time.
const GROUP_BYTES: usize = 8 << 20;

#[derive(Debug)]
enum Message {
    Append { call: CallId, kind: RecordKind, body: Vec<u8>, compression: Compression },
    TakeBack { call: CallId, reply: Sender<Vec<Vec<u8>>> },
    Finish,
}

/// The way to the archive; clones share it.
#[derive(Clone, Debug)]
pub struct ArchiveSender {
    queue: Sender<Message>,
    failure: Arc<OnceLock<String>>,
    stats: Arc<Stats>,
}

impl ArchiveSender {
    /// Sends one record; waits while the queue is full.
    pub fn append(&self, call: CallId, kind: RecordKind, body: Vec<u8>, compression: Compression) {
        // The receiver outlives the senders; after a failure it drops what comes.
        let _ = self.queue.send(Message::Append { call, kind, body, compression });
    }

    /// Sends a record of JSON.
    pub fn append_json(&self, call: CallId, kind: RecordKind, value: &impl Serialize) {
        if let Ok(body) = serde_json::to_vec(value) {
            self.append(call, kind, body, Compression::Lz4);
        }
    }

    /// The bodies of a call's spilled records that were not taken back yet, in order.
    #[must_use]
    pub fn take_back(&self, call: CallId) -> Vec<Vec<u8>> {
        let (reply, answer) = bounded(1);
        let sent = self.queue.send(Message::TakeBack { call, reply });
        sent.ok().and_then(|()| answer.recv().ok()).unwrap_or_default()
    }

    /// A way that ends in nothing: what is sent is dropped.
    #[must_use]
    pub fn to_nowhere(stats: Arc<Stats>) -> Self {
        Self { queue: bounded(1).0, failure: Arc::new(OnceLock::new()), stats }
    }

    /// Counts bytes that were put aside.
    pub fn count_spilled(&self, bytes: usize) {
        self.stats.spilled_bytes.add(u64::try_from(bytes).unwrap_or(0));
    }

    /// Counts one encoded slot.
    pub fn count_slot(&self) {
        self.stats.slots.add(1);
    }

    /// Why nothing is written any more, where that is so.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }
}

/// The archive's thread.
#[derive(Debug)]
pub struct ArchiveThread {
    sender: ArchiveSender,
    thread: JoinHandle<Result<(), ArchiveError>>,
}

impl ArchiveThread {
    /// Starts it. `commit_interval_ms`: at most this much audio is at risk, end to end. With the
    /// default of a second, 150 ms pass in a block and 450 ms in the timeline; a commit every 300 ms
    /// leaves a tenth of a second for the threads.
    ///
    /// # Errors
    /// When the system has no thread to give.
    ///
    /// `reserve_bytes`: below so many free bytes new calls are refused (`Stats::is_refusing`); 0: never.
    /// `checkpoints`: takes each new checkpoint; what it has no room for waits for the next commit.
    pub fn start<D: Disk + 'static>(
        writer: Writer<D>,
        commit_interval_ms: u64,
        reserve_bytes: u64,
        checkpoints: Option<Sender<String>>,
        stats: Arc<Stats>,
    ) -> std::io::Result<Self>
    where
        Writer<D>: Send,
    {
        let (queue, messages) = bounded(QUEUE);
        let failure = Arc::new(OnceLock::new());
        let sender =
            ArchiveSender { queue, failure: Arc::clone(&failure), stats: Arc::clone(&stats) };
        let period = Duration::from_millis((commit_interval_ms * 3 / 10).max(1));
        let mut keeper = Keeper {
            writer,
            failure,
            stats,
            taken_back: HashMap::default(),
            summaries: 0,
            segment_since: None,
            checkpoints,
            handed_on: None,
        };
        keeper.stats.archive_reserve_bytes.set(reserve_bytes);
        keeper.look_at_disk();
        let run = move || keeper.run(&messages, period);
        let thread = std::thread::Builder::new().name("callspan-archive".into()).spawn(run)?;
        Ok(Self { sender, thread })
    }

    /// A way to it.
    #[must_use]
    pub fn sender(&self) -> ArchiveSender {
        self.sender.clone()
    }

    /// Commits and seals what is there.
    ///
    /// # Errors
    /// The first failure of the archive, if there was one.
    pub fn finish(self) -> Result<(), ArchiveError> {
        let _ = self.sender.queue.send(Message::Finish);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

struct Keeper<D: Disk> {
    writer: Writer<D>,
    failure: Arc<OnceLock<String>>,
    stats: Arc<Stats>,
    /// How many spilled records of a call were given back.
    taken_back: HashMap<CallId, usize, RandomState>,
    /// Summaries since the last commit.
    summaries: u64,
    /// When the open segment got its first record.
    segment_since: Option<Instant>,
    checkpoints: Option<Sender<String>>,
    /// The checkpoint that was handed on last.
    handed_on: Option<String>,
}

impl<D: Disk> Keeper<D> {
    fn run(&mut self, messages: &Receiver<Message>, period: Duration) -> Result<(), ArchiveError> {
        let mut failed: Option<ArchiveError> = None;
        let mut due = Instant::now() + period;
        loop {
            let message = match messages.recv_deadline(due) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Finish),
            };
            let is_last = matches!(message, Some(Message::Finish));
            if failed.is_none() {
                let is_due = is_last || Instant::now() >= due;
                if let Err(error) = self.handle(message, is_due) {
                    let _ = self.failure.set(error.to_string());
                    failed = Some(error);
                }
            }
            if Instant::now() >= due {
                due = Instant::now() + period;
            }
            if is_last {
                let sealed = self.writer.seal();
                self.hand_on(LAST_CHECKPOINT_WAIT);
                return match failed {
                    Some(error) => Err(error),
                    None => sealed.map(|_| ()),
                };
            }
        }
    }

    fn handle(&mut self, message: Option<Message>, is_due: bool) -> Result<(), ArchiveError> {
        match message {
            Some(Message::Append { call, kind, body, compression }) => {
                self.writer.append(call, kind, &body, compression)?;
                self.summaries += u64::from(kind == RecordKind::Summary);
            }
            Some(Message::TakeBack { call, reply }) => {
                let bodies = self.take_back(call)?;
                let _ = reply.send(bodies);
            }
            Some(Message::Finish) | None => {}
        }
        if is_due || self.writer.buffered_bytes() >= GROUP_BYTES {
            self.commit()?;
            self.seal_old()?;
            self.hand_on(Duration::ZERO);
            self.look_at_disk();
        }
        Ok(())
    }

    /// Notes how much room is left.
    fn look_at_disk(&self) {
        if let Ok(free) = self.writer.disk().free_bytes() {
            self.stats.archive_free_bytes.set(free);
        }
    }

    /// Hands the newest checkpoint to whoever keeps it off the box.
    fn hand_on(&mut self, wait: Duration) {
        let (Some(to), Some(newest)) = (&self.checkpoints, self.writer.checkpoint()) else {
            return;
        };
        if self.handed_on.as_deref() != Some(newest)
            && to.send_timeout(newest.to_owned(), wait).is_ok()
        {
            self.handed_on = Some(newest.to_owned());
        }
    }

    /// On a quiet line a segment would stay unsigned for days.
    fn seal_old(&mut self) -> Result<(), ArchiveError> {
        let Some(since) = self.segment_since else { return Ok(()) };
        if since.elapsed() >= Duration::from_millis(SEGMENT_AGE_MS_MAX) {
            self.segment_since = None;
            self.writer.seal()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), ArchiveError> {
        if self.writer.buffered_bytes() == 0 {
            return Ok(());
        }
        let began = Instant::now();
        self.segment_since.get_or_insert(began);
        let committed = self.writer.commit()?;
        let spent = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.stats.archive_commit_ns.add(spent);
        let class = COMMIT_BOUNDS_MS.iter().position(|most| spent <= most * 1_000_000);
        let class = class.unwrap_or(COMMIT_BOUNDS_MS.len());
        if let Some(count) = self.stats.archive_commit_buckets.get(class) {
            count.add(1);
        }
        self.stats.archive_commits.add(1);
        self.stats.archive_bytes.add(committed.bytes);
        self.stats.summaries_committed.add(std::mem::take(&mut self.summaries));
        Ok(())
    }

    fn take_back(&mut self, call: CallId) -> Result<Vec<Vec<u8>>, ArchiveError> {
        self.commit()?;
        let records = self.writer.read_call(call)?;
        let spilled: Vec<Vec<u8>> = records
            .into_iter()
            .filter(|record| record.kind == RecordKind::Spill)
            .map(|record| record.body)
            .collect();
        let taken = self.taken_back.insert(call, spilled.len()).unwrap_or(0);
        Ok(spilled.into_iter().skip(taken).collect())
    }
}
