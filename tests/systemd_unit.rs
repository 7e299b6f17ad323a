//! The systemd unit as `systemd-analyze` sees it: without a fault, and with little to attack.
//!
//! Purpose: a unit that does not load, or that loses its hardening, fails here and not at a customer.
//! Invariants: nothing is installed or started; a machine without systemd says so and passes.
//! Non-goals: running the service.
//! Sources: systemd.service(5), systemd.exec(5), systemd-analyze(1).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `systemd-analyze security` rates from 0.0 (safe) to 10.0 (unsafe); ours is at most this, in tenths.
const EXPOSURE_TENTHS_MAX: &str = "25";

fn unit_text() -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/callspan-capture.service");
    std::fs::read_to_string(unit).expect("the unit is in systemd/")
}

/// A copy of the unit whose ExecStart is the program that was built for this test.
fn unit_with_our_program(folder: &Path) -> PathBuf {
    let program = env!("CARGO_BIN_EXE_callspan");
    let text = unit_text().replace("/usr/local/bin/callspan", program);
    assert!(text.contains(&format!("ExecStart={program} capture ")), "ExecStart has moved");
    let path = folder.join("callspan-capture.service");
    std::fs::write(&path, text).expect("a temporary file can be written");
    path
}

/// Runs `systemd-analyze`; `None` where there is no systemd.
fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    let Ok(output) = Command::new("systemd-analyze").args(arguments).arg(unit).output() else {
        eprintln!(
            "systemd-analyze is not installed: nothing was checked (`make deps` installs it)"
        );
        return None;
    };
    Some(output)
}

fn all_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_unit_has_no_fault() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unit = unit_with_our_program(folder.path());
    let Some(output) = analyze(&["verify", "--man=no"], &unit) else { return };
    let said = all_text(&output);
    // What verify says of other units of this machine is not ours.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("callspan")).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
    assert!(output.status.success() || said.is_empty(), "{said}");
}

#[test]
fn a_broken_unit_is_a_fault() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unit = unit_with_our_program(folder.path());
    let text = std::fs::read_to_string(&unit).expect("it was just written");
    std::fs::write(&unit, text.replace("ProtectHome=", "ProtectHouse=")).expect("writable");
    let Some(output) = analyze(&["verify", "--man=no"], &unit) else { return };
    assert!(all_text(&output).contains("ProtectHouse"), "verify would not have noticed");
}

#[test]
fn the_unit_exposes_little() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unit = unit_with_our_program(folder.path());
    let threshold = format!("--threshold={EXPOSURE_TENTHS_MAX}");
    let arguments = ["security", "--offline=true", "--no-pager", threshold.as_str()];
    let Some(output) = analyze(&arguments, &unit) else { return };
    let said = all_text(&output);
    if said.contains("unrecognized option") {
        eprintln!("this systemd-analyze cannot rate offline: nothing was checked");
        return;
    }
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_unit_keeps_what_recording_needs() {
    let text = unit_text();
    for line in [
        "Type=notify",
        "KillSignal=SIGTERM",
        "AmbientCapabilities=CAP_NET_RAW CAP_IPC_LOCK",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=callspan",
        "Restart=on-failure",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is gone");
    }
    let families = "RestrictAddressFamilies=AF_PACKET AF_INET AF_INET6 AF_UNIX AF_NETLINK";
    assert!(text.lines().any(|have| have == families), "packet sockets would be refused");
}
