//! Manifests: the entries of a component in path order, as chunks, and the lists of these.
//!
//! Source: FORMAT.md 5.3 to 5.5. [`ManifestWriter`] cuts the list at places that depend on paths
//! alone, so that an unchanged directory is an unchanged chunk. [`ManifestReader`] gives the
//! entries back, one chunk in memory at a time.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::compress::Decompressor;
use crate::error::{Error, Result};
use crate::format::ChunkKind;
use crate::format::extent::{EXTENTS_INLINE_MAX, Extent, LIST_DEPTH_MAX, LISTS_PER_GROUP};
use crate::format::manifest::{
    ChunkRef, Entry, begin_chunk, compare_paths, decode_chunk, decode_list, encode_list,
};
use crate::format::names::{self, Table};
use crate::format::recipe::Recipe;
use crate::format::{extent, snapshot::Component};
use crate::id::{ChunkId, boundary_hash};
use crate::repository::Repository;

/// A manifest chunk ends, on average, every so many entries...
const ENTRIES_AVERAGE: u64 = 512;
/// ...but not before this many...
const ENTRIES_MIN: u64 = 64;
/// ...and at the latest after this many, or this many bytes.
const ENTRIES_MAX: u64 = 4096;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// The same for lists of manifest chunks.
const REFS_AVERAGE: u64 = 256;
const REFS_MIN: usize = 32;
const REFS_MAX: usize = 2048;

/// Stores meta chunks. Implemented by the pipeline, and by tests.
pub trait MetaStore {
    /// Stores a meta chunk unless it is known, and returns its id.
    fn store_meta(&self, raw: &[u8]) -> Result<ChunkId>;
}

/// Takes entries in rising order of path and stores them.
pub struct ManifestWriter<'a> {
    store: &'a dyn MetaStore,
    chunk: Vec<u8>,
    entries: u64,
    first_path: Vec<u8>,
    last_path: Option<Vec<u8>>,
    refs: Vec<ChunkRef>,
    lists: Vec<ChunkId>,
}

impl<'a> ManifestWriter<'a> {
    /// Begins an empty manifest.
    pub fn new(store: &'a dyn MetaStore) -> Self {
        ManifestWriter {
            store,
            chunk: begin_chunk(),
            entries: 0,
            first_path: Vec::new(),
            last_path: None,
            refs: Vec::new(),
            lists: Vec::new(),
        }
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// When its path does not come after the one before: the walk is sorted.
    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        let rising =
            self.last_path.as_ref().is_none_or(|last| compare_paths(last, &entry.path).is_lt());
        assert!(rising, "manifest entries come in rising order of path");
        let boundary = self.entries >= ENTRIES_MIN
            && boundary_hash(&entry.path).is_multiple_of(ENTRIES_AVERAGE);
        let full = self.entries >= ENTRIES_MAX || self.chunk.len() >= CHUNK_BYTES_MAX;
        if boundary || full {
            self.end_chunk()?;
        }
        if self.entries == 0 {
            self.first_path.clone_from(&entry.path);
        }
        entry.encode(&mut self.chunk);
        self.entries += 1;
        self.last_path.get_or_insert_default().clone_from(&entry.path);
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<()> {
        let raw = std::mem::replace(&mut self.chunk, begin_chunk());
        let id = self.store.store_meta(&raw)?;
        let entries = std::mem::take(&mut self.entries);
        self.refs.push(ChunkRef { id, entries, first_path: std::mem::take(&mut self.first_path) });
        let boundary = self.refs.len() >= REFS_MIN
            && u64::from_le_bytes(id.0[..8].try_into().unwrap_or_default())
                .is_multiple_of(REFS_AVERAGE);
        if boundary || self.refs.len() >= REFS_MAX {
            self.end_list()?;
        }
        Ok(())
    }

    fn end_list(&mut self) -> Result<()> {
        let refs = std::mem::take(&mut self.refs);
        self.lists.push(self.store.store_meta(&encode_list(&refs))?);
        Ok(())
    }

    /// Stores what is left and returns the ids of the lists, in order.
    pub fn finish(mut self) -> Result<Vec<ChunkId>> {
        if self.entries > 0 {
            self.end_chunk()?;
        }
        if !self.refs.is_empty() {
            self.end_list()?;
        }
        Ok(self.lists)
    }
}

/// Stores the extents of one span, or of lists, so that at most [`EXTENTS_INLINE_MAX`] stand
/// inline; returns these.
pub fn fold_extents(store: &dyn MetaStore, mut extents: Vec<Extent>) -> Result<Vec<Extent>> {
    while extents.len() > EXTENTS_INLINE_MAX {
        extents = extents
            .chunks(LISTS_PER_GROUP)
            .map(|group| store_list(store, group))
            .collect::<Result<_>>()?;
    }
    Ok(extents)
}

/// Stores some extents as one list and returns the extent that stands for it.
pub fn store_list(store: &dyn MetaStore, extents: &[Extent]) -> Result<Extent> {
    let id = store.store_meta(&extent::encode_list(extents))?;
    Ok(Extent::List { id, length: extents.iter().map(Extent::length).sum() })
}

/// Reads manifests and span lists of one repository.
pub struct MetaReader<'a> {
    repository: &'a Repository,
    decompressor: Decompressor,
}

