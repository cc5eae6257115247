//! The figures of `stats` are those of a plain count: sets of chunks in memory, one for each
//! snapshot, and the trailers of all packs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use colvault_engine::backend::MemoryBackend;
use colvault_engine::backup::Group;
use colvault_engine::finding::FindingKind;
use colvault_engine::format::manifest::Node;
use colvault_engine::id::SessionId;
use colvault_engine::index::CachePlace;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::spill::SpillPlace;
use colvault_engine::stats::{
    Chunks, GroupBy, GroupName, Objects, StatsOptions, StatsReport, stats,
};
use colvault_engine::testing::trees::{Random, edit_tree, write_tree};

use crate::support::nights::bundled;
use crate::support::program::Place;
use crate::support::reached::{ChunkSet, World};
use crate::support::{PACK_BYTES, Store, quick, require_root, seed};

/// Counts some snapshots; memory holds next to nothing, so that everything is spilled.
fn count(store: &Store, group_by: GroupBy, selected: &HashSet<SessionId>) -> StatsReport {
    let directory = quick();
    let options = StatsOptions {
        group_by,
        spill: SpillPlace { directory: directory.path().join("spill"), buffer_bytes: 2000 },
        cancel: Cancel::default(),
    };
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let listing = colvault_engine::snapshot::list(&repository).unwrap();
    stats(&repository, &listing, selected, &options, &NullObserver).unwrap()
}

fn all(store: &Store) -> HashSet<SessionId> {
    store.listing().unwrap().snapshots.iter().map(|named| named.id).collect()
}

/// The group of an entry, in words of this test: `Ok` a name, `Err` an object id.
fn group_of(by: GroupBy, component: &str, path: &[u8]) -> GroupName {
    let text = String::from_utf8_lossy(path);
    let parts: Vec<&str> = text.split('/').collect();
    match by {
        GroupBy::Component => GroupName::Component(component.to_owned()),
        GroupBy::DbRoot if component.starts_with("dbroot/") => {
            GroupName::Component(component.to_owned())
        }
        GroupBy::Oid if parts.len() >= 6 && text.ends_with(".cdf") && text.contains("/FILE") => {
            let byte = |at: usize| -> u32 {
                parts[parts.len() - 6 + at].trim_end_matches(".dir").parse().unwrap()
            };
            GroupName::Oid(byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3))
        }
        _ => GroupName::Rest,
    }
}

/// Compares every figure with the plain count.
fn expect_figures(store: &Store, selected: &HashSet<SessionId>) {
    let world = World::read(store);
    let is_selected = |at: usize| selected.contains(&world.snapshots[at].named.id);
    for by in [GroupBy::Nothing, GroupBy::Component, GroupBy::DbRoot, GroupBy::Oid] {
        let report = count(store, by, selected);
        assert_eq!((report.findings.total(), report.chunks_missing), (0, 0));
        expect_groups(&world, by, &is_selected, &report);
        if by != GroupBy::Nothing {
            continue;
        }
        assert_eq!(report.reached, world.amount(&world.union(is_selected)));
        let mut rows = report.snapshots.iter();
        let mut until = ChunkSet::new();
        for (at, whole) in world.snapshots.iter().enumerate() {
            let added: ChunkSet = whole.chunks.difference(&until).copied().collect();
            until.extend(added.iter().copied());
            if !is_selected(at) {
                continue;
            }
            let row = rows.next().unwrap();
            let others = world.union(|other| other != at);
            assert_eq!(row.named.id, whole.named.id);
            assert_eq!(row.added, world.amount(&added));
            assert_eq!(row.freed, world.amount(whole.chunks.difference(&others)));
            assert_eq!(row.stored_until, world.amount(&until).all().stored_bytes);
            assert_eq!(row.counts, whole.named.snapshot.counts());
        }
        assert!(rows.next().is_none());
        let files = world.snapshots.iter().enumerate().filter(|(at, _)| is_selected(*at));
        let sizes = files.flat_map(|(_, whole)| &whole.entries).map(|seen| seen.entry.size());
        assert_eq!(report.counts.bytes, sizes.sum::<u64>());
        expect_occupied(&world, &report);
    }
}

