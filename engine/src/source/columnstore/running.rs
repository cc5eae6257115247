//! Which MariaDB and ColumnStore processes of a deployment are alive.
//!
//! Two kinds of evidence: what `/proc` says of processes with a known name, and the locks that a
//! MariaDB server holds on its files, which are seen from another process namespace too. Both are
//! read; nothing is locked, stopped or signalled.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::rooted::is_absent;
use crate::error::{Error, Result};

/// The processes that write to a deployment.
const DAEMONS: [&str; 14] = [
    "mariadbd",
    "mysqld",
    "PrimProc",
    "controllernode",
    "workernode",
    "WriteEngineServer",
    "ExeMgr",
    "DMLProc",
    "DDLProc",
    "StorageManager",
    "cpimport",
    "cpimport.bin",
    "load_brm",
    "save_brm",
];

/// Programs whose first argument is the program that really runs.
const INTERPRETERS: [&str; 7] = ["bash", "dash", "ksh", "perl", "python", "sh", "zsh"];

/// The kernel keeps so much of a process name (`TASK_COMM_LEN` - 1).
const COMM_LENGTH: usize = 15;

/// Files that a MariaDB server keeps locked for as long as it runs.
const LOCKED_BY_A_SERVER: [&str; 2] = ["ibdata1", "aria_log_control"];

/// A daemon of the deployment that is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process number; `None` if it runs where this host's numbers do not count.
    pub pid: Option<u32>,
    /// The daemon's name.
    pub name: String,
    /// What makes it one of this deployment.
    pub evidence: String,
}

/// Finds the daemons of the deployment that are running, ordered by process number.
///
/// `directories` are the DB Roots and data directories on this host. With a deployment root of
/// `/`, every ColumnStore process of this host belongs to it; a MariaDB server always needs
/// evidence: that it runs below the root, has a file in one of the directories open or locked, or
/// names one on its command line. If that is not permitted to be seen, it counts.
///
/// Errors: `/proc` cannot be listed, or the root or one of the directories cannot be resolved
/// other than by being absent. A process that ends meanwhile is no error.
pub fn running_daemons(deployment_root: &Path, directories: &[PathBuf]) -> Result<Vec<Running>> {
    let deployment = Place::new(deployment_root, directories)?;
    let mut found = Vec::new();
    for pid in process_numbers()? {
        let Some(process) = Process::read(pid) else { continue };
        if let Some(evidence) = process.evidence(&deployment) {
            found.push(Running { pid: Some(pid), name: process.name.into(), evidence });
        }
    }
    for directory in &deployment.directories {
        for file in LOCKED_BY_A_SERVER {
            let Some(pid) = write_lock_holder(&directory.join(file)) else { continue };
            let is_known = |running: &Running| {
                running.pid == pid || (pid.is_none() && running.name == "mariadbd")
            };
            if !found.iter().any(is_known) {
                let evidence = format!("holds a lock on {}", directory.join(file).display());
                found.push(Running { pid, name: "mariadbd".into(), evidence });
            }
        }
    }
    found.sort_by_key(|running| running.pid);
    Ok(found)
}

/// Where the deployment is, without symbolic links.
struct Place {
    root: PathBuf,
    /// Device and inode of `root`; processes in it are recognised by them.
    root_identity: Option<(u64, u64)>,
    directories: Vec<PathBuf>,
}

impl Place {
    fn new(root: &Path, directories: &[PathBuf]) -> Result<Place> {
        let root = without_links(root)?;
        let directories = directories.iter().map(|path| without_links(path));
        Ok(Place {
            root_identity: identity(&root).ok(),
            root,
            directories: directories.collect::<Result<_>>()?,
        })
    }

    fn is_whole_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The root, unless it is `/`, and the directories.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let root = Some(self.root.as_path()).filter(|_| !self.is_whole_host());
        root.into_iter().chain(self.directories.iter().map(PathBuf::as_path))
    }

    fn holds(&self, path: &Path) -> bool {
        self.paths().any(|place| path.starts_with(place))
    }
}

