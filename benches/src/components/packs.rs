//! Packs: chunks through the pipeline to a directory, and back.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use colvault_engine::backend::{Backend, Key, LocalBackend, Space};
use colvault_engine::compress::Compression;
use colvault_engine::compress::Decompressor;
use colvault_engine::format::ChunkKind;
use colvault_engine::format::config::{CutterParameters, SlotParameters};
use colvault_engine::id::{ChunkId, SessionId, random};
use colvault_engine::index::CachePlace;
use colvault_engine::pipeline::{StoreOptions, store_chunks};
use colvault_engine::progress::NullObserver;
use colvault_engine::repository::{CreateOptions, PACK_BYTES_DEFAULT, Repository};

use super::Memory;

type Error = Box<dyn std::error::Error>;

const CHUNK: usize = 64 << 10;

/// Stores chunks of 64 KiB that do not compress in a new repository, and reads them.
pub fn run(directory: &Path, bytes: u64, out: &mut impl Write) -> Result<(), Error> {
    let memory = Memory::watch();
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::create(directory)?);
    let options = CreateOptions {
        cutter: CutterParameters::default(),
        slots: SlotParameters::default(),
        pack_bytes: PACK_BYTES_DEFAULT,
        now: "2026-01-01T00:00:00Z".into(),
        program: "components".into(),
        store: Default::default(),
    };
    Repository::create(&*backend, &options)?;
    let cache = directory.with_extension("cache");
    let repository =
        Repository::open(Arc::clone(&backend), |_| CachePlace::Directory(cache.clone()))?;
    let noise: Vec<u8> = (0..CHUNK / 32).flat_map(|_| random::<32>()).collect();
    let options = StoreOptions { dry_run: false, lanes: 1, compression: Compression::Default };
    let begun = Instant::now();
    let (ids, _) =
        store_chunks(&repository, SessionId(random()), options, &NullObserver, |store| {
            let mut raw = noise.clone();
            let mut ids: Vec<ChunkId> = Vec::new();
            for number in 0..bytes / CHUNK as u64 {
                raw[..8].copy_from_slice(&number.to_le_bytes());
                ids.push(store.add(ChunkKind::Data, &raw)?.id);
            }
            Ok(ids)
        })?;
    let rate = |begun: Instant| bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
    writeln!(
        out,
        "write        {:6.0} MB/s: {} chunks hashed, claimed, found not to compress, packed, synced; \
         one thread adds, two write",
        rate(begun),
        ids.len()
    )?;
    let begun = Instant::now();
    let mut decompressor = Decompressor::new();
    for id in &ids {
        repository.read_chunk(*id, ChunkKind::Data, &mut decompressor)?;
    }
    writeln!(
        out,
        "read chunks  {:6.0} MB/s in order: found, read, verified; one thread",
        rate(begun)
    )?;
    let begun = Instant::now();
    for number in 0..ids.len() {
        let id = ids[number.wrapping_mul(7919) % ids.len()];
        repository.read_chunk(id, ChunkKind::Data, &mut decompressor)?;
    }
    writeln!(out, "             {:6.0} MB/s in no order", rate(begun))?;
    let begun = Instant::now();
    let mut packs = Vec::new();
    backend.list(Space::Packs, &mut |object| packs.push(object))?;
    for pack in &packs {
        let Some(key) = Key::parse(&pack.name) else { continue };
        backend.get(&key, pack.bytes)?;
    }
    writeln!(out, "read packs   {:6.0} MB/s whole, into memory, from the page cache", rate(begun))?;
    writeln!(out, "{memory}")?;
    repository.close();
    Ok(())
}
