//! The body is `callspan::net::fuzz::decap`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::net::fuzz::decap(data));
