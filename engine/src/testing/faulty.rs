//! A backend whose writes fail when they are told to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock;
use crate::backend::{Backend, Key, Listed, Retention, Space};
use crate::error::{Error, ErrorKind, Result};
use crate::traffic::Traffic;

/// Which calls of `put_new` fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first call that fails; 0 is the first of all.
    pub first: u64,
    /// How many fail from there on; `u64::MAX` for a disk that stays full.
    pub count: u64,
    /// How they fail.
    pub kind: ErrorKind,
}

/// Passes everything on, but for the writes that fail; of these nothing becomes visible.
#[derive(Debug)]
pub struct FaultyBackend<B> {
    inner: B,
    /// What fails; `None` nothing.
    fault: Mutex<Option<Fault>>,
    puts: AtomicU64,
    failed: AtomicU64,
}

impl<B: Backend> FaultyBackend<B> {
    /// Wraps a backend; nothing fails yet.
    pub fn new(inner: B) -> Self {
        FaultyBackend {
            inner,
            fault: Mutex::default(),
            puts: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Sets what fails from now on, and counts calls from zero again.
    pub fn set(&self, fault: Option<Fault>) {
        self.puts.store(0, Ordering::SeqCst);
        self.failed.store(0, Ordering::SeqCst);
        *lock(&self.fault) = fault;
    }

    /// Returns how many calls of `put_new` there were since the last `set`.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    /// Returns how many of them failed on purpose.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl<B> FaultyBackend<B> {
    fn fail_on_purpose(&self, key: &Key) -> Result<()> {
        let number = self.puts.fetch_add(1, Ordering::SeqCst);
        match *lock(&self.fault) {
            Some(fault) if number >= fault.first && number - fault.first < fault.count => {
                self.failed.fetch_add(1, Ordering::SeqCst);
                Err(Error::new(fault.kind, key.to_string(), "fails on purpose"))
            }
            _ => Ok(()),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<B: Backend> Backend for FaultyBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.fail_on_purpose(key)?;
        self.inner.put_new(key, parts)
    }

    fn put_new_data(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.fail_on_purpose(key)?;
        self.inner.put_new_data(key, parts)
    }

    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        self.inner.get(key, bytes_max)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(key, offset, length)
    }

    fn get_up_to(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_up_to(key, offset, length)
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.inner.list(space, each)
    }

    fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
        self.inner.list_all(each)
    }

    fn length(&self, key: &Key) -> Result<u64> {
        self.inner.length(key)
    }

    fn delete(&self, key: &Key) -> Result<()> {
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
