//! What a store on loopback, or the proxy before it, says of itself: the words between the programs
//! `store` and `jobs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What came by since the last time it was asked, and what the process has cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Seconds of all cores that the process took since it began.
    pub cpu: f64,
    /// By method and what it is about: `GET data`, `LIST snapshots`.
    pub classes: BTreeMap<String, Class>,
}

/// Requests of one class.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Class {
    /// How many.
    pub requests: u64,
    /// Of these, without an answer or with one that is an error.
    pub failed: u64,
    /// Bytes of their bodies.
    pub sent: u64,
    /// Bytes of the answers' bodies.
    pub received: u64,
}

impl Counted {
    /// Returns all classes added up.
    pub fn total(&self) -> Class {
        let mut total = Class::default();
        for class in self.classes.values() {
            total.requests += class.requests;
            total.failed += class.failed;
            total.sent += class.sent;
            total.received += class.received;
        }
        total
    }
}
