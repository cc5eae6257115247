//! Payloads of slots: never a panic, never more than a slot holds; what was packed comes back.
#![no_main]
use colvault_engine::columnstore::segment::Packing;
use colvault_engine::packer::{Pack, Packer, Packers, UNPACKED_BYTES_MAX, unpack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut out, mut payload, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for packing in [Packing::Snappy, Packing::Lz4] {
        let opened = unpack(packing, bytes, &mut out);
        assert!(out.capacity() <= UNPACKED_BYTES_MAX);
        assert!(opened.is_ok() || out.is_empty());
        for packer in Packer::all_of(packing).iter().filter(|_| opened.is_ok()) {
            // Whether a packer gives these bytes is told as packing tells it.
            let same = Packers.pack(*packer, &out, &mut payload) && payload == bytes;
            assert_eq!(Packers.gives(*packer, &out, bytes, &mut again), same, "{}", packer.name());
        }
    }
    for packer in Packer::ALL {
        assert!(Packers.pack(packer, bytes, &mut payload));
        unpack(packer.packing(), &payload, &mut out).unwrap();
        assert!(out == bytes, "{}", packer.name());
        assert!(Packers.pack(packer, bytes, &mut again));
        assert!(again == payload, "{}", packer.name());
    }
});
