//! Whatever happens to one stored object: nothing panics, the damage is named by kind, other
//! snapshots restore, and the next backup is whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use colvault_engine::backend::{Backend, MemoryBackend, Space};
use colvault_engine::backup::{BackupReport, Group};
use colvault_engine::error::ErrorKind;
use colvault_engine::finding::FindingKind;
use colvault_engine::id::SessionId;
use colvault_engine::index::CachePlace;
use colvault_engine::snapshot::{self, Filter};
use colvault_engine::testing::trees::{Random, write_tree};

use crate::support::compare::{self, Leave, Tree, assert_equal, differences};
use crate::support::{COMPONENT, PACK_BYTES, Store, quick, wait_until_not_racy};

type Objects = BTreeMap<String, Vec<u8>>;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Delete,
    Empty,
    Half,
    /// Flips a bit, this share of the way through, in percent.
    Flip(usize),
    /// Flips a bit at this byte.
    FlipAt(usize),
    /// Puts an object of another repository there.
    Foreign,
}

use Action::*;

const ACTIONS: [Action; 14] = [
    Delete,
    Empty,
    Half,
    Foreign,
    FlipAt(0),
    FlipAt(17),
    FlipAt(24),
    FlipAt(26),
    FlipAt(32),
    FlipAt(40),
    FlipAt(60),
    Flip(30),
    Flip(75),
    Flip(100),
];

/// What kind an object is, by name and header.
fn kind_of(name: &str, bytes: &[u8]) -> &'static str {
    match (name.split('/').next(), bytes.get(24)) {
        (Some("config"), _) => "config",
        (Some("features"), _) => "feature",
        (Some("packs"), Some(3)) => "data pack",
        (Some("packs"), Some(4)) => "meta pack",
        (Some("index"), _) => "index",
        (Some("snapshots"), _) => "snapshot",
        other => panic!("{name} is of no kind known: {other:?}"),
    }
}

/// Two nights of one deployment and one of another, and what they hold.
struct World {
    place: tempfile::TempDir,
    objects: Objects,
    /// The first night's objects by kind: what is damaged.
    first_night: BTreeMap<&'static str, String>,
    foreign: BTreeMap<&'static str, Vec<u8>>,
    first: SessionId,
    second: SessionId,
    other: SessionId,
    trees: BTreeMap<SessionId, Tree>,
}

fn other_deployment(options: &mut colvault_engine::backup::BackupOptions) {
    options.group =
        Group::Deployment { name: "other".to_owned(), topology: "shared-local".to_owned() };
}

fn memory(objects: Objects) -> Store {
    let backend = Arc::new(MemoryBackend::with_objects(objects));
    Store { backend, cache: CachePlace::Memory }
}

impl World {
    fn new() -> World {
        let place = quick();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        write_tree(&one, 11, 20, 200_000).unwrap();
        write_tree(&two, 12, 9, 100_000).unwrap();
        let backend = Arc::new(MemoryBackend::new());
        let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
        wait_until_not_racy();
        let before = backend.objects();
        let first = store.backup(&one).id.unwrap();
        let after = backend.objects();
        let mut trees = BTreeMap::from([(first, compare::read(&one))]);
        let other = store.backup_with(&two, other_deployment).unwrap().id.unwrap();
        trees.insert(other, compare::read(&two));
        // The second night takes nearly everything over from the first.
        fs::write(one.join("000.dir/new"), Random::new(3).bytes(100_000)).unwrap();
        wait_until_not_racy();
        let second = store.backup(&one);
        assert!(second.snapshot.stats.files_unmodified >= 20);
        trees.insert(second.id.unwrap(), compare::read(&one));

        let created = after.iter().filter(|(name, _)| !before.contains_key(*name));
        let mut first_night: BTreeMap<_, _> =
            created.map(|(name, bytes)| (kind_of(name, bytes), name.clone())).collect();
        first_night.insert("config", "config".to_owned());
        first_night.insert("feature", "features/codec-zstd".to_owned());
        assert_eq!(first_night.len(), 6, "{first_night:?}");

        let stranger = Arc::new(MemoryBackend::new());
        let stranger_store = Store::create(stranger.clone(), CachePlace::Memory, PACK_BYTES);
        stranger_store.backup(&two);
        let foreign = stranger.objects();
        let foreign = foreign.into_iter().map(|(n, b)| (kind_of(&n, &b), b)).collect();
        World {
            objects: backend.objects(),
            place,
            first_night,
            foreign,
            first,
            second: second.id.unwrap(),
            other,
            trees,
        }
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("one")
    }

