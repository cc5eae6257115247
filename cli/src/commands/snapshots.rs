//! `colvault snapshots`

use std::collections::HashMap;

use colvault_engine::snapshot::{Filter, Named, list};

use crate::commands::exit_of;
use crate::context::{Context, Watch};
use crate::exit::{Exit, Failure};
use crate::output::Snapshots;

/// List snapshots, oldest first
#[derive(Debug, clap::Args)]
pub struct SnapshotsArgs {
    /// Only snapshots whose id begins like this
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// Only snapshots of this host; may be given more than once
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,

    /// Only snapshots with this tag; given more than once, with all of them
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    /// Only the last N of each host and deployment, or of the same paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

/// Lists snapshots.
pub fn run(args: &SnapshotsArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let watch = Watch::new(context.output);
    let repository = context.open_repository()?;
    let listing = list(&repository)?;
    watch.add(&listing.findings);
    let filter = Filter { hosts: args.host.clone(), tags: args.tag.clone() };
    let is_asked_for = |named: &&Named| {
        let id = named.id.to_string();
        filter.allows(&named.snapshot)
            && (args.ids.is_empty() || args.ids.iter().any(|prefix| id.starts_with(prefix)))
    };
    let mut shown: Vec<&Named> = listing.snapshots.iter().filter(is_asked_for).collect();
    if let Some(number) = args.latest {
        shown = latest(&shown, number);
    }
    let findings = watch.findings();
    context.output.snapshots(&Snapshots {
        snapshots: &shown,
        others: (listing.snapshots.len() - shown.len()) as u64,
        findings: &findings,
    });
    Ok(exit_of(&findings))
}

/// Returns the last `number` snapshots of each host and group, in order.
pub(super) fn latest<'a>(snapshots: &[&'a Named], number: usize) -> Vec<&'a Named> {
    let mut seen: HashMap<(&str, &str, &str), usize> = HashMap::new();
    let mut kept: Vec<&Named> = Vec::new();
    for named in snapshots.iter().rev() {
        let snapshot = &named.snapshot;
        let of_group = seen.entry((&snapshot.host, &snapshot.kind, &snapshot.group)).or_default();
        *of_group += 1;
        if *of_group <= number {
            kept.push(named);
        }
    }
    kept.reverse();
    kept
}
