//! The program as a user meets it: what each command writes for people, and what its options do.
//!
//! Exact output is compared with files of `fixtures/cli`; `COLVAULT_BLESS=1` writes them anew.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use colvault_engine::testing::trees::{files_below, mixed_bytes, write_tree};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::support::compare::{self, Leave, assert_equal};
use crate::support::deployment::{Deployment, SEGMENT};
use crate::support::nights::{become_night, bundled};
use crate::support::program::{
    Place, Ran, Transcript, expectations, listing, names, run_other, write,
};
use crate::support::{require_root, wait_until_not_racy};

const COMMANDS: [&str; 13] = [
    "init",
    "plan",
    "backup",
    "snapshots",
    "ls",
    "restore",
    "check",
    "stats",
    "diff",
    "find",
    "dump",
    "inspect",
    "demo",
];

/// Catches an option, a default or an exit code that changes without anybody noticing: all of
/// them are what scripts rely on.
#[test]
fn help_says_what_it_always_said() {
    let place = Place::quick();
    let mut told = Transcript::new(&place);
    told.run(0, "--version");
    told.run(0, "--help");
    told.run(2, "");
    for command in COMMANDS {
        let help = told.run(0, &format!("{command} --help")).silent().out;
        assert_eq!(place.expect(0, &format!("help {command}")).out, help);
    }
    let short = told.run(0, "-h").out;
    for code in ["0", "1", "2", "3", "10", "11", "12", "13", "20", "130"] {
        assert!(short.contains(&format!("\n  {code:>3}  ")), "exit code {code} in {short}");
    }
    told.compare("help.txt");
}

/// Catches figures, states, names and hints that are not those of what really happened to two
/// nights of a real deployment; files read although they did not change; restores and checks that
/// tell something else than they did.
#[test]
fn two_nights_are_told_as_they_were() {
    require_root("files of the server's user");
    let place = Place::new();
    let nights = bundled(&place.path(""), 2);
    let live = place.path("live");
    become_night(&nights[0], &live);
    wait_until_not_racy();
    let mut told = Transcript::new(&place);
    told.title("night 0");
    told.run(0, "init -r @/repository");
    told.run(0, "snapshots -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";
    told.run(0, &format!("{backup} --dry-run"));
    told.run(0, &format!("{backup} --tag nightly,first"));
    told.title("the same once more");
    let again = told.run(0, &format!("{backup} --quiet"));
    assert_eq!(again.out, "");
    told.run(0, backup);
    told.title("night 1");
    become_night(&nights[1], &live);
    wait_until_not_racy();
    told.run(0, &format!("{backup} --verbose --tag nightly"));
    told.run(0, "snapshots -r @/repository");
    told.run(0, "snapshots -r @/repository --tag nightly --latest 1");
    told.run(0, "snapshots -r @/repository --host db2");
    told.run(0, "ls -r @/repository latest:/etc");
    told.run(0, "ls -r @/repository latest~2 --component dbroot --recursive=false -v");
    told.run(0, "ls -r @/repository -l latest --component datadir var/log mysql/db.opt app");
    told.title("night 0 restored, then made night 1");
    told.run(0, "restore -r @/repository latest~1 --target @/back --dry-run");
    told.run(0, "restore -r @/repository latest~1 --target @/back");
    assert_restored(&nights[0], &place.path("back"), "night 0");
    told.run(0, "restore -r @/repository latest --target @/back --delta");
    assert_restored(&nights[1], &place.path("back"), "night 1");
    told.run(0, "restore -r @/repository latest --target @/back --delta");
    told.run(0, "restore -r @/repository latest --map datadir=@/mysql --path app --exclude *.frm");
    assert_eq!(names(&place.path("mysql")), ["app"]);
    told.run(0, "check -r @/repository");
    told.run(0, "check -r @/repository --read-data");
    told.compare("nights.txt");

    let mut listed = Transcript::new(&place);
    let long = listed.run(0, "ls -r @/repository --long latest");
    listed.compare("ls-long.txt");
    let short = place.expect(0, "ls -r @/repository latest").out;
    let last_column = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
    let paths: Vec<String> = short.lines().map(str::to_owned).collect();
    assert_eq!(long.out.lines().map(last_column).collect::<Vec<_>>(), paths);
    let files = files_below(&live.join("var/lib/mysql")).unwrap();
    assert!(files.len() > 80);
    for file in files {
        let named = Path::new("/").join(file.strip_prefix(&live).unwrap());
        assert!(paths.contains(&named.to_str().unwrap().to_owned()), "{named:?} is listed");
    }
}

pub(crate) fn assert_restored(night: &Path, target: &Path, context: &str) {
    for (component, below) in [
        ("dbroot/1", "var/lib/columnstore/data1"),
        ("datadir", "var/lib/mysql"),
        ("storagemanager", "var/lib/columnstore/storagemanager"),
        ("config/etc/columnstore", "etc/columnstore"),
    ] {
        let mut expected = compare::read(&night.join(below));
        expected.remove(&b"ibtmp1"[..]);
        let context = format!("{component} of {context}");
        assert_equal(&expected, &target.join(component), Leave::default(), &context);
    }
}

/// Catches an expectation that nothing is compared with any more.
#[test]
fn every_expectation_is_compared() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("suite");
    let text: String =
        files_below(&suite).unwrap().iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for name in names(&expectations()) {
        assert!(text.contains(&format!("compare(\"{name}\")")), "fixtures/cli/{name}");
    }
}