    /// Returns the objects after an action on one kind; `None` when it changes nothing.
    fn damaged(&self, kind: &'static str, action: Action) -> Objects {
        let mut objects = self.objects.clone();
        let name = &self.first_night[kind];
        let bytes = objects.get_mut(name).unwrap();
        let length = bytes.len();
        match action {
            Delete => drop(objects.remove(name)),
            Empty => bytes.clear(),
            Half => bytes.truncate(length / 2),
            Flip(percent) => bytes[(length - 1) * percent / 100] ^= 0x10,
            FlipAt(at) => bytes[at] ^= 1,
            Foreign => bytes.clone_from(&self.foreign[kind]),
        }
        objects
    }

    fn restore(&self, store: &Store, id: SessionId, what: &str) {
        let target = self.place.path().join("target");
        let named = store.named(id);
        let report = store.restore_with(&named, &target, |_| ()).unwrap();
        assert_eq!(report.findings.listed, [], "{what}");
        assert_equal(&self.trees[&id], &target, Leave::default(), what);
        fs::remove_dir_all(&target).unwrap();
    }

    /// Restores a snapshot that may be damaged: what differs is named, or nothing is restored.
    fn restore_damaged(&self, store: &Store, id: SessionId, what: &str) {
        let target = self.place.path().join("target");
        let listing = store.listing().unwrap();
        let Some(named) = listing.snapshots.iter().find(|named| named.id == id) else { return };
        match store.restore_with(named, &target, |_| ()) {
            Ok(report) => {
                let found = compare::read(&target);
                for line in differences(&self.trees[&id], &found, Leave { blocks: true }) {
                    let path = line.split('"').nth(1).unwrap();
                    // What a damaged manifest held nobody can name one by one.
                    let component = format!("component {COMPONENT}");
                    let named = report
                        .findings
                        .listed
                        .iter()
                        .any(|f| f.object.ends_with(path) || f.object == component);
                    assert!(named, "{what}: a silent difference: {line}");
                }
            }
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt),
                "{what}: {error}"
            ),
        }
        let _ = fs::remove_dir_all(&target);
    }
}

/// Which kinds of findings a plain check must have, any of them; empty: none at all.
fn expected_findings(kind: &str, action: Action, deep: bool) -> &'static [FindingKind] {
    use FindingKind::*;
    match (kind, action) {
        // Nobody can tell a snapshot that never was, and features stand in every header too.
        ("snapshot" | "feature", Delete) => &[],
        // Made by an unfinished `init`, and still what it says.
        ("feature", Foreign) => &[],
        ("snapshot" | "feature", _) => &[DamagedObject],
        ("index", Delete) => &[MissingChunk, DamagedManifest, MissingObject],
        ("index", _) => &[DamagedObject],
        (_, Delete) => &[MissingObject],
        (_, Empty | Half | Foreign) => &[WrongSize],
        ("data pack", _) if !deep => &[],
        _ => &[DamagedObject, DamagedChunk, DamagedManifest],
    }
}

fn check_tells(store: &Store, kind: &str, action: Action, what: &str) {
    for (trailers, data) in [(false, false), (true, false), (true, true)] {
        let report = store.check_with(trailers, data).unwrap();
        let wanted = expected_findings(kind, action, data);
        let found: BTreeSet<FindingKind> = report.findings.counts.keys().copied().collect();
        // A trailer may or may not hold the flipped byte; a manifest chunk, too.
        let either = matches!(action, Flip(_) | FlipAt(_)) && kind.ends_with("pack") && !data;
        if either {
            continue;
        }
        assert_eq!(
            wanted.is_empty(),
            found.is_empty(),
            "{what}, trailers {trailers}, data {data}: {wanted:?} expected, found {:#?}",
            report.findings.listed
        );
        assert!(
            wanted.is_empty() || wanted.iter().any(|kind| found.contains(kind)),
            "{what}, trailers {trailers}, data {data}: {wanted:?} expected, found {:#?}",
            report.findings.listed
        );
    }
}

