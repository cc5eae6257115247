//! Backup: from source trees to a committed snapshot.
//!
//! One coordinator walks the trees in manifest order, in step with the parent's manifest. What is
//! unchanged is taken over unread; everything else is read, cut, hashed and compressed by the
//! thread pool, span by span. Entries go into the manifest in the order of the walk, whatever the
//! order in which they are finished; how many may wait for that is bounded.

mod content;
mod decide;
mod kept;
mod layout;
mod names;
mod parent;
mod record;
mod slots;
mod span;
mod tables;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::chunker::Cutters;
use crate::compress::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::config::SlotForm;
use crate::format::extent::Extent;
use crate::format::manifest::{Entry, EntryFinding, Node, Time};
use crate::format::session::Lease;
use crate::format::snapshot::{
    BackupStats, Component, Counts, CredentialRecord, LeftOutRecord, RecipeStats, Snapshot,
    SnapshotState,
};
use crate::format::text::encode_path;
use crate::id::SessionId;
use crate::manifest::ManifestWriter;
use crate::packer::Pack;
use crate::pattern::Patterns;
use crate::pipeline::{StoreOptions, store_chunks};
use crate::progress::{Cancel, Event, Observer};
use crate::proof::{is_provable, prove};
use crate::recipe::refuse_unknown_packers;
use crate::repository::Repository;
use crate::session::{Begun, Session};
use crate::snapshot::{Listing, Named};
use crate::source::columnstore::is_interrupted_write;
use crate::source::directory::{EXCLUDED, Found, Met, Walk, WalkOptions};
use crate::source::file::{self, Stat};
use crate::source::{LeftOut, SourceTree};
use content::{FileJob, Outcome, Permits, Reading};
pub(crate) use decide::{Judge, link_leaving, walk_failure, was_a_file};
use kept::KeptPacked;
use names::Names;
use parent::Before;
pub(crate) use parent::{ParentCursor, same_source};
pub use record::RecordOptions;
pub(crate) use record::{left_out_of, needs_confirmation};
use slots::SlotStore;

/// An entry whose mtime or ctime is not older than the start of its reading by this many seconds
/// is read again next time: a later change could have left the same times.
pub const RACY_SECONDS: i64 = 2;

/// How many entries may wait for their turn in the manifest.
const PENDING_MAX: usize = 4096;

/// How many reading tasks may wait in the pool; each holds its directory open.
const TASKS_MAX: usize = 256;

/// How many left-out paths a snapshot names; the rest is counted.
const LEFT_OUT_LISTED_MAX: usize = 1000;

/// What belongs together from night to night.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// A ColumnStore deployment, by name.
    Deployment {
        /// Its name.
        name: String,
        /// `shared-local` or `object-storage`.
        topology: String,
    },
    /// Plain paths.
    Paths,
}

