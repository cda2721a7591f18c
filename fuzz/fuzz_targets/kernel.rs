#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sf_fuzz::kernel_command_line(data));
