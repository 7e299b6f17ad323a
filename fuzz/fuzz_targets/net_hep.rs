//! The body is `callspan::net::fuzz::hep`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::net::fuzz::hep(data));
