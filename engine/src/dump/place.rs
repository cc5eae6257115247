//! Where in a snapshot something is that a user named: by component and path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Entry, Node};
use crate::format::snapshot::{Component, Snapshot};
use crate::format::text::{decode_path, encode};
use crate::manifest::ManifestReader;
use crate::repository::Repository;
use crate::restore::Select;
use crate::snapshot::Named;

/// A subtree of a component; the whole when the path is empty.
pub struct Place<'a> {
    pub component: &'a Component,
    pub path: Vec<u8>,
    /// What stands before paths in an archive.
    pub prefix: Vec<u8>,
}

/// Returns where a path, or everything, may be in each of the components named; none means all.
pub fn places<'a>(
    snapshot: &'a Snapshot,
    components: &[String],
    path: Option<&[u8]>,
) -> Result<Vec<Place<'a>>> {
    let select = Select { components: components.to_vec(), ..Select::everything() };
    for wanted in components {
        let one = Select { components: vec![wanted.clone()], ..Select::everything() };
        if !snapshot.components.iter().any(|component| one.takes_component(&component.name)) {
            let names: Vec<_> = snapshot.components.iter().map(|c| c.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("component {wanted:?}"),
                format!("one of the snapshot's components expected: {}", names.join(", ")),
            ));
        }
    }
    let mut places = Vec::new();
    for component in &snapshot.components {
        if !select.takes_component(&component.name) {
            continue;
        }
        let Some(path) = path_in(component, path) else { continue };
        let is_plain = snapshot.kind == "paths" && component.name == "files";
        let prefix = if is_plain { Vec::new() } else { format!("{}/", component.name).into() };
        places.push(Place { component, path, prefix });
    }
    Ok(places)
}

/// Returns a wanted path relative to a component; `None` when it is outside.
fn path_in(component: &Component, wanted: Option<&[u8]>) -> Option<Vec<u8>> {
    let Some(wanted) = wanted else { return Some(Vec::new()) };
    let plain = |path: &Path| {
        let path: PathBuf = path.components().collect();
        path.as_os_str().as_bytes().to_vec()
    };
    let wanted = Path::new(OsStr::from_bytes(wanted));
    if wanted.is_relative() {
        return Some(plain(wanted));
    }
    let base = decode_path(&component.path);
    match wanted.strip_prefix(&base) {
        Ok(below) => Some(plain(below)),
        Err(_) => base.starts_with(wanted).then(Vec::new),
    }
}

/// Returns the entries that there are at these places.
pub fn entries_at<'p, 'a>(
    repository: &Repository,
    places: &'p [Place<'a>],
) -> Result<Vec<(&'p Place<'a>, Entry)>> {
    let mut found = Vec::new();
    for place in places {
        let entry = entry_at(repository, place.component, &place.path)?;
        found.extend(entry.map(|entry| (place, entry)));
    }
    Ok(found)
}

/// Returns the entry of a path.
pub fn entry_at(
    repository: &Repository,
    component: &Component,
    path: &[u8],
) -> Result<Option<Entry>> {
    ManifestReader::new(repository, component).find(path).map_err(|error| damaged(component, error))
}

/// Returns the one file of a snapshot that has a path, and the component it is in. The
/// repository's index must have been loaded.
///
/// Fails with `NotFound` when nothing is named like that or it could not be read when it was backed
/// up, with `Invalid` when several components have such a path or it is no file, and with `Corrupt`
/// where a manifest cannot be had.
pub(crate) fn file_at<'a>(
    repository: &Repository,
    named: &'a Named,
    components: &[String],
    path: &[u8],
) -> Result<(&'a Component, Entry)> {
    let places = places(&named.snapshot, components, Some(path))?;
    let mut found = entries_at(repository, &places)?;
    if found.len() > 1 {
        return Err(several_there(path, &found));
    }
    let Some((place, entry)) = found.pop() else { return Err(nothing_there(named)) };
    match entry.node {
        Node::File { .. } => Ok((place.component, entry)),
        _ => Err(no_file(place.component, &entry, "a file")),
    }
}

/// An entry that is not what was asked for.
pub fn no_file(component: &Component, entry: &Entry, expected: &str) -> Error {
    let object = shown(component, &entry.path);
    match entry.node {
        Node::Unreadable { size } => {
            let problem = format!("its {size} bytes could not be read when it was backed up");
            Error::new(ErrorKind::NotFound, &*object, problem)
        }
        _ => {
            let problem = format!("{expected} expected, found {}", entry.node.noun());
            Error::new(ErrorKind::Invalid, &*object, problem)
        }
    }
}

/// Nothing has the path.
pub fn nothing_there(named: &Named) -> Error {
    let object = format!("snapshot {}", named.id.short());
    Error::new(ErrorKind::NotFound, object, "nothing in it is named like that")
}

/// More than one component has the path.
pub fn several_there(path: &[u8], found: &[(&Place<'_>, Entry)]) -> Error {
    let names: Vec<_> = found.iter().map(|(place, _)| place.component.name.as_str()).collect();
    let names = names.join(", ");
    let problem = format!("one component expected, several have such a path: {names}");
    Error::new(ErrorKind::Invalid, encode(path), problem)
}

/// Turns what cannot be read of a manifest into damage.
pub fn damaged(component: &Component, error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt => Error::corrupt(
            format!("component {}", component.name),
            format!("a part of its manifest cannot be had: {error}"),
        ),
        _ => error,
    }
}

/// Returns a path as the source named it, for messages.
pub(crate) fn shown(component: &Component, path: &[u8]) -> Arc<str> {
    component.recorded(path).into()
}
