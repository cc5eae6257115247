//! Content of single files, read from the repository into memory: small files, and heads of large ones.
//!
//! Every chunk is verified. Whoever reads much goes by packs instead (`restore`, `dump`).

use crate::compress::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ChunkKind;
use crate::format::extent::{Extent, LIST_DEPTH_MAX};
use crate::id::ChunkId;
use crate::manifest::MetaReader;
use crate::packer::Packers;
use crate::recipe::{Rebuilt, rebuild};
use crate::repository::Repository;

/// The most that is read at once: 256 MiB.
const READ_BYTES_MAX: u64 = 256 << 20;

/// Reads the content of files of one repository.
pub struct ContentReader<'a> {
    repository: &'a Repository,
    meta: MetaReader<'a>,
    decompressor: Decompressor,
}

/// What a reading collects.
struct Wanted {
    start: u64,
    end: u64,
    bytes: Vec<u8>,
}

impl<'a> ContentReader<'a> {
    /// Makes one; the repository's index must have been loaded.
    pub fn new(repository: &'a Repository) -> Self {
        ContentReader {
            repository,
            meta: MetaReader::new(repository),
            decompressor: Decompressor::new(),
        }
    }

    /// Returns up to `length` raw bytes from byte `start` on: fewer where the content ends before.
    /// Holes and zeros are zeros.
    ///
    /// Fails with `Corrupt` or `NotFound` where a chunk cannot be had, with `Invalid` where content
    /// was lost before it was stored, or when more than 256 MiB are asked for.
    /// Cost: the lists on the way and the chunks that overlap.
    pub fn read(&mut self, extents: &[Extent], start: u64, length: u64) -> Result<Vec<u8>> {
        let size: u64 = extents.iter().map(Extent::length).sum();
        let start = start.min(size);
        let end = start.saturating_add(length).min(size);
        if end - start > READ_BYTES_MAX {
            let problem = format!("at most {READ_BYTES_MAX} bytes at once expected");
            return Err(Error::new(ErrorKind::Invalid, "content", problem));
        }
        let mut wanted = Wanted { start, end, bytes: Vec::new() };
        self.take(extents, 0, LIST_DEPTH_MAX, &mut wanted)?;
        Ok(wanted.bytes)
    }

    fn take(
        &mut self,
        extents: &[Extent],
        mut offset: u64,
        depth: usize,
        wanted: &mut Wanted,
    ) -> Result<()> {
        for extent in extents {
            let (begin, end) = (offset, offset + extent.length());
            offset = end;
            if end <= wanted.start || begin >= wanted.end {
                continue;
            }
            // The part of the extent that is wanted, from its own beginning.
            let from = (wanted.start.max(begin) - begin) as usize;
            let to = (wanted.end.min(end) - begin) as usize;
            match *extent {
                Extent::List { id, length } => {
                    let depth = depth.checked_sub(1).ok_or_else(|| {
                        Error::corrupt(format!("span list {id}"), "lists nest too deep")
                    })?;
                    let listed = self.meta.list(id, length)?;
                    self.take(&listed, begin, depth, wanted)?;
                }
                Extent::Chunk { id, .. } => {
                    let raw = self.chunk(id)?;
                    wanted.bytes.extend_from_slice(part(&raw, from, to, id)?);
                }
                Extent::Slice { id, offset, .. } => {
                    let raw = self.chunk(id)?;
                    let skip = offset as usize;
                    wanted.bytes.extend_from_slice(part(&raw, skip + from, skip + to, id)?);
                }
                Extent::Recipe { id, length } => {
                    let slot = self.slot(id, length)?;
                    wanted.bytes.extend_from_slice(part(&slot, from, to, id)?);
                }
                Extent::Zero { .. } | Extent::Hole { .. } => {
                    wanted.bytes.resize(wanted.bytes.len() + (to - from), 0);
                }
                Extent::Lost { .. } => {
                    let problem = "it was lost before it was stored";
                    return Err(Error::new(ErrorKind::Invalid, "content", problem));
                }
            }
        }
        Ok(())
    }

    /// Returns a packed slot; one that comes out otherwise than it was is not the content.
    fn slot(&mut self, id: ChunkId, length: u32) -> Result<Vec<u8>> {
        let recipe = self.meta.recipe(id, length)?;
        let mut slot = Vec::new();
        let key = self.repository.id_key();
        let fetch = &mut |chunk, out: &mut [u8]| {
            let (kind, decompressor) = (ChunkKind::Data, &mut self.decompressor);
            self.repository.read_chunk_into(chunk, kind, decompressor, out)
        };
        match rebuild(id, &recipe, key, &Packers, fetch, &mut slot)? {
            Rebuilt::Same => Ok(slot),
            Rebuilt::Otherwise(how) => Err(Error::corrupt(format!("slot {id}"), how)),
        }
    }

    fn chunk(&mut self, id: ChunkId) -> Result<Vec<u8>> {
        self.repository.read_chunk(id, ChunkKind::Data, &mut self.decompressor)
    }
}

/// Returns a part of a chunk, which a forged list may claim to be longer than it is.
fn part(raw: &[u8], from: usize, to: usize, id: ChunkId) -> Result<&[u8]> {
    raw.get(from..to).ok_or_else(|| {
        Error::corrupt(format!("chunk {id}"), format!("{to} bytes expected, found {}", raw.len()))
    })
}
