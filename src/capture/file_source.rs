//! Capture files as a source of frames, merged by time.
//!
//! Purpose: any number of pcap and pcapng files, plain or packed, as one stream of frames.
//! Invariants: time never decreases (a step back is clamped and counted); every frame read is
//! either handed over or counted in `filtered`; all whole frames come before the error that a
//! damaged file ends with, those of the other files included.
//! Non-goals: sorting within a file, and following a file that grows.
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{CaptureError, ErrorClass};
use super::filter::Filter;
use super::input::Input;
use super::pcap_file::PcapReader;
use super::pcapng_file::{PcapngReader, SECTION_HEADER};
use super::record::{ReadFault, Reader, Record};
use crate::base::{
    Frame, FrameSink, FrameSource, KernelCounts, LinkType, PacketTime, Polled, limits,
};
use crate::tls::{KeyLog, KeyLogParser};

/// Frames of capture files.
pub struct FileSource {
    files: Vec<Member>,
    /// Files by the time of their next frame, then by their place on the command line.
    queue: BinaryHeap<Reverse<(PacketTime, usize)>>,
    /// Files whose next frame is not known yet: no later frame may overtake it. At most one but for
    /// silent pipes.
    behind: Vec<usize>,
    faults: VecDeque<CaptureError>,
    filters: Filters,
    order: Order,
    /// What secrets blocks of the files said.
    key_log: KeyLog,
}

/// What went by.
struct Order {
    last_time: PacketTime,
    /// Frames that were older than the one before.
    time_steps: u64,
    filtered: u64,
}

/// Whether a file could be moved on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advanced {
    /// Its next frame is queued, or it ended.
    Done,
    /// It is a pipe that has nothing for now.
    NotYet,
}

/// One file of the merge.
struct Member {
    path: PathBuf,
    place: Place,
    /// Bytes read and bytes in all, while it is not open.
    progress: (u64, u64),
}

enum Place {
    /// Being read.
    Open(Box<Opened>),
    /// Closed until the time of its first frame comes.
    Parked,
    /// Nothing more comes of it.
    Ended,
}

/// A file that is being read.
struct Opened {
    input: Input,
    reader: Reader,
    /// Its next frame, if that is known.
    head: Option<Record>,
}

impl FileSource {
    /// Opens all files; `-` is standard input. `filter` is an expression of pcap-filter(7).
    ///
    /// All are read through a bounded buffer. Formats are told by content. This waits for the file header of a pipe.
    ///
    /// # Errors
    /// `NoSuchFile`, `Unreadable`, `NotACapture`, `SameFileTwice`, `TooManyFiles`, `BadFilter`;
    /// damage is reported by `poll`, after the frames before it.
    pub fn open(paths: &[PathBuf], filter: Option<&str>) -> Result<Self, CaptureError> {
        if paths.len() > limits::CAPTURE_FILES_MAX {
            let (count, max) = (paths.len(), limits::CAPTURE_FILES_MAX);
            return Err(CaptureError::TooManyFiles { count, max });
        }
        let mut seen = Vec::new();
        for path in paths {
            seen.push((identity_of(path)?, path));
        }
        refuse_same_file(&seen)?;
        let mut source = Self::empty(filter);
        let keep_open = paths.len() <= limits::CAPTURE_FILES_OPEN;
        for path in paths {
            let file = open_path(path)?;
            let parkable = !keep_open && file.metadata().is_ok_and(|metadata| metadata.is_file());
            let input = Input::open(file).map_err(|error| unreadable(path, error))?;
            let index = source.add(path, input)?;
            if parkable && path != Path::new("-") {
                source.park(index);
            }
        }
        source.check_filter()?;
        Ok(source)
    }

