//! Snapshots: listing them, and choosing one by what a user types.

use crate::backend::{Key, Listed, Space, for_each_read, listed};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::config::from_json;
use crate::format::snapshot::{Component, Snapshot, SnapshotState};
use crate::id::SessionId;
use crate::index::object_finding;
use crate::repository::Repository;

/// A committed snapshot under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id: that of the session that made it.
    pub id: SessionId,
    /// What it says.
    pub snapshot: Snapshot,
}

/// The snapshots of a repository, oldest first, and what could not be read.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Snapshots by time, then id.
    pub snapshots: Vec<Named>,
    /// Objects under `snapshots/` that could not be used.
    pub findings: Findings,
    /// Sessions that were revoked before they committed.
    pub revoked: u64,
}

/// Which snapshots to consider; an empty list allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Hosts, any of them.
    pub hosts: Vec<String>,
    /// Tags, all of them.
    pub tags: Vec<String>,
}

impl Filter {
    /// Whether a snapshot passes.
    pub fn allows(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
    }
}

/// Reads every snapshot. Unreadable ones are findings; the rest of the repository works on. A store that gives
/// no answer is an error.
pub fn list(repository: &Repository) -> Result<Listing> {
    read(repository, listed(repository.backend(), Space::Snapshots)?)
}

/// The same with what was listed below `snapshots/`.
pub fn read(repository: &Repository, objects: Vec<Listed>) -> Result<Listing> {
    let mut names = Vec::new();
    let mut listing = Listing::default();
    for object in objects {
        match Key::parse(&object.name) {
            Some(Key::Snapshot(id)) => names.push(id),
            _ => listing.findings.push(Finding::new(
                FindingKind::ForeignObject,
                object.name,
                "the name of a snapshot expected",
            )),
        }
    }
    repository.keep_snapshot_records(&names);
    for_each_read(
        repository.backend(),
        names,
        |id| (id, load(repository, id)),
        |(id, loaded)| {
            match loaded {
                Ok(Some(snapshot)) => listing.snapshots.push(Named { id, snapshot }),
                Ok(None) => listing.revoked += 1,
                // Deleted between listing and reading: forgotten by somebody else.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => listing.findings.push(object_finding(repository.backend(), &error)?),
            }
            Ok(())
        },
    )?;
    listing.snapshots.sort_by_key(|named| (time_key(&named.snapshot), named.id));
    Ok(listing)
}

/// Reads one snapshot; `None` for a revoked session.
pub fn load(repository: &Repository, id: SessionId) -> Result<Option<Snapshot>> {
    let Some(body) = repository.read_snapshot_record(id)? else { return Ok(None) };
    let object = Key::Snapshot(id).to_string();
    let snapshot: Snapshot = from_json(&body, &object)?;
    check_names(&snapshot.components, &object)?;
    Ok(Some(snapshot))
}

/// Fails with `Corrupt` unless the names of components can be directories below a target: relative,
/// without `.` and `..`, and no two the same.
fn check_names(components: &[Component], object: &str) -> Result<()> {
    let mut names: Vec<&str> = components.iter().map(|c| c.name.as_str()).collect();
    let is_plain = |part: &str| {
        !["", ".", ".."].contains(&part) && !part.chars().any(|character| character.is_control())
    };
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let strange = names.iter().copied().find(|name| !name.split('/').all(is_plain));
    match strange.or(twice) {
        Some(name) => Err(Error::corrupt(
            object,
            format!("names of components expected, each once and a relative path, found {name:?}"),
        )),
        None => Ok(()),
    }
}

/// Returns what snapshots are ordered by: the instant, whatever zone it was written in.
fn time_key(snapshot: &Snapshot) -> (i128, String) {
    let instant = snapshot.time.parse::<jiff::Timestamp>().map_or(0, |time| time.as_nanosecond());
    (instant, snapshot.time.clone())
}

/// Returns how many seconds a backup took, from its beginning to its commit; `None` when its times
/// make no sense.
pub fn seconds(snapshot: &Snapshot) -> Option<f64> {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let elapsed = instant(&snapshot.end)?.duration_since(instant(&snapshot.time)?);
    Some(elapsed.as_secs_f64()).filter(|seconds| *seconds > 0.0)
}

/// What a user asked for, found.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The snapshot.
    pub named: Named,
    /// What the user should know about the choice.
    pub warning: Option<String>,
}

