//! The body is `callspan::sip::fuzz::dtmf_body`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::sip::fuzz::dtmf_body(data));
