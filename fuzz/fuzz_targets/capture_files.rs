//! The body is `callspan::capture::fuzz::files`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::capture::fuzz::files(data));