    /// One capture in memory, for fuzzing and tests; gzip and zstd are unpacked.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(data: Vec<u8>, filter: Option<&str>) -> Result<Self, CaptureError> {
        let path = Path::new("memory");
        let mut source = Self::empty(filter);
        let input = Input::from_memory(data).map_err(|error| unreadable(path, error))?;
        source.add(path, input)?;
        source.check_filter()?;
        Ok(source)
    }

    /// The TLS secrets that stand in the files (pcapng), as far as they were read; those at a file's beginning are
    /// there from the start.
    #[must_use]
    pub const fn key_log(&self) -> &KeyLog {
        &self.key_log
    }

    /// How often time stepped back (and was clamped).
    #[must_use]
    pub const fn time_steps(&self) -> u64 {
        self.order.time_steps
    }

    /// Frames read but not handed over, because the filter refused them.
    #[must_use]
    pub const fn filtered(&self) -> u64 {
        self.order.filtered
    }

    /// Bytes read and bytes in all, as they stand on disk; a pipe's size is what was read of it.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        self.files.iter().fold((0, 0), |(read, total), file| {
            let (file_read, file_total) = match &file.place {
                Place::Open(opened) => opened.input.progress(),
                Place::Parked | Place::Ended => file.progress,
            };
            (u64::saturating_add(read, file_read), u64::saturating_add(total, file_total))
        })
    }

    fn empty(filter: Option<&str>) -> Self {
        Self {
            files: Vec::new(),
            queue: BinaryHeap::new(),
            behind: Vec::new(),
            faults: VecDeque::new(),
            filters: Filters {
                text: filter.map(str::to_owned),
                links: BTreeSet::new(),
                compiled: Vec::new(),
            },
            order: Order { last_time: PacketTime::MIN, time_steps: 0, filtered: 0 },
            key_log: KeyLog::new(),
        }
    }

    /// Adds a file and looks for its first frame; returns the file's place in the list.
    fn add(&mut self, path: &Path, input: Input) -> Result<usize, CaptureError> {
        let index = self.files.len();
        let progress = input.progress();
        let place = match Opened::begin(path, input) {
            Ok(opened) => Place::Open(Box::new(opened)),
            // Cut off within its header: to be told after the frames of the others.
            Err(error) if error.class() == ErrorClass::Incomplete => {
                self.faults.push_back(error);
                Place::Ended
            }
            Err(error) => return Err(error),
        };
        self.files.push(Member { path: path.to_owned(), place, progress });
        if self.advance(index) == Advanced::NotYet {
            self.behind.push(index);
        }
        Ok(index)
    }

    /// Closes a file whose first frame is queued, until that frame's time has come.
    fn park(&mut self, index: usize) {
        let Some(file) = self.files.get_mut(index) else { return };
        let Place::Open(opened) = &file.place else { return };
        let Some(record) = opened.head else { return };
        self.filters.links.insert(record.link);
        file.progress.0 = 0;
        file.place = Place::Parked;
    }

    /// Opens a parked file again, at its first frame.
    fn unpark(&mut self, index: usize) {
        let Some(file) = self.files.get_mut(index) else { return };
        if !matches!(file.place, Place::Parked) {
            return;
        }
        file.place = Place::Ended;
        let reopened = open_path(&file.path).and_then(|again| {
            let input = Input::open(again).map_err(|error| unreadable(&file.path, error))?;
            let mut opened = Opened::begin(&file.path, input)?;
            let at = opened.input.position();
            let next = opened.reader.next(&mut opened.input);
            opened.head = next.map_err(|fault| explain(fault, &file.path, at))?;
            Ok(opened)
        });
        match reopened {
            Ok(opened) => file.place = Place::Open(Box::new(opened)),
            Err(error) => self.faults.push_back(error),
        }
    }

    /// A filter that cannot be said for any of the link types that the files begin with is a
    /// mistake; one that cannot be said for some matches nothing there.
    fn check_filter(&mut self) -> Result<(), CaptureError> {
        for file in &self.files {
            if let Place::Open(opened) = &file.place {
                self.filters.links.extend(opened.head.map(|record| record.link));
            }
        }
        if self.filters.links.is_empty() {
            self.filters.links.insert(LinkType::Ethernet);
        }
        let links = std::mem::take(&mut self.filters.links);
        let mut refused = Ok(());
        for link in links {
            match self.filters.prepare(link) {
                Ok(()) => return Ok(()),
                error => refused = error,
            }
        }
        refused
    }

    /// Moves a file to its next frame, and queues it by that frame's time.
    fn advance(&mut self, index: usize) -> Advanced {
        let Some(file) = self.files.get_mut(index) else { return Advanced::Done };
        let Place::Open(opened) = &mut file.place else { return Advanced::Done };
        let mut at = opened.input.position();
        let mut consumed = Ok(());
        if let Some(record) = opened.head.take() {
            consumed = opened.input.skip(record.advance_bytes);
            if consumed.is_ok() {
                at = opened.input.position();
            }
        }
        let next = consumed.and_then(|()| opened.reader.next(&mut opened.input));
        if let Some(secrets) = opened.reader.take_secrets() {
            KeyLogParser::new().push(&secrets, &self.key_log);
        }
        match next {
            Ok(Some(record)) => {
                opened.head = Some(record);
                self.queue.push(Reverse((record.time, index)));
                return Advanced::Done;
            }
            Ok(None) => {}
            Err(ReadFault::NotYet) => return Advanced::NotYet,
            Err(fault) => self.faults.push_back(explain(fault, &file.path, at)),
        }
        file.progress = opened.input.progress();
        file.place = Place::Ended;
        Advanced::Done
    }

    /// Moves on all files whose next frame is not known yet, as far as that needs no waiting once
    /// frames were handed over.
    fn catch_up(&mut self, handed_over: usize) -> Advanced {
        while let Some(index) = self.behind.last().copied() {
            let starved = self.files.get(index).is_some_and(Member::is_starved);
            if handed_over > 0 && starved || self.advance(index) == Advanced::NotYet {
                return Advanced::NotYet;
            }
            self.behind.pop();
        }
        Advanced::Done
    }

    fn hand_over(&mut self, index: usize, sink: &mut dyn FrameSink) {
        self.unpark(index);
        let Some(Member { place: Place::Open(opened), .. }) = self.files.get(index) else { return };
        let Some(record) = opened.head else { return };
        self.order.hand_over(&record, opened.input.window(), &mut self.filters, sink);
    }

    /// Hands over up to `most` frames of the only file behind its head, which was handed over: there is no
    /// order among files to keep. Whatever is not a whole frame at hand is left to `advance`.
    fn read_on(&mut self, most: usize, sink: &mut dyn FrameSink) -> usize {
        let Some(Member { place: Place::Open(opened), .. }) = self.files.first_mut() else {
            return 0;
        };
        let Opened { input, reader: Reader::Pcap(reader), head } = &mut **opened else { return 0 };
        let Some(mut record) = head.take() else { return 0 };
        let mut read = 0;
        loop {
            let behind = usize::try_from(record.advance_bytes).unwrap_or(usize::MAX);
            let rest = input.window().get(behind..).unwrap_or_default();
            if read >= most || !reader.is_whole(rest) {
                *head = Some(record);
                return read;
            }
            // Neither can fail: so many bytes are there.
            let _ = input.skip(record.advance_bytes);
            let Ok(Some(next)) = reader.next(input) else { return read };
            record = next;
            self.order.hand_over(&record, input.window(), &mut self.filters, sink);
            read = read.saturating_add(1);
        }
    }
}

