//! Everything in a repository by name, from one pass over it.

use std::collections::HashMap;

use super::{Backend, Key, Listed, Space};
use crate::error::Result;
use crate::id::PackId;

/// The objects of a repository, by space. Memory: some 100 bytes a pack of 64 MiB.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Names below `doomed/`.
    pub doomed: Vec<Listed>,
    /// Names below `features/`.
    pub features: Vec<Listed>,
    /// Names below `index/`.
    pub indexes: Vec<Listed>,
    /// Packs and their lengths; names below `packs/` that are none of ours are passed over.
    pub packs: HashMap<PackId, u64>,
    /// Names below `snapshots/`.
    pub snapshots: Vec<Listed>,
}

impl Contents {
    /// Lists everything: first what is doomed, then features and index, then packs, then snapshots. What a writer
    /// does rests on that order, so a store that gives names in another is asked for each space by itself.
    pub fn list(backend: &dyn Backend) -> Result<Self> {
        let mut contents = Contents::default();
        let (mut last, mut is_in_order) = (Space::Doomed, true);
        backend.list_all(&mut |space, object| {
            is_in_order &= space >= last;
            last = space;
            contents.take(space, object);
        })?;
        if !is_in_order {
            contents = Contents::default();
            for space in Space::ALL {
                backend.list(space, &mut |object| contents.take(space, object))?;
            }
        }
        Ok(contents)
    }

    fn take(&mut self, space: Space, object: Listed) {
        match space {
            Space::Doomed => self.doomed.push(object),
            Space::Features => self.features.push(object),
            Space::Indexes => self.indexes.push(object),
            Space::Leases => {}
            Space::Packs => {
                if let Some(Key::Pack(id)) = Key::parse(&object.name) {
                    self.packs.insert(id, object.bytes);
                }
            }
            Space::Snapshots => self.snapshots.push(object),
        }
    }
}

/// Returns what a backend lists of one space.
pub(crate) fn listed(backend: &dyn Backend, space: Space) -> Result<Vec<Listed>> {
    let mut objects = Vec::new();
    backend.list(space, &mut |object| objects.push(object))?;
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::id::{IndexId, SessionId};

    /// Gives everything in the order of another store, and notes what it was asked for.
    struct Unordered(MemoryBackend, Mutex<Vec<Space>>);

    impl Backend for Unordered {
        fn location(&self) -> String {
            self.0.location()
        }
        fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
            self.0.put_new(key, parts)
        }
        fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
            self.0.get(key, bytes_max)
        }
        fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
            self.0.get_range(key, offset, length)
        }
        fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
            self.1.lock().unwrap().push(space);
            self.0.list(space, each)
        }
        fn list_all(&self, each: &mut dyn FnMut(Space, Listed)) -> Result<()> {
            Space::ALL
                .iter()
                .rev()
                .try_for_each(|space| self.0.list(*space, &mut |object| each(*space, object)))
        }
        fn length(&self, key: &Key) -> Result<u64> {
            self.0.length(key)
        }
        fn delete(&self, key: &Key) -> Result<()> {
            self.0.delete(key)
        }
    }

    /// Catches a writer that believes a listing in which the index came before what is doomed, and
    /// objects that are listed twice or in the wrong place.
    #[test]
    fn a_listing_in_another_order_is_made_again_space_by_space() {
        let session = SessionId([1; 16]);
        let keys = [
            Key::Config,
            Key::Doomed(session),
            Key::Feature("codec-zstd".to_owned()),
            Key::Index(IndexId([2; 32])),
            Key::Lease(session),
            Key::Pack(PackId([3; 32])),
            Key::Snapshot(session),
        ];
        let fill = || {
            let backend = MemoryBackend::new();
            keys.iter().for_each(|key| backend.put_new(key, &[b"bytes"]).unwrap());
            backend
        };
        let unordered = Unordered(fill(), Mutex::default());
        for (backend, again) in [(&fill() as &dyn Backend, 0), (&unordered, Space::ALL.len())] {
            let contents = Contents::list(backend).unwrap();
            let of = |listed: &[Listed]| -> Vec<String> {
                listed.iter().map(|object| object.name.clone()).collect()
            };
            assert_eq!(of(&contents.doomed), [keys[1].to_string()]);
            assert_eq!(of(&contents.features), [keys[2].to_string()]);
            assert_eq!(of(&contents.indexes), [keys[3].to_string()]);
            assert_eq!(contents.packs, HashMap::from([(PackId([3; 32]), 5)]));
            assert_eq!(of(&contents.snapshots), [keys[6].to_string()]);
            let asked = unordered.1.lock().unwrap();
            assert_eq!(asked.as_slice(), &Space::ALL[..again]);
        }
    }
}
