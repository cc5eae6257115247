//! Several reads at once, where each waits for a store and not for the processor.

use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use super::Backend;
use crate::error::Result;

/// Calls `read` for every item, as many at once as the backend likes best, and `take` on this thread
/// with what came of each, in no order. As many results as reads at once are held at most.
///
/// Fails with the first error of `take`; reads under way are waited for, others not begun.
pub fn for_each_read<T: Send, R: Send>(
    backend: &dyn Backend,
    items: Vec<T>,
    read: impl Fn(T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let at_once = backend.reads_at_once().unwrap_or(1).min(items.len());
    if at_once <= 1 {
        return items.into_iter().try_for_each(|item| take(read(item)));
    }
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        // Whoever reads ends when nobody takes any more: the receiver is gone then.
        let (give, taken) = sync_channel(0);
        for _ in 0..at_once {
            let give = give.clone();
            let (next, read) = (&next, &read);
            scope.spawn(move || {
                while let Some(item) = next() {
                    if give.send(read(item)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(give);
        taken.into_iter().try_for_each(&mut take)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backend::{Key, Listed, MemoryBackend, Space};
    use crate::error::{Error, ErrorKind};

    /// A backend that asks for so many reads at once.
    struct Far(usize);

    impl Backend for Far {
        fn location(&self) -> String {
            "far".to_owned()
        }
        fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
            MemoryBackend::new().put_new(key, parts)
        }
        fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
            MemoryBackend::new().get(key, bytes_max)
        }
        fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
            MemoryBackend::new().get_range(key, offset, length)
        }
        fn list(&self, _: Space, _: &mut dyn FnMut(Listed)) -> Result<()> {
            Ok(())
        }
        fn length(&self, key: &Key) -> Result<u64> {
            MemoryBackend::new().length(key)
        }
        fn delete(&self, _: &Key) -> Result<()> {
            Ok(())
        }
        fn reads_at_once(&self) -> Option<usize> {
            Some(self.0)
        }
    }

    /// Catches an item that is lost, read twice, or read although the taker has failed, and a reader
    /// that waits for ever.
    #[test]
    fn each_item_is_read_once_and_an_error_ends_it() {
        for at_once in [0, 1, 3, 16] {
            let mut seen = BTreeSet::new();
            let read = |n: u32| n * 2;
            for_each_read(&Far(at_once), (0..100).collect(), read, |n| {
                assert!(seen.insert(n), "{n} twice");
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, (0..200).step_by(2).collect());
            let count = Mutex::new(0);
            let read = |_: u32| *count.lock().unwrap() += 1;
            let fail = |()| Err(Error::new(ErrorKind::Io, "taker", "full"));
            let error = for_each_read(&Far(at_once), (0..100).collect(), read, fail).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let read = *count.lock().unwrap();
            assert!(
                read <= 1 + 2 * at_once,
                "{read} read after the taker failed, {at_once} at once"
            );
        }
    }
}
