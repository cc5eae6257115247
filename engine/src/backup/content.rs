//! Reading files: spans, windows, cuts, and what changes while they are read.
//!
//! A file is read through one descriptor. Its spans (64 MiB, aligned) are tasks of the pool and
//! finish in any order; the last one puts the extents together and looks whether size or times
//! have changed since the first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::fs::FileType;

use super::is_racy;
use crate::chunker::{Cutter, Piece};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::FindingKind;
use crate::format::ChunkKind;
use crate::format::extent::{Extent, SPAN_BYTES};
use crate::format::manifest::{Entry, EntryFinding, Time};
use crate::manifest::{fold_extents, store_list};
use crate::pipeline::ChunkStore;
use crate::progress::{Cancel, Event, Observer};
use crate::source::directory::Found;
use crate::source::file::{self, Place, Stat, next_data, read_politely, stat_open, xattrs_open};

/// Finding codes of manifest entries (FORMAT.md 5.3).
pub(super) const CHANGED: u8 = 1;
pub(super) const UNREADABLE: u8 = 2;
pub(super) const INTERRUPTED: u8 = 3;
pub(super) const LINK_LEAVES: u8 = 4;

pub(super) fn finding_kind(code: u8) -> FindingKind {
    match code {
        CHANGED => FindingKind::ChangedWhileRead,
        INTERRUPTED => FindingKind::InterruptedWrite,
        LINK_LEAVES => FindingKind::LinkLeavesComponent,
        _ => FindingKind::Unreadable,
    }
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

/// Bounds what an entry takes in the manifest; what is dropped becomes a finding.
pub(super) fn keep_small(entry: &mut Entry) {
    let bytes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > XATTR_BYTES_MAX {
        entry.xattrs.clear();
        let detail = format!(
            "{bytes} bytes of extended attributes are not stored: at most {XATTR_BYTES_MAX} expected"
        );
        entry.findings.push(EntryFinding { code: UNREADABLE, detail: detail.into_bytes() });
    }
    if entry.findings.len() > FINDINGS_MAX {
        let more = entry.findings.len() - FINDINGS_MAX;
        entry.findings.truncate(FINDINGS_MAX);
        let detail = format!("{more} more findings of this entry");
        entry.findings.push(EntryFinding { code: UNREADABLE, detail: detail.into_bytes() });
    }
}

/// Bytes read at once: fits the second-level cache, and one read call costs little beside it.
const WINDOW_BYTES: usize = 1 << 20;

/// Where a read has failed, reading is tried again in pieces of this size: one bad sector loses
/// little.
const CAREFUL_BYTES: usize = 4096;

/// What reading tasks share.
pub(super) struct Reading<'a> {
    pub store: &'a ChunkStore<'a>,
    pub cutter: &'a Cutter,
    pub observer: &'a dyn Observer,
    pub cancel: &'a Cancel,
    pub permits: Permits,
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
    /// Bytes read from the source.
    pub read: u64,
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
    /// Numbers of the spans that have data, in order; the others are holes.
    numbers: Vec<u64>,
    /// What the spans read so far gave, by number.
    spans: Mutex<BTreeMap<u64, Result<Span>>>,
    left: AtomicUsize,
}

/// What one span gave.
#[derive(Default)]
struct Span {
    extents: Vec<Extent>,
    /// Bytes read from the source.
    read: u64,
    /// The file ended before the span did.
    short: bool,
    /// Stretches that could not be read.
    unreadable: Vec<Unreadable>,
}

/// A stretch of a file that could not be read.
struct Unreadable {
    start: u64,
    length: u64,
    error: io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable { start, length, error } = self;
        write!(f, "{length} bytes from byte {start} cannot be read: {error}")
    }
}

/// Returns the numbers of the spans of a file that hold data, as far as the file system tells.
fn spans_with_data(file: &File, stat: &Stat) -> Vec<u64> {
    let count = stat.size.div_ceil(SPAN_BYTES);
    if !stat.may_have_holes() {
        return (0..count).collect();
    }
    let mut numbers = Vec::new();
    let mut at = 0;
    while let Some((data, _)) = next_data(file, at, stat.size) {
        let number = data / SPAN_BYTES;
        numbers.push(number);
        at = (number + 1) * SPAN_BYTES;
        if at >= stat.size {
            break;
        }
    }
    numbers
}

