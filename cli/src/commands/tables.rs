//! Tables by name: from `--table SCHEMA.TABLE` to the object ids of their segment files, and back to
//! the names of columns.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use colvault_engine::columnstore::SegmentPath;
use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::finding::{Finding, FindingKind};
use colvault_engine::format::names::Table;
use colvault_engine::format::snapshot::Snapshot;
use colvault_engine::id::{ChunkId, SessionId};
use colvault_engine::manifest::ManifestReader;
use colvault_engine::names::{Names, Oids, TablePatterns, is_of_source, is_unreadable, oids_of};
use colvault_engine::progress::{Cancel, Event, Observer};
use colvault_engine::repository::Repository;
use colvault_engine::restore::Select;
use colvault_engine::snapshot::Named;

use crate::exit::Failure;
use crate::output::{ColumnName, RestoredColumn, reload};

/// What is to be done about a name that is no table's.
const UNKNOWN: &str = "only tables of ColumnStore have names here, those of InnoDB are files (ls and \
                       restore take --path); colvault stats SNAPSHOT --by table lists the tables";

/// The same for a table of the system catalog.
const CATALOG: &str = "the catalog's own tables have no rows in it: ls shows their files below \
                       000.dir/000.dir/003.dir to 008.dir, and find --oid takes 1001 to 1043 and 2001 \
                       to 2076";

/// What is to be done when a catalog made no sense in the source.
const UNREAD: &str = "the repository has it as it was: check --columnstore says what does not hold; \
                      without names, --path and find --oid choose segment files";

/// The tables that were asked for in a snapshot.
pub struct Tables {
    names: Rc<Names>,
    found: Vec<Table>,
}

impl Tables {
    /// Returns the object ids of their columns and dictionaries.
    pub fn oids(&self) -> Oids {
        oids_of(&self.found)
    }

    /// Returns the column that a path below a DB Root belongs to.
    pub fn column(&self, path: &[u8]) -> Option<ColumnName> {
        column(&self.names, path)
    }

