#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::hls::hls_segmenter(data));
