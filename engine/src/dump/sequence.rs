//! A sequence of bytes made of chunks, read ahead by many threads and written in order.
//!
//! What is to be written is gathered in windows. When one is full, its chunks are read pack by
//! pack, neighbours at once, and verified, while the window before is written. Memory is bounded
//! by the size of a window and how many are under way.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crate::backend::Key;
use crate::compress::Decompressor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ChunkKind;
use crate::format::extent::Extent;
use crate::id::ChunkId;
use crate::index::Location;
use crate::pack::stretches;
use crate::progress::{Cancel, Event, Observer};
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
    Chunk { slot: usize, from: usize, length: usize, file: Arc<str>, file_offset: u64 },
}

#[derive(Default)]
struct Window {
    pieces: Vec<Piece>,
    /// Chunks to be read, each once.
    chunks: Vec<ChunkId>,
    slots: HashMap<ChunkId, usize>,
    raw_bytes: u64,
}

/// The chunks of a window as they come in.
struct Reads {
    slots: Vec<OnceLock<Result<Vec<u8>>>>,
    /// Reads under way.
    left: Mutex<usize>,
    ended: Condvar,
}

/// A chunk to read.
struct Job {
    location: Location,
    id: ChunkId,
    slot: usize,
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
    repository: &'scope Repository,
    cancel: &'scope Cancel,
    observer: &'scope dyn Observer,
    scope: &'s rayon::ScopeFifo<'scope>,
    out: &'s mut dyn Write,
    filling: Window,
    under_way: VecDeque<(Window, Arc<Reads>)>,
}

/// Writes what `fill` puts into a sequence, with so many threads that read.
///
/// Fails with `Corrupt` on the first chunk that cannot be had: everything before it was written,
/// nothing after it.
pub(super) fn write<'a>(
    repository: &'a Repository,
    threads: usize,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    out: &mut dyn Write,
    fill: impl FnOnce(&mut Sequence<'_, 'a>) -> Result<()>,
) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|n| format!("read-{n}"))
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "threads", "cannot be started").caused_by(error)
        })?;
    pool.in_place_scope_fifo(|scope| {
        let mut sequence = Sequence {
            repository,
            cancel,
            observer,
            scope,
            out,
            filling: Window::default(),
            under_way: VecDeque::new(),
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
            other => return self.zeros(other.length()),
        };
        let window = &mut self.filling;
        let next = window.chunks.len();
        let slot = *window.slots.entry(id).or_insert(next);
        if slot == next {
            window.chunks.push(id);
            window.raw_bytes += u64::from(chunk_length);
        }
        let (from, length) = (from as usize, length as usize);
        self.push(Piece::Chunk { slot, from, length, file: Arc::clone(file), file_offset })
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
        let window = std::mem::take(&mut self.filling);
        let mut reads = Reads {
            slots: window.chunks.iter().map(|_| OnceLock::new()).collect(),
            left: Mutex::new(0),
            ended: Condvar::new(),
        };
        let mut jobs = Vec::with_capacity(window.chunks.len());
        for (slot, id) in window.chunks.iter().copied().enumerate() {
            match self.repository.find(id, ChunkKind::Data)? {
                Some(location) => jobs.push(Job { location, id, slot }),
                None => {
                    let missing = Error::new(
                        ErrorKind::NotFound,
                        format!("chunk {id}"),
                        "no index object names it",
                    );
                    let _ = reads.slots[slot].set(Err(missing));
                }
            }
        }
        jobs.sort_unstable_by_key(|job| (job.location.pack, job.location.offset));
        let groups = stretches(jobs, |job| &job.location);
        reads.left = Mutex::new(groups.len());
        let reads = Arc::new(reads);
        for jobs in groups {
            let (end, repository) = (ReadEnd(Arc::clone(&reads)), self.repository);
            self.scope.spawn_fifo(move |_| {
                read(repository, &jobs, &end.0);
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
                Piece::Chunk { slot, from, length, file, file_offset } => {
                    let raw = reads.slots[*slot].get();
                    let lost = |why: &str| {
                        let id = window.chunks[*slot];
                        let problem = format!(
                            "{length} bytes from byte {file_offset} are chunk {id}, which cannot \
                             be had: {why}"
                        );
                        Error::corrupt(&**file, problem)
                    };
                    match raw {
                        Some(Ok(raw)) => match raw.get(*from..from + length) {
                            Some(bytes) => self.put(bytes)?,
                            None => return Err(lost("it is shorter than the manifest says")),
                        },
                        Some(Err(error)) => return Err(lost(&error.to_string())),
                        None => return Err(lost("the program failed while it read it")),
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("output", "write", error))?;
        self.observer.event(Event::Done { entries: 0, bytes: bytes.len() as u64 });
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.submit()?;
        while !self.under_way.is_empty() {
            self.write_next()?;
        }
        self.out.flush().map_err(|error| Error::io("output", "write", error))
    }
}

/// Reads one stretch of a pack and verifies its chunks. Of a damaged chunk any other copy will do.
fn read(repository: &Repository, jobs: &[Job], reads: &Reads) {
    let (Some(first), Some(last)) = (jobs.first(), jobs.last()) else { return };
    let start = u64::from(first.location.offset);
    let length = usize::try_from(last.location.end() - start).unwrap_or(usize::MAX);
    let key = Key::Pack(first.location.pack);
    let bytes = repository.backend().get_range(&key, start, length);
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        for job in jobs {
            let from = (job.location.offset - first.location.offset) as usize;
            let to = from + job.location.stored_length as usize;
            let stored = bytes.as_ref().ok().and_then(|bytes| bytes.get(from..to));
            let opened = stored.and_then(|stored| {
                let raw = repository.open_chunk(job.id, stored, &job.location, decompressor);
                raw.map(<[u8]>::to_vec).ok()
            });
            let raw = match opened {
                Some(raw) => Ok(raw),
                None => repository.read_chunk(job.id, ChunkKind::Data, decompressor),
            };
            let _ = reads.slots[job.slot].set(raw);
        }
    });
}
