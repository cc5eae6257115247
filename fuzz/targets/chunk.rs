//! Stored chunks: never a panic, never more raw bytes than asked for, and every raw chunk comes
//! back.
#![no_main]
use colvault_engine::compress::{Compressor, Decompressor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (length, bytes) = input;
    let length = length % (1 << 20);
    if let Ok(raw) = Decompressor::new().open(bytes, length, "fuzz") {
        assert_eq!(raw.len(), length as usize);
    }
    let mut stored = Vec::new();
    if !bytes.is_empty() {
        Compressor::new().store(bytes, &mut stored);
        let length = u32::try_from(bytes.len()).unwrap();
        assert_eq!(Decompressor::new().open(&stored, length, "fuzz").unwrap(), bytes);
    }
});
