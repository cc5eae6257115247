//! Chunks that never were, and index objects that name them, made when they are asked for: so an
//! index of hundreds of millions of chunks is loaded without a repository of that size.

use std::collections::HashMap;

use colvault_engine::backend::{Backend, Key, Listed, Space};
use colvault_engine::error::{Error, ErrorKind, Result};
use colvault_engine::format::index::{Index, IndexedPack};
use colvault_engine::format::pack::Place;
use colvault_engine::format::{ChunkKind, Header, ObjectKind, seal_record};
use colvault_engine::id::{ChunkId, IndexId, PackId, RepositoryId, SessionId, hash_stored};

/// Chunks of a pack: 64 MiB of chunks of 64 KiB raw, 47 KiB stored.
pub const CHUNKS_PER_PACK: u64 = 1365;

/// Packs that one index object names: as many chunks as a long backup puts into one.
const PACKS_PER_INDEX: u64 = 192;

/// The repository that everything belongs to.
pub const REPOSITORY: RepositoryId = RepositoryId([0x5e; 16]);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(number: u64, salt: u64) -> [u8; 32] {
    let mut id = [0; 32];
    let mut state = mix(number ^ mix(salt));
    for word in id.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&mix(state).to_le_bytes());
    }
    id
}

/// Returns the id of a chunk by number.
pub fn chunk(number: u64) -> ChunkId {
    ChunkId(id(number, 1))
}

/// Returns a pack by number, with its chunks.
pub fn pack(number: u64) -> IndexedPack {
    let first = number * CHUNKS_PER_PACK;
    let place = |chunk_number: u64| Place {
        id: chunk(chunk_number),
        stored_length: 40_000 + (mix(chunk_number) % 16_000) as u32,
        raw_length: 65_536,
    };
    IndexedPack {
        id: PackId(id(number, 2)),
        kind: ChunkKind::Data,
        places: (first..first + CHUNKS_PER_PACK).map(place).collect(),
    }
}

/// A backend whose index objects are made when they are read.
pub struct SyntheticIndexes {
    objects: HashMap<IndexId, u64>,
    bytes: u64,
}

impl SyntheticIndexes {
    /// Names index objects for at least this many chunks: each is made once to know its name.
    pub fn new(chunks: u64) -> Self {
        let count = chunks.div_ceil(CHUNKS_PER_PACK * PACKS_PER_INDEX);
        let mut bytes = 0;
        let named = |number| {
            let object = object(number);
            bytes += object.len() as u64;
            (IndexId(hash_stored(&[&object])), number)
        };
        let objects = (0..count).map(named).collect();
        SyntheticIndexes { objects, bytes }
    }

    /// Chunks in all.
    pub fn chunks(&self) -> u64 {
        self.objects.len() as u64 * CHUNKS_PER_PACK * PACKS_PER_INDEX
    }

    /// Packs in all.
    pub fn packs(&self) -> u64 {
        self.objects.len() as u64 * PACKS_PER_INDEX
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn object(number: u64) -> Vec<u8> {
    let first = number * PACKS_PER_INDEX;
    let packs = (first..first + PACKS_PER_INDEX).map(pack).collect();
    let index = Index { packs, ..Index::default() };
    let mut header = Header::new(ObjectKind::Index, 0, REPOSITORY, SessionId([1; 16]));
    header.nonce = [0; 16];
    header.nonce[..8].copy_from_slice(&number.to_le_bytes());
    seal_record(&header, &index.encode())
}

fn absent(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, key.to_string(), "no such object")
}

impl Backend for SyntheticIndexes {
    fn location(&self) -> String {
        "made-up index objects".into()
    }

    fn put_new(&self, key: &Key, _: &[&[u8]]) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, key.to_string(), "nothing is written here"))
    }

    fn get(&self, key: &Key, _: u64) -> Result<Vec<u8>> {
        match key {
            Key::Index(id) => self.objects.get(id).map(|n| object(*n)).ok_or_else(|| absent(key)),
            _ => Err(absent(key)),
        }
    }

    fn get_range(&self, key: &Key, _: u64, _: usize) -> Result<Vec<u8>> {
        Err(absent(key))
    }

    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        if space == Space::Indexes {
            for id in self.objects.keys() {
                each(Listed {
                    name: Key::Index(*id).to_string(),
                    bytes: self.bytes / self.objects.len() as u64,
                });
            }
        }
        Ok(())
    }

    fn length(&self, key: &Key) -> Result<u64> {
        Err(absent(key))
    }

    fn delete(&self, _: &Key) -> Result<()> {
        Ok(())
    }
}