impl<'a> MetaReader<'a> {
    /// Makes one.
    pub fn new(repository: &'a Repository) -> Self {
        MetaReader { repository, decompressor: Decompressor::new() }
    }

    fn read(&mut self, id: ChunkId) -> Result<Vec<u8>> {
        self.repository.read_chunk(id, ChunkKind::Meta, &mut self.decompressor)
    }

    /// Reads a list of manifest chunks.
    pub fn manifest_list(&mut self, id: ChunkId) -> Result<Vec<ChunkRef>> {
        decode_list(&self.read(id)?).map_err(|error| error.in_object(format!("manifest list {id}")))
    }

    /// Reads the entries of a manifest chunk.
    pub fn manifest_chunk(&mut self, id: ChunkId) -> Result<Vec<Entry>> {
        decode_chunk(&self.read(id)?)
            .map_err(|error| error.in_object(format!("manifest chunk {id}")))
    }

    /// Reads the tables of a chunk of names.
    pub fn names(&mut self, id: ChunkId) -> Result<Vec<Table>> {
        names::decode(&self.read(id)?).map_err(|error| error.in_object(format!("names {id}")))
    }

    /// Reads a list that must describe `length` raw bytes.
    pub fn list(&mut self, id: ChunkId, length: u64) -> Result<Vec<Extent>> {
        extent::decode_list(&self.read(id)?, length)
            .map_err(|error| error.in_object(format!("span list {id}")))
    }

    /// Reads the recipe of a slot of `length` bytes.
    pub fn recipe(&mut self, id: ChunkId, length: u32) -> Result<Recipe> {
        self.repository.read_recipe(id, length)
    }

    /// Calls `each` with the offset of every extent that is not a list, in order, reading lists as
    /// they come.
    pub fn extents(
        &mut self,
        extents: &[Extent],
        each: &mut dyn FnMut(u64, Extent) -> Result<()>,
    ) -> Result<()> {
        self.extents_from(extents, 0, LIST_DEPTH_MAX, each)
    }

    fn extents_from(
        &mut self,
        extents: &[Extent],
        mut offset: u64,
        depth: usize,
        each: &mut dyn FnMut(u64, Extent) -> Result<()>,
    ) -> Result<()> {
        for extent in extents {
            if let Extent::List { id, length } = *extent {
                let depth = depth.checked_sub(1).ok_or_else(|| {
                    Error::corrupt(format!("span list {id}"), "lists nest too deep")
                })?;
                let listed = self.list(id, length)?;
                self.extents_from(&listed, offset, depth, each)?;
            } else {
                each(offset, *extent)?;
            }
            offset += extent.length();
        }
        Ok(())
    }

    /// Calls `each` with the id of every span list among the extents, lists of lists included.
    pub fn lists(
        &mut self,
        extents: &[Extent],
        each: &mut dyn FnMut(ChunkId) -> Result<()>,
    ) -> Result<()> {
        let mut pending: Vec<(Extent, usize)> = extents.iter().map(|extent| (*extent, 0)).collect();
        while let Some((extent, depth)) = pending.pop() {
            if let Extent::List { id, length } = extent {
                each(id)?;
                let listed = self.list(id, length)?;
                if depth < LIST_DEPTH_MAX {
                    pending.extend(listed.into_iter().map(|extent| (extent, depth + 1)));
                }
            }
        }
        Ok(())
    }
}

