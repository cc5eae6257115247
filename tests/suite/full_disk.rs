//! A file system without space: the backup fails and says so, nothing that was there is lost, and
//! with space again it succeeds.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use colvault_engine::backend::LocalBackend;
use colvault_engine::error::ErrorKind;
use colvault_engine::index::CachePlace;
use colvault_engine::testing::trees::{Random, write_tree};

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::{Store, quick, require_root};

const MIB: u64 = 1 << 20;

/// A small file system in memory; unmounted when it goes.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path, mib: u64) -> SmallDisk {
        require_root("a file system that becomes full");
        fs::create_dir_all(path).unwrap();
        let options = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "colvault-tests"]).arg(path);
        let status = mount.status().expect("mount can be run");
        assert!(status.success(), "a tmpfs cannot be mounted here: {status}");
        SmallDisk { path: path.to_owned() }
    }

    fn free(&self) -> u64 {
        let facts = rustix::fs::statvfs(&self.path).unwrap();
        facts.f_bavail * facts.f_frsize
    }

    /// Takes space until `left` bytes are free.
    fn fill(&self, left: u64) {
        let count = usize::try_from(self.free().saturating_sub(left)).unwrap();
        File::create(self.path.join("ballast")).unwrap().write_all(&vec![7; count]).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

fn expect_full(error: &colvault_engine::error::Error, context: &str) {
    let kind = error.kind();
    assert!(matches!(kind, ErrorKind::Full | ErrorKind::Io), "{context}: {kind:?} {error}");
}

/// Catches a backup that reports success without space, that damages what was there, that leaves
/// its leavings so that the next has no space either: a disk of 64 MiB, full at every MiB.
#[test]
fn a_repository_on_a_full_disk_keeps_what_it_has() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 16, 300_000).unwrap();
    let disk = SmallDisk::mount(&place.path().join("disk"), 64);
    let root = disk.path.join("repository");
    LocalBackend::create(&root).unwrap();
    let backend = Arc::new(LocalBackend::open(&root));
    let store = Store::create(backend, CachePlace::Memory, 1 << 20);
    let first = store.backup(&source).id.unwrap();
    let then = compare::read(&source);
    // What is new does not compress and does not repeat: some 20 MiB of it.
    for number in 0..20 {
        let bytes = Random::new(100 + number).bytes(MIB as usize);
        fs::write(source.join(format!("new{number}")), bytes).unwrap();
    }
    let now = compare::read(&source);
    let before = compare::read(&root);
    let target = place.path().join("target");
    let restores = |id, expected: &compare::Tree, context: &str| {
        store.restore(&store.named(id), &target);
        assert_equal(expected, &target, Leave::default(), context);
        fs::remove_dir_all(&target).unwrap();
    };
    let (mut failed, mut succeeded) = (0, 0);
    for step in 0..64 {
        let left = if step < 4 { step * 8192 } else { (step - 3) * MIB };
        if left > disk.free() {
            break;
        }
        let context = format!("{left} bytes free");
        disk.fill(left);
        match store.backup_with(&source, |_| ()) {
            Ok(report) => {
                succeeded += 1;
                restores(report.id.unwrap(), &now, &context);
            }
            Err(error) => {
                failed += 1;
                expect_full(&error, &context);
                let left_behind = fs::read_dir(root.join("tmp")).unwrap().count();
                assert_eq!(left_behind, 0, "{context}: nothing half written stays");
            }
        }
        let report = store.check_with(true, false).unwrap();
        assert_eq!(report.findings.listed, [], "{context}");
        restores(first, &then, &context);
        // The disk is as it was, for the next step.
        disk.empty();
        for path in compare::read(&root).keys().filter(|path| !before.contains_key(*path)) {
            use std::os::unix::ffi::OsStrExt;
            fs::remove_file(root.join(std::ffi::OsStr::from_bytes(path))).unwrap();
        }
    }
    assert!(failed >= 15 && succeeded >= 10, "{failed} backups failed, {succeeded} succeeded");
}

