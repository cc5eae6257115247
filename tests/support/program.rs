//! The program as a user runs it: a process of its own in a clean environment, and what it wrote.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::disk;

/// Where programs are looked for.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long anything a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the program under test: `colvault` beside this test's profile directory.
///
/// Fails when it is not there or older than what it is made of: nothing is tested then.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let own = std::env::current_exe().expect("a test has a file");
        let program =
            own.parent().and_then(Path::parent).expect("target/PROFILE/deps").join("colvault");
        let how = "build it: cargo build --release -p colvault --features demo (tests/run.sh does)";
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let built = changed(&program)
            .unwrap_or_else(|error| panic!("{}: {error}; {how}", program.display()));
        // Cargo lists the sources of the program beside it.
        let list = fs::read_to_string(program.with_extension("d"))
            .unwrap_or_else(|error| panic!("{}.d: {error}; {how}", program.display()));
        let sources: Vec<PathBuf> = list.lines().flat_map(|line| made_of(line, &program)).collect();
        assert!(sources.len() > 50, "the list of sources beside {}: {how}", program.display());
        for source in sources {
            let is_older = changed(&source).is_ok_and(|changed| changed <= built);
            assert!(
                is_older,
                "{} is older than {}, or was made elsewhere; {how}",
                program.display(),
                source.display()
            );
        }
        program
    })
}

/// The files after the colon in a line of a list of sources, if the line is about the program.
fn made_of(line: &str, program: &Path) -> Vec<PathBuf> {
    let Some((made, of)) = line.split_once(": ") else { return Vec::new() };
    if !made.ends_with(program.file_name().unwrap().to_str().unwrap()) {
        return Vec::new();
    }
    // A blank within a name stands behind a backslash.
    let of = of.replace("\\ ", "\0");
    of.split(' ').map(|path| path.replace('\0', " ").into()).collect()
}

/// A directory of one test, in which the program has its home, cache and temporary files. In
/// command lines and in what the program wrote, `@` stands for it.
pub struct Place {
    directory: TempDir,
    path: PathBuf,
    started: String,
}

impl Place {
    /// Makes one on a real disk.
    pub fn new() -> Place {
        Place::below(disk())
    }

    /// Makes one in memory, where it is quicker.
    pub fn quick() -> Place {
        Place::below(super::quick())
    }

