//! The parent: the snapshot that unchanged files are taken from.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::backend::is_unanswered;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ChunkKind;
use crate::format::extent::{Extent, LIST_DEPTH_MAX};
use crate::format::manifest::{Entry, compare_paths};
use crate::format::snapshot::Component;
use crate::id::ChunkId;
use crate::manifest::{ManifestReader, MetaReader};
use crate::progress::{Event, Observer};
use crate::repository::Repository;
use crate::snapshot::{Listing, Named};

/// Returns the snapshots of a source, newest first, whichever host made them.
pub(crate) fn same_source<'a>(
    listing: &'a Listing,
    kind: &str,
    group: &str,
) -> impl Iterator<Item = &'a Named> + Clone {
    listing
        .snapshots
        .iter()
        .rev()
        .filter(move |named| named.snapshot.kind == kind && named.snapshot.group == group)
}

/// Chooses the newest snapshot of the same group: of this host if there is one. A deployment is
/// known by its name, wherever it is mounted; after a failover another host has its parent.
pub(super) fn choose<'a>(
    listing: &'a Listing,
    kind: &str,
    group: &str,
    host: &str,
) -> Option<&'a Named> {
    let mut same = same_source(listing, kind, group);
    let newest = same.clone().next();
    same.find(|named| named.snapshot.host == host).or(newest.filter(|_| kind == "deployment"))
}

/// The parent's entries of one component, read in step with the walk.
pub(crate) struct ParentCursor<'a> {
    repository: &'a Repository,
    reader: Option<ManifestReader<'a>>,
    next: Option<Entry>,
}

impl<'a> ParentCursor<'a> {
    pub fn new(repository: &'a Repository, component: Option<&Component>) -> Self {
        let reader = component.map(|component| ManifestReader::new(repository, component));
        ParentCursor { repository, reader, next: None }
    }

    /// Returns the parent's entry of this path; paths come in rising order. A parent that cannot
    /// be read is as good as none: the observer is told, and files are read again.
    ///
    /// Fails when a store gives no answer: the rest of the backup would not get one either.
    pub fn seek(&mut self, path: &[u8], observer: &dyn Observer) -> Result<Option<Entry>> {
        loop {
            if self.next.is_none() {
                let Some(reader) = self.reader.as_mut() else { return Ok(None) };
                match reader.next_entry() {
                    Ok(Some(entry)) => self.next = Some(entry),
                    Ok(None) => self.reader = None,
                    Err(error) if is_unanswered(self.repository.backend(), &error) => {
                        return Err(error);
                    }
                    Err(error) => {
                        let text =
                            format!("the parent's manifest is not used any further: {error}");
                        observer.event(Event::Warning(&text));
                        self.reader = None;
                    }
                }
            }
            let Some(next) = &self.next else { return Ok(None) };
            match compare_paths(&next.path, path) {
                std::cmp::Ordering::Less => self.next = None,
                std::cmp::Ordering::Equal => return Ok(self.next.take()),
                std::cmp::Ordering::Greater => return Ok(None),
            }
        }
    }
}

/// Whether the index may name every chunk and list that an entry names itself: a look at the filter,
/// in memory. Says no when something of it is certainly not stored, whatever the parent says.
pub(super) fn may_be_stored(repository: &Repository, extents: &[Extent]) -> bool {
    extents.iter().all(|extent| match extent {
        Extent::Chunk { id, .. }
        | Extent::Slice { id, .. }
        | Extent::List { id, .. }
        | Extent::Recipe { id, .. } => repository.index().may_contain(*id),
        Extent::Zero { .. } | Extent::Hole { .. } | Extent::Lost { .. } => true,
    })
}

/// Extents of a stretch that are kept in memory; of one with more nothing is known. A span of the
/// usual sizes has some thousand.
const FORMER_EXTENTS_MAX: usize = 1 << 16;

