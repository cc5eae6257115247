//! `colvault stats`

use std::collections::HashSet;

use clap::ValueEnum;
use colvault_engine::progress::Event;
use colvault_engine::snapshot::{Filter, Listing, Named, choose, list};
use colvault_engine::stats::{GroupBy, StatsOptions, StatsReport, stats};

use crate::commands::snapshots::latest;
use crate::commands::temporary::TemporaryArgs;
use crate::commands::{exit_of, not_chosen};
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Counted;

/// Show what snapshots hold and take in the repository, and what deduplication saves
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// These snapshots: ids, beginnings of them, latest or latest~N; all if none is given
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,

    /// What stands in a row
    #[arg(long, value_enum, default_value_t = By::Snapshot)]
    by: By,

    /// What rows are sorted by: of snapshots size, added or freed, otherwise time; of groups name,
    /// size or own, otherwise stored
    #[arg(long, value_enum)]
    sort: Option<Sort>,

    /// Only the first N rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Only snapshots of this host; may be given more than once
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// Only snapshots with this tag; given more than once, with all of them
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    /// Only the last N of each host and deployment, or of the same paths
    #[arg(long, value_name = "N", conflicts_with = "snapshots")]
    latest: Option<usize>,

    #[command(flatten)]
    temporary: TemporaryArgs,
}

/// What stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A snapshot: its size, what it added, what deleting it would free
    Snapshot,
    /// A component
    Component,
    /// A DB Root
    Dbroot,
    /// A table, by the name it had in each snapshot
    Table,
    /// A column, with its dictionary
    Column,
    /// A column object, by its number in the paths of segment files
    Oid,
    /// A snapshot, with what the repository took until then
    Time,
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// When it was made
    Time,
    /// Name or number
    Name,
    /// Size in the source, the largest first
    Size,
    /// What is stored of it, the most first
    Stored,
    /// What it added, the most first
    Added,
    /// What deleting it would free, the most first
    Freed,
    /// What is stored of it and of no other group, the most first
    Own,
}

/// Counts.
pub fn run(args: &StatsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let by_snapshot = matches!(args.by, By::Snapshot | By::Time);
    let sort = args.sort.unwrap_or(if by_snapshot { Sort::Time } else { Sort::Stored });
    let fits = match sort {
        Sort::Time | Sort::Added | Sort::Freed => by_snapshot,
        Sort::Name | Sort::Stored | Sort::Own => !by_snapshot,
        Sort::Size => true,
    };
    if !fits {
        let by = if by_snapshot { "snapshots" } else { "groups" };
        return Err(Failure::usage(format!("{by} cannot be sorted by {sort:?}").to_lowercase()));
    }
    let watch = Watch::new(context.output);
    let repository = context.open_repository()?;
    // Snapshots first: the index that is loaded after names all that they need.
    let listing = list(&repository)?;
    repository.load_index(&watch)?;
    let selected = args.selected(&listing, context)?;
    let options = StatsOptions {
        group_by: match args.by {
            By::Snapshot | By::Time => GroupBy::Nothing,
            By::Component => GroupBy::Component,
            By::Dbroot => GroupBy::DbRoot,
            By::Table => GroupBy::Table,
            By::Column => GroupBy::Column,
            By::Oid => GroupBy::Oid,
        },
        spill: args.temporary.place(context),
        cancel: context.cancel.clone(),
    };
    let selected: HashSet<_> = selected.iter().map(|named| named.id).collect();
    let mut report = stats(&repository, &listing, &selected, &options, &watch)?;
    let id = repository.id();
    let location = repository.backend().location();
    let traffic = repository.backend().traffic();
    repository.close();
    watch.add(&report.findings);
    arrange(&mut report, sort);
    let findings = watch.findings();
    context.output.counted(&Counted {
        location: &location,
        id,
        by: args.by,
        limit: args.limit.unwrap_or(usize::MAX),
        others: (listing.snapshots.len() - report.snapshots.len()) as u64,
        report: &report,
        classes: context.settings.storage_classes(),
        findings: &findings,
        traffic,
    });
    Ok(exit_of(&findings))
}

impl StatsArgs {
    fn selected<'l>(
        &self,
        listing: &'l Listing,
        context: &Context<'_>,
    ) -> Result<Vec<&'l Named>, Failure> {
        let filter = Filter { hosts: self.host.clone(), tags: self.tag.clone() };
        if self.snapshots.is_empty() {
            let allowed = listing.snapshots.iter().filter(|named| filter.allows(&named.snapshot));
            let allowed: Vec<&Named> = allowed.collect();
            return Ok(match self.latest {
                Some(number) => latest(&allowed, number),
                None => allowed,
            });
        }
        let mut chosen = Vec::new();
        for wanted in &self.snapshots {
            let found = choose(listing, wanted, &filter, false).map_err(not_chosen)?;
            if let Some(warning) = &found.warning {
                context.output.event(Event::Warning(warning));
            }
            chosen.extend(listing.snapshots.iter().find(|named| named.id == found.named.id));
        }
        Ok(chosen)
    }
}

/// Puts rows in order; equal ones stay as they are.
fn arrange(report: &mut StatsReport, sort: Sort) {
    use std::cmp::Reverse;
    let (snapshots, groups) = (&mut report.snapshots, &mut report.groups);
    match sort {
        Sort::Time | Sort::Name => {}
        Sort::Size => {
            snapshots.sort_by_key(|row| Reverse(row.counts.bytes));
            groups.sort_by_key(|row| Reverse(row.logical_bytes));
        }
        Sort::Added => snapshots.sort_by_key(|row| Reverse(row.added.all().stored_bytes)),
        Sort::Freed => snapshots.sort_by_key(|row| Reverse(row.freed.all().stored_bytes)),
        Sort::Stored => groups.sort_by_key(|row| Reverse(row.reached.all().stored_bytes)),
        Sort::Own => groups.sort_by_key(|row| Reverse(row.exclusive.all().stored_bytes)),
    }
}
