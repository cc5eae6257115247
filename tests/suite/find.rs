//! What `find` finds is what looking at every entry of every snapshot finds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use colvault_engine::backend::MemoryBackend;
use colvault_engine::error::ErrorKind;
use colvault_engine::find::{FindOptions, FindReport, find};
use colvault_engine::format::ChunkKind;
use colvault_engine::format::manifest::{Node, Time};
use colvault_engine::id::{ChunkId, PackId, SessionId};
use colvault_engine::index::{CachePlace, prefix_of};
use colvault_engine::pattern::Patterns;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::restore::Select;
use colvault_engine::snapshot::Named;
use colvault_engine::spill::SpillPlace;
use colvault_engine::testing::trees::{Random, write_tree};

use crate::support::exotic::set_mtime;
use crate::support::nights::bundled;
use crate::support::program::Place;
use crate::support::reached::{Seen, World};
use crate::support::{PACK_BYTES, Store, quick, require_root};

/// Snapshot, component and path of a match.
type Line = (SessionId, String, Vec<u8>);

fn options() -> FindOptions {
    FindOptions {
        patterns: Patterns::new([]).unwrap(),
        select: Select::everything(),
        size_min: None,
        size_max: None,
        oldest: None,
        newest: None,
        oid: None,
        tables: None,
        chunk: None,
        pack: None,
        spill: SpillPlace { directory: "/nowhere".into(), buffer_bytes: 3000 },
        cancel: Cancel::default(),
    }
}

fn search(
    store: &Store,
    snapshots: &[Named],
    change: impl FnOnce(&mut FindOptions),
) -> (Vec<Line>, FindReport) {
    let directory = quick();
    let mut options = options();
    options.spill.directory = directory.path().to_owned();
    change(&mut options);
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut lines = Vec::new();
    let report = find(&repository, snapshots, &options, &NullObserver, &mut |found| {
        let component = found.component.name.clone();
        lines.push((found.named.id, component, found.entry.path.clone()));
        Ok(())
    });
    (lines, report.unwrap())
}

/// Looks at everything.
fn plain(world: &World, matches: &dyn Fn(&Seen) -> bool) -> Vec<Line> {
    let mut lines = Vec::new();
    for whole in &world.snapshots {
        for seen in whole.entries.iter().filter(|seen| matches(seen)) {
            lines.push((whole.named.id, seen.component.clone(), seen.entry.path.clone()));
        }
    }
    lines
}

/// Searches all snapshots and compares with looking at everything.
fn expect(
    store: &Store,
    world: &World,
    what: &str,
    change: impl FnOnce(&mut FindOptions),
    matches: &dyn Fn(&Seen) -> bool,
) -> usize {
    let snapshots: Vec<Named> = world.snapshots.iter().map(|whole| whole.named.clone()).collect();
    let (found, report) = search(store, &snapshots, change);
    assert_eq!(found, plain(world, matches), "{what}");
    assert_eq!(report.matches, found.len() as u64, "{what}");
    let matched: BTreeSet<_> = found.iter().map(|line| line.0).collect();
    assert_eq!(report.snapshots_matched, matched.len() as u64, "{what}");
    assert_eq!(report.findings.listed, [], "{what}");
    found.len()
}