fn expect_occupied(world: &World, report: &StatsReport) {
    let occupied = &report.occupied;
    let reached = world.union(|_| true);
    assert_eq!(occupied.reached, world.amount(&reached));
    let unreached = world.stored.keys().filter(|chunk| !reached.contains(*chunk));
    assert_eq!(occupied.unreached, world.amount(unreached));
    let copies = world.stored.values().flat_map(|places| &places[1..]);
    let copies: u64 = copies.map(|place| u64::from(place.stored_length)).sum();
    assert_eq!(occupied.copies.stored_bytes, copies);
    let places: u64 = world.stored.values().map(|places| places.len() as u64).sum();
    let packs = world.packs.len() as u64;
    assert_eq!(occupied.packs, packs);
    assert_eq!(occupied.pack_overhead_bytes, packs * (80 + 48) + places * 40);
    assert_eq!(occupied.total_bytes(), world.all_bytes, "the parts are the whole");
    expect_objects(&occupied.objects, packs, world.all_bytes);
}

/// Each object is counted once, whatever it is.
fn expect_objects(objects: &Objects, packs: u64, all_bytes: u64) {
    let Objects { data_packs, meta_packs, unindexed_packs, indexes, snapshots, records, foreign } =
        *objects;
    let of_packs = data_packs.count + meta_packs.count + unindexed_packs.count;
    assert_eq!(of_packs, packs);
    assert!(data_packs.count > 0 && meta_packs.count > 0, "{objects:?}");
    let all = [data_packs, meta_packs, unindexed_packs, indexes, snapshots, records, foreign];
    assert_eq!(all.iter().map(|tally| tally.bytes).sum::<u64>(), all_bytes);
}

fn expect_groups(
    world: &World,
    by: GroupBy,
    is_selected: &dyn Fn(usize) -> bool,
    report: &StatsReport,
) {
    type Group = (u64, u64, ChunkSet);
    let mut expected: BTreeMap<(String, GroupName), Group> = BTreeMap::new();
    for (_, whole) in world.snapshots.iter().enumerate().filter(|(at, _)| is_selected(*at)) {
        let deployment = match whole.named.snapshot.kind.as_str() {
            "deployment" => whole.named.snapshot.group.clone(),
            _ => String::new(),
        };
        if !whole.names.is_empty() {
            let rest = expected.entry((deployment.clone(), GroupName::Rest)).or_default();
            rest.2.extend(whole.names.iter().copied());
        }
        for (component, manifests) in &whole.manifests {
            let name = group_of(by, component, b"");
            let name = if by == GroupBy::Oid { GroupName::Rest } else { name };
            let group = expected.entry((deployment.clone(), name)).or_default();
            group.2.extend(manifests.iter().copied());
        }
        for seen in &whole.entries {
            let name = group_of(by, &seen.component, &seen.entry.path);
            let group = expected.entry((deployment.clone(), name)).or_default();
            if let Node::File { size, .. } = seen.entry.node {
                group.0 += 1;
                group.1 += size;
            }
            group.2.extend(seen.content.iter().copied());
        }
    }
    if by == GroupBy::Nothing {
        assert!(report.groups.is_empty());
        return;
    }
    assert_eq!(report.groups.len(), expected.len(), "{by:?}");
    let mut own = Chunks::default();
    for (row, ((deployment, name), (files, bytes, chunks))) in report.groups.iter().zip(&expected) {
        assert_eq!((&row.deployment, &row.name), (deployment, name));
        assert_eq!((row.files, row.logical_bytes), (*files, *bytes), "{name:?}");
        assert_eq!(row.reached, world.amount(chunks), "{name:?}");
        let others: ChunkSet = expected
            .iter()
            .filter(|(key, _)| *key != &(deployment.clone(), name.clone()))
            .flat_map(|(_, (_, _, chunks))| chunks.iter().copied())
            .collect();
        assert_eq!(row.exclusive, world.amount(chunks.difference(&others)), "{name:?}");
        own.data.add(&row.exclusive.data);
    }
    assert!(own.data.stored_bytes <= report.reached.data.stored_bytes);
}

