//! The components that hold data: DB Roots, the server's data directory and what lies beside it,
//! the Storage Manager's directory.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::config_mycnf::OptionFiles;
use super::config_storagemanager::StorageManagerCnf;
use super::rooted::{Root, is_absent, read_optional};
use crate::error::{Error, ErrorKind, Result};
use crate::pattern::escaped;
use crate::source::{LeaveOut, LeftOut, SourceTree};

const DATADIR_DEFAULT: &str = "/var/lib/mysql";
const STORAGEMANAGER_DEFAULT: &str = "/var/lib/columnstore/storagemanager";

const LOST_AND_FOUND: (&str, &str) = ("/lost+found", "belongs to the file system");

/// Files of the data directory that mean nothing to a server that starts anew.
const DATADIR_LEAVE_OUT: [(&str, &str); 7] = [
    ("/ibtmp1", "InnoDB's temporary tablespace, made anew at each start"),
    ("/*.pid", "process number of a running server"),
    ("/*.sock", "socket of a running server"),
    ("/*.sock.lock", "lock beside the socket of a running server"),
    ("/galera.cache", "ring buffer of Galera, made anew at start"),
    ("/gvwstate.dat", "Galera's view of a running cluster"),
    LOST_AND_FOUND,
];

const DBROOT_LEAVE_OUT: [(&str, &str); 2] =
    [("/dbroot*-lock", "lock file of the host that has the DB Root mounted"), LOST_AND_FOUND];

/// Variables that may put a part of the data directory elsewhere, as a directory of its own.
const DIRECTORY_VARIABLES: [&str; 4] = [
    "aria_log_dir_path",
    "innodb_data_home_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
];

/// Variables that name files by the beginning of their names, and may put them elsewhere.
const LOG_VARIABLES: [&str; 2] = ["log_bin", "relay_log"];

/// Makes the component of a DB Root.
///
/// Errors: [`ErrorKind::NotFound`] if the directory is missing; [`ErrorKind::Invalid`] if it is no
/// directory, or is empty as the mount point of a disk that is not mounted.
pub(super) fn dbroot(root: &Root, number: u32, recorded: &Path) -> Result<SourceTree> {
    let host = root.resolve(recorded)?;
    let wanted = format!("DB Root {number}, {} in Columnstore.xml", recorded.display());
    let base = existing_directory(&host, &wanted)?;
    if is_empty(&base)? {
        let problem = format!("expected the files of {wanted}, found an empty directory");
        return Err(Error::new(ErrorKind::Invalid, host.display().to_string(), problem));
    }
    Ok(whole(root, format!("dbroot/{number}"), base, recorded, &DBROOT_LEAVE_OUT))
}

/// Returns where the deployment says the server's data directory is.
pub(super) fn datadir_path(options: &OptionFiles) -> PathBuf {
    let datadir = options.server_path("datadir").unwrap_or_else(|| DATADIR_DEFAULT.into());
    Path::new("/").join(datadir)
}

/// Makes the component of the data directory. Errors: as [`dbroot`], but it may be empty.
pub(super) fn datadir(root: &Root, recorded: &Path) -> Result<SourceTree> {
    let host = root.resolve(recorded)?;
    let wanted = format!("the data directory of the server, {}", recorded.display());
    let base = existing_directory(&host, &wanted)?;
    Ok(whole(root, "datadir".into(), base, recorded, &DATADIR_LEAVE_OUT))
}

/// Makes the components of what the option files put outside the data directory, sorted by name.
///
/// What lies in the data directory or in another of these directories is not taken twice. What is
/// named but not there is noted.
///
/// Errors: [`ErrorKind::Unsupported`] if `innodb_data_file_path` names files in several
/// directories outside the data directory.
pub(super) fn beside_datadir(
    root: &Root,
    options: &OptionFiles,
    datadir: &SourceTree,
    notes: &mut Vec<String>,
) -> Result<Vec<SourceTree>> {
    let mut directories: Vec<(&str, PathBuf, PathBuf)> = Vec::new();
    for variable in DIRECTORY_VARIABLES {
        let Some(value) = options.server_path(variable) else { continue };
        let recorded = datadir.recorded.join(value);
        let host = root.resolve(&recorded)?;
        if host.is_dir() {
            directories.push((variable, recorded, host));
        } else {
            notes.push(format!("{variable} names {}: no such directory", recorded.display()));
        }
    }
    // Shorter paths first, so that a directory comes before those it contains.
    directories.sort_by_key(|(_, _, host)| host.components().count());
    let mut trees = vec![datadir.clone()];
    for (variable, recorded, host) in directories {
        if !trees.iter().any(|tree| covers(tree, &host)) {
            let component = format!("datadir.{variable}");
            trees.push(whole(root, component, host, &recorded, &[LOST_AND_FOUND]));
        }
    }
    trees.extend(system_tablespace_files(root, options, datadir, &trees)?);
    for variable in LOG_VARIABLES {
        let tree = log_files(root, options, variable, datadir, &trees)?;
        trees.extend(tree);
    }
    trees.remove(0);
    trees.sort_by(|one, other| one.component.cmp(&other.component));
    Ok(trees)
}