/// Catches files of a real deployment that are not found, found where they are not, or found in the
/// wrong order or snapshot: by name, whole path, size, time, component, column object, pack and
/// chunk; and chunks of entries that are searched for every snapshot anew.
#[test]
fn real_nights_are_searched_as_by_looking_at_everything() {
    require_root("files of the server's user");
    let place = Place::new();
    bundled(&place.path(""), 3);
    place.expect(0, "init -r @/repository --pack-size 1");
    for night in [0, 1, 2, 2] {
        place.expect(0, &format!("backup -r @/repository --root @/night{night} --host db1"));
    }
    let store = Store::reopen(&place.path("repository"), CachePlace::Memory);
    let world = World::read(&store);
    let ends = |seen: &Seen, end: &str| seen.path.ends_with(end.as_bytes());
    let globs = |globs: &'static [&'static str]| {
        move |options: &mut FindOptions| {
            options.patterns = Patterns::new(globs.iter().copied()).unwrap();
        }
    };
    let frm = expect(&store, &world, "*.frm", globs(&["*.frm"]), &|seen| ends(seen, ".frm"));
    assert!(frm > 40, "{frm}");
    let both = globs(&["/var/lib/mysql/dw/*.frm", "Columnstore.xml"]);
    let found = expect(&store, &world, "two patterns", both, &|seen| {
        let is_table = seen.path.starts_with(b"/var/lib/mysql/dw/") && ends(seen, ".frm");
        is_table || ends(seen, "/Columnstore.xml")
    });
    assert!(found > 8, "{found}");
    let size = expect(
        &store,
        &world,
        "sizes",
        |options| (options.size_min, options.size_max) = (Some(1 << 20), Some(4 << 20)),
        &|seen| {
            let is_file = matches!(seen.entry.node, Node::File { .. });
            is_file && (1 << 20..=4 << 20).contains(&seen.entry.size())
        },
    );
    assert!(size > 4, "{size}");
    let oid = expect(&store, &world, "oid", |options| options.oid = Some(3019), &|seen| {
        seen.path.windows(15).any(|part| part == b"011.dir/203.dir") && ends(seen, ".cdf")
    });
    assert_eq!(oid, 4);
    let nothing = expect(&store, &world, "no oid", |o| o.oid = Some(2999), &|_| false);
    assert_eq!(nothing, 0);
    let component = expect(
        &store,
        &world,
        "component",
        |options| options.select.components = vec!["config".to_owned()],
        &|seen| seen.component == "config",
    );
    assert!(component > 8, "{component}");

    // What needs a pack: all of its entries where it holds manifests.
    let (mut needs_some, mut needs_meta) = (0, 0);
    for (pack, chunks) in &world.packs {
        let id: PackId = pack.parse().unwrap();
        let needs = |seen: &Seen| {
            let mut all = seen.content.iter().chain(&seen.above);
            all.any(|chunk| chunks.contains(chunk))
        };
        let found = expect(&store, &world, pack, |options| options.pack = Some(id), &needs);
        needs_some += usize::from(found > 0);
        needs_meta += usize::from(chunks.iter().any(|chunk| chunk.0 == ChunkKind::Meta));
    }
    assert!(needs_some > 4 && needs_meta >= 2, "{needs_some} {needs_meta}");
    let (_, chunk) = *world.snapshots[1].entries.iter().find_map(|s| s.content.first()).unwrap();
    let prefix = prefix_of(ChunkId(chunk));
    let found = expect(&store, &world, "chunk", |o| o.chunk = Some(prefix), &|seen| {
        seen.content.contains(&(ChunkKind::Data, chunk))
    });
    assert!(found > 0);

    // Four snapshots, of which two are the same: no chunk of entries is read twice.
    let unique: BTreeSet<_> = world
        .snapshots
        .iter()
        .flat_map(|whole| whole.entries.iter().map(|seen| seen.above[0]))
        .collect();
    let snapshots: Vec<Named> = world.snapshots.iter().map(|w| w.named.clone()).collect();
    let (_, report) = search(&store, &snapshots, |options| options.oid = Some(3019));
    assert_eq!(report.chunks_searched, unique.len() as u64);
    // Only in some, and in the order asked for.
    let two = [snapshots[2].clone(), snapshots[0].clone()];
    let (found, report) = search(&store, &two, |options| options.oid = Some(3019));
    assert_eq!(found.iter().map(|line| line.0).collect::<Vec<_>>(), [two[0].id, two[1].id]);
    assert_eq!((report.snapshots, report.snapshots_matched), (2, 2));
}

