//! Reading files: spans, windows, cuts, and what changes while they are read.
//!
//! A file is read through one descriptor. Its spans (64 MiB, aligned) are tasks of the pool and
//! finish in any order; the last one puts the extents together and looks whether size or times
//! have changed since the first.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::fs::FileType;

use super::layout::{Layout, Recognised, recognise};
use super::parent::{Before, Former};
use super::slots::SlotStore;
use super::span::{Span, SpanReader};
use super::{is_racy, recorded};
use crate::chunker::Cutters;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Finding;
use crate::format::extent::{Extent, SPAN_BYTES};
use crate::format::manifest::{Entry, EntryFinding, Time};
use crate::format::segment::SegmentFacts;
use crate::format::snapshot::{RecipeStats, Verified};
use crate::manifest::fold_extents;
use crate::pipeline::ChunkStore;
use crate::progress::{Cancel, Event, Observer};
use crate::repository::Repository;
use crate::source::SourceTree;
use crate::source::directory::Found;
use crate::source::file::{self, Place, Stat, next_data, stat_open, xattrs_open};

/// Finding codes of manifest entries (FORMAT.md 5.3).
pub(super) const CHANGED: u8 = EntryFinding::CHANGED;
pub(super) const UNREADABLE: u8 = EntryFinding::UNREADABLE;
pub(super) const INTERRUPTED: u8 = EntryFinding::INTERRUPTED;
pub(super) const LINK_LEAVES: u8 = EntryFinding::LINK_LEAVES;

/// Returns an entry's finding as it is reported.
pub(super) fn reported(tree: &SourceTree, path: &[u8], finding: &EntryFinding) -> Finding {
    finding.reported(&tree.component, recorded(tree, path))
}

/// Extended attributes of one entry are stored up to this many bytes in all: some file systems take
/// values without limit, and an entry has to fit its manifest chunk.
const XATTR_BYTES_MAX: usize = 1 << 20;

/// How many findings one entry keeps.
const FINDINGS_MAX: usize = 100;

/// Returns the finding of an entry that could not be read in part.
pub(super) fn unreadable(error: &Error) -> EntryFinding {
    EntryFinding { code: UNREADABLE, detail: error.repeat().problem().as_bytes().to_vec() }
}

/// What does not hold in a file: the first are kept, the others counted, so that memory does not grow
/// with a file of which nothing holds.
#[derive(Default)]
pub(super) struct Damages {
    listed: Vec<EntryFinding>,
    /// How many more there are.
    more: u64,
}

impl Damages {
    pub fn push(&mut self, finding: EntryFinding) {
        match self.listed.len() < FINDINGS_MAX {
            true => self.listed.push(finding),
            false => self.more += 1,
        }
    }

    fn append(&mut self, other: Damages) {
        other.listed.into_iter().for_each(|finding| self.push(finding));
        self.more += other.more;
    }
}

/// Bounds what an entry takes in the manifest; what is dropped becomes a finding. There are `more`
/// findings than the entry has.
pub(super) fn keep_small(entry: &mut Entry, mut more: u64) {
    let bytes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > XATTR_BYTES_MAX {
        entry.xattrs.clear();
        let detail = format!(
            "{bytes} bytes of extended attributes are not stored: at most {XATTR_BYTES_MAX} expected"
        );
        entry.findings.push(EntryFinding { code: UNREADABLE, detail: detail.into_bytes() });
    }
    // Those taken over from the parent end with the one that counts the rest, and stay as they are.
    let has_rest = entry.findings.last().is_some_and(|last| last.times() > 1);
    if entry.findings.len() > FINDINGS_MAX && !has_rest {
        for finding in entry.findings.drain(FINDINGS_MAX..) {
            more = more.saturating_add(finding.times());
        }
    }
    if let (Some(last), true) = (entry.findings.last(), more > 0) {
        let rest = EntryFinding::rest(last.code, more);
        entry.findings.push(rest);
    }
}

/// What reading tasks share.
pub(super) struct Reading<'a> {
    pub repository: &'a Repository,
    pub store: &'a ChunkStore<'a>,
    pub cutters: &'a Cutters,
    pub observer: &'a dyn Observer,
    pub cancel: &'a Cancel,
    pub permits: Permits,
    /// Makes recipes of slots, where they are wanted.
    pub recipes: Option<SlotStore<'a>>,
}

/// Bounds how many tasks wait in the pool.
pub(super) struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Permits {
    pub fn new(count: usize) -> Self {
        Permits { free: Mutex::new(count), freed: Condvar::new() }
    }

    fn take(&self) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
    }

    fn give(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.freed.notify_one();
    }
}

