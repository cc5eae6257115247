//! What a system of record other than ColumnStore changes about a deployment's components.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::discover::Deployment;
use super::rooted::Root;
use super::trees::{check_overlap, names_in};
use crate::columnstore::SegmentPath;
use crate::error::{Error, ErrorKind, Result};
use crate::format::names::Table;
use crate::source::{LeaveOut, SourceTree};

/// The component that holds the data files of a system of record.
pub const DATA_FILES: &str = "record";

/// Why user segment files are not in a snapshot whose system of record is not ColumnStore.
pub const LEFT_TO_THE_RECORD: &str =
    "user segment files, whose rows are loaded again from the system of record";

/// The first object id that tables of users have: what is below belongs to the system catalog (1001
/// to 2076) and is always kept, whatever Columnstore.xml says.
/// Source: ColumnStore `oam/etc/Columnstore.xml` and `tools/rebuildEM/rebuildEM.cpp`.
const FIRST_USER_OID: u32 = 3000;

/// The system catalog as tables; it is always kept.
const CATALOG_SCHEMA: &str = "calpontsys";

/// How much of a table definition is read to find its engine; they are a few KiB.
const FRM_BYTES_MAX: u64 = 4 << 20;

/// Adds rules that leave out the segment files of users' tables to every DB Root.
///
/// Segment files lie in `AAA.dir/BBB.dir/CCC.dir/DDD.dir/`, the bytes of the object id from the
/// highest on. Everything else of a DB Root stays: system catalog, BRM files, version buffer.
///
/// Errors: [`ErrorKind::Invalid`] when FirstOID of Columnstore.xml is no number.
pub fn leave_out_user_segments(deployment: &mut Deployment) -> Result<()> {
    let first: u32 = deployment.first_oid.parse().map_err(|error| {
        let problem = format!("a number expected, found {:?}", deployment.first_oid);
        Error::new(ErrorKind::Invalid, "FirstOID in Columnstore.xml", problem).caused_by(error)
    })?;
    let globs = directories_from(first.max(FIRST_USER_OID));
    for tree in &mut deployment.trees {
        if tree.component.starts_with("dbroot/") {
            tree.leave_out.extend(
                globs
                    .iter()
                    .map(|glob| LeaveOut { glob: glob.clone(), reason: LEFT_TO_THE_RECORD.into() }),
            );
        }
    }
    Ok(())
}

/// Adds rules that leave out the segment files of some tables, columns and dictionaries, to every DB
/// Root.
///
/// Errors: [`ErrorKind::Refused`] when an object is one of the system catalog, or of another table of
/// `all` too: nobody can tell whose rows would be left out.
pub fn leave_out_tables(
    deployment: &mut Deployment,
    chosen: &[&Table],
    all: &[Table],
) -> Result<()> {
    let mut oids = BTreeSet::new();
    for table in chosen {
        for oid in table.oids() {
            if oid < FIRST_USER_OID || !oids.insert(oid) {
                return Err(of_no_single_table(oid, table));
            }
        }
    }
    let others = all.iter().filter(|table| !chosen.contains(table));
    for table in others {
        if let Some(oid) = table.oids().find(|oid| oids.contains(oid)) {
            return Err(of_no_single_table(oid, table));
        }
    }
    for tree in &mut deployment.trees {
        if tree.component.starts_with("dbroot/") {
            tree.leave_out.extend(oids.iter().map(|oid| LeaveOut {
                glob: format!("/{}", SegmentPath::directory_of(*oid)),
                reason: LEFT_TO_THE_RECORD.into(),
            }));
        }
    }
    Ok(())
}

fn of_no_single_table(oid: u32, table: &Table) -> Error {
    let problem = format!(
        "objects of one table each expected in the system catalog, found object id {oid}; nobody can \
         tell whose rows would be left out, so none are"
    );
    Error::new(ErrorKind::Refused, format!("table {}", table.full_name()), problem)
}

/// Adds the component `record`: the data files that column data is loaded from.
///
/// Errors: [`ErrorKind::Invalid`] for a path that is not absolute, is the root, overlaps another
/// component, or has no file in it, as the mount point of a disk that is not mounted;
/// [`ErrorKind::NotFound`] for one that is not there.
pub fn take_data_files(deployment: &mut Deployment, paths: &[PathBuf]) -> Result<()> {
    let root = Root::open(&deployment.root)?;
    let mut select = BTreeSet::new();
    for path in paths {
        let inside = root.follow(path)?.inside;
        let below = inside.strip_prefix("/").unwrap_or(&inside).to_owned();
        if !path.is_absolute() || below.as_os_str().is_empty() {
            let problem = "an absolute path other than / expected as data of the record";
            return Err(Error::new(ErrorKind::Invalid, path.display().to_string(), problem));
        }
        let host = root.on_host(&inside);
        if !host.exists() {
            let problem = format!(
                "data files expected there, since record.data names {} of the deployment, found \
                 nothing",
                path.display()
            );
            return Err(Error::new(ErrorKind::NotFound, host.display().to_string(), problem));
        }
        if !holds_a_file(&host)? {
            let problem = "data files that rows can be loaded from expected, found no file in it";
            return Err(Error::new(ErrorKind::Invalid, host.display().to_string(), problem));
        }
        select.insert(below);
    }
    // In order, so that a directory comes before what is below it.
    let mut outermost: Vec<PathBuf> = Vec::new();
    for path in select {
        if !outermost.iter().any(|outer| path.starts_with(outer)) {
            outermost.push(path);
        }
    }
    deployment.trees.push(SourceTree {
        component: DATA_FILES.into(),
        base: deployment.root.clone(),
        recorded: "/".into(),
        select: outermost,
        leave_out: Vec::new(),
    });
    check_overlap(&deployment.trees)
}

