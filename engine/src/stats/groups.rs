//! What counts as what: groups of content by component, DB Root or column object.

use std::collections::HashMap;

use super::{Chunks, GroupBy, GroupStats};
use crate::columnstore::SegmentPath;
use crate::format::manifest::{Entry, Node};
use crate::format::snapshot::{Component, Snapshot};
use crate::reach::{Reached, Visitor};

/// A group of content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupName {
    /// A component, or a DB Root, which is one.
    Component(String),
    /// A column object: its number.
    Oid(u32),
    /// What is in no such group.
    Rest,
}

/// What the entries of a group add up to.
#[derive(Clone, Copy, Default)]
struct Sums {
    files: u64,
    logical_bytes: u64,
}

/// Groups as they are met.
pub(super) struct Groups {
    by: GroupBy,
    /// Deployments by number; plain paths have the empty name.
    deployments: Vec<String>,
    /// Components by number: the deployment's number and the name.
    components: Vec<(u32, String)>,
    /// The number of each group.
    numbers: HashMap<(u32, GroupName), u32>,
    groups: Vec<(u32, GroupName)>,
    sums: Vec<Sums>,
}

/// Returns the place of a thing in a short list, where it is put if it is not there.
fn intern<T: PartialEq>(list: &mut Vec<T>, thing: T) -> u32 {
    let found = list.iter().position(|known| *known == thing);
    let number = found.unwrap_or_else(|| {
        list.push(thing);
        list.len() - 1
    });
    u32::try_from(number).expect("a few deployments and components")
}

impl Groups {
    pub fn new(by: GroupBy) -> Self {
        Groups {
            by,
            deployments: Vec::new(),
            components: Vec::new(),
            numbers: HashMap::new(),
            groups: Vec::new(),
            sums: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    fn number(&mut self, deployment: u32, name: GroupName) -> u32 {
        let key = (deployment, name);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = u32::try_from(self.groups.len()).expect("fewer groups than object ids");
        self.groups.push(key.clone());
        self.sums.push(Sums::default());
        self.numbers.insert(key, number);
        number
    }

    /// Returns the groups with what they reach, by deployment and name.
    pub fn rows(self, accounts: &[(Chunks, Chunks)]) -> Vec<GroupStats> {
        if self.by == GroupBy::Nothing {
            return Vec::new();
        }
        let groups = self.groups.into_iter().zip(self.sums).zip(accounts);
        let mut rows: Vec<GroupStats> = groups
            .map(|(((deployment, name), sums), (reached, exclusive))| GroupStats {
                deployment: self.deployments[deployment as usize].clone(),
                name,
                files: sums.files,
                logical_bytes: sums.logical_bytes,
                reached: *reached,
                exclusive: *exclusive,
            })
            // Of snapshots that were not asked for.
            .filter(|row| row.files > 0 || row.reached.all().chunks > 0)
            .collect();
        rows.sort_by(|a, b| (&a.deployment, &a.name).cmp(&(&b.deployment, &b.name)));
        rows
    }
}

impl Visitor for Groups {
    fn component(&mut self, snapshot: &Snapshot, component: &Component) -> u32 {
        let deployment = match snapshot.kind.as_str() {
            "deployment" => snapshot.group.clone(),
            _ => String::new(),
        };
        let deployment = intern(&mut self.deployments, deployment);
        intern(&mut self.components, (deployment, component.name.clone()))
    }

    fn manifest_group(&mut self, component: u32) -> u32 {
        let (deployment, name) = &self.components[component as usize];
        let group = match self.by {
            GroupBy::Component => GroupName::Component(name.clone()),
            GroupBy::DbRoot if name.starts_with("dbroot/") => GroupName::Component(name.clone()),
            GroupBy::DbRoot | GroupBy::Oid | GroupBy::Nothing => GroupName::Rest,
        };
        self.number(*deployment, group)
    }

    fn entry(&mut self, component: u32, entry: &Entry, reached: &Reached) -> u32 {
        let group = match (self.by, SegmentPath::parse(&entry.path)) {
            (GroupBy::Oid, Some(segment)) => {
                self.number(self.components[component as usize].0, GroupName::Oid(segment.oid))
            }
            _ => self.manifest_group(component),
        };
        if let Node::File { size, .. } = entry.node {
            let sums = &mut self.sums[group as usize];
            sums.files += u64::from(reached.times);
            sums.logical_bytes += size * u64::from(reached.times);
        }
        group
    }
}
