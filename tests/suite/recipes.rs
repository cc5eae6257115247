//! Slots stored as recipes: whatever reads them gives back the packed bytes, or says what it cannot.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use colvault_benches::generator::{CodecChoice, CreateOptions, create};
use colvault_engine::backend::{Key, MemoryBackend};
use colvault_engine::backup::{BackupOptions, Group};
use colvault_engine::check::{CheckOptions, CheckReport, check};
use colvault_engine::content::ContentReader;
use colvault_engine::dump::{DumpOptions, dump};
use colvault_engine::error::{ErrorKind, Result};
use colvault_engine::finding::{Finding, FindingKind, Findings};
use colvault_engine::format::ChunkKind;
use colvault_engine::format::config::SlotForm;
use colvault_engine::format::extent::Extent;
use colvault_engine::format::recipe::Recipe;
use colvault_engine::format::snapshot::{Proof, Verdict};
use colvault_engine::id::ChunkId;
use colvault_engine::index::CachePlace;
use colvault_engine::manifest::{ManifestReader, MetaReader};
use colvault_engine::packer::{Pack, Packer, Packers};
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::proof::{ProofOutcome, add_lost};
use colvault_engine::restore::{RestoreOptions, Target};
use colvault_engine::testing::{Call, RecordingBackend, Verb};
use tempfile::TempDir;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::nights::{become_night, bundled};
use crate::support::{PACK_BYTES, Store, quick, require_root, wait_until_not_racy};

pub fn recipes(options: &mut BackupOptions) {
    options.slots = Some(SlotForm::Recipe);
}

/// A generated deployment whose files have many slots.
pub fn generated(codec: CodecChoice) -> TempDir {
    let root = quick();
    let options = CreateOptions {
        bytes: 24 << 20,
        seed: 7,
        unpacked_ratio: 2.4,
        dbroots: vec![1],
        tables: 1,
        codec,
        threads: NonZero::new(2).unwrap(),
    };
    create(root.path(), &options).unwrap();
    root
}

/// A slot of a file that is stored as a recipe.
#[derive(Clone, Debug)]
struct Slot {
    path: PathBuf,
    offset: u64,
    length: u32,
    id: ChunkId,
    recipe: Recipe,
}

/// Slots of the newest snapshot that are stored as recipes.
fn slots(store: &Store) -> Vec<Slot> {
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let latest = store.latest();
    let mut manifest = ManifestReader::new(&repository, &latest.snapshot.components[0]);
    let (mut meta, mut other) = (MetaReader::new(&repository), MetaReader::new(&repository));
    let mut found = Vec::new();
    while let Some(entry) = manifest.next_entry().unwrap() {
        let path = PathBuf::from(String::from_utf8(entry.path.clone()).unwrap());
        let mut each = |offset, extent| {
            if let Extent::Recipe { id, length } = extent {
                let recipe = other.recipe(id, length)?;
                found.push(Slot { path: path.clone(), offset, length, id, recipe });
            }
            Ok(())
        };
        meta.extents(entry.extents(), &mut each).unwrap();
    }
    found
}

/// A repository in memory with a generated deployment in it, backed up as recipes.
struct World {
    source: TempDir,
    backend: Arc<MemoryBackend>,
    store: Store,
    slots: Vec<Slot>,
}

impl World {
    fn new(codec: CodecChoice) -> World {
        let source = generated(codec);
        let backend = Arc::new(MemoryBackend::new());
        let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
        let report = store.backup_with(source.path(), recipes).unwrap();
        let stats = report.snapshot.stats.recipes;
        assert!(stats.slots_recipe_new > 8, "{stats:?}");
        let slots = slots(&store);
        World { source, backend, store, slots }
    }

