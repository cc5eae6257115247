//! Names: which table and column a segment file belongs to.
//!
//! A backup reads ColumnStore's own catalog back from the repository and keeps what it says as meta
//! chunks of the snapshot; a snapshot without them has its catalog in its content. Memory grows with
//! the columns of the catalog and, while it is read, with the extent map; never with files.

mod catalog;
mod patterns;

use std::collections::BTreeSet;

use crate::columnstore::catalog::{CATALOG_SCHEMA, own_table};
use crate::error::{Error, ErrorKind, Result};
use crate::format::names::{Column, Table, encode};
use crate::format::snapshot::Snapshot;
use crate::manifest::MetaReader;
use crate::repository::Repository;
pub use catalog::of_deployment;
pub use patterns::TablePatterns;

/// How many names an error suggests.
const NEAR_MAX: usize = 5;

/// Object ids of columns and dictionaries.
pub type Oids = BTreeSet<u32>;

/// The names of a snapshot or of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    tables: Vec<Table>,
    /// Object ids of columns and dictionaries, rising, with the places of table and column.
    objects: Vec<(u32, usize, usize)>,
    /// Rows of the catalog that could not be read: what belongs to them has no name.
    pub unreadable_rows: u64,
}

impl Names {
    /// Takes tables in order of schema and name.
    pub fn new(tables: Vec<Table>, unreadable_rows: u64) -> Self {
        let mut objects = Vec::new();
        for (table, of_table) in tables.iter().enumerate() {
            for (column, of_column) in of_table.columns.iter().enumerate() {
                objects.push((of_column.oid, table, column));
                objects.extend(of_column.dictionary.map(|oid| (oid, table, column)));
            }
        }
        objects.sort_unstable();
        Names { tables, objects, unreadable_rows }
    }

    /// Reads the names of a snapshot; `None` when it has neither names nor, as a snapshot of plain
    /// paths or of another topology, a catalog they could be read from. The index must have been
    /// loaded.
    ///
    /// Fails with `Invalid` when the catalog makes no sense as it was stored, with `NotFound`, `Corrupt` or
    /// `Unsupported` when the repository does not have what it stored.
    pub fn load(repository: &Repository, snapshot: &Snapshot) -> Result<Option<Names>> {
        if snapshot.names.is_empty() {
            return catalog::of_snapshot(repository, snapshot);
        }
        let mut meta = MetaReader::new(repository);
        let mut tables = Vec::new();
        for id in &snapshot.names {
            tables.extend(meta.names(*id)?);
        }
        Ok(Some(Names::new(tables, 0)))
    }

    /// Reads the names from the catalog in the content of a snapshot, as [`Names::load`] does for one
    /// that keeps none.
    pub fn of_content(repository: &Repository, snapshot: &Snapshot) -> Result<Option<Names>> {
        catalog::of_snapshot(repository, snapshot)
    }

    /// Returns the tables, by schema and name.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Returns the raw bytes of the meta chunks that keep them.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        encode(&self.tables)
    }

    /// Returns the column that an object id belongs to, by itself or as its dictionary.
    pub fn column(&self, oid: u32) -> Option<(&Table, &Column)> {
        let at = self.objects.partition_point(|(known, ..)| *known < oid);
        let (_, table, column) = *self.objects.get(at).filter(|(known, ..)| *known == oid)?;
        let table = self.tables.get(table)?;
        Some((table, table.columns.get(column)?))
    }

    /// Returns the tables that any of the patterns matches.
    ///
    /// Fails with `NotFound` for a pattern that matches none, and suggests names near it.
    pub fn find(&self, patterns: &TablePatterns) -> Result<Vec<&Table>> {
        let unmatched = patterns.unmatched(&self.tables);
        if let Some(pattern) = unmatched.first() {
            let known = match self.near(pattern) {
                near if near.is_empty() => {
                    format!("found none like it among {} tables", self.tables.len())
                }
                near => format!("found {}", near.join(", ")),
            };
            let problem = format!("the name of a table, or a pattern of some, expected; {known}");
            return Err(Error::new(ErrorKind::NotFound, format!("table {pattern:?}"), problem));
        }
        let is_wanted = |table: &&Table| patterns.matches(&table.schema, &table.name);
        Ok(self.tables.iter().filter(is_wanted).collect())
    }

    /// Returns names like one that is no table's, the nearest first.
    fn near(&self, wanted: &str) -> Vec<String> {
        let wanted = wanted.to_lowercase();
        let table_of = |name: &str| name.split_once('.').map(|(_, table)| table.to_owned());
        let is_near = |table: &Table| {
            let name = table.full_name().to_lowercase();
            let same_table = table_of(&name) == table_of(&wanted);
            let apart = if same_table { 1 } else { distance(&name, &wanted) };
            (apart <= wanted.chars().count() / 3).then_some((apart, table.full_name()))
        };
        let mut near: Vec<_> = self.tables.iter().filter_map(is_near).collect();
        near.sort();
        near.into_iter().take(NEAR_MAX).map(|(_, name)| name).collect()
    }
}

