//! What is shown: one trait, rendered as text for people or as lines of JSON for programs.
//!
//! Commands hand over reports and never ask which renderer they talk to. Results go to standard
//! output; in text, what is wrong goes to standard error.

mod bucket;
mod inspect;
pub mod json;
mod progress;
pub mod reload;
mod reports;
mod stream;
pub mod table;
mod text;
mod traffic;
mod width;

use std::io;
use std::time::Duration;

#[cfg(feature = "s3")]
use colvault_engine::backend::Key;
use colvault_engine::backup::BackupReport;
use colvault_engine::check::CheckReport;
use colvault_engine::compress::Compression;
use colvault_engine::finding::Findings;
use colvault_engine::format::config::Config;
use colvault_engine::format::manifest::Entry;
use colvault_engine::format::session::Lease;
use colvault_engine::format::snapshot::{Component, CredentialRecord};
use colvault_engine::plan::PlanReport;
use colvault_engine::progress::Observer;
use colvault_engine::proof::ProofOutcome;
use colvault_engine::restore::RestoreReport;
use colvault_engine::snapshot::Named;
use colvault_engine::source::columnstore::Program;
use colvault_engine::source::file_system::FileSystem;
use colvault_engine::traffic::Traffic;
#[cfg(feature = "s3")]
use colvault_engine::undelete::Undone;
use serde::Serialize;

use crate::args::Globals;
use crate::exit::{Exit, Failure};
use crate::settings::Value;
use crate::source::{Source, Surroundings};
pub use bucket::Locked;
#[cfg(feature = "s3")]
pub use bucket::Undeleted;
pub use inspect::Inspected;
pub use reports::{ChangedLine, Compared, Counted, Dumped, Searched};

/// What lines on what to do next are made of.
#[derive(Clone, Copy, Debug)]
pub struct Next<'a> {
    /// The beginning of a command line that reaches the repository, for a shell.
    pub again: &'a str,
    /// Whether the repository is in a bucket.
    pub is_bucket: bool,
}

/// A repository that was just created.
#[derive(Clone, Copy, Debug)]
pub struct Created<'a> {
    /// Where it is.
    pub location: &'a str,
    /// What leads to it.
    pub next: Next<'a>,
    /// Whether the store is given a key that it does not keep.
    pub has_customer_key: bool,
    /// What it was created with.
    pub config: &'a Config,
    /// Whether objects are locked only because the bucket does so by default.
    pub is_default_lock: bool,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
}

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// By the plan.
    pub own: Traffic,
    /// By the backup, an estimate.
    pub of_backup: Traffic,
}

/// A backup that was planned.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// What it would do.
    pub report: &'a PlanReport,
    /// `deployment` or `paths`.
    pub kind: &'a str,
    /// The deployment's name, or the paths.
    pub group: &'a str,
    /// How hard new chunks would be compressed.
    pub compression: Compression,
    /// The host's name, as the snapshot would have it.
    pub host: &'a str,
    /// What the user should know, as sentences.
    pub notes: &'a [String],
    /// Files that hold credentials.
    pub credentials: &'a [CredentialRecord],
    /// What only a deployment has.
    pub surroundings: Option<&'a Surroundings>,
    /// What a freeze would need.
    pub programs: &'a [Program],
    /// The file system of each component.
    pub file_systems: &'a [(String, FileSystem)],
    /// Where the repository is, and its file system; `None` without one.
    pub repository: Option<&'a (String, Option<FileSystem>)>,
    /// What is asked of the store, where that costs anything.
    pub requests: Option<&'a Requests>,
    /// Why the backup would be refused.
    pub obstacles: &'a [Failure],
    /// What was found.
    pub findings: &'a Findings,
    /// How long planning took.
    pub elapsed: Duration,
}

/// A backup that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct BackedUp<'a> {
    /// What it did.
    pub report: &'a BackupReport,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What was found, in the source and in the repository.
    pub findings: &'a Findings,
    /// How long it took.
    pub elapsed: Duration,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
    /// What leads to the repository.
    pub next: Next<'a>,
}

/// Snapshots that were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Snapshots<'a> {
    /// Oldest first.
    pub snapshots: &'a [&'a Named],
    /// How many others the repository has.
    pub others: u64,
    /// What was wrong with objects that should be snapshots.
    pub findings: &'a Findings,
}

/// The column that a segment file belongs to; these are its fields in JSON, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnName {
    /// Its table, as `schema.table`.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Whether it is the file of the column's dictionary.
    pub is_dictionary: bool,
}

impl ColumnName {
    /// Returns the name as people read it.
    pub fn told(&self) -> String {
        let noun = if self.is_dictionary { " (dictionary)" } else { "" };
        format!("{}.{}{noun}", self.table, self.column)
    }
}

/// A column, or its dictionary, whose segment files were restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredColumn {
    /// The object id: it is in the paths of the files.
    pub oid: u32,
    /// The name.
    pub name: ColumnName,
    /// How many segment files it has.
    pub files: u64,
}

