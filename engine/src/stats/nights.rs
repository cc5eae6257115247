//! Nights: which snapshots follow another one of the same source, and which is the last.

use std::collections::{HashMap, HashSet};

use super::groups::deployment_of;
use crate::reach::Root;

/// What each snapshot is to its source, by its number.
pub(super) struct Nights {
    /// Whether it was asked for and is not the first of its source; and whether it is the last that was.
    of: Vec<(bool, bool)>,
    /// How many later nights of each deployment were asked for.
    later: HashMap<String, u64>,
}

impl Nights {
    /// Takes all snapshots of the repository, oldest first. Those of another host are of another source,
    /// as a backup sees it: many deployments have the name that comes with the server.
    pub fn new(roots: &[Root<'_>]) -> Self {
        let source = |root: &Root<'_>| {
            let snapshot = &root.named.snapshot;
            (snapshot.kind.clone(), snapshot.group.clone(), snapshot.host.clone())
        };
        let mut met = HashSet::new();
        let mut nights = Nights { of: Vec::new(), later: HashMap::new() };
        let mut last = HashMap::new();
        for (number, root) in roots.iter().enumerate() {
            let is_first = met.insert(source(root));
            let is_later = root.is_selected && !is_first;
            nights.of.push((is_later, false));
            if root.is_selected {
                last.insert(source(root), number);
            }
            if is_later {
                *nights.later.entry(deployment_of(root.named).to_owned()).or_default() += 1;
            }
        }
        last.into_values().for_each(|number| nights.of[number].1 = true);
        nights
    }

    /// Whether a snapshot is a later night, and the last one.
    pub fn of(&self, number: u32) -> (bool, bool) {
        self.of.get(number as usize).copied().unwrap_or_default()
    }

    /// Returns how many later nights of a deployment were asked for.
    pub fn later(&self, deployment: &str) -> u64 {
        self.later.get(deployment).copied().unwrap_or(0)
    }
}
