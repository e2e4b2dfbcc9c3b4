#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| arx_fuzz::numeric(data));
