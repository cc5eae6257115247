//! Table locks, the last transaction, the current set: never a panic, nothing but the whole is read.
#![no_main]
use colvault_engine::columnstore::brm::{CurrentSet, TableLock, TableLocks, Transactions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(locks) = TableLocks::decode(bytes) {
        let length = |lock: &TableLock| 40 + lock.owner.len() + 4 * lock.db_roots.len();
        assert_eq!(4 + locks.locks.iter().map(length).sum::<usize>(), bytes.len());
    }
    assert_eq!(Transactions::decode(bytes).is_ok(), bytes.len() == 12);
    if let Ok(set) = CurrentSet::decode(bytes) {
        assert!(bytes.trim_ascii_end().ends_with(set.prefix().as_bytes()));
    }
});
