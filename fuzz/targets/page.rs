//! InnoDB tablespaces: never a panic, and no size of a page but those there are.
#![no_main]
use colvault_engine::columnstore::page::{HEAD_BYTES, PageState, Tablespace};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, u64, &[u8])| {
    let (flags, size, bytes) = input;
    let _ = Tablespace::recognise(bytes, size);
    let mut first = bytes.to_vec();
    first.resize(first.len().max(HEAD_BYTES), 0);
    first[24..26].copy_from_slice(&[0, 8]);
    first[4..8].fill(0);
    first[54..58].copy_from_slice(&flags.to_be_bytes());
    if let Some(space) = Tablespace::recognise(&first, size) {
        assert!(space.page_bytes.is_power_of_two() && (4096..=65_536).contains(&space.page_bytes));
        for length in [0, 1, 4, 64, space.page_bytes] {
            first.resize(length, 0);
            let state = space.verify(&first, 7);
            let is_unused = first.iter().all(|byte| *byte == 0);
            assert_eq!(state == PageState::Unused, is_unused);
        }
    }
});