/// Catches exclusions that leave out too much or too little, a list of paths that is split at
/// blanks, tags and hosts that snapshots are not found by, a mount that is entered with `-x`.
#[test]
fn options_choose_what_is_stored() {
    require_root("a mount");
    let place = Place::quick();
    for file in ["a.txt", "a.tmp", "deep/b.tmp", "deep/b.txt", "cache/c", "deep/cache/d", "e f"] {
        write(place.path("source").join(file), file);
    }
    fs::create_dir(place.path("source/mounted")).unwrap();
    let mount = Mount::tmpfs(&place.path("source/mounted"));
    write(place.path("source/mounted/inner"), "inner");
    write(place.path("globs"), "# comment\n\n*.tmp\n");
    write(
        place.path("list"),
        place.unfolded("@/source/a.txt\n\n@/source/e f\n@/source/deep/b.txt\n"),
    );
    place.expect(0, "init -r @/repository");
    let stored = |options: &str| -> Vec<String> {
        place.expect(0, &format!("backup -r @/repository {options}")).silent();
        let id = place.snapshots("repository").pop().unwrap();
        let listed = place.expect(0, &format!("ls -r @/repository {id} --json")).silent().out;
        let source = place.unfolded("@/source/");
        let is_file = |line: &&str| line.contains("\"type\":\"file\"");
        let path = |line: &str| {
            let from = line.find(&source).expect("below the source") + source.len();
            line[from..].split('"').next().unwrap().to_owned()
        };
        listed.lines().filter(is_file).map(path).collect()
    };
    let all = [
        "a.tmp",
        "a.txt",
        "cache/c",
        "deep/b.tmp",
        "deep/b.txt",
        "deep/cache/d",
        "e f",
        "mounted/inner",
    ];
    assert_eq!(stored("@/source"), all);
    let without = |left_out: &[&str]| -> Vec<&str> {
        all.into_iter().filter(|name| !left_out.contains(name)).collect()
    };
    assert_eq!(stored("-x @/source"), without(&["mounted/inner"]));
    assert_eq!(stored("@/source -e *.tmp"), without(&["a.tmp", "deep/b.tmp"]));
    assert_eq!(stored("@/source --exclude @/source/cache"), without(&["cache/c"]));
    assert_eq!(stored("@/source -e cache"), without(&["cache/c", "deep/cache/d"]));
    let both = without(&["a.tmp", "deep/b.tmp", "a.txt"]);
    assert_eq!(stored("@/source --exclude-file @/globs -e a.txt"), both);
    assert_eq!(stored("--files-from @/list"), ["a.txt", "deep/b.txt", "e f"]);
    assert_eq!(stored("--files-from @/list @/source/deep"), {
        ["a.txt", "deep/b.tmp", "deep/b.txt", "deep/cache/d", "e f"]
    });
    let mut piped = place.command("backup -r @/repository --files-from -");
    piped.stdin(File::open(place.path("list")).unwrap());
    Ran::of("backup --files-from -", piped.output().unwrap()).ended(0).silent();
    drop(mount);

    stored("@/source/deep --host db7 --tag one,two --tag three");
    stored("@/source/deep --host db8 --tag one");
    for (filter, expected) in [
        ("--host db7", 1),
        ("--host db7 --host db8", 2),
        ("--tag one", 2),
        ("--tag one,three", 1),
        ("--tag two --host db8", 0),
        ("--host db9", 0),
    ] {
        let found = place.expect(0, &format!("snapshots -r @/repository {filter}")).out;
        let rows =
            found.lines().filter(|line| line.contains("@/source/deep".trim_start_matches('@')));
        assert_eq!(rows.count(), expected, "{filter}: {found}");
        let chosen = place.run(&format!("ls -r @/repository latest {filter}"));
        assert_eq!(chosen.code, Some(if expected == 0 { 1 } else { 0 }), "{filter}");
    }
}

