//! What once went wrong, or nearly did.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use colvault_engine::backend::{Backend, LocalBackend};
use colvault_engine::backup::{Group, backup};
use colvault_engine::error::ErrorKind;
use colvault_engine::finding::FindingKind;
use colvault_engine::format::config::SlotParameters;
use colvault_engine::format::snapshot::SnapshotState;
use colvault_engine::progress::NullObserver;
use colvault_engine::repository::Repository;
use colvault_engine::testing::trees::mixed_bytes;

use crate::support::{Store, backup_options, quick, restore_options, wait_until_not_racy};

/// Catches a delta that takes the directory of a selected file for its own: logs of others beside
/// the server's binary logs.
#[test]
fn a_delta_deletes_nothing_beside_a_selected_file() {
    let place = quick();
    let source = place.path().join("log");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("bin.000001"), "binary log").unwrap();
    let store = Store::memory();
    let report = store
        .backup_with(&source, |options| {
            options.trees[0].select = vec![PathBuf::from("bin.000001")];
            options.paths = vec![options.trees[0].recorded.join("bin.000001")];
        })
        .unwrap();
    let target = place.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("error.log"), "of somebody else").unwrap();
    let named = store.named(report.id.unwrap());
    let report = store.restore_with(&named, &target, |options| options.delta = true).unwrap();
    assert_eq!(report.files_deleted, 0);
    assert_eq!(fs::read(target.join("error.log")).unwrap(), b"of somebody else");
    assert_eq!(fs::read(target.join("bin.000001")).unwrap(), b"binary log");
}

/// Catches an entry that no reader accepts: one file with attributes without end must not cost the
/// snapshot.
#[test]
fn attributes_without_end_cost_themselves_and_no_more() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("beside"), "kept").unwrap();
    let file = File::create(source.join("loaded")).unwrap();
    let value = vec![b'v'; 60_000];
    let set = (0..400)
        .take_while(|n| {
            let name = format!("user.attribute-{n}");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(&file, name.as_str(), &value, flags).is_ok()
        })
        .count();
    assert!(set * value.len() > 2 << 20, "tmpfs takes large attributes, took {set}");
    let store = Store::memory();
    let report = store.backup_with(&source, |_| ()).unwrap();
    assert_eq!(report.snapshot.state, SnapshotState::Partial, "what is dropped is said");
    assert_eq!(report.snapshot.findings.count(FindingKind::Unreadable), 1);
    let target = place.path().join("target");
    let named = store.named(report.id.unwrap());
    store.restore(&named, &target);
    assert_eq!(fs::read(target.join("beside")).unwrap(), b"kept");
    assert!(target.join("loaded").exists());
    assert!(
        store
            .check(true)
            .unwrap()
            .findings
            .listed
            .iter()
            .all(|f| f.kind == FindingKind::IncompleteSnapshot)
    );
}

/// Catches a parent that is believed when an index object and a pack are lost together: the file's
/// content is a span list, whose own id is still known.
#[test]
fn a_lost_index_and_a_lost_pack_are_healed_by_the_next_backup() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("large"), mixed_bytes(7, 12 << 20)).unwrap();
    wait_until_not_racy();
    let repository = place.path().join("repository");
    let store = Store::local(&repository);
    store.backup(&source);
    for index in fs::read_dir(repository.join("index")).unwrap() {
        fs::remove_file(index.unwrap().path()).unwrap();
    }
    let mut packs: Vec<(u64, PathBuf)> = Vec::new();
    for shard in fs::read_dir(repository.join("packs")).unwrap() {
        for pack in fs::read_dir(shard.unwrap().path()).unwrap() {
            let pack = pack.unwrap();
            packs.push((pack.metadata().unwrap().len(), pack.path()));
        }
    }
    let (_, largest) = packs.into_iter().max().unwrap();
    fs::remove_file(largest).unwrap();
    let report = store.backup(&source);
    let target = place.path().join("target");
    let restored = store.restore(&store.named(report.id.unwrap()), &target);
    assert_eq!(restored.findings.listed, []);
    assert!(fs::read(target.join("large")).unwrap() == mixed_bytes(7, 12 << 20));
}

/// Catches claims of one backup that the next one in the same process takes for stored chunks.
#[test]
fn a_dry_run_does_not_make_the_next_backup_believe_anything() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), mixed_bytes(3, 300_000)).unwrap();
    let store = Store::memory();
    let repository: Repository = store.open().unwrap();
    let mut options = backup_options(&source);
    options.dry_run = true;
    backup(&repository, &options, &NullObserver).unwrap();
    options.dry_run = false;
    let report = backup(&repository, &options, &NullObserver).unwrap();
    assert!(report.snapshot.stats.packs > 0);
    store.expect_clean("after a dry run and a backup");
}