/// What to back up, and how.
#[derive(Clone)]
pub struct BackupOptions {
    /// The components.
    pub trees: Vec<SourceTree>,
    /// What they are.
    pub group: Group,
    /// What was asked for, for the snapshot.
    pub paths: Vec<PathBuf>,
    /// The host's name for the snapshot.
    pub host: String,
    /// Free words for the snapshot.
    pub tags: Vec<String>,
    /// Paths to leave out, below each component's base.
    pub exclude: Patterns,
    /// Do not cross into other file systems.
    pub one_file_system: bool,
    /// Directories that must not be backed up into themselves: device, inode, what they are.
    pub forbidden: Vec<(u64, u64, String)>,
    /// Take ctime out of the test for unchanged files (network file systems).
    pub ignore_ctime: bool,
    /// Take the inode out of the test for unchanged files (network file systems).
    pub ignore_inode: bool,
    /// Read every file, whatever the parent says.
    pub force: bool,
    /// Change nothing; report what would be stored.
    pub dry_run: bool,
    /// Prove the snapshot before it is committed; only one of a deployment can be. A dry run stores
    /// nothing that could be proved.
    pub prove: bool,
    /// In which form slots are stored; `None` as the repository's config says.
    pub slots: Option<SlotForm>,
    /// How hard chunks are compressed.
    pub compression: Compression,
    /// What packs slots again, to see whether they come out the same.
    pub packers: &'static dyn Pack,
    /// Make no snapshot when a header, slot or page of the source does not hold.
    pub fail_on_corruption: bool,
    /// Threads that read, cut, hash and compress.
    pub threads: usize,
    /// What is known to be left out before the walk.
    pub left_out: Vec<LeftOut>,
    /// The system of record; `None` for plain paths.
    pub record: Option<RecordOptions>,
    /// Files that hold credentials.
    pub credentials: Vec<CredentialRecord>,
    /// Facts of the source.
    pub facts: BTreeMap<String, String>,
    /// What was done and seen so that the data belongs together.
    pub evidence: BTreeMap<String, String>,
    /// What is wrong before anything is read.
    pub findings: Vec<Finding>,
    /// Returns the present time, RFC 3339 with offset.
    pub clock: fn() -> String,
    /// The program, for the snapshot.
    pub program: String,
    /// To stop it.
    pub cancel: Cancel,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The snapshot's id; `None` after a dry run.
    pub id: Option<SessionId>,
    /// The snapshot as committed, or as it would have been.
    pub snapshot: Snapshot,
    /// In which form slots were stored where they could be.
    pub slots: SlotForm,
    /// How many paths were left out; the snapshot names the first 1000.
    pub left_out_total: u64,
    /// What is wrong with the repository itself, as far as the backup came across it.
    pub repository_findings: Findings,
}

/// Backs up some trees and commits a snapshot of them.
///
/// The repository's index must not have been loaded before: a session reads it after its lease.
/// What is wrong with single files is in the report's findings, and the snapshot says so; an error
/// means that there is no snapshot.
pub fn backup(
    repository: &Repository,
    options: &BackupOptions,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    backup_guarded(repository, options, &|| Ok(Vec::new()), observer)
}

