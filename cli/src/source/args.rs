//! The options that say what is backed up: those of `backup` and `plan`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use colvault_engine::backup::{BackupOptions, RecordOptions};
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::snapshot::ReloadStep;
use colvault_engine::packer::Packers;
use colvault_engine::pattern::Patterns;

use super::record::{RecordSettings, SourceOfRecord};
use super::storing::{CompressionAs, SlotsAs};
use super::{DeploymentOptions, Source, deployment, plain_paths};
use crate::context::Context;
use crate::exit::Failure;
use crate::process;

/// Says that plain paths are backed up. What only a deployment has conflicts with them.
pub const PLAIN: [&str; 2] = ["paths", "files_from"];

/// What is backed up, and how its files are looked at.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    /// Files and directories to back up
    #[arg(value_name = "PATH", conflicts_with = "root")]
    pub paths: Vec<PathBuf>,

    /// Back up the ColumnStore deployment below this directory; / is this host's
    #[arg(long, value_name = "DIR", conflicts_with = "files_from")]
    pub root: Option<PathBuf>,

    /// Name of the deployment, in place of the one in Columnstore.xml
    #[arg(long, value_name = "NAME", conflicts_with_all = PLAIN)]
    deployment: Option<String>,

    /// Read a deployment whose daemons run; the snapshot is marked inconsistent
    #[arg(long, conflicts_with_all = PLAIN)]
    unsafe_live: bool,

    /// Leave out files of the deployment that hold credentials
    #[arg(long, conflicts_with_all = PLAIN)]
    without_secrets: bool,

    /// Where the column data has its origin; what can be loaded again from there is left out
    #[arg(long, value_name = "SOURCE", conflicts_with_all = PLAIN)]
    record: Option<SourceOfRecord>,

    /// Name of the database the column data is loaded from
    #[arg(long, value_name = "NAME", conflicts_with_all = PLAIN)]
    record_database: Option<String>,

    /// A data file or directory the column data is loaded from: backed up as the component record;
    /// may be given more than once
    #[arg(long, value_name = "PATH", conflicts_with_all = PLAIN)]
    record_data: Vec<PathBuf>,

    /// Only these tables are left to the system of record, as SCHEMA.TABLE or a glob of both; may be
    /// given more than once
    #[arg(long, value_name = "SCHEMA.TABLE", conflicts_with_all = PLAIN)]
    record_tables: Vec<String>,

    /// Back up the paths in this file, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,

    /// Leave out what matches; with a leading slash from the base on, else at any depth
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Leave out what matches a line of this file; lines with # are comments
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,

    /// Do not cross into other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,

    /// In which form slots of segment files are stored, in place of the repository's own
    #[arg(long, value_name = "FORM")]
    slots: Option<SlotsAs>,

    /// How hard new chunks are compressed
    #[arg(long, value_name = "HOW", default_value = "default")]
    compression: CompressionAs,

    /// Name of the host for the snapshot
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Option<String>,

    /// Do not take a new ctime for a change (network file systems)
    #[arg(long)]
    ignore_ctime: bool,

    /// Do not take a new inode number for a change (network file systems)
    #[arg(long)]
    ignore_inode: bool,
}

impl SourceArgs {
    /// Whether plain paths are meant.
    pub fn is_plain(&self) -> bool {
        !self.paths.is_empty() || self.files_from.is_some()
    }

    /// Finds out what is meant.
    pub fn find(&self, reload: &[ReloadStep]) -> Result<Source, Failure> {
        if let Some(root) = self.root.as_ref().filter(|_| !self.is_plain()) {
            return self.deployment_below(root, reload);
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

    /// Finds out what the deployment below a root is made of.
    pub fn deployment_below(&self, root: &Path, reload: &[ReloadStep]) -> Result<Source, Failure> {
        let record = RecordSettings {
            source: self.record,
            database: self.record_database.clone().unwrap_or_default(),
            data: self.record_data.clone(),
            tables: self.record_tables.clone(),
            reload: reload.to_vec(),
        };
        deployment(&DeploymentOptions {
            root,
            name: self.deployment.as_deref(),
            is_unsafe_live: self.unsafe_live,
            is_without_secrets: self.without_secrets,
            record: &record,
        })
    }

    /// Returns what the user leaves out.
    pub fn patterns(&self) -> Result<Patterns, Failure> {
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

    /// Returns the engine's options, without tags, neither forced nor a dry run.
    pub fn options(
        &self,
        source: Source,
        exclude: Patterns,
        apply_record: bool,
        context: &Context<'_>,
    ) -> Result<BackupOptions, Failure> {
        Ok(BackupOptions {
            trees: source.trees,
            group: source.group,
            paths: source.paths,
            host: self.host.clone().unwrap_or_else(process::host_name),
            tags: Vec::new(),
            exclude,
            one_file_system: self.one_file_system,
            forbidden: context.forbidden()?,
            ignore_ctime: self.ignore_ctime,
            ignore_inode: self.ignore_inode,
            force: false,
            fail_on_corruption: false,
            slots: self.slots.map(Into::into),
            compression: self.compression.into(),
            packers: &Packers,
            dry_run: false,
            prove: true,
            threads: context.settings.threads,
            left_out: source.left_out,
            record: source.record.map(|record| RecordOptions {
                record,
                table_of: source.record_table_of,
                apply: apply_record,
            }),
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