    fn below(directory: TempDir) -> Place {
        let path = directory.path().canonicalize().unwrap();
        for name in ["home", "tmp", "cache"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        let started = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
        Place { directory, path, started }
    }

    /// Returns a path in it; the empty one is its own.
    pub fn path(&self, below: &str) -> PathBuf {
        assert!(self.directory.path().exists());
        if below.is_empty() { self.path.clone() } else { self.path.join(below) }
    }

    /// Returns a command of the program with no arguments yet and nothing in its environment that
    /// is not said here.
    pub fn program(&self) -> Command {
        let mut command = Command::new(program());
        command.env_clear().env("PATH", PATH).env("TZ", "UTC");
        // Whatever settings this host has.
        command.env("COLVAULT_CONFIG", "/dev/null");
        command.env("HOME", self.path("home")).env("XDG_CACHE_HOME", self.path("cache"));
        command.env("TMPDIR", self.path("tmp")).current_dir(&self.path).stdin(Stdio::null());
        command
    }

    /// Returns the command of a line: words between blanks, `@` for this place.
    pub fn command(&self, line: &str) -> Command {
        let mut command = self.program();
        command.args(line.split_whitespace().map(|word| self.unfolded(word)));
        command
    }

    /// Returns a text with this place where `@` stands.
    pub fn unfolded(&self, text: &str) -> String {
        text.replace('@', self.path.to_str().expect("temporary directories are UTF-8"))
    }

    /// Runs the command of a line to its end.
    pub fn run(&self, line: &str) -> Ran {
        Ran::of(line, self.command(line).output().expect("the program can be started"))
    }

    /// Runs the command of a line, which has to end with this code.
    pub fn expect(&self, code: i32, line: &str) -> Ran {
        self.run(line).ended(code)
    }

    /// Starts the command of a line; what it writes is kept for [`Started::end`].
    pub fn start(&self, line: &str) -> Started {
        Started::of(line, self.command(line))
    }

    /// Returns the ids of the snapshots in a repository, in the order they were made.
    pub fn snapshots(&self, repository: &str) -> Vec<String> {
        let mut made: Vec<((i64, i64), String)> = names(&self.path(repository).join("snapshots"))
            .into_iter()
            .map(|name| {
                let metadata = fs::metadata(self.path(repository).join("snapshots").join(&name));
                let metadata = metadata.unwrap();
                ((metadata.mtime(), metadata.mtime_nsec()), name)
            })
            .collect();
        made.sort();
        made.into_iter().map(|(_, name)| name).collect()
    }

    /// Returns a text with everything that no two runs share replaced: this place, ids, times
    /// since the test began, durations, rates, process numbers, stored sizes of next to nothing.
    pub fn normalised(&self, text: &str) -> String {
        let mut text = text.replace(self.path.to_str().unwrap(), "@");
        for (number, id) in self.snapshots("repository").iter().enumerate() {
            let number = number + 1;
            text = text.replace(id, &format!("<snapshot-{number}>"));
            text = text.replace(&id[..8], &format!("<snap-{number}>"));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let is_within_a_word = out.ends_with(|c: char| c.is_ascii_alphanumeric());
            let found = if is_within_a_word { None } else { self.variable(&out, rest) };
            let (length, instead) = found.unwrap_or((first.len_utf8(), &rest[..first.len_utf8()]));
            out.push_str(instead);
            rest = &rest[length..];
        }
        out
    }

    /// What is variable at the beginning of a text that follows another: its length, and what
    /// stands in its place.
    fn variable(&self, before: &str, text: &str) -> Option<(usize, &'static str)> {
        let word = |accepted: fn(char) -> bool| text.find(|c| !accepted(c)).unwrap_or(text.len());
        match word(|c| c.is_ascii_hexdigit()) {
            64 => return Some((64, "<hash>")),
            32 => return Some((32, "<id>")),
            2 if before.ends_with("packs/") => return Some((2, "<..>")),
            _ => {}
        }
        let time = text.get(.."2026-11-23 14:36:01".len()).unwrap_or_default();
        let is_time = time.char_indices().all(|(at, c)| match at {
            4 | 7 => c == '-',
            10 => c == ' ' || c == 'T',
            13 | 16 => c == ':',
            _ => c.is_ascii_digit(),
        });
        // Earlier ones are of the source and must be as they were.
        if !time.is_empty() && is_time && time.replace('T', " ") >= self.started {
            let fraction = text[time.len()..]
                .find(|c: char| !c.is_ascii_digit() && !".:+Z".contains(c))
                .unwrap_or(text.len() - time.len());
            return Some((time.len() + fraction, "<time>"));
        }
        let number = word(|c| c.is_ascii_digit() || c == '.' || c == ',');
        if number == 0 {
            return None;
        }
        // Manifests hold ids, times and inodes: how much they are shows in a small figure.
        if before.ends_with("added ") {
            let end = text.find(" : 1)")? + " : 1)".len();
            let is_small = text[..end].contains(" B in") || text[..end].contains(" KiB in");
            return is_small.then_some((end, "<little>"));
        }
        if before.ends_with("pid ") {
            return Some((number, "<pid>"));
        }
        let rest = &text[number..];
        let line = before.rsplit('\n').next().unwrap_or_default();
        if rest.starts_with(" KiB") && (line.ends_with("stored as ") || line.starts_with("<snap-"))
        {
            return Some((number + " KiB".len(), "<little>"));
        }
        if rest.starts_with(" s") && !rest[2..].starts_with(|c: char| c.is_alphanumeric()) {
            return Some((number + 2, "<duration>"));
        }
        let unit = rest.find("/s)")?;
        let is_unit = [" B", " KiB", " MiB", " GiB"].contains(&&rest[..unit]);
        (before.ends_with('(') && is_unit).then_some((number + unit + 2, "<rate>"))
    }
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    /// The command line, as the test wrote it.
    pub line: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    pub fn of(line: &str, output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains("panicked at"), "{line}: {err}");
        Ran { line: line.to_owned(), code: output.status.code(), out, err }
    }

    /// Expects an exit code.
    pub fn ended(self, code: i32) -> Ran {
        let Ran { line, out, err, .. } = &self;
        assert_eq!(self.code, Some(code), "colvault {line}\n{out}\n{err}");
        self
    }

    /// Expects a text in what it complained about.
    pub fn complains(self, text: &str) -> Ran {
        assert!(self.err.contains(text), "colvault {}: {text:?} in {}", self.line, self.err);
        self
    }

    /// Expects that it complained about nothing.
    pub fn silent(self) -> Ran {
        assert_eq!(self.err, "", "colvault {}: nothing on standard error", self.line);
        self
    }
}

/// A run that has not come to its end. It is ended with the test.
pub struct Started {
    line: String,
    child: Option<Child>,
}

