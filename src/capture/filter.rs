//! Filter expressions of pcap-filter(7), for files and for the kernel.
//!
//! Purpose: libpcap compiles; files are matched here, and live rings hand the program to the kernel.
//! Invariants: a filter never sends and never changes a frame.
//! Non-goals: VLAN cleverness. libpcap's rule holds: in a file, a tag stands in the frame, so
//! `udp port 5060` does not match a tagged frame, and `vlan and udp port 5060` does; write
//! `(udp port 5060) or (vlan and udp port 5060)` for both. On a live ring the kernel takes the outer
//! tag out of the frame before any filter runs, so the first form matches tagged frames too, and
//! `vlan` looks at the kernel's note of the tag (see [`Filter::compile_live`]).
//! `len`, `less` and `greater` look at captured bytes, as the binding offers no wire length.
//! Sources: pcap-filter(7), the kernel's filter.rst (classic BPF and its extensions).

use pcap::{BpfProgram, Capture, Linktype};

use super::error::CaptureError;
use crate::base::{LinkType, limits};

/// One instruction of classic BPF, as `SO_ATTACH_FILTER` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jump_true: u8,
    /// Instructions to skip when false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// BPF_RET | BPF_K: ends the program; the operand is how many bytes of the frame to keep.
const RETURN_CONSTANT: u16 = 0x06;

impl Instruction {
    /// A program of this one instruction takes nothing.
    pub(super) const REFUSE_ALL: Self =
        Self { code: RETURN_CONSTANT, jump_true: 0, jump_false: 0, operand: 0 };
}

/// A compiled filter expression, for one link type.
pub struct Filter {
    program: BpfProgram,
}

impl Filter {
    /// Compiles `text` for frames of `link`.
    ///
    /// # Errors
    /// `BadFilter` with what libpcap says.
    pub fn compile(text: &str, link: LinkType) -> Result<Self, CaptureError> {
        let handle = Capture::dead(data_link_type(link)).map_err(|error| bad(text, &error))?;
        let program = handle.compile(text, true).map_err(|error| bad(text, &error))?;
        Ok(Self { program })
    }

    /// Compiles `text` for a live interface: as [`Self::compile`], but where it speaks of `vlan`,
    /// libpcap opens the interface for a moment, because only then it writes programs that look at
    /// the tag where the kernel keeps it.
    ///
    /// # Errors
    /// `BadFilter` with what libpcap says.
    pub fn compile_live(text: &str, interface: &str, link: LinkType) -> Result<Self, CaptureError> {
        if !text.contains("vlan") {
            return Self::compile(text, link);
        }
        let handle = Capture::from_device(interface)
            .and_then(|device| device.promisc(false).open())
            .map_err(|error| bad(text, &error))?;
        let program = handle.compile(text, true).map_err(|error| bad(text, &error))?;
        Ok(Self { program })
    }

    /// True when the expression matches the frame.
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.program.filter(frame)
    }

    /// The program for the kernel; what it takes it takes whole.
    #[must_use]
    pub fn instructions(&self) -> Vec<Instruction> {
        // The binding shows an instruction only as text: four decimal numbers.
        let parsed = self.program.get_instructions().iter().filter_map(|instruction| {
            let text = instruction.to_string();
            let mut numbers = text.split(' ');
            let code = numbers.next()?.parse().ok()?;
            let jump_true = numbers.next()?.parse().ok()?;
            let jump_false = numbers.next()?.parse().ok()?;
            let operand = numbers.next()?.parse().ok()?;
            Some(Instruction { code, jump_true, jump_false, operand })
        });
        parsed.map(Instruction::keeping_whole_frames).collect()
    }
}

impl Instruction {
    /// libpcap's programs cut frames to the handle's snap length; ours keep them whole.
    fn keeping_whole_frames(mut self) -> Self {
        if self.code == RETURN_CONSTANT && self.operand != 0 {
            self.operand = u32::try_from(limits::CAPTURE_FRAME_BYTES_MAX).unwrap_or(u32::MAX);
        }
        self
    }
}

/// DLT numbers of libpcap on Linux; they differ from the registry for raw IP (DLT_RAW is 12).
fn data_link_type(link: LinkType) -> Linktype {
    Linktype(match link {
        LinkType::Null => 0,
        LinkType::Ethernet => 1,
        LinkType::RawIp => 12,
        LinkType::Loop => 108,
        LinkType::LinuxCooked => 113,
        LinkType::LinuxCooked2 => 276,
        LinkType::Hep => -1, // Nothing that libpcap knows; never asked.
        LinkType::Other(number) => i32::from(number),
    })
}

fn bad(text: &str, error: &pcap::Error) -> CaptureError {
    let reason = match error {
        pcap::Error::PcapError(reason) => reason.clone(),
        other => other.to_string(),
    };
    CaptureError::BadFilter { text: text.to_owned(), reason: reason.replace(['\n', '\r'], " ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame with UDP from port 5060 to `port`, tagged with VLAN 7 if `tagged`.
    fn udp_frame(port: u16, tag: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(tag);
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0xc4]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 8, 0, 0]);
        frame
    }

    const TAG: [u8; 4] = [0x81, 0, 0, 7];

    #[test]
    fn an_expression_matches_what_it_says_and_nothing_else() {
        let filter = Filter::compile("udp dst port 4000", LinkType::Ethernet).expect("valid");
        assert!(filter.matches(&udp_frame(4_000, &[])));
        assert!(!filter.matches(&udp_frame(4_001, &[])));
        assert!(!filter.matches(&[]));
        let raw = Filter::compile("udp dst port 4000", LinkType::RawIp).expect("valid");
        assert!(raw.matches(&udp_frame(4_000, &[])[14..]));
    }

    #[test]
    fn a_tag_in_the_frame_is_matched_only_by_expressions_that_speak_of_it() {
        let compile = |text| Filter::compile(text, LinkType::Ethernet).expect("valid");
        let tagged = udp_frame(4_000, &TAG);
        assert!(!compile("udp").matches(&tagged));
        assert!(compile("vlan 7 and udp").matches(&tagged));
        assert!(!compile("vlan 8 and udp").matches(&tagged));
        assert!(compile("udp or (vlan and udp)").matches(&tagged));
    }

    #[test]
    fn what_libpcap_refuses_is_told_with_its_reason() {
        let Err(error) = Filter::compile("udp prt 5060", LinkType::Ethernet) else {
            panic!("that is no expression")
        };
        let message = error.to_string();
        assert!(message.starts_with("bad filter \"udp prt 5060\": "), "{message}");
        assert!(message.contains("error"), "{message}");
        assert!(Filter::compile("a\0b", LinkType::Ethernet).is_err());
    }

    #[test]
    fn the_kernels_program_keeps_frames_whole() {
        let filter = Filter::compile("udp", LinkType::Ethernet).expect("valid");
        let program = filter.instructions();
        assert_eq!(program.len(), filter.program.get_instructions().len());
        let kept: Vec<u32> = program
            .iter()
            .filter(|instruction| instruction.code == RETURN_CONSTANT)
            .map(|instruction| instruction.operand)
            .collect();
        assert!(kept.contains(&0) && kept.contains(&262_144), "{kept:?}");
        assert!(kept.iter().all(|bytes| [0, 262_144].contains(bytes)));
    }
}
