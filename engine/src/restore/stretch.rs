//! One stretch of a pack: read at once, opened chunk by chunk, written in as few pieces as possible.
//!
//! Chunks that stood side by side in a file mostly stand side by side in a pack. They are opened
//! side by side in one buffer, so that one write carries several: it costs the file system little
//! more than a small one, and threads that write one file wait for each other less often.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Advice, fadvise};

use super::slots::Block;
use super::window::{Windows, Writing};
use crate::compress::Decompressor;
use crate::error::{Error, Result};
use crate::fetch::Arrival;
use crate::finding::FindingKind;
use crate::format::ChunkKind;
use crate::id::ChunkId;
use crate::index::Location;
use crate::pack::{PackBytes, PackRange};
use crate::progress::Event;

/// Chunks are written together up to this many bytes: what was opened is still in the second-level
/// cache when it is written.
pub(super) const WRITE_BYTES_MAX: usize = 256 << 10;

/// A stretch of a file at least this long is sent to the disk at once.
pub(super) const WRITEBACK_BYTES_MIN: u64 = 1 << 20;

/// Where the bytes of a chunk go.
#[derive(Clone)]
pub(super) struct Use {
    pub file: Arc<Writing>,
    pub file_offset: u64,
    pub chunk_offset: u32,
    pub length: u32,
}

/// A chunk to read and where it goes.
pub(super) struct Job {
    pub location: Location,
    pub id: ChunkId,
    pub uses: Vec<Use>,
    /// Slots that are packed from it.
    pub blocks: Vec<Block>,
}

/// What a thread keeps from stretch to stretch: fresh memory costs page faults, a context of zstd
/// more than a small chunk.
#[derive(Default)]
struct Kept {
    decompressor: Decompressor,
    raw: Vec<u8>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Where a chunk goes first: what a stretch is worked through in the order of, so that neighbours in
/// a file are opened one after the other.
fn first_place(job: &Job) -> Option<(*const Writing, u64)> {
    job.uses.first().map(|to| (Arc::as_ptr(&to.file), to.file_offset))
}

/// Chunks that stand side by side in one file, opened side by side in the buffer.
struct Run<'j> {
    /// The place of each; whole chunks, one after the other.
    uses: Vec<&'j Use>,
    length: usize,
}

impl<'j> Run<'j> {
    fn is_continued_by(&self, next: &Use) -> bool {
        self.uses.first().is_some_and(|first| {
            Arc::ptr_eq(&first.file, &next.file)
                && first.file_offset + self.length as u64 == next.file_offset
        })
    }
}

