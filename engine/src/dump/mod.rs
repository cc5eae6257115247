//! Dump: a file's content, or a tree as a tar stream, written to whatever takes bytes.
//!
//! Every chunk is verified before it is written. Chunks are read ahead by many threads
//! (`sequence`); memory is bounded whatever the size. A stream cannot leave out what is damaged and
//! go on as if nothing was: on the first chunk or manifest that cannot be had it ends there with an
//! error, and an archive lacks its end, so that whoever reads it notices.

mod archive;
mod place;
mod sequence;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::extent::Extent;
use crate::format::manifest::{Entry, Node, compare_paths};
use crate::manifest::{ManifestReader, MetaReader};
use crate::packer::Pack;
use crate::progress::{Cancel, Event, Observer};
use crate::recipe::refuse_unknown_packers;
use crate::repository::Repository;
use crate::restore::{LinkGroup, link_group};
use crate::snapshot::Named;
use place::{Place, damaged, entries_at, entry_at, no_file, nothing_there, places, several_there};
pub(crate) use place::{file_at, shown};
use sequence::Sequence;

/// What to dump.
#[derive(Clone)]
pub struct DumpOptions {
    /// Components by name, `dbroot` for every `dbroot/N`; none means all.
    pub components: Vec<String>,
    /// One path: with a leading slash as the source named it, without relative to the component.
    /// None means all.
    pub path: Option<Vec<u8>>,
    /// Write an archive even of a single file.
    pub archive: bool,
    /// What packs slots again: [`Packers`](crate::packer::Packers), or a test's.
    pub packers: &'static dyn Pack,
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
/// nor directory, with `Unsupported` when the snapshot needs a slot packer that this program does not
/// know, and with `Corrupt` where something is missing or damaged: what came before was
/// written.
pub fn dump(
    repository: &Repository,
    named: &Named,
    options: &DumpOptions,
    out: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<DumpReport> {
    let object = format!("snapshot {}", named.id.short());
    refuse_unknown_packers(&object, &named.snapshot.packers)?;
    let path = options.path.as_deref();
    let places = places(&named.snapshot, &options.components, path)?;
    let Some(path) = path else {
        let places: Vec<_> = places.iter().collect();
        return Dump::new(repository, options, observer).archive(&places, out);
    };
    let found = entries_at(repository, &places)?;
    if options.archive && !found.is_empty() {
        let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
        return Dump::new(repository, options, observer).archive(&places, out);
    }
    let is_directory = |(_, entry): &(&Place<'_>, Entry)| entry.node == Node::Directory;
    match &found[..] {
        [] => Err(nothing_there(named)),
        [(place, entry)] if !is_directory(&found[0]) => {
            Dump::new(repository, options, observer).file(place, entry, out)
        }
        all if all.iter().all(is_directory) => {
            let places: Vec<_> = all.iter().map(|(place, _)| *place).collect();
            Dump::new(repository, options, observer).archive(&places, out)
        }
        several => Err(several_there(path, several)),
    }
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
        self.push(Finding::new(FindingKind::LostContent, object, detail));
    }

    fn push(&mut self, finding: Finding) {
        self.observer.event(Event::Finding(&finding));
        self.report.findings.push(finding);
    }

    fn file(mut self, place: &Place<'_>, entry: &Entry, out: &mut dyn Write) -> Result<DumpReport> {
        let shown = shown(place.component, &entry.path);
        match entry.node {
            Node::File { size, .. } => {
                self.observer.event(Event::Expected { entries: 1, bytes: size });
            }
            _ => return Err(no_file(place.component, entry, "a file or a directory")),
        }
        (self.report.entries, self.report.files) = (1, 1);
        let (repository, options, observer) = (self.repository, self.options, self.observer);
        let otherwise = sequence::write(repository, options, observer, out, |sequence| {
            self.content(sequence, entry, &shown)
        })?;
        otherwise.into_iter().for_each(|finding| self.push(finding));
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
        let otherwise = sequence::write(repository, options, observer, out, |sequence| {
            for place in places {
                observer.event(Event::Stage(&place.component.name));
                self.subtree(sequence, place)?;
            }
            sequence.zeros(archive::END_BYTES)
        })?;
        otherwise.into_iter().for_each(|finding| self.push(finding));
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