    /// Returns the columns of which a snapshot has segment files, and warns of tables of which it has
    /// none. Fails with `NotFound` when it has none of any.
    pub fn columns(
        &self,
        repository: &Repository,
        named: &Named,
        select: &Select,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Vec<RestoredColumn>, Failure> {
        let mut files: BTreeMap<u32, u64> = BTreeMap::new();
        for component in &named.snapshot.components {
            let mut manifest = ManifestReader::new(repository, component);
            while select.takes_component(&component.name) {
                cancel.check()?;
                // A manifest that cannot be read is a finding of whatever reads it next.
                let Ok(Some(entry)) = manifest.next_entry() else { break };
                if let Some(path) = SegmentPath::parse(&entry.path)
                    && select.takes(component, &entry.path)
                {
                    *files.entry(path.oid).or_default() += 1;
                }
            }
        }
        let has_files = |table: &&Table| table.oids().any(|oid| files.contains_key(&oid));
        let without: Vec<&Table> = self.found.iter().filter(|table| !has_files(table)).collect();
        if without.len() == self.found.len() {
            let object = format!("snapshot {}", named.id.short());
            return Err(Failure::new(
                ErrorKind::NotFound,
                object,
                lacking(&named.snapshot, &without),
            ));
        }
        if !without.is_empty() {
            observer.event(Event::Warning(&lacking(&named.snapshot, &without)));
        }
        let column = |(oid, files): (&u32, &u64)| {
            let name = column_of(&self.names, *oid)?;
            Some(RestoredColumn { oid: *oid, name, files: *files })
        };
        Ok(files.iter().filter_map(column).collect())
    }
}

/// Says that there are no segment files of some tables, and why.
fn lacking(snapshot: &Snapshot, tables: &[&Table]) -> String {
    let names: Vec<String> = tables.iter().map(|table| table.full_name()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let why = match &snapshot.record {
        Some(record) if names.iter().all(|name| reload::is_left_out(record, name)) => {
            format!(": their rows were left to the system of record, {}", reload::origin(record))
        }
        _ => String::new(),
    };
    format!("segment files of {} expected, the snapshot has none{why}", reload::some_of(&names))
}

/// Returns the column that a path below a DB Root belongs to.
pub fn column(names: &Names, path: &[u8]) -> Option<ColumnName> {
    column_of(names, SegmentPath::parse(path)?.oid)
}

fn column_of(names: &Names, oid: u32) -> Option<ColumnName> {
    let (table, column) = names.column(oid)?;
    Some(ColumnName {
        table: table.full_name(),
        column: column.name.clone(),
        is_dictionary: column.dictionary == Some(oid),
    })
}

/// Returns the tables asked for in a snapshot; `None` when none is asked for.
pub fn of_snapshot(
    repository: &Repository,
    named: &Named,
    wanted: &[String],
) -> Result<Option<Tables>, Failure> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let patterns = patterns(wanted.iter().map(String::as_str))?;
    let names = Names::load(repository, &named.snapshot).map_err(|error| unread(named, error))?;
    let names = names.ok_or_else(|| nameless(&[named]))?;
    let found = names.find(&patterns).map_err(unknown)?.into_iter().cloned().collect();
    Ok(Some(Tables { names: Rc::new(names), found }))
}

/// The tables that were asked for in several snapshots.
pub struct TablesOfSnapshots {
    /// The object ids in each snapshot whose names could be read.
    pub oids: HashMap<SessionId, Oids>,
    names: HashMap<SessionId, Rc<Names>>,
    /// Snapshots whose names could not be read: they are not searched.
    pub unsearched: u64,
}

impl TablesOfSnapshots {
    /// Returns the column that a path below a DB Root belongs to in a snapshot.
    pub fn column(&self, snapshot: SessionId, path: &[u8]) -> Option<ColumnName> {
        column(self.names.get(&snapshot)?, path)
    }
}

/// Returns the tables asked for in each snapshot, oldest first, that has names; `None` when none is
/// asked for. Every name has to be that of a table in one of them.
///
/// Names that the repository has lost are findings; a catalog that made no sense in the source is
/// warned of.
pub fn of_snapshots(
    repository: &Repository,
    snapshots: &[Named],
    wanted: &[String],
    observer: &dyn Observer,
) -> Result<Option<TablesOfSnapshots>, Failure> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let patterns = patterns(wanted.iter().map(String::as_str))?;
    let mut unmatched: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let (oids, names) = (HashMap::new(), HashMap::new());
    let mut found = TablesOfSnapshots { oids, names, unsearched: 0 };
    let mut known: HashMap<&[ChunkId], SessionId> = HashMap::new();
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    let (mut newest, mut last_error) = (None, None);
    for named in snapshots {
        let same = known.get(named.snapshot.names.as_slice());
        let same =
            same.and_then(|id| Some((found.names.get(id)?.clone(), found.oids.get(id)?.clone())));
        let (names, oids) = match same {
            Some(same) => same,
            None => match Names::load(repository, &named.snapshot) {
                Ok(Some(names)) => {
                    let still = patterns.unmatched(names.tables());
                    unmatched.retain(|pattern| still.contains(pattern));
                    let oids = oids_of(names.tables().iter().filter(|t| is_match(&patterns, t)));
                    (Rc::new(names), oids)
                }
                Ok(None) => continue,
                Err(error) if is_unreadable(&error) => {
                    found.unsearched += 1;
                    tell_unsearched(named, &error, observer);
                    last_error = Some((named, error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            },
        };
        if let Some(record) = &named.snapshot.record {
            let of_table = |table: &&Table| reload::is_left_out(record, &table.full_name());
            let wanted = names.tables().iter().filter(|table| is_match(&patterns, table));
            for table in wanted.filter(of_table) {
                *left_out.entry(table.full_name()).or_default() += 1;
            }
        }
        if !named.snapshot.names.is_empty() {
            known.insert(&named.snapshot.names, named.id);
        }
        found.oids.insert(named.id, oids);
        found.names.insert(named.id, names.clone());
        newest = Some(names);
    }
    let Some(newest) = newest else {
        return Err(match last_error {
            Some((named, error)) => unread(named, error),
            None => nameless(&snapshots.iter().collect::<Vec<_>>()),
        });
    };
    if !unmatched.is_empty() {
        // Fails, and says which names are near.
        let none = self::patterns(unmatched)?;
        newest.find(&none).map_err(|error| match found.unsearched {
            0 => unknown(error),
            lost => {
                let problem = format!(
                    "{}; it may be in one of the {lost} whose names cannot be read",
                    error.problem()
                );
                unknown(Error::new(error.kind(), error.object(), problem))
            }
        })?;
    }
    for (table, number) in left_out {
        observer.event(Event::Warning(&format!(
            "{table}: its rows were left to the system of record in {number} of the snapshots; they have \
             no segment files of it"
        )));
    }
    Ok(Some(found))
}

fn is_match(patterns: &TablePatterns, table: &Table) -> bool {
    patterns.matches(&table.schema, &table.name)
}

/// Reads patterns; one that is none is an error of whoever typed it.
fn patterns<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<TablePatterns, Failure> {
    TablePatterns::new(texts).map_err(|error| Failure::usage(error.to_string()))
}

/// Says what to do about a name that is no table's.
fn unknown(error: Error) -> Failure {
    let is_catalog = error.object().contains("\"calpontsys.");
    Failure::from(error).with_hint(if is_catalog { CATALOG } else { UNKNOWN })
}

/// Says that the names of a snapshot cannot be read: that its catalog made no sense in the source, or
/// that the repository is damaged.
fn unread(named: &Named, error: Error) -> Failure {
    let object = format!("snapshot {}", named.id.short());
    if is_of_source(&error) {
        let problem = format!(
            "names of tables expected, its system catalog made no sense when it was backed up: {error}"
        );
        return Failure::new(ErrorKind::Invalid, object, problem).with_hint(UNREAD);
    }
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt => {
            let problem = format!("its names of tables cannot be had from the repository: {error}");
            Failure::new(ErrorKind::Corrupt, object, problem)
        }
        _ => error.into(),
    }
}

/// Tells that a snapshot is not searched.
fn tell_unsearched(named: &Named, error: &Error, observer: &dyn Observer) {
    let id = named.id.short();
    let kind = match error.kind() {
        ErrorKind::NotFound => FindingKind::MissingChunk,
        ErrorKind::Corrupt => FindingKind::DamagedManifest,
        _ => {
            observer.event(Event::Warning(&format!(
                "the names of tables of snapshot {id} cannot be read, so it is not searched: {error}"
            )));
            return;
        }
    };
    let detail = format!("it is not searched for tables: {error}");
    observer.event(Event::Finding(&Finding::new(kind, format!("snapshot {id} names"), detail)));
}

/// Says that there are no names at all.
fn nameless(snapshots: &[&Named]) -> Failure {
    let object = match snapshots {
        [one] => format!("snapshot {}", one.id.short()),
        _ => "snapshots".to_owned(),
    };
    let problem = "names of tables expected, found none: they come with deployments whose column data \
                   is in DB Roots";
    Failure::new(ErrorKind::NotFound, object, problem)
}

/// Returns the tables that have columns among some, each once.
pub fn tables_of(columns: &[RestoredColumn]) -> Vec<String> {
    let mut met = HashSet::new();
    let names = columns.iter().map(|column| &column.name.table);
    names.filter(|table| met.insert(table.as_str())).cloned().collect()
}
