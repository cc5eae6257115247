//! What snapshots reach, counted the plain way: everything in memory, a set for each snapshot.

use std::collections::{BTreeMap, BTreeSet};

use colvault_engine::backend::{Backend, Key, Space};
use colvault_engine::format::ChunkKind;
use colvault_engine::format::extent::Extent;
use colvault_engine::format::manifest::Entry;
use colvault_engine::format::pack::Place;
use colvault_engine::manifest::{ManifestReader, MetaReader};
use colvault_engine::pack::read_trailer;
use colvault_engine::progress::NullObserver;
use colvault_engine::repository::Repository;
use colvault_engine::snapshot::{self, Named};
use colvault_engine::stats::{Amount, Chunks};

use super::Store;

/// A chunk and which kind of pack it is in.
pub type Chunk = (ChunkKind, [u8; 32]);
pub type ChunkSet = BTreeSet<Chunk>;

/// An entry of a snapshot and everything it needs below the manifest.
pub struct Seen {
    pub component: String,
    /// Its path as the source named it.
    pub path: Vec<u8>,
    pub entry: Entry,
    pub content: ChunkSet,
    /// The manifest chunk it is in, and the list above that.
    pub above: [Chunk; 2],
}

/// A snapshot and all of it.
pub struct Whole {
    pub named: Named,
    pub entries: Vec<Seen>,
    pub chunks: ChunkSet,
    /// The lists and manifest chunks of each component.
    pub manifests: BTreeMap<String, ChunkSet>,
    /// The names of its tables and columns.
    pub names: ChunkSet,
}

/// A repository and all of it.
pub struct World {
    pub snapshots: Vec<Whole>,
    /// Copies of each chunk, from the trailers of all packs.
    pub stored: BTreeMap<Chunk, Vec<Place>>,
    /// Recipes that snapshots reach: their raw length is not their own.
    pub recipes: ChunkSet,
    /// The chunks of each pack.
    pub packs: BTreeMap<String, ChunkSet>,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Bytes of all objects.
    pub all_bytes: u64,
}

impl World {
    /// Reads all of a repository, in which nothing may be damaged.
    pub fn read(store: &Store) -> World {
        let repository = store.open().unwrap();
        repository.load_index(&NullObserver).unwrap();
        let listing = snapshot::list(&repository).unwrap();
        let mut recipes = ChunkSet::new();
        let snapshots = listing
            .snapshots
            .into_iter()
            .map(|named| whole(&repository, named, &mut recipes))
            .collect();
        let mut world = World {
            snapshots,
            stored: BTreeMap::new(),
            recipes,
            packs: BTreeMap::new(),
            pack_bytes: 0,
            all_bytes: store.backend.length(&Key::Config).unwrap(),
        };
        for space in Space::ALL {
            let mut objects = Vec::new();
            store.backend.list(space, &mut |object| objects.push(object)).unwrap();
            for object in objects {
                world.all_bytes += object.bytes;
                let Some(Key::Pack(id)) = Key::parse(&object.name) else { continue };
                world.pack_bytes += object.bytes;
                let pack =
                    read_trailer(&*store.backend, id, object.bytes, repository.id()).unwrap();
                let of_pack = world.packs.entry(id.to_string()).or_default();
                for place in pack.places {
                    of_pack.insert((pack.kind, place.id.0));
                    world.stored.entry((pack.kind, place.id.0)).or_default().push(place);
                }
            }
        }
        world
    }

    /// Adds up one copy of each of some chunks.
    pub fn amount<'c>(&self, chunks: impl IntoIterator<Item = &'c Chunk>) -> Chunks {
        let mut sums = Chunks::default();
        for chunk in chunks {
            let mut place = self.stored[chunk][0];
            let is_recipe = self.recipes.contains(chunk);
            if is_recipe {
                place.raw_length = place.stored_length;
            }
            let one = Amount {
                chunks: 1,
                compressed: u64::from(!is_recipe && place.stored_length <= place.raw_length),
                raw_bytes: place.raw_length.into(),
                stored_bytes: place.stored_length.into(),
            };
            let of_kind = if chunk.0 == ChunkKind::Data { &mut sums.data } else { &mut sums.meta };
            of_kind.add(&one);
        }
        sums
    }

    /// Returns everything that some snapshots reach.
    pub fn union(&self, takes: impl Fn(usize) -> bool) -> ChunkSet {
        let taken = self.snapshots.iter().enumerate().filter(|(at, _)| takes(*at));
        taken.flat_map(|(_, whole)| whole.chunks.iter().copied()).collect()
    }
}

fn whole(repository: &Repository, named: Named, recipes: &mut ChunkSet) -> Whole {
    let mut other = MetaReader::new(repository);
    let mut meta = MetaReader::new(repository);
    let mut whole = Whole {
        named: named.clone(),
        entries: Vec::new(),
        chunks: ChunkSet::new(),
        manifests: BTreeMap::new(),
        names: named.snapshot.names.iter().map(|id| (ChunkKind::Meta, id.0)).collect(),
    };
    whole.chunks.extend(whole.names.iter().copied());
    for component in &named.snapshot.components {
        let manifests = whole.manifests.entry(component.name.clone()).or_default();
        let mut above = Vec::new();
        for list in &component.manifest {
            manifests.insert((ChunkKind::Meta, list.0));
            for chunk in meta.manifest_list(*list).unwrap() {
                manifests.insert((ChunkKind::Meta, chunk.id.0));
                let both = [(ChunkKind::Meta, chunk.id.0), (ChunkKind::Meta, list.0)];
                above.extend(std::iter::repeat_n(both, chunk.entries as usize));
            }
        }
        whole.chunks.extend(manifests.iter().copied());
        let mut above = above.into_iter();
        let mut manifest = ManifestReader::new(repository, component);
        while let Some(entry) = manifest.next_entry().unwrap() {
            let mut content = ChunkSet::new();
            meta.lists(entry.extents(), &mut |id| {
                content.insert((ChunkKind::Meta, id.0));
                Ok(())
            })
            .unwrap();
            meta.extents(entry.extents(), &mut |_, extent| {
                match extent {
                    Extent::Chunk { id, .. } | Extent::Slice { id, .. } => {
                        content.insert((ChunkKind::Data, id.0));
                    }
                    Extent::Recipe { id, length } => {
                        let blocks = other.recipe(id, length)?;
                        content.extend(blocks.chunks().map(|id| (ChunkKind::Data, id.0)));
                        content.insert((ChunkKind::Meta, id.0));
                        recipes.insert((ChunkKind::Meta, id.0));
                    }
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
            whole.chunks.extend(content.iter().copied());
            let base = component.path.trim_end_matches('/').as_bytes();
            let path = match entry.path.as_slice() {
                [] => component.path.clone().into_bytes(),
                below => [base, b"/", below].concat(),
            };
            let (component, above) = (component.name.clone(), above.next().unwrap());
            whole.entries.push(Seen { component, path, entry, content, above });
        }
    }
    whole
}
