//! The system of record of some tables alone: which files are left out, what has to be said for that,
//! and what is refused. The tables are those of a real deployment.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use colvault_engine::testing::trees::files_below;

use crate::support::deployment::DBROOT;
use crate::support::nights::bundled;
use crate::support::program::{Place, Ran, write};
use crate::support::{reader, require_root};

const BACKUP: &str = "backup -r @/repository --root @/night0 --host db1 --config @/erp.toml";

/// Settings that leave tables to another database, with steps for these.
fn settings(patterns: &[&str], steps: &[&str]) -> String {
    let steps: String = steps
        .iter()
        .map(|table| format!("[[record.reload]]\ntable = '{table}'\ncommand = 'load {table}'\n"))
        .collect();
    format!("[record]\nsource = 'database'\ntables = {}\n{steps}", json!(patterns))
}

/// The segment files of some tables below the DB Root, as an independent reader knows them.
fn files_of(place: &Place, tables: &[&str]) -> BTreeSet<PathBuf> {
    let root = place.path("night0");
    let names = reader::read(&root).names;
    let oids = names.iter().filter(|(_, name)| {
        tables.iter().any(|table| name.strip_prefix(table).is_some_and(|n| n.starts_with('.')))
    });
    let directories: Vec<PathBuf> = oids
        .map(|(oid, _)| oid.to_be_bytes().map(|byte| format!("{byte:03}.dir")).join("/").into())
        .collect();
    assert!(directories.len() > 5);
    let dbroot = root.join(DBROOT);
    let files = files_below(&dbroot).unwrap().into_iter();
    files
        .map(|path| path.strip_prefix(&dbroot).unwrap().to_owned())
        .filter(|path| directories.iter().any(|directory| path.starts_with(directory)))
        .collect()
}

fn last_line(ran: &Ran) -> Value {
    serde_json::from_str(ran.out.lines().last().unwrap()).unwrap()
}

fn with_night() -> Place {
    require_root("files of the server's user");
    let place = Place::new();
    bundled(&place.path(""), 1);
    place.expect(0, "init -r @/repository");
    place
}

