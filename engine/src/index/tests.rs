use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::format::pack::Place;
use crate::id::IdKey;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

fn chunk(number: u32) -> ChunkId {
    IdKey([3; 32]).chunk_id(&number.to_le_bytes())
}

/// A pack of `count` chunks from number `first` on.
fn pack(first: u32, count: u32) -> IndexedPack {
    let place = |number| Place { id: chunk(number), stored_length: 9, raw_length: 8 };
    IndexedPack {
        id: PackId(chunk(first ^ 0x8000_0000).0),
        kind: ChunkKind::Data,
        places: (first..first + count).map(place).collect(),
    }
}

fn open(directory: &Path) -> ChunkIndex {
    let place = CachePlace::Directory(directory.to_path_buf());
    let (index, note) = ChunkIndex::open(&place, REPOSITORY).unwrap();
    assert_eq!(note, None);
    index
}

/// Adds packs one by one, each as an index object of its own.
fn add(index: &ChunkIndex, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let name = IndexId(chunk(number ^ 0x4000_0000).0);
        index.add(&[pack(10 * number, 10)], name).unwrap();
    }
}

fn known(index: &ChunkIndex, chunks: std::ops::Range<u32>) -> usize {
    let found = |number: &u32| {
        let location = index.find(chunk(*number), ChunkKind::Data).unwrap();
        location.is_some_and(|location| {
            let first = number / 10 * 10;
            location.pack == pack(first, 1).id && location.offset == 80 + 9 * (number - first)
        })
    };
    chunks.filter(found).count()
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for path in files(from, "") {
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Catches runs that get lost while they are merged, and runs that are never merged.
#[test]
fn chunks_are_found_through_all_merging_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    add(&index, 0..300);
    assert_eq!(known(&index, 0..4000), 3000);
    let runs = files(directory.path(), ".run").len();
    assert!(runs < 4 * 8, "{runs} runs");
    index.close();
    let index = open(directory.path());
    assert_eq!((index.chunks(), known(&index, 0..4000)), (3000, 3000));
    assert!((0..3000).all(|number| index.may_contain(chunk(number))));
    assert!(!index.claim(chunk(2999), ChunkKind::Data).unwrap());
    assert!(index.claim(chunk(2999), ChunkKind::Meta).unwrap(), "of the other kind");
    assert!(index.claim(chunk(3000), ChunkKind::Data).unwrap());
    assert!(!index.claim(chunk(3000), ChunkKind::Data).unwrap(), "claimed once");
}

/// Catches copies of a chunk that hide each other.
#[test]
fn copies_are_told_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let packs: Vec<IndexedPack> =
        (0..3).map(|number| IndexedPack { id: PackId([number; 32]), ..pack(5, 1) }).collect();
    for (number, pack) in packs.iter().enumerate() {
        index.add(std::slice::from_ref(pack), IndexId([number as u8; 32])).unwrap();
    }
    let locations = index.locations(chunk(5), ChunkKind::Data).unwrap();
    let found: Vec<PackId> = locations.iter().map(|location| location.pack).collect();
    assert_eq!(found, [packs[2].id, packs[1].id, packs[0].id]);
    index.avoid([packs[0].id, packs[2].id]);
    assert_eq!(index.find(chunk(5), ChunkKind::Data).unwrap().unwrap().pack, packs[1].id);
}

/// Catches a cache that a crash leaves with a database that names runs which are not there, or with
/// files that nobody removes. Copies of the directory while it is in use stand for crashes.
#[test]
fn what_a_crash_leaves_is_whole_or_empty() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let mut whole = 0;
    for number in 0..40 {
        add(&index, number..number + 1);
        let crashed = copy(directory.path());
        let index = open(crashed.path());
        let named = index.cache.read().unwrap().index_objects().unwrap().len();
        let chunks = 10 * named as u32;
        assert_eq!(known(&index, 0..500), chunks as usize, "after {number}");
        assert_eq!(index.chunks(), u64::from(chunks));
        whole += usize::from(named > 0);
        index.close();
        let runs = files(crashed.path(), ".run").len();
        assert!(if named == 0 { runs == 0 } else { runs <= 16 }, "{runs} runs of {named}");
        // And it goes on from there.
        let index = open(crashed.path());
        add(&index, 100..110);
        assert_eq!(known(&index, 1000..1100), 100);
    }
    assert!(whole > 20, "what is merged is durable");
}

/// Catches a cache that is believed though a run of it is gone, cut short or another's.
#[test]
fn a_cache_without_one_of_its_runs_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    add(&index, 0..10);
    index.close();
    let damages: [fn(&Path); 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        },
        |path| std::fs::write(path, std::fs::read(path).unwrap().repeat(2)).unwrap(),
    ];
    for damage in damages {
        let damaged = copy(directory.path());
        damage(&files(damaged.path(), ".run")[0]);
        let index = open(damaged.path());
        assert_eq!((index.chunks(), known(&index, 0..100)), (0, 0));
        assert!(index.cache.read().unwrap().index_objects().unwrap().is_empty());
        assert_eq!(files(damaged.path(), ".run"), [] as [PathBuf; 0]);
    }
    let other = RepositoryId([8; 16]);
    let place = CachePlace::Directory(directory.path().to_path_buf());
    let (index, _) = ChunkIndex::open(&place, other).unwrap();
    assert_eq!(index.chunks(), 0, "of another repository");
}
