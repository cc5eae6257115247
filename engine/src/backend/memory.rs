//! A backend in memory, for tests and for measuring what everything but the disk costs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Backend, Key, Listed, Space};
use crate::error::{Error, ErrorKind, Result};

/// Objects in a map. Each call is atomic.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    /// Every object by its name; locked for the length of one call.
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryBackend {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one with these objects, by name.
    pub fn with_objects(objects: BTreeMap<String, Vec<u8>>) -> Self {
        MemoryBackend { objects: Mutex::new(objects) }
    }

    /// Returns a copy of every object, by name.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, key.to_string(), "no such object")
}

impl Backend for MemoryBackend {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        let mut objects = self.lock();
        let name = key.to_string();
        if objects.contains_key(&name) {
            return Err(Error::new(ErrorKind::AlreadyExists, name, "the object exists"));
        }
        objects.insert(name, parts.concat());
        Ok(())
    }

    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        let objects = self.lock();
        let bytes = objects.get(&key.to_string()).ok_or_else(|| missing(key))?;
        super::local::check_length(key, bytes.len() as u64, bytes_max)?;
        Ok(bytes.clone())
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        let objects = self.lock();
        let bytes = objects.get(&key.to_string()).ok_or_else(|| missing(key))?;
        usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(length)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| super::local::too_short(key, offset, length, bytes.len() as u64))
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let prefix = format!("{}/", space.prefix());
        for (name, bytes) in self.lock().iter().filter(|(name, _)| name.starts_with(&prefix)) {
            each(Listed { name: name.clone(), bytes: bytes.len() as u64 });
        }
        Ok(())
    }

    fn length(&self, key: &Key) -> Result<u64> {
        self.lock().get(&key.to_string()).map(|b| b.len() as u64).ok_or_else(|| missing(key))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.lock().remove(&key.to_string());
        Ok(())
    }
}
