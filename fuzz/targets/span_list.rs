//! Span lists: never a panic, and what is read is written the same.
#![no_main]
use colvault_engine::format::extent::{Extent, decode_list, encode_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, Vec<u8>)| {
    let (length, mut bytes) = input;
    for prefix in [false, true] {
        if prefix {
            bytes.splice(0..0, *b"CVS1");
        }
        if let Ok(extents) = decode_list(&bytes, length) {
            assert_eq!(extents.iter().map(Extent::length).sum::<u64>(), length);
            assert_eq!(encode_list(&extents), bytes);
        }
    }
});
