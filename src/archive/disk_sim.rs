//! A disk in memory that fills up, fails and is unplugged on command.
//!
//! Purpose: drive the archive through every way that storage can fail, from a seed.
//! Invariants: there is a live image (what a read returns) and a durable one (what a power cut
//! leaves); only `sync_data` and `sync_dir` move bytes and names from the one to the other.
//! Non-goals: speed, and concurrency beyond a shared handle.
//! Sources: "Can Applications Recover from fsync Failures?" (USENIX ATC 2020): a failed sync marks
//! pages clean, so later syncs succeed without them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, IndexPlace};

/// A simulated disk; clones are handles to the same one, each with a lock of its own.
#[derive(Debug, Default)]
pub struct DiskSim {
    state: Arc<Mutex<State>>,
    held: Vec<String>,
}

/// A file of a simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimFile(u64);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameChange>,
    files: BTreeMap<u64, SimData>,
    next_file: u64,
    locked: BTreeSet<String>,
    /// Bytes of all files together, at most.
    capacity: Option<u64>,
    /// Bytes that may still be written before "no space left".
    write_budget: Option<u64>,
    /// Syncs of contents so far, and those that fail (from 1).
    syncs: u64,
    failing_syncs: Vec<u64>,
    /// Changes so far, and after how many the machine is gone.
    steps: u64,
    stop_after: Option<u64>,
    random: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Add(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct SimData {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    SetLen(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Write(offset, written) => {
                let end = offset.saturating_add(written.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(*offset..end) {
                    place.copy_from_slice(written);
                }
            }
        }
    }
}

/// A small generator (splitmix64): the same seed, the same crash.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }
}

impl Clone for DiskSim {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state), held: Vec::new() }
    }
}

impl Drop for DiskSim {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        let mut state = self.state();
        for name in held {
            state.locked.remove(&name);
        }
    }
}

impl DiskSim {
    /// An empty disk without limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All files together may have `bytes` bytes, preallocated ones counted whole; a write that would
    /// make a file grow beyond that stops half-way. `None`: any.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// After `bytes` more bytes, writes stop half-way with "no space left", as on a file system
    /// whose preallocation promises nothing; `None`: never.
    pub fn set_write_budget(&self, bytes: Option<u64>) {
        self.state().write_budget = bytes;
    }

    /// The `number`-th sync of contents from now on fails (1 is the next), and what it should have
    /// made durable never will be.
    pub fn fail_sync(&self, number: u64) {
        let mut state = self.state();
        let number = state.syncs.saturating_add(number);
        state.failing_syncs.push(number);
    }

    /// After `steps` more changes the machine is gone: every change fails.
    pub fn stop_after(&self, steps: u64) {
        let mut state = self.state();
        state.stop_after = Some(state.steps.saturating_add(steps));
    }

    /// Changes so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The disk after a power cut: what was synced, and of the rest what `seed` chooses — each
    /// write whole, torn or not at all, the names up to some point.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let mut random = Random(seed);
        let mut names = state.durable_names.clone();
        let kept = random.below(state.pending_names.len() + 1);
        state.pending_names.iter().take(kept).for_each(|change| change.apply(&mut names));
        let mut files = BTreeMap::new();
        for (number, data) in &state.files {
            let mut bytes = data.durable.clone();
            for change in &data.pending {
                match (random.below(3), change) {
                    (0, _) => {}
                    (1, Change::Write(offset, written)) => {
                        let torn = written.iter().take(random.below(written.len() + 1));
                        Change::Write(*offset, torn.copied().collect()).apply(&mut bytes);
                    }
                    (_, change) => change.apply(&mut bytes),
                }
            }
            files.insert(*number, SimData { live: bytes.clone(), durable: bytes, pending: vec![] });
        }
        Self::of(names, files, &state)
    }

    /// The disk after the process alone was killed: everything written is there to read, and what was
    /// not synced is not durable yet.
    #[must_use]
    pub fn kill(&self) -> Self {
        let state = self.state();
        let killed = Self::of(state.names.clone(), state.files.clone(), &state);
        let mut after = killed.state();
        after.durable_names.clone_from(&state.durable_names);
        after.pending_names.clone_from(&state.pending_names);
        drop(after);
        killed
    }

    fn of(names: BTreeMap<String, u64>, files: BTreeMap<u64, SimData>, before: &State) -> Self {
        let durable_names = names.clone();
        // Random bytes go on: a machine that starts again does not draw the same ones.
        let (next_file, random) = (before.next_file, before.random);
        let state = State { names, durable_names, files, next_file, random, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), held: Vec::new() }
    }

    /// The live bytes of a file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.files.get(state.names.get(name)?)?.live.clone())
    }

    /// Puts a file there, durable at once: to plant damage.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let number = state.new_number();
        let data = SimData { live: bytes.to_vec(), durable: bytes.to_vec(), pending: vec![] };
        state.files.insert(number, data);
        state.names.insert(name.to_owned(), number);
        state.durable_names.insert(name.to_owned(), number);
    }
}

