//! How the program ends: each exit code, and what it says to whoever gave it something wrong.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::sync::Arc;

use colvault_engine::backend::{Backend, Key, LocalBackend};
use colvault_engine::format::{Header, ObjectKind, seal_record};
use colvault_engine::id::SessionId;
use colvault_engine::repository::read_config;
use colvault_engine::testing::trees::{Random, files_below, mixed_bytes, write_tree};
use rustix::process::Signal;

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::deployment::{DBROOT, Deployment, SEGMENT};
use crate::support::nights::bundled;
use crate::support::program::{
    Place, Ran, Started, Transcript, listing, names, program, run_other, write,
};
use crate::support::require_root;

/// Bytes that take a backup a second or more: packs are small and each is made durable.
const LARGE_BYTES: usize = 96 << 20;

/// Makes a repository of small packs and a tree that takes a while to be stored in it.
fn slow_backup(place: &Place) {
    let mut random = Random::new(11);
    for number in 0..24 {
        write(place.path("source").join(format!("{number}")), random.bytes(LARGE_BYTES / 24));
    }
    place.expect(0, "init -r @/repository --pack-size 1");
}

/// Starts that backup and returns when packs were stored.
fn start_slow_backup(place: &Place) -> Started {
    let mut backup = place.start("backup -r @/repository @/source --threads 1 --host h");
    backup.wait_until("packs were stored", || packs(place) >= 4);
    backup
}

fn packs(place: &Place) -> usize {
    files_below(&place.path("repository/packs")).unwrap().len()
}

/// Catches a backup that a signal ends without a trace of it: a snapshot of half a tree, a lease
/// that stays, packs that are stored again next time; and another exit code than 130.
#[test]
fn a_signal_ends_a_backup_at_a_safe_place() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        slow_backup(&place);
        let mut told = Transcript::new(&place);
        let backup = start_slow_backup(&place);
        backup.signal(signal);
        let ended = backup.end().ended(130);
        told.add(&ended);
        told.compare("interrupted.txt");
        for empty in ["snapshots", "leases", "tmp"] {
            let path = place.path("repository").join(empty);
            assert_eq!(names(&path), Vec::<String>::new(), "{signal:?}: {empty} is empty");
        }
        let stored = packs(&place);
        assert!((4..LARGE_BYTES >> 20).contains(&stored), "{signal:?}: {stored} packs");

        let again = place.expect(0, "backup -r @/repository @/source --json").silent().out;
        let figure = |name: &str| -> u64 {
            let line = again.lines().find(|line| line.contains("\"summary\"")).unwrap();
            let rest = line.split(&format!("\"{name}\":")).nth(1).unwrap();
            rest[..rest.find([',', '}']).unwrap()].parse().unwrap()
        };
        assert_eq!(figure("total_bytes_processed"), (LARGE_BYTES / 24 * 24) as u64);
        // Random bytes do not pack: a pack holds about 1 MiB of what was read.
        let found = figure("bytes_deduplicated");
        assert!(found >= (stored as u64 - 1) << 20, "{found} bytes of {stored} packs");
        let added = figure("data_added");
        assert!(added < LARGE_BYTES as u64 - found + (1 << 20), "{added} bytes were added");
        place.expect(0, "check -r @/repository --read-data").silent();
    }
}

/// Catches a backup that commits although its session was revoked, or that ends with another code
/// than 11.
#[test]
fn a_revoked_session_does_not_commit() {
    let place = Place::new();
    slow_backup(&place);
    let backup = start_slow_backup(&place);
    let leases = names(&place.path("repository/leases"));
    assert_eq!(leases.len(), 1);
    let session: SessionId = leases[0].parse().unwrap();
    let backend: Arc<dyn Backend> = Arc::new(LocalBackend::open(place.path("repository")));
    let repository = read_config(&*backend).unwrap().repository;
    let header = Header::new(ObjectKind::Tombstone, 0, repository, session);
    backend.put_new(&Key::Snapshot(session), &[&seal_record(&header, b"{}")]).unwrap();
    let ended = backup.end().ended(11);
    assert_eq!(ended.out, "");
    assert_eq!(
        place.normalised(&ended.err),
        "error: snapshots/<snapshot-1>: this session was revoked; what it uploaded is found again \
         by the next backup\nhint: run the command once more\n"
    );
    assert_eq!(names(&place.path("repository/leases")), Vec::<String>::new());
    assert_eq!(place.expect(0, "snapshots -r @/repository").out, "0 snapshots\n");
    place.expect(1, "restore -r @/repository latest --target @/back");
    place.expect(0, "backup -r @/repository @/source");
    assert!(place.expect(0, "snapshots -r @/repository").out.ends_with("\n1 snapshot\n"));
}

