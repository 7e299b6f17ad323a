//! The bytes of one capture: a stream with a bounded read-ahead.
//!
//! Purpose: one window onto bytes for plain files, gzip, zstd and pipes, told apart by content.
//! Invariants: a stream holds `CAPTURE_READ_AHEAD_BYTES` at most; bytes are handed out once, in order.
//! Non-goals: what the bytes mean (see `pcap_file`, `pcapng_file`).
//! Sources: RFC 1952 §2.3.1 (gzip magic), RFC 8878 §3.1.1 (zstd magic).

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::record::ReadFault;
use crate::base::limits;

/// Bytes that tell every format apart.
const MAGIC_BYTES: usize = 8;

/// Bytes that are read at once: few enough to be in the processor's cache still when they are looked at.
const READ_BYTES: usize = 64 << 10;

/// A silent pipe is waited for this long at a time, as a silent ring is.
const PIPE_WAIT_MS: u16 = 100;

/// The bytes of one capture, read from front to back.
pub(super) struct Input {
    stream: Box<Stream>,
    /// Bytes taken from the file so far, as it stands on disk.
    read: Arc<AtomicU64>,
    /// Its size, where it has one.
    size: Option<u64>,
}

struct Stream {
    reader: Box<dyn Read + Send>,
    packing: Packing,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes consumed before `start`.
    position: u64,
    /// Bytes to consume that have not been read yet.
    owed: u64,
    fault: Option<io::Error>,
    state: StreamState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Open,
    Ended,
}

/// How the bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(magic: &[u8]) -> Self {
        if magic.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

impl Input {
    /// From an open file, pipe or terminal; read as a stream: a mapping costs more than the copy, and
    /// dies with the file that somebody cuts.
    ///
    /// # Errors
    /// What the system or the decompressor's set-up says.
    pub(super) fn open(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let regular = metadata.is_file() && file.stream_position().is_ok_and(|at| at == 0);
        let magic = read_magic(&mut file)?;
        let packing = Packing::of(&magic);
        let size = metadata.is_file().then_some(metadata.len());
        if regular {
            file.seek(SeekFrom::Start(0))?;
            return Self::stream(file, packing, size);
        }
        match packing {
            Packing::Plain => {
                Self::stream(Cursor::new(magic).chain(Patient { file }), packing, size)
            }
            // Decompressors want their bytes in one go, so these wait as long as the pipe does.
            Packing::Gzip | Packing::Zstd => {
                Self::stream(Cursor::new(magic).chain(file), packing, size)
            }
        }
    }

    /// From bytes in memory, for tests and fuzzing; packed bytes are unpacked.
    pub(super) fn from_memory(data: Vec<u8>) -> io::Result<Self> {
        let packing = Packing::of(&data);
        let size = u64::try_from(data.len()).ok();
        Self::stream(Cursor::new(data), packing, size)
    }

    fn stream(
        raw: impl Read + Send + 'static,
        packing: Packing,
        size: Option<u64>,
    ) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: raw, read: Arc::clone(&read) };
        let reader: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(counted),
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(counted)?;
                decoder.window_log_max(limits::CAPTURE_ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        let buffer = vec![0; limits::CAPTURE_READ_AHEAD_BYTES].into_boxed_slice();
        let stream = Stream {
            reader,
            packing,
            buffer,
            start: 0,
            end: 0,
            position: 0,
            owed: 0,
            fault: None,
            state: StreamState::Open,
        };
        Ok(Self { stream: Box::new(stream), read, size })
    }

    /// What can be seen without reading on: what is buffered.
    pub(super) fn window(&self) -> &[u8] {
        self.stream.window()
    }

    /// Makes the window at least `len_bytes` long, unless the input ends before; returns its length.
    ///
    /// # Errors
    /// `Io`, `Truncated` or `Damaged` when the input fails before there are so many bytes; `NotYet`
    /// when a pipe was silent for a moment.
    pub(super) fn ensure(&mut self, len_bytes: usize) -> Result<usize, ReadFault> {
        self.stream.ensure(len_bytes)
    }

    /// The next `N` bytes, not consumed; `None` when the input ends exactly here.
    ///
    /// # Errors
    /// As [`Self::ensure`], and `Truncated` when it ends inside them.
    pub(super) fn peek<const N: usize>(&mut self) -> Result<Option<[u8; N]>, ReadFault> {
        if self.ensure(N)? == 0 {
            return Ok(None);
        }
        self.window().first_chunk::<N>().copied().map(Some).ok_or(ReadFault::Truncated)
    }

    /// Consumes `len_bytes`. After `NotYet` they are owed: the next call of any kind consumes them.
    ///
    /// # Errors
    /// As [`Self::ensure`], and `Truncated` when the input ends before; then it stands at its end.
    pub(super) fn skip(&mut self, len_bytes: u64) -> Result<(), ReadFault> {
        self.stream.skip(len_bytes)
    }

    /// Bytes consumed so far (of the unpacked content).
    pub(super) fn position(&self) -> u64 {
        self.stream.position
    }

    /// True when the next byte must be waited for: a live pipe may have none for a while.
    pub(super) fn is_starved(&self) -> bool {
        self.stream.start == self.stream.end && self.stream.can_read()
    }

    /// Bytes read and bytes in all, as they stand on disk; a pipe's size is what was read of it.
    pub(super) fn progress(&self) -> (u64, u64) {
        let read = self.read.load(Ordering::Relaxed);
        (read, self.size.unwrap_or(read).max(read))
    }
}

