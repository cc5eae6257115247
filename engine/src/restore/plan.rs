//! What goes where, what it needs, and what speaks against it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::RestoreOptions;
use crate::columnstore::SegmentPath;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Node;
use crate::format::snapshot::{Component, Snapshot};
use crate::format::text::{decode_path, encode_path};
use crate::manifest::ManifestReader;
use crate::names::Oids;
use crate::pattern::Patterns;
use crate::repository::Repository;

/// Where a snapshot is restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything below one directory: `DIR/dbroot/1`, `DIR/datadir`, `DIR/config`; plain paths
    /// directly.
    Directory(PathBuf),
    /// The named components, each into its own directory; others are not restored.
    Map(Vec<(String, PathBuf)>),
}

/// Which parts of a snapshot are meant; everything when all is empty.
#[derive(Clone, Debug)]
pub struct Select {
    /// Components by name; `dbroot` means every `dbroot/N`.
    pub components: Vec<String>,
    /// Paths with everything below: with a leading slash as the source named them, without
    /// relative to the component.
    pub paths: Vec<Vec<u8>>,
    /// Patterns on paths relative to the component, any of which must match; none means all.
    pub include: Patterns,
    /// Patterns none of which may match.
    pub exclude: Patterns,
    /// Only segment files of these columns and dictionaries, in DB Roots; `None` means no matter.
    pub oids: Option<Oids>,
}

impl Select {
    /// Selects everything.
    pub fn everything() -> Self {
        let none = || Patterns::new([]).expect("no pattern is malformed");
        Select {
            components: Vec::new(),
            paths: Vec::new(),
            include: none(),
            exclude: none(),
            oids: None,
        }
    }

    /// Whether nothing restricts it.
    pub fn is_everything(&self) -> bool {
        self.components.is_empty() && self.takes_whole_components()
    }

    /// Whether components are taken whole.
    pub fn takes_whole_components(&self) -> bool {
        self.paths.is_empty()
            && self.include.is_empty()
            && self.exclude.is_empty()
            && self.oids.is_none()
    }

    /// Whether a component is meant.
    pub fn takes_component(&self, name: &str) -> bool {
        let below = |wanted: &str| {
            name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let has_segments = || name.starts_with("dbroot/");
        (self.oids.is_none() || has_segments())
            && (self.components.is_empty() || self.components.iter().any(|wanted| below(wanted)))
    }

    /// Whether an entry of a component is meant.
    pub fn takes(&self, component: &Component, path: &[u8]) -> bool {
        let is_of_column = |oids: &Oids| {
            SegmentPath::parse(path).is_some_and(|segment| oids.contains(&segment.oid))
        };
        self.oids.as_ref().is_none_or(is_of_column)
            && self.takes_path(component, path)
            && (self.include.is_empty() || self.include.covers(path))
            && !self.exclude.covers(path)
    }

    pub(super) fn takes_path(&self, component: &Component, path: &[u8]) -> bool {
        let is_below = |wanted: &[u8], path: &[u8]| {
            wanted.is_empty()
                || path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        self.paths.is_empty()
            || self.paths.iter().any(|wanted| match wanted.strip_prefix(b"/") {
                None => is_below(wanted.trim_ascii_end(), path),
                Some(_) => {
                    let base = decode_path(&component.path);
                    let full = base.join(OsStr::from_bytes(path));
                    full.starts_with(OsStr::from_bytes(wanted))
                }
            })
    }
}

/// Returns the components to restore and their directories.
///
/// Fails with `NotFound` for a component the snapshot does not have, `Invalid` when two go to
/// directories one of which contains the other.
pub fn destinations<'a>(
    snapshot: &'a Snapshot,
    options: &RestoreOptions,
) -> Result<Vec<(&'a Component, PathBuf)>> {
    let names =
        || snapshot.components.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let missing = |name: &str| {
        Error::new(
            ErrorKind::NotFound,
            format!("component {name:?}"),
            format!("one of the snapshot's components expected: {}", names()),
        )
    };
    for wanted in &options.select.components {
        let select = Select { components: vec![wanted.clone()], ..Select::everything() };
        if !snapshot.components.iter().any(|c| select.takes_component(&c.name)) {
            return Err(missing(wanted));
        }
    }
    let mut found = Vec::new();
    match &options.target {
        Target::Directory(directory) => {
            for component in &snapshot.components {
                let plain = snapshot.kind == "paths" && component.name == "files";
                let path = match plain {
                    true => directory.clone(),
                    false => directory.join(&component.name),
                };
                found.push((component, path));
            }
        }
        Target::Map(map) => {
            for (name, path) in map {
                let component = snapshot.components.iter().find(|c| c.name == *name);
                found.push((component.ok_or_else(|| missing(name))?, path.clone()));
            }
        }
    }
    found.retain(|(component, _)| options.select.takes_component(&component.name));
    let real: Vec<PathBuf> = found.iter().map(|(_, path)| real_path(path)).collect();
    for (n, (first, a)) in found.iter().enumerate() {
        for (m, (second, b)) in found.iter().enumerate().skip(n + 1) {
            if real[n].starts_with(&real[m]) || real[m].starts_with(&real[n]) {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("{} and {}", first.name, second.name),
                    format!(
                        "directories apart from each other expected, found {} and {}",
                        a.display(),
                        b.display()
                    ),
                ));
            }
        }
    }
    Ok(found)
}

