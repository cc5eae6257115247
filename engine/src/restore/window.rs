//! Windows: chunks to write, gathered, read pack by pack, verified and written.
//!
//! A window is closed when it has enough chunks or open files; two may be under way, so that the
//! next is planned while one is written. Memory is bounded by their sizes, never by the snapshot.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rayon::prelude::*;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::attributes::{Owners, set_on_file};
use super::order::batches;
use super::slots::{Block, Slot, WantedSlots};
use super::stretch::{Job, Use};
use super::{ComponentRun, RestoreOptions, RestoreReport, delta};
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::{Arrival, Fetcher, Stretch};
use crate::finding::{Finding, FindingKind, Findings};
use crate::format::ChunkKind;
use crate::format::extent::Extent;
use crate::format::manifest::Entry;
use crate::id::ChunkId;
use crate::manifest::MetaReader;
use crate::pack::{PackRange, stretches};
use crate::progress::{Event, Observer};
use crate::recipe::Buffers;
use crate::repository::Repository;

/// Chunks of one window; at 64 KiB a chunk, 1 GiB.
const CHUNKS_MAX: usize = 16_384;
/// A slot counts as so many: it is 1 to 4 MiB.
const SLOT_CHUNKS: usize = 32;
/// From a store, so many times as many: what several threads of a backup stored lies among each other,
/// and what is wanted together comes in few long reads.
const FAR_WINDOW: usize = 4;
/// Windows under way at once.
const WINDOWS: usize = 2;
/// Files at least this long are allocated before they are written.
const ALLOCATE_BYTES_MIN: u64 = 1 << 20;

/// A file that was created or opened and wants its content.
pub(super) struct FileToWrite {
    pub file: File,
    /// For messages.
    pub path: String,
    pub entry: Entry,
    pub size: u64,
    /// The size it had, when it was there before.
    pub old_size: Option<u64>,
}

/// A file with chunks still to be written.
pub(super) struct Writing {
    pub file: File,
    pub path: String,
    entry: Entry,
    old_size: Option<u64>,
    /// Chunks not yet written, and one for the planner.
    left: AtomicUsize,
    pub changed: AtomicBool,
    /// Some of its content cannot be had.
    incomplete: AtomicBool,
}

/// A window being filled.
#[derive(Default)]
pub(super) struct Filling {
    chunks: HashMap<ChunkId, Wanted>,
    slots: WantedSlots,
    uses: usize,
    files: usize,
}

/// Who wants a chunk.
#[derive(Default)]
struct Wanted {
    uses: Vec<Use>,
    blocks: Vec<Block>,
}

