#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_fuzz::http_flv::websocket_frames(data));