/// A mounted file system, taken away with the test.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path) -> Mount {
        run_other("mount", &["-t", "tmpfs", "colvault-test", at.to_str().unwrap()]);
        Mount(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run_other("umount", &[self.0.to_str().unwrap()]);
    }
}

/// Catches a dry run that leaves anything behind in the repository, the target or the source, or
/// that foretells something else than what then happens.
#[test]
fn a_dry_run_writes_nothing() {
    let place = Place::quick();
    write_tree(&place.path("source"), 3, 20, 200_000).unwrap();
    place.expect(0, "init -r @/repository");
    let before = (listing(&place.path("repository")), listing(&place.path("source")));
    let tried = place.expect(0, "backup -r @/repository @/source --host h --dry-run").silent();
    assert!(tried.out.contains("dry run: nothing was written"), "{}", tried.out);
    assert_eq!(before, (listing(&place.path("repository")), listing(&place.path("source"))));

    let done = place.expect(0, "backup -r @/repository @/source --host h").silent();
    let figures = |ran: &Ran, beginning: &str| -> String {
        let line = ran.out.lines().find(|line| line.trim_start().starts_with(beginning));
        line.unwrap_or_else(|| panic!("{beginning} in {}", ran.out)).to_owned()
    };
    for beginning in ["files:", place.unfolded("@/source on h").as_str()] {
        assert_eq!(figures(&tried, beginning), figures(&done, beginning));
    }
    // How well it packs is not known before it is packed; what is added is.
    let added = |ran| figures(ran, "added").split(", stored").next().unwrap().to_owned();
    assert_eq!(added(&tried), added(&done));

    let before = (listing(&place.path("repository")), names(&place.path("")));
    let restore = "restore -r @/repository latest --target @/back --dry-run";
    let tried = place.expect(0, restore).silent();
    assert!(tried.out.contains("dry run: nothing was written"), "{}", tried.out);
    assert_eq!(before, (listing(&place.path("repository")), names(&place.path(""))));
    place.expect(0, "restore -r @/repository latest --target @/back");
    write(place.path("back").join("extra"), "more");
    let before = listing(&place.path("back"));
    place.expect(0, &format!("{restore} --delta"));
    assert_eq!(before, listing(&place.path("back")));
}

/// Catches `--ignore-ctime` and `--ignore-inode` that do nothing, or that hide a change of size or
/// time; and a backup that trusts ctime or inode without being told to.
#[test]
fn what_counts_as_changed_can_be_chosen() {
    let place = Place::new();
    for name in ["same", "attribute", "replaced", "written"] {
        write(place.path("source").join(name), mixed_bytes(1, 50_000));
    }
    place.expect(0, "init -r @/repository");
    let backup = "backup -r @/repository @/source --host h";
    wait_until_not_racy();
    place.expect(0, backup);
    // A change of mode is one of ctime only.
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(place.path("source/attribute"), mode).unwrap();
    // A copy with the old times has another inode and another ctime.
    let old = fs::metadata(place.path("source/replaced")).unwrap();
    fs::rename(place.path("source/replaced"), place.path("kept")).unwrap();
    fs::copy(place.path("kept"), place.path("source/replaced")).unwrap();
    let time = Timespec { tv_sec: old.mtime(), tv_nsec: old.mtime_nsec() as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, place.path("source/replaced"), &times, AtFlags::empty()).unwrap();
    write(place.path("source/written"), mixed_bytes(2, 50_000));
    wait_until_not_racy();
    for (options, changed) in [
        ("--ignore-ctime --ignore-inode", 1),
        ("--ignore-ctime", 2),
        ("--ignore-inode", 3),
        ("", 3),
    ] {
        // Each starts from the same snapshot: a dry run leaves none.
        let told = place.expect(0, &format!("{backup} --dry-run {options}")).out;
        let expected = format!("files: 0 new, {changed} changed, {} unmodified", 4 - changed);
        assert!(told.contains(&expected), "{options}: {told}");
    }
    let forced = place.expect(0, &format!("{backup} --dry-run --force")).out;
    assert!(forced.contains("files: 4 new, 0 changed, 0 unmodified"), "{forced}");
    // The mode is stored all the same.
    place.expect(0, &format!("{backup} --ignore-ctime"));
    let listed = place.expect(0, "ls -r @/repository -l latest").out;
    let line = listed.lines().find(|line| line.ends_with("/attribute")).unwrap();
    assert!(line.starts_with("-rw-r----- "), "{line}");
}

