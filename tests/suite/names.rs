//! Names of tables and columns: read from the catalog of a real server, kept with each snapshot, and
//! used by the commands. What is expected comes from a reader that shares no code with the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use colvault_benches::generator::{CodecChoice, CreateOptions, create};
use colvault_engine::backend::Key;
use colvault_engine::backup::{BackupReport, Group};
use colvault_engine::error::ErrorKind;
use colvault_engine::finding::FindingKind;
use colvault_engine::format::ChunkKind;
use colvault_engine::format::manifest::Node;
use colvault_engine::names::{Names, of_deployment};
use colvault_engine::progress::{Cancel, NullObserver};
use colvault_engine::source::columnstore::discover;
use colvault_engine::spill::SpillPlace;
use colvault_engine::stats::{GroupBy, GroupName, GroupStats, StatsOptions, stats};
use colvault_engine::testing::trees::files_below;

use crate::support::deployment::DBROOT;
use crate::support::nights::{bundled, nights_in};
use crate::support::program::Place;
use crate::support::reached::{ChunkSet, World};
use crate::support::{Store, disk, quick, reader, require_root};

/// `schema.table.column` by the object ids of columns and dictionaries.
type Named = BTreeMap<u32, String>;

fn named(names: &Names) -> Named {
    let mut named = Named::new();
    for table in names.tables() {
        for column in &table.columns {
            let name = format!("{}.{}", table.full_name(), column.name);
            named.extend(column.dictionary.map(|oid| (oid, name.clone())));
            named.insert(column.oid, name);
        }
    }
    named
}

fn of_root(root: &Path) -> Names {
    of_deployment(&discover(root).unwrap()).unwrap().unwrap()
}

fn back_up(store: &Store, root: &Path) -> BackupReport {
    let found = discover(root).unwrap();
    let report = store.backup_with(root, |options| {
        options.trees = found.trees.clone();
        options.facts = found.facts.clone();
        options.group =
            Group::Deployment { name: found.name.clone(), topology: "shared-local".to_owned() };
    });
    report.unwrap()
}

/// Names as they are kept with a snapshot, or read from its content when `names` is cleared.
fn load(store: &Store, report: &BackupReport, is_kept: bool) -> Names {
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let mut snapshot = report.snapshot.clone();
    if !is_kept {
        snapshot.names.clear();
    }
    Names::load(&repository, &snapshot).unwrap().unwrap()
}

/// The tables of ColumnStore in the list of checksums that the server was asked for.
fn tables_with_checksums(night: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(night.with_extension("checksums.txt")).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| name.starts_with("dw.")).map(str::to_owned).collect()
}

/// Catches a catalog that is read as it never was: a name on the wrong object, a dropped table that
/// is still there, a table or dictionary that is missing, columns out of order. With `COLVAULT_NIGHTS`,
/// nights with `nightN.checksums.txt` beside them, their tables are those that the server summed up.
#[test]
fn objects_have_the_names_that_an_independent_reader_gives_them() {
    require_root("files of the server's user");
    let place = disk();
    let mut roots = bundled(place.path(), 4);
    roots.retain(|root| !root.ends_with("night1"));
    let made = place.path().join("made");
    let options = CreateOptions {
        bytes: 8_000_000,
        seed: 5,
        unpacked_ratio: 2.0,
        dbroots: vec![1, 2, 4],
        tables: 9,
        codec: CodecChoice::Mixed,
        threads: std::num::NonZero::new(2).unwrap(),
    };
    create(&made, &options).unwrap();
    roots.push(made);
    for root in &roots {
        let names = of_root(root);
        assert_eq!(names.unreadable_rows, 0);
        let expected = reader::read(root);
        assert!(expected.names.len() > 60 && expected.problems.is_empty());
        assert_eq!(named(&names), expected.names, "{}", root.display());
        assert_eq!(names.tables().len() as u64, expected.tables);
        for table in names.tables() {
            assert!(table.oid >= 3000, "{table:?}");
            let positions: Vec<u32> = table.columns.iter().map(|c| c.position).collect();
            assert_eq!(positions, Vec::from_iter(0..positions.len() as u32), "{table:?}");
            assert!(table.columns.iter().all(|c| c.length > 0 && c.compression >= 2), "{table:?}");
        }
    }
    let of_night = |at: usize| -> BTreeSet<String> {
        of_root(&roots[at]).tables().iter().map(|table| table.full_name()).collect()
    };
    let gone: Vec<String> = of_night(0).difference(&of_night(2)).cloned().collect();
    assert_eq!(gone, ["dw.sales2019"], "dropped before the last night");
    if let Some(directory) = std::env::var_os("COLVAULT_NIGHTS") {
        for night in nights_in(Path::new(&directory)) {
            let names = of_root(&night);
            let tables = names.tables().iter().map(|table| table.full_name()).collect();
            assert_eq!(tables_with_checksums(&night), tables, "{}", night.display());
        }
    }
}

