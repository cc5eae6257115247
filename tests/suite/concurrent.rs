//! Several sessions at once, and sessions that are revoked.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};

use colvault_engine::backend::{Backend, Key, Listed, MemoryBackend, Space};
use colvault_engine::error::{ErrorKind, Result};
use colvault_engine::finding::FindingKind;
use colvault_engine::format::session::Doomed;
use colvault_engine::format::{Header, ObjectKind, seal_record};
use colvault_engine::id::{PackId, RepositoryId, SessionId};
use colvault_engine::index::CachePlace;
use colvault_engine::testing::trees::{Random, write_tree};

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::{PACK_BYTES, Store, quick};

fn restores(store: &Store, id: SessionId, source: &Path, place: &Path) {
    let target = place.join(format!("target {id}"));
    store.restore(&store.named(id), &target);
    assert_equal(&compare::read(source), &target, Leave::default(), &id.to_string());
    fs::remove_dir_all(&target).unwrap();
}

/// Writes two trees that share half of their files.
fn sources(place: &Path) -> [std::path::PathBuf; 2] {
    let trees = ["one", "two"].map(|name| place.join(name));
    for (number, tree) in trees.iter().enumerate() {
        write_tree(&tree.join("shared"), 1, 12, 400_000).unwrap();
        write_tree(&tree.join("own"), 50 + number as u64, 12, 400_000).unwrap();
    }
    trees
}

/// Catches sessions that disturb each other: chunks claimed by one and missing in the other's
/// snapshot, a cache shared by two that is damaged by both.
#[test]
fn threads_back_up_into_one_repository_at_once() {
    let place = quick();
    let sources = sources(place.path());
    for round in 0..4 {
        let root = place.path().join(format!("repository{round}"));
        let store = Store::local(&root);
        let start = Barrier::new(4);
        let ids: Vec<SessionId> = std::thread::scope(|scope| {
            let sessions: Vec<_> = (0..4usize)
                .map(|number| {
                    let (store, start, source) = (&store, &start, &sources[number % 2]);
                    scope.spawn(move || {
                        start.wait();
                        let report = store.backup_with(source, |options| {
                            options.host = format!("host{number}");
                        });
                        report.unwrap().id.unwrap()
                    })
                })
                .collect();
            sessions.into_iter().map(|session| session.join().unwrap()).collect()
        });
        for (number, id) in ids.into_iter().enumerate() {
            restores(&store, id, &sources[number % 2], place.path());
        }
        store.expect_clean("after four sessions at once");
    }
}

const CHILD: &str = "COLVAULT_TEST_CONCURRENT";

/// Not a test of its own: a process that backs up one tree three times.
#[test]
fn child_that_backs_up() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [repository, cache, source] = told.split('\n').collect::<Vec<_>>()[..] else {
        panic!("repository, cache and source expected")
    };
    let store = Store::reopen(Path::new(repository), CachePlace::Directory(cache.into()));
    for _ in 0..3 {
        store.backup_with(Path::new(source), |options| options.host = source.to_owned()).unwrap();
    }
}

fn spawn(repository: &Path, cache: &Path, source: &Path) -> Child {
    let told = [repository, cache, source].map(|path| path.to_str().unwrap()).join("\n");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "concurrent::child_that_backs_up", "--nocapture"])
        .env(CHILD, told)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Catches processes that stop or damage each other: with one cache directory for all, and with
/// one for each as two hosts have.
#[test]
fn processes_back_up_into_one_repository_at_once() {
    let place = quick();
    let sources = sources(place.path());
    let root = place.path().join("repository");
    let store = Store::local(&root);
    let caches = ["shared", "shared", "own"].map(|name| place.path().join(name));
    let children: Vec<Child> = caches
        .iter()
        .enumerate()
        .map(|(number, cache)| spawn(&root, cache, &sources[number % 2]))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success(), "a session fails beside others");
    }
    let listing = store.listing().unwrap();
    assert_eq!(listing.snapshots.len(), 9);
    for named in &listing.snapshots {
        restores(&store, named.id, Path::new(&named.snapshot.host), place.path());
    }
    store.expect_clean("after three processes");
    let report = store.check(false).unwrap();
    assert_eq!(report.leases, 0, "every session takes its lease away");
    // A host that has seen none of it reads everything and restores.
    let stranger = Store::reopen(&root, CachePlace::Directory(place.path().join("new")));
    let last = listing.snapshots.last().unwrap();
    restores(&stranger, last.id, Path::new(&last.snapshot.host), place.path());
}

