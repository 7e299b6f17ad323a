//! Which interfaces there are.
//!
//! Purpose: the kernel's number of an interface, and a message that names those that exist.
//! Invariants: none is opened.
//! Non-goals: addresses, statistics, drivers (see `ops`).
//! Sources: if_nametoindex(3), pcap_findalldevs(3).

use super::error::CaptureError;

/// Names of the interfaces that frames can be captured on, in libpcap's order; empty when libpcap
/// cannot tell.
#[must_use]
pub fn names() -> Vec<String> {
    let devices = pcap::Device::list().unwrap_or_default();
    let names = devices.into_iter().map(|device| device.name);
    // libpcap also lists pseudo-devices (any, nflog, bluetooth…), which are no interfaces.
    names.filter(|name| nix::net::if_::if_nametoindex(name.as_str()).is_ok()).collect()
}

/// The kernel's number of the interface.
///
/// # Errors
/// `NoSuchInterface`, with the names of those that exist.
pub fn index_of(name: &str) -> Result<u32, CaptureError> {
    nix::net::if_::if_nametoindex(name).map_err(|_| {
        let names = names();
        let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        CaptureError::NoSuchInterface { name: name.to_owned(), available }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_interface_is_named_beside_those_that_exist() {
        let error = index_of("no-such-if").expect_err("does not exist");
        assert!(error.to_string().starts_with("no such interface: no-such-if; there are: "));
        assert!(error.to_string().contains("lo"), "{error}");
        assert_eq!(index_of("lo").ok(), Some(1));
    }
}
