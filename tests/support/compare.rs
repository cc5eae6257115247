//! Reads a tree and compares it with another, without a line of the engine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What is compared of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    /// Size and hash of a file's content.
    pub content: Option<(u64, u64)>,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
    pub device: u64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same inode, for a file with several.
    pub same_as: Option<Vec<u8>>,
    /// Allocated bytes of a file; compared with some slack, see [`blocks_agree`].
    pub allocated: u64,
}

/// Everything below a directory, by relative path; the directory itself is the empty path.
pub type Tree = BTreeMap<Vec<u8>, Facts>;

/// What not to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leave {
    /// Allocated bytes.
    pub blocks: bool,
}

/// Reads a tree.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let relative = path.strip_prefix(root).expect("below the root").as_os_str().as_bytes();
        let facts = facts(&path);
        if facts.kind == "directory" {
            let entries = fs::read_dir(&path).expect("a directory can be listed");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        tree.insert(relative.to_vec(), facts);
    }
    name_links(root, &mut tree);
    tree
}

/// Gives files with several names the first of them.
fn name_links(root: &Path, tree: &mut Tree) {
    let mut first: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for (path, facts) in tree.iter_mut().filter(|(_, facts)| facts.kind == "file") {
        let full = root.join(std::ffi::OsStr::from_bytes(path));
        let metadata = fs::symlink_metadata(full).expect("still there");
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            facts.same_as = Some(first.entry(inode).or_insert_with(|| path.clone()).clone());
        }
    }
}

fn facts(path: &Path) -> Facts {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kind = match metadata.file_type() {
        t if t.is_dir() => "directory",
        t if t.is_file() => "file",
        t if t.is_symlink() => "symlink",
        t if t.is_fifo() => "fifo",
        t if t.is_char_device() => "character device",
        t if t.is_block_device() => "block device",
        _ => "socket",
    };
    Facts {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        content: (kind == "file").then(|| content(path)),
        target: (kind == "symlink")
            .then(|| fs::read_link(path).expect("a link").as_os_str().as_bytes().to_vec()),
        device: if kind.ends_with("device") { metadata.rdev() } else { 0 },
        xattrs: xattrs(path),
        same_as: None,
        allocated: if kind == "file" { metadata.blocks() * 512 } else { 0 },
    }
}

/// Returns the size and a hash of a file's content.
pub fn content(path: &Path) -> (u64, u64) {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = file.read(&mut buffer[filled..]).expect("a file can be read");
            if read == 0 {
                break;
            }
            filled += read;
        }
        hasher.write(&buffer[..filled]);
        size += filled as u64;
        if filled < buffer.len() {
            return (size, hasher.finish());
        }
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("an attribute");
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Whether two files take about the same space: file systems add blocks for their own maps, and
/// holes made by the tests are far longer than this.
pub fn blocks_agree(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= 32 << 10
}

/// Returns every difference as a line; empty when the trees are equal.
pub fn differences(expected: &Tree, found: &Tree, leave: Leave) -> Vec<String> {
    let show = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let mut lines = Vec::new();
    for (path, facts) in expected {
        let Some(other) = found.get(path) else {
            lines.push(format!("{:?} is missing", show(path)));
            continue;
        };
        let without_blocks = |facts: &Facts| Facts { allocated: 0, ..facts.clone() };
        if without_blocks(facts) != without_blocks(other) {
            lines.push(format!("{:?}: {facts:?} expected, found {other:?}", show(path)));
        } else if !leave.blocks && !blocks_agree(facts.allocated, other.allocated) {
            lines.push(format!(
                "{:?}: {} allocated bytes expected, found {}",
                show(path),
                facts.allocated,
                other.allocated
            ));
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(*path));
    lines.extend(extra.map(|path| format!("{:?} is extra", show(path))));
    lines
}

/// Fails with the first differences between a tree as it was and a directory as it is.
pub fn assert_equal(expected: &Tree, directory: &Path, leave: Leave, context: &str) {
    let lines = differences(expected, &read(directory), leave);
    let shown = lines.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(lines.is_empty(), "{context}: {} differences:\n  {shown}", lines.len());
}