/// Catches names that are stored anew every night, that a snapshot has from another night, that differ
/// from the catalog in its content, or that older snapshots do without; a catalog that is not there
/// must be told by kind, and leave a snapshot that restores.
#[test]
fn names_are_kept_once_and_older_snapshots_are_read_from_their_content() {
    require_root("files of the server's user");
    let place = disk();
    let nights = bundled(place.path(), 4);
    let store = Store::local(&place.path().join("repository"));
    let reports: Vec<BackupReport> = nights.iter().map(|night| back_up(&store, night)).collect();
    let ids = |at: usize| reports[at].snapshot.names.clone();
    assert_eq!(ids(0).len(), 1);
    assert_eq!((ids(0), ids(0)), (ids(1), ids(2)), "the catalog did not change");
    assert_ne!(ids(2), ids(3), "a table was dropped");
    for (report, night) in reports.iter().zip(&nights) {
        let expected = of_root(night);
        assert_eq!(load(&store, report, true).tables(), expected.tables());
        assert_eq!(load(&store, report, false).tables(), expected.tables());
        assert!(!report.snapshot.facts.contains_key("names_unread"));
    }
    let copies = |store: &Store, at: usize| {
        let world = World::read(store);
        world.stored[&(ChunkKind::Meta, ids(at)[0].0)].len()
    };
    assert_eq!((copies(&store, 0), copies(&store, 3)), (1, 1));
    let packs = reports[3].snapshot.stats.packs;
    let again = back_up(&store, &nights[3]);
    assert_eq!(again.snapshot.names, ids(3));
    assert!(packs >= 3 && again.snapshot.stats.packs < packs, "nothing but a manifest at most");
    assert_eq!(copies(&store, 3), 1);
    store.expect_clean("with names");

    // A catalog that cannot be read: one of its files is gone, or the extent map is.
    let broken = place.path().join("night1");
    let column = broken.join(DBROOT).join("000.dir/000.dir/003.dir/255.dir/000.dir/FILE000.cdf");
    assert!(column.exists(), "1023, the names of columns");
    fs::remove_file(&column).unwrap();
    let report = back_up(&store, &broken);
    assert_eq!(report.snapshot.names, []);
    assert!(report.snapshot.facts["names_unread"].contains("dbroot/1 000.dir/000.dir/003.dir/255"));
    let error = of_deployment(&discover(&broken).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fs::write(broken.join(DBROOT).join("systemFiles/dbrm/BRM_saves_em"), b"no map").unwrap();
    let error = of_deployment(&discover(&broken).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let report = back_up(&store, &broken);
    assert!(report.snapshot.facts["names_unread"].contains("BRM_saves_em"));
    store.expect_clean("without names");
}

fn count(store: &Store, by: GroupBy) -> Vec<GroupStats> {
    let directory = quick();
    let options = StatsOptions {
        group_by: by,
        spill: SpillPlace { directory: directory.path().join("spill"), buffer_bytes: 2000 },
        cancel: Cancel::default(),
    };
    let repository = store.open().unwrap();
    repository.load_index(&NullObserver).unwrap();
    let listing = colvault_engine::snapshot::list(&repository).unwrap();
    let all = listing.snapshots.iter().map(|named| named.id).collect();
    let report = stats(&repository, &listing, &all, &options, &NullObserver).unwrap();
    assert_eq!((report.findings.total(), report.chunks_missing), (0, 0));
    report.groups
}

/// The name of the table, or of the column, that a path belongs to, in words of this test.
fn name_of(by: GroupBy, names: &Named, path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() != 6 || !text.ends_with(".cdf") {
        return "rest".to_owned();
    }
    let byte = |at: usize| -> u32 { parts[at].trim_end_matches(".dir").parse().unwrap() };
    let oid = byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
    match (names.get(&oid), by) {
        (Some(name), GroupBy::Column) => name.clone(),
        (Some(name), _) => name.rsplit_once('.').unwrap().0.to_owned(),
        (None, _) if oid >= 3000 => format!("oid {oid}"),
        (None, GroupBy::Column) => format!("catalog {oid}"),
        (None, _) => "catalog".to_owned(),
    }
}

/// Says of a row what [`name_of`] says of a path.
fn name_of_row(row: &GroupStats) -> String {
    match &row.name {
        GroupName::Table(table) if table.starts_with("calpontsys.") => "catalog".to_owned(),
        GroupName::Table(table) => table.clone(),
        GroupName::Column { table, column } if table.starts_with("calpontsys.") => {
            format!("catalog {}", column.rsplit(' ').next().unwrap())
        }
        GroupName::Column { table, column } => format!("{table}.{column}"),
        GroupName::Oid(oid) => format!("oid {oid}"),
        _ => "rest".to_owned(),
    }
}

/// Catches costs of a table or column that are those of another, of another night's names, or that a
/// dictionary is missing from; a dropped table that is not counted on the nights on which it was;
/// and what a night adds that is not what a plain count says.
#[test]
fn costs_of_tables_and_columns_are_those_of_a_plain_count() {
    require_root("files of the server's user");
    let place = disk();
    let nights = bundled(place.path(), 4);
    let store = Store::local(&place.path().join("repository"));
    nights.iter().for_each(|night| drop(back_up(&store, night)));
    let names: Vec<Named> = nights.iter().map(|night| reader::read(night).names).collect();
    let world = World::read(&store);
    let firsts = world.union(|at| at == 0);
    let before_last = world.union(|at| at < 3);
    for by in [GroupBy::Table, GroupBy::Column] {
        let mut expected: BTreeMap<String, (u64, u64, ChunkSet)> = BTreeMap::new();
        for (whole, names) in world.snapshots.iter().zip(&names) {
            let rest = expected.entry("rest".to_owned()).or_default();
            rest.2.extend(whole.names.iter().chain(whole.manifests.values().flatten()));
            for seen in &whole.entries {
                let group = expected.entry(name_of(by, names, &seen.entry.path)).or_default();
                if let Node::File { size, .. } = seen.entry.node {
                    (group.0, group.1) = (group.0 + 1, group.1 + size);
                }
                group.2.extend(seen.content.iter().copied());
            }
        }
        let rows = count(&store, by);
        let named: BTreeSet<String> = rows.iter().map(name_of_row).collect();
        assert_eq!(named, expected.keys().cloned().collect(), "{by:?}");
        let is_of_catalog = |row: &&GroupStats| name_of_row(row) == "catalog";
        assert_eq!(
            rows.iter().filter(is_of_catalog).count(),
            if by == GroupBy::Table { 2 } else { 0 }
        );
        for row in rows.iter().filter(|row| !is_of_catalog(row)) {
            let name = name_of_row(row);
            let (files, bytes, chunks) = &expected[&name];
            assert_eq!((row.files, row.logical_bytes), (*files, *bytes), "{name}");
            assert_eq!(row.reached, world.amount(chunks), "{name}");
            let others = expected.iter().filter(|(other, _)| **other != name);
            let others: ChunkSet = others.flat_map(|(_, (.., chunks))| chunks.clone()).collect();
            assert_eq!(row.exclusive, world.amount(chunks.difference(&others)), "{name}");
            let stored = |chunks| world.amount(chunks).all().stored_bytes;
            assert_eq!(row.added_later, stored(chunks.difference(&firsts)), "{name}");
            assert_eq!(row.nights, 3);
            let last = world.amount(chunks.difference(&before_last)).all().stored_bytes;
            assert_eq!(row.added_last, last, "{name}");
        }
        let sales = rows.iter().filter(|row| name_of_row(row).starts_with("dw.sales2019"));
        assert_eq!(sales.map(|row| row.files).sum::<u64>(), 3 * 8, "seven columns, a dictionary");
    }
}

/// The segment files of a table, below the DB Root.
fn files_of(names: &Named, table: &str, root: &Path) -> BTreeSet<PathBuf> {
    let dbroot = root.join(DBROOT);
    let paths = files_below(&dbroot).unwrap().into_iter();
    let paths = paths.map(|path| path.strip_prefix(&dbroot).unwrap().to_owned());
    paths
        .filter(|path| {
            let path = path.as_os_str().as_encoded_bytes();
            name_of(GroupBy::Table, names, path) == table
        })
        .collect()
}

/// Catches a table that is listed, found or restored with files of another one or without some of its
/// own; names that are of no table and do not say what is near; and a restore of a table into a tree
/// that exists.
#[test]
fn a_table_is_listed_found_and_restored_by_name() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 4);
    place.expect(0, "init -r @/repository");
    for night in 0..4 {
        place.expect(0, &format!("backup -r @/repository --root @/night{night} --host db1 -q"));
    }
    let names = reader::read(&nights[0]).names;
    let orders = files_of(&names, "dw.orders", &nights[3]);
    assert_eq!(orders.len(), 12, "nine columns, three dictionaries");
    // Beside each path stands its column.
    let below = |line: &str| -> Option<PathBuf> {
        let (path, column) = line.trim().strip_prefix(&format!("/{DBROOT}/"))?.split_once("  ")?;
        let name = name_of(GroupBy::Column, &names, path.as_bytes());
        let is_dictionary = column.strip_suffix(" (dictionary)");
        assert_eq!(is_dictionary.unwrap_or(column), name);
        let oids = names.iter().filter(|(_, of)| **of == name).map(|(oid, _)| *oid);
        let own = crate::support::proof::segment(oids.min().unwrap());
        assert_eq!(is_dictionary.is_some(), own != path, "a dictionary is made after its column");
        Some(path.into())
    };
    let listed = place.expect(0, "ls -r @/repository latest --table dw.orders").silent().out;
    assert_eq!(listed.lines().filter_map(below).collect::<BTreeSet<_>>(), orders);
    let found = place.expect(0, "find -r @/repository --table dw.orders -s latest").silent().out;
    assert_eq!(found.lines().filter_map(below).collect::<BTreeSet<_>>(), orders);
    // Dropped before the last night: it is in the others only.
    let sales = files_of(&names, "dw.sales2019", &nights[0]).len() as u64;
    let found = place.expect(0, "find -r @/repository --table dw.sales* --count --json").out;
    let summary: serde_json::Value = serde_json::from_str(found.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["hits"], &summary["snapshots_matched"]), (&(3 * sales).into(), &3.into()));

    let restore =
        "restore -r @/repository latest --table dw.orders --table dw.tr*s --target @/table";
    let restored = place.expect(0, restore).silent().out;
    assert!(restored.contains("segment files of dw.orders, dw.trades to look at"), "{restored}");
    assert!(restored.contains("no way to put rows back"), "{restored}");
    let target = place.path("table");
    let files = files_below(&target).unwrap().into_iter();
    let files: BTreeSet<PathBuf> =
        files.map(|path| path.strip_prefix(target.join("dbroot/1")).unwrap().to_owned()).collect();
    let both = orders.union(&files_of(&names, "dw.trades", &nights[3])).cloned().collect();
    assert_eq!(files, both);
    for path in &files {
        let original = fs::read(nights[3].join(DBROOT).join(path)).unwrap();
        assert!(fs::read(target.join("dbroot/1").join(path)).unwrap() == original, "{path:?}");
    }
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "nothing but the DB Roots");

    for (line, said) in [
        ("ls -r @/repository latest --table dw.order", "found dw.orders"),
        ("ls -r @/repository latest --table DW.orders", "found dw.orders"),
        ("find -r @/repository --table dw.sales2020", "found dw.sales2019"),
        ("restore -r @/repository latest --table app.users --target @/x", "found none like it"),
        ("ls -r @/repository latest --table app.users", "only tables of ColumnStore have names"),
        ("ls -r @/repository latest --table calpontsys.systable", "find --oid takes 1001"),
    ] {
        // The newest snapshot does not have sales2019 any more; an older one is searched too.
        let line = line.replace("find -r", "find -s latest~1 -r");
        place.expect(1, &line).complains(said);
    }
    for (line, said) in [
        ("restore -r @/repository latest --table orders --target @/x", "SCHEMA.TABLE expected"),
        ("ls -r @/repository latest --table dw.[", "table \"dw.[\": SCHEMA.TABLE with a glob"),
    ] {
        place.expect(2, line).complains(said);
    }
    let used = place.expect(1, restore).complains("an empty directory expected");
    assert!(!used.err.contains("--delta"), "it cannot be used with --table: {}", used.err);
    let delta = "restore -r @/repository latest --table dw.orders --delta --target @/table";
    place.expect(2, delta).complains("cannot be used with");
    place
        .expect(1, &restore.replace("latest", "latest~1"))
        .complains("an empty directory expected");
    place.expect(0, "backup -r @/repository @/night0/etc -q");
    let plain = "ls -r @/repository latest --table dw.orders";
    place.expect(1, plain).complains("names of tables expected, found none");
}

