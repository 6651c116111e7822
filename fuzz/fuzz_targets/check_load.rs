#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::lb_wire::check_load(data));
