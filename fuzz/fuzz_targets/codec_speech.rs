//! The body is `callspan::codec::fuzz::speech`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::codec::fuzz::speech(data));
