//! Names of files that exist only during a write, or after one that was interrupted.
//!
//! Source: ColumnStore `writeengine/shared/we_chunkmanager.cpp`, `we_rbmetawriter.cpp`,
//! `we_bulkrollbackmgr.cpp` and `we_ddlcommandproc.cpp`; seen on a running 6.4.12.

/// The extensions of files beside a segment file, and what each is.
const BESIDE_A_SEGMENT_FILE: [(&[u8], &str); 5] = [
    (b"chk", "earlier content of a chunk, kept while a statement writes it"),
    (b"hdr", "earlier header of a segment file, kept while a statement writes it"),
    (b"rlc", "a segment file being rewritten"),
    (b"orig", "a segment file displaced by its rewritten form"),
    (b"tmp", "a segment file being rolled back"),
];

/// Returns what the file is if its name is one that only an interrupted write leaves.
///
/// `relative` is the path below the component's base. Always `None` for components other than
/// `dbroot/N`. The directory `bulkRollback` itself is normal, what is in it is not.
pub fn is_interrupted_write(component: &str, relative: &[u8]) -> Option<&'static str> {
    component.strip_prefix("dbroot/")?;
    let mut names = relative.rsplit(|&byte| byte == b'/');
    let name = names.next()?;
    let parent = names.next().unwrap_or_default();

    let below_root = relative.strip_prefix(b"systemFiles/").unwrap_or(relative);
    if below_root.strip_prefix(b"bulkRollback/").is_some_and(|rest| !rest.is_empty()) {
        return Some("undo information of a bulk load that was not finished");
    }
    if parent == b"dbrm" && name.starts_with(b"DMLLog_") {
        return Some("log of a statement that was not finished");
    }
    if parent == b"dbrm" && name.starts_with(b"DDL_") && contains(name, b"_Log_") {
        return Some("log of a table definition change that was not finished");
    }
    beside_a_segment_file(name)
}

fn beside_a_segment_file(name: &[u8]) -> Option<&'static str> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let (segment_file, extension) = (&name[..dot], &name[dot + 1..]);
    if !segment_file.starts_with(b"FILE") || !segment_file.ends_with(b".cdf") {
        return None;
    }
    let known = BESIDE_A_SEGMENT_FILE.iter().find(|(known, _)| *known == extension)?;
    Some(known.1)
}

fn contains(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interrupted_writes_are_known() {
        for path in [
            "000.dir/000.dir/011.dir/185.dir/000.dir/FILE000.cdf.chk",
            "000.dir/000.dir/011.dir/185.dir/000.dir/FILE000.cdf.hdr",
            "000.dir/000.dir/011.dir/185.dir/000.dir/FILE001.cdf.rlc",
            "000.dir/000.dir/011.dir/185.dir/000.dir/FILE001.cdf.orig",
            "000.dir/000.dir/011.dir/185.dir/000.dir/FILE001.cdf.tmp",
            "systemFiles/dbrm/DMLLog_1234_1",
            "systemFiles/dbrm/DDL_DROPTABLE_Log_3000",
            "bulkRollback/3000",
            "bulkRollback/3000_data/3001.p0.s0",
            "systemFiles/bulkRollback/3000",
        ] {
            assert!(is_interrupted_write("dbroot/2", path.as_bytes()).is_some(), "{path}");
        }
    }

    #[test]
    fn normal_names_are_not_taken_for_an_interrupted_write() {
        for path in [
            "",
            "000.dir/000.dir/011.dir/185.dir/000.dir/FILE000.cdf",
            "000.dir/FILE000.cdf.old",
            "notes.orig",
            "FILE000.orig",
            "versionbuffer.cdf.orig",
            "bulkRollback",
            "bulkRollback/",
            "systemFiles/dbrm/BRM_saves_em",
            "systemFiles/dbrm/SMTxnID",
            "DMLLog_1_1",
            "versionbuffer.cdf",
        ] {
            assert_eq!(is_interrupted_write("dbroot/1", path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn only_db_roots_hold_interrupted_writes() {
        for component in ["datadir", "config", "storagemanager", "files", "dbroot"] {
            assert_eq!(is_interrupted_write(component, b"bulkRollback/3000"), None, "{component}");
        }
    }
}