/// Backs up as [`backup`], and asks `guard` when everything is read, before the commit: what it
/// finds (a server that was started meanwhile) becomes part of the snapshot and of its state.
pub fn backup_guarded(
    repository: &Repository,
    options: &BackupOptions,
    guard: &dyn Fn() -> Result<Vec<Finding>>,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    let time = (options.clock)();
    let (kind, group_name) = options.source();
    let lease = Lease {
        purpose: "backup".to_owned(),
        host: options.host.clone(),
        pid: std::process::id(),
        started: time.clone(),
        program: options.program.clone(),
    };
    let lease = (!options.dry_run).then_some(&lease);
    let Begun { session, snapshots, findings: repository_findings, doubtful } =
        Session::begin(repository, lease, observer)?;
    let record = record::settled(&snapshots, options, observer)?;
    let parent = options.parent(&snapshots);
    if let (None, Some(other)) = (parent, options.last(&snapshots)) {
        let text = format!(
            "snapshot {} is not taken as parent: {}; every file is read",
            other.id.short(),
            refusal_of(other).unwrap_or_default()
        );
        observer.event(Event::Warning(&text));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .thread_name(|n| format!("read-{n}"))
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "threads", "cannot be started").caused_by(error)
        })?;
    let store_options = StoreOptions {
        dry_run: options.dry_run,
        lanes: (options.threads / 8).clamp(1, 4),
        compression: options.compression,
    };
    let form = options.slots.unwrap_or(repository.config().slots.form);
    let mut run = Run {
        judge: Judge { repository, options, doubtful },
        options,
        observer,
        names: Names::default(),
        stats: BackupStats::default(),
        findings: Findings::default(),
        left_out: Vec::new(),
        left_out_total: 0,
        data_excluded: 0,
        kept_packed: KeptPacked::default(),
    };
    for finding in &options.findings {
        run.find(finding.clone());
    }
    for left_out in &options.left_out {
        run.leave_out(left_out.clone());
    }
    let ((components, packers), stored) =
        store_chunks(repository, session.id(), store_options, observer, |store| {
            let cutters = Cutters::new(&repository.config().cutter);
            let reading = Reading {
                repository,
                store,
                cutters: &cutters,
                observer,
                cancel: &options.cancel,
                permits: Permits::new(TASKS_MAX),
                recipes: (form == SlotForm::Recipe)
                    .then(|| SlotStore::new(store, repository, options.packers, doubtful)),
            };
            pool.in_place_scope_fifo(|scope| {
                let mut components = Vec::new();
                for tree in &options.trees {
                    observer.event(Event::Stage(&tree.component));
                    let previous = parent.and_then(|named| {
                        named.snapshot.components.iter().find(|c| c.name == tree.component)
                    });
                    let cursor = ParentCursor::new(repository, previous);
                    components.push(run.component(tree, cursor, &reading, scope)?);
                }
                Ok(components)
            })
            .map(|components| (components, reading.recipes.map(SlotStore::packers)))
        })?;
    options.cancel.check()?;
    if run.data_excluded > 0 {
        let text = format!(
            "--exclude leaves out {} paths of DB Roots and the data directory: what a restore brings \
             back lacks them, and a server may not start on it",
            run.data_excluded
        );
        observer.event(Event::Warning(&text));
    }
    for text in run.kept_packed.warnings() {
        observer.event(Event::Warning(&text));
    }
    if options.fail_on_corruption {
        refuse_damage(&group_name, &run.findings)?;
    }
    for finding in guard()? {
        run.find(finding);
    }
    run.stats.data_chunks = stored.data_chunks;
    run.stats.meta_chunks = stored.meta_chunks;
    run.stats.data_added = stored.added_raw;
    run.stats.data_added_packed = stored.added_stored;
    run.stats.bytes_deduplicated = stored.known_raw;
    run.stats.packs = stored.packs;
    run.stats.indexes = stored.indexes;
    let mut facts = options.facts.clone();
    if run.left_out_total > run.left_out.len() as u64 {
        facts.insert("left_out_total".to_owned(), run.left_out_total.to_string());
    }
    let mut snapshot = Snapshot {
        time,
        end: String::new(),
        host: options.host.clone(),
        kind: kind.to_owned(),
        group: group_name,
        topology: match &options.group {
            Group::Deployment { topology, .. } => topology.clone(),
            Group::Paths => String::new(),
        },
        paths: options.paths.iter().map(|path| encode_path(path)).collect(),
        tags: options.tags.clone(),
        parent: parent.map(|named| named.id),
        state: state_of(&run.findings),
        evidence: options.evidence.clone(),
        components,
        left_out: run.left_out,
        record,
        proof: None,
        names: Vec::new(),
        credentials: options.credentials.clone(),
        facts,
        findings: run.findings,
        stats: run.stats,
        packers: needed_packers(packers.unwrap_or_default(), parent),
        set: None,
        program: options.program.clone(),
    };
    if options.prove && !options.dry_run && is_provable(&snapshot) {
        add_proof(repository, options, &mut snapshot, observer)?;
    }
    snapshot.end = (options.clock)();
    let id = match options.dry_run {
        true => None,
        false => {
            tables::name(repository, session.id(), &mut snapshot, observer)?;
            Some(session.commit(&snapshot)?)
        }
    };
    Ok(BackupReport {
        id,
        snapshot,
        slots: form,
        left_out_total: run.left_out_total,
        repository_findings,
    })
}

/// Returns why content cannot be taken over from a snapshot.
fn refusal_of(named: &Named) -> Option<String> {
    let packers = &named.snapshot.packers;
    let refused = refuse_unknown_packers("snapshot", packers).err()?;
    Some(refused.problem().to_owned())
}

/// Returns the names of the packers that a snapshot needs: those of recipes that this session met, and
/// all of the parent's, from which content was taken over.
fn needed_packers(mut names: BTreeSet<String>, parent: Option<&Named>) -> Vec<String> {
    names.extend(parent.iter().flat_map(|named| named.snapshot.packers.iter().cloned()));
    names.into_iter().collect()
}

/// Proves a snapshot from what the repository has of it, and adds to it what came of that.
fn add_proof(
    repository: &Repository,
    options: &BackupOptions,
    snapshot: &mut Snapshot,
    observer: &dyn Observer,
) -> Result<()> {
    observer.event(Event::Stage("proof"));
    let outcome = prove(repository, snapshot, &options.cancel)?;
    for finding in &outcome.findings.listed {
        observer.event(Event::Finding(finding));
    }
    snapshot.findings.append(outcome.findings);
    snapshot.proof = Some(outcome.proof);
    Ok(())
}

