//! Journals of the BRM: never a panic, and the same in one piece and in many.
#![no_main]
use colvault_engine::columnstore::brm::{Journal, JournalReader, command_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (length, bytes) = input;
    let whole = Journal::decode(&bytes);
    let mut reader = JournalReader::default();
    let mut pieces = bytes.chunks(usize::from(length).max(1));
    let in_pieces = pieces.try_for_each(|piece| reader.read(piece)).and_then(|()| reader.end());
    assert_eq!(whole, in_pieces);
    if let Ok(journal) = whole {
        assert_eq!(journal.commands.values().sum::<u64>(), journal.records);
        // Five bytes a record, at least.
        assert!(journal.records * 5 <= bytes.len() as u64);
        for command in journal.commands.keys() {
            let _ = command_name(*command);
        }
    }
});
