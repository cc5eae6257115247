//! Dump: a file's content, or a tree as a tar stream, written to whatever takes bytes.
//!
//! Every chunk is verified before it is written. Chunks are read ahead by many threads
//! (`sequence`); memory is bounded whatever the size. A stream cannot leave out what is damaged and
//! go on as if nothing was: on the first chunk or manifest that cannot be had it ends there with an
//! error, and an archive lacks its end, so that whoever reads it notices.

mod archive;
mod sequence;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::extent::Extent;
use crate::format::manifest::{Entry, Node, compare_paths};
use crate::format::snapshot::{Component, Snapshot};
use crate::format::text::{decode_path, encode};
use crate::manifest::{ManifestReader, MetaReader};
use crate::progress::{Cancel, Event, Observer};
use crate::repository::Repository;
use crate::restore::{LinkGroup, Select, link_group};
use crate::snapshot::Named;
use sequence::Sequence;

/// What to dump.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Components by name, `dbroot` for every `dbroot/N`; none means all.
    pub components: Vec<String>,
    /// One path: with a leading slash as the source named it, without relative to the component.
    /// None means all.
    pub path: Option<Vec<u8>>,
    /// Write an archive even of a single file.
    pub archive: bool,
    /// Threads that read and verify.
    pub threads: usize,
    /// To stop it.
    pub cancel: Cancel,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct DumpReport {
    /// Whether it is an archive.
    pub is_archive: bool,
    /// Entries in the archive; 1 for a file.
    pub entries: u64,
    /// Files among them, further names of a file included.
    pub files: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// What is not in it as it was in the source.
    pub findings: Findings,
}

/// Writes the content of a file, or a directory, a component or a whole snapshot as a tar stream
/// (POSIX pax), in which paths are those that a restore makes below its target. The repository's
/// index must have been loaded.
///
/// Content that was lost when the snapshot was made is a finding; zeros stand for it, and files
/// that could not be read at all are left out of an archive. Fails with `NotFound` when nothing is
/// named like that, with `Invalid` when several components have such a file or it is neither file
/// nor directory, and with `Corrupt` where something is missing or damaged: what came before was
/// written.
pub fn dump(
    repository: &Repository,
    named: &Named,
    options: &DumpOptions,
    out: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<DumpReport> {
    let places = places(&named.snapshot, options)?;
    if options.path.is_none() {
        let places: Vec<_> = places.iter().collect();
        return Dump::new(repository, options, observer).archive(&places, out);
    }
    let nothing = || {
        let object = format!("snapshot {}", named.id.short());
        Error::new(ErrorKind::NotFound, object, "nothing in it is named like that")
    };
    let mut found = Vec::new();
    for place in &places {
        found.extend(entry_at(repository, place.component, &place.path)?.map(|e| (place, e)));
    }
    if options.archive && !found.is_empty() {
        let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
        return Dump::new(repository, options, observer).archive(&places, out);
    }
    let is_directory = |(_, entry): &(&Place<'_>, Entry)| entry.node == Node::Directory;
    match &found[..] {
        [] => Err(nothing()),
        [(place, entry)] if !is_directory(&found[0]) => {
            Dump::new(repository, options, observer).file(place, entry, out)
        }
        all if all.iter().all(is_directory) => {
            let places: Vec<_> = all.iter().map(|(place, _)| *place).collect();
            Dump::new(repository, options, observer).archive(&places, out)
        }
        several => {
            let names: Vec<_> = several.iter().map(|(p, _)| p.component.name.as_str()).collect();
            let problem =
                format!("one component expected, several have such a path: {}", names.join(", "));
            Err(Error::new(ErrorKind::Invalid, shown_option(options), problem))
        }
    }
}

fn shown_option(options: &DumpOptions) -> String {
    encode(options.path.as_deref().unwrap_or_default())
}

/// A subtree of a component; the whole when the path is empty.
struct Place<'a> {
    component: &'a Component,
    path: Vec<u8>,
    /// What stands before paths in an archive.
    prefix: Vec<u8>,
}

/// Returns where a path may be in each component.
fn places<'a>(snapshot: &'a Snapshot, options: &DumpOptions) -> Result<Vec<Place<'a>>> {
    let select = Select { components: options.components.clone(), ..Select::everything() };
    for wanted in &options.components {
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
        let Some(path) = path_in(component, options.path.as_deref()) else { continue };
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
        let path: std::path::PathBuf = path.components().collect();
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

/// Turns what cannot be read of a manifest into damage.
fn damaged(component: &Component, error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Corrupt => Error::corrupt(
            format!("component {}", component.name),
            format!("a part of its manifest cannot be had: {error}"),
        ),
        _ => error,
    }
}

/// Returns the entry of a path.
fn entry_at(repository: &Repository, component: &Component, path: &[u8]) -> Result<Option<Entry>> {
    ManifestReader::new(repository, component).find(path).map_err(|error| damaged(component, error))
}

/// One dump as it goes.
struct Dump<'a> {
    repository: &'a Repository,
    options: &'a DumpOptions,
    observer: &'a dyn Observer,
    meta: MetaReader<'a>,
    report: DumpReport,
    links: HashMap<LinkGroup, Vec<u8>>,
}

impl<'a> Dump<'a> {
    fn new(
        repository: &'a Repository,
        options: &'a DumpOptions,
        observer: &'a dyn Observer,
    ) -> Self {
        let meta = MetaReader::new(repository);
        let report = DumpReport::default();
        Dump { repository, options, observer, meta, report, links: HashMap::new() }
    }

    fn find(&mut self, object: &str, detail: String) {
        let finding = Finding::new(FindingKind::LostContent, object, detail);
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
    }