impl Started {
    /// Starts a command of the program.
    pub fn of(line: &str, mut command: Command) -> Started {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program can be started");
        Started { line: line.to_owned(), child: Some(child) }
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it was not waited for");
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    /// Waits until something is so, while the program runs.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            let ended = self.child.as_mut().expect("it was not waited for").try_wait().unwrap();
            assert_eq!(ended, None, "colvault {} runs until {what}", self.line);
            assert!(begun.elapsed() < PATIENCE, "colvault {}: waiting for {what}", self.line);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let child = self.child.take().expect("it was not waited for");
        Ran::of(&self.line, child.wait_with_output().expect("a child can be waited for"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Commands and what came of them, to be compared with what a committed file says.
pub struct Transcript<'a> {
    place: &'a Place,
    text: String,
}

impl<'a> Transcript<'a> {
    pub fn new(place: &'a Place) -> Transcript<'a> {
        Transcript { place, text: String::new() }
    }

    /// Runs the command of a line, which has to end with this code, and writes down what it wrote.
    pub fn run(&mut self, code: i32, line: &str) -> Ran {
        let ran = self.place.expect(code, line);
        self.add(&ran);
        ran
    }

    /// Writes down a run. Standard error stands behind exclamation marks, findings in order: that
    /// in which threads meet them is another each time.
    pub fn add(&mut self, ran: &Ran) {
        let _ = writeln!(self.text, "$ colvault {}", ran.line);
        self.text.push_str(&self.place.normalised(&ran.out));
        let err = self.place.normalised(&ran.err);
        let mut complaints: Vec<&str> = err.lines().collect();
        complaints
            .chunk_by_mut(|one, next| is_finding(one) && is_finding(next))
            .for_each(<[_]>::sort);
        for line in complaints {
            let _ = writeln!(self.text, "! {line}");
        }
        let _ = writeln!(self.text, "= {}\n", ran.code.expect("no signal ended it"));
    }

    /// Writes down what follows.
    pub fn title(&mut self, title: &str) {
        let _ = writeln!(self.text, "# {title}");
    }

    /// Compares everything with a file of `tests/fixtures/cli`. With `COLVAULT_BLESS=1` the file
    /// is written instead: look at it before it is committed.
    pub fn compare(self, file: &str) {
        let path = expectations().join(file);
        if std::env::var_os("COLVAULT_BLESS").is_some_and(|bless| bless == "1") {
            fs::create_dir_all(expectations()).unwrap();
            fs::write(&path, &self.text).unwrap();
            return;
        }
        let expected =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let differs = |(one, other): &(&str, &str)| one != other;
        let lines = expected.lines().zip(self.text.lines()).enumerate();
        if let Some((at, (wanted, found))) = lines.into_iter().find(|(_, pair)| differs(pair)) {
            let commands = self.text.lines().take(at + 1).filter(|line| line.starts_with('$'));
            let command = commands.last().unwrap_or_default();
            panic!("{file}:{}: after {command}\n  expected {wanted}\n  found    {found}", at + 1);
        }
        assert_eq!(expected, self.text, "{file}: one of both ends early");
    }
}

fn is_finding(line: &str) -> bool {
    let kind = line.strip_prefix("  ").and_then(|line| line.split_once(": "));
    kind.is_some_and(|(kind, _)| kind.chars().all(|c| c == '-' || c.is_ascii_lowercase()))
}

/// Returns the directory of what transcripts are compared with.
pub fn expectations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cli")
}

/// Returns the names in a directory, sorted; none if it is not there.
pub fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Everything below a directory: path, size, mode and time of the last change. Two listings of a
/// directory in which nothing was written are equal.
pub fn listing(directory: &Path) -> Vec<(PathBuf, u64, u32, SystemTime)> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            pending.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.push((path, metadata.len(), metadata.mode(), metadata.modified().unwrap()));
    }
    found.sort();
    found
}

/// A process of another program, ended with the test.
pub struct Other(Child);

impl Other {
    /// Starts a copy of `sleep` under another name, in a working directory.
    pub fn sleeping_as(program: &Path, working_directory: &Path) -> Other {
        // Copied by another process: one that a test forks meanwhile would keep it open.
        let copied = Command::new("cp").arg("/bin/sleep").arg(program).status().unwrap();
        assert!(copied.success());
        let mut command = Command::new(program);
        command.arg("300").current_dir(working_directory).env_clear();
        Other::start(&mut command)
    }

    pub fn start(command: &mut Command) -> Other {
        Other(command.stdin(Stdio::null()).spawn().expect("it can be started"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes a file and the directories on the way.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Runs another program, which has to succeed, and returns what it wrote.
pub fn run_other(program: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).args(arguments);
    let output = command.output().unwrap();
    let (out, err) = (output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program}: {err}");
    String::from_utf8(out).unwrap()
}
