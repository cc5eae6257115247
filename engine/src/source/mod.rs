//! What is backed up: trees of files on this host.
//!
//! A [`SourceTree`] becomes one component of a snapshot. [`directory`] walks it in manifest
//! order; [`columnstore`] finds the trees of a ColumnStore deployment from its configuration.
//! Nothing here knows of a repository.

pub mod columnstore;
pub mod directory;
pub mod file;
pub mod file_system;

use std::path::PathBuf;

/// One component to back up: a directory, or some paths below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTree {
    /// The component's name, as `dbroot/1`, `datadir`, `config`, `files`.
    pub component: String,
    /// The directory on this host that entry paths are relative to; an existing directory with
    /// all symbolic links resolved.
    pub base: PathBuf,
    /// The same directory as the deployment names it: without the `--root` prefix.
    pub recorded: PathBuf,
    /// Which paths below `base` to take, each with everything below it; relative, without `.` or
    /// `..`. The empty path means all of `base`. Directories on the way to a selected path become
    /// entries too.
    pub select: Vec<PathBuf>,
    /// What to leave out, and why.
    pub leave_out: Vec<LeaveOut>,
}

/// A rule that leaves something out of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveOut {
    /// A glob on the path relative to the component's base. Without a slash it matches a name at
    /// any depth; with a leading slash it matches from the base on; `*` does not cross a slash,
    /// `**` does. A directory that matches is left out with everything below it, unless the glob
    /// ends in `/*` or `/**`: then the directory itself stays.
    pub glob: String,
    /// Why, for the report and the snapshot.
    pub reason: String,
}

/// Something that was left out, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The component it would have belonged to.
    pub component: String,
    /// Its path as the deployment names it (without `--root`).
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}