/// Catches secrets that are stored although they were to be left out, are left out unsaid, or are
/// stored without a warning; and secrets shown on the screen.
#[test]
fn credentials_are_named_and_can_be_left_out() {
    let place = Place::quick();
    let deployment = Deployment::small(place.path("live"));
    let password = "<CrossEngineSupport><User>cross</User><Password>s3cr3t-xml</Password>\
                    </CrossEngineSupport>\n";
    deployment.columnstore_xml(&[(1, "/var/lib/columnstore/data1")], password);
    deployment.file("etc/columnstore/cmapi_server.conf", b"[Auth]\nx-api-key = 's3cr3t-api'\n");
    deployment.file("var/lib/columnstore/.secrets", b"{\"key\": \"s3cr3t-key\"}");
    deployment.file(
        "etc/columnstore/storagemanager.cnf",
        b"[ObjectStorage]\nservice = LocalStorage\n[S3]\naws_secret_access_key = s3cr3t-aws\n",
    );
    deployment.file("etc/my.cnf", b"[mysqld]\nserver_id = 7\n");
    let secrets = [
        "etc/columnstore/Columnstore.xml",
        "etc/columnstore/cmapi_server.conf",
        "etc/columnstore/storagemanager.cnf",
        "var/lib/columnstore/.secrets",
    ];
    let mut told = Transcript::new(&place);
    told.run(0, "init -r @/repository");
    let backup = "backup -r @/repository --root @/live --host db1";
    let stored = told.run(0, backup);
    assert_eq!(stored.out.matches("credentials that will be stored").count(), 1, "{}", stored.out);
    told.run(0, "restore -r @/repository latest --target @/with");
    let left_out = told.run(0, &format!("{backup} --without-secrets -v"));
    told.run(0, "restore -r @/repository latest --target @/without");
    told.run(0, "ls -r @/repository latest --component config");
    told.compare("credentials.txt");
    for secret in secrets {
        assert!(deployment.is_equal(secret, &place.path("with/config").join(secret)), "{secret}");
        assert!(!place.path("without/config").join(secret).exists(), "{secret}");
        assert!(stored.out.contains(secret) && left_out.out.contains(secret), "{secret}");
    }
    assert!(place.path("without/config/etc/my.cnf").exists());
    assert!(place.path("without/dbroot/1/systemFiles/dbrm/BRM_saves_em").exists());
    // What a scheduler learns of the snapshot, without having seen the backup.
    let line = place.expect(0, "snapshots -r @/repository --json").out;
    for secret in secrets {
        let is_not_stored = |part: &str| part.contains(secret) && part.contains("\"stored\":false");
        assert!(line.split('{').any(is_not_stored), "{secret} in {line}");
        let is_left_out = |part: &str| part.contains(secret) && part.contains("--without-secrets");
        assert!(line.split('{').any(is_left_out), "{secret} in {line}");
    }
    let all = place.expect(0, "ls -r @/repository latest~1 --json").out;
    for shown in [&stored.out, &stored.err, &left_out.out, &left_out.err, &line, &all] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
    // Nothing of a file that was left out is in the repository either.
    place.expect(0, "init -r @/other");
    place.expect(0, "backup -r @/other --root @/live --without-secrets");
    for object in files_below(&place.path("other")).unwrap() {
        let bytes = fs::read(&object).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"), "{}", object.display());
    }
}

/// Catches names that are lost or changed because they are not UTF-8, have a line break or a
/// percent sign, in lists and in restores by path.
#[test]
fn names_of_any_bytes_are_listed_and_restored() {
    let place = Place::quick();
    let odd = [&b"plain"[..], b"not\xffutf8", b"line\nbreak", b"100%", "größe".as_bytes(), b"a b"];
    let source = place.path("source");
    for name in odd {
        write(source.join(std::ffi::OsStr::from_bytes(name)).join("file"), name);
    }
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository @/source").silent();
    let mut told = Transcript::new(&place);
    told.run(0, "ls -r @/repository latest:@/source");
    let restore = "restore -r @/repository latest --target @/back";
    place.expect(0, restore).silent();
    let back = place.path("back").join(source.strip_prefix("/").unwrap());
    assert_equal(&compare::read(&source), &back, Leave::default(), "odd names");
    let mut one = place.command("restore -r @/repository latest --target @/one --path");
    one.arg(source.join(std::ffi::OsStr::from_bytes(b"not\xffutf8")));
    Ran::of("restore --path", one.output().unwrap()).ended(0).silent();
    let one = place.path("one").join(source.strip_prefix("/").unwrap());
    assert_eq!(names(&one), ["not\u{fffd}utf8"]);
    let mut listed = place.command("ls -r @/repository latest");
    listed.arg(source.join(std::ffi::OsStr::from_bytes(b"line\nbreak")));
    told.add(&Ran::of(
        "ls -r @/repository latest @/source/line<newline>break",
        listed.output().unwrap(),
    ));
    told.compare("names.txt");
}

