//! What `diff` says changed is what a plain comparison of all entries says, and what it says is new
//! are the chunks that the first snapshot has nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use colvault_engine::backend::MemoryBackend;
use colvault_engine::backup::BackupOptions;
use colvault_engine::columnstore::segment::MAGIC;
use colvault_engine::diff::{Change, DiffOptions, DiffReport, Tally, diff};
use colvault_engine::format::ChunkKind;
use colvault_engine::format::config::SlotForm;
use colvault_engine::format::manifest::{Entry, Node, compare_paths};
use colvault_engine::index::CachePlace;
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::restore::Select;
use colvault_engine::snapshot::Named;
use colvault_engine::spill::SpillPlace;
use colvault_engine::stats::Amount;
use colvault_engine::testing::trees::{Random, edit_tree, files_below, mixed_bytes, write_tree};

use crate::support::nights::bundled;
use crate::support::program::Place;
use crate::support::reached::{ChunkSet, Seen, Whole, World};
use crate::support::{PACK_BYTES, Store, quick, require_root, seed, wait_until_not_racy};

/// A change: component, path relative to it, sign, new content.
type Line = (String, Vec<u8>, &'static str, Amount);

fn compare(
    store: &Store,
    before: &Named,
    after: &Named,
    select: Select,
) -> (Vec<Line>, DiffReport) {
    let directory = quick();
    let options = DiffOptions {
        select,
        spill: SpillPlace { directory: directory.path().to_owned(), buffer_bytes: 2000 },
        cancel: Cancel::default(),
    };
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut lines = Vec::new();
    let report = diff(&repository, before, after, &options, &NullObserver, &mut |changed| {
        let component = changed.component.name.clone();
        lines.push((component, changed.path().to_vec(), changed.change.sign(), changed.new));
        Ok(())
    });
    (lines, report.unwrap())
}

/// The sign of two entries of a path, by what a restore would make of them.
fn sign(before: &Entry, after: &Entry) -> Option<&'static str> {
    if before.node.type_name() != after.node.type_name() {
        return Some("T");
    }
    if before.node != after.node {
        return Some("M");
    }
    let attributes = |e: &Entry| {
        let owner = (e.uid, e.gid, e.user.clone(), e.group.clone());
        (e.mode, owner, e.mtime, e.xattrs.clone(), e.hard_link.is_some())
    };
    (attributes(before) != attributes(after)).then_some("U")
}

