//! Index bodies: never a panic, and what is read is written the same.
#![no_main]
use colvault_engine::format::index::Index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = Index::decode(bytes) {
        assert_eq!(index.encode(), bytes);
    }
});
