//! Plan: what a backup would take, read and store. Nothing is written but the index cache.
//!
//! Takes the options of a backup and decides by the backup's own code what is left out, what is
//! unchanged and what is wrong, so that the two cannot disagree about a source that stays as it is.

mod forecast;

use rustix::fs::FileType;

use crate::backup::{
    BackupOptions, Judge, ParentCursor, left_out_of, link_leaving, needs_confirmation, recorded,
    same_source, walk_failure, was_a_file,
};
use crate::error::Result;
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::config::SlotForm;
use crate::format::snapshot::{Counts, LeftOutRecord, SystemOfRecord};
use crate::format::text::encode_path;
use crate::id::SessionId;
use crate::progress::{Event, Observer};
use crate::repository::Repository;
use crate::session::{Begun, Session};
use crate::snapshot::{Listing, Named};
use crate::source::columnstore::is_interrupted_write;
use crate::source::directory::{Found, Met, Walk};
use crate::source::{LeftOut, SourceTree};
pub use forecast::{Basis, Forecast};

/// How many left-out paths a plan names; the rest is counted. As many as a snapshot names.
const LEFT_OUT_LISTED_MAX: usize = 1000;

/// What a backup would do.
#[derive(Clone, Debug)]
pub struct PlanReport {
    /// The components, in the order of the options.
    pub components: Vec<PlannedComponent>,
    /// What would be left out, and why; the first 1000.
    pub left_out: Vec<LeftOutRecord>,
    /// How many paths would be left out.
    pub left_out_total: u64,
    /// The system of record and what is left out because of it; `None` for plain paths.
    pub record: Option<SystemOfRecord>,
    /// Whether a backup is refused until somebody confirms what the record leaves out.
    pub needs_confirmation: bool,
    /// The snapshot that unchanged files would be taken from.
    pub parent: Option<SessionId>,
    /// In which form slots would be stored; `None` when neither options nor a repository say it.
    pub slots: Option<SlotForm>,
    /// Whether the last backup stored slots in the other form: those of changed files are stored anew.
    pub switches_slots: bool,
    /// What it would cost.
    pub forecast: Forecast,
    /// What is wrong already: with the source, and with the repository as far as it was met.
    pub findings: Findings,
}

/// What a component would hold, and what of it would be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedComponent {
    /// Its name.
    pub name: String,
    /// Its base, as the source names it, in text form.
    pub path: String,
    /// What it would hold. Holes are not looked for: `allocated_bytes` equals `bytes`.
    pub counts: Counts,
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that it has, and that would be read again.
    pub files_changed: u64,
    /// Files that would be taken over unread.
    pub files_unmodified: u64,
    /// Sizes of the files that would be read.
    pub bytes_to_read: u64,
    /// Of these, sizes of the files that the parent does not have.
    pub bytes_of_new_files: u64,
}

impl PlanReport {
    /// Returns the components added up; without name and path.
    pub fn total(&self) -> PlannedComponent {
        let mut total = PlannedComponent::default();
        for component in &self.components {
            total.counts.add(&component.counts);
            total.files_new += component.files_new;
            total.files_changed += component.files_changed;
            total.files_unmodified += component.files_unmodified;
            total.bytes_to_read += component.bytes_to_read;
            total.bytes_of_new_files += component.bytes_of_new_files;
        }
        total
    }
}

/// Plans a backup with these options. Without a repository every file counts as new.
///
/// The repository's index must not have been loaded before. Fails where the backup could not begin
/// at all: a component whose base is gone, or that holds what must not be backed up into itself.
/// Cost: one `statx` for each path, and the parent's manifest.
pub fn plan(
    repository: Option<&Repository>,
    options: &BackupOptions,
    observer: &dyn Observer,
) -> Result<PlanReport> {
    let begun = match repository {
        Some(repository) => Some((repository, Session::begin(repository, None, observer)?)),
        None => None,
    };
    let none = Listing::default();
    let snapshots = begun.as_ref().map_or(&none, |(_, begun)| &begun.snapshots);
    let parent = options.parent(snapshots);
    let mut findings = begun.as_ref().map_or_else(Findings::default, |(_, b)| b.findings.clone());
    for finding in &options.findings {
        observer.event(Event::Finding(finding));
        findings.push(finding.clone());
    }
    let record = options.record.as_ref().map(|asked| left_out_of(options, asked)).transpose()?;
    let needs_confirmation = options.record.as_ref().is_some_and(|asked| !asked.apply)
        && record.as_ref().is_some_and(|record| needs_confirmation(options, record, snapshots));
    let judge = begun.as_ref().map(|(repository, Begun { doubtful, .. })| Judge {
        repository,
        options,
        doubtful: *doubtful,
    });
    let mut planner =
        Planner { judge, options, observer, left_out: Vec::new(), left_out_total: 0, findings };
    for left_out in &options.left_out {
        planner.leave_out(left_out);
    }
    let mut components = Vec::new();
    for tree in &options.trees {
        observer.event(Event::Stage(&tree.component));
        components.push(planner.component(tree, parent)?);
    }
    let Planner { left_out, left_out_total, findings, .. } = planner;
    let (kind, group) = options.source();
    let history: Vec<&Named> = same_source(snapshots, kind, &group).collect();
    let slots = options.slots.or(repository.map(|repository| repository.config().slots.form));
    let before = history.iter().find_map(|named| named.snapshot.stats.slot_form());
    let switches_slots = parent.is_some() && before.is_some() && slots != before;
    let mut report = PlanReport {
        components,
        left_out,
        left_out_total,
        record,
        needs_confirmation,
        parent: parent.map(|named| named.id),
        slots,
        switches_slots,
        forecast: Forecast::default(),
        findings,
    };
    let PlannedComponent { bytes_to_read, bytes_of_new_files, .. } = report.total();
    // What a night costs is no measure when the chunks of the last one are of another form.
    let takes_chunks = parent.is_some() && !switches_slots;
    report.forecast = forecast::forecast(&history, takes_chunks, bytes_to_read, bytes_of_new_files);
    Ok(report)
}