/// Files of the system tablespace with a path of their own: only if `innodb_data_home_dir` is set
/// to nothing.
fn system_tablespace_files(
    root: &Root,
    options: &OptionFiles,
    datadir: &SourceTree,
    taken: &[SourceTree],
) -> Result<Option<SourceTree>> {
    let variable = "innodb_data_file_path";
    if options.server("innodb_data_home_dir").is_none_or(|home| !home.is_empty()) {
        return Ok(None);
    }
    let value = options.server(variable).unwrap_or_default();
    let mut tree: Option<SourceTree> = None;
    for part in value.split(|&byte| byte == b';') {
        let path = part.split(|&byte| byte == b':').next().unwrap_or_default().trim_ascii();
        let recorded = datadir.recorded.join(OsStr::from_bytes(path));
        let host = root.resolve(&recorded)?;
        let (Some(directory), Some(name)) = (host.parent(), host.file_name()) else { continue };
        if !host.is_file() || taken.iter().any(|tree| covers(tree, &host)) {
            continue;
        }
        let directory_recorded = recorded.parent().unwrap_or(Path::new("/"));
        let tree = tree.get_or_insert_with(|| {
            let component = format!("datadir.{variable}");
            let tree = whole(root, component, directory.into(), directory_recorded, &[]);
            SourceTree { select: Vec::new(), ..tree }
        });
        if tree.base != directory {
            let problem = format!(
                "expected its files outside the data directory in one directory, found {} and {}",
                tree.recorded.display(),
                directory_recorded.display()
            );
            return Err(Error::new(ErrorKind::Unsupported, variable, problem));
        }
        tree.select.push(name.into());
    }
    Ok(tree)
}

/// The log files that `variable` puts outside the data directory, as they are now.
///
/// Only the files of that name: the directory often is one that others write to as well.
fn log_files(
    root: &Root,
    options: &OptionFiles,
    variable: &str,
    datadir: &SourceTree,
    taken: &[SourceTree],
) -> Result<Option<SourceTree>> {
    let Some(value) = options.server_path(variable) else { return Ok(None) };
    let path = datadir.recorded.join(value);
    let (Some(recorded), Some(stem)) = (path.parent(), path.file_stem()) else { return Ok(None) };
    let base = root.resolve(recorded)?;
    if !base.is_dir() || taken.iter().any(|tree| covers(tree, &base)) {
        return Ok(None);
    }
    let beginning = [stem.as_bytes(), b"."].concat();
    let mut select: Vec<PathBuf> = names_in(&base)?.into_iter().map(PathBuf::from).collect();
    select.retain(|name| {
        name.as_os_str().as_bytes().starts_with(&beginning)
            && !taken.iter().any(|tree| covers(tree, &base.join(name)))
    });
    let component = format!("datadir.{variable}");
    let tree = SourceTree { select, ..whole(root, component, base, recorded, &[]) };
    Ok(Some(tree).filter(|tree| !tree.select.is_empty()))
}

