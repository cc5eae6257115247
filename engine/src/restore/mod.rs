//! Restore: from a snapshot to a tree that equals what was backed up.
//!
//! The manifest is read in order; directories and empty files come into being as it is read, and
//! chunks to write are gathered in windows of bounded size. Inside a window every stored byte is
//! read once, in the order of the packs, verified, and written wherever it belongs, so that one
//! huge file is restored by as many threads as many files are. Slots that are stored as recipes are
//! packed again when the last of their blocks has been read. Attributes are set when a file has
//! its content; directories get theirs at the end, when nothing changes in them any more.
//!
//! Nothing that exists is touched unless a delta was asked for. A delta first proves, chunk by
//! chunk, what is already there; what is not in the snapshot is deleted last.

mod attributes;
mod delta;
mod order;
mod plan;
mod slots;
mod stretch;
mod target;
mod window;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::fetch::fetching;
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::extent::put_extents;
use crate::format::manifest::{Entry, Node};
use crate::format::snapshot::Component;
use crate::format::text::encode_path;
use crate::id::boundary_hash;
use crate::manifest::{ManifestReader, MetaReader};
use crate::packer::Pack;
use crate::progress::{Cancel, Event, Observer};
use crate::recipe::refuse_unknown_packers;
use crate::repository::Repository;
use crate::snapshot::Named;
use attributes::Owners;
pub use plan::{Select, Target, destinations};
use target::TargetTree;
use window::{FileToWrite, Windows};

/// What to restore, where to, and how.
#[derive(Clone)]
pub struct RestoreOptions {
    /// Where to.
    pub target: Target,
    /// What.
    pub select: Select,
    /// Make an existing tree equal instead of refusing it.
    pub delta: bool,
    /// Make holes of zeros, instead of allocating them.
    pub sparse: bool,
    /// Use owners' numeric ids, not their names.
    pub numeric_ids: bool,
    /// Write nothing; report what would be written.
    pub dry_run: bool,
    /// What packs slots again: [`Packers`](crate::packer::Packers), or a test's.
    pub packers: &'static dyn Pack,
    /// Threads that read, verify and write.
    pub threads: usize,
    /// To stop it.
    pub cancel: Cancel,
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport {
    /// Regular files selected.
    pub files_total: u64,
    /// Those that were written, wholly or in part.
    pub files_restored: u64,
    /// Those whose content was there already.
    pub files_skipped: u64,
    /// Those that lack content which cannot be had; findings name them.
    pub files_incomplete: u64,
    /// In a dry run of a delta, files that would be written whatever they hold: those that are not there,
    /// or have another size.
    pub files_to_write: u64,
    /// And those of the right size, of which the delta would write what differs.
    pub files_to_compare: u64,
    /// Entries deleted because the snapshot does not have them (delta); in a dry run, those that would
    /// be.
    pub files_deleted: u64,
    /// Sizes of the selected files.
    pub bytes_total: u64,
    /// Bytes written.
    pub bytes_restored: u64,
    /// Bytes found in place (delta).
    pub bytes_skipped: u64,
    /// What could not be restored as it was.
    pub findings: Findings,
    /// Where each component went.
    pub components: Vec<(String, PathBuf)>,
}

/// Restores a snapshot. The repository's index must have been loaded.
///
/// Fails before it writes anything with `Unsupported` (a slot packer that this program does not know),
/// `Refused` (a target that is not empty, or holds the repository), `Full` (not enough space or inodes) or `NotFound` (a component or path that the
/// snapshot does not have). Content that is damaged or missing is a finding; in a new file zeros
/// stand where it should be, in a delta what stood there.
pub fn restore(
    repository: &Repository,
    named: &Named,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let snapshot = &named.snapshot;
    refuse_unknown_packers(&format!("snapshot {}", named.id.short()), &snapshot.packers)?;
    let destinations = destinations(snapshot, options)?;
    plan::refuse_unsafe(repository, &destinations, options.delta)?;
    let mut report = RestoreReport::default();
    let needs = plan::needs(repository, &destinations, options)?;
    if needs.entries == 0 && !options.select.is_everything() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("snapshot {}", named.id.short()),
            "nothing in it matches the selected components, paths and patterns",
        ));
    }
    report.files_total = needs.files;
    report.bytes_total = needs.bytes;
    report.components =
        destinations.iter().map(|(c, path)| (c.name.clone(), path.clone())).collect();
    observer.event(Event::Expected { entries: needs.entries, bytes: needs.bytes });
    plan::refuse_without_space(&needs)?;
    let owners = Owners::new(options.numeric_ids);
    let runs: Vec<ComponentRun<'_>> = destinations
        .iter()
        .map(|(component, destination)| ComponentRun {
            repository,
            component,
            destination,
            options,
            observer,
            owners: &owners,
        })
        .collect();
    if options.dry_run {
        for run in runs.iter().filter(|_| options.delta) {
            run.survey(&mut report)?;
            if run.destination.exists() {
                report.files_deleted += delta::delete_extras(run, snapshot)?;
            }
        }
        return Ok(report);
    }
    let on_the_way = write_content(&runs, &mut report)?;
    // Nothing is deleted by a manifest that could not be read to its end.
    let whole = report.findings.count(FindingKind::DamagedManifest) == 0
        && report.findings.count(FindingKind::MissingChunk) == 0;
    for (run, on_the_way) in runs.iter().zip(&on_the_way) {
        if options.delta && whole {
            report.files_deleted += delta::delete_extras(run, snapshot)?;
        }
        run.finish_directories(on_the_way, &mut report)?;
        target::sync_file_system(run.destination)?;
    }
    Ok(report)
}