/// Catches a part of the repository that is gone and passes for empty, and an `init` that makes
/// what is left foreign.
#[test]
fn a_repository_that_lost_a_part_is_not_an_empty_one() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let root = place.path().join("repository");
    let store = Store::local(&root);
    store.backup(&source);
    for space in ["snapshots", "index", "packs"] {
        fs::rename(root.join(space), place.path().join(space)).unwrap();
        assert_eq!(store.check(false).unwrap_err().kind(), ErrorKind::Corrupt, "{space}");
        fs::rename(place.path().join(space), root.join(space)).unwrap();
    }
    // Copies leave these out, since they are empty.
    for space in ["leases", "doomed", "tmp"] {
        fs::remove_dir(root.join(space)).unwrap();
    }
    store.backup(&source);
    store.expect_clean("without the directories a copy leaves out");

    fs::remove_file(root.join("config")).unwrap();
    let backend: &dyn Backend = &LocalBackend::open(&root);
    let options = colvault_engine::repository::CreateOptions {
        cutter: Default::default(),
        slots: SlotParameters::default(),
        pack_bytes: 64 << 20,
        now: crate::support::now(),
        program: "test".into(),
        store: Default::default(),
    };
    let error = Repository::create(backend, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

/// Catches a file of many spans that is empty when it is opened, for which nobody is left to say
/// that it has been read.
#[test]
fn a_large_file_that_is_cut_short_before_it_is_opened_does_not_stop_the_backup() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let flipping: Vec<File> =
        (0..4).map(|n| File::create(source.join(format!("log{n}"))).unwrap()).collect();
    let stop = AtomicBool::new(false);
    let (done, ended) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for length in [70 << 20, 0] {
                    flipping.iter().for_each(|file| file.set_len(length).unwrap());
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..60 {
                Store::memory().backup(&source);
            }
            done.send(()).unwrap();
        });
        let ended = ended.recv_timeout(Duration::from_secs(120));
        stop.store(true, Ordering::Relaxed);
        if ended.is_err() {
            // The thread that hangs would be waited for.
            eprintln!("a backup of files that are cut short does not end");
            std::process::exit(1);
        }
    });
}

/// Catches memory that grows with the length of a file instead of with its data.
#[test]
fn a_file_that_is_nearly_all_hole_is_stored_at_once() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = File::create(source.join("sparse")).unwrap();
    let length = 1 << 50;
    file.set_len(length).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", (1 << 49) + 5).unwrap();
    let store = Store::memory();
    let report = store.backup(&source);
    assert_eq!(report.snapshot.counts().bytes, length);
    let target = place.path().join("target");
    let named = store.named(report.id.unwrap());
    let mut options = restore_options(&target);
    options.threads = 1;
    store.restore(&named, &target);
    let back = File::open(target.join("sparse")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), length);
    let mut four = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&back, &mut four, (1 << 49) + 5).unwrap();
    assert_eq!(&four, b"data");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&back.metadata().unwrap());
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
}

/// Catches a walk that follows a directory which was exchanged for a link to elsewhere: nothing of
/// elsewhere may be in the snapshot.
#[test]
fn a_directory_exchanged_for_a_link_leads_nowhere() {
    let place = quick();
    let source = place.path().join("source");
    let elsewhere = place.path().join("elsewhere");
    for (directory, content) in [(source.join("d"), "inside"), (elsewhere.clone(), "OUTSIDE")] {
        fs::create_dir_all(&directory).unwrap();
        (0..2000).for_each(|n| fs::write(directory.join(format!("f{n}")), content).unwrap());
    }
    std::os::unix::fs::symlink(&elsewhere, place.path().join("link")).unwrap();
    let exchange = || {
        let cwd = rustix::fs::CWD;
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let link = place.path().join("link");
        rustix::fs::renameat_with(cwd, source.join("d"), cwd, link, flags).unwrap();
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange();
                exchange();
            }
        });
        for round in 0..10 {
            let store = Store::memory();
            let report = store.backup_with(&source, |options| options.group = Group::Paths);
            let report = report.unwrap();
            let target = place.path().join(format!("target{round}"));
            store.restore(&store.named(report.id.unwrap()), &target);
            assert_eq!(files_with(&target, b"OUTSIDE"), 0, "round {round}");
            fs::remove_dir_all(&target).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn files_with(directory: &Path, content: &[u8]) -> usize {
    let link = directory.join("d");
    if link.is_symlink() || !link.exists() {
        return 0;
    }
    fs::read_dir(link)
        .unwrap()
        .filter(|file| fs::read(file.as_ref().unwrap().path()).unwrap() == content)
        .count()
}
