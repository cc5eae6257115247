//! `colvault plan`

use std::path::Path;
use std::time::{Instant, SystemTime};

use colvault_engine::backend::Space;
use colvault_engine::backup::BackupOptions;
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::format::config::{Config, CreateOnlyFact};
use colvault_engine::pattern::Patterns;
use colvault_engine::plan::{Forecast, plan};
use colvault_engine::repository::Repository;
use colvault_engine::source::SourceTree;
use colvault_engine::source::columnstore::programs;
use colvault_engine::source::file_system::{FileSystem, file_system};
use colvault_engine::traffic::Traffic;

use crate::commands::object_lock::is_round_due;
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::{Planned, Requests};
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
    let requests = match &repository {
        Some(repository) => requests(repository, &report.forecast)?,
        None => None,
    };
    let target = repository.map(|repository| {
        let location = repository.backend().location();
        repository.close();
        let directory = context.settings.directory().ok().flatten();
        (location, directory.and_then(|directory| file_system(&directory).ok()))
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
        requests: requests.as_ref(),
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
        true => context.open_for_session().map(Some),
        false => Ok(None),
    }
}

/// Fails when the source and the repository, if one was given, lie in one another.
fn stand_apart(source: &Source, exclude: &Patterns, context: &Context<'_>) -> Result<(), Failure> {
    let Ok(directory) = context.settings.directory() else { return Ok(()) };
    let cache = context.settings.cache.as_ref();
    refuse_own_directories(&source.trees, exclude, directory.as_deref(), cache)
}

/// Packs that an index object names, roughly: it is written when enough chunks wait for one.
const PACKS_OF_AN_INDEX: u64 = 8;

/// Returns what was asked of the store, and what the backup is going to ask; `None` where that costs
/// nothing.
fn requests(repository: &Repository, known: &Forecast) -> Result<Option<Requests>, Error> {
    let Some(own) = repository.backend().traffic() else { return Ok(None) };
    let round = match repository.config().store.object_lock {
        Some(lock) if is_round_due(repository, lock.days, SystemTime::now()) => {
            Some(objects_to_lock(repository)?)
        }
        _ => None,
    };
    Ok(Some(Requests { own, of_backup: forecast(known, &own, repository.config(), round) }))
}

/// Returns how many objects a round of locks looks at, at most: some packs may be needed by no snapshot.
fn objects_to_lock(repository: &Repository) -> Result<u64, Error> {
    // The config.
    let mut objects = 1;
    for space in [Space::Features, Space::Indexes, Space::Snapshots] {
        repository.backend().list(space, &mut |_| objects += 1)?;
    }
    repository.index().packs(&mut |_| objects += 1)?;
    Ok(objects)
}

/// Listings of a round of locks: snapshots, index, features and index once more.
const LISTS_OF_A_ROUND: u64 = 4;

/// Estimates what a backup asks of the store: what the plan asked of it to begin with, and what is to be
/// written. `round` is how many objects there are already for a round of locks after it, if one is due; it
/// reads manifests, too, most of which are not known here.
fn forecast(forecast: &Forecast, own: &Traffic, config: &Config, round: Option<u64>) -> Traffic {
    let stored = forecast.stored_bytes.unwrap_or(forecast.bytes_to_read);
    // The last pack of each kind is not full; manifests come with whatever is read.
    let packs = match forecast.bytes_to_read {
        0 => 0,
        _ => stored.div_ceil(config.pack_bytes.into()).max(1) + 1,
    };
    let indexes = packs.div_ceil(PACKS_OF_AN_INDEX);
    // A lease and the snapshot.
    let puts = packs + indexes + 2;
    let looked_at = round.map_or(0, |objects| objects + packs + indexes + 1);
    let asks_first = config.store.create_only == CreateOnlyFact::Ignored;
    Traffic {
        // What was locked or extended in one round is long enough for the next.
        puts: puts + round.unwrap_or(0) / 2,
        // Before the commit the features once more.
        lists: own.lists + 1 + if round.is_some() { LISTS_OF_A_ROUND } else { 0 },
        gets: own.gets,
        heads: own.heads + looked_at + if asks_first { puts } else { 0 },
        // The lease.
        deletes: 1,
        retries: 0,
        sent: stored,
        received: own.received,
    }
}

/// Returns the file system each component is on; one that cannot be examined is left out.
fn file_systems(trees: &[SourceTree]) -> Vec<(String, FileSystem)> {
    let of = |tree: &SourceTree| Some((tree.component.clone(), file_system(&tree.base).ok()?));
    trees.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use colvault_engine::format::config::{CutterParameters, SlotParameters, StoreFacts};
    use colvault_engine::id::RepositoryId;

    #[test]
    fn an_estimate_has_what_a_plan_asks_and_what_is_written() {
        let mut config = Config {
            repository: RepositoryId([0; 16]),
            id_key: String::new(),
            cutter: CutterParameters::default(),
            slots: SlotParameters::default(),
            pack_bytes: 10,
            encryption: String::new(),
            created: String::new(),
            program: String::new(),
            store: StoreFacts::default(),
        };
        let own = Traffic { lists: 5, gets: 3, received: 7, ..Traffic::default() };
        let of = |bytes_to_read, stored_bytes, config: &Config| {
            let known = Forecast { bytes_to_read, stored_bytes, ..Forecast::default() };
            forecast(&known, &own, config, None)
        };
        // Nothing to read: a lease and a snapshot.
        let idle = of(0, Some(0), &config);
        assert_eq!((idle.puts, idle.lists, idle.gets, idle.deletes), (2, 6, 3, 1));
        assert_eq!((idle.sent, idle.received, idle.heads), (0, 7, 0));
        // 100 bytes stored are ten packs, one of manifests, two index objects.
        assert_eq!(of(1000, Some(100), &config).puts, 2 + 10 + 1 + 2);
        // Little is a pack all the same; what is not known may be as much as is read.
        assert_eq!(of(1000, Some(0), &config).puts, 2 + 1 + 1 + 1);
        assert_eq!(of(95, None, &config), of(95, Some(95), &config));
        // A store that has to be asked first is asked for each.
        config.store.create_only = CreateOnlyFact::Ignored;
        assert_eq!(of(1000, Some(100), &config).heads, 15);
        // A round of locks looks at each object, the new packs, index objects and snapshot among them.
        config.store.create_only = CreateOnlyFact::Kept;
        let known =
            Forecast { bytes_to_read: 1000, stored_bytes: Some(100), ..Forecast::default() };
        let with_round = forecast(&known, &own, &config, Some(40));
        assert_eq!((with_round.heads, with_round.lists), (40 + 10 + 1 + 2 + 1, 10));
        // Half of what was there before is extended.
        assert_eq!(with_round.puts, 2 + 10 + 1 + 2 + 20);
    }
}