/// What is known of a file from the parent.
#[derive(Clone, Default)]
pub(super) struct Before {
    /// Its content then.
    pub extents: Vec<Extent>,
    /// Nothing was wrong with it, so what it held was verified.
    pub is_sound: bool,
}

/// What the parent has between two places of a file.
#[derive(Default)]
pub(super) struct Former {
    /// By offset in the file; no lists.
    extents: HashMap<u64, Extent>,
    /// Recipes, wherever they stand.
    recipes: HashSet<ChunkId>,
    is_sound: bool,
}

impl Before {
    /// Returns what is known of a stretch. What cannot be read is not known.
    pub fn within(&self, repository: &Repository, range: &Range<u64>) -> Former {
        let mut former = Former { is_sound: self.is_sound, ..Former::default() };
        if self.extents.is_empty() {
            return former;
        }
        let mut meta = MetaReader::new(repository);
        let mut pending = Vec::new();
        let place = |mut offset: u64, extents: &[Extent], depth: usize, pending: &mut Vec<_>| {
            for extent in extents {
                let end = offset + extent.length();
                if end > range.start && offset < range.end {
                    pending.push((offset, *extent, depth));
                }
                offset = end;
            }
        };
        place(0, &self.extents, 0, &mut pending);
        while let Some((offset, extent, depth)) = pending.pop() {
            if pending.len() + former.extents.len() > FORMER_EXTENTS_MAX {
                return Former::default();
            }
            match extent {
                Extent::List { id, length } => {
                    let listed = (depth < LIST_DEPTH_MAX).then(|| meta.list(id, length));
                    if let Some(Ok(listed)) = listed {
                        place(offset, &listed, depth + 1, &mut pending);
                    }
                    continue;
                }
                Extent::Recipe { id, .. } => drop(former.recipes.insert(id)),
                _ => {}
            }
            former.extents.insert(offset, extent);
        }
        former
    }
}

impl Former {
    /// Whether the parent has a recipe, wherever it stands in this stretch.
    pub fn reaches(&self, recipe: ChunkId) -> bool {
        self.recipes.contains(&recipe)
    }

    /// Whether the parent has exactly these extents from byte `offset` on, and nothing was wrong with
    /// the file: what they stand for was verified. That their chunks are known says nothing: a backup
    /// that made no snapshot may have stored them, or one of another source.
    pub fn vouches_for(&self, mut offset: u64, extents: &[Extent]) -> bool {
        // Zeros may have joined those of the slot before: then nothing is left to compare.
        self.is_sound
            && !extents.is_empty()
            && extents.iter().all(|extent| {
                let is_same = self.extents.get(&offset) == Some(extent);
                offset += extent.length();
                is_same
            })
    }
}

/// Whether every chunk of some content is in a pack that is there. Asked when packs are missing:
/// then what a parent says is stored may be gone.
pub(super) fn is_stored(repository: &Repository, extents: &[Extent]) -> Result<bool> {
    let mut meta = MetaReader::new(repository);
    let stop = || Error::new(ErrorKind::NotFound, "chunk", "not stored any more");
    let all = meta.extents(extents, &mut |_, extent| match extent {
        Extent::Chunk { id, .. } | Extent::Slice { id, .. } => {
            repository.index().find(id, ChunkKind::Data)?.map(drop).ok_or_else(stop)
        }
        Extent::Recipe { id, length } => {
            let find = |chunk| repository.index().find(chunk, ChunkKind::Data);
            let recipe = repository.read_recipe(id, length)?;
            recipe.chunks().try_for_each(|chunk| find(chunk)?.map(drop).ok_or_else(stop))
        }
        _ => Ok(()),
    });
    let lists = meta.lists(extents, &mut |id| {
        repository.index().find(id, ChunkKind::Meta)?.map(drop).ok_or_else(stop)
    });
    match all.and(lists) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(false),
        Err(error) => Err(error),
    }
}
