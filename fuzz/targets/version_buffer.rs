//! The version buffer's block map (vbbm): never a panic, and nothing but the whole is read.
#![no_main]
use colvault_engine::columnstore::brm::VersionBuffer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = VersionBuffer::decode(bytes);
    let Some((files, rest)) = bytes.split_first() else { return };
    let all = rest.len() / 24;
    let files = usize::from(*files).min(all);
    let mut file = 0x1fb5_8c7a_u32.to_le_bytes().to_vec();
    file.extend(((all - files) as u32).to_le_bytes());
    file.extend((files as u32).to_le_bytes());
    file.extend(&rest[..all * 24]);
    assert!(VersionBuffer::begins(&file));
    if let Ok(buffer) = VersionBuffer::decode(&file) {
        assert_eq!((buffer.files.len(), buffer.blocks.len()), (files, all - files));
        file.push(0);
        assert!(VersionBuffer::decode(&file).is_err());
    }
});
