//! What a snapshot lacks because of its system of record, and how it gets back, in words.

use std::collections::BTreeMap;

use colvault_engine::format::snapshot::{RecordSource, Snapshot, SystemOfRecord};

use super::Restored;
use crate::units::{bytes, counted};

/// Says what a snapshot lacks because of its system of record; `None` when it lacks nothing.
pub fn lacks(snapshot: &Snapshot) -> Option<String> {
    let record = snapshot.record.as_ref().filter(|record| !record.left_out.is_empty())?;
    let (files, sum) = record.left_out_sums();
    let tables = tables(record);
    Some(format!(
        "without the rows of {} ({}): {} of {} were left to the system of record, {}",
        counted(tables.len() as u64, "table", "tables"),
        some_of(&tables),
        counted(files, "user segment file", "user segment files"),
        bytes(sum),
        origin(record)
    ))
}

/// How many tables are named; the rest is counted.
const TABLES_NAMED_MAX: usize = 5;

/// Returns the first of some names, and how many more there are.
pub fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(TABLES_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(TABLES_NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Whether the segment files of a table were left to the system of record.
pub fn is_left_out(record: &SystemOfRecord, table: &str) -> bool {
    match record.tables.is_empty() {
        true => !record.left_out.is_empty(),
        false => record.left_out.iter().any(|left_out| left_out.table == table),
    }
}

/// Returns what is to be done after a restore, as lines: the numbered steps when a deployment was
/// restored as a whole; only what is missing when a part of its column data was; nothing when the
/// snapshot lacks nothing or the restore had nothing to do with it.
pub fn after(restored: &Restored<'_>) -> Vec<String> {
    let snapshot = &restored.named.snapshot;
    let is_there =
        |name: &str| restored.report.components.iter().any(|(component, _)| component == name);
    let mut dbroots =
        snapshot.components.iter().filter(|component| component.name.starts_with("dbroot/"));
    let all_dbroots = dbroots.clone().all(|component| is_there(&component.name));
    if restored.is_whole && all_dbroots && is_there("datadir") && !restored.dry_run {
        return steps(snapshot, restored.delta);
    }
    let has_column_data = restored.has_column_data && restored.tables.is_empty();
    match dbroots.any(|component| is_there(&component.name)) && has_column_data {
        true => {
            lacks(snapshot).map(|lacks| format!("this snapshot is {lacks}")).into_iter().collect()
        }
        false => Vec::new(),
    }
}

/// Returns what is to be done after the files are back, as numbered lines; nothing when the
/// snapshot lacks nothing.
fn steps(snapshot: &Snapshot, is_delta: bool) -> Vec<String> {
    let Some(lacks) = lacks(snapshot) else { return Vec::new() };
    let Some(record) = &snapshot.record else { return Vec::new() };
    let tables = tables(record);
    let mut lines = vec![
        format!("this snapshot is {lacks}"),
        "to do, in this order (tried with no server yet: rehearse it):".to_owned(),
    ];
    let mut number = 0;
    let mut step = |text: String| {
        number += 1;
        lines.push(format!("  {number}. {}", plain(&text)));
    };
    if record.source == RecordSource::Files {
        step(format!(
            "put the component record back where the load commands look for it: {}",
            record.data.join(", ")
        ));
    }
    let files = match is_delta {
        true => "that are not there, or are older ones that were left in place",
        false => "that are not there",
    };
    step(format!(
        "start the server on the restored files; the extent map names segment files {files}, so do not \
         query these tables yet"
    ));
    for (schema, names) in &by_schema(&tables) {
        step(format!(
            "keep the definitions, these tables alone: mariadb-dump --no-data \
             --skip-add-drop-table --skip-lock-tables {} {} > {}",
            word(schema),
            names.iter().map(|name| word(name)).collect::<Vec<_>>().join(" "),
            word(&format!("{schema}.sql"))
        ));
    }
    for (schema, names) in &by_schema(&tables) {
        let quoted: Vec<_> =
            names.iter().map(|name| format!("{}.{}", sql(schema), sql(name))).collect();
        step(format!(
            "drop them, which frees their extents: DROP TABLE {}; if it fails for missing files, \
             stop: nothing is lost, the rows are in the system of record",
            quoted.join(", ")
        ));
        let file = word(&format!("{schema}.sql"));
        step(format!("create them anew: mariadb {} < {file}", word(schema)));
    }
    for reload in record.reload.iter().filter(|step| !record.absent.contains(&step.table)) {
        let from = match reload.from.as_str() {
            "" => String::new(),
            from => format!(" from {from}"),
        };
        step(format!("load {}{from}: {}", reload.table, reload.command));
    }
    step("compare the number of rows of each table with its origin, then back up".to_owned());
    lines
}

/// Returns a text without what would move a terminal's cursor, further lines indented.
fn plain(text: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
        .collect();
    lines.join("\n     ")
}

/// Returns a word as a shell takes it for one.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Returns a name as a statement takes it for one.
fn sql(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The tables to load, each once, in the order of the steps.
fn tables(record: &SystemOfRecord) -> Vec<&str> {
    let mut tables: Vec<&str> = Vec::new();
    for step in record.reload.iter().filter(|step| !record.absent.contains(&step.table)) {
        if !tables.contains(&step.table.as_str()) {
            tables.push(&step.table);
        }
    }
    tables
}

/// The tables of each schema, in order.
fn by_schema<'a>(tables: &[&'a str]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut schemas: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for table in tables {
        if let Some((schema, name)) = table.split_once('.') {
            schemas.entry(schema).or_default().push(name);
        }
    }
    schemas
}

/// Says what the system of record is.
pub fn origin(record: &SystemOfRecord) -> String {
    match (record.source, record.database.as_str()) {
        (RecordSource::Columnstore, _) => "ColumnStore itself".to_owned(),
        (RecordSource::Database, "") => "another database".to_owned(),
        (RecordSource::Database, name) => format!("the database {name}"),
        (RecordSource::Files, _) => "data files, which are in the snapshot".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        assert_eq!(word("line_item-2.x"), "line_item-2.x");
        assert_eq!(word("a b;c"), "'a b;c'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(sql("a`b"), "`a``b`");
        assert_eq!(plain("one\ntwo\u{1b}[2J"), "one\n     two?[2J");
    }
}