/// Catches a first backup of another cluster of the same name, which comes with the server, that counts
/// as a night of the one that was there before.
#[test]
fn the_first_backup_of_another_host_is_no_night() {
    let place = quick();
    write_tree(&place.path().join("one"), 3, 20, 50_000).unwrap();
    let store = Store::memory();
    let back_up = |host: &str| {
        let of_host = |options: &mut colvault_engine::backup::BackupOptions| {
            options.host = host.to_owned();
            options.group = Group::Deployment {
                name: "columnstore-1".to_owned(),
                topology: "shared-local".to_owned(),
            };
        };
        store.backup_with(&place.path().join("one"), of_host).unwrap();
    };
    let nights = || count(&store, GroupBy::Component, &all(&store)).groups[0].nights;
    back_up("h1");
    back_up("h2");
    assert_eq!(nights(), 0, "two first backups");
    back_up("h2");
    assert_eq!(nights(), 1);
}

/// Catches any figure that is not exact on nights of a real deployment: per snapshot, component,
/// DB Root and column object, for all snapshots and for some, with everything spilled to files.
#[test]
fn figures_of_real_nights_are_those_of_a_plain_count() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 3);
    place.expect(0, "init -r @/repository --pack-size 1");
    for night in 0..nights.len() {
        place.expect(0, &format!("backup -r @/repository --root @/night{night} --host db1"));
    }
    let store = Store::reopen(&place.path("repository"), CachePlace::Memory);
    let all = all(&store);
    assert_eq!(all.len(), 3);
    expect_figures(&store, &all);
    let ids: Vec<SessionId> = store.listing().unwrap().snapshots.iter().map(|n| n.id).collect();
    expect_figures(&store, &HashSet::from([ids[1]]));
    expect_figures(&store, &HashSet::from([ids[0], ids[2]]));
    // Real objects: the system catalog, columns of users; nothing that is no object.
    let report = count(&store, GroupBy::Oid, &all);
    let oids: BTreeSet<u32> = report
        .groups
        .iter()
        .filter_map(|row| match row.name {
            GroupName::Oid(oid) => Some(oid),
            _ => None,
        })
        .collect();
    assert!(oids.contains(&1001) && oids.contains(&3002) && oids.len() > 100, "{oids:?}");
    assert!(oids.iter().all(|oid| (1001..2077).contains(oid) || *oid >= 3000), "{oids:?}");
    // All objects are files of the repository, and there are no others.
    let files = colvault_engine::testing::trees::files_below(&place.path("repository")).unwrap();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(report.occupied.total_bytes(), bytes);
}

fn other_deployment(options: &mut colvault_engine::backup::BackupOptions) {
    options.group =
        Group::Deployment { name: "other".to_owned(), topology: "shared-local".to_owned() };
}

/// Snapshots that share and own chunks: two trees that are edited and partly the same, one large
/// file of many span lists, two deployments.
fn model(place: &Path, seed: u64, backend: Arc<MemoryBackend>) -> Store {
    let mut random = Random::new(seed);
    let store = Store::create(backend, CachePlace::Memory, PACK_BYTES);
    let (one, two) = (place.join("one"), place.join("two"));
    write_tree(&one, random.number(), 20, 120_000).unwrap();
    write_tree(&two, 7, 10, 100_000).unwrap();
    let column = one.join("000.dir/000.dir/011.dir/184.dir/000.dir");
    fs::create_dir_all(&column).unwrap();
    let large = random.bytes(5 << 20);
    fs::write(column.join("FILE000.cdf"), &large).unwrap();
    fs::write(two.join("copy"), &large[..3 << 20]).unwrap();
    for night in 0..6 {
        let _ = edit_tree(&one, &mut random).unwrap();
        match night {
            2 | 4 => store.backup_with(&two, other_deployment).unwrap(),
            _ => store.backup(&one),
        };
        if night == 3 {
            // What was only in the first nights comes back.
            write_tree(&one, 7, 10, 100_000).unwrap();
        }
    }
    store
}

