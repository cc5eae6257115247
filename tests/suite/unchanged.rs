//! What counts as unchanged, and what a night without changes costs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use colvault_engine::backend::MemoryBackend;
use colvault_engine::backup::{BackupReport, Group};
use colvault_engine::index::CachePlace;
use colvault_engine::testing::trees::{Random, write_tree};
use colvault_engine::testing::{Call, RecordingBackend, Verb};

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::{PACK_BYTES, Store, disk, exotic, quick, require_root, wait_until_not_racy};

const SIZE: u64 = 300_000;

/// A tree of files with names, each of [`SIZE`] bytes, old enough to be trusted.
fn old_files(root: &Path, names: &[&str]) {
    fs::create_dir_all(root).unwrap();
    for (number, name) in names.iter().enumerate() {
        let bytes = Random::new(number as u64).bytes(usize::try_from(SIZE).unwrap());
        fs::write(root.join(name), bytes).unwrap();
    }
    wait_until_not_racy();
}

/// Overwrites one byte and puts the modification time back.
fn rewrite_in_secret(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[!byte[0]], 1000).unwrap();
    file.set_modified(modified).unwrap();
}

fn restored(store: &Store, source: &Path, place: &Path, context: &str) {
    let target = place.join(format!("restored {context}"));
    store.restore(&store.latest(), &target);
    assert_equal(&compare::read(source), &target, Leave::default(), context);
}

fn counts(report: &BackupReport) -> (u64, u64, u64, u64) {
    let stats = &report.snapshot.stats;
    (stats.files_new, stats.files_changed, stats.files_unmodified, stats.bytes_read)
}

/// Catches a backup that reads, uploads or asks more than it must when nothing changed: the list of
/// calls is exact. Also one that forgets its lease.
#[test]
fn an_unchanged_source_stores_a_snapshot_and_nothing_else() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 1, 40, 60_000).unwrap();
    wait_until_not_racy();
    let backend = Arc::new(RecordingBackend::new(MemoryBackend::new()));
    let cache = CachePlace::Directory(place.path().join("cache"));
    let store = Store::create(backend.clone(), cache, PACK_BYTES);
    // Of a deployment the catalog is read back too.
    let back_up = || store.backup_with(&source, |options| options.group = Group::Paths).unwrap();
    let first = back_up();
    assert_eq!(counts(&first).0, 40);
    backend.take();
    let second = back_up();
    assert_eq!(counts(&second), (0, 0, 40, 0), "nothing is read");
    assert_eq!(second.snapshot.parent, first.id);
    let id = second.id.unwrap();
    let call = |verb, name: String| Call { verb, name };
    let list = |space: &str| call(Verb::List, space.to_owned());
    let calls = backend.take();
    // The parent's manifest: its list and its chunks, each by one range of a pack.
    let (ranges, others): (Vec<Call>, Vec<Call>) =
        calls.into_iter().partition(|call| call.verb == Verb::GetRange);
    let first_id = first.id.unwrap();
    assert_eq!(
        others,
        [
            call(Verb::Get, "config".to_owned()),
            call(Verb::Put, format!("leases/{id}")),
            // Everything.
            list(""),
            call(Verb::Get, format!("snapshots/{first_id}")),
            list("features"),
            call(Verb::Put, format!("snapshots/{id}")),
            call(Verb::Delete, format!("leases/{id}")),
        ]
    );
    assert!(ranges.len() <= 3, "the manifest of 50 entries is a list and a chunk: {ranges:?}");
}

/// Catches a program that believes size and modification time: a database that is restored by
/// other means has both.
#[test]
fn a_rewrite_behind_the_same_times_is_found() {
    let place = disk();
    let source = place.path().join("source");
    old_files(&source, &["a", "b"]);
    let store = Store::memory();
    store.backup(&source);
    rewrite_in_secret(&source.join("a"));
    let report = store.backup(&source);
    assert_eq!(counts(&report), (0, 1, 1, SIZE), "a is read, b is not");
    restored(&store, &source, place.path(), "a rewrite in secret");
}

/// Catches `ignore_ctime` that still looks at ctime, which network file systems change at will; the
/// price is documented: a rewrite in secret is then not seen. Attributes are read anew all the same.
#[test]
fn without_ctime_content_is_believed_and_attributes_are_not() {
    require_root("another owner");
    let place = disk();
    let source = place.path().join("source");
    old_files(&source, &["secret", "attributes", "new time"]);
    let store = Store::memory();
    store.backup(&source);
    rewrite_in_secret(&source.join("secret"));
    exotic::set_mode(&source.join("attributes"), 0o4711);
    exotic::set_owner(&source.join("attributes"), 12, 13);
    exotic::set_mode(&source.join("attributes"), 0o4711);
    exotic::set_xattr(&source.join("attributes"), "user.new", b"value");
    fs::write(source.join("new time"), Random::new(99).bytes(SIZE as usize)).unwrap();
    let report = store.backup_with(&source, |options| options.ignore_ctime = true).unwrap();
    assert_eq!(counts(&report), (0, 1, 2, SIZE));
    let target = place.path().join("target");
    store.restore(&store.latest(), &target);
    let lines =
        compare::differences(&compare::read(&source), &compare::read(&target), Leave::default());
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("\"secret\""), "{lines:#?}");
}