    /// A store in which each copy of a chunk that `where_` takes has a bit flipped.
    fn damaged(&self, id: ChunkId, kind: ChunkKind, where_: impl Fn(usize) -> bool) -> Store {
        let mut objects = self.backend.objects();
        let repository = self.store.open().unwrap();
        repository.load_index(&NullObserver).unwrap();
        let locations = repository.index().locations(id, kind).unwrap();
        assert!(!locations.is_empty());
        for (_, location) in locations.iter().enumerate().filter(|(n, _)| where_(*n)) {
            let pack = objects.get_mut(&Key::Pack(location.pack).to_string()).unwrap();
            pack[(location.offset + location.stored_length / 2) as usize] ^= 4;
        }
        with_objects(objects)
    }

    fn content(&self, path: &Path) -> Vec<u8> {
        fs::read(self.source.path().join(path)).unwrap()
    }
}

fn with_objects(objects: BTreeMap<String, Vec<u8>>) -> Store {
    let backend = Arc::new(MemoryBackend::with_objects(objects));
    Store { backend, cache: CachePlace::Memory }
}

fn first_block(slot: &Slot) -> ChunkId {
    slot.recipe.chunks().next().expect("a slot has blocks")
}

fn dump_file(
    store: &Store,
    path: &Path,
    packers: &'static dyn Pack,
) -> (Vec<u8>, Result<Vec<Finding>>) {
    let options = DumpOptions {
        components: Vec::new(),
        path: Some(path.to_str().unwrap().into()),
        archive: false,
        packers,
        threads: 3,
        cancel: Cancel::default(),
    };
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut out = Vec::new();
    let report = dump(&repository, &store.latest(), &options, &mut out, &NullObserver);
    (out, report.map(|report| report.findings.listed))
}

fn check_with(store: &Store, percent: f64, packers: &'static dyn Pack) -> CheckReport {
    let options = CheckOptions {
        read_trailers: true,
        read_data_percent: Some(percent),
        packers,
        threads: 2,
        cancel: Cancel::default(),
    };
    check(&store.open().unwrap(), &options, &NullObserver).unwrap()
}

/// Packs the first bytes in a longer way: another payload with the same content.
struct Longer;

impl Pack for Longer {
    fn pack(&self, packer: Packer, unpacked: &[u8], out: &mut Vec<u8>) -> bool {
        if packer != Packer::SnappyV1 || !Packers.pack(packer, unpacked, out) {
            return false;
        }
        // Behind the length stands a literal; its own length is written with a byte more.
        let tag = 1 + out.iter().position(|byte| byte & 0x80 == 0).unwrap();
        assert_eq!(out[tag] & 3, 0, "a literal comes first");
        match out[tag] >> 2 {
            60 => out.insert(tag + 2, 0),
            61 => out.insert(tag + 3, 0),
            small if small < 60 => out.insert(tag + 1, small),
            _ => return true,
        }
        out[tag] = match out[tag] >> 2 {
            60 => 61 << 2,
            61 => 62 << 2,
            _ => 60 << 2,
        };
        true
    }
}

/// Gives what cannot be unpacked.
struct Garbage;

impl Pack for Garbage {
    fn pack(&self, packer: Packer, unpacked: &[u8], out: &mut Vec<u8>) -> bool {
        let packed = Packers.pack(packer, unpacked, out);
        out.iter_mut().for_each(|byte| *byte ^= 0x55);
        packed
    }
}

