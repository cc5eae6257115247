//! Leases of running sessions, and what prune has doomed. Source: FORMAT.md 6.1 and 6.2.

use serde::{Deserialize, Serialize};

use crate::id::PackId;

/// The body of `leases/<session>`, as JSON. It says who works; nothing reads its clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What the session does: `backup`.
    pub purpose: String,
    /// The host it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// When it began, RFC 3339, for people.
    pub started: String,
    /// The program.
    pub program: String,
}

/// The body of `doomed/<id>`, as JSON: packs that a prune is about to delete. Writers do not reuse
/// chunks in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// The packs.
    pub packs: Vec<PackId>,
}
