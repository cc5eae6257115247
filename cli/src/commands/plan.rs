//! `colvault plan`

use std::path::{Path, PathBuf};
use std::time::Instant;

use colvault_engine::backup::BackupOptions;
use colvault_engine::error::ErrorKind;
use colvault_engine::pattern::Patterns;
use colvault_engine::plan::plan;
use colvault_engine::repository::Repository;
use colvault_engine::source::SourceTree;
use colvault_engine::source::columnstore::programs;
use colvault_engine::source::file_system::{FileSystem, file_system};

use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Planned;
use crate::source::{NOT_CONFIRMED, Source, SourceArgs, refuse_own_directories};

/// Say what a backup would do, and what speaks against it: nothing is written but the index cache
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    source: SourceArgs,

    /// Plan to read every file, changed or not
    #[arg(short, long)]
    force: bool,

    /// Show every setting, what it came to and where it was said, and nothing else
    #[arg(long)]
    show_settings: bool,
}

/// Plans a backup.
pub fn run(args: &PlanArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    if args.show_settings {
        context.output.settings(&context.settings.values);
        return Ok(Exit::Done);
    }
    let exclude = args.source.patterns()?;
    let mut source = args.find(context)?;
    let mut obstacles: Vec<Failure> = source.obstacles.drain(..).collect();
    let repository = open(context).unwrap_or_else(|failure| {
        obstacles.push(failure);
        None
    });
    let own = stand_apart(&source, &exclude, context);
    let surroundings = source.deployment.take();
    let file_systems = file_systems(&source.trees);
    let programs = match &surroundings {
        Some(surroundings) => programs(&surroundings.root)?,
        None => Vec::new(),
    };
    let (notes, credentials) = (source.notes.clone(), source.credentials.clone());
    let mut options = BackupOptions {
        force: args.force,
        ..args.source.options(source, exclude, false, context)?
    };
    if let Err(failure) = own {
        obstacles.push(failure);
        // A plan copies nothing into itself.
        options.forbidden.clear();
    }
    let watch = Watch::new(context.output);
    let started = Instant::now();
    let report = plan(repository.as_ref(), &options, &watch)?;
    let elapsed = started.elapsed();
    if report.needs_confirmation {
        let problem = "leaving out what the system of record makes good is not confirmed";
        let failure = Failure::new(ErrorKind::Refused, "record", problem);
        obstacles.push(failure.with_hint(NOT_CONFIRMED));
    }
    let target = repository.map(|repository| {
        let location = PathBuf::from(repository.backend().location());
        repository.close();
        (location.display().to_string(), file_system(&location).ok())
    });
    watch.add(&report.findings);
    let findings = watch.findings();
    let (kind, group) = options.source();
    context.output.planned(&Planned {
        report: &report,
        kind,
        group: &group,
        host: &options.host,
        compression: options.compression,
        notes: &notes,
        credentials: &credentials,
        surroundings: surroundings.as_ref(),
        programs: &programs,
        file_systems: &file_systems,
        repository: target.as_ref(),
        obstacles: &obstacles,
        findings: &findings,
        elapsed,
    });
    let is_clear = obstacles.is_empty() && findings.is_empty();
    Ok(if is_clear { Exit::Done } else { Exit::Findings })
}

impl PlanArgs {
    /// Finds out what is meant: this host's deployment when nothing is said.
    fn find(&self, context: &Context<'_>) -> Result<Source, Failure> {
        let reload = &context.settings.reload;
        match self.source.root.is_none() && !self.source.is_plain() {
            true => self.source.deployment_below(Path::new("/"), reload),
            false => self.source.find(reload),
        }
    }
}

/// Opens the repository if one was given.
fn open(context: &Context<'_>) -> Result<Option<Repository>, Failure> {
    match context.settings.has_repository() {
        true => context.open_repository().map(Some),
        false => Ok(None),
    }
}

/// Fails when the source and the repository, if one was given, lie in one another.
fn stand_apart(source: &Source, exclude: &Patterns, context: &Context<'_>) -> Result<(), Failure> {
    let Ok(directory) = context.settings.directory() else { return Ok(()) };
    let cache = context.settings.cache.as_ref();
    refuse_own_directories(&source.trees, exclude, directory.as_deref(), cache)
}

/// Returns the file system each component is on; one that cannot be examined is left out.
fn file_systems(trees: &[SourceTree]) -> Vec<(String, FileSystem)> {
    let of = |tree: &SourceTree| Some((tree.component.clone(), file_system(&tree.base).ok()?));
    trees.iter().filter_map(of).collect()
}
