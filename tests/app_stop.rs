//! SIGTERM on a port that is never quiet. Needs root: without it this test fails, it never skips.
//!
//! The program runs in a network namespace of its own, on a loopback that a thread keeps busy.

use std::io::Read;
use std::net::UdpSocket;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Waits for the end, but not for ever.
fn end_of(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("the child can be ended");
    None
}

fn datagrams_until(stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let sink = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = sink.local_addr().expect("an address");
    while !stop.load(Ordering::Acquire) {
        socket.send_to(b"neither SIP nor RTP", address).expect("sent");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stops_while_frames_come() {
    unshare(CloneFlags::CLONE_NEWNET).expect("live tests need root: run them with sudo");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
    assert!(up.success());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let archive = folder.path().join("archive");
    let program = env!("CARGO_BIN_EXE_callspan");
    let made = Command::new(program).arg("init").arg(&archive).arg("--plaintext").output();
    assert!(made.expect("it runs").status.success());

    let stop = Arc::new(AtomicBool::new(false));
    let busy = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || datagrams_until(&stop)
    });
    let mut child = Command::new(program)
        .args(["capture", "--interface", "lo", "--archive"])
        .arg(&archive)
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    // Its first log line says that it records.
    let mut first = [0; 1];
    child.stderr.as_mut().expect("a pipe").read_exact(&mut first).expect("a line");
    std::thread::sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    kill(pid, Signal::SIGTERM).expect("the signal is sent");
    let status = end_of(&mut child);
    stop.store(true, Ordering::Release);
    busy.join().expect("the sender ends");
    let mut report = String::new();
    child.stdout.expect("a pipe").read_to_string(&mut report).expect("a report");
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{report}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("one object");
    let received = report["frames"]["received"].as_u64().expect("a count");
    assert!(received > 20, "only {received} frames were seen before the signal");
    let outcomes = report["frames"]["by_outcome"].as_object().expect("outcomes");
    let sum: u64 = outcomes.values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(sum, received, "every frame has one outcome");
}

#[test]
fn sigterm_ends_a_capture_whose_port_is_never_quiet() {
    let thread = std::thread::spawn(stops_while_frames_come);
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