impl State {
    fn new_number(&mut self) -> u64 {
        self.next_file = self.next_file.saturating_add(1);
        self.next_file
    }

    /// Every change of the disk begins here.
    fn step(&mut self) -> io::Result<()> {
        if self.stop_after.is_some_and(|stop| self.steps >= stop) {
            return Err(io::Error::other("the simulated machine is off"));
        }
        self.steps = self.steps.saturating_add(1);
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|file| self.files.get(file))
            .map(|d| d.live.len() as u64)
            .sum()
    }

    fn file(&mut self, file: SimFile) -> io::Result<&mut SimData> {
        self.files.get_mut(&file.0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, file: SimFile, change: Change) -> io::Result<()> {
        let data = self.file(file)?;
        change.apply(&mut data.live);
        data.pending.push(change);
        Ok(())
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    /// Bytes that find room in a file from `offset` on: those it has, and as many as are free.
    fn room_at(&self, file: SimFile, offset: usize) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let len = self.files.get(&file.0).map_or(0, |data| data.live.len());
        let free = capacity.saturating_sub(self.used());
        len.saturating_add(usize::try_from(free).unwrap_or(usize::MAX)).saturating_sub(offset)
    }

    /// How many of `wanted` bytes can still be written.
    fn spend(&mut self, wanted: usize) -> usize {
        let Some(budget) = self.write_budget else { return wanted };
        let granted = wanted.min(usize::try_from(budget).unwrap_or(usize::MAX));
        self.write_budget = Some(budget.saturating_sub(granted as u64));
        granted
    }
}

impl Disk for DiskSim {
    type File = SimFile;

    fn create_preallocated(&mut self, name: &str, len_bytes: u64) -> io::Result<SimFile> {
        let mut state = self.state();
        state.step()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let total = state.used().saturating_add(len_bytes);
        if state.capacity.is_some_and(|capacity| total > capacity) || state.write_budget == Some(0)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = state.new_number();
        state.files.insert(number, SimData::default());
        let len = usize::try_from(len_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        state.change(SimFile(number), Change::SetLen(len))?;
        state.rename(NameChange::Add(name.to_owned(), number));
        Ok(SimFile(number))
    }

    fn open_read(&self, name: &str) -> io::Result<SimFile> {
        let state = self.state();
        let number = state.names.get(name).copied();
        number.map(SimFile).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_write(&mut self, name: &str) -> io::Result<SimFile> {
        self.open_read(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let inside = state.names.keys().filter_map(|name| name.strip_prefix(&prefix));
        let mut names: Vec<String> =
            inside.filter_map(|name| name.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }

    fn len_bytes(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.state().file(*file)?.live.len() as u64)
    }

    fn modified_ns(&self, _file: &SimFile) -> io::Result<i64> {
        // The clock of this disk counts changes, so that a run is the same each time.
        Ok(i64::try_from(self.state().steps).unwrap_or(i64::MAX))
    }

    fn read_at(&self, file: &SimFile, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        let live = &state.file(*file)?.live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = live.get(start..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out.iter_mut().zip(rest).for_each(|(out, byte)| *out = *byte);
        Ok(count)
    }

    fn write_at(&mut self, file: &SimFile, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let mut bytes: Vec<u8> = Vec::new();
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        let wanted = bytes.len();
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        bytes.truncate(state.room_at(*file, offset));
        bytes.truncate(state.spend(bytes.len()));
        let short = bytes.len() < wanted;
        state.change(*file, Change::Write(offset, bytes))?;
        if short { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&mut self, file: &SimFile) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.syncs = state.syncs.saturating_add(1);
        let fails = state.failing_syncs.contains(&state.syncs);
        let data = state.file(*file)?;
        let pending = std::mem::take(&mut data.pending);
        if fails {
            // The pages are marked clean: the next sync succeeds without them.
            return Err(io::Error::other("simulated failing sync"));
        }
        for change in &pending {
            change.apply(&mut data.durable);
        }
        Ok(())
    }

    fn sync_dir(&mut self, _dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let pending = std::mem::take(&mut state.pending_names);
        for change in &pending {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn truncate(&mut self, file: &SimFile, len_bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let len = usize::try_from(len_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        state.change(*file, Change::SetLen(len))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn create_dir(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        let room = state.capacity.map_or(u64::MAX, |all| all.saturating_sub(state.used()));
        Ok(room.min(state.write_budget.unwrap_or(u64::MAX)))
    }

    fn lock(&mut self, name: &str) -> io::Result<()> {
        if !self.held.iter().any(|held| held == name) {
            if !self.state().locked.insert(name.to_owned()) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.held.push(name.to_owned());
        }
        Ok(())
    }

    fn random(&mut self, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        let mut random = Random(state.random);
        out.fill_with(|| random.next().to_le_bytes()[0]);
        state.random = random.0;
        Ok(())
    }

    fn index_place(&self) -> IndexPlace {
        IndexPlace::Memory
    }

    fn place(&self) -> String {
        "a simulated disk".to_owned()
    }
}