/// Catches two processes that disturb each other in a repository and a cache both use.
#[test]
fn two_processes_back_up_at_once() {
    let place = Place::quick();
    for (name, seed) in [("one", 1), ("two", 2)] {
        write_tree(&place.path(name).join("own"), seed, 20, 400_000).unwrap();
        write_tree(&place.path(name).join("shared"), 3, 20, 400_000).unwrap();
    }
    place.expect(0, "init -r @/repository --pack-size 1");
    for round in 0..3 {
        let started = ["one", "two"].map(|name| {
            place.start(&format!("backup -r @/repository @/{name} --host {name}{round}"))
        });
        for ran in started.map(Started::end) {
            ran.ended(0).silent();
        }
        for name in ["one", "two"] {
            let source = place.path(name);
            let target = format!("back/{name}{round}");
            let line =
                format!("restore -r @/repository latest --host {name}{round} --target @/{target}");
            place.expect(0, &line).silent();
            let back = place.path(&target).join(source.strip_prefix("/").unwrap());
            assert_equal(&compare::read(&source), &back, Leave::default(), name);
            write(source.join(format!("new{round}")), mixed_bytes(round, 100_000));
        }
    }
    place.expect(0, "check -r @/repository --read-data").silent();
}

/// Catches a command line that is half understood, or that ends with another code than 2.
#[test]
fn what_is_not_understood_is_told() {
    let place = Place::quick();
    let mut told = Transcript::new(&place);
    for line in [
        "bakcup",
        "snapshots",
        "backup -r @/repository",
        "backup -r @/repository --root @/x @/y",
        "backup -r @/repository @/x --without-secrets",
        "backup -r @/repository @/x --unsafe-live",
        "backup -r @/repository --files-from @/x --deployment shop",
        "restore -r @/repository latest",
        "restore -r @/repository latest --map datadir",
        "check -r @/repository --read-data-subset 5",
        "check -r @/repository --read-data --read-data-subset 5%",
        "snapshots -r @/repository --threads 0",
        "snapshots -r @/repository -q -v",
        "init -r @/repository --pack-size 0",
    ] {
        let ran = told.run(2, line);
        assert_eq!(ran.out, "");
    }
    told.compare("usage.txt");
    assert!(!place.path("repository").exists());
    // Given as nothing it is as if it was not given; the environment says it too.
    let mut command = place.command("snapshots");
    command.env("COLVAULT_REPOSITORY", "");
    Ran::of("snapshots", command.output().unwrap()).ended(2);
    place.expect(0, "init -r @/repository");
    let mut command = place.command("snapshots");
    command.env("COLVAULT_REPOSITORY", place.path("repository"));
    Ran::of("snapshots", command.output().unwrap()).ended(0).silent();
}

/// Catches a bucket that is named wrongly and taken for a directory or for another bucket, a repository
/// that is made in one without a word about encryption, settings that do not go together, and keys in a
/// name that are shown.
#[test]
fn a_bucket_that_makes_no_sense_is_told() {
    let place = Place::quick();
    let mut told = Transcript::new(&place);
    for line in [
        "snapshots -r s3://",
        "snapshots -r s3:/x",
        "snapshots -r s3:bucket",
        "snapshots -r s3://Bad_Bucket/prefix",
        "snapshots -r s3://bucket/../other",
        "snapshots -r S3://bucket",
        "snapshots -r s3:ftp://host/bucket",
        "snapshots -r s3:https://host",
        "init -r s3://bucket/prefix",
        "init -r @/repository --object-lock 30",
        "init -r s3://bucket --encryption aes",
        "snapshots -r s3:http://one/bucket --s3-endpoint http://other",
        "snapshots -r s3://bucket --s3-endpoint other:9000",
        "snapshots -r s3://bucket --s3-sse customer",
        "snapshots -r s3://bucket --s3-kms-key mine",
        "snapshots -r s3://bucket --s3-data-class GLACIER",
        "snapshots -r s3://bucket --s3-connections 0",
    ] {
        assert_eq!(told.run(2, line).out, "");
    }
    // In a line, @ is this place.
    let mut command = place.program();
    command.args(["snapshots", "-r", "s3:https://AKIA:s3cr3t@host/bucket"]);
    let ran = Ran::of("keys in a name", command.output().unwrap()).ended(2);
    let ran = ran.complains("an endpoint holds no access keys");
    assert!(!ran.err.contains("s3cr3t"), "{}", ran.err);
    told.compare("buckets.txt");
    assert!(names(&place.path("")).iter().all(|name| !name.starts_with("s3")), "no such directory");
}

