//! What ends a capture, said in one line that tells what to do.
//!
//! Purpose: errors for people, made at the edge where path and interface are known.
//! Invariants: every message is one line; `label` is the variant in snake_case.
//! Non-goals: frames that parsers refuse (those are outcomes, see `base::FrameOutcome`).
//! Sources: packet(7) for what the kernel refuses.

use std::io;
use std::path::{Path, PathBuf};

/// How the process should end after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The command line was wrong: exit status 2.
    Usage,
    /// Nothing could be captured, or capturing ended: exit status 1.
    Failure,
    /// A capture file ends early or is damaged; the frames before that have been handed over, so
    /// what came of them stays (1 or 3, as the caller sees fit).
    Incomplete,
}

/// A capture as people call it.
fn named(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".into() } else { path.display().to_string() }
}

/// Why a capture could not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file is not there.
    #[error("no such capture file: {}; check the name", path.display())]
    NoSuchFile {
        /// As it was named.
        path: PathBuf,
    },
    /// The file is there but holds no capture.
    #[error("{} is not a capture file: {hint}", named(path))]
    NotACapture {
        /// As it was named.
        path: PathBuf,
        /// What it seems to be, and what to do.
        hint: &'static str,
    },
    /// The file ends inside a record.
    #[error(
        "{} is cut off at byte {offset}: everything before that was read; copy the file again, or \
         stop what writes it before replaying",
        named(path)
    )]
    Truncated {
        /// As it was named.
        path: PathBuf,
        /// Where the incomplete record begins, in (decompressed) bytes.
        offset: u64,
    },
    /// The file contradicts itself.
    #[error(
        "{} is damaged at byte {offset} ({what}): everything before that was read; copy the file \
         again",
        named(path)
    )]
    Damaged {
        /// As it was named.
        path: PathBuf,
        /// Where the damaged record begins, in (decompressed) bytes.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// One file was named twice, maybe by two names.
    #[error("{} was named twice (also as {}); name every file once", path.display(), first.display())]
    SameFileTwice {
        /// The second name.
        path: PathBuf,
        /// The first name.
        first: PathBuf,
    },
    /// More files than can be merged at once.
    #[error(
        "{count} capture files are more than the {max} that can be merged; merge some first \
             with mergecap"
    )]
    TooManyFiles {
        /// As many were named.
        count: usize,
        /// As many can be.
        max: usize,
    },
    /// Reading or opening failed.
    #[error("cannot read {}: {error}; check its permissions and the disk", path.display())]
    Unreadable {
        /// As it was named.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is no interface of that name.
    #[error("no such interface: {name}; there are: {available}")]
    NoSuchInterface {
        /// As it was named.
        name: String,
        /// The names of those that exist, separated by commas.
        available: String,
    },
    /// Raw sockets are not for this user.
    #[error(
        "no permission to capture on {interface}; run as root or give CAP_NET_RAW: setcap \
         cap_net_raw,cap_ipc_lock+ep on the callspan binary"
    )]
    NoPermission {
        /// As it was named.
        interface: String,
    },
    /// The interface was removed, or went down.
    #[error(
        "interface {name} is gone or down; bring it up (ip link set {name} up) and start again"
    )]
    InterfaceGone {
        /// As it was named.
        name: String,
    },
    /// The interface's frames begin in a way we do not read.
    #[error(
        "interface {name} has hardware type {hardware_type}, which callspan does not read; \
             capture on the Ethernet interface below it"
    )]
    UnsupportedInterface {
        /// As it was named.
        name: String,
        /// ARPHRD_* of the kernel's if_arp.h.
        hardware_type: u16,
    },
    /// The kernel has no memory for the ring.
    #[error("no memory for a ring of {bytes} bytes on {interface}; choose a smaller --ring-size")]
    RingTooLarge {
        /// As it was named.
        interface: String,
        /// As many were asked for.
        bytes: usize,
    },
    /// The filter expression means nothing to libpcap, or the kernel refused it.
    #[error("bad filter {text:?}: {reason}; see pcap-filter(7)")]
    BadFilter {
        /// As it was written.
        text: String,
        /// What libpcap or the kernel said.
        reason: String,
    },
    /// HEP cannot be received there.
    #[error("cannot listen for HEP on {address}: {error}; give another --hep-listen ADDR")]
    Listen {
        /// As it was given.
        address: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A step of setting up or reading the ring failed.
    #[error(
        "cannot {step} on {interface}: {error}; callspan doctor --interface {interface} may say \
             more"
    )]
    Ring {
        /// As it was named.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl CaptureError {
    /// How the process should end.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::SameFileTwice { .. } | Self::TooManyFiles { .. } | Self::BadFilter { .. } => {
                ErrorClass::Usage
            }
            Self::Truncated { .. } | Self::Damaged { .. } => ErrorClass::Incomplete,
            Self::NoSuchFile { .. }
            | Self::NotACapture { .. }
            | Self::Unreadable { .. }
            | Self::NoSuchInterface { .. }
            | Self::NoPermission { .. }
            | Self::InterfaceGone { .. }
            | Self::UnsupportedInterface { .. }
            | Self::RingTooLarge { .. }
            | Self::Listen { .. }
            | Self::Ring { .. } => ErrorClass::Failure,
        }
    }

    /// The variant in snake_case, for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NoSuchFile { .. } => "no_such_file",
            Self::NotACapture { .. } => "not_a_capture",
            Self::Truncated { .. } => "truncated",
            Self::Damaged { .. } => "damaged",
            Self::SameFileTwice { .. } => "same_file_twice",
            Self::TooManyFiles { .. } => "too_many_files",
            Self::Unreadable { .. } => "unreadable",
            Self::NoSuchInterface { .. } => "no_such_interface",
            Self::NoPermission { .. } => "no_permission",
            Self::InterfaceGone { .. } => "interface_gone",
            Self::UnsupportedInterface { .. } => "unsupported_interface",
            Self::RingTooLarge { .. } => "ring_too_large",
            Self::BadFilter { .. } => "bad_filter",
            Self::Listen { .. } => "listen",
            Self::Ring { .. } => "ring",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_labels_are_the_variants() {
        let errors = [
            CaptureError::NoSuchFile { path: "a.pcap".into() },
            CaptureError::NotACapture { path: "a".into(), hint: "it is empty" },
            CaptureError::Truncated { path: "a".into(), offset: 3 },
            CaptureError::Damaged { path: "a".into(), offset: 3, what: "x" },
            CaptureError::SameFileTwice { path: "a".into(), first: "b".into() },
            CaptureError::TooManyFiles { count: 2, max: 1 },
            CaptureError::Unreadable { path: "a".into(), error: io::Error::other("x") },
            CaptureError::NoSuchInterface { name: "eth9".into(), available: "lo".into() },
            CaptureError::NoPermission { interface: "eth0".into() },
            CaptureError::InterfaceGone { name: "eth0".into() },
            CaptureError::UnsupportedInterface { name: "can0".into(), hardware_type: 280 },
            CaptureError::RingTooLarge { interface: "eth0".into(), bytes: 1 },
            CaptureError::BadFilter { text: "prt 5".into(), reason: "syntax error".into() },
            CaptureError::Listen {
                address: ([127, 0, 0, 1], 9_060).into(),
                error: io::Error::other("x"),
            },
            CaptureError::Ring {
                interface: "eth0".into(),
                step: "bind",
                error: io::Error::other("x"),
            },
        ];
        for error in &errors {
            let message = error.to_string();
            assert!(!message.contains('\n') && !message.contains("  "), "{message}");
            let variant = format!("{error:?}");
            let variant = variant.split([' ', '{']).next().unwrap_or_default();
            let mut snake = String::new();
            for letter in variant.chars() {
                if letter.is_ascii_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            assert_eq!(error.label(), snake);
        }
        assert_eq!(errors[4].class(), ErrorClass::Usage);
        assert_eq!(errors[12].class(), ErrorClass::Usage);
        assert_eq!(errors[2].class(), ErrorClass::Incomplete);
        assert_eq!(errors[0].class(), ErrorClass::Failure);
    }
}