/// What is kept over all components.
struct Planner<'a> {
    /// `None` without a repository.
    judge: Option<Judge<'a>>,
    options: &'a BackupOptions,
    observer: &'a dyn Observer,
    left_out: Vec<LeftOutRecord>,
    left_out_total: u64,
    findings: Findings,
}

impl Planner<'_> {
    fn find(&mut self, finding: Finding) {
        self.observer.event(Event::Finding(&finding));
        self.findings.push(finding);
    }

    fn leave_out(&mut self, left_out: &LeftOut) {
        self.left_out_total += 1;
        if self.left_out.len() < LEFT_OUT_LISTED_MAX {
            self.left_out.push(LeftOutRecord {
                component: left_out.component.clone(),
                path: encode_path(&left_out.path),
                reason: left_out.reason.clone(),
            });
        }
    }

    fn component(&mut self, tree: &SourceTree, parent: Option<&Named>) -> Result<PlannedComponent> {
        let mut planned = PlannedComponent {
            name: tree.component.clone(),
            path: encode_path(&tree.recorded),
            ..PlannedComponent::default()
        };
        let previous =
            parent.and_then(|p| p.snapshot.components.iter().find(|c| c.name == tree.component));
        let mut cursor = self.judge.map(|judge| ParentCursor::new(judge.repository, previous));
        for met in Walk::new(tree, &self.options.walk())? {
            self.options.cancel.check()?;
            match met {
                Met::LeftOut(left_out) => self.leave_out(&left_out),
                Met::Failed { path, error } => {
                    let (finding, left_out) = walk_failure(tree, &path, &error)?;
                    left_out.iter().for_each(|left_out| self.leave_out(left_out));
                    self.find(finding);
                }
                Met::Found(found) => self.meet(tree, &found, cursor.as_mut(), &mut planned)?,
            }
        }
        Ok(planned)
    }

    fn meet(
        &mut self,
        tree: &SourceTree,
        found: &Found,
        cursor: Option<&mut ParentCursor<'_>>,
        planned: &mut PlannedComponent,
    ) -> Result<()> {
        let object = || recorded(tree, &found.path);
        if let Some(why) = is_interrupted_write(&tree.component, &found.path) {
            self.find(Finding::new(FindingKind::InterruptedWrite, object(), why));
        }
        let seek = |cursor: &mut ParentCursor<'_>| cursor.seek(&found.path, self.observer);
        let previous = cursor.map(seek).transpose()?.flatten();
        let counts = &mut planned.counts;
        match found.stat.file_type {
            FileType::RegularFile => {}
            FileType::Directory => counts.directories += 1,
            FileType::Symlink => {
                counts.symlinks += 1;
                let target = found.place.read_link().ok();
                let leaving = target.and_then(|t| link_leaving(self.options, tree, found, &t));
                if let Some(target) = leaving {
                    let detail = format!("points to {target}, which is in no component");
                    self.find(Finding::new(FindingKind::LinkLeavesComponent, object(), detail));
                }
            }
            _ => counts.others += 1,
        }
        if found.stat.file_type != FileType::RegularFile {
            self.observer.event(Event::Done { entries: 1, bytes: 0 });
            return Ok(());
        }
        counts.files += 1;
        counts.bytes += found.stat.size;
        counts.allocated_bytes += found.stat.size;
        let unchanged = match (&self.judge, &previous) {
            (Some(judge), Some(previous)) => judge.is_unchanged(&found.stat, previous)?,
            _ => false,
        };
        if unchanged {
            planned.files_unmodified += 1;
        } else {
            planned.bytes_to_read += found.stat.size;
            match was_a_file(previous.as_ref()) {
                true => planned.files_changed += 1,
                false => {
                    planned.files_new += 1;
                    planned.bytes_of_new_files += found.stat.size;
                }
            }
        }
        self.observer.event(Event::Done { entries: 1, bytes: found.stat.size });
        Ok(())
    }
}