/// Runs every command after every action on one kind of object.
fn survives(world: &World, kind: &'static str) {
    for action in ACTIONS {
        let what = format!("{action:?} of {kind}");
        let objects = world.damaged(kind, action);
        let store = memory(objects.clone());
        // Snapshots that need nothing of the object are as good as before.
        world.restore(&store, world.other, &what);
        check_tells(&store, kind, action, &what);
        world.restore_damaged(&store, world.first, &what);
        world.restore_damaged(&store, world.second, &what);

        // A flipped bit inside a pack is found by reading it; then the pack has to go.
        let hidden = kind.ends_with("pack") && matches!(action, Flip(_) | FlipAt(_));
        let mut objects = objects;
        if hidden {
            objects.remove(&world.first_night[kind]);
        }
        let store = memory(objects);
        let report: BackupReport = store
            .backup_with(&world.source(), |_| ())
            .unwrap_or_else(|error| panic!("{what}: the next backup fails: {error}"));
        let id = report.id.unwrap();
        let target = world.place.path().join("target");
        let restored = store.restore_with(&store.named(id), &target, |_| ()).unwrap();
        assert_eq!(restored.findings.listed, [], "{what}: the next backup restores");
        assert_equal(&world.trees[&world.second], &target, Leave::default(), &what);
        fs::remove_dir_all(&target).unwrap();
        // And the one after it, which finds the healed one as its parent.
        let report = store.backup(&world.source());
        world_restores_as_second(world, &store, report.id.unwrap(), &what);
        world.restore(&store, world.other, &what);
    }
}

fn world_restores_as_second(world: &World, store: &Store, id: SessionId, what: &str) {
    let target = world.place.path().join("target");
    store.restore(&store.named(id), &target);
    assert_equal(&world.trees[&world.second], &target, Leave::default(), what);
    fs::remove_dir_all(&target).unwrap();
}

/// Catches a program that believes a damaged config, or calls it something else.
#[test]
fn a_damaged_config_stops_everything_by_name() {
    let world = World::new();
    for action in ACTIONS {
        let store = memory(world.damaged("config", action));
        let result = store.open();
        match (action, result) {
            // A config of another repository is a good one; its objects are then strangers.
            (Foreign, Ok(_)) => {
                let listing = store.listing().unwrap();
                assert_eq!(listing.snapshots, []);
                assert_eq!(listing.findings.count(FindingKind::DamagedObject), 3);
            }
            (Delete, Err(error)) => assert_eq!(error.kind(), ErrorKind::NoRepository),
            (_, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{action:?}: {error}");
                assert_eq!(error.object(), "config");
            }
            (_, Ok(_)) => panic!("{action:?} of the config is not noticed"),
        }
    }
}

/// Catches a program that a damaged feature record stops, or that does not report it.
#[test]
fn a_damaged_feature_is_reported() {
    survives(&World::new(), "feature");
}

/// Catches content that is silently wrong, a check that misses it, and a next backup that takes
/// over what is lost.
#[test]
fn a_damaged_data_pack_costs_what_it_held_and_no_more() {
    survives(&World::new(), "data pack");
}

/// Catches a manifest that is believed without its hash, and a next backup built on it.
#[test]
fn a_damaged_meta_pack_costs_its_snapshot_and_no_more() {
    survives(&World::new(), "meta pack");
}

/// Catches a lost index object that takes chunks with it: the next backup must not name them.
#[test]
fn a_damaged_index_costs_time_and_no_more() {
    survives(&World::new(), "index");
}

/// Catches one damaged snapshot record that makes the others unusable.
#[test]
fn a_damaged_snapshot_costs_itself_alone() {
    survives(&World::new(), "snapshot");
}

/// Catches objects with strange names that stop a command, or that nobody reports.
#[test]
fn strange_names_are_reported_and_harmless() {
    let world = World::new();
    for name in ["snapshots/README", "index/x", "packs/zz/nothing", "packs/readme", "leases/me"] {
        let mut objects = world.objects.clone();
        objects.insert(name.to_owned(), b"strange".to_vec());
        let store = memory(objects);
        let report = store.check(false).unwrap();
        assert_eq!(report.findings.counts, BTreeMap::from([(FindingKind::ForeignObject, 1)]));
        assert_eq!(report.findings.listed[0].object, name);
        world.restore(&store, world.first, name);
        let report = store.backup(&world.source());
        assert_eq!(report.snapshot.parent, Some(world.second), "{name}");
    }
}