/// Catches names that nobody notices when they are gone, a check that does not say which snapshot lacks
/// them, a search that does not know what they are for, and a next backup that does not mend it.
#[test]
fn lost_names_are_found_and_stored_again() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    let store = Store::local(&place.path("repository"));
    let report = back_up(&store, &nights[0]);
    let id = report.snapshot.names[0];
    let world = World::read(&store);
    let (pack, chunks) =
        world.packs.iter().find(|(_, chunks)| chunks.contains(&(ChunkKind::Meta, id.0))).unwrap();
    assert_eq!(chunks.len(), 1, "it is stored when everything else is");
    let found = place.expect(0, &format!("find -r @/repository --chunk {id} --json")).silent().out;
    let snapshot = report.id.unwrap().to_string();
    let summary: serde_json::Value = serde_json::from_str(found.lines().last().unwrap()).unwrap();
    assert_eq!(summary["needed_as_names"], serde_json::json!([snapshot]));
    assert_eq!(summary["hits"], 0);

    store.backend.delete(&Key::Pack(pack.parse().unwrap())).unwrap();
    let checked = store.check(false).unwrap();
    let lacks = checked.findings.listed.iter().filter(|f| f.kind == FindingKind::MissingChunk);
    let lacks: Vec<&str> = lacks.map(|finding| finding.object.as_str()).collect();
    assert_eq!(lacks, [format!("snapshot {} names", report.id.unwrap().short())]);
    place.expect(20, "check -r @/repository");
    let lost = "its names of tables cannot be had from the repository";
    place.expect(20, "ls -r @/repository latest --table dw.orders").complains(lost);
    let restore = "restore -r @/repository latest --table dw.orders --target @/x";
    place.expect(20, restore).complains(lost);
    place.expect(20, "find -r @/repository --table dw.orders").complains(lost);
    let again = back_up(&store, &nights[0]);
    assert_eq!(again.snapshot.names, [id]);
    let named = store.named(again.id.unwrap());
    assert_eq!(named.snapshot.names, [id]);
    assert!(load(&store, &again, true).tables().len() == 7);
}

