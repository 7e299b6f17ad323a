//! The body is `callspan::rtp::fuzz::udptl`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::rtp::fuzz::udptl(data));
