//! What the commands that look into snapshots hand over to be shown.

use std::path::Path;
use std::time::Duration;

use colvault_engine::diff::{ChangedPath, DiffReport};
use colvault_engine::dump::DumpReport;
use colvault_engine::find::FindReport;
use colvault_engine::finding::Findings;
use colvault_engine::id::RepositoryId;
use colvault_engine::snapshot::Named;
use colvault_engine::stats::{Objects, StatsReport, Tally};
use colvault_engine::traffic::Traffic;

use crate::commands::stats::By;
use crate::settings::StorageClasses;

/// What snapshots hold and take.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Where the repository is.
    pub location: &'a str,
    /// Its id.
    pub id: RepositoryId,
    /// What stands in a row.
    pub by: By,
    /// How many rows to show.
    pub limit: usize,
    /// How many snapshots were not asked for.
    pub others: u64,
    /// The figures, rows in order.
    pub report: &'a StatsReport,
    /// Which storage class new objects get; `None` in a directory.
    pub classes: Option<StorageClasses<'a>>,
    /// What was found.
    pub findings: &'a Findings,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
}

/// Objects of a kind.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRow<'a> {
    /// The kind's name in JSON.
    pub name: &'static str,
    /// What they are, in words.
    pub what: &'static str,
    /// How many and how large.
    pub tally: Tally,
    /// The storage class of new ones: `None` where there is no such thing, or no new ones of the kind;
    /// `Some(None)` where the bucket decides.
    pub class: Option<Option<&'a str>>,
}

/// Returns the objects of a repository by kind.
pub fn object_rows<'a>(
    objects: &Objects,
    classes: Option<StorageClasses<'a>>,
) -> [ObjectRow<'a>; 7] {
    let data = classes.map(|classes| classes.data);
    let other = classes.map(|classes| classes.other);
    let row = |name, what, tally, class| ObjectRow { name, what, tally, class };
    [
        row("data_packs", "packs of data", objects.data_packs, data),
        row("meta_packs", "packs of manifests", objects.meta_packs, other),
        row("unindexed_packs", "packs in no index", objects.unindexed_packs, None),
        row("indexes", "index objects", objects.indexes, other),
        row("snapshots", "snapshots", objects.snapshots, other),
        row("records", "other records", objects.records, other),
        row("foreign", "foreign objects", objects.foreign, None),
    ]
}

/// A path that changed.
#[derive(Clone, Copy, Debug)]
pub struct ChangedLine<'a> {
    /// How it changed.
    pub changed: &'a ChangedPath<'a>,
    /// Its path as the source named it, in text form.
    pub path: &'a str,
}

/// Two snapshots that were compared.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The first.
    pub before: &'a Named,
    /// The second.
    pub after: &'a Named,
    /// What changed.
    pub report: &'a DiffReport,
    /// What was found.
    pub findings: &'a Findings,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
}

/// A search that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct Searched<'a> {
    /// What was searched.
    pub report: &'a FindReport,
    /// Snapshots that were not searched, as their names of tables could not be read.
    pub unsearched: u64,
    /// What was found to be wrong.
    pub findings: &'a Findings,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
}

/// What was written to a file or to standard output.
#[derive(Clone, Copy, Debug)]
pub struct Dumped<'a> {
    /// The snapshot.
    pub named: &'a Named,
    /// What was written.
    pub report: &'a DumpReport,
    /// The file, unless it was standard output.
    pub output: Option<&'a Path>,
    /// What was found.
    pub findings: &'a Findings,
    /// How long it took.
    pub elapsed: Duration,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
}
