//! A plan: what a backup would take, read and store, compared with what it then does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use colvault_engine::testing::trees::mixed_bytes;
use serde::Deserialize;

use crate::support::deployment::{Deployment, SEGMENT};
use crate::support::nights::{become_night, bundled};
use crate::support::program::{Other, Place, Transcript, listing, write};
use crate::support::{require_root, wait_until_not_racy};

/// A line of a plan.
#[derive(Debug, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case", deny_unknown_fields)]
enum Message {
    Note { message: String },
    Warning { message: String },
    Finding { kind: String, object: String, detail: String },
    Credential { path: String, what: String, stored: bool },
    Summary(Box<Summary>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Summary {
    kind: String,
    group: String,
    hostname: String,
    total_files: u64,
    total_bytes: u64,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    bytes_to_read: u64,
    parent: Option<String>,
    slots: Option<String>,
    switches_slots: bool,
    compression: String,
    components: Vec<Component>,
    left_out: Vec<LeftOut>,
    num_left_out: u64,
    missing_optional: Vec<String>,
    bucket: Option<String>,
    record: Option<serde_json::Value>,
    daemons: Vec<Daemon>,
    programs: Vec<Program>,
    forecast: Forecast,
    repository: Option<Repository>,
    obstacles: Vec<Obstacle>,
    findings: BTreeMap<String, u64>,
    num_findings: u64,
    total_duration: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    name: String,
    path: String,
    files: u64,
    directories: u64,
    symlinks: u64,
    others: u64,
    bytes: u64,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    bytes_to_read: u64,
    file_system: Option<FileSystem>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSystem {
    kind: String,
    free_bytes: u64,
    cloning: String,
}

#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    component: String,
    path: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Daemon {
    name: String,
    pid: Option<u32>,
    evidence: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    name: String,
    purpose: String,
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Forecast {
    basis: String,
    snapshots: Vec<String>,
    bytes_to_read: u64,
    bytes_stored: Option<u64>,
    seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repository {
    location: String,
    file_system: Option<FileSystem>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Obstacle {
    code: u8,
    message: String,
    hint: Option<String>,
}

fn messages(place: &Place, code: i32, line: &str) -> Vec<Message> {
    let ran = place.expect(code, &format!("plan {line} --json")).silent();
    let read =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    ran.out.lines().map(read).collect()
}

fn plan(place: &Place, code: i32, line: &str) -> Summary {
    match messages(place, code, line).pop() {
        Some(Message::Summary(summary)) => *summary,
        other => panic!("a summary comes last: {other:?}"),
    }
}

/// The fields of the last line that a command writes.
fn last_line(place: &Place, line: &str) -> serde_json::Value {
    let ran = place.expect(0, &format!("{line} --json")).silent();
    serde_json::from_str(ran.out.lines().last().unwrap()).unwrap()
}

/// Catches a plan that says something else than the backup then does, on each night of a real
/// deployment: what is taken, left out, new, changed, unchanged and read; and an estimate that
/// rests on other snapshots than it says.
#[test]
fn a_plan_foretells_what_the_backup_does() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 3);
    let live = place.path("live");
    place.expect(0, "init -r @/repository");
    let source = "-r @/repository --root @/live --host db1";
    for (number, night) in nights.iter().enumerate() {
        become_night(night, &live);
        wait_until_not_racy();
        let planned = plan(&place, 0, source);
        let done = last_line(&place, &format!("backup {source}"));
        for (foretold, name) in [
            (planned.files_new, "files_new"),
            (planned.files_changed, "files_changed"),
            (planned.files_unmodified, "files_unmodified"),
            (planned.total_files, "total_files_processed"),
            (planned.total_bytes, "total_bytes_processed"),
            (planned.bytes_to_read, "bytes_read"),
            (planned.num_left_out, "num_left_out"),
        ] {
            assert_eq!(Some(foretold), done[name].as_u64(), "night {number}: {name}");
        }
        assert_eq!(planned.parent.as_deref(), done["parent"].as_str());
        assert_eq!(planned.slots.as_deref(), done["slots"].as_str());
        assert_eq!((planned.switches_slots, planned.compression.as_str()), (false, "default"));
        assert_eq!(planned.bytes_to_read, planned.forecast.bytes_to_read);
        let known = done["bytes_deduplicated"].as_u64().unwrap();
        assert!(known <= planned.bytes_to_read, "night {number}: {known} bytes were known");
        let snapshots = last_line(&place, "snapshots -r @/repository");
        let snapshot = snapshots.as_array().unwrap().last().unwrap();
        for (planned, stored) in
            planned.components.iter().zip(snapshot["components"].as_array().unwrap())
        {
            assert_eq!(planned.name, stored["name"]);
            assert_eq!(planned.path, stored["path"]);
            for (foretold, name) in [
                (planned.files, "files"),
                (planned.directories, "directories"),
                (planned.symlinks, "symlinks"),
                (planned.others, "others"),
                (planned.bytes, "bytes"),
            ] {
                assert_eq!(Some(foretold), stored[name].as_u64(), "{} {name}", planned.name);
            }
            let files = planned.files_new + planned.files_changed + planned.files_unmodified;
            assert_eq!(files, planned.files);
            assert!(planned.bytes_to_read <= planned.bytes, "{}", planned.name);
            assert!(planned.file_system.as_ref().is_some_and(|found| found.free_bytes > 0));
        }
        let mut left_out: Vec<LeftOut> =
            serde_json::from_value(snapshot["left_out"].clone()).unwrap();
        let mut foretold = planned.left_out;
        left_out.sort();
        foretold.sort();
        assert_eq!(foretold, left_out);
        assert_eq!(planned.record.unwrap()["source"], snapshot["record"]["source"]);

        let made = place.snapshots("repository");
        let forecast = &planned.forecast;
        match number {
            0 => {
                assert_eq!(forecast.basis, "nothing");
                assert_eq!((forecast.bytes_stored, forecast.seconds), (None, None));
                assert_eq!((planned.files_new, planned.files_changed), (planned.total_files, 0));
            }
            // The second night has nothing but the first to go by, the third the second.
            1 => {
                assert_eq!((forecast.basis.as_str(), &forecast.snapshots[..]), ("full", &made[..1]))
            }
            _ => {
                assert_eq!(
                    (forecast.basis.as_str(), &forecast.snapshots[..]),
                    ("nights", &made[1..2])
                );
                assert!(planned.files_changed > 5 && planned.files_unmodified > 5);
                let stored = forecast.bytes_stored.unwrap();
                assert!(stored > 0 && stored < forecast.bytes_to_read, "{forecast:?}");
                assert!(forecast.seconds.unwrap() > 0.0);
            }
        }
    }
    let forced = plan(&place, 0, &format!("{source} --force"));
    assert_eq!((forced.files_new, forced.bytes_to_read), (forced.total_files, forced.total_bytes));
    assert_eq!((forced.parent, forced.forecast.basis.as_str()), (None, "full"));
}

/// Catches a plan that writes anything to the source or the repository: a lease, an index object,
/// a file; also where an interrupted session left packs that a backup would name.
#[test]
fn a_plan_touches_nothing() {
    let place = Place::quick();
    Deployment::small(place.path("live"));
    wait_until_not_racy();
    place.expect(0, "init -r @/repository");
    let source = "-r @/repository --root @/live --host db1";
    place.expect(0, &format!("backup {source}"));
    // As if the session had ended before its index object.
    for name in crate::support::program::names(&place.path("repository/index")) {
        fs::remove_file(place.path("repository/index").join(name)).unwrap();
    }
    fs::remove_dir_all(place.path("cache/colvault")).unwrap();
    let before = (listing(&place.path("repository")), listing(&place.path("live")));
    let planned = plan(&place, 0, source);
    assert_eq!(planned.files_unmodified, planned.total_files, "the packs are there");
    place.expect(0, &format!("plan {source} -v"));
    plan(&place, 0, &format!("{source} --no-cache --force"));
    place.expect(0, "plan --show-settings -r @/repository");
    assert_eq!(before, (listing(&place.path("repository")), listing(&place.path("live"))));
    // Without a repository nothing is made either.
    let home = (listing(&place.path("home")), listing(&place.path("tmp")));
    let planned = plan(&place, 0, "--root @/live");
    assert_eq!((planned.repository.is_none(), planned.forecast.basis.as_str()), (true, "nothing"));
    assert_eq!(home, (listing(&place.path("home")), listing(&place.path("tmp"))));
}

/// Catches a plan that keeps to itself why the backup is going to be refused, that ends with 0 then,
/// or that stops at the first reason; and what it says to people about a small deployment.
#[test]
fn what_speaks_against_a_backup_is_told() {
    require_root("a process of another name");
    let place = Place::quick();
    let deployment = Deployment::small(place.path("live"));
    deployment.file("etc/columnstore/cmapi_server.conf", b"x-api-key = 's3cr3t'\n");
    deployment.file("usr/bin/dbrmctl", b"");
    deployment.file("usr/bin/mysql", b"");
    deployment.file("var/lib/mysql/ibtmp1", b"temporary");
    place.expect(0, "init -r @/repository");
    let mut told = Transcript::new(&place);
    let mut told_to_people = place.expect(0, "plan --root @/live --host db1");
    // What the temporary directory lies on is not always the same.
    let line = |line: &str| match line.split_once(": ") {
        Some((component, rest)) if rest.ends_with(" clone files") => {
            format!("{component}: <file system>\n")
        }
        _ => format!("{line}\n"),
    };
    told_to_people.out = told_to_people.out.lines().map(line).collect();
    told.add(&told_to_people);
    told.run(10, "backup -r @/missing --root @/live --host db1");
    told.run(3, "plan -r @/missing --root @/live --host db1 -q");

    // Everything at once.
    deployment.file(&format!("{SEGMENT}.chk"), b"old");
    symlink("/far/away", deployment.path("var/lib/mysql/far")).unwrap();
    write(place.path("live/var/lib/mysql/repository/config"), "x");
    let server = Other::sleeping_as(&place.path("mariadbd"), &deployment.path("var/lib/mysql"));
    let line = "-r @/live/var/lib/mysql/repository --root @/live --host db1 --record database";
    let said = messages(&place, 3, line);
    let found: Vec<(&str, &str)> = said
        .iter()
        .filter_map(|message| match message {
            Message::Finding { kind, object, detail } if !detail.is_empty() => {
                Some((kind.as_str(), object.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        found,
        [
            ("link-leaves-component", "/var/lib/mysql/far"),
            ("interrupted-write", &format!("/{SEGMENT}.chk")),
        ]
    );
    let notes = said.iter().filter_map(|message| match message {
        Message::Note { message } | Message::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    let notes: Vec<_> = notes.collect();
    assert_eq!(notes[0], "storagemanager.cnf is missing; the Storage Manager is off");
    assert_eq!(notes.len(), 2, "{notes:?}");
    let stored = said.iter().find_map(|message| match message {
        Message::Credential { path, what, stored } => Some((path.as_str(), what.as_str(), *stored)),
        _ => None,
    });
    assert_eq!(stored, Some(("/etc/columnstore/cmapi_server.conf", "x-api-key", true)));
    let Some(Message::Summary(planned)) = said.last() else { panic!("a summary comes last") };
    let reasons: Vec<(u8, &str)> =
        planned.obstacles.iter().map(|o| (o.code, o.message.as_str())).collect();
    let expected = [
        (1, "its daemons are running: mariadbd (pid"),
        (1, "record.reload: a step for each table expected, found no reload procedure"),
        (20, "config: "),
        (1, "mysql/repository lies in it"),
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for ((code, message), (wanted, part)) in reasons.iter().zip(expected) {
        assert!(*code == wanted && message.contains(part), "{message} has {part}");
    }
    assert!(planned.obstacles[0].hint.as_ref().unwrap().contains("--unsafe-live"));
    let [daemon] = &planned.daemons[..] else { panic!("one daemon: {:?}", planned.daemons) };
    assert_eq!((daemon.name.as_str(), daemon.pid), ("mariadbd", Some(server.id())));
    assert!(daemon.evidence.contains("working directory"), "{}", daemon.evidence);
    assert_eq!((planned.num_findings, planned.findings.len()), (2, 2));
    assert_eq!(planned.hostname, "db1");
    let has = |program: &&Program| program.path.is_some() && !program.purpose.is_empty();
    let programs: Vec<_> = planned.programs.iter().filter(has).collect();
    let named: Vec<_> = programs.iter().map(|p| (p.name.as_str(), p.path.as_deref())).collect();
    assert_eq!(named, [("dbrmctl", Some("/usr/bin/dbrmctl")), ("mysql", Some("/usr/bin/mysql"))]);
    assert_eq!(planned.programs.len(), 5);
    assert!(planned.missing_optional.contains(&"/etc/columnstore/systemd.env".to_owned()));
    // The backup itself stops at the first of them.
    place.expect(1, &format!("backup {line}")).complains("its daemons are running");
    server.stop();
    told.compare("plan.txt");
}

/// Catches a deployment in object storage that a plan cannot look at, or whose bucket it does not
/// name; and plain paths, or a repository's own directory, planned otherwise than they are backed
/// up.
#[test]
fn object_storage_and_plain_paths_are_planned() {
    let place = Place::quick();
    let deployment = Deployment::small(place.path("live"));
    deployment.columnstore_xml(
        &[(1, "/var/lib/columnstore/data1")],
        "<StorageManager><Enabled>Y</Enabled></StorageManager>\n",
    );
    deployment.file(
        "etc/columnstore/storagemanager.cnf",
        b"[ObjectStorage]\nservice = S3\n[S3]\nbucket = columns\nprefix = cs/\n",
    );
    deployment.file("var/lib/columnstore/storagemanager/metadata/data1/x.meta", b"{}");
    let planned = plan(&place, 3, "--root @/live");
    assert_eq!(planned.bucket.as_deref(), Some("s3://columns/cs/"));
    assert_eq!(planned.obstacles[0].code, 13);
    assert!(planned.obstacles[0].message.contains("object storage"));
    let names: Vec<&str> = planned.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["config", "datadir", "dbroot/1", "storagemanager"]);
    assert_eq!(planned.kind, "deployment");
    place.expect(0, "init -r @/repository");
    place.expect(13, "backup -r @/repository --root @/live");

    for (name, size) in [("a", 10), ("b.tmp", 20), ("deep/c", 300_000)] {
        write(place.path("source").join(name), mixed_bytes(1, size));
    }
    wait_until_not_racy();
    place.expect(0, "backup -r @/repository @/source --exclude *.tmp");
    write(place.path("source/deep/c"), "changed");
    let planned = plan(&place, 0, "-r @/repository @/source --exclude *.tmp");
    assert_eq!((planned.kind.as_str(), planned.group), ("paths", place.unfolded("@/source")));
    assert_eq!((planned.files_new, planned.files_changed, planned.files_unmodified), (0, 1, 1));
    assert_eq!((planned.bytes_to_read, planned.num_left_out), (7, 1));
    assert!(planned.record.is_none() && planned.bucket.is_none() && planned.programs.is_empty());
    let repository = planned.repository.unwrap();
    assert_eq!(repository.location, place.unfolded("@/repository"));
    let file_system = repository.file_system.unwrap();
    assert!(["yes", "perhaps", "no"].contains(&file_system.cloning.as_str()));
    assert!(!file_system.kind.is_empty() && planned.total_duration < 60.0);
    // A name that is given on the command line goes before the deployment that is planned without.
    place.expect(1, "plan @/nowhere").complains("cannot examine");
    let own = plan(&place, 3, "-r @/repository @/repository/packs");
    assert!(own.obstacles[0].message.contains("it lies in the repository"));
    assert!(Path::new(&own.components[0].path) == Path::new("/"));
}