    fn file(mut self, place: &Place<'_>, entry: &Entry, out: &mut dyn Write) -> Result<DumpReport> {
        let shown = shown(place.component, &entry.path);
        match entry.node {
            Node::File { size, .. } => {
                self.observer.event(Event::Expected { entries: 1, bytes: size });
            }
            Node::Unreadable { size } => {
                let problem = format!("its {size} bytes could not be read when it was backed up");
                return Err(Error::new(ErrorKind::NotFound, &*shown, problem));
            }
            _ => {
                let problem =
                    format!("a file or a directory expected, found a {}", entry.node.type_name());
                return Err(Error::new(ErrorKind::Invalid, &*shown, problem));
            }
        }
        (self.report.entries, self.report.files) = (1, 1);
        let (repository, options, observer) = (self.repository, self.options, self.observer);
        sequence::write(repository, options.threads, &options.cancel, observer, out, |sequence| {
            self.content(sequence, entry, &shown)
        })?;
        Ok(self.report)
    }

    /// Adds the content of a file.
    fn content(
        &mut self,
        sequence: &mut Sequence<'_, '_>,
        entry: &Entry,
        shown: &Arc<str>,
    ) -> Result<()> {
        let mut lost = Vec::new();
        // What is wrong with the output is no fault of the manifest.
        let mut failure = None;
        let read = self.meta.extents(entry.extents(), &mut |offset, extent| {
            if let Extent::Lost { length } = extent {
                lost.push((offset, length));
            }
            sequence.extent(extent, shown, offset).map_err(|error| {
                let repeated = error.repeat();
                failure = Some(error);
                repeated
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        read.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::Corrupt => {
                Error::corrupt(&**shown, format!("a list of its content cannot be had: {error}"))
            }
            _ => error,
        })?;
        for (offset, length) in lost {
            let detail = format!(
                "{length} bytes from byte {offset} could not be read when it was backed up; zeros \
                 stand there"
            );
            self.find(shown, detail);
        }
        self.report.bytes += entry.size();
        Ok(())
    }

    fn archive(mut self, places: &[&Place<'_>], out: &mut dyn Write) -> Result<DumpReport> {
        self.report.is_archive = true;
        let (repository, options, observer) = (self.repository, self.options, self.observer);
        let is_whole = |place: &&&Place<'_>| place.path.is_empty();
        if places.iter().filter(is_whole).count() == places.len() {
            let counts = places.iter().map(|place| place.component.counts);
            let sums = counts.fold((0, 0), |(e, b), c| (e + c.entries(), b + c.bytes));
            observer.event(Event::Expected { entries: sums.0, bytes: sums.1 });
        }
        sequence::write(repository, options.threads, &options.cancel, observer, out, |sequence| {
            for place in places {
                observer.event(Event::Stage(&place.component.name));
                self.subtree(sequence, place)?;
            }
            sequence.zeros(archive::END_BYTES)
        })?;
        Ok(self.report)
    }

    /// Adds the directories above a path, then everything at it and below.
    fn subtree(&mut self, sequence: &mut Sequence<'_, '_>, place: &Place<'_>) -> Result<()> {
        let component = place.component;
        // Hard links never join components.
        self.links.clear();
        if !place.path.is_empty() {
            let slashes = place.path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let above: Vec<usize> = [0].into_iter().chain(slashes.map(|(at, _)| at)).collect();
            for end in above {
                if let Some(entry) = entry_at(self.repository, component, &place.path[..end])? {
                    self.member(sequence, place, &entry)?;
                }
            }
        }
        let mut manifest = ManifestReader::new(self.repository, component);
        let failed = |error| damaged(component, error);
        manifest.skip_to(&place.path).map_err(failed)?;
        while let Some(entry) = manifest.next_entry().map_err(failed)? {
            self.options.cancel.check()?;
            let below = entry.path.strip_prefix(place.path.as_slice());
            let is_inside = place.path.is_empty()
                || below.is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
            if is_inside {
                self.member(sequence, place, &entry)?;
            } else if compare_paths(&entry.path, &place.path).is_gt() {
                break;
            }
        }
        Ok(())
    }

    /// Adds one entry to the archive.
    fn member(
        &mut self,
        sequence: &mut Sequence<'_, '_>,
        place: &Place<'_>,
        entry: &Entry,
    ) -> Result<()> {
        let shown = shown(place.component, &entry.path);
        if let Node::Unreadable { size } = entry.node {
            let detail = format!("its {size} bytes could not be read when it was backed up");
            self.find(&shown, detail);
            return Ok(());
        }
        let mut name = [&place.prefix[..], &entry.path].concat();
        if entry.node == Node::Directory {
            name = match name.as_slice() {
                [] => b"./".to_vec(),
                [.., b'/'] => name,
                _ => [&name[..], b"/"].concat(),
            };
        }
        let group = link_group(entry);
        let first = group.and_then(|group| self.links.get(&group));
        let is_further_name = first.is_some();
        // A server makes its sockets anew.
        let Some(header) = archive::header(&name, entry, first.map(Vec::as_slice)) else {
            return Ok(());
        };
        if let Some(group) = group.filter(|_| !is_further_name) {
            self.links.insert(group, name);
        }
        sequence.bytes(header)?;
        self.report.entries += 1;
        if matches!(entry.node, Node::File { .. }) {
            self.report.files += 1;
            if !is_further_name {
                self.content(sequence, entry, &shown)?;
                sequence.zeros(archive::padding(entry.size()))?;
            }
        }
        self.observer.event(Event::Done { entries: 1, bytes: 0 });
        Ok(())
    }
}

/// Returns a path as the source named it, for messages.
fn shown(component: &Component, path: &[u8]) -> Arc<str> {
    let full = decode_path(&component.path).join(OsStr::from_bytes(path));
    Arc::from(encode(full.as_os_str().as_bytes()))
}
