//! The system of record: what is left out because it can be loaded again, who has to say yes to
//! that, and what a restore says about it. The tables are those of a real deployment.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use colvault_engine::backend::{Backend, Key, LocalBackend};
use colvault_engine::format::{Header, ObjectKind, open_record, seal_record};
use colvault_engine::id::{SessionId, random};
use colvault_engine::repository::read_config;
use colvault_engine::testing::trees::files_below;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::deployment::DBROOT;
use crate::support::nights::{become_night, bundled};
use crate::support::program::{Place, Ran, Transcript, listing, write};
use crate::support::{require_root, wait_until_not_racy};

const TABLES: [&str; 7] =
    ["lineitem", "orders", "weblog", "trades", "customer", "sales2019", "sensor_lz4"];

/// The settings of a deployment whose rows come from another database.
fn settings(tables: &[&str]) -> String {
    let steps: String = tables
        .iter()
        .map(|table| {
            format!(
                "[[record.reload]]\ntable = \"dw.{table}\"\nfrom = \"erp.{table}\"\n\
                 command = \"cpimport dw {table} /srv/load/{table}.tbl\"\n"
            )
        })
        .collect();
    format!("[record]\nsource = \"database\"\ndatabase = \"erp\"\n{steps}")
}

/// The first object id of users' tables.
const FIRST_USER_OID: u64 = 3000;

/// The object id of a segment file, by the four directories it lies in.
fn oid_of(below: &Path) -> Option<u64> {
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    let byte = |part: &&str| part.strip_suffix(".dir")?.parse::<u64>().ok();
    let bytes: Option<Vec<u64>> = parts.get(..4)?.iter().map(byte).collect();
    Some(bytes?.into_iter().fold(0, |oid, byte| oid << 8 | byte))
}

/// Files of a DB Root by their paths in it, with their sizes.
type Files = Vec<(PathBuf, u64)>;

/// Files of the DB Root of a deployment: those of users' tables, and the others.
fn divided(root: &Path) -> (Files, Files) {
    divided_at(&root.join(DBROOT))
}

fn divided_at(dbroot: &Path) -> (Files, Files) {
    let files = files_below(dbroot).unwrap().into_iter().map(|path| {
        let size = fs::metadata(&path).unwrap().len();
        (path.strip_prefix(dbroot).unwrap().to_owned(), size)
    });
    files.partition(|(path, _)| oid_of(path).is_some_and(|oid| oid >= FIRST_USER_OID))
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(ran.out.lines().last().unwrap()).unwrap()
}

/// A place with a repository and the first nights of the real deployment, whose live tree is the
/// first of them.
fn with_nights(count: usize) -> (Place, Vec<PathBuf>) {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), count);
    become_night(&nights[0], &place.path("live"));
    wait_until_not_racy();
    place.expect(0, "init -r @/repository");
    (place, nights)
}

const BACKUP: &str = "backup -r @/repository --root @/live --host db1 --config @/erp.toml";

