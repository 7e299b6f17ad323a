//! The body is `callspan::capture::fuzz::block`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::capture::fuzz::block(data));
