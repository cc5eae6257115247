//! `colvault backup`

use std::time::Instant;

use colvault_engine::backup::{BackupOptions, backup_guarded};
use colvault_engine::error::ErrorKind;
use colvault_engine::format::snapshot::SnapshotState;

use crate::commands::exit_of;
use crate::commands::object_lock::after_backup;
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::BackedUp;
use crate::source::{NOT_CONFIRMED, PLAIN, SourceArgs, refuse_own_directories};

/// Back up a ColumnStore deployment (--root), or some paths
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    #[command(flatten)]
    source: SourceArgs,

    /// Confirm that the user segment files are left out which the system of record makes good;
    /// needed once, and again when its settings change
    #[arg(long, conflicts_with_all = PLAIN)]
    apply_record: bool,

    /// A word to find the snapshot by; may be given more than once
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    /// Write nothing; say what would be stored
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Read every file, changed or not
    #[arg(short, long)]
    force: bool,

    /// Make no snapshot when a segment file or an InnoDB page in the source does not hold; otherwise
    /// it is stored as it is, marked, and the exit code is 3. That is about what is verified while it is
    /// read; a proof that is refuted at the end makes exit code 3, and the snapshot is there
    #[arg(long)]
    fail_on_corruption: bool,
}

/// Makes a snapshot.
pub fn run(args: &BackupArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let exclude = args.source.patterns()?;
    let mut source = args.source.find(&context.settings.reload)?;
    if let Some(obstacle) = source.obstacles.drain(..).next() {
        return Err(obstacle);
    }
    let directory = context.settings.directory()?;
    let cache = context.settings.cache.as_ref();
    refuse_own_directories(&source.trees, &exclude, directory.as_deref(), cache)?;
    let repository = context.open_for_session()?;
    context.output.source(&source);
    let watch = Watch::new(context.output);
    let daemons = source.daemons.clone();
    let options = BackupOptions {
        tags: args.tag.clone(),
        dry_run: args.dry_run,
        force: args.force,
        fail_on_corruption: args.fail_on_corruption,
        ..args.source.options(source, exclude, args.apply_record, context)?
    };
    let started = Instant::now();
    // A server that was started meanwhile makes the snapshot inconsistent.
    let guard = || match &daemons {
        Some(daemons) => daemons.started_meanwhile(),
        None => Ok(Vec::new()),
    };
    let has_record = options.record.is_some();
    let report = backup_guarded(&repository, &options, &guard, &watch).map_err(|error| {
        let is_refused = has_record && error.kind() == ErrorKind::Refused;
        let failure = Failure::from(error);
        if is_refused { failure.with_hint(NOT_CONFIRMED) } else { failure }
    })?;
    watch.add(&report.snapshot.findings);
    if let (Some(_), Some(lock)) = (report.id, repository.config().store.object_lock) {
        after_backup(&repository, lock, context, &watch);
    }
    let elapsed = started.elapsed();
    let traffic = repository.backend().traffic();
    repository.close();
    let findings = watch.findings();
    context.output.backed_up(&BackedUp {
        report: &report,
        dry_run: args.dry_run,
        findings: &findings,
        elapsed,
        traffic,
        next: context.next(),
    });
    let is_good = report.snapshot.state == SnapshotState::Complete;
    Ok(if is_good { exit_of(&findings) } else { Exit::Findings })
}
