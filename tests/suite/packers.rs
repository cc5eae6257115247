//! Slots of a real server pack again to the very bytes that the server wrote.

use std::fs;

use colvault_engine::columnstore::segment::{
    Packing, Segment, SlotHead, SlotState, header_length, verify_slot,
};
use colvault_engine::packer::{Pack, Packer, Packers, UNPACKED_BYTES_MAX, unpack};
use colvault_engine::testing::trees::files_below;
use tempfile::tempdir;

use crate::support::nights::bundled;

/// Catches a packer that differs from the server's, on any slot of the bundled nights; and a slot that
/// is not the 64 KiB pieces on which Snappy before and after 1.1.9 agree.
#[test]
fn every_bundled_slot_packs_again_to_its_bytes() {
    let place = tempdir().unwrap();
    let (mut snappy, mut lz4) = (0, 0);
    let (mut unpacked, mut payload) = (Vec::new(), Vec::new());
    for path in bundled(place.path(), 4).iter().flat_map(|night| files_below(night).unwrap()) {
        let bytes = fs::read(&path).unwrap();
        let Some(length) = header_length(&bytes) else { continue };
        let segment = Segment::decode(&bytes[..length + 1], bytes.len() as u64);
        for (number, bounds) in segment.bounds.windows(2).enumerate() {
            let slot = &bytes[bounds[0] as usize..bounds[1] as usize];
            let place = format!("{} slot {number}", path.display());
            let state = verify_slot(slot, number as u64, bounds[0], segment.packing);
            assert_eq!(state, SlotState::Holds, "{place}");
            let head = SlotHead::decode(slot).unwrap();
            let packing = Packing::of_signature(head.signature).unwrap();
            let written = &slot[9..head.payload_end(slot.len()).unwrap()];
            unpack(packing, written, &mut unpacked).unwrap();
            assert!(unpacked.len().is_multiple_of(65_536), "{place}: {}", unpacked.len());
            assert!(unpacked.len() <= UNPACKED_BYTES_MAX);
            assert!(Packers.pack(Packer::all_of(packing)[0], &unpacked, &mut payload));
            assert!(payload == written, "{place}");
            match packing {
                Packing::Snappy => snappy += 1,
                Packing::Lz4 => lz4 += 1,
            }
        }
    }
    assert_eq!((snappy, lz4), (308, 32));
}
