//! A sequence of bytes made of chunks, read ahead by many threads and written in order.
//!
//! What is to be written is gathered in windows. When one is full, its chunks are read pack by
//! pack, neighbours at once, and verified, while the window before is written. Memory is bounded
//! by the size of a window and how many are under way. A slot that is stored as a recipe is packed
//! again by whoever reads its last block.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use super::DumpOptions;
use crate::backend::is_unanswered;
use crate::compress::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind};
use crate::format::ChunkKind;
use crate::format::extent::Extent;
use crate::id::ChunkId;
use crate::index::Location;
use crate::pack::{PackBytes, PackRange, stretches};
use crate::packer::Pack;
use crate::progress::{Cancel, Event, Observer};
use crate::recipe::{Buffers, Part, Rebuilt, SlotParts};
use crate::repository::Repository;

/// Raw bytes of the chunks of one window.
const WINDOW_BYTES: u64 = 32 << 20;
/// Pieces of one window, for sequences of very small ones.
const PIECES_MAX: usize = 1 << 16;
/// Windows being read while another is written.
const WINDOWS: usize = 2;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

thread_local! {
    /// A context costs more than a small chunk.
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Something to be written.
enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    Chunk {
        read: usize,
        from: usize,
        length: usize,
        file: Arc<str>,
        file_offset: u64,
    },
    /// A packed slot, or why there is none.
    Slot {
        id: ChunkId,
        length: u32,
        slot: Result<Arc<Slot>>,
        file: Arc<str>,
        file_offset: u64,
    },
}

/// A slot on its way.
struct Slot {
    parts: SlotParts,
    packed: OnceLock<Result<(Vec<u8>, Rebuilt)>>,
}

/// Who wants a chunk.
#[derive(Default)]
struct Wanted {
    /// Some piece is a part of it: it is kept.
    keep: bool,
    blocks: Vec<(Arc<Slot>, Part)>,
}

#[derive(Default)]
struct Window {
    pieces: Vec<Piece>,
    /// Chunks to be read, each once.
    chunks: Vec<(ChunkId, Wanted)>,
    reads: HashMap<ChunkId, usize>,
    slots: HashMap<(ChunkId, u32), Arc<Slot>>,
    raw_bytes: u64,
}

impl Window {
    /// Has a chunk read; returns its number.
    fn want(&mut self, id: ChunkId) -> usize {
        let next = self.chunks.len();
        let read = *self.reads.entry(id).or_insert(next);
        if read == next {
            self.chunks.push((id, Wanted::default()));
        }
        read
    }
}

/// The chunks of a window as they come in.
struct Reads {
    chunks: Vec<OnceLock<Result<Vec<u8>>>>,
    /// Reads under way.
    left: Mutex<usize>,
    ended: Condvar,
}

/// A chunk to read.
struct Job {
    location: Location,
    id: ChunkId,
    read: usize,
    wanted: Wanted,
}

/// Counts a read as done, also one that panics: the writer waits for it.
struct ReadEnd(Arc<Reads>);

impl Drop for ReadEnd {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_one();
    }
}

/// Takes what is to be written and writes it in order.
pub(super) struct Sequence<'s, 'scope> {
    reader: &'scope Reader<'scope>,
    cancel: &'scope Cancel,
    observer: &'scope dyn Observer,
    scope: &'s rayon::ScopeFifo<'scope>,
    out: &'s mut dyn Write,
    filling: Window,
    under_way: VecDeque<(Window, Arc<Reads>)>,
    findings: Vec<Finding>,
}

/// What reads chunks and packs slots.
struct Reader<'a> {
    repository: &'a Repository,
    packers: &'a dyn Pack,
    buffers: Buffers,
}

/// Writes what `fill` puts into a sequence, with so many threads that read. Returns what is in it
/// otherwise than it was in the source.
///
/// Fails with `Corrupt` on the first chunk that cannot be had: everything before it was written,
/// nothing after it.
pub(super) fn write(
    repository: &Repository,
    options: &DumpOptions,
    observer: &dyn Observer,
    out: &mut dyn Write,
    fill: impl FnOnce(&mut Sequence<'_, '_>) -> Result<()>,
) -> Result<Vec<Finding>> {
    let reader = Reader { repository, packers: options.packers, buffers: Buffers::default() };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .thread_name(|n| format!("read-{n}"))
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "threads", "cannot be started").caused_by(error)
        })?;
    pool.in_place_scope_fifo(|scope| {
        let mut sequence = Sequence {
            reader: &reader,
            cancel: &options.cancel,
            observer,
            scope,
            out,
            filling: Window::default(),
            under_way: VecDeque::new(),
            findings: Vec::new(),
        };
        fill(&mut sequence)?;
        sequence.finish()
    })
}

