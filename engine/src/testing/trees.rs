//! Trees and bytes that depend on a seed alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A small generator of numbers: splitmix64, the same everywhere and for ever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// Returns one of some things.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let count = from.len() as u64;
        (count > 0).then(|| &from[usize::try_from(self.below(count)).unwrap_or(0)])
    }

    /// Returns bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Returns bytes as files have them: stretches that do not compress, that do, that repeat, zeros.
pub fn mixed_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(length);
    while bytes.len() < length {
        let stretch = usize::try_from(random.below(96 << 10)).unwrap_or(0) + 1;
        match random.below(8) {
            0..=3 => bytes.extend(random.bytes(stretch)),
            4 | 5 => {
                let words = random.bytes(64);
                bytes.extend((0..stretch).map(|at| words[at * 7 % 61] & 0x3f | 0x40));
            }
            6 => bytes.resize(bytes.len() + stretch, 0),
            _ => {
                let from = bytes.len().saturating_sub(stretch);
                bytes.extend_from_within(from..);
            }
        }
    }
    bytes.truncate(length);
    bytes
}

/// Writes a tree of plain files: `files` of them in a few directories, each of up to `bytes_max`.
pub fn write_tree(root: &Path, seed: u64, files: u64, bytes_max: u64) -> io::Result<()> {
    let mut random = Random::new(seed);
    for number in 0..files {
        let directory = root.join(format!("{:03}.dir/{:03}.dir", number % 3, number % 7));
        fs::create_dir_all(&directory)?;
        let length = usize::try_from(random.below(bytes_max)).unwrap_or(0);
        let path = directory.join(format!("FILE{number:03}.cdf"));
        fs::write(path, mixed_bytes(random.number(), length))?;
    }
    Ok(())
}

/// Returns every regular file below a directory, sorted.
pub fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => pending.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Changes a tree at some place as a database would: overwrites, appends, truncates, creates,
/// deletes or renames one file. Returns what it did.
pub fn edit_tree(root: &Path, random: &mut Random) -> io::Result<String> {
    let files = files_below(root)?;
    let victim = random.pick(&files).cloned();
    let action = random.below(8);
    let fresh = root.join(format!("{:03}.dir/new{:08x}", action, random.below(1 << 32)));
    let create = |random: &mut Random| -> io::Result<String> {
        fs::create_dir_all(fresh.parent().unwrap_or(root))?;
        let length = usize::try_from(random.below(300 << 10)).unwrap_or(0);
        fs::write(&fresh, mixed_bytes(random.number(), length))?;
        Ok(format!("create {}", fresh.display()))
    };
    let Some(victim) = victim else { return create(random) };
    let length = fs::metadata(&victim)?.len();
    let open = || File::options().write(true).open(&victim);
    let done = match action {
        0..=2 if length > 0 => {
            let (at, count) = (random.below(length), random.below(9000) + 1);
            let bytes = random.bytes(usize::try_from(count.min(length - at)).unwrap_or(1));
            open()?.write_all_at(&bytes, at)?;
            format!("overwrite {} bytes at {at} of", bytes.len())
        }
        3 => {
            let count = usize::try_from(random.below(200 << 10)).unwrap_or(0);
            open()?.write_all_at(&mixed_bytes(random.number(), count), length)?;
            format!("append {count} bytes to")
        }
        4 => {
            let left = random.below(length + 1);
            open()?.set_len(left)?;
            format!("cut to {left} bytes")
        }
        5 => {
            fs::remove_file(&victim)?;
            "delete".to_owned()
        }
        6 => {
            fs::create_dir_all(fresh.parent().unwrap_or(root))?;
            fs::rename(&victim, &fresh)?;
            "rename".to_owned()
        }
        _ => return create(random),
    };
    Ok(format!("{done} {}", victim.display()))
}