/// Catches chunks that count for the wrong snapshot when several share some, and what deleting a
/// snapshot would free by deleting it: what is needed by none afterwards is what was foretold.
#[test]
fn deleting_a_snapshot_frees_what_was_foretold() {
    let place = quick();
    let backend = Arc::new(MemoryBackend::new());
    let store = model(place.path(), seed("deleting_a_snapshot_frees"), backend.clone());
    let all = all(&store);
    expect_figures(&store, &all);
    let report = count(&store, GroupBy::Nothing, &all);
    assert_eq!(report.occupied.unreached, Chunks::default());
    let mut shares = 0;
    for row in &report.snapshots {
        let mut objects = backend.objects();
        objects.remove(&format!("snapshots/{}", row.named.id)).unwrap();
        let without = Store {
            backend: Arc::new(MemoryBackend::with_objects(objects)),
            cache: CachePlace::Memory,
        };
        let others = self::all(&without);
        expect_figures(&without, &others);
        let after = count(&without, GroupBy::Nothing, &others);
        assert_eq!(after.occupied.unreached, row.freed, "{}", row.named.id);
        shares += usize::from(row.freed != row.added);
    }
    assert!(shares > 0, "snapshots share what one of them added");
}

/// Catches parts that do not add up to what the repository takes, or are called something else
/// than they are: packs of interrupted backups, with and without an index object, copies of
/// chunks, lost index objects, an empty repository.
#[test]
fn the_parts_add_up_whatever_is_left_over() {
    let place = quick();
    let empty = Store::memory();
    let report = count(&empty, GroupBy::Oid, &HashSet::new());
    assert_eq!((report.snapshots.len(), report.groups.len()), (0, 0));
    assert_eq!(report.occupied.total_bytes(), World::read(&empty).all_bytes);

    let backend = Arc::new(MemoryBackend::new());
    let store = model(place.path(), 3, backend.clone());
    let of = |objects: &BTreeMap<String, Vec<u8>>| Store {
        backend: Arc::new(MemoryBackend::with_objects(objects.clone())),
        cache: CachePlace::Memory,
    };
    let ids = all(&store);
    let objects: BTreeMap<String, Vec<u8>> = backend.objects();
    let indexes: Vec<&String> = objects.keys().filter(|name| name.starts_with("index/")).collect();
    assert!(indexes.len() > 3);
    let whole = count(&store, GroupBy::Nothing, &ids);
    for index in indexes {
        // An index object is lost: its packs are found by their trailers, and nothing is missing.
        let mut lacking = objects.clone();
        lacking.remove(index);
        let store = of(&lacking);
        let report = count(&store, GroupBy::Nothing, &ids);
        assert_eq!((report.chunks_missing, report.findings.total()), (0, 0), "{index}");
        assert_eq!(report.reached, whole.reached);
        assert!(report.occupied.packs_unindexed > 0 && report.occupied.packs_unindexed_bytes > 0);
        let total = World::read(&store).all_bytes;
        assert_eq!(report.occupied.total_bytes(), total, "{index}");
    }
    // The same with the snapshots gone: nothing is needed.
    let mut lacking = objects.clone();
    lacking.retain(|name, _| !name.starts_with("snapshots/") && !name.starts_with("index/"));
    let report = count(&of(&lacking), GroupBy::Nothing, &HashSet::new());
    assert_eq!(report.occupied.reached, Chunks::default());
    assert_eq!(report.occupied.packs_unindexed, report.occupied.packs);
    assert_eq!(report.occupied.unreached, whole.occupied.reached);
    assert_eq!(report.occupied.total_bytes(), World::read(&of(&lacking)).all_bytes);

    // A backup that knew nothing of what there is: copies of everything.
    let mut unknown = objects.clone();
    unknown.retain(|name, _| !["index", "snapshots", "packs"].iter().any(|s| name.starts_with(s)));
    let bare = Arc::new(MemoryBackend::with_objects(unknown));
    let again = Store { backend: bare.clone(), cache: CachePlace::Memory };
    again.backup(&place.path().join("two"));
    let mut both = objects.clone();
    both.extend(bare.objects());
    let store = of(&both);
    let report = count(&store, GroupBy::Nothing, &all(&store));
    assert!(report.occupied.copies.chunks > 20, "{:?}", report.occupied);
    let world = World::read(&store);
    assert_eq!(report.occupied.total_bytes(), world.all_bytes);
    expect_figures(&store, &all(&store));
}

