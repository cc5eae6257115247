//! Making an existing tree equal: what is in place stays, what is not in the snapshot goes.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, FileType, fallocate};

use super::ComponentRun;
use crate::chunker::leading_zeros;
use crate::columnstore::{ObjectClass, SegmentPath};
use crate::error::{Error, Result};
use crate::format::manifest::{Entry, compare_paths};
use crate::format::snapshot::Snapshot;
use crate::format::text::{decode_path, encode_path};
use crate::id::{ChunkId, IdKey};
use crate::manifest::ManifestReader;
use crate::pattern::Patterns;
use crate::progress::Event;
use crate::source::SourceTree;
use crate::source::directory::{Met, Walk, WalkOptions};

const BLOCK: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether a file holds a chunk's bytes at an offset.
pub(super) fn holds(
    file: &File,
    offset: u64,
    length: usize,
    key: &IdKey,
    id: ChunkId,
) -> io::Result<bool> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(length.max(buffer.len()), 0);
        file.read_exact_at(&mut buffer[..length], offset)?;
        Ok(key.chunk_id(&buffer[..length]) == id)
    })
}

/// Whether a stretch of a file is zeros.
pub(super) fn is_zero(file: &File, mut offset: u64, mut length: u64) -> io::Result<bool> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(BLOCK.max(buffer.len()), 0);
        while length > 0 {
            let block = &mut buffer[..usize::try_from(length).unwrap_or(BLOCK).min(BLOCK)];
            file.read_exact_at(block, offset)?;
            if leading_zeros(block) < block.len() {
                return Ok(false);
            }
            offset += block.len() as u64;
            length -= block.len() as u64;
        }
        Ok(true)
    })
}

/// Makes a stretch zeros, giving its space back where that works.
pub(super) fn make_zero(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, offset, length).or_else(|_| write_zeros(file, offset, length))
}

/// Writes zeros.
pub(super) fn write_zeros(file: &File, mut offset: u64, mut length: u64) -> io::Result<()> {
    let zeros = vec![0; BLOCK];
    while length > 0 {
        let block = &zeros[..usize::try_from(length).unwrap_or(BLOCK).min(BLOCK)];
        file.write_all_at(block, offset)?;
        offset += block.len() as u64;
        length -= block.len() as u64;
    }
    Ok(())
}

/// Deletes what is in the destination and not in the snapshot; returns how many entries. A dry run
/// deletes nothing and counts; each path is an event in both.
///
/// Only where the snapshot knows all there should be: not in `config`, whose directories belong to
/// the host, only below the paths that were backed up, and nothing that was left out or could not
/// be read when the snapshot was made.
pub(super) fn delete_extras(run: &ComponentRun<'_>, snapshot: &Snapshot) -> Result<u64> {
    let select = &run.options.select;
    if run.component.name == "config" || !select.include.is_empty() || !select.exclude.is_empty() {
        return Ok(0);
    }
    let known = snapshot.left_out.len().to_string();
    if snapshot.facts.get("left_out_total").is_some_and(|total| *total != known) {
        run.observer.event(Event::Warning(
            "the snapshot does not name all paths that were left out of it, so nothing is deleted",
        ));
        return Ok(0);
    }
    let extras = extras(run, snapshot)?;
    let to_delete = if run.options.dry_run { &[][..] } else { &extras[..] };
    for path in to_delete.iter().rev() {
        let full = run.destination.join(OsStr::from_bytes(&path.0));
        let removed = match path.1 {
            true => std::fs::remove_dir(&full),
            false => std::fs::remove_file(&full),
        };
        match removed {
            // It holds something that stays.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => other.map_err(|error| Error::io(&full, "remove", error))?,
        }
    }
    Ok(extras.len() as u64)
}

/// Returns paths the snapshot does not have, and whether each is a directory; a directory comes
/// before what is in it.
fn extras(run: &ComponentRun<'_>, snapshot: &Snapshot) -> Result<Vec<(Vec<u8>, bool)>> {
    let base = decode_path(&run.component.path);
    let stays: Vec<_> = snapshot
        .left_out
        .iter()
        .filter(|left_out| left_out.component == run.component.name)
        .filter_map(|left_out| {
            let path = decode_path(&left_out.path);
            Some(path.strip_prefix(&base).ok()?.as_os_str().as_bytes().to_vec())
        })
        .collect();
    // Rows may have come since: none of them is in any snapshot.
    let leaves_rows_out = run.component.name.starts_with("dbroot/")
        && snapshot.record.as_ref().is_some_and(|record| !record.left_out.is_empty());
    let tree = SourceTree {
        component: run.component.name.clone(),
        base: run.destination.to_path_buf(),
        recorded: run.destination.to_path_buf(),
        select: vec![Path::new("").to_path_buf()],
        leave_out: Vec::new(),
    };
    let options =
        WalkOptions { exclude: Patterns::new([])?, one_file_system: false, forbidden: Vec::new() };
    let mut manifest = ManifestReader::new(run.repository, run.component);
    let mut next = manifest.next_entry()?;
    let mut extras = Vec::new();
    for met in Walk::new(&tree, &options)? {
        run.options.cancel.check()?;
        let found = match met {
            Met::Found(found) => found,
            Met::Failed { error, .. } => return Err(error),
            Met::LeftOut(_) => continue,
        };
        let before = |entry: &Entry| compare_paths(&entry.path, &found.path).is_lt();
        while next.as_ref().is_some_and(before) {
            next = manifest.next_entry()?;
        }
        let kept = next.as_ref().is_some_and(|entry| entry.path == found.path)
            || (leaves_rows_out && is_of_a_user_column(&found.path))
            || stays.iter().any(|stay| is_at_or_below(stay, &found.path))
            || !is_whole(run, snapshot, &found.path);
        if !kept {
            let path = run.destination.join(OsStr::from_bytes(&found.path));
            let path = encode_path(&path);
            run.observer.event(match run.options.dry_run {
                true => Event::WouldDelete(&path),
                false => Event::Delete(&path),
            });
            extras.push((found.path, found.stat.file_type == FileType::Directory));
        }
    }
    Ok(extras)
}

/// Whether a path is a segment file of a table that users made.
fn is_of_a_user_column(path: &[u8]) -> bool {
    SegmentPath::parse(path).is_some_and(|file| ObjectClass::of(file.oid) == ObjectClass::User)
}

fn is_at_or_below(above: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether the snapshot knows everything that should be around a path.
fn is_whole(run: &ComponentRun<'_>, snapshot: &Snapshot, path: &[u8]) -> bool {
    if !run.options.select.takes_path(run.component, path) {
        return false;
    }
    let base = decode_path(&run.component.path);
    let full = base.join(OsStr::from_bytes(path));
    // Only below what was asked for: beside a selected file lies what belongs to others.
    snapshot
        .paths
        .iter()
        .map(|wanted| decode_path(wanted))
        .any(|wanted| wanted.starts_with(&base) && full.starts_with(&wanted))
}
