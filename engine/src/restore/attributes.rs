//! Owners, modes, times and extended attributes of what was restored.
//!
//! The order matters: a change of owner clears set-id bits and capabilities, an ACL carries part of
//! the mode, and everything touches times. So: owner, attributes, mode, times.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens, lsetxattr, statat,
    utimensat,
};
use rustix::io::Errno;

use crate::finding::{Finding, FindingKind};
use crate::format::manifest::{Entry, Node};
use crate::format::text::encode;

/// Ids by name on this host, asked for once each.
pub(super) struct Owners {
    numeric: bool,
    /// Users and groups looked up so far: `None` where the host does not know the name.
    users: Mutex<HashMap<Vec<u8>, Option<u32>>>,
    groups: Mutex<HashMap<Vec<u8>, Option<u32>>>,
}

impl Owners {
    pub fn new(numeric: bool) -> Self {
        Owners { numeric, users: Mutex::default(), groups: Mutex::default() }
    }

    /// Returns the ids an entry gets here, and a finding for a name met for the first time that
    /// this host does not know.
    fn of(&self, entry: &Entry, findings: &mut Vec<Finding>) -> (u32, u32) {
        if self.numeric {
            return (entry.uid, entry.gid);
        }
        let user =
            |name: &[u8]| uzers::get_user_by_name(OsStr::from_bytes(name)).map(|user| user.uid());
        let group = |name: &[u8]| {
            uzers::get_group_by_name(OsStr::from_bytes(name)).map(|group| group.gid())
        };
        (
            look_up(&self.users, &entry.user, entry.uid, "user", user, findings),
            look_up(&self.groups, &entry.group, entry.gid, "group", group, findings),
        )
    }
}

fn look_up(
    known: &Mutex<HashMap<Vec<u8>, Option<u32>>>,
    name: &[u8],
    numeric: u32,
    what: &str,
    ask: impl Fn(&[u8]) -> Option<u32>,
    findings: &mut Vec<Finding>,
) -> u32 {
    if name.is_empty() {
        return numeric;
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = known.get(name) {
        return id.unwrap_or(numeric);
    }
    let id = ask(name);
    known.insert(name.to_vec(), id);
    if id.is_none() {
        findings.push(Finding::new(
            FindingKind::UnknownOwner,
            format!("{what} {}", encode(name)),
            format!("this host does not know the name; the numeric id {numeric} is used"),
        ));
    }
    id.unwrap_or(numeric)
}

struct Refusals<'a> {
    object: &'a str,
    findings: Vec<Finding>,
}

impl Refusals<'_> {
    fn note(&mut self, what: &str, result: Result<(), Errno>) {
        if let Err(error) = result {
            let error = std::io::Error::from(error);
            self.findings.push(Finding::new(
                FindingKind::AttributeRefused,
                self.object,
                format!("{what} refused: {error}"),
            ));
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time =
        Timespec { tv_sec: entry.mtime.seconds, tv_nsec: i64::from(entry.mtime.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// Sets everything on an open file or directory; returns what was refused.
pub(super) fn set_on_file(
    file: impl AsFd,
    entry: &Entry,
    owners: &Owners,
    object: &str,
) -> Vec<Finding> {
    let file = file.as_fd();
    let mut findings = Vec::new();
    let (uid, gid) = owners.of(entry, &mut findings);
    let mut refusals = Refusals { object, findings };
    let same_owner = fstat(file).is_ok_and(|now| (now.st_uid, now.st_gid) == (uid, gid));
    if !same_owner {
        let changed = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        refusals.note(&format!("owner {uid}:{gid}"), changed);
    }
    for name in extra_attributes(file, entry) {
        let shown = format!("removal of attribute {}", encode(&name));
        refusals.note(&shown, fremovexattr(file, &name[..]));
    }
    for (name, value) in &entry.xattrs {
        let shown = format!("attribute {}", encode(name));
        let mut there = vec![0; value.len() + 1];
        let same = fgetxattr(file, &name[..], &mut there[..])
            .is_ok_and(|length| there[..length] == value[..]);
        if !same {
            refusals.note(&shown, fsetxattr(file, &name[..], value, XattrFlags::empty()));
        }
    }
    refusals.note(&format!("mode {:o}", entry.mode), fchmod(file, Mode::from_raw_mode(entry.mode)));
    refusals.note("times", futimens(file, &times(entry)));
    refusals.findings
}

/// Returns attributes that an open file has and should not: left from before, or inherited from
/// the access list of the directory it was made in. Labels of the host's own security are its own.
fn extra_attributes(file: impl AsFd, entry: &Entry) -> Vec<Vec<u8>> {
    let file = file.as_fd();
    // Most files have none or few: one call tells.
    let mut names = vec![0; 1024];
    let length = match flistxattr(file, &mut names[..]) {
        Err(Errno::RANGE) => {
            names.resize(1 << 16, 0);
            flistxattr(file, &mut names[..]).unwrap_or(0)
        }
        other => other.unwrap_or(0),
    };
    let ours = |name: &[u8]| {
        name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl_")
            || name == b"security.capability"
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| ours(name) && !entry.xattrs.iter().any(|(wanted, _)| wanted == name))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Sets everything on a link, pipe or device by its path; returns what was refused.
pub(super) fn set_on_path(
    path: &Path,
    entry: &Entry,
    owners: &Owners,
    object: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (uid, gid) = owners.of(entry, &mut findings);
    let mut refusals = Refusals { object, findings };
    let same_owner = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|now| (now.st_uid, now.st_gid) == (uid, gid));
    if !same_owner {
        let (user, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let changed = chownat(CWD, path, user, group, AtFlags::SYMLINK_NOFOLLOW);
        refusals.note(&format!("owner {uid}:{gid}"), changed);
    }
    for (name, value) in &entry.xattrs {
        let shown = format!("attribute {}", encode(name));
        refusals.note(&shown, lsetxattr(path, &name[..], value, XattrFlags::empty()));
    }
    // A link has no mode of its own.
    if !matches!(entry.node, Node::Symlink { .. }) {
        let changed = chmodat(CWD, path, Mode::from_raw_mode(entry.mode), AtFlags::empty());
        refusals.note(&format!("mode {:o}", entry.mode), changed);
    }
    let set = utimensat(CWD, path, &times(entry), AtFlags::SYMLINK_NOFOLLOW);
    refusals.note("times", set);
    refusals.findings
}
