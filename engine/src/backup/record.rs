//! The system of record: which column data is left out because it can be loaded again, and whether
//! somebody said yes to that.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::{BackupOptions, same_source};
use crate::columnstore::SegmentPath;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::to_json;
use crate::format::snapshot::{RecordLeftOut, SystemOfRecord};
use crate::format::text::encode_path;
use crate::id::hash_stored;
use crate::pattern::Patterns;
use crate::progress::{Event, Observer};
use crate::snapshot::Listing;
use crate::source::SourceTree;
use crate::source::columnstore::{DATA_FILES, LEFT_TO_THE_RECORD};
use crate::source::directory::{Met, Walk, WalkOptions};

/// How many left-out directories an error names; the rest is counted.
const NAMED_MAX: usize = 5;

/// The system of record, and whether what follows from it is confirmed.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The settings; fingerprint and what is left out are filled in by the backup.
    pub record: SystemOfRecord,
    /// The tables of the object ids that are left out, where tables were chosen by name.
    pub table_of: BTreeMap<u32, String>,
    /// Whether leaving out was confirmed for this run.
    pub apply: bool,
}

/// Returns the system of record as the snapshot will say it. `snapshots` are those of the repository.
///
/// Fails with `Refused` when data would be left out and neither this run nor the last snapshot of
/// the deployment from this host confirms these very settings.
pub(super) fn settled(
    snapshots: &Listing,
    options: &BackupOptions,
    observer: &dyn Observer,
) -> Result<Option<SystemOfRecord>> {
    let Some(asked) = &options.record else { return Ok(None) };
    let record = left_out_of(options, asked)?;
    if record.left_out.is_empty() && !asked.apply {
        return Ok(Some(record));
    }
    match (needs_confirmation(options, &record, snapshots), asked.apply) {
        (true, false) => return Err(not_confirmed(options, &record)),
        (false, true) => observer.event(Event::Warning(
            "--apply-record was not needed: in a command that is run every night it would say yes \
             to whatever the settings become",
        )),
        _ => {}
    }
    Ok(Some(record))
}

/// Whether these settings leave something out that the last snapshot of this deployment, made on
/// this host, did not leave out by the same settings. Of another host's deployment nobody here can
/// know whether it is the same: many have the same name.
pub(crate) fn needs_confirmation(
    options: &BackupOptions,
    record: &SystemOfRecord,
    snapshots: &Listing,
) -> bool {
    let (kind, group) = options.source();
    let last = same_source(snapshots, kind, &group).find(|n| n.snapshot.host == options.host);
    let confirmed = last.and_then(|named| named.snapshot.record.as_ref());
    !record.left_out.is_empty()
        && !confirmed.is_some_and(|confirmed| {
            confirmed.fingerprint == record.fingerprint && !confirmed.left_out.is_empty()
        })
}

/// Returns the settings with their fingerprint and the directories left out because of them.
/// Cost: one walk of the DB Roots, which reads no file.
pub(crate) fn left_out_of(
    options: &BackupOptions,
    asked: &RecordOptions,
) -> Result<SystemOfRecord> {
    let mut record = asked.record.clone();
    record.left_out.clear();
    for tree in options.trees.iter().filter(|tree| is_left_to_the_record(tree)) {
        for met in Walk::new(tree, &options.walk())? {
            options.cancel.check()?;
            if let Met::LeftOut(left_out) = met
                && left_out.reason == LEFT_TO_THE_RECORD
            {
                let below = left_out.path.strip_prefix(&tree.recorded).unwrap_or(&left_out.path);
                let (files, bytes) = measure(options, tree, below.to_owned())?;
                let oid = SegmentPath::oid_of_directory(below.as_os_str().as_bytes());
                let table = oid.and_then(|oid| asked.table_of.get(&oid)).cloned();
                record.left_out.push(RecordLeftOut {
                    component: left_out.component,
                    path: encode_path(&left_out.path),
                    files,
                    bytes,
                    table: table.unwrap_or_default(),
                });
            }
        }
    }
    if !record.left_out.is_empty() {
        for tree in options.trees.iter().filter(|tree| tree.component == DATA_FILES) {
            refuse_what_lacks(options, tree)?;
        }
    }
    record.fingerprint = fingerprint(options, &record);
    Ok(record)
}

