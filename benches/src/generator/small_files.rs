//! A tree of many small files, for what a backup costs by the file.

use std::fs;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::claim;
use super::random::{Random, parts};

/// Files in one directory.
const PER_DIRECTORY: u64 = 500;

fn path(root: &Path, number: u64) -> PathBuf {
    let directory = number / PER_DIRECTORY;
    root.join(format!("{:03}/{:03}/file{number:07}", directory / 100, directory % 100))
}

fn write(root: &Path, number: u64, seed: u64, night: u32) -> Result<()> {
    let mut stream = Random::of(&[seed, number, u64::from(night)]);
    // Most are below a kilobyte, a few reach 8.
    let length = 40 + stream.skewed(1 + stream_limit(number));
    let mut text = Vec::with_capacity(length as usize + 40);
    while (text.len() as u64) < length {
        writeln!(text, "{number} {night} {:x} state=ok", stream.next())?;
    }
    let path = path(root, number);
    let mut file = fs::File::create(path)?;
    file.write_all(&text)?;
    let seconds = 1_767_232_800 + u64::from(night) * 86_400 + number % 3600;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn stream_limit(number: u64) -> u64 {
    if number.is_multiple_of(10) { 8000 } else { 1000 }
}

/// Makes `count` files below a directory that is empty or not there.
pub fn create_small_files(root: &Path, count: u64, seed: u64) -> Result<()> {
    claim(root)?;
    for number in 0..count {
        if number % PER_DIRECTORY == 0 {
            path(root, number).parent().map_or(Ok(()), fs::create_dir_all)?;
        }
        write(root, number, seed, 0)?;
    }
    Ok(())
}

/// Makes what such a tree is on the next night: a share of the files is written again. Returns how
/// many.
pub fn small_files_night(
    root: &Path,
    count: u64,
    seed: u64,
    night: u32,
    share: f64,
) -> Result<u64> {
    let mut changed = 0;
    let mut stream = Random::of(&[seed, u64::from(night)]);
    for number in 0..count {
        if stream.chance(parts(share)) {
            write(root, number, seed, night)?;
            changed += 1;
        }
    }
    Ok(changed)
}