/// Catches any byte of a real deployment that comes back otherwise, night by night, by any number
/// of threads, with slots of every codec, holes made or not; and a check that does not know recipes.
#[test]
fn nights_of_a_real_server_come_back_byte_by_byte() {
    require_root("files of the server's user");
    let place = quick();
    let nights = bundled(place.path(), 4);
    let live = place.path().join("live");
    let store = Store::memory();
    let mut snapshots = Vec::new();
    for night in &nights {
        become_night(night, &live);
        wait_until_not_racy();
        let report = store.backup_with(&live, recipes).unwrap();
        snapshots.push((report.id.unwrap(), compare::read(&live)));
    }
    assert!(slots(&store).len() > 20, "{} slots", slots(&store).len());
    store.expect_clean("recipes");
    for (number, (id, expected)) in snapshots.iter().enumerate() {
        let named = store.named(*id);
        assert!(!named.snapshot.packers.is_empty());
        for threads in [1, 8] {
            let target = place.path().join(format!("{number}-{threads}"));
            let sparse = threads == 8;
            let change = |options: &mut RestoreOptions| {
                (options.threads, options.sparse) = (threads, sparse);
            };
            let report = store.restore_with(&named, &target, change).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings.listed);
            let context = format!("night {number} with {threads} threads");
            assert_equal(expected, &target, Leave { blocks: sparse }, &context);
        }
    }
}

/// Catches slots that are put together from the wrong blocks, in the wrong places or in part: files
/// of many slots by many threads, with padding that is not zeros, the same file twice; restored,
/// dumped, and read in parts.
#[test]
fn files_of_many_slots_come_back_from_every_reader() {
    let world = World::new(CodecChoice::Mixed);
    let longest = world.slots.chunk_by(|a, b| a.path == b.path).max_by_key(|slots| slots.len());
    let slot = &longest.unwrap()[1];
    // What an update leaves behind a payload that became shorter.
    let file = world.source.path().join(&slot.path);
    let end = slot.offset + 9 + u64::from(slot.recipe.payload_length);
    let behind = slot.offset + u64::from(slot.length) - end;
    let file = fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(&vec![7; behind as usize], end).unwrap();
    drop(file);
    fs::copy(world.source.path().join(&slot.path), world.source.path().join("copy.cdf")).unwrap();
    wait_until_not_racy();
    world.store.backup_with(world.source.path(), recipes).unwrap();
    let slots = slots(&world.store);
    let padded =
        |slot: &&Slot| slot.recipe.padding.iter().any(|p| matches!(p, Extent::Chunk { .. }));
    assert!(slots.iter().filter(padded).count() >= 2, "padding that is not zeros");
    let place = quick();
    let expected = compare::read(world.source.path());
    for threads in [1, 8] {
        let target = place.path().join(threads.to_string());
        let change = |options: &mut RestoreOptions| {
            options.threads = threads;
        };
        let report = world.store.restore_with(&world.store.latest(), &target, change).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings.listed);
        assert_equal(&expected, &target, Leave::default(), "many slots");
    }
    for path in [&slot.path, Path::new("copy.cdf")] {
        let (dumped, findings) = dump_file(&world.store, path, &Packers);
        assert_eq!(findings.unwrap(), []);
        assert!(dumped == world.content(path), "{} is dumped", path.display());
    }
    let repository = world.store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let component = &world.store.latest().snapshot.components[0];
    let path = slot.path.to_str().unwrap().as_bytes();
    let entry = ManifestReader::new(&repository, component).find(path).unwrap().unwrap();
    let content = world.content(&slot.path);
    let mut reader = ContentReader::new(&repository);
    for (start, length) in [(slot.offset - 5, 10), (slot.offset + 100, 1), (end - 3, 20), (0, 9000)]
    {
        let read = reader.read(entry.extents(), start, length).unwrap();
        assert!(
            read == content[start as usize..(start + length) as usize],
            "{length} from {start}"
        );
    }
    world.store.expect_clean("many slots");
}

