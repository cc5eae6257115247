//! Reading fewer and longer stretches where each read waits for a store: single chunks come out of
//! stretches that are kept in memory and in files on this host, records of snapshots out of files.
//!
//! Chunks that are wanted together mostly stand together: the manifest of a backup, its recipes, the
//! catalog of a deployment. What one night has read or written, the next one wants again. Nothing is believed
//! for being on this host: whatever comes out of these files is verified as if it came from the store, and read
//! from there when it does not hold.

mod kept;

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Backend, Key};
use crate::error::{Error, Result};
use crate::format::ChunkKind;
use crate::id::{PackId, SessionId};
use crate::index::Location;
use kept::KeptStretches;

/// A pack, and where in it a stretch begins.
type Place = (PackId, u64);
/// What was read of a stretch; held locked while somebody reads it.
type Stretch = Arc<Mutex<Option<Bytes>>>;

/// Bytes of a stretch.
#[derive(Clone)]
struct Bytes {
    bytes: Arc<Vec<u8>>,
    /// They came from a file of this host, and not from the store.
    is_kept: bool,
}

/// Bytes of a stretch of meta packs. What one command wants of them is mostly all of a stretch...
const META_BYTES: u64 = 4 << 20;
/// ...of data packs it is a file here and there.
const DATA_BYTES: u64 = 512 << 10;

/// Reads single chunks out of longer stretches of packs.
pub struct ReadAhead {
    meta: Stretches,
    data: Stretches,
    kept: Arc<KeptStretches>,
}

impl ReadAhead {
    /// Makes one that keeps files below the cache of a repository; without a directory it keeps none.
    pub fn new(cache: Option<PathBuf>) -> Self {
        let kept = Arc::new(KeptStretches::new(cache));
        let of =
            |bytes, most| Stretches { bytes, most, read: Mutex::default(), kept: kept.clone() };
        ReadAhead { meta: of(META_BYTES, 12), data: of(DATA_BYTES, 32), kept }
    }

    /// Opens the stored bytes at a place in a pack of chunks of a kind. Those of a file of this host that do not
    /// open are read from the store.
    ///
    /// Fails as [`Backend::get_range`], and as `open` does.
    pub fn read<T>(
        &self,
        backend: &dyn Backend,
        kind: ChunkKind,
        location: &Location,
        open: &mut dyn FnMut(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let stretches = match kind {
            ChunkKind::Meta => &self.meta,
            ChunkKind::Data => &self.data,
        };
        let (stored, is_kept) = stretches.read(backend, location, true)?;
        match open(&stored) {
            Err(_) if is_kept => open(&stretches.read(backend, location, false)?.0),
            opened => opened,
        }
    }

    /// Keeps a pack of meta chunks that this host has stored.
    pub fn keep_meta_pack(&self, pack: PackId, bytes: &[u8]) {
        for (offset, stretch) in
            (0..).step_by(META_BYTES as usize).zip(bytes.chunks(META_BYTES as usize))
        {
            self.kept.put((pack, offset), stretch);
        }
    }

    /// Forgets what was kept of packs that are not among `present`.
    pub fn keep_packs(&self, present: &HashMap<PackId, u64>) {
        self.kept.keep(present);
    }

    /// Reads from the store alone from here on: for whoever looks at what the repository has.
    pub fn pass_over(&self) {
        self.kept.pass_over();
    }
}

/// Stretches of packs, those used last.
struct Stretches {
    /// Bytes of a stretch: packs are thought of as rows of these, so that no two overlap.
    bytes: u64,
    /// Stretches that are kept.
    most: usize,
    read: Mutex<VecDeque<(Place, Stretch)>>,
    kept: Arc<KeptStretches>,
}

impl Stretches {
    /// Returns the bytes of a place, and whether any of them came from a file, which is not looked at
    /// unless `may_be_kept`.
    fn read(
        &self,
        backend: &dyn Backend,
        location: &Location,
        mut may_be_kept: bool,
    ) -> Result<(Vec<u8>, bool)> {
        let length = location.stored_length as usize;
        let (mut bytes, mut is_kept) = (Vec::new(), false);
        let mut at = u64::from(location.offset);
        while at < location.end() {
            let start = at / self.bytes * self.bytes;
            let stretch = self.stretch(backend, (location.pack, start), may_be_kept)?;
            let piece = stretch.bytes.get((at - start) as usize..).unwrap_or_default();
            let piece = &piece[..piece.len().min(length - bytes.len())];
            if piece.is_empty() && stretch.is_kept {
                // Cut short.
                may_be_kept = false;
                continue;
            }
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
            is_kept |= stretch.is_kept;
        }
        Ok((bytes, is_kept))
    }

    fn stretch(&self, backend: &dyn Backend, place: Place, may_be_kept: bool) -> Result<Bytes> {
        let stretch = {
            let mut all = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            let found = all.iter().position(|(of, _)| *of == place).and_then(|at| all.remove(at));
            let stretch = found.map(|(_, stretch)| stretch).unwrap_or_default();
            all.push_back((place, Arc::clone(&stretch)));
            if all.len() > self.most {
                all.pop_front();
            }
            stretch
        };
        // Whoever wants the same waits, and nobody else.
        let mut read = stretch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = read.as_ref().filter(|bytes| may_be_kept || !bytes.is_kept) {
            return Ok(bytes.clone());
        }
        let length = self.bytes as usize;
        let kept = may_be_kept.then(|| self.kept.get(place, length)).flatten();
        let is_kept = kept.is_some();
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let bytes = backend.get_up_to(&Key::Pack(place.0), place.1, length)?;
                self.kept.put(place, &bytes);
                bytes
            }
        };
        Ok(read.insert(Bytes { bytes: Arc::new(bytes), is_kept }).clone())
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
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&new)?.write_all(bytes)?;
    std::fs::rename(&new, path)
}
