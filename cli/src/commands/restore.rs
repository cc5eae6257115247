//! `colvault restore`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::snapshot::Snapshot;
use colvault_engine::format::text::decode_path;
use colvault_engine::packer::Packers;
use colvault_engine::pattern::Patterns;
use colvault_engine::progress::Event;
use colvault_engine::restore::{RestoreOptions, Select, Target, destinations, restore};
use colvault_engine::snapshot::{Filter, choose};

use crate::commands::{NEWER, exit_of, not_chosen, selected_path, split_snapshot, tables};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Restored;
use crate::source::{Daemons, describe};

/// Restore a snapshot, or a part of it
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["target", "map"]))]
pub struct RestoreArgs {
    /// The snapshot: an id, the beginning of one, latest or latest~N; with :PATH only what is there
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// Restore below this directory: DIR/datadir, DIR/dbroot/1 and so on; plain paths as DIR/PATH
    #[arg(short, long, value_name = "DIR")]
    target: Option<PathBuf>,

    /// Restore a component right into a directory, and only the components mapped; may be given
    /// more than once
    #[arg(long, value_name = "COMPONENT=DIR", value_parser = mapping)]
    map: Vec<(String, PathBuf)>,

    /// Only this component; dbroot means every dbroot/N; may be given more than once
    #[arg(long, value_name = "COMPONENT")]
    component: Vec<String>,

    /// Only this path and what is below: as the source named it, or without a leading slash from
    /// each component's base on; may be given more than once
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,

    /// Only the segment files of this table, as SCHEMA.TABLE or a glob of both, to look at; may be given
    /// more than once. They cannot be put into a deployment: its extent map and system catalog know
    /// nothing of them
    #[arg(long, value_name = "SCHEMA.TABLE", conflicts_with_all = ["delta", "path"])]
    table: Vec<String>,

    /// Only what matches; may be given more than once
    #[arg(short, long, value_name = "GLOB")]
    include: Vec<String>,

    /// Leave out what matches; may be given more than once
    #[arg(short, long, value_name = "GLOB")]
    exclude: Vec<String>,

    /// Make an existing tree equal: write only what differs, DELETE what the snapshot does not have
    #[arg(long)]
    delta: bool,

    /// Do not allocate long runs of zeros
    #[arg(long)]
    sparse: bool,

    /// Use the numbers of owners and groups, not their names
    #[arg(long)]
    numeric_ids: bool,

    /// Write nothing; say what would be restored
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// For latest: pass over snapshots that are not complete or whose proof is refuted
    #[arg(long)]
    latest_good: bool,

    /// For latest: only snapshots of this host
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// For latest: only snapshots with this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
}

/// Restores a snapshot.
pub fn run(args: &RestoreArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let (wanted, path) = split_snapshot(&args.snapshot);
    let mut options = args.options(path, context)?;
    let watch = Watch::new(context.output);
    let (repository, listing) = context.open_to_read(&watch)?;
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let chosen = choose(&listing, wanted, &filter, args.latest_good).map_err(not_chosen)?;
    if let Some(warning) = &chosen.warning {
        context.output.event(Event::Warning(warning));
    }
    if path.is_some() && !args.table.is_empty() {
        return Err(Failure::usage("--table and a path of the snapshot rule each other out"));
    }
    let mut columns = Vec::new();
    if let Some(tables) = tables::of_snapshot(&repository, &chosen.named, &args.table)? {
        options.select.oids = Some(tables.oids());
        let select = &options.select;
        columns = tables.columns(&repository, &chosen.named, select, context.cancel, &watch)?;
    }
    refuse_running(&chosen.named.snapshot, &options)?;
    let started = Instant::now();
    let report = restore(&repository, &chosen.named, &options, &watch)
        .map_err(|error| args.failure(error))?;
    let elapsed = started.elapsed();
    let traffic = repository.backend().traffic();
    repository.close();
    watch.add(&report.findings);
    let findings = watch.findings();
    context.output.restored(&Restored {
        named: &chosen.named,
        report: &report,
        dry_run: args.dry_run,
        delta: args.delta,
        tables: &tables::tables_of(&columns),
        columns: &columns,
        is_whole: options.select.takes_whole_components(),
        has_column_data: has_column_data(&chosen.named.snapshot, &options.select),
        findings: &findings,
        elapsed,
        traffic,
        next: context.next(),
    });
    Ok(exit_of(&findings))
}