/// Catches a delta that reads or writes slots that are in place, or leaves one that is not.
#[test]
fn a_delta_packs_only_what_is_not_in_place() {
    let world = World::new(CodecChoice::Mixed);
    let target = quick();
    let target = target.path().join("target");
    let latest = world.store.latest();
    world.store.restore(&latest, &target);
    let slot = &world.slots[world.slots.len() / 2];
    let file = fs::File::options().write(true).open(target.join(&slot.path)).unwrap();
    file.write_all_at(b"x", slot.offset + 50).unwrap();
    let recording =
        Arc::new(RecordingBackend::new(MemoryBackend::with_objects(world.backend.objects())));
    let store = Store { backend: recording.clone(), cache: CachePlace::Memory };
    let delta = |options: &mut RestoreOptions| options.delta = true;
    let report = store.restore_with(&latest, &target, delta).unwrap();
    assert_eq!((report.bytes_restored, report.files_restored), (slot.length.into(), 1));
    assert_equal(&compare::read(world.source.path()), &target, Leave::default(), "a delta");
    let packs = |calls: Vec<_>| {
        let is_read = |call: &Call| call.verb == Verb::GetRange && call.name.starts_with("packs/");
        calls.into_iter().filter(is_read).count()
    };
    let once = packs(recording.take());
    let report = store.restore_with(&latest, &target, delta).unwrap();
    assert_eq!((report.bytes_restored, report.files_restored), (0, 0));
    let again = packs(recording.take());
    // The recipe at least, and the blocks.
    assert!(again + 2 <= once, "{again} reads, {once} with a slot to pack");
}

/// Catches a block that cannot be had and is not named, content around it that is lost with it,
/// anything but zeros in its place, and a check that does not find it.
#[test]
fn a_damaged_block_costs_its_slots_and_no_more() {
    let world = World::new(CodecChoice::Mixed);
    let slot = world.slots[world.slots.len() / 2].clone();
    let block = first_block(&slot);
    let store = world.damaged(block, ChunkKind::Data, |_| true);
    expect_lost(&world, &store, &slot, FindingKind::DamagedChunk, &[&block.to_string()]);
}

/// What `check --columnstore` finds lost of the newest snapshot.
fn lost(store: &Store) -> Vec<Finding> {
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let proof = Proof {
        verdict: Verdict::Proved,
        extents: 0,
        segment_files: 0,
        rules: BTreeMap::new(),
        unchecked: Vec::new(),
        left_out: Vec::new(),
    };
    let (findings, repeated) = (Findings::default(), Findings::default());
    let mut outcome = ProofOutcome { proof, findings, repeated };
    let snapshot = store.latest().snapshot;
    add_lost(&repository, &snapshot, &mut outcome, &Cancel::default()).unwrap();
    assert_eq!(outcome.proof.verdict == Verdict::Proved, outcome.findings.is_empty());
    outcome.findings.listed
}

/// Catches a recipe that cannot be had and is not named, and content that is lost with it.
#[test]
fn a_damaged_recipe_costs_its_slot_and_no_more() {
    let world = World::new(CodecChoice::Mixed);
    let slot = world.slots[world.slots.len() / 2].clone();
    let store = world.damaged(slot.id, ChunkKind::Meta, |_| true);
    expect_lost(&world, &store, &slot, FindingKind::DamagedChunk, &[]);
    assert_eq!(lost(&world.store), []);
    let found = lost(&store);
    let is_named = |finding: &Finding| {
        finding.object.ends_with(slot.path.to_str().unwrap())
            && finding.detail.contains("recipes of slots that cannot be read: 1, the first: ")
            && finding.detail.contains(&slot.id.to_string())
    };
    assert!(found.iter().any(is_named), "{found:?}");
}

/// Catches a recipe that cannot be read, or whose block is gone, and that keeps the next backup from
/// storing the slot again: its snapshot would lack what the source has.
#[test]
fn a_recipe_that_is_of_no_use_is_stored_again() {
    let world = World::new(CodecChoice::Snappy);
    let slot = &world.slots[1];
    for (id, kind) in [(slot.id, ChunkKind::Meta), (first_block(slot), ChunkKind::Data)] {
        let store = world.damaged(id, kind, |_| true);
        if kind == ChunkKind::Data {
            // Bit rot in a pack that is there is not seen by a backup; a pack that is gone is.
            let repository = store.open().unwrap();
            repository.load_index(&NullObserver).unwrap();
            let location = repository.index().find(id, kind).unwrap().unwrap();
            store.backend.delete(&Key::Pack(location.pack)).unwrap();
        }
        let report = store
            .backup_with(world.source.path(), |options| {
                recipes(options);
                options.force = true;
            })
            .unwrap();
        let stats = report.snapshot.stats.recipes;
        assert!(stats.slots_recipe_new > 0, "{kind:?}: {stats:?}");
        let target = quick();
        store.restore(&store.latest(), &target.path().join("back"));
        let back = fs::read(target.path().join("back").join(&slot.path)).unwrap();
        assert!(back == world.content(&slot.path), "{kind:?}: comes back as it is");
    }
}

