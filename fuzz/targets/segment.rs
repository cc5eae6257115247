//! Headers of segment files and slots: never a panic, borders rise and stay within the file.
#![no_main]
use colvault_engine::columnstore::SegmentPath;
use colvault_engine::columnstore::segment::{
    BLOCK_BYTES, MAGIC, Packing, SLOT_BYTES_MAX, Segment, SlotHead, SlotState, checksum, header_length,
    verify_slot,
};
use libfuzzer_sys::fuzz_target;

fn hold(bytes: &[u8], size: u64) {
    let Some(length) = header_length(bytes) else { return };
    let segment = Segment::decode(&bytes[..length.min(bytes.len())], size);
    assert_eq!(segment.slots(), segment.bounds.len().saturating_sub(1) as u64);
    for pair in segment.bounds.windows(2) {
        assert!(pair[0] < pair[1] && pair[1] <= size && pair[1] - pair[0] <= SLOT_BYTES_MAX);
    }
    assert_eq!(segment.compressed_facts().is_some(), !segment.bounds.is_empty());
    for fault in &segment.faults {
        assert!(fault.offset < length as u64);
    }
}

fuzz_target!(|input: (u64, Vec<u64>, Vec<u64>, Vec<u8>)| {
    let (size, fields, pointers, bytes) = input;
    hold(&bytes, size);
    // A header, with any fields and pointers.
    let mut header = vec![0; BLOCK_BYTES as usize];
    let put = |header: &mut Vec<u8>, at: usize, number: u64| {
        header[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    put(&mut header, 0, MAGIC);
    put(&mut header, 24, BLOCK_BYTES);
    for (number, field) in fields.iter().take(500).enumerate().filter(|(number, _)| *number != 2) {
        put(&mut header, 8 + 8 * number, *field);
    }
    put(&mut header, 4096, BLOCK_BYTES);
    let mut at = BLOCK_BYTES;
    for (number, more) in pointers.iter().take(511).enumerate() {
        at = at.wrapping_add(more.wrapping_mul(BLOCK_BYTES));
        put(&mut header, 4104 + 8 * number, at);
    }
    hold(&header, size);
    hold(&header, u64::MAX);

    let _ = SegmentPath::parse(&bytes);
    const PACKINGS: [Packing; 2] = [Packing::Snappy, Packing::Lz4];
    for packing in [None, Some(Packing::Snappy), Some(Packing::Lz4)] {
        if let SlotState::Holds = verify_slot(&bytes, 0, 0, packing) {
            let head = SlotHead::decode(&bytes).unwrap();
            let end = head.payload_end(bytes.len()).unwrap();
            assert_eq!(checksum(&bytes[9..end]), head.checksum);
            let found = Packing::of_signature(head.signature);
            assert!(found.is_some() && (packing.is_none() || packing == found));
        }
        for written in PACKINGS {
            let mut slot = vec![written.signature()];
            slot.extend(checksum(&bytes).to_le_bytes());
            slot.extend((bytes.len() as u32).to_le_bytes());
            slot.extend(&bytes);
            let holds = !bytes.is_empty() && packing.is_none_or(|packing| packing == written);
            assert_eq!(verify_slot(&slot, 0, 0, packing) == SlotState::Holds, holds);
        }
    }
});
