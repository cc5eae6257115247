//! Where objects are stored: a flat space of names, each written once.
//!
//! A backend knows nothing of what it stores. What it promises (FORMAT.md 7.2):
//!
//! * [`Backend::put_new`] creates an object whole or not at all, durably before it returns, and
//!   never replaces one;
//! * an object that was created is seen by every later `get` and `list`;
//! * it retries what is worth retrying itself: an error it returns is final.
//!
//! Every backend and every wrapper passes the same suite, `tests/suite/backend_contract.rs`.

mod contents;
mod key;
mod local;
mod memory;
#[cfg(feature = "s3")]
mod s3;
mod several;

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, ErrorKind, Result};
use crate::format::config::ObjectLockMode;
use crate::traffic::Traffic;
pub use contents::Contents;
pub(crate) use contents::listed;
pub use key::{Key, Space};
pub use local::LocalBackend;
pub use memory::MemoryBackend;
#[cfg(feature = "s3")]
pub use s3::{Hidden, S3Backend};
pub use several::for_each_read;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name; [`Key::parse`] tells whether it is one of ours.
    pub name: String,
    /// Its stored length in bytes.
    pub bytes: u64,
}

/// How an object is kept from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Until when.
    pub until: SystemTime,
    /// Who may delete it all the same, where that is known.
    pub mode: Option<ObjectLockMode>,
}

/// A store of immutable objects. Blocking; shared between threads.
pub trait Backend: Send + Sync {
    /// Returns where this is, for messages.
    fn location(&self) -> String;

    /// Creates an object from the parts in order.
    ///
    /// Fails with `AlreadyExists` when the name is taken, `Full` when there is no space; then
    /// nothing of it is visible.
    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()>;

    /// As [`Backend::put_new`], for a pack of data chunks: only restores and deep checks read it, so that a
    /// backend may keep it on slower storage.
    fn put_new_data(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.put_new(key, parts)
    }

    /// Returns all bytes of an object. Fails with `NotFound`, and with `Corrupt` when it is longer
    /// than `bytes_max`: nothing is read into memory without a limit.
    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>>;

    /// Returns `length` bytes from `offset`. Fails with `NotFound`, and with `Corrupt` when the
    /// object ends before.
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>>;

    /// Returns `length` bytes from `offset`, or as many as there are. Fails with `NotFound`, and with
    /// `Corrupt` when the object ends before `offset`.
    fn get_up_to(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let there = self.length(key)?.saturating_sub(offset);
        self.get_range(key, offset, usize::try_from(there).unwrap_or(usize::MAX).min(length))
    }

    /// Calls `each` for every object of a space, in no order.
    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()>;

    /// Calls `each` for every object of every space; the spaces come in the order of [`Space::ALL`], as far as
    /// the store keeps to it.
    fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
        Space::ALL
            .into_iter()
            .try_for_each(|space| self.list(space, &mut |object| each(space, object)))
    }

    /// Returns an object's stored length. Fails with `NotFound`.
    fn length(&self, key: &Key) -> Result<u64>;

    /// Deletes an object. Succeeds when it was not there.
    fn delete(&self, key: &Key) -> Result<()>;

    /// Returns how many bytes can still be written, when the backend knows.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Returns how many writes are best under way at once, each by a thread of its own.
    fn writes_at_once(&self) -> usize {
        2
    }

    /// Returns how many reads are best under way at once where each waits for the store and not for
    /// the processor; `None` where reading costs processor time above all.
    fn reads_at_once(&self) -> Option<usize> {
        None
    }

    /// Returns what was asked of the store so far, when that costs anything.
    fn traffic(&self) -> Option<Traffic> {
        None
    }

    /// Whether a write of so many bytes that is interrupted may leave something behind, for
    /// [`Backend::clean_up`] to remove.
    fn leaves_traces(&self, _bytes: u64) -> bool {
        true
    }

    /// Removes what interrupted writes of this program left behind and no live process holds.
    fn clean_up(&self) -> Result<()> {
        Ok(())
    }

    /// Returns until when an object may not be deleted; `None` when it may be, or where nothing can be
    /// locked. Fails with `NotFound`.
    fn retention(&self, _key: &Key) -> Result<Option<Retention>> {
        Ok(None)
    }

    /// Keeps an object from being deleted until then, which is not before the time it is locked to; in the
    /// mode of the repository where none is given. Fails with `Unsupported` where nothing can be locked.
    fn extend_lock(&self, _key: &Key, _retention: Retention) -> Result<()> {
        let problem = "objects can be locked in buckets only";
        Err(Error::new(ErrorKind::Unsupported, self.location(), problem))
    }
}

/// Whether an error says that a store far away gave no answer, however often it was asked. That says nothing
/// of the object, where the same error of a disk says that this one cannot be read.
pub fn is_unanswered(backend: &dyn Backend, error: &Error) -> bool {
    error.kind() == ErrorKind::Io && backend.reads_at_once().is_some()
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn location(&self) -> String {
        (**self).location()
    }
    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        (**self).put_new(key, parts)
    }
    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        (**self).get(key, bytes_max)
    }
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        (**self).get_range(key, offset, length)
    }
    fn get_up_to(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        (**self).get_up_to(key, offset, length)
    }
    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        (**self).list(space, each)
    }
    fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
        (**self).list_all(each)
    }
    fn length(&self, key: &Key) -> Result<u64> {
        (**self).length(key)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        (**self).delete(key)
    }
    fn put_new_data(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        (**self).put_new_data(key, parts)
    }
    fn free_bytes(&self) -> Option<u64> {
        (**self).free_bytes()
    }
    fn writes_at_once(&self) -> usize {
        (**self).writes_at_once()
    }
    fn reads_at_once(&self) -> Option<usize> {
        (**self).reads_at_once()
    }
    fn traffic(&self) -> Option<Traffic> {
        (**self).traffic()
    }
    fn leaves_traces(&self, bytes: u64) -> bool {
        (**self).leaves_traces(bytes)
    }
    fn clean_up(&self) -> Result<()> {
        (**self).clean_up()
    }
    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        (**self).retention(key)
    }
    fn extend_lock(&self, key: &Key, retention: Retention) -> Result<()> {
        (**self).extend_lock(key, retention)
    }
}