impl Order {
    fn hand_over(
        &mut self,
        record: &Record,
        window: &[u8],
        filters: &mut Filters,
        sink: &mut dyn FrameSink,
    ) {
        let end = record.start.saturating_add(record.len_bytes);
        let bytes = window.get(record.start..end).unwrap_or_default();
        if record.time < self.last_time {
            self.time_steps = self.time_steps.saturating_add(1);
        }
        self.last_time = self.last_time.max(record.time);
        if filters.refuse(record.link, bytes) {
            self.filtered = self.filtered.saturating_add(1);
            return;
        }
        let (time, link, wire_len_bytes) = (self.last_time, record.link, record.wire_len_bytes);
        sink.frame(Frame { time, link, bytes, wire_len_bytes });
    }
}

impl FrameSource for FileSource {
    type Error = CaptureError;

    /// Hands over up to 1 024 frames; fewer where a pipe would have to be waited for. `Idle`, with
    /// the time of the last frame, is a pipe that was silent for a moment. Once all frames of all
    /// files are out, each damaged file gives one error, and then comes `End`.
    fn poll(&mut self, sink: &mut dyn FrameSink) -> Result<Polled, CaptureError> {
        let mut read = 0;
        while read < limits::CAPTURE_BATCH_FRAMES {
            if self.catch_up(read) == Advanced::NotYet {
                let now = self.order.last_time;
                return Ok(if read > 0 { Polled::Frames } else { Polled::Idle { now } });
            }
            let Some(Reverse((_, index))) = self.queue.pop() else { break };
            self.hand_over(index, sink);
            self.behind.push(index);
            read = read.saturating_add(1);
            if self.files.len() == 1 {
                read = read.saturating_add(self.read_on(limits::CAPTURE_BATCH_FRAMES - read, sink));
            }
        }
        if read > 0 {
            return Ok(Polled::Frames);
        }
        self.faults.pop_front().map_or(Ok(Polled::End), Err)
    }

