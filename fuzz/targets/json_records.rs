//! JSON bodies: never a panic, and what is read survives being written and read.
#![no_main]
use colvault_engine::format::config::{Config, FeatureRecord, from_json, to_json};
use colvault_engine::format::session::{Doomed, Lease};
use colvault_engine::format::snapshot::Snapshot;
use libfuzzer_sys::fuzz_target;

macro_rules! round_trip {
    ($kind:ty, $bytes:expr) => {
        if let Ok(value) = from_json::<$kind>($bytes, "fuzz") {
            assert_eq!(from_json::<$kind>(&to_json(&value), "fuzz").unwrap(), value);
        }
    };
}

fuzz_target!(|bytes: &[u8]| {
    round_trip!(Config, bytes);
    round_trip!(FeatureRecord, bytes);
    round_trip!(Lease, bytes);
    round_trip!(Doomed, bytes);
    round_trip!(Snapshot, bytes);
    if let Ok(config) = from_json::<Config>(bytes, "fuzz") {
        let _ = config.cutter.validate("fuzz");
    }
});
