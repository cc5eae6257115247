//! Versions of blocks (vss): never a panic, and nothing but the whole is read.
#![no_main]
use colvault_engine::columnstore::brm::Versions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Versions::decode(bytes);
    let count = bytes.len() / 24;
    let mut file = 0x7218_db12_u32.to_le_bytes().to_vec();
    file.extend((count as u32).to_le_bytes());
    file.extend(&bytes[..count * 24]);
    assert!(Versions::begins(&file));
    if let Ok(versions) = Versions::decode(&file) {
        assert_eq!(versions.entries.len(), count);
        assert!(versions.entries.iter().all(|entry| entry.lbid < 1 << 63));
        file.push(0);
        assert!(Versions::decode(&file).is_err());
    }
});