/// Whether there is a regular file at a path or anywhere below.
fn holds_a_file(path: &Path) -> Result<bool> {
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let found = fs::symlink_metadata(&path).map_err(|e| Error::io(&path, "examine", e))?;
        if found.is_file() {
            return Ok(true);
        }
        if found.is_dir() {
            pending.extend(names_in(&path)?.into_iter().map(|name| path.join(name)));
        }
    }
    Ok(false)
}

/// Returns the tables of the deployment whose rows ColumnStore keeps, as `schema.table`, sorted:
/// those whose definition in the data directory names its engine.
///
/// Fails with [`ErrorKind::Refused`] when a schema or a definition cannot be looked into: what is
/// not known to have a way back is not left out.
pub fn columnstore_tables(deployment: &Deployment) -> Result<Vec<String>> {
    let Some(datadir) = deployment.trees.iter().find(|tree| tree.component == "datadir") else {
        return Ok(Vec::new());
    };
    let mut tables = Vec::new();
    for schema in names_in(&datadir.base)? {
        let directory = datadir.base.join(&schema);
        if schema == CATALOG_SCHEMA || directory.is_file() {
            continue;
        }
        let kind = fs::symlink_metadata(&directory)
            .map_err(|error| Error::io(&directory, "examine", error))?
            .file_type();
        if kind.is_symlink() {
            return Err(in_doubt(
                &directory,
                "a schema that is a directory expected, found a link",
            ));
        }
        if !kind.is_dir() {
            continue;
        }
        for name in names_in(&directory)? {
            let Some(table) = name.as_bytes().strip_suffix(b".frm") else { continue };
            if is_of_columnstore(&directory.join(&name))? {
                tables.push(format!("{}.{}", decoded(schema.as_bytes()), decoded(table)));
            }
        }
    }
    tables.sort();
    Ok(tables)
}

/// Makes the error for what may be a table of ColumnStore and cannot be looked into.
fn in_doubt(path: &Path, problem: &str) -> Error {
    let problem =
        format!("{problem}; nobody can tell which tables are there, so no rows are left out");
    Error::new(ErrorKind::Refused, path.display().to_string(), problem)
}

/// The engine's name as it stands in a table definition: behind its length.
/// Source: MariaDB `sql/table.cc`, `init_from_binary_frm_image`; seen on a 10.11.18.
const ENGINE: &[u8] = b"\x0b\0Columnstore";

/// Whether a table definition names ColumnStore as the engine.
fn is_of_columnstore(frm: &Path) -> Result<bool> {
    let metadata = fs::symlink_metadata(frm).map_err(|error| Error::io(frm, "examine", error))?;
    if !metadata.is_file() || metadata.len() > FRM_BYTES_MAX {
        let expected =
            format!("a table definition in a file of at most {FRM_BYTES_MAX} bytes expected");
        return Err(in_doubt(frm, &format!("{expected}, found something else")));
    }
    let bytes = fs::read(frm).map_err(|error| Error::io(frm, "read", error))?;
    Ok(bytes.windows(ENGINE.len()).any(|window| window.eq_ignore_ascii_case(ENGINE)))
}