    fn kernel_counts(&mut self) -> KernelCounts {
        KernelCounts::default()
    }
}

impl Member {
    fn is_starved(&self) -> bool {
        matches!(&self.place, Place::Open(opened) if opened.input.is_starved())
    }
}

impl Opened {
    /// Reads the file header.
    fn begin(path: &Path, mut input: Input) -> Result<Self, CaptureError> {
        // The longest header; a pipe is waited for here, since nothing can be said before.
        let filled = loop {
            match input.ensure(24) {
                Err(ReadFault::NotYet) => {}
                filled => break filled,
            }
        };
        match filled.and_then(|_| recognise(&mut input)) {
            Ok(Ok(reader)) => Ok(Self { input, reader, head: None }),
            Ok(Err(hint)) => Err(CaptureError::NotACapture { path: path.to_owned(), hint }),
            Err(fault) => Err(explain(fault, path, input.position())),
        }
    }
}

/// The filter expression, compiled once for each link type that occurs.
struct Filters {
    text: Option<String>,
    /// Link types that files begin with, until the expression was checked against them.
    links: BTreeSet<LinkType>,
    /// `None`: the expression cannot be said for this link type, so it matches nothing there.
    /// Few entries: link types that occur in files at once can be counted on one hand, and the
    /// registry itself bounds them.
    compiled: Vec<(LinkType, Option<Filter>)>,
}

impl Filters {
    fn prepare(&mut self, link: LinkType) -> Result<(), CaptureError> {
        let Some(text) = &self.text else { return Ok(()) };
        let filter = Filter::compile(text, link)?;
        self.compiled.push((link, Some(filter)));
        Ok(())
    }

    fn refuse(&mut self, link: LinkType, bytes: &[u8]) -> bool {
        let Some(text) = &self.text else { return false };
        if !self.compiled.iter().any(|(known, _)| *known == link) {
            self.compiled.push((link, Filter::compile(text, link).ok()));
        }
        let mut entries = self.compiled.iter();
        let filter =
            entries.find(|(known, _)| *known == link).and_then(|(_, filter)| filter.as_ref());
        !filter.is_some_and(|filter| filter.matches(bytes))
    }
}

