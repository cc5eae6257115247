//! What a backup decides about a path before it reads anything. A plan decides by the same code.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component as PathPart, Path, PathBuf};

use super::{BackupOptions, Group, content, parent, recorded};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, FindingKind};
use crate::format::manifest::{Entry, Node};
use crate::format::text::encode_path;
use crate::repository::Repository;
use crate::source::columnstore::DATA_FILES;
use crate::source::directory::Found;
use crate::source::file::Stat;
use crate::source::{LeftOut, SourceTree};

/// Tells changed files from unchanged ones.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub repository: &'a Repository,
    pub options: &'a BackupOptions,
    /// Packs are missing, or cannot be read: what a parent says is stored is looked up.
    pub doubtful: bool,
}

impl Judge<'_> {
    /// Whether a file is the one that the parent's entry describes, and its content is stored.
    pub fn is_unchanged(&self, stat: &Stat, previous: &Entry) -> Result<bool> {
        let Node::File { size, extents } = &previous.node else { return Ok(false) };
        let options = self.options;
        let same = *size == stat.size
            && previous.mtime == stat.mtime
            && (options.ignore_ctime || previous.identity.ctime == stat.identity.ctime)
            && (options.ignore_inode || previous.identity.inode == stat.identity.inode);
        let lost = previous.findings.iter().any(|finding| finding.code == content::UNREADABLE);
        if !same || previous.racy || lost {
            return Ok(false);
        }
        match self.doubtful {
            true => parent::is_stored(self.repository, extents),
            false => Ok(parent::may_be_stored(self.repository, extents)),
        }
    }
}

/// Whether the parent had a file there, so that another one now is a change.
pub(crate) fn was_a_file(previous: Option<&Entry>) -> bool {
    previous.is_some_and(|entry| matches!(entry.node, Node::File { .. } | Node::Unreadable { .. }))
}

/// Returns what a path that the walk could not examine is found as, and what is left out with it.
///
/// Fails when there can be no backup: a component without its base, or one that holds what must
/// not be backed up into itself.
pub(crate) fn walk_failure(
    tree: &SourceTree,
    path: &[u8],
    error: &Error,
) -> Result<(Finding, Option<LeftOut>)> {
    let (kind, detail) = match error.kind() {
        ErrorKind::Refused => return Err(error.repeat()),
        ErrorKind::NotFound => (FindingKind::Vanished, "gone before it could be examined".into()),
        _ => (FindingKind::Unreadable, error.repeat().problem().to_owned()),
    };
    if path.is_empty() {
        // Without its base there is no component: that is not a backup of it.
        return Err(error.repeat());
    }
    // It is there, and what is below it too: a restore must not delete it as unknown.
    let left_out = (kind == FindingKind::Unreadable).then(|| LeftOut {
        component: tree.component.clone(),
        path: tree.recorded.join(OsStr::from_bytes(path)),
        reason: "could not be read".to_owned(),
    });
    Ok((Finding::new(kind, recorded(tree, path), detail), left_out))
}

/// Returns where a link in a deployment's data leads, when that is not part of the backup.
pub(crate) fn link_leaving(
    options: &BackupOptions,
    tree: &SourceTree,
    found: &Found,
    target: &[u8],
) -> Option<String> {
    let holds_data = tree.component.starts_with("dbroot/")
        || tree.component.starts_with("datadir")
        || ["storagemanager", DATA_FILES].contains(&tree.component.as_str());
    if !holds_data || matches!(options.group, Group::Paths) {
        return None;
    }
    let target = Path::new(OsStr::from_bytes(target));
    let from = found.place.host_path.parent().unwrap_or(Path::new("/"));
    let resolved = lexical(&from.join(target));
    let inside = options.trees.iter().any(|tree| {
        tree.select.iter().any(|selected| resolved.starts_with(tree.base.join(selected)))
    });
    (!inside).then(|| encode_path(&resolved))
}

/// Resolves `.` and `..` in an absolute path by its text alone.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            PathPart::ParentDir => {
                out.pop();
            }
            PathPart::CurDir => {}
            other => out.push(other),
        }
    }
    out
}