/// Catches files of other tables that are left out, files of these that are not, a snapshot or plan
/// that does not name the tables, steps of other tables that a restore would carry out, and a second
/// night that asks again or one with another pattern that does not.
#[test]
fn tables_that_match_are_left_out_and_no_others() {
    let place = with_night();
    let steps = ["dw.trades", "dw.sales2019", "dw.orders", "dw.sales2018", "old.log"];
    write(place.path("erp.toml"), settings(&["dw.tr*", "dw.sales*", "staging.*"], &steps));
    let refused = place.expect(1, &format!("{BACKUP} -q"));
    refused.complains("the rows of dw.trades, dw.sales2019").complains("nobody has confirmed that");
    let plan = BACKUP.replace("backup", "plan");
    let planned = place.expect(3, &plan).out;
    let left_out = files_of(&place, &["dw.trades", "dw.sales2019"]);
    for said in [
        &format!("left out, of dw.tr*, dw.sales*, staging.* alone: {} user", left_out.len()),
        "    dw.sales2019: 8 files, ",
        "    dw.trades: 10 files, ",
        "record.tables has staging.*, which is like no table here",
        "names dw.orders, which record.tables does not: its rows are backed up",
        "names old.log, which record.tables does not",
        "names dw.sales2018, which is no ColumnStore table here",
    ] {
        assert!(planned.contains(said), "{said}: {planned}");
    }
    place.expect(0, &format!("{BACKUP} --apply-record -q"));
    let snapshots = last_line(&place.expect(0, "snapshots -r @/repository --json"));
    let record = &snapshots[0]["record"];
    assert_eq!(record["tables"], json!(["dw.tr*", "dw.sales*", "staging.*"]));
    assert_eq!(record["absent"], json!(["dw.sales2018"]));
    let of_steps = record["reload"].as_array().unwrap().iter().map(|step| step["table"].clone());
    let of_steps: Vec<Value> = of_steps.collect();
    assert_eq!(of_steps, ["dw.trades", "dw.sales2019", "dw.sales2018"]);
    let named = record["left_out"].as_array().unwrap();
    let files: u64 = named.iter().map(|row| row["files"].as_u64().unwrap()).sum();
    assert_eq!((files, named.len()), (left_out.len() as u64, left_out.len()));
    let tables: BTreeSet<&str> = named.iter().map(|row| row["table"].as_str().unwrap()).collect();
    assert_eq!(tables, BTreeSet::from(["dw.sales2019", "dw.trades"]));

    // What comes back is everything else.
    let restored = place.expect(0, "restore -r @/repository latest --target @/back").silent().out;
    let dbroot = place.path("night0").join(DBROOT);
    let below = |path: PathBuf, base: &PathBuf| path.strip_prefix(base).unwrap().to_owned();
    let all = files_below(&dbroot).unwrap().into_iter();
    let all: BTreeSet<PathBuf> = all.map(|path| below(path, &dbroot)).collect();
    let target = place.path("back/dbroot/1");
    let back = files_below(&target).unwrap().into_iter();
    let back: BTreeSet<PathBuf> = back.map(|path| below(path, &target)).collect();
    let lacks: BTreeSet<PathBuf> = all.difference(&back).cloned().collect();
    assert_eq!(lacks.iter().filter(|path| !path.ends_with("dbroot1-lock")).count(), left_out.len());
    assert!(left_out.is_subset(&lacks), "{lacks:?}");
    for said in [
        "without the rows of 2 tables (dw.trades, dw.sales2019): 18 user segment files",
        "DROP TABLE `dw`.`trades`, `dw`.`sales2019`;",
        "load dw.trades: load dw.trades",
        "load dw.sales2019: load dw.sales2019",
    ] {
        assert!(restored.contains(said), "{said}: {restored}");
    }
    assert!(!restored.contains("orders") && !restored.contains("sales2018"), "{restored}");
    place.expect(0, "check -r @/repository --read-data").silent();

    // The same settings need no word; another pattern and another step do.
    place.expect(0, &format!("{BACKUP} -q"));
    let more = ["dw.trades", "dw.sales2019", "dw.weblog"];
    write(place.path("erp.toml"), settings(&["dw.tr*", "dw.sales*", "dw.weblog"], &more));
    place.expect(1, &format!("{BACKUP} -q")).complains("nobody has confirmed that");
    place.expect(0, &format!("{BACKUP} -q --apply-record"));
    write(place.path("erp.toml"), settings(&["dw.tr*", "dw.sales*"], &more));
    place.expect(1, &format!("{BACKUP} -q")).complains("nobody has confirmed that");
    // Patterns that match nothing leave nothing out, and the flag goes before the file.
    let full = place.expect(0, &format!("{BACKUP} --record-tables staging.* --json"));
    assert_eq!(last_line(&full)["record"]["left_out"], json!([]));
}

/// Catches tables that are left out without a way back, by a pattern that is none, or although nobody
/// can tell which files are theirs. Each is an error, and leaves no snapshot.
#[test]
fn what_is_not_known_to_have_a_way_back_is_not_left_out() {
    let place = with_night();
    let dbroot = place.path("night0").join(DBROOT);
    let refused = |file: String, said: &str| {
        write(place.path("erp.toml"), file);
        place.expect(1, &format!("{BACKUP} --apply-record -q")).complains(said);
        assert!(place.snapshots("repository").is_empty(), "{said}");
    };
    let both = ["dw.trades", "dw.sales2019"];
    refused(settings(&["dw.tr*", "dw.sales*"], &both[..1]), "found none for dw.sales2019");
    refused(settings(&["dw.*"], &both), "found none for dw.customer, dw.lineitem, dw.orders");
    refused(settings(&["trades"], &both), "SCHEMA.TABLE expected");
    refused(settings(&["dw.[a"], &both), "a glob expected");
    refused(settings(&["dw.trades"], &[]), "found no reload procedure");
    let no_source = settings(&["dw.trades"], &both).replace("source = 'database'\n", "");
    refused(no_source, "database or files expected");
    let secret =
        settings(&["dw.trades"], &both).replace("'load dw.sales2019'", "'mariadb -psecret'");
    refused(secret, "no password expected");

    // The catalog: without a file of it, with a row that has no name, with one object in two tables.
    let file = |oid: u32| {
        let below = oid.to_be_bytes().map(|byte| format!("{byte:03}.dir")).join("/");
        dbroot.join(below).join("000.dir/FILE000.cdf")
    };
    let with_byte = |oid: u32, at: u64, byte: u8, said: &str| {
        let path = file(oid);
        let whole = fs::read(&path).unwrap();
        fs::File::options().write(true).open(&path).unwrap().write_all_at(&[byte], at).unwrap();
        refused(settings(&["dw.tr*", "dw.sales*"], &both), said);
        fs::write(&path, whole).unwrap();
    };
    fs::rename(file(1022), place.path("kept")).unwrap();
    refused(settings(&["dw.trades"], &both), "the system catalog expected, which tells the files");
    fs::rename(place.path("kept"), file(1022)).unwrap();
    // Row 3 of the names of columns: string 0 of its block.
    let token = fs::read(file(1023)).unwrap()[24];
    with_byte(1023, 24, token & 0x80, "1 rows of it make no sense");
    // Row 52 is dw.sensor_lz4's first column, 3075: it gets the number 3084, dw.trades' first.
    with_byte(1024, 4 * 52, 0x0c, "object id 3084; nobody can tell whose rows");
    write(place.path("erp.toml"), settings(&["dw.tr*"], &both));
    place.expect(0, &format!("{BACKUP} --apply-record -q"));
}

