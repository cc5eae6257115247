//! Journals of the BRM: never a panic, and records cover the whole.
#![no_main]
use colvault_engine::columnstore::brm::{Journal, command_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(journal) = Journal::decode(bytes) {
        let mut at = 0;
        for record in &journal.records {
            assert_eq!(record.offset, at + 4);
            assert_eq!(bytes[record.offset as usize], record.command);
            let _ = command_name(record.command);
            at = record.offset + u64::from(record.length);
        }
        assert_eq!(at, bytes.len() as u64);
    }
});