/// Writes a tombstone under the name of the session that took a lease, right before its commit.
struct Revoking {
    inner: MemoryBackend,
    repository: Mutex<Option<RepositoryId>>,
}

impl Backend for Revoking {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn put_new(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        if let Key::Snapshot(session) = key
            && let Some(repository) = *self.repository.lock().unwrap()
        {
            let prune = SessionId([1; 16]);
            let header = Header::new(ObjectKind::Tombstone, 0, repository, prune);
            self.inner.put_new(&Key::Snapshot(*session), &[&seal_record(&header, b"{}")])?;
        }
        self.inner.put_new(key, parts)
    }
    fn get(&self, key: &Key, bytes_max: u64) -> Result<Vec<u8>> {
        self.inner.get(key, bytes_max)
    }
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(key, offset, length)
    }
    fn list(&self, space: Space, each: &mut dyn FnMut(Listed)) -> Result<()> {
        self.inner.list(space, each)
    }
    fn length(&self, key: &Key) -> Result<u64> {
        self.inner.length(key)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }
}

/// Catches a session that commits although it was revoked, a tombstone that counts as a snapshot,
/// and a next backup that uploads again what the revoked one had stored.
#[test]
fn a_revoked_session_cannot_commit() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 10, 100_000).unwrap();
    let backend = Arc::new(Revoking { inner: MemoryBackend::new(), repository: Mutex::default() });
    let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
    let id = store.open().unwrap().id();
    *backend.repository.lock().unwrap() = Some(id);
    let error = store.backup_with(&source, |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    *backend.repository.lock().unwrap() = None;
    let listing = store.listing().unwrap();
    assert_eq!((listing.snapshots.len(), listing.revoked), (0, 1));
    assert!(listing.findings.is_empty());
    let report = store.backup(&source);
    assert_eq!(report.snapshot.stats.data_chunks, 0, "what it uploaded is found again");
    restores(&store, report.id.unwrap(), &source, place.path());
    store.expect_clean("after a revoked session");
}

/// Catches a session that takes chunks from packs that a prune is about to delete.
#[test]
fn chunks_of_doomed_packs_are_stored_again() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 10, 100_000).unwrap();
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
    store.backup(&source);
    let mut packs: Vec<PackId> = Vec::new();
    backend
        .list(Space::Packs, &mut |object| {
            let Some(Key::Pack(id)) = Key::parse(&object.name) else { panic!("a pack") };
            packs.push(id);
        })
        .unwrap();
    let repository = store.open().unwrap();
    let prune = SessionId([1; 16]);
    let body = colvault_engine::format::config::to_json(&Doomed { packs: packs.clone() });
    repository.create_record(&Key::Doomed(prune), ObjectKind::Doomed, prune, &body).unwrap();
    let report = store.backup_with(&source, |options| options.force = true).unwrap();
    for pack in packs {
        backend.delete(&Key::Pack(pack)).unwrap();
    }
    restores(&store, report.id.unwrap(), &source, place.path());
    let found = store.check(false).unwrap().findings;
    assert!(found.count(FindingKind::MissingObject) > 0, "the old packs are named as missing");
}

/// Catches a writer that changes the source between two sessions and gets the other's content.
#[test]
fn sessions_see_what_was_there_when_they_read() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 10, 100_000).unwrap();
    let store = Store::memory();
    let mut random = Random::new(4);
    let mut nights = Vec::new();
    for _ in 0..8 {
        colvault_engine::testing::trees::edit_tree(&source, &mut random).unwrap();
        nights.push((store.backup(&source).id.unwrap(), compare::read(&source)));
    }
    for (id, expected) in nights {
        let target = place.path().join("target");
        store.restore(&store.named(id), &target);
        assert_equal(&expected, &target, Leave::default(), "an older night");
        fs::remove_dir_all(&target).unwrap();
    }
}