/// Catches a snapshot that leaves out rows nobody agreed to leave out, more or other files than those
/// of users' tables, or that does not say so by name; a second night that asks again; and a restore
/// that brings back something else than the rest, or deletes in place what it does not hold.
#[test]
fn rows_of_another_database_are_left_out_once_confirmed() {
    let (place, nights) = with_nights(2);
    write(place.path("erp.toml"), settings(&TABLES));
    let (users, others) = divided(&nights[0]);
    assert!(users.len() > 80 && others.len() > 50, "{} and {}", users.len(), others.len());
    let sum = |files: &[(PathBuf, u64)]| files.iter().map(|(_, size)| size).sum::<u64>();
    let mut told = Transcript::new(&place);
    told.title("not confirmed");
    // A backup that is refused has had a lease.
    let objects = || {
        let all = listing(&place.path("repository"));
        all.into_iter().filter(|(path, ..)| path.is_file()).collect::<Vec<_>>()
    };
    let before = objects();
    told.run(3, "plan -r @/repository --root @/live --host db1 --config @/erp.toml -q");
    told.run(1, &format!("{BACKUP} -q"));
    place.expect(1, &format!("{BACKUP} --dry-run"));
    assert_eq!(objects(), before, "nothing was written");
    told.title("confirmed");
    let lacks = "without the rows of 7 tables (dw.lineitem, dw.orders, dw.weblog, dw.trades, \
                 dw.customer and 2 more): 87 user segment files of 11.5 MiB were left to the system of \
                 record, the database erp";
    let backed_up = place.expect(0, &format!("{BACKUP} --apply-record")).silent().out;
    assert!(backed_up.contains(&format!("\n  {lacks}\n")), "{backed_up}");
    // Their extents are in the map all the same: the proof says so, and misses nothing.
    for line in [
        "proof: proved: 128 extents, 41 segment files, 13 rules",
        "not in it on purpose: dbroot/1: 87 extents in 87 segment files, left to the system of record",
    ] {
        assert!(backed_up.contains(&format!("\n  {line}\n")), "{line}: {backed_up}");
    }
    let listed = place.expect(0, "snapshots -r @/repository").silent().out;
    assert!(listed.contains(&format!(": {lacks}\n1 snapshot\n")), "{listed}");
    told.run(0, "restore -r @/repository latest --target @/back");
    told.compare("record.txt");

    // By name, and all of it: the directories that are named hold exactly the users' files.
    let snapshots = json(&place.expect(0, "snapshots -r @/repository --json"));
    let record = &snapshots[0]["record"];
    assert_eq!((&record["source"], &record["assumed"]), (&"database".into(), &false.into()));
    assert_eq!(record["database"], "erp");
    assert_eq!(record["reload"].as_array().unwrap().len(), TABLES.len());
    assert_eq!(record["reload"][0]["command"], "cpimport dw lineitem /srv/load/lineitem.tbl");
    let named = record["left_out"].as_array().unwrap();
    let figure = |name: &str| named.iter().map(|l| l[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((figure("files"), figure("bytes")), (users.len() as u64, sum(&users)));
    let dbroot = Path::new("/").join(DBROOT);
    for left_out in named {
        assert_eq!(left_out["component"], "dbroot/1");
        let path = Path::new(left_out["path"].as_str().unwrap()).strip_prefix(&dbroot).unwrap();
        let below = |(file, _): &&(PathBuf, u64)| file.starts_with(path);
        assert!(!others.iter().any(|file| below(&file)), "{}", path.display());
        assert_eq!(users.iter().filter(below).count() as u64, left_out["files"].as_u64().unwrap());
    }
    // What came back: everything else, byte by byte.
    let (back, rest) = divided_at(&place.path("back/dbroot/1"));
    assert_eq!((back.len(), rest.len()), (0, others.len()));
    for (path, _) in &others {
        let same = fs::read(nights[0].join(DBROOT).join(path)).unwrap()
            == fs::read(place.path("back/dbroot/1").join(path)).unwrap();
        assert!(same, "{}", path.display());
    }
    let mut datadir = compare::read(&nights[0].join("var/lib/mysql"));
    datadir.remove(&b"ibtmp1"[..]);
    assert_equal(&datadir, &place.path("back/datadir"), Leave::default(), "datadir");
    assert!(place.path("back/datadir/dw/lineitem.frm").exists());
    let restored = json(&place.expect(0, "restore -r @/repository latest --target @/b --json"));
    let steps = restored["reload"].as_array().unwrap();
    assert!(steps.iter().any(|step| step.as_str().unwrap().contains("load dw.orders from erp.")));
    place.expect(0, "check -r @/repository --read-data").silent();
    let note = "note: without the rows of 7 tables";
    place.expect(0, "ls -r @/repository latest --component config").complains(note);

    // The next night needs no word; everything goes on as if the rest was all there is.
    become_night(&nights[1], &place.path("live"));
    wait_until_not_racy();
    let second = json(&place.expect(0, &format!("{BACKUP} --json")));
    assert_eq!(second["record"]["fingerprint"], record["fingerprint"]);
    assert!(second["files_unmodified"].as_u64().unwrap() > 0);
    // In place: what was left out stays, what is in no snapshot goes.
    place.expect(0, "backup -r @/repository --root @/live --host db1 --tag full -q");
    place.expect(0, "restore -r @/repository latest --target @/full -q");
    let kept = divided_at(&place.path("full/dbroot/1")).0;
    assert!(kept.len() > 80);
    write(place.path("full/dbroot/1/stray"), "stray");
    let delta = "restore -r @/repository latest~1 --target @/full --delta --json";
    let restored = json(&place.expect(0, delta));
    assert_eq!(restored["files_deleted"], 1);
    assert!(!place.path("full/dbroot/1/stray").exists());
    assert_eq!(divided_at(&place.path("full/dbroot/1")).0, kept);
    // After a full backup in between, the settings have to be confirmed anew.
    place.expect(1, BACKUP).complains("nobody has confirmed that");
}

/// Catches a slip of the pen that makes a backup leave out rows: a table without a step, a new table,
/// other settings, another host, another deployment, a first object id that takes in the catalog.
/// Each is an error that names what is wrong, and leaves no snapshot.
#[test]
fn nothing_is_left_out_by_mistake() {
    let (place, _) = with_nights(1);
    let mut told = Transcript::new(&place);
    let mut refused = |title: &str, file: &str, options: &str| {
        write(place.path("erp.toml"), file);
        told.title(title);
        // What no option takes is a matter of usage, wherever it is said.
        let code = if title == "a misspelt source" { 2 } else { 1 };
        told.run(code, &format!("{BACKUP} --apply-record -q {options}"));
        assert!(place.snapshots("repository").is_empty(), "{title}");
    };
    let all = settings(&TABLES);
    refused("no procedure", "[record]\nsource = 'database'\n", "");
    refused("a table without a step", &settings(&TABLES[1..]), "");
    refused("a misspelt table", &all.replace("dw.orders", "dw.order"), "");
    refused("a misspelt source", &all.replace("\"database\"", "\"databse\""), "");
    refused("steps, but nobody said where they come from", &all.replace("source = ", "#"), "");
    refused("a password", &all.replace("cpimport dw trades", "mariadb -psecret | cpimport"), "");
    refused(
        "data files of a database",
        &format!("{}\n", all.replace("[record]", "[record]\ndata = ['/x']")),
        "",
    );
    refused("files without data", &all.replace("\"database\"", "\"files\""), "");
    refused("data files that are not there", &all, "--record files --record-data /srv/load");
    fs::create_dir_all(place.path("live/srv/unmounted/lost+found")).unwrap();
    refused(
        "a disk with data files that is not mounted",
        &all,
        "--record files --record-data /srv/unmounted",
    );
    refused("data files that are the data", &all, "--record files --record-data /var/lib/mysql/dw");
    refused("data files that are everything", &all, "--record files --record-data /");
    told.compare("record-mistakes.txt");

    // Confirmed, once. Each change asks again.
    write(place.path("erp.toml"), &all);
    place.expect(0, &format!("{BACKUP} --apply-record -q"));
    place.expect(0, &format!("{BACKUP} -q")).silent();
    let again = place.expect(0, &format!("{BACKUP} -q --apply-record"));
    again.complains("warning: --apply-record was not needed");
    for (options, file) in [
        ("--host db2", all.clone()),
        ("--host db1 --deployment other", all.clone()),
        ("--host db1 --record-database erp2", all.clone()),
        ("--host db1", all.replace("/srv/load/orders.tbl", "/srv/load/orders-new.tbl")),
    ] {
        write(place.path("erp.toml"), file);
        let ran = place.expect(1, &BACKUP.replace("--host db1", options));
        ran.complains("nobody has confirmed that").complains("--apply-record");
    }
    write(place.path("erp.toml"), &all);
    // What the deployment cannot be asked about stays: a schema behind a link, an odd definition.
    let mysql = place.path("live/var/lib/mysql");
    fs::rename(mysql.join("dw"), place.path("live/elsewhere")).unwrap();
    symlink(place.path("live/elsewhere"), mysql.join("dw")).unwrap();
    place.expect(1, BACKUP).complains("a schema that is a directory expected, found a link");
    fs::remove_file(mysql.join("dw")).unwrap();
    fs::rename(place.path("live/elsewhere"), mysql.join("dw")).unwrap();
    symlink("/nowhere", mysql.join("dw/linked.frm")).unwrap();
    place.expect(1, BACKUP).complains("linked.frm: a table definition in a file");
    fs::remove_file(mysql.join("dw/linked.frm")).unwrap();
    // A table that was dropped: its steps stay behind, and a restore does not carry them out.
    let definition = mysql.join("dw/sensor_lz4.frm");
    fs::rename(&definition, place.path("kept.frm")).unwrap();
    place.expect(0, &format!("{BACKUP} -q"));
    let restored = place.expect(0, "restore -r @/repository latest --target @/dropped").out;
    assert!(restored.contains("load dw.orders") && !restored.contains("sensor_lz4"), "{restored}");
    fs::rename(place.path("kept.frm"), &definition).unwrap();
    // A part that was restored is no deployment whose tables are to be dropped.
    let part = "restore -r @/repository latest --target @/part --path /etc/my.cnf";
    let restored = place.expect(0, part).out;
    assert!(!restored.contains("to do") && !restored.contains("without the rows"), "{restored}");
    // A table that was made since.
    let dw = place.path("live/var/lib/mysql/dw");
    fs::copy(dw.join("orders.frm"), dw.join("orders@002d2027.frm")).unwrap();
    let ran = place.expect(1, &format!("{BACKUP} --apply-record"));
    ran.complains("found none for dw.orders-2027");
    // One of another engine needs none.
    fs::remove_file(dw.join("orders@002d2027.frm")).unwrap();
    fs::copy(place.path("live/var/lib/mysql/app/users.frm"), dw.join("users.frm")).unwrap();
    place.expect(0, &format!("{BACKUP} -q"));
    // The system catalog stays, whatever Columnstore.xml says.
    let xml = place.path("live/etc/columnstore/Columnstore.xml");
    let text = fs::read_to_string(&xml).unwrap();
    write(&xml, text.replace("<FirstOID>3000<", "<FirstOID>1<"));
    place.expect(0, &format!("{BACKUP} -q"));
    place.expect(0, "restore -r @/repository latest --target @/back -q");
    let (_, others) = divided(&place.path("live"));
    assert_eq!(divided_at(&place.path("back/dbroot/1")).1.len(), others.len());
    write(&xml, text.replace("<FirstOID>3000<", "<FirstOID>many<"));
    place.expect(1, BACKUP).complains("FirstOID in Columnstore.xml: a number expected");
    write(&xml, &text);
    // Said to be in ColumnStore, everything is stored, steps or not.
    let full = json(&place.expect(0, &format!("{BACKUP} --record columnstore --json")));
    assert_eq!(full["record"]["left_out"], serde_json::json!([]));
    assert_eq!(full["record"]["assumed"], false);
    assert!(full["files_new"].as_u64().unwrap() > 80, "{full}");
}

/// Catches data files that are the origin of the rows and are not in the snapshot, and a snapshot of
/// a program that did not know of a system of record that cannot be read any more.
#[test]
fn data_files_are_a_component_and_old_snapshots_are_read() {
    let (place, _) = with_nights(1);
    write(place.path("live/srv/load/lineitem.tbl"), "1|2|3\n");
    write(place.path("live/srv/load/old/orders.tbl"), "4|5|6\n");
    write(place.path("live/srv/other"), "not asked for");
    let file = settings(&TABLES).replace(
        "source = \"database\"\ndatabase = \"erp\"",
        "source = \"files\"\ndata = [\"/srv/load\"]",
    );
    write(place.path("erp.toml"), file);
    place.expect(1, BACKUP).complains("nobody has confirmed that");
    // Rows must not be left out for files that are not in the snapshot.
    let elsewhere = place.path("elsewhere.tbl");
    write(&elsewhere, "7|8|9\n");
    let link = place.path("live/srv/load/new.tbl");
    symlink(&elsewhere, &link).unwrap();
    let apply = format!("{BACKUP} --apply-record");
    place.expect(1, &apply).complains("new.tbl: all data files").complains("a symbolic link");
    fs::remove_file(&link).unwrap();
    symlink("old/orders.tbl", &link).unwrap();
    let excluding = format!("{apply} --exclude *.tbl");
    place.expect(1, &excluding).complains("/srv/load/").complains("excluded by the user");
    assert!(place.snapshots("repository").is_empty());
    place.expect(0, &apply);
    place.expect(1, &format!("{BACKUP} --exclude lineitem.tbl")).complains("lineitem.tbl");
    let snapshots = json(&place.expect(0, "snapshots -r @/repository --json"));
    assert_eq!(snapshots[0]["record"]["source"], "files");
    assert_eq!(snapshots[0]["record"]["data"], serde_json::json!(["/srv/load"]));
    let restored = place.expect(0, "restore -r @/repository latest --target @/back").silent().out;
    let first = "  1. put the component record back where the load commands look for it: /srv/load";
    assert!(restored.lines().any(|line| line == first), "{restored}");
    let data = compare::read(&place.path("live/srv/load"));
    assert_equal(&data, &place.path("back/record/srv/load"), Leave::default(), "record");
    assert!(!place.path("back/record/srv/other").exists());
    assert_eq!(divided_at(&place.path("back/dbroot/1")).0.len(), 0);

    // The same snapshot as a program wrote it that had not heard of this.
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::open(place.path("repository")));
    let own: SessionId = place.snapshots("repository")[0].parse().unwrap();
    let bytes = backend.get(&Key::Snapshot(own), 1 << 20).unwrap();
    let (_, body) = open_record(&bytes, "snapshot").unwrap();
    let mut snapshot: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert!(snapshot.as_object_mut().unwrap().remove("record").is_some());
    let session = SessionId(random());
    let repository = read_config(&*backend).unwrap().repository;
    let header = Header::new(ObjectKind::Snapshot, 0, repository, session);
    let body = serde_json::to_vec(&snapshot).unwrap();
    backend.put_new(&Key::Snapshot(session), &[&seal_record(&header, &body)]).unwrap();
    let line = format!("restore -r @/repository {session} --target @/old");
    let restored = place.expect(0, &line).silent().out;
    assert!(!restored.contains("to do, in this order"), "{restored}");
    let all = json(&place.expect(0, "snapshots -r @/repository --json"));
    let old = all.as_array().unwrap().iter().find(|one| one["id"] == session.to_string()).unwrap();
    assert!(old.get("record").is_none());
    // It confirms nothing.
    fs::remove_file(place.path("repository/snapshots").join(own.to_string())).unwrap();
    place.expect(1, BACKUP).complains("nobody has confirmed that");
}
