//! Reading the system catalog of a deployment: from the repository, or from its own files.
//!
//! The extent map says where the columns of the catalog stand and which logical blocks each has; only
//! the blocks up to the high-water mark are read.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Names;
use crate::columnstore::SegmentPath;
use crate::columnstore::brm::{CurrentSet, ExtentMap, MapExtent};
use crate::columnstore::catalog::{
    BLOCK_BYTES, CatalogExtent, NEEDED, Place, decode, is_dictionary,
};
use crate::content::ContentReader;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Entry, Node, compare_paths};
use crate::format::snapshot::{Component, Snapshot};
use crate::format::text::{decode_path, encode_path};
use crate::manifest::ManifestReader;
use crate::repository::Repository;
use crate::source::SourceTree;
use crate::source::columnstore::{Deployment, Topology};

/// Where the files of the BRM are when no fact says so: the component and the beginning of their path.
const BRM_DEFAULT: (&str, &str) = ("dbroot/1", "systemFiles/dbrm/BRM_saves");

/// The fact that says where they are.
const BRM_FACT: &str = "dbrm_root";

/// The most that is read of a catalog: 512 MiB, several million columns.
const CATALOG_BYTES_MAX: u64 = 512 << 20;

/// The largest extent map that is read: 256 MiB, 2.7 million extents.
const EXTENT_MAP_BYTES_MAX: u64 = 256 << 20;

/// Reads the names from the catalog in the content of a snapshot; `None` when there is none in it.
///
/// Fails with `Invalid` when the content makes no sense, otherwise as reading from a repository does.
pub(super) fn of_snapshot(repository: &Repository, snapshot: &Snapshot) -> Result<Option<Names>> {
    if snapshot.kind != "deployment" || snapshot.topology != "shared-local" {
        return Ok(None);
    }
    let bases: Vec<_> =
        snapshot.components.iter().map(|c| (c.name.as_str(), decode_path(&c.path))).collect();
    let root = snapshot.facts.get(BRM_FACT).map(Path::new);
    let brm = BrmFiles::locate(root, &bases);
    let content = ContentReader::new(repository);
    let mut stored = Stored { repository, snapshot, content, last: None, is_lost: false };
    read(&mut stored, &brm).map(Some).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt if !stored.is_lost => {
            Error::new(ErrorKind::Invalid, error.object(), error.problem())
        }
        _ => error,
    })
}

/// Reads the names from the catalog of a deployment; `None` when its column data is in a bucket.
///
/// Fails with `NotFound` for a file that is not there, `Corrupt` for one that makes no sense.
pub fn of_deployment(deployment: &Deployment) -> Result<Option<Names>> {
    if deployment.topology != Topology::SharedLocal {
        return Ok(None);
    }
    let bases: Vec<_> = deployment
        .trees
        .iter()
        .map(|tree| (tree.component.as_str(), tree.recorded.clone()))
        .collect();
    let root = deployment.facts.get(BRM_FACT).map(Path::new);
    let brm = BrmFiles::locate(root, &bases);
    read(&mut OnHost { trees: &deployment.trees }, &brm).map(Some)
}

/// Where the files of the BRM are.
struct BrmFiles {
    component: String,
    /// The beginning of their paths, below the component's base.
    root: PathBuf,
}

impl BrmFiles {
    /// Finds the component that holds what Columnstore.xml names.
    fn locate(root: Option<&Path>, bases: &[(&str, PathBuf)]) -> Self {
        let inside = root.and_then(|root| {
            let mut inside = bases
                .iter()
                .filter_map(|(name, base)| Some((*name, root.strip_prefix(base).ok()?)));
            inside.find(|(name, _)| name.starts_with("dbroot/"))
        });
        let (component, path) = inside.unwrap_or((BRM_DEFAULT.0, Path::new(BRM_DEFAULT.1)));
        BrmFiles { component: component.to_owned(), root: path.to_owned() }
    }
}

/// Files of components, wherever they are.
trait Files {
    /// Returns up to `length` bytes from byte `start` on. Fails with `NotFound` when there is no such
    /// file.
    fn read(&mut self, component: &str, path: &Path, start: u64, length: u64) -> Result<Vec<u8>>;
}

fn absent(component: &str, path: &Path) -> Error {
    let object = format!("{component} {}", encode_path(path));
    Error::new(ErrorKind::NotFound, object, "a file expected, found none")
}

/// Files of a snapshot.
struct Stored<'a> {
    repository: &'a Repository,
    snapshot: &'a Snapshot,
    content: ContentReader<'a>,
    /// Where the last file was found: the next one mostly is right behind it.
    last: Option<Ahead<'a>>,
    /// Whether something could not be read from the repository.
    is_lost: bool,
}

/// The entries of a component from one on.
struct Ahead<'a> {
    component: &'a Component,
    manifest: ManifestReader<'a>,
    next: Option<Entry>,
}

impl Ahead<'_> {
    /// Finds a path that is at the next entry or behind it.
    fn find(&mut self, path: &[u8]) -> Result<Option<&Entry>> {
        while self.next.as_ref().is_none_or(|next| compare_paths(&next.path, path).is_lt()) {
            self.manifest.skip_to(path)?;
            self.next = self.manifest.next_entry()?;
            if self.next.is_none() {
                return Ok(None);
            }
        }
        Ok(self.next.as_ref().filter(|next| next.path == path))
    }
}

