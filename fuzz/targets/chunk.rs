//! Stored chunks: never a panic, never more raw bytes than asked for, and every raw chunk comes
//! back, through every transform; any bytes are the transform of some.
#![no_main]
use colvault_engine::compress::{Compressor, Decompressor};
use colvault_engine::transform::Transform;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (length, bytes) = input;
    let length = length % (1 << 20);
    if let Ok(raw) = Decompressor::new().open(bytes, length, "fuzz") {
        assert_eq!(raw.len(), length as usize);
    }
    for transform in (0..=255).filter_map(Transform::from_byte) {
        let (mut raw, mut again) = (vec![0; bytes.len()], Vec::new());
        assert!(transform.undo(bytes, &mut raw));
        transform.apply(&raw, &mut again);
        assert_eq!(again, bytes);
        let mut stored = Vec::new();
        Compressor::new().store_typed(bytes, transform, &mut stored);
        let length = u32::try_from(bytes.len()).unwrap();
        assert_eq!(Decompressor::new().open(&stored, length, "fuzz").unwrap(), bytes);
    }
    let mut stored = Vec::new();
    if !bytes.is_empty() {
        Compressor::new().store(bytes, &mut stored);
        let length = u32::try_from(bytes.len()).unwrap();
        assert_eq!(Decompressor::new().open(&stored, length, "fuzz").unwrap(), bytes);
    }
});
