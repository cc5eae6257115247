//! A backend that can show what a crash at any point would have left behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::backend::{Backend, Key, Listed, MemoryBackend, Retention, Space};
use crate::error::Result;
use crate::traffic::Traffic;

/// A change that became durable.
#[derive(Clone, Debug)]
enum Step {
    Put(String, Arc<[u8]>),
    Delete(String),
}

/// Keeps the objects it began with and every change since, in the order in which they became
/// durable. A write is visible whole or not at all: what a torn write leaves lies outside the name
/// space, so the image between two steps is the image before the second.
#[derive(Debug)]
pub struct CrashBackend {
    live: MemoryBackend,
    start: BTreeMap<String, Vec<u8>>,
    /// The changes so far; held while one is made, so that order and state agree.
    steps: Mutex<Vec<Step>>,
}

impl CrashBackend {
    /// Begins with these objects.
    pub fn new(start: BTreeMap<String, Vec<u8>>) -> Self {
        let live = MemoryBackend::with_objects(start.clone());
        CrashBackend { live, start, steps: Mutex::default() }
    }

    /// Returns how many changes there were.
    pub fn steps(&self) -> usize {
        lock(&self.steps).len()
    }

    /// Returns the name of the object the given change was about, and whether it created it.
    pub fn step(&self, number: usize) -> (String, bool) {
        match &lock(&self.steps)[number] {
            Step::Put(name, _) => (name.clone(), true),
            Step::Delete(name) => (name.clone(), false),
        }
    }

    /// Returns the objects there would be after a crash right behind the first `count` changes,
    /// leaving out those in `lost`: changes that another thread had under way at that moment.
    pub fn image(&self, count: usize, lost: &[usize]) -> BTreeMap<String, Vec<u8>> {
        let mut image = self.start.clone();
        for (number, step) in lock(&self.steps).iter().take(count).enumerate() {
            match step {
                _ if lost.contains(&number) => {}
                Step::Put(name, bytes) => drop(image.insert(name.clone(), bytes.to_vec())),
                Step::Delete(name) => drop(image.remove(name)),
            }
        }
        image
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for CrashBackend {
    fn location(&self) -> String {
        self.live.location()
    }

    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        let mut steps = lock(&self.steps);
        self.live.put_new(key, parts)?;
        steps.push(Step::Put(key.to_string(), parts.concat().into()));
        Ok(())
    }

    fn put_new_data(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        self.put_new(key, parts)
    }

    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        self.live.get(key, bytes_max)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.live.get_range(key, offset, length)
    }

    fn get_up_to(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.live.get_up_to(key, offset, length)
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.live.list(space, each)
    }

    fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
        self.live.list_all(each)
    }

    fn length(&self, key: &Key) -> Result<u64> {
        self.live.length(key)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let mut steps = lock(&self.steps);
        self.live.delete(key)?;
        steps.push(Step::Delete(key.to_string()));
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        self.live.free_bytes()
    }

    fn writes_at_once(&self) -> usize {
        self.live.writes_at_once()
    }

    fn reads_at_once(&self) -> Option<usize> {
        self.live.reads_at_once()
    }

    fn traffic(&self) -> Option<Traffic> {
        self.live.traffic()
    }

    fn leaves_traces(&self, bytes: u64) -> bool {
        self.live.leaves_traces(bytes)
    }

    fn clean_up(&self) -> Result<()> {
        self.live.clean_up()
    }

    fn retention(&self, key: &Key) -> Result<Option<Retention>> {
        self.live.retention(key)
    }

    fn extend_lock(&self, key: &Key, retention: Retention) -> Result<()> {
        self.live.extend_lock(key, retention)
    }
}
