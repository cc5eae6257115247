//! A backend that remembers what was asked of it: cost becomes something a test can compare.

use std::sync::Mutex;

use super::lock;
use crate::backend::{Backend, Key, Listed, Retention, Space};
use crate::error::Result;
use crate::traffic::Traffic;

/// What was asked of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// `put_new`
    Put,
    /// `get`
    Get,
    /// `get_range`
    GetRange,
    /// `list`, `list_all`
    List,
    /// `length`
    Length,
    /// `delete`
    Delete,
}

/// One call: what, and the key or the prefix of the space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// The object's name; for a listing the space's prefix, and nothing for one of everything.
    pub name: String,
}

/// Passes everything on and remembers it, in the order in which the calls began.
#[derive(Debug)]
pub struct RecordingBackend<B> {
    inner: B,
    /// The calls so far.
    calls: Mutex<Vec<Call>>,
}

impl<B: Backend> RecordingBackend<B> {
    /// Wraps a backend.
    pub fn new(inner: B) -> Self {
        RecordingBackend { inner, calls: Mutex::default() }
    }

    /// Returns the calls so far and forgets them.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.calls))
    }

    fn note(&self, verb: Verb, name: impl ToString) {
        lock(&self.calls).push(Call { verb, name: name.to_string() });
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend> Backend for RecordingBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.note(Verb::Put, key);
        self.inner.put_new(key, parts)
    }

    fn put_new_data(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.note(Verb::Put, key);
        self.inner.put_new_data(key, parts)
    }

    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        self.note(Verb::Get, key);
        self.inner.get(key, bytes_max)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.note(Verb::GetRange, key);
        self.inner.get_range(key, offset, length)
    }

    fn get_up_to(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.note(Verb::GetRange, key);
        self.inner.get_up_to(key, offset, length)
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.note(Verb::List, space.prefix());
        self.inner.list(space, each)
    }

    fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
        self.note(Verb::List, "");
        self.inner.list_all(each)
    }

    fn length(&self, key: &Key) -> Result<u64> {
        self.note(Verb::Length, key);
        self.inner.length(key)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.note(Verb::Delete, key);
        self.inner.delete(key)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn writes_at_once(&self) -> usize {
        self.inner.writes_at_once()
    }

    fn reads_at_once(&self) -> Option<usize> {
        self.inner.reads_at_once()
    }

    fn traffic(&self) -> Option<Traffic> {
        self.inner.traffic()
    }

    fn leaves_traces(&self, bytes: u64) -> bool {
        self.inner.leaves_traces(bytes)
    }

    fn clean_up(&self) -> Result<()> {
        self.inner.clean_up()
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        self.inner.retention(key)
    }

    fn extend_lock(&self, key: &Key, retention: Retention) -> Result<()> {
        self.inner.extend_lock(key, retention)
    }
}
