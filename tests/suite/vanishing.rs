//! Files that change, shrink, grow, vanish or cannot be read while a backup runs: it finishes, says
//! so by name, and the next backup reads them again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use colvault_engine::backup::{BackupReport, backup};
use colvault_engine::finding::FindingKind;
use colvault_engine::format::snapshot::SnapshotState;
use colvault_engine::progress::{Event, Observer};
use colvault_engine::testing::trees::Random;
use rustix::process::Uid;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::{
    Store, backup_options, exotic, has_finding, quick, require_root, wait_until_not_racy,
};

/// Does something once, while the first file is being read: by then the walk is past all others.
struct Meanwhile<'a> {
    act: &'a (dyn Fn() + Sync),
    once: Once,
}

impl Observer for Meanwhile<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Done { entries: 0, bytes: 1.. } = event {
            self.once.call_once(|| {
                // One thread reads, and is held here; the walk goes on without it.
                std::thread::sleep(Duration::from_millis(400));
                (self.act)();
            });
        }
    }
}

const SIZE: usize = 4 << 20;

/// Backs up a tree of `0-first`, which is being read when `act` runs, and some more.
fn backed_up_while(source: &Path, store: &Store, act: &(dyn Fn() + Sync)) -> BackupReport {
    let repository = store.open().unwrap();
    let mut options = backup_options(source);
    options.threads = 1;
    let report = backup(&repository, &options, &Meanwhile { act, once: Once::new() }).unwrap();
    repository.close();
    report
}

fn tree(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    for (number, name) in ["0-first"].iter().chain(names).enumerate() {
        fs::write(source.join(name), Random::new(number as u64).bytes(SIZE)).unwrap();
    }
    wait_until_not_racy();
    (place, source)
}

fn restored_as(store: &Store, source: &Path, context: &str) {
    let target = source.with_file_name("target");
    store.restore(&store.latest(), &target);
    assert_equal(&compare::read(source), &target, Leave::default(), context);
    fs::remove_dir_all(&target).unwrap();
}

/// Catches a backup that stops, or stays silent, when files are gone that were there a moment ago.
#[test]
fn what_vanishes_is_named_and_the_rest_is_stored() {
    let (_place, source) = tree(&["gone", "stays", "becomes a directory", "becomes a link"]);
    let store = Store::memory();
    let report = backed_up_while(&source, &store, &|| {
        for name in ["gone", "becomes a directory", "becomes a link"] {
            fs::remove_file(source.join(name)).unwrap();
        }
        fs::create_dir(source.join("becomes a directory")).unwrap();
        std::os::unix::fs::symlink("stays", source.join("becomes a link")).unwrap();
    });
    let findings = &report.snapshot.findings;
    for name in ["gone", "becomes a directory"] {
        assert!(has_finding(&findings.listed, FindingKind::Vanished, name), "{findings:?}");
    }
    assert!(findings.listed.iter().any(|f| f.object.ends_with("becomes a link")), "{findings:?}");
    assert_eq!(report.snapshot.state, SnapshotState::Partial);
    let named = store.latest();
    let target = source.with_file_name("partial");
    store.restore_with(&named, &target, |_| ()).unwrap();
    for name in ["0-first", "stays"] {
        assert_eq!(compare::content(&target.join(name)), compare::content(&source.join(name)));
    }
    assert!(!target.join("gone").exists(), "what was gone is not made up");

    let report = store.backup(&source);
    assert_eq!(report.snapshot.findings.listed, []);
    assert_eq!(report.snapshot.state, SnapshotState::Complete);
    restored_as(&store, &source, "the next night");
}

/// Catches content that was read half before and half after a change and passes for good, for each
/// way a file can change; and a next backup that believes it.
#[test]
fn what_changes_while_it_is_read_is_named_and_read_again() {
    type Act = fn(&Path);
    let acts: [(&str, Act); 4] = [
        ("is overwritten", |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(b"changed", 3 << 20).unwrap();
        }),
        ("grows", |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[1; 100_000], SIZE as u64).unwrap();
        }),
        ("shrinks", |path| {
            File::options().write(true).open(path).unwrap().set_len(2_500_000).unwrap();
        }),
        ("is emptied", |path| drop(File::create(path).unwrap())),
    ];
    for (what, act) in acts {
        let (_place, source) = tree(&["stays"]);
        let store = Store::memory();
        let report = backed_up_while(&source, &store, &|| act(&source.join("0-first")));
        let findings = &report.snapshot.findings;
        assert_eq!(findings.total(), 1, "{what}: {findings:?}");
        assert!(
            has_finding(&findings.listed, FindingKind::ChangedWhileRead, "0-first"),
            "{what}: {findings:?}"
        );
        assert_eq!(report.snapshot.state, SnapshotState::Partial, "{what}");
        assert_eq!(store.check(true).unwrap().findings.count(FindingKind::DamagedManifest), 0);
        // It restores as far as it was read.
        let target = source.with_file_name("partial");
        store.restore_with(&store.latest(), &target, |_| ()).unwrap();
        assert_eq!(
            compare::content(&target.join("stays")),
            compare::content(&source.join("stays"))
        );
        assert!(target.join("0-first").exists());
        let length = fs::metadata(source.join("0-first")).unwrap().len();

        wait_until_not_racy();
        let report = store.backup(&source);
        let stats = &report.snapshot.stats;
        assert_eq!((stats.bytes_read, stats.files_unmodified), (length, 1), "{what}");
        assert_eq!(report.snapshot.findings.listed, [], "{what}");
        restored_as(&store, &source, what);
    }
}