/// Catches a second try after a full disk that does not find what the first had stored, or fails.
#[test]
fn with_space_again_the_next_backup_succeeds() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..12 {
        let bytes = Random::new(number).bytes(MIB as usize);
        fs::write(source.join(format!("file{number}")), bytes).unwrap();
    }
    let disk = SmallDisk::mount(&place.path().join("disk"), 64);
    let root = disk.path.join("repository");
    let backend = Arc::new(LocalBackend::create(&root).unwrap());
    let store = Store::create(backend, CachePlace::Memory, 1 << 20);
    disk.fill(6 * MIB);
    expect_full(&store.backup_with(&source, |_| ()).unwrap_err(), "6 MiB for 12");
    disk.empty();
    let report = store.backup(&source);
    let target = place.path().join("target");
    store.restore(&store.named(report.id.unwrap()), &target);
    assert_equal(&compare::read(&source), &target, Leave::default(), "with space again");
    store.expect_clean("with space again");
}

/// Catches a restore that reports success on a full target, or begins one that cannot end.
#[test]
fn a_target_that_is_full_is_an_error() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..8 {
        let bytes = Random::new(number).bytes(MIB as usize);
        fs::write(source.join(format!("file{number}")), bytes).unwrap();
    }
    let store = Store::memory();
    store.backup(&source);
    let disk = SmallDisk::mount(&place.path().join("disk"), 16);
    for left in [0, 4 * MIB, 8 * MIB - 4096] {
        disk.fill(left);
        let target = disk.path.join("target");
        let error = store.restore_with(&store.latest(), &target, |_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{left} bytes free: {error}");
        assert!(!target.exists(), "{left} bytes free: refused before anything is written");
        disk.empty();
    }
}

/// Catches a restore that swallows what goes wrong while it writes: space that was there when it
/// began and is gone when it is needed.
#[test]
fn a_target_that_becomes_full_is_an_error() {
    use colvault_engine::progress::{Event, NullObserver, Observer};
    struct TakeSpace<'a>(&'a SmallDisk, std::sync::Once);
    impl Observer for TakeSpace<'_> {
        fn event(&self, event: Event<'_>) {
            if matches!(event, Event::Stage(_)) {
                self.1.call_once(|| self.0.fill(5 * MIB));
            }
        }
    }
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..40 {
        let bytes = Random::new(number).bytes(200_000);
        fs::write(source.join(format!("file{number}")), bytes).unwrap();
    }
    let store = Store::memory();
    let named = store.named(store.backup(&source).id.unwrap());
    let disk = SmallDisk::mount(&place.path().join("disk"), 16);
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let options = crate::support::restore_options(&disk.path.join("target"));
    let observer = TakeSpace(&disk, std::sync::Once::new());
    let result = colvault_engine::restore::restore(&repository, &named, &options, &observer);
    let error = result.expect_err("8 MB do not fit into 5 MiB");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
}

/// Catches a cache that is more than a cache: where it has no space, now or later, everything still
/// works.
#[test]
fn a_cache_without_space_costs_time_and_nothing_else() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    // Many chunks, so that the cache grows: 4000 files of their own.
    for number in 0..4000u64 {
        fs::write(source.join(format!("file{number}")), number.to_le_bytes().repeat(4)).unwrap();
    }
    let expected = compare::read(&source);
    for left in [0, 4096, 64 << 10, 256 << 10, 600 << 10, MIB, 2 * MIB, 3 * MIB, 4 * MIB] {
        let context = format!("{left} bytes free for the cache");
        let disk = SmallDisk::mount(&place.path().join("disk"), 16);
        disk.fill(left);
        let mut store = Store::memory();
        store.cache = CachePlace::Directory(disk.path.join("cache"));
        let backup = |store: &Store| {
            let report = store.backup_with(&source, |_| ());
            report.unwrap_or_else(|error| panic!("{context}: {error}")).id.unwrap()
        };
        backup(&store);
        let id = backup(&store);
        let target = place.path().join("target");
        let restored = store.restore_with(&store.named(id), &target, |_| ());
        restored.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_equal(&expected, &target, Leave::default(), &context);
        fs::remove_dir_all(&target).unwrap();
        // And a cache that is full before the index is loaded into it.
        disk.empty();
        fs::remove_dir_all(disk.path.join("cache")).unwrap();
        disk.fill(left);
        store.expect_clean(&context);
    }
}