/// Fails with `Refused` when a destination is not empty (unless a delta was asked for), is not a
/// directory, or has to do with the repository or its cache.
pub(super) fn refuse_unsafe(
    repository: &Repository,
    destinations: &[(&Component, PathBuf)],
    delta: bool,
) -> Result<()> {
    let refused = |path: &Path, problem: String| {
        Err(Error::new(ErrorKind::Refused, path.display().to_string(), problem))
    };
    let own =
        [Some(PathBuf::from(repository.backend().location())), repository.index().cache_path()];
    for (_, path) in destinations {
        let real = real_path(path);
        for own in own.iter().flatten().filter_map(|own| own.canonicalize().ok()) {
            if real.starts_with(&own) || own.starts_with(&real) {
                return refused(
                    path,
                    format!(
                        "a directory apart from the repository and its cache expected; {} is not",
                        own.display()
                    ),
                );
            }
        }
        match std::fs::read_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(path, "list the target", error)),
            Ok(mut entries) if !delta => {
                if let Some(entry) = entries.next() {
                    let entry = entry.map_err(|error| Error::io(path, "list the target", error))?;
                    let name = encode_path(Path::new(&entry.file_name()));
                    return refused(
                        path,
                        format!("an empty directory expected, found {name:?} in it"),
                    );
                }
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Resolves the links of the part of a path that exists.
fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = absolute.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        Some(real.join(absolute.strip_prefix(above).ok()?))
    });
    existing.unwrap_or(absolute)
}

/// What a restore will write, in all and on each file system.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    /// By device: where to ask, bytes and inodes.
    file_systems: BTreeMap<u64, (PathBuf, u64, u64)>,
}

/// Adds up what the selected entries need. Reads manifests only when something restricts them or
/// something may be there already.
pub(super) fn needs(
    repository: &Repository,
    destinations: &[(&Component, PathBuf)],
    options: &RestoreOptions,
) -> Result<Needs> {
    let mut needs = Needs::default();
    for (component, destination) in destinations {
        let (mut bytes, mut inodes) = (0, 0);
        if options.select.takes_whole_components() && !options.delta {
            needs.entries += component.counts.entries();
            needs.files += component.counts.files;
            needs.bytes += component.counts.bytes;
            bytes = component.counts.allocated_bytes;
            inodes = component.counts.entries();
        } else {
            let mut manifest = ManifestReader::new(repository, component);
            loop {
                options.cancel.check()?;
                let entry = match manifest.next_entry() {
                    Ok(Some(entry)) => entry,
                    Ok(None) => break,
                    // Reported when it is restored.
                    Err(error) if super::damage_kind(&error).is_some() => continue,
                    Err(error) => return Err(error),
                };
                if !options.select.takes(component, &entry.path) {
                    continue;
                }
                needs.entries += 1;
                let size = entry.size();
                if matches!(entry.node, Node::File { .. }) {
                    needs.files += 1;
                    needs.bytes += size;
                }
                let there = options.delta.then(|| {
                    destination.join(OsStr::from_bytes(&entry.path)).symlink_metadata().ok()
                });
                match there.flatten() {
                    Some(there) => bytes += size.saturating_sub(there.blocks() * 512),
                    None => {
                        bytes += size;
                        inodes += 1;
                    }
                }
            }
        }
        let above = real_path(destination);
        let above = above.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let device = above.metadata().map(|metadata| metadata.dev()).unwrap_or(0);
        let sums = needs.file_systems.entry(device).or_insert((above.to_path_buf(), 0, 0));
        // Every entry costs up to a block beside its bytes.
        sums.1 += bytes + inodes * 4096 / 2;
        sums.2 += inodes;
    }
    Ok(needs)
}

/// Fails with `Full` when a file system has not enough bytes or inodes.
pub(super) fn refuse_without_space(needs: &Needs) -> Result<()> {
    for (path, bytes, inodes) in needs.file_systems.values() {
        let facts =
            statvfs(path).map_err(|error| Error::io(path, "examine the file system", error))?;
        let free = facts.f_bavail * facts.f_frsize;
        if *bytes > free {
            return Err(Error::new(
                ErrorKind::Full,
                path.display().to_string(),
                format!("{bytes} bytes of free space needed, found {free}"),
            ));
        }
        // Some file systems make inodes as they go and report none.
        if facts.f_files > 0 && *inodes > facts.f_favail {
            return Err(Error::new(
                ErrorKind::Full,
                path.display().to_string(),
                format!("{inodes} free inodes needed, found {}", facts.f_favail),
            ));
        }
    }
    Ok(())
}

/// Returns a path below a destination, for messages.
pub(super) fn shown(destination: &Path, path: &[u8]) -> String {
    encode_path(&destination.join(OsStr::from_bytes(path)))
}