impl Files for Stored<'_> {
    fn read(&mut self, component: &str, path: &Path, start: u64, length: u64) -> Result<Vec<u8>> {
        let bytes = path.as_os_str().as_bytes();
        let is_ahead = self.last.as_ref().is_some_and(|last| {
            last.component.name == component
                && last.next.as_ref().is_some_and(|next| compare_paths(&next.path, bytes).is_le())
        });
        if !is_ahead {
            let found = self.snapshot.components.iter().find(|known| known.name == component);
            let component = found.ok_or_else(|| absent(component, path))?;
            let manifest = ManifestReader::new(self.repository, component);
            self.last = Some(Ahead { component, manifest, next: None });
        }
        let entry = match &mut self.last {
            Some(ahead) => ahead.find(bytes).inspect_err(|_| self.is_lost = true)?,
            None => None,
        };
        match entry.map(|entry| &entry.node) {
            Some(Node::File { extents, .. }) => {
                self.content.read(extents, start, length).inspect_err(|_| self.is_lost = true)
            }
            _ => Err(absent(component, path)),
        }
    }
}

/// Files of this host.
struct OnHost<'a> {
    trees: &'a [SourceTree],
}

impl Files for OnHost<'_> {
    fn read(&mut self, component: &str, path: &Path, start: u64, length: u64) -> Result<Vec<u8>> {
        let tree = self.trees.iter().find(|tree| tree.component == component);
        let host = tree.ok_or_else(|| absent(component, path))?.base.join(path);
        let failed = |error| Error::io(&host, "read", error);
        // Nothing but a file: opening a pipe would wait for somebody.
        if !host.metadata().map_err(failed)?.is_file() {
            return Err(absent(component, path));
        }
        let file = File::open(&host).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let wanted = length.min(size.saturating_sub(start));
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start).map_err(failed)?;
        Ok(bytes)
    }
}

/// Reads the catalog.
fn read(files: &mut dyn Files, brm: &BrmFiles) -> Result<Names> {
    let path = CurrentSet::Base.file(&brm.root, "_current");
    let set = match files.read(&brm.component, &path, 0, BLOCK_BYTES as u64) {
        Ok(text) => {
            CurrentSet::decode(&text).map_err(|error| error.in_object(encode_path(&path)))?
        }
        // A server of one set needs none.
        Err(error) if error.kind() == ErrorKind::NotFound => CurrentSet::Base,
        Err(error) => return Err(error),
    };
    let path = set.file(&brm.root, "_em");
    let map = files.read(&brm.component, &path, 0, EXTENT_MAP_BYTES_MAX)?;
    let map = ExtentMap::decode(&map).map_err(|error| error.in_object(encode_path(&path)))?;
    let mut extents: Vec<MapExtent> =
        map.extents.into_iter().filter(|extent| NEEDED.contains(&extent.oid)).collect();
    extents.sort_by_key(|e| (e.oid, e.db_root, e.partition, e.segment, e.block_offset));
    let file = |e: &MapExtent| (e.oid, e.db_root, e.partition, e.segment);
    let mut found = Vec::new();
    let mut left = CATALOG_BYTES_MAX;
    for of_file in extents.chunk_by(|one, other| file(one) == file(other)) {
        for (number, extent) in of_file.iter().enumerate() {
            let is_last = number + 1 == of_file.len();
            let bytes = blocks(files, extent, is_last, left)?;
            left = left.saturating_sub(bytes.len() as u64);
            found.push(CatalogExtent {
                oid: extent.oid,
                place: Place {
                    partition: extent.partition,
                    segment: extent.segment.into(),
                    number: u32::try_from(number).unwrap_or(u32::MAX),
                },
                lbid: extent.lbid,
                bytes,
            });
        }
    }
    let catalog = decode(&found);
    Ok(Names::new(catalog.tables, catalog.unreadable_rows))
}

/// Reads the blocks of an extent that are in use: all of it, or in the last one of a file those up to
/// its high-water mark, which counts from the beginning of the file.
fn blocks(files: &mut dyn Files, extent: &MapExtent, is_last: bool, left: u64) -> Result<Vec<u8>> {
    let whole = extent.blocks();
    let used = u64::from(extent.hwm).saturating_sub(u64::from(extent.block_offset)) + 1;
    let count = if is_last { used.min(whole) } else { whole };
    let (start, length) =
        (u64::from(extent.block_offset) * BLOCK_BYTES as u64, count * BLOCK_BYTES as u64);
    let (oid, partition, segment) = (extent.oid, extent.partition, u32::from(extent.segment));
    let path = PathBuf::from(SegmentPath { oid, partition, segment }.below_db_root());
    let component = format!("dbroot/{}", extent.db_root);
    if length > left {
        let what = if is_dictionary(oid) { "dictionary" } else { "column" };
        let problem = format!(
            "a {what} of a catalog of at most {CATALOG_BYTES_MAX} bytes expected, found more"
        );
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("{component} {}", encode_path(&path)),
            problem,
        ));
    }
    files.read(&component, &path, start, length)
}