/// Returns the object ids of the columns and dictionaries of some tables.
pub fn oids_of<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Oids {
    tables.into_iter().flat_map(Table::oids).collect()
}

/// Returns the catalog's own table that an object id belongs to, as `schema.table`.
pub fn catalog_table(oid: u32) -> Option<String> {
    Some(format!("{CATALOG_SCHEMA}.{}", own_table(oid)?))
}

/// Returns how many characters have to be put, taken or changed to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (at, against) in other.iter().enumerate() {
            let changed = diagonal + usize::from(character != *against);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}

/// Whether an error of reading names says that they cannot be had, not that reading failed.
pub fn is_unreadable(error: &Error) -> bool {
    use ErrorKind::*;
    matches!(error.kind(), NotFound | Corrupt | Invalid | Unsupported)
}

/// Whether such an error is about the source as it was stored: the repository has all it should.
pub fn is_of_source(error: &Error) -> bool {
    error.kind() == ErrorKind::Invalid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let column = |oid, dictionary| Column {
            oid,
            dictionary,
            name: format!("c{oid}"),
            data_type: 6,
            length: 4,
            position: 0,
            compression: 2,
        };
        let table = |schema: &str, name: &str, columns| {
            let (schema, name) = (schema.to_owned(), name.to_owned());
            Table { schema, name, oid: 1, columns }
        };
        let tables = vec![
            table("dw", "clicks", vec![column(3001, None), column(3002, Some(3009))]),
            table("dw", "orders", vec![column(3005, None)]),
            table("staging", "orders", vec![column(3011, Some(3012))]),
        ];
        Names::new(tables, 0)
    }

    #[test]
    fn an_object_has_the_name_of_its_column() {
        let names = names();
        let name = |oid| {
            names
                .column(oid)
                .map(|(table, column)| format!("{}.{}", table.full_name(), column.name))
        };
        for (oid, expected) in [
            (3000, None),
            (3001, Some("dw.clicks.c3001")),
            (3009, Some("dw.clicks.c3002")),
            (3010, None),
            (3012, Some("staging.orders.c3011")),
            (3013, None),
        ] {
            assert_eq!(name(oid).as_deref(), expected, "{oid}");
        }
        for (oid, table) in [
            (1001, Some("calpontsys.systable")),
            (2004, Some("calpontsys.systable")),
            (1042, Some("calpontsys.syscolumn")),
            (2076, Some("calpontsys.syscolumn")),
            (3000, None),
            (1, None),
        ] {
            assert_eq!(catalog_table(oid).as_deref(), table, "{oid}");
        }
    }

    #[test]
    fn tables_are_found_by_name_and_pattern_and_near_names_are_suggested() {
        let names = names();
        let oids = |patterns: &[&str]| {
            let patterns = TablePatterns::new(patterns.iter().copied()).unwrap();
            names.find(&patterns).map(|tables| Vec::from_iter(oids_of(tables)))
        };
        assert_eq!(oids(&["dw.clicks"]).unwrap(), [3001, 3002, 3009]);
        assert_eq!(oids(&["*.orders"]).unwrap(), [3005, 3011, 3012]);
        assert_eq!(oids(&["dw.orders", "st*.*"]).unwrap(), [3005, 3011, 3012]);
        for (wrong, suggested) in [
            ("dw.click", "found dw.clicks"),
            ("dw.CLICKS", "found dw.clicks"),
            ("prod.orders", "found dw.orders, staging.orders"),
            ("x.y", "found none like it among 3 tables"),
        ] {
            let error = oids(&["dw.orders", wrong]).unwrap_err().to_string();
            assert!(error.contains(suggested) && error.contains(wrong), "{error}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
