//! Tables by name: from `--table SCHEMA.TABLE` to the object ids of their segment files.

use std::collections::HashMap;

use colvault_engine::error::{Error, ErrorKind};
use colvault_engine::id::{ChunkId, SessionId};
use colvault_engine::names::{Names, Oids, TablePatterns, is_unreadable, oids_of};
use colvault_engine::progress::{Event, Observer};
use colvault_engine::repository::Repository;
use colvault_engine::snapshot::Named;

use crate::exit::Failure;

/// What is to be done about a name that is no table's.
const UNKNOWN: &str = "colvault stats SNAPSHOT --by table lists the tables of a snapshot";

/// Returns the tables asked for in a snapshot and their object ids; `None` when none is asked for.
pub fn of_snapshot(
    repository: &Repository,
    named: &Named,
    wanted: &[String],
) -> Result<Option<(Vec<String>, Oids)>, Failure> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let patterns = TablePatterns::new(wanted.iter().map(String::as_str))?;
    let names = Names::load(repository, &named.snapshot)?.ok_or_else(|| nameless(&[named]))?;
    let tables = names.find(&patterns).map_err(|error| Failure::from(error).with_hint(UNKNOWN))?;
    let full_names = tables.iter().map(|table| table.full_name()).collect();
    Ok(Some((full_names, oids_of(tables))))
}

/// Returns the object ids of the tables asked for in each snapshot, oldest first, that has names;
/// `None` when none is asked for. Every name has to be that of a table in one of them.
pub fn of_snapshots(
    repository: &Repository,
    snapshots: &[Named],
    wanted: &[String],
    observer: &dyn Observer,
) -> Result<Option<HashMap<SessionId, Oids>>, Failure> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let patterns = TablePatterns::new(wanted.iter().map(String::as_str))?;
    let mut unmatched: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut found = HashMap::new();
    let mut known: HashMap<&[ChunkId], Oids> = HashMap::new();
    let mut newest = None;
    for named in snapshots {
        if let Some(oids) = known.get(named.snapshot.names.as_slice()) {
            found.insert(named.id, oids.clone());
            continue;
        }
        let names = match Names::load(repository, &named.snapshot) {
            Ok(Some(names)) => names,
            Ok(None) => continue,
            Err(error) if is_unreadable(&error) => {
                observer.event(Event::Warning(&unsearched(named, &error)));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let still = patterns.unmatched(names.tables());
        unmatched.retain(|pattern| still.contains(pattern));
        let is_wanted = |table: &&_| is_match(&patterns, table);
        let oids = oids_of(names.tables().iter().filter(is_wanted));
        if !named.snapshot.names.is_empty() {
            known.insert(&named.snapshot.names, oids.clone());
        }
        found.insert(named.id, oids);
        newest = Some(names);
    }
    let newest = newest.ok_or_else(|| nameless(&snapshots.iter().collect::<Vec<_>>()))?;
    if !unmatched.is_empty() {
        // Fails, and says which names are near.
        let none = TablePatterns::new(unmatched)?;
        newest.find(&none).map_err(|error| Failure::from(error).with_hint(UNKNOWN))?;
    }
    Ok(Some(found))
}

fn is_match(patterns: &TablePatterns, table: &colvault_engine::format::names::Table) -> bool {
    patterns.matches(&table.schema, &table.name)
}

fn unsearched(named: &Named, error: &Error) -> String {
    let id = named.id.short();
    format!("the names of tables of snapshot {id} cannot be read, so it is not searched: {error}")
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