/// Catches a store that cannot be reached, or that nobody has credentials for, and that is taken for an
/// empty one, or asked forever.
#[test]
fn a_bucket_that_cannot_be_reached_is_told() {
    let place = Place::quick();
    write(place.path("source/file"), "content");
    // Nothing listens there.
    let closed = "s3:http://127.0.0.1:1/bucket/prefix";
    let run = |code, line: &str, keys: bool| {
        let mut command = place.command(&format!("{line} --s3-attempts 2 --s3-backoff-max 1"));
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        if keys {
            command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        }
        Ran::of(line, command.output().unwrap()).ended(code)
    };
    for command in [
        "init --encryption none",
        "backup @/source",
        "snapshots",
        "ls latest",
        "restore latest --target @/t",
        "check",
        "stats",
    ] {
        let ran = run(1, &format!("{command} -r {closed}"), true);
        ran.complains("s3://bucket/prefix/config: cannot read").complains("hint: docs/S3.md");
    }
    let planned = run(3, &format!("plan @/source -r {closed}"), true);
    let planned = planned.complains("would be refused: s3://bucket/prefix/config: cannot read");
    assert!(planned.out.contains("forecast:"), "{}", planned.out);
    run(1, &format!("snapshots -r {closed}"), false).complains("no credentials");
    // Whoever switches the check of certificates off is told so each time.
    let warned = run(1, "snapshots -r s3:https://127.0.0.1:1/bucket --s3-insecure-tls", true);
    warned.complains("warning: certificates of the store are not verified");
    assert!(!place.path("t").exists());
}

