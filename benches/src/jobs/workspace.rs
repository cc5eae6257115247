//! Directories of a measurement: copies, comparisons, sizes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Common, Outcome};

/// A file that was changed less than two seconds ago is read again by tools that are careful: a
/// night is longer than that.
const REST: Duration = Duration::from_secs(3);

/// How long ext4 remembers freed inodes (`recently_deleted` in fs/ext4/ialloc.c), and a little.
const FREED_INODES_REST: Duration = Duration::from_secs(40);

/// Where a measurement keeps its things.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The folder that is backed up.
    pub live: PathBuf,
    /// What is restored goes here, a directory for each tool.
    targets: PathBuf,
    pub repositories: PathBuf,
    pub log: PathBuf,
}

impl Workspace {
    /// Makes the directories; the work directory must be empty or not there.
    pub fn create(common: &Common) -> Outcome<Workspace> {
        let work = std::path::absolute(&common.work)?;
        if work.exists() && fs::read_dir(&work)?.next().is_some() {
            return Err(format!("{}: expected an empty directory", work.display()).into());
        }
        let repositories = match &common.repositories {
            Some(directory) => std::path::absolute(directory)?,
            None => work.join("repositories"),
        };
        let workspace = Workspace {
            live: work.join("live"),
            targets: work.join("targets"),
            repositories,
            log: work.join("log"),
        };
        for directory in [&work, &workspace.repositories, &work.join("cache")] {
            fs::create_dir_all(directory)?;
        }
        Ok(workspace)
    }

    /// Makes the live folder equal to `source` (absent before: a plain copy; else only what
    /// differs is written, in place, as a server writes).
    pub fn lay(&self, source: &Path) -> Outcome<()> {
        fs::create_dir_all(&self.live)?;
        let arguments = ["-aHX", "--inplace", "--no-whole-file", "--delete"];
        let mut from = source.as_os_str().to_owned();
        from.push("/");
        run(Command::new("rsync").args(arguments).arg(from).arg(&self.live))
    }

    /// Runs a shell command with the live folder as `$1`.
    pub fn night(&self, shell: &str) -> Outcome<()> {
        run(Command::new("sh").arg("-ec").arg(shell).arg("night").arg(&self.live))
    }

    /// Gets files older than any rule about fresh ones, onto the disk and into the page cache.
    pub fn settle(&self) -> Outcome<()> {
        run(Command::new("sync").arg("-f").arg(&self.live))?;
        std::thread::sleep(REST);
        let read = "find \"$1\" -type f -print0 | xargs -0 -r cat >/dev/null";
        run(Command::new("sh").arg("-ec").arg(read).arg("read").arg(&self.live))
    }

    /// Makes an empty directory for what a tool restores.
    pub fn target(&self, name: &str) -> Outcome<PathBuf> {
        let target = self.targets.join(name);
        fs::create_dir_all(&target)?;
        Ok(target)
    }

    /// Removes everything that was restored, and waits until its inodes can be used again: ext4
    /// passes over inodes that were freed in the last half minute, at a cost that grows with them.
    pub fn clear_targets(&self) -> Outcome<()> {
        if self.targets.exists() {
            fs::remove_dir_all(&self.targets)?;
            run(Command::new("sync").arg("-f").arg(&self.live))?;
            std::thread::sleep(FREED_INODES_REST);
        }
        Ok(())
    }

    /// Fails unless the copy has the same files with the same content as the live folder.
    pub fn compare(&self, copy: &Path, whose: &str) -> Outcome<()> {
        let output = Command::new("diff").arg("-rq").arg(&self.live).arg(copy).output()?;
        if output.status.success() && bytes_below(copy)? == bytes_below(&self.live)? {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Err(format!("{whose} restored something else: {}", said.lines().next().unwrap_or(""))
            .into())
    }
}

fn run(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?}: {}: {said}", output.status).into())
        }
    }
}

/// Returns the sizes of all regular files below a directory, added up.
pub fn bytes_below(directory: &Path) -> Outcome<u64> {
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            total += bytes_below(&entry.path())?;
        } else if metadata.is_file() {
            total += metadata.size();
        }
    }
    Ok(total)
}