/// Catches a table that was left out and that a listing, a search or a restore says it has, or is silent
/// about; a part of the column data that comes back without a word on what it lacks; and a delta that
/// says files are not there which it left in place.
#[test]
fn a_table_that_was_left_out_is_named_where_it_is_looked_for() {
    let place = with_night();
    let both = ["dw.trades", "dw.sales2019"];
    write(place.path("erp.toml"), settings(&["dw.tr*", "dw.sales*"], &both));
    let named = "without the rows of 2 tables (dw.trades, dw.sales2019)";
    let saved = place.expect(0, &format!("{BACKUP} --apply-record")).out;
    assert!(saved.contains(named), "{saved}");
    let listed = place.expect(0, "snapshots -r @/repository").silent().out;
    assert!(listed.contains(named), "{listed}");
    place.expect(0, "ls -r @/repository latest").complains(named);
    let proved = place.expect(0, "check -r @/repository --columnstore latest").silent().out;
    assert!(proved.contains(&format!("files agree {named}")), "{proved}");

    let lacks = "segment files of dw.trades expected, the snapshot has none: their rows were left to the \
                 system of record, another database";
    place.expect(1, "ls -r @/repository latest --table dw.trades").complains(lacks);
    let restore = "restore -r @/repository latest --target";
    place.expect(1, &format!("{restore} @/x --table dw.trades")).complains(lacks);
    let found = place.expect(0, "find -r @/repository --table dw.trades");
    found.complains("dw.trades: its rows were left to the system of record in 1 of the snapshots");
    // Those that are there, and no others.
    let ran = place
        .expect(0, &format!("{restore} @/y --table dw.*"))
        .complains("dw.sales2019, dw.trades");
    let said = ran.out.lines().find(|line| line.starts_with("these are segment files of")).unwrap();
    assert!(said.contains("dw.orders") && !said.contains("dw.trades"), "{said}");
    let json = last_line(&place.expect(0, &format!("{restore} @/z --table dw.* --json")));
    let tables = json["tables"].as_array().unwrap();
    assert!(
        tables.contains(&json!("dw.orders")) && !tables.contains(&json!("dw.trades")),
        "{json}"
    );

    // A part of it.
    let part = place.expect(0, &format!("{restore} @/part --exclude nothing")).out;
    assert!(part.contains(&format!("this snapshot is {named}")), "{part}");
    let part = place.expect(0, &format!("{restore} @/data --path /var/lib/columnstore/data1")).out;
    assert!(part.contains(&format!("this snapshot is {named}")), "{part}");
    let none = place.expect(0, &format!("{restore} @/etc --path /etc")).out;
    assert!(!none.contains("without the rows"), "{none}");
    place.expect(0, &format!("{restore} @/part --delta -q"));
    let delta = place.expect(0, &format!("{restore} @/part --delta")).out;
    assert!(delta.contains("or are older ones that were left in place"), "{delta}");
}
