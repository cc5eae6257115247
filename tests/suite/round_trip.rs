//! What was backed up comes back: content, types, names, owners, modes, times, attributes, links,
//! holes. The comparer shares no line with the engine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use colvault_engine::backend::{Backend, Space};
use colvault_engine::error::ErrorKind;
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::extent::{Extent, SPAN_BYTES};
use colvault_engine::id::ChunkId;
use colvault_engine::manifest::{ManifestReader, MetaReader};
use colvault_engine::progress::NullObserver;
use colvault_engine::restore::Target;
use colvault_engine::snapshot::Named;
use colvault_engine::source::SourceTree;
use colvault_engine::testing::trees::{Random, mixed_bytes, write_tree};
use rustix::fs::{SeekFrom, seek};

use crate::support::compare::{self, Leave, assert_equal, blocks_agree};
use crate::support::{
    Store, disk, exotic, has_finding, quick, require_root, seed, wait_until_not_racy,
};

/// Returns the content chunks of a snapshot, sorted.
pub fn chunks_of(store: &Store, named: &Named) -> BTreeSet<ChunkId> {
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut meta = MetaReader::new(&repository);
    let mut chunks = BTreeSet::new();
    for component in &named.snapshot.components {
        let mut manifest = ManifestReader::new(&repository, component);
        while let Some(entry) = manifest.next_entry().unwrap() {
            meta.extents(entry.extents(), &mut |_, extent| {
                if let Extent::Chunk { id, .. } | Extent::Slice { id, .. } = extent {
                    chunks.insert(id);
                }
                Ok(())
            })
            .unwrap();
        }
    }
    chunks
}

/// Catches a program that loses, mixes up or alters anything a file system holds, with one thread
/// or several; one that stores differently when it has more threads; and one that fills holes or
/// leaves zeros without space.
#[test]
fn everything_comes_back_whatever_the_number_of_threads() {
    require_root("the tree of everything");
    let seed = seed("everything_comes_back");
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    exotic::write(&source, seed);
    let expected = compare::read(&source);
    let store = Store::local(&place.path().join("repository"));
    let mut chunks = Vec::new();
    for threads in [1, 4] {
        let report = store.backup_with(&source, |options| {
            options.threads = threads;
            options.force = true;
        });
        let report = report.unwrap();
        let findings = &report.snapshot.findings.listed;
        assert!(
            findings.len() == 1
                && has_finding(findings, FindingKind::LinkLeavesComponent, "links/absolute"),
            "the link that leads out is found and nothing else: {findings:?}"
        );
        assert_eq!(report.snapshot.counts().entries(), expected.len() as u64);
        let named = store.named(report.id.unwrap());
        chunks.push(chunks_of(&store, &named));
        let target = place.path().join(format!("target{threads}"));
        let report = store.restore_with(&named, &target, |o| o.threads = threads).unwrap();
        assert_eq!(report.findings.listed, []);
        assert_equal(&expected, &target, Leave::default(), &format!("{threads} threads"));
        expect_same_holes(&source.join("holes"), &target.join("holes"));
        fs::remove_dir_all(&target).unwrap();
    }
    assert!(chunks[0].len() > 100, "a tree of many chunks");
    assert_eq!(chunks[0], chunks[1], "chunks do not depend on the number of threads");
    assert_equal(&expected, &source, Leave::default(), "the source is not changed by its backup");
    let report = store.check(true).unwrap();
    let wrong = |finding: &&Finding| finding.kind != FindingKind::IncompleteSnapshot;
    assert_eq!(report.findings.listed.iter().find(wrong), None, "a repository without damage");
}

/// Every byte the source has as data is data, or allocated zeros, in the copy: the copy's holes
/// lie inside the source's.
fn expect_same_holes(source: &Path, target: &Path) {
    for entry in fs::read_dir(source).unwrap() {
        let name = entry.unwrap().file_name();
        let one = fs::metadata(source.join(&name)).unwrap();
        let other = fs::metadata(target.join(&name)).unwrap();
        let (one, other) = (one.blocks() * 512, other.blocks() * 512);
        assert!(blocks_agree(one, other), "{name:?}: {one} bytes allocated, then {other}");
    }
}