/// Catches a program that loses a change of owner, mode or attributes because content and size are
/// the same; and one that stores the content once more.
#[test]
fn changed_attributes_alone_make_a_new_entry_and_no_new_data() {
    require_root("another owner");
    let place = disk();
    let source = place.path().join("source");
    old_files(&source, &["mode", "owner", "xattr", "acl", "removed", "same"]);
    exotic::set_xattr(&source.join("removed"), "user.old", b"value");
    wait_until_not_racy();
    let store = Store::memory();
    store.backup(&source);
    exotic::set_mode(&source.join("mode"), 0o640);
    exotic::set_owner(&source.join("owner"), 5, 6);
    exotic::set_xattr(&source.join("xattr"), "user.new", b"value");
    let list = exotic::acl(6, 4, 44, 6, 6, 0);
    exotic::set_xattr(&source.join("acl"), "system.posix_acl_access", &list);
    rustix::fs::lremovexattr(source.join("removed"), "user.old").unwrap();
    let report = store.backup(&source);
    assert_eq!(report.snapshot.stats.data_chunks, 0, "no content is stored again");
    assert_eq!(counts(&report).2, 1, "one file is as it was");
    restored(&store, &source, place.path(), "changed attributes");
}

/// Catches a program that takes a file of the same name, size and times for the same file.
#[test]
fn another_inode_is_another_file() {
    let place = disk();
    let source = place.path().join("source");
    old_files(&source, &["a", "b"]);
    let store = Store::memory();
    store.backup(&source);
    let modified = fs::metadata(source.join("a")).unwrap().modified().unwrap();
    let copy = place.path().join("copy");
    let mut bytes = fs::read(source.join("a")).unwrap();
    bytes[77] ^= 1;
    fs::write(&copy, bytes).unwrap();
    File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
    fs::rename(&copy, source.join("a")).unwrap();
    // Even where ctime is not to be believed.
    let report = store.backup_with(&source, |options| options.ignore_ctime = true).unwrap();
    assert_eq!(counts(&report), (0, 1, 1, SIZE));
    restored(&store, &source, place.path(), "another inode");
}

/// Catches a program that trusts times that are too fresh: a file written twice within one tick of
/// the clock would keep its first content for ever.
#[test]
fn a_file_too_fresh_to_trust_is_read_again() {
    let place = disk();
    let source = place.path().join("source");
    old_files(&source, &["old"]);
    fs::write(source.join("fresh"), Random::new(5).bytes(SIZE as usize)).unwrap();
    let store = Store::memory();
    store.backup(&source);
    let report = store.backup(&source);
    assert_eq!(counts(&report), (0, 1, 1, SIZE), "the fresh one is read again");
    assert_eq!(report.snapshot.stats.data_chunks, 0, "and found unchanged");
    wait_until_not_racy();
    let report = store.backup(&source);
    assert_eq!(counts(&report), (0, 1, 1, SIZE), "its last reading was too early, too");
    let report = store.backup(&source);
    assert_eq!(counts(&report), (0, 0, 2, 0), "now it is trusted");
}

/// Catches a forced backup that takes something over, and a parent of another host or deployment.
#[test]
fn force_reads_everything_and_strangers_are_no_parents() {
    let place = quick();
    let source = place.path().join("source");
    old_files(&source, &["a", "b"]);
    let store = Store::memory();
    let first = store.backup(&source);
    let forced = store.backup_with(&source, |options| options.force = true).unwrap();
    assert_eq!((counts(&forced).3, forced.snapshot.parent), (2 * SIZE, None));
    let name = |name: &str| Group::Deployment {
        name: name.to_owned(),
        topology: "shared-local".to_owned(),
    };
    let stranger = store.backup_with(&source, |options| options.group = name("other")).unwrap();
    assert_eq!(stranger.snapshot.parent, None, "another deployment");
    let failed_over = store.backup_with(&source, |options| options.host = "b".into()).unwrap();
    assert_eq!(failed_over.snapshot.parent, forced.id, "the newest of the same deployment");
    let again = store.backup(&source);
    assert_eq!(again.snapshot.parent, forced.id, "this host's own comes first");
    assert_ne!(again.snapshot.parent, first.id);
}
