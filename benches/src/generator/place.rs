//! Writing files as a server leaves them: owner, mode, and a time that follows from the night.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Result;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// 2026-01-01 02:00:00 UTC, when night 0 was.
const FIRST_NIGHT: u64 = 1_767_232_800;

/// The root directory of a deployment in one night.
pub(super) struct Place {
    root: PathBuf,
    night: u32,
    /// `mysql`, when the program may give files away and there is such a user.
    owner: Option<(u32, u32)>,
    /// Directories that get their time last.
    changed: Mutex<BTreeSet<PathBuf>>,
}

impl Place {
    pub fn new(root: &Path, night: u32) -> Place {
        let owner = rustix::process::geteuid().is_root().then(mysql).flatten();
        Place { root: root.to_owned(), night, owner, changed: Mutex::default() }
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// Returns the path of a segment file or another file below the directory of the DB Roots.
    pub fn data(&self, below: impl AsRef<Path>) -> PathBuf {
        self.path("var/lib/columnstore").join(below)
    }

    fn time(&self, path: &Path) -> SystemTime {
        // Files differ by some seconds; from night to night the times rise.
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let sum = below
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(5381u64, |sum, byte| sum.wrapping_mul(33) ^ u64::from(*byte));
        let seconds = FIRST_NIGHT + u64::from(self.night) * 86_400 + sum % 1800;
        SystemTime::UNIX_EPOCH + Duration::new(seconds, (sum >> 11) as u32 % 1_000_000_000)
    }

    fn owned_by_server(&self, path: &Path) -> bool {
        path.starts_with(self.path("var/lib"))
    }

    /// Makes a directory and those above it.
    pub fn directory(&self, path: &Path, mode: u32) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.directory(above, 0o755)?;
            self.touch_later(above);
        }
        match DirBuilder::new().mode(0o755).create(path) {
            // Another thread was first.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        let directory = File::open(path)?;
        if self.owned_by_server(path) && path != self.path("var/lib") {
            self.give(&directory)?;
        }
        directory.set_permissions(Permissions::from_mode(mode))?;
        self.touch_later(path);
        Ok(())
    }

    fn touch_later(&self, directory: &Path) {
        if directory.starts_with(&self.root) {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            changed.insert(directory.to_owned());
        }
    }

    /// Makes a file, or one in the place of another.
    pub fn create(&self, path: &Path, mode: u32) -> Result<File> {
        if let Some(above) = path.parent() {
            self.directory(above, 0o755)?;
            self.touch_later(above);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(path)?;
        if self.owned_by_server(path) {
            self.give(&file)?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    }

    fn give(&self, file: &File) -> Result<()> {
        match self.owner {
            Some((user, group)) => fchown(file, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    pub fn open(&self, path: &Path) -> Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Gives a file that was written the time of this night.
    pub fn done(&self, file: &File, path: &Path) -> Result<()> {
        file.set_modified(self.time(path))
    }

    /// Writes a whole file.
    pub fn write(&self, path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
        let file = self.create(path, mode)?;
        file.write_all_at(bytes, 0)?;
        self.done(&file, path)
    }

    /// Writes the blocks of a file that differ; one that is the same is only touched.
    pub fn rewrite(&self, path: &Path, mode: u32, bytes: &[u8], block: usize) -> Result<()> {
        let old = match std::fs::read(path) {
            Ok(old) if old.len() == bytes.len() => old,
            _ => return self.write(path, mode, bytes),
        };
        let file = self.open(path)?;
        for (number, (new, old)) in bytes.chunks(block).zip(old.chunks(block)).enumerate() {
            if new != old {
                file.write_all_at(new, (number * block) as u64)?;
            }
        }
        self.done(&file, path)
    }

    /// Removes a file and the directories that are empty without it.
    pub fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)?;
        let mut above = path.parent();
        while let Some(directory) = above {
            self.touch_later(directory);
            if std::fs::remove_dir(directory).is_err() {
                break;
            }
            above = directory.parent();
        }
        Ok(())
    }

    /// Puts one file in the place of another, as ColumnStore does after it wrote it anew.
    pub fn swap(&self, new: &Path, path: &Path) -> Result<()> {
        let mut orig = path.to_owned().into_os_string();
        orig.push(".orig");
        std::fs::rename(path, &orig)?;
        std::fs::rename(new, path)?;
        std::fs::remove_file(&orig)?;
        path.parent().into_iter().for_each(|above| self.touch_later(above));
        Ok(())
    }

    /// Gives directories their times.
    pub fn finish(self) -> Result<()> {
        let changed =
            std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        for path in changed.iter().filter(|path| path.is_dir()) {
            File::open(path)?.set_modified(self.time(path))?;
        }
        Ok(())
    }
}

/// Returns the ids of the server's user and group on this host.
fn mysql() -> Option<(u32, u32)> {
    let id = |file: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with("mysql:"))?;
        line.split(':').nth(2)?.parse().ok()
    };
    Some((id("/etc/passwd")?, id("/etc/group")?))
}