/// Plans and runs windows.
pub(super) struct Windows<'a> {
    pub(super) repository: &'a Repository,
    pub(super) options: &'a RestoreOptions,
    pub(super) observer: &'a dyn Observer,
    owners: &'a Owners,
    pub(super) pool: &'a rayon::ThreadPool,
    /// For slots on their way.
    pub(super) buffers: Buffers,
    files_max: usize,
    uses_max: usize,
    under_way: Mutex<usize>,
    ended: Condvar,
    /// The first error that ends the restore.
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    findings: Mutex<Findings>,
    files_restored: AtomicU64,
    files_skipped: AtomicU64,
    files_incomplete: AtomicU64,
    pub(super) bytes_restored: AtomicU64,
    bytes_skipped: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Windows<'a> {
    pub fn new(run: &ComponentRun<'a>, pool: &'a rayon::ThreadPool) -> Self {
        // Each window holds its files open; leave some descriptors to the rest of the program.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let files_max =
            usize::try_from(limit.saturating_sub(128)).unwrap_or(usize::MAX) / (WINDOWS + 1);
        let is_far = run.repository.backend().reads_at_once().is_some();
        Windows {
            repository: run.repository,
            options: run.options,
            observer: run.observer,
            owners: run.owners,
            pool,
            buffers: Buffers::default(),
            files_max: files_max.clamp(16, 4096),
            uses_max: CHUNKS_MAX * if is_far { FAR_WINDOW } else { 1 },
            under_way: Mutex::new(0),
            ended: Condvar::new(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            findings: Mutex::default(),
            files_restored: AtomicU64::new(0),
            files_skipped: AtomicU64::new(0),
            files_incomplete: AtomicU64::new(0),
            bytes_restored: AtomicU64::new(0),
            bytes_skipped: AtomicU64::new(0),
        }
    }

    pub fn begin(&self) -> Filling {
        Filling::default()
    }

    /// Moves what was done and found into the report, when all windows have ended. Fails when one
    /// of them has failed or was stopped: the last ones have nobody else to tell.
    pub fn finish(self, report: &mut RestoreReport) -> Result<()> {
        self.check()?;
        report.files_restored += self.files_restored.into_inner();
        report.files_skipped += self.files_skipped.into_inner();
        report.files_incomplete += self.files_incomplete.into_inner();
        report.bytes_restored += self.bytes_restored.into_inner();
        report.bytes_skipped += self.bytes_skipped.into_inner();
        let findings = self.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in &findings.counts {
            *report.findings.counts.entry(*kind).or_default() += count;
        }
        let room = crate::finding::FINDINGS_LISTED_MAX.saturating_sub(report.findings.listed.len());
        report.findings.listed.extend(findings.listed.into_iter().take(room));
        Ok(())
    }

    pub(super) fn find(&self, finding: Finding) {
        self.observer.event(Event::Finding(&finding));
        lock(&self.findings).push(finding);
    }

    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<()> {
        self.options.cancel.check()?;
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let failure = lock(&self.failure);
        Err(failure.as_ref().map_or_else(
            || Error::new(ErrorKind::Io, "restore", "writing has failed"),
            Error::repeat,
        ))
    }

    /// Gives a file its size and plans its chunks; runs the window when it is full.
    pub fn add_file<'w>(
        &'w self,
        filling: &mut Filling,
        to_write: FileToWrite,
        meta: &mut MetaReader<'_>,
        fetcher: &Fetcher<'_, Reading<'w, 'a>>,
    ) -> Result<()> {
        let FileToWrite { file, path, entry, size, old_size } = to_write;
        let io = |error: std::io::Error| Error::io(&path, "set the size of", error);
        // A new file that is one chunk gets its size by being written.
        let is_one_chunk = old_size.is_none() && matches!(entry.extents(), [Extent::Chunk { .. }]);
        if old_size != Some(size) && !is_one_chunk {
            file.set_len(size).map_err(io)?;
        }
        let writing = Arc::new(Writing {
            file,
            path,
            entry,
            old_size,
            left: AtomicUsize::new(1),
            changed: AtomicBool::new(old_size != Some(size)),
            incomplete: AtomicBool::new(false),
        });
        filling.files += 1;
        if old_size.is_none() && size >= ALLOCATE_BYTES_MIN && !self.options.sparse {
            self.allocate_data(&writing)?;
        }
        let planned = meta.extents(writing.entry.extents(), &mut |offset, extent| {
            self.plan(filling, &writing, offset, extent)?;
            if filling.uses >= self.uses_max {
                let full = std::mem::take(filling);
                filling.files = 1;
                self.run(full, fetcher)?;
            }
            Ok(())
        });
        if let Err(error) = planned {
            let kind = match error.kind() {
                ErrorKind::NotFound => FindingKind::MissingChunk,
                ErrorKind::Corrupt => FindingKind::DamagedChunk,
                _ => return Err(error),
            };
            writing.incomplete.store(true, Ordering::Relaxed);
            let detail = format!("its content from here on cannot be found: {error}");
            self.find(Finding::new(kind, &*writing.path, detail));
        }
        self.count_down(&writing);
        if filling.uses >= self.uses_max || filling.files >= self.files_max {
            self.run(std::mem::take(filling), fetcher)?;
        }
        Ok(())
    }

    /// Allocates the stretches of a new file that are not holes: space is taken before anything is
    /// written, in few pieces. Where the file system cannot, writing does it.
    fn allocate_data(&self, writing: &Writing) -> Result<()> {
        let mut offset = 0;
        for extent in writing.entry.extents() {
            // A list may hold holes: what it covers is allocated as it is written.
            if !matches!(extent, Extent::Hole { .. } | Extent::List { .. } | Extent::Lost { .. }) {
                allocate(writing, offset, extent.length())?;
            }
            offset += extent.length();
        }
        Ok(())
    }

    fn plan(
        &self,
        filling: &mut Filling,
        writing: &Arc<Writing>,
        file_offset: u64,
        extent: Extent,
    ) -> Result<()> {
        let (id, chunk_offset, length) = match extent {
            Extent::Chunk { id, length } => (id, 0, length),
            Extent::Slice { id, offset, length, .. } => (id, offset, length),
            Extent::Zero { length } => return self.zeros(writing, file_offset, length, false),
            Extent::Hole { length } => return self.zeros(writing, file_offset, length, true),
            Extent::Lost { length } => {
                let detail = format!(
                    "{length} bytes from byte {file_offset} could not be read when it was backed \
                     up; zeros stand there"
                );
                self.find(Finding::new(FindingKind::LostContent, &*writing.path, detail));
                writing.incomplete.store(true, Ordering::Relaxed);
                return self.zeros(writing, file_offset, length, true);
            }
            Extent::Recipe { id, length } => {
                writing.left.fetch_add(1, Ordering::Relaxed);
                let file = Arc::clone(writing);
                filling.slots.add(id, length, Use { file, file_offset, chunk_offset: 0, length });
                filling.uses += SLOT_CHUNKS;
                return Ok(());
            }
            Extent::List { .. } => unreachable!("lists are resolved by the reader"),
        };
        writing.left.fetch_add(1, Ordering::Relaxed);
        let file = Arc::clone(writing);
        let place = Use { file, file_offset, chunk_offset, length };
        filling.chunks.entry(id).or_default().uses.push(place);
        filling.uses += 1;
        Ok(())
    }

    /// Makes a stretch zeros: allocated ones, or a hole.
    fn zeros(&self, writing: &Writing, offset: u64, length: u64, hole: bool) -> Result<()> {
        let io = |error: std::io::Error| Error::io(&writing.path, "write", error);
        if let Some(old) = writing.old_size.filter(|old| *old > offset) {
            let there = length.min(old - offset);
            if delta::is_zero(&writing.file, offset, there).map_err(io)? {
                self.bytes_skipped.fetch_add(there, Ordering::Relaxed);
            } else {
                delta::make_zero(&writing.file, offset, there).map_err(io)?;
                writing.changed.store(true, Ordering::Relaxed);
                self.bytes_restored.fetch_add(there, Ordering::Relaxed);
            }
        }
        if !hole && !self.options.sparse {
            allocate(writing, offset, length)?;
        }
        self.observer.event(Event::Done { entries: 0, bytes: length });
        Ok(())
    }

    /// Reads, verifies and writes what a window gathered, in tasks of the pool.
    pub fn run<'w>(
        &'w self,
        filling: Filling,
        fetcher: &Fetcher<'_, Reading<'w, 'a>>,
    ) -> Result<()> {
        self.check()?;
        let Filling { mut chunks, slots, .. } = filling;
        for block in self.begin_slots(slots)?.iter().flat_map(Slot::blocks) {
            chunks.entry(block.part.chunk).or_default().blocks.push(block);
        }
        batches(self.locate(chunks)?).into_iter().for_each(|jobs| self.submit(jobs, fetcher));
        Ok(())
    }

    fn submit<'w>(&'w self, jobs: Vec<Job>, fetcher: &Fetcher<'_, Reading<'w, 'a>>) {
        let reads = stretches(jobs, |job| &job.location);
        if reads.is_empty() {
            return;
        }
        {
            let under_way = lock(&self.under_way);
            *self
                .ended
                .wait_while(under_way, |count| *count >= WINDOWS)
                .unwrap_or_else(PoisonError::into_inner) += 1;
        }
        let left = Arc::new(AtomicUsize::new(reads.len()));
        fetcher.fetch(reads.into_iter().map(|jobs| {
            let end = ReadEnd { windows: self, left: Arc::clone(&left) };
            Reading { jobs, end }
        }));
    }

    /// Whether anything is still to be read.
    pub fn goes_on(&self) -> bool {
        self.check().is_ok()
    }

    /// Writes a stretch, of which this came.
    pub fn put(&self, reading: Reading<'_, 'a>, arrival: Arrival) {
        let Reading { jobs, end } = reading;
        if self.goes_on()
            && let Err(error) = self.write_stretch(jobs, arrival)
        {
            self.fail(error);
        }
        drop(end);
    }

    /// Drops what is in place already, finds where the rest is stored.
    fn locate(&self, chunks: HashMap<ChunkId, Wanted>) -> Result<Vec<Job>> {
        let locate = |(id, Wanted { uses, blocks })| {
            let uses = self.not_in_place(id, uses)?;
            if uses.is_empty() && blocks.is_empty() {
                return Ok(None);
            }
            if let Some(location) = self.repository.find(id, ChunkKind::Data)? {
                return Ok(Some(Job { location, id, uses, blocks }));
            }
            let (object, problem) = (format!("chunk {id}"), "no index object names it");
            self.lose(&object, &uses, FindingKind::MissingChunk, problem);
            let error = Error::new(ErrorKind::NotFound, object, problem);
            blocks.iter().try_for_each(|block| self.lose_block(block, &error))?;
            Ok(None)
        };
        let located: Vec<Result<Option<Job>>> =
            self.pool.install(|| chunks.into_par_iter().map(locate).collect());
        let mut jobs = Vec::with_capacity(located.len());
        for job in located {
            jobs.extend(job?);
        }
        Ok(jobs)
    }

    /// Returns the places of a chunk where its bytes do not stand yet.
    pub(super) fn not_in_place(&self, id: ChunkId, uses: Vec<Use>) -> Result<Vec<Use>> {
        let mut wanting = Vec::with_capacity(uses.len());
        for place in uses {
            let end = place.file_offset + u64::from(place.length);
            // Only a whole chunk has an id to compare with.
            let comparable =
                place.chunk_offset == 0 && place.file.old_size.is_some_and(|old| end <= old);
            let io = |error: std::io::Error| Error::io(&place.file.path, "read", error);
            if comparable
                && delta::holds(
                    &place.file.file,
                    place.file_offset,
                    place.length as usize,
                    self.repository.id_key(),
                    id,
                )
                .map_err(io)?
            {
                self.bytes_skipped.fetch_add(place.length.into(), Ordering::Relaxed);
                self.observer.event(Event::Done { entries: 0, bytes: place.length.into() });
                self.count_down(&place.file);
            } else {
                wanting.push(place);
            }
        }
        Ok(wanting)
    }

    /// Reports content that cannot be had; in a new file zeros stand where it should be.
    pub(super) fn lose(&self, what: &str, uses: &[Use], kind: FindingKind, why: &str) {
        for place in uses {
            place.file.incomplete.store(true, Ordering::Relaxed);
            // In a delta what stands there stays: it may be all that is left of it.
            if place.file.old_size.is_none() {
                // One chunk that cannot be had leaves a file that was never written.
                let _ = place.file.file.set_len(place.file.entry.size());
            }
            let detail = format!(
                "{} bytes from byte {} are {what}, which cannot be had: {why}",
                place.length, place.file_offset
            );
            self.find(Finding::new(kind, &*place.file.path, detail));
            self.count_down(&place.file);
        }
    }

    /// Counts one chunk of a file as done; the last one gives the file its attributes.
    pub(super) fn count_down(&self, writing: &Writing) {
        if writing.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        for finding in set_on_file(&writing.file, &writing.entry, self.owners, &writing.path) {
            self.find(finding);
        }
        let changed = writing.old_size.is_none() || writing.changed.load(Ordering::Relaxed);
        let counter = match (writing.incomplete.load(Ordering::Relaxed), changed) {
            (true, _) => &self.files_incomplete,
            (false, true) => &self.files_restored,
            (false, false) => &self.files_skipped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.observer.event(Event::Done { entries: 1, bytes: 0 });
    }
}