/// Finds the snapshot a user means: an id, a prefix of one that is unique, `latest`, or
/// `latest~N`, the Nth before the latest; `latest` among those the filter allows.
///
/// With `good_only`, `latest` passes over snapshots that are not complete or whose proof is refuted.
/// Whatever is chosen, it warns when it is one of these. Fails with `NotFound` or `Invalid` (ambiguous).
pub fn choose(listing: &Listing, wanted: &str, filter: &Filter, good_only: bool) -> Result<Chosen> {
    let object = format!("snapshot {wanted:?}");
    let missing = |problem: &str| Error::new(ErrorKind::NotFound, object.clone(), problem);
    if let Some(rest) = wanted.strip_prefix("latest") {
        let back = match rest.strip_prefix('~') {
            None if rest.is_empty() => 0,
            Some(number) if !number.is_empty() => number
                .parse::<usize>()
                .map_err(|_| missing("latest~N expected, N a number of snapshots to go back"))?,
            _ => return Err(missing("latest or latest~N expected")),
        };
        let allowed = listing.snapshots.iter().rev().filter(|n| filter.allows(&n.snapshot));
        let named = allowed
            .filter(|named| !good_only || named.snapshot.is_good())
            .nth(back)
            .ok_or_else(|| missing("the repository has no such snapshot"))?;
        let of_time = format!(" of {}", named.snapshot.time);
        let mut warnings = Vec::from_iter(not_good(named, &of_time));
        if !listing.findings.is_empty() {
            warnings.push(format!(
                "{} snapshot object(s) cannot be read; the latest one may be among them",
                listing.findings.total()
            ));
        }
        warnings.extend(others(listing, filter, named));
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        return Ok(Chosen { named: named.clone(), warning });
    }
    let mut matching =
        listing.snapshots.iter().filter(|named| named.id.to_string().starts_with(wanted));
    match (wanted.is_empty(), matching.next(), matching.next()) {
        (false, Some(named), None) => {
            Ok(Chosen { named: named.clone(), warning: not_good(named, "") })
        }
        (false, Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Invalid,
            object,
            "one snapshot expected, several have ids that begin like this",
        )),
        _ => Err(missing("the repository has no such snapshot")),
    }
}

/// Says what is known to be wrong with a snapshot; `None` when nothing is.
fn not_good(named: &Named, of_time: &str) -> Option<String> {
    let snapshot = &named.snapshot;
    let wrong = match (snapshot.state, snapshot.is_refuted()) {
        (SnapshotState::Complete, false) => return None,
        (SnapshotState::Complete, true) => {
            "refuted: its files do not fit together, as check --columnstore says in detail"
                .to_owned()
        }
        (state, false) => format!("{}, not complete", state.name()),
        (state, true) => format!("{}, not complete, and refuted", state.name()),
    };
    Some(format!("snapshot {}{of_time} is {wrong}", named.id.short()))
}

/// Says which source `latest` was chosen from, when the filter allows several.
fn others(listing: &Listing, filter: &Filter, chosen: &Named) -> Option<String> {
    let source = |snapshot: &Snapshot| {
        (snapshot.kind.clone(), snapshot.group.clone(), snapshot.host.clone())
    };
    let wanted = source(&chosen.snapshot);
    let allowed = listing.snapshots.iter().filter(|named| filter.allows(&named.snapshot));
    let other = allowed.map(|named| source(&named.snapshot)).find(|other| *other != wanted)?;
    let name = |(kind, group, host): &(String, String, String)| match kind.as_str() {
        "deployment" => format!("deployment {group} on {host}"),
        _ => format!("{} on {host}", group.replace('\n', ", ")),
    };
    Some(format!(
        "the latest snapshot is of {}; there are others, of {} among them",
        name(&wanted),
        name(&other)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Counts;

    #[test]
    fn components_that_lead_out_of_a_target_are_damage() {
        let body = |names: &[&str]| {
            let component = |name: &&str| serde_json::json!({"name": name, "path": "/", "manifest": [], "counts": Counts::default()});
            let components: Vec<_> = names.iter().map(component).collect();
            serde_json::from_value::<Vec<Component>>(components.into()).unwrap()
        };
        let check = |names: &[&str]| check_names(&body(names), "snapshots/x").is_ok();
        assert!(check(&["dbroot/1", "dbroot/2", "datadir.innodb_undo_directory", "config"]));
        for names in
            [&["../etc"][..], &["/etc"], &["a//b"], &["dbroot/.."], &[""], &["a\n"], &["a", "a"]]
        {
            assert!(!check(names), "{names:?}");
        }
    }
}