/// What was read of a file.
pub(super) struct FileContent {
    /// Attributes as of the opening.
    pub stat: Stat,
    /// Bytes the extents describe.
    pub size: u64,
    pub extents: Vec<Extent>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub racy: bool,
    pub findings: Vec<EntryFinding>,
    /// How many more there are.
    pub more_findings: u64,
    /// What its header said, for a segment file.
    pub segment: Option<SegmentFacts>,
    /// Bytes read from the source.
    pub read: u64,
    pub verified: Verified,
    pub recipes: RecipeStats,
}

/// How the reading of a file ended.
pub(super) enum Outcome {
    Read(Box<FileContent>),
    Vanished,
    Unreadable(Error),
    /// The backup cannot go on.
    Failed(Error),
}

/// Holds a permit for a task, and ends the job of one that panics: nobody waits for it for ever.
struct TaskEnd<'a> {
    permits: &'a Permits,
    job: Arc<FileJob>,
}

impl<'a> TaskEnd<'a> {
    fn begin(reading: &'a Reading<'_>, job: &Arc<FileJob>) -> Self {
        reading.permits.take();
        TaskEnd { permits: &reading.permits, job: Arc::clone(job) }
    }
}

impl Drop for TaskEnd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let problem = "the program failed while it read a file; this is a fault of its own";
            self.job.finish(Outcome::Failed(Error::new(ErrorKind::Io, "thread", problem)));
        }
        self.permits.give();
    }
}

/// A file that is being read.
pub(super) struct FileJob {
    outcome: Mutex<Option<Outcome>>,
    done: Condvar,
}

/// One file's open descriptor and the results of its spans.
struct Opened {
    job: Arc<FileJob>,
    file: File,
    path: PathBuf,
    stat: Stat,
    started: Time,
    recognised: Recognised,
    before: Before,
    /// The spans that have data, in order; the others are holes.
    ranges: Vec<Range<u64>>,
    /// What the spans read so far gave, by where they begin.
    spans: Mutex<BTreeMap<u64, Result<Span>>>,
    left: AtomicUsize,
}

/// Returns the spans of a file that hold data, as far as the file system tells.
fn spans_with_data(file: &File, stat: &Stat, recognised: &Recognised) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < stat.size {
        if stat.may_have_holes() {
            match next_data(file, at, stat.size) {
                Some((data, _)) => at = data,
                None => break,
            }
        }
        let range = recognised.layout.span_at(at, stat.size);
        at = range.end;
        ranges.push(range);
    }
    ranges
}