/// A stretch of a pack to read and write.
pub(super) struct Reading<'w, 'a> {
    jobs: Vec<Job>,
    end: ReadEnd<'w, 'a>,
}

impl Stretch for Reading<'_, '_> {
    fn place(&self) -> Option<PackRange> {
        PackRange::of(&self.jobs, |job| &job.location)
    }
}

/// Counts a read as done, also one that panics: the next window waits for it.
struct ReadEnd<'w, 'a> {
    windows: &'w Windows<'a>,
    left: Arc<AtomicUsize>,
}

impl Drop for ReadEnd<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let problem = "the program failed while it wrote; this is a fault of its own";
            self.windows.fail(Error::new(ErrorKind::Io, "thread", problem));
        }
        // Under the lock, so that who waits for it does not miss it.
        let mut under_way = lock(&self.windows.under_way);
        *under_way -= usize::from(self.left.fetch_sub(1, Ordering::AcqRel) == 1);
        self.windows.ended.notify_one();
    }
}

/// Allocates a stretch; where the file system cannot, writes zeros into what is not there yet.
fn allocate(writing: &Writing, offset: u64, length: u64) -> Result<()> {
    match fallocate(&writing.file, FallocateFlags::empty(), offset, length) {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP | Errno::NOSYS) => delta::write_zeros(&writing.file, offset, length)
            .map_err(|error| Error::io(&writing.path, "write", error)),
        Err(error) => Err(Error::io(&writing.path, "allocate", error)),
    }
}
