//! OID bitmaps: never a panic, and ranges in use are those whose bits are set.
#![no_main]
use colvault_engine::columnstore::brm::{OID_MAX, OidBitmap};
use libfuzzer_sys::fuzz_target;

/// Bytes of the free list and of the bitmap.
const FIXED: usize = 2048 + (1 << 21);

fuzz_target!(|input: (Vec<(u32, u8)>, [(u32, u32); 4], Vec<u8>)| {
    let (bytes, ranges, end) = input;
    let mut file = vec![0xff; 2048];
    for (entry, (first, last)) in file.chunks_mut(8).zip(ranges) {
        entry[..4].copy_from_slice(&first.to_le_bytes());
        entry[4..].copy_from_slice(&last.to_le_bytes());
    }
    file.resize(FIXED, 0);
    for (at, value) in &bytes {
        file[2048 + (*at as usize & 0x1f_ffff)] = *value;
    }
    file.extend(&end);
    let Ok(bitmap) = OidBitmap::decode(&file) else { return };
    assert_eq!(file.len(), FIXED + 2 + 2 * bitmap.version_buffer_db_roots.len());
    let mut next = 0;
    let mut taken = 0;
    for range in bitmap.taken() {
        assert!(range.first >= next && range.first <= range.last && range.last <= OID_MAX);
        assert!(bitmap.is_taken(range.first) && bitmap.is_taken(range.last));
        assert!(range.first == 0 || !bitmap.is_taken(range.first - 1));
        assert!(!bitmap.is_taken(range.last + 1));
        taken += u64::from(range.last - range.first) + 1;
        next = range.last + 1;
    }
    let bits: u64 = file[2048..FIXED].iter().map(|byte| u64::from(byte.count_ones())).sum();
    assert_eq!(taken, bits);
});
