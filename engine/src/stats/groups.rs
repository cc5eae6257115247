//! What counts as what: groups of content by component, DB Root, table, column or column object.

use std::collections::{BTreeSet, HashMap};

use super::account::OfGroup;
use super::labels::{Label, Labels};
use super::{GroupBy, GroupStats};
use crate::columnstore::SegmentPath;
use crate::format::manifest::{Entry, Node};
use crate::format::snapshot::Component;
use crate::reach::{Reached, Visitor};
use crate::snapshot::Named;

/// A group of content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupName {
    /// A component, or a DB Root, which is one.
    Component(String),
    /// A table, as `schema.table`.
    Table(String),
    /// A column with its dictionary.
    Column {
        /// Its table, as `schema.table`.
        table: String,
        /// Its name.
        column: String,
    },
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
    /// Components by number: the deployment's number, the name, and which names hold in it.
    components: Vec<(u32, String, u32)>,
    /// The names of tables and columns, where these are groups.
    labels: Labels,
    /// The number of the group of a name in a deployment.
    labelled: HashMap<(u32, Label), u32>,
    /// The number of each group.
    numbers: HashMap<(u32, GroupName), u32>,
    groups: Vec<(u32, GroupName)>,
    sums: Vec<Sums>,
    /// The object ids of each group that is a column: its own and that of its dictionary, and those it
    /// had before it was made anew.
    oids: Vec<BTreeSet<u32>>,
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
    pub fn new(by: GroupBy, labels: Labels) -> Self {
        Groups {
            by,
            deployments: Vec::new(),
            components: Vec::new(),
            labels,
            labelled: HashMap::new(),
            numbers: HashMap::new(),
            groups: Vec::new(),
            sums: Vec::new(),
            oids: Vec::new(),
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
        self.oids.push(BTreeSet::new());
        self.numbers.insert(key, number);
        number
    }

    /// Returns the groups with what they reach, by deployment and name.
    pub fn rows(self, accounts: &[OfGroup], nights: &dyn Fn(&str) -> u64) -> Vec<GroupStats> {
        if self.by == GroupBy::Nothing {
            return Vec::new();
        }
        let groups = self.groups.into_iter().zip(self.sums).zip(self.oids).zip(accounts);
        let mut rows: Vec<GroupStats> = groups
            .map(|((((deployment, name), sums), oids), account)| {
                let deployment = self.deployments[deployment as usize].clone();
                GroupStats {
                    nights: nights(&deployment),
                    deployment,
                    name,
                    oids: oids.into_iter().collect(),
                    files: sums.files,
                    logical_bytes: sums.logical_bytes,
                    reached: account.reached,
                    exclusive: account.exclusive,
                    added_later: account.added_later,
                    added_last: account.added_last,
                }
            })
            // Of snapshots that were not asked for.
            .filter(|row| row.files > 0 || row.reached.all().chunks > 0)
            .collect();
        rows.sort_by(|a, b| (&a.deployment, &a.name).cmp(&(&b.deployment, &b.name)));
        rows
    }
}

/// Returns the name that rows of a snapshot's deployment stand under; empty for plain paths.
pub(super) fn deployment_of(named: &Named) -> &str {
    match named.snapshot.kind.as_str() {
        "deployment" => &named.snapshot.group,
        _ => "",
    }
}

impl Groups {
    /// Returns the group of a segment file.
    fn segment_group(&mut self, component: u32, oid: u32) -> u32 {
        let (deployment, _, names) = self.components[component as usize];
        let label = match self.by {
            GroupBy::Table | GroupBy::Column => self.labels.label(names, oid, self.by),
            _ => None,
        };
        let Some(label) = label else { return self.number(deployment, GroupName::Oid(oid)) };
        if let Some(number) = self.labelled.get(&(deployment, label)) {
            return *number;
        }
        let number = self.number(deployment, self.labels.name(label));
        self.labelled.insert((deployment, label), number);
        number
    }
}

impl Visitor for Groups {
    fn component(&mut self, named: &Named, component: &Component) -> u32 {
        let deployment = intern(&mut self.deployments, deployment_of(named).to_owned());
        let names = self.labels.of_snapshot(named.id);
        intern(&mut self.components, (deployment, component.name.clone(), names))
    }

    fn names_group(&mut self, named: &Named) -> u32 {
        let deployment = intern(&mut self.deployments, deployment_of(named).to_owned());
        self.number(deployment, GroupName::Rest)
    }

    fn manifest_group(&mut self, component: u32) -> u32 {
        let (deployment, name, _) = &self.components[component as usize];
        let group = match self.by {
            GroupBy::Component => GroupName::Component(name.clone()),
            GroupBy::DbRoot if name.starts_with("dbroot/") => GroupName::Component(name.clone()),
            _ => GroupName::Rest,
        };
        self.number(*deployment, group)
    }

    fn entry(&mut self, component: u32, entry: &Entry, reached: &Reached) -> u32 {
        let by_object = matches!(self.by, GroupBy::Table | GroupBy::Column | GroupBy::Oid);
        let group = match SegmentPath::parse(&entry.path).filter(|_| by_object) {
            Some(segment) => {
                let group = self.segment_group(component, segment.oid);
                if self.by == GroupBy::Column {
                    self.oids[group as usize].insert(segment.oid);
                }
                group
            }
            None => self.manifest_group(component),
        };
        if let Node::File { size, .. } = entry.node {
            let sums = &mut self.sums[group as usize];
            sums.files += u64::from(reached.times);
            sums.logical_bytes += size * u64::from(reached.times);
        }
        group
    }
}