impl Span {
    fn lose(&mut self, start: u64, length: u64, error: io::Error) {
        self.push_run(Extent::Lost { length });
        match self.unreadable.last_mut() {
            Some(last) if last.start + last.length == start => last.length += length,
            _ => self.unreadable.push(Unreadable { start, length, error }),
        }
    }

    fn length(&self) -> u64 {
        self.extents.iter().map(Extent::length).sum()
    }

    /// Returns the span with its extents as one list, unless it is one extent anyway.
    fn into_list(mut self, reading: &Reading<'_>) -> Result<Self> {
        if self.extents.len() > 1 {
            self.extents = vec![store_list(reading.store, &self.extents)?];
        }
        Ok(self)
    }

    fn push_run(&mut self, run: Extent) {
        match (self.extents.last_mut(), run) {
            (Some(Extent::Zero { length }), Extent::Zero { length: more })
            | (Some(Extent::Hole { length }), Extent::Hole { length: more })
            | (Some(Extent::Lost { length }), Extent::Lost { length: more }) => *length += more,
            _ => self.extents.push(run),
        }
    }
}

impl FileJob {
    /// Starts reading a file in the pool; waits while too many tasks are queued.
    pub fn begin<'scope>(
        reading: &'scope Reading<'_>,
        scope: &rayon::ScopeFifo<'scope>,
        found: &Found,
    ) -> Result<Arc<FileJob>> {
        reading.store.check()?;
        let job = Arc::new(FileJob { outcome: Mutex::default(), done: Condvar::new() });
        let place = found.place.clone();
        if found.stat.size <= SPAN_BYTES {
            let ends = TaskEnd::begin(reading, &job);
            scope.spawn_fifo(move |_| {
                match Opened::open(&ends.job, place) {
                    Ok(opened) => opened.read_all(reading),
                    Err(outcome) => ends.job.finish(outcome),
                }
                drop(ends);
            });
            return Ok(job);
        }
        let opened = match Opened::open(&job, place) {
            Ok(opened) => Arc::new(opened),
            Err(outcome) => {
                job.finish(outcome);
                return Ok(job);
            }
        };
        if opened.numbers.is_empty() {
            // Cut short since it was met, or nothing but a hole.
            opened.finish(reading);
        }
        for number in opened.numbers.clone() {
            let opened = Arc::clone(&opened);
            let ends = TaskEnd::begin(reading, &job);
            scope.spawn_fifo(move |_| {
                opened.read_span(number, reading);
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
    fn open(job: &Arc<FileJob>, place: Place) -> Result<Opened, Outcome> {
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
        let numbers = spans_with_data(&file, &stat);
        Ok(Opened {
            job: Arc::clone(job),
            file,
            path,
            stat,
            started,
            left: AtomicUsize::new(numbers.len()),
            numbers,
            spans: Mutex::default(),
        })
    }

    /// Reads every span: of a file of at most one, or one that has grown since it was met.
    fn read_all(&self, reading: &Reading<'_>) {
        if self.numbers.is_empty() {
            self.finish(reading);
        }
        self.numbers.iter().for_each(|number| self.read_span(*number, reading));
    }

    fn read_span(&self, number: u64, reading: &Reading<'_>) {
        let start = number * SPAN_BYTES;
        let end = (start + SPAN_BYTES).min(self.stat.size);
        let span = self.cut_span(start, end, reading).and_then(|span| {
            // Of several spans only the lists are kept: memory does not grow with the file.
            if self.stat.size > SPAN_BYTES { span.into_list(reading) } else { Ok(span) }
        });
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).insert(number, span);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(reading);
        }
    }

    fn cut_span(&self, start: u64, end: u64, reading: &Reading<'_>) -> Result<Span> {
        let mut span = Span::default();
        let mut at = start;
        while at < end && !span.short {
            reading.cancel.check()?;
            let (data, data_end) = if self.stat.may_have_holes() {
                next_data(&self.file, at, end).unwrap_or((end, end))
            } else {
                (at, end)
            };
            if data > at {
                span.push_run(Extent::Hole { length: data - at });
            }
            if data_end > data {
                self.cut_data(data, data_end, reading, &mut span)?;
            }
            at = data_end;
        }
        Ok(span)
    }

    /// Cuts `start..end`, which is data as far as the file system says.
    fn cut_data(&self, start: u64, end: u64, reading: &Reading<'_>, span: &mut Span) -> Result<()> {
        thread_local! {
            static WINDOW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        WINDOW.with_borrow_mut(|window| {
            window.resize(WINDOW_BYTES + reading.cutter.look_ahead(), 0);
            // window[from..to] is what was read and not yet cut; `offset` is where reading goes on.
            let (mut from, mut to, mut offset) = (0, 0, start);
            let mut after_zeros = false;
            // Up to here it is read in small pieces, because a large one has failed.
            let mut careful_until = start;
            loop {
                if to - from < reading.cutter.look_ahead() && offset < end && !span.short {
                    window.copy_within(from..to, 0);
                    (from, to) = (0, to - from);
                    let mut room = (window.len() - to)
                        .min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                    if offset < careful_until {
                        room = room.min(CAREFUL_BYTES);
                    }
                    match read_politely(&self.file, offset, &mut window[to..to + room]) {
                        Ok(read) => {
                            span.short = read < room;
                            span.read += read as u64;
                            reading.observer.event(Event::Done { entries: 0, bytes: read as u64 });
                            to += read;
                            offset += read as u64;
                        }
                        Err(_) if room > CAREFUL_BYTES => careful_until = offset + room as u64,
                        Err(error) => {
                            // What came before is cut as it is; the stretch is lost.
                            self.cut_rest(&window[from..to], reading, span)?;
                            (from, to) = (0, 0);
                            span.lose(offset, room as u64, error);
                            offset += room as u64;
                            after_zeros = false;
                            reading.cancel.check()?;
                        }
                    }
                    if offset < careful_until {
                        continue;
                    }
                }
                if from == to {
                    if offset >= end || span.short {
                        return Ok(());
                    }
                    continue;
                }
                let at_end = offset >= end || span.short;
                let piece = reading.cutter.next(&window[from..to], at_end, after_zeros);
                after_zeros = matches!(piece, Piece::Zeros(_));
                store_piece(&window[from..from + piece.length()], piece, reading, span)?;
                from += piece.length();
            }
        })
    }

    fn cut_rest(&self, mut bytes: &[u8], reading: &Reading<'_>, span: &mut Span) -> Result<()> {
        while !bytes.is_empty() {
            let piece = reading.cutter.next(bytes, true, false);
            let (taken, rest) = bytes.split_at(piece.length());
            store_piece(taken, piece, reading, span)?;
            bytes = rest;
        }
        Ok(())
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
        let (mut size, mut read) = (0, 0);
        // Where the last span ended before its time, what follows is lost; elsewhere it is a hole.
        let mut short = false;
        for (number, span) in spans {
            let span = span?;
            let start = number * SPAN_BYTES;
            read += span.read;
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
        let mut racy = is_racy(&self.stat, self.started);
        if size != self.stat.size || !after.same_content(&self.stat) {
            racy = true;
            findings.push(EntryFinding { code: CHANGED, detail: self.change(size, &after) });
        }
        let xattrs = xattrs.unwrap_or_else(|error| {
            racy = true;
            findings.push(unreadable(&error));
            Vec::new()
        });
        Ok(FileContent { stat: self.stat, size, extents, xattrs, racy, findings, read })
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

fn store_piece(bytes: &[u8], piece: Piece, reading: &Reading<'_>, span: &mut Span) -> Result<()> {
    match piece {
        Piece::Zeros(length) => span.push_run(Extent::Zero { length: length as u64 }),
        Piece::Chunk(length) => {
            let id = reading.store.add(ChunkKind::Data, bytes)?;
            let length = u32::try_from(length).expect("a chunk is below 4 GiB");
            span.extents.push(Extent::Chunk { id, length });
        }
    }
    Ok(())
}
