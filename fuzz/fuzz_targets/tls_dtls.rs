//! The body is `callspan::tls::fuzz::dtls`; see there for what must hold.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callspan::tls::fuzz::dtls(data));