impl BackupOptions {
    /// Returns what belongs together from night to night: the kind of source and its name.
    pub fn source(&self) -> (&'static str, String) {
        match &self.group {
            Group::Deployment { name, .. } => ("deployment", name.clone()),
            Group::Paths => {
                let paths: Vec<_> = self.paths.iter().map(|path| encode_path(path)).collect();
                ("paths", paths.join("\n"))
            }
        }
    }

    /// Returns the snapshot that unchanged files are taken from.
    pub(crate) fn parent<'a>(&self, snapshots: &'a Listing) -> Option<&'a Named> {
        // One whose recipes this program cannot follow would give a snapshot that it cannot restore.
        self.last(snapshots).filter(|last| refusal_of(last).is_none())
    }

    /// Returns the last snapshot of the source, unless everything is to be read anyway.
    fn last<'a>(&self, snapshots: &'a Listing) -> Option<&'a Named> {
        let (kind, group) = self.source();
        let chosen = || parent::choose(snapshots, kind, &group, &self.host);
        (!self.force).then(chosen).flatten()
    }

    /// Returns how the trees are walked.
    pub(crate) fn walk(&self) -> WalkOptions {
        WalkOptions {
            exclude: self.exclude.clone(),
            one_file_system: self.one_file_system,
            forbidden: self.forbidden.clone(),
        }
    }
}

/// What says that content of the source does not hold.
const DAMAGE: [FindingKind; 3] =
    [FindingKind::DamagedHeader, FindingKind::DamagedSlot, FindingKind::DamagedPage];

/// Fails with `DamagedSource` when content of the source does not hold.
fn refuse_damage(group: &str, findings: &Findings) -> Result<()> {
    let total: u64 = DAMAGE.iter().map(|kind| findings.count(*kind)).sum();
    if total == 0 {
        return Ok(());
    }
    let first = findings.listed.iter().find(|finding| DAMAGE.contains(&finding.kind));
    let first = first.map(|finding| format!("; the first: {}: {}", finding.object, finding.detail));
    let first = first.unwrap_or_default();
    let problem = format!(
        "headers, slots and pages that hold expected, {total} do not, so no snapshot was made{first}"
    );
    Err(Error::new(ErrorKind::DamagedSource, group, problem))
}

/// Returns the state of a snapshot with these findings.
fn state_of(findings: &Findings) -> SnapshotState {
    use FindingKind::*;
    let any = |kinds: &[FindingKind]| kinds.iter().any(|kind| findings.count(*kind) > 0);
    if any(&DAMAGE) {
        SnapshotState::Damaged
    } else if any(&[Vanished, ChangedWhileRead, Unreadable, LinkLeavesComponent]) {
        SnapshotState::Partial
    } else if any(&[NotFrozen]) {
        SnapshotState::Inconsistent
    } else {
        SnapshotState::Complete
    }
}

/// What the coordinator keeps over all components.
struct Run<'a> {
    judge: Judge<'a>,
    options: &'a BackupOptions,
    observer: &'a dyn Observer,
    names: Names,
    stats: BackupStats,
    findings: Findings,
    left_out: Vec<LeftOutRecord>,
    left_out_total: u64,
    /// Paths of DB Roots and of the data directory that the user's patterns have left out.
    data_excluded: u64,
    kept_packed: KeptPacked,
}

/// An entry that waits for its turn in the manifest.
enum Pending {
    Ready(Box<Entry>),
    Reading(Box<Found>, Arc<FileJob>),
}