/// Restores, dumps and checks a repository in which all that a slot is made of is gone or damaged.
fn expect_lost(world: &World, store: &Store, slot: &Slot, kind: FindingKind, words: &[&str]) {
    let place = quick();
    let target = place.path().join("target");
    let report = store.restore_with(&store.latest(), &target, |_| ()).unwrap();
    let lost: Vec<&Slot> = world
        .slots
        .iter()
        .filter(|other| {
            other.id == slot.id
                || !words.is_empty() && other.recipe.chunks().any(|c| c == first_block(slot))
        })
        .collect();
    let findings = &report.findings.listed;
    assert_eq!(findings.len(), lost.len(), "{findings:?}");
    for slot in &lost {
        let what = format!("{} bytes from byte {} are slot {}", slot.length, slot.offset, slot.id);
        let named = |finding: &&Finding| {
            finding.kind == kind
                && finding.object.ends_with(slot.path.to_str().unwrap())
                && finding.detail.contains(&what)
                && words.iter().all(|word| finding.detail.contains(word))
        };
        assert_eq!(findings.iter().filter(named).count(), 1, "{what}: {findings:?}");
    }
    let mut files: Vec<&Path> = lost.iter().map(|slot| &*slot.path).collect();
    files.dedup();
    assert_eq!(report.files_incomplete, files.len() as u64);
    let expected = compare::read(world.source.path());
    let found = compare::read(&target);
    assert_eq!(expected.len(), found.len());
    for path in files {
        let mut content = world.content(path);
        for slot in lost.iter().filter(|slot| slot.path == path) {
            content[slot.offset as usize..][..slot.length as usize].fill(0);
        }
        assert!(fs::read(target.join(path)).unwrap() == content, "zeros in {}", path.display());
    }
    assert_eq!(
        compare::differences(&expected, &found, Leave { blocks: true }).len(),
        report.files_incomplete as usize
    );
    let (dumped, result) = dump_file(store, &slot.path, &Packers);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&slot.id.to_string()), "{error}");
    assert!(world.content(&slot.path).starts_with(&dumped), "what comes before it is dumped");
    // In a delta what stands there stays.
    let report = store.restore_with(&store.latest(), world.source.path(), |options| {
        options.delta = true;
    });
    assert_eq!(report.unwrap().bytes_restored, 0);
    let checked = check_with(store, 100.0, &Packers).findings.listed;
    let is_named = |finding: &Finding| finding.detail.contains(&slot.id.to_string());
    assert!(checked.iter().any(is_named), "{checked:?}");
}

