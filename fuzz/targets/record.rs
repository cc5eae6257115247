//! Headers and records: never a panic, and what opens seals to the same bytes.
#![no_main]
use colvault_engine::format::{open_record, seal_record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The reserved bytes are ignored by readers of this version and zero when written.
    let reserved_zero = bytes.get(28..32) == Some(&[0; 4]) && bytes.get(72..80) == Some(&[0; 8]);
    if let Ok((header, body)) = open_record(bytes, "fuzz")
        && reserved_zero
    {
        assert_eq!(seal_record(&header, body), bytes);
    }
    // A body from the fuzzer, sealed: the way to the code behind the checksum.
    if let Some((head, body)) = bytes.split_first_chunk::<80>()
        && let Ok(header) = colvault_engine::format::Header::decode(head, "fuzz")
    {
        let sealed = seal_record(&header, body);
        assert_eq!(open_record(&sealed, "fuzz").unwrap(), (header, body));
    }
});