impl Run<'_> {
    fn find(&mut self, finding: Finding) {
        self.find_times(finding, 1);
    }

    /// Takes a finding that stands for so many.
    fn find_times(&mut self, finding: Finding, times: u64) {
        self.observer.event(Event::Finding(&finding));
        self.findings.push_times(finding, times);
    }

    fn leave_out(&mut self, left_out: LeftOut) {
        self.left_out_total += 1;
        let is_data = left_out.component.starts_with("dbroot/") || left_out.component == "datadir";
        if is_data && left_out.reason == EXCLUDED {
            self.data_excluded += 1;
        }
        if self.left_out.len() < LEFT_OUT_LISTED_MAX {
            self.left_out.push(LeftOutRecord {
                component: left_out.component,
                path: encode_path(&left_out.path),
                reason: left_out.reason,
            });
        }
    }

    fn component<'scope>(
        &mut self,
        tree: &SourceTree,
        mut parent: ParentCursor<'_>,
        reading: &'scope Reading<'_>,
        scope: &rayon::ScopeFifo<'scope>,
    ) -> Result<Component> {
        let walk_options = self.options.walk();
        let mut writer = ManifestWriter::new(reading.store);
        let mut counts = Counts::default();
        let mut pending: VecDeque<Pending> = VecDeque::new();
        for met in Walk::new(tree, &walk_options)? {
            self.options.cancel.check()?;
            match met {
                Met::LeftOut(left_out) => self.leave_out(left_out),
                Met::Failed { path, error } => self.walk_failed(tree, &path, &error)?,
                Met::Found(found) => {
                    let previous = parent.seek(&found.path, self.observer)?;
                    if let Some(next) = self.meet(tree, found, previous, reading, scope)? {
                        pending.push_back(next);
                    }
                }
            }
            while pending.len() > PENDING_MAX
                || pending.front().is_some_and(|front| front.is_ready())
            {
                let Some(front) = pending.pop_front() else { break };
                self.write(tree, front, &mut writer, &mut counts)?;
            }
        }
        for front in pending {
            self.write(tree, front, &mut writer, &mut counts)?;
        }
        Ok(Component {
            name: tree.component.clone(),
            path: encode_path(&tree.recorded),
            manifest: writer.finish()?,
            counts,
        })
    }

    fn walk_failed(&mut self, tree: &SourceTree, path: &[u8], error: &Error) -> Result<()> {
        let (finding, left_out) = walk_failure(tree, path, error)?;
        if let Some(left_out) = left_out {
            self.leave_out(left_out);
        }
        self.find(finding);
        Ok(())
    }

    /// Decides what to do with a path: take it over, store its attributes, or read it.
    fn meet<'scope>(
        &mut self,
        tree: &SourceTree,
        found: Found,
        previous: Option<Entry>,
        reading: &'scope Reading<'_>,
        scope: &rayon::ScopeFifo<'scope>,
    ) -> Result<Option<Pending>> {
        if found.stat.file_type != FileType::RegularFile {
            return Ok(self
                .attributes_only(tree, &found, previous)?
                .map(Box::new)
                .map(Pending::Ready));
        }
        if let Some(entry) = self.reuse(&found, previous.as_ref())? {
            self.stats.files_unmodified += 1;
            reading.observer.event(Event::Done { entries: 1, bytes: entry.size() });
            return Ok(Some(Pending::Ready(Box::new(entry))));
        }
        match was_a_file(previous.as_ref()) {
            true => self.stats.files_changed += 1,
            false => self.stats.files_new += 1,
        }
        let before = previous.map(|previous| Before {
            extents: previous.extents().to_vec(),
            is_sound: !previous.racy && previous.findings.is_empty(),
        });
        let job = FileJob::begin(reading, scope, &found, before.unwrap_or_default())?;
        Ok(Some(Pending::Reading(Box::new(found), job)))
    }

    /// Returns the parent's entry with present attributes when the file is the one it describes.
    fn reuse(&mut self, found: &Found, previous: Option<&Entry>) -> Result<Option<Entry>> {
        let stat = &found.stat;
        let Some(previous) = previous else { return Ok(None) };
        if !self.judge.is_unchanged(stat, previous)? {
            return Ok(None);
        }
        // A change of attributes changes ctime; where that is ignored they are read again.
        let xattrs = if previous.identity.ctime == stat.identity.ctime {
            previous.xattrs.clone()
        } else {
            match found.place.xattrs() {
                Ok(xattrs) => xattrs,
                Err(_) => return Ok(None),
            }
        };
        let node = previous.node.clone();
        let mut entry = self.entry(found.path.clone(), stat, node, xattrs, false);
        entry.findings.clone_from(&previous.findings);
        entry.segment.clone_from(&previous.segment);
        Ok(Some(entry))
    }

    fn entry(
        &mut self,
        path: Vec<u8>,
        stat: &Stat,
        node: Node,
        xattrs: Vec<(Vec<u8>, Vec<u8>)>,
        racy: bool,
    ) -> Entry {
        Entry {
            path,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: self.names.user(stat.uid),
            group: self.names.group(stat.gid),
            mtime: stat.mtime,
            identity: stat.identity,
            racy,
            hard_link: (stat.links > 1 && !matches!(node, Node::Directory)).then_some(stat.device),
            node,
            xattrs,
            findings: Vec::new(),
            segment: None,
        }
    }

    /// Returns the parent's entry of a directory that only leads to what was asked for, if nothing but its times
    /// changed: these are of what lies beside, and alone make no new entry, or a night without changes would
    /// store one.
    fn leads_as_before(
        &mut self,
        found: &Found,
        previous: &Entry,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Option<Entry> {
        let (path, node) = (found.path.clone(), Node::Directory);
        let mut now = self.entry(path, &found.stat, node, xattrs.to_vec(), previous.racy);
        now.mtime = previous.mtime;
        now.identity.ctime = previous.identity.ctime;
        (found.stat.file_type == FileType::Directory && now == *previous).then(|| {
            self.stats.dirs_unmodified += 1;
            self.observer.event(Event::Done { entries: 1, bytes: 0 });
            now
        })
    }

    fn attributes_only(
        &mut self,
        tree: &SourceTree,
        found: &Found,
        previous: Option<Entry>,
    ) -> Result<Option<Entry>> {
        let stat = &found.stat;
        let started = file::now();
        let (major, minor) = stat.device_number;
        let node = match stat.file_type {
            FileType::Directory => Node::Directory,
            FileType::Symlink => match found.place.read_link() {
                Ok(target) => Node::Symlink { target },
                Err(error) => {
                    self.walk_failed(tree, &found.path, &error)?;
                    return Ok(None);
                }
            },
            FileType::Fifo => Node::Fifo,
            FileType::CharacterDevice => Node::CharDevice { major, minor },
            FileType::BlockDevice => Node::BlockDevice { major, minor },
            _ => Node::Socket,
        };
        let unchanged = previous.as_ref().filter(|previous| {
            !previous.racy && previous.identity == stat.identity && previous.mtime == stat.mtime
        });
        let mut racy = is_racy(stat, started);
        let mut findings = Vec::new();
        let xattrs = match unchanged {
            Some(previous) => previous.xattrs.clone(),
            None => found.place.xattrs().unwrap_or_else(|error| {
                // Tried again next time: what is not known must not be taken over.
                racy = true;
                findings.push(content::unreadable(&error));
                Vec::new()
            }),
        };
        // Of a deployment they are part of what is compared after a restore.
        let only_leads = found.only_leads && self.options.group == Group::Paths;
        if let Some(previous) = previous.as_ref().filter(|_| only_leads && findings.is_empty())
            && let Some(same) = self.leads_as_before(found, previous, &xattrs)
        {
            return Ok(Some(same));
        }
        if stat.file_type == FileType::Directory {
            match (&previous, unchanged) {
                (_, Some(_)) => self.stats.dirs_unmodified += 1,
                (Some(_), None) => self.stats.dirs_changed += 1,
                (None, None) => self.stats.dirs_new += 1,
            }
        }
        let mut entry = self.entry(found.path.clone(), stat, node, xattrs, racy);
        entry.findings = findings;
        if let Node::Symlink { target } = &entry.node
            && let Some(target) = link_leaving(self.options, tree, found, target)
        {
            entry.findings.push(EntryFinding {
                code: content::LINK_LEAVES,
                detail: format!("points to {target}, which is in no component").into_bytes(),
            });
        }
        self.observer.event(Event::Done { entries: 1, bytes: 0 });
        Ok(Some(entry))
    }

    /// Brings an entry into the manifest, waiting for its content if need be.
    fn write(
        &mut self,
        tree: &SourceTree,
        pending: Pending,
        writer: &mut ManifestWriter<'_>,
        counts: &mut Counts,
    ) -> Result<()> {
        let (mut entry, more) = match pending {
            Pending::Ready(entry) => (*entry, 0),
            Pending::Reading(found, job) => match self.read(tree, &found, job.wait())? {
                Some(read) => read,
                None => return Ok(()),
            },
        };
        if let Some(why) = is_interrupted_write(&tree.component, &entry.path)
            && !entry.findings.iter().any(|finding| finding.code == content::INTERRUPTED)
        {
            let detail = why.as_bytes().to_vec();
            entry.findings.push(EntryFinding { code: content::INTERRUPTED, detail });
        }
        content::keep_small(&mut entry, more);
        for finding in &entry.findings {
            self.find_times(content::reported(tree, &entry.path, finding), finding.times());
        }
        match &entry.node {
            Node::File { size, extents } => {
                counts.files += 1;
                counts.bytes += size;
                counts.allocated_bytes += size - holes(extents);
            }
            Node::Unreadable { .. } => counts.files += 1,
            Node::Directory => counts.directories += 1,
            Node::Symlink { .. } => counts.symlinks += 1,
            _ => counts.others += 1,
        }
        writer.push(&entry)
    }

    /// Returns the entry of a file that was read, and how many findings it has beside those in it.
    fn read(
        &mut self,
        tree: &SourceTree,
        found: &Found,
        outcome: Outcome,
    ) -> Result<Option<(Entry, u64)>> {
        match outcome {
            Outcome::Read(content) => {
                self.stats.bytes_read += content.read;
                self.stats.verified.add(&content.verified);
                self.take_recipes(tree, found, &content.recipes);
                let node = Node::File { size: content.size, extents: content.extents };
                let (path, stat) = (found.path.clone(), &content.stat);
                let mut entry = self.entry(path, stat, node, content.xattrs, content.racy);
                entry.findings = content.findings;
                entry.segment = content.segment;
                Ok(Some((entry, content.more_findings)))
            }
            Outcome::Vanished => {
                self.find(Finding::new(
                    FindingKind::Vanished,
                    recorded(tree, &found.path),
                    "gone before it could be opened",
                ));
                Ok(None)
            }
            Outcome::Unreadable(error) => {
                let node = Node::Unreadable { size: found.stat.size };
                let mut entry = self.entry(found.path.clone(), &found.stat, node, Vec::new(), true);
                entry.findings.push(content::unreadable(&error));
                Ok(Some((entry, 0)))
            }
            Outcome::Failed(error) => Err(error),
        }
    }
}

