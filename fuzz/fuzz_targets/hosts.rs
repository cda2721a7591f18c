#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sf_fuzz::hosts(data));