/// Catches a repository that is called damaged when the catalog made no sense in the source already; a
/// search that passes over snapshots and says it is complete; and a table that is said to be nowhere
/// while some names could not be read.
#[test]
fn names_that_the_source_spoilt_are_no_damage_of_the_repository() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    place.expect(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/night0 --host db1 -q";
    place.expect(0, backup);
    let map = nights[0].join(DBROOT).join("systemFiles/dbrm/BRM_saves_em");
    let whole = fs::read(&map).unwrap();
    let mut spoilt = whole.clone();
    spoilt[1] ^= 1;
    fs::write(&map, spoilt).unwrap();
    place.expect(3, backup);
    fs::write(&map, &whole).unwrap();
    let column = nights[0].join(DBROOT).join("000.dir/000.dir/003.dir/255.dir/000.dir/FILE000.cdf");
    fs::remove_file(&column).unwrap();
    place.expect(3, backup);
    let said = "names of tables expected, its system catalog made no sense when it was backed up";
    for snapshot in ["latest", "latest~1"] {
        let of_table = format!("-r @/repository {snapshot} --table dw.orders");
        place.expect(1, &format!("ls {of_table}")).complains(said);
        place.expect(1, &format!("restore {of_table} --target @/x")).complains(said);
        let find = format!("find -r @/repository -s {snapshot} --table dw.orders");
        place.expect(1, &find).complains(said);
    }
    let found = place.expect(0, "find -r @/repository --table dw.orders --json").out;
    let summary: serde_json::Value = serde_json::from_str(found.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["hits"], &summary["is_complete"]), (&12.into(), &false.into()));
    assert_eq!(summary["snapshots_unsearched"], 2);
    place
        .expect(1, "find -r @/repository --table dw.nowhere")
        .complains("it may be in one of the 2 whose names cannot be read");
}

