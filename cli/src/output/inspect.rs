//! What `inspect` hands over to be shown, and the words both renderers use for it.

use colvault_engine::columnstore::brm::{LockState, TableLock};
use colvault_engine::finding::Findings;
use colvault_engine::inspect::{InspectReport, Slot};
use colvault_engine::snapshot::Named;

use super::ColumnName;

/// A file that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Inspected<'a> {
    /// The snapshot it is in; `None` for a file of this host.
    pub named: Option<&'a Named>,
    /// Its path in text form: as the source named it, or as it was given.
    pub path: &'a str,
    /// The component it is in; empty for a file of this host.
    pub component: &'a str,
    /// The column it belongs to, where that is known.
    pub column: Option<&'a ColumnName>,
    /// What it says.
    pub report: &'a InspectReport,
    /// What was found.
    pub findings: &'a Findings,
}

/// Whether a slot holds.
pub fn slot_state(slot: &Slot) -> &'static str {
    match (&slot.damage, slot.computed) {
        (Some(_), _) => "damaged",
        (None, Some(computed)) if computed == slot.stored => "holds",
        (None, _) => "not-verifiable",
    }
}

/// The name of an extent's status; `None` for a number that is none.
pub fn status_name(status: i16) -> Option<&'static str> {
    match status {
        0 => Some("available"),
        1 => Some("unavailable"),
        2 => Some("out of service"),
        _ => None,
    }
}

/// What the owner of a lock does.
pub fn lock_state(lock: &TableLock) -> &'static str {
    match lock.state {
        LockState::Loading => "loading",
        LockState::Cleanup => "cleanup",
    }
}
