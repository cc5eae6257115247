//! Stretches of packs as files of a directory, beside the index cache.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::{Place, write};
use crate::id::PackId;

/// All files together have at most so many bytes...
const BYTES_MAX: u64 = 256 << 20;
/// ...and this many when those not used for longest have gone, so that it is not done for every file.
const BYTES_LEFT: u64 = BYTES_MAX / 8 * 7;

/// Stretches by pack and offset. A pack never changes, so a file that is whole is as good as the store. Whether it is,
/// the reader sees from the chunks in it.
pub(super) struct KeptStretches {
    directory: Option<PathBuf>,
    passed_over: AtomicBool,
    limit: (u64, u64),
    /// Bytes of all files, once they were counted; too many rather than too few.
    total: Mutex<Option<u64>>,
}

impl KeptStretches {
    /// Makes one below the cache of a repository; without a directory it keeps nothing.
    pub fn new(cache: Option<PathBuf>) -> Self {
        KeptStretches {
            directory: cache.map(|cache| cache.join("packs")),
            passed_over: AtomicBool::new(false),
            limit: (BYTES_MAX, BYTES_LEFT),
            total: Mutex::default(),
        }
    }

    fn path(&self, (pack, offset): Place) -> Option<PathBuf> {
        if self.passed_over.load(Ordering::Relaxed) {
            return None;
        }
        self.directory.as_ref().map(|directory| directory.join(format!("{pack}.{offset}")))
    }

    /// Returns what is kept of a stretch of at most `length` bytes.
    pub fn get(&self, place: Place, length: usize) -> Option<Vec<u8>> {
        let path = self.path(place)?;
        // What is no file might never end, or never begin.
        let facts = fs::symlink_metadata(&path).ok().filter(|facts| facts.is_file())?;
        let found = usize::try_from(facts.len()).ok().filter(|found| *found <= length)?;
        let file = File::open(&path).ok()?;
        let mut bytes = Vec::with_capacity(found);
        (&file).take(length as u64).read_to_end(&mut bytes).ok()?;
        // It was used now; where that cannot be noted, it goes a little earlier.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Keeps a stretch. What cannot be kept is read again.
    pub fn put(&self, place: Place, bytes: &[u8]) {
        let Some(path) = self.path(place) else { return };
        if write(&path, bytes).is_err() {
            return;
        }
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = match *total {
            Some(known) => known + bytes.len() as u64,
            None => self.files().iter().map(|file| file.bytes).sum(),
        };
        *total = Some(if sum > self.limit.0 { self.trim() } else { sum });
    }

    /// Removes files, those first that were not used for longest, and returns the bytes of the rest.
    fn trim(&self) -> u64 {
        let mut files = self.files();
        files.sort_by_key(|file| file.used);
        let mut sum: u64 = files.iter().map(|file| file.bytes).sum();
        for file in &files {
            if sum <= self.limit.1 {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                sum -= file.bytes;
            }
        }
        sum
    }

    /// Forgets what is of other packs than these, and what is no stretch.
    pub fn keep(&self, present: &HashMap<PackId, u64>) {
        for file in self.files() {
            if !file.pack.is_some_and(|pack| present.contains_key(&pack)) {
                let _ = fs::remove_file(file.path);
            }
        }
    }

    /// Reads and keeps nothing from here on.
    pub fn pass_over(&self) {
        self.passed_over.store(true, Ordering::Relaxed);
    }

    fn files(&self) -> Vec<Kept> {
        let directory = self.directory.iter().flat_map(fs::read_dir).flatten().flatten();
        let files = directory.filter_map(|file| {
            let facts = file.metadata().ok()?;
            let name = file.file_name();
            let pack = name.to_str().and_then(|name| name.split_once('.')?.0.parse().ok());
            let used = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Some(Kept { path: file.path(), pack, bytes: facts.len(), used })
        });
        files.collect()
    }
}

struct Kept {
    path: PathBuf,
    /// `None` for what has no name of ours.
    pack: Option<PackId>,
    bytes: u64,
    used: SystemTime,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept(directory: &tempfile::TempDir, limit: (u64, u64)) -> KeptStretches {
        KeptStretches { limit, ..KeptStretches::new(Some(directory.path().to_owned())) }
    }

    fn place(pack: u8, offset: u64) -> Place {
        (PackId([pack; 32]), offset)
    }

    /// Catches a cache that grows, one that throws away what was used last, and one that counts anew what
    /// another process has left as nothing.
    #[test]
    fn those_go_first_that_were_not_used_for_longest() {
        let directory = tempfile::tempdir().unwrap();
        let first = kept(&directory, (1000, 600));
        let age = |files: &KeptStretches, place, seconds| {
            let file = File::options().append(true).open(files.path(place).unwrap()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        for number in 0..9 {
            first.put(place(number, 0), &[number; 100]);
            age(&first, place(number, 0), 1000 - u64::from(number));
        }
        assert_eq!(first.get(place(0, 0), 100).unwrap(), [0; 100]);
        let second = kept(&directory, (1000, 600));
        second.put(place(9, 4096), &[9; 300]);
        let there: Vec<u8> = (0..10)
            .filter(|n| second.get(place(*n, if *n == 9 { 4096 } else { 0 }), 300).is_some())
            .collect();
        assert_eq!(there, [0, 7, 8, 9], "600 bytes: what was used, and what came last");
        second.keep(&HashMap::from([(PackId([7; 32]), 1)]));
        assert_eq!(first.files().len(), 1);
    }

    /// Catches files that are read without an end, or of which one waits for ever, and a cache that is read
    /// although it is to be passed over.
    #[test]
    fn what_is_no_stretch_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let files = kept(&directory, (1000, 600));
        files.put(place(1, 0), &[1; 100]);
        assert!(files.get(place(1, 0), 100).is_some());
        assert!(files.get(place(1, 0), 99).is_none(), "longer than a stretch");
        let path = files.path(place(1, 0)).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(files.get(place(1, 0), 100).is_none(), "no file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(files.get(place(1, 0), 100).is_none(), "a directory");
        files.put(place(1, 0), &[1; 100]);
        files.put(place(2, 0), &[2; 100]);
        files.pass_over();
        assert!(files.get(place(2, 0), 100).is_none());
        let nowhere = KeptStretches::new(None);
        nowhere.put(place(1, 0), &[1]);
        assert!(nowhere.get(place(1, 0), 1).is_none());
    }
}
