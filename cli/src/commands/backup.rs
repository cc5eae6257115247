//! `colvault backup`

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use colvault_engine::backup::{BackupOptions, backup_guarded};
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::snapshot::SnapshotState;
use colvault_engine::pattern::Patterns;

use crate::commands::exit_of;
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::BackedUp;
use crate::process;
use crate::source::{DeploymentOptions, Source, deployment, plain_paths, refuse_own_directories};

/// Says that plain paths are backed up. What only a deployment has conflicts with them: clap does not
/// ask for `--root` once an argument is there that `--root` conflicts with.
const PLAIN: [&str; 2] = ["paths", "files_from"];

/// Back up a ColumnStore deployment (--root), or some paths
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Files and directories to back up
    #[arg(value_name = "PATH", conflicts_with = "root")]
    paths: Vec<PathBuf>,

    /// Back up the ColumnStore deployment below this directory; / is this host's
    #[arg(long, value_name = "DIR", conflicts_with = "files_from")]
    root: Option<PathBuf>,

    /// Name of the deployment, in place of the one in Columnstore.xml
    #[arg(long, value_name = "NAME", requires = "root", conflicts_with_all = PLAIN)]
    deployment: Option<String>,

    /// Read a deployment whose daemons run; the snapshot is marked inconsistent
    #[arg(long, requires = "root", conflicts_with_all = PLAIN)]
    unsafe_live: bool,

    /// Leave out files of the deployment that hold credentials
    #[arg(long, requires = "root", conflicts_with_all = PLAIN)]
    without_secrets: bool,

    /// Back up the paths in this file, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,

    /// Leave out what matches; with a leading slash from the base on, else at any depth
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Leave out what matches a line of this file; lines with # are comments
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// Do not cross into other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,

    /// A word to find the snapshot by; may be given more than once
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    /// Name of the host for the snapshot
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Option<String>,

    /// Write nothing; say what would be stored
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Read every file, changed or not
    #[arg(short, long)]
    force: bool,

    /// Do not take a new ctime for a change (network file systems)
    #[arg(long)]
    ignore_ctime: bool,

    /// Do not take a new inode number for a change (network file systems)
    #[arg(long)]
    ignore_inode: bool,
}

/// Makes a snapshot.
pub fn run(args: &BackupArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let exclude = args.patterns()?;
    let source = args.source()?;
    let directory = context.settings.repository()?;
    refuse_own_directories(&source.trees, &exclude, directory, context.settings.cache.as_ref())?;
    let repository = context.open_repository()?;
    context.output.source(&source);
    let watch = Watch::new(context.output);
    let daemons = source.daemons.clone();
    let options = args.options(source, exclude, context)?;
    let started = Instant::now();
    // A server that was started meanwhile makes the snapshot inconsistent.
    let guard = || match &daemons {
        Some(daemons) => daemons.started_meanwhile(),
        None => Ok(Vec::new()),
    };
    let report = backup_guarded(&repository, &options, &guard, &watch)?;
    let elapsed = started.elapsed();
    repository.close();
    watch.add(&report.snapshot.findings);
    let findings = watch.findings();
    let backed_up =
        BackedUp { report: &report, dry_run: args.dry_run, findings: &findings, elapsed };
    context.output.backed_up(&backed_up);
    let is_good = report.snapshot.state == SnapshotState::Complete;
    Ok(if is_good { exit_of(&findings) } else { Exit::Findings })
}

impl BackupArgs {
    fn source(&self) -> Result<Source, Failure> {
        if let Some(root) = &self.root {
            return deployment(&DeploymentOptions {
                root,
                name: self.deployment.as_deref(),
                is_unsafe_live: self.unsafe_live,
                is_without_secrets: self.without_secrets,
            });
        }
        let mut paths = self.paths.clone();
        if let Some(file) = &self.files_from {
            paths.extend(lines(file)?.into_iter().map(|line| OsString::from_vec(line).into()));
        }
        if paths.is_empty() {
            return Err(Failure::usage("nothing to back up was given").with_hint(
                "--root DIR backs up the ColumnStore deployment below DIR (--root / is this \
                 host's); PATH... backs up files and directories as they are",
            ));
        }
        Ok(plain_paths(&paths)?)
    }

    fn patterns(&self) -> Result<Patterns, Failure> {
        let mut globs = self.exclude.clone();
        for file in &self.exclude_file {
            for line in lines(file)? {
                let text = String::from_utf8(line).map_err(|error| {
                    Error::new(ErrorKind::Invalid, file.display().to_string(), "UTF-8 expected")
                        .caused_by(error)
                })?;
                globs.extend(glob_of(&text).map(str::to_owned));
            }
        }
        Ok(Patterns::new(globs.iter().map(String::as_str))?)
    }

    fn options(
        &self,
        source: Source,
        exclude: Patterns,
        context: &Context<'_>,
    ) -> Result<BackupOptions, Failure> {
        Ok(BackupOptions {
            trees: source.trees,
            group: source.group,
            paths: source.paths,
            host: self.host.clone().unwrap_or_else(process::host_name),
            tags: self.tag.clone(),
            exclude,
            one_file_system: self.one_file_system,
            forbidden: context.forbidden()?,
            ignore_ctime: self.ignore_ctime,
            ignore_inode: self.ignore_inode,
            force: self.force,
            dry_run: self.dry_run,
            threads: context.settings.threads,
            left_out: source.left_out,
            record: None,
            credentials: source.credentials,
            facts: source.facts,
            evidence: source.evidence,
            findings: source.findings,
            clock: process::now,
            program: process::PROGRAM.to_owned(),
            cancel: context.cancel.clone(),
        })
    }
}

/// Returns the lines of a file, or of standard input, without empty ones.
fn lines(file: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|error| Error::io(file, "read", error))?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(<[u8]>::to_vec).collect())
}

/// Returns the pattern on a line; `None` for a comment or a blank one.
fn glob_of(line: &str) -> Option<&str> {
    let line = line.trim();
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_patterns() {
        let file = "# a comment\n\n *.tmp \r\n/var/#keep\n";
        let globs: Vec<_> = file.lines().filter_map(glob_of).collect();
        assert_eq!(globs, ["*.tmp", "/var/#keep"]);
    }
}
