//! The body is `callspan::codec::fuzz::opus_packet`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::codec::fuzz::opus_packet(data));