impl RestoreArgs {
    fn failure(&self, error: Error) -> Failure {
        let is_refused = error.kind() == ErrorKind::Refused;
        if error.kind() == ErrorKind::Unsupported {
            return Failure::from(error).with_hint(NEWER);
        }
        let failure = Failure::from(error);
        if !is_refused || self.delta {
            return failure;
        }
        if !self.table.is_empty() {
            return failure.with_hint("restore to a directory that is empty or not there");
        }
        failure.with_hint(
            "restore to a directory that is empty or not there; --delta makes an existing tree \
             equal to the snapshot, and deletes what the snapshot does not have",
        )
    }

    fn options(
        &self,
        path: Option<&str>,
        context: &Context<'_>,
    ) -> Result<RestoreOptions, Failure> {
        let globs = |globs: &[String]| Patterns::new(globs.iter().map(String::as_str));
        let paths = self.path.iter().map(PathBuf::as_path).chain(path.map(Path::new));
        let mapped = self.map.iter().map(|(_, directory)| directory.as_path());
        self.target.as_deref().into_iter().chain(mapped).try_for_each(refuse_bucket)?;
        let target = match &self.target {
            Some(directory) => Target::Directory(directory.clone()),
            None => Target::Map(self.map.clone()),
        };
        Ok(RestoreOptions {
            target,
            select: Select {
                components: self.component.clone(),
                paths: paths.map(selected_path).collect(),
                include: globs(&self.include)?,
                exclude: globs(&self.exclude)?,
                oids: None,
            },
            delta: self.delta,
            sparse: self.sparse,
            numeric_ids: self.numeric_ids,
            dry_run: self.dry_run,
            packers: &Packers,
            threads: context.settings.threads,
            cancel: context.cancel.clone(),
        })
    }
}

/// Whether some of what is chosen may be in a DB Root.
fn has_column_data(snapshot: &Snapshot, select: &Select) -> bool {
    let mut dbroots = snapshot.components.iter().filter(|component| {
        component.name.starts_with("dbroot/") && select.takes_component(&component.name)
    });
    dbroots.any(|component| {
        let base = decode_path(&component.path);
        let is_near = |wanted: &Vec<u8>| {
            let wanted = Path::new(OsStr::from_bytes(wanted));
            wanted.is_relative() || wanted.starts_with(&base) || base.starts_with(wanted)
        };
        select.oids.is_none() && (select.paths.is_empty() || select.paths.iter().any(is_near))
    })
}

/// Fails with `Refused` when a daemon has to do with a directory that is restored to.
fn refuse_running(snapshot: &Snapshot, options: &RestoreOptions) -> Result<(), Failure> {
    let places = destinations(snapshot, options)?;
    let directories: Vec<PathBuf> = places.into_iter().map(|(_, path)| path).collect();
    let root = match (&options.target, directories.first()) {
        (Target::Directory(directory), _) => directory.clone(),
        (Target::Map(_), Some(first)) => first.clone(),
        (Target::Map(_), None) => return Ok(()),
    };
    let object = root.display().to_string();
    let running = Daemons::of(root, directories).running()?;
    if running.is_empty() {
        return Ok(());
    }
    let problem = format!("daemons are using the target: {}", describe(&running));
    Err(Failure::new(ErrorKind::Refused, object, problem)
        .with_hint("stop them first, or restore to another directory"))
}

/// Fails where a directory is written as a bucket is: a restore would make a directory of that name.
fn refuse_bucket(directory: &Path) -> Result<(), Failure> {
    let text = directory.to_string_lossy();
    match text.strip_prefix("s3:").filter(|rest| rest.starts_with("//") || rest.starts_with("http"))
    {
        Some(_) => Err(Failure::usage(format!("{text}: a directory expected, found a bucket"))
            .with_hint(format!(
                "a snapshot is restored to files; a directory of that name is ./{text}"
            ))),
        None => Ok(()),
    }
}

/// Reads `COMPONENT=DIR`.
fn mapping(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((component, directory)) if !component.is_empty() && !directory.is_empty() => {
            Ok((component.to_owned(), directory.into()))
        }
        _ => Err("COMPONENT=DIR expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_the_engine_wants_them() {
        assert_eq!(mapping("dbroot/1=/a=b"), Ok(("dbroot/1".into(), "/a=b".into())));
        assert!(mapping("dbroot/1").is_err() && mapping("=x").is_err() && mapping("x=").is_err());
        assert_eq!(selected_path(Path::new("/var//lib/./x/")), b"/var/lib/x");
        assert_eq!(selected_path(Path::new("mysql/")), b"mysql");
    }
}