impl Run<'_> {
    fn take_recipes(&mut self, tree: &SourceTree, found: &Found, recipes: &RecipeStats) {
        self.stats.recipes.add(recipes);
        let slots = recipes.kept_packed();
        if slots > 0 {
            let object = recorded(tree, &found.path);
            self.observer.event(Event::KeptPacked { object: &object, slots });
            self.kept_packed.add(recipes, &object);
        }
    }
}

impl Pending {
    fn is_ready(&self) -> bool {
        match self {
            Pending::Ready(_) => true,
            Pending::Reading(_, job) => job.is_done(),
        }
    }
}

/// Whether a file's times are too fresh, at the moment `started`, to tell a later change.
fn is_racy(stat: &Stat, started: Time) -> bool {
    let newest = stat.mtime.max(stat.identity.ctime);
    let limit = Time { seconds: started.seconds - RACY_SECONDS, ..started };
    newest >= limit
}

/// Returns a path as the deployment names it, for messages.
pub(crate) fn recorded(tree: &SourceTree, path: &[u8]) -> String {
    encode_path(&tree.recorded.join(OsStr::from_bytes(path)))
}

/// Returns the bytes of holes at the top level of some extents; holes inside lists count as data,
/// which errs on the safe side where space is asked for.
fn holes(extents: &[Extent]) -> u64 {
    let hole = |extent: &Extent| match extent {
        Extent::Hole { length } => *length,
        _ => 0,
    };
    extents.iter().map(hole).sum()
}