/// Catches a program that goes on with a repository that needs what it does not know.
#[test]
fn an_unknown_feature_stops_everything_by_name() {
    let world = World::new();
    let mut objects = world.objects.clone();
    let known = objects["features/codec-zstd"].clone();
    objects.insert("features/from-the-future".to_owned(), known);
    let error = memory(objects).open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.object().contains("from-the-future"), "{error}");
}

/// Catches a `latest` that says nothing when the newest snapshot is not whole, and a `good_only`
/// that takes it.
#[test]
fn the_latest_good_snapshot_is_found() {
    let world = World::new();
    let store = memory(world.objects.clone());
    let partial = store
        .backup_with(&world.source(), |options| {
            options.findings = vec![colvault_engine::finding::Finding::new(
                FindingKind::Vanished,
                "a file",
                "gone",
            )];
        })
        .unwrap();
    let listing = store.listing().unwrap();
    let choose = |wanted: &str, good| {
        snapshot::choose(&listing, wanted, &Filter::default(), good)
            .map(|chosen| {
                let warning = chosen.warning.unwrap_or_default();
                // There are two sources here: whoever asks for the latest of both is told.
                assert_eq!(warning.contains("there are others"), wanted.starts_with("latest"));
                (chosen.named.id, warning.contains("not complete"))
            })
            .map_err(|error| error.kind())
    };
    let id = partial.id.unwrap();
    assert_eq!(choose("latest", false), Ok((id, true)), "the newest, with a warning");
    assert_eq!(choose("latest", true), Ok((world.second, false)), "the newest good one");
    assert_eq!(choose("latest~1", false), Ok((world.second, false)));
    assert_eq!(choose("latest~1", true), Ok((world.other, false)));
    assert_eq!(choose(&id.to_string(), true), Ok((id, true)), "named is named");
    assert_eq!(choose(&world.first.to_string()[..12], false), Ok((world.first, false)));
    for wanted in ["latest~4", "", "latest~", "latest~x", "0123456789abcdef0123456789abcdef"] {
        assert_eq!(choose(wanted, false), Err(ErrorKind::NotFound), "{wanted:?}");
    }

    // The newest cannot be read: nobody can know what it was, and whoever asks is told.
    let mut objects = world.objects.clone();
    objects.get_mut(&format!("snapshots/{}", world.second)).unwrap().truncate(100);
    let listing = memory(objects).listing().unwrap();
    assert_eq!(listing.findings.count(FindingKind::DamagedObject), 1);
    let chosen = snapshot::choose(&listing, "latest", &Filter::default(), false).unwrap();
    let warning = chosen.warning.unwrap();
    assert!(warning.contains("1 snapshot object(s) cannot be read"), "{warning}");
    assert_eq!(chosen.named.id, world.other);
}

/// Catches a cache that is believed when the repository says otherwise.
#[test]
fn a_cache_of_better_days_is_not_believed() {
    let world = World::new();
    for kind in ["data pack", "meta pack", "index"] {
        let cache = CachePlace::Directory(world.place.path().join(format!("cache of {kind}")));
        let backend = Arc::new(MemoryBackend::with_objects(world.objects.clone()));
        let store = Store { backend: backend.clone(), cache: cache.clone() };
        store
            .restore_with(&store.latest(), Path::new("/nowhere/at/all"), |o| {
                o.dry_run = true;
            })
            .unwrap();
        let key = colvault_engine::backend::Key::parse(&world.first_night[kind]).unwrap();
        backend.delete(&key).unwrap();
        let report = store.check(true).unwrap();
        assert!(!report.findings.is_empty(), "{kind}: the check asks the repository");
        let report = store.backup(&world.source());
        world_restores_as_second(&world, &store, report.id.unwrap(), kind);
        let mut packs = 0;
        backend.list(Space::Packs, &mut |_| packs += 1).unwrap();
        assert!(packs > 0);
    }
}
