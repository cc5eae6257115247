//! Read-only memory maps of files that this program owns. The door to memmap2, and the only place
//! with unsafe code.
//!
//! A map of a file that somebody truncates ends in SIGBUS, so sources and repositories are never
//! mapped. The files mapped here are private to the cache: created by this program, held by a
//! lock, never shortened while mapped.
#![expect(unsafe_code, reason = "a memory map is only as good as the promise about its file")]

use std::fs::File;
use std::ops::{Deref, DerefMut};

/// A writable shared map of a whole file.
pub struct OwnedMap(memmap2::MmapMut);

impl OwnedMap {
    /// Maps `file`, which the caller holds exclusively (by a lock) and does not
    /// shorten while the map lives.
    pub fn of_locked(file: &File) -> std::io::Result<Self> {
        // SAFETY: the promise is made by the callers: `index::filter` maps a file in the program's
        // own cache directory (mode 0700) while it holds the exclusive lock of the database beside
        // it, and gives the file its length before mapping it, never after.
        unsafe { memmap2::MmapMut::map_mut(file) }.map(OwnedMap)
    }
}

impl Deref for OwnedMap {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for OwnedMap {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