/// Makes the component of the Storage Manager's directory.
///
/// `None`, with a note, if there is no such directory or if it holds one of the `others`: then it
/// is not the Storage Manager's own.
pub(super) fn storagemanager(
    root: &Root,
    cnf: Option<&StorageManagerCnf>,
    fake_cloud_in_use: bool,
    others: &[SourceTree],
    notes: &mut Vec<String>,
) -> Result<Option<SourceTree>> {
    let parent_of = |path: Option<&PathBuf>| Some(path?.parent()?.to_owned());
    let metadata_in = parent_of(cnf.and_then(|cnf| cnf.metadata_path.as_ref()));
    let journal_in = parent_of(cnf.and_then(|cnf| cnf.journal_path.as_ref()));
    let configured = metadata_in.filter(|parent| Some(parent) == journal_in.as_ref());
    let recorded = configured.unwrap_or_else(|| STORAGEMANAGER_DEFAULT.into());
    let base = root.resolve(&recorded)?;
    if !base.is_dir() || others.iter().any(|tree| tree.base.starts_with(&base)) {
        let problem = if base.is_dir() { "holds other data" } else { "is not there" };
        let directory = recorded.display();
        notes.push(format!("the Storage Manager's directory {directory} {problem}: not taken"));
        return Ok(None);
    }
    let mut leave_out = vec![LeaveOut {
        glob: "/storagemanager-lock".into(),
        reason: "lock file of this host".into(),
    }];
    let mut contents_of = |path: Option<&Path>, default: &str, reason: &str| -> Result<()> {
        let default = recorded.join(default);
        let host = root.resolve(path.unwrap_or(&default))?;
        let below = host.strip_prefix(&base).ok().and_then(Path::to_str);
        if let Some(below) = below.filter(|below| !below.is_empty()) {
            let glob = format!("/{}/*", escaped(below));
            leave_out.push(LeaveOut { glob, reason: reason.into() });
        }
        Ok(())
    };
    let cache = cnf.and_then(|cnf| cnf.cache_path.as_deref());
    contents_of(cache, "cache", "cache of objects that are in the bucket")?;
    if !fake_cloud_in_use {
        let fake_cloud = cnf.and_then(|cnf| cnf.fake_cloud_path.as_deref());
        contents_of(fake_cloud, "fake-cloud", "objects of a service that is not in use")?;
    }
    let tree = whole(root, "storagemanager".into(), base, &recorded, &[]);
    Ok(Some(SourceTree { leave_out, ..tree }))
}

/// Finds what a component only points at: symbolic links that lead out of every component, and
/// InnoDB's `.isl` files, which name a tablespace elsewhere.
///
/// Looks at the entries of the component's base and, if `and_below`, of its directories.
pub(super) fn pointed_at(
    root: &Root,
    tree: &SourceTree,
    and_below: bool,
    all: &[SourceTree],
) -> Result<Vec<LeftOut>> {
    let mut found = Vec::new();
    let mut directories = vec![(tree.base.clone(), and_below)];
    while let Some((directory, descend)) = directories.pop() {
        let names = match names_in(&directory) {
            // The server may be at work: a directory that is gone points nowhere.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        for name in names.iter().filter(|name| *name != "lost+found") {
            let host = directory.join(name);
            if descend && host.is_dir() && !host.is_symlink() {
                directories.push((host, false));
                continue;
            }
            let Some(inside) = root.recorded(&host) else { continue };
            let Some(target) = target_of(root, &host, &inside, &tree.recorded)? else { continue };
            if !all.iter().any(|tree| covers(tree, &root.on_host(&target))) {
                let reason = format!("only {}, which leads here, is taken", inside.display());
                found.push(LeftOut { component: tree.component.clone(), path: target, reason });
            }
        }
    }
    found.sort_by(|one, other| (&one.path, &one.reason).cmp(&(&other.path, &other.reason)));
    Ok(found)
}

/// Where a symbolic link or an `.isl` file leads, inside the root; `None` for anything else.
fn target_of(root: &Root, host: &Path, inside: &Path, datadir: &Path) -> Result<Option<PathBuf>> {
    if host.is_symlink() {
        return Ok(Some(root.follow(inside)?.inside));
    }
    if !host.as_os_str().as_bytes().ends_with(b".isl") {
        return Ok(None);
    }
    let Some(content) = read_optional(host)? else { return Ok(None) };
    let named = OsString::from_vec(content.trim_ascii().to_vec());
    Ok(Some(root.follow(&datadir.join(named))?.inside))
}