/// Catches a span of 64 MiB that ends one byte early or late, lists of spans in the wrong order,
/// and a file of several spans that is cut differently by several threads.
#[test]
fn files_around_the_span_come_back() {
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let mixed = mixed_bytes(3, 130 << 20);
    for size in [SPAN_BYTES - 1, SPAN_BYTES, SPAN_BYTES + 1, 130 << 20] {
        let bytes = &mixed[mixed.len() - usize::try_from(size).unwrap()..];
        fs::write(source.join(size.to_string()), bytes).unwrap();
    }
    // Manifests say which entries are too fresh to trust; both backups have to say the same.
    wait_until_not_racy();
    let expected = compare::read(&source);
    let store = Store::memory();
    let one = store.backup_with(&source, |options| options.threads = 1).unwrap();
    let many = store
        .backup_with(&source, |options| {
            options.threads = 4;
            options.force = true;
        })
        .unwrap();
    assert_eq!(many.snapshot.stats.data_chunks, 0, "cut the same by four threads as by one");
    assert_eq!(
        one.snapshot.components[0].manifest, many.snapshot.components[0].manifest,
        "the manifest, too"
    );
    for threads in [1, 4] {
        let target = place.path().join(format!("target{threads}"));
        store.restore_with(&store.latest(), &target, |o| o.threads = threads).unwrap();
        assert_equal(&expected, &target, Leave::default(), &format!("{threads} threads"));
        fs::remove_dir_all(&target).unwrap();
    }
}

/// Catches `sparse` that makes no holes, or makes them of something that is not zeros; and zeros
/// that come back unallocated without it.
#[test]
fn zeros_come_back_allocated_and_sparse_makes_holes_of_them() {
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut bytes = Random::new(1).bytes(100_000);
    bytes.resize(20 << 20, 0);
    bytes.extend(Random::new(2).bytes(100_000));
    fs::write(source.join("file"), &bytes).unwrap();
    let store = Store::memory();
    let report = store.backup(&source);
    assert!(
        report.snapshot.stats.data_added < 1 << 20,
        "zeros are an extent, {} bytes were stored",
        report.snapshot.stats.data_added
    );
    for (sparse, at_least, at_most) in [(false, 20 << 20, u64::MAX), (true, 0, 1 << 20)] {
        let target = place.path().join(format!("sparse {sparse}"));
        store.restore_with(&store.latest(), &target, |o| o.sparse = sparse).unwrap();
        assert!(fs::read(target.join("file")).unwrap() == bytes, "the same bytes");
        let allocated = fs::metadata(target.join("file")).unwrap().blocks() * 512;
        assert!((at_least..=at_most).contains(&allocated), "sparse {sparse}: {allocated}");
    }
}

/// Catches a hole that comes back as zeros that take space, or that swallows data beside it.
#[test]
fn a_hole_is_still_a_hole_where_it_was() {
    let place = disk();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = File::create(source.join("file")).unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(&[1; 4096], 3 << 20).unwrap();
    let store = Store::memory();
    store.backup(&source);
    let target = place.path().join("target");
    store.restore(&store.latest(), &target);
    let copy = File::open(target.join("file")).unwrap();
    assert_eq!(seek(&copy, SeekFrom::Data(0)).unwrap(), 3 << 20);
    assert_eq!(seek(&copy, SeekFrom::Hole(3 << 20)).unwrap(), (3 << 20) + 4096);
    assert!(seek(&copy, SeekFrom::Data((3 << 20) + 4096)).is_err(), "nothing but a hole follows");
}

