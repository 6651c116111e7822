#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::http_flv::flv_tags(data));