impl FileJob {
    /// Starts reading a file in the pool; waits while too many tasks are queued.
    pub fn begin<'scope>(
        reading: &'scope Reading<'_>,
        scope: &rayon::ScopeFifo<'scope>,
        found: &Found,
        before: Before,
    ) -> Result<Arc<FileJob>> {
        reading.store.check()?;
        let job = Arc::new(FileJob { outcome: Mutex::default(), done: Condvar::new() });
        let (place, path) = (found.place.clone(), found.path.clone());
        if found.stat.size <= SPAN_BYTES {
            let ends = TaskEnd::begin(reading, &job);
            scope.spawn_fifo(move |_| {
                match Opened::open(&ends.job, place, &path, before) {
                    Ok(opened) => opened.read_all(reading),
                    Err(outcome) => ends.job.finish(outcome),
                }
                drop(ends);
            });
            return Ok(job);
        }
        let opened = match Opened::open(&job, place, &path, before) {
            Ok(opened) => Arc::new(opened),
            Err(outcome) => {
                job.finish(outcome);
                return Ok(job);
            }
        };
        if opened.ranges.is_empty() {
            // Cut short since it was met, or nothing but a hole.
            opened.finish(reading);
        }
        for range in opened.ranges.clone() {
            let opened = Arc::clone(&opened);
            let ends = TaskEnd::begin(reading, &job);
            scope.spawn_fifo(move |_| {
                opened.read_span(range, reading);
                drop(ends);
            });
        }
        Ok(job)
    }

    fn finish(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.done.notify_all();
    }

    /// Whether [`FileJob::wait`] returns at once.
    pub fn is_done(&self) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until the file is read.
    pub fn wait(&self) -> Outcome {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match outcome.take() {
                Some(outcome) => return outcome,
                None => {
                    outcome = self.done.wait(outcome).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Opened {
    fn open(
        job: &Arc<FileJob>,
        place: Place,
        name: &[u8],
        before: Before,
    ) -> Result<Opened, Outcome> {
        let started = file::now();
        let path = place.host_path.clone();
        let opened = place.open().and_then(|file| Ok((stat_open(&file, &path)?, file)));
        let (stat, file) = opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Outcome::Vanished,
            _ => Outcome::Unreadable(error),
        })?;
        if stat.file_type != FileType::RegularFile {
            // Replaced by something else since its directory was listed.
            return Err(Outcome::Vanished);
        }
        let recognised = recognise(&file, stat.size, name);
        let ranges = spans_with_data(&file, &stat, &recognised);
        Ok(Opened {
            job: Arc::clone(job),
            file,
            path,
            stat,
            started,
            recognised,
            before,
            left: AtomicUsize::new(ranges.len()),
            ranges,
            spans: Mutex::default(),
        })
    }

    /// Reads every span: of a small file, or one that has grown since it was met.
    fn read_all(&self, reading: &Reading<'_>) {
        if self.ranges.is_empty() {
            self.finish(reading);
        }
        self.ranges.iter().for_each(|range| self.read_span(range.clone(), reading));
    }

    fn read_span(&self, range: Range<u64>, reading: &Reading<'_>) {
        let start = range.start;
        let former = match self.recognised.layout {
            // Nothing in it is verified.
            Layout::Plain => Former::default(),
            _ => self.before.within(reading.repository, &range),
        };
        let reader = SpanReader {
            file: &self.file,
            is_sparse: self.stat.may_have_holes(),
            layout: &self.recognised.layout,
            former: &former,
            reading,
        };
        // Of several spans only the lists are kept: memory does not grow with the file.
        let is_alone = range == (0..self.stat.size);
        let span = reader
            .read(range)
            .and_then(|span| if is_alone { Ok(span) } else { span.into_list(reading) });
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).insert(start, span);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(reading);
        }
    }

    fn finish(&self, reading: &Reading<'_>) {
        let spans = std::mem::take(&mut *self.spans.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = match self.put_together(spans, reading) {
            Ok(content) => Outcome::Read(Box::new(content)),
            Err(error) => Outcome::Failed(error),
        };
        reading.observer.event(Event::Done { entries: 1, bytes: 0 });
        self.job.finish(outcome);
    }

    fn put_together(
        &self,
        spans: BTreeMap<u64, Result<Span>>,
        reading: &Reading<'_>,
    ) -> Result<FileContent> {
        let mut extents = Vec::new();
        let mut findings = Vec::new();
        let mut damage = Damages::default();
        self.recognised.faults.iter().for_each(|fault| damage.push(fault.clone()));
        let mut verified = Verified::default();
        let mut recipes = RecipeStats::default();
        let (mut size, mut read) = (0, 0);
        // Where the last span ended before its time, what follows is lost; elsewhere it is a hole.
        let mut short = false;
        for (start, span) in spans {
            let mut span = span?;
            read += span.read;
            verified.add(&span.verified);
            recipes.add(&span.recipes);
            damage.append(std::mem::take(&mut span.damage));
            for detail in &span.unreadable {
                let detail = detail.to_string().into_bytes();
                findings.push(EntryFinding { code: UNREADABLE, detail });
            }
            if span.extents.is_empty() {
                short = true;
                continue;
            }
            if start > size {
                let length = start - size;
                extents.push(if short { Extent::Lost { length } } else { Extent::Hole { length } });
            }
            size = start + span.length();
            short = span.short;
            extents.extend(span.extents);
        }
        if !short && size < self.stat.size {
            extents.push(Extent::Hole { length: self.stat.size - size });
            size = self.stat.size;
        }
        let extents = fold_extents(reading.store, extents)?;
        let xattrs = xattrs_open(&self.file, &self.path);
        let after = stat_open(&self.file, &self.path)?;
        let mut more = 0;
        let mut racy = is_racy(&self.stat, self.started);
        if size != self.stat.size || !after.same_content(&self.stat) {
            // What does not hold may be half of a write: it is read again next time.
            racy = true;
            findings.push(EntryFinding { code: CHANGED, detail: self.change(size, &after) });
        } else {
            findings.extend(damage.listed);
            more = damage.more;
        }
        let xattrs = xattrs.unwrap_or_else(|error| {
            racy = true;
            findings.push(unreadable(&error));
            Vec::new()
        });
        let segment = self.recognised.facts.clone();
        let stat = self.stat;
        Ok(FileContent {
            stat,
            size,
            extents,
            xattrs,
            racy,
            findings,
            more_findings: more,
            segment,
            read,
            verified,
            recipes,
        })
    }

    fn change(&self, size: u64, after: &Stat) -> Vec<u8> {
        let before = &self.stat;
        let text = if size != before.size || after.size != before.size {
            format!("{} bytes expected, {size} were read, it has {} now", before.size, after.size)
        } else {
            "the same size and times before and after reading expected, the times changed".into()
        };
        text.into_bytes()
    }
}