impl Sequence<'_, '_> {
    /// Adds bytes.
    pub fn bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.filling.raw_bytes += bytes.len() as u64;
        self.push(Piece::Bytes(bytes))
    }

    /// Adds zeros.
    pub fn zeros(&mut self, count: u64) -> Result<()> {
        if count == 0 { Ok(()) } else { self.push(Piece::Zeros(count)) }
    }

    /// Adds a stretch of a file's content, which is no list; the file and the offset in it are for
    /// messages.
    pub fn extent(&mut self, extent: Extent, file: &Arc<str>, file_offset: u64) -> Result<()> {
        let (id, chunk_length, from, length) = match extent {
            Extent::Chunk { id, length } => (id, length, 0, length),
            Extent::Slice { id, chunk_length, offset, length } => {
                (id, chunk_length, offset, length)
            }
            Extent::Recipe { id, length } => return self.slot(id, length, file, file_offset),
            other => return self.zeros(other.length()),
        };
        let window = &mut self.filling;
        let read = window.want(id);
        let wanted = &mut window.chunks[read].1;
        if !std::mem::replace(&mut wanted.keep, true) {
            window.raw_bytes += u64::from(chunk_length);
        }
        let (from, length) = (from as usize, length as usize);
        self.push(Piece::Chunk { read, from, length, file: Arc::clone(file), file_offset })
    }

    /// Adds a packed slot.
    fn slot(&mut self, id: ChunkId, length: u32, file: &Arc<str>, file_offset: u64) -> Result<()> {
        let slot = match self.filling.slots.get(&(id, length)) {
            Some(slot) => Ok(Arc::clone(slot)),
            None => self.begin_slot(id, length),
        };
        self.push(Piece::Slot { id, length, slot, file: Arc::clone(file), file_offset })
    }

    fn begin_slot(&mut self, id: ChunkId, length: u32) -> Result<Arc<Slot>> {
        let recipe = self.reader.repository.read_recipe(id, length)?;
        let parts = SlotParts::new(id, recipe)?;
        let slot = Arc::new(Slot { parts, packed: OnceLock::new() });
        if slot.parts.parts().is_empty() {
            // It packs zeros: there is nothing to wait for.
            self.reader.pack(&slot);
        }
        let window = &mut self.filling;
        for part in slot.parts.parts() {
            let read = window.want(part.chunk);
            window.chunks[read].1.blocks.push((Arc::clone(&slot), *part));
        }
        window.raw_bytes += slot.parts.bytes() + u64::from(length);
        window.slots.insert((id, length), Arc::clone(&slot));
        Ok(slot)
    }

    fn push(&mut self, piece: Piece) -> Result<()> {
        self.filling.pieces.push(piece);
        if self.filling.raw_bytes < WINDOW_BYTES && self.filling.pieces.len() < PIECES_MAX {
            return Ok(());
        }
        self.submit()?;
        while self.under_way.len() > WINDOWS {
            self.write_next()?;
        }
        Ok(())
    }

    /// Begins to read the window that was filled.
    fn submit(&mut self) -> Result<()> {
        let mut window = std::mem::take(&mut self.filling);
        let mut reads = Reads {
            chunks: window.chunks.iter().map(|_| OnceLock::new()).collect(),
            left: Mutex::new(0),
            ended: Condvar::new(),
        };
        let mut jobs = Vec::with_capacity(window.chunks.len());
        for (read, (id, wanted)) in window.chunks.iter_mut().enumerate() {
            let (id, wanted) = (*id, std::mem::take(wanted));
            match self.reader.repository.find(id, ChunkKind::Data)? {
                Some(location) => jobs.push(Job { location, id, read, wanted }),
                None => {
                    let problem = "no index object names it";
                    let missing = Error::new(ErrorKind::NotFound, format!("chunk {id}"), problem);
                    self.reader.lose(&wanted, &missing);
                    let _ = reads.chunks[read].set(Err(missing));
                }
            }
        }
        jobs.sort_unstable_by_key(|job| (job.location.pack, job.location.offset));
        let groups = stretches(jobs, |job| &job.location);
        reads.left = Mutex::new(groups.len());
        let reads = Arc::new(reads);
        for jobs in groups {
            let (end, reader) = (ReadEnd(Arc::clone(&reads)), self.reader);
            self.scope.spawn_fifo(move |_| {
                reader.read(jobs, &end.0);
                drop(end);
            });
        }
        self.under_way.push_back((window, reads));
        Ok(())
    }

    /// Waits for the window that comes next and writes it.
    fn write_next(&mut self) -> Result<()> {
        let Some((window, reads)) = self.under_way.pop_front() else { return Ok(()) };
        let left = reads.left.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            reads.ended.wait_while(left, |left| *left > 0).unwrap_or_else(PoisonError::into_inner),
        );
        for piece in &window.pieces {
            self.cancel.check()?;
            match piece {
                Piece::Bytes(bytes) => self.put(bytes)?,
                Piece::Zeros(count) => {
                    let mut left = *count;
                    while left > 0 {
                        self.cancel.check()?;
                        let now = left.min(ZEROS.len() as u64);
                        self.put(&ZEROS[..now as usize])?;
                        left -= now;
                    }
                }
                Piece::Chunk { read, from, length, file, file_offset } => {
                    let lost = |why: &str| {
                        let what = format!("chunk {}", window.chunks[*read].0);
                        Error::corrupt(&**file, lost(*length, *file_offset, &what, why))
                    };
                    match reads.chunks[*read].get() {
                        Some(Ok(raw)) => match raw.get(*from..from + length) {
                            Some(bytes) => self.put(bytes)?,
                            None => return Err(lost("it is shorter than the manifest says")),
                        },
                        Some(Err(error)) => return Err(self.missed(error, &lost)),
                        None => return Err(lost("the program failed while it read it")),
                    }
                }
                Piece::Slot { id, length, slot, file, file_offset } => {
                    let lost = |why: &str| {
                        let what = format!("slot {id}");
                        Error::corrupt(&**file, lost(*length as usize, *file_offset, &what, why))
                    };
                    let slot = slot.as_ref().map_err(|error| self.missed(error, &lost))?;
                    let (packed, rebuilt) = match slot.packed.get() {
                        Some(Ok(packed)) => packed,
                        Some(Err(error)) => return Err(self.missed(error, &lost)),
                        None => return Err(lost("the program failed while it packed it")),
                    };
                    if let Rebuilt::Otherwise(how) = rebuilt {
                        let detail = format!(
                            "{length} bytes from byte {file_offset} are slot {id}, packed \
                             otherwise: {how}"
                        );
                        let kind = FindingKind::SlotPackedOtherwise;
                        self.findings.push(Finding::new(kind, &**file, detail));
                    }
                    self.put(packed)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the error about content that was not read: lost it is only where there was an answer.
    fn missed(&self, error: &Error, lost: &dyn Fn(&str) -> Error) -> Error {
        match is_unanswered(self.reader.repository.backend(), error) {
            true => error.repeat(),
            false => lost(&error.to_string()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("output", "write", error))?;
        self.observer.event(Event::Done { entries: 0, bytes: bytes.len() as u64 });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Finding>> {
        self.submit()?;
        while !self.under_way.is_empty() {
            self.write_next()?;
        }
        self.out.flush().map_err(|error| Error::io("output", "write", error))?;
        Ok(self.findings)
    }
}

/// Returns the text about content that cannot be had.
fn lost(length: usize, file_offset: u64, what: &str, why: &str) -> String {
    format!("{length} bytes from byte {file_offset} are {what}, which cannot be had: {why}")
}

impl Reader<'_> {
    /// Reads one stretch of a pack and verifies its chunks. Of a damaged chunk any other copy will do.
    fn read(&self, jobs: Vec<Job>, reads: &Reads) {
        let Some(place) = PackRange::of(&jobs, |job| &job.location) else { return };
        let backend = self.repository.backend();
        let bytes = match PackBytes::read(backend, &place) {
            Ok(bytes) => Some(bytes),
            Err(error) if is_unanswered(backend, &error) => {
                // Nor will it answer for each chunk alone.
                jobs.iter().for_each(|job| self.miss(job, error.repeat(), reads));
                return;
            }
            Err(_) => None,
        };
        DECOMPRESSOR.with_borrow_mut(|decompressor| {
            for job in jobs {
                let stored = bytes.as_ref().and_then(|bytes| bytes.get(&job.location));
                self.read_one(&job, stored, decompressor, reads);
            }
        });
    }

    fn read_one(
        &self,
        job: &Job,
        stored: Option<&[u8]>,
        decompressor: &mut Decompressor,
        reads: &Reads,
    ) {
        let keep = |raw: &[u8]| {
            for (slot, part) in &job.wanted.blocks {
                if slot.parts.put(part, raw, &self.buffers) {
                    self.pack(slot);
                }
            }
            if job.wanted.keep {
                let _ = reads.chunks[job.read].set(Ok(raw.to_vec()));
            }
        };
        let opened = stored.and_then(|stored| {
            self.repository.open_chunk(job.id, stored, &job.location, decompressor).ok()
        });
        if let Some(raw) = opened {
            return keep(raw);
        }
        match self.repository.read_chunk(job.id, ChunkKind::Data, decompressor) {
            Ok(raw) => keep(&raw),
            Err(error) => self.miss(job, error, reads),
        }
    }

    fn miss(&self, job: &Job, why: Error, reads: &Reads) {
        self.lose(&job.wanted, &why);
        let _ = reads.chunks[job.read].set(Err(why));
    }

    fn lose(&self, wanted: &Wanted, why: &Error) {
        for (slot, part) in &wanted.blocks {
            if slot.parts.lose(part, why) {
                self.pack(slot);
            }
        }
    }

    /// Packs a slot whose parts have all come.
    fn pack(&self, slot: &Slot) {
        let mut out = Vec::new();
        let key = self.repository.id_key();
        let packed = slot.parts.pack(key, self.packers, &self.buffers, &mut out);
        let _ = slot.packed.set(packed.map(|rebuilt| (out, rebuilt)));
    }
}