/// Catches times compared the wrong way round or without their nanoseconds, odd names that are not
/// found, and a large file whose span lists are not looked into.
#[test]
fn times_names_and_span_lists_are_searched() {
    let place = quick();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    for (name, seconds, nanoseconds) in [("a", 1000, 5), ("b", 1000, 6), ("c", -1, 7)] {
        fs::write(source.join(name), name).unwrap();
        set_mtime(&source.join(name), seconds, nanoseconds);
    }
    fs::write(source.join(std::ffi::OsStr::from_bytes(b"not\xffutf8\n%")), "odd").unwrap();
    let large = Random::new(3).bytes(70 << 20);
    fs::write(source.join("large"), &large).unwrap();
    let store = Store::memory();
    store.backup(&source);
    let world = World::read(&store);
    let time = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
    let later = |o: &mut FindOptions| o.oldest = time(1000, 6);
    expect(&store, &world, "oldest", later, &|seen| {
        seen.path.ends_with(b"/b")
            || !b"abc".contains(seen.path.last().unwrap())
            || seen.entry.path.is_empty()
    });
    let found = expect(&store, &world, "newest", |o| o.newest = time(1000, 5), &|seen| {
        seen.path.ends_with(b"/a") || seen.path.ends_with(b"/c")
    });
    assert_eq!(found, 2);
    let odd = |o: &mut FindOptions| o.patterns = Patterns::new(["not?utf8*"]).unwrap();
    expect(&store, &world, "odd", odd, &|seen| seen.path.ends_with(b"utf8\n%"));
    let file = world.snapshots[0].entries.iter().find(|s| s.path.ends_with(b"/large")).unwrap();
    let lists = file.content.iter().filter(|chunk| chunk.0 == ChunkKind::Meta).count();
    assert!(lists >= 2, "{lists} span lists");
    for (kind, id) in file.content.iter().rev().take(5).chain(file.content.iter().take(5)) {
        let prefix = prefix_of(ChunkId(*id));
        let found = expect(&store, &world, "in lists", |o| o.chunk = Some(prefix), &|seen| {
            seen.content.contains(&(*kind, *id))
        });
        assert_eq!(found, 1);
    }
}

/// Catches a search for a lost pack that does not say what needed it, a pack that never was, and
/// manifests that cannot be read and are passed over in silence.
#[test]
fn what_a_lost_pack_held_is_still_known() {
    let place = quick();
    let source = place.path().join("source");
    write_tree(&source, 5, 20, 300_000).unwrap();
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
    store.backup(&source);
    let world = World::read(&store);
    let snapshots = [world.snapshots[0].named.clone()];
    let mut kinds = [0; 2];
    for (pack, chunks) in &world.packs {
        let id: PackId = pack.parse().unwrap();
        let mut objects = backend.objects();
        objects.remove(&format!("packs/{}/{pack}", &pack[..2])).unwrap();
        let lacking = Store {
            backend: Arc::new(MemoryBackend::with_objects(objects)),
            cache: CachePlace::Memory,
        };
        let (found, report) = search(&lacking, &snapshots, |options| options.pack = Some(id));
        if chunks.iter().any(|chunk| chunk.0 == ChunkKind::Meta) {
            assert!(!report.findings.is_empty(), "{pack}");
            kinds[1] += 1;
        } else {
            let needs = |seen: &Seen| !chunks.is_disjoint(&seen.content);
            assert_eq!(found, plain(&world, &needs), "{pack}");
            assert!(!found.is_empty() && report.findings.is_empty(), "{pack}");
            kinds[0] += 1;
        }
    }
    assert!(kinds[0] > 2 && kinds[1] > 0, "{kinds:?}");
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let options = FindOptions { pack: Some(PackId([7; 32])), ..options() };
    let error =
        find(&repository, &snapshots, &options, &NullObserver, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // A repository without snapshots has nothing in it.
    let (found, report) = search(&Store::memory(), &[], |options| options.oid = Some(1));
    assert_eq!((found.len(), report.matches, report.findings.total()), (0, 0, 0));
}