/// A path of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct ListedEntry<'a> {
    /// The component it is in.
    pub component: &'a Component,
    /// Its path as the source named it, in text form.
    pub path: &'a str,
    /// What it is.
    pub entry: &'a Entry,
    /// The column it belongs to, where tables were asked for.
    pub column: Option<&'a ColumnName>,
    /// Whether all attributes were asked for.
    pub is_long: bool,
}

/// A restore that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct Restored<'a> {
    /// The snapshot.
    pub named: &'a Named,
    /// What it did.
    pub report: &'a RestoreReport,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether it made existing trees equal.
    pub delta: bool,
    /// The tables whose segment files alone were restored; empty when nothing was said of tables.
    pub tables: &'a [String],
    /// Their columns.
    pub columns: &'a [RestoredColumn],
    /// Whether the components were taken whole, all their paths.
    pub is_whole: bool,
    /// Whether some of the paths chosen are in DB Roots.
    pub has_column_data: bool,
    /// What was found.
    pub findings: &'a Findings,
    /// How long it took.
    pub elapsed: Duration,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
    /// What leads to the repository.
    pub next: Next<'a>,
}

/// A check that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// What it looked at.
    pub report: &'a CheckReport,
    /// Some of the sessions that run, or ended without saying so.
    pub leases: &'a [Lease],
    /// Which share of all data was read, in percent.
    pub read_data_percent: Option<f64>,
    /// How the program is going to end.
    pub exit: Exit,
    /// What was found.
    pub findings: &'a Findings,
    /// How long it took.
    pub elapsed: Duration,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
    /// What leads to the repository.
    pub next: Next<'a>,
}

/// A proof that was repeated.
#[derive(Clone, Copy, Debug)]
pub struct Proved<'a> {
    /// The snapshot.
    pub named: &'a Named,
    /// What came of it.
    pub outcome: &'a ProofOutcome,
    /// What was found, the findings of its backup among them.
    pub findings: &'a Findings,
    /// What was asked of the store, where that costs anything.
    pub traffic: Option<Traffic>,
}

/// Shows what happens and what came of it. Events of the engine come in through [`Observer`].
pub trait Output: Observer {
    /// Says what is about to be backed up, as far as it is known before the walk.
    fn source(&self, source: &Source);
    /// Shows every setting.
    fn settings(&self, values: &[Value]);
    /// Shows what a backup would do.
    fn planned(&self, planned: &Planned<'_>);
    /// Shows a new repository.
    fn created(&self, created: &Created<'_>);
    /// Shows a backup.
    fn backed_up(&self, backed_up: &BackedUp<'_>);
    /// Shows a list of snapshots.
    fn snapshots(&self, snapshots: &Snapshots<'_>);
    /// Begins the list of a snapshot's paths.
    fn listing(&self, named: &Named);
    /// Shows a path of it.
    fn listed(&self, listed: &ListedEntry<'_>);
    /// Shows what was found while listing.
    fn listing_ended(&self, findings: &Findings);
    /// Shows a restore.
    fn restored(&self, restored: &Restored<'_>);
    /// Shows a check.
    fn checked(&self, checked: &Checked<'_>);
    /// Shows a proof.
    fn proved(&self, proved: &Proved<'_>);
    /// Shows what snapshots hold and take.
    fn counted(&self, counted: &Counted<'_>);
    /// Begins the comparison of two snapshots.
    fn comparing(&self, before: &Named, after: &Named);
    /// Shows a path that changed.
    fn changed(&self, changed: &ChangedLine<'_>);
    /// Shows what changed in all.
    fn compared(&self, compared: &Compared<'_>);
    /// Begins what was found in a snapshot, or says how much it is.
    fn found_in(&self, named: &Named, count: Option<u64>);
    /// Shows a path that was found.
    fn found(&self, named: &Named, listed: &ListedEntry<'_>);
    /// Shows what came of a search.
    fn searched(&self, searched: &Searched<'_>);
    /// Shows what was dumped, unless that itself stands on standard output.
    fn dumped(&self, dumped: &Dumped<'_>);
    /// Shows what a file says.
    fn inspected(&self, inspected: &Inspected<'_>);
    /// Shows locks.
    fn locked(&self, locked: &Locked<'_>);
    /// Shows an object that came back, or would.
    #[cfg(feature = "s3")]
    fn undeleted(&self, key: &Key, undone: Undone, dry_run: bool);
    /// Shows what came back in all.
    #[cfg(feature = "s3")]
    fn undelete_ended(&self, undeleted: &Undeleted<'_>);
    /// Whether every line on standard output is a message for programs.
    fn is_for_programs(&self) -> bool;
    /// Shows a step of the demonstration, or what came of it.
    #[cfg(feature = "demo")]
    fn demo(&self, message: &crate::demo::message::Message);
    /// Shows why a command did not come to its end.
    fn failed(&self, failure: &Failure);
    /// Whether nobody reads the output any more.
    fn is_closed(&self) -> bool;
    /// Writes out what is left. Fails when something could not be written, unless nobody reads.
    fn finish(&self) -> io::Result<()>;
}

/// Chooses the renderer.
pub fn choose(globals: &Globals) -> Box<dyn Output> {
    match globals.json {
        true => Box::new(json::Json::new(globals.quiet, globals.verbose)),
        false => Box::new(text::Text::new(globals.quiet, globals.verbose)),
    }
}