/// A process with the name of a daemon.
struct Process {
    pid: u32,
    name: &'static str,
    arguments: Vec<OsString>,
}

impl Process {
    /// Looks at a process; `None` if it is gone, is this one, or has another name.
    fn read(pid: u32) -> Option<Process> {
        if pid == std::process::id() || is_dead(pid) {
            return None;
        }
        let comm = fs::read(entry(pid, "comm")).ok()?;
        let arguments = arguments(pid);
        let executable = fs::read_link(entry(pid, "exe")).ok();
        let name = daemon_name(comm.trim_ascii(), executable.as_deref(), &arguments)?;
        Some(Process { pid, name, arguments })
    }

    /// Why the process belongs to the deployment; `None` if it does not.
    fn evidence(&self, deployment: &Place) -> Option<String> {
        let root = identity(&entry(self.pid, "root"));
        let shares_our_root = match (&root, identity(Path::new("/"))) {
            (Ok(root), Ok(ours)) => *root == ours,
            // Not permitted to be seen: it may well be ours.
            _ => true,
        };
        if !deployment.is_whole_host() {
            let root = root.ok();
            if root.is_some() && root == deployment.root_identity {
                return Some(format!("its root directory is {}", deployment.root.display()));
            }
        } else if shares_our_root && !self.is_server() {
            return Some("a ColumnStore process of this host".into());
        }
        if let Some(evidence) = self.open_paths(deployment) {
            return Some(evidence);
        }
        let named = |argument: &&OsString| {
            deployment.paths().any(|place| mentions(argument.as_bytes(), place))
        };
        if let Some(argument) = self.arguments.iter().find(named).filter(|_| shares_our_root) {
            return Some(format!("its command line says {}", argument.display()));
        }
        let is_hidden = deployment.is_whole_host() && shares_our_root && self.is_hidden();
        is_hidden.then(|| "its open files may not be seen".into())
    }

    /// The executable, working directory or open file that lies in the deployment.
    fn open_paths(&self, deployment: &Place) -> Option<String> {
        if !deployment.is_whole_host() {
            let executable = self.link_into(deployment, &entry(self.pid, "exe"));
            if let Some(path) = executable {
                return Some(format!("its program is {}", path.display()));
            }
        }
        if let Some(path) = self.link_into(deployment, &entry(self.pid, "cwd")) {
            return Some(format!("its working directory is {}", path.display()));
        }
        let descriptors = fs::read_dir(entry(self.pid, "fd")).ok()?;
        let mut links = descriptors.flatten().map(|descriptor| descriptor.path());
        let path = links.find_map(|link| self.link_into(deployment, &link))?;
        Some(format!("it has {} open", path.display()))
    }

    /// The target of a link of `/proc` if it lies in the deployment.
    ///
    /// A process in another mount namespace may have a path of the same name; what is really
    /// meant is told by device and inode.
    fn link_into(&self, deployment: &Place, link: &Path) -> Option<PathBuf> {
        let target = fs::read_link(link).ok().filter(|target| deployment.holds(target))?;
        match (identity(link), identity(&target)) {
            (Ok(process), Ok(host)) if process != host => None,
            _ => Some(target),
        }
    }

    fn is_server(&self) -> bool {
        matches!(self.name, "mariadbd" | "mysqld")
    }

    fn is_hidden(&self) -> bool {
        let refused = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        fs::read_link(entry(self.pid, "cwd")).is_err_and(refused)
            || fs::read_dir(entry(self.pid, "fd")).is_err_and(refused)
    }
}

