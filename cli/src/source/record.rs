//! The system of record of a deployment: what is said, whether it makes sense, what follows.
//!
//! Nothing is left out unless every table of the deployment has a step that loads it again: a
//! forgotten table, a table that was made since and a mistyped name are errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use colvault_engine::error::ErrorKind;
use colvault_engine::format::names::Table;
use colvault_engine::format::snapshot::{RecordSource, ReloadStep, SystemOfRecord};
use colvault_engine::format::text::{decode, encode, encode_path};
use colvault_engine::names::{Names, TablePatterns, is_unreadable, of_deployment, oids_of};
use colvault_engine::source::columnstore::{
    Deployment, columnstore_tables, leave_out_tables, leave_out_user_segments, take_data_files,
};

use crate::exit::Failure;
use crate::settings::holds_a_secret;

/// What to do when leaving out is not confirmed.
pub const NOT_CONFIRMED: &str = "if these rows can really be loaded again from there, confirm it once with --apply-record; \
     --record columnstore backs up everything";

/// How many tables an error names; the rest is counted.
const NAMED_MAX: usize = 10;

/// Where the column data has its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceOfRecord {
    /// In ColumnStore itself
    Columnstore,
    /// In another database
    Database,
    /// In data files
    Files,
}

/// What is said about the system of record.
#[derive(Clone, Debug, Default)]
pub struct RecordSettings {
    /// What it is; `None` when nobody said.
    pub source: Option<SourceOfRecord>,
    /// Name of the other database; may be empty.
    pub database: String,
    /// The data files, as the deployment names them.
    pub data: Vec<PathBuf>,
    /// Patterns of the tables that are left to it; none means all.
    pub tables: Vec<String>,
    /// How each table gets its rows back.
    pub reload: Vec<ReloadStep>,
}

/// The system of record as it will be in the snapshot.
#[derive(Debug)]
pub struct Applied {
    /// What it is.
    pub record: SystemOfRecord,
    /// The tables of the object ids that are left out, where tables were chosen by name.
    pub table_of: BTreeMap<u32, String>,
}

/// Makes the deployment leave out what its system of record makes good, and adds what it needs.
///
/// Fails with `Refused` for a reload procedure that is missing or forgets a table, or that holds a
/// password; `Invalid` for settings that contradict each other; and as taking data files does.
pub fn apply(settings: &RecordSettings, found: &mut Deployment) -> Result<Applied, Failure> {
    let is_elsewhere =
        matches!(settings.source, Some(SourceOfRecord::Database | SourceOfRecord::Files));
    let mut record = SystemOfRecord {
        source: match settings.source {
            None | Some(SourceOfRecord::Columnstore) => RecordSource::Columnstore,
            Some(SourceOfRecord::Database) => RecordSource::Database,
            Some(SourceOfRecord::Files) => RecordSource::Files,
        },
        assumed: settings.source.is_none(),
        database: String::new(),
        data: Vec::new(),
        tables: settings.tables.clone(),
        reload: Vec::new(),
        absent: Vec::new(),
        fingerprint: String::new(),
        left_out: Vec::new(),
    };
    if !is_elsewhere {
        record.tables.clear();
        let is_half_said = settings.source.is_none()
            && !(settings.reload.is_empty()
                && settings.data.is_empty()
                && settings.tables.is_empty()
                && settings.database.is_empty());
        return match is_half_said {
            true => {
                Err(invalid("database or files expected, since record has other keys, found none"))
            }
            false => Ok(Applied { record, table_of: BTreeMap::new() }),
        };
    }
    match (record.source, settings.data.is_empty()) {
        (RecordSource::Files, true) => {
            return Err(invalid("record.data expected with files, found none"));
        }
        (RecordSource::Database, false) => {
            return Err(invalid("files expected with record.data, found database"));
        }
        _ => {}
    }
    if settings.reload.is_empty() {
        complete(&[], &[])?;
    }
    record.database.clone_from(&settings.database);
    record.data = settings.data.iter().map(|path| encode_path(path)).collect();
    if !settings.tables.is_empty() {
        return apply_to_tables(settings, found, record);
    }
    let tables = columnstore_tables(found)?;
    complete(&settings.reload, &tables)?;
    if record.source == RecordSource::Files {
        take_data_files(found, &settings.data)?;
    }
    record.absent = absent(&settings.reload, &tables);
    note_absent(&record, found);
    match tables.is_empty() {
        true => found.notes.push(
            "no table definition names ColumnStore, so nobody can tell whose segment files they \
             are: none is left out"
                .to_owned(),
        ),
        false => leave_out_user_segments(found)?,
    }
    record.reload.clone_from(&settings.reload);
    Ok(Applied { record, table_of: BTreeMap::new() })
}

/// The same for tables chosen by patterns: the system catalog tells which object ids they have.
///
/// Fails with `Refused` also when it cannot be read, or when an object in it is of no single table.
fn apply_to_tables(
    settings: &RecordSettings,
    found: &mut Deployment,
    mut record: SystemOfRecord,
) -> Result<Applied, Failure> {
    let patterns = TablePatterns::new(settings.tables.iter().map(String::as_str))?;
    refuse_secrets(&settings.reload)?;
    let names = names_of(found)?;
    for pattern in patterns.unmatched(names.tables()) {
        found.notes.push(format!("record.tables has {pattern}, which is like no table here"));
    }
    let is_chosen = |table: &&Table| patterns.matches(&table.schema, &table.name);
    let chosen: Vec<&Table> = names.tables().iter().filter(is_chosen).collect();
    let tables: Vec<String> = chosen.iter().map(|table| raw(&table.full_name())).collect();
    // A step of a table that is backed up must not make a restore drop and load that table.
    let (steps, others): (Vec<_>, Vec<_>) = settings.reload.iter().cloned().partition(|step| {
        let (schema, table) = step.table.split_once('.').unwrap_or((&step.table, ""));
        patterns.matches(&encode(schema.as_bytes()), &encode(table.as_bytes()))
    });
    for step in others {
        found.notes.push(format!(
            "the reload procedure names {}, which record.tables does not: its rows are backed up",
            step.table
        ));
    }
    if !tables.is_empty() {
        complete(&steps, &tables)?;
    }
    if record.source == RecordSource::Files {
        take_data_files(found, &settings.data)?;
    }
    leave_out_tables(found, &chosen, names.tables())?;
    record.absent = absent(&steps, &tables);
    note_absent(&record, found);
    record.reload = steps;
    let of_table = |table: &&Table| -> Vec<(u32, String)> {
        oids_of([*table]).into_iter().map(|oid| (oid, table.full_name())).collect()
    };
    Ok(Applied { record, table_of: chosen.iter().flat_map(of_table).collect() })
}

