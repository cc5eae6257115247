//! What every backend, and every wrapper around one, promises. One suite for all of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Barrier};

use colvault_engine::backend::{Backend, Key, Listed, LocalBackend, MemoryBackend, Space};
use colvault_engine::error::ErrorKind;
use colvault_engine::id::{IndexId, PackId, SessionId};
use colvault_engine::testing::{CrashBackend, FaultyBackend, RecordingBackend};
use rustix::fs::{FlockOperation, flock};

use crate::support::{compare, quick};

fn keys() -> Vec<(Space, Key)> {
    vec![
        (Space::Features, Key::Feature("codec-zstd".to_owned())),
        (Space::Packs, Key::Pack(PackId([0x00; 32]))),
        (Space::Packs, Key::Pack(PackId([0xff; 32]))),
        (Space::Indexes, Key::Index(IndexId([2; 32]))),
        (Space::Snapshots, Key::Snapshot(SessionId([3; 16]))),
        (Space::Leases, Key::Lease(SessionId([3; 16]))),
        (Space::Doomed, Key::Doomed(SessionId([3; 16]))),
    ]
}

fn listed(backend: &dyn Backend, space: Space) -> Vec<Listed> {
    let mut found = Vec::new();
    backend.list(space, &mut |object| found.push(object)).unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The promises. `backend` is empty.
pub(crate) fn keeps_its_promises(backend: &dyn Backend) {
    let kind = |result: colvault_engine::error::Result<()>| result.unwrap_err().kind();
    for space in Space::ALL {
        assert_eq!(listed(backend, space), [], "{space:?} of an empty backend");
    }
    backend.put_new(&Key::Config, &[b"config"]).unwrap();
    for (number, (_, key)) in keys().iter().enumerate() {
        assert_eq!(kind(backend.get(key, 1 << 20).map(drop)), ErrorKind::NotFound, "{key}");
        assert_eq!(kind(backend.get_range(key, 0, 1).map(drop)), ErrorKind::NotFound, "{key}");
        assert_eq!(kind(backend.length(key).map(drop)), ErrorKind::NotFound, "{key}");
        backend.delete(key).unwrap();
        let tail = vec![b'x'; number];
        backend.put_new(key, &[b"first", b"", b" second", &tail]).unwrap();
        let whole = [&b"first second"[..], &tail].concat();
        assert_eq!(backend.get(key, 1 << 20).unwrap(), whole, "{key}");
        assert_eq!(backend.length(key).unwrap(), whole.len() as u64, "{key}");

        // Create-only: who comes second learns it, and the first bytes stay.
        for second in [&whole[..], b"other", b""] {
            assert_eq!(kind(backend.put_new(key, &[second])), ErrorKind::AlreadyExists, "{key}");
        }
        assert_eq!(backend.get(key, 1 << 20).unwrap(), whole, "{key} keeps its first bytes");

        // Limits and ranges, inclusive at both ends.
        let length = whole.len() as u64;
        assert_eq!(backend.get(key, length).unwrap(), whole, "{key} at its limit");
        assert_eq!(kind(backend.get(key, length - 1).map(drop)), ErrorKind::Corrupt, "{key}");
        assert_eq!(backend.get_range(key, 0, whole.len()).unwrap(), whole);
        assert_eq!(backend.get_range(key, 3, 4).unwrap(), &whole[3..7]);
        assert_eq!(backend.get_range(key, length - 1, 1).unwrap(), &whole[whole.len() - 1..]);
        assert_eq!(backend.get_range(key, length, 0).unwrap(), b"");
        for (offset, count) in [(0, whole.len() + 1), (length, 1), (length + 1, 0), (u64::MAX, 2)] {
            let result = backend.get_range(key, offset, count).map(drop);
            assert_eq!(kind(result), ErrorKind::Corrupt, "{key} from {offset}, {count} bytes");
        }
    }
    // Every space shows its own objects and no others.
    let mut wanted: BTreeMap<&str, Vec<Listed>> = BTreeMap::new();
    for (number, (space, key)) in keys().into_iter().enumerate() {
        let object = Listed { name: key.to_string(), bytes: 12 + number as u64 };
        assert_eq!(Key::parse(&object.name), Some(key));
        wanted.entry(space.prefix()).or_default().push(object);
    }
    for space in Space::ALL {
        assert_eq!(listed(backend, space), wanted[space.prefix()], "{space:?}");
    }
    // All of them in one pass, what is doomed before the index, the index before packs and snapshots.
    let mut all: Vec<(Space, Listed)> = Vec::new();
    backend.list_all(&mut |space, object| all.push((space, object))).unwrap();
    assert!(all.is_sorted_by_key(|(space, _)| *space), "{all:?}");
    all.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    assert_eq!(all.len(), keys().len());
    for (space, object) in &all {
        assert!(wanted[space.prefix()].contains(object), "{object:?} in {space:?}");
    }
    // An object without bytes is an object.
    let empty = Key::Pack(PackId([7; 32]));
    backend.put_new(&empty, &[]).unwrap();
    assert_eq!(backend.get(&empty, 0).unwrap(), b"");
    assert_eq!(kind(backend.put_new(&empty, &[b"x"])), ErrorKind::AlreadyExists);
    // Deleted is gone, and twice is no error; nothing else goes.
    for _ in 0..2 {
        backend.delete(&empty).unwrap();
        assert_eq!(kind(backend.get(&empty, 9).map(drop)), ErrorKind::NotFound);
    }
    assert_eq!(listed(backend, Space::Packs), wanted["packs"]);
    backend.clean_up().unwrap();
    assert_eq!(backend.get(&Key::Config, 99).unwrap(), b"config");
    assert!(!backend.location().is_empty());
    one_of_many_wins(backend);
}

/// Of many who create one name at once, exactly one succeeds, and its bytes are there whole.
pub(crate) fn one_of_many_wins(backend: &dyn Backend) {
    const WRITERS: usize = 8;
    for round in 0..20u8 {
        let key = Key::Snapshot(SessionId([0x80 | round; 16]));
        let start = Barrier::new(WRITERS);
        let outcomes: Vec<Result<(), ErrorKind>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (key, start) = (&key, &start);
                    scope.spawn(move || {
                        let bytes = vec![writer as u8; 5000 + writer];
                        start.wait();
                        backend.put_new(key, &[&bytes]).map_err(|error| error.kind())
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..WRITERS).filter(|w| outcomes[*w].is_ok()).collect();
        assert_eq!(winners.len(), 1, "round {round}: {outcomes:?}");
        let lost = Err(ErrorKind::AlreadyExists);
        assert!(outcomes.iter().filter(|outcome| **outcome == lost).count() == WRITERS - 1);
        let bytes = vec![winners[0] as u8; 5000 + winners[0]];
        assert!(backend.get(&key, 1 << 20).unwrap() == bytes, "round {round}");
        backend.delete(&key).unwrap();
    }
}

/// Catches a directory backend that replaces objects, shows half-written ones, or reads beyond.
#[test]
fn a_directory_keeps_the_promises() {
    let place = quick();
    keeps_its_promises(&LocalBackend::create(place.path().join("repository")).unwrap());
}

/// Catches a directory backend that only works on disk: rename and locks differ in memory.
#[test]
fn a_directory_on_disk_keeps_the_promises() {
    let place = crate::support::disk();
    keeps_its_promises(&LocalBackend::create(place.path().join("repository")).unwrap());
}

/// Catches a memory backend that is kinder than a directory: then no other test means much.
#[test]
fn memory_keeps_the_promises() {
    keeps_its_promises(&MemoryBackend::new());
}

/// Catches wrappers that pass something on wrongly: then tests with them prove nothing.
#[test]
fn wrappers_keep_the_promises() {
    let place = quick();
    let local = |name: &str| LocalBackend::create(place.path().join(name)).unwrap();
    keeps_its_promises(&FaultyBackend::new(MemoryBackend::new()));
    keeps_its_promises(&FaultyBackend::new(local("faulty")));
    keeps_its_promises(&RecordingBackend::new(local("recording")));
    keeps_its_promises(&CrashBackend::new(BTreeMap::new()));
    let shared: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    keeps_its_promises(&shared);
}

/// Catches objects or directories that others on the host can read: backups hold passwords.
#[test]
fn a_directory_is_for_its_owner_alone() {
    let place = quick();
    let root = place.path().join("repository");
    let backend = LocalBackend::create(&root).unwrap();
    backend.put_new(&Key::Config, &[b"x"]).unwrap();
    for (_, key) in keys() {
        backend.put_new(&key, &[b"x"]).unwrap();
    }
    let mut files = 0;
    for (path, facts) in compare::read(&root) {
        let wanted = if facts.kind == "directory" { 0o700 } else { 0o600 };
        assert_eq!(facts.mode, wanted, "{}", String::from_utf8_lossy(&path));
        files += u64::from(facts.kind == "file");
    }
    assert_eq!(files, 8, "and nothing is left under tmp/");
}

/// Catches a `create` that takes over a directory with other things in it, and one that cannot be
/// tried again after it was cut short.
#[test]
fn a_directory_with_something_else_in_it_is_refused() {
    let place = quick();
    let root = place.path().join("deep/repository");
    // As at the top of a file system that was made for the repository.
    fs::create_dir_all(root.join("lost+found")).unwrap();
    LocalBackend::create(&root).unwrap();
    LocalBackend::create(&root).unwrap();
    fs::remove_dir(root.join("packs/ff")).unwrap();
    LocalBackend::create(&root).unwrap();
    assert!(root.join("packs/ff").is_dir());
    fs::write(root.join("precious"), "x").unwrap();
    assert_eq!(LocalBackend::create(&root).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(fs::read(root.join("precious")).unwrap(), b"x");
}

fn temporary_files(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root.join("tmp")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Catches a clean-up that removes what a living process still writes, and one that leaves what a
/// dead one began.
#[test]
fn what_a_dead_process_began_is_cleaned_up_and_nothing_else() {
    let place = quick();
    let root = place.path().join("repository");
    let backend = LocalBackend::create(&root).unwrap();
    fs::write(root.join("tmp/dead"), "half").unwrap();
    let held = fs::File::create(root.join("tmp/held")).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    backend.clean_up().unwrap();
    assert_eq!(temporary_files(&root), ["held"]);
    drop(held);
    backend.clean_up().unwrap();
    assert_eq!(temporary_files(&root), Vec::<String>::new());
    fs::remove_dir(root.join("tmp")).unwrap();
    backend.clean_up().unwrap();
    backend.put_new(&Key::Config, &[b"tmp/ is made again when it is gone"]).unwrap();
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().mode() & 0o777, 0o700);
}

/// Catches a clean-up that races with writers: put_new of one process while others clean up.
#[test]
fn cleaning_up_does_not_disturb_writers() {
    let place = quick();
    let root = place.path().join("repository");
    let backend = LocalBackend::create(&root).unwrap();
    std::thread::scope(|scope| {
        let cleaner = scope.spawn(|| (0..400).for_each(|_| backend.clean_up().unwrap()));
        let mut number = 0u32;
        while !cleaner.is_finished() || number < 50 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_le_bytes());
            let bytes = vec![number as u8; 10_000];
            backend.put_new(&Key::Pack(PackId(id)), &[&bytes]).unwrap();
            assert!(backend.get(&Key::Pack(PackId(id)), 1 << 20).unwrap() == bytes);
            number += 1;
        }
    });
}