/// The daemon that a process is by its name, its program or, for scripts, its arguments.
fn daemon_name(
    comm: &[u8],
    executable: Option<&Path>,
    arguments: &[OsString],
) -> Option<&'static str> {
    let program = executable.map(program_name);
    let mut names: Vec<&[u8]> = program.into_iter().collect();
    names.extend(arguments.first().map(|argument| program_name(Path::new(argument))));
    let is_interpreter = program.is_some_and(|program| {
        let letters = program.split(|byte| !byte.is_ascii_alphabetic()).next().unwrap_or_default();
        INTERPRETERS.iter().any(|interpreter| interpreter.as_bytes() == letters)
    });
    if is_interpreter {
        names.extend(arguments.get(1).map(|argument| program_name(Path::new(argument))));
    }
    DAEMONS.into_iter().find(|daemon| {
        let daemon = daemon.as_bytes();
        names.contains(&daemon) || comm == &daemon[..daemon.len().min(COMM_LENGTH)]
    })
}

/// The last part of a path, without what `/proc` adds for a program that was replaced.
fn program_name(path: &Path) -> &[u8] {
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    name.strip_suffix(b" (deleted)").unwrap_or(name)
}

/// Whether an argument holds the path itself or one below it.
fn mentions(argument: &[u8], place: &Path) -> bool {
    let place = place.as_os_str().as_bytes();
    let is_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    argument.windows(place.len()).enumerate().any(|(start, window)| {
        let before = start.checked_sub(1).and_then(|at| argument.get(at));
        let after = argument.get(start + place.len());
        window == place
            && !before.is_some_and(is_path)
            && after.is_none_or(|byte| *byte == b'/' || !is_path(byte))
    })
}

/// Who holds a write lock on the file: `None` if nobody does, `Some(None)` if somebody without a
/// process number here. A file that cannot be opened or asked has no known holder.
fn write_lock_holder(path: &Path) -> Option<Option<u32>> {
    let file = File::open(path).ok().filter(is_file)?;
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock)).ok().flatten()?;
    Some(lock.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()))
}

fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