/// Compares two snapshots the plain way.
fn plain(world: &World, before: &Whole, after: &Whole, takes: &dyn Fn(&Seen) -> bool) -> Vec<Line> {
    type Pair<'a> = (Option<&'a Seen>, Option<&'a Seen>);
    let mut pairs: BTreeMap<(&str, &[u8]), Pair> = BTreeMap::new();
    for seen in before.entries.iter().filter(|seen| takes(seen)) {
        pairs.entry((&seen.component, &seen.entry.path)).or_default().0 = Some(seen);
    }
    for seen in after.entries.iter().filter(|seen| takes(seen)) {
        pairs.entry((&seen.component, &seen.entry.path)).or_default().1 = Some(seen);
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs
        .sort_by(|((a, one), _), ((b, other), _)| a.cmp(b).then_with(|| compare_paths(one, other)));
    let mut known: ChunkSet = before.chunks.clone();
    let mut lines = Vec::new();
    for ((component, path), (one, other)) in pairs {
        let sign = match (one, other) {
            (Some(one), Some(other)) => sign(&one.entry, &other.entry),
            (Some(_), None) => Some("-"),
            (None, _) => Some("+"),
        };
        let Some(sign) = sign else { continue };
        let content = other.map(|seen| seen.content.clone()).unwrap_or_default();
        let data = |chunk: &&(ChunkKind, [u8; 32])| chunk.0 == ChunkKind::Data;
        let new: ChunkSet = content.difference(&known).filter(data).copied().collect();
        known.extend(new.iter().copied());
        lines.push((component.to_owned(), path.to_vec(), sign, world.amount(&new).data));
    }
    lines
}

/// Compares two snapshots of a repository both ways, with what a plain comparison says.
fn expect_plain(store: &Store, world: &World, before: usize, after: usize) -> Vec<Line> {
    let (before, after) = (&world.snapshots[before], &world.snapshots[after]);
    let (lines, report) = compare(store, &before.named, &after.named, Select::everything());
    let expected = plain(world, before, after, &|_| true);
    assert_eq!(lines, expected);
    assert_eq!(report.findings.listed, []);
    assert_eq!(report.added.chunks, world.amount(after.chunks.difference(&before.chunks)));
    assert_eq!(report.removed.chunks, world.amount(before.chunks.difference(&after.chunks)));
    // New content counts once, to some change.
    assert_eq!(report.total.new, report.added.chunks.data);
    let parts = report.components.values().fold(Amount::default(), |mut sum, tally| {
        sum.add(&tally.new);
        sum
    });
    assert_eq!(parts, report.total.new);
    let size = |whole: &Whole| whole.entries.iter().map(|seen| seen.entry.size()).sum::<u64>();
    assert_eq!(
        i128::from(report.total.bytes_after) - i128::from(report.total.bytes_before),
        i128::from(size(after)) - i128::from(size(before)),
        "what did not change has no part in how much larger it became"
    );
    let count = |wanted: &str, is_file: bool| {
        let entries = if wanted == "-" { &before.entries } else { &after.entries };
        let find = |line: &&Line| {
            let mut same =
                entries.iter().filter(|s| s.component == line.0 && s.entry.path == line.1);
            same.any(|seen| matches!(seen.entry.node, Node::File { .. }) == is_file)
        };
        lines.iter().filter(|line| line.2 == wanted).filter(find).count() as u64
    };
    assert_eq!((report.added.files, report.removed.files), (count("+", true), count("-", true)));
    assert_eq!(report.added.directories + report.added.others, count("+", false));
    assert_eq!(report.removed.directories + report.removed.others, count("-", false));
    let is_file = |whole: &Whole, line: &Line| {
        let mut same =
            whole.entries.iter().filter(|s| s.component == line.0 && s.entry.path == line.1);
        same.any(|seen| matches!(seen.entry.node, Node::File { .. }))
    };
    let changed = lines.iter().filter(|line| ["M", "T"].contains(&line.2));
    let files = changed.filter(|line| is_file(before, line) || is_file(after, line));
    assert_eq!(report.total.files_changed, files.count() as u64);
    lines
}

/// Catches changes of real nights that are not told, told although there are none, or under another
/// sign; new bytes that are not exact; and columns under other object ids.
#[test]
fn changes_of_real_nights_are_those_of_a_plain_comparison() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 4);
    place.expect(0, "init -r @/repository");
    for night in [0, 1, 3] {
        place.expect(0, &format!("backup -r @/repository --root @/night{night} --host db1"));
    }
    assert_eq!(nights.len(), 4);
    let store = Store::reopen(&place.path("repository"), CachePlace::Memory);
    let world = World::read(&store);
    let changes = expect_plain(&store, &world, 0, 1);
    let signs: BTreeSet<&str> = changes.iter().map(|line| line.2).collect();
    assert!(signs.contains("M") && signs.contains("+") && signs.contains("U"), "{signs:?}");
    let back = expect_plain(&store, &world, 2, 0);
    assert!(back.iter().any(|line| line.2 == "-"));
    assert_eq!(expect_plain(&store, &world, 1, 1), []);
    // The column whose file grew, by the number in its path.
    let (one, other) = (&world.snapshots[0].named, &world.snapshots[1].named);
    let select = Select {
        components: vec!["dbroot".to_owned()],
        paths: vec![b"/var/lib/columnstore/data1/000.dir/000.dir/011.dir/203.dir".to_vec()],
        ..Select::everything()
    };
    let (lines, report) = compare(&store, one, other, select);
    let expected = plain(&world, &world.snapshots[0], &world.snapshots[1], &|seen| {
        seen.component == "dbroot/1"
            && seen.entry.path.starts_with(b"000.dir/000.dir/011.dir/203.dir")
    });
    assert_eq!(lines, expected);
    assert_eq!(report.columns.keys().collect::<Vec<_>>(), [&3019]);
    let column = &report.columns[&3019];
    assert_eq!((column.files_changed, column.new), (1, report.total.new));
    assert!(column.new.stored_bytes > 20_000 && column.bytes_after == 458_752, "{column:?}");
    assert_eq!(report.components.keys().collect::<Vec<_>>(), ["dbroot/1"]);
}

