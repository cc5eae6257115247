//! The system catalog and the names that are kept of it: never a panic, and names come back as they are.
#![no_main]
use colvault_engine::columnstore::catalog::{CatalogExtent, NEEDED, Place, decode};
use colvault_engine::format::names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = names::decode(bytes);
    // Extents one after the other: a number of an object, two of a place, a length, then bytes.
    let mut extents = Vec::new();
    let mut rest = bytes;
    while let Some(([object, segment, lbid, length], tail)) = rest.split_first_chunk::<4>() {
        let (taken, tail) = tail.split_at(tail.len().min(usize::from(*length) * 8));
        rest = tail;
        let place = Place { partition: 0, segment: u32::from(*segment % 4), number: 0 };
        let oid = NEEDED[usize::from(*object) % NEEDED.len()];
        // A block of a dictionary is more than a fuzzer makes: what it has stands at the front.
        let mut bytes = taken.to_vec();
        if oid >= 2000 {
            bytes.resize(8192, 0xff);
        }
        extents.push(CatalogExtent { oid, place, lbid: u64::from(*lbid), bytes });
    }
    let catalog = decode(&extents);
    let chunks = names::encode(&catalog.tables);
    let back: Vec<_> = chunks.iter().flat_map(|chunk| names::decode(chunk).unwrap()).collect();
    assert_eq!(back, catalog.tables);
});