impl Windows<'_> {
    /// Writes the chunks of a stretch, of which this came.
    pub(super) fn write_stretch(&self, mut jobs: Vec<Job>, arrival: Arrival) -> Result<()> {
        let (read, came);
        let bytes: Option<&PackBytes> = match arrival {
            Arrival::Near => {
                let place = PackRange::of(&jobs, |job| &job.location);
                let backend = self.repository.backend();
                read = place.and_then(|place| PackBytes::read(backend, &place).ok());
                read.as_ref()
            }
            Arrival::Came(fetched) => {
                came = fetched;
                Some(came.bytes())
            }
            Arrival::Unreadable => None,
            Arrival::Unanswered(error) => return Err(error),
        };
        jobs.sort_by_key(first_place);
        KEPT.with_borrow_mut(|kept| {
            let Kept { decompressor, raw } = kept;
            let mut run = Run { uses: Vec::new(), length: 0 };
            for job in &mut jobs {
                let stored = bytes.and_then(|bytes| bytes.get(&job.location));
                if let Some(stored) = stored {
                    for block in job.blocks.drain(..) {
                        self.keep_block(&block, stored, &job.location)?;
                    }
                    if job.uses.is_empty() {
                        continue;
                    }
                }
                let raw_length = job.location.raw_length as usize;
                let continues = job.uses.first().is_none_or(|first| run.is_continued_by(first));
                if !continues || run.length + raw_length > WRITE_BYTES_MAX {
                    self.write(&mut run, raw)?;
                }
                let place = run.length..run.length + raw_length;
                if raw.len() < place.end {
                    raw.resize(place.end, 0);
                }
                if !self.open(job, stored, decompressor, &mut raw[place.clone()])? {
                    // What came before is written; what comes after begins anew.
                    self.write(&mut run, raw)?;
                    continue;
                }
                let opened = &raw[place];
                for block in &job.blocks {
                    self.put_block(block, opened)?;
                }
                let Some((first, others)) = job.uses.split_first() else { continue };
                for other in others {
                    self.write_part(job, other, opened)?;
                }
                if first.chunk_offset == 0 && first.length as usize == raw_length {
                    run.uses.push(first);
                    run.length += raw_length;
                } else {
                    self.write_part(job, first, opened)?;
                    self.write(&mut run, raw)?;
                }
            }
            self.write(&mut run, raw)?;
            self.begin_writeback(&jobs);
            Ok(())
        })
    }

    /// Has the kernel begin to write long stretches to the disk, so that the disk works while the
    /// next ones are opened, and little is left for the end.
    fn begin_writeback(&self, jobs: &[Job]) {
        let places = || jobs.iter().filter_map(|job| job.uses.first());
        for run in places().collect::<Vec<_>>().chunk_by(|a, b| Arc::ptr_eq(&a.file, &b.file)) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let length = last.file_offset + u64::from(last.length) - first.file_offset;
            if length >= WRITEBACK_BYTES_MIN {
                // Advice that nothing of it is needed again is what starts the writing.
                let _ = fadvise(
                    &first.file.file,
                    first.file_offset,
                    NonZeroU64::new(length),
                    Advice::DontNeed,
                );
            }
        }
    }

    /// Opens and verifies a stored chunk; without one, or when it is damaged, any other copy will
    /// do. Returns whether there is one.
    fn open(
        &self,
        job: &Job,
        stored: Option<&[u8]>,
        decompressor: &mut Decompressor,
        raw: &mut [u8],
    ) -> Result<bool> {
        if let Some(stored) = stored
            && self
                .repository
                .open_chunk_into(job.id, stored, &job.location, decompressor, raw)
                .is_ok()
        {
            return Ok(true);
        }
        let error = match self.repository.read_chunk(job.id, ChunkKind::Data, decompressor) {
            Ok(copy) if copy.len() == raw.len() => {
                raw.copy_from_slice(&copy);
                return Ok(true);
            }
            Ok(copy) => {
                let problem = format!("{} raw bytes expected, found {}", raw.len(), copy.len());
                Error::corrupt(format!("chunk {}", job.id), problem)
            }
            Err(error) => error,
        };
        self.lose(
            &format!("chunk {}", job.id),
            &job.uses,
            self.repository.loss_kind(&error)?,
            &error.to_string(),
        );
        for block in &job.blocks {
            self.lose_block(block, &error)?;
        }
        Ok(false)
    }

    /// Writes a run and begins a new one.
    fn write(&self, run: &mut Run<'_>, raw: &[u8]) -> Result<()> {
        if let Some(first) = run.uses.first() {
            self.write_at(first, first.file_offset, &raw[..run.length])?;
            run.uses.iter().for_each(|place| self.count_down(&place.file));
        }
        run.uses.clear();
        run.length = 0;
        Ok(())
    }

    /// Writes what one place wants of a chunk.
    fn write_part(&self, job: &Job, place: &Use, raw: &[u8]) -> Result<()> {
        let start = place.chunk_offset as usize;
        let Some(bytes) = raw.get(start..start + place.length as usize) else {
            let problem = "the chunk is shorter than the manifest says";
            self.lose(
                &format!("chunk {}", job.id),
                std::slice::from_ref(place),
                FindingKind::DamagedManifest,
                problem,
            );
            return Ok(());
        };
        self.write_at(place, place.file_offset, bytes)?;
        self.count_down(&place.file);
        Ok(())
    }

    pub(super) fn write_at(&self, place: &Use, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = &place.file;
        file.file
            .write_all_at(bytes, offset)
            .map_err(|error| Error::io(&file.path, "write", error))?;
        file.changed.store(true, Ordering::Relaxed);
        self.bytes_restored.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.observer.event(Event::Done { entries: 0, bytes: bytes.len() as u64 });
        Ok(())
    }
}
