//! What the commands hand over to be shown that are about what only buckets have.

use std::time::Duration;

use colvault_engine::finding::Findings;
use colvault_engine::format::config::ObjectLock;
use colvault_engine::lock::LockReport;
use colvault_engine::traffic::Traffic;
#[cfg(feature = "s3")]
use colvault_engine::undelete::UndeleteReport;

#[cfg(feature = "s3")]
use super::Next;

/// Locks that were looked at and extended.
#[derive(Clone, Copy, Debug)]
pub struct Locked<'a> {
    /// Where the repository is.
    pub location: &'a str,
    /// How it locks.
    pub lock: ObjectLock,
    /// Whether nothing was extended.
    pub dry_run: bool,
    /// What was found and done.
    pub report: &'a LockReport,
    /// What was found to be wrong.
    pub findings: &'a Findings,
    /// How long it took.
    pub elapsed: Duration,
    /// What was asked of the store.
    pub traffic: Option<Traffic>,
}

/// Objects that were brought back.
#[cfg(feature = "s3")]
#[derive(Clone, Copy, Debug)]
pub struct Undeleted<'a> {
    /// Where the repository is.
    pub location: &'a str,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What was found and done.
    pub report: &'a UndeleteReport,
    /// What leads to the repository.
    pub next: Next<'a>,
    /// What was found to be wrong.
    pub findings: &'a Findings,
    /// How long it took.
    pub elapsed: Duration,
    /// What was asked of the store.
    pub traffic: Option<Traffic>,
}