/// Catches slots that are lost with a pack and are not named, and a snapshot that is given up
/// because a recipe is missing.
#[test]
fn lost_packs_cost_the_slots_in_them() {
    let world = World::new(CodecChoice::Mixed);
    let before = world.backend.objects();
    // Another deployment with copies of the files: manifests of its own, the same recipes.
    let other = |options: &mut BackupOptions| {
        recipes(options);
        options.group = Group::Deployment { name: "other".into(), topology: "shared-local".into() };
        options.trees[0].component = "dbroot/2".into();
    };
    let copy = quick();
    let source = copy.path().join("source");
    let copied = Command::new("cp").arg("-a").args([world.source.path(), &source]).status();
    assert!(copied.unwrap().success());
    world.store.backup_with(&source, other).unwrap();
    let slot = &world.slots[0];
    let repository = world.store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    for (id, kind) in [(first_block(slot), ChunkKind::Data), (slot.id, ChunkKind::Meta)] {
        let mut objects = world.backend.objects();
        for location in repository.index().locations(id, kind).unwrap() {
            let name = Key::Pack(location.pack).to_string();
            assert!(before.contains_key(&name), "the first backup brought it");
            objects.remove(&name);
        }
        let store = with_objects(objects);
        let path = slot.path.to_str().unwrap();
        let found = lost(&store);
        assert!(found.iter().any(|finding| finding.object.ends_with(path)), "{kind:?}: {found:?}");
        let target = quick();
        let target = target.path().join("target");
        let report = store.restore_with(&store.latest(), &target, |options| {
            options.target = Target::Map(vec![("dbroot/2".into(), target.clone())]);
        });
        let report = report.unwrap();
        assert!(report.findings.count(FindingKind::MissingChunk) > 0, "{:?}", report.findings);
        let named = |finding: &Finding| finding.detail.contains(&slot.id.to_string());
        assert!(report.findings.listed.iter().any(named), "{kind:?}: {:?}", report.findings);
        assert!(report.files_incomplete > 0 && report.files_restored > 0, "{report:?}");
        let (expected, found) = (compare::read(&source), compare::read(&target));
        let different = compare::differences(&expected, &found, Leave { blocks: true }).len();
        assert_eq!(different as u64, report.files_incomplete);
    }
}

/// Catches a damaged copy that ends the reading although another is whole: blocks and recipes that
/// two sessions stored at the same time.
#[test]
fn of_a_damaged_copy_another_will_do() {
    let source = generated(CodecChoice::Snappy);
    let empty = Arc::new(MemoryBackend::new());
    Store::create(empty.clone(), CachePlace::Memory, PACK_BYTES);
    let mut objects = BTreeMap::new();
    for _ in 0..2 {
        let backend = Arc::new(MemoryBackend::with_objects(empty.objects()));
        let store = Store { backend: backend.clone(), cache: CachePlace::Memory };
        store.backup_with(source.path(), recipes).unwrap();
        objects.extend(backend.objects());
    }
    let backend = Arc::new(MemoryBackend::with_objects(objects));
    let store = Store { backend: backend.clone(), cache: CachePlace::Memory };
    let slots = slots(&store);
    let world = World { source, backend, store, slots };
    let slot = &world.slots[2];
    let expected = compare::read(world.source.path());
    for (id, kind) in [(first_block(slot), ChunkKind::Data), (slot.id, ChunkKind::Meta)] {
        for bad in [0, 1] {
            let store = world.damaged(id, kind, |copy| copy == bad);
            let target = quick();
            let target = target.path().join("target");
            store.restore(&store.latest(), &target);
            assert_equal(&expected, &target, Leave::default(), "one copy is whole");
            let (dumped, findings) = dump_file(&store, &slot.path, &Packers);
            assert!(findings.unwrap().is_empty() && dumped == world.content(&slot.path));
        }
    }
}