/// Checks that no file is in two components, apart from what `config` takes on purpose.
///
/// Errors: [`ErrorKind::Invalid`], naming both components and directories.
pub(super) fn check_overlap(trees: &[SourceTree]) -> Result<()> {
    for (index, one) in trees.iter().enumerate() {
        for other in &trees[index + 1..] {
            let overlaps = taken_paths(other).any(|path| covers(one, &path))
                || (one.component != "config" && taken_paths(one).any(|path| covers(other, &path)));
            if overlaps {
                let problem = format!(
                    "expected directories apart, found {} at {} and {} at {}",
                    one.component,
                    one.recorded.display(),
                    other.component,
                    other.recorded.display()
                );
                return Err(Error::new(
                    ErrorKind::Invalid,
                    other.base.display().to_string(),
                    problem,
                ));
            }
        }
    }
    Ok(())
}

/// Whether the component takes what is at a path of this host.
pub(super) fn covers(tree: &SourceTree, host: &Path) -> bool {
    taken_paths(tree).any(|path| host.starts_with(path))
}

fn taken_paths(tree: &SourceTree) -> impl Iterator<Item = PathBuf> + '_ {
    tree.select.iter().map(|selected| tree.base.join(selected))
}

/// The names in a directory, sorted.
pub(super) fn names_in(directory: &Path) -> Result<Vec<OsString>> {
    let refused = |error| Error::io(directory, "list", error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(refused)? {
        names.push(entry.map_err(refused)?.file_name());
    }
    names.sort();
    Ok(names)
}

fn whole(
    root: &Root,
    component: String,
    base: PathBuf,
    recorded: &Path,
    leave_out: &[(&str, &str)],
) -> SourceTree {
    let rule =
        |(glob, reason): &(&str, &str)| LeaveOut { glob: (*glob).into(), reason: (*reason).into() };
    SourceTree {
        component,
        recorded: recorded_plainly(root, &base, recorded),
        base,
        select: vec![PathBuf::new()],
        leave_out: leave_out.iter().map(rule).collect(),
    }
}

/// The path without a slash at the end and without `.` on the way, as paths are compared and
/// shown. With a `..` in it, only following it tells what it means.
fn recorded_plainly(root: &Root, base: &Path, recorded: &Path) -> PathBuf {
    let goes_up = recorded.components().any(|step| step == Component::ParentDir);
    let followed = root.recorded(base).filter(|_| goes_up);
    followed.unwrap_or_else(|| recorded.components().collect())
}

fn existing_directory(host: &Path, wanted: &str) -> Result<PathBuf> {
    match fs::metadata(host) {
        Ok(metadata) if metadata.is_dir() => Ok(host.to_owned()),
        Ok(_) => {
            let problem = format!("expected {wanted}, found a file");
            Err(Error::new(ErrorKind::Invalid, host.display().to_string(), problem))
        }
        Err(error) if is_absent(&error) => {
            let problem = format!("expected {wanted}, found nothing");
            Err(Error::new(ErrorKind::NotFound, host.display().to_string(), problem))
        }
        Err(error) => Err(Error::io(host, "look at", error)),
    }
}

/// Whether there is nothing in the directory but what a new file system has.
fn is_empty(directory: &Path) -> Result<bool> {
    Ok(names_in(directory)?.iter().all(|name| name == "lost+found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_that_share_files_overlap() {
        let root = Root::open(Path::new("/")).unwrap();
        let tree = |component: &str, base: &str, select: &[&str]| SourceTree {
            select: select.iter().map(PathBuf::from).collect(),
            ..whole(&root, component.into(), base.into(), Path::new(base), &[])
        };
        let datadir = tree("datadir", "/var/lib/mysql", &[""]);
        for (other, overlaps) in [
            (tree("dbroot/1", "/var/lib/mysql/data1", &[""]), true),
            (tree("dbroot/1", "/var/lib/mysql", &[""]), true),
            (tree("dbroot/1", "/var/lib", &[""]), true),
            (tree("dbroot/1", "/var/lib/mysql2", &[""]), false),
            (tree("datadir.log_bin", "/var/lib", &["bin.1"]), false),
            (tree("datadir.log_bin", "/var/lib", &["mysql"]), true),
        ] {
            for pair in [[datadir.clone(), other.clone()], [other.clone(), datadir.clone()]] {
                let result = check_overlap(&pair);
                assert_eq!(result.is_err(), overlaps, "{pair:?}");
                let Err(error) = result else { continue };
                assert_eq!(error.kind(), ErrorKind::Invalid);
                for name in [&pair[0].component, &pair[1].component] {
                    assert!(error.to_string().contains(name.as_str()), "{error}");
                }
            }
        }
    }
}
