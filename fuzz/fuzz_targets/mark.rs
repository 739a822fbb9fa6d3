#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::properties::mark(bytes));