/// Catches a backup that a file it may not read stops, or that stores it as empty; and one that
/// does not try again. Runs as a user who is not root.
#[test]
fn what_cannot_be_read_is_named_and_tried_again() {
    require_root("becoming another user");
    let (place, source) = tree(&["readable", "secret"]);
    fs::create_dir(source.join("closed")).unwrap();
    fs::write(source.join("closed/inside"), "inside").unwrap();
    exotic::set_mode(place.path(), 0o755);
    exotic::set_mode(&source.join("secret"), 0o600);
    exotic::set_mode(&source.join("closed"), 0o700);
    wait_until_not_racy();
    let store = Store::memory();
    let as_nobody = || {
        std::thread::scope(|scope| {
            let nobody = scope.spawn(|| {
                let nobody = Uid::from_raw(65_534);
                // Of this thread alone, and of those it starts.
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                assert!(File::open(source.join("secret")).is_err(), "this user may not read it");
                store.backup_with(&source, |_| ()).unwrap()
            });
            nobody.join().unwrap()
        })
    };
    let report = as_nobody();
    let findings = &report.snapshot.findings;
    for name in ["secret", "closed"] {
        assert!(has_finding(&findings.listed, FindingKind::Unreadable, name), "{findings:?}");
    }
    assert_eq!(findings.total(), 2, "{findings:?}");
    assert_eq!(report.snapshot.state, SnapshotState::Partial);

    let target = source.with_file_name("target");
    let restored = store.restore_with(&store.latest(), &target, |_| ()).unwrap();
    assert_eq!(restored.findings.count(FindingKind::LostContent), 1, "{:?}", restored.findings);
    assert!(!target.join("secret").exists(), "an empty file would pass for the real one");
    assert!(target.join("closed").is_dir());
    fs::remove_dir_all(&target).unwrap();

    let again = as_nobody();
    assert_eq!(again.snapshot.findings.total(), 2, "it is tried, and told, every night");
    assert_eq!(again.snapshot.stats.files_unmodified, 2, "what was read is taken over");
    let healed = store.backup(&source);
    assert_eq!(healed.snapshot.findings.listed, []);
    assert_eq!(healed.snapshot.stats.bytes_read, SIZE as u64 + 6, "what was missing is read");
    restored_as(&store, &source, "read by root");
}

/// Catches a race nobody thought of: a file that is overwritten, cut, extended and replaced all the
/// time. Every backup finishes, every snapshot restores, and the last one, of a quiet file, is right.
#[test]
fn a_file_that_never_rests_does_no_harm() {
    let (_place, source) = tree(&["stays"]);
    let path = source.join("0-first");
    let store = Store::memory();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(5);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let at = random.below(SIZE as u64);
                match random.below(20) {
                    0 => File::options().write(true).open(&path).unwrap().set_len(at).unwrap(),
                    1 => fs::rename(&path, source.join("2-old")).unwrap(),
                    2 => {
                        let _ = fs::remove_file(source.join("2-old"));
                    }
                    _ => {}
                }
                let file = File::options().write(true).create(true).truncate(false).open(&path);
                file.unwrap().write_all_at(&random.bytes(50_000), at).unwrap();
            }
        });
        for number in 0..30 {
            let threads = 1 + number % 3;
            let report = store.backup_with(&source, |options| options.threads = threads);
            let report = report.unwrap_or_else(|error| {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("backup {number}: {error}")
            });
            let wanted = match report.snapshot.findings.is_empty() {
                true => SnapshotState::Complete,
                false => SnapshotState::Partial,
            };
            assert_eq!(report.snapshot.state, wanted);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let listing = store.listing().unwrap();
    assert_eq!(listing.snapshots.len(), 30);
    for named in listing.snapshots.iter().step_by(5) {
        let target = source.with_file_name("target");
        let report = store.restore_with(named, &target, |_| ()).unwrap();
        let lost = report.findings.count(FindingKind::LostContent);
        assert_eq!(report.findings.total(), lost, "{:?}", report.findings);
        assert_eq!(
            compare::content(&target.join("stays")),
            compare::content(&source.join("stays"))
        );
        fs::remove_dir_all(&target).unwrap();
    }
    let report = store.backup_with(&source, |_| ()).unwrap();
    assert_eq!(report.snapshot.findings.listed, [], "now it rests");
    restored_as(&store, &source, "at rest");
}
