#![no_main]

#[path = "../entry.rs"]
#[allow(dead_code)] // the entries of the other targets
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::target(data));
