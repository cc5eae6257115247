//! What a snapshot needs and the repository does not have any more.
//!
//! A proof believes manifests, and of content it reads the files of the BRM alone. Here every chunk of
//! the snapshot is looked up, every recipe is read, and packs are compared with the index by name and
//! length; no content is read.

use std::collections::{BTreeSet, HashSet};

use super::ProofOutcome;
use crate::backend::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::extent::Extent;
use crate::format::snapshot::{Component, Snapshot, Verdict};
use crate::id::{ChunkId, PackId};
use crate::manifest::{ManifestReader, MetaReader};
use crate::progress::Cancel;
use crate::repository::Repository;

/// Adds to an outcome what the snapshot needs and is not in the repository any more; then it is refuted.
///
/// The index must have been loaded, and no session may run on this repository: from now on chunks in
/// packs that are gone count as unknown. Cost: a look at every chunk, every recipe read once, none of the
/// data.
pub fn add_lost(
    repository: &Repository,
    snapshot: &Snapshot,
    outcome: &mut ProofOutcome,
    cancel: &Cancel,
) -> Result<()> {
    let missing: BTreeSet<PackId> = repository.survey_packs()?.missing.into_iter().collect();
    repository.index().avoid(missing.iter().copied());
    let mut search = Search {
        repository,
        cancel,
        lost: Findings::default(),
        packs: BTreeSet::new(),
        whole: HashSet::new(),
    };
    for component in &snapshot.components {
        search.component(component)?;
    }
    let Search { lost, packs, .. } = search;
    if lost.is_empty() {
        return Ok(());
    }
    outcome.proof.verdict = Verdict::Refuted;
    for pack in packs.intersection(&missing) {
        outcome.findings.push(gone(repository, *pack)?);
    }
    outcome.findings.append(lost);
    Ok(())
}

/// Says what became of a pack.
fn gone(repository: &Repository, pack: PackId) -> Result<Finding> {
    let mut expected = 0;
    repository.index().packs(&mut |known| {
        if known.id == pack {
            expected = known.bytes;
        }
    })?;
    let key = Key::Pack(pack);
    match repository.backend().length(&key) {
        Ok(found) => {
            let detail = format!("{expected} bytes expected, found {found}");
            Ok(Finding::new(FindingKind::WrongSize, key.to_string(), detail))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let detail = format!("a pack of {expected} bytes expected, it is not there");
            Ok(Finding::new(FindingKind::MissingObject, key.to_string(), detail))
        }
        Err(error) => Err(error),
    }
}

struct Search<'a> {
    repository: &'a Repository,
    cancel: &'a Cancel,
    /// One finding for each file that lacks content.
    lost: Findings,
    /// The packs that had it.
    packs: BTreeSet<PackId>,
    /// Recipes that were read, and whose blocks are all there.
    whole: HashSet<ChunkId>,
}

impl Search<'_> {
    fn component(&mut self, component: &Component) -> Result<()> {
        let mut manifest = ManifestReader::new(self.repository, component);
        let mut meta = MetaReader::new(self.repository);
        loop {
            self.cancel.check()?;
            match manifest.next_entry() {
                Ok(Some(entry)) => {
                    let object = || component.recorded(&entry.path);
                    self.content(&mut meta, entry.extents(), &object)?;
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    return self.unreadable(format!("the manifest of {}", component.name), &error);
                }
            }
        }
    }

    /// Looks up every chunk of a file.
    fn content(
        &mut self,
        meta: &mut MetaReader<'_>,
        extents: &[Extent],
        object: &dyn Fn() -> String,
    ) -> Result<()> {
        let (mut chunks, mut bytes) = (0u64, 0u64);
        let (mut unread, mut first_error) = (0u64, None);
        let mut recipes = MetaReader::new(self.repository);
        let read = meta.extents(extents, &mut |_, extent| {
            let before = chunks;
            match extent {
                Extent::Chunk { id, .. } | Extent::Slice { id, .. } => {
                    chunks += u64::from(self.is_lost(id)?);
                }
                Extent::Recipe { id, length } if !self.whole.contains(&id) => {
                    match recipes.recipe(id, length) {
                        Ok(recipe) => {
                            for block in recipe.chunks() {
                                chunks += u64::from(self.is_lost(block)?);
                            }
                            if chunks == before {
                                self.whole.insert(id);
                            }
                        }
                        Err(error) if damage_of(&error).is_none() => return Err(error),
                        Err(error) => {
                            unread += 1;
                            first_error.get_or_insert(error);
                        }
                    }
                }
                _ => {}
            }
            if chunks > before {
                bytes += extent.length();
            }
            Ok(())
        });
        if let Err(error) = read {
            self.unreadable(object(), &error)?;
        }
        if let Some(error) = first_error {
            let kind = damage_of(&error).unwrap_or(FindingKind::DamagedManifest);
            let detail =
                format!("recipes of slots that cannot be read: {unread}, the first: {error}");
            self.lost.push(Finding::new(kind, object(), detail));
        }
        if chunks > 0 {
            let detail =
                format!("{bytes} bytes of it in {chunks} chunks are in no pack that is there");
            self.lost.push(Finding::new(FindingKind::MissingChunk, object(), detail));
        }
        Ok(())
    }

    /// Whether a chunk is in no pack that is there; remembers the packs that had it.
    fn is_lost(&mut self, id: ChunkId) -> Result<bool> {
        if self.repository.find(id, ChunkKind::Data)?.is_some() {
            return Ok(false);
        }
        let places = self.repository.index().locations(id, ChunkKind::Data)?;
        self.packs.extend(places.into_iter().map(|place| place.pack));
        Ok(true)
    }

    /// What cannot be read on; fails when that says nothing about the repository.
    fn unreadable(&mut self, object: String, error: &Error) -> Result<()> {
        let Some(kind) = damage_of(error) else { return Err(error.repeat()) };
        self.lost.push(Finding::new(kind, object, error.to_string()));
        Ok(())
    }
}

/// What an error of reading says about the repository; `None` for one that says nothing.
fn damage_of(error: &Error) -> Option<FindingKind> {
    match error.kind() {
        ErrorKind::NotFound => Some(FindingKind::MissingChunk),
        ErrorKind::Corrupt => Some(FindingKind::DamagedManifest),
        _ => None,
    }
}