/// Catches a selection that takes too much or too little: by component, by path as the source
/// named it or relative, by pattern; and one that matches nothing and says nothing.
#[test]
fn parts_of_a_snapshot_come_back_alone() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source.join("data1"), 1, 12, 50_000).unwrap();
    write_tree(&source.join("data2"), 2, 5, 50_000).unwrap();
    fs::write(source.join("data1/000.dir/a.b"), "beside a").unwrap();
    fs::create_dir(source.join("data1/000.dir/a")).unwrap();
    fs::write(source.join("data1/000.dir/a/x"), "below a").unwrap();
    let store = Store::memory();
    let report = store
        .backup_with(&source, |options| {
            options.trees = ["1", "2"]
                .map(|n| SourceTree {
                    component: format!("dbroot/{n}"),
                    base: source.canonicalize().unwrap().join(format!("data{n}")),
                    recorded: format!("/var/lib/columnstore/data{n}").into(),
                    select: vec!["".into()],
                    leave_out: Vec::new(),
                })
                .into();
        })
        .unwrap();
    let named = store.named(report.id.unwrap());
    let restore = |name: &str, change: &dyn Fn(&mut colvault_engine::restore::RestoreOptions)| {
        let target = place.path().join(name);
        let report = store.restore_with(&named, &target, |options| {
            options.target = Target::Directory(target.clone());
            change(options);
        });
        report.map(|report| (report, target))
    };
    let files = |target: &Path| -> BTreeSet<String> {
        let found = colvault_engine::testing::trees::files_below(target).unwrap();
        found
            .iter()
            .map(|path| path.strip_prefix(target).unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    let all = restore("all", &|_| ()).unwrap().1;
    assert_equal(
        &compare::read(&source.join("data1")),
        &all.join("dbroot/1"),
        Leave::default(),
        "1",
    );
    let everything = files(&all);

    let expect = |name: &str,
                  change: &dyn Fn(&mut colvault_engine::restore::RestoreOptions),
                  wanted: &dyn Fn(&str) -> bool| {
        let (report, target) = restore(name, change).unwrap();
        let wanted: BTreeSet<String> =
            everything.iter().filter(|path| wanted(path)).cloned().collect();
        assert!(!wanted.is_empty() && wanted.len() < everything.len(), "{name}: a real part");
        assert_eq!(files(&target), wanted, "{name}");
        assert_eq!(report.files_total, wanted.len() as u64, "{name}");
        for path in &wanted {
            let same = fs::read(target.join(path)).unwrap() == fs::read(all.join(path)).unwrap();
            assert!(same, "{name}: {path}");
        }
    };
    expect("component", &|o| o.select.components = vec!["dbroot/2".into()], &|path| {
        path.starts_with("dbroot/2/")
    });
    expect(
        "named path",
        &|o| {
            o.select.paths = vec![b"/var/lib/columnstore/data1/000.dir/a".to_vec()];
        },
        &|path| path == "dbroot/1/000.dir/a/x",
    );
    expect("relative path", &|o| o.select.paths = vec![b"001.dir".to_vec()], &|path| {
        path.contains("/001.dir/") && path.split('/').nth(2) == Some("001.dir")
    });
    let pattern = |glob: &str| colvault_engine::pattern::Patterns::new([glob]).unwrap();
    expect("pattern", &|o| o.select.include = pattern("FILE00*.cdf"), &|path| {
        path.rsplit('/').next().unwrap().starts_with("FILE00")
    });
    expect("without pattern", &|o| o.select.exclude = pattern("*.cdf"), &|path| {
        !path.ends_with(".cdf")
    });
    let error = restore("none", &|o| o.select.components = vec!["dbroot/3".into()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a component that is not there");
    let error = restore("none", &|o| o.select.paths = vec![b"no/such".to_vec()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a path that is not there");
}

/// Catches a restore that writes into a directory in use, or over the repository itself.
#[test]
fn a_target_that_is_in_use_is_refused_untouched() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 3, 3, 10_000).unwrap();
    let repository = place.path().join("repository");
    let store = Store::local(&repository);
    store.backup(&source);
    let target = place.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), "precious").unwrap();
    for wrong in [&target, &repository, &repository.join("packs/new"), &place.path().to_owned()] {
        let before = compare::read(place.path());
        let error = store.restore_with(&store.latest(), wrong, |_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{}", wrong.display());
        // Opening the repository wrote its cache; nothing else may differ.
        let after = compare::read(place.path());
        let changed: Vec<_> = compare::differences(&before, &after, Leave::default())
            .into_iter()
            .filter(|line| !line.contains("repository.cache"))
            .collect();
        assert_eq!(changed, Vec::<String>::new(), "{}", wrong.display());
    }
}

/// Catches a dry run that writes something.
#[test]
fn dry_runs_write_nothing() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 4, 4, 100_000).unwrap();
    let backend = std::sync::Arc::new(colvault_engine::backend::MemoryBackend::new());
    let store =
        Store::create(backend.clone(), colvault_engine::index::CachePlace::Memory, 512 << 10);
    let before = backend.objects();
    let report = store.backup_with(&source, |options| options.dry_run = true).unwrap();
    assert_eq!(report.id, None);
    assert!(report.snapshot.stats.data_added > 0, "it tells what it would store");
    assert_eq!(backend.objects(), before, "a dry backup writes nothing");
    store.backup(&source);
    let target = place.path().join("target");
    let report = store.restore_with(&store.latest(), &target, |o| o.dry_run = true).unwrap();
    assert_eq!(report.files_total, 4);
    assert!(!target.exists(), "a dry restore writes nothing");
    let mut leases = 0;
    backend.list(Space::Leases, &mut |_| leases += 1).unwrap();
    assert_eq!(leases, 0, "a session takes its lease away");
}
