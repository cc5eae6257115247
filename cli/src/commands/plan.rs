//! `colvault plan`

use std::path::Path;
use std::time::{Instant, SystemTime};

use colvault_engine::backup::BackupOptions;
use colvault_engine::error::ErrorKind;
use colvault_engine::format::config::{Config, CreateOnlyFact};
use colvault_engine::lock::{LockPolicy, last_round};
use colvault_engine::pattern::Patterns;
use colvault_engine::plan::{Forecast, plan};
use colvault_engine::repository::Repository;
use colvault_engine::source::SourceTree;
use colvault_engine::source::columnstore::programs;
use colvault_engine::source::file_system::{FileSystem, file_system};
use colvault_engine::traffic::Traffic;

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
    let requests = repository.as_ref().and_then(|repository| {
        let own = repository.backend().traffic()?;
        let packs = packs_of_a_round(repository);
        let of_backup = forecast(&report.forecast, &own, repository.config(), packs);
        Some(Requests { own, of_backup })
    });
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

/// Returns how many packs there are to look at if locks are to be extended after the backup.
fn packs_of_a_round(repository: &Repository) -> Option<u64> {
    let lock = repository.config().store.object_lock?;
    let is_due = LockPolicy::new(lock.days).is_due(last_round(repository), SystemTime::now());
    let mut packs = 0;
    repository.index().packs(&mut |_| packs += 1).ok()?;
    is_due.then_some(packs)
}

/// Estimates what a backup asks of the store: what the plan asked of it to begin with, what is to be
/// written, and what extends locks.
fn forecast(
    forecast: &Forecast,
    own: &Traffic,
    config: &Config,
    packs_of_a_round: Option<u64>,
) -> Traffic {
    let stored = forecast.stored_bytes.unwrap_or(forecast.bytes_to_read);
    // The last pack of each kind is not full; manifests come with whatever is read.
    let packs = match forecast.bytes_to_read {
        0 => 0,
        _ => stored.div_ceil(config.pack_bytes.into()).max(1) + 1,
    };
    let indexes = packs.div_ceil(PACKS_OF_AN_INDEX);
    // A lease and the snapshot.
    let puts = packs + indexes + 2;
    let asks_first = config.store.create_only == CreateOnlyFact::Ignored;
    // Each pack, index object and snapshot, those of this backup too, without its lease.
    let looked_at = packs_of_a_round.map(|old| old + old.div_ceil(PACKS_OF_AN_INDEX) + puts - 1);
    let looked_at = looked_at.unwrap_or(0);
    Traffic {
        // What was locked or extended in one round is long enough for the next.
        puts: puts + looked_at / 2,
        // Before the commit the features once more; for a round features, snapshots and the index, and that
        // again.
        lists: own.lists + 1 + if looked_at > 0 { 4 } else { 0 },
        gets: own.gets,
        heads: own.heads + if asks_first { puts } else { 0 } + looked_at,
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
        // Locks are looked at for 80 packs, 10 index objects, and the snapshot; half are extended.
        config.store.create_only = CreateOnlyFact::Kept;
        let round = forecast(&Forecast::default(), &own, &config, Some(80));
        assert_eq!((round.heads, round.puts, round.lists), (91, 2 + 45, 11));
    }
}
