//! The body is `callspan::sip::fuzz::websocket`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::sip::fuzz::websocket(data));
