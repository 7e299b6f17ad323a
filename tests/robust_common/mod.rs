//! Runs the built program against archives of its own, for the tests of bad input and of live calls.
//!
//! Purpose: one line on standard error, the right status, nothing hanging: asked in one place.
//! Invariants: a program that does not end within `LONGEST` is killed, and the test fails.
//! Non-goals: what is recorded (see the lab's judge).
//! Sources: none.
#![allow(dead_code)] // each test binary uses its part

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const CALLSPAN: &str = env!("CARGO_BIN_EXE_callspan");
pub const LONGEST: Duration = Duration::from_secs(120);

/// The capture of two phones that comes with the project.
pub fn phones() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/two-phones-pcma.pcap")
}

pub fn lab(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(script)
}

/// A folder with an archive in it.
pub struct Case {
    pub folder: tempfile::TempDir,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub out: String,
    pub errors: String,
    /// What a plaintext archive says at every start; not among the errors.
    pub notices: String,
}

impl Ended {
    fn from(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (notices, errors): (Vec<_>, Vec<_>) = text(&output.stderr)
            .split_inclusive('\n')
            .map(str::to_owned)
            .partition(|line| line.contains("this archive is not sealed"));
        Self {
            status: output.status.code(),
            out: text(&output.stdout),
            errors: errors.concat(),
            notices: notices.concat(),
        }
    }

    /// Ended with `status` and one line on standard error that has all `parts`.
    #[track_caller]
    pub fn says(&self, status: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.errors.lines().count(), 1, "one line: {self:?}");
        assert!(self.errors.starts_with("callspan: "), "{self:?}");
        for part in parts {
            assert!(self.errors.contains(part), "`{part}` is not in {self:?}");
        }
        self
    }

    /// Standard output is JSON Lines and nothing else; the lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {self:?}"));
        self.out.lines().map(parse).collect()
    }

    /// The object at the end of a run, its counters adding up.
    #[track_caller]
    pub fn report(&self) -> Value {
        let mut lines = self.json();
        assert_eq!(lines.len(), 1, "{self:?}");
        let report = lines.remove(0);
        let outcomes = report["frames"]["by_outcome"].as_object().expect("outcomes");
        let sum: u64 = outcomes.values().filter_map(Value::as_u64).sum();
        assert_eq!(report["frames"]["received"], sum, "unaccounted frames: {report}");
        report
    }
}

impl Case {
    pub fn new() -> Self {
        let case = Self { folder: tempfile::tempdir().expect("a folder") };
        let made = case.run(["init", "calls", "--plaintext"]);
        assert_eq!(made.status, Some(0), "{made:?}");
        case
    }

    /// A folder with a sealed archive in it; `id.txt` opens its recordings.
    pub fn sealed() -> Self {
        let case = Self { folder: tempfile::tempdir().expect("a folder") };
        let pair = case.run(["keys", "new", "--output", "id.txt"]);
        assert_eq!(pair.status, Some(0), "{pair:?}");
        let made = case.run(["init", "calls", "--recipient", pair.out.trim()]);
        assert_eq!(made.status, Some(0), "{made:?}");
        case
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).expect("written");
        self.path(name)
    }

    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("CALLSPAN_ARCHIVE", self.path("calls"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program in the folder, with the archive given by the environment.
    pub fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Ended {
        ends(self.command(CALLSPAN).args(words))
    }

    /// Runs it with `input` coming through a pipe.
    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Ended {
        let mut child =
            self.command(CALLSPAN).args(words).stdin(Stdio::piped()).spawn().expect("starts");
        // A program that stops reading closes the pipe; that is its right.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        wait(child)
    }

    /// The archive's calls.
    #[track_caller]
    pub fn calls(&self) -> Vec<Value> {
        let listed = self.run(["calls", "--json", "--limit", "100000"]);
        assert_eq!((listed.status, listed.errors.as_str()), (Some(0), ""), "{listed:?}");
        listed.json()
    }

    /// The archive's only call.
    #[track_caller]
    pub fn only_call(&self) -> Value {
        let mut calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    /// Both channels of a call, 16 bit at 16 kHz or what the header says; caller first.
    #[track_caller]
    pub fn channels(&self, call: &Value) -> [Vec<i16>; 2] {
        let id = call["id"].as_str().expect("an id");
        let name = format!("{id}.wav");
        let done = self.run(["export", id, "--format", "wav", "--output", &name]);
        assert_eq!(done.status, Some(0), "{done:?}");
        let bytes = std::fs::read(self.path(&name)).expect("exported");
        let at = bytes.windows(4).position(|word| word == b"data").expect("a data chunk") + 8;
        let samples: Vec<i16> = bytes[at..]
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        [0, 1].map(|side| samples.iter().skip(side).step_by(2).copied().collect())
    }
}

/// Root mean square of a channel.
pub fn loudness(samples: &[i16]) -> f64 {
    let sum: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    (sum / samples.len().max(1) as f64).sqrt()
}

/// Runs a command to its end.
pub fn ends(command: &mut Command) -> Ended {
    let child = command.spawn().unwrap_or_else(|error| {
        panic!("{}: {error}; `make deps` installs it", command.get_program().to_string_lossy())
    });
    wait(child)
}

/// Waits for a child that was started by [`Case::command`], at most [`LONGEST`].
pub fn wait(mut child: Child) -> Ended {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut bytes).expect("a pipe can be read");
            }
            bytes
        })
    };
    let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<_>));
    let errors = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<_>));
    let status = wait_status(&mut child);
    let stdout = out.join().expect("a reader");
    let stderr = errors.join().expect("a reader");
    Ended::from(&Output { status, stdout, stderr })
}

fn wait_status(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LONGEST;
    loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return status;
        }
        if Instant::now() >= deadline {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            panic!("it did not end in {} s", LONGEST.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `done` gives something, at most [`LONGEST`].
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONGEST;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen in {} s", LONGEST.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).expect("it runs");
}

/// The other capture that comes with the project: G.722, and a hold.
pub fn phones_on_hold() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/two-phones-g722-hold.pcap")
}

/// A capture of `calls` calls, made by the lab.
pub fn synthetic(case: &Case, name: &str, calls: u32, options: &[&str]) -> PathBuf {
    let path = case.path(name);
    let mut command = case.command("python3");
    command.arg(lab("synth_calls.py")).arg(calls.to_string()).arg(&path).args(options);
    let made = ends(&mut command);
    assert_eq!(made.status, Some(0), "{made:?}");
    path
}

#[track_caller]
pub fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "needs root; run it with sudo, or in the container");
}