/// Catches a program that dies of a reader that has gone, or says that all is well when what it
/// wrote was lost.
#[test]
fn output_that_nobody_takes_ends_well_or_is_told() {
    let place = Place::quick();
    for number in 0..4000 {
        write(place.path("source").join(format!("{number:0>60}")), "");
    }
    place.expect(0, "init -r @/repository");
    place.expect(0, "backup -r @/repository @/source").silent();
    fs::remove_dir_all(place.path("source")).unwrap();
    write(place.path("source/other"), "");
    place.expect(0, "backup -r @/repository @/source").silent();
    for json in ["", " --json"] {
        for line in [
            "ls -r @/repository latest~1",
            "find -r @/repository ???*",
            "diff -r @/repository latest~1 latest",
        ] {
            let line = format!("{line}{json}");
            // As `| head -c 10` does it.
            let mut command = place.command(&line);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut few = [0; 10];
            child.stdout.take().unwrap().read_exact(&mut few).unwrap();
            Ran::of(&line, child.wait_with_output().unwrap()).ended(0).silent();
        }

        for command in
            ["ls -r @/repository latest~1", "snapshots -r @/repository", "stats -r @/repository"]
        {
            let line = format!("{command}{json}");
            let mut command = place.command(&line);
            command.stdout(File::options().write(true).open("/dev/full").unwrap());
            let ran = Ran::of(&line, command.output().unwrap()).ended(1);
            ran.complains("standard output: cannot write: No space left on device");
        }
        // Not open at all, as some schedulers start programs.
        let mut shell = place.command(&format!("snapshots -r @/repository{json}"));
        let arguments: Vec<_> = shell.get_args().map(ToOwned::to_owned).collect();
        let program = shell.get_program().to_owned();
        shell = std::process::Command::new("sh");
        shell.args(["-c", "exec \"$@\" >&- 2>&- <&-", "sh"]).arg(program).args(arguments);
        shell.env("XDG_CACHE_HOME", place.path("cache"));
        assert_eq!(shell.status().unwrap().code(), Some(0));
    }
    // No standard error: nobody to complain to, but the exit code is right.
    let mut command = place.command("ls -r @/repository nothing");
    command.stderr(File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(command.output().unwrap().status.code(), Some(1));
}

/// Catches objects that others than their owner can read, whatever the umask.
#[test]
fn only_the_owner_can_read_the_repository() {
    let place = Place::quick();
    let deployment = Deployment::small(place.path("live"));
    let run = |line: &str| {
        let command = place.command(line);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(command.get_program());
        shell.args(command.get_args()).env("XDG_CACHE_HOME", place.path("cache"));
        Ran::of(line, shell.output().unwrap()).ended(0);
    };
    run("init -r @/repository");
    run("backup -r @/repository --root @/live");
    deployment.file(SEGMENT, &mixed_bytes(8, 37 * 8192));
    run("backup -r @/repository --root @/live");
    run("check -r @/repository --read-data");
    let mut files = 0;
    let cache = listing(&place.path("cache/colvault"));
    for (path, _, mode, _) in listing(&place.path("repository")).into_iter().chain(cache) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & 0o7777, expected, "{}", path.display());
        files += usize::from(path.is_file());
    }
    assert!(files > 8, "{files} files");
}

/// Catches a demonstration that does not run on a host with nothing but the program, does not
/// find four equal nights, or leaves something behind.
#[test]
fn the_demonstration_runs_and_leaves_nothing() {
    require_root("files of the server's user");
    let place = Place::new();
    let ran = place.expect(0, "demo").silent();
    let end: Vec<&str> = ran.out.lines().rev().take(30).collect();
    let mut told = Transcript::new(&place);
    told.add(&Ran { out: last_part(&ran.out), ..ran });
    told.compare("demo.txt");
    assert!(end.len() == 30);
    for below in ["tmp", "home", "cache"] {
        assert_eq!(names(&place.path(below)), Vec::<String>::new(), "{below} is empty");
    }
}

/// The end of what the demonstration tells: from where it says what came of all nights.
fn last_part(out: &str) -> String {
    let lines: Vec<&str> = out.lines().collect();
    lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("{line}\n")).collect()
}