impl Stream {
    fn window(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn can_read(&self) -> bool {
        self.state == StreamState::Open && self.fault.is_none()
    }

    fn ensure(&mut self, len_bytes: usize) -> Result<usize, ReadFault> {
        let buffered = self.end.saturating_sub(self.start);
        if self.owed == 0 && buffered >= len_bytes {
            return Ok(buffered);
        }
        self.pay()?;
        self.fill(len_bytes)
    }

    fn skip(&mut self, len_bytes: u64) -> Result<(), ReadFault> {
        let buffered = self.end.saturating_sub(self.start);
        match usize::try_from(len_bytes) {
            Ok(step) if self.owed == 0 && step <= buffered => {
                self.start = self.start.saturating_add(step);
                self.position = self.position.saturating_add(len_bytes);
                Ok(())
            }
            _ => {
                self.owed = self.owed.saturating_add(len_bytes);
                self.pay()
            }
        }
    }

    /// Consumes what is owed.
    fn pay(&mut self) -> Result<(), ReadFault> {
        while self.owed > 0 {
            let buffered = self.fill(1)?;
            if buffered == 0 {
                self.owed = 0;
                return Err(ReadFault::Truncated);
            }
            let step = usize::try_from(self.owed).unwrap_or(usize::MAX).min(buffered);
            self.start = self.start.saturating_add(step);
            let step = u64::try_from(step).unwrap_or(self.owed);
            self.position = self.position.saturating_add(step);
            self.owed = self.owed.saturating_sub(step);
        }
        Ok(())
    }

    fn fill(&mut self, len_bytes: usize) -> Result<usize, ReadFault> {
        if len_bytes > self.buffer.len() {
            return Err(ReadFault::Damaged("a record longer than any frame"));
        }
        while self.end.saturating_sub(self.start) < len_bytes && self.can_read() {
            if self.start > 0 && self.buffer.len().saturating_sub(self.start) < len_bytes {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end = self.end.saturating_sub(self.start);
                self.start = 0;
            }
            self.read_once();
        }
        // A read happens only while bytes are missing, so a fault is never kept for later.
        match self.fault.take() {
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ReadFault::NotYet),
            Some(error) => {
                self.state = StreamState::Ended;
                Err(self.blame(error))
            }
            None => Ok(self.end.saturating_sub(self.start)),
        }
    }

    /// One read into the free end of the buffer.
    fn read_once(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        let most = self.end.saturating_add(READ_BYTES).min(self.buffer.len());
        let free = self.buffer.get_mut(self.end..most).unwrap_or_default();
        match self.reader.read(free) {
            Ok(0) => self.state = StreamState::Ended,
            Ok(read) => self.end = self.end.saturating_add(read).min(self.buffer.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.fault = Some(error),
        }
    }

    /// A decompressor's complaint is about the file; only the system's own errors are `Io`.
    fn blame(&self, error: io::Error) -> ReadFault {
        if error.raw_os_error().is_some() || self.packing == Packing::Plain {
            ReadFault::Io(error)
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            ReadFault::Truncated
        } else {
            ReadFault::Damaged("the compressed data cannot be unpacked")
        }
    }
}

/// A pipe that is waited for in short turns, so that who reads it can stop in between.
struct Patient {
    file: File,
}

impl Read for Patient {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut watched = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut watched, PollTimeout::from(PIPE_WAIT_MS)) {
            Ok(0) | Err(Errno::EINTR) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => self.file.read(out),
            Err(error) => Err(error.into()),
        }
    }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.read.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
        Ok(read)
    }
}

/// The first bytes of a file; fewer when it is shorter.
fn read_magic(file: &mut File) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    let limit = u64::try_from(MAGIC_BYTES).unwrap_or(0);
    file.take(limit).read_to_end(&mut magic)?;
    Ok(magic)
}
