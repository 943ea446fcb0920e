#![no_main]

#[path = "../target_index.rs"]
mod target_index;
#[path = "../targets_shared.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target_index::index(data));