/// Returns the names of the deployment's tables. Fails with `Refused` when they cannot be read: what
/// is not known to be of these tables is not left out.
fn names_of(found: &Deployment) -> Result<Names, Failure> {
    let refused = |object: String, why: &str| {
        let problem = format!(
            "the system catalog expected, which tells the files of the tables in record.tables; {why}"
        );
        Failure::new(ErrorKind::Refused, object, problem).with_hint(
            "without record.tables all tables of the procedure are left out, which needs no catalog; \
             --record columnstore backs up everything",
        )
    };
    match of_deployment(found) {
        Ok(Some(names)) if names.unreadable_rows == 0 => Ok(names),
        Ok(Some(names)) => {
            let rows = names.unreadable_rows;
            Err(refused(
                found.root.display().to_string(),
                &format!("{rows} rows of it make no sense"),
            ))
        }
        Ok(None) => Err(refused(found.root.display().to_string(), "it is in a bucket")),
        Err(error) if is_unreadable(&error) => {
            Err(refused(error.object().to_owned(), error.problem()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns a name in text form as it is.
fn raw(name: &str) -> String {
    let bytes = decode(name).and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.unwrap_or_else(|| name.to_owned())
}

fn note_absent(record: &SystemOfRecord, found: &mut Deployment) {
    for table in &record.absent {
        found.notes.push(format!(
            "the reload procedure names {table}, which is no ColumnStore table here: misspelt, or \
             dropped since; a restore will not load it"
        ));
    }
}

/// Returns the tables of steps that are no tables of the deployment, each once.
fn absent(steps: &[ReloadStep], tables: &[String]) -> Vec<String> {
    let mut absent: Vec<String> = Vec::new();
    for step in steps {
        if !tables.contains(&step.table) && !absent.contains(&step.table) {
            absent.push(step.table.clone());
        }
    }
    absent
}

/// Fails when a step holds a password.
fn refuse_secrets(steps: &[ReloadStep]) -> Result<(), Failure> {
    if let Some(step) = steps.iter().find(|step| holds_a_secret(step)) {
        let problem =
            "no password expected in it, found one: snapshots keep the procedure as it is";
        return Err(Failure::new(
            ErrorKind::Refused,
            format!("reload step of {}", step.table),
            problem,
        )
        .with_hint("let the command read it from an option file that only its user can read"));
    }
    Ok(())
}

/// Fails unless every table has a step, and no step holds a password.
fn complete(steps: &[ReloadStep], tables: &[String]) -> Result<(), Failure> {
    refuse_secrets(steps)?;
    let is_missing = |table: &&String| !steps.iter().any(|step| step.table == **table);
    let missing: Vec<&str> = tables.iter().filter(is_missing).map(String::as_str).collect();
    if !steps.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let problem = if steps.is_empty() {
        "a step for each table expected, found no reload procedure".to_owned()
    } else {
        let mut names = missing[..missing.len().min(NAMED_MAX)].join(", ");
        if missing.len() > NAMED_MAX {
            names.push_str(&format!(" and {} more", missing.len() - NAMED_MAX));
        }
        let strange = absent(steps, tables);
        let strange = match strange.len() {
            0 => String::new(),
            _ => format!("; no tables here are {}", strange.join(", ")),
        };
        format!("a step for each table expected, found none for {names}{strange}")
    };
    Err(Failure::new(ErrorKind::Refused, "record.reload", problem).with_hint(
        "write how each table gets its rows back ([[record.reload]] in the settings file, see \
         docs/RECORD.md), or --record columnstore, which backs up everything",
    ))
}

fn invalid(problem: &str) -> Failure {
    Failure::new(ErrorKind::Invalid, "record.source", problem)
        .with_hint("docs/RECORD.md has an example of each system of record")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(table: &str, command: &str) -> ReloadStep {
        ReloadStep { table: table.into(), from: String::new(), command: command.into() }
    }

    #[test]
    fn every_table_needs_a_step_and_no_step_a_password() {
        let tables = ["a.b".to_owned(), "a.c".to_owned()];
        let both = [step("a.b", "load"), step("a.c", "load")];
        assert!(complete(&both, &tables).is_ok());
        for (steps, said) in [
            (&[][..], "found no reload procedure"),
            (&both[..1], "found none for a.c"),
            (&[step("a.b", "x"), step("a.C", "x")], "found none for a.c; no tables here are a.C"),
            (&[step("a.b", "mariadb --password=x")], "reload step of a.b: no password"),
        ] {
            let failure = complete(steps, &tables).unwrap_err();
            assert!(failure.message().contains(said), "{}", failure.message());
            assert_eq!(failure.exit().code(), 1);
        }
        assert!(complete(&[], &[]).is_err(), "a procedure is asked for before there are tables");
    }
}