/// Catches a column that nobody can tell from its number, or the number from the column: in the costs,
/// in a restore, and for a file that is looked at; and the ways to name such a file.
#[test]
fn numbers_and_columns_are_told_together() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    let names = reader::read(&nights[0]).names;
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository --root @/night0 --host db1 -q");
    let lines = |line: &str| -> Vec<serde_json::Value> {
        let out = place.expect(0, line).silent().out;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let oids_of = |column: &str| -> Vec<u32> {
        names.iter().filter(|(_, name)| *name == column).map(|(oid, _)| *oid).collect()
    };
    let costs = lines("stats -r @/repository --by column --json");
    let costs = costs.iter().filter(|row| row["column"] == "o_comment");
    let costs: Vec<_> = costs.map(|row| row["oids"].clone()).collect();
    let [oid, dictionary] = oids_of("dw.orders.o_comment")[..] else { panic!("two objects") };
    assert_eq!(costs, [serde_json::json!([oid, dictionary])]);
    let told = place.expect(0, "stats -r @/repository --by column").silent().out;
    assert!(!told.contains('…'), "nothing is shortened but for a terminal: {told}");

    let restored = lines("restore -r @/repository latest --table dw.orders --target @/t --json");
    let columns = restored.last().unwrap()["columns"].as_array().unwrap().clone();
    assert_eq!(columns.len(), 12);
    let expected = serde_json::json!({"oid": dictionary, "table": "dw.orders", "column": "o_comment",
                                      "is_dictionary": true, "files": 1});
    assert!(columns.contains(&expected), "{columns:?}");
    let path = crate::support::proof::segment(dictionary);
    for line in [
        format!("inspect -r @/repository --snapshot latest /{DBROOT}/{path}"),
        format!("inspect -r @/repository --snapshot latest ./{path}"),
        format!("inspect -r @/repository latest:/{DBROOT}/{path}"),
    ] {
        let told = place.expect(0, &line).silent().out;
        assert!(told.contains("dw.orders.o_comment (dictionary)"), "{line}: {told}");
    }
    let directory = format!("inspect -r @/repository latest:/{DBROOT}/000.dir");
    place.expect(1, &directory).complains("a file expected, found a directory");
}