fn process_numbers() -> Result<Vec<u32>> {
    let refused = |error| Error::io("/proc", "list the processes in", error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc").map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// Whether the process has ended and only waits for its parent to notice.
fn is_dead(pid: u32) -> bool {
    let stat = fs::read(entry(pid, "stat")).unwrap_or_default();
    let after_name = stat.iter().rposition(|&byte| byte == b')').map_or(0, |at| at + 1);
    matches!(stat[after_name..].trim_ascii_start().first(), None | Some(b'Z' | b'X'))
}

fn arguments(pid: u32) -> Vec<OsString> {
    let line = fs::read(entry(pid, "cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(|part| OsString::from_vec(part.to_vec())).collect()
}

fn entry(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn without_links(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if is_absent(&error) => Ok(path.to_owned()),
        other => other.map_err(|error| Error::io(path, "resolve", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A process that is ended and reaped with the test.
    struct Stopped(Child);

    impl Drop for Stopped {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    struct Host {
        directory: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Host {
            let directory = tempfile::tempdir().unwrap();
            for below in ["root/var/lib/mysql", "root/usr/bin", "elsewhere"] {
                fs::create_dir_all(directory.path().join(below)).unwrap();
            }
            Host { directory }
        }

        fn path(&self, below: &str) -> PathBuf {
            fs::canonicalize(self.directory.path()).unwrap().join(below)
        }

        /// A copy of sleep under another name.
        fn daemon(&self, program: &str, working_directory: &str) -> Stopped {
            let program = self.path(program);
            copy_of_sleep(&program);
            let mut command = Command::new(&program);
            command.current_dir(self.path(working_directory)).arg("60");
            let mut daemon = Stopped(command.stdin(Stdio::null()).spawn().unwrap());
            assert!(daemon.0.try_wait().unwrap().is_none());
            daemon
        }

        fn of(&self, daemon: &Stopped) -> Option<Running> {
            let found = running_daemons(&self.path("root"), &[]).unwrap();
            found.into_iter().find(|running| running.pid == Some(daemon.0.id()))
        }
    }

    /// Made by another process: one of ours, forked meanwhile by another test, would keep the new
    /// file open for writing, and then it cannot be run.
    fn copy_of_sleep(program: &Path) {
        let status = Command::new("cp").arg("/bin/sleep").arg(program).status().unwrap();
        assert!(status.success());
    }

    #[test]
    fn a_daemon_below_the_root_is_found_and_its_end_noticed() {
        let host = Host::new();
        let mut primproc = host.daemon("elsewhere/PrimProc", "root/var/lib");
        let controller = host.daemon("root/usr/bin/controllernode", "elsewhere");
        let found = host.of(&primproc).unwrap();
        assert_eq!(found.name, "PrimProc");
        let directory = host.path("root/var/lib").display().to_string();
        assert_eq!(found.evidence, format!("its working directory is {directory}"));
        assert!(host.of(&controller).unwrap().evidence.starts_with("its program is"));

        primproc.0.kill().unwrap();
        // Not reaped yet: what is left of it does not run.
        while !is_dead(primproc.0.id()) {
            std::thread::yield_now();
        }
        assert_eq!(host.of(&primproc), None);
        let of_this_host = running_daemons(Path::new("/"), &[]).unwrap();
        assert!(of_this_host.iter().all(|running| running.pid != Some(primproc.0.id())));
    }

    #[test]
    fn a_daemon_of_another_deployment_is_not_found() {
        let host = Host::new();
        let primproc = host.daemon("elsewhere/PrimProc", "elsewhere");
        let server = host.daemon("elsewhere/mariadbd", "elsewhere");
        let sleep = host.daemon("elsewhere/harmless", "root/var/lib/mysql");
        assert_eq!(host.of(&primproc), None);
        assert_eq!(host.of(&server), None);
        assert_eq!(host.of(&sleep), None);
    }

    #[test]
    fn with_the_whole_host_as_root_a_server_needs_evidence() {
        let host = Host::new();
        let primproc = host.daemon("elsewhere/PrimProc", "elsewhere");
        let server = host.daemon("elsewhere/mariadbd", "elsewhere");
        let other = host.daemon("elsewhere/mysqld", "root/var/lib/mysql");
        let names = |directories: &[PathBuf]| -> Vec<String> {
            let found = running_daemons(Path::new("/"), directories).unwrap();
            let ours = [primproc.0.id(), server.0.id(), other.0.id()];
            let ours = found.into_iter().filter(|running| ours.contains(&running.pid.unwrap_or(0)));
            ours.map(|running| running.name).collect()
        };
        assert_eq!(names(&[]), ["PrimProc"]);
        assert_eq!(names(&[host.path("root/var/lib/mysql")]), ["PrimProc", "mysqld"]);
    }

    #[test]
    fn a_command_line_that_names_the_root_is_evidence() {
        let host = Host::new();
        // A shell that waits for a line stands for the server; sleep takes no such arguments.
        let script = host.path("elsewhere/mariadbd");
        fs::write(&script, "read line\n").unwrap();
        let start = |datadir: &str| {
            let mut command = Command::new("/bin/sh");
            command.arg(&script).arg(format!("--datadir={}", host.path(datadir).display()));
            command.current_dir(host.path("elsewhere"));
            let started = Stopped(command.stdin(Stdio::piped()).spawn().unwrap());
            // The kernel lets the parent go on before the new command line can be read.
            while arguments(started.0.id()).len() < 3 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            started
        };
        let server = start("root/var/lib/mysql");
        let other = start("root2/var/lib/mysql");
        let found = host.of(&server).unwrap();
        assert_eq!(found.name, "mariadbd");
        assert!(found.evidence.starts_with("its command line says --datadir="), "{found:?}");
        assert_eq!(host.of(&other), None);
    }

    #[test]
    fn an_open_file_is_evidence() {
        let host = Host::new();
        let log = host.path("root/var/lib/mysql/mariadbd.err");
        let program = host.path("elsewhere/mariadbd");
        copy_of_sleep(&program);
        let mut command = Command::new(&program);
        command.arg("60").current_dir(host.path("elsewhere"));
        command.stderr(File::create(&log).unwrap());
        let server = Stopped(command.spawn().unwrap());
        let found = host.of(&server).unwrap();
        assert_eq!(found.evidence, format!("it has {} open", log.display()));
    }

    #[test]
    fn a_lock_on_the_servers_files_is_evidence() {
        for file in LOCKED_BY_A_SERVER {
            let host = Host::new();
            let directory = host.path("root/var/lib/mysql");
            fs::write(directory.join(file), "content").unwrap();
            let directories = [directory.clone(), host.path("missing")];
            let find = || running_daemons(&host.path("root"), &directories).unwrap();
            assert_eq!(find(), []);

            // Whoever only reads is no server.
            let reader = lock_holder(&directory.join(file), "shared");
            assert_eq!(find(), []);
            drop(reader);

            let holder = lock_holder(&directory.join(file), "exclusive");
            let expected = Running {
                pid: Some(holder.0.id()),
                name: "mariadbd".into(),
                evidence: format!("holds a lock on {}", directory.join(file).display()),
            };
            assert_eq!(find(), [expected]);
            drop(holder);
            assert_eq!(find(), []);
        }
    }

    /// Starts another process that holds a lock on a file, as a server does.
    fn lock_holder(file: &Path, kind: &str) -> Stopped {
        let script = "import fcntl, sys\n\
            file = open(sys.argv[1], 'r+b')\n\
            kind = fcntl.LOCK_SH if sys.argv[2] == 'shared' else fcntl.LOCK_EX\n\
            fcntl.lockf(file, kind | fcntl.LOCK_NB)\n\
            print('locked', flush=True)\n\
            sys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(file).arg(kind);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Stopped(command.spawn().expect("tests need python3"));
        let output = BufReader::new(holder.0.stdout.take().unwrap());
        let locked = output.lines().map_while(io::Result::ok).any(|line| line == "locked");
        assert!(locked, "the other process ended without a lock");
        holder
    }

    #[test]
    fn names_are_recognised_however_they_are_cut_or_wrapped() {
        let name = |comm: &str, executable: Option<&str>, arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            daemon_name(comm.as_bytes(), executable.map(Path::new), &arguments)
        };
        assert_eq!(name("mariadbd", None, &[]), Some("mariadbd"));
        assert_eq!(name("WriteEngineServ", None, &[]), Some("WriteEngineServer"));
        assert_eq!(name("x", Some("/usr/bin/ExeMgr (deleted)"), &[]), Some("ExeMgr"));
        assert_eq!(name("x", Some("/opt/loader"), &["/usr/bin/DMLProc"]), Some("DMLProc"));
        let script = ["python3", "/usr/bin/save_brm"];
        assert_eq!(name("x", Some("/usr/bin/python3.11"), &script), Some("save_brm"));
        assert_eq!(name("vi", Some("/usr/bin/vi"), &["vi", "/usr/bin/save_brm"]), None);
        assert_eq!(name("mariadb", Some("/usr/bin/mariadb"), &["mariadb"]), None);
        assert_eq!(name("mariadbd-safe", Some("/bin/sh"), &["sh", "mariadbd-safe"]), None);
        assert_eq!(name("WriteEngineSer", None, &[]), None);
        assert_eq!(name("", None, &[""]), None);
    }

    #[test]
    fn a_path_is_mentioned_only_as_a_whole() {
        for (argument, expected) in [
            ("--datadir=/srv/db", true),
            ("/srv/db/mysql", true),
            ("-h/srv/db", false),
            ("--a=/x,/srv/db/mysql,/y", true),
            ("/srv/db2", false),
            ("/srv/db-old/x", false),
            ("/mnt/srv/db", false),
            ("/srv/d", false),
            ("", false),
        ] {
            assert_eq!(mentions(argument.as_bytes(), Path::new("/srv/db")), expected, "{argument}");
        }
    }
}