/// Catches a repository that is made where something else is, deleted or overwritten content of
/// others, and a missing, foreign, newer or damaged repository taken for a good one: 10, 13, 20.
#[test]
fn what_is_no_usable_repository_is_told() {
    let place = Place::quick();
    write(place.path("source/file"), "content");
    write(place.path("a-file"), "not a directory");
    fs::create_dir(place.path("empty")).unwrap();
    write(place.path("foreign/photo.jpg"), "precious");
    write(place.path("foreign/packs/notes.txt"), "precious too");
    let foreign = listing(&place.path("foreign"));
    let mut told = Transcript::new(&place);
    for repository in ["missing", "a-file", "a-file/below", "empty", "foreign"] {
        told.run(10, &format!("backup -r @/{repository} @/source"));
        for command in ["snapshots", "ls latest", "restore latest --target @/t", "check"] {
            place.expect(10, &format!("-r @/{repository} {command}")).complains("error: ");
        }
    }
    assert!(!place.path("missing").exists() && names(&place.path("empty")).is_empty());
    told.run(1, "init -r @/a-file");
    told.run(1, "init -r @/a-file/below");
    told.run(1, "init -r @/foreign");
    told.run(1, "init -r @/empty --chunk-size-min 64");
    told.run(2, "init -r @/empty --slot-block-size 96");
    assert!(names(&place.path("empty")).is_empty(), "nothing is made of options without sense");
    assert_eq!(listing(&place.path("foreign")), foreign, "nothing was touched");
    assert_eq!(fs::read(place.path("a-file")).unwrap(), b"not a directory");
    told.run(13, "snapshots -r sftp://host/x");
    place.expect(13, "init -r sftp://host/x");

    told.run(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository @/source");
    let mine = listing(&place.path("repository"));
    told.run(1, "init -r @/repository");
    assert_eq!(listing(&place.path("repository")), mine, "nothing was touched");
    let all = ["backup @/source", "snapshots", "ls latest", "restore latest --target @/t", "check"];
    let mut each = |code, what: &str| {
        told.title(what);
        for command in all {
            told.run(code, &format!("-r @/repository {command}"));
        }
        assert!(!place.path("t").exists());
    };
    write(place.path("repository/features/erasure-coding"), "whatever");
    each(13, "a feature of a later version");
    fs::remove_file(place.path("repository/features/erasure-coding")).unwrap();
    let config = place.path("repository/config");
    let good = fs::read(&config).unwrap();
    fs::write(&config, resealed(&good, |bytes| bytes[26] = 2)).unwrap();
    each(13, "a later format version");
    fs::write(&config, resealed(&good, |bytes| bytes[32] |= 1 << 5)).unwrap();
    each(13, "a feature that only the header names");
    fs::write(&config, &good[..good.len() - 40]).unwrap();
    each(20, "config cut short");
    fs::write(&config, "").unwrap();
    each(20, "config empty");
    fs::write(&config, good).unwrap();
    place.expect(0, "check -r @/repository --read-data").silent();
    told.compare("repositories.txt");
}

/// Returns a record with a change and a checksum that holds.
fn resealed(record: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut content = record[..record.len() - 32].to_vec();
    change(&mut content);
    let checksum = colvault_engine::id::hash_stored(&[&content]);
    [content, checksum.to_vec()].concat()
}

/// Catches a restore that begins without a slot packer that it will need, and a snapshot of a later
/// program that cannot even be listed.
#[test]
fn an_unknown_packer_is_told_before_anything_is_written() {
    let place = Place::new();
    let nights = bundled(&place.path(""), 1);
    let live = nights[0].file_name().unwrap().to_str().unwrap();
    place.expect(0, "init -r @/repository");
    place.expect(0, &format!("backup -r @/repository --root @/{live} --host db1"));
    let snapshot = place.path("repository/snapshots").join(&place.snapshots("repository")[0]);
    let good = fs::read(&snapshot).unwrap();
    let later = resealed(&good, |bytes| {
        let at = bytes.windows(8).position(|name| name == b"snappy-1").expect("it is needed");
        bytes[at..at + 8].copy_from_slice(b"snappy-9");
    });
    fs::write(&snapshot, later).unwrap();
    for command in [
        "restore latest --target @/back",
        "restore latest --target @/back --dry-run",
        "restore latest --target @/back --component config",
        "dump latest --output @/back",
    ] {
        place
            .expect(13, &format!("-r @/repository {command}"))
            .complains("it needs the slot packer \"snappy-9\", which this program lacks")
            .complains("hint: use a newer colvault");
        assert!(!place.path("back").exists(), "{command}");
    }
    place.expect(0, "snapshots -r @/repository");
    place.expect(0, "ls -r @/repository latest");
    fs::write(&snapshot, good).unwrap();
    place.expect(0, "restore -r @/repository latest --target @/back");
}

/// Catches damage that is not told by name, or ends with another code than 20; a restore that
/// passes lost content for whole; and a next backup that does not mend what it can.
#[test]
fn damage_ends_with_20_and_a_new_backup_mends_it() {
    let place = Place::quick();
    let deployment = Deployment::small(place.path("live"));
    let mut told = Transcript::new(&place);
    place.expect(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";
    place.expect(0, backup);
    let packs = files_below(&place.path("repository/packs")).unwrap();
    let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::rename(largest, place.path("kept")).unwrap();
    told.title("a pack is missing");
    told.run(20, "check -r @/repository");
    told.run(3, "restore -r @/repository latest --target @/back");
    told.run(3, backup);
    // Nothing is lost any more, but the index still names the pack.
    told.run(20, "check -r @/repository");
    told.run(0, "restore -r @/repository latest --target @/back --delta");
    assert!(
        deployment
            .is_equal(SEGMENT, &place.path("back/dbroot/1").join(&SEGMENT[DBROOT.len() + 1..]))
    );
    told.title("a snapshot is damaged");
    let id = &place.snapshots("repository")[0];
    let snapshot = place.path("repository/snapshots").join(id);
    let bytes = fs::read(&snapshot).unwrap();
    fs::write(&snapshot, &bytes[..bytes.len() / 2]).unwrap();
    let listed = place.expect(3, "snapshots -r @/repository");
    assert!(listed.out.ends_with("\n1 snapshot\n"), "{}", listed.out);
    listed.complains(&format!("damaged-object: snapshots/{id}: checksum does not hold"));
    told.run(20, "check -r @/repository");
    told.compare("damage.txt");
}

/// Catches findings in a source that do not reach exit code 3 and the snapshot's state: a link out
/// of the deployment, what an interrupted write left, a file that cannot be read.
#[test]
fn findings_end_with_3_and_mark_the_snapshot() {
    require_root("another user");
    let place = Place::new();
    let deployment = Deployment::small(place.path("live"));
    let mut told = Transcript::new(&place);
    told.run(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";
    told.run(0, &format!("{backup} -q"));
    deployment.file(&format!("{SEGMENT}.chk"), b"old");
    told.run(3, backup);
    symlink("/far/away", deployment.path("var/lib/mysql/far")).unwrap();
    told.run(3, backup);
    told.run(3, &format!("{backup} -q"));
    told.run(3, "check -r @/repository");
    told.run(0, "restore -r @/repository latest --latest-good --target @/back");
    told.compare("findings.txt");

    // Somebody who may not read everything.
    fs::set_permissions(place.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    fs::copy(program(), place.path("colvault")).unwrap();
    write(place.path("mine/open"), "open");
    write(place.path("mine/shut"), "shut");
    fs::set_permissions(
        place.path("mine/shut"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    run_other("mkdir", &["-m", "777", &place.unfolded("@/theirs")]);
    let as_nobody = |code, line: &str| {
        let command = place.command(line);
        let mut other = std::process::Command::new(place.path("colvault"));
        other.args(command.get_args()).env_clear().uid(65534).gid(65534);
        other.env("XDG_CACHE_HOME", place.path("theirs")).current_dir("/");
        Ran::of(line, other.output().unwrap()).ended(code)
    };
    as_nobody(0, "init -r @/theirs/repository").silent();
    run_other("chmod", &["600", &place.unfolded("@/live/etc/columnstore/Columnstore.xml")]);
    let xml =
        place.unfolded("@/live/etc/columnstore/Columnstore.xml: cannot read: Permission denied");
    as_nobody(1, "backup -r @/theirs/repository --root @/live").complains(&xml);
    let ran = as_nobody(3, "backup -r @/theirs/repository @/mine");
    let said = place.unfolded("unreadable: @/mine/shut: cannot open: Permission denied");
    let ran = ran.complains(&said);
    assert!(ran.out.contains("saved, partial"), "{}", ran.out);
    let listed = as_nobody(0, "ls -r @/theirs/repository latest -l").complains("is partial").out;
    assert!(listed.contains("/mine/shut"), "{listed}");
}

/// Catches a deployment that is half understood: a wrong or missing configuration, a DB Root that
/// is not there or not mounted, storage of a kind that is not supported yet.
#[test]
fn deployments_that_make_no_sense_are_told() {
    let place = Place::quick();
    place.expect(0, "init -r @/repository");
    let before = listing(&place.path("repository"));
    let mut told = Transcript::new(&place);
    let mut number = 0;
    let mut case = |title: &str, code: i32, change: &dyn Fn(&Deployment)| {
        number += 1;
        let deployment = Deployment::small(place.path(&format!("live{number}")));
        change(&deployment);
        told.title(title);
        told.run(code, &format!("backup -r @/repository --root @/live{number}"));
    };
    let xml = "etc/columnstore/Columnstore.xml";
    let data1 = (1, "/var/lib/columnstore/data1");
    case("no Columnstore.xml", 1, &|live| live.remove(xml));
    case("a directory in its place", 1, &|live| {
        live.remove(xml);
        fs::create_dir(live.path(xml)).unwrap();
    });
    case("not XML", 1, &|live| live.file(xml, b"<Columnstore><SystemConfig></Columnstore>"));
    case("no UTF-8", 1, &|live| live.file(xml, b"<Columnstore>\xff</Columnstore>"));
    case("no DB Root named", 1, &|live| live.columnstore_xml(&[], ""));
    case("two DB Roots at one place", 1, &|live| {
        live.columnstore_xml(&[data1, (2, "/var/lib/columnstore/data1")], "");
    });
    case("a DB Root is missing", 1, &|live| {
        live.columnstore_xml(&[data1, (2, "/var/lib/columnstore/data2")], "");
    });
    case("a DB Root is empty", 1, &|live| {
        live.columnstore_xml(&[data1, (2, "/var/lib/columnstore/data2")], "");
        fs::create_dir(live.path("var/lib/columnstore/data2")).unwrap();
    });
    case("a DB Root is a file", 1, &|live| {
        live.columnstore_xml(&[data1, (2, "/var/lib/columnstore/data2")], "");
        live.file("var/lib/columnstore/data2", b"file");
    });
    case("one DB Root in another", 1, &|live| {
        live.columnstore_xml(&[data1, (2, "/var/lib/columnstore/data1/000.dir")], "");
    });
    case("no data directory", 1, &|live| live.remove("var/lib/mysql"));
    let cnf = "etc/columnstore/storagemanager.cnf";
    let enabled = "<StorageManager><Enabled>Y</Enabled></StorageManager>\n";
    case("object storage: the Storage Manager is on", 13, &|live| {
        live.columnstore_xml(&[data1], enabled);
        live.file(cnf, b"[ObjectStorage]\nservice = LocalStorage\n");
    });
    case("object storage: its service is S3", 13, &|live| {
        live.file(cnf, b"[ObjectStorage]\nservice = S3\n[S3]\nbucket = b\n");
    });
    case("the Storage Manager is on, without its configuration", 1, &|live| {
        live.columnstore_xml(&[data1], enabled);
    });
    told.title("no such directory");
    told.run(1, "backup -r @/repository --root @/nowhere");
    told.run(1, "backup -r @/repository @/nowhere");
    told.compare("deployments.txt");
    assert_eq!(listing(&place.path("repository")), before, "nothing was written");
}

/// Catches a deployment that is refused or half taken although it only is not the usual one: holes
/// in the numbers of DB Roots, an absolute link inside `--root`, no optional file at all.
#[test]
fn unusual_deployments_are_taken() {
    let place = Place::quick();
    let mut told = Transcript::new(&place);
    told.run(0, "init -r @/repository");
    let deployment = Deployment::small(place.path("live"));
    told.title("nothing optional");
    told.run(0, "backup -r @/repository --root @/live --host db1 -v");
    told.title("a hole in the numbers, a link, other data beside");
    deployment.columnstore_xml(&[(1, "/var/lib/columnstore/data1"), (7, "/srv/seven")], "");
    deployment.file("mnt/disk7/000.dir/FILE000.cdf", b"seven");
    deployment.file("var/lib/columnstore/data3/000.dir/FILE000.cdf", b"three");
    fs::create_dir_all(deployment.path("srv")).unwrap();
    symlink("/mnt/disk7", deployment.path("srv/seven")).unwrap();
    told.run(0, "backup -r @/repository --root @/live --host db1 --deployment warehouse");
    told.run(0, "ls -r @/repository latest --component dbroot");
    told.run(0, "restore -r @/repository latest --component dbroot/7 --target @/back");
    told.compare("unusual.txt");
    let seven = place.path("back/dbroot/7/000.dir/FILE000.cdf");
    assert!(deployment.is_equal("mnt/disk7/000.dir/FILE000.cdf", &seven));
    assert!(fs::symlink_metadata(place.path("back/dbroot/7")).unwrap().is_dir());
}

/// Catches a backup of its own repository or cache, and a repository written into its source.
#[test]
fn own_directories_are_kept_out() {
    let place = Place::quick();
    write(place.path("source/file"), "content");
    let mut told = Transcript::new(&place);
    told.run(0, "init -r @/source/repository");
    told.run(1, "backup -r @/source/repository @/source");
    told.run(1, "backup -r @/source/repository @/source/repository/packs");
    told.run(
        0,
        "backup -r @/source/repository @/source --exclude @/source/repository --dry-run -q",
    );
    told.run(0, "init -r @/repository");
    told.run(1, "backup -r @/repository @/source --cache-dir @/source/cache");
    told.run(0, "backup -r @/repository @/source -e repository --cache-dir @/source/cache -e @/source/cache -q");
    told.run(1, "backup -r @/repository @/cache @/source/file");
    told.run(0, "backup -r @/repository @/source/file --no-cache -q");
    symlink(place.path("repository"), place.path("source/link")).unwrap();
    told.title("a link is only a link");
    told.run(0, "backup -r @/repository @/source/link @/source/file -q");
    told.compare("own.txt");
    assert_eq!(place.expect(0, "ls -r @/repository latest:@/source/link").out.lines().count(), 1);
}

/// Catches a choice of snapshot, component or path that is guessed; a restore over something that
/// is there; and one into the repository.
#[test]
fn restores_that_make_no_sense_are_refused() {
    let place = Place::quick();
    Deployment::small(place.path("live"));
    let mut told = Transcript::new(&place);
    place.expect(0, "init -r @/repository");
    told.run(1, "restore -r @/repository latest --target @/back");
    let backup = "backup -r @/repository --root @/live --host db1 -q";
    place.expect(0, backup);
    // Ids are random: more of them than digits, so that two begin alike.
    let first_digits =
        || -> Vec<String> { place.snapshots("many").iter().map(|id| id[..1].to_owned()).collect() };
    place.expect(0, "init -r @/many");
    let twice = loop {
        place.expect(0, "backup -r @/many --root @/live -q");
        let digits = first_digits();
        let found = digits.iter().find(|digit| digits.iter().filter(|d| d == digit).count() > 1);
        if let Some(digit) = found.cloned() {
            break digit;
        }
    };
    let ambiguous = place.expect(1, &format!("restore -r @/many {twice} --target @/back"));
    assert_eq!(
        ambiguous.err,
        format!(
            "error: snapshot \"{twice}\": one snapshot expected, several have ids that begin like \
             this\nhint: colvault snapshots lists what there is\n"
        )
    );
    for snapshot in ["xyz", "latest~99", "latest~", "latest~x", "latestx", ":/etc"] {
        told.run(1, &format!("restore -r @/repository {snapshot} --target @/back"));
        place.expect(1, &format!("ls -r @/repository {snapshot}"));
    }
    told.run(1, "ls -r @/repository latest:/nowhere");
    told.run(1, "ls -r @/repository latest --component dbroot/2");
    for choice in [
        "latest --component dbroot/2",
        "latest --map datadir2=@/back",
        "latest:/nowhere",
        "latest --path shop/nothing",
        "latest --include nothing",
        "latest --map datadir=@/back --map dbroot/1=@/back/below",
    ] {
        let target = if choice.contains("--map") { "" } else { " --target @/back" };
        told.run(1, &format!("restore -r @/repository {choice}{target}"));
    }
    assert!(!place.path("back").exists());
    write(place.path("full/datadir/precious"), "precious");
    let full = listing(&place.path("full"));
    told.run(1, "restore -r @/repository latest --target @/full");
    assert_eq!(listing(&place.path("full")), full);
    write(place.path("a-file"), "file");
    told.run(1, "restore -r @/repository latest --target @/a-file");
    let before = listing(&place.path("repository"));
    told.run(1, "restore -r @/repository latest --target @/repository/back");
    told.run(1, "restore -r @/repository latest --target @/repository --delta");
    told.run(1, "restore -r @/repository latest --map datadir=@ --delta");
    told.run(1, "restore -r @/repository latest --map datadir=@/cache/colvault --delta");
    assert_eq!(listing(&place.path("repository")), before);
    told.compare("restores.txt");
}

/// Catches a program that needs a home directory, or keeps its cache somewhere else than it says.
#[test]
fn without_a_home_the_cache_is_the_hosts() {
    require_root("a mount of its own");
    let place = Place::quick();
    write(place.path("source/file"), "content");
    place.expect(0, "init -r @/repository");
    let command = place.command("backup -r @/repository @/source");
    // /var/cache as this process alone sees it.
    let script = "mount -t tmpfs t /var/cache && \"$@\" && ls /var/cache/colvault";
    let run = |home: &[(&str, &str)]| {
        let mut shell = std::process::Command::new("unshare");
        shell.args(["--mount", "sh", "-c", script, "sh"]).arg(command.get_program());
        shell.args(command.get_args()).env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        shell.envs(home.iter().copied());
        shell.output().unwrap()
    };
    let ran = Ran::of("backup without HOME", run(&[])).ended(0).silent();
    let id = ran.out.lines().last().unwrap();
    assert_eq!(id.len(), 32, "the cache has the repository's id: {}", ran.out);
    // A home that is no absolute path is none.
    let ran = Ran::of("backup with HOME=here", run(&[("HOME", "here")])).ended(0).silent();
    assert_eq!(ran.out.lines().last(), Some(id));
    let home = place.path("home");
    let ran = run(&[("HOME", home.to_str().unwrap())]);
    assert_ne!(ran.status.code(), Some(0), "there is nothing in /var/cache then");
    assert_eq!(names(&home.join(".cache/colvault")), [id]);
    assert_eq!(names(&place.path("cache")), Vec::<String>::new());
}
