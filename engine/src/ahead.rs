//! Reading fewer and longer stretches where each read waits for a store: single chunks come out of
//! stretches that are kept, and records of snapshots out of files on this host.
//!
//! Chunks that are wanted together mostly stand together: the manifest of a backup, its recipes, the
//! catalog of a deployment.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Backend, Key};
use crate::error::{Error, Result};
use crate::format::ChunkKind;
use crate::id::{PackId, SessionId};
use crate::index::Location;

type Place = (PackId, u64);
/// What was read of a stretch; held locked while somebody reads it.
type Stretch = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

/// Reads single chunks out of longer stretches of packs.
pub struct ReadAhead {
    meta: Stretches,
    data: Stretches,
}

impl Default for ReadAhead {
    fn default() -> Self {
        // What one command wants of meta packs is mostly all of a stretch; of data it is a file here and
        // there.
        ReadAhead { meta: Stretches::new(4 << 20, 12), data: Stretches::new(512 << 10, 32) }
    }
}

impl ReadAhead {
    /// Returns the stored bytes at a place in a pack of chunks of a kind.
    ///
    /// Fails as [`Backend::get_range`].
    pub fn read(
        &self,
        backend: &dyn Backend,
        kind: ChunkKind,
        location: &Location,
    ) -> Result<Vec<u8>> {
        match kind {
            ChunkKind::Meta => self.meta.read(backend, location),
            ChunkKind::Data => self.data.read(backend, location),
        }
    }
}

/// Stretches of packs, those used last.
struct Stretches {
    /// Bytes of a stretch: packs are thought of as rows of these, so that no two overlap.
    bytes: u64,
    /// Stretches that are kept.
    most: usize,
    kept: Mutex<VecDeque<(Place, Stretch)>>,
}

impl Stretches {
    fn new(bytes: u64, most: usize) -> Self {
        Stretches { bytes, most, kept: Mutex::default() }
    }

    fn read(&self, backend: &dyn Backend, location: &Location) -> Result<Vec<u8>> {
        let length = location.stored_length as usize;
        let mut bytes = Vec::new();
        let mut at = u64::from(location.offset);
        while at < location.end() {
            let number = at / self.bytes;
            let stretch = self.stretch(backend, (location.pack, number))?;
            let from = (at - number * self.bytes) as usize;
            let piece = stretch.get(from..).unwrap_or_default();
            let piece = &piece[..piece.len().min(length - bytes.len())];
            if piece.is_empty() {
                let problem = format!(
                    "{length} bytes from byte {} expected, found {}",
                    location.offset,
                    bytes.len()
                );
                return Err(Error::corrupt(Key::Pack(location.pack).to_string(), problem));
            }
            bytes.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        Ok(bytes)
    }

    fn stretch(&self, backend: &dyn Backend, place: Place) -> Result<Arc<Vec<u8>>> {
        let stretch = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let found = kept.iter().position(|(of, _)| *of == place).and_then(|at| kept.remove(at));
            let stretch = found.map(|(_, stretch)| stretch).unwrap_or_default();
            kept.push_back((place, Arc::clone(&stretch)));
            if kept.len() > self.most {
                kept.pop_front();
            }
            stretch
        };
        // Whoever wants the same waits, and nobody else.
        let mut read = stretch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*read {
            return Ok(Arc::clone(bytes));
        }
        let (pack, number) = place;
        let bytes =
            backend.get_up_to(&Key::Pack(pack), number * self.bytes, self.bytes as usize)?;
        Ok(Arc::clone(read.insert(Arc::new(bytes))))
    }
}

/// Records of snapshots as files of a directory: what each command would else read again.
pub struct RecordCache {
    directory: Option<PathBuf>,
    passed_over: AtomicBool,
}

impl RecordCache {
    /// Makes one below the cache of a repository; without a directory it keeps nothing.
    pub fn new(cache: Option<PathBuf>) -> Self {
        RecordCache {
            directory: cache.map(|cache| cache.join("snapshots")),
            passed_over: AtomicBool::new(false),
        }
    }

    fn path(&self, session: SessionId) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(session.to_string()))
    }

    /// Returns a record, which is to be verified.
    pub fn get(&self, session: SessionId) -> Option<Vec<u8>> {
        if self.passed_over.load(Ordering::Relaxed) {
            return None;
        }
        std::fs::read(self.path(session)?).ok()
    }

    /// Reads none from here on: for whoever looks at what the repository has.
    pub fn pass_over(&self) {
        self.passed_over.store(true, Ordering::Relaxed);
    }

    /// Keeps a record. What cannot be kept is read again.
    pub fn put(&self, session: SessionId, record: &[u8]) {
        if let Some(path) = self.path(session) {
            let _ = write(&path, record);
        }
    }

    /// Forgets those that are not among `listed`.
    pub fn keep(&self, listed: &[SessionId]) {
        let Some(directory) = &self.directory else { return };
        let Ok(files) = std::fs::read_dir(directory) else { return };
        let names: std::collections::HashSet<String> =
            listed.iter().map(SessionId::to_string).collect();
        for file in files.flatten() {
            if !file.file_name().to_str().is_some_and(|name| names.contains(name)) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

/// Writes a file under another name first, so that no other process reads a part of it.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::File::create(&new)?.write_all(bytes)?;
    std::fs::rename(&new, path)
}
