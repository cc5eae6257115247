//! `colvault object-lock`

use std::time::{Instant, SystemTime};

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::config::ObjectLock;
use colvault_engine::lock::{
    LockOptions, LockPolicy, LockReport, extend_locks, keep_round, last_round,
};
use colvault_engine::progress::{Event, Observer};
use colvault_engine::repository::Repository;
use colvault_engine::snapshot::list;

use crate::commands::exit_of;
use crate::commands::temporary::{TemporaryArgs, usual_place};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Locked;

/// Extend the locks of everything that snapshots need, and say until when what is not needed stays locked
#[derive(Debug, clap::Args)]
pub struct ObjectLockArgs {
    /// Extend nothing; say what would be extended
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    temporary: TemporaryArgs,
}

/// Extends locks and says what may go when.
pub fn run(args: &ObjectLockArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::new(context.output);
    let repository = context.open_repository()?;
    let location = repository.backend().location();
    let Some(lock) = repository.config().store.object_lock else {
        let problem = "this repository locks no objects";
        return Err(Failure::new(ErrorKind::Refused, location, problem).with_hint(
            "that is decided when a repository is made, in a bucket with object lock: init --object-lock DAYS",
        ));
    };
    let options = LockOptions {
        days: lock.days,
        now: SystemTime::now(),
        dry_run: args.dry_run,
        with_unneeded: true,
        spill: args.temporary.place(context),
        cancel: context.cancel.clone(),
    };
    let started = Instant::now();
    let report = round(&repository, &options, &watch)?;
    let elapsed = started.elapsed();
    let traffic = repository.backend().traffic();
    repository.close();
    let findings = watch.findings();
    context.output.locked(&Locked {
        location: &location,
        lock,
        dry_run: args.dry_run,
        report: &report,
        findings: &findings,
        elapsed,
        traffic,
    });
    Ok(exit_of(&findings))
}

/// Whether a backup ends with a round of locks.
pub fn is_round_due(repository: &Repository, days: u32, now: SystemTime) -> bool {
    LockPolicy::new(days).is_due(last_round(repository), now)
}

/// Extends locks after a backup where that is due. A backup is complete without: what fails is a finding.
pub fn after_backup(
    repository: &Repository,
    lock: ObjectLock,
    context: &Context<'_>,
    watch: &Watch<'_>,
) {
    let now = SystemTime::now();
    if !is_round_due(repository, lock.days, now) {
        return;
    }
    let options = LockOptions {
        days: lock.days,
        now,
        dry_run: false,
        with_unneeded: false,
        spill: usual_place(context),
        cancel: context.cancel.clone(),
    };
    if let Err(error) = round(repository, &options, watch) {
        let kind = FindingKind::LockNotExtended;
        let detail = format!("{error}; the next backup tries again");
        let finding = Finding::new(kind, repository.backend().location(), detail);
        watch.event(Event::Finding(&finding));
    }
}

fn round(
    repository: &Repository,
    options: &LockOptions,
    watch: &Watch<'_>,
) -> Result<LockReport, Error> {
    let listing = list(repository)?;
    watch.add(&listing.findings);
    let report = extend_locks(repository, &listing, options, watch)?;
    watch.add(&report.findings);
    if report.is_done() && !options.dry_run {
        keep_round(repository, options.now);
    }
    Ok(report)
}
