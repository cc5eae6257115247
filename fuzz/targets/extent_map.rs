//! Extent maps: never a panic, nothing but the whole is read, and counts come from the file's size.
#![no_main]
use colvault_engine::columnstore::brm::ExtentMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ExtentMap::decode(bytes);
    // Behind the first word and counts that fit: any bytes as extents.
    for (version, each) in [(4, 64), (5, 96)] {
        let extents = bytes.len() / each;
        let ranges = bytes.len() % each / 16;
        let body = &bytes[..extents * each + ranges * 16];
        let mut file = (0x76f7_8b1b_u32 + version).to_le_bytes().to_vec();
        file.extend((extents as u32).to_le_bytes());
        file.extend((ranges as u32).to_le_bytes());
        file.extend(body);
        if let Ok(map) = ExtentMap::decode(&file) {
            assert_eq!((map.extents.len(), map.free.len()), (extents, ranges));
            assert_eq!(u32::from(map.version), version);
            for extent in &map.extents {
                assert!(extent.end() >= extent.lbid);
            }
            assert!(ExtentMap::decode(&file[..file.len() - 1]).is_err());
            file.push(0);
            assert!(ExtentMap::decode(&file).is_err());
        }
    }
});