/// Fails with `Refused` when something of the data files would not be in the snapshot: rows that are
/// left out because these files have them would be nowhere.
fn refuse_what_lacks(options: &BackupOptions, tree: &SourceTree) -> Result<()> {
    let selected: Vec<PathBuf> = tree.select.iter().map(|path| tree.base.join(path)).collect();
    let lacks = |path: String, why: &str| {
        let problem = format!(
            "all data files of the system of record expected in the snapshot, since the rows are left \
             out of it; this one would not be: {why}"
        );
        Err(Error::new(ErrorKind::Refused, path, problem))
    };
    for met in Walk::new(tree, &options.walk())? {
        options.cancel.check()?;
        match met {
            Met::LeftOut(left_out) => return lacks(encode_path(&left_out.path), &left_out.reason),
            Met::Failed { error, .. } => return Err(error),
            Met::Found(found) if found.stat.file_type == FileType::Symlink => {
                // Where it leads in the end, by as many links as there are.
                let path = &found.place.host_path;
                let inside = path
                    .canonicalize()
                    .is_ok_and(|real| selected.iter().any(|selected| real.starts_with(selected)));
                if !inside {
                    let why = "it is a symbolic link to a file that record.data does not name";
                    return lacks(encode_path(path), why);
                }
            }
            Met::Found(_) => {}
        }
    }
    Ok(())
}

fn is_left_to_the_record(tree: &SourceTree) -> bool {
    tree.leave_out.iter().any(|rule| rule.reason == LEFT_TO_THE_RECORD)
}

/// Counts regular files at a path and below, and adds up their sizes.
fn measure(options: &BackupOptions, tree: &SourceTree, below: PathBuf) -> Result<(u64, u64)> {
    let alone = SourceTree { select: vec![below.clone()], leave_out: Vec::new(), ..tree.clone() };
    let everything =
        WalkOptions { exclude: Patterns::new([])?, one_file_system: false, forbidden: Vec::new() };
    let (mut files, mut bytes) = (0, 0);
    for met in Walk::new(&alone, &everything)? {
        options.cancel.check()?;
        if let Met::Found(found) = met
            && found.stat.file_type == FileType::RegularFile
            && found.path.starts_with(below.as_os_str().as_bytes())
        {
            files += 1;
            bytes += found.stat.size;
        }
    }
    Ok((files, bytes))
}

/// Returns the hash of everything a confirmation is about: the settings, the deployment, and which
/// rules of which DB Roots leave something out. Not what is there tonight: with patterns of tables
/// the rules are those of the tables that match now, and the patterns and the steps stand for them.
fn fingerprint(options: &BackupOptions, record: &SystemOfRecord) -> String {
    let rules = |tree: &SourceTree| {
        let rules = tree.leave_out.iter().filter(|rule| rule.reason == LEFT_TO_THE_RECORD);
        let rules = rules.filter(|_| record.tables.is_empty());
        rules.map(|rule| rule.glob.clone()).collect::<Vec<_>>()
    };
    let trees: Vec<_> = options
        .trees
        .iter()
        .filter(|tree| is_left_to_the_record(tree))
        .map(|tree| (&tree.component, encode_path(&tree.recorded), rules(tree)))
        .collect();
    let SystemOfRecord { source, database, data, tables, reload, .. } = record;
    let settings = to_json(&(options.source(), source, database, data, reload, trees));
    let patterns = if tables.is_empty() { Vec::new() } else { to_json(tables) };
    hash_stored(&[&settings, &patterns]).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn not_confirmed(options: &BackupOptions, record: &SystemOfRecord) -> Error {
    let (files, bytes) = record.left_out_sums();
    let named = record.left_out.iter().take(NAMED_MAX).map(|left_out| left_out.path.as_str());
    let mut names = named.collect::<Vec<_>>().join(", ");
    if record.left_out.len() > NAMED_MAX {
        names.push_str(&format!(" and {} more", record.left_out.len() - NAMED_MAX));
    }
    let tables: Vec<_> = record.reload.iter().map(|step| step.table.as_str()).collect();
    let (_, group) = options.source();
    Error::new(
        ErrorKind::Refused,
        format!("deployment {group}"),
        format!(
            "the system of record is {}, so {files} user segment files of {bytes} bytes would be \
             left out ({names}), the rows of {}; nobody has confirmed that",
            record.source.name(),
            tables.join(", ")
        ),
    )
}
