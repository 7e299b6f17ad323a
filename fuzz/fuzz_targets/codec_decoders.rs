//! The body is `callspan::codec::fuzz::decoders`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::codec::fuzz::decoders(data));
