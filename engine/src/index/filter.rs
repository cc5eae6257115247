//! A filter that answers "surely new" for most new chunks without asking the runs.
//!
//! A blocked Bloom filter: an id chooses a block of 64 bytes and sets eight bits in it, one cache
//! line a look-up. At 10 bits a chunk about 1 in 100 new chunks passes. It lives in a memory map
//! beside the redb file and may be thrown away at any time.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::id::{ChunkId, random};
use crate::mmap::OwnedMap;

const BLOCK_LEN: usize = 64;
const BITS_PER_CHUNK: u64 = 10;
const HEADER_LEN: usize = 64;
const MAGIC: [u8; 8] = *b"cvfilt02";

/// The number a filter file and its database share while they belong together.
pub(super) type Token = [u8; 16];

enum Storage {
    Mapped(OwnedMap),
    Owned(Vec<u8>),
}

/// The filter; `capacity` is how many chunks it was made for.
pub(super) struct Filter {
    storage: Storage,
    pub capacity: u64,
}

impl Filter {
    fn length_for(capacity: u64) -> usize {
        let blocks = (capacity * BITS_PER_CHUNK).div_ceil(8 * BLOCK_LEN as u64).max(16);
        usize::try_from(blocks).unwrap_or(usize::MAX / BLOCK_LEN) * BLOCK_LEN + HEADER_LEN
    }

    /// Makes an empty filter in memory.
    pub fn in_memory(capacity: u64) -> Self {
        Filter { storage: Storage::Owned(vec![0; Self::length_for(capacity)]), capacity }
    }

    /// Makes an empty filter in a file, replacing what is there; the caller holds the database
    /// lock. Blocks are allocated at once: a full disk is an error here and not a SIGBUS later.
    pub fn create(path: &Path, capacity: u64) -> std::io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let length = Self::length_for(capacity) as u64;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?;
        Ok(Filter { storage: Storage::Mapped(OwnedMap::of_locked(&file)?), capacity })
    }

    /// Opens the filter that was saved with `token`.
    pub fn open(path: &Path, token: Token) -> std::io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() < HEADER_LEN as u64 {
            return Ok(None);
        }
        let map = OwnedMap::of_locked(&file)?;
        let mut capacity = [0; 8];
        capacity.copy_from_slice(&map[24..32]);
        let capacity = u64::from_le_bytes(capacity);
        let fits = map[..8] == MAGIC
            && map[8..24] == token
            && capacity < 1 << 40
            && map.len() == Self::length_for(capacity);
        Ok(fits.then_some(Filter { storage: Storage::Mapped(map), capacity }))
    }

    /// Writes a header with a fresh token, which the database has to remember.
    pub fn seal(&mut self) -> Token {
        let token = random();
        let capacity = self.capacity.to_le_bytes();
        let bytes = self.bytes_mut();
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&token);
        bytes[24..32].copy_from_slice(&capacity);
        token
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.storage {
            Storage::Mapped(map) => map,
            Storage::Owned(bytes) => bytes,
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Mapped(map) => map,
            Storage::Owned(bytes) => bytes,
        }
    }

    /// Returns where the block of a chunk begins, and the eight bits in it.
    fn place(&self, prefix: &[u8; 20]) -> (usize, [u16; 8]) {
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&prefix[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let blocks = (self.bytes().len() - HEADER_LEN) / BLOCK_LEN;
        // Multiply and shift spreads a 64-bit hash evenly over any number of blocks, in the order of
        // the ids: a sorted run fills the filter from its beginning to its end.
        let leading = super::runs::leading_number(prefix);
        let block = ((u128::from(leading) * blocks as u128) >> 64) as usize;
        let (low, high) = (number(8), number(12));
        let bit = |n: u64| {
            let source = if n < 4 { low >> (9 * n) } else { high.rotate_left(23) >> (9 * (n - 4)) };
            (source & 511) as u16
        };
        let bits = [bit(0), bit(1), bit(2), bit(3), bit(4), bit(5), bit(6), bit(7)];
        (HEADER_LEN + block * BLOCK_LEN, bits)
    }

    /// Adds a chunk by the first bytes of its id.
    pub fn insert(&mut self, prefix: &[u8; 20]) {
        let (start, bits) = self.place(prefix);
        let block = &mut self.bytes_mut()[start..start + BLOCK_LEN];
        for bit in bits {
            block[bit as usize / 8] |= 1 << (bit % 8);
        }
    }

    /// Whether the chunk may have been added.
    pub fn may_contain(&self, id: ChunkId) -> bool {
        let (start, bits) = self.place(&super::runs::prefix_of(id));
        let block = &self.bytes()[start..start + BLOCK_LEN];
        bits.iter().all(|bit| block[*bit as usize / 8] & 1 << (bit % 8) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdKey;

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let key = IdKey([3; 32]);
        let id = |n: u32| key.chunk_id(&n.to_le_bytes());
        let mut filter = Filter::in_memory(20_000);
        (0..20_000).for_each(|n| filter.insert(&super::super::runs::prefix_of(id(n))));
        assert!((0..20_000).all(|n| filter.may_contain(id(n))));
        let wrong = (20_000..120_000).filter(|n| filter.may_contain(id(*n))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000 new chunks pass");
    }

    #[test]
    fn a_saved_filter_opens_with_its_token_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("filter");
        let id = IdKey([3; 32]).chunk_id(b"x");
        let mut filter = Filter::create(&path, 1000).unwrap();
        filter.insert(&super::super::runs::prefix_of(id));
        let token = filter.seal();
        drop(filter);
        assert!(Filter::open(&path, [0; 16]).unwrap().is_none());
        assert!(Filter::open(&path, token).unwrap().unwrap().may_contain(id));
    }
}