/// Directories of a component that were not selected but had to be made on the way to something that was.
type OnTheWay = HashSet<Vec<u8>>;

/// Creates everything but directories' attributes: of all components in one go, since what the same
/// backup stored of them lies among each other.
fn write_content(runs: &[ComponentRun<'_>], report: &mut RestoreReport) -> Result<Vec<OnTheWay>> {
    let Some(first) = runs.first() else { return Ok(Vec::new()) };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(first.options.threads.max(1))
        .thread_name(|n| format!("write-{n}"))
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "threads", "cannot be started").caused_by(error)
        })?;
    let windows = Windows::new(first, &pool);
    let to = &windows;
    let on_the_way = pool.in_place_scope_fifo(|scope| {
        let write = |reading, arrival| scope.spawn_fifo(move |_| to.put(reading, arrival));
        fetching(first.repository.backend(), &|| to.goes_on(), &write, |fetcher| {
            let mut filling = to.begin();
            let mut on_the_way = Vec::with_capacity(runs.len());
            for run in runs {
                run.observer.event(Event::Stage(&run.component.name));
                let mut add = |file, meta: &mut MetaReader<'_>| {
                    to.add_file(&mut filling, file, meta, &fetcher)
                };
                on_the_way.push(run.write_content(&mut add, report)?);
            }
            to.run(filling, &fetcher)?;
            Ok(on_the_way)
        })
    })?;
    windows.finish(report)?;
    Ok(on_the_way)
}

/// One component on its way to its destination.
struct ComponentRun<'a> {
    repository: &'a Repository,
    component: &'a Component,
    destination: &'a Path,
    options: &'a RestoreOptions,
    observer: &'a dyn Observer,
    owners: &'a Owners,
}