/// Catches mistakes at the borders of manifest chunks, with every kind of change at once: many
/// small files in several chunks, types that change, odd names, large files of many span lists.
#[test]
fn edited_trees_are_compared_as_a_plain_comparison_does() {
    let place = quick();
    let source = place.path().join("source");
    let mut random = Random::new(seed("edited_trees_are_compared"));
    for number in 0..3000 {
        let path = source.join(format!("many/{}/{number}", number % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [number as u8]).unwrap();
    }
    write_tree(&source, 1, 20, 100_000).unwrap();
    let odd = source.join(std::ffi::OsStr::from_bytes(b"not\xffutf8\n%"));
    fs::write(&odd, "odd").unwrap();
    fs::write(source.join("type"), "a file").unwrap();
    symlink("there", source.join("link")).unwrap();
    let large = random.bytes(70 << 20);
    fs::write(source.join("large"), &large).unwrap();
    let store = Store::memory();
    store.backup(&source);
    for _ in 0..20 {
        edit_tree(&source, &mut random).unwrap();
    }
    fs::write(source.join("many/3/new"), "new").unwrap();
    let _ = fs::remove_file(source.join("many/5/5"));
    let _ = fs::remove_file(&odd);
    let _ = fs::remove_file(source.join("type"));
    fs::create_dir(source.join("type")).unwrap();
    let _ = fs::remove_file(source.join("link"));
    symlink("elsewhere", source.join("link")).unwrap();
    let mut changed = large;
    changed[40 << 20..][..1000].copy_from_slice(&mixed_bytes(9, 1000));
    fs::write(source.join("large"), &changed).unwrap();
    // New for its path, and known all the same.
    fs::write(source.join("copy"), &changed[..1 << 20]).unwrap();
    store.backup(&source);
    fs::remove_dir_all(source.join("many/2")).unwrap();
    store.backup(&source);
    let world = World::read(&store);
    for (before, after) in [(0, 1), (1, 2), (2, 0)] {
        let lines = expect_plain(&store, &world, before, after);
        assert!(lines.len() > 10);
        if (before, after) == (0, 1) {
            let find = |path: &[u8]| lines.iter().find(|line| line.1 == path).map(|line| line.2);
            assert_eq!(find(b"type"), Some("T"));
            assert_eq!(find(b"link"), Some("M"));
            assert_eq!(find(b"not\xffutf8\n%"), Some("-"));
            let large = lines.iter().find(|line| line.1 == b"large").unwrap();
            assert!((1..8).contains(&large.3.chunks), "{large:?}");
        }
    }
}

/// Catches files called added or removed because a manifest cannot be read, damage that is not
/// found, and a panic.
#[test]
fn what_cannot_be_read_is_not_called_changed() {
    let place = quick();
    let source = place.path().join("source");
    for number in 0..9000 {
        let path = source.join(format!("{}/{number}", number % 7));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [number as u8]).unwrap();
    }
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::create(backend.clone(), CachePlace::Memory, PACK_BYTES);
    store.backup(&source);
    fs::write(source.join("3/new"), "new").unwrap();
    fs::remove_file(source.join("5/5")).unwrap();
    store.backup(&source);
    let world = World::read(&store);
    let whole = plain(&world, &world.snapshots[0], &world.snapshots[1], &|_| true);
    let objects = backend.objects();
    let mut damaged_some = 0;
    for name in objects.keys().filter(|name| name.starts_with("packs/") && objects[*name][24] == 4)
    {
        let length = objects[name].len();
        for at in [90, length / 4, length / 2] {
            let mut damaged = objects.clone();
            damaged.get_mut(name).unwrap()[at] ^= 1;
            let damaged = Store {
                backend: Arc::new(MemoryBackend::with_objects(damaged)),
                cache: CachePlace::Memory,
            };
            let [before, after] = [&world.snapshots[0].named, &world.snapshots[1].named];
            let (lines, report) = compare(&damaged, before, after, Select::everything());
            let told = |line: &Line| (line.1.clone(), line.2);
            let whole: Vec<_> = whole.iter().map(told).collect();
            for line in lines.iter().map(told) {
                assert!(whole.contains(&line), "{name} at {at}: {line:?} did not change");
            }
            let is_found = !report.findings.is_empty();
            assert!(is_found || lines.len() == whole.len(), "{name} at {at}");
            damaged_some += usize::from(is_found);
        }
    }
    assert!(damaged_some >= 3, "{damaged_some}");
}

/// Catches a summary that counts only one of two components, or the metadata of nothing.
#[test]
fn components_without_changes_are_named_too() {
    let place = quick();
    let source: &Path = &place.path().join("source");
    write_tree(source, 1, 3, 1000).unwrap();
    let store = Store::memory();
    store.backup(source);
    let named = store.latest();
    let (lines, report) = compare(&store, &named, &named, Select::everything());
    assert_eq!(lines, []);
    assert_eq!(report.components.len(), 1);
    assert_eq!(report.total, Default::default());
    assert_eq!(report.added, Default::default());
    assert_eq!(Change::Metadata.sign(), "U");
}

/// Catches files that are said to have changed because their slots are stored in another form, and one
/// that changed and is passed over with them.
#[test]
fn another_form_is_no_change_and_hides_none() {
    let place = quick();
    let night = &bundled(place.path(), 1)[0];
    let store = Store::memory();
    wait_until_not_racy();
    let back_up = |form: SlotForm| {
        let change = |options: &mut BackupOptions| {
            options.slots = Some(form);
            options.force = true;
        };
        store.backup_with(night, change).unwrap();
        store.latest()
    };
    let (recipes, packed) = (back_up(SlotForm::Recipe), back_up(SlotForm::Packed));
    for (before, after) in [(&recipes, &packed), (&packed, &recipes)] {
        let (lines, report) = compare(&store, before, after, Select::everything());
        assert_eq!(lines, []);
        let total = &report.total;
        assert!(total.stored_otherwise > 10, "{total:?}");
        assert_eq!(*total, Tally { stored_otherwise: total.stored_otherwise, ..Tally::default() });
    }
    // A bit of one slot, with the time of change set back; only the inode's time tells.
    let path = files_below(night)
        .unwrap()
        .into_iter()
        .find(|path| fs::read(path).unwrap().starts_with(&MAGIC.to_le_bytes()))
        .unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    wait_until_not_racy();
    let changed = back_up(SlotForm::Recipe);
    let (lines, report) = compare(&store, &packed, &changed, Select::everything());
    assert_eq!(lines.iter().map(|line| line.2).collect::<Vec<_>>(), ["M"], "{lines:?}");
    assert!(report.total.stored_otherwise > 10, "{:?}", report.total);
}