/// Returns the name that a file name of the server stands for: `@` and four hexadecimal digits are
/// a character. Source: MariaDB, Identifier to File Name Mapping.
fn decoded(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out = String::new();
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 5);
        let character = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match character.and_then(char::from_u32) {
            Some(character) => {
                out.push(character);
                rest = &rest[at + 5..];
            }
            None => {
                out.push('@');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

/// Returns globs that match the directories of object ids from `first` on, and no others.
fn directories_from(first: u32) -> Vec<String> {
    let bytes = first.to_be_bytes();
    let mut globs = Vec::new();
    for (level, byte) in bytes.into_iter().enumerate() {
        let above: String = bytes[..level].iter().map(|byte| format!("/{byte:03}.dir")).collect();
        // The last byte may be equal; of the others that is the way to the next level.
        let least = if level == 3 { Some(byte) } else { byte.checked_add(1) };
        let numbers = least.map(numbers_from).unwrap_or_default();
        globs.extend(numbers.into_iter().map(|number| format!("{above}/{number}.dir")));
    }
    globs
}

/// Returns globs of the three-digit numbers from `least` on.
fn numbers_from(least: u8) -> Vec<String> {
    let digits = [least / 100, least / 10 % 10, least % 10];
    let [hundreds, tens, ones] = digits;
    let mut globs = vec![format!("{hundreds}{tens}[{ones}-9]")];
    if tens < 9 {
        globs.push(format!("{hundreds}[{}-9][0-9]", tens + 1));
    }
    if hundreds < 9 {
        globs.push(format!("[{}-9][0-9][0-9]", hundreds + 1));
    }
    globs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::names::Column;
    use crate::pattern::Patterns;

    fn path_of(oid: u32) -> String {
        let [a, b, c, d] = oid.to_be_bytes();
        format!("{a:03}.dir/{b:03}.dir/{c:03}.dir/{d:03}.dir/000.dir/FILE000.cdf")
    }

    #[test]
    fn user_directories_are_matched_from_the_first_id_on_and_nothing_else() {
        for first in [3000, 3001, 3071, 3072, 65_535, 65_536, 1 << 24, (1 << 24) - 1] {
            let globs = directories_from(first);
            let patterns = Patterns::new(globs.iter().map(String::as_str)).unwrap();
            let near = (first - 700)..(first + 700);
            let far = [0, 1, 1001, 2076, 2999, 1 << 16, (1 << 24) + 9, 77_777_777, u32::MAX];
            for oid in near.chain(far) {
                assert_eq!(patterns.covers(path_of(oid).as_bytes()), oid >= first, "{oid}");
            }
            for path in [
                "systemFiles/dbrm/BRM_saves_em",
                "versionbuffer.cdf",
                "bulkRollback/3000",
                "000.dir/000.dir/notes",
                "000.dir",
                "x/012.dir",
                "1000.dir",
            ] {
                assert!(!patterns.covers(path.as_bytes()), "{path}");
            }
        }
    }

    #[test]
    fn tables_that_share_an_object_are_not_left_out() {
        let table = |name: &str, oids: &[(u32, Option<u32>)]| Table {
            schema: "dw".into(),
            name: name.into(),
            oid: 3000,
            columns: oids
                .iter()
                .map(|(oid, dictionary)| Column {
                    oid: *oid,
                    dictionary: *dictionary,
                    name: "c".into(),
                    data_type: 6,
                    length: 4,
                    position: 0,
                    compression: 2,
                })
                .collect(),
        };
        let deployment = || Deployment {
            root: PathBuf::from("/"),
            topology: super::super::Topology::SharedLocal,
            name: String::new(),
            trees: vec![SourceTree {
                component: "dbroot/1".into(),
                base: PathBuf::new(),
                recorded: PathBuf::new(),
                select: Vec::new(),
                leave_out: Vec::new(),
            }],
            left_out: Vec::new(),
            missing_optional: Vec::new(),
            first_oid: String::new(),
            credentials: Vec::new(),
            facts: Default::default(),
            notes: Vec::new(),
        };
        let one = table("one", &[(3001, Some(3009)), (3002, None)]);
        for (other, chosen_too, problem) in [
            (table("two", &[(3005, None)]), true, ""),
            (table("two", &[(3009, None)]), false, "object id 3009"),
            (table("two", &[(3005, Some(3002))]), false, "object id 3002"),
            (table("two", &[(3005, Some(3002))]), true, "object id 3002"),
            (table("two", &[(2999, None)]), true, "object id 2999"),
        ] {
            let all = [one.clone(), other];
            let chosen: Vec<&Table> = if chosen_too { all.iter().collect() } else { vec![&all[0]] };
            let mut found = deployment();
            let result = leave_out_tables(&mut found, &chosen, &all);
            let said = result.as_ref().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(problem) && result.is_err() != problem.is_empty(), "{said}");
            if result.is_ok() {
                let globs = found.trees[0].leave_out.iter().map(|rule| rule.glob.as_str());
                let globs = Patterns::new(globs).unwrap();
                for (oid, is_left_out) in [(3001, true), (3009, true), (3005, true), (3003, false)]
                {
                    assert_eq!(globs.covers(path_of(oid).as_bytes()), is_left_out, "{oid}");
                }
            }
        }
    }

    #[test]
    fn file_names_of_the_server_are_decoded() {
        for (name, expected) in [
            ("lineitem", "lineitem"),
            ("order@002dlines", "order-lines"),
            ("gr@00f6@00dfer", "größer"),
            ("a@zzzz", "a@zzzz"),
            ("@", "@"),
        ] {
            assert_eq!(decoded(name.as_bytes()), expected);
        }
    }
}