/// Catches a panic, or figures that pass for whole, when anything is missing or damaged; and parts
/// that no longer add up to what is there.
#[test]
fn damage_is_found_and_the_figures_say_so() {
    let place = quick();
    let backend = Arc::new(MemoryBackend::new());
    let store = model(place.path(), 5, backend.clone());
    let ids = all(&store);
    let whole = count(&store, GroupBy::Nothing, &ids);
    let objects: BTreeMap<String, Vec<u8>> = backend.objects();
    let mut kinds: BTreeMap<(u8, &str), u32> = BTreeMap::new();
    for name in objects.keys().filter(|name| name.starts_with("packs/")) {
        for action in ["remove", "cut", "flip"] {
            let mut damaged = objects.clone();
            let bytes = damaged.get_mut(name).unwrap();
            let kind = bytes[24];
            match action {
                "remove" => drop(damaged.remove(name)),
                "cut" => bytes.truncate(bytes.len() / 2),
                _ => bytes[90] ^= 1,
            }
            let total: usize = damaged.values().map(Vec::len).sum();
            let damaged = Store {
                backend: Arc::new(MemoryBackend::with_objects(damaged)),
                cache: CachePlace::Memory,
            };
            let report = count(&damaged, GroupBy::Oid, &ids);
            let what = format!("{action} {name}");
            assert_eq!(report.occupied.total_bytes(), total as u64, "{what}");
            let counts = &report.findings;
            match (kind, action) {
                // Content is not read: `check --read-data` does that.
                (3, "flip") => assert_eq!((counts.total(), report.reached), (0, whole.reached)),
                (3, _) => {
                    assert!(report.chunks_missing > 0, "{what}");
                    let missing = counts.count(FindingKind::MissingChunk);
                    assert_eq!(missing, report.chunks_missing, "{what}");
                    assert_eq!(counts.total(), missing + 1, "{what}: and the pack itself");
                }
                (_, "flip") => {
                    assert_eq!(counts.count(FindingKind::DamagedManifest), 1, "{what}");
                    assert!(counts.listed[0].detail.contains("need"), "{counts:?}");
                }
                _ => assert!(counts.count(FindingKind::MissingChunk) > 0, "{what}"),
            }
            let is_less = report.reached.data.chunks < whole.reached.data.chunks;
            assert_eq!(is_less || kind == 4, (kind, action) != (3, "flip"), "{what}");
            *kinds.entry((kind, action)).or_default() += 1;
        }
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    // A snapshot that cannot be read.
    let mut damaged = objects.clone();
    let name = damaged.keys().find(|name| name.starts_with("snapshots/")).unwrap().clone();
    damaged.get_mut(&name).unwrap()[100] ^= 1;
    let damaged = Store {
        backend: Arc::new(MemoryBackend::with_objects(damaged)),
        cache: CachePlace::Memory,
    };
    let report = count(&damaged, GroupBy::Nothing, &ids);
    assert_eq!(report.findings.count(FindingKind::DamagedObject), 1);
    assert_eq!(report.snapshots.len(), ids.len() - 1);
}
