//! Walking a source tree in manifest order.
//!
//! A directory comes before what is in it, siblings in the order of their bytes: the order of
//! [`crate::format::manifest::compare_paths`], so that a parent manifest can be read in step.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;

use super::file::{Place, Stat, sorted_names};
use super::{LeftOut, SourceTree};
use crate::error::{Error, ErrorKind, Result};
use crate::pattern::Patterns;

/// Why a path is left out that a pattern of the user matches.
pub const EXCLUDED: &str = "excluded by the user";

/// Something the walk met.
#[derive(Debug)]
pub enum Met {
    /// A path to store.
    Found(Found),
    /// A path a rule left out.
    LeftOut(LeftOut),
    /// A path that could not be examined, or a directory that could not be listed.
    Failed {
        /// Path relative to the base.
        path: Vec<u8>,
        /// Why.
        error: Error,
    },
}

/// A path to store, and what it was when it was met.
#[derive(Debug)]
pub struct Found {
    /// Path relative to the base; empty for the base.
    pub path: Vec<u8>,
    /// Where it is on this host.
    pub place: Place,
    /// What it is.
    pub stat: Stat,
    /// It only leads to what was asked for, and is no part of it.
    pub only_leads: bool,
}

/// What holds for all trees of one backup.
#[derive(Clone, Debug)]
pub struct WalkOptions {
    /// Patterns of paths to leave out, from the user.
    pub exclude: Patterns,
    /// Do not enter directories on another device than the selected path they are under.
    pub one_file_system: bool,
    /// Directories (device and inode) that must not be met: the repository and its cache.
    pub forbidden: Vec<(u64, u64, String)>,
}

/// The directories and selections that lead to the selected paths.
#[derive(Debug, Default)]
struct Selection {
    whole: bool,
    below: BTreeMap<Vec<u8>, Selection>,
}

impl Selection {
    fn of(tree: &SourceTree) -> Self {
        let mut root = Selection::default();
        for path in &tree.select {
            let mut at = &mut root;
            for part in path.components() {
                at = at.below.entry(part.as_os_str().as_bytes().to_vec()).or_default();
            }
            at.whole = true;
        }
        root
    }
}

/// One name to visit, and how.
struct Visit {
    path: Vec<u8>,
    /// The open directory it is in; `None` for the base.
    directory: Option<Arc<OwnedFd>>,
    /// `None`: everything below.
    selection: Option<Selection>,
    /// The device of the selected path, when only that one is wanted.
    device: Option<u64>,
}

/// A walk; an iterator over what it meets.
pub struct Walk<'a> {
    tree: &'a SourceTree,
    options: &'a WalkOptions,
    rules: Patterns,
    /// What is still to be visited, next last.
    pending: Vec<Visit>,
    /// What went wrong with the directory that was met last.
    failed: Option<Met>,
}

impl<'a> Walk<'a> {
    /// Begins at the tree's base.
    pub fn new(tree: &'a SourceTree, options: &'a WalkOptions) -> Result<Self> {
        let rules = Patterns::new(tree.leave_out.iter().map(|rule| rule.glob.as_str()))?;
        let selection = Selection::of(tree);
        let start = Visit {
            path: Vec::new(),
            directory: None,
            selection: (!selection.whole).then_some(selection),
            device: None,
        };
        Ok(Walk { tree, options, rules, pending: vec![start], failed: None })
    }

    fn left_out(&self, path: &[u8], reason: &str) -> Met {
        let recorded = self.tree.recorded.join(OsStr::from_bytes(path));
        let component = self.tree.component.clone();
        Met::LeftOut(LeftOut { component, path: recorded, reason: reason.to_owned() })
    }

    fn place(&self, path: &[u8], directory: Option<Arc<OwnedFd>>) -> Result<Place> {
        let Some(directory) = directory else { return Place::base(&self.tree.base) };
        let relative = Path::new(OsStr::from_bytes(path));
        let name = relative.file_name().unwrap_or_default().to_owned();
        Ok(Place::inside(directory, name, self.tree.base.join(relative)))
    }

    fn visit(&mut self, visit: Visit) -> Met {
        let Visit { path, directory, selection, device } = visit;
        let only_leads = selection.is_some();
        if let Some(rule) = self.rules.first_match(&path) {
            let reason = self.tree.leave_out[rule].reason.clone();
            return self.left_out(&path, &reason);
        }
        if self.options.exclude.first_match(&path).is_some() {
            return self.left_out(&path, EXCLUDED);
        }
        let looked = self.place(&path, directory).and_then(|place| Ok((place.stat()?, place)));
        let (stat, place) = match looked {
            Ok(looked) => looked,
            Err(error) => return Met::Failed { path, error },
        };
        if stat.file_type == FileType::Directory {
            if let Some(met) = self.forbidden(&path, &stat) {
                return met;
            }
            if device.is_some_and(|device| device != stat.device) {
                return self.left_out(&path, "on another file system");
            }
            let device = device.or_else(|| {
                (self.options.one_file_system && selection.is_none()).then_some(stat.device)
            });
            // The directory itself is stored, whether it can be listed or not.
            if let Err(error) = self.enter(&path, &place, selection, device) {
                self.failed = Some(Met::Failed { path: path.clone(), error });
            }
        }
        Met::Found(Found { path, place, stat, only_leads })
    }

    fn forbidden(&self, path: &[u8], stat: &Stat) -> Option<Met> {
        let (_, _, what) =
            self.options.forbidden.iter().find(|(device, inode, _)| {
                (*device, *inode) == (stat.device, stat.identity.inode)
            })?;
        let error = Error::new(
            ErrorKind::Refused,
            self.tree.recorded.join(OsStr::from_bytes(path)).display().to_string(),
            format!("{what} lies inside what is to be backed up"),
        );
        Some(Met::Failed { path: path.to_vec(), error })
    }

    fn enter(
        &mut self,
        path: &[u8],
        place: &Place,
        selection: Option<Selection>,
        device: Option<u64>,
    ) -> Result<()> {
        let join = |name: &[u8]| {
            let mut joined = Vec::with_capacity(path.len() + name.len() + 1);
            joined.extend_from_slice(path);
            if !path.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(name);
            joined
        };
        let directory = place.enter()?;
        if let Some(selection) = selection {
            for (name, below) in selection.below.into_iter().rev() {
                self.pending.push(Visit {
                    path: join(&name),
                    directory: Some(Arc::clone(&directory)),
                    selection: (!below.whole).then_some(below),
                    device: None,
                });
            }
            return Ok(());
        }
        for name in sorted_names(&directory, &place.host_path)?.into_iter().rev() {
            self.pending.push(Visit {
                path: join(name.as_bytes()),
                directory: Some(Arc::clone(&directory)),
                selection: None,
                device,
            });
        }
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Met;

    fn next(&mut self) -> Option<Met> {
        if let Some(failed) = self.failed.take() {
            return Some(failed);
        }
        let visit = self.pending.pop()?;
        Some(self.visit(visit))
    }
}
