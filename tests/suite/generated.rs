//! The generator of deployments that benches measure on, held against an independent reader, which is
//! itself held against nights of a real server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZero;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use colvault_benches::generator::{
    CodecChoice, CreateOptions, NightKind, NightOptions, NightReport, create, night,
};
use colvault_engine::backup::Group;
use colvault_engine::format::snapshot::SnapshotState;
use colvault_engine::restore::Target;
use colvault_engine::source::columnstore::discover;
use colvault_engine::testing::trees::files_below;
use tempfile::TempDir;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::nights::bundled;
use crate::support::{Store, disk, quick, reader, require_root};

const BLOCK: u64 = 8192;

fn options(bytes: u64, threads: usize) -> CreateOptions {
    CreateOptions {
        bytes,
        seed: 11,
        unpacked_ratio: 2.4,
        dbroots: vec![1, 2, 4],
        tables: 4,
        codec: CodecChoice::Mixed,
        threads: NonZero::new(threads).unwrap(),
    }
}

fn night_options(number: u32, kind: NightKind, share: f64) -> NightOptions {
    NightOptions { night: number, kind, share, threads: NonZero::new(2).unwrap() }
}

/// A file of a deployment as it is.
#[derive(Clone, PartialEq)]
struct Content {
    mtime: (i64, i64),
    inode: u64,
    bytes: Vec<u8>,
}

/// Every file by its path below the root, but for the generator's own.
fn contents(root: &Path) -> BTreeMap<PathBuf, Content> {
    let files = files_below(root).unwrap().into_iter();
    files
        .filter(|path| !path.ends_with(".generator.json"))
        .map(|path| {
            let metadata = fs::metadata(&path).unwrap();
            let content = Content {
                mtime: (metadata.mtime(), metadata.mtime_nsec()),
                inode: metadata.ino(),
                bytes: fs::read(&path).unwrap(),
            };
            (path.strip_prefix(root).unwrap().to_owned(), content)
        })
        .collect()
}

/// A deployment before and after one night.
struct TwoNights {
    root: TempDir,
    before: BTreeMap<PathBuf, Content>,
    after: BTreeMap<PathBuf, Content>,
    report: NightReport,
    rows_before: u64,
}

impl TwoNights {
    /// Makes both; each holds together, and no file changes without a new time.
    fn of(bytes: u64, unpacked_ratio: f64, kind: NightKind, share: f64) -> TwoNights {
        let root = quick();
        let options = CreateOptions { unpacked_ratio, ..options(bytes, 2) };
        let rows_before = create(root.path(), &options).unwrap().rows;
        assert_clean(root.path());
        let before = contents(root.path());
        let report = night(root.path(), &night_options(1, kind, share)).unwrap();
        assert_clean(root.path());
        let after = contents(root.path());
        for (path, new) in &after {
            let Some(old) = before.get(path) else { continue };
            assert!(old.bytes == new.bytes || old.mtime < new.mtime, "{path:?} changed unseen");
        }
        TwoNights { root, before, after, report, rows_before }
    }

    /// Returns the segment files of tables that are there on both nights and differ.
    fn changed(&self) -> Vec<(&Path, &Content, &Content)> {
        let tables = self.after.iter().filter(|(path, _)| is_of_a_table(path));
        tables
            .filter_map(|(path, new)| Some((path.as_path(), self.before.get(path)?, new)))
            .filter(|(_, old, new)| old.bytes != new.bytes)
            .collect()
    }

    fn added(&self) -> Vec<&Path> {
        let added = self.after.keys().filter(|path| !self.before.contains_key(*path));
        added.map(PathBuf::as_path).collect()
    }

    fn removed(&self) -> Vec<&Path> {
        let removed = self.before.keys().filter(|path| !self.after.contains_key(*path));
        removed.map(PathBuf::as_path).collect()
    }

    /// Files of the system catalog, with whether their content and their time changed.
    fn catalog(&self) -> Vec<(bool, bool)> {
        let files = self.after.iter().filter(|(path, _)| oid(path).is_some_and(|oid| oid < 3000));
        files
            .map(|(path, new)| {
                let old = &self.before[path];
                (old.bytes != new.bytes, old.mtime != new.mtime)
            })
            .collect()
    }
}

fn assert_clean(root: &Path) {
    let reading = reader::read(root);
    assert_eq!(reading.problems, Vec::<String>::new());
    assert_eq!(reading.roots, [1, 2, 4]);
    assert_eq!((reading.tables, reading.catalog_files), (4, 41));
    assert_eq!(reading.slots, reading.snappy + reading.lz4);
    assert!(reading.snappy > 0 && reading.lz4 > 0 && reading.tokens > 1000 && reading.pages > 50);
}

