//! Daemons that run while a deployment is backed up, or use what is to be restored to; among them a
//! real MariaDB server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::compare;
use crate::support::deployment::Deployment;
use crate::support::nights::id_in;
use crate::support::program::{Other, Place, Transcript, listing, run_other, write};
use crate::support::require_root;

/// Catches a backup beside a running ColumnStore that passes for a good one, a refusal that does
/// not say which process, and a restore that takes the bad one without a warning.
#[test]
fn a_backup_beside_a_running_primproc_is_refused_or_marked() {
    let place = Place::quick();
    let deployment = Deployment::small(place.path("live"));
    let mut told = Transcript::new(&place);
    told.run(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";
    told.run(0, &format!("{backup} -q"));
    let kept = listing(&place.path("repository"));
    let data = deployment.path("var/lib/columnstore/data1");
    let primproc = Other::sleeping_as(&place.path("PrimProc"), &data);
    told.title("PrimProc runs");
    let refused = told.run(1, backup);
    assert!(refused.err.contains(&format!("PrimProc (pid {}: ", primproc.id())), "{}", refused.err);
    assert_eq!(listing(&place.path("repository")), kept, "nothing was written");
    told.run(3, &format!("{backup} --unsafe-live"));
    told.run(3, "check -r @/repository");
    primproc.stop();
    told.title("it was stopped");
    let listed = place.expect(0, "snapshots -r @/repository").silent().out;
    let states: Vec<bool> =
        listed.lines().skip(2).map(|row| row.contains(" inconsistent ")).collect();
    assert_eq!(
        states,
        [false, true, false],
        "the second, and not the line with the number: {listed}"
    );
    told.run(0, "restore -r @/repository latest --target @/bad");
    told.run(0, "restore -r @/repository latest --target @/good --latest-good");
    told.run(0, "ls -r @/repository latest --component datadir");
    told.run(0, &format!("{backup} --unsafe-live"));
    told.run(0, "restore -r @/repository latest --target @/again");
    told.compare("primproc.txt");
    // One of another deployment says nothing about this.
    let other =
        Other::sleeping_as(&place.path("PrimProc2").with_file_name("DMLProc"), &place.path("home"));
    place.expect(0, &format!("{backup} -q")).silent();
    drop(other);
}

/// Catches a snapshot that passes for a good one although a server was started while its files
/// were read.
#[test]
fn a_server_started_during_a_backup_marks_the_snapshot() {
    let place = Place::new();
    let deployment = Deployment::small(place.path("live"));
    let mut random = colvault_engine::testing::trees::Random::new(5);
    for number in 0..24 {
        let content = random.bytes(4 << 20);
        deployment.file(&format!("var/lib/columnstore/data1/{number}.cdf"), &content);
    }
    place.expect(0, "init -r @/repository --pack-size 1");
    let mut backup = place.start("backup -r @/repository --root @/live --host h --threads 1");
    let packs = place.path("repository/packs");
    backup.wait_until("packs were stored", || {
        colvault_engine::testing::trees::files_below(&packs).unwrap().len() > 2
    });
    let server = Other::sleeping_as(&place.path("mariadbd"), &deployment.path("var/lib/mysql"));
    let ran = backup.end().ended(3);
    let told = format!("started during the backup: mariadbd (pid {}: ", server.id());
    let ran = ran.complains("not-frozen: ").complains(&told);
    assert!(ran.out.contains("saved, inconsistent"), "{}", ran.out);
}

/// Catches a restore into the files of a running server.
#[test]
fn a_restore_under_a_running_server_is_refused() {
    let place = Place::quick();
    Deployment::small(place.path("live"));
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository --root @/live -q");
    place.expect(0, "restore -r @/repository latest --target @/back");
    let before = listing(&place.path("back"));
    let mut told = Transcript::new(&place);
    let server = Other::sleeping_as(&place.path("mariadbd"), &place.path("back/datadir"));
    write(place.path("live/var/lib/mysql/ibdata1"), "another tablespace");
    place.expect(0, "backup -r @/repository --root @/live -q");
    for line in [
        "restore -r @/repository latest --target @/back --delta",
        "restore -r @/repository latest --target @/back --delta --dry-run",
        "restore -r @/repository latest --map datadir=@/back/datadir --delta",
        "restore -r @/repository latest --map dbroot/1=@/new --map datadir=@/back/datadir --delta",
    ] {
        told.run(1, line);
        assert_eq!(listing(&place.path("back")), before, "nothing was written");
    }
    place.expect(0, "restore -r @/repository latest --map dbroot/1=@/new");
    server.stop();
    told.run(0, "restore -r @/repository latest --target @/back --delta");
    told.compare("server.txt");
    assert_eq!(fs::read(place.path("back/datadir/ibdata1")).unwrap(), b"another tablespace");
}

/// A real server on a data directory, stopped with the test.
struct Server {
    process: Option<Other>,
    socket: PathBuf,
}

impl Server {
    fn start(place: &Place, datadir: &Path, name: &str) -> Server {
        let socket = place.path(&format!("run/{name}.sock"));
        let log = fs::File::create(place.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new("/usr/sbin/mariadbd");
        command.args([
            "--no-defaults",
            "--user=mysql",
            "--skip-networking",
            "--loose-skip-name-resolve",
        ]);
        command.arg(format!("--datadir={}", datadir.display()));
        command.arg(format!("--socket={}", socket.display()));
        command.arg(format!("--pid-file={}", place.path(&format!("run/{name}.pid")).display()));
        command.args([
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--log-bin=binlog",
        ]);
        command.env_clear().current_dir("/").stdout(Stdio::null()).stderr(log);
        let mut server = Server { process: Some(Other::start(&mut command)), socket };
        let begun = Instant::now();
        while server.ask("SELECT 1").is_none() {
            let has_ended = server.process.as_mut().unwrap().has_ended();
            assert!(
                !has_ended && begun.elapsed() < Duration::from_secs(60),
                "{name}: {}",
                fs::read_to_string(place.path(&format!("{name}.log"))).unwrap()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    fn ask(&self, statement: &str) -> Option<String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        command.arg(format!("--socket={}", self.socket.display())).args(["-e", statement]);
        let output = command.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn answers(&self, statement: &str) -> String {
        self.ask(statement).unwrap_or_else(|| panic!("{statement} is answered"))
    }

    fn stop(mut self) {
        self.process.take().unwrap().stop();
    }
}

/// What the server says of every table: rows, a sum over them, and whether it is sound.
const QUESTIONS: &str = "SELECT COUNT(*), SUM(id), MD5(GROUP_CONCAT(name ORDER BY id)) FROM shop.goods; \
     SELECT COUNT(*), SUM(CRC32(note)) FROM shop.notes; \
     CHECKSUM TABLE shop.goods, shop.notes, mysql.global_priv; \
     CHECK TABLE shop.goods, shop.notes, mysql.global_priv, mysql.proc EXTENDED";

/// Catches what no made-up process shows: a real server that is not recognised, a data directory
/// that does not start after a restore, or answers something else than before.
#[test]
fn a_real_server_is_noticed_and_its_restored_files_start() {
    require_root("the server's user");
    let place = Place::new();
    fs::set_permissions(place.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let deployment = Deployment::small(place.path("live"));
    deployment.remove("var/lib/mysql");
    let datadir = deployment.path("var/lib/mysql");
    run_other(
        "mariadb-install-db",
        &[
            "--no-defaults",
            "--user=mysql",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            &format!("--datadir={}", datadir.display()),
        ],
    );
    // The installation leaves two things to root.
    run_other("chown", &["-R", "mysql:mysql", &datadir.display().to_string()]);
    run_other("mkdir", &["-m", "777", &place.unfolded("@/run")]);
    place.expect(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";

    let server = Server::start(&place, &datadir, "live-server");
    let mut statements = String::from(
        "CREATE DATABASE shop; CREATE TABLE shop.goods (id INT PRIMARY KEY, name VARCHAR(80)) \
         ENGINE=InnoDB; CREATE TABLE shop.notes (note TEXT) ENGINE=Aria; \
         SET SESSION group_concat_max_len = 1000000; ",
    );
    for id in 0..300 {
        statements.push_str(&format!("INSERT INTO shop.goods VALUES ({id}, MD5({id}));"));
        statements.push_str(&format!("INSERT INTO shop.notes VALUES (REPEAT('{id} ', 200));"));
    }
    server.answers(&statements);
    let refused = place.expect(1, backup).complains("its daemons are running: mariadbd");
    let refused = refused.complains(&format!("(pid {}: ", server.id()));
    assert_eq!(refused.out, "");
    let expected = server.answers(QUESTIONS);
    assert!(expected.contains("300\t44850\t"), "{expected}");
    assert_eq!(expected.matches("\tstatus\tOK").count(), 4, "{expected}");
    server.stop();

    let night = compare::read(&datadir);
    let done = place.expect(0, backup).silent();
    assert!(done.out.contains("saved, complete"), "{}", done.out);
    place.expect(0, "restore -r @/repository latest --target @/back").silent();
    let restored = place.path("back/datadir");
    let back = compare::read(&restored);
    let expected_tree = night.into_iter().filter(|(path, _)| path != b"ibtmp1").collect();
    let differences = compare::differences(&expected_tree, &back, Default::default());
    assert_eq!(differences, Vec::<String>::new());
    let mysql = (id_in("/etc/passwd", "mysql").unwrap(), id_in("/etc/group", "mysql").unwrap());
    let of_others: Vec<_> = back.iter().filter(|(_, facts)| facts.owner != mysql).collect();
    assert!(back.len() > 100 && of_others.is_empty(), "{of_others:?}");

    let again = Server::start(&place, &restored, "restored-server");
    assert_eq!(again.answers(QUESTIONS).replace("restored", ""), expected);
    // It is in use now.
    let line = "restore -r @/repository latest --target @/back --delta";
    let refused = place.expect(1, line).complains("daemons are using the target: mariadbd (pid ");
    refused.complains(&format!("(pid {}: ", again.id()));
    again.answers("INSERT INTO shop.goods VALUES (1000, 'new'); DROP TABLE shop.notes");
    again.stop();
    // Files that a server wrote to become what they were.
    place.expect(0, line).silent();
    assert_eq!(
        compare::differences(&expected_tree, &compare::read(&restored), Default::default()),
        Vec::<String>::new()
    );
    let third = Server::start(&place, &restored, "third-server");
    assert_eq!(third.answers(QUESTIONS), expected);
    third.stop();
}
