#![no_main]

#[path = "../src/targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::server_dialogue(data));