/// Catches a packer that packs otherwise than it did and fails the file, or goes unnoticed.
#[test]
fn a_packer_that_packs_otherwise_is_told_and_the_content_is_there() {
    let world = World::new(CodecChoice::Snappy);
    let place = quick();
    let target = place.path().join("target");
    let change = |options: &mut RestoreOptions| options.packers = &Longer;
    let report = world.store.restore_with(&world.store.latest(), &target, change).unwrap();
    let count = report.findings.count(FindingKind::SlotPackedOtherwise);
    assert_eq!((count, report.findings.total()), (world.slots.len() as u64, count));
    assert_eq!(report.files_incomplete, 0);
    let mut unpacked = [Vec::new(), Vec::new()];
    for slot in &world.slots {
        let (old, new) = (world.content(&slot.path), fs::read(target.join(&slot.path)).unwrap());
        assert_eq!(old.len(), new.len());
        let place = slot.offset as usize..slot.offset as usize + slot.length as usize;
        assert!(old[place.clone()] != new[place.clone()], "it lies");
        for (file, unpacked) in [&old, &new].into_iter().zip(&mut unpacked) {
            let slot = &file[place.clone()];
            let length = u32::from_le_bytes(slot[5..9].try_into().unwrap()) as usize;
            let packing = Packer::SnappyV1.packing();
            assert_eq!(slot[0], packing.signature());
            colvault_engine::packer::unpack(packing, &slot[9..9 + length], unpacked).unwrap();
        }
        assert!(unpacked[0] == unpacked[1], "it holds the same");
    }
    // A backup of what was restored verifies every slot's checksum.
    let again = Store::memory().backup(&target).snapshot;
    assert_eq!(again.findings.listed, []);
    let slot = &world.slots[0];
    let (dumped, findings) = dump_file(&world.store, &slot.path, &Longer);
    assert!(dumped == fs::read(target.join(&slot.path)).unwrap());
    let findings = findings.unwrap();
    assert!(findings.iter().all(|f| f.kind == FindingKind::SlotPackedOtherwise));
    assert!(!findings.is_empty());
    let checked = check_with(&world.store, 100.0, &Longer);
    let count = checked.findings.count(FindingKind::SlotPackedOtherwise);
    assert!(count > 0 && count == checked.slots_packed && checked.findings.total() == count);
    // A sample verifies chunks, not what they make.
    assert!(check_with(&world.store, 50.0, &Longer).findings.is_empty());
}

/// Catches a slot that is written although nothing packs it, and a restore that ends with it.
#[test]
fn a_packer_that_gives_garbage_loses_slots_and_nothing_else() {
    let world = World::new(CodecChoice::Mixed);
    let place = quick();
    let target = place.path().join("target");
    let change = |options: &mut RestoreOptions| options.packers = &Garbage;
    let report = world.store.restore_with(&world.store.latest(), &target, change).unwrap();
    assert_eq!(report.findings.count(FindingKind::DamagedChunk), world.slots.len() as u64);
    assert_eq!(report.findings.total(), world.slots.len() as u64);
    let with_slots = world.slots.chunk_by(|a, b| a.path == b.path).count() as u64;
    assert_eq!(report.files_incomplete, with_slots);
    assert_eq!(report.files_total, report.files_incomplete + report.files_restored);
    let checked = check_with(&world.store, 100.0, &Garbage);
    assert_eq!(checked.findings.total(), checked.slots_packed);
    let (dumped, result) = dump_file(&world.store, &world.slots[0].path, &Garbage);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(dumped.len() as u64, world.slots[0].offset, "nothing behind what is lost");
}

/// Catches a restore or a dump that begins what it cannot end: a snapshot that needs a packer of
/// another program.
#[test]
fn an_unknown_packer_is_refused_before_anything_is_written() {
    let world = World::new(CodecChoice::Snappy);
    let mut named = world.store.latest();
    assert_eq!(named.snapshot.packers, ["snappy-1"]);
    named.snapshot.packers.push("brotli-9".to_owned());
    let place = quick();
    let target = place.path().join("target");
    let error = world.store.restore_with(&named, &target, |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("brotli-9"), "{error}");
    assert!(!target.exists());
    let options = DumpOptions {
        components: Vec::new(),
        path: None,
        archive: true,
        packers: &Packers,
        threads: 1,
        cancel: Cancel::default(),
    };
    let repository = world.store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut out = Vec::new();
    let error = dump(&repository, &named, &options, &mut out, &NullObserver).unwrap_err();
    assert_eq!((error.kind(), out.len()), (ErrorKind::Unsupported, 0));
    assert!(error.to_string().contains("brotli-9"), "{error}");
}
