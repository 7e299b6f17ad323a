//! The body is `callspan::work::fuzz::pipeline`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::work::fuzz::pipeline(data));
