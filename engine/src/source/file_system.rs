//! The file system a directory is on: its kind, its space, and whether it can clone files.

use std::path::Path;

use rustix::fs::statfs;

use crate::error::{Error, Result};

/// Whether a file system can make copies that share blocks with the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloning {
    /// It can.
    Yes,
    /// It can if it was made so; nothing short of trying tells.
    Perhaps,
    /// It cannot, or is not known to.
    No,
}

impl Cloning {
    /// Returns the word used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Cloning::Yes => "yes",
            Cloning::Perhaps => "perhaps",
            Cloning::No => "no",
        }
    }
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its kind; hexadecimal when it is not a known one.
    pub kind: String,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Whether it can clone.
    pub cloning: Cloning,
}

/// Kinds by their magic number. Source: Linux `statfs(2)`; XFS clones since `mkfs.xfs` 5.1 makes
/// `reflink=1` by default.
const KINDS: [(u64, &str, Cloning); 14] = [
    (0xef53, "ext4", Cloning::No),
    (0x5846_5342, "xfs", Cloning::Perhaps),
    (0x9123_683e, "btrfs", Cloning::Yes),
    (0xca45_1a4e, "bcachefs", Cloning::Yes),
    (0x2fc1_2fc1, "zfs", Cloning::Perhaps),
    (0x7461_636f, "ocfs2", Cloning::Perhaps),
    (0x6969, "nfs", Cloning::Perhaps),
    (0xff53_4d42, "cifs", Cloning::No),
    (0xfe53_4d42, "smb2", Cloning::No),
    (0x0102_1994, "tmpfs", Cloning::No),
    (0x794c_7630, "overlayfs", Cloning::No),
    (0x6573_5546, "fuse", Cloning::No),
    (0x00c3_6400, "ceph", Cloning::No),
    (0x0116_1970, "gfs2", Cloning::No),
];

/// Examines the file system a path is on. Nothing is written: whether cloning works is told by its
/// kind.
pub fn file_system(path: &Path) -> Result<FileSystem> {
    let facts = statfs(path).map_err(|error| Error::io(path, "examine the file system", error))?;
    // The magic number has 32 bits, in a field whose width and sign depend on the processor.
    let magic = u64::from(facts.f_type as u32);
    let known = KINDS.iter().find(|(number, _, _)| *number == magic);
    let block = u64::try_from(facts.f_bsize).unwrap_or(0);
    Ok(FileSystem {
        kind: known.map_or_else(|| format!("{magic:#x}"), |(_, name, _)| (*name).to_owned()),
        free_bytes: facts.f_bavail.saturating_mul(block),
        cloning: known.map_or(Cloning::No, |(_, _, cloning)| *cloning),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_known_is_a_number_and_cannot_clone() {
        let proc = file_system(Path::new("/proc")).unwrap();
        assert_eq!((proc.kind.as_str(), proc.cloning), ("0x9fa0", Cloning::No));
        assert!(file_system(Path::new("/nowhere")).is_err());
        let mut numbers: Vec<u64> = KINDS.iter().map(|(number, _, _)| *number).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), KINDS.len());
    }
}
