//! Manifest chunks and lists: never a panic, what is read is written the same, and no path leaves
//! its component.
#![no_main]
use colvault_engine::format::manifest::{begin_chunk, decode_chunk, decode_list, encode_list, is_plain_path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = decode_chunk(bytes) {
        let mut again = begin_chunk();
        for entry in &entries {
            assert!(is_plain_path(&entry.path));
            entry.encode(&mut again);
        }
        let read = decode_chunk(&again).unwrap();
        assert_eq!(read, entries);
    }
    if let Ok(chunks) = decode_list(bytes) {
        assert_eq!(encode_list(&chunks), bytes);
    }
});