impl ComponentRun<'_> {
    fn find(&self, report: &mut RestoreReport, finding: Finding) {
        self.observer.event(Event::Finding(&finding));
        report.findings.push(finding);
    }

    fn object(&self, path: &[u8]) -> String {
        plan::shown(self.destination, path)
    }

    /// Returns the next entry that can be read; a damaged part of the manifest is a finding.
    fn next_entry(
        &self,
        manifest: &mut ManifestReader<'_>,
        report: &mut RestoreReport,
    ) -> Result<Option<Entry>> {
        loop {
            match manifest.next_entry() {
                Err(error) => {
                    let kind = damage_kind(&error).ok_or(error)?;
                    let object = format!("component {}", self.component.name);
                    let detail = "a part of its manifest cannot be had: its files are not restored";
                    report.findings.push(Finding::new(kind, object, detail));
                }
                read => return read,
            }
        }
    }

    /// Counts and names the files that a delta would write; nothing of their content is read.
    fn survey(&self, report: &mut RestoreReport) -> Result<()> {
        let mut manifest = ManifestReader::new(self.repository, self.component);
        while let Some(entry) = self.next_entry(&mut manifest, report)? {
            self.options.cancel.check()?;
            let Node::File { size, .. } = entry.node else { continue };
            if !self.options.select.takes(self.component, &entry.path) {
                continue;
            }
            let path = self.destination.join(OsStr::from_bytes(&entry.path));
            let there = path.symlink_metadata().ok();
            if there.is_some_and(|there| there.is_file() && there.len() == size) {
                report.files_to_compare += 1;
            } else {
                report.files_to_write += 1;
                self.observer.event(Event::Would(&encode_path(&path)));
            }
        }
        Ok(())
    }

    /// Creates what a component has; `add_file` takes files that want content.
    fn write_content(
        &self,
        add_file: &mut dyn FnMut(FileToWrite, &mut MetaReader<'_>) -> Result<()>,
        report: &mut RestoreReport,
    ) -> Result<OnTheWay> {
        let mut tree = TargetTree::open(self.destination)?;
        let mut links: HashMap<LinkGroup, Vec<u8>> = HashMap::new();
        let mut meta = MetaReader::new(self.repository);
        let mut manifest = ManifestReader::new(self.repository, self.component);
        while let Some(entry) = self.next_entry(&mut manifest, report)? {
            self.options.cancel.check()?;
            if !self.options.select.takes(self.component, &entry.path) {
                continue;
            }
            if let Some(group) = link_group(&entry) {
                if let Some(first) = links.get(&group) {
                    tree.hard_link(first, &entry.path, self.options.delta)?;
                    report.files_restored += 1;
                    continue;
                }
                links.insert(group, entry.path.clone());
            }
            self.create(&mut tree, &entry, report, &mut |file| add_file(file, &mut meta))?;
        }
        Ok(tree.made_on_the_way())
    }

    fn create(
        &self,
        tree: &mut TargetTree,
        entry: &Entry,
        report: &mut RestoreReport,
        add_file: &mut dyn FnMut(FileToWrite) -> Result<()>,
    ) -> Result<()> {
        let object = self.object(&entry.path);
        match &entry.node {
            Node::Directory => tree.directory(&entry.path, self.options.delta),
            Node::File { size, .. } => {
                let (file, old_size) = tree.file(&entry.path, self.options.delta)?;
                let path = object;
                add_file(FileToWrite { file, path, entry: entry.clone(), size: *size, old_size })
            }
            Node::Unreadable { size } => {
                let detail = format!("its {size} bytes could not be read when it was backed up");
                self.find(report, Finding::new(FindingKind::LostContent, object, detail));
                Ok(())
            }
            // A server makes its sockets anew.
            Node::Socket => Ok(()),
            special => match tree.special(&entry.path, special, self.options.delta) {
                Err(error) if error.kind() == ErrorKind::Io => {
                    let detail = error.repeat().problem().to_owned();
                    self.find(report, Finding::new(FindingKind::AttributeRefused, object, detail));
                    Ok(())
                }
                Err(error) => Err(error),
                Ok(()) => {
                    let full = tree.host_path(&entry.path);
                    for finding in attributes::set_on_path(&full, entry, self.owners, &object) {
                        self.find(report, finding);
                    }
                    Ok(())
                }
            },
        }
    }

    /// Gives directories their attributes; nothing changes in them any more.
    fn finish_directories(&self, on_the_way: &OnTheWay, report: &mut RestoreReport) -> Result<()> {
        let mut tree = TargetTree::open(self.destination)?;
        let mut manifest = ManifestReader::new(self.repository, self.component);
        // What cannot be read was reported when content was written, if it could not be read then either.
        let unread = |report: &RestoreReport| {
            let kinds = [FindingKind::DamagedManifest, FindingKind::MissingChunk];
            kinds.iter().map(|kind| report.findings.count(*kind)).sum::<u64>()
        };
        let known = unread(report);
        let mut reported = RestoreReport::default();
        while let Some(entry) = self.next_entry(&mut manifest, &mut reported)? {
            let wanted = self.options.select.takes(self.component, &entry.path)
                || on_the_way.contains(&entry.path);
            if wanted && entry.node == Node::Directory {
                let directory = tree.open_directory(&entry.path)?;
                let object = self.object(&entry.path);
                for finding in attributes::set_on_file(directory, &entry, self.owners, &object) {
                    self.find(report, finding);
                }
            }
        }
        if unread(&reported) > known {
            report.findings.append(reported.findings);
        }
        Ok(())
    }
}

/// What tells hard links of one file: device, inode, and the content, since an inode may have been
/// given to another file while a live tree was read.
pub(crate) type LinkGroup = (u64, u64, u64, u64);

/// Returns the group of a file that may have several names.
pub(crate) fn link_group(entry: &Entry) -> Option<LinkGroup> {
    let (Some(device), Node::File { size, extents }) = (entry.hard_link, &entry.node) else {
        return None;
    };
    let mut content = Vec::new();
    put_extents(&mut content, extents);
    Some((device, entry.identity.inode, *size, boundary_hash(&content)))
}

/// Returns what kind of damage an error of reading stored objects is; `None` for other errors.
fn damage_kind(error: &Error) -> Option<FindingKind> {
    match error.kind() {
        ErrorKind::NotFound => Some(FindingKind::MissingChunk),
        ErrorKind::Corrupt => Some(FindingKind::DamagedManifest),
        _ => None,
    }
}