/// Returns the number of the object whose segment file this is.
fn oid(path: &Path) -> Option<u32> {
    let text = path.to_str().unwrap();
    let parts: Vec<&str> = text.split('/').filter_map(|part| part.strip_suffix(".dir")).collect();
    let numbers: Vec<u32> = parts.iter().map(|part| part.parse().unwrap()).collect();
    let [a, b, c, d, _] = numbers[..] else { return None };
    Some(a << 24 | b << 16 | c << 8 | d)
}

fn is_of_a_table(path: &Path) -> bool {
    oid(path).is_some_and(|oid| oid >= 3000)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn is_dictionary(bytes: &[u8]) -> bool {
    number(bytes, 40) == 0
}

/// Returns where the slots of a segment file begin; the last is its end.
fn pointers(bytes: &[u8]) -> Vec<u64> {
    let header = number(bytes, 24) as usize;
    let all = (4096..header).step_by(8).map(|at| number(bytes, at));
    all.take_while(|at| *at != 0).collect()
}

fn slots(bytes: &[u8]) -> Vec<&[u8]> {
    let pointers = pointers(bytes);
    pointers.windows(2).map(|pair| &bytes[pair[0] as usize..pair[1] as usize]).collect()
}

/// Catches a reader that sees problems in what a server wrote, or that misses damage: then it proves
/// nothing about what the generator makes.
#[test]
fn the_reader_knows_real_nights_and_sees_damage() {
    require_root("files of the server's user");
    let place = quick();
    let nights = bundled(place.path(), 4);
    for (night, (files, tables)) in nights.iter().zip([(87, 7), (87, 7), (87, 7), (79, 6)]) {
        let reading = reader::read(night);
        assert_eq!(reading.problems, Vec::<String>::new(), "{}", night.display());
        assert_eq!((reading.files, reading.slots, reading.tables), (files, files, tables));
        assert_eq!((reading.lz4, reading.catalog_files, &reading.roots[..]), (8, 41, &[1][..]));
        assert!(reading.unpacked > 10 * reading.stored, "{reading:?}");
        assert!(reading.tokens > 40_000 && reading.pages > 200 && reading.extents > 100);
    }
    let data = nights[0].join("var/lib/columnstore/data1");
    let column =
        |below: &str| data.join(format!("000.dir/000.dir/{below}.dir/000.dir/FILE000.cdf"));
    let dbrm = |name: &str| data.join("systemFiles/dbrm").join(name);
    let users = nights[0].join("var/lib/mysql/app/users.ibd");
    let flip = |path: PathBuf, at: u64| {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    };
    flip(column("011.dir/185"), BLOCK + 9 + 100);
    flip(column("011.dir/186"), 32);
    flip(column("011.dir/187"), 64);
    flip(column("011.dir/188"), 4104);
    flip(column("011.dir/189"), BLOCK);
    fs::remove_file(column("011.dir/190")).unwrap();
    flip(column("003.dir/253"), 0);
    // HWM of the first extent of a table, OID 3005 and the last lock.
    flip(dbrm("oidbitmap"), 2048 + 3014 / 8);
    flip(dbrm("tablelocks"), 0);
    flip(users, 5 * (16 << 10) + 200);
    let problems = reader::read(&nights[0]).problems;
    let expected = [
        "011.dir/185.dir/000.dir/FILE000.cdf slot 0: checksum",
        "011.dir/186.dir/000.dir/FILE000.cdf: ",
        "011.dir/187.dir/000.dir/FILE000.cdf: LBIDs",
        "011.dir/188.dir/000.dir/FILE000.cdf: slots from",
        "011.dir/189.dir/000.dir/FILE000.cdf slot 0: signature",
        "011.dir/190.dir/000.dir/FILE000.cdf: is in the extent map and not there",
        "catalog column 1021: token",
        "oidbitmap: OID",
        "tablelocks: ",
        "users.ibd page 5: checksum",
    ];
    for wanted in expected {
        let seen = problems.iter().any(|problem| problem.contains(wanted));
        assert!(seen, "{wanted}: not among {problems:#?}");
    }
}

/// Catches content that depends on the number of threads, on the time or on chance.
#[test]
fn the_same_options_make_the_same_bytes() {
    let (one, two) = (quick(), quick());
    for (place, threads) in [(&one, 1), (&two, 2)] {
        create(place.path(), &options(6 << 20, threads)).unwrap();
        let options = NightOptions {
            threads: NonZero::new(threads).unwrap(),
            ..night_options(1, NightKind::Mixed, 0.1)
        };
        night(place.path(), &options).unwrap();
    }
    let (one, two) = (contents(one.path()), contents(two.path()));
    assert!(one.len() > 100 && one.keys().eq(two.keys()));
    for (path, file) in &one {
        let other = &two[path];
        assert!(file.bytes == other.bytes && file.mtime == other.mtime, "{path:?} differs");
    }
    let other = quick();
    create(other.path(), &CreateOptions { seed: 12, ..options(6 << 20, 2) }).unwrap();
    let other = contents(other.path());
    let same = |path: &PathBuf| other.get(path).is_some_and(|file| file.bytes == one[path].bytes);
    assert!(one.keys().filter(|path| is_of_a_table(path)).all(|path| !same(path)));
}

/// Catches an append that touches more than the end of files: the last slot, pointers, what follows.
#[test]
fn an_append_leaves_all_slots_but_the_last() {
    let nights = TwoNights::of(20 << 20, 8.0, NightKind::Append, 0.1);
    let changed = nights.changed();
    assert!(nights.report.rows_added > 10_000);
    let mut kept = 0;
    for (path, old, new) in &changed {
        assert_eq!(old.inode, new.inode, "{path:?} is the same file");
        let (old_slots, new_slots) = (slots(&old.bytes), slots(&new.bytes));
        assert!(old_slots.len() <= new_slots.len() && old.bytes.len() <= new.bytes.len());
        let stays = old_slots.len() - 1;
        assert!(old_slots[..stays] == new_slots[..stays], "{path:?}");
        kept += stays;
        // But for the block count, when an extent is no longer abbreviated, and more LBIDs of a
        // dictionary, the control block stays.
        assert!(old.bytes[..32] == new.bytes[..32] && old.bytes[40..56] == new.bytes[40..56]);
        assert_eq!(number(&old.bytes, 64), number(&new.bytes, 64));
    }
    assert!(kept > 3, "a file has more slots than the one that changes");
    // Three tables of four, every column of them.
    let tables = nights.after.keys().filter(|path| is_of_a_table(path)).count();
    assert!(changed.len() > tables / 2 && changed.len() < tables, "{} of {tables}", changed.len());
    assert!(nights.removed().is_empty() && nights.added().is_empty());
    assert!(nights.catalog().iter().all(|(changed, touched)| !changed && !touched));
}

/// Catches an update that leaves its slots: those that fit stay where they are, and a file in which
/// one does not fit becomes another file, with all others as they were or shifted whole.
#[test]
fn an_update_packs_slots_again_in_their_place_or_writes_the_file_anew() {
    let nights = TwoNights::of(20 << 20, 8.0, NightKind::Update, 0.5);
    let changed = nights.changed();
    assert!(nights.added().is_empty() && nights.removed().is_empty());
    let (mut in_place, mut anew, mut shifted) = (0, 0, 0);
    for (path, old, new) in &changed {
        assert!(!is_dictionary(&new.bytes), "{path:?} is a column");
        assert!(old.bytes[..4096] == new.bytes[..4096], "{path:?}: the control block stays");
        let (old_slots, new_slots) = (slots(&old.bytes), slots(&new.bytes));
        assert_eq!(old_slots.len(), new_slots.len());
        if old.inode == new.inode {
            assert_eq!(pointers(&old.bytes), pointers(&new.bytes), "{path:?}");
            in_place += 1;
            continue;
        }
        anew += 1;
        for (old, new) in old_slots.iter().zip(&new_slots) {
            assert!((new.len() - old.len()).is_multiple_of(BLOCK as usize));
            shifted += u64::from(new.len() > old.len());
        }
        assert!(new.bytes.len() > old.bytes.len(), "{path:?} has grown");
    }
    assert!(in_place > 1 && anew > 0 && shifted >= anew, "{in_place} in place, {anew} anew");
    assert_eq!(nights.report.files_rewritten, anew);
    // What was there before is in the version buffers.
    let buffer = Path::new("var/lib/columnstore/data1/versionbuffer.cdf");
    assert!(nights.after[buffer].bytes.len() > nights.before[buffer].bytes.len());
}

/// Catches a delete that forgets a column: rows go from every column file of one table, and from no
/// dictionary.
#[test]
fn a_delete_touches_every_column_file_of_its_table() {
    let nights = TwoNights::of(8 << 20, 2.4, NightKind::Delete, 0.05);
    let changed: BTreeSet<u32> =
        nights.changed().iter().map(|(path, ..)| oid(path).unwrap()).collect();
    let (first, last) = (*changed.first().unwrap(), *changed.last().unwrap());
    assert!(changed.len() > 5 && (first..=last).eq(changed.iter().copied()), "{changed:?}");
    // OIDs go by table: the table's own, its columns', its dictionaries'.
    let by_oid: BTreeMap<u32, &Content> =
        nights.after.iter().filter_map(|(path, content)| Some((oid(path)?, content))).collect();
    assert!(!by_oid.contains_key(&(first - 1)), "{first} is the first column of a table");
    let after = by_oid.get(&(last + 1));
    assert!(after.is_none_or(|content| is_dictionary(&content.bytes)), "{last} is the last");
    assert!(nights.changed().iter().all(|(_, _, new)| !is_dictionary(&new.bytes)));
    assert!(nights.report.rows_deleted > 1000);
    let reading = reader::read(nights.root.path());
    assert!(reading.stale > 0, "a shorter payload leaves its former end");
    // What is deleted stays so when rows are added behind it.
    let added = night(nights.root.path(), &night_options(2, NightKind::Append, 0.05)).unwrap();
    assert_clean(nights.root.path());
    let rows = reader::read(nights.root.path()).rows;
    assert_eq!(rows, reading.rows + added.rows_added);
    assert_eq!(reading.rows, nights.rows_before - nights.report.rows_deleted);
    assert!(nights.added().is_empty() && nights.removed().is_empty());
}

/// Catches a drop that leaves something behind, or that touches other tables; DDL touches the whole
/// catalog and changes some of it.
#[test]
fn a_drop_takes_all_files_of_a_table_and_no_other() {
    let nights = TwoNights::of(6 << 20, 2.4, NightKind::Drop, 0.1);
    let [dropped] = &nights.report.tables_dropped[..] else { panic!("{:?}", nights.report) };
    let [created] = &nights.report.tables_created[..] else { panic!("{:?}", nights.report) };
    let frm = |table: &str| PathBuf::from(format!("var/lib/mysql/dw/{table}.frm"));
    let (removed, added) = (nights.removed(), nights.added());
    assert!(removed.contains(&frm(dropped).as_path()) && added.contains(&frm(created).as_path()));
    assert!(removed.len() > 6 && added.len() > 6);
    for path in removed.iter().filter(|path| is_of_a_table(path)) {
        let directory =
            nights.root.path().join(path).parent().unwrap().parent().unwrap().to_owned();
        assert!(!directory.exists(), "{} is gone too", directory.display());
    }
    assert!(nights.changed().is_empty());
    let catalog = nights.catalog();
    assert_eq!(catalog.len(), 41);
    assert!(catalog.iter().all(|(_, touched)| *touched));
    assert!(catalog.iter().any(|(changed, _)| *changed));
    assert!(catalog.iter().any(|(changed, _)| !*changed));
}

/// Catches a program that takes DB Roots for numbers from 1 on: roots 1, 2 and 4 are backed up on two
/// nights, and both come back.
#[test]
fn generated_nights_on_several_dbroots_come_back() {
    require_root("files of the server's user");
    let place = disk();
    let root = place.path().join("live");
    let store = Store::local(&place.path().join("repository"));
    let mut kept = Vec::new();
    for number in 0..2 {
        match number {
            0 => drop(create(&root, &options(8 << 20, 2)).unwrap()),
            _ => drop(night(&root, &night_options(number, NightKind::Mixed, 0.05)).unwrap()),
        }
        let deployment = discover(&root).unwrap();
        let report = store
            .backup_with(&root, |options| {
                options.trees = deployment.trees.clone();
                options.group = Group::Deployment {
                    name: deployment.name.clone(),
                    topology: "shared-local".to_owned(),
                };
            })
            .unwrap();
        assert_eq!(report.snapshot.state, SnapshotState::Complete);
        assert_eq!(report.snapshot.findings.listed, []);
        let added = report.snapshot.stats.data_added;
        let all = report.snapshot.counts().bytes;
        assert!(number == 0 || added * 5 < all, "night {number} adds {added} of {all} bytes");
        let trees: Vec<(String, compare::Tree)> = deployment
            .trees
            .iter()
            .filter(|tree| tree.component != "config")
            .map(|tree| (tree.component.clone(), compare::read(&tree.base)))
            .collect();
        kept.push((report.id.unwrap(), trees));
    }
    for (number, (id, trees)) in kept.iter().enumerate() {
        let names: Vec<&str> = trees.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["datadir", "dbroot/1", "dbroot/2", "dbroot/4", "storagemanager"]);
        let target = place.path().join("target");
        store
            .restore_with(&store.named(*id), &target, |options| {
                options.target = Target::Directory(target.clone());
            })
            .unwrap();
        for (component, expected) in trees {
            let context = format!("{component} of night {number}");
            let restored = target.join(component);
            assert_equal(expected, &restored, Leave { blocks: true }, &context);
        }
        fs::remove_dir_all(&target).unwrap();
    }
    store.expect_clean("after two generated nights");
}
