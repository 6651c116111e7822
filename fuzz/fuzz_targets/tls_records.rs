#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::tls_record::tls_records(data));
