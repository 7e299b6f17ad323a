//! The body is `callspan::sip::fuzz::framing`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::sip::fuzz::framing(data));
