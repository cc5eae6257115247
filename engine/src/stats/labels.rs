//! Names of tables and columns as labels of object ids. Nights that have the same names share them.

use std::collections::HashMap;

use super::{GroupBy, GroupName};
use crate::columnstore::{ObjectClass, catalog::is_dictionary};
use crate::error::{ErrorKind, Result};
use crate::finding::{Finding, Findings};
use crate::id::SessionId;
use crate::names::{Names, catalog_table, is_unreadable};
use crate::progress::{Event, Observer};
use crate::reach::{Root, damage_kind};
use crate::repository::Repository;
use crate::snapshot::Named;

/// The number of a name.
pub(super) type Label = u32;

/// Which object ids have which names in which snapshots. Memory: eight bytes for each object and each
/// night on which the catalog was another.
#[derive(Default)]
pub(super) struct Labels {
    names: Vec<GroupName>,
    numbers: HashMap<GroupName, Label>,
    /// Object ids, rising, with their labels; the first is that of snapshots without names.
    sets: Vec<Vec<(u32, Label)>>,
    of_snapshots: HashMap<SessionId, u32>,
}

impl Labels {
    /// Reads the names of the snapshots asked for, unless groups are none of tables or columns.
    /// Names that are damaged are findings; missing ones are found as chunks.
    pub fn read(
        repository: &Repository,
        roots: &[Root<'_>],
        by: GroupBy,
        observer: &dyn Observer,
        findings: &mut Findings,
    ) -> Result<Self> {
        let mut labels = Labels { sets: vec![Vec::new()], ..Labels::default() };
        if !matches!(by, GroupBy::Table | GroupBy::Column) {
            return Ok(labels);
        }
        let mut known: HashMap<Vec<crate::id::ChunkId>, u32> = HashMap::new();
        for root in roots.iter().filter(|root| root.is_selected) {
            let named: &Named = root.named;
            if let Some(set) = known.get(&named.snapshot.names) {
                labels.of_snapshots.insert(named.id, *set);
                continue;
            }
            match Names::load(repository, &named.snapshot) {
                Ok(None) => {}
                Ok(Some(names)) => {
                    let set = labels.add(&names, by);
                    labels.of_snapshots.insert(named.id, set);
                    if !named.snapshot.names.is_empty() {
                        known.insert(named.snapshot.names.clone(), set);
                    }
                }
                Err(error) if !is_unreadable(&error) => return Err(error),
                Err(error) if named.snapshot.names.is_empty() => {
                    let id = named.id.short();
                    observer.event(Event::Warning(&format!(
                        "snapshot {id} has no names of tables, and its catalog cannot be read: {error}"
                    )));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let object = format!("snapshot {} names", named.id.short());
                    let finding = Finding::new(damage_kind(&error)?, object, error.to_string());
                    observer.event(Event::Finding(&finding));
                    findings.push(finding);
                }
            }
        }
        Ok(labels)
    }

    fn add(&mut self, names: &Names, by: GroupBy) -> u32 {
        let mut set = Vec::new();
        for table in names.tables() {
            for column in &table.columns {
                let table = table.full_name();
                let label = self.number(match by {
                    GroupBy::Column => GroupName::Column { table, column: column.name.clone() },
                    _ => GroupName::Table(table),
                });
                set.push((column.oid, label));
                set.extend(column.dictionary.map(|oid| (oid, label)));
            }
        }
        set.sort_unstable();
        // Nights in a row mostly have the same.
        let same = self.sets.iter().rposition(|known| *known == set);
        let place = same.unwrap_or_else(|| {
            self.sets.push(set);
            self.sets.len() - 1
        });
        u32::try_from(place).unwrap_or(0)
    }

    fn number(&mut self, name: GroupName) -> Label {
        let next = u32::try_from(self.names.len()).expect("fewer names than object ids");
        *self.numbers.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }

    /// Returns which names hold in a snapshot.
    pub fn of_snapshot(&self, id: SessionId) -> u32 {
        self.of_snapshots.get(&id).copied().unwrap_or(0)
    }

    /// Returns the label of an object. Objects of the catalog itself have their own.
    pub fn label(&mut self, set: u32, oid: u32, by: GroupBy) -> Option<Label> {
        if ObjectClass::of(oid) == ObjectClass::SystemCatalog {
            let table = catalog_table(oid)?;
            return Some(self.number(match by {
                GroupBy::Column => {
                    let noun = if is_dictionary(oid) { "dictionary" } else { "oid" };
                    GroupName::Column { table, column: format!("{noun} {oid}") }
                }
                _ => GroupName::Table(table),
            }));
        }
        let set = self.sets.get(usize::try_from(set).ok()?)?;
        let at = set.partition_point(|(known, _)| *known < oid);
        set.get(at).filter(|(known, _)| *known == oid).map(|(_, label)| *label)
    }

    /// Returns what a label stands for.
    pub fn name(&self, label: Label) -> GroupName {
        self.names.get(label as usize).cloned().unwrap_or(GroupName::Rest)
    }
}