/// The reader for what the first bytes say, or what to tell the user they are.
fn recognise(input: &mut Input) -> Result<Result<Reader, &'static str>, ReadFault> {
    let window = input.window();
    let Some(magic) = window.first_chunk::<4>().copied() else {
        return Ok(Err(if window.is_empty() {
            "it is empty; was it copied whole?"
        } else {
            "it is too short; was it copied whole?"
        }));
    };
    if magic == SECTION_HEADER {
        return Ok(Ok(Reader::Pcapng(PcapngReader::default())));
    }
    if PcapReader::is_magic(magic) {
        return PcapReader::open(input).map(|reader| Ok(Reader::Pcap(reader)));
    }
    Ok(Err(hint_for(window)))
}

/// What a file without the magic of pcap or pcapng probably is.
fn hint_for(window: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"snoop\0\0\0", "it is a snoop file; convert it with editcap -F pcapng"),
        (b"BZh", "it is packed with bzip2; unpack it with bunzip2"),
        (b"\xfd7zXZ", "it is packed with xz; unpack it with unxz"),
        (b"\x04\x22\x4d\x18", "it is packed with lz4; unpack it with lz4 -d"),
        (b"PK\x03\x04", "it is a zip archive; unpack it first"),
        (b"\x1f\x8b", "it is packed twice with gzip; unpack it with gunzip"),
        (b"\x28\xb5\x2f\xfd", "it is packed twice; unpack it with zstd -d"),
        (b"\x34\xcd\xb2\xa1", "it is a modified pcap file; convert it with editcap -F pcap"),
        (b"\xa1\xb2\xcd\x34", "it is a modified pcap file; convert it with editcap -F pcap"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| window.starts_with(magic));
    known.map_or("it begins with neither a pcap nor a pcapng header", |(_, hint)| hint)
}

fn explain(fault: ReadFault, path: &Path, offset: u64) -> CaptureError {
    let path = path.to_owned();
    match fault {
        ReadFault::Truncated => CaptureError::Truncated { path, offset },
        ReadFault::Damaged(what) => CaptureError::Damaged { path, offset, what },
        ReadFault::NotYet => {
            CaptureError::Unreadable { path, error: io::ErrorKind::WouldBlock.into() }
        }
        ReadFault::Io(error) => CaptureError::Unreadable { path, error },
    }
}

fn unreadable(path: &Path, error: io::Error) -> CaptureError {
    match error.kind() {
        io::ErrorKind::NotFound => CaptureError::NoSuchFile { path: path.to_owned() },
        _ => CaptureError::Unreadable { path: path.to_owned(), error },
    }
}

fn open_path(path: &Path) -> Result<File, CaptureError> {
    let opened = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let file = opened.map_err(|error| unreadable(path, error))?;
    let is_directory = file.metadata().is_ok_and(|metadata| metadata.is_dir());
    if is_directory {
        let hint = "it is a directory; name the files in it";
        return Err(CaptureError::NotACapture { path: path.to_owned(), hint });
    }
    Ok(file)
}

/// What makes a file itself, whatever its name.
fn identity_of(path: &Path) -> Result<(u64, u64), CaptureError> {
    let metadata = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().and_then(|stdin| File::from(stdin).metadata())
    } else {
        std::fs::metadata(path)
    };
    let metadata = metadata.map_err(|error| unreadable(path, error))?;
    Ok((metadata.dev(), metadata.ino()))
}

fn refuse_same_file(seen: &[((u64, u64), &PathBuf)]) -> Result<(), CaptureError> {
    // A sort keeps this from being quadratic; it is stable, so `first` was named first.
    let mut sorted = seen.to_vec();
    sorted.sort_by_key(|(identity, _)| *identity);
    for (earlier, later) in sorted.iter().zip(sorted.iter().skip(1)) {
        if earlier.0 == later.0 {
            let (path, first) = (later.1.clone(), earlier.1.clone());
            return Err(CaptureError::SameFileTwice { path, first });
        }
    }
    Ok(())
}
