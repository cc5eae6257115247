//! `colvault dump`

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use colvault_engine::dump::{DumpOptions, dump};
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::packer::Packers;
use colvault_engine::progress::{Event, Observer};
use colvault_engine::snapshot::{Filter, choose};

use crate::commands::{NEWER, exit_of, not_chosen, split_snapshot};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Dumped;
use crate::output::reload::lacks;

/// Write a file to standard output, or a directory, a component or a snapshot as a tar stream
///
/// Paths in an archive are those that a restore makes below its target. Unpack it with: tar
/// --xattrs --xattrs-include='*' -xpf -
#[derive(Debug, clap::Args)]
pub struct DumpArgs {
    /// The snapshot: an id, the beginning of one, latest or latest~N; with :PATH what is there
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// The file or directory: as the source named it, or without a leading slash from each
    /// component's base on; everything if it is not given
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,

    /// Only this component; dbroot means every dbroot/N; may be given more than once
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<String>,

    /// Write an archive, also of a single file
    #[arg(short, long)]
    archive: bool,

    /// Write to this file, which must not exist; if that fails, it is removed
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write to a terminal, too
    #[arg(long)]
    force: bool,

    /// For latest: only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// For latest: only snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
}

/// Writes what was asked for.
pub fn run(args: &DumpArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let (wanted, path) = split_snapshot(&args.snapshot);
    let path = match (&args.path, path) {
        (Some(_), Some(_)) => return Err(Failure::usage("one path expected, found two")),
        (path, of_snapshot) => path.clone().or_else(|| of_snapshot.map(PathBuf::from)),
    };
    if args.output.is_none() && context.output.is_for_programs() {
        let problem = "messages and what is dumped cannot both go to standard output";
        return Err(Failure::usage(problem).with_hint("with --json, give --output FILE"));
    }
    if args.output.is_none() && io::stdout().is_terminal() && !args.force {
        let problem = "a file or a pipe expected, found a terminal";
        return Err(Failure::new(ErrorKind::Refused, "standard output", problem)
            .with_hint("give --output FILE, or --force to write to the terminal"));
    }
    let watch = Watch::new(context.output);
    let (repository, listing) = context.open_to_read(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let chosen = choose(&listing, wanted, &filter, false).map_err(not_chosen)?;
    if let Some(warning) = &chosen.warning {
        context.output.event(Event::Warning(warning));
    }
    if path.is_none()
        && let Some(lacks) = lacks(&chosen.named.snapshot)
    {
        let text = format!("the snapshot is {lacks}; restore says how they get back");
        context.output.event(Event::Warning(&text));
    }
    let options = DumpOptions {
        components: args.component.clone(),
        path: path.map(|path| path.as_os_str().as_bytes().to_vec()),
        archive: args.archive,
        packers: &Packers,
        threads: context.settings.threads,
        cancel: context.cancel.clone(),
    };
    let started = Instant::now();
    let mut out = Target::open(args)?;
    // A bar would stand amid what is written.
    let observer = WithoutProgress(&watch);
    let watching: &dyn Observer = match args.output {
        None if io::stdout().is_terminal() => &observer,
        _ => &watch,
    };
    let report = match dump(&repository, &chosen.named, &options, &mut out, watching) {
        Ok(report) => report,
        // Nobody is there to be told; but what was asked for was not written.
        Err(error) if is_broken_pipe(&error) => return Ok(Exit::Failed),
        Err(error) => {
            out.remove();
            let is_newer = error.kind() == ErrorKind::Unsupported;
            let failure = Failure::from(error);
            return Err(if is_newer { failure.with_hint(NEWER) } else { failure });
        }
    };
    if let Err(failure) = out.finish() {
        out.remove();
        return Err(failure);
    }
    let traffic = repository.backend().traffic();
    repository.close();
    watch.add(&report.findings);
    let findings = watch.findings();
    context.output.dumped(&Dumped {
        named: &chosen.named,
        report: &report,
        output: args.output.as_deref(),
        findings: &findings,
        elapsed: started.elapsed(),
        traffic,
    });
    Ok(exit_of(&findings))
}

/// Hands on what was found and nothing of how far it has come.
struct WithoutProgress<'a>(&'a Watch<'a>);

impl Observer for WithoutProgress<'_> {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Finding(_) | Event::Warning(_)) {
            self.0.event(event);
        }
    }
}

/// A pipe nobody reads from: EPIPE.
fn is_broken_pipe(error: &Error) -> bool {
    error.os_error() == Some(rustix::io::Errno::PIPE.raw_os_error())
}

/// Where the bytes go. Large writes follow each other: nothing is buffered once more.
struct Target {
    file: File,
    /// The file that was made, if one was.
    path: Option<PathBuf>,
}

impl Target {
    fn open(args: &DumpArgs) -> Result<Target, Failure> {
        let Some(path) = &args.output else {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let stdout = stdout.map_err(|error| Error::io("standard output", "open", error))?;
            return Ok(Target { file: File::from(stdout), path: None });
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| Error::io(path, "create", error))?;
        Ok(Target { file, path: Some(path.clone()) })
    }

    /// Makes a file that was written durable, with its name.
    fn finish(&self) -> Result<(), Failure> {
        if let Some(path) = &self.path {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let above = File::open(above.unwrap_or(Path::new(".")));
            self.file
                .sync_all()
                .and_then(|()| above?.sync_all())
                .map_err(|error| Error::io(path, "sync", error))?;
        }
        Ok(())
    }

    /// Removes a file that is not whole.
    fn remove(self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