/// The entries of one component, in order.
pub struct ManifestReader<'a> {
    meta: MetaReader<'a>,
    lists: VecDeque<ChunkId>,
    refs: VecDeque<ChunkRef>,
    entries: std::vec::IntoIter<Entry>,
    last_path: Option<Vec<u8>>,
}

impl<'a> ManifestReader<'a> {
    /// Begins at the first entry.
    pub fn new(repository: &'a Repository, component: &Component) -> Self {
        ManifestReader {
            meta: MetaReader::new(repository),
            lists: component.manifest.iter().copied().collect(),
            refs: VecDeque::new(),
            entries: Vec::new().into_iter(),
            last_path: None,
        }
    }

    /// Returns the next entry; `None` at the end. After an error the entries behind what could not
    /// be read come next: whoever wants all there is goes on.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Returns the path of the next entry without reading the chunk it is in; `None` at the end.
    pub fn peek_path(&mut self) -> Result<Option<&[u8]>> {
        if self.entries.as_slice().is_empty() {
            return Ok(self.next_chunk()?.map(|next| next.first_path.as_slice()));
        }
        Ok(self.entries.as_slice().first().map(|entry| entry.path.as_slice()))
    }

    /// Between two chunks, returns where the next one is stored; inside one, and at the end, `None`.
    pub fn next_chunk(&mut self) -> Result<Option<&ChunkRef>> {
        if !self.entries.as_slice().is_empty() {
            return Ok(None);
        }
        while self.refs.is_empty() {
            let Some(list) = self.lists.pop_front() else { return Ok(None) };
            self.refs = self.meta.manifest_list(list)?.into();
        }
        Ok(self.refs.front())
    }

    /// Whether the next entry has been read.
    pub fn is_open(&self) -> bool {
        !self.entries.as_slice().is_empty()
    }

    /// Reads the next chunk of entries unless the next entry has been read. After an error what is
    /// behind the chunk comes next.
    pub fn open_chunk(&mut self) -> Result<()> {
        if !self.is_open() {
            self.fill()?;
        }
        Ok(())
    }

    /// Passes over the next chunk of entries unread.
    pub fn skip_chunk(&mut self) {
        self.refs.pop_front();
    }

    /// Passes over chunks that only hold paths before this one, unread.
    pub fn skip_to(&mut self, path: &[u8]) -> Result<()> {
        while self.next_chunk()?.is_some() {
            // A chunk ends where the next one begins, which may be in the next list.
            if self.refs.len() == 1
                && let Some(list) = self.lists.pop_front()
            {
                self.refs.extend(self.meta.manifest_list(list)?);
            }
            match self.refs.get(1) {
                Some(next) if compare_paths(&next.first_path, path).is_le() => self.skip_chunk(),
                _ => break,
            }
        }
        Ok(())
    }

    /// Returns the entry of a path that lies ahead. Cost: lists, and one or two chunks of entries.
    pub fn find(mut self, path: &[u8]) -> Result<Option<Entry>> {
        self.skip_to(path)?;
        while let Some(entry) = self.next_entry()? {
            match compare_paths(&entry.path, path) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(entry)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Whether there is an entry at a path or below. Cost: one chunk of entries.
    pub fn holds(mut self, path: &[u8]) -> Result<bool> {
        self.skip_to(path)?;
        while let Some(entry) = self.next_entry()? {
            if compare_paths(&entry.path, path).is_ge() {
                let below = entry.path.strip_prefix(path);
                return Ok(
                    path.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
                );
            }
        }
        Ok(false)
    }

    /// Reads the next chunk of entries; false at the end.
    fn fill(&mut self) -> Result<bool> {
        self.next_chunk()?;
        let Some(next) = self.refs.pop_front() else { return Ok(false) };
        let entries = self.meta.manifest_chunk(next.id)?;
        let object = || format!("manifest chunk {}", next.id);
        if entries.len() as u64 != next.entries {
            return Err(Error::corrupt(
                object(),
                format!("{} entries expected, found {}", next.entries, entries.len()),
            ));
        }
        if let (Some(last), Some(first)) = (&self.last_path, entries.first())
            && compare_paths(last, &first.path).is_ge()
        {
            return Err(Error::corrupt(
                object(),
                "entries after those of the chunk before expected",
            ));
        }
        self.last_path = entries.last().map(|entry| entry.path.clone());
        self.entries = entries.into_iter();
        Ok(true)
    }
}
